//! The log on standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::datapath::program_log;

/// Starts writing. A second call changes nothing.
pub fn start(settings: &Log) {
    let level = Level::from(settings.level);
    let registry = tracing_subscriber::registry().with(filter(level));
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

/// What is written.
fn filter(level: Level) -> Targets {
    // What libraries say below `info` is about their own insides.
    Targets::new()
        .with_default(level.min(Level::INFO))
        .with_target("weir", level)
        .with_target(program_log::TARGET, level)
        // An error for each request that fails, without the reason. The source says once what is
        // wrong, and asks again for as long as the API server is away.
        .with_target("kube_client::client::builder", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_fail_are_not_told_one_by_one() {
        let filter = filter(Level::TRACE);
        assert!(!filter.would_enable("kube_client::client::builder", &Level::ERROR));
        assert!(filter.would_enable("kube_client::config", &Level::ERROR));
        assert!(filter.would_enable("weir_agent::source::kubernetes", &Level::TRACE));
        assert!(!filter.would_enable("hyper", &Level::DEBUG));
    }
}
