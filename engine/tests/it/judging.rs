//! From a chosen call to its verdict: whatever a judge does, each chosen call has one, what it costs stays within its cap, and counting goes on.

use crate::engine::{Engine, Setup, until};
use crate::judge::{Fault, Judge, Request};
use crate::nats::Nats;
use crate::publishing::Publishing;
use futures_util::StreamExt;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-01-01: the time of the first call.
pub const BEGIN_MS: i64 = 1_767_225_600_000;
pub const JUDGE: &str = "retrieval-relevance";

/// An engine whose judge sees every call of the retrieval stage, at `endpoint`, with these further keys.
pub fn setup(nats: &Nats, endpoint: &str, more: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::new(nats).set("rules.library", "[]");
    let all = [("model", "gpt-4.1-mini"), ("endpoint", endpoint), ("rate", "1.0"), ("per_minute", "6000"), ("timeout", "1s")];
    for (key, value) in all.iter().chain(more) {
        setup = setup.set(&format!("judges.{JUDGE}.{key}"), value);
    }
    setup
}

/// The time of the next ten seconds of calls.
struct Clock(i64);

impl Clock {
    /// `count` calls that the judge is for, and one after them that closes their tick. `text`: what was retrieved, by number.
    async fn publish(&mut self, publishing: &mut Publishing, count: i64, text: impl Fn(i64) -> String) -> i64 {
        let begin = self.0;
        for number in 0..count {
            let call = json!({ "id": format!("call-{begin}-{number}"), "time": begin + number, "model": "m", "stage": "retrieval",
                "input": "Where does Ana live?", "output": "done", "retrieved": [text(number)] });
            publishing.send(call.to_string()).await;
        }
        self.0 += 10_000;
        publishing.send(json!({ "id": format!("after-{begin}"), "time": self.0, "model": "m", "stage": "other" }).to_string()).await;
        publishing.flush().await;
        count
    }
}

fn fact(number: i64) -> String {
    format!("Ana lives in house {number}.")
}

/// What became of the judge's calls, by the metrics.
async fn tally(engine: &Engine) -> Tally {
    let (_, page) = engine.get("/metrics").await;
    let of = |name: &str, label: &str| {
        let line = page.lines().find(|line| line.starts_with(&format!("streamgauge_{name}{{judge=\"{JUDGE}\"")) && line.contains(label));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let outcomes =
        ["pass", "fail", "unreadable", "errored", "skipped"].map(|outcome| (outcome, of("judge_calls_total", &format!("\"{outcome}\"")) as u64));
    let skips = ["backlog", "budget", "resting", "expired", "gone", "unsuitable", "changed"];
    Tally {
        chosen: of("judge_chosen_total", "") as u64,
        outcomes: outcomes.into(),
        skips: skips.map(|skip| (skip, of("judge_skipped_total", &format!("\"{skip}\"")) as u64)).into(),
        cost_usd: of("judge_cost_usd_total", ""),
        spent_usd: of("judge_spent_hour_usd", ""),
    }
}

#[derive(Debug)]
struct Tally {
    chosen: u64,
    outcomes: BTreeMap<&'static str, u64>,
    skips: BTreeMap<&'static str, u64>,
    cost_usd: f64,
    spent_usd: f64,
}

impl Tally {
    fn done(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Waits until so many chosen calls have their verdict.
async fn judged(engine: &Engine, count: u64) -> Tally {
    until(&format!("{count} verdicts"), PATIENCE, || tally(engine), |tally| tally.chosen == count && tally.done() == count).await
}

/// Rows of the table of verdicts: sequence and outcome.
fn kept(store: &Path) -> Vec<(u64, String)> {
    let connection = Connection::open_with_flags(store.join("streamgauge.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the store opens");
    let mut statement = connection.prepare("SELECT sequence, body FROM verdicts ORDER BY sequence").expect("a table of verdicts");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).expect("its rows");
    let outcome = |body: String| serde_json::from_str::<Value>(&body).expect("a verdict")["outcome"].to_string();
    rows.map(|row| row.map(|(sequence, body)| (sequence, outcome(body))).expect("a readable row")).collect()
}

/// Opinions that are published from now on, with their ids.
async fn opinions(nats: &Nats) -> impl futures_util::Stream<Item = (String, Value)> + Unpin {
    let client = nats.client().await;
    let messages = client.subscribe("streamgauge.verdicts.>").await.expect("a subscription");
    client.flush().await.expect("the server has it");
    messages.map(|message| {
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).map(ToString::to_string).unwrap_or_default();
        (id, serde_json::from_slice(&message.payload).expect("JSON"))
    })
}

/// All that were published by now: `count` at least.
async fn taken(stream: &mut (impl futures_util::Stream<Item = (String, Value)> + Unpin), count: usize) -> Vec<(String, Value)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        taken.push(next.unwrap_or_else(|_| panic!("{} of {count} opinions came", taken.len())).expect("the subscription goes on"));
    }
    taken
}

