//! Incidents from outside: seen, acknowledged, silenced and spoken of again, over the API, on pages and in a terminal; and all of it after a kill.

use crate::engine::{Answer, Engine, Setup, as_documented, ask, send, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use serde_json::{Value, json};
use std::ops::Range;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-01-01: the time of the first call.
const BEGIN_MS: i64 = 1_767_225_600_000;
const READER: &str = "reader-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";

/// Fires for each stage by itself, by a check: a drift of several would be one alert.
const ERRORS: &str = r#"rule(#{
    name: "errors",
    severity: "critical",
    watch: rate("error", "1m").expect(0.0, 0.05).at_least(20),
    group_by: ["stage"],
    keep_firing: "0s",
});
fn check(w) { if w.value.low > 0.05 { fire(`error rate ${percent(w.value.value)}`) } }"#;

fn with_tokens(nats: &Nats) -> Setup {
    Setup::new(nats)
        .env("READER", READER)
        .env("OPERATOR", OPERATOR)
        .set("access.tokens.dashboard", r#"{ token = { env = "READER" }, may = "read" }"#)
        .set("access.tokens.alice", r#"{ token = { env = "OPERATOR" }, may = "operate" }"#)
        .set("rules.library", "[]")
        .rule("errors.rhai", ERRORS)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A call a second in each stage's time, every second one failing where it says so.
async fn publish(publishing: &mut Publishing, stages: &[&str], seconds: Range<i64>, failing: bool) {
    for second in seconds {
        for (number, stage) in stages.iter().enumerate() {
            let status = if failing && second % 2 == 0 { 500 } else { 200 };
            let at = BEGIN_MS + second * 1000 + number as i64;
            let call = json!({ "id": format!("{stage}-{second}"), "time": at, "model": "m", "stage": stage, "event_id": format!("evt-{second}"),
                "user_id": "user 1", "status_code": status });
            publishing.send(call.to_string()).await;
        }
    }
    publishing.flush().await;
}

/// Status and JSON of a request that may have a body; the answer is as the document says.
async fn api(engine: &Engine, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let headers = format!("Host: {}\r\nContent-Type: application/json\r\n{}", engine.http, bearer(token));
    let answer = send(&engine.http, method, path, &headers, body).await.expect("the engine answers");
    as_documented(method, path, &answer);
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", answer.body)))
}

async fn page(engine: &Engine, token: &str, path: &str) -> String {
    let answer = ask(&engine.http, "GET", path, &format!("Accept: text/html\r\n{}", bearer(token))).await.expect("the engine answers");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

fn parts(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part} in {page}");
    }
}

/// A silence as it is kept, of the answer that made it.
fn kept(made: &Value) -> Value {
    let mut silence = made.clone();
    silence.as_object_mut().expect("an object").remove("firing_alerts");
    silence
}

/// The one incident, once its history has so many entries.
async fn incident(engine: &Engine, entries: usize) -> Value {
    let first = async || {
        let listed = api(engine, READER, "GET", "/api/v1/incidents", "").await.1;
        match listed["incidents"][0]["id"].as_str() {
            Some(id) => api(engine, READER, "GET", &format!("/api/v1/incidents/{id}"), "").await.1,
            None => Value::Null,
        }
    };
    let enough = |whole: &Value| whole["incident"]["history"].as_array().is_some_and(|history| history.len() >= entries);
    until(&format!("{entries} entries in its history"), PATIENCE, first, enough).await
}

/// What was said and done, with who did it and why it was not said.
fn history(whole: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = whole["incident"]["history"].as_array().expect("a history");
    entries.iter().map(|entry| (text(&entry["occasion"]["is"]), text(&entry["by"]), text(&entry["untold"]))).collect()
}

fn entries(of: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    of.iter().map(|(is, by, untold)| ((*is).to_owned(), (*by).to_owned(), (*untold).to_owned())).collect()
}

/// Who did what to what, and what came of it, the newest first.
async fn audited(engine: &Engine) -> Vec<[String; 3]> {
    let (_, audit) = api(engine, READER, "GET", "/api/v1/audit", "").await;
    let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
    audit.as_array().expect("a list").iter().map(|entry| ["who", "action", "outcome"].map(|name| text(entry, name))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_acknowledged_silenced_and_spoken_of_again_and_a_kill_takes_none_of_it() {
    let nats = Nats::start().await;
    let setup = with_tokens(&nats);
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    assert_eq!(api(&engine, READER, "GET", "/api/v1/incidents", "").await.1, json!({ "open": 0, "incidents": [] }));
    publish(&mut publishing, &["extraction", "synthesis"], 0..60, true).await;
    let whole = incident(&engine, 1).await;
    let id = whole["incident"]["id"].as_str().expect("an id").to_owned();
    let alert = whole["alerts"][0]["alert_id"].as_str().expect("an id").to_owned();
    assert_eq!((&whole["incident"]["firing"], whole["alerts"].as_array().map(Vec::len)), (&true.into(), Some(2)), "{whole:#}");
    let listed = api(&engine, READER, "GET", "/api/v1/incidents?limit=1", "").await.1;
    let brief = &listed["incidents"][0];
    assert_eq!((&listed["open"], &brief["id"], &brief["rules"], &brief["alerts"]), (&1.into(), &id.clone().into(), &json!(["errors"]), &2.into()));
    let told =
        |whole: &Value| whole["deliveries"].as_array().is_some_and(|all| all.iter().any(|one| one["reason"] == "opened" && one["state"] == "sent"));
    let path = format!("/api/v1/incidents/{id}");
    until("machines to be told of it", PATIENCE, async || api(&engine, READER, "GET", &path, "").await.1, told).await;

    // Who may read sees it, and changes nothing.
    let silence = json!({ "incident": id, "for": "1h" }).to_string();
    let ack = format!("/api/v1/incidents/{id}/ack");
    assert_eq!(api(&engine, READER, "POST", &ack, "").await.0, 403);
    assert_eq!(api(&engine, READER, "POST", "/api/v1/silences", &silence).await.0, 403);
    assert_eq!(api(&engine, READER, "DELETE", &format!("/api/v1/silences/{id}"), "").await.0, 403);
    let shown = page(&engine, READER, &format!("/incidents/{id}")).await;
    parts(
        &shown,
        &["<h1>● errors: default <small>", "critical · 2 alerts, all of them fire", "You may read;", "It was told", "Who was told", &alert],
    );
    assert!(!shown.contains("<form method=post") && !shown.contains("Acknowledged by"), "{shown}");

    // Once by its id, and again by an alert's.
    let (status, came) = api(&engine, OPERATOR, "POST", &ack, "").await;
    assert_eq!((status, &came["already"], &came["acknowledged"]["by"]), (200, &false.into(), &"alice".into()), "{came:#}");
    let (status, again) = api(&engine, OPERATOR, "POST", &format!("/api/v1/incidents/{alert}/ack"), "").await;
    assert_eq!((status, &again["already"], &again["incident"]), (200, &true.into(), &id.clone().into()), "{again:#}");

    let (status, silenced) = api(&engine, OPERATOR, "POST", "/api/v1/silences", &silence).await;
    assert_eq!((status, &silenced["of"], &silenced["by"]), (200, &json!({ "incident": id }), &"alice".into()), "{silenced:#}");
    assert_eq!(silenced["firing_alerts"], 2);
    let silenced = kept(&silenced);
    assert_eq!(api(&engine, READER, "GET", "/api/v1/silences", "").await.1, json!([silenced]));
    let shown = page(&engine, OPERATOR, &format!("/incidents/{id}")).await;
    parts(
        &shown,
        &[
            "✓ Acknowledged by <strong>alice</strong>",
            "⊘ Silenced by <strong>alice</strong> until <time",
            ">Unsilence<",
            "</strong> silenced it until",
        ],
    );
    assert!(!shown.contains(">Acknowledge<"), "it is acknowledged: {shown}");
    parts(&page(&engine, OPERATOR, "/").await, &[&format!("<a href='/incidents/{id}'>errors</a>"), "✓ Acknowledged by", "⊘ Silenced by"]);
    parts(&page(&engine, OPERATOR, &format!("/alerts/{alert}")).await, &[&format!("href='/incidents/{id}'"), "✓ Acknowledged by"]);
    parts(&page(&engine, OPERATOR, "/status").await, &["Silences</h2>", &format!("href='/incidents/{id}'"), "action='/silences/"]);

    let unsilence = format!("/api/v1/silences/{}", silenced["id"].as_str().expect("an id"));
    let (status, ended) = api(&engine, OPERATOR, "DELETE", &unsilence, "").await;
    assert_eq!((status, &ended["ended"]), (200, &silenced));
    assert_eq!(api(&engine, OPERATOR, "DELETE", &unsilence, "").await.0, 404, "it is ended already");
    assert_eq!(api(&engine, OPERATOR, "DELETE", &format!("/api/v1/silences/{id}"), "").await.0, 404, "it has none");
    assert_eq!(api(&engine, READER, "GET", "/api/v1/silences", "").await.1, json!([]));
    let until_when = silenced["until"].as_str().expect("a time");
    let did = |action: &str, outcome: String| ["alice".to_owned(), action.to_owned(), outcome];
    let refused = |what: &str| format!("refused: {what}");
    let done = [
        did("unsilence", refused(&format!("incident {id} is not silenced"))),
        did("unsilence", refused(&format!("there is no silence s-{id}"))),
        did("unsilence", format!("the silence of {id} is ended")),
        did("silence", format!("silenced until {until_when}")),
        did("ack", "acknowledged already, by alice".to_owned()),
        did("ack", "acknowledged".to_owned()),
    ];
    assert_eq!(audited(&engine).await, done);

    engine.kill().await;
    let engine = setup.start().await;
    let whole = incident(&engine, 4).await;
    let said = [("opened", "", ""), ("acknowledged", "alice", ""), ("silenced", "alice", ""), ("unsilenced", "alice", "")];
    assert_eq!(history(&whole), entries(&said), "{whole:#}");
    assert_eq!((&whole["incident"]["acknowledged"], &whole["incident"]["silenced"]), (&came["acknowledged"], &Value::Null));
    assert_eq!(audited(&engine).await, done);
    parts(
        &page(&engine, READER, &format!("/incidents/{id}")).await,
        &["<strong>alice</strong> acknowledged it", "<strong>alice</strong> ended its silence"],
    );

    // Its end is on all pages, and there is nothing left to do.
    publish(&mut publishing, &["extraction", "synthesis"], 60..240, false).await;
    let over =
        until("it to be over", PATIENCE, async || api(&engine, READER, "GET", &path, "").await.1, |whole| whole["incident"]["firing"] == false).await;
    assert!(over["incident"]["ended"].is_string(), "{over:#}");
    for (method, path, body) in [("POST", ack.as_str(), ""), ("POST", "/api/v1/silences", &silence)] {
        let (status, problem) = api(&engine, OPERATOR, method, path, body).await;
        assert_eq!(status, 409, "{problem:#}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("is over")), "{problem:#}");
    }
    let shown = page(&engine, OPERATOR, &format!("/incidents/{id}")).await;
    parts(&shown, &["<h1>✔ errors: default <small>", "<small>resolved"]);
    assert!(!shown.contains("<form method=post action='/incidents"), "{shown}");
    parts(&page(&engine, OPERATOR, "/").await, &["Nothing is worse than expected", &format!("<a href='/incidents/{id}'>errors</a>")]);
    let listed = api(&engine, READER, "GET", "/api/v1/incidents", "").await.1;
    assert_eq!((&listed["open"], &listed["incidents"][0]["id"], &listed["incidents"][0]["firing"]), (&0.into(), &id.into(), &false.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_silenced_before_it_fires_is_shown_with_its_reason_and_said_when_the_silence_ends() {
    let nats = Nats::start().await;
    let setup = with_tokens(&nats).rule("models.rhai", r#"rule(#{ name: "models", watch: rate("fallback", "5m"), group_by: ["model"] });"#);
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    for (wish, said) in [
        ("", "cannot read what is to be silenced"),
        (r#"{"incident": "i1", "length": "1h"}"#, "unknown field `length`"),
        ("{}", "name what is to be silenced, once"),
        (r#"{"incident": "i1", "match": {"rule": "errors"}, "for": "1h"}"#, "name what is to be silenced, once"),
        (r#"{"match": {"rule": "errors"}}"#, "needs an end"),
        (r#"{"match": {}, "for": "1h"}"#, "every alert there is"),
        (r#"{"match": {"rule": "error"}, "for": "1h"}"#, "there is no rule `error`"),
        (r#"{"match": {"stag": "x"}, "for": "1h"}"#, "there is no key of an alert's group `stag`"),
        (r#"{"match": {"rule": "errors", "model": "m"}, "for": "1h"}"#, "there is no key of an alert of rule errors `model`"),
        (r#"{"match": {"stage": "extraction", "model": "m"}, "for": "1h"}"#, "no rule has alerts with `model` and `stage` together"),
        (r#"{"match": {"severity": "bad"}, "for": "1h"}"#, "there is no severity `bad`"),
        (r#"{"match": {"rule": "errors"}, "for": "31d"}"#, "a silence cannot last until"),
    ] {
        let (status, problem) = api(&engine, OPERATOR, "POST", "/api/v1/silences", wish).await;
        assert_eq!(status, 400, "{wish}: {problem:#}");
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        assert!(text("detail").contains(said) && !text("hint").is_empty(), "{wish}: {problem:#}");
    }
    assert_eq!(api(&engine, OPERATOR, "POST", "/api/v1/silences", r#"{"incident": "i1"}"#).await.0, 404);

    let wish = r#"{"match": {"rule": "errors", "stage": "extraction"}, "for": "1h"}"#;
    let (status, silence) = api(&engine, OPERATOR, "POST", "/api/v1/silences", wish).await;
    assert_eq!((status, &silence["of"]), (200, &json!({ "alerts": [["rule", "errors"], ["stage", "extraction"]] })), "{silence:#}");
    assert_eq!(silence["firing_alerts"], 0);
    let silence = kept(&silence);
    publish(&mut publishing, &["extraction"], 0..60, true).await;
    let whole = incident(&engine, 1).await;
    let id = whole["incident"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(history(&whole), entries(&[("opened", "", "silenced")]));
    assert_eq!((&whole["deliveries"], &whole["incident"]["silenced"]), (&json!([]), &silence), "nobody was told");
    let shown = page(&engine, OPERATOR, &format!("/incidents/{id}")).await;
    parts(
        &shown,
        &["not said: it is silenced", "with all alerts of <code>rule=errors stage=extraction</code>", "End the silence, also for its other alerts"],
    );
    parts(&page(&engine, READER, "/status").await, &["alerts of <code>rule=errors stage=extraction</code>"]);
    let (status, problem) = api(&engine, OPERATOR, "DELETE", &format!("/api/v1/silences/{id}"), "").await;
    assert_eq!(status, 409, "others may be silenced by it: {problem:#}");

    engine.kill().await;
    let engine = setup.start().await;
    assert_eq!(api(&engine, READER, "GET", "/api/v1/silences", "").await.1, json!([silence]));
    assert_eq!(incident(&engine, 1).await["incident"]["silenced"], silence);
    let path = format!("/api/v1/silences/{}", silence["id"].as_str().expect("an id"));
    assert_eq!(api(&engine, OPERATOR, "DELETE", &path, "").await.0, 200);
    let whole = incident(&engine, 2).await;
    assert_eq!(whole["incident"]["silenced"], Value::Null);
    let said = |whole: &Value| whole["deliveries"].as_array().is_some_and(|all| !all.is_empty());
    let path = format!("/api/v1/incidents/{id}");
    until("it to be said", PATIENCE, async || api(&engine, READER, "GET", &path, "").await.1, said).await;
}

/// Somebody who takes webhooks: the first it cannot serve, every other it can.
async fn gateway() -> (String, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let (send, came) = tokio::sync::mpsc::unbounded_channel();
    let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let take = async move |body: axum::body::Bytes| {
        send.send(serde_json::from_slice(&body).expect("JSON")).expect("the test waits for it");
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            (axum::http::StatusCode::INTERNAL_SERVER_ERROR, "no\u{1b}[2J")
        } else {
            (axum::http::StatusCode::OK, "")
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/control", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(take)).await });
    (url, came)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_proposes_is_done_once_by_whoever_may_and_over_whichever_way() {
    let nats = Nats::start().await;
    let (url, mut came) = gateway().await;
    let actions = r#"actions: [
        #{ label: "Fail over", webhook: "gateway", payload: #{ to: "azure" }, confirm: "Send <all> calls to azure?" },
        #{ label: "Page", publish: "gateway.page" },
    ],
    keep_firing"#;
    let setup = with_tokens(&nats).set("webhooks.gateway.url", &format!("{url:?}")).set("webhooks.gateway.incidents", "false");
    let setup = setup.rule("errors.rhai", &ERRORS.replace("keep_firing", actions));
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    publish(&mut publishing, &["extraction"], 0..60, true).await;
    let whole = incident(&engine, 1).await;
    let id = whole["incident"]["id"].as_str().expect("an id").to_owned();
    let proposed = &whole["incident"]["lead"]["actions"];
    assert_eq!((&proposed[0]["webhook"], &proposed[1]["publish"]), (&"gateway".into(), &"gateway.page".into()), "{proposed:#}");

    let path = format!("/api/v1/incidents/{id}/actions");
    let fail_over = r#"{"action": "Fail over"}"#;
    for (token, body, status, said) in [
        (READER, fail_over, 403, "may read"),
        (OPERATOR, "{}", 400, "missing field `action`"),
        (OPERATOR, r#"{"action": "Fail ovr"}"#, 404, "does not propose “Fail ovr”"),
        (OPERATOR, r#"{"action": "Fail over", "alert": "nothing"}"#, 404, "no incident nothing"),
        (OPERATOR, fail_over, 502, "“Fail over” could not be done: HTTP 500: no [2J"),
    ] {
        let (got, problem) = api(&engine, token, "POST", &path, body).await;
        assert_eq!(got, status, "{body}: {problem:#}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{body}: {problem:#}");
    }
    let (status, done) = api(&engine, OPERATOR, "POST", &path, fail_over).await;
    assert_eq!((status, &done["outcome"], &done["rule"]), (200, &"called the webhook gateway".into(), &"errors".into()), "{done:#}");
    let (first, second) = (came.recv().await.expect("a call"), came.recv().await.expect("a call"));
    assert_eq!((&first["id"], &first["possible_repeat"], &second["possible_repeat"]), (&second["id"], &false.into(), &true.into()));
    assert_eq!(second["detail"], json!({ "action": "Fail over", "payload": { "to": "azure" } }));
    assert_eq!((&second["by"], &second["occasion"], &second["incident"]["id"]), (&"alice".into(), &"action".into(), &id.clone().into()));

    // In a terminal it is listed, asked first, and not done again.
    let run = async |args: &[&str]| {
        let output = setup.run(args).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(run(&["act", &id]).await.1, "Fail over: call the webhook gateway\nPage: publish to gateway.page\n");
    parts(&run(&["act", &id, "Fail over"]).await.2, &["Send <all> calls to azure?\nhint: its rule wants to be asked; say yes with --yes"]);
    parts(&run(&["act", &id, "Fail over", "--yes"]).await.2, &["“Fail over” is done already, by alice at 2"]);
    let mut pages = nats.client().await.subscribe("gateway.>").await.expect("a subscription");
    let (code, said, problem) = run(&["act", &id, "Page"]).await;
    assert_eq!((code, said.as_str()), (Some(0), format!("{id}: Page, published to gateway.page\n").as_str()), "{problem}");
    let paged = tokio::time::timeout(PATIENCE, futures_util::StreamExt::next(&mut pages)).await.expect("in time").expect("it is published");
    assert_eq!(paged.subject.as_str(), "gateway.page");

    // On the page each is a button; what wants to be asked first is behind its question.
    let shown = page(&engine, OPERATOR, &format!("/incidents/{id}")).await;
    parts(
        &shown,
        &["<summary>Fail over …</summary><p>Send &lt;all&gt; calls to azure?</p>", "<button>Yes: Fail over</button>", "<button>Page</button>"],
    );
    parts(&shown, &["<strong>alice</strong> chose “Fail over”: failed: HTTP 500: no [2J", "chose “Fail over”: called the webhook gateway"]);
    let shown = page(&engine, READER, &format!("/incidents/{id}")).await;
    parts(&shown, &["Fail over: call the webhook gateway.", "Page: publish to gateway.page."]);
    assert!(!shown.contains("<form method=post"), "{shown}");
    let acts: Vec<_> = audited(&engine).await.into_iter().filter(|[_, action, _]| action == "action").map(|[_, _, outcome]| outcome).collect();
    assert_eq!(acts[0], "published to gateway.page");
    assert!(acts[1].starts_with("refused: done already by alice at 2"), "{acts:?}");
    assert_eq!(acts[2..], ["called the webhook gateway", "failed: HTTP 500: no [2J"]);

    // A button of a page that was open while it ended does nothing.
    publish(&mut publishing, &["extraction"], 60..240, false).await;
    let over = async || api(&engine, READER, "GET", &format!("/api/v1/incidents/{id}"), "").await.1;
    until("it to be over", PATIENCE, over, |whole| whole["incident"]["firing"] == false).await;
    assert_eq!(api(&engine, OPERATOR, "POST", &path, fail_over).await.0, 409);
    assert!(came.try_recv().is_err(), "nothing was called but what was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_buttons_of_a_page_and_the_commands_do_the_same() {
    let nats = Nats::start().await;
    let setup = with_tokens(&nats);
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    publish(&mut publishing, &["extraction"], 0..60, true).await;
    let whole = incident(&engine, 1).await;
    let id = whole["incident"]["id"].as_str().expect("an id").to_owned();

    let own = format!("Host: {0}\r\nOrigin: http://{0}\r\nAccept: text/html\r\nContent-Type: application/x-www-form-urlencoded\r\n", engine.http);
    let post = async |path: &str, headers: &str, form: &str| {
        let answer: Answer = send(&engine.http, "POST", path, &format!("{own}{headers}"), form).await.expect("the engine answers");
        (answer.status, answer.header("location").to_owned(), answer.header("set-cookie").to_owned())
    };
    let (_, _, cookie) = post("/sign-in", "", &format!("token={OPERATOR}&next=/")).await;
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().expect("a value"));
    let here = format!("/incidents/{id}");
    let shown = send(&engine.http, "GET", &here, &format!("{own}{cookie}"), "").await.expect("the engine answers").body;
    parts(&shown, &[">Acknowledge<", "value=30m>30 minutes<", "value=1h>", "value=4h>", ">until resolved<"]);
    let token = shown.split("name=form_token value='").nth(1).and_then(|rest| rest.split('\'').next()).expect("a form of the page");
    let token = format!("form_token={token}");
    assert_eq!(post(&format!("{here}/ack"), &cookie, "").await.0, 403, "without the page's token");
    assert_eq!(post(&format!("{here}/ack"), &cookie, &token).await, (303, here.clone(), String::new()));
    assert_eq!(post(&format!("{here}/silence"), &cookie, &token).await.0, 400, "for how long is not said");
    assert_eq!(post(&format!("{here}/silence"), &cookie, &format!("{token}&for=resolved")).await.0, 303);
    assert_eq!(api(&engine, READER, "GET", "/api/v1/silences", "").await.1[0]["until"], Value::Null);
    let end = format!("/silences/s-{id}/end");
    assert_eq!(post(&end, &cookie, &format!("{token}&incident={id}")).await.1, here);
    assert_eq!(post(&format!("{here}/silence"), &cookie, &format!("{token}&for=4h")).await.0, 303);
    assert_eq!(post(&end, &cookie, &token).await.1, "/status#silences");

    let run = async |args: &[&str]| {
        let output = setup.run(args).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, _) = run(&["incidents"]).await;
    assert_eq!(code, Some(0));
    parts(&said, &["● errors  default · extraction", &id, "critical · acknowledged by alice"]);
    assert_eq!(serde_json::from_str::<Value>(&run(&["incidents", "--json"]).await.1).expect("JSON")["open"], 1);
    let (code, said, _) = run(&["ack", &id]).await;
    assert_eq!(code, Some(0));
    parts(&said, &["was acknowledged already by alice"]);
    let (code, said, _) = run(&["silence", &id, "--for", "1h"]).await;
    assert_eq!(code, Some(0));
    parts(&said, &["silenced by alice until 20", "1 alert that fires now is covered.", &format!("streamgauge unsilence {id} ends it.")]);
    assert_eq!(run(&["unsilence", &id]).await.0, Some(0));
    let (code, said, _) = run(&["silence", "rule=errors", "stage=synthesis", "--for", "4h", "--json"]).await;
    let silence: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &silence["of"]["alerts"][1][1]), (Some(0), &"synthesis".into()));
    assert_eq!((&silence["firing_alerts"], &silence["warning"]), (&0.into(), &Value::Null));
    parts(&run(&["incidents"]).await.1, &["rule=errors stage=synthesis  silenced by alice until"]);
    assert_eq!(run(&["unsilence", silence["id"].as_str().expect("an id")]).await.0, Some(0));
    for (args, said) in [
        (&["ack", "nothing"][..], "there is no incident nothing\nhint: `streamgauge incidents` lists"),
        (&["silence", "rule=errors"], "needs an end\nhint: "),
        (&["silence", "rule=eror", "--for", "1h"], "hint: did you mean `errors`?"),
        (&["silence", "rule=errors", "model=m", "--for", "1h"], "there is no key of an alert of rule errors `model`\nhint: known: environment, "),
        (&["silence", &id, "rule=errors"], "an incident stands alone\nhint: "),
        (&["act", "nothing"], "there is no incident nothing\nhint: `streamgauge incidents` lists"),
        (&["unsilence", "nothing"], "there is no silence nothing\nhint: `streamgauge incidents` lists"),
        (&["unsilence", &id], "is not silenced\nhint: "),
    ] {
        let (code, _, problem) = run(args).await;
        assert_eq!(code, Some(2), "{args:?}: {problem}");
        assert!(problem.contains(said), "{args:?}: {problem}");
    }
    let (code, said, _) = run(&["silence", "rule=errors", "environment=prod", "--for", "4h"]).await;
    assert_eq!(code, Some(0), "it may come: {said}");
    parts(&said, &["No alert that fires now is covered.", "warning: no call of environment `prod` has come yet; known: default"]);
    let (_, said, _) = run(&["silence", "rule=errors", "environment=default", "--for", "4h"]).await;
    assert!(said.contains("1 alert that fires now is covered.") && !said.contains("warning"), "{said}");
}

/// With what the documents say that we need, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn what_nats_lets_us_publish_is_known_to_be_there_and_what_it_does_not_is_said_to_be_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("nats.conf");
    let ours =
        r#"{ user: ours, password: p, permissions: { publish: { allow: ["$JS.API.>", "streamgauge.>"] }, subscribe: { allow: ["_INBOX.>"] } } }"#;
    std::fs::write(&file, format!("no_auth_user: all\nauthorization {{ users: [{ours}, {{ user: all, password: p }}] }}"))
        .expect("the file is written");
    let nats = Nats::start_with(&["-js", "-c", file.to_str().expect("a path in UTF-8")]).await;
    let mut heard = nats.client().await.subscribe("streamgauge.>").await.expect("a subscription");
    let page = r#"actions: [#{ label: "Page", publish: "gateway.page" }], keep_firing"#;
    let setup = with_tokens(&nats).env("STREAMGAUGE__NATS__USER", "ours").env("STREAMGAUGE__NATS__PASSWORD", "p");
    let engine = setup.rule("errors.rhai", &ERRORS.replace("keep_firing", page)).start().await;
    let mut publishing = Publishing::new(&nats).await;
    publish(&mut publishing, &["extraction"], 0..60, true).await;
    let id = incident(&engine, 1).await["incident"]["id"].as_str().expect("an id").to_owned();
    let status = async || api(&engine, READER, "GET", "/api/v1/status", "").await.1;
    let sent = |status: &Value| status["outbox"]["sent"].as_u64().unwrap_or_default();
    let status = until("an alert and its incident are sent", PATIENCE, status, |status| sent(status) >= 2 && status["outbox"]["waiting"] == 0).await;
    for _ in 0..sent(&status) {
        tokio::time::timeout(PATIENCE, futures_util::StreamExt::next(&mut heard)).await.expect("in time").expect("it is published");
    }
    let path = format!("/api/v1/incidents/{id}/actions");
    let (got, problem) = api(&engine, OPERATOR, "POST", &path, r#"{"action": "Page"}"#).await;
    assert_eq!((got, &problem["detail"]), (502, &"“Page” could not be done: the NATS server does not let us publish on gateway.page".into()));
    let acts: Vec<_> = audited(&engine).await.into_iter().filter(|[_, action, _]| action == "action").map(|[_, _, outcome]| outcome).collect();
    assert_eq!(acts, ["failed: the NATS server does not let us publish on gateway.page"]);
    // Each came once.
    let again = futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut heard));
    assert!(again.is_none_or(|message| message.is_some_and(|message| message.subject.starts_with("streamgauge.incidents."))), "it came again");
}
