//! Everything the machine may ask the world to do.

use crate::block::SliceBlock;
use model::plan::{Action, Severity};
use model::verdict::JudgeRequest;
use model::window::{Drift, GroupView, Observation};
use model::{Span, Timestamp, Unit};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Run a rule's `check` and answer with [`crate::Input::Checked`].
    Check(CheckRequest),
    /// Write once; writing the same block again changes nothing.
    Seal(SliceBlock),
    /// Tell people, once per id.
    Notify(Notification),
    /// Have a judge look at a call, and answer with [`crate::Input::Judged`].
    Judge(JudgeRequest),
    /// Keep the payload of this stream sequence where its sender finds it, with the reason.
    DeadLetter { sequence: u64, reason: model::wire::Reason },
    /// Do not run a script for a while. Whoever hears of it late does needless work and no harm; a restart says it anew.
    Suspend(Suspended),
}

/// A script that is not run, because it used up its budget too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspended {
    pub environment: String,
    /// Index into the plan's rules.
    pub rule: usize,
    pub of: Suspends,
    /// Event time: of calls, or of the end of a tick.
    pub until: Timestamp,
    pub length: Span,
}

/// What of a rule is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspends {
    /// The functions that see calls, for calls as [`model::Suspension`] says.
    Calls { slot: usize },
    /// Its `check`; the machine does not ask for it.
    Checks,
}

impl Suspends {
    /// As metrics and lists have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls { .. } => "call",
            Self::Checks => "check",
        }
    }
}

/// The groups of one rule at the end of one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckRequest {
    pub environment: String,
    /// End of the tick.
    pub at: Timestamp,
    /// Index into the plan's rules.
    pub rule: usize,
    /// In the order of their labels.
    pub groups: Vec<GroupView>,
}

/// One message about one alert. The same decision has the same id, whenever and however often it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub id: String,
    pub reason: Reason,
    /// Event time of the decision.
    pub at: Timestamp,
    pub alert_id: String,
    pub rule: String,
    pub severity: Severity,
    pub environment: String,
    /// Key and label, in the order of the rule's `group_by`.
    pub group: Vec<(String, String)>,
    /// The rule's own words, or ours where it has none.
    pub summary: String,
    /// Name and description of each watch, with what was seen.
    pub observed: Vec<Observed>,
    /// When the condition began.
    pub began: Timestamp,
    pub fired: Timestamp,
    /// The value furthest from the expected range while the alert fired.
    pub worst: Option<Observation>,
    /// Stream sequences of calls that show the trouble.
    pub examples: Vec<u64>,
    /// What the rule's `fire` said beside the summary.
    pub labels: Vec<(String, String)>,
    /// What a person may do about it.
    pub actions: Vec<Action>,
    pub owner: Option<String>,
    /// Where below the group it is worst, when the alert is for more than one group.
    pub hit: Vec<Hit>,
    pub channel: Option<String>,
    pub runbook: Option<String>,
}

impl Notification {
    /// Which of its watches it is about: the one that has left its range, else the first.
    pub fn foremost(&self) -> Option<&Observed> {
        self.observed.iter().find(|observed| observed.observation.drifted.is_some()).or(self.observed.first())
    }

    /// More about its drift. When it is over, its worst still says.
    pub fn drift(&self) -> Option<Drift> {
        let now = self.observed.iter().find_map(|observed| observed.observation.drift);
        now.or_else(|| self.worst.as_ref()?.drift)
    }

    /// When it most likely began, by the calls' time: its drift, or its condition where nothing says more.
    pub fn since(&self) -> Timestamp {
        self.drift().map_or(self.began, |drift| drift.since.min(self.began))
    }

    /// What is told when the alert, of which this was told last, ends at `at` for `reason`. The id is the one that any other way to that end gives it.
    pub fn ended(&self, reason: Reason, at: Timestamp) -> Self {
        Self { id: format!("{}-{}", self.alert_id, reason.name()), reason, at, ..self.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub watch: String,
    /// `fallback rate`, `p95 of latency_ms`.
    pub what: String,
    pub unit: Unit,
    /// The window, `5m`.
    pub window: String,
    pub of_what: String,
    pub observation: Observation,
}

/// A group that takes part in an alert of its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// In the order of the rule's `group_by`.
    pub labels: model::Labels,
    /// Since it began there.
    pub calls: u64,
    pub holds: u64,
}

/// Why a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Fired,
    /// It fires still, and its rule says to tell it again.
    Repeated,
    Resolved,
    /// No data for so long that nothing can be said any more.
    WentQuiet,
    /// The rule was changed or removed while its alert was firing.
    RuleChanged,
    /// A person said that what it shows is normal from now on.
    Adopted,
}

impl Reason {
    /// Whether the alert is over with it.
    pub fn ends(self) -> bool {
        !matches!(self, Self::Fired | Self::Repeated)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
            Self::WentQuiet => "went_quiet",
            Self::RuleChanged => "rule_changed",
            Self::Adopted => "adopted",
        }
    }
}
