//! What the programs say, into the agent's own log (target `ebpf`).
//!
//! Only programs that were built for debugging say anything; see `WEIR_EBPF_LOG` in CONTRIBUTING.
//! The configured level is written into the programs before they are loaded, so that they do not
//! make lines that nobody will see.

use std::io;

use aya::Ebpf;
use aya_log::{EbpfLogger, Level};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use crate::config::LogLevel;

/// Target of the programs' lines.
pub const TARGET: &str = "ebpf";

/// Reads the ring buffer of lines.
pub struct ProgramLog {
    logger: EbpfLogger<Forward>,
}

impl ProgramLog {
    /// Takes over the lines of loaded programs; nothing if these make none.
    pub(super) fn take(programs: &mut Ebpf) -> Option<Self> {
        let logger = EbpfLogger::init_with_logger(programs, Forward).ok()?;
        Some(Self { logger })
    }

    /// Forwards the lines that are there.
    pub fn flush(&mut self) {
        self.logger.flush();
    }

    /// Forwards lines until told to stop.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        // SAFETY: the descriptor is that of the map, which the logger owns and never replaces.
        let logger = unsafe { AsyncFd::register_with_interest(self.logger, Interest::READABLE) };
        let mut logger = logger.map_err(io::Error::from)?;
        loop {
            let mut lines = tokio::select! {
                lines = logger.readable_mut() => lines?,
                () = stop.cancelled() => return Ok(()),
            };
            lines.get_inner_mut().flush();
            lines.clear_ready();
        }
    }
}

/// The level as the programs number it.
pub(super) fn level_number(level: LogLevel) -> u8 {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
    .into()
}

/// From the facade that aya's reader writes to, to the agent's.
struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (text, file, line) = (record.args(), record.file(), record.line());
        match record.level() {
            log::Level::Error => tracing::error!(target: TARGET, file, line, "{text}"),
            log::Level::Warn => tracing::warn!(target: TARGET, file, line, "{text}"),
            log::Level::Info => tracing::info!(target: TARGET, file, line, "{text}"),
            log::Level::Debug => tracing::debug!(target: TARGET, file, line, "{text}"),
            log::Level::Trace => tracing::trace!(target: TARGET, file, line, "{text}"),
        }
    }

    fn flush(&self) {}
}
