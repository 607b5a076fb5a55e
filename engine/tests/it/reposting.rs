//! What becomes of an incident whose message can be changed no more, or whose channel is none of its own any more: its end is told all the same.

use crate::engine::{Setup, send};
use crate::nats::Nats;
use crate::publishing::Publishing;
use fixtures_slack::{Fault, Message, Outcome, Settings, Workspace};
use serde_json::json;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

const CHANNEL: &str = "#llm-alerts";
const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-01-01: the time of the first call.
const BEGIN_MS: i64 = 1_767_225_600_000;

const ERRORS: &str = r#"rule(#{ name: "errors", watch: rate("error", "1m").expect(0.0, 0.05).at_least(20), keep_firing: "0s" });
fn check(w) { if w.value.low > 0.05 { fire(`${percent(w.value.value)} of calls fail`) } }"#;

async fn workspace() -> Workspace {
    let channels = vec![CHANNEL.to_owned(), "#new".to_owned()];
    Workspace::start(Settings { channels, ..Settings::default() }).await.expect("loopback has a free port")
}

fn setup(nats: &Nats, slack: &Workspace) -> Setup {
    Setup::new(nats).slack(&slack.api_url()).set("rules.library", "[]").rule("errors.rhai", ERRORS)
}

/// A call a second in each environment, so that each has an incident of its own; every second one fails where it says so.
async fn publish(publishing: &mut Publishing, environments: &[&str], seconds: Range<i64>, failing: bool) {
    for second in seconds {
        for (number, environment) in environments.iter().enumerate() {
            let status = if failing && second % 2 == 0 { 500 } else { 200 };
            let at = BEGIN_MS + second * 1000 + number as i64;
            let call =
                json!({ "id": format!("{environment}-{second}"), "time": at, "model": "m", "environment": environment, "status_code": status });
            publishing.send(call.to_string()).await;
        }
    }
    publishing.flush().await;
}

/// The messages of incidents, without what is said in threads.
fn heads(slack: &Workspace) -> Vec<Message> {
    slack.messages().into_iter().filter(|message| message.thread_ts.is_none()).collect()
}

fn incident(message: &Message) -> String {
    message.metadata("incident").and_then(|id| id.as_str()).expect("it names its incident").to_owned()
}

/// Its incident is over, it says so, and so does its thread.
fn is_end(message: &Message) -> bool {
    message.headline().contains("RESOLVED") && !message.thread().is_empty()
}

