//! A judge's prompt: a template, compiled once, and filled in for one call.
//!
//! No judged text ever passes through the template engine. What the template prints is a mark, and marks become fenced texts after the engine is
//! done; so no prompt can forget a fence, no filter can open one, and template syntax inside a text is text. Includes, macros, filters and
//! functions are not compiled in: a prompt is what its one file says.

use super::fence::{Nonce, fenced};
use super::seen::{LABELS, Seen, Text};
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use serde_json::Value as Json;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Steps of one rendering, and bytes of what it writes at 64 a step or so: ten times what forty messages and a hundred facts take.
const FUEL: u64 = 100_000;

/// Longer prompts (about 50,000 tokens) are not asked: they cost more than the call they judge.
pub const PROMPT_MAX_CHARS: usize = 200_000;

/// Marks stand between these two characters of a private area, which a template may not contain.
const MARK: [char; 2] = ['\u{f0000}', '\u{f0001}'];

/// What a template may name. `first` and `second` are for pairs only.
pub(crate) const VARIABLES: [&str; 12] =
    ["log", "question", "context", "retrieved", "messages", "answer", "earlier_answers", "json", "schema", "properties", "first", "second"];

const LOG_EXTRA: [&str; 2] = ["kind", "finish"];

#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    environment: Environment<'static>,
}

/// Why a call cannot be put into the prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unaskable {
    /// The judge `needs` something that the call has not logged.
    #[error("the call has no {0}")]
    Missing(&'static str),
    #[error("the judge judges one answer at a time")]
    Single,
    #[error("the prompt would be longer than {PROMPT_MAX_CHARS} characters")]
    TooLong,
    #[error("fill in the prompt at line {line}: {reason}")]
    Template { line: usize, reason: String },
}

/// A mistake in a template: its line, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub line: Option<usize>,
    pub reason: String,
    /// The name that is not known, where that is it, and what it could have been.
    pub unknown: Option<(String, Vec<&'static str>)>,
}

impl Prompt {
    /// Compiles a template and looks at the names in it.
    pub fn new(text: &str) -> Result<Self, Mistake> {
        let mistake = |line, reason: String| Mistake { line, reason, unknown: None };
        if let Some(line) = text.lines().position(|line| line.contains(MARK)) {
            return Err(mistake(Some(line + 1), "the characters U+F0000 and U+F0001 are taken".to_owned()));
        }
        let mut environment = Environment::empty();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME.to_owned(), text.to_owned()).map_err(|error| mistake(error.line(), said(&error)))?;
        let prompt = Self { environment };
        match prompt.unknown() {
            None => Ok(prompt),
            Some((name, known)) => {
                let last = name.rsplit('.').next().unwrap_or(&name);
                let line = text.lines().position(|line| line.contains(last)).map(|line| line + 1);
                Err(Mistake { line, reason: format!("there is no `{name}`"), unknown: Some((name, known)) })
            }
        }
    }

    fn template(&self) -> minijinja::Template<'_, '_> {
        self.environment.get_template(NAME).expect("the prompt was compiled when it was made")
    }

    /// The first name, in the alphabet, that no call will ever have.
    fn unknown(&self) -> Option<(String, Vec<&'static str>)> {
        let mut names: Vec<_> = self.template().undeclared_variables(true).into_iter().collect();
        names.sort();
        names.into_iter().find_map(|name| {
            let mut parts = name.split('.');
            let (root, field) = (parts.next().unwrap_or_default(), parts.next());
            if !VARIABLES.contains(&root) {
                return Some((root.to_owned(), VARIABLES.to_vec()));
            }
            let known = match root {
                "log" => LABELS.into_iter().chain(LOG_EXTRA).collect(),
                "json" | "properties" => return None,
                "question" | "answer" | "schema" | "first" | "second" => vec!["role", "content", "is"],
                // Lists have numbers and no names.
                _ => vec![],
            };
            let field = field.filter(|field| !known.contains(field) && field.parse::<usize>().is_err())?;
            Some((format!("{root}.{field}"), known))
        })
    }

    /// Whether the template names this variable.
    pub fn uses(&self, name: &str) -> bool {
        self.template().undeclared_variables(false).contains(name)
    }

    /// Fills in one call, or of a pair both answers; `pair` is in the order in which they are shown.
    pub fn fill(&self, seen: Seen, pair: Option<[Text; 2]>, nonce: &Nonce) -> Result<String, Unaskable> {
        let sheet = Sheet::default();
        let context = Value::from_object(Context { seen, pair, sheet: sheet.clone() });
        let rendered = self.template().render(context).map_err(|error| template_error(&error))?;
        sheet.lay(&rendered, nonce)
    }
}

