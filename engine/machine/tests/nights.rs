//! Nights: a tree of groups whose calls are few by night, so that what each node has learned of an hour rests on a handful of events.
//!
//! Calls come as folds, as the edge makes them; days are seconds. Streams are drawn from seeds, which are printed.

#[path = "simulation/rules.rs"]
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
mod rules;

use model::fold::{Cell, CellFold, EnvironmentFold, Fold, TickFold};
use model::plan::{TICK, Windows};
use model::{FalseAlarms, Key, Plan, Signal, Span, Timestamp};
use rules::{rate, rule, watch};
use std::f64::consts::TAU;
use streamgauge_machine::{Effect, Input, Machine, Reason};

/// 2026-01-05T00:00:00Z, a Monday.
const ZERO: i64 = 1_767_571_200_000;
const HOUR: u32 = 360;
const DAY: u32 = 24 * HOUR;

const STAGES: [&str; 4] = ["classification", "extraction", "summary", "synthesis"];
const PROVIDERS: [&str; 3] = ["anthropic", "google", "openai"];

/// Twelve groups whose calls are 0.4 times as many at midnight and 1.6 times at noon.
#[derive(Clone, Copy)]
struct World {
    name: &'static str,
    /// Calls of one group in a tick, and the usual rate.
    calls: f64,
    rate: f64,
    /// How far the log rate swings over a day; of one stage, how much farther.
    swing: f64,
    one: f64,
}

const PLAIN: World = World { name: "as every hour", calls: 13.8, rate: 0.004, swing: 0.0, one: 0.0 };
const WORLDS: [World; 3] =
    [PLAIN, World { name: "all rates swing", rate: 0.01, swing: 0.6, ..PLAIN }, World { name: "one stage's swing", rate: 0.01, one: 0.6, ..PLAIN }];

fn poisson(rng: &mut fastrand::Rng, mean: f64) -> u64 {
    let (mut k, mut p, end) = (0, rng.f64(), (-mean).exp());
    while p > end {
        (k, p) = (k + 1, p * rng.f64());
    }
    k
}

fn start(tick: u32) -> Timestamp {
    Timestamp::from_millis(ZERO + i64::from(tick) * TICK.millis() as i64).expect("in range")
}

/// The ticks in which somebody is told, with the place. The budget is one false alarm a day.
fn told(world: World, seed: u64, ticks: u32) -> Vec<(u32, Vec<String>)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let spec = rule("invalid-json", &[Key::Stage, Key::Provider, Key::Model], vec![watch("value", rate(Signal::InvalidJson), 300)]);
    let plan = Plan::new(Windows::default(), FalseAlarms::default(), vec![spec]);
    let (mut machine, mut effects, mut all, mut sequence) = (Machine::new(plan.clone(), 0), Vec::new(), Vec::new(), 0);
    let position = Signal::InvalidJson.index();
    for tick in 0..ticks {
        let day = TAU * f64::from(tick) / f64::from(DAY);
        let mut cells = Vec::new();
        let first = sequence + 1;
        for (s, stage) in STAGES.iter().enumerate() {
            for provider in PROVIDERS {
                let calls = world.calls * (1.0 - 0.6 * day.cos());
                let rate = world.rate * ((world.swing + if s == 1 { world.one } else { 0.0 }) * (day + 2.0).sin()).exp();
                let n = poisson(&mut rng, calls);
                if n == 0 {
                    continue;
                }
                let x = poisson(&mut rng, n as f64 * rate).min(n);
                let mut cell = Cell::new(&plan.groupings[0]);
                cell.calls = n;
                (cell.ratios[position].applies, cell.ratios[position].holds) = (n, x);
                sequence += n;
                let labels = vec![(*stage).to_owned(), provider.to_owned(), "model".to_owned()];
                cells.push(CellFold { grouping: 0, slice: start(tick), labels, cell });
            }
        }
        if cells.is_empty() {
            continue;
        }
        let at = start(tick);
        let environment = EnvironmentFold {
            name: "production".to_owned(),
            clock: at + Span::from_secs(9),
            stamp: at + Span::from_secs(9),
            sequences: Vec::new(),
            ticks: vec![TickFold { tick: at, cells, offers: Vec::new(), failures: Vec::new(), runs: Vec::new() }],
        };
        let fold = Fold { first, last: sequence, received: sequence + 1 - first, environments: vec![environment], ..Fold::default() };
        machine.apply(Input::Folded(fold), &mut effects);
        for effect in effects.drain(..) {
            if let Effect::Notify(told) = effect
                && told.reason == Reason::Fired
            {
                all.push((tick, told.group.iter().map(|(_, label)| label.clone()).collect::<Vec<_>>()));
            }
        }
    }
    all
}

#[test]
fn a_day_and_its_night_are_no_drift_of_any_group() {
    let (seeds, days) = (0..3, 4);
    for world in WORLDS {
        let all: Vec<_> = seeds.clone().map(|seed| told(world, seed, days * DAY)).collect();
        let (sum, budget) = (all.iter().map(Vec::len).sum::<usize>(), seeds.clone().count() * days as usize);
        eprintln!("{}, seeds {seeds:?}: {sum} false alarms in {days} days each, {budget} are the budget", world.name);
        assert!(sum <= budget, "{}, seeds {seeds:?}: {sum} false alarms, {budget} are the budget: {all:?}", world.name);
    }
}
