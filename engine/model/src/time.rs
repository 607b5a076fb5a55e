//! Points and lengths of time in whole milliseconds. They are handed in; nothing here reads a clock.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Add, Sub};

/// Milliseconds since 1970-01-01T00:00:00Z, in 0001-01-01 ..= 9999-12-30 so that it can always be written as RFC 3339.
///
/// People's formats (JSON) write it as RFC 3339, others as the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

const EARLIEST: i64 = -62_135_596_800_000;
const LATEST: i64 = 253_402_207_200_000;

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    /// `None` outside years 1 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        (EARLIEST..=LATEST).contains(&millis).then_some(Self(millis))
    }

    pub fn millis(self) -> i64 {
        self.0
    }

    /// RFC 3339 with any offset, or a date and time without one, which is read as UTC (exporters that write none mean UTC).
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Self::from_millis(time.as_millisecond());
        }
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Self::from_millis(zoned.timestamp().as_millisecond())
    }

    /// The start of the period of length `every` that holds this time, counted from the epoch.
    pub fn floor(self, every: Span) -> Self {
        let every = (every.0 as i64).max(1);
        Self(self.0.div_euclid(every) * every)
    }

    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = if deserializer.is_human_readable() {
            Self::parse(&String::deserialize(deserializer)?)
        } else {
            Self::from_millis(i64::deserialize(deserializer)?)
        };
        time.ok_or_else(|| D::Error::custom("not a time from year 1 to 9999"))
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0).min(LATEST))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub_unsigned(span.0).max(EARLIEST))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).expect("the constructor keeps to years 1 to 9999");
        if self.0 % 1000 == 0 { write!(f, "{time:.0}") } else { write!(f, "{time:.3}") }
    }
}

impl Span {
    pub const ZERO: Self = Self(0);

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    pub const fn millis(self) -> u64 {
        self.0
    }

    /// `250ms`, `5s`, `30m`, `1h30m`, `7d`, `2w`: whole numbers with a unit, largest first, at most 10 years.
    pub fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, u64); 6] = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
        let mut rest = text.trim();
        let mut total = 0u64;
        let mut last = usize::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok()?;
            let tail = &rest[digits..];
            let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let position = UNITS.iter().position(|(name, _)| *name == &tail[..letters])?;
            if last != usize::MAX && position <= last {
                return None;
            }
            last = position;
            total = total.checked_add(number.checked_mul(UNITS[position].1)?)?;
            rest = &tail[letters..];
        }
        (last != usize::MAX && total <= 3650 * 86_400_000).then_some(Self(total))
    }
}

impl fmt::Display for Span {
    /// The shortest exact form: `90s` is written `1m30s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= millis {
                write!(f, "{}{name}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl From<Span> for std::time::Duration {
    fn from(span: Span) -> Self {
        Self::from_millis(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write_the_same_text() {
        for (text, millis) in [("5s", 5_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("250ms", 250), ("0s", 0)] {
            assert_eq!(Span::parse(text), Some(Span(millis)), "{text}");
            assert_eq!(Span(millis).to_string(), text);
        }
        for text in ["", "5", "s", "5 s", "-5s", "5m1h", "1h1h", "5y", "99999d", "1.5h"] {
            assert_eq!(Span::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339_and_keep_their_milliseconds() {
        for text in ["2026-11-20T09:14:02.114Z", "2026-11-20T09:14:02Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Timestamp::parse("2026-11-20T10:14:02+01:00"), Timestamp::parse("2026-11-20T09:14:02"));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn floors_go_down_before_the_epoch_too() {
        assert_eq!(Timestamp(-1).floor(Span::from_secs(5)), Timestamp(-5_000));
        assert_eq!(Timestamp(5_000).floor(Span::from_secs(5)), Timestamp(5_000));
    }
}
