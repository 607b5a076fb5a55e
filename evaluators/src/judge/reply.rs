//! What a judge replies: which form is asked of it, and what is read from what comes.
//!
//! A reply that cannot be read is the evaluator's failure and never a verdict on the judged call. Nothing is guessed: prose counts only where
//! the schema says how a verdict stands in it.

use super::fence::Nonce;
use super::manifest::{Kind, Scale};
use crate::schema::compile;
use jsonschema::Validator;
use model::wire::json;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// A judge's opinion of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    pub pass: bool,
    /// From 0 (worst) to 1; `None` of judges that give verdicts only.
    pub score: Option<f64>,
    /// The judge's own words: untrusted, at most [`REASON_MAX_CHARS`] characters.
    pub reason: String,
}

/// Which of two answers is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    First,
    Second,
    Tie,
}

/// Why a reply says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the reply is empty")]
    Empty,
    #[error("there is no JSON object in the reply")]
    NoJson,
    #[error("the reply does not satisfy the schema: {0}")]
    Schema(String),
    /// It may be part of the judged text, repeated, or written by it.
    #[error("the reply does not repeat the request's nonce")]
    Nonce,
    #[error("the reply holds objects that contradict each other")]
    Contradiction,
    #[error("the judge says that it is unsure")]
    Unsure,
    #[error("the reply is longer than {REPLY_MAX_BYTES} bytes")]
    TooLong,
}

/// Reasons are read by people, one after the other.
pub const REASON_MAX_CHARS: usize = 1_000;

/// A reply is a few sentences; 64 KiB are more than any judge may write.
const REPLY_MAX_BYTES: usize = 64 << 10;

/// Objects looked for in a reply that is not all JSON: each try reads on to its end.
const OBJECTS_MAX: usize = 64;

/// The name under which a schema says how a verdict stands in prose: a regular expression with one group.
pub(crate) const IN_TEXT: &str = "x-in-text";

const PATTERN_MAX_BYTES: usize = 1 << 20;

/// What a reply must be like.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    kind: Kind,
    validator: std::sync::Arc<Validator>,
    in_text: Option<Regex>,
    /// As sent to the endpoint: with `nonce`, and without our own words.
    pub sent: String,
}

/// What was read, before a threshold.
enum Found {
    Score(f64),
    Word(String),
}

