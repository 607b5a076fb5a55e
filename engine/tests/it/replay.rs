//! `streamgauge replay` from outside: copies are calls of their own, the target sees what the source saw, and the source sees nothing.

use crate::engine::{Engine, Setup};
use crate::nats::Nats;
use crate::publishing::Publishing;
use async_nats::jetstream;
use fixtures::{Effect, Incident, Scope, Traffic};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

const PATIENCE: Duration = Duration::from_secs(120);
const MINUTE_MS: i64 = 60_000;

/// Decides by values, so that the environments' shares of the alarm budget do not matter to it.
const BY_VALUE: &str = r#"rule(#{ name: "by-value", watch: #{ bad: rate("invalid_json", "5m") }, group_by: ["environment", "stage", "model"] });
fn check(w) { if w.bad.value > 0.2 { fire(`${percent(w.bad.value)} of answers are not JSON`) } }"#;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_millis() as i64
}

/// Not quite two hours of traffic in which one model's JSON breaks after an hour for a quarter of one.
fn traffic() -> impl Iterator<Item = Vec<u8>> {
    let start_ms = Traffic::default().start_ms;
    let incident = Incident {
        from_ms: start_ms + 60 * MINUTE_MS,
        to_ms: start_ms + 75 * MINUTE_MS,
        scope: Scope { stage: Some("extraction".into()), model: Some("claude-haiku-4-5".into()), ..Scope::default() },
        effect: Effect::InvalidJson(0.6),
    };
    let traffic = Traffic { seed: 11, start_ms, calls_per_second: 15.0, incidents: vec![incident], late: 0.02, ..Traffic::default() };
    traffic.calls().take_while(move |call| call.time_ms < start_ms + 110 * MINUTE_MS).map(|call| call.json)
}

/// An engine that has counted this traffic in `production`, with rules of both kinds.
struct Installation {
    nats: Nats,
    setup: Setup,
    engine: Engine,
    sent: u64,
    told: async_nats::Subscriber,
    /// What was told so far, by environment.
    heard: BTreeMap<String, Vec<Value>>,
}

impl Installation {
    async fn new() -> Self {
        let nats = Nats::start().await;
        let client = nats.client().await;
        let told = client.subscribe("streamgauge.alerts.>").await.expect("a subscription");
        client.flush().await.expect("the server has it");
        let setup = Setup::new(&nats).rule("by-value.rhai", BY_VALUE);
        let engine = setup.start().await;
        let mut publishing = Publishing::new(&nats).await;
        for call in traffic() {
            publishing.send(call).await;
        }
        let sent = publishing.flush().await;
        let mut new = Self { nats, setup, engine, sent, told, heard: BTreeMap::new() };
        new.settled(sent).await;
        new
    }

    /// Waits until so many logs are counted and everything about them is told.
    async fn settled(&mut self, count: u64) -> Value {
        let done = |status: &Value| status["received"] == count && status["lag"] == 0 && status["outbox"]["waiting"] == 0;
        self.engine.until(&format!("{count} logs"), PATIENCE, done).await;
        // A check may still be running when the last log is counted: nothing fires any more at the end of the traffic.
        let nothing = |answer: &Value| answer["alerts"].as_array().is_some_and(Vec::is_empty);
        crate::engine::until("all alerts to end", PATIENCE, || self.engine.json("/api/v1/alerts"), nothing).await;
        let status = self.engine.until("all to be told", PATIENCE, done).await;
        while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(500), self.told.next()).await {
            let told: Value = serde_json::from_slice(&message.payload).expect("it is JSON");
            self.heard.entry(told["environment"].as_str().expect("a name").to_owned()).or_default().push(told);
        }
        status
    }

    /// What was told of an environment, without its name and ids, and with times before they were moved.
    fn told(&self, environment: &str, moved_ms: i64) -> Vec<String> {
        let heard = self.heard.get(environment).map_or(&[][..], Vec::as_slice);
        let mut told: Vec<_> = heard.iter().map(|told| normal(told, environment, moved_ms).to_string()).collect();
        // Messages about different alerts take their own time.
        told.sort();
        told
    }
}

/// What a rule that decides by values told, without what is learned beside it: that depends on the environment's share of the alarm budget.
fn by_value(told: &[String]) -> Vec<String> {
    fn decided(value: Value) -> Value {
        match value {
            Value::Array(all) => all.into_iter().map(decided).collect(),
            Value::Object(all) => {
                let kept = all.into_iter().filter(|(name, _)| !matches!(name.as_str(), "expected" | "learning" | "drifted" | "drift"));
                kept.map(|(name, value)| (name, decided(value))).collect::<serde_json::Map<_, _>>().into()
            }
            other => other,
        }
    }
    let told: Vec<Value> = told.iter().map(|told| serde_json::from_str(told).expect("it was written above")).collect();
    let told: Vec<_> = told.into_iter().filter(|told| told["rule"] == "by-value").map(|told| decided(told).to_string()).collect();
    assert!(told.len() >= 2, "an alert began and ended: {told:#?}");
    told
}

