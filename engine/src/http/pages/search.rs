//! `/search`: one box for a query; the calls that it finds, how many there were over time, and what to try where there is none.
//!
//! Everything that is asked for is in the address, so that a search is a link. Deliberately absent: the language (the index has it), and sums.

use super::super::access::Caller;
use super::super::calls::{self, Asked};
use super::super::{App, Problem};
use super::frame::{Frame, Place};
use super::html::{escaped, time};
use super::links::Search;
use super::rows;
use crate::calls::Unanswered;
use crate::chart::Bars;
use crate::outbox::now;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use index::{Bar, Found, Key, Order, Query, QueryError, Times, Total};
use model::{Signal, Span, Timestamp, show};
use std::fmt::Write;

/// How far back, as links.
const RANGES: [(&str, &str); 4] = [("15 min", "15m"), ("1 h", "1h"), ("24 h", "24h"), ("all", "")];
const ORDERS: [&str; 4] = ["newest", "oldest", "slowest", "costliest"];
/// Keys whose values are worth a look: there are few of each, or the most frequent ones say something.
const KEYS: [&str; 10] = ["stage", "model", "environment", "signal", "status", "error_type", "prompt", "user", "session", "violation"];
const VALUES_MAX: usize = 30;
/// Bars of the chart: each some pixels wide on a phone. Finer ones are counted, so that what is left out at both ends leaves enough of them.
const BARS: usize = 60;
const FINE_BARS: usize = 16 * BARS;
/// Calls that are looked at for a chart where a great many match: some 50 ms. It then shows the newest part, which has about so many.
const CHART_CALLS: u64 = 4_000_000;
const CHART_LEAST: Span = Span::from_secs(60);
const HOUR: Span = Span::from_secs(3600);

/// What an address asks for.
#[derive(Debug, Default)]
struct Wanted {
    search: Search,
    after: String,
    /// A key whose values are to be shown.
    values: String,
    /// A parameter that there is not.
    unknown: Option<String>,
}

/// A query is one line, whatever was pasted: what breaks it is a blank, and within a quoted text, of which it is a part, written as such.
fn one_line(query: &str) -> String {
    let (mut line, mut quoted, mut escaping) = (String::new(), false, false);
    for char in query.chars() {
        match char {
            '\n' if quoted => line.push_str("\\n"),
            '\r' if quoted => line.push_str("\\r"),
            '\t' if quoted => line.push_str("\\t"),
            '\n' | '\r' | '\t' => line.push(' '),
            char => line.push(char),
        }
        quoted ^= char == '"' && !escaping;
        escaping = quoted && char == '\\' && !escaping;
    }
    line
}

/// Why there is no answer.
enum Refused {
    /// The query is none.
    Query(QueryError),
    /// Another parameter is none.
    Other(Problem),
}

impl From<Unanswered> for Refused {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Query { error, .. } => Self::Query(error),
            other => Self::Other(other.into()),
        }
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Other(problem)
    }
}

impl Wanted {
    fn read(raw: Option<&str>) -> Self {
        let mut wanted = Self::default();
        for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            let value = one_line(&value);
            match key.as_ref() {
                "where" => wanted.search.query = value,
                "since" => wanted.search.since = value,
                "until" => wanted.search.until = value,
                "order" => wanted.search.order = value,
                "after" => wanted.after = value,
                "values" => wanted.values = value,
                other => wanted.unknown = Some(other.to_owned()),
            }
        }
        wanted
    }

    /// The same as the interface for programs means it.
    fn asked(&self) -> Result<Asked, Problem> {
        if let Some(unknown) = &self.unknown {
            let hint = "known: where, since, until, order, after, values";
            return Err(Problem::new(StatusCode::BAD_REQUEST, format!("there is no parameter `{unknown}`"), hint));
        }
        let path = self.search.path(&[("after", &self.after)]);
        Asked::read(path.split_once('?').map(|(_, parameters)| parameters))
    }
}

