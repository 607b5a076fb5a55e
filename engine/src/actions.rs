//! Doing what a rule proposes: one message to where the rule says, once, however often and by however many people it is asked for.
//!
//! Deliberately absent: who may, which each way in knows by itself (`hearing/operators.rs`, `http/access.rs`), the audit log, and what the message means
//! to whoever hears it.

use crate::error::Fault;
use crate::incidents::Incidents;
use crate::outbox::now;
use crate::posted::Posted;
use crate::store::Store;
use crate::ways::{Call, OtherWays, Publisher};
use machine::incident::{Occasion, Seen};
use model::plan::{Action, Target};
use model::{Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// For so long it is done already; later a person may mean it again. It is the time in which a NATS stream takes one message id once, unless its owner
/// set another.
pub const DONE_FOR: Span = Span::from_secs(120);
/// Actions that were just done: a person clicks one of four buttons of an incident.
const JUST_DONE_MAX: usize = 1_000;
/// What outcomes that were none begin with.
const FAILED: &str = "failed: ";

/// A handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct Actions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    incidents: Incidents,
    store: Store,
    /// `None` without a server.
    nats: Option<Publisher>,
    ways: Arc<OtherWays>,
    just_done: JustDone,
}

/// One of the actions of an alert, as it was chosen: by its place among them, or by its label, of which an alert has each once.
#[derive(Clone, Copy, Debug)]
pub enum Chosen<'c> {
    Place(usize),
    Label(&'c str),
}

/// An action that may be done now, and where it was proposed.
#[derive(Clone, Debug)]
pub struct Proposed {
    pub seen: Seen,
    pub rule: String,
    pub action: Action,
    which: Which,
}

/// Why nothing can be done.
#[derive(Clone, Debug)]
pub enum Refused {
    /// No incident, or no alert, of this name.
    Unknown(String),
    /// Nothing of the incident fires any more.
    Over(Box<Seen>),
    /// The alert ended; others of its incident go on.
    AlertOver { rule: String },
    /// The rule proposes other things, by their labels, or nothing any more.
    NotProposed { rule: String, labels: Vec<String> },
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Came {
    Done,
    /// Somebody was first.
    Already {
        at: Timestamp,
        by: String,
    },
    /// It is not done, and why, in a few words. It may be tried again at once.
    Failed(String),
    /// It may be done or not, and why that is not known. The message has the same id when it is tried again.
    Unsure(String),
}

impl Came {
    /// For the audit log and the incident's thread.
    pub fn outcome(&self, action: &Action) -> String {
        match self {
            Self::Done => action.target.done(),
            Self::Already { at, by } => format!("refused: done already by {by} at {at}"),
            Self::Failed(why) | Self::Unsure(why) => format!("{FAILED}{why}"),
        }
    }
}

impl Proposed {
    /// What the audit log says that it is about.
    pub fn subject(&self) -> String {
        format!("{} {} {}", self.seen.id, self.rule, self.action.label)
    }
}

impl Actions {
    pub fn new(incidents: Incidents, store: Store, nats: Option<Publisher>, ways: Arc<OtherWays>) -> Self {
        Self(Arc::new(Inner { incidents, store, nats, ways, just_done: JustDone::default() }))
    }

    /// Finds what is proposed by an alert of an incident; by the alert that stands for it where none is named.
    ///
    /// # Errors
    /// When the engine is stopping, or the store cannot be read.
    pub async fn find(&self, incident: &str, alert: Option<&str>, chosen: Chosen<'_>) -> Result<Result<Proposed, Refused>, Fault> {
        let Some(seen) = self.0.incidents.one(incident).await? else { return Ok(Err(Refused::Unknown(incident.to_owned()))) };
        if !seen.firing {
            return Ok(Err(Refused::Over(Box::new(seen))));
        }
        let told = match alert.filter(|id| **id != seen.lead.alert_id) {
            None => Some(seen.lead.clone()),
            Some(id) => {
                let id = id.to_owned();
                self.0.store.ask(move |db| db.alert(&id)).await?
            }
        };
        let Some(told) = told else { return Ok(Err(Refused::Unknown(alert.unwrap_or(incident).to_owned()))) };
        if told.reason.ends() {
            return Ok(Err(Refused::AlertOver { rule: told.rule }));
        }
        let index = match chosen {
            Chosen::Place(index) => Some(index),
            Chosen::Label(label) => told.actions.iter().position(|action| action.label == label),
        };
        let Some((index, action)) = index.and_then(|index| Some((index, told.actions.get(index)?.clone()))) else {
            let labels = told.actions.into_iter().map(|action| action.label).collect();
            return Ok(Err(Refused::NotProposed { rule: told.rule, labels }));
        };
        let which = Which { incident: seen.id.clone(), alert: told.alert_id, index };
        Ok(Ok(Proposed { seen, rule: told.rule, action, which }))
    }

