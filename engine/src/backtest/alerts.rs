//! The alerts that people would have been told of, as rows: from when to when, for whom, how bad, and who was hit.

use super::run::Ran;
use machine::{AlertView, Notification, Reason, State};
use model::plan::{Rule, Severity};
use model::window::Observation;
use model::{Timestamp, Unit};
use serde::Serialize;
use std::collections::BTreeMap;

/// One alert. Its names are the shape of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub alert_id: String,
    pub rule: String,
    pub severity: Severity,
    pub environment: String,
    /// Key and label; fewer than the rule's `group_by` for a roll-up.
    pub group: Vec<(String, String)>,
    /// The watch that left its range, and what it measures.
    pub watch: String,
    pub what: String,
    #[serde(skip)]
    pub unit: Unit,
    /// When it most likely began.
    pub since: Timestamp,
    /// When people would have been told.
    pub fired: Timestamp,
    /// `None`: it still fires after the last call.
    pub ended: Option<Timestamp>,
    /// `resolved`, `went_quiet`, or `still_firing`.
    pub end: &'static str,
    /// It fired before the range asked for began.
    pub fired_before: bool,
    /// The value furthest out, in the unit of the watch.
    pub peak: Option<f64>,
    /// From `since` to the end: calls that show the signal, and of how many.
    pub bad_calls: Option<u64>,
    pub calls: Option<u64>,
    /// Distinct runs (`event_id`) and users of the bad calls.
    pub runs: Option<u64>,
    pub users: Option<u64>,
    /// More was hit than could be kept in mind.
    pub at_least: bool,
}

/// The alerts of a run that fired in its range, by when they fired; `last` is the end of the range.
pub fn rows(ran: &Ran, last: Timestamp) -> Vec<Row> {
    let mut told: BTreeMap<&str, (Option<&Notification>, Option<&Notification>)> = BTreeMap::new();
    for notification in &ran.told {
        let (fired, ended) = told.entry(&notification.alert_id).or_default();
        match notification.reason {
            Reason::Fired => *fired = Some(notification),
            reason if reason.ends() => *ended = Some(notification),
            _ => {}
        }
    }
    let firing: BTreeMap<String, AlertView<'_>> =
        ran.machine.alerts().filter(|view| view.alert.state != State::Pending).map(|view| (view.alert.id.clone(), view)).collect();
    let mut rows: Vec<_> = told.values().filter_map(|(fired, ended)| told_of(ran, *fired, *ended, &firing, last)).collect();
    let silent = firing.values().filter(|view| !told.contains_key(view.alert.id.as_str()));
    rows.extend(silent.filter_map(|view| never_told(ran, view, last)));
    rows.sort_by(|a, b| (a.fired, &a.rule, &a.group).cmp(&(b.fired, &b.rule, &b.group)));
    rows
}

fn told_of(
    ran: &Ran,
    fired: Option<&Notification>,
    ended: Option<&Notification>,
    firing: &BTreeMap<String, AlertView<'_>>,
    last: Timestamp,
) -> Option<Row> {
    let latest = ended.or(fired)?;
    let first = fired.unwrap_or(latest);
    let worst = firing.get(&latest.alert_id).and_then(|view| view.alert.worst.clone()).or_else(|| latest.worst.clone());
    let observations: Vec<_> = first.observed.iter().map(|observed| observed.observation.clone()).collect();
    let row = Row {
        alert_id: latest.alert_id.clone(),
        rule: latest.rule.clone(),
        severity: latest.severity,
        environment: latest.environment.clone(),
        group: latest.group.clone(),
        watch: String::new(),
        what: String::new(),
        unit: Unit::default(),
        since: first.began,
        fired: latest.fired,
        ended: ended.map(|ended| ended.at),
        end: ended.map_or("still_firing", |ended| ended.reason.name()),
        fired_before: ran.before.contains(&latest.alert_id),
        peak: worst.as_ref().and_then(|seen| seen.value),
        bad_calls: None,
        calls: None,
        runs: None,
        users: None,
        at_least: false,
    };
    Some(counted(ran, row, &observations, worst.as_ref(), last))
}

/// It fired before the range, and goes on after it.
fn never_told(ran: &Ran, view: &AlertView<'_>, last: Timestamp) -> Option<Row> {
    let State::Firing { since, .. } = view.alert.state else { return None };
    let row = Row {
        alert_id: view.alert.id.clone(),
        rule: view.rule.name.clone(),
        severity: view.alert.severity,
        environment: view.environment.to_owned(),
        group: view.rule.group_by.iter().map(ToString::to_string).zip(view.labels.iter().cloned()).collect(),
        watch: String::new(),
        what: String::new(),
        unit: Unit::default(),
        since: view.alert.began,
        fired: since,
        ended: None,
        end: "still_firing",
        fired_before: true,
        peak: view.alert.worst.as_ref().and_then(|seen| seen.value),
        bad_calls: None,
        calls: None,
        runs: None,
        users: None,
        at_least: false,
    };
    Some(counted(ran, row, &view.alert.observations, view.alert.worst.as_ref(), last))
}

