//! The edge as a model: it delivers, answers, journals, takes snapshots and dies at any moment, and everything that outlives it is on its [`Disk`].
//!
//! What it holds to is what the program around the machine must hold to:
//! - a batch holds no sequence that an earlier one had;
//! - what is not in the stream is journaled with its position before it is applied;
//! - time elapses only at the end of the stream, and judges are heard only there or live: never while what an earlier life had read is read again;
//! - effects are carried out before the snapshot that follows them, or together with it;
//! - a restart reads on after the snapshot's position and applies the journal where it was applied.

use crate::rules::{Suspensions, answer, fold, judge};
use crate::world::{Entry, World};
use model::verdict::{JudgeRequest, Verdict};
use model::wire::Reason;
use model::{Plan, Span, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use streamgauge_machine::{CheckRequest, Effect, Input, Machine, Notification, SliceBlock, Start};

/// Nothing more is delivered while so many closed ticks wait for answers.
const WAITING_MAX: usize = 100;

/// A mistake planted into the edge, to see that the checkers find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A restart reads on where the last life died, not after the snapshot.
    ReadsOnWhereItDied,
    /// A restart gives no sealed slices back.
    ForgetsSealedSlices,
    /// A restart does not apply the journal again.
    ForgetsTheJournal,
    /// Redelivered messages reach the machine again.
    TakesRedeliveries,
    /// Lets time elapse where an earlier life had read on, as if the stream had nothing more there.
    ElapsesWhileCatchingUp,
}

/// What survives a crash.
#[derive(Debug, Default)]
pub struct Disk {
    pub snapshot: Option<Vec<u8>>,
    /// Later ones of the same slice replace earlier ones.
    pub blocks: BTreeMap<(String, Timestamp), SliceBlock>,
    /// What happened beside the stream, each with the position after which it was applied.
    pub journal: Vec<(u64, Beside)>,
    /// Unique by id.
    pub outbox: BTreeMap<String, Notification>,
    /// In the order in which they were first told.
    pub told: Vec<String>,
    pub dead: BTreeMap<u64, Reason>,
}

/// What happens beside the stream.
#[derive(Clone, Debug)]
pub enum Beside {
    Elapsed(Timestamp),
    Judged(Vec<Verdict>),
}

/// What happened in a run, to see that the runs are worth something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Happened {
    pub crashes: u64,
    pub told_again: u64,
    pub sealed_again: u64,
    pub answered_late: u64,
    pub verdicts: u64,
}

/// One life of the edge and its machine, from start to crash.
struct Life {
    machine: Machine,
    /// Effects not carried out yet.
    todo: VecDeque<Effect>,
    asked: Vec<CheckRequest>,
    judging: Vec<JudgeRequest>,
    /// How much of the journal is applied.
    journaled: usize,
    /// The last sequence this life has read; behind it, everything is dropped.
    read: u64,
    suspensions: Suspensions,
}

pub struct Harness<'w> {
    world: &'w World,
    plan: Plan,
    rng: fastrand::Rng,
    bug: Option<Bug>,
    /// The last sequence that any life has read.
    furthest: u64,
    pub disk: Disk,
    pub happened: Happened,
}

impl<'w> Harness<'w> {
    pub fn new(world: &'w World, plan: Plan, rng: fastrand::Rng, bug: Option<Bug>) -> Self {
        Self { world, plan, rng, bug, furthest: 0, disk: Disk::default(), happened: Happened::default() }
    }