async fn replay(setup: &Setup, args: &[&str]) -> Value {
    let all: Vec<_> = ["replay", "--from", "production", "--json"].into_iter().chain(args.iter().copied()).collect();
    let output = setup.run(&all).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a summary in JSON")
}

/// The payloads of the stream from a sequence on.
async fn payloads(nats: &Nats, from: u64) -> Vec<Value> {
    let stream = jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream is there");
    let last = stream.cached_info().state.last_sequence;
    let mut payloads = Vec::new();
    for sequence in from..=last {
        let message = stream.get_raw_message(sequence).await.expect("it is kept");
        payloads.push(serde_json::from_slice(&message.payload).expect("it is JSON"));
    }
    payloads
}

fn normal(value: &Value, environment: &str, moved_ms: i64) -> Value {
    match value {
        Value::String(text) => match model::Timestamp::parse(text) {
            Some(time) => json!(time.millis() - moved_ms),
            None if text == environment => json!("(environment)"),
            None => value.clone(),
        },
        Value::Array(all) => all.iter().map(|value| normal(value, environment, moved_ms)).collect(),
        Value::Object(all) => {
            let named = all.iter().filter(|(name, _)| !matches!(name.as_str(), "id" | "alert_id" | "examples"));
            named.map(|(name, value)| (name.clone(), normal(value, environment, moved_ms))).collect::<serde_json::Map<_, _>>().into()
        }
        _ => value.clone(),
    }
}

