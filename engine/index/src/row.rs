//! A row: what is kept of one call. It can be shown as a search result without the payload, which stays in the stream under `sequence`.
//!
//! Deliberately absent: prompts, answers, and provider's error bodies. They are read from the stream, and never stored twice.

use crate::keys::{Number, Text, signal_names};
use model::call::CallLog;
use model::signal::{Signal, Signals};
use model::time::Timestamp;
use model::wire::json;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::collections::HashSet;
use std::fmt;

/// Further properties of a call are left out: the sum of what real senders write is some dozens, and a hostile payload of 8 MiB holds a million.
pub const PROPERTIES_MAX: usize = 4_096;
/// A property's whole name is cut here, so that deep objects under long names cannot multiply.
pub const NAME_MAX_BYTES: usize = model::label::LABEL_MAX_BYTES;
/// Objects in properties are flattened to this depth; what is deeper is kept as its JSON text.
const DEPTH_MAX: usize = 8;
/// Numbers above are kept as this; the parser refuses calls with anything over 2^40.
const NUMBER_MAX: u64 = (1 << 56) - 2;
const ABSENT: u64 = u64::MAX;

/// One call, as far as the index knows it. All its strings stand in one buffer: a row is made for every call of the stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Of its payload in the stream.
    pub sequence: u64,
    /// When the call ended.
    pub time: Timestamp,
    signals: u32,
    numbers: [u64; Number::COUNT],
    buffer: String,
    /// Where each text ends in the buffer; the first begins at 0.
    ends: [u32; Text::COUNT],
    /// Names of signals that are not built in, such as scripts', sorted.
    further: Vec<String>,
    /// Where each property's name and value end, sorted by name; the first begins where the texts end.
    properties: Vec<(u32, u32)>,
}

