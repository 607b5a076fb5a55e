//! What people are answered, in Slack's markup: an incident in a line, why it is, a run, who spends most.
//!
//! Pure: from what is known to text. Whatever comes from calls, rules or people is escaped. Deliberately absent: the messages of incidents.

use super::answer::{code, escaped};
use super::command::Mistake;
use crate::error::Fault;
use crate::message::address;
use crate::runs::RunView;
use crate::standing::place;
use crate::subscriptions::{Subscription, severity_name};
use crate::why::Why;
use machine::incident::{Seen, Silence, Silenced};
use model::plan::Severity;
use model::{Timestamp, show};
use serde_json::Value;

/// Lines of a list; more is a page's business.
const LISTED_MAX: usize = 15;
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
    let plain = at.to_string();
    let plain = plain.get(..16).unwrap_or(&plain).replace('T', " ");
    format!("<!date^{}^{{date_short_pretty}} {{time}}|{plain} UTC>", at.millis().div_euclid(1000))
}

pub fn link(url: &str, label: &str) -> String {
    format!("<{}|{}>", url.replace(['<', '>', '|', ' '], ""), escaped(label))
}

pub fn fault(fault: &Fault) -> String {
    let hint = fault.hint().map(|hint| format!("\nhint: {}", escaped(hint))).unwrap_or_default();
    format!("That did not work: {}{hint}", escaped(fault.what()))
}

pub fn mistake(mistake: &Mistake) -> String {
    format!("{}\n`/streamgauge help` shows all commands.", escaped(&mistake.to_string()))
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
    let more = if seen.rules.len() > 1 { format!(" and {} more rules", seen.rules.len() - 1) } else { String::new() };
    let mut parts = vec![
        format!("{mark} {} *{}*{more} ({})", code(&seen.id), escaped(&seen.lead.rule), severity_name(seen.severity)),
        escaped(&whereabouts(seen)),
        format!("since {}", when(seen.began)),
    ];
    if seen.alerts > 1 {
        parts.push(format!("{} of {} alerts fire", seen.firing_alerts, seen.alerts));
    }
    if let Some(acknowledged) = &seen.acknowledged {
        parts.push(format!("acknowledged by {}", escaped(&acknowledged.by)));
    }
    if let Some(silence) = &seen.silenced {
        parts.push(format!("silenced by {} {}", escaped(&silence.by), until(silence.until, "it is resolved")));
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
    format!("I know of no incident {} any more; nothing was changed. `/streamgauge list` shows those that are open.", code(name))
}

/// Nothing was changed, because it is over.
pub fn over(seen: &Seen, public_url: &str) -> String {
    let ended = seen.ended.map(|ended| format!(" since {}", when(ended))).unwrap_or_default();
    let open = link(&page_url(seen, public_url), "Open");
    format!("{} is over{ended}: nothing of it fires any more, so nothing was changed. {open}", code(&seen.id))
}

pub fn silence(silence: &Silence) -> String {
    let of = match &silence.of {
        Silenced::Incident(id) => code(id),
        Silenced::Alerts(terms) => terms.iter().map(|(key, value)| code(&format!("{key}={value}"))).collect::<Vec<_>>().join(" "),
    };
    format!("🔕 {} of {of} {}, by {}", code(&silence.id), until(silence.until, "somebody takes it back"), escaped(&silence.by))
}

pub fn subscription(subscription: &Subscription) -> String {
    format!("📣 {} · by {} {}", code(&subscription.filter.to_string()), escaped(&subscription.by), when(subscription.at))
}

/// What is open, what is silent, and what the channel hears of.
pub fn list(open: &[Seen], silences: &[Silence], here: &[String], public_url: &str) -> String {
    let mut lines = vec![match open.len() {
        0 => "*Nothing is wrong*: no incident is open.".to_owned(),
        1 => "*One open incident*".to_owned(),
        many => format!("*{many} open incidents*"),
    }];
    let mut sorted: Vec<&Seen> = open.iter().collect();
    sorted.sort_by_key(|seen| (std::cmp::Reverse(seen.severity), seen.began));
    listed(&mut lines, sorted.into_iter().map(|seen| incident(seen, public_url)));
    // What silences one incident stands there.
    let silences: Vec<String> = silences.iter().filter(|silence| matches!(silence.of, Silenced::Alerts(_))).map(self::silence).collect();
    if !silences.is_empty() {
        lines.push("*Silences*".to_owned());
        listed(&mut lines, silences.into_iter());
    }
    lines.push("*This channel hears of*".to_owned());
    if here.is_empty() {
        lines.push("nothing by itself; `/streamgauge subscribe` changes that".to_owned());
    }
    listed(&mut lines, here.iter().cloned());
    lines.join("\n")
}

fn listed(lines: &mut Vec<String>, items: impl ExactSizeIterator<Item = String>) {
    let all = items.len();
    lines.extend(items.take(LISTED_MAX));
    if all > LISTED_MAX {
        lines.push(format!("and {} more", all - LISTED_MAX));
    }
}

/// What an incident's calls tell.
pub fn why(seen: &Seen, found: Option<&Why>, public_url: &str) -> String {
    let mut lines = vec![format!("*Why {}* — {} in {}", code(&seen.id), escaped(&seen.lead.rule), escaped(&whereabouts(seen)))];
    let page = link(&page_url(seen, public_url), "Open");
    let Some(found) = found else {
        lines.push(format!("Single calls do not tell: a judge's rate, a volume, a whole run or a script's measure is no property of a call. {page}"));
        return lines.join("\n");
    };
    if found.lines.is_empty() {
        lines.push("No cause stands out: what is bad is spread over all that was looked at.".to_owned());
    }
    lines.extend(found.lines.iter().map(|line| format!("• {}", escaped(line))));
    let number = |number: u64| show::number(number as f64);
    let mut hit = vec![format!("{} of {} calls are bad since {}", number(found.bad), number(found.calls), when(found.since))];
    hit.extend(found.runs.map(|runs| format!("{} runs", number(runs))));
    hit.extend(found.users.map(|users| format!("{} users", number(users))));
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
        escaped(&view.environment),
        when(view.began),
        format!("{} calls in {}", show::number(view.calls as f64), show::millis(view.latency_ms as f64)),
    ];
    let counted = [(view.errors, "errors"), (view.fallbacks, "fallbacks"), (view.retries, "retries")];
    facts.extend(counted.iter().filter(|(times, _)| *times > 0).map(|(times, what)| format!("{times} {what}")));
    if view.cost_usd > 0.0 {
        facts.push(show::dollars(view.cost_usd));
    }
    let mut text = facts.join(" · ");
    if let Some(step) = view.first_bad.and_then(|at| view.steps.get(at)) {
        let wrong = if step.bad.is_empty() { step.recovered.join(", ") + ", made good" } else { step.bad.join(", ") };
        text += &format!("\nIt began at *{}*: {}", escaped(crate::runs::step_name(&step.row)), escaped(&wrong));
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
        text += &escaped(line.trim_end()).replace('`', "'");
        text.push('\n');
    }
    text += "```\n";
    if view.cut || view.steps.len() > STEPS_MAX {
        text += "There are more calls than are shown. ";
    }
    if !elsewhere.is_empty() {
        text += &format!("Also in {}: add environment=NAME. ", escaped(&elsewhere.join(", ")));
    }
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let path = format!("/runs/{}?environment={}", encoded(&view.event_id).replace('+', "%20"), encoded(&view.environment));
    text += &link(&format!("{public_url}{path}"), "Open");
    text
}

