//! Rules that change while the engine runs: what changed is decided anew, what did not is not touched, and a crash in between repeats nothing.

use crate::engine::{Answer, Engine, Setup, ask, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use crate::slack::{Message, Slack};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, SystemTime};

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// A rule that fires while more than `share` of a stage's calls fail.
fn limit(name: &str, share: f64) -> String {
    format!(
        "rule(#{{ name: \"{name}\", watch: rate(\"error\", \"1m\").at_least(10), group_by: [\"stage\"], keep_firing: \"0s\" }});\n\
         fn check(w) {{ if w.value.value > {share:?} {{ fire(`${{percent(w.value.value)}} fail`) }} }}\n"
    )
}

const LEARNED: &str = r#"rule(#{ name: "learned", watch: rate("error", "1m"), group_by: ["stage"] });"#;
const BROKEN: &str = "rule(#{ name: \"limit\", watch: rate(\"eror\", \"1m\") });\n";

/// Calls of one stage, two a second of event time from four hours ago on.
struct Flow {
    publishing: Publishing,
    begin_ms: i64,
    calls: u64,
}

impl Flow {
    async fn new(nats: &Nats) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_millis() as i64;
        Self { publishing: Publishing::new(nats).await, begin_ms: (now - 4 * HOUR_MS) / 10_000 * 10_000, calls: 0 }
    }

    /// `seconds` of event time, in which one of `of` calls fails.
    async fn go_on(&mut self, seconds: u64, of: u64) {
        for _ in 0..seconds * 2 {
            let number = self.calls;
            let call = json!({ "id": number.to_string(), "time": self.begin_ms + number as i64 * 500, "environment": "production",
                "stage": "extraction", "model": "m", "status_code": if number % of == of / 2 { 500 } else { 200 } });
            self.publishing.send(call.to_string()).await;
            self.calls += 1;
        }
        self.publishing.flush().await;
    }

    async fn read(&self, engine: &Engine) {
        engine.until("every call", PATIENCE, |status| status["counted"] == self.calls && status["lag"] == 0).await;
    }
}

async fn post(engine: &Engine, headers: &str) -> (Answer, Value) {
    let answer = ask(&engine.http, "POST", "/api/v1/rules/reload", headers).await.expect("the engine answers");
    let body = serde_json::from_str(&answer.body).expect("the answer is JSON");
    (answer, body)
}

/// Reloads; the answer must be 200.
async fn reload(engine: &Engine) -> Value {
    let (answer, body) = post(engine, "").await;
    assert_eq!(answer.status, 200, "{body:#}");
    body
}

/// States by rule: `pending` and `firing` ones, and why those that ended did.
async fn alerts(engine: &Engine) -> BTreeMap<String, Vec<String>> {
    let alerts = engine.json("/api/v1/alerts").await;
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for alert in alerts["alerts"].as_array().into_iter().flatten() {
        states.entry(alert["rule"].as_str().expect("a rule").to_owned()).or_default().push(alert["state"].as_str().expect("a state").to_owned());
    }
    for ended in alerts["history"].as_array().into_iter().flatten().filter(|ended| ended["state"] == "resolved") {
        let told = &ended["notification"];
        states.entry(told["rule"].as_str().expect("a rule").to_owned()).or_default().push(told["reason"].as_str().expect("a reason").to_owned());
    }
    states.values_mut().for_each(|states| states.sort());
    states
}

async fn until_alerts(engine: &Engine, expected: &[(&str, &[&str])]) {
    let expected: BTreeMap<_, Vec<_>> =
        expected.iter().map(|(rule, states)| ((*rule).to_owned(), states.iter().map(ToString::to_string).collect())).collect();
    let shown = async || format!("{:?}", alerts(engine).await);
    until("the alerts", PATIENCE, shown, |now| *now == format!("{expected:?}")).await;
}

async fn file(engine: &Engine, name: &str) -> Value {
    let status = engine.status().await;
    let files = status["rule_files"].as_array().expect("files").clone();
    files.into_iter().find(|file| file["file"].as_str().is_some_and(|file| file.ends_with(name))).unwrap_or_default()
}

