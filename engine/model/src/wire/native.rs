//! streamgauge's own format: one JSON object per call.
//!
//! Required: `id`, `time` and, for kinds `llm` and `embedding`, `model`. Unknown fields are kept as properties and are never an error;
//! a known field of the wrong type is, because a number that silently disappears is worse than a log in the dead letters.

use super::reading::{Read, attempt, bad, dollars, error, missing, object, output, response_format, status, text, time, whole};
use super::{Fields, json};
use crate::call::{CallLog, Kind, Output, ResponseFormat, Text, Usage};
use crate::label::LABEL_MAX_BYTES;
use crate::time::Timestamp;
use std::borrow::Cow;

pub(super) fn read(fields: Fields<'_>) -> Read<CallLog<'_>> {
    let mut call = empty();
    let mut has_time = false;
    let mut unknown = Vec::new();
    for (name, raw) in fields {
        match name.as_ref() {
            "id" => call.id = text("id", raw)?.unwrap_or_default(),
            "time" => {
                if let Some(at) = time("time", raw)? {
                    call.time = at;
                    has_time = true;
                }
            }
            "kind" => {
                let spelled = text("kind", raw)?.unwrap_or(Cow::Borrowed("llm"));
                call.kind = Kind::parse(&spelled).ok_or_else(|| bad("kind", "llm, embedding, retrieval, memory_write or tool", raw))?;
            }
            "event_id" => call.event_id = text("event_id", raw)?,
            "parent_id" => call.parent_id = text("parent_id", raw)?,
            "thread_id" => call.thread_id = text("thread_id", raw)?,
            "session_id" => call.session_id = text("session_id", raw)?,
            "environment" => call.environment = text("environment", raw)?.unwrap_or(DEFAULT_ENVIRONMENT),
            "service" => call.service = text("service", raw)?,
            "stage" => call.stage = text("stage", raw)?,
            "prompt" => prompt(raw, &mut call)?,
            "user_id" => call.user_id = text("user_id", raw)?,
            "provider" => call.provider = text("provider", raw)?,
            "model" => call.model = text("model", raw)?,
            "served_by" => {
                for (key, value) in object("served_by", raw)? {
                    match key.as_ref() {
                        "provider" => call.served_provider = text("served_by.provider", value)?,
                        "model" => call.served_model = text("served_by.model", value)?,
                        _ => {}
                    }
                }
            }
            "status_code" => call.status_code = status("status_code", raw)?,
            "error" => call.error = error("error", raw)?,
            "attempts" if raw != "null" => {
                let listed = json::elements(raw).map_err(|_| bad("attempts", "an array", raw))?;
                call.attempts = listed.into_iter().map(attempt).collect::<Read<_>>()?;
            }
            "latency_ms" => call.latency_ms = whole("latency_ms", raw)?,
            "ttft_ms" => call.ttft_ms = whole("ttft_ms", raw)?,
            "usage" => call.usage = usage(raw)?,
            "cost_usd" => call.cost_nano_usd = dollars("cost_usd", raw)?,
            "response_format" => call.response_format = response_format("response_format", raw)?,
            "finish_reason" => call.finish_reason = text("finish_reason", raw)?,
            "input" if raw != "null" => call.input = Some(raw),
            "tools" if raw.starts_with('[') => call.tools = Some(raw),
            "tools" if raw != "null" => return Err(bad("tools", "an array of tools", raw)),
            "output" => call.output = output(raw),
            "refusal" => call.refusal = text("refusal", raw)?,
            "properties" => call.properties = object("properties", raw)?,
            "attempts" | "input" | "tools" => {}
            _ => unknown.push((name, raw)),
        }
    }
    call.properties.append(&mut unknown);
    if call.id.is_empty() {
        return Err(missing("id", "every log needs one of its own"));
    }
    if !has_time {
        return Err(missing("time", "RFC 3339 or epoch milliseconds of the call's end"));
    }
    complete(call)
}

/// What every format must have in the end: a model where one was asked, and an environment's name that can be a label.
pub(super) fn complete(call: CallLog<'_>) -> Read<CallLog<'_>> {
    if call.environment.len() > LABEL_MAX_BYTES {
        return Err(bad("environment", "a name of at most 200 bytes", &call.environment));
    }
    if call.kind.needs_model() && call.model.is_none() {
        return Err(missing("model", "calls of kind llm and embedding say which model was asked for"));
    }
    Ok(call)
}

pub(super) const DEFAULT_ENVIRONMENT: Text<'static> = Cow::Borrowed("default");

pub(super) fn empty<'a>() -> CallLog<'a> {
    CallLog {
        kind: Kind::Llm,
        id: Cow::Borrowed(""),
        time: Timestamp::EPOCH,
        event_id: None,
        parent_id: None,
        thread_id: None,
        session_id: None,
        environment: DEFAULT_ENVIRONMENT,
        service: None,
        stage: None,
        prompt_name: None,
        prompt_version: None,
        user_id: None,
        provider: None,
        model: None,
        served_provider: None,
        served_model: None,
        status_code: None,
        error: None,
        attempts: Vec::new(),
        retries_counted: 0,
        fallback_stated: false,
        latency_ms: None,
        ttft_ms: None,
        usage: Usage::default(),
        cost_nano_usd: None,
        response_format: ResponseFormat::Text,
        finish_reason: None,
        input: None,
        tools: None,
        output: Output::NotLogged,
        refusal: None,
        properties: Vec::new(),
        violation: None,
    }
}

fn prompt<'a>(raw: &'a str, call: &mut CallLog<'a>) -> Read<()> {
    if raw.starts_with('"') {
        call.prompt_name = text("prompt", raw)?;
        return Ok(());
    }
    for (key, value) in object("prompt", raw)? {
        match key.as_ref() {
            "name" => call.prompt_name = text("prompt.name", value)?,
            "version" => call.prompt_version = text("prompt.version", value)?,
            _ => {}
        }
    }
    Ok(())
}

fn usage(raw: &str) -> Read<Usage> {
    let mut usage = Usage::default();
    for (key, value) in object("usage", raw)? {
        match key.as_ref() {
            "input_tokens" => usage.input_tokens = whole("usage.input_tokens", value)?,
            "output_tokens" => usage.output_tokens = whole("usage.output_tokens", value)?,
            "cached_tokens" => usage.cached_tokens = whole("usage.cached_tokens", value)?,
            "cache_write_tokens" => usage.cache_write_tokens = whole("usage.cache_write_tokens", value)?,
            "reasoning_tokens" => usage.reasoning_tokens = whole("usage.reasoning_tokens", value)?,
            _ => {}
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use crate::call::{Kind, Output, ResponseFormat};
    use crate::wire::{Reason, parse};

    #[test]
    fn every_field_is_read_and_unknown_ones_are_kept() {
        let log = br#"{"id":7,"time":"2026-11-20T09:14:04.377Z","kind":"llm","event_id":"e","parent_id":"p","thread_id":"t","session_id":"s",
            "environment":"production","service":"api","stage":"extraction","prompt":{"name":"facts","version":3},"user_id":12,"provider":"openai",
            "model":"gpt-4o-mini","served_by":{"provider":"anthropic","model":"claude-haiku-4-5"},"status_code":"200","error":null,
            "attempts":[{"provider":"openai","model":"gpt-4o-mini","status_code":429,"error_type":"rate_limit","latency_ms":12.5},{"status_code":200}],
            "latency_ms":2263.4,"ttft_ms":610,"usage":{"input_tokens":412,"output_tokens":64,"cached_tokens":256,"cache_write_tokens":128,"reasoning_tokens":0},
            "cost_usd":0.000732,"response_format":{"type":"json_schema","json_schema":{"name":"facts","schema":{"type":"object"}}},
            "finish_reason":"max_tokens","input":[{"role":"user","content":"hi"}],"output":"{\"facts\":[",
            "properties":{"tenant":"acme","memory":{"hits":3}},"region":"eu","weight":1.50}"#;
        let call = parse(log).expect("a good log");
        assert_eq!((call.id.as_ref(), call.user_id.as_deref(), call.prompt_version.as_deref()), ("7", Some("12"), Some("3")));
        assert_eq!((call.latency_ms, call.cost_nano_usd, call.status_code), (Some(2263), Some(732_000), Some(200)));
        assert_eq!((call.usage.cached_tokens, call.usage.cache_write_tokens, call.usage.reasoning_tokens), (Some(256), Some(128), Some(0)));
        assert_eq!(call.response_format, ResponseFormat::Schema(r#"{"type":"object"}"#));
        assert_eq!(call.output.text().as_deref(), Some("{\"facts\":["));
        assert_eq!(call.served(), (Some("anthropic"), Some("claude-haiku-4-5")));
        assert_eq!((call.attempts.len(), call.attempts[0].latency_ms), (2, Some(13)));
        let property = |name| call.property_text(name).map(|text| text.into_owned());
        assert_eq!(property("tenant").as_deref(), Some("acme"));
        assert_eq!(property("memory.hits").as_deref(), Some("3"));
        assert_eq!(property("region").as_deref(), Some("eu"));
        assert_eq!(property("weight").as_deref(), Some("1.50"));
        assert_eq!(property("absent"), None);
    }

    #[test]
    fn the_smallest_logs_are_enough() {
        let call = parse(br#"{"id":"a","time":1763630044377,"model":"m"}"#).expect("three fields");
        assert_eq!((call.kind, call.environment.as_ref(), call.time.millis()), (Kind::Llm, "default", 1_763_630_044_377));
        assert_eq!(call.output, Output::NotLogged);
        assert!(parse(br#"{"id":"a","time":1763630044377,"kind":"retrieval"}"#).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (log, reason, detail) in [
            (&b"\xff"[..], Reason::NotUtf8, "byte 0 is not UTF-8"),
            (b"{", Reason::NotJson, "EOF while parsing an object at line 1 column 1"),
            (b"", Reason::NotJson, "EOF while parsing a value at line 1 column 0"),
            (b"[]", Reason::NotAnObject, "an array; publish one log per message"),
            (b"3", Reason::NotAnObject, "expected a JSON object"),
            (b"{}", Reason::MissingField, "field `id` is missing: every log needs one of its own"),
            (br#"{"id":"a"}"#, Reason::MissingField, "field `time` is missing: RFC 3339 or epoch milliseconds of the call's end"),
            (
                br#"{"id":"a","time":1763630044377}"#,
                Reason::MissingField,
                "field `model` is missing: calls of kind llm and embedding say which model was asked for",
            ),
            (
                br#"{"id":"a","time":1763630044,"model":"m"}"#,
                Reason::BadField,
                "field `time`: expected epoch milliseconds (this looks like seconds), found 1763630044",
            ),
            (br#"{"id":"a","time":"noon","model":"m"}"#, Reason::BadField, "field `time`: expected RFC 3339 or epoch milliseconds, found \"noon\""),
            (
                br#"{"id":"a","time":1763630044377,"model":"m","latency_ms":-1}"#,
                Reason::BadField,
                "field `latency_ms`: expected a number from 0 to 2^40, found -1",
            ),
            (
                br#"{"id":"a","time":1763630044377,"model":"m","latency_ms":1e999}"#,
                Reason::BadField,
                "field `latency_ms`: expected a number, found 1e999",
            ),
            (br#"{"id":"a","time":1763630044377,"model":["m"]}"#, Reason::BadField, "field `model`: expected a string, found [\"m\"]"),
            (
                br#"{"id":"a","time":1763630044377,"kind":"magic"}"#,
                Reason::BadField,
                "field `kind`: expected llm, embedding, retrieval, memory_write or tool, found \"magic\"",
            ),
            (
                br#"{"resourceSpans":[]}"#,
                Reason::UnsupportedFormat,
                "this looks like an OpenTelemetry export, which is not read yet; send the native format or Respan's logging format",
            ),
        ] {
            let malformed = parse(log).expect_err("malformed");
            assert_eq!((malformed.reason, malformed.detail.as_str()), (reason, detail), "{}", String::from_utf8_lossy(log));
        }
    }
}
