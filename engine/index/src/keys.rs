//! What a call can be asked for: the texts and numbers of every call by name and alias, signals, and any property.
//!
//! The numbers of [`Text`] and [`Number`] stand in files: new ones go to the end, and none changes its place.

use crate::row::cut;
use model::Signal;
use std::fmt;

/// A text of a call. One that is empty is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Text {
    Id,
    EventId,
    ParentId,
    Environment,
    Kind,
    Service,
    Stage,
    /// As asked for.
    Provider,
    Model,
    /// Who answered, or was asked last.
    ServedProvider,
    ServedModel,
    Prompt,
    PromptVersion,
    User,
    Thread,
    Session,
    FinishReason,
    ErrorType,
    ErrorCode,
    Violation,
}

/// A number of a call, whole and not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Number {
    StatusCode,
    LatencyMs,
    TtftMs,
    InputTokens,
    OutputTokens,
    CachedTokens,
    /// In nano-dollars; people write dollars.
    CostUsd,
    Attempts,
}

/// Something that calls are searched or grouped by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Text(Text),
    Number(Number),
    /// Input and output tokens together.
    Tokens,
    /// When the call ended.
    Time,
    /// The names of the signals that hold.
    Signal,
    /// A property of the sender's own, by its whole name: `tenant`, `memory.hits`.
    Property(String),
}

const TEXTS: [(Text, &str, &[&str]); Text::COUNT] = [
    (Text::Id, "id", &["call", "call_id"]),
    (Text::EventId, "event_id", &["event", "run", "run_id"]),
    (Text::ParentId, "parent_id", &["parent"]),
    (Text::Environment, "environment", &["env"]),
    (Text::Kind, "kind", &[]),
    (Text::Service, "service", &[]),
    (Text::Stage, "stage", &[]),
    (Text::Provider, "provider", &[]),
    (Text::Model, "model", &[]),
    (Text::ServedProvider, "served_provider", &[]),
    (Text::ServedModel, "served_model", &["served"]),
    (Text::Prompt, "prompt", &[]),
    (Text::PromptVersion, "prompt_version", &[]),
    (Text::User, "user_id", &["user"]),
    (Text::Thread, "thread_id", &["thread"]),
    (Text::Session, "session_id", &["session"]),
    (Text::FinishReason, "finish_reason", &["finish"]),
    (Text::ErrorType, "error_type", &["error"]),
    (Text::ErrorCode, "error_code", &[]),
    (Text::Violation, "violation", &[]),
];

const NUMBERS: [(Number, &str, &[&str]); Number::COUNT] = [
    (Number::StatusCode, "status_code", &["status"]),
    (Number::LatencyMs, "latency_ms", &["latency"]),
    (Number::TtftMs, "ttft_ms", &["ttft"]),
    (Number::InputTokens, "input_tokens", &["input"]),
    (Number::OutputTokens, "output_tokens", &["output"]),
    (Number::CachedTokens, "cached_tokens", &["cached"]),
    (Number::CostUsd, "cost_usd", &["cost"]),
    (Number::Attempts, "attempts", &[]),
];

impl Text {
    pub const COUNT: usize = 20;

    pub fn all() -> impl Iterator<Item = Self> {
        TEXTS.iter().map(|(text, ..)| *text)
    }

    pub fn name(self) -> &'static str {
        TEXTS[self as usize].1
    }
}

impl Number {
    pub const COUNT: usize = 8;

    pub fn all() -> impl Iterator<Item = Self> {
        NUMBERS.iter().map(|(number, ..)| *number)
    }

    pub fn name(self) -> &'static str {
        NUMBERS[self as usize].1
    }
}

impl Key {
    /// A known name or alias, or else a property: `tenant`, or `properties.stage` where the name is one of ours. `None` for an empty name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(property) = name.strip_prefix("properties.") {
            return (!property.is_empty()).then(|| Self::property(property));
        }
        let named = |own: &str, aliases: &[&str]| own == name || aliases.contains(&name);
        if let Some((text, ..)) = TEXTS.iter().find(|(_, own, aliases)| named(own, aliases)) {
            return Some(Self::Text(*text));
        }
        if let Some((number, ..)) = NUMBERS.iter().find(|(_, own, aliases)| named(own, aliases)) {
            return Some(Self::Number(*number));
        }
        match name {
            "" => None,
            "tokens" => Some(Self::Tokens),
            "time" => Some(Self::Time),
            "signal" => Some(Self::Signal),
            _ => Some(Self::property(name)),
        }
    }

    /// A property whatever its name, cut as a row's names are.
    pub fn property(name: &str) -> Self {
        Self::Property(cut(name).to_owned())
    }

    /// Every name and alias that is not a property's, words of the language included.
    pub fn known() -> impl Iterator<Item = &'static str> {
        let texts = TEXTS.iter().flat_map(|(_, own, aliases)| std::iter::once(*own).chain(aliases.iter().copied()));
        let numbers = NUMBERS.iter().flat_map(|(_, own, aliases)| std::iter::once(*own).chain(aliases.iter().copied()));
        texts.chain(numbers).chain(["tokens", "time", "signal", "since", "has", "verdict"])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text.name()),
            Self::Number(number) => f.write_str(number.name()),
            Self::Tokens => f.write_str("tokens"),
            Self::Time => f.write_str("time"),
            Self::Signal => f.write_str("signal"),
            // Words of the language are no names of properties where they stand alone.
            Self::Property(name) if !Self::known().any(|known| known == name) && !name.starts_with("properties.") => f.write_str(name),
            Self::Property(name) => write!(f, "properties.{name}"),
        }
    }
}

/// The bits of the built-in signals in `mask`, as names.
pub(crate) fn signal_names<'n>(mask: u32) -> impl Iterator<Item = &'n str> {
    Signal::ALL.into_iter().filter(move |signal| mask & (1 << signal.index()) != 0).map(|signal| signal.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_a_property_may_have_a_known_one() {
        for text in Text::all() {
            assert_eq!(Key::parse(text.name()), Some(Key::Text(text)));
        }
        for number in Number::all() {
            assert_eq!(Key::parse(number.name()), Some(Key::Number(number)));
        }
        assert_eq!(Key::parse("run"), Some(Key::Text(Text::EventId)));
        let own = Key::parse("properties.stage").expect("a name");
        assert_eq!(own, Key::Property("stage".into()));
        assert_eq!((own.to_string(), Key::Property("tenant".into()).to_string()), ("properties.stage".into(), "tenant".into()));
        assert_eq!(Key::parse("properties."), None);
    }
}
