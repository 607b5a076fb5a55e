//! Core NATS: subjects without JetStream behind them, each log at most once. What is published while the engine is down, away or slow is lost; nothing
//! can be read again.
//!
//! Logs are numbered as they come and stamped by this process's clock. One task takes them from the client as fast as they come, keeps their payloads in
//! a [`Ring`], and hands them on within a bound of messages and bytes; what does not fit is dropped there, and its numbers are left out, so that they
//! count as `missed`, once the next log comes, like sequences that are gone from a stream. The client drops as well, where that task gets no time: it
//! says so in an event for each, of which it drops some too, so that is counted from what its connection has received. The connection is for this alone,
//! to make that exact.
//! Deliberately absent: whatever the server drops by ending the connection of a client that does not keep up. It tells nobody how much that was.

use super::local::Ring;
use super::{BATCH_MAX, Batch, Envelope, nats};
use crate::config::NatsConfig;
use crate::error::Fault;
use crate::http::Readiness;
use crate::outbox::now;
use async_nats::connection::State;
use bytes::Bytes;
use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

/// What is lost, in words for people; the log, the status, the page and the doctor say the same.
pub const LOSES: &str = "core NATS, at most once: what is published while the engine is down or slow is lost";

/// Messages between the client and us, for each subject: what comes while our task waits for its turn. The client drops what is beyond.
const CLIENT_MAX: usize = 4096;
/// Logs that wait to be folded: two batches, and as many bytes as sixteen of the largest payloads that a server allows without being told otherwise take.
const QUEUE_MAX: usize = 2 * BATCH_MAX;
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Between looks at the connection.
const LOOK: Duration = Duration::from_millis(500);

/// The end that takes logs from the client.
#[derive(Debug)]
pub struct Core {
    client: async_nats::Client,
    messages: SelectAll<async_nats::Subscriber>,
    /// The number of the last log, dropped or not.
    sequence: u64,
    queue: mpsc::Sender<Envelope>,
    queued_bytes: Arc<AtomicUsize>,
    ring: Ring,
    losses: Losses,
    connects: u64,
}

/// The end that the engine reads.
#[derive(Debug)]
pub struct Taken {
    queue: mpsc::Receiver<Envelope>,
    queued_bytes: Arc<AtomicUsize>,
}

/// Counts what the client has dropped: what it has received less what we took of it.
#[derive(Debug, Default)]
struct Losses {
    taken: u64,
    /// Known to be lost.
    lost: u64,
    /// The smallest difference since the last look. A message that is received and not yet handed over is a difference for an instant; one that is
    /// dropped, for ever.
    least: Option<u64>,
}

impl Losses {
    /// Nothing waits with the client, and it has received so many.
    fn empty(&mut self, received: u64) {
        let difference = received.saturating_sub(self.taken);
        self.least = Some(self.least.map_or(difference, |least| least.min(difference)));
    }

    /// How many more are lost than at the last look.
    fn look(&mut self) -> u64 {
        let lost = self.least.take().unwrap_or(0).max(self.lost);
        lost - std::mem::replace(&mut self.lost, lost)
    }
}

/// Subscribes to the configured subjects; the first log will be number `position` + 1.
///
/// # Errors
/// When the server cannot be reached, or does not let us subscribe.
pub async fn subscribe(config: &NatsConfig, position: u64) -> Result<(Core, Taken, Ring), Fault> {
    let client = nats::connect_with(config, |options| options.name("streamgauge source").subscription_capacity(CLIENT_MAX)).await?;
    let mut subscriptions = Vec::new();
    for subject in &config.subjects {
        let subscribed = client.subscribe(subject.clone()).await;
        subscriptions.push(subscribed.map_err(|error| Fault::plain(format!("cannot subscribe to {subject}: {error}")))?);
    }
    client.flush().await.map_err(|error| Fault::plain(format!("cannot subscribe to {}: {error}", config.subjects.join(", "))))?;
    let (send, receive) = mpsc::channel(QUEUE_MAX);
    let (queued_bytes, ring) = (Arc::new(AtomicUsize::new(0)), Ring::default());
    let connects = client.statistics().connects.load(Ordering::Relaxed);
    let core = Core {
        client,
        messages: select_all(subscriptions),
        sequence: position,
        queue: send,
        queued_bytes: queued_bytes.clone(),
        ring: ring.clone(),
        losses: Losses::default(),
        connects,
    };
    Ok((core, Taken { queue: receive, queued_bytes }, ring))
}

