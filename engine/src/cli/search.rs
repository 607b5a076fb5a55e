//! `streamgauge search`: calls that a query finds, as a table. The language is `engine/index/QUERY.md`; what is found is `/api/v1/calls`'s to say.

use super::pricing::tell;
use super::terminal::{Paint, width};
use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::foreign::{columns, cut, left, printable, right};
use crate::outbox::now;
use index::{LIMIT_MAX, Query};
use model::{Timestamp, show};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(super) struct Search {
    /// A query such as 'stage:extraction signal:invalid_json latency>2s'; without one, every call.
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    query: String,
    /// Only calls since then: a time, or a length of time before now such as 24h.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only calls before then.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    order: Order,
    /// Calls that are shown.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// The page after another one: what that one named.
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// Every call that matches, however many there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// A call a line, as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    Newest,
    Oldest,
    Slowest,
    Costliest,
}

/// A page as the engine gives it.
#[derive(Debug, Deserialize)]
struct Page {
    calls: Vec<Value>,
    total: u64,
    total_is_exact: bool,
    next: Option<String>,
    notes: Vec<String>,
    index: Standing,
}

#[derive(Debug, Deserialize)]
struct Standing {
    behind: u64,
}

pub(super) async fn search(args: Search, config: &Config) -> Result<Outcome, Fault> {
    checked(&args.query)?;
    let (width, paint) = (width(), Paint::stdout());
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut after = args.after.clone();
    // Widths are those of the first page, so that a table of many pages is one table.
    let mut table = None;
    let mut said_total = None;
    let mut shown = 0;
    loop {
        let page: Page = asking::get(config, &path(&args, left.min(LIMIT_MAX as u64), after.as_deref())).await?;
        said_total.get_or_insert((page.total, page.total_is_exact));
        shown += page.calls.len() as u64;
        left -= (page.calls.len() as u64).min(left);
        if args.json {
            page.calls.iter().for_each(say);
        } else if !page.calls.is_empty() {
            let rows: Vec<Vec<String>> = page.calls.iter().map(cells).collect();
            let first = table.is_none();
            let table = table.get_or_insert_with(|| Table::of(&rows, width));
            if first {
                say(paint.strong(&table.line(&HEADS.map(str::to_owned))));
            }
            for (row, call) in rows.iter().zip(&page.calls) {
                let line = table.line(row);
                say(if is_error(call) { paint.bad(&line) } else { line });
            }
        }
        for note in page.notes.iter().map(|note| format!("note: {}", printable(note))) {
            if args.json { tell(&note) } else { say(note) }
        }
        after = page.next;
        if after.is_none() || left == 0 {
            let (total, exact) = said_total.unwrap_or_default();
            let lines = ending(&args, shown, total, exact, after.as_deref(), page.index.behind);
            lines.iter().for_each(|line| if args.json { tell(line) } else { say(line) });
            return Ok(Outcome::Well);
        }
    }
}

/// Refuses what is no query, with the place: the engine would say the same in more words.
pub(super) fn checked(query: &str) -> Result<(), Fault> {
    let Err(error) = Query::parse(query, now()) else { return Ok(()) };
    let before = query.get(..error.at).unwrap_or(query);
    let shown: String = query.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let what = format!("at character {} of the query: {}\n  {shown}\n  {}^", before.chars().count() + 1, error.message, " ".repeat(columns(before)));
    Err(match error.hint {
        Some(hint) => Fault::new(what, hint),
        None => Fault::plain(what),
    })
}

