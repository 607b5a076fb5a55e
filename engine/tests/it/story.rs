//! From a message in Slack to the call that broke and to the end of the incident, in a real browser.

use crate::browser::Browser;
use crate::engine::{Engine, Setup};
use crate::nats::Nats;
use crate::publishing::Publishing;
use crate::slack::{Message, Slack};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const CHANNEL: &str = "#llm-alerts";
const PATIENCE: Duration = Duration::from_secs(60);
const RULE: &str = r#"rule(#{
    name: "broken-json",
    severity: "critical",
    watch: rate("invalid_json", "1m").expect(0.0, 0.05).at_least(20),
    group_by: ["stage"],
    keep_firing: "0s",
    actions: [#{ label: "Send extraction to gpt-4o", publish: "gateway.control", payload: #{ to: "gpt-4o" },
        confirm: "Every extraction costs ten times as much from then on." }],
});
fn check(w) { if w.value.low > 0.05 { fire(`${percent(w.value.value)} of answers are not JSON`) } }"#;

/// A run a second from `begin` on: a retrieval that is tried twice, an extraction, and a synthesis, which fails where the extraction's JSON is broken.
fn runs(begin: i64, seconds: Range<i64>, breaks: bool) -> Vec<Value> {
    let mut logs = Vec::new();
    for second in seconds {
        let (end, broken) = (begin + second * 1000, breaks && second % 2 == 0);
        let run = format!("evt-{second}");
        let call = |id: &str, stage: &str, at: i64, latency: i64| {
            json!({ "id": format!("{run}-{id}"), "parent_id": if id == "o" { Value::Null } else { json!(format!("{run}-o")) }, "time": end - 1000 + at,
                "latency_ms": latency, "event_id": run, "environment": "production", "stage": stage, "provider": "openai", "model": "gpt-4o-mini",
                "user_id": format!("user {}", second % 5), "session_id": format!("s-{}", second % 10), "thread_id": format!("t-{}", second % 20),
                "status_code": 200, "cost_usd": 0.002, "usage": { "input_tokens": 300, "output_tokens": 40 } })
        };
        let mut retrieval = call("r", "retrieval", 200, 150);
        retrieval["attempts"] = json!([{ "provider": "openai", "model": "gpt-4o-mini", "status_code": 503, "latency_ms": 50 },
            { "provider": "openai", "model": "gpt-4o-mini", "status_code": 200, "latency_ms": 100 }]);
        let mut extraction = call("x", "extraction", 600, 380);
        extraction["response_format"] = json!("json");
        extraction["input"] = json!([{ "role": "user", "content": "I moved to Lyon. <script>document.title = 'hacked'</script>" }]);
        extraction["output"] = json!(if broken { "{\"facts\": [\"Lyon" } else { "{\"facts\": [\"Lyon\"]}" });
        let mut synthesis = call("s", "synthesis", 900, 250);
        if broken {
            synthesis["status_code"] = json!(500);
            synthesis["error"] = json!({ "type": "server_error", "message": "no facts", "body": { "trace": ["<b>deep</b>"] } });
        }
        logs.extend([retrieval, extraction, synthesis, call("o", "orchestration", 1000, 1000)]);
    }
    logs
}

async fn publish(publishing: &mut Publishing, engine: &Engine, logs: Vec<Value>) {
    for log in logs {
        publishing.send(log.to_string()).await;
    }
    let sent = publishing.flush().await;
    let found = |status: &Value| status["position"].as_u64() >= Some(sent) && status["lag"] == 0 && status["index"]["behind"] == 0;
    engine.until("the index to have every call", PATIENCE, found).await;
}

/// Where the message leads: the page of its incident.
fn page_of(message: &Message, http: &str) -> String {
    let open = message.blocks().iter().filter_map(|block| block["elements"].as_array()).flatten().find(|button| button["action_id"] == "open");
    let url = open.and_then(|button| button["url"].as_str()).unwrap_or_else(|| panic!("no way to the page in {:#?}", message.blocks()));
    assert_eq!(url, format!("http://{http}/incidents/{}", message.incident));
    url.to_owned()
}

/// Where the story can be looked at.
fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("story");
    std::fs::create_dir_all(&folder).expect("the folder of screenshots");
    folder
}