/// No longer than `most` characters, and nothing that breaks a line.
fn shortened(text: &str, most: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    if text.chars().count() <= most { clean.collect() } else { clean.take(most - 1).chain(['…']).collect() }
}

/// Who spends most; `table` is the costs' own text.
pub fn top(window: &str, table: &[String], hot: &[String], public_url: &str) -> String {
    let table = escaped(&table.join("\n")).replace('`', "'");
    let mut text = format!("*Who spends most, {window} up to the latest call*\n```\n{table}\n```");
    for user in hot {
        text += &format!("\n🔥 {}", escaped(user));
    }
    format!("{text}\n{}", link(&format!("{public_url}/costs"), "All costs"))
}

/// Whether everything is counted; `status` is the API's.
pub fn status(status: &Value, open: usize, socket: &str, public_url: &str) -> String {
    let number = |name: &str| show::number(status[name].as_u64().unwrap_or_default() as f64);
    let of = |section: &str, name: &str| show::number(status[section][name].as_u64().unwrap_or_default() as f64);
    let behind = if status["lag"].as_u64() == Some(0) { "nothing waits".to_owned() } else { format!("{} wait", number("lag")) };
    let ledger = if status["balances"] == true { "every one of them is accounted for" } else { "*the ledger does not balance*" };
    let incidents = if open == 1 { "1 incident is open".to_owned() } else { format!("{open} incidents are open") };
    let mut lines = vec![
        format!("*{incidents}*"),
        format!(
            "{} logs received, {} counted, {} malformed: {ledger}; {behind} in the source",
            number("received"),
            number("counted"),
            number("malformed")
        ),
        format!("outbox: {} waiting, {} sent, {} given up", of("outbox", "waiting"), of("outbox", "sent"), of("outbox", "failed")),
        format!("buttons and commands: {}", escaped(socket)),
    ];
    let environments: Vec<String> = status["environments"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, own)| Some(format!("{} {}", escaped(name), when(Timestamp::parse(own["clock"].as_str()?)?))))
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

    #[test]
    fn a_moment_is_shown_in_the_readers_zone_with_utc_to_fall_back_on() {
        let at = Timestamp::parse("2026-11-22T10:02:03.500Z").expect("a time");
        assert_eq!(when(at), "<!date^1795341723^{date_short_pretty} {time}|2026-11-22 10:02 UTC>");
    }

    #[test]
    fn a_link_keeps_its_shape_whatever_it_is_of() {
        assert_eq!(link("http://h/a|b> c", "<x>"), "<http://h/abc|&lt;x&gt;>");
    }
}
