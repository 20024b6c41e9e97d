//! Settings of the agent's log.

use super::section::section;
use super::value::choice;

section! {
    /// What the agent writes to standard error.
    pub struct Log {
        settings {
            /// Least important messages to write.
            "level" level: LogLevel = LogLevel::Info,
            /// `text` for people, `json` (one object per line) for machines.
            "format" format: LogFormat = LogFormat::Text,
        }
    }
}

/// Importance of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What an operator wants to know on an ordinary day.
    Info,
    /// Decisions of the agent.
    Debug,
    /// Every step.
    Trace,
}

choice!(LogLevel {
    Error = "error",
    Warn = "warn",
    Info = "info",
    Debug = "debug",
    Trace = "trace",
});

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

choice!(LogFormat { Text = "text", Json = "json" });
