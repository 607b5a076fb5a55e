//! The findings for a terminal: the alerts as a table, then what they come to.

use super::alerts::Row;
use super::findings::{Findings, Started, Tested};
use super::incidents::Verdict;
use crate::standing;
use model::{Span, show};
use std::fmt::Write;

const DAY: Span = Span::from_secs(86_400);
/// Alerts that are listed; all are in `--json` and in the report.
const ROWS_SHOWN: usize = 200;
/// A group is cut here, to keep a row on a line.
const PLACE_MAX: usize = 60;

pub fn text(findings: &Findings) -> String {
    let mut text = String::new();
    for (label, line) in facts(findings) {
        let _ = writeln!(text, "{label:<9} {line}");
    }
    text.push('\n');
    match (&findings.second, &findings.compared) {
        (Some(second), Some(compared)) => {
            let listed = |tested: &Tested, wanted: &dyn Fn(&str) -> bool| {
                let rows: Vec<_> = tested.alerts.iter().filter(|row| wanted(&row.alert_id)).cloned().collect();
                table(&rows)
            };
            let _ =
                write!(text, "in both: {}\n{}\n", compared.both.len(), listed(&findings.tested, &|id| compared.both.iter().any(|(a, _)| a == id)));
            let _ = write!(
                text,
                "only in the first: {}\n{}\n",
                compared.only_first.len(),
                listed(&findings.tested, &|id| compared.only_first.iter().any(|a| a == id))
            );
            let _ = write!(
                text,
                "only in the second: {}\n{}\n",
                compared.only_second.len(),
                listed(second, &|id| compared.only_second.iter().any(|a| a == id))
            );
            let _ = write!(text, "the first\n{}\nthe second\n{}", summary(&findings.tested, findings), summary(second, findings));
        }
        _ => {
            let rows = table(&findings.tested.alerts);
            if !rows.is_empty() {
                let _ = writeln!(text, "{rows}");
            }
            text += &summary(&findings.tested, findings);
        }
    }
    text
}

/// What was read, how long it took, and from what it began.
pub fn facts(findings: &Findings) -> Vec<(&'static str, String)> {
    let number = |count: u64| show::number(count as f64);
    let mut calls = format!("{} of {}", number(findings.calls), findings.source);
    if let Some((from, to)) = findings.span() {
        let _ = write!(calls, ", {from} to {to} ({})", standing::about(to.since(from)));
    }
    let mut facts = vec![("calls", calls)];
    if !findings.malformed.is_empty() {
        let reasons: Vec<_> = findings.malformed.iter().map(|(reason, count)| format!("{} {reason}", number(*count))).collect();
        let first = findings.shown.first().map_or(String::new(), |(at, why)| format!("; the first is {} {at}: {why}", findings.numbered));
        facts.push(("malformed", format!("{} of them: {}{first}", number(findings.malformed.values().sum()), reasons.join(", "))));
    }
    let all = findings.calls + findings.learned_from;
    facts.push(("took", format!("{:.1} s: {} calls, {} a second", findings.seconds, number(all), show::number(findings.calls_per_second.round()))));
    facts.push((
        "start",
        match &findings.start {
            Started::Cold { why } => format!("cold: nothing was known before the first call ({why})"),
            Started::Learned { snapshot, .. } => {
                format!("learned: from the engine's snapshot of {snapshot} and the {} calls after it", number(findings.learned_from))
            }
        },
    ));
    facts
}

/// How often it fired, who said nothing, who still learned, and how right it was.
pub fn lines(tested: &Tested, findings: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    let count = tested.alerts.len();
    let alerts = if count == 1 { "1 alert".to_owned() } else { format!("{} alerts", show::number(count as f64)) };
    // Of hours, no week can be told.
    let long = findings.span().is_some_and(|(from, to)| to.since(from) >= DAY);
    let rate = tested.alerts_per_week.filter(|_| long).map_or(String::new(), |rate| format!(", {} a week", round(rate)));
    let share = tested.firing_share.map_or(String::new(), |share| format!(", firing {} of the time", show::percent(share)));
    lines.push(if count == 0 { "no alert".to_owned() } else { format!("{alerts}{rate}{share}") });
    let silent: Vec<_> = tested.rules.iter().filter(|rule| rule.alerts == 0).map(|rule| rule.rule.as_str()).collect();
    if !silent.is_empty() {
        lines.push(format!("said nothing: {}", silent.join(", ")));
    }
    lines.extend(learning(tested, findings));
    lines.extend(tested.incidents.as_ref().into_iter().flat_map(|verdict| judged(verdict, tested)));
    lines
}

