//! What people read of incidents in Slack, and that Slack takes it whatever logs, rules and people wrote.

use super::super::text::NO_BREAK;
use super::*;
use crate::message;
use fixtures_slack::mrkdwn;
use machine::incident::{Acknowledged, Curve, Ends, Entry, Example, Findings, Occasion, Place, Seen, Silence, Silenced, Telling};
use machine::{Hit, Notification, Observed, Reason};
use model::plan::{Action, Range, Target};
use model::window::{Direction, Drift, Observation, Ranked};
use model::{Span, Timestamp, Unit};
use serde_json::{Value, json};

/// Of the random incidents, unless `STREAMGAUGE_SEED` is another one.
const SEED: u64 = 20_261_122;
/// Random incidents that Slack is asked about.
const ROUNDS: u64 = 6_000;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("it is a time")
}

fn blocks_of(content: &SlackMessageContent) -> Vec<Value> {
    let content = serde_json::to_value(content).expect("a message is JSON");
    content["blocks"].as_array().cloned().unwrap_or_default()
}

/// As people see it, a line for each thing; times as those see them whose zone is UTC.
fn read(content: &SlackMessageContent) -> String {
    let mut lines = Vec::new();
    let shown = |text: &Value| {
        let text = text.as_str().unwrap_or_default();
        let mut seen = String::new();
        let mut rest = text;
        while let Some((before, token)) = rest.split_once("<!date^") {
            let (inside, after) = token.split_once('>').expect("a time ends");
            seen += before;
            seen += inside.split_once('|').expect("a time has our words for it").1;
            rest = after;
        }
        // A blank at which no line ends looks like any other.
        mrkdwn::unescape(&(seen + rest)).replace(NO_BREAK, " ")
    };
    for block in blocks_of(content) {
        match block["type"].as_str().expect("a block has a type") {
            "header" => lines.push(format!("# {}", shown(&block["text"]["text"]))),
            "section" => lines.push(shown(&block["text"]["text"])),
            "context" => {
                let parts = block["elements"].as_array().expect("a context has elements");
                lines.push(parts.iter().map(|part| shown(&part["text"])).collect::<Vec<_>>().join("  |  "));
            }
            "actions" => {
                let elements = block["elements"].as_array().expect("actions have elements").iter();
                lines.push(elements.map(pressable).collect::<Vec<_>>().join(" "));
            }
            "data_visualization" => {
                let chart = &block["chart"];
                let series = chart["series"].as_array().expect("a chart has series").iter().map(|series| shown(&series["name"]));
                let points = chart["axis_config"]["categories"].as_array().expect("a chart has categories");
                let axis = shown(&chart["axis_config"]["y_label"]);
                lines.push(format!("({}, {axis}: {}; {} points)", shown(&block["title"]), series.collect::<Vec<_>>().join(", "), points.len()));
            }
            other => panic!("a block that nobody expects: {other}"),
        }
    }
    lines.join("\n") + "\n"
}

/// `[Acknowledge ack=i1]`
fn pressable(element: &Value) -> String {
    let text = |of: &Value| of["text"]["text"].as_str().unwrap_or_default().to_owned();
    let id = element["action_id"].as_str().unwrap_or_default();
    if let Some(options) = element["options"].as_array() {
        let options: Vec<_> = options.iter().map(|option| option["value"].as_str().unwrap_or_default()).collect();
        return format!("[{} {id}={}]", element["placeholder"]["text"].as_str().unwrap_or_default(), options.join(","));
    }
    let target = element["url"].as_str().or(element["value"].as_str()).unwrap_or_default();
    let style = element["style"].as_str().map(|style| format!(" {style}")).unwrap_or_default();
    let asks = if element["confirm"].is_null() {
        String::new()
    } else {
        format!(" asks: {}", element["confirm"]["text"]["text"].as_str().unwrap_or_default())
    };
    format!("[{}{style} {id}={target}{asks}]", text(element))
}

