//! The built-in signals: named yes/no facts about a call, each with the calls it is a share of. These are the product's contract.
//!
//! What needs more than the call itself (was it to be JSON, does it satisfy its schema, is there a latency objective) is found by the
//! evaluators and comes in as [`Findings`].

use crate::call::{CallLog, Ended, Finish};
use crate::wire::json;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// The final attempt failed. Of operations.
    Error,
    /// More than one attempt on the same provider and model. Of operations.
    Retry,
    /// Served by another provider or model than asked for. Of operations.
    Fallback,
    /// Any attempt ended so. Of operations.
    RateLimited,
    Timeout,
    Overloaded,
    ContentFiltered,
    /// Stopped at the token limit. Of answered operations.
    Truncated,
    /// Of answered operations.
    Refused,
    /// Not JSON by RFC 8259. Of answered operations that were to be JSON, whose answer is logged and is not just tool calls.
    InvalidJson,
    /// JSON inside a Markdown fence, where that is accepted. Same denominator as `InvalidJson`.
    FencedJson,
    /// Violates its JSON Schema. Of answers that parse and have a schema.
    SchemaInvalid,
    /// No text and no tool call. Of answered operations whose answer is logged.
    Empty,
    /// Slower than its objective. Of operations with an objective and a latency.
    Slow,
    /// The arguments of a tool call are not JSON or violate the tool's schema, or no such tool was offered. Of answered operations with a tool call
    /// of which that can be told: its tool is declared with a schema, or is none of those declared.
    ToolArgumentsInvalid,
}

/// For each signal, whether the call is in its denominator and in its numerator: one bit each, by [`Signal::index`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    pub applies: u32,
    pub holds: u32,
}

/// What the evaluators found about an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// `None`: it was not to be JSON, or cannot be told.
    pub json: Option<JsonAnswer>,
    /// `None`: no schema, or it does not parse.
    pub schema_valid: Option<bool>,
    pub objective_ms: Option<u64>,
    /// `None`: no tool call, or none that can be judged.
    pub tools_valid: Option<bool>,
    /// What is violated first, where `schema_valid` or `tools_valid` is false; at most a label long.
    pub violation: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonAnswer {
    Valid,
    /// Valid inside an accepted Markdown fence.
    Fenced,
    Invalid,
}

impl Signal {
    pub const ALL: [Self; 15] = [
        Self::Error,
        Self::Retry,
        Self::Fallback,
        Self::RateLimited,
        Self::Timeout,
        Self::Overloaded,
        Self::ContentFiltered,
        Self::Truncated,
        Self::Refused,
        Self::InvalidJson,
        Self::FencedJson,
        Self::SchemaInvalid,
        Self::Empty,
        Self::Slow,
        Self::ToolArgumentsInvalid,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Retry => "retry",
            Self::Fallback => "fallback",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::ContentFiltered => "content_filtered",
            Self::Truncated => "truncated",
            Self::Refused => "refused",
            Self::InvalidJson => "invalid_json",
            Self::FencedJson => "fenced_json",
            Self::SchemaInvalid => "schema_invalid",
            Self::Empty => "empty",
            Self::Slow => "slow",
            Self::ToolArgumentsInvalid => "tool_arguments_invalid",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    /// The noun for what the signal is a share of, in sentences.
    pub fn of_what(self) -> &'static str {
        match self {
            Self::Truncated | Self::Refused | Self::Empty => "answers",
            Self::InvalidJson | Self::FencedJson => "answers that were to be JSON",
            Self::SchemaInvalid => "answers with a schema",
            Self::Slow => "calls with an objective",
            Self::ToolArgumentsInvalid => "answers with tool calls",
            _ => "calls",
        }
    }
}

impl Signals {
    /// Whether the call is in the denominator of `signal`, and in its numerator.
    pub fn get(self, signal: Signal) -> (bool, bool) {
        let bit = 1 << signal.index();
        (self.applies & bit != 0, self.holds & bit != 0)
    }

