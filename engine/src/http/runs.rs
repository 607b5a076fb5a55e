//! `GET /api/v1/runs/{event_id}?environment=…`: all calls of a run with what is known of each.

use super::{App, Named, Problem};
use crate::calls::Detail;
use crate::runs::{Known, Often, RunView, step_name};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use index::{Key, Row, Text, Times};
use model::Span;
use serde_json::{Value, json};

/// Calls of a run whose payloads are read, the first; of further ones only what the index keeps is shown.
const DETAILED_MAX: usize = 500;

/// Calls around a run that say how often its first bad step is bad; of more, a sample in which runs stay whole.
const AROUND_MAX: usize = 10_000;
/// Before and after the run.
const AROUND: Span = Span::from_secs(1800);

/// A run, and the environments beside its own that have one of the same name.
pub(crate) struct Found {
    pub view: RunView,
    pub elsewhere: Vec<String>,
    /// Of its first bad step.
    pub often: Option<Often>,
}

pub(super) async fn run(State(app): State<App>, Named(event_id): Named, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let found = read(&app, &event_id, environment(raw.as_deref())?).await?;
    let mut answer = json!(found.view);
    answer["elsewhere"] = json!(found.elsewhere);
    answer["first_bad_often"] = json!(found.often);
    Ok(Json(answer))
}

/// The environment that is asked for, if any.
pub(super) fn environment(raw: Option<&str>) -> Result<Option<String>, Problem> {
    let mut environment = None;
    for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "environment" => environment = Some(value.into_owned()).filter(|value| !value.is_empty()),
            other => return Err(Problem::new(StatusCode::BAD_REQUEST, format!("there is no parameter `{other}`"), "known: environment")),
        }
    }
    Ok(environment)
}

/// Where several environments have one, the run with the latest call is shown.
pub(crate) async fn read(app: &App, event_id: &str, environment: Option<String>) -> Result<Found, Problem> {
    // Of all environments, to say where else there is one.
    let run = app.calls.run(event_id.to_owned()).await?;
    let of = |row: &Row| row.text(Text::Environment).to_owned();
    let asked = |row: &&Row| environment.as_ref().is_none_or(|environment| of(row) == *environment);
    let Some(own) = run.rows.iter().rfind(asked).map(of) else {
        let place = environment.map_or_else(String::new, |environment| format!(" in environment {environment}"));
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no call of run {event_id}{place} in the index"),
            "is the event_id written whole? it may have left the index with its retention, or not be read yet: see /api/v1/status",
        ));
    };
    let mut elsewhere: Vec<String> = run.rows.iter().map(of).filter(|environment| *environment != own).collect();
    elsewhere.sort();
    elsewhere.dedup();
    let rows: Vec<Row> = run.rows.into_iter().filter(|row| row.text(Text::Environment) == own).collect();
    let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
    let said = app.calls.verdicts(&own, sequences.clone()).await?;
    let mut details = app.calls.details(sequences.into_iter().take(DETAILED_MAX).collect()).await.into_iter();
    let mut detail = || details.next().unwrap_or_else(|| Detail::nothing("not_read"));
    let known = rows.into_iter().zip(said).map(|(row, said)| Known { row, detail: detail(), said }).collect();
    let view = RunView::new(known, run.cut).expect("the last call was found above");
    let often = often(app, &view).await?;
    Ok(Found { view, elsewhere, often })
}

async fn often(app: &App, view: &RunView) -> Result<Option<Often>, Problem> {
    let Some(step) = view.first_bad.map(|at| step_name(&view.steps[at].row).to_owned()) else { return Ok(None) };
    let environment = index::term(&Key::Text(Text::Environment), &[&view.environment]).unwrap_or_default();
    let query = app.calls.query(&environment).await?;
    let times = Times { from: Some(view.began - AROUND), until: Some(view.ended + AROUND) };
    let around = app.calls.sample(query, times, AROUND_MAX).await?;
    Ok(Often::of(&step, &around.rows, around.weight))
}
