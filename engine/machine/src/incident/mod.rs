//! What people see of alerts: those that belong together are one incident, which is told once, kept up to date, answered, and closed.
//!
//! This is about people, so its time is that of their clocks, an argument as everywhere here; only facts about calls carry the calls' time. It takes
//! nothing back to windows or alerts. Hence its state is not in the snapshot: whoever owns it keeps each incident beside the messages that it asked
//! for, in one transaction, and hands in each alert's notification once. `life.rs` is the state and its one entry, `kin.rs` says what belongs
//! together.
//! Deliberately absent: words, channels and their limits, and where findings come from.

mod kin;
mod life;

pub use life::{Incidents, Settings};

use crate::effect::{Notification, Reason};
use model::plan::Severity;
use model::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What happens to incidents.
#[derive(Clone, Debug)]
pub enum Happening {
    /// An alert fired, was told again, or ended. To be given once each, in the order in which they were decided.
    Alert(Box<Notification>),
    /// What was found out about an incident.
    Explained {
        incident: String,
        findings: Option<Box<Findings>>,
    },
    Acknowledged {
        incident: String,
        by: String,
    },
    /// A person does not want to hear of this until then; without a time, until it is resolved (of an incident) or for good.
    Silenced {
        silence: Silence,
    },
    /// A person takes a silence back, by its id or by an incident's.
    Unsilenced {
        id: String,
        by: String,
    },
    /// A person did what a rule proposes.
    Acted {
        incident: String,
        label: String,
        by: String,
        outcome: String,
    },
    /// Time passed.
    Passed,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Consequence {
    /// An incident is other than before: to be kept. Its alerts are those that it lists.
    Changed(String),
    /// It is another's part now, and exists no more.
    Merged { from: String, into: String },
    /// People are to be told.
    Tell(Box<Telling>),
    /// What is behind it is to be looked into.
    Explain(String),
    /// The silences are other than before: to be kept.
    Silences,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Derived from its first alert.
    pub id: String,
    pub environment: String,
    /// When the first of its alerts was heard of.
    pub opened: Timestamp,
    /// Since when nothing fires any more.
    pub quiet: Option<Timestamp>,
    /// The last notification of the last alert of each rule and group, in the order in which they came; the series bound them. Kept beside the rest,
    /// because all else is small and changes often.
    #[serde(skip)]
    pub alerts: Vec<Notification>,
    pub acknowledged: Option<Acknowledged>,
    pub silenced: Option<Silence>,
    pub findings: Option<Findings>,
    /// How often it came back after it was quiet.
    pub returned: u32,
    /// What was said and done, and what was not said; the first and the latest of more than [`HISTORY_MAX`].
    pub history: Vec<Entry>,
    /// How often people were told.
    pub told: u32,
    /// What they were shown last.
    pub(crate) shown: Option<Shown>,
    /// When something is to be said that waits.
    pub(crate) due: Option<Timestamp>,
    /// What is behind it is being looked into for what is due, which waits no longer than this.
    pub(crate) asked: Option<Timestamp>,
    /// An alert asked to be told again.
    pub(crate) remind: bool,
    /// When the first of the alerts began in whose place another fired later, by the calls' time.
    #[serde(default)]
    pub(crate) before: Option<Timestamp>,
    /// Ids of its alerts of whose end people were told.
    #[serde(default)]
    pub(crate) told_ended: BTreeSet<String>,
}

/// Entries that an incident keeps: a day of one that changes every quarter of an hour.
pub const HISTORY_MAX: usize = 100;

/// What people were shown of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub at: Timestamp,
    pub severity: Severity,
    pub firing: u32,
    pub alerts: u32,
    pub explained: bool,
    pub silenced: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    pub by: String,
    pub at: Timestamp,
}

/// What nobody wants to hear of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    pub of: Silenced,
    pub by: String,
    pub at: Timestamp,
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Silenced {
    Incident(String),
    /// Every alert of which all of these say so: `rule`, `environment`, `severity`, or a key of its group, and the value.
    Alerts(Vec<(String, String)>),
}

impl Silenced {
    /// Whether this is about alerts that match, and this is one of them.
    pub fn covers(&self, alert: &Notification) -> bool {
        let Self::Alerts(terms) = self else { return false };
        terms.iter().all(|(key, value)| match key.as_str() {
            "rule" => alert.rule == *value,
            "environment" => alert.environment == *value,
            "severity" => alert.severity.name() == value,
            _ => alert.group.iter().any(|(known, label)| known == key && label == value),
        })
    }
}

