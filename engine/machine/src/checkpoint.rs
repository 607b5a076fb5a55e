//! The snapshot: everything that is neither sealed nor derived, with the stream position it belongs to, in one versioned byte string.
//!
//! Sealed slices that windows still hold are read back from where they were written; running sums are rebuilt. A snapshot taken under another plan
//! is adopted: series of groupings that are still wanted go on, changed rules start anew. A machine at work adopts another plan in the same way, as if
//! it had been restarted: there is one path, so that what a reload of rules does and what a restart with the same files does cannot differ.

use crate::alert::{Alert, State};
use crate::block::SliceBlock;
use crate::breaker::Breakers;
use crate::effect::{Effect, Reason};
use crate::environment::{Environment, Slice};
use crate::group::Groups;
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::runs::Runs;
use crate::sampling::Sampler;
use crate::settle::{ClosedTick, notification};
use crate::tree::Trees;
use crate::window::{HOUR, HOURS_AFTER, MINUTE, MINUTES_AFTER, Windows, width_at};
use model::plan::Plan;
use model::verdict::{Outcome, Skip};
use model::{Labels, Quantiles, Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

const MAGIC: &[u8; 4] = b"SGCK";
/// Raised whenever the layout changes; older versions are refused, never guessed at.
const VERSION: u16 = 6;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("it does not start like a snapshot")]
    NotASnapshot,
    #[error("it has format {found}, this version reads format {VERSION}")]
    Version { found: u16 },
    #[error("it is damaged")]
    Damaged(#[from] postcard::Error),
}

#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    plan: Plan,
    position: u64,
    ledger: Ledger,
    environments: Vec<EnvironmentSnapshot>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnvironmentSnapshot {
    name: String,
    ordinal: usize,
    event_clock: Timestamp,
    stamp: Timestamp,
    clock: Timestamp,
    tick: Timestamp,
    sealed_to: Timestamp,
    open: BTreeMap<Timestamp, Slice>,
    groups: Vec<Groups>,
    series: u32,
    alerts: Vec<BTreeMap<Labels, Alert>>,
    waiting: VecDeque<ClosedTick>,
    trees: Trees,
    samplers: Vec<Sampler>,
    runs: Runs,
    breakers: Breakers,
}

/// A decoded snapshot, before the sealed slices that it needs are at hand.
#[derive(Debug)]
pub struct Start {
    snapshot: Snapshot,
}

impl Machine {
    /// The state as bytes; the same state gives the same bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let environments = self.environments.values().map(|environment| EnvironmentSnapshot {
            name: environment.name.clone(),
            ordinal: environment.ordinal,
            event_clock: environment.event_clock,
            stamp: environment.stamp,
            clock: environment.clock,
            tick: environment.tick,
            sealed_to: environment.sealed_to,
            open: environment.slices.range(environment.sealed_to..).map(|(start, slice)| (*start, slice.clone())).collect(),
            groups: environment.groups.clone(),
            series: environment.series,
            alerts: environment.alerts.clone(),
            waiting: environment.waiting.clone(),
            trees: environment.trees.clone(),
            samplers: environment.samplers.clone(),
            runs: environment.runs.clone(),
            breakers: environment.breakers.clone(),
        });
        let snapshot =
            Snapshot { plan: self.plan.clone(), position: self.position, ledger: self.ledger.clone(), environments: environments.collect() };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        postcard::to_extend(&snapshot, bytes).expect("writing to memory does not fail")
    }

    /// The sealed slices that `plan`'s windows would hold: environment, first start, and the start after the last.
    pub fn needs(&self, plan: &Plan) -> Vec<(String, Timestamp, Timestamp)> {
        self.environments.values().map(|environment| (environment.name.clone(), held_from(plan, environment.tick), environment.sealed_to)).collect()
    }

    /// Goes on under `plan`, exactly as [`Start::finish`] would from a snapshot taken now, with the sealed slices of [`Self::needs`]. Under the plan
    /// that it has, nothing happens.
    ///
    /// # Panics
    /// While checks are asked and not answered: their rules are numbered by the plan they were asked under.
    pub fn adopt(&mut self, plan: Plan, sealed: Vec<SliceBlock>, effects: &mut Vec<Effect>) {
        assert_eq!(self.waiting(), 0, "the answers of all checks come before another plan");
        if self.plan == plan {
            return;
        }
        for environment in self.environments.values_mut() {
            // They come back as they were written, those included that only the new plan's windows hold.
            environment.slices = environment.slices.split_off(&environment.sealed_to);
        }
        self.go_on(plan, sealed, effects);
    }

    /// Puts a machine that holds open slices alone to work under `plan`. Checks that were not answered are asked again.
    fn go_on(&mut self, plan: Plan, sealed: Vec<SliceBlock>, effects: &mut Vec<Effect>) {
        if self.plan != plan {
            let old = std::mem::replace(&mut self.plan, plan);
            for environment in self.environments.values_mut() {
                environment.adopt(&old, &self.plan, &mut self.ledger, effects);
            }
        }
        for block in sealed {
            if let Some(environment) = self.environments.get_mut(&block.environment) {
                environment.hold(&self.plan, block);
            }
        }
        for environment in self.environments.values_mut() {
            environment.widened = [Timestamp::default(); 2];
            environment.widen(&self.plan);
            environment.rebuild_windows(&self.plan);
            for closed in &environment.waiting {
                environment.ask(closed, effects);
            }
            effects.extend(environment.requests(&self.plan));
            effects.extend(environment.suspended(&self.plan).map(Effect::Suspend));
        }
    }
}

