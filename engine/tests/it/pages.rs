//! The pages that lead to a call, as text: what they say, where they lead, and that whatever a log says stays text.

use crate::engine::{Answer, Engine, Setup, send};
use crate::index::{encoded, now_ms, run};
use crate::nats::Nats;
use crate::publishing::Publishing;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

async fn page(engine: &Engine, path: &str) -> (u16, String) {
    let headers = format!("Host: {}\r\nAccept: text/html\r\n", engine.http);
    let Answer { status, head, body } = send(&engine.http, "GET", path, &headers, "").await.expect("the engine answers");
    assert!(head.to_lowercase().contains("content-type: text/html"), "{path}: {head}");
    (status, body)
}

async fn publish(publishing: &mut Publishing, engine: &Engine, logs: impl IntoIterator<Item = Value>) {
    for log in logs {
        publishing.send(log.to_string()).await;
    }
    let sent = publishing.flush().await;
    let found = |status: &Value| status["position"].as_u64() >= Some(sent) && status["index"]["behind"] == 0;
    engine.until("the index to have every call", PATIENCE, found).await;
}

/// The address of the link with this text.
fn href<'p>(page: &'p str, label: &str) -> &'p str {
    let (before, _) = page.split_once(&format!(">{label}</a>")).unwrap_or_else(|| panic!("no link {label} in {page}"));
    let (_, tag) = before.rsplit_once("href='").unwrap_or_else(|| panic!("no address before {label}"));
    tag.split('\'').next().unwrap_or_default()
}