/// A picture of the page, which also fits a phone without scrolling sideways.
async fn look(browser: &mut Browser, name: &str) {
    browser.screenshot(&folder().join(format!("{name}.png"))).await;
    browser.resize(390, 844).await;
    let width = browser.eval("document.documentElement.scrollWidth").await.as_u64();
    browser.screenshot(&folder().join(format!("{name}-phone.png"))).await;
    browser.resize(800, 1000).await;
    assert!(width <= Some(390), "{name} is {width:?} wide on a phone of 390");
    assert_eq!(browser.eval("document.querySelectorAll('h1').length").await, 1, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_leads_to_the_broken_call_what_to_do_is_done_on_the_page_and_it_says_when_it_is_over() {
    let Some(mut browser) = Browser::start(800, 1000).await else {
        eprintln!("skipped: no chromium on PATH; name one in STREAMGAUGE_CHROMIUM");
        return;
    };
    let nats = Nats::start().await;
    let slack = Slack::start(&[CHANNEL]).await;
    let engine = Setup::new(&nats).slack(&slack.url).set("rules.library", "[]").rule("broken.rhai", RULE).start().await;
    let mut publishing = Publishing::new(&nats).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let begin = now - 600_000;
    let mut logs = runs(begin, 0..120, false);
    logs.extend(runs(begin, 120..240, true));
    publish(&mut publishing, &engine, logs).await;
    let messages = slack.until("the alert", PATIENCE, |messages| !messages.is_empty()).await;
    assert!(messages[0].headline().contains("broken-json"), "{}", messages[0].headline());
    let incident = page_of(&messages[0], &engine.http);

    browser.go(&incident).await;
    let title = browser.text("h1").await;
    assert!(title.contains("broken-json: production · extraction") && title.contains("firing · critical"), "{title}");
    let why = browser.text("#why").await;
    assert!(!why.contains("Most likely cause"), "nothing but the extraction itself broke, which its group says already: {why}");
    look(&mut browser, "0-incident").await;
    browser.follow("#why a[href^='/alerts/']").await;
    let alert = browser.address().await;
    let title = browser.text("h1").await;
    assert!(title.contains("broken-json: production · extraction") && title.contains("firing"), "{title}");
    let affected = browser.text("#affected").await;
    let users = browser.texts("#affected tbody th").await;
    assert!(
        affected.contains("60") && affected.contains("these calls cost\n$0.12") && affected.contains("their whole runs cost\n$0.48"),
        "{affected}"
    );
    assert_eq!(users, ["user 0", "user 1", "user 2", "user 3", "user 4"]);
    assert_eq!(browser.texts(".calls tbody tr").await.len(), 3, "three calls show it");
    look(&mut browser, "1-alert").await;

    browser.follow(".calls tbody tr td:last-child a").await;
    let run = browser.address().await;
    let name = browser.text("h1").await;
    assert!(run.contains("/runs/evt-") && name.contains("production"), "{run}: {name}");
    let steps = browser.texts(".steps > li").await;
    assert_eq!(steps.len(), 4, "{steps:#?}");
    let first = browser.text(".steps > .first").await;
    assert!(first.contains("extraction") && first.contains("it began here") && first.contains("invalid json"), "{first}");
    assert!(steps[1].contains("503") && steps[1].contains("made good"), "both attempts of the retrieval are shown: {}", steps[1]);
    browser.click(".steps summary").await;
    let error = browser.text(".steps details[open] pre").await;
    assert!(error.contains("\"<b>deep</b>\"") && error.contains("no facts"), "the provider's error is whole: {error}");
    browser.click("main strong a").await;
    assert_eq!(browser.address().await, format!("{run}#step-3"));
    look(&mut browser, "2-run").await;

    browser.follow(".steps > .first .what a").await;
    let call = browser.address().await;
    let said = browser.texts(".said").await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("<script>document.title = 'hacked'</script>") && said[1].contains("{\"facts\": [\"Lyon"), "{said:?}");
    assert!(browser.eval("document.title").await.as_str().is_some_and(|title| title.starts_with("Call ")), "what a call says is text alone");
    look(&mut browser, "3-call").await;

    browser.follow("dd a[href*='user_id']").await;
    let (query, user) = (browser.eval("document.querySelector('#where').value").await, browser.text(".calls td[data-of=User]").await);
    assert!(query.as_str().is_some_and(|query| query.contains(&format!("user_id:\"{user}\""))), "{query} of {user}");
    let all = browser.texts(".calls td[data-of=User]").await;
    assert!(all.len() == 50 && all.iter().all(|other| *other == user), "{all:?}");
    assert_eq!(browser.text("#found").await, "192 calls", "48 runs of the user's, of four calls each");
    look(&mut browser, "4-search").await;
    browser.follow("a[rel=next]").await;
    assert_eq!(browser.text("#found").await, "142 calls from here on");

    assert_eq!(browser.problems, Vec::<String>::new());
    browser.enter("#where", "stage:extraction latency>fast").await;
    let mistake = browser.text("#mistake").await;
    assert!(mistake.contains("At character 26") && mistake.contains("250ms, 2s, 1.5s or 1m"), "{mistake}");
    assert_eq!(browser.text("#mistake mark").await, "f");
    look(&mut browser, "5-mistake").await;
    // The console says of any page with status 400 that it has it.
    browser.problems.retain(|problem| !problem.contains("status of 400"));
    browser.enter("#where", "stage:extraction signal:invalid_json nobody:x").await;
    assert!(browser.text("main").await.contains("no call has a property `nobody`"));
    browser.follow("#found ~ ul li:nth-last-child(2) a").await;
    assert_eq!(browser.text("#found").await, "60 calls");

    browser.go(&call).await;
    browser.go(&alert).await;
    browser.back(&call).await;

    // Somebody takes it in hand, and does what its rule proposes, once asked.
    let mut control = nats.client().await.subscribe("gateway.control").await.expect("a subscription");
    browser.go(&incident).await;
    browser.follow("#do button.first").await;
    assert!(browser.text("#incident .standing").await.contains("Acknowledged by anyone"));
    browser.click("#do .proposal summary").await;
    assert!(browser.text("#do .proposal p").await.contains("ten times as much"));
    look(&mut browser, "6-proposal").await;
    browser.follow("#do .proposal button").await;
    assert_eq!(browser.address().await, incident);
    let done = tokio::time::timeout(PATIENCE, control.next()).await.expect("in time").expect("it is published");
    assert_eq!(serde_json::from_slice::<Value>(&done.payload).expect("JSON"), json!({ "to": "gpt-4o" }));
    let thread = browser.text("#thread").await;
    assert!(thread.contains("anyone chose “Send extraction to gpt-4o”: published to gateway.control"), "{thread}");
    publish(&mut publishing, &engine, runs(begin, 240..400, false)).await;
    let over = |messages: &[Message]| messages[0].headline().contains("RESOLVED") && messages[0].text.contains("RESOLVED");
    slack.until("its end", PATIENCE, over).await;
    assert_eq!(slack.heads().len(), 1, "one incident is one message, also at its end");
    browser.go(&alert).await;
    let title = browser.text("h1").await;
    assert!(title.contains("resolved"), "{title}");
    assert_eq!(browser.texts("#affected tbody th").await, users, "whom it hit stays said");
    look(&mut browser, "7-alert-resolved").await;
    browser.go(&incident).await;
    let (title, thread, why) = (browser.text("h1").await, browser.text("#thread").await, browser.text("#why").await);
    assert!(why.contains("No cause stands out") && why.contains("$0.12"), "{why}");
    assert!(title.contains("resolved") && thread.contains("It is resolved"), "{title}: {thread}");
    assert_eq!(browser.texts("#do button").await.len(), 0, "there is nothing left to do");
    look(&mut browser, "8-resolved").await;

    assert_eq!(browser.problems, Vec::<String>::new());
    let own = format!("http://{}/", engine.http);
    let elsewhere: Vec<_> = browser.requests.iter().filter(|address| !address.starts_with(&own) && *address != "about:blank").collect();
    assert!(browser.requests.len() > 10 && elsewhere.is_empty(), "{elsewhere:?}");
    eprintln!("screenshots are in {}", folder().display());
}
