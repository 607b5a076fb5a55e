//! What the shipped code evaluators say, call by call.

use rules::{Configured, Verdict, load};
use streamgauge_evaluators::{library, shipped};

/// Its verdict about a call with these fields beside the required ones: `pass`, `fail: why`, `score`, or `none`.
fn judge(name: &str, constants: &[(&str, &str)], fields: &str) -> String {
    let set = constants.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let configured = Configured { constants: [(name.to_owned(), set)].into(), ..Configured::default() };
    let loaded = load(&library(&[name.to_owned()]).expect("it is shipped"), &configured);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>());
    let log = format!("{{\"id\":\"a\",\"time\":1700000000000,\"model\":\"m\",{fields}}}");
    let verdicts = loaded.rules.verdicts(&model::parse(log.as_bytes()).expect("a good log"));
    match &verdicts[0].1 {
        Ok(None) => "none".to_owned(),
        Ok(Some(Verdict::Pass)) => "pass".to_owned(),
        Ok(Some(Verdict::Fail(why))) => format!("fail: {why}"),
        Ok(Some(Verdict::Score { score, pass })) => format!("{score:.2} {}", if *pass { "pass" } else { "fail" }),
        Err(why) => format!("error: {why}"),
    }
}

#[test]
fn each_shipped_evaluator_passes_what_is_well_and_fails_what_is_not() {
    let looped = format!(r#""output":"I will look. {}""#, "Let me check the records. ".repeat(12));
    let long = format!(r#""output":"{}""#, "All that is known of it is written in the records of the town. ".repeat(5).replace(".", ","));
    let cited = long.replace("records of the town, \"", "records of the town [3]\"");
    let cases: &[(&str, &[(&str, &str)], &str, &str)] = &[
        ("repetition", &[], &looped, "fail: 96 % of the answer is one loop"),
        ("repetition", &[("LOOP_MAX", "0.99")], &looped, "pass"),
        ("repetition", &[], r#""output":"The user moved to Lyon in May and works as a baker there.""#, "pass"),
        ("repetition", &[], r#""output":"no no no""#, "none"),
        ("repetition", &[], r#""latency_ms":5"#, "none"),
        ("repetition", &[], r#""kind":"tool","output":"no""#, "none"),
        ("duplicate-facts", &[], r#""output":"{\"facts\":[\"Lives in Lyon.\",\"lives in Lyon\",\"Bakes\",\"Sings\"]}""#, "0.75 fail"),
        (
            "duplicate-facts",
            &[("PASS_MARK", "0.7")],
            r#""output":"{\"facts\":[\"Lives in Lyon.\",\"lives in Lyon\",\"Bakes\",\"Sings\"]}""#,
            "0.75 pass",
        ),
        ("duplicate-facts", &[], r#""output":"{\"facts\":[{\"text\":\"a\",\"n\":1},{\"text\":\"a\",\"n\":2}]}""#, "0.50 fail"),
        ("duplicate-facts", &[], r#""output":"{\"facts\":[{\"n\":1},{\"n\":2}]}""#, "1.00 pass"),
        ("duplicate-facts", &[("FIELD", "\"items\"")], r#""output":"{\"items\":[\"a\"]}""#, "1.00 pass"),
        ("duplicate-facts", &[], r#""output":"{\"facts\":[]}""#, "none"),
        ("duplicate-facts", &[], r#""output":"not JSON""#, "none"),
        ("citation-present", &[], &long, "fail: it names no source"),
        ("citation-present", &[], &cited, "pass"),
        ("citation-present", &[], r#""output":"Hello!""#, "none"),
        ("answer-length", &[], r#""output":"Hello!""#, "pass"),
        ("answer-length", &[], r#""output":"""#, "fail: 0 characters, and at least 1 are expected"),
        ("answer-length", &[("LENGTH_MAX", "5")], r#""output":"Hello!""#, "fail: 6 characters, and at most 5 are expected"),
        ("answer-length", &[], r#""latency_ms":5"#, "none"),
        ("latency-objective", &[], r#""latency_ms":8000"#, "pass"),
        ("latency-objective", &[], r#""latency_ms":9100"#, "fail: it took 9.1 s, and 8.0 s is the limit"),
        ("latency-objective", &[], r#""output":"Hello!""#, "none"),
        ("must-match", &[], r#""output":"Hello!""#, "pass"),
        ("must-match", &[("PATTERN", r#"`^\{`"#)], r#""output":"Hello!""#, "fail: it does not match"),
        ("must-not-match", &[], r#""output":"Dear {{ name }}, welcome""#, "fail: it matches"),
        ("must-not-match", &[], r#""output":"Dear [Insert name here]""#, "fail: it matches"),
        ("must-not-match", &[], r#""output":"Dear Ada""#, "pass"),
    ];
    for (name, constants, fields, expected) in cases {
        assert_eq!(judge(name, constants, fields), *expected, "{name} {constants:?}: {fields}");
    }
    for name in shipped() {
        assert!(cases.iter().any(|case| case.0 == name), "{name} has no case");
    }
}

#[test]
fn a_name_that_is_not_shipped_is_an_error_with_the_nearest_one() {
    let said = library(&["repetitions".to_owned()]).expect_err("there is none").to_string();
    assert!(said.starts_with("find the evaluator `repetitions`\nhint: did you mean `repetition`? known: answer-length, "), "{said}");
}
