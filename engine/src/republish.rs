//! Calls of one environment, published again into another as if they happened now. The copies go through the stream like any other call; not to be
//! confused with `replay.rs`, which runs an engine over calls without any stream.
//!
//! The calls are read twice: first to know how many they are and when they happened, then to publish them, in the order they came. All times move by one
//! and the same span, so the target environment sees as many calls in a second of event time as the original did, however fast they are published.
//! Since the server's stamps are the real time, and what is ahead of them is pulled back, a copy's time is never ahead: published N times as fast, the
//! copies end at the moment at which publishing ends, and so begin before it. The engine asks for no more, for its clocks follow the calls' own time.
//!
//! Deliberately absent: verdicts and people's words, which belong to the original calls.

use crate::backtest::calls::Past;
use crate::config::Config;
use crate::error::Fault;
use crate::inspect::Inspector;
use crate::outbox::now;
use crate::prices::Prices;
use crate::source::{Envelope, nats};
use crate::start::{load_evaluators, load_rules, plan};
use async_nats::jetstream::{self, context::PublishAckFuture};
use index::{Query, Row};
use model::fold::event_time;
use model::nearest::nearest;
use model::plan::TICK;
use model::wire::retold::{Retelling, moved_by, retell};
use model::{Signal, Span, Timestamp};
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Publishes in flight before the oldest acknowledgement is awaited: a round trip for many.
const IN_FLIGHT_MAX: usize = 512;
/// Names of properties that are remembered, to say which one was perhaps meant: senders write some dozens.
const NAMES_MAX: usize = 10_000;
/// Published as fast as possible, times move by whole hours, so that two replays see the same minutes and hours.
const HOUR: Span = Span::from_secs(3600);

/// Which calls, and where to.
#[derive(Debug)]
pub struct Wanted {
    pub from: String,
    pub to: String,
    /// Of the server's stamps, both included.
    pub since: Timestamp,
    pub until: Timestamp,
    pub speed: Speed,
    /// As it was written.
    pub matching: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// At least 1.
    Times(f64),
    Max,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Republished {
    /// The name of this replay: what its ids begin with, and the property `replay.name` of its calls.
    pub name: String,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub published: u64,
    /// Of them, those that the server took for repeats; 0 unless something is wrong.
    pub duplicates: u64,
    /// Calls of the environment that the query does not match.
    pub unmatched: u64,
    /// Logs of the period that are no calls: nobody can say of which environment.
    pub malformed: u64,
    /// Calls that cannot be published again: of a format that cannot be changed, or too large with what is added.
    pub refused: u64,
    /// Event times of the originals.
    pub first: Timestamp,
    pub last: Timestamp,
    /// How far times have moved, in milliseconds; a whole number of ticks.
    pub moved_ms: i64,
    pub took_ms: u64,
}

/// Calls of the period that are wanted, as the first reading has found them.
#[derive(Debug, Default)]
struct Found {
    calls: u64,
    unmatched: u64,
    malformed: u64,
    times: Option<(Timestamp, Timestamp)>,
    names: BTreeSet<String>,
}

/// A replay that is ready to be published.
#[derive(Debug)]
pub struct Republishing {
    client: async_nats::Client,
    subject: String,
    past: Past,
    wanted: Wanted,
    choosing: Choosing,
    found: Found,
    unknown: Option<Fault>,
    first: Timestamp,
    last: Timestamp,
}

/// Which calls are wanted.
#[derive(Debug)]
struct Choosing {
    environment: String,
    /// What is asked, and what makes rows of calls as the engine's index has them.
    asked: Option<(Query, Inspector)>,
}

impl Choosing {
    fn new(config: &Config, wanted: &Wanted) -> Result<Self, Fault> {
        let environment = wanted.from.clone();
        let Some(text) = wanted.matching.as_deref() else { return Ok(Self { environment, asked: None }) };
        let query = Query::parse(text, now()).map_err(|error| {
            let at = format!("--match:{}: {}", error.at + 1, error.message);
            error.hint.map_or_else(|| Fault::plain(&at), |hint| Fault::new(&at, hint))
        })?;
        let mut judge = None;
        let _ = query.clone().with_verdicts(|evaluator, _| {
            judge.get_or_insert_with(|| evaluator.to_owned());
            Vec::new()
        });
        if let Some(judge) = judge {
            let hint = "name the calls by what they say themselves, such as stage:extraction or signal:invalid_json";
            return Err(Fault::new(format!("--match: what `{judge}` said is not in the stream"), hint));
        }
        let loaded = load_rules(config)?;
        if let Some((at, name)) = query.further_signals().find(|(_, name)| !loaded.rules.signals().contains(name)) {
            return Err(no_signal(at, name, &loaded));
        }
        let plan = plan(config, &loaded.rules)?;
        let inspector = Inspector::new(plan, loaded.rules, load_evaluators(config)?).priced_by(Prices::new(&config.prices));
        Ok(Self { environment, asked: Some((query, inspector)) })
    }

