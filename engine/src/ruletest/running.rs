//! Plays a test's calls through the engine without its edges, and says what people would have been told.

use super::format::Test;
use super::traffic::Traffic;
use crate::inspect::Inspector;
use crate::message;
use crate::replay::Replay;
use crate::source::{BATCH_MAX, Envelope};
use machine::{Input, Notification, Reason};
use model::plan::TICK;
use model::verdict::{JudgeRequest, Outcome, Skip, Verdict};
use model::{Span, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// How long time goes on after the last phase, so that alerts can end.
const SETTLE: Span = Span::from_secs(600);
/// Batches hold the calls of at most this, and elapsed time is told as often: an environment whose calls stop is not held back by the others' for longer.
const STEP: Span = Span::from_secs(60);
/// Longer pauses pass in longer steps, so that a slip in the year of a call costs no minutes.
const STEPS_MAX: u64 = 20_000;
/// What a property begins with that says what a judge makes of the call: `fail`, `unreadable`, `error` or `skip`, a pass that is
/// `dear`, or one of a score that is always the same, `flat`; without one it passes.
const JUDGE: &str = "judge:";
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
    // Verdicts come some seconds after their calls, so time goes on in steps of ticks.
    let step = if inspector.plan.judges.is_empty() { STEP } else { TICK };
    let (told, marked, batch) = (Vec::new(), BTreeMap::new(), Vec::with_capacity(BATCH_MAX));
    let mut play = Play { replay: Replay::new(inspector), told, now: traffic.start, sequence: 0, batch, step, marked };
    while let Some((stamp, log)) = traffic.next()? {
        if play.batch.len() == BATCH_MAX || play.batch.first().is_some_and(|first| stamp.since(first.stamp) > play.step) {
            play.fold()?;
        }
        play.sequence += 1;
        play.note(&log);
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
    /// The most that time goes on at once.
    step: Span,
    /// What becomes of single calls when they are judged, by sequence and judge.
    marked: BTreeMap<u64, BTreeMap<String, String>>,
}

impl Play {
    fn fold(&mut self) -> Result<(), String> {
        let (Some(first), Some(last)) = (self.batch.first(), self.batch.last()) else { return Ok(()) };
        let (first, last) = (first.stamp, last.stamp);
        let folded = self.replay.fold(&self.batch);
        if let Some((sequence, why)) = folded.details.first() {
            return Err(format!("call {sequence} is none: {why}"));
        }
        self.batch.clear();
        self.elapse(first);
        self.replay.apply(Input::Folded(folded.fold), &mut self.told);
        self.judge();
        self.elapse(last);
        Ok(())
    }

    /// Notes what becomes of the call that comes next when it is judged.
    fn note(&mut self, log: &[u8]) {
        if self.replay.inspector().plan.judges.is_empty()
            || !log.windows(JUDGE.len() + 1).any(|bytes| bytes[0] == b'"' && bytes[1..] == *JUDGE.as_bytes())
        {
            return;
        }
        let Ok(call) = model::parse(log) else { return };
        let judges = self.replay.inspector().plan.judges.iter().map(|judge| &judge.name);
        let marked = judges.filter_map(|name| Some((name.clone(), call.property_text(&format!("{JUDGE}{name}"))?.into_owned())));
        let marked: BTreeMap<_, _> = marked.collect();
        if !marked.is_empty() {
            self.marked.insert(self.sequence, marked);
        }
    }

    /// Says what the judges think of the calls that were chosen for them.
    fn judge(&mut self) {
        let verdicts: Vec<_> = self.replay.chosen().into_iter().map(|request| self.verdict(request)).collect();
        if !verdicts.is_empty() {
            self.replay.apply(Input::Judged { verdicts }, &mut self.told);
        }
    }

    fn verdict(&mut self, request: JudgeRequest) -> Verdict {
        let JudgeRequest { judge, fingerprint, environment, sequence, .. } = request;
        let mark = self.marked.get(&sequence).and_then(|marked| marked.get(&judge)).map_or("", String::as_str);
        let (outcome, score, latency_ms) = match mark {
            "fail" => (Outcome::Fail, Some(0.0), Some(1_000)),
            "unreadable" => (Outcome::Unreadable, None, Some(1_000)),
            "error" => (Outcome::Errored, None, Some(30_000)),
            "skip" => (Outcome::Skipped(Skip::Budget), None, None),
            "dear" => (Outcome::Pass, Some(1.0), Some(1_000)),
            "flat" => (Outcome::Pass, Some(0.7), Some(1_000)),
            // Scores differ, as those of a judge at work do.
            _ => (Outcome::Pass, Some(1.0 - (sequence % 5) as f64 / 10.0), Some(1_000)),
        };
        let cost_nano_usd = if mark == "dear" { 50_000_000 } else { 100_000 };
        Verdict { judge, fingerprint, environment, sequence, outcome, score, latency_ms, cost_nano_usd, wait_ms: latency_ms.unwrap_or(0) }
    }

    /// Lets time go on to `to`, in steps.
    fn elapse(&mut self, to: Timestamp) {
        let step = self.step.max(Span::from_millis(to.since(self.now).millis() / STEPS_MAX));
        while self.now < to {
            self.now = to.min(self.now + step);
            if self.replay.machine().would_elapse(self.now) {
                self.replay.apply(Input::Elapsed { now: self.now }, &mut self.told);
                self.judge();
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
