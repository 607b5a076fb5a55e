//! The sandbox holds: whatever a script tries, it ends with a clear message and nothing else is touched.

use model::window::{Checked, GroupView};
use streamgauge_rules::{Configured, RuleSet, Source, load};

const RULE: &str = "rule(#{ name: \"r\", watch: volume(\"5m\").expect(0, 1) });";

/// What is wrong with the file at load, or with its `check`, or with its `applies`.
fn outcome(text: &str) -> String {
    let loaded = load(&[Source { path: "r.rhai".into(), text: text.to_owned() }], &Configured::default());
    match loaded.problems.first() {
        Some(problem) => format!("load: {problem}"),
        None => run(&loaded.rules),
    }
}

fn run(rules: &RuleSet) -> String {
    let view = GroupView { environment: "default".into(), at: model::Timestamp::EPOCH, labels: vec![], observations: vec![] };
    if let Checked::Failed(why) | Checked::Exhausted(why) = rules.check(0, &view) {
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
    ends("let m = #{ k: 1 }; loop { m = #{ a: m, b: m }; }", "is over the limit");
}

/// The interpreter sizes what functions return and not what is assigned to an index; a map of long texts would take gigabytes.
#[test]
fn what_grows_by_assigning_to_an_index_stays_small() {
    let text = "let s = \"\"; s.pad(200000, 'x'); let i = 0;";
    ends("let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = i; }", "size of object map is over the limit");
    ends(&format!("{text} let m = #{{}}; loop {{ i += 1; m[`k${{i}}`] = s + i; }}"), "length of string is over the limit");
    ends(&format!("{text} let a = []; a.pad(2000, 0); loop {{ a[i] = s + i; i += 1; }}"), "length of string is over the limit");
    ends(&format!("{text} let m = #{{ a: #{{}} }}; loop {{ i += 1; m.a[`k${{i}}`] = s + i; }}"), "length of string is over the limit");
    ends("let a = []; a.pad(1000, 0); let i = 0; loop { a[i] = a; i += 1; }", "size of array/BLOB is over the limit");
    // A map that a closure shares, and one that is `this`.
    ends("let m = #{}; let f = || m.len(); let i = 0; loop { i += 1; m[`k${i}`] = i; }", "size of object map is over the limit");
    let got =
        outcome(&format!("{RULE} fn grow() {{ let i = 0; loop {{ i += 1; this[`k${{i}}`] = i; }} }} fn check(w) {{ let m = #{{}}; m.grow(); }}"));
    assert!(got.contains("size of object map is over the limit"), "{got}");
}

#[test]
fn what_grows_by_assigning_to_an_index_fails_at_the_same_place_every_time() {
    let text = format!("{RULE} fn check(w) {{ let m = #{{}}; for i in 0..700 {{ m[`k${{i}}`] = i; if i == 600 {{ throw \"far\" }} }} }}");
    let first = outcome(&text);
    assert!(first.contains("over the limit"), "{first}");
    // Whatever the thread ran in between.
    for other in ["let a = 1; a += a;", "let b = 2; let c = b + b + b;"] {
        outcome(&format!("{RULE} fn check(w) {{ {other} }}"));
        assert_eq!(outcome(&text), first);
    }
}

/// Peak resident memory in KiB, where the system says it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

#[test]
fn a_map_of_long_texts_takes_megabytes_and_not_gigabytes() {
    let before = peak_kib();
    let grow = "let s = \"\"; s.pad(260000, 'x'); let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = s + i; }";
    assert!(outcome(&format!("{RULE} fn check(w) {{ {grow} }}")).contains("over the limit"));
    // Unsized, this map holds fourteen thousand texts of 260 kB. Other tests run beside this one and may take some of it.
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        assert!(after - before < 200 << 10, "{} KiB", after - before);
    }
}

#[test]
fn printing_without_end_uses_up_its_budget_and_goes_nowhere() {
    ends("loop { print(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"); }", "used up its budget");
    ends("let s = \"\"; s.pad(200000, 'x'); for i in 0..200000 { debug(i); }", "used up its budget");
}

#[test]
fn patterns_that_never_end_elsewhere_are_matched_in_linear_time_or_refused() {
    let almost = "let s = \"\"; s.pad(100000, 'a'); s += \"!\";";
    let began = std::time::Instant::now();
    for pattern in ["(a+)+$", "(a|aa)+$", "(.*a){12}$", "(a*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
        assert_eq!(outcome(&format!("{RULE} fn check(w) {{ {almost} s.matches(\"{pattern}\"); }}")), "fine", "{pattern}");
    }
    // Where these backtrack they take longer than the universe is old.
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    for pattern in ["a{1000}{1000}", "((a{100}){100}){100}", "(?:x{1000}y{1000}){1000}"] {
        let got = outcome(&format!("{RULE} fn check(w) {{ \"a\".matches(\"{pattern}\"); }}"));
        assert!(got.starts_with("load: ") && got.contains("is no regular expression"), "{pattern}: {got}");
        // One that is made up while the rule runs is known only then.
        let got = outcome(&format!("{RULE} fn check(w) {{ let p = \"{pattern}\"; \"a\".matches(p + \"\"); }}"));
        assert!(got.starts_with("check: ") && got.contains("is no regular expression"), "{pattern}: {got}");
    }
    // Errors can be caught, and a loop goes on; it must not go on compiling.
    let began = std::time::Instant::now();
    ends("loop { try { \"a\".matches(\"a{1000}\" + \"{1000}\"); } catch { } }", "used up its budget");
    ends("let i = 0; loop { i += 1; try { \"a\".matches(`(a{100}){${i}}`); } catch { } }", "used up its budget");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    ends("let i = 0; loop { i += 1; \"a\".matches(`a${i}`); }", "more than 2 MiB of text are matched in one run");
    ends("let s = \"\"; s.pad(200000, 'a'); loop { s.matches(\"(a+)+$\"); }", "of text are matched in one run");
}

/// No table can be made of such a pattern, so each letter is held against each of its states: unbounded, this takes minutes.
#[test]
fn a_pattern_of_many_states_has_little_text_matched() {
    let text = "let s = \"\"; let x = 12345; while s.len() < 20000 { x = (x * 1103515245 + 12345) % 2147483648; s += if (x / 65536) % 2 == 0 { \"abb\" } else { \"baa\" }; }";
    for states in [200, 2000] {
        let began = std::time::Instant::now();
        let got = outcome(&format!("{RULE} fn check(w) {{ {text} loop {{ s.matches(\"[ab]*a[ab]{{{states}}}c\"); }} }}"));
        assert!(got.contains("of text are matched in one run"), "{got}");
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{states} states: {:?}", began.elapsed());
    }
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
