//! Taking personal data out of what leaves for a judge, and of payloads that people are shown.
//!
//! Of a judge's prompt only what stands between its fences is the call's; the judge's own words and the fences stay as they are, so that redaction
//! changes neither the question nor the form. Of a payload only texts are looked at, so that it stays JSON. A pattern is a net with holes: what a team
//! must not send, it must not log.
//! Deliberately absent: names, addresses and everything else that needs a model to be found.

use bytes::Bytes;
use evaluators::judge::{Nonce, Request};
use model::wire::json;
use regex::{Captures, Regex, RegexBuilder};
use serde_json::Value;
use std::borrow::Cow;

/// A user's pattern, compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

const EMAIL: &str = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+";
/// With a country's code, as Americans write theirs, or with a leading zero: eight digits or more in each, so that dates and amounts stay.
const PHONE: &str = r"(?:\+|\b00)[1-9][\d ()./-]{6,18}\d|\(?\b[2-9]\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4}\b|\b0[1-9]\d{0,4}[ /-]\d[\d -]{4,10}\d\b";
/// Thirteen to nineteen digits; whether they are a card's, their check digit says.
const CARD: &str = r"\b\d(?:[ -]?\d){12,18}\b";

/// The patterns of one judge, or of all that is shown, in the order in which they are applied.
#[derive(Clone, Debug, Default)]
pub struct Redaction(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    regex: Regex,
    /// What stands there instead.
    shown: &'static str,
    /// Only what has a card's check digit.
    card: bool,
}

/// A user's pattern.
///
/// # Errors
/// When it is no regular expression, or a huge one.
pub fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build()
}