pub(in crate::http) async fn page(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(raw.as_deref());
    let mut text = String::new();
    let refused = answer(&app, &wanted, &mut text).await.err();
    let mut body = String::from("<h1 class=hidden>Search</h1>");
    form(&mut body, &wanted.search, refused.is_some());
    let status = match refused {
        None => {
            body += &text;
            StatusCode::OK
        }
        Some(Refused::Query(error)) => {
            mistake(&mut body, &wanted.search.query, &error);
            StatusCode::BAD_REQUEST
        }
        Some(Refused::Other(problem)) if problem.status == StatusCode::BAD_REQUEST => {
            let (detail, hint) = (escaped(&problem.detail), escaped(&problem.hint));
            let _ = write!(body, "<div id=mistake class='alert critical' role=alert><p><strong>{detail}</strong></p><p>{hint}</p></div>");
            StatusCode::BAD_REQUEST
        }
        Some(Refused::Other(problem)) => return Err(problem),
    };
    body += include_str!("search_help.html");
    let title = if wanted.search.query.is_empty() { "Search".to_owned() } else { format!("{} · Search", wanted.search.query) };
    Ok((status, Frame { app: &app, caller: Some(&caller), place: Place::Search, title: &title, every: None }.page(&body)).into_response())
}

/// The box, and beside it what else is asked for.
fn form(body: &mut String, search: &Search, refused: bool) {
    let invalid = if refused { " aria-invalid=true aria-describedby=mistake" } else { "" };
    let suggested: String = Key::known()
        .map(|key| format!("<option value='{key}:'>"))
        .chain(Signal::ALL.iter().map(|signal| format!("<option value='signal:{}'>", signal.name())))
        .collect();
    let _ = write!(
        body,
        "<form class=search role=search action='/search'><label for=where>Calls that match</label>\
         <div class=line><input type=search id=where name=where value='{}' list=terms placeholder='stage:extraction signal:invalid_json latency&gt;2s' \
         autocomplete=off spellcheck=false autocapitalize=none{invalid}><button>Search</button></div><datalist id=terms>{suggested}</datalist>\
         <div class=line><label>Since <input name=since value='{}' placeholder=24h size=10 autocomplete=off></label>\
         <label>Until <input name=until value='{}' placeholder='2026-01-05T10:00Z' size=18 autocomplete=off></label>",
        escaped(&search.query),
        escaped(&search.since),
        escaped(&search.until),
    );
    if !search.order.is_empty() {
        let _ = write!(body, "<input type=hidden name=order value='{}'>", escaped(&search.order));
    }
    *body += "</div></form>";
    let choice = |name: &str, chosen: bool, other: Search| {
        let current = if chosen { " aria-current=true" } else { "" };
        format!("<li><a href='{}'{current}>{name}</a>", escaped(&other.path(&[])))
    };
    *body += "<nav class=choices aria-label='How far back and in which order'><ul>";
    for (name, since) in RANGES {
        let other = Search { since: since.to_owned(), until: String::new(), ..search.clone() };
        *body += &choice(name, search.since == since && search.until.is_empty(), other);
    }
    *body += "</ul><ul>";
    for order in ORDERS {
        let own = if search.order.is_empty() { "newest" } else { &search.order };
        *body += &choice(order, own == order, Search { order: order.to_owned(), ..search.clone() });
    }
    *body += "</ul></nav>";
}

/// The query with a mark where it stops making sense.
fn mistake(body: &mut String, query: &str, error: &QueryError) {
    let (before, rest) = query.split_at(query.floor_char_boundary(error.at));
    let length = rest.chars().next().map_or(0, char::len_utf8);
    let (marked, after) = rest.split_at(length);
    let marked = if marked.trim().is_empty() { "\u{a0}" } else { marked };
    let _ = write!(
        body,
        "<div id=mistake class='alert critical' role=alert><p><strong>At character {}: {}</strong></p><pre class=query>{}<mark>{}</mark>{}</pre><p>{}</p></div>",
        before.chars().count() + 1,
        escaped(&error.message),
        escaped(before),
        escaped(marked),
        escaped(after),
        escaped(error.hint.as_deref().unwrap_or("how a search is written is below")),
    );
}

