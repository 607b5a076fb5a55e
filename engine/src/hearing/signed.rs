//! Hearing over HTTP: `POST /slack/events`, `/slack/interactions` and `/slack/commands`, for installations that Slack can reach and that want no sockets.
//!
//! Nobody is asked for a token here: Slack signs what it sends, and nothing that is not signed by it, or was signed more than five minutes ago or
//! ahead, gets any further. They are there only when `slack.signing_secret` is set. They are Slack's to use, not people's, so the document of the API
//! does not have them. What is sent says by itself what it is, so the three differ by nothing.

use super::Hearing;
use super::payload::{Heard, of_body};
use crate::config::Sensitive;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use slack_morphism::prelude::SlackSigningSecret;
use slack_morphism::signature_verifier::SlackEventSignatureVerifier;
use std::sync::Arc;

/// A click brings the message that it is on, which Slack keeps below some tens of kilobytes.
const BODY_MAX: usize = 512 * 1024;

#[derive(Clone)]
struct Door {
    hearing: Hearing,
    verifier: Arc<SlackEventSignatureVerifier>,
}

pub(crate) fn router(hearing: Hearing, secret: &Sensitive) -> Router {
    let verifier = Arc::new(SlackEventSignatureVerifier::new(&SlackSigningSecret::new(secret.expose().to_owned())));
    Router::new()
        .route("/slack/events", post(heard))
        .route("/slack/interactions", post(heard))
        .route("/slack/commands", post(heard))
        .with_state(Door { hearing, verifier })
}

async fn heard(State(door): State<Door>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else { return refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large") };
    let signed = std::str::from_utf8(&body).ok().filter(|body| is_signed(&door.verifier, &parts.headers, body));
    let Some(body) = signed else {
        return refused(StatusCode::UNAUTHORIZED, "not signed by Slack within the last five minutes with the secret that is set here");
    };
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match of_body(kind, body) {
        Heard::Challenge(challenge) => {
            ([(header::CONTENT_TYPE, "text/plain"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], challenge).into_response()
        }
        other => match door.hearing.hear(other) {
            Some(answer) => ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response(),
            None => StatusCode::OK.into_response(),
        },
    }
}

/// By the library's verifier: HMAC-SHA256 over `v0:timestamp:body`, compared in constant time, and five minutes on either side.
fn is_signed(verifier: &SlackEventSignatureVerifier, headers: &HeaderMap, body: &str) -> bool {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        // Of one that is there twice neither is believed.
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    };
    let signature = one(SlackEventSignatureVerifier::SLACK_SIGNED_HASH_HEADER);
    let at = one(SlackEventSignatureVerifier::SLACK_SIGNED_TIMESTAMP);
    signature.zip(at).is_some_and(|(signature, at)| verifier.verify(signature, body, at).is_ok())
}

fn refused(status: StatusCode, why: &'static str) -> Response {
    tracing::debug!(status = status.as_u16(), why, "a request to Slack's address was refused");
    (status, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a header"))).collect()
    }

    #[test]
    fn only_what_the_secret_signs_within_five_minutes_either_side_is_believed() {
        let verifier = SlackEventSignatureVerifier::new(&SlackSigningSecret::new("secret".to_owned()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let is = |secret: &str, at: u64, body: &str, sent: &str| {
            let signature = fixtures_slack::sign(secret, at, body);
            is_signed(&verifier, &headers(&[("x-slack-signature", signature), ("x-slack-request-timestamp", at.to_string())]), sent)
        };
        assert!(is("secret", now, "a=b", "a=b"));
        assert!(is("secret", now - 290, "a=b", "a=b") && is("secret", now + 290, "a=b", "a=b"));
        assert!(!is("secret", now - 310, "a=b", "a=b"), "too old");
        assert!(!is("secret", now + 310, "a=b", "a=b"), "too far ahead");
        assert!(!is("other", now, "a=b", "a=b"), "another secret");
        assert!(!is("secret", now, "a=b", "a=c"), "another body");
        assert!(!is_signed(&verifier, &HeaderMap::new(), "a=b"), "not signed");
        let at = ("x-slack-request-timestamp", now.to_string());
        for signature in [String::new(), "v0=".to_owned(), fixtures_slack::sign("secret", now, "a=b").to_uppercase()] {
            assert!(!is_signed(&verifier, &headers(&[("x-slack-signature", signature), at.clone()]), "a=b"));
        }
        let empty = SlackEventSignatureVerifier::new(&SlackSigningSecret::new(String::new()));
        let signature = fixtures_slack::sign("", now, "a=b");
        assert!(!is_signed(&empty, &headers(&[("x-slack-signature", signature), at]), "a=b"), "no secret is no signature");
    }
}
