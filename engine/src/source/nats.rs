//! The JetStream end: connecting, the stream, and an ordered consumer that starts where the checkpoint ends.
//!
//! An ordered consumer needs no acknowledgements: position lives in the checkpoint alone, so there is nothing to disagree with it.

use super::{BATCH_MAX, Batch, Envelope};
use crate::config::{NatsAuth, NatsConfig};
use crate::error::Fault;
use async_nats::ConnectErrorKind;
use async_nats::jetstream::{self, consumer::DeliverPolicy, consumer::pull::OrderedConfig, stream};
use futures_util::{FutureExt, StreamExt};
use model::Timestamp;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait for a message before the client is asked again: after a first missed heartbeat its stream waits for that, and nothing else would.
/// It is also how soon a reader notices that its connection was made anew; the client's own heartbeats would take 15 s.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A stream that says nothing for so long is looked at: it may have been deleted and made again.
const QUIET: Duration = Duration::from_secs(10);

/// How long a batch waits for more while the stream has more: the work per batch is then small beside the work per call. Ticks are a thousand times
/// longer.
const LINGER: Duration = Duration::from_millis(10);

/// What the engine remembers of a stream to recognise it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub created: Timestamp,
    pub first_sequence: u64,
    pub last_sequence: u64,
}

/// Connects with the configured credentials.
///
/// # Errors
/// Says which server, and why not.
pub async fn connect(config: &NatsConfig) -> Result<async_nats::Client, Fault> {
    connect_with(config, |options| options).await
}

/// [`connect`] with further options of the client's.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(
    config: &NatsConfig,
    with: impl FnOnce(async_nats::ConnectOptions) -> async_nats::ConnectOptions,
) -> Result<async_nats::Client, Fault> {
    let secret = |secret: &crate::config::Secret| -> Result<String, Fault> {
        match secret.resolve() {
            Ok(Some(value)) => Ok(value.expose().to_owned()),
            Ok(None) => Err(Fault::new(format!("{secret} is not set"), "set it, or remove it from [nats]")),
            Err(error) => Err(Fault::plain(error.to_string())),
        }
    };
    let mut options = async_nats::ConnectOptions::new().name("streamgauge").connection_timeout(Duration::from_secs(5));
    options = match &config.auth {
        NatsAuth::Anonymous => options,
        NatsAuth::Token(token) => options.token(secret(token)?),
        NatsAuth::Password { user, password } => options.user_and_password(secret(user)?, secret(password)?),
        NatsAuth::Credentials(path) => options
            .credentials_file(path)
            .await
            .map_err(|error| Fault::new(format!("cannot read the NATS credentials {}: {error}", path.display()), "check nats.credentials"))?,
    };
    if let Some(ca) = &config.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some(identity) = &config.tls.identity {
        options = options.add_client_certificate(identity.cert.clone(), identity.key.clone());
    }
    options = options.require_tls(config.tls.required);
    with(options).connect(&config.url).await.map_err(|error| match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Fault::new(
            format!("NATS at {} refuses our sign-in: {}", config.url, error.kind()),
            "check nats.token, nats.user with nats.password, or nats.credentials: whichever the server asks for",
        ),
        ConnectErrorKind::Tls => Fault::new(
            format!("cannot connect to NATS at {}: {error}", config.url),
            "check nats.tls.ca, and nats.tls.cert with nats.tls.key where the server asks for them",
        ),
        _ => Fault::new(
            format!("cannot connect to NATS at {}: {error}", config.url),
            "is nats-server running there? set it with nats.url or --set nats.url=nats://host:4222",
        ),
    })
}

/// Opens the stream, or makes it with the configured subjects and limits.
///
/// # Errors
/// As [`open`] and [`make`].
pub async fn stream(client: &async_nats::Client, config: &NatsConfig) -> Result<stream::Stream, Fault> {
    match open(client, config).await? {
        Some(stream) => Ok(stream),
        None => make(client, config).await,
    }
}

/// Opens the stream; `None` where there is none.
///
/// # Errors
/// When JetStream is off, or the stream that is there is none that an engine can read.
pub async fn open(client: &async_nats::Client, config: &NatsConfig) -> Result<Option<stream::Stream>, Fault> {
    match jetstream::new(client.clone()).get_stream(&config.stream).await {
        Ok(stream) => fits(config, &stream.cached_info().config).map(|()| Some(stream)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Fault::new(
            format!("cannot read stream {}: {error}", config.stream),
            "start nats-server with JetStream (nats-server -js), and allow us to publish on $JS.API.> and to subscribe on _INBOX.>",
        )),
    }
}

