//! Delivery: rows leave the outbox in order per route, each once, at a pace the route allows.
//!
//! A row goes planned → sending → sent, and is written before each step. What is found `sending` after a crash, or whose answer never came, is sent
//! again and marked as a possible repeat: never zero times, and more than once only where nobody can know.

use crate::durations::Durations;
use crate::error::Fault;
use crate::message::{compose, for_terminal};
use crate::slack::{Posted, Slack, hint};
use crate::store::{Row, Store};
use machine::Reason;
use model::{Span, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Slack takes about one message a second per channel.
const SLACK_PACE: Duration = Duration::from_secs(1);
/// Between retries of what may pass: doubled each time from one second up to this, less a random part so that many engines do not retry as one.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A notification older than this is given up: a day-old page helps nobody, and the page and the log still show it.
const AGE_MAX: Span = Span::from_secs(24 * 3600);

/// How deliveries ended, for `/metrics`.
#[derive(Debug, Default)]
pub struct Deliveries {
    pub sent: AtomicU64,
    pub retried: AtomicU64,
    pub rate_limited: AtomicU64,
    pub failed: AtomicU64,
    /// Sent although it may have been sent before.
    pub possible_repeats: AtomicU64,
    /// From the decision to the receipt.
    pub latency: Durations,
}

/// The ways out.
#[derive(Debug)]
pub struct Ways {
    pub slack: Option<Slack>,
    pub nats: Option<async_nats::Client>,
    /// The demo shows messages on the terminal.
    pub terminal: bool,
    pub public_url: String,
    /// A crash test: the process aborts once Slack has accepted a message.
    pub crash_after_post: bool,
}

#[derive(Debug)]
pub struct Outbox {
    store: Store,
    ways: Arc<Ways>,
    wake: Arc<Notify>,
    deliveries: Arc<Deliveries>,
}

impl Outbox {
    pub fn new(store: Store, ways: Ways, wake: Arc<Notify>, deliveries: Arc<Deliveries>) -> Self {
        Self { store, ways: Arc::new(ways), wake, deliveries }
    }

    /// Delivers until `stop` says so, and then what is due, for at most `grace`.
    pub async fn run(self, mut stop: watch::Receiver<bool>, grace: Duration) -> Result<(), Fault> {
        let mut in_flight: JoinSet<(String, Result<(), Fault>)> = JoinSet::new();
        let mut busy: BTreeSet<String> = BTreeSet::new();
        let mut deadline: Option<Instant> = None;
        loop {
            let now = now();
            for row in self.store.ask(move |db| db.due(now)).await? {
                if busy.contains(&row.route) {
                    continue;
                }
                busy.insert(row.route.clone());
                let (store, ways, deliveries) = (self.store.clone(), self.ways.clone(), self.deliveries.clone());
                in_flight.spawn(async move {
                    let route = row.route.clone();
                    let pace = if route.starts_with("slack:") { SLACK_PACE } else { Duration::ZERO };
                    let outcome = deliver(&store, &ways, &deliveries, row).await;
                    // From the answer on: however long a request takes, Slack never sees two within the pace.
                    tokio::time::sleep(pace).await;
                    (route, outcome)
                });
            }
            if deadline.is_some() && in_flight.is_empty() {
                let left = self.store.ask(move |db| db.due(now)).await?;
                if left.is_empty() {
                    return Ok(());
                }
            }
            let next = self.store.ask(|db| db.next_due()).await?;
            let pause = next.map_or(Duration::from_secs(60), |at| Duration::from_millis(at.since(now).millis().max(20)));
            tokio::select! {
                Some(done) = in_flight.join_next(), if !in_flight.is_empty() => {
                    let (route, outcome) = done.map_err(|error| Fault::plain(format!("a delivery failed: {error}")))?;
                    busy.remove(&route);
                    outcome?;
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause), if in_flight.is_empty() || next.is_some() => {}
                _ = stop.changed(), if deadline.is_none() => deadline = Some(Instant::now() + grace),
                () = async { tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {
                    warn!("stopped before every notification was delivered; the rest follows after the next start");
                    return Ok(());
                }
            }
        }
    }
}

async fn deliver(store: &Store, ways: &Ways, deliveries: &Deliveries, row: Row) -> Result<(), Fault> {
    let seq = row.seq;
    store.ask(move |db| db.sending(seq)).await?;
    let posted = match row.route.split_once(':') {
        Some(("slack", channel)) => match &ways.slack {
            Some(slack) => {
                let fired = format!("{}-{}", row.notification.alert_id, Reason::Fired.name());
                let route = row.route.clone();
                let thread = if row.notification.reason == Reason::Fired { None } else { store.ask(move |db| db.receipt(&fired, &route)).await? };
                let message = compose(&row.notification, &ways.public_url, row.maybe_sent);
                let posted = slack.post(channel, &row.id, &message, thread.as_deref()).await;
                if ways.crash_after_post && matches!(posted, Posted::Sent(_)) {
                    warn!("crash test: aborting before the receipt is stored");
                    std::process::abort();
                }
                posted
            }
            None => Posted::Refused("no bot token is set".to_owned()),
        },
        Some(("nats", subject)) => match &ways.nats {
            Some(client) => publish(client, subject, &row).await,
            None => Posted::Refused("no connection to NATS".to_owned()),
        },
        Some(("terminal", channel)) => {
            if ways.terminal {
                show(&for_terminal(
                    &compose(&row.notification, &ways.public_url, row.maybe_sent),
                    channel,
                    std::io::IsTerminal::is_terminal(&std::io::stdout()),
                ));
            }
            Posted::Sent("shown".to_owned())
        }
        _ => Posted::Refused(format!("unknown route {}", row.route)),
    };
    settle(store, deliveries, row, posted).await
}

async fn publish(client: &async_nats::Client, subject: &str, row: &Row) -> Posted {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", row.id.as_str());
    let body = match serde_json::to_vec(&row.notification) {
        Ok(body) => body,
        Err(error) => return Posted::Refused(error.to_string()),
    };
    if let Err(error) = client.publish_with_headers(subject.to_owned(), headers, body.into()).await {
        return Posted::Again(error.to_string());
    }
    match client.flush().await {
        Ok(()) => Posted::Sent("published".to_owned()),
        Err(error) => Posted::Unknown(error.to_string()),
    }
}

async fn settle(store: &Store, deliveries: &Deliveries, row: Row, posted: Posted) -> Result<(), Fault> {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let (seq, now) = (row.seq, now());
    let again = |pause: Duration| now + Span::from_millis(pause.as_millis() as u64);
    let (next, maybe_sent, problem) = match posted {
        Posted::Sent(receipt) => {
            count(&deliveries.sent);
            deliveries.latency.note(Duration::from_millis(now.since(row.planned_at).millis()));
            if row.maybe_sent {
                count(&deliveries.possible_repeats);
            }
            info!(notification = %row.id, route = %row.route, rule = %row.notification.rule, reason = row.notification.reason.name(), "notified");
            return store.ask(move |db| db.sent(seq, &receipt)).await;
        }
        Posted::Refused(problem) => {
            count(&deliveries.failed);
            error!(notification = %row.id, route = %row.route, %problem, hint = hint(&problem), "a notification was refused and is given up");
            return store.ask(move |db| db.failed(seq, &problem)).await;
        }
        Posted::Later(pause) => {
            count(&deliveries.rate_limited);
            (again(pause), false, "rate limited".to_owned())
        }
        Posted::Again(problem) => (again(backoff(row.tries, seq)), false, problem),
        Posted::Unknown(problem) => (again(backoff(row.tries, seq)), true, problem),
    };
    if now.since(row.planned_at) > AGE_MAX {
        count(&deliveries.failed);
        error!(notification = %row.id, route = %row.route, %problem, "a notification could not be delivered for a day and is given up");
        return store.ask(move |db| db.failed(seq, &problem)).await;
    }
    count(&deliveries.retried);
    warn!(notification = %row.id, route = %row.route, %problem, tries = row.tries + 1, "a notification was not delivered yet");
    store.ask(move |db| db.again(seq, next, maybe_sent, &problem)).await
}

/// Doubling from a second, less up to a quarter.
fn backoff(tries: u32, seq: i64) -> Duration {
    let full = Duration::from_secs(1 << tries.min(6)).min(BACKOFF_MAX);
    let spread = model::plan::fingerprint(&[&seq.to_string(), &tries.to_string()]) % 256;
    full - full / 4 * spread as u32 / 256
}

#[expect(clippy::print_stdout, reason = "showing messages on the terminal is what this route is for")]
fn show(text: &str) {
    println!("{text}");
}

/// The clock of deliveries: wall-clock, because pauses and ages are about people and servers.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).ok().and_then(Timestamp::from_millis).unwrap_or_default()
}
