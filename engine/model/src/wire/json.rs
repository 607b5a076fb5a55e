//! JSON as it arrives: one pass that splits an object into raw fields, and the readings of one raw value.
//!
//! Values stay raw text until someone needs them, so a 100 KB prompt costs one scan. Grammar is RFC 8259; numbers out of range and lone
//! surrogates are not errors (a surrogate that has no partner decodes to U+FFFD). [`value`] reads whatever that grammar allows.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::{RawValue, Value};
use std::borrow::Cow;
use std::fmt;

/// Levels that are kept of a text that has no value as it is.
const DEPTH_MAX: usize = 64;

/// Whether `text` is one JSON value by the grammar of RFC 8259, however deep.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The fields of a JSON object in the order written, duplicates included.
pub fn fields(text: &str) -> Result<Vec<(Cow<'_, str>, &str)>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(Fields)?;
    deserializer.end()?;
    Ok(fields)
}

/// The elements of a JSON array.
pub fn elements(text: &str) -> Result<Vec<&str>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let elements = deserializer.deserialize_seq(Elements)?;
    deserializer.end()?;
    Ok(elements)
}

/// One field of an object; of duplicates the last. `None` when `text` is no object.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    fields(text).ok()?.into_iter().rev().find(|(key, _)| key == name).map(|(_, raw)| raw)
}

/// A raw JSON string without its quotes and escapes; anything else as written.
pub fn decode(raw: &str) -> Cow<'_, str> {
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return Cow::Borrowed(raw) };
    if !inner.as_bytes().contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    Cow::Owned(serde_json::Deserializer::from_str(raw).deserialize_bytes(Lossy).unwrap_or_default())
}

/// Whether a raw JSON string holds nothing but white space.
pub fn blank(raw: &str) -> bool {
    match raw.as_bytes().get(1) {
        None | Some(b'"') => true,
        Some(b'!'..=b'[' | b']'..=b'~') => false,
        Some(_) => decode(raw).trim().is_empty(),
    }
}

/// A whole text as a value, for whoever shows, redacts or judges it: every payload that is a call has one.
///
/// JSON allows more than a value holds. Half of a surrogate pair is U+FFFD, a number beyond a double is a text as it was written, and where there is one
/// of these, or more than 127 levels, what lies more than 64 deep is left out and a text in its place says so.
///
/// # Errors
/// When it is no JSON.
pub fn value(text: &[u8]) -> Result<Value, serde_json::Error> {
    // Nearly every text is read in this one pass; the other goes through each part once for each level that it lies in.
    serde_json::from_slice(text).or_else(|error| match std::str::from_utf8(text) {
        Ok(text) if is_json(text) => Ok(bounded(text.trim_matches([' ', '\t', '\n', '\r']), DEPTH_MAX)),
        _ => Err(error),
    })
}

/// `raw` is JSON.
fn bounded(raw: &str, depth: usize) -> Value {
    match raw.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => Value::from(format!("[left out: nested more than {DEPTH_MAX} deep]")),
        Some(b'{') => {
            let fields = fields(raw).unwrap_or_default().into_iter();
            Value::Object(fields.map(|(name, raw)| (name.into_owned(), bounded(raw, depth - 1))).collect())
        }
        Some(b'[') => elements(raw).unwrap_or_default().into_iter().map(|raw| bounded(raw, depth - 1)).collect(),
        Some(b'"') => Value::from(decode(raw)),
        _ => serde_json::from_str(raw).unwrap_or_else(|_| Value::from(raw)),
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(32);
        while let Some(key) = map.next_key_seed(FieldName)? {
            let value: &'de RawValue = map.next_value()?;
            fields.push((key, value.get()));
        }
        Ok(fields)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(value) = sequence.next_element::<&'de RawValue>()? {
            elements.push(value.get());
        }
        Ok(elements)
    }
}

struct FieldName;

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // As bytes, because a name may hold half of a surrogate pair.
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for FieldName {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_bytes<E>(self, name: &'de [u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(name))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(String::from_utf8_lossy(name).into_owned()))
    }
}

struct Lossy;

impl<'de> Visitor<'de> for Lossy {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON string")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_grammar_is_rfc_8259() {
        for text in ["{}", " [1e999] ", r#""\ud800""#, "0", "null", "\t\n[]\r", "123456789012345678901234567890"] {
            assert!(is_json(text), "{text}");
        }
        for text in ["", "{'a':1}", "[1,]", "NaN", "01", "```json\n{}\n```", "{} {}", "\u{feff}{}", "\"\t\"", "+1", "\u{a0}{}"] {
            assert!(!is_json(text), "{text}");
        }
        assert!(is_json(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))));
    }

    #[test]
    fn strings_decode_whatever_they_hold() {
        assert_eq!(decode(r#""plain""#), "plain");
        assert_eq!(decode(r#""a\n\"b\" \u00e9 \ud83d\ude00""#), "a\n\"b\" é 😀");
        assert_eq!(decode(r#""lone \ud800 half""#), "lone \u{fffd}\u{fffd}\u{fffd} half");
        assert_eq!(decode("12"), "12");
        assert!(blank(r#""""#) && blank(r#"" \n""#) && !blank(r#""\u00e9""#) && !blank(r#""x""#));
    }

    #[test]
    fn an_object_is_split_into_raw_fields() {
        let got = fields(r#" {"a": 1, "b\"": {"c": [1, 2]}, "a": null} "#).expect("an object");
        assert_eq!(got, [(Cow::from("a"), "1"), (Cow::from("b\""), r#"{"c": [1, 2]}"#), (Cow::from("a"), "null")]);
        assert!(fields("[]").is_err() && fields("{} x").is_err());
    }

    #[test]
    fn whatever_is_json_has_a_value_and_nothing_else_has() {
        let of = |text: &str| value(text.as_bytes()).ok();
        assert_eq!(of(r#" {"a": [1, "\ud83d\ude00"]} "#), Some(json!({ "a": [1, "😀"] })));
        let loose = " {\"cut \\ud83d\": [\"a\\u0040b \\ud83d\", 1e999, -0.5, true, null, {}], \"a\": 1, \"a\": 2}\n";
        let half = "\u{fffd}\u{fffd}\u{fffd}";
        assert_eq!(of(loose), Some(json!({ format!("cut {half}"): [format!("a@b {half}"), "1e999", -0.5, true, null, {}], "a": 2 })));
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(of(&nested(127)).expect("JSON").to_string(), nested(127), "what can be read whole is whole");
        for levels in [128, 100_000] {
            assert_eq!(of(&nested(levels)).expect("JSON").to_string(), nested(64).replace('1', "\"[left out: nested more than 64 deep]\""));
        }
        assert_eq!((of("1e999"), of(r#""\ud800""#)), (Some(json!("1e999")), Some(json!(half))));
        assert!(value(b"{\"a\": \"\xff\", \"b\": 1e999}").is_err() && of("{1e999}").is_none() && of("\u{a0}1e999").is_none() && of("").is_none());
    }

    #[test]
    fn half_a_surrogate_pair_in_a_name_is_no_error() {
        let got = fields(r#"{"\udfaa": 0, "é": 1, "\u00e9": 2}"#).expect("an object");
        assert_eq!(got, [(Cow::from("\u{fffd}\u{fffd}\u{fffd}"), "0"), (Cow::from("é"), "1"), (Cow::from("é"), "2")]);
    }
}
