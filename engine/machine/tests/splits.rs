//! However the stream is cut, on however many threads it is folded, whenever checks are answered and whenever the machine is restarted: the same
//! notifications, ledger and state, byte for byte.
//!
//! `STREAMGAUGE_SPLITS_SEED=S` runs one seed, as a failure names it; `STREAMGAUGE_SPLITS_SEEDS=N` runs N.

#[path = "simulation/rules.rs"]
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
mod rules;
#[path = "simulation/world.rs"]
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
mod world;

use model::verdict::JudgeRequest;
use model::{Fold, Plan, Span, Timestamp};
use rules::{Suspensions, answer, every_kind_of_rule, fold, judge};
use std::collections::BTreeMap;
use std::thread;
use streamgauge_machine::{CheckRequest, ENVIRONMENTS_MAX, Effect, GroupBlock, Input, Ledger, Machine, Notification, SliceBlock, Start};
use world::{Entry, Size, World};

/// Most of a minute.
const SEEDS: u64 = 48;

/// A machine with the little of an edge that it needs.
struct Desk<'p> {
    plan: &'p Plan,
    machine: Machine,
    asked: Vec<CheckRequest>,
    judging: BTreeMap<String, JudgeRequest>,
    blocks: BTreeMap<(String, Timestamp), SliceBlock>,
    told: BTreeMap<String, Notification>,
    suspensions: Suspensions,
    suspended: u64,
}

/// What must not depend on how it came about.
#[derive(PartialEq)]
struct Outcome {
    told: BTreeMap<String, Notification>,
    ledger: Ledger,
    blocks: BTreeMap<(String, Timestamp), SliceBlock>,
    snapshot: Vec<u8>,
}

/// How much happened, to see that the runs are worth something.
struct Ran {
    outcome: Outcome,
    suspended: u64,
}

impl<'p> Desk<'p> {
    fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            machine: Machine::new(plan.clone(), 0),
            asked: Vec::new(),
            judging: BTreeMap::new(),
            blocks: BTreeMap::new(),
            told: BTreeMap::new(),
            suspensions: Suspensions::default(),
            suspended: 0,
        }
    }

    fn apply(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.machine.apply(input, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Check(asked) => self.asked.push(asked),
                Effect::Judge(request) => _ = self.judging.insert(request.id(), request),
                Effect::Notify(told) => assert!(self.told.insert(told.id.clone(), told).is_none(), "told twice in one life"),
                Effect::Seal(block) => assert!(self.blocks.insert((block.environment.clone(), block.start), block).is_none(), "sealed twice"),
                Effect::Suspend(suspended) => {
                    self.suspended += 1;
                    self.suspensions.hear(&suspended);
                }
                Effect::DeadLetter { .. } => {}
            }
        }
    }

    /// What happens beside the stream, the same for every run: time elapses, and judges say what they think of half the calls they were given.
    fn beside(&mut self, now: Timestamp) {
        self.apply(Input::Elapsed { now });
        let said: Vec<_> = self.judging.keys().step_by(2).cloned().collect();
        let verdicts = said.iter().filter_map(|id| self.judging.remove(id)).map(|request| judge(&request)).collect();
        self.apply(Input::Judged { verdicts });
    }

    fn answer(&mut self, at: usize) {
        let asked = self.asked.swap_remove(at);
        self.apply(answer(self.plan, &asked));
    }

    fn restart(&mut self) {
        let start = Start::decode(&self.machine.snapshot()).expect("it was just written");
        let needs = start.needs(self.plan);
        let needed = |block: &&SliceBlock| needs.iter().any(|(name, from, to)| block.environment == *name && (*from..*to).contains(&block.start));
        let sealed = self.blocks.values().filter(needed).cloned().collect();
        self.asked.clear();
        self.judging.clear();
        let mut effects = Vec::new();
        self.machine = start.finish(self.plan.clone(), sealed, &mut effects);
        self.carry_out(effects);
    }

    fn finish(mut self) -> Ran {
        while !self.asked.is_empty() {
            self.answer(0);
        }
        assert_eq!(self.machine.waiting(), 0);
        let outcome = Outcome { told: self.told, ledger: self.machine.ledger().clone(), blocks: self.blocks, snapshot: self.machine.snapshot() };
        Ran { outcome, suspended: self.suspended }
    }
}

fn folded(plan: &Plan, entries: &[Entry], suspensions: &Suspensions) -> Fold {
    fold(plan, entries.iter().map(|entry| (entry.sequence, entry.stamp, entry.payload.as_slice())), suspensions)
}

/// Where the stream pauses, time elapses: index of the next entry, and the time. These are inputs, the same for every run.
fn elapses(rng: &mut fastrand::Rng, entries: &[Entry]) -> Vec<(usize, Timestamp)> {
    let mut elapses = Vec::new();
    for (at, two) in entries.windows(2).enumerate() {
        let pause = two[1].stamp.since(two[0].stamp);
        if pause > Span::from_secs(6) && rng.u32(0..3) > 0 {
            let mut times: Vec<_> = (0..rng.usize(1..4)).map(|_| two[0].stamp + Span::from_millis(rng.u64(0..pause.millis()))).collect();
            times.sort_unstable();
            elapses.extend(times.into_iter().map(|time| (at + 1, time)));
        }
    }
    elapses
}

