//! What a judged sample finds and how wide its estimates are, through the fold's offers, the sampler, the windows and the gauge.
//!
//! `cargo bench -p streamgauge-machine --bench judged [-- --quick]`. Two questions: how long until a pass rate that falls from 95 % to 90 % is told with
//! six judged calls a minute of 100,000 an hour, and what a sample spread over groups gives frequent and rare groups, beside a uniform one of as many
//! calls. Verdicts come in the tick after their call's. Ends with one line per target.

#![expect(clippy::print_stdout, reason = "a benchmark's answer")]

use model::fold::{Candidate, Cell, CellFold, EnvironmentFold, Fold, Offer, TickFold};
use model::plan::{Decides, Filter, Plan, Range, Rule, RuleSpec, SignalRef, Statistic, WatchSpec, Windows};
use model::verdict::{Judge, JudgeRequest, Outcome, Sampling, Verdict, VerdictSignal};
use model::window::Checked;
use model::{FalseAlarms, Key, Span, Timestamp};
use streamgauge_machine::{CheckRequest, Effect, Input, Machine, Notification, Reason};

const SEED: u64 = 1;
/// Ticks of ten seconds.
const HOUR: u64 = 360;
const DAY: u64 = 24 * HOUR;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    println!("seed {SEED}{}", if quick { ", quick" } else { "" });
    let targets: Vec<_> = drop_is_told(quick).into_iter().chain(widths(quick)).collect();
    println!();
    for (name, figure, limit, pass) in &targets {
        println!("target {name} {figure:.3} {limit} {}", if *pass { "pass" } else { "fail" });
    }
    std::process::exit(i32::from(targets.iter().any(|(.., pass)| !pass)));
}

type Target = (&'static str, f64, &'static str, bool);

/// One kind of calls.
struct Stream {
    label: &'static str,
    /// Calls a tick, on average.
    calls: f64,
    fails: f64,
}

struct World {
    machine: Machine,
    rng: fastrand::Rng,
    at: u64,
    sequence: u64,
    told: Vec<Notification>,
    checks: Vec<CheckRequest>,
    chosen: Vec<JudgeRequest>,
    judged: u64,
}

impl World {
    fn new(plan: Plan, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { machine: Machine::new(plan, 0), rng, at: 0, sequence: 0, told: Vec::new(), checks: Vec::new(), chosen: Vec::new(), judged: 0 }
    }

    fn now(&self) -> Timestamp {
        // A Monday.
        Timestamp::from_millis(1_767_571_200_000 + self.at as i64 * 10_000).expect("in range")
    }

