//! `GET /api/v1/calls`: calls that a query finds; `GET /api/v1/calls/{sequence}`: one of them with its payload and what judges said of it.

use super::{App, Named, Problem};
use crate::calls::{Payload, Unanswered, character};
use crate::indexing::Indexed;
use crate::outbox::now;
use crate::runs::Opinion;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use index::{Cursor, LIMIT_MAX, Order, Times, Total};
use model::{Span, Timestamp};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// Calls of a page, unless asked otherwise.
const LIMIT: usize = 50;

/// What is asked of a search.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub query: String,
    pub times: Times,
    pub order: Order,
    pub limit: usize,
    pub after: Option<Cursor>,
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Query { error, character } => {
                let hint = error.hint.clone().unwrap_or_else(|| "see the query language in the documentation".to_owned());
                Self::new(StatusCode::BAD_REQUEST, format!("at character {character} of the query: {}", error.message), hint)
            }
            Unanswered::Sums(error) => {
                let text = error.to_string();
                let (what, hint) = text.split_once("\nhint: ").unwrap_or((&text, "sum by user_id"));
                Self::new(StatusCode::BAD_REQUEST, what, hint)
            }
            Unanswered::Fault(fault) => fault.into(),
        }
    }
}

/// A time, or a length of time before now.
pub(super) fn moment(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let time = Timestamp::parse(text).or_else(|| Span::parse(text).map(|span| now() - span));
    time.ok_or_else(|| {
        let hint = format!("write {name}=2026-01-05T10:00:00Z, or a length of time before now such as {name}=24h");
        Problem::new(StatusCode::BAD_REQUEST, format!("`{name}` is no time: `{text}`"), hint)
    })
}

/// Refuses times between which there can be nothing: whoever exchanged them would take it for an answer.
pub(super) fn in_order(times: Times) -> Result<(), Problem> {
    match times {
        Times { from: Some(from), until: Some(until) } if from >= until => {
            let what = format!("`since` is {from}, which is not before `until`, {until}");
            Err(Problem::new(StatusCode::BAD_REQUEST, what, "a length of time counts back from now: since=3h and until=2h is the hour between"))
        }
        _ => Ok(()),
    }
}

pub(super) fn order(text: &str) -> Result<Order, Problem> {
    [("newest", Order::Newest), ("oldest", Order::Oldest), ("slowest", Order::Slowest), ("costliest", Order::Costliest)]
        .into_iter()
        .find(|(name, _)| *name == text)
        .map(|(_, order)| order)
        .ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, format!("there is no order `{text}`"), "newest, oldest, slowest or costliest"))
}

impl Asked {
    /// From a link's query string.
    pub fn read(raw: Option<&str>) -> Result<Self, Problem> {
        let mut asked = Self { query: String::new(), times: Times::ALL, order: Order::Newest, limit: LIMIT, after: None };
        for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "where" => asked.query = value.into_owned(),
                // A form that was left empty says nothing.
                _ if value.is_empty() => {}
                "since" => asked.times.from = Some(moment("since", &value)?),
                "until" => asked.times.until = Some(moment("until", &value)?),
                "order" => asked.order = order(&value)?,
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    asked.limit = limit.ok_or_else(|| {
                        Problem::new(StatusCode::BAD_REQUEST, format!("`limit` cannot be {value}"), format!("a whole number from 1 to {LIMIT_MAX}"))
                    })?;
                }
                "after" => {
                    asked.after = Some(value.parse().map_err(|_| {
                        let hint = "take `next` of the page before, as it is";
                        Problem::new(StatusCode::BAD_REQUEST, format!("`{value}` is no place in a list of calls"), hint)
                    })?);
                }
                other => {
                    let hint = "known: where, since, until, order, limit, after";
                    return Err(Problem::new(StatusCode::BAD_REQUEST, format!("there is no parameter `{other}`"), hint));
                }
            }
        }
        in_order(asked.times)?;
        Ok(asked)
    }
}