/// Makes the stream with the configured subjects and limits.
///
/// # Errors
/// When the server refuses it.
pub async fn make(client: &async_nats::Client, config: &NatsConfig) -> Result<stream::Stream, Fault> {
    let wanted = stream::Config {
        name: config.stream.clone(),
        subjects: config.subjects.clone(),
        max_age: config.max_age,
        max_bytes: i64::try_from(config.max_bytes.bytes()).unwrap_or(i64::MAX),
        num_replicas: config.replicas,
        storage: stream::StorageType::File,
        // Publishers' own repeats within this time are removed by the server.
        duplicate_window: Duration::from_secs(120).min(config.max_age),
        allow_direct: true,
        ..stream::Config::default()
    };
    jetstream::new(client.clone()).create_stream(wanted).await.map_err(|error| {
        Fault::new(
            format!("cannot make stream {}: {error}", config.stream),
            "has the server JetStream (-js) and room for nats.max_bytes? another stream may carry the same subjects",
        )
    })
}

/// Whether an engine can read a stream like this one.
///
/// # Errors
/// When it does not carry the configured subjects, or does not keep what it has handed out: an engine reads again from its last snapshot.
pub fn fits(config: &NatsConfig, there: &stream::Config) -> Result<(), Fault> {
    let (name, carried) = (&config.stream, &there.subjects);
    let missing: Vec<_> = config.subjects.iter().filter(|subject| !carried.iter().any(|carried| covers(carried, subject))).cloned().collect();
    if !missing.is_empty() {
        return Err(Fault::new(
            format!("stream {name} carries {}, not {}", carried.join(", "), missing.join(", ")),
            format!("add the subjects with `nats stream edit {name}`, or set nats.subjects"),
        ));
    }
    let kind = match there.retention {
        stream::RetentionPolicy::Limits => return Ok(()),
        stream::RetentionPolicy::WorkQueue => "hands each log out once and drops it (retention is `workqueue`)",
        stream::RetentionPolicy::Interest => "keeps a log only for those who read at the time (retention is `interest`)",
    };
    Err(Fault::new(
        format!("stream {name} {kind}; what an engine has read it must be able to read again"),
        "make one that keeps its logs (`nats stream add` with --retention limits) in its place; or listen beside it, without what comes while the \
         engine is down: --set nats.delivery=core",
    ))
}

/// Whether there is no such stream.
pub fn is_absent(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), jetstream::context::GetStreamErrorKind::JetStream(e) if e.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

/// Whether every subject that `inner` takes is taken by `outer`.
pub fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// What is known of the stream now.
pub async fn identity(stream: &mut stream::Stream) -> Result<Identity, Fault> {
    let info = stream.info().await.map_err(|error| Fault::plain(format!("cannot read the stream's state: {error}")))?;
    Ok(Identity::of(info))
}

impl Identity {
    pub fn of(info: &stream::Info) -> Self {
        Self { created: stamp(info.created), first_sequence: info.state.first_sequence, last_sequence: info.state.last_sequence }
    }

    /// Whether this can be the stream that was made at `created` and read up to `position`. One of which nothing was read can be any.
    pub fn may_be(&self, created: Option<&str>, position: u64) -> bool {
        position == 0 || position <= self.last_sequence && created.is_none_or(|created| created == self.created.to_string())
    }
}

/// What is there is not the stream that was made at `known` and read up to `position`.
pub fn another(name: &str, found: &Identity, known: &str, position: u64) -> Fault {
    let (created, last) = (found.created, found.last_sequence);
    Fault::new(
        format!(
            "stream {name} is not the one this store has read: made {created}, last sequence {last}; the store knows one made {known}, read up to {position}"
        ),
        "start with --accept-new-stream to go on with it from its beginning, or set another store.path",
    )
}

/// There is no stream, and one was read before. One that is made in its place would have to be removed before a backup can be restored.
pub fn lost(name: &str, known: &str, position: u64) -> Fault {
    Fault::new(
        format!("there is no stream {name}; this store has read one made {known}, up to sequence {position}"),
        "restore it; or start with --accept-new-stream, which makes an empty one and goes on with that",
    )
}

