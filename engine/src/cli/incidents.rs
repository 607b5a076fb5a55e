//! `streamgauge incidents`, `ack`, `act`, `silence` and `unsilence`: what is wrong, who has it in hand, what can be done, and what nobody wants to
//! hear of.
//!
//! They ask the running engine; what they do is in its audit log. Deliberately absent: an incident's page and thread, which are in the browser.

use super::terminal::{Paint, width};
use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::foreign::{cut, printable};
use crate::http::silences::covering;
use crate::message::agreeing;
use model::Timestamp;
use serde_json::{Map, Value, json};

#[derive(Debug, clap::Args)]
pub(super) struct Incidents {
    /// How many: those that are open, and the latest of the others.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=500))]
    limit: u64,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Ack {
    /// An incident's or an alert's id, or the beginning that only one has.
    id: String,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Act {
    /// An incident's or an alert's id, or the beginning that only one has.
    id: String,
    /// The label of the action; without it, what the rule proposes is listed.
    action: Option<String>,
    /// Do it without asking what the rule wants to be asked first.
    #[arg(long)]
    yes: bool,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("end").args(["length", "until"]))]
pub(super) struct Silence {
    /// An incident's id; or what alerts are to match: rule=, environment=, severity= or a group's key, such as stage=extraction.
    #[arg(required = true, value_name = "INCIDENT|KEY=VALUE")]
    what: Vec<String>,
    /// For how long, from 1m to 30d. Without an end an incident is silenced until it is resolved.
    #[arg(long = "for", value_name = "LENGTH")]
    length: Option<String>,
    /// Until when, such as 2026-01-05T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Unsilence {
    /// A silence's id, or that of an incident that has one of its own.
    id: String,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn incidents(args: Incidents, config: &Config) -> Result<Outcome, Fault> {
    let answer: Value = asking::get(config, &format!("/api/v1/incidents?limit={}", args.limit)).await?;
    let silences: Value = asking::get(config, "/api/v1/silences").await?;
    if args.json {
        say(json!({ "open": answer["open"], "incidents": answer["incidents"], "silences": silences }));
        return Ok(Outcome::Well);
    }
    let all = answer["incidents"].as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        say("No incident within the store's retention.");
    }
    let (width, paint) = (width(), Paint::stdout());
    for incident in all {
        lines(incident, width, paint).iter().for_each(say);
    }
    for silence in silences.as_array().into_iter().flatten().filter(|silence| silence["of"]["alerts"].is_array()) {
        let about: Vec<_> = pairs(&silence["of"]["alerts"]).map(|(key, value)| format!("{key}={value}")).collect();
        say(printable(&format!("silence {}  {}  {}", text(silence, "id"), about.join(" "), silenced(silence))));
    }
    Ok(Outcome::Well)
}

/// Three lines: what and where, in which state, and the most likely cause. All but the second, which names it, are of at most `width` characters.
fn lines(incident: &Value, width: usize, paint: Paint) -> Vec<String> {
    let firing = incident["firing"] == true;
    let place: Vec<_> = pairs(&incident["group"]).map(|(_, label)| if label.is_empty() { "(none)" } else { label }).collect();
    let place = if place.is_empty() { "all calls".to_owned() } else { place.join(" · ") };
    let rules: Vec<_> = incident["rules"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let head = format!("{} {}  {} · {}", if firing { "●" } else { "✔" }, rules.join(", "), text(incident, "environment"), place);
    let head = cut(&head, width);
    let alerts = match (incident["firing_alerts"].as_u64().unwrap_or_default(), incident["alerts"].as_u64().unwrap_or_default()) {
        (_, ..=1) => String::new(),
        (firing, all) => format!(" · {firing} of {all} alerts {}", agreeing(firing, "fires", "fire")),
    };
    let span = match incident["ended"].as_str() {
        Some(ended) => format!("{} to {}", minute(text(incident, "began")), minute(ended)),
        None => format!("since {}", minute(text(incident, "began"))),
    };
    let by = |name: &str| incident[name]["by"].as_str();
    let acknowledged = by("acknowledged").map_or_else(String::new, |by| format!(" · acknowledged by {by}"));
    let quiet = by("silenced").filter(|_| firing).map_or_else(String::new, |_| format!(" · {}", silenced(&incident["silenced"])));
    let state = format!("  {}  {span} · {}{alerts}{acknowledged}{quiet}", text(incident, "id"), text(incident, "severity"));
    let cause = incident["cause"].as_array().into_iter().flatten().find_map(Value::as_str);
    let about = format!("  {}", cause.filter(|_| firing).unwrap_or_else(|| text(incident, "summary")));
    vec![if firing { paint.bad(&head) } else { head }, printable(&state), paint.faint(&cut(&about, width))]
}

pub(super) async fn ack(args: Ack, config: &Config) -> Result<Outcome, Fault> {
    let came: Value = asking::post(config, &format!("/api/v1/incidents/{}/ack", part(&args.id))).await?;
    if args.json {
        say(came);
        return Ok(Outcome::Well);
    }
    let (by, at) = (text(&came["acknowledged"], "by"), minute(text(&came["acknowledged"], "at")));
    let already = if came["already"] == true { "was acknowledged already" } else { "acknowledged" };
    say(printable(&format!("{}: {already} by {by} at {at}", text(&came, "incident"))));
    Ok(Outcome::Well)
}

pub(super) async fn act(args: Act, config: &Config) -> Result<Outcome, Fault> {
    let path = format!("/api/v1/incidents/{}", part(&args.id));
    let found: Value = asking::get(config, &path).await?;
    let lead = &found["incident"]["lead"];
    let proposed = lead["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(label) = args.action else {
        if args.json {
            say(json!(proposed));
            return Ok(Outcome::Well);
        }
        if proposed.is_empty() {
            say(printable(&format!("Rule {} proposes nothing to do.", text(lead, "rule"))));
        }
        for action in proposed {
            let target = match action["publish"].as_str() {
                Some(subject) => format!("publish to {subject}"),
                None => format!("call the webhook {}", text(action, "webhook")),
            };
            say(printable(&format!("{}: {target}", text(action, "label"))));
        }
        return Ok(Outcome::Well);
    };
    let question = proposed.iter().find(|action| text(action, "label") == label).and_then(|action| action["confirm"].as_str());
    if let Some(question) = question.filter(|_| !args.yes) {
        return Err(Fault::new(printable(question), "its rule wants to be asked; say yes with --yes"));
    }
    let done: Value = asking::post_json(config, &format!("{path}/actions"), &json!({ "action": label, "alert": lead["alert_id"] })).await?;
    if args.json {
        say(done);
        return Ok(Outcome::Well);
    }
    say(printable(&format!("{}: {}, {}", text(&done, "incident"), text(&done, "action"), text(&done, "outcome"))));
    Ok(Outcome::Well)
}

pub(super) async fn silence(args: Silence, config: &Config) -> Result<Outcome, Fault> {
    let mut wish = asked(&args.what)?;
    if wish.contains_key("match") && args.length.is_none() && args.until.is_none() {
        return Err(Fault::new("a silence of alerts that match needs an end", "add --for 4h, or --until with a time"));
    }
    for (key, value) in [("for", args.length), ("until", args.until)] {
        wish.extend(value.map(|value| (key.to_owned(), json!(value))));
    }
    let silence: Value = asking::post_json(config, "/api/v1/silences", &Value::Object(wish)).await?;
    if args.json {
        say(silence);
        return Ok(Outcome::Well);
    }
    let about = match silence["of"]["incident"].as_str() {
        Some(incident) => incident.to_owned(),
        None => format!("alerts of {}", args.what.join(" ")),
    };
    let back = silence["of"]["incident"].as_str().unwrap_or_else(|| text(&silence, "id"));
    say(printable(&format!("{about}: {}", silenced(&silence))));
    say(covering(silence["firing_alerts"].as_u64().unwrap_or_default()));
    if let Some(warning) = silence["warning"].as_str() {
        say(printable(&format!("warning: {warning}")));
    }
    say(printable(&format!("streamgauge unsilence {back} ends it.")));
    Ok(Outcome::Well)
}

/// The incident, or the terms.
fn asked(what: &[String]) -> Result<Map<String, Value>, Fault> {
    let hint = "for example `streamgauge silence i12ab… --for 1h`, or `streamgauge silence rule=fallback-rate stage=extraction --for 4h`";
    let mut terms = Map::new();
    for word in what {
        match word.split_once('=') {
            Some((key, value)) if terms.insert(key.to_owned(), json!(value)).is_some() => {
                return Err(Fault::new(format!("`{key}` is there twice: both cannot hold"), hint));
            }
            Some(_) => {}
            None if what.len() == 1 => return Ok(Map::from_iter([("incident".to_owned(), json!(word))])),
            None => return Err(Fault::new(format!("`{word}` is no KEY=VALUE, and an incident stands alone"), hint)),
        }
    }
    Ok(Map::from_iter([("match".to_owned(), Value::Object(terms))]))
}

pub(super) async fn unsilence(args: Unsilence, config: &Config) -> Result<Outcome, Fault> {
    let came: Value = asking::delete(config, &format!("/api/v1/silences/{}", part(&args.id))).await?;
    if args.json {
        say(came);
        return Ok(Outcome::Well);
    }
    say(printable(&format!("{} is no longer silenced; it was silenced by {}", args.id, text(&came["ended"], "by"))));
    Ok(Outcome::Well)
}

/// `silenced by ann until 2026-01-05 10:00 UTC`
fn silenced(silence: &Value) -> String {
    let until = silence["until"].as_str().map_or_else(|| "it is resolved".to_owned(), minute);
    format!("silenced by {} until {until}", text(silence, "by"))
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn pairs(list: &Value) -> impl Iterator<Item = (&str, &str)> {
    list.as_array().into_iter().flatten().filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)))
}

