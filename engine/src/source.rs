//! Where calls come from: a JetStream stream, core NATS, or this process itself. Either way a batch is envelopes in stream order.

pub mod core;
pub mod local;
pub mod nats;
pub mod payload;

use bytes::Bytes;
use model::Timestamp;
use std::time::Duration;

/// One message as it was stored: nothing of it is read yet.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub sequence: u64,
    /// When the server took it.
    pub stamp: Timestamp,
    pub payload: Bytes,
}

/// Envelopes in growing order of sequence; empty only to say that a source has nothing yet.
#[derive(Debug)]
pub struct Batch {
    pub envelopes: Vec<Envelope>,
    /// Messages behind the last one when it was delivered.
    pub pending: u64,
    /// From its first message to its last.
    pub took: Duration,
}

/// Most messages in a batch: enough to make the work per batch small beside the work per call, few enough to fold in some milliseconds.
pub const BATCH_MAX: usize = 4096;
