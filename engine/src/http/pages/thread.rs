//! What was said and done about an incident, in words, and what was not said and why.
//!
//! It is told from what was kept at the time, and so without the numbers of now. Deliberately absent: what is worth saying, which the machine decides,
//! and the lines of a channel, which are written as they happen.

use super::html::{escaped, time};
use crate::standing;
use machine::Reason;
use machine::incident::{Entry, Occasion, Place, Seen, Untold};
use model::Timestamp;
use std::fmt::Write;

/// The whole of it, the oldest first.
pub(super) fn list(history: &[Entry]) -> String {
    let mut text = String::from("<ol class=thread>");
    for entry in history {
        let untold = entry.untold.map_or_else(String::new, |untold| format!(" <span class=untold>not said: {}</span>", why(untold)));
        let _ = write!(text, "<li>{} <span class=what>{}{untold}</span>", time(entry.at), words(entry));
    }
    text + "</ol>"
}

/// Why nobody was told.
fn why(untold: Untold) -> &'static str {
    match untold {
        Untold::Silenced => "it is silenced",
        Untold::Acknowledged => "somebody has it in hand",
        Untold::Flapping => "it comes and goes; its end is told when it holds",
    }
}

/// One entry, escaped.
fn words(entry: &Entry) -> String {
    let by = entry.by.as_deref().map_or_else(|| "somebody".to_owned(), |by| format!("<strong>{}</strong>", escaped(by)));
    match &entry.occasion {
        Occasion::Opened if entry.untold.is_some() => "It fires".to_owned(),
        Occasion::Opened => "It was told".to_owned(),
        Occasion::Grew { more, places } => {
            let named: Vec<_> = places.iter().map(named).collect();
            let further = if *more as usize > named.len() { ", …" } else { "" };
            let names = if named.is_empty() { String::new() } else { format!(": {}{further}", named.join(", ")) };
            format!("{more} more {}{names}", if *more == 1 { "alert fires" } else { "alerts fire" })
        }
        Occasion::Worse { severity } => format!("It is {} now", severity.name()),
        Occasion::Updated => "Its numbers were brought up to date".to_owned(),
        Occasion::Eased { firing: 0 } => "Nothing of it fires at the moment".to_owned(),
        Occasion::Eased { firing: 1 } => "Some of it ended; one alert still fires".to_owned(),
        Occasion::Eased { firing } => format!("Some of it ended; {firing} alerts still fire"),
        Occasion::Explained => "Its cause was found".to_owned(),
        Occasion::Acknowledged => format!("{by} acknowledged it"),
        Occasion::Silenced { until } => format!("{by} silenced it {}", until_when(*until)),
        Occasion::Unsilenced => format!("{by} ended its silence"),
        Occasion::SilenceEnded => "Its silence ended".to_owned(),
        Occasion::Reminded => "It still fires".to_owned(),
        Occasion::Acted { label, outcome } => {
            let came = if outcome.is_empty() { String::new() } else { format!(": {}", escaped(outcome)) };
            format!("{by} chose “{}”{came}", escaped(label))
        }
        // The last alert's end: those before it may have ended in other ways.
        Occasion::Resolved { reason } => match reason {
            Reason::WentQuiet => "It is over: the last of it had no calls for a day",
            Reason::RuleChanged => "It is over: the rule of the last of it was changed or removed",
            Reason::Adopted => "It is over: the last of it was adopted as the new normal",
            Reason::Resolved | Reason::Fired | Reason::Repeated => "It is resolved",
        }
        .to_owned(),
        Occasion::Returned { times: 1 } => "It came back".to_owned(),
        Occasion::Returned { times } => format!("It came back, {times} times by now"),
        Occasion::Merged { rule } => format!("{} turned out to be part of it", escaped(rule)),
    }
}

/// `resolved`; `9 resolved, 1 adopted` where its alerts ended in more than one way.
pub(super) fn how_it_ended(seen: &Seen) -> String {
    let way = |reason: Reason| reason.name().replace('_', " ");
    match seen.end() {
        Some(reason) => way(reason),
        None => seen.ends.iter().map(|ends| format!("{} {}", ends.alerts, way(ends.reason))).collect::<Vec<_>>().join(", "),
    }
}

/// `until …`, escaped.
pub(super) fn until_when(until: Option<Timestamp>) -> String {
    until.map_or_else(|| "until it is resolved".to_owned(), |until| format!("until {}", time(until)))
}

fn named(place: &Place) -> String {
    format!("{} in {}", escaped(&place.rule), escaped(&standing::place(&place.group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_stands_in_the_thread_with_its_reason() {
        let at = Timestamp::parse("2026-11-23T10:00:00Z").expect("a time");
        let entry = |occasion, by: Option<&str>, untold| Entry { at, occasion, by: by.map(str::to_owned), untold };
        let place = Place { rule: "a<b".to_owned(), group: vec![("stage".to_owned(), String::new())], severity: Default::default(), firing: true };
        let said = |entry: Entry| {
            let list = list(&[entry]);
            let (_, words) = list.split_once("<span class=what>").expect("an entry");
            words.strip_suffix("</span></ol>").expect("it ends").to_owned()
        };
        assert_eq!(said(entry(Occasion::Opened, None, Some(Untold::Silenced))), "It fires <span class=untold>not said: it is silenced</span>");
        assert_eq!(
            said(entry(Occasion::Grew { more: 3, places: vec![place] }, None, Some(Untold::Silenced))),
            "3 more alerts fire: a&lt;b in (none), … <span class=untold>not said: it is silenced</span>"
        );
        assert_eq!(said(entry(Occasion::Acknowledged, Some("<i>"), None)), "<strong>&lt;i&gt;</strong> acknowledged it");
        assert_eq!(said(entry(Occasion::Silenced { until: None }, Some("ann"), None)), "<strong>ann</strong> silenced it until it is resolved");
    }
}
