//! A rule file as a row of tokens with their places: the one scan of characters, comments, strings and template strings.
//!
//! Enough to find a word for an error to point at ([`crate::words`]) and to recognise a few shapes of code by sight ([`crate::lint`]), and no more. What
//! it does not know, it passes as symbols of one character, so whoever looks for a shape finds nothing rather than something that is not there.

/// Line and column, both from 1; columns count characters.
pub(crate) type Place = (usize, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Name,
    Number,
    /// A string, without its quotes. The tokens of a template string's `${…}` come behind it, and nothing else that it says.
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
    /// The template strings that it stands in.
    pub templates: usize,
}

/// The longer ones first.
const SYMBOLS: [&str; 16] = ["#{", "&&", "||", ">=", "<=", "==", "!=", "::", "=>", "?.", "..", "+=", "-=", "*=", "/=", "??"];

/// Comments are left out. Broken files end too.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    // The template strings that are open, each with the place of its token in the row, and the braces of its `${…}`: none in its own text. A stack and
    // no recursion, since a broken file may nest as deep as it is long.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut at, mut place) = (0, (1, 1));
    while at < text.len() {
        let rest = &text[at..];
        let said = open.last().is_some_and(|(_, braces)| *braces == 0);
        let (length, kind) = if said { of_template(rest) } else { of_code(rest) };
        let whole = &rest[..length];
        if let Some(kind) = kind {
            let (inside, to) = match kind {
                // It goes on until its end is found.
                Kind::Text if whole == "`" => (&rest[1..], text.len()),
                Kind::Text => (whole[1..].strip_suffix(&whole[..1]).unwrap_or(&whole[1..]), at + length),
                _ => (whole, at + length),
            };
            tokens.push(Token { kind, text: inside, place, from: at, to, templates: open.len() });
        }
        match (whole, open.last_mut()) {
            ("`", Some((template, _))) if said => {
                let template = &mut tokens[*template];
                (template.text, template.to) = (&text[template.from + 1..at], at + 1);
                open.pop();
            }
            ("`", _) => open.push((tokens.len() - 1, 0)),
            ("${" | "{" | "#{", Some((_, braces))) if kind.is_some() => *braces += 1,
            ("}", Some((_, braces))) if kind.is_some() => *braces -= 1,
            _ => {}
        }
        for c in whole.chars() {
            place = if c == '\n' { (place.0 + 1, 1) } else { (place.0, place.1 + 1) };
        }
        at += length;
    }
    tokens
}

/// The next bytes of code that belong together, and what they are; of a template string its opening alone.
fn of_code(rest: &str) -> (usize, Option<Kind>) {
    let next = rest.chars().next().unwrap_or_default();
    if next.is_alphabetic() || next == '_' {
        (name(rest), Some(Kind::Name))
    } else if next.is_ascii_digit() {
        (number(rest), Some(Kind::Number))
    } else if matches!(next, '"' | '\'') {
        (string(rest, next), Some(Kind::Text))
    } else if next == '`' {
        (1, Some(Kind::Text))
    } else if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), None)
    } else if rest.starts_with("/*") {
        (comment(rest), None)
    } else if next.is_whitespace() {
        (next.len_utf8(), None)
    } else {
        (SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)).map_or(next.len_utf8(), |symbol| symbol.len()), Some(Kind::Symbol))
    }
}

/// The same of a template string's own text, where a backslash takes the meaning from `${` and from nothing else.
fn of_template(rest: &str) -> (usize, Option<Kind>) {
    if rest.starts_with("${") {
        (2, Some(Kind::Symbol))
    } else if rest.starts_with("\\${") {
        (3, None)
    } else {
        (rest.chars().next().map_or(0, char::len_utf8), None)
    }
}

fn name(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// Digits, and a fraction where digits follow the dot: `1..2` and `1.max(x)` are no fractions.
fn number(rest: &str) -> usize {
    let end = name(rest);
    let fraction = rest[end..].strip_prefix('.').filter(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    end + fraction.map_or(0, |after| 1 + name(after))
}

/// To the closing quote and with it.
fn string(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    let closes = |(_, c): &(usize, char)| {
        let closes = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    };
    rest.char_indices().skip(1).find(closes).map_or(rest.len(), |(at, _)| at + 1)
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
        let outside: Vec<_> = tokens(text).into_iter().filter(|token| token.templates == 0).collect();
        let shown: Vec<_> = outside.iter().map(|token| token.text).collect();
        assert_eq!(shown, ["a", ".", "b", ">", "0.5", "x ${if y { `z` } else { \"}\" }} w", "1", "..", "2", "q\\\"r", "==", "#{"]);
        let second = outside[5];
        assert_eq!((second.kind, second.place), (Kind::Text, (2, 19)));
        assert_eq!(text[second.from..].chars().next(), Some('`'));
    }

    #[test]
    fn a_template_string_is_followed_by_its_code_and_ends_at_its_own_quote() {
        let text = "`it's \\${a} ${b `c ${d} '` + '}' /* } ` */ } {e}\\` f";
        let shown: Vec<_> = tokens(text).iter().map(|token| (token.templates, token.text)).collect();
        let outer = "it's \\${a} ${b `c ${d} '` + '}' /* } ` */ } {e}\\";
        let inner = [(1, "${"), (1, "b"), (1, "c ${d} '"), (2, "${"), (2, "d"), (2, "}"), (1, "+"), (1, "}"), (1, "}")];
        assert_eq!(shown, [&[(0, outer)], &inner[..], &[(0, "f")]].concat());
        assert_eq!(tokens("`é\n ${a}`")[2].place, (2, 4));
        assert_eq!(tokens(&"`${".repeat(100_000)).len(), 200_000);
    }

    #[test]
    fn broken_files_end_too() {
        for text in ["\"open", "/* open", "`open ${", "\"\\", "`", "é", "`${\"", "'", "`${}}}", "`${`"] {
            tokens(text);
        }
    }
}
