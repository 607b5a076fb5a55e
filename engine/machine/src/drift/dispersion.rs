//! How much more a series varies than independent calls would: within a tick, and over minutes and hours.
//!
//! Calls of one tick may agree with each other (one bad node, one user's loop): that makes the likelihood beta-binomial, or negative binomial for
//! volumes. What agrees over longer times cannot be part of a tick's likelihood; it divides the evidence. Both are measured on the residuals of the
//! learned range, in blocks of a tick, ten minutes and an hour.
//!
//! Ticks while an alarm stands do not count, and no tick counts for more than it could by chance: so an incident is not taken for noise. All others
//! do, also those around a false alarm: a series that is noisy from the start would otherwise drop every hour that shows why it fires.

use super::baseline::{HOUR, KEPT_PER_HOUR};
use serde::{Deserialize, Serialize};

/// Ticks of the shorter block.
pub const BLOCK: u32 = 60;
/// An excess is believed when it is so many standard errors over what independent calls would show by chance ...
const BELIEVED_ERRORS: f64 = 2.5;
/// ... and then by a quarter more: bursts of a few minutes look smaller in blocks than they are.
const MARGIN: f64 = 1.25;

/// A tick's residual counts at most as so many standard errors of what is known of the series, and so many calls more, because counts of few calls
/// have long tails.
const RESIDUAL_ERRORS_MAX: f32 = 6.0;
const RESIDUAL_CALLS_MAX: f32 = 4.0;

/// Sums of squared residuals and of the variances that independent calls would have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    kept: Sums,
    open: Sums,
    /// Of the open ten minutes and of the open hour.
    short: Block,
    long: Block,
    block: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    /// Of ticks: variance, and variance times how often a second call of the same tick meets a first one, which is what correlation multiplies.
    variance: f32,
    pairs: f32,
    tick: f32,
    ticks: f32,
    /// Of blocks.
    blocks_variance: f32,
    short: f32,
    long: f32,
    hours: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    residual: f32,
    variance: f32,
    /// Standard error of what was expected of it.
    uncertain: f32,
}

impl Block {
    fn add(&mut self, residual: f32, variance: f32, uncertain: f32) {
        self.residual += residual;
        self.variance += variance;
        self.uncertain += uncertain;
    }

    /// The squared residual, less what it is expected to be for not knowing the mean better: while a season is being learned, misses say little.
    fn squared(&self) -> f32 {
        if self.variance <= 0.0 {
            return 0.0;
        }
        self.residual * self.residual * self.variance / (self.variance + self.uncertain * self.uncertain)
    }
}

/// What the likelihood needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excess {
    /// Of calls of one tick, 0..1. For volumes: 1/shape.
    pub correlation: f64,
    /// At least 1; divides the evidence.
    pub phi: f64,
}

impl Excess {
    /// How many times the variance of calls is that of independent ones, where each meets `others` in its tick.
    pub fn inflation(&self, others: f64) -> f64 {
        self.phi * (1.0 + others * self.correlation)
    }

    /// Of the negative binomial that a volume's ticks follow; infinite where they are Poisson.
    pub fn shape(&self) -> f64 {
        if self.correlation > 0.0 { 1.0 / self.correlation } else { f64::INFINITY }
    }
}

impl Dispersion {
    /// Starts from the blocks that a range was learned from: each one's number, its residual, and the variance of that if calls were independent.
    /// What the calls of one tick have in common is not known from blocks.
    pub fn begin(&mut self, blocks: &[(u32, f64, f64)]) {
        let count = blocks.len() as f64;
        let variance: f64 = blocks.iter().map(|(.., variance)| variance).sum();
        let (mut short, mut long, mut hours) = (0.0, 0.0, 0.0);
        for hour in blocks.chunk_by(|(a, ..), (b, ..)| a * BLOCK / HOUR == b * BLOCK / HOUR) {
            let residual: f64 = hour.iter().map(|(_, residual, _)| residual).sum();
            short += hour.iter().map(|(_, residual, _)| residual * residual).sum::<f64>();
            long += residual * residual;
            hours += 1.0;
        }
        // The range was made to fit these blocks, which takes one of them away; of a single one nothing is left.
        let unfit = |squares: f64, count: f64| if count > 1.0 { squares * count / (count - 1.0) } else { variance };
        self.kept = Sums {
            variance: variance as f32,
            pairs: 0.0,
            tick: variance as f32,
            ticks: (count * f64::from(BLOCK)) as f32,
            blocks_variance: variance as f32,
            short: unfit(short, count) as f32,
            long: unfit(long, hours) as f32,
            hours: (count * f64::from(BLOCK) / f64::from(HOUR)) as f32,
        };
    }

