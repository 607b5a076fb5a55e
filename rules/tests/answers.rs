//! What loaded rules answer: the data they give the plan, what their scripts see in a call, and when their checks fire.

use model::fold::ScriptView;
use model::label::Key;
use model::plan::{Decides, Filter, NoData, Objective, Plan, Range, RuleSpec, Severity, SignalRef, Statistic, WatchSpec, Windows};
use model::signal::Signals;
use model::time::Span;
use model::window::{Checked, Direction, Drift, Fire, GroupView, Observation, Ranked};
use model::{FalseAlarms, Measure, MeasureRef, OwnMeasure, Signal, Timestamp};
use streamgauge_rules::{Configured, RuleSet, Source, library, load, read_folder};

#[track_caller]
fn rules(texts: &[&str]) -> RuleSet {
    let sources: Vec<_> = texts.iter().enumerate().map(|(i, text)| Source { path: format!("r{i}.rhai").into(), text: (*text).to_owned() }).collect();
    let loaded = load(&sources, &Configured::default());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>());
    loaded.rules
}

#[track_caller]
fn spec(text: &str) -> RuleSpec {
    rules(&[text]).specs().remove(0)
}

#[test]
fn a_rule_is_read_as_written() {
    let spec = spec(
        r##"
        // Broken answers of the extraction,
        //
        // seen by provider.
        rule(#{
            name: "broken", severity: "critical", hold: "30s", keep_firing: "2m", no_data: "alert", owner: "memory",
            watch: #{
                slow: quantile("latency_ms", 0.95, "10m"),
                bad: rate("invalid_json", "5m").expect(0, 0.02).only(#{ model: ["b", "a"] }).at_least(50),
                cost: mean("cost_usd", "1h"), calls: volume("30s"),
            },
            group_by: ["environment", "provider", "properties.tenant"], environments: ["production"],
            applies: #{ stage: "extraction" }, channel: "#oncall", runbook: "https://runbooks.example/x",
        });
        fn check(w) { }
        "##,
    );
    let rule = &spec.rule;
    assert_eq!((rule.name.as_str(), rule.severity, rule.no_data, rule.decides), ("broken", Severity::Critical, NoData::Alert, Decides::Check(0)));
    assert_eq!((rule.hold, rule.keep_firing), (Span::from_secs(30), Span::from_secs(120)));
    assert_eq!(rule.group_by, [Key::Provider, Key::Property("tenant".into())]);
    assert_eq!((rule.environments.as_slice(), rule.channel.as_deref()), (&["production".to_owned()][..], Some("#oncall")));
    assert_eq!(rule.summary, "Broken answers of the extraction, seen by provider.");
    assert_eq!((spec.applies, spec.script), (Filter(vec![(Key::Stage, vec!["extraction".into()])]), None));
    let watch = |name: &str, statistic, secs, at_least| WatchSpec { at_least, ..WatchSpec::new(name, statistic, Span::from_secs(secs)) };
    assert_eq!(
        spec.watches,
        [
            WatchSpec {
                expect: Some(Range { low: 0.0, high: 0.02 }),
                only: Filter(vec![(Key::Model, vec!["a".into(), "b".into()])]),
                ..watch("bad", Statistic::Rate(SignalRef::BuiltIn(Signal::InvalidJson)), 300, 50)
            },
            watch("calls", Statistic::Volume, 30, 0),
            watch("cost", Statistic::Mean(Measure::CostUsd.into()), 3600, 30),
            watch("slow", Statistic::Quantile(Measure::LatencyMs.into(), 0.95), 600, 30),
        ]
    );
}

#[test]
fn a_rule_may_have_an_objective_or_a_budget_of_its_own() {
    let slo = spec("rule(#{ name: \"r\", watch: rate(\"error\", \"5m\"), slo: 0.99, over: \"7d\" });");
    assert_eq!(slo.rule.decides, Decides::Burn(Objective { target: 0.99, over: Span::from_secs(7 * 86_400) }));
    let own = spec("rule(#{ name: \"r\", watch: rate(\"error\", \"5m\"), false_alarms: \"1 per week\" });");
    assert_eq!((own.rule.decides, own.rule.false_alarms), (Decides::Drift, FalseAlarms::parse("1 per week").ok()));
}

