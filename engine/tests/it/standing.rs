//! What people ask of a running engine, and tell it: why a rule fires, how it stands, and that what it shows is normal from now on.

use crate::engine::{Answer, Engine, Setup, ask, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use crate::slack::{Message, Slack};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const PATIENCE: Duration = Duration::from_secs(60);
const MINUTE_MS: i64 = 60_000;
/// Of healthy traffic, and of traffic in which extraction fails.
const HEALTHY_MINUTES: i64 = 60;
const FAILING_MINUTES: i64 = 5;

/// Learns what is usual.
const LEARNED: &str = r#"rule(#{ name: "failures", watch: rate("error", "1m"), group_by: ["stage", "model"], keep_firing: "0s" });"#;
/// Is told what is usual, and too little of it: it fires long before extraction fails, so that this is an incident of its own.
const BY_HAND: &str = r##"rule(#{ name: "by-hand", watch: rate("error", "1m").expect(0.0, 0.002), group_by: ["stage"], channel: "#by-hand" });"##;

/// A call a second of two models in each of two stages, one of a hundred failing; at the end every second one of extraction fails. It ends now.
fn calls() -> Vec<Value> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_millis() as i64;
    let begin = (now / 10_000) * 10_000 - (HEALTHY_MINUTES + FAILING_MINUTES) * MINUTE_MS;
    let series = [("extraction", "small"), ("extraction", "large"), ("synthesis", "small"), ("synthesis", "large")];
    let call = |second: i64, number: usize| {
        let (stage, model) = series[number];
        // Failures of different series do not come together: what does is weighed less.
        let shift = second + 29 * number as i64;
        let fails = if second >= HEALTHY_MINUTES * 60 && stage == "extraction" { shift % 2 == 0 } else { shift % 100 == 7 };
        json!({ "id": format!("{number}-{second}"), "time": begin + second * 1000, "environment": "production", "stage": stage, "model": model,
                "status_code": if fails { 500 } else { 200 } })
    };
    (0..(HEALTHY_MINUTES + FAILING_MINUTES) * 60)
        .flat_map(|second| (0..4).map(move |number| (second, number)))
        .map(|(second, number)| call(second, number))
        .collect()
}

async fn post(engine: &Engine, path: &str, headers: &str) -> (Answer, Value) {
    let answer = ask(&engine.http, "POST", path, headers).await.expect("the engine answers");
    let body = serde_json::from_str(&answer.body).expect("the answer is JSON");
    (answer, body)
}

/// The alert of a rule, once it fires.
async fn firing(engine: &Engine, rule: &str) -> Value {
    let mine =
        |alerts: &Value| alerts["alerts"].as_array().into_iter().flatten().find(|alert| alert["rule"] == rule && alert["state"] == "firing").cloned();
    let alerts = until(&format!("an alert of {rule}"), PATIENCE, || engine.json("/api/v1/alerts"), |alerts| mine(alerts).is_some()).await;
    mine(&alerts).expect("it was there")
}

/// Messages of incidents, without what is said in their threads.
fn heads(messages: &[Message]) -> impl Iterator<Item = &Message> {
    messages.iter().filter(|message| message.thread_ts.is_none())
}

/// The line by which a thread ends.
fn ends(line: &Message) -> bool {
    line.thread_ts.is_some() && line.text.starts_with("Ended after ") && line.text.contains("adopted as the new normal")
}