/// Rates and measures of an environment over all time.
async fn shown(engine: &Engine, environment: &str) -> String {
    let mut text = String::new();
    for what in ["signal=invalid_json", "signal=error", "measure=latency_ms"] {
        let path = format!("/api/v1/series?{what}&window=365d&group_by=stage,model&where=environment={environment}");
        text += &engine.json(&path).await["groups"].to_string();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replays_into_fresh_environments_give_the_same_alerts_and_the_source_does_not_move() {
    let (mut one, mut other) = tokio::join!(Installation::new(), Installation::new());
    let sent = one.sent;
    let (before, told) = (shown(&one.engine, "production").await, one.told("production", 0));

    // The same place in the alarm budget on two installations: the same alerts of every rule.
    let (first, second) = (replay(&one.setup, &["--to", "a", "--since", "1h"]).await, replay(&other.setup, &["--to", "b", "--since", "1h"]).await);
    assert_eq!((&first["published"], &first["malformed"], &first["refused"], &first["duplicates"]), (&sent.into(), &0.into(), &0.into(), &0.into()));
    one.settled(2 * sent).await;
    other.settled(2 * sent).await;
    let moved = |summary: &Value| summary["moved_ms"].as_i64().expect("a number");
    let (a, b) = (one.told("a", moved(&first)), other.told("b", moved(&second)));
    assert!(a.iter().filter(|told| told.contains("invalid-json-rate")).count() >= 2, "a rule that learns: {a:#?}");
    assert_eq!(a, b);

    // Beside the first on the same installation the share of the budget is another: what does not depend on it is the same.
    let again = replay(&one.setup, &["--to", "c", "--since", "1h", "--match", "-has:replay.name"]).await;
    assert_eq!((&again["published"], &again["duplicates"]), (&sent.into(), &0.into()), "two replays are two");
    assert_ne!(again["name"], first["name"]);
    let status = one.settled(3 * sent).await;
    assert_eq!(by_value(&a), by_value(&one.told("c", moved(&again))));
    assert_eq!(by_value(&told), by_value(&a), "and they are those of the original");

    assert_eq!(shown(&one.engine, "production").await, before, "the source does not move by one call");
    assert_eq!(one.told("production", 0), told, "and nobody is told of it again");
    assert_eq!((&status["future"], &status["malformed"], &status["balances"]), (&0.into(), &0.into(), &true.into()));
    // Copies end within the last hour, none of them ahead of the clock on the wall.
    let clock: model::Timestamp = serde_json::from_value(status["environments"]["a"]["clock"].clone()).expect("a time");
    assert!((now_ms() - 65 * MINUTE_MS..=now_ms()).contains(&clock.millis()), "{clock}");
    assert_eq!((moved(&first) % 3_600_000, moved(&again) % 3_600_000), (0, 0));
    let stream = jetstream::new(one.nats.client().await).get_stream("LLM_CALLS").await.expect("it is there");
    assert_eq!(stream.cached_info().state.messages, 3 * sent);
}

const OF_OTHER: &str = r#"rule(#{ name: "tenants", watch: rate("of_other", "5m") });
fn signals(log) { #{ of_other: log.properties.tenant == "other" } }"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_keeps_all_but_its_ids_time_and_environment_and_says_where_it_comes_from() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let mut publishing = Publishing::new(&nats).await;
    let time = now_ms() - 30 * MINUTE_MS;
    let own = |id: &str, environment: &str, more: Value| {
        let mut log = json!({ "id": id, "time": time, "environment": environment, "model": "m", "event_id": "evt", "latency_ms": 12 });
        log.as_object_mut().expect("it is one").extend(more.as_object().expect("it is one").clone());
        log
    };
    let respan = json!({ "unique_id": "r", "log_type": "chat", "model": "m", "environment": "production", "timestamp": model::Timestamp::from_millis(time).expect("a time"),
        "latency": 1.5, "metadata": { "event_id": "evt", "tenant": "acme" }, "output": { "role": "assistant", "content": "{}" } });
    let logs = [
        own("a", "production", json!({ "tenant": "acme", "input": "x} \u{e9}", "parent_id": "p" })),
        // The same id once more: it was counted, so it is replayed.
        own("a", "production", json!({ "tenant": "other" })),
        own("b", "staging", json!({})),
        respan.clone(),
        json!({ "id": "no time" }),
    ];
    for log in &logs {
        publishing.send(log.to_string()).await;
    }
    publishing.flush().await;
    let summary = replay(&setup, &["--to", "test", "--since", "10m"]).await;
    assert_eq!((&summary["published"], &summary["malformed"], &summary["duplicates"]), (&3.into(), &1.into(), &0.into()), "{summary:#}");
    let (name, moved) = (summary["name"].as_str().expect("a name").to_owned(), summary["moved_ms"].as_i64().expect("a number"));
    let copies = payloads(&nats, 6).await;
    assert_eq!(copies.len(), 3);
    let said = |id: &str, event: &str, sequence: u64| {
        let at = model::Timestamp::from_millis(time).expect("a time").to_string();
        [
            ("id", id.to_owned()),
            ("event_id", event.to_owned()),
            ("time", at),
            ("sequence", sequence.to_string()),
            ("environment", "production".to_owned()),
            ("name", name.clone()),
        ]
        .map(|(key, value)| (format!("replay.{key}"), json!(value)))
    };
    for (copy, (sequence, log)) in copies.iter().zip([(1, &logs[0]), (2, &logs[1])]) {
        let mut expected = log.clone();
        for (key, value) in [
            ("id", json!(format!("{name}-a"))),
            ("event_id", json!(format!("{name}-evt"))),
            ("time", json!(time + moved)),
            ("environment", json!("test")),
        ] {
            expected[key] = value;
        }
        if log["parent_id"].is_string() {
            expected["parent_id"] = json!(format!("{name}-p"));
        }
        expected.as_object_mut().expect("it is one").extend(said("a", "evt", sequence));
        assert_eq!(*copy, expected);
    }
    let copy = &copies[2];
    assert_eq!((&copy["unique_id"], &copy["environment"], &copy["output"]), (&json!(format!("{name}-r")), &json!("test"), &respan["output"]));
    assert_eq!(
        (&copy["metadata"]["event_id"], &copy["metadata"]["tenant"], &copy["replay.id"]),
        (&json!(format!("{name}-evt")), &json!("acme"), &json!("r"))
    );

    // A copy can be chosen by what it says of its original, and replayed once more.
    let found =
        setup.run(&["replay", "--from", "test", "--to", "again", "--since", "10m", "--match", "replay.sequence:2 tenant:other", "--json"]).await;
    assert_eq!(String::from_utf8_lossy(&found.stderr), "");
    let found: Value = serde_json::from_slice(&found.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&found.stderr)));
    assert_eq!((&found["published"], &found["unmatched"]), (&1.into(), &2.into()));
    let second = &payloads(&nats, 9).await[0];
    assert_eq!((&second["replay.id"], &second["replay.environment"]), (&json!(format!("{name}-a")), &json!("test")));

    // Or by a signal that only a rule of the configuration knows.
    let setup = setup.rule("tenants.rhai", OF_OTHER);
    for (query, published) in [("signal:of_other", 1), ("-signal:of_other", 2)] {
        let found = replay(&setup, &["--to", "by-rule", "--since", "10m", "--match", query]).await;
        assert_eq!((&found["published"], &found["unmatched"]), (&published.into(), &(3 - published).into()), "{query}");
    }
}

