//! Calls made in this process, for the demo where no nats-server is installed: the same engine over a channel.
//!
//! Nothing is kept beyond a bounded ring of the latest payloads, so this source cannot be re-read after a restart.

use super::{BATCH_MAX, Batch, Envelope};
use bytes::Bytes;
use model::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Payloads kept for looking at: some minutes of the demo's traffic.
const RING_MAX: usize = 20_000;

/// The sending end.
#[derive(Clone, Debug)]
pub struct Publisher {
    sequence: u64,
    queue: mpsc::Sender<Envelope>,
    ring: Ring,
}

#[derive(Debug)]
pub struct Local {
    queue: mpsc::Receiver<Envelope>,
    ring: Ring,
}

/// The latest payloads, by sequence.
#[derive(Clone, Debug, Default)]
pub struct Ring(Arc<Mutex<VecDeque<Envelope>>>);

pub fn channel() -> (Publisher, Local, Ring) {
    let (send, receive) = mpsc::channel(2 * BATCH_MAX);
    let ring = Ring::default();
    (Publisher { sequence: 0, queue: send, ring: ring.clone() }, Local { queue: receive, ring: ring.clone() }, ring)
}

impl Publisher {
    /// Publishes one log, stamped `stamp`; waits while the engine is behind.
    pub async fn publish(&mut self, stamp: Timestamp, payload: Bytes) {
        self.sequence += 1;
        let envelope = Envelope { sequence: self.sequence, stamp, payload };
        self.ring.keep(envelope.clone());
        // The engine has gone: so will whoever publishes.
        let _ = self.queue.send(envelope).await;
    }
}

impl Local {
    /// What it brought last.
    pub fn ring(&self) -> Ring {
        self.ring.clone()
    }

    /// `None` when every publisher is gone.
    pub async fn next(&mut self) -> Option<Batch> {
        let mut envelopes = Vec::with_capacity(BATCH_MAX);
        if self.queue.recv_many(&mut envelopes, BATCH_MAX).await == 0 {
            return None;
        }
        Some(Batch { envelopes, pending: self.queue.len() as u64, took: Duration::ZERO })
    }
}

impl Ring {
    fn keep(&self, envelope: Envelope) {
        let mut ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if ring.len() == RING_MAX {
            ring.pop_front();
        }
        ring.push_back(envelope);
    }

    /// Up to `most` of those that came after `position`, in order.
    pub fn after(&self, position: u64, most: usize) -> Vec<Envelope> {
        let ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let from = ring.partition_point(|envelope| envelope.sequence <= position);
        ring.iter().skip(from).take(most).cloned().collect()
    }

    pub fn payload(&self, sequence: u64) -> Option<Bytes> {
        let ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let first = ring.front()?.sequence;
        ring.get(usize::try_from(sequence.checked_sub(first)?).ok()?).map(|envelope| envelope.payload.clone())
    }
}
