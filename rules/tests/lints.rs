//! Every lint, with its full text; and the rules that look like it and are meant as they are.

use std::fmt::Write;
use streamgauge_rules::{Bounds, Configured, Source, lint, load};

fn bounds() -> Bounds {
    Bounds { retention: model::Span::from_secs(3600), series_max: 20_000, silent: vec!["test".into()] }
}

/// The warnings of one file as people see them.
fn warnings(text: &str) -> String {
    let sources = [Source { path: "r.rhai".into(), text: text.to_owned() }];
    let loaded = load(&sources, &Configured::default());
    assert!(loaded.problems.is_empty(), "{text}\n{:?}", loaded.problems);
    let mut shown = String::new();
    for warning in lint(&sources, &loaded.rules, &bounds()) {
        assert_eq!(warning.rule, "r");
        writeln!(shown, "{}", warning.problem).expect("strings take text");
    }
    shown
}

#[test]
fn each_lint_says_where_and_what_to_do() {
    let one_check = |body: &str| {
        format!(
            "rule(#{{ name: \"r\", watch: #{{ bad: rate(\"error\", \"5m\"), slow: quantile(\"latency_ms\", 0.95, \"5m\") }} }});\nfn check(w) {{ {body} }}"
        )
    };
    for (text, expected) in [
        (
            "rule(#{ name: \"r\",\n  watch: #{ a: rate(\"error\", \"5m\"), b: rate(\"retry\", \"2h\") } });".to_owned(),
            "r.rhai:2:54: the window of 2h is longer than store.retention, 1h\n\
             hint: what its windows hold is kept for as long as they reach: raise store.retention to say so, or take a shorter window\n",
        ),
        (
            "rule(#{ name: \"r\", watch: rate(\"error\", \"5m\"),\n  group_by: [\"stage\", \"user_id\", \"memory.requestId\"] });".to_owned(),
            "r.rhai:2:23: group_by `user_id`: each value is a group, and an id has a new one for every user, thread or call\n\
             hint: the limit is windows.series_max, 20,000 series an environment; calls of further groups count under (other). Group by what has few values, such as stage or model\n\
             r.rhai:2:34: group_by `memory.requestId`: each value is a group, and an id has a new one for every user, thread or call\n\
             hint: the limit is windows.series_max, 20,000 series an environment; calls of further groups count under (other). Group by what has few values, such as stage or model\n",
        ),
        (
            "rule(#{ name: \"r\", watch: rate(\"error\", \"5m\"),\n  channel: \"Oncall Memory\" });".to_owned(),
            "r.rhai:2:12: channel `Oncall Memory` is neither a #name nor an id\n\
             hint: Slack's channels are written \"#oncall-memory\", or by their id, such as \"C024BE91L\"\n",
        ),
        (
            "rule(#{ name: \"r\", watch: rate(\"error\", \"5m\"), environments: [\"test\"],\n  channel: \"#oncall\" });".to_owned(),
            "r.rhai:2:12: nothing of this rule is told in `#oncall`: it is only for test, where people are not notified\n\
             hint: set environments.test.notify = true, or widen `environments`\n",
        ),
        (
            "rule(#{ name: \"r\", watch: rate(\"error\", \"1m\"),\n  hold: \"2m\" });".to_owned(),
            "r.rhai:2:3: hold of 2m is longer than the longest window, 1m\n\
             hint: a window forgets what hold waits for: a longer window shows a lasting condition, and tells of it sooner\n",
        ),
        (
            "rule(#{ name: \"r\", watch: quantile(\"latency_ms\", 0.95, \"5m\")\n  .expect(0, 8) });".to_owned(),
            "r.rhai:2:4: p95 of latency_ms is expected up to 8 ms\nhint: latency_ms is in milliseconds: 8 s is 8000\n",
        ),
        (
            "rule(#{ name: \"r\", watch: rate(\"own\", \"5m\") });\nfn signals(log) {\n  if log.json == () { return #{ other: true }; }\n  #{ own: log.stage == \"a\", left: #{ inner: 1 }.len() > 0, \"error\": true, other: f([1, 2]) }\n}\nfn f(x) { true }".to_owned(),
            "r.rhai:3:33: nothing watches the signal `other`\nhint: watch it, as in rate(\"other\", \"5m\"), or take it out: it is computed for every call\n\
             r.rhai:4:29: nothing watches the signal `left`\nhint: watch it, as in rate(\"left\", \"5m\"), or take it out: it is computed for every call\n\
             r.rhai:4:60: nothing watches the signal `error`\nhint: `error` is a built-in signal, and that is what rate(\"error\", …) counts: give this one another name\n",
        ),
        (
            one_check("if w.bad.value > 5 && w.slow.value > 100 { fire(\"x\") }"),
            "r.rhai:2:18: `w.bad.value > 5` is never true\nhint: a rate lies between 0 and 1: 5 % is 0.05\n",
        ),
        (
            one_check("if (2.5 <= w.bad.low || w.bad.high < 0) { fire(\"x\") }"),
            "r.rhai:2:19: `2.5 <= w.bad.low` is never true\nhint: a rate lies between 0 and 1: 2.5 % is 0.025\n\
             r.rhai:2:39: `w.bad.high < 0` is never true\nhint: a rate lies between 0 and 1\n",
        ),
        (
            one_check("if w.slow.value > 8 { fire(\"x\") }"),
            "r.rhai:2:18: `w.slow.value > 8` compares milliseconds with 8\nhint: latency_ms is in milliseconds: 8 s is 8000\n",
        ),
    ] {
        assert_eq!(warnings(&text), expected, "{text}");
    }
}

