//! The log on standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::datapath::program_log;

/// Starts writing. A second call changes nothing.
pub fn start(settings: &Log) {
    let level = Level::from(settings.level);
    // What libraries say below `info` is about their own insides.
    let filter = Targets::new()
        .with_default(level.min(Level::INFO))
        .with_target("weir", level)
        .with_target(program_log::TARGET, level);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Text => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}
