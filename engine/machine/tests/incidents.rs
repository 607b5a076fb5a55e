//! Incidents among sixty groups, and weeks without: who is told of, since when, how late, and how often wrongly.
//!
//! Calls come as folds, as the edge makes them; a week is a few seconds. Streams are drawn from seeds, which are printed.

#[path = "simulation/rules.rs"]
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
mod rules;

use model::fold::{Cell, CellFold, EnvironmentFold, Fold, TickFold};
use model::plan::{RuleSpec, TICK, Windows};
use model::{FalseAlarms, Key, Plan, Signal, Span, Timestamp};
use rules::{rate, rule, watch};
use streamgauge_machine::{Effect, Input, Machine, Notification, Reason};

/// 2026-01-05T00:00:00Z, a Monday.
const ZERO: i64 = 1_767_571_200_000;
const HOUR: u32 = 360;
const DAY: u32 = 24 * HOUR;

const STAGES: [&str; 3] = ["extraction", "retrieval", "synthesis"];
const PROVIDERS: [&str; 4] = ["anthropic", "google", "mistral", "openai"];
const MODELS: [&str; 5] = ["large", "medium", "mini", "small", "tiny"];

/// Sixty groups of one rate.
struct World {
    /// Calls of one group in a tick, on average.
    calls: f64,
    /// By stage.
    rates: [f64; 3],
    rng: fastrand::Rng,
}

/// What is wrong, from a tick on.
struct Incident {
    from: u32,
    to: u32,
    rate: f64,
    hits: fn(usize, usize, usize) -> bool,
}

impl World {
    fn poisson(&mut self, mean: f64) -> u64 {
        let (mut k, mut p, end) = (0, self.rng.f64(), (-mean).exp());
        while p > end {
            (k, p) = (k + 1, p * self.rng.f64());
        }
        k
    }

    fn binomial(&mut self, n: u64, p: f64) -> u64 {
        (0..n).filter(|_| self.rng.f64() < p).count() as u64
    }

    /// One tick's calls. `seen` hears of every group's calls and events.
    fn tick(&mut self, plan: &Plan, tick: u32, sequence: &mut u64, incident: Option<&Incident>, mut seen: impl FnMut(usize, u64, u64)) -> Fold {
        let at = start(tick);
        let position = Signal::InvalidJson.index();
        let mut cells = Vec::with_capacity(60);
        let first = *sequence + 1;
        for (s, stage) in STAGES.iter().enumerate() {
            for (p, provider) in PROVIDERS.iter().enumerate() {
                for (m, model) in MODELS.iter().enumerate() {
                    let broken = incident.filter(|incident| (incident.from..incident.to).contains(&tick) && (incident.hits)(s, p, m));
                    let calls = self.poisson(self.calls);
                    let events = self.binomial(calls, broken.map_or(self.rates[s], |incident| incident.rate));
                    seen((s * PROVIDERS.len() + p) * MODELS.len() + m, calls, events);
                    if calls == 0 {
                        continue;
                    }
                    let mut cell = Cell::new(&plan.groupings[0]);
                    cell.calls = calls;
                    cell.ratios[position].applies = calls;
                    cell.ratios[position].holds = events;
                    *sequence += calls;
                    let labels = vec![(*stage).to_owned(), (*provider).to_owned(), (*model).to_owned()];
                    cells.push(CellFold { grouping: 0, slice: at, labels, cell });
                }
            }
        }
        let environment = EnvironmentFold {
            name: "production".to_owned(),
            clock: at + Span::from_secs(9),
            stamp: at + Span::from_secs(9),
            sequences: Vec::new(),
            ticks: vec![TickFold { tick: at, cells, offers: Vec::new(), failures: Vec::new(), runs: Vec::new() }],
        };
        let received = *sequence + 1 - first;
        Fold { first, last: *sequence, received, environments: vec![environment], ..Fold::default() }
    }
}

fn start(tick: u32) -> Timestamp {
    Timestamp::from_millis(ZERO + i64::from(tick) * TICK.millis() as i64).expect("in range")
}

fn tick_of(at: Timestamp) -> i64 {
    (at.millis() - ZERO) / TICK.millis() as i64
}

fn invalid_json() -> RuleSpec {
    rule("invalid-json", &[Key::Stage, Key::Provider, Key::Model], vec![watch("value", rate(Signal::InvalidJson), 300)])
}

