//! The index beside the counting: a call is found at once and exactly once, whatever happens to the process or to the files.

use crate::engine::{Answer, Engine, Setup, answer, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use fixtures::Traffic;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

const PATIENCE: Duration = Duration::from_secs(90);

pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("before the year 292278994")
}

/// `STREAMGAUGE_TEST_SEED`, else one of the moment.
fn seed() -> u64 {
    let given = std::env::var("STREAMGAUGE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("seed {seed}");
    seed
}

pub fn encoded(query: &str) -> String {
    url::form_urlencoded::byte_serialize(query.as_bytes()).collect()
}

async fn search(engine: &Engine, query: &str) -> Value {
    engine.json(&format!("/api/v1/calls?where={}", encoded(query))).await
}

/// A refusal: its status, detail and hint.
async fn refused(engine: &Engine, path: &str) -> (u16, String, String) {
    let Answer { status, body, .. } = answer(&engine.http, path).await.expect("the engine answers");
    let problem: Value = serde_json::from_str(&body).expect("a problem is JSON");
    let text = |name: &str| problem[name].as_str().unwrap_or_else(|| panic!("{path} without {name}: {body}")).to_owned();
    (status, text("detail"), text("hint"))
}

/// Waits until all that was counted is found.
async fn caught_up(engine: &Engine, logs: u64) -> Value {
    let enough = |status: &Value| status["position"].as_u64() >= Some(logs) && status["lag"] == 0 && status["index"]["behind"] == 0;
    engine.until("the index to have every call", PATIENCE, enough).await
}

/// Every call that is found, as how often each sequence is.
async fn found(engine: &Engine) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = engine.json(&format!("/api/v1/calls?order=oldest&limit=1000{after}")).await;
        for call in page["calls"].as_array().expect("calls") {
            *found.entry(call["sequence"].as_u64().expect("a sequence")).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

/// A run of four steps: a bad extraction, the retrieval and the synthesis after it, and the orchestration around them.
pub fn run(event_id: &str, environment: &str, end: u64) -> Vec<Value> {
    let call = |id: &str, stage: &str, at: u64, latency: u64, parent: &str| {
        json!({ "id": format!("{event_id}-{id}"), "time": end - 1000 + at, "latency_ms": latency, "event_id": event_id, "environment": environment,
            "stage": stage, "model": "gpt-4o-mini", "provider": "openai", "user_id": "ann@example.com", "cost_usd": 0.001,
            "parent_id": if parent.is_empty() { Value::Null } else { json!(format!("{event_id}-{parent}")) }, "properties": { "tenant": "acme" } })
    };
    let mut extraction = call("x", "extraction", 300, 250, "o");
    extraction["response_format"] = json!("json");
    extraction["output"] = json!("{\"facts\": [");
    let mut retrieval = call("r", "retrieval", 500, 100, "o");
    retrieval["attempts"] = json!([{ "provider": "openai", "model": "gpt-4o-mini", "status_code": 503, "latency_ms": 40 },
        { "provider": "openai", "model": "gpt-4o-mini", "status_code": 200, "latency_ms": 60 }]);
    let mut synthesis = call("s", "synthesis", 900, 300, "o");
    synthesis["status_code"] = json!(500);
    synthesis["error"] = json!({ "type": "server_error", "message": "asked by ann@example.com", "body": { "trace": ["deep", "ann@example.com"] } });
    vec![extraction, retrieval, synthesis, call("o", "orchestration", 1000, 1000, "")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_found_within_two_seconds_and_its_run_shows_where_it_broke() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).set("redact.patterns", r#"["email"]"#).start().await;
    let end = now_ms();
    for log in run("evt-1", "production", end).into_iter().chain(run("evt-1", "staging", end - 5000)).chain(run("evt-2", "production", end)) {
        publishing.send(log.to_string()).await;
    }
    let logs = publishing.flush().await;
    let published = Instant::now();
    let total = |answer: &Value| answer["total"].as_u64() == Some(logs);
    until("every call to be found", Duration::from_secs(2), || search(&engine, ""), total).await;
    eprintln!("found {:?} after the server had them", published.elapsed());

    for (query, calls) in [
        ("run:evt-1 env:production stage:extraction signal:invalid_json latency>200ms tenant:acme model:gpt-4o-mini*", 1),
        ("evt-1", 8),
        ("status:error user:ann@example.com", 3),
        ("attempts>1 -env:staging", 2),
        ("verdict:relevance=fail", 0),
        ("since:1h", 12),
    ] {
        let answer = search(&engine, query).await;
        assert_eq!((&answer["total"], &answer["notes"]), (&json!(calls), &json!([])), "{query}");
    }
    let page = engine.json("/api/v1/calls?where=run%3Aevt-1&order=slowest&limit=3&since=1h").await;
    let latencies: Vec<_> = page["calls"].as_array().expect("calls").iter().map(|call| call["latency_ms"].clone()).collect();
    assert_eq!((latencies, page["total_is_exact"].clone()), (vec![json!(1000), json!(1000), json!(300)], json!(true)));
    let page = engine.json(&format!("/api/v1/calls?where=run%3Aevt-1&order=slowest&limit=5&after={}", page["next"].as_str().expect("more"))).await;
    assert_eq!((page["calls"].as_array().map(Vec::len), page["next"].clone()), (Some(5), Value::Null));

    let run = engine.json("/api/v1/runs/evt-1?environment=production").await;
    let steps = run["steps"].as_array().expect("steps");
    let told: Vec<_> = steps.iter().map(|step| format!("{}{}", ">".repeat(step["depth"].as_u64().unwrap_or(9) as usize), step["stage"])).collect();
    assert_eq!(told, [r#""orchestration""#, r#">"extraction""#, r#">"retrieval""#, r#">"synthesis""#]);
    assert_eq!(
        (&run["first_bad"], &run["calls"], &run["errors"], &run["retries"], &run["cost_usd"], &run["latency_ms"], &run["elsewhere"]),
        (&json!(1), &json!(4), &json!(1), &json!(1), &json!(0.004), &json!(1000), &json!(["staging"]))
    );
    assert_eq!((&steps[1]["bad"], &steps[2]["recovered"]), (&json!(["invalid_json"]), &json!(["retry", "overloaded"])));
    // Of the two runs of production the last step fails in both, after a bad extraction.
    let often = json!({ "step": "extraction", "affected": 2, "affected_bad": 2, "others": 0, "others_bad": 0, "weight": 1 });
    assert_eq!(run["first_bad_often"], often);
    assert_eq!(steps[2]["attempts"][0]["status_code"], 503);
    let error = json!({ "type": "server_error", "message": "asked by [email]", "body": { "trace": ["deep", "[email]"] } });
    assert_eq!(steps[3]["error"], error, "the error is shown whole, and what is redacted is not");
    let call = engine.json(&format!("/api/v1/calls/{}", steps[3]["sequence"])).await;
    assert_eq!((&call["payload_is"], &call["payload"]["error"]), (&json!("here"), &error));
    assert_eq!(engine.json("/api/v1/runs/evt-1").await["environment"], "production", "the latest one is shown where nobody says which");

    // Payloads live as long as the stream keeps them; what is known of a call without it stays.
    let stream = async_nats::jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream");
    stream.purge().await.expect("it is emptied");
    let run = engine.json("/api/v1/runs/evt-1?environment=production").await;
    assert_eq!((&run["steps"][3]["payload"], &run["first_bad"], &run["errors"]), (&json!("expired"), &json!(1), &json!(1)));
    assert_eq!(engine.json(&format!("/api/v1/calls/{}", steps[3]["sequence"])).await["payload_is"], "expired");

    for (path, status, detail, hint) in [
        ("/api/v1/calls?where=stage:", 400, "at character 7 of the query: `stage` without a value", "has:stage for any"),
        ("/api/v1/calls?where=user:%C3%BC+latency%3Efast", 400, "at character 16 of the query: `fast` is no value of `latency`", "250ms"),
        ("/api/v1/calls?since=yesterday", 400, "`since` is no time: `yesterday`", "since=24h"),
        ("/api/v1/calls?limit=0", 400, "`limit` cannot be 0", "from 1 to 1000"),
        ("/api/v1/calls?order=best", 400, "there is no order `best`", "newest, oldest, slowest or costliest"),
        ("/api/v1/calls?after=here", 400, "`here` is no place in a list of calls", "take `next`"),
        ("/api/v1/calls?wher=x", 400, "there is no parameter `wher`", "known: where"),
        ("/api/v1/calls/twelve", 400, "`twelve` is no sequence", "by their sequence in the stream"),
        ("/api/v1/calls/999999", 404, "there is no call 999999 in the index", "/api/v1/status"),
        ("/api/v1/runs/evt-9", 404, "there is no call of run evt-9 in the index", "written whole"),
        ("/api/v1/runs/evt-2?environment=staging", 404, "there is no call of run evt-2 in environment staging", "written whole"),
    ] {
        let (found, what, way) = refused(&engine, path).await;
        assert!(found == status && what.contains(detail) && way.contains(hint), "{path}: {found} {what} / {way}");
    }
    let mistaken = search(&engine, "tenent:acme").await;
    assert_eq!(mistaken["notes"], json!(["no call has a property `tenent` (at character 1); did you mean `tenant`?"]));
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_leave_neither_holes_nor_doubles_in_the_index() {
    const LOGS: u64 = 200_000;
    const KILLS: u64 = 10;
    let mut rng = fastrand::Rng::with_seed(seed());
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let mut publishing = Publishing::new(&nats).await;
    let mut sent = Traffic { seed: 7, ..Traffic::default() }.calls();
    let mut costs: BTreeMap<String, u64> = BTreeMap::new();
    for kill in 0..=KILLS {
        // A part of the stream before each start, so that the index has to catch up, and a part while the engine runs.
        let engine = setup.start().await;
        for (part, generated) in (0..LOGS / (KILLS + 1)).zip(&mut sent) {
            let log: Value = serde_json::from_slice(&generated.json).expect("the generator writes JSON");
            let cost = log["cost_usd"].as_f64().map_or(0, |cost| (cost * 1e9).round() as u64);
            *costs.entry(log["user_id"].as_str().unwrap_or_default().to_owned()).or_default() += cost;
            publishing.send(generated.json).await;
            if part.is_multiple_of(4000) {
                publishing.flush().await;
            }
        }
        let logs = publishing.flush().await;
        if kill < KILLS {
            let moment = logs - rng.u64(..LOGS / 12);
            engine.until("the moment of the kill", PATIENCE, |status| status["index"]["position"].as_u64() >= Some(moment)).await;
            engine.kill().await;
        } else {
            let status = caught_up(&engine, logs).await;
            assert_eq!((status["index"]["calls"].as_u64(), status["index"]["missed"].as_u64()), (Some(logs), Some(0)), "{status}");
            let found = found(&engine).await;
            assert!(found.values().all(|times| *times == 1), "no call is found twice");
            assert!(found.keys().copied().eq(1..=logs), "every call is found: {} of {logs}", found.len());
            for (user, cost) in costs.iter().take(20) {
                let mut sum = 0.0;
                let mut after = String::new();
                loop {
                    let page = engine.json(&format!("/api/v1/calls?where=user%3A{}&limit=1000{after}", encoded(user))).await;
                    sum += page["calls"].as_array().expect("calls").iter().filter_map(|call| call["cost_usd"].as_f64()).sum::<f64>();
                    match page["next"].as_str() {
                        Some(next) => after = format!("&after={next}"),
                        None => break,
                    }
                }
                assert!((sum - *cost as f64 / 1e9).abs() < 1e-6, "{user}: {sum} and {cost} nano-dollars");
            }
            assert!(engine.terminate().await.success());
        }
    }
}

/// The index's files in a store.
fn files(setup: &Setup) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(setup.store.join("index")).expect("the index's folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "calls"));
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_damaged_or_gone_is_made_from_the_stream_again_while_counting_goes_on() {
    const LOGS: u64 = 30_000;
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let mut publishing = Publishing::new(&nats).await;
    let mut sent = Traffic { seed: 9, ..Traffic::default() }.calls();
    let mut logs = 0;
    for round in ["written", "damaged", "gone"] {
        match round {
            "damaged" => {
                let file = files(&setup).pop().expect("a clean stop leaves a file");
                let mut bytes = std::fs::read(&file).expect("it is read");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x55;
                std::fs::write(&file, bytes).expect("it is written");
            }
            "gone" => std::fs::remove_dir_all(setup.store.join("index")).expect("the folder is removed"),
            _ => {}
        }
        let engine = setup.start().await;
        for generated in (&mut sent).take(LOGS as usize) {
            publishing.send(generated.json).await;
        }
        logs = publishing.flush().await;
        let status = caught_up(&engine, logs).await;
        assert_eq!((status["counted"].as_u64(), status["index"]["calls"].as_u64()), (Some(logs), Some(logs)), "{round}: {status}\n{}", setup.log());
        let found = found(&engine).await;
        assert!(found.keys().copied().eq(1..=logs) && found.values().all(|times| *times == 1), "{round}: {} of {logs}", found.len());
        assert!(engine.terminate().await.success(), "{}", setup.log());
    }
    assert_eq!(logs, 3 * LOGS);
    assert!(setup.log().contains("the index is damaged; what is missing is read from the stream again"), "{}", setup.log());
}
