//! What is wrong with the input, in words for its author.

use std::fmt;

use super::ObjectName;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object is served, but not all of it: a field is unknown or not honoured.
    Warning,
    /// The object, or a part of it, is not served.
    Error,
}

/// One thing that is wrong with one object. Shown by `weir status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Where it stands: `FILE:LINE` for manifests, empty if no place can be named.
    pub origin: String,
    /// The object, as `Kind namespace/name`; empty if the text could not be read that far.
    pub object: String,
    /// Path of the field, as in `spec.ports[0].port`; empty for the object as a whole.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// An error in a Service, or in what `field` names of it.
    pub fn of_service(
        name: &ObjectName,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            origin: String::new(),
            object: format!("Service {name}"),
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.origin, &self.object, &self.field, &self.message];
        let mut separator = "";
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            write!(f, "{separator}{part}")?;
            separator = ": ";
        }
        Ok(())
    }
}
