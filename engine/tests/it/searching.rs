//! Calls and runs from the command line, and datasets of them: what a person who typed it sees, and what a file that is handed on holds.

use crate::engine::{Engine, Setup, answer, until};
use crate::judge::Judge;
use crate::judging;
use crate::nats::Nats;
use crate::publishing::Publishing;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-01-01.
const BEGIN_MS: u64 = 1_767_225_600_000;

/// What a command said, and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

async fn run(setup: &Setup, args: &[&str]) -> Said {
    let output = setup.run(args).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
}

/// Waits until all that was published is found.
async fn indexed(engine: &Engine, logs: u64) {
    engine.until("the index to have every call", PATIENCE, |status| status["index"]["position"].as_u64() >= Some(logs)).await;
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// A call that logs everything; every tenth is of a rare stage, every third has no input.
fn call(number: u64) -> Value {
    let stage = if number.is_multiple_of(10) { "synthesis" } else { "extraction" };
    let mut call = json!({ "id": format!("call-{number}"), "time": BEGIN_MS + number * 1000, "latency_ms": 100 + number, "event_id": format!("evt-{}", number / 4),
        "environment": "production", "stage": stage, "model": if number.is_multiple_of(2) { "gpt-4o" } else { "gpt-4o-mini" }, "provider": "openai",
        "prompt": { "name": "facts", "version": "3" }, "user_id": "ann@example.com", "cost_usd": 0.001 * number as f64, "status_code": 200,
        "usage": { "input_tokens": 10, "output_tokens": 5 }, "output": format!("answer {number} to ann@example.com") });
    if !number.is_multiple_of(3) {
        call["input"] = json!([{ "role": "user", "content": format!("question {number} of ann@example.com") }]);
    }
    call
}

async fn publish(publishing: &mut Publishing, calls: impl IntoIterator<Item = Value>) -> u64 {
    for call in calls {
        publishing.send(call.to_string()).await;
    }
    publishing.flush().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_is_a_table_that_fits_a_page_and_says_how_to_see_the_next() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    let mut calls: Vec<Value> = (1..=30).map(call).collect();
    calls[6]["status_code"] = json!(503);
    indexed(&engine, publish(&mut publishing, calls).await).await;

    let found = run(&setup, &["search", "stage:extraction user:ann@example.com", "--limit", "5", "--order", "slowest"]).await;
    let shown: Vec<&str> = found.out.lines().collect();
    assert_eq!((found.code, shown.len()), (Some(0), 8), "{}{}", found.out, found.error);
    assert!(shown.iter().all(|line| line.chars().count() <= 100 && !line.contains('\u{1b}')), "{}", found.out);
    assert!(shown[0].starts_with("time UTC ") && shown[0].ends_with("event_id"), "{}", shown[0]);
    for part in ["01-01 00:00:29", "production", "extraction", "gpt-4o-mini", "ok", "129 ms", "$0.029", "ann@example…", "evt-7"] {
        assert!(shown[1].contains(part), "{part} in {}", shown[1]);
    }
    assert_eq!(shown[6], "5 of 27 calls");
    let next = shown[7].strip_prefix("the next page: add --after ").expect("how to go on");
    let further = run(&setup, &["search", "stage:extraction user:ann@example.com", "--limit", "50", "--order", "slowest", "--after", next]).await;
    assert!(
        further.out.contains("124 ms") && !further.out.contains("125 ms") && further.out.ends_with("\n22 calls from here on\n"),
        "{}",
        further.out
    );
    let failed = run(&setup, &["search", "status:5xx"]).await;
    assert!(failed.out.contains("  503 ") && failed.out.contains("\n1 call\n"), "{}", failed.out);
    let none = run(&setup, &["search", "-stage:extraction|synthesis"]).await;
    assert_eq!((none.code, none.out.as_str()), (Some(0), "0 calls\n"), "{}", none.error);
    let mistaken = run(&setup, &["search", "tenent:acme"]).await;
    assert!(mistaken.out.starts_with("note: no call has a property `tenent` (at character 1)"), "{}", mistaken.out);

    let mistaken = run(&setup, &["search", "-signal:retrys", "--limit", "1"]).await;
    let note = "note: no call has a signal `retrys` (at character 1); did you mean `retry`?\n1 of 30 calls\n";
    assert!(mistaken.out.contains(note), "{}", mistaken.out);
    let costs = run(&setup, &["costs", "--by", "usre_id"]).await;
    assert!(costs.out.contains("\nnote: no call has a property `usre_id`; did you mean `user_id`?\n"), "{}", costs.out);

    let json =
        run(&setup, &["search", "--json", "--all", "--order", "oldest", "--since", "2026-01-01T00:00:05Z", "--until", "2026-01-01T00:00:25Z"]).await;
    let ids: Vec<String> = lines(&json.out).iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids, (5..25).map(|number| format!("call-{number}")).collect::<Vec<_>>());
    assert!(json.error.contains("20 calls"), "{}", json.error);

    let wrong = run(&setup, &["search", "stage:extraction latency>fast"]).await;
    assert_eq!(wrong.code, Some(2));
    let expected = "streamgauge: at character 26 of the query: `fast` is no value of `latency`\n  stage:extraction latency>fast\n                           ^\n\
        hint: write 250ms, 2s, 1.5s or 1m; a bare number is milliseconds\n";
    assert_eq!((wrong.out.as_str(), wrong.error.as_str()), ("", expected));
    let wrong = run(&setup, &["search", "--since", "yesterday"]).await;
    assert!(wrong.code == Some(2) && wrong.error.contains("`since` is no time: `yesterday`\nhint: "), "{}", wrong.error);
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_shows_where_a_run_began_to_go_wrong() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = judging::setup(&nats, &judge.url, &[]).set("redact.patterns", r#"["email"]"#);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    let step = |id: &str, stage: &str, end: u64, latency: u64, more: Value| {
        let mut call = json!({ "id": id, "time": BEGIN_MS + end, "latency_ms": latency, "event_id": "run 1/ü", "environment": "production", "stage": stage,
            "model": "gpt-4o", "provider": "openai", "parent_id": if id == "o" { Value::Null } else { json!("o") }, "user_id": "u_1", "cost_usd": 0.001,
            "usage": { "input_tokens": 10, "output_tokens": 5 } });
        more.as_object().into_iter().flatten().for_each(|(name, value)| call[name] = value.clone());
        call
    };
    let error = json!({ "type": "server_error", "message": "asked by ann@example.com", "body": { "trace": ["deep"] } });
    let calls = [
        step("r", "retrieval", 250, 250, json!({ "input": "Where does Ana live?", "output": "done", "retrieved": ["BAD"] })),
        step(
            "e",
            "extraction",
            500,
            250,
            json!({ "served_by": { "provider": "azure", "model": "gpt-4o-mini" }, "attempts": [
            { "provider": "openai", "model": "gpt-4o", "status_code": 503, "latency_ms": 40 },
            { "provider": "azure", "model": "gpt-4o-mini", "status_code": 200, "latency_ms": 60 }] }),
        ),
        step("s", "synthesis", 1000, 500, json!({ "status_code": 500, "error": error, "output": "\u{1b}[2J" })),
        step("o", "orchestration", 1000, 1000, json!({})),
        json!({ "id": "later", "time": BEGIN_MS + 20_000, "model": "m" }),
    ];
    indexed(&engine, publish(&mut publishing, calls).await).await;
    let said = |run: &Value| run["steps"][1]["verdicts"][0]["outcome"] == "fail";
    until("the verdict", PATIENCE, || engine.json("/api/v1/runs/run%201%2F%C3%BC"), said).await;

    let trace = run(&setup, &["trace", "run 1/ü"]).await;
    assert_eq!(trace.code, Some(0), "{}", trace.error);
    let shown: Vec<&str> = trace.out.lines().collect();
    assert_eq!(shown[0], "run 1/ü · production · 2026-01-01 00:00:00 UTC · 1.0 s");
    assert_eq!(shown[1], "4 calls · 1 error · 1 fallback · $0.0040 · 40 + 20 tokens · user u_1");
    assert!(shown.iter().all(|line| line.chars().count() <= 100 && !line.contains('\u{1b}')), "{}", trace.out);
    let at = |what: &str| shown.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in\n{}", trace.out));
    assert!(shown[at("retrieval  ")].starts_with("✗ ├ retrieval") && shown[at("extraction")].starts_with("~ ├ extraction"), "{}", trace.out);
    assert!(shown[at("synthesis")].starts_with("✗ └ synthesis") && shown[at("orchestration")].starts_with("  orchestration"), "{}", trace.out);
    assert_eq!(at("◀ it began here"), at("retrieval  ") + 1);
    assert!(trace.out.matches("it began here").count() == 1 && shown[at("it began here")].contains("judge:retrieval-relevance"), "{}", trace.out);
    assert!(shown[at("judge retrieval-relevance: fail 0.00: ")].contains("what was asked is there, or not"), "{}", trace.out);
    assert!(trace.out.contains("asked openai gpt-4o → served azure gpt-4o-mini"), "{}", trace.out);
    assert!(trace.out.contains("attempts: openai gpt-4o 503 40 ms → azure gpt-4o-mini 200 60 ms"), "{}", trace.out);
    assert!(trace.out.contains("error 500 server_error: asked by [email]") && trace.out.contains("\"trace\": ["), "{}", trace.out);
    // Bars begin where the one before them ends.
    let bar = |what: &str| shown[at(what)].chars().enumerate().filter(|(_, char)| *char == '█').map(|(column, _)| column).collect::<Vec<_>>();
    let (whole, first, last) = (bar("orchestration"), bar("retrieval  "), bar("synthesis"));
    assert!(first.first() == whole.first() && last.last() == whole.last() && first.last() < last.first(), "{}", trace.out);

    let payloads = run(&setup, &["trace", "run 1/ü", "--payloads", "--environment", "production"]).await;
    assert!(payloads.out.contains("\"input\": \"Where does Ana live?\"") && !payloads.out.contains('\u{1b}'), "{}", payloads.out);
    assert!(!payloads.out.contains("ann@example.com"), "{}", payloads.out);
    let json = run(&setup, &["trace", "run 1/ü", "--json", "--payloads"]).await;
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&json["first_bad"], json["payloads"].as_array().map(Vec::len)), (&json!(1), Some(4)));
    let unknown = run(&setup, &["trace", "nothing"]).await;
    assert!(
        unknown.code == Some(2) && unknown.error.contains("there is no call of run nothing in the index\nhint: is the event_id"),
        "{}",
        unknown.error
    );
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_dataset_is_what_matched_redacted_and_its_manifest_says_how_it_came() {
    let nats = Nats::start().await;
    let token = "read-read-read-read";
    let setup = Setup::new(&nats)
        .set("redact.patterns", r#"["email"]"#)
        .set("access.tokens.reader", r#"{ token = { env = "READER" }, may = "read" }"#)
        .env("READER", token);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    let caught_up = async |logs: u64| {
        let ask = async || {
            let headers = format!("Authorization: Bearer {token}\r\n");
            let status = crate::engine::ask(&engine.http, "GET", "/api/v1/status", &headers).await.expect("the engine answers");
            serde_json::from_str::<Value>(&status.body).expect("JSON")
        };
        until("the index to have every call", PATIENCE, ask, |status| status["index"]["position"].as_u64() >= Some(logs)).await;
    };
    // More than a page, so that pages neither repeat nor skip.
    const CALLS: u64 = 2500;
    caught_up(publish(&mut publishing, (1..=CALLS).map(call)).await).await;

    let out = setup.path("facts.jsonl").display().to_string();
    let exported = run(&setup, &["export", "prompt:facts", "--out", &out, "--since", "2026-01-01T00:00:00Z"]).await;
    assert_eq!(exported.code, Some(0), "{}", exported.error);
    assert!(exported.error.contains(&format!("exported 2,500 of 2,500 calls that match to {out}, with {out}.manifest.json")), "{}", exported.error);
    let file = std::fs::read_to_string(&out).expect("the file");
    assert!(!file.contains("ann@example.com"), "redaction applies to payloads and fields");
    let exported = lines(&file);
    let ids: Vec<&str> = exported.iter().map(|line| line["payload"]["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, (1..=CALLS).map(|number| format!("call-{number}")).collect::<Vec<_>>());
    assert_eq!(exported[0]["payload"]["output"], "answer 1 to [email]");
    assert_eq!((&exported[0]["call"]["sequence"], &exported[0]["weight"], exported[0].get("verdicts")), (&json!(1), &json!(1.0), None));
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(format!("{out}.manifest.json")).expect("the manifest")).expect("JSON");
    assert_eq!((&manifest["query"], &manifest["format"], &manifest["lines"]), (&json!("prompt:facts"), &json!("jsonl"), &json!(CALLS)));
    assert_eq!((&manifest["redacted"], &manifest["since"]), (&json!(["email"]), &json!("2026-01-01T00:00:00Z")));
    assert_eq!(manifest["models"], json!({ "gpt-4o": 1250, "gpt-4o-mini": 1250 }));
    assert_eq!(manifest["prompts"], json!([{ "prompt": "facts", "version": "3", "calls": CALLS }]));
    assert_eq!((&manifest["bytes"], &manifest["engine"]["version"]), (&json!(file.len()), &json!(env!("CARGO_PKG_VERSION"))));
    let sum = tokio::process::Command::new("sha256sum").arg(&out).output().await.expect("sha256sum runs");
    assert_eq!(String::from_utf8_lossy(&sum.stdout).split(' ').next(), manifest["sha256"].as_str());
    let again = run(&setup, &["export", "--out", &out]).await;
    assert!(again.code == Some(2) && again.error.contains("is there already\nhint: name another file"), "{}", again.error);

    // The same seed draws the same calls; weights add up to what matched.
    let sample = async |folder: &str, seed: &str| {
        let folder = setup.path(folder).display().to_string() + "/";
        let sampled = run(&setup, &["export", "--sample", "30", "--per", "stage", "--seed", seed, "--out", &folder]).await;
        assert_eq!(sampled.code, Some(0), "{}", sampled.error);
        let files: BTreeMap<bool, String> = std::fs::read_dir(&folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .map(|path| (path.display().to_string().ends_with(".manifest.json"), std::fs::read_to_string(path).expect("a file")))
            .collect();
        (lines(&files[&false]), serde_json::from_str::<Value>(&files[&true]).expect("JSON"))
    };
    let (first, manifest) = sample("first", "7").await;
    assert_eq!((first.len(), sample("second", "7").await.0 == first, sample("third", "8").await.0 == first), (60, true, false));
    let strata = json!([{ "label": "extraction", "calls": 2250, "drawn": 30, "probability": 30.0 / 2250.0, "weight": 75.0 },
        { "label": "synthesis", "calls": 250, "drawn": 30, "probability": 0.12, "weight": 250.0 / 30.0 }]);
    assert_eq!((&manifest["strata"], &manifest["sample"]), (&strata, &json!({ "size": 30, "seed": 7, "per": "stage" })));
    let weights: f64 = first.iter().filter_map(|line| line["weight"].as_f64()).sum();
    assert!((weights - CALLS as f64).abs() < 1e-6, "{weights}");
    let drawn: BTreeSet<u64> = first.iter().filter_map(|line| line["call"]["sequence"].as_u64()).collect();
    assert!(drawn.len() == 60 && drawn.iter().copied().eq(first.iter().filter_map(|line| line["call"]["sequence"].as_u64())), "in order, each once");

    // What would look like an answer and is a mistake is said, and labels are as redacted as the calls.
    let (manifest, said) = {
        let out = setup.path("per-user.jsonl").display().to_string();
        let sampled = run(&setup, &["export", "--sample", "1", "--per", "user_id", "--out", &out]).await;
        (std::fs::read_to_string(out + ".manifest.json").expect("the manifest"), sampled.error)
    };
    assert!(manifest.contains(r#""label": "[email]""#) && !manifest.contains("ann@example.com") && !said.contains("note:"), "{manifest}{said}");
    for (args, note) in [
        (
            &["stagee:synthesis"][..],
            "note: no call has a property `stagee` (at character 1); did you mean `stage`?\nexported 0 of 0 calls that match\n",
        ),
        (
            &["call-1|call-2", "--sample", "1", "--per", "properties.stagee"],
            "note: no call that matches has `stagee`, so all of them are drawn from together; did you mean `stage`?\nexported 1 of 2 calls that match\n",
        ),
    ] {
        let exported = run(&setup, &[&["export"], args].concat()).await;
        assert_eq!((exported.code, exported.error.as_str()), (Some(0), note), "{}", exported.out);
    }
    for command in ["export", "search"] {
        let turned = run(&setup, &[command, "--since", "2h", "--until", "3h"]).await;
        assert!(turned.code == Some(2) && turned.error.contains("which is not before `until`, "), "{command}: {}", turned.error);
    }

    let chats = run(&setup, &["export", "call-1|call-2|call-3", "--format", "openai"]).await;
    assert_eq!(chats.code, Some(0), "{}", chats.error);
    let chat = |number: u64| {
        json!({ "messages": [{ "role": "user", "content": format!("question {number} of [email]") },
            { "role": "assistant", "content": format!("answer {number} to [email]") }] })
    };
    assert_eq!(lines(&chats.out), [chat(1), chat(2)]);
    assert!(chats.error.contains("exported 2 of 3 calls that match\nnot converted: 1 calls: the log has no input"), "{}", chats.error);

    // As the document promises, line by line; and what is there of a call whose payload has gone.
    let stream = async_nats::jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream");
    stream.delete_message(2).await.expect("it is deleted");
    let headers = format!("Authorization: Bearer {token}\r\n");
    let raw = crate::engine::ask(&engine.http, "GET", "/api/v1/export?where=evt-0&verdicts=true", &headers).await.expect("the engine answers");
    assert_eq!((raw.status, raw.header("content-type")), (200, "application/jsonl"), "{}", raw.body);
    let document = streamgauge::http::openapi::document();
    let schema = json!({ "$ref": "#/components/schemas/ExportLine", "components": document["components"] });
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema of the document");
    let raw = lines(&raw.body);
    for line in &raw {
        let errors: Vec<String> = schema.iter_errors(line).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {line:#}");
    }
    assert_eq!((&raw[2]["payload_is"], &raw[2]["payload"], &raw[2]["verdicts"]), (&json!("expired"), &Value::Null, &json!([])));
    assert_eq!(raw[4], json!({ "end": { "calls": 3, "expired": 1, "unreadable": 0 } }));

    // Who exported what is in the audit log, and nobody exports who may not read.
    let audit = crate::engine::ask(&engine.http, "GET", "/api/v1/audit", &headers).await.expect("the engine answers");
    let audit: Vec<Value> = serde_json::from_str(&audit.body).expect("JSON");
    assert_eq!((audit.len(), &audit[0]["who"], &audit[0]["action"]), (9, &json!("reader"), &json!("export")), "{audit:?}");
    assert_eq!(audit[0]["outcome"], "3 calls, 2 of them with their payload");
    let subject = audit[5]["subject"].as_str().expect("a subject");
    assert!(subject.starts_with("every call until ") && subject.ends_with(", a sample of 30 per stage"), "{subject}");
    assert_eq!(answer(&engine.http, "/api/v1/export").await.expect("the engine answers").status, 401);
    for (path, detail) in [
        ("/api/v1/export?where=stage:", "at character 7 of the query: `stage` without a value"),
        ("/api/v1/export?sample=0", "`sample` cannot be 0"),
        ("/api/v1/export?sample=5&per=latency", "calls cannot be drawn by `latency`"),
    ] {
        let refused = crate::engine::ask(&engine.http, "GET", path, &headers).await.expect("the engine answers");
        assert!(refused.status == 400 && refused.body.contains(detail), "{path}: {} {}", refused.status, refused.body);
    }
    assert!(engine.terminate().await.success());
}
