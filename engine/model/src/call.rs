//! One call of a model, retrieval, memory write or tool, as meant: whatever the sender's format, it looks like this afterwards.
//!
//! It borrows from the payload it was parsed from. Fields that only some readers need (input, the provider's error body, properties)
//! stay raw JSON text; everything that is counted is typed.

use crate::same_model::{same_model, same_provider};
use crate::time::Timestamp;
use crate::wire::json;
use std::borrow::Cow;

pub type Text<'a> = Cow<'a, str>;

/// One logical request: an operation, made of one or more attempts.
#[derive(Clone, Debug)]
pub struct CallLog<'a> {
    pub kind: Kind,
    /// Never empty.
    pub id: Text<'a>,
    /// When the call ended.
    pub time: Timestamp,
    /// The run that this call belongs to.
    pub event_id: Option<Text<'a>>,
    pub parent_id: Option<Text<'a>>,
    pub thread_id: Option<Text<'a>>,
    pub session_id: Option<Text<'a>>,
    /// `default` when the log names none; never empty.
    pub environment: Text<'a>,
    pub service: Option<Text<'a>>,
    pub stage: Option<Text<'a>>,
    pub prompt_name: Option<Text<'a>>,
    pub prompt_version: Option<Text<'a>>,
    pub user_id: Option<Text<'a>>,
    /// Asked for; [`CallLog::served`] says who answered.
    pub provider: Option<Text<'a>>,
    /// Asked for; always present for [`Kind::Llm`] and [`Kind::Embedding`].
    pub model: Option<Text<'a>>,
    pub served_provider: Option<Text<'a>>,
    pub served_model: Option<Text<'a>>,
    pub status_code: Option<u16>,
    pub error: Option<ProviderError<'a>>,
    /// In the order they were made; empty when the sender does not list them.
    pub attempts: Vec<Attempt<'a>>,
    /// Attempts beyond the first on the same provider and model, where the sender only counts them.
    pub retries_counted: u32,
    /// The sender says that a fallback answered, without naming both models.
    pub fallback_stated: bool,
    pub latency_ms: Option<u64>,
    pub ttft_ms: Option<u64>,
    pub usage: Usage,
    pub cost_nano_usd: Option<u64>,
    pub response_format: ResponseFormat<'a>,
    /// As the provider spelled it; [`CallLog::finish`] is what it means.
    pub finish_reason: Option<Text<'a>>,
    /// The messages, raw JSON.
    pub input: Option<&'a str>,
    /// The tools that the model was offered, as the sender lists them: a raw JSON array. `None` when the log does not say.
    pub tools: Option<&'a str>,
    pub output: Output<'a>,
    pub refusal: Option<Text<'a>>,
    /// The sender's own fields, raw JSON values by name: its `properties` first, then every unknown field.
    pub properties: Vec<(Text<'a>, &'a str)>,
    /// Which part of a schema the answer violates first, as `facts: /facts required`: the one field that no log carries. The evaluators fill it in
    /// before anything groups by it; `None` before that, and of a call that violates nothing.
    pub violation: Option<Text<'a>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    #[default]
    Llm,
    Embedding,
    Retrieval,
    MemoryWrite,
    Tool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Cached tokens included, read and written.
    pub input_tokens: Option<u64>,
    /// Reasoning tokens included.
    pub output_tokens: Option<u64>,
    /// Read from the provider's cache.
    pub cached_tokens: Option<u64>,
    /// Written to the provider's cache, where that is charged.
    pub cache_write_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
}

/// The provider's error; at least one field is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderError<'a> {
    pub r#type: Option<Text<'a>>,
    pub code: Option<Text<'a>>,
    pub message: Option<Text<'a>>,
    /// The provider's payload, whole, raw JSON.
    pub body: Option<&'a str>,
}

