//! The way in for browsers where tokens are set: one field, and a cookie that only this engine is sent.

use super::super::access::Form;
use super::super::{App, Problem, audit};
use super::frame::{Frame, Place};
use super::html::escaped;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

pub(in crate::http) async fn page(State(app): State<App>, headers: HeaderMap) -> Response {
    form(&app, "/", &headers, None)
}

/// The form; afterwards one is shown `next`.
pub(super) fn form(app: &App, next: &str, headers: &HeaderMap, said: Option<&str>) -> Response {
    if !app.access.has_tokens() {
        return Problem::new(StatusCode::NOT_FOUND, "nobody signs in here", "no token is set in [access.tokens]").into_response();
    }
    // A link from elsewhere, such as a message's, comes without our cookie, which is for our own pages alone. From here it is one of them.
    let from_elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    let refresh = if from_elsewhere { "<meta http-equiv=refresh content=0>" } else { "" };
    let said = said.map_or_else(String::new, |said| format!("<p class=bad role=alert>{}</p>", escaped(said)));
    let next = if next == "/sign-in" { "/" } else { next };
    let body = format!(
        "{refresh}<h1>Sign in</h1><p>This engine asks who you are. Whoever set it up has given you a token.</p>{said}\
         <form method=post action='/sign-in'><label for=token>Token</label>\
         <input id=token name=token type=password autocomplete=current-password required autofocus>\
         <input type=hidden name=next value='{}'><p><button>Sign in</button></p></form>",
        escaped(next)
    );
    Frame { app, caller: None, place: Place::None, title: "Sign in", every: None }.page(&body).into_response()
}

pub(in crate::http) async fn sign_in(State(app): State<App>, headers: HeaderMap, Extension(form): Extension<Form>) -> Result<Response, Problem> {
    // Nobody shall be signed in as somebody else by a page of theirs.
    app.access.is_from_here(&headers)?;
    let (caller, cookie) = app.access.sign_in(form.get("token").unwrap_or_default())?;
    audit::noted(&app, &caller, "sign_in", &caller.name, async { Ok(()) }, |()| "signed in".to_owned()).await?;
    let next = form.get("next").filter(|next| is_here(next)).unwrap_or("/").to_owned();
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response())
}

pub(in crate::http) async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Response {
    ([(header::SET_COOKIE, app.access.sign_out(&headers))], Redirect::to("/sign-in")).into_response()
}

/// A path of ours, and no other site.
fn is_here(next: &str) -> bool {
    next.starts_with('/') && !next.starts_with("//") && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_one_stays_here() {
        assert!(is_here("/alerts/1?x=y"));
        for elsewhere in ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "", "/a\r\nb"] {
            assert!(!is_here(elsewhere), "{elsewhere:?}");
        }
    }
}
