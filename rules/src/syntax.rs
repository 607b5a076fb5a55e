//! Syntax errors in words for the person who wrote the file: what is wrong, and what was most likely meant.
//!
//! Rhai says what it expected; most mistakes are habits of another language, and show in the text beside the error.

use crate::problem::{PURE, Refusal, lower, unknown_variable};
use rhai::{LexError, ParseError, ParseErrorType, Position};

const SYNTAX: &str = "the syntax is that of Rhai: https://rhai.rs/book";

/// An error in `text`, and its place.
pub(crate) fn explain(error: &ParseError, text: &str) -> (Refusal, Position) {
    let at = offset(text, error.1);
    (explain_kind(&error.0, &text[..at], &text[at..]), error.1)
}

/// An error between the two parts of a text, which may be unknown and empty.
pub(crate) fn explain_kind(kind: &ParseErrorType, before: &str, after: &str) -> Refusal {
    match kind {
        ParseErrorType::VariableUndefined(name) => unknown_variable(name, before),
        ParseErrorType::UnexpectedEOF => Refusal::new("the file ends in the middle of something").hint("a bracket or a brace is not closed"),
        ParseErrorType::ExprTooDeep => Refusal::new("an expression is nested too deep").hint("give parts of it a name with `let`"),
        ParseErrorType::TooManyFunctions => Refusal::new("too many functions in one file").hint("closures count, too; leave out what no rule needs"),
        ParseErrorType::MissingToken(token, why) => {
            let refusal = Refusal::new(format!("expected `{}` {}", token.trim(), quoted(why)));
            refusal.hint(missing(token, before.trim_end(), after.trim_start()))
        }
        ParseErrorType::Reserved(word) => reserved(word, before, after),
        ParseErrorType::FnDuplicatedDefinition(name, _) => Refusal::new(format!("fn {name} is defined twice")).hint("make one of the two"),
        ParseErrorType::DuplicatedProperty(name) => Refusal::new(format!("`{name}` stands twice in one map")).hint("keep one of the two"),
        ParseErrorType::AssignmentToConstant(name) if !name.is_empty() => {
            Refusal::new(format!("`{name}` is a constant")).hint("copy it to a variable first, as in let n = …;")
        }
        ParseErrorType::BadInput(error) => unreadable(error),
        other => Refusal::new(quoted(&lower(&other.to_string()))).hint(SYNTAX),
    }
}

fn missing(token: &str, before: &str, after: &str) -> &'static str {
    let word_before = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let word_after = after.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    match token.trim() {
        ";" if ["function", "func", "def", "fun"].contains(&word_before) => "a function begins with `fn`, as in fn check(w) { … }",
        ";" if ["and", "or", "not"].iter().any(|word| [word_before, word_after].contains(word)) => {
            "`and` is written `&&`, `or` is `||`, and `not` is `!`"
        }
        ";" if ["elif", "elsif", "elseif"].contains(&word_after) => "it is written `else if`",
        ";" if after.starts_with(':') => "a map begins with `#{`, as in rule(#{ name: … })",
        ";" => "end the statement before it with `;`",
        "," => "a comma is missing before it, or a bracket further up is not closed",
        ")" | "]" | "}" => "a bracket or a brace further up is not closed",
        _ => SYNTAX,
    }
}

fn reserved(word: &str, before: &str, after: &str) -> Refusal {
    let refusal = Refusal::new(format!("`{word}` is a word that the language keeps for itself"));
    match word {
        "call" => refusal.hint("the variable is `log`, as in fn applies(log)"),
        "eval" | "import" | "export" => refusal.hint(PURE),
        "#" => Refusal::new("`#` alone is nothing here").hint("a comment begins with `//`, and a map with `#{`"),
        _ if after.trim_start_matches(word).trim_start().starts_with(':') => refusal.hint(format!("put it into quotes: \"{word}\": …")),
        _ if before.ends_with('.') => refusal.hint(format!("ask for it as [\"{word}\"] instead of .{word}")),
        "null" | "nil" => refusal.hint("nothing is written `()`, as in log.user_id != ()"),
        "var" | "static" => refusal.hint("a variable begins with `let`, a constant of the file with `const`"),
        "match" | "case" => refusal.hint("it is written switch x { 1 => …, _ => … }"),
        _ => refusal.hint("use another name"),
    }
}

fn unreadable(error: &LexError) -> Refusal {
    match error {
        LexError::UnterminatedString => {
            Refusal::new("a text is not closed").hint("close it with the quote that it began with; a text of several lines stands in backticks")
        }
        LexError::MalformedChar(text) => {
            Refusal::new(format!("`'{text}'` is no single character")).hint(format!("texts stand in double quotes: \"{text}\""))
        }
        LexError::MalformedEscapeSequence(escape) => {
            let refusal = Refusal::new(format!("`{escape}` means nothing in quotes"));
            refusal.hint("in quotes a backslash is written twice; in backticks once, as in `\\d+`")
        }
        LexError::ImproperSymbol(word, _) if word.contains(char::is_alphabetic) => reserved(word, "", ""),
        LexError::ImproperSymbol(symbol, _) if symbol == "=" => Refusal::new("`=` gives a value and does not compare").hint("write `==`"),
        LexError::ImproperSymbol(symbol, why) => {
            let meant = why.split("Should it be ").nth(1).map(|meant| meant.trim_start_matches("simply ").trim_matches(['\'', '?']));
            let refusal = Refusal::new(format!("`{symbol}` means nothing here"));
            match meant {
                Some(meant) => refusal.hint(format!("write `{meant}`")),
                None => refusal.hint(SYNTAX),
            }
        }
        LexError::UnexpectedInput(text) if text.contains(['“', '”', '„', '‘', '’']) => {
            Refusal::new(format!("`{text}` is no quote of this language")).hint("write plain quotes: \"…\"")
        }
        other => Refusal::new(quoted(&lower(&other.to_string()))).hint(SYNTAX),
    }
}

/// What Rhai puts in single quotes, in backticks.
fn quoted(text: &str) -> String {
    text.replace('\'', "`")
}

/// Where a place is in `text`, in bytes.
fn offset(text: &str, place: Position) -> usize {
    let (Some(line), column) = (place.line(), place.position().unwrap_or(1)) else { return text.len() };
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    rest.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| start + at)
}