/// One provider request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt<'a> {
    pub provider: Option<Text<'a>>,
    pub model: Option<Text<'a>>,
    pub status_code: Option<u16>,
    pub error_type: Option<Text<'a>>,
    pub latency_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResponseFormat<'a> {
    #[default]
    Text,
    Json,
    /// The name of a configured schema.
    Named(Text<'a>),
    /// A JSON Schema, raw JSON.
    Schema(&'a str),
}

/// What the model answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output<'a> {
    /// The sender keeps answers to itself, so nothing can be said of them.
    #[default]
    NotLogged,
    /// A JSON string, still quoted and escaped: most answers are never decoded.
    Text(&'a str),
    Parts {
        text: Text<'a>,
        tool_calls: Vec<ToolCall<'a>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall<'a> {
    pub name: Text<'a>,
    /// Raw JSON: a string that holds JSON, or an object.
    pub arguments: Option<&'a str>,
}

/// Why the model stopped, over the providers' some twenty spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    Refusal,
    Error,
    Other,
}

/// How an attempt ended, as far as its status and error type say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Well,
    RateLimited,
    Timeout,
    Overloaded,
    ContentFiltered,
    Failed,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Llm, Self::Embedding, Self::Retrieval, Self::MemoryWrite, Self::Tool];

    pub fn name(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Embedding => "embedding",
            Self::Retrieval => "retrieval",
            Self::MemoryWrite => "memory_write",
            Self::Tool => "tool",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn needs_model(self) -> bool {
        matches!(self, Self::Llm | Self::Embedding)
    }
}

impl Finish {
    pub fn parse(spelled: &str) -> Self {
        let mut lower = [0u8; 40];
        let Some(lower) = lower.get_mut(..spelled.len()) else { return Self::Other };
        lower.copy_from_slice(spelled.as_bytes());
        lower.make_ascii_lowercase();
        match &*lower {
            b"stop"
            | b"end_turn"
            | b"stop_sequence"
            | b"completed"
            | b"complete"
            | b"eos"
            | b"eos_token"
            | b"done"
            | b"finish"
            | b"pause_turn"
            | b"finish_reason_stop" => Self::Stop,
            b"length"
            | b"max_tokens"
            | b"max_output_tokens"
            | b"model_length"
            | b"model_context_window_exceeded"
            | b"max_length"
            | b"incomplete"
            | b"finish_reason_max_tokens"
            | b"error_limit" => Self::Length,
            b"tool_calls" | b"tool_call" | b"tool_use" | b"function_call" | b"function_calls" => Self::ToolCalls,
            b"content_filter"
            | b"content_filtered"
            | b"safety"
            | b"recitation"
            | b"blocklist"
            | b"prohibited_content"
            | b"spii"
            | b"image_safety"
            | b"guardrail_intervened"
            | b"error_toxic" => Self::ContentFilter,
            b"refusal" => Self::Refusal,
            b"error" | b"failed" => Self::Error,
            _ => Self::Other,
        }
    }
}

impl Ended {
    /// The status decides; where it says nothing particular, the error's type or code does.
    pub fn of(status: Option<u16>, kinds: [Option<&str>; 2]) -> Self {
        let named = kinds.into_iter().flatten().filter(|text| !text.is_empty()).map(Self::of_name).max_by_key(|ended| *ended != Self::Failed);
        match (status, named) {
            (_, Some(Self::ContentFiltered)) => Self::ContentFiltered,
            (Some(429), _) => Self::RateLimited,
            (Some(408 | 504), _) => Self::Timeout,
            (Some(529 | 503), _) => Self::Overloaded,
            (_, Some(ended)) => ended,
            (Some(400..), None) => Self::Failed,
            (_, None) => Self::Well,
        }
    }

    fn of_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["content_filter", "contentfilter", "contentpolicy", "content_policy"]) {
            Self::ContentFiltered
        } else if has(&["rate_limit", "ratelimit", "too_many_requests", "toomanyrequests", "resource_exhausted", "throttl"]) {
            Self::RateLimited
        } else if has(&["timeout", "timed_out", "timedout", "deadline_exceeded"]) {
            Self::Timeout
        } else if has(&["overloaded", "service_unavailable", "serviceunavailable"]) || name == "unavailable" {
            Self::Overloaded
        } else {
            Self::Failed
        }
    }
}

impl<'a> CallLog<'a> {
    pub fn finish(&self) -> Option<Finish> {
        self.finish_reason.as_deref().map(Finish::parse)
    }

    /// The final attempt failed: a status of 400 or more, a provider's error (which can come in a stream after a 200), or a failed last attempt.
    pub fn failed(&self) -> bool {
        self.error.is_some()
            || self.status_code.is_some_and(|status| status >= 400)
            || self.attempts.last().is_some_and(|attempt| attempt.ended() != Ended::Well)
            || self.finish() == Some(Finish::Error)
    }

    /// A model answered: not failed, and of the kind that answers.
    pub fn answered(&self) -> bool {
        self.kind == Kind::Llm && !self.failed()
    }

    /// Provider and model that answered: as stated, else the last attempt's, else as asked for.
    pub fn served(&self) -> (Option<&str>, Option<&str>) {
        let last = self.attempts.last();
        let provider = self.served_provider.as_deref().or(last.and_then(|a| a.provider.as_deref())).or(self.provider.as_deref());
        let model = self.served_model.as_deref().or(last.and_then(|a| a.model.as_deref())).or(self.model.as_deref());
        (provider, model)
    }

    /// Some provider and model was asked more than once.
    pub fn retried(&self) -> bool {
        if self.retries_counted > 0 {
            return true;
        }
        let asked = |attempt: &'_ Attempt<'a>| {
            (
                attempt.provider.clone().or_else(|| self.provider.clone()).unwrap_or_default(),
                attempt.model.clone().or_else(|| self.model.clone()).unwrap_or_default(),
            )
        };
        self.attempts.iter().enumerate().skip(1).any(|(i, later)| {
            let later = asked(later);
            self.attempts[..i].iter().any(|earlier| {
                let earlier = asked(earlier);
                same_provider(&earlier.0, &later.0) && same_model(&earlier.1, &later.1)
            })
        })
    }

