//! Payloads into the calls' stream, in order, each acknowledged; and letters out of the dead-letter stream.

use crate::nats::Nats;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, context::PublishAckFuture, stream};
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::VecDeque;
use std::time::Duration;

/// Publishes in flight: a round trip for many.
const IN_FLIGHT_MAX: usize = 1024;

/// The one publisher of a stream of its own, so that a message's sequence is its number.
pub struct Publishing {
    jetstream: jetstream::Context,
    in_flight: VecDeque<PublishAckFuture>,
    sent: u64,
    acknowledged: u64,
}

impl Publishing {
    /// Makes the stream, where the engine has not, as the engine would find it: made by someone else.
    pub async fn new(nats: &Nats) -> Self {
        let jetstream = jetstream::new(nats.client().await);
        let config = stream::Config { name: "LLM_CALLS".into(), subjects: vec!["llm.calls.>".into()], ..stream::Config::default() };
        jetstream.get_or_create_stream(config).await.expect("the stream is made");
        Self { jetstream, in_flight: VecDeque::new(), sent: 0, acknowledged: 0 }
    }

    /// Returns the sequence that the message will have.
    pub async fn send(&mut self, payload: impl Into<Bytes>) -> u64 {
        let ack = self.jetstream.publish("llm.calls.test", payload.into()).await.expect("the message is sent");
        self.in_flight.push_back(ack);
        self.sent += 1;
        if self.in_flight.len() == IN_FLIGHT_MAX {
            self.acknowledge().await;
        }
        self.sent
    }

    /// Waits until the server has everything; returns how much that is.
    pub async fn flush(&mut self) -> u64 {
        while !self.in_flight.is_empty() {
            self.acknowledge().await;
        }
        self.sent
    }

    async fn acknowledge(&mut self) {
        let Some(ack) = self.in_flight.pop_front() else { return };
        self.acknowledged += 1;
        assert_eq!(ack.await.expect("the server takes the message").sequence, self.acknowledged);
    }
}

/// A malformed log as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Letter {
    /// Of the stream of calls.
    pub sequence: u64,
    pub reason: String,
    pub detail: String,
    /// Of the payload, where the server could not take it together with the headers.
    pub cut_from: Option<usize>,
    pub payload: Bytes,
}

/// Everything on subject `streamgauge.dead`, in order.
pub async fn letters(nats: &Nats) -> Vec<Letter> {
    let jetstream = jetstream::new(nats.client().await);
    let stream = jetstream.get_stream("STREAMGAUGE_DEAD").await.expect("there are dead letters");
    let count = stream.cached_info().state.messages as usize;
    let config =
        pull::OrderedConfig { filter_subject: "streamgauge.dead".into(), deliver_policy: DeliverPolicy::All, ..pull::OrderedConfig::default() };
    let mut messages = stream.create_consumer(config).await.expect("a consumer").messages().await.expect("its messages");
    let mut letters = Vec::with_capacity(count);
    while letters.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), messages.next()).await;
        let message = next.unwrap_or_else(|_| panic!("{} of {count} letters came", letters.len())).expect("the stream goes on").expect("a letter");
        let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string);
        letters.push(Letter {
            sequence: header("Streamgauge-Sequence").and_then(|text| text.parse().ok()).expect("a letter says where it comes from"),
            reason: header("Streamgauge-Reason").expect("a letter has a reason"),
            detail: header("Streamgauge-Detail").expect("a letter says what is wrong"),
            cut_from: header("Streamgauge-Cut-From").map(|text| text.parse().expect("a length")),
            payload: message.payload.clone(),
        });
    }
    letters
}