const NAME: &str = "prompt.md";

fn template_error(error: &Error) -> Unaskable {
    Unaskable::Template { line: error.line().unwrap_or(1), reason: said(error) }
}

/// The engine's words for what is wrong, without the place, which we say ourselves.
fn said(error: &Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => "it takes more steps than a prompt may; a loop may be inside another".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    }
}

/// The texts that a rendering has printed so far; its marks are their numbers.
#[derive(Clone, Default)]
struct Sheet(Arc<Mutex<Vec<Arc<Text>>>>);

impl Sheet {
    fn mark(&self, text: &Arc<Text>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.push(text.clone());
        write!(f, "{}{}{}", MARK[0], texts.len() - 1, MARK[1])
    }

    /// The rendering with fenced texts in the place of marks.
    fn lay(&self, rendered: &str, nonce: &Nonce) -> Result<String, Unaskable> {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let apart = || Unaskable::Template { line: 1, reason: "it takes a text apart; a text is printed whole, as in {{ answer }}".to_owned() };
        let (mut laid, mut rest) = (String::with_capacity(rendered.len()), rendered);
        while let Some((before, after)) = rest.split_once(MARK[0]) {
            let (number, after) = after.split_once(MARK[1]).filter(|_| !before.contains(MARK[1])).ok_or_else(apart)?;
            let text = number.parse::<usize>().ok().and_then(|number| texts.get(number)).ok_or_else(apart)?;
            laid.push_str(before);
            laid.push_str(&fenced(&text.text, nonce));
            rest = after;
            // By bytes, which are no fewer than characters: this only keeps the text short while it grows.
            if laid.len() > PROMPT_MAX_CHARS * 4 {
                return Err(Unaskable::TooLong);
            }
        }
        laid.push_str(rest);
        if rest.contains(MARK[1]) {
            return Err(apart());
        }
        if laid.chars().count() > PROMPT_MAX_CHARS { Err(Unaskable::TooLong) } else { Ok(laid) }
    }
}

/// Everything a template can name.
struct Context {
    seen: Seen,
    pair: Option<[Text; 2]>,
    sheet: Sheet,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call")
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let one = |text: Option<&Text>| text.map_or_else(|| Value::from_object(Nothing), |text| Printed::value(text.clone(), &self.sheet));
        let list = |texts: &[Text]| Value::from_object(List { texts: texts.to_vec(), sheet: self.sheet.clone() });
        Some(match key.as_str()? {
            "log" => Value::from_object(Log(self.clone())),
            "question" => one(self.seen.question.as_ref()),
            "context" => list(&self.seen.context),
            "retrieved" => list(&self.seen.retrieved),
            "messages" => list(&self.seen.messages),
            "answer" => one(self.seen.answer.as_ref()),
            "earlier_answers" => list(&self.seen.earlier_answers),
            "json" => self.seen.json.as_ref().map_or_else(|| Value::from_object(Nothing), |json| Node::value(json, &self.sheet)),
            "schema" => one(self.seen.schema.as_ref()),
            "properties" => {
                let properties = self.seen.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                Node::value(&Json::Object(properties), &self.sheet)
            }
            "first" => one(self.pair.as_ref().map(|pair| &pair[0])),
            "second" => one(self.pair.as_ref().map(|pair| &pair[1])),
            _ => return None,
        })
    }
}

/// `log`: the call's labels. `kind` and `finish` are our own words and stand without a fence.
#[derive(Debug)]
struct Log(Arc<Context>);

impl Object for Log {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "kind" => Some(Value::from(self.0.seen.kind)),
            "finish" => Some(Value::from(self.0.seen.finish)),
            name => {
                let (_, text) = self.0.seen.labels.iter().find(|(label, _)| *label == name)?;
                Some(Printed::value(text.clone(), &self.0.sheet))
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(print log.model, log.stage and so on)")
    }
}

/// A text of the call. Printing it leaves a mark; asking for more than its role, or whether it is some word, gets nothing.
struct Printed {
    text: Arc<Text>,
    sheet: Sheet,
}

impl Printed {
    fn value(text: Text, sheet: &Sheet) -> Value {
        Value::from_object(Self { text: Arc::new(text), sheet: sheet.clone() })
    }
}

/// As a list in a list is printed.
impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sheet.mark(&self.text, f)
    }
}

