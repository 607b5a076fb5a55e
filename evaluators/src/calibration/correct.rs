//! The rate behind the rate that a judge reports: Rogan and Gladen's estimate, with Lang and Reiczigel's interval and Fieller's.
//!
//! A judge that misses fails and accuses passes reports a rate that is neither theirs nor people's. Knowing how often it does either, one can solve
//! for the true rate; not knowing that well makes the interval wider, and here it does. Formulas and what they assume are in METHOD.md.

use super::Calibration;
use super::proportion::{Estimate, Z, wilson};

/// A rate of fails as the judge reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    rate: f64,
    effective: f64,
}

/// What is summed over judged calls, where calls were judged with different probabilities. A weight is an inverse of one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Of the weights.
    pub weight: f64,
    /// Of the weights of fails.
    pub weight_failed: f64,
    /// Of the squares of the weights.
    pub square: f64,
    /// Of the squares of the weights of fails.
    pub square_failed: f64,
}

impl Sums {
    /// Adds one judged call. The weight is above 0.
    pub fn add(&mut self, weight: f64, failed: bool) {
        self.weight += weight;
        self.square += weight * weight;
        if failed {
            self.weight_failed += weight;
            self.square_failed += weight * weight;
        }
    }
}

impl Observed {
    /// Of calls that all had the same chance to be judged; `None` of no calls, or of more fails than calls.
    pub fn counted(fails: u64, judged: u64) -> Option<Self> {
        (judged > 0 && fails <= judged).then(|| Self { rate: fails as f64 / judged as f64, effective: judged as f64 })
    }

    /// Of calls with weights: Hájek's estimate, and the number of equally weighted calls that would know it as well.
    ///
    /// That number is the smaller of two: of Kish (1965), Σw² against (Σw)², which holds when weights have nothing to do with verdicts; and of the
    /// linearised variance Σw²(y − p)² / (Σw)², which also holds when they do, once there are enough fails. `None` of no calls, or of sums that no
    /// weights could have.
    pub fn weighted(sums: &Sums) -> Option<Self> {
        let Sums { weight, weight_failed, square, square_failed } = *sums;
        let good = weight > 0.0 && square > 0.0 && weight.is_finite() && square.is_finite();
        if !good || !(0.0..=weight).contains(&weight_failed) || !(0.0..=square).contains(&square_failed) {
            return None;
        }
        let rate = weight_failed / weight;
        let kish = weight * weight / square;
        let spread = square_failed * (1.0 - rate).powi(2) + (square - square_failed) * rate.powi(2);
        let linear = if spread > 0.0 { rate * (1.0 - rate) * weight * weight / spread } else { kish };
        // At the edges the linearised variance vanishes; Kish's does not.
        Some(Self { rate, effective: kish.min(linear).max(1.0) })
    }

    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// How many equally weighted calls would know the rate as well; 1 or more.
    pub fn effective(&self) -> f64 {
        self.effective
    }

    /// The rate as it is, with Wilson's interval: of verdicts, and not of what they are about.
    pub fn raw(&self) -> Estimate {
        wilson(self.rate, self.effective)
    }
}

/// A corrected rate of fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrected {
    /// From 0 to 1, with its interval.
    pub rate: Estimate,
    /// The estimate before it was held within 0 and 1. Far outside, the judge errs otherwise on these calls than on the labelled ones.
    pub unbounded: f64,
}

/// Why there is no corrected rate.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Uncorrectable {
    #[error(
        "correct the judge's rate: of {fails} fails and {passes} passes with a readable verdict, both must be above 0\nhint: label calls of both kinds"
    )]
    Labels { fails: u64, passes: u64 },
    #[error(
        "correct the judge's rate: its verdicts are not told from chance (sensitivity + specificity - 1 is {value:.2}, 95 % {low:.2} to {high:.2})\nhint: label more calls if the interval is wide; else use another model or prompt",
        value = .0.value, low = .0.low, high = .0.high
    )]
    Chance(Estimate),
    #[error(
        "correct the judge's rate: its verdicts are worse than chance (sensitivity + specificity - 1 is {value:.2}, 95 % {low:.2} to {high:.2})\nhint: are labels or verdicts the wrong way round?",
        value = .0.value, low = .0.low, high = .0.high
    )]
    Reversed(Estimate),
}

