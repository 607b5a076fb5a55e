//! A logged call as a line of OpenAI's chat format for fine-tuning: its input's messages, and its answer as the last one.
//!
//! Whatever shape the sender logs its input in, it is either turned into messages that say the same, or left out with the reason. Deliberately absent:
//! guesses. A message whose role or parts the format has no word for is not bent into one.

use model::CallLog;
use model::call::Kind;
use serde_json::{Map, Value, json};

/// `{"messages": […]}`, with `tools` where the messages call some.
///
/// # Errors
/// Why this call is no such line: a fragment that fits "not converted: …".
pub(super) fn converted(payload: &str, payload_is: &str) -> Result<Value, String> {
    match payload_is {
        "here" => {}
        "expired" => return Err("the payload has expired".to_owned()),
        _ => return Err("the payload cannot be read".to_owned()),
    }
    let call = model::parse(payload.as_bytes()).map_err(|_| "the payload is no call once it is redacted".to_owned())?;
    if call.kind != Kind::Llm {
        return Err(format!("{} calls are no chats", call.kind.name()));
    }
    let input = call.input.ok_or("the log has no input")?;
    let input: Value = serde_json::from_str(input).map_err(|_| "the input is no JSON".to_owned())?;
    let mut messages = messages(&input)?;
    if messages.is_empty() {
        return Err("the input holds no message".to_owned());
    }
    messages.push(answer(&call)?);
    let calls_tools = messages.iter().any(|message| message.get("tool_calls").is_some());
    let tools = call.tools.filter(|_| calls_tools).and_then(tools);
    let mut line = json!({ "messages": messages });
    if let Some(tools) = tools {
        line["tools"] = tools;
    }
    Ok(line)
}

fn answer(call: &CallLog<'_>) -> Result<Value, String> {
    let text = call.output.text().ok_or("the log has no output")?;
    let calls = call.output.tool_calls();
    if calls.is_empty() && text.trim().is_empty() {
        return Err("the output is empty".to_owned());
    }
    let mut message = json!({ "role": "assistant", "content": if text.is_empty() { Value::Null } else { Value::from(text.as_ref()) } });
    if !calls.is_empty() {
        let called = calls.iter().zip(1..).map(|(call, number)| {
            let arguments: Value = call.arguments.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_else(|| json!({}));
            tool_call(&format!("call_{number}"), &call.name, &arguments)
        });
        message["tool_calls"] = called.collect();
    }
    Ok(message)
}

/// Arguments are JSON in a string.
fn tool_call(id: &str, name: &str, arguments: &Value) -> Value {
    let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

/// The messages of an input: a text, one message, a list of them, an object that holds them, or any of these as JSON in a string.
fn messages(input: &Value) -> Result<Vec<Value>, String> {
    let inner = input.as_str().filter(|text| text.trim_start().starts_with(['[', '{'])).and_then(|text| serde_json::from_str::<Value>(text).ok());
    // JSON in a string is a conversation only where it has roles; else it is what the user wrote.
    let holds = |value: &Value| value.get("role").is_some() || value.get("messages").is_some() || value[0].get("role").is_some();
    match inner.as_ref().filter(|inner| holds(inner)).unwrap_or(input) {
        Value::String(text) => Ok(vec![json!({ "role": "user", "content": text })]),
        Value::Array(list) => list.iter().map(message).collect(),
        object @ Value::Object(fields) => {
            let asked = ["query", "question", "prompt", "text"].into_iter().find_map(|name| object[name].as_str());
            match (fields.get("messages").and_then(Value::as_array), asked) {
                (Some(list), _) => list.iter().map(message).collect(),
                (None, _) if fields.contains_key("role") => Ok(vec![message(object)?]),
                (None, Some(text)) => Ok(vec![json!({ "role": "user", "content": text })]),
                (None, None) => Err("the input is an object without messages".to_owned()),
            }
        }
        _ => Err("the input is neither a text nor messages".to_owned()),
    }
}

fn message(message: &Value) -> Result<Value, String> {
    if let Some(text) = message.as_str() {
        return Ok(json!({ "role": "user", "content": text }));
    }
    let role = match message["role"].as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "user" | "human" => "user",
        "assistant" | "model" | "ai" => "assistant",
        "system" | "developer" => "system",
        "tool" => "tool",
        _ => return Err("a message has a role that the format does not know".to_owned()),
    };
    let mut made = Map::from_iter([("role".to_owned(), Value::from(role))]);
    let content = message.get("content").or_else(|| message.get("parts")).unwrap_or(&Value::Null);
    made.insert("content".to_owned(), self::content(content)?);
    if let Some(calls) = message["tool_calls"].as_array().filter(|calls| !calls.is_empty()) {
        let called = calls.iter().zip(1..).map(|(call, number)| {
            let function = call.get("function").unwrap_or(call);
            let name = function["name"].as_str().ok_or("a message calls a tool without a name")?;
            Ok(tool_call(call["id"].as_str().unwrap_or(&format!("call_{number}")), name, &function["arguments"]))
        });
        made.insert("tool_calls".to_owned(), Value::Array(called.collect::<Result<_, String>>()?));
    } else if content.is_null() {
        return Err("a message has no content".to_owned());
    }
    if role == "tool" {
        let id = message["tool_call_id"].as_str().ok_or("a tool's answer does not say which call it is of")?;
        made.insert("tool_call_id".to_owned(), Value::from(id));
    }
    if let Some(name) = message["name"].as_str() {
        made.insert("name".to_owned(), Value::from(name));
    }
    Ok(Value::Object(made))
}

