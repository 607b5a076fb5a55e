//! The command line: what a person who typed it reads, and the exit code that a script goes by.

use crate::engine::Setup;
use crate::nats::Nats;
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A working directory to run the binary in.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("rules")).expect("the rules' folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("the file is written");
        }
        Self(folder)
    }

    /// `args` as one would type them, by spaces.
    async fn run(&self, args: &str, stdin: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
        command.current_dir(self.0.path()).args(args.split_whitespace()).env_remove("SLACK_BOT_TOKEN").kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut input = child.stdin.take().expect("its input is ours");
        // A command that does not read its input may be gone by now.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
        let output = tokio::time::timeout(Duration::from_secs(100), child.wait_with_output()).await;
        Said::of(&output.unwrap_or_else(|_| panic!("`{args}` does not end")).expect("it can be waited for"))
    }

    /// Runs `args` and compares exit code and text with `expected`.
    async fn check(&self, args: &str, code: i32, expected: &str) {
        let said = self.run(args, "").await;
        assert_eq!((said.code, said.text.as_str()), (code, expected.trim_start_matches('\n')), "streamgauge {args}");
    }
}

#[derive(Debug)]
struct Said {
    code: i32,
    /// Standard output, then standard error without the lines of the log.
    text: String,
    /// Those.
    log: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        // The year and a dash.
        let is_log = |line: &&str| line.len() > 5 && line[..4].bytes().all(|b| b.is_ascii_digit()) && line.as_bytes()[4] == b'-';
        let (log, plain): (Vec<_>, Vec<_>) = error.lines().partition(is_log);
        let text = std::iter::once(out).chain(plain.iter().map(|line| format!("{line}\n"))).collect();
        Self { code: output.status.code().unwrap_or(-1), text, log: log.join("\n") }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_are_all_named_with_place_and_nearest_key() {
    let toml = "[nats]\nurll = \"nats://x\"\n[store]\nretention = \"7x\"\n[windows]\nslice = \"3s\"\n[bogus]\na = 1\n";
    let folder = Folder::new(&[("streamgauge.toml", toml)]);
    let problems = "\
streamgauge.toml:2:1: unknown key `nats.urll`
hint: did you mean `url`? known: url, delivery, stream, subjects, credentials, user, password, token, tls, max_age, max_bytes, replicas
streamgauge.toml:4:13: `store.retention` cannot be read: `7x` is not a duration
hint: whole numbers with d, h, m, s or ms, largest first, such as \"7d\", \"1h30m\" or \"250ms\"
streamgauge.toml:6:9: `windows.slice` must divide the 10s tick of drift detection, which 3s does not
hint: one of 1s, 2s, 5s, 10s
streamgauge.toml:7:2: unknown key `bogus`
hint: known: false_alarms, nats, store, rules, slack, webhooks, alertmanager, incidents, http, windows, environments, schemas, objectives, evaluators, judges, prices, redact, index, access
";
    folder.check("check", 1, &format!("{problems}4 problems\n")).await;
    // What needs the configuration does not start without it.
    for command in ["run", "publish calls.jsonl", "demo"] {
        folder.check(command, 2, &format!("streamgauge: {problems}")).await;
    }
    let folder = Folder::new(&[]);
    let flag = "\
--set nats.stream: is not an override
hint: write --set section.key=value or STREAMGAUGE__SECTION__KEY=value
--set store.pth: unknown key `store.pth`
hint: did you mean `path`? known: path, retention, max_size
";
    folder.check("run --set store.pth=x --set nats.stream", 2, &format!("streamgauge: {flag}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_named_and_missing_is_an_error() {
    let problem = "\
nowhere.toml: cannot read it: No such file or directory (os error 2)
hint: check the path after --config; every key has a default, so the file may be left out
";
    Folder::new(&[]).check("run --config nowhere.toml", 2, &format!("streamgauge: {problem}")).await;
    Folder::new(&[]).check("check -c nowhere.toml", 1, &format!("{problem}1 problem\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_used_is_named_with_the_way_out() {
    let folder = Folder::new(&[("calls.jsonl", "")]);
    let absent = "\
streamgauge: cannot connect to NATS at nats://127.0.0.1:1: IO error: Connection refused (os error 111)
hint: is nats-server running there? set it with nats.url or --set nats.url=nats://host:4222
";
    let on = "--set nats.url=nats://127.0.0.1:1 --set http.listen=127.0.0.1:0";
    folder.check(&format!("run {on}"), 2, absent).await;
    folder.check(&format!("publish {on} calls.jsonl"), 2, absent).await;

    let closed = Nats::start_with(&["-js", "--auth", "sesame"]).await;
    let on = format!("--set nats.url={} --set http.listen=127.0.0.1:0", closed.url);
    let refused = format!(
        "streamgauge: NATS at {} refuses our sign-in: authorization violation
hint: check nats.token, nats.user with nats.password, or nats.credentials: whichever the server asks for\n",
        closed.url
    );
    folder.check(&format!("run {on}"), 2, &refused).await;
    let unset = "streamgauge: environment variable `NO_SUCH_TOKEN` is not set\nhint: set it, or remove it from [nats]\n";
    folder.check(&format!("run {on} --set nats.token={{env=\"NO_SUCH_TOKEN\"}}"), 2, unset).await;

    let plain = Nats::start_with(&[]).await;
    let on = format!("--set nats.url={} --set http.listen=127.0.0.1:0", plain.url);
    let no_streams = "streamgauge: cannot read stream LLM_CALLS: request error: requested JetStream resource does not exist
hint: start nats-server with JetStream (nats-server -js), and allow us to publish on $JS.API.> and to subscribe on _INBOX.>\n";
    folder.check(&format!("run {on}"), 2, no_streams).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_holds_is_named_with_the_way_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("its address");
    let folder = Folder::new(&[]);
    let expected = format!(
        "streamgauge: cannot listen on {taken}: Address already in use (os error 98)
hint: is another streamgauge running? choose another port with --set http.listen=127.0.0.1:0\n"
    );
    folder.check(&format!("run --set http.listen={taken}"), 2, &expected).await;

    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let engine = setup.start().await;
    let store = setup.store.display();
    let expected = format!(
        "streamgauge: another streamgauge runs on the store {store}
hint: stop it first, or give this one a store of its own with --set store.path=…\n"
    );
    folder.check(&format!("run --set http.listen=127.0.0.1:0 --set nats.url={} --set store.path={store}", nats.url), 2, &expected).await;
    assert_eq!(engine.get("/healthz").await.0, 200);
}

const BAD_SIGNAL: &str = "rule(#{ name: \"mine\", watch: rate(\"fallbak\", \"5m\").expect(0.0, 0.05) });\n";
const BAD_SYNTAX: &str = "// Fine so far.\nrule(#{\n    name: \"other\"\n    watch: rate(\"fallback\", \"5m\"),\n});\n";
const GOOD: &str = "rule(#{ name: \"slow-answers\", watch: quantile(\"latency_ms\", 0.95, \"10m\").expect(0, 8000), group_by: [\"model\"] });\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_rule_is_named_with_its_place_and_stops_no_other() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[\"retry-rate\"]");
    let setup = setup.rule("bad.rhai", BAD_SIGNAL).rule("worse.rhai", BAD_SYNTAX).rule("good.rhai", GOOD);
    let rules = setup.path("rules").display().to_string();
    let engine = setup.start().await;
    assert_eq!(engine.status().await["rules"], serde_json::json!(["retry-rate", "slow-answers"]));
    let log = setup.log();
    assert!(log.contains(&format!("{rules}/bad.rhai:1:35: unknown signal `fallbak`\nhint: did you mean `fallback`?")), "{log}");
    assert!(log.contains(&format!("{rules}/worse.rhai:4:5: ")), "{log}");

    let folder = Folder::new(&[("rules/bad.rhai", BAD_SIGNAL), ("rules/worse.rhai", BAD_SYNTAX), ("rules/good.rhai", GOOD)]);
    let expected = "
rules/bad.rhai:1:35: unknown signal `fallbak`
 1 | rule(#{ name: \"mine\", watch: rate(\"fallbak\", \"5m\").expect(0.0, 0.05) });
   |                                   ^
hint: did you mean `fallback`? known: error, retry, fallback, rate_limited, timeout, overloaded, content_filtered, truncated, refused, invalid_json, fenced_json, schema_invalid, empty, slow, tool_arguments_invalid, run_error, run_fallback; a signal of your own is an entry of what fn signals(log) returns
rules/worse.rhai:4:5: expected `,` to separate the items of this object map literal
 4 |     watch: rate(\"fallback\", \"5m\"),
   |     ^
hint: a comma is missing before it, or a bracket further up is not closed
retry-rate                   warning   retry rate over 5m by environment, provider, model; fires by drift from what it learns, within the shared 1 per day
slow-answers                 warning   p95 of latency_ms over 10m by environment, model; fires by drift from its range, within the shared 1 per day
2 problems
";
    folder.check("check --set rules.library=[\"retry-rate\"]", 1, expected).await;
    let said = folder.run("check --json --set rules.library=[\"retry-rate\"]", "").await;
    let answer: serde_json::Value = serde_json::from_str(&said.text).expect("the answer is JSON");
    assert_eq!((said.code, &answer["ok"], answer["problems"].as_array().map(Vec::len)), (1, &false.into(), Some(2)), "{answer:#}");
    assert_eq!(answer["rules"].as_array().map(Vec::len), Some(2), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_lists_the_rules_when_all_is_well() {
    let folder = Folder::new(&[("rules/good.rhai", GOOD)]);
    let expected = "
cost                         warning   mean of cost_usd over 15m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
empty-answers                warning   empty rate over 5m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
errors                       critical  error rate over 5m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
fallback-rate                warning   fallback rate over 5m by environment, stage; fires by drift from what it learns, within the shared 1 per day
invalid-json-rate            critical  invalid_json rate over 5m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
latency                      warning   p95 of latency_ms over 5m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
refusals                     warning   refused rate over 5m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
retry-rate                   warning   retry rate over 5m by environment, provider, model; fires by drift from what it learns, within the shared 1 per day
schema-violations            critical  schema_invalid rate over 5m, top violation by calls over 5m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
slow-answers                 warning   p95 of latency_ms over 10m by environment, model; fires by drift from its range, within the shared 1 per day
truncation                   warning   truncated rate over 5m by environment, stage, provider, model; fires by drift from what it learns, within the shared 1 per day
volume                       warning   calls over 5m, calls over 6h by environment, stage; fires by its own check, outside the alarm budget
all well: 12 rules
";
    folder.check("check", 0, expected).await;
    let said = folder.run("check --json --set rules.library=[]", "").await;
    let answer: serde_json::Value = serde_json::from_str(&said.text).expect("the answer is JSON");
    let rules = serde_json::json!([{ "name": "slow-answers", "severity": "warning", "summary": "",
        "decided": "fires by drift from its range, within the shared 1 per day" }]);
    assert_eq!((said.code, &answer), (0, &serde_json::json!({ "ok": true, "problems": [], "rules": rules })));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_path_warns_of_what_is_probably_not_meant() {
    let lint = "rule(#{ name: \"mine\", watch: rate(\"error\", \"5m\"), group_by: [\"user_id\"] });\nfn check(w) {\n    if w.value.value > 5 { fire(\"x\") }\n}\n";
    let folder = Folder::new(&[("rules/bad.rhai", BAD_SIGNAL), ("mine.rhai", lint)]);
    let expected = "
mine.rhai:1:62: warning: group_by `user_id`: each value is a group, and an id has a new one for every user, thread or call
 1 | rule(#{ name: \"mine\", watch: rate(\"error\", \"5m\"), group_by: [\"user_id\"] });
   |                                                              ^
hint: the limit is windows.series_max, 20,000 series an environment; calls of further groups count under (other). Group by what has few values, such as stage or model
mine.rhai:3:8: warning: `w.value.value > 5` is never true
 3 |     if w.value.value > 5 { fire(\"x\") }
   |        ^
hint: a rate lies between 0 and 1: 5 % is 0.05
mine                         warning   error rate over 5m by environment, user_id; fires by its own check, outside the alarm budget
all well: 1 rule, 2 warnings
";
    folder.check("check mine.rhai", 0, expected).await;
    folder.check("check mine.rhai --lint-fatal", 3, expected).await;
    let said = folder.run("check mine.rhai --json", "").await;
    let answer: serde_json::Value = serde_json::from_str(&said.text).expect("the answer is JSON");
    assert_eq!((said.code, &answer["ok"]), (0, &true.into()), "{answer:#}");
    let never = serde_json::json!({ "severity": "warning", "file": "mine.rhai", "line": 3, "column": 8, "rule": "mine",
        "message": "`w.value.value > 5` is never true", "hint": "a rate lies between 0 and 1: 5 % is 0.05" });
    assert_eq!(answer["problems"][1], never);
    // A problem goes before a warning.
    folder.check("check rules --lint-fatal", 1, "
rules/bad.rhai:1:35: unknown signal `fallbak`
 1 | rule(#{ name: \"mine\", watch: rate(\"fallbak\", \"5m\").expect(0.0, 0.05) });
   |                                   ^
hint: did you mean `fallback`? known: error, retry, fallback, rate_limited, timeout, overloaded, content_filtered, truncated, refused, invalid_json, fenced_json, schema_invalid, empty, slow, tool_arguments_invalid, run_error, run_fallback; a signal of your own is an entry of what fn signals(log) returns
1 problem
").await;
    folder.check("check nowhere", 2, "streamgauge: there are no rules at nowhere\nhint: name a folder of *.rhai files, or one of them\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_lists_what_the_files_say_and_what_a_running_engine_knows() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[\"fallback-rate\"]").rule("good.rhai", GOOD).rule("bad.rhai", BAD_SIGNAL);
    let rules = setup.path("rules").display().to_string();
    let said = Said::of(&setup.run(&["rules"]).await);
    let expected = format!(
        "\
as the files say; the engine could not be asked: no engine answers at {}: Connection refused (os error 111)

basics, shipped
  fallback-rate  warning
    Another provider or model than the one asked for answers more often than usual.
    fallback rate over 5m by environment, stage; fires by drift from what it learns, within the shared 1 per day
  off: retry-rate, invalid-json-rate, schema-violations, errors, truncation, refusals, empty-answers, latency, volume, cost

memory-layer, shipped: off; rules.library can name it, or rules of it
  off: retrieval-misses, retrieval-relevance, retrieval-judged, retrieval-latency, retrieval-cost, retrieval-failures, synthesis-quality, synthesis-groundedness, synthesis-consistency, synthesis-context, synthesis-latency, synthesis-cost, extraction-precision, extraction-schema, extraction-duplicates, extraction-write-latency, extraction-write-failures, orchestration-latency, orchestration-routing, orchestration-fallbacks, orchestration-rate-limits, orchestration-model-cost, orchestration-run-latency, orchestration-run-cost, orchestration-run-calls, orchestration-run-errors, user-cost

judges, shipped: off; rules.library can name it, or rules of it
  off: judge-errors, judge-unreadable, judge-latency, judge-skips, judge-spend, judge-flat-scores

your own
  slow-answers  warning
    p95 of latency_ms over 10m by environment, model; fires by drift from its range, within the shared 1 per day
    {rules}/good.rhai

files that give no rule
  {rules}/bad.rhai:1:35: unknown signal `fallbak`
  hint: did you mean",
        setup.http
    );
    assert!(said.code == 0 && said.text.starts_with(&expected), "{}\nexpected:\n{expected}", said.text);

    let engine = setup.start().await;
    let text = Said::of(&setup.run(&["rules"]).await).text;
    let since = format!("    {rules}/good.rhai, runs since 20");
    for part in ["no calls yet", &since, "  off: ", "files that give no rule", "unknown signal `fallbak`"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let mut publishing = crate::publishing::Publishing::new(&nats).await;
    publishing.send(log("a")).await;
    publishing.flush().await;
    engine.until("the call", Duration::from_secs(30), |status| status["counted"] == 1).await;
    let text = Said::of(&setup.run(&["rules"]).await).text;
    assert!(text.contains("default: ") && text.contains(" gauges, ") && text.contains("looked at "), "{text}");
    std::fs::write(setup.path("rules/good.rhai"), GOOD.replace("0.95", "95")).expect("it is written");
    let said = Said::of(&setup.run(&["rules", "reload"]).await);
    assert!(said.code == 1 && said.text.contains("95 is no quantile") && said.text.ends_with("nothing else has changed\n"), "{said:?}");
    let text = Said::of(&setup.run(&["rules"]).await).text;
    assert!(text.contains("its file has a mistake; the last good version runs"), "{text}");
    let text = Said::of(&setup.run(&["status"]).await).text;
    assert!(text.contains("good.rhai: its last good version runs"), "{text}");
    let answer: serde_json::Value = serde_json::from_str(&Said::of(&setup.run(&["rules", "--json"]).await).text).expect("JSON");
    assert_eq!((&answer["engine"]["asked"], &answer["packs"][0]["on"]), (&true.into(), &serde_json::json!(["fallback-rate"])), "{answer:#}");
    let slow = &answer["rules"][1];
    assert_eq!((&slow["name"], &slow["health"]["script_failures"]), (&"slow-answers".into(), &0.into()), "{answer:#}");
    assert!(slow["health"]["problem"].is_string() && slow["health"]["environments"][0]["gauged"].is_number(), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_the_configuration_points_at_and_is_not_there() {
    let toml = "[schemas.facts]\nfile = \"facts.json\"\n";
    let folder = Folder::new(&[("streamgauge.toml", toml)]);
    let expected = "
cannot read the schema `facts` from facts.json: No such file or directory (os error 2)
hint: check schemas.*.file
1 problem
";
    folder.check("check --set rules.library=[]", 1, expected).await;
    let folder = Folder::new(&[("streamgauge.toml", toml), ("facts.json", "{\"type\": \"objekt\"}")]);
    let said = folder.run("check --set rules.library=[]", "").await;
    assert!(said.code == 1 && said.text.starts_with("cannot compile schema `facts` at /type: "), "{said:?}");
    let said = Folder::new(&[]).run("check --set rules.library=[\"basic\"]", "").await;
    let expected =
        "rules.library: cannot find `basic` in the rule library\nhint: did you mean `basics`? known: basics, memory-layer, judges, fallback-rate, ";
    assert!(said.code == 1 && said.text.starts_with(expected), "{said:?}");
    // A folder of rules that is named must be there; the usual one need not.
    let folder = Folder::new(&[("streamgauge.toml", "[rules]\npath = \"rules\"\nlibrary = [\"fallback-rate\"]\n")]);
    std::fs::remove_dir(folder.0.path().join("rules")).expect("it is there and empty");
    let said = folder.run("check", "").await;
    assert!(said.code == 0 && said.text.ends_with("all well: 1 rule\n"), "{said:?}");
    let missing =
        "rules.path: there is no ruels, so none of your own rules would run\nhint: set it to the folder of your rules, or make that folder\n";
    folder.check("check --set rules.path=ruels", 1, &format!("{missing}1 problem\n")).await;
    let run = "run --set nats.url=nats://127.0.0.1:1 --set http.listen=127.0.0.1:0 --set rules.path=ruels";
    folder.check(run, 2, &format!("streamgauge: {missing}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_stream_says_at_once_that_core_nats_has_none() {
    let folder = Folder::new(&[]);
    let none = "streamgauge: nats.delivery is `core`: no stream keeps the calls of the past\nhint: keep the calls in a stream: nats.delivery = \"jetstream\"";
    let on = "--set nats.delivery=core --set nats.url=nats://127.0.0.1:1";
    folder.check(&format!("replay {on} --from a --to b --since 1h"), 2, &format!("{none}\n")).await;
    folder.check(&format!("backtest {on} --since 1h"), 2, &format!("{none}; or read calls from a file: --file calls.jsonl\n")).await;
}

fn log(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"time\":1767225600000,\"model\":\"m\"}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_names_the_lines_it_refuses_and_sends_the_others() {
    let nats = Nats::start().await;
    let on = format!("publish --set nats.url={}", nats.url);
    let calls = [log("a").as_str(), "\nnot json\n", &log("b").replace("000,", ","), "[1]\n", &log("c")].concat();
    // Larger than the server takes.
    let large = format!("\"m\",\"output\":\"{}\"", "x".repeat(1 << 20));
    let large = [log("large").replace("\"m\"", &large), log("d")].concat();
    let folder = Folder::new(&[("calls.jsonl", &calls), ("large.jsonl", &large), ("empty.jsonl", ""), ("six.jsonl", &"{}\n".repeat(6))]);
    let refused = "
calls.jsonl:3: refused: not JSON: expected ident at column 2
calls.jsonl:4: refused: field `time`: expected epoch milliseconds (this looks like seconds), found 1767225600
calls.jsonl:5: refused: an array; publish one log per message
";
    folder.check(&format!("{on} calls.jsonl"), 1, &format!("{refused}published 2 to llm.calls.cli, refused 3\n")).await;
    let again = format!("{refused}published 2 to llm.calls.cli (2 of them were there already), refused 3\n");
    folder.check(&format!("{on} calls.jsonl"), 1, &again).await;
    let large = "
large.jsonl:1: refused: 1048635 bytes and its headers; the server takes at most 1048576 (max_payload in its configuration)
published 1 to llm.calls.cli, refused 1
";
    folder.check(&format!("{on} large.jsonl"), 1, large).await;
    folder.check(&format!("{on} empty.jsonl"), 0, "published 0 to llm.calls.cli, refused 0\n").await;
    // As many as can be looked at; the rest is counted.
    let shown = (1..=5).map(|line| format!("six.jsonl:{line}: refused: field `id` is missing: every log needs one of its own\n")).collect::<String>();
    folder.check(&format!("{on} six.jsonl"), 1, &format!("{shown}published 0 to llm.calls.cli, refused 6\n")).await;
    folder.check(&format!("{on} --as-is six.jsonl"), 0, "published 6 to llm.calls.cli, refused 0\n").await;
    let exchanges = "
calls.jsonl:1: refused: cannot read line 1 as a recorded exchange: missing field `file` at column 43
";
    let said = folder.run(&format!("{on} --from exchanges calls.jsonl"), "").await;
    assert!(said.code == 1 && said.text.starts_with(exchanges.trim_start()), "{said:?}");

    let jetstream = async_nats::jetstream::new(nats.client().await);
    let stream = jetstream.get_stream("LLM_CALLS").await.expect("publish makes the stream");
    // a, c, d, and the six as they were.
    assert_eq!(stream.cached_info().state.messages, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_reads_standard_input_to_its_end() {
    let nats = Nats::start().await;
    let folder = Folder::new(&[]);
    let on = format!("publish --set nats.url={}", nats.url);
    let said = folder.run(&format!("{on} -"), &[log("a").as_str(), &log("b"), "{"].concat()).await;
    let expected = "standard input:3: refused: not JSON: EOF while parsing an object at column 1\npublished 2 to llm.calls.cli, refused 1\n";
    assert_eq!((said.code, said.text.as_str()), (1, expected));
    let said = folder.run(&format!("{on} --subject llm.calls.eu.west -"), &log("c")).await;
    assert_eq!((said.code, said.text.as_str()), (0, "published 1 to llm.calls.eu.west, refused 0\n"));
}

/// The times of what is in the stream, in milliseconds.
async fn times(nats: &Nats, count: u64) -> Vec<i64> {
    let jetstream = async_nats::jetstream::new(nats.client().await);
    let stream = jetstream.get_stream("LLM_CALLS").await.expect("the stream is there");
    let mut times = Vec::new();
    for sequence in 1..=count {
        let message = stream.get_raw_message(sequence).await.expect("the message is there");
        times.push(model::parse(&message.payload).expect("a call").time.millis());
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_get_the_times_that_were_asked_for_and_never_one_ahead_of_the_clock() {
    let exchange = |number: u64| {
        serde_json::json!({ "file": number.to_string(), "host": "api.openai.com", "path": "/v1/chat/completions", "status": 200, "kind": "json",
            "request": "{\"model\":\"gpt-4o\"}", "response": "{}" })
        .to_string()
            + "\n"
    };
    let lines = (0..3).map(exchange).collect::<String>();
    let folder = Folder::new(&[("exchanges.jsonl", &lines)]);
    for (args, stdin, apart) in [
        ("--since 2026-01-01T00:00:00Z exchanges.jsonl", "", 1000),
        ("--since 2026-01-01T00:00:00Z -", lines.as_str(), 1000),
        ("exchanges.jsonl", "", 1000),
        ("-", lines.as_str(), 0),
    ] {
        let nats = Nats::start().await;
        let said = folder.run(&format!("publish --set nats.url={} --from exchanges {args}", nats.url), stdin).await;
        assert_eq!((said.code, said.text.as_str()), (0, "published 3 to llm.calls.cli, refused 0\n"), "{args}");
        let times = times(&nats, 3).await;
        let now = streamgauge::outbox::now().millis();
        if args.starts_with("--since") {
            let start = 1_767_225_600_000;
            assert_eq!(times, [start + 1000, start + 2000, start + 3000], "{args}");
        } else {
            assert!(times[2] <= now && times[2] > now - 60_000, "{args}: {times:?} at {now}");
            assert!(times[1] - times[0] >= apart && times[1] - times[0] < apart + 1000, "{args}: {times:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_says_what_is_wrong_with_its_arguments_before_it_sends_anything() {
    let nats = Nats::start().await;
    let on = format!("publish --set nats.url={}", nats.url);
    let folder = Folder::new(&[("calls.jsonl", &log("a"))]);
    // The first bytes of a gzipped file, as a broken download leaves them.
    std::fs::write(folder.0.path().join("cut.gz"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56]).expect("the file is written");
    for (args, expected) in [
        (
            "nowhere.jsonl",
            "streamgauge: cannot read nowhere.jsonl: No such file or directory (os error 2)\nhint: name a file of JSON lines, or - for standard input\n",
        ),
        ("rules", "streamgauge: cannot read rules: Is a directory (os error 21)\nhint: name a file of JSON lines, or - for standard input\n"),
        (
            "cut.gz",
            "streamgauge: cannot read cut.gz: incomplete deflate stream\nhint: is the file whole? a gzipped one that was cut cannot be read\n",
        ),
        (
            "--subject llm.calls.> calls.jsonl",
            "streamgauge: cannot publish to `llm.calls.>`\nhint: a log goes to one subject: words joined by dots, no wildcards, such as llm.calls.cli\n",
        ),
        (
            "--subject other.calls calls.jsonl",
            "streamgauge: stream LLM_CALLS does not take `other.calls`; it takes llm.calls.>\nhint: choose a --subject that it takes, or leave the option out\n",
        ),
        ("--from exchanges --since noon calls.jsonl", "streamgauge: cannot read the time `noon`\nhint: write it like 2026-11-20T09:00:00Z\n"),
        (
            "--set nats.stream=OTHER calls.jsonl",
            "streamgauge: cannot make stream OTHER: jetstream error: subjects overlap with an existing stream (code 400, error code 10065)\n\
            hint: has the server JetStream (-js) and room for nats.max_bytes? another stream may carry the same subjects\n",
        ),
        (
            "--set nats.subjects=[\"x.>\"] calls.jsonl",
            "streamgauge: stream LLM_CALLS carries llm.calls.>, not x.>\nhint: add the subjects with `nats stream edit LLM_CALLS`, or set nats.subjects\n",
        ),
    ] {
        folder.check(&format!("{on} {args}"), 2, expected).await;
        if args == "--subject llm.calls.> calls.jsonl" {
            // The rest is about a stream that is there.
            folder.check(&format!("{on} calls.jsonl"), 0, "published 1 to llm.calls.cli, refused 0\n").await;
        }
    }
    // A missing file is said even where there is no server.
    let said = folder.run("publish --set nats.url=nats://127.0.0.1:1 nowhere.jsonl", "").await;
    assert!(said.code == 2 && said.text.contains("cannot read nowhere.jsonl"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_says_what_a_model_costs_and_where_that_stands() {
    let folder = Folder::new(&[("streamgauge.toml", "[prices.\"azure/gpt-4o\"]\ninput = 2.75\noutput = 11\n")]);
    let list = format!("list prices of {}, after {}", streamgauge::prices::date(), streamgauge::prices::source());
    let shipped = format!("openai/gpt-4o-2024-11-20: $2.5 in, $10 out, $1.25 cached in\nfor a million tokens, from the row gpt-4o of the {list}\n");
    folder.check("prices openai/gpt-4o-2024-11-20", 0, &shipped).await;
    let own = "gpt-4o: $2.75 in, $11 out\nfor a million tokens, from [prices.\"azure/gpt-4o\"] of the configuration\n";
    folder.check("prices gpt-4o --provider azure.ai.openai", 0, own).await;
    let unknown = "gpt-4oo: no price is known, so calls to it have no cost unless they state one\n\
                   hint: did you mean gpt-4o? set [prices.\"gpt-4oo\"] with input and output, in US dollars for a million tokens\n";
    folder.check("prices gpt-4oo", 1, unknown).await;
    let said = folder.run("prices --json", "").await;
    let table: serde_json::Value = serde_json::from_str(&said.text).expect("it is JSON");
    assert_eq!(table["prices"][0], serde_json::json!({"name": "azure/gpt-4o", "from": "configuration", "input": 2.75, "output": 11.0}));
    assert!(folder.run("prices", "").await.text.starts_with(&format!("US dollars for a million tokens; {list}, and 1 of the configuration\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn help_names_every_option_and_a_wrong_command_the_nearest_one() {
    let folder = Folder::new(&[]);
    let everywhere = ["--config <FILE>", "--set <KEY=VALUE>", "--log <LEVEL>", "--help"];
    for (command, options) in [
        ("", &["run", "demo", "check", "publish", "--version"][..]),
        ("run", &["--accept-new-stream"]),
        ("doctor", &["--json"]),
        ("replay", &["--from <ENVIRONMENT>", "--to <ENVIRONMENT>", "--since <TIME|SPAN>", "--until <TIME>", "--speed <SPEED>", "--match <QUERY>"]),
        ("demo", &["--once", "--seed <SEED>", "--no-nats"]),
        ("check", &["--json"]),
        ("test", &["[PATH]", "--run <REGEX>", "--update", "--diff", "--json", "alerts = \"none\""]),
        ("publish", &["<FILE>", "--subject <SUBJECT>", "--from <FROM>", "logs, exchanges", "--as-is", "--since <SINCE>"]),
    ] {
        let said = folder.run(&format!("{command} --help"), "").await;
        assert_eq!(said.code, 0, "{}", said.text);
        for option in options.iter().chain(&everywhere) {
            assert!(said.text.contains(option), "{option} in the help of `{command}`:\n{}", said.text);
        }
        // Crash points are for tests.
        assert!(!said.text.contains("--crash"), "{}", said.text);
    }
    for (args, says) in
        [("", "Usage:"), ("runn", "'run'"), ("run --accept-new", "'--accept-new-stream'"), ("publish", "<FILE>"), ("run --log loud", "error")]
    {
        let said = folder.run(args, "").await;
        assert!(said.code == 2 && said.text.contains(says), "`{args}`: {said:?}");
    }
    assert_eq!(folder.run("--version", "").await.text, format!("streamgauge {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_its_alert_and_its_end_and_leaves_nothing_behind() {
    let folder = Folder::new(&[]);
    let said = folder.run("demo --once --no-nats --seed 7 --set http.listen=127.0.0.1:0", "").await;
    assert_eq!((said.code, said.log.as_str()), (0, ""), "{}", said.text);
    let places =
        ["slack    http://127.0.0.1:", "CRITICAL: invalid-json-rate — extraction · anthropic · claude-haiku-4-5", "RESOLVED after ", "Alerted "];
    let at = places.map(|text| said.text.find(text).unwrap_or_else(|| panic!("`{text}` in\n{}", said.text)));
    assert!(at.is_sorted(), "{}", said.text);
    assert_eq!(said.text.matches("CRITICAL: ").count(), 1, "one model breaks, and one alert fires:\n{}", said.text);
    let left: Vec<_> = std::fs::read_dir(folder.0.path()).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["rules"]);
}