impl Form {
    /// Reads a judge's `reply.schema.json`.
    ///
    /// # Errors
    /// What is wrong, with its hint.
    pub fn new(text: &str, kind: Kind) -> Result<Self, (String, String)> {
        let wrong = |what: String, hint: &str| Err((what, hint.to_owned()));
        let wants = match kind {
            Kind::Score(_) => "score",
            Kind::Verdict | Kind::Pair => "verdict",
        };
        let example = match kind {
            Kind::Score(scale) => format!("\"score\": {{ \"type\": \"number\", \"minimum\": {}, \"maximum\": {} }}", scale.low, scale.high),
            Kind::Verdict => "\"verdict\": { \"enum\": [\"pass\", \"fail\"] }".to_owned(),
            Kind::Pair => "\"verdict\": { \"enum\": [\"first\", \"second\", \"tie\"] }".to_owned(),
        };
        let schema: Value = match serde_json::from_str(text) {
            Ok(schema) => schema,
            Err(error) => return wrong(format!("it is not JSON: {error}"), "it is a JSON Schema of an object"),
        };
        let properties = &schema["properties"];
        if schema["type"] != "object" || !properties.is_object() {
            return wrong("it is no schema of an object with properties".to_owned(), "begin with { \"type\": \"object\", \"properties\": { … } }");
        }
        for name in ["reasoning", wants] {
            if properties.get(name).is_none() {
                let hint = if name == wants { format!("add {example}") } else { "add \"reasoning\": { \"type\": \"string\" }".to_owned() };
                return wrong(format!("it has no property `{name}`"), &hint);
            }
            if !schema["required"].as_array().is_some_and(|required| required.iter().any(|known| known == name)) {
                return wrong(format!("the property `{name}` is not required"), &format!("add \"{name}\" to \"required\""));
            }
        }
        let named: Vec<_> = ["score", "verdict"].into_iter().filter(|name| properties.get(name).is_some()).collect();
        if named.len() > 1 {
            let keep = if wants == "score" { "take `verdict` out: the threshold decides" } else { "take `score` out, or give judge.toml a scale" };
            return wrong("it asks for a score and for a verdict".to_owned(), keep);
        }
        if properties.get("nonce").is_some() {
            return wrong("the property `nonce` is added to every judge's schema".to_owned(), "take it out");
        }
        if let Some(words) = properties[wants]["enum"].as_array().filter(|_| wants == "verdict") {
            let known = words_of(kind);
            if let Some(other) = words.iter().find(|word| !word.as_str().is_some_and(|word| known.contains(&word))) {
                return wrong(format!("the verdict {other} has no meaning"), &format!("verdicts are: {}", known.join(", ")));
            }
        } else if wants == "verdict" {
            return wrong("the property `verdict` has no `enum`".to_owned(), &format!("write {example}"));
        }
        let places: Vec<_> = json::field(text, "properties").and_then(|raw| json::fields(raw).ok()).unwrap_or_default();
        let place = |name: &str| places.iter().position(|(known, _)| known == name);
        if place("reasoning") > place(wants) {
            let hint = format!("models write in this order: put `reasoning` before `{wants}`, or the verdict is thought of first");
            return wrong(format!("`{wants}` comes before `reasoning`"), &hint);
        }
        let in_text = match properties[wants].get(IN_TEXT).map(|pattern| pattern.as_str().unwrap_or_default()) {
            None => None,
            Some(pattern) => match RegexBuilder::new(pattern).size_limit(PATTERN_MAX_BYTES).build() {
                Ok(regex) if regex.captures_len() == 2 => Some(regex),
                Ok(_) => return wrong(format!("`{IN_TEXT}` must have one group"), "as in \"\\\\[\\\\[(\\\\d+)\\\\]\\\\]\""),
                Err(_) => return wrong(format!("`{IN_TEXT}` is no regular expression"), "the syntax is that of Rust's regex crate"),
            },
        };
        let sent = sent(text, wants).ok_or_else(|| ("it is not JSON".to_owned(), "it is a JSON Schema of an object".to_owned()))?;
        match compile("reply.schema.json", &sent, None) {
            Ok(validator) => Ok(Self { kind, validator: validator.into(), in_text, sent }),
            Err(error) => {
                let said = error.to_string();
                let (what, hint) = said.split_once("\nhint: ").unwrap_or((&said, "it must be a JSON Schema that is complete in itself"));
                wrong(what.to_owned(), hint)
            }
        }
    }

    pub fn opinion(&self, reply: &str, nonce: &Nonce) -> Result<Opinion, Unreadable> {
        let (found, reason) = self.find(reply, nonce)?;
        match (found, self.kind) {
            (Found::Score(score), Kind::Score(scale)) => {
                let score = scale.share(score);
                Ok(Opinion { pass: scale.passes(score), score: Some(score), reason })
            }
            (Found::Word(word), Kind::Verdict) => match word.as_str() {
                "pass" | "fail" => Ok(Opinion { pass: word == "pass", score: None, reason }),
                _ => Err(Unreadable::Unsure),
            },
            _ => Err(Unreadable::Schema("a judge of pairs has preferences, not opinions".to_owned())),
        }
    }

    /// Of the answers in the order in which they were shown.
    pub fn preference(&self, reply: &str, nonce: &Nonce) -> Result<(Preference, String), Unreadable> {
        match (self.find(reply, nonce)?, self.kind) {
            ((Found::Word(word), reason), Kind::Pair) => match word.as_str() {
                "first" => Ok((Preference::First, reason)),
                "second" => Ok((Preference::Second, reason)),
                "tie" => Ok((Preference::Tie, reason)),
                _ => Err(Unreadable::Unsure),
            },
            _ => Err(Unreadable::Schema("a judge of single answers has opinions, not preferences".to_owned())),
        }
    }

