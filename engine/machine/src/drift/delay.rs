//! How long a change takes to become provable: calls ≈ c · ln A / KL, with c from simulation, divided by the traffic.
//!
//! It is the mean; one time in twenty it takes about twice as long.

use super::dispersion::Excess;
use super::expit;

/// ln of a change's size, and the factor on ln A / KL(q‖p) that was measured for it (METHOD.md).
const FACTORS: [(f64, f64); 5] = [
    (0.405_465_108_108_164_4, 0.7),
    (std::f64::consts::LN_2, 0.75),
    (1.098_612_288_668_109_8, 0.9),
    (1.609_437_912_434_100_3, 1.1),
    (std::f64::consts::LN_10, 1.35),
];

/// What a delay depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Log-odds of what is expected of a rate.
    pub base: f64,
    /// How far the truth may lie from it, in log-odds.
    pub guard: f64,
    pub calls_per_tick: f64,
    pub excess: Excess,
    /// Evidence needed.
    pub threshold: f64,
}

impl Conditions {
    /// Mean ticks until a rise of the odds by `factor` (> 1) is proven. `None` when it lies within what is expected, or there are no calls.
    pub fn ticks(&self, factor: f64) -> Option<f64> {
        let change = libm::log(factor);
        if self.calls_per_tick <= 0.0 || change <= self.guard {
            return None;
        }
        let (q, h) = (expit(self.base + change), expit(self.base + self.guard));
        let divergence = q * libm::log(q / h) + (1.0 - q) * libm::log((1.0 - q) / (1.0 - h));
        let dispersion = self.excess.inflation((self.calls_per_tick - 1.0).max(0.0));
        let calls = factor_of(change) * libm::log(self.threshold) * dispersion / divergence;
        Some((calls / self.calls_per_tick).max(1.0))
    }

    /// The smallest of ×1.5, ×2, ×3, ×5, ×10 and ×30 that is proven within `ticks`.
    pub fn provable_within(&self, ticks: f64) -> Option<f64> {
        [1.5, 2.0, 3.0, 5.0, 10.0, 30.0].into_iter().find(|factor| self.ticks(*factor).is_some_and(|needed| needed <= ticks))
    }
}

fn factor_of(change: f64) -> f64 {
    let (first, last) = (FACTORS[0], FACTORS[FACTORS.len() - 1]);
    if change <= first.0 {
        return first.1;
    }
    let between = FACTORS.windows(2).find(|pair| change <= pair[1].0);
    between.map_or(last.1, |pair| {
        let share = (change - pair[0].0) / (pair[1].0 - pair[0].0);
        pair[0].1 + share * (pair[1].1 - pair[0].1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::logit;

    #[test]
    fn a_doubling_of_two_percent_at_one_call_a_second_takes_a_quarter_of_an_hour() {
        let excess = Excess { correlation: 0.0, phi: 1.0 };
        let conditions = |calls_per_tick: f64| Conditions { base: logit(0.02), guard: 0.0, calls_per_tick, excess, threshold: 60_480.0 };
        // Simulated: 1,034 calls for a threshold of one false alarm a week.
        let calls = conditions(10.0).ticks(2.0).expect("it is provable") * 10.0;
        assert!((900.0..1200.0).contains(&calls), "{calls}");
        assert_eq!(conditions(10.0).provable_within(8640.0), Some(1.5));
        assert_eq!(conditions(0.01).provable_within(8640.0), Some(10.0));
        assert_eq!(conditions(0.0).ticks(2.0), None);
    }
}
