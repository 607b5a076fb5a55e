//! From opinions about a sample to an estimate for all calls.
//!
//! Each opinion counts for as many calls as its call stands for (Horvitz and Thompson, JASA 47, 1952; the ratio of two such sums is Hájek's estimator).
//! Where the weights differ, the estimate is as sure as one of fewer calls of equal weight would be: the effective sample size (Kish, "Survey
//! sampling", 1965).

use model::fold::Ratio;
use model::verdict::Inclusion;
use model::window::wilson_of;

/// Sums over opinions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// The share of fails among all calls that could have been chosen.
    pub rate: f64,
    /// Calls of equal weight that would say as much.
    pub effective: f64,
    pub low: f64,
    pub high: f64,
}

/// `None` without opinions.
pub(crate) fn estimate(opinions: &[(Inclusion, Ratio)]) -> Option<Estimate> {
    let (mut all, mut failed, mut squares) = (0.0, 0.0, 0.0);
    for (inclusion, ratio) in opinions {
        let weight = inclusion.weight();
        all += weight * ratio.applies as f64;
        failed += weight * ratio.holds as f64;
        squares += weight * weight * ratio.applies as f64;
    }
    if all == 0.0 {
        return None;
    }
    let (rate, effective) = ((failed / all).min(1.0), all * all / squares);
    let (low, high) = wilson_of(rate * effective, effective);
    Some(Estimate { rate, effective, low, high })
}

/// Opinions as they count in one tick: weight, opinions, fails. Weights are 1 on average; which calls were chosen says what they are, and not what was
/// found.
pub(crate) fn weighted(opinions: &[(Inclusion, Ratio)]) -> Vec<(f64, f64, f64)> {
    let (all, n) =
        opinions.iter().fold((0.0, 0.0), |(all, n), (inclusion, ratio)| (all + inclusion.weight() * ratio.applies as f64, n + ratio.applies as f64));
    opinions.iter().map(|(inclusion, ratio)| (inclusion.weight() * n / all, ratio.applies as f64, ratio.holds as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(holds: u64, applies: u64) -> Ratio {
        Ratio { holds, applies }
    }

    #[test]
    fn calls_of_equal_weight_are_a_plain_share() {
        let estimate = estimate(&[(Inclusion::at_most(0.01), ratio(10, 100))]).expect("there are opinions");
        let (low, high) = model::window::wilson(10, 100);
        assert!((estimate.rate - 0.1).abs() < 1e-12 && (estimate.effective - 100.0).abs() < 1e-9);
        assert!((estimate.low - low).abs() < 1e-9 && (estimate.high - high).abs() < 1e-9);
        assert_eq!(super::estimate(&[]), None);
    }

    #[test]
    fn a_group_seen_ten_times_as_often_does_not_count_ten_times() {
        // 1,000 calls of which every tenth was seen and half of those fail; 1,000 of which all were seen and none fails.
        let (tenth, all) = (Inclusion::at_most(0.1), Inclusion::CERTAIN);
        let estimate = estimate(&[(all, ratio(0, 1000)), (tenth, ratio(50, 100))]).expect("there are opinions");
        let weight = 100.0 * tenth.weight();
        assert!((estimate.rate - 0.5 * weight / (weight + 1000.0)).abs() < 1e-12);
        assert!(estimate.effective < 400.0, "{}", estimate.effective);
    }
}
