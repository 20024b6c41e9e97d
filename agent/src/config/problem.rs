//! What is wrong with a configuration, told so that it can be put right.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: the built-in default.
    Default,
    /// In this file.
    File(PathBuf),
    /// In the environment variable of this name.
    Environment(String),
    /// In the flag of this name, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(out, "the default"),
            Self::File(path) => write!(out, "file {}", path.display()),
            Self::Environment(name) => write!(out, "variable {name}"),
            Self::Flag(name) => write!(out, "flag {name}"),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key of the setting; empty if the layer as a whole is unreadable.
    pub setting: String,
    /// The value as written, if there is one.
    pub value: Option<String>,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong, to follow the setting's name.
    pub reason: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            value,
            origin,
            reason,
            advice,
        } = self;
        if setting.is_empty() {
            return write!(out, "{origin} {reason}; {advice}");
        }
        match value {
            Some(value) => write!(out, "{setting} = {value} ({origin}) {reason}; {advice}"),
            None => write!(out, "{setting} ({origin}) {reason}; {advice}"),
        }
    }
}

/// A mistake that only shows once all layers are merged.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// Dotted key of the setting to blame.
    pub setting: &'static str,
    /// See [`Problem::reason`].
    pub reason: String,
    /// See [`Problem::advice`].
    pub advice: String,
}

impl Finding {
    /// A finding about one setting.
    pub fn new(
        setting: &'static str,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            setting,
            reason: reason.into(),
            advice: advice.into(),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.problems))]
pub struct ConfigError {
    /// Every mistake, in the order of the layers and then of the settings; never empty.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    let count = problems.len();
    let mut text = match count {
        1 => "the configuration has a mistake:".to_owned(),
        _ => format!("the configuration has {count} mistakes:"),
    };
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}
