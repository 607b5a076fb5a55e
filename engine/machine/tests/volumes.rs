//! A volume that is learned: its first days and nights, and what it can find after them.
//!
//! Traffic of a day and a night, a fifth as much at the quietest hour as at the busiest or less, heard first at any hour of the week. Streams are drawn
//! from seeds, which are printed.

use machine::drift::gauge::{Counts, Gauge, Kind};
use std::f64::consts::TAU;
use streamgauge_machine as machine;

const HOUR: u32 = 360;
const DAY: u32 = 24 * HOUR;
const SERIES: u64 = 42;
/// One false alarm per series and week.
const BUDGET: f64 = 7.0 * DAY as f64;

struct Traffic {
    rng: fastrand::Rng,
    /// The first tick.
    born: u32,
    /// Calls per tick on average, as a geometric mean over the day.
    calls: f64,
    weekend: f64,
}

impl Traffic {
    fn new(seed: u64, calls: f64, weekend: f64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // A few weeks after the epoch, as every clock is.
        let born = 100 * 7 * DAY + rng.u32(0..7 * DAY);
        Self { rng, born, calls, weekend }
    }

    /// What is usual at a tick: 2.5 times as many at the busiest, and as few at the quietest hour.
    fn usual(&self, at: u32) -> f64 {
        let day = f64::from(at) / f64::from(DAY);
        // The epoch was a Thursday.
        let weekend = if [2, 3].contains(&(day as u64 % 7)) { self.weekend } else { 1.0 };
        self.calls * weekend * (2.5f64.ln() * (TAU * day).sin()).exp()
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        let (mut k, mut p, end) = (0, self.rng.f64(), (-mean).exp());
        while p > end {
            (k, p) = (k + 1, p * self.rng.f64());
        }
        k
    }
}

/// The ticks since the first in which it fires, in so many days, and the gauge. From tick `broken` since the first on there is a third as much.
fn play(traffic: &mut Traffic, ticks: u32, broken: u32) -> (Vec<u32>, Gauge) {
    let mut gauge = Gauge::new(Kind::Volume, traffic.born, None, true);
    let mut fired = Vec::new();
    for tick in 0..ticks {
        let at = traffic.born + tick;
        let usual = traffic.usual(at);
        let calls = traffic.poisson(if tick >= broken { usual / 3.0 } else { usual });
        gauge.tick(at, Counts::Calls(calls), None);
        let detector = gauge.detector();
        if detector.firing().is_none() && detector.evidence() >= detector.threshold(at, BUDGET) {
            gauge.fire(at);
            fired.push(tick);
        }
    }
    (fired, gauge)
}

#[test]
fn the_first_nights_are_no_drift_and_are_learned() {
    for (calls, weekend, days) in [(10.0, 1.0, 3), (0.3, 1.0, 3), (1.0, 0.7, 10)] {
        let mut all = 0;
        for seed in 0..SERIES {
            let mut traffic = Traffic::new(seed, calls, weekend);
            let (fired, gauge) = play(&mut traffic, days * DAY, u32::MAX);
            all += fired.len();
            let at = traffic.born + days * DAY - 1;
            let range = gauge.standing(at).expected.unwrap_or_else(|| panic!("seed {seed}: it has learned nothing in {days} days"));
            let usual = traffic.usual(at);
            // The range is one standard error to each side.
            if fired.is_empty() {
                assert!((range.low / 2.0..range.high * 2.0).contains(&usual), "seed {seed}: {usual} is usual, {range:?} expected");
            }
        }
        let budget = SERIES as u32 * days / 7;
        eprintln!("{calls} calls a tick, {weekend} at weekends, seeds 0..{SERIES}: {all} false alarms in {days} days each, {budget} are the budget");
        assert!(all <= budget as usize, "{calls} calls a tick, {weekend} at weekends: {all} false alarms, {budget} are the budget");
    }
}

#[test]
fn a_third_of_the_calls_is_found_within_an_hour_after_two_days() {
    let mut delays = Vec::new();
    for seed in 0..SERIES {
        let mut traffic = Traffic::new(seed, 10.0, 1.0);
        let broken = 2 * DAY + traffic.rng.u32(0..DAY);
        let (fired, _) = play(&mut traffic, broken + HOUR, broken);
        let found = fired.into_iter().find(|tick| *tick >= broken).unwrap_or_else(|| panic!("seed {seed}: not found within an hour"));
        delays.push(f64::from(found - broken) / 6.0);
    }
    let (mean, most) = (delays.iter().sum::<f64>() / delays.len() as f64, delays.iter().copied().fold(0.0, f64::max));
    eprintln!("seeds 0..{SERIES}: found after {mean:.1} min on average, {most:.1} min at most");
}
