//! What people are answered, in Slack's markup: an incident in a line, why it is, a run, who spends most.
//!
//! Pure: from what is known to text. Whatever comes from calls, rules or people is escaped. Deliberately absent: the messages of incidents.

use super::answer::TEXT_MAX;
use super::command::Mistake;
use crate::error::Fault;
use crate::message::{address, agreeing, count};
use crate::runs::RunView;
use crate::slack::text::{code, date, escape, link};
use crate::standing::place;
use crate::subscriptions::Subscription;
use crate::why::Why;
use machine::incident::{Seen, Silence, Silenced};
use model::plan::Severity;
use model::{Timestamp, show};
use serde_json::Value;

/// Lines of a list; more is a page's business.
const LISTED_MAX: usize = 15;
/// Characters of what comes last in a list, each kind: incidents have the rest, and that is most of it.
const LAST_MAX: usize = 1_000;
/// Steps of a run that are shown.
const STEPS_MAX: usize = 15;
/// Of a name in a table.
const NAME_MAX: usize = 28;

pub const HELP: &str = "*What you can ask me*\n\
    `/streamgauge list` open incidents, silences, and what this channel hears of\n\
    `/streamgauge ack INCIDENT` you have it in hand\n\
    `/streamgauge silence INCIDENT 1h` or `until resolved`; also `silence rule=fallback-rate stage=extraction 4h`\n\
    `/streamgauge unsilence ID` an incident's id, or that of a silence\n\
    `/streamgauge why INCIDENT` what its calls tell of the cause\n\
    `/streamgauge subscribe severity>=warning environment=production` this channel hears of those alerts; also by `rule=…`, `stage=…` or any \
    other key of a rule's groups\n\
    `/streamgauge unsubscribe` the same words, or `all`\n\
    `/streamgauge trace EVENT_ID` a run, and where it began to go wrong\n\
    `/streamgauge top users 24h` who spends most\n\
    `/streamgauge status` is everything counted, and am I well?";

/// In the zone of whoever reads it.
pub fn when(at: Timestamp) -> String {
    date(at, None)
}

pub fn fault(fault: &Fault) -> String {
    let hint = fault.hint().map(|hint| format!("\nhint: {}", escape(hint))).unwrap_or_default();
    format!("That did not work: {}{hint}", escape(fault.what()))
}

pub fn mistake(mistake: &Mistake) -> String {
    format!("{}\n`/streamgauge help` shows all commands.", escape(&mistake.to_string()))
}

/// Where an incident is: `production · extraction · gpt-4o`.
fn whereabouts(seen: &Seen) -> String {
    let group = place(&seen.lead.group);
    if group.is_empty() || seen.alerts > 1 && seen.rules.len() > 1 { seen.environment.clone() } else { format!("{} · {group}", seen.environment) }
}

/// One incident in a line.
pub fn incident(seen: &Seen, public_url: &str) -> String {
    let mark = match (seen.firing, seen.severity) {
        (false, _) => "✅",
        (true, Severity::Critical) => "🔴",
        (true, Severity::Warning) => "🟠",
        (true, Severity::Info) => "🔵",
    };
    let more = if seen.rules.len() > 1 { format!(" and {}", count(seen.rules.len() as u64 - 1, "more rule")) } else { String::new() };
    let mut parts = vec![
        format!("{mark} {} *{}*{more} ({})", code(&seen.id), escape(&seen.lead.rule), seen.severity.name()),
        escape(&whereabouts(seen)),
        format!("since {}", when(seen.began)),
    ];
    if seen.alerts > 1 {
        let fire = agreeing(u64::from(seen.firing_alerts), "fires", "fire");
        parts.push(format!("{} of {} alerts {fire}", seen.firing_alerts, seen.alerts));
    }
    if let Some(acknowledged) = &seen.acknowledged {
        parts.push(format!("acknowledged by {}", escape(&acknowledged.by)));
    }
    if let Some(silence) = &seen.silenced {
        parts.push(format!("silenced by {} {}", escape(&silence.by), until(silence.until, "it is resolved")));
    }
    parts.push(link(&page_url(seen, public_url), "Open"));
    parts.join(" · ")
}

/// The page that an incident is on.
pub fn page_url(seen: &Seen, public_url: &str) -> String {
    format!("{public_url}{}", address::incident(&seen.id))
}

/// `until …`.
pub fn until(until: Option<Timestamp>, otherwise: &str) -> String {
    until.map_or_else(|| format!("until {otherwise}"), |until| format!("until {}", when(until)))
}

/// Nothing was changed, because nobody knows it any more.
pub fn unknown(name: &str) -> String {
    format!("I know of no incident {} any more; nothing was changed. {LISTS}", code(name))
}

