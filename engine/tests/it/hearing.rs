//! What people say back from Slack, from outside: clicks and commands over Socket Mode and over HTTP, in time, once, and by whom they may be.

use crate::engine::{Engine, Setup, as_documented, send, until};
use crate::nats::Nats;
use crate::publishing::Publishing;
use fixtures_slack::{Acknowledgement, Answered, Delivery, Message, Settings, Workspace, sign};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(60);
const IN_TIME: Duration = Duration::from_secs(3);
const CHANNEL: &str = "#llm-alerts";
const COMMAND: &str = "/streamgauge";
/// Silences of alerts that are kept.
const SILENCES_MAX: usize = 500;
/// 2026-01-01: the time of the first call.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// Fires while more than 5 % of the calls fail, and proposes two things.
const ERRORS: &str = r#"rule(#{
    name: "errors",
    watch: rate("error", "1m").expect(0.0, 0.05).at_least(20),
    group_by: ["stage"],
    keep_firing: "0s",
    actions: [
        #{ label: "Fail over", publish: "gateway.control", payload: #{ to: "azure" } },
        #{ label: "Page", publish: "gateway.page" },
    ],
});
fn check(w) { if w.value.low > 0.05 { fire(`error rate ${percent(w.value.value)}`) } }"#;

struct Stage {
    nats: Nats,
    slack: Workspace,
    engine: Engine,
    setup: Setup,
    publishing: Publishing,
}

/// An engine that hears over Socket Mode, beside a workspace that keeps no pace.
async fn stage(settings: Settings, more: impl FnOnce(Setup) -> Setup) -> Stage {
    let nats = Nats::start().await;
    let slack = Workspace::start(Settings { paced: false, ..settings }).await.expect("loopback has a free port");
    let setup = more(Setup::new(&nats).slack(&slack.api_url()).env("SLACK_APP_TOKEN", "xapp-test").rule("errors.rhai", ERRORS));
    let engine = setup.start().await;
    let publishing = Publishing::new(&nats).await;
    let stage = Stage { nats, slack, engine, setup, publishing };
    stage.connected().await;
    stage
}

impl Stage {
    async fn connected(&self) {
        self.slack.until("two connections", PATIENCE, |slack| slack.connections() == 2).await;
    }

    /// A call a second from `seconds` on, every second one failing where it says so.
    async fn calls(&mut self, seconds: std::ops::Range<i64>, failing: bool) {
        for second in seconds {
            let status = if failing && second % 2 == 0 { 500 } else { 200 };
            let call = json!({ "id": format!("{second}"), "event_id": format!("run-{}", second / 2), "time": BEGIN_MS + second * 1000, "model": "m",
                "stage": "extraction", "user_id": "u7", "cost_usd": 0.5, "environment": "production", "status_code": status });
            self.publishing.send(call.to_string()).await;
        }
        self.publishing.flush().await;
    }

    /// Makes the rule fire: the ids of the incident and of its alert.
    async fn incident(&mut self) -> (String, String) {
        self.calls(0..60, true).await;
        let alerts = || self.engine.json("/api/v1/alerts");
        let firing = |alerts: &Value| alerts["alerts"].as_array().into_iter().flatten().any(|alert| alert["state"] == "firing");
        let alerts = until("an alert that fires", PATIENCE, alerts, firing).await;
        let alert = alerts["alerts"][0]["id"].as_str().expect("an id").to_owned();
        self.slack.until("its message", PATIENCE, |slack| !slack.channel(CHANNEL).messages().is_empty()).await;
        (format!("i{alert}"), alert)
    }

