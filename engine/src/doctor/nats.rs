//! NATS: signed in, JetStream on, the stream there and large enough, we may read it and publish what we publish, and its clock is ours.
//!
//! Whether we may publish is asked of the server, which knows our permissions (`$SYS.REQ.USER.INFO`): a message to try it would reach whoever listens.

use super::store::{Known, rounded};
use super::{Finding, within};
use crate::config::{Config, Delivery, NatsConfig, overlap, render_duration};
use crate::error::Fault;
use crate::outbox::now;
use crate::source::core::LOSES;
use crate::source::nats::{self, covers, stamp};
use crate::start::load_rules;
use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use model::plan::Target;
use model::{Span, Timestamp, show};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What the server says to this is true at once or not at all.
const INFO_WITHIN: Duration = Duration::from_secs(2);
/// Calls ahead of the server's stamps by more than five seconds are pulled back, and pauses follow our own clock.
const CLOCK_MAX: Span = Span::from_secs(2);
/// A consumer whose removal does not get through is removed by the server after this.
const CONSUMER_FOR: Duration = Duration::from_secs(10);
const DEAD: &str = crate::deadletter::SUBJECT;
const MAY_ASK: &str = "allow us to publish on $JS.API.> and to subscribe on _INBOX.>";
const EXPIRE: &str = "links to older calls will say that the payload has expired";

pub(super) async fn look(config: &Config, known: &Known) -> Vec<Finding> {
    let client = match within(nats::connect(&config.nats)).await {
        Ok(client) => client,
        Err(fault) => return vec![Finding::fault("nats", &fault)],
    };
    let server = Server::ask(&client).await;
    let mut findings = vec![connected(&client, &config.nats, &server)];
    match config.nats.delivery {
        Delivery::JetStream => findings.extend(stream(&client, config, known).await),
        Delivery::Core => findings.push(Finding::ok("delivery", LOSES)),
    }
    findings.extend(permitted(config, &server));
    findings.push(clock(&server));
    findings
}