    /// A batch as rows, as far as a query asks for them; malformed logs have none.
    fn rows(&self, envelopes: &[Envelope]) -> Vec<Row> {
        self.asked.as_ref().map_or_else(Vec::new, |(_, inspector)| inspector.rows(envelopes))
    }

    /// Whether the call at `sequence` is one of those asked for; `rows` are its batch's.
    fn matches(&self, rows: &[Row], sequence: u64) -> bool {
        let Some((query, _)) = &self.asked else { return true };
        rows.binary_search_by_key(&sequence, |row| row.sequence).is_ok_and(|at| query.matches(&rows[at]))
    }
}

/// A query by a signal that nothing gives would match nothing, or with a `-` everything.
fn no_signal(at: usize, name: &str, loaded: &rules::Loaded) -> Fault {
    let what = format!("--match:{}: no rule of this configuration watches a signal `{name}`", at + 1);
    let known: Vec<&str> = Signal::ALL.iter().map(|signal| signal.name()).chain(loaded.rules.signals()).collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("name one of {}; or give the configuration whose rules have it, with --config", known.join(", ")),
    };
    let broken = loaded.problems.len();
    let left_out = if broken > 0 { "; rules with mistakes are left out: `streamgauge check` names them" } else { "" };
    Fault::new(what, format!("{hint}{left_out}"))
}

impl Republishing {
    /// Reads the period once.
    ///
    /// # Errors
    /// When there is no such call, the query cannot be read, or the stream cannot.
    pub async fn prepare(config: &Config, wanted: Wanted) -> Result<Self, Fault> {
        if wanted.from == wanted.to {
            return Err(Fault::new(
                format!("`{}` cannot be replayed into itself: its calls would be counted twice", wanted.from),
                "name another environment with --to; one that is new knows nothing yet",
            ));
        }
        if wanted.to.trim().is_empty() || wanted.to.len() > model::label::LABEL_MAX_BYTES {
            return Err(Fault::new("--to is no name of an environment", "a name of 1 to 200 bytes, such as test"));
        }
        let choosing = Choosing::new(config, &wanted)?;
        let mut past = Past::find(config, wanted.since, wanted.until).await?.past;
        let client = nats::connect(&config.nats).await?;
        let subject = config.nats.subjects[0].replace(['>', '*'], "replay");
        let mut found = Found::default();
        while let Some(envelopes) = past.next().await? {
            let rows = choosing.rows(&envelopes);
            envelopes.iter().for_each(|envelope| found.look(&choosing, &rows, envelope));
        }
        let unknown = choosing.asked.as_ref().and_then(|(query, _)| query.unknown_properties(&found.names).into_iter().next());
        let unknown = unknown.map(|unknown| {
            let what = format!("--match:{}: no call of {} has `{}`", unknown.at + 1, wanted.from, unknown.name);
            Fault::new(
                what,
                unknown.meant.map_or_else(|| "the keys are listed in engine/index/QUERY.md".to_owned(), |meant| format!("did you mean `{meant}`?")),
            )
        });
        let Some((first, last)) = found.times else {
            if let Some(unknown) = unknown {
                return Err(unknown);
            }
            let what = if found.unmatched > 0 {
                format!("none of the {} calls of {} from {} to {} matches", found.unmatched, wanted.from, wanted.since, wanted.until)
            } else {
                format!("{} has no call from {} to {}", wanted.from, wanted.since, wanted.until)
            };
            return Err(Fault::new(what, "ask for another --from, --since or --match; streamgauge status lists the environments"));
        };
        // What is published behind the end of the period is not read again.
        let past = Past::find(config, wanted.since, wanted.until).await?.past.up_to(&past);
        Ok(Self { client, subject, past, wanted, choosing, found, unknown, first, last })
    }

