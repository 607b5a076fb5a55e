//! Many calls folded into one small sum, without knowing what came before: the parallel half of counting.
//!
//! A fold is keyed by (environment, tick, slice, group). The tick of a call is that of its environment's clock, the running maximum of event
//! times; within a batch only the batch's own running maximum is known, and because the tick of a maximum is the maximum of the ticks, the owner
//! of the state puts it right when it merges: whatever lies before its open tick counts in the open tick. So the sum of many folds does not
//! depend on where the stream was cut.

use crate::bucket::Distribution;
use crate::call::CallLog;
use crate::label::{Key, Labels};
use crate::measure::{Measure, MeasureRef};
use crate::plan::{Counts, Grouping, Plan, SignalRef, TICK};
use crate::run::{self, RunSum};
use crate::signal::Signals;
use crate::suspension::{EXHAUSTED_MAX, is_probe};
use crate::takers::Takers;
use crate::time::{Span, Timestamp};
use crate::verdict::{Inclusion, Judge, Verdict, draw};
use crate::wire::Reason;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// How far a call's time may lie ahead of the server's stamp before it is pulled back: clocks of honest senders differ by less.
pub const FUTURE_MAX: Span = Span::from_secs(5);

/// Example calls kept per signal, group and slice: enough for an alert to name a few.
const EXAMPLES_MAX: usize = 2;

/// What the stateless half found out about one call.
#[derive(Debug)]
pub struct Inspected<'c, 'a> {
    pub call: &'c CallLog<'a>,
    pub signals: Signals,
    /// By [`Measure`] in the order of [`Measure::ALL`].
    pub measures: [Option<u64>; Measure::ALL.len()],
    /// Of the scripts that looked at it, in the order of their slots.
    pub scripts: &'c [ScriptView],
}

/// What one rule's script said about a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptView {
    pub slot: usize,
    pub applies: bool,
    /// Its signals: one bit each, by their position.
    pub signals: Signals,
    /// Its measures in whole steps, by their position; one that is missing was not given.
    pub measures: Vec<Option<u64>>,
    /// It failed; the call then makes no signal of this script's.
    pub failed: bool,
    /// It failed because a budget was used up.
    pub exhausted: bool,
}

/// Numerator and denominator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    pub holds: u64,
    pub applies: u64,
}

/// The sums of one group in one slice: as many ratios and distributions as its grouping has signals and measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub calls: u64,
    pub ratios: Box<[Ratio]>,
    pub distributions: Box<[Distribution]>,
    /// Position of the signal, and the stream sequence of a call in its numerator: the lowest [`EXAMPLES_MAX`] of each, sorted.
    pub examples: Vec<(u8, u64)>,
    /// Of verdicts: opinions that are fail, of all opinions, by the probability with which their calls were chosen; ascending.
    pub opinions: Vec<(Inclusion, Ratio)>,
}

/// Adds opinions to others by their probability.
pub fn add_opinions(to: &mut Vec<(Inclusion, Ratio)>, more: &[(Inclusion, Ratio)]) {
    for (inclusion, ratio) in more {
        let at = to.binary_search_by_key(inclusion, |(known, _)| *known).unwrap_or_else(|at| {
            to.insert(at, (*inclusion, Ratio::default()));
            at
        });
        to[at].1.holds += ratio.holds;
        to[at].1.applies += ratio.applies;
    }
}

/// A batch of calls, summed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    /// Stream sequences of the batch; 0 and 0 when it is empty.
    pub first: u64,
    pub last: u64,
    pub received: u64,
    /// Sequences between `first` and `last` that never came.
    pub gaps: u64,
    /// Times pulled back to the server's stamp.
    pub future: u64,
    pub malformed: Vec<(u64, Reason)>,
    /// In the order in which they first appear.
    pub environments: Vec<EnvironmentFold>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFold {
    pub name: String,
    /// The latest event time.
    pub clock: Timestamp,
    /// The server's stamp of the last call.
    pub stamp: Timestamp,
    /// Of its calls, in order: needed only where the environment turns out to be one too many.
    pub sequences: Vec<u64>,
    /// Ascending.
    pub ticks: Vec<TickFold>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickFold {
    /// Start of the tick.
    pub tick: Timestamp,
    /// In the order in which they first appear.
    pub cells: Vec<CellFold>,
    /// What judges may see, in the order in which they first appear.
    pub offers: Vec<Offer>,
    /// In the order in which they first appear.
    pub failures: Vec<FailureFold>,
    /// Parts of runs, in the order in which they first appear; none when no rule watches runs.
    pub runs: Vec<RunFold>,
}

/// The calls of one run in one slice: those of a sealed slice are in no run, so slices are kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFold {
    /// As [`run::id`] gives it.
    pub run: String,
    /// Start of the slice.
    pub slice: Timestamp,
    pub sum: RunSum,
}

