//! Calls as rows of a table, and what can be said of one call in a word: who answered, which signals hold, what it took and cost.
//!
//! Every value leads to the calls that have it too, among those that are shown. On a narrow screen a row stands as a block of its own.

use super::html::{escaped, time};
use super::links::{self, Search};
use index::{Key, Number, Row, Text};
use model::{Signal, show};
use std::fmt::Write;

/// The calls in their order; values narrow `within`.
pub(super) fn table(label: &str, rows: &[Row], within: &Search) -> String {
    let mut text = format!(
        "<div class='wide calls' tabindex=0 role=region aria-label='{label}'><table><caption class=hidden>{label}</caption><thead><tr>\
         <th scope=col>Ended<th scope=col>Stage<th scope=col>Model<th scope=col>Status<th scope=col>Signals<th scope=col class=n>Latency\
         <th scope=col class=n>Cost<th scope=col>User<th scope=col>Run</thead><tbody>",
        label = escaped(label)
    );
    for row in rows {
        let value = |text: Text| within.value(&Key::Text(text), row.text(text));
        let place = match row.text(Text::Stage) {
            "" => value(Text::Kind),
            _ => value(Text::Stage),
        };
        let _ = write!(
            text,
            "<tr><th scope=row><a href='/calls/{}'>{}</a><td>{place} <small>{}</small><td>{}<td data-of=Status>{}<td class=tags>{}\
             <td class=n data-of=Latency>{}<td class=n data-of=Cost>{}<td data-of=User>{}<td data-of=Run>{}",
            row.sequence,
            time(row.time),
            value(Text::Environment),
            model(row, within),
            status(row, within),
            signals(row, within),
            latency(row).unwrap_or_else(|| "–".to_owned()),
            cost(row).unwrap_or_else(|| "–".to_owned()),
            value(Text::User),
            links::run_of(row),
        );
    }
    text += "</tbody></table></div>";
    text
}

/// Who was asked, and who answered where that is another.
pub(super) fn model(row: &Row, within: &Search) -> String {
    let of = |text: Text| row.text(text);
    let asked = within.value(&Key::Text(Text::Model), of(Text::Model));
    if !row.holds(Signal::Fallback) || of(Text::ServedModel).is_empty() {
        return asked;
    }
    let elsewhere = match of(Text::ServedProvider) {
        same if same == of(Text::Provider) => String::new(),
        other => format!(" <small>of {}</small>", within.value(&Key::Text(Text::ServedProvider), other)),
    };
    format!("{asked} → {}{elsewhere}", within.value(&Key::Text(Text::ServedModel), of(Text::ServedModel)))
}

/// The code, or a word where the call has none.
pub(super) fn status(row: &Row, within: &Search) -> String {
    let class = if row.holds(Signal::Error) { "bad" } else { "well" };
    let shown = match row.number(Number::StatusCode) {
        Some(code) => within.value(&Key::Number(Number::StatusCode), &code.to_string()),
        None if row.holds(Signal::Error) => "error".to_owned(),
        None => "ok".to_owned(),
    };
    format!("<span class={class}>{}{shown}</span>", if row.holds(Signal::Error) { "✗ " } else { "" })
}

/// The signals that hold, as links.
pub(super) fn signals(row: &Row, within: &Search) -> String {
    let tags: Vec<_> = row.signals().map(|name| tag(name, within)).collect();
    if tags.is_empty() { "<span class=dim>–</span>".to_owned() } else { tags.join(" ") }
}

/// One signal.
pub(super) fn tag(name: &str, within: &Search) -> String {
    let path = within.narrowed_to(&Key::Signal, name).path(&[]);
    format!("<a class=tag href='{}'>{}</a>", escaped(&path), escaped(&name.replace('_', " ")))
}

pub(super) fn latency(row: &Row) -> Option<String> {
    row.number(Number::LatencyMs).map(|millis| show::millis(millis as f64))
}

pub(super) fn cost(row: &Row) -> Option<String> {
    row.number(Number::CostUsd).map(|nanos| show::dollars(nanos as f64 / 1e9))
}
