//! One tick's log likelihood ratios: an alternative against the nearest rate that is still expected.
//!
//! All are natural logs. Each has expectation of its exponential at most 1 while the truth is expected, which is all that the promise needs;
//! dividing by a dispersion of at least 1 and capping only lower it.

use super::alternative::{FACTORS, ODDS};
use super::{expit, logit};
use serde::{Deserialize, Serialize};

/// An alternative this close to the edge of what is expected says nothing worth its work.
const INDIFFERENT: f64 = 0.02;

/// What is expected of a rate: log-odds below which it is not too high, and above which it is not too low.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateNull {
    /// `None`: it cannot be too high.
    pub up: Option<f64>,
    /// `None`: it cannot be too low.
    pub down: Option<f64>,
    /// How far to either side the truth may lie, in log-odds: one standard error, and what the user wants ignored.
    pub guard: f64,
}

/// Coefficients of the binomial likelihood ratio: `events · d + calls · b` for each alternative. `d` follows from the odds and the guard, so only `b`
/// is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateTest {
    null: RateNull,
    b: [f64; ODDS.len()],
}

impl RateTest {
    /// Cost: 4 exponentials per alternative; made anew once a minute.
    pub fn new(null: RateNull) -> Self {
        let mut b = [f64::NAN; ODDS.len()];
        for (k, b) in b.iter_mut().enumerate() {
            if let Some((q, h)) = rates(&null, k) {
                *b = libm::log((1.0 - q) / (1.0 - h));
            }
        }
        Self { null, b }
    }

    pub fn null(&self) -> &RateNull {
        &self.null
    }

    /// Binomial evidence for alternative `k`; `None` where it is not looked for. Cost: two multiplications.
    pub fn binomial(&self, k: usize, calls: f64, events: f64) -> Option<f64> {
        let b = self.b[k];
        (!b.is_nan()).then(|| events * (LN_ODDS[k] - sign(k) * self.null.guard) + calls * b)
    }
}

/// Beta-binomial evidence: calls of one tick agree with each other by a correlation over 0. What does not depend on the tick is kept, for many ticks
/// with one range.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlated {
    null: RateNull,
    correlation: f64,
    /// The sum of both parameters of the beta distribution, and the first of each alternative; `NAN` where it is not looked for.
    c: f64,
    alternatives: [Beta; ODDS.len()],
    /// The expected rates nearest to what is too high, and to what is too low.
    expected: [Beta; 2],
}

/// A beta distribution of rates: its parameters, and the logs of their Gammas.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Beta {
    a: f64,
    b: f64,
    gammas: f64,
}

impl Beta {
    fn new(rate: f64, c: f64) -> Self {
        let (a, b) = (rate * c, (1.0 - rate) * c);
        Self { a, b, gammas: libm::lgamma(a) + libm::lgamma(b) }
    }

    /// Γ(x + a) Γ(misses + b) / (Γ(a) Γ(b)), of few calls.
    fn product(&self, events: u64, misses: u64) -> f64 {
        let of = |from: f64, steps: u64| (0..steps).fold(1.0, |product, step| product * (from + step as f64));
        of(self.a, events) * of(self.b, misses)
    }

    fn log(&self, events: f64, misses: f64) -> f64 {
        libm::lgamma(events + self.a) + libm::lgamma(misses + self.b) - self.gammas
    }
}

impl Correlated {
    /// Cost: 28 Gamma functions and as many exponentials.
    pub fn new(null: RateNull, correlation: f64) -> Self {
        let c = (1.0 - correlation) / correlation;
        let none = Beta { a: f64::NAN, b: f64::NAN, gammas: f64::NAN };
        let alternatives = std::array::from_fn(|k| rates(&null, k).map_or(none, |(q, _)| Beta::new(q, c)));
        let edge = |base: Option<f64>, sign: f64| base.map_or(none, |base| Beta::new(expit(base + sign * null.guard), c));
        Self { null, correlation, c, alternatives, expected: [edge(null.up, 1.0), edge(null.down, -1.0)] }
    }

    /// Whether it was made for this.
    pub fn is_of(&self, null: &RateNull, correlation: f64) -> bool {
        self.null == *null && self.correlation == correlation
    }

