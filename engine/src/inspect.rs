//! The stateless half: a batch of envelopes into one fold. Any thread, any order; results are merged in stream order by whoever owns the state.

use crate::source::Envelope;
use evaluators::Evaluators;
use model::CallLog;
use model::fold::{Fold, Folder, Inspected};
use model::measure::Measure;
use model::plan::Plan;
use model::signal::{Signals, signals};
use rules::RuleSet;

/// Everything that looking at a call needs; shared by the threads that fold.
#[derive(Debug)]
pub struct Inspector {
    pub plan: Plan,
    pub rules: RuleSet,
    pub evaluators: Evaluators,
}

/// A folded batch, and what is wrong with its malformed logs in words.
#[derive(Debug)]
pub struct Folded {
    pub fold: Fold,
    /// By sequence, ascending.
    pub details: Vec<(u64, String)>,
}

impl Inspector {
    /// Reads, judges and sums the batch.
    pub fn fold(&self, envelopes: &[Envelope]) -> Folded {
        let mut folder = Folder::new(&self.plan);
        let mut details = Vec::new();
        let mut scripts = Vec::new();
        for envelope in envelopes {
            match model::parse(&envelope.payload) {
                Ok(call) => {
                    let (signals, measures) = self.judge(&call);
                    self.rules.see(&call, &mut scripts);
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

    /// What is known of a call whatever the rules are.
    pub fn judge(&self, call: &CallLog<'_>) -> (Signals, [Option<u64>; Measure::ALL.len()]) {
        (signals(call, &self.evaluators.find(call)), Measure::ALL.map(|measure| measure.of(call)))
    }
}