impl Object for Printed {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "role" => Some(Value::from(self.text.role)),
            "content" => Some(Value::from_object(Self { text: self.text.clone(), sheet: self.sheet.clone() })),
            _ => None,
        }
    }

    /// `x.is("word")`: the only question that a template can ask about a text.
    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match (method, args) {
            ("is", [word]) => Ok(Value::from(word.as_str().is_some_and(|word| word == self.text.text))),
            _ => Err(Error::new(ErrorKind::UnknownMethod, "a text has .role, .content and .is(\"word\")")),
        }
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.text.text.trim().is_empty()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sheet.mark(&self.text, f)
    }
}

/// Texts one after the other. Printed whole, each has its role in front of its fence.
struct List {
    texts: Vec<Text>,
    sheet: Sheet,
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.texts.is_empty() {
            return f.write_str(NOTHING);
        }
        for (index, text) in self.texts.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n" };
            writeln!(f, "{between}{}:", text.role)?;
            self.sheet.mark(&Arc::new(text.clone()), f)?;
        }
        Ok(())
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Printed::value(self.texts.get(key.as_usize()?)?.clone(), &self.sheet))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.texts.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A list or an object of the parsed answer, or of the properties. What it does not have is [`Nothing`], so that an answer of another form than
/// the template expects prints as such and stops nothing.
struct Node {
    json: Json,
    sheet: Sheet,
}