impl Row {
    /// What is kept of `call`, its built-in signals being `signals`, at `sequence` of the stream; `time` is its event time.
    ///
    /// Texts are kept whole, whatever their length; only groupings cut them. Cost: one buffer and the properties' own JSON.
    pub fn of(call: &CallLog<'_>, signals: &Signals, further: &[String], sequence: u64, time: Timestamp) -> Self {
        let (served_provider, served_model) = call.served();
        let error = call.error.as_ref();
        let text = |text: Text| match text {
            Text::Id => call.id.as_ref(),
            Text::EventId => call.event_id.as_deref().unwrap_or(""),
            Text::ParentId => call.parent_id.as_deref().unwrap_or(""),
            Text::Environment => call.environment.as_ref(),
            Text::Kind => call.kind.name(),
            Text::Service => call.service.as_deref().unwrap_or(""),
            Text::Stage => call.stage.as_deref().unwrap_or(""),
            Text::Provider => call.provider.as_deref().unwrap_or(""),
            Text::Model => call.model.as_deref().unwrap_or(""),
            Text::ServedProvider => served_provider.unwrap_or(""),
            Text::ServedModel => served_model.unwrap_or(""),
            Text::Prompt => call.prompt_name.as_deref().unwrap_or(""),
            Text::PromptVersion => call.prompt_version.as_deref().unwrap_or(""),
            Text::User => call.user_id.as_deref().unwrap_or(""),
            Text::Thread => call.thread_id.as_deref().unwrap_or(""),
            Text::Session => call.session_id.as_deref().unwrap_or(""),
            Text::FinishReason => call.finish_reason.as_deref().unwrap_or(""),
            Text::ErrorType => error.and_then(|error| error.r#type.as_deref()).unwrap_or(""),
            Text::ErrorCode => error.and_then(|error| error.code.as_deref()).unwrap_or(""),
            Text::Violation => call.violation.as_deref().unwrap_or(""),
        };
        let number = |number: Number| match number {
            Number::StatusCode => call.status_code.map(u64::from),
            Number::LatencyMs => call.latency_ms,
            Number::TtftMs => call.ttft_ms,
            Number::InputTokens => call.usage.input_tokens,
            Number::OutputTokens => call.usage.output_tokens,
            Number::CachedTokens => call.usage.cached_tokens,
            Number::CostUsd => call.cost_nano_usd,
            Number::Attempts => call.attempt_count(),
        };
        let properties = scalars(call);
        let mut row = Self::new(sequence, time, signals.holds, number, text, properties.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        row.further = further.to_vec();
        row.further.sort();
        row.further.dedup();
        row
    }

    /// `properties` are sorted by name, each there once.
    pub(crate) fn new<'t>(
        sequence: u64,
        time: Timestamp,
        signals: u32,
        number: impl Fn(Number) -> Option<u64>,
        text: impl Fn(Text) -> &'t str,
        properties: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Self {
        let mut buffer = String::with_capacity(320);
        let mut ends = [0; Text::COUNT];
        for (end, of) in ends.iter_mut().zip(Text::all()) {
            buffer.push_str(text(of));
            *end = buffer.len() as u32;
        }
        let mut numbers = [ABSENT; Number::COUNT];
        for (kept, of) in numbers.iter_mut().zip(Number::all()) {
            *kept = number(of).map_or(ABSENT, |number| number.min(NUMBER_MAX));
        }
        let properties = properties.into_iter().map(|(name, value)| {
            buffer.push_str(name);
            let name_end = buffer.len() as u32;
            buffer.push_str(value);
            (name_end, buffer.len() as u32)
        });
        let properties = properties.collect();
        Self { sequence, time, signals, numbers, buffer, ends, further: Vec::new(), properties }
    }

    pub(crate) fn with_further(mut self, further: Vec<String>) -> Self {
        self.further = further;
        self
    }

    /// Empty when the call has none.
    pub fn text(&self, text: Text) -> &str {
        let at = text as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.buffer[start as usize..self.ends[at] as usize]
    }

    pub fn number(&self, number: Number) -> Option<u64> {
        Some(self.numbers[number as usize]).filter(|number| *number != ABSENT)
    }

    /// Input and output tokens together; `None` when the call has neither.
    pub fn tokens(&self) -> Option<u64> {
        together(self.number(Number::InputTokens), self.number(Number::OutputTokens))
    }

    pub fn holds(&self, signal: Signal) -> bool {
        self.signals & (1 << signal.index()) != 0
    }

    /// Whether a signal of this name holds, built in or not.
    pub fn holds_named(&self, name: &str) -> bool {
        Signal::parse(name).is_some_and(|signal| self.holds(signal)) || self.further.iter().any(|further| further == name)
    }

    /// The names of the signals that hold: the built-in ones, then further ones.
    pub fn signals(&self) -> impl Iterator<Item = &str> {
        signal_names(self.signals).chain(self.further.iter().map(String::as_str))
    }

    pub(crate) fn mask(&self) -> u32 {
        self.signals
    }

    pub(crate) fn further(&self) -> &[String] {
        &self.further
    }

    /// Names and values, sorted by name. Objects are flattened with dots; arrays are their JSON text; `null` and empty texts are absent.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = self.ends[Text::COUNT - 1];
        self.properties.iter().map(move |&(name_end, end)| {
            let name = &self.buffer[start as usize..name_end as usize];
            start = end;
            (name, &self.buffer[name_end as usize..end as usize])
        })
    }

    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// Bytes of memory, about.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.buffer.len() + self.properties.len() * 8 + self.further.iter().map(|name| name.len() + 24).sum::<usize>()
    }
}

pub(crate) fn together(input: Option<u64>, output: Option<u64>) -> Option<u64> {
    match (input, output) {
        (None, None) => None,
        (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
    }
}

/// The scalar properties of a call. A flat name wins over the same path of an object, and within an object the last of duplicates, as
/// [`CallLog::property`] has it.
fn scalars(call: &CallLog<'_>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::with_capacity(call.properties.len());
    let mut objects = Vec::new();
    for (name, raw) in call.properties.iter().take(PROPERTIES_MAX) {
        if raw.starts_with('{') {
            objects.push((cut(name).to_owned(), *raw, 1));
        } else if let Some(value) = scalar(raw) {
            found.push((cut(name).to_owned(), value));
        }
    }
    // A stack, so that depth is ours to bound and not the call stack's.
    objects.reverse();
    while let Some((outer, raw, depth)) = objects.pop() {
        let Ok(fields) = json::fields(raw) else { continue };
        for (name, raw) in fields.into_iter().rev() {
            if found.len() + objects.len() >= PROPERTIES_MAX {
                break;
            }
            let whole = cut(&format!("{outer}.{name}")).to_owned();
            if raw.starts_with('{') && depth < DEPTH_MAX {
                objects.push((whole, raw, depth + 1));
            } else if let Some(value) = scalar(raw) {
                found.push((whole, value));
            }
        }
    }
    if found.len() > 1 {
        let mut seen = HashSet::with_capacity(found.len());
        let first: Vec<bool> = found.iter().map(|(name, _)| seen.insert(name.as_str())).collect();
        let mut first = first.into_iter();
        found.retain(|_| first.next().unwrap_or(false));
        found.sort();
    }
    found.retain(|(name, _)| !name.is_empty());
    found
}

fn scalar(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'n' => None,
        b'"' => Some(json::decode(raw).into_owned()).filter(|text| !text.is_empty()),
        _ => Some(raw.to_owned()),
    }
}