/// What the server says of itself and of us; nothing where it may not be asked.
#[derive(Default)]
struct Server {
    round_trip: Option<Duration>,
    /// Its clock less ours, in milliseconds, as far off as half a round trip.
    ahead_ms: Option<i64>,
    /// `None`: not told.
    permissions: Option<Permissions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Permissions {
    publish: Subjects,
    subscribe: Subjects,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subjects {
    /// Empty: all.
    allow: Vec<String>,
    deny: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    Part,
    Nothing,
}

impl Server {
    async fn ask(client: &Client) -> Self {
        let (began, sent) = (Instant::now(), now());
        let asked = tokio::time::timeout(INFO_WITHIN, client.request("$SYS.REQ.USER.INFO", bytes::Bytes::new())).await;
        let round_trip = began.elapsed();
        let said = asked.ok().and_then(Result::ok).and_then(|message| serde_json::from_slice::<Value>(&message.payload).ok());
        let Some(said) = said.filter(|said| said["data"].is_object()) else { return Self::default() };
        let halfway = sent.millis() + round_trip.as_millis() as i64 / 2;
        let server = said["server"]["time"].as_str().and_then(Timestamp::parse);
        let permissions = &said["data"]["permissions"];
        Self {
            round_trip: Some(round_trip),
            ahead_ms: server.map(|server| server.millis() - halfway),
            permissions: if permissions.is_null() { Some(Permissions::default()) } else { Permissions::deserialize(permissions).ok() },
        }
    }
}

impl Subjects {
    fn allow(&self, wanted: &str) -> Allowed {
        if self.deny.iter().any(|denied| covers(denied, wanted)) {
            return Allowed::Nothing;
        }
        let allowed = self.allow.is_empty() || self.allow.iter().any(|allowed| covers(allowed, wanted));
        match allowed {
            true if !self.deny.iter().any(|denied| overlap(denied, wanted)) => Allowed::All,
            false if !self.allow.iter().any(|allowed| overlap(allowed, wanted)) => Allowed::Nothing,
            _ => Allowed::Part,
        }
    }
}

fn connected(client: &Client, config: &NatsConfig, server: &Server) -> Finding {
    let info = client.server_info();
    let round_trip =
        server.round_trip.map_or_else(|| "round trip not told".to_owned(), |took| format!("round trip {:.1} ms", took.as_secs_f64() * 1e3));
    let seen = format!("signed in at {}, nats-server {}, {round_trip}", config.url, info.version);
    if info.lame_duck_mode {
        return Finding::warning(
            "nats",
            format!("{seen}; it is about to stop"),
            "is another server of the cluster up? the engine will connect to that",
        );
    }
    Finding::ok("nats", seen)
}

async fn stream(client: &Client, config: &Config, known: &Known) -> Vec<Finding> {
    let context = jetstream::new(client.clone());
    let account = within(async { context.query_account().await.map_err(|error| Fault::plain(error.to_string())) }).await;
    if let Err(fault) = account {
        let hint = "start nats-server with JetStream (-js), and allow us to publish on $JS.API.> and to subscribe on _INBOX.>";
        return vec![Finding::failed("jetstream", format!("does not answer: {}", fault.what()), hint)];
    }
    let name = &config.nats.stream;
    let opened = within(async { Ok(context.get_stream(name).await) }).await;
    let stream = match opened {
        Err(fault) => return vec![Finding::fault("stream", &fault)],
        Ok(Err(error)) if nats::is_absent(&error) => return absent(&context, config, known).await,
        Ok(Err(error)) => return vec![Finding::failed("stream", format!("cannot read stream {name}: {error}"), MAY_ASK)],
        Ok(Ok(stream)) => stream,
    };
    if let Err(fault) = nats::fits(&config.nats, &stream.cached_info().config) {
        return vec![Finding::fault("stream", &fault)];
    }
    let mut findings = vec![there(&stream, &config.nats, known)];
    findings.extend(limits(&stream, config));
    findings.push(within(async { Ok(read(&stream, &config.nats).await) }).await.unwrap_or_else(|fault| Finding::fault("reading", &fault)));
    findings
}

async fn absent(context: &jetstream::Context, config: &Config, known: &Known) -> Vec<Finding> {
    let (retention, config) = (config.store.retention, &config.nats);
    let name = &config.stream;
    if let Some((made, position)) = known.stream.as_ref().filter(|(_, position)| *position > 0) {
        return vec![Finding::fault("stream", &nats::lost(name, made, *position))];
    }
    for subject in &config.subjects {
        let taken = within(async { Ok(context.stream_by_subject(subject.clone()).await.ok()) }).await.ok().flatten();
        if let Some(other) = taken {
            let seen = format!("there is no stream {name}, and none can be made: stream {other} carries {subject}");
            return vec![Finding::failed("stream", seen, format!("read that one: --set nats.stream={other}"))];
        }
    }
    let (age, size) = (render_duration(config.max_age), config.max_bytes);
    let seen = format!("there is no stream {name} yet; the engine will make it on {}, for {age} and {size}", config.subjects.join(", "));
    let mut findings = vec![Finding::ok("stream", seen)];
    if config.max_age < retention {
        let kept = render_duration(retention);
        let seen = format!("it will keep logs for {age}, and store.retention is {kept}: {EXPIRE}");
        findings.push(Finding::warning("stream limits", seen, format!("--set nats.max_age={kept} before the first start, or lower store.retention")));
    }
    findings
}

fn there(stream: &stream::Stream, config: &NatsConfig, known: &Known) -> Finding {
    let info = stream.cached_info();
    let (name, carried, found) = (&config.stream, &info.config.subjects, nats::Identity::of(info));
    if let Some((made, position)) = known.stream.as_ref().filter(|(made, position)| !found.may_be(Some(made), *position)) {
        return Finding::fault("stream", &nats::another(name, &found, made, *position));
    }
    let calls = show::number(info.state.messages as f64);
    let last = if info.state.messages == 0 { "nothing published yet".to_owned() } else { format!("the last {}", stamp(info.state.last_timestamp)) };
    Finding::ok("stream", format!("{name}: carries {}; {calls} logs in {}, {last}", carried.join(", "), rounded(info.state.bytes)))
}

/// How long the stream keeps payloads, beside how long we keep what leads to them.
fn limits(stream: &stream::Stream, config: &Config) -> Vec<Finding> {
    let info = stream.cached_info();
    let (own, state, name) = (&info.config, &info.state, &config.nats.stream);
    let retention = config.store.retention;
    let mut findings = Vec::new();
    let mut warn = |seen: String, hint: String| findings.push(Finding::warning("stream limits", seen, hint));
    if !own.max_age.is_zero() && own.max_age < retention {
        let (age, kept) = (render_duration(own.max_age), render_duration(retention));
        warn(
            format!("it keeps logs for {age}, and store.retention is {kept}: {EXPIRE}"),
            format!("`nats stream edit {name} --max-age {kept}`, or lower store.retention"),
        );
    }
    let held = stamp(state.last_timestamp).since(stamp(state.first_timestamp));
    let short = Duration::from(held) < retention && (own.max_age.is_zero() || Duration::from(held) < own.max_age.mul_f64(0.9));
    let bytes = (own.max_bytes, state.bytes, rounded(own.max_bytes.unsigned_abs()), "--max-bytes");
    let messages = (own.max_messages, state.messages, format!("{} logs", show::number(own.max_messages as f64)), "--max-msgs");
    let bounds: Vec<_> = [bytes, messages].into_iter().filter(|(most, ..)| *most > 0).collect();
    for (_, _, most, option) in bounds.iter().filter(|(most, holds, ..)| short && holds.saturating_mul(10) >= most.unsigned_abs().saturating_mul(9)) {
        warn(
            format!("it is full at {most} with {} of logs, less than store.retention: {EXPIRE}", Span::from_millis(held.millis() / 60_000 * 60_000)),
            format!("`nats stream edit {name} {option} …` where the server's disk has room, or lower store.retention"),
        );
    }
    if own.discard == stream::DiscardPolicy::New && !bounds.is_empty() {
        warn("a full stream refuses new logs (discard is `new`)".to_owned(), format!("`nats stream edit {name} --discard old`"));
    }
    if findings.is_empty() {
        let age = if own.max_age.is_zero() { "without end".to_owned() } else { format!("for {}", render_duration(own.max_age)) };
        let bounds: Vec<_> = bounds.iter().map(|(_, _, most, _)| most.as_str()).collect();
        let size = if bounds.is_empty() { "of any size".to_owned() } else { format!("up to {}", bounds.join(" and ")) };
        findings.push(Finding::ok("stream limits", format!("it keeps logs {age}, {size}; store.retention is {}", render_duration(retention))));
    }
    findings
}

/// Makes a consumer, reads the last log with it, and removes it.
async fn read(stream: &stream::Stream, config: &NatsConfig) -> Finding {
    let wanted = pull::Config {
        deliver_policy: DeliverPolicy::Last,
        ack_policy: AckPolicy::None,
        inactive_threshold: CONSUMER_FOR,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let cannot =
        |what: &str, error: &dyn std::fmt::Display| Finding::failed("reading", format!("cannot {what} stream {}: {error}", config.stream), MAY_ASK);
    let consumer = match stream.create_consumer(wanted).await {
        Ok(consumer) => consumer,
        Err(error) => return cannot("make a consumer of", &error),
    };
    let empty = stream.cached_info().state.messages == 0;
    let came = match consumer.fetch().max_messages(1).messages().await {
        Ok(mut messages) => messages.next().await.map(|message| message.is_ok()),
        Err(error) => return cannot("read", &error),
    };
    let name = &consumer.cached_info().name;
    let removed = stream.delete_consumer(name).await.is_ok();
    let left = if removed { "" } else { "; the server removes it in 10 s, for we may not" };
    match came {
        Some(true) => Finding::ok("reading", format!("a consumer was made, read a log and was removed{left}")),
        None | Some(false) if empty => Finding::ok("reading", format!("a consumer was made and removed{left}; there is no log to read yet")),
        _ => Finding::warning("reading", format!("a consumer was made, and no log came{left}"), "does the stream hold logs? see `nats stream info`"),
    }
}

/// What the engine publishes, each subject with what goes there. Rules with mistakes are `check`'s to tell.
fn published(config: &Config) -> Vec<(String, String)> {
    let mut published = vec![("streamgauge.alerts.>", "alerts"), ("streamgauge.incidents.>", "incidents"), (DEAD, "dead letters")];
    if !config.judges.is_empty() {
        published.push(("streamgauge.verdicts.>", "verdicts"));
    }
    let rules = load_rules(config).map(|loaded| loaded.rules).unwrap_or_default();
    if !rules.datasets().is_empty() {
        published.push(("streamgauge.datasets.>", "calls that rules keep"));
    }
    let mut published: Vec<_> = published.into_iter().map(|(subject, what)| (subject.to_owned(), what.to_owned())).collect();
    for rule in rules.specs().into_iter().map(|spec| spec.rule) {
        for action in rule.actions {
            if let Target::Subject(subject) = action.target {
                published.push((subject, format!("the action `{}` of rule {}", action.label, rule.name)));
            }
        }
    }
    published
}

/// Whether we may publish and hear what we must.
fn permitted(config: &Config, server: &Server) -> Vec<Finding> {
    let mut wanted = published(config);
    let subjects: BTreeSet<_> = wanted.iter().map(|(subject, _)| subject.clone()).collect();
    let subjects = subjects.into_iter().collect::<Vec<_>>().join(", ");
    let Some(permissions) = &server.permissions else {
        let seen = format!("whether we may publish on {subjects} could not be told: the server does not say");
        let hint = "allow us to publish on $SYS.REQ.USER.INFO and to subscribe on _INBOX.>, or look for `Permissions Violation` in its log";
        return vec![Finding::warning("publishing", seen, hint)];
    };
    let mut heard = vec![("_INBOX.>", "answers")];
    match config.nats.delivery {
        Delivery::JetStream => wanted.push(("$JS.API.STREAM.CREATE.STREAMGAUGE_DEAD".to_owned(), "the stream of dead letters".to_owned())),
        Delivery::Core => heard.extend(config.nats.subjects.iter().map(|subject| (subject.as_str(), "logs"))),
    }
    let mut findings = Vec::new();
    for (subject, what) in &wanted {
        let hint = format!("allow us to publish on {subject}");
        match permissions.publish.allow(subject) {
            Allowed::All => {}
            Allowed::Part => findings.push(Finding::warning("publishing", format!("only a part of {subject} is allowed ({what})"), hint)),
            Allowed::Nothing => findings.push(Finding::failed("publishing", format!("{subject} is not allowed ({what})"), hint)),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("publishing", format!("allowed on {subjects}")));
    }
    for (subject, what) in heard {
        let hint = format!("allow us to subscribe on {subject}");
        match permissions.subscribe.allow(subject) {
            Allowed::All => {}
            Allowed::Part => findings.push(Finding::warning("subscribing", format!("only a part of {subject} is allowed ({what})"), hint)),
            Allowed::Nothing => findings.push(Finding::failed("subscribing", format!("{subject} is not allowed ({what})"), hint)),
        }
    }
    findings
}

fn clock(server: &Server) -> Finding {
    let Some(ahead) = server.ahead_ms else {
        let hint = "allow us to publish on $SYS.REQ.USER.INFO and to subscribe on _INBOX.>, or compare the machines' clocks";
        return Finding::warning("clock", "whether the server's clock is ours could not be told: the server does not say", hint);
    };
    let far = Span::from_millis(ahead.unsigned_abs());
    let seen = format!("the server's is {far} {} ours", if ahead >= 0 { "ahead of" } else { "behind" });
    if far > CLOCK_MAX {
        return Finding::warning("clock", seen, "synchronise both machines' clocks (NTP): calls ahead of the server's are pulled back");
    }
    Finding::ok("clock", seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_read_as_the_server_reads_them() {
        let of = |allow: &[&str], deny: &[&str]| {
            let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
            Subjects { allow: own(allow), deny: own(deny) }.allow("streamgauge.alerts.>")
        };
        assert_eq!(of(&[], &[]), Allowed::All);
        assert_eq!(of(&["streamgauge.>"], &["other"]), Allowed::All);
        assert_eq!(of(&["$JS.API.>"], &[]), Allowed::Nothing);
        assert_eq!(of(&["streamgauge.alerts.production.>"], &[]), Allowed::Part);
        assert_eq!(of(&[], &["streamgauge.alerts.test.*"]), Allowed::Part);
        assert_eq!(of(&["streamgauge.>"], &[">"]), Allowed::Nothing);
    }
}
