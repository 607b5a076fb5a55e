//! What a rule sees when a tick closes: one observation per watch and group, and what its `check` answers.

use crate::plan::{Range, Severity};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One watched statistic of one group over its window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// In the unit of the watch: a rate in 0..=1, a measure in the unit of its name, or calls. `None` when there is nothing to take it of.
    pub value: Option<f64>,
    /// Numerator of a rate; calls otherwise.
    pub holds: u64,
    /// What the value is taken of: the denominator of a rate, the number of values of a measure, calls.
    pub calls: u64,
    /// 95 % confidence limits of a rate (Wilson); the value itself otherwise.
    pub low: f64,
    pub high: f64,
    /// Of an estimate from a sample: as many calls of equal weight would say as much.
    pub effective: Option<f64>,
    /// The rule's own range, or the learned one.
    pub expected: Option<Range>,
    /// Nothing is expected yet, because too little has been seen.
    pub learning: bool,
    pub drifted: Option<Direction>,
    /// More about a drift that the detector found.
    pub drift: Option<Drift>,
    /// Of a ranking: its largest, in order.
    pub top: Vec<Ranked>,
}

/// One label of a ranking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    pub label: String,
    /// In the unit of the watch.
    pub value: f64,
    /// Of the whole, 0..=1.
    pub share: f64,
    pub calls: u64,
}

/// When a series left its expected range, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// When it most likely began, and the earliest and latest time that is nearly as likely.
    pub since: Timestamp,
    pub since_between: (Timestamp, Timestamp),
    /// The rate (for a volume: the factor on what was expected; for values: the share of calls beyond `beyond`) since then, shrunk, because what
    /// is looked at for being high is not quite as high.
    pub size: f64,
    /// What is usual where `size` is counted.
    pub usual: f64,
    /// For values: in the unit of the measure.
    pub beyond: Option<f64>,
    pub calls: u64,
    pub holds: u64,
    /// ln of the evidence when it fired, and of what was needed.
    pub log_evidence: f64,
    pub log_needed: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Up,
    Down,
}

/// One group of a rule at the end of a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    pub environment: String,
    /// End of the tick.
    pub at: Timestamp,
    /// In the order of the rule's `group_by`.
    pub labels: Vec<String>,
    /// In the order of the rule's watches.
    pub observations: Vec<Observation>,
}

/// What a rule's `check` says about one group. It is a function of the view alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Checked {
    Quiet,
    Fire(Fire),
    /// The script failed: it is shown with the rule, and changes no alert.
    Failed(String),
    /// It used up a budget; otherwise the same.
    Exhausted(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fire {
    /// In the rule's own words; at most 500 bytes.
    pub summary: String,
    /// Overrides the rule's.
    pub severity: Option<Severity>,
    /// More about it, for people and machines; at most 16.
    pub labels: Vec<(String, String)>,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The Wilson score interval of `holds` out of `calls` at 95 %. (0, 1) when there are no calls.
///
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
pub fn wilson(holds: u64, calls: u64) -> (f64, f64) {
    let (low, high) = wilson_of(holds as f64, calls as f64);
    // At the ends the exact limit is the value itself; rounding must not move it.
    (if holds == 0 { 0.0 } else { low }, if holds == calls && calls > 0 { 1.0 } else { high })
}

/// The same of counts that need not be whole, such as those of a weighted sample.
pub fn wilson_of(holds: f64, calls: f64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    if calls <= 0.0 {
        return (0.0, 1.0);
    }
    let (n, p) = (calls, holds / calls);
    let z2 = Z * Z / n;
    let centre = (p + z2 / 2.0) / (1.0 + z2);
    let half = Z / (1.0 + z2) * (p * (1.0 - p) / n + z2 / (4.0 * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::wilson;

    #[test]
    fn the_interval_is_wilsons() {
        // R: prop.test(x, n, correct = FALSE)
        for (holds, calls, low, high) in [(10, 100, 0.055_229_1, 0.174_365_7), (0, 20, 0.0, 0.161_125_2), (20, 20, 0.838_874_8, 1.0)] {
            let got = wilson(holds, calls);
            assert!((got.0 - low).abs() < 1e-6 && (got.1 - high).abs() < 1e-6, "{holds}/{calls}: {got:?}");
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }
}