pub(super) async fn search(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let asked = Asked::read(raw.as_deref())?;
    let query = app.calls.query(&asked.query).await?;
    let found = app.calls.search(query.clone(), asked.times, asked.order, asked.limit, asked.after).await?;
    let notes = if asked.after.is_none() { notes(&app, &asked.query, query, !found.rows.is_empty()).await? } else { Vec::new() };
    let (total, exact) = match found.total {
        Total::Exactly(total) => (total, true),
        Total::AtLeast(total) => (total, false),
    };
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(Json(json!({ "calls": found.rows, "total": total, "total_is_exact": exact, "next": next, "notes": notes, "index": standing(&app) })))
}

/// What may be wrong with a query: names that no call has; where nothing is found, what else was perhaps meant.
pub(super) async fn notes(app: &App, text: &str, query: index::Query, found: bool) -> Result<Vec<String>, Problem> {
    let at = |at: usize| format!(" (at character {})", character(text, at));
    let mut notes: Vec<String> =
        app.calls.unknown(query.clone()).await?.iter().map(|(what, unknown)| lacking(what, &at(unknown.at), unknown)).collect();
    if !found {
        notes.extend(query.readings().into_iter().map(|(place, reading)| format!("{reading}{}", at(place))));
    }
    Ok(notes)
}

/// Of keys that no call has.
pub(super) async fn notes_of_keys(app: &App, keys: &[index::Key]) -> Result<Vec<String>, Problem> {
    Ok(app.calls.unknown(index::Query::having(keys)).await?.iter().map(|(what, unknown)| lacking(what, "", unknown)).collect())
}

fn lacking(what: &str, at: &str, unknown: &index::Unknown) -> String {
    let meant = unknown.meant.as_ref().map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
    format!("no call has a {what} `{}`{at}{meant}", unknown.name)
}

/// How far the index is, for whoever wonders what is missing in an answer.
pub(super) fn standing(app: &App) -> Value {
    let indexed: &Indexed = &app.calls.indexed;
    let reader = indexed.reader();
    let position = reader.position();
    let behind = app.pulse.position.load(Ordering::Relaxed).saturating_sub(position);
    json!({
        "position": position,
        "behind": behind,
        "freshness_seconds": freshness(app, behind),
        "state": if indexed.filling.load(Ordering::Relaxed) { "reading the stream again" } else { "following" },
        "calls": reader.calls(),
        "bytes": reader.bytes(),
        "missed": indexed.missed.load(Ordering::Relaxed),
    })
}

/// How much older the last call that can be found is than the last one counted; 0 when all that was counted can be found.
pub(super) fn freshness(app: &App, behind: u64) -> f64 {
    let (last, found) = (app.pulse.last_stamp.load(Ordering::Relaxed), app.calls.indexed.stamp.load(Ordering::Relaxed));
    // Before the first call of this process nothing is known of either.
    if behind == 0 || found == 0 { 0.0 } else { last.saturating_sub(found) as f64 / 1000.0 }
}

pub(super) async fn one(State(app): State<App>, Named(sequence): Named) -> Result<Json<Value>, Problem> {
    let sequence = sequence_of(&sequence)?;
    let row = app.calls.call(sequence).await?.ok_or_else(|| unknown(sequence))?;
    let said = app.calls.verdicts(row.text(index::Text::Environment), vec![sequence]).await?;
    let verdicts: Vec<Opinion> = said.iter().flatten().map(Opinion::from).collect();
    let payload = app.calls.payload(sequence).await;
    let (name, why) = (payload.name(), if let Payload::Unreadable(why) = &payload { Some(why.clone()) } else { None });
    let payload = if let Payload::Here(value) = payload { value } else { Value::Null };
    Ok(Json(json!({ "call": row, "verdicts": verdicts, "payload": payload, "payload_is": name, "payload_problem": why })))
}

pub(super) fn sequence_of(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| {
        let hint = "calls are named by their sequence in the stream; GET /api/v1/calls?where=… finds it";
        Problem::new(StatusCode::BAD_REQUEST, format!("`{text}` is no sequence"), hint)
    })
}

pub(super) fn unknown(sequence: u64) -> Problem {
    let hint = "it has left the index with its retention, is no call, or was not read yet: /api/v1/status says how far the index is";
    Problem::new(StatusCode::NOT_FOUND, format!("there is no call {sequence} in the index"), hint)
}
