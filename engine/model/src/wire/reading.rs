//! Readings of one raw field that several formats share: text, whole numbers, times, money, answers.
//!
//! A value of the wrong type is an error that names the field; `null` and the empty string are absent.

use super::{Malformed, Reason, json};
use crate::bucket::Bucket;
use crate::call::{Attempt, Output, ProviderError, ResponseFormat, Text, ToolCall};
use crate::time::Timestamp;
use std::borrow::Cow;

pub(super) type Read<T> = Result<T, Malformed>;

pub(super) fn bad(field: &str, expected: &str, raw: &str) -> Malformed {
    let end = raw.floor_char_boundary(60);
    let shown = if end < raw.len() { format!("{}…", &raw[..end]) } else { raw.to_owned() };
    Malformed::new(Reason::BadField, format!("field `{field}`: expected {expected}, found {shown}"))
}

pub(super) fn missing(field: &str, why: &str) -> Malformed {
    Malformed::new(Reason::MissingField, format!("field `{field}` is missing: {why}"))
}

/// Strings, and numbers and booleans as written (ids are often numbers).
pub(super) fn text<'a>(field: &str, raw: &'a str) -> Read<Option<Text<'a>>> {
    match raw.as_bytes().first() {
        Some(b'"') => Ok(Some(json::decode(raw)).filter(|text| !text.is_empty())),
        Some(b'n') => Ok(None),
        Some(b'{' | b'[') => Err(bad(field, "a string", raw)),
        _ => Ok(Some(Cow::Borrowed(raw))),
    }
}

/// A whole number, 0 ..= [`Bucket::VALUE_MAX`]; fractions are rounded, numbers in quotes are accepted.
pub(super) fn whole(field: &str, raw: &str) -> Read<Option<u64>> {
    scaled(field, raw, 1.0)
}

/// `raw` times `scale`, rounded to a whole number in 0 ..= [`Bucket::VALUE_MAX`].
pub(super) fn scaled(field: &str, raw: &str, scale: f64) -> Read<Option<u64>> {
    let digits = raw.trim_matches('"');
    if raw == "null" || digits.is_empty() {
        return Ok(None);
    }
    if scale == 1.0
        && let Ok(number) = digits.parse::<u64>()
    {
        return if number <= Bucket::VALUE_MAX { Ok(Some(number)) } else { Err(bad(field, "a number below 2^40", raw)) };
    }
    let number = digits.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(|| bad(field, "a number", raw))? * scale;
    if number < 0.0 || number.round() > Bucket::VALUE_MAX as f64 {
        return Err(bad(field, "a number from 0 to 2^40", raw));
    }
    Ok(Some(number.round() as u64))
}

/// An HTTP status; 0 and `null` are absent.
pub(super) fn status(field: &str, raw: &str) -> Read<Option<u16>> {
    match whole(field, raw)? {
        None | Some(0) => Ok(None),
        Some(code @ 100..=999) => Ok(Some(code as u16)),
        Some(_) => Err(bad(field, "an HTTP status from 100 to 999", raw)),
    }
}

/// RFC 3339, or epoch milliseconds.
pub(super) fn time(field: &str, raw: &str) -> Read<Option<Timestamp>> {
    const EXPECTED: &str = "RFC 3339 or epoch milliseconds";
    if raw == "null" {
        return Ok(None);
    }
    if raw.starts_with('"') {
        let decoded = json::decode(raw);
        return Timestamp::parse(&decoded).map(Some).ok_or_else(|| bad(field, EXPECTED, raw));
    }
    let millis = raw.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(|| bad(field, EXPECTED, raw))?;
    if millis.abs() < 1e11 {
        return Err(bad(field, "epoch milliseconds (this looks like seconds)", raw));
    }
    let time = (millis.abs() < 1e14).then(|| Timestamp::from_millis(millis.round() as i64)).flatten();
    time.map(Some).ok_or_else(|| bad(field, "epoch milliseconds (this looks like micro- or nanoseconds)", raw))
}

/// Dollars to nano-dollars.
pub(super) fn dollars(field: &str, raw: &str) -> Read<Option<u64>> {
    scaled(field, raw, 1e9)
}

/// An object's fields; `null` has none.
pub(super) fn object<'a>(field: &str, raw: &'a str) -> Read<super::Fields<'a>> {
    if raw == "null" {
        return Ok(Vec::new());
    }
    json::fields(raw).map_err(|_| bad(field, "an object", raw))
}