    /// Poisson, by its waiting times; for large means by the normal that it is close to.
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 50.0 {
            let normal = (-2.0 * self.rng.f64().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * self.rng.f64()).cos();
            return (mean + normal * mean.sqrt()).round().max(0.0) as u64;
        }
        let (mut count, mut waited) = (0, -self.rng.f64().max(1e-300).ln());
        while waited < mean {
            count += 1;
            waited -= self.rng.f64().max(1e-300).ln();
        }
        count
    }

    /// The smallest of so many even draws, ascending: each is the smallest of what is left above the one before.
    fn draws(&mut self, calls: u64, most: usize) -> Vec<u64> {
        let mut low = 0.0;
        let kept = (most as u64 + 1).min(calls);
        (0..kept)
            .map(|taken| {
                low += (1.0 - low) * (1.0 - self.rng.f64().powf(1.0 / (calls - taken) as f64));
                (low * 2f64.powi(64)) as u64
            })
            .collect()
    }

    /// One tick of calls; what was chosen in the one before is judged.
    fn tick(&mut self, streams: &[Stream]) {
        let (judge, base) = (self.machine.plan().judges[0].clone(), Cell::new(&self.machine.plan().groupings[0]));
        let (most, by) = (judge.sampling.most_per_tick(), judge.sampling.by.clone());
        let first = self.sequence + 1;
        let mut offers: Vec<Offer> = Vec::new();
        let (mut received, mut cells) = (0, Vec::new());
        for (kind, stream) in streams.iter().enumerate() {
            let calls = self.poisson(stream.calls);
            let candidates = self.draws(calls, most);
            let labels: Vec<_> = by.iter().map(|_| stream.label.to_owned()).collect();
            let candidate = |(at, draw): (usize, u64)| {
                // Which kind a call is of is known by its number.
                let sequence = (self.sequence + 1 + at as u64) * 16 + kind as u64;
                Candidate { draw, sequence, groups: [(1, vec![stream.label.to_owned()])].into() }
            };
            let candidates = candidates.into_iter().enumerate().map(candidate).collect();
            let offer = Offer { judge: 0, always: false, labels: labels.clone(), calls, candidates };
            match offers.iter_mut().find(|known| known.labels == labels) {
                Some(known) => known.merge(offer, most),
                None => offers.push(offer),
            }
            self.sequence += calls;
            received += calls;
            let labels = vec![String::new(), String::new(), stream.label.to_owned()];
            cells.push(CellFold { grouping: 0, slice: self.now(), labels, cell: Cell { calls, ..base.clone() } });
        }
        let now = self.now();
        let environment = EnvironmentFold {
            name: "default".into(),
            clock: now,
            stamp: now,
            sequences: Vec::new(),
            ticks: vec![TickFold { tick: now, cells, offers, failures: Vec::new(), runs: Vec::new() }],
        };
        self.apply(Input::Folded(Fold { first, last: self.sequence, received, environments: vec![environment], ..Fold::default() }));
        let chosen = std::mem::take(&mut self.chosen);
        let verdicts: Vec<_> = chosen.into_iter().map(|request| self.verdict(request, streams)).collect();
        self.judged += verdicts.len() as u64;
        self.apply(Input::Judged { verdicts });
        self.at += 1;
    }

    fn verdict(&mut self, request: JudgeRequest, streams: &[Stream]) -> Verdict {
        let JudgeRequest { judge, fingerprint, environment, sequence, .. } = request;
        let fails = self.rng.f64() < streams[(sequence % 16) as usize].fails;
        let outcome = if fails { Outcome::Fail } else { Outcome::Pass };
        Verdict { judge, fingerprint, environment, sequence, outcome, score: None, latency_ms: None, cost_nano_usd: 0, wait_ms: 0 }
    }

    fn apply(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.machine.apply(input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Notify(told) => self.told.push(told),
                Effect::Judge(request) => self.chosen.push(request),
                Effect::Check(asked) => {
                    let results = asked.groups.iter().map(|_| Checked::Quiet).collect();
                    let answer = Input::Checked { environment: asked.environment.clone(), at: asked.at, rule: asked.rule, results };
                    self.checks = vec![asked];
                    self.apply(answer);
                }
                Effect::Seal(_) | Effect::DeadLetter { .. } | Effect::Suspend(_) => {}
            }
        }
    }
}

/// A plan with one judge and one rule about its opinions.
fn plan(sampling: Sampling, by_model: bool, check: bool, window: u64, false_alarms: &str) -> Plan {
    let fails = Statistic::Rate(SignalRef::Verdict(VerdictSignal::Failed, "judge:j".into()));
    let mut rule = Rule::new("judged");
    rule.group_by = if by_model { vec![Key::Model] } else { Vec::new() };
    rule.false_alarms = Some(FalseAlarms::parse(false_alarms).expect("it is written as it should be"));
    if check {
        rule.decides = Decides::Check(0);
    }
    let watch = WatchSpec { only: Filter(vec![(Key::Judge, vec!["j".into()])]), ..WatchSpec::new("w", fails, Span::from_secs(window)) };
    let spec = RuleSpec { rule, watches: vec![watch], applies: Filter::default(), script: None };
    let judge = Judge { name: "j".into(), fingerprint: 1, applies: Filter::default(), environments: Vec::new(), sampling };
    Plan::new(Windows::default(), FalseAlarms::default(), vec![spec]).judged_by(vec![judge])
}

