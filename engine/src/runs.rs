//! A run as a person looks at it: its calls as a tree with their times, what went wrong in which step, and where it began to go wrong.
//!
//! A pure view of rows, payload details and verdicts. Deliberately absent: measures of whole runs, which rules watch while they happen (`model::run`).

use crate::calls::Detail;
use crate::judging::Said;
use index::{Number, Row, Text};
use model::verdict::Outcome;
use model::{Signal, Span, Timestamp};
use serde::Serialize;
use std::collections::HashMap;

/// Signals that say how a call came through, not that its answer is bad.
const RECOVERED: [Signal; 6] = [Signal::Retry, Signal::Fallback, Signal::RateLimited, Signal::Timeout, Signal::Overloaded, Signal::FencedJson];

/// All calls of one `event_id` in one environment.
#[derive(Clone, Debug, Serialize)]
pub struct RunView {
    pub event_id: String,
    pub environment: String,
    /// The earliest begin of a call, and the latest end.
    pub began: Timestamp,
    pub ended: Timestamp,
    pub latency_ms: u64,
    pub calls: usize,
    pub errors: usize,
    pub fallbacks: usize,
    pub retries: usize,
    pub cost_usd: f64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Of its first call that has one each; empty when none has.
    pub user_id: String,
    pub session_id: String,
    pub thread_id: String,
    /// There are more calls than are shown.
    pub cut: bool,
    /// The step where it began to go wrong, by its place among the steps: the first that is bad, else the first that was saved by a retry or fallback.
    pub first_bad: Option<usize>,
    /// Parents before children, those of one parent in the order in which they began.
    pub steps: Vec<Step>,
}

/// A call of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    #[serde(flatten)]
    pub row: Row,
    /// When it began, as far as its latency says.
    pub began: Timestamp,
    /// How many parents it has above it in this run.
    pub depth: usize,
    /// What is wrong with its answer: signals and failed verdicts, by name.
    pub bad: Vec<String>,
    /// What went wrong on the way and was made good.
    pub recovered: Vec<String>,
    pub verdicts: Vec<Opinion>,
    #[serde(flatten)]
    pub detail: Detail,
}

/// What a judge said of a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Opinion {
    pub judge: String,
    /// `pass`, `fail`, `unreadable`, `errored` or `skipped`.
    pub outcome: &'static str,
    pub score: Option<f64>,
    pub why: String,
    pub cost_usd: f64,
}

impl From<&Said> for Opinion {
    fn from(said: &Said) -> Self {
        let outcome = match said.verdict.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Unreadable => "unreadable",
            Outcome::Errored => "errored",
            Outcome::Skipped(_) => "skipped",
        };
        let (judge, cost_usd) = (said.verdict.judge.clone(), said.verdict.cost_nano_usd as f64 / 1e9);
        Self { judge, outcome, score: said.verdict.score, why: said.why.clone(), cost_usd }
    }
}

/// How often a step is bad, in runs in which a later step is bad as well and in those in which none is: of runs around the one that is looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Often {
    pub step: String,
    /// Runs with this step in which a later one is bad, and in how many of them this one is.
    pub affected: u64,
    pub affected_bad: u64,
    /// The same of runs in which no later step is bad.
    pub others: u64,
    pub others_bad: u64,
    /// How many runs each stands for, where not all were looked at.
    pub weight: u64,
}

