//! `/costs`: what calls cost by user, model or anything else, beside the window before, and who runs hot.

use super::super::access::Caller;
use super::super::costs::{Answer, Asked, read};
use super::super::{App, Problem};
use super::frame::{Frame, Place};
use super::html::{TABLE_END, escaped, table, time};
use super::links::Search;
use crate::costs::{Change, Line};
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Html;
use index::{Key, Text};
use model::{Span, Timestamp, show};
use std::fmt::Write;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(60);
/// What is offered beside typing a key of one's own.
const OFFERED: [(&str, &str); 7] = [
    ("user_id", "Users"),
    ("service", "Agents"),
    ("model", "Models"),
    ("environment", "Environments"),
    ("stage", "Stages"),
    ("prompt_version", "Prompt versions"),
    ("session_id", "Sessions"),
];
const WINDOWS: [&str; 4] = ["1h", "6h", "24h", "7d"];

pub(in crate::http) async fn page(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
) -> Result<Html<String>, Problem> {
    let asked = Asked::read(raw.as_deref())?;
    let answer = read(&app, &asked).await?;
    let by = asked.by.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let linked = |by: &str, window: &str| {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("by", by)
            .append_pair("window", window)
            .append_pair("where", &asked.query)
            .finish();
        format!("/costs?{}", escaped(&query))
    };
    let mut body = String::from("<h1>Users and costs</h1>");
    let choice = |body: &mut String, label: &str, all: &[(String, String, bool)]| {
        let _ = write!(body, "<nav class=choices aria-label='{label}'><ul>");
        for (href, name, current) in all {
            let current = if *current { " aria-current=true" } else { "" };
            let _ = write!(body, "<li><a href='{href}'{current}>{}</a>", escaped(name));
        }
        *body += "</ul></nav>";
    };
    let window = answer.window.clone();
    choice(&mut body, "By", &OFFERED.map(|(key, name)| (linked(key, &window), name.to_owned(), key == by)));
    choice(&mut body, "Over", &WINDOWS.map(|span| (linked(&by, span), span.to_owned(), Span::parse(span) == Some(asked.window))));
    let _ = write!(
        body,
        "<form class=search method=get action='/costs'><div class=line><label>By <input name=by value='{}' size=16 autocomplete=off></label>\
         <label>Only <input type=search name=where value='{}' size=30 placeholder='stage:extraction tenant:acme' autocomplete=off spellcheck=false></label>\
         <input type=hidden name=window value='{}'><button>Show</button></div></form>",
        escaped(&by),
        escaped(&asked.query),
        escaped(&window)
    );
    rows(&mut body, &answer, &asked);
    running_hot(&mut body, &answer, &asked);
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::Costs, title: "Users and costs", every: Some(EVERY) }.page(&body))
}

