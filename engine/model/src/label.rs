//! What calls are grouped by: keys, and the labels that one call has for them.

use crate::call::CallLog;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Something a call can be grouped or filtered by. `environment` is always the first group key and so never stands in a list of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    Kind,
    Service,
    Stage,
    /// As asked for; `ServedProvider` and `ServedModel` say who answered.
    Provider,
    Model,
    ServedProvider,
    ServedModel,
    Prompt,
    PromptVersion,
    User,
    Thread,
    Session,
    StatusCode,
    FinishReason,
    /// The judge, of a verdict; a call has none.
    Judge,
    /// Any entry of `properties`.
    Property(String),
    /// Which part of a schema the answer violates first; without one, the label is empty.
    Violation,
}

/// The labels of one group, in the order of its keys; a missing label is the empty string.
pub type Labels = Vec<String>;

/// A label is cut here: long enough for every model and stage name seen, short enough that 20,000 series fit in memory.
pub const LABEL_MAX_BYTES: usize = 200;

const NAMED: [(&str, Key); 16] = [
    ("kind", Key::Kind),
    ("service", Key::Service),
    ("stage", Key::Stage),
    ("provider", Key::Provider),
    ("model", Key::Model),
    ("served_provider", Key::ServedProvider),
    ("served_model", Key::ServedModel),
    ("prompt", Key::Prompt),
    ("prompt_version", Key::PromptVersion),
    ("user_id", Key::User),
    ("thread_id", Key::Thread),
    ("session_id", Key::Session),
    ("status_code", Key::StatusCode),
    ("finish_reason", Key::FinishReason),
    ("judge", Key::Judge),
    ("violation", Key::Violation),
];

impl Key {
    /// Every key that is not a property, by name.
    pub fn known() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// A known name, or a property: `properties.tenant` or `tenant`. `None` for `environment` and for an empty name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((_, key)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Some(key.clone());
        }
        let property = name.strip_prefix("properties.").unwrap_or(name);
        (!property.is_empty() && name != "environment").then(|| Self::Property(property.to_owned()))
    }

    /// The label that `call` has for this key, cut at [`LABEL_MAX_BYTES`]; empty when it has none.
    pub fn label<'c>(&self, call: &'c CallLog<'_>) -> Cow<'c, str> {
        fn given<'c>(text: &'c Option<Cow<'_, str>>) -> Cow<'c, str> {
            Cow::Borrowed(text.as_deref().unwrap_or(""))
        }
        let label = match self {
            Self::Kind => Cow::Borrowed(call.kind.name()),
            Self::Service => given(&call.service),
            Self::Stage => given(&call.stage),
            Self::Provider => given(&call.provider),
            Self::Model => given(&call.model),
            Self::ServedProvider => Cow::Borrowed(call.served().0.unwrap_or("")),
            Self::ServedModel => Cow::Borrowed(call.served().1.unwrap_or("")),
            Self::Prompt => given(&call.prompt_name),
            Self::PromptVersion => given(&call.prompt_version),
            Self::User => given(&call.user_id),
            Self::Thread => given(&call.thread_id),
            Self::Session => given(&call.session_id),
            Self::StatusCode => call.status_code.map_or(Cow::Borrowed(""), |code| Cow::Owned(code.to_string())),
            Self::FinishReason => given(&call.finish_reason),
            Self::Judge => Cow::Borrowed(""),
            Self::Violation => given(&call.violation),
            Self::Property(name) => call.property_text(name).unwrap_or_default(),
        };
        if label.len() <= LABEL_MAX_BYTES {
            return label;
        }
        let end = label.floor_char_boundary(LABEL_MAX_BYTES);
        Cow::Owned(label[..end].to_owned())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, key)| key == self) {
            Some((name, _)) => f.write_str(name),
            None => match self {
                Self::Property(name) => f.write_str(name),
                _ => unreachable!("every other key is named above"),
            },
        }
    }
}
