//! What somebody else wrote, in lines and tables of ours: it steers no terminal and turns no writing around, and what stands below it stays in its column.
//!
//! Deliberately absent: where it is shown, and what Slack makes of a text (`message/words.rs`).

/// Without what steers a terminal or turns its writing around.
pub fn printable(text: &str) -> String {
    let steers = |char: char| char.is_control() && !matches!(char, '\n' | '\t') || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|char| if steers(char) { '\u{fffd}' } else { char }).collect()
}

/// Columns that a printable text takes: most letters one, those of East Asia and pictures two, and what stands over the letter before it none.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// As terminals have it: Unicode's East Asian wide and full-width blocks, without the rare letters in them that are narrow.
fn columns_of(char: char) -> usize {
    match char {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{1fa70}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// In one line of at most `width` columns; what is missing is an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    let one_line: String = printable(text).chars().map(|char| if char.is_whitespace() { ' ' } else { char }).collect();
    if columns(&one_line) <= width {
        return one_line;
    }
    if width == 0 {
        return String::new();
    }
    let kept = one_line.chars().scan(0, |taken, char| {
        *taken += columns_of(char);
        (*taken < width).then_some(char)
    });
    kept.chain(['…']).collect()
}

/// With blanks behind it up to `width` columns.
pub fn left(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// With blanks before it up to `width` columns.
pub fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Broken into lines of at most `width` columns, at blanks where there are any. Lines that it has stay, and so does what they are indented by.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in printable(text).replace('\t', "    ").lines() {
        let whole: Vec<char> = line.chars().collect();
        let mut rest = whole.as_slice();
        while let Some(room) = beyond(rest, width.max(1)) {
            let blank = rest[..=room].iter().rposition(|char| *char == ' ').filter(|at| *at > 0 && rest[..*at].iter().any(|char| *char != ' '));
            let (end, next) = blank.map_or((room, room), |at| (at, at + 1));
            lines.push(rest[..end].iter().collect());
            rest = &rest[next..];
        }
        lines.push(rest.iter().collect());
    }
    lines
}

/// The first character, and not the very first, that has no room in so many columns.
fn beyond(line: &[char], width: usize) -> Option<usize> {
    let mut taken = 0;
    let at = line.iter().position(|char| {
        taken += columns_of(*char);
        taken > width
    })?;
    Some(at.max(1)).filter(|at| *at < line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_one_line_and_says_so() {
        for (text, width, shown) in [
            ("short", 10, "short"),
            ("a long text", 6, "a lon…"),
            ("two\nlines", 20, "two lines"),
            ("any", 0, ""),
            ("é…ü", 3, "é…ü"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
        ] {
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
        assert_eq!(wrapped("日本語 日本語", 7), ["日本語", "日本語"]);
        assert_eq!(wrapped("日本", 1), ["日", "本"]);
    }

    #[test]
    fn columns_stand_under_each_other_whatever_is_in_them() {
        for text in ["ascii", "日本語", "한국어", "😀", "e\u{301}", "ｗｉｄｅ", ""] {
            assert_eq!((columns(&left(text, 10)), columns(&right(text, 10))), (10, 10), "{text}");
        }
        assert_eq!((left("日", 3), right("日", 3)), ("日 ".to_owned(), " 日".to_owned()));
    }
}
