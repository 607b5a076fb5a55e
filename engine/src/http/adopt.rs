//! `POST /api/v1/alerts/{id}/adopt`: a person says that what an alert shows is normal from now on.

use super::access::Caller;
use super::{App, Named, Problem, audit};
use crate::daemon::Adoption;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

pub(super) async fn adopt(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named) -> Result<Json<Value>, Problem> {
    ask(&app, &caller, id).await.map(Json)
}

pub(super) async fn ask(app: &App, caller: &Caller, id: String) -> Result<Value, Problem> {
    let act = decide(app, id.clone());
    audit::noted(app, caller, "adopt", &id, act, |_| "adopted".to_owned()).await
}

async fn decide(app: &App, id: String) -> Result<Value, Problem> {
    match app.reader.adopt(id.clone()).await? {
        Adoption::Adopted { rule, environment, group, told } => {
            let group: Map<String, Value> = std::iter::once(("environment".to_owned(), json!(environment)))
                .chain(group.into_iter().map(|(key, label)| (key, json!(label))))
                .collect();
            let what = if told { "adopted as the new normal; people are told that the alert ends" } else { "adopted before anyone was told" };
            Ok(json!({ "alert": id, "adopted": true, "rule": rule, "group": group, "told": told, "what": what }))
        }
        Adoption::NotLearned { rule } => Err(Problem::new(
            StatusCode::CONFLICT,
            format!("alert {id} cannot be adopted: what rule {rule} expects is written in the rule, not learned"),
            "change the range or the check in its file, or take `.expect` away so that it learns",
        )),
        Adoption::CatchingUp => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the engine is still repeating what it did before its restart",
            "try again in a moment",
        )),
        Adoption::Unknown => {
            let asked = id.clone();
            Err(match app.store.ask(move |db| db.alert(&asked)).await? {
                Some(last) if last.reason.ends() => Problem::new(
                    StatusCode::CONFLICT,
                    format!("alert {id} has ended already: {} at {}", last.reason.name().replace('_', " "), last.at),
                    "there is nothing left to adopt",
                ),
                _ => Problem::new(
                    StatusCode::NOT_FOUND,
                    format!("there is no alert {id}"),
                    "GET /api/v1/alerts lists those that are pending or firing",
                ),
            })
        }
    }
}