    /// The one object of the reply that satisfies the schema and carries the nonce; of several, they must agree.
    fn find(&self, reply: &str, nonce: &Nonce) -> Result<(Found, String), Unreadable> {
        if reply.len() > REPLY_MAX_BYTES {
            return Err(Unreadable::TooLong);
        }
        if reply.trim().is_empty() {
            return Err(Unreadable::Empty);
        }
        let (mut good, mut why): (Vec<Value>, _) = (Vec::new(), None);
        for object in objects(reply) {
            let error = self.validator.iter_errors(&object).next().map(|error| cut_end(&format!("{}: {error}", error.instance_path())));
            let refused = match error {
                Some(error) => Some(Unreadable::Schema(error)),
                None if object["nonce"].as_str() != Some(nonce.as_str()) => Some(Unreadable::Nonce),
                None => None,
            };
            match refused {
                None => good.push(object),
                // A wrong nonce says more than an object that was never meant as a reply.
                Some(Unreadable::Nonce) => why = Some(Unreadable::Nonce),
                Some(refused) => why = why.or(Some(refused)),
            }
        }
        let Some(first) = good.first() else {
            return match (self.in_text(reply), why) {
                (Some(_), _) if !reply.contains(nonce.as_str()) => Err(Unreadable::Nonce),
                (Some(found), _) => Ok((found?, cut_end(reply.trim()))),
                (None, why) => Err(why.unwrap_or(Unreadable::NoJson)),
            };
        };
        if good.iter().any(|other| other[self.wants()] != first[self.wants()]) {
            return Err(Unreadable::Contradiction);
        }
        let reason = cut_end(first["reasoning"].as_str().unwrap_or_default());
        Ok((self.value(&first[self.wants()])?, reason))
    }

    fn wants(&self) -> &'static str {
        if matches!(self.kind, Kind::Score(_)) { "score" } else { "verdict" }
    }

    fn value(&self, value: &Value) -> Result<Found, Unreadable> {
        match (self.kind, value) {
            (Kind::Score(scale), Value::Number(number)) => scale.within(number.as_f64().unwrap_or(f64::NAN)).map(Found::Score),
            (Kind::Verdict | Kind::Pair, Value::String(word)) => Ok(Found::Word(word.clone())),
            (_, other) => Err(Unreadable::Schema(format!("/{}: {other} is of the wrong type", self.wants()))),
        }
    }

    /// What stands in prose, where the schema says how. All matches must agree.
    fn in_text(&self, reply: &str) -> Option<Result<Found, Unreadable>> {
        let pattern = self.in_text.as_ref()?;
        let mut matches = pattern.captures_iter(reply).filter_map(|groups| groups.get(1)).map(|group| group.as_str());
        let first = matches.next()?;
        if matches.any(|other| other != first) {
            return Some(Err(Unreadable::Contradiction));
        }
        Some(match self.kind {
            Kind::Score(scale) => match first.parse() {
                Ok(score) => scale.within(score).map(Found::Score),
                Err(_) => Err(Unreadable::Schema(format!("`{}` is no number", cut_end(first)))),
            },
            kind if words_of(kind).contains(&first) => Ok(Found::Word(first.to_owned())),
            _ => Err(Unreadable::Schema(format!("`{}` is no verdict", cut_end(first)))),
        })
    }
}

impl Scale {
    fn within(self, score: f64) -> Result<f64, Unreadable> {
        let good = (self.low..=self.high).contains(&score);
        good.then_some(score).ok_or_else(|| Unreadable::Schema(format!("/score: {score} is not from {} to {}", self.low, self.high)))
    }
}

fn words_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pair => &["first", "second", "tie", "unsure"],
        _ => &["pass", "fail", "unsure"],
    }
}

/// The schema as the endpoint gets it. The order of the author's properties is kept, because models write in it.
fn sent(text: &str, wants: &str) -> Option<String> {
    let object = |fields: Vec<(String, String)>| {
        let fields: Vec<_> = fields.into_iter().map(|(name, raw)| format!("{}:{raw}", Value::from(name))).collect();
        format!("{{{}}}", fields.join(","))
    };
    let mut schema = Vec::new();
    for (name, raw) in json::fields(text).ok()? {
        let raw = match name.as_ref() {
            "properties" => {
                let mut properties = vec![("nonce".to_owned(), "{\"type\":\"string\"}".to_owned())];
                for (name, raw) in json::fields(raw).ok()? {
                    let fields = json::fields(raw).ok().filter(|_| name == wants);
                    let without = fields.map(|fields| {
                        let fields = fields.into_iter().filter(|(name, _)| name != IN_TEXT);
                        object(fields.map(|(name, raw)| (name.into_owned(), raw.to_owned())).collect())
                    });
                    properties.push((name.into_owned(), without.unwrap_or_else(|| raw.to_owned())));
                }
                object(properties)
            }
            "required" => {
                let names: Vec<_> = json::elements(raw).ok()?;
                format!("[\"nonce\",{}]", names.join(","))
            }
            _ => raw.to_owned(),
        };
        schema.push((name.into_owned(), raw));
    }
    Some(object(schema))
}