impl Calibration {
    /// The true rate of fails that is behind an observed one, with an interval that takes in what is not known of the judge.
    ///
    /// Rogan and Gladen (1978): (rate + Sp − 1) / (Se + Sp − 1). The interval is of Lang and Reiczigel (2014), which Lee et al. (2025) use for judges,
    /// widened for weak judges to hold Fieller's (1954).
    /// It holds when the judge errs on these calls as it does on the labelled ones, and when those are other calls than these.
    ///
    /// # Errors
    /// [`Uncorrectable`] where the labels do not show that the judge is better than chance: then every rate is as likely as another.
    pub fn correct(&self, observed: &Observed) -> Result<Corrected, Uncorrectable> {
        let (fails, passes) = (self.sensitivity().of, self.specificity().of);
        let youden = self.youden().ok_or(Uncorrectable::Labels { fails, passes })?;
        if youden.holds(0.0) {
            return Err(Uncorrectable::Chance(youden));
        }
        if youden.high < 0.0 {
            return Err(Uncorrectable::Reversed(youden));
        }
        let specificity = self.cleared as f64 / passes as f64;
        let unbounded = (observed.rate + specificity - 1.0) / youden.value;
        let (low, high) = interval(observed, (self.caught, fails), (self.cleared, passes)).ok_or(Uncorrectable::Chance(youden))?;
        let value = unbounded.clamp(0.0, 1.0);
        // The interval is around a shrunk estimate; at the edges that can leave the plain one just outside.
        Ok(Corrected { rate: Estimate { value, low: low.clamp(0.0, value), high: high.clamp(value, 1.0) }, unbounded })
    }
}