    /// One tick's residual, its variance if calls were independent, `pairs`: the variance that a correlation of 1 would add, and `uncertain`: the
    /// standard error of the mean that the residual was taken from.
    pub fn add(&mut self, at: u32, residual: f64, variance: f64, pairs: f64, uncertain: f64) {
        let block = at / BLOCK;
        if block != self.block {
            self.open.short += self.short.squared();
            (self.short, self.block) = (Block::default(), block);
        }
        let (residual, variance, uncertain) = (residual as f32, variance as f32, uncertain as f32);
        let residual = if residual.abs() > RESIDUAL_CALLS_MAX { self.bounded(residual, variance, uncertain) } else { residual };
        self.open.variance += variance;
        self.open.pairs += pairs as f32;
        self.open.tick += residual * residual;
        self.open.ticks += 1.0;
        self.short.add(residual, variance, uncertain);
        self.long.add(residual, variance, uncertain);
    }

    /// A residual, cut off where chance ends.
    fn bounded(&self, residual: f32, variance: f32, uncertain: f32) -> f32 {
        let known = if self.kept.variance > 0.0 { (self.kept.tick / self.kept.variance).max(1.0) } else { 1.0 };
        let most = RESIDUAL_ERRORS_MAX * libm::sqrtf(variance * known + uncertain * uncertain) + RESIDUAL_CALLS_MAX;
        residual.clamp(-most, most)
    }

    /// An hour is over, or more.
    pub fn close_hour(&mut self, hours: u32) {
        let mut open = std::mem::take(&mut self.open);
        open.short += self.short.squared();
        open.long = self.long.squared();
        open.blocks_variance = self.long.variance;
        open.hours = 1.0;
        (self.short, self.long) = (Block::default(), Block::default());
        let kept = libm::powf(KEPT_PER_HOUR as f32, hours as f32);
        let sums = &mut self.kept;
        let add = |mine: &mut f32, new: f32| *mine = *mine * kept + new;
        add(&mut sums.variance, open.variance);
        add(&mut sums.pairs, open.pairs);
        add(&mut sums.tick, open.tick);
        add(&mut sums.ticks, open.ticks);
        add(&mut sums.blocks_variance, open.blocks_variance);
        add(&mut sums.short, open.short);
        add(&mut sums.long, open.long);
        add(&mut sums.hours, open.hours);
    }

    pub fn excess(&self) -> Excess {
        self.measured().0
    }

    /// How many times the variance of a long sum of calls is that of independent ones, at least 1: what is learned from them is worth so much less.
    pub fn inflation(&self) -> f64 {
        let (excess, in_pairs) = self.measured();
        excess.inflation(in_pairs)
    }

