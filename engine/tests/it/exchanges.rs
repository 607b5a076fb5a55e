//! Recorded exchanges of real providers through the real publisher and the real engine, counted as an independent program counts them.

use crate::counts::{measure, signal};
use crate::engine::Setup;
use crate::nats::Nats;
use crate::recordings::recording;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Counts by what is counted and of whom: `("truncated of", "openai gpt-4o")`.
type Counted = BTreeMap<(String, String), u64>;

#[tokio::test(flavor = "multi_thread")]
async fn recorded_exchanges_are_counted_as_an_independent_program_counts_them() {
    let Some(file) = recording("provider_exchanges/exchanges.ndjson.gz") else { return };
    let file = file.to_str().expect("a path in UTF-8");
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let engine = setup.start().await;

    let published = publish(&setup, file, "").await;
    let status = engine.until("all to be counted", Duration::from_secs(60), |status| status["received"].as_u64() >= Some(published)).await;
    assert_eq!((&status["counted"], &status["malformed"], &status["missed"], &status["late"]), (&published.into(), &0.into(), &0.into(), &0.into()));
    assert_eq!(status["balances"], true);

    let theirs = independently(file);
    let mut ours = Counted::new();
    for name in
        ["error", "truncated", "refused", "invalid_json", "empty", "content_filtered", "rate_limited", "schema_invalid", "tool_arguments_invalid"]
    {
        for (group, (numerator, denominator)) in signal(&engine, name, &["provider", "model"]).await {
            let of = group[1..].join(" ");
            ours.insert((name.to_owned(), of.clone()), numerator);
            ours.insert((format!("{name} of"), of), denominator);
        }
    }
    for name in ["input_tokens", "output_tokens"] {
        for (group, sum) in measure(&engine, name, &["provider", "model"], 1.0).await {
            let of = group[1..].join(" ");
            ours.insert((name.to_owned(), of.clone()), sum.sum);
            ours.insert((format!("{name} count"), of), sum.count);
        }
    }
    // The independent program knows no schemas; that there are answers to judge by them is known.
    let by_schema = |name: &str| name.starts_with("schema_invalid") || name.starts_with("tool_arguments_invalid");
    let (schemas, ours): (Counted, Counted) = ours.into_iter().partition(|((name, _), _)| by_schema(name));
    let sum = |name: &str| schemas.iter().filter(|((counted, _), _)| counted == name).map(|(_, count)| count).sum::<u64>();
    let (judged, tools) = (sum("schema_invalid of"), sum("tool_arguments_invalid of"));
    assert!(judged > 0 && tools > 100, "{judged} answers were judged by their schema, {tools} by those of their tools");

    // A count of zero may be left out on either side.
    let differing: Vec<_> = ours
        .keys()
        .chain(theirs.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|key| (key, ours.get(key).copied().unwrap_or(0), theirs.get(key).copied().unwrap_or(0)))
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|((name, of), ours, theirs)| format!("{name} {of}: {ours} here, {theirs} there"))
        .collect();
    assert!(differing.is_empty(), "{} counts differ: {differing:#?}", differing.len());
    let operations: u64 = ours.iter().filter(|((name, _), _)| name == "error of").map(|(_, count)| count).sum();
    assert_eq!(operations, published);
    let wrong = (sum("schema_invalid"), sum("tool_arguments_invalid"));
    eprintln!(
        "{} counts agree over {published} calls; of {judged} answers {} violate their schema, of {tools} those of their tools {}",
        ours.len(),
        wrong.0,
        wrong.1
    );

    // The stream knows the ids, so publishing again adds nothing.
    assert_eq!(publish(&setup, file, &format!(" ({published} of them were there already)")).await, published);
    let jetstream = async_nats::jetstream::new(nats.client().await);
    let stream = jetstream.get_stream("LLM_CALLS").await.expect("the stream is there");
    assert_eq!(stream.cached_info().state.last_sequence, published);
    assert_eq!(engine.status().await["received"], published);
    assert!(engine.terminate().await.success());
}

/// Publishes the recording, and returns how many calls the command says it published; `remark` is what it adds to that.
async fn publish(setup: &Setup, file: &str, remark: &str) -> u64 {
    let output = setup.run(&["publish", "--from", "exchanges", file]).await;
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_default();
    let published = last.strip_prefix("published ").and_then(|rest| rest.split_once(' ')).and_then(|(count, _)| count.parse().ok());
    let published = published.unwrap_or_else(|| panic!("how many were published? {said}"));
    assert_eq!(last, format!("published {published} to llm.calls.cli{remark}, refused 0"));
    published
}

/// What the independent program counts, under our names.
fn independently(file: &str) -> Counted {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tests/independent_counts.py");
    let ran = std::process::Command::new("python3").arg(program).arg(file).output().expect("python3 runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let counted: Value = serde_json::from_slice(&ran.stdout).expect("it prints one JSON document");
    let names = [
        ("error", "error", "operations"),
        ("rate_limited", "rate_limited", "operations"),
        ("content_filtered", "content_filtered", "operations"),
        ("truncated", "truncated", "answered"),
        ("refused", "refused", "answered"),
        ("invalid_json", "invalid_json", "invalid_json_den"),
        ("empty", "empty", "empty_den"),
    ];
    let mut theirs = Counted::new();
    for (model, counts) in counted["calls"].as_object().expect("calls by model") {
        let count = |name: &str| counts[name].as_u64().unwrap_or(0);
        for (name, numerator, denominator) in names {
            theirs.insert((name.to_owned(), model.clone()), count(numerator));
            theirs.insert((format!("{name} of"), model.clone()), count(denominator));
        }
        for name in ["input_tokens", "output_tokens"] {
            theirs.insert((name.to_owned(), model.clone()), count(name));
            theirs.insert((format!("{name} count"), model.clone()), count(&format!("{name}_count")));
        }
    }
    theirs
}