fn said(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_explained_and_adopted_once_though_the_engine_is_killed_right_after() {
    let nats = Nats::start().await;
    let slack = Slack::start(&["#llm-alerts", "#by-hand"]).await;
    let setup = Setup::new(&nats).slack(&slack.url).set("rules.library", "[]").rule("learned.rhai", LEARNED).rule("by-hand.rhai", BY_HAND);
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    let calls = calls();
    for call in &calls {
        publishing.send(call.to_string()).await;
    }
    publishing.flush().await;

    // The stage is told, not each of its models.
    let alert = firing(&engine, "failures").await;
    assert_eq!((&alert["group"], &alert["adoptable"]), (&json!({ "environment": "production", "stage": "extraction" }), &true.into()), "{alert:#}");
    assert_eq!(alert["hit"].as_array().map(Vec::len), Some(2), "{alert:#}");
    for fact in ["Since", "Since then", "Worst hit", "Evidence"] {
        assert!(alert["facts"][fact].is_string(), "{fact}: {alert:#}");
    }

    // Each model leads to its own failed calls.
    engine.until("the index to have every call", PATIENCE, |status| status["index"]["behind"] == 0).await;
    let (_, page) = engine.get(&format!("/alerts/{}", alert["id"].as_str().expect("an id"))).await;
    let (_, worst) = page.split_once("<h2 id=hit>Where it is worst</h2>").expect("the section is there");
    for hit in alert["hit"].as_array().into_iter().flatten() {
        let (model, failed) = (hit["labels"][1].as_str().expect("a label"), hit["holds"].as_u64().expect("a number"));
        let (link, row) = worst.split_once(&format!("'>extraction · {model}</a><td class=n>{failed}<")).expect("a row that is a link");
        let (_, link) = link.rsplit_once("href='/search?").expect("a search");
        let found = engine.json(&format!("/api/v1/calls?limit=1&{}", link.replace("&amp;", "&"))).await;
        let total = found["total"].as_u64().expect("a number");
        // Those since it was told are found, too. When it began is known to some ticks, and one of a hundred failed before.
        let all = FAILING_MINUTES as u64 * 60 / 2;
        assert!((failed.max(all)..=all + 3).contains(&total), "{total} of {all}: {found:#} {row}");
        assert_eq!((&found["calls"][0]["model"], &found["calls"][0]["signals"][0]), (&json!(model), &json!("error")));
    }

    let explained = engine.json("/api/v1/explain?rule=failures&environment=production&group=stage=extraction").await;
    assert_eq!((&explained["told"], &explained["watches"][0]["gauge"]["firing"]), (&true.into(), &true.into()), "{explained:#}");
    assert_eq!(explained["above"].as_array().map(Vec::len), Some(1), "{explained:#}");
    let history = explained["history"]["value"].as_array().expect("a history");
    let from = model::Timestamp::parse(history[0]["time"].as_str().expect("a time")).expect("it is one").millis();
    let published = calls.iter().filter(|call| call["stage"] == "extraction" && call["time"].as_i64() >= Some(from));
    let failed = published.clone().filter(|call| call["status_code"] == 500).count() as u64;
    let sum = |name: &str| history.iter().filter_map(|point| point[name].as_u64()).sum::<u64>();
    assert_eq!((history.len(), sum("calls"), sum("bad")), (24, published.count() as u64, failed), "{explained:#}");

    let text = said(&setup.run(&["explain", "failures", "stage=extraction"]).await);
    for part in ["failures · production · extraction: ALERTING", "expected", "needed when it fired", "budget", "below it", "▁", "small", "large"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let text = said(&setup.run(&["status"]).await);
    for part in ["failures", "by-hand", "alerting", "0 missed", "1 false alarm per day"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let status: Value = serde_json::from_str(&said(&setup.run(&["status", "--json"]).await)).expect("JSON");
    let standing = status["drift"].as_array().into_iter().flatten().find(|standing| standing["rule"] == "failures").expect("it stands");
    assert_eq!((&standing["nodes"], &standing["told"], &standing["by_drift"]), (&7.into(), &1.into(), &true.into()), "{standing:#}");
    let (_, metrics) = engine.get("/metrics").await;
    assert!(metrics.contains("streamgauge_gauges{environment=\"production\",rule=\"failures\"} 7"), "{metrics}");

    // What cannot be adopted says why, and changes nothing.
    let by_hand = firing(&engine, "by-hand").await;
    let path = |id: &Value| format!("/api/v1/alerts/{}/adopt", id.as_str().expect("an id"));
    assert_eq!(by_hand["adoptable"], false);
    assert_eq!(post(&engine, &path(&by_hand["id"]), "").await.0.status, 409);
    assert_eq!(post(&engine, "/api/v1/alerts/0123456789abcdef/adopt", "").await.0.status, 404);
    assert_eq!(post(&engine, &path(&alert["id"]), "Origin: http://elsewhere.example\r\n").await.0.status, 403);
    let both = slack.until("both incidents", PATIENCE, |messages| heads(messages).count() == 2).await;
    let incident = heads(&both).find(|message| message.channel == "#llm-alerts").expect("one goes there").incident.clone();

    let (answer, body) = post(&engine, &path(&alert["id"]), "").await;
    engine.kill().await;
    assert_eq!((answer.status, &body["rule"], &body["told"]), (200, &"failures".into(), &true.into()), "{body:#}");

    // From the journal, at its place in the stream.
    let engine = setup.start().await;
    engine.until("every call", PATIENCE, |status| status["counted"] == calls.len()).await;
    let of_it = |messages: &[Message]| -> Vec<Message> { messages.iter().filter(|message| message.incident == incident).cloned().collect() };
    let told = |messages: &[Message]| {
        let all = of_it(messages);
        heads(&all).any(|head| head.headline().contains("ADOPTED: failures — extraction")) && all.iter().any(ends)
    };
    slack.until("the adoption", PATIENCE, told).await;
    engine.until("an empty outbox", PATIENCE, |status| status["outbox"]["waiting"] == 0).await;
    // A second one only where the receipt of the first was lost with the engine, and then it says so.
    let all = of_it(&slack.messages());
    let sure = |message: &&Message| !message.possible_repeat;
    assert_eq!((heads(&all).filter(sure).count(), all.iter().filter(|line| ends(line)).filter(sure).count() <= 1), (1, true), "{all:#?}");
    let alerts = engine.json("/api/v1/alerts").await;
    assert!(alerts["alerts"].as_array().is_some_and(|alerts| alerts.iter().all(|left| left["id"] != alert["id"])), "{alerts:#}");
    assert_eq!(post(&engine, &path(&alert["id"]), "").await.0.status, 409, "it has ended");
    let explained = engine.json("/api/v1/explain?rule=failures&group=stage=extraction").await;
    assert_eq!((&explained["told"], &explained["watches"][0]["gauge"]["firing"]), (&false.into(), &false.into()), "{explained:#}");
    let nobody = setup.run(&["adopt", by_hand["id"].as_str().expect("an id"), "--set", "http.listen=127.0.0.1:1"]).await;
    let text = String::from_utf8_lossy(&nobody.stderr);
    assert!(nobody.status.code() == Some(2) && text.contains("no engine answers at 127.0.0.1:1"), "{text}");
}

/// A fall is what a rule of learned failures does not tell of, and everything says so of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_better_than_usual_is_no_alert_and_is_called_so_everywhere() {
    let nats = Nats::start().await;
    let schemas = r#"rule(#{ name: "schemas", watch: rate("schema_invalid", "1m"), group_by: ["stage"] });"#;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("learned.rhai", LEARNED).rule("schemas.rhai", schemas);
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    let mut better = calls();
    better.retain(|call| call["stage"] == "synthesis");
    let begin = better[0]["time"].as_i64().expect("a time");
    for (number, call) in better.iter_mut().enumerate() {
        // Three of ten fail at first, and then none.
        let second = (call["time"].as_i64().expect("a time") - begin) / 1000;
        call["status_code"] = json!(if second < HEALTHY_MINUTES / 2 * 60 && number * 7 % 10 < 3 { 500 } else { 200 });
        publishing.send(call.to_string()).await;
    }
    publishing.flush().await;
    engine.until("every call", PATIENCE, |status| status["counted"] == better.len()).await;
    let explained = engine.json("/api/v1/explain?rule=failures&group=stage=synthesis").await;
    let gauge = &explained["watches"][0]["gauge"];
    assert_eq!((&explained["told"], &gauge["firing"], &gauge["ignored"]), (&false.into(), &true.into(), &true.into()), "{explained:#}");
    let text = said(&setup.run(&["explain", "failures", "stage=synthesis"]).await);
    assert!(text.contains("failures · production · synthesis: below what is usual; this rule does not tell of that"), "{text}");
    let text = said(&setup.run(&["status"]).await);
    assert!(text.contains("0 outside, 0 told; ") && text.contains(" below what is usual\n"), "{text}");
    // None of these calls has a schema.
    assert!(text.contains("schemas   nothing to watch yet: 0 gauges") && text.contains("not known before it has something to watch"), "{text}");
    let (_, page) = engine.get("/").await;
    let overview = ["✓ Nothing is worse than expected.", "<span class='state dim'>▽ below, no alert</span>"];
    assert!(overview.iter().all(|part| page.contains(part)) && !page.contains("▼ below"), "{page}");
    let (_, page) = engine.get("/rules").await;
    for part in ["✓ in range</span> <span class=dim>▽ ", "<span class='state dim'>· nothing to watch yet</span>"] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_answered_with_what_is() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("rules.library", "[]").rule("learned.rhai", LEARNED);
    let engine = setup.start().await;
    let refused = |path: &'static str| {
        let http = engine.http.clone();
        async move {
            let answer = ask(&http, "GET", path, "").await.expect("the engine answers");
            let body: Value = serde_json::from_str(&answer.body).expect("a problem is JSON");
            (answer.status, format!("{} | {}", body["detail"].as_str().unwrap_or_default(), body["hint"].as_str().unwrap_or_default()))
        }
    };
    assert_eq!(refused("/api/v1/explain?rule=failures").await.0, 404, "before the first call");
    let mut publishing = Publishing::new(&nats).await;
    for call in calls().into_iter().take(400) {
        publishing.send(call.to_string()).await;
    }
    publishing.flush().await;
    engine.until("every call", PATIENCE, |status| status["counted"] == 400).await;
    for (path, status, text) in [
        ("/api/v1/explain", 400, "name a rule | for example /api/v1/explain?rule=fallback-rate&group=stage=extraction"),
        ("/api/v1/explain?rule=failure", 404, "there is no rule `failure` | did you mean `failures`? known: failures"),
        (
            "/api/v1/explain?rule=failures&environment=prodution",
            404,
            "there is no environment `prodution` | did you mean `production`? known: production",
        ),
        ("/api/v1/explain?rule=failures&group=stge=x", 404, "there is no key of rule failures `stge` | did you mean `stage`? known: model, stage"),
        (
            "/api/v1/explain?rule=failures&group=stage=extracton",
            404,
            "there is no stage `extracton` | did you mean `extraction`? known: extraction, synthesis",
        ),
        (
            "/api/v1/explain?rule=failures&group=model=small",
            404,
            "rule failures has no such group | its groups are named from the front of stage, model: give `stage` as well",
        ),
        ("/api/v1/explain?rule=failures&group=stage", 400, "cannot read `stage` | write group=stage=extraction,provider=openai"),
    ] {
        assert_eq!(refused(path).await, (status, text.to_owned()), "{path}");
    }
    let explained = engine.json("/api/v1/explain?rule=failures&group=model=small,stage=synthesis").await;
    assert_eq!(explained["group"], json!([["stage", "synthesis"], ["model", "small"]]));
    assert_eq!(explained["watches"][0]["observation"]["learning"], true, "{explained:#}");
}
