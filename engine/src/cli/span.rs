//! A problem with the line of the file it is about, and a caret under the column.

use rules::Problem;
use std::fmt::Write;

/// Characters of a line that are shown; of a longer one, those around the column.
const SHOWN_MAX: usize = 120;

/// Place and message, the line with a caret, and the way out. `text` is the file's; where it has no such line, there is none to show.
pub(super) fn pointed(problem: &Problem, text: &str, warning: bool, colour: bool) -> String {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let (red, bold, blue) = (if warning { "1;33" } else { "1;31" }, "1", "1;34");
    let said = if warning { format!("warning: {}", problem.message) } else { problem.message.clone() };
    let place = format!("{}:{}:{}:", problem.path.display(), problem.line, problem.column);
    let mut shown = format!("{} {}", paint(bold, &place), paint(if colour { red } else { "" }, &said));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(line) = text.lines().nth(problem.line.saturating_sub(1)) {
        let column = problem.column.saturating_sub(1);
        let from = if line.chars().count() > SHOWN_MAX { column.saturating_sub(SHOWN_MAX / 2) } else { 0 };
        // A tab would move the caret by as much as the terminal likes.
        let cut: String = line.chars().skip(from).take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (number, caret) = (problem.line.to_string(), " ".repeat(column - from));
        let space = " ".repeat(number.len());
        let _ = write!(shown, "\n {} {}", paint(blue, &format!("{number} |")), cut.trim_end());
        let _ = write!(shown, "\n {} {caret}{}", paint(blue, &format!("{space} |")), paint(red, "^"));
    }
    if let Some(hint) = &problem.hint {
        let _ = write!(shown, "\n{} {hint}", paint(bold, "hint:"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, column: usize) -> Problem {
        Problem { path: "r.rhai".into(), line, column, message: "no".into(), hint: Some("yes".into()) }
    }

    #[test]
    fn the_caret_stands_under_the_column() {
        let text = "rule(#{\n\tname: \"é\", watch: x\n});";
        assert_eq!(pointed(&problem(2, 19), text, false, false), "r.rhai:2:19: no\n 2 |  name: \"é\", watch: x\n   |                   ^\nhint: yes");
        assert_eq!(pointed(&problem(9, 1), text, true, false), "r.rhai:9:1: warning: no\nhint: yes");
        let long = format!("{}here{}", " ".repeat(500), "x".repeat(500));
        let shown = pointed(&problem(1, 501), &long, false, false);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!((lines[1].find("here"), lines[1].chars().count()), (lines[2].find('^'), 5 + SHOWN_MAX), "{shown}");
        assert!(pointed(&problem(1, 1), text, false, true).contains("\x1b[1;31m^\x1b[0m"));
    }
}
