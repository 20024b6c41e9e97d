//! Spans of time, such as `1h30m`.

use std::time::Duration;

use super::{Scalar, leading_number};

/// Units of time, largest first, with their seconds.
const TIME_UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A time span of whole seconds, from `MIN` to `MAX` of them: the data plane's clock has no finer
/// step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Seconds<MIN, MAX> {
    /// A span known while compiling.
    ///
    /// # Panics
    /// If it is out of range; as the default of a setting it then does not compile.
    pub const fn new(seconds: u32) -> Self {
        assert!(MIN <= seconds && seconds <= MAX, "outside its own range");
        Self(seconds)
    }

    /// The number of seconds.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The span as the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl<const MIN: u32, const MAX: u32> Scalar for Seconds<MIN, MAX> {
    fn form() -> String {
        let bounds = [MIN, MAX].map(|seconds| span_text(seconds.into()));
        format!(
            "a time span from {} to {}, such as 90s, 2m or 1h30m",
            bounds[0], bounds[1]
        )
    }

    fn parse(text: &str) -> Result<Self, String> {
        let seconds = parse_span(text)?;
        if seconds < MIN.into() {
            return Err(format!("is shorter than {}", span_text(MIN.into())));
        }
        match u32::try_from(seconds) {
            Ok(seconds) if seconds <= MAX => Ok(Self(seconds)),
            _ => Err(format!("is longer than {}", span_text(MAX.into()))),
        }
    }

    fn text(&self) -> String {
        span_text(self.0.into())
    }
}

/// The span in the largest unit that divides it.
fn span_text(seconds: u64) -> String {
    let (unit, size) = TIME_UNITS
        .into_iter()
        .find(|(_, size)| seconds != 0 && seconds.is_multiple_of(*size))
        .unwrap_or(("s", 1));
    format!("{}{unit}", seconds / size)
}

/// Seconds of a text such as `1h30m`.
fn parse_span(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let size = match TIME_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, size)) => *size,
            None if unit.is_empty() => return Err("has no unit".into()),
            None if ["ms", "us", "ns"].contains(&unit) => {
                return Err("is finer than a second".into());
            }
            None => return Err(format!("has the unknown unit {unit:?}")),
        };
        total = number
            .checked_mul(size)
            .and_then(|seconds| total.checked_add(seconds))
            .ok_or("is too long")?;
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Span = Seconds<1, 864_000>;

    #[test]
    fn spans_are_read_and_written() {
        let cases = [
            ("1s", Ok(1)),
            ("90s", Ok(90)),
            ("8000s", Ok(8000)),
            ("1h30m", Ok(5400)),
            ("10d", Ok(864_000)),
            ("5", Err("has no unit")),
            ("", Err("is empty")),
            ("s", Err("does not start with a number")),
            ("-1s", Err("does not start with a number")),
            ("0s", Err("is shorter than 1s")),
            ("500ms", Err("is finer than a second")),
            ("5 s", Err("has the unknown unit \" s\"")),
            ("11d", Err("is longer than 10d")),
            ("18446744073709551615d", Err("is too long")),
            ("99999999999999999999s", Err("does not start with a number")),
        ];
        for (text, expected) in cases {
            let read = Span::parse(text);
            assert_eq!(
                read.map(Span::get),
                expected.map_err(str::to_owned),
                "{text:?}"
            );
        }
        for seconds in [1, 59, 60, 90, 3600, 5400, 8000, 86_400, 864_000] {
            assert_eq!(
                Span::parse(&Span::new(seconds).text()),
                Ok(Span::new(seconds))
            );
        }
        assert_eq!(Span::new(5400).text(), "90m");
    }
}
