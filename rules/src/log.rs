//! `log`: one call as a rule's `applies` and `signals` see it.
//!
//! It is built at most once per call and shared by all scripts, and holds only the fields that some rule file mentions: a call has thirty,
//! most rules read two. So a field's name must stand in the file as a word; a name put together at run time is refused, never `()`.

use crate::json;
use crate::problem::Refusal;
use crate::sandbox::{ARRAY_MAX, cut};
use crate::words::Words;
use model::call::{CallLog, ResponseFormat};
use model::nearest::nearest;
use rhai::{Array, Dynamic, Engine, EvalAltResult};
use std::sync::{Arc, OnceLock};

/// Fields by name, with how each is read. `json` is the parsed answer.
const FIELDS: [(&str, fn(&CallLog<'_>) -> Dynamic); 30] = [
    ("id", |call| text(Some(&call.id))),
    ("time", |call| call.time.millis().into()),
    ("kind", |call| call.kind.name().into()),
    ("event_id", |call| text(call.event_id.as_deref())),
    ("run", |call| text(call.event_id.as_deref())),
    ("parent_id", |call| text(call.parent_id.as_deref())),
    ("thread_id", |call| text(call.thread_id.as_deref())),
    ("session_id", |call| text(call.session_id.as_deref())),
    ("environment", |call| text(Some(&call.environment))),
    ("service", |call| text(call.service.as_deref())),
    ("stage", |call| text(call.stage.as_deref())),
    ("prompt", prompt),
    ("user_id", |call| text(call.user_id.as_deref())),
    ("provider", |call| text(call.provider.as_deref())),
    ("model", |call| text(call.model.as_deref())),
    ("served_by", served_by),
    ("status_code", |call| whole(call.status_code)),
    ("error", error),
    ("attempts", attempts),
    ("latency_ms", |call| whole(call.latency_ms)),
    ("ttft_ms", |call| whole(call.ttft_ms)),
    ("usage", usage),
    ("cost_usd", |call| call.cost_nano_usd.map_or(Dynamic::UNIT, |nano| (nano as f64 * 1e-9).into())),
    ("response_format", response_format),
    ("finish_reason", |call| text(call.finish_reason.as_deref())),
    ("input", |call| call.input.map_or(Dynamic::UNIT, json::parse)),
    ("output", |call| text(call.output.text().as_deref())),
    ("tool_calls", tool_calls),
    ("refusal", |call| text(call.refusal.as_deref())),
    ("properties", |call| json::object(call.properties.iter().map(|(name, raw)| (name.as_ref(), json::parse(raw))))),
];

/// The fields that some rule mentions: one bit each, in the order of [`FIELDS`], then one for `json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mentioned(u32);

const JSON: u32 = 1 << FIELDS.len();

impl Mentioned {
    pub fn of(words: &Words<'_>) -> Self {
        // What a function of `log` reads is mentioned by the function's name.
        let mentions = |name: &str| words.count(name) > 0 || name == "tool_calls" && words.count("has_tool_call") > 0;
        let fields = FIELDS.iter().enumerate().filter(|(_, (name, _))| mentions(name)).fold(0, |bits, (at, _)| bits | 1 << at);
        Self(fields | if words.count("json") > 0 { JSON } else { 0 })
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One call, as far as rules mention it.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    mentioned: Mentioned,
    values: [Dynamic; FIELDS.len()],
    answer: Option<String>,
    /// Parsed when a script first asks.
    json: OnceLock<Dynamic>,
}

impl Log {
    pub fn of(call: &CallLog<'_>, mentioned: Mentioned) -> Self {
        let mut values = [const { Dynamic::UNIT }; FIELDS.len()];
        for (at, (_, read)) in FIELDS.iter().enumerate().filter(|(at, _)| mentioned.0 & 1 << at != 0) {
            values[at] = read(call);
        }
        let answer = if mentioned.0 & JSON != 0 { call.output.text().map(String::from) } else { None };
        Self(Arc::new(Shown { mentioned, values, answer, json: OnceLock::new() }))
    }

    fn json(&self) -> Dynamic {
        self.0.json.get_or_init(|| self.0.answer.as_deref().map_or(Dynamic::UNIT, json::parse)).clone()
    }

    fn named(&self, name: &str) -> Result<Dynamic, Refusal> {
        let known = FIELDS.iter().position(|(known, _)| *known == name);
        let bit = known.map_or(if name == "json" { JSON } else { 0 }, |at| 1 << at);
        if bit == 0 {
            return Err(unknown_field(name));
        }
        if self.0.mentioned.0 & bit == 0 {
            let refusal = Refusal::new(format!("the field `{name}` is asked for by a name that the file does not spell out"));
            return Err(refusal.hint(format!("write log.{name}")));
        }
        Ok(known.map_or_else(|| self.json(), |at| self.0.values[at].clone()))
    }
}

pub(crate) fn is_field(name: &str) -> bool {
    name == "json" || FIELDS.iter().any(|(known, _)| *known == name)
}

/// The parts that a field always has; `None` where they are the sender's own, or there are none.
pub(crate) fn parts_of(field: &str) -> Option<&'static [&'static str]> {
    Some(match field {
        "prompt" => &["name", "version"],
        "served_by" => &["provider", "model"],
        "usage" => &["input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"],
        "error" => &["type", "code", "message", "body"],
        _ => return None,
    })
}

pub(crate) fn unknown_field(name: &str) -> Refusal {
    let hint = match nearest(name, FIELDS.iter().map(|(name, _)| *name).chain(["json"])) {
        Some(near) => format!("did you mean `{near}`? A field of your own is log.properties.{name}"),
        None => format!("a field of your own is log.properties.{name}"),
    };
    Refusal::new(format!("a call has no field `{name}`")).hint(hint).about(name)
}

pub(crate) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<Log>("log")
        .register_indexer_get(|log: &mut Log, name: &str| -> Result<Dynamic, Box<EvalAltResult>> { Ok(log.named(name)?) });
    for (at, (name, _)) in FIELDS.iter().enumerate() {
        // Mentioned in this very file, or it could not be asked for by name.
        engine.register_get(*name, move |log: &mut Log| log.0.values[at].clone());
    }
    engine.register_get("json", |log: &mut Log| log.json());
    engine.register_fn("has_tool_call", |log: &mut Log, name: &str| {
        let at = FIELDS.iter().position(|(known, _)| *known == "tool_calls").expect("it is in the table");
        let calls = log.0.values[at].read_lock::<Array>();
        calls.is_some_and(|calls| calls.iter().any(|call| json::field_is(call, "name", name)))
    });
}

fn text(text: Option<&str>) -> Dynamic {
    text.map_or(Dynamic::UNIT, |text| cut(text).into())
}

fn whole(number: Option<impl Into<u64>>) -> Dynamic {
    number.and_then(|number| i64::try_from(number.into()).ok()).map_or(Dynamic::UNIT, Dynamic::from)
}

fn prompt(call: &CallLog<'_>) -> Dynamic {
    if call.prompt_name.is_none() && call.prompt_version.is_none() {
        return Dynamic::UNIT;
    }
    json::object([("name", text(call.prompt_name.as_deref())), ("version", text(call.prompt_version.as_deref()))])
}

/// Who answered, as stated or as the attempts show.
fn served_by(call: &CallLog<'_>) -> Dynamic {
    let (provider, model) = call.served();
    json::object([("provider", text(provider)), ("model", text(model))])
}

fn error(call: &CallLog<'_>) -> Dynamic {
    call.error.as_ref().map_or(Dynamic::UNIT, |error| {
        let (kind, code, message) = (error.r#type.as_deref(), error.code.as_deref(), error.message.as_deref());
        let body = error.body.map_or(Dynamic::UNIT, json::parse);
        json::object([("type", text(kind)), ("code", text(code)), ("message", text(message)), ("body", body)])
    })
}

fn attempts(call: &CallLog<'_>) -> Dynamic {
    let attempts = call.attempts.iter().take(ARRAY_MAX).map(|attempt| {
        json::object([
            ("provider", text(attempt.provider.as_deref())),
            ("model", text(attempt.model.as_deref())),
            ("status_code", whole(attempt.status_code)),
            ("error_type", text(attempt.error_type.as_deref())),
            ("latency_ms", whole(attempt.latency_ms)),
        ])
    });
    attempts.collect::<Array>().into()
}

fn tool_calls(call: &CallLog<'_>) -> Dynamic {
    let calls = call.output.tool_calls().iter().take(ARRAY_MAX).map(|tool_call| {
        let arguments = tool_call.arguments.map_or(Dynamic::UNIT, json::parse);
        // Most senders write the arguments as a text that holds JSON.
        let arguments = if arguments.is_string() { json::parse(&arguments.to_string()) } else { arguments };
        json::object([("name", text(Some(&tool_call.name))), ("arguments", arguments)])
    });
    calls.collect::<Array>().into()
}

fn usage(call: &CallLog<'_>) -> Dynamic {
    let usage = &call.usage;
    json::object([
        ("input_tokens", whole(usage.input_tokens)),
        ("output_tokens", whole(usage.output_tokens)),
        ("cached_tokens", whole(usage.cached_tokens)),
        ("cache_write_tokens", whole(usage.cache_write_tokens)),
        ("reasoning_tokens", whole(usage.reasoning_tokens)),
    ])
}

fn response_format(call: &CallLog<'_>) -> Dynamic {
    match &call.response_format {
        ResponseFormat::Text => Dynamic::UNIT,
        ResponseFormat::Json => "json".into(),
        ResponseFormat::Named(name) => text(Some(name)),
        ResponseFormat::Schema(_) => "schema".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    #[test]
    fn the_reference_names_every_field() {
        let told: Vec<_> = api::LOG.iter().map(|part| part.path.split(['.', '[']).next().unwrap_or_default()).collect();
        assert_eq!(told, FIELDS.iter().map(|(name, _)| *name).chain(["json"]).collect::<Vec<_>>());
    }
}