/// One call per batch, one thread, every check answered before the next call.
fn one_at_a_time(plan: &Plan, entries: &[Entry], elapses: &[(usize, Timestamp)]) -> Ran {
    let mut desk = Desk::new(plan);
    let mut elapses = elapses.iter().peekable();
    for (at, entry) in entries.iter().enumerate() {
        while let Some((_, now)) = elapses.next_if(|(next, _)| *next == at) {
            desk.beside(*now);
            (0..desk.asked.len()).for_each(|_| desk.answer(0));
        }
        let fold = folded(plan, std::slice::from_ref(entry), &desk.suspensions);
        desk.apply(Input::Folded(fold));
        (0..desk.asked.len()).for_each(|_| desk.answer(0));
    }
    desk.finish()
}

fn at_random(plan: &Plan, entries: &[Entry], elapses: &[(usize, Timestamp)], rng: &mut fastrand::Rng) -> Ran {
    let mut desk = Desk::new(plan);
    let mut elapses = elapses.iter().peekable();
    let (mut at, most, patience) = (0, [2, 30, 400][rng.usize(0..3)], [1, 4, 40][rng.usize(0..3)]);
    let deaf = rng.bool();
    while at < entries.len() {
        while let Some((_, now)) = elapses.next_if(|(next, _)| *next == at) {
            desk.beside(*now);
        }
        let stop = elapses.peek().map_or(entries.len(), |(next, _)| *next);
        let mut batches = Vec::new();
        for _ in 0..rng.usize(1..5) {
            let end = (at + rng.usize(1..=most)).min(stop);
            batches.push(&entries[at..end]);
            at = end;
        }
        // Some edges never hear of a suspension; the others hear of it late.
        let heard = if deaf { Suspensions::default() } else { desk.suspensions.clone() };
        let folds: Vec<Fold> = thread::scope(|scope| {
            let threads: Vec<_> = batches.iter().map(|batch| scope.spawn(|| folded(plan, batch, &heard))).collect();
            threads.into_iter().map(|thread| thread.join().expect("folding does not panic")).collect()
        });
        for fold in folds {
            desk.apply(Input::Folded(fold));
            while !desk.asked.is_empty() && rng.u32(0..patience) == 0 {
                desk.answer(rng.usize(0..desk.asked.len()));
            }
            if rng.u32(0..30) == 0 {
                desk.restart();
            }
        }
    }
    desk.finish()
}

fn differ(a: &Outcome, b: &Outcome) -> Option<String> {
    if let Some((id, told)) = b.told.iter().find(|(id, told)| a.told.get(*id) != Some(told)) {
        return Some(format!("{told:#?}\none at a time: {:#?}", a.told.get(id)));
    }
    if let Some(told) = a.told.values().find(|told| !b.told.contains_key(&told.id)) {
        return Some(format!("only one at a time: {told:#?}"));
    }
    if a.ledger != b.ledger {
        return Some(format!("{:?}\none at a time: {:?}", b.ledger, a.ledger));
    }
    (a.blocks != b.blocks).then(|| "sealed slices".to_owned()).or_else(|| (a.snapshot != b.snapshot).then(|| "state".to_owned()))
}

#[test]
fn alerts_ledger_and_state_do_not_depend_on_cuts_threads_answers_or_restarts() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("STREAMGAUGE_SPLITS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STREAMGAUGE_SPLITS_SEEDS").unwrap_or(SEEDS),
    };
    let (mut told, mut overflowed, mut crowded, mut forgotten, mut judged, mut suspended) = (0, 0, 0, 0, 0, 0);
    let (mut runs, mut unmeasured) = (0, 0);
    for seed in seeds.clone() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let size = Size {
            logs: rng.usize(100..2_500),
            strange_environments: if seed % 4 == 3 { 3 * ENVIRONMENTS_MAX } else { 0 },
            long_pauses: seed % 4 == 1,
        };
        let entries = World::new(&mut rng, size).entries;
        let mut plan = every_kind_of_rule();
        if seed % 4 == 2 {
            // So few series that there are more runs than may be open.
            plan.windows.series_max = 10;
        }
        let elapses = elapses(&mut rng, &entries);
        let Ran { outcome: reference, suspended: times } = one_at_a_time(&plan, &entries, &elapses);
        for round in 0..2 {
            let Ran { outcome, .. } = at_random(&plan, &entries, &elapses, &mut rng);
            if let Some(difference) = differ(&reference, &outcome) {
                panic!("seed {seed} (run it with STREAMGAUGE_SPLITS_SEED={seed}), round {round}: {difference}");
            }
        }
        suspended += times;
        told += reference.told.len();
        judged += reference.ledger.judged.values().map(|judged| judged.passed + judged.failed).sum::<u64>();
        overflowed += u64::from(reference.ledger.overflowed > 0);
        let of_runs = |grouping: &&GroupBlock| grouping.identity.ends_with("|runs");
        let cells = reference.blocks.values().flat_map(|block| &block.groupings).filter(of_runs).flat_map(|grouping| &grouping.cells);
        runs += cells.map(|(_, cell)| cell.calls).sum::<u64>();
        unmeasured += u64::from(reference.ledger.run_calls_unmeasured > 0);
        crowded += u64::from(reference.ledger.malformed_by.contains_key(&model::wire::Reason::TooManyEnvironments));
        forgotten += u64::from(entries.windows(2).any(|two| two[1].stamp.since(two[0].stamp) > Span::from_secs(3_800)));
    }
    eprintln!(
        "{told} notifications; {judged} opinions; seeds with overflow {overflowed}, too many environments {crowded}, pauses that groups do not survive {forgotten}; {suspended} suspensions; \
         {runs} runs counted, seeds with too many {unmeasured}"
    );
    if seeds.count() >= SEEDS as usize {
        let tame =
            told < 1_000 || judged < 1_000 || overflowed < 6 || crowded < 3 || forgotten < 10 || suspended < 100 || runs < 1_000 || unmeasured < 4;
        assert!(!tame, "the streams are too tame");
    }
}