/// A minute of calls at thirty times their speed: they come in order, two seconds apart in all, and each is behind the clock on the wall.
#[tokio::test(flavor = "multi_thread")]
async fn a_paced_replay_takes_its_time_and_copies_are_as_far_apart_as_the_originals() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let mut publishing = Publishing::new(&nats).await;
    let begin = now_ms() - 10 * MINUTE_MS;
    for second in 0..=60 {
        publishing
            .send(json!({ "id": format!("c{second}"), "time": begin + second * 1000, "environment": "production", "model": "m" }).to_string())
            .await;
    }
    let sent = publishing.flush().await;
    let began = Instant::now();
    let summary = replay(&setup, &["--to", "test", "--since", "5m", "--speed", "30x"]).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((&summary["published"], summary["moved_ms"].as_i64().map(|moved| moved % 10_000)), (&61.into(), Some(0)));
    let stream = jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream is there");
    let mut times = BTreeMap::new();
    for sequence in sent + 1..=2 * sent {
        let message = stream.get_raw_message(sequence).await.expect("it is kept");
        let copy: Value = serde_json::from_slice(&message.payload).expect("it is JSON");
        let (stamp, time) = (message.time.unix_timestamp() * 1000 + i64::from(message.time.millisecond()), copy["time"].as_i64().expect("a number"));
        assert!(time <= stamp, "{copy:#} at {stamp}");
        times.insert(sequence, time);
    }
    let apart: Vec<_> = times.values().zip(times.values().skip(1)).map(|(a, b)| b - a).collect();
    assert_eq!(apart, vec![1000; 60]);
    let last = *times.values().next_back().expect("there are some");
    assert!(now_ms() - last < 15_000, "the last one is now: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_said_with_the_way_out() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).slack("http://127.0.0.1:1/api").set("environments.quiet", "{ notify = false }");
    let mut publishing = Publishing::new(&nats).await;
    publishing.send(json!({ "id": "a", "time": now_ms(), "environment": "production", "model": "m", "tenant": "acme" }).to_string()).await;
    publishing.flush().await;
    let says = async |args: &[&str], expected: &str| {
        let all: Vec<_> = ["replay"].into_iter().chain(args.iter().copied()).collect();
        let output = setup.run(&all).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(expected), "{args:?} `{expected}`: {text}");
    };
    let since = ["--from", "production", "--to", "quiet", "--since", "1h"];
    let with = |more: &[&'static str]| since.into_iter().chain(more.iter().copied()).collect::<Vec<_>>();
    says(&["--from", "a", "--to", "a", "--since", "1h"], "`a` cannot be replayed into itself: its calls would be counted twice\nhint: name another")
        .await;
    says(&with(&["--match", "stage:"]), "--match:7: `stage` without a value\nhint: write stage:VALUE").await;
    says(&with(&["--match", "model:m tennant:acme"]), "--match:9: no call of production has `tennant`\nhint: did you mean `tenant`?").await;
    says(&with(&["--match", "model:m -signal:no_facts"]), "--match:9: no rule of this configuration watches a signal `no_facts`\nhint: ").await;
    says(
        &with(&["--match", "signal:invalid_jsn"]),
        "--match:1: no rule of this configuration watches a signal `invalid_jsn`\nhint: did you mean `invalid_json`?",
    )
    .await;
    says(&with(&["--match", "verdict:tone=fail"]), "--match: what `tone` said is not in the stream").await;
    says(&with(&["--match", "tenant:other"]), "none of the 1 calls of production from").await;
    says(&["--from", "nowhere", "--to", "quiet", "--since", "1h"], "nowhere has no call from").await;
    says(&with(&["--speed", "0.5x"]), "at least 1x, or max").await;
    says(&["--from", "production", "--to", "quiet", "--since", "noon"], "cannot read the time `noon`\nhint: write it like").await;
    says(&with(&["--until", "2020-01-01T00:00:00Z"]), " is empty\nhint: give an earlier --since or a later --until").await;

    let warned = async |to: &str| {
        let output = setup.run(&["replay", "--from", "production", "--to", to, "--since", "1h"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("published 1 calls of production into "));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(warned("quiet").await, "");
    let loud = warned("loud").await;
    assert_eq!(loud, "warning: alerts of `loud` will be posted to #llm-alerts\nhint: environments.loud.notify = false keeps them from people\n");
}
