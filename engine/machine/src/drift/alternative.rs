//! The changes that are looked for, and what is known about each: a handful of factors cover all sizes, because a detector tuned for one size is
//! still within a few percent of the best half an octave away.

use serde::{Deserialize, Serialize};

/// Odds ratios of a rate's alternatives: eight ups and four downs.
pub const ODDS: [f64; 12] = [1.12, 1.3, 1.6, 2.2, 3.5, 6.0, 12.0, 30.0, 1.0 / 1.3, 1.0 / 1.8, 1.0 / 3.0, 1.0 / 8.0];
/// Their weights where a rise is what hurts: nine tenths up, most for ×1.6 to ×6.
pub const BAD_WHEN_UP: [f64; 12] = [0.07, 0.12, 0.18, 0.19, 0.15, 0.10, 0.06, 0.03, 0.025, 0.025, 0.025, 0.025];
/// Factors of a volume's alternatives, from a drop-out to a flood; equal weights.
pub const FACTORS: [f64; 6] = [0.02, 0.3, 0.6, 1.6, 3.0, 10.0];

/// Weights where every alternative matters as much.
pub const fn uniform<const N: usize>() -> [f64; N] {
    [1.0 / N as f64; N]
}

/// What is known about one alternative: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Shiryaev-Roberts sum: likelihood ratios of "it began at tick j", summed over all j. It never returns to 0, so it cannot date a change.
    pub r: f64,
    /// Log evidence since the change would have begun, by the companion CUSUM: it dates and sizes.
    pub s: f32,
    /// Trials and events since then.
    pub n: f32,
    pub x: f32,
    /// The tick at which it would have begun.
    pub onset: u32,
}

impl Alternative {
    /// One tick's log likelihood ratio, of `n` trials with `x` events; `ratio` is the exponential of `llr`.
    pub fn add(&mut self, at: u32, n: f64, x: f64, llr: f64, ratio: f64) {
        if self.s <= 0.0 {
            (self.s, self.n, self.x, self.onset) = (0.0, 0.0, 0.0, at);
        }
        self.r = ((1.0 + self.r) * ratio).min(1e200);
        self.s += llr as f32;
        self.n += n as f32;
        self.x += x as f32;
    }
}
