//! `streamgauge test` from outside: what passes, what fails and how it is told, mistakes in test files, kept messages, and that generated traffic shows
//! exactly the signals it names.

use evaluators::Evaluators;
use fixtures::Phrase;
use model::Signal;
use model::signal::{Signals, signals};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const RULE: &str = "// Fallbacks.\nrule(#{ name: \"falls\", watch: rate(\"fallback\", \"5m\"), group_by: [\"stage\"] });\n";
const INCIDENT: &str = "60 calls/min for 3h, 1% fallback; then for 30m 40%; then for 2h 1%";

/// A folder with `rules/falls.rhai`, and its tests.
struct Folder(TempDir);

#[derive(Debug)]
struct Said {
    code: i32,
    text: String,
}

impl Folder {
    fn new(tests: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        std::fs::create_dir(folder.0.path().join("rules")).expect("the rules' folder");
        folder.write("rules/falls.rhai", RULE).write("rules/falls.test.toml", tests);
        folder
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.0.path().join(name), text).expect("the file is written");
        self
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.0.path().join(name)).ok()
    }

    /// Runs `streamgauge test` with `args` as one would type them.
    fn test(&self, args: &str) -> Said {
        run(self.0.path(), args)
    }

    /// Standard output and error, without what the clock says.
    fn check(&self, args: &str, code: i32, expected: &str) {
        let said = self.test(args);
        assert_eq!((said.code, timeless(&said.text).as_str()), (code, expected.trim_start_matches('\n')), "streamgauge test {args}");
    }
}

fn run(folder: &Path, args: &str) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_streamgauge")).current_dir(folder).arg("test").args(args.split_whitespace()).output();
    let output = output.expect("the binary runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Said { code: output.status.code().unwrap_or(-1), text }
}

/// Lines that end with time, calls and pace, without these.
fn timeless(text: &str) -> String {
    let line = |line: &str| {
        // `  ✔ fires  41 ms, 12,345 calls, 300,000 calls/s`; a time of a minute and more is one word.
        let Some((rest, _)) = line.strip_suffix(" calls/s").and_then(|rest| rest.rsplit_once(", ")) else { return line.to_owned() };
        let Some((rest, _)) = rest.rsplit_once(", ") else { return line.to_owned() };
        let number = rest.strip_suffix(" ms").or(rest.strip_suffix(" s")).unwrap_or(rest);
        number.rsplit_once(' ').map_or("", |(rest, _)| rest).trim_end().trim_end_matches(';').to_owned()
    };
    text.lines().map(|text| format!("{}\n", line(text))).collect()
}

fn test(name: &str, rest: &str) -> String {
    format!("[[test]]\nname = \"{name}\"\n{rest}\n")
}

#[test]
fn what_is_expected_passes_and_says_how_fast() {
    let fires = test(
        "fires",
        &format!(
            "traffic = [\"{INCIDENT}\"]\n[[test.alert]]\nfires = \"3h..3h10m\"\nends = \"3h30m..4h\"\nseverity = \"warning\"\nsummary = \"fallback\""
        ),
    );
    let silent = test("silent", "traffic = [{ calls = \"60 calls/min for 6h, 1% fallback\", log = { stage = \"extraction\" } }]\nalerts = \"none\"");
    let folder = Folder::new(&format!("{fires}{silent}"));
    folder.write("rules/other.rhai", &RULE.replace("falls", "other"));
    let expected = "
rules/falls.rhai
  ✔ fires
  ✔ silent
rules/other.rhai
  no tests
2 tests: 2 passed; 1 rule without tests
";
    // The configured folder, a folder, a rule and its tests.
    folder.check("", 0, expected);
    folder.check("rules", 0, expected);
    for one in ["rules/falls.rhai", "rules/falls.test.toml"] {
        folder.check(one, 0, "rules/falls.rhai\n  ✔ fires\n  ✔ silent\n2 tests: 2 passed\n");
    }
    folder.check("--run sil", 0, "rules/falls.rhai\n  ✔ silent\n1 test: 1 passed\n");
    folder.check("--run ^falls$", 0, "rules/falls.rhai\n  ✔ fires\n  ✔ silent\n2 tests: 2 passed\n");
    let nothing = "0 tests: 0 passed\nhint: --run nothing matches no test and no rule with tests; leave it out to see all names\n";
    folder.check("--run nothing", 1, nothing);

    let said = folder.test("--json --run fires");
    let json: Value = serde_json::from_str(&said.text).expect("JSON");
    assert_eq!((said.code, &json["ok"], &json["passed"], &json["failed"]), (0, &Value::Bool(true), &1.into(), &0.into()));
    let ran = &json["files"][0]["tests"][0];
    assert_eq!((&ran["name"], &ran["seed"], &ran["alerts"][0]["severity"]), (&"fires".into(), &1.into(), &"warning".into()));
    let calls = ran["calls"].as_u64().expect("a number");
    assert!((19_000..20_600).contains(&calls), "some 19,800 calls, not {calls}");
}

