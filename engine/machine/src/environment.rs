//! One environment: its clock, its open tick, its slices and groups. Environments share nothing, so test traffic cannot move production's numbers.
//!
//! The clock is the running maximum of event times; when calls stop it follows elapsed time. When it passes the end of the open tick, the tick closes:
//! windows move, rules look, slices seal. A call that comes after its tick counts in the open one, in its own slice while that is unsealed.

use crate::alert::Alert;
use crate::block::{GroupBlock, SliceBlock};
use crate::breaker::Breakers;
use crate::effect::Effect;
use crate::group::Groups;
use crate::ledger::Ledger;
use crate::machine::OTHER;
use crate::runs::Runs;
use crate::sampling::{Sampler, Waiting, end_of};
use crate::settle::ClosedTick;
use crate::tree::{Trees, number, on_the_hour};
use crate::window::{HOUR, HOURS_AFTER, MINUTE, MINUTES_AFTER, Windows, width_at};
use model::fold::{Cell, EnvironmentFold};
use model::plan::{NoData, Plan, TICK};
use model::verdict::{Inclusion, Judge, JudgeRequest, Outcome, Skip, Verdict};
use model::{Labels, Quantiles, Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

/// How long calls may pause before the clock follows elapsed time; longer than senders' and networks' usual hiccups.
const GRACE: Span = Span::from_secs(5);
/// A group without calls for this long after leaving the longest window is forgotten, so that its series are free for others.
const FORGET_AFTER: Span = Span::from_secs(3600);
/// How often groups are looked through for forgetting.
const FORGET_EVERY: Span = Span::from_secs(600);
/// Of all series, the labels of keys that are ranked or counted may take one part in so many, so that users cannot crowd out models.
const EACH_SHARE: u32 = 4;

#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub name: String,
    /// Environments before it.
    pub ordinal: usize,
    /// Running maximum of event times.
    pub event_clock: Timestamp,
    /// The server's stamp of the last call.
    pub stamp: Timestamp,
    /// `event_clock`, or later while calls pause.
    pub clock: Timestamp,
    /// Start of the open tick.
    pub tick: Timestamp,
    /// Slices that start before this are sealed.
    pub sealed_to: Timestamp,
    /// Open slices, and sealed ones while a window holds them; old ones as minutes and hours.
    pub slices: BTreeMap<Timestamp, Slice>,
    /// Slices before these are minutes, and hours.
    pub widened: [Timestamp; 2],
    /// By grouping.
    pub groups: Vec<Groups>,
    pub series: u32,
    /// By rule.
    pub alerts: Vec<BTreeMap<Labels, Alert>>,
    /// Closed ticks whose rules have not all answered, oldest first.
    pub waiting: VecDeque<ClosedTick>,
    pub windows: Windows,
    pub trees: Trees,
    /// By judge.
    pub samplers: Vec<Sampler>,
    pub runs: Runs,
    pub breakers: Breakers,
}

/// Counts of one slice, by grouping and group number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slice {
    pub cells: BTreeMap<(u16, u32), Cell>,
}

/// What has not been sealed yet, for reading.
#[derive(Clone, Debug)]
pub struct Open {
    pub clock: Timestamp,
    /// Slices before this are on disk.
    pub sealed_to: Timestamp,
    pub blocks: Vec<SliceBlock>,
}

impl Slice {
    pub fn add(&mut self, grouping: u16, number: u32, cell: Cell) {
        match self.cells.entry((grouping, number)) {
            Entry::Vacant(entry) => {
                entry.insert(cell);
            }
            Entry::Occupied(entry) => entry.into_mut().merge(&cell),
        }
    }
}

impl Environment {
    pub fn new(plan: &Plan, name: String, ordinal: usize, first_tick: Timestamp) -> Self {
        Self {
            name,
            ordinal,
            event_clock: first_tick,
            stamp: first_tick,
            clock: first_tick,
            tick: first_tick,
            sealed_to: sealed_before(plan, first_tick),
            slices: BTreeMap::new(),
            widened: [Timestamp::default(); 2],
            groups: vec![Groups::default(); plan.groupings.len()],
            series: 0,
            alerts: vec![BTreeMap::new(); plan.rules.len()],
            waiting: VecDeque::new(),
            windows: Windows::new(plan, first_tick),
            trees: Trees::new(plan),
            samplers: vec![Sampler::default(); plan.judges.len()],
            runs: Runs::default(),
            breakers: Breakers::default(),
        }
    }

