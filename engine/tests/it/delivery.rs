//! From an alert to Slack and to NATS: each notification arrives, in order, at the channel's pace, and is a repeat only where nobody can know better.

use crate::engine::{Engine, Setup, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use crate::slack::{Fault, Message, Outcome, Slack};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

const CHANNEL: &str = "#llm-alerts";
const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-01-01: the time of the first call.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// Fires for each stage by itself while more than 5 % of its calls fail: by a check, because a drift of all stages would be one alert.
const ERRORS: &str = r#"rule(#{
    name: "errors",
    watch: rate("error", "1m").expect(0.0, 0.05).at_least(20),
    group_by: ["stage"],
    keep_firing: "0s",
});
fn check(w) { if w.value.low > 0.05 { fire(`error rate ${percent(w.value.value)} is above the expected 0 % to 5 %`) } }"#;

/// The rule under another name, for another channel.
fn errors_to(name: &str, channel: &str) -> String {
    ERRORS.replace("\"errors\"", &format!("\"{name}\", channel: \"{channel}\""))
}

/// A call a second in each stage's time, every second one failing where it says so; in order of time.
fn calls(stages: &[(&str, Range<i64>, bool)]) -> Vec<Value> {
    let mut calls: Vec<_> = Vec::new();
    for (number, (stage, seconds, failing)) in stages.iter().enumerate() {
        for second in seconds.clone() {
            let status = if *failing && second % 2 == 0 { 500 } else { 200 };
            let at = BEGIN_MS + second * 1000 + number as i64;
            calls.push((at, json!({ "id": format!("{number}-{second}"), "time": at, "model": "m", "stage": stage, "status_code": status })));
        }
    }
    calls.sort_by_key(|(at, _)| *at);
    calls.into_iter().map(|(_, call)| call).collect()
}

/// A minute in which all these stages fail, so that each fires once.
fn failing(stages: &[&str]) -> Vec<Value> {
    calls(&stages.iter().map(|stage| (*stage, 0..60, true)).collect::<Vec<_>>())
}

async fn publish(nats: &Nats, calls: &[Value]) {
    let mut publishing = Publishing::new(nats).await;
    for call in calls {
        publishing.send(call.to_string()).await;
    }
    publishing.flush().await;
}

/// What is told to machines from now on: subject, id in the header, body.
async fn told(nats: &Nats) -> impl futures_util::Stream<Item = (String, String, Value)> + Unpin {
    let client = nats.client().await;
    let messages = client.subscribe("streamgauge.alerts.>").await.expect("a subscription");
    client.flush().await.expect("the server knows of it");
    messages.map(move |message| {
        // The subscription ends with its client.
        let _open = &client;
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).map(ToString::to_string).unwrap_or_default();
        (message.subject.to_string(), id, serde_json::from_slice(&message.payload).expect("an alert is JSON"))
    })
}

async fn next(told: &mut (impl futures_util::Stream<Item = (String, String, Value)> + Unpin)) -> (String, String, Value) {
    tokio::time::timeout(PATIENCE, told.next()).await.expect("an alert is told within a minute").expect("the subscription goes on")
}