fn told(number: u32, labels: [&str; 3]) -> Notification {
    let range = Some(Range { low: 0.002, high: 0.011 });
    let drift = Drift {
        since: at("2026-11-22T14:02:30Z"),
        since_between: (at("2026-11-22T14:01:00Z"), at("2026-11-22T14:04:00Z")),
        size: 0.08,
        usual: 0.003,
        beyond: None,
        calls: 500,
        holds: 41,
        log_evidence: 14.1,
        log_needed: 11.4,
    };
    let observation = Observation {
        value: Some(0.082),
        holds: 41,
        calls: 500,
        low: 0.06,
        high: 0.11,
        expected: range,
        drifted: Some(Direction::Up),
        drift: Some(drift),
        ..Observation::default()
    };
    Notification {
        id: format!("{number}-fired"),
        reason: Reason::Fired,
        at: at("2026-11-22T14:05:00Z"),
        alert_id: format!("a{number}"),
        rule: "invalid-json".to_owned(),
        severity: Severity::Critical,
        environment: "production".to_owned(),
        group: ["stage", "provider", "model"].into_iter().zip(labels).map(|(key, label)| (key.to_owned(), label.to_owned())).collect(),
        summary: "invalid_json rate is about 8 %, above the usual 0.2 % to 1.1 %".to_owned(),
        observed: vec![Observed {
            watch: "bad".to_owned(),
            what: "invalid_json rate".to_owned(),
            unit: Unit::Share,
            window: "5m".to_owned(),
            of_what: "answers that should be JSON".to_owned(),
            observation: observation.clone(),
        }],
        began: at("2026-11-22T14:04:50Z"),
        fired: at("2026-11-22T14:05:00Z"),
        worst: Some(Observation { value: Some(0.091), ..observation }),
        examples: vec![7],
        labels: Vec::new(),
        actions: vec![
            Action {
                label: "Fail over".to_owned(),
                target: Target::Subject("gateway".to_owned()),
                payload: "{}".to_owned(),
                confirm: Some("Send all to gpt-4o?".to_owned()),
            },
            Action { label: "Page the owner".to_owned(), target: Target::Subject("pager".to_owned()), payload: "{}".to_owned(), confirm: None },
        ],
        owner: Some("memory-team".to_owned()),
        hit: Vec::new(),
        channel: None,
        runbook: Some("https://runbooks.example/extraction".to_owned()),
    }
}

fn findings() -> Findings {
    let from = at("2026-11-22T13:46:00Z");
    let point = |number: u64| {
        (from + Span::from_secs(60 * number), Some(if number < 16 { 0.003 + 0.0005 * (number % 3) as f64 } else { 0.02 * (number - 15) as f64 }))
    };
    Findings {
        cause: vec!["Most likely cause: prompt version 7 (83 % of the excess; 9.1 % bad there, 0.3 % elsewhere, new)".to_owned()],
        common: vec![("prompt_version".to_owned(), "7".to_owned())],
        calls: Some(1234),
        runs: Some(310),
        users: Some(57),
        cost_usd: Some(1.23),
        examples: ["run-1", "run 2", "r/3", "run-4"].iter().zip(1..).map(|(id, sequence)| Example { event_id: (*id).to_owned(), sequence }).collect(),
        curve: Some(Curve {
            what: "invalid_json rate".to_owned(),
            unit: Unit::Share,
            points: (0..20).map(point).collect(),
            expected: Some(Range { low: 0.002, high: 0.011 }),
        }),
    }
}

/// An incident that was just opened.
fn opened() -> Seen {
    let lead = told(1, ["extraction", "openai", "gpt-4o"]);
    Seen {
        id: "ia1".to_owned(),
        environment: "production".to_owned(),
        firing: true,
        severity: Severity::Critical,
        began: at("2026-11-22T14:02:30Z"),
        ended: None,
        acknowledged: None,
        silenced: None,
        returned: 0,
        places: vec![Place { rule: lead.rule.clone(), group: lead.group.clone(), severity: lead.severity, firing: true }],
        alerts: 1,
        firing_alerts: 1,
        ends: Vec::new(),
        rules: vec![lead.rule.clone()],
        lead,
        findings: Some(findings()),
        history: vec![Entry { at: at("2026-11-22T14:05:02Z"), occasion: Occasion::Opened, by: None, untold: None }],
    }
}

fn grown() -> Seen {
    let mut seen = opened();
    for number in 2..=12u32 {
        let labels = ["extraction".to_owned(), ["openai", "azure"][number as usize % 2].to_owned(), format!("model-{number}")];
        let group = ["stage", "provider", "model"].map(String::from).into_iter().zip(labels).collect();
        seen.places.push(Place { rule: "invalid-json".to_owned(), group, severity: Severity::Critical, firing: true });
    }
    (seen.alerts, seen.firing_alerts) = (12, 12);
    seen
}

fn acknowledged() -> Seen {
    Seen { acknowledged: Some(Acknowledged { by: "@ana".to_owned(), at: at("2026-11-22T14:07:00Z") }), ..opened() }
}

