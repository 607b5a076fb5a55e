//! Datasets that rules keep calls for: the right ones, as they were logged, each once, whatever happens to the process.

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
