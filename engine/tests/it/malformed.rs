//! Malformed logs among good ones: each is counted with its reason and kept byte for byte, once, and the good ones are counted as if it were not there.

use crate::counts::assert_counts;
use crate::engine::Setup;
use crate::nats::Nats;
use crate::publishing::{Letter, Publishing, letters};
use crate::recordings::recording;
use bytes::Bytes;
use fixtures::{Tally, Traffic};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A payload that is no call, and why.
struct Bad {
    reason: &'static str,
    payload: Bytes,
}

impl Bad {
    fn new(reason: &'static str, payload: impl Into<Bytes>) -> Self {
        Self { reason, payload: payload.into() }
    }
}

/// `malformed_by` of the status.
fn by_reason<'b>(bad: impl Iterator<Item = &'b Bad>) -> Value {
    let mut by = BTreeMap::<&str, u64>::new();
    bad.for_each(|bad| *by.entry(bad.reason).or_default() += 1);
    json!(by)
}

/// Asserts that the letters are the bad payloads, in order, each once.
fn assert_letters(letters: &[Letter], sent: &[(u64, &Bad)]) {
    for (letter, (sequence, bad)) in letters.iter().zip(sent) {
        let shown = String::from_utf8_lossy(&bad.payload[..bad.payload.len().min(200)]).into_owned();
        assert_eq!((letter.sequence, letter.reason.as_str()), (*sequence, bad.reason), "{shown} ({})", letter.detail);
        assert!(letter.payload == bad.payload, "the letter of sequence {sequence} is not what was sent: {shown}");
        assert!(!letter.detail.is_empty() && letter.cut_from.is_none(), "{shown}");
    }
    assert_eq!(letters.len(), sent.len());
}

/// Every case of the JSON suite; none of them is a call. What each must be is read from its name and its bytes, not from the engine.
fn suite(folder: &std::path::Path) -> Vec<Bad> {
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("the suite's folder").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let case = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let payload = std::fs::read(path).expect("the file reads");
        let first = payload.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
        let reason = if std::str::from_utf8(&payload).is_err() {
            "not_utf8"
        // What parsers may do as they like: a byte order mark is not JSON here; the rest is (numbers of any size, lone surrogates, depth).
        } else if name.starts_with("n_") || name == "i_structure_UTF-8_BOM_empty_object.json" {
            "not_json"
        } else if first == Some(b'{') {
            "missing_field"
        } else {
            "not_an_object"
        };
        Bad::new(reason, payload)
    };
    files.iter().map(case).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_calls_are_counted_and_ten_thousand_malformed_logs_kept_though_the_engine_is_killed_twice() {
    const GOOD: u64 = 1_000_000;
    const BAD: usize = 10_000;
    let Some(folder) = recording("json_test_suite/test_parsing") else { return };
    let kinds = suite(&folder);
    let seed = 20_260_101;
    eprintln!("seed {seed}, {} kinds of malformed logs", kinds.len());

    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let (mut rng, mut tally, mut sent) = (fastrand::Rng::with_seed(seed), Tally::default(), Vec::with_capacity(BAD));
    let traffic = Traffic { seed, calls_per_second: 2_000.0, variants: 2, ..Traffic::default() };
    let mut calls = traffic.calls();
    let total = GOOD + BAD as u64;
    for at in 0..total {
        let left = BAD - sent.len();
        if rng.u64(..total - at) < left as u64 {
            let bad = &kinds[sent.len() % kinds.len()];
            sent.push((publishing.send(bad.payload.clone()).await, bad));
        } else {
            let call = calls.next().expect("traffic has no end");
            tally.add(&call.truth);
            publishing.send(call.json).await;
        }
    }
    assert_eq!((publishing.flush().await, sent.len(), tally.total().operations), (total, BAD, GOOD));

    let setup = Setup::new(&nats);
    for share in [4, 8] {
        let engine = setup.start().await;
        let enough = |status: &Value| status["received"].as_u64() >= Some(total * share / 12);
        let status = engine.until("part of the stream", Duration::from_secs(120), enough).await;
        assert!(status["received"].as_u64() < Some(total), "it was to be killed while it reads: {status:#}");
        engine.kill().await;
        eprintln!("killed at {} of {total}, saved {}", status["position"], status["committed"]);
    }
    let engine = setup.start().await;
    let status = engine.until("the whole stream", Duration::from_secs(300), |status| status["received"].as_u64() >= Some(total)).await;
    assert_eq!((&status["received"], &status["counted"], &status["malformed"]), (&total.into(), &GOOD.into(), &BAD.into()));
    assert_eq!((&status["missed"], &status["late"], &status["joined"], &status["balances"]), (&0.into(), &0.into(), &0.into(), &true.into()));
    assert_eq!(status["malformed_by"], by_reason(sent.iter().map(|(_, bad)| *bad)));
    assert_counts(&engine, &tally).await;
    assert!(engine.terminate().await.success());
    assert_letters(&letters(&nats).await, &sent);
}