async fn metric(engine: &Engine, name: &str) -> u64 {
    let (_, page) = engine.get("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}

fn ids<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<&'m str> {
    messages.into_iter().map(|message| message.id.as_str()).collect()
}

/// The ids in order of their first appearance.
fn first_seen(messages: &[Message]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    ids(messages).into_iter().filter(|id| seen.insert(*id)).collect()
}

#[tokio::test]
async fn a_limit_a_failure_and_a_cut_connection_delay_an_alert_and_lose_none() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    slack.script(&[Fault::RateLimited(2), Fault::Status(500), Fault::DropAfterAccept]);
    let mut told = told(&nats).await;
    let engine = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).start().await;
    publish(&nats, &failing(&["extraction", "retrieval", "synthesis"])).await;

    let messages = slack.until("three alerts and a repeat", PATIENCE, |messages| messages.len() == 4).await;
    let mut planned = Vec::new();
    for _ in 0..3 {
        planned.push(next(&mut told).await.1);
    }
    assert_eq!(ids(&messages), [&planned[0], &planned[0], &planned[1], &planned[2]], "in order, and only the unconfirmed one twice");
    assert_eq!(messages.iter().map(|message| message.possible_repeat).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(messages.iter().map(|message| message.context().contains("repeat")).collect::<Vec<_>>(), [false, true, false, false]);
    let requests = slack.requests();
    let outcomes: Vec<_> = requests.iter().map(|request| request.outcome.clone()).collect();
    use Outcome::{Answered, Dropped, RateLimited, Status};
    assert_eq!(outcomes, [RateLimited, Status(500), Dropped(true), Answered, Answered, Answered]);
    let waited = requests[1].at - requests[0].at;
    assert!(waited >= Duration::from_secs(2), "Retry-After was 2 s, and the next request came after {waited:?}");
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    for (name, expected) in [("retried", 3), ("rate_limited", 1), ("failed", 0), ("possible_repeats", 1)] {
        assert_eq!(metric(&engine, &format!("streamgauge_notifications_{name}_total")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_message_whose_answer_does_not_come_in_time_is_repeated_and_marked() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    slack.script(&[Fault::Hang(Duration::from_secs(5))]);
    let setup = Setup::new(&nats).slack(&slack.url).set("slack.timeout", "1s").rule("errors.rhai", ERRORS);
    let _engine = setup.start().await;
    publish(&nats, &failing(&["extraction"])).await;
    let messages = slack.until("the alert and its repeat", PATIENCE, |messages| messages.len() == 2).await;
    assert_eq!(messages[0].id, messages[1].id);
    assert_eq!((messages[0].possible_repeat, messages[1].possible_repeat), (false, true));
}

#[tokio::test]
async fn under_random_faults_every_alert_arrives_in_order_and_repeats_are_marked() {
    let seed = 7;
    eprintln!("seed {seed}");
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    slack.fail_at_random(0.3, seed);
    let mut told = told(&nats).await;
    let _engine = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).start().await;
    let stages = ["a", "b", "c", "d", "e", "f", "g", "h"];
    publish(&nats, &failing(&stages)).await;
    let mut planned = Vec::new();
    for _ in stages {
        planned.push(next(&mut told).await.1);
    }
    let answered = || slack.requests().iter().filter(|request| request.outcome == Outcome::Answered).count();
    let messages = slack.until("every alert to be confirmed", 2 * PATIENCE, |_| answered() == stages.len()).await;
    assert_eq!(first_seen(&messages), planned);
    let unconfirmed = slack.requests().iter().filter(|request| request.outcome == Outcome::Dropped(true)).count();
    assert_eq!(messages.len(), stages.len() + unconfirmed);
    let mut copies: BTreeMap<&str, u64> = BTreeMap::new();
    for message in &messages {
        let copy = copies.entry(&message.id).or_default();
        assert!(*copy == 0 || message.possible_repeat, "copy {copy} of {} is not marked", message.id);
        *copy += 1;
    }
}

#[tokio::test]
async fn a_channel_gets_a_message_a_second_and_channels_do_not_wait_for_each_other() {
    let nats = Nats::start().await;
    let slack = Slack::start(&["#one", "#two"]).await;
    let setup = Setup::new(&nats).slack(&slack.url);
    let _engine = setup.rule("one.rhai", &errors_to("one", "#one")).rule("two.rhai", &errors_to("two", "#two")).start().await;
    publish(&nats, &failing(&["a", "b", "c", "d", "e"])).await;
    slack.until("five alerts in each channel", PATIENCE, |messages| messages.len() == 10).await;
    let requests = slack.requests();
    assert!(requests.iter().all(|request| request.outcome == Outcome::Answered), "Slack's pace was kept: {requests:#?}");
    let times = |channel: &str| requests.iter().filter(|request| request.channel == channel).map(|request| request.at).collect::<Vec<_>>();
    let (one, two) = (times("#one"), times("#two"));
    for pair in one.windows(2).chain(two.windows(2)) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(1), "{:?} between two messages of a channel", pair[1] - pair[0]);
    }
    assert!(two[0] < one[1] && one[0] < two[1], "neither channel waited for the other's second message");
}