/// Both ends, which may lie outside 0 and 1: of Lang and Reiczigel's interval, widened to hold Fieller's. Shares are `(hits, of)`. `None` where the
/// judge, shrunk as the method does, is a coin.
///
/// Lang and Reiczigel divide by sensitivity + specificity − 1 as if it were known better than it is of a weak judge with few labels: their interval
/// then holds the truth in 88 % of cases (METHOD.md). Fieller's, all rates p for which rate − p·Se − (1 − p)(1 − Sp) may be 0, holds it in 95 % there,
/// and mostly lies within theirs elsewhere.
fn interval(observed: &Observed, (caught, fails): (u64, u64), (cleared, passes): (u64, u64)) -> Option<(f64, f64)> {
    let z2 = Z * Z;
    // One more hit and one more miss for sensitivity and specificity; z²/2 of each for the rate (Agresti and Coull).
    let (n, n_se, n_sp) = (observed.effective + z2, fails as f64 + 2.0, passes as f64 + 2.0);
    let rate = (observed.effective * observed.rate + z2 / 2.0) / n;
    let (se, sp) = ((caught as f64 + 1.0) / n_se, (cleared as f64 + 1.0) / n_sp);
    let youden = se + sp - 1.0;
    if youden <= 0.0 {
        return None;
    }
    let (var_rate, var_se, var_sp) = (rate * (1.0 - rate) / n, se * (1.0 - se) / n_se, sp * (1.0 - sp) / n_sp);
    let excess = rate + sp - 1.0;
    // Variances are of a rate that can be.
    let p = (excess / youden).clamp(0.0, 1.0);
    let shift = 2.0 * z2 * (p * var_se - (1.0 - p) * var_sp);
    let half = Z * (var_rate + p * p * var_se + (1.0 - p).powi(2) * var_sp).sqrt() / youden;
    let (low, high) = (p + shift - half, p + shift + half);
    // (excess − p·youden)² ≤ z² (var_rate + p² var_se + (1 − p)² var_sp), solved for p.
    let a = youden * youden - z2 * (var_se + var_sp);
    if a <= 0.0 {
        return Some((0.0, 1.0));
    }
    let centre = (excess * youden - z2 * var_sp) / a;
    // Not below 0 as long as a is above it, but for rounding: p = excess / youden solves the inequality.
    let spread = (centre * centre - (excess * excess - z2 * (var_rate + var_sp)) / a).max(0.0).sqrt();
    Some((low.min(centre - spread), high.max(centre + spread)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(caught: u64, missed: u64, cleared: u64, accused: u64) -> Calibration {
        Calibration { caught, missed, cleared, accused, ..Calibration::default() }
    }

    fn observed(fails: u64, judged: u64) -> Observed {
        Observed::counted(fails, judged).expect("some calls")
    }

    #[test]
    fn the_estimate_is_rogan_and_gladens_and_the_interval_is_wider_than_the_raw_one() {
        let corrected = calibration(90, 10, 80, 20).correct(&observed(340, 1_000)).expect("better than chance");
        assert!((corrected.rate.value - 0.2).abs() < 1e-12, "{corrected:?}");
        let raw = observed(340, 1_000).raw();
        assert!(corrected.rate.high - corrected.rate.low > 2.0 * (raw.high - raw.low), "{corrected:?}");
    }

    #[test]
    fn a_judge_without_error_leaves_the_rate_as_it_is() {
        let corrected = calibration(5_000_000, 0, 5_000_000, 0).correct(&observed(100, 1_000)).expect("better than chance").rate;
        let raw = observed(100, 1_000).raw();
        assert!((corrected.value - 0.1).abs() < 1e-12 && (corrected.low - raw.low).abs() < 2e-3 && (corrected.high - raw.high).abs() < 2e-3);
    }

    #[test]
    fn a_rate_that_cannot_be_is_held_within_0_and_1_and_said() {
        let below = calibration(90, 10, 80, 20).correct(&observed(10, 1_000)).expect("better than chance");
        assert_eq!((below.rate.value, below.rate.low), (0.0, 0.0));
        assert!(below.unbounded < -0.2 && below.rate.high >= 0.0, "{below:?}");
        let above = calibration(90, 10, 80, 20).correct(&observed(1_000, 1_000)).expect("better than chance");
        assert_eq!((above.rate.value, above.rate.high), (1.0, 1.0));
    }

    #[test]
    fn a_judge_that_may_be_a_coin_is_refused() {
        for (judge, expected) in [
            (calibration(50, 50, 50, 50), "chance"),
            (calibration(3, 0, 2, 1), "chance"),
            (calibration(60, 40, 48, 52), "chance"),
            (calibration(10, 90, 10, 90), "reversed"),
            (calibration(10, 0, 0, 0), "labels"),
            (calibration(0, 0, 10, 0), "labels"),
        ] {
            let refused = match judge.correct(&observed(1, 10)) {
                Err(Uncorrectable::Chance(_)) => "chance",
                Err(Uncorrectable::Reversed(_)) => "reversed",
                Err(Uncorrectable::Labels { .. }) => "labels",
                Ok(_) => "corrected",
            };
            assert_eq!(refused, expected, "{judge:?}");
        }
        let said = calibration(50, 50, 50, 50).correct(&observed(1, 10)).expect_err("a coin").to_string();
        assert!(said.contains("is 0.00, 95 % -0.14 to 0.14") && said.contains("\nhint: "), "{said}");
    }

    #[test]
    fn every_small_table_is_refused_or_gives_an_interval_that_holds_its_rate() {
        for cells in 0..9_u64.pow(4) {
            let [caught, missed, cleared, accused] = [1, 9, 81, 729].map(|place| cells / place % 9);
            for fails in [0, 3, 10] {
                if let Ok(Corrected { rate, .. }) = calibration(caught, missed, cleared, accused).correct(&observed(fails, 10)) {
                    assert!(0.0 <= rate.low && rate.low <= rate.value && rate.value <= rate.high && rate.high <= 1.0, "{cells} {fails}: {rate:?}");
                }
            }
        }
    }

    #[test]
    fn equal_weights_are_no_weights() {
        let mut sums = Sums::default();
        for index in 0..100 {
            sums.add(7.0, index < 30);
        }
        let weighted = Observed::weighted(&sums).expect("some calls");
        let counted = observed(30, 100);
        assert!((weighted.rate - counted.rate).abs() < 1e-12 && (weighted.effective - 100.0).abs() < 1e-9, "{weighted:?}");
    }

    #[test]
    fn unequal_weights_know_less_and_impossible_sums_nothing() {
        let mut sums = Sums::default();
        for index in 0..100 {
            sums.add(if index % 2 == 0 { 1.0 } else { 9.0 }, index % 10 < 3);
        }
        let weighted = Observed::weighted(&sums).expect("some calls");
        assert!(weighted.effective < 65.0, "{weighted:?}");
        assert_eq!(Observed::weighted(&Sums::default()), None);
        assert_eq!(Observed::weighted(&Sums { weight_failed: 2.0, ..Sums { weight: 1.0, square: 1.0, ..Sums::default() } }), None);
        assert_eq!(Observed::weighted(&Sums { weight: f64::NAN, ..Sums::default() }), None);
        assert_eq!(Observed::counted(2, 1), None);
        assert_eq!(Observed::counted(0, 0), None);
    }
}
