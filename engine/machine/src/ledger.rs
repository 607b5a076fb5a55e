//! The conservation ledger: where every log went. `received = counted + malformed + joined` and `counted = in_window + late` hold at all times.

use model::verdict::{Outcome, Skip};
use model::wire::Reason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub received: u64,
    pub counted: u64,
    /// Attempts that came as logs of their own and were folded into their operation. The formats read so far list attempts inside the operation's
    /// log, so this stays 0 with them.
    pub joined: u64,
    pub in_window: u64,
    /// Came after their slice was sealed.
    pub late: u64,
    /// Event time pulled back to the server's stamp; these are counted like any other.
    pub future: u64,
    /// Sequences that were gone from the stream before they were read.
    pub missed: u64,
    /// Calls counted under `(other)` because their environment has all the series it may have.
    pub overflowed: u64,
    /// Calls whose run is not measured, or not whole, because their environment had all the open runs it may have when they came.
    pub run_calls_unmeasured: u64,
    pub malformed_by: BTreeMap<Reason, u64>,
    /// By rule name: calls on which the rule's script failed.
    pub script_failures: BTreeMap<String, u64>,
    /// By rule name: checks that failed.
    pub check_failures: BTreeMap<String, u64>,
    /// By judge: what became of the calls that were chosen for it.
    pub judged: BTreeMap<String, Judged>,
}

/// What became of the calls that were chosen for a judge: `chosen` is the sum of all others, and of what still waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub chosen: u64,
    pub passed: u64,
    pub failed: u64,
    pub unreadable: u64,
    pub errored: u64,
    pub skipped: BTreeMap<Skip, u64>,
    pub cost_nano_usd: u64,
}

impl Ledger {
    pub fn malformed(&self) -> u64 {
        self.malformed_by.values().sum()
    }

    /// Whether the sums hold. They always do; a reader that wants to be told otherwise can ask.
    pub fn balances(&self) -> bool {
        self.received == self.counted + self.malformed() + self.joined && self.counted == self.in_window + self.late
    }

    pub(crate) fn judged_one(&mut self, judge: &str, outcome: Outcome, cost_nano_usd: u64) {
        let judged = self.judged.entry(judge.to_owned()).or_default();
        judged.cost_nano_usd += cost_nano_usd;
        match outcome {
            Outcome::Pass => judged.passed += 1,
            Outcome::Fail => judged.failed += 1,
            Outcome::Unreadable => judged.unreadable += 1,
            Outcome::Errored => judged.errored += 1,
            Outcome::Skipped(skip) => *judged.skipped.entry(skip).or_default() += 1,
        }
    }

    pub(crate) fn malformed_one(&mut self, reason: Reason) {
        *self.malformed_by.entry(reason).or_default() += 1;
    }
}
