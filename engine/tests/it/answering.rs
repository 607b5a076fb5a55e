//! One incident from its first word to its last, as people have it in Slack: it fires, grows, is taken in hand, silenced, and is over. All of it in one
//! message, with a thread that tells the story.
//!
//! Pictures of each step are left beside the test's output where there is a browser.

use crate::browser::Browser;
use crate::engine::Setup;
use crate::nats::Nats;
use crate::publishing::Publishing;
use fixtures_slack::{Acknowledgement, Answered, Message, Settings, Workspace};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const PATIENCE: Duration = Duration::from_secs(60);
const CHANNEL: &str = "#llm-alerts";
const STAGES: [&str; 4] = ["extraction", "retrieval", "synthesis", "orchestration"];
/// The first three are of one provider, which fails.
const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "claude-haiku-4-5"];
/// Of event time, in seconds: all is well, one group fails, twelve do, all is well again.
const FAILS: i64 = 600;
const SPREADS: i64 = FAILS + 60;
const FIXED: i64 = SPREADS + 60;
const END: i64 = FIXED + 240;
/// What a line of a thread may be to be read at a glance.
const LINE_MAX: usize = 300;

const RULE: &str = r#"rule(#{
    name: "provider-errors",
    severity: "critical",
    watch: rate("error", "1m").expect(0.0, 0.05).at_least(20),
    group_by: ["stage", "model"],
    keep_firing: "0s",
    runbook: "https://runbooks.example/provider-errors",
});
fn check(w) { if w.value.low > 0.05 { fire(`${percent(w.value.value)} of calls fail`) } }"#;

/// One line of the table that `deploy/bench-slack` prints.
#[expect(clippy::print_stdout, reason = "the table is what the benchmark is for")]
fn target(name: &str, figure: f64, limit: f64) {
    println!("target {name} {figure} {limit} {}", if figure <= limit { "pass" } else { "fail" });
    assert!(figure <= limit, "{name}: {figure}, and the limit is {limit}");
}

/// A call a second of each stage and model; every second one fails of those for which `fails` says so.
async fn publish(publishing: &mut Publishing, begin_ms: i64, seconds: Range<i64>, fails: impl Fn(&str, &str) -> bool) {
    for second in seconds {
        for (number, (stage, model)) in STAGES.iter().flat_map(|stage| MODELS.map(|model| (*stage, model))).enumerate() {
            let provider = if model.starts_with("claude") { "anthropic" } else { "openai" };
            let failing = second % 2 == 0 && fails(stage, model);
            let call = json!({ "id": format!("{second}-{number}"), "time": begin_ms + second * 1000 + number as i64, "environment": "production",
                "event_id": format!("run-{second}-{}", number % 4), "stage": stage, "provider": provider, "model": model,
                "user_id": format!("u{}", second % 37), "cost_usd": 0.002, "latency_ms": 400, "status_code": if failing { 503 } else { 200 } });
            publishing.send(call.to_string()).await;
        }
    }
    publishing.flush().await;
}

/// The channel as somebody has it on a phone, step by step; without a browser nobody looks.
struct Pictures {
    browser: Option<Browser>,
    page: String,
    folder: PathBuf,
}

impl Pictures {
    async fn of(slack: &Workspace) -> Self {
        // Higher than a phone, so that a picture has the message with its thread.
        let browser = Browser::start(420, 1200).await;
        if browser.is_none() {
            eprintln!("no pictures: no chromium on PATH; name one in STREAMGAUGE_CHROMIUM");
        }
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("answering");
        std::fs::create_dir_all(&folder).expect("the folder of pictures");
        Self { browser, page: slack.page_url(), folder }
    }

    async fn take(&mut self, name: &str) {
        let Some(browser) = &mut self.browser else { return };
        browser.go(&self.page).await;
        let width = browser.eval("document.documentElement.scrollWidth").await.as_u64();
        browser.screenshot(&self.folder.join(format!("{name}.png"))).await;
        assert!(width <= Some(420), "{name} is {width:?} wide on a phone of 420");
        assert_eq!(browser.problems, Vec::<String>::new(), "{name}");
    }
}

/// The incident's message, which is the only one.
fn head(slack: &Workspace) -> Option<Message> {
    let messages = slack.channel(CHANNEL).messages();
    assert!(messages.len() <= 1, "{messages:#?}");
    messages.into_iter().next()
}

/// The message, as soon as its headline and its thread say so.
async fn shown(slack: &Workspace, what: &str, headline: &str, line: &str) -> Message {
    let says = |message: &Message| {
        message.headline().contains(headline) && (line.is_empty() || message.thread().last().is_some_and(|last| last.text().starts_with(line)))
    };
    slack.until(what, PATIENCE, |slack| head(slack).as_ref().is_some_and(says)).await;
    head(slack).expect("it was there")
}

fn heard(answered: &Answered) {
    assert!(matches!(answered.acknowledgement, Acknowledgement::Given { .. }), "{:?}", answered.acknowledgement);
}