/// The calls of one group that one judge may see in one tick: how many there are, and those of them that are chosen first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Index into the plan's judges.
    pub judge: u16,
    /// It is to see all of them that it may.
    pub always: bool,
    /// In the order of the judge's `sampling.by`.
    pub labels: Labels,
    pub calls: u64,
    /// With the smallest draws, by draw and sequence: one more than may be chosen, so that it is known which draw was too large.
    pub candidates: Vec<Candidate>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    pub draw: u64,
    pub sequence: u64,
    pub groups: Counted,
}

/// Where a verdict will count: groupings of the plan, and its labels there. Shared by calls that are alike.
pub type Counted = Arc<[(u16, Labels)]>;

impl Offer {
    /// Adds those of another part of the same tick. `most`: [`crate::verdict::Sampling::most_per_tick`] of the judge.
    pub fn merge(&mut self, other: Self, most: usize) {
        self.calls += other.calls;
        self.candidates.extend(other.candidates);
        // Two sorted runs: sorting merges them.
        self.candidates.sort();
        self.candidates.truncate(most + 1);
    }
}

/// Calls on which one script failed, in one slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureFold {
    pub slot: usize,
    /// Start of the slice.
    pub slice: Timestamp,
    /// For other reasons than its budget.
    pub failed: u64,
    /// On which it used up a budget. From [`EXHAUSTED_MAX`] on not all are counted: see [`Folder::runs`].
    pub exhausted: u64,
    /// Of them, those that are probes.
    pub probes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellFold {
    pub grouping: u16,
    /// Start of the slice.
    pub slice: Timestamp,
    pub labels: Labels,
    pub cell: Cell,
}

impl Cell {
    pub fn new(grouping: &Grouping) -> Self {
        Self {
            calls: 0,
            ratios: vec![Ratio::default(); grouping.signals.len()].into(),
            distributions: vec![Distribution::default(); grouping.measures.len()].into(),
            examples: Vec::new(),
            opinions: Vec::new(),
        }
    }

    /// One verdict on a call that was chosen with probability `inclusion`.
    pub fn of_verdict(grouping: &Grouping, verdict: &Verdict, inclusion: Inclusion) -> Self {
        let mut cell = Self::new(grouping);
        cell.calls = 1;
        for (position, (signal, ratio)) in grouping.signals.iter().zip(&mut cell.ratios).enumerate() {
            let SignalRef::Verdict(signal, _) = signal else { continue };
            let Some(holds) = signal.of(verdict.outcome) else { continue };
            *ratio = Ratio { holds: u64::from(holds), applies: 1 };
            if holds {
                cell.examples.push((position as u8, verdict.sequence));
            }
        }
        for (measure, distribution) in grouping.measures.iter().zip(&mut cell.distributions) {
            let value = if let MeasureRef::Verdict(measure, _) = measure { measure.of(verdict) } else { None };
            value.into_iter().for_each(|value| distribution.record(value));
        }
        if let Some(failed) = verdict.outcome.failed() {
            cell.opinions.push((inclusion, Ratio { holds: u64::from(failed), applies: 1 }));
        }
        cell
    }

    /// One run that has closed.
    pub fn of_run(grouping: &Grouping, run: &RunSum) -> Self {
        let mut cell = Self::new(grouping);
        cell.calls = 1;
        for (position, (signal, ratio)) in grouping.signals.iter().zip(&mut cell.ratios).enumerate() {
            let SignalRef::Run(signal) = signal else { continue };
            let shown_by = signal.shown_by(run);
            *ratio = Ratio { holds: u64::from(shown_by.is_some()), applies: 1 };
            cell.examples.extend(shown_by.map(|sequence| (position as u8, sequence)));
        }
        for (measure, distribution) in grouping.measures.iter().zip(&mut cell.distributions) {
            let value = if let MeasureRef::Run(measure) = measure { measure.of(run) } else { None };
            value.into_iter().for_each(|value| distribution.record(value));
        }
        cell
    }