fn plan() -> Plan {
    Plan::new(Windows::default(), FalseAlarms::default(), vec![invalid_json()])
}

/// Plays ticks and says what people are told.
fn play(world: &mut World, ticks: u32, incident: Option<&Incident>, mut seen: impl FnMut(u32, usize, u64, u64)) -> Vec<Notification> {
    let plan = plan();
    let (mut machine, mut effects, mut told, mut sequence) = (Machine::new(plan.clone(), 0), Vec::new(), Vec::new(), 0);
    for tick in 0..ticks {
        let fold = world.tick(&plan, tick, &mut sequence, incident, |group, calls, events| seen(tick, group, calls, events));
        machine.apply(Input::Folded(fold), &mut effects);
        told.extend(effects.drain(..).filter_map(|effect| if let Effect::Notify(told) = effect { Some(told) } else { None }));
    }
    assert!(machine.ledger().balances());
    told
}

fn place(told: &Notification) -> Vec<&str> {
    told.group.iter().map(|(_, label)| label.as_str()).collect()
}

/// CUSUM that knows both rates, over all sixty groups: what could be had at best. Its limit is that of one false alarm a day over all of them.
struct Oracle {
    sums: Vec<f64>,
    /// The tick in which each sum left 0.
    left: Vec<u32>,
    limit: f64,
}

impl Oracle {
    fn new(limit: f64) -> Self {
        Self { sums: vec![0.0; 60], left: vec![0; 60], limit }
    }

    fn see(&mut self, tick: u32, group: usize, calls: u64, events: u64, p0: f64, p1: f64) -> bool {
        let llr = events as f64 * (p1 / p0).ln() + (calls - events) as f64 * ((1.0 - p1) / (1.0 - p0)).ln();
        if self.sums[group] <= 0.0 {
            (self.sums[group], self.left[group]) = (0.0, tick);
        }
        self.sums[group] += llr;
        self.sums[group] >= self.limit
    }
}

#[test]
fn one_broken_group_of_sixty_is_told_of_with_its_beginning() {
    const SEEDS: u64 = 50;
    let (p0, p1) = (0.002, 0.01);
    // Measured on twenty days of sixty groups without an incident: one crossing a day over all of them.
    let oracle_limit = calibrated(p0, p1);
    let (mut onsets, mut oracle_onsets, mut delays, mut best, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), 0);
    for seed in 0..SEEDS {
        let mut world = World { calls: 50.0 * 10.0 / 60.0, rates: [p0; 3], rng: fastrand::Rng::with_seed(seed) };
        let from = DAY + world.rng.u32(0..6 * HOUR);
        let incident = Incident { from, to: u32::MAX, rate: p1, hits: |s, p, m| (s, p, m) == (0, 3, 2) };
        let mut oracle = Oracle::new(oracle_limit);
        let mut oracle_at = None;
        let told = play(&mut world, from + 8 * HOUR, Some(&incident), |tick, group, calls, events| {
            if oracle_at.is_none() && oracle.see(tick, group, calls, events, p0, p1) && group == 17 && tick >= from {
                oracle_at = Some(tick - from + 1);
                oracle_onsets.push((i64::from(oracle.left[group]) - i64::from(from)).abs());
            }
        });
        let fired: Vec<_> = told.iter().filter(|told| told.reason == Reason::Fired && tick_of(told.at) > i64::from(from)).collect();
        let right = fired.iter().find(|told| place(told) == ["extraction", "openai", "mini"]);
        elsewhere += fired.len() - usize::from(right.is_some());
        let Some(right) = right else {
            panic!("seed {seed}: not told of the broken group, but of {:?}", fired.iter().map(|t| place(t)).collect::<Vec<_>>())
        };
        let drift = right.observed[0].observation.drift.expect("the detector found it");
        onsets.push((tick_of(drift.since) - i64::from(from)).abs());
        delays.push((tick_of(right.at) - i64::from(from)) as f64);
        best.push(f64::from(oracle_at.unwrap_or(8 * HOUR)));
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let median = |mut of: Vec<i64>| {
        of.sort_unstable();
        of[of.len() / 2]
    };
    let (onset, oracle_onset) = (median(onsets), median(oracle_onsets));
    let ratio = mean(&delays) / mean(&best);
    eprintln!(
        "seeds 0..{SEEDS}: told after {:.1} min on average, the oracle after {:.1} min (ratio {ratio:.2}); onset off by {onset} ticks (median), the \
         oracle's by {oracle_onset}; {elsewhere} elsewhere",
        mean(&delays) / 6.0,
        mean(&best) / 6.0,
    );
    // In this world an event comes every twelfth tick, so not even the oracle can say when it began within ten ticks.
    assert!(onset <= oracle_onset + 6, "the beginning is off by {onset} ticks, the oracle's by {oracle_onset}");
    assert!(ratio <= 2.0, "{ratio}");
    assert!(elsewhere <= SEEDS as usize / 10, "{elsewhere} other alerts");
}

