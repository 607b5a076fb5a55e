//! The shape of a day and of a week: how far each hour usually lies from the series' own level.
//!
//! Hours of the day and days of the week shrink towards the level, hours of the week towards their hour and day, by as much as each kind is seen to
//! differ (empirical Bayes): where all hours are alike the curve becomes flat and certain, where they differ each soon speaks for itself, and one not
//! seen yet is as uncertain as its kind differs.

use serde::{Deserialize, Serialize};

const DAY: usize = 24;
const WEEK: usize = 168;
/// Days of a week.
const DAYS: usize = WEEK / DAY;
/// Neighbouring hours, and working days, are alike: until so many hours of the day and of the week were seen, the rest may differ as much as ever.
const HOURS_SEEN: usize = 22;
const WEEK_SEEN: usize = 154;
/// Of fitting hours and days to each other.
const ROUNDS: usize = 3;
/// Limits of the learned spread: never quite certain that hours are alike.
const SPREAD_MIN: f64 = 0.01;
const SPREAD_MAX: f64 = 1.0;
/// Hours count half after four weeks, so that a week's shape is learned from several weeks.
const KEPT_PER_WEEK: f32 = 0.840_896_4;

/// How far hours of a day, days of a week, and the same hour of different days differ (standard deviation, in logs) before anything is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Priors {
    day: f32,
    week: f32,
    hour: f32,
}

impl Priors {
    /// Of a rate without a parent.
    pub const RATE: Self = Self { day: 0.6, week: 0.35, hour: 0.2 };
    /// Of a rate against its parent's, whose season it shares for the most part.
    pub const CHILD: Self = Self { day: 0.3, week: 0.175, hour: 0.1 };
    /// Of traffic, of which a weekend often has half, and other hours.
    pub const TRAFFIC: Self = Self { day: 0.6, week: 0.5, hour: 0.5 };
}

/// What a season says of a time: the distance from the level in logs, the variance of that, and of this variance what the hour of the day may differ
/// by because it was not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct At {
    pub curve: f64,
    pub variance: f64,
    pub unseen: f64,
}

/// By hour of the week, counted from the epoch (a Thursday).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Season {
    /// Events, and those expected at the series' level alone.
    x: Vec<f32>,
    e: Vec<f32>,
    /// Distance from the level in logs, and its standard error.
    curve: Vec<f32>,
    error: Vec<f32>,
    /// By hour of the day: the variance of its log as far as it was not seen.
    unseen: Vec<f32>,
    /// Weeks since the epoch up to which counts are discounted.
    week: u32,
    priors: Priors,
}

impl Season {
    /// Of a series of which no hour was seen.
    pub fn new(priors: Priors) -> Self {
        let mut season =
            Self { x: vec![0.0; WEEK], e: vec![0.0; WEEK], curve: vec![0.0; WEEK], error: vec![0.0; WEEK], unseen: vec![0.0; DAY], week: 0, priors };
        season.learn();
        season
    }

    /// Adds one hour's events, and those expected of it at the series' level. `hour` counts from the epoch.
    pub fn add(&mut self, hour: u32, events: f64, expected: f64) {
        let week = hour / WEEK as u32;
        if self.week == 0 {
            self.week = week;
        }
        if week > self.week {
            let kept = libm::powf(KEPT_PER_WEEK, (week - self.week) as f32);
            self.x.iter_mut().chain(&mut self.e).for_each(|count| *count *= kept);
            self.week = week;
        }
        let at = hour as usize % WEEK;
        self.x[at] += events as f32;
        self.e[at] += expected as f32;
        self.learn();
    }

    /// What was expected of the hours so far is worth `by` times as much: they were added before the level was known. The curve stays as it is.
    pub fn rescale(&mut self, by: f64) {
        self.e.iter_mut().for_each(|e| *e *= by as f32);
    }

    /// At a time in hours from the epoch: linear between the middles of hours, with the larger of two variances. Where the curve leans on an hour that
    /// was seen, the time is not unseen.
    pub fn at(&self, hours: f64) -> At {
        let t = hours - 0.5;
        let whole = libm::floor(t);
        let share = t - whole;
        let (i, j) = ((whole as u64 % WEEK as u64) as usize, ((whole as u64 + 1) % WEEK as u64) as usize);
        let curve = (1.0 - share) * f64::from(self.curve[i]) + share * f64::from(self.curve[j]);
        let error = f64::from(self.error[i].max(self.error[j]));
        let unseen = f64::from(self.unseen[i % DAY].min(self.unseen[j % DAY]));
        At { curve, variance: error * error, unseen }
    }

    fn learn(&mut self) {
        let sums = |counts: &[f32]| counts.iter().map(|count| f64::from(*count)).sum::<f64>();
        let (x, e) = (sums(&self.x), sums(&self.e));
        let level = if x > 0.0 && e > 0.0 { x / e } else { 1.0 };
        let mut hours = [Share::default(); DAY];
        let mut days = [Share::default(); DAYS];
        // What a day is like depends on its hours that were seen, and hours on their days; it settles at once.
        for _ in 0..ROUNDS {
            let counts = |hour: usize| self.sum((hour..WEEK).step_by(DAY), |at| level * days[at / DAY].factor);
            hours = shares(std::array::from_fn(counts), HOURS_SEEN, f64::from(self.priors.day));
            let counts = |day: usize| self.sum(day * DAY..(day + 1) * DAY, |at| level * hours[at % DAY].factor);
            days = shares(std::array::from_fn(counts), DAYS, f64::from(self.priors.week));
        }
        self.unseen = hours.iter().map(|hour| (hour.variance * hour.told) as f32).collect();
        let expected = |at: usize| level * hours[at % DAY].factor * days[at / DAY].factor;
        let rest: [(f64, f64); WEEK] = std::array::from_fn(|at| self.sum(at..at + 1, expected));
        for (at, share) in shares(rest, WEEK_SEEN, f64::from(self.priors.hour)).into_iter().enumerate() {
            let (hour, day) = (hours[at % DAY], days[at / DAY]);
            self.curve[at] = libm::log(hour.factor * day.factor * share.factor) as f32;
            self.error[at] = libm::sqrt(share.variance + share.told * (hour.variance + day.variance)) as f32;
        }
    }

