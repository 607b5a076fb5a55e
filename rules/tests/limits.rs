//! The sandbox holds: whatever a script tries, it ends with a clear message and nothing else is touched.

use model::window::{Checked, GroupView};
use streamgauge_rules::{Constants, RuleSet, Source, load};

const RULE: &str = "rule(#{ name: \"r\", watch: volume(\"5m\").expect(0, 1) });";

/// What is wrong with the file at load, or with its `check`, or with its `applies`.
fn outcome(text: &str) -> String {
    let loaded = load(&[Source { path: "r.rhai".into(), text: text.to_owned() }], &Constants::new());
    match loaded.problems.first() {
        Some(problem) => format!("load: {problem}"),
        None => run(&loaded.rules),
    }
}

fn run(rules: &RuleSet) -> String {
    let view = GroupView { environment: "default".into(), at: model::Timestamp::EPOCH, labels: vec![], observations: vec![] };
    if let Checked::Failed(why) = rules.check(0, &view) {
        return format!("check: {why}");
    }
    let call = model::parse(br#"{"id":"a","time":1700000000000,"model":"m","output":"some text"}"#).expect("a good log");
    let mut views = Vec::new();
    rules.see(&call, &mut views);
    match rules.failure(0, &call) {
        Some(why) => {
            assert!(views[0].failed && !views[0].applies && views[0].signals.applies == 0);
            format!("call: {why}")
        }
        None => "fine".to_owned(),
    }
}

#[track_caller]
fn ends(body: &str, expected: &str) {
    let places = [format!("{RULE} {body}"), format!("{RULE} fn check(w) {{ {body} }}"), format!("{RULE} fn applies(log) {{ {body} true }}")];
    for text in places {
        let got = outcome(&text);
        assert!(got.contains(expected) && got != "fine", "{text}\ngot: {got}");
    }
}

#[test]
fn a_loop_without_end_uses_up_its_budget() {
    ends("loop { }", "the script used up its budget of operations");
    ends("let i = 0; while true { i += 1; }", "used up its budget");
    ends("let n = 0; for i in 0..1000000000 { n += i; }", "used up its budget");
    ends("let a = [1]; while a.len() > 0 { a.push(a.pop()); }", "used up its budget");
}

#[test]
fn strings_arrays_and_maps_stay_small() {
    ends("let s = \"ab\"; loop { s += s; }", "length of string is over the limit");
    ends("let s = \"ab\"; s.pad(100000000, ' ');", "length of string is over the limit");
    ends("let s = \"aaaaaaaaaaaaaaaa\"; loop { s.replace(\"a\", s); }", "length of string is over the limit");
    ends("let s = `aaaaaaaaaaaaaaaa`; loop { s.replace('a', s); }", "length of string is over the limit");
    ends("let s = \"ab\"; loop { s = `${s}${s}`; }", "length of string is over the limit");
    ends("let a = [0]; loop { a += a; }", "is over the limit");
    ends("let a = [0]; loop { a.push(a); }", "is over the limit");
    ends("let a = []; a.pad(100000000, 0);", "is over the limit");
    ends("let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = i; }", "used up its budget");
    ends("let m = #{ k: 1 }; loop { m = #{ a: m, b: m }; }", "is over the limit");
}

#[test]
fn recursion_ends_before_the_stack_does() {
    let recursion = "fn deeper(n) { deeper(n + 1) }";
    for entry in ["fn check(w) { deeper(0) }", "fn applies(log) { deeper(0) }"] {
        let got = outcome(&format!("{RULE} {recursion} {entry}"));
        assert!(got.contains("functions call each other too deep"), "{got}");
    }
    let nested = format!("{}1{}", "(".repeat(500), ")".repeat(500));
    let got = outcome(&format!("{RULE} fn check(w) {{ let x = {nested}; }}"));
    assert!(got.contains("an expression is nested too deep"), "{got}");
    // The deepest that is allowed, at every level, on a worker's stack.
    let nested = |depth: usize| format!("fn deeper(n) {{ {}deeper(n + 1){} }} fn check(w) {{ deeper(0) }}", "[".repeat(depth), "]".repeat(depth));
    let deepest = (1..40).rev().map(nested).find(|text| !outcome(&format!("{RULE} {text}")).starts_with("load")).expect("some depth is allowed");
    let deepest = format!("{RULE} {deepest}");
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || outcome(&deepest)).expect("a thread starts");
    let got = worker.join().expect("the stack is enough");
    assert!(got.contains("functions call each other too deep"), "{got}");
}

#[test]
fn too_many_variables_or_functions_are_refused() {
    let variables: String = (0..200).map(|i| format!("let v{i} = {i}; ")).collect();
    ends(&variables, "too many variables");
    let functions: String = (0..200).map(|i| format!("fn f{i}(x) {{ x }} ")).collect();
    assert!(outcome(&format!("{RULE} {functions}")).contains("too many functions in one file"));
}

#[test]
fn there_is_no_eval_no_module_no_clock_and_no_sleep() {
    for body in ["eval(\"1\");", "sleep(1);", "sleep(0.5);", "import \"x\" as y;"] {
        ends(body, "rules are pure");
    }
    ends("timestamp();", "");
    for body in ["exit();", "parse_json(\"{}\");", "open_file(\"x\");"] {
        ends(body, "there is no function");
    }
}

#[test]
fn printing_goes_nowhere_and_is_no_error() {
    assert_eq!(outcome(&format!("{RULE} print(\"x\"); debug(1); fn check(w) {{ print(w); debug(w); }}")), "fine");
}

#[test]
fn a_script_that_throws_fails_and_says_what_it_threw() {
    ends("throw \"out\";", "the script threw: out");
    ends("let x = 1 / 0;", "division by zero");
    ends("rule(#{});", "");
}

#[test]
fn per_call_functions_cannot_fire_and_must_answer_in_kind() {
    for (body, expected) in [
        ("fn applies(log) { fire(\"x\"); true }", "fire(…) belongs in fn check(w)"),
        ("fn applies(log) { 1 }", "fn applies returned a whole number and must return true or false"),
        ("fn signals(log) { true }", "fn signals must return a map"),
        ("fn applies(log) { let l = log; l.stge == \"x\" }", "r.rhai:1:89: a call has no field `stge`\nhint: did you mean `stage`?"),
        ("fn applies(log) { log[\"st\" + \"age\"] == \"x\" }", "the field `stage` is asked for by a name that the file does not spell out"),
    ] {
        let got = outcome(&format!("{RULE} {body}"));
        assert!(got.starts_with("call: ") && got.contains(expected), "{got}");
    }
}