#[test]
fn a_failure_says_what_was_expected_what_came_and_the_seed() {
    let folder = Folder::new(&[
        test("late", &format!("traffic = [\"{INCIDENT}\"]\nseed = 4\n[[test.alert]]\nfires = \"1h..1h10m\"\nends = \"never\"\ngroup = {{ stage = \"synthesis\" }}\nseverity = \"critical\"\nrule = \"other\"\nsummary = \"no such words\"")),
        test("not silent", &format!("traffic = [\"{INCIDENT}\"]\nseed = 4\nalerts = \"none\"")),
        test("absent", "traffic = [\"60 calls/min for 1h, 1% fallback\"]\n[[test.alert]]\nfires = \"30m..1h\"\ngroup = { stage = \"synthesis\" }"),
    ].concat());
    let said = folder.test("");
    assert_eq!(said.code, 1, "{}", said.text);
    for line in [
        "  ✗ late ",
        "      alert 1: expected to fire within 1h..1h10m, came at 3h",
        "      alert 1: expected no end before the test is over, came at 3h",
        "      alert 1: expected rule other, came falls",
        "      alert 1: expected severity critical, came warning",
        "      alert 1: expected stage synthesis, came ",
        "      alert 1: expected the summary to contain `no such words`, came `",
        "      with seed 4, these fired:\n           fires ",
        "  ✗ not silent ",
        "      alert 1 was not expected: fired at 3h",
        "  ✗ absent ",
        "      alert 1 did not come: expected to fire within 30m..1h, stage = synthesis\n      with seed 1, these fired: none\n",
        "3 tests: 0 passed, 3 failed; ",
    ] {
        assert!(said.text.contains(line), "{line:?} is not in\n{}", said.text);
    }
    let json: Value = serde_json::from_str(&folder.test("--json").text).expect("JSON");
    assert_eq!((&json["ok"], &json["failed"]), (&Value::Bool(false), &3.into()));
    assert!(json["files"][0]["tests"][2]["failures"][0].as_str().is_some_and(|text| text.starts_with("alert 1 did not come")));
}