    /// Adds a batch's calls of this environment.
    pub fn merge(&mut self, plan: &Plan, fold: EnvironmentFold, ledger: &mut Ledger, scratch: &mut Quantiles, effects: &mut Vec<Effect>) {
        for tick in fold.ticks {
            self.advance(plan, tick.tick, ledger, scratch, effects);
            for offer in tick.offers {
                let judge = usize::from(offer.judge);
                self.samplers[judge].offer(&plan.judges[judge], offer);
            }
            for run in tick.runs {
                self.gather(plan, run, ledger);
            }
            self.fail(plan, &tick.failures, ledger, effects);
            for cell in tick.cells {
                self.take(plan, cell, ledger);
            }
        }
        self.event_clock = self.event_clock.max(fold.clock);
        self.stamp = self.stamp.max(fold.stamp);
        self.clock = self.clock.max(self.event_clock);
    }

    /// Elapsed time moves the clock while calls pause.
    pub fn elapse(&mut self, plan: &Plan, now: Timestamp, ledger: &mut Ledger, scratch: &mut Quantiles, effects: &mut Vec<Effect>) {
        let clock = self.elapsed(now);
        self.advance(plan, clock.floor(TICK), ledger, scratch, effects);
        self.clock = self.clock.max(clock);
    }

    /// Whether [`Self::elapse`] would close a tick.
    pub fn would_close(&self, now: Timestamp) -> bool {
        self.elapsed(now).floor(TICK) > self.tick
    }

    fn elapsed(&self, now: Timestamp) -> Timestamp {
        let pause = now.since(self.stamp);
        let beyond = Span::from_millis(pause.millis().saturating_sub(GRACE.millis()));
        self.clock.max(self.event_clock + beyond)
    }

    pub fn count(&mut self, plan: &Plan, grouping: u16, slice: Timestamp, labels: Labels, cell: Cell, ledger: &mut Ledger) {
        let base = grouping == 0;
        if base {
            ledger.counted += cell.calls;
        }
        if slice < self.sealed_to {
            if base {
                ledger.late += cell.calls;
            }
            return;
        }
        if base {
            ledger.in_window += cell.calls;
        }
        let number = self.number(plan, grouping, labels, cell.calls, ledger);
        self.groups[usize::from(grouping)].hear(number, self.tick);
        let trees = &mut self.trees;
        self.windows.add(grouping, number, slice, &cell, |rule, watch, labels, part| trees.count(plan, rule, watch, labels, part, &cell));
        self.slices.entry(slice).or_default().add(grouping, number, cell);
    }

    /// Chooses which of the open tick's calls the judges see.
    fn choose(&mut self, plan: &Plan, ledger: &mut Ledger, effects: &mut Vec<Effect>) {
        let tick = number(self.tick);
        for (at, judge) in plan.judges.iter().enumerate() {
            for (sequence, inclusion, groups) in self.samplers[at].close(judge, tick) {
                ledger.judged.entry(judge.name.clone()).or_default().chosen += 1;
                let sampler = &mut self.samplers[at];
                let waiting = Waiting { inclusion, at: end_of(tick), groups };
                if sampler.has_room(judge.sampling.per_minute) {
                    sampler.waiting.insert(sequence, waiting);
                    effects.push(Effect::Judge(self.request(judge, sequence, inclusion, end_of(tick))));
                } else {
                    let outcome = Outcome::Skipped(Skip::Backlog);
                    let (judge, fingerprint, environment) = (judge.name.clone(), judge.fingerprint, self.name.clone());
                    let verdict =
                        Verdict { judge, fingerprint, environment, sequence, outcome, score: None, latency_ms: None, cost_nano_usd: 0, wait_ms: 0 };
                    // The clock is where the batch has come to; the tick is what closes.
                    let slice = (self.tick + TICK) - plan.windows.slice;
                    self.opine(plan, &verdict, waiting, slice, ledger);
                }
            }
        }
    }

    /// Everything that judges are still to look at.
    pub fn requests(&self, plan: &Plan) -> Vec<Effect> {
        let of = |(judge, sampler): (&Judge, &Sampler)| -> Vec<Effect> {
            let waiting = sampler.waiting.iter();
            waiting.map(|(sequence, waiting)| Effect::Judge(self.request(judge, *sequence, waiting.inclusion, waiting.at))).collect()
        };
        plan.judges.iter().zip(&self.samplers).flat_map(of).collect()
    }