    /// Addition. Both cells belong to the same grouping.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        for (mine, theirs) in self.ratios.iter_mut().zip(&other.ratios) {
            mine.holds += theirs.holds;
            mine.applies += theirs.applies;
        }
        for (mine, theirs) in self.distributions.iter_mut().zip(&other.distributions) {
            mine.merge(theirs);
        }
        for (signal, sequence) in &other.examples {
            self.example(*signal, *sequence);
        }
        add_opinions(&mut self.opinions, &other.opinions);
    }

    fn add(&mut self, grouping: &Grouping, sequence: u64, call: &Inspected<'_, '_>, script: Option<&ScriptView>) {
        self.calls += 1;
        for (position, (signal, ratio)) in grouping.signals.iter().zip(&mut self.ratios).enumerate() {
            let (signals, bit) = match signal {
                SignalRef::BuiltIn(signal) => (call.signals, 1 << signal.index()),
                SignalRef::User(_, at) => (script.map(|script| script.signals).unwrap_or_default(), 1 << at),
                SignalRef::Verdict(..) | SignalRef::Run(_) => continue,
            };
            ratio.applies += u64::from(signals.applies & bit != 0);
            if signals.holds & bit != 0 {
                ratio.holds += 1;
                let signal = position as u8;
                if self.examples.iter().filter(|(s, _)| *s == signal).count() < EXAMPLES_MAX {
                    self.examples.push((signal, sequence));
                    self.examples.sort_unstable();
                }
            }
        }
        for (measure, distribution) in grouping.measures.iter().zip(&mut self.distributions) {
            let value = match measure {
                MeasureRef::BuiltIn(measure) => call.measures[*measure as usize],
                MeasureRef::User(own) => script.and_then(|script| *script.measures.get(usize::from(own.position))?),
                MeasureRef::Verdict(..) | MeasureRef::Run(_) => None,
            };
            if let Some(value) = value {
                distribution.record(value);
            }
        }
    }

    /// Keeps the lowest sequences, so that the order of merging does not matter.
    fn example(&mut self, signal: u8, sequence: u64) {
        if let Err(at) = self.examples.binary_search(&(signal, sequence)) {
            self.examples.insert(at, (signal, sequence));
            if self.examples.iter().filter(|(s, _)| *s == signal).count() > EXAMPLES_MAX
                && let Some(last) = self.examples.iter().rposition(|(s, _)| *s == signal)
            {
                self.examples.remove(last);
            }
        }
    }
}

/// When a call happened: what its sender says, pulled back to the server's stamp where it lies too far ahead of that.
pub fn event_time(call: &CallLog<'_>, stamp: Timestamp) -> Timestamp {
    call.time.min(stamp + FUTURE_MAX)
}

/// An offer that is being gathered: where it is, and the largest draw, with its sequence, that it still takes.
#[derive(Debug)]
struct Offering {
    at: usize,
    last: (u64, u64),
    /// Where verdicts on its calls count, if that is the same for all of them.
    groups: Option<Counted>,
}

/// Folds calls one at a time, in stream order.
#[derive(Debug)]
pub struct Folder<'p> {
    plan: &'p Plan,
    takers: Takers,
    /// By grouping: it is of no interest to it when a call violates nothing.
    violating: Vec<bool>,
    /// Of the current call: the groupings, or the judges, whose filter takes it.
    taken: Vec<usize>,
    /// Of the judges' filters.
    judges: Takers,
    /// Which groupings are of verdicts.
    of_verdicts: Vec<usize>,
    /// The keys of runs' labels; `None`: no rule watches runs.
    run_keys: Option<Vec<Key>>,
    fold: Fold,
    /// For each environment: bytes of (tick, grouping, slice, labels) → where its cell is.
    index: Vec<HashMap<Box<[u8]>, (u32, u32)>>,
    /// For each environment: bytes of (tick, judge, always, labels) → where its offer is.
    offered: Vec<HashMap<Box<[u8]>, Offering>>,
    /// For each judge: calls of one offer are alike in all that says where verdicts on them count.
    alike: Vec<bool>,
    /// For each environment: bytes of (tick, slice, run) → where its part is.
    gathered: Vec<HashMap<Box<[u8]>, u32>>,
    scratch: Vec<u8>,
    /// A script has used up its budget in this batch.
    exhausted: bool,
}

