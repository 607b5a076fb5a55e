//! `POST /api/v1/rules/reload`: reads the rules' files now and answers when what they say runs.

use super::access::Caller;
use super::{App, Problem, audit};
use crate::reload::Report;
use axum::extract::State;
use axum::{Extension, Json};

pub(super) async fn reload(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Json<Report>, Problem> {
    ask(&app, &caller).await.map(Json)
}

pub(super) async fn ask(app: &App, caller: &Caller) -> Result<Report, Problem> {
    let act = async { Ok(app.reload.reload().await?) };
    audit::noted(app, caller, "reload", "rules", act, |report| report.outcome.name().to_owned()).await
}