    /// Events of some hours of the week, and those expected of them, an hour at the level being expected to show `factor` times its share.
    fn sum(&self, hours: impl Iterator<Item = usize>, factor: impl Fn(usize) -> f64) -> (f64, f64) {
        hours.fold((0.0, 0.0), |(x, e), at| (x + f64::from(self.x[at]), e + f64::from(self.e[at]) * factor(at)))
    }
}

/// How far one hour, day or hour of the week lies from what the coarser ones say.
#[derive(Clone, Copy, Debug)]
struct Share {
    factor: f64,
    /// Of its log.
    variance: f64,
    /// How much of it is what it was told, 0..=1.
    told: f64,
}

impl Default for Share {
    fn default() -> Self {
        Self { factor: 1.0, variance: 0.0, told: 1.0 }
    }
}

/// Shrinks counts towards their expectations. Until `enough` of them were seen they may differ by as much as `prior` at least.
fn shares<const N: usize>(counts: [(f64, f64); N], enough: usize, prior: f64) -> [Share; N] {
    let seen = counts.iter().filter(|(_, e)| *e > 0.0).count();
    let mut between = spread(counts.into_iter(), seen as f64 - 1.0, prior);
    if seen < enough {
        between = between.max(prior * prior);
    }
    let strength = 1.0 / between;
    counts.map(|(x, e)| Share { factor: (x + strength) / (e + strength), variance: 1.0 / (x + strength), told: strength / (x + strength) })
}

/// The variance of true levels (in logs) among counts with their expectations: by the method of moments and one standard error more, weighed by its
/// precision against a prior standard deviation. `freedom`: how many of the counts are free to differ.
pub fn spread(counts: impl Iterator<Item = (f64, f64)>, freedom: f64, prior: f64) -> f64 {
    let (mut chi, mut expected) = (0.0, 0.0);
    for (x, e) in counts.filter(|(_, e)| *e > 0.0) {
        chi += (x - e) * (x - e) / e;
        expected += e;
    }
    let prior = prior * prior;
    if freedom < 1.0 || expected <= 0.0 {
        return prior;
    }
    let error = libm::sqrt(2.0 * freedom) / expected;
    let moment = ((chi - freedom) / expected + error).max(0.0);
    let (mine, known) = (1.0 / (prior * prior), 1.0 / (error * error));
    ((mine * prior + known * moment) / (mine + known)).clamp(SPREAD_MIN * SPREAD_MIN, SPREAD_MAX * SPREAD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many days from a Thursday on, with 100 events expected of every hour, and `factor` times as many by hour of the week.
    fn learned(days: usize, factor: impl Fn(usize) -> f64) -> Season {
        let mut season = Season::new(Priors::RATE);
        for hour in 0..days * DAY {
            season.add((WEEK * 100 + hour) as u32, 100.0 * factor(hour % WEEK), 100.0);
        }
        season
    }

    /// At the middle of an hour of the week: the distance from its level, and its standard error.
    fn at(season: &Season, hour: usize) -> (f64, f64) {
        let at = season.at(hour as f64 + 0.5);
        (at.curve, at.variance.sqrt())
    }

    #[test]
    fn alike_hours_make_a_flat_and_certain_curve() {
        let season = learned(14, |_| 1.0);
        for hour in 0..WEEK {
            let (curve, error) = at(&season, hour);
            assert!(curve.abs() < 1e-6 && error < 0.03, "{hour}: {curve} ± {error}");
        }
    }

    #[test]
    fn what_was_not_seen_is_uncertain_however_alike_all_was_before() {
        let morning = {
            let mut season = Season::new(Priors::RATE);
            (0..6).for_each(|hour| season.add((WEEK * 100 + hour) as u32, 100.0, 100.0));
            season
        };
        assert!(at(&morning, 15).1 > f64::from(Priors::RATE.day), "{:?}", at(&morning, 15));
        let working_days = learned(5, |_| 1.0);
        assert!(at(&working_days, 5 * DAY + 12).1 > f64::from(Priors::RATE.week), "{:?}", at(&working_days, 5 * DAY + 12));
        assert!(at(&working_days, 12).1 < f64::from(Priors::RATE.week), "{:?}", at(&working_days, 12));
    }

    #[test]
    fn two_weeks_tell_days_that_differ_within_a_few_percent() {
        let factor = |hour: usize| if hour / DAY >= 5 { 0.7 } else { 1.0 } * if hour % DAY < 8 { 0.6 } else { 1.2 };
        let season = learned(14, factor);
        let level = (0..WEEK).map(factor).sum::<f64>() / WEEK as f64;
        for hour in (0..WEEK).filter(|hour| (1..7).contains(&(hour % 8))) {
            let (curve, error) = at(&season, hour);
            let truth = (factor(hour) / level).ln();
            assert!((curve - truth).abs() < 0.03 && error < 0.08, "{hour}: {curve} ± {error}, not {truth}");
        }
    }
}