/// The limit at which the oracle crosses once a day over all groups, without an incident.
fn calibrated(p0: f64, p1: f64) -> f64 {
    let mut world = World { calls: 50.0 * 10.0 / 60.0, rates: [p0; 3], rng: fastrand::Rng::with_seed(4711) };
    let days = 20;
    // For one group: the peaks of its excursions above 0.
    let mut peaks = Vec::new();
    let (mut sum, mut peak) = (0.0f64, 0.0f64);
    for _ in 0..60 * days * DAY {
        let calls = world.poisson(world.calls);
        let events = world.binomial(calls, p0);
        let llr = events as f64 * (p1 / p0).ln() + (calls - events) as f64 * ((1.0 - p1) / (1.0 - p0)).ln();
        sum = sum.max(0.0) + llr;
        peak = peak.max(sum);
        if sum <= 0.0 {
            peaks.push(peak);
            peak = 0.0;
        }
    }
    peaks.sort_by(|a, b| b.total_cmp(a));
    peaks[days as usize]
}

#[test]
fn a_healthy_week_stays_within_the_budget() {
    let seeds = 0..4;
    let mut told = Vec::new();
    for seed in seeds.clone() {
        let mut world = World { calls: 50.0 * 10.0 / 60.0, rates: [0.002; 3], rng: fastrand::Rng::with_seed(100 + seed) };
        told.extend(
            play(&mut world, 7 * DAY, None, |_, _, _, _| {}).into_iter().filter(|told| told.reason == Reason::Fired).map(|told| (seed, told.summary)),
        );
    }
    eprintln!("seeds {seeds:?}: {} false alarms in {} days; the budget is one a day", told.len(), 7 * seeds.end);
    assert!(told.len() <= 7 * seeds.end as usize, "{told:?}");
}

#[test]
fn what_breaks_together_is_told_once_at_the_node_that_broke() {
    type Hits = fn(usize, usize, usize) -> bool;
    let cases: [(Hits, &[&str]); 3] =
        [(|_, _, _| true, &[]), (|s, _, _| s == 1, &["retrieval"]), (|s, p, _| (s, p) == (2, 0), &["synthesis", "anthropic"])];
    for (hits, expected) in cases {
        let seed = 7;
        let mut world = World { calls: 8.0, rates: [0.01; 3], rng: fastrand::Rng::with_seed(seed) };
        let incident = Incident { from: DAY, to: DAY + HOUR, rate: 0.15, hits };
        let told = play(&mut world, DAY + 4 * HOUR, Some(&incident), |_, _, _, _| {});
        let said: Vec<_> = told.iter().map(|told| (told.reason, place(told))).collect();
        assert_eq!(said, [(Reason::Fired, expected.to_vec()), (Reason::Resolved, expected.to_vec())], "seed {seed}");
        assert!(tick_of(told[0].at) <= i64::from(DAY) + 12, "told at tick {} of the incident", tick_of(told[0].at) - i64::from(DAY));
        assert!(!told[0].hit.is_empty(), "the groups below are named");
    }
}

