//! The listener: health, metrics, the JSON API, and pages to look at. Whoever may read sees numbers, alerts and calls, without what `[redact]` takes out; who may operate can
//! acknowledge and silence incidents, do what rules propose, adopt an alert as the new normal and have the rules' files read again. Who is who is `access.rs`'s, what they did is in the audit log.
//!
//! Every refusal is a problem with its way out: as `application/problem+json` (RFC 9457), and as a page where a browser asked for one.

pub(crate) mod access;
mod actions;
mod adopt;
mod alerts;
mod audit;
mod calls;
pub(crate) mod costs;
pub(crate) mod explain;
mod export;
pub(crate) mod incidents;
pub(crate) mod judges;
mod metrics;
pub mod openapi;
mod pages;
mod reload;
mod rules;
pub(crate) mod runs;
mod series;
pub(crate) mod silences;
pub(crate) mod status;
pub(crate) mod why;

use crate::actions::Actions;
use crate::calls::Calls;
use crate::config::{Delivery, May};
use crate::daemon::{Pulse, Reader};
use crate::error::Fault;
use crate::incidents::Incidents;
use crate::judging::Board;
use crate::keeping::Datasets;
use crate::outbox::Deliveries;
use crate::prices::Prices;
use crate::reload::Asking;
use crate::rulebook::Standing;
use crate::slack::token::{Standing as TokenStanding, Token};
use crate::store::Store;
use access::{Caller, Form};
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

pub use access::Access;

/// Forms of our pages, and what is to be silenced, are some hundred bytes.
const BODY_MAX: usize = 64 * 1024;

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
    /// How they come; `None` where they are made in this process.
    pub delivery: Option<Delivery>,
    /// Where messages go, for people.
    pub slack: String,
    /// `None`: Slack is off.
    pub slack_token: Option<Arc<Token>>,
    /// What the judges' desk shows; empty without judges.
    pub judges: Arc<Board>,
    pub prices: Prices,
    /// What became of the calls that rules keep.
    pub datasets: Arc<Datasets>,
    pub calls: Calls,
    pub incidents: Incidents,
    /// What rules propose.
    pub actions: Actions,
    pub access: Arc<Access>,
    /// How Socket Mode stands.
    pub hearing: watch::Receiver<crate::hearing::Standing>,
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

/// Every route, as the document at `/api/v1/openapi.json` describes them.
fn routes() -> Vec<(Method, &'static str, MethodRouter<App>)> {
    let page = |path, handler| (Method::GET, path, handler);
    vec![
        page("/", get(pages::overview::page)),
        page("/alerts/{id}", get(pages::alert::page)),
        (Method::POST, "/alerts/{id}/adopt", post(pages::alert::adopt)),
        page("/incidents/{id}", get(pages::incident::page)),
        (Method::POST, "/incidents/{id}/ack", post(pages::incident::ack)),
        (Method::POST, "/incidents/{id}/silence", post(pages::incident::silence)),
        (Method::POST, "/incidents/{id}/act", post(pages::incident::act)),
        (Method::POST, "/silences/{id}/end", post(pages::incident::end_silence)),
        page("/search", get(pages::search::page)),
        page("/calls/{sequence}", get(pages::call::page)),
        page("/runs/{event_id}", get(pages::run::page)),
        page("/rules", get(pages::rules::list)),
        page("/rules/{name}", get(pages::rules::one)),
        (Method::POST, "/rules/reload", post(pages::rules::reload)),
        page("/evaluators", get(pages::evaluators::page)),
        page("/costs", get(pages::costs::page)),
        page("/status", get(pages::status::page)),
        page("/sign-in", get(pages::sign_in::page)),
        (Method::POST, "/sign-in", post(pages::sign_in::sign_in)),
        (Method::POST, "/sign-out", post(pages::sign_in::sign_out)),
        page("/style.css", get(pages::frame::style)),
        page("/script.js", get(pages::frame::script)),
        page("/icon.svg", get(pages::frame::icon)),
        page("/healthz", get(|| async { "ok\n" })),
        page("/readyz", get(ready)),
        page("/metrics", get(metrics::metrics)),
        page("/api/v1/openapi.json", get(openapi::openapi)),
        page("/api/v1/status", get(status::status)),
        page("/api/v1/series", get(series::series)),
        page("/api/v1/alerts", get(alerts::alerts)),
        (Method::POST, "/api/v1/alerts/{id}/adopt", post(adopt::adopt)),
        page("/api/v1/incidents", get(incidents::list)),
        page("/api/v1/incidents/{id}", get(incidents::one)),
        (Method::POST, "/api/v1/incidents/{id}/ack", post(incidents::ack)),
        (Method::POST, "/api/v1/incidents/{id}/actions", post(actions::act)),
        page("/api/v1/silences", get(silences::list)),
        (Method::POST, "/api/v1/silences", post(silences::silence)),
        (Method::DELETE, "/api/v1/silences/{id}", delete(silences::unsilence)),
        page("/api/v1/audit", get(audit::audit)),
        page("/api/v1/calls", get(calls::search)),
        page("/api/v1/calls/{sequence}", get(calls::one)),
        page("/api/v1/runs/{event_id}", get(runs::run)),
        page("/api/v1/export", get(export::export)),
        page("/api/v1/costs", get(costs::costs)),
        page("/api/v1/alerts/{id}/why", get(why::why)),
        page("/api/v1/explain", get(explain::explain)),
        page("/api/v1/judges", get(judges::judges)),
        page("/api/v1/sampling", get(judges::sampling)),
        page("/api/v1/rules", get(rules::rules)),
        (Method::POST, "/api/v1/rules/reload", post(reload::reload)),
    ]
}