/// Whether these are the beginnings of these texts, one each.
fn begin<'a>(texts: impl IntoIterator<Item = &'a str>, expected: &[&str]) {
    let texts: Vec<_> = texts.into_iter().collect();
    assert!(texts.len() == expected.len() && texts.iter().zip(expected).all(|(text, start)| text.contains(start)), "{texts:#?} of {expected:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_one_message_that_people_answer_and_its_thread_is_the_story() {
    let nats = Nats::start().await;
    let slack = Workspace::start(Settings::default()).await.expect("loopback has a free port");
    let setup = Setup::new(&nats).slack(&slack.api_url()).env("SLACK_APP_TOKEN", "xapp-test");
    let engine = setup.set("rules.library", "[]").rule("provider-errors.rhai", RULE).start().await;
    slack.until("two connections", PATIENCE, |slack| slack.connections() == 2).await;
    let mut pictures = Pictures::of(&slack).await;
    let client = nats.client().await;
    let mut alerts = client.subscribe("streamgauge.alerts.>").await.expect("a subscription");
    client.flush().await.expect("the server knows of it");
    // When the engine decided, by the clock that dates messages.
    let clock = slack.clone();
    let decided = tokio::spawn(async move {
        let alert = alerts.next().await.expect("the subscription goes on");
        (clock.now(), serde_json::from_slice::<Value>(&alert.payload).expect("an alert is JSON"))
    });

    let mut publishing = Publishing::new(&nats).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let begin_ms = now - END * 1000;
    publish(&mut publishing, begin_ms, 0..FAILS, |_, _| false).await;
    engine.until("the time before", PATIENCE, |status| status["received"] == (FAILS * 16) as u64 && status["lag"] == 0).await;
    assert!(slack.messages().is_empty() && !decided.is_finished(), "nothing is said while all is well");

    publish(&mut publishing, begin_ms, FAILS..SPREADS, |stage, model| (stage, model) == ("extraction", "gpt-4o")).await;
    let (decided, alert) = tokio::time::timeout(PATIENCE, decided).await.expect("an alert within a minute").expect("it was heard");
    assert_eq!((&alert["reason"], &alert["severity"]), (&json!("fired"), &json!("critical")), "{alert:#}");
    let message = shown(&slack, "the message", "CRITICAL: provider-errors — extraction · gpt-4o", "").await;
    let incident = message.metadata("incident").and_then(Value::as_str).expect("it is named").to_owned();
    let zero = |block: &Value| block.to_string().contains("*Hit*  0 ");
    assert!(!message.blocks().iter().any(zero), "whom it hits is not known before the index has the calls: {:#?}", message.blocks());
    target("story_first_message_seconds", message.at.since(decided).as_secs_f64(), 10.0);
    pictures.take("1-fires").await;

    publish(&mut publishing, begin_ms, SPREADS..FIXED, |_, model| model.starts_with("gpt")).await;
    let message = shown(&slack, "the growth", "CRITICAL: provider-errors", "Grew").await;
    assert!(message.blocks().iter().any(|block| block.to_string().contains("12 groups")), "{:#?}", message.blocks());
    pictures.take("2-grew").await;

    heard(&slack.person("ana").clicks(&message, "ack").await.expect("a button"));
    let message = shown(&slack, "who has it in hand", "CRITICAL, acknowledged by @ana", "Acknowledged").await;
    pictures.take("3-acknowledged").await;
    assert!(slack.person("ben").clicks(&message, "ack").await.is_err(), "there is no such button any more");

    heard(&slack.person("ben").commands("/streamgauge", &format!("silence {incident} 30m")).await);
    shown(&slack, "the silence", "CRITICAL, silenced", "Silenced").await;
    pictures.take("4-silenced").await;

    publish(&mut publishing, begin_ms, FIXED..END, |_, _| false).await;
    let message = shown(&slack, "the end", "RESOLVED", "Resolved").await;
    pictures.take("5-resolved").await;
    engine.until("all to be said", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;

    target("story_channel_messages", slack.channel(CHANNEL).messages().len() as f64, 1.0);
    let before = |at: usize| message.edits()[at].before.blocks[0]["text"]["text"].as_str().unwrap_or_default();
    let headlines = (0..message.edits().len()).map(before).chain([message.headline()]);
    begin(headlines, &["CRITICAL: ", "CRITICAL: ", "CRITICAL, acknowledged by @ana: ", "CRITICAL, silenced: ", "RESOLVED after "]);
    let thread = message.thread();
    begin(
        thread.iter().map(|line| line.text()),
        &["Grew: 11 more groups, 12 in all: ", "Acknowledged by @ana", "Silenced for 30m by @ben, until ", "Resolved after "],
    );
    for message in slack.messages() {
        assert!(message.problems().is_empty(), "{:?}", message.problems());
        assert!(message.thread_ts.is_none() || message.text().chars().count() <= LINE_MAX, "{}", message.text());
        assert!(message.pings().is_empty(), "nobody is called who did not ask: {message:#?}");
    }
    for message in [message].into_iter().chain(thread) {
        eprintln!("{}", message.text());
    }
    assert!(engine.terminate().await.success());
    if pictures.browser.is_some() {
        eprintln!("pictures are in {}", pictures.folder.display());
    }
}
