//! Malformed logs, kept where their sender finds them: subject `streamgauge.dead`, the raw bytes with the reason in the headers.
//!
//! Each is written once, however often the engine is killed: letters are written in stream order, every write names the one it must follow, and the
//! last one on the subject says where to go on. A checkpoint waits until the letters before it are acknowledged.

use crate::error::Fault;
use async_nats::jetstream::{self, message::PublishMessage, stream};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use model::wire::Reason;
use std::time::Duration;
use tracing::warn;

pub const SUBJECT: &str = "streamgauge.dead";
const STREAM: &str = "STREAMGAUGE_DEAD";

/// Letters waiting for their acknowledgement: a round trip for many, well within a connection's buffers.
const IN_FLIGHT_MAX: usize = 256;

/// Room for the headers below the server's largest payload.
const HEADERS_BYTES: usize = 2048;

const SEQUENCE: &str = "Streamgauge-Sequence";
const SOURCE: &str = "Streamgauge-Source";

#[derive(Debug)]
pub struct Letter {
    pub sequence: u64,
    pub reason: Reason,
    pub detail: String,
    pub payload: Bytes,
}

/// Writes letters to NATS.
#[derive(Debug)]
pub struct DeadLetters {
    client: Client,
    jetstream: jetstream::Context,
    /// Whether the server keeps letters; if not, who listens gets them, and that is all.
    kept: bool,
    /// Names the incarnation of the stream that letters come from.
    source: String,
    /// Made when there is a first letter.
    tail: Option<Tail>,
}

/// Where the dead-letter stream ends.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// Its last sequence, of the stream of letters.
    last: u64,
    /// The last source sequence that has its letter.
    written: u64,
}

impl DeadLetters {
    pub fn new(client: Client, source: String) -> Self {
        Self { jetstream: jetstream::new(client.clone()), client, kept: true, source, tail: None }
    }

    /// Letters over core NATS: at most once, like the logs that they are about.
    pub fn passing(client: Client) -> Self {
        Self { kept: false, ..Self::new(client, String::new()) }
    }

    /// Writes all `letters`, in growing order of sequence, and returns when the server has them. Retries until it has.
    pub async fn write(&mut self, letters: Vec<Letter>) {
        if !self.kept {
            return self.pass(&letters).await;
        }
        let mut pause = Duration::from_millis(100);
        while let Err(fault) = self.attempt(&letters).await {
            warn!(letters = letters.len(), problem = %fault.what(), "dead letters not written yet; trying again");
            self.tail = None;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    async fn pass(&self, letters: &[Letter]) {
        for letter in letters {
            let (headers, payload) = self.content(letter);
            if let Err(error) = self.client.publish_with_headers(SUBJECT, headers, payload).await {
                warn!(letters = letters.len(), problem = %error, "dead letters are lost");
                return;
            }
        }
    }

    async fn attempt(&mut self, letters: &[Letter]) -> Result<(), Fault> {
        let mut tail = match self.tail {
            Some(tail) => tail,
            None => self.find_tail().await?,
        };
        for chunk in letters.chunks(IN_FLIGHT_MAX) {
            let mut acks = Vec::with_capacity(chunk.len());
            for (follows, letter) in (tail.last..).zip(chunk.iter().filter(|letter| letter.sequence > tail.written)) {
                let publish = self.publish(letter).expected_last_sequence(follows);
                let sent = self.jetstream.send_publish(SUBJECT, publish).await;
                acks.push((letter.sequence, sent.map_err(|error| Fault::plain(error.to_string()))?));
            }
            for (sequence, ack) in acks {
                let ack = ack.await.map_err(|error| Fault::plain(error.to_string()))?;
                tail = Tail { last: ack.sequence, written: sequence };
            }
        }
        self.tail = Some(tail);
        Ok(())
    }

    fn publish(&self, letter: &Letter) -> PublishMessage {
        let (headers, payload) = self.content(letter);
        PublishMessage::build().headers(headers).payload(payload)
    }

    fn content(&self, letter: &Letter) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert("Streamgauge-Reason", letter.reason.name());
        headers.insert("Streamgauge-Detail", letter.detail.replace(['\r', '\n'], " ").as_str());
        headers.insert(SEQUENCE, letter.sequence.to_string().as_str());
        headers.insert(SOURCE, self.source.as_str());
        let most = self.client.server_info().max_payload.saturating_sub(HEADERS_BYTES).max(HEADERS_BYTES);
        let payload = if letter.payload.len() > most {
            headers.insert("Streamgauge-Cut-From", letter.payload.len().to_string().as_str());
            letter.payload.slice(..most)
        } else {
            letter.payload.clone()
        };
        (headers, payload)
    }

    async fn find_tail(&self) -> Result<Tail, Fault> {
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            // Long enough for a sender's team to notice on Monday; small enough not to matter.
            max_age: Duration::from_secs(7 * 86_400),
            max_bytes: 1 << 30,
            storage: stream::StorageType::File,
            ..stream::Config::default()
        };
        let mut stream =
            self.jetstream.get_or_create_stream(config).await.map_err(|error| Fault::plain(format!("cannot make stream {STREAM}: {error}")))?;
        let last = stream.info().await.map_err(|error| Fault::plain(error.to_string()))?.state.last_sequence;
        let written = match stream.get_last_raw_message_by_subject(SUBJECT).await {
            Ok(message) => {
                let header = |name: &str| message.headers.get(name).map(ToString::to_string);
                let ours = header(SOURCE).as_deref() == Some(self.source.as_str());
                header(SEQUENCE).filter(|_| ours).and_then(|sequence| sequence.parse().ok()).unwrap_or(0)
            }
            Err(_) => 0,
        };
        Ok(Tail { last, written })
    }
}
