//! How much evidence is enough: the number of false alarms a person accepts, split over everything that might raise one.
//!
//! A detector that may be wrong once in T active ticks needs evidence T. With S detectors of equal weight under a budget of F a day, T = S · 8640 / F:
//! a union bound, which holds whatever they have in common. The price is small, because the delay grows with ln T.

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
