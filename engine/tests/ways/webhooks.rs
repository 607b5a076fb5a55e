//! What a receiver of webhooks gets, and what becomes of each of its answers.

use crate::receiver::{Answer, Came, Receiver};
use crate::telling::{life, webhook};
use model::Timestamp;
use model::plan::{Action, Target};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use streamgauge::config::{Config, Secret, WebhookConfig};
use streamgauge::posted::Posted;
use streamgauge::ways::{Call, OtherWays, sign};
use tokio::io::AsyncReadExt;

const SECRET: &str = "0123456789abcdef";

#[tokio::test]
async fn each_telling_is_one_signed_post_that_names_itself() {
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).expect("it is written");
    let ways = webhook(&format!("{}/hook/?a=b", receiver.url), Some(Secret::File(file)));
    let told = life("a");
    assert_eq!(ways.routes(&told[0].incident), ["webhook:pager"]);
    for (telling, maybe_repeat) in told.iter().zip([false, true, false, false, false]) {
        assert_eq!(ways.post("webhook:pager", telling, maybe_repeat).await, Some(Posted::Sent("HTTP 200".to_owned())));
    }
    let came = receiver.came();
    assert_eq!(came.len(), told.len());
    for (came, telling) in came.iter().zip(&told) {
        let header = |name: &str| came.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!((came.path.as_str(), header("content-type"), header("x-streamgauge-id")), ("/hook/", "application/json", telling.id.as_str()));
        let (timestamp, body) = (header("x-streamgauge-timestamp"), std::str::from_utf8(&came.body).expect("it is text"));
        let sent: i64 = timestamp.parse().expect("it is a number");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs() as i64;
        assert!((now - 60..=now).contains(&sent), "{timestamp} is no time of this test");
        assert_eq!(header("x-streamgauge-signature"), sign(SECRET, sent, body));
        let body: Value = serde_json::from_str(body).expect("it is JSON");
        assert_eq!((&body["id"], &body["occasion"]), (&Value::from(telling.id.as_str()), &Value::from(telling.occasion.name())));
    }
    let repeats: Vec<_> =
        came.iter().map(|came| serde_json::from_slice::<Value>(&came.body).expect("it is JSON")["possible_repeat"].clone()).collect();
    assert_eq!(repeats, [false, true, false, false, false]);
}

#[tokio::test]
async fn an_action_that_somebody_chose_is_one_signed_post_of_the_same_shape() {
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).expect("it is written");
    let ways = webhook(&receiver.url, Some(Secret::File(file)));
    let (telling, target) = (&life("a")[0], Target::Webhook("pager".to_owned()));
    let action = Action { label: "Fail over".to_owned(), target, payload: r#"{"to":"azure"}"#.to_owned(), confirm: None };
    let at = Timestamp::parse("2026-11-23T02:14:00Z").expect("a time");
    let call = Call { id: "i1-1-0".to_owned(), action: &action, by: "@ana", at, incident: &telling.incident, maybe_repeat: true };
    assert_eq!(ways.call("pager", &call).await, Posted::Sent("HTTP 200".to_owned()));
    assert_eq!(ways.call("gone", &call).await, Posted::Refused("webhooks.gone is not in the configuration any more".to_owned()));
    // The same as everything that a webhook gets, so that a receiver reads one shape.
    assert!(ways.post("webhook:pager", telling, false).await.is_some());
    let came = receiver.came();
    let body = |came: &Came| serde_json::from_slice::<Value>(&came.body).expect("it is JSON");
    let (called, told) = (body(&came[0]), body(&came[1]));
    let header = |name: &str| came[0].headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sent = header("x-streamgauge-timestamp").parse().expect("it is a number");
    assert_eq!(header("x-streamgauge-signature"), sign(SECRET, sent, std::str::from_utf8(&came[0].body).expect("it is text")));
    assert_eq!((header("x-streamgauge-id"), &called["id"], &called["occasion"]), ("i1-1-0", &"i1-1-0".into(), &"action".into()));
    assert_eq!(called["detail"], json!({ "action": "Fail over", "payload": { "to": "azure" } }));
    assert_eq!((&called["by"], &called["possible_repeat"]), (&"@ana".into(), &true.into()));
    assert_eq!(called["incident"], told["incident"]);
    let keys = |body: &Value| body.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&called), keys(&told));
}

