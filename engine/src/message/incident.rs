//! What an incident's message says, before it has a shape: for somebody who is woken by it and reads it on a phone.
//!
//! The order is that of the questions one asks: what and where, how bad, since when, whom it hits, why, and what one can do. Everything of others in it
//! is bounded and fit to stand among our words ([`super::words`]). Deliberately absent: Slack's blocks and limits, which are `slack/blocks.rs`'s, the
//! lines of its thread, which are `line.rs`'s, and all that calls say: an incident is told by rules, labels and numbers.

use super::address;
use super::sparkline::sparkline;
use super::words::{Words, cut, name, sentence};
use crate::standing;
use machine::incident::{Curve, Ends, Findings, Place, Seen};
use machine::{Hit, Observed, Reason};
use model::plan::{Action, Range, Severity};
use model::{Span, Timestamp, Unit, show};

/// Of a rule's name, a person's, and a place's, wherever they stand.
pub(super) const NAME_MAX: usize = 60;
pub(super) const PLACE_MAX: usize = 90;
/// Of what a rule says.
const SUMMARY_MAX: usize = 500;
/// Of a line about the cause, and how many there are.
const CAUSE_MAX: usize = 300;
const CAUSES_SHOWN: usize = 2;
/// Of any other value.
const VALUE_MAX: usize = 200;
/// Groups that a message lists: what a phone shows at once.
const GROUPS_SHOWN: usize = 6;
/// Watches whose values are told, those outside their range first.
const WATCHES_SHOWN: usize = 3;
/// What the rule's `fire` said beside the summary.
const LABELS_SHOWN: usize = 4;
/// Rules that are named.
const RULES_SHOWN: usize = 6;
/// Runs that a message leads to.
const RUNS_SHOWN: usize = 3;
/// Of a run's name in a link.
const RUN_MAX: usize = 20;
/// Of a link: a longer one is none, because half of one leads nowhere.
const LINK_MAX: usize = 600;
/// The rule's own actions: as many as a rule may have.
const ACTIONS_SHOWN: usize = 4;

/// An incident in words.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentMessage {
    /// Its id.
    pub incident: String,
    pub state: State,
    /// One line: state, severity, what and where.
    pub headline: String,
    /// What the rule that stands for it says.
    pub summary: Words,
    /// Label and value, the most urgent first; at most some twenty.
    pub facts: Vec<(String, Words)>,
    /// The most likely cause, at most a few lines; none where the evidence is weak.
    pub cause: Vec<String>,
    pub curve: Option<Curve>,
    /// The groups that it is about, where there are more than one.
    pub groups: Option<Groups>,
    /// A few runs that show it.
    pub runs: Vec<Link>,
    /// Its page.
    pub link: String,
    pub runbook: Option<Runbook>,
    /// What its rule offers to do, while it fires.
    pub actions: Vec<Offer>,
    /// All of it in short: for notifications, and for those who hear it.
    pub short: String,
    /// It may have been posted before.
    pub possible_repeat: bool,
}

/// What people can do with it follows from this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Firing {
        severity: Severity,
        acknowledged: bool,
        /// The id by which its silence is taken back, and whether that covers more than this incident.
        silenced: Option<Silencing>,
    },
    Over {
        /// Back where it is expected; else it ended some other way.
        resolved: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silencing {
    pub id: String,
    pub covers_more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// `12 groups`, or how many of them fire still.
    pub title: String,
    pub shown: Vec<String>,
    /// Further ones.
    pub more: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub label: String,
    pub url: String,
}

/// What to do, as its rule says: an address of the web, or words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runbook {
    Url(String),
    Words(String),
}

/// Something that the rule offers to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub alert_id: String,
    /// Its position among the rule's actions.
    pub number: usize,
    pub action: Action,
}

