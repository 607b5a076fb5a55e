//! Asking for single calls: the index says which, the store what judges said of them, the source what they are. What is shown of a payload has gone
//! through `[redact]`.
//!
//! Searching is done on threads that may wait, a few at a time, so that questions of people slow neither counting nor each other for long.
//! Deliberately absent: how the index is filled (`indexing.rs`), and what a whole run adds up to (`runs.rs`).

use crate::config::RedactConfig;
use crate::error::Fault;
use crate::indexing::Indexed;
use crate::judging::Said;
use crate::outbox::now;
use crate::redact::Redaction;
use crate::source::payload::Payloads;
use crate::store::Store;
use crate::why::{About, Why, why};
use futures_util::{StreamExt, stream};
use index::{Bar, Cursor, Found, IndexError, Key, Names, Order, Query, QueryError, Reader, Row, Run, Sample, Sums, SumsError, Times, Unknown};
use model::Timestamp;
use model::wire::json;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Searches at once. Each may read the whole index; the next ones wait.
const SEARCHES_MAX: usize = 3;
/// Verdicts that one `verdict:` term is about, the newest: days of what judges are asked, and 8 MB.
const VERDICTS_MAX: usize = 1_000_000;
/// Exports at once: each reads payloads for as long as somebody takes them; further ones are refused.
const EXPORTS_MAX: usize = 2;
/// Payloads that are read at once.
const READING_MAX: usize = 16;

/// A handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    pub indexed: Arc<Indexed>,
    payloads: Payloads,
    store: Store,
    redaction: Arc<Redaction>,
    searches: Arc<Semaphore>,
    exports: Arc<Semaphore>,
}

/// Why a question about calls has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The query is not one.
    #[error("{error}")]
    Query {
        error: QueryError,
        /// Where, as people count: the first is 1.
        character: usize,
    },
    /// Calls are not summed by this.
    #[error(transparent)]
    Sums(SumsError),
    #[error("{0}")]
    Fault(Fault),
}

/// What is there of a payload.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Without what is redacted.
    Here(Value),
    /// The source does not keep it any more.
    Expired,
    /// Why it cannot be read, and whether that may pass.
    Unreadable(String),
}

impl Payload {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Here(_) => "here",
            Self::Expired => "expired",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// What a payload says of a call beside what the index keeps, whatever the sender's format; without what is redacted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detail {
    /// `here`, `expired`, `unreadable`, or `not_read` where too many were asked for.
    pub payload: &'static str,
    /// The provider's error: `type`, `code`, `message`, `body`, as far as they are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// In the order in which they were made; empty when the sender does not list them.
    pub attempts: Vec<Value>,
}