/// What was found out about an incident beside the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The most likely cause in words, at most a few lines; none where the evidence is weak.
    pub cause: Vec<String>,
    /// What the calls that are hit have in common, as far as it is the cause: key and value.
    pub common: Vec<(String, String)>,
    /// Bad calls since it began, their runs and users, and what they cost.
    pub calls: Option<u64>,
    pub runs: Option<u64>,
    pub users: Option<u64>,
    pub cost_usd: Option<f64>,
    /// A few runs that show it.
    pub examples: Vec<Example>,
    pub curve: Option<Curve>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    pub event_id: String,
    pub sequence: u64,
}

/// The value over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// `fallback rate`.
    pub what: String,
    pub unit: model::Unit,
    /// Oldest first, evenly spaced; `None` where there were no calls.
    pub points: Vec<(Timestamp, Option<f64>)>,
    /// Where it is expected.
    pub expected: Option<model::plan::Range>,
}

/// What was said or done, or not said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    pub occasion: Occasion,
    /// The person, where it was one.
    pub by: Option<String>,
    /// Why nobody was told; `None` when people were.
    pub untold: Option<Untold>,
}

/// Why something was not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untold {
    Silenced,
    /// A reminder, and somebody has it in hand.
    Acknowledged,
    /// It comes and goes: its end is told when it holds.
    Flapping,
}

/// Why something is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Occasion {
    Opened,
    /// Others of it fire: how many of which nobody was told, and the first of them.
    Grew {
        more: u32,
        places: Vec<Place>,
    },
    Worse {
        severity: Severity,
    },
    /// Nothing happened; its numbers are others. Shown, and not said.
    Updated,
    /// Some of it ended.
    Eased {
        firing: u32,
    },
    Explained,
    Acknowledged,
    Silenced {
        until: Option<Timestamp>,
    },
    Unsilenced,
    SilenceEnded,
    Reminded,
    Acted {
        label: String,
        outcome: String,
    },
    /// Nothing of it fires any more; why the last alert ended.
    Resolved {
        reason: Reason,
    },
    Returned {
        times: u32,
    },
    /// Another one turned out to be part of it.
    Merged {
        rule: String,
    },
}

impl Occasion {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Grew { .. } => "grew",
            Self::Worse { .. } => "worse",
            Self::Updated => "updated",
            Self::Eased { .. } => "eased",
            Self::Explained => "explained",
            Self::Acknowledged => "acknowledged",
            Self::Silenced { .. } => "silenced",
            Self::Unsilenced => "unsilenced",
            Self::SilenceEnded => "silence_ended",
            Self::Reminded => "reminded",
            Self::Acted { .. } => "acted",
            Self::Resolved { .. } => "resolved",
            Self::Returned { .. } => "returned",
            Self::Merged { .. } => "merged",
        }
    }
}

/// One alert's rule and group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub rule: String,
    pub group: Vec<(String, String)>,
    pub severity: Severity,
    pub firing: bool,
}

/// What people are to be told, whole: whoever shows it needs nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Telling {
    /// The incident's, and how many came before: the same decision has the same id.
    pub id: String,
    pub at: Timestamp,
    pub occasion: Occasion,
    pub by: Option<String>,
    /// Whether it is worth a line in the thread; else the message alone is brought up to date.
    pub aloud: bool,
    pub incident: Seen,
}

/// An incident as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub id: String,
    pub environment: String,
    pub firing: bool,
    /// Of what fires; when nothing does, of all that did.
    pub severity: Severity,
    /// Event time of the first alert's beginning, and of the last one's end.
    pub began: Timestamp,
    pub ended: Option<Timestamp>,
    pub acknowledged: Option<Acknowledged>,
    /// What silences it now.
    pub silenced: Option<Silence>,
    pub returned: u32,
    /// The alert that stands for it: the most severe that fires, and the first of those.
    pub lead: Notification,
    /// The first of its alerts, those that fire before the others.
    pub places: Vec<Place>,
    pub alerts: u32,
    pub firing_alerts: u32,
    /// The ways in which its alerts ended, the most frequent first. Those that fire are not among them.
    #[serde(default)]
    pub ends: Vec<Ends>,
    pub rules: Vec<String>,
    pub findings: Option<Findings>,
    pub history: Vec<Entry>,
}

/// How many of an incident's alerts ended in this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub reason: Reason,
    pub alerts: u32,
}

