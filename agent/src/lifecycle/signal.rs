//! What the operator asks for by signal.
//!
//! SIGTERM and SIGINT ask the agent to stop; the second of them asks not to wait. SIGHUP is taken
//! and ignored, so that a closing terminal does not end the agent: manifests are followed by
//! themselves, and the configuration is read at start.

use std::{fmt, io};

use futures::Stream;
use tokio::signal::unix::{Signal as Arrivals, SignalKind, signal};

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// From whoever supervises the agent.
    Terminate,
    /// From the keyboard.
    Interrupt,
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Receives the signals of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: Arrivals,
    interrupt: Arrivals,
    hang_up: Arrivals,
}

impl Signals {
    /// Takes the signals over from the system's default, which is to end the process.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// All requests to stop, as they come.
    pub fn requests(self) -> impl Stream<Item = Signal> + Unpin {
        Box::pin(futures::stream::unfold(self, async |mut signals| {
            Some((signals.stop().await, signals))
        }))
    }

    /// The next request to stop.
    pub async fn stop(&mut self) -> Signal {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => return Signal::Terminate,
                Some(()) = self.interrupt.recv() => return Signal::Interrupt,
                Some(()) = self.hang_up.recv() => {
                    tracing::info!("SIGHUP ignored; restart the agent to read its configuration");
                }
            }
        }
    }
}
