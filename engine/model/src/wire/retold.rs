//! A log as another call: in another environment, at another time, under other ids, and everything else byte for byte as it came.
//!
//! Where each format keeps these is listed here; all the rest of a payload, unknown fields included, is never taken apart. Whether a log was understood
//! is told by reading the result: it must be the call that was asked for. Deliberately absent: which calls are retold, and when.

use super::{json, parse, respan};
use crate::time::{Span, Timestamp};

/// What becomes of a log.
#[derive(Clone, Debug)]
pub struct Retelling<'a> {
    pub environment: &'a str,
    /// Put before every id, so that calls and runs of the copy are none of the original's.
    pub prefix: &'a str,
    /// How far times move, in milliseconds.
    pub by_ms: i64,
    /// Further properties; one that the log has already is replaced.
    pub properties: &'a [(&'a str, String)],
}

/// Where a format keeps what is changed.
struct Places {
    ids: &'static [&'static str],
    times: &'static [&'static str],
    /// An object in which there are ids as well.
    nested: Option<(&'static str, &'static [&'static str])>,
}

const NATIVE: Places = Places { ids: &["id", "event_id", "parent_id"], times: &["time"], nested: None };
const RESPAN: Places = Places {
    ids: &["unique_id", "span_unique_id", "span_parent_id", "trace_unique_id", "custom_identifier"],
    times: &["timestamp", "start_time"],
    nested: Some(("metadata", &["event_id"])),
};

/// The payload of the same log as another call; `None` where this format cannot be retold, or the payload is no call. Cost: two readings and a copy.
pub fn retell(payload: &[u8], retelling: &Retelling<'_>) -> Option<Vec<u8>> {
    let before = parse(payload).ok()?;
    let text = std::str::from_utf8(payload).ok()?;
    let fields = json::fields(text).ok()?;
    let has = |name: &str| fields.iter().any(|(key, _)| key == name);
    let places = if !(has("id") && has("time")) && respan::tells(&has) { &RESPAN } else { &NATIVE };

    let mut edits = Edits::of(text);
    let mut told = vec![false; retelling.properties.len()];
    let mut placed = false;
    for (name, raw) in &fields {
        let name = name.as_ref();
        if name == "environment" {
            edits.replace(raw, quoted(retelling.environment));
            placed = true;
        } else if places.ids.contains(&name) {
            edits.prefix(raw, retelling.prefix);
        } else if places.times.contains(&name) {
            edits.shift(raw, retelling.by_ms);
        } else if let Some((_, ids)) = places.nested.filter(|(nested, _)| *nested == name) {
            for (_, raw) in json::fields(raw).unwrap_or_default().into_iter().filter(|(name, _)| ids.contains(&name.as_ref())) {
                edits.prefix(raw, retelling.prefix);
            }
        } else if let Some(at) = retelling.properties.iter().position(|(property, _)| *property == name) {
            edits.replace(raw, quoted(&retelling.properties[at].1));
            told[at] = true;
        }
    }
    let mut more = if placed { String::new() } else { format!(",\"environment\":{}", quoted(retelling.environment)) };
    for ((name, value), _) in retelling.properties.iter().zip(told).filter(|(_, told)| !told) {
        more += &format!(",{}:{}", quoted(name), quoted(value));
    }
    let retold = edits.applied(&more);

    let after = parse(retold.as_bytes()).ok()?;
    let moved = Timestamp::from_millis(before.time.millis().checked_add(retelling.by_ms)?)?;
    let id = after.id.strip_prefix(retelling.prefix)? == before.id;
    let event = match (&before.event_id, &after.event_id) {
        (None, None) => true,
        (Some(before), Some(after)) => after.strip_prefix(retelling.prefix) == Some(before),
        _ => false,
    };
    (id && event && after.time == moved && after.environment == retelling.environment && after.latency_ms == before.latency_ms)
        .then(|| retold.into_bytes())
}

/// Replacements of raw values in a text.
struct Edits<'a> {
    text: &'a str,
    /// Where, and what stands there instead.
    replaced: Vec<(std::ops::Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, replaced: Vec::new() }
    }

    /// `raw` is a part of the text.
    fn replace(&mut self, raw: &str, with: String) {
        let start = raw.as_ptr() as usize - self.text.as_ptr() as usize;
        self.replaced.push((start..start + raw.len(), with));
    }

    /// An id that is absent stays so; one that is written as a number becomes text.
    fn prefix(&mut self, raw: &str, prefix: &str) {
        let id = json::decode(raw);
        if raw != "null" && !id.is_empty() && !raw.starts_with(['{', '[']) {
            self.replace(raw, quoted(&format!("{prefix}{id}")));
        }
    }

    /// A number stays a number, and a text a text.
    fn shift(&mut self, raw: &str, by_ms: i64) {
        let moved = |millis: i64| Timestamp::from_millis(millis.checked_add(by_ms)?);
        if raw.starts_with('"') {
            if let Some(time) = Timestamp::parse(&json::decode(raw)).and_then(|time| moved(time.millis())) {
                self.replace(raw, format!("\"{time}\""));
            }
        } else if let Some(time) = raw.parse::<f64>().ok().filter(|millis| millis.is_finite()).and_then(|millis| moved(millis.round() as i64)) {
            self.replace(raw, time.millis().to_string());
        }
    }

    /// The text with all replacements, and `more` fields at its end. It is an object with a field.
    fn applied(mut self, more: &str) -> String {
        self.replaced.sort_by_key(|(range, _)| range.start);
        let added: usize = self.replaced.iter().map(|(_, with)| with.len()).sum();
        let mut text = String::with_capacity(self.text.len() + added + more.len());
        let mut at = 0;
        for (range, with) in &self.replaced {
            text += &self.text[at..range.start];
            text += with;
            at = range.end;
        }
        let end = self.text.rfind('}').unwrap_or(self.text.len()).max(at);
        text += &self.text[at..end];
        text += more;
        text += &self.text[end..];
        text
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// How far a time moves, as [`Retelling::by_ms`].
pub fn moved_by(from: Timestamp, to: Timestamp) -> i64 {
    let span = |span: Span| i64::try_from(span.millis()).unwrap_or(i64::MAX);
    if to >= from { span(to.since(from)) } else { -span(from.since(to)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(payload: &str) -> String {
        let properties = [("replay.id", "a".to_owned())];
        let retelling = Retelling { environment: "te\"st", prefix: "r1-", by_ms: 20_000, properties: &properties };
        let retold = retell(payload.as_bytes(), &retelling).unwrap_or_else(|| panic!("cannot retell {payload}"));
        String::from_utf8(retold).expect("it was text before")
    }

    #[test]
    fn a_native_log_keeps_every_other_byte() {
        let log = r#" {"id" : "a", "x": [1,  {"id":"b"}], "time":1763630044377 ,"model":"m","event_id":7,"parent_id":null,"output":"} \u00e9"} "#;
        let expected = r#" {"id" : "r1-a", "x": [1,  {"id":"b"}], "time":1763630064377 ,"model":"m","event_id":"r1-7","parent_id":null,"output":"} \u00e9","environment":"te\"st","replay.id":"a"} "#;
        assert_eq!(told(log), expected);
        let log = r#"{"environment":"production","time":"2026-11-20T09:14:04.377+01:00","replay.id":"before","id":"a","id":"b","model":"m"}"#;
        let expected = r#"{"environment":"te\"st","time":"2026-11-20T08:14:24.377Z","replay.id":"a","id":"r1-a","id":"r1-b","model":"m"}"#;
        assert_eq!(told(log), expected);
    }

    #[test]
    fn a_log_of_respans_moves_both_of_its_times_and_all_of_its_ids() {
        let log = r#"{"unique_id":"l","log_type":"chat","model":"m","start_time":"2026-11-20T09:14:02.114Z","timestamp":"2026-11-20T09:14:04.377Z",
            "trace_unique_id":"e","custom_identifier":"e","span_unique_id":"s","span_parent_id":"p","metadata":{"tenant":"acme","event_id":"e"}}"#;
        let expected = r#"{"unique_id":"r1-l","log_type":"chat","model":"m","start_time":"2026-11-20T09:14:22.114Z","timestamp":"2026-11-20T09:14:24.377Z",
            "trace_unique_id":"r1-e","custom_identifier":"r1-e","span_unique_id":"r1-s","span_parent_id":"r1-p","metadata":{"tenant":"acme","event_id":"r1-e"},"environment":"te\"st","replay.id":"a"}"#;
        assert_eq!(told(log), expected);
        let call = parse(expected.as_bytes()).expect("a good log");
        assert_eq!((call.latency_ms, call.property_text("replay.id").as_deref()), (Some(2263), Some("a")));
    }

    #[test]
    fn what_is_no_call_is_not_retold() {
        let retelling = Retelling { environment: "test", prefix: "r1-", by_ms: i64::MAX, properties: &[] };
        for payload in ["", "{}", r#"{"id":"a","model":"m"}"#, r#"{"id":"a","time":1763630044377,"model":"m"}"#] {
            assert_eq!(retell(payload.as_bytes(), &retelling), None, "{payload}");
        }
    }
}
