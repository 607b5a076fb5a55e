//! The HTTP interface: what it answers to whom asks well, and what it says to whom does not.

use crate::counts::{measure, signal};
use crate::engine::{Answer, Engine, Setup, answer, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// Milliseconds since the epoch, at the start of a tick some `ago` before now, so that a test knows which calls share a tick.
fn tick_before(ago: Duration) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let millis = i64::try_from((now - ago).as_millis()).expect("before the year 292278994");
    millis - millis % 10_000
}

const MINUTE: Duration = Duration::from_secs(60);

/// Publishes the logs and waits until they are counted.
async fn count(publishing: &mut Publishing, engine: &Engine, logs: impl IntoIterator<Item = Value>) {
    for log in logs {
        publishing.send(log.to_string()).await;
    }
    let published = publishing.flush().await;
    engine.until("all to be counted", MINUTE, |status| status["counted"].as_u64() >= Some(published)).await;
}

/// A question that is refused: its status, detail and hint; the answer must be `application/problem+json`.
async fn refused(engine: &Engine, path: &str) -> (u16, String, String) {
    let Answer { status, body, .. } = answer_of(engine, path, "application/problem+json").await;
    let problem: Value = serde_json::from_str(&body).expect("a problem is JSON");
    assert_eq!((&problem["status"], &problem["type"]), (&status.into(), &"about:blank".into()), "{path}");
    assert!(problem["title"].is_string(), "{path}");
    let text = |name: &str| problem[name].as_str().unwrap_or_else(|| panic!("{path} without {name}: {body}")).to_owned();
    (status, text("detail"), text("hint"))
}

async fn answer_of(engine: &Engine, path: &str, media: &str) -> Answer {
    let answer = answer(&engine.http, path).await.expect("the engine answers");
    assert_eq!(answer.header("content-type").split(';').next(), Some(media), "{path}: {}", answer.body);
    answer
}