/// The same of what was to change nothing.
pub fn nothing_to_explain(name: &str) -> String {
    format!("I know of no incident {} any more. {LISTS}", code(name))
}

/// The same of what may be either.
pub fn no_silence(name: &str) -> String {
    format!("I know of no silence and no incident {} any more; nothing was changed. {LISTS}", code(name))
}

const LISTS: &str = "`/streamgauge list` shows those that there are.";

/// What goes on silencing an incident, and the way out. `ended`: the incident's own silence is ended; else nothing was changed.
pub fn still_silenced(seen: &Seen, by: &Silence, ended: bool) -> String {
    let (incident, silence, of) = (code(&seen.id), code(&by.id), silenced(&by.of));
    let stands = match ended {
        true => format!(
            "The silence of {incident} alone is ended, and it stays silent by silence {silence} of {of}, which is about other alerts as well."
        ),
        false => format!("{incident} is silenced by silence {silence} of {of}, which is about other alerts as well; nothing was changed."),
    };
    format!("{stands} `/streamgauge unsilence {}` ends that one.", escape(&by.id))
}

/// Nothing was changed, because it is over.
pub fn over(seen: &Seen, public_url: &str) -> String {
    let ended = seen.ended.map(|ended| format!(" since {}", when(ended))).unwrap_or_default();
    let open = link(&page_url(seen, public_url), "Open");
    format!("{} is over{ended}: nothing of it fires any more, so nothing was changed. {open}", code(&seen.id))
}

/// What is silenced.
pub fn silenced(of: &Silenced) -> String {
    match of {
        Silenced::Incident(id) => code(id),
        Silenced::Alerts(terms) => terms.iter().map(|(key, value)| code(&format!("{key}={value}"))).collect::<Vec<_>>().join(" "),
    }
}

pub fn silence(silence: &Silence) -> String {
    let (of, until) = (silenced(&silence.of), until(silence.until, "somebody takes it back"));
    format!("🔕 {} of {of} {until}, by {}", code(&silence.id), escape(&silence.by))
}

pub fn subscription(subscription: &Subscription) -> String {
    format!("📣 {} · by {} {}", code(&subscription.filter.to_string()), escape(&subscription.by), when(subscription.at))
}

/// What is open, what is silent, and what the channel hears of, each with its share of the room: an answer has no more than [`TEXT_MAX`] characters.
pub fn list(open: &[Seen], silences: &[Silence], here: &[String], public_url: &str) -> String {
    let mut last = Vec::new();
    // What silences one incident stands there.
    let silences: Vec<String> = silences.iter().filter(|silence| matches!(silence.of, Silenced::Alerts(_))).map(self::silence).collect();
    if !silences.is_empty() {
        last.push("*Silences*".to_owned());
        listed(&mut last, silences.into_iter(), LAST_MAX, String::new());
    }
    last.push("*This channel hears of*".to_owned());
    if here.is_empty() {
        last.push("nothing by itself; `/streamgauge subscribe` changes that".to_owned());
    }
    listed(&mut last, here.iter().cloned(), LAST_MAX, String::new());
    let mut lines = vec![match open.len() {
        0 => "*Nothing is wrong*: no incident is open.".to_owned(),
        1 => "*One open incident*".to_owned(),
        many => format!("*{many} open incidents*"),
    }];
    let mut sorted: Vec<&Seen> = open.iter().collect();
    sorted.sort_by_key(|seen| (std::cmp::Reverse(seen.severity), seen.began));
    let room = TEXT_MAX - long(&lines) - long(&last);
    listed(
        &mut lines,
        sorted.into_iter().map(|seen| incident(seen, public_url)),
        room,
        format!(": {}", link(&format!("{public_url}/"), "all of them")),
    );
    lines.extend(last);
    lines.join("\n")
}

/// Characters of lines with their ends.
fn long(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count() + 1).sum()
}

/// Adds the first of these, whole, as many as there is room for, and says how many there are beside them and, with `where_else`, where.
fn listed(lines: &mut Vec<String>, mut items: impl ExactSizeIterator<Item = String>, room: usize, where_else: String) {
    let more = |number: usize| vec![format!("and {number} more{where_else}")];
    let all = items.len();
    let mut room = room.saturating_sub(long(&more(all)));
    for left in (1..=all).rev() {
        let item = items.next().filter(|item| all - left < LISTED_MAX && item.chars().count() < room);
        let Some(item) = item else { return lines.extend(more(left)) };
        room -= item.chars().count() + 1;
        lines.push(item);
    }
}