impl Redaction {
    /// `patterns`: `email`, `phone`, `card`, or regular expressions.
    ///
    /// # Errors
    /// The first that is no regular expression.
    pub fn new(patterns: &[String]) -> Result<Self, regex::Error> {
        let pattern = |text: &String| {
            let (text, shown, card) = match text.as_str() {
                "email" => (EMAIL, "[email]", false),
                "phone" => (PHONE, "[phone]", false),
                "card" => (CARD, "[card]", true),
                own => (own, "[redacted]", false),
            };
            Ok(Pattern { regex: compile(text)?, shown, card })
        };
        patterns.iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// `email`, `phone`, `card`; `own-1`, … for a user's own, whose texts may say what they hide.
    pub fn names(&self) -> Vec<String> {
        let name = |pattern: &Pattern| match pattern.shown {
            "[redacted]" => None,
            shown => Some(shown.trim_matches(['[', ']']).to_owned()),
        };
        let mut own = 0;
        let named = |pattern: &Pattern| {
            name(pattern).unwrap_or_else(|| {
                own += 1;
                format!("own-{own}")
            })
        };
        self.0.iter().map(named).collect()
    }

    /// `request` without what the patterns find between its fences.
    pub fn of(&self, mut request: Request, nonce: &Nonce) -> Request {
        if !self.0.is_empty() {
            request.user = self.between_fences(&request.user, nonce);
        }
        request
    }

    /// A payload without what the patterns find in its texts; names of fields stay.
    pub fn payload(&self, value: &mut Value) {
        match value {
            _ if self.0.is_empty() => {}
            Value::String(text) => {
                if let Cow::Owned(shown) = self.text(text) {
                    *text = shown;
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.payload(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.payload(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The same of a payload's bytes; unchanged only where there are no patterns.
    pub fn bytes(&self, payload: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return payload.clone();
        }
        match json::value(payload) {
            Ok(mut value) => {
                self.payload(&mut value);
                Bytes::from(value.to_string())
            }
            // No call is like this. What is no JSON has no texts in it that could be told from the rest: it is one.
            Err(_) => Bytes::from(self.text(&String::from_utf8_lossy(payload)).into_owned()),
        }
    }

    fn between_fences(&self, text: &str, nonce: &Nonce) -> String {
        // No text between fences holds the nonce, so these lines are the fences.
        let (open, close) = (format!("<<data {}\n", nonce.as_str()), format!("\ndata {}>>", nonce.as_str()));
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once(open.as_str()) {
            let (inside, after) = after.split_once(close.as_str()).unwrap_or((after, ""));
            out += before;
            out += &open;
            out += &self.text(inside);
            out += &close;
            rest = after;
        }
        out + rest
    }

    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.0.iter().fold(Cow::Borrowed(text), |text, Pattern { regex, shown, card }| {
            let replaced = regex.replace_all(
                &text,
                |found: &Captures<'_>| if *card && !has_check_digit(&found[0]) { found[0].to_owned() } else { (*shown).to_owned() },
            );
            match replaced {
                Cow::Borrowed(_) => text,
                Cow::Owned(replaced) => Cow::Owned(replaced),
            }
        })
    }
}

/// Whether the digits of `text` add up as those of a card do (Luhn).
fn has_check_digit(text: &str) -> bool {
    let digits = text.chars().rev().filter_map(|char| char.to_digit(10));
    let sum: u32 = digits.enumerate().map(|(at, digit)| if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "4111111111111111";

    fn check(patterns: &[&str], text: &str, expected: &str) {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let redaction = Redaction::new(&patterns).expect("they compile");
        assert_eq!(redaction.text(text), expected);
    }

    #[test]
    fn addresses_numbers_and_cards_are_taken_out() {
        check(&["email"], "write to ana.b+c@mail.example.org, or @ana", "write to [email], or @ana");
        check(&["phone"], "+49 30 123456-78, 0033612345678, (415) 555-2671, 030 12345678", "[phone], [phone], [phone], [phone]");
        check(&["card"], "4111 1111 1111 1111 and 5500-0000-0000-0004", "[card] and [card]");
        check(&["email", "phone"], "a@b.de +4930123456", "[email] [phone]");
    }

    #[test]
    fn dates_amounts_and_ids_stay() {
        let ordinary = "2026-11-22 10:30:00, 1,250.00 EUR, order 12345678, 1700000000000, version 10.2.3";
        check(&["email", "phone", "card"], ordinary, ordinary);
        check(&["card"], "4111 1111 1111 1112", "4111 1111 1111 1112");
    }

    #[test]
    fn a_users_own_pattern_counts() {
        check(&[r"KD-\d+"], "customer KD-4711", "customer [redacted]");
        assert!(Redaction::new(&["(".to_owned()]).is_err());
        let patterns = ["email", "a+", "card", "b+"].map(str::to_owned);
        assert_eq!(Redaction::new(&patterns).expect("they compile").names(), ["email", "own-1", "card", "own-2"]);
    }

    #[test]
    fn no_payload_is_passed_on_as_it_is() {
        let redaction = Redaction::new(&["email".to_owned()]).expect("it compiles");
        let deep = format!("{}\"ana@example.org\"{}", "[".repeat(200), "]".repeat(200));
        for payload in [
            r#"{"id":"c","output":"ask ana\u0040example.org"}"#,
            r#"{"id":"c","output":"ask ana@example.org \ud83d"}"#,
            r#"{"id":"c","output":"ask ana\u0040example.org","score":1e999}"#,
            &format!(r#"{{"id":"c","output":"ask ana@example.org","deep":{deep}}}"#),
        ] {
            let redacted = redaction.bytes(&Bytes::copy_from_slice(payload.as_bytes()));
            let value: Value = serde_json::from_slice(&redacted).expect("everyone can read it");
            let output = value["output"].as_str().expect("a text");
            assert!(output.starts_with("ask [email]") && value["id"] == "c", "{value}");
            assert!(!value.to_string().contains("ana"), "{value}");
        }
        assert_eq!(redaction.bytes(&Bytes::from_static(b"{\"a\": \"ana@example.org")), "{\"a\": \"[email]");
        let payload = Bytes::from_static(br#"{"a":"ana@example.org \ud83d"}"#);
        assert_eq!(Redaction::default().bytes(&payload), payload, "where nothing is to be taken out it is as it was logged");
    }

    #[test]
    fn only_what_stands_between_fences_changes() {
        let redaction = Redaction::new(&["card".to_owned(), "fact".to_owned()]).expect("they compile");
        let nonce = Nonce::new(NONCE).expect("sixteen digits");
        let fenced = |text: &str| format!("Is it a fact?\n<<data {NONCE}\n{text}\ndata {NONCE}>>\nfact or not, and <<data");
        let request =
            Request { system: NONCE.to_owned(), user: fenced("a fact of 5500000000000004"), schema: "fact".to_owned(), max_output_tokens: 1 };
        let redacted = redaction.of(request.clone(), &nonce);
        assert_eq!(redacted, Request { user: fenced("a [redacted] of [card]"), ..request });
    }
}
