//! Incidents for programs: `GET /api/v1/incidents`, `GET /api/v1/incidents/{id}`, `POST /api/v1/incidents/{id}/ack`.
//!
//! What may still change is asked of its keeper, what is over of the store. Deliberately absent: silences (`silences.rs`), and what decides which alerts
//! belong together.

use super::access::Caller;
use super::{App, Named, Problem, audit};
use crate::incidents::Answer;
use crate::store::Delivery;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use machine::Notification;
use machine::incident::{Acknowledged, Seen, Silence};
use model::Timestamp;
use model::plan::Severity;
use serde::Serialize;
use serde_json::{Value, json};

/// Incidents in a list, unless asked otherwise, and at most: of each it has a few hundred bytes.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;
/// Alerts of one incident that are shown whole, some kilobytes each.
pub(super) const ALERTS_MAX: usize = 200;

/// An incident in a list.
#[derive(Debug, Serialize)]
struct Brief<'a> {
    id: &'a str,
    environment: &'a str,
    firing: bool,
    severity: Severity,
    rules: &'a [String],
    group: &'a [(String, String)],
    /// What the alert says that stands for it.
    summary: &'a str,
    began: Timestamp,
    ended: Option<Timestamp>,
    alerts: u32,
    firing_alerts: u32,
    returned: u32,
    acknowledged: Option<&'a Acknowledged>,
    silenced: Option<&'a Silence>,
    /// The most likely cause, where one is known.
    cause: &'a [String],
}

/// An incident with its alerts, those that fire before the others.
pub(crate) struct Found {
    pub seen: Seen,
    pub alerts: Vec<Notification>,
}

pub(super) async fn list(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let mut limit = LIMIT;
    for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
        let refused = |what: String, hint: String| Problem::new(StatusCode::BAD_REQUEST, what, hint);
        match key.as_ref() {
            "limit" => {
                let read = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                limit = read.ok_or_else(|| refused(format!("`limit` cannot be {value}"), format!("a whole number from 1 to {LIMIT_MAX}")))?;
            }
            other => return Err(refused(format!("there is no parameter `{other}`"), "known: limit".to_owned())),
        }
    }
    let mut all = open(&app).await?;
    let open = all.len();
    all.truncate(limit);
    all.extend(ended(&app, limit - all.len()).await?);
    Ok(Json(json!({ "open": open, "incidents": all.iter().map(brief).collect::<Vec<_>>() })))
}

fn brief(seen: &Seen) -> Brief<'_> {
    Brief {
        id: &seen.id,
        environment: &seen.environment,
        firing: seen.firing,
        severity: seen.severity,
        rules: &seen.rules,
        group: &seen.lead.group,
        summary: &seen.lead.summary,
        began: seen.began,
        ended: seen.ended,
        alerts: seen.alerts,
        firing_alerts: seen.firing_alerts,
        returned: seen.returned,
        acknowledged: seen.acknowledged.as_ref(),
        silenced: seen.silenced.as_ref(),
        cause: seen.findings.as_ref().map_or(&[], |findings| &findings.cause),
    }
}

/// Those of which something fires. What nobody has in hand comes first, then the most severe, then the latest.
pub(super) async fn open(app: &App) -> Result<Vec<Seen>, Problem> {
    let mut open = app.incidents.open().await?;
    open.sort_by_cached_key(|seen| {
        let quiet = (seen.silenced.is_some(), seen.acknowledged.is_some());
        (quiet, std::cmp::Reverse((seen.severity, seen.began)), seen.id.clone())
    });
    Ok(open)
}

/// Those that are over, the latest first.
pub(super) async fn ended(app: &App, most: usize) -> Result<Vec<Seen>, Problem> {
    let ended = app.store.ask(move |db| db.ended_incidents(most)).await?;
    Ok(ended.iter().filter_map(|incident| incident.seen(None)).collect())
}