#[tokio::test]
async fn a_refused_message_is_given_up_counted_and_in_nobodys_way() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    slack.refusing("#private", "not_in_channel");
    slack.refusing("#old", "is_archived");
    let setup = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).rule("gone.rhai", &errors_to("gone", "#gone"));
    let setup = setup.rule("private.rhai", &errors_to("private", "#private")).rule("old.rhai", &errors_to("old", "#old"));
    let engine = setup.start().await;
    publish(&nats, &failing(&["extraction", "synthesis"])).await;
    let status = engine.until("all to be settled", PATIENCE, |status| status["outbox"] == json!({ "waiting": 0, "sent": 10, "failed": 6 })).await;
    assert_eq!(status["outbox"]["failed"], 6);
    assert_eq!(metric(&engine, "streamgauge_notifications_failed_total").await, 6);
    assert_eq!(metric(&engine, "streamgauge_outbox_rows{state=\"failed\"}").await, 6);
    assert_eq!(slack.messages().iter().map(|message| message.channel.as_str()).collect::<Vec<_>>(), [CHANNEL, CHANNEL]);
    let refused = |error| slack.requests().iter().filter(|request| request.outcome == Outcome::Refused(error)).count();
    assert_eq!(["channel_not_found", "not_in_channel", "is_archived"].map(refused), [2, 2, 2], "none was tried again");
    let log = setup.log();
    for hint in ["create the channel", "/invite @streamgauge", "the channel is archived"] {
        assert!(log.contains(hint), "no `{hint}` in\n{log}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_never_logged() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let setup = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS);
    let secret = setup.path("token");
    std::fs::write(&secret, "xoxb-not-that-one\n").expect("the token is written");
    let setup = setup.set("slack.bot_token.file", &secret.display().to_string());
    let engine = setup.start().await;
    publish(&nats, &failing(&["extraction"])).await;
    engine.until("the refusal", PATIENCE, |status| status["outbox"]["failed"] == 1).await;
    assert!(setup.log().contains("the bot token is not valid any more"), "{}", setup.log());
    assert!(!setup.log().contains("not-that-one"), "{}", setup.log());
}

#[tokio::test]
async fn a_resolution_is_a_reply_to_its_alert_and_shown_in_the_channel() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let _engine = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).start().await;
    let stages = [("extraction", 0..60, true), ("extraction", 60..240, false), ("synthesis", 0..90, true), ("synthesis", 90..240, false)];
    publish(&nats, &calls(&stages)).await;
    let messages = slack.until("two alerts and their ends", PATIENCE, |messages| messages.len() == 4).await;
    let by_id: BTreeMap<&str, &Message> = messages.iter().map(|message| (message.id.as_str(), message)).collect();
    for message in &messages {
        if let Some(alert) = message.id.strip_suffix("-resolved") {
            let fired = by_id[format!("{alert}-fired").as_str()];
            assert_eq!(message.thread_ts.as_deref(), Some(fired.ts.as_str()));
            assert!(message.broadcast && message.headline().contains("RESOLVED"), "{message:#?}");
        } else {
            assert!(message.id.ends_with("-fired") && message.thread_ts.is_none() && !message.broadcast, "{message:#?}");
            assert!(message.headline().contains("WARNING: errors"), "{message:#?}");
        }
    }
    assert_eq!(messages.iter().filter(|message| message.id.ends_with("-resolved")).count(), 2);
}

#[tokio::test]
async fn an_engine_without_slack_counts_on_and_delivers_when_slack_comes() {
    let nats = Nats::start().await;
    let place = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let engine = Setup::new(&nats).slack(&format!("http://{place}/api")).rule("errors.rhai", ERRORS).start().await;
    let published = failing(&["extraction", "synthesis"]);
    publish(&nats, &published).await;
    let status = engine.until("all calls", PATIENCE, |status| status["received"] == published.len()).await;
    assert_eq!((&status["balances"], &status["outbox"]["failed"]), (&json!(true), &json!(0)));
    until("two retries", PATIENCE, || metric(&engine, "streamgauge_notifications_retried_total"), |retries| *retries >= 2).await;
    let slack = Slack::start_on(place, &[CHANNEL]).await;
    let messages = slack.until("both alerts", PATIENCE, |messages| messages.len() == 2).await;
    assert!(messages.iter().all(|message| !message.possible_repeat), "a refused connection took nothing: {messages:#?}");
}