impl<'p> Folder<'p> {
    pub fn new(plan: &'p Plan) -> Self {
        let takers = Takers::new(plan.groupings.iter().map(|grouping| &grouping.filter));
        let violating = (0..plan.groupings.len()).map(|number| plan.ranks_violations(number)).collect();
        let of_verdicts: Vec<_> =
            plan.groupings.iter().enumerate().filter(|(_, grouping)| matches!(grouping.counts, Counts::Verdicts(_))).map(|(at, _)| at).collect();
        let keys_of = |at: &usize| plan.groupings[*at].keys.iter().chain(plan.groupings[*at].filter.0.iter().map(|(key, _)| key));
        let by = |judge: &Judge| of_verdicts.iter().flat_map(keys_of).all(|key| *key == Key::Judge || judge.sampling.by.contains(key));
        let alike = plan.judges.iter().map(by).collect();
        Self {
            plan,
            takers,
            violating,
            taken: Vec::new(),
            judges: Takers::new(plan.judges.iter().map(|judge| &judge.applies)),
            of_verdicts,
            run_keys: plan.run_keys(),
            fold: Fold::default(),
            index: Vec::new(),
            offered: Vec::new(),
            alike,
            gathered: Vec::new(),
            scratch: Vec::with_capacity(128),
            exhausted: false,
        }
    }

    /// Sequences grow from call to call.
    pub fn malformed(&mut self, sequence: u64, reason: Reason) {
        self.received(sequence);
        self.fold.malformed.push((sequence, reason));
    }

    /// Whether the script in `slot` is worth running on a call at [`event_time`] `time`: not after it has used up its budget so often, in one tick and
    /// slice, that what it says there will be ignored wherever the stream is cut. Probes go on until one has told that.
    pub fn runs(&self, slot: usize, environment: &str, sequence: u64, time: Timestamp) -> bool {
        if !self.exhausted {
            return true;
        }
        let Some(known) = self.fold.environments.iter().find(|known| known.name == environment) else { return true };
        let (tick, slice) = (known.clock.max(time).floor(TICK), time.floor(self.plan.windows.slice));
        let last = known.ticks.last().filter(|last| last.tick == tick);
        let seen = last.and_then(|last| last.failures.iter().find(|seen| (seen.slot, seen.slice) == (slot, slice)));
        seen.is_none_or(|seen| seen.exhausted < EXHAUSTED_MAX || is_probe(sequence) && seen.probes == 0)
    }

