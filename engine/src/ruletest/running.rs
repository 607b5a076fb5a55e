//! Plays a test's calls through the engine without its edges, and says what people would have been told.

use super::format::Test;
use super::traffic::Traffic;
use crate::inspect::Inspector;
use crate::message;
use crate::replay::Replay;
use crate::source::{BATCH_MAX, Envelope};
use machine::{Input, Notification, Reason};
use model::plan::TICK;
use model::{Span, Timestamp};
use std::fmt::Write as _;
use std::sync::Arc;

/// How long time goes on after the last phase, so that alerts can end.
const SETTLE: Span = Span::from_secs(600);
/// Batches hold the calls of at most this, and elapsed time is told as often: an environment whose calls stop is not held back by the others' for longer.
const STEP: Span = Span::from_secs(60);
/// Longer pauses pass in longer steps, so that a slip in the year of a call costs no minutes.
const STEPS_MAX: u64 = 20_000;
/// In messages that are kept, so that they are the same everywhere.
const PUBLIC_URL: &str = "http://streamgauge.example";
/// Of rules without a channel.
const CHANNEL: &str = "#llm-alerts";

/// What came.
#[derive(Debug)]
pub(super) struct Came {
    pub alerts: Vec<Alert>,
    /// What people would read, with the times.
    pub messages: String,
    pub calls: u64,
    /// What went wrong inside the rule.
    pub failures: Vec<String>,
}

/// An alert that fired. Times are counted from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub fires: Span,
    /// `None` when it is still firing at the end.
    pub ends: Option<Span>,
    pub rule: String,
    pub environment: String,
    /// Key and label.
    pub group: Vec<(String, String)>,
    pub severity: &'static str,
    pub summary: String,
    /// What the rule's `fire` said beside it.
    pub labels: Vec<(String, String)>,
}

/// Runs one test.
///
/// # Errors
/// What is wrong with its calls.
pub(super) fn run(test: &Test, inspector: Arc<Inspector>) -> Result<Came, String> {
    let mut traffic = Traffic::of(test)?;
    let mut play = Play { replay: Replay::new(inspector), told: Vec::new(), now: traffic.start, sequence: 0, batch: Vec::with_capacity(BATCH_MAX) };
    while let Some((stamp, log)) = traffic.next()? {
        if play.batch.len() == BATCH_MAX || play.batch.first().is_some_and(|first| stamp.since(first.stamp) > STEP) {
            play.fold()?;
        }
        play.sequence += 1;
        play.batch.push(Envelope { sequence: play.sequence, stamp, payload: log.into() });
    }
    play.fold()?;
    let end = traffic.end.max(play.now);
    play.elapse(end + SETTLE);
    let ledger = play.replay.machine().ledger();
    let failed = ledger.script_failures.values().map(|calls| format!("fn applies(log) or fn signals(log) failed on {calls} calls"));
    let failed = failed.chain(ledger.check_failures.values().map(|checks| format!("fn check(w) failed {checks} times")));
    let failures = failed.collect();
    let Play { mut told, sequence, .. } = play;
    // Environments are told one after the other; people go by the time.
    told.sort_by_key(|notification| notification.at);
    if !test.streams.is_empty() {
        forget_the_end(&mut told, end);
    }
    Ok(Came { alerts: alerts(&told, traffic.start), messages: messages(told, traffic.start), calls: sequence, failures })
}

struct Play {
    replay: Replay,
    told: Vec<Notification>,
    now: Timestamp,
    sequence: u64,
    batch: Vec<Envelope>,
}

impl Play {
    fn fold(&mut self) -> Result<(), String> {
        let (Some(first), Some(last)) = (self.batch.first(), self.batch.last()) else { return Ok(()) };
        let (first, last) = (first.stamp, last.stamp);
        let folded = self.replay.inspector().fold(&self.batch);
        if let Some((sequence, why)) = folded.details.first() {
            return Err(format!("call {sequence} is none: {why}"));
        }
        self.batch.clear();
        self.elapse(first);
        self.replay.apply(Input::Folded(folded.fold), &mut self.told);
        self.elapse(last);
        Ok(())
    }

    /// Lets time go on to `to`, in steps.
    fn elapse(&mut self, to: Timestamp) {
        let step = STEP.max(Span::from_millis(to.since(self.now).millis() / STEPS_MAX));
        while self.now < to {
            self.now = to.min(self.now + step);
            if self.replay.machine().would_elapse(self.now) {
                self.replay.apply(Input::Elapsed { now: self.now }, &mut self.told);
            }
        }
    }
}

/// Takes out alerts that fire after the tick in which generated traffic ends: they say that the test is over, as a volume would. A silence that is to be
/// noticed is a phase of its own.
fn forget_the_end(told: &mut Vec<Notification>, end: Timestamp) {
    let later = |notification: &&Notification| notification.reason == Reason::Fired && notification.at.since(end) > TICK;
    let after: Vec<_> = told.iter().filter(later).map(|notification| notification.alert_id.clone()).collect();
    told.retain(|notification| !after.contains(&notification.alert_id));
}

fn alerts(told: &[Notification], start: Timestamp) -> Vec<Alert> {
    let fired = told.iter().enumerate().filter(|(_, notification)| notification.reason == Reason::Fired);
    let alert = |(at, fired): (usize, &Notification)| {
        let end = told[at..].iter().find(|later| later.alert_id == fired.alert_id && later.reason.ends());
        Alert {
            fires: fired.at.since(start),
            ends: end.map(|end| end.at.since(start)),
            rule: fired.rule.clone(),
            environment: fired.environment.clone(),
            group: fired.group.clone(),
            severity: fired.severity.name(),
            summary: fired.summary.clone(),
            labels: fired.labels.clone(),
        }
    };
    fired.map(alert).collect()
}

/// The messages, as a terminal shows them. Alerts are numbered: their ids follow the rule's text, and a comment changes no message.
fn messages(told: Vec<Notification>, start: Timestamp) -> String {
    let mut text = String::new();
    let mut ids: Vec<String> = Vec::new();
    for mut notification in told {
        let number = ids.iter().position(|id| *id == notification.alert_id).unwrap_or_else(|| {
            ids.push(notification.alert_id.clone());
            ids.len() - 1
        });
        notification.alert_id = (number + 1).to_string();
        let shown =
            message::for_terminal(&message::compose(&notification, PUBLIC_URL, false), notification.channel.as_deref().unwrap_or(CHANNEL), false);
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing to a text cannot fail.
        let _ = write!(text, "{gap}at {}\n{shown}", notification.at.since(start));
    }
    text
}
