//! From an alert to Slack and to NATS: each notification arrives, in order, at the channel's pace, and is a repeat only where nobody can know better.

use crate::engine::{Engine, Setup, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use crate::slack::{Fault, Message, Outcome, Slack};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
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

/// A minute in which all these stages fail, each in an environment of its own, so that each is an incident of its own.
fn failing(stages: &[&str]) -> Vec<Value> {
    apart(calls(&stages.iter().map(|stage| (*stage, 0..60, true)).collect::<Vec<_>>()), stages)
}

/// Each stage in an environment of its own.
fn apart(mut calls: Vec<Value>, stages: &[&str]) -> Vec<Value> {
    for call in &mut calls {
        let at = stages.iter().position(|stage| call["stage"] == *stage);
        call["environment"] = json!(format!("e{}", at.expect("a stage of these")));
    }
    calls
}

async fn publish(nats: &Nats, calls: &[Value]) {
    say(&mut Publishing::new(nats).await, calls).await;
}

async fn say(publishing: &mut Publishing, calls: &[Value]) {
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

/// How often each incident has a message, and whether those after the first are marked as possible repeats.
fn copies(messages: &[Message]) -> BTreeMap<&str, Vec<bool>> {
    let mut copies: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for message in messages.iter().filter(|message| message.thread_ts.is_none()) {
        copies.entry(&message.incident).or_default().push(message.possible_repeat);
    }
    copies
}

#[tokio::test]
async fn a_limit_a_failure_and_a_cut_connection_delay_an_alert_and_lose_none() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let engine = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).start().await;
    slack.script_posts(&[Fault::RateLimited(2), Fault::Status(500), Fault::DropAfterAccept]).await;
    publish(&nats, &failing(&["extraction", "retrieval", "synthesis"])).await;

    let messages = slack.until("three incidents and a repeat", PATIENCE, |messages| messages.len() == 4).await;
    let copies = copies(&messages);
    let mut marks: Vec<_> = copies.values().cloned().collect();
    marks.sort();
    assert_eq!(marks, [vec![false], vec![false], vec![false, true]], "only the unconfirmed one is there twice, and says so: {copies:?}");
    let marked = |message: &Message| message.context().contains("repeat");
    assert!(messages.iter().all(|message| marked(message) == message.possible_repeat), "{messages:#?}");
    let requests = slack.requests();
    let outcomes: Vec<_> = requests.iter().map(|request| request.outcome.clone()).collect();
    use Outcome::{Answered, Dropped, RateLimited, Status};
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Answered).count(), 3, "{outcomes:?}");
    for fault in [RateLimited, Status(500), Dropped(true)] {
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == fault).count(), 1, "{outcomes:?}");
    }
    let limited = requests.iter().find(|request| request.outcome == RateLimited).expect("counted above").at;
    let last = requests.iter().map(|request| request.at).max().expect("there are requests");
    assert!(last - limited >= Duration::from_secs(2), "Retry-After was 2 s, and all was said {:?} later", last - limited);
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    for (name, expected) in [("retried", 3), ("rate_limited", 1), ("failed", 0), ("possible_repeats", 1)] {
        assert_eq!(metric(&engine, &format!("streamgauge_notifications_{name}_total")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_message_whose_answer_does_not_come_in_time_is_repeated_and_marked() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let setup = Setup::new(&nats).slack(&slack.url).set("slack.timeout", "1s").rule("errors.rhai", ERRORS);
    let _engine = setup.start().await;
    slack.script_posts(&[Fault::Hang(Duration::from_secs(5))]).await;
    publish(&nats, &failing(&["extraction"])).await;
    let messages = slack.until("the alert and its repeat", PATIENCE, |messages| messages.len() == 2).await;
    assert_eq!(copies(&messages).into_values().collect::<Vec<_>>(), [[false, true]]);
}

#[tokio::test]
async fn under_random_faults_every_incident_arrives_and_repeats_are_marked() {
    let seed = 7;
    eprintln!("seed {seed}");
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    slack.fail_at_random(0.3, seed);
    let engine = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).start().await;
    let stages = ["a", "b", "c", "d", "e", "f", "g", "h"];
    publish(&nats, &failing(&stages)).await;
    slack.until("every incident", 2 * PATIENCE, |messages| copies(messages).len() == stages.len()).await;
    engine.until("all receipts", 2 * PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    let messages = slack.messages();
    for (incident, marks) in copies(&messages) {
        assert!(marks.iter().skip(1).all(|marked| *marked), "a copy of {incident} is not marked: {marks:?}");
    }
    let unconfirmed = slack.requests().iter().filter(|request| request.outcome == Outcome::Dropped(true)).count();
    assert!(messages.len() <= stages.len() + unconfirmed, "{} messages, {unconfirmed} unconfirmed", messages.len());
}

#[tokio::test]
async fn a_channel_gets_three_messages_at_once_and_then_one_a_second_and_channels_do_not_wait_for_each_other() {
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
    for four in one.windows(4).chain(two.windows(4)) {
        assert!(four[3] - four[0] >= Duration::from_secs(1), "{:?} between four messages of a channel", four[3] - four[0]);
    }
    assert!(two[0] < one[4] && one[0] < two[4], "neither channel waited for the other's last message");
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
    // Each incident has four channels, its alerts four subjects, and itself one.
    let status = engine.until("all to be settled", PATIENCE, |status| status["outbox"] == json!({ "waiting": 0, "sent": 12, "failed": 6 })).await;
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
async fn with_a_wrong_token_messages_wait_until_another_one_is_on_disk_and_none_is_ever_logged() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let setup = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS);
    let secret = setup.path("token");
    std::fs::write(&secret, "xoxb-not-that-one\n").expect("the token is written");
    let setup = setup.set("slack.bot_token.file", &secret.display().to_string());
    let engine = setup.start().await;
    let degraded = async |what: &str, is: bool| until(what, PATIENCE, || engine.json("/readyz"), |ready| ready["degraded"] == is).await;
    let ready = degraded("the refusal", true).await;
    assert_eq!((&ready["ready"], &ready["slack"]["state"], &ready["slack"]["problem"]), (&json!(true), &json!("refused"), &json!("invalid_auth")));
    assert_eq!(metric(&engine, "streamgauge_slack_token_refused").await, 1);
    publish(&nats, &failing(&["extraction"])).await;
    until("a retry", PATIENCE, || metric(&engine, "streamgauge_notifications_retried_total"), |retries| *retries >= 1).await;
    assert!(slack.messages().is_empty() && metric(&engine, "streamgauge_notifications_failed_total").await == 0);
    std::fs::write(&secret, "xoxb-test\n").expect("the token is written");
    slack.until("the alert", PATIENCE, |messages| !messages.is_empty()).await;
    assert_eq!(degraded("the new token", false).await["slack"]["state"], "ok");
    let log = setup.log();
    assert_eq!(log.matches("Slack does not take the bot token").count(), 1, "{log}");
    assert!(log.contains("which is read again by itself") && !log.contains("not-that-one"), "{log}");
}

#[tokio::test]
async fn an_incident_is_one_message_that_grows_and_ends_in_place_with_its_story_in_the_thread() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let engine = Setup::new(&nats).slack(&slack.url).set("incidents.interval", "1s").rule("errors.rhai", ERRORS).start().await;
    let mut publishing = Publishing::new(&nats).await;
    say(&mut publishing, &calls(&[("extraction", 0..60, true)])).await;
    let messages = slack.until("the incident", PATIENCE, |messages| messages.len() == 1).await;
    assert!(messages[0].headline().contains("WARNING") && messages[0].headline().contains("errors"), "{messages:#?}");
    say(&mut publishing, &calls(&[("extraction", 60..120, true), ("synthesis", 60..120, true)])).await;
    slack.until("a line in its thread", PATIENCE, |messages| messages.len() == 2).await;
    say(&mut publishing, &calls(&[("extraction", 120..240, false), ("synthesis", 120..240, false)])).await;
    let over = |messages: &[Message]| messages[0].headline().contains("RESOLVED") && messages.len() >= 3;
    let messages = slack.until("its end", PATIENCE, over).await;
    engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    let (head, lines) = messages.split_first().expect("there are messages");
    assert!(head.edits().len() >= 2, "it was brought up to date in place");
    for line in lines {
        assert_eq!((line.thread_ts.as_deref(), line.broadcast), (Some(head.ts.as_str()), false), "{line:#?}");
    }
    assert_eq!(slack.heads().len(), 1, "one message in the channel");
    let (_, alerts) = engine.get("/api/v1/alerts").await;
    assert!(alerts.contains("\"resolved\""), "{alerts}");
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
    let ours = ["alerts", "calls", "incidents", "runs"].map(|page| format!("<http://{}/{page}/", engine.http));
    for text in messages.iter().flat_map(Message::marked_up) {
        for (at, _) in text.match_indices('<') {
            let date = text[at..].starts_with("<!date^");
            assert!(date || ours.iter().any(|page| text[at..].starts_with(page)), "a mention or a link from a log: {text}");
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
    assert!(messages[0].headline().contains("rrr"), "{}", setup.log());
}

#[tokio::test]
async fn an_alert_whose_rule_says_nothing_is_posted() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let rule = r#"rule(#{ name: "mute", watch: rate("error", "1m").at_least(20), group_by: ["stage"] });
        fn check(w) { if w.value.value > 0.2 { fire(if w.group.stage == "blank" { " \n" } else { "" }) } }"#;
    let _engine = Setup::new(&nats).slack(&slack.url).rule("mute.rhai", rule).start().await;
    publish(&nats, &failing(&["blank", "empty"])).await;
    let messages = slack.until("both incidents", Duration::from_secs(20), |messages| messages.len() == 2).await;
    assert!(messages.iter().all(|message| message.headline().contains("mute")), "{messages:#?}");
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

#[tokio::test]
async fn what_may_have_been_posted_is_posted_again_where_slack_does_not_let_the_engine_look() {
    let nats = Nats::start().await;
    // Without the scope that looking needs.
    let slack = Slack::start(&[CHANNEL]).await;
    let setup = Setup::new(&nats).slack(&slack.url).set("slack.look_back", "true").rule("errors.rhai", ERRORS);
    let engine = setup.start().await;
    slack.script_posts(&[Fault::DropAfterAccept]).await;
    publish(&nats, &failing(&["extraction"])).await;
    let messages = slack.until("the alert and its repeat", PATIENCE, |messages| messages.len() == 2).await;
    assert_eq!(copies(&messages).into_values().collect::<Vec<_>>(), [[false, true]]);
    let status = engine.until("all receipts", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    assert_eq!(status["outbox"]["failed"], 0);
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_holds_up_no_other_way_out() {
    const ENVIRONMENTS: usize = 44;
    const TIMEOUT: Duration = Duration::from_secs(40);
    let nats = Nats::start().await;
    let channels: Vec<_> = (0..ENVIRONMENTS).map(|number| format!("#c{number}")).collect();
    let slack = Slack::start(&channels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // It takes connections, and says nothing.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", hole.local_addr().expect("it is bound"));
    let mut setup = Setup::new(&nats).slack(&slack.url).set("webhooks.hole.url", &url).set("webhooks.hole.timeout", "40s");
    for (number, channel) in channels.iter().enumerate() {
        setup = setup.set(&format!("environments.e{number}.channel"), channel);
    }
    let _engine = setup.rule("errors.rhai", ERRORS).start().await;
    let stages: Vec<_> = (0..ENVIRONMENTS).map(|number| format!("s{number}")).collect();
    let begun = std::time::Instant::now();
    publish(&nats, &failing(&stages.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let messages = slack.until("a message in each channel", PATIENCE, |messages| copies(messages).len() == ENVIRONMENTS).await;
    assert!(begun.elapsed() < TIMEOUT, "{} messages after {:?}", messages.len(), begun.elapsed());
}

#[tokio::test]
async fn what_comes_back_is_shown_in_the_channel_as_well() {
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let _engine = Setup::new(&nats).slack(&slack.url).rule("errors.rhai", ERRORS).start().await;
    let mut publishing = Publishing::new(&nats).await;
    say(&mut publishing, &calls(&[("extraction", 0..60, true), ("extraction", 60..240, false)])).await;
    let over = |messages: &[Message]| messages.first().is_some_and(|head| head.headline().contains("RESOLVED"));
    slack.until("its end", PATIENCE, over).await;
    say(&mut publishing, &calls(&[("extraction", 240..300, true)])).await;
    let messages = slack.until("its return", PATIENCE, |messages| messages.iter().any(|message| message.broadcast)).await;
    assert_eq!(slack.heads().len(), 1, "{messages:#?}");
    let loud: Vec<_> = messages.iter().filter(|message| message.broadcast).map(|message| message.text.as_str()).collect();
    assert!(loud.len() == 1 && loud[0].contains("Back for the"), "{loud:?}");
}