/// The objects of a reply that are not part of another, in order.
fn objects(reply: &str) -> Vec<Value> {
    let (mut found, mut at) = (Vec::new(), 0);
    for _ in 0..OBJECTS_MAX {
        let Some(next) = reply[at..].find('{') else { break };
        at += next;
        let mut stream = serde_json::Deserializer::from_str(&reply[at..]).into_iter::<Value>();
        match stream.next() {
            Some(Ok(object)) => {
                found.push(object);
                at += stream.byte_offset();
            }
            _ => at += 1,
        }
    }
    found
}

fn cut_end(text: &str) -> String {
    match text.char_indices().nth(REASON_MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORE: &str = r#"{"type":"object","additionalProperties":false,"required":["reasoning","score"],
        "properties":{"reasoning":{"type":"string"},"score":{"type":"integer","minimum":1,"maximum":5,"x-in-text":"\\[\\[(\\d+)\\]\\]"}}}"#;
    const VERDICT: &str = r#"{"type":"object","required":["reasoning","verdict"],
        "properties":{"reasoning":{"type":"string"},"verdict":{"enum":["pass","fail","unsure"]}}}"#;

    fn nonce() -> Nonce {
        Nonce::new("0123456789abcdef").expect("sixteen digits")
    }

    fn score() -> Kind {
        Kind::Score(Scale { low: 1.0, high: 5.0, threshold: 0.75 })
    }

    fn read(schema: &str, kind: Kind, reply: &str) -> String {
        let form = Form::new(schema, kind).expect("a good schema");
        match form.opinion(&reply.replace("NONCE", nonce().as_str()), &nonce()) {
            Ok(opinion) => format!("{} {:?} {}", opinion.pass, opinion.score, opinion.reason),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn a_reply_is_read_where_it_can_be_and_never_guessed() {
        for (reply, expected) in [
            (r#"{"nonce":"NONCE","reasoning":"r","score":5}"#, "true Some(1.0) r"),
            (r#"{"nonce":"NONCE","reasoning":"r","score":4}"#, "true Some(0.75) r"),
            (r#"{"nonce":"NONCE","reasoning":"r","score":3}"#, "false Some(0.5) r"),
            ("```json\n{\"nonce\":\"NONCE\",\"reasoning\":\"r\",\"score\":1}\n```", "false Some(0.0) r"),
            ("My view {so far}: {\"nonce\":\"NONCE\",\"reasoning\":\"a } b\",\"score\":1}. Done.", "false Some(0.0) a } b"),
            // Another object, a repetition, and one that says something else.
            (r#"{"score":5} {"nonce":"NONCE","reasoning":"r","score":1}"#, "false Some(0.0) r"),
            (r#"{"nonce":"NONCE","reasoning":"r","score":1} {"nonce":"NONCE","reasoning":"s","score":1}"#, "false Some(0.0) r"),
            (
                r#"{"nonce":"NONCE","reasoning":"r","score":1} {"nonce":"NONCE","reasoning":"s","score":5}"#,
                "the reply holds objects that contradict each other",
            ),
            // An object inside another is not the reply.
            (r#"{"reply":{"nonce":"NONCE","reasoning":"r","score":5}}"#, "the reply does not satisfy the schema: "),
            (r#"{"nonce":"x","reasoning":"r","score":5}"#, "the reply does not repeat the request's nonce"),
            (r#"{"reasoning":"r","score":5}"#, "the reply does not satisfy the schema: "),
            (
                r#"{"nonce":"x","reasoning":"r","score":5} {"nonce":"NONCE","reasoning":"r","score":9}"#,
                "the reply does not repeat the request's nonce",
            ),
            (r#"{"nonce":"NONCE","reasoning":"r","score":6}"#, "the reply does not satisfy the schema: "),
            (r#"{"nonce":"NONCE","reasoning":"r","score":"5"}"#, "the reply does not satisfy the schema: "),
            (r#"{"nonce":"NONCE","reasoning":"r","sco"#, "there is no JSON object in the reply"),
            ("I rate the response as a 5. NONCE", "there is no JSON object in the reply"),
            ("", "the reply is empty"),
            (" \n", "the reply is empty"),
            // The schema says how a score stands in prose.
            ("It is good: [[5]] (NONCE)", "true Some(1.0) It is good: [[5]] (0123456789abcdef)"),
            ("It is good: [[5]]", "the reply does not repeat the request's nonce"),
            ("First [[5]], then [[1]] NONCE", "the reply holds objects that contradict each other"),
            ("It is good: [[9]] NONCE", "the reply does not satisfy the schema: /score: 9 is not from 1 to 5"),
        ] {
            let said = read(SCORE, score(), reply);
            assert!(said == expected || expected.ends_with(": ") && said.starts_with(expected), "{reply}: {said}");
        }
        assert_eq!(read(VERDICT, Kind::Verdict, r#"{"nonce":"NONCE","reasoning":"r","verdict":"fail"}"#), "false None r");
        assert_eq!(read(VERDICT, Kind::Verdict, r#"{"nonce":"NONCE","reasoning":"r","verdict":"unsure"}"#), "the judge says that it is unsure");
        assert_eq!(read(VERDICT, Kind::Verdict, "fail [[5]] NONCE"), "there is no JSON object in the reply");
    }

    #[test]
    fn replies_are_bounded() {
        assert_eq!(read(VERDICT, Kind::Verdict, &"{".repeat(60_000)), "there is no JSON object in the reply");
        assert_eq!(read(VERDICT, Kind::Verdict, &" ".repeat(70_000)), "the reply is longer than 65536 bytes");
        let long = read(VERDICT, Kind::Verdict, &format!("{{\"nonce\":\"NONCE\",\"reasoning\":\"{}\",\"verdict\":\"pass\"}}", "ä".repeat(2_000)));
        assert_eq!(long.chars().count(), "true None ".len() + REASON_MAX_CHARS + 1);
    }

    #[test]
    fn the_schema_sent_asks_for_the_nonce_and_keeps_its_order() {
        let sent = Form::new(SCORE, score()).expect("a good schema").sent;
        assert_eq!(
            sent,
            r#"{"type":"object","additionalProperties":false,"required":["nonce","reasoning","score"],"properties":{"nonce":{"type":"string"},"reasoning":{"type":"string"},"score":{"type":"integer","minimum":1,"maximum":5}}}"#
        );
    }

    #[test]
    fn a_schema_that_cannot_be_read_from_is_refused_with_the_way_out() {
        for (schema, kind, expected) in [
            ("{", score(), "it is not JSON: "),
            ("[]", score(), "it is no schema of an object"),
            (r#"{"type":"object","properties":{"score":{}}}"#, score(), "it has no property `reasoning`"),
            (VERDICT, score(), "it has no property `score`"),
            (SCORE, Kind::Verdict, "it has no property `verdict`"),
            (
                r#"{"type":"object","properties":{"reasoning":{},"score":{}},"required":["score"]}"#,
                score(),
                "the property `reasoning` is not required",
            ),
            (
                r#"{"type":"object","properties":{"score":{},"reasoning":{}},"required":["score","reasoning"]}"#,
                score(),
                "`score` comes before `reasoning`",
            ),
            (
                r#"{"type":"object","properties":{"reasoning":{},"verdict":{"enum":["pass","maybe"]}},"required":["verdict","reasoning"]}"#,
                Kind::Verdict,
                "the verdict \"maybe\" has no meaning",
            ),
            (
                r#"{"type":"object","properties":{"reasoning":{},"verdict":{}},"required":["verdict","reasoning"]}"#,
                Kind::Verdict,
                "the property `verdict` has no `enum`",
            ),
            (
                r#"{"type":"object","properties":{"reasoning":{"type":"wrong"},"score":{}},"required":["score","reasoning"]}"#,
                score(),
                "compile schema",
            ),
            (
                r#"{"type":"object","properties":{"nonce":{},"reasoning":{},"score":{}},"required":["score","reasoning"]}"#,
                score(),
                "the property `nonce` is added",
            ),
            (
                r#"{"type":"object","properties":{"reasoning":{},"score":{"x-in-text":"\\d"}},"required":["score","reasoning"]}"#,
                score(),
                "`x-in-text` must have one group",
            ),
        ] {
            let (what, hint) = Form::new(schema, kind).expect_err("a mistake");
            assert!(what.starts_with(expected) && !hint.is_empty(), "{schema}: {what}");
        }
    }
}
