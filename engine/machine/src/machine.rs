//! The owner of all state, its one entry, and the readings that others may take of it.

use crate::alert::AlertView;
use crate::effect::{Effect, Suspended};
use crate::environment::{Environment, Open};
use crate::ledger::Ledger;
use crate::sampling::Sampled;
use model::fold::Fold;
use model::plan::{Plan, TICK};
use model::verdict::{Judge, Verdict};
use model::window::Checked;
use model::wire::Reason;
use model::{Quantiles, Timestamp};
use std::collections::BTreeMap;

/// More environments than any team has; logs that name a further one are malformed, because a name per request would fill the memory.
pub const ENVIRONMENTS_MAX: usize = 64;

/// The label of the group that takes the calls of groups for which no series are left.
pub const OTHER: &str = "(other)";

/// Everything that can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// A batch of calls, later in the stream than every batch before.
    Folded(Fold),
    /// A rule's `check` over the groups of a [`crate::CheckRequest`], in its order.
    Checked { environment: String, at: Timestamp, rule: usize, results: Vec<Checked> },
    /// The stream has nothing more at the moment; it is `now` by the clock of the server's stamps. To be given only at the true end of the stream,
    /// never because delivery pauses: a restart that reads the same calls again must come past the same points.
    Elapsed { now: Timestamp },
    /// What became of calls that were chosen for judges. Each counts once, in the tick that is open; what nobody waits for changes nothing.
    Judged { verdicts: Vec<Verdict> },
    /// A person says that what an alert shows is normal from now on. Of an alert that has ended or does not drift, it changes nothing.
    Adopt { alert_id: String },
}

/// Environments with their windows and alerts, the ledger, and the stream position they belong to.
///
/// It costs work per group and batch, not per call. State is a function of the inputs in their order, and not of how the stream was cut into
/// batches nor of when checks were answered; so a machine restored from a checkpoint and given the rest of the inputs ends up the same, and makes
/// the same decisions under the same ids again.
#[derive(Debug)]
pub struct Machine {
    pub(crate) plan: Plan,
    pub(crate) position: u64,
    pub(crate) ledger: Ledger,
    pub(crate) environments: BTreeMap<String, Environment>,
    pub(crate) scratch: Quantiles,
}

impl Machine {
    /// A machine that has seen nothing; the first sequence it expects is `position` + 1.
    pub fn new(plan: Plan, position: u64) -> Self {
        Self { plan, position, ledger: Ledger::default(), environments: BTreeMap::new(), scratch: Quantiles::new() }
    }

