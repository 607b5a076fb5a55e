//! Streams whose truth is known: calls arrive at a rate, some are events, and sometimes something changes.
//!
//! It knows nothing of detectors and learns nothing. One seed is one stream, on every machine.

use std::f64::consts::TAU;

pub const HOUR: u32 = 360;
pub const DAY: u32 = 24 * HOUR;
pub const WEEK: u32 = 7 * DAY;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    pub calls: u64,
    pub events: u64,
}

/// Draws from the distributions that streams are made of.
#[derive(Clone, Debug)]
pub struct Draws(fastrand::Rng);

impl Draws {
    /// `part` and `path` keep streams of one run apart; streams of neighbouring numbers have nothing in common.
    pub fn new(seed: u64, part: &str, path: u64) -> Self {
        let part = part.bytes().fold(0u64, |hash, byte| mixed(hash ^ u64::from(byte)));
        Self(fastrand::Rng::with_seed(mixed(mixed(seed) ^ part) ^ mixed(path)))
    }

    pub fn uniform(&mut self) -> f64 {
        self.0.f64()
    }

    /// Uniform in `from..to`.
    pub fn between(&mut self, from: u32, to: u32) -> u32 {
        self.0.u32(from..to)
    }

    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }

    /// By multiplying uniforms where the mean is small.
    ///
    /// Source above 30: Hörmann, "The transformed rejection method for generating Poisson random variables", Insurance: Mathematics and Economics 12
    /// (1993), algorithm PTRS.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            return 0;
        }
        if mean < 30.0 {
            let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0);
            while product > limit {
                product *= self.uniform();
                count += 1;
            }
            return count;
        }
        let b = 0.931 + 2.53 * mean.sqrt();
        let a = -0.059 + 0.024_83 * b;
        let inverse = 1.1239 + 1.1328 / (b - 3.4);
        let enough = 0.9277 - 3.6224 / (b - 2.0);
        loop {
            let (u, v) = (self.uniform() - 0.5, self.uniform());
            let near = 0.5 - u.abs();
            let count = ((2.0 * a / near + b) * u + mean + 0.43).floor();
            if near >= 0.07 && v <= enough {
                return count as u64;
            }
            if count < 0.0 || (near < 0.013 && v > near) {
                continue;
            }
            if v.ln() + inverse.ln() - (a / (near * near) + b).ln() <= count * mean.ln() - mean - libm::lgamma(count + 1.0) {
                return count as u64;
            }
        }
    }

    /// By inversion, in portions whose mean is small enough for it.
    pub fn binomial(&mut self, trials: u64, p: f64) -> u64 {
        if p > 0.5 {
            return trials - self.binomial(trials, 1.0 - p);
        }
        if p <= 0.0 {
            return 0;
        }
        let portion = ((30.0 / p) as u64).max(1);
        let (mut left, mut successes) = (trials, 0);
        while left > 0 {
            let trials = left.min(portion);
            left -= trials;
            let odds = p / (1.0 - p);
            let mut chance = (trials as f64 * (-p).ln_1p()).exp();
            let (mut u, mut count) = (self.uniform(), 0);
            while u > chance && count < trials {
                u -= chance;
                count += 1;
                chance *= odds * (trials - count + 1) as f64 / count as f64;
            }
            successes += count;
        }
        successes
    }

    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        x / (x + y)
    }

    /// Source: Marsaglia, Tsang, "A simple method for generating gamma variables", ACM Transactions on Mathematical Software 26 (2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let power = (1.0 - self.uniform()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * power;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let z = self.normal();
            let v = (1.0 + c * z).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * z * z + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Independent calls: as many as come on average `mean` per tick, each an event with chance `p`.
    pub fn tick(&mut self, mean: f64, p: f64) -> Tick {
        let calls = self.poisson(mean);
        Tick { calls, events: self.binomial(calls, p) }
    }

    /// The tick in which `before` becomes `after`, at a uniform moment; and how many of its calls came after that.
    pub fn changing_tick(&mut self, mean: f64, before: f64, after: f64) -> (Tick, u64) {
        let (calls, moment) = (self.poisson(mean), self.uniform());
        let late = self.binomial(calls, 1.0 - moment);
        (Tick { calls, events: self.binomial(calls - late, before) + self.binomial(late, after) }, late)
    }
}