/// The words for an incident; links start with `public_url`, which has no slash at its end.
pub fn incident(seen: &Seen, public_url: &str, possible_repeat: bool) -> IncidentMessage {
    let now = latest(seen);
    let findings = seen.findings.as_ref();
    let headline = headline(seen);
    let summary = summary(seen);
    let facts = facts(seen, now);
    let cause: Vec<String> = findings.map(cause).unwrap_or_default();
    let short = short(&headline, &summary, &facts, &cause);
    let state = match seen.firing {
        true => State::Firing {
            severity: seen.severity,
            acknowledged: seen.acknowledged.is_some(),
            silenced: seen.silenced.as_ref().map(|silence| match &silence.of {
                machine::incident::Silenced::Incident(_) => Silencing { id: seen.id.clone(), covers_more: false },
                machine::incident::Silenced::Alerts(_) => Silencing { id: silence.id.clone(), covers_more: true },
            }),
        },
        false => State::Over { resolved: seen.end() == Some(Reason::Resolved) },
    };
    let offer = |(number, action): (usize, &Action)| Offer { alert_id: seen.lead.alert_id.clone(), number, action: action.clone() };
    IncidentMessage {
        incident: seen.id.clone(),
        state,
        headline,
        summary,
        facts,
        cause,
        curve: findings.and_then(|findings| findings.curve.clone()),
        groups: groups(seen),
        runs: findings.map(|findings| runs(findings, seen, public_url)).unwrap_or_default(),
        link: format!("{public_url}{}", address::incident(&seen.id)),
        runbook: seen.lead.runbook.as_deref().and_then(runbook),
        actions: seen.lead.actions.iter().enumerate().take(ACTIONS_SHOWN).filter(|_| seen.firing).map(offer).collect(),
        short,
        possible_repeat,
    }
}

/// The last that is known to have happened: beside it, times need no day.
fn latest(seen: &Seen) -> Timestamp {
    let said = seen.history.last().map(|entry| entry.at);
    said.into_iter().chain(seen.ended).fold(seen.lead.at, Timestamp::max)
}

/// `CRITICAL: invalid-json — extraction · openai`
fn headline(seen: &Seen) -> String {
    let severity = seen.severity.name().to_uppercase();
    let lasted = seen.lasted().map(standing::about).unwrap_or_default();
    let state = match (seen.firing, seen.end()) {
        (true, _) => match (&seen.silenced, &seen.acknowledged) {
            (Some(_), _) => format!("{severity}, silenced"),
            (None, Some(by)) => format!("{severity}, acknowledged by {}", name(&by.by, 30)),
            (None, None) => severity,
        },
        (false, Some(Reason::WentQuiet)) => "NO DATA".to_owned(),
        (false, Some(Reason::RuleChanged)) => "RULE CHANGED".to_owned(),
        (false, Some(Reason::Adopted)) => "ADOPTED".to_owned(),
        (false, Some(_)) => format!("RESOLVED after {lasted}"),
        // Nothing shorter is true of all of it.
        (false, None) => format!("ENDED after {lasted}"),
    };
    format!("{state}: {}", what_and_where(seen))
}

/// `invalid-json — extraction · openai`; of several rules how many, and what all have in common.
pub(super) fn what_and_where(seen: &Seen) -> String {
    let what = match &seen.rules[..] {
        [] => name(&seen.lead.rule, NAME_MAX),
        [rule] => name(rule, NAME_MAX),
        rules => format!("{} rules", rules.len()),
    };
    format!("{what} — {}", whereabouts(seen))
}

fn whereabouts(seen: &Seen) -> String {
    let relevant = relevant(seen);
    if let [] | [_] = relevant[..] {
        return place(&seen.lead.group, of_runs(seen));
    }
    let common = shared(&relevant);
    let cause = || seen.findings.iter().flat_map(|findings| &findings.common).cloned().collect::<Vec<_>>();
    let common = if common.is_empty() { cause() } else { common };
    let groups = if seen.rules.len() > 1 { String::new() } else { count(u64::from(firing_or_all(seen)), "group") };
    match (common.is_empty(), groups.is_empty()) {
        (true, true) => name(&seen.environment, NAME_MAX),
        (true, false) => groups,
        (false, true) => place(&common, false),
        (false, false) => format!("{}, {groups}", place(&common, false)),
    }
}

/// Those that fire, or all where none does.
fn relevant(seen: &Seen) -> Vec<&Place> {
    seen.places.iter().filter(|place| place.firing || !seen.firing).collect()
}

fn firing_or_all(seen: &Seen) -> u32 {
    if seen.firing { seen.firing_alerts } else { seen.alerts }
}

/// What the groups of all these have in common.
fn shared(places: &[&Place]) -> Vec<(String, String)> {
    let Some((first, rest)) = places.split_first() else { return Vec::new() };
    first.group.iter().filter(|pair| !pair.1.is_empty() && rest.iter().all(|place| place.group.contains(pair))).cloned().collect()
}

