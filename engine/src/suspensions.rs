//! Which scripts an edge does not run at the moment, as the machine told it, and what is said of that in the log.
//!
//! Deliberately absent: any decision. What a suspended script says is ignored by the machine, so hearing of it late costs time and changes nothing.

use machine::{Suspended, Suspends};
use model::plan::Plan;
use model::{Suspension, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::warn;

/// By environment and script slot: as many as the machine has breakers. Cloning is cheap; a batch is folded under what was known when it began.
#[derive(Clone, Debug, Default)]
pub struct Suspensions(Arc<BTreeMap<String, BTreeMap<usize, Suspension>>>);

impl Suspensions {
    /// The last word on a script is the one that counts. A `check` is not asked for while it is suspended; there is nothing to remember of it.
    pub fn hear(&mut self, suspended: &Suspended) {
        if let Suspends::Calls { slot } = suspended.of {
            let known = Arc::make_mut(&mut self.0).entry(suspended.environment.clone()).or_default();
            known.insert(slot, Suspension { until: suspended.until });
        }
    }

    /// Whether the script in `slot` is run on a call at [`model::fold::event_time`] `time`.
    pub fn run(&self, slot: usize, environment: &str, sequence: u64, time: Timestamp) -> bool {
        let known = self.0.get(environment).and_then(|slots| slots.get(&slot));
        known.is_none_or(|suspension| suspension.runs_on(sequence, time))
    }
}

/// Tells the operator, once per suspension and once more after a restart.
pub fn report(plan: &Plan, suspended: &Suspended) {
    let Some(rule) = plan.rules.get(suspended.rule) else { return };
    warn!(
        rule = %rule.name,
        environment = %suspended.environment,
        on = suspended.of.name(),
        until = %suspended.until,
        length = %suspended.length,
        "a script used up its budget too often and is suspended; other rules are not touched\nhint: {}",
        way_out(suspended.of)
    );
}

/// What its author can do.
pub fn way_out(of: Suspends) -> &'static str {
    match of {
        Suspends::Calls { .. } => {
            "look for a loop that does not end, or narrow it with `applies: #{ … }`; a changed text runs at once, the same one is tried again by itself"
        }
        Suspends::Checks => "look for a loop that does not end in `fn check(w)`; a changed text runs at once, the same one is tried again by itself",
    }
}
