//! Datasets that rules keep calls for: the right ones, as they were logged, each once, whatever happens to the process and whatever is in them.

use crate::engine::{Setup, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

const RULE: &str = r#"
    rule(#{ name: "hard", watch: #{ broken: rate("invalid_json", "5m"), none: rate("no_facts", "5m") }, applies: #{ stage: "extraction" }, keep: "hard-cases" });
    fn signals(log) { #{ no_facts: log.json?.facts?.len() == 0 } }
"#;

fn log(id: u64, stage: &str, output: &str) -> Value {
    json!({ "id": format!("c{id}"), "time": 1_767_225_600_000_u64 + id, "model": "m", "stage": stage, "environment": "production", "response_format": "json",
        "output": output, "user_id": "ann@example.com" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_keeps_the_calls_that_show_its_signals_each_once_across_kills() {
    let nats = Nats::start().await;
    let jetstream = jetstream::new(nats.client().await);
    let config = stream::Config { name: "DATASETS".into(), subjects: vec!["streamgauge.datasets.>".into()], ..stream::Config::default() };
    let datasets = jetstream.create_stream(config).await.expect("a stream of datasets");
    let setup = Setup::new(&nats).rule("hard.rhai", RULE).set("redact.patterns", r#"["email"]"#);
    let mut publishing = Publishing::new(&nats).await;
    let mut expected = BTreeMap::new();
    for round in 0..3_u64 {
        let engine = setup.start().await;
        for number in 0..200 {
            let id = round * 1_000 + number;
            let (stage, output) = match number % 4 {
                0 => ("extraction", r#"{"facts":["a"]}"#),
                1 => ("extraction", r#"{"facts":"#),
                2 => ("extraction", r#"{"facts":[]}"#),
                _ => ("synthesis", "{"),
            };
            let sequence = publishing.send(log(id, stage, output).to_string()).await;
            if matches!(number % 4, 1 | 2) {
                expected.insert(sequence, (id, output));
            }
        }
        let logs = publishing.flush().await;
        engine.until("all to be counted", PATIENCE, |status| status["position"].as_u64() >= Some(logs)).await;
        let kept = || async { datasets.get_info().await.expect("the stream").state.messages };
        until("all to be kept", PATIENCE, kept, |messages| *messages >= expected.len() as u64).await;
        if round < 2 {
            engine.kill().await;
        } else {
            let status = engine.status().await;
            let tally = &status["datasets"]["hard-cases"];
            assert!(tally["published"].as_u64() >= Some(100) && tally["over"] == 0 && tally["missed"] == 0, "{status}");
            let (_, metrics) = engine.get("/metrics").await;
            assert!(metrics.contains("streamgauge_kept_calls_total{dataset=\"hard-cases\",outcome=\"published\"}"), "{metrics}");
            assert!(engine.terminate().await.success());
        }
    }
    let consumer = datasets.create_consumer(jetstream::consumer::pull::OrderedConfig::default()).await.expect("a reader");
    let messages = consumer.messages().await.expect("messages").take(expected.len());
    let found: Vec<_> = tokio::time::timeout(PATIENCE, messages.collect()).await.expect("as many as were kept");
    assert_eq!(datasets.get_info().await.expect("the stream").state.messages, expected.len() as u64, "each is there once");
    for message in found {
        let message = message.expect("a message");
        let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string).expect("a header");
        assert_eq!((message.subject.as_str(), header("Streamgauge-Environment").as_str()), ("streamgauge.datasets.hard-cases", "production"));
        let (id, output) = expected.remove(&header("Streamgauge-Sequence").parse().expect("a number")).expect("a call that was to be kept, once");
        let payload: Value = serde_json::from_slice(&message.payload).expect("the log");
        let mut logged = log(id, "extraction", output);
        logged["user_id"] = json!("[email]");
        assert_eq!(payload, logged, "as it was logged, without what is redacted");
    }
    assert!(expected.is_empty(), "{expected:?}");
}

/// Half of a surrogate pair is what JavaScript makes of a text that it cuts, and JSON has numbers and levels without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_odd_json_is_kept_and_shown_without_what_is_redacted() {
    let nats = Nats::start().await;
    let mut datasets = nats.client().await.subscribe("streamgauge.datasets.>").await.expect("a subscription");
    let setup = Setup::new(&nats).rule("hard.rhai", RULE).set("redact.patterns", r#"["email"]"#);
    let mut publishing = Publishing::new(&nats).await;
    let engine = setup.start().await;
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let odd = [r#""cut \ud83d""#, "1e999", &deep];
    for (id, odd) in (0..).zip(odd) {
        let plain = log(id, "extraction", "{").to_string();
        publishing.send(plain.replacen('{', &format!(r#"{{"odd":{odd},"input":"I am ann\u0040example.com","#), 1)).await;
    }
    let logs = publishing.flush().await;
    let expected = [json!("cut \u{fffd}\u{fffd}\u{fffd}"), json!("1e999")];
    for at in 0..odd.len() {
        let message = tokio::time::timeout(PATIENCE, datasets.next()).await.expect("each is kept").expect("a message");
        let kept: Value = serde_json::from_slice(&message.payload).expect("everyone can read it");
        assert_eq!((&kept["input"], &kept["user_id"]), (&json!("I am [email]"), &json!("[email]")), "{kept}");
        assert!(expected.get(at).is_none_or(|expected| kept["odd"] == *expected), "{kept}");
    }
    engine.until("all to be found", PATIENCE, |status| status["index"]["position"].as_u64() >= Some(logs)).await;
    for sequence in 1..=logs {
        let (_, call) = engine.get(&format!("/api/v1/calls/{sequence}")).await;
        let call: Value = serde_json::from_str(&call).expect("JSON");
        assert_eq!((&call["payload_is"], &call["payload"]["input"]), (&json!("here"), &json!("I am [email]")), "{call}");
    }
    let out = setup.path("odd.jsonl");
    let exported = setup.run(&["export", "--out", &out.display().to_string()]).await;
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let exported = std::fs::read_to_string(out).expect("the file");
    assert_eq!((exported.matches("I am [email]").count(), exported.contains("example.com")), (odd.len(), false), "{exported}");
    assert!(engine.terminate().await.success());
}

#[tokio::test]
async fn a_rule_that_cannot_say_which_calls_to_keep_is_refused() {
    let nats = Nats::start().await;
    for (text, says) in [
        (r#"rule(#{ name: "a", watch: volume("5m"), keep: "x" });"#, "nothing says which calls to keep: no watch is of a signal of single calls"),
        (r#"rule(#{ name: "a", watch: rate("error", "5m"), keep: "a.b" });"#, "keep is the name of a dataset: letters, digits, - and _, at most 64"),
    ] {
        let checked = Setup::new(&nats).rule("a.rhai", text).run(&["check"]).await;
        let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(checked.status.code() == Some(1) && said.contains(says), "{said}");
    }
}
