//! From the text of a document to a tree of values, within bounds.
//!
//! The tree is JSON's: it is what an API server would receive. Bounds, as the text may be anything:
//! a document grows through aliases to at most twice its length and some, brackets nest at most
//! [`MAX_NESTING`] deep (the YAML parser takes quadratic time over open ones), and values at most
//! 128 deep (the parsers' own limit).

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Brackets that may be open at a time. Objects that Kubernetes knows need about twenty.
const MAX_NESTING: usize = 512;

/// What aliases may always add, in characters and values.
const ALIAS_ALLOWANCE: usize = 1 << 20;

/// Languages of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Yaml,
    Json,
}

/// Why the text is no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextError {
    /// Line within the text, from 1, if known.
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

/// A tree, and the keys that were given more than once in one mapping, the last one counting.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) repeated_keys: Vec<String>,
}

/// Reads one document.
pub(super) fn read(syntax: Syntax, text: &str) -> Result<Tree, TextError> {
    if nesting(text) > MAX_NESTING {
        let message = format!("more than {MAX_NESTING} brackets are open at a time");
        return Err(TextError {
            line: None,
            message,
        });
    }
    let mut limits = Limits {
        left: 2 * text.len() + ALIAS_ALLOWANCE,
        repeated_keys: Vec::new(),
    };
    let value = deserialize(syntax, text, Node(&mut limits))?;
    Ok(Tree {
        value,
        repeated_keys: limits.repeated_keys,
    })
}

/// Feeds a document to `seed`; an error comes with its line and without the parser's own mention
/// of it.
pub(super) fn deserialize<'de, S: DeserializeSeed<'de>>(
    syntax: Syntax,
    text: &'de str,
    seed: S,
) -> Result<S::Value, TextError> {
    match syntax {
        Syntax::Yaml => {
            let value = seed.deserialize(serde_yaml_ng::Deserializer::from_str(text));
            value.map_err(|error| yaml_error(&error, text))
        }
        Syntax::Json => {
            let mut json = serde_json::Deserializer::from_str(text);
            let value = seed
                .deserialize(&mut json)
                .and_then(|value| json.end().map(|()| value));
            value.map_err(|error| {
                let mention = format!(" at line {} column {}", error.line(), error.column());
                TextError::new(&error, Some(error.line()), &mention)
            })
        }
    }
}

fn yaml_error(error: &serde_yaml_ng::Error, text: &str) -> TextError {
    const POSITION: &str = " at position ";
    let message = error.to_string();
    // Errors of single characters have their place in bytes, and in words only.
    if let Some((_, rest)) = message.split_once(POSITION) {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let before = text.bytes().take(digits.parse().unwrap_or(0));
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        return TextError::new(error, Some(line), &(POSITION.to_owned() + &digits));
    }
    match error.location() {
        None => TextError::new(error, None, ""),
        Some(at) => {
            let mention = format!(" at line {} column {}", at.line(), at.column());
            TextError::new(error, Some(at.line()), &mention)
        }
    }
}

impl TextError {
    fn new(error: &impl fmt::Display, line: Option<usize>, mention: &str) -> Self {
        let message = error.to_string();
        Self {
            line,
            message: message.replacen(mention, "", 1),
        }
    }
}

