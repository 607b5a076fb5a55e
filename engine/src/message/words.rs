//! Words that have times in them, and what others wrote, made fit to stand among ours.
//!
//! A time stays a time until it has a shape: a terminal shows it in UTC, Slack in its reader's own zone. What comes from logs, rules and people goes
//! through [`name`] or [`sentence`], which bound it and take from it what would turn our words around. Deliberately absent: the escapes of any one
//! place, which are that place's.

use super::moment;
use model::Timestamp;
use std::fmt;

/// A sentence, or a part of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Words(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(String),
    /// With its day, where that is another one than that of `beside`.
    Moment {
        at: Timestamp,
        beside: Timestamp,
    },
}

impl Words {
    /// Ours, or somebody's that is fit already.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        match self.0.last_mut() {
            Some(Part::Text(before)) => before.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(Part::Text(text.to_owned())),
        }
        self
    }

    #[must_use]
    pub fn moment(mut self, at: Timestamp, beside: Timestamp) -> Self {
        self.0.push(Part::Moment { at, beside });
        self
    }

    #[must_use]
    pub fn then(mut self, more: Self) -> Self {
        for part in more.0 {
            match part {
                Part::Text(text) => self = self.text(&text),
                part => self.0.push(part),
            }
        }
        self
    }

    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

impl From<&str> for Words {
    fn from(text: &str) -> Self {
        Self::default().text(text)
    }
}

impl From<String> for Words {
    fn from(text: String) -> Self {
        Self::default().text(&text)
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Moment { at, beside } => f.write_str(&moment(*at, Some(*beside))),
        })
    }
}

/// A label, a rule or a person, in one line of at most `most` characters and two that keep its direction to itself; `(none)` where there is nothing to
/// see. A backtick becomes an apostrophe: two names must not make code of what stands between them.
pub fn name(text: &str, most: usize) -> String {
    let seen = tame(text).replace('`', "'");
    let seen = seen.split_whitespace().collect::<Vec<_>>().join(" ");
    isolated(if seen.is_empty() { "(none)".to_owned() } else { cut(&seen, most) })
}

/// What a rule or a finding says: its lines become one, and its own marks stay; nothing where there is nothing to see.
pub fn sentence(text: &str, most: usize) -> String {
    // Three of them would swallow the rest of the message.
    let seen = tame(text).replace("```", "'''");
    let seen = cut(&seen.split_whitespace().collect::<Vec<_>>().join(" "), most);
    if seen.is_empty() { seen } else { isolated(seen) }
}

/// At most `most` characters, the last an ellipsis where something is missing; what keeps its direction to itself still does.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most || most == 0 {
        return text.chars().take(most).collect();
    }
    let kept = |most: usize| format!("{}…", text.chars().take(most.saturating_sub(1)).collect::<String>().trim_end());
    let open = |text: &str| text.matches(ISOLATE).count() > text.matches(END).count();
    let whole = kept(most);
    if open(&whole) { format!("{}{END}", kept(most - 1)) } else { whole }
}

/// Around what has a direction of its own (first strong isolate, pop directional isolate).
const ISOLATE: char = '\u{2068}';
const END: char = '\u{2069}';

/// Without what is not seen: controls become blanks, and what reverses or hides writing goes. Joiners stay, because scripts and emoji need them.
fn tame(text: &str) -> String {
    let hides = |char: &char| matches!(char, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}');
    text.chars().filter(|char| !hides(char)).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// What is written from right to left, so that the words around it stay where they are.
fn isolated(text: String) -> String {
    let from_right = |char: char| matches!(char, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}');
    if text.chars().any(from_right) { format!("{ISOLATE}{text}{END}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_one_line_that_turns_nothing_around() {
        assert_eq!(name("a\u{202e}b\u{2066}\n\u{200b} c`d`", 20), "ab c'd'");
        assert_eq!((name("\u{200b} \u{feff}", 5), sentence("\u{200b}", 5)), ("(none)".to_owned(), String::new()));
        assert_eq!(sentence("see `x`: ```all```", 40), "see `x`: '''all'''");
        assert_eq!(name("abcdefgh", 4), "abc…");
        assert_eq!(name("שלום", 10), "\u{2068}שלום\u{2069}");
        assert_eq!(cut(&format!("{} and more", name("שלום", 10)), 5), "\u{2068}של…\u{2069}");
    }

    #[test]
    fn a_time_among_words_has_its_day_only_where_it_is_another_one() {
        let at = |text| Timestamp::parse(text).expect("it is a time");
        let until = Words::from("until ").moment(at("2026-11-23T01:00:00Z"), at("2026-11-22T23:00:00Z")).text(", then again");
        assert_eq!(until.to_string(), "until 2026-11-23 01:00 UTC, then again");
    }
}
