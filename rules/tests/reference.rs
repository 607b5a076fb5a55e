//! REFERENCE.md tells the truth: its tables are those of the language as registered, and every example runs.
//!
//! `STREAMGAUGE_RENEW=1 cargo test -p streamgauge-rules --test reference` writes the tables anew; the prose between them is written by hand.

use model::fold::ScriptView;
use model::label::Key;
use model::plan::{Decides, Range, WatchSpec};
use model::run::{RunMeasure, RunSignal, has_label};
use model::time::Span;
use model::verdict::{VerdictMeasure, VerdictSignal};
use model::window::{Checked, Direction, Drift, Fire, GroupView, Observation, Ranked};
use model::{Measure, Signal, Timestamp};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use streamgauge_rules::api::{self, Example, Function, Place};
use streamgauge_rules::{Configured, Loaded, Source, load};

const REFERENCE: &str = include_str!("../REFERENCE.md");
const RENEW: &str = "STREAMGAUGE_RENEW=1 cargo test -p streamgauge-rules --test reference";

fn read(text: &str) -> Loaded {
    load(&[Source { path: "r.rhai".into(), text: text.to_owned() }], &Configured::default())
}

/// The problems of one file, in one text; empty when there are none.
fn problems(text: &str) -> String {
    read(text).problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn the_tables_are_those_of_the_language() {
    let renewed = renewed(REFERENCE);
    if std::env::var_os("STREAMGAUGE_RENEW").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("REFERENCE.md"), renewed).expect("the reference can be written");
        return;
    }
    let line = REFERENCE.lines().zip(renewed.lines()).position(|(is, should)| is != should);
    let line = line.unwrap_or_else(|| REFERENCE.lines().count().min(renewed.lines().count()));
    assert!(REFERENCE == renewed, "REFERENCE.md is stale at line {}; renew it:\n    {RENEW}", line + 1);
}

/// The text with what stands between its markers made anew.
fn renewed(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    let mut missing: BTreeSet<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
    while let Some((before, marked)) = rest.split_once("<!-- generated: ") {
        let (name, inside) = marked.split_once(" -->\n").expect("a marker ends");
        let (_, after) = inside.split_once("<!-- end -->").expect("what is generated has an end");
        let (_, section) = SECTIONS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("nothing generates `{name}`"));
        missing.remove(name);
        write!(made, "{before}<!-- generated: {name} -->\n{}<!-- end -->", section()).expect("strings take text");
        rest = after;
    }
    assert!(missing.is_empty(), "REFERENCE.md has no place for {missing:?}");
    made + rest
}

type Section = (&'static str, fn() -> String);

const SECTIONS: [Section; 14] = [
    ("rule", rule),
    ("watches", watches),
    ("refinements", refinements),
    ("signals", signals),
    ("measures", measures),
    ("verdicts", verdicts),
    ("runs", runs),
    ("keys", keys),
    ("call", || format!("```json\n{}\n```\n", api::CALL)),
    ("log", || {
        table(
            &["field", "", "in the example"],
            api::LOG.map(|part| vec![code(&format!("log.{}", part.path)), part.meaning.into(), code(part.example)]),
        )
    }),
    ("w", || {
        format!(
            "```rhai\n{}\n\nfn check(w) {{\n    if w.bad.drifted == \"up\" {{ fire(`${{percent(w.bad.value)}} are bad`) }}\n}}\n```\n\n{}",
            api::VIEW,
            table(&["", "", "in the example"], api::W.map(|part| vec![code(part.path), part.meaning.into(), code(part.example)]))
        )
    }),
    ("functions", functions),
    ("evaluator", || {
        let rows =
            api::EVALUATOR.map(|function| vec![code(function.written), function.gives.into(), code(example(&function).0), example(&function).1]);
        table(&["function", "", "example", "verdict"], rows)
    }),
    ("limits", || table(&["", ""], api::limits().into_iter().map(|limit| vec![limit.what.into(), limit.most]))),
];

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        writeln!(table, "| {} |", row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | ")).expect("strings take text");
    }
    table
}

fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

fn rule() -> String {
    table(
        &["field", "takes", "default", "meaning"],
        api::RULE.map(|field| vec![code(field.name), field.takes.into(), field.default.into(), field.meaning.into()]),
    )
}

fn watches() -> String {
    table(
        &["watch", "value", "learns what is usual", "example"],
        api::WATCHES.map(|watch| {
            let learns = if learns(&watch) { "yes" } else { "no" };
            vec![code(watch.written), watch.gives.into(), learns.into(), code(example(&watch).0)]
        }),
    )
}