/// `extraction · openai`, each label with its share of the room.
pub(super) fn place(group: &[(String, String)], runs: bool) -> String {
    let most = (PLACE_MAX / group.len().max(1)).clamp(12, NAME_MAX);
    let fit: Vec<_> = group.iter().map(|(key, label)| (key.clone(), name(label, most))).collect();
    cut(&standing::place_among(&fit, runs), PLACE_MAX)
}

fn of_runs(seen: &Seen) -> bool {
    let observed = &seen.lead.observed;
    !observed.is_empty() && observed.iter().all(|observed| observed.of_what == "runs")
}

fn summary(seen: &Seen) -> Words {
    let own = sentence(&seen.lead.summary, SUMMARY_MAX);
    // Of several rules it says whose words these are.
    let own = match seen.rules.len() {
        0 | 1 => own,
        _ if own.is_empty() => own,
        _ => format!("{}: {own}", name(&seen.lead.rule, NAME_MAX)),
    };
    let end = match (seen.firing, seen.end()) {
        (true, _) => return own.into(),
        (false, Some(Reason::WentQuiet)) => "No calls for a day: nothing can be said about it any more.".to_owned(),
        (false, Some(Reason::RuleChanged)) => "The rule was changed or removed while it was firing; it starts anew.".to_owned(),
        (false, Some(Reason::Adopted)) => "Adopted as the new normal: the range starts from what it showed.".to_owned(),
        (false, Some(_)) => "Back where it is expected.".to_owned(),
        (false, None) => format!("Of its {}: {}.", count(u64::from(seen.alerts), "alert"), ends(seen)),
    };
    let was = if own.is_empty() { own } else { format!(" It was: {own}") };
    format!("{end}{was}").into()
}