/// What a step is in every run: its stage, else its service, else its kind.
pub fn step_name(row: &Row) -> &str {
    [row.text(Text::Stage), row.text(Text::Service), row.text(Text::Kind)].into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

impl Often {
    /// `None` where no run has the step. Verdicts are not looked at; runs are of one environment.
    pub fn of(step: &str, rows: &[Row], weight: u64) -> Option<Self> {
        let mut runs: HashMap<&str, Vec<&Row>> = HashMap::new();
        for row in rows.iter().filter(|row| !row.text(Text::EventId).is_empty()) {
            runs.entry(row.text(Text::EventId)).or_default().push(row);
        }
        let mut often = Self { step: step.to_owned(), weight, ..Self::default() };
        for rows in runs.values_mut() {
            rows.sort_by_key(|row| (row.time, row.sequence));
            let Some(last) = rows.iter().rposition(|row| step_name(row) == step) else { continue };
            let bad = |row: &Row| !judged(row, &[]).0.is_empty();
            let own_bad = u64::from(rows.iter().any(|row| step_name(row) == step && bad(row)));
            if rows[last + 1..].iter().any(|row| bad(row)) {
                (often.affected, often.affected_bad) = (often.affected + 1, often.affected_bad + own_bad);
            } else {
                (often.others, often.others_bad) = (often.others + 1, often.others_bad + own_bad);
            }
        }
        (often.affected + often.others > 0).then_some(often)
    }
}

/// A call of a run with what is known of it.
#[derive(Clone, Debug)]
pub struct Known {
    pub row: Row,
    pub detail: Detail,
    pub said: Vec<Said>,
}

/// When a call began: it is logged at its end.
pub fn began(row: &Row) -> Timestamp {
    row.time - Span::from_millis(row.number(Number::LatencyMs).unwrap_or(0))
}

/// What is wrong with a call's answer, and what went wrong on the way and was made good.
pub fn judged(row: &Row, said: &[Said]) -> (Vec<String>, Vec<String>) {
    let error = row.holds(Signal::Error);
    // The signals of a failed call's attempts say why it failed.
    let made_good = |name: &str| !error && Signal::parse(name).is_some_and(|signal| RECOVERED.contains(&signal));
    let mut bad: Vec<String> = Vec::new();
    let mut recovered = Vec::new();
    for name in row.signals().filter(|name| Signal::parse(name) != Some(Signal::Retry) || !error) {
        if made_good(name) { recovered.push(name.to_owned()) } else { bad.push(name.to_owned()) }
    }
    bad.extend(said.iter().filter(|said| said.verdict.outcome == Outcome::Fail).map(|said| format!("judge:{}", said.verdict.judge)));
    (bad, recovered)
}

impl RunView {
    /// `None` when there is no call. All of them are of one environment.
    pub fn new(calls: Vec<Known>, cut: bool) -> Option<Self> {
        let first = calls.iter().min_by_key(|known| began(&known.row))?;
        let text = |text: Text| calls.iter().map(|known| known.row.text(text)).find(|found| !found.is_empty()).unwrap_or_default().to_owned();
        let sum = |number: Number| calls.iter().filter_map(|known| known.row.number(number)).sum::<u64>();
        let count = |signal: Signal| calls.iter().filter(|known| known.row.holds(signal)).count();
        let (start, ended) = (began(&first.row), calls.iter().map(|known| known.row.time).max()?);
        let mut view = Self {
            event_id: first.row.text(Text::EventId).to_owned(),
            environment: first.row.text(Text::Environment).to_owned(),
            began: start,
            ended,
            latency_ms: ended.since(start).millis(),
            calls: calls.len(),
            errors: count(Signal::Error),
            fallbacks: count(Signal::Fallback),
            retries: count(Signal::Retry),
            cost_usd: sum(Number::CostUsd) as f64 / 1e9,
            input_tokens: sum(Number::InputTokens),
            output_tokens: sum(Number::OutputTokens),
            user_id: text(Text::User),
            session_id: text(Text::Session),
            thread_id: text(Text::Thread),
            cut,
            first_bad: None,
            steps: Vec::new(),
        };
        view.steps = steps(calls);
        let earliest = |wrong: fn(&Step) -> bool| {
            let wrong = view.steps.iter().enumerate().filter(|(_, step)| wrong(step));
            // A parent ends after the child that broke it, and began before; the deeper one is where it began.
            wrong.min_by_key(|(at, step)| (step.row.time, std::cmp::Reverse(step.depth), *at)).map(|(at, _)| at)
        };
        view.first_bad = earliest(|step| !step.bad.is_empty()).or_else(|| earliest(|step| !step.recovered.is_empty()));
        Some(view)
    }
}

/// As a tree, told line by line. A call whose parent is not here, or is its own descendant, stands at the top.
fn steps(calls: Vec<Known>) -> Vec<Step> {
    let by_id: HashMap<String, usize> = calls.iter().enumerate().rev().map(|(at, known)| (known.row.text(Text::Id).to_owned(), at)).collect();
    let parent = |at: usize| by_id.get(calls[at].row.text(Text::ParentId)).copied().filter(|parent| *parent != at);
    // Of calls that are each other's parents, none is reached from the top: they stand there themselves.
    let reaches_top = |at: usize| {
        let mut above = at;
        for _ in 0..calls.len() {
            match parent(above) {
                None => return true,
                Some(next) => above = next,
            }
        }
        false
    };
    let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for at in 0..calls.len() {
        children.entry(parent(at).filter(|_| reaches_top(at))).or_default().push(at);
    }
    for siblings in children.values_mut() {
        // The last is taken first.
        siblings.sort_by_key(|at| std::cmp::Reverse((began(&calls[*at].row), calls[*at].row.sequence)));
    }
    let mut open: Vec<(usize, usize)> = children.remove(&None).unwrap_or_default().into_iter().map(|at| (at, 0)).collect();
    let mut order = Vec::with_capacity(calls.len());
    while let Some((at, depth)) = open.pop() {
        order.push((at, depth));
        open.extend(children.remove(&Some(at)).unwrap_or_default().into_iter().map(|child| (child, depth + 1)));
    }
    let mut calls: Vec<Option<Known>> = calls.into_iter().map(Some).collect();
    let step = |(at, depth): (usize, usize)| {
        let Known { row, detail, said } = calls[at].take()?;
        let (bad, recovered) = judged(&row, &said);
        Some(Step { began: began(&row), depth, bad, recovered, verdicts: said.iter().map(Opinion::from).collect(), row, detail })
    };
    order.into_iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::signal::{Findings, signals};

    fn known(sequence: u64, log: &str) -> Known {
        let call = model::parse(log.as_bytes()).expect("a good log");
        let row = Row::of(&call, &signals(&call, &Findings::default()), &[], sequence, call.time);
        Known { row, detail: Detail::nothing("here"), said: Vec::new() }
    }

    fn log(id: &str, parent: &str, end: u64, latency: u64, more: &str) -> String {
        format!(
            r#"{{"id":"{id}","parent_id":"{parent}","event_id":"e","time":{},"latency_ms":{latency},"model":"m"{more}}}"#,
            1_767_225_600_000 + end
        )
    }

    fn shape(view: &RunView) -> String {
        view.steps.iter().map(|step| format!("{}{}", ">".repeat(step.depth), step.row.text(Text::Id))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn calls_stand_under_their_parents_in_the_order_in_which_they_began() {
        let calls = [("root", "", 100, 100), ("b", "root", 60, 20), ("a", "root", 70, 50), ("a1", "a", 50, 10), ("other", "gone", 90, 5)];
        let calls = calls.iter().zip(1..).map(|((id, parent, end, latency), at)| known(at, &log(id, parent, *end, *latency, ""))).collect();
        let view = RunView::new(calls, false).expect("there are calls");
        assert_eq!(shape(&view), "root >a >>a1 >b other");
        assert_eq!((view.latency_ms, view.calls, view.first_bad), (100, 5, None));
    }

    #[test]
    fn calls_that_are_each_others_parents_are_all_shown() {
        let calls = [("a", "b"), ("b", "a"), ("c", "c"), ("d", "a")];
        let calls: Vec<_> = calls.iter().zip(1..).map(|((id, parent), at)| known(at, &log(id, parent, at, 0, ""))).collect();
        assert_eq!(shape(&RunView::new(calls, false).expect("there are calls")), "a b c d");
    }

    #[test]
    fn the_first_bad_step_is_where_it_began_and_not_what_ended_because_of_it() {
        let failed = r#","status_code":500"#;
        let calls = vec![
            known(1, &log("retrieval", "root", 20, 10, r#","attempts":[{"model":"m","status_code":500},{"model":"m","status_code":200}]"#)),
            known(2, &log("extraction", "root", 50, 20, failed)),
            known(3, &log("root", "", 60, 60, failed)),
        ];
        let view = RunView::new(calls, false).expect("there are calls");
        assert_eq!(shape(&view), "root >retrieval >extraction");
        assert_eq!(view.first_bad.map(|at| view.steps[at].row.text(Text::Id)), Some("extraction"));
        assert_eq!(view.steps[1].recovered, ["retry"], "{:?}", view.steps[1].bad);
        assert_eq!((view.errors, view.retries), (2, 1));
    }

    #[test]
    fn a_step_that_is_bad_where_later_ones_are_is_told_apart_from_one_that_is_always_bad() {
        let call = |sequence: u64, run: u64, stage: &str, end: u64, bad: bool| {
            let status = if bad { 500 } else { 200 };
            let log = format!(
                r#"{{"id":"{sequence}","event_id":"{run}","stage":"{stage}","time":{},"model":"m","status_code":{status}}}"#,
                1_767_225_600_000 + end
            );
            known(sequence, &log).row
        };
        // Ten runs: the synthesis fails in four, in three of them after a bad extraction; one bad extraction more does no harm.
        let rows: Vec<Row> = (0..10)
            .flat_map(|run| [call(2 * run, run, "extraction", 1, run < 4 && run != 1 || run == 9), call(2 * run + 1, run, "synthesis", 2, run < 4)])
            .collect();
        let often = Often::of("extraction", &rows, 1).expect("there are runs");
        assert_eq!((often.affected, often.affected_bad, often.others, often.others_bad), (4, 3, 6, 1));
        assert_eq!(Often::of("synthesis", &rows, 1).map(|often| (often.affected, often.others, often.others_bad)), Some((0, 10, 4)));
        assert_eq!(Often::of("retrieval", &rows, 1), None);
    }

    #[test]
    fn what_was_made_good_is_the_first_bad_step_where_nothing_else_is_bad() {
        let calls = vec![
            known(1, &log("a", "", 20, 10, "")),
            known(2, &log("b", "", 50, 20, r#","provider":"p","served_by":{"provider":"q","model":"m2"}"#)),
        ];
        let view = RunView::new(calls, false).expect("there are calls");
        assert_eq!((view.first_bad, view.steps[1].bad.len(), view.steps[1].recovered.clone()), (Some(1), 0, vec!["fallback".to_owned()]));
        assert!(RunView::new(Vec::new(), false).is_none());
    }
}
