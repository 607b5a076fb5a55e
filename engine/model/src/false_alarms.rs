//! How many false alarms a person accepts: the one knob of drift detection.

use crate::plan::TICK;
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
        86_400_000.0 / TICK.millis() as f64 * self.days / self.count
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
}