    /// Does it for somebody, and notes it with the incident.
    pub async fn perform(&self, proposed: &Proposed, by: &str) -> Came {
        let Proposed { seen, action, which, .. } = proposed;
        let at = now();
        let (last, times) = before(seen, action);
        let taken = match last.filter(|(before, _)| at.since(*before) < DONE_FOR) {
            Some(last) => Err(last),
            None => self.0.just_done.claim(which, by, at),
        };
        if let Err((at, by)) = taken {
            return Came::Already { at, by };
        }
        let id = message_id(which, times);
        let posted = match &action.target {
            Target::Subject(subject) => match &self.0.nats {
                Some(publisher) => publisher.publish(subject, &id, action.payload.clone().into()).await,
                None => Posted::Refused("calls are not read from NATS, so there is no server to publish to".to_owned()),
            },
            Target::Webhook(name) => {
                let call = Call { id, action, by, at, incident: seen, maybe_repeat: failed(seen, action) };
                self.0.ways.call(name, &call).await
            }
        };
        let came = came(posted);
        if !matches!(came, Came::Done) {
            self.0.just_done.release(which);
        }
        // What is done is done, whatever becomes of the line about it.
        let outcome = came.outcome(action);
        if let Err(fault) = self.0.incidents.acted(&seen.id, &action.label, &outcome, by).await {
            tracing::warn!(incident = %seen.id, action = %action.label, %outcome, problem = %fault.what(), "an action could not be noted with its incident");
        }
        came
    }
}

/// What it means for whoever clicked.
fn came(posted: Posted) -> Came {
    match posted {
        Posted::Sent(_) => Came::Done,
        Posted::Later(pause) => Came::Failed(format!("it asks to be called again in {} s", pause.as_secs())),
        Posted::Unknown(problem) => Came::Unsure(problem),
        Posted::Again(problem) | Posted::Refused(problem) => Came::Failed(problem),
    }
}

/// Which action of which alert of which incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Which {
    incident: String,
    alert: String,
    index: usize,
}

/// Who is doing what, or just did.
#[derive(Debug, Default)]
struct JustDone(Mutex<BTreeMap<Which, (Timestamp, String)>>);

impl JustDone {
    /// Takes it for `by`, unless somebody has: who, and when.
    fn claim(&self, which: &Which, by: &str, now: Timestamp) -> Result<(), (Timestamp, String)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| now.since(*at) < DONE_FOR);
        if let Some(before) = known.get(which) {
            return Err(before.clone());
        }
        if known.len() >= JUST_DONE_MAX
            && let Some(oldest) = known.iter().min_by_key(|(_, (at, _))| *at).map(|(which, _)| which.clone())
        {
            known.remove(&oldest);
        }
        known.insert(which.clone(), (now, by.to_owned()));
        Ok(())
    }

    /// It came to nothing: it may be tried again at once.
    fn release(&self, which: &Which) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(which);
    }
}

/// When it was done last and by whom, and how often, as far as the incident's history says: what outlives a restart.
fn before(seen: &Seen, action: &Action) -> (Option<(Timestamp, String)>, usize) {
    let done = action.target.done();
    let of = |entry: &&machine::incident::Entry| matches!(&entry.occasion, Occasion::Acted { label, outcome } if *label == action.label && *outcome == done);
    let times = seen.history.iter().filter(of);
    let last = times.clone().next_back().map(|entry| (entry.at, entry.by.clone().unwrap_or_default()));
    (last, times.count())
}

/// Whether it was tried before, to no certain end.
fn failed(seen: &Seen, action: &Action) -> bool {
    let of = |occasion: &Occasion| matches!(occasion, Occasion::Acted { label, outcome } if *label == action.label && outcome.starts_with(FAILED));
    seen.history.iter().any(|entry| of(&entry.occasion))
}

/// The id under which the message is the same message, however often it is tried.
fn message_id(Which { incident, alert, index }: &Which, round: usize) -> String {
    let round = if round == 0 { String::new() } else { format!("-{round}") };
    format!("{incident}-{alert}-{index}{round}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_one_persons_until_it_may_be_meant_again() {
        let done = JustDone::default();
        let at = Timestamp::parse("2026-11-22T10:00:00Z").expect("a time");
        let which = |index| Which { incident: "i1".into(), alert: "1".into(), index };
        assert_eq!(done.claim(&which(0), "@ana", at), Ok(()));
        assert_eq!(done.claim(&which(0), "@ben", at + Span::from_secs(60)), Err((at, "@ana".into())));
        assert_eq!(done.claim(&which(1), "@ben", at), Ok(()), "another action");
        assert_eq!(done.claim(&which(0), "@ben", at + DONE_FOR), Ok(()));
        done.release(&which(0));
        assert_eq!(done.claim(&which(0), "@ana", at + DONE_FOR), Ok(()), "what failed may be tried at once");
    }

    #[test]
    fn a_message_has_the_id_of_its_action_and_another_one_each_time_it_is_meant_again() {
        let which = Which { incident: "i1".into(), alert: "1".into(), index: 2 };
        assert_eq!((message_id(&which, 0), message_id(&which, 1)), ("i1-1-2".into(), "i1-1-2-1".into()));
    }
}
