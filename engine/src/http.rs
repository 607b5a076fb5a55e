//! The listener: health, metrics, the JSON API, and a page to look at. Whoever can reach it sees numbers and alerts, never payloads, and may adopt an
//! alert as the new normal and have the rules' files read again; everything else is reading.

mod adopt;
mod alerts;
pub(crate) mod explain;
pub(crate) mod judges;
mod metrics;
mod page;
mod reload;
mod rules;
mod series;
mod status;

use crate::daemon::{Pulse, Reader};
use crate::error::Fault;
use crate::judging::Board;
use crate::outbox::Deliveries;
use crate::reload::Asking;
use crate::rulebook::Standing;
use crate::store::Store;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// What handlers may look at.
#[derive(Clone, Debug)]
pub struct App {
    pub reader: Reader,
    pub store: Store,
    pub pulse: Arc<Pulse>,
    pub deliveries: Arc<Deliveries>,
    pub readiness: Arc<Readiness>,
    pub rules: Arc<Standing>,
    pub reload: Asking,
    /// Where calls come from, for people: `stream LLM_CALLS at nats://…`.
    pub source: String,
    /// Where messages go, for people.
    pub slack: String,
    /// What the judges' desk shows; empty without judges.
    pub judges: Arc<Board>,
}

/// What must be true for `/readyz`.
#[derive(Debug, Default)]
pub struct Readiness {
    pub source: AtomicBool,
}

/// Binds the listener, so that a taken port is an error at start and not in the log.
pub async fn bind(address: SocketAddr) -> Result<tokio::net::TcpListener, Fault> {
    tokio::net::TcpListener::bind(address).await.map_err(|error| {
        Fault::new(
            format!("cannot listen on {address}: {error}"),
            "is another streamgauge running? choose another port with --set http.listen=127.0.0.1:0",
        )
    })
}

/// Serves until `stop` says so.
pub async fn serve(listener: tokio::net::TcpListener, app: App, mut stop: watch::Receiver<bool>) -> Result<(), Fault> {
    let router = Router::new()
        .route("/", get(page::overview))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/series", get(series::series))
        .route("/api/v1/alerts", get(alerts::alerts))
        .route("/api/v1/alerts/{id}/adopt", post(adopt::adopt))
        .route("/api/v1/explain", get(explain::explain))
        .route("/api/v1/judges", get(judges::judges))
        .route("/api/v1/sampling", get(judges::sampling))
        .route("/api/v1/rules", get(rules::rules))
        .route("/api/v1/rules/reload", post(reload::reload))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no such page", "see / for what there is") })
        .layer(axum::middleware::from_fn(guard))
        .with_state(app);
    let stopped = async move {
        let _ = stop.changed().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await.map_err(|error| Fault::plain(format!("the listener failed: {error}")))
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

async fn ready(axum::extract::State(app): axum::extract::State<App>) -> Response {
    let source = app.readiness.source.load(Ordering::Relaxed);
    let store = app.store.ask(|db| db.meta("schema")).await.is_ok();
    let engine = app.reader.ask(|_| ()).await.is_ok();
    let status = if source && store && engine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": status == StatusCode::OK, "source": source, "store": store, "engine": engine }))).into_response()
}

/// Only browsers say where a request comes from; a page somewhere must not change anything in its reader's name.
fn not_from_a_page(headers: &HeaderMap, instead: impl FnOnce() -> String) -> Result<(), Problem> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "pages of a browser may only read", instead()));
    }
    Ok(())
}

/// An error as `application/problem+json` (RFC 9457).
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    hint: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: hint.into() }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, fault.what(), "try again in a moment")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "hint": self.hint,
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}