async fn answer(app: &App, wanted: &Wanted, body: &mut String) -> Result<(), Refused> {
    let asked = wanted.asked()?;
    let query = app.calls.query(&asked.query).await?;
    let found = app.calls.search(query.clone(), asked.times, asked.order, asked.limit, asked.after).await?;
    behind(body, app);
    if found.rows.is_empty() && asked.after.is_none() {
        nothing(body, app, wanted, query).await?;
        return Ok(());
    }
    if asked.after.is_none() {
        for note in calls::notes(app, &asked.query, query.clone(), true).await? {
            let _ = write!(body, "<p class=notice>{}</p>", escaped(&note));
        }
        over_time(body, app, &query, &asked, &found).await?;
    }
    let (more, total) = match found.total {
        Total::Exactly(total) => ("", total),
        Total::AtLeast(total) => ("at least ", total),
    };
    let further = if asked.after.is_some() { " from here on" } else { "" };
    let calls = if total == 1 { "call" } else { "calls" };
    let _ = write!(body, "<section aria-labelledby=found><h2 id=found>{more}{} {calls}{further}</h2>", show::number(total as f64));
    values(body, app, wanted).await?;
    if found.rows.is_empty() {
        *body += "<p>This page is beyond the last one.</p>";
    } else {
        let order = if wanted.search.order.is_empty() { "newest" } else { &wanted.search.order };
        *body += &rows::table(&format!("Calls that match, {order} first"), &found.rows, &wanted.search);
    }
    if let Some(next) = found.next {
        let path = wanted.search.path(&[("after", &next.to_string())]);
        let _ = write!(body, "<p><a rel=next href='{}'>The next {}</a></p>", escaped(&path), asked.limit);
    }
    *body += "</section>";
    Ok(())
}

/// That calls may be missing, and how many.
fn behind(body: &mut String, app: &App) {
    let standing = calls::standing(app);
    let logs = standing["behind"].as_u64().unwrap_or_default();
    // What came within the last second is on its way.
    if logs == 0 || standing["freshness_seconds"].as_f64().is_some_and(|seconds| seconds < 2.0) && standing["state"] == "following" {
        return;
    }
    let _ = write!(
        body,
        "<p class=notice role=status>The index is {}: {} logs are still to come, and some calls cannot be found yet.</p>",
        escaped(standing["state"].as_str().unwrap_or("behind")),
        show::number(logs as f64)
    );
}

/// What to try instead.
async fn nothing(body: &mut String, app: &App, wanted: &Wanted, query: Query) -> Result<(), Refused> {
    let search = &wanted.search;
    *body += "<section aria-labelledby=found><h2 id=found>No calls</h2><p>No call that the index knows matches.</p><ul>";
    for note in calls::notes(app, &search.query, query, false).await? {
        let _ = write!(body, "<li>{}", escaped(&note));
    }
    let mut instead = |other: Search, words: &str| {
        let _ = write!(body, "<li><a href='{}'>{}</a>", escaped(&other.path(&[])), escaped(words));
    };
    if !search.since.is_empty() || !search.until.is_empty() {
        instead(Search { since: String::new(), until: String::new(), ..search.clone() }, "at any time");
    }
    let terms: Vec<_> = search.query.split_whitespace().collect();
    // A text in quotes may hold blanks; there, terms cannot be told apart like this.
    if terms.len() > 1 && !search.query.contains('"') {
        for left_out in 0..terms.len() {
            let others: Vec<_> = terms.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, term)| *term).collect();
            instead(Search { query: others.join(" "), ..search.clone() }, &format!("without {}", terms[left_out]));
        }
    }
    *body += "<li>upper and lower case differ, and a value is written whole or with a <code>*</code></ul>";
    values(body, app, wanted).await?;
    *body += "</section>";
    Ok(())
}

