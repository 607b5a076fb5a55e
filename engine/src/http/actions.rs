//! `POST /api/v1/incidents/{id}/actions`: doing what a rule proposes, for programs; the page's buttons do it through here as well.
//!
//! Deliberately absent: the doing (`actions.rs` of the engine), and Slack's buttons, whose people are others (`hearing/buttons.rs`).

use super::access::Caller;
use super::incidents::{gone, over};
use super::{App, Named, Problem, audit};
use crate::actions::{Came, Chosen, Proposed, Refused};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is asked for, as it was written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The label of the action.
    action: String,
    /// Of which alert of the incident; without it, of the one that stands for it.
    alert: Option<String>,
}

pub(super) async fn act(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        let hint = r#"for example {"action": "Fail over"}; GET /api/v1/incidents/{id} has the labels in incident.lead.actions"#;
        Problem::new(StatusCode::BAD_REQUEST, format!("cannot read what is to be done: {error}"), hint)
    })?;
    let done = perform(&app, &caller, &name, asked.alert.as_deref(), &asked.action).await?;
    Ok(Json(json!({ "incident": done.seen.id, "rule": done.rule, "action": done.action.label, "outcome": done.action.target.done() })))
}

/// Does it, and notes who did.
pub(super) async fn perform(app: &App, caller: &Caller, name: &str, alert: Option<&str>, label: &str) -> Result<Proposed, Problem> {
    let proposed = match app.actions.find(name, alert, Chosen::Label(label)).await? {
        Ok(proposed) => proposed,
        Err(refused) => return Err(why_not(app, refused, label).await?),
    };
    let came = async { Ok(app.actions.perform(&proposed, &caller.name).await) };
    match audit::noted(app, caller, "action", &proposed.subject(), came, |came| came.outcome(&proposed.action)).await? {
        Came::Done => Ok(proposed),
        Came::Already { at, by } => {
            let what = format!("“{label}” is done already, by {by} at {at}; it was not done again");
            Err(Problem::new(StatusCode::CONFLICT, what, "two minutes later it can be asked for anew"))
        }
        Came::Unsure(why) => {
            let what = format!("“{label}” may be done or not: {why}");
            Err(Problem::new(StatusCode::BAD_GATEWAY, what, "look whether it is done before you ask again; its id would be the same"))
        }
        Came::Failed(why) => {
            let what = format!("“{label}” could not be done: {why}");
            Err(Problem::new(StatusCode::BAD_GATEWAY, what, "try it again; or do by hand what its rule means"))
        }
    }
}

async fn why_not(app: &App, refused: Refused, label: &str) -> Result<Problem, Problem> {
    Ok(match refused {
        Refused::Unknown(name) => gone(app, &name, "do").await?,
        Refused::Over(seen) => over(&seen, "do"),
        Refused::AlertOver { rule } => {
            Problem::new(StatusCode::CONFLICT, format!("what {rule} told of is over"), "others of its incident go on: see what they propose")
        }
        Refused::NotProposed { rule, labels } if labels.is_empty() => {
            Problem::new(StatusCode::NOT_FOUND, format!("rule {rule} proposes nothing to do"), "its file may say so with `actions`")
        }
        Refused::NotProposed { rule, labels } => {
            Problem::new(StatusCode::NOT_FOUND, format!("rule {rule} does not propose “{label}”"), format!("it proposes: {}", labels.join(", ")))
        }
    })
}
