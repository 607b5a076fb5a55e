//! What loaded rules answer: the data they give the plan, what their scripts see in a call, and when their checks fire.

use model::fold::ScriptView;
use model::label::Key;
use model::plan::{Decides, Filter, NoData, Objective, Plan, Range, RuleSpec, Severity, SignalRef, Statistic, WatchSpec, Windows};
use model::signal::Signals;
use model::time::Span;
use model::window::{Checked, Direction, Fire, GroupView, Observation};
use model::{FalseAlarms, Measure, Signal};
use streamgauge_rules::{RuleSet, Source, library, load, read_folder};

#[track_caller]
fn rules(texts: &[&str]) -> RuleSet {
    let sources: Vec<_> = texts.iter().enumerate().map(|(i, text)| Source { path: format!("r{i}.rhai").into(), text: (*text).to_owned() }).collect();
    let loaded = load(&sources);
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
    let watch = |name: &str, statistic, secs, at_least| WatchSpec {
        name: name.into(),
        statistic,
        window: Span::from_secs(secs),
        expect: None,
        at_least,
        only: Filter::default(),
    };
    assert_eq!(
        spec.watches,
        [
            WatchSpec {
                expect: Some(Range { low: 0.0, high: 0.02 }),
                only: Filter(vec![(Key::Model, vec!["a".into(), "b".into()])]),
                ..watch("bad", Statistic::Rate(SignalRef::BuiltIn(Signal::InvalidJson)), 300, 50)
            },
            watch("calls", Statistic::Volume, 30, 0),
            watch("cost", Statistic::Mean(Measure::CostUsd), 3600, 30),
            watch("slow", Statistic::Quantile(Measure::LatencyMs, 0.95), 600, 30),
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
    assert_eq!(set.scripts(), 3);
    assert_eq!(Plan::new(Windows::default(), FalseAlarms::default(), specs).groupings.len(), 3);
    let view = GroupView { environment: "e".into(), labels: vec![], observations: vec![Observation::default()] };
    let fired = |rule| matches!(set.check(rule, &view), Checked::Fire(fire) if fire.summary.len() == 1);
    assert_eq!([fired(0), fired(1), fired(2), fired(3)], [true, false, true, false]);
    assert_eq!(set.check(1, &view), Checked::Quiet);
    let call = model::parse(br#"{"id":"a","time":1700000000000,"model":"m"}"#).expect("a good log");
    let mut views = vec![ScriptView::default(); 9];
    set.see(&call, &mut views);
    assert_eq!(views.iter().map(|view| (view.applies, view.failed)).collect::<Vec<_>>(), [(false, false), (true, false), (true, false)]);
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
    views[0]
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
    let seen = |applies, holds| ScriptView { applies: true, signals: Signals { applies, holds }, failed: false };
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
    GroupView { environment: "production".into(), labels: vec!["extraction".into(), "acme".into()], observations }
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
        "percent(w.bad.value) == \"3.1 %\" && percent(w.slow.value) == \"n/a\" && ms(2300) == \"2.3 s\" && ms(230.0) == \"230 ms\" && usd(0.5) == \"$0.5000\"",
    ] {
        let got = checked(watch, &format!("if {condition} {{ fire(\"yes\") }}"), vec![bad, empty]);
        assert_eq!(got, Checked::Fire(Fire { summary: "yes".into(), severity: None }), "{condition}");
    }
    let body = "fire(`${percent(w.bad.value)} of answers are not JSON; expected at most ${percent(w.bad.expected.high)}`)";
    let summary = "3.1 % of answers are not JSON; expected at most 2 %".into();
    assert_eq!(checked(watch, body, vec![bad, empty]), Checked::Fire(Fire { summary, severity: None }));
    let got = checked("volume(\"5m\")", "if w.value.value > 2 { fire(\"busy\") }", vec![Observation { value: Some(3.0), ..empty }]);
    assert_eq!(got, Checked::Fire(Fire { summary: "busy".into(), severity: None }));
}

#[test]
fn of_several_firings_the_first_of_the_highest_severity_counts() {
    let fire = |body: &str| checked("volume(\"5m\")", body, vec![Observation::default()]);
    let fired = |summary: &str, severity| Checked::Fire(Fire { summary: summary.into(), severity });
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
        ("if w.valeu.value > 1 { }", "r0.rhai:2:"),
        ("if w.value.vlaue > 1 { }", "r0.rhai:2:26: there is no `vlaue` here\nhint: w has the rule's watches"),
        ("if w.group.stge == \"a\" { }", "r0.rhai:2:"),
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
                let view = GroupView { environment: "e".into(), labels: vec![stage.into()], observations: vec![Observation::default()] };
                for _ in 0..20 {
                    assert_eq!(set.check(0, &view), Checked::Fire(Fire { summary: stage.into(), severity: None }));
                }
            });
        }
    });
}

#[test]
fn shipped_rules_load_like_any_other() {
    let names = |names: &[&str]| library(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let sources = names(&["basics", "retry-rate"]).expect("both are known");
    assert_eq!(sources.len(), 3);
    let loaded = load(&sources);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    assert_eq!(loaded.rules.scripts(), 0);
    let specs = loaded.rules.specs();
    assert_eq!(specs.iter().map(|spec| spec.rule.name.as_str()).collect::<Vec<_>>(), ["fallback-rate", "invalid-json-rate", "retry-rate"]);
    assert_eq!(Plan::new(Windows::default(), FalseAlarms::default(), specs).groupings.len(), 1, "shipped rules cost nothing per call");
    let unknown = names(&["basic"]).expect_err("there is no such pack");
    assert_eq!(
        unknown.to_string(),
        "find `basic` in the rule library\nhint: did you mean `basics`? known: basics, fallback-rate, invalid-json-rate, retry-rate"
    );
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