#[tokio::test]
async fn what_a_log_says_can_neither_ping_nor_break_a_message() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let engine = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).start().await;
    let long = "x".repeat(5000);
    let ampersands = "&".repeat(300);
    let stages = [
        "<!channel> <@U012> & <!subteam^S1>",
        "<https://evil.example|Open>",
        "```code``` `tick` *bold* _it_ ~gone~",
        long.as_str(),
        ampersands.as_str(),
        "\u{202e}redro ot thgir \u{2066}שלום العربية",
        "two\nlines\tand\u{0007}bell",
        " ",
    ];
    publish(&nats, &failing(&stages)).await;
    let messages = slack.until("an alert for each stage", PATIENCE, |messages| messages.len() == stages.len()).await;
    assert!(slack.requests().iter().all(|request| request.outcome == Outcome::Answered), "{:#?}", slack.requests());
    let ours = ["alerts", "calls"].map(|page| format!("<http://{}/{page}/", engine.http));
    for text in messages.iter().flat_map(Message::marked_up) {
        for (at, _) in text.match_indices('<') {
            assert!(ours.iter().any(|page| text[at..].starts_with(page)), "a mention or a link from a log: {text}");
        }
        let entity = |rest: &str| ["&amp;", "&lt;", "&gt;"].iter().any(|entity| rest.starts_with(entity));
        assert!(text.match_indices('&').all(|(at, _)| entity(&text[at..])), "half an entity: {text}");
    }
    assert!(messages.iter().any(|message| message.text.contains("&lt;!channel&gt; &lt;@U012&gt; &amp;")), "{messages:#?}");
}

/// All the room a rule has, in the character that takes the most of it.
#[tokio::test]
async fn the_longest_message_that_rules_and_logs_can_make_is_taken() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let keys = ["stage", "provider", "model", "service", "tenant", "region", "team", "shard"];
    let watches: Vec<_> =
        (0..16).map(|at| format!("\"watch_number_{at}\": rate(\"error\", \"1m\").expect(0.0, 0.0{at:02}1).at_least({})", at + 5)).collect();
    let rule = format!(
        "rule(#{{ name: \"{}\", watch: #{{ {} }}, group_by: {keys:?}, runbook: \"https://runbooks.example/{}\" }});\nfn check(w) {{ fire(\"{}\") }}",
        "r".repeat(100),
        watches.join(", "),
        "r".repeat(1000),
        "&".repeat(500),
    );
    let setup = Setup::new(&nats).slack(&slack.url).rule("long.rhai", &rule);
    let _engine = setup.start().await;
    let mut published = failing(&["any"]);
    for call in &mut published {
        call["environment"] = json!("&".repeat(200));
        for key in keys {
            call[key] = json!("&".repeat(200));
        }
    }
    publish(&nats, &published).await;
    let messages = slack.until("the alert", Duration::from_secs(20), |messages| messages.len() == 1).await;
    assert!(messages[0].headline().contains("WARNING: rrr"), "{}", setup.log());
}

#[tokio::test]
async fn an_alert_whose_rule_says_nothing_is_posted() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let rule = r#"rule(#{ name: "mute", watch: rate("error", "1m").at_least(20), group_by: ["stage"] });
        fn check(w) { if w.value.value > 0.2 { fire(if w.group.stage == "blank" { " \n" } else { "" }) } }"#;
    let _engine = Setup::new(&nats).slack(&slack.url).rule("mute.rhai", rule).start().await;
    publish(&nats, &failing(&["blank", "empty"])).await;
    let messages = slack.until("both alerts", Duration::from_secs(20), |messages| messages.len() == 2).await;
    assert!(messages.iter().all(|message| message.headline().contains("WARNING: mute")), "{messages:#?}");
}

#[tokio::test]
async fn alerts_are_told_on_nats_as_json_under_their_id() {
    let nats = Nats::start().await;
    let mut told = told(&nats).await;
    let _engine = Setup::new(&nats).rule("errors.rhai", ERRORS).start().await;
    let mut published = calls(&[("extraction", 0..60, true), ("extraction", 60..240, false)]);
    for call in &mut published {
        call["environment"] = json!("eu.prod 1");
    }
    publish(&nats, &published).await;
    let (fired, resolved) = (next(&mut told).await, next(&mut told).await);
    for ((subject, id, body), reason) in [(&fired, "fired"), (&resolved, "resolved")] {
        assert_eq!(subject, "streamgauge.alerts.eu_prod_1.errors");
        assert_eq!((body["id"].as_str(), body["reason"].as_str()), (Some(id.as_str()), Some(reason)));
        assert_eq!(*id, format!("{}-{reason}", body["alert_id"].as_str().expect("an alert's id")));
        assert_eq!((&body["rule"], &body["environment"], &body["severity"]), (&json!("errors"), &json!("eu.prod 1"), &json!("warning")));
        assert_eq!(body["group"], json!([["stage", "extraction"]]));
        assert!(body["summary"].as_str().is_some_and(|text| text.contains("error rate")), "{body}");
    }
}
