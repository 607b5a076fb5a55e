//! What twenty thousand groups with three watched rates cost the whole machine: counting, windows, trees of gauges and decisions, every ten seconds.

use model::fold::{Cell, CellFold, EnvironmentFold, Fold, Ratio, TickFold};
use model::plan::{Filter, Rule, RuleSpec, SignalRef, Statistic, TICK, WatchSpec, Windows};
use model::{FalseAlarms, Key, Plan, Signal, Span, Timestamp};
use std::time::{Duration, Instant};
use streamgauge_machine::{Input, Machine};

const GROUPS: usize = 20_000;
const SIGNALS: [Signal; 3] = [Signal::Error, Signal::Retry, Signal::Fallback];

pub struct Whole {
    /// Share of one core, if a tick of ten seconds comes every ten seconds.
    pub share: f64,
    /// Per group, signal and tick.
    pub nanos: f64,
    /// Bytes of a snapshot per group and signal.
    pub bytes: f64,
    /// Nanoseconds of the same without rules: counting and windows alone.
    pub nanos_without: f64,
}

/// Every group has ten calls in every tick.
pub fn whole(seed: u64) -> Whole {
    let (with, bytes) = run(seed, SIGNALS.map(rule).to_vec());
    let (without, _) = run(seed, Vec::new());
    let per = |time: Duration| time.as_nanos() as f64 / (GROUPS * SIGNALS.len()) as f64;
    Whole {
        share: with.as_secs_f64() / (TICK.millis() as f64 / 1000.0),
        nanos: per(with),
        bytes: bytes as f64 / (GROUPS * SIGNALS.len()) as f64,
        nanos_without: per(without),
    }
}

fn rule(signal: Signal) -> RuleSpec {
    let rule = Rule { group_by: vec![Key::Stage, Key::Provider, Key::Model], ..Rule::new(signal.name()) };
    let statistic = Statistic::Rate(SignalRef::BuiltIn(signal));
    let watch = WatchSpec::new("value", statistic, Span::from_secs(60));
    RuleSpec { rule, watches: vec![watch], applies: Filter::default(), script: None }
}

/// The median time of a tick once all ranges are learned, and the bytes that a snapshot holds more than without rules.
fn run(seed: u64, rules: Vec<RuleSpec>) -> (Duration, usize) {
    const TICKS: u32 = 40;
    let plan = Plan::new(Windows { series_max: u32::MAX, ..Windows::default() }, FalseAlarms::default(), rules);
    let mut machine = Machine::new(plan.clone(), 0);
    let mut rng = fastrand::Rng::with_seed(seed);
    let labels: Vec<_> =
        (0..GROUPS).map(|g| vec![format!("stage-{}", g % 10), format!("provider-{}", g / 10 % 20), format!("model-{}", g / 200)]).collect();
    let zero = Timestamp::from_millis(1_767_571_200_000).expect("in range");
    let (mut sequence, mut times, mut effects) = (0, Vec::new(), Vec::new());
    for tick in 0..TICKS {
        let at = zero + Span::from_millis(u64::from(tick) * TICK.millis());
        let cells = labels.iter().map(|labels| {
            let mut cell = Cell::new(&plan.groupings[0]);
            cell.calls = 10;
            for signal in SIGNALS {
                cell.ratios[signal.index()] = Ratio { holds: u64::from(rng.f64() < 0.2), applies: 10 };
            }
            CellFold { grouping: 0, slice: at, labels: labels.clone(), cell }
        });
        let ticks = vec![TickFold { tick: at, cells: cells.collect(), offers: Vec::new(), failures: Vec::new(), runs: Vec::new() }];
        let environment = EnvironmentFold { name: "production".into(), clock: at, stamp: at, sequences: Vec::new(), ticks };
        let first = sequence + 1;
        sequence += 10 * GROUPS as u64;
        let fold = Fold { first, last: sequence, received: 10 * GROUPS as u64, environments: vec![environment], ..Fold::default() };
        let began = Instant::now();
        machine.apply(Input::Folded(fold), &mut effects);
        if tick > TICKS / 2 {
            times.push(began.elapsed());
        }
        effects.clear();
    }
    times.sort_unstable();
    (times[times.len() / 2], machine.snapshot().len())
}