#[test]
fn mistakes_in_a_test_file_are_all_named_with_place_and_way_out() {
    let folder = Folder::new(
        "[[test]]\nname = \"a\"\ntrafic = [\"60 calls/min for 3h\"]\nalerts = \"none\"\n\
         [[test]]\nname = \"a\"\ntraffic = [\"60 calls/min, 1% fallbak\"]\n\
         [[test]]\nname = \"b\"\ntraffic = [{ calls = \"60 calls/min for 1h\", logs = {} }]\nalerts = \"some\"\n\
         [[test]]\nname = \"c\"\ncalls = \"nowhere.jsonl\"\n[[test.alert]]\nfires = \"2h..1h\"\nseverity = \"criticl\"\nlables = { team = \"memory\" }\n",
    );
    folder.check(
        "",
        1,
        "
rules/falls.rhai
  rules/falls.test.toml:1:1: `test[0]` has no calls
  hint: write traffic = [\"60 calls/min for 3h, 1% fallback\"], or calls = \"incident.jsonl\"
  rules/falls.test.toml:3:1: unknown key `test[0].trafic`
  hint: did you mean `traffic`? known: name, start, seed, traffic, calls, alerts, alert
  rules/falls.test.toml:6:8: `test[1]` has the name of an earlier test
  hint: results and kept messages go by the name: give each its own
  rules/falls.test.toml:7:12: `test[1].traffic[0]` at column 18: unknown word `fallbak`
  hint: did you mean `fallback`? known: error, retry, fallback, rate_limited, timeout, overloaded, content_filtered, truncated, refused, invalid_json, fenced_json, schema_invalid, empty
  rules/falls.test.toml:10:45: unknown key `test[2].traffic[0].logs`
  hint: did you mean `log`? known: calls, log
  rules/falls.test.toml:11:10: `test[2].alerts` must be \"none\"
  hint: list the alerts that are to come under [[test.alert]]
  rules/falls.test.toml:14:9: `test[3].calls` is no file: there is no rules/nowhere.jsonl
  hint: write the path of a file of JSON lines, from this file's folder, or the lines themselves
  rules/falls.test.toml:16:9: `test[3].alert[0].fires` must not end before it begins, as `2h..1h` does
  hint: times are counted from the start: \"3h..3h10m\", or \"3h\" for exactly then
  rules/falls.test.toml:17:12: `test[3].alert[0].severity` is none: `criticl`
  hint: did you mean `critical`? known: info, warning, critical
  rules/falls.test.toml:18:1: unknown key `test[3].alert[0].lables`
  hint: did you mean `labels`? known: fires, ends, rule, environment, summary, group, severity, labels
0 tests: 0 passed; 1 file with mistakes
",
    );
    let unsaid_test = test("a", "traffic = [\"1 calls/s for 1m\"]");
    let unsaid = "rules/falls.rhai\n  rules/falls.test.toml:1:1: `test[0]` does not say what is to come\n  hint: list each alert under [[test.alert]] with fires = \"3h..3h10m\", or write alerts = \"none\"\n0 tests: 0 passed; 1 file with mistakes\n";
    folder.write("rules/falls.test.toml", &unsaid_test).check("", 1, unsaid);
    folder.write("rules/falls.test.toml", "").check(
        "",
        1,
        "rules/falls.rhai\n  rules/falls.test.toml: there is no test in it\n  hint: begin with [[test]]\n0 tests: 0 passed; 1 file with mistakes\n",
    );
    folder
        .write("rules/falls.rhai", "rule(#{ name: \"falls\", watch: rate(\"fallbak\", \"5m\") });")
        .write("rules/falls.test.toml", &test("a", "traffic = [\"1 calls/s for 1m\"]\nalerts = \"none\""));
    let said = folder.test("");
    assert!(said.code == 1 && said.text.contains("rules/falls.rhai:1:36: unknown signal `fallbak`"), "{said:?}");
    let alone = Folder::new("");
    std::fs::remove_file(alone.0.path().join("rules/falls.rhai")).expect("it is there");
    alone.check(
        "",
        2,
        "streamgauge: rules/falls.test.toml tests a rule that is not there\nhint: the rule of a test file stands beside it: falls.rhai\n",
    );
    alone.check(
        "elsewhere",
        2,
        "streamgauge: there is no elsewhere\nhint: name a folder of rules, a rule (NAME.rhai) or its tests (NAME.test.toml)\n",
    );
}

#[test]
fn messages_are_kept_compared_shown_and_renewed() {
    let fires = |name: &str, seed| test(name, &format!("traffic = [\"{INCIDENT}\"]\nseed = {seed}\n[[test.alert]]\nfires = \"3h..3h10m\""));
    let silent = test("silent", "traffic = [\"60 calls/min for 1h, 1% fallback\"]\nalerts = \"none\"");
    let folder = Folder::new(&format!("{}{silent}", fires("one", 1)));
    folder.check("", 0, "rules/falls.rhai\n  ✔ one\n  ✔ silent\n2 tests: 2 passed\n");
    assert_eq!(folder.read("rules/falls.test.snap"), None, "nobody asked for messages to be kept");
    let kept = "      its messages are kept from now on\n";
    folder.check("--update", 0, &format!("rules/falls.rhai\n  ✔ one\n{kept}  ✔ silent\n{kept}2 tests: 2 passed\n"));
    let text = folder.read("rules/falls.test.snap").expect("it is written");
    for part in [
        "What people read in the tests of falls.test.toml. `streamgauge test --update` writes this file.\n\n== one\n\nat 3h",
        "  #llm-alerts  streamgauge\n  ▌ ● WARNING: falls — ",
        "  ▌ http://streamgauge.example/alerts/1\n",
        "\n== silent\n\n(nobody is told anything)\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    folder.check("--update", 0, "rules/falls.rhai\n  ✔ one\n  ✔ silent\n2 tests: 2 passed\n");

    // A comment changes no message, and a runbook each.
    folder.write("rules/falls.rhai", &format!("{RULE}// The end.\n")).check("--run one", 0, "rules/falls.rhai\n  ✔ one\n1 test: 1 passed\n");
    folder.write("rules/falls.rhai", &RULE.replace("group_by", "runbook: \"https://runbooks.example/falls\", group_by"));
    let differ = "      with seed 1, its messages differ from those that are kept: --diff shows where, --update keeps the new ones\n";
    folder.check("--run one", 1, &format!("rules/falls.rhai\n  ✗ one\n{differ}1 test: 0 passed, 1 failed\n"));
    let shown = folder.test("--diff").text;
    assert!(shown.contains("      +   ▌ Runbook  https://runbooks.example/falls\n"), "{shown}");
    assert!(!shown.contains("      - "), "{shown}");

    // What did not run stays, what is new comes in its place, and what is gone goes.
    folder.write("rules/falls.test.toml", &format!("{}{silent}{}", fires("two", 2), fires("one", 1)));
    folder.check("--run two", 1, &format!("rules/falls.rhai\n  ✗ two\n{}1 test: 0 passed, 1 failed\n", differ.replace("seed 1", "seed 2")));
    folder.check("--run two --update", 0, &format!("rules/falls.rhai\n  ✔ two\n{kept}1 test: 1 passed\n"));
    let two = folder.read("rules/falls.test.snap").expect("it is written");
    let names: Vec<_> = two.lines().filter_map(|line| line.strip_prefix("== ")).collect();
    assert_eq!(names, ["two", "silent", "one"]);
    assert_eq!(two.matches("Runbook").count(), 2, "those of `two` alone are renewed:\n{two}");
    folder.write("rules/falls.test.toml", &fires("one", 1)).check("--update", 0, &format!("rules/falls.rhai\n  ✔ one\n{kept}1 test: 1 passed\n"));
    let one = folder.read("rules/falls.test.snap").expect("it is written");
    assert!(!one.contains("== two") && one.matches("Runbook").count() == 2, "{one}");
}

#[test]
fn calls_of_ones_own_are_read_from_a_file_and_in_place_beside_generated_ones() {
    let rule = "rule(#{ name: \"mine\", watch: #{ bad: rate(\"no_hits\", \"5m\").at_least(3) }, group_by: [\"stage\"] });\n\
                fn signals(log) { if log.stage == \"odd\" { throw \"odd\" } #{ no_hits: log.properties.memory.hits == 0 } }\n\
                fn check(w) { if w.bad.value > 0.5 { fire(`${w.bad.bad} without hits`) } }\n";
    let line = |second: i64, hits: i64| {
        format!(
            "{{\"id\":\"c{second}\",\"time\":\"2026-02-01T00:00:{second:02}Z\",\"kind\":\"retrieval\",\"stage\":\"recall\",\"properties\":{{\"memory\":{{\"hits\":{hits}}}}}}}\n"
        )
    };
    let lines: String = (1..5).map(|second| line(second, 0)).collect();
    let fires = "[[test.alert]]\nfires = \"10s\"\ngroup = { stage = \"recall\" }\nsummary = \"4 without hits\"\nenvironment = \"default\"";
    let folder = Folder::new("");
    folder.write("rules/mine.rhai", rule).write("rules/mine.jsonl", &lines).write("rules/mine.test.toml", &[
        test("a file, from its first call on", "calls = \"mine.jsonl\"\n[[test.alert]]\nfires = \"9s\"\nends = \"never\""),
        test("a file, from a start", &format!("calls = \"mine.jsonl\"\nstart = 2026-02-01T00:00:00Z\n{fires}")),
        test("lines", &format!("calls = '''\n{lines}'''\nstart = \"2026-02-01T00:00:00Z\"\n{fires}")),
        test("beside generated ones", &format!("calls = \"mine.jsonl\"\nstart = 2026-02-01T00:00:00Z\ntraffic = [{{ calls = \"1 calls/s for 10m\", log = {{ stage = \"other\" }} }}]\n{fires}")),
        test("a share of calls with an object", "traffic = ['60 calls/min for 1h, 1% {\"properties\":{\"memory\":{\"hits\":0}}}; then for 20m 90%']\n[[test.alert]]\nfires = \"1h2m..1h6m\"\nends = \"never\""),
        test("a rule that stumbles says so", "traffic = [{ calls = \"1 calls/s for 1m\", log = { stage = \"odd\" } }]\nalerts = \"none\""),
        test("a line that is no call", "calls = '{\"id\":1}'\nalerts = \"none\""),
        test("a field that is none", "traffic = [{ calls = \"1 calls/s for 1m\", log = { latency_ms = \"soon\" } }]\nalerts = \"none\""),
    ].concat());
    let said = folder.test("rules/mine.rhai");
    let marks: Vec<_> = said.text.lines().filter(|line| line.starts_with("  ✔") || line.starts_with("  ✗")).map(|line| line.contains('✔')).collect();
    assert_eq!(marks, [true, true, true, true, true, false, false, false], "{}", said.text);
    for line in [
        "      `calls`, line 1: field `time` is missing: RFC 3339 or epoch milliseconds of the call's end\n",
        "      fn applies(log) or fn signals(log) failed on ",
        "      call 1 is none: field `latency_ms`: expected a number, found \"soon\"\n",
    ] {
        assert!(said.text.contains(line), "{line:?} is not in\n{}", said.text);
    }
}

#[test]
fn the_end_of_generated_traffic_is_no_news_and_a_silence_is() {
    let folder = Folder::new("");
    let rule = "rule(#{ name: \"calls\", watch: #{ calls: volume(\"1m\"), lately: volume(\"30m\") } });\n\
                fn check(w) { if w.calls.value == 0 && w.lately.value > 100 { fire(\"none\") } }\n";
    folder.write("rules/calls.rhai", rule).write(
        "rules/calls.test.toml",
        &[
            test("the end", "traffic = [\"60 calls/min for 1h\"]\nalerts = \"none\""),
            test("a silence", "traffic = [\"60 calls/min for 1h; then for 10m silence\"]\n[[test.alert]]\nfires = \"1h1m..1h2m\"\nends = \"never\""),
        ]
        .concat(),
    );
    let said = folder.test("rules/calls.rhai");
    assert_eq!(said.code, 0, "{}", said.text);
}

#[test]
fn the_shipped_rules_pass_their_own_tests() {
    let library = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../rules/library");
    let said = run(&library, ".");
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(!said.text.contains("no tests"), "{}", said.text);
}

/// Each signal alone, as many of its calls as named, and what else it brings with it.
#[test]
fn generated_calls_show_the_signals_they_name_and_no_others() {
    let evaluators = Evaluators::new(Vec::new(), Vec::new()).expect("nothing to refuse");
    let seen = |signal: Signal| -> Vec<Signals> {
        let phrase = Phrase::parse(&format!("100 calls/s for 30s, 20% {}", signal.name())).expect("it is a phrase");
        let calls = phrase.calls(serde_json::Map::new(), 1_767_571_200_000, 9);
        let of = |(_, log): (i64, Vec<u8>)| {
            let call = model::parse(&log).unwrap_or_else(|error| panic!("{error:?}: {}", String::from_utf8_lossy(&log)));
            signals(&call, &evaluators.find(&call))
        };
        calls.map(of).collect()
    };
    for signal in Signal::ALL {
        let brings: &[Signal] = match signal {
            // What no phrase says.
            Signal::Slow | Signal::ToolArgumentsInvalid => continue,
            // The attempt that ended so was followed by another.
            Signal::RateLimited | Signal::Timeout | Signal::Overloaded => &[Signal::Retry],
            // Without a configured schema no fence is accepted.
            Signal::FencedJson => &[Signal::InvalidJson],
            _ => &[],
        };
        let calls = seen(signal);
        for other in Signal::ALL {
            let of: Vec<_> = calls.iter().map(|signals| signals.get(other)).filter(|(applies, _)| *applies).collect();
            let share = of.iter().filter(|(_, holds)| *holds).count() as f64 / of.len().max(1) as f64;
            let named = (other == signal && signal != Signal::FencedJson) || brings.contains(&other);
            assert!(if named { (0.17..0.23).contains(&share) } else { share == 0.0 }, "{} of 20% {}: {share}", other.name(), signal.name());
        }
    }
}