    /// One call, stamped by the server at `stamp`. Cost: a hash lookup per filtered key and per grouping that takes it, and per signal and measure an addition.
    pub fn add(&mut self, sequence: u64, stamp: Timestamp, call: &Inspected<'_, '_>) {
        self.received(sequence);
        let time = event_time(call.call, stamp);
        self.fold.future += u64::from(time < call.call.time);
        let name = call.call.environment.as_ref();
        let at = self.fold.environments.iter().position(|environment| environment.name == name).unwrap_or_else(|| {
            let name = name.to_owned();
            self.fold.environments.push(EnvironmentFold { name, clock: time, stamp, sequences: Vec::new(), ticks: Vec::new() });
            self.index.push(HashMap::new());
            self.offered.push(HashMap::new());
            self.gathered.push(HashMap::new());
            self.fold.environments.len() - 1
        });
        let environment = &mut self.fold.environments[at];
        environment.sequences.push(sequence);
        environment.clock = environment.clock.max(time);
        environment.stamp = environment.stamp.max(stamp);
        let tick = environment.clock.floor(TICK);
        if environment.ticks.last().is_none_or(|last| last.tick < tick) {
            environment.ticks.push(TickFold { tick, cells: Vec::new(), offers: Vec::new(), failures: Vec::new(), runs: Vec::new() });
        }
        let tick_at = environment.ticks.len() - 1;
        let TickFold { cells, failures, .. } = &mut environment.ticks[tick_at];
        let slice = time.floor(self.plan.windows.slice);
        for script in call.scripts.iter().filter(|script| script.failed) {
            let at = failures.iter().position(|seen| (seen.slot, seen.slice) == (script.slot, slice)).unwrap_or_else(|| {
                failures.push(FailureFold { slot: script.slot, slice, ..FailureFold::default() });
                failures.len() - 1
            });
            let seen = &mut failures[at];
            if script.exhausted {
                self.exhausted = true;
                seen.exhausted += 1;
                seen.probes += u64::from(is_probe(sequence));
            } else {
                seen.failed += 1;
            }
        }
        self.takers.of(call.call, &mut self.taken);
        for number in self.taken.iter().copied() {
            if self.violating[number] && call.call.violation.is_none() {
                continue;
            }
            let grouping = &self.plan.groupings[number];
            if grouping.counts != Counts::Calls {
                continue;
            }
            let of_slot = |slot: usize| call.scripts.binary_search_by_key(&slot, |script| script.slot).ok().map(|at| &call.scripts[at]);
            let script = grouping.script.and_then(|script| of_slot(script.slot));
            if grouping.script.is_some() && !script.is_some_and(|script| script.applies) {
                continue;
            }
            self.scratch.clear();
            self.scratch.extend_from_slice(&(tick_at as u32).to_le_bytes());
            self.scratch.extend_from_slice(&(number as u16).to_le_bytes());
            self.scratch.extend_from_slice(&slice.millis().to_le_bytes());
            for key in &grouping.keys {
                let label = key.label(call.call);
                self.scratch.extend_from_slice(&(label.len() as u16).to_le_bytes());
                self.scratch.extend_from_slice(label.as_bytes());
            }
            let cell = match self.index[at].get(self.scratch.as_slice()) {
                Some((_, cell)) => *cell as usize,
                None => {
                    let labels = grouping.keys.iter().map(|key| key.label(call.call).into_owned()).collect();
                    cells.push(CellFold { grouping: number as u16, slice, labels, cell: Cell::new(grouping) });
                    let cell = cells.len() - 1;
                    self.index[at].insert(self.scratch.as_slice().into(), (tick_at as u32, cell as u32));
                    cell
                }
            };
            cells[cell].cell.add(grouping, sequence, call, script);
        }
        self.gather(at, slice, sequence, time, call);
        if !self.plan.judges.is_empty() {
            self.offer(at, sequence, call);
        }
    }

    /// Adds a call of environment `at`, that ended at `time`, to its run. Cost: nothing where no rule watches runs or the call names none, else a lookup.
    fn gather(&mut self, at: usize, slice: Timestamp, sequence: u64, time: Timestamp, call: &Inspected<'_, '_>) {
        let (Some(keys), Some(run)) = (&self.run_keys, run::id(call.call)) else { return };
        let ticks = &mut self.fold.environments[at].ticks;
        let tick_at = ticks.len() - 1;
        let runs = &mut ticks[tick_at].runs;
        self.scratch.clear();
        self.scratch.extend_from_slice(&(tick_at as u32).to_le_bytes());
        self.scratch.extend_from_slice(&slice.millis().to_le_bytes());
        self.scratch.extend_from_slice(run.as_bytes());
        let part = match self.gathered[at].get(self.scratch.as_slice()) {
            Some(part) => *part as usize,
            None => {
                runs.push(RunFold { run: run.to_owned(), slice, sum: RunSum::new(keys, time) });
                self.gathered[at].insert(self.scratch.as_slice().into(), runs.len() as u32 - 1);
                runs.len() - 1
            }
        };
        runs[part].sum.add(sequence, time, call.call, call.signals, keys);
    }

