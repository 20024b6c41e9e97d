//! The line on which a field stands.
//!
//! The tree of a document has no places, and most documents need none. For the few fields that a
//! problem names, the text is read again up to the field, where an error is raised on purpose: the
//! parser adds the place to it.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::tree::{Key, Syntax, deserialize};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Splits a path such as `spec.ports[0].port`. Keys with dots in them (labels) stay whole when they
/// come last, which is where they come.
fn steps(path: &str) -> Vec<Step> {
    const LAST: [&str; 2] = ["metadata.labels.", "metadata.annotations."];
    if let Some(prefix) = LAST.into_iter().find(|prefix| path.starts_with(prefix)) {
        let (parents, key) = (prefix.trim_end_matches('.'), &path[prefix.len()..]);
        return steps(parents)
            .into_iter()
            .chain([Step::Key(key.to_owned())])
            .collect();
    }
    path.split('.')
        .filter(|part| !part.is_empty())
        .flat_map(|part| {
            let (key, indexes) = part.split_once('[').unwrap_or((part, ""));
            let indexes = indexes
                .split(['[', ']'])
                .filter_map(|index| index.parse().ok());
            let key = Some(key)
                .filter(|key| !key.is_empty())
                .map(|key| Step::Key(key.to_owned()));
            key.into_iter().chain(indexes.map(Step::Index))
        })
        .collect()
}

/// The line, from 1, of the field at `path` (that of its key, for a field of a mapping), or of the
/// innermost thing around it that does exist. `None` if the text cannot be read.
pub(super) fn line_of(syntax: Syntax, text: &str, path: &str) -> Option<usize> {
    let steps = steps(path);
    deserialize(syntax, text, Walk(&steps)).err()?.line
}

const FOUND: &str = "found";

/// Walks down the path and raises an error where it ends.
struct Walk<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), rest)) = self.0.split_first() {
            while let Some(hit) = entries.next_key_seed(FindKey {
                wanted,
                last: rest.is_empty(),
            })? {
                if hit {
                    entries.next_value_seed(Walk(rest))?;
                } else {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Err(de::Error::custom(FOUND))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                if elements.next_element::<IgnoredAny>()?.is_none() {
                    break;
                }
            }
            elements.next_element_seed(Walk(rest))?;
        }
        Err(de::Error::custom(FOUND))
    }

    // Every scalar ends the walk: visits that are not written out here are errors by themselves.
}

/// Compares a key; raises the error itself if the path ends with it.
struct FindKey<'p> {
    wanted: &'p str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for FindKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for FindKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.last) {
            (true, true) => Err(E::custom(FOUND)),
            (hit, _) => Ok(hit),
        }
    }

    fn visit_bool<E: de::Error>(self, key: bool) -> Result<bool, E> {
        Key.visit_bool(key)
            .and_then(|key: String| self.visit_str(&key))
    }

    fn visit_i64<E: de::Error>(self, key: i64) -> Result<bool, E> {
        Key.visit_i64(key)
            .and_then(|key: String| self.visit_str(&key))
    }

    fn visit_u64<E: de::Error>(self, key: u64) -> Result<bool, E> {
        Key.visit_u64(key)
            .and_then(|key: String| self.visit_str(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "---
kind: Service
metadata:
  name: web
  labels:
    example.com/tier: x
spec:
  clusterIP: 10.96.0.1
  ports:
  - name: http
    port: 80
  -
    name: https
    port: 443
  list: [[1, 2], [3,
    4]]
  shared: &a {x: 1}
  alias: *a
";

    #[test]
    fn fields_are_found_where_their_keys_stand() {
        let cases = [
            ("kind", 2),
            ("metadata", 3),
            ("metadata.labels.example.com/tier", 6),
            ("spec.clusterIP", 8),
            ("spec.ports", 9),
            ("spec.ports[0]", 10),
            ("spec.ports[0].port", 11),
            ("spec.ports[1].name", 13),
            ("spec.list[1][1]", 16),
            ("spec.alias", 18),
        ];
        for (path, line) in cases {
            assert_eq!(line_of(Syntax::Yaml, TEXT, path), Some(line), "{path}");
        }
    }

    #[test]
    fn what_does_not_exist_is_found_at_what_is_around_it() {
        let cases = [
            ("", 2),
            ("status", 2),
            ("spec.type", 8),
            ("spec.ports[0].nodePort", 10),
            ("spec.ports[7].port", 10),
            ("spec.clusterIP.deeper", 8),
        ];
        for (path, line) in cases {
            assert_eq!(line_of(Syntax::Yaml, TEXT, path), Some(line), "{path}");
        }
    }

    #[test]
    fn json_has_lines_too() {
        let text = "{\n \"spec\": {\n  \"ports\": [\n   {\"port\": 0}\n  ]\n }\n}";
        assert_eq!(line_of(Syntax::Json, text, "spec.ports[0].port"), Some(4));
    }

    #[test]
    fn text_that_cannot_be_read_has_the_line_where_reading_ends() {
        assert_eq!(line_of(Syntax::Yaml, "a: 1\nb: c: d\n", "b"), Some(2));
    }
}
