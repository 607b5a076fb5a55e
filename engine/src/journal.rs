//! What happens to the machine beside the stream: time that passes, what people say and what judges say. Each entry is written with its position before it is applied,
//! and a restart applies it again there. Writing is the store's, order and replay the daemon's.

use machine::Input;
use model::{Timestamp, Verdict};
use std::collections::VecDeque;

/// What a restart found in the journal: applied again at the same positions.
pub type Journal = VecDeque<(u64, Entry)>;

#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The stream had nothing more, and it was `now`.
    Elapsed { now: Timestamp },
    /// A person said at `now` that what an alert shows is normal.
    Adopted { now: Timestamp, alert_id: String },
    /// What judges said, as it was known at `now`.
    Judged { now: Timestamp, verdicts: Vec<Verdict> },
}

impl Entry {
    /// Whether it matters to the entry which alerts there are. It then waits for the answers of all checks, in the first run as in every later one.
    pub fn needs_alerts(&self) -> bool {
        matches!(self, Self::Adopted { .. })
    }
}

impl From<Entry> for Input {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Elapsed { now } => Self::Elapsed { now },
            Entry::Adopted { alert_id, .. } => Self::Adopt { alert_id },
            Entry::Judged { verdicts, .. } => Self::Judged { verdicts },
        }
    }
}
