//! How much evidence is enough: the number of false alarms a person accepts, split over everything that might raise one.
//!
//! A detector that may be wrong once in T active ticks needs evidence T. With S detectors of equal weight under a budget of F a day, T = S · 8640 / F:
//! a union bound, which holds whatever they have in common. The price is small, because the delay grows with ln T.

use super::detector::DAY;
use serde::{Deserialize, Serialize};
use std::fmt;

/// At most so many false alarms a day, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FalseAlarms {
    count: f64,
    days: f64,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{0}` is no number of false alarms")]
pub struct FalseAlarmsError(String);

const PERIODS: [(&str, f64); 4] = [("hour", 1.0 / 24.0), ("day", 1.0), ("week", 7.0), ("month", 30.0)];

impl FalseAlarms {
    /// What an error about it says is right.
    pub const HINT: &str = "write it as `1 per day`, `2 per week` or `1 per month`";

    /// `1 per day`, `2 per week`, `0.5 per month` (of 30 days), `1 per hour`.
    ///
    /// # Errors
    /// When the text is not of that form, or the number is not positive.
    pub fn parse(text: &str) -> Result<Self, FalseAlarmsError> {
        let error = || FalseAlarmsError(text.to_owned());
        let (count, period) = text.split_once(" per ").ok_or_else(error)?;
        let count: f64 = count.trim().parse().map_err(|_| error())?;
        let (_, days) = PERIODS.into_iter().find(|(name, _)| *name == period.trim()).ok_or_else(error)?;
        let fits = count > 0.0 && count <= 1000.0;
        fits.then_some(Self { count, days }).ok_or_else(error)
    }

    /// Ticks between false alarms.
    pub fn ticks(self) -> f64 {
        DAY * self.days / self.count
    }
}

impl Default for FalseAlarms {
    /// One a day.
    fn default() -> Self {
        Self { count: 1.0, days: 1.0 }
    }
}

impl fmt::Display for FalseAlarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = PERIODS.iter().find(|(_, days)| *days == self.days).map_or("day", |(name, _)| name);
        write!(f, "{} per {period}", self.count)
    }
}

/// The share of the budget of the environment that appeared as number `ordinal` (from 0): 1/2, 1/6, 1/12 and so on, which add up to 1 however many
/// there will be. So no environment waits for another, and the first, which is mostly the one that matters, gives away little.
pub fn environment_share(ordinal: usize) -> f64 {
    1.0 / ((ordinal + 1) as f64 * (ordinal + 2) as f64)
}

/// Which of one tick's detectors fire, by e-BH: the k best do when the k-th has 1/k of the evidence it would need alone, so that the breadth of an
/// outage speeds it up. `evidence` are shares of what is needed; the result is the share at which one fires.
///
/// Source: Wang, Ramdas, "False discovery rate control with e-values", JRSS-B 84 (2022).
pub fn enough(evidence: &mut [f64]) -> f64 {
    evidence.sort_unstable_by(|a, b| b.total_cmp(a));
    let together = evidence.iter().enumerate().rfind(|(at, share)| **share * (*at + 1) as f64 >= 1.0);
    together.map_or(1.0, |(at, _)| 1.0 / (at + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_read_as_it_is_said() {
        for (text, ticks) in [("1 per day", 8640.0), ("2 per week", 30_240.0), ("1 per month", 259_200.0), ("0.5 per day", 17_280.0)] {
            let budget = FalseAlarms::parse(text).expect(text);
            assert_eq!((budget.ticks(), budget.to_string()), (ticks, text.to_owned()));
        }
        for text in ["", "1", "0 per day", "-1 per day", "1 per year", "one per day", "1/day", "NaN per day"] {
            assert!(FalseAlarms::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn many_fire_together_with_less_than_each_alone_would_need() {
        for (mut evidence, expected) in [
            (vec![], 1.0),
            (vec![0.9], 1.0),
            (vec![1.0], 1.0),
            (vec![0.4, 0.6, 0.1], 1.0),
            (vec![0.5, 0.1, 0.6], 0.5),
            (vec![0.3, 0.26, 0.9, 0.25], 0.25),
        ] {
            assert_eq!(enough(&mut evidence), expected, "{evidence:?}");
        }
    }

    #[test]
    fn environments_share_one_budget() {
        let sum: f64 = (0..64).map(environment_share).sum();
        assert!(sum < 1.0 && sum > 0.98, "{sum}");
    }
}