/// `2 are back where they are expected, 1 was adopted as the new normal`
pub(super) fn ends(seen: &Seen) -> String {
    let one = |Ends { reason, alerts }: &Ends| {
        let (one, many) = match reason {
            Reason::WentQuiet => ("had no calls for a day", "had no calls for a day"),
            Reason::RuleChanged => ("ended because its rule was changed or removed", "ended because their rule was changed or removed"),
            Reason::Adopted => ("was adopted as the new normal", "were adopted as the new normal"),
            Reason::Resolved | Reason::Fired | Reason::Repeated => ("is back where it is expected", "are back where they are expected"),
        };
        format!("{} {}", show::number(f64::from(*alerts)), if *alerts == 1 { one } else { many })
    };
    seen.ends.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn facts(seen: &Seen, now: Timestamp) -> Vec<(String, Words)> {
    let lead = &seen.lead;
    let mut facts = values(seen);
    facts.push(("Since".to_owned(), since(seen, now)));
    if let Some(hit) = seen.findings.as_ref().and_then(hit) {
        facts.push(("Hit".to_owned(), hit.into()));
    }
    if !lead.hit.is_empty() && seen.firing {
        facts.push(("Worst hit".to_owned(), worst_hit(&lead.hit, lead.group.len()).into()));
    }
    facts.push(("Where".to_owned(), keyed(seen).into()));
    if seen.rules.len() > 1 {
        facts.push(("Rules".to_owned(), listed(seen.rules.iter().map(|rule| name(rule, NAME_MAX)), RULES_SHOWN, seen.rules.len()).into()));
    }
    for (label, value) in lead.labels.iter().take(LABELS_SHOWN) {
        facts.push((titled(label), sentence(value, VALUE_MAX).into()));
    }
    if let Some(silence) = seen.silenced.as_ref().filter(|_| seen.firing) {
        let by = Words::from(format!("by {}", name(&silence.by, NAME_MAX)));
        let until = match (silence.until, &silence.of) {
            (Some(until), _) => by.text(" until ").moment(until, now),
            (None, machine::incident::Silenced::Incident(_)) => by.text(" until it is resolved"),
            (None, machine::incident::Silenced::Alerts(_)) => by.text(" until somebody takes it back"),
        };
        facts.push(("Silenced".to_owned(), until));
    }
    if let Some(by) = &seen.acknowledged {
        facts.push(("Acknowledged".to_owned(), Words::from(format!("by {} at ", name(&by.by, NAME_MAX))).moment(by.at, now)));
    }
    if seen.returned > 0 {
        facts.push(("Came back".to_owned(), times(seen.returned).into()));
    }
    if let Some(owner) = lead.owner.as_deref().filter(|owner| !owner.trim().is_empty()) {
        facts.push(("Owner".to_owned(), name(owner, NAME_MAX).into()));
    }
    facts.retain(|(_, words)| !words.parts().is_empty());
    facts
}

/// What is seen, against what is expected.
fn values(seen: &Seen) -> Vec<(String, Words)> {
    let lead = &seen.lead;
    if !seen.firing {
        let Some((worst, observed)) = lead.worst.as_ref().zip(lead.observed.first()) else { return Vec::new() };
        let Some(value) = worst.value else { return Vec::new() };
        let expected = worst.expected.or(observed.observation.expected);
        return vec![("At worst".to_owned(), against(&shown(&observed.unit, value), value, &observed.unit, expected).into())];
    }
    let ranks = |observed: &Observed| observed.what.starts_with("top ");
    let one = lead.observed.iter().filter(|observed| !ranks(observed)).count() <= 1;
    let mut observed: Vec<&Observed> = lead.observed.iter().filter(|observed| !ranks(observed) || !observed.observation.top.is_empty()).collect();
    observed.sort_by_key(|observed| observed.observation.drifted.is_none() && observed.observation.drift.is_none());
    let curve = seen.findings.as_ref().and_then(|findings| findings.curve.as_ref());
    let mut facts = Vec::new();
    for (number, observed) in observed.into_iter().take(WATCHES_SHOWN).enumerate() {
        let seen_then = &observed.observation;
        let label = if one && !ranks(observed) { "Now".to_owned() } else { titled(&observed.watch) };
        let then = cut(&told(observed), VALUE_MAX);
        // What the curve shows is newer than what the alert was told with, once some time has passed.
        let newer = curve.filter(|curve| number == 0 && curve.what == observed.what).and_then(|curve| curve.points.last());
        let newer = newer.filter(|(at, _)| at.since(lead.at) > Span::from_secs(60)).and_then(|(_, value)| *value);
        let words = match (newer, seen_then.value) {
            (Some(value), _) => {
                let text = against(&shown(&observed.unit, value), value, &observed.unit, seen_then.expected);
                format!("{text}; it was {then} when it was told")
            }
            (None, Some(value)) => against(&then, value, &observed.unit, seen_then.expected),
            (None, None) => then,
        };
        facts.push((label, words.into()));
    }
    facts
}

/// `8.2 % (41 of 500 calls in 5m)`
fn told(observed: &Observed) -> String {
    let of_what = name(&observed.of_what, NAME_MAX);
    let window = name(&observed.window, NAME_MAX);
    let seen = &observed.observation;
    let Some(value) = seen.value else { return format!("too few {of_what} in {window}") };
    if let Some(first) = seen.top.first() {
        return format!(
            "{} {} ({} of all) in {window}",
            name(&first.label, NAME_MAX),
            shown(&observed.unit, first.value),
            show::percent(first.share)
        );
    }
    let calls = show::number(seen.calls as f64);
    match observed.unit {
        Unit::Share => format!("{} ({} of {calls} {of_what} in {window})", show::percent(value), show::number(seen.holds as f64)),
        _ => format!("{} ({calls} {of_what} in {window})", shown(&observed.unit, value)),
    }
}

/// `8.2 %, above the expected 0.2 % to 1.1 %`
fn against(text: &str, value: f64, unit: &Unit, expected: Option<Range>) -> String {
    let Some(expected) = expected else { return text.to_owned() };
    let side = match value {
        value if value > expected.high => "above",
        value if value < expected.low => "below",
        _ => "within",
    };
    format!("{text}, {side} the expected {}", range(unit, expected))
}

/// `0.2 % to 1.1 %`, or the one end that it has.
pub(super) fn range(unit: &Unit, range: Range) -> String {
    match (range.low.is_finite(), range.high.is_finite()) {
        (true, true) => format!("{} to {}", shown(unit, range.low), shown(unit, range.high)),
        (true, false) => format!("{} or more", shown(unit, range.low)),
        (false, true) => format!("{} or less", shown(unit, range.high)),
        (false, false) => "anything".to_owned(),
    }
}

/// A value for people, whatever it is.
pub(super) fn shown(unit: &Unit, value: f64) -> String {
    /// Beyond, no value of ours is a measurement.
    const MOST: f64 = 1e15;
    if value.abs() < MOST { name(&unit.show(value), NAME_MAX) } else { format!("{value:e}") }
}

/// `14:02 UTC, give or take 2m`, and its end.
fn since(seen: &Seen, now: Timestamp) -> Words {
    let began = Words::default().moment(seen.began, now);
    if let Some(ended) = seen.ended {
        return began.text(" until ").moment(ended, now);
    }
    let drift = seen.lead.observed.iter().find_map(|observed| observed.observation.drift);
    let either_way = drift.filter(|drift| drift.since == seen.began).map(|drift| {
        let (earliest, latest) = drift.since_between;
        drift.since.since(earliest).max(latest.since(drift.since))
    });
    match either_way.filter(|either_way| *either_way >= Span::from_secs(60)) {
        Some(either_way) => began.text(&format!(", give or take {}", standing::about(either_way))),
        None => began,
    }
}

/// `1,234 calls, 310 runs, 57 users; cost $1.23`
pub(super) fn hit(findings: &Findings) -> Option<String> {
    let counts = [(findings.calls, "call"), (findings.runs, "run"), (findings.users, "user")];
    let counts: Vec<_> = counts.into_iter().filter_map(|(number, what)| Some(count(number?, what))).collect();
    let cost = findings.cost_usd.filter(|cost| cost.is_finite() && *cost > 0.0).map(|cost| format!("cost {}", shown(&Unit::Dollars, cost)));
    match (counts.is_empty(), cost) {
        (true, cost) => cost,
        (false, Some(cost)) => Some(format!("{}; {cost}", counts.join(", "))),
        (false, None) => Some(counts.join(", ")),
    }
}

/// `openai · gpt-4o (41 of 160), …`: without the labels that the place names anyway.
fn worst_hit(hit: &[Hit], above: usize) -> String {
    let one = |hit: &Hit| {
        let labels: Vec<_> = hit.labels.iter().skip(above).map(|label| (String::new(), label.to_string())).collect();
        format!("{} ({} of {})", place(&labels, false), show::number(hit.holds as f64), show::number(hit.calls as f64))
    };
    listed(hit.iter().map(one), super::HIT_SHOWN, hit.len())
}

/// `production: stage extraction, provider openai`
fn keyed(seen: &Seen) -> String {
    let relevant = relevant(seen);
    let group = if relevant.len() > 1 { shared(&relevant) } else { seen.lead.group.clone() };
    let pairs = group.iter().map(|(key, label)| format!("{} {}", name(key, NAME_MAX).replace('_', " "), name(label, NAME_MAX)));
    let environment = name(&seen.environment, NAME_MAX);
    if group.is_empty() { environment } else { cut(&format!("{environment}: {}", listed(pairs, RULES_SHOWN, group.len())), 2 * VALUE_MAX) }
}

fn cause(findings: &Findings) -> Vec<String> {
    // The label says so already.
    let own = |line: &String| sentence(line.strip_prefix("Most likely cause: ").unwrap_or(line), CAUSE_MAX);
    findings.cause.iter().map(own).filter(|line| !line.is_empty()).take(CAUSES_SHOWN).collect()
}

fn groups(seen: &Seen) -> Option<Groups> {
    if seen.alerts < 2 {
        return None;
    }
    let several = seen.rules.len() > 1;
    let one = |one: &Place| {
        let ended = if one.firing || !seen.firing { "" } else { " (ended)" };
        format!("{}{ended}", named_place(one, several))
    };
    let shown: Vec<_> = seen.places.iter().take(GROUPS_SHOWN).map(one).collect();
    let all = count(u64::from(seen.alerts), if several { "alert" } else { "group" });
    let title = if seen.firing && seen.firing_alerts < seen.alerts {
        format!("{all}, {} still firing", show::number(f64::from(seen.firing_alerts)))
    } else {
        all
    };
    let more = seen.alerts.saturating_sub(shown.len() as u32);
    Some(Groups { title, shown, more })
}

/// `extraction · openai`, with the rule where there are several.
pub(super) fn named_place(one: &Place, several: bool) -> String {
    let place = place(&one.group, false);
    if several { format!("{}: {place}", name(&one.rule, NAME_MAX)) } else { place }
}

fn runs(findings: &Findings, seen: &Seen, public_url: &str) -> Vec<Link> {
    let link = |event_id: &str| Link { label: name(event_id, RUN_MAX), url: format!("{public_url}{}", address::run(&seen.environment, event_id)) };
    let named = findings.examples.iter().filter(|example| !example.event_id.is_empty());
    named.map(|example| link(&example.event_id)).filter(|link| link.url.len() <= LINK_MAX).take(RUNS_SHOWN).collect()
}

fn runbook(text: &str) -> Option<Runbook> {
    let url = url::Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    match url.map(|url| url.to_string()).filter(|url| url.len() <= LINK_MAX) {
        Some(url) => Some(Runbook::Url(url)),
        None => Some(sentence(text, VALUE_MAX)).filter(|text| !text.is_empty()).map(Runbook::Words),
    }
}

fn short(headline: &str, summary: &Words, facts: &[(String, Words)], cause: &[String]) -> String {
    // The value stands first, where there is one.
    let until_since = facts.iter().position(|(label, _)| label == "Since").unwrap_or_default();
    let fact = |(label, words): &(String, Words)| format!("{label}: {words}");
    let value = facts.first().filter(|_| until_since > 0).map(fact);
    let since = facts.get(until_since).map(fact);
    let cause = cause.first().map(|line| format!("Most likely cause: {line}"));
    let parts = [Some(headline.to_owned()), Some(summary.to_string()), value, since, cause];
    let parts: Vec<_> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

/// The first of these, and how many there are beside them.
fn listed(items: impl Iterator<Item = String>, most: usize, all: usize) -> String {
    let shown = items.take(most).collect::<Vec<_>>().join(", ");
    if all > most { format!("{shown} and {} more", all - most) } else { shown }
}

/// `1 group`, `1,234 calls`
pub fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", show::number(number as f64), if number == 1 { "" } else { "s" })
}

/// The word that goes with a number: `1 of 9 calls is bad`, `2 of 9 calls are bad`.
pub fn agreeing(number: u64, one: &'static str, more: &'static str) -> &'static str {
    if number == 1 { one } else { more }
}

