//! `GET /api/v1/alerts`: what is pending and firing now, and what changed last.

use super::{App, Problem};
use crate::message;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use machine::{Notification, State as Phase};
use model::Labels;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Changed alerts in the answer; older ones are in the store until retention takes them.
const HISTORY_MAX: usize = 200;

pub(super) async fn alerts(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let (active, history) = read(&app, HISTORY_MAX).await?;
    let history: Vec<_> = history.into_iter().map(|(state, notification)| json!({ "state": state, "notification": notification })).collect();
    Ok(Json(json!({ "alerts": active, "history": history })))
}

/// An alert that is pending or fires, as its message would tell it now.
pub(super) struct Active {
    pub phase: Phase,
    pub told: Notification,
    pub adoptable: bool,
    /// Its rule's place in the plan, and its labels.
    pub rule: usize,
    pub labels: Labels,
}

/// Those that fire first, the most severe and then the latest of them before the others.
pub(super) async fn active(app: &App) -> Result<Vec<Active>, Problem> {
    let mut active = app
        .reader
        .ask(|machine| {
            let place = |view: &machine::AlertView<'_>| machine.plan().rules.iter().position(|rule| rule.name == view.rule.name).unwrap_or_default();
            let of = |view: machine::AlertView<'_>| Active {
                phase: view.alert.state,
                told: view.told(),
                adoptable: machine.adoptable(&view.alert.id),
                rule: place(&view),
                labels: view.labels.clone(),
            };
            machine.alerts().map(of).collect::<Vec<_>>()
        })
        .await?;
    active.sort_by_key(|alert| {
        (alert.phase == Phase::Pending, std::cmp::Reverse((alert.told.severity, alert.told.fired)), alert.told.alert_id.clone())
    });
    Ok(active)
}

/// An alert as it would be told now, or as it was told last.
pub(super) async fn told(app: &App, id: &str) -> Result<Notification, Problem> {
    if let Some(active) = active(app).await?.into_iter().find(|alert| alert.told.alert_id == id) {
        return Ok(active.told);
    }
    let asked = id.to_owned();
    app.store.ask(move |db| db.alert(&asked)).await?.ok_or_else(|| {
        let hint = "it may be older than store.retention; GET /api/v1/alerts lists those that are pending or firing";
        Problem::new(StatusCode::NOT_FOUND, format!("there is no alert {id}"), hint)
    })
}

async fn read(app: &App, most: usize) -> Result<(Vec<Value>, Vec<(String, Notification)>), Problem> {
    let active = app
        .reader
        .ask(|machine| {
            let view = |view: machine::AlertView<'_>| {
                let group: serde_json::Map<String, Value> = std::iter::once(("environment".to_owned(), json!(view.environment)))
                    .chain(view.rule.group_by.iter().zip(view.labels).map(|(key, label)| (key.to_string(), json!(label))))
                    .collect();
                let (state, since) = match view.alert.state {
                    Phase::Pending => ("pending", None),
                    Phase::Firing { since, .. } => ("firing", Some(since.to_string())),
                };
                let seen = view.rule.watches.iter().zip(&view.alert.observations).filter(|(watch, _)| !watch.part);
                let watches: serde_json::Map<String, Value> = seen.map(|(watch, seen)| (watch.name.clone(), json!(seen))).collect();
                let drifted = view.rule.watches.iter().zip(&view.alert.observations).find_map(|(watch, seen)| Some((&watch.statistic, seen.drift?)));
                let facts = drifted.map_or_else(Vec::new, |(statistic, drift)| {
                    let (what, hit) = (statistic.describe(), &view.alert.hit);
                    message::facts(&what, &statistic.unit(), statistic.of_what(), &drift, hit, view.labels.len(), view.alert.heard)
                });
                let facts: serde_json::Map<String, Value> = facts.into_iter().map(|(label, text)| (label, json!(text))).collect();
                json!({
                    "id": view.alert.id,
                    "rule": view.rule.name,
                    "severity": view.alert.severity,
                    "state": state,
                    "group": group,
                    "summary": view.alert.summary,
                    "began": view.alert.began.to_string(),
                    "firing_since": since,
                    "watches": watches,
                    "labels": view.alert.labels.iter().cloned().collect::<BTreeMap<String, String>>(),
                    "actions": view.rule.actions,
                    "runbook": view.rule.runbook,
                    "owner": view.rule.owner,
                    "examples": view.alert.examples,
                    "hit": view.alert.hit,
                    "facts": facts,
                    "adoptable": machine.adoptable(&view.alert.id),
                })
            };
            machine.alerts().map(view).collect::<Vec<_>>()
        })
        .await?;
    let history = app.store.ask(move |db| db.alerts(most)).await?;
    Ok((active, history))
}
