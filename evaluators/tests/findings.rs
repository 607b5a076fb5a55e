//! What the evaluators find, call by call.

use model::label::Key;
use model::plan::Filter;
use model::signal::{Findings, JsonAnswer, Signal, signals};
use streamgauge_evaluators::{EvaluatorError, Evaluators, Objective, SchemaSource};

const FACTS: &str = r##"{"type":"object","required":["facts"],"properties":{"facts":{"type":"array","items":{"$ref":"#/$defs/fact"}}},"$defs":{"fact":{"type":"string"}}}"##;

fn stage(name: &str) -> Filter {
    Filter(vec![(Key::Stage, vec![name.to_owned()])])
}

fn evaluators(schemas: Vec<SchemaSource>, objectives: Vec<Objective>) -> Evaluators {
    Evaluators::new(schemas, objectives).expect("the schemas compile")
}

/// What is found in a call with these fields beside the required ones, but for the words of a violation.
fn find(evaluators: &Evaluators, fields: &str) -> Findings {
    Findings { violation: None, ..all(evaluators, fields) }
}

fn all(evaluators: &Evaluators, fields: &str) -> Findings {
    let log = format!("{{\"id\":\"a\",\"time\":1700000000000,\"model\":\"m\",{fields}}}");
    evaluators.find(&model::parse(log.as_bytes()).expect("a good log"))
}

fn found(json: Option<JsonAnswer>, schema_valid: Option<bool>) -> Findings {
    Findings { json, schema_valid, ..Findings::default() }
}

