//! `GET /api/v1/audit`: who changed what or took out how much, and when; and the noting of what is asked for over HTTP.

use super::access::Caller;
use super::{App, Problem};
use crate::auditing;
use crate::store::Audited;
use axum::Json;
use axum::extract::State;

/// Entries in the answer, the newest first.
const SHOWN_MAX: usize = 500;

pub(super) async fn audit(State(app): State<App>) -> Result<Json<Vec<Audited>>, Problem> {
    Ok(Json(read(&app, SHOWN_MAX).await?))
}

pub(super) async fn read(app: &App, most: usize) -> Result<Vec<Audited>, Problem> {
    Ok(app.store.ask(move |db| db.audited(most)).await?)
}

/// Notes that somebody does something, before and after: `subject` is what they do it to.
pub(super) async fn noted<T>(
    app: &App,
    caller: &Caller,
    action: &'static str,
    subject: &str,
    act: impl Future<Output = Result<T, Problem>>,
    outcome: impl FnOnce(&T) -> String,
) -> Result<T, Problem> {
    let id = begun(app, caller, action, subject).await?;
    let came = act.await;
    let said = match &came {
        Ok(done) => outcome(done),
        Err(problem) => format!("refused: {}", problem.detail),
    };
    auditing::ended(&app.store, id, said).await?;
    came
}

/// Notes that somebody begins to do something; what comes of it is for [`auditing::ended`].
pub(super) async fn begun(app: &App, caller: &Caller, action: &'static str, subject: &str) -> Result<i64, Problem> {
    Ok(auditing::begun(&app.store, caller.name.clone(), caller.way, action, subject).await?)
}