impl Start {
    /// # Errors
    /// When the bytes are no snapshot, of another version, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(CheckpointError::NotASnapshot)?;
        let (version, body) = body.split_at_checked(2).ok_or(CheckpointError::NotASnapshot)?;
        let found = u16::from_le_bytes([version[0], version[1]]);
        if found != VERSION {
            return Err(CheckpointError::Version { found });
        }
        Ok(Self { snapshot: postcard::from_bytes(body)? })
    }

    pub fn position(&self) -> u64 {
        self.snapshot.position
    }

    /// The plan that it was taken under.
    pub fn plan(&self) -> &Plan {
        &self.snapshot.plan
    }

    /// The sealed slices that `plan`'s windows still hold: environment, first start, and the start after the last.
    pub fn needs(&self, plan: &Plan) -> Vec<(String, Timestamp, Timestamp)> {
        let of = |environment: &EnvironmentSnapshot| (environment.name.clone(), held_from(plan, environment.tick), environment.sealed_to);
        self.snapshot.environments.iter().map(of).collect()
    }

    /// The machine as it was, under `plan`, with the blocks it needs. Checks that were not answered are asked again.
    pub fn finish(self, plan: Plan, sealed: Vec<SliceBlock>, effects: &mut Vec<Effect>) -> Machine {
        let mut machine = Machine {
            position: self.snapshot.position,
            ledger: self.snapshot.ledger,
            environments: BTreeMap::new(),
            scratch: Quantiles::new(),
            plan: self.snapshot.plan,
        };
        for snapshot in self.snapshot.environments {
            let environment = Environment {
                name: snapshot.name,
                ordinal: snapshot.ordinal,
                event_clock: snapshot.event_clock,
                stamp: snapshot.stamp,
                clock: snapshot.clock,
                tick: snapshot.tick,
                sealed_to: snapshot.sealed_to,
                slices: snapshot.open,
                widened: [Timestamp::default(); 2],
                groups: snapshot.groups,
                series: snapshot.series,
                alerts: snapshot.alerts,
                waiting: snapshot.waiting,
                windows: Windows::new(&machine.plan, snapshot.tick),
                trees: snapshot.trees,
                samplers: snapshot.samplers,
                runs: snapshot.runs,
                breakers: snapshot.breakers,
            };
            machine.environments.insert(environment.name.clone(), environment);
        }
        machine.go_on(plan, sealed, effects);
        machine
    }
}

/// The start of the first slice that a window of `plan` holds while the tick at `tick` is open.
fn held_from(plan: &Plan, tick: Timestamp) -> Timestamp {
    let reach = plan.reach();
    (tick - reach).floor(width_at(reach, plan.windows.slice))
}