    /// Offers a call of environment `at` to the judges that may see it. Cost: for each of those a hash lookup and a comparison; the few calls with the
    /// smallest draws so far are kept, and cost their labels where verdicts are watched by more than the sample is spread by.
    fn offer(&mut self, at: usize, sequence: u64, call: &Inspected<'_, '_>) {
        self.judges.of(call.call, &mut self.taken);
        let mut drawn = None;
        for number in self.taken.iter().copied() {
            let judge = &self.plan.judges[number];
            if !judge.can_judge(call.call) {
                continue;
            }
            let always = judge.wants(call.call, call.signals);
            let environment = &mut self.fold.environments[at];
            let tick_at = environment.ticks.len() - 1;
            let offers = &mut environment.ticks[tick_at].offers;
            self.scratch.clear();
            self.scratch.extend_from_slice(&(tick_at as u32).to_le_bytes());
            self.scratch.extend_from_slice(&(number as u16).to_le_bytes());
            self.scratch.push(u8::from(always));
            for key in &judge.sampling.by {
                let label = key.label(call.call);
                self.scratch.extend_from_slice(&(label.len() as u16).to_le_bytes());
                self.scratch.extend_from_slice(label.as_bytes());
            }
            let offering = match self.offered[at].get_mut(self.scratch.as_slice()) {
                Some(offering) => offering,
                None => {
                    let labels = judge.sampling.by.iter().map(|key| key.label(call.call).into_owned()).collect();
                    offers.push(Offer { judge: number as u16, always, labels, calls: 0, candidates: Vec::new() });
                    let offering = Offering { at: offers.len() - 1, last: (u64::MAX, u64::MAX), groups: None };
                    self.offered[at].entry(self.scratch.as_slice().into()).or_insert(offering)
                }
            };
            let offer = &mut offers[offering.at];
            offer.calls += 1;
            let draw = *drawn.get_or_insert_with(|| draw(call.call));
            if (draw, sequence) >= offering.last {
                continue;
            }
            let counts = |at: &usize| Some((*at as u16, verdict_labels(self.plan, *at, call.call, judge)?));
            let groups = || self.of_verdicts.iter().filter_map(counts).collect();
            let groups = if self.alike[number] { offering.groups.get_or_insert_with(groups).clone() } else { groups() };
            offer.candidates.push(Candidate { draw, sequence, groups });
            let most = judge.sampling.most_per_tick();
            if offer.candidates.len() > 2 * most {
                // The smallest come first, the largest of those kept last; the rest in any order.
                offer.candidates.select_nth_unstable(most);
                offer.candidates.truncate(most + 1);
                offering.last = (offer.candidates[most].draw, offer.candidates[most].sequence);
            }
        }
    }

    pub fn finish(mut self) -> Fold {
        for offer in self.fold.environments.iter_mut().flat_map(|environment| &mut environment.ticks).flat_map(|tick| &mut tick.offers) {
            offer.candidates.sort_unstable();
            offer.candidates.truncate(self.plan.judges[usize::from(offer.judge)].sampling.most_per_tick() + 1);
        }
        self.fold
    }

    fn received(&mut self, sequence: u64) {
        let fold = &mut self.fold;
        if fold.received == 0 {
            fold.first = sequence;
        } else {
            fold.gaps += sequence.saturating_sub(fold.last + 1);
        }
        fold.last = sequence;
        fold.received += 1;
    }
}