    /// Answered by another provider or model than asked for. An operation that nobody answered did not fall back to anyone.
    pub fn fell_back(&self) -> bool {
        if self.failed() {
            return false;
        }
        if self.fallback_stated {
            return true;
        }
        let (provider, model) = self.served();
        let first = self.attempts.first();
        let asked_provider = self.provider.as_deref().or(first.and_then(|a| a.provider.as_deref()));
        let asked_model = self.model.as_deref().or(first.and_then(|a| a.model.as_deref()));
        let differs =
            |asked: Option<&str>, served: Option<&str>, same: fn(&str, &str) -> bool| matches!((asked, served), (Some(a), Some(s)) if !same(a, s));
        differs(asked_provider, provider, same_provider) || differs(asked_model, model, same_model)
    }

    /// Any attempt, or the operation itself, ended so.
    pub fn any_ended(&self, ended: Ended) -> bool {
        self.attempts.iter().any(|attempt| attempt.ended() == ended) || self.ended() == ended
    }

    fn ended(&self) -> Ended {
        let kinds = self.error.as_ref().map_or([None, None], |error| [error.r#type.as_deref(), error.code.as_deref()]);
        Ended::of(self.status_code, kinds)
    }

    /// Attempts listed or counted; `None` when the sender says nothing about them.
    pub fn attempt_count(&self) -> Option<u64> {
        match (self.attempts.len() as u64, u64::from(self.retries_counted)) {
            (0, 0) => None,
            (0, retries) => Some(1 + retries),
            (listed, _) => Some(listed),
        }
    }

    /// A property as a label: strings without quotes, numbers and booleans as written; `None` when absent, null or empty.
    ///
    /// `memory.hits` finds the flat key of that name first, then `hits` inside an object `memory`.
    pub fn property_text(&self, name: &str) -> Option<Text<'a>> {
        let raw = self.property(name)?;
        match raw.as_bytes().first()? {
            b'"' => Some(json::decode(raw)).filter(|text| !text.is_empty()),
            b'n' => None,
            _ => Some(Cow::Borrowed(raw)),
        }
    }

    /// A property as raw JSON.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        if let Some((_, raw)) = self.properties.iter().find(|(key, _)| key == name) {
            return Some(raw);
        }
        let (outer, inner) = name.split_once('.')?;
        let object = self.properties.iter().find(|(key, _)| key == outer)?.1;
        json::field(object, inner)
    }
}

impl Attempt<'_> {
    pub fn ended(&self) -> Ended {
        Ended::of(self.status_code, [self.error_type.as_deref(), None])
    }
}

impl<'a> Output<'a> {
    pub fn logged(&self) -> bool {
        *self != Self::NotLogged
    }

    /// The text of the answer, decoded; lone surrogates become U+FFFD. `None` when answers are not logged.
    pub fn text(&self) -> Option<Text<'a>> {
        match self {
            Self::NotLogged => None,
            Self::Text(raw) => Some(json::decode(raw)),
            Self::Parts { text, .. } => Some(text.clone()),
        }
    }

    pub fn tool_calls(&self) -> &[ToolCall<'a>] {
        match self {
            Self::Parts { tool_calls, .. } => tool_calls,
            _ => &[],
        }
    }

    /// No character but white space.
    pub fn blank(&self) -> bool {
        match self {
            Self::NotLogged => true,
            Self::Text(raw) => json::blank(raw),
            Self::Parts { text, .. } => text.trim().is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_a_finish_reason_agree() {
        for (finish, spellings) in [
            (Finish::Stop, &["stop", "STOP", "end_turn", "stop_sequence"][..]),
            (Finish::Length, &["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_context_window_exceeded"]),
            (Finish::ToolCalls, &["tool_calls", "tool_use", "function_call"]),
            (Finish::ContentFilter, &["content_filter", "SAFETY", "RECITATION"]),
            (Finish::Refusal, &["refusal"]),
            (Finish::Other, &["", "unheard_of", "a spelling that is much longer than any provider ever used so far"]),
        ] {
            for spelled in spellings {
                assert_eq!(Finish::parse(spelled), finish, "{spelled}");
            }
        }
    }

    #[test]
    fn an_attempt_ends_as_its_status_or_its_error_type_says() {
        for (status, kinds, ended) in [
            (Some(200), [None, None], Ended::Well),
            (Some(429), [Some("tokens"), None], Ended::RateLimited),
            (None, [Some("RateLimitError"), None], Ended::RateLimited),
            (Some(400), [None, Some("content_filter")], Ended::ContentFiltered),
            (Some(529), [Some("overloaded_error"), None], Ended::Overloaded),
            (Some(200), [Some("overloaded_error"), None], Ended::Overloaded),
            (Some(504), [None, None], Ended::Timeout),
            (None, [Some("APITimeoutError"), None], Ended::Timeout),
            (Some(500), [Some("api_error"), None], Ended::Failed),
            (Some(404), [None, None], Ended::Failed),
            (None, [Some(""), None], Ended::Well),
        ] {
            assert_eq!(Ended::of(status, kinds), ended, "{status:?} {kinds:?}");
        }
    }
}
