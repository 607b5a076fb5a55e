//! What a notification says to a person, before it has a shape: the same words go to Slack, to the terminal and to the page.
//!
//! A single alert's are here; an incident's, and the lines of its thread, in `message/`.

pub mod address;
mod incident;
mod line;
mod sparkline;
pub mod words;

pub use incident::{
    Groups, IncidentMessage, Link, Offer, Runbook, Silencing, State, agreeing, count, for_terminal as incident_for_terminal, incident,
};
pub use line::{line, said};
pub use sparkline::sparkline;

use crate::standing;
use machine::{Hit, Notification, Observed, Reason};
use model::plan::Severity;
use model::window::{Drift, Ranked};
use model::{Span, Timestamp, Unit, show};

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub colour: Colour,
    /// One line: state, severity, rule and where.
    pub headline: String,
    /// One sentence: what.
    pub summary: String,
    /// Label and value: where, value, expected, since, how much, how sure.
    pub fields: Vec<(String, String)>,
    pub runbook: Option<String>,
    /// Where to look further.
    pub link: String,
    /// The alert's id, so that people and machines can name it.
    pub alert_id: String,
    /// It may have been posted before.
    pub possible_repeat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Red,
    Orange,
    Blue,
    Green,
    Grey,
}

/// The words for `notification`; links start with `public_url`.
pub fn compose(notification: &Notification, public_url: &str, possible_repeat: bool) -> Message {
    let place = standing::place_among(&notification.group, !notification.observed.is_empty() && notification.observed.iter().all(of_runs));
    let (colour, state) = match (notification.reason, notification.severity) {
        (Reason::Fired | Reason::Repeated, Severity::Critical) => (Colour::Red, "CRITICAL"),
        (Reason::Fired | Reason::Repeated, Severity::Warning) => (Colour::Orange, "WARNING"),
        (Reason::Fired | Reason::Repeated, Severity::Info) => (Colour::Blue, "INFO"),
        (Reason::Resolved, _) => (Colour::Green, "RESOLVED"),
        (Reason::WentQuiet, _) => (Colour::Grey, "NO DATA"),
        (Reason::RuleChanged, _) => (Colour::Grey, "RULE CHANGED"),
        (Reason::Adopted, _) => (Colour::Grey, "ADOPTED"),
    };
    let summary = match notification.reason {
        Reason::Fired => notification.summary.clone(),
        Reason::Repeated => format!("Still so after {}: {}", notification.at.since(notification.fired), notification.summary),
        Reason::Resolved => format!("Back in range after {}.", notification.at.since(notification.fired)),
        Reason::WentQuiet => "No calls for a day: nothing can be said about this group any more.".to_owned(),
        Reason::RuleChanged => "The rule was changed or removed while this alert was firing; it starts anew.".to_owned(),
        Reason::Adopted => "Adopted as the new normal: this alert ends, and the range starts from what it showed.".to_owned(),
    };
    let mut fields = vec![("Environment".to_owned(), notification.environment.clone())];
    fields.extend(notification.group.iter().map(|(key, label)| (title(key), if label.is_empty() { "(none)".to_owned() } else { label.clone() })));
    // A ranking beside the one value says more of it, under its own name.
    let ranks = |observed: &Observed| observed.what.starts_with("top ");
    let values = notification.observed.iter().filter(|observed| !ranks(observed)).count();
    // What is over is shown for long: its last window still held much of what was wrong.
    let seen = match notification.reason {
        Reason::Fired | Reason::Repeated => "Now",
        Reason::Resolved | Reason::RuleChanged | Reason::Adopted => "When it ended",
        Reason::WentQuiet => "When last seen",
    };
    for observed in &notification.observed {
        let beside = values > 0 && ranks(observed);
        if beside && observed.observation.top.is_empty() {
            continue;
        }
        let name = if notification.observed.len() == 1 || values == 1 && !beside { seen } else { &observed.watch };
        fields.push((name.to_owned(), value(observed)));
        if let Some(range) = observed.observation.expected {
            fields.push(("Expected".to_owned(), format!("{} to {}", observed.unit.show(range.low), observed.unit.show(range.high))));
        }
    }
    fields.extend(notification.labels.iter().map(|(name, value)| (title(name), value.clone())));
    let drifted = notification.observed.iter().find_map(|observed| Some((observed, observed.observation.drift?)));
    match (notification.reason, drifted) {
        (Reason::Fired | Reason::Repeated, Some((observed, drift))) => {
            let named = notification.group.len();
            fields.extend(facts(&observed.what, &observed.unit, &observed.of_what, &drift, &notification.hit, named, notification.at));
        }
        (Reason::Fired | Reason::Repeated, None) => fields.push(("Since".to_owned(), moment(notification.began, Some(notification.at)))),
        _ => {
            fields.push(("Began".to_owned(), moment(notification.since(), Some(notification.at))));
            if let (Some(worst), Some(observed)) = (notification.worst.as_ref().and_then(|seen| seen.value), notification.observed.first()) {
                fields.push(("At worst".to_owned(), observed.unit.show(worst)));
            }
        }
    }
    // Who is to be asked belongs to the end.
    fields.extend(notification.owner.iter().map(|owner| ("Owner".to_owned(), owner.clone())));
    Message {
        colour,
        headline: format!("{state}: {} — {place}", notification.rule),
        summary,
        fields,
        runbook: notification.runbook.clone(),
        link: format!("{public_url}/alerts/{}", notification.alert_id),
        alert_id: notification.alert_id.clone(),
        possible_repeat,
    }
}

