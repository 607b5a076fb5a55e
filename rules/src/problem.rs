//! What is wrong with a rule file, for the person who wrote it; and Rhai's errors in the same words.

use crate::nearest;
use rhai::{Dynamic, EvalAltResult, LexError, ParseError, ParseErrorType, Position};
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
}

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, about: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
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

/// The language's own functions, with how they are written.
const USAGE: [(&str, &str); 13] = [
    ("rule", "rule(#{ name: \"…\", watch: … })"),
    ("rate", "rate(signal, window), as in rate(\"fallback\", \"5m\")"),
    ("quantile", "quantile(measure, q, window), as in quantile(\"latency_ms\", 0.95, \"10m\")"),
    ("mean", "mean(measure, window), as in mean(\"cost_usd\", \"1h\")"),
    ("volume", "volume(window), as in volume(\"5m\")"),
    ("expect", "a watch's .expect(low, high), as in rate(\"retry\", \"5m\").expect(0.0, 0.1)"),
    ("only", "a watch's .only(#{ key: value }), as in rate(\"retry\", \"5m\").only(#{ stage: \"extraction\" })"),
    ("at_least", "a watch's .at_least(calls), as in rate(\"retry\", \"5m\").at_least(50)"),
    ("fire", "fire(text) or fire(#{ summary: text, severity: \"critical\" }), in fn check(w)"),
    ("percent", "percent(number)"),
    ("ms", "ms(number)"),
    ("usd", "usd(number)"),
    ("to_array", "to_array() of a part of log.json"),
];

const PURE: &str = "rules are pure: there is no eval, no module, no clock and no sleep; a file is complete in itself";

/// A run-time error as message, hint and place, without Rhai's own place in the text.
pub(crate) fn explain(error: &EvalAltResult) -> (Refusal, Position) {
    let inner = error.unwrap_inner();
    let refusal = match inner {
        EvalAltResult::ErrorRuntime(value, _) => match value.clone().try_cast::<Refusal>() {
            Some(refusal) => refusal,
            None => Refusal::new(format!("the script threw: {value}")),
        },
        EvalAltResult::ErrorParsing(kind, _) => explain_parsing(kind),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => unknown_function(signature),
        EvalAltResult::ErrorVariableNotFound(name, _) => unknown_variable(name),
        EvalAltResult::ErrorPropertyNotFound(name, _) => Refusal::new(format!("there is no `{name}` here"))
            .hint("w has the rule's watches and `group`; a watch has value, calls, bad, low, high, expected and drifted"),
        EvalAltResult::ErrorTooManyOperations(_) => {
            Refusal::new("the script used up its budget of operations").hint("a loop may not end; scripts are counted in operations, not in time")
        }
        EvalAltResult::ErrorStackOverflow(_) => Refusal::new("functions call each other too deep").hint("a function may call itself without end"),
        EvalAltResult::ErrorDataTooLarge(what, _) => Refusal::new(format!("{} is over the limit", lower(what))),
        EvalAltResult::ErrorTooManyVariables(_) => Refusal::new("too many variables at once"),
        EvalAltResult::ErrorMismatchOutputType(expected, actual, _) => Refusal::new(format!("expected {expected}, got {actual}")),
        other => Refusal::new(lower(bare(other).trim())),
    };
    (refusal, inner.position())
}

/// A syntax error in our words.
pub(crate) fn explain_syntax(error: &ParseError) -> (Refusal, Position) {
    (explain_parsing(&error.0), error.1)
}

fn explain_parsing(kind: &ParseErrorType) -> Refusal {
    let refusal = match kind {
        ParseErrorType::VariableUndefined(name) => return unknown_variable(name),
        ParseErrorType::UnexpectedEOF => Refusal::new("the file ends in the middle of something").hint("a bracket or a brace may not be closed"),
        ParseErrorType::ExprTooDeep => Refusal::new("an expression is nested too deep").hint("give parts of it a name with `let`"),
        ParseErrorType::TooManyFunctions => Refusal::new("too many functions in one file"),
        other => Refusal::new(lower(&other.to_string())),
    };
    let word = match kind {
        ParseErrorType::Reserved(word) => word.as_str(),
        ParseErrorType::BadInput(LexError::ImproperSymbol(word, _)) => word.as_str(),
        _ => return refusal,
    };
    match word {
        "call" => refusal.hint("`call` is a word of the language itself; the variable is `log`"),
        "eval" | "import" | "export" => refusal.hint(PURE),
        _ => refusal,
    }
}

fn unknown_function(signature: &str) -> Refusal {
    let name = signature.split([' ', '(']).next().unwrap_or(signature);
    if let Some((_, usage)) = USAGE.iter().find(|(known, _)| *known == name) {
        return Refusal::new(format!("`{name}` is not written like this here")).hint(format!("it is {usage}")).about(name);
    }
    let refusal = Refusal::new(format!("there is no function `{name}` for these values")).about(name);
    if ["sleep", "timestamp", "exit", "parse_json"].contains(&name) {
        return refusal.hint(PURE);
    }
    match nearest(name, USAGE.iter().map(|(known, _)| *known)) {
        Some(near) => refusal.hint(format!("did you mean `{near}`?")),
        None => refusal,
    }
}

fn unknown_variable(name: &str) -> Refusal {
    let refusal = Refusal::new(format!("`{name}` is not known here"));
    match name {
        "call" => refusal.hint("`call` is a word of the language itself; the variable is `log`"),
        _ => refusal.hint("a function sees its own argument and the file's `const`s"),
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
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}