fn parts(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_user_one_comes_to_a_session_a_run_its_first_bad_step_and_the_call() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).set("redact.patterns", r#"["email"]"#).start().await;
    let end = now_ms();
    let mut logs = run("evt-1", "production", end);
    logs.iter_mut().for_each(|log| log["session_id"] = json!("s 1"));
    publish(&mut publishing, &engine, logs.into_iter().chain(run("evt-1", "staging", end - 5000)).chain(run("evt-2", "production", end))).await;

    let (status, found) = page(&engine, "/search?where=user:ann@example.com&since=1h").await;
    assert_eq!(status, 200);
    parts(
        &found,
        &["<h2 id=found>12 calls</h2>", "<caption class=hidden>Calls that match, newest first", "<rect class=\"count\"", "aria-current=page>Search"],
    );
    let narrowed = href(&found, "invalid json");
    let (_, found) = page(&engine, &narrowed.replace("&amp;", "&")).await;
    parts(&found, &["<h2 id=found>3 calls</h2>", "value='user:ann@example.com signal:invalid_json'", "value='1h'"]);
    let (_, found) = page(&engine, "/search?where=session_id:%22s+1%22&order=costliest").await;
    parts(&found, &["<h2 id=found>4 calls</h2>", "costliest first"]);
    let run = href(&found, "evt-1");
    assert_eq!(run, "/runs/evt-1?environment=production");

    let (_, shown) = page(&engine, run).await;
    let first = "<strong>It began in <a href='#step-2'>extraction</a></strong>: invalid json.";
    let elsewhere = "<dt>Of the same name<dd>in <a href='/runs/evt-1?environment=staging'>staging</a>";
    parts(&shown, &[first, elsewhere, "4: 1 failed, 1 retried, 0 answered by a fallback", "<dt>Cost<dd>$0.0040", "<dt>Took<dd>1.0 s"]);
    parts(&shown, &["aria-label='began after 50 ms, took 250 ms'", "◀ it began here", "<span class=bad>503</span> · 40 ms", "&quot;[email]&quot;"]);
    assert!(!shown.contains("by ann@example.com"), "what is redacted is not shown");
    // By whom calls are found is shown: redaction is about payloads, here and in the interface of programs.
    let told = engine.json("/api/v1/runs/evt-1?environment=production").await.to_string();
    assert!(told.contains(r#""user_id":"ann@example.com""#) && !told.contains("by ann@example.com"), "{told}");
    let (_, of_user) = page(&engine, &href(&shown, "ann@example.com").replace("&amp;", "&")).await;
    parts(&of_user, &["<h2 id=found>8 calls</h2>"]);

    let first_bad =
        shown.split("<li id=step-2 ").nth(1).and_then(|step| step.split("href='").nth(1)?.split('\'').next()).expect("the step links to its call");
    let (_, call) = page(&engine, first_bad).await;
    parts(
        &call,
        &["<h1>Call of extraction <small>evt-1-x</small></h1>", ">invalid json</a>", "<strong>assistant</strong>", "{&quot;facts&quot;: [</pre>"],
    );
    let (_, parent) = page(&engine, &href(&call, "evt-1-o").replace("&amp;", "&")).await;
    parts(&parent, &["<h2 id=found>1 call</h2>", ">orchestration</a>"]);
    let (_, alike) = page(&engine, &href(&call, "acme").replace("&amp;", "&")).await;
    parts(&alike, &["<h2 id=found>8 calls</h2>", "value='environment:production tenant:acme'"]);

    // Payloads live as long as the stream keeps them.
    let stream = async_nats::jetstream::new(nats.client().await).get_stream("LLM_CALLS").await.expect("the stream");
    stream.purge().await.expect("it is emptied");
    let (_, shown) = page(&engine, run).await;
    assert_eq!((shown.matches("Payload expired").count(), shown.contains(first)), (4, true), "{shown}");
    let (_, call) = page(&engine, first_bad).await;
    parts(&call, &["Payload expired", ">invalid json</a>", "gpt-4o-mini"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_says_what_is_wrong_with_it_and_what_to_try_instead() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    let (status, empty) = page(&engine, "/search").await;
    assert_eq!(status, 200);
    parts(&empty, &["<h2 id=found>No calls</h2>", "<option value='stage:'>", "<summary>How a search is written</summary>"]);
    publish(&mut publishing, &engine, (0..30).flat_map(|number| run(&format!("evt-{number}"), "production", now_ms() - number * 1000))).await;
    for (query, status, said) in [
        ("where=stage:", 400, "At character 7: `stage` without a value</strong></p><pre class=query>stage:<mark>\u{a0}</mark></pre>"),
        ("where=b:x%3Cb%3E+OR+y:z", 400, "<pre class=query>b:x&lt;b&gt; <mark>O</mark>R y:z</pre>"),
        ("since=yesterday", 400, "`since` is no time: `yesterday`"),
        ("order=best", 400, "newest, oldest, slowest or costliest"),
        ("wher=x", 400, "there is no parameter `wher`"),
        ("after=here", 400, "take `next` of the page before"),
        ("where=tenent:acme", 200, "no call has a property `tenent` (at character 1); did you mean `tenant`?"),
        ("where=-signal:retrys", 200, "<p class=notice>no call has a signal `retrys` (at character 1); did you mean `retry`?</p>"),
        ("where=extraction", 200, "<li>`extraction` is looked for as a whole id: a call&#39;s, a run&#39;s or a user&#39;s (at character 1)"),
        ("where=stage:extraction,synthesis", 200, "alternatives are written extraction|synthesis"),
        ("where=stage:none+status:ok&since=1h", 200, "<a href='/search?where=status%3Aok&amp;since=1h'>without stage:none</a>"),
        ("where=stage:none&since=1h", 200, "<a href='/search?where=stage%3Anone'>at any time</a>"),
        ("values=stage", 200, "<a class=tag href='/search?where=stage%3Aextraction'>extraction <small>30</small></a>"),
        ("where=-has:stage&values=tokens", 200, "None of the newest calls has a <code>tokens</code>"),
    ] {
        let (is, body) = page(&engine, &format!("/search?{query}")).await;
        assert_eq!(is, status, "{query}");
        parts(&body, &[said]);
        assert_eq!((body.matches("<h1").count(), body.contains("aria-invalid=true aria-describedby=mistake")), (1, status == 400), "{query}");
    }
    let (_, first) = page(&engine, "/search?where=stage:*t*").await;
    parts(&first, &["<h2 id=found>120 calls</h2>"]);
    let next = href(&first, "The next 50").replace("&amp;", "&");
    let (_, second) = page(&engine, &next).await;
    parts(&second, &["<h2 id=found>70 calls from here on</h2>"]);
    assert!(!second.contains("class=bars"), "the chart is on the first page");
    assert_eq!(page(&engine, "/calls/999999").await.0, 404);
    assert_eq!(page(&engine, "/calls/one").await.0, 400);
    assert_eq!(page(&engine, "/runs/none").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_call_says_stays_text_on_every_page() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    let evil = "<img src=x onerror=alert(1)>'\"|*\\ \n\t</pre></script>";
    let log = json!({ "id": evil, "time": now_ms(), "model": evil, "provider": evil, "event_id": evil, "parent_id": evil, "environment": evil, "stage": evil,
        "user_id": evil, "session_id": evil, "thread_id": evil, "service": evil, "finish_reason": evil, "status_code": 500, "latency_ms": 10,
        "served_by": { "provider": "other", "model": evil }, "error": { "type": evil, "code": evil, "message": evil, "body": { evil: evil } },
        "attempts": [{ "provider": evil, "model": evil, "status_code": 500, "error_type": evil }, { "provider": "other", "model": evil, "status_code": 500 }],
        "input": [{ "role": evil, "content": evil }], "output": evil, "prompt": { "name": evil, "version": evil }, "properties": { evil: evil, "tags": [evil] } });
    publish(&mut publishing, &engine, [log]).await;
    let run = format!("/runs/{}?environment={}", encoded(evil).replace('+', "%20"), encoded(evil));
    let search = format!("/search?where={}", encoded(evil));
    for path in [run.as_str(), "/calls/1", "/search", "/search?values=stage", search.as_str()] {
        let (status, body) = page(&engine, path).await;
        // As a query it is none, and is shown with its mistake.
        assert_eq!(status, if path == search { 400 } else { 200 }, "{path}: {body}");
        let tags: Vec<_> = body.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()).collect();
        let bad =
            |tag: &&str| tag.starts_with("img") || tag.contains("style=") || tag.starts_with("script") && *tag != "script src='/script.js' defer";
        assert!(!tags.iter().any(bad), "{path}: {body}");
        // An attribute begins after a blank, outside of quotes; a quote of theirs would have ended ours.
        assert!(!body.contains("onerror=alert(1)>"), "{path}: {body}");
        assert_eq!(body.matches("<h1").count(), 1, "{path}");
    }
    // Each value still leads to its call.
    let (_, call) = page(&engine, "/calls/1").await;
    let mut followed = 0;
    for link in call.split("href='").skip(1).filter_map(|rest| rest.split('\'').next()).filter(|link| link.starts_with("/search?")) {
        let (status, found) = page(&engine, &link.replace("&amp;", "&").replace("&#39;", "'")).await;
        assert!(status == 200 && found.contains("<h2 id=found>1 call</h2>"), "{link}: {found}");
        followed += 1;
    }
    assert!(followed > 15, "{followed} links");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_table_of_costs_is_said_beside_it() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    publish(&mut publishing, &engine, run("evt-1", "production", now_ms())).await;
    for (query, notes) in [
        ("by=tenant,user_id&where=stage:extraction", vec![]),
        ("by=usre_id", vec!["no call has a property `usre_id`; did you mean `user_id`?"]),
        ("where=staeg:x", vec!["no call has a property `staeg` (at character 1); did you mean `stage`?"]),
        ("where=-signal:invalidjson", vec!["no call has a signal `invalidjson` (at character 1); did you mean `invalid_json`?"]),
    ] {
        assert_eq!(engine.json(&format!("/api/v1/costs?{query}")).await["notes"], json!(notes), "{query}");
        let (status, body) = page(&engine, &format!("/costs?{query}")).await;
        assert_eq!((status, body.matches("<p class=notice>").count()), (200, notes.len()), "{query}");
        notes.iter().for_each(|note| parts(&body, &[note]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_any_length_leads_to_its_calls_and_fills_no_page() {
    let nats = Nats::start().await;
    let mut publishing = Publishing::new(&nats).await;
    let engine = Setup::new(&nats).start().await;
    let (very_long, long) = ("x".repeat(5_000), "語".repeat(100));
    let at = |time: u64, user: &str| json!({ "id": "c", "time": time, "model": "m", "user_id": user, "cost_usd": 1.0 });
    let (now, before) = (now_ms(), now_ms() - 30 * 3_600_000);
    let of = |user: &str| vec![at(now, user); 20];
    let calls = [of(&very_long), of(&long), of("two\nlines"), vec![at(before, "ann"), at(now, "ann")]];
    publish(&mut publishing, &engine, calls.concat()).await;
    let (_, search) = page(&engine, "/search").await;
    let (_, costs) = page(&engine, "/costs").await;
    parts(&search, &[&format!("<a class=clipped title='{very_long}' "), "<a href='/search?where=user_id%3Aann'>ann</a>"]);
    for (page_with, user) in
        [(&search, very_long.as_str()), (&search, &long), (&search, "two\nlines"), (&costs, &very_long[..200]), (&costs, &long[..198])]
    {
        let (status, found) = page(&engine, &href(page_with, user).replace("&amp;", "&")).await;
        assert_eq!(status, 200, "{user}");
        parts(&found, &["<h2 id=found>20 calls</h2>"]);
    }
    // Who is new costs more than before, whatever its name.
    let hot = engine.json("/api/v1/costs").await["hot"].clone();
    let hot: Vec<_> = hot.as_array().into_iter().flatten().filter_map(|hot| hot["user_id"].as_str()).collect();
    assert!(hot.contains(&&very_long[..200]) && hot.contains(&&long[..198]) && !hot.contains(&"ann"), "{hot:?}");
}