/// What is expected of a series whose pass rate falls.
#[derive(Clone, Copy)]
enum Expects {
    /// A person says: at most 5 % fail.
    Said,
    /// It has learned so many ticks.
    Learned(u64),
}

/// What came of a number of runs.
struct Came {
    /// Minutes.
    delays: Vec<f64>,
    judged: Vec<f64>,
    missed: usize,
    false_alarms: usize,
    healthy_days: f64,
}

/// From 5 % to 10 % of fails, at 100,000 calls an hour and six judged calls a minute. The first environment has half of the budget, so that "2 per
/// week" is one a week for this series.
fn drops(expects: Expects, runs: u64) -> Came {
    let limit = 12 * HOUR;
    let sampling = Sampling { rate: 1.0, per_minute: 6, by: Vec::new(), ..Sampling::default() };
    let stream = |fails| [Stream { label: "", calls: 100_000.0 / 360.0, fails }];
    let mut came = Came { delays: Vec::new(), judged: Vec::new(), missed: 0, false_alarms: 0, healthy_days: 0.0 };
    for run in 0..runs {
        let mut plan = plan(sampling.clone(), false, false, 3600, "2 per week");
        let healthy = match expects {
            Expects::Said => {
                plan.rules[0].watches[0].expect = Some(Range { low: 0.0, high: 0.05 });
                3 * DAY
            }
            Expects::Learned(ticks) => ticks,
        };
        let mut world = World::new(plan, SEED + run);
        // So that the incident begins at another time of the day in each run.
        let begins = healthy + world.rng.u64(0..DAY);
        while world.at < begins {
            world.tick(&stream(0.05));
        }
        let fired = |world: &World| world.told.iter().filter(|told| told.reason == Reason::Fired).count();
        let before = fired(&world);
        came.false_alarms += before;
        came.healthy_days += begins as f64 / DAY as f64;
        if world.machine.alerts().count() > 0 {
            continue;
        }
        let seen = world.judged;
        while fired(&world) == before && world.at < begins + limit {
            world.tick(&stream(0.10));
        }
        came.missed += usize::from(fired(&world) == before);
        came.delays.push((world.at - begins) as f64 / 6.0);
        came.judged.push((world.judged - seen) as f64);
    }
    came.delays.sort_by(f64::total_cmp);
    came
}

fn drop_is_told(quick: bool) -> Vec<Target> {
    let (runs, days) = if quick { (12, 7) } else { (60, 14) };
    println!("\npass rate from 95 % to 90 %, 100,000 calls an hour, 6 judged a minute, one false alarm a week for this series");
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let mut targets = Vec::new();
    for (what, expects, runs, told, alarms, limit, limit_text) in [
        ("expected at most 5 %", Expects::Said, 5 * runs, "judged_drop_told_after_minutes", "judged_false_alarms_per_promised", 60.0, "<=60"),
        (
            "range learned",
            Expects::Learned(days * DAY),
            runs,
            "judged_drop_from_learned_minutes",
            "judged_learned_false_alarms_per_promised",
            120.0,
            "<=120",
        ),
    ] {
        let came = drops(expects, runs);
        let promised = came.healthy_days / 7.0;
        let at = |share: usize| came.delays.get(came.delays.len() * share / 10).copied().unwrap_or(f64::NAN);
        println!(
            "  {what}, {:.0} healthy days in {runs} runs: told after {:.1} min on average ({:.0} judged calls), median {:.1}, 90 % within {:.1}; {} not within 12 h; {} false alarms, promised {promised:.1}",
            came.healthy_days,
            mean(&came.delays),
            mean(&came.judged),
            at(5),
            at(9),
            came.missed,
            came.false_alarms
        );
        targets.push((told, mean(&came.delays), limit_text, mean(&came.delays) <= limit && came.missed == 0));
        // Chance may give twice the promise where little is promised, and two more.
        targets.push((alarms, came.false_alarms as f64 / promised, "<=1", came.false_alarms as f64 <= promised.max(2.0)));
    }
    targets
}

