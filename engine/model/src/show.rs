//! Numbers as people read them, the same everywhere: in Slack, in the terminal, on the page.

use serde::{Deserialize, Serialize};

/// A share in 0..=1: `0 %`, `0.03 %`, `3.1 %`, `83 %`, `100 %`. Never `0 %` or `100 %` unless it is exactly that.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = match percent {
        p if p == 0.0 || p == 100.0 => 0,
        p if p < 0.01 => return "<0.01 %".to_owned(),
        p if p < 0.1 => 2,
        p if p < 10.0 => 1,
        p if p > 99.9 => 2,
        p if p > 99.0 => 1,
        _ => 0,
    };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

/// Milliseconds: `230 ms`, `2.3 s`, `4m10s`.
pub fn millis(millis: f64) -> String {
    if millis < 1000.0 {
        format!("{millis:.0} ms")
    } else if millis < 60_000.0 {
        format!("{:.1} s", millis / 1000.0)
    } else {
        // Thirty thousand years, which is as much as anything can be.
        crate::Span::from_secs((millis / 1000.0).round().min(1e12) as u64).to_string()
    }
}

/// Dollars: `$0.00031`, `$0.42`, `$1234.50`; two significant digits below a cent.
pub fn dollars(dollars: f64) -> String {
    let digits = if dollars == 0.0 || dollars >= 0.1 { 2 } else { (1.0 - dollars.log10().floor()) as usize };
    format!("${dollars:.digits$}")
}

/// Counts with thousands separated: `1,234,567`; fractions to one digit, below one to two that matter.
pub fn number(number: f64) -> String {
    if number.fract() != 0.0 && number < 1000.0 {
        let digits = if number < 1.0 { (1.0 - number.log10().floor()).clamp(2.0, 9.0) as usize } else { 1 };
        return format!("{number:.digits$}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In what a value is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 0..=1.
    Share,
    Millis,
    Dollars,
    /// Whatever the text says, which may be nothing.
    Number(String),
}

impl Default for Unit {
    fn default() -> Self {
        Self::Number(String::new())
    }
}

impl Unit {
    /// `3.1 %`, `230 ms`, `$0.0031`, `412`, `0.73 score`.
    pub fn show(&self, value: f64) -> String {
        match self {
            Self::Share => percent(value),
            Self::Millis => millis(value),
            Self::Dollars => dollars(value),
            Self::Number(unit) if unit.is_empty() => number(value),
            Self::Number(unit) => format!("{} {unit}", number(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_do_not_lie() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.00002, "<0.01 %"),
            (0.0003, "0.03 %"),
            (0.031, "3.1 %"),
            (0.05, "5 %"),
            (0.834, "83 %"),
            (0.9999, "99.99 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), text);
        }
        assert_eq!((millis(230.4), millis(2_300.0), millis(250_000.0)), ("230 ms".into(), "2.3 s".into(), "4m10s".into()));
        assert_eq!((dollars(0.00031), dollars(0.42), dollars(0.0)), ("$0.00031".into(), "$0.42".into(), "$0.00".into()));
        assert_eq!((number(1_234_567.0), number(12.0), number(12.34)), ("1,234,567".into(), "12".into(), "12.3".into()));
        assert_eq!((number(0.732), number(0.0214), Unit::Number("facts".into()).show(3.0)), ("0.73".into(), "0.021".into(), "3 facts".into()));
    }
}