/// By its id, an alert's, or, while it may still change, the beginning that only one has.
pub(crate) async fn find(app: &App, name: &str) -> Result<Option<Found>, Problem> {
    let seen = app.incidents.one(name).await?;
    let asked = seen.as_ref().map_or(name, |seen| &seen.id).to_owned();
    let Some(kept) = app.store.ask(move |db| db.incident(&asked)).await? else { return Ok(None) };
    let Some(seen) = seen.or_else(|| kept.seen(None)) else { return Ok(None) };
    let id = seen.id.clone();
    let earlier = app.store.ask(move |db| db.earlier_alerts(&id)).await?;
    let mut alerts = kept.alerts;
    alerts.extend(earlier);
    alerts.sort_by_key(|alert| (alert.reason.ends(), std::cmp::Reverse(alert.severity)));
    Ok(Some(Found { seen, alerts }))
}

pub(super) fn unknown(name: &str) -> Problem {
    let hint = "GET /api/v1/incidents lists those that are open and the latest of the others; older ones go with store.retention";
    Problem::new(StatusCode::NOT_FOUND, format!("there is no incident {name}"), hint)
}

/// Nothing of it fires any more.
pub(super) fn over(seen: &Seen, what: &str) -> Problem {
    let ended = seen.ended.map_or_else(String::new, |ended| format!(" since {ended}"));
    Problem::new(StatusCode::CONFLICT, format!("incident {} is over{ended}", seen.id), format!("there is nothing left to {what}"))
}

pub(super) async fn one(State(app): State<App>, Named(name): Named) -> Result<Json<Value>, Problem> {
    let Found { seen, mut alerts } = find(&app, &name).await?.ok_or_else(|| unknown(&name))?;
    alerts.truncate(ALERTS_MAX);
    let id = seen.id.clone();
    let deliveries = app.store.ask(move |db| db.deliveries(&id)).await?;
    let deliveries: Vec<_> = deliveries.iter().map(delivery).collect();
    Ok(Json(json!({ "incident": seen, "alerts": alerts, "deliveries": deliveries })))
}

fn delivery(delivery: &Delivery) -> Value {
    json!({
        "to": delivery.route,
        "reason": delivery.reason,
        "step": delivery.step.name(),
        "state": delivery.state,
        "tries": delivery.tries,
        "planned": delivery.planned_at,
        "problem": delivery.problem,
        "maybe_repeated": delivery.maybe_repeated,
    })
}

pub(super) async fn ack(State(app): State<App>, Extension(caller): Extension<Caller>, Named(name): Named) -> Result<Json<Value>, Problem> {
    let (seen, already) = acknowledge(&app, &caller, &name).await?;
    Ok(Json(json!({ "incident": seen.id, "already": already, "acknowledged": seen.acknowledged })))
}

/// The incident, and whether somebody had it in hand before.
pub(super) async fn acknowledge(app: &App, caller: &Caller, name: &str) -> Result<(Box<Seen>, bool), Problem> {
    let act = async {
        match app.incidents.acknowledge(name, &caller.name).await? {
            Answer::Done(seen) => Ok((seen, false)),
            Answer::Already(seen) => Ok((seen, true)),
            Answer::Over(seen) => Err(over(&seen, "acknowledge")),
            Answer::Unknown | Answer::Lifted | Answer::Full => Err(gone(app, name, "acknowledge").await?),
        }
    };
    audit::noted(app, caller, "ack", name, act, |(seen, already)| {
        let by = seen.acknowledged.as_ref().filter(|_| *already).map(|known| format!(" already, by {}", known.by));
        format!("acknowledged{}", by.unwrap_or_default())
    })
    .await
}

/// Why its keeper does not know it: it is long over, or was never there.
pub(super) async fn gone(app: &App, name: &str, what: &str) -> Result<Problem, Problem> {
    let asked = name.to_owned();
    let kept = app.store.ask(move |db| db.incident(&asked)).await?;
    Ok(kept.and_then(|incident| incident.seen(None)).map_or_else(|| unknown(name), |seen| over(&seen, what)))
}