fn silenced() -> Seen {
    let silence = Silence {
        id: "s1".to_owned(),
        of: Silenced::Incident("ia1".to_owned()),
        by: "@ana".to_owned(),
        at: at("2026-11-22T14:07:00Z"),
        until: Some(at("2026-11-22T15:07:00Z")),
    };
    Seen { silenced: Some(silence), ..opened() }
}

fn resolved() -> Seen {
    let mut seen = acknowledged();
    let ended = at("2026-11-22T14:44:30Z");
    seen.lead = seen.lead.ended(Reason::Resolved, ended);
    (seen.firing, seen.firing_alerts, seen.ended) = (false, 0, Some(ended));
    seen.ends = vec![Ends { reason: Reason::Resolved, alerts: 1 }];
    seen.places.iter_mut().for_each(|place| place.firing = false);
    seen
}

/// Twelve groups, of which the lead was adopted, and two had no more calls.
fn ended_in_three_ways() -> Seen {
    let ends = [(Reason::Resolved, 9), (Reason::WentQuiet, 2), (Reason::Adopted, 1)].map(|(reason, alerts)| Ends { reason, alerts });
    let mut seen = Seen { ends: ends.to_vec(), ..grown() };
    let ended = at("2026-11-22T14:44:30Z");
    seen.lead = seen.lead.ended(Reason::Adopted, ended);
    (seen.firing, seen.firing_alerts, seen.ended) = (false, 0, Some(ended));
    seen.places.iter_mut().for_each(|place| place.firing = false);
    seen
}

/// Over, and nothing else was hit.
fn of_one_call() -> Seen {
    let findings = Findings { calls: Some(1), runs: None, users: None, cost_usd: None, ..findings() };
    Seen { findings: Some(findings), ..resolved() }
}

fn of_three_rules() -> Seen {
    let mut seen = opened();
    let other = |rule: &str, group: &[(&str, &str)], firing| Place {
        rule: rule.to_owned(),
        group: group.iter().map(|(key, label)| ((*key).to_owned(), (*label).to_owned())).collect(),
        severity: Severity::Warning,
        firing,
    };
    seen.places.push(other("fallback-rate", &[("stage", "extraction")], true));
    seen.places.push(other("latency", &[("stage", "extraction"), ("model", "gpt-4o")], true));
    seen.places.push(other("errors", &[("stage", "retrieval")], false));
    (seen.alerts, seen.firing_alerts) = (4, 3);
    seen.rules = ["invalid-json", "fallback-rate", "latency", "errors"].map(String::from).to_vec();
    seen
}

fn shown(seen: &Seen, chart: Chart) -> SlackMessageContent {
    incident("ia1-1", &message::incident(seen, "https://gauge.example", false), chart)
}