    /// With the calls that a call meets in its tick, on average.
    fn measured(&self) -> (Excess, f64) {
        // In its first hours a series is too young to be taken at its word for independent: the open hour counts, too.
        let young = self.kept.ticks < HOUR as f32;
        let with_open = |kept: f32, open: f32| f64::from(if young { kept + open } else { kept });
        let (kept, open) = (&self.kept, &self.open);
        let (variance, ticks) = (with_open(kept.variance, open.variance), with_open(kept.ticks, open.ticks));
        if variance <= 0.0 {
            return (Excess { correlation: 0.0, phi: 1.0 }, 0.0);
        }
        // How often the squares of blocks are what they would be by chance. A squared residual of a Poisson count of variance v has variance 2 + 1/v
        // in units of v².
        let believed = |squares: f64, variance: f64, blocks: f64| {
            let ratio = squares / variance;
            let error = libm::sqrt((2.0 + blocks / variance) / blocks);
            if variance > 0.0 && ratio - 1.0 > BELIEVED_ERRORS * error { ratio } else { 1.0 }
        };
        let in_pairs = with_open(kept.pairs, open.pairs) / variance;
        let correlation = ((believed(with_open(kept.tick, open.tick), variance, ticks) - 1.0) / in_pairs.max(1.0)).clamp(0.0, 0.9);
        // Blocks vary by what their ticks do; what counts is by how much more.
        let within = f64::from(kept.blocks_variance) * (1.0 + in_pairs * correlation);
        let hours = f64::from(kept.hours);
        let short = believed(f64::from(kept.short), within, hours * f64::from(HOUR / BLOCK));
        let phi = short.max(believed(f64::from(kept.long), within, hours));
        (Excess { correlation, phi: if phi > 1.0 { phi * MARGIN } else { 1.0 } }, in_pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many hours of ticks with a variance of 1, whose residuals `residual` gives by tick, and ten second calls for each.
    fn hours(dispersion: &mut Dispersion, from: u32, hours: u32, uncertain: f64, residual: impl Fn(u32) -> f64) {
        for at in from * HOUR..(from + hours) * HOUR {
            dispersion.add(at, residual(at), 1.0, 10.0, uncertain);
            if (at + 1).is_multiple_of(HOUR) {
                dispersion.close_hour(1);
            }
        }
    }

    fn alternating(size: f64) -> impl Fn(u32) -> f64 {
        move |at| if at % 2 == 0 { size } else { -size }
    }

    #[test]
    fn ticks_that_vary_four_times_as_much_agree_within() {
        let mut dispersion = Dispersion::default();
        hours(&mut dispersion, 0, 12, 0.0, alternating(2.0));
        // Four times the variance, ten pairs a call: (4 - 1) / 10.
        assert!((dispersion.excess().correlation - 0.3).abs() < 1e-6, "{:?}", dispersion.excess());
    }

    #[test]
    fn one_monstrous_tick_counts_for_no_more_than_chance_could() {
        let mut dispersion = Dispersion::default();
        hours(&mut dispersion, 0, 24, 0.0, alternating(1.0));
        hours(&mut dispersion, 24, 1, 0.0, |at| if at == 24 * HOUR { 1000.0 } else { alternating(1.0)(at) });
        assert_eq!(dispersion.excess(), Excess { correlation: 0.0, phi: 1.0 });
    }

    #[test]
    fn calls_of_one_tick_that_agree_are_not_counted_as_bursts_too() {
        // Residuals of ten ticks' signs in a fixed, irregular order: independent from tick to tick, of twice the variance.
        let sign = |at: u32| if (at.wrapping_mul(2_654_435_761) >> 16) & 1 == 0 { 1.0 } else { -1.0 };
        let mut dispersion = Dispersion::default();
        hours(&mut dispersion, 0, 200, 0.0, |at| sign(at) * std::f64::consts::SQRT_2);
        let excess = dispersion.excess();
        assert!((excess.correlation - 0.1).abs() < 1e-3 && excess.phi == 1.0, "{excess:?}");
    }

    #[test]
    fn missing_a_mean_that_was_not_known_better_is_no_dispersion() {
        for (uncertain, bursts) in [(0.5, false), (0.0, true)] {
            let mut dispersion = Dispersion::default();
            // Every tick of an hour is off by a third of a standard deviation, to one side.
            hours(&mut dispersion, 0, 24, uncertain, |at| 0.33 + alternating(0.9)(at));
            assert_eq!(dispersion.excess().phi > 1.0, bursts, "{uncertain}: {:?}", dispersion.excess());
        }
    }
}
