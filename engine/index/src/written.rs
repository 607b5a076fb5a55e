//! Writing a term of the query language, for links and for questions that programs make: what [`crate::Query::parse`] reads back as it was meant.

use crate::keys::Key;
use crate::row::{NAME_MAX_BYTES, cut};

/// `key:"a"|"b"`: the call has one of these values. An empty value alone is that it has none. `None` where no term says it: there are no values, or an
/// empty one beside others.
pub fn term<V: AsRef<str>>(key: &Key, values: &[V]) -> Option<String> {
    let name = name(key);
    match values {
        [] => None,
        [none] if none.as_ref().is_empty() => Some(format!("-has:{name}")),
        values if values.iter().any(|value| value.as_ref().is_empty()) => None,
        values => Some(format!("{name}:{}", values.iter().map(|value| quoted(value.as_ref())).collect::<Vec<_>>().join("|"))),
    }
}

/// The same of one label as sums have them, which are cut: where it may have been, of all texts that begin so. A longer text is cut here.
pub fn label_term(key: &Key, label: &str) -> Option<String> {
    let whole = cut(label);
    // It ended before a character that would have crossed the limit, which has at most four bytes.
    let may_be_cut = whole.len() + char::MAX_LEN_UTF8 > NAME_MAX_BYTES;
    if may_be_cut { Some(format!("{}:{}*", name(key), in_quotes(whole))) } else { term(key, &[whole]) }
}

fn name(key: &Key) -> String {
    let written = key.to_string();
    let plain = written.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '.')) && !written.is_empty();
    if plain { written } else { quoted(&written) }
}

/// A value that needs no quotes is easier to read without them.
fn quoted(text: &str) -> String {
    let plain = text.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '.' | '/' | '@')) && !text.contains("..");
    if plain { text.to_owned() } else { in_quotes(text) }
}

/// In one line: browsers take what breaks one out of the boxes in which it is shown.
fn in_quotes(text: &str) -> String {
    let mut written = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => written.extend(['\\', char]),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            char => written.push(char),
        }
    }
    written.push('"');
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Text;
    use crate::query::Query;
    use crate::row::Row;
    use model::time::Timestamp;

    #[test]
    fn a_written_term_finds_the_calls_that_it_was_written_for() {
        let odd = [
            "gpt-4o",
            "a b",
            "\"",
            "\\",
            "a|b",
            "*",
            "a..b",
            "-x",
            "x:y",
            "(",
            "日本 語",
            "OR",
            "a@b.c",
            "$",
            ">5",
            "two\nlines",
            "\ta\r\n",
            "\\n",
            "'a b'",
        ];
        let names = ["tenant", "a b", "properties.x", "stage", "has", "time", "-x", "a:b", "a>b", "モデル", "a.b.c", "a\"b"];
        let row = |stage: &str, name: &str, value: &str| {
            Row::new(1, Timestamp::EPOCH, 0, |_| None, |text| if text == Text::Stage { stage } else { "" }, [(name, value)])
        };
        for value in odd {
            let holds =
                |query: &str, row: &Row| Query::parse(query, Timestamp::EPOCH).unwrap_or_else(|error| panic!("{query}: {error}")).matches(row);
            let own = term(&Key::Text(Text::Stage), &[value]).expect("a value");
            assert!(holds(&own, &row(value, "n", "v")) && !holds(&own, &row("other", "n", "v")), "{own}");
            let either = term(&Key::Text(Text::Stage), &["other", value]).expect("values");
            assert!(holds(&either, &row(value, "n", "v")) && holds(&either, &row("other", "n", "v")), "{either}");
            for name in names {
                let own = term(&Key::property(name), &[value]).expect("a value");
                assert!(holds(&own, &row("s", name, value)) && !holds(&own, &row("s", name, "other")), "{own}");
                let none = term(&Key::property(name), &[""]).expect("an empty value");
                assert!(!holds(&none, &row("s", name, value)) && holds(&none, &row("s", "n", value)), "{none}");
            }
        }
        assert_eq!(term(&Key::Text(Text::Stage), &["extraction"]).as_deref(), Some("stage:extraction"));
        assert_eq!(term::<&str>(&Key::Tokens, &[]), None);
        assert_eq!(term(&Key::Text(Text::Stage), &["a", ""]), None);
        assert_eq!(term(&Key::Text(Text::Stage), &["two\nlines"]).as_deref(), Some("stage:\"two\\nlines\""));
    }

    #[test]
    fn a_label_that_may_have_been_cut_is_the_beginning_of_what_it_finds() {
        let stage = |text: &str| Row::new(1, Timestamp::EPOCH, 0, |_| None, |of| if of == Text::Stage { text } else { "" }, []);
        for long in ["x".repeat(5_000), "日".repeat(100), "\"*\n".repeat(100), format!("{}\u{1f600}", "x".repeat(NAME_MAX_BYTES - 1))] {
            let query = label_term(&Key::Text(Text::Stage), cut(&long)).expect("a label");
            let read = Query::parse(&query, Timestamp::EPOCH).unwrap_or_else(|error| panic!("{query}: {error}"));
            assert!(read.matches(&stage(&long)) && !read.matches(&stage("other")), "{query}");
            assert_eq!(label_term(&Key::Text(Text::Stage), &long), Some(query));
        }
        let short = "x".repeat(NAME_MAX_BYTES - 4);
        assert_eq!(label_term(&Key::Text(Text::Stage), &short), term(&Key::Text(Text::Stage), &[&short]));
    }
}
