//! What calls tell beyond their sums: why an alert fires, whom it hits, and what everything costs.

use crate::engine::{Engine, Setup, get, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use fixtures::{Effect, Incident, Scope, Traffic};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const MINUTE_MS: i64 = 60_000;

async fn whole(engine: &Engine, logs: u64) -> Value {
    let enough = |status: &Value| status["position"].as_u64() >= Some(logs) && status["index"]["behind"] == 0;
    engine.until("every call to be found", PATIENCE, enough).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_says_what_its_bad_calls_have_in_common_whom_it_hits_and_what_they_cost() {
    let nats = Nats::start().await;
    let errors = r#"rule(#{ name: "errors", watch: rate("error", "2m").expect(0.0, 0.05).at_least(50) });"#;
    let volume = r#"rule(#{ name: "volume", watch: volume("1m").expect(0, 1) });"#;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("errors.rhai", errors).rule("volume.rhai", volume);
    let engine = setup.start().await;
    let start_ms = Traffic::default().start_ms;
    let broken = Incident {
        from_ms: start_ms + 40 * MINUTE_MS,
        to_ms: start_ms + 90 * MINUTE_MS,
        scope: Scope { provider: Some("google".into()), ..Scope::default() },
        effect: Effect::Error(0.5),
    };
    let traffic = Traffic { seed: 3, calls_per_second: 12.0, incidents: vec![broken], ..Traffic::default() };
    let mut publishing = Publishing::new(&nats).await;
    let (mut bad, mut all, mut costs) = (0, 0, BTreeMap::<String, u64>::new());
    for generated in traffic.calls().take_while(|call| call.time_ms < start_ms + 60 * MINUTE_MS) {
        let log: Value = serde_json::from_slice(&generated.json).expect("the generator writes JSON");
        let nanos = log["cost_usd"].as_f64().map_or(0, |cost| (cost * 1e9).round() as u64);
        *costs.entry(log["user_id"].as_str().unwrap_or_default().to_owned()).or_default() += nanos;
        all += 1;
        bad += u64::from(log["status_code"].as_u64() >= Some(400) && generated.time_ms >= start_ms + 40 * MINUTE_MS);
        publishing.send(generated.json).await;
    }
    publishing.flush().await;
    whole(&engine, all).await;

    let alerts = engine.json("/api/v1/alerts").await;
    let of = |rule: &str| {
        let found = alerts["alerts"].as_array().into_iter().flatten().find(|alert| alert["rule"] == rule && alert["state"] == "firing");
        found.unwrap_or_else(|| panic!("no alert of {rule}: {alerts:#}"))["id"].as_str().expect("an id").to_owned()
    };
    let why = engine.json(&format!("/api/v1/alerts/{}/why", of("errors"))).await;
    let lines: Vec<_> = why["lines"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(lines.first().is_some_and(|line| line.starts_with("Most likely cause: provider google (")), "{why:#}");
    assert_eq!((&why["bad_query"], &why["calls_query"]), (&json!("environment:production signal:error"), &json!("environment:production")));
    // Its beginning is an estimate, so a few calls before or after may count.
    let hit = why["bad"].as_u64().expect("a number");
    assert!(hit.abs_diff(bad) * 10 < bad, "{hit} of the planted {bad}: {why:#}");
    assert!(why["users"].as_u64() > Some(10) && why["runs"].as_u64() > Some(10) && why["top_users"].as_array().is_some_and(|top| top.len() == 10));
    let shown = setup.run(&["why", &of("errors")]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("Most likely cause: provider google") && shown.contains("streamgauge search 'environment:production signal:error'"),
        "{shown}"
    );

    // A volume is no property of a call.
    let (status, body) = get(&engine.http, &format!("/api/v1/alerts/{}/why", of("volume"))).await.expect("an answer");
    assert!(status == 404 && body.contains("single calls do not tell why"), "{status} {body}");
    let (status, body) = get(&engine.http, "/api/v1/alerts/none/why").await.expect("an answer");
    assert!(status == 404 && body.contains("there is no alert none"), "{status} {body}");

    // To the nano-dollar, by user and altogether.
    let table = engine.json("/api/v1/costs?by=user_id&window=24h&limit=1000").await;
    let rows = table["rows"].as_array().expect("rows");
    let nanos = |line: &Value| line["cost_nano_usd"].as_str().and_then(|text| text.parse::<u64>().ok()).expect("nano-dollars");
    let found: BTreeMap<String, u64> = rows.iter().map(|row| (row["labels"][0].as_str().expect("a label").to_owned(), nanos(row))).collect();
    assert_eq!(found, costs);
    assert_eq!((nanos(&table["total"]), table["total"]["calls"].as_u64()), (costs.values().sum(), Some(all)));
    let largest = costs.values().max().expect("there are users");
    assert_eq!(nanos(&rows[0]), *largest, "the largest comes first");
    let by_two = engine.json("/api/v1/costs?by=stage,model&where=provider:google&window=30m&limit=2").await;
    assert_eq!((by_two["by"].clone(), by_two["rows"].as_array().map(Vec::len)), (json!(["stage", "model"]), Some(2)));
    let parts = by_two["rows"].as_array().into_iter().flatten().chain([&by_two["other"]]).map(nanos).sum::<u64>();
    assert_eq!(parts, nanos(&by_two["total"]), "parts add up");
    let (status, body) = get(&engine.http, "/api/v1/costs?by=latency_ms").await.expect("an answer");
    assert!(status == 400 && body.contains("calls are not summed by `latency_ms`"), "{status} {body}");
    let shown = setup.run(&["costs", "--by", "model", "--window", "2h"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.starts_with("model") && shown.contains("total") && shown.contains("beside as long before"), "{shown}");
    let page = engine.get("/costs").await;
    assert!(page.0 == 200 && page.1.contains("Running hot") && page.1.contains(rows[0]["labels"][0].as_str().expect("a label")), "{page:?}");
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hits_all_of_a_group_alike_is_called_so_everywhere() {
    let nats = Nats::start().await;
    let errors = r#"rule(#{ name: "errors", watch: rate("error", "2m").expect(0.0, 0.05).at_least(50), group_by: ["model"] });"#;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("errors.rhai", errors);
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    let start = 1_767_225_600_000_i64;
    for (second, model) in (0..1800).flat_map(|second| ["a", "b", "c"].map(|model| (second, model))) {
        let broken = model == "a" && second >= 1200 && second % 2 == 0;
        let log = json!({ "id": format!("{model}-{second}"), "time": start + second * 1000, "environment": "production", "model": model,
            "status_code": if broken || second % 200 == 7 { 500 } else { 200 } });
        publishing.send(log.to_string()).await;
    }
    publishing.flush().await;
    whole(&engine, 5400).await;
    let alerts = engine.json("/api/v1/alerts").await;
    let id = alerts["alerts"][0]["id"].as_str().unwrap_or_else(|| panic!("an alert: {alerts:#}")).to_owned();
    let asked = async || engine.json(&format!("/api/v1/alerts/{id}/why")).await;
    let why = until("every bad call", PATIENCE, asked, |why| why["bad"].as_u64() >= Some(300)).await;
    assert_eq!((&why["lines"], &why["across"]["silence"]), (&json!([]), &json!("fleet")), "{why:#}");
    let alike = "All of this group is hit alike: ";
    assert!(why["unexplained"].as_str().is_some_and(|said| said.starts_with(alike)), "{why:#}");
    let shown = setup.run(&["why", &id]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.starts_with(alike), "{shown}");
    let (_, page) = engine.get(&format!("/alerts/{id}")).await;
    assert!(page.contains(&format!("<h2 id=why-title>Why</h2><p>{alike}")), "{page}");
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_share_of_the_cost_grows_is_said_to_run_hot() {
    let nats = Nats::start().await;
    let engine = Setup::new(&nats).start().await;
    let mut publishing = Publishing::new(&nats).await;
    // Two hours: twenty users alike, and in the second hour one of them makes as many calls as all others.
    let start = 1_767_225_600_000_u64;
    let mut sent = 0;
    for minute in 0..120_u64 {
        for user in 0..20 {
            let times = if user == 7 && minute >= 60 { 20 } else { 1 };
            for call in 0..times {
                let log = json!({ "id": format!("{minute}-{user}-{call}"), "time": start + minute * 60_000 + call, "model": "m",
                    "user_id": format!("u{user}"), "cost_usd": 0.01, "environment": "production" });
                publishing.send(log.to_string()).await;
                sent += 1;
            }
        }
    }
    publishing.flush().await;
    whole(&engine, sent).await;
    let table = engine.json("/api/v1/costs?window=1h").await;
    let hot = table["hot"].as_array().expect("a list");
    assert_eq!(hot.len(), 1, "{table:#}");
    assert_eq!((&hot[0]["user_id"], &hot[0]["cost_usd"], &hot[0]["before_usd"]), (&json!("u7"), &json!(12.0), &json!(0.6)));
    assert!(hot[0]["share"].as_f64() > Some(0.5) && hot[0]["share_before"] == json!(0.05), "{hot:?}");
    let some = engine.json("/api/v1/costs?window=1h&where=model:m").await;
    assert_eq!(some["hot"], json!([]), "of what is selected it is not known");
    let page = engine.get("/costs?window=1h").await.1;
    let link = "/search?where=environment%3Aproduction+user_id%3Au7&amp;since=2026-01-01T01%3A00%3A00Z&amp;until=2026-01-01T02%3A00%3A00Z";
    assert!(page.contains(link), "{page}");

    // An hour begins, and a sixth of its first twelve calls is more than three times a twentieth: by chance.
    for call in 0..12 {
        let log = json!({ "id": format!("120-{call}"), "time": start + 120 * 60_000 + call, "model": "m", "user_id": format!("u{}", call / 2),
            "cost_usd": 0.01, "environment": "production" });
        publishing.send(log.to_string()).await;
    }
    publishing.flush().await;
    whole(&engine, sent + 12).await;
    let table = engine.json("/api/v1/costs?window=1h").await;
    assert_eq!(table["hot"], json!([]), "{table:#}");
    assert!(engine.terminate().await.success());
}
