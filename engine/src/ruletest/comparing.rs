//! What came otherwise than it was to come, in words.

use super::format::{Between, Ends, Expected};
use super::running::Alert;
use model::Span;

/// One line for each difference; none when all that was expected came, in its order, and nothing else.
pub(super) fn compare(expected: &[Expected], came: &[Alert]) -> Vec<String> {
    let mut lines = Vec::new();
    for at in 0..expected.len().max(came.len()) {
        let number = at + 1;
        match (expected.get(at), came.get(at)) {
            (Some(expected), Some(came)) => lines.extend(differences(expected, came).into_iter().map(|what| format!("alert {number}: {what}"))),
            (Some(expected), None) => lines.push(format!("alert {number} did not come: expected to fire {}{}", when(expected.fires), whom(expected))),
            (None, Some(came)) => lines.push(format!("alert {number} was not expected: fired at {}, {}", came.fires, place(&came.group))),
            (None, None) => {}
        }
    }
    lines
}

/// `stage = extraction, model = gpt-4o`; of no labels, `all calls`.
pub fn place(group: &[(String, String)]) -> String {
    let labels: Vec<_> = group.iter().map(|(key, label)| format!("{key} = {}", if label.is_empty() { "(none)" } else { label })).collect();
    if labels.is_empty() { "all calls".to_owned() } else { labels.join(", ") }
}

/// The labels of a firing.
fn said(labels: &[(String, String)]) -> String {
    if labels.is_empty() { "fire said no labels".to_owned() } else { place(labels) }
}

fn differences(expected: &Expected, came: &Alert) -> Vec<String> {
    let mut lines = Vec::new();
    let mut differs = |what: &str, wanted: String, found: String| lines.push(format!("expected {what} {wanted}, came {found}"));
    if !within(expected.fires, came.fires) {
        differs("to fire", when(expected.fires), format!("at {}", came.fires));
    }
    let ended = came.ends.map_or("none: it still fires when the test is over".to_owned(), |at| format!("at {at}"));
    match (expected.ends, came.ends) {
        (Some(Ends::Never), Some(_)) => differs("no end", "before the test is over".to_owned(), ended),
        (Some(Ends::At(between)), at) if at.is_none_or(|at| !within(between, at)) => differs("its end", when(between), ended),
        _ => {}
    }
    for (what, wanted, found) in [
        ("rule", expected.rule.as_deref(), came.rule.as_str()),
        ("environment", expected.environment.as_deref(), came.environment.as_str()),
        ("severity", expected.severity.map(|severity| severity.name()), came.severity),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            differs(what, wanted.to_owned(), found.to_owned());
        }
    }
    for (expected, came, without) in [(&expected.group, &came.group, place(&came.group)), (&expected.labels, &came.labels, said(&came.labels))] {
        for (key, wanted) in expected {
            match came.iter().find(|(known, _)| known == key) {
                Some((_, label)) if label == wanted => {}
                Some((_, label)) => differs(key, wanted.clone(), if label.is_empty() { "(none)".to_owned() } else { label.clone() }),
                None => differs(key, wanted.clone(), format!("without it: {without}")),
            }
        }
    }
    if let Some(wanted) = expected.summary.as_deref().filter(|wanted| !came.summary.contains(wanted)) {
        differs("the summary to contain", format!("`{wanted}`"), format!("`{}`", came.summary));
    }
    lines
}

fn within(between: Between, at: Span) -> bool {
    between.from <= at && at <= between.to
}

fn when(Between { from, to }: Between) -> String {
    if from == to { format!("at {from}") } else { format!("within {from}..{to}") }
}

fn whom(expected: &Expected) -> String {
    let group: Vec<_> = expected.group.iter().map(|(key, label)| (key.clone(), label.clone())).collect();
    if group.is_empty() { String::new() } else { format!(", {}", place(&group)) }
}
