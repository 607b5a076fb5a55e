//! The shipped rules on generated traffic, without a server: each fires on its incident, for the right group, ends after it, stays silent in
//! low traffic, and raises few false alarms on healthy days. The same inspection and the same machine as in production, hours in milliseconds.

use bytes::Bytes;
use fixtures::{Effect, Incident, Rates, Scope, Traffic};
use machine::{Input, Notification, Reason};
use model::plan::{Plan, Windows};
use model::{FalseAlarms, Timestamp};
use std::sync::Arc;
use streamgauge::inspect::Inspector;
use streamgauge::replay::Replay;
use streamgauge::source::Envelope;

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// Before an incident: groups learn by themselves from their third hour on.
const QUIET_MS: i64 = 4 * HOUR_MS;

/// Everything that the shipped rules say about `hours` of `traffic`.
fn notifications(traffic: &Traffic, hours: i64) -> Vec<Notification> {
    let rules = rules::load(&rules::library(&["basics".to_owned()]).expect("the pack is shipped"), &rules::Configured::default()).rules;
    let plan = Plan::new(Windows::default(), FalseAlarms::default(), rules.specs());
    let evaluators = evaluators::Evaluators::new(Vec::new(), Vec::new()).expect("nothing to refuse");
    let mut replay = Replay::new(Arc::new(Inspector::new(plan, rules, evaluators)));
    let mut told = Vec::new();
    let end = traffic.start_ms + hours * HOUR_MS;
    let mut calls = traffic.calls().take_while(|call| call.time_ms < end).zip(1u64..).peekable();
    while calls.peek().is_some() {
        let envelope = |(call, sequence): (fixtures::Generated, u64)| {
            let stamp = Timestamp::from_millis(call.time_ms).expect("generated times are in range");
            Envelope { sequence, stamp, payload: Bytes::from(call.json) }
        };
        let batch: Vec<_> = calls.by_ref().take(1000).map(envelope).collect();
        let fold = replay.fold(&batch).fold;
        replay.apply(Input::Folded(fold), &mut told);
    }
    told
}

fn healthy(seed: u64, calls_per_second: f64) -> Traffic {
    let base = Rates { truncated: 0.0005, refused: 0.0005, empty: 0.0002, invalid_json: 0.001, ..Rates::default() };
    Traffic { seed, calls_per_second, base, ..Traffic::default() }
}

fn broken(traffic: &Traffic, stage: &str, effect: Effect) -> Traffic {
    let (from_ms, to_ms) = (traffic.start_ms + QUIET_MS, traffic.start_ms + QUIET_MS + 20 * MINUTE_MS);
    let scope = Scope { stage: Some(stage.into()), provider: Some("anthropic".into()), model: Some("claude-haiku-4-5".into()) };
    Traffic { incidents: vec![Incident { from_ms, to_ms, scope, effect }], ..traffic.clone() }
}

#[test]
fn each_shipped_rule_fires_on_its_incident_for_the_right_group_and_ends_after_it() {
    let model = |stage| vec![stage, "anthropic", "claude-haiku-4-5"];
    for (rule, stage, effect, group, beside) in [
        // An attempt more is time more.
        ("fallback-rate", "extraction", Effect::Fallback(0.9), vec!["extraction"], "latency"),
        ("retry-rate", "extraction", Effect::Retry(0.9), vec!["anthropic", "claude-haiku-4-5"], "latency"),
        ("invalid-json-rate", "extraction", Effect::InvalidJson(0.3), model("extraction"), ""),
        ("errors", "extraction", Effect::Error(0.3), model("extraction"), ""),
        // Where answers were to be JSON, these are no JSON either, and that is told, too.
        ("truncation", "synthesis", Effect::Truncated(0.3), model("synthesis"), ""),
        ("refusals", "synthesis", Effect::Refused(0.3), model("synthesis"), ""),
        ("empty-answers", "synthesis", Effect::Empty(0.3), model("synthesis"), ""),
        ("latency", "synthesis", Effect::Slow(3.0), model("synthesis"), ""),
    ] {
        let seed = 11;
        let traffic = broken(&healthy(seed, 20.0), stage, effect);
        let mut told = notifications(&traffic, 6);
        told.retain(|notification| notification.rule != beside);
        let said: Vec<_> =
            told.iter().map(|n| (n.rule.as_str(), n.reason, n.group.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>())).collect();
        assert_eq!(said, [(rule, Reason::Fired, group.clone()), (rule, Reason::Resolved, group)], "seed {seed}");
        let minutes = |at: Timestamp| (at.millis() - traffic.start_ms - QUIET_MS) / MINUTE_MS;
        assert!((0..10).contains(&minutes(told[0].at)), "{rule} fired {} minutes after the first bad call, seed {seed}", minutes(told[0].at));
        assert!((20..32).contains(&minutes(told[1].at)), "{rule} ended {} minutes after the first bad call, seed {seed}", minutes(told[1].at));
        // Calls are named for signals alone.
        assert!(rule == "latency" || !told[0].examples.is_empty(), "{rule} names calls that show the trouble");
    }
}

/// Eleven rules over some thirty groups and their roll-ups, from the first call on.
#[test]
fn healthy_days_stay_within_the_budget_of_one_false_alarm_a_day() {
    let seeds = [1, 2, 3];
    let told: Vec<_> = seeds.iter().flat_map(|seed| notifications(&healthy(*seed, 5.0), 24)).collect();
    let fired = told.iter().filter(|notification| notification.reason == Reason::Fired).count();
    eprintln!("{fired} false alarms in three days, seeds {seeds:?}");
    assert!(fired <= 3, "{fired} false alarms with seeds {seeds:?}: {told:#?}");
}

#[test]
fn the_shipped_rules_are_silent_in_traffic_too_low_to_say_anything() {
    let seed = 5;
    assert_eq!(notifications(&broken(&healthy(seed, 0.2), "extraction", Effect::InvalidJson(0.5)), 6), [], "seed {seed}");
}
