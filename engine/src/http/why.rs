//! `GET /api/v1/alerts/{id}/why`: what the calls of an alert tell of it: its most likely cause, whom it hits, and what it cost.

use super::{App, Named, Problem, alerts, incidents};
use crate::why::{About, Why};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use machine::Notification;
use serde_json::{Value, json};

pub(super) async fn why(State(app): State<App>, Named(id): Named) -> Result<Json<Value>, Problem> {
    match read(&app, &id).await? {
        Some(why) => {
            let part_of = incidents::find(&app, &id).await?.map(|found| found.seen);
            let beyond = part_of.as_ref().and_then(|seen| Some(json!({ "incident": seen.id, "cause": why.beyond(seen)? })));
            let mut answer = json!(why);
            answer["beyond"] = json!(beyond);
            Ok(Json(answer))
        }
        None => Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("single calls do not tell why alert {id} fires"),
            "a judge's rate, a volume, a whole run or a script's measure is no property of a call; see the alert itself and `explain`",
        )),
    }
}

/// `None` where single calls cannot tell.
pub(crate) async fn read(app: &App, id: &str) -> Result<Option<Why>, Problem> {
    of(app, alerts::told(app, id).await?).await
}

/// The same of an alert as it was told.
pub(crate) async fn of(app: &App, told: Notification) -> Result<Option<Why>, Problem> {
    let (environment, ended) = (told.environment.clone(), told.reason.ends().then_some(told.at));
    let about = app
        .reader
        .ask(move |machine| {
            let clock = machine.clocks().find(|(name, _)| *name == environment).map(|(_, clock)| clock);
            About::of(&told, machine.plan(), ended.or(clock).unwrap_or(told.at))
        })
        .await?;
    match about {
        Some(about) => Ok(Some(app.calls.why(about).await?)),
        None => Ok(None),
    }
}
