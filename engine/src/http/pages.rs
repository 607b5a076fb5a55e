//! The pages for people: server-rendered, complete without the script, which keeps them up to date and shows times in the reader's own zone.
//!
//! One file per page; `frame.rs` has what all of them share, `html.rs` the small parts. A further page is a file here, a route, and, where it stands by
//! itself, a line in the frame's navigation. Everything that logs, rules or people say goes through [`html::escaped`].

mod affected;
pub(super) mod alert;
pub(super) mod call;
mod card;
pub(super) mod costs;
pub(super) mod evaluators;
pub(super) mod frame;
mod html;
pub(super) mod incident;
mod links;
pub(super) mod overview;
mod rows;
pub(super) mod rules;
pub(super) mod run;
pub(super) mod search;
pub(super) mod sign_in;
mod silences;
pub(super) mod status;
mod thread;

use super::access::Caller;
use super::{App, Problem};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use frame::{Frame, Place};

/// A refusal as a page; who is not known is shown the way in.
pub(super) fn problem(app: &App, caller: Option<&Caller>, path: &str, headers: &HeaderMap, problem: Problem) -> Response {
    if problem.status == StatusCode::UNAUTHORIZED && app.access.has_tokens() {
        let said = (path == "/sign-in").then_some(problem.detail.as_str());
        let response = sign_in::form(app, path, headers, said);
        return with_head(response, problem);
    }
    let (detail, hint) = (html::escaped(&problem.detail), html::escaped(&problem.hint));
    let body = format!("<h1>{}</h1><p>{detail}</p><p class=dim>{hint}</p><p><a href='/'>To the overview</a></p>", problem.title());
    let page = Frame { app, caller, place: Place::None, title: problem.title(), every: None }.page(&body).into_response();
    with_head(page, problem)
}

/// A page with the status and headers of a problem.
fn with_head(mut page: Response, problem: Problem) -> Response {
    let problem = problem.into_response();
    *page.status_mut() = problem.status();
    for (name, value) in problem.headers().iter().filter(|(name, _)| **name != axum::http::header::CONTENT_TYPE) {
        page.headers_mut().insert(name, value.clone());
    }
    page
}
