//! What a series normally shows, learned online: its level against a reference (its parent's range, or its own first calls), and for parents the
//! shape of day and week.
//!
//! What is learned must be what is normal. So an hour enters only when the hour after it has passed, too, without an alarm; while an alarm stands
//! nothing enters at all.

use super::season::{At, Priors, Season};
use serde::{Deserialize, Serialize};

/// Ticks of an hour.
pub const HOUR: u32 = 360;
/// Counts weigh half after a week.
pub const KEPT_PER_HOUR: f64 = 0.995_882_623_658_297_4;
/// What a series without a parent knows of itself beforehand, in events.
const OWN_STRENGTH: f32 = 0.5;
/// A series without a parent has learned enough after this many events, or this many trials without, or a week of hours.
const LEARNED_EVENTS: f64 = 5.0;
const LEARNED_TRIALS: f64 = 1000.0;
const LEARNED_HOURS: u32 = 168;

/// A level that rests on a few own events is so uncertain that what it learns an hour late would be evidence against it by then, and an alarm that then
/// stands would keep it from ever learning: it takes its first hours at once. With a parent it starts from more than that.
const YOUNG_HOURS: u32 = 2;

/// What a parent expects at this time, as its children start from it: ln of the rate (or count), its variance, and what of it is the parent's level.
/// `season` is the variance of all seasons down to it, and `unseen` that of the root's hour of the day as far as it has not been seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    pub log: f64,
    pub variance: f64,
    pub level: f64,
    pub season: f64,
    pub unseen: f64,
}

/// What is expected at this time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    pub log: f64,
    pub variance: f64,
    /// What a mean is divided by to be without the level, and without the season.
    level: f64,
    season: f64,
    /// The variance of the level; of the seasons above; of these and its own; and of the root's hour of the day as far as it has not been seen.
    unsure: f64,
    above: f64,
    seasons: f64,
    unseen: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Events, discounted, and those expected by the reference without its level and the season; trials while learning. Without its level, because
    /// parent and child mostly see the same calls: a child that compared itself with its parent's level would learn the same chance a second time.
    x: f64,
    e: f64,
    open: Hour,
    held: Hour,
    /// The first hour.
    born: u32,
    /// An alarm stood in the open hour or the held one.
    tainted: bool,
    /// How much the reference is worth, in events: few where siblings differ much.
    strength: f32,
    /// ln of the reference of a series without a parent; `None` while it learns.
    own: Option<f64>,
    season: Option<Box<Season>>,
}

/// Events of one hour, those expected by reference and season, and those expected by reference and level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    hour: u32,
    x: f32,
    e: f32,
    flat: f32,
    /// Variance of the log of what was expected, but for its own season.
    unsure: f32,
}

impl Baseline {
    /// Of a series first heard at tick `at`. `strength`: how much its parent's range is worth, in events.
    pub fn new(at: u32, strength: Option<f64>, season: Option<Priors>) -> Self {
        Self {
            x: 0.0,
            e: 0.0,
            open: Hour { hour: at / HOUR, ..Hour::default() },
            held: Hour::default(),
            born: at / HOUR,
            tainted: false,
            strength: strength.map_or(OWN_STRENGTH, |strength| strength as f32),
            own: None,
            season: season.map(|priors| Box::new(Season::new(priors))),
        }
    }

    /// Hours since the first tick.
    pub fn age(&self, at: u32) -> u32 {
        (at / HOUR).saturating_sub(self.born)
    }

    /// Events that the level rests on, and those that the reference expected.
    pub fn counts(&self) -> (f64, f64) {
        (self.x, self.e)
    }

    pub fn set_strength(&mut self, strength: f64) {
        self.strength = strength as f32;
    }

