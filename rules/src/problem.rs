//! What is wrong with a rule file, for the person who wrote it; and Rhai's run-time errors in the same words.

use crate::api;
use crate::say::said_type;
use crate::syntax::explain_kind;
use model::label::Key;
use model::nearest::nearest;
use model::{Measure, Signal};
use rhai::{Dynamic, EvalAltResult, Position};
use std::fmt;
use std::path::PathBuf;

/// One mistake in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

/// A mistake before its place is known: raised inside the language's own functions, it travels through Rhai as an error value.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub message: String,
    pub hint: Option<String>,
    /// The word it is about, as written in the file.
    pub about: Option<String>,
    /// A budget was used up: what was run is as long as it may be, and would have gone on.
    pub exhausted: bool,
}

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, about: None, exhausted: false }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// It says that a budget was used up.
    pub fn exhausted(mut self) -> Self {
        self.exhausted = true;
        self
    }

    pub fn about(mut self, word: impl Into<String>) -> Self {
        self.about = Some(word.into());
        self
    }
}

impl From<Refusal> for Box<EvalAltResult> {
    fn from(refusal: Refusal) -> Self {
        EvalAltResult::ErrorRuntime(Dynamic::from(refusal), Position::NONE).into()
    }
}

pub(crate) const PURE: &str = "rules are pure: there is no eval, no module, no clock and no sleep; a file is complete in itself";

/// A run-time error as message, hint and place, without Rhai's own place in the text.
pub(crate) fn explain(error: &EvalAltResult) -> (Refusal, Position) {
    let inner = error.unwrap_inner();
    let refusal = match inner {
        EvalAltResult::ErrorRuntime(value, _) => match value.clone().try_cast::<Refusal>() {
            Some(refusal) => refusal,
            None => Refusal::new(format!("the script threw: {value}")),
        },
        EvalAltResult::ErrorParsing(kind, _) => explain_kind(kind, "", ""),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => unknown_function(signature),
        EvalAltResult::ErrorVariableNotFound(name, _) => unknown_variable(name, ""),
        EvalAltResult::ErrorPropertyNotFound(name, _) => Refusal::new(format!("there is no `{name}` here"))
            .hint(format!("w has the rule's watches, `group` and `now`; a watch has {}", api::parts_of_a_watch().join(", "))),
        EvalAltResult::ErrorTooManyOperations(_) => {
            let refusal = Refusal::new("the script used up its budget of operations").exhausted();
            refusal.hint("a loop may not end; scripts are counted in operations, not in time")
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            Refusal::new("functions call each other too deep").exhausted().hint("a function may call itself without end")
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => {
            Refusal::new(format!("{} is over the limit", lower(what))).exhausted().hint("the limits are at the end of the reference")
        }
        EvalAltResult::ErrorArrayBounds(len, at, _) => {
            Refusal::new(format!("there is no element {at} in an array of {len}")).hint("ask for its len() first, or is_empty()")
        }
        EvalAltResult::ErrorTooManyVariables(_) => {
            Refusal::new("too many variables at once").exhausted().hint("the limits are at the end of the reference")
        }
        EvalAltResult::ErrorMismatchOutputType(expected, actual, _) => Refusal::new(format!("expected {expected}, got {actual}")),
        other => Refusal::new(lower(bare(other).trim())),
    };
    (refusal, inner.position())
}

fn unknown_function(signature: &str) -> Refusal {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ""));
    if !name.contains(char::is_alphabetic) {
        let types: Vec<_> = types.trim_end_matches(')').split(", ").map(said_type).collect();
        let refusal = Refusal::new(format!("`{name}` does not go with {}", types.join(" and ")));
        return refusal.hint(if types.contains(&"()") {
            "what is missing is (): ask first, as in if w.value.value != () { … }"
        } else {
            "compare and reckon with values of one kind"
        });
    }
    if let Some(usage) = api::usage(name) {
        return Refusal::new(format!("`{name}` is not written like this here")).hint(format!("it is {usage}")).about(name);
    }
    if let Some(refusal) = not_here(name) {
        return refusal;
    }
    let refusal = Refusal::new(format!("there is no function `{name}` for these values")).about(name);
    match nearest(name, api::functions().map(|function| function.name)) {
        Some(near) => refusal.hint(format!("did you mean `{near}`?")),
        None => refusal.hint("functions are named in the rule language's reference, and in https://rhai.rs/book"),
    }
}

/// What is no function here under any circumstances, but is one elsewhere.
pub(crate) fn not_here(name: &str) -> Option<Refusal> {
    let refusal = Refusal::new(format!("there is no function `{name}`")).about(name);
    Some(refusal.hint(match name {
        "timestamp" | "now" => "rules have no clock: w.now is the time that check looks at, and log.time that of a call",
        "sleep" | "exit" | "parse_json" | "eval" => PURE,
        "includes" => "it is written contains(x), or x in …",
        "startsWith" | "startswith" => "it is written starts_with(text)",
        "endsWith" | "endswith" => "it is written ends_with(text)",
        "toLowerCase" | "lower" | "to_lowercase" => "it is written to_lower()",
        "toUpperCase" | "upper" | "to_uppercase" => "it is written to_upper()",
        "toString" | "str" => "it is written to_string(), or `${x}` in a text in backticks",
        "toFixed" | "format" => "numbers are shown by percent(x), ms(x), usd(x) and number(x)",
        "length" | "size" => "it is written len()",
        "forEach" => "it is written for x in … { }",
        "regex" | "test" | "match" => "it is written matches(text, pattern)",
        "any" => "it is written some(|x| …)",
        _ => return None,
    }))
}

/// `before`: the text of the file up to the name, or nothing.
pub(crate) fn unknown_variable(name: &str, before: &str) -> Refusal {
    let refusal = Refusal::new(format!("`{name}` is not known here"));
    let quoted = Signal::parse(name).is_some() || Measure::parse(name).is_some() || Key::known().any(|key| key == name);
    match name {
        "call" => refusal.hint("`call` is a word of the language itself; the variable is `log`"),
        "log" => refusal.hint("fn check sees windows and no call: ask in fn signals(log), and watch the signal"),
        "None" | "undefined" | "nothing" => refusal.hint("nothing is written `()`, as in log.user_id != ()"),
        "True" | "False" => refusal.hint(format!("it is written {}", name.to_lowercase())),
        _ if quoted => refusal.hint(format!("a text stands in quotes: \"{name}\"")),
        _ if before.contains(&format!("let {name} ")) => {
            refusal.hint(format!("a function does not see the file's `let`s: write const {name} = … there"))
        }
        _ => refusal.hint("a function sees its own argument and the file's `const`s; a text stands in quotes"),
    }
}

/// Rhai's text without the place that it appends.
fn bare(error: &EvalAltResult) -> String {
    let text = error.to_string();
    match text.rfind(" (line ") {
        Some(at) if text.ends_with(')') => text[..at].to_owned(),
        _ => text,
    }
}

/// Our messages begin in lower case.
pub(crate) fn lower(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}
