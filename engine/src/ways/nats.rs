//! Publishing to a subject, known to have arrived.
//!
//! A client takes what is published into its buffer and would keep it over a lost connection, and a server that does not allow it says so to nobody in
//! particular. So every message is followed by a question on the same connection: whatever is answered, the server has read the message before, and said
//! before whether it refuses it. Deliberately absent: a stream's word that it keeps the message, because who listens need not have one.

use crate::posted::Posted;
use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, ServerError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::error;

/// A server answers within milliseconds, or is not there; people wait for it who clicked.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// What is asked. We may ask it wherever there is JetStream; a server without it says that nobody answers, which is an answer as well.
const QUESTION: &str = "$JS.API.INFO";
/// A refusal was read before the answer, and is on its way here from another task of this process.
const REFUSED_WITHIN: Duration = Duration::from_millis(20);
/// Of one subject it is said so often.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Subjects that are remembered: actions and environments are far fewer.
const SUBJECTS_MAX: usize = 1_000;

/// A connection on which we publish; cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    client: Client,
    refusals: Refusals,
}

/// On which subjects the server did not let us publish, and when it said so last and when we did.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<String, (Instant, Instant)>>>);

impl Refusals {
    /// Options of a connection whose refusals come here.
    pub fn heard(&self, options: ConnectOptions) -> ConnectOptions {
        let refusals = self.clone();
        options.event_callback(move |event| {
            if let Event::ServerError(ServerError::Other(said)) = event {
                refusals.hear(&said, Instant::now());
            }
            std::future::ready(())
        })
    }

    fn hear(&self, said: &str, now: Instant) {
        let Some(subject) = refused_subject(said) else { return };
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = refusals.get(subject).map(|(_, told)| *told);
        let told = known.filter(|told| now.duration_since(*told) < SAID_EVERY);
        if told.is_none() {
            error!(subject, hint = "allow it to our user", "the NATS server does not let us publish there");
        }
        if known.is_none() && refusals.len() >= SUBJECTS_MAX {
            refusals.pop_first();
        }
        refusals.insert(subject.to_owned(), (now, told.unwrap_or(now)));
    }

    fn since(&self, subject: &str, asked: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(subject).is_some_and(|(at, _)| *at >= asked)
    }
}

/// In the server's words: `Permissions Violation for Publish to "a.b"`.
fn refused_subject(said: &str) -> Option<&str> {
    said.strip_prefix("Permissions Violation for Publish to \"")?.split('"').next()
}

impl Publisher {
    pub fn new(client: Client, refusals: Refusals) -> Self {
        Self { client, refusals }
    }

    /// Publishes `body` under `id`, which a stream takes once within its window.
    pub async fn publish(&self, subject: &str, id: &str, body: Vec<u8>) -> Posted {
        // Published now, it would wait in the client beside every further attempt, and all of them would come.
        if self.client.connection_state() != State::Connected {
            return Posted::Again("there is no connection to NATS at the moment, and nothing was sent".to_owned());
        }
        let asked = Instant::now();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        if let Err(error) = self.client.publish_with_headers(subject.to_owned(), headers, body.into()).await {
            return match error.kind() {
                PublishErrorKind::Send => Posted::Again(error.to_string()),
                _ => Posted::Refused(error.to_string()),
            };
        }
        let heard = match tokio::time::timeout(HEARD_WITHIN, self.client.request(QUESTION, Default::default())).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind() == RequestErrorKind::NoResponders,
            Err(_) => false,
        };
        if !heard {
            return Posted::Unknown(format!("the NATS server said nothing within {} s", HEARD_WITHIN.as_secs()));
        }
        tokio::time::sleep(REFUSED_WITHIN).await;
        if self.refusals.since(subject, asked) {
            return Posted::Refused(format!("the NATS server does not let us publish on {subject}"));
        }
        Posted::Sent("published".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_published_while_nats_is_away_waits_with_us_and_not_in_its_client() {
        let nowhere = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let client = ConnectOptions::new().retry_on_initial_connect().connect(nowhere.to_string()).await.expect("it tries in the background");
        let publisher = Publisher::new(client, Refusals::default());
        let posted = tokio::time::timeout(HEARD_WITHIN, publisher.publish("a.b", "1", b"{}".to_vec())).await;
        assert!(matches!(posted.expect("it answers at once"), Posted::Again(_)));
    }

    #[test]
    fn a_refusal_is_known_by_its_subject_from_then_on() {
        let (refusals, begin) = (Refusals::default(), Instant::now());
        refusals.hear("Permissions Violation for Publish to \"gateway.page\"", begin);
        refusals.hear("Permissions Violation for Subscription to \"a.b\"", begin);
        assert!(refusals.since("gateway.page", begin) && !refusals.since("a.b", begin));
        assert!(!refusals.since("gateway.page", begin + Duration::from_millis(1)), "what is asked later is another matter");
    }
}
