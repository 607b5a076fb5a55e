//! Doing what a rule proposes: one message to the subject that the rule names, once, however often and by however many people its button is clicked.
//!
//! Deliberately absent: who may (`operators.rs`), and what the message means to whoever hears it.

use super::Hearing;
use super::payload::Person;
use crate::outbox::now;
use machine::incident::{Occasion, Seen};
use model::plan::Action;
use model::{Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// For so long it is done already; later a person may mean it again. It is the time in which a NATS stream takes one message id once, unless its owner
/// set another.
pub const DONE_FOR: Span = Span::from_secs(120);
/// For the server's word that it has the message.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);
/// Actions that were just done: a person clicks one of four buttons of an incident.
const JUST_DONE_MAX: usize = 1_000;

/// Which action of which alert of which incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Which {
    pub incident: String,
    pub alert: String,
    pub index: usize,
}

/// Who is doing what, or just did.
#[derive(Clone, Debug, Default)]
pub struct JustDone(Arc<Mutex<BTreeMap<Which, (Timestamp, String)>>>);

impl JustDone {
    /// Takes it for `by`, unless somebody has: who, and when.
    pub fn claim(&self, which: &Which, by: &str, now: Timestamp) -> Result<(), (Timestamp, String)> {
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
    pub fn release(&self, which: &Which) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(which);
    }
}

/// What the thread is told of an action that was done.
pub fn done(action: &Action) -> String {
    format!("published to {}", action.publish)
}

/// When it was done last and by whom, and how often, as far as the incident's history says: what outlives a restart.
pub fn before(seen: &Seen, action: &Action) -> (Option<(Timestamp, String)>, usize) {
    let of = |entry: &&machine::incident::Entry| matches!(&entry.occasion, Occasion::Acted { label, outcome } if *label == action.label && *outcome == done(action));
    let times = seen.history.iter().filter(of);
    let last = times.clone().next_back().map(|entry| (entry.at, entry.by.clone().unwrap_or_default()));
    (last, times.count())
}

/// The id under which the message is the same message.
fn message_id(Which { incident, alert, index }: &Which, round: usize) -> String {
    let round = if round == 0 { String::new() } else { format!("-{round}") };
    format!("{incident}-{alert}-{index}{round}")
}

impl Hearing {
    /// Publishes it: `Err` says why it was not, in a few words.
    pub(super) async fn publish(&self, which: &Which, action: &Action, round: usize) -> Result<(), String> {
        let client = self.0.nats.as_ref().ok_or("there is no connection to NATS")?;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", message_id(which, round).as_str());
        let publishing = async {
            client.publish_with_headers(action.publish.clone(), headers, action.payload.clone().into()).await.map_err(|error| error.to_string())?;
            client.flush().await.map_err(|error| error.to_string())
        };
        let late = |_| format!("the server did not take it within {} s", PUBLISHED_WITHIN.as_secs());
        tokio::time::timeout(PUBLISHED_WITHIN, publishing).await.map_err(late)?
    }

    /// Takes the action for somebody: how often it was done before; `Err`: it is done already.
    pub(super) fn claim(&self, which: &Which, seen: &Seen, action: &Action, by: &Person) -> Result<usize, (Timestamp, String)> {
        let at = now();
        let (last, times) = before(seen, action);
        if let Some(last) = last.filter(|(before, _)| at.since(*before) < DONE_FOR) {
            return Err(last);
        }
        self.0.just_done.claim(which, &by.shown(), at).map(|()| times)
    }
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
