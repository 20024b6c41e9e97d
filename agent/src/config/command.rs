//! The subcommand `weir-agent config`.

use std::path::PathBuf;

use super::load::{Loader, check_file};
use super::{Config, ConfigError, ConfigFlags, Environment, render};

/// Print or check the configuration
///
/// Without an option: prints what the agent would use here and now, from defaults, file,
/// environment and flags.
#[derive(Debug, clap::Args)]
pub struct ConfigCommand {
    /// Print a file with every key, its documentation and its default
    #[arg(long, exclusive = true)]
    print_default: bool,
    /// Print the reference page, in Markdown
    #[arg(long, exclusive = true)]
    print_reference: bool,
    /// Report every mistake in FILE; the exit code is 0 if there is none, else 1
    #[arg(long, value_name = "FILE", exclusive = true)]
    check: Option<PathBuf>,
    #[command(flatten)]
    flags: ConfigFlags,
}

impl ConfigCommand {
    /// What to print.
    pub fn run(&self, environment: &dyn Environment) -> Result<String, ConfigError> {
        if self.print_default {
            return Ok(render::yaml(&Config::default()));
        }
        if self.print_reference {
            return Ok(render::reference());
        }
        if let Some(path) = &self.check {
            check_file(path, environment)?;
            return Ok(format!("{}: no mistakes\n", path.display()));
        }
        let loaded = Loader::load(&self.flags, environment)?;
        let mut text = String::new();
        for warning in &loaded.warnings {
            text.extend(["# warning: ", warning, "\n"]);
        }
        Ok(text + &render::yaml(&loaded.config))
    }
}
