//! Who may look and who may change something, from outside: tokens, browsers, a proxy, pages of other sites; and what is noted of it.

use crate::engine::{Answer, Engine, Setup, ask, send};
use crate::nats::Nats;
use serde_json::{Value, json};

const READER: &str = "reader-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";

fn with_tokens(nats: &Nats) -> Setup {
    Setup::new(nats)
        .env("READER", READER)
        .env("OPERATOR", OPERATOR)
        .set("access.tokens.dashboard", r#"{ token = { env = "READER" }, may = "read" }"#)
        .set("access.tokens.alice", r#"{ token = { env = "OPERATOR" }, may = "operate" }"#)
}

/// As a browser on our page would.
async fn browse(engine: &Engine, method: &str, path: &str, headers: &str, form: &str) -> Answer {
    let http = &engine.http;
    let headers = format!("Host: {http}\r\nAccept: text/html,*/*\r\nContent-Type: application/x-www-form-urlencoded\r\n{headers}");
    send(http, method, path, &headers, form).await.expect("the engine answers")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The value of the hidden field that a page's forms bring.
fn form_token(page: &str) -> &str {
    let rest = page.split("name=form_token value='").nth(1).unwrap_or_else(|| panic!("no form in {page}"));
    rest.split('\'').next().unwrap_or_default()
}

async fn audited(engine: &Engine) -> Vec<(String, String, String, String)> {
    let answer = ask(&engine.http, "GET", "/api/v1/audit", &bearer(READER)).await.expect("the engine answers");
    let entries: Vec<Value> = serde_json::from_str(&answer.body).expect("a list");
    let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
    entries.iter().map(|entry| (text(entry, "who"), text(entry, "way"), text(entry, "action"), text(entry, "outcome"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_nobody_looks_without_one_and_a_reader_changes_nothing() {
    let nats = Nats::start().await;
    let setup = with_tokens(&nats);
    let engine = setup.start().await;
    let status = async |method: &str, path: &str, headers: &str| ask(&engine.http, method, path, headers).await.expect("the engine answers").status;
    for path in ["/healthz", "/readyz", "/style.css"] {
        assert_eq!(status("GET", path, "").await, 200, "{path}");
        assert_eq!(status("GET", path, &bearer("wrong")).await, 200, "{path} with a wrong token");
    }
    for path in ["/", "/metrics", "/status", "/api/v1/status", "/api/v1/audit", "/api/v1/openapi.json", "/nothing"] {
        let answer = ask(&engine.http, "GET", path, "").await.expect("the engine answers");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer realm=\"streamgauge\""), "{path}");
        assert!(answer.body.contains("/sign-in"), "the way out: {}", answer.body);
        for wrong in [
            "Authorization: Bearer reader-0123456789abcdeg\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: Basic YTpi\r\n",
            "Cookie: streamgauge_session=0\r\n",
        ] {
            assert_eq!(status("GET", path, wrong).await, 401, "{path} {wrong}");
        }
    }
    assert_eq!(status("GET", "/metrics", &bearer(READER)).await, 200);
    assert_eq!(status("GET", "/api/v1/status", &bearer(OPERATOR)).await, 200);
    let reload = "/api/v1/rules/reload";
    assert_eq!(status("POST", reload, "").await, 401);
    assert_eq!(status("POST", reload, &bearer(READER)).await, 403);
    assert_eq!(status("POST", reload, &bearer(OPERATOR)).await, 200);
    assert_eq!(status("POST", reload, &format!("{}Origin: http://elsewhere.example\r\n", bearer(OPERATOR))).await, 403);
    assert_eq!(status("POST", "/api/v1/alerts/none/adopt", &bearer(OPERATOR)).await, 404);
    let of = |action: &str, outcome: &str| ("alice".to_owned(), "token".to_owned(), action.to_owned(), outcome.to_owned());
    assert_eq!(audited(&engine).await, [of("adopt", "refused: there is no alert none"), of("reload", "unchanged")]);

    // The commands know the tokens of their configuration.
    let said = setup.run(&["rules", "reload"]).await;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let status = setup.run(&["status"]).await;
    assert!(status.status.success() && !String::from_utf8_lossy(&status.stdout).contains(OPERATOR));
    assert!(![READER, OPERATOR].iter().any(|token| setup.log().contains(token)), "a token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_once_and_only_our_own_page_changes_something_with_it() {
    let nats = Nats::start().await;
    let engine = with_tokens(&nats).start().await;
    let shut = browse(&engine, "GET", "/rules", "", "").await;
    assert_eq!((shut.status, shut.header("content-type")), (401, "text/html; charset=utf-8"));
    assert!(shut.body.contains("name=token") && shut.body.contains("name=next value='/rules'") && !shut.body.contains("http-equiv"), "{}", shut.body);
    // A link of another site comes without the cookie; a second request, from our own page, brings it.
    assert!(browse(&engine, "GET", "/rules", "Sec-Fetch-Site: cross-site\r\n", "").await.body.contains("http-equiv=refresh"));

    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", engine.http);
    let wrong = browse(&engine, "POST", "/sign-in", &own, "token=nope").await;
    assert!(wrong.status == 401 && wrong.body.contains("not a token that this engine knows"), "{wrong:?}");
    let form = format!("token={OPERATOR}&next=/rules");
    assert_eq!(browse(&engine, "POST", "/sign-in", "Origin: http://elsewhere.example\r\n", &form).await.status, 403);
    let signed = browse(&engine, "POST", "/sign-in", &own, &form).await;
    assert_eq!((signed.status, signed.header("location")), (303, "/rules"));
    let cookie = signed.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(OPERATOR), "the cookie is not the token");
    let cookie = format!("Cookie: other=1; {}\r\n", cookie.split(';').next().expect("a value"));
    for elsewhere in ["https://evil.example", "//evil.example"] {
        let signed = browse(&engine, "POST", "/sign-in", &own, &format!("token={READER}&next={elsewhere}")).await;
        assert_eq!(signed.header("location"), "/", "{elsewhere}");
    }

    let page = browse(&engine, "GET", "/rules", &cookie, "").await;
    assert!(page.status == 200 && page.body.contains("alice · may operate"), "{}", page.body);
    let token = format!("form_token={}", form_token(&page.body));
    let post = async |headers: &str, form: &str| browse(&engine, "POST", "/rules/reload", &format!("{cookie}{headers}"), form).await.status;
    assert_eq!(post(&own, &token).await, 303);
    assert_eq!(post(&own, "").await, 403, "without the page's token");
    assert_eq!(post("", "").await, 403, "a cookie without the page's token");
    assert_eq!(post(&own, "form_token=0").await, 403);
    assert_eq!(post("Origin: http://elsewhere.example\r\n", &token).await, 403);
    assert_eq!(post("Origin: null\r\n", &token).await, 403);
    assert_eq!(post("Sec-Fetch-Site: same-site\r\n", &token).await, 403);
    let entries = audited(&engine).await;
    assert_eq!(entries[0], ("alice".to_owned(), "session".to_owned(), "reload".to_owned(), "unchanged".to_owned()), "{entries:?}");
    assert_eq!(entries.len(), 4, "three have signed in, one has reloaded: {entries:?}");

    assert_eq!(browse(&engine, "POST", "/sign-out", &format!("{cookie}{own}"), &token).await.status, 303);
    assert_eq!(browse(&engine, "GET", "/rules", &cookie, "").await.status, 401, "the session is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_says_who_asks_and_whoever_it_does_not_name_stays_outside() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("access.proxy.trust", "true").set("access.proxy.operate_groups", r#"["oncall"]"#);
    let engine = setup.start().await;
    let status = async |method: &str, path: &str, headers: &str| ask(&engine.http, method, path, headers).await.expect("the engine answers").status;
    assert_eq!(status("GET", "/", "").await, 401);
    assert_eq!(status("GET", "/", "X-Forwarded-User: bob\r\n").await, 200);
    assert_eq!(status("POST", "/api/v1/rules/reload", "X-Forwarded-User: bob\r\nX-Forwarded-Groups: dev\r\n").await, 403);
    assert_eq!(status("POST", "/api/v1/rules/reload", "X-Forwarded-User: bob\r\nX-Forwarded-Groups: dev,oncall\r\n").await, 200);
    let audit = ask(&engine.http, "GET", "/api/v1/audit", "X-Forwarded-User: eve\r\n").await.expect("the engine answers");
    let audit: Value = serde_json::from_str(&audit.body).expect("JSON");
    assert_eq!((&audit[0]["who"], &audit[0]["way"], audit.as_array().map(Vec::len)), (&json!("bob"), &json!("proxy"), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_this_machine_it_does_not_start_open_and_reading_alone_can_be_opened() {
    let nats = Nats::start().await;
    let port = |setup: &Setup| setup.http.rsplit(':').next().expect("a port").to_owned();
    let setup = Setup::new(&nats);
    let listen = format!("0.0.0.0:{}", port(&setup));
    let setup = setup.set("http.listen", &listen);
    let refused = setup.run(&["run"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    for part in ["must say who may look and operate", listen.as_str(), "[access.tokens.NAME]", "access.open = \"read\""] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let unset = Setup::new(&nats).set("access.tokens.ci", r#"{ token = { env = "NOT_SET" }, may = "read" }"#).run(&["run"]).await;
    let said = String::from_utf8_lossy(&unset.stderr);
    assert!(unset.status.code() == Some(2) && said.contains("access.tokens.ci: environment variable `NOT_SET` is not set"), "{said}");

    let engine = setup.set("access.open", "read").start().await;
    let status = async |method: &str, path: &str| ask(&engine.http, method, path, "").await.expect("the engine answers").status;
    assert_eq!((status("GET", "/").await, status("GET", "/metrics").await), (200, 200));
    assert_eq!(status("POST", "/api/v1/rules/reload").await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_wrongly_is_refused_as_a_problem_with_its_way_out() {
    let nats = Nats::start().await;
    let engine = Setup::new(&nats).start().await;
    let http = &engine.http;
    let large = "x".repeat(70_000);
    let host = format!("Host: {http}\r\n");
    for (method, path, headers, body, status) in [
        ("GET", "/nothing", host.as_str(), "", 404),
        ("GET", "/alerts/none", &host, "", 404),
        ("GET", "/rules/none", &host, "", 404),
        ("GET", "/rules/%FF", &host, "", 400),
        ("GET", "/api/v1/series?signal=error&window=%FF", &host, "", 400),
        ("GET", "/api/v1/explain?rule=%00", &host, "", 404),
        ("DELETE", "/api/v1/status", &host, "", 405),
        ("POST", "/api/v1/status", &host, "", 405),
        ("GET", "/api/v1/rules/reload", &host, "", 405),
        ("POST", "/api/v1/rules/reload", &host, &large, 413),
        // A page of another site whose name leads here.
        ("GET", "/api/v1/status", "Host: evil.example\r\n", "", 421),
        ("POST", "/api/v1/rules/reload", "Host: evil.example\r\nOrigin: http://evil.example\r\n", "", 421),
    ] {
        let answer = send(http, method, path, headers, body).await.expect("the engine answers");
        assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{method} {path}: {}", answer.body);
        let problem: Value = serde_json::from_str(&answer.body).expect("JSON");
        let said = |name: &str| problem[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(said("detail") && said("hint") && said("title") && problem["status"] == status, "{method} {path}: {problem}");
        assert_eq!(answer.header("allow").is_empty(), status != 405, "{method} {path}: {}", answer.head);
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{}", answer.head);
    }
    // A browser is shown a page of it.
    let page = browse(&engine, "GET", "/alerts/none", "", "").await;
    assert!(page.status == 404 && page.body.contains("<h1>Not Found</h1>") && page.body.contains("there is no alert none"), "{}", page.body);
}
