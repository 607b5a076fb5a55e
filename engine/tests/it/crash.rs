//! What a crash may cost: time, and at most a marked repeat of what was on its way to Slack. Never a call, never an alert.

use crate::counts::assert_counts;
use crate::engine::{Engine, Setup, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use crate::slack::{Message, Slack};
use async_nats::jetstream;
use fixtures::{Effect, Generated, Incident, Scope, Tally, Traffic};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(90);
const MINUTE_MS: i64 = 60_000;

/// Logs of two environments with three incidents, which alerts outlive by less than the stream does.
fn traffic(logs: u64) -> impl Iterator<Item = Generated> {
    let logs_per_second = logs as f64 / 1800.0;
    let start_ms = Traffic::default().start_ms;
    let incident = |from: i64, to: i64, scope: Scope, effect: Effect| Incident {
        from_ms: start_ms + from * MINUTE_MS,
        to_ms: start_ms + to * MINUTE_MS,
        scope,
        effect,
    };
    let provider = |name: &str| Scope { provider: Some(name.into()), ..Scope::default() };
    let of = |environment: &str, seed: u64, share: f64| Traffic {
        seed,
        environment: environment.into(),
        calls_per_second: logs_per_second * share,
        incidents: vec![
            incident(4, 8, provider("anthropic"), Effect::Fallback(0.5)),
            incident(11, 15, Scope::default(), Effect::InvalidJson(0.3)),
            incident(18, 24, provider("google"), Effect::Error(0.4)),
        ],
        padding: Some(600),
        variants: 3,
        late: 0.02,
        late_by_ms: 8000,
        ..Traffic::default()
    };
    let (mut production, mut staging) = (of("production", 1, 0.7).calls().peekable(), of("staging", 2, 0.3).calls().peekable());
    let merged = std::iter::from_fn(move || {
        let time = |next: Option<&Generated>| next.map_or(i64::MAX, |generated| generated.time_ms);
        if time(production.peek()) <= time(staging.peek()) { production.next() } else { staging.next() }
    });
    merged.take(logs as usize)
}

/// One rule of each kind: a range by stage, a range by provider, a `check` of its own, and a signal of its own that never fires.
fn with_rules(setup: Setup) -> Setup {
    let fallbacks =
        r##"rule(#{ name: "fallbacks", watch: rate("fallback", "2m").expect(0.0, 0.08).at_least(50), group_by: ["stage"], channel: "#stages" });"##;
    let answers = r##"rule(#{ name: "answers", watch: rate("invalid_json", "1m").expect(0.0, 0.1).at_least(50), group_by: ["provider"], hold: "20s", channel: "#answers" });"##;
    let failures = r##"rule(#{ name: "failures", severity: "critical", watch: #{ errors: rate("error", "1m"), slow: quantile("latency_ms", 0.95, "2m") },
            group_by: ["stage", "provider"], channel: "#providers" });
        fn check(w) { if w.errors.low > 0.2 { fire(`${percent(w.errors.value)} fail, p95 ${ms(w.slow.value)}`) } }"##;
    let wordy = r##"rule(#{ name: "wordy", watch: rate("wordy", "5m").expect(0.0, 0.9), applies: #{ stage: "synthesis" } });
        fn signals(log) { #{ wordy: log.usage.output_tokens > 2000 } }"##;
    let setup = setup.set("rules.library", "[]").rule("fallbacks.rhai", fallbacks).rule("answers.rhai", answers);
    setup.rule("failures.rhai", failures).rule("wordy.rhai", wordy)
}

/// What a dead engine left in its store.
struct Left {
    /// Of the last snapshot, 0 without one.
    committed: u64,
    /// Ids of the alerts' notifications, in the order they were planned.
    alerts: Vec<String>,
    /// What is planned of incidents for Slack, in order: id, route, lane, step, state.
    said: Vec<[String; 5]>,
    /// Where each incident's message is, by incident and route.
    posts: BTreeSet<(String, String)>,
}

impl Left {
    /// What was on its way to Slack, by what nobody knows of it: the first message of an incident in a channel, or a line.
    fn on_their_way(&self) -> BTreeSet<String> {
        let sending = self.said.iter().filter(|[_, _, _, _, state]| state == "sending");
        let unknown = sending.filter_map(|[id, route, lane, step, _]| match step.as_str() {
            "line" => Some(id.clone()),
            _ if !self.posts.contains(&(lane.clone(), route.clone())) => Some(format!("{lane} {route}")),
            _ => None,
        });
        unknown.collect()
    }
}

