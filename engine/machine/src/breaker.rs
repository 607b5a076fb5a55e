//! Breakers: a script that uses up its budget too often is suspended, so that what it costs everyone else is bounded, whatever it does.
//!
//! **On calls.** A script owes for each call on which it used up a budget; each tick forgives one such call, or one in 4,096 of the environment's calls
//! if that is more. Once it owes for [`EXHAUSTED_MAX`], it is suspended until a minute after the open tick, found bad again soon after that for twice as
//! long, and at most for an hour. In the tick after a suspension it sees probes alone, and what it says of them is not counted: one that uses up the
//! budget suspends it again. What it said in the tick in which it was suspended is void, and so is whatever it says about calls from before the end of
//! its suspension. That is why what scripts say is held back until the tick closes, and why nothing here depends on where batches are cut, or on when
//! an edge heard of a suspension and stopped running the script.
//!
//! **In checks.** A rule whose `check` used up its budget [`CHECKS_EXHAUSTED_MAX`] times, with no look in between at which it did not, is not asked for
//! as long; one look that does it again suspends it again. That is decided as ticks settle, in their order, so that it does not matter when answers come.
//!
//! A rule whose script is suspended says nothing: its alerts stay as they are. Deliberately absent: running scripts, and telling people.

use crate::effect::{Effect, Suspended, Suspends};
use crate::environment::Environment;
use crate::ledger::Ledger;
use model::fold::{Cell, CellFold, FailureFold};
use model::plan::{Decides, Plan, Rule, TICK};
use model::suspension::{CHECKS_EXHAUSTED_MAX, EXHAUSTED_MAX, Sees};
use model::{Labels, Span, Suspension, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first suspension: long enough to make the calls before it, and those that were on their way, a small part.
const SHORTEST: Span = Span::from_secs(60);
/// A script that heals on its own, because the calls that it fails on are gone, is back after this at the latest.
const LONGEST: Span = Span::from_secs(3600);
/// Calls of the environment that pay for one on which a script used up its budget: that costs as much as reading and folding some hundred calls, so it
/// is a few hundredths of the whole.
const CALLS_EACH: u64 = 4_096;
/// What a suspended script owes, in calls.
const DEBT_MAX: u64 = EXHAUSTED_MAX * CALLS_EACH;

/// Those of one environment, and what its scripts said in the open tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Breakers {
    /// Calls that came in the open tick.
    calls: u64,
    /// By slot, of scripts that have failed. They stay as long as the rule's text, so that late calls meet the same suspension.
    scripts: BTreeMap<usize, ScriptBreaker>,
    /// By rule, of those whose `check` has used up its budget.
    checks: BTreeMap<usize, CheckBreaker>,
    /// By grouping, slice and group.
    held: BTreeMap<(u16, Timestamp, Labels), Cell>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ScriptBreaker {
    /// In calls of the environment, as of the start of the open tick.
    debt: u64,
    /// Calls of the open tick that are counted as failures so far.
    failed: u64,
    exhausted: u64,
    /// The last suspension.
    last: Option<Last>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct CheckBreaker {
    /// Since the last look at which none did.
    exhausted: u64,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Last {
    until: Timestamp,
    length: Span,
}

impl Last {
    /// The suspension that begins at `from`, twice as long where `last` ended less than its own length before.
    fn after(last: Option<Self>, from: Timestamp) -> Self {
        let soon = last.filter(|last| from < last.until + TICK + last.length);
        let length = soon.map_or(SHORTEST, |last| LONGEST.min(Span::from_millis(2 * last.length.millis())));
        Self { until: from + length, length }
    }
}

impl ScriptBreaker {
    fn suspension(&self) -> Option<Suspension> {
        self.last.map(|last| Suspension { until: last.until })
    }

    fn sees(&self, slice: Timestamp) -> Sees {
        self.suspension().map_or(Sees::Everything, |suspension| suspension.sees(slice))
    }
}

impl Breakers {
    /// The end of the open tick, or of several in which nothing came.
    fn close(&mut self, ticks: u64) {
        let forgiven = std::mem::take(&mut self.calls).max(CALLS_EACH.saturating_mul(ticks));
        for breaker in self.scripts.values_mut() {
            breaker.debt = (breaker.debt + breaker.exhausted * CALLS_EACH).saturating_sub(forgiven);
            (breaker.failed, breaker.exhausted) = (0, 0);
        }
    }

    /// Whether what the script of `rule` sees of the tick that ended at `at` is not all of it.
    pub fn script_suspended(&self, plan: &Plan, rule: &Rule, at: Timestamp) -> bool {
        let breaker = plan.slot_of(rule).and_then(|slot| self.scripts.get(&slot));
        breaker.and_then(ScriptBreaker::suspension).is_some_and(|suspension| at <= suspension.ends())
    }

    /// Whether the rule at `rule` is not asked at the tick that ended at `at`.
    pub fn check_suspended(&self, rule: usize, at: Timestamp) -> bool {
        self.checks.get(&rule).and_then(|breaker| breaker.last).is_some_and(|last| at < last.until)
    }

    /// Keeps what a script says, where it sees all calls.
    fn hold(&mut self, slot: usize, fold: CellFold) {
        if self.scripts.get(&slot).is_none_or(|breaker| breaker.sees(fold.slice) == Sees::Everything) {
            let cell = fold.cell;
            self.held.entry((fold.grouping, fold.slice, fold.labels)).and_modify(|held| held.merge(&cell)).or_insert(cell);
        }
    }

    /// Goes on under another plan: scripts of changed rules have a clean record.
    pub fn adopt(&mut self, old: &Plan, plan: &Plan, came_from: &[Option<usize>]) {
        let now = |rule: &Rule| plan.rules.iter().position(|new| new.name == rule.name && new.fingerprint == rule.fingerprint);
        let slot = |was: usize| {
            let rule = old.rules.iter().find(|rule| old.slot_of(rule) == Some(was))?;
            plan.slot_of(&plan.rules[now(rule)?])
        };
        let scripts = std::mem::take(&mut self.scripts);
        self.scripts = scripts.into_iter().filter_map(|(was, breaker)| Some((slot(was)?, breaker))).collect();
        let checks = std::mem::take(&mut self.checks);
        self.checks = checks.into_iter().filter_map(|(was, breaker)| Some((now(&old.rules[was])?, breaker))).collect();
        // Where slices get another width, what scripts said in the open tick has no place any more: ten seconds at most.
        let held = if old.windows.slice == plan.windows.slice { std::mem::take(&mut self.held) } else { BTreeMap::new() };
        let grouping = |was: u16| came_from.iter().position(|from| *from == Some(usize::from(was))).map(|to| to as u16);
        self.held = held.into_iter().filter_map(|((was, slice, labels), cell)| Some(((grouping(was)?, slice, labels), cell))).collect();
    }
}

impl Environment {
    /// What came in the open tick: a cell of calls, those of scripts being held back until it closes.
    pub(crate) fn take(&mut self, plan: &Plan, fold: CellFold, ledger: &mut Ledger) {
        if fold.grouping == 0 {
            self.breakers.calls += fold.cell.calls;
        }
        match plan.groupings[usize::from(fold.grouping)].script {
            Some(script) => self.breakers.hold(script.slot, fold),
            None => self.count(plan, fold.grouping, fold.slice, fold.labels, fold.cell, ledger),
        }
    }

    /// Counts what scripts said in the open tick, which is about to close, or is the first of so many in which nothing came.
    pub(crate) fn close_scripts(&mut self, plan: &Plan, ticks: u64, ledger: &mut Ledger) {
        for ((grouping, slice, labels), cell) in std::mem::take(&mut self.breakers.held) {
            self.count(plan, grouping, slice, labels, cell, ledger);
        }
        self.breakers.close(ticks);
    }

    /// Calls of the open tick on which scripts failed.
    pub(crate) fn fail(&mut self, plan: &Plan, failures: &[FailureFold], ledger: &mut Ledger, effects: &mut Vec<Effect>) {
        let mut probed: BTreeMap<usize, u64> = BTreeMap::new();
        for seen in failures {
            let breaker = self.breakers.scripts.entry(seen.slot).or_default();
            let probes = probed.entry(seen.slot).or_default();
            match breaker.sees(seen.slice) {
                Sees::Nothing => {}
                // A probe that comes after its tick decides nothing any more.
                Sees::Probes if breaker.suspension().is_some_and(|suspension| self.tick >= suspension.ends()) => {}
                Sees::Probes => *probes += seen.probes,
                Sees::Everything => {
                    (breaker.failed, breaker.exhausted) = (breaker.failed + seen.failed, breaker.exhausted + seen.exhausted);
                    *ledger.script_failures.entry(named(plan, seen.slot)).or_default() += seen.failed + seen.exhausted;
                }
            }
        }
        for (slot, probes) in probed {
            let breaker = self.breakers.scripts.get_mut(&slot).expect("it was looked up above");
            if probes == 0 && (breaker.exhausted == 0 || breaker.debt + breaker.exhausted * CALLS_EACH < DEBT_MAX) {
                continue;
            }
            // Of a void tick, calls count up to the one that made it void: how many more were run is up to the edge.
            let heard = if probes > 0 { 1 } else { DEBT_MAX.saturating_sub(breaker.debt).div_ceil(CALLS_EACH).max(1) };
            let counted = ledger.script_failures.entry(named(plan, slot)).or_default();
            *counted = *counted + heard - breaker.failed - breaker.exhausted;
            *breaker = ScriptBreaker { debt: DEBT_MAX, last: Some(Last::after(breaker.last, self.tick + TICK)), ..ScriptBreaker::default() };
            self.breakers.held.retain(|(grouping, ..), _| plan.groupings[usize::from(*grouping)].script.is_none_or(|script| script.slot != slot));
            effects.extend(self.suspended(plan).filter(|now| now.of == Suspends::Calls { slot }).map(Effect::Suspend));
        }
    }

    /// The answers of the rule at `rule` to a look at `at`: how many checks failed because of a budget, and whether any did not.
    pub(crate) fn looked(&mut self, plan: &Plan, rule: usize, at: Timestamp, exhausted: u64, effects: &mut Vec<Effect>) {
        if exhausted == 0 {
            if let Some(breaker) = self.breakers.checks.get_mut(&rule) {
                breaker.exhausted = 0;
            }
            return;
        }
        let breaker = self.breakers.checks.entry(rule).or_default();
        breaker.exhausted += exhausted;
        if breaker.exhausted >= CHECKS_EXHAUSTED_MAX {
            // One more at the next look is enough.
            *breaker = CheckBreaker { exhausted: CHECKS_EXHAUSTED_MAX - 1, last: Some(Last::after(breaker.last, at)) };
            effects.extend(self.suspension_of_check(plan, rule).map(Effect::Suspend));
        }
    }

    fn suspension_of_check(&self, plan: &Plan, rule: usize) -> Option<Suspended> {
        let last = self.breakers.checks.get(&rule)?.last?;
        debug_assert!(matches!(plan.rules[rule].decides, Decides::Check(_)));
        Some(Suspended { environment: self.name.clone(), rule, of: Suspends::Checks, until: last.until, length: last.length })
    }

    /// What is suspended while the open tick is.
    pub(crate) fn suspended(&self, plan: &Plan) -> impl Iterator<Item = Suspended> {
        let scripts = self.breakers.scripts.iter().filter_map(move |(slot, breaker)| {
            let (last, suspension) = (breaker.last?, breaker.suspension()?);
            let rule = plan.rules.iter().position(|rule| plan.slot_of(rule) == Some(*slot)).filter(|_| self.tick < suspension.ends())?;
            Some(Suspended { environment: self.name.clone(), rule, of: Suspends::Calls { slot: *slot }, until: last.until, length: last.length })
        });
        let checks = self.breakers.checks.keys().filter_map(move |rule| self.suspension_of_check(plan, *rule));
        scripts.chain(checks.filter(move |suspended| self.tick < suspended.until))
    }
}

/// The rule of a script, for its count of failures.
fn named(plan: &Plan, slot: usize) -> String {
    let rule = plan.rules.iter().find(|rule| plan.slot_of(rule) == Some(slot));
    rule.map_or_else(|| format!("script {slot}"), |rule| rule.name.clone())
}
