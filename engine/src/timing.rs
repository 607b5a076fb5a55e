//! What each rule's functions take: time for a person to look at, and nothing that decides anything.
//!
//! Functions that see calls are timed on one call in so many, checks always, so that timing costs nothing that could be noticed.

use model::plan::Plan;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Calls whose functions are timed: one in this many, by sequence. Two looks at a clock cost as much as a twentieth of the smallest function.
pub const TIMED_EVERY: u64 = 61;

/// By the slot of a script, since these rules were loaded.
#[derive(Debug, Default)]
pub struct Timings(Vec<Timed>);

#[derive(Debug, Default)]
struct Timed {
    timed: AtomicU64,
    timed_nanos: AtomicU64,
    checks: AtomicU64,
    check_nanos: AtomicU64,
}

/// What one rule takes on average, since it was loaded; `None` where nothing has run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Nanoseconds for a call that its functions see.
    pub call_ns: Option<f64>,
    /// Nanoseconds for a group and tick that its check looks at.
    pub check_ns: Option<f64>,
}

impl Timings {
    pub fn of(plan: &Plan) -> Self {
        let slots = plan.rules.iter().filter_map(|rule| plan.slot_of(rule));
        Self((0..slots.max().map_or(0, |last| last + 1)).map(|_| Timed::default()).collect())
    }

    pub fn saw(&self, slot: usize, took: Duration) {
        if let Some(timed) = self.0.get(slot) {
            timed.timed.fetch_add(1, Ordering::Relaxed);
            timed.timed_nanos.fetch_add(nanos(took), Ordering::Relaxed);
        }
    }

    /// The check of the rule in `slot` looked at so many groups.
    pub fn checked(&self, slot: usize, groups: usize, took: Duration) {
        if let Some(timed) = self.0.get(slot) {
            timed.checks.fetch_add(groups as u64, Ordering::Relaxed);
            timed.check_nanos.fetch_add(nanos(took), Ordering::Relaxed);
        }
    }

    pub fn of_slot(&self, slot: Option<usize>) -> Timing {
        let mean = |sum: &AtomicU64, count: &AtomicU64| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then(|| sum.load(Ordering::Relaxed) as f64 / count as f64)
        };
        slot.and_then(|slot| self.0.get(slot)).map_or(Timing::default(), |timed| Timing {
            call_ns: mean(&timed.timed_nanos, &timed.timed),
            check_ns: mean(&timed.check_nanos, &timed.checks),
        })
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