    /// Runs the world to its end through as many lives as it takes, and returns the last machine, at rest.
    pub fn run(&mut self) -> Result<Machine, String> {
        let mut crashes_left = self.rng.u32(1..12);
        let crash_every = self.world.entries.len() as u32 / 20;
        let mut life = self.start(0);
        loop {
            if crashes_left > 0 && self.rng.u32(0..crash_every.max(8)) < 2 {
                crashes_left -= 1;
                life = self.crash(life);
                continue;
            }
            match self.rng.u32(0..100) {
                0..30 => {
                    for _ in 0..self.rng.u32(1..80) {
                        self.carry_out_one(&mut life)?;
                    }
                }
                30..45 => (0..self.rng.u32(1..40)).for_each(|_| self.answer_one(&mut life)),
                45..48 => self.snapshot(&mut life)?,
                48..64 => {
                    let died = if self.rng.bool() { self.elapse(&mut life) } else { self.judge(&mut life) };
                    if died {
                        // Journaled, and dead before it is applied.
                        crashes_left = crashes_left.saturating_sub(1);
                        life = self.crash(life);
                    }
                }
                _ => {
                    if self.bug == Some(Bug::ElapsesWhileCatchingUp) {
                        self.elapse(&mut life);
                    }
                    if !self.deliver(&mut life)? && life.todo.is_empty() && life.asked.is_empty() {
                        break;
                    }
                }
            }
            if !life.machine.ledger().balances() {
                return Err(format!("the ledger does not balance: {:?}", life.machine.ledger()));
            }
        }
        self.finish(life)
    }

    /// The calls are over: time goes on for a while, and every check is answered.
    fn finish(&mut self, mut life: Life) -> Result<Machine, String> {
        let mut now = self.world.entries.last().map_or(Timestamp::EPOCH, |entry| entry.stamp);
        for seconds in [8, 31, 60, 300, 4_000] {
            now = now + Span::from_secs(seconds);
            self.disk.journal.push((life.machine.position(), Beside::Elapsed(now)));
            self.catch_up_journal(&mut life);
        }
        while !life.todo.is_empty() || !life.asked.is_empty() {
            self.carry_out_one(&mut life)?;
            self.answer_one(&mut life);
        }
        if life.machine.waiting() > 0 {
            return Err(format!("{} ticks wait though nothing is asked", life.machine.waiting()));
        }
        Ok(life.machine)
    }

    fn start(&mut self, died_at: u64) -> Life {
        let mut effects = Vec::new();
        let machine = match &self.disk.snapshot {
            None => Machine::new(self.plan.clone(), 0),
            Some(bytes) => {
                let start = Start::decode(bytes).expect("it was written whole");
                let mut sealed = Vec::new();
                for (name, from, to) in start.needs(&self.plan) {
                    let held = self.disk.blocks.iter().filter(|((of, start), _)| *of == name && (from..to).contains(start));
                    sealed.extend(held.map(|(_, block)| block.clone()));
                }
                if self.bug == Some(Bug::ForgetsSealedSlices) {
                    sealed.clear();
                }
                start.finish(self.plan.clone(), sealed, &mut effects)
            }
        };
        let mut read = machine.position();
        if self.bug == Some(Bug::ReadsOnWhereItDied) {
            read = read.max(died_at);
        }
        // Entries at the snapshot's position may be in it already; a time that has elapsed changes nothing the second time.
        let journaled = match self.bug {
            Some(Bug::ForgetsTheJournal) => self.disk.journal.len(),
            _ => self.disk.journal.partition_point(|(position, _)| *position < read),
        };
        let suspensions = Suspensions::default();
        Life { machine, todo: effects.into(), asked: Vec::new(), judging: Vec::new(), journaled, read, suspensions }
    }

    fn crash(&mut self, life: Life) -> Life {
        self.happened.crashes += 1;
        self.start(life.machine.position())
    }

    fn apply(&mut self, life: &mut Life, input: Input) {
        let mut effects = Vec::new();
        life.machine.apply(input, &mut effects);
        life.todo.extend(effects);
    }

    /// Applies what was journaled at this position in an earlier life.
    fn catch_up_journal(&mut self, life: &mut Life) {
        while let Some((position, beside)) = self.disk.journal.get(life.journaled).cloned() {
            if position > life.read {
                break;
            }
            life.journaled += 1;
            let input = match beside {
                Beside::Elapsed(now) => Input::Elapsed { now },
                Beside::Judged(verdicts) => Input::Judged { verdicts },
            };
            self.apply(life, input);
        }
    }

