//! A small change in one of many groups, through a real stream: who is told of, and since when.

use crate::engine::Setup;
use crate::nats::Nats;
use crate::publishing::Publishing;
use fixtures::{Effect, Incident, Rates, Scope, Traffic};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const MINUTE_MS: i64 = 60_000;

/// Extractions of sixty-four groups, fifty a second in all; after an hour 3 % of the answers of one group are no JSON, for 0.2 %. In its first hours the
/// engine does not know yet how much hours differ, and a rise to 1 % takes it more than two; with a day behind it, `machine/tests/incidents.rs`.
#[tokio::test]
async fn a_rise_in_one_of_sixty_four_groups_is_told_of_through_nats() {
    let start_ms = Traffic::default().start_ms;
    let from_ms = start_ms + 60 * MINUTE_MS;
    let scope = Scope { stage: Some("extraction".into()), provider: Some("anthropic".into()), model: Some("claude-haiku-4-5-ft3".into()) };
    let seed = 11;
    let quiet = Rates {
        truncated: 0.0,
        refused: 0.0,
        empty: 0.0,
        content_filtered: 0.0,
        tool_calls: 0.0,
        unlogged: 0.0,
        invalid_json: 0.002,
        ..Rates::default()
    };
    let incident = Incident { from_ms, to_ms: i64::MAX, scope, effect: Effect::InvalidJson(0.03) };
    // Extractions are a third of the logs or so.
    let traffic = Traffic { seed, calls_per_second: 200.0, base: quiet, incidents: vec![incident], variants: 8, ..Traffic::default() };
    let nats = Nats::start().await;
    let engine = Setup::new(&nats).set("rules.library", r#"["invalid-json-rate"]"#).start().await;
    let mut publishing = Publishing::new(&nats).await;
    let mut sent = 0u64;
    let extractions = traffic.calls().take_while(|call| call.time_ms < from_ms + 60 * MINUTE_MS).filter(|call| call.truth.stage == "extraction");
    for call in extractions {
        publishing.send(call.json).await;
        sent += 1;
    }
    publishing.flush().await;
    engine.until("every log", PATIENCE, |status| status["received"].as_u64() >= Some(sent) && status["lag"] == 0).await;
    let answer = engine.json("/api/v1/alerts").await;
    let fired: Vec<&Value> = answer["alerts"].as_array().expect("alerts").iter().filter(|alert| alert["state"] == "firing").collect();
    let groups: Vec<_> = fired.iter().map(|alert| (alert["group"]["model"].as_str(), alert["group"]["stage"].as_str())).collect();
    assert_eq!(groups, [(Some("claude-haiku-4-5-ft3"), Some("extraction"))], "seed {seed}, {sent} logs: {answer:#}");
    let drift = &fired[0]["watches"]["value"]["drift"];
    let minutes = |time: &Value| {
        let time: model::Timestamp = serde_json::from_value(time.clone()).expect("RFC 3339");
        (time.millis() - from_ms) as f64 / MINUTE_MS as f64
    };
    let (since, told) = (minutes(&drift["since"]), minutes(&fired[0]["began"]));
    eprintln!("seed {seed}: {sent} logs; told {told:.1} minutes after the change, which it dates {since:+.1} minutes off");
    assert!(since.abs() < 10.0 && told > 0.0, "seed {seed}: since {since:+.1}, told {told:.1} minutes after the change");
}