/// Whether a rule may have it without a range and without a `check`: tried, not told.
fn learns(watch: &Function) -> bool {
    let got = problems(&format!("rule(#{{ name: \"r\", watch: {} }});", example(watch).0));
    assert!(got.is_empty() || got.contains("cannot learn what is usual"), "{got}");
    got.is_empty()
}

fn refinements() -> String {
    table(&["", "", "example"], api::REFINEMENTS.map(|function| vec![code(function.written), function.gives.into(), code(example(&function).0)]))
}

fn signals() -> String {
    table(
        &["signal", "what holds", "of which calls"],
        Signal::ALL.map(|signal| {
            let (holds, of) = api::signal(signal);
            vec![code(signal.name()), holds.into(), of.into()]
        }),
    )
}

fn measures() -> String {
    table(
        &["measure", "in"],
        Measure::ALL.map(|measure| {
            let unit = match measure {
                Measure::LatencyMs => "milliseconds, of the whole operation",
                Measure::TtftMs => "milliseconds, to the first token",
                Measure::InputTokens => "tokens, cached ones included",
                Measure::OutputTokens => "tokens, reasoning included",
                Measure::CostUsd => "dollars, as calls state them or their tokens cost",
                Measure::Attempts => "attempts, the first included",
            };
            vec![code(measure.name()), unit.into()]
        }),
    )
}

fn verdicts() -> String {
    let named = |name: &str, alone: bool| if alone { format!("`{name}`, `{name}:NAME`") } else { code(&format!("{name}:NAME")) };
    let signals = VerdictSignal::ALL.map(|signal| {
        let alone = VerdictSignal::parse(signal.name()).is_some();
        vec![named(signal.name(), alone), api::verdict_signal(signal).into(), signal.of_what().into()]
    });
    let measures = VerdictMeasure::ALL.map(|measure| {
        let alone = VerdictMeasure::parse(measure.name()).is_some();
        vec![named(measure.name(), alone), api::verdict_measure(measure).into()]
    });
    format!("{}\n{}", table(&["signal", "what holds", "of what"], signals), table(&["measure", "in"], measures))
}

fn runs() -> String {
    let signals = RunSignal::ALL.map(|signal| vec![code(signal.name()), api::run_signal(signal).into()]);
    let measures = RunMeasure::ALL.map(|measure| vec![code(measure.name()), api::run_measure(measure).into()]);
    let keys: Vec<_> = Key::known().filter(|name| Key::parse(name).is_some_and(|key| has_label(&key))).map(code).collect();
    format!(
        "{}\n{}\nKeys of runs: {}, and properties.\n",
        table(&["signal", "what holds"], signals),
        table(&["measure", "in"], measures),
        keys.join(", ")
    )
}

fn keys() -> String {
    format!("{}.\n", Key::known().map(code).collect::<Vec<_>>().join(", "))
}

fn functions() -> String {
    let place = |place: Place| match place {
        Place::TopLevel => "top level",
        Place::Call => "`applies`, `signals`, `measures`",
        Place::Check => "`check`",
        Place::Evaluate => "`evaluate`",
        Place::Everywhere => "everywhere",
    };
    table(
        &["function", "", "where", "example", "gives"],
        api::FUNCTIONS.map(|function| {
            let (text, gives) = example(&function);
            let written = function.written.split(" or ").map(code).collect::<Vec<_>>().join(" or ");
            vec![written, function.gives.into(), place(function.place).into(), code(text), gives]
        }),
    )
}

/// An example and what it gives, as shown.
fn example(function: &Function) -> (&'static str, String) {
    match function.example {
        Example::Rule(text) | Example::Watch(text) => (text, String::new()),
        Example::Gives(text, gives) => (text, code(gives)),
        Example::Fires(text, summary) => (text, format!("an alert: {summary}")),
        Example::Judges(text, verdict) => (text, verdict.to_owned()),
    }
}

/// What `applies` answers for the call of the examples.
fn applies(expression: &str) -> Result<bool, String> {
    let text = format!("rule(#{{ name: \"r\", watch: volume(\"5m\") }});\nfn applies(log) {{ {expression} }}");
    let loaded = read(&text);
    if let Some(problem) = loaded.problems.first() {
        return Err(problem.to_string());
    }
    let call = model::parse(api::CALL.as_bytes()).expect("the call of the examples is a good log");
    let mut views: Vec<ScriptView> = Vec::new();
    loaded.rules.see(&call, &mut views);
    loaded.rules.failure(0, &call).map_or(Ok(views[0].applies), Err)
}

