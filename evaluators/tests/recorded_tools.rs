//! Tool calls that real models made, judged by schemas: of a recorded benchmark of an airline's agent.
//!
//! The recording has the calls and no declarations, so each tool is declared by what all its correct calls have in common.

use model::call::Output;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use streamgauge_evaluators::Evaluators;

/// What the benchmark's tools share: the arguments that each of the expected calls has, with their types.
fn declared(trajectories: &[Value]) -> Value {
    let mut common: BTreeMap<&str, Option<BTreeMap<&str, &str>>> = BTreeMap::new();
    for action in trajectories.iter().flat_map(|trajectory| trajectory["info"]["task"]["actions"].as_array().expect("actions")) {
        let kinds: BTreeMap<_, _> =
            action["kwargs"].as_object().expect("arguments").iter().map(|(name, value)| (name.as_str(), kind(value))).collect();
        let known = common.entry(action["name"].as_str().expect("a name")).or_default();
        match known {
            None => *known = Some(kinds),
            Some(known) => known.retain(|name, kind| kinds.get(name) == Some(kind)),
        }
    }
    let tools = common.into_iter().map(|(name, kinds)| {
        let kinds = kinds.expect("each has a call");
        let properties: Map<String, Value> = kinds.iter().map(|(name, kind)| ((*name).to_owned(), json!({ "type": kind }))).collect();
        let schema = json!({ "type": "object", "required": kinds.keys().collect::<Vec<_>>(), "properties": properties });
        json!({ "type": "function", "function": { "name": name, "parameters": schema } })
    });
    tools.collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn recorded_tool_calls_are_judged_as_a_plain_reading_judges_them() {
    let Some(folder) = std::env::var_os("STREAMGAUGE_RECORDINGS") else {
        eprintln!("skipped: STREAMGAUGE_RECORDINGS is not set");
        return;
    };
    let file = Path::new(&folder).join("tau_bench/historical_trajectories/gpt-4o-airline.json");
    let text = std::fs::read(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    let trajectories: Vec<Value> = serde_json::from_slice(&text).expect("the recording is JSON");
    let tools = declared(&trajectories);
    let schemas: BTreeMap<&str, &Value> = tools
        .as_array()
        .expect("an array")
        .iter()
        .map(|tool| (tool["function"]["name"].as_str().expect("a name"), &tool["function"]["parameters"]))
        .collect();

    let evaluators = Evaluators::new(Vec::new(), Vec::new()).expect("nothing to compile");
    let (mut calls, mut by_violation) = (0, BTreeMap::<String, usize>::new());
    let messages = trajectories.iter().flat_map(|trajectory| trajectory["traj"].as_array().expect("messages"));
    for message in messages.filter(|message| message["tool_calls"].is_array()) {
        let log = json!({ "id": "a", "time": 1_700_000_000_000_u64, "model": "gpt-4o", "tools": tools, "output": message }).to_string();
        let call = model::parse(log.as_bytes()).expect("a good log");
        let Output::Parts { tool_calls, .. } = &call.output else { panic!("an answer with parts: {log}") };
        calls += tool_calls.len();
        let found = evaluators.find(&call);

        // Required and type, read plainly.
        let wrong = message["tool_calls"].as_array().expect("an array").iter().any(|made| {
            let Some(schema) = schemas.get(made["function"]["name"].as_str().expect("a name")) else { return true };
            let arguments: Value =
                serde_json::from_str(made["function"]["arguments"].as_str().expect("a text")).expect("recorded arguments are JSON");
            let properties = schema["properties"].as_object().expect("an object");
            let required: BTreeSet<_> = schema["required"].as_array().expect("an array").iter().filter_map(Value::as_str).collect();
            required.iter().any(|name| arguments.get(name).is_none())
                || properties.iter().any(|(name, schema)| arguments.get(name).is_some_and(|value| schema["type"] != kind(value)))
        });
        assert_eq!(found.tools_valid, Some(!wrong), "{log}");
        assert_eq!(found.violation.is_some(), wrong, "{log}");
        *by_violation.entry(found.violation.unwrap_or_default()).or_default() += 1;
    }
    assert_eq!(calls, 1164);
    assert_eq!(evaluators.refused(), 0);
    eprintln!("{calls} tool calls: {by_violation:#?}");
}