#[tokio::test]
async fn every_answer_is_taken_for_what_it_means() {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let ways = webhook(&receiver.url, None);
    let telling = &life("a")[0];
    let refused = |problem: &str| Posted::Refused(problem.to_owned());
    let again = |problem: &str| Posted::Again(problem.to_owned());
    let status = |code, headers| Answer::Status(code, headers, "because".to_owned());
    let moved = Answer::Status(308, &[], "moved".to_owned());
    for (answer, expected) in [
        (status(204, &[]), Posted::Sent("HTTP 204".to_owned())),
        (status(429, &[("retry-after", "7")]), Posted::Later(Duration::from_secs(7))),
        (status(503, &[("retry-after", "7")]), Posted::Later(Duration::from_secs(7))),
        (status(503, &[]), again("HTTP 503: because")),
        (status(500, &[]), again("HTTP 500: because")),
        (status(502, &[]), Posted::Unknown("HTTP 502: because".to_owned())),
        (status(400, &[]), refused("HTTP 400: because")),
        (status(404, &[]), refused("HTTP 404: because")),
        (moved, refused("HTTP 308: moved")),
        (Answer::Silence, Posted::Unknown("no answer within 1 s".to_owned())),
    ] {
        receiver.answers(answer.clone());
        assert_eq!(ways.post("webhook:pager", telling, false).await, Some(expected), "{answer:?}");
    }
    // The reason of a refusal is read as far as it is of use.
    receiver.answers(Answer::Endless);
    let started = Instant::now();
    assert_eq!(ways.post("webhook:pager", telling, false).await, Some(refused(&format!("HTTP 400: {}", "x".repeat(300)))));
    assert!(started.elapsed() < Duration::from_secs(1));
    // Whoever is told to go elsewhere does not: that may be anywhere.
    let there: &'static str = elsewhere.url.clone().leak();
    receiver.answers(Answer::Status(302, Box::leak(Box::new([("location", there)])), String::new()));
    assert_eq!(ways.post("webhook:pager", telling, false).await, Some(refused("HTTP 302")));
    assert!(elsewhere.came().is_empty());
}

#[tokio::test]
async fn whether_nothing_or_perhaps_something_was_sent_is_told_apart() {
    let telling = &life("a")[0];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let ways = webhook(&url, None);
    let cut = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        // All of the request is read before the connection is cut.
        let mut read = vec![0; 1 << 16];
        assert!(stream.read(&mut read).await.expect("it can be read") > 0);
    });
    let broken = ways.post("webhook:pager", telling, false).await;
    assert!(matches!(&broken, Some(Posted::Unknown(problem)) if problem.starts_with("the connection broke")), "{broken:?}");
    cut.await.expect("it does not panic");
    let away = ways.post("webhook:pager", telling, false).await;
    assert!(matches!(&away, Some(Posted::Again(problem)) if problem.starts_with("cannot connect")), "{away:?}");
    assert_eq!(ways.post("nats:a", telling, false).await, None);
    let gone = ways.post("webhook:gone", telling, false).await;
    assert_eq!(gone, Some(Posted::Refused("webhooks.gone is not in the configuration any more".to_owned())));
}

#[test]
fn a_secret_that_is_not_there_or_could_be_guessed_is_refused_at_start_and_never_shown() {
    let with = |secret: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).expect("it is written");
        let mut config = Config::default();
        let concern = Some(streamgauge::config::Concern { severity: model::plan::Severity::Info, environments: vec![] });
        let url = "https://hooks.example/T0/in-the-path".to_owned();
        config.webhooks.insert("pager".to_owned(), WebhookConfig { url, secret: Some(Secret::File(file)), timeout: Duration::from_secs(1), concern });
        OtherWays::new(&config, "").err().map(|fault| fault.to_string()).unwrap_or_default()
    };
    assert!(with("").contains("is not set\nhint: set it, or remove `secret`"));
    assert_eq!(
        with("too-short"),
        "webhooks.pager: a secret of fewer than 16 characters could be guessed\nhint: make one with `openssl rand -hex 32`"
    );
    assert_eq!(with(SECRET), "");
}