/// What `check` says over the view of the examples.
fn check(body: &str) -> Checked {
    let loaded = read(&format!("{}\nfn check(w) {{ {body} }}", api::VIEW));
    if let Some(problem) = loaded.problems.first() {
        return Checked::Failed(problem.to_string());
    }
    let observations = loaded.rules.specs()[0].watches.iter().map(observation).collect();
    let labels = vec!["extraction".to_owned(), "acme".to_owned()];
    loaded.rules.check(0, &GroupView { environment: "production".into(), at: at(0), labels, observations })
}

/// So many minutes before the tick that the examples look at.
fn at(minutes: u64) -> Timestamp {
    Timestamp::from_millis(1_795_166_040_000 - minutes as i64 * 60_000).expect("a time of this century")
}

/// What the view of the examples says of a watch, or of what is kept beside it.
fn observation(watch: &WatchSpec) -> Observation {
    let ranked = |label: &str, value, calls| Ranked { label: label.into(), value, share: value / 10.0, calls };
    match (watch.name.as_str(), watch.offset) {
        ("users", _) => Observation {
            value: Some(6.0),
            calls: 65,
            holds: 65,
            top: vec![ranked("u_1", 6.0, 40), ranked("u_2", 3.0, 25)],
            ..Observation::default()
        },
        (_, Span::ZERO) => Observation {
            value: Some(0.031),
            calls: 1000,
            holds: 31,
            low: 0.022,
            effective: None,
            high: 0.044,
            expected: Some(Range { low: 0.0, high: 0.02 }),
            learning: false,
            drifted: Some(Direction::Up),
            drift: Some(Drift {
                since: at(14),
                since_between: (at(15), at(13)),
                size: 0.03,
                usual: 0.004,
                beyond: None,
                calls: 2800,
                holds: 84,
                log_evidence: 90.0,
                log_needed: 12.0,
            }),
            top: Vec::new(),
        },
        (_, offset) if offset == watch.window => Observation { value: Some(0.004), calls: 1000, holds: 4, ..Observation::default() },
        _ => Observation { value: Some(0.005), calls: 1000, holds: 5, ..Observation::default() },
    }
}

fn fired(summary: &str) -> Checked {
    Checked::Fire(Fire { summary: summary.into(), ..Fire::default() })
}

#[test]
fn every_function_does_in_its_example_what_is_told() {
    for function in api::functions().chain(&api::EVALUATOR) {
        match function.example {
            Example::Rule(text) => {
                let rest = if text.starts_with("evaluator") { "fn evaluate(log) { pass() }" } else { "" };
                assert_eq!(problems(&format!("{text};{rest}")), "", "{text}");
            }
            Example::Watch(text) => {
                let ranged = if text.contains("expect") { text.to_owned() } else { format!("{text}.expect(0.0, 1.0)") };
                assert_eq!(problems(&format!("rule(#{{ name: \"r\", watch: {ranged} }});")), "", "{text}");
            }
            Example::Gives(text, gives) => {
                let (of_a_call, of_a_view) = (text.contains("log"), text.contains("w."));
                let same = format!("({text}) == ({gives})");
                if !of_a_view {
                    assert_eq!(applies(&same), Ok(true), "{same}");
                }
                if !of_a_call {
                    assert_eq!(check(&format!("if {same} {{ fire(\"so\") }}")), fired("so"), "{same}");
                }
                if !of_a_call && !of_a_view {
                    let text = format!("const GOT = {text}; if GOT != {gives} {{ throw GOT }} rule(#{{ name: \"r\", watch: volume(\"5m\") }});");
                    assert_eq!(problems(&text), "");
                }
            }
            Example::Fires(text, summary) => assert_eq!(check(text), fired(summary), "{text}"),
            Example::Judges(text, verdict) => {
                let loaded = read(&format!("evaluator(#{{ name: \"e\" }});\nfn evaluate(log) {{ {text} }}"));
                let call = model::parse(api::CALL.as_bytes()).expect("the call of the examples is a good log");
                let verdicts = loaded.rules.verdicts(&call);
                let said = verdicts[0].1.as_ref().map(|said| said.as_ref().map(|said| if said.passes() { "pass" } else { "fail" }));
                assert_eq!(said, Ok(Some(verdict)), "{text}");
            }
        }
    }
}