/// Texts are one text; pictures and sounds stay parts as they are.
fn content(content: &Value) -> Result<Value, String> {
    let Some(parts) = content.as_array() else {
        return match content {
            Value::String(_) | Value::Null => Ok(content.clone()),
            _ => Err("a message's content is neither a text nor parts".to_owned()),
        };
    };
    let mut texts = Vec::with_capacity(parts.len());
    let mut media = false;
    for part in parts {
        let text = part.as_str().or_else(|| part["text"].as_str()).or_else(|| part["content"].as_str());
        match (part["type"].as_str().unwrap_or("text"), text) {
            ("text" | "input_text" | "output_text", Some(text)) => texts.push(text),
            ("image_url" | "input_audio" | "file", _) => media = true,
            _ => return Err("a message has parts that the format has no word for".to_owned()),
        }
    }
    if !media {
        return Ok(Value::from(texts.join("\n")));
    }
    let kept = parts.iter().map(|part| part.as_str().map_or_else(|| part.clone(), |text| json!({ "type": "text", "text": text })));
    Ok(kept.collect())
}

/// The tools that were offered, as the format writes them; nothing where one of them is written in another way.
fn tools(raw: &str) -> Option<Value> {
    let tools: Vec<Value> = serde_json::from_str(raw).ok()?;
    let tool = |tool: &Value| {
        if tool["function"]["name"].is_string() {
            return Some(json!({ "type": "function", "function": tool["function"] }));
        }
        let name = tool.as_str().or_else(|| tool["name"].as_str())?;
        let mut function = json!({ "name": name });
        for (own, theirs) in [("description", "description"), ("parameters", "parameters"), ("input_schema", "parameters")] {
            if let Some(value) = tool.get(own) {
                function[theirs] = value.clone();
            }
        }
        Some(json!({ "type": "function", "function": function }))
    };
    tools.iter().map(tool).collect::<Option<Vec<_>>>().filter(|tools| !tools.is_empty()).map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(more: Value) -> Result<Value, String> {
        let mut payload = json!({ "id": "c", "time": 1_767_225_600_000_u64, "model": "m" });
        more.as_object().into_iter().flatten().for_each(|(name, value)| payload[name] = value.clone());
        converted(&payload.to_string(), "here")
    }

    #[test]
    fn a_conversation_in_any_shape_is_the_same_line() {
        let hello = json!({ "messages": [{ "role": "user", "content": "hello" }, { "role": "assistant", "content": "hi" }] });
        for input in [
            json!("hello"),
            json!([{ "role": "user", "content": "hello" }]),
            json!("[{\"role\":\"user\",\"content\":\"hello\"}]"),
            json!({ "messages": [{ "role": "human", "content": [{ "type": "text", "text": "hello" }] }] }),
            json!({ "query": "hello" }),
            json!({ "role": "user", "content": "hello" }),
            json!([{ "role": "user", "parts": [{ "type": "text", "content": "hello" }] }]),
        ] {
            assert_eq!(of(json!({ "input": input, "output": "hi" })).as_ref(), Ok(&hello), "{input}");
        }
        let parts = json!([{ "type": "text", "text": "what is it?" }, { "type": "image_url", "image_url": { "url": "https://x" } }]);
        assert_eq!(of(json!({ "input": [{ "role": "user", "content": parts }], "output": "x" })).expect("a line")["messages"][0]["content"], parts);
    }

    #[test]
    fn tools_and_their_calls_are_written_as_the_format_has_them() {
        let line = of(json!({
            "input": [{ "role": "developer", "content": "s" }, { "role": "user", "content": "q" },
                { "role": "assistant", "content": null, "tool_calls": [{ "id": "a", "function": { "name": "f", "arguments": { "x": 1 } } }] },
                { "role": "tool", "tool_call_id": "a", "content": "42" }],
            "output": [{ "type": "tool_use", "name": "g", "input": { "y": 2 } }],
            "tools": ["f", { "name": "g", "input_schema": { "type": "object" } }],
        }))
        .expect("a line");
        assert_eq!(line["messages"][0]["role"], "system");
        assert_eq!(
            line["messages"][2]["tool_calls"],
            json!([{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{\"x\":1}" } }])
        );
        assert_eq!(
            line["messages"][4]["tool_calls"],
            json!([{ "id": "call_1", "type": "function", "function": { "name": "g", "arguments": "{\"y\":2}" } }])
        );
        assert_eq!((&line["messages"][4]["content"], &line["tools"][1]["function"]["parameters"]), (&Value::Null, &json!({ "type": "object" })));
    }

    #[test]
    fn what_cannot_be_converted_says_why() {
        let said = |role: &str, content: Value| json!([{ "role": role, "content": content }]);
        for (more, why) in [
            (json!({ "output": "x" }), "the log has no input"),
            (json!({ "input": "q" }), "the log has no output"),
            (json!({ "input": "q", "output": " " }), "the output is empty"),
            (json!({ "input": [], "output": "x" }), "the input holds no message"),
            (json!({ "input": { "a": 1 }, "output": "x" }), "the input is an object without messages"),
            (json!({ "input": 12, "output": "x" }), "the input is neither a text nor messages"),
            (json!({ "input": said("narrator", json!("q")), "output": "x" }), "a message has a role that the format does not know"),
            (
                json!({ "input": said("user", json!([{ "type": "tool_result", "content": "42" }])), "output": "x" }),
                "a message has parts that the format has no word for",
            ),
            (json!({ "input": said("tool", json!("42")), "output": "x" }), "a tool's answer does not say which call it is of"),
            (json!({ "input": said("user", Value::Null), "output": "x" }), "a message has no content"),
            (json!({ "kind": "retrieval", "input": "q", "output": "x" }), "retrieval calls are no chats"),
        ] {
            assert_eq!(of(more), Err(why.to_owned()));
        }
        assert_eq!(converted("null", "expired"), Err("the payload has expired".to_owned()));
    }
}