/// The labels under which a verdict on `call` counts in a grouping; `None` where it does not.
fn verdict_labels(plan: &Plan, grouping: usize, call: &CallLog<'_>, judge: &Judge) -> Option<Labels> {
    let grouping = &plan.groupings[grouping];
    let label = |key: &Key| if *key == Key::Judge { judge.name.clone() } else { key.label(call).into_owned() };
    grouping.filter.lets_verdict_through(call, &judge.name).then(|| grouping.keys.iter().map(label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Findings, Signal, signals};

    fn fold(plan: &Plan, logs: &[&str]) -> Fold {
        let mut folder = Folder::new(plan);
        for (i, log) in logs.iter().enumerate() {
            let call = crate::parse(log.as_bytes()).expect("a good log");
            let signals = signals(&call, &Findings::default());
            let measures = Measure::ALL.map(|measure| measure.of(&call));
            folder.add(
                10 + i as u64,
                Timestamp::from_millis(1_000_000_000_000).expect("in range"),
                &Inspected { call: &call, signals, measures, scripts: &[] },
            );
        }
        folder.finish()
    }

    #[test]
    fn a_ranking_of_violations_takes_only_calls_that_violate_something() {
        use crate::label::Key;
        use crate::plan::{Filter, Rule, RuleSpec, Statistic, WatchSpec, Windows};
        let watch = WatchSpec::new("violation", Statistic::Top(Key::Violation, None, 3), Span::from_secs(300));
        let spec = RuleSpec { rule: Rule::new("r"), watches: vec![watch], applies: Filter::default(), script: None };
        let plan = Plan::new(Windows::default(), crate::FalseAlarms::default(), vec![spec]);
        let mut folder = Folder::new(&plan);
        for (sequence, violation) in [(1, Some("facts: / type")), (2, None), (3, Some("facts: / type"))] {
            let mut call = crate::parse(br#"{"id":"a","time":900000000001,"model":"m"}"#).expect("a good log");
            call.violation = violation.map(Into::into);
            let signals = signals(&call, &Findings::default());
            folder.add(sequence, call.time, &Inspected { call: &call, signals, measures: [None; Measure::ALL.len()], scripts: &[] });
        }
        let fold = folder.finish();
        let cells: Vec<_> = fold.environments[0].ticks[0].cells.iter().map(|cell| (cell.grouping, cell.labels.join(","), cell.cell.calls)).collect();
        assert_eq!(cells, [(0, ",,m".to_owned(), 3), (1, "facts: / type".to_owned(), 2)]);
    }

    #[test]
    fn calls_are_summed_by_tick_slice_and_group() {
        let plan = Plan::new(crate::plan::Windows::default(), crate::FalseAlarms::default(), vec![]);
        let fold = fold(
            &plan,
            &[
                r#"{"id":"a","time":900000000001,"model":"m","stage":"s","latency_ms":5,"status_code":500}"#,
                r#"{"id":"b","time":900000010000,"model":"m","stage":"s","latency_ms":7}"#,
                r#"{"id":"c","time":900000000002,"model":"m","stage":"s","latency_ms":9}"#,
                r#"{"id":"d","time":900000010001,"model":"other","environment":"test"}"#,
                r#"{"id":"e","time":2000000000000,"model":"m"}"#,
            ],
        );
        assert_eq!((fold.first, fold.last, fold.received, fold.future), (10, 14, 5, 1));
        let shape: Vec<_> = fold.environments[0]
            .ticks
            .iter()
            .map(|t| (t.tick.millis(), t.cells.iter().map(|c| (c.slice.millis(), c.labels[0].as_str(), c.cell.calls)).collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            shape,
            [
                (900_000_000_000, vec![(900_000_000_000, "s", 1)]),
                // The third call is late for its own tick and counts in the open one, in its own slice.
                (900_000_010_000, vec![(900_000_010_000, "s", 1), (900_000_000_000, "s", 1)]),
                (1_000_000_000_000, vec![(1_000_000_005_000, "", 1)]),
            ]
        );
        assert_eq!(fold.environments[0].ticks[0].cells[0].cell.ratios[Signal::Error.index()], Ratio { holds: 1, applies: 1 });
        assert_eq!(fold.environments[0].ticks[0].cells[0].cell.examples, [(0, 10)]);
        assert_eq!(fold.environments[1].name, "test");
    }

    #[test]
    fn calls_of_a_run_are_gathered_by_tick_and_slice_and_only_where_a_rule_watches_runs() {
        use crate::plan::{Filter, Rule, RuleSpec, Statistic, WatchSpec, Windows};
        use crate::run::RunMeasure;
        let logs = [
            r#"{"id":"a","time":900000001000,"model":"m","event_id":"r","latency_ms":500}"#,
            r#"{"id":"b","time":900000002000,"model":"m","event_id":"s","user_id":"v","status_code":500}"#,
            r#"{"id":"c","time":900000004000,"model":"m","event_id":"r","user_id":"u"}"#,
            r#"{"id":"d","time":900000005000,"model":"m","event_id":"r"}"#,
            r#"{"id":"e","time":900000006000,"model":"m"}"#,
            r#"{"id":"f","time":900000006000,"model":"m","event_id":""}"#,
            r#"{"id":"g","time":900000010000,"model":"m","event_id":"r"}"#,
        ];
        let watch = WatchSpec::new("calls", Statistic::Mean(MeasureRef::Run(RunMeasure::Calls)), Span::from_secs(300));
        let rule = Rule { group_by: vec![Key::User], ..Rule::new("r") };
        let spec = RuleSpec { rule, watches: vec![watch], applies: Filter::default(), script: None };
        let plan = |specs| Plan::new(Windows::default(), crate::FalseAlarms::default(), specs);
        let folded = fold(&plan(vec![spec]), &logs);
        let part = |part: &RunFold| {
            let label = part.sum.labels[0].as_ref().map_or("", |(_, label)| label).to_owned();
            (part.run.clone(), (part.slice.millis() - 900_000_000_000) / 1000, part.sum.calls, label, part.sum.error)
        };
        let parts: Vec<_> = folded.environments[0].ticks.iter().map(|tick| tick.runs.iter().map(part).collect::<Vec<_>>()).collect();
        let r = |slice, calls, label: &str| ("r".to_owned(), slice, calls, label.to_owned(), None);
        assert_eq!(parts, [vec![r(0, 2, "u"), ("s".to_owned(), 0, 1, "v".to_owned(), Some(11)), r(5, 1, "")], vec![r(10, 1, "")]]);
        assert!(fold(&plan(vec![]), &logs).environments[0].ticks.iter().all(|tick| tick.runs.is_empty()));
    }

    #[test]
    fn a_script_that_used_up_its_budget_is_run_no_more_in_that_tick_and_slice_but_for_one_probe() {
        let plan = Plan::new(crate::plan::Windows::default(), crate::FalseAlarms::default(), vec![]);
        let mut folder = Folder::new(&plan);
        let time = |seconds: u64| Timestamp::EPOCH + Span::from_secs(900_000_000 + seconds);
        let sequences: Vec<_> = (1..10_000).filter(|sequence| !is_probe(*sequence)).take(EXHAUSTED_MAX as usize).collect();
        let probe = (20_000..).find(|sequence| is_probe(*sequence)).expect("one in 64 is");
        let add = |folder: &mut Folder<'_>, sequence: u64, failed: bool| {
            let log = format!(r#"{{"id":"a","time":{},"model":"m"}}"#, time(1).millis());
            let call = crate::parse(log.as_bytes()).expect("a good log");
            let scripts = [ScriptView { slot: 3, failed: true, exhausted: !failed, ..ScriptView::default() }];
            let measures = Measure::ALL.map(|measure| measure.of(&call));
            folder.add(sequence, time(1), &Inspected { call: &call, signals: Signals::default(), measures, scripts: &scripts });
        };
        add(&mut folder, 0, true);
        for sequence in sequences {
            assert!(folder.runs(3, "default", 19_999, time(1)), "before {EXHAUSTED_MAX} calls");
            add(&mut folder, sequence, false);
        }
        assert!(!folder.runs(3, "default", 19_999, time(2)));
        assert!(folder.runs(3, "default", probe, time(2)), "a probe has yet to tell");
        for (slot, environment, seconds) in [(4, "default", 2), (3, "test", 2), (3, "default", 6), (3, "default", 11)] {
            assert!(folder.runs(slot, environment, 19_999, time(seconds)), "slot {slot} of {environment} at {seconds} s");
        }
        add(&mut folder, probe, false);
        assert!(!folder.runs(3, "default", probe, time(2)));
        let seen = FailureFold { slot: 3, slice: time(0), failed: 1, exhausted: EXHAUSTED_MAX + 1, probes: 1 };
        assert_eq!(folder.finish().environments[0].ticks[0].failures, [seen]);
    }

    #[test]
    fn examples_are_the_lowest_sequences_in_any_order_of_merging() {
        let plan = Plan::new(crate::plan::Windows::default(), crate::FalseAlarms::default(), vec![]);
        let with = |sequences: &[u64]| {
            let mut cell = Cell::new(&plan.groupings[0]);
            sequences.iter().for_each(|s| cell.example(3, *s));
            cell
        };
        let (mut left, mut right) = (with(&[9, 4]), with(&[7, 1]));
        let other = left.clone();
        left.merge(&right);
        right.merge(&other);
        assert_eq!(left, right);
        assert_eq!(left.examples, [(3, 1), (3, 4)]);
    }
}