fn summary(tested: &Tested, findings: &Findings) -> String {
    lines(tested, findings).into_iter().map(|line| line + "\n").collect()
}

/// `3 of 5 rules were still learning for the first 4h`, where that is worth saying.
fn learning(tested: &Tested, findings: &Findings) -> Vec<String> {
    /// Sooner than that, nobody misses an alert.
    const WORTH: u64 = 60_000;
    let of = tested.rules.len();
    let mut lines = Vec::new();
    let late: Vec<_> = tested.rules.iter().filter(|rule| rule.learned_after_ms.is_some_and(|after| after > WORTH)).collect();
    if let Some(longest) = late.iter().filter_map(|rule| rule.learned_after_ms).max() {
        let were = if late.len() == 1 { "rule was" } else { "rules were" };
        lines.push(format!("{} of {of} {were} still learning for the first {}", late.len(), standing::about(Span::from_millis(longest))));
    }
    let never: Vec<_> = tested.rules.iter().filter(|rule| rule.learned_after_ms.is_none()).map(|rule| rule.rule.as_str()).collect();
    if !never.is_empty() && findings.calls > 0 {
        lines.push(format!("still learning at the end, and so unable to fire: {}", never.join(", ")));
    }
    lines
}

fn judged(verdict: &Verdict, tested: &Tested) -> Vec<String> {
    let mut lines = Vec::new();
    for judged in &verdict.incidents {
        let what = match (judged.outcome, judged.delay_ms) {
            ("hit", Some(0)) => "hit, fired already when it began".to_owned(),
            ("hit", Some(delay)) => format!("hit after {}", Span::from_secs(delay / 1000)),
            ("no_calls", _) => "no calls then".to_owned(),
            (outcome, _) => outcome.to_uppercase(),
        };
        lines.push(format!("incident {}: {what}", judged.incident.name));
    }
    for row in tested.alerts.iter().filter(|row| verdict.false_alarms.contains(&row.alert_id)) {
        lines.push(format!("FALSE ALARM: {} at {} for {}", row.rule, row.fired, row.place()));
    }
    let share = |share: Option<f64>| share.map_or("n/a".to_owned(), show::percent);
    lines.push(format!(
        "{} hit, {} missed, {} false; precision {}, recall {}",
        verdict.hits,
        verdict.misses,
        verdict.false_alarms.len(),
        share(verdict.precision),
        share(verdict.recall)
    ));
    lines
}

fn round(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { show::number(number.round()) }
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["rule", "start", "end", "group", "peak", "bad calls", "runs", "users"].map(str::to_owned);
    let cells = rows.iter().take(ROWS_SHOWN).map(|row| {
        let started = if row.fired_before { format!("{} (before)", row.fired) } else { row.fired.to_string() };
        let ended = row.ended.map_or("still firing".to_owned(), |ended| ended.to_string());
        let (runs, users) = (row.distinct_text(row.runs), row.distinct_text(row.users));
        [row.rule.clone(), started, ended, cut(row.place()), row.peak_text(), row.calls_text(), runs, users]
    });
    let lines: Vec<_> = std::iter::once(heads).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    if rows.len() > ROWS_SHOWN {
        let _ = writeln!(text, "… {} more in --json and --report", rows.len() - ROWS_SHOWN);
    }
    text
}

fn cut(place: String) -> String {
    if place.chars().count() <= PLACE_MAX { place } else { place.chars().take(PLACE_MAX - 1).chain(['…']).collect() }
}