    /// Of every alternative; `NAN` where it is not looked for. Cost: 28 Gamma functions, or for up to a few dozen calls a multiplication per call and
    /// alternative.
    pub fn evidence(&self, calls: u64, events: u64) -> [f64; ODDS.len()] {
        let misses = calls - events;
        if calls <= products_max(self.c) {
            let expected = self.expected.map(|beta| beta.product(events, misses));
            return std::array::from_fn(|k| libm::log(self.alternatives[k].product(events, misses) / expected[usize::from(sign(k) < 0.0)]));
        }
        let (x, m) = (events as f64, misses as f64);
        let expected = self.expected.map(|beta| beta.log(x, m));
        std::array::from_fn(|k| {
            let alternative = &self.alternatives[k];
            if alternative.a.is_nan() { f64::NAN } else { alternative.log(x, m) - expected[usize::from(sign(k) < 0.0)] }
        })
    }
}

/// Calls whose Gamma ratios may be products: (c + 32)^32 stays within a double for every c that a correlation over 1e-6 gives.
fn products_max(c: f64) -> u64 {
    if c < 1e6 { 32 } else { 0 }
}

/// ln of [`ODDS`]; a test holds them together.
pub const LN_ODDS: [f64; ODDS.len()] = [
    0.113_328_685_307_003_27,
    0.262_364_264_467_491_06,
    0.470_003_629_245_735_6,
    0.788_457_360_364_270_2,
    1.252_762_968_495_368,
    1.791_759_469_228_055,
    2.484_906_649_788_000_4,
    3.401_197_381_662_155_5,
    -0.262_364_264_467_491_1,
    -0.587_786_664_902_119,
    -1.098_612_288_668_109_8,
    -2.079_441_541_679_835_7,
];

fn sign(k: usize) -> f64 {
    if LN_ODDS[k] > 0.0 { 1.0 } else { -1.0 }
}

/// The alternative's rate, and the expected rate nearest to it.
fn rates(null: &RateNull, k: usize) -> Option<(f64, f64)> {
    let sign = sign(k);
    let base = if sign > 0.0 { null.up } else { null.down }?;
    let (q, h) = (base + LN_ODDS[k], base + sign * null.guard);
    (sign * (q - h) > INDIFFERENT).then(|| (expit(q), expit(h)))
}

/// Evidence that calls come at [`FACTORS`]`[k]` times `expected` per tick: Poisson where `shape` is infinite, negative binomial (variance
/// mean + mean²/shape) otherwise. `guard` is how far to either side, in logs, the mean may lie.
pub fn volume(k: usize, calls: f64, expected: f64, shape: f64, guard: f64) -> Option<f64> {
    let factor = libm::log(FACTORS[k]);
    let edge = factor.signum() * guard;
    (factor.signum() * (factor - edge) > INDIFFERENT).then(|| counts(calls, expected * libm::exp(factor), expected * libm::exp(edge), shape))
}

/// ln of the ratio of two counts' likelihoods, with means `mean` and `null`.
pub(super) fn counts(calls: f64, mean: f64, null: f64, shape: f64) -> f64 {
    if shape.is_infinite() {
        calls * libm::log(mean / null) - (mean - null)
    } else {
        calls * libm::log(mean / null) - (calls + shape) * libm::log((mean + shape) / (null + shape))
    }
}

/// Evidence of weighted yes/no opinions for alternative `k`: weight (1 on average), opinions, and those that are yes. `spread`: mean square of the
/// weights. With equal weights it is the binomial ratio; with others each opinion is a bet whose stake its weight scales ([`Bets`]).
pub fn bets(null: &RateNull, k: usize, opinions: &[(f64, f64, f64)], spread: f64) -> Option<f64> {
    let (q, h) = rates(null, k)?;
    let stake = (q - h) / (spread * h * (1.0 - h));
    let one = |(weight, opinions, yes): &(f64, f64, f64)| {
        // So that no single opinion takes more than nine tenths of the capital.
        let stake = (stake * weight).clamp(-0.9 / (1.0 - h), 0.9 / h);
        yes * libm::log(1.0 + stake * (1.0 - h)) + (opinions - yes) * libm::log(1.0 - stake * h)
    };
    Some(opinions.iter().map(one).sum())
}