/// As a person would.
async fn delete(slack: &Workspace, message: &Message) {
    let url = slack.api_url();
    let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let headers = format!("Host: {host}\r\nContent-Type: application/json\r\nAuthorization: Bearer xoxb-test\r\n");
    let body = json!({ "channel": message.channel, "ts": message.ts }).to_string();
    let answer = send(host, "POST", &format!("/{path}/chat.delete"), &headers, &body).await.expect("an answer");
    assert!(answer.body.contains(r#""ok":true"#), "{}", answer.body);
}

#[tokio::test]
async fn the_end_is_posted_anew_where_its_message_is_deleted_another_apps_or_too_old_to_be_changed() {
    let nats = Nats::start().await;
    let slack = workspace().await;
    let engine = setup(&nats, &slack).start().await;
    let mut publishing = Publishing::new(&nats).await;
    let environments = ["a", "b", "c"];
    publish(&mut publishing, &environments, 0..60, true).await;
    slack.until("three incidents", PATIENCE, |slack| heads(slack).len() == 3).await;
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    let [deleted, anothers, old] = <[Message; 3]>::try_from(heads(&slack)).expect("there are three");
    delete(&slack, &deleted).await;
    anothers.disown();
    slack.set(|settings| settings.edit_window = Some(Duration::ZERO));

    publish(&mut publishing, &environments, 60..240, false).await;
    let ended = |slack: &Workspace| heads(slack).iter().filter(|head| is_end(head)).map(incident).collect::<BTreeSet<_>>();
    slack.until("three ends", PATIENCE, |slack| ended(slack).len() == 3).await;
    assert_eq!(ended(&slack), [&deleted, &anothers, &old].map(incident).into());
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    let after = heads(&slack);
    let left = |of: &Message| after.iter().filter(|head| incident(head) == incident(of)).count();
    assert_eq!([&deleted, &anothers, &old].map(left), [1, 2, 2], "each is posted anew once: {after:#?}");
    assert!(after.iter().all(|head| head.metadata("possible_repeat").is_none_or(|mark| mark != "true")), "none is a repeat: {after:#?}");
}

#[tokio::test]
async fn a_line_whose_message_is_deleted_before_it_comes_stands_below_the_message_that_is_posted_anew() {
    let nats = Nats::start().await;
    let slack = workspace().await;
    let engine = setup(&nats, &slack).start().await;
    let mut publishing = Publishing::new(&nats).await;
    publish(&mut publishing, &["one"], 0..60, true).await;
    slack.until("the incident", PATIENCE, |slack| heads(slack).len() == 1).await;
    engine.until("its receipt", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    let head = heads(&slack).remove(0);
    slack.script_method("chat.postMessage", &[Fault::RateLimited(3)]);
    publish(&mut publishing, &["one"], 60..240, false).await;
    let limited = |slack: &Workspace| slack.requests().iter().any(|request| request.outcome == Outcome::RateLimited);
    slack.until("the line to wait", PATIENCE, limited).await;
    assert!(head.now().is_some_and(|head| head.headline().contains("RESOLVED")), "its message says so before the line comes");
    delete(&slack, &head).await;
    slack.until("another message with the line", PATIENCE, |slack| heads(slack).iter().any(is_end)).await;
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    assert_eq!(heads(&slack).len(), 1, "{:#?}", slack.messages());
    assert_eq!(engine.status().await["outbox"]["failed"], 0);
}

#[tokio::test]
async fn an_incident_ends_in_the_channel_where_it_began_though_its_channel_is_another_one_by_then() {
    let nats = Nats::start().await;
    let slack = workspace().await;
    let before = setup(&nats, &slack);
    let engine = before.start().await;
    let mut publishing = Publishing::new(&nats).await;
    publish(&mut publishing, &["one"], 0..60, true).await;
    slack.until("the incident", PATIENCE, |slack| heads(slack).len() == 1).await;
    engine.until("its receipt", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    assert!(engine.terminate().await.success());
    let engine = before.set("slack.channel", "#new").start().await;
    publish(&mut publishing, &["one"], 60..240, false).await;
    let over = |channel: &str| slack.channel(channel).messages().iter().any(|message| message.headline().contains("RESOLVED"));
    slack.until("its end in both", PATIENCE, |_| over(CHANNEL) && over("#new")).await;
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    let old = slack.channel(CHANNEL).all();
    assert_eq!(old.len(), 1, "it is shown, and not said, where nobody asked for it any more: {old:#?}");
}

#[tokio::test]
async fn what_an_archived_channel_does_not_take_goes_on_in_the_fallback_in_one_message_that_says_why() {
    let nats = Nats::start().await;
    let slack = workspace().await;
    let engine = setup(&nats, &slack).set("slack.fallback_channel", "#new").start().await;
    let mut publishing = Publishing::new(&nats).await;
    publish(&mut publishing, &["one"], 0..60, true).await;
    slack.until("the incident", PATIENCE, |slack| heads(slack).len() == 1).await;
    engine.until("its receipt", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    slack.channel(CHANNEL).archive();
    let there = |slack: &Workspace| -> Vec<Message> {
        let messages = slack.channel("#new").all();
        messages.into_iter().filter(|message| message.thread_ts.is_none()).collect()
    };
    let says_why = |head: &Message| head.marked_up().iter().any(|text| text.contains("Told here because #llm-alerts does not take it"));
    publish(&mut publishing, &["one"], 60..240, false).await;
    slack.until("its end there", PATIENCE, |slack| there(slack).iter().any(|head| is_end(head) && says_why(head))).await;
    publish(&mut publishing, &["one"], 240..300, true).await;
    let back = |head: &Message| !head.headline().contains("RESOLVED") && head.thread().len() == 2;
    slack.until("its return there", PATIENCE, |slack| there(slack).iter().any(back)).await;
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    let heads = there(&slack);
    assert!(heads.len() == 1 && says_why(&heads[0]), "{heads:#?}");
}