    /// One batch, perhaps with messages from before it once more; `false` when there are none left.
    fn deliver(&mut self, life: &mut Life) -> Result<bool, String> {
        if life.machine.waiting() > WAITING_MAX {
            for _ in 0..40 {
                self.carry_out_one(life)?;
                self.answer_one(life);
            }
            return Ok(true);
        }
        self.catch_up_journal(life);
        let entries = &self.world.entries;
        let next = entries.partition_point(|entry| entry.sequence <= life.read);
        let again = if self.rng.u32(0..4) == 0 { self.rng.usize(0..20) } else { 0 };
        let most = [3, 40, 300][self.rng.usize(0..3)];
        let mut end = (next + self.rng.usize(1..most)).min(entries.len());
        if let Some((position, _)) = self.disk.journal.get(life.journaled) {
            end = end.min(entries.partition_point(|entry| entry.sequence <= *position));
        }
        // A pause is where live batches end, and where time can elapse.
        let pauses = |two: &[Entry]| two[1].stamp.since(two[0].stamp) > Span::from_secs(6);
        if self.rng.bool()
            && let Some(at) = entries[next..end].windows(2).position(pauses)
        {
            end = next + at + 1;
        }
        let delivered = entries.get(next.saturating_sub(again)..end).unwrap_or_default();
        let taken: Vec<&Entry> = delivered.iter().filter(|entry| entry.sequence > life.read || self.bug == Some(Bug::TakesRedeliveries)).collect();
        let Some(last) = taken.last() else { return Ok(next < entries.len()) };
        if taken[0].sequence <= life.machine.position() {
            return Err(format!("sequence {} was given to a machine at position {}", taken[0].sequence, life.machine.position()));
        }
        life.read = last.sequence;
        self.furthest = self.furthest.max(life.read);
        let folded = fold(&self.plan, taken.iter().map(|entry| (entry.sequence, entry.stamp, entry.payload.as_slice())), &life.suspensions);
        self.apply(life, Input::Folded(folded));
        Ok(true)
    }

    /// Journals and applies that time has elapsed, when calls pause here; `true`: it died in between.
    fn elapse(&mut self, life: &mut Life) -> bool {
        self.catch_up_journal(life);
        let at = self.world.entries.partition_point(|entry| entry.sequence <= life.read);
        if life.read < self.furthest && self.bug != Some(Bug::ElapsesWhileCatchingUp) {
            return false;
        }
        if life.journaled < self.disk.journal.len() || at == 0 || at == self.world.entries.len() {
            return false;
        }
        let (last, next) = (self.world.entries[at - 1].stamp, self.world.entries[at].stamp);
        // Our clock and the server's may differ a little.
        let now = last + Span::from_millis(self.rng.u64(0..next.since(last).millis() + 300));
        if !life.machine.would_elapse(now) && self.rng.u32(0..10) > 0 {
            return false;
        }
        self.disk.journal.push((life.machine.position(), Beside::Elapsed(now)));
        if self.rng.u32(0..8) == 0 {
            return true;
        }
        self.catch_up_journal(life);
        false
    }

    /// Journals and applies what judges said of some calls, a few of them not waited for any more; `true`: it died in between.
    fn judge(&mut self, life: &mut Life) -> bool {
        self.catch_up_journal(life);
        // What an earlier life decided behind this position, it decided without these verdicts.
        let catching_up = life.read < self.furthest || life.journaled < self.disk.journal.len();
        if catching_up || life.judging.is_empty() {
            return false;
        }
        self.rng.shuffle(&mut life.judging);
        let said = self.rng.usize(1..=life.judging.len());
        let verdicts: Vec<_> = life.judging.drain(..said).map(|request| judge(&request)).collect();
        self.happened.verdicts += said as u64;
        self.disk.journal.push((life.machine.position(), Beside::Judged(verdicts)));
        if self.rng.u32(0..8) == 0 {
            return true;
        }
        self.catch_up_journal(life);
        false
    }

