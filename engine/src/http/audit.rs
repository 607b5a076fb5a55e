//! `GET /api/v1/audit`: who changed what or took out how much, and when; and the noting of it.
//!
//! A change is noted before it is made, as `asked`, and again with what came of it: there is none without a trace, even when the engine is killed in
//! the middle.

use super::access::Caller;
use super::{App, Problem};
use crate::outbox::now;
use crate::store::Audited;
use axum::Json;
use axum::extract::State;

/// Entries in the answer, the newest first.
const SHOWN_MAX: usize = 500;
/// What is asked for may be anything; ids are shorter.
const SUBJECT_MAX: usize = 200;

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
    ended(app, id, said).await?;
    came
}

/// Notes that somebody begins to do something; what comes of it is for [`ended`].
pub(super) async fn begun(app: &App, caller: &Caller, action: &'static str, subject: &str) -> Result<i64, Problem> {
    let entry = Audited {
        at: now(),
        who: caller.name.clone(),
        way: caller.way,
        action: action.to_owned(),
        subject: subject.chars().take(SUBJECT_MAX).collect(),
        outcome: "asked".to_owned(),
    };
    tracing::info!(who = %entry.who, way = entry.way.name(), action, subject, "asked");
    Ok(app.store.ask(move |db| db.audit(&entry)).await?)
}

pub(super) async fn ended(app: &App, id: i64, said: String) -> Result<(), Problem> {
    Ok(app.store.ask(move |db| db.audit_outcome(id, &said)).await?)
}