#[test]
fn an_incident_says_what_is_wrong_how_much_since_when_whom_it_hits_and_why() {
    assert_eq!(
        read(&shown(&opened(), Chart::Native)),
        "# 🔴 CRITICAL: invalid-json — extraction · openai · gpt-4o
invalid_json rate is about 8 %, above the usual 0.2 % to 1.1 %
*Now*  8.2 % (41 of 500 answers that should be JSON in 5m), above the expected 0.2 % to 1.1 %
*Since*  14:02 UTC, give or take 2m
*Hit*  1,234 calls, 310 runs, 57 users; cost $1.23
*Where*  production: stage extraction, provider openai, model gpt-4o
*Owner*  memory-team
*Most likely cause*
prompt version 7 (83 % of the excess; 9.1 % bad there, 0.3 % elsewhere, new)
[Open open=https://gauge.example/incidents/ia1] [Acknowledge primary ack=ia1] [Silence silence=ia1|30m,ia1|1h,ia1|4h,ia1|resolved] [Why? why=ia1]
[Fail over danger act:0=ia1|a1|0 asks: Send all to gpt-4o?] [Page the owner act:1=ia1|a1|1]
(invalid_json rate, %: Seen, Expected at most, Expected at least; 20 points)
Runs <https://gauge.example/runs/run-1?environment=production|run-1> · <https://gauge.example/runs/run%202?environment=production|run 2> · \
<https://gauge.example/runs/r%2F3?environment=production|r/3>  |  <https://runbooks.example/extraction|Runbook>  |  incident ia1
"
    );
    let text = shown(&opened(), Chart::Native).text.expect("it has a text");
    assert_eq!(
        text,
        "CRITICAL: invalid-json — extraction · openai · gpt-4o
invalid_json rate is about 8 %, above the usual 0.2 % to 1.1 %
Now: 8.2 % (41 of 500 answers that should be JSON in 5m), above the expected 0.2 % to 1.1 %
Since: 14:02 UTC, give or take 2m
Most likely cause: prompt version 7 (83 % of the excess; 9.1 % bad there, 0.3 % elsewhere, new)"
    );
}

#[test]
fn where_slack_takes_no_chart_a_line_of_text_is_in_its_place() {
    let content = shown(&opened(), Chart::Sparkline);
    let lines = "▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▃▄▆█
invalid_json rate from 13:46 UTC to 14:05 UTC: at least 0.3 %, at most 8 %, 8 % at the end; expected 0.2 % to 1.1 %\n";
    assert!(read(&content).contains(lines), "{}", read(&content));
    assert!(!blocks_of(&content).iter().any(|block| block["type"] == "data_visualization"));
}

#[test]
fn an_incident_of_twelve_groups_names_six_and_what_they_share() {
    let text = read(&shown(&grown(), Chart::Native));
    assert!(text.starts_with("# 🔴 CRITICAL: invalid-json — extraction, 12 groups\n"), "{text}");
    assert!(text.contains("*Where*  production: stage extraction\n"), "{text}");
    let groups = "*12 groups*
• extraction · openai · gpt-4o
• extraction · openai · model-2
• extraction · azure · model-3
• extraction · openai · model-4
• extraction · azure · model-5
• extraction · openai · model-6
and 6 more\n";
    assert!(text.contains(groups), "{text}");
}

#[test]
fn what_is_in_hand_silenced_or_over_says_so_and_offers_what_is_left_to_do() {
    let text = read(&shown(&acknowledged(), Chart::Native));
    assert!(text.starts_with("# 👀 CRITICAL, acknowledged by @ana: invalid-json — extraction · openai · gpt-4o\n"), "{text}");
    assert!(text.contains("*Acknowledged*  by @ana at 14:07 UTC\n") && !text.contains("ack="), "{text}");
    assert!(text.contains("silence=ia1|30m"), "{text}");

    let mut seen = silenced();
    let text = read(&shown(&seen, Chart::Native));
    assert!(text.starts_with("# 🔕 CRITICAL, silenced: invalid-json"), "{text}");
    assert!(text.contains("*Silenced*  by @ana until 15:07 UTC\n"), "{text}");
    assert!(text.contains("[Acknowledge primary ack=ia1] [Unsilence unsilence=ia1] [Why? why=ia1]"), "{text}");
    if let Some(silence) = &mut seen.silenced {
        silence.of = Silenced::Alerts(vec![("rule".to_owned(), "invalid-json".to_owned())]);
    }
    let text = read(&shown(&seen, Chart::Native));
    assert!(text.contains("unsilence=s1 asks: It silences more than this incident"), "a silence of more is named itself: {text}");

    let text = read(&shown(&resolved(), Chart::Native));
    assert!(
        text.starts_with("# ✅ RESOLVED after 42m: invalid-json — extraction · openai · gpt-4o\nBack where it is expected. It was: invalid_json"),
        "{text}"
    );
    assert!(text.contains("*At worst*  9.1 %, above the expected 0.2 % to 1.1 %\n*Since*  14:02 UTC until 14:44 UTC\n"), "{text}");
    assert!(text.contains("\n[Open open=https://gauge.example/incidents/ia1] [Why? why=ia1]\n(invalid"), "{text}");
}

#[test]
fn numbers_keep_their_units_wherever_a_phone_breaks_its_lines() {
    for chart in [Chart::Native, Chart::Sparkline] {
        let text = serde_json::to_string(&blocks_of(&shown(&grown(), chart))).expect("blocks are JSON");
        assert!(text.contains("8.2\u{a0}% (41 of 500") && text.contains("0.2\u{a0}% to 1.1\u{a0}%") && !text.contains(" %"), "{text}");
    }
}

#[test]
fn an_end_that_is_not_that_of_all_alerts_is_not_said_of_the_incident() {
    let seen = ended_in_three_ways();
    let text = read(&shown(&seen, Chart::Native));
    let ends = "9 are back where they are expected, 2 had no calls for a day, 1 was adopted as the new normal";
    let all = format!("# ⚪ ENDED after 42m: invalid-json — extraction, 12 groups\nOf its 12 alerts: {ends}. It was: invalid_json rate is about 8 %");
    assert!(text.starts_with(&all), "{text}");
    let telling = Telling {
        id: "ia1-2".to_owned(),
        at: at("2026-11-22T14:45:00Z"),
        occasion: Occasion::Resolved { reason: Reason::Adopted },
        by: None,
        aloud: true,
        incident: seen.clone(),
    };
    let said = message::line(&telling);
    assert!(said.starts_with(&format!("Ended after 42m: {ends}; 1,234 calls")), "{said}");
    let adopted = Seen { ends: vec![Ends { reason: Reason::Adopted, alerts: 12 }], ..seen };
    let text = read(&shown(&adopted, Chart::Native));
    assert!(text.starts_with("# ⚪ ADOPTED: invalid-json — extraction, 12 groups\nAdopted as the new normal"), "{text}");
}

#[test]
fn an_incident_of_several_rules_says_how_many_and_whose_words_are_told() {
    let text = read(&shown(&of_three_rules(), Chart::Native));
    assert!(text.starts_with("# 🔴 CRITICAL: 4 rules — extraction\ninvalid-json: invalid_json rate is about 8 %"), "{text}");
    assert!(text.contains("*Rules*  invalid-json, fallback-rate, latency, errors\n"), "{text}");
    let groups = "*4 alerts, 3 still firing*
• invalid-json: extraction · openai · gpt-4o
• fallback-rate: extraction
• latency: extraction · gpt-4o
• errors: retrieval (ended)\n";
    assert!(text.contains(groups), "{text}");
    let nothing_shared = Seen { places: vec![of_three_rules().places[3].clone(), opened().places[0].clone()], firing: false, ..of_three_rules() };
    let text = read(&shown(&nothing_shared, Chart::Native));
    assert!(text.contains(": 4 rules — 7\n"), "then the cause says where: {text}");
}

#[test]
fn a_header_that_is_cut_loses_its_end_and_not_what_stands_behind_an_ampersand() {
    let mut seen = acknowledged();
    seen.acknowledged = seen.acknowledged.map(|by| Acknowledged { by: format!("@{}", "a".repeat(29)), ..by });
    seen.rules = vec!["r".repeat(60)];
    seen.lead.group[0].1 = "Q&A extraction".to_owned();
    let header = blocks_of(&shown(&seen, Chart::Native))[0]["text"]["text"].as_str().expect("it has a header").to_owned();
    assert!(header.contains(" — Q&A extraction · openai") && header.ends_with('…') && header.chars().count() <= HEADER_MAX, "{header}");
}

#[test]
fn a_line_of_the_thread_has_its_reason_the_person_and_the_numbers() {
    let seen = |seen: Seen, occasion: Occasion, by: Option<&str>, time: &str| {
        let telling = Telling { id: "ia1-2".to_owned(), at: at(time), occasion, by: by.map(ToOwned::to_owned), aloud: true, incident: seen };
        let content = line(&telling.id, &telling, false);
        assert_eq!(fixtures_slack::validate(&blocks_of(&content)), []);
        assert_eq!(read(&content), format!("{}\n", message::line(&telling)), "in a terminal and in Slack it says the same");
        message::line(&telling)
    };
    let places = grown().places.split_off(9);
    let soon = "2026-11-22T14:07:00Z";
    for (said, expected) in [
        (
            seen(grown(), Occasion::Grew { more: 3, places }, None, soon),
            "Grew: 3 more groups, 12 in all: extraction · openai · model-10, extraction · azure · model-11, extraction · openai · model-12",
        ),
        (
            seen(grown(), Occasion::Grew { more: 9, places: grown().places[..1].to_vec() }, None, soon),
            "Grew: 9 more groups, 12 in all: extraction · openai · gpt-4o, …",
        ),
        (
            seen(opened(), Occasion::Worse { severity: Severity::Critical }, None, soon),
            "Worse: it is critical now. invalid-json — extraction · openai · gpt-4o: invalid_json rate 8 %",
        ),
        (seen(grown(), Occasion::Eased { firing: 2 }, None, soon), "Eased: 2 of 12 alerts still fire: invalid_json rate 8 %"),
        (seen(grown(), Occasion::Eased { firing: 1 }, None, soon), "Eased: 1 of 12 alerts still fires: invalid_json rate 8 %"),
        (
            seen(opened(), Occasion::Explained, None, soon),
            "Most likely cause: prompt version 7 (83 % of the excess; 9.1 % bad there, 0.3 % elsewhere, new)",
        ),
        (seen(acknowledged(), Occasion::Acknowledged, Some("@ana"), soon), "Acknowledged by @ana"),
        (
            seen(silenced(), Occasion::Silenced { until: Some(at("2026-11-22T15:07:00Z")) }, Some("@ana"), soon),
            "Silenced for 1h by @ana, until 15:07 UTC",
        ),
        (seen(silenced(), Occasion::Silenced { until: None }, Some("@ana"), soon), "Silenced by @ana until it is resolved"),
        (seen(opened(), Occasion::Unsilenced, Some("@ana"), soon), "No longer silenced: @ana took the silence back"),
        (seen(opened(), Occasion::SilenceEnded, None, soon), "The silence has ended, and it still fires: invalid_json rate 8 %"),
        (seen(opened(), Occasion::Reminded, None, "2026-11-22T18:02:30Z"), "Still so after 4h and nobody has acknowledged it: invalid_json rate 8 %"),
        (
            seen(opened(), Occasion::Acted { label: "Fail over".to_owned(), outcome: "published to gateway".to_owned() }, Some("@ana"), soon),
            "@ana chose “Fail over”: published to gateway",
        ),
        (
            seen(resolved(), Occasion::Resolved { reason: Reason::Resolved }, None, "2026-11-22T14:45:00Z"),
            "Resolved after 42m; 1,234 calls, 310 runs, 57 users were hit; cost $1.23",
        ),
        (seen(of_one_call(), Occasion::Resolved { reason: Reason::Resolved }, None, "2026-11-22T14:45:00Z"), "Resolved after 42m; 1 call was hit"),
        (
            seen(resolved(), Occasion::Resolved { reason: Reason::Adopted }, None, "2026-11-22T14:45:00Z"),
            "Ended after 42m: adopted as the new normal; 1,234 calls, 310 runs, 57 users were hit; cost $1.23",
        ),
        (seen(opened(), Occasion::Returned { times: 2 }, None, soon), "Back for the 2nd time: extraction · openai · gpt-4o: invalid_json rate 8 %"),
        (seen(opened(), Occasion::Merged { rule: "latency".to_owned() }, None, soon), "latency turned out to be part of it"),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn metadata_name_the_telling_and_the_incident_in_strings() {
    let message = message::incident(&opened(), "https://gauge.example", true);
    let content = serde_json::to_value(incident("ia1-3", &message, Chart::Native)).expect("a message is JSON");
    let payload = json!({ "id": "ia1-3", "incident": "ia1", "possible_repeat": "true" });
    assert_eq!(content["metadata"], json!({ "event_type": "streamgauge_incident", "event_payload": payload }));
    assert!(read(&incident("ia1-3", &message, Chart::Native)).contains("possibly a repeat"));
}

/// Texts, numbers and lists as nobody should write them.
struct Hostile(fastrand::Rng);

impl Hostile {
    fn text(&mut self) -> String {
        const PIECES: [&str; 30] = [
            "<!channel>",
            "<!here>",
            "<@U123>",
            "<!subteam^S1|@all>",
            "<http://evil.example|click>",
            "&lt;",
            "&",
            ">",
            "<",
            "|",
            "`",
            "```",
            "*",
            "_",
            "~",
            "\u{202e}",
            "\u{2066}",
            "\u{200b}",
            "\u{feff}",
            "\n",
            "\r\n\t",
            "\0",
            "עברית",
            "العربية",
            "👩‍👩‍👧",
            "e\u{301}\u{301}\u{301}",
            "<!date^1^{time}|x>",
            ":fire:",
            "plain words",
            "https://x.example/a|b",
        ];
        match self.0.u8(..12) {
            0 => String::new(),
            1 => " \n".to_owned(),
            2 => PIECES[self.0.usize(..PIECES.len())].repeat(self.0.usize(1..400)),
            3 => "x".repeat(10_000),
            4 => "&<>".repeat(self.0.usize(1..2000)),
            _ => (0..self.0.usize(1..8)).map(|_| PIECES[self.0.usize(..PIECES.len())]).collect(),
        }
    }

    fn id(&mut self) -> String {
        if self.0.bool() { format!("i{:x}", self.0.u64(..)) } else { self.text() }
    }

    fn number(&mut self) -> f64 {
        const ODD: [f64; 12] = [0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5, 12_345_678.9, -1e18];
        if self.0.bool() { self.0.f64() } else { ODD[self.0.usize(..ODD.len())] }
    }

    fn time(&mut self) -> Timestamp {
        let millis = match self.0.u8(..8) {
            0 => -62_135_596_800_000,
            1 => 253_402_207_200_000,
            2 => 0,
            _ => self.0.i64(1_700_000_000_000..1_900_000_000_000),
        };
        Timestamp::from_millis(millis).expect("it is within years 1 to 9999")
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.0.bool() { Some(make(self)) } else { None }
    }

    fn many<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let most = if self.0.u8(..4) == 0 { most } else { most.min(4) };
        (0..self.0.usize(..=most)).map(|_| make(self)).collect()
    }

    fn severity(&mut self) -> Severity {
        Severity::ALL[self.0.usize(..3)]
    }

    fn reason(&mut self) -> Reason {
        [Reason::Fired, Reason::Repeated, Reason::Resolved, Reason::WentQuiet, Reason::RuleChanged, Reason::Adopted][self.0.usize(..6)]
    }

    fn unit(&mut self) -> Unit {
        match self.0.u8(..4) {
            0 => Unit::Share,
            1 => Unit::Millis,
            2 => Unit::Dollars,
            _ => Unit::Number(self.text()),
        }
    }

    fn range(&mut self) -> Range {
        Range { low: self.number(), high: self.number() }
    }

    fn group(&mut self) -> Vec<(String, String)> {
        self.many(12, |this| (this.text(), this.text()))
    }

    fn drift(&mut self) -> Drift {
        Drift {
            since: self.time(),
            since_between: (self.time(), self.time()),
            size: self.number(),
            usual: self.number(),
            beyond: self.maybe(Self::number),
            calls: self.0.u64(..),
            holds: self.0.u64(..),
            log_evidence: self.number(),
            log_needed: self.number(),
        }
    }

    fn observation(&mut self) -> Observation {
        let ranked = |this: &mut Self| Ranked { label: this.text(), value: this.number(), share: this.number(), calls: this.0.u64(..) };
        Observation {
            value: self.maybe(Self::number),
            holds: self.0.u64(..),
            calls: self.0.u64(..),
            low: self.number(),
            high: self.number(),
            effective: None,
            expected: self.maybe(Self::range),
            learning: self.0.bool(),
            drifted: self.maybe(|_| Direction::Up),
            drift: self.maybe(Self::drift),
            top: self.many(5, ranked),
        }
    }

    fn observed(&mut self) -> Observed {
        let what = if self.0.bool() { "top user_id by calls".to_owned() } else { self.text() };
        Observed { watch: self.text(), what, unit: self.unit(), window: self.text(), of_what: self.text(), observation: self.observation() }
    }

    fn notification(&mut self) -> Notification {
        let action = |this: &mut Self| Action {
            label: this.text(),
            target: Target::Webhook(this.text()),
            payload: this.text(),
            confirm: this.maybe(Self::text),
        };
        Notification {
            id: self.id(),
            reason: self.reason(),
            at: self.time(),
            alert_id: self.id(),
            rule: self.text(),
            severity: self.severity(),
            environment: self.text(),
            group: self.group(),
            summary: self.text(),
            observed: self.many(6, Self::observed),
            began: self.time(),
            fired: self.time(),
            worst: self.maybe(Self::observation),
            examples: Vec::new(),
            labels: self.many(16, |this| (this.text(), this.text())),
            actions: self.many(8, action),
            owner: self.maybe(Self::text),
            hit: self.many(12, |this| Hit { labels: this.many(12, Self::text), calls: this.0.u64(..), holds: this.0.u64(..) }),
            channel: self.maybe(Self::text),
            runbook: self.maybe(|this| if this.0.bool() { format!("https://x.example/{}", this.text()) } else { this.text() }),
        }
    }

    fn place(&mut self) -> Place {
        Place { rule: self.text(), group: self.group(), severity: self.severity(), firing: self.0.bool() }
    }

    fn curve(&mut self) -> Curve {
        let from = self.time();
        let every = Span::from_millis(self.0.u64(..=200_000));
        let mut at = from;
        let point = |this: &mut Self| {
            at = at + every;
            (at, this.maybe(Self::number))
        };
        Curve { what: self.text(), unit: self.unit(), points: self.many(90, point), expected: self.maybe(Self::range) }
    }

    fn findings(&mut self) -> Findings {
        Findings {
            cause: self.many(5, Self::text),
            common: self.group(),
            calls: self.maybe(|this| this.0.u64(..)),
            runs: self.maybe(|this| this.0.u64(..)),
            users: self.maybe(|this| this.0.u64(..)),
            cost_usd: self.maybe(Self::number),
            examples: self.many(6, |this| Example { event_id: this.id(), sequence: this.0.u64(..) }),
            curve: self.maybe(Self::curve),
        }
    }

    fn silence(&mut self) -> Silence {
        let of = if self.0.bool() { Silenced::Incident(self.id()) } else { Silenced::Alerts(self.group()) };
        Silence { id: self.id(), of, by: self.text(), at: self.time(), until: self.maybe(Self::time) }
    }

    fn seen(&mut self) -> Seen {
        Seen {
            id: self.id(),
            environment: self.text(),
            firing: self.0.bool(),
            severity: self.severity(),
            began: self.time(),
            ended: self.maybe(Self::time),
            acknowledged: self.maybe(|this| Acknowledged { by: this.text(), at: this.time() }),
            silenced: self.maybe(Self::silence),
            returned: self.0.u32(..),
            lead: self.notification(),
            places: self.many(40, Self::place),
            alerts: self.0.u32(..),
            firing_alerts: self.0.u32(..),
            ends: self.many(4, |this| Ends { reason: this.reason(), alerts: this.0.u32(..) }),
            rules: self.many(40, Self::text),
            findings: self.maybe(Self::findings),
            history: Vec::new(),
        }
    }

    fn occasion(&mut self) -> Occasion {
        match self.0.u8(..15) {
            0 => Occasion::Opened,
            1 => Occasion::Grew { more: self.0.u32(..), places: self.many(5, Self::place) },
            2 => Occasion::Worse { severity: self.severity() },
            3 => Occasion::Updated,
            4 => Occasion::Eased { firing: self.0.u32(..) },
            5 => Occasion::Explained,
            6 => Occasion::Acknowledged,
            7 => Occasion::Silenced { until: self.maybe(Self::time) },
            8 => Occasion::Unsilenced,
            9 => Occasion::SilenceEnded,
            10 => Occasion::Reminded,
            11 => Occasion::Acted { label: self.text(), outcome: self.text() },
            12 => Occasion::Resolved { reason: self.reason() },
            13 => Occasion::Returned { times: self.0.u32(..) },
            _ => Occasion::Merged { rule: self.text() },
        }
    }
}

/// What Slack and its readers may expect of every message.
fn assert_well(content: &SlackMessageContent, what: &str) {
    let blocks = blocks_of(content);
    assert_eq!(fixtures_slack::validate(&blocks), [], "{what}");
    assert!(fixtures_slack::characters(&blocks) <= BLOCKS_CHARACTERS_MAX, "{what}: {} characters", fixtures_slack::characters(&blocks));
    let text = content.text.as_deref().unwrap_or_default();
    assert!(!text.trim().is_empty() && text.chars().count() <= 4000, "{what}: {text:?}");
    let mut pings = mrkdwn::pings(text);
    blocks.iter().for_each(|block| mrkdwn::pings_of(block, &mut pings));
    assert_eq!(pings, [], "{what}");
    let all = format!("{text}{}", serde_json::to_string(&blocks).expect("blocks are JSON"));
    let turns = |char: char| matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}' | '\u{2067}' | '\u{200b}');
    assert!(!all.contains(turns), "{what}: it turns writing around: {all:?}");
    let metadata = serde_json::to_value(&content.metadata).expect("metadata are JSON");
    assert!(metadata["event_payload"].as_object().is_some_and(|payload| payload.values().all(Value::is_string)), "{what}");
}

#[test]
#[expect(clippy::print_stdout, reason = "a failure is found again by its seed")]
fn slack_takes_every_incident_whatever_others_wrote_and_nobody_is_pinged() {
    let seed = std::env::var("STREAMGAUGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    println!("STREAMGAUGE_SEED={seed}");
    let mut hostile = Hostile(fastrand::Rng::with_seed(seed));
    for round in 0..ROUNDS {
        let what = format!("seed {seed}, round {round}");
        let seen = hostile.seen();
        let words = message::incident(&seen, "https://gauge.example", hostile.0.bool());
        let id = hostile.id();
        assert_well(&incident(&id, &words, Chart::Native), &what);
        assert_well(&incident(&id, &words, Chart::Sparkline), &what);
        assert!(!message::incident_for_terminal(&words, "#llm-alerts", false).contains(['\u{1b}', '\0', '\u{202e}']), "{what}");
        let telling = Telling { id, at: hostile.time(), occasion: hostile.occasion(), by: hostile.maybe(Hostile::text), aloud: true, incident: seen };
        assert_well(&line(&telling.id, &telling, true), &what);
    }
}

/// Writes the messages of these tests, for `deploy/check-blocks` to compare with the types that Slack publishes.
#[test]
fn the_messages_of_these_tests_are_written_where_somebody_asks_for_them() {
    let Some(file) = std::env::var_os("STREAMGAUGE_MESSAGES") else { return };
    let seen = [opened(), grown(), acknowledged(), silenced(), resolved(), of_three_rules()];
    let shown = |seen: &Seen| [shown(seen, Chart::Native), shown(seen, Chart::Sparkline)];
    let messages: Vec<_> = seen.iter().flat_map(shown).collect();
    std::fs::write(file, serde_json::to_string_pretty(&messages).expect("messages are JSON")).expect("the file can be written");
}
