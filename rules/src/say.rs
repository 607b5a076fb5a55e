//! Numbers as a person reads them, in a rule's own messages: `percent`, `ms`, `usd`. What has no value is `n/a`.

use rhai::Engine;

pub(crate) fn register(engine: &mut Engine) {
    for (name, say) in [("percent", percent as fn(f64) -> String), ("ms", ms), ("usd", usd)] {
        engine
            .register_fn(name, move |value: f64| if value.is_finite() { say(value) } else { "n/a".to_owned() })
            .register_fn(name, move |value: i64| say(value as f64))
            .register_fn(name, |_: ()| "n/a".to_owned());
    }
}

/// A share as `3.1 %`; below a tenth of a percent with a second digit.
fn percent(share: f64) -> String {
    let value = share * 100.0;
    let digits = if value != 0.0 && value.abs() < 0.1 { 2 } else { 1 };
    format!("{} %", shortened(format!("{value:.digits$}")))
}

/// Milliseconds as `230 ms` or, from a second, `2.3 s`.
fn ms(value: f64) -> String {
    if value.abs() < 999.5 { format!("{value:.0} ms") } else { format!("{} s", shortened(format!("{:.1}", value / 1000.0))) }
}

/// Dollars as `$12.30`; below a dollar with four digits.
fn usd(value: f64) -> String {
    if value.abs() < 1.0 && value != 0.0 { format!("${value:.4}") } else { format!("${value:.2}") }
}

fn shortened(number: String) -> String {
    number.strip_suffix(".0").map(str::to_owned).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (got, expected) in [
            (percent(0.031), "3.1 %"),
            (percent(0.5), "50 %"),
            (percent(0.000_52), "0.05 %"),
            (percent(0.0), "0 %"),
            (ms(230.0), "230 ms"),
            (ms(2300.0), "2.3 s"),
            (ms(999.7), "1 s"),
            (usd(0.0123), "$0.0123"),
            (usd(12.3), "$12.30"),
            (usd(0.0), "$0.00"),
        ] {
            assert_eq!(got, expected);
        }
    }
}