    /// The buttons of an incident's message, on a message of their own.
    async fn buttons(&self, incident: &str, alert: &str) -> Message {
        let button =
            |id: &str, value: String| json!({ "type": "button", "action_id": id, "value": value, "text": { "type": "plain_text", "text": id } });
        let option = |length: &str| json!({ "text": { "type": "plain_text", "text": length }, "value": format!("{incident}|{length}") });
        let blocks = json!([
            { "type": "actions", "elements": [
                button("ack", incident.to_owned()), button("why", incident.to_owned()), button("unsilence", incident.to_owned()),
                { "type": "static_select", "action_id": "silence", "placeholder": { "type": "plain_text", "text": "Silence" },
                  "options": [option("30m"), option("1h"), option("resolved")] },
                button("act:0", format!("{incident}|{alert}|0")), button("act:7", format!("{incident}|{alert}|7")),
                { "type": "button", "action_id": "open", "url": "http://h/", "text": { "type": "plain_text", "text": "Open" } },
            ] },
        ]);
        let body = json!({ "channel": CHANNEL, "text": "buttons", "blocks": blocks }).to_string();
        let url = self.slack.api_url();
        let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
        let headers = format!("Host: {host}\r\nContent-Type: application/json\r\nAuthorization: Bearer xoxb-test\r\n");
        let answer = send(host, "POST", &format!("/{path}/chat.postMessage"), &headers, &body).await.expect("an answer");
        assert!(answer.body.contains(r#""ok":true"#), "{}", answer.body);
        self.slack.channel(CHANNEL).messages().into_iter().rfind(|message| message.text() == "buttons").expect("it was just posted")
    }

    async fn audited(&self) -> Vec<(String, String, String)> {
        let entries = self.engine.json("/api/v1/audit").await;
        let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
        let of_slack = entries.as_array().into_iter().flatten().filter(|entry| entry["way"] == "slack");
        of_slack.map(|entry| (text(entry, "who"), text(entry, "action"), text(entry, "outcome"))).collect()
    }
}

/// What was said to whoever acted, which was acknowledged in time.
async fn said(answered: &Answered) -> String {
    in_time(answered);
    let (messages, _) = answered.ephemerals_until(1, PATIENCE).await;
    messages.last().expect("there is one").text().to_owned()
}

fn in_time(answered: &Answered) {
    let Acknowledgement::Given { after, .. } = &answered.acknowledgement else { panic!("{:?}", answered.acknowledgement) };
    assert!(*after < IN_TIME, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clicks_take_an_incident_in_hand_silence_it_and_say_why_and_change_nothing_twice() {
    let mut stage = stage(Settings::default(), |setup| setup).await;
    let (incident, alert) = stage.incident().await;
    let message = stage.buttons(&incident, &alert).await;
    let (ana, ben) = (stage.slack.person("ana"), stage.slack.person("ben"));

    in_time(&ana.clicks(&message, "open").await.expect("a button"));
    let answered = ana.clicks(&message, "why").await.expect("a button");
    let why = said(&answered).await;
    assert!(why.contains(&incident) && why.contains("calls are bad since") && why.contains("/search?where="), "{why}");

    in_time(&ana.clicks(&message, "ack").await.expect("a button"));
    stage.slack.until("a line in the thread", PATIENCE, |slack| thread(slack) == 1).await;
    let again = said(&ben.clicks(&message, "ack").await.expect("a button")).await;
    assert!(again.contains("was acknowledged already by @ana"), "{again}");

    in_time(&ben.chooses(&message, "silence", &format!("{incident}|1h")).await.expect("an option"));
    let listed =
        until("the silence", PATIENCE, async || said(&ana.commands(COMMAND, "list").await).await, |list| list.contains("silenced by @ben")).await;
    assert!(listed.contains("acknowledged by @ana") && listed.contains("*One open incident*") && listed.contains("slack.channel"), "{listed}");
    in_time(&ana.clicks(&message, "unsilence").await.expect("a button"));
    until("no silence", PATIENCE, async || said(&ana.commands(COMMAND, "list").await).await, |list| !list.contains("silenced by")).await;
    let again = said(&ana.clicks(&message, "unsilence").await.expect("a button")).await;
    assert!(again.contains("is not silenced; nothing was changed"), "{again}");

    let old = stage.buttons("i0123456789abcdef", "0123456789abcdef").await;
    let unknown = said(&ana.clicks(&old, "ack").await.expect("a button")).await;
    assert!(unknown.contains("I know of no incident `i0123456789abcdef` any more; nothing was changed."), "{unknown}");

    let who = |person: &fixtures_slack::Person, name: &str| format!("@{name} ({})", person.id());
    let (ana, ben) = (who(&ana, "ana"), who(&ben, "ben"));
    let audited = stage.audited().await;
    let of = |who: &str, action: &str, outcome: &str| audited.iter().any(|known| known.0 == who && known.1 == action && known.2.starts_with(outcome));
    assert!(of(&ana, "ack", "done") && of(&ben, "ack", "refused: it was so already") && of(&ana, "ack", "refused: there is none"), "{audited:?}");
    assert!(of(&ben, "silence", "silenced until 20") && of(&ana, "unsilence", "done"), "{audited:?}");

    // What is over stays over.
    let message = stage.buttons(&incident, &alert).await;
    stage.calls(60..300, false).await;
    let ana = stage.slack.person("ana");
    let resolved = async || stage.engine.json("/api/v1/alerts").await;
    until("its end", PATIENCE, resolved, |alerts| alerts["alerts"].as_array().is_some_and(Vec::is_empty)).await;
    for button in ["ack", "act:0"] {
        let over = said(&ana.clicks(&message, button).await.expect("a button")).await;
        assert!(over.contains("so nothing was changed") || over.contains("Nobody may do that from Slack yet"), "{button}: {over}");
    }
    assert!(stage.engine.terminate().await.success());
}

/// Lines under the first message.
fn thread(slack: &Workspace) -> usize {
    slack.channel(CHANNEL).messages().first().map_or(0, |message| message.thread().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_answered_in_time_whatever_becomes_of_the_connections() {
    let mut stage = stage(Settings::default(), |setup| setup).await;
    let (incident, _) = stage.incident().await;
    stage.engine.until("the index", PATIENCE, |status| status["index"]["behind"] == 0).await;
    let ana = stage.slack.person("ana");
    for (text, expected) in [
        ("", "What you can ask me"),
        ("subscibe", "did you mean `subscribe`?"),
        ("status", "60 logs received, 60 counted, 0 malformed: every one of them is accounted for"),
        ("ack nothing", "I know of no incident `nothing`"),
        (&format!("why {}", &incident[..8]), "calls are bad since"),
        ("trace run-3", "It began at *extraction*: error"),
        ("trace no-such-run", "there is no call of run no-such-run in the index"),
        ("top users 1h", "u7"),
    ] {
        let answered = ana.commands(COMMAND, text).await;
        in_time(&answered);
        until(
            &format!("`{expected}` to `{text}`"),
            PATIENCE,
            async || answered.ephemerals().iter().map(|message| message.text().to_owned()).collect::<Vec<_>>().join("\n---\n"),
            |shown| shown.contains(expected),
        )
        .await;
    }
    let opened = |slack: &Workspace| slack.requests().iter().filter(|request| request.method == "apps.connections.open").count();
    for reason in ["refresh_requested", "warning", ""] {
        let before = opened(&stage.slack);
        if reason.is_empty() {
            stage.slack.drop_sockets()
        } else {
            stage.slack.refresh_sockets(reason)
        }
        stage.slack.until("other connections", PATIENCE, |slack| opened(slack) >= before + 2 && slack.connections() == 2).await;
        // What was on its way to a connection that ended is lost; whoever typed it is told so and types again.
        let status = async || {
            let answered = ana.commands(COMMAND, "status").await;
            if answered.acknowledgement.after().is_some() { said(&answered).await } else { "not heard".to_owned() }
        };
        until(&format!("an answer after {reason}"), PATIENCE, status, |status| status.contains("buttons and commands: connected since")).await;
    }
    stage
        .engine
        .until("the standing", PATIENCE, |status| status["slack_socket"]["connections"] == 2 && status["slack_socket"]["problem"].is_null())
        .await;
    assert!(stage.engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_is_told_again_takes_effect_once() {
    let settings = Settings { acknowledge_within: Duration::from_millis(200), redelivered_after: [Duration::ZERO; 3], ..Settings::default() };
    let stage = stage(settings, |setup| setup).await;
    let ana = stage.slack.person("ana");
    // Stopped, it hears nothing in time, and all of it afterwards.
    stage.engine.signal("STOP");
    assert_eq!(ana.commands(COMMAND, "subscribe stage=extraction").await.acknowledgement, Acknowledgement::TooLate);
    stage.slack.until("four attempts", PATIENCE, |slack| slack.delivered().len() == 4).await;
    stage.engine.signal("CONT");
    let answered = until("an entry", PATIENCE, async || json!(stage.audited().await), |audited| audited[0][2] == "subscribed").await;
    // It was heard four times by now, or is heard within what this next one takes.
    stage.slack.set(|settings| settings.acknowledge_within = IN_TIME);
    let list = async || said(&ana.commands(COMMAND, "list").await).await;
    until("the list", PATIENCE, list, |list| list.contains("Nothing is wrong") && list.contains("stage=extraction")).await;
    assert_eq!(stage.audited().await.len(), 1, "{answered}");
    let posted = stage.slack.messages().iter().filter(|message| message.text().contains("subscribed this channel")).count();
    assert_eq!(posted, 1);
    assert!(stage.engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_hears_of_what_it_subscribed_to_and_is_told_how_to_let_the_app_in() {
    let mut stage = stage(Settings::default(), |setup| setup).await;
    let (oncall, ana) = (stage.slack.open_channel("#oncall", true), stage.slack.person("ana"));
    let private = stage.slack.open_private_channel("#secret", false);
    let refused = said(&ana.commands_in("#secret", COMMAND, "subscribe").await).await;
    assert!(refused.contains("Invite me with `/invite @streamgauge`") && private.messages().is_empty(), "{refused}");

    let done = said(&ana.commands_in("#oncall", COMMAND, "subscribe severity>=warning stage=extraction").await).await;
    assert!(done.contains("this channel hears of `severity&gt;=warning stage=extraction`"), "{done}");
    assert!(oncall.messages().iter().any(|message| message.text().contains("@ana subscribed this channel")), "everybody there is told");
    let again = said(&ana.commands_in("#oncall", COMMAND, "subscribe stage=extraction severity>=warning").await).await;
    assert!(again.contains("already; nothing was changed"), "{again}");
    // The channel of the configuration, subscribed as well, is told once.
    said(&ana.commands(COMMAND, "subscribe").await).await;
    let before = (stage.slack.channel(CHANNEL).messages().len(), oncall.messages().len());

    let (incident, _) = stage.incident().await;
    let told = |slack: &Workspace, channel: &str, before: usize| {
        let messages = slack.channel(channel).messages().split_off(before);
        messages.into_iter().filter(|message| message.metadata("incident").is_some_and(|id| *id == incident)).count()
    };
    stage.slack.until("the message in both", PATIENCE, |slack| told(slack, CHANNEL, before.0) == 1 && told(slack, "#oncall", before.1) == 1).await;

    let none = said(&ana.commands_in("#oncall", COMMAND, "unsubscribe rule=errors").await).await;
    assert!(none.contains("no subscription to `rule=errors`; nothing was changed") && none.contains("stage=extraction"), "{none}");
    in_time(&ana.commands_in("#oncall", COMMAND, "unsubscribe").await);
    stage
        .slack
        .until("the word of its end", PATIENCE, |_| oncall.messages().iter().any(|message| message.text().contains("ended this channel's")))
        .await;
    in_time(&ana.commands(COMMAND, "unsubscribe all").await);
    let still = |slack: &Workspace| slack.channel(CHANNEL).messages().iter().any(|message| message.text().contains("It still hears of"));
    stage.slack.until("what it still hears of", PATIENCE, still).await;
    let explained = said(&ana.commands(COMMAND, "unsubscribe").await).await;
    assert!(explained.contains("`slack.channel` of the configuration"), "{explained}");

    let silenced = ana.commands(COMMAND, "silence rule=errors stage=extraction 4h").await;
    in_time(&silenced);
    let of_channel = |slack: &Workspace| {
        slack.channel(CHANNEL).messages().iter().any(|message| message.text().contains("silenced `rule=errors` `stage=extraction`"))
    };
    stage.slack.until("the silence, for everybody", PATIENCE, of_channel).await;
    assert!(said(&ana.commands(COMMAND, "list").await).await.contains("*Silences*"));

    // It is kept.
    assert!(stage.engine.terminate().await.success());
    stage.engine = stage.setup.start().await;
    stage.connected().await;
    assert!(said(&ana.commands(COMMAND, "list").await).await.contains("*Silences*"));
    assert_eq!(stage.audited().await.iter().filter(|entry| entry.1 == "subscribe").count(), 4, "{:?}", stage.audited().await);

    // As many as are kept hold, and whoever asks for one more is told so, here and there.
    let silence = r#"{ "match": { "rule": "errors", "stage": "synthesis" }, "for": "1h" }"#;
    let headers = format!("Host: {}\r\nContent-Type: application/json\r\n", stage.engine.http);
    let silenced = async || {
        let answer = send(&stage.engine.http, "POST", "/api/v1/silences", &headers, silence).await.expect("an answer");
        as_documented("POST", "/api/v1/silences", &answer);
        answer
    };
    for kept in 1..SILENCES_MAX {
        let answer = silenced().await;
        assert_eq!(answer.status, 200, "beside {kept}: {}", answer.body);
    }
    let answer = silenced().await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains("as many silences hold as are kept"), "{}", answer.body);
    let full = said(&ana.commands(COMMAND, "silence rule=errors 4h").await).await;
    assert!(full.contains("As many silences hold as are kept; nothing was silenced"), "{full}");
    assert!(stage.audited().await.iter().any(|(_, act, outcome)| act == "silence" && outcome == "refused: as many silences hold as are kept"));
    assert!(stage.engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_published_once_by_those_who_may() {
    let mut stage = stage(Settings::default(), |setup| setup.set("slack.operators", r#"["S-oncall"]"#)).await;
    let client = stage.nats.client().await;
    let mut control = client.subscribe("gateway.>").await.expect("a subscription");
    client.flush().await.expect("the server knows of it");
    let (incident, alert) = stage.incident().await;
    let message = stage.buttons(&incident, &alert).await;
    let (ana, ben) = (stage.slack.person("ana"), stage.slack.person("ben"));
    for button in ["act:0", "ack"] {
        let refused = said(&ben.clicks(&message, button).await.expect("a button")).await;
        assert!(refused.contains("Only those whom `slack.operators` names"), "{button}: {refused}");
    }
    let done = said(&ana.clicks(&message, "act:0").await.expect("a button")).await;
    assert_eq!(done, "*Fail over* is done: published to gateway.control.");
    let heard = tokio::time::timeout(PATIENCE, control.next()).await.expect("it is published").expect("the subscription goes on");
    let id = heard.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).map(ToString::to_string);
    assert_eq!((heard.subject.as_str(), id), ("gateway.control", Some(format!("{incident}-{alert}-0"))));
    assert_eq!(serde_json::from_slice::<Value>(&heard.payload).expect("JSON"), json!({ "to": "azure" }));
    stage.slack.until("a line in the thread", PATIENCE, |slack| thread(slack) == 1).await;

    let again = said(&ana.clicks(&message, "act:0").await.expect("a button")).await;
    assert!(again.contains("*Fail over* is done already, by @ana") && again.contains("it was not done again"), "{again}");
    let gone = said(&ana.clicks(&message, "act:7").await.expect("a button")).await;
    assert!(gone.contains("does not propose that any more; nothing was done"), "{gone}");
    client.flush().await.expect("the server answers");
    assert!(tokio::time::timeout(Duration::from_millis(300), control.next()).await.is_err(), "published once");
    let audited = stage.audited().await;
    let acts: Vec<_> = audited.iter().filter(|entry| entry.1 == "action").map(|entry| entry.2.as_str()).collect();
    assert!(matches!(acts[..], [again, "published to gateway.control"] if again.starts_with("refused: done already by @ana")), "{acts:?}");

    // A new process finds in the incident's history that it was done.
    stage.engine.kill().await;
    stage.engine = stage.setup.start().await;
    stage.connected().await;
    let again = said(&ana.clicks(&message, "act:0").await.expect("a button")).await;
    assert!(again.contains("is done already, by @ana"), "{again}");
    assert!(stage.engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_token_that_was_changed_on_disk_is_taken_up_by_whoever_asks_slack_first() {
    let nats = Nats::start().await;
    let slack = Workspace::start(Settings { paced: false, ..Settings::default() }).await.expect("loopback has a free port");
    let setup = Setup::new(&nats).slack(&slack.api_url()).env("SLACK_APP_TOKEN", "xapp-test").set("slack.operators", r#"["S-oncall"]"#);
    let secret = setup.path("token");
    std::fs::write(&secret, "xoxb-former\n").expect("the token is written");
    let setup = setup.set("slack.bot_token.file", &secret.display().to_string());
    let engine = setup.start().await;
    slack.until("two connections", PATIENCE, |slack| slack.connections() == 2).await;
    let refused = |ready: &Value| ready["slack"]["problem"] == "invalid_auth";
    until("the refusal", PATIENCE, || engine.json("/readyz"), refused).await;
    let ana = slack.person("ana");
    let unknown = said(&ana.commands(COMMAND, "ack nothing").await).await;
    assert!(unknown.contains("the members of S-oncall cannot be read (invalid_auth"), "{unknown}");

    std::fs::write(&secret, "xoxb-test\n").expect("the token is written");
    let known = said(&ana.commands(COMMAND, "ack nothing").await).await;
    assert!(known.contains("I know of no incident `nothing`"), "{known}");
    assert_eq!(engine.json("/readyz").await["slack"]["state"], "ok", "everybody hears of it");
    let done = said(&ana.commands(COMMAND, "subscribe stage=extraction").await).await;
    assert!(done.contains("Done: this channel hears of `stage=extraction`"), "{done}");
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_names_what_there_is_and_is_ended_by_its_own_name() {
    let mut stage = stage(Settings::default(), |setup| setup).await;
    let (incident, _) = stage.incident().await;
    let ana = stage.slack.person("ana");
    let asked = async |text: &str| said(&ana.commands(COMMAND, text).await).await;
    for (text, expected) in [
        ("silence rule=erors 8h", "there is no rule `erors`\nhint: did you mean `errors`?"),
        ("silence tenant=acme 8h", "there is no key of an alert's group `tenant`"),
        ("silence rule=errors model=m 8h", "there is no key of an alert of rule errors `model`"),
    ] {
        let refused = asked(text).await;
        assert!(refused.contains(expected), "{text}: {refused}");
    }
    assert!(!asked("list").await.contains("*Silences*"));
    let unknown = asked("unsilence s0").await;
    assert!(unknown.contains("I know of no silence and no incident `s0` any more; nothing was changed."), "{unknown}");

    in_time(&ana.commands(COMMAND, "silence rule=errors stage=extraction 4h").await);
    let listed = until("the silence", PATIENCE, async || asked("list").await, |list| list.contains("*Silences*")).await;
    let silence = listed.split_once("🔕 `").and_then(|(_, rest)| rest.split_once('`')).expect("it has a name").0.to_owned();
    let covered = asked(&format!("unsilence {incident}")).await;
    let by =
        format!("is silenced by silence `{silence}` of `rule=errors` `stage=extraction`, which is about other alerts as well; nothing was changed.");
    assert!(covered.contains(&by) && covered.contains(&format!("`/streamgauge unsilence {silence}` ends that one.")), "{covered}");
    assert!(asked("list").await.contains("silenced by @ana until"), "it is silent still");

    // One of its own ends, and what covers it stays.
    let silenced = asked(&format!("silence {incident} 1h")).await;
    assert!(silenced.contains("1 alert that fires now is covered."), "{silenced}");
    let stays = asked(&format!("unsilence {incident}")).await;
    assert!(stays.contains(&format!("alone is ended, and it stays silent by silence `{silence}`")), "{stays}");
    let ended = asked(&format!("unsilence {silence}")).await;
    assert!(ended.contains(&format!("`{silence}` is heard of again")), "{ended}");
    until("no silence", PATIENCE, async || asked("list").await, |list| !list.contains("silenced by") && !list.contains("*Silences*")).await;
    let audited: Vec<_> = stage.audited().await.into_iter().filter(|entry| entry.1 == "unsilence").map(|entry| entry.2).collect();
    let refused = format!("refused: silence {silence} is about other alerts as well");
    assert_eq!(audited, ["done", "done", refused.as_str(), "refused: there is none of this name"]);
    assert!(stage.engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_over_is_still_explained_and_said_to_be_over() {
    let settle = |setup: Setup| setup.set("incidents.reopen", "1s").set("incidents.settle", "1s").set("slack.operators", r#"["S-oncall"]"#);
    let mut stage = stage(Settings::default(), settle).await;
    let (incident, alert) = stage.incident().await;
    let message = stage.buttons(&incident, &alert).await;
    stage.calls(60..300, false).await;
    // Its keeper alone knows it by its beginning.
    let by_its_beginning = format!("/api/v1/incidents/{}", &incident[..8]);
    let status = async || stage.engine.get(&by_its_beginning).await.0;
    until("its keeper to forget it", PATIENCE, status, |status| *status == 404).await;
    stage.engine.until("the index", PATIENCE, |status| status["index"]["behind"] == 0).await;
    let ana = stage.slack.person("ana");
    let why = said(&ana.clicks(&message, "why").await.expect("a button")).await;
    assert!(why.contains(&incident) && why.contains("calls were bad from") && why.contains("/search?where="), "{why}");
    for button in ["ack", "unsilence", "act:0"] {
        let over = said(&ana.clicks(&message, button).await.expect("a button")).await;
        assert!(over.contains(&format!("`{incident}` is over since")) && over.contains("so nothing was changed"), "{button}: {over}");
    }
    let over = said(&ana.chooses(&message, "silence", &format!("{incident}|1h")).await.expect("an option")).await;
    assert!(over.contains("so nothing was changed"), "{over}");
    let never = said(&ana.commands(COMMAND, "why i0123456789abcdef").await).await;
    assert!(never.starts_with("I know of no incident `i0123456789abcdef` any more. "), "{never}");
    assert!(stage.engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_named_nobody_does_what_a_rule_proposes() {
    let mut stage = stage(Settings::default(), |setup| setup).await;
    let (incident, alert) = stage.incident().await;
    let message = stage.buttons(&incident, &alert).await;
    let refused = said(&stage.slack.person("ana").clicks(&message, "act:0").await.expect("a button")).await;
    assert!(refused.contains("`slack.operators`"), "{refused}");
    assert!(stage.audited().await.is_empty());
    assert!(stage.engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_only_what_slack_signed_just_now_is_heard() {
    let nats = Nats::start().await;
    let slack = Workspace::start(Settings { paced: false, ..Settings::default() }).await.expect("loopback has a free port");
    let setup = Setup::new(&nats).slack(&slack.api_url()).env("SLACK_SIGNING_SECRET", "signing-secret");
    let engine = setup.start().await;
    slack.set(|settings| settings.delivery = Delivery::Http(format!("http://{}/slack/commands", engine.http)));
    let ana = slack.person("ana");
    assert!(said(&ana.commands(COMMAND, "list").await).await.contains("Nothing is wrong"));
    let answered = ana.commands(COMMAND, "help").await;
    assert!(matches!(&answered.acknowledgement, Acknowledgement::Given { payload: Some(_), .. }), "{:?}", answered.acknowledgement);
    assert_eq!(engine.status().await["slack_socket"]["on"], false);

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let challenge = json!({ "type": "url_verification", "challenge": "c0ffee" }).to_string();
    let command = "command=%2Fstreamgauge&text=subscribe&user_id=U1&user_name=eve&channel_id=C1&channel_name=x&trigger_id=t1";
    let ask = async |path: &str, kind: &str, body: &str, at: u64, signature: &str| {
        let headers =
            format!("Host: {}\r\nContent-Type: {kind}\r\nX-Slack-Request-Timestamp: {at}\r\nX-Slack-Signature: {signature}\r\n", engine.http);
        let answer = send(&engine.http, "POST", path, &headers, body).await.expect("an answer");
        (answer.status, answer.body)
    };
    let signed = |at: u64, body: &str| sign("signing-secret", at, body);
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    assert_eq!(ask("/slack/events", json, &challenge, now, &signed(now, &challenge)).await, (200, "c0ffee".to_owned()));
    for (why, at, signature) in [
        ("another secret", now, sign("other", now, command)),
        ("another body", now, signed(now, "text=other")),
        ("an old one", now - 400, signed(now - 400, command)),
        ("one of tomorrow", now + 400, signed(now + 400, command)),
        ("none", now, String::new()),
    ] {
        for path in ["/slack/events", "/slack/interactions", "/slack/commands"] {
            assert_eq!(ask(path, form, command, at, &signature).await.0, 401, "{why} {path}");
        }
    }
    let audit = engine.json("/api/v1/audit").await;
    assert_eq!(audit, json!([]), "nothing of it happened");
    assert!(engine.terminate().await.success());

    // Without a secret there is no such address.
    let setup = Setup::new(&nats).slack(&slack.api_url());
    let engine = setup.start().await;
    let headers = format!("Host: {}\r\nContent-Type: {json}\r\n", engine.http);
    let answer = send(&engine.http, "POST", "/slack/events", &headers, &challenge).await.expect("an answer");
    assert_eq!(answer.status, 404, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_token_that_is_refused_is_said_once_and_the_engine_goes_on() {
    let nats = Nats::start().await;
    let slack = Workspace::start(Settings { paced: false, ..Settings::default() }).await.expect("loopback has a free port");
    slack.revoke_token("xapp-test");
    let setup = Setup::new(&nats).slack(&slack.api_url()).env("SLACK_APP_TOKEN", "xapp-test");
    let engine = setup.start().await;
    let refused = |status: &Value| status["slack_socket"]["problem"].as_str().is_some_and(|problem| problem.starts_with("token_revoked: "));
    let status = engine.until("the reason", PATIENCE, refused).await;
    assert_eq!(status["slack_socket"]["connections"], 0);
    assert_eq!(engine.get("/readyz").await.0, 200, "what is counted and told does not hang on it");
    let opened = slack.requests().iter().filter(|request| request.method == "apps.connections.open").count();
    assert!(opened <= 4, "asked {opened} times");
    let lines = setup.log().lines().filter(|line| line.contains("token_revoked") || line.contains("WSS") || line.contains("wss")).count();
    assert_eq!(lines, 1, "{}", setup.log());
    assert!(engine.terminate().await.success());
}