fn rows(body: &mut String, answer: &Answer, asked: &Asked) {
    let costs = &answer.costs;
    let _ = write!(
        body,
        "<section id=costs data-live aria-labelledby=costs-title><h2 id=costs-title>{} <small>{} to {}</small></h2>",
        escaped(&costs.by.join(" · ")),
        time(answer.from),
        time(answer.until)
    );
    for note in &answer.notes {
        let _ = write!(body, "<p class=notice>{}</p>", escaped(note));
    }
    if costs.total.now.calls == 0 && costs.rows.is_empty() {
        *body += "<p>No call of this time matches.</p></section>";
        return;
    }
    let heads: Vec<&str> = costs.by.iter().map(String::as_str).chain(["Calls#", "Tokens#", "Cost#", "Share#", "Against before#"]).collect();
    *body += &table("Costs", &heads);
    let figures = |body: &mut String, line: &Line| {
        let _ = write!(
            body,
            "<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}",
            show::number(line.now.calls as f64),
            show::number(line.tokens() as f64),
            show::dollars(line.now.cost_nanos as f64 / 1e9),
            line.share().map_or("–".to_owned(), show::percent),
            changed(line)
        );
    };
    for row in &costs.rows {
        *body += "<tr>";
        let terms: Vec<String> = asked.by.iter().zip(&row.labels).map(|(key, label)| term(key, label)).collect();
        // What has no call any more had them in the window before.
        let gone = row.line.change() == Change::Gone;
        let (from, until) = if gone { (answer.from - asked.window, answer.from) } else { (answer.from, answer.until) };
        for (at, label) in row.labels.iter().enumerate() {
            let shown = if label.is_empty() { "(none)" } else { label };
            // The first leads to the row's calls, a further one to all of its label.
            let query = if at == 0 { [asked.query.as_str(), &terms.join(" ")].join(" ") } else { [asked.query.as_str(), &terms[at]].join(" ") };
            let href = during(query.trim(), from, until).path(&[]);
            let cell = if at == 0 { "<th scope=row>" } else { "<td>" };
            let _ = write!(body, "{cell}<a href='{}'>{}</a>", escaped(&href), escaped(shown));
        }
        figures(body, &row.line);
    }
    let span = costs.by.len();
    if costs.other.now.calls > 0 {
        let _ = write!(body, "<tr><th scope=row colspan={span}>(other)");
        figures(body, &costs.other);
    }
    let _ = write!(body, "<tr class=total><th scope=row colspan={span}>Total");
    figures(body, &costs.total);
    *body += TABLE_END;
    if costs.further_gone > 0 {
        let _ = write!(body, "<p class=dim>{} more had calls before and have none now.</p>", costs.further_gone);
    }
    if costs.overflowed {
        *body += "<p class=dim>There are more labels than can be summed one by one: these need not be the largest.</p>";
    }
    *body += "</section>";
}

fn changed(line: &Line) -> String {
    match line.change() {
        Change::New => "new".to_owned(),
        Change::Gone => "gone".to_owned(),
        Change::Times(times) if times >= 2.0 => format!("<strong>× {}</strong>", show::number((times * 10.0).round() / 10.0)),
        Change::Times(times) => format!("× {}", show::number((times * 100.0).round() / 100.0)),
        Change::FromNothing => "from nothing".to_owned(),
        Change::Nothing => "–".to_owned(),
        Change::Unknown => "?".to_owned(),
    }
}

fn running_hot(body: &mut String, answer: &Answer, asked: &Asked) {
    if !asked.tells_hot() {
        return;
    }
    *body += "<section id=hot data-live aria-labelledby=hot-title><h2 id=hot-title>Running hot <small>a share of the cost more than three times what it was, and not by chance</small></h2>";
    let Some(first) = answer.hot.first() else {
        *body += "<p>Nobody.</p></section>";
        return;
    };
    let before = first.from - first.until.since(first.from);
    let _ = write!(body, "<p class=dim>From {} on, against as long before ({} to then).</p>", time(first.from), time(before));
    *body += &table("Running hot", &["User", "Environment", "Share#", "Before#", "Cost#", "Before#"]);
    for hot in &answer.hot {
        let query = format!("{} {}", term(&Key::Text(Text::Environment), &hot.environment), term(&Key::Text(Text::User), &hot.user_id));
        let href = Search { order: "costliest".to_owned(), ..during(&query, hot.from, hot.until) }.path(&[]);
        let _ = write!(
            body,
            "<tr><th scope=row><a href='{}'>{}</a><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}",
            escaped(&href),
            escaped(&hot.user_id),
            escaped(&hot.environment),
            show::percent(hot.share),
            show::percent(hot.share_before),
            show::dollars(hot.cost_usd),
            show::dollars(hot.before_usd)
        );
    }
    *body += TABLE_END;
    *body += "</section>";
}

/// A search for calls of a time that stays, whenever the link is followed.
fn during(query: &str, from: Timestamp, until: Timestamp) -> Search {
    Search { query: query.to_owned(), since: from.to_string(), until: until.to_string(), order: String::new() }
}

/// As the query language has it; long labels are cut.
fn term(key: &Key, label: &str) -> String {
    index::label_term(key, label).unwrap_or_default()
}