/// Serves until `stop` says so. `beside` has routes whose callers prove by themselves who they are.
pub async fn serve(listener: tokio::net::TcpListener, app: App, beside: Option<Router>, mut stop: watch::Receiver<bool>) -> Result<(), Fault> {
    let router = routes()
        .into_iter()
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no such page", "see / for what there is") })
        .method_not_allowed_fallback(|| async {
            let hint = "see /api/v1/openapi.json for what can be asked how";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this cannot be asked with that method", hint)
        })
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app)
        .merge(beside.unwrap_or_default())
        .into_make_service_with_connect_info::<SocketAddr>();
    let stopped = async move {
        let _ = stop.changed().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await.map_err(|error| Fault::plain(format!("the listener failed: {error}")))
}

/// What anyone may ask: whether the process is well, and what a browser needs to show the way in.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/sign-in" | "/style.css" | "/script.js" | "/icon.svg")
}

/// Lets through who may ask, and gives every answer the headers that keep browsers from being used against it.
async fn guard(State(app): State<App>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
    let wants_page = wants_page(&path, &headers);
    let (caller, mut response) = match admit(&app, peer, &path, request).await {
        Ok((caller, request)) => (caller, next.run(request).await),
        Err(problem) => (None, problem.into_response()),
    };
    if wants_page && let Some(problem) = response.extensions().get::<Problem>().cloned() {
        response = pages::problem(&app, caller.as_ref(), &path, &headers, problem);
    }
    // A page's styles, script and questions are our own; nothing stands inside it, and it stands inside nothing.
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; \
        frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        // Not `no-referrer`, under which a browser does not say where our own forms come from.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A browser that is shown a page, and not a program.
fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let accepts = |accept: &HeaderValue| accept.to_str().is_ok_and(|accept| accept.contains("text/html"));
    !path.starts_with("/api/") && path != "/metrics" && headers.get(header::ACCEPT).is_some_and(accepts)
}

/// The request of a caller who may ask it, with them and the form they sent among its extensions.
async fn admit(app: &App, peer: SocketAddr, path: &str, request: Request) -> Result<(Option<Caller>, Request), Problem> {
    let (mut parts, body) = request.into_parts();
    let access = &app.access;
    if !matches!(path, "/healthz" | "/readyz") {
        access.answers_to(&parts.headers)?;
    }
    // What is open to all is open to whoever shows a wrong token, too.
    let caller = if is_open(path) { access.caller(peer.ip(), &parts.headers).ok().flatten() } else { access.caller(peer.ip(), &parts.headers)? };
    let body = axum::body::to_bytes(body, BODY_MAX).await.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {BODY_MAX} bytes"),
            "nothing here takes more than its own forms and a few lines of JSON",
        )
    })?;
    let form = Form::read(&body);
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if !is_open(path) {
        let Some(caller) = &caller else {
            let way = if access.has_tokens() {
                "send `Authorization: Bearer …`, or sign in at /sign-in"
            } else {
                "come through the reverse proxy that knows you"
            };
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "nobody may ask this without saying who they are", way));
        };
        if !reads {
            access.is_ours(caller, &parts.headers, &form)?;
            if caller.may < May::Operate && path != "/sign-out" {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    format!("{} may read, and not change anything", caller.name),
                    "use a token with may = \"operate\", or a group of access.proxy.operate_groups",
                ));
            }
        }
    }
    if let Some(caller) = &caller {
        parts.extensions.insert(caller.clone());
    }
    parts.extensions.insert(form);
    Ok((caller, Request::from_parts(parts, Body::from(body))))
}

async fn ready(State(app): State<App>) -> Response {
    let source = app.readiness.source.load(Ordering::Relaxed);
    let store = app.store.ask(|db| db.meta("schema")).await.is_ok();
    let engine = app.reader.ask(|_| ()).await.is_ok();
    let status = if source && store && engine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Without Slack it counts on, and what is to be told waits: no reason to take it out of service, and one to look.
    let token = app.slack_token.as_ref().map(|token| token.state());
    let degraded = token.as_ref().is_some_and(|token| token.state == TokenStanding::Refused);
    let ready =
        json!({ "ready": status == StatusCode::OK, "source": source, "store": store, "engine": engine, "degraded": degraded, "slack": token });
    (status, Json(ready)).into_response()
}

/// The part of a path that names something.
#[derive(Debug)]
struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let cannot = |_| Problem::new(StatusCode::BAD_REQUEST, "the path is not UTF-8 text", "write other characters as %XX of their UTF-8");
        named.map(|axum::extract::Path(name)| Self(name)).map_err(cannot)
    }
}

/// An error as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    hint: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: hint.into() }
    }

    /// What is wrong, and the way out.
    pub(crate) fn said(&self) -> (&str, &str) {
        (&self.detail, &self.hint)
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("error")
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
            "title": self.title(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "hint": self.hint,
        });
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"streamgauge\""));
        }
        response.extensions_mut().insert(self);
        response
    }
}