/// Kinds that no parser of JSON knows of, beside some that every one does.
fn by_hand() -> Vec<Bad> {
    let good = json!({
        "id": "a", "time": 1_767_225_600_000_i64, "model": "gpt-4o", "stage": "extraction", "latency_ms": 12,
        "usage": { "input_tokens": 3, "output_tokens": 4 }, "output": "ok",
    });
    let with = |key: &str, value: Value| {
        let mut log = good.clone();
        log[key] = value;
        log.to_string()
    };
    let without = |key: &str| {
        let mut log = good.clone();
        log.as_object_mut().expect("an object").remove(key);
        log.to_string()
    };
    let text = good.to_string();
    let mut bad = vec![
        // A Latin-1 é, an overlong slash, half of a character at the end, a UTF-16 text.
        Bad::new("not_utf8", [b"{\"id\":\"caf\xe9\",", &text.as_bytes()[1..]].concat()),
        Bad::new("not_utf8", [b"{\"id\":\"\xc0\xaf\",", &text.as_bytes()[1..]].concat()),
        Bad::new("not_utf8", [text.as_bytes(), b"\xe2\x82"].concat()),
        Bad::new("not_utf8", text.encode_utf16().flat_map(u16::to_le_bytes).chain([0xff]).collect::<Vec<_>>()),
        Bad::new("not_json", ""),
        Bad::new("not_json", " \n"),
        Bad::new("not_json", "hello"),
        Bad::new("not_json", text.replace('"', "'")),
        Bad::new("not_json", format!("\u{feff}{text}")),
        Bad::new("not_json", format!("{text}\n{text}")),
        Bad::new("not_json", text.replace("12", "NaN")),
        Bad::new("not_json", text.replace('}', ",}")),
        Bad::new("not_an_object", format!("[{text}]")),
        Bad::new("not_an_object", "[]"),
        Bad::new("not_an_object", "null"),
        Bad::new("not_an_object", "true"),
        Bad::new("not_an_object", "17"),
        Bad::new("not_an_object", Value::from(text.as_str()).to_string()),
        Bad::new("missing_field", "{}"),
        Bad::new("missing_field", r#"{"message":"a log line of another program","level":"info"}"#),
        Bad::new("missing_field", without("id")),
        Bad::new("missing_field", with("id", Value::Null)),
        Bad::new("missing_field", with("id", "".into())),
        Bad::new("missing_field", without("time")),
        Bad::new("missing_field", with("time", Value::Null)),
        Bad::new("missing_field", without("model")),
        Bad::new("missing_field", with("model", "".into())),
        Bad::new("missing_field", without("model").replace("\"id\"", "\"kind\":\"embedding\",\"id\"")),
        Bad::new("bad_field", with("id", json!(["a"]))),
        Bad::new("bad_field", with("id", json!({}))),
        // Seconds, microseconds, nanoseconds, and no time at all.
        Bad::new("bad_field", with("time", 1_767_225_600.into())),
        Bad::new("bad_field", with("time", 1_767_225_600.5.into())),
        Bad::new("bad_field", with("time", 1_767_225_600_000_000_i64.into())),
        Bad::new("bad_field", with("time", 1_767_225_600_000_000_000_i64.into())),
        Bad::new("bad_field", with("time", "yesterday".into())),
        Bad::new("bad_field", with("time", "2026-02-30T00:00:00Z".into())),
        Bad::new("bad_field", with("time", true.into())),
        Bad::new("bad_field", with("time", json!([1_767_225_600_000_i64]))),
        Bad::new("bad_field", with("kind", "completion".into())),
        Bad::new("bad_field", with("kind", 1.into())),
        Bad::new("bad_field", with("model", json!(["gpt-4o"]))),
        Bad::new("bad_field", with("environment", json!({ "name": "production" }))),
        Bad::new("bad_field", with("environment", "e".repeat(201).into())),
        Bad::new("bad_field", with("stage", json!([]))),
        Bad::new("bad_field", with("latency_ms", "fast".into())),
        Bad::new("bad_field", with("latency_ms", (-1).into())),
        Bad::new("bad_field", with("latency_ms", json!({ "total": 12 }))),
        Bad::new("bad_field", with("latency_ms", (1_u64 << 40).into())),
        Bad::new("bad_field", with("usage", json!([1, 2]))),
        Bad::new("bad_field", with("usage", json!({ "input_tokens": "many" }))),
        Bad::new("bad_field", with("cost_usd", "$0.01".into())),
        Bad::new("bad_field", with("status_code", 42.into())),
        Bad::new("bad_field", with("status_code", "OK".into())),
        Bad::new("bad_field", with("served_by", "openai".into())),
        Bad::new("bad_field", with("attempts", json!({ "model": "gpt-4o" }))),
        Bad::new("bad_field", with("attempts", json!([1]))),
        Bad::new("bad_field", with("properties", json!(["tenant"]))),
        // Other senders' shapes, with what makes them recognisable.
        Bad::new("unsupported_format", r#"{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"spans":[{"name":"chat gpt-4o"}]}]}]}"#),
        Bad::new("unsupported_format", r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#),
        Bad::new(
            "unsupported_format",
            r#"{"id":"chatcmpl-1","trace_id":"t","call_type":"acompletion","status":"success","model":"gpt-4o","model_id":"x","startTime":1767225600.1,
            "endTime":1767225601.3,"completionStartTime":1767225600.9,"response_cost":0.01,"total_tokens":30,"metadata":{},"messages":[],"response":{}}"#,
        ),
        Bad::new(
            "unsupported_format",
            r#"{"providerRequest":{"url":"u","json":{}},"providerResponse":{"status":200,"json":{}},"timing":{"startTime":{}}}"#,
        ),
        Bad::new(
            "unsupported_format",
            r#"{"batch":[{"id":"e","type":"generation-create","timestamp":"2026-01-01T00:00:00Z","body":{}}],"metadata":{}}"#,
        ),
    ];
    // A log that was cut anywhere.
    bad.extend((1..text.len()).step_by(7).map(|length| Bad::new("not_json", text[..length].to_owned())));
    bad
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_malformed_log_is_counted_and_kept_though_the_engine_is_killed_twice() {
    const GOOD: u64 = 20_000;
    const BAD: usize = 500;
    let seed = 11;
    let kinds = by_hand();
    eprintln!("seed {seed}, {} kinds of malformed logs", kinds.len());
    assert!(kinds.len() < BAD, "each kind comes at least once");

    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let setup = Setup::new(&nats);
    let (mut tally, mut sent) = (Tally::default(), Vec::with_capacity(BAD));
    let traffic = Traffic { seed, calls_per_second: 200.0, late: 0.02, ..Traffic::default() };
    let mut calls = traffic.calls();
    for third in 1..=3 {
        while publishing.flush().await < (GOOD + BAD as u64) * third / 3 {
            for _ in 0..GOOD / BAD as u64 {
                let call = calls.next().expect("traffic has no end");
                tally.add(&call.truth);
                publishing.send(call.json).await;
            }
            let bad = &kinds[sent.len() % kinds.len()];
            sent.push((publishing.send(bad.payload.clone()).await, bad));
        }
        let published = publishing.flush().await;
        let engine = setup.start().await;
        let status = engine.until("what is published", Duration::from_secs(60), |status| status["received"].as_u64() >= Some(published)).await;
        assert_eq!((&status["received"], &status["counted"]), (&published.into(), &tally.total().operations.into()));
        assert_eq!((&status["late"], &status["missed"], &status["balances"]), (&0.into(), &0.into(), &true.into()));
        assert_eq!(status["malformed_by"], by_reason(sent.iter().map(|(_, bad)| *bad)));
        if third < 3 {
            engine.kill().await;
        } else {
            assert_counts(&engine, &tally).await;
            assert!(engine.terminate().await.success());
        }
        assert_letters(&letters(&nats).await, &sent);
    }
    assert_eq!((sent.len(), tally.total().operations), (BAD, GOOD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sixty_fifth_environment_is_malformed_and_the_others_go_on() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let log = |id: u64, environment: u64| {
        json!({ "id": id, "time": 1_767_225_600_000 + id, "model": "m", "environment": format!("environment-{environment}") }).to_string()
    };
    let setup = Setup::new(&nats);
    let (mut counted, mut sent) = (0, Vec::new());
    // A malformed log names no environment, whatever stands in it.
    sent.push((publishing.send(r#"{"environment":"environment-0"}"#).await, Bad::new("missing_field", r#"{"environment":"environment-0"}"#)));
    // Twice: before and after a kill it is the same sixty-four.
    for round in 0..2 {
        for environment in (0..66).chain([64, 0, 63]) {
            let payload = log(round * 100 + environment, environment);
            let sequence = publishing.send(payload.clone()).await;
            if environment < 64 {
                counted += 1;
            } else {
                sent.push((sequence, Bad::new("too_many_environments", payload)));
            }
        }
        let published = publishing.flush().await;
        let engine = setup.start().await;
        let status = engine.until("what is published", Duration::from_secs(60), |status| status["received"].as_u64() >= Some(published)).await;
        assert_eq!((&status["counted"], &status["balances"]), (&counted.into(), &true.into()), "{status:#}");
        assert_eq!(status["malformed_by"], by_reason(sent.iter().map(|(_, bad)| bad)));
        assert_eq!(status["environments"].as_object().map(serde_json::Map::len), Some(64));
        engine.kill().await;
        assert_letters(&letters(&nats).await, &sent.iter().map(|(sequence, bad)| (*sequence, bad)).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_log_too_large_for_a_letter_is_kept_as_far_as_it_fits() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let most = nats.client().await.server_info().max_payload;
    // As large as the server takes: with the letter's headers it is larger.
    let payload = "x".repeat(most);
    publishing.send(payload.clone()).await;
    publishing.send(r#"{"id":"a","time":1767225600000,"model":"m"}"#).await;
    publishing.flush().await;
    let engine = Setup::new(&nats).start().await;
    let status = engine.until("both", Duration::from_secs(60), |status| status["received"] == 2).await;
    assert_eq!((&status["counted"], &status["malformed_by"]), (&1.into(), &json!({ "not_json": 1 })));
    engine.kill().await;
    let letters = letters(&nats).await;
    assert_eq!((letters.len(), letters[0].cut_from), (1, Some(most)));
    let kept = letters[0].payload.len();
    assert!(kept >= most - 4096 && payload.as_bytes().starts_with(&letters[0].payload), "{kept} bytes are kept");
}
