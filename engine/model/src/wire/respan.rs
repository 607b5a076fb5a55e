//! Respan's (formerly Keywords AI) flat logging format.
//!
//! Latencies are seconds and become milliseconds; `timestamp` is the end of the call. What the team's own code adds stands in `metadata`
//! (`event_id`, `user_id`, `stage`, `requested_model`, `attempt`), which also becomes the properties. There is no documented field that says
//! "this was a fallback": it is derived from `metadata.requested_model`, and retries from `metadata.attempt`.

use super::reading::{Read, dollars, error, missing, object, output, response_format, scaled, status, text, time, whole};
use super::{Fields, json, native};
use crate::call::{CallLog, Kind, ProviderError, Usage};
use std::borrow::Cow;

/// Whether these keys are Respan's: any one that no other sender uses.
pub(super) fn tells(has: &dyn Fn(&str) -> bool) -> bool {
    [
        "log_type",
        "unique_id",
        "trace_unique_id",
        "span_unique_id",
        "prompt_messages",
        "completion_message",
        "completion_messages",
        "customer_identifier",
        "thread_identifier",
        "custom_identifier",
        "generation_time",
        "provider_id",
    ]
    .into_iter()
    .any(has)
}

pub(super) fn read(fields: Fields<'_>) -> Read<CallLog<'_>> {
    let mut call = native::empty();
    let (mut ended, mut started, mut latency, mut span_id, mut custom_id, mut requested, mut attempt) = (None, None, None, None, None, None, None);
    let mut stated_error = false;
    let mut metadata_fields = Vec::new();
    let mut unknown = Vec::new();
    for (name, raw) in fields {
        match name.as_ref() {
            "unique_id" => call.id = text("unique_id", raw)?.unwrap_or_default(),
            "span_unique_id" => span_id = text("span_unique_id", raw)?,
            "span_parent_id" => call.parent_id = text("span_parent_id", raw)?,
            "trace_unique_id" => call.event_id = text("trace_unique_id", raw)?.or(call.event_id),
            "custom_identifier" => custom_id = text("custom_identifier", raw)?,
            "thread_identifier" => call.thread_id = text("thread_identifier", raw)?,
            "session_identifier" => call.session_id = text("session_identifier", raw)?,
            "customer_identifier" => call.user_id = text("customer_identifier", raw)?.or(call.user_id),
            "customer_params" => {
                if let Some(user) = json::field(raw, "customer_identifier") {
                    call.user_id = call.user_id.or(text("customer_params.customer_identifier", user)?);
                }
            }
            "environment" => call.environment = text("environment", raw)?.unwrap_or(native::DEFAULT_ENVIRONMENT),
            "span_workflow_name" => call.service = text("span_workflow_name", raw)?,
            "span_name" => call.stage = call.stage.or(text("span_name", raw)?),
            "prompt_id" => call.prompt_name = text("prompt_id", raw)?,
            "log_type" => call.kind = kind(text("log_type", raw)?.as_deref()),
            "model" => call.model = text("model", raw)?,
            "provider_id" => call.provider = text("provider_id", raw)?,
            "timestamp" => ended = time("timestamp", raw)?,
            "start_time" => started = time("start_time", raw)?,
            "latency" | "generation_time" => latency = scaled(&name, raw, 1000.0)?.or(latency),
            "time_to_first_token" | "ttft" => call.ttft_ms = scaled(&name, raw, 1000.0)?.or(call.ttft_ms),
            "cost" => call.cost_nano_usd = dollars("cost", raw)?,
            "usage" => usage(raw, &mut call.usage)?,
            "prompt_tokens" => call.usage.input_tokens = call.usage.input_tokens.or(whole("prompt_tokens", raw)?),
            "completion_tokens" => call.usage.output_tokens = call.usage.output_tokens.or(whole("completion_tokens", raw)?),
            "prompt_cache_hit_tokens" => call.usage.cached_tokens = call.usage.cached_tokens.or(whole("prompt_cache_hit_tokens", raw)?),
            "prompt_cache_creation_tokens" => {
                call.usage.cache_write_tokens = call.usage.cache_write_tokens.or(whole("prompt_cache_creation_tokens", raw)?);
            }
            "status_code" => call.status_code = status("status_code", raw)?,
            "status" => stated_error = text("status", raw)?.is_some_and(|status| matches!(status.as_ref(), "error" | "fail" | "failed")),
            "error_message" => call.error = error("error_message", raw)?,
            "response_format" => call.response_format = response_format("response_format", raw)?,
            "tools" if raw.starts_with('[') => call.tools = Some(raw),
            "input" | "prompt_messages" | "messages" if raw != "null" => call.input = Some(raw),
            "output" | "completion_message" | "completion_messages" if raw != "null" => {
                call.refusal = json::field(raw, "refusal").map(|r| text("output.refusal", r)).transpose()?.flatten();
                call.output = output(raw);
            }
            "finish_reason" | "stop_reason" => call.finish_reason = text(&name, raw)?.or(call.finish_reason),
            "full_response" => {
                call.finish_reason = call.finish_reason.take().or_else(|| finish_in(raw));
                if let Some(body) = json::field(raw, "error").filter(|body| *body != "null") {
                    call.error.get_or_insert_default().body = Some(body);
                }
            }
            "metadata" => metadata_fields = object("metadata", raw)?,
            _ => unknown.push((name, raw)),
        }
    }
    for (name, raw) in &metadata_fields {
        match name.as_ref() {
            "event_id" => call.event_id = text("metadata.event_id", raw)?.or(call.event_id),
            "user_id" => call.user_id = call.user_id.or(text("metadata.user_id", raw)?),
            "stage" => call.stage = text("metadata.stage", raw)?.or(call.stage),
            "requested_model" => requested = text("metadata.requested_model", raw)?,
            "attempt" => attempt = whole("metadata.attempt", raw)?,
            _ => {}
        }
    }
    call.properties = metadata_fields;
    call.properties.append(&mut unknown);
    if call.id.is_empty() {
        call.id = span_id.ok_or_else(|| missing("unique_id", "every log needs `unique_id` or `span_unique_id`"))?;
    }
    call.event_id = call.event_id.or(custom_id);
    call.latency_ms = latency.or_else(|| Some(ended?.since(started?).millis()));
    call.time = match (ended, started) {
        (Some(at), _) => at,
        (None, Some(start)) => start + crate::Span::from_millis(call.latency_ms.unwrap_or(0)),
        (None, None) => return Err(missing("timestamp", "RFC 3339 of the call's end")),
    };
    if stated_error && call.error.is_none() {
        call.error = Some(ProviderError { message: Some(Cow::Borrowed("status is error")), ..ProviderError::default() });
    }
    if let Some(asked) = requested.filter(|asked| call.model.as_ref().is_some_and(|model| model != asked)) {
        // Who answered stands in `model`; the provider that was asked is not known, so only the model can tell the fallback.
        call.served_model = call.model.replace(asked);
        call.served_provider = call.provider.take();
    } else {
        call.retries_counted = attempt.unwrap_or(1).saturating_sub(1).min(1000) as u32;
    }
    native::complete(call)
}

fn kind(log_type: Option<&str>) -> Kind {
    match log_type.unwrap_or("chat") {
        "embedding" => Kind::Embedding,
        "tool" | "function" | "workflow" | "task" | "agent" | "handoff" | "guardrail" | "custom" | "score" | "speech" | "transcription" => Kind::Tool,
        _ => Kind::Llm,
    }
}

fn usage(raw: &str, usage: &mut Usage) -> Read<()> {
    for (key, value) in object("usage", raw)? {
        match key.as_ref() {
            "prompt_tokens" | "input_tokens" => usage.input_tokens = whole("usage.prompt_tokens", value)?,
            "completion_tokens" | "output_tokens" => usage.output_tokens = whole("usage.completion_tokens", value)?,
            "cache_creation_prompt_tokens" => usage.cache_write_tokens = whole("usage.cache_creation_prompt_tokens", value)?,
            "prompt_tokens_details" => {
                if let Some(cached) = json::field(value, "cached_tokens") {
                    usage.cached_tokens = whole("usage.prompt_tokens_details.cached_tokens", cached)?;
                }
            }
            "completion_tokens_details" => {
                if let Some(reasoning) = json::field(value, "reasoning_tokens") {
                    usage.reasoning_tokens = whole("usage.completion_tokens_details.reasoning_tokens", reasoning)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The stop reason of a provider's own body: Anthropic's at the top, OpenAI's in the first choice.
fn finish_in(body: &str) -> Option<Cow<'_, str>> {
    let stated = json::field(body, "stop_reason").or_else(|| json::field(body, "finish_reason")).or_else(|| {
        let first = json::elements(json::field(body, "choices")?).ok()?.into_iter().next()?;
        json::field(first, "finish_reason")
    })?;
    stated.starts_with('"').then(|| json::decode(stated))
}

#[cfg(test)]
mod tests {
    use crate::call::{Finish, Kind, ResponseFormat};
    use crate::wire::{Reason, parse};

    const LOG: &str = r#"{"unique_id":"log_7f3a","log_type":"chat","model":"claude-haiku-4-5","provider_id":"anthropic","environment":"prod",
        "start_time":"2026-11-20T09:14:02.114Z","timestamp":"2026-11-20T09:14:04.377Z","latency":2.263,"time_to_first_token":0.61,
        "input":[{"role":"user","content":"I moved to Lyon in May."}],"output":{"role":"assistant","content":"{\"facts\":[\"Moved to Lyon in May\"]"},
        "usage":{"prompt_tokens":412,"completion_tokens":64,"total_tokens":476,"prompt_tokens_details":{"cached_tokens":256}},
        "cost":0.000732,"status_code":200,"status":"success","error_message":"","warnings":"primary model gpt-4o-mini failed: 429",
        "response_format":{"type":"json_schema","json_schema":{"name":"facts","schema":{"type":"object","required":["facts"]}}},
        "customer_identifier":"user_8812","thread_identifier":"thr_55","custom_identifier":"evt_01JD9Q","trace_unique_id":"evt_01JD9Q",
        "span_unique_id":"sp_2","span_parent_id":"sp_1","span_name":"extraction","span_workflow_name":"memory_add",
        "metadata":{"event_id":"evt_01JD9Q","user_id":"user_8812","stage":"extraction","requested_model":"gpt-4o-mini","attempt":2,"tenant":"acme"},
        "full_response":{"stop_reason":"max_tokens"}}"#;

    #[test]
    fn a_log_is_read_field_by_field() {
        let call = parse(LOG.as_bytes()).expect("a good log");
        assert_eq!((call.id.as_ref(), call.kind, call.environment.as_ref()), ("log_7f3a", Kind::Llm, "prod"));
        assert_eq!(call.time.to_string(), "2026-11-20T09:14:04.377Z");
        assert_eq!((call.latency_ms, call.ttft_ms, call.cost_nano_usd), (Some(2263), Some(610), Some(732_000)));
        assert_eq!((call.usage.input_tokens, call.usage.output_tokens, call.usage.cached_tokens), (Some(412), Some(64), Some(256)));
        assert_eq!((call.event_id.as_deref(), call.parent_id.as_deref()), (Some("evt_01JD9Q"), Some("sp_1")));
        assert_eq!(
            (call.stage.as_deref(), call.user_id.as_deref(), call.service.as_deref()),
            (Some("extraction"), Some("user_8812"), Some("memory_add"))
        );
        assert!(matches!(call.response_format, ResponseFormat::Schema(_)));
        assert_eq!(call.finish(), Some(Finish::Length));
        assert_eq!(call.output.text().as_deref(), Some("{\"facts\":[\"Moved to Lyon in May\"]"));
        assert_eq!(call.property_text("tenant").as_deref(), Some("acme"));
        assert_eq!(call.property_text("warnings").as_deref(), Some("primary model gpt-4o-mini failed: 429"));
        assert_eq!(call.model.as_deref(), Some("gpt-4o-mini"));
        assert!(call.fell_back() && !call.failed() && !call.retried());
    }

    #[test]
    fn errors_retries_and_old_names_are_read() {
        let failed = parse(
            br#"{"log_type":"chat","unique_id":"a","model":"m","timestamp":"2026-11-20T09:14:04Z","status_code":429,"status":"error","error_message":"slow down"}"#,
        )
        .expect("a good log");
        assert!(failed.failed() && failed.any_ended(crate::call::Ended::RateLimited));
        let again = parse(
            br#"{"span_unique_id":"b","model":"m","start_time":"2026-11-20T09:14:04Z","generation_time":1.5,"ttft":0.25,"metadata":{"attempt":3},"completion_message":{"role":"assistant","content":"hi"}}"#,
        )
        .expect("a good log");
        assert_eq!((again.id.as_ref(), again.latency_ms, again.ttft_ms, again.attempt_count()), ("b", Some(1500), Some(250), Some(3)));
        assert_eq!(again.time.to_string(), "2026-11-20T09:14:05.500Z");
        assert!(again.retried() && !again.fell_back());
    }

    #[test]
    fn a_log_without_a_time_is_malformed() {
        let malformed = parse(br#"{"log_type":"chat","unique_id":"a","model":"m"}"#).expect_err("no time");
        assert_eq!((malformed.reason, malformed.detail.as_str()), (Reason::MissingField, "field `timestamp` is missing: RFC 3339 of the call's end"));
    }
}