/// An upper bound of how deep brackets nest, whatever is in quotes or comments.
fn nesting(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// What is left of a document's bounds, and what was noticed on the way.
struct Limits {
    left: usize,
    repeated_keys: Vec<String>,
}

impl Limits {
    fn spend<E: de::Error>(&mut self, cost: usize) -> Result<(), E> {
        self.left = self
            .left
            .checked_sub(cost)
            .ok_or_else(|| E::custom("aliases make the document grow beyond all use"))?;
        Ok(())
    }
}

/// Reads one value of the tree.
struct Node<'a>(&'a mut Limits);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.spend(1).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.spend(1).map(|()| Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.spend(1).map(|()| Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.spend(1)?;
        let number = Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("{value} is not a number")))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.spend(1 + value.len()).map(|()| Value::from(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.0.spend(1).map(|()| Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        self.0.spend(1)?;
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(Node(self.0))? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.spend(1)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.0.spend(1 + key.len())?;
            let value = entries.next_value_seed(Node(self.0))?;
            if map.insert(key.clone(), value).is_some() {
                self.0.repeated_keys.push(key);
            }
        }
        Ok(Value::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(de::Error::custom(
            "YAML tags such as !name have no meaning in a manifest",
        ))
    }
}

/// Reads a key; scalars that are no strings become the strings they were written as, as they do on
/// their way to an API server.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string as key")
    }

    fn visit_bool<E: de::Error>(self, key: bool) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_i64<E: de::Error>(self, key: i64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_u64<E: de::Error>(self, key: u64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn yaml(text: &str) -> Result<Value, TextError> {
        read(Syntax::Yaml, text).map(|tree| tree.value)
    }

    #[test]
    fn trees_are_those_of_json() {
        let cases = [
            (
                "a: 1\nb: [x, 2.5, true, null, -3]",
                json!({"a": 1, "b": ["x", 2.5, true, null, -3]}),
            ),
            ("1: a\ntrue: b", json!({"1": "a", "true": "b"})),
            ("a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}})),
            ("{\"a\": \"b\"}", json!({"a": "b"})),
            (
                "a: yes\nb: 010\nc: '5'",
                json!({"a": "yes", "b": "010", "c": "5"}),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(yaml(text), Ok(expected), "{text}");
        }
        let tree = read(Syntax::Json, r#"{"a": "\ud83d\ude00"}"#).unwrap();
        assert_eq!(tree.value, json!({"a": "😀"}));
    }

    #[test]
    fn errors_name_the_line_once() {
        let cases = [
            (Syntax::Yaml, "a: 1\nb: c: d\n", Some(2)),
            (Syntax::Yaml, "a: 1\nb: !tag c\n", Some(2)),
            (Syntax::Yaml, "a: .nan\n", Some(1)),
            (Syntax::Yaml, "a: *b\n", Some(1)),
            (Syntax::Yaml, "a: 1\nb: \u{1}\n", Some(2)),
            (Syntax::Yaml, "\u{1}", Some(1)),
            (Syntax::Json, "{\n\"a\": 1,\n}", Some(3)),
            (Syntax::Json, "{} {}", Some(1)),
        ];
        for (syntax, text, line) in cases {
            let error = read(syntax, text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {}", error.message);
            assert!(
                !error.message.contains(" at line"),
                "{text:?}: {}",
                error.message
            );
        }
    }

    #[test]
    fn repeated_keys_are_noticed_and_the_last_counts() {
        let tree = read(Syntax::Yaml, "a: {x: 1, x: 2}\nb: 1").unwrap();
        assert_eq!(tree.value, json!({"a": {"x": 2}, "b": 1}));
        assert_eq!(tree.repeated_keys, ["x"]);
    }

    #[test]
    fn hostile_text_is_refused_quickly() {
        let laughs = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, i| {
            let before = format!("*a{},", i - 1).repeat(9);
            text + &format!("a{i}: &a{i} [{before}]\n")
        });
        let wide = format!(
            "a: &a {}\nb: [{}]",
            "x".repeat(100_000),
            "*a,".repeat(5_000)
        );
        let cases = [
            laughs,
            wide,
            "[".repeat(1_000_000),
            "{a: ".repeat(1_000_000),
            "- ".repeat(1_000),
            "[]]][[".to_owned() + &"[".repeat(513),
        ];
        for text in cases {
            let start = Instant::now();
            assert!(yaml(&text).is_err(), "{}...", &text[..20]);
            // Milliseconds in fact; without the bounds it would not end.
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{}...",
                &text[..20]
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a:\\[\\]{},&*!|>'\"#% \n\t?0-9]{0,200}") {
            let _ = read(Syntax::Yaml, &text);
            let _ = read(Syntax::Json, &text);
        }

        #[test]
        fn no_characters_make_it_panic(text in any::<String>()) {
            let _ = read(Syntax::Yaml, &text);
        }
    }
}
