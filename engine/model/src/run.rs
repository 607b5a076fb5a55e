//! Whole runs: all calls of one `event_id` in one environment, summed up to what rules watch of them.
//!
//! Folds gather parts of runs, whose order of merging does not matter; the machine puts them together and counts each run once, like a call, when no
//! call of it has come for [`QUIET`]. A run has only labels that make sense of all its calls together, such as its user's; which stage or model it had
//! cannot be said.
//! Deliberately absent: which runs are open, and when they close. That is the machine's.

use crate::call::CallLog;
use crate::label::{Key, LABEL_MAX_BYTES, Labels};
use crate::measure::Measure;
use crate::plan::Grouping;
use crate::show::Unit;
use crate::signal::{Signal, Signals};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// A run is over when none of its calls has come for this long by its environment's clock: longer than steps of a pipeline usually take, and short
/// enough that an alarm about runs is not late. A call that comes later begins another run of the same id.
pub const QUIET: Span = Span::from_secs(30);

/// A named yes/no about a run. Of all runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RunSignal {
    /// A call of it failed.
    Error,
    /// A call of it fell back.
    Fallback,
}

/// A named number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RunMeasure {
    /// From the start of its first call to the end of its last; none where no call says how long it took.
    LatencyMs,
    /// Of the calls that carry a cost; none where no call does.
    CostUsd,
    Calls,
}

/// What the calls of a run add up to, as far as they have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSum {
    pub calls: u64,
    /// The earliest start of a call. One that does not say how long it took starts when it ends.
    pub start: Timestamp,
    /// The latest end.
    pub end: Timestamp,
    /// A call says how long it took.
    pub timed: bool,
    pub cost_nano_usd: Option<u64>,
    /// The sequence of the first call, in stream order, that failed, and that fell back.
    pub error: Option<u64>,
    pub fallback: Option<u64>,
    /// By key of [`crate::Plan::run_keys`]: the label of the first call, in stream order, that has one, behind that call's sequence.
    pub labels: Vec<Option<(u64, String)>>,
}

/// The run that `call` belongs to, cut like a label; `None` when it names none.
pub fn id<'c>(call: &'c CallLog<'_>) -> Option<&'c str> {
    let id = call.event_id.as_deref()?;
    Some(&id[..id.floor_char_boundary(LABEL_MAX_BYTES)])
}

/// Whether a whole run can have a label for `key`. Calls of one run have different stages, models and outcomes.
pub fn has_label(key: &Key) -> bool {
    matches!(key, Key::Service | Key::User | Key::Thread | Key::Session | Key::Property(_))
}

impl RunSum {
    /// Of no call yet; the first one ended at `end`.
    pub fn new(keys: &[Key], end: Timestamp) -> Self {
        Self { calls: 0, start: end, end, timed: false, cost_nano_usd: None, error: None, fallback: None, labels: vec![None; keys.len()] }
    }

    /// One call, that ended at `end` and comes later in the stream than those before. Cost: labels are looked up until the run has them.
    pub fn add(&mut self, sequence: u64, end: Timestamp, call: &CallLog<'_>, signals: Signals, keys: &[Key]) {
        self.calls += 1;
        self.timed |= call.latency_ms.is_some();
        self.start = self.start.min(end - Span::from_millis(call.latency_ms.unwrap_or(0)));
        self.end = self.end.max(end);
        self.cost_nano_usd = sum(self.cost_nano_usd, call.cost_nano_usd);
        self.error = self.error.or(signals.get(Signal::Error).1.then_some(sequence));
        self.fallback = self.fallback.or(signals.get(Signal::Fallback).1.then_some(sequence));
        for (known, key) in self.labels.iter_mut().zip(keys).filter(|(known, _)| known.is_none()) {
            let label = key.label(call);
            *known = (!label.is_empty()).then(|| (sequence, label.into_owned()));
        }
    }

    /// Adds another part of the same run; which of the two came first does not matter.
    pub fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.timed |= other.timed;
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.cost_nano_usd = sum(self.cost_nano_usd, other.cost_nano_usd);
        self.error = first(self.error, other.error);
        self.fallback = first(self.fallback, other.fallback);
        for (mine, theirs) in self.labels.iter_mut().zip(other.labels) {
            *mine = first(mine.take(), theirs);
        }
    }

    /// The labels under which it counts in a grouping of runs; `None` where it does not. `keys`: those of its labels.
    pub fn labels_in(&self, grouping: &Grouping, keys: &[Key]) -> Option<Labels> {
        let label = |key: &Key| {
            let known = keys.iter().position(|known| known == key).and_then(|at| self.labels[at].as_ref());
            known.map_or("", |(_, label)| label.as_str())
        };
        let passes = grouping.filter.0.iter().all(|(key, values)| values.iter().any(|value| value == label(key)));
        passes.then(|| grouping.keys.iter().map(|key| label(key).to_owned()).collect())
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (one, other) => one.or(other),
    }
}

/// Whichever has the lower sequence.
fn first<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