    /// Calls to publish.
    pub fn calls(&self) -> u64 {
        self.found.calls
    }

    /// A property that the query asks for and no call has: mostly a typing mistake, though some calls match.
    pub fn unknown(&self) -> Option<&Fault> {
        self.unknown.as_ref()
    }

    /// How long it takes at least.
    pub fn at_least(&self) -> Duration {
        self.wanted.speed.of(self.last.since(self.first))
    }

    /// Publishes; `progress` hears how many are under way.
    ///
    /// # Errors
    /// When the server does not take a call; says how many it has.
    pub async fn publish(mut self, mut progress: impl FnMut(u64)) -> Result<Republished, Fault> {
        let (start, began) = (now(), Instant::now());
        let moved_ms = shift(self.first, self.last, start, self.wanted.speed);
        let parts = [start.to_string(), std::process::id().to_string(), self.wanted.from.clone(), self.wanted.to.clone()];
        let name = format!("r{:08x}", model::plan::fingerprint(&parts.each_ref().map(String::as_str)) >> 32);
        let prefix = format!("{name}-");
        let context = jetstream::new(self.client.clone());
        let mut done = Republished {
            subject: self.subject.clone(),
            from: self.wanted.from.clone(),
            to: self.wanted.to.clone(),
            published: 0,
            duplicates: 0,
            unmatched: self.found.unmatched,
            malformed: self.found.malformed,
            refused: 0,
            first: self.first,
            last: self.last,
            moved_ms,
            took_ms: 0,
            name,
        };
        let mut in_flight: VecDeque<PublishAckFuture> = VecDeque::with_capacity(IN_FLIGHT_MAX);
        let mut clock = self.first;
        while let Some(envelopes) = self.past.next().await? {
            let rows = self.choosing.rows(&envelopes);
            for envelope in envelopes {
                let Ok(call) = model::parse(&envelope.payload) else { continue };
                if call.environment != self.wanted.from || !self.choosing.matches(&rows, envelope.sequence) {
                    continue;
                }
                // What was pulled back to the server's stamp stays where it counted.
                let time = event_time(&call, envelope.stamp);
                clock = clock.max(time);
                let due = began + self.wanted.speed.of(clock.since(self.first));
                if due > Instant::now() {
                    // Whoever waits for its time leaves nothing behind unacknowledged.
                    while !in_flight.is_empty() {
                        acknowledge(&mut in_flight, &mut done).await?;
                    }
                    tokio::time::sleep_until(due).await;
                }
                let properties = [
                    ("replay.id", call.id.to_string()),
                    ("replay.event_id", call.event_id.as_deref().unwrap_or_default().to_owned()),
                    ("replay.time", call.time.to_string()),
                    ("replay.sequence", envelope.sequence.to_string()),
                    ("replay.environment", self.wanted.from.clone()),
                    ("replay.name", done.name.clone()),
                ];
                let by_ms = moved_ms + moved_by(call.time, time);
                let retelling = Retelling { environment: &self.wanted.to, prefix: &prefix, by_ms, properties: &properties };
                let Some(payload) = retell(&envelope.payload, &retelling) else {
                    done.refused += 1;
                    continue;
                };
                // By sequence: two calls of one id are two, and so are two replays of one call.
                let mut headers = async_nats::HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("{prefix}{}", envelope.sequence).as_str());
                match context.publish_with_headers(self.subject.clone(), headers, payload.into()).await {
                    Ok(ack) => in_flight.push_back(ack),
                    Err(error) if error.kind() == jetstream::context::PublishErrorKind::MaxPayloadExceeded => done.refused += 1,
                    Err(error) => return Err(not_taken(&error, &done)),
                }
                progress(done.published + in_flight.len() as u64);
                if in_flight.len() == IN_FLIGHT_MAX {
                    acknowledge(&mut in_flight, &mut done).await?;
                }
            }
        }
        while !in_flight.is_empty() {
            acknowledge(&mut in_flight, &mut done).await?;
        }
        done.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(done)
    }
}