fn left(store: &Path) -> Left {
    let connection = Connection::open_with_flags(store.join("streamgauge.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the store opens");
    let committed = connection.query_row("SELECT COALESCE(MAX(position), 0) FROM snapshot", [], |row| row.get(0)).expect("a position");
    let mut statement = connection.prepare("SELECT id, route, lane, step, state FROM outbox ORDER BY seq").expect("an outbox");
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])).expect("its rows");
    let rows: Vec<[String; 5]> = rows.collect::<Result<_, _>>().expect("readable rows");
    let mut statement = connection.prepare("SELECT incident, route FROM posts").expect("posts");
    let posts = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("its rows").collect::<Result<_, _>>().expect("readable rows");
    let alerts = rows.iter().filter(|[_, route, ..]| route == "incidents").map(|[id, ..]| id.clone()).collect();
    Left { committed, alerts, said: rows.into_iter().filter(|[_, route, ..]| route.starts_with("slack:")).collect(), posts }
}

async fn read_all(engine: &Engine, logs: u64) -> Value {
    engine.until("every log", PATIENCE, |status| status["received"].as_u64() >= Some(logs) && status["lag"] == 0).await
}

/// Publishes `logs` generated logs; returns what must be counted.
async fn publish(publishing: &mut Publishing, logs: impl Iterator<Item = Generated>) -> Tally {
    let mut tally = Tally::default();
    for generated in logs {
        tally.add(&generated.truth);
        publishing.send(generated.json).await;
    }
    publishing.flush().await;
    tally
}

