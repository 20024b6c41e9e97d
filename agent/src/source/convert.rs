//! From Kubernetes objects to the types of `state`: defaults, validation, reduction.
//!
//! Pure, and the same for every source. Defaults are those that the API server fills in, because a
//! manifest has not passed one; validation repeats its rules for what the data plane depends on,
//! for the same reason. Each function returns the object, or `None` if it cannot be served at all,
//! and adds to the findings whatever its author should know.

mod address;
mod endpoint_slice;
mod metadata;
mod node;
mod pod;
mod port;
mod service;

pub use endpoint_slice::endpoint_slice;
pub use node::{namespace, node};
pub use pod::pod;
pub use service::service;

use super::Findings;

/// Runs a conversion that may find several errors before it knows that the object is of no use:
/// `None` if it found any.
fn unless_errors<T>(
    findings: &mut Findings,
    convert: impl FnOnce(&mut Findings) -> Option<T>,
) -> Option<T> {
    let before = findings.errors();
    convert(findings).filter(|_| findings.errors() == before)
}

#[cfg(test)]
mod tests {
    //! Helps the tests of all conversions: objects from YAML, findings as short lines.

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::state::Severity;

    /// Converts the object that `yaml` describes; findings as `E field` or `W field`.
    pub(super) fn run<K: DeserializeOwned, T>(
        convert: impl FnOnce(&K, &mut Findings) -> Option<T>,
        yaml: &str,
    ) -> (Option<T>, Vec<String>) {
        let object = serde_yaml_ng::from_str(yaml).expect("the test's YAML is well-formed");
        let mut findings = Findings::default();
        let converted = convert(&object, &mut findings);
        let lines = findings.into_iter().map(|finding| {
            assert!(!finding.message.is_empty());
            let letter = if finding.severity == Severity::Error {
                'E'
            } else {
                'W'
            };
            format!("{letter} {}", finding.field)
        });
        (converted, lines.collect())
    }
}