#[test]
fn an_answer_is_judged_only_when_it_was_to_be_json_and_can_be() {
    use JsonAnswer::{Invalid, Valid};
    let plain = evaluators(vec![], vec![]);
    for (fields, json) in [
        (r#""output":"{}""#, None),
        (r#""output":"{}","response_format":"text""#, None),
        (r#""output":"{}","response_format":"json""#, Some(Valid)),
        (r#""output":" 1e999 ","response_format":"json""#, Some(Valid)),
        (r#""output":"nope","response_format":"json""#, Some(Invalid)),
        (r#""output":"","response_format":"json""#, Some(Invalid)),
        (r#""output":"nope","response_format":"unknown-name""#, Some(Invalid)),
        (r#""output":"```json\n{}\n```","response_format":"json""#, Some(Invalid)),
        (r#""response_format":"json""#, None),
        (r#""output":"nope","response_format":"json","status_code":500"#, None),
        (r#""output":"nope","response_format":"json","kind":"tool""#, None),
        (r#""output":{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]},"response_format":"json""#, None),
    ] {
        assert_eq!(find(&plain, fields), found(json, None), "{fields}");
    }
}

#[test]
fn a_call_is_held_to_its_own_schema() {
    use JsonAnswer::{Invalid, Valid};
    let plain = evaluators(vec![], vec![]);
    let format = format!("\"response_format\":{{\"type\":\"json_schema\",\"json_schema\":{{\"name\":\"facts\",\"schema\":{FACTS}}}}}");
    for (output, json, valid) in [
        (r#""{\"facts\":[\"a\"]}""#, Valid, Some(true)),
        (r#""{\"facts\":[5]}""#, Valid, Some(false)),
        (r#""[]""#, Valid, Some(false)),
        (r#""nope""#, Invalid, None),
        // JSON by its grammar, but nothing holds the number, the half of a pair, or the depth.
        (r#""{\"facts\":[],\"n\":1e999}""#, Valid, None),
        (r#""{\"facts\":[\"\\ud800\"]}""#, Valid, None),
        (&format!("\"{}{}\"", "[".repeat(300), "]".repeat(300)), Valid, None),
    ] {
        assert_eq!(find(&plain, &format!("\"output\":{output},{format}")), found(Some(json), valid), "{output}");
    }
    assert_eq!(plain.refused(), 0);
}

#[test]
fn a_schema_of_a_call_that_does_not_compile_is_counted_and_asks_for_json_only() {
    let plain = evaluators(vec![], vec![]);
    for (n, schema) in
        [r#"{"type":"no such type"}"#, r#"{"$ref":"https://example.com/schema.json"}"#, r#"{"pattern":"(unclosed"}"#, r##"{"$ref":"#/missing"}"##]
            .into_iter()
            .enumerate()
    {
        let fields = format!("\"output\":\"{{}}\",\"response_format\":{{\"type\":\"json_schema\",\"schema\":{schema}}}");
        assert_eq!(find(&plain, &fields), found(Some(JsonAnswer::Valid), None), "{schema}");
        assert_eq!(plain.refused(), n as u64 + 1, "{schema}");
    }
}

#[test]
fn configured_schemas_go_by_filter_then_by_name() {
    use JsonAnswer::{Fenced, Invalid, Valid};
    let schema = |name: &str, text: Option<&str>, applies| SchemaSource {
        name: name.into(),
        text: text.map(str::to_owned),
        applies,
        ..SchemaSource::default()
    };
    let configured = evaluators(
        vec![
            schema("z", Some(r#"{"type":"array"}"#), stage("extraction")),
            SchemaSource { accept_fenced: true, environments: vec!["default".into()], ..schema("facts", Some(FACTS), stage("extraction")) },
            SchemaSource { accept_fenced: true, ..schema("any", None, stage("any")) },
            schema("named", Some(r#"{"type":"array"}"#), Filter::default()),
            SchemaSource { environments: vec!["strict".into()], ..schema("by-environment", Some(r#"{"const":1}"#), Filter::default()) },
        ],
        vec![],
    );
    let own = |schema: &str| format!("\"response_format\":{{\"type\":\"json_schema\",\"schema\":{schema}}}");
    for (fields, json, valid) in [
        (r#""stage":"extraction","output":"{\"facts\":[]}""#.to_owned(), Some(Valid), Some(true)),
        (r#""stage":"extraction","output":"[]""#.to_owned(), Some(Valid), Some(false)),
        (r#""stage":"extraction","output":"```\n{\"facts\":[]}\n```""#.to_owned(), Some(Fenced), Some(true)),
        (r#""stage":"extraction","output":"```\n{\"facts\":[1]}\n```""#.to_owned(), Some(Fenced), Some(false)),
        // Elsewhere `facts` does not apply, and `z` is next.
        (r#""stage":"extraction","environment":"test","output":"[]""#.to_owned(), Some(Valid), Some(true)),
        (r#""stage":"extraction","environment":"test","output":"```\n[]\n```""#.to_owned(), Some(Invalid), None),
        // What is configured goes before what the call says.
        (format!(r#""stage":"extraction","output":"[]",{}"#, own("{}")), Some(Valid), Some(false)),
        (r#""stage":"any","output":"```\n5\n```""#.to_owned(), Some(Fenced), None),
        (format!(r#""stage":"any","output":"```\n5\n```",{}"#, own(r#"{"type":"string"}"#)), Some(Fenced), Some(false)),
        (r#""stage":"other","output":"[]""#.to_owned(), None, None),
        (r#""stage":"other","output":"[]","response_format":"named""#.to_owned(), Some(Valid), Some(true)),
        (r#""stage":"other","output":"{}","response_format":"facts""#.to_owned(), Some(Valid), Some(false)),
        (r#""environment":"strict","output":"2""#.to_owned(), Some(Valid), Some(false)),
    ] {
        assert_eq!(find(&configured, &fields), found(json, valid), "{fields}");
    }
}

#[test]
fn the_smallest_objective_that_takes_the_call_holds() {
    let objective = |applies, environments: &[&str], latency_ms| Objective {
        applies,
        environments: environments.iter().map(|name| (*name).to_owned()).collect(),
        latency_ms,
    };
    let configured = evaluators(
        vec![],
        vec![objective(Filter::default(), &[], 5000), objective(stage("extraction"), &[], 800), objective(stage("extraction"), &["production"], 900)],
    );
    for (fields, objective_ms) in
        [(r#""stage":"x""#, 5000), (r#""stage":"extraction""#, 800), (r#""stage":"extraction","environment":"production","status_code":500"#, 800)]
    {
        assert_eq!(find(&configured, fields).objective_ms, Some(objective_ms), "{fields}");
    }
    assert_eq!(find(&evaluators(vec![], vec![]), r#""stage":"x""#), Findings::default());
}

#[test]
fn a_configured_schema_that_cannot_be_used_is_an_error_with_its_name_and_place() {
    let refused = |text: &str| {
        let source = SchemaSource { name: "facts".into(), text: Some(text.into()), ..SchemaSource::default() };
        Evaluators::new(vec![source], vec![]).map(|_| ()).expect_err("it cannot be used").to_string()
    };
    for (text, expected) in [
        ("{", "read schema `facts`: it is not JSON: "),
        (r#"{"properties":{"a":{"type":"no such type"}}}"#, "compile schema `facts` at /properties/a/type: "),
        (r#"{"$ref":"https://example.com/other.json"}"#, "compile schema `facts`: "),
        (r#"{"$ref":"file:///etc/passwd"}"#, "compile schema `facts`: "),
        (
            r#"{"$schema":"https://example.com/dialect"}"#,
            "compile schema `facts`: its $schema is `https://example.com/dialect`, which is not known\nhint: ",
        ),
    ] {
        let got = refused(text);
        assert!(got.starts_with(expected), "{got}");
    }
    assert!(refused(r#"{"$ref":"https://example.com/other.json"}"#).contains("nothing is fetched"));
    let twice = vec![SchemaSource { name: "a".into(), ..SchemaSource::default() }; 2];
    assert_eq!(Evaluators::new(twice, vec![]).map(|_| ()), Err(EvaluatorError::Twice { name: "a".into() }));
}

#[test]
fn a_schema_that_refers_to_itself_or_goes_deep_ends() {
    let plain = evaluators(vec![], vec![]);
    let deep = format!("{}{{}}{}", "{\"allOf\":[".repeat(60), "]}".repeat(60));
    for schema in [
        r##"{"$ref":"#"}"##,
        r##"{"allOf":[{"$ref":"#"}]}"##,
        r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##,
        &deep,
    ] {
        let fields = format!("\"output\":\"{{}}\",\"response_format\":{{\"type\":\"json_schema\",\"schema\":{schema}}}");
        assert_eq!(find(&plain, &fields), found(Some(JsonAnswer::Valid), Some(true)), "{schema}");
    }
}

#[test]
fn the_dialect_is_that_of_the_schema() {
    let valid = |dialect: &str, schema: &str, output: &str| {
        let text = format!("{{\"$schema\":\"{dialect}\",{schema}}}");
        let source = SchemaSource { name: "s".into(), text: Some(text), ..SchemaSource::default() };
        let fields = format!("\"response_format\":\"s\",\"output\":\"{output}\"");
        find(&evaluators(vec![source], vec![]), &fields).schema_valid.expect("it is judged")
    };
    // Draft 4 says with a boolean whether the limit itself is in; later ones say the limit. Only since 2020-12 does `items` come after `prefixItems`.
    assert!(!valid("http://json-schema.org/draft-04/schema#", r#""minimum":5,"exclusiveMinimum":true"#, "5"));
    assert!(!valid("http://json-schema.org/draft-07/schema#", r#""exclusiveMinimum":5"#, "5"));
    assert!(valid("https://json-schema.org/draft/2019-09/schema", r#""prefixItems":[{"type":"string"}]"#, "[1]"));
    assert!(!valid("https://json-schema.org/draft/2020-12/schema", r#""prefixItems":[{"type":"string"}]"#, "[1]"));
}

#[test]
fn a_violation_names_the_schema_the_place_and_the_keyword() {
    let source = SchemaSource { name: "facts".into(), text: Some(FACTS.into()), applies: stage("extraction"), ..SchemaSource::default() };
    let configured = evaluators(vec![source], vec![]);
    let tools =
        r#""tools":[{"name":"book","parameters":{"required":["city"],"additionalProperties":false,"properties":{"city":{"type":"string"}}}}]"#;
    let calls = |name: &str, arguments: &str| format!(r#"{tools},"output":[{{"type":"tool_call","name":"{name}","arguments":{arguments}}}]"#);
    for (fields, violation) in [
        (r#""stage":"extraction","output":"{}""#.to_owned(), Some("facts: /facts required")),
        (r#""stage":"extraction","output":"{\"facts\":[\"a\",5]}""#.to_owned(), Some("facts: /facts/* type")),
        (r#""stage":"extraction","output":"{\"facts\":[]}""#.to_owned(), None),
        // What is not JSON violates nothing.
        (r#""stage":"extraction","output":"nope""#.to_owned(), None),
        (r#""output":"5","response_format":{"type":"json_schema","schema":{"type":"string"}}"#.to_owned(), Some("response_format: / type")),
        (calls("book", r#"{"city":"Lyon"}"#), None),
        (calls("book", r#""{\"city\":5}""#), Some("tool book: /city type")),
        (calls("book", r#""""#), Some("tool book: /city required")),
        (calls("book", r#""{\"city""#), Some("tool book: arguments not JSON")),
        (calls("cook", "{}"), Some("tool cook undeclared")),
        // Nothing holds the number, and `null` is how a sender says that arguments are not logged.
        (calls("book", "1e999"), None),
        (calls("book", "null"), None),
    ] {
        assert_eq!(all(&configured, &fields).violation.as_deref(), violation, "{fields}");
    }
}

#[test]
fn every_awkward_case_has_the_signals_that_its_fixture_says() {
    const CASES: &str = include_str!("../../fixtures/logs/signals.jsonl");
    let plain = evaluators(vec![], vec![]);
    let mut tools = 0;
    for line in CASES.lines() {
        let fixture: serde_json::Value = serde_json::from_str(line).expect("a fixture is JSON");
        let log = model::wire::json::field(line, "log").expect("a fixture holds a log");
        let call = model::parse(log.as_bytes()).expect("a good log");
        let found = signals(&call, &plain.find(&call));
        for (name, expected) in fixture["expect"].as_object().expect("a fixture says what to expect") {
            let (applies, holds) = found.get(Signal::parse(name).expect("a fixture names known signals"));
            assert_eq!(serde_json::json!([u64::from(holds), u64::from(applies)]), *expected, "{name} of {}", fixture["case"]);
            tools += usize::from(name == "tool_arguments_invalid");
        }
    }
    assert!(tools >= 10, "only {tools} cases of tools");
}