#[test]
fn what_is_told_leaves_no_drift_of_the_rest_behind() {
    // One stage fails twenty times as often as another: the environment without the calls of one is another mix.
    let seed = 5;
    let mut world = World { calls: 4.0, rates: [0.1, 0.005, 0.1], rng: fastrand::Rng::with_seed(seed) };
    let incident = Incident { from: 2 * DAY, to: 2 * DAY + 4 * HOUR, rate: 0.06, hits: |s, _, _| s == 1 };
    let told = play(&mut world, 2 * DAY + 8 * HOUR, Some(&incident), |_, _, _, _| {});
    // A false alarm of another stage is the budget's business.
    let related = told.iter().filter(|told| tick_of(told.at) > i64::from(2 * DAY) && place(told).first().is_none_or(|stage| *stage == "retrieval"));
    let related: Vec<_> = related.map(|told| (told.reason, place(told))).collect();
    assert_eq!(related, [(Reason::Fired, vec!["retrieval"]), (Reason::Resolved, vec!["retrieval"])], "seed {seed}");
}

#[test]
fn a_new_group_that_is_broken_from_its_first_call_is_caught_through_its_parent() {
    let seed = 3;
    let plan = plan();
    let mut world = World { calls: 8.0, rates: [0.01; 3], rng: fastrand::Rng::with_seed(seed) };
    let (mut machine, mut effects, mut sequence) = (Machine::new(plan.clone(), 0), Vec::new(), 0);
    let mut told = Vec::new();
    for tick in 0..DAY + HOUR {
        let mut fold = world.tick(&plan, tick, &mut sequence, None, |_, _, _| {});
        if tick >= DAY {
            let (calls, mut cell) = (4, Cell::new(&plan.groupings[0]));
            (cell.calls, cell.ratios[Signal::InvalidJson.index()]) = (calls, model::fold::Ratio { holds: 2, applies: calls });
            let labels = vec!["extraction".to_owned(), "openai".to_owned(), "new".to_owned()];
            fold.environments[0].ticks[0].cells.push(CellFold { grouping: 0, slice: start(tick), labels, cell });
            (sequence, fold.last, fold.received) = (sequence + calls, fold.last + calls, fold.received + calls);
        }
        machine.apply(Input::Folded(fold), &mut effects);
        told.extend(effects.drain(..).filter_map(|effect| if let Effect::Notify(told) = effect { Some(told) } else { None }));
    }
    let said: Vec<_> = told.iter().map(|told| (told.reason, place(told))).collect();
    assert_eq!(said, [(Reason::Fired, vec!["extraction", "openai", "new"])], "seed {seed}");
    assert!(tick_of(told[0].at) <= i64::from(DAY) + 30, "told {} ticks after its first call", tick_of(told[0].at) - i64::from(DAY));
}

/// All sixty groups fail four times as often: all calls are told of, and a person says that this is normal. Nobody is told again, though no group alone
/// had proven it.
#[test]
fn what_a_person_adopts_for_all_is_adopted_by_each() {
    let (mut again, seeds) = (0, 0..6);
    for seed in seeds.clone() {
        let mut world = World { calls: 5.0, rates: [0.01; 3], rng: fastrand::Rng::with_seed(seed) };
        let all = Incident { from: 6 * HOUR, to: 18 * HOUR, rate: 0.04, hits: |_, _, _| true };
        let plan = plan();
        let (mut machine, mut effects, mut sequence) = (Machine::new(plan.clone(), 0), Vec::new(), 0);
        let (mut adopted, mut told) = (None, Vec::new());
        for tick in 0..18 * HOUR {
            let fold = world.tick(&plan, tick, &mut sequence, Some(&all), |_, _, _| ());
            machine.apply(Input::Folded(fold), &mut effects);
            for effect in effects.drain(..) {
                let Effect::Notify(notification) = effect else { continue };
                match adopted {
                    // A few minutes later, as a person would.
                    None if notification.reason == Reason::Fired && tick >= all.from => adopted = Some((tick + 30, notification.alert_id)),
                    _ => told.push((tick, notification)),
                }
            }
            if let Some((_, id)) = adopted.as_ref().filter(|(at, _)| *at == tick) {
                machine.apply(Input::Adopt { alert_id: id.clone() }, &mut effects);
            }
        }
        let (at, _) = adopted.unwrap_or_else(|| panic!("seed {seed}: nobody was told"));
        again += told.iter().filter(|(tick, told)| *tick > at && told.reason == Reason::Fired).count();
    }
    eprintln!("seeds {seeds:?}: {again} alerts after the adoption in {} hours", 12 * 6);
    assert!(again <= 3, "{again} alerts in {} hours after what they show was adopted", 12 * 6);
}
