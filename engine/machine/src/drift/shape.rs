//! How values of a measure are distributed, against how they usually are: counts in bins cut at the usual quantiles, and tilts of those bins.
//!
//! The tilts are a fixed family: the whole distribution moves, spreads, or grows a tail. Each sums to 1 over the bins, so the evidence is the
//! multinomial log likelihood ratio, and a rate is the case of two bins.

use super::logit;
use serde::{Deserialize, Serialize};

/// Levels of the quantiles at which bins are cut.
pub const LEVELS: [f64; 13] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
pub const BINS: usize = LEVELS.len() + 1;
pub const TILTS: usize = 27;
/// Location, in normal scores; each up and down.
const MOVES: [f64; 5] = [0.1, 0.2, 0.4, 0.8, 1.5];
/// Spread; each wider and narrower.
const SPREADS: [f64; 2] = [0.15, 0.35];
/// Odds of the bins from this one up: above the usual 90th, 95th and 99th percentile.
const UPPER: [(usize, f64); 7] = [(11, 1.5), (11, 3.0), (12, 2.0), (12, 5.0), (13, 2.2), (13, 5.0), (13, 15.0)];
/// Odds of the bins below this one: below the usual 10th, 5th and 1st percentile.
const LOWER: [(usize, f64); 6] = [(3, 1.5), (3, 3.0), (2, 2.0), (2, 5.0), (1, 3.0), (1, 10.0)];

/// The tilts of one distribution over the bins, ready to weigh counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tilts {
    /// Log ratios by tilt and bin.
    log_ratios: Vec<[f64; BINS]>,
    /// What a call costs, because the usual distribution is known from `known` calls only.
    cost: Vec<f64>,
    /// By tilt: the bin from which counts tell it best as "more calls above than usual" or fewer, the usual share there, and the tilt's distance from
    /// it in log-odds.
    edges: Vec<(usize, f64, f64)>,
}

impl Tilts {
    /// Of the usual `shares` (positive, sum 1), estimated from `known` calls, guarded by `errors` standard errors.
    pub fn new(shares: &[f64; BINS], known: f64, errors: f64) -> Self {
        let mut below = 0.0;
        let scores: [f64; BINS] = std::array::from_fn(|b| {
            let middle = below + shares[b] / 2.0;
            below += shares[b];
            normal_score(middle)
        });
        let mut ratios: Vec<[f64; BINS]> = Vec::with_capacity(TILTS);
        for d in MOVES {
            ratios.push(scores.map(|z| libm::exp(d * z)));
            ratios.push(scores.map(|z| libm::exp(-d * z)));
        }
        for k in SPREADS {
            ratios.push(scores.map(|z| libm::exp(k * (z * z - 1.0) / 2.0)));
            ratios.push(scores.map(|z| libm::exp(-k * (z * z - 1.0) / 2.0)));
        }
        ratios.extend(UPPER.map(|(from, odds)| std::array::from_fn(|b| if b >= from { odds } else { 1.0 })));
        ratios.extend(LOWER.map(|(to, odds)| std::array::from_fn(|b| if b < to { odds } else { 1.0 })));
        let mut tilts = Self { log_ratios: Vec::new(), cost: Vec::new(), edges: Vec::new() };
        for (k, mut ratio) in ratios.into_iter().enumerate() {
            let sum: f64 = ratio.iter().zip(shares).map(|(r, p)| r * p).sum();
            ratio.iter_mut().for_each(|r| *r /= sum);
            let spread: f64 = ratio.iter().zip(shares).map(|(r, p)| p * (r - 1.0) * (r - 1.0)).sum();
            tilts.cost.push(libm::log1p(errors * libm::sqrt(spread / known)));
            // A spread shows at both ends; the upper one is what people ask about.
            let spreads = (2 * MOVES.len()..2 * (MOVES.len() + SPREADS.len())).contains(&k);
            tilts.edges.push(edge(shares, &ratio, if spreads { BINS / 2 } else { 1 }));
            tilts.log_ratios.push(ratio.map(libm::log));
        }
        tilts
    }

    /// Evidence of one tick's counts for tilt `k`.
    pub fn evidence(&self, k: usize, counts: &[f64; BINS]) -> f64 {
        let calls: f64 = counts.iter().sum();
        counts.iter().zip(&self.log_ratios[k]).map(|(count, ratio)| count * ratio).sum::<f64>() - calls * self.cost[k]
    }

    /// The first bin of the calls that tell tilt `k`, their usual share, and its distance from that in log-odds.
    pub fn edge(&self, k: usize) -> (usize, f64, f64) {
        self.edges[k]
    }

    /// Of all tilts, in log-odds of the calls above their edge.
    pub fn distances(&self) -> [f64; TILTS] {
        std::array::from_fn(|k| self.edges[k].2)
    }
}

/// The edge, from bin `first` on, where two bins tell the tilt from the usual best, by Kullback-Leibler divergence.
fn edge(shares: &[f64; BINS], ratio: &[f64; BINS], first: usize) -> (usize, f64, f64) {
    let mut best = (first, 0.5, 0.0);
    let mut most = -1.0;
    for from in first..BINS {
        let usual: f64 = shares[from..].iter().sum();
        let tilted: f64 = shares[from..].iter().zip(&ratio[from..]).map(|(p, r)| p * r).sum();
        if !(usual > 0.0 && usual < 1.0 && tilted > 0.0 && tilted < 1.0) {
            continue;
        }
        let divergence = tilted * libm::log(tilted / usual) + (1.0 - tilted) * libm::log((1.0 - tilted) / (1.0 - usual));
        if divergence > most {
            (most, best) = (divergence, (from, usual, logit(tilted) - logit(usual)));
        }
    }
    best
}

/// The standard normal quantile, by Newton's method on erfc: within 1e-12 for 1e-6 < u < 1 - 1e-6, the ends of which further values take.
pub fn normal_score(u: f64) -> f64 {
    let u = u.clamp(1e-6, 1.0 - 1e-6);
    let mut z = 0.0;
    for _ in 0..60 {
        let below = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
        let density = libm::exp(-0.5 * z * z) / libm::sqrt(std::f64::consts::TAU);
        // A step of at most one keeps Newton from leaving where the density is flat.
        let step = ((u - below) / density).clamp(-1.0, 1.0);
        z += step;
        if step.abs() < 1e-14 {
            break;
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_scores_are_the_tables() {
        for (u, z) in [(0.5, 0.0), (0.975, 1.959_963_984_540_054), (0.005, -2.575_829_303_548_901), (0.999, 3.090_232_306_167_813_5)] {
            assert!((normal_score(u) - z).abs() < 1e-10, "{u}: {}", normal_score(u));
        }
    }

    #[test]
    fn every_tilt_is_a_distribution_and_points_where_it_leads() {
        let shares: [f64; BINS] = std::array::from_fn(|b| LEVELS.get(b).unwrap_or(&1.0) - b.checked_sub(1).map_or(0.0, |b| LEVELS[b]));
        let tilts = Tilts::new(&shares, 1e5, 1.0);
        assert_eq!(tilts.log_ratios.len(), TILTS);
        for ratios in &tilts.log_ratios {
            let sum: f64 = ratios.iter().zip(shares).map(|(r, p)| p * r.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        }
        let up: Vec<_> = tilts.distances().iter().map(|d| *d > 0.0).collect();
        let expected: Vec<_> = (0..14).map(|k| k % 2 == 0).chain([true; 7]).chain([false; 6]).collect();
        assert_eq!(up, expected);
    }
}