    fn request(&self, judge: &Judge, sequence: u64, inclusion: Inclusion, at: Timestamp) -> JudgeRequest {
        JudgeRequest { judge: judge.name.clone(), fingerprint: judge.fingerprint, environment: self.name.clone(), sequence, at, inclusion }
    }

    /// Counts what became of a chosen call, in the open tick; one that nobody waits for is dropped.
    pub fn judged(&mut self, plan: &Plan, verdict: &Verdict, ledger: &mut Ledger) {
        let same = |judge: &Judge| judge.name == verdict.judge && judge.fingerprint == verdict.fingerprint;
        let Some(at) = plan.judges.iter().position(same) else { return };
        if let Some(waiting) = self.samplers[at].waiting.remove(&verdict.sequence) {
            self.opine(plan, verdict, waiting, self.clock.floor(plan.windows.slice), ledger);
        }
    }

    fn opine(&mut self, plan: &Plan, verdict: &Verdict, waiting: Waiting, slice: Timestamp, ledger: &mut Ledger) {
        ledger.judged_one(&verdict.judge, verdict.outcome, verdict.cost_nano_usd);
        for (grouping, labels) in waiting.groups.iter() {
            let cell = Cell::of_verdict(&plan.groupings[usize::from(*grouping)], verdict, waiting.inclusion);
            self.count(plan, *grouping, slice, labels.clone(), cell, ledger);
        }
    }

    /// The number of a group; `(other)` when it is new and all series are taken.
    fn number(&mut self, plan: &Plan, grouping: u16, labels: Labels, calls: u64, ledger: &mut Ledger) -> u32 {
        let groups = &mut self.groups[usize::from(grouping)];
        if let Some(number) = groups.number(&labels) {
            return number;
        }
        let series = plan.groupings[usize::from(grouping)].series_per_group();
        let series_max = plan.windows.series_max;
        let mut labels = labels;
        let mut fits = self.series + series <= series_max;
        if let Some(each) = plan.each(usize::from(grouping))
            && !(fits && groups.len() as u32 * series < series_max / EACH_SHARE)
        {
            OTHER.clone_into(&mut labels[each]);
            if let Some(number) = groups.number(&labels) {
                return number;
            }
            fits = self.series + series <= series_max;
        }
        if !fits {
            labels.iter_mut().for_each(|label| OTHER.clone_into(label));
            // Each call is in every grouping; it overflows once.
            ledger.overflowed += if grouping == 0 { calls } else { 0 };
            if let Some(number) = groups.number(&labels) {
                return number;
            }
        }
        let number = groups.insert(labels.clone(), self.tick);
        self.series += series;
        self.windows.enroll(plan, &self.name, grouping, number, &labels);
        number
    }

    /// Closes ticks until the open one starts at `to`.
    fn advance(&mut self, plan: &Plan, to: Timestamp, ledger: &mut Ledger, scratch: &mut Quantiles, effects: &mut Vec<Effect>) {
        while self.tick < to {
            self.choose(plan, ledger, effects);
            self.close_runs(plan, ledger);
            self.close_scripts(plan, 1, ledger);
            if self.idle(plan) {
                // With no call in any window, the ticks in between all say that nothing is known.
                self.close_scripts(plan, to.since(self.tick).millis() / TICK.millis(), ledger);
                self.decide_nothing(to);
                self.settle(plan, ledger, effects);
                self.trees.sweep(plan, to.floor(Span::from_secs(3600)));
                self.open(plan, to, Some(to.floor(FORGET_EVERY)), effects);
                return;
            }
            let end = self.tick + TICK;
            self.windows.expire(&self.slices, end, plan.windows.slice);
            self.trees.close(plan, &self.name, self.ordinal, self.tick);
            if on_the_hour(end) {
                self.trees.sweep(plan, end);
            }
            self.decide(plan, end, scratch, effects);
            self.settle(plan, ledger, effects);
            let forget = end.floor(FORGET_EVERY);
            self.open(plan, end, (forget == end).then_some(end), effects);
        }
    }

    fn idle(&self, plan: &Plan) -> bool {
        self.slices.is_empty()
            && self.runs.is_empty()
            && !self.trees.hears_silence(plan, self.tick)
            && !plan.rules.iter().zip(&self.windows.rules).any(|(rule, groups)| rule.no_data == NoData::Alert && groups.iter().next().is_some())
    }

