//! Names and labels of objects, as API validation wants them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Findings;
use crate::state::ObjectName;

/// Forms that names must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameForm {
    /// RFC 1123 label: at most 63 of lower-case letters, digits and inner hyphens.
    Label,
    /// Labels joined by dots, at most 253 characters.
    Subdomain,
}

impl NameForm {
    fn admits(self, name: &str) -> bool {
        match self {
            Self::Label => is_dns_label(name),
            Self::Subdomain => name.len() <= 253 && name.split('.').all(is_dns_label),
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Label => {
                "a DNS label (at most 63 lower-case letters, digits and hyphens, no hyphen first or last)"
            }
            Self::Subdomain => {
                "a DNS name (labels of lower-case letters, digits and hyphens, joined by dots)"
            }
        }
    }
}

/// Whether this is an RFC 1123 label.
pub(super) fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The name of an object that lives in a namespace.
pub(super) fn namespaced_name(
    findings: &mut Findings,
    metadata: &ObjectMeta,
    form: NameForm,
) -> Option<ObjectName> {
    let name = checked(findings, "metadata.name", metadata.name.as_deref(), form);
    let namespace = match metadata.namespace.as_deref() {
        None | Some("") => Some("default"),
        given => checked(findings, "metadata.namespace", given, NameForm::Label),
    };
    Some(ObjectName::new(namespace?, name?))
}

/// The name of an object of the whole cluster.
pub(super) fn cluster_name(
    findings: &mut Findings,
    metadata: &ObjectMeta,
    form: NameForm,
) -> Option<String> {
    checked(findings, "metadata.name", metadata.name.as_deref(), form).map(str::to_owned)
}

fn checked<'a>(
    findings: &mut Findings,
    field: &str,
    name: Option<&'a str>,
    form: NameForm,
) -> Option<&'a str> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        findings.error(field, "is missing, and nobody here makes a name up");
        return None;
    };
    if form.admits(name) {
        return Some(name);
    }
    findings.error(field, format!("{name:?} is not {}", form.describe()));
    None
}

/// Bytes of a label's key: a DNS name, a slash and a name.
const LABEL_KEY_BYTES_MAX: usize = 253 + 1 + 63;
/// Bytes of a label's value.
const LABEL_VALUE_BYTES_MAX: usize = 63;

/// The labels that have the form of labels. Others are left out with a warning: they select nothing,
/// and what they hold would go into every flow.
pub(super) fn labels(findings: &mut Findings, metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, value) in metadata.labels.iter().flatten() {
        if let Some(why) = unfit_label(key, value) {
            let shown: String = key.chars().take(60).collect();
            findings.warning(
                format!("metadata.labels[{shown}]"),
                format!("{why}; left out"),
            );
        } else {
            labels.insert(key.clone(), value.clone());
        }
    }
    labels
}

fn unfit_label(key: &str, value: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_key = |byte: u8| plain(byte) || byte == b'/';
    if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX {
        Some("a key has 1 to 317 characters")
    } else if value.len() > LABEL_VALUE_BYTES_MAX {
        Some("a value has at most 63 characters")
    } else if !key.bytes().all(is_key) || !value.bytes().all(plain) {
        Some("labels have letters, digits, '-', '_' and '.'")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_the_api_server_does() {
        let long = "a".repeat(64);
        let cases = [
            ("web", true, true),
            ("web-1", true, true),
            ("1web", true, true),
            ("a.b", false, true),
            ("", false, false),
            ("Web", false, false),
            ("web_1", false, false),
            ("-web", false, false),
            ("web-", false, false),
            ("web..b", false, false),
            ("wéb", false, false),
            ("web/b", false, false),
            (long.as_str(), false, false),
        ];
        for (name, label, subdomain) in cases {
            assert_eq!(NameForm::Label.admits(name), label, "{name:?} as label");
            assert_eq!(
                NameForm::Subdomain.admits(name),
                subdomain,
                "{name:?} as subdomain"
            );
        }
        let longest = ["a"; 127].join(".");
        assert!(NameForm::Subdomain.admits(&longest));
        assert!(!NameForm::Subdomain.admits(&format!("{longest}.a")));
    }

    #[test]
    fn namespace_is_default_when_absent() {
        let metadata = |namespace: Option<&str>| ObjectMeta {
            name: Some("web".to_owned()),
            namespace: namespace.map(str::to_owned),
            ..ObjectMeta::default()
        };
        for (given, expected) in [
            (None, Some("default")),
            (Some("shop"), Some("shop")),
            (Some("a.b"), None),
        ] {
            let mut findings = Findings::default();
            let name = namespaced_name(&mut findings, &metadata(given), NameForm::Label);
            assert_eq!(name.map(|name| name.namespace).as_deref(), expected);
            assert_eq!(findings.is_empty(), expected.is_some());
        }
    }

    #[test]
    fn a_missing_name_is_an_error() {
        let mut findings = Findings::default();
        assert_eq!(
            cluster_name(&mut findings, &ObjectMeta::default(), NameForm::Label),
            None
        );
        assert_eq!(findings.errors(), 1);
    }

    #[test]
    fn labels_without_the_form_of_labels_are_left_out() {
        let long = "x".repeat(64);
        let given = [
            ("app", "web"),
            ("app.kubernetes.io/name", ""),
            ("long", long.as_str()),
            ("name", "naïve"),
            ("ключ", "x"),
            ("", "x"),
        ];
        let labelled = given.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata = ObjectMeta {
            labels: Some(labelled.into()),
            ..ObjectMeta::default()
        };
        let mut findings = Findings::default();
        let kept: Vec<_> = labels(&mut findings, &metadata).into_keys().collect();
        assert_eq!(kept, ["app", "app.kubernetes.io/name"]);
        assert_eq!((findings.len(), findings.errors()), (4, 0));
    }
}
