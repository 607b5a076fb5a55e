//! What each call's chance of being bad was before: one odds factor for each value of each dimension, learned from the reference.
//!
//! It is there so that calls which were always bad explain nothing, and so that more calls of a bad kind are told from calls that became worse. What two
//! values do together beyond their factors is not in it; [`crate::across`] corrects pairs by what the reference shows of them.

use crate::calls::{Cells, Table};

/// At most twelve rounds over all dimensions; fewer once no factor that matters moves by more than 2 %, which mostly takes five.
const ROUNDS_MAX: usize = 12;
const STILL: f64 = 0.02;
/// Bad calls, seen or expected, from which on a value matters for that.
const MATTERS: f64 = 20.0;
/// Bad calls' worth of belief that a value is like the others, before the dimension has shown how much its values differ.
const PRIOR: f64 = 4.0;
/// How much of the evidence on how much values differ that belief weighs, in squared expected bad calls.
const PRIOR_WEIGHT: f64 = 50.0;

#[derive(Debug)]
pub(crate) struct Base {
    /// By cell: the odds of being bad if nothing had changed.
    pub now: Vec<f64>,
    pub reference: Vec<f64>,
    /// By dimension: how alike its values are, in bad calls; the shape of the gamma distribution of their factors.
    pub alike: Vec<f64>,
}

impl Base {
    /// Cost: rounds × dimensions × cells of the reference.
    pub fn learn(table: &Table) -> Self {
        let cells = &table.reference;
        let (calls, bad): (f64, f64) = (cells.calls.iter().sum(), cells.bad.iter().sum());
        let rate = (bad + 0.5) / (calls + 1.0);
        let mut odds = vec![rate / (1.0 - rate); cells.len()];
        let mut alike = vec![PRIOR; table.dimensions.len()];
        let mut logs: Vec<Vec<f64>> = table.dimensions.iter().map(|dimension| vec![0.0; dimension.values.len()]).collect();
        for round in 0..ROUNDS_MAX {
            let mut most = 0.0f64;
            for (dimension, logs) in logs.iter_mut().enumerate() {
                let sums = Sums::of(cells, &odds, dimension, logs.len());
                if round == 1 {
                    alike[dimension] = sums.alike(logs);
                }
                let (moved, by) = sums.step(logs, alike[dimension]);
                most = most.max(by);
                let codes = &cells.codes[dimension];
                odds.iter_mut().zip(codes).for_each(|(odds, &code)| *odds *= moved[code as usize]);
            }
            if round > 1 && most < STILL {
                break;
            }
        }
        let factors: Vec<Vec<f64>> = logs.iter().zip(&cells.codes).map(|(logs, codes)| factors(logs, codes, &cells.calls)).collect();
        let mut now = vec![rate / (1.0 - rate); table.now.len()];
        for (codes, factors) in table.now.codes.iter().zip(&factors) {
            now.iter_mut().zip(codes).for_each(|(odds, &code)| *odds *= factors[code as usize]);
        }
        Self { now, reference: odds, alike }
    }
}

/// Values' factors; one that the reference does not have is like the mean of its dimension's calls.
fn factors(logs: &[f64], codes: &[u32], calls: &[f64]) -> Vec<f64> {
    let mut factors: Vec<f64> = logs.iter().map(|&log| libm::exp(log)).collect();
    let mut seen = vec![false; logs.len()];
    let (mut sum, mut of) = (0.0, 0.0);
    for (&code, calls) in codes.iter().zip(calls) {
        seen[code as usize] = true;
        sum += calls * factors[code as usize];
        of += calls;
    }
    factors.iter_mut().zip(seen).filter(|(_, seen)| !seen).for_each(|(factor, _)| *factor = sum / of);
    factors
}

pub(crate) fn chance(odds: f64) -> f64 {
    odds / (1.0 + odds)
}

/// By value of one dimension.
struct Sums {
    bad: Vec<f64>,
    expected: Vec<f64>,
    calls: Vec<f64>,
}

impl Sums {
    fn of(cells: &Cells, odds: &[f64], dimension: usize, values: usize) -> Self {
        let mut sums = Self { bad: vec![0.0; values], expected: vec![0.0; values], calls: vec![0.0; values] };
        for (at, &code) in cells.codes[dimension].iter().enumerate() {
            let code = code as usize;
            sums.bad[code] += cells.bad[at];
            sums.expected[code] += cells.calls[at] * chance(odds[at]);
            sums.calls[code] += cells.calls[at];
        }
        sums
    }

    /// One over the variance of values' factors, by moments: the squared distances from what is expected without a value's own factor, less what chance
    /// gives. Between 0.3 (factors of a tenth to three times are common) and 1,000 (all alike).
    fn alike(&self, logs: &[f64]) -> f64 {
        let (mut above, mut of) = (PRIOR_WEIGHT / PRIOR, PRIOR_WEIGHT);
        for ((&bad, &expected), &log) in self.bad.iter().zip(&self.expected).zip(logs) {
            let without = expected * libm::exp(-log);
            // A value weighs at most what 30 expected bad calls weigh, so that a large one does not speak for all.
            let weight = (30.0 / without.max(30.0)) * (30.0 / without.max(30.0));
            above += weight * ((bad - without) * (bad - without) - without);
            of += weight * without * without;
        }
        (of / above.max(of / 1_000.0)).clamp(0.3, 1_000.0)
    }

    /// Moves each value towards the factor at which expected and seen agree, as far as the belief lets it; gives what odds are multiplied by, and
    /// the largest move. Towards the root of `bad − expected + alike · (1 − factor)`, by the difference of the two rates' log odds, which never goes too
    /// far: calls that differ in their odds make it too small (Gail, Wieand, Piantadosi 1984).
    fn step(&self, logs: &mut [f64], alike: f64) -> (Vec<f64>, f64) {
        let mut most = 0.0f64;
        let mut moved = vec![1.0; logs.len()];
        for (code, log) in logs.iter_mut().enumerate() {
            let (bad, expected, calls) = (self.bad[code], self.expected[code], self.calls[code]);
            if expected <= 0.0 {
                continue;
            }
            let ratio = (bad + alike) / (expected + alike * libm::exp(*log));
            let good = (calls - bad + 0.5) / (calls - expected + 0.5);
            let step = libm::log(ratio / good).clamp(-3.0, 3.0);
            let to = (*log + step).clamp(-12.0, 12.0);
            moved[code] = libm::exp(to - *log);
            if bad + expected > MATTERS {
                most = most.max((to - *log).abs());
            }
            *log = to;
        }
        (moved, most)
    }
}
