//! Back-tests from outside: the alerts are those of the engine, byte for byte, and what is said about them is true.

use crate::engine::Setup;
use crate::nats::Nats;
use crate::publishing::Publishing;
use fixtures::{Effect, Incident, Rates, Scope, Traffic};
use futures_util::StreamExt;
use serde_json::{Value, value::RawValue};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);
const MINUTE_MS: i64 = 60_000;

/// Four hours of a layer in good health but for two incidents: one model's JSON breaks after an hour, fallbacks begin after two and a half.
fn traffic() -> Traffic {
    let start_ms = Traffic::default().start_ms;
    let base = Rates { truncated: 0.0005, refused: 0.0005, empty: 0.0002, invalid_json: 0.001, ..Rates::default() };
    let incident = |from: i64, effect: Effect, model: Option<&str>| Incident {
        from_ms: start_ms + from * MINUTE_MS,
        to_ms: start_ms + (from + 20) * MINUTE_MS,
        scope: Scope { stage: Some("extraction".into()), provider: Some("anthropic".into()), model: model.map(str::to_owned) },
        effect,
    };
    let incidents = vec![incident(60, Effect::InvalidJson(0.3), Some("claude-haiku-4-5")), incident(150, Effect::Fallback(0.9), None)];
    Traffic { seed: 11, calls_per_second: 20.0, base, incidents, late: 0.02, ..Traffic::default() }
}

fn calls(hours: i64) -> impl Iterator<Item = Vec<u8>> {
    let traffic = traffic();
    let end = traffic.start_ms + hours * 60 * MINUTE_MS;
    traffic.calls().take_while(move |call| call.time_ms < end).map(|call| call.json)
}

/// The first three hours as a file, with two lines that are no calls.
static RECORDED: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("calls.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("the file is made"));
    for (number, call) in calls(3).enumerate() {
        let more: &[&[u8]] = if number == 1000 { &[b"{\"id\":", b"", b"{\"id\":\"x\",\"time\":1767225600000}"] } else { &[] };
        for line in more.iter().copied().chain([&call[..]]) {
            file.write_all(line).and_then(|()| file.write_all(b"\n")).expect("the line is written");
        }
    }
    file.flush().expect("the file is written");
    (folder, path)
});

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    error: String,
}

/// Runs `backtest` in a folder with these files.
fn backtest(files: &[(&str, &str)], args: &[&str]) -> Said {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is made");
        std::fs::write(path, text).expect("the file is written");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
    let output = command.current_dir(folder.path()).arg("backtest").args(args).env_remove("SLACK_BOT_TOKEN").output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), error: text(&output.stderr) }
}

fn recorded() -> &'static str {
    RECORDED.1.to_str().expect("the path is text")
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// The notifications as they were written.
fn notifications(output: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Findings<'o> {
        #[serde(borrow)]
        notifications: Vec<&'o RawValue>,
    }
    let findings: Findings<'_> = serde_json::from_str(output).unwrap_or_else(|error| panic!("{error}: {output}"));
    findings.notifications.into_iter().map(|raw| raw.get().to_owned()).collect()
}