/// The most frequent values of a key, each as a search narrowed by it; or the keys to choose from.
async fn values(body: &mut String, app: &App, wanted: &Wanted) -> Result<(), Refused> {
    let keys = KEYS.map(|key| {
        let current = if wanted.values == key { " aria-current=true" } else { "" };
        format!("<a href='{}'{current}>{key}</a>", escaped(&wanted.search.path(&[("values", key)])))
    });
    let _ = write!(body, "<p class='tags dim'>Values of {}</p>", keys.join(" "));
    let Some(key) = Key::parse(&wanted.values) else { return Ok(()) };
    let found = app.calls.values(key.clone(), String::new(), VALUES_MAX).await?;
    let _ = write!(body, "<section aria-label='Values'><p class=tags>");
    if found.is_empty() {
        let _ = write!(body, "None of the newest calls has a <code>{}</code>.", escaped(&wanted.values));
    }
    for (value, calls) in found {
        let path = wanted.search.narrowed_to_label(&key, &value).path(&[]);
        let _ = write!(body, "<a class=tag href='{}'>{} <small>{}</small></a> ", escaped(&path), escaped(&value), show::number(calls as f64));
    }
    *body += "</p><p class=dim>The numbers are of the newest calls, whatever is searched for.</p></section>";
    Ok(())
}

/// When these calls were: of all that is asked for, or of its newest part where that is a great many calls.
async fn over_time(body: &mut String, app: &App, query: &Query, asked: &Asked, found: &Found) -> Result<(), Refused> {
    let moment = Span::from_millis(1);
    let end = async |query: &Query, order: Order| -> Result<Option<Timestamp>, Unanswered> {
        Ok(app.calls.search(query.clone(), asked.times, order, 1, None).await?.rows.first().map(|row| row.time))
    };
    let frequent = matches!(found.total, Total::AtLeast(_));
    // The ends of what matches are known where all of it is here, and quickly found where it is frequent. Else those of all calls will do.
    let shown = || found.rows.iter().map(|row| row.time);
    let (oldest, newest) = match (frequent, found.next.is_none()) {
        (_, true) => (shown().min(), shown().max()),
        (true, _) => (end(query, Order::Oldest).await?, end(query, Order::Newest).await?),
        (false, _) => (end(&Query::default(), Order::Oldest).await?, end(&Query::default(), Order::Newest).await?),
    };
    let (Some(oldest), Some(newest)) = (oldest, newest) else { return Ok(()) };
    let Times { from, until } = asked.times;
    let mut to = until.unwrap_or(newest + moment);
    let mut start = from.unwrap_or(oldest).min(to - CHART_LEAST);
    let mut part = false;
    if frequent {
        let last = (to.min(newest + moment) - HOUR).max(start);
        let hour: u64 = app.calls.histogram(Query::default(), last, to, 1).await?.iter().map(|bar| bar.calls).sum();
        let reach = Span::from_millis((HOUR.millis() as f64 * CHART_CALLS as f64 / hour.max(1) as f64) as u64).max(HOUR);
        if to.since(start) > reach {
            to = to.min(newest + moment);
            start = start.max(to - reach);
            part = true;
        }
    }
    // Up to now where it is counted back from there: that nothing came lately is to be seen.
    if from.is_some() && until.is_none() && !part {
        to = now().max(to);
    }
    let fine = app.calls.histogram(query.clone(), start, to, FINE_BARS).await?;
    let Some(drawn) = merged(&fine, to, from.is_none() && !part) else { return Ok(()) };
    let (calls, errors) = drawn.bars.iter().fold((0, 0), |(calls, errors), bar| (calls + bar.1, errors + bar.2));
    let (from, until) = (drawn.from, drawn.until);
    let label = format!("{} calls, {} of them failed, from {from} to {until}", show::number(calls as f64), show::number(errors as f64));
    let newest = if part { "the newest of them, " } else { "" };
    let _ = write!(
        body,
        "<figure class=bars><figcaption><span>{newest}{} to {}</span><span class=dim><span class=key>\
         <svg viewBox='0 0 20 10' aria-hidden=true><rect class=count width=20 height=10 /></svg>calls</span><span class=key>\
         <svg viewBox='0 0 20 10' aria-hidden=true><rect class=failed width=20 height=10 /></svg>failed</span>the axis is UTC</span></figcaption>{}</figure>",
        time(from),
        time(until),
        Bars { label, ..drawn }.svg(),
    );
    Ok(())
}