async fn metric(engine: &Engine, name: &str) -> String {
    let (_, text) = engine.get("/metrics").await;
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_decided_by_at_once_and_touches_no_other_rule() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("learned.rhai", LEARNED).rule("limit.rhai", &limit("limit", 0.5));
    let engine = setup.start().await;
    let mut flow = Flow::new(&nats).await;
    flow.go_on(3600, 100).await;
    flow.read(&engine).await;
    until_alerts(&engine, &[]).await;

    let learned = || engine.json("/api/v1/explain?rule=learned&group=stage=extraction");
    let before = learned().await;
    assert_eq!(before["watches"][0]["gauge"]["learning"], false, "{before:#}");
    let untouched = file(&engine, "learned.rhai").await;
    std::fs::write(setup.path("rules/limit.rhai"), limit("limit", 0.001)).expect("it is written");
    let report = reload(&engine).await;
    assert_eq!(report, json!({ "outcome": "adopted", "added": [], "changed": ["limit"], "removed": [], "problems": [] }));
    let after = learned().await;
    for part in ["expected", "observation"] {
        assert_eq!(before["watches"][0][part], after["watches"][0][part], "{part}");
    }
    for part in ["learning", "firing", "log_evidence", "calls_per_minute"] {
        assert_eq!(before["watches"][0]["gauge"][part], after["watches"][0]["gauge"][part], "{part}");
    }
    assert_eq!(file(&engine, "learned.rhai").await, untouched, "loaded when it was");

    // The new limit has the calls that came before it in its window, and decides at the next tick.
    flow.go_on(20, 100).await;
    until_alerts(&engine, &[("limit", &["firing"])]).await;
    assert_eq!(reload(&engine).await["outcome"], "unchanged");
    assert_eq!(post(&engine, "Origin: http://elsewhere.example\r\n").await.0.status, 403);
    assert_eq!(metric(&engine, "streamgauge_rules_reloads_total{outcome=\"adopted\"}").await, "1");
    flow.read(&engine).await;
    assert_eq!(engine.status().await["balances"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ruler_learns_anew_and_is_no_drift() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("learned.rhai", LEARNED);
    let engine = setup.start().await;
    let mut flow = Flow::new(&nats).await;
    flow.go_on(3600, 100).await;
    flow.read(&engine).await;
    let expected = async || engine.json("/api/v1/explain?rule=learned&group=stage=extraction").await["watches"][0]["expected"].clone();
    assert!(expected().await["high"].as_f64() < Some(0.1));
    // From one in a hundred to all but one, if it were the same series.
    std::fs::write(
        setup.path("rules/learned.rhai"),
        LEARNED.replace("\"error\"", "\"fine\"") + "\nfn signals(log) { #{ fine: log.status_code == 200 } }",
    )
    .expect("it is written");
    assert_eq!(reload(&engine).await["changed"], json!(["learned"]));
    flow.go_on(600, 100).await;
    flow.read(&engine).await;
    until_alerts(&engine, &[]).await;
    let explained = engine.json("/api/v1/explain?rule=learned&group=stage=extraction").await;
    let watch = &explained["watches"][0];
    assert_eq!((&watch["what"], &watch["gauge"]["firing"]), (&"fine rate".into(), &false.into()), "{explained:#}");
    assert!(expected().await["high"].as_f64() > Some(0.9), "{explained:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_keeps_the_last_good_version_even_over_a_restart_and_a_removed_file_ends_its_alert() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("limit.rhai", &limit("limit", 0.2));
    let path = setup.path("rules/limit.rhai");
    let failed = format!("streamgauge_rules_failed{{file=\"{}\"}}", path.display());
    let engine = setup.start().await;
    let mut flow = Flow::new(&nats).await;
    flow.go_on(120, 100).await;
    flow.read(&engine).await;
    assert_eq!(metric(&engine, &failed).await, "0");
    let loaded_at = file(&engine, "limit.rhai").await["loaded_at"].clone();

    std::fs::write(&path, BROKEN).expect("it is written");
    std::fs::write(setup.path("rules/second.rhai"), limit("second", 0.9)).expect("it is written");
    let report = reload(&engine).await;
    assert_eq!((&report["outcome"], &report["added"], &report["changed"]), (&"partly".into(), &json!(["second"]), &json!([])), "{report:#}");
    let problem = format!("{}:1:36: unknown signal `eror`\nhint: did you mean `error`?", path.display());
    let says = |text: &Value| text.as_str().is_some_and(|text| text.starts_with(&problem));
    assert!(says(&report["problems"][0]), "{report:#}");
    let standing = file(&engine, "limit.rhai").await;
    assert!(says(&standing["problem"]), "{standing:#}");
    assert_eq!((&standing["rule"], &standing["loaded_at"]), (&"limit".into(), &loaded_at), "{standing:#}");
    assert_eq!(metric(&engine, &failed).await, "1");
    assert_eq!(metric(&engine, "streamgauge_rules_reloads_total{outcome=\"partly\"}").await, "1");
    let log = setup.log();
    assert!(log.contains(&problem) && log.contains("its last good version goes on"), "{log}");

    flow.go_on(120, 2).await;
    until_alerts(&engine, &[("limit", &["firing"])]).await;
    flow.read(&engine).await;
    engine.kill().await;
    let engine = setup.start().await;
    flow.go_on(20, 2).await;
    flow.read(&engine).await;
    until_alerts(&engine, &[("limit", &["firing"])]).await;
    assert!(says(&file(&engine, "limit.rhai").await["problem"]));
    assert_eq!(file(&engine, "limit.rhai").await["loaded_at"], loaded_at);

    // Back as it was: nothing has changed for anyone.
    std::fs::write(&path, limit("limit", 0.2)).expect("it is written");
    assert_eq!(reload(&engine).await["outcome"], "unchanged");
    assert_eq!((metric(&engine, &failed).await.as_str(), &file(&engine, "limit.rhai").await["problem"]), ("0", &Value::Null));
    until_alerts(&engine, &[("limit", &["firing"])]).await;

    std::fs::remove_file(&path).expect("it is removed");
    assert_eq!(reload(&engine).await["removed"], json!(["limit"]));
    until_alerts(&engine, &[("limit", &["rule_changed"])]).await;
    assert_eq!(engine.status().await["rules"], json!(["second"]));
}

/// As Kubernetes mounts a ConfigMap: files are links into a folder that is a link, and that one is swapped.
#[tokio::test(flavor = "multi_thread")]
async fn files_behind_a_swapped_link_are_seen_without_being_told_and_at_once_after_a_hangup() {
    use std::os::unix::fs::symlink;
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[]");
    let rules = setup.path("rules");
    let mount = |version: &str, share: f64| {
        std::fs::create_dir(rules.join(version)).expect("a folder");
        std::fs::write(rules.join(version).join("limit.rhai"), limit("limit", share)).expect("it is written");
        symlink(version, rules.join("..new")).expect("a link");
        std::fs::rename(rules.join("..new"), rules.join("..data")).expect("it is swapped");
    };
    mount("..1", 0.5);
    symlink("..data/limit.rhai", rules.join("limit.rhai")).expect("a link");
    let engine = setup.start().await;
    let first = file(&engine, "limit.rhai").await["loaded_at"].clone();
    mount("..2", 0.4);
    let reloads = |status: &Value| status["rule_files"][0]["loaded_at"].clone();
    let status = engine.until("the second version", PATIENCE, |status| reloads(status) != first).await;
    let second = reloads(&status);
    mount("..3", 0.3);
    engine.signal("HUP");
    engine.until("the third version", PATIENCE, |status| reloads(status) != second).await;
    assert_eq!(metric(&engine, "streamgauge_rules_reloads_total{outcome=\"adopted\"}").await, "2");

    // A folder that is gone is a share that is not mounted.
    std::fs::rename(&rules, setup.path("away")).expect("it is moved");
    let (answer, body) = post(&engine, "").await;
    assert!(answer.status == 503 && body["detail"].as_str().is_some_and(|text| text.contains("is gone; its rules go on as they were")), "{body:#}");
    let status = engine.until("the problem", PATIENCE, |status| status["rule_files"][0]["problem"].is_string()).await;
    assert_eq!(status["rules"], json!(["limit"]));
    std::fs::rename(setup.path("away"), &rules).expect("it is moved back");
    engine.until("no problem", PATIENCE, |status| status["rule_files"][0]["problem"].is_null()).await;
    assert_eq!(metric(&engine, "streamgauge_rules_reloads_total{outcome=\"adopted\"}").await, "2");
}

/// What is told to machines, by the ids of the notifications: one that may have been told before an engine died is told again under its own.
struct Machines {
    alerts: async_nats::Subscriber,
    /// The subscription ends with it.
    _client: async_nats::Client,
}

impl Machines {
    async fn listen(nats: &Nats) -> Self {
        let client = nats.client().await;
        let alerts = client.subscribe("streamgauge.alerts.>").await.expect("a subscription");
        client.flush().await.expect("the server knows of it");
        Self { alerts, _client: client }
    }

    /// All that came by now.
    async fn heard(&mut self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        while let Ok(Some(alert)) = tokio::time::timeout(Duration::from_millis(500), self.alerts.next()).await {
            ids.insert(alert.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).expect("it has an id").to_string());
        }
        ids
    }
}

/// An incident has one message, and its thread says nothing twice; more only where one was on its way when the engine died, and then it says so.
fn told_once(messages: &[Message]) {
    let mut seen = BTreeSet::new();
    for message in messages.iter().filter(|message| !message.possible_repeat) {
        let what = if message.thread_ts.is_none() { &message.incident } else { &message.id };
        assert!(seen.insert((message.thread_ts.is_none(), what)), "{what} is told twice: {messages:#?}");
    }
    assert!(!seen.is_empty(), "something is told");
}

/// Nothing but the outbox knows of such an alert: the snapshot is older, and the new text never comes past it.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_told_after_the_last_snapshot_ends_although_its_rule_changes_while_the_engine_is_dead() {
    let nats = Nats::start().await;
    let slack = Slack::start(&["#llm-alerts"]).await;
    let setup = Setup::new(&nats).slack(&slack.url).set("rules.library", "[]").set("windows.lateness", "10m");
    let setup = setup.rule("gone.rhai", &limit("gone", 0.2)).rule("kept.rhai", &limit("kept", 0.2)).arg("--crash=before-snapshot");
    let engine = setup.start().await;
    let mut flow = Flow::new(&nats).await;
    flow.go_on(300, 100).await;
    flow.go_on(120, 2).await;
    assert_eq!(engine.ended().await.signal(), Some(6), "{}", setup.log());
    std::fs::remove_file(setup.path("rules/gone.rhai")).expect("it is removed");
    let setup = setup.without_args();
    let engine = setup.start().await;
    flow.go_on(20, 2).await;
    flow.read(&engine).await;
    until_alerts(&engine, &[("gone", &["rule_changed"]), ("kept", &["firing"])]).await;
    engine.until("every delivery", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    told_once(&slack.messages());
}

/// Killed right after a reload, and between its two snapshots: what changed ends and begins once, what did not goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_a_reload_or_after_it_tells_nothing_twice_and_forgets_nothing() {
    for planted in [false, true] {
        let nats = Nats::start().await;
        let slack = Slack::start(&["#llm-alerts"]).await;
        let mut setup = Setup::new(&nats).slack(&slack.url).set("rules.library", "[]").set("windows.lateness", "10m");
        for rule in ["kept", "edited", "gone"] {
            setup = setup.rule(&format!("{rule}.rhai"), &limit(rule, 0.2));
        }
        if planted {
            setup = setup.arg("--crash=between-snapshots");
        }
        let mut machines = Machines::listen(&nats).await;
        let engine = setup.start().await;
        let mut flow = Flow::new(&nats).await;
        flow.go_on(300, 100).await;
        flow.go_on(120, 2).await;
        flow.read(&engine).await;
        until_alerts(&engine, &[("edited", &["firing"]), ("gone", &["firing"]), ("kept", &["firing"])]).await;

        std::fs::remove_file(setup.path("rules/gone.rhai")).expect("it is removed");
        std::fs::write(setup.path("rules/edited.rhai"), limit("edited", 0.3)).expect("it is written");
        if planted {
            // Seen by its own look; the connection of whoever asked would break.
            assert_eq!(engine.ended().await.signal(), Some(6), "{}", setup.log());
            setup = setup.without_args();
        } else {
            assert_eq!(reload(&engine).await["outcome"], "adopted");
            engine.kill().await;
        }
        let engine = setup.start().await;
        flow.go_on(120, 2).await;
        flow.read(&engine).await;
        until_alerts(&engine, &[("edited", &["firing", "rule_changed"]), ("gone", &["rule_changed"]), ("kept", &["firing"])]).await;
        flow.go_on(300, 1_000_000).await;
        flow.read(&engine).await;
        until_alerts(&engine, &[("edited", &["resolved", "rule_changed"]), ("gone", &["rule_changed"]), ("kept", &["resolved"])]).await;
        let status = engine.until("every delivery", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
        for (counter, expected) in [("received", flow.calls), ("counted", flow.calls), ("missed", 0), ("overflowed", 0)] {
            assert_eq!(status[counter], expected, "{counter}, planted {planted}: {status:#}");
        }
        assert_eq!(status["balances"], true);
        // Fired and ended, of four alerts: machines hear of each, and people of the incident that they are.
        let heard = machines.heard().await;
        assert_eq!(heard.len(), 8, "planted {planted}: {heard:?}");
        let over = |message: &Message| message.thread_ts.is_none() && !message.headline().contains("WARNING");
        let messages = slack.until("the end of the incident", PATIENCE, |messages| messages.iter().any(over)).await;
        told_once(&messages);
        assert!(engine.terminate().await.success());
    }
}
