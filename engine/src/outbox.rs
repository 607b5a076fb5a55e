//! Delivery: rows leave the outbox each once, what is said of one incident in order, at a pace that the way out allows.
//!
//! A row goes planned → sending → sent, and is written before each step. What is found `sending` after a crash, or whose answer never came, is sent
//! again and marked as a possible repeat: never zero times, and more than once only where nobody can know. An incident has one message in a channel:
//! the first row posts it, later ones bring it up to date, which may be done twice without harm; what happened is said in its thread. Where Slack does
//! not change it any more, it is posted anew.

mod pace;

use crate::durations::Durations;
use crate::error::Fault;
use crate::fallback::{self, End, Fallback, RATE_LIMITED};
use crate::message::words::Words;
use crate::message::{self, incident_for_terminal};
use crate::posted::Posted;
use crate::slack::{Slack, blocks, hint, is_loud, is_posted_anew};
use crate::store::{Load, Post, Row, Store};
use crate::ways::{self, OtherWays, Publisher};
use machine::incident::{Occasion, Telling};
use model::{Span, Timestamp};
use pace::{Kind, Paces};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Between retries of what may pass: doubled each time from one second up to this, less a random part so that many engines do not retry as one.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Of a line whose message its channel did not take.
const NO_MESSAGE: &str = "its message is not there";
/// Deliveries under way on each way out: more than a workspace takes at once. As many ways as there are have their own, so that one on which nothing
/// answers holds up no other.
const IN_FLIGHT_MAX: usize = 8;

/// How deliveries ended, for `/metrics`.
#[derive(Debug, Default)]
pub struct Deliveries {
    pub sent: AtomicU64,
    pub retried: AtomicU64,
    pub rate_limited: AtomicU64,
    pub failed: AtomicU64,
    /// Given up on one way and sent on to another.
    pub rerouted: AtomicU64,
    /// Sent although it may have been sent before.
    pub possible_repeats: AtomicU64,
    /// From the decision to the receipt.
    pub latency: Durations,
}

/// The ways out.
#[derive(Debug)]
pub struct Ways {
    pub slack: Option<Slack>,
    pub nats: Option<Publisher>,
    /// The demo shows messages on the terminal.
    pub terminal: bool,
    pub public_url: String,
    /// Webhooks and Alertmanager.
    pub others: Arc<OtherWays>,
    /// Where a message goes whose channel does not take it, and how long each is tried.
    pub fallback: Fallback,
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

/// A delivery that is under way: its route and lane.
type Lane = (String, String);

impl Outbox {
    pub fn new(store: Store, ways: Ways, wake: Arc<Notify>, deliveries: Arc<Deliveries>) -> Self {
        Self { store, ways: Arc::new(ways), wake, deliveries }
    }

