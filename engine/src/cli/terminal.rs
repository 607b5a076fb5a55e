//! What a terminal can show: how wide it is, whether it shall have colours, and texts of others that must not steer it.
//!
//! Widths are counted in characters. Deliberately absent: moving the cursor, and what any one command prints.

use std::io::IsTerminal;

/// Where nobody looks, and in pipes: what fits a page and two editors side by side.
const WIDTH: usize = 100;
/// Narrower than this, a table is no table any more; lines are then broken by the terminal.
const WIDTH_MIN: usize = 60;

/// Columns of standard output.
pub(super) fn width() -> usize {
    let terminal = console::Term::stdout();
    let columns = terminal.is_term().then(|| terminal.size_checked()).flatten();
    columns.map_or(WIDTH, |(_, columns)| usize::from(columns).max(WIDTH_MIN))
}

/// Colours, or none of them: on a terminal that nobody asked to be without (<https://no-color.org>).
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    #[cfg(test)]
    pub const PLAIN: Self = Self(false);
    #[cfg(test)]
    pub const COLOURED: Self = Self(true);

    /// For standard output.
    pub fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// Something went wrong and was made good.
    pub fn saved(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What somebody else wrote, without what steers a terminal or turns its writing around.
pub(super) fn printable(text: &str) -> String {
    let steers = |char: char| char.is_control() && !matches!(char, '\n' | '\t') || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|char| if steers(char) { '\u{fffd}' } else { char }).collect()
}

/// In one line of at most `width` characters; what is missing is an ellipsis.
pub(super) fn cut(text: &str, width: usize) -> String {
    let one_line: String = printable(text).chars().map(|char| if char.is_whitespace() { ' ' } else { char }).collect();
    if one_line.chars().count() <= width {
        return one_line;
    }
    let kept: String = one_line.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { String::new() } else { format!("{kept}…") }
}

/// Broken into lines of at most `width` characters, at blanks where there are any. Lines that it has stay, and so does what they are indented by.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in printable(text).replace('\t', "    ").lines() {
        let whole: Vec<char> = line.chars().collect();
        let mut rest = whole.as_slice();
        while rest.len() > width.max(1) {
            let blank = rest[..=width].iter().rposition(|char| *char == ' ').filter(|at| *at > 0 && rest[..*at].iter().any(|char| *char != ' '));
            let (end, next) = blank.map_or((width.max(1), width.max(1)), |at| (at, at + 1));
            lines.push(rest[..end].iter().collect());
            rest = &rest[next..];
        }
        lines.push(rest.iter().collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_one_line_and_says_so() {
        for (text, width, shown) in
            [("short", 10, "short"), ("a long text", 6, "a lon…"), ("two\nlines", 20, "two lines"), ("any", 0, ""), ("é…ü", 3, "é…ü")]
        {
            assert_eq!(cut(text, width), shown);
        }
        assert_eq!(printable("a\x1b[31mb\u{202e}c\n"), "a\u{fffd}[31mb\u{fffd}c\n");
    }

    #[test]
    fn lines_break_at_blanks_and_words_that_are_too_long_anywhere() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("  indented\nnext", 20), ["  indented", "next"]);
        assert_eq!(wrapped("  indented", 6), ["  inde", "nted"]);
    }

    #[test]
    fn colours_are_there_or_not() {
        assert_eq!(
            (Paint::PLAIN.bad("x"), Paint::COLOURED.bad("x"), Paint::COLOURED.faint("")),
            ("x".into(), "\x1b[1;31mx\x1b[0m".into(), String::new())
        );
    }
}
