//! One flag per setting, made from the declarations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::catalogue::flag;
use super::render::first_sentence;
use super::value::Value;
use super::{Config, Section, Visitor};

const FILE: &str = "config";

/// The flags of a command that needs the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFlags {
    /// `--config`, or the variable `WEIR_CONFIG`.
    pub file: Option<PathBuf>,
    /// Values of the settings given as flags, by dotted key.
    pub values: BTreeMap<String, String>,
}

impl Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .long(FILE)
            .env("WEIR_CONFIG")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("YAML file to read [default: /etc/weir/config.yaml if it exists]");
        let mut flags = Flags {
            command: Some(command.arg(file)),
        };
        Config::default().visit("", &mut flags);
        flags.command.expect("put back after every flag")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>(FILE).cloned();
        for id in matches.ids().filter(|id| *id != FILE) {
            // Ids of groups are here too, and have no text.
            if let Ok(Some(value)) = matches.try_get_one::<String>(id.as_str()) {
                self.values.insert(id.as_str().to_owned(), value.clone());
            }
        }
        Ok(())
    }
}

struct Flags {
    command: Option<Command>,
}

impl Visitor for Flags {
    fn section(&mut self, _path: &str, _doc: &'static str) {}

    fn setting(&mut self, path: &str, doc: &'static str, value: &mut dyn Value) {
        let arg = Arg::new(path.to_owned())
            .long(flag(path))
            .value_name("VALUE")
            .help(format!(
                "{} [default: {}]",
                first_sentence(doc),
                value.yaml()
            ))
            .help_heading("Settings (all in docs/reference/config.md)");
        self.command = self.command.take().map(|command| command.arg(arg));
    }
}