fn of_runs(observed: &Observed) -> bool {
    observed.of_what == "runs"
}

fn title(key: &str) -> String {
    let mut characters = key.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect::<String>().replace('_', " ")).unwrap_or_default()
}

/// `8.2 % (41 of 500 calls in 5m)`
fn value(observed @ Observed { unit, of_what, window, observation: seen, .. }: &Observed) -> String {
    let Some(value) = seen.value else { return format!("too few {} in {window}", if of_runs(observed) { "runs" } else { "calls" }) };
    match unit {
        Unit::Share => {
            format!("{} ({} of {} {of_what} in {window})", show::percent(value), show::number(seen.holds as f64), show::number(seen.calls as f64))
        }
        _ if !seen.top.is_empty() => {
            let first = |ranked: &Ranked| format!("{} {} ({} of all)", ranked.label, unit.show(ranked.value), show::percent(ranked.share));
            format!("{} in {window}", seen.top.iter().take(TOP_SHOWN).map(first).collect::<Vec<_>>().join(", "))
        }
        _ => format!("{} ({} {of_what} in {window})", unit.show(value), show::number(seen.calls as f64)),
    }
}

/// Labels of a ranking that a message names.
const TOP_SHOWN: usize = 3;

/// What is known of a drift: since when, how much, where below the `named` labels, and how sure.
pub fn facts(what: &str, unit: &Unit, of_what: &str, drift: &Drift, hit: &[Hit], named: usize, now: Timestamp) -> Vec<(String, String)> {
    let mut facts = vec![("Since".to_owned(), since(drift, now)), ("Since then".to_owned(), size(what, unit, of_what, drift))];
    if !hit.is_empty() {
        facts.push(("Worst hit".to_owned(), worst_hit(hit, named)));
    }
    facts.push(("Evidence".to_owned(), proof(drift.log_evidence, drift.log_needed)));
    facts
}

/// How sure it is. What has not enough alone fires by what left its range with it, or as what explains the roll-up that has enough.
fn proof(log_evidence: f64, log_needed: f64) -> String {
    let against = format!("{} against {} needed", evidence(log_evidence), evidence(log_needed));
    if log_evidence < log_needed { format!("{against} alone; enough {TOGETHER}") } else { against }
}

/// What made up for evidence that would not have been enough alone.
pub const TOGETHER: &str = "together with the others";

/// Groups that a message names.
const HIT_SHOWN: usize = 4;

/// `openai · gpt-4o (41 of 160), …`: without the labels that the message names anyway.
fn worst_hit(hit: &[Hit], above: usize) -> String {
    let one = |hit: &Hit| {
        let labels: Vec<_> = hit.labels.iter().skip(above).map(|label| if label.is_empty() { "(none)" } else { label.as_str() }).collect();
        format!("{} ({} of {})", labels.join(" · "), show::number(hit.holds as f64), show::number(hit.calls as f64))
    };
    let shown = hit.iter().take(HIT_SHOWN).map(one).collect::<Vec<_>>().join(", ");
    if hit.len() > HIT_SHOWN { format!("{shown} and {} more", hit.len() - HIT_SHOWN) } else { shown }
}

/// How much it is since it began: `about 8 %, 41 of 500 calls; usually 0.3 %`.
fn size(what: &str, unit: &Unit, of_what: &str, drift: &Drift) -> String {
    let counts = format!("{} of {}", show::number(drift.holds as f64), show::number(drift.calls as f64));
    let usually = show::percent(drift.usual);
    match drift.beyond {
        Some(beyond) => {
            let beyond = unit.show(beyond);
            format!("about {} of {of_what} above {beyond} ({counts} {of_what}); usually {usually}", show::percent(drift.size))
        }
        None if what.ends_with(" count") => format!("about {} times the usual ({} since then)", factor(drift.size), show::number(drift.calls as f64)),
        None if what == "calls" => format!("about {} times the usual calls ({} since then)", factor(drift.size), show::number(drift.calls as f64)),
        None => format!("about {} ({counts} {}); usually {usually}", show::percent(drift.size), of_what),
    }
}