/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA (2014): the finalizer of SplitMix64.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A chance whose odds are `factor` times those of `p`.
pub fn with_odds(p: f64, factor: f64) -> f64 {
    p * factor / (1.0 - p + p * factor)
}

/// How a stream behaves while nothing is wrong: 2 % of about ten calls per tick, and what production adds to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Independent calls at a constant rate.
    Iid,
    /// Days and weekends: the rate moves by ×/÷1.8 a day and -30 % on weekends, traffic by ×/÷2.5 and -50 %.
    Seasonal,
    /// Calls of one tick agree with each other: correlation 0.02, at 10 and at 100 calls per tick.
    BetaBinomial10,
    BetaBinomial100,
    /// The log of the rate wanders: standard deviation 0.5, forgotten over three minutes.
    Bursts,
    /// Five times a week there are no calls for 10 to 120 minutes.
    DropOuts,
    /// Season, drop-outs, correlation 0.01 and bursts of standard deviation 0.3.
    All,
}

impl World {
    pub const EVERY: [Self; 7] = [Self::Iid, Self::Seasonal, Self::BetaBinomial10, Self::BetaBinomial100, Self::Bursts, Self::DropOuts, Self::All];

    pub fn name(self) -> &'static str {
        match self {
            Self::Iid => "iid",
            Self::Seasonal => "seasonal",
            Self::BetaBinomial10 => "betabin10",
            Self::BetaBinomial100 => "betabin100",
            Self::Bursts => "ar",
            Self::DropOuts => "dropout",
            Self::All => "all",
        }
    }
}

/// A stream of one world, tick by tick.
#[derive(Clone, Debug)]
pub struct Stream {
    world: World,
    draws: Draws,
    at: u32,
    /// The wandering part of the log rate, in standard deviations.
    wander: f64,
    /// The end of the last drop-out.
    silent_until: u32,
}

impl Stream {
    pub fn new(world: World, seed: u64, part: &str, path: u64) -> Self {
        let mut draws = Draws::new(seed, part, path);
        let wander = draws.normal();
        Self { world, draws, at: 0, wander, silent_until: 0 }
    }

    /// The next tick, an event's odds being `odds` times the usual. While they are not the usual ones there are calls.
    pub fn tick(&mut self, odds: f64) -> Tick {
        let (world, at) = (self.world, self.at);
        self.at += 1;
        let (mut mean, mut p) = (10.0, 0.02);
        if matches!(world, World::Seasonal | World::All) {
            let day = TAU * f64::from(at) / f64::from(DAY);
            let weekend = if (at / DAY) % 7 >= 5 { 1.0 } else { 0.0 };
            p *= (0.6 * day.sin() - 0.36 * weekend).exp();
            mean *= (0.9 * (day - 1.0).sin() - 0.7 * weekend).exp() / 1.1;
        }
        if world == World::BetaBinomial100 {
            mean *= 10.0;
        }
        let spread = match world {
            World::Bursts => 0.5,
            World::All => 0.3,
            _ => 0.0,
        };
        if spread > 0.0 {
            let kept = (-10.0f64 / 180.0).exp();
            self.wander = kept * self.wander + (1.0 - kept * kept).sqrt() * self.draws.normal();
            p *= (spread * self.wander - spread * spread / 2.0).exp();
        }
        if matches!(world, World::DropOuts | World::All) {
            if self.draws.uniform() < 5.0 / f64::from(WEEK) {
                self.silent_until = self.silent_until.max(at + self.draws.between(60, 720));
            }
            if at < self.silent_until {
                mean = 0.0;
            }
        }
        if odds != 1.0 {
            (mean, p) = (mean.max(1.0), with_odds(p.min(0.9), odds));
        }
        let correlation = match world {
            World::BetaBinomial10 | World::BetaBinomial100 => 0.02,
            World::All => 0.01,
            _ => 0.0,
        };
        let calls = self.draws.poisson(mean);
        let p = p.min(0.9);
        let p = if correlation > 0.0 && calls > 1 {
            let strength = (1.0 - correlation) / correlation;
            self.draws.beta(p * strength, (1.0 - p) * strength)
        } else {
            p
        };
        Tick { calls, events: self.draws.binomial(calls, p) }
    }
}