    fn carry_out_one(&mut self, life: &mut Life) -> Result<(), String> {
        let Some(effect) = life.todo.pop_front() else { return Ok(()) };
        match effect {
            Effect::Check(asked) => life.asked.push(asked),
            Effect::Judge(request) => life.judging.push(request),
            Effect::Seal(block) => {
                let key = (block.environment.clone(), block.start);
                let decoded = SliceBlock::decode(&block.encode()).map_err(|error| error.to_string())?;
                if decoded != block {
                    return Err(format!("block {key:?} is another one when read back"));
                }
                if let Some(before) = self.disk.blocks.insert(key.clone(), block) {
                    self.happened.sealed_again += 1;
                    if before != self.disk.blocks[&key] {
                        return Err(format!("block {key:?} was sealed again with other content"));
                    }
                }
            }
            Effect::Notify(told) => match self.disk.outbox.get(&told.id) {
                None => {
                    self.disk.told.push(told.id.clone());
                    self.disk.outbox.insert(told.id.clone(), told);
                }
                Some(before) if *before == told => self.happened.told_again += 1,
                Some(before) => return Err(format!("the same id with other content:\n{before:#?}\n{told:#?}")),
            },
            Effect::DeadLetter { sequence, reason } => {
                if self.disk.dead.insert(sequence, reason).is_some_and(|before| before != reason) {
                    return Err(format!("sequence {sequence} is malformed for another reason now"));
                }
            }
            Effect::Suspend(suspended) => life.suspensions.hear(&suspended),
        }
        Ok(())
    }

    /// Any of the open checks, so answers come in any order and as late as it happens.
    fn answer_one(&mut self, life: &mut Life) {
        if !life.asked.is_empty() {
            let at = self.rng.usize(0..life.asked.len());
            self.happened.answered_late += u64::from(at > 0);
            let asked = life.asked.swap_remove(at);
            self.apply(life, answer(&self.plan, &asked));
        }
    }

    /// Effects before a snapshot are on disk with it, in one transaction.
    fn snapshot(&mut self, life: &mut Life) -> Result<(), String> {
        while !life.todo.is_empty() {
            self.carry_out_one(life)?;
        }
        self.disk.snapshot = Some(life.machine.snapshot());
        Ok(())
    }
}

/// The same stream and journal in one life: batches of a fixed size, effects carried out and checks answered at once.
pub fn straight(world: &World, plan: &Plan, journal: &[(u64, Beside)]) -> Result<(Machine, Disk), String> {
    let mut harness = Harness::new(world, plan.clone(), fastrand::Rng::with_seed(0), None);
    let mut life = harness.start(0);
    harness.disk.journal = journal.to_vec();
    let settle = |harness: &mut Harness<'_>, life: &mut Life| {
        while !life.todo.is_empty() || !life.asked.is_empty() {
            harness.carry_out_one(life)?;
            harness.answer_one(life);
        }
        Ok::<_, String>(())
    };
    let entries = &world.entries;
    let mut next = 0;
    loop {
        harness.catch_up_journal(&mut life);
        settle(&mut harness, &mut life)?;
        if next == entries.len() {
            break;
        }
        let stop = journal.get(life.journaled).map_or(entries.len(), |(position, _)| entries.partition_point(|entry| entry.sequence <= *position));
        let batch = &entries[next..stop.min(next + 64)];
        next += batch.len();
        life.read = batch.last().expect("the journal names positions that lie ahead").sequence;
        let folded = fold(plan, batch.iter().map(|entry| (entry.sequence, entry.stamp, entry.payload.as_slice())), &life.suspensions);
        harness.apply(&mut life, Input::Folded(folded));
        settle(&mut harness, &mut life)?;
    }
    Ok((life.machine, harness.disk))
}