/// Publishes at an even pace, so that the engine is in the stream's middle whenever it is killed; `published` says how far it is.
async fn publish_evenly(mut publishing: Publishing, logs: u64, per_second: u64, published: Arc<AtomicU64>) -> Tally {
    let (mut tally, began) = (Tally::default(), Instant::now());
    for (number, generated) in traffic(logs).enumerate() {
        tally.add(&generated.truth);
        publishing.send(generated.json).await;
        if number.is_multiple_of(1000) {
            published.store(number as u64, Ordering::Relaxed);
            let due = Duration::from_secs_f64(number as f64 / per_second as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
    publishing.flush().await;
    published.store(logs, Ordering::Relaxed);
    tally
}

/// `STREAMGAUGE_TEST_SEED`, else one of the moment.
fn seed() -> u64 {
    let given = std::env::var("STREAMGAUGE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("seed {seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_kills_and_two_crashes_in_a_million_logs_change_no_count_and_no_alert() {
    const LOGS: u64 = 1_000_000;
    const PER_SECOND: u64 = 32_000;
    const DEATHS: u64 = 7;
    let mut rng = fastrand::Rng::with_seed(seed());
    let nats = Nats::start().await;
    let slack = Slack::start(&["#stages", "#answers", "#providers"]).await;
    // So that some kill meets a post on its way.
    slack.latency(Duration::from_millis(200));
    let mut setup = with_rules(Setup::new(&nats)).slack(&slack.url);
    let published = Arc::new(AtomicU64::new(0));
    let publishing = tokio::spawn(publish_evenly(Publishing::new(&nats).await, LOGS, PER_SECOND, published.clone()));

    let mut on_their_way: BTreeMap<String, u64> = BTreeMap::new();
    let mut committed_before = 0;
    for death in 0..DEATHS {
        let planted = match death {
            2 => Some("--crash=after-post"),
            5 => Some("--crash=before-snapshot"),
            _ => None,
        };
        setup = setup.without_args();
        match planted {
            Some(crash) => {
                setup = setup.arg(crash);
                let status = setup.start().await.ended().await;
                assert_eq!(status.signal(), Some(6), "the engine aborts at its planted point: {status}\n{}", setup.log());
            }
            None => {
                // One death in each part of the stream but the very first and last.
                let part = LOGS * 9 / 10 / DEATHS;
                let moment = LOGS / 20 + death * part + rng.u64(..part);
                let engine = setup.start().await;
                let far_enough = |status: &Value| status["position"].as_u64() >= Some(moment) && status["committed"].as_u64() > Some(0);
                let status = engine.until("the moment of the kill", PATIENCE, far_enough).await;
                engine.kill().await;
                assert!(status["position"].as_u64() < Some(LOGS), "killed in the middle of the stream: {status}");
            }
        }
        let left = left(&setup.store);
        let at = published.load(Ordering::Relaxed);
        eprintln!(
            "death {death} ({}): committed {} of {at} published, on their way {:?}",
            planted.unwrap_or("killed"),
            left.committed,
            left.on_their_way()
        );
        assert!(0 < left.committed && left.committed < LOGS, "died in the middle of the stream, not at {}", left.committed);
        assert!(left.committed >= committed_before, "the committed position went back to {}", left.committed);
        committed_before = left.committed;
        left.on_their_way().into_iter().for_each(|id| *on_their_way.entry(id).or_default() += 1);
    }

    setup = setup.without_args();
    let engine = setup.start().await;
    let tally = publishing.await.expect("everything is published");
    read_all(&engine, LOGS).await;
    let status = engine.until("every delivery", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    for (counter, expected) in [("received", LOGS), ("counted", LOGS), ("in_window", LOGS), ("missed", 0), ("late", 0), ("overflowed", 0)] {
        assert_eq!(status[counter], expected, "{counter} in {status:#}");
    }
    assert_eq!((&status["balances"], &status["outbox"]["failed"]), (&Value::Bool(true), &Value::from(0)));
    assert_counts(&engine, &tally).await;
    assert!(engine.terminate().await.success());

    let ended = left(&setup.store);
    let reference = with_rules(Setup::new(&nats));
    let undisturbed = reference.start().await;
    read_all(&undisturbed, LOGS).await;
    assert!(undisturbed.terminate().await.success());
    let alerts = |left: &Left| left.alerts.iter().cloned().collect::<BTreeSet<_>>();
    let expected = alerts(&left(&reference.store));
    assert!(expected.len() >= 20, "the incidents make alerts: {expected:?}");
    assert_eq!(alerts(&ended), expected, "the same alerts as without a crash");
    assert_delivered(&slack.messages(), &ended, &on_their_way);
}

/// Each incident has one message in each of its channels, which says what was planned last, and each line is in its thread once; more often only where
/// it was on its way when the engine died, and then marked.
fn assert_delivered(messages: &[Message], ended: &Left, on_their_way: &BTreeMap<String, u64>) {
    let mut copies: BTreeMap<String, u64> = BTreeMap::new();
    for message in messages {
        let head = message.thread_ts.is_none();
        let name = if head { format!("{} slack:{}", message.incident, message.channel) } else { message.id.clone() };
        // A line is one in each channel.
        let copy = copies.entry(format!("{name} {}", message.channel)).or_default();
        assert!(*copy == 0 || message.possible_repeat, "copy {copy} of {name} is not marked");
        assert!(!message.possible_repeat || on_their_way.contains_key(&name), "{name} is marked and was not on its way");
        *copy += 1;
        let most = 1 + on_their_way.get(&name).copied().unwrap_or(0);
        assert!(*copy <= most, "{name} came {copy} times, at most {most} are explained");
        if !head {
            let parent = messages.iter().find(|parent| Some(&parent.ts) == message.thread_ts.as_ref()).expect("a line is in a thread");
            assert_eq!((&parent.incident, &parent.channel), (&message.incident, &message.channel));
        }
    }
    let mut last: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for [id, route, lane, step, state] in &ended.said {
        assert_eq!(state, "sent", "{id} to {route}");
        match step.as_str() {
            "line" => assert!(messages.iter().any(|message| message.id == *id), "the line {id} arrived"),
            _ => drop(last.insert((lane, route), id)),
        }
    }
    for ((incident, route), id) in &last {
        let heads =
            || messages.iter().filter(|message| message.thread_ts.is_none() && message.incident == *incident && route.ends_with(&message.channel));
        assert!(
            heads().any(|message| message.id == *id),
            "{incident} in {route} says {id}: {:?}",
            heads().map(|message| &message.id).collect::<Vec<_>>()
        );
    }
    assert!(last.len() >= 4, "the alerts make incidents: {last:?}");
    eprintln!("{} incidents by channel in {} messages", last.len(), messages.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_saves_what_was_read_and_a_restart_reads_none_of_it_again() {
    const LOGS: u64 = 200_000;
    let nats = Nats::start().await;
    let setup = with_rules(Setup::new(&nats));
    let published = Arc::new(AtomicU64::new(0));
    let publishing = tokio::spawn(publish_evenly(Publishing::new(&nats).await, LOGS, 40_000, published));
    let engine = setup.start().await;
    engine.until("some logs", PATIENCE, |status| status["received"].as_u64() > Some(LOGS / 4)).await;
    let last = engine.status().await["position"].as_u64().expect("a position");
    assert!(engine.terminate().await.success(), "{}", setup.log());
    let committed = left(&setup.store).committed;
    assert!(last <= committed && committed < LOGS, "stopped in the middle: read to {last} at least, saved {committed}");
    assert!(setup.log().contains(&format!("position={committed}")), "the log says what is saved:\n{}", setup.log());

    let tally = publishing.await.expect("everything is published");
    let engine = setup.start().await;
    read_all(&engine, LOGS).await;
    assert!(engine.terminate().await.success());
    let engine = setup.start().await;
    let status = engine.status().await;
    for counter in ["received", "counted", "position", "committed"] {
        assert_eq!(status[counter], LOGS, "{counter} right after a restart at the end of the stream");
    }
    assert_eq!(status["balances"], true);
    assert_counts(&engine, &tally).await;
}

async fn remake(nats: &Nats, logs: impl Iterator<Item = Generated>) {
    jetstream::new(nats.client().await).delete_stream("LLM_CALLS").await.expect("the stream is deleted");
    publish(&mut Publishing::new(nats).await, logs).await;
}

#[tokio::test]
async fn another_stream_under_the_same_name_is_refused_until_it_is_accepted() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    publish(&mut Publishing::new(&nats).await, traffic(1000)).await;
    let engine = setup.start().await;
    read_all(&engine, 1000).await;
    assert!(engine.terminate().await.success());

    // Longer than the old one, so that the position alone would not give it away.
    remake(&nats, traffic(2500)).await;
    let status = setup.spawn().ended().await;
    assert_eq!(status.code(), Some(2));
    let log = setup.log();
    assert!(log.contains("stream LLM_CALLS is not the one this store has read"), "{log}");
    assert!(log.contains("hint: start with --accept-new-stream"), "{log}");

    let setup = setup.arg("--accept-new-stream");
    let engine = setup.start().await;
    read_all(&engine, 3500).await;
    engine.kill().await;
    let setup = setup.without_args();
    let status = read_all(&setup.start().await, 3500).await;
    assert_eq!((&status["received"], &status["missed"], &status["position"]), (&3500.into(), &0.into(), &2500.into()));
}

/// An empty one in its place would have to be removed before a backup of it can be restored.
#[tokio::test]
async fn a_stream_that_is_lost_is_not_made_again_until_that_is_accepted() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    publish(&mut Publishing::new(&nats).await, traffic(1000)).await;
    let engine = setup.start().await;
    read_all(&engine, 1000).await;
    assert!(engine.terminate().await.success());

    let context = jetstream::new(nats.client().await);
    context.delete_stream("LLM_CALLS").await.expect("the stream is deleted");
    assert_eq!(setup.spawn().ended().await.code(), Some(2));
    assert!(setup.log().contains("there is no stream LLM_CALLS; this store has read one made "), "{}", setup.log());
    assert!(setup.log().contains("hint: restore it; or start with --accept-new-stream"), "{}", setup.log());
    assert!(context.get_stream("LLM_CALLS").await.is_err(), "starting made one");
    let said = setup.run(&["doctor"]).await;
    assert!(String::from_utf8_lossy(&said.stdout).contains("there is no stream LLM_CALLS; this store has read one made "), "doctor says the same");

    let setup = setup.arg("--accept-new-stream");
    let engine = setup.start().await;
    publish(&mut Publishing::new(&nats).await, traffic(500)).await;
    let status = read_all(&engine, 1500).await;
    assert_eq!((&status["missed"], &status["position"]), (&0.into(), &500.into()));
}

#[tokio::test]
async fn after_a_start_on_a_wrong_stream_that_is_empty_the_right_one_is_read() {
    let (wrong, right) = (Nats::start().await, Nats::start().await);
    let setup = Setup::new(&wrong);
    assert!(setup.start().await.terminate().await.success());
    publish(&mut Publishing::new(&right).await, traffic(500)).await;
    let setup = setup.set("nats.url", &right.url);
    let said = String::from_utf8_lossy(&setup.run(&["doctor"]).await.stdout).into_owned();
    assert!(said.contains("LLM_CALLS: carries llm.calls.>; 500 logs"), "{said}");
    let status = read_all(&setup.start().await, 500).await;
    assert_eq!((&status["received"], &status["missed"], &status["position"]), (&500.into(), &0.into(), &500.into()));
}

#[tokio::test]
async fn a_stream_made_again_while_the_engine_runs_ends_it_before_anything_is_skipped() {
    for restarted in [false, true] {
        let nats = Nats::start().await;
        let setup = Setup::new(&nats);
        publish(&mut Publishing::new(&nats).await, traffic(1000)).await;
        let mut engine = setup.start().await;
        read_all(&engine, 1000).await;
        if restarted {
            // It has received nothing since, so the client would start the other stream from its own beginning.
            assert!(engine.terminate().await.success());
            engine = setup.start().await;
        }
        remake(&nats, traffic(if restarted { 900 } else { 2500 })).await;
        assert_eq!(engine.ended().await.code(), Some(2), "{}", setup.log());
        assert!(setup.log().contains("stream LLM_CALLS is not the one this store has read"), "{}", setup.log());
        assert_eq!(left(&setup.store).committed, 1000);
    }
}

#[tokio::test]
async fn a_kill_right_after_accepting_another_stream_skips_nothing_of_it() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    publish(&mut Publishing::new(&nats).await, traffic(1000)).await;
    let engine = setup.start().await;
    read_all(&engine, 1000).await;
    assert!(engine.terminate().await.success());
    remake(&nats, traffic(2500)).await;
    let setup = setup.arg("--accept-new-stream");
    setup.start().await.kill().await;
    let setup = setup.without_args();
    let status = read_all(&setup.start().await, 3500).await;
    assert_eq!((&status["received"], &status["missed"]), (&3500.into(), &0.into()), "{status:#}");
}

#[tokio::test]
async fn a_purge_past_our_position_is_counted_as_missed() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let mut publishing = Publishing::new(&nats).await;
    let mut logs = traffic(2000);
    publish(&mut publishing, logs.by_ref().take(1000)).await;
    let engine = setup.start().await;
    read_all(&engine, 1000).await;
    assert!(engine.terminate().await.success());
    publish(&mut publishing, logs.by_ref().take(500)).await;
    let stream = jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream");
    stream.purge().sequence(1201).await.expect("the stream is purged");
    let engine = setup.start().await;
    let status = read_all(&engine, 1300).await;
    assert_eq!((&status["received"], &status["missed"], &status["position"]), (&1300.into(), &200.into(), &1500.into()), "{status:#}");
    // And while it runs.
    publish(&mut publishing, logs.by_ref()).await;
    let status = read_all(&engine, 1800).await;
    assert_eq!((&status["received"], &status["missed"], &status["balances"]), (&1800.into(), &200.into(), &true.into()), "{status:#}");
}

/// What a stream lost before anyone looked is nobody's loss, whenever the first start dies.
#[tokio::test]
async fn a_first_start_on_an_old_stream_misses_nothing_even_when_it_is_killed() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    publish(&mut Publishing::new(&nats).await, traffic(1000)).await;
    let stream = jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream");
    stream.purge().sequence(401).await.expect("the stream is purged");
    setup.start().await.kill().await;
    let status = read_all(&setup.start().await, 600).await;
    assert_eq!((&status["received"], &status["missed"]), (&600.into(), &0.into()), "{status:#}");
}

fn in_store(store: &Path, sql: &str) -> u64 {
    let connection = Connection::open(store.join("streamgauge.db")).expect("the store opens");
    connection.busy_timeout(Duration::from_secs(5)).expect("a timeout is set");
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// A snapshot on the way back to where time was journaled must not drop what it has not reached: the next crash would need it.
#[tokio::test]
async fn journaled_time_that_is_not_reached_again_outlives_a_snapshot() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let (mut publishing, mut logs) = (Publishing::new(&nats).await, traffic(2500));
    publish(&mut publishing, logs.by_ref().take(1000)).await;
    let engine = setup.start().await;
    read_all(&engine, 1000).await;
    assert!(engine.terminate().await.success());
    // As if the clock had moved behind log 2000, and the engine had died before a snapshot.
    in_store(&setup.store, "INSERT INTO journal (position, now) VALUES (2000, 0) RETURNING id");
    let waiting = || in_store(&setup.store, "SELECT COUNT(*) FROM journal WHERE position = 2000");
    let engine = setup.start().await;
    publish(&mut publishing, logs.by_ref().take(500)).await;
    engine.until("a snapshot", PATIENCE, |status| status["committed"] == 1500).await;
    engine.kill().await;
    assert_eq!(waiting(), 1);
    let engine = setup.start().await;
    publish(&mut publishing, logs).await;
    engine.until("a snapshot behind it", PATIENCE, |status| status["committed"] == 2500).await;
    engine.kill().await;
    assert_eq!(waiting(), 0);
}

/// Old slices are rolled up, but not those from which a restart puts a window together.
#[tokio::test]
async fn a_window_of_hours_survives_a_restart() {
    let nats = Nats::start().await;
    let rule = r#"rule(#{ name: "hours", watch: rate("error", "5h").expect(0.0, 0.1) });"#;
    let setup = Setup::new(&nats).rule("hours.rhai", rule);
    // Every second call fails; few enough calls that one pass could roll up too much.
    const AN_HOUR: u64 = 120;
    let mut calls = (0..).map(|number: i64| {
        let time = Traffic::default().start_ms + number * 30_000;
        serde_json::json!({ "id": number.to_string(), "time": time, "model": "m", "status_code": if number % 2 == 0 { 500 } else { 200 } })
            .to_string()
    });
    let mut publishing = Publishing::new(&nats).await;
    for call in calls.by_ref().take(9 * AN_HOUR as usize) {
        publishing.send(call).await;
    }
    publishing.flush().await;
    let engine = setup.start().await;
    read_all(&engine, 9 * AN_HOUR).await;
    let minutes = async || in_store(&setup.store, "SELECT COUNT(*) FROM slices WHERE width = 60000");
    until("slices to be rolled up", PATIENCE, minutes, |minutes| *minutes > 0).await;
    assert!(engine.terminate().await.success());
    let engine = setup.start().await;
    for call in calls.take(AN_HOUR as usize) {
        publishing.send(call).await;
    }
    publishing.flush().await;
    read_all(&engine, 10 * AN_HOUR).await;
    let alerts = engine.json("/api/v1/alerts").await;
    // A window of hours begins on a whole minute, with two calls each.
    let calls = alerts["alerts"][0]["watches"]["value"]["calls"].as_u64().expect("a number of calls");
    assert!((5 * AN_HOUR..=5 * AN_HOUR + 2).contains(&calls), "{alerts:#}");
}

#[tokio::test]
async fn an_outbox_that_cannot_go_on_ends_the_engine_and_says_why() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    assert!(setup.start().await.terminate().await.success());
    in_store(&setup.store, "INSERT INTO outbox (id, route, body, planned_at) VALUES ('x', 'nats:x', 'torn', 0) RETURNING seq");
    let status = setup.spawn().ended().await;
    assert_eq!(status.code(), Some(2));
    assert!(setup.log().contains("a notification in the store is damaged"), "{}", setup.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_outlives_its_server_and_counts_exactly() {
    const LOGS: u64 = 300_000;
    let mut nats = Nats::start().await;
    let setup = with_rules(Setup::new(&nats));
    let mut publishing = Publishing::new(&nats).await;
    let mut logs = traffic(LOGS);
    let mut tally = publish(&mut publishing, logs.by_ref().take(200_000)).await;
    let engine = setup.start().await;
    let status = engine.until("the middle of the stream", PATIENCE, |status| status["received"].as_u64() > Some(10_000)).await;
    nats.restart().await;
    assert!(status["received"].as_u64() < Some(LOGS), "{status:#}");
    let back = Instant::now();
    tally.merge(&publish(&mut publishing, logs).await);
    let status = read_all(&engine, LOGS).await;
    assert!(back.elapsed() < Duration::from_secs(15), "read again only after {:?}", back.elapsed());
    for (counter, expected) in [("received", LOGS), ("counted", LOGS), ("missed", 0), ("late", 0)] {
        assert_eq!(status[counter], expected, "{counter} in {status:#}");
    }
    assert_counts(&engine, &tally).await;
    assert_eq!(engine.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_second_engine_on_a_store_is_refused_and_the_first_goes_on() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let engine = setup.start().await;
    let second = Setup::new(&nats).set("store.path", &setup.store.display().to_string());
    assert_eq!(second.spawn().ended().await.code(), Some(2));
    let log = second.log();
    assert!(log.contains(&format!("another streamgauge runs on the store {}", setup.store.display())), "{log}");
    assert!(log.contains("hint: stop it first"), "{log}");
    publish(&mut Publishing::new(&nats).await, traffic(1000)).await;
    let status = read_all(&engine, 1000).await;
    assert_eq!(status["received"], 1000);
    engine.kill().await;
    // The lock goes with the process, however it ends.
    assert_eq!(read_all(&second.start().await, 1000).await["received"], 1000);
}
