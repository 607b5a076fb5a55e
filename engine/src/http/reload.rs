//! `POST /api/v1/rules/reload`: reads the rules' files now and answers when what they say runs.

use super::{App, Problem, not_from_a_page};
use crate::reload::Report;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;

pub(super) async fn reload(State(app): State<App>, headers: HeaderMap) -> Result<Json<Report>, Problem> {
    not_from_a_page(&headers, || "streamgauge rules reload".to_owned())?;
    Ok(Json(app.reload.reload().await?))
}
