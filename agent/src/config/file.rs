//! Takes a YAML document apart into values by key.

use serde_yaml_ng::Value as Yaml;

use super::catalogue::Catalogue;
use super::section::join;
use super::value::RawValue;
use super::{Origin, Problem};

/// What the settings in `text` are, and all that is wrong with its keys. The values are not looked
/// at yet.
pub(super) fn parse(
    text: &str,
    catalogue: &Catalogue,
    origin: &Origin,
) -> (Vec<(String, RawValue)>, Vec<Problem>) {
    let mut walk = Walk {
        catalogue,
        origin,
        values: vec![],
        problems: vec![],
    };
    match serde_yaml_ng::from_str::<Yaml>(text) {
        Ok(yaml) => walk.section("", &yaml),
        Err(error) => walk.reject(
            "",
            None,
            format!("is not YAML: {error}"),
            "correct the line",
        ),
    }
    (walk.values, walk.problems)
}

/// Takes a YAML document apart into settings.
struct Walk<'a> {
    catalogue: &'a Catalogue,
    origin: &'a Origin,
    values: Vec<(String, RawValue)>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn section(&mut self, path: &str, yaml: &Yaml) {
        match yaml {
            Yaml::Null => {}
            Yaml::Mapping(members) => {
                for (key, value) in members {
                    let key = scalar(key).unwrap_or_else(|| "?".into());
                    self.member(&join(path, &key), value);
                }
            }
            _ if path.is_empty() => {
                self.reject(
                    path,
                    None,
                    "is not a mapping of keys to values".into(),
                    "write `key: value` lines",
                );
            }
            _ => {
                let advice = "write its settings below it, indented";
                self.reject(
                    path,
                    scalar(yaml),
                    "is a section, not a setting".into(),
                    advice,
                );
            }
        }
    }

    fn member(&mut self, path: &str, yaml: &Yaml) {
        if self.catalogue.sections.contains(path) {
            self.section(path, yaml);
        } else if self.catalogue.settings.iter().any(|key| key == path) {
            self.setting(path, yaml);
        } else {
            let advice = match self.catalogue.nearest(path) {
                Some(near) => format!("did you mean {near}?"),
                None => "remove it, or see `weir-agent config --print-default`".into(),
            };
            self.reject(path, None, "is not a setting".into(), &advice);
        }
    }

    fn setting(&mut self, path: &str, yaml: &Yaml) {
        let raw = match yaml {
            Yaml::Null => return, // `key:` without a value leaves the default
            Yaml::Sequence(items) => items
                .iter()
                .map(scalar)
                .collect::<Option<Vec<_>>>()
                .map(RawValue::List),
            _ => scalar(yaml).map(RawValue::Text),
        };
        if let Some(raw) = raw {
            self.values.push((path.to_owned(), raw));
        } else {
            let advice = "write one value, or a list of values";
            self.reject(path, None, "has keys below it".into(), advice);
        }
    }

    fn reject(&mut self, path: &str, value: Option<String>, reason: String, advice: &str) {
        self.problems.push(Problem {
            setting: path.to_owned(),
            value,
            origin: self.origin.clone(),
            reason,
            advice: advice.to_owned(),
        });
    }
}

/// The text of a YAML scalar.
fn scalar(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