impl RunSignal {
    pub const ALL: [Self; 2] = [Self::Error, Self::Fallback];

    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "run_error",
            Self::Fallback => "run_fallback",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    /// The first call of the run that shows it.
    pub fn shown_by(self, run: &RunSum) -> Option<u64> {
        match self {
            Self::Error => run.error,
            Self::Fallback => run.fallback,
        }
    }
}

impl RunMeasure {
    pub const ALL: [Self; 3] = [Self::LatencyMs, Self::CostUsd, Self::Calls];

    pub fn name(self) -> &'static str {
        match self {
            Self::LatencyMs => "run_latency_ms",
            Self::CostUsd => "run_cost_usd",
            Self::Calls => "run_calls",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// What one kept step is worth in the unit of the name.
    pub fn step(self) -> f64 {
        match self {
            Self::CostUsd => Measure::CostUsd.step(),
            Self::LatencyMs | Self::Calls => 1.0,
        }
    }

    pub fn unit(self) -> Unit {
        match self {
            Self::LatencyMs => Unit::Millis,
            Self::CostUsd => Unit::Dollars,
            Self::Calls => Unit::default(),
        }
    }

    pub fn of(self, run: &RunSum) -> Option<u64> {
        match self {
            Self::LatencyMs => run.timed.then(|| run.end.since(run.start).millis()),
            Self::CostUsd => run.cost_nano_usd,
            Self::Calls => Some(run.calls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Findings, signals};

    const KEYS: [Key; 2] = [Key::User, Key::Service];

    /// Of calls with their sequences.
    fn run(logs: &[(u64, &str)]) -> RunSum {
        let mut sum: Option<RunSum> = None;
        for (sequence, fields) in logs {
            let log = format!(r#"{{"id":"a","model":"m",{fields}}}"#);
            let call = crate::parse(log.as_bytes()).expect("a good log");
            let sum = sum.get_or_insert_with(|| RunSum::new(&KEYS, call.time));
            sum.add(*sequence, call.time, &call, signals(&call, &Findings::default()), &KEYS);
        }
        sum.expect("there is a call")
    }

    fn measured(run: &RunSum) -> [Option<u64>; 3] {
        RunMeasure::ALL.map(|measure| measure.of(run))
    }

    #[test]
    fn a_run_lasts_from_its_first_start_to_its_last_end_and_not_as_long_as_its_calls_together() {
        // The second runs beside the first, the third after a pause.
        let together = run(&[
            (1, r#""time":1700000001000,"latency_ms":1000,"cost_usd":0.5"#),
            (2, r#""time":1700000000900,"latency_ms":800"#),
            (3, r#""time":1700000003000,"latency_ms":500,"cost_usd":0.25"#),
        ]);
        assert_eq!(measured(&together), [Some(3_000), Some(750_000_000), Some(3)]);
    }

    #[test]
    fn what_no_call_says_is_not_nothing() {
        assert_eq!(measured(&run(&[(1, r#""time":1700000001000"#), (2, r#""time":1700000004000"#)])), [None, None, Some(2)]);
        let one = run(&[(1, r#""time":1700000001000"#), (2, r#""time":1700000004000,"latency_ms":1"#)]);
        assert_eq!(measured(&one)[0], Some(3_000), "a call without a latency is a moment of its run");
    }

    #[test]
    fn parts_make_the_same_run_in_any_order() {
        let calls = [
            (1, r#""time":1700000001000,"latency_ms":1000"#),
            (2, r#""time":1700000000500,"user_id":"u","status_code":500"#),
            (3, r#""time":1700000003000,"user_id":"v","service":"s","cost_usd":1"#),
            (4, r#""time":1700000002000,"served_by":{"provider":"p","model":"other"},"provider":"p","status_code":500"#),
        ];
        let whole = run(&calls);
        assert_eq!((RunSignal::Error.shown_by(&whole), RunSignal::Fallback.shown_by(&whole)), (Some(2), None), "{whole:?}");
        let label = |at: usize| whole.labels[at].as_ref().map(|(sequence, label)| (*sequence, label.as_str()));
        assert_eq!((label(0), label(1)), (Some((2, "u")), Some((3, "s"))), "the first call that has one");
        for cut in 1..calls.len() {
            let (left, right) = (run(&calls[..cut]), run(&calls[cut..]));
            for (mut one, other) in [(left.clone(), right.clone()), (right, left)] {
                one.merge(other);
                assert_eq!(one, whole, "cut at {cut}");
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        assert!(RunSignal::ALL.into_iter().all(|signal| RunSignal::parse(signal.name()) == Some(signal)));
        assert!(RunMeasure::ALL.into_iter().all(|measure| RunMeasure::parse(measure.name()) == Some(measure)));
        let no_clash = |name: &str| Signal::parse(name).is_none() && Measure::parse(name).is_none();
        assert!(RunSignal::ALL.map(RunSignal::name).into_iter().chain(RunMeasure::ALL.map(RunMeasure::name)).all(no_clash));
    }
}
