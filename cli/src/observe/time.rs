//! Points in time on the command line: how long ago, or when.

use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A point in time, absolute or seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This long ago.
    Ago(SignedDuration),
    /// Then.
    At(Timestamp),
}

impl Moment {
    /// The moment, seen from `now`. What lies before all times is the first of them.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(age) => now.checked_sub(age).unwrap_or(Timestamp::MIN),
            Self::At(time) => time,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let utc = |time: DateTime| {
            time.to_zoned(TimeZone::UTC)
                .ok()
                .map(|time| time.timestamp())
        };
        // A zone must not be lost by reading the time as one without.
        let absolute = text.parse::<Timestamp>().ok().or_else(|| {
            let zoned = text.ends_with(['Z', 'z']) || text.rfind('+').is_some();
            let time = text
                .parse::<DateTime>()
                .ok()
                .filter(|_| !zoned && text.contains(['T', ' ']));
            time.or_else(|| text.parse::<Date>().ok().map(|date| date.at(0, 0, 0, 0)))
                .and_then(utc)
        });
        absolute
            .map(Self::At)
            .or_else(|| ago(text).map(Self::Ago))
            .ok_or_else(|| {
                "use a duration like 5m or 1h30m, or a time like 2026-01-31T08:00 (UTC) or \
             2026-01-31T08:00:00+01:00"
                    .into()
            })
    }
}

/// `90s`, `1h30m`, `1.5h`: numbers with units, added up.
fn ago(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[number..]
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len() - number);
        let (value, tail) = rest.split_at(number);
        let (unit, tail) = tail.split_at(unit);
        let unit_seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        seconds += value.parse::<f64>().ok()? * unit_seconds;
        rest = tail;
    }
    let duration = SignedDuration::try_from_secs_f64(seconds).ok();
    duration.filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let cases = [
            ("5m", "2026-01-31T11:55:00Z"),
            ("1h30m", "2026-01-31T10:30:00Z"),
            ("1.5h", "2026-01-31T10:30:00Z"),
            ("2d", "2026-01-29T12:00:00Z"),
            ("1w", "2026-01-24T12:00:00Z"),
            ("250ms", "2026-01-31T11:59:59.75Z"),
            ("0s", "2026-01-31T12:00:00Z"),
            ("2026-01-30T08:00:00Z", "2026-01-30T08:00:00Z"),
            ("2026-01-30T08:00:00.5+01:00", "2026-01-30T07:00:00.5Z"),
            ("2026-01-30T08:00", "2026-01-30T08:00:00Z"),
            ("2026-01-30 08:00:01", "2026-01-30T08:00:01Z"),
            ("2026-01-30", "2026-01-30T00:00:00Z"),
            ("99999999w", "-009999-01-02T01:59:59Z"),
        ];
        for (text, expected) in cases {
            let moment: Moment = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(moment.resolve(now), expected.parse().unwrap(), "{text}");
        }
        for text in [
            "",
            "5",
            "m",
            "5x",
            "-5m",
            "5m3",
            "yesterday",
            "2026-13-01",
            "1..2h",
            "08:00",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text:?}");
        }
    }
}