fn gzipped(path: &Path, text: &[u8]) {
    let file = std::fs::File::create(path).expect("the file is made");
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(text).and_then(|()| gzip.finish().map(drop)).expect("it is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_test_tells_byte_for_byte_what_the_engine_told() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let mut told = nats.client().await.subscribe("streamgauge.alerts.>").await.expect("a subscription");
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    let mut file = Vec::new();
    for call in calls(4) {
        file.extend_from_slice(&call);
        file.push(b'\n');
        publishing.send(call).await;
    }
    let sent = publishing.flush().await;
    assert!(sent > 280_000, "{sent} calls");
    engine.until("every log", PATIENCE, |status| status["received"].as_u64() == Some(sent) && status["lag"] == 0).await;

    let streamed = setup.run(&["backtest", "--since", "1h", "--cold", "--json"]).await;
    assert!(streamed.status.success(), "{}", String::from_utf8_lossy(&streamed.stderr));
    let streamed = String::from_utf8_lossy(&streamed.stdout).into_owned();
    let expected = notifications(&streamed);
    assert!(expected.len() >= 4, "two alerts begin and end: {expected:#?}");
    let mut live = Vec::new();
    while live.len() < expected.len() {
        let next = tokio::time::timeout(PATIENCE, told.next()).await.unwrap_or_else(|_| panic!("only {live:#?} was told, not all of {expected:#?}"));
        live.push(String::from_utf8(next.expect("the subscription goes on").payload.to_vec()).expect("it is text"));
    }
    engine.until("nothing left to tell", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    engine.terminate().await;
    assert!(futures_util::FutureExt::now_or_never(told.next()).is_none(), "the engine told more");
    // Messages about different rules take different ways; in each they keep their order.
    let ordered = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(ordered(live), ordered(expected.clone()));

    // The same from a file, whose lines are numbered like the stream's messages.
    let path = setup.path("calls.jsonl.gz");
    gzipped(&path, &file);
    let from_file = setup.run(&["backtest", "--json", "--file", path.to_str().expect("it is text")]).await;
    assert!(from_file.status.success(), "{}", String::from_utf8_lossy(&from_file.stderr));
    assert_eq!(notifications(&String::from_utf8_lossy(&from_file.stdout)), expected);

    let findings: Value = serde_json::from_str(&streamed).expect("it is JSON");
    assert_eq!((&findings["calls"], &findings["start"]["kind"]), (&sent.into(), &"cold".into()));
    let rules: Vec<_> = findings["alerts"].as_array().expect("alerts").iter().map(|alert| alert["rule"].as_str().unwrap_or_default()).collect();
    assert_eq!(rules, ["invalid-json-rate", "fallback-rate"], "{:#}", findings["alerts"]);
    for alert in findings["alerts"].as_array().expect("alerts") {
        let count = |name: &str| alert[name].as_u64().unwrap_or_default();
        assert!(count("bad_calls") >= 20 && count("calls") > count("bad_calls"), "{alert:#}");
        assert!((1..=count("bad_calls")).contains(&count("runs")) && (1..=count("runs")).contains(&count("users")), "{alert:#}");
    }
}

const BROKEN: &str = r#"rule(#{ name: "broken", watch: rate("invalid_json", "5m") });"#;

/// A back-test while the engine runs, over ten minutes of the second day that begin with an incident.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_from_a_days_snapshot_knows_what_a_cold_start_has_yet_to_learn() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("broken.rhai", BROKEN);
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    // Two hours before midnight and five minutes after it; then the incident.
    let midnight = Traffic::default().start_ms + 24 * 60 * MINUTE_MS;
    let begins = midnight + 5 * MINUTE_MS;
    let incident = Incident { from_ms: begins, to_ms: i64::MAX, scope: Scope::default(), effect: Effect::InvalidJson(0.3) };
    let traffic = Traffic { seed: 5, start_ms: midnight - 120 * MINUTE_MS, calls_per_second: 20.0, incidents: vec![incident], ..Traffic::default() };
    let mut calls = traffic.calls().take_while(|call| call.time_ms < begins + 10 * MINUTE_MS).peekable();
    while let Some(call) = calls.next_if(|call| call.time_ms < begins) {
        publishing.send(call.json).await;
    }
    let sent = publishing.flush().await;
    engine.until("a snapshot of the second day", PATIENCE, |status| status["committed"].as_u64() >= Some(sent)).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_millis() as i64;
    let from = model::Timestamp::from_millis(now).expect("it is in range").to_string();
    for call in calls {
        publishing.send(call.json).await;
    }
    let all = publishing.flush().await;

    let run = async |more: &[&str]| {
        let args: Vec<_> = ["backtest", "--json", "--from", &from].into_iter().chain(more.iter().copied()).collect();
        let output = setup.run(&args).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("it is JSON")
    };
    let (learned, cold) = (run(&[]).await, run(&["--cold"]).await);
    assert_eq!((&learned["start"]["kind"], &learned["calls"]), (&"learned".into(), &(all - sent).into()), "{learned:#}");
    assert_eq!((&cold["start"]["kind"], &cold["calls"]), (&"cold".into(), &(all - sent).into()), "{cold:#}");
    let fired = |findings: &Value| findings["alerts"].as_array().map_or(0, Vec::len);
    assert_eq!((fired(&learned), fired(&cold)), (1, 0), "{learned:#}\n{cold:#}");
    assert_eq!(learned["rules"][0]["learned_after_ms"], 0);
    assert!(cold["rules"][0]["learned_after_ms"].as_u64() > Some(0), "{cold:#}");
    // The same rule measured otherwise has nothing to take over.
    let other = setup.path("other.rhai");
    std::fs::write(&other, BROKEN.replace("invalid_json", "truncated")).expect("it is written");
    let other = run(&[other.to_str().expect("it is text")]).await;
    assert_eq!((&other["start"]["kind"], fired(&other)), (&"learned".into(), 0));
    engine.terminate().await;
}

const INVALID_JSON: &str = r#"rule(#{ name: "invalid-json", watch: rate("invalid_json", "5m"), group_by: ["stage", "provider", "model"] });"#;

const HAPPENED: &str = r#"
[[incident]]
name = "broken JSON"
from = 2026-01-01T01:00:00Z
to = 2026-01-01T01:20:00Z
group = { stage = "extraction" }
"#;

const NEVER: &str = r#"
[[incident]]
name = "nothing to see"
from = "2026-01-01T02:00:00Z"
to = "2026-01-01T02:05:00Z"
rule = "invalid-json"
"#;

#[test]
fn incidents_are_hit_missed_or_alarmed_for_falsely_and_ci_can_tell() {
    let judge = |happened: &str, fail: bool| {
        let args = ["rules", "--file", recorded(), "--incidents", "incidents.toml", "--json", "--fail"];
        backtest(&[("rules/a.rhai", INVALID_JSON), ("incidents.toml", happened)], &args[..args.len() - usize::from(!fail)])
    };
    let good = judge(HAPPENED, true);
    let verdict = &json(&good)["incidents"];
    assert_eq!((good.code, &verdict["hits"], &verdict["misses"]), (0, &1.into(), &0.into()), "{good:?}");
    assert_eq!((&verdict["precision"], &verdict["recall"]), (&1.0.into(), &1.0.into()));
    let delay = verdict["incidents"][0]["delay_ms"].as_i64().expect("it was hit");
    assert!((0..10 * MINUTE_MS).contains(&delay), "{delay} ms");

    let missed = judge(&[HAPPENED, NEVER].concat(), true);
    let verdict = &json(&missed)["incidents"];
    assert_eq!((missed.code, &verdict["hits"], &verdict["misses"], &verdict["recall"]), (1, &1.into(), &1.into(), &0.5.into()), "{missed:?}");

    let alarmed = judge(NEVER, false);
    let verdict = &json(&alarmed)["incidents"];
    assert_eq!((alarmed.code, verdict["false_alarms"].as_array().map(Vec::len), &verdict["precision"]), (0, Some(1), &0.0.into()), "{alarmed:?}");
    assert_eq!(judge(NEVER, true).code, 1);
}

#[test]
fn two_sets_of_rules_are_set_side_by_side_over_the_same_calls() {
    let by_stage = INVALID_JSON.replace(r#"["stage", "provider", "model"]"#, r#"["stage"]"#);
    let slow = r#"rule(#{ name: "slow", watch: mean("latency_ms", "5m").expect(0, 1), group_by: ["environment"] });"#;
    let never = r#"rule(#{ name: "never", watch: rate("invalid_json", "5m").expect(0.0, 0.99) });"#;
    let files = [("first/a.rhai", INVALID_JSON), ("first/slow.rhai", slow), ("second/a.rhai", &by_stage), ("second/never.rhai", never)];
    let said = backtest(&files, &["first", "--compare", "second", "--file", recorded(), "--json"]);
    let findings = json(&said);
    let compared = &findings["compared"];
    let count = |name: &str| compared[name].as_array().map(Vec::len);
    assert_eq!((count("both"), count("only_first"), count("only_second")), (Some(1), Some(1), Some(0)), "{compared:#}");
    let alone = backtest(&files, &["second", "--file", recorded(), "--json"]);
    assert_eq!(findings["second"]["notifications"], json(&alone)["notifications"], "a second set changes nothing of the other");
    let said = backtest(&files, &["second", "--compare", "first", "--file", recorded()]);
    for part in ["in both: 1\n", "only in the first: 0\n", "only in the second: 1\n", "said nothing: never\n"] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
}

#[test]
fn a_person_reads_the_alerts_what_they_come_to_and_sees_them_drawn() {
    let files = [("rules/a.rhai", INVALID_JSON), ("incidents.toml", HAPPENED)];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report.html");
    let args = ["rules", "--file", recorded(), "--incidents", "incidents.toml", "--report", report.to_str().expect("it is text")];
    let said = backtest(&files, &args);
    assert_eq!(said.code, 0, "{said:?}");
    for part in [
        "malformed 2 of them: 1 missing_field, 1 not_json; the first is line 1001: ",
        "start     cold: ",
        "production · all calls",
        "1 alert, firing ",
        "1 of 1 rule was still learning for the first ",
        "incident broken JSON: hit after ",
        "1 hit, 0 missed, 0 false; precision 100 %, recall 100 %",
    ] {
        assert!(said.out.contains(part), "{part}\n{}", said.out);
    }
    let html = std::fs::read_to_string(&report).expect("it is drawn");
    assert!(html.contains("class=\"alarm\"") && html.contains("class=\"band\"") && html.contains("class=\"real\""), "{html}");
    assert!(!html.contains("<script") && !html.contains("http"), "it stands alone");
    assert_eq!(html.matches("<figure").count(), 12, "what fired, all calls, and the groups with the most calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_back_tested_is_said_with_the_way_out() {
    let nats = Nats::start().await;
    let on = format!("nats.url={}", nats.url);
    let rules = [("rules/a.rhai", INVALID_JSON), ("bad/a.rhai", "rule(#{ name: \"a\", watch: rate(\"fallbak\", \"5m\") });"), ("empty.jsonl", "\n")];
    let says = |args: &[&str], expected: &str| {
        let args: Vec<_> = args.iter().copied().chain(["--set", &on]).collect();
        let said = backtest(&rules, &args);
        assert_eq!((said.code, said.error.as_str()), (2, format!("streamgauge: {expected}\n").as_str()), "{args:?}: {}", said.out);
    };
    says(
        &["rules", "--file", "nowhere.jsonl"],
        "cannot read nowhere.jsonl: No such file or directory (os error 2)\nhint: name a file of JSON lines, one call log each",
    );
    says(&["rules", "--file", "empty.jsonl"], "empty.jsonl holds no call\nhint: name a file of JSON lines, one call log each");
    says(
        &["nowhere", "--file", "empty.jsonl"],
        "cannot read the rules nowhere: No such file or directory (os error 2)\nhint: name a .rhai file, or a folder of them",
    );
    says(&["rules", "--since", "yesterday"], "cannot read the length of time `yesterday`\nhint: write it like 7d, 12h or 1h30m");
    says(&["rules", "--from", "noon"], "cannot read the time `noon`\nhint: write it like 2026-11-20T09:00:00Z");
    says(
        &["rules", "--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"],
        "the time from 2026-01-02T00:00:00Z to 2026-01-01T00:00:00Z is empty\nhint: give an earlier --from or a later --to",
    );
    let refused = backtest(&rules, &["bad", "--file", "empty.jsonl"]);
    assert!(refused.code == 2 && refused.error.contains("bad/a.rhai:1:") && refused.error.contains("did you mean `fallback`?"), "{refused:?}");
    let absent = backtest(&rules, &["rules", "--since", "1h", "--set", &on]);
    assert!(absent.code == 2 && absent.error.contains("cannot read stream LLM_CALLS: "), "a back-test makes no stream: {absent:?}");

    let mut publishing = Publishing::new(&nats).await;
    publishing.send("{}").await;
    publishing.flush().await;
    let empty = backtest(&rules, &["rules", "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02T00:00:00Z", "--set", &on]);
    assert!(empty.code == 2 && empty.error.contains("stream LLM_CALLS has no call from 2020-01-01T00:00:00Z to 2020-01-02T00:00:00Z"), "{empty:?}");
    assert!(empty.error.contains("\nhint: it keeps calls since 20"), "{empty:?}");
    assert!(backtest(&rules, &["rules"]).error.contains("--file"), "the ways to name calls are listed");
}