#[test]
fn what_may_be_meant_is_passed_over() {
    let check = |body: &str| {
        format!(
            "rule(#{{ name: \"r\", watch: #{{ bad: rate(\"error\", \"5m\"), slow: quantile(\"latency_ms\", 0.95, \"5m\"), n: volume(\"5m\") }} }});\n\
             const X = 1; fn check(w) {{ {body} }} fn f(x) {{ x > 5 }}"
        )
    };
    for body in [
        "if w.bad.value > 0.05 && w.bad.value < 1.0 { fire(\"x\") }",
        "if 100 * w.bad.value > 5 { fire(\"x\") }",
        "if w.bad.value * 100 > 5 { fire(\"x\") }",
        "if w.bad.value > 5 / 100.0 { fire(\"x\") }",
        "if w.n.value > 5 || w.bad.bad > 5 || w.bad.calls > 5 { fire(\"x\") }",
        "// if w.bad.value > 5\n if f(w.bad.value) { fire(`w.bad.value > 5`) }",
        "let w = #{ bad: #{ value: 7 } }; if w.bad.value > 5 { fire(\"x\") }",
        "if [1].some(|w| w.bad.value > 5) { fire(\"x\") }",
        "if w.slow.value > 8000 || w.slow.value / 1000 > 8 { fire(\"x\") }",
        "if w.bad.value < 5 { fire(\"always true, not never\") }",
    ] {
        assert_eq!(warnings(&check(body)), "", "{body}");
    }
    for text in [
        "rule(#{ name: \"r\", watch: rate(\"error\", \"1h\"), group_by: [\"tenant_id\", \"properties.grid\", \"model\"], hold: \"30m\", channel: \"#a-b_1\" });",
        "rule(#{ name: \"r\", watch: rate(\"error\", \"5m\"), channel: \"C024BE91L\", environments: [\"test\", \"production\"] });",
        "rule(#{ name: \"r\", watch: mean(\"output_tokens\", \"5m\").expect(0, 8) });",
        // Maps on the way are not what is returned.
        "rule(#{ name: \"r\", watch: rate(\"own\", \"5m\") });\nfn signals(log) { let seen = #{ a: 1 }; let b = if true { #{ c: 2 } } else { #{} }; #{ own: seen.a == b.c } }",
        "rule(#{ name: \"r\", watch: rate(\"own\", \"5m\") });\nfn signals(log) { let all = #{ own: true, later: true }; all }",
        "rule(#{ name: \"r\", watch: rate(\"own\", \"5m\") });\nfn signals(log) { #{ own: true, later: true }.filter(|k, v| v) }",
    ] {
        assert_eq!(warnings(text), "", "{text}");
    }
}

#[test]
fn shipped_rules_have_no_warnings() {
    let names: Vec<_> = streamgauge_rules::shipped().into_iter().map(|(pack, _)| pack.to_owned()).collect();
    let sources = streamgauge_rules::library(&names).expect("they are shipped");
    let loaded = load(&sources, &Configured::default());
    assert_eq!(lint(&sources, &loaded.rules, &Bounds { retention: model::Span::from_secs(86_400), ..bounds() }), []);
}
