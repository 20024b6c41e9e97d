//! `weir observe`: flows of the past, the future or both.

mod filter_args;
mod filters;
mod request;
mod time;
mod values;

use std::io::Write;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use weir_proto::observer::GetFlowsResponse;
use weir_proto::observer::observer_client::ObserverClient;

use crate::connect::Server;
use crate::failure::Failure;
use crate::json;
use crate::output::{Compact, Dict, Paint, Style, Table};
use filter_args::FilterArgs;
use time::Moment;

/// Which flows to show, and how.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ObserveArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    filters: FilterArgs,
}

const AFTER_HELP: &str = "\
How filters combine:
  A flow must match every kind of filter that is given; values of one kind are alternatives
  (repeat the flag, or separate them by commas). --pod, --ip, --port and other filters without
  direction match either end, all of them the same end: --pod web --port 80 shows flows where
  port 80 is web's. --not turns the filter behind it around.

Reading a line:
  TIME: CLIENT (IDENTITY) -> SERVER (IDENTITY) WHERE VERDICT (SUMMARY)
  The side that opened the connection stands left; `<-` is a packet on its way back to it, and
  `<>` one of which that is not known. WHERE is the point that saw the packet, or why it was
  dropped. Times are UTC.

Examples:
  weir observe                                     the last 20 flows
  weir observe -f -n shop                          new flows of namespace shop
  weir observe --since 5m --verdict DROPPED        drops of the last five minutes
  weir observe --from-pod shop/web --to-port 5432  who of shop/web* talks to a database?
  weir observe --ip 10.0.0.0/8 --not --port 53     all but DNS
  weir observe --encrypted --to-pod shop/db        what comes to shop/db* from other nodes, encrypted?
  weir observe -o json --all | jq .flow.verdict    everything, for programs";

/// Which part of the store to show.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection")]
struct Selection {
    /// The newest N flows (20 if nothing else is selected)
    #[arg(long, value_name = "N", conflicts_with_all = ["first", "all"])]
    last: Option<u64>,

    /// The oldest N flows
    #[arg(long, value_name = "N", conflicts_with_all = ["all", "follow"])]
    first: Option<u64>,

    /// All flows that the agent still has
    #[arg(long)]
    all: bool,

    /// Show new flows as they come, until interrupted
    #[arg(short, long)]
    follow: bool,

    /// Flows not older than this: `5m`, `1h30m`, `2026-01-31T08:00`, `2026-01-31T08:00:00Z`
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,

    /// Flows not younger than this
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

/// How to show flows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct Look {
    /// Form of the output
    #[arg(short, long, value_name = "FORM", default_value = "compact")]
    output: Form,

    /// Show addresses instead of names
    #[arg(long)]
    numeric: bool,

    /// Show which node saw the flow
    #[arg(long)]
    print_node_name: bool,
}

/// Forms of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One line per flow
    Compact,
    /// One protobuf JSON object per line
    #[value(alias = "jsonpb")]
    Json,
    /// A block of lines per flow
    Dict,
    /// A table; not with --follow
    #[value(alias = "table")]
    Tab,
}

/// Runs the command.
pub(crate) async fn run(
    server: &Server,
    args: &ObserveArgs,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    if args.look.output == Form::Tab && args.selection.follow {
        return Err(Failure::Usage(
            "--output tab cannot be combined with --follow: a table is shown when it is complete"
                .into(),
        ));
    }
    let with_mask = args.look.output != Form::Json;
    let request = request::build(&args.selection, &args.filters, with_mask, Timestamp::now())
        .map_err(Failure::Usage)?;
    let mut client = ObserverClient::new(server.connect().await?);
    let mut stream = client.get_flows(request).await?.into_inner();
    let mut writer = Writer::new(&args.look, paint);
    loop {
        let answer = tokio::select! {
            answer = stream.message() => answer?,
            // The end of a stream that has none of its own.
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                None
            }
        };
        let Some(answer) = answer else { break };
        writer.write(&answer, out)?;
        if args.selection.follow {
            out.flush()?;
        }
    }
    writer.finish(out)
}

/// Writes answers in one of the forms.
enum Writer {
    Compact(Compact),
    Json,
    Dict(Dict),
    Table(Table),
}

impl Writer {
    fn new(look: &Look, paint: Paint) -> Self {
        let style = Style {
            paint,
            numeric: look.numeric,
            node_name: look.print_node_name,
        };
        match look.output {
            Form::Compact => Self::Compact(Compact::new(style)),
            Form::Json => Self::Json,
            Form::Dict => Self::Dict(Dict::new(style)),
            Form::Tab => Self::Table(Table::new(style)),
        }
    }

    fn write(&mut self, answer: &GetFlowsResponse, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Compact(compact) => compact.write(answer, out)?,
            Self::Json => json::write_line("observer.GetFlowsResponse", answer, false, out)?,
            Self::Dict(dict) => dict.write(answer, out)?,
            Self::Table(table) => table.add(answer),
        }
        Ok(())
    }

    fn finish(&self, out: &mut dyn Write) -> Result<(), Failure> {
        if let Self::Table(table) = self {
            table.finish(out)?;
        }
        Ok(())
    }
}
