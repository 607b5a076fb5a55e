//! The shape of a day and of a week: how far each hour usually lies from the series' own level.
//!
//! Hours of the day shrink towards the level, hours of the week towards their hour of the day, by as much as hours are seen to differ (empirical
//! Bayes): where all hours are alike the curve becomes flat and certain, where they differ each hour soon speaks for itself, and an hour not seen yet
//! is as uncertain as hours differ.

use serde::{Deserialize, Serialize};

const DAY: usize = 24;
const WEEK: usize = 168;
/// How far hours of a day, and the same hour of different days, differ (standard deviation, in logs) before anything is known of it.
const DAY_PRIOR: f64 = 0.6;
const WEEK_PRIOR: f64 = 0.35;
/// Limits of the learned spread: never quite certain that hours are alike.
const SPREAD_MIN: f64 = 0.01;
const SPREAD_MAX: f64 = 1.0;
/// Hours count half after four weeks, so that a week's shape is learned from several weeks.
const KEPT_PER_WEEK: f32 = 0.840_896_4;

/// By hour of the week, counted from the epoch (a Thursday).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Season {
    /// Events, and those expected at the series' level alone.
    x: Vec<f32>,
    e: Vec<f32>,
    /// Distance from the level in logs, and its standard error.
    curve: Vec<f32>,
    error: Vec<f32>,
    /// Weeks since the epoch up to which counts are discounted.
    week: u32,
}

impl Default for Season {
    fn default() -> Self {
        let mut season = Self { x: vec![0.0; WEEK], e: vec![0.0; WEEK], curve: vec![0.0; WEEK], error: vec![0.0; WEEK], week: 0 };
        season.learn();
        season
    }
}

impl Season {
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

    /// Distance from the level in logs at a time in hours from the epoch, and its variance: linear between the middles of hours.
    pub fn at(&self, hours: f64) -> (f64, f64) {
        let t = hours - 0.5;
        let whole = libm::floor(t);
        let share = t - whole;
        let (i, j) = ((whole as u64 % WEEK as u64) as usize, ((whole as u64 + 1) % WEEK as u64) as usize);
        let curve = (1.0 - share) * f64::from(self.curve[i]) + share * f64::from(self.curve[j]);
        let error = f64::from(self.error[i].max(self.error[j]));
        (curve, error * error)
    }

    fn learn(&mut self) {
        let sums = |counts: &[f32]| counts.iter().map(|count| f64::from(*count)).sum::<f64>();
        let (x, e) = (sums(&self.x), sums(&self.e));
        let level = if x > 0.0 && e > 0.0 { x / e } else { 1.0 };
        let of_day = |counts: &[f32], hour: usize| (hour..WEEK).step_by(DAY).map(|at| f64::from(counts[at])).sum::<f64>();
        let day: Vec<_> = (0..DAY).map(|hour| (of_day(&self.x, hour), of_day(&self.e, hour) * level)).collect();
        let between = spread(day.iter().copied(), day.iter().filter(|(_, e)| *e > 0.0).count() as f64 - 1.0, DAY_PRIOR);
        let strength = 1.0 / between;
        let day: Vec<_> = day.iter().map(|(x, e)| ((x + strength) / (e + strength), 1.0 / (x + strength))).collect();
        let hours = (0..WEEK).map(|at| (f64::from(self.x[at]), f64::from(self.e[at]) * level * day[at % DAY].0));
        let hours: Vec<_> = hours.collect();
        let days = |hour: usize| (hour..WEEK).step_by(DAY).filter(|at| self.e[*at] > 0.0).count();
        let repeated = (0..DAY).map(|hour| days(hour).saturating_sub(1)).sum::<usize>() as f64;
        let again = hours.iter().enumerate().filter(|(at, _)| days(at % DAY) > 1).map(|(_, hour)| *hour);
        let between = spread(again, repeated, WEEK_PRIOR);
        let strength = 1.0 / between;
        for (at, (x, e)) in hours.into_iter().enumerate() {
            let own = (x + strength) / (e + strength);
            let share = strength / (x + strength);
            self.curve[at] = libm::log(day[at % DAY].0 * own) as f32;
            self.error[at] = libm::sqrt(1.0 / (x + strength) + share * day[at % DAY].1) as f32;
        }
    }
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
