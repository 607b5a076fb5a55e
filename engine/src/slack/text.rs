//! Texts as Slack takes them, in messages and in answers: escaped, cut to its limits, with times in the reader's own zone.

use crate::message::moment;
use crate::message::words::{Part, Words};
use model::Timestamp;

/// A blank at which no line ends.
pub(super) const NO_BREAK: char = '\u{a0}';

/// Slack's three control characters, so that no log and no person can make a mention or a link.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The same inside backticks.
pub fn code(text: &str) -> String {
    format!("`{}`", escape(text).replace('`', "'"))
}

/// The same text, as long as before, whose numbers keep their units: a phone breaks a line at any blank, and `0.5` in one line and `%` in the next is
/// read as something else.
pub(super) fn unbroken(text: &str) -> String {
    const UNITS: [&str; 3] = ["%", "ms", "s"];
    let mut before = ' ';
    let joined = text.char_indices().map(|(at, char)| {
        let follows = |unit: &str| text[at + 1..].strip_prefix(unit).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
        let joins = char == ' ' && before.is_ascii_digit() && UNITS.into_iter().any(follows);
        before = char;
        if joins { NO_BREAK } else { char }
    });
    joined.collect()
}

/// What is escaped, in at most `most` characters, the last one an ellipsis where something is missing; never inside an escape.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most.saturating_sub(1)).collect();
    if let Some(at) = kept.rfind('&').filter(|at| !kept[*at..].contains(';')) {
        kept.truncate(at);
    }
    kept.push('…');
    kept
}

/// The same of several lines: the last ones go as a whole, and a block of code that was open is closed again.
pub fn cut_lines(text: &str, most: usize) -> String {
    /// What may stand after the last line: a line's end, an ellipsis and the end of a block of code.
    const END: usize = 5;
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(END)).collect();
    let Some(at) = kept.rfind('\n').filter(|at| *at > 0) else { return cut(text, most) };
    let whole = &kept[..at];
    let open = whole.matches("```").count() % 2 == 1;
    format!("{whole}\n{}", if open { "…```" } else { "…" })
}

/// Words in Slack's markup, in at most `most` characters: a time is there whole or not at all.
pub(super) fn mrkdwn(words: &Words, most: usize) -> String {
    let mut text = String::new();
    let mut room = most;
    for part in words.parts() {
        let (part, whole) = match part {
            Part::Text(text) => (escape(text), false),
            Part::Moment { at, beside } => (date(*at, Some(*beside)), true),
        };
        let long = part.chars().count();
        if long > room {
            // The ellipsis that ends it takes the place of one more character where nothing is left.
            let fits = if whole { "…".to_owned() } else { cut(&part, room) };
            if room > 0 {
                text += &fits;
            }
            return text;
        }
        text += &part;
        room -= long;
    }
    text
}

/// A time that Slack shows in its reader's zone, with ours for those who cannot; with its day, unless that is also the day of `beside`. What is not
/// after 1970 is written by us alone.
pub fn date(at: Timestamp, beside: Option<Timestamp>) -> String {
    let fallback = moment(at, beside);
    if at.millis() < 1000 {
        return fallback;
    }
    // The day is said where ours has one.
    let format = if fallback.len() > "14:02 UTC".len() { "{date_short_pretty} at {time}" } else { "{time}" };
    format!("<!date^{}^{format}|{fallback}>", at.millis() / 1000)
}

/// A link; what would end it early is encoded.
pub fn link(url: &str, label: &str) -> String {
    let url = url.replace('&', "&amp;").replace('<', "%3C").replace('>', "%3E").replace('|', "%7C").replace(' ', "%20");
    format!("<{url}|{}>", escape(label).replace('|', "¦"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_can_ping() {
        assert_eq!(escape("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(link("http://a/?x=<!here>| &y", "a|<!here>"), "<http://a/?x=%3C!here%3E%7C%20&amp;y|a¦&lt;!here&gt;>");
        assert_eq!(code("a`*b*`<@U1>"), "`a'*b*'&lt;@U1&gt;`", "nor leave its code");
    }

    #[test]
    fn a_long_text_ends_with_a_whole_line_and_closes_its_code() {
        let long = format!("head\n```{}```", "a line of a table\n".repeat(400));
        for most in [100, 3_900] {
            let shown = cut_lines(&long, most);
            assert!(shown.chars().count() <= most && shown.ends_with("a line of a table\n…```"), "{shown}");
        }
        assert_eq!(cut_lines("short", 10), "short");
        assert_eq!(cut_lines("one line&amp;more", 12), "one line…", "of one line, what fits");
    }

    #[test]
    fn no_line_ends_between_a_number_and_its_unit() {
        let said = unbroken("8.2 % (41 of 500 calls in 5m), 230 ms or 2.3 s; 3 said, 4 %x");
        assert_eq!(said.replace(NO_BREAK, "_"), "8.2_% (41 of 500 calls in 5m), 230_ms or 2.3_s; 3 said, 4 %x");
        assert_eq!(unbroken("日本 5 % <!date^1^{time}|15:02 UTC> 7 %"), "日本 5\u{a0}% <!date^1^{time}|15:02 UTC> 7\u{a0}%");
    }

    #[test]
    fn texts_are_cut_to_slacks_limits_and_never_inside_an_escape_or_a_time() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("ab&amp;cd", 5), "ab…");
        let at = |text| Timestamp::parse(text).expect("it is a time");
        let words = Words::from("until ").moment(at("2026-11-22T15:02:00Z"), at("2026-11-22T14:02:00Z")).text(" & later");
        assert_eq!(mrkdwn(&words, 200), "until <!date^1795359720^{time}|15:02 UTC> &amp; later");
        assert_eq!(mrkdwn(&words, 20), "until …");
        assert_eq!(mrkdwn(&words, 48), "until <!date^1795359720^{time}|15:02 UTC> &amp;…");
        for most in 0..60 {
            assert!(mrkdwn(&words, most).chars().count() <= most, "{most}");
        }
    }

    #[test]
    fn a_time_of_another_day_says_which() {
        let at = |text| Timestamp::parse(text).expect("it is a time");
        let said = date(at("2026-11-22T23:58:00Z"), Some(at("2026-11-23T00:02:00Z")));
        assert_eq!(said, "<!date^1795391880^{date_short_pretty} at {time}|2026-11-22 23:58 UTC>");
        assert_eq!(date(at("2026-11-22T23:58:00Z"), None), said, "and beside nothing, too");
        assert_eq!(date(Timestamp::EPOCH, Some(Timestamp::EPOCH)), "00:00 UTC");
    }
}