#[test]
fn a_function_is_where_it_is_told_to_be_and_nowhere_else() {
    for function in api::functions() {
        let text = example(function).0;
        if matches!(function.place, Place::Call | Place::Evaluate | Place::Everywhere) {
            continue;
        }
        let in_applies = applies(&format!("let w = #{{ bad: #{{ value: 0.5, since: 5 }} }}; {text}")).err();
        let in_check = check(&format!("{text};"));
        let not_here = |why: Option<&str>| why.is_some_and(|why| why.contains("hint:"));
        let failed = if let Checked::Failed(why) | Checked::Exhausted(why) = &in_check { Some(why.as_str()) } else { None };
        match function.place {
            Place::TopLevel => assert!(not_here(in_applies.as_deref()) && not_here(failed), "{text}: {in_applies:?} {failed:?}"),
            Place::Check => assert!(not_here(in_applies.as_deref()) && failed.is_none(), "{text}: {in_applies:?} {failed:?}"),
            Place::Call | Place::Evaluate | Place::Everywhere => unreachable!("they are passed over"),
        }
    }
}

#[test]
fn the_fields_of_a_rule_are_those_that_are_read_and_have_the_defaults_told() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fields.rs")).expect("the source is there");
    let read: BTreeSet<_> = names_after(&text, "take(\"").into_iter().collect();
    assert_eq!(api::RULE.iter().map(|field| field.name).collect::<BTreeSet<_>>(), read);

    let rule = |fields: &str| self::read(&format!("rule(#{{ name: \"r\", watch: rate(\"error\", \"5m\"){fields} }});")).rules.specs().remove(0).rule;
    let told = |name: &str| api::RULE.iter().find(|field| field.name == name).expect("it is told").default.trim_matches(['`', '"']);
    let plain = rule("");
    assert_eq!([told("every"), told("hold"), told("keep_firing")], [plain.every, plain.hold, plain.keep_firing].map(|span| span.to_string()));
    let no_data = format!("{:?}", plain.no_data).to_lowercase();
    assert_eq!((told("severity"), told("no_data"), plain.repeat), (plain.severity.name(), no_data.as_str(), None));
    let Decides::Burn(objective) = rule(", slo: 0.99").decides else { panic!("an objective decides") };
    assert_eq!(told("over"), objective.over.to_string());
}

#[test]
fn the_parts_of_a_call_and_of_a_view_are_as_shown() {
    for part in api::LOG {
        let same = format!("log.{} == {}", part.path, part.example);
        assert_eq!(applies(&same), Ok(true), "{same}");
    }
    for part in api::W {
        let same = format!("{} == {}", part.path, part.example);
        assert_eq!(check(&format!("if {same} {{ fire(\"so\") }}")), fired("so"), "{same}");
    }
}

/// The names that stand in `registered` right before a quoted name.
fn names_after<'t>(text: &'t str, registered: &str) -> Vec<&'t str> {
    text.split(registered).skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name).collect()
}

#[test]
fn everything_that_is_registered_is_told_and_the_other_way_round() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut registered: BTreeSet<String> = BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("the sources are there") {
        let path = file.expect("it can be read").path();
        let text = std::fs::read_to_string(&path).expect("sources are text");
        for how in ["register_fn(\"", "register_get(\""] {
            registered.extend(names_after(&text, how).into_iter().map(str::to_owned));
        }
        // Names that are not written out hide here: the fields of `log`, and what a path through nothing needs.
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let hidden = text.matches("register_fn(").count() + text.matches("register_get(").count()
            - text.matches("register_fn(\"").count()
            - text.matches("register_get(\"").count();
        assert!(hidden == 0 || ["log.rs", "json.rs"].contains(&file.as_str()), "{file} registers a function whose name is not written out");
    }
    for part in api::LOG {
        registered.remove(part.path.split(['.', '[']).next().expect("a path has a beginning"));
    }
    let told: BTreeSet<String> = api::functions().chain(&api::EVALUATOR).map(|function| function.name.to_owned()).collect();
    assert_eq!(told, registered);
}

#[test]
fn every_example_loads() {
    let examples: Vec<_> = REFERENCE.split("```rhai\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(text, _)| text).collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    let sources: Vec<_> =
        examples.iter().enumerate().map(|(i, text)| Source { path: format!("example-{i}.rhai").into(), text: (*text).to_owned() }).collect();
    let loaded = load(&sources, &Configured::default());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>());
    let evaluators = examples.iter().filter(|text| text.contains("evaluator(#{")).count();
    assert_eq!(loaded.rules.specs().len() + evaluators, examples.len());
}
