//! Code evaluators: what rules see of their verdicts, and what is said of those that are wrong.

use model::fold::ScriptView;
use model::plan::{SignalRef, Statistic};
use streamgauge_rules::{Configured, Loaded, Source, load};

const POLITE: &str = "evaluator(#{ name: \"polite\", applies: #{ stage: \"synthesis\", environment: \"production\" } });
fn evaluate(log) { if log.output == () { return; } if log.output.contains(\"please\") { pass() } else { fail(\"no please\") } }";
const GRADE: &str = "const PASS_MARK = 0.7;\nevaluator(#{ name: \"grade\" });\nfn evaluate(log) { score(log.properties.grade) }";

fn read(texts: &[&str]) -> Loaded {
    let sources: Vec<_> = texts.iter().enumerate().map(|(at, text)| Source { path: format!("{at}.rhai").into(), text: (*text).to_owned() }).collect();
    load(&sources, &Configured::default())
}

fn sound(texts: &[&str]) -> Loaded {
    let loaded = read(texts);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>());
    loaded
}

fn see(loaded: &Loaded, fields: &str) -> Vec<ScriptView> {
    let log = format!("{{\"id\":\"a\",\"time\":1700000000000,\"model\":\"m\",{fields}}}");
    let mut views = Vec::new();
    loaded.rules.see(&model::parse(log.as_bytes()).expect("a good log"), &mut views);
    views
}

#[test]
fn every_rule_may_watch_a_verdict_and_a_score_beside_signals_of_its_own() {
    let plain = "rule(#{ name: \"a\", watch: #{ rude: rate(\"code:polite\", \"10m\"), grade: mean(\"code_score:grade\", \"10m\") } });";
    let own = "rule(#{ name: \"b\", watch: #{ low: rate(\"code:grade\", \"10m\"), short: rate(\"short\", \"10m\") } });
fn signals(log) { #{ short: log.output.len() < 10 } }";
    let loaded = sound(&[plain, POLITE, own, GRADE]);
    let specs = loaded.rules.specs();
    assert_eq!(specs.len(), 2);
    // For the bit of a watch: whether it applies, and holds.
    let shown = |fields: &str| {
        let views = see(&loaded, fields);
        let of = |rule: usize| {
            let bits = specs[rule].watches.iter().filter_map(|watch| match &watch.statistic {
                Statistic::Rate(SignalRef::User(name, at)) => {
                    let signals = views[rule].signals;
                    Some(format!("{name} {} of {}", signals.holds >> at & 1, signals.applies >> at & 1))
                }
                _ => None,
            });
            bits.collect::<Vec<_>>().join(", ")
        };
        let grade = specs[0].watches[0].statistic.measure().expect("a mean is of a measure");
        let model::MeasureRef::User(grade) = grade else { panic!("it is no built-in one") };
        assert!(views.iter().all(|view| !view.failed), "{fields}");
        (of(0), of(1), views[0].measures[usize::from(grade.position)])
    };
    let here = "\"stage\":\"synthesis\",\"environment\":\"production\"";
    let row = |a: &str, b: &str, grade| (a.to_owned(), b.to_owned(), grade);
    assert_eq!(
        shown(&format!("{here},\"output\":\"Go away now.\",\"properties\":{{\"grade\":0.5}}")),
        row("code:polite 1 of 1", "code:grade 1 of 1, short 0 of 1", Some(500))
    );
    assert_eq!(
        shown(&format!("{here},\"output\":\"please\",\"properties\":{{\"grade\":0.7}}")),
        row("code:polite 0 of 1", "code:grade 0 of 1, short 1 of 1", Some(700))
    );
    // Elsewhere, and where nothing was answered, it says nothing.
    for fields in [
        "\"stage\":\"other\",\"environment\":\"production\",\"output\":\"Go away now.\",\"properties\":{\"grade\":1}",
        "\"stage\":\"synthesis\",\"output\":\"Go away now.\",\"properties\":{\"grade\":1}",
    ] {
        assert_eq!(shown(fields), row("code:polite 0 of 0", "code:grade 0 of 1, short 0 of 1", Some(1000)));
    }
}

#[test]
fn an_evaluator_that_fails_fails_the_rules_that_watch_it_and_no_other() {
    let watching = "rule(#{ name: \"a\", watch: rate(\"code:grade\", \"10m\") });";
    let other = "rule(#{ name: \"b\", watch: rate(\"short\", \"10m\") });\nfn signals(log) { #{ short: log.output.len() < 10 } }";
    let loaded = sound(&[watching, other, GRADE]);
    let views = see(&loaded, "\"properties\":{\"grade\":7}");
    assert_eq!(views.iter().map(|view| view.failed).collect::<Vec<_>>(), [true, false]);
    let call = model::parse(br#"{"id":"a","time":1700000000000,"model":"m","properties":{"grade":7}}"#).expect("a good log");
    let why = loaded.rules.failure(0, &call).expect("it fails");
    assert!(why.contains("the evaluator `grade` fails: 2.rhai:3:20: a score lies between 0 and 1, and 7 does not"), "{why}");
    assert_eq!(loaded.rules.failure(1, &call), None);
}

#[test]
fn a_changed_evaluator_is_another_signal_and_an_unwatched_one_costs_nothing() {
    let rule = "rule(#{ name: \"a\", watch: rate(\"code:polite\", \"10m\") });";
    let script = |texts: &[&str]| sound(texts).rules.specs()[0].script;
    let louder = POLITE.replace("please", "PLEASE");
    assert_eq!(script(&[rule, POLITE]), script(&[rule, POLITE, GRADE]));
    assert_ne!(script(&[rule, POLITE]), script(&[rule, &louder]));
    let alone = sound(&["rule(#{ name: \"a\", watch: rate(\"error\", \"10m\") });", POLITE]);
    assert_eq!(alone.rules.specs()[0].script, None);
    assert!(see(&alone, "\"output\":\"Go away now.\"").is_empty());
}

#[test]
fn mistakes_are_told_with_their_place_and_the_way_out() {
    let watch = |name: &str| format!("rule(#{{ name: \"a\", watch: rate(\"{name}\", \"10m\") }});");
    for (texts, expected) in [
        (
            vec![watch("code:polit"), POLITE.to_owned()],
            "0.rhai:1:32: unknown evaluator `polit`\nhint: did you mean `polite`? known: polite".to_owned(),
        ),
        (
            vec![watch("code:polite")],
            "0.rhai:1:32: unknown evaluator `polite`\nhint: there are none; [evaluators] of the configuration says where they are".to_owned(),
        ),
        (vec![POLITE.to_owned(), POLITE.to_owned()], "1.rhai:1:14: there is an evaluator `polite` already, in 0.rhai\nhint: give one of them another name".to_owned()),
        (
            vec!["evaluator(#{ name: \"x\" });".to_owned()],
            "0.rhai:1:1: an evaluator needs fn evaluate(log)\nhint: it returns pass(), fail(\"why\"), score(0.8), or () for a call that it does not apply to".to_owned(),
        ),
        (
            vec!["evaluator(#{ nam: \"x\" });\nfn evaluate(log) { pass() }".to_owned()],
            "0.rhai:1:1: an evaluator needs a name\nhint: add name: \"…\" to evaluator(#{ … })\n0.rhai:1:14: unknown field `nam` of evaluator(#{ … })\nhint: did you mean `name`? known: name, applies".to_owned(),
        ),
        (
            vec!["evaluator(#{ name: \"x\" });\nfn evaluate(log) { if log.outptu == () { pass() } else { fail(\"\") } }".to_owned()],
            "0.rhai:2:27: a call has no field `outptu`\nhint: did you mean `output`? A field of your own is log.properties.outptu".to_owned(),
        ),
        (
            vec!["const PASS_MARK = 7;\nevaluator(#{ name: \"x\" });\nfn evaluate(log) { pass() }".to_owned()],
            "0.rhai:2:1: PASS_MARK is a number from 0 to 1\nhint: as in const PASS_MARK = 0.8;".to_owned(),
        ),
    ] {
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let said: Vec<_> = read(&texts).problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.join("\n"), expected);
    }
}
