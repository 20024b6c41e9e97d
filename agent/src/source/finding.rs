//! What conversion finds wrong with an object.

use crate::state::{Problem, Severity};

/// One thing that is wrong with one field. The source adds object and place to make a `Problem`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Path of the field, as in `spec.ports[0].port`.
    pub field: String,
    /// What is wrong and what to do, or what happens instead.
    pub message: String,
}

/// All findings about one object, in the order of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// The object, or the part of it that the message names, is not served.
    pub fn error(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Error, field.into(), message.into());
    }

    /// The object is served, with a difference that its author should know.
    pub fn warning(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Warning, field.into(), message.into());
    }

    /// A field that means something which the data plane does not do yet. `instead` says what it
    /// does.
    pub fn not_honoured(&mut self, field: impl Into<String>, instead: &str) {
        self.warning(field, format!("not honoured yet: {instead}"));
    }

    fn add(&mut self, severity: Severity, field: String, message: String) {
        self.0.push(Finding {
            severity,
            field,
            message,
        });
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of those that are errors.
    pub fn errors(&self) -> usize {
        self.0
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count()
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A problem, in the order in which it is displayed. Words of the input are made fit for a terminal.
pub(super) fn problem(
    severity: Severity,
    origin: String,
    object: &impl ToString,
    field: &str,
    message: impl Into<String>,
) -> Problem {
    let object = printable(&object.to_string());
    let (field, message) = (printable(field), printable(&message.into()));
    Problem {
        severity,
        origin,
        object,
        field,
        message,
    }
}

/// No control characters, which a terminal would obey, and no end without a middle.
fn printable(text: &str) -> String {
    const MAX_CHARS: usize = 400;
    let mut characters = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut printable: String = characters.by_ref().take(MAX_CHARS).collect();
    if characters.next().is_some() {
        printable.push('…');
    }
    printable
}