/// What an incident's calls tell.
pub fn why(seen: &Seen, found: Option<&Why>, public_url: &str) -> String {
    let mut lines = vec![format!("*Why {}* — {} in {}", code(&seen.id), escape(&seen.lead.rule), escape(&whereabouts(seen)))];
    let page = link(&page_url(seen, public_url), "Open");
    let Some(found) = found else {
        lines.push(format!("Single calls do not tell: a judge's rate, a volume, a whole run or a script's measure is no property of a call. {page}"));
        return lines.join("\n");
    };
    lines.extend(found.unexplained.map(escape));
    lines.extend(found.lines.iter().map(|line| format!("• {}", escape(line))));
    if let Some(cause) = found.beyond(seen) {
        lines.push("Looked at more widely, it is:".to_owned());
        lines.extend(cause.iter().map(|line| format!("• {}", escape(line))));
    }
    let (bad, calls) = (show::number(found.bad as f64), count(found.calls, "call"));
    let mut hit = vec![match seen.firing {
        true => format!("{bad} of {calls} {} bad since {}", agreeing(found.bad, "is", "are"), when(found.since)),
        false => format!("{bad} of {calls} {} bad from {} to {}", agreeing(found.bad, "was", "were"), when(found.since), when(found.until)),
    }];
    hit.extend(found.runs.map(|runs| count(runs, "run")));
    hit.extend(found.users.map(|users| count(users, "user")));
    if found.cost_usd > 0.0 {
        hit.push(format!("they cost {}", show::dollars(found.cost_usd)));
    }
    lines.push(hit.join(" · "));
    let times = [("where", found.bad_query.clone()), ("since", found.since.to_string()), ("until", found.until.to_string())];
    let search = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(times).finish();
    lines.push(format!("{page} · {}", link(&format!("{public_url}/search?{search}"), "The bad calls")));
    lines.join("\n")
}

/// A run step by step, as a table.
pub fn run(view: &RunView, elsewhere: &[String], public_url: &str) -> String {
    let mut facts = vec![
        format!("*Run {}*", code(&view.event_id)),
        escape(&view.environment),
        when(view.began),
        format!("{} in {}", count(view.calls as u64, "call"), show::millis(view.latency_ms as f64)),
    ];
    let counted = [(view.errors, "error", "errors"), (view.fallbacks, "fallback", "fallbacks"), (view.retries, "retry", "retries")];
    let counted = counted.iter().filter(|(times, ..)| *times > 0);
    facts.extend(counted.map(|(times, one, more)| format!("{times} {}", agreeing(*times as u64, one, more))));
    if view.cost_usd > 0.0 {
        facts.push(show::dollars(view.cost_usd));
    }
    let mut text = facts.join(" · ");
    if let Some(step) = view.first_bad.and_then(|at| view.steps.get(at)) {
        let wrong = if step.bad.is_empty() { step.recovered.join(", ") + ", made good" } else { step.bad.join(", ") };
        text += &format!("\nIt began at *{}*: {}", escape(crate::runs::step_name(&step.row)), escape(&wrong));
    }
    text += "\n```\n";
    for step in view.steps.iter().take(STEPS_MAX) {
        let mark = match (step.bad.is_empty(), step.recovered.is_empty()) {
            (false, _) => '✗',
            (true, false) => '~',
            (true, true) => ' ',
        };
        let name = format!("{}{}", "  ".repeat(step.depth.min(4)), crate::runs::step_name(&step.row));
        let model = step.row.text(index::Text::Model);
        let took = step.row.number(index::Number::LatencyMs).map_or("–".to_owned(), |millis| show::millis(millis as f64));
        let wrong = [step.bad.as_slice(), step.recovered.as_slice()].concat().join(", ");
        let line = format!("{mark} {:<NAME_MAX$} {:<22} {took:>8}  {wrong}", shortened(&name, NAME_MAX), shortened(model, 22));
        text += &escape(line.trim_end()).replace('`', "'");
        text.push('\n');
    }
    text += "```\n";
    if view.cut || view.steps.len() > STEPS_MAX {
        text += "There are more calls than are shown. ";
    }
    if !elsewhere.is_empty() {
        text += &format!("Also in {}: add environment=NAME. ", escape(&elsewhere.join(", ")));
    }
    text += &link(&format!("{public_url}{}", address::run(&view.environment, &view.event_id)), "Open");
    text
}

/// No longer than `most` characters, and nothing that breaks a line.
fn shortened(text: &str, most: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    if text.chars().count() <= most { clean.collect() } else { clean.take(most - 1).chain(['…']).collect() }
}

