//! What a setting can hold: how it is read from text and how it is written back.

mod size;
mod span;

use std::path::PathBuf;

pub use size::ByteSize;
pub use span::Seconds;

/// A value as a layer gives it, before it has a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawValue {
    /// A YAML scalar, a variable or a flag.
    Text(String),
    /// A YAML sequence.
    List(Vec<String>),
}

impl RawValue {
    /// As the user would recognise it in a message.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::List(items) => format!("{items:?}"),
        }
    }
}

/// A typed setting, seen without knowing its type.
pub trait Value {
    /// What may be written, to complete "write …".
    fn form(&self) -> String;
    /// Takes the value, or says what is wrong with it and stays as it was.
    fn set(&mut self, raw: &RawValue) -> Result<(), String>;
    /// The value as YAML, on one line.
    fn yaml(&self) -> String;
}

/// One value written as one word.
pub trait Scalar: Sized {
    /// See [`Value::form`].
    fn form() -> String;
    /// Reads it, or says what is wrong.
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes it so that [`Scalar::parse`] reads it back.
    fn text(&self) -> String;
}

impl<T: Scalar> Value for T {
    fn form(&self) -> String {
        T::form()
    }

    fn set(&mut self, raw: &RawValue) -> Result<(), String> {
        match raw {
            RawValue::Text(text) => *self = T::parse(text.trim())?,
            RawValue::List(_) => return Err("is a list".into()),
        }
        Ok(())
    }

    fn yaml(&self) -> String {
        quoted(&self.text())
    }
}

impl<T: Scalar> Value for Option<T> {
    fn form(&self) -> String {
        format!("{}, or nothing", T::form())
    }

    fn set(&mut self, raw: &RawValue) -> Result<(), String> {
        *self = match raw {
            RawValue::Text(text) if text.trim().is_empty() => None,
            RawValue::Text(text) => Some(T::parse(text.trim())?),
            RawValue::List(_) => return Err("is a list".into()),
        };
        Ok(())
    }

    fn yaml(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), Value::yaml)
    }
}

impl<T: Scalar> Value for Vec<T> {
    fn form(&self) -> String {
        format!(
            "a list; separated by commas in a variable or flag; each item {}",
            T::form()
        )
    }

    fn set(&mut self, raw: &RawValue) -> Result<(), String> {
        let items: Vec<&str> = match raw {
            RawValue::Text(text) => text.split(',').collect(),
            RawValue::List(items) => items.iter().map(String::as_str).collect(),
        };
        let items = items
            .into_iter()
            .map(str::trim)
            .filter(|item| !item.is_empty());
        *self = items
            .map(|item| T::parse(item).map_err(|reason| format!("holds {item:?}, which {reason}")))
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn yaml(&self) -> String {
        let items: Vec<_> = self
            .iter()
            .map(|item| format!("{:?}", item.text()))
            .collect();
        format!("[{}]", items.join(", "))
    }
}

/// The text as a YAML scalar, quoted where it would otherwise read as something else.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
        && text.as_bytes()[0] != b'-';
    if plain {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}

impl Scalar for String {
    fn form() -> String {
        "a word".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Scalar for bool {
    fn form() -> String {
        "true or false".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is neither true nor false".into())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Scalar for PathBuf {
    fn form() -> String {
        "an absolute path".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let path = Self::from(text);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err("does not start with '/'".into())
        }
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// A number known while compiling.
    ///
    /// # Panics
    /// If it is out of range; as the default of a setting it then does not compile.
    pub const fn new(number: u32) -> Self {
        assert!(MIN <= number && number <= MAX, "outside its own range");
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Scalar for Count<MIN, MAX> {
    fn form() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let number: u32 = text
            .parse()
            .map_err(|_| "is not a whole number".to_owned())?;
        if number < MIN {
            return Err(format!("is below {MIN}"));
        }
        if number > MAX {
            return Err(format!("is above {MAX}"));
        }
        Ok(Self(number))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// Splits `text` after the digits it starts with.
fn leading_number(text: &str) -> Result<(u64, &str), String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..end]
        .parse()
        .map_err(|_| "does not start with a number".to_owned())?;
    Ok((number, &text[end..]))
}

/// Implements [`Scalar`] for an enum whose values are written as the given words.
macro_rules! choice {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $crate::config::value::Scalar for $type {
            fn form() -> String {
                ["one of", $(concat!(" ", $word)),+].concat()
            }

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err("is none of the choices".into()),
                }
            }

            fn text(&self) -> String {
                match self { $(Self::$variant => $word.to_owned()),+ }
            }
        }
    };
}

pub(super) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_their_bounds() {
        type Small = Count<2, 5>;
        assert_eq!(Small::parse("5"), Ok(Small::new(5)));
        assert_eq!(Small::parse("1"), Err("is below 2".into()));
        assert_eq!(Small::parse("6"), Err("is above 5".into()));
        assert_eq!(Small::parse("3.5"), Err("is not a whole number".into()));
    }

    #[test]
    fn a_list_takes_commas_and_sequences() {
        let mut list: Vec<PathBuf> = Vec::new();
        list.set(&RawValue::Text("/a, /b".into())).unwrap();
        assert_eq!(list, [PathBuf::from("/a"), PathBuf::from("/b")]);
        list.set(&RawValue::List(vec!["/c".into()])).unwrap();
        assert_eq!(list.yaml(), r#"["/c"]"#);
        let refused = list.set(&RawValue::Text("/a,b".into())).unwrap_err();
        assert_eq!(refused, "holds \"b\", which does not start with '/'");
        assert_eq!(
            list,
            [PathBuf::from("/c")],
            "a refused value changes nothing"
        );
    }
}