fn path(args: &Search, limit: u64, after: Option<&str>) -> String {
    let order = match args.order {
        Order::Newest => "newest",
        Order::Oldest => "oldest",
        Order::Slowest => "slowest",
        Order::Costliest => "costliest",
    };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("where", &args.query).append_pair("order", order).append_pair("limit", &limit.to_string());
    for (name, value) in [("since", args.since.as_deref()), ("until", args.until.as_deref()), ("after", after)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("/api/v1/calls?{}", query.finish())
}

/// How many there are, and how to see the others.
fn ending(args: &Search, shown: u64, total: u64, exact: bool, after: Option<&str>, behind: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let number = |number: u64| show::number(number as f64);
    let found = format!("{}{} call{}", if exact { "" } else { "at least " }, number(total), if total == 1 { "" } else { "s" });
    let what = if args.after.is_some() { " from here on" } else { "" };
    lines.push(if shown < total { format!("{} of {found}{what}", number(shown)) } else { format!("{found}{what}") });
    if let Some(after) = after {
        lines.push(format!("the next page: add --after {after}"));
    }
    if behind > 0 {
        lines.push(format!("the index is {} calls behind the stream: the latest are not found yet", number(behind)));
    }
    lines
}

const COLUMNS: usize = 9;
const HEADS: [&str; COLUMNS] = ["time UTC", "env", "stage", "model", "status", "latency", "cost", "user", "event_id"];
/// Numbers stand right.
const RIGHT: [bool; COLUMNS] = [false, false, false, false, false, true, true, false, false];
/// A column is not made narrower than this: less says nothing. Times and numbers are never cut.
const LEAST: [usize; COLUMNS] = [usize::MAX, 6, 6, 8, 8, usize::MAX, usize::MAX, 6, 8];

/// What is shown of a call.
fn cells(call: &Value) -> Vec<String> {
    let text = |name: &str| printable(call[name].as_str().unwrap_or_default());
    let time = call["time"].as_str().and_then(Timestamp::parse).map_or_else(String::new, |time| time.to_string());
    // Without the year: streams are of days or weeks.
    let time = time.get(5..19).unwrap_or_default().replacen('T', " ", 1);
    let latency = call["latency_ms"].as_f64().map_or_else(String::new, show::millis);
    let cost = call["cost_usd"].as_f64().map_or_else(String::new, show::dollars);
    let stage = [text("stage"), text("kind")].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    vec![time, text("environment"), stage, text("model"), status(call), latency, cost, text("user_id"), text("event_id")]
}

/// The signals that hold, the code before them where it says more than that it went well.
fn status(call: &Value) -> String {
    let code = call["status_code"].as_u64().filter(|code| !(200..300).contains(code)).map(|code| code.to_string());
    let signals = call["signals"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let signals: Vec<&str> = signals.filter(|signal| *signal != "error" || code.is_none()).collect();
    let said = code.into_iter().chain(signals.into_iter().map(str::to_owned)).collect::<Vec<_>>().join(" ");
    if said.is_empty() { "ok".to_owned() } else { said }
}

fn is_error(call: &Value) -> bool {
    call["signals"].as_array().is_some_and(|signals| signals.iter().any(|signal| signal == "error"))
}

/// How wide each column is; 0: nothing is in it, and it is left out.
struct Table([usize; COLUMNS]);

impl Table {
    /// As wide as what is in them, then the widest made narrower until all fit.
    fn of(rows: &[Vec<String>], width: usize) -> Self {
        let mut widths = [0; COLUMNS];
        for row in rows {
            row.iter().zip(&mut widths).for_each(|(cell, width)| *width = (*width).max(columns(cell)));
        }
        widths.iter_mut().zip(HEADS).filter(|(width, _)| **width > 0).for_each(|(width, head)| *width = (*width).max(head.len()));
        let whole = |widths: &[usize; COLUMNS]| widths.iter().filter(|width| **width > 0).map(|width| width + 2).sum::<usize>().saturating_sub(2);
        while whole(&widths) > width {
            let widest = (0..COLUMNS).filter(|at| widths[*at] > LEAST[*at]).max_by_key(|at| widths[*at]);
            let Some(at) = widest else { break };
            widths[at] -= 1;
        }
        Self(widths)
    }

    fn line(&self, cells: &[String]) -> String {
        let columns = cells.iter().zip(self.0).zip(RIGHT).filter(|((_, width), _)| *width > 0);
        let shown = columns.map(|((cell, width), is_number)| {
            let cell = cut(cell, width);
            if is_number { right(&cell, width) } else { left(&cell, width) }
        });
        shown.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_fits_its_width_and_leaves_out_what_is_in_no_row() {
        let call = |user: &str, status: u64, signals: &[&str]| {
            json!({ "time": "2026-11-22T14:03:20.412Z", "environment": "production", "stage": "extraction", "model": "gpt-4o-mini-2024-07-18",
                "status_code": status, "signals": signals, "latency_ms": 2340, "cost_usd": 0.0042, "user_id": user, "event_id": "evt_0123456789abcdef0123" })
        };
        let calls = [call("ann@example.com", 200, &["invalid_json", "retry"]), call("bob\u{1b}", 500, &["error"]), call("田中さん", 200, &[])];
        let rows: Vec<_> = calls.iter().map(cells).collect();
        let table = Table::of(&rows, 100);
        let lines: Vec<String> = std::iter::once(table.line(&HEADS.map(str::to_owned))).chain(rows.iter().map(|row| table.line(row))).collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
        assert!(lines[1].starts_with("11-22 14:03:20  production  "), "{}", lines[1]);
        assert!(lines[1].contains("2.3 s") && lines[2].contains("  500 ") && lines[2].contains("bob\u{fffd}"), "{lines:#?}");
        let runs: Vec<usize> = lines[1..].iter().map(|line| columns(line.split_once("evt_").expect("a run").0)).collect();
        assert!(runs.iter().all(|column| *column == runs[0]), "runs stand under each other: {lines:#?}");
        let rows: Vec<_> = [json!({ "time": "2026-11-22T14:03:20Z", "signals": [], "kind": "llm" })].iter().map(cells).collect();
        assert_eq!(Table::of(&rows, 100).line(&rows[0]), "11-22 14:03:20  llm    ok");
    }

    #[test]
    fn a_mistake_in_a_query_has_a_mark_under_it() {
        assert!(checked("stage:extraction latency>2s").is_ok());
        let said = checked("user:ü latency>fast").expect_err("a mistake").to_string();
        assert_eq!(
            said,
            "at character 16 of the query: `fast` is no value of `latency`\n  user:ü latency>fast\n                 ^\n\
             hint: write 250ms, 2s, 1.5s or 1m; a bare number is milliseconds"
        );
        let said = checked("user:日本 a:").expect_err("a mistake").to_string();
        assert!(said.contains("at character 11 of") && said.contains(&format!("\n  {}^\n", " ".repeat(12))), "{said}");
    }
}
