//! Small parts of pages: text, times, values, tables.

pub(super) use crate::chart::escaped;

use model::Timestamp;
use model::plan::Range;
use model::window::{Direction, Observation};

/// A moment in UTC; the script shows it in the reader's zone and keeps UTC for the pointer.
pub(super) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    let (day, clock) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    format!("<time datetime='{text}'>{day} {clock} UTC</time>")
}

/// The same of a time that is JSON's text already.
pub(super) fn time_of(text: &str) -> String {
    Timestamp::parse(text).map_or_else(|| escaped(text), time)
}

/// A link to a page about something that has a name.
pub(super) fn link(to: &str, name: &str) -> String {
    link_as(to, name, name)
}

/// The same under another label.
pub(super) fn link_as(to: &str, name: &str, label: &str) -> String {
    let path: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20");
    format!("<a href='{to}/{path}'>{}</a>", escaped(label))
}

/// Where a value stands, with the interval of what it may be: a mark and a word, so that no colour has to be seen.
pub(super) fn standing(seen: &Observation) -> &'static str {
    match seen.drifted {
        Some(Direction::Up) => "<span class='state bad'>▲ above</span>",
        Some(Direction::Down) => "<span class='state low'>▼ below</span>",
        None if seen.learning => "<span class='state dim'>… learning</span>",
        // Outside, and yet nothing is proven: by chance, or by a part of it that has an alert of its own.
        None => match seen.expected {
            Some(range) if seen.low <= range.high && seen.high >= range.low => "<span class='state well'>✓ in range</span>",
            Some(range) if seen.low > range.high => "<span class='state dim'>△ above, unproven</span>",
            Some(_) => "<span class='state dim'>▽ below, unproven</span>",
            None => "<span class='state dim'>–</span>",
        },
    }
}

/// `0.1 % to 0.4 %`, or a dash.
pub(super) fn range(unit: &model::Unit, range: Option<Range>) -> String {
    range.map_or_else(|| "–".to_owned(), |range| escaped(&format!("{} to {}", unit.show(range.low), unit.show(range.high))))
}

/// The head of a table that scrolls by itself where it is wider than the page; columns that end in `#` hold numbers.
pub(super) fn table(label: &str, columns: &[&str]) -> String {
    let label = escaped(label);
    let head: String = columns
        .iter()
        .map(|column| match column.strip_suffix('#') {
            Some(column) => format!("<th scope=col class=n>{column}"),
            None => format!("<th scope=col>{column}"),
        })
        .collect();
    format!("<div class=wide tabindex=0 role=region aria-label='{label}'><table><thead><tr>{head}</thead><tbody>")
}

pub(super) const TABLE_END: &str = "</tbody></table></div>";

/// Something to type, with a button that copies it where the script runs.
pub(super) fn command(text: &str) -> String {
    format!("<p class=command><code>{}</code><button type=button class=copy hidden>Copy</button></p>", escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_link_stays_one_part_of_its_path() {
        assert_eq!(link("/rules", "a b/c?'<"), "<a href='/rules/a%20b%2Fc%3F%27%3C'>a b/c?&#39;&lt;</a>");
    }

    #[test]
    fn a_time_says_its_zone_and_is_read_by_machines() {
        let at = Timestamp::parse("2026-11-22T14:02:30.5Z").expect("a time");
        assert_eq!(time(at), "<time datetime='2026-11-22T14:02:30.500Z'>2026-11-22 14:02:30 UTC</time>");
    }
}