    /// What is expected at tick `at`. `None` while it learns: it has no parent that knows, and has seen too little itself.
    pub fn expected(&self, at: u32, parent: Option<Reference>) -> Option<Expected> {
        let reference = parent.or(self.own.map(|log| Reference { log, variance: 0.0, level: 0.0, season: 0.0, unseen: 0.0 }))?;
        let strength = f64::from(self.strength);
        let level = libm::log((self.x + strength) / (self.e + strength / libm::exp(reference.level)));
        let season = self.season.as_ref().map_or(At::default(), |season| season.at(f64::from(at) / f64::from(HOUR)));
        let own = self.x + strength;
        let unsure = 1.0 / own + reference.variance * strength / own;
        Some(Expected {
            log: reference.log - reference.level + level + season.curve,
            // Of the parent's range it has its own level, but an hour of the day that nobody has seen is as unknown here as there. What else a season is
            // unsure of is not carried: hours seen are off to either side, and leaves that waited for a known week would find everything late.
            variance: unsure + season.variance + reference.unseen,
            level: libm::exp(level),
            season: libm::exp(season.curve),
            unsure,
            above: reference.season,
            seasons: reference.season + season.variance,
            unseen: if parent.is_some() { reference.unseen } else { season.unseen },
        })
    }

    /// Counts one tick, of which `mean` events were expected (with `expected`, cut off where a rate would pass 1).
    pub fn add(&mut self, events: f64, mean: f64, expected: &Expected) {
        let e = mean / expected.level;
        if self.own.is_some() && self.is_young(self.open) && !self.tainted {
            self.x += events;
            self.e += e;
        }
        self.open.x += events as f32;
        self.open.e += e as f32;
        self.open.flat += (mean / expected.season) as f32;
        self.open.unsure = (expected.unsure + expected.above) as f32;
    }

    /// Counts one tick while it learns. True when it has learned enough by `enough` or has waited a week.
    pub fn learn(&mut self, at: u32, events: f64, trials: f64, enough: impl Fn(f64, f64) -> bool) -> bool {
        if self.strength > OWN_STRENGTH {
            // Its parent knows no later than it would itself.
            return false;
        }
        self.x += events;
        self.e += trials;
        self.open.x += events as f32;
        self.open.flat += trials as f32;
        let learned = enough(self.x, self.e) || self.age(at) >= LEARNED_HOURS;
        if learned {
            let own = (self.x + 0.5) / (self.e + 1.0);
            self.own = Some(libm::log(own));
            self.e *= own;
            self.season.iter_mut().for_each(|season| season.rescale(own));
            self.open = Hour { hour: at / HOUR, ..Hour::default() };
        }
        learned
    }

    /// An alarm stands: what is open and held is not normal.
    pub fn taint(&mut self) {
        self.tainted = true;
    }

    /// Closes the open hour when `at` lies in a later one, and takes over what was held. Returns the hours passed.
    pub fn pass(&mut self, at: u32, firing: bool) -> Option<u32> {
        let hour = at / HOUR;
        let hours = hour.checked_sub(self.open.hour).filter(|hours| *hours > 0)?;
        let kept = libm::pow(KEPT_PER_HOUR, f64::from(hours));
        (self.x, self.e) = (self.x * kept, self.e * kept);
        if self.own.is_some() || self.strength > OWN_STRENGTH {
            if !self.tainted {
                self.take(self.held);
                self.held = self.open;
                if hours > 1 {
                    self.take(self.held);
                    self.held = Hour::default();
                }
            } else {
                self.held = Hour::default();
                self.tainted = firing;
            }
        } else if let Some(season) = &mut self.season
            && self.open.flat > 0.0
        {
            // Compared with the level that all of them will make, a whole hour of learning says as much as any other, the first two, too.
            season.add(self.open.hour, f64::from(self.open.x), f64::from(self.open.flat));
        }
        self.open = Hour { hour, ..Hour::default() };
        Some(hours)
    }

    /// Whether it is one of the hours that a series without a parent takes tick by tick, and others leave out, because their parent is learning.
    fn is_young(&self, hour: Hour) -> bool {
        hour.hour < self.born + YOUNG_HOURS
    }

    fn take(&mut self, hour: Hour) {
        if self.is_young(hour) {
            // What was expected of it moved too much for it to be compared with.
            return;
        }
        self.x += f64::from(hour.x);
        self.e += f64::from(hour.e);
        if let Some(season) = &mut self.season
            && hour.flat > 0.0
        {
            // An hour compared with a level that is not known well says so much less.
            let weight = 1.0 / (1.0 + f64::from(hour.flat) * f64::from(hour.unsure));
            season.add(hour.hour, f64::from(hour.x) * weight, f64::from(hour.flat) * weight);
        }
    }