impl Environment {
    /// Goes on under another plan.
    fn adopt(&mut self, old: &Plan, plan: &Plan, ledger: &mut Ledger, effects: &mut Vec<Effect>) {
        if old.windows.slice != plan.windows.slice
            && let Some((last, _)) = self.slices.last_key_value()
        {
            // Slices of the old width cannot take calls any more; they are written as they are.
            let end = *last + old.windows.slice + plan.windows.slice;
            self.seal(old, end.floor(plan.windows.slice), effects);
            self.slices.clear();
        }
        let came_from: Vec<_> = plan.groupings.iter().map(|new| old.groupings.iter().position(|was| was.identity() == new.identity())).collect();
        for slice in self.slices.values_mut() {
            let cells = std::mem::take(&mut slice.cells);
            let renumbered = |((grouping, number), cell): ((u16, u32), model::Cell)| {
                let to = came_from.iter().position(|from| *from == Some(usize::from(grouping)))?;
                Some(((to as u16, number), cell))
            };
            slice.cells = cells.into_iter().filter_map(renumbered).collect();
        }
        self.breakers.adopt(old, plan, &came_from);
        self.runs.adopt(old.run_keys().as_deref(), plan.run_keys().as_deref());
        let mut was = std::mem::take(&mut self.groups);
        self.groups = came_from.iter().map(|from| from.map_or_else(Groups::default, |at| std::mem::take(&mut was[at]))).collect();
        self.series = self.groups.iter().zip(&plan.groupings).map(|(groups, grouping)| groups.len() as u32 * grouping.series_per_group()).sum();
        let mut was = std::mem::take(&mut self.alerts);
        self.alerts = plan
            .rules
            .iter()
            .map(|new| {
                let at = old.rules.iter().position(|rule| rule.name == new.name && rule.fingerprint == new.fingerprint);
                at.map_or_else(BTreeMap::new, |at| std::mem::take(&mut was[at]))
            })
            .collect();
        for (rule, alerts) in old.rules.iter().zip(&was) {
            for (labels, alert) in alerts.iter().filter(|(_, alert)| alert.state != State::Pending) {
                effects.push(Effect::Notify(notification(rule, &self.name, labels, alert, Reason::RuleChanged, self.tick)));
            }
        }
        self.trees.adopt(old, plan);
        let mut was = std::mem::take(&mut self.samplers);
        self.samplers = plan
            .judges
            .iter()
            .map(|judge| {
                let Some(from) = old.judges.iter().position(|known| known.name == judge.name) else { return Sampler::default() };
                let (mut sampler, before) = (std::mem::take(&mut was[from]), &old.judges[from]);
                let to = |at: u16| came_from.iter().position(|from| *from == Some(usize::from(at))).map(|at| at as u16);
                let gone = sampler.adopt(before.fingerprint == judge.fingerprint, before.sampling.by == judge.sampling.by, to);
                (0..gone).for_each(|_| ledger.judged_one(&judge.name, Outcome::Skipped(Skip::Changed), 0));
                sampler
            })
            .collect();
        for (judge, sampler) in old.judges.iter().zip(&was) {
            sampler.waiting.iter().for_each(|_| ledger.judged_one(&judge.name, Outcome::Skipped(Skip::Changed), 0));
        }
        // What the old rules were still asked is not worth an answer.
        self.waiting.clear();
    }

    /// Takes back a sealed slice that a window holds.
    fn hold(&mut self, plan: &Plan, block: SliceBlock) {
        // One that is wider than the slices around it cannot be told apart by the windows.
        let wide = |(width, after): (Span, Span)| block.start < (self.tick - after).floor(width) && width.millis() % block.width.millis() == 0;
        let fits = block.width == plan.windows.slice || [(MINUTE, MINUTES_AFTER), (HOUR, HOURS_AFTER)].into_iter().any(wide);
        if !fits || block.start >= self.sealed_to {
            return;
        }
        for grouping in block.groupings {
            let Some(at) = plan.groupings.iter().position(|known| known.identity() == grouping.identity) else { continue };
            // Its groups may have been forgotten since.
            let reach = plan.reach_of(at);
            if block.start < (self.tick - reach).floor(width_at(reach, plan.windows.slice)) {
                continue;
            }
            for (labels, cell) in grouping.cells {
                let number = self.groups[at].number(&labels).unwrap_or_else(|| {
                    self.series += plan.groupings[at].series_per_group();
                    self.groups[at].insert(labels, block.start)
                });
                self.slices.entry(block.start).or_default().add(at as u16, number, cell);
            }
        }
    }
}