/// Numbers of the series, as group → what is asked for.
async fn values(engine: &Engine, query: &str, of: &str) -> BTreeMap<String, Value> {
    let answer = engine.json(&format!("/api/v1/series?{query}")).await;
    let groups = answer["groups"].as_array().expect("groups");
    groups.iter().map(|group| (group["group"].to_string(), group[of].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_status_and_metrics_say_where_every_log_went() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).set("rules.library", r#"["retry-rate"]"#).rule("own.rhai", FAILING).start().await;
    let at = tick_before(10 * MINUTE);
    let log = |id: i64| json!({ "id": id, "time": at + id, "model": "m", "user_id": "user-4711", "event_id": "event-4711", "environment": "a \"quoted\" \\ name\nof two lines" });
    publishing.send("{").await;
    // A time ahead of the server's is counted, and said.
    publishing.send(json!({ "id": "future", "time": at + 86_400_000, "model": "m" }).to_string()).await;
    for id in 0..50 {
        publishing.send(log(id).to_string()).await;
    }
    publishing.flush().await;
    let status = engine.until("all to be read", MINUTE, |status| status["received"] == 52).await;

    assert_eq!(engine.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(
        engine.json("/readyz").await,
        json!({ "ready": true, "source": true, "store": true, "engine": true, "degraded": false, "slack": null })
    );

    for (name, value) in [
        ("received", 52),
        ("counted", 51),
        ("malformed", 1),
        ("joined", 0),
        ("in_window", 51),
        ("late", 0),
        ("future", 1),
        ("missed", 0),
        ("overflowed", 0),
        ("position", 52),
        ("lag", 0),
    ] {
        assert_eq!(status[name], value, "{name} of {status:#}");
    }
    assert_eq!((&status["balances"], &status["malformed_by"]), (&true.into(), &json!({ "not_json": 1 })));
    assert_eq!(status["script_failures"], json!({ "own": 51 }));
    assert_eq!(status["rules"], json!(["own", "retry-rate"]));
    assert_eq!(status["environments"].as_object().map(serde_json::Map::len), Some(2));
    assert!(status["slack"].as_str().is_some_and(|slack| slack.contains("SLACK_BOT_TOKEN")), "{status:#}");

    let answer = answer_of(&engine, "/metrics", "text/plain").await;
    assert!(answer.header("content-type").contains("version=0.0.4"));
    let samples = prometheus(&answer.body);
    for (sample, value) in [
        ("streamgauge_received_total", 52.0),
        ("streamgauge_counted_total", 51.0),
        (r#"streamgauge_malformed_total{reason="not_json"}"#, 1.0),
        (r#"streamgauge_malformed_total{reason="not_utf8"}"#, 0.0),
        ("streamgauge_in_window_total", 51.0),
        ("streamgauge_late_total", 0.0),
        ("streamgauge_future_total", 1.0),
        ("streamgauge_missed_total", 0.0),
        ("streamgauge_joined_total", 0.0),
        ("streamgauge_stream_position", 52.0),
        (r#"streamgauge_rule_failures_total{rule="own",on="call"}"#, 51.0),
        (r#"streamgauge_alerts_firing{rule="own"}"#, 0.0),
        (r#"streamgauge_groups{environment="default"}"#, 1.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample} in {samples:#?}");
    }
    assert!(!answer.body.contains("4711"), "a user's name or an event's stands in the metrics");
    for name in
        ["streamgauge_resident_memory_bytes", "streamgauge_stage_seconds_count{stage=\"fold\"}", "streamgauge_stage_seconds_count{stage=\"read\"}"]
    {
        assert!(samples.get(name) > Some(&0.0), "{name} in {samples:#?}");
    }
    let exported: BTreeSet<_> = answer.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for (file, text) in [
        ("streamgauge.json", include_str!("../../../deploy/grafana/streamgauge.json")),
        ("alerts.yaml", include_str!("../../../deploy/grafana/alerts.yaml")),
    ] {
        let named = metrics_in(text);
        assert!(named.len() > 8, "{file} names {named:?}");
        for name in named {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).filter(|family| exported.contains(family));
            assert!(exported.contains(name) || family.is_some(), "{file} names {name}, which is not exported");
        }
    }
}

/// Names of our metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let name = |(at, _): (usize, &str)| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len())]
    };
    text.match_indices("streamgauge_").map(name).collect()
}

/// A script that fails on every call: it costs its own signal and nothing else.
const FAILING: &str = r#"
rule(#{ name: "own", watch: rate("odd", "1m").expect(0.0, 0.5) });
fn signals(log) { if log.model != () { throw "it always fails" } #{ odd: false } }
"#;

/// Samples by name and labels, of a page in Prometheus' text format that must be well formed.
fn prometheus(page: &str) -> BTreeMap<String, f64> {
    let name_is_legal = |name: &str| name.starts_with("streamgauge_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let (mut helped, mut kinds, mut samples) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let mut family = "";
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(helped.insert(name) && !help.is_empty(), "a second or an empty HELP: {line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(matches!(kind, "counter" | "gauge" | "histogram") && kinds.insert(name, kind).is_none(), "{line}");
            assert!(helped.contains(name) && name_is_legal(name), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = name;
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let name = sample.split('{').next().unwrap_or_default();
            let of_histogram = || ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)) == Some(family);
            assert!(name == family && kinds[family] != "histogram" || of_histogram(), "samples of a family stand below its TYPE: {line}");
            let labels = sample[name.len()..].strip_prefix('{').map(|rest| rest.strip_suffix('}').unwrap_or_else(|| panic!("open: {line}")));
            for key in labels.map(keys).unwrap_or_default() {
                assert!(!matches!(key.as_str(), "user_id" | "user" | "event_id" | "id"), "{line}");
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(value >= 0.0 && samples.insert(sample.to_owned(), value).is_none(), "twice, or below zero: {line}");
        }
    }
    samples
}

/// The keys of `key="value",…`, where values escape quotes, backslashes and line feeds.
fn keys(mut labels: &str) -> Vec<String> {
    let mut keys = Vec::new();
    while !labels.is_empty() {
        let (key, rest) = labels.split_once("=\"").expect("key=\"value\"");
        keys.push(key.to_owned());
        let mut end = 0;
        let bytes = rest.as_bytes();
        while bytes[end] != b'"' {
            if bytes[end] == b'\\' {
                assert!(matches!(bytes[end + 1], b'\\' | b'"' | b'n'), "an escape that is none: {rest}");
                end += 1;
            }
            end += 1;
        }
        labels = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_grouped_filtered_and_cut_at_their_window_in_every_environment() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    let now = tick_before(MINUTE);
    let mut id = 0;
    let mut log = |ago: i64, environment: &str, labels: Value, status: u16| {
        id += 1;
        let mut log = json!({ "id": id, "time": now - ago, "environment": environment, "kind": "retrieval", "status_code": status });
        labels.as_object().into_iter().flatten().for_each(|(key, value)| log[key] = value.clone());
        log
    };
    let (extraction, synthesis) =
        (json!({ "stage": "extraction", "provider": "p1", "model": "m1" }), json!({ "stage": "synthesis", "provider": "p2" }));
    let logs = vec![
        // Six minutes and four hours back: outside the default window. By now they are sealed, and read from the store.
        log(14_400_000, "production", extraction.clone(), 500),
        log(360_000, "production", extraction.clone(), 500),
        log(60_000, "production", extraction.clone(), 500),
        log(0, "production", extraction.clone(), 200),
        log(0, "production", synthesis.clone(), 200),
        log(0, "production", json!({}), 503),
        log(0, "test", extraction.clone(), 200),
        // Every environment has a clock of its own.
        log(86_400_000, "yesterday", extraction, 500),
    ];
    count(&mut publishing, &engine, logs).await;

    let answer = engine.json("/api/v1/series?signal=error").await;
    assert_eq!(answer["window"], "5m");
    let group = |environment: &str| answer["groups"].as_array().expect("groups").iter().find(|group| group["group"]["environment"] == environment);
    let production = group("production").expect("production has calls");
    assert_eq!((&production["numerator"], &production["denominator"], &production["value"]), (&2.into(), &4.into(), &0.5.into()));
    let (low, high) = (production["low"].as_f64().expect("a number"), production["high"].as_f64().expect("a number"));
    // Wilson's interval of 2 of 4.
    assert!((low - 0.15).abs() < 0.001 && (high - 0.85).abs() < 0.001, "{low} to {high}");
    assert_eq!(group("test").expect("test has calls")["value"], 0.0);
    assert_eq!(group("yesterday").expect("its window reaches back from its own clock")["numerator"], 1);
    assert!(answer["environments"]["production"]["clock"].is_string() && answer["environments"]["production"]["from"].is_string());

    let denominators = |query: &'static str| values(&engine, query, "denominator");
    for (query, expected) in [
        ("signal=error&where=environment%3Dtest", json!({ r#"{"environment":"test"}"#: 1 })),
        ("signal=error&where=environment=nowhere", json!({})),
        ("signal=error&where=environment=production&window=10m", json!({ r#"{"environment":"production"}"#: 5 })),
        ("signal=error&where=environment=production&window=7d", json!({ r#"{"environment":"production"}"#: 6 })),
        ("signal=error&where=environment=production,stage=extraction", json!({ r#"{"environment":"production"}"#: 2 })),
        ("signal=error&where=environment=production&where=stage=extraction&where=model=m1", json!({ r#"{"environment":"production"}"#: 2 })),
        // What has no stage can be asked for.
        ("signal=error&where=environment=production,stage=", json!({ r#"{"environment":"production"}"#: 1 })),
        (
            "signal=error&where=environment=production&group_by=environment,stage",
            json!({
                r#"{"environment":"production","stage":null}"#: 1,
                r#"{"environment":"production","stage":"extraction"}"#: 2,
                r#"{"environment":"production","stage":"synthesis"}"#: 1,
            }),
        ),
        (
            "signal=error&where=environment=production,provider=p2&group_by=model,%20provider",
            json!({ r#"{"environment":"production","model":null,"provider":"p2"}"#: 1 }),
        ),
    ] {
        assert_eq!(json!(denominators(query).await), expected, "{query}");
    }
    // A signal that nothing here could show has no value, and is no zero.
    assert_eq!(json!(values(&engine, "signal=truncated&where=environment=test", "value").await), json!({ r#"{"environment":"test"}"#: null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_are_within_a_percent_and_measures_come_in_their_units() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    let seed = 5;
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    // From a millisecond to twenty minutes, as many of each order of magnitude.
    let latencies: Vec<u64> = (0..5_000).map(|_| (f64::from(rng.u32(..1 << 20)) * 1e-5).exp2().mul_add(1.0, rng.f64()) as u64 * 3 + 1).collect();
    let start = tick_before(10 * MINUTE);
    let log = |(id, latency): (usize, &u64)| {
        json!({ "id": id, "time": start + id as i64, "model": "m", "latency_ms": latency, "ttft_ms": latency / 3, "cost_usd": *latency as f64 / 1e6,
            "usage": { "input_tokens": id, "output_tokens": 7 } })
    };
    count(&mut publishing, &engine, latencies.iter().enumerate().map(log)).await;

    let one = |answer: Value| answer["groups"][0].clone();
    for (name, unit, divided) in [("latency_ms", 1.0, 1), ("ttft_ms", 1.0, 3), ("cost_usd", 1e-6, 1)] {
        let got = one(engine.json(&format!("/api/v1/series?measure={name}&window=1h")).await);
        let mut exact: Vec<f64> = latencies.iter().map(|latency| (latency / divided) as f64 * unit).collect();
        exact.sort_by(f64::total_cmp);
        let number = |key: &str| got[key].as_f64().unwrap_or_else(|| panic!("{key} of {name}: {got}"));
        for (key, q) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
            let wanted = exact[(q * exact.len() as f64).ceil() as usize - 1];
            let off = (number(key) - wanted).abs();
            assert!(off <= wanted * 0.01, "seed {seed}: {key} of {name} is {}, exactly {wanted}", number(key));
        }
        let sum: f64 = exact.iter().sum();
        let close = |a: f64, b: f64| (a - b).abs() <= b * 1e-9;
        assert_eq!(got["count"], latencies.len());
        assert!(
            close(number("sum"), sum) && close(number("mean"), sum / exact.len() as f64) && close(number("max"), exact[exact.len() - 1]),
            "{got}"
        );
    }
    let output = one(engine.json("/api/v1/series?measure=output_tokens&window=1h").await);
    let all = |name: &str, value: f64| assert_eq!(output[name].as_f64(), Some(value), "{name} of {output}");
    ["p50", "p99", "max", "mean"].into_iter().for_each(|name| all(name, 7.0));
    all("sum", 7.0 * latencies.len() as f64);
    // Nobody said anything of attempts.
    let attempts = one(engine.json("/api/v1/series?measure=attempts&window=1h").await);
    assert_eq!((&attempts["count"], &attempts["p99"], &attempts["mean"], &attempts["max"]), (&0.into(), &Value::Null, &Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_kept_where_a_rule_watches_them_and_are_said_to_be_runs() {
    const RUNS: &str = r#"rule(#{ name: "runs", watch: #{ slow: quantile("run_latency_ms", 0.95, "5m"), failed: rate("run_error", "5m") },
        applies: #{ service: "chat" }, group_by: ["user_id"] });"#;
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).set("rules.library", "[]").rule("runs.rhai", RUNS).start().await;
    let now = tick_before(3 * MINUTE);
    let mut id = 0;
    let mut log = |after: i64, run: &str, service: &str, latency_ms: u64, status: u16| {
        id += 1;
        json!({ "id": id, "time": now + after, "kind": "retrieval", "event_id": run, "service": service, "user_id": "u", "latency_ms": latency_ms,
            "status_code": status })
    };
    let logs = vec![
        log(2_000, "a", "chat", 2_000, 200),
        log(5_000, "a", "chat", 1_000, 500),
        log(5_000, "b", "chat", 500, 200),
        log(5_000, "c", "import", 500, 500),
        log(5_000, "", "chat", 500, 500),
        // Those above are over by then, and this one is not.
        log(60_000, "d", "chat", 500, 200),
    ];
    count(&mut publishing, &engine, logs).await;
    // The clock follows elapsed time, so a run may close on its own while this test is slow.
    let of = |answer: &Value, name: &str| answer["groups"][0][name].as_u64().unwrap_or_else(|| panic!("no {name} in {answer:#}"));
    let latency = engine.json("/api/v1/series?measure=run_latency_ms&window=1h&where=service=chat&group_by=user_id").await;
    assert_eq!(latency["groups"][0]["group"], json!({ "environment": "default", "user_id": "u" }));
    assert!((2..=3).contains(&of(&latency, "count")) && latency["groups"][0]["max"] == 5_000.0, "{latency:#}");
    let failed = engine.json("/api/v1/series?signal=run_error&window=1h&where=service=chat").await;
    assert!(of(&failed, "numerator") == 1 && (2..=3).contains(&of(&failed, "denominator")), "{failed:#}");
    let (status, detail, hint) = refused(&engine, "/api/v1/series?signal=run_error").await;
    assert_eq!((status, detail.as_str()), (404, "this combination of series and keys is not kept"));
    assert!(hint.contains("; run_error, run_latency_ms by environment, user_id where service=chat; "), "{hint}");

    let explained = engine.json("/api/v1/explain?rule=runs").await;
    assert_eq!(explained["watches"][0]["of_what"], "runs", "{explained:#}");
    let samples = prometheus(&answer_of(&engine, "/metrics", "text/plain").await.body);
    assert_eq!(samples.get("streamgauge_run_calls_unmeasured_total"), Some(&0.0));
    assert!(samples.get(r#"streamgauge_open_runs{environment="default"}"#).is_some_and(|open| *open <= 1.0), "{samples:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_an_answer_is_told_why_and_how_to_ask() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    count(&mut publishing, &engine, [json!({ "id": "a", "time": tick_before(MINUTE), "model": "m" })]).await;
    let all = "error, retry, fallback, rate_limited, timeout, overloaded, content_filtered, truncated, refused, invalid_json, fenced_json, \
        schema_invalid, empty, slow, tool_arguments_invalid, latency_ms, ttft_ms, input_tokens, output_tokens, cost_usd, attempts by environment, stage, provider, model";
    let kept = format!("kept: {all}; a rule that watches it makes it kept");
    let not_kept = "this combination of series and keys is not kept";
    for (query, status, detail, hint) in [
        ("signal=error&window=5x", 400, "cannot read the window `5x`", "write it like 30s, 5m, 1h30m or 7d"),
        ("signal=error&window=0s", 400, "cannot read the window `0s`", "write it like 30s, 5m, 1h30m or 7d"),
        ("signal=error&window=", 400, "cannot read the window ``", "write it like 30s, 5m, 1h30m or 7d"),
        (
            "measure=latency",
            400,
            "unknown measure `latency`",
            "known: latency_ms, ttft_ms, input_tokens, output_tokens, cost_usd, attempts, run_latency_ms, run_cost_usd, run_calls",
        ),
        ("signal=error&limit=5", 400, "unknown parameter `limit`", "known: signal, measure, window, group_by, where"),
        ("signal=error&where=stage", 400, "cannot read `stage`", "write where=key=value"),
        ("", 400, "name a signal or a measure", "for example /api/v1/series?signal=fallback&window=5m&group_by=stage"),
        ("signal=error&measure=latency_ms", 400, "more than one signal or measure is asked for", "ask for each by itself"),
        ("signal=error&signal=retry", 400, "more than one signal or measure is asked for", "ask for each by itself"),
        ("signal=eror", 404, not_kept, &kept),
        ("signal=error&group_by=user_id", 404, not_kept, &kept),
        ("signal=error&where=tenant=acme", 404, not_kept, &kept),
    ] {
        assert_eq!(refused(&engine, &format!("/api/v1/series?{query}")).await, (status, detail.to_owned(), hint.to_owned()), "{query}");
    }
    assert_eq!(refused(&engine, "/api/v2/series").await, (404, "no such page".to_owned(), "see / for what there is".to_owned()));
}

/// Fires from the second tick with more errors than there may be.
const ERRORS: &str = r#"
// Calls fail.
rule(#{ name: "errors", severity: "critical", watch: rate("error", "10s").expect(0.0, 0.05).at_least(10), group_by: ["environment", "stage", "model"],
        hold: "10s", keep_firing: "0s", runbook: "https://runbooks.example/errors" });
fn check(w) { if w.value.low > 0.05 { fire(`error rate ${percent(w.value.value)} is above the expected 0 % to 5 %`) } }
"#;

/// Twenty calls in the tick that begins at `tick`, all of them failed or none.
fn calls(tick: i64, fail: bool, labels: &Value) -> Vec<Value> {
    let log = |id: i64| {
        let mut log = json!({ "id": format!("{tick}-{id}"), "time": tick + id, "status_code": if fail { 500 } else { 200 } });
        labels.as_object().into_iter().flatten().for_each(|(key, value)| log[key] = value.clone());
        log
    };
    (0..20).map(log).collect()
}

/// Asks for the alerts until `enough` says so.
async fn alerts_until(engine: &Engine, what: &str, patience: Duration, enough: impl Fn(&Value) -> bool) -> Value {
    until(what, patience, || engine.json("/api/v1/alerts"), enough).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_pending_then_firing_and_then_history() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).set("rules.library", "[]").rule("errors.rhai", ERRORS).start().await;
    let mut announced = nats.client().await.subscribe("streamgauge.alerts.>").await.expect("a subscription");
    let tick = |number: i64| tick_before(20 * MINUTE) + number * 10_000;
    let begin = tick(0);
    let tick = |number: i64| begin + number * 10_000;
    let (labels, of) =
        (json!({ "environment": "production", "stage": "synthesis", "model": "gpt-4o" }), |alerts: &Value| alerts["alerts"][0].clone());
    assert_eq!(engine.json("/api/v1/alerts").await, json!({ "alerts": [], "history": [] }));

    // The second tick's calls close the first.
    count(&mut publishing, &engine, calls(tick(0), true, &labels).into_iter().chain(calls(tick(1), true, &labels))).await;
    let pending = of(&alerts_until(&engine, "a pending alert", MINUTE, |alerts| alerts["alerts"][0]["state"] == "pending").await);
    assert_eq!(
        (&pending["rule"], &pending["severity"], &pending["group"], &pending["firing_since"]),
        (&"errors".into(), &"critical".into(), &labels, &Value::Null)
    );

    count(&mut publishing, &engine, calls(tick(2), true, &labels)).await;
    let alerts = alerts_until(&engine, "the alert to fire", MINUTE, |alerts| alerts["alerts"][0]["state"] == "firing").await;
    let firing = of(&alerts);
    let time = |value: &Value| value.as_str().and_then(model::Timestamp::parse).map(model::Timestamp::millis);
    assert_eq!((time(&firing["began"]), time(&firing["firing_since"])), (Some(tick(1)), Some(tick(2))));
    assert_eq!((&firing["id"], &firing["summary"]), (&pending["id"], &"error rate 100 % is above the expected 0 % to 5 %".into()));
    assert_eq!((&firing["watches"]["value"]["calls"], &firing["watches"]["value"]["value"]), (&20.into(), &1.0.into()), "{firing:#}");
    assert!(firing["examples"].as_array().is_some_and(|examples| !examples.is_empty() && examples.iter().all(Value::is_u64)), "{firing:#}");

    count(&mut publishing, &engine, calls(tick(3), false, &labels).into_iter().chain(calls(tick(4), false, &labels))).await;
    let ended =
        alerts_until(&engine, "the alert to end", MINUTE, |alerts| alerts["alerts"] == json!([]) && alerts["history"][0]["state"] == "resolved")
            .await;
    let history = ended["history"].as_array().expect("the history");
    assert_eq!(history.len(), 1, "an alert is one entry of the history: {ended:#}");
    let told = &history[0]["notification"];
    assert_eq!(
        (&told["alert_id"], &told["reason"], &told["rule"], &told["environment"]),
        (&firing["id"], &"resolved".into(), &"errors".into(), &"production".into())
    );
    assert_eq!((&told["worst"]["value"], &told["runbook"]), (&1.0.into(), &"https://runbooks.example/errors".into()));

    // Machines hear of both, on a subject that says what it is about.
    for reason in ["fired", "resolved"] {
        let next = tokio::time::timeout(MINUTE, futures_util::StreamExt::next(&mut announced)).await;
        let message = next.expect("it comes within a minute").expect("the subscription goes on");
        let body: Value = serde_json::from_slice(&message.payload).expect("a notification is JSON");
        assert_eq!((message.subject.as_str(), &body["reason"]), ("streamgauge.alerts.production.errors", &reason.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_run_our_script_alone_and_show_what_senders_write_as_text() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).set("rules.library", "[]").rule("errors.rhai", ERRORS).start().await;
    let empty = answer_of(&engine, "/", "text/html").await;
    assert!(empty.body.contains("No calls yet") && empty.body.contains("Nothing is worse than expected"), "{}", empty.body);

    let hostile = json!({ "environment": "<img src=x>", "stage": "<script>alert(1)</script>", "model": "'\" onload=alert(2) x='" });
    // Over the end of a minute: a chart has a point a minute, and a line needs two.
    let begin = tick_before(20 * MINUTE) / 60_000 * 60_000 + 40_000;
    let logs = (0..4).flat_map(|number| calls(begin + number * 10_000, true, &hostile));
    count(&mut publishing, &engine, logs).await;
    alerts_until(&engine, "the alert to fire", MINUTE, |alerts| alerts["alerts"][0]["state"] == "firing").await;

    let Answer { status, body, head } = answer_of(&engine, "/", "text/html").await;
    assert_eq!(status, 200);
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("a policy");
    assert!(policy.contains("default-src 'none'; style-src 'self'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert!(body.contains("errors</a> <small>firing · critical</small>"), "{body}");
    for text in ["&lt;img src=x&gt;", "&lt;script&gt;alert(1)&lt;/script&gt;", "&#39;&quot; onload=alert(2) x=&#39;", "error rate 100 %"] {
        assert!(body.contains(text), "{text} in {body}");
    }
    // Nothing of it became a tag or an attribute, on any page.
    let alert = engine.json("/api/v1/alerts").await["alerts"][0]["id"].as_str().expect("an id").to_owned();
    let (of_alert, of_incident) = (format!("/alerts/{alert}"), format!("/incidents/i{alert}"));
    until("its incident", MINUTE, async || engine.get(&of_incident).await.0, |status| *status == 200).await;
    let shows_text = async || {
        for path in ["/", &of_alert, &of_incident, "/rules", "/rules/errors", "/evaluators", "/status"] {
            let Answer { status, body, .. } = answer_of(&engine, path, "text/html").await;
            assert_eq!(status, 200, "{path}: {body}");
            let tags: Vec<_> = body.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()).collect();
            let ours = |tag: &&str| *tag == "script src='/script.js' defer" || *tag == "/script";
            let bad = |tag: &&str| tag.starts_with("script") || tag.starts_with("img") || tag.contains("onload=") || tag.contains("style=");
            assert!(tags.iter().all(|tag| ours(tag) || !bad(tag)), "{path}: {body}");
            assert_eq!(body.matches("<h1").count(), 1, "{path}");
            for part in ["<html lang=en>", "<main id=main", "<nav aria-label=Pages>", "<title>"] {
                assert!(body.contains(part), "{part} of {path}");
            }
        }
    };
    shows_text().await;
    let page = answer_of(&engine, &of_alert, "text/html").await.body;
    for part in ["<svg viewBox", "class=\"value\"", "error rate over", "Who was told", "Calls that show it"] {
        assert!(page.contains(part), "{part} of {page}");
    }

    // Once it has ended, its incident is in the list of the ended, as text too.
    let logs = (4..7).flat_map(|number| calls(begin + number * 10_000, false, &hostile));
    count(&mut publishing, &engine, logs).await;
    alerts_until(&engine, "the alert to end", MINUTE, |alerts| alerts["history"][0]["state"] == "resolved").await;
    shows_text().await;
    let listed = |body: &String| body.split_once("Ended</h2>").is_some_and(|(_, ended)| ended.contains(&of_incident));
    until("its incident to be among the ended", MINUTE, async || answer_of(&engine, "/", "text/html").await.body, listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_counts_alike_as_a_native_log_and_as_respans() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    let time = "2026-11-20T09:14:04.377Z";
    let schema = json!({ "type": "json_schema", "json_schema": { "name": "facts", "schema": { "type": "object", "required": ["facts"] } } });
    // What is said of the call natively, and the same in Respan's words.
    let pairs = [
        (json!({ "output": "Bonjour" }), json!({ "output": { "role": "assistant", "content": "Bonjour" } })),
        (
            json!({ "status_code": 429, "error": { "message": "slow down" }, "latency_ms": 120 }),
            json!({ "status_code": 429, "status": "error", "error_message": "slow down", "latency": 0.12 }),
        ),
        (
            json!({ "output": "{\"facts\":[", "finish_reason": "max_tokens", "response_format": schema }),
            json!({ "output": { "role": "assistant", "content": "{\"facts\":[" }, "full_response": { "stop_reason": "max_tokens" }, "response_format": schema }),
        ),
        (
            json!({ "output": "{\"memories\":[]}", "response_format": schema }),
            json!({ "completion_message": { "role": "assistant", "content": "{\"memories\":[]}" }, "response_format": schema }),
        ),
        (json!({ "output": "", "finish_reason": "stop" }), json!({ "output": { "role": "assistant", "content": "" }, "finish_reason": "stop" })),
        (
            json!({ "output": [{ "type": "tool_use", "name": "search", "input": {} }], "response_format": "json" }),
            json!({ "output": { "role": "assistant", "content": null, "tool_calls": [{ "type": "function", "function": { "name": "search", "arguments": "{}" } }] },
                "response_format": { "type": "json_object" } }),
        ),
        (
            json!({ "output": "{}", "attempts": [{ "status_code": 500 }, { "status_code": 200 }] }),
            json!({ "output": { "role": "assistant", "content": "{}" }, "metadata": { "attempt": 2 } }),
        ),
        (
            json!({ "output": null, "refusal": "I cannot help with that." }),
            json!({ "output": { "role": "assistant", "content": null, "refusal": "I cannot help with that." } }),
        ),
        (
            json!({ "output": "x", "latency_ms": 2263, "ttft_ms": 610, "usage": { "input_tokens": 412, "output_tokens": 64 }, "cost_usd": 0.000732 }),
            json!({ "output": "x", "latency": 2.263, "time_to_first_token": 0.61, "usage": { "prompt_tokens": 412, "completion_tokens": 64 }, "cost": 0.000732 }),
        ),
        // Another model answered than the one asked for; Respan does not know which provider was asked.
        (
            json!({ "provider": null, "model": "gpt-4o-mini", "served_by": { "provider": "openai", "model": "claude-haiku-4-5" }, "output": "x" }),
            json!({ "model": "claude-haiku-4-5", "output": "x", "metadata": { "requested_model": "gpt-4o-mini" } }),
        ),
    ];
    for (number, (native, respan)) in pairs.iter().enumerate() {
        let stage = format!("stage-{number}");
        let mut logs = [
            json!({ "id": format!("n{number}"), "time": time, "environment": "native", "stage": stage, "provider": "openai", "model": "gpt-4o" }),
            json!({ "unique_id": format!("r{number}"), "log_type": "chat", "timestamp": time, "environment": "respan", "span_name": stage, "provider_id": "openai", "model": "gpt-4o" }),
        ];
        for (log, more) in logs.iter_mut().zip([native, respan]) {
            more.as_object().into_iter().flatten().for_each(|(key, value)| log[key] = value.clone());
            publishing.send(log.to_string()).await;
        }
    }
    let published = publishing.flush().await;
    let status = engine.until("all to be read", MINUTE, |status| status["received"] == published).await;
    assert_eq!(status["counted"], published, "{status:#}");

    let group_by = ["stage", "provider", "model"];
    let mut held = BTreeSet::new();
    for signal in model::Signal::ALL {
        let groups = signal_of(&engine, signal.name(), &group_by).await;
        assert_eq!(groups[0], groups[1], "{}", signal.name());
        held.extend(groups[0].values().any(|(numerator, _)| *numerator > 0).then_some(signal.name()));
    }
    let shown = ["empty", "error", "fallback", "invalid_json", "rate_limited", "refused", "retry", "schema_invalid", "truncated"];
    assert_eq!(held.into_iter().collect::<Vec<_>>(), shown, "the pairs show these signals");
    for name in model::Measure::ALL {
        let scale = if name == model::Measure::CostUsd { 1e9 } else { 1.0 };
        let groups = by_environment(measure(&engine, name.name(), &group_by, scale).await);
        assert_eq!(groups[0], groups[1], "{}", name.name());
        assert!(groups[0].values().any(|sum| sum.count > 0), "no pair has {}", name.name());
    }
}

async fn signal_of(engine: &Engine, name: &str, group_by: &[&str]) -> [BTreeMap<Vec<String>, (u64, u64)>; 2] {
    by_environment(signal(engine, name, group_by).await)
}

/// Groups of the environments `native` and `respan`, without it.
fn by_environment<T>(groups: BTreeMap<Vec<String>, T>) -> [BTreeMap<Vec<String>, T>; 2] {
    let (native, respan): (BTreeMap<_, _>, BTreeMap<_, _>) = groups.into_iter().partition(|(group, _)| group[0] == "native");
    [native, respan].map(|groups| groups.into_iter().map(|(group, value)| (group[1..].to_vec(), value)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_close_by_elapsed_time_and_an_alert_stays_when_its_traffic_stops() {
    const RULE: &str = r#"rule(#{ name: "errors", watch: rate("error", "10s").expect(0.0, 0.05).at_least(10), group_by: ["environment"] });"#;
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).set("rules.library", "[]").set("windows.slice", "1s").rule("errors.rhai", RULE).start().await;
    let patience = Duration::from_secs(60);
    // The tick before this one's: nothing but time can close it. It may end while this is published, and all stays as it is.
    let tick = tick_before(Duration::ZERO);
    count(&mut publishing, &engine, calls(tick, true, &json!({ "environment": "production", "model": "m" }))).await;
    let firing = alerts_until(&engine, "the alert to fire", patience, |alerts| alerts["alerts"][0]["state"] == "firing").await;
    let time = |value: &Value| value.as_str().and_then(model::Timestamp::parse).map(model::Timestamp::millis);
    assert_eq!(time(&firing["alerts"][0]["firing_since"]), Some(tick + 10_000));
    assert_eq!(engine.status().await["received"], 20, "no further call came");

    // By then the window holds nothing of it: nothing is known, so nothing changes.
    let clock = |status: &Value| time(&status["environments"]["production"]["clock"]);
    engine.until("two more ticks to close", patience, |status| clock(status) >= Some(tick + 30_000)).await;
    let still = engine.json("/api/v1/alerts").await;
    assert_eq!((&still["alerts"][0]["id"], &still["alerts"][0]["state"]), (&firing["alerts"][0]["id"], &"firing".into()), "{still:#}");
    let page = engine.get("/").await.1;
    assert!(page.contains("errors</a> <small>firing"), "{page}");
}
