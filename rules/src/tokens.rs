//! A rule file as a row of tokens with their places: enough to recognise a few shapes of code by sight, and no more.
//!
//! [`crate::words`] finds a word for an error to point at; this keeps what stands between the words as well. What it does not know, it passes as
//! symbols of one character, so whoever looks for a shape finds nothing rather than something that is not there.

use crate::words::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Name,
    Number,
    /// A string, without its quotes; a template string is one token, whatever it calls.
    Text,
    Symbol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    pub kind: Kind,
    pub text: &'t str,
    pub place: Place,
    /// First byte, and the one after the last; quotes included.
    pub from: usize,
    pub to: usize,
}

/// The longer ones first.
const SYMBOLS: [&str; 16] = ["#{", "&&", "||", ">=", "<=", "==", "!=", "::", "=>", "?.", "..", "+=", "-=", "*=", "/=", "??"];

/// Comments are left out. Broken files end too.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut place) = (0, (1, 1));
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, kind) = if next.is_alphabetic() || next == '_' {
            (rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()), Some(Kind::Name))
        } else if next.is_ascii_digit() {
            (number(rest), Some(Kind::Number))
        } else if matches!(next, '"' | '`' | '\'') {
            (string(rest, next), Some(Kind::Text))
        } else if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (comment(rest), None)
        } else if next.is_whitespace() {
            (next.len_utf8(), None)
        } else {
            (SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)).map_or(next.len_utf8(), |symbol| symbol.len()), Some(Kind::Symbol))
        };
        let whole = &rest[..length];
        if let Some(kind) = kind {
            let inside = match kind {
                Kind::Text => whole[1..].strip_suffix(next).unwrap_or(&whole[1..]),
                _ => whole,
            };
            tokens.push(Token { kind, text: inside, place, from: at, to: at + length });
        }
        for c in whole.chars() {
            place = if c == '\n' { (place.0 + 1, 1) } else { (place.0, place.1 + 1) };
        }
        at += length;
    }
    tokens
}

/// Digits, and a fraction where digits follow the dot: `1..2` and `1.max(x)` are no fractions.
fn number(rest: &str) -> usize {
    let digits = |from: usize| from + rest[from..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len() - from);
    let end = digits(0);
    let fraction = rest[end..].strip_prefix('.').is_some_and(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    if fraction { digits(end + 1) } else { end }
}

/// To the closing quote and with it; a template's `${…}` may hold strings of its own.
fn string(rest: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(c) = rest[at..].chars().next() {
        at += c.len_utf8();
        match c {
            '\\' => at += rest[at..].chars().next().map_or(0, char::len_utf8),
            '$' if quote == '`' && rest[at..].starts_with('{') => {
                let mut depth = 0;
                while let Some(c) = rest[at..].chars().next() {
                    at += match c {
                        '"' | '`' => string(&rest[at..], c),
                        c => c.len_utf8(),
                    };
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    if depth == 0 {
                        break;
                    }
                }
            }
            c if c == quote => return at,
            _ => {}
        }
    }
    rest.len()
}

/// Comments nest.
fn comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += c.len_utf8();
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_comments_and_strings() {
        let text = "a.b > 0.5 // c > 1\n/* d /* e */ f */ `x ${if y { `z` } else { \"}\" }} w` 1..2 \"q\\\"r\" == #{";
        let shown: Vec<_> = tokens(text).iter().map(|token| token.text).collect();
        assert_eq!(shown, ["a", ".", "b", ">", "0.5", "x ${if y { `z` } else { \"}\" }} w", "1", "..", "2", "q\\\"r", "==", "#{"]);
        let second = tokens(text)[5];
        assert_eq!((second.kind, second.place), (Kind::Text, (2, 19)));
        assert_eq!(text[second.from..].chars().next(), Some('`'));
    }

    #[test]
    fn broken_files_end_too() {
        for text in ["\"open", "/* open", "`open ${", "\"\\", "`", "é", "`${\"", "'"] {
            tokens(text);
        }
    }
}
