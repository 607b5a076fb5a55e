//! The tools that a model was offered, and whether its calls of them can be made: arguments that are JSON and satisfy the tool's schema.
//!
//! Tools are read in the native shape (a name, or `name` with `parameters`) and in those of OpenAI, Anthropic, Gemini, Bedrock and MCP. Deliberately
//! absent: tools that the provider runs itself, of which nothing is declared. Where there are such, a name that is not listed says nothing.

use crate::cache::Cache;
use crate::violation;
use model::CallLog;
use model::call::Text;
use model::wire::json;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tools of one call that are looked at; more than any provider takes. With more, a name that is not among them says nothing.
const TOOLS_MAX: usize = 1_000;
/// Tool calls of one answer that are judged: tens are many.
const CALLS_MAX: usize = 256;
/// Groups hold tools, and nothing holds groups.
const NESTING_MAX: usize = 2;

/// Whether the arguments of all tool calls are as declared, and what is violated first, by the order of the calls. `None` when there is nothing to
/// judge: no call, or none whose tool has a schema or is missing from a full list. `refused` counts schemas that do not compile.
///
/// Cost: nothing without a tool call and declared tools; else a scan of the declarations, and for each call a parse of its arguments.
pub(crate) fn judge(call: &CallLog<'_>, schemas: &Cache, refused: &AtomicU64) -> Option<Result<(), String>> {
    let calls = call.output.tool_calls();
    let raw = call.tools.filter(|_| !calls.is_empty() && call.answered())?;
    let mut declared = Declared::default();
    declared.read(raw, 0);
    let mut judged = None;
    for tool_call in calls.iter().take(CALLS_MAX) {
        let name = || violation::name(&tool_call.name);
        let Some(tool) = declared.tools.iter().find(|tool| tool.name == tool_call.name) else {
            if !declared.open && !declared.tools.is_empty() {
                return Some(Err(format!("tool {} undeclared", name())));
            }
            continue;
        };
        let (Some(schema), Some(arguments)) = (tool.schema, tool_call.arguments.filter(|raw| *raw != "null")) else { continue };
        let Some(schema) = schemas.get(schema) else {
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let text = json::decode(arguments);
        // No arguments at all are written so by some providers.
        let text = if text.trim().is_empty() { "{}" } else { text.as_ref() };
        if !json::is_json(text) {
            return Some(Err(format!("tool {}: arguments not JSON", name())));
        }
        // RFC 8259 allows numbers, halves of surrogate pairs and depths that no value holds: of those nothing is said.
        let Ok(value) = serde_json::from_str(text) else { continue };
        if !schema.is_valid(&value) {
            let first = violation::first(&schema, &value).unwrap_or_default();
            return Some(Err(format!("tool {}: {first}", name())));
        }
        judged = Some(Ok(()));
    }
    judged
}

#[derive(Debug, Default)]
struct Declared<'a> {
    tools: Vec<Tool<'a>>,
    /// There are tools beside them whose names are not known.
    open: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Tool<'a> {
    name: Text<'a>,
    /// Raw JSON; `None` when the tool takes anything, or its schema is in no dialect of JSON Schema.
    schema: Option<&'a str>,
}

impl<'a> Declared<'a> {
    fn read(&mut self, raw: &'a str, nesting: usize) {
        for element in json::elements(raw).unwrap_or_default() {
            if self.tools.len() >= TOOLS_MAX || nesting > NESTING_MAX {
                self.open = true;
                return;
            }
            if element.starts_with('"') {
                self.tools.push(Tool { name: json::decode(element), schema: None });
                continue;
            }
            let fields = json::fields(element).unwrap_or_default();
            let get = |name: &str| find(&fields, &[name]);
            if let Some(group) = get("tools") {
                self.read(group, nesting + 1);
            } else if let Some(functions) = find(&fields, &["functionDeclarations", "function_declarations"]) {
                for function in json::elements(functions).unwrap_or_default() {
                    // Their `parameters` are OpenAPI's dialect: as a JSON Schema it would be a wrong one.
                    self.one(&json::fields(function).unwrap_or_default(), &["parametersJsonSchema", "parameters_json_schema"]);
                }
            } else if let Some(inner) = get("function").or_else(|| get("toolSpec")) {
                self.one(&json::fields(inner).unwrap_or_default(), &SCHEMA);
            } else {
                self.one(&fields, &SCHEMA);
            }
        }
    }

    fn one(&mut self, fields: &[(Cow<'a, str>, &'a str)], schema: &[&str]) {
        let schema = find(fields, schema).map(|schema| json::field(schema, "json").unwrap_or(schema)).filter(|schema| schema.starts_with('{'));
        // What the provider runs itself has a type of its own, and calls by names of its own.
        let theirs = find(fields, &["type"]).is_some_and(|kind| !matches!(json::decode(kind).as_ref(), "function" | "custom"));
        self.open |= theirs && schema.is_none();
        match find(fields, &["name"]).filter(|name| name.starts_with('"')) {
            Some(name) => self.tools.push(Tool { name: json::decode(name), schema }),
            None => self.open = true,
        }
    }
}

/// What holds a tool's schema, by sender: OpenAI and the native shape, Anthropic, Bedrock and MCP.
const SCHEMA: [&str; 3] = ["parameters", "input_schema", "inputSchema"];

fn find<'a>(fields: &[(Cow<'a, str>, &'a str)], names: &[&str]) -> Option<&'a str> {
    fields.iter().find(|(name, raw)| names.contains(&name.as_ref()) && *raw != "null").map(|(_, raw)| *raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_read_as_their_senders_write_them() {
        let s = r#"{"type":"object"}"#;
        let tools = [
            r#""by_name""#.to_owned(),
            format!(r#"{{"name":"native","parameters":{s}}}"#),
            format!(r#"{{"type":"function","function":{{"name":"chat","parameters":{s}}}}}"#),
            format!(r#"{{"type":"function","name":"responses","parameters":{s},"strict":true}}"#),
            format!(r#"{{"name":"anthropic","input_schema":{s}}}"#),
            format!(
                r#"{{"functionDeclarations":[{{"name":"gemini","parametersJsonSchema":{s}}},{{"name":"openapi","parameters":{{"type":"OBJECT"}}}}]}}"#
            ),
            format!(r#"{{"toolSpec":{{"name":"bedrock","inputSchema":{{"json":{s}}}}}}}"#),
            format!(r#"{{"type":"namespace","name":"all","tools":[{{"name":"inner","parameters":{s}}}]}}"#),
            r#"{"type":"custom","name":"free_text","format":{"type":"text"}}"#.to_owned(),
        ];
        let raw = format!("[{}]", tools.join(","));
        let mut declared = Declared::default();
        declared.read(&raw, 0);
        let names: Vec<_> = declared.tools.iter().map(|tool| (tool.name.as_ref(), tool.schema == Some(s))).collect();
        let with = ["native", "chat", "responses", "anthropic", "gemini", "bedrock", "inner"];
        let all = ["by_name", "native", "chat", "responses", "anthropic", "gemini", "openapi", "bedrock", "inner", "free_text"];
        assert_eq!(names, all.map(|name| (name, with.contains(&name))));
        assert!(!declared.open);
        for theirs in
            [r#"[{"type":"web_search"}]"#, r#"[{"type":"code_execution_20260120","name":"code_execution"}]"#, r#"[{"googleSearch":{}}]"#, "[5]"]
        {
            let mut declared = Declared::default();
            declared.read(theirs, 0);
            assert!(declared.open, "{theirs}");
        }
    }
}