fn times(times: u32) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

fn titled(key: &str) -> String {
    super::title(&name(key, NAME_MAX))
}

/// The message as a terminal shows it, like Slack's.
pub fn for_terminal(message: &IncidentMessage, channel: &str, colours: bool) -> String {
    let (code, mark) = match &message.state {
        State::Firing { silenced: Some(_), .. } => ("90", "○"),
        State::Firing { acknowledged: true, .. } => ("36", "●"),
        State::Firing { severity: Severity::Critical, .. } => ("31", "●"),
        State::Firing { severity: Severity::Warning, .. } => ("33", "●"),
        State::Firing { severity: Severity::Info, .. } => ("34", "●"),
        State::Over { resolved: true } => ("32", "✔"),
        State::Over { resolved: false } => ("90", "○"),
    };
    let paint = |text: &str, code: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let bar = paint("▌", code);
    let mut facts: Vec<(&str, String)> = message.facts.iter().map(|(label, words)| (label.as_str(), words.to_string())).collect();
    let mut labels = ["Cause", ""].into_iter();
    facts.extend(message.cause.iter().map(|line| (labels.next().unwrap_or_default(), line.clone())));
    if let Some((line, said)) = message.curve.as_ref().and_then(sparkline) {
        facts.push(("Curve", line));
        facts.push(("", said.to_string()));
    }
    if let Some(groups) = &message.groups {
        let more = if groups.more > 0 { format!(", and {} more", show::number(f64::from(groups.more))) } else { String::new() };
        facts.push(("Groups", format!("{}: {}{more}", groups.title, groups.shown.join(", "))));
    }
    match &message.runbook {
        Some(Runbook::Url(text) | Runbook::Words(text)) => facts.push(("Runbook", text.clone())),
        None => {}
    }
    let width = facts.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = format!("  {}\n", paint(&format!("{channel}  streamgauge"), "90"));
    text += &format!("  {bar} {}\n", paint(&format!("{mark} {}", message.headline), &format!("1;{code}")));
    let summary = message.summary.to_string();
    if !summary.is_empty() {
        text += &format!("  {bar} {summary}\n");
    }
    for (label, value) in facts {
        text += &format!("  {bar} {}{}  {value}\n", paint(label, "90"), " ".repeat(width - label.chars().count()));
    }
    for (run, label) in message.runs.iter().zip(["Runs", "", ""]) {
        text += &format!("  {bar} {}{}  {}\n", paint(label, "90"), " ".repeat(width.saturating_sub(label.len())), paint(&run.url, "4"));
    }
    text += &format!("  {bar} {}\n", paint(&message.link, "4"));
    if message.possible_repeat {
        text += &format!("  {bar} {}\n", paint("This may be a repeat: the connection broke before Slack confirmed it.", "3"));
    }
    text
}