fn part(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect()
}

/// `2026-01-05 10:00 UTC`
fn minute(text: &str) -> String {
    match Timestamp::parse(text).map(|at| at.to_string()) {
        Some(at) if at.len() >= 16 => format!("{} {} UTC", &at[..10], &at[11..16]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_silenced_is_one_incident_or_terms() {
        let asked = |words: &[&str]| match asked(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()) {
            Ok(wish) => Value::Object(wish).to_string(),
            Err(fault) => fault.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        assert_eq!(asked(&["i12"]), r#"{"incident":"i12"}"#);
        assert_eq!(asked(&["rule=a", "stage=b=c"]), r#"{"match":{"rule":"a","stage":"b=c"}}"#);
        assert_eq!(asked(&["i12", "rule=a"]), "`i12` is no KEY=VALUE, and an incident stands alone");
        assert_eq!(asked(&["rule=a", "rule=b"]), "`rule` is there twice: both cannot hold");
    }

    #[test]
    fn an_incident_is_three_lines_that_no_name_can_steer() {
        let incident = json!({ "id": "i12", "environment": "production", "firing": true, "severity": "critical", "rules": ["err\u{1b}[2Jors"],
            "group": [["stage", ""]], "summary": "error rate is 50 %", "began": "2026-11-23T10:00:30Z", "ended": null, "alerts": 3, "firing_alerts": 2,
            "acknowledged": { "by": "ann", "at": "2026-11-23T10:01:00Z" },
            "silenced": { "id": "s1", "of": { "incident": "i12" }, "by": "bob", "at": "2026-11-23T10:01:00Z", "until": null }, "cause": [] });
        let shown = |incident: &Value| lines(incident, 120, Paint::PLAIN);
        let mut one = incident.clone();
        one["firing_alerts"] = json!(1);
        assert!(shown(&one)[1].contains(" · 1 of 3 alerts fires · "), "{:?}", shown(&one));
        let lines = shown(&incident);
        assert_eq!(lines[0], "● err\u{fffd}[2Jors  production · (none)");
        let state = "  i12  since 2026-11-23 10:00 UTC · critical · 2 of 3 alerts fire · acknowledged by ann · silenced by bob until it is resolved";
        assert_eq!(lines[1], state);
        assert_eq!(lines[2], "  error rate is 50 %");
    }
}