impl Core {
    /// Takes logs until the engine has gone. The client connects again by itself.
    pub async fn run(mut self, readiness: Arc<Readiness>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = Instant::now();
        let mut dropped = 0;
        loop {
            tokio::select! {
                biased;
                _ = look.tick() => {
                    dropped += self.look(&readiness);
                    if dropped > 0 && told.elapsed() >= Duration::from_secs(10) {
                        warn!(dropped, "logs came faster than they are counted, and are lost; they count as missed");
                        (told, dropped) = (Instant::now(), 0);
                    }
                    if self.queue.is_closed() {
                        return;
                    }
                }
                message = self.messages.next() => {
                    let Some(message) = message else { return };
                    dropped += u64::from(!self.take(message));
                    // What else is there already; then the client has nothing, and what it says it received must be what we took.
                    for _ in 0..BATCH_MAX {
                        // Else the runtime would say that there is nothing when it is somebody else's turn.
                        match tokio::task::unconstrained(self.messages.next()).now_or_never() {
                            Some(Some(message)) => dropped += u64::from(!self.take(message)),
                            _ => {
                                self.losses.empty(self.received());
                                break;
                            }
                        }
                    }
                }
            }
        }
    }

    fn received(&self) -> u64 {
        self.client.statistics().in_messages.load(Ordering::Relaxed)
    }

    /// Whether it was handed on; if not, its number is left out.
    fn take(&mut self, message: async_nats::Message) -> bool {
        self.sequence += 1;
        self.losses.taken += 1;
        let bytes = message.payload.len();
        let Ok(permit) = self.queue.try_reserve() else { return false };
        if self.queued_bytes.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A copy, because the client's payloads hold the whole of what was read with them, and the bounds are of what is held.
        let payload = Bytes::copy_from_slice(&message.payload);
        let envelope = Envelope { sequence: self.sequence, stamp: now(), payload };
        self.ring.keep(envelope.clone());
        permit.send(envelope);
        true
    }

    /// Looks at the connection; returns how many more logs it has dropped.
    fn look(&mut self, readiness: &Readiness) -> u64 {
        readiness.source.store(self.client.connection_state() == State::Connected, Ordering::Relaxed);
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        if connects != self.connects {
            self.connects = connects;
            warn!("the connection was lost and made anew; what was published in between is lost, and nobody can say how much");
        }
        let more = self.losses.look();
        self.sequence += more;
        more
    }
}

impl Taken {
    /// `None` when the other end has gone.
    pub async fn next(&mut self) -> Option<Batch> {
        let began = std::time::Instant::now();
        let mut envelopes = Vec::with_capacity(256);
        if self.queue.recv_many(&mut envelopes, BATCH_MAX).await == 0 {
            return None;
        }
        let bytes = envelopes.iter().map(|envelope| envelope.payload.len()).sum();
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let took = if envelopes.len() > 1 { began.elapsed() } else { Duration::ZERO };
        Some(Batch { envelopes, pending: self.queue.len() as u64, took })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_between_two_hands_is_not_lost_and_one_that_stays_away_is_lost_once() {
        let mut losses = Losses { taken: 10, ..Losses::default() };
        losses.empty(11);
        losses.taken = 11;
        losses.empty(11);
        assert_eq!(losses.look(), 0, "the eleventh was on its way");
        losses.empty(14);
        assert_eq!((losses.look(), losses.look()), (3, 0));
        losses.taken = 20;
        losses.empty(24);
        assert_eq!(losses.look(), 1);
    }
}