/// Who spends most; `table` is the costs' own text.
pub fn top(window: &str, table: &[String], hot: &[String], public_url: &str) -> String {
    let table = escape(&table.join("\n")).replace('`', "'");
    let mut text = format!("*Who spends most, {window} up to the latest call*\n```\n{table}\n```");
    for user in hot {
        text += &format!("\n🔥 {}", escape(user));
    }
    format!("{text}\n{}", link(&format!("{public_url}/costs"), "All costs"))
}

/// Whether everything is counted; `status` is the API's.
pub fn status(status: &Value, open: usize, socket: &str, public_url: &str) -> String {
    let number = |name: &str| show::number(status[name].as_u64().unwrap_or_default() as f64);
    let of = |section: &str, name: &str| show::number(status[section][name].as_u64().unwrap_or_default() as f64);
    let behind = match status["lag"].as_u64() {
        Some(0) => "nothing waits".to_owned(),
        lag => format!("{} {}", number("lag"), agreeing(lag.unwrap_or_default(), "waits", "wait")),
    };
    let received = count(status["received"].as_u64().unwrap_or_default(), "log");
    let ledger = if status["balances"] == true { "every one of them is accounted for" } else { "*the ledger does not balance*" };
    let incidents = if open == 1 { "1 incident is open".to_owned() } else { format!("{open} incidents are open") };
    let mut lines = vec![
        format!("*{incidents}*"),
        format!("{received} received, {} counted, {} malformed: {ledger}; {behind} in the source", number("counted"), number("malformed")),
        format!("outbox: {} waiting, {} sent, {} given up", of("outbox", "waiting"), of("outbox", "sent"), of("outbox", "failed")),
        format!("buttons and commands: {}", escape(socket)),
    ];
    let environments: Vec<String> = status["environments"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, own)| Some(format!("{} {}", escape(name), when(Timestamp::parse(own["clock"].as_str()?)?))))
        .take(LISTED_MAX)
        .collect();
    if !environments.is_empty() {
        lines.push(format!("clocks: {}", environments.join(" · ")));
    }
    lines.push(link(&format!("{public_url}/status"), "Open"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("it is a time")
    }

    /// An incident of so many rules and alerts, of which one fires.
    fn seen(number: usize, rules: usize, alerts: u32) -> Seen {
        let names: Vec<_> = ('a'..='z').take(rules).map(|letter| format!("rule-{letter}")).collect();
        let lead = json!({ "id": "1-fired", "reason": "fired", "at": "2026-11-22T10:00:00Z", "alert_id": "1", "rule": "rule-a", "severity": "warning",
            "environment": "production", "group": [["stage", "fact extraction"], ["model", "gpt-4o-2024-08-06"]], "summary": "x", "observed": [],
            "began": "2026-11-22T10:00:00Z", "fired": "2026-11-22T10:00:00Z", "worst": null, "examples": [], "labels": [], "actions": [],
            "owner": null, "hit": [], "channel": null, "runbook": null });
        let seen = json!({ "id": format!("i{number:016x}"), "environment": "production", "firing": true, "severity": "warning",
            "began": "2026-11-22T10:00:00Z", "ended": null, "acknowledged": { "by": "@ana", "at": "2026-11-22T10:01:00Z" }, "silenced": null,
            "returned": 0, "lead": lead, "places": [], "alerts": alerts, "firing_alerts": 1, "rules": names, "findings": null, "history": [] });
        serde_json::from_value(seen).expect("it is an incident")
    }

    fn silence_of(terms: &[(&str, &str)]) -> Silence {
        let terms = terms.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let until = Some(at("2026-11-22T14:00:00Z"));
        Silence { id: "s1ab".to_owned(), of: Silenced::Alerts(terms), by: "@ben".to_owned(), at: at("2026-11-22T10:00:00Z"), until }
    }

    fn calls_without_a_cause() -> Why {
        Why {
            calls_query: String::new(),
            bad_query: "error".to_owned(),
            since: at("2026-11-22T10:00:00Z"),
            until: at("2026-11-22T11:00:00Z"),
            calls: 9,
            bad: 2,
            runs: None,
            users: None,
            cost_usd: 0.0,
            top_users: Vec::new(),
            lines: Vec::new(),
            unexplained: Some(crate::why::UNEXPLAINED),
            across: None,
            along: None,
        }
    }

    #[test]
    fn a_list_has_room_for_all_its_parts_however_much_is_wrong() {
        let silence = silence_of(&[("rule", "errors"), ("stage", "extraction")]);
        for (incidents, silences, here) in [(0, 0, 0), (1, 1, 1), (15, 1, 2), (40, 40, 60), (3, 0, 60), (200, 1, 0)] {
            let what = format!("{incidents} incidents, {silences} silences, {here} subscriptions");
            let open: Vec<_> = (0..incidents).map(|number| seen(number, 3, 4)).collect();
            let here: Vec<_> = (0..here).map(|number| format!("📣 subscription {number}")).collect();
            let said = list(&open, &vec![silence.clone(); silences], &here, "https://gauge.example");
            assert!(said.chars().count() <= TEXT_MAX, "{what}: {} characters", said.chars().count());
            let shown = said.matches("|Open>").count();
            assert!(shown >= incidents.min(5), "{what}: {said}");
            let more = format!("and {} more: <https://gauge.example/|all of them>", incidents - shown);
            assert_eq!(said.contains(&more), shown < incidents, "{what}: {said}");
            assert_eq!(said.contains("*Silences*\n🔕 `s1ab` of `rule=errors`"), silences > 0, "{what}: {said}");
            let hears = if here.is_empty() { "nothing by itself" } else { "📣 subscription 0" };
            assert!(said.contains(&format!("*This channel hears of*\n{hears}")), "{what}: {said}");
        }
    }

    #[test]
    fn words_agree_with_their_numbers() {
        let line = |rules, alerts| incident(&seen(1, rules, alerts), "https://gauge.example");
        assert!(line(2, 2).contains("*rule-a* and 1 more rule (warning)") && line(2, 2).contains(" · 1 of 2 alerts fires · "), "{}", line(2, 2));
        assert!(line(3, 2).contains(" and 2 more rules (warning)"), "{}", line(3, 2));
        let found = |bad, calls, each| Why { calls, bad, runs: Some(each), users: Some(each), ..calls_without_a_cause() };
        let told = |seen: &Seen, found: &Why| why(seen, Some(found), "https://gauge.example").lines().nth(2).unwrap_or_default().to_owned();
        let began = "<!date^1795341600^{date_short_pretty} at {time}|2026-11-22 10:00 UTC>";
        assert_eq!(told(&seen(1, 1, 1), &found(1, 9, 1)), format!("1 of 9 calls is bad since {began} · 1 run · 1 user"));
        let mut over = seen(1, 1, 1);
        over.firing = false;
        let ended = "<!date^1795345200^{date_short_pretty} at {time}|2026-11-22 11:00 UTC>";
        assert_eq!(told(&over, &found(2, 9, 2)), format!("2 of 9 calls were bad from {began} to {ended} · 2 runs · 2 users"));
    }

    #[test]
    fn where_the_calls_of_the_alert_say_nothing_the_cause_of_its_incident_stands_there() {
        let mut of = seen(1, 1, 1);
        let found: Why = Why { unexplained: Some("All of this group is hit alike."), ..calls_without_a_cause() };
        assert!(!why(&of, Some(&found), "").contains("Looked at more widely"), "nothing was found there either");
        let cause = vec!["Most likely cause: model a<b".to_owned()];
        of.findings = Some(machine::incident::Findings { cause, ..Default::default() });
        let said = why(&of, Some(&found), "");
        assert!(said.contains("\nAll of this group is hit alike.\nLooked at more widely, it is:\n• Most likely cause: model a&lt;b\n"), "{said}");
        let clear = Why { lines: vec!["Most likely cause: provider google".to_owned()], unexplained: None, ..found };
        let said = why(&of, Some(&clear), "");
        assert!(said.contains("\n• Most likely cause: provider google\n") && !said.contains("more widely"), "{said}");
    }

    #[test]
    fn what_is_not_known_is_called_what_it_may_be_and_nothing_is_said_of_changes_where_none_was_wanted() {
        assert_eq!(unknown("i1"), "I know of no incident `i1` any more; nothing was changed. `/streamgauge list` shows those that there are.");
        assert_eq!(nothing_to_explain("i1"), "I know of no incident `i1` any more. `/streamgauge list` shows those that there are.");
        assert!(no_silence("s1").starts_with("I know of no silence and no incident `s1` any more; nothing was changed."));
    }

    #[test]
    fn what_silences_an_incident_and_others_is_named_with_the_way_to_end_it() {
        let said = |ended| still_silenced(&seen(1, 1, 1), &silence_of(&[("rule", "errors")]), ended);
        assert!(said(false).contains("is silenced by silence `s1ab` of `rule=errors`, which is about other alerts as well; nothing was changed."));
        assert!(said(true).starts_with("The silence of `i0000000000000001` alone is ended, and it stays silent by silence `s1ab`"));
        assert!(said(true).ends_with("`/streamgauge unsilence s1ab` ends that one."));
    }
}