    fn set(&mut self, signal: Signal, holds: bool) {
        self.applies |= 1 << signal.index();
        self.holds |= u32::from(holds) << signal.index();
    }
}

/// Whether the answer of `call` can be judged as JSON at all: it was answered, logged, and is not just tool calls.
pub fn has_text_answer(call: &CallLog<'_>) -> bool {
    call.answered() && call.output.logged() && (call.output.tool_calls().is_empty() || !call.output.blank())
}

/// Reads `text` as a JSON answer; also returns the JSON itself, without its fence.
pub fn json_answer(text: &str, accept_fenced: bool) -> (JsonAnswer, Cow<'_, str>) {
    if json::is_json(text) {
        return (JsonAnswer::Valid, Cow::Borrowed(text));
    }
    if accept_fenced
        && let Some(inside) = unfence(text)
        && json::is_json(inside)
    {
        return (JsonAnswer::Fenced, Cow::Borrowed(inside));
    }
    (JsonAnswer::Invalid, Cow::Borrowed(text))
}

/// The text inside one Markdown fence that is the whole answer.
fn unfence(text: &str) -> Option<&str> {
    let body = text.trim().strip_prefix("```")?.strip_suffix("```")?;
    let (language, inside) = body.split_once('\n')?;
    language.trim().chars().all(|c| c.is_ascii_alphanumeric()).then_some(inside)
}

/// The signals of one call.
pub fn signals(call: &CallLog<'_>, findings: &Findings) -> Signals {
    let mut signals = Signals::default();
    let finish = call.finish();
    signals.set(Signal::Error, call.failed());
    signals.set(Signal::Retry, call.retried());
    signals.set(Signal::Fallback, call.fell_back());
    signals.set(Signal::RateLimited, call.any_ended(Ended::RateLimited));
    signals.set(Signal::Timeout, call.any_ended(Ended::Timeout));
    signals.set(Signal::Overloaded, call.any_ended(Ended::Overloaded));
    signals.set(Signal::ContentFiltered, finish == Some(Finish::ContentFilter) || call.any_ended(Ended::ContentFiltered));
    if call.answered() {
        signals.set(Signal::Truncated, finish == Some(Finish::Length));
        signals.set(Signal::Refused, finish == Some(Finish::Refusal) || call.refusal.is_some());
        if call.output.logged() {
            signals.set(Signal::Empty, call.output.tool_calls().is_empty() && call.refusal.is_none() && call.output.blank());
        }
    }
    if let Some(answer) = findings.json {
        signals.set(Signal::InvalidJson, answer == JsonAnswer::Invalid);
        signals.set(Signal::FencedJson, answer == JsonAnswer::Fenced);
    }
    if let Some(valid) = findings.schema_valid {
        signals.set(Signal::SchemaInvalid, !valid);
    }
    if let Some(valid) = findings.tools_valid {
        signals.set(Signal::ToolArgumentsInvalid, !valid);
    }
    if let (Some(objective), Some(latency)) = (findings.objective_ms, call.latency_ms) {
        signals.set(Signal::Slow, latency > objective);
    }
    signals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_accepted_only_when_the_schema_says_so() {
        for (text, accept, expected) in [
            ("{}", false, JsonAnswer::Valid),
            (" {\n} ", false, JsonAnswer::Valid),
            ("```json\n{}\n```", false, JsonAnswer::Invalid),
            ("```json\n{}\n```", true, JsonAnswer::Fenced),
            ("  ```\n{\"a\":1}\n```\n", true, JsonAnswer::Fenced),
            ("Here it is: ```json\n{}\n```", true, JsonAnswer::Invalid),
            ("```json\n{]\n```", true, JsonAnswer::Invalid),
            ("", true, JsonAnswer::Invalid),
        ] {
            assert_eq!(json_answer(text, accept).0, expected, "{text:?}");
        }
    }

    #[test]
    fn the_names_are_read_back() {
        for signal in Signal::ALL {
            assert_eq!(Signal::parse(signal.name()), Some(signal));
            assert_eq!(Signal::ALL[signal.index()], signal);
        }
    }
}