fn factor(factor: f64) -> String {
    if factor < 0.1 { format!("{factor:.2}") } else { format!("{factor:.1}") }
}

/// When it most likely began: `14:02 UTC, give or take 1m`.
pub fn since(drift: &Drift, now: Timestamp) -> String {
    let (earliest, latest) = drift.since_between;
    let either_way = drift.since.since(earliest).max(latest.since(drift.since));
    let began = moment(drift.since, Some(now));
    // To the minute is as exact as it is said.
    if either_way < Span::from_secs(60) { began } else { format!("{began}, give or take {}", standing::about(either_way)) }
}

/// `14:02 UTC`, with the day where it is not that of `now`.
pub fn moment(at: Timestamp, now: Option<Timestamp>) -> String {
    let text = at.to_string();
    let day = |text: &str| text.get(..10).unwrap_or_default().to_owned();
    let minute = text.get(11..16).unwrap_or_default();
    match now {
        Some(now) if day(&now.to_string()) == day(&text) => format!("{minute} UTC"),
        _ => format!("{} {minute} UTC", day(&text)),
    }
}

/// Evidence, given as its logarithm, with the two digits that matter: `1,300,000`.
pub fn evidence(log: f64) -> String {
    /// Where a number stops being read.
    const MANY: f64 = 1e9;
    let evidence = log.exp();
    if evidence >= MANY {
        return format!("10^{:.0}", log / std::f64::consts::LN_10);
    }
    let digits = 10f64.powf((evidence.max(1.0).log10().floor() - 1.0).max(0.0));
    show::number((evidence / digits).round() * digits)
}

