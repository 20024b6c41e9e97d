//! The subcommand `weir-agent probe`.

use std::path::PathBuf;

use super::{Options, Probe, Report};

/// Show what this kernel and its devices can do, and what is used instead of what they cannot
///
/// Everything is tried, with programs that change nothing. Works for any user; what only root may
/// try is then "not permitted".
#[derive(Debug, clap::Args)]
pub struct ProbeCommand {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Device to look at; may be given several times [default: those with a default route]
    #[arg(long = "device", value_name = "IF")]
    devices: Vec<String>,
    /// Attach to the devices to find out about native XDP. Some drivers reset the link for that.
    #[arg(long)]
    attach: bool,
    /// Where bpffs should be mounted
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,
    /// cgroup to attach to [default: where cgroup v2 is mounted]
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

impl ProbeCommand {
    /// What to print.
    pub fn run(self) -> anyhow::Result<String> {
        let Self {
            output,
            devices,
            attach,
            bpffs,
            cgroup,
        } = self;
        let report = Report::new(&Probe::run(&Options {
            bpffs,
            cgroup,
            devices,
            attach,
        }));
        Ok(match output {
            Output::Table => report.table(),
            Output::Json => serde_json::to_string_pretty(&report)? + "\n",
        })
    }
}