/// Reads a stream from one sequence on.
pub struct Reader {
    messages: jetstream::consumer::pull::Ordered,
    last: u64,
    /// The consumer's name. The client makes another one by itself when the server has lost it; nobody knows then whether the stream is still the same.
    consumer: String,
    client: async_nats::Client,
    /// Times the client had connected when the reader was started.
    connects: u64,
    waiting: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Reader {
    /// Starts at `position` + 1. `filter` is empty where the stream holds nothing but our subjects.
    pub async fn start(client: async_nats::Client, stream: &stream::Stream, filter: Vec<String>, position: u64) -> Result<Self, Fault> {
        Self::deliver(client, stream, filter, position, DeliverPolicy::ByStartSequence { start_sequence: position + 1 }).await
    }

    /// Starts at the first message that the server took at `from` or later.
    pub async fn start_at(client: async_nats::Client, stream: &stream::Stream, filter: Vec<String>, from: Timestamp) -> Result<Self, Fault> {
        let start_time = async_nats::datetime::from_nanos(i128::from(from.millis()) * 1_000_000)
            .map_err(|_| Fault::new(format!("a stream cannot be read from {from}"), "name a time since the stream was made"))?;
        Self::deliver(client, stream, filter, 0, DeliverPolicy::ByStartTime { start_time }).await
    }

    async fn deliver(
        client: async_nats::Client,
        stream: &stream::Stream,
        filter: Vec<String>,
        position: u64,
        deliver_policy: DeliverPolicy,
    ) -> Result<Self, Fault> {
        let connects = client.statistics().connects.load(Ordering::Relaxed);
        let mut config = OrderedConfig { deliver_policy, ..OrderedConfig::default() };
        match filter.len() {
            0 => {}
            // The plain field is what servers before 2.10 understand.
            1 => config.filter_subject = filter.into_iter().next().unwrap_or_default(),
            _ => config.filter_subjects = filter,
        }
        let consumer = stream.create_consumer(config).await.map_err(|error| Fault::plain(format!("cannot start reading the stream: {error}")))?;
        let (name, waiting) = (consumer.cached_info().name.clone(), consumer.cached_info().num_pending);
        let messages = consumer.messages().await.map_err(|error| Fault::plain(format!("cannot start reading the stream: {error}")))?;
        Ok(Self { messages, last: position, consumer: name, client, connects, waiting })
    }

    /// Messages that were in the stream for it when it was started.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// The next messages; waits for the first, and returns `None` when none came for a while.
    ///
    /// # Errors
    /// When the reader must be started anew, after a look whether the stream is still the same.
    pub async fn next(&mut self) -> Result<Option<Batch>, Fault> {
        let began = Instant::now();
        let mut envelopes = Vec::with_capacity(256);
        let mut pending = 0;
        let mut first = Instant::now();
        let mut linger = first + LINGER;
        loop {
            let next = match self.messages.next().now_or_never() {
                Some(next) => next,
                None if envelopes.is_empty() => match tokio::time::timeout(ASK_AGAIN, self.messages.next()).await {
                    Ok(next) => {
                        first = Instant::now();
                        linger = first + LINGER;
                        next
                    }
                    Err(_) if self.client.statistics().connects.load(Ordering::Relaxed) != self.connects => {
                        return Err(Fault::plain("the connection was lost and made anew"));
                    }
                    Err(_) if began.elapsed() >= QUIET => return Ok(None),
                    Err(_) => continue,
                },
                None if pending == 0 => return Ok(Some(Batch { envelopes, pending, took: first.elapsed() })),
                None => match tokio::time::timeout_at(linger, self.messages.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(Some(Batch { envelopes, pending, took: first.elapsed() })),
                },
            };
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(Fault::plain(format!("reading the stream failed: {error}"))),
                None => return Err(Fault::plain("the server ended the stream's delivery")),
            };
            let info = message.info().map_err(|error| Fault::plain(format!("a message came without its place in the stream: {error}")))?;
            if info.consumer != self.consumer {
                // What was read before comes again.
                return Err(Fault::plain("the server lost its place in the stream"));
            }
            let (sequence, published) = (info.stream_sequence, stamp(info.published));
            pending = info.pending;
            if sequence <= self.last {
                continue;
            }
            self.last = sequence;
            envelopes.push(Envelope { sequence, stamp: published, payload: message.message.payload });
            if envelopes.len() == BATCH_MAX {
                return Ok(Some(Batch { envelopes, pending, took: first.elapsed() }));
            }
        }
    }
}

/// A time of the server's.
pub fn stamp(time: async_nats::datetime::DateTime) -> Timestamp {
    let millis = time.unix_timestamp() * 1000 + i64::from(time.millisecond());
    Timestamp::from_millis(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_wildcard_covers_what_it_matches() {
        for (outer, inner) in
            [("llm.calls.>", "llm.calls.>"), ("llm.calls.>", "llm.calls.a"), (">", "x"), ("a.*", "a.b"), ("a.*", "a.*"), ("a.b", "a.b")]
        {
            assert!(covers(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [("llm.calls.>", "llm.calls"), ("a.*", "a.>"), ("a.*", "a.b.c"), ("a.b", "a.*"), ("llm.calls.>", "llm.>")] {
            assert!(!covers(outer, inner), "{outer} {inner}");
        }
    }
}
