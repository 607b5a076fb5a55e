//! What a terminal can show: how wide it is, and whether it shall have colours.
//!
//! Deliberately absent: moving the cursor, what any one command prints, and texts of others (`foreign.rs`).

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_there_or_not() {
        assert_eq!(
            (Paint::PLAIN.bad("x"), Paint::COLOURED.bad("x"), Paint::COLOURED.faint("")),
            ("x".into(), "\x1b[1;31mx\x1b[0m".into(), String::new())
        );
    }
}