impl Found {
    fn look(&mut self, choosing: &Choosing, rows: &[Row], envelope: &Envelope) {
        let Ok(call) = model::parse(&envelope.payload) else {
            self.malformed += 1;
            return;
        };
        if call.environment != choosing.environment {
            return;
        }
        let time = event_time(&call, envelope.stamp);
        if let Ok(at) = rows.binary_search_by_key(&envelope.sequence, |row| row.sequence) {
            for (name, _) in rows[at].properties() {
                if self.names.len() < NAMES_MAX && !self.names.contains(name) {
                    self.names.insert(name.to_owned());
                }
            }
        }
        if !choosing.matches(rows, envelope.sequence) {
            self.unmatched += 1;
            return;
        }
        self.calls += 1;
        self.times = Some(self.times.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
    }
}

impl Speed {
    /// How long so much event time takes to publish.
    fn of(self, span: Span) -> Duration {
        match self {
            Self::Times(speed) => Duration::from(span).div_f64(speed),
            Self::Max => Duration::ZERO,
        }
    }
}

/// How far times move for calls from `first` to `last` that are published from `start` on: so that the last is not ahead of the moment at which it is
/// published, by a whole number of ticks, and of hours where all is published at once.
fn shift(first: Timestamp, last: Timestamp, start: Timestamp, speed: Speed) -> i64 {
    let ends = start + Span::from_millis(u64::try_from(speed.of(last.since(first)).as_millis()).unwrap_or(0));
    let unit = if speed == Speed::Max { HOUR } else { TICK };
    let unit = i64::try_from(unit.millis()).unwrap_or(i64::MAX);
    moved_by(last, ends).div_euclid(unit) * unit
}

async fn acknowledge(in_flight: &mut VecDeque<PublishAckFuture>, done: &mut Republished) -> Result<(), Fault> {
    let Some(ack) = in_flight.pop_front() else { return Ok(()) };
    let ack = ack.await.map_err(|error| not_taken(&error, done))?;
    done.published += 1;
    done.duplicates += u64::from(ack.duplicate);
    Ok(())
}

fn not_taken(error: &dyn std::fmt::Display, done: &Republished) -> Fault {
    Fault::new(
        format!("the server did not take a call: {error}; {} are published into {} as {}", done.published, done.to, done.name),
        "replay into another environment: a second replay adds to what is there",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_copy_is_ahead_of_the_moment_it_is_published_and_each_moves_by_whole_ticks() {
        let at = |seconds: u64| Timestamp::EPOCH + Span::from_secs(seconds);
        let (first, last) = (at(1_000_003), at(1_003_603));
        for (start, speed, moved_s) in [
            // An hour of calls at their own speed begins now, or some seconds before.
            (at(2_000_000), Speed::Times(1.0), 999_990),
            // Ten times as fast it takes six minutes, and ends then.
            (at(2_000_000), Speed::Times(10.0), 996_750),
            (at(2_000_000), Speed::Max, 996_300 / 3600 * 3600),
            // The last call was pulled back to five seconds after its stamp, and it was just now.
            (at(1_003_600), Speed::Max, -3600),
        ] {
            let moved = shift(first, last, start, speed);
            assert_eq!(moved, moved_s * 1000, "{speed:?}");
            assert!(moved % 10_000 == 0);
            for call in [first, last] {
                let published = start + Span::from_millis(speed.of(call.since(first)).as_millis() as u64);
                assert!(call.millis() + moved <= published.millis(), "{speed:?}");
            }
        }
    }
}