/// At most [`NAME_MAX_BYTES`] of `text`, whole characters.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME_MAX_BYTES)]
}

/// As JSON: every text and number that the call has under its own name, `signals` a list, `properties` an object of strings.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Properties<'r>(&'r Row);
        impl Serialize for Properties<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.properties())
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sequence", &self.sequence)?;
        map.serialize_entry("time", &self.time)?;
        for text in Text::all().filter(|text| !self.text(*text).is_empty()) {
            map.serialize_entry(text.name(), self.text(text))?;
        }
        for number in Number::all() {
            match self.number(number) {
                None => {}
                Some(nanos) if number == Number::CostUsd => map.serialize_entry(number.name(), &(nanos as f64 / 1e9))?,
                Some(value) => map.serialize_entry(number.name(), &value)?,
            }
        }
        map.serialize_entry("signals", &self.signals().collect::<Vec<_>>())?;
        map.serialize_entry("properties", &Properties(self))?;
        map.end()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Row");
        shown.field("sequence", &self.sequence).field("time", &format_args!("{}", self.time));
        for text in Text::all().filter(|text| !self.text(*text).is_empty()) {
            shown.field(text.name(), &self.text(text));
        }
        for number in Number::all() {
            if let Some(value) = self.number(number) {
                shown.field(number.name(), &value);
            }
        }
        shown.field("signals", &self.signals().collect::<Vec<_>>()).field("properties", &self.properties().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(log: &str) -> Row {
        let call = model::parse(log.as_bytes()).expect("a good log");
        let signals = model::signal::signals(&call, &model::signal::Findings::default());
        Row::of(&call, &signals, &["no_facts".to_owned()], 7, call.time)
    }

    #[test]
    fn a_row_has_what_the_log_says() {
        let row = row(
            r#"{"id":"c1","time":1767225600000,"model":"gpt-4o","provider":"openai","event_id":"e1","user_id":"ü","status_code":429,"latency_ms":12,
            "error":{"type":"rate_limit"},"cost_usd":0.000000001,"prompt":{"name":"p","version":"3"},
            "properties":{"tenant":"acme","n":1.50,"yes":true,"no":null,"empty":"","tags":["a","b"],"o":{"p":{"q":"deep"},"t":1},"o.t":"flat"}}"#,
        );
        let text = |text| row.text(text);
        assert_eq!((text(Text::Id), text(Text::EventId), text(Text::User), text(Text::Thread)), ("c1", "e1", "ü", ""));
        assert_eq!((text(Text::ServedModel), text(Text::ErrorType), text(Text::PromptVersion)), ("gpt-4o", "rate_limit", "3"));
        assert_eq!(row.number(Number::CostUsd), Some(1));
        assert_eq!((row.number(Number::StatusCode), row.number(Number::TtftMs), row.tokens()), (Some(429), None, None));
        assert!(row.holds(Signal::Error) && row.holds_named("rate_limited") && row.holds_named("no_facts") && !row.holds_named("retry"));
        assert_eq!(
            row.properties().collect::<Vec<_>>(),
            [("n", "1.50"), ("o.p.q", "deep"), ("o.t", "flat"), ("tags", r#"["a","b"]"#), ("tenant", "acme"), ("yes", "true")]
        );
        let json = serde_json::to_value(&row).expect("a row is JSON");
        assert_eq!((json["sequence"].as_u64(), json["properties"]["tenant"].as_str()), (Some(7), Some("acme")));
        assert_eq!(json["signals"], serde_json::json!(["error", "rate_limited", "no_facts"]));
    }

    #[test]
    fn deep_and_many_properties_end_somewhere() {
        let deep = format!("{}1{}", "{\"a\":".repeat(50), "}".repeat(50));
        let many: Vec<String> = (0..5_000).map(|n| format!("\"p{n}\":{n}")).collect();
        let row = row(&format!(r#"{{"id":"c","time":1767225600000,"model":"m","properties":{{"deep":{deep},{}}}}}"#, many.join(",")));
        assert!(row.properties().count() <= PROPERTIES_MAX);
        let (name, value) = row.properties().find(|(name, _)| name.starts_with("deep")).expect("it is there");
        assert!(name.matches('.').count() == DEPTH_MAX && value.starts_with('{'), "{name}");
        assert_eq!(row.property("p17"), Some("17"));
    }
}