impl Node {
    fn value(json: &Json, sheet: &Sheet) -> Value {
        match json {
            Json::Null => Value::from_object(Nothing),
            Json::Bool(answer) => Value::from(*answer),
            // A number is no text: it cannot say anything to anyone.
            Json::Number(number) => number.as_i64().map_or_else(|| Value::from(number.as_f64().unwrap_or(f64::NAN)), Value::from),
            Json::String(_) | Json::Array(_) | Json::Object(_) => Value::from_object(Self { json: json.clone(), sheet: sheet.clone() }),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match &self.json {
            Json::String(text) => text.clone(),
            json => format!("{json:#}"),
        };
        let text = Text { role: "json", text: super::fence::cut(&shown, super::fence::TEXT_MAX_CHARS) };
        self.sheet.mark(&Arc::new(text), f)
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let inner = match (&self.json, key.as_str(), key.as_usize()) {
            (Json::Object(object), Some(name), _) => object.get(name),
            (Json::Array(list), _, Some(index)) => list.get(index),
            _ => None,
        };
        Some(inner.map_or_else(|| Value::from_object(Nothing), |inner| Self::value(inner, &self.sheet)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.json.as_array().map_or(0, Vec::len))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        match (method, args) {
            ("is", [word]) => Ok(Value::from(word.as_str().is_some_and(|word| self.json.as_str() == Some(word)))),
            _ => Err(Error::new(ErrorKind::UnknownMethod, "a value has fields and .is(\"word\")")),
        }
    }

    fn is_true(self: &Arc<Self>) -> bool {
        match &self.json {
            Json::String(text) => !text.trim().is_empty(),
            Json::Array(list) => !list.is_empty(),
            Json::Object(object) => !object.is_empty(),
            _ => true,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the call does not have: false, empty, and printed as such.
#[derive(Debug)]
struct Nothing;

const NOTHING: &str = "(none)";

impl Object for Nothing {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_object(Self))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, _: &str, _: &[Value]) -> Result<Value, Error> {
        Ok(Value::from(false))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Empty
    }

    fn is_true(self: &Arc<Self>) -> bool {
        false
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, fields: &str) -> String {
        let log = format!("{{\"id\":\"a\",\"time\":1700000000000,\"model\":\"gpt-4o\",{fields}}}");
        let seen = Seen::of(&model::parse(log.as_bytes()).expect("a good log"));
        let nonce = Nonce::new("0123456789abcdef").expect("sixteen digits");
        match Prompt::new(template) {
            Ok(prompt) => prompt.fill(seen, None, &nonce).unwrap_or_else(|why| why.to_string()).replace("0123456789abcdef", "#"),
            Err(mistake) => format!("{:?}: {} {:?}", mistake.line, mistake.reason, mistake.unknown.map(|(name, _)| name)),
        }
    }

    #[test]
    fn every_text_stands_between_fences_however_it_is_printed() {
        const FENCED: &str = "<<data #\nhi {{ x }}\ndata #>>";
        let call = r#""input":"hi {{ x }}","output":"{\"a\":[\"hi {{ x }}\"]}""#;
        for template in [
            "{{ question }}",
            "{{ question.content }}",
            "{% for message in messages %}{{ message }}{% endfor %}",
            "{% for message in messages %}{{ message.content }}{% endfor %}",
            "{{ messages[0] }}",
            "{{ messages[-1] }}",
            "{% set x = question %}{{ x }}",
            "{{ '' ~ question }}",
            "{{ question ~ '' }}",
            "{{ json.a[0] }}",
            "{% for x in json.a %}{{ x }}{% endfor %}",
            "{% for x in [question] %}{{ x }}{% endfor %}",
        ] {
            assert_eq!(fill(template, call), FENCED, "{template}");
        }
        assert_eq!(fill("{{ messages }}", call), format!("user:\n{FENCED}"));
        assert_eq!(fill("{{ [question] }}", call), format!("[{FENCED}]"));
        assert_eq!(fill("{{ json }}", r#""output":"{\"a\":1}""#), "<<data #\n{\n  \"a\": 1\n}\ndata #>>");
        assert_eq!(fill("{{ log.model }} {{ log.kind }} {{ log.finish }}", r#""finish_reason":"end_turn""#), "<<data #\ngpt-4o\ndata #>> llm stop");
    }

    #[test]
    fn a_template_can_ask_whether_something_is_there_and_which_word_it_is() {
        let call = r#""input":[{"role":"user","content":"q"}],"stage":"synthesis","output":"{\"n\":2,\"ok\":true}""#;
        for (template, expected) in [
            ("{% if context %}yes{% else %}no{% endif %}", "no"),
            ("{% if question %}yes{% endif %}", "yes"),
            ("{% if log.stage.is('synthesis') %}yes{% endif %}", "yes"),
            ("{% if log.service %}yes{% else %}no{% endif %}", "no"),
            ("{% if messages[0].role == 'user' %}yes{% endif %}", "yes"),
            ("{{ context }} {{ schema }} {{ json.x.y[3].z }}", "(none) (none) (none)"),
            ("{% for x in json.n_of_them %}{{ x }}{% endfor %}.", "."),
            ("{{ json.n }} {{ json.ok }}", "2 True"),
            ("{% if properties.tenant.is('a') %}yes{% else %}no{% endif %}", "no"),
        ] {
            assert_eq!(fill(template, call), expected, "{template}");
        }
        assert_eq!(fill("{% if properties.tenant.is('a') %}yes{% endif %}", r#""tenant":"a""#), "yes");
    }

    #[test]
    fn mistakes_are_found_when_the_template_is_read() {
        for (template, expected) in [
            ("x\n{{ quesion }}", "Some(2): there is no `quesion` Some(\"quesion\")"),
            ("{{ log.modle }}", "Some(1): there is no `log.modle` Some(\"log.modle\")"),
            ("{{ messages.content }}", "Some(1): there is no `messages.content` Some(\"messages.content\")"),
            ("\u{f0000}", "Some(1): the characters U+F0000 and U+F0001 are taken None"),
        ] {
            assert_eq!(fill(template, "\"output\":\"\""), expected, "{template}");
        }
        for template in
            ["{{ question", "{% include 'x' %}", "{% macro f() %}{% endmacro %}", "{% extends 'x' %}", "{{ question | upper }}", "{% if %}"]
        {
            let said = fill(template, "\"input\":\"q\"");
            assert!(said.starts_with("Some(1): ") || said.starts_with("fill in the prompt at line 1"), "{template}: {said}");
        }
    }

    #[test]
    fn a_prompt_is_bounded_in_steps_and_in_length_and_prints_texts_whole() {
        let list = format!("\"output\":\"[{}]\"", vec!["1"; 2_000].join(","));
        let nested = "{% for a in json %}{% for b in json %}{% for c in json %}x{% endfor %}{% endfor %}{% endfor %}";
        assert_eq!(fill(nested, &list), "fill in the prompt at line 1: it takes more steps than a prompt may; a loop may be inside another");
        for taken_apart in ["{{ ('' ~ answer)[1:] }}", "{{ ('' ~ answer)[:1] }}", "{{ ('' ~ answer)[1:] }}{{ answer }}"] {
            let said = fill(taken_apart, "\"output\":\"x\"");
            assert!(said.contains("it takes a text apart"), "{taken_apart}: {said}");
        }
        let long = format!("\"output\":\"{}\"", "x".repeat(30_000));
        let often = "{{ answer }}".repeat(10);
        assert_eq!(fill(&often, &long), Unaskable::TooLong.to_string());
    }
}
