//! Every mistake in a rule file is found at load, at its place, with the way out.

use std::fmt::Write;
use streamgauge_rules::{Configured, Source, load};

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.to_owned() }
}

/// The problems of one file as people see them.
fn problems(text: &str) -> String {
    let loaded = load(&[source("r.rhai", text)], &Configured::default());
    assert_eq!(loaded.problems.is_empty(), loaded.rules.specs().len() == 1, "a file is a rule or a problem, not both: {text}");
    let mut shown = String::new();
    for problem in loaded.problems {
        writeln!(shown, "{problem}").expect("strings take text");
    }
    shown
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let got = problems(text);
    assert!(got.starts_with(expected), "file:\n{text}\ngot:\n{got}\nexpected:\n{expected}");
}

const RULE: &str = "rule(#{ name: \"r\", watch: rate(\"retry\", \"5m\").expect(0.0, 0.1) });\n";

#[test]
fn a_good_rule_has_none() {
    check(RULE, "");
    assert_eq!(problems(RULE), "");
}

#[test]
fn fields_are_named_with_their_nearest() {
    check(
        "rule(#{\n    name: \"r\",\n    chanel: \"#x\",\n    watch: rate(\"retry\", \"5m\").expect(0, 1),\n});",
        "r.rhai:3:5: unknown field `chanel` of rule(#{ … })\nhint: did you mean `channel`? known: name, watch,",
    );
    check(
        "rule(#{ name: \"r\", severity: \"critcal\",\n watch: rate(\"retry\", \"5m\").expect(0, 1) });",
        "r.rhai:1:20: unknown severity `critcal`\nhint: did you mean `critical`? known: info, warning, critical\n",
    );
    check("rule(#{ watch: rate(\"retry\", \"5m\").expect(0, 1) });", "r.rhai:1:1: a rule needs a name\nhint: add name:");
    check("rule(#{ name: \"r\" });", "r.rhai:1:1: a rule needs something to watch\nhint:");
    check("rule(#{ name: \"a b\", watch: rate(\"retry\", \"5m\").expect(0, 1) });", "r.rhai:1:9: `a b` cannot be a name\nhint: letters");
    check("rule(#{ name: \"r\", hold: 30, watch: rate(\"retry\", \"5m\").expect(0, 1) });", "r.rhai:1:20: hold is a length of time in quotes\n");
    check("rule(#{ name: \"r\", hold: \"soon\", watch: rate(\"retry\", \"5m\").expect(0, 1) });", "r.rhai:1:20: `soon` is no length of time\n");
    check(
        "rule(#{ name: \"r\", group_by: [\"stage\", \"stage\"], watch: rate(\"retry\", \"5m\").expect(0, 1) });",
        "r.rhai:1:20: group_by names `stage` twice\n",
    );
    check(
        "rule(#{ name: \"r\", environment: \"test\", watch: rate(\"retry\", \"5m\").expect(0, 1) });",
        "r.rhai:1:20: unknown field `environment` of rule(#{ … })\nhint: environments:",
    );
    check(
        "rule(#{ name: \"r\", environments: [\"a\"], applies: #{ environment: \"b\" }, watch: rate(\"retry\", \"5m\").expect(0, 1) });",
        "r.rhai:1:20: the environments are given twice\n",
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let got = problems("rule(#{ name: \"r\", no_data: \"maybe\",\n runbok: \"x\",\n watch: rate(\"retri\", \"5m\").expect(0, 1) });");
    let lines: Vec<_> = got.lines().filter(|line| !line.starts_with("hint")).collect();
    assert_eq!(
        lines,
        ["r.rhai:1:20: unknown no_data `maybe`", "r.rhai:2:2: unknown field `runbok` of rule(#{ … })", "r.rhai:3:14: unknown signal `retri`"]
    );
}

#[test]
fn watches_are_checked_at_their_words() {
    let watch = |watch: &str| format!("rule(#{{ name: \"r\",\n  watch: {watch} }});");
    check(&watch("rate(\"fallbak\", \"5m\").expect(0, 1)"), "r.rhai:2:15: unknown signal `fallbak`\nhint: did you mean `fallback`? known: error,");
    check(&watch("mean(\"latency\", \"5m\").expect(0, 1)"), "r.rhai:2:15: unknown measure `latency`\nhint: did you mean `latency_ms`? known:");
    check(&watch("rate(\"retry\", \"5 minutes\").expect(0, 1)"), "r.rhai:2:24: `5 minutes` is no window\nhint: windows are written like");
    check(&watch("rate(\"retry\", \"15s\").expect(0, 1)"), "r.rhai:2:24: a window of 15s is not made of whole ticks of 10s\nhint:");
    check(&watch("rate(\"retry\", \"8d\").expect(0, 1)"), "r.rhai:2:24: a window of 8d is longer than this version keeps\nhint:");
    check(&watch("rate(\"retry\", 300).expect(0, 1)"), "r.rhai:2:10: a window is a text in quotes\nhint:");
    check(&watch("rate(\"retry\")"), "r.rhai:2:10: `rate` is not written like this here\nhint: it is rate(signal, window)");
    check(&watch("rte(\"retry\", \"5m\")"), "r.rhai:2:10: there is no function `rte` for these values\nhint: did you mean `rate`?");
    check(&watch("rate(\"retry\", \"5m\").expect(0, 5)"), "r.rhai:2:30: a rate is never 5\nhint: a rate lies in 0.0 to 1.0: 5 % is 0.05");
    check(&watch("rate(\"retry\", \"5m\").expect(0.5, 0.1)"), "r.rhai:2:30: the expected range 0.5 to 0.1 is empty\n");
    check(
        &watch("rate(\"retry\", \"5m\").expekt(0.5, 0.1)"),
        "r.rhai:2:30: there is no function `expekt` for these values\nhint: did you mean `expect`?",
    );
    check(
        &watch("quantile(\"latency_ms\", 95, \"5m\").expect(0, 1)"),
        "r.rhai:2:10: 95 is no quantile\nhint: quantiles lie between 0 and 1: did you mean 0.95?",
    );
    check(&watch("rate(\"retry\", \"5m\").only(#{ environment: \"a\" })"), "r.rhai:2:38: a watch is not filtered by environment\nhint:");
    check(&watch("#{ a: 5 }"), "r.rhai:2:13: `a` is not a watch\n");
    check(&watch("#{ group: volume(\"5m\") }"), "r.rhai:2:13: a watch cannot be named `group`: w.group is the group\nhint:");
    check(&watch("#{ now: volume(\"5m\") }"), "r.rhai:2:13: a watch cannot be named `now`: w.now is the time\nhint:");
    assert_eq!(problems(&watch("#{ a: volume(\"5m\").expect(1, 2), b: volume(\"5m\") }")), "", "what is usual is learned");
}

#[test]
fn a_run_has_no_label_that_only_its_calls_have() {
    let rule = |watch: &str, fields: &str, rest: &str| format!("rule(#{{ name: \"r\", watch: {watch},\n {fields} }});\n{rest}");
    let latency = "quantile(\"run_latency_ms\", 0.95, \"30m\")";
    for (watch, fields, rest, expected) in [
        (
            latency,
            "group_by: [\"stage\"]",
            "",
            "r.rhai:2:13: a run has no `stage`, only its calls have one: `value` is p95 of run_latency_ms\nhint: take service, user_id, thread_id",
        ),
        (latency, "applies: #{ model: \"m\" }", "", "r.rhai:2:14: a run has no `model`, only its calls have one: "),
        ("top(\"stage\", \"run_cost_usd\", 3, \"1h\").expect(0, 9)", "", "", "r.rhai:1:31: a run has no `stage`, only its calls have one: "),
        ("rate(\"run_error\", \"5m\").only(#{ judge: \"x\" })", "", "", "r.rhai:1:59: a run has no `judge`, only its calls have one: "),
        (latency, "", "fn applies(log) { true }", "r.rhai:3:4: fn applies(log) does not see runs\nhint: say which runs as data"),
        ("rate(\"run_eror\", \"5m\")", "", "", "r.rhai:1:32: unknown signal `run_eror`\nhint: did you mean `run_error`?"),
        ("mean(\"run_latency\", \"5m\")", "", "", "r.rhai:1:32: unknown measure `run_latency`\nhint: did you mean `run_latency_ms`?"),
    ] {
        check(&rule(watch, fields, rest), expected);
    }
    let watches = format!("#{{ slow: {latency}.only(#{{ tenant: \"acme\" }}), failed: rate(\"run_error\", \"5m\"), calls: volume(\"5m\") }}");
    assert_eq!(problems(&rule(&watches, "applies: #{ service: \"chat\" }, group_by: [\"user_id\", \"properties.tenant\"]", "")), "");
    assert_eq!(problems(&rule("rate(\"run_error\", \"5m\")", "slo: 0.99", "")), "", "every run counts");
}

#[test]
fn sums_rankings_and_ratios_are_checked_too() {
    let watch = |watch: &str| format!("rule(#{{ name: \"r\",\n  watch: {watch} }});");
    for (text, expected) in [
        (
            "sum(\"cost_usd\", \"1h\")",
            "r.rhai:2:10: `value` cannot learn what is usual: it is no share, count or measure of single calls\nhint: give it",
        ),
        ("top(\"user_id\", \"cost\", 5, \"1h\").expect(0, 9)", "r.rhai:2:25: unknown measure `cost`\nhint: did you mean `cost_usd`?"),
        ("top(\"user_id\", \"cost_usd\", 0, \"1h\").expect(0, 9)", "r.rhai:2:10: top takes how many to name, 1 to 20\nhint: as in top("),
        ("distinct(\"environment\", \"1h\").expect(0, 9)", "r.rhai:2:19: every group has one environment\nhint:"),
        ("ratio(5, volume(\"5m\"))", "r.rhai:2:10: ratio takes two watches\nhint: as in ratio("),
        ("ratio(volume(\"5m\").expect(0, 1), volume(\"5m\"))", "r.rhai:2:29: the parts of a ratio have no expected range\nhint: put .expect"),
        ("ratio(volume(\"5m\"), volume(\"5m\")).only(#{ stage: \"a\" })", "r.rhai:2:44: a ratio is not filtered, its parts are\nhint:"),
        ("count(\"eror\", \"5m\")", "r.rhai:2:16: unknown signal `eror`\nhint: did you mean `error`?"),
    ] {
        check(&watch(text), expected);
    }
    let rule = |fields: &str, rest: &str| format!("rule(#{{ name: \"r\", watch: rate(\"error\", \"5m\"),\n {fields} }});\n{rest}");
    let check_fn = "fn check(w) { if w.value.value > 0.5 { fire(\"x\") } }";
    for (fields, rest, expected) in [
        ("every: \"1m\"", "", "r.rhai:2:2: a rule without fn check(w) looks at every tick\nhint: take `every` out"),
        ("every: \"15s\"", check_fn, "r.rhai:2:2: a rule cannot look every 15s\nhint: whole ticks of 10s"),
        ("repeat: \"10s\"", "", "r.rhai:2:2: an alert is not told again every 10s\nhint: every 10m at most"),
        ("inhibit_by: \"r\"", "", "r.rhai:2:2: a rule is no consequence of itself\n"),
        ("measures: #{ x: 5 }", "", "r.rhai:2:2: measure `x` is described by a map\nhint: as in measures:"),
        ("measures: #{ x: #{ step: 0 } }", "", "r.rhai:2:2: the step of measure `x` is a number above 0"),
        ("measures: #{ x: #{ unit: \"y\" } }", "", "r.rhai:2:2: no watch is of the measure `x`\nhint: take it out"),
        (
            "actions: [#{ label: \"x\" }]",
            "",
            "r.rhai:2:2: an action needs publish, a NATS subject, or webhook, a name of the configuration\nhint: as in",
        ),
        ("actions: [#{ label: \"x\", publish: \"a\", webhook: \"b\" }]", "", "r.rhai:2:2: the action `x` has publish and webhook: one button does"),
        ("actions: [#{ label: \"x\", webhook: \"b\" }]", "", "r.rhai:2:2: there is no webhook `b` in the configuration\nhint: add [webhooks.b]"),
        (
            "actions: [#{ label: \"x\", publish: \"a\" }, #{ label: \"x\", publish: \"b\" }]",
            "",
            "r.rhai:2:2: two actions are labelled `x`: nobody could tell their buttons apart",
        ),
        ("actions: [#{ label: \"x\", publish: \"a.>\" }]", "", "r.rhai:2:2: `a.>` is no subject to publish to"),
        ("actions: [#{ label: \"x\", publish: \"a\", pay: 1 }]", "", "r.rhai:2:2: unknown field `pay` of an action"),
    ] {
        check(&rule(fields, rest), expected);
    }
    let good =
        "repeat: \"4h\", inhibit_by: [\"other\"], actions: [#{ label: \"x\", publish: \"a.b\", payload: #{ to: [1, ()] }, confirm: \"sure?\" }]";
    assert_eq!(problems(&rule(good, "")), "");
    check(
        "rule(#{ name: \"r\",\n watch: rate(\"error\", \"7d\") });\nfn check(w) { if w.value.previous.value > 0.1 { fire(\"x\") } }",
        "r.rhai:3:26: `previous` of `value` is not kept: there is none of windows over 1d\nhint: watch a shorter window",
    );
    check(
        &format!("{RULE}fn applies(log) {{ log.output.matches(\"(a\") }}"),
        "r.rhai:2:38: `(a` is no regular expression: unclosed group\nhint: the syntax",
    );
}

#[test]
fn objectives_and_budgets_are_written_as_they_are_said() {
    let with = |fields: &str| format!("rule(#{{ name: \"r\", watch: rate(\"error\", \"5m\"),\n {fields} }});");
    for fields in ["slo: 0.99", "slo: 0.999, over: \"7d\"", "false_alarms: \"1 per week\""] {
        assert_eq!(problems(&with(fields)), "", "{fields}");
    }
    for (fields, expected) in [
        ("slo: 99", "r.rhai:2:2: slo is the share of calls to be good, between 0 and 1\nhint: 99 % is slo: 0.99\n"),
        ("over: \"30d\"", "r.rhai:2:2: over is the period of an objective, and there is none\nhint: add slo: 0.99"),
        ("slo: 0.99, over: \"1h\"", "r.rhai:2:13: an objective over 1h cannot be watched\nhint: its burn rates"),
        ("false_alarms: \"daily\"", "r.rhai:2:2: `daily` is no number of false alarms\nhint: write it as `1 per day`"),
    ] {
        check(&with(fields), expected);
    }
    let text = |watch: &str| format!("rule(#{{ name: \"r\", watch: {watch},\n slo: 0.99 }});");
    for (watch, expected) in [
        ("mean(\"latency_ms\", \"5m\")", "r.rhai:2:2: an objective needs a rate of bad calls\nhint: as in watch: rate("),
        ("rate(\"error\", \"5m\").expect(0.0, 0.1)", "r.rhai:2:2: a watch with an objective has no expected range\nhint: the objective says"),
        ("#{ a: rate(\"error\", \"5m\"), b: rate(\"retry\", \"5m\") }", "r.rhai:2:2: an objective is about one watch\nhint: write a rule for each"),
    ] {
        check(&text(watch), expected);
    }
    let both = text("rate(\"error\", \"5m\")") + "\nfn check(w) { if w.value.value > 0.5 { fire(\"x\") } }";
    check(&both, "r.rhai:2:2: a rule is decided by its objective or by fn check(w), not by both\nhint: take");
}

#[test]
fn functions_are_checked_by_name_and_parameters() {
    check(&format!("{RULE}fn check() {{ }}"), "r.rhai:2:4: fn check has 0 parameters and must have one\nhint: write fn check(w) { … }");
    check(&format!("{RULE}fn applies(a, b) {{ true }}"), "r.rhai:2:4: fn applies has 2 parameters");
    check(&format!("{RULE}fn aplies(log) {{ true }}"), "r.rhai:2:4: nothing calls fn aplies\nhint: did you mean `applies`?");
    assert_eq!(problems(&format!("{RULE}fn checks(x) {{ x > 1 }} fn check(w) {{ if checks(2) {{ fire(\"x\") }} }}")), "");
    check(
        "rule(#{ name: \"r\", watch: rate(\"no_fcts\", \"5m\").expect(0, 1) });\nfn signals(log) { #{ no_facts: true } }",
        "r.rhai:1:32: `no_fcts` is no built-in signal, and fn signals(log) does not mention it\n",
    );
}

#[test]
fn syntax_errors_say_where_and_how() {
    check(&format!("{RULE}fn applies(call) {{ call.stage == \"x\" }}"), "r.rhai:2:12: ");
    for text in ["fn applies(call) { true }", "fn applies(log) { call.stage == \"x\" }"] {
        let got = problems(&format!("{RULE}{text}"));
        assert!(got.contains("the variable is `log`"), "{got}");
    }
    check("rule(#{ name: \"r\", ", "r.rhai:1:");
    check(&format!("{RULE}fn check(w) {{ if x > 1 {{ }} }}"), "r.rhai:2:18: `x` is not known here\nhint: a function sees its own argument");
    check("// nothing but a comment", "r.rhai:1:1: the file says no rule\nhint: begin with rule(");
    check(&format!("{RULE}rule(#{{}});"), "r.rhai:2:1: a second rule(…) in one file\nhint: one file is one rule");
    check("rule(5);", "r.rhai:1:1: rule takes a map of fields\n");
}

#[test]
fn of_two_rules_with_one_name_the_later_is_refused_and_the_rest_stays() {
    let loaded = load(
        &[source("a.rhai", RULE), source("b.rhai", "rule("), source("c.rhai", RULE), source("d.rhai", &RULE.replace("\"r\"", "\"s\""))],
        &Configured::default(),
    );
    assert_eq!(loaded.rules.specs().iter().map(|spec| spec.rule.name.clone()).collect::<Vec<_>>(), ["r", "s"]);
    let shown: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(shown[0].starts_with("b.rhai:1:"), "{shown:?}");
    assert_eq!(shown[1], "c.rhai:1:9: there is a rule `r` already, in a.rhai\nhint: give one of them another name");
}

#[test]
fn what_looks_odd_is_legal_too() {
    for text in [
        // Watches that are made, named and chosen by code.
        "let errors = rate(\"error\", \"5m\"); rule(#{ name: \"r\", watch: errors.expect(0.0, 0.1).only(#{ stage: \"a\" }) });",
        "let all = #{}; for s in [\"error\", \"retry\"] { all[s] = rate(s, \"5m\"); } rule(#{ name: \"r\", watch: all });",
        "fn of(s, window) { rate(s, window) } const WINDOW = \"1h\"; rule(#{ name: \"r\", watch: of(\"error\", WINDOW) });",
        "const NAME = \"r\"; if NAME.len() == 1 { rule(#{ \"name\": NAME, watch: #{ \"two words\": volume(\"5m\") }, }) }",
        "\u{feff}rule(#{\r\n  name: `r`,\r\n  watch: volume(`5m`),\r\n});\r\n",
        "rule(#{ name: \"r\", watch: volume(\"5m\") }) // and no semicolon",
        "/* fn check( */ rule(#{ name: \"r\", watch: volume(\"5m\") }); fn check(w) {} fn unused() { 5 }",
        // Other names for the parameter, and the parameter's name for other things.
        &format!("{RULE}fn check(view) {{ if view.value.value > 0.1 {{ fire(`${{view.value.bad}} and view.nothing`) }} }}"),
        &format!("{RULE}fn check(w) {{ let watch = w.value; let now = w.now; if [1].some(|w| w.anything == 1) {{ fire(\"x\") }} }}"),
        &format!("{RULE}fn applies(log) {{ let log = #{{ own: 1 }}; log.own == 1 }}"),
        &format!("{RULE}fn applies(log) {{ let c = '\"'; log.output != () && log.output.contains(c) }} // log.nothing"),
        &format!("{RULE}fn applies(log) {{ text_of(log.json) != () }} fn text_of(log) {{ log.text }}"),
        // Functions of the file's own that have names of the language elsewhere.
        &format!("{RULE}fn sum(xs) {{ let n = 0; for x in xs {{ n += x; }} n }} fn check(w) {{ if sum([1, 2]) > 5 {{ fire(\"x\") }} }}"),
        &format!("{RULE}fn check(w) {{ let rate = |a, b| a / b; if rate.call(1, 2) > 5 {{ fire(\"x\") }} }}"),
        &format!("{RULE}fn check(w) {{ w.group.keys(); w.value.len(); if \"value\" in w {{ fire(w.group[\"environment\"]) }} }}"),
        "rule(#{ name: \"r\", watch: rate(\"a-b\", \"5m\") }); fn signals(log) { let all = #{}; all[\"a-b\"] = log[\"stage\"] == (); all }",
        "rule(#{ name: \"r\", watch: volume(\"5m\"), group_by: \"memory.hits\" }); fn check(w) { fire(w.group[\"memory.hits\"]) }",
    ] {
        assert_eq!(problems(text), "", "{text}");
    }
}

#[test]
fn names_that_are_no_part_of_what_is_seen_are_found_without_a_call() {
    check(&format!("{RULE}fn check(w) {{ fire(`${{w.value.vaule}}`) }}"), "r.rhai:2:20: there is no `vaule` in w.value\nhint: did you mean `value`?");
    check(&format!("{RULE}fn check(w) {{ w.value.previous.vaule }}"), "r.rhai:2:32: there is no `vaule` in w.value.previous\nhint: did");
    check(&format!("{RULE}fn check(w) {{ w.value.expected.max }}"), "r.rhai:2:32: there is no `max` in w.value.expected\nhint: known: low, high");
    check(
        "rule(#{ name: \"r\", watch: volume(\"5m\"), group_by: \"memory.hits\" }); fn check(w) { w.group.memory }",
        "r.rhai:1:91: there is no `memory` in w.group\nhint: write w.group[\"memory.hits\"]",
    );
    check(
        "rule(#{ name: \"r\", watch: #{ a: rate(\"eror\", \"5m\") } }); fn check(w) { w.a.value }",
        "r.rhai:1:38: unknown signal `eror`\nhint: did you mean `error`?",
    );
    check(&format!("{RULE}fn measures(call_log) {{ call_log.latncy_ms }}"), "r.rhai:2:34: a call has no field `latncy_ms`\nhint: did you mean");
    check(&format!("{RULE}fn applies(log) {{ log.output.includes(\"x\") }}"), "r.rhai:2:30: there is no function `includes`\nhint: it is written");
}