    /// What was seen of an incident becomes normal: `events` where `mean` were expected (with `expected`). The shape of day and week stays.
    pub fn adopt(&mut self, events: f64, mean: f64, expected: &Expected) {
        // At least as sure as it was told: an adopted level is the user's word, not an estimate of one tick.
        (self.x, self.e) = (events, mean / expected.level);
        (self.open.x, self.open.e, self.open.flat) = (0.0, 0.0, 0.0);
        (self.held, self.tainted) = (Hour::default(), false);
    }

    /// Its parent's level became another one by adoption: `by` is the ln of the factor.
    pub fn follow(&mut self, by: f64) {
        self.e *= libm::exp(-by);
        (self.open.x, self.open.e, self.open.flat) = (0.0, 0.0, 0.0);
        (self.held, self.tainted) = (Hour::default(), false);
    }
}

impl Expected {
    /// As its children start from it.
    pub fn reference(&self) -> Reference {
        Reference { log: self.log, variance: self.variance, level: self.log_level(), season: self.seasons, unseen: self.unseen }
    }

    /// ln of what of it is the level.
    pub fn log_level(&self) -> f64 {
        libm::log(self.level)
    }
}

/// Whether a series without a parent has seen enough of a rate.
pub fn rate_learned(events: f64, trials: f64) -> bool {
    events >= LEARNED_EVENTS || trials >= LEARNED_TRIALS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks of 10 calls with one event each.
    fn feed(baseline: &mut Baseline, ticks: std::ops::Range<u32>, parent: Option<Reference>) {
        for at in ticks {
            baseline.pass(at, false);
            match baseline.expected(at, parent) {
                Some(expected) => baseline.add(1.0, 10.0 * libm::exp(expected.log), &expected),
                None => {
                    baseline.learn(at, 1.0, 10.0, rate_learned);
                }
            }
        }
    }

    #[test]
    fn without_a_parent_the_first_hours_count_at_once_and_later_ones_an_hour_late() {
        let mut baseline = Baseline::new(0, None, None);
        feed(&mut baseline, 0..HOUR, None);
        assert!(baseline.counts().0 > f64::from(HOUR) * 0.99, "{:?}", baseline.counts());
        feed(&mut baseline, HOUR..4 * HOUR, None);
        assert!((baseline.counts().0 / f64::from(2 * HOUR) - 1.0).abs() < 0.02, "{:?}", baseline.counts());
    }

    #[test]
    fn with_a_parent_the_first_hours_are_left_out_and_later_ones_count_an_hour_late() {
        let parent = Some(Reference { log: libm::log(0.1), variance: 1e-4, level: 0.0, season: 0.0, unseen: 0.0 });
        let mut baseline = Baseline::new(0, Some(20.0), None);
        feed(&mut baseline, 0..4 * HOUR, parent);
        assert_eq!(baseline.counts().0, 0.0);
        feed(&mut baseline, 4 * HOUR..4 * HOUR + 1, parent);
        assert_eq!(baseline.counts().0, f64::from(HOUR));
    }

    #[test]
    fn a_chain_of_series_of_the_same_calls_expects_what_its_first_does() {
        let mut rng = 7_u64;
        let mut chain = [Baseline::new(0, None, None), Baseline::new(0, Some(4.0), None), Baseline::new(0, Some(4.0), None)];
        for at in 0..8 * HOUR {
            // One call in a hundred, by chance (a linear congruential generator).
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let events = f64::from(u8::from((rng >> 33).is_multiple_of(10)));
            let mut parent = None;
            for baseline in &mut chain {
                baseline.pass(at, false);
                match baseline.expected(at, parent) {
                    Some(expected) => {
                        baseline.add(events, 10.0 * libm::exp(expected.log), &expected);
                        parent = Some(expected.reference());
                    }
                    None => {
                        baseline.learn(at, events, 10.0, rate_learned);
                    }
                }
            }
        }
        let first = chain[0].expected(8 * HOUR, None).expect("it has learned");
        let parent = Some(first.reference());
        let second = chain[1].expected(8 * HOUR, parent).expect("its parent has");
        let parent = Some(second.reference());
        let third = chain[2].expected(8 * HOUR, parent).expect("its parent has");
        // They differ by the first hours, which the children leave out, and not by more the deeper they are.
        assert!((third.log - second.log).abs() < 0.02 && (second.log - first.log).abs() < 0.2, "{} {} {}", first.log, second.log, third.log);
    }
}