/// The message as a terminal shows it: like Slack's, in at most 100 columns.
pub fn for_terminal(message: &Message, channel: &str, colours: bool) -> String {
    let (code, mark) = match message.colour {
        Colour::Red => ("31", "●"),
        Colour::Orange => ("33", "●"),
        Colour::Blue => ("34", "●"),
        Colour::Green => ("32", "✔"),
        Colour::Grey => ("90", "○"),
    };
    let paint = |text: &str, code: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let bar = paint("▌", code);
    let width = message.fields.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = format!("  {}\n", paint(&format!("{channel}  streamgauge"), "90"));
    text += &format!("  {bar} {}\n", paint(&format!("{mark} {}", message.headline), &format!("1;{code}")));
    text += &format!("  {bar} {}\n", message.summary);
    for (label, value) in &message.fields {
        text += &format!("  {bar} {}{}  {value}\n", paint(label, "90"), " ".repeat(width - label.chars().count()));
    }
    if let Some(runbook) = &message.runbook {
        text += &format!("  {bar} {}  {runbook}\n", paint("Runbook", "90"));
    }
    text += &format!("  {bar} {}\n", paint(&message.link, "4"));
    if message.possible_repeat {
        text += &format!("  {bar} {}\n", paint("This may be a repeat: the connection broke before Slack confirmed it.", "3"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::window::Observation;

    #[test]
    fn evidence_is_a_number_that_people_can_compare() {
        for (log, text) in [(0.0, "1"), (1.0, "3"), (11.4, "89,000"), (14.1, "1,300,000"), (40.0, "10^17")] {
            assert_eq!(evidence(log), text);
        }
    }

    #[test]
    fn evidence_that_is_not_enough_alone_is_told_with_why_it_fired() {
        assert_eq!(proof(3.7, 12.8), "40 against 360,000 needed alone; enough together with the others");
        assert_eq!(proof(12.8, 12.8), "360,000 against 360,000 needed");
    }

    #[test]
    fn a_moment_has_its_day_only_where_it_is_another_one() {
        let at = |text| Timestamp::parse(text).expect("it is a time");
        let (began, now, later) = (at("2026-11-22T14:02:30Z"), at("2026-11-22T14:10:00Z"), at("2026-11-23T00:01:00Z"));
        assert_eq!((moment(began, Some(now)), moment(began, Some(later))), ("14:02 UTC".to_owned(), "2026-11-22 14:02 UTC".to_owned()));
    }

    fn notification(what: &str, of_what: &str, group: serde_json::Value, drift: serde_json::Value, reason: &str) -> Notification {
        let seen = serde_json::json!({ "value": 0.082, "holds": 41, "calls": 500, "low": 0.06, "high": 0.11, "expected": { "low": 0.002, "high": 0.011 },
            "learning": false, "drifted": "up", "drift": drift, "top": [] });
        let unit = if what.ends_with(" rate") { serde_json::json!("share") } else { serde_json::json!("millis") };
        let body = serde_json::json!({ "id": "1-fired", "reason": reason, "at": "2026-11-22T14:20:00Z", "alert_id": "1", "rule": "fallback-rate",
            "severity": "warning", "environment": "production", "group": group, "summary": "It is more than usual.",
            "observed": [{ "watch": "value", "what": what, "unit": unit, "window": "5m", "of_what": of_what, "observation": seen }],
            "began": "2026-11-22T14:19:00Z", "fired": "2026-11-22T14:19:00Z", "worst": seen, "examples": [], "labels": [], "actions": [], "owner": null,
            "hit": [{ "labels": ["extraction", "openai"], "calls": 400, "holds": 38 }, { "labels": ["extraction", ""], "calls": 100, "holds": 3 }],
            "channel": null, "runbook": null });
        serde_json::from_value(body).expect("it is a notification")
    }

    fn shown(notification: &Notification) -> String {
        for_terminal(&compose(notification, "http://here", false), "#llm-alerts", false)
    }

    #[test]
    fn a_drift_is_told_with_its_place_its_beginning_its_size_and_its_proof() {
        let drift = |beyond: Option<f64>| {
            serde_json::json!({ "since": "2026-11-22T14:02:30Z", "since_between": ["2026-11-22T14:01:00Z", "2026-11-22T14:03:00Z"], "size": 0.08,
                "usual": 0.003, "beyond": beyond, "calls": 500, "holds": 41, "log_evidence": 14.1, "log_needed": 11.4 })
        };
        let stage = || serde_json::json!([["stage", "extraction"]]);
        assert_eq!(
            shown(&notification("fallback rate", "calls", stage(), drift(None), "fired")),
            "  #llm-alerts  streamgauge
  ▌ ● WARNING: fallback-rate — extraction
  ▌ It is more than usual.
  ▌ Environment  production
  ▌ Stage        extraction
  ▌ Now          8.2 % (41 of 500 calls in 5m)
  ▌ Expected     0.2 % to 1.1 %
  ▌ Since        14:02 UTC, give or take 2m
  ▌ Since then   about 8 % (41 of 500 calls); usually 0.3 %
  ▌ Worst hit    openai (38 of 400), (none) (3 of 100)
  ▌ Evidence     1,300,000 against 89,000 needed
  ▌ http://here/alerts/1
"
        );
        let slow = shown(&notification("p95 of latency_ms", "calls", serde_json::json!([]), drift(Some(4000.0)), "fired"));
        assert!(slow.contains("— all calls\n"), "{slow}");
        assert!(slow.contains("Since then   about 8 % of calls above 4.0 s (41 of 500 calls); usually 0.3 %\n"), "{slow}");
        assert!(slow.contains("extraction · openai (38 of 400)"), "{slow}");
        let runs = shown(&notification("p95 of run_latency_ms", "runs", serde_json::json!([]), drift(Some(4000.0)), "fired"));
        assert!(runs.contains("— all runs\n") && runs.contains("(500 runs in 5m)"), "{runs}");
        assert!(runs.contains("Since then   about 8 % of runs above 4.0 s (41 of 500 runs); usually 0.3 %\n"), "{runs}");
        let mut mostly = notification("schema_invalid rate", "answers with a schema", stage(), drift(None), "fired");
        let top = [("facts: /facts required", 34), ("facts: / type", 7)];
        let ranked = top.map(|(label, calls)| Ranked { label: label.into(), value: calls as f64, share: calls as f64 / 41.0, calls });
        mostly.observed.push(Observed {
            watch: "violation".to_owned(),
            what: "top violation by calls".to_owned(),
            unit: Unit::default(),
            observation: Observation { value: Some(34.0), holds: 41, calls: 41, top: ranked.to_vec(), ..Observation::default() },
            ..mostly.observed[0].clone()
        });
        let said = shown(&mostly);
        assert!(said.contains("Now          8.2 % (41 of 500 answers with a schema in 5m)\n"), "{said}");
        assert!(said.contains("violation    facts: /facts required 34 (83 % of all), facts: / type 7 (17 % of all) in 5m\n"), "{said}");
        mostly.observed[1].observation = Observation::default();
        assert!(!shown(&mostly).contains("violation"), "a ranking of nothing is not told");
        let adopted = shown(&notification("fallback rate", "calls", stage(), drift(None), "adopted"));
        assert!(adopted.contains("○ ADOPTED: fallback-rate — extraction\n") && adopted.contains("Began          14:02 UTC\n"), "{adopted}");
        for (reason, label) in
            [("resolved", "When it ended  8.2 % ("), ("adopted", "When it ended  8.2 % ("), ("went_quiet", "When last seen  8.2 % (")]
        {
            let ended = shown(&notification("fallback rate", "calls", stage(), drift(None), reason));
            assert!(ended.contains(label) && !ended.contains("Now "), "what is over is not now: {ended}");
        }
    }
}
