//! How much more a series varies than independent calls would: within a tick, and over minutes and hours.
//!
//! Calls of one tick may agree with each other (one bad node, one user's loop): that makes the likelihood beta-binomial, or negative binomial for
//! volumes. What agrees over longer times cannot be part of a tick's likelihood; it divides the evidence. Both are measured on the residuals of the
//! learned range, in blocks of a tick, ten minutes and an hour; hours around an incident are dropped.

use super::baseline::HOUR;
use serde::{Deserialize, Serialize};

/// Measurements count half after a week.
const KEPT_PER_HOUR: f32 = 0.995_882_6;
/// Ticks of the shorter block.
const BLOCK: u32 = 60;
/// An excess is believed when it is so many standard errors over what independent calls would show by chance ...
const BELIEVED_ERRORS: f64 = 2.5;
/// ... and then by a quarter more: bursts of a few minutes look smaller in blocks than they are.
const MARGIN: f64 = 1.25;

/// Sums of squared residuals and of the variances that independent calls would have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    kept: Sums,
    open: Sums,
    /// Residuals of the open ten minutes and of the open hour.
    short: f32,
    long: f32,
    block: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    variance: f32,
    /// Variance times how often a second call of the same tick meets a first one: what correlation multiplies.
    pairs: f32,
    tick: f32,
    short: f32,
    long: f32,
    ticks: f32,
    hours: f32,
}

/// What the likelihood needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// Of calls of one tick, 0..1. For volumes: 1/shape.
    pub correlation: f64,
    /// At least 1; divides the evidence.
    pub phi: f64,
}

impl Dispersion {
    /// One tick's residual, its variance if calls were independent, and `pairs`: the variance that a correlation of 1 would add.
    pub fn add(&mut self, at: u32, residual: f64, variance: f64, pairs: f64) {
        let block = at / BLOCK;
        if block != self.block {
            self.open.short += self.short * self.short;
            (self.short, self.block) = (0.0, block);
        }
        let residual = residual as f32;
        self.open.variance += variance as f32;
        self.open.pairs += pairs as f32;
        self.open.tick += residual * residual;
        self.open.ticks += 1.0;
        self.short += residual;
        self.long += residual;
    }

    /// An hour is over; `keep` is whether it is believed.
    pub fn close_hour(&mut self, hours: u32, keep: bool) {
        let mut open = std::mem::take(&mut self.open);
        open.short += self.short * self.short;
        open.long = self.long * self.long;
        open.hours = 1.0;
        (self.short, self.long) = (0.0, 0.0);
        let kept = libm::powf(KEPT_PER_HOUR, hours as f32);
        let add = |mine: &mut f32, new: f32| *mine = *mine * kept + if keep { new } else { 0.0 };
        let sums = &mut self.kept;
        add(&mut sums.variance, open.variance);
        add(&mut sums.pairs, open.pairs);
        add(&mut sums.tick, open.tick);
        add(&mut sums.short, open.short);
        add(&mut sums.long, open.long);
        add(&mut sums.ticks, open.ticks);
        add(&mut sums.hours, open.hours);
    }

    pub fn excess(&self) -> Excess {
        let sums = &self.kept;
        let variance = f64::from(sums.variance);
        if variance <= 0.0 {
            return Excess { correlation: 0.0, phi: 1.0 };
        }
        // A squared residual of a Poisson count of variance v has variance 2 + 1/v in units of v².
        let believed = |squares: f32, blocks: f64| {
            let ratio = f64::from(squares) / variance;
            let error = libm::sqrt((2.0 + blocks / variance) / blocks);
            if ratio - 1.0 > BELIEVED_ERRORS * error { ratio } else { 1.0 }
        };
        let hours = f64::from(sums.hours);
        let in_pairs = f64::from(sums.pairs) / variance;
        let correlation = ((believed(sums.tick, f64::from(sums.ticks)) - 1.0) / in_pairs.max(1.0)).clamp(0.0, 0.9);
        let longer = believed(sums.short, hours * f64::from(HOUR / BLOCK)).max(believed(sums.long, hours));
        let phi = longer / (1.0 + in_pairs * correlation);
        Excess { correlation, phi: if phi > 1.0 { phi * MARGIN } else { 1.0 } }
    }
}