/// The numbers of the calls that a query finds, once the index has all `logs`.
async fn found(engine: &Engine, query: &str, logs: u64) -> BTreeSet<i64> {
    engine.until("the index to have every call", PATIENCE, |status| status["index"]["position"].as_u64() >= Some(logs)).await;
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let page = engine.json(&format!("/api/v1/calls?limit=1000&where={query}")).await;
    let ids = page["calls"].as_array().expect("calls").iter().map(|call| call["id"].as_str().expect("an id").to_owned());
    let found: Vec<i64> = ids.map(|id| id.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number")).collect();
    let distinct: BTreeSet<i64> = found.iter().copied().collect();
    assert_eq!(distinct.len(), found.len(), "each is found once");
    distinct
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_chosen_call_is_judged_once_published_and_kept() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = setup(&nats, &judge.url, &[("redact", r#"["email"]"#)]);
    let mut events = opinions(&nats).await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    let text = |number: i64| if number % 4 == 0 { format!("BAD {number}, write to ana@example.org") } else { fact(number) };
    Clock(BEGIN_MS).publish(&mut publishing, 40, text).await;
    let tally = judged(&engine, 40).await;
    assert_eq!((tally.outcomes["fail"], tally.outcomes["pass"]), (10, 30), "{tally}");
    // Ten cents for a million tokens in and forty out, times a hundred and twenty tokens, times forty calls.
    let cost = 40.0 * (100.0 * 0.4 + 20.0 * 1.6) / 1e6;
    assert!((tally.cost_usd - cost).abs() < 1e-9 && (tally.spent_usd - cost).abs() < 1e-9, "{tally} cost {cost}");

    let requests = judge.requests();
    assert_eq!(requests.len(), 40);
    let nonces: BTreeSet<_> = requests.iter().map(|request| request.text().split("<<data ").nth(1).map(|rest| rest[..16].to_owned())).collect();
    assert_eq!(nonces.len(), 40, "every request has a nonce of its own");
    for request in &requests {
        assert_eq!(
            (request.path.as_str(), &request.body["temperature"], &request.body["max_tokens"]),
            ("/v1/chat/completions", &json!(0.0), &json!(500))
        );
        assert_eq!(request.body["response_format"]["type"], "json_schema");
        assert!(request.header("authorization").is_empty(), "an endpoint of one's own needs no key");
        assert!(!request.text().contains("ana@example.org") && !request.text().contains("example.org"), "redacted before it leaves");
    }

    let events = taken(&mut events, 40).await;
    let ids: BTreeSet<_> = events.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), 40);
    for (id, event) in &events {
        let attributes = &event["attributes"];
        assert_eq!((&event["event_name"], &attributes["gen_ai.evaluation.name"]), (&json!("gen_ai.evaluation.result"), &json!(JUDGE)));
        assert_eq!(attributes["streamgauge.request.id"], *id);
        let number: i64 =
            attributes["gen_ai.response.id"].as_str().and_then(|id| id.rsplit('-').next()).and_then(|id| id.parse().ok()).expect("a call");
        let (label, score) = if number % 4 == 0 { ("fail", 0.0) } else { ("pass", 1.0) };
        assert_eq!((&attributes["gen_ai.evaluation.score.label"], &attributes["gen_ai.evaluation.score.value"]), (&json!(label), &json!(score)));
    }

    let listed = engine.json("/api/v1/judges").await;
    assert_eq!((&listed[0]["judge"], &listed[0]["state"], &listed[0]["judged"]["passed"]), (&json!(JUDGE), &json!("asking"), &json!(30)));
    let sampling = engine.json("/api/v1/sampling").await;
    assert_eq!((&sampling[0]["calls"], &sampling[0]["chosen"]), (&json!(40), &json!(40)), "{sampling}");
    let shown = setup.run(&["sampling"]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("stage=retrieval model=m"), "{shown:?}");
    for (query, judged_calls) in [
        (format!("verdict:{JUDGE}=fail"), (0..40).filter(|number| number % 4 == 0).collect()),
        (format!("verdict:{JUDGE}=pass"), (0..40).filter(|number| number % 4 != 0).collect()),
        (format!("stage:retrieval -verdict:{JUDGE}=pass|{JUDGE}=fail"), BTreeSet::new()),
        (format!("verdict:{JUDGE}=error"), BTreeSet::new()),
        ("verdict:nobody=fail".to_owned(), BTreeSet::new()),
    ] {
        let found = found(&engine, &query, 41).await;
        assert_eq!(found, judged_calls, "{query}");
    }
    assert!(engine.terminate().await.success());
    let kept = kept(&setup.store);
    assert_eq!(kept.len(), 40);
    assert_eq!(kept.iter().filter(|(_, outcome)| outcome == "\"fail\"").count(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judge_that_does_whatever_it_likes_costs_no_call_its_verdict_and_no_count() {
    let seed = std::env::var("STREAMGAUGE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("seed {seed}");
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    judge.fail_at_random(0.4, seed);
    let setup = setup(&nats, &judge.url, &[("concurrency", "8"), ("spend.hour", "1.0")]);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    let mut clock = Clock(BEGIN_MS);
    let (mut calls, mut published) = (0, 0);
    for round in 0..4 {
        calls += clock.publish(&mut publishing, 25, |number| fact(round * 100 + number)).await as u64;
        published = publishing.flush().await;
    }
    // Counting waits for nobody.
    let status = engine.until("every log", PATIENCE, |status| status["received"].as_u64() == Some(published)).await;
    assert_eq!((&status["counted"], &status["balances"]), (&json!(published), &json!(true)));
    let tally = judged(&engine, calls).await;
    eprintln!("{tally}; {} requests", judge.requests().len());
    assert!(judge.open_max() <= 8, "{} requests at one time", judge.open_max());
    assert!(tally.outcomes["pass"] > 30, "{tally}");
    assert!(tally.spent_usd >= tally.cost_usd - 1e-9 && tally.spent_usd <= 1.0, "{tally}");
    assert!(engine.terminate().await.success());
    let kept = kept(&setup.store);
    let sequences: BTreeSet<_> = kept.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!((kept.len() as u64, sequences.len() as u64), (calls, calls), "one verdict each");
}

/// What comes of one call when the judge does this to it, and how often it was asked.
async fn one(faults: &[Fault], more: &[(&str, &str)]) -> (String, Vec<Request>) {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    judge.script(faults);
    let setup = setup(&nats, &judge.url, more);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    Clock(BEGIN_MS).publish(&mut publishing, 1, fact).await;
    let tally = judged(&engine, 1).await;
    let outcome = tally.outcomes.iter().find(|(_, count)| **count == 1).map(|(name, _)| (*name).to_owned());
    engine.kill().await;
    (outcome.expect("one outcome"), judge.requests())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_pass_is_asked_again_and_what_cannot_is_not() {
    for (faults, outcome, asked) in [
        (&[Fault::Status(500), Fault::Half][..], "pass", 3),
        (&[Fault::Silent], "pass", 2),
        (&[Fault::Slow(Duration::from_secs(30)), Fault::Garbage, Fault::Status(503)], "errored", 3),
        (&[Fault::Status(401)], "errored", 1),
        (&[Fault::Prose], "unreadable", 1),
        (&[Fault::Refuses("response_format"), Fault::Refuses("temperature")], "pass", 3),
    ] {
        let (came, requests) = one(faults, &[]).await;
        assert_eq!((came.as_str(), requests.len()), (outcome, asked), "{faults:?}");
        let without = |field: &str| requests.last().is_some_and(|request| request.body.get(field).is_none());
        let refused = faults.contains(&Fault::Refuses("temperature"));
        assert_eq!((without("response_format"), without("temperature")), (refused, refused), "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_given_the_time_it_asks_for() {
    let (came, requests) = one(&[Fault::RateLimited(3)], &[]).await;
    assert_eq!((came.as_str(), requests.len()), ("pass", 2));
    let pause = requests[1].at - requests[0].at;
    assert!(pause >= Duration::from_secs(3), "{pause:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropics_messages_and_a_panel_are_spoken_as_well() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let key = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(key.path(), "sk-test\n").expect("the key is written");
    let key = format!("{{ file = \"{}\" }}", key.path().display());
    let panel = r#"["claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"]"#;
    let mut setup = Setup::new(&nats).set("rules.library", "[]");
    for (name, value) in
        [("endpoint", judge.url.as_str()), ("api", "anthropic"), ("api_key", &key), ("panel", panel), ("rate", "1.0"), ("timeout", "1s")]
    {
        setup = setup.set(&format!("judges.{JUDGE}.{name}"), value);
    }
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    judge.script(&[Fault::Prose]);
    Clock(BEGIN_MS).publish(&mut publishing, 1, fact).await;
    let tally = judged(&engine, 1).await;
    assert_eq!(tally.outcomes["pass"], 1, "two of three are a majority: {tally}");
    let requests = judge.requests();
    let models: Vec<_> = requests.iter().filter_map(|request| request.body["model"].as_str()).collect();
    assert_eq!(models, ["claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"]);
    for request in &requests {
        assert_eq!(
            (request.path.as_str(), request.header("x-api-key"), request.header("anthropic-version")),
            ("/v1/messages", "sk-test", "2023-06-01")
        );
        assert_eq!(request.body["max_tokens"], 500);
    }
    engine.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_is_never_exceeded_however_expensive_answers_are_and_a_restart_forgets_nothing() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    // A request can cost some 2,500 bytes of input and 500 tokens of output: about 7.5 cents at these prices. An answer costs 3 cents.
    judge.usage(1_000, 200);
    let more = [("model", "dear"), ("concurrency", "8"), ("spend.hour", "1.0"), ("spend.day", "1.0")];
    let setup = setup(&nats, &judge.url, &more).set("prices.dear.input", "10").set("prices.dear.output", "100");
    let mut publishing = Publishing::new(&nats).await;
    let mut clock = Clock(BEGIN_MS);
    let engine = setup.start().await;
    clock.publish(&mut publishing, 60, fact).await;
    let first = judged(&engine, 60).await;
    let charged = |requests: usize| requests as f64 * 0.03;
    assert!(first.spent_usd <= 1.0 && (first.cost_usd - charged(judge.requests().len())).abs() < 1e-6, "{first}");
    assert!(first.skips["budget"] > 20 && first.outcomes["pass"] > 20, "{first}");
    engine.kill().await;

    let engine = setup.start().await;
    clock.publish(&mut publishing, 60, |number| fact(1_000 + number)).await;
    let second = judged(&engine, 120).await;
    assert!(second.spent_usd <= 1.0, "{second}");
    assert!(charged(judge.requests().len()) <= 1.0, "{} requests at 3 cents", judge.requests().len());
    engine.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_asks_again_and_counts_once() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    judge.always(Some(Fault::Slow(Duration::from_millis(300))));
    let setup = setup(&nats, &judge.url, &[("concurrency", "2")]);
    let mut events = opinions(&nats).await;
    let mut publishing = Publishing::new(&nats).await;
    let mut clock = Clock(BEGIN_MS);
    let engine = setup.start().await;
    clock.publish(&mut publishing, 20, fact).await;
    // Some are judged, some are being asked about, most wait.
    judge.until(7, PATIENCE).await;
    engine.kill().await;
    let before = judge.requests().len();
    assert!((7..20).contains(&before), "killed in the middle: {before} requests");
    let engine = setup.start().await;
    let tally = judged(&engine, 20).await;
    assert_eq!(tally.outcomes["pass"], 20, "{tally}");
    assert!(judge.requests().len() <= 20 + 2 + before, "{} requests", judge.requests().len());
    assert!(engine.terminate().await.success());
    assert_eq!(kept(&setup.store).len(), 20);
    let ids: BTreeSet<_> = taken(&mut events, 20).await.into_iter().map(|(id, _)| id).collect();
    assert!(ids.len() >= 20 - before, "ids are those of the calls, whoever asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_in_the_middle_asks_about_no_call_twice_and_loses_none() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    judge.always(Some(Fault::Slow(Duration::from_millis(200))));
    let setup = setup(&nats, &judge.url, &[("concurrency", "2")]);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    Clock(BEGIN_MS).publish(&mut publishing, 20, fact).await;
    judge.until(5, PATIENCE).await;
    let rule = r#"rule(#{ name: "errors", watch: rate("error", "5m").expect(0.0, 0.5) });"#;
    std::fs::write(setup.path("rules/errors.rhai"), rule).expect("the rule is written");
    let reload = crate::engine::ask(&engine.http, "POST", "/api/v1/rules/reload", "").await.expect("the engine answers");
    assert_eq!(reload.status, 200, "{}", reload.body);
    let tally = judged(&engine, 20).await;
    // No rule is about verdicts, so what waits over a reload waits for nobody.
    assert_eq!(tally.outcomes["pass"] + tally.skips["changed"], 20, "{tally}");
    assert!(judge.requests().len() <= 20, "{} requests about 20 calls", judge.requests().len());
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_judge_is_left_alone_and_a_probe_brings_it_back() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    judge.always(Some(Fault::Status(500)));
    let setup = setup(&nats, &judge.url, &[("retries", "0"), ("concurrency", "1")]);
    let mut publishing = Publishing::new(&nats).await;
    let mut clock = Clock(BEGIN_MS);
    let engine = setup.start().await;
    clock.publish(&mut publishing, 30, fact).await;
    let first = judged(&engine, 30).await;
    assert_eq!((first.outcomes["errored"], first.skips["resting"], judge.requests().len()), (5, 25, 5), "{first}");
    assert_eq!(engine.json("/api/v1/judges").await[0]["state"], "resting");
    judge.always(None);
    let rests_until = Instant::now() + Duration::from_secs(30);
    let mut calls = 30;
    // The rest is half a minute; the first call that comes after it is the probe.
    while judged(&engine, calls).await.outcomes["pass"] == 0 {
        assert!(Instant::now() < rests_until + PATIENCE, "no call was tried");
        calls += clock.publish(&mut publishing, 1, |_| fact(calls as i64)).await as u64;
    }
    assert_eq!(tally(&engine).await.outcomes["pass"], 1);
    clock.publish(&mut publishing, 5, |number| fact(5_000 + number)).await;
    assert_eq!(judged(&engine, calls + 5).await.outcomes["pass"], 6);
    engine.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_text_is_not_paid_twice() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = setup(&nats, &judge.url, &[("concurrency", "1")]);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    Clock(BEGIN_MS).publish(&mut publishing, 20, |number| fact(number % 4)).await;
    let tally = judged(&engine, 20).await;
    assert_eq!((tally.outcomes["pass"], judge.requests().len()), (20, 4), "{tally}");
    engine.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_gone_or_cannot_be_asked_about_is_skipped_and_counted() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = setup(&nats, &judge.url, &[("concurrency", "1")]);
    let mut publishing = Publishing::new(&nats).await;
    let mut clock = Clock(BEGIN_MS);
    // Nothing retrieved: there is nothing to judge.
    clock.publish(&mut publishing, 3, |_| String::new()).await;
    judge.always(Some(Fault::Slow(Duration::from_millis(400))));
    clock.publish(&mut publishing, 3, fact).await;
    let engine = setup.start().await;
    // While the first is being asked about, the others leave the stream.
    judge.until(1, PATIENCE).await;
    let stream = async_nats::jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream");
    stream.purge().await.expect("it is emptied");
    let tally = judged(&engine, 6).await;
    assert_eq!((tally.skips["unsuitable"], tally.outcomes["pass"], tally.skips["gone"]), (3, 1, 2), "{tally}");
    engine.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judge_is_checked_and_tried_from_the_command_line() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = setup(&nats, &judge.url, &[]);
    let file = setup.path("call.json");
    let call = json!({ "id": "c", "time": BEGIN_MS, "model": "m", "stage": "retrieval", "input": "Where does Ana live?", "output": "done", "retrieved": ["BAD"] });
    std::fs::write(&file, call.to_string()).expect("the call is written");
    let file = file.display().to_string();
    let out = async |args: &[&str]| {
        let output = setup.run(args).await;
        (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let (code, dry) = out(&["judge", "try", JUDGE, "--file", &file, "--dry-run"]).await;
    assert!(code == Some(0) && dry.contains("Where does Ana live?") && dry.contains("1 requests, at most 0.00"), "{dry}");
    assert!(judge.requests().is_empty());
    let (code, tried) = out(&["judge", "try", JUDGE, "--file", &file]).await;
    assert!(code == Some(0) && tried.contains("fail, score 0.00: what was asked is there, or not") && tried.contains("cost 0.000072"), "{tried}");
    let (code, unknown) = out(&["judge", "try", "nobody", "--file", &file]).await;
    assert!(code == Some(2) && unknown.contains("there is no judge `nobody`\nhint: known: retrieval-relevance"), "{unknown}");
    assert_eq!(out(&["check"]).await.0, Some(0));
    let (code, list) = out(&["judge", "list"]).await;
    assert!(code == Some(0) && list.contains("stage=retrieval"), "{list}");
    for (more, expected) in [
        (&[("model", "ours"), ("spend.hour", "1")][..], "what `ours` costs is not known"),
        (&[("api_key", "{ env = \"NO_SUCH_KEY\" }")], "environment variable `NO_SUCH_KEY` is not set"),
        (&[("applies", "{ stge = \"retrieval\" }")], "names no field: `stge`\nhint: did you mean `stage`?"),
    ] {
        let checked = self::setup(&nats, &judge.url, more).run(&["check"]).await;
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.code() == Some(1) && said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_back_test_hears_what_judges_said_then_and_asks_nobody() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = setup(&nats, &judge.url, &[("concurrency", "8")]);
    let rule = format!(r#"rule(#{{ name: "irrelevant", watch: rate("judge:{JUDGE}", "5m").expect(0.0, 0.1) }});"#);
    std::fs::write(setup.path("rules/irrelevant.rhai"), rule).expect("the rule is written");
    let mut told = nats.client().await.subscribe("streamgauge.alerts.>").await.expect("a subscription");
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    let (mut clock, mut calls) = (Clock(BEGIN_MS), 0);
    for round in 0..6 {
        calls += clock.publish(&mut publishing, 20, |number| format!("BAD {}", round * 100 + number)).await as u64;
        judged(&engine, calls).await;
    }
    // The last verdicts count in the tick that these calls close.
    clock.publish(&mut publishing, 0, fact).await;
    let fired = tokio::time::timeout(PATIENCE, told.next()).await.expect("the rule fires").expect("the subscription goes on");
    let fired: Value = serde_json::from_slice(&fired.payload).expect("JSON");
    assert_eq!((&fired["rule"], &fired["reason"]), (&json!("irrelevant"), &json!("fired")), "{fired}");
    assert!(engine.terminate().await.success());
    let asked = judge.requests().len();

    let findings = async |setup: &Setup| -> Value {
        let output = setup.run(&["backtest", "--since", "1d", "--json"]).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let found = findings(&setup).await;
    assert_eq!(found["notifications"][0], fired, "the same alert at the same time, and every word of it");
    assert_eq!(judge.requests().len(), asked, "nobody is asked anew");
    // Another prompt, scale or model is another ruler: what the old one said is not what this one would say.
    let changed = findings(&setup.set(&format!("judges.{JUDGE}.model"), "gpt-4.1")).await;
    assert_eq!(changed["notifications"], json!([]), "{changed}");
}