/// A provider's error: an object, or just its message. Empty objects and empty messages are no error.
pub(super) fn error<'a>(field: &str, raw: &'a str) -> Read<Option<ProviderError<'a>>> {
    let mut error = ProviderError::default();
    if raw.starts_with('{') {
        for (key, value) in object(field, raw)? {
            match key.as_ref() {
                "type" => error.r#type = text("error.type", value)?,
                "code" => error.code = text("error.code", value)?,
                "message" => error.message = text("error.message", value)?,
                "body" if value != "null" => error.body = Some(value),
                _ => {}
            }
        }
        // A provider's payload put here as it came: keep all of it.
        if error == ProviderError::default() && raw.len() > 2 && !raw.trim_matches(['{', '}', ' ', '\n', '\t', '\r']).is_empty() {
            error.body = object(field, raw)?.iter().any(|(_, value)| *value != "null").then_some(raw);
        }
    } else {
        error.message = text(field, raw)?;
    }
    Ok((error != ProviderError::default()).then_some(error))
}

/// One attempt of an operation.
pub(super) fn attempt<'a>(raw: &'a str) -> Read<Attempt<'a>> {
    let mut attempt = Attempt::default();
    for (key, value) in object("attempts[]", raw)? {
        match key.as_ref() {
            "provider" => attempt.provider = text("attempts[].provider", value)?,
            "model" => attempt.model = text("attempts[].model", value)?,
            "status_code" => attempt.status_code = status("attempts[].status_code", value)?,
            "error_type" => attempt.error_type = text("attempts[].error_type", value)?,
            "latency_ms" => attempt.latency_ms = whole("attempts[].latency_ms", value)?,
            _ => {}
        }
    }
    Ok(attempt)
}

/// `json`, `text`, a schema's name or body, or the provider's own `{"type": "json_object" | "json_schema", …}`.
pub(super) fn response_format<'a>(field: &str, raw: &'a str) -> Read<ResponseFormat<'a>> {
    if !raw.starts_with('{') {
        return Ok(match text(field, raw)? {
            None => ResponseFormat::Text,
            Some(name) => match name.as_ref() {
                "text" => ResponseFormat::Text,
                "json" | "json_object" | "application/json" => ResponseFormat::Json,
                _ => ResponseFormat::Named(name),
            },
        });
    }
    let fields = object(field, raw)?;
    let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let declared = get("type").map(json::decode);
    Ok(match declared.as_deref() {
        Some("text") => ResponseFormat::Text,
        Some("json_object" | "json") => ResponseFormat::Json,
        Some("json_schema") => match get("json_schema").and_then(|inner| json::field(inner, "schema")).or(get("schema")) {
            Some(schema) if schema.starts_with('{') => ResponseFormat::Schema(schema),
            _ => ResponseFormat::Json,
        },
        _ if fields.is_empty() => ResponseFormat::Json,
        _ => ResponseFormat::Schema(raw),
    })
}

/// An answer: a string, parts, or a chat message with content and tool calls. `null` is an answer without anything in it.
pub(super) fn output<'a>(raw: &'a str) -> Output<'a> {
    if raw.starts_with('"') {
        return Output::Text(raw);
    }
    let mut texts = Vec::new();
    let mut tool_calls = Vec::new();
    collect(raw, &mut texts, &mut tool_calls, 0);
    let text = match texts.len() {
        0 => Cow::Borrowed(""),
        1 => texts.swap_remove(0),
        _ => Cow::Owned(texts.concat()),
    };
    Output::Parts { text, tool_calls }
}

/// Messages hold content, content holds parts: no format nests deeper than this.
const PARTS_DEPTH_MAX: usize = 4;

fn collect<'a>(raw: &'a str, texts: &mut Vec<Text<'a>>, tool_calls: &mut Vec<ToolCall<'a>>, depth: usize) {
    match raw.as_bytes().first() {
        Some(b'"') => texts.push(json::decode(raw)),
        Some(b'[') if depth < PARTS_DEPTH_MAX => {
            for element in json::elements(raw).unwrap_or_default() {
                collect(element, texts, tool_calls, depth + 1);
            }
        }
        Some(b'{') if depth < PARTS_DEPTH_MAX => {
            let fields = json::fields(raw).unwrap_or_default();
            let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
            let is_tool_call =
                get("type").is_some_and(|kind| matches!(json::decode(kind).as_ref(), "tool_call" | "tool_use" | "function_call" | "function"));
            if is_tool_call {
                let inner = get("function").map(|f| json::fields(f).unwrap_or_default());
                let of = |name: &str| get(name).or_else(|| inner.as_ref()?.iter().find(|(key, _)| key == name).map(|(_, value)| *value));
                let name = of("name").map(json::decode).unwrap_or_default();
                tool_calls.push(ToolCall { name, arguments: of("arguments").or_else(|| of("input")) });
                return;
            }
            for (name, value) in &fields {
                match name.as_ref() {
                    "text" | "content" | "parts" => collect(value, texts, tool_calls, depth + 1),
                    "tool_calls" if value.starts_with('[') => {
                        for call in json::elements(value).unwrap_or_default() {
                            let inner = json::field(call, "function").unwrap_or(call);
                            let name = json::field(inner, "name").map(json::decode).unwrap_or_default();
                            tool_calls.push(ToolCall { name, arguments: json::field(inner, "arguments") });
                        }
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
