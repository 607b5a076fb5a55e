//! Where a back-test's calls come from: a file, whose calls are stamped by their own time, or what a stream still holds of a period.

use super::lines::Lines;
use crate::config::{Config, Delivery};
use crate::error::Fault;
use crate::source::{Batch, Envelope, nats};
use async_nats::jetstream::{self, stream::Stream};
use model::Timestamp;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Handle;

/// Attempts to read on after the connection broke, and the pause before each.
const AGAIN_MAX: u32 = 10;
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Calls in order, until there are no more.
#[derive(Debug)]
pub enum Calls {
    File(Lines),
    Stream(Box<Past>),
}

/// A period of a stream, up to what it held when the back-test began.
#[derive(Debug)]
pub struct Past {
    client: async_nats::Client,
    stream: Stream,
    filter: Vec<String>,
    reader: nats::Reader,
    waiting: Option<Batch>,
    /// The last sequence read.
    position: u64,
    last: u64,
    to: Timestamp,
    stamps: Option<(Timestamp, Timestamp)>,
    over: bool,
}

/// A stream, with the first sequence of the period asked for.
#[derive(Debug)]
pub struct Found {
    pub past: Past,
    pub first: u64,
    /// When the stream was made.
    pub created: Timestamp,
}

impl Calls {
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub fn file(path: &Path) -> Result<(Self, u64), Fault> {
        let (lines, length) = Lines::open(path)?;
        Ok((Self::File(lines), length))
    }

    /// Whether envelopes carry no stamp of a server, so that calls are stamped by their own time.
    pub fn by_their_own_time(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The next batch; `None` at the end. Blocks; `runtime` waits for the server.
    pub fn next(&mut self, runtime: &Handle) -> Result<Option<Vec<Envelope>>, Fault> {
        match self {
            Self::File(lines) => lines.next(),
            Self::Stream(past) => runtime.block_on(past.next()),
        }
    }

    /// How far reading is: bytes of a file, milliseconds of a stream's stamps.
    pub fn done(&self) -> u64 {
        match self {
            Self::File(lines) => lines.read(),
            Self::Stream(past) => past.stamps.map_or(0, |(first, last)| last.since(first).millis()),
        }
    }
}

impl Past {
    /// The period `from..=to` of the configured stream, which is looked at and never made.
    ///
    /// # Errors
    /// When there is no server, stream, or message in the period.
    pub async fn find(config: &Config, from: Timestamp, to: Timestamp) -> Result<Found, Fault> {
        if config.nats.delivery == Delivery::Core {
            let hint = "keep the calls in a stream: nats.delivery = \"jetstream\"";
            return Err(Fault::new("nats.delivery is `core`: no stream keeps the calls of the past", hint));
        }
        let client = nats::connect(&config.nats).await?;
        let name = &config.nats.stream;
        let mut stream = jetstream::new(client.clone())
            .get_stream(name)
            .await
            .map_err(|error| Fault::new(format!("cannot read stream {name}: {error}"), "name it with --set nats.stream=…"))?;
        let identity = nats::identity(&mut stream).await?;
        let carried = &stream.cached_info().config.subjects;
        let all_ours = carried.iter().all(|subject| config.nats.subjects.iter().any(|ours| nats::covers(ours, subject)));
        let filter = if all_ours { Vec::new() } else { config.nats.subjects.clone() };
        let nothing = || {
            let held = if identity.last_sequence < identity.first_sequence {
                "it is empty".to_owned()
            } else {
                format!("it keeps calls since {}", first_kept(&stream))
            };
            Fault::new(format!("stream {name} has no call from {from} to {to}"), format!("{held}; ask for another time"))
        };
        if nats::stamp(stream.cached_info().state.last_timestamp) < from || identity.last_sequence < identity.first_sequence {
            return Err(nothing());
        }
        let mut reader = nats::Reader::start_at(client.clone(), &stream, filter.clone(), from).await?;
        let waiting = reader.next().await?.filter(|batch| batch.envelopes.first().is_some_and(|first| first.stamp <= to)).ok_or_else(nothing)?;
        let first = waiting.envelopes.first().map_or(0, |first| first.sequence);
        let (position, last, waiting) = (first.saturating_sub(1), identity.last_sequence, Some(waiting));
        let past = Self { client, stream, filter, reader, waiting, position, last, to, stamps: None, over: false };
        Ok(Found { past, first, created: identity.created })
    }

    /// Reads from `position` + 1 on instead, to learn on the way.
    pub async fn earlier(&mut self, position: u64) -> Result<(), Fault> {
        self.reader = nats::Reader::start(self.client.clone(), &self.stream, self.filter.clone(), position).await?;
        (self.position, self.waiting) = (position, None);
        Ok(())
    }

    /// The next batch; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Envelope>>, Fault> {
        if self.over || self.position >= self.last {
            return Ok(None);
        }
        let batch = match self.waiting.take() {
            Some(batch) => Some(batch),
            None => self.read().await?,
        };
        let Some(Batch { mut envelopes, pending, .. }) = batch else { return Ok(None) };
        self.position = envelopes.last().map_or(self.position, |last| last.sequence);
        let within = |envelope: &Envelope| envelope.sequence <= self.last && envelope.stamp <= self.to;
        let kept = envelopes.iter().take_while(|envelope| within(envelope)).count();
        self.over = kept < envelopes.len() || pending == 0;
        envelopes.truncate(kept);
        if let (Some(first), Some(last)) = (envelopes.first(), envelopes.last()) {
            self.stamps = Some((self.stamps.map_or(first.stamp, |(first, _)| first), last.stamp));
        }
        Ok((kept > 0).then_some(envelopes))
    }

    /// `None`: the rest of the period holds nothing of ours.
    async fn read(&mut self) -> Result<Option<Batch>, Fault> {
        let mut again = 0;
        loop {
            let fault = match self.reader.next().await {
                Ok(batch) => return Ok(batch),
                Err(fault) => fault,
            };
            again += 1;
            if again > AGAIN_MAX {
                return Err(fault);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
            if let Ok(reader) = nats::Reader::start(self.client.clone(), &self.stream, self.filter.clone(), self.position).await {
                self.reader = reader;
            }
        }
    }

    /// No further than `other`, which was found before; whatever was published since is left out.
    #[must_use]
    pub fn up_to(mut self, other: &Self) -> Self {
        self.last = self.last.min(other.last);
        self
    }

    /// When the last call of the period was taken, as far as that is known before reading.
    pub fn end(&self) -> Timestamp {
        self.to.min(nats::stamp(self.stream.cached_info().state.last_timestamp))
    }

    /// When the first waiting call was taken.
    pub fn start(&self) -> Option<Timestamp> {
        self.waiting.as_ref().and_then(|batch| batch.envelopes.first()).map(|first| first.stamp)
    }
}

fn first_kept(stream: &Stream) -> Timestamp {
    nats::stamp(stream.cached_info().state.first_timestamp)
}