    /// The one way in.
    pub fn apply(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Folded(fold) => self.merge(fold, effects),
            Input::Checked { environment, at, rule, results } => {
                if let Some(environment) = self.environments.get_mut(&environment) {
                    environment.answer(&self.plan, at, rule, results);
                    environment.settle(&self.plan, &mut self.ledger, effects);
                }
            }
            Input::Judged { verdicts } => {
                for verdict in verdicts {
                    if let Some(environment) = self.environments.get_mut(&verdict.environment) {
                        environment.judged(&self.plan, &verdict, &mut self.ledger);
                    }
                }
            }
            Input::Adopt { alert_id } => {
                for environment in self.environments.values_mut() {
                    environment.adopt_alert(&self.plan, &alert_id, effects);
                }
            }
            Input::Elapsed { now } => {
                for environment in self.environments.values_mut() {
                    environment.elapse(&self.plan, now, &mut self.ledger, &mut self.scratch, effects);
                }
            }
        }
    }

    fn merge(&mut self, fold: Fold, effects: &mut Vec<Effect>) {
        if fold.received == 0 {
            return;
        }
        assert!(fold.first > self.position, "batch from sequence {} after position {}", fold.first, self.position);
        let ledger = &mut self.ledger;
        ledger.received += fold.received;
        ledger.missed += fold.first - self.position - 1 + fold.gaps;
        ledger.future += fold.future;
        self.position = fold.last;
        for (sequence, reason) in fold.malformed {
            ledger.malformed_one(reason);
            effects.push(Effect::DeadLetter { sequence, reason });
        }
        for part in fold.environments {
            if !self.environments.contains_key(&part.name) {
                if self.environments.len() >= ENVIRONMENTS_MAX {
                    let reason = Reason::TooManyEnvironments;
                    part.sequences.iter().for_each(|_| self.ledger.malformed_one(reason));
                    effects.extend(part.sequences.into_iter().map(|sequence| Effect::DeadLetter { sequence, reason }));
                    continue;
                }
                let ordinal = self.environments.len();
                let first_tick = part.ticks.first().map_or(part.clock.floor(TICK), |tick| tick.tick);
                self.environments.insert(part.name.clone(), Environment::new(&self.plan, part.name.clone(), ordinal, first_tick));
            }
            let environment = self.environments.get_mut(&part.name).expect("it was there or has just been made");
            environment.merge(&self.plan, part, &mut self.ledger, &mut self.scratch, effects);
        }
    }

    /// The last stream sequence that is counted.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on with another stream: the next sequence it expects is `position` + 1. Windows and alerts stay.
    pub fn rebase(&mut self, position: u64) {
        self.position = position;
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Name and clock of each environment.
    pub fn clocks(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.environments.values().map(|environment| (environment.name.as_str(), environment.clock))
    }

    /// Name of each environment, and the end of the last tick at which its rules looked.
    pub fn looked(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.environments.values().map(|environment| (environment.name.as_str(), environment.tick))
    }

    /// Whether [`Input::Elapsed`] would close a tick now.
    pub fn would_elapse(&self, now: Timestamp) -> bool {
        self.environments.values().any(|environment| environment.would_close(now))
    }

    /// Closed ticks that wait for a rule's answer.
    pub fn waiting(&self) -> usize {
        self.environments.values().map(|environment| environment.waiting.len()).sum()
    }

    /// Whether a call still waits for the verdict of a judge.
    pub fn waits_for(&self, environment: &str, judge: &str, sequence: u64) -> bool {
        let at = self.plan.judges.iter().position(|known| known.name == judge);
        at.zip(self.environments.get(environment)).is_some_and(|(at, environment)| environment.samplers[at].waiting.contains_key(&sequence))
    }

    /// Calls that wait for verdicts, by judge.
    pub fn judging(&self) -> impl Iterator<Item = (&str, usize)> {
        let waiting = |at: usize| self.environments.values().map(move |environment| environment.samplers[at].waiting.len()).sum();
        self.plan.judges.iter().enumerate().map(move |(at, judge)| (judge.name.as_str(), waiting(at)))
    }

    /// How the judges' samples are spread, by judge, environment and group.
    pub fn sampled(&self) -> Vec<Sampled> {
        let of = |(at, judge): (usize, &Judge)| -> Vec<Sampled> {
            self.environments.values().flat_map(|environment| environment.samplers[at].sampled(judge, &environment.name)).collect()
        };
        self.plan.judges.iter().enumerate().flat_map(of).collect()
    }

    /// Groups kept and series they stand for, by environment.
    pub fn series(&self) -> impl Iterator<Item = (&str, usize, u32)> {
        self.environments.values().map(|e| (e.name.as_str(), e.groups.iter().map(crate::group::Groups::len).sum(), e.series))
    }

    /// Runs that are open, by environment; none when no rule watches runs.
    pub fn open_runs(&self) -> impl Iterator<Item = (&str, usize)> {
        self.environments.values().map(|environment| (environment.name.as_str(), environment.runs.len()))
    }

    /// Pending and firing alerts, by environment, rule and group.
    pub fn alerts(&self) -> impl Iterator<Item = AlertView<'_>> {
        self.environments.values().flat_map(move |environment| {
            environment.alerts.iter().zip(&self.plan.rules).flat_map(move |(alerts, rule)| {
                alerts.iter().map(move |(labels, alert)| AlertView { rule, environment: &environment.name, labels, alert })
            })
        })
    }

    /// Scripts that are not run at the moment, by environment.
    pub fn suspended(&self) -> impl Iterator<Item = Suspended> {
        self.environments.values().flat_map(|environment| environment.suspended(&self.plan))
    }

    /// Whether [`Input::Adopt`] would change anything.
    pub fn adoptable(&self, alert_id: &str) -> bool {
        self.environments.values().any(|environment| environment.adoptable(&self.plan, alert_id).is_some())
    }

    /// What is not sealed yet of an environment, from `from` on; the rest is in the blocks that were sealed.
    pub fn open(&self, environment: &str, from: Timestamp) -> Option<Open> {
        self.environments.get(environment).map(|environment| environment.open_blocks(&self.plan, from))
    }
}