/// At most [`BARS`] bars of finer ones up to `until`; where they may be, without empty ones at both ends. `None` where there are none.
fn merged(fine: &[Bar], until: Timestamp, ends: bool) -> Option<Bars> {
    let has = |bar: &Bar| bar.calls > 0 || !ends;
    let (first, last) = (fine.iter().position(has)?, fine.iter().rposition(has)?);
    let until = fine.get(last + 1).map_or(until, |next| next.from);
    let fine = &fine[first..=last];
    let sum = |bars: &[Bar]| (bars[0].from, bars.iter().map(|bar| bar.calls).sum(), bars.iter().map(|bar| bar.errors).sum());
    let bars = fine.chunks(fine.len().div_ceil(BARS)).map(sum).collect();
    Some(Bars { label: String::new(), from: fine[0].from, until, bars })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_of_the_help_is_a_query() {
        let help = include_str!("search_help.html");
        let examples: Vec<_> = help.split("<code>").skip(1).filter_map(|rest| rest.split("</code>").next()).collect();
        let plain = |text: &str| text.replace("&gt;", ">").replace("&lt;", "<");
        // Parts of terms are shown too; what has a key is a whole one.
        let whole: Vec<_> = examples.iter().map(|text| plain(text)).filter(|text| text.contains([':', '>'])).collect();
        assert!(whole.len() > 12, "{examples:?}");
        for query in whole {
            assert!(Query::parse(&query, Timestamp::EPOCH).is_ok(), "{query}");
        }
    }

    #[test]
    fn what_was_pasted_is_one_line_and_texts_in_quotes_mean_the_same() {
        assert_eq!(one_line("stage:a\n model:b\tuser:c"), "stage:a  model:b user:c");
        let pasted = "user:\"a\nb \\\" c\t\\\\\"\n\"own key\":\"\r\"";
        let line = one_line(pasted);
        assert!(!line.contains(['\n', '\r', '\t']), "{line}");
        assert_eq!(terms(&line), terms(pasted));
    }

    /// What a query means, wherever its terms stand.
    fn terms(query: &str) -> String {
        let read = format!("{:?}", Query::parse(query, Timestamp::EPOCH).expect("a query"));
        read.split("at: ").map(|part| part.trim_start_matches(|char: char| char.is_ascii_digit())).collect()
    }

    #[test]
    fn a_chart_has_few_bars_which_add_up_and_leaves_out_empty_ends_alone() {
        let bar = |at: u64, calls: u64| Bar { from: Timestamp::EPOCH + Span::from_secs(at), calls, errors: calls / 2 };
        let fine: Vec<_> = (0..960).map(|at| bar(at, if (100..700).contains(&at) && at % 7 == 0 { 4 } else { 0 })).collect();
        let until = Timestamp::EPOCH + Span::from_secs(960);
        let calls = fine.iter().map(|bar| bar.calls).sum::<u64>();
        for (ends, from, to) in [(true, 105, 694), (false, 0, 960)] {
            let drawn = merged(&fine, until, ends).expect("there are bars");
            let sum = drawn.bars.iter().fold((0, 0), |sum, bar| (sum.0 + bar.1, sum.1 + bar.2));
            assert_eq!((sum, drawn.bars.len() <= BARS), ((calls, calls / 2), true));
            assert_eq!((drawn.from.millis() / 1000, drawn.until.millis() / 1000), (from, to));
        }
        assert_eq!(merged(&[bar(0, 0)], until, true), None);
    }

    #[test]
    fn a_mistake_is_marked_where_it_is_and_nothing_of_the_query_becomes_a_tag() {
        let mark = |query: &str| {
            let error = Query::parse(query, Timestamp::EPOCH).expect_err(query);
            let mut body = String::new();
            mistake(&mut body, query, &error);
            body
        };
        assert!(mark("stage:").contains("<pre class=query>stage:<mark>\u{a0}</mark></pre>"), "{}", mark("stage:"));
        assert!(mark("a:x<b> latency>ü").contains("a:x&lt;b&gt; latency&gt;<mark>ü</mark></pre>"), "{}", mark("a:x<b> latency>ü"));
        assert!(mark("モデル:x OR y:z").contains("At character 7:"), "{}", mark("モデル:x OR y:z"));
    }
}
