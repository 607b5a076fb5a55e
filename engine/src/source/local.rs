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
/// Of them together, because one alone may be 8 MiB.
const RING_BYTES_MAX: usize = 256 << 20;

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
pub struct Ring(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By growing sequence, some of which may be left out.
    envelopes: VecDeque<Envelope>,
    bytes: usize,
}

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
    /// Keeps it as the latest, instead of the oldest where there is no more room.
    pub fn keep(&self, envelope: Envelope) {
        let mut ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ring.bytes += envelope.payload.len();
        ring.envelopes.push_back(envelope);
        while ring.envelopes.len() > RING_MAX || ring.bytes > RING_BYTES_MAX {
            let Some(oldest) = ring.envelopes.pop_front() else { break };
            ring.bytes -= oldest.payload.len();
        }
    }

    /// Up to `most` of those that came after `position`, in order.
    pub fn after(&self, position: u64, most: usize) -> Vec<Envelope> {
        let ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let from = ring.envelopes.partition_point(|envelope| envelope.sequence <= position);
        ring.envelopes.iter().skip(from).take(most).cloned().collect()
    }

    /// `None` when it is too old, or never came.
    pub fn payload(&self, sequence: u64) -> Option<Bytes> {
        let ring = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = ring.envelopes.binary_search_by_key(&sequence, |envelope| envelope.sequence).ok()?;
        Some(ring.envelopes[at].payload.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(of: impl IntoIterator<Item = (u64, usize)>) -> Ring {
        let ring = Ring::default();
        for (sequence, bytes) in of {
            ring.keep(Envelope { sequence, stamp: Timestamp::EPOCH, payload: Bytes::from(vec![b'x'; bytes]) });
        }
        ring
    }

    #[test]
    fn the_latest_payloads_are_kept_by_their_sequence_within_a_number_and_bytes() {
        let ring = kept([(7, 1), (9, 2)]);
        assert_eq!([6, 7, 8, 9, 10].map(|sequence| ring.payload(sequence).map(|payload| payload.len())), [None, Some(1), None, Some(2), None]);
        let ring = kept((1..=RING_MAX as u64 + 1).map(|sequence| (sequence, 1)));
        assert_eq!((ring.payload(1), ring.payload(2).is_some()), (None, true));
        let ring = kept((1..=3).map(|sequence| (sequence, RING_BYTES_MAX / 2)));
        assert_eq!((ring.payload(1), ring.payload(2).is_some()), (None, true));
    }
}
