//! The stateless half: a batch of envelopes into one fold. Any thread, any order; results are merged in stream order by whoever owns the state.

use crate::source::Envelope;
use crate::suspensions::Suspensions;
use crate::timing::{TIMED_EVERY, Timings};
use evaluators::Evaluators;
use model::fold::{Fold, Folder, Inspected, ScriptView, event_time};
use model::measure::Measure;
use model::plan::Plan;
use model::signal::{Signals, signals};
use model::{CallLog, Timestamp};
use rules::RuleSet;
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

/// Everything that looking at a call needs; shared by the threads that fold.
#[derive(Debug)]
pub struct Inspector {
    pub plan: Plan,
    pub rules: RuleSet,
    pub evaluators: Evaluators,
    pub timings: Arc<Timings>,
}

/// A folded batch, and what is wrong with its malformed logs in words.
#[derive(Debug)]
pub struct Folded {
    pub fold: Fold,
    /// By sequence, ascending.
    pub details: Vec<(u64, String)>,
}

impl Inspector {
    pub fn new(plan: Plan, rules: RuleSet, evaluators: Evaluators) -> Self {
        let timings = Arc::new(Timings::of(&plan));
        Self { plan, rules, evaluators, timings }
    }

    /// Reads, judges and sums the batch. Scripts that are suspended for a call are not run on it.
    pub fn fold(&self, envelopes: &[Envelope], suspensions: &Suspensions) -> Folded {
        let mut folder = Folder::new(&self.plan);
        let mut details = Vec::new();
        let mut scripts = Vec::new();
        for envelope in envelopes {
            match model::parse(&envelope.payload) {
                Ok(mut call) => {
                    let (signals, measures) = self.judge(&mut call);
                    self.see(&call, envelope.sequence, envelope.stamp, suspensions, &folder, &mut scripts);
                    folder.add(envelope.sequence, envelope.stamp, &Inspected { call: &call, signals, measures, scripts: &scripts });
                }
                Err(malformed) => {
                    folder.malformed(envelope.sequence, malformed.reason);
                    details.push((envelope.sequence, malformed.detail));
                }
            }
        }
        Folded { fold: folder.finish(), details }
    }

    /// What scripts see in a call that is about to be added to `folder`, as far as that will count.
    pub fn see(
        &self,
        call: &CallLog<'_>,
        sequence: u64,
        stamp: Timestamp,
        suspensions: &Suspensions,
        folder: &Folder<'_>,
        views: &mut Vec<ScriptView>,
    ) {
        let (environment, time) = (call.environment.as_ref(), event_time(call, stamp));
        let runs = |slot| suspensions.run(slot, environment, sequence, time) && folder.runs(slot, environment, sequence, time);
        if sequence.is_multiple_of(TIMED_EVERY) {
            let began = Cell::new(Instant::now());
            let timed = |slot| {
                began.set(Instant::now());
                runs(slot)
            };
            self.rules.see_where(call, views, timed, |slot| self.timings.saw(slot, began.get().elapsed()));
        } else {
            self.rules.see_where(call, views, runs, |_| {});
        }
    }

    /// What is known of a call whatever the rules are. What it violates becomes a label of the call, which scripts and groups then see.
    pub fn judge(&self, call: &mut CallLog<'_>) -> (Signals, [Option<u64>; Measure::ALL.len()]) {
        let mut findings = self.evaluators.find(call);
        call.violation = findings.violation.take().map(Cow::Owned);
        (signals(call, &findings), Measure::ALL.map(|measure| measure.of(call)))
    }
}