#[test]
fn the_shortest_rule_has_the_defaults() {
    let spec = spec("rule(#{ name: \"r\", watch: rate(\"error\", \"10s\").expect(0.0, 0.1), applies: #{ environment: \"test\", kind: \"llm\" } });");
    assert_eq!(spec.watches[0].name, "value");
    assert_eq!((spec.rule.severity, spec.rule.no_data, spec.rule.decides), (Severity::Warning, NoData::Keep, Decides::Drift));
    assert_eq!((spec.rule.hold, spec.rule.keep_firing, spec.watches[0].at_least), (Span::ZERO, Span::from_secs(60), 1));
    assert_eq!((spec.rule.environments, spec.applies.0.len()), (vec!["test".to_owned()], 1));
}

#[test]
fn the_fingerprint_is_of_the_text_and_not_of_its_line_ends() {
    let text = "// A.\nrule(#{ name: \"r\", watch: volume(\"5m\").expect(0, 1) });\n";
    let of = |text: &str| spec(text).rule.fingerprint;
    assert_eq!(of(text), of(&text.replace('\n', "\r\n")));
    assert_eq!(of(text), of(&format!("\u{feff}{text}")));
    assert_ne!(of(text), of(&text.replace("A.", "B.")));
}

#[test]
fn slots_go_to_rules_with_functions_in_order_of_name() {
    let rule = |name: &str, rest: &str| format!("rule(#{{ name: \"{name}\", watch: volume(\"5m\").expect(0, 1) }}); {rest}");
    let set = rules(&[
        &rule("d", "fn signals(log) { #{} }"),
        &rule("c", "fn check(w) { fire(\"c\") }"),
        &rule("b", ""),
        &rule("a", "fn applies(log) { log.stage == \"x\" } fn check(w) { fire(\"a\") }"),
    ]);
    let specs = set.specs();
    assert_eq!(specs.iter().map(|spec| spec.rule.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(specs.iter().map(|spec| spec.script.map(|script| script.slot)).collect::<Vec<_>>(), [Some(0), None, None, Some(2)]);
    assert_eq!(
        specs.iter().map(|spec| spec.rule.decides).collect::<Vec<_>>(),
        [Decides::Check(0), Decides::Drift, Decides::Check(1), Decides::Drift]
    );
    assert_eq!(Plan::new(Windows::default(), FalseAlarms::default(), specs).groupings.len(), 3);
    let view = GroupView { environment: "e".into(), at: Timestamp::EPOCH, labels: vec![], observations: vec![Observation::default()] };
    let fired = |rule| matches!(set.check(rule, &view), Checked::Fire(fire) if fire.summary.len() == 1);
    assert_eq!([fired(0), fired(1), fired(2), fired(3)], [true, false, true, false]);
    assert_eq!(set.check(1, &view), Checked::Quiet);
    let call = model::parse(br#"{"id":"a","time":1700000000000,"model":"m"}"#).expect("a good log");
    let mut views = vec![ScriptView::default(); 9];
    set.see(&call, &mut views);
    assert_eq!(views.iter().map(|view| (view.applies, view.failed)).collect::<Vec<_>>(), [(false, false), (true, false)]);
    assert_eq!(views.iter().map(|view| view.slot).collect::<Vec<_>>(), [0, 2]);
}

/// What the functions of one rule see in one call, after `applies: #{ kind: "llm" }`.
#[track_caller]
fn see(functions: &str, log: &str) -> ScriptView {
    let text = format!(
        "rule(#{{ name: \"r\", watch: #{{ a: rate(\"a\", \"5m\"), b: rate(\"b\", \"5m\"), c: rate(\"a\", \"1m\"), d: rate(\"error\", \"5m\") }}, applies: #{{ kind: \"llm\" }} }});\n\
         fn check(w) {{ }}\n{functions}\n// a b"
    );
    let text = if functions.contains("fn signals") { text } else { text.replace("\"a\"", "\"retry\"").replace("\"b\"", "\"slow\"") };
    let set = rules(&[&text]);
    let call = model::parse(log.as_bytes()).expect("a good log");
    let mut views = Vec::new();
    set.see(&call, &mut views);
    if let Some(why) = set.failure(0, &call) {
        assert!(views[0].failed, "{why}");
        eprintln!("{why}");
    }
    views.into_iter().next().unwrap_or_default()
}

const LOG: &str = r#"{"id":"a1","time":"2026-11-20T09:14:02.114Z","model":"gpt","provider":"openai","stage":"extraction","environment":"production",
    "status_code":200,"latency_ms":812,"cost_usd":0.25,"usage":{"input_tokens":10},"prompt":{"name":"p","version":"3"},
    "attempts":[{"provider":"openai","status_code":429,"error_type":"rate_limit"},{"provider":"azure"}],
    "properties":{"tenant":"acme","nested":{"deep":[1,2]}},"own":true,"response_format":"json",
    "output":"{\"facts\":[\"x\",2.5,{\"name\":\"n\"}],\"none\":null,\"count\":3,\"case\":\"c\",\"text\":\"abc\",\"flag\":true}"}"#;

#[test]
fn scripts_see_the_fields_of_a_call() {
    for condition in [
        "log.id == \"a1\" && log.time == 1795166042114",
        "log.kind == \"llm\" && log.environment == \"production\" && log.stage == \"extraction\"",
        "log.model == \"gpt\" && log.provider == \"openai\" && log.served_by.provider == \"azure\"",
        "log.status_code == 200 && log.latency_ms > 800 && log.cost_usd == 0.25",
        "log.usage.input_tokens == 10 && log.usage.output_tokens == ()",
        "log.prompt.name == \"p\" && log.prompt.version == \"3\"",
        "log.attempts.len() == 2 && log.attempts[0].status_code == 429 && log.attempts[0].error_type == \"rate_limit\"",
        "log.attempts.some(|attempt| attempt.status_code == 429)",
        "log.error == () && log.user_id == () && log.error.type == () && log.error?.type == ()",
        "log.properties.tenant == \"acme\" && log.properties.nested.deep[1] == 2 && log.properties.own && log.properties.other == ()",
        "log[\"stage\"] == \"extraction\" && log.response_format == \"json\" && log.input == ()",
        "log.output.contains(\"facts\") && log.output.starts_with(\"{\")",
        // Comparing nothing is false, not an error.
        "!(log.ttft_ms > 5) && !(log.ttft_ms < 5) && log.ttft_ms != 5",
    ] {
        assert_eq!(see(&format!("fn applies(log) {{ {condition} }}"), LOG), ScriptView { applies: true, ..ScriptView::default() }, "{condition}");
    }
}

#[test]
fn the_parsed_answer_is_total() {
    for condition in [
        "log.json.facts[0] == \"x\" && log.json.facts[1] == 2.5 && log.json.facts[2].name == \"n\" && log.json.facts[-1].name == \"n\"",
        "log.json.facts.len() == 3 && log.json?.facts?.len() == 3 && log.json.facts.len == 3 && !log.json.facts.is_empty()",
        "log.json.count == 3 && log.json.count == 3.0 && log.json.count + 1 == 4 && log.json.flag && log.json[\"case\"] == \"c\"",
        "log.json.none == () && log.json.missing == () && log.json.missing.further[3].still == () && log.json.missing.len() == 0",
        "log.json.facts[9] == () && log.json.facts[-9] == () && log.json.facts.name == () && log.json.facts[2].name.first.last == ()",
        "log.json[0] == () && log.json.count.part == () && log.json.flag.part.len() == 0 && log.json.count.len() == 0",
        "\"x\" in log.json.facts && !(\"y\" in log.json.facts) && \"facts\" in log.json && !(\"y\" in log.json.missing)",
        "log.json.keys().len() == 6 && log.json.facts.to_array().len() == 3 && log.json.missing.to_array() == []",
        "log.json.facts.some(|f| f == \"x\") && !log.json.facts.all(|f| f == \"x\") && log.json.facts.filter(|f| f.name == \"n\").len() == 1",
        "!log.json.missing.some(|f| true) && log.json.missing.all(|f| false) && log.json.facts.map(|f| f.name)[2] == \"n\"",
        "let n = 0; for fact in log.json.facts { n += 1; } for fact in log.json.missing { n += 10; } n == 3",
        "log.json.text[0] == 'a' && log.json.text.len() == 3",
    ] {
        assert_eq!(see(&format!("fn applies(log) {{ {condition} }}"), LOG), ScriptView { applies: true, ..ScriptView::default() }, "{condition}");
    }
    for output in ["", ",\"output\":\"not JSON\"", ",\"output\":\"[1e999]\"", ",\"output\":[{\"type\":\"tool_use\",\"name\":\"t\"}]"] {
        let log = format!("{{\"id\":\"a\",\"time\":1700000000000,\"model\":\"m\"{output}}}");
        let view =
            see("fn applies(log) { log.json == () && log.json.facts[0].x == () && log.json?.facts?.len() != 0 && log.json.facts.len() == 0 }", &log);
        assert_eq!(view, ScriptView { applies: true, ..ScriptView::default() }, "{output}");
    }
}

#[test]
fn signals_have_numerator_and_denominator() {
    let seen = |applies, holds| ScriptView { applies: true, signals: Signals { applies, holds }, ..ScriptView::default() };
    for (answer, expected) in [
        ("#{ a: true, b: false }", seen(3, 1)),
        ("#{ a: false, b: true, other: 5 }", seen(3, 2)),
        ("#{ b: true }", seen(2, 2)),
        ("#{ a: (), b: true }", seen(2, 2)),
        ("#{}", seen(0, 0)),
        ("#{ a: 1 }", ScriptView { failed: true, ..ScriptView::default() }),
        ("5", ScriptView { failed: true, ..ScriptView::default() }),
        ("#{ a: log.json.facts.len() == 3, b: log.json.missing }", seen(1, 1)),
    ] {
        assert_eq!(see(&format!("fn signals(log) {{ {answer} }}"), LOG), expected, "{answer}");
    }
}

#[test]
fn the_filter_as_data_comes_before_any_script() {
    let functions = "fn applies(log) { throw \"never for tools\" } fn signals(log) { #{} }";
    assert_eq!(see(functions, r#"{"id":"a","time":1700000000000,"kind":"tool"}"#), ScriptView::default());
    assert_eq!(see(functions, LOG), ScriptView { failed: true, ..ScriptView::default() });
    let both = "fn applies(log) { log.stage == \"other\" } fn signals(log) { throw \"not asked\" }";
    assert_eq!(see(both, LOG), ScriptView::default());
}

#[test]
fn constants_reach_functions_closures_included() {
    for body in [
        "LIMIT == 3",
        "[1, 5].some(|x| x > LIMIT)",
        "NAMES.contains(log.stage)",
        "deeper()",
        "TABLE.extraction == 1",
        "[log.stage].some(|x| NAMES.contains(x) && LIMIT == 3)",
    ] {
        let functions = format!(
            "const LIMIT = 1 + 2; const NAMES = [\"extraction\"]; const TABLE = #{{ extraction: 1 }};\n\
             fn deeper() {{ LIMIT == 3 }}\nfn applies(log) {{ {body} }}"
        );
        assert!(see(&functions, LOG).applies, "{body}");
    }
}

fn group(observations: Vec<Observation>) -> GroupView {
    GroupView {
        environment: "production".into(),
        at: Timestamp::EPOCH + Span::from_secs(3600),
        labels: vec!["extraction".into(), "acme".into()],
        observations,
    }
}

fn checked(watch: &str, body: &str, observations: Vec<Observation>) -> Checked {
    let text = format!("rule(#{{ name: \"r\", watch: {watch}, group_by: [\"stage\", \"properties.tenant\"] }});\nfn check(w) {{ {body} }}");
    rules(&[&text]).check(0, &group(observations))
}

#[test]
fn check_sees_each_watch_and_the_group() {
    let bad = Observation {
        value: Some(0.031),
        holds: 31,
        calls: 1000,
        low: 0.02,
        high: 0.04,
        expected: Some(Range { low: 0.0, high: 0.02 }),
        drifted: Some(Direction::Up),
        ..Observation::default()
    };
    let empty = Observation { high: 1.0, ..Observation::default() };
    let watch = "#{ bad: rate(\"invalid_json\", \"5m\"), slow: quantile(\"latency_ms\", 0.95, \"10m\") }";
    for condition in [
        "w.bad.value == 0.031 && w.bad.calls == 1000 && w.bad.bad == 31 && w.bad.low == 0.02 && w.bad.high == 0.04",
        "w.bad.expected.low == 0.0 && w.bad.expected.high == 0.02 && w.bad.drifted == \"up\" && w.slow.drifted == \"\"",
        "w.slow.value == () && w.slow.expected == () && w.slow.expected.high == () && !(w.slow.value > 0.0)",
        "w.group.environment == \"production\" && w.group.stage == \"extraction\" && w.group.tenant == \"acme\"",
        "percent(w.bad.value) == \"3.1 %\" && percent(w.slow.value) == \"n/a\" && ms(2300) == \"2.3 s\" && ms(230.0) == \"230 ms\" && usd(0.5) == \"$0.50\"",
    ] {
        let got = checked(watch, &format!("if {condition} {{ fire(\"yes\") }}"), vec![bad.clone(), empty.clone()]);
        assert_eq!(got, Checked::Fire(Fire { summary: "yes".into(), severity: None, labels: vec![] }), "{condition}");
    }
    let body = "fire(`${percent(w.bad.value)} of answers are not JSON; expected at most ${percent(w.bad.expected.high)}`)";
    let summary = "3.1 % of answers are not JSON; expected at most 2 %".into();
    assert_eq!(checked(watch, body, vec![bad.clone(), empty.clone()]), Checked::Fire(Fire { summary, severity: None, labels: vec![] }));
    let got = checked("volume(\"5m\")", "if w.value.value > 2 { fire(\"busy\") }", vec![Observation { value: Some(3.0), ..empty }]);
    assert_eq!(got, Checked::Fire(Fire { summary: "busy".into(), severity: None, labels: vec![] }));
}

#[test]
fn of_several_firings_the_first_of_the_highest_severity_counts() {
    let fire = |body: &str| checked("volume(\"5m\")", body, vec![Observation::default()]);
    let fired = |summary: &str, severity| Checked::Fire(Fire { summary: summary.into(), severity, labels: vec![] });
    assert_eq!(fire("false"), Checked::Quiet);
    assert_eq!(fire("fire(\"a\"); fire(\"b\"); 7"), fired("a", None));
    assert_eq!(
        fire("fire(\"a\"); fire(#{ summary: \"b\", severity: \"critical\" }); fire(#{ summary: \"c\", severity: \"critical\" })"),
        fired("b", Some(Severity::Critical))
    );
    assert_eq!(fire("fire(#{ summary: \"a\", severity: \"info\" }); fire(#{ summary: \"b\" })"), fired("b", None));
    assert_eq!(fire("helper(w)\n } fn helper(w) { fire(\"from a helper\")"), fired("from a helper", None));
    let Checked::Fire(long) = fire("let s = \"é\"; s.pad(400, \"é\"); fire(s)") else { panic!("it fires") };
    assert_eq!(long.summary.len(), 500);
    for (body, expected) in [
        ("fire(#{ summary: \"a\", severity: \"bad\" })", "r0.rhai:2:15: unknown severity `bad`\nhint: known: info, warning, critical"),
        ("fire(5)", "r0.rhai:2:15: fire takes a text or a map\nhint:"),
        ("fire(#{ text: \"a\" })", "r0.rhai:2:15: a firing's summary is a text"),
        ("fire()", "r0.rhai:2:15: `fire` is not written like this here\nhint: it is fire(text)"),
        ("fire(\"a\"); w.value.value.x.y = 1;", "r0.rhai:2:"),
        ("let x = w.value.calls.nothing + 1;", "r0.rhai:2:"),
        ("let first = w.value.top[0];", "r0.rhai:2:39: there is no element 0 in an array of 0\nhint: ask for its len() first"),
        ("let gap = w.value.value - 2;", "r0.rhai:2:39: `-` does not go with () and a whole number\nhint: what is missing is ()"),
        ("percent(w.value);", "r0.rhai:2:15: percent takes a number, and this is a map\nhint: a watch's number is its value"),
        ("let v = w; if v.valeu.value > 1 { }", "r0.rhai:2:"),
        ("let v = w; if v.value.vlaue > 1 { }", "r0.rhai:2:37: there is no `vlaue` here\nhint: w has the rule's watches"),
        ("let v = w; if v.group.stge == \"a\" { }", "r0.rhai:2:"),
    ] {
        match fire(body) {
            Checked::Failed(why) => assert!(why.starts_with(expected), "{body}: {why}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn the_set_is_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    let set = rules(&[
        "rule(#{ name: \"r\", watch: volume(\"5m\"), group_by: \"stage\" }); fn check(w) { for i in 0..100 { w.group.len(); } fire(w.group.stage) }",
    ]);
    shared(&set);
    std::thread::scope(|scope| {
        for stage in ["a", "b", "c", "d"] {
            let set = set.clone();
            scope.spawn(move || {
                let view = GroupView {
                    environment: "e".into(),
                    at: Timestamp::EPOCH,
                    labels: vec![stage.into()],
                    observations: vec![Observation::default()],
                };
                for _ in 0..20 {
                    assert_eq!(set.check(0, &view), Checked::Fire(Fire { summary: stage.into(), severity: None, labels: vec![] }));
                }
            });
        }
    });
}

/// By name.
const BASICS: [&str; 11] = [
    "cost",
    "empty-answers",
    "errors",
    "fallback-rate",
    "invalid-json-rate",
    "latency",
    "refusals",
    "retry-rate",
    "schema-violations",
    "truncation",
    "volume",
];

#[test]
fn shipped_rules_load_like_any_other() {
    let names = |names: &[&str]| library(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let sources = names(&["basics", "retry-rate"]).expect("both are known");
    assert_eq!(sources.len(), 11);
    let loaded = load(&sources, &Configured::default());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let specs = loaded.rules.specs();
    assert_eq!(specs.iter().map(|spec| spec.rule.name.as_str()).collect::<Vec<_>>(), BASICS);
    let plan = Plan::new(Windows::default(), FalseAlarms::default(), specs);
    let costly = (1..plan.groupings.len()).filter(|number| !plan.ranks_violations(*number)).count();
    assert_eq!(costly, 0, "shipped rules cost nothing per call, but for what a call violates");
    let both = load(&names(&["basics", "memory-layer", "judges"]).expect("both are known"), &Configured::default());
    assert!(both.problems.is_empty(), "{:?}", both.problems);
    let specs = both.rules.specs();
    assert_eq!(specs.len(), 44);
    let known = |name: &String| specs.iter().any(|spec| spec.rule.name == *name);
    for spec in &specs {
        assert!(spec.rule.inhibit_by.iter().all(known), "{} is no consequence of a rule that is not there", spec.rule.name);
        assert!(!spec.rule.summary.is_empty() && spec.rule.channel.is_none(), "{}", spec.rule.name);
    }
    let unknown = names(&["basic"]).expect_err("there is no such pack");
    let said = unknown.to_string();
    let expected = "find `basic` in the rule library\nhint: did you mean `basics`? known: basics, memory-layer, judges, fallback-rate, retry-rate, ";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn a_folder_is_read_with_its_subfolders_in_order() {
    let folder = tempfile();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    for (name, text) in [("b.rhai", "b"), ("a/z.rhai", "z"), ("b.test.toml", "x"), ("notes.md", "x"), ("..data/b.rhai", "twice"), ("c.rhai", "c")] {
        write(name, text);
    }
    let sources = read_folder(&folder).expect("it can be read");
    assert_eq!(sources.iter().map(|source| source.text.as_str()).collect::<String>(), "zbc");
    assert_eq!(read_folder(&folder.join("b.rhai")).expect("one file").len(), 1);
    assert!(read_folder(&folder.join("missing")).expect("none is fine").is_empty());
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

/// A folder of this process's own.
fn tempfile() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("streamgauge-rules-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn every_statistic_is_said_as_it_is_written() {
    let text = r#"
        rule(#{
            name: "r", group_by: ["stage"],
            watch: #{
                a: count("fallback", "1h"), b: sum("cost_usd", "7d"), c: distinct("user_id", "1h").at_least(0), d: top("properties.tenant", "cost_usd", 3, "1h"),
                e: top("user_id", "calls", 5, "10m"), f: ratio(sum("cost_usd", "1h"), count("good", "1h").only(#{ model: "m" })), g: mean("facts", "5m"),
            },
            measures: #{ facts: #{ unit: "facts", step: 1 } },
        });
        fn signals(log) { #{ good: true } }
        fn measures(log) { #{ facts: log.json.facts.len() } }
        fn check(w) { if w.a.value > w.a.previous.value && w.g.value > w.g.same_time_yesterday.value { fire("x") } }
    "#;
    let spec = spec(text);
    let own = OwnMeasure { name: "facts".into(), position: 0, unit: "facts".into(), step: 1.0 };
    let (cost, user) = (MeasureRef::from(Measure::CostUsd), Key::User);
    let what = "sum of cost_usd per good count".to_owned();
    let expected = [
        ("a", Statistic::Count(SignalRef::BuiltIn(Signal::Fallback)), "1h", 0),
        ("b", Statistic::Sum(cost.clone()), "7d", 0),
        ("c", Statistic::Distinct(user.clone()), "1h", 0),
        ("d", Statistic::Top(Key::Property("tenant".into()), Some(cost.clone()), 3), "1h", 1),
        ("e", Statistic::Top(user, None, 5), "10m", 1),
        ("f", Statistic::Ratio { above: 7, below: 8, what }, "1h", 1),
        ("g", Statistic::Mean(own.into()), "5m", 30),
        ("f", Statistic::Sum(cost), "1h", 0),
        ("f", Statistic::Count(SignalRef::User("good".into(), 0)), "1h", 0),
        ("a", Statistic::Count(SignalRef::BuiltIn(Signal::Fallback)), "1h", 0),
        ("g", spec.watches[6].statistic.clone(), "5m", 30),
    ];
    let got: Vec<_> = spec.watches.iter().map(|w| (w.name.as_str(), w.statistic.clone(), w.window.to_string(), w.at_least)).collect();
    assert_eq!(got, expected.map(|(name, statistic, window, at_least)| (name, statistic, window.to_owned(), at_least)));
    assert_eq!(spec.watches.iter().map(|w| w.part).collect::<Vec<_>>(), [[false; 7].as_slice(), &[true; 4]].concat());
    assert_eq!((spec.watches[0].previous, spec.watches[0].yesterday, spec.watches[6].yesterday), (Some(9), None, Some(10)));
    assert_eq!((spec.watches[9].offset, spec.watches[10].offset), (Span::from_secs(3600), Span::from_secs(86_400)));
    assert_eq!(spec.watches[8].only, Filter(vec![(Key::Model, vec!["m".into()])]));
    // Six of them have the same keys, filter and script; rankings have one more key each, and one part has a filter of its own.
    assert_eq!(Plan::new(Windows::default(), FalseAlarms::default(), vec![spec]).groupings.len(), 1 + 4);
}

#[test]
fn check_sees_earlier_windows_rankings_and_time() {
    let at = |minutes: u64| Timestamp::EPOCH + Span::from_secs(minutes * 60);
    let drift = Drift {
        since: at(46),
        since_between: (at(45), at(47)),
        size: 0.1,
        usual: 0.01,
        beyond: None,
        calls: 5,
        holds: 1,
        log_evidence: 9.0,
        log_needed: 8.0,
    };
    let now = Observation { value: Some(0.3), calls: 100, holds: 30, drift: Some(drift), ..Observation::default() };
    let ranked = |label: &str, value| Ranked { label: label.into(), value, share: value / 10.0, calls: 2 };
    let top = Observation { value: Some(6.0), calls: 7, top: vec![ranked("u_1", 6.0), ranked("u_2", 3.0)], ..Observation::default() };
    let before = Observation { value: Some(0.1), calls: 90, holds: 9, ..Observation::default() };
    let watch = "#{ bad: rate(\"error\", \"5m\"), users: top(\"user_id\", \"cost_usd\", 2, \"1h\") }";
    let body = r#"
        let first = w.users.top[0];
        fire(#{ summary: `${percent(w.bad.value)} after ${percent(w.bad.previous.value)} since ${since(w.bad.since)}; ${since(w.bad.previous.since)}`,
                labels: #{ user: first.label, share: percent(first.share), n: w.users.top.len(), now: w.now } })"#;
    let got = checked(watch, body, vec![now, top, before]);
    let labels =
        [("n", "2"), ("now", "3600000"), ("share", "60 %"), ("user", "u_1")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(got, Checked::Fire(Fire { summary: "30 % after 10 % since 14m; n/a".into(), severity: None, labels }));
}

#[test]
fn measures_of_one_s_own_are_kept_in_whole_steps() {
    let rule = |measures: &str| {
        format!(
            "rule(#{{ name: \"r\", watch: #{{ a: mean(\"score\", \"5m\"), b: sum(\"facts\", \"5m\").expect(0, 9) }}, \
             measures: #{{ facts: #{{ step: 1 }} }} }}); fn measures(log) {{ let names = [\"score\", \"facts\"]; {measures} }}"
        )
    };
    let call = model::parse(LOG.as_bytes()).expect("a good log");
    for (measures, expected) in [
        ("#{ score: 0.7312, facts: 3 }", Ok(vec![Some(731), Some(3)])),
        ("#{ score: () }", Ok(vec![None, None])),
        ("#{ facts: 2.6 }", Ok(vec![None, Some(3)])),
        ("#{ score: -0.1 }", Err("measure `score` is -0.1; it is kept from 0 to")),
        ("#{ score: \"x\" }", Err("measure `score` is a text and must be a number or ()")),
        ("1", Err("fn measures must return a map of name to number")),
    ] {
        let set = rules(&[&rule(measures)]);
        let mut views = Vec::new();
        set.see(&call, &mut views);
        match expected {
            Ok(expected) => assert_eq!((views[0].failed, &views[0].measures), (false, &expected), "{measures}"),
            Err(why) => {
                assert!(views[0].failed && set.failure(0, &call).is_some_and(|text| text.contains(why)), "{measures}: {:?}", set.failure(0, &call))
            }
        }
    }
}

#[test]
fn the_conveniences_of_the_domain() {
    let log = r#"{"id":"a","time":1700000000000,"model":"m","latency_ms":2300,
        "output":[{"type":"text","text":"order 4711"},{"type":"tool_call","name":"search","arguments":"{\"k\":5}"}]}"#;
    for condition in [
        "log.has_tool_call(\"search\") && !log.has_tool_call(\"book\")",
        "log.tool_calls[0].arguments.k == 5 && log.tool_calls.len() == 1",
        "log.output.matches(\"[0-9]{4}$\") && log.output.matches(`^order \\d+`) && !log.output.matches(\"^x\")",
        "!log.refusal.matches(\"x\")",
        "log.latency_ms > duration(\"2s\") && log.latency_ms < duration(\"1m\")",
    ] {
        assert!(see(&format!("fn applies(log) {{ {condition} }}"), log).applies, "{condition}");
    }
    assert!(see("fn applies(log) { let s = log.output; for i in 0..20 { s += s; } s.matches(\"x\") }", log).failed);
    let endless = "fn applies(log) { let s = \"\"; s.pad(200000, 'a'); for i in 0..100 { if s.matches(\"b$\") { return true; } } false }";
    assert!(see(endless, log).failed, "what patterns may look at is bounded");
}

#[test]
fn constants_are_set_from_outside() {
    let text = "// x\nconst LIMIT = 0.05; // the limit\nconst STAGES =\n  [\"a\"];\nrule(#{ name: \"r\", watch: rate(\"error\", \"5m\").expect(0.0, LIMIT), applies: #{ stage: STAGES } });";
    let with = |entries: &[(&str, &str)]| {
        let set = entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(
            &[Source { path: "r.rhai".into(), text: text.to_owned() }],
            &Configured { constants: [("r".to_owned(), set)].into(), ..Configured::default() },
        )
    };
    let (plain, tuned) = (with(&[]), with(&[("LIMIT", "0.2"), ("STAGES", "[\"b\", \"c\"]")]));
    let expect = |loaded: &streamgauge_rules::Loaded| loaded.rules.specs()[0].watches[0].expect.map(|range| range.high);
    assert_eq!((expect(&plain), expect(&tuned)), (Some(0.05), Some(0.2)));
    assert_eq!(tuned.rules.specs()[0].applies, Filter(vec![(Key::Stage, vec!["b".into(), "c".into()])]));
    assert_ne!(plain.rules.specs()[0].rule.fingerprint, tuned.rules.specs()[0].rule.fingerprint);
    let problem = |entries: &[(&str, &str)]| with(entries).problems.iter().map(ToString::to_string).collect::<String>();
    assert_eq!(
        problem(&[("LIMTI", "1")]),
        "r.rhai:1:1: the configuration sets `LIMTI`, and the file has no such constant\nhint: did you mean `LIMIT`? known: LIMIT, STAGES"
    );
    assert_eq!(problem(&[("LIMIT", "7")]), "r.rhai:5:47: a rate is never 7\nhint: a rate lies in 0.0 to 1.0: 5 % is 0.05");
}
