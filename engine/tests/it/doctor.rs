//! `streamgauge doctor` from outside: what is healthy is said to be, and each broken thing is found, with the way out and without a secret.

use crate::engine::Setup;
use crate::judge::{Fault, Judge};
use crate::judging::JUDGE;
use crate::nats::Nats;
use crate::publishing::Publishing;
use crate::slack::{Slack, TOKEN};
use async_nats::jetstream::{self, stream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const KEY: &str = "sk-judge-0123456789";

#[derive(Debug)]
struct Said {
    code: i32,
    checks: Vec<(String, String, String, String)>,
    out: String,
}

impl Said {
    /// State, what was seen and the way out of the first finding of this check that is not well, or of the first one.
    fn of(&self, check: &str) -> (&str, &str, &str) {
        let mut named: Vec<_> = self.checks.iter().filter(|(name, ..)| name == check).collect();
        named.sort_by_key(|(_, state, ..)| state == "ok");
        let (_, state, seen, hint) = named.first().unwrap_or_else(|| panic!("no check `{check}`: {}", self.out));
        (state, seen, hint)
    }

    fn unwell(&self) -> Vec<String> {
        self.checks.iter().filter(|(_, state, ..)| state != "ok").map(|(name, state, ..)| format!("{state}: {name}")).collect()
    }
}

async fn doctor(setup: &Setup, more: &[&str]) -> Said {
    let args: Vec<_> = ["doctor", "--json"].into_iter().chain(more.iter().copied()).collect();
    let output = setup.run(&args).await;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!all.contains(TOKEN) && !all.contains(KEY), "a secret is shown: {all}");
    let said: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {all}"));
    let code = output.status.code().unwrap_or(-1);
    assert_eq!(said["ok"], code == 0, "{all}");
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let checks = said["checks"].as_array().expect("a list").iter();
    let checks = checks.map(|check| (text(check, "check"), text(check, "state"), text(check, "seen"), text(check, "hint"))).collect();
    Said { code, checks, out }
}