    /// Opens the tick that starts at `tick`: seals what is too old for it, drops what no window holds, and forgets silent groups as of `forget`.
    fn open(&mut self, plan: &Plan, tick: Timestamp, forget: Option<Timestamp>, effects: &mut Vec<Effect>) {
        self.tick = tick;
        self.clock = self.clock.max(tick);
        self.windows.expire(&self.slices, tick, plan.windows.slice);
        let sealed_to = self.sealed_to.max(sealed_before(plan, tick));
        self.seal(plan, sealed_to, effects);
        let reach = plan.reach();
        let kept = sealed_to.min((tick - reach).floor(width_at(reach, plan.windows.slice)));
        while self.slices.first_key_value().is_some_and(|(start, _)| *start < kept) {
            self.slices.pop_first();
        }
        self.widen(plan);
        if let Some(forget) = forget {
            for (at, groups) in self.groups.iter_mut().enumerate() {
                let reach = plan.reach_of(at);
                let before = (forget - reach).floor(width_at(reach, plan.windows.slice)) - FORGET_AFTER;
                for number in groups.forget(before) {
                    self.series -= plan.groupings[at].series_per_group();
                    self.windows.retire(at as u16, number);
                }
            }
        }
    }

    /// Adds old slices up to minutes and hours, of what a window still holds.
    pub fn widen(&mut self, plan: &Plan) {
        let reach = plan.reach();
        for (at, (width, after)) in [(MINUTE, MINUTES_AFTER), (HOUR, HOURS_AFTER)].into_iter().enumerate().filter(|(_, (_, after))| reach > *after) {
            let to = (self.tick - after).floor(width);
            let widened = std::mem::replace(&mut self.widened[at], to).min(to);
            let narrow: Vec<_> = self.slices.range(widened..to).map(|(start, _)| *start).collect();
            if narrow.is_empty() {
                continue;
            }
            let kept: Vec<_> = (0..plan.groupings.len()).map(|grouping| plan.reach_of(grouping) > after).collect();
            for start in narrow {
                let slice = self.slices.remove(&start).expect("its start was just listed");
                let wide = self.slices.entry(start.floor(width)).or_default();
                for ((grouping, number), cell) in slice.cells.into_iter().filter(|((at, _), _)| kept[usize::from(*at)]) {
                    wide.add(grouping, number, cell);
                }
            }
        }
    }

    /// Seals all slices that start before `to`.
    pub fn seal(&mut self, plan: &Plan, to: Timestamp, effects: &mut Vec<Effect>) {
        if to > self.sealed_to {
            effects.extend(self.slices.range(self.sealed_to..to).map(|(start, slice)| Effect::Seal(self.block(plan, *start, slice))));
            self.sealed_to = to;
        }
    }

    pub fn block(&self, plan: &Plan, start: Timestamp, slice: &Slice) -> SliceBlock {
        let mut groupings: Vec<GroupBlock> = Vec::new();
        let mut current = None;
        for ((grouping, number), cell) in &slice.cells {
            if current != Some(*grouping) {
                current = Some(*grouping);
                groupings.push(GroupBlock { identity: plan.groupings[usize::from(*grouping)].identity(), cells: Vec::new() });
            }
            let labels = self.groups[usize::from(*grouping)].get(*number).labels.clone();
            groupings.last_mut().expect("one was pushed for this grouping").cells.push((labels, cell.clone()));
        }
        for grouping in &mut groupings {
            grouping.cells.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        SliceBlock { environment: self.name.clone(), start, width: plan.windows.slice, groupings }
    }

    pub fn open_blocks(&self, plan: &Plan, from: Timestamp) -> Open {
        let from = from.max(self.sealed_to);
        let blocks = self.slices.range(from..).map(|(start, slice)| self.block(plan, *start, slice)).collect();
        Open { clock: self.clock, sealed_to: self.sealed_to, blocks }
    }

    /// Puts the windows together again from slices and groups.
    pub fn rebuild_windows(&mut self, plan: &Plan) {
        self.windows = Windows::new(plan, self.tick);
        for (grouping, groups) in self.groups.iter().enumerate() {
            for (labels, number) in groups.iter() {
                self.windows.enroll(plan, &self.name, grouping as u16, number, labels);
            }
        }
        for (start, slice) in &self.slices {
            for ((grouping, number), cell) in &slice.cells {
                // What came in the open tick is in the snapshot.
                self.windows.add(*grouping, *number, *start, cell, |_, _, _, _| {});
            }
        }
    }
}

/// Slices that start before this are sealed once the tick that starts at `tick` is open.
fn sealed_before(plan: &Plan, tick: Timestamp) -> Timestamp {
    (tick - plan.windows.lateness).floor(plan.windows.slice)
}
