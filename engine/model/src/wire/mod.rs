//! Bytes → [`CallLog`]: one file per sender's format, told apart by their keys.
//!
//! Total: every byte string yields a call or a [`Malformed`] with its reason. Nothing here knows what is done with either.

pub mod json;
mod native;
mod reading;
mod respan;
pub mod retold;

use crate::call::CallLog;
use std::borrow::Cow;

/// Why a payload is not a call, for counting; the detail is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Reason {
    NotUtf8,
    NotJson,
    NotAnObject,
    MissingField,
    BadField,
    /// A format that is recognised and not read by this version.
    UnsupportedFormat,
    TooLarge,
    /// The log is fine, but it names one environment more than are kept.
    TooManyEnvironments,
}

/// A payload that is not a call. It is counted and kept, and never stops the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub reason: Reason,
    /// What is wrong and where, for a person; at most a few hundred bytes.
    pub detail: String,
}

/// Larger payloads are malformed: the largest prompt windows are about 4 MB of text, and NATS' own default limit is 1 MB.
pub const PAYLOAD_MAX_BYTES: usize = 8 << 20;

impl Reason {
    pub const ALL: [Self; 8] = [
        Self::NotUtf8,
        Self::NotJson,
        Self::NotAnObject,
        Self::MissingField,
        Self::BadField,
        Self::UnsupportedFormat,
        Self::TooLarge,
        Self::TooManyEnvironments,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::MissingField => "missing_field",
            Self::BadField => "bad_field",
            Self::UnsupportedFormat => "unsupported_format",
            Self::TooLarge => "too_large",
            Self::TooManyEnvironments => "too_many_environments",
        }
    }
}

impl Malformed {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(400));
        Self { reason, detail }
    }
}

/// The fields of a log as they arrived: name and raw JSON value.
type Fields<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// Reads one log, whoever sent it. Cost: one scan of the payload, and no copy of prompt or answer.
///
/// # Errors
/// [`Malformed`] says which rule the payload breaks.
pub fn parse(payload: &[u8]) -> Result<CallLog<'_>, Malformed> {
    if payload.len() > PAYLOAD_MAX_BYTES {
        return Err(Malformed::new(Reason::TooLarge, format!("{} bytes; at most {PAYLOAD_MAX_BYTES} are read", payload.len())));
    }
    let text = std::str::from_utf8(payload).map_err(|error| Malformed::new(Reason::NotUtf8, format!("byte {} is not UTF-8", error.valid_up_to())))?;
    let fields = json::fields(text).map_err(|error| refuse(text, &error))?;
    let has = |name: &str| fields.iter().any(|(key, _)| key == name);
    if has("id") && has("time") {
        return native::read(fields);
    }
    if respan::tells(&has) {
        return respan::read(fields);
    }
    if let Some(format) = unsupported(&has) {
        return Err(Malformed::new(
            Reason::UnsupportedFormat,
            format!("this looks like {format}, which is not read yet; send the native format or Respan's logging format"),
        ));
    }
    native::read(fields)
}

fn unsupported(has: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    if has("resourceSpans") || has("resourceLogs") {
        Some("an OpenTelemetry export")
    } else if has("call_type") && has("startTime") {
        Some("a LiteLLM standard logging payload")
    } else if has("providerRequest") {
        Some("a Helicone log")
    } else if has("batch") {
        Some("a Langfuse ingestion batch")
    } else {
        None
    }
}

fn refuse(text: &str, error: &serde_json::Error) -> Malformed {
    if !json::is_json(text) {
        return Malformed::new(Reason::NotJson, error.to_string());
    }
    match text.trim_start().as_bytes().first() {
        Some(b'{') => Malformed::new(Reason::BadField, error.to_string()),
        Some(b'[') => Malformed::new(Reason::NotAnObject, "an array; publish one log per message"),
        _ => Malformed::new(Reason::NotAnObject, "expected a JSON object"),
    }
}