/// Everything that an engine can have, with limits that fit each other.
fn whole(nats: &Nats, slack: &Slack, judge: &Judge) -> Setup {
    let setup = Setup::new(nats).slack(&slack.url).env("JUDGE_KEY", KEY).set("store.max_size", "64 MiB");
    let setup =
        setup.set("environments.test", r##"{ channel = "#llm-test" }"##).set("environments.quiet", r##"{ channel = "#nowhere", notify = false }"##);
    [("model", "gpt-4.1-mini"), ("endpoint", &judge.url), ("api_key", r#"{ env = "JUDGE_KEY" }"#)]
        .into_iter()
        .fold(setup, |setup, (key, value)| setup.set(&format!("judges.{JUDGE}.{key}"), value))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_installation_is_all_well_before_the_engine_runs_while_it_does_and_after() {
    let (nats, slack, judge) = (Nats::start().await, Slack::start(&["#llm-alerts", "#llm-test"]).await, Judge::start().await);
    judge.keyed(KEY);
    let setup = whole(&nats, &slack, &judge);

    let before = doctor(&setup, &[]).await;
    assert_eq!((before.code, before.unwell()), (0, Vec::<String>::new()), "{before:#?}");
    assert!(before.of("stream").1.starts_with("there is no stream LLM_CALLS yet; the engine will make it on llm.calls.>, for 7d and"), "{before:#?}");
    assert!(before.of("store").1.contains("it will be made; no engine holds it"), "{before:#?}");
    assert!(before.of("listener").1.ends_with(" is free: no engine runs here"));
    let context = jetstream::new(nats.client().await);
    assert!(context.get_stream("LLM_CALLS").await.is_err() && !setup.store.exists(), "looking makes nothing");

    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    publishing.send(json!({ "id": "a", "time": 1_767_225_600_000_u64, "model": "m" }).to_string()).await;
    publishing.flush().await;
    engine.until("the call and a snapshot with it", Duration::from_secs(60), |status| status["committed"] == 1).await;
    let during = doctor(&setup, &[]).await;
    assert_eq!((during.code, during.unwell()), (0, Vec::<String>::new()), "{during:#?}");
    assert!(during.of("store").1.ends_with("read up to sequence 1; an engine holds it"), "{during:#?}");
    assert!(during.of("listener").1.ends_with(" is the running engine's"));
    assert_eq!(during.of("engine").1, format!("ready, version {}; at sequence 1, 0 behind", env!("CARGO_PKG_VERSION")));
    assert_eq!(during.of("reading").1, "a consumer was made, read a log and was removed");
    assert_eq!(during.of(&format!("judge {JUDGE}")).1, format!("{}: reachable, key accepted", judge.url));
    assert_eq!(during.of("slack #llm-alerts").1, "the bot is a member (slack.channel)");
    assert_eq!(during.of("slack #llm-test").1, "the bot is a member (environments.test)");
    assert!(!during.out.contains("#nowhere"), "nobody is told there: {}", during.out);
    assert!(during.of("publishing").1.contains("streamgauge.verdicts.>") && during.of("clock").1.ends_with(" ours"), "{during:#?}");
    let stream = context.get_stream("LLM_CALLS").await.expect("the engine made it");
    let consumers = stream.cached_info().state.consumer_count;
    assert_eq!(consumers, 1, "the engine's own consumer is the only one left");
    assert!(engine.terminate().await.success());

    let after = doctor(&setup, &[]).await;
    assert_eq!((after.code, after.unwell()), (0, Vec::<String>::new()), "{after:#?}");
    assert!(after.of("store").1.ends_with("read up to sequence 1; no engine holds it"), "{after:#?}");
    // Nothing was posted, published or asked of a model.
    assert!(slack.messages().is_empty() && judge.requests().iter().all(|request| request.path == "/v1/models"));
    assert_eq!(context.get_stream("LLM_CALLS").await.expect("it stays").cached_info().state.messages, 1);
    let said = setup.run(&["doctor"]).await;
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.lines().all(|line| line.starts_with("ok ") || line == "all well") && text.ends_with("all well\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_nats_is_said_with_the_way_out() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats);
    let is = async |setup: &Setup, check: &str, state: &str, seen: &str, hint: &str| {
        let said = doctor(setup, &[]).await;
        let found = said.of(check);
        assert!(found.0 == state && found.1.contains(seen) && found.2.contains(hint), "{check} {state} `{seen}` `{hint}`: {said:#?}");
        assert_eq!(said.code, i32::from(said.checks.iter().any(|(_, state, ..)| state == "failed")), "{said:#?}");
    };
    is(
        &setup.set("nats.max_age", "3d"),
        "stream limits",
        "warning",
        "for 3d, and store.retention is 7d: links to older calls will say",
        "nats.max_age=7d",
    )
    .await;
    let own = || Setup::new(&nats);
    is(&own().set("nats.url", "nats://127.0.0.1:1"), "nats", "failed", "cannot connect to NATS at nats://127.0.0.1:1", "is nats-server running")
        .await;
    let closed = Nats::start_with(&["-js", "--auth", "sesame"]).await;
    is(&Setup::new(&closed), "nats", "failed", "refuses our sign-in", "check nats.token").await;
    let plain = Nats::start_with(&[]).await;
    is(&Setup::new(&plain), "jetstream", "failed", "does not answer", "-js").await;

    let context = jetstream::new(nats.client().await);
    let config = stream::Config { name: "OTHER".into(), subjects: vec!["llm.calls.>".into()], ..stream::Config::default() };
    context.create_stream(config.clone()).await.expect("the stream is made");
    is(&own(), "stream", "failed", "stream OTHER carries llm.calls.>", "--set nats.stream=OTHER").await;
    is(&own().set("nats.stream", "OTHER").set("nats.subjects", r#"["x.>"]"#), "stream", "failed", "carries llm.calls.>, not x.>", "nats stream edit")
        .await;
    let limited = stream::Config { max_age: Duration::from_secs(3600), ..config.clone() };
    context.update_stream(limited).await.expect("it is changed");
    is(&own().set("nats.stream", "OTHER"), "stream limits", "warning", "it keeps logs for 1h, and store.retention is 7d", "--max-age 7d").await;
    let other = || own().set("nats.stream", "OTHER");
    for (max_bytes, max_messages) in [(1000, -1), (-1, 10)] {
        let full = stream::Config { max_bytes, max_messages, discard: stream::DiscardPolicy::New, ..config.clone() };
        context.update_stream(full).await.expect("it is changed");
        is(&other(), "stream limits", "warning", "refuses new logs", "--discard old").await;
    }
    let few = stream::Config { max_messages: 10, ..config.clone() };
    context.update_stream(few).await.expect("it is changed");
    is(&other(), "stream limits", "ok", "it keeps logs without end, up to 10 logs; store.retention is 7d", "").await;
    for _ in 0..10 {
        context.publish("llm.calls.a", "{}".into()).await.expect("it is sent").await.expect("it is taken");
    }
    is(&other(), "stream limits", "warning", "it is full at 10 logs with ", "nats stream edit OTHER --max-msgs").await;

    // The engine refuses these at its start, in the same words.
    for (name, retention) in [("WORK", stream::RetentionPolicy::WorkQueue), ("INTEREST", stream::RetentionPolicy::Interest)] {
        let config = stream::Config { name: name.into(), subjects: vec!["jobs.>".into()], retention, ..stream::Config::default() };
        context.create_stream(config).await.expect("the stream is made");
        let setup = own().set("nats.stream", name).set("nats.subjects", r#"["jobs.>"]"#);
        let (seen, hint) = ("what an engine has read it must be able to read again", "--set nats.delivery=core");
        is(&setup, "stream", "failed", seen, hint).await;
        assert_eq!(doctor(&setup, &[]).await.unwell(), ["failed: stream", "warning: slack"], "nothing else is said of it");
        assert_eq!(setup.spawn().ended().await.code(), Some(2));
        assert!(setup.log().contains(seen) && setup.log().contains(hint), "{}", setup.log());
        context.delete_stream(name).await.expect("it is deleted");
    }
}

/// Someone else has given us a user that may not do all that we do.
#[tokio::test(flavor = "multi_thread")]
async fn missing_permissions_are_named_or_said_to_be_unknown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("nats.conf");
    let user = |name: &str, publish: &str| {
        format!("{{ user: {name}, password: p, permissions: {{ publish: {{ allow: [{publish}] }}, subscribe: {{ allow: [\"_INBOX.>\"] }} }} }}")
    };
    let silent = r#"{ user: silent, password: p, permissions: { publish: { allow: [">"] }, subscribe: { allow: ["llm.>"] } } }"#.to_owned();
    let users = [
        silent,
        user("half", r#""$JS.API.>", "streamgauge.dead", "streamgauge.incidents.>", "streamgauge.alerts.production.>", "$SYS.REQ.USER.INFO""#),
        user("deaf", r#""$JS.API.>", "streamgauge.>""#),
        user("none", r#""$JS.API.INFO", "$JS.API.STREAM.INFO.>", "$SYS.REQ.USER.INFO""#),
    ];
    let all = format!("authorization {{ users: [{}, {{ user: all, password: p }}] }}", users.join(", "));
    std::fs::write(&file, all).expect("the file is written");
    let nats = Nats::start_with(&["-js", "-c", file.to_str().expect("a path in UTF-8")]).await;
    let client = async_nats::ConnectOptions::with_user_and_password("all".into(), "p".into()).connect(&nats.url).await.expect("it signs in");
    let config = stream::Config { name: "LLM_CALLS".into(), subjects: vec!["llm.calls.>".into()], ..stream::Config::default() };
    jetstream::new(client).create_stream(config).await.expect("the stream is made");
    let signed_in = |user: &str| Setup::new(&nats).env("STREAMGAUGE__NATS__USER", user).env("STREAMGAUGE__NATS__PASSWORD", "p");
    let half = doctor(&signed_in("half"), &[]).await;
    assert_eq!(
        half.of("publishing"),
        ("warning", "only a part of streamgauge.alerts.> is allowed (alerts)", "allow us to publish on streamgauge.alerts.>")
    );
    assert_eq!((half.of("reading").0, half.code), ("ok", 0), "{half:#?}");
    let deaf = doctor(&signed_in("deaf"), &[]).await;
    assert_eq!((deaf.of("publishing").0, deaf.of("clock").0, deaf.code), ("warning", "warning", 0), "{deaf:#?}");
    assert!(deaf.of("publishing").1.contains("could not be told") && deaf.of("publishing").2.contains("$SYS.REQ.USER.INFO"), "{deaf:#?}");
    let none = doctor(&signed_in("none"), &[]).await;
    assert_eq!((none.of("publishing").0, none.of("reading").0, none.code), ("failed", "failed", 1), "{none:#?}");
    // Whose answers do not reach them: every question looks unanswered.
    let silent = doctor(&signed_in("silent"), &[]).await;
    for check in ["jetstream", "publishing", "clock"] {
        assert!(silent.of(check).2.contains("and to subscribe on _INBOX.>"), "{check}: {silent:#?}");
    }

    // What rules publish is asked for when they do.
    assert!(!half.out.contains("streamgauge.datasets"), "{}", half.out);
    let ruled = signed_in("half").rule("keeps.rhai", r#"rule(#{ name: "keeps", watch: rate("invalid_json", "5m"), keep: "hard-cases" });"#);
    let acts = r#"rule(#{ name: "acts", watch: rate("error", "5m"), actions: [#{ label: "Fail over", publish: "gateway.control" }] });"#;
    let ruled = doctor(&ruled.rule("acts.rhai", acts), &[]).await;
    for seen in
        ["streamgauge.datasets.> is not allowed (calls that rules keep)", "gateway.control is not allowed (the action `Fail over` of rule acts)"]
    {
        let said = ruled.checks.iter().any(|(check, state, found, hint)| {
            (check.as_str(), state.as_str(), found.as_str()) == ("publishing", "failed", seen) && hint.starts_with("allow us to publish on ")
        });
        assert!(said, "{seen}: {ruled:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_slack_and_judges_is_said_with_the_way_out() {
    let (nats, slack, judge) = (Nats::start().await, Slack::start(&["#llm-alerts", "#llm-test"]).await, Judge::start().await);
    let setup = whole(&nats, &slack, &judge);
    let of = async |setup: &Setup, check: &str| {
        let said = doctor(setup, &[]).await;
        let (state, seen, hint) = said.of(check);
        format!("{state}: {seen}; {hint}")
    };
    let judged = format!("judge {JUDGE}");
    let (sees, set) = (async |check: &str| of(&setup, check).await, |key: &str, value: &str| whole(&nats, &slack, &judge).set(key, value));
    // This endpoint tells everyone what it has.
    assert!(sees(&judged).await.contains("warning: ") && sees(&judged).await.contains("whether it accepts the key could not be told"));
    judge.keyed("another");
    assert!(
        sees(&judged).await.contains("failed: ")
            && sees(&judged).await.contains("another key than that of environment variable `JUDGE_KEY` (HTTP 401)")
    );
    judge.keyed(KEY);
    let other = of(&set(&format!("judges.{JUDGE}.model"), "gpt-9"), &judged).await;
    assert!(other.starts_with("warning: ") && other.contains("does not list gpt-9"), "{other}");
    judge.script(&[Fault::Status(404)]);
    assert!(sees(&judged).await.contains("could not be told without spending (HTTP 404"));
    judge.script(&[Fault::Status(503)]);
    assert!(sees(&judged).await.starts_with("failed: "));
    let away = of(&set(&format!("judges.{JUDGE}.endpoint"), "http://127.0.0.1:1/v1"), &judged).await;
    assert!(away.starts_with("failed: http://127.0.0.1:1/v1: cannot connect"), "{away}");

    slack.scopes("chat:write,channels:read,groups:read");
    slack.refusing("#llm-test", "not_in_channel");
    assert!(sees("slack #llm-test").await.starts_with("failed: the bot is not a member (environments.test); invite the bot"));
    slack.refusing("#llm-test", "is_archived");
    assert!(sees("slack #llm-test").await.starts_with("failed: archived"));
    let unknown = of(&set("slack.channel", "#llm-alert"), "slack #llm-alert").await;
    assert!(unknown.starts_with("failed: there is no such channel that the bot can see (slack.channel)"), "{unknown}");
    let by_rule = whole(&nats, &slack, &judge).rule("a.rhai", r##"rule(#{ name: "a", watch: rate("error", "5m"), channel: "#oncall" });"##);
    assert!(of(&by_rule, "slack #oncall").await.contains("(rule a)"));
    slack.scopes("chat:write");
    assert!(
        sees("slack channels").await.starts_with("warning: whether the bot may write to #llm-alerts, #llm-test could not be told without posting")
    );
    slack.scopes("channels:read");
    let missing = sees("slack scopes").await;
    assert!(missing.starts_with("failed: chat:write is missing; the token has channels:read; needed: chat:write (posting incidents"), "{missing}");
    slack.scopes("chat:write");
    let answering = whole(&nats, &slack, &judge).env("SLACK_APP_TOKEN", "xapp-test");
    let missing = of(&answering, "slack scopes").await;
    assert!(missing.starts_with("warning: commands is missing; the token has chat:write; needed: commands (the command /streamgauge)"), "{missing}");
    // Over HTTP people answer as well, and members of a group are known by its scope alone.
    let over_http = |operators: &str| whole(&nats, &slack, &judge).env("SLACK_SIGNING_SECRET", "signing-secret").set("slack.operators", operators);
    let missing = of(&over_http("[]"), "slack scopes").await;
    assert!(missing.starts_with("warning: commands is missing; the token has chat:write; needed: commands (the command /streamgauge)"), "{missing}");
    let missing = of(&over_http(r#"["S0ONCALL"]"#), "slack scopes").await;
    assert!(missing.starts_with("warning: commands, usergroups:read are missing; the token has chat:write; needed: "), "{missing}");
    slack.scopes("chat:write,channels:read,groups:read");
    let fallback = of(&set("slack.fallback_channel", "#last-resort"), "slack #last-resort").await;
    assert!(fallback.starts_with("failed: there is no such channel that the bot can see (slack.fallback_channel)"), "{fallback}");
    let wrong = whole(&nats, &slack, &judge).env("SLACK_BOT_TOKEN", "xoxb-wrong");
    assert!(of(&wrong, "slack").await.contains("refuses the bot token: invalid_auth; Slack does not know it: put the Bot User OAuth Token"));
    let hears = |token: &str| whole(&nats, &slack, &judge).env("SLACK_APP_TOKEN", token);
    assert!(of(&hears("xapp-test"), "slack socket mode").await.starts_with("ok: Slack lets us hear buttons and commands"));
    let deaf = of(&hears("xapp-wrong"), "slack socket mode").await;
    assert!(deaf.starts_with("failed: Slack refuses: invalid_auth; slack.app_token is not valid"), "{deaf}");
    assert!(of(&Setup::new(&nats), "slack").await.starts_with("warning: off: environment variable `SLACK_BOT_TOKEN` is not set"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_this_machine_is_said_with_the_way_out() {
    let nats = Nats::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || taken.incoming().for_each(drop));
    let setup = Setup::new(&nats).rule("a.rhai", r#"rule(#{ name: "a", watch: rate("fallbak", "5m") });"#);
    std::fs::create_dir_all(&setup.store).expect("the folder is made");
    let held = std::fs::File::create(setup.store.join("lock")).expect("the lock is made");
    held.lock().expect("it is free");
    let said = doctor(&setup, &[]).await;
    assert!(said.of("configuration").0 == "failed" && said.of("configuration").1.contains("1 problem: "), "{said:#?}");
    assert_eq!(said.of("listener").0, "warning", "{said:#?}");
    assert!(said.of("listener").1.starts_with("an engine holds the store, and none listens on"), "{said:#?}");
    drop(held);
    let said = doctor(&setup, &["--set", &format!("http.listen={address}")]).await;
    assert_eq!(said.of("listener"), ("failed", format!("something that is no streamgauge listens on {address}").as_str(), said.of("listener").2));

    let connection = rusqlite::Connection::open(setup.store.join("streamgauge.db")).expect("the file opens");
    let later = "CREATE TABLE meta (key TEXT, value TEXT); CREATE TABLE snapshot (position INTEGER); INSERT INTO meta VALUES ('schema', '99')";
    connection.execute_batch(later).expect("it is written");
    let said = doctor(&setup, &[]).await;
    assert!(said.of("store").0 == "failed" && said.of("store").1.contains("has layout 99"), "{said:#?}");
    std::fs::write(setup.path("file"), "").expect("it is written");
    let under = format!("store.path={}", setup.path("file/store").display());
    assert!(doctor(&setup, &["--set", &under]).await.of("store").1.starts_with("cannot write in "));
    let huge = doctor(&setup, &["--set", "store.max_size=1000 TiB", "--set", &format!("store.path={}", setup.path("new").display())]).await;
    assert!(huge.of("disk").0 == "warning" && huge.of("disk").2.contains("make room"), "{huge:#?}");
    let unread = doctor(&setup, &["--set", "nats.urk=x"]).await;
    assert!(unread.code == 1 && unread.of("configuration").1.contains("unknown key `nats.urk`"), "{unread:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_answers_it_ends_within_seconds() {
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound");
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).slack(&format!("http://{address}/api")).set("nats.url", &format!("nats://{address}"));
    let setup = setup.set("http.listen", &address.to_string()).set(&format!("judges.{JUDGE}.model"), "gpt-4.1-mini");
    let setup = setup.set(&format!("judges.{JUDGE}.endpoint"), &format!("http://{address}/v1"));
    let began = Instant::now();
    let said = doctor(&setup, &[]).await;
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    for check in ["nats", "listener", "slack", &format!("judge {JUDGE}")] {
        assert_eq!(said.of(check).0, "failed", "{check}: {said:#?}");
    }
}