/// Alerts that a telling names: more than a message shows.
pub const PLACES_MAX: usize = 40;

impl Incident {
    fn firing(&self) -> impl Iterator<Item = &Notification> {
        self.alerts.iter().filter(|alert| !alert.reason.ends())
    }

    /// Those of which people were not told yet.
    fn untold(&self) -> &[Notification] {
        self.alerts.get(self.shown.map_or(0, |shown| shown.alerts as usize)..).unwrap_or_default()
    }

    fn severity(&self) -> Severity {
        let most = |severities: &mut dyn Iterator<Item = Severity>| severities.max();
        most(&mut self.firing().map(|alert| alert.severity)).or(most(&mut self.alerts.iter().map(|alert| alert.severity))).unwrap_or_default()
    }

    /// When it began, by the calls' time: when the first of its alerts did, of many the first but for a tenth. Each beginning is an estimate, and the
    /// earliest of hundreds is the one that is furthest off.
    pub fn began(&self) -> Timestamp {
        let mut onsets: Vec<Timestamp> = self.alerts.iter().map(Notification::since).collect();
        onsets.sort_unstable();
        let first = onsets.get(onsets.len() / 10).copied();
        first.into_iter().chain(self.before).min().unwrap_or(self.opened)
    }

    fn lead(&self) -> Option<&Notification> {
        let severity = self.severity();
        let firing = |alert: &&Notification| !alert.reason.ends();
        let of = |alerts: &mut dyn Iterator<Item = &'_ Notification>| -> Option<usize> {
            let chosen = alerts.min_by_key(|alert| (alert.group.len(), alert.since(), alert.alert_id.clone()))?;
            self.alerts.iter().position(|alert| alert.alert_id == chosen.alert_id)
        };
        let found = of(&mut self.alerts.iter().filter(firing).filter(|alert| alert.severity == severity))
            .or_else(|| of(&mut self.alerts.iter().filter(|alert| alert.severity == severity)));
        found.map(|at| &self.alerts[at])
    }

    /// As people see it at `now`, with what silences it; `None` of one without alerts.
    pub fn seen(&self, silenced: Option<Silence>) -> Option<Seen> {
        let lead = self.lead()?.clone();
        let mut places: Vec<Place> = self.alerts.iter().map(Place::of).collect();
        places.sort_by_key(|place| (!place.firing, std::cmp::Reverse(place.severity)));
        places.truncate(PLACES_MAX);
        let mut rules: Vec<String> = Vec::new();
        for alert in &self.alerts {
            if !rules.contains(&alert.rule) {
                rules.push(alert.rule.clone());
            }
        }
        let mut ends: Vec<Ends> = Vec::new();
        for reason in self.alerts.iter().map(|alert| alert.reason).filter(|reason| reason.ends()) {
            match ends.iter_mut().find(|known| known.reason == reason) {
                Some(known) => known.alerts += 1,
                None => ends.push(Ends { reason, alerts: 1 }),
            }
        }
        ends.sort_by_key(|ends| std::cmp::Reverse(ends.alerts));
        let firing = self.firing().count() as u32;
        Some(Seen {
            id: self.id.clone(),
            environment: self.environment.clone(),
            firing: firing > 0,
            severity: self.severity(),
            began: self.began(),
            ended: if firing > 0 { None } else { self.alerts.iter().map(|alert| alert.at).max() },
            acknowledged: self.acknowledged.clone(),
            silenced,
            returned: self.returned,
            lead,
            places,
            alerts: self.alerts.len() as u32,
            firing_alerts: firing,
            ends,
            rules,
            findings: self.findings.clone(),
            history: self.history.clone(),
        })
    }
}

impl Place {
    fn of(alert: &Notification) -> Self {
        Self { rule: alert.rule.clone(), group: alert.group.clone(), severity: alert.severity, firing: !alert.reason.ends() }
    }
}

impl Seen {
    /// How all of it ended; `None` while something fires, and where its alerts ended in more than one way.
    pub fn end(&self) -> Option<Reason> {
        match self.ends[..] {
            _ if self.firing => None,
            // Kept by an earlier version, which did not count them.
            [] => Some(self.lead.reason),
            [Ends { reason, .. }] => Some(reason),
            _ => None,
        }
    }

    /// How long it lasted, where it is over.
    pub fn lasted(&self) -> Option<Span> {
        self.ended.map(|ended| ended.since(self.began))
    }
}
