//! Reading one call back by its sequence, for a judge or a person: nothing of ours keeps texts, they live as long as the source has them.

use super::local::Ring;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use bytes::Bytes;
use std::sync::Arc;

/// Where calls are kept.
#[derive(Clone, Debug)]
pub enum Payloads {
    Stream(Arc<Stream>),
    /// The latest calls that were made in this process.
    Local(Ring),
}

impl Payloads {
    /// `Ok(None)`: it is not there any more.
    ///
    /// # Errors
    /// What keeps it from being read now, which may pass.
    pub async fn read(&self, sequence: u64) -> Result<Option<Bytes>, String> {
        match self {
            Self::Local(ring) => Ok(ring.payload(sequence)),
            Self::Stream(stream) => match stream.get_raw_message(sequence).await {
                Ok(message) => Ok(Some(message.payload)),
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}