impl Detail {
    pub fn nothing(payload: &'static str) -> Self {
        Self { payload, error: None, attempts: Vec::new() }
    }
}

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Calls {
    /// # Errors
    /// When a pattern of `redact` is no regular expression.
    pub fn new(indexed: Arc<Indexed>, payloads: Payloads, store: Store, redact: &RedactConfig) -> Result<Self, Fault> {
        let redaction = Redaction::new(&redact.patterns)
            .map_err(|error| Fault::new(format!("a pattern of redact.patterns cannot be read: {error}"), "write it in single quotes"))?;
        let (searches, exports) = (Arc::new(Semaphore::new(SEARCHES_MAX)), Arc::new(Semaphore::new(EXPORTS_MAX)));
        Ok(Self { indexed, payloads, store, redaction: Arc::new(redaction), searches, exports })
    }

    /// What is taken out before anyone is shown a payload.
    pub fn redaction(&self) -> Arc<Redaction> {
        self.redaction.clone()
    }

    /// A query with the verdicts that it asks for.
    ///
    /// # Errors
    /// Where it is not one, and the place.
    pub async fn query(&self, text: &str) -> Result<Query, Unanswered> {
        let query = Query::parse(text, now()).map_err(|error| Unanswered::Query { character: character(text, error.at), error })?;
        let resolve = move |db: &mut crate::store::Db| {
            let mut failed = None;
            let query = query.with_verdicts(|judge, is| {
                let found = db.judged(judge, is, VERDICTS_MAX);
                found.unwrap_or_else(|fault| {
                    failed = Some(fault);
                    Vec::new()
                })
            });
            failed.map_or(Ok(query), Err)
        };
        Ok(self.store.ask(resolve).await?)
    }

    /// Calls that match, page by page.
    pub async fn search(&self, query: Query, times: Times, order: Order, limit: usize, after: Option<Cursor>) -> Result<Found, Unanswered> {
        self.look(move |reader| reader.search(&query, times, order, limit, after)).await
    }

    /// Properties and signals of the query that no call has, each with which of both it is. Names that calls have are found in the newest part of the
    /// index mostly; only for others it looks at every part.
    pub async fn unknown(&self, query: Query) -> Result<Vec<(&'static str, Unknown)>, Unanswered> {
        if query.is_of(&Names::default()) {
            return Ok(Vec::new());
        }
        self.look(move |reader| {
            let names = reader.names(|names| query.is_of(names))?;
            let properties = query.unknown_properties(&names.properties).into_iter().map(|unknown| ("property", unknown));
            let signals = query.unknown_signals(&names.signals).into_iter().map(|unknown| ("signal", unknown));
            Ok(properties.chain(signals).collect())
        })
        .await
    }

    /// Matching calls by time.
    pub async fn histogram(&self, query: Query, from: Timestamp, until: Timestamp, bars: usize) -> Result<Vec<Bar>, Unanswered> {
        self.look(move |reader| reader.histogram(&query, from, until, bars)).await
    }

    /// Values of a key that begin with `prefix`, the most frequent first.
    pub async fn values(&self, key: Key, prefix: String, limit: usize) -> Result<Vec<(String, u64)>, Unanswered> {
        self.look(move |reader| reader.values(&key, &prefix, limit)).await
    }

    /// All calls of a run, in all environments.
    pub async fn run(&self, event_id: String) -> Result<Run, Unanswered> {
        self.look(move |reader| reader.run(None, &event_id)).await
    }

    /// About so many calls that match, runs whole.
    pub async fn sample(&self, query: Query, times: Times, most: usize) -> Result<Sample, Unanswered> {
        self.look(move |reader| reader.sample(&query, times, most)).await
    }

    /// The call at a sequence of the stream.
    pub async fn call(&self, sequence: u64) -> Result<Option<Row>, Unanswered> {
        self.look(move |reader| reader.call(sequence)).await
    }

    /// Sums of matching calls by one or two keys.
    pub async fn sums(&self, query: Query, times: Times, by: Vec<Key>, limit: usize) -> Result<Sums, Unanswered> {
        self.summed(move |reader| reader.sums(&query, times, &by, limit)).await
    }

    /// The same without distinct runs and users, quickly where it was asked before.
    pub async fn totals(&self, query: Query, times: Times, by: Vec<Key>, limit: usize) -> Result<Sums, Unanswered> {
        self.summed(move |reader| reader.totals(&query, times, &by, limit)).await
    }

    async fn summed(&self, sums: impl FnOnce(&Reader) -> Result<Sums, SumsError> + Send + 'static) -> Result<Sums, Unanswered> {
        self.look(move |reader| match sums(reader) {
            Ok(sums) => Ok(Ok(sums)),
            Err(SumsError::Index(error)) => Err(error),
            Err(error) => Ok(Err(Unanswered::Sums(error))),
        })
        .await?
    }

    /// Why an alert fires, as far as its calls can tell.
    pub async fn why(&self, about: About) -> Result<Why, Unanswered> {
        self.look(move |reader| why(reader, &about)).await
    }

    /// What judges said of these calls of one environment, of each oldest first.
    pub async fn verdicts(&self, environment: &str, sequences: Vec<u64>) -> Result<Vec<Vec<Said>>, Unanswered> {
        let environment = environment.to_owned();
        Ok(self.store.ask(move |db| sequences.into_iter().map(|sequence| db.verdicts_on(&environment, sequence)).collect()).await?)
    }

    /// Leave to export, for as long as it is kept. `None`: enough others do.
    pub fn exporting(&self) -> Option<OwnedSemaphorePermit> {
        self.exports.clone().try_acquire_owned().ok()
    }

    /// What is taken out of whatever people are shown, by name.
    pub fn redacted(&self) -> Vec<String> {
        self.redaction.names()
    }

    /// Takes it out.
    pub fn redact(&self, value: &mut Value) {
        self.redaction.payload(value);
    }

    /// What people may see of a call's payload.
    pub async fn payload(&self, sequence: u64) -> Payload {
        match self.payloads.read(sequence).await {
            Ok(None) => Payload::Expired,
            Err(error) => Payload::Unreadable(format!("it cannot be read at the moment: {error}")),
            Ok(Some(bytes)) => match json::value(&bytes) {
                Ok(mut value) => {
                    self.redaction.payload(&mut value);
                    Payload::Here(value)
                }
                Err(error) => Payload::Unreadable(format!("what is kept of it is no JSON, and stays so: {error}")),
            },
        }
    }

    /// What the payloads of these calls say, in their order.
    pub async fn details(&self, sequences: Vec<u64>) -> Vec<Detail> {
        stream::iter(sequences).map(|sequence| self.detail(sequence)).buffered(READING_MAX).collect().await
    }

    async fn detail(&self, sequence: u64) -> Detail {
        let bytes = match self.payloads.read(sequence).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Detail::nothing("expired"),
            Err(_) => return Detail::nothing("unreadable"),
        };
        let Ok(call) = model::parse(&bytes) else { return Detail::nothing("unreadable") };
        let shown = |mut value: Value| {
            self.redaction.payload(&mut value);
            value
        };
        let error = call.error.as_ref().map(|error| {
            let body = error.body.and_then(|body| json::value(body.as_bytes()).ok());
            present([
                ("type", error.r#type.as_deref().map(Value::from)),
                ("code", error.code.as_deref().map(Value::from)),
                ("message", error.message.as_deref().map(Value::from)),
                ("body", body),
            ])
        });
        let attempts = call.attempts.iter().map(|attempt| {
            present([
                ("provider", attempt.provider.as_deref().map(Value::from)),
                ("model", attempt.model.as_deref().map(Value::from)),
                ("status_code", attempt.status_code.map(Value::from)),
                ("error_type", attempt.error_type.as_deref().map(Value::from)),
                ("latency_ms", attempt.latency_ms.map(Value::from)),
            ])
        });
        Detail { payload: "here", error: error.map(shown), attempts: attempts.map(shown).collect() }
    }

    /// Runs `look` on a thread that may wait. A file that it finds damaged is repaired behind it.
    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Reader) -> Result<T, IndexError> + Send + 'static) -> Result<T, Unanswered> {
        let stopping = || Fault::plain("the engine is stopping");
        let permit = self.searches.clone().acquire_owned().await.map_err(|_| stopping())?;
        let reader = self.indexed.reader();
        let looked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            look(&reader)
        });
        match looked.await.map_err(|_| stopping())? {
            Ok(found) => Ok(found),
            Err(IndexError::Damaged(damage)) => {
                self.indexed.repair(damage);
                Err(Fault::new("a file of the index is damaged", "its calls are being read from the stream again; ask once more in a minute").into())
            }
            Err(error) => Err(Fault::plain(format!("the index cannot be read: {error}")).into()),
        }
    }
}

/// Which character of a text begins at this byte; the first is 1.
pub fn character(text: &str, at: usize) -> usize {
    text.char_indices().take_while(|(byte, _)| *byte < at).count() + 1
}

/// An object of the fields that are there.
fn present<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}