/// Bets that a weighted mean of scores in 0..=1 is not `mean`: exact for any sampling whose weights were fixed before the score was known.
///
/// Source: Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 86 (2024). With equal weights and yes/no scores
/// this is the binomial form.
#[derive(Clone, Debug, PartialEq)]
pub struct Bets {
    mean: f64,
    /// By alternative.
    stakes: [f64; ODDS.len()],
}

impl Bets {
    /// `mean`: what is expected, 0 < mean < 1. `weight_max`: bound of the weights (mean 1). `variance`: E[w² (y - mean)²] while all is well.
    pub fn new(mean: f64, weight_max: f64, variance: f64) -> Self {
        let l = logit(mean);
        let stake = |ln_odds: &f64| {
            let gap = expit(l + ln_odds) - mean;
            let stake = gap / (variance + 0.5 * gap.abs() * weight_max * (1.0 - mean));
            // So that no single score takes more than nine tenths of the capital.
            stake.clamp(-0.9 / (weight_max * (1.0 - mean)), 0.9 / (weight_max * mean))
        };
        Self { mean, stakes: std::array::from_fn(|k| stake(&LN_ODDS[k])) }
    }

    /// Evidence of one tick's scores, each with its weight.
    pub fn evidence(&self, k: usize, scores: &[(f64, f64)]) -> f64 {
        scores.iter().map(|(weight, score)| libm::log(1.0 + self.stakes[k] * weight * (score - self.mean))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_of_the_odds_are_theirs() {
        for (ln, odds) in LN_ODDS.iter().zip(ODDS) {
            assert!((ln - odds.ln()).abs() < 1e-15, "{odds}: {ln} is not {}", odds.ln());
        }
    }

    #[test]
    fn correlated_evidence_is_the_beta_binomial_ratio() {
        let null = RateNull { up: Some(logit(0.02)), down: Some(logit(0.018)), guard: 0.2 };
        let whole = |x: f64, misses: f64, p: f64, c: f64| {
            libm::lgamma(x + p * c) - libm::lgamma(p * c) + libm::lgamma(misses + (1.0 - p) * c) - libm::lgamma((1.0 - p) * c)
        };
        for correlation in [1e-5, 0.001, 0.02, 0.3] {
            let (correlated, c) = (Correlated::new(null, correlation), (1.0 - correlation) / correlation);
            // Up to 32 calls they are products.
            for (calls, events) in [(1, 0), (1, 1), (10, 0), (10, 3), (32, 0), (32, 3), (32, 32), (33, 0), (100, 7), (1000, 20)] {
                let (x, misses) = (events as f64, (calls - events) as f64);
                for (k, got) in correlated.evidence(calls, events).into_iter().enumerate() {
                    let Some((q, h)) = rates(&null, k) else {
                        assert!(got.is_nan(), "{k} is not looked for");
                        continue;
                    };
                    let expected = whole(x, misses, q, c) - whole(x, misses, h, c);
                    assert!((got - expected).abs() < 1e-8 * expected.abs().max(1.0), "{correlation} {calls} {events} {k}: {got} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn opinions_of_equal_weight_are_the_binomial_ratio() {
        let null = RateNull { up: Some(logit(0.1)), down: Some(logit(0.1)), guard: 0.1 };
        let test = RateTest::new(null);
        for k in (0..ODDS.len()).filter(|k| ODDS[*k] < 8.0) {
            let (got, expected) = (bets(&null, k, &[(1.0, 40.0, 7.0)], 1.0), test.binomial(k, 40.0, 7.0));
            let equal = |(got, expected): (f64, f64)| (got - expected).abs() < 1e-9;
            assert!(got.is_some() == expected.is_some() && got.zip(expected).is_none_or(equal), "{k}: {got:?} is not {expected:?}");
        }
    }

    #[test]
    fn equal_weights_and_the_matching_stake_are_the_binomial_form() {
        // λ = (q - p) / (p (1 - p)) makes a bet on yes/no scores the likelihood ratio of q against p.
        let (p, q) = (0.1, 0.2);
        let bets = Bets { mean: p, stakes: [(q - p) / (p * (1.0 - p)); ODDS.len()] };
        let scores = [(1.0, 1.0), (1.0, 0.0), (1.0, 0.0)];
        let expected = f64::ln(q / p) + 2.0 * f64::ln((1.0 - q) / (1.0 - p));
        assert!((bets.evidence(0, &scores) - expected).abs() < 1e-12);
    }
}
