//! What is said in an incident's thread when something of it changes: one line, with its reason, the person and the numbers.
//!
//! Deliberately absent: what is worth a line, which the machine decides, and the message above, which `incident.rs` composes anew each time.

use super::incident::{NAME_MAX, agreeing, count, ends, hit, named_place, place, shown, what_and_where};
use super::words::{Words, name, sentence};
use crate::standing;
use machine::Reason;
use machine::incident::{Occasion, Seen, Silenced, Telling};
use model::Span;

/// Of what a person's action came to.
const OUTCOME_MAX: usize = 300;

/// The line, with times in UTC.
pub fn line(telling: &Telling) -> String {
    said(telling).to_string()
}

/// The line, of which each place shows the times in its own way.
pub fn said(telling: &Telling) -> Words {
    let seen = &telling.incident;
    let by = telling.by.as_deref().map(|by| name(by, NAME_MAX));
    let by_whom = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let whoever = by.unwrap_or_else(|| "somebody".to_owned());
    match &telling.occasion {
        Occasion::Opened => format!("Opened: {}{}", what_and_where(seen), now(seen)).into(),
        Occasion::Grew { more, places } => {
            let several = seen.rules.len() > 1;
            let what = if several { "alert" } else { "group" };
            let named: Vec<_> = places.iter().map(|place| named_place(place, several)).collect();
            let further = if *more as usize > named.len() { ", …" } else { "" };
            let grown = format!("Grew: {} more {what}{}", more, if *more == 1 { "" } else { "s" });
            let named = if named.is_empty() { String::new() } else { format!(": {}{further}", named.join(", ")) };
            format!("{grown}, {} in all{named}", seen.firing_alerts).into()
        }
        Occasion::Worse { severity } => format!("Worse: it is {} now. {}{}", severity.name(), what_and_where(seen), now(seen)).into(),
        Occasion::Updated => format!("Brought up to date{}", now(seen)).into(),
        Occasion::Eased { firing: 0 } => "Eased: nothing of it fires at the moment".into(),
        Occasion::Eased { firing } => {
            let fire = agreeing(u64::from(*firing), "fires", "fire");
            format!("Eased: {firing} of {} still {fire}{}", count(u64::from(seen.alerts), "alert"), now(seen)).into()
        }
        Occasion::Explained => {
            let lines = seen.findings.iter().flat_map(|findings| &findings.cause);
            let lines: Vec<_> = lines.map(|line| sentence(line, OUTCOME_MAX)).filter(|line| !line.is_empty()).take(2).collect();
            if lines.is_empty() { "No cause stands out any more".into() } else { lines.join(". ").into() }
        }
        Occasion::Acknowledged => format!("Acknowledged{by_whom}").into(),
        Occasion::Silenced { until: Some(until) } => {
            let long = to_the_minute(until.since(telling.at));
            Words::from(format!("Silenced for {long}{by_whom}, until ")).moment(*until, telling.at)
        }
        Occasion::Silenced { until: None } => {
            let of_alerts = seen.silenced.as_ref().is_some_and(|silence| matches!(silence.of, Silenced::Alerts(_)));
            format!("Silenced{by_whom} until {}", if of_alerts { "somebody takes it back" } else { "it is resolved" }).into()
        }
        Occasion::Unsilenced => format!("No longer silenced: {whoever} took the silence back").into(),
        Occasion::SilenceEnded => format!("The silence has ended, and it still fires{}", now(seen)).into(),
        Occasion::Reminded => format!("Still so after {} and nobody has acknowledged it{}", lasting(telling), now(seen)).into(),
        Occasion::Acted { label, outcome } => {
            let outcome = sentence(outcome, OUTCOME_MAX);
            let outcome = if outcome.is_empty() { outcome } else { format!(": {outcome}") };
            format!("{whoever} chose “{}”{outcome}", name(label, NAME_MAX)).into()
        }
        Occasion::Resolved { reason } => {
            let long = standing::about(seen.lasted().unwrap_or_else(|| telling.at.since(seen.began)));
            let ended = match reason {
                // The last of its alerts to end does not speak for the others.
                _ if seen.ends.len() > 1 => format!("Ended after {long}: {}", ends(seen)),
                Reason::WentQuiet => format!("Ended after {long}: no calls for a day, so nothing can be said about it any more"),
                Reason::RuleChanged => format!("Ended after {long}: its rule was changed or removed, and starts anew"),
                Reason::Adopted => format!("Ended after {long}: adopted as the new normal"),
                Reason::Resolved | Reason::Fired | Reason::Repeated => format!("Resolved after {long}"),
            };
            format!("{ended}{}", were_hit(seen)).into()
        }
        Occasion::Returned { times } => format!("Back for the {} time: {}{}", ordinal(*times), place(&seen.lead.group, false), now(seen)).into(),
        Occasion::Merged { rule } => format!("{} turned out to be part of it", name(rule, NAME_MAX)).into(),
    }
}

/// `: fallback rate 8.4 %`: the newest value that is known.
fn now(seen: &Seen) -> String {
    let curve = seen.findings.as_ref().and_then(|findings| findings.curve.as_ref());
    let newest = curve.and_then(|curve| Some((&curve.what, &curve.unit, curve.points.last()?.1?)));
    let told = || seen.lead.observed.first().and_then(|observed| Some((&observed.what, &observed.unit, observed.observation.value?)));
    let Some((what, unit, value)) = newest.or_else(told) else { return String::new() };
    format!(": {} {}", name(what, NAME_MAX), shown(unit, value))
}

/// `; 1,234 calls, 310 runs, 57 users were hit; cost $1.23`
fn were_hit(seen: &Seen) -> String {
    let Some((findings, hit)) = seen.findings.as_ref().and_then(|findings| Some((findings, hit(findings)?))) else { return String::new() };
    let counts = [findings.calls, findings.runs, findings.users].into_iter().flatten();
    let were = agreeing(counts.fold(0, u64::saturating_add), "was", "were");
    match hit.split_once("; ") {
        Some((counts, cost)) => format!("; {counts} {were} hit; {cost}"),
        None if hit.starts_with("cost ") => format!("; {hit}"),
        None => format!("; {hit} {were} hit"),
    }
}

fn lasting(telling: &Telling) -> String {
    let long = telling.at.since(telling.incident.began);
    standing::about(long.max(Span::from_secs(1)))
}

/// `1h`, `1h30m`: as a person chose it.
fn to_the_minute(span: Span) -> String {
    const MINUTE: u64 = 60_000;
    let minutes = (span.millis() + MINUTE / 2) / MINUTE;
    if minutes == 0 { standing::about(span) } else { Span::from_millis(minutes * MINUTE).to_string() }
}

/// `1st`, `2nd`, `11th`
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