/// The widths of 95 % intervals after an hour, of a uniform sample and of one that is spread over models.
fn widths(quick: bool) -> Vec<Target> {
    const STREAMS: [(&str, f64, f64); 6] = [
        ("frequent-a", 300.0, 0.05),
        ("frequent-b", 150.0, 0.08),
        ("seldom-a", 5.0, 0.10),
        ("seldom-b", 2.0, 0.20),
        ("rare-a", 0.5, 0.10),
        ("rare-b", 0.2, 0.30),
    ];
    let runs = if quick { 5 } else { 30 };
    let streams = || STREAMS.map(|(label, calls, fails)| Stream { label, calls, fails });
    let uniform = Sampling { rate: 1.0, per_minute: 60, by: Vec::new(), ..Sampling::default() };
    let spread = Sampling { by: vec![Key::Model], group_min: 6, ..uniform.clone() };
    let mut tables = Vec::new();
    for sampling in [uniform, spread] {
        let mut sums = [[0.0; 3]; STREAMS.len() + 1];
        let mut covered = 0;
        for run in 0..runs {
            for (by_model, rows) in [(true, 0..STREAMS.len()), (false, STREAMS.len()..STREAMS.len() + 1)] {
                let mut world = World::new(plan(sampling.clone(), by_model, true, 3600, "1 per day"), SEED + run);
                (0..2 * HOUR + 6).for_each(|_| world.tick(&streams()));
                let groups = &world.checks[0].groups;
                for row in rows {
                    let label = STREAMS.get(row).map(|stream| stream.0);
                    let seen = groups.iter().find(|group| label.is_none_or(|label| group.labels == [label])).map(|group| &group.observations[0]);
                    let (calls, effective, low, high) =
                        seen.map_or((0.0, 0.0, 0.0, 1.0), |seen| (seen.calls as f64, seen.effective.unwrap_or(0.0), seen.low, seen.high));
                    let adds = [calls, effective, high - low];
                    sums[row].iter_mut().zip(adds).for_each(|(sum, add)| *sum += add / runs as f64);
                    let whole: f64 = STREAMS.iter().map(|stream| stream.1).sum();
                    let truth = STREAMS.iter().map(|stream| stream.1 * stream.2).sum::<f64>() / whole;
                    covered += usize::from(label.is_none() && (low..=high).contains(&truth));
                }
            }
        }
        tables.push((sums, covered));
    }
    println!("\n60 judged calls a minute, after an hour: opinions, their effective number, width of the 95 % interval; {runs} runs");
    println!(
        "  {:<12} {:>9} {:>6}   {:>8} {:>9} {:>6}   {:>8} {:>9} {:>6}",
        "", "calls/min", "fails", "uniform", "effective", "width", "spread", "effective", "width"
    );
    for row in 0..=STREAMS.len() {
        let (label, calls, fails) = STREAMS.get(row).map_or(("all calls", STREAMS.iter().map(|stream| stream.1).sum(), f64::NAN), |stream| *stream);
        let [u, s] = [tables[0].0[row], tables[1].0[row]];
        println!(
            "  {label:<12} {:>9.1} {fails:>6.2}   {:>8.0} {:>9.0} {:>6.3}   {:>8.0} {:>9.0} {:>6.3}",
            calls * 6.0,
            u[0],
            u[1],
            u[2],
            s[0],
            s[1],
            s[2]
        );
    }
    let runs = runs as f64;
    println!(
        "  the interval of all calls covers the truth in {:.0} % of uniform and {:.0} % of spread samples",
        100.0 * tables[0].1 as f64 / runs,
        100.0 * tables[1].1 as f64 / runs
    );
    let width = |table: usize, row: usize| tables[table].0[row][2];
    let rare = (width(1, 4) + width(1, 5)) / (width(0, 4) + width(0, 5));
    let frequent = (width(1, 0) + width(1, 1)) / (width(0, 0) + width(0, 1));
    vec![
        ("spread_to_uniform_width_rare_groups", rare, "<=0.6", rare <= 0.6),
        ("spread_to_uniform_width_frequent_groups", frequent, "<=1.3", frequent <= 1.3),
    ]
}
