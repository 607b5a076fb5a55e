//! `GET /api/v1/openapi.json`: every route and every answer, problems included, as OpenAPI 3.1.
//!
//! It is written by hand in `openapi.json` beside this file, because it is the promise and the code keeps it, not the other way round. Tests hold that
//! every route is in it and nothing else is, and that every JSON answer that the integration tests see is as it says.

use axum::Json;
use serde_json::Value;

pub(super) async fn openapi() -> Json<Value> {
    Json(document())
}

/// The document, with this version.
pub fn document() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("openapi.json")).expect("a test reads it");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document
}

/// What the document promises of the body of an answer. `None`: it knows no such answer.
pub fn schema_of(document: &Value, method: &str, path: &str, status: u16, media: &str) -> Option<Value> {
    let path = path.split('?').next().unwrap_or_default();
    let operations = document["paths"].as_object()?.iter().filter(|(template, _)| fits(template, path));
    // `/rules/reload` before `/rules/{name}`.
    let (_, operations) = operations.min_by_key(|(template, _)| template.matches('{').count())?;
    let mut answer = operations.get(method.to_ascii_lowercase())?.get("responses")?.get(status.to_string())?;
    if let Some(shared) = answer.get("$ref").and_then(Value::as_str) {
        answer = document.pointer(shared.trim_start_matches('#'))?;
    }
    let schema = answer.get("content")?.get(media)?.get("schema")?;
    Some(serde_json::json!({ "allOf": [schema], "components": document["components"] }))
}

fn fits(template: &str, path: &str) -> bool {
    let parts = || template.split('/').zip(path.split('/'));
    template.split('/').count() == path.split('/').count() && parts().all(|(known, part)| known == part || known.starts_with('{') && !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_in_the_document_and_every_path_of_it_is_a_route() {
        let routes: BTreeSet<_> =
            super::super::routes().iter().map(|(method, path, _)| (method.as_str().to_lowercase(), (*path).to_owned())).collect();
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let written = paths.iter().flat_map(|(path, operations)| {
            operations.as_object().into_iter().flat_map(|all| all.keys()).map(|method| (method.clone(), path.clone()))
        });
        assert_eq!(routes, written.collect());
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn look(document: &Value, at: &Value) {
            if let Some(to) = at.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
            }
            at.as_object()
                .into_iter()
                .flat_map(|all| all.values())
                .chain(at.as_array().into_iter().flatten())
                .for_each(|below| look(document, below));
        }
        let document = document();
        look(&document, &document);
    }

    #[test]
    fn an_answer_is_found_by_its_path_method_and_status() {
        let document = document();
        let of = |method, path, status, media| schema_of(&document, method, path, status, media).is_some();
        assert!(of("GET", "/api/v1/series?signal=error", 200, "application/json"));
        assert!(of("POST", "/api/v1/alerts/12/adopt", 409, "application/problem+json"));
        assert!(!of("POST", "/api/v1/alerts/12/adopt", 418, "application/problem+json"));
        assert!(!of("GET", "/api/v1/nothing", 200, "application/json"));
    }
}