/// Adds which watch it was, when it began and who was hit.
fn counted(ran: &Ran, mut row: Row, observations: &[Observation], worst: Option<&Observation>, last: Timestamp) -> Row {
    let Some((index, rule)) = ran.machine.plan().rules.iter().enumerate().find(|(_, rule)| rule.name == row.rule) else { return row };
    let at = watch_of(rule, observations);
    let watch = &rule.watches[at];
    (row.watch, row.what, row.unit) = (watch.name.clone(), watch.statistic.describe(), watch.statistic.unit());
    let drift = observations.get(at).and_then(|seen| seen.drift).or(worst.and_then(|seen| seen.drift));
    row.since = drift.map_or(row.since, |drift| drift.since.min(row.since));
    // Of verdicts and of runs nobody noted which calls they were.
    if watch.statistic.signal().is_some() && !watch.statistic.of_verdicts() && !watch.statistic.of_runs() {
        let labels: Vec<_> = row.group.iter().map(|(_, label)| label.clone()).collect();
        let tally = ran.hits.tally(index, at, &row.environment, &labels, row.since, row.ended.unwrap_or(last));
        (row.bad_calls, row.calls) = (Some(tally.bad), Some(tally.calls));
        (row.runs, row.users, row.at_least) = (tally.runs, tally.users, tally.at_least);
    } else {
        (row.bad_calls, row.calls) = (drift.map(|drift| drift.holds), drift.map(|drift| drift.calls));
    }
    row
}

/// The watch that an alert is about: the one that drifted, else the first rate, else the first.
fn watch_of(rule: &Rule, observations: &[Observation]) -> usize {
    let drifted = || observations.iter().position(|seen| seen.drift.is_some());
    let outside = || observations.iter().position(|seen| seen.drifted.is_some());
    let rate = || rule.watches.iter().position(|watch| watch.statistic.signal().is_some());
    drifted().or_else(outside).or_else(rate).unwrap_or(0).min(rule.watches.len().saturating_sub(1))
}

impl Row {
    /// The end, or that of the range while it still fires.
    pub fn until(&self, last: Timestamp) -> Timestamp {
        self.ended.unwrap_or(last.max(self.fired))
    }

    /// Where: the environment and its labels.
    pub fn place(&self) -> String {
        format!("{} · {}", self.environment, crate::standing::place(&self.group))
    }

    pub fn peak_text(&self) -> String {
        self.peak.map_or_else(|| "-".to_owned(), |peak| self.unit.show(peak))
    }

    pub fn calls_text(&self) -> String {
        let number = |count: u64| model::show::number(count as f64);
        match (self.bad_calls, self.calls) {
            (Some(bad), Some(calls)) => format!("{}{} of {}", self.more(), number(bad), number(calls)),
            _ => "-".to_owned(),
        }
    }

    /// Runs or users.
    pub fn distinct_text(&self, count: Option<u64>) -> String {
        count.map_or_else(|| "-".to_owned(), |count| format!("{}{}", self.more(), model::show::number(count as f64)))
    }

    fn more(&self) -> &'static str {
        if self.at_least { "≥ " } else { "" }
    }
}

/// Milliseconds of `from..=to` during which at least one of the alerts fires.
pub fn firing_ms(rows: &[Row], from: Timestamp, to: Timestamp) -> u64 {
    let mut spans: Vec<_> = rows.iter().map(|row| (row.fired.max(from), row.until(to).min(to))).filter(|(a, b)| a < b).collect();
    spans.sort();
    let mut reached = from;
    let mut sum = 0;
    for (start, end) in spans {
        let start = start.max(reached);
        sum += end.since(start).millis();
        reached = reached.max(end);
    }
    sum
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000).expect("it is a time")
    }

    /// An alert of `rule` for a stage, from one minute to another.
    pub fn row(rule: &str, stage: &str, fired: i64, ended: i64) -> Row {
        Row {
            alert_id: format!("{rule}-{stage}-{fired}"),
            rule: rule.into(),
            severity: Severity::Warning,
            environment: "production".into(),
            group: vec![("stage".into(), stage.into())],
            watch: "value".into(),
            what: "error rate".into(),
            unit: Unit::default(),
            since: at(fired),
            fired: at(fired),
            ended: Some(at(ended)),
            end: "resolved",
            fired_before: false,
            peak: Some(0.1),
            bad_calls: Some(1),
            calls: Some(10),
            runs: None,
            users: None,
            at_least: false,
        }
    }

    #[test]
    fn time_spent_firing_counts_no_minute_twice_and_none_outside() {
        let rows = [row("a", "x", 10, 20), row("b", "x", 15, 25), row("a", "y", 40, 50), row("a", "z", 12, 13)];
        assert_eq!(firing_ms(&rows, at(12), at(45)), (13 + 5) * 60_000);
        assert_eq!(firing_ms(&[], at(0), at(1)), 0);
    }
}