    /// Delivers until `stop` says so, and then what is due, for at most `grace`.
    pub async fn run(self, mut stop: watch::Receiver<bool>, grace: Duration) -> Result<(), Fault> {
        let mut in_flight: JoinSet<(Lane, Result<Option<Duration>, Fault>)> = JoinSet::new();
        let mut busy: BTreeSet<Lane> = BTreeSet::new();
        let mut paces = Paces::default();
        let mut deadline: Option<Instant> = None;
        loop {
            let now = now();
            // When a row that is due may go, as far as its way out is not ready for it yet.
            let mut ready: Option<Instant> = None;
            for row in self.store.ask(move |db| db.due(now)).await? {
                let lane = (row.route.clone(), row.load.lane().to_owned());
                let on_its_way = || busy.iter().filter(|(route, _)| way(route) == way(&row.route)).count();
                if busy.contains(&lane) || on_its_way() >= IN_FLIGHT_MAX {
                    continue;
                }
                if let Err(at) = paces.take(&row.route, kind(&row), Instant::now()) {
                    ready = Some(ready.map_or(at, |earlier| earlier.min(at)));
                    continue;
                }
                busy.insert(lane.clone());
                let (store, ways, deliveries) = (self.store.clone(), self.ways.clone(), self.deliveries.clone());
                in_flight.spawn(async move { (lane, deliver(&store, &ways, &deliveries, row).await) });
            }
            if deadline.is_some() && in_flight.is_empty() && ready.is_none() {
                let left = self.store.ask(move |db| db.due(now)).await?;
                if left.is_empty() {
                    return Ok(());
                }
            }
            let next = self.store.ask(move |db| db.next_due(now)).await?;
            let pause = next.map_or(Duration::from_secs(60), |at| Duration::from_millis(at.since(now).millis().max(20)));
            let until = (Instant::now() + pause).min(ready.unwrap_or(Instant::now() + pause));
            tokio::select! {
                Some(done) = in_flight.join_next(), if !in_flight.is_empty() => {
                    let (lane, outcome) = done.map_err(|error| Fault::plain(format!("a delivery failed: {error}")))?;
                    busy.remove(&lane);
                    if let Some(pause) = outcome? {
                        paces.hold(&lane.0, Instant::now() + pause);
                    }
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(until) => {}
                _ = stop.changed(), if deadline.is_none() => deadline = Some(Instant::now() + grace),
                () = async { tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {
                    warn!("stopped before every notification was delivered; the rest follows after the next start");
                    return Ok(());
                }
            }
        }
    }
}

/// What fails as a whole: Slack, NATS, each webhook and each Alertmanager.
fn way(route: &str) -> &str {
    match route.split_once(':') {
        Some((way @ ("slack" | "nats" | "terminal"), _)) => way,
        _ => route,
    }
}

fn kind(row: &Row) -> Kind {
    match (row.route.split_once(':').map(|(way, _)| way), &row.load) {
        (Some("slack"), Load::Message(_, Some(_))) => Kind::Update,
        (Some("slack"), _) => Kind::Post,
        _ => Kind::Free,
    }
}

/// How long the way out wants to be left alone, where it says so.
async fn deliver(store: &Store, ways: &Ways, deliveries: &Deliveries, row: Row) -> Result<Option<Duration>, Fault> {
    let seq = row.seq;
    store.ask(move |db| db.sending(seq)).await?;
    let posted = match (row.route.split_once(':'), &row.load) {
        (Some(("slack", channel)), Load::Message(telling, post)) => to_slack(store, ways, &row, channel, telling, post.as_ref()).await?,
        (Some(("slack", channel)), Load::Line(telling, post)) => line_to_slack(store, ways, &row, channel, telling, post.as_ref()).await?,
        (Some(("nats", subject)), load) => match &ways.nats {
            Some(publisher) => match body(load) {
                Ok(body) => publisher.publish(subject, &row.id, body).await,
                Err(error) => Posted::Refused(error.to_string()),
            },
            None => Posted::Refused("no connection to NATS".to_owned()),
        },
        (Some(("terminal", channel)), load) => {
            if ways.terminal {
                on_terminal(channel, load, &ways.public_url);
            }
            Posted::Sent("shown".to_owned())
        }
        (_, Load::Message(telling, _)) => match ways.others.post(&row.route, telling, row.maybe_sent).await {
            Some(posted) => posted,
            None => unknown(&row),
        },
        _ => unknown(&row),
    };
    settle(store, ways, deliveries, row, posted).await
}

/// Posts an incident's message, or brings it up to date; where that cannot be done any more, it is posted anew.
async fn to_slack(store: &Store, ways: &Ways, row: &Row, channel: &str, telling: &Telling, post: Option<&Post>) -> Result<Posted, Fault> {
    let Some(slack) = &ways.slack else { return Ok(Posted::Refused("no bot token is set".to_owned())) };
    let note = row.note.as_deref();
    if let Some(post) = post {
        let posted = put(slack, ways, telling, note, Place::At(post), post.maybe_repeated).await;
        match &posted {
            Posted::Refused(problem) if !row.follows && is_posted_anew(problem, &telling.occasion) => {
                info!(incident = %telling.incident.id, route = %row.route, %problem, "an incident's message cannot be changed any more and is posted anew");
            }
            _ => return Ok(posted),
        }
    } else if row.follows {
        return Ok(Posted::Refused(NO_MESSAGE.to_owned()));
    }
    post_anew(store, slack, ways, row, channel, (telling, note), post).await
}

/// Posts an incident's message, instead of one that is `lost` where there was one, and notes where it is. What `row` did before may have done it already.
async fn post_anew(
    store: &Store,
    slack: &Slack,
    ways: &Ways,
    row: &Row,
    channel: &str,
    (telling, note): (&Telling, Option<&str>),
    lost: Option<&Post>,
) -> Result<Posted, Fault> {
    let incident = telling.incident.id.clone();
    let mut there = None;
    if row.maybe_sent {
        match slack.look_back(channel, &incident, row.planned_at, lost).await {
            Ok(found) => there = found,
            // A message that may come twice is better than none.
            Err(Posted::Refused(problem)) => cannot_look(row, &problem),
            Err(posted) => return Ok(posted),
        }
    }
    let maybe_repeated = there.as_ref().map_or(row.maybe_sent, |post| post.maybe_repeated);
    let posted = put(slack, ways, telling, note, there.as_ref().map_or(Place::In(channel), Place::At), maybe_repeated).await;
    if let Posted::Sent(receipt) = &posted {
        let new = || receipt.split_once('/').map(|(channel, ts)| Post { channel: channel.to_owned(), ts: ts.to_owned(), maybe_repeated });
        if let Some(post) = there.or_else(new) {
            let route = row.route.clone();
            store.ask(move |db| db.posted(&incident, &route, &post)).await?;
        }
    }
    Ok(posted)
}

/// Where a message is to be.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Where it is.
    At(&'a Post),
    /// New in this channel.
    In(&'a str),
}

/// Makes a message say this.
async fn put(slack: &Slack, ways: &Ways, telling: &Telling, note: Option<&str>, place: Place<'_>, maybe_repeated: bool) -> Posted {
    let mut words = message::incident(&telling.incident, &ways.public_url, maybe_repeated);
    if let Some(note) = note {
        words.facts.insert(0, ("Told here".to_owned(), Words::default().text(note)));
    }
    let mut posted = Posted::Refused("invalid_blocks".to_owned());
    for chart in [blocks::Chart::Native, blocks::Chart::Sparkline] {
        let content = blocks::incident(&telling.id, &words, chart);
        posted = match place {
            Place::At(post) => slack.update(&post.channel, &post.ts, content).await,
            Place::In(channel) => slack.post(channel, content, None, false).await,
        };
        // A workspace that knows no charts refuses them.
        if !matches!(&posted, Posted::Refused(problem) if problem == "invalid_blocks") {
            break;
        }
    }
    if ways.crash_after_post && matches!(posted, Posted::Sent(_)) {
        warn!("crash test: aborting before the receipt is stored");
        std::process::abort();
    }
    posted
}

/// Says in its thread what happened. Where somebody deleted the message meanwhile, it is posted anew as it was, and the line below it.
async fn line_to_slack(store: &Store, ways: &Ways, row: &Row, channel: &str, telling: &Telling, post: Option<&Post>) -> Result<Posted, Fault> {
    let Some(slack) = &ways.slack else { return Ok(Posted::Refused("no bot token is set".to_owned())) };
    let Some(post) = post else { return Ok(Posted::Refused(NO_MESSAGE.to_owned())) };
    let posted = say(slack, row, telling, post).await;
    if !matches!(&posted, Posted::Refused(problem) if problem == "thread_not_found") {
        return Ok(posted);
    }
    let (incident, route) = (telling.incident.id.clone(), row.route.clone());
    let shown = store.ask(move |db| db.shown(&incident, &route)).await?;
    let (last, note) = shown.unwrap_or_else(|| (telling.clone(), row.note.clone()));
    let posted = post_anew(store, slack, ways, row, channel, (&last, note.as_deref()), Some(post)).await?;
    if !matches!(posted, Posted::Sent(_)) {
        return Ok(posted);
    }
    let (incident, route) = (telling.incident.id.clone(), row.route.clone());
    match store.ask(move |db| db.post(&incident, &route)).await? {
        Some(post) => Ok(say(slack, row, telling, &post).await),
        None => Ok(Posted::Refused(NO_MESSAGE.to_owned())),
    }
}

async fn say(slack: &Slack, row: &Row, telling: &Telling, post: &Post) -> Posted {
    if row.maybe_sent {
        match slack.look_back_thread(post, &row.id).await {
            Ok(true) => return Posted::Sent("found".to_owned()),
            Ok(false) => {}
            Err(Posted::Refused(problem)) => cannot_look(row, &problem),
            Err(posted) => return posted,
        }
    }
    slack.post(&post.channel, blocks::line(&row.id, telling, row.maybe_sent), Some(&post.ts), is_loud(&telling.occasion)).await
}

fn cannot_look(row: &Row, problem: &str) {
    warn!(notification = %row.id, route = %row.route, problem, "cannot look whether it was posted; it may come twice");
}

/// What is published of it.
fn body(load: &Load) -> serde_json::Result<Vec<u8>> {
    match load {
        Load::Alert(notification) => serde_json::to_vec(notification),
        Load::Message(telling, _) | Load::Line(telling, _) => serde_json::to_vec(telling),
    }
}

fn unknown(row: &Row) -> Posted {
    Posted::Refused(format!("unknown route {}", row.route))
}

/// A message when it is new and when it ends; in between what happened, as in its thread.
fn on_terminal(channel: &str, load: &Load, public_url: &str) {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stdout());
    match load {
        Load::Message(telling, _)
            if !telling.aloud && telling.occasion != Occasion::Updated || matches!(telling.occasion, Occasion::Resolved { .. }) =>
        {
            show(&incident_for_terminal(&message::incident(&telling.incident, public_url, false), channel, colours));
        }
        Load::Line(telling, _) if !matches!(telling.occasion, Occasion::Resolved { .. }) => show(&format!("    ↳ {}", message::line(telling))),
        _ => {}
    }
}

async fn settle(store: &Store, ways: &Ways, deliveries: &Deliveries, row: Row, posted: Posted) -> Result<Option<Duration>, Fault> {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let (seq, now) = (row.seq, now());
    let again = |pause: Duration| now + Span::from_millis(pause.as_millis() as u64);
    let mut hold = None;
    let (next, maybe_sent, problem) = match posted {
        Posted::Sent(receipt) => {
            count(&deliveries.sent);
            deliveries.latency.note(Duration::from_millis(now.since(row.planned_at).millis()));
            if row.maybe_sent {
                count(&deliveries.possible_repeats);
            }
            info!(notification = %row.id, route = %row.route, step = row.load.step().name(), "notified");
            store.ask(move |db| db.sent(seq, &receipt)).await?;
            return Ok(None);
        }
        Posted::Refused(problem) => {
            return give_up(store, ways, deliveries, row, problem, true).await.map(|()| None);
        }
        Posted::Later(pause) => {
            count(&deliveries.rate_limited);
            hold = Some(pause);
            (again(pause), false, RATE_LIMITED.to_owned())
        }
        Posted::Again(problem) => (again(backoff(row.tries, seq)), false, problem),
        Posted::Unknown(problem) => (again(backoff(row.tries, seq)), true, problem),
    };
    if ways.fallback.is_spent(&row.route, &problem, now.since(row.planned_at), now.since(row.decided_at())) {
        return give_up(store, ways, deliveries, row, problem, false).await.map(|()| None);
    }
    count(&deliveries.retried);
    warn!(notification = %row.id, route = %row.route, %problem, tries = row.tries + 1, "a notification was not delivered yet");
    store.ask(move |db| db.again(seq, next, maybe_sent, &problem)).await?;
    Ok(hold)
}

/// It will not be taken on this way; where there is another, it goes there.
async fn give_up(store: &Store, ways: &Ways, deliveries: &Deliveries, row: Row, problem: String, refused: bool) -> Result<(), Fault> {
    let seq = row.seq;
    let end = match problem.as_str() {
        NO_MESSAGE => End::Headless,
        problem if refused => End::Refused(problem),
        problem => End::GivenUp(problem),
    };
    let hint = if row.route.starts_with("slack:") { hint(&problem) } else { ways::hint(&problem) };
    // Whoever is told no more is not told elsewhere either.
    if let Some(route) = ways.fallback.next_route(&row.route, end).filter(|_| !row.follows) {
        let why = fallback::line(&row.route, end);
        deliveries.rerouted.fetch_add(1, Ordering::Relaxed);
        error!(notification = %row.id, route = %row.route, to = %route, %problem, hint, "a notification was refused and goes to the fallback channel");
        return store.ask(move |db| db.reroute(seq, &problem, &route, &why, now())).await;
    }
    deliveries.failed.fetch_add(1, Ordering::Relaxed);
    error!(notification = %row.id, route = %row.route, %problem, hint, "a notification was refused or is too old, and is given up");
    store.ask(move |db| db.failed(seq, &problem)).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_and_nats_are_one_way_each_and_every_webhook_is_its_own() {
        for (route, is) in [
            ("slack:#a", "slack"),
            ("slack:C1", "slack"),
            ("nats:streamgauge.alerts.a.b", "nats"),
            ("webhook:pager", "webhook:pager"),
            ("alertmanager:http://a:9093", "alertmanager:http://a:9093"),
        ] {
            assert_eq!(way(route), is);
        }
    }
}
