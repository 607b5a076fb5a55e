//! `GET /api/v1/costs?by=user_id&window=24h`: what calls cost by one or two keys, beside the window before, and which users run hot.
//!
//! Windows end at the latest call, so that old logs that are read in today have costs today. A user runs hot whose share of an environment's cost has
//! grown: a bounded sketch says who may, and sums of their calls say whether it is so.

use super::{App, Problem, calls};
use crate::costs::Costs;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use index::{Key, Text, Times};
use model::{Span, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

/// Rows of a table, unless asked otherwise.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 1_000;
const DAY: Span = Span::from_secs(86_400);
const WINDOW_MAX: Span = Span::from_secs(31 * 86_400);
/// A user runs hot whose share of the cost is more than so many times what it was in the hours before.
const HOT_FACTOR: f64 = 3.0;
/// So many standard errors of a sum of so many calls less, it still is: of dozens of users with a few calls each, some have had more by chance.
const HOT_SURELY: f64 = 2.0;
/// Users that may run hot and are looked at one by one, those that cost most.
const HOT_MAX: usize = 20;
/// The sketch knows whole hours, of two windows in two days.
const HOUR: Span = Span::from_secs(3600);

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub by: Vec<Key>,
    pub window: Span,
    pub query: String,
    pub limit: usize,
}

/// The table with the windows that it is about.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub from: Timestamp,
    pub until: Timestamp,
    pub window: String,
    #[serde(flatten)]
    pub costs: Costs,
    pub hot: Vec<Hot>,
    /// What may be wrong with what was asked.
    pub notes: Vec<String>,
}

/// A user who runs hot. Exact.
#[derive(Debug, Serialize)]
pub(crate) struct Hot {
    pub environment: String,
    pub user_id: String,
    pub cost_usd: f64,
    pub before_usd: f64,
    /// Of the environment's cost, in this window and in the one before.
    pub share: f64,
    pub share_before: f64,
    /// The whole hours, of which the last has only begun, that are compared with as many before.
    pub from: Timestamp,
    pub until: Timestamp,
}

pub(super) async fn costs(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let asked = Asked::read(raw.as_deref())?;
    let answer = read(&app, &asked).await?;
    let mut shown = json!(answer);
    shown["text"] = json!(answer.costs.text());
    Ok(Json(shown))
}

impl Asked {
    pub fn read(raw: Option<&str>) -> Result<Self, Problem> {
        let mut asked = Self { by: vec![Key::Text(Text::User)], window: DAY, query: String::new(), limit: LIMIT };
        let refused = |what: String, hint: &str| Problem::new(StatusCode::BAD_REQUEST, what, hint);
        for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "where" => asked.query = value.into_owned(),
                _ if value.is_empty() => {}
                "by" => {
                    let keys: Option<Vec<Key>> = value.split(',').map(|name| Key::parse(name.trim())).collect();
                    asked.by = keys.ok_or_else(|| refused(format!("`by` has an empty key: `{value}`"), "such as by=user_id, or by=model,stage"))?;
                }
                "window" => {
                    let window = Span::parse(&value).filter(|window| (Span::from_secs(60)..=WINDOW_MAX).contains(window));
                    asked.window = window.ok_or_else(|| refused(format!("`window` cannot be {value}"), "from 1m to 31d, such as 24h"))?;
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    asked.limit = limit.ok_or_else(|| refused(format!("`limit` cannot be {value}"), "a whole number from 1 to 1000"))?;
                }
                other => return Err(refused(format!("there is no parameter `{other}`"), "known: by, window, where, limit")),
            }
        }
        Ok(asked)
    }

    /// Who runs hot is known of all calls of an environment, not of those that a query selects.
    pub fn tells_hot(&self) -> bool {
        self.by == [Key::Text(Text::User)] && self.query.trim().is_empty()
    }
}

pub(crate) async fn read(app: &App, asked: &Asked) -> Result<Answer, Problem> {
    let query = app.calls.query(&asked.query).await?;
    let reader = app.calls.indexed.reader();
    // The latest call is among those before the end.
    let until = reader.latest().map_or_else(crate::outbox::now, |latest| latest + Span::from_millis(1));
    let from = until - asked.window;
    let times = |from, until| Times { from: Some(from), until: Some(until) };
    let now = app.calls.totals(query.clone(), times(from, until), asked.by.clone(), asked.limit).await?;
    let mut notes = calls::notes_of_keys(app, &asked.by).await?;
    notes.extend(calls::notes(app, &asked.query, query.clone(), now.total.calls > 0).await?);
    let before = app.calls.totals(query, times(from - asked.window, from), asked.by.clone(), LIMIT_MAX).await?;
    let costs = Costs::new(asked.by.iter().map(ToString::to_string).collect(), now, &before);
    let hot = if asked.tells_hot() { hot(app, asked.window, until).await? } else { Vec::new() };
    Ok(Answer { from, until, window: asked.window.to_string(), costs, hot, notes })
}

/// Who runs hot in the last hours of a window, with the one that has begun, confirmed by their calls.
async fn hot(app: &App, window: Span, until: Timestamp) -> Result<Vec<Hot>, Problem> {
    let until = until.floor(HOUR) + HOUR;
    let hours = Span::from_millis(window.millis() / HOUR.millis() * HOUR.millis()).clamp(HOUR, DAY);
    let from = until - hours;
    let candidates = {
        let heavy = app.calls.indexed.heavy();
        let mut all = Vec::new();
        for environment in heavy.environments() {
            all.extend(heavy.hot(environment, from, until, HOT_FACTOR).into_iter().map(|hot| (environment.to_owned(), hot)));
        }
        all.sort_by_key(|(_, hot): &(String, index::Hot)| std::cmp::Reverse(hot.now.at_most));
        all.truncate(HOT_MAX);
        all
    };
    let mut found = Vec::new();
    for (environment, candidate) in candidates.into_iter().filter(|(_, hot)| !hot.now.label.is_empty()) {
        let of = |text: Text, value: &str| index::label_term(&Key::Text(text), value).unwrap_or_default();
        let in_environment = of(Text::Environment, &environment);
        let whole = app.calls.query(&in_environment).await?;
        let own = app.calls.query(&format!("{in_environment} {}", of(Text::User, &candidate.now.label))).await?;
        let cost = async |query: &index::Query, from: Timestamp, until: Timestamp| {
            let times = Times { from: Some(from), until: Some(until) };
            let sums = app.calls.totals(query.clone(), times, vec![Key::Text(Text::Environment)], 1).await?;
            Ok::<_, Problem>((sums.total.cost_nanos, sums.total.calls))
        };
        let ((now, calls), (all_now, _)) = (cost(&own, from, until).await?, cost(&whole, from, until).await?);
        let ((before, _), (all_before, _)) = (cost(&own, from - hours, from).await?, cost(&whole, from - hours, from).await?);
        let share = |part: u128, of: u128| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let (share, share_before) = (share(now, all_now), share(before, all_before));
        if share * (1.0 - HOT_SURELY / (calls as f64).sqrt()) > HOT_FACTOR * share_before {
            let (cost_usd, before_usd) = (now as f64 / 1e9, before as f64 / 1e9);
            found.push(Hot { environment, user_id: candidate.now.label, cost_usd, before_usd, share, share_before, from, until });
        }
    }
    Ok(found)
}
