//! Verdicts of judge models: who is asked about which calls, what comes back, and with which weight it counts.
//!
//! A judge sees a sample. Whether a call is in it depends on a draw that its run alone decides, so all judges see the same runs, and a replay sees the
//! same calls; every verdict carries the probability with which its call was chosen, in steps that are exact, so that sums by step say all that any
//! estimate needs.
//! Deliberately absent: who is chosen (the machine decides), and asking (the engine's).

use crate::call::{CallLog, Kind};
use crate::measure::Measure;
use crate::plan::{Filter, fingerprint};
use crate::show::Unit;
use crate::signal::{Signal, Signals};
use crate::{Key, Timestamp};
use serde::{Deserialize, Serialize};

/// A judge, as far as it is decided whom it sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    pub name: String,
    /// Of everything that changes what it measures: another text is another ruler, and what was learned with the old one says nothing.
    pub fingerprint: u64,
    /// Which answered calls it can judge.
    pub applies: Filter,
    /// Empty: all.
    pub environments: Vec<String>,
    pub sampling: Sampling,
}

/// How many calls a judge sees, and whose. All of it holds for each environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// The share of calls it should see, 0..=1, as far as `per_minute` allows.
    pub rate: f64,
    /// Calls that it sees a minute at most; 1..=[`Sampling::PER_MINUTE_MAX`].
    pub per_minute: u32,
    /// Calls alike in these labels are a group; each gets its part of the sample.
    pub by: Vec<Key>,
    /// Calls a minute that a group gets at least, while it has so many and all groups' together fit: so rare groups are not drowned.
    pub group_min: u32,
    /// Calls a minute that a group gets at most, on average.
    pub group_max: u32,
    /// Calls with one of these signals are groups of their own, of which the judge sees all that it may.
    pub always: Vec<Signal>,
    /// So are those that it lets through, unless it is empty.
    pub always_where: Filter,
}

impl Sampling {
    /// More verdicts than this say nothing that fewer do not.
    pub const PER_MINUTE_MAX: u32 = 6_000;

    /// Calls that may be chosen in one tick of ten seconds: a third of a minute's, so that quiet ticks give to the next.
    pub fn most_per_tick(&self) -> usize {
        self.per_minute as usize / 3 + 1
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            rate: 0.01,
            per_minute: 60,
            by: vec![Key::Stage, Key::Model, Key::PromptVersion],
            group_min: 2,
            group_max: Self::PER_MINUTE_MAX,
            always: Vec::new(),
            always_where: Filter::default(),
        }
    }
}

impl Judge {
    /// Whether it can judge `call`, as far as its filter does not say: the call did not fail, what came of it is logged, and the environment is
    /// one of its own. What a retrieval found may be among its properties.
    pub fn can_judge(&self, call: &CallLog<'_>) -> bool {
        !call.failed()
            && (call.output.logged() || call.kind == Kind::Retrieval)
            && (self.environments.is_empty() || self.environments.iter().any(|name| *name == call.environment))
    }

    /// Whether `call` is of those that it is to see whenever it may.
    pub fn wants(&self, call: &CallLog<'_>, signals: Signals) -> bool {
        let Sampling { always, always_where, .. } = &self.sampling;
        always.iter().any(|signal| signals.get(*signal).1) || !always_where.0.is_empty() && always_where.lets_through(call)
    }
}

/// The draw of the run that `call` belongs to; one without is a run of its own.
pub fn draw(call: &CallLog<'_>) -> u64 {
    draw_of_run(call.event_id.as_deref().unwrap_or(&call.id))
}

/// Where in 0..2^64 a run lies: small draws are chosen first, by every judge.
pub fn draw_of_run(run: &str) -> u64 {
    // The mixer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the high bits of FNV of short texts alone are not even enough.
    let mixed = |hash: u64, shift: u32, by: u64| (hash ^ (hash >> shift)).wrapping_mul(by);
    let hash = mixed(fingerprint(&[run]), 30, 0xbf58_476d_1ce4_e5b9);
    let hash = mixed(hash, 27, 0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The probability with which a call was chosen: 2 to the power of a whole number of eighths, from 1 down to 2.5e-10.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Inclusion(u8);

/// 2^(-k/8).
const EIGHTHS: [f64; 8] = [
    1.0,
    0.917_004_043_204_671_2,
    0.840_896_415_253_714_6,
    0.771_105_412_703_970_4,
    core::f64::consts::FRAC_1_SQRT_2,
    0.648_419_777_325_504_8,
    0.594_603_557_501_360_5,
    0.545_253_866_332_628_8,
];

impl Inclusion {
    pub const CERTAIN: Self = Self(0);

    /// The largest step that is not above `probability`; the smallest there is for less.
    pub fn at_most(probability: f64) -> Self {
        (0..=u8::MAX).map(Self).find(|step| step.probability() <= probability).unwrap_or(Self(u8::MAX))
    }

    pub fn probability(self) -> f64 {
        EIGHTHS[usize::from(self.0 % 8)] / (1u64 << (self.0 / 8)) as f64
    }

    /// The calls that one of this step stands for.
    pub fn weight(self) -> f64 {
        1.0 / self.probability()
    }

    /// Whether a call with this draw is chosen.
    pub fn takes(self, draw: u64) -> bool {
        self == Self::CERTAIN || draw < (self.probability() * 2f64.powi(64)) as u64
    }
}

/// What became of one call that was chosen for one judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub judge: String,
    pub fingerprint: u64,
    pub environment: String,
    /// The call's, in the stream.
    pub sequence: u64,
    pub outcome: Outcome,
    /// 0..=1.
    pub score: Option<f64>,
    /// Of the judge's own request; `None` when none was sent.
    pub latency_ms: Option<u64>,
    pub cost_nano_usd: u64,
    /// From choosing the call to this verdict.
    pub wait_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Pass,
    Fail,
    /// The judge answered, and what it said is no verdict. That is the judge's failure, never the model's.
    Unreadable,
    /// The judge did not answer.
    Errored,
    Skipped(Skip),
}

/// Why a chosen call was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Too many calls wait for this judge.
    Backlog,
    /// What it may cost would exceed the spend cap.
    Budget,
    /// The judge has failed so often that it is left alone for a while.
    Resting,
    /// It waited too long to say anything about now.
    Expired,
    /// The stream does not hold the call any more.
    Gone,
    /// It cannot be asked about: its text makes no prompt.
    Unsuitable,
    /// The judge or the rules changed meanwhile.
    Changed,
}

impl Skip {
    pub const ALL: [Self; 7] = [Self::Backlog, Self::Budget, Self::Resting, Self::Expired, Self::Gone, Self::Unsuitable, Self::Changed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::Budget => "budget",
            Self::Resting => "resting",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::Unsuitable => "unsuitable",
            Self::Changed => "changed",
        }
    }
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unreadable => "unreadable",
            Self::Errored => "errored",
            Self::Skipped(_) => "skipped",
        }
    }

    /// `Some(failed)` where there is an opinion.
    pub fn failed(self) -> Option<bool> {
        match self {
            Self::Pass => Some(false),
            Self::Fail => Some(true),
            _ => None,
        }
    }
}

/// A named yes/no about a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VerdictSignal {
    /// The judge's opinion is fail. Of opinions; its rate is an estimate for all calls, by their probabilities.
    Failed,
    /// The judge did not answer. Of calls that it was asked about.
    Errored,
    /// What it said is no verdict. Of its answers.
    Unreadable,
    /// It was not asked. Of chosen calls.
    Skipped,
}

impl VerdictSignal {
    pub const ALL: [Self; 4] = [Self::Failed, Self::Errored, Self::Unreadable, Self::Skipped];

    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "judge",
            Self::Errored => "judge_errored",
            Self::Unreadable => "judge_unreadable",
            Self::Skipped => "judge_skipped",
        }
    }

    /// Whether the verdict is in the numerator; `None` when it is not in the denominator.
    pub fn of(self, outcome: Outcome) -> Option<bool> {
        match (self, outcome) {
            (Self::Failed, outcome) => outcome.failed(),
            (Self::Skipped, outcome) => Some(matches!(outcome, Outcome::Skipped(_))),
            (_, Outcome::Skipped(_)) => None,
            (Self::Errored, outcome) => Some(outcome == Outcome::Errored),
            (Self::Unreadable, Outcome::Errored) => None,
            (Self::Unreadable, outcome) => Some(outcome == Outcome::Unreadable),
        }
    }

    /// The noun for what it is a share of, in sentences.
    pub fn of_what(self) -> &'static str {
        match self {
            Self::Failed => "judged calls",
            Self::Errored => "calls that the judge was asked about",
            Self::Unreadable => "answers of the judge",
            Self::Skipped => "calls chosen for the judge",
        }
    }
}

/// A named number of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VerdictMeasure {
    /// 0..=1, in hundredths.
    Score,
    /// Of the judge's own request.
    LatencyMs,
    /// Of the judge's own request.
    CostUsd,
    /// From choosing the call to its verdict.
    WaitMs,
}

impl VerdictMeasure {
    pub const ALL: [Self; 4] = [Self::Score, Self::LatencyMs, Self::CostUsd, Self::WaitMs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Score => "judge_score",
            Self::LatencyMs => "judge_latency_ms",
            Self::CostUsd => "judge_cost_usd",
            Self::WaitMs => "judge_wait_ms",
        }
    }

    /// What one kept step is worth in the unit of the name.
    pub fn step(self) -> f64 {
        match self {
            Self::Score => 0.01,
            Self::CostUsd => Measure::CostUsd.step(),
            Self::LatencyMs | Self::WaitMs => 1.0,
        }
    }

    pub fn unit(self) -> Unit {
        match self {
            Self::Score => Unit::default(),
            Self::CostUsd => Unit::Dollars,
            Self::LatencyMs | Self::WaitMs => Unit::Millis,
        }
    }

    pub fn of(self, verdict: &Verdict) -> Option<u64> {
        match self {
            Self::Score => verdict.score.map(|score| (score.clamp(0.0, 1.0) * 100.0).round() as u64),
            Self::LatencyMs => verdict.latency_ms,
            Self::CostUsd => verdict.latency_ms.map(|_| verdict.cost_nano_usd),
            Self::WaitMs => verdict.latency_ms.map(|_| verdict.wait_ms),
        }
    }
}

/// A name like `judge_errored` or `judge_errored:relevance` in two: what, and which judge.
fn named<T: Copy>(written: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Option<(T, Option<String>)> {
    let (what, judge) = written.split_once(':').map_or((written, None), |(what, judge)| (what, Some(judge)));
    let found = all.iter().copied().find(|one| name(*one) == what)?;
    (judge != Some("")).then(|| (found, judge.map(str::to_owned)))
}

impl VerdictSignal {
    /// `judge:NAME`, `judge_errored` or `judge_errored:NAME`, and so on.
    pub fn parse(written: &str) -> Option<(Self, Option<String>)> {
        named(written, &Self::ALL, Self::name)
    }
}

impl VerdictMeasure {
    /// `judge_score:NAME`, `judge_latency_ms` or `judge_latency_ms:NAME`, and so on.
    pub fn parse(written: &str) -> Option<(Self, Option<String>)> {
        named(written, &Self::ALL, Self::name)
    }
}

/// A call that is to be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeRequest {
    pub judge: String,
    pub fingerprint: u64,
    pub environment: String,
    /// The call's, in the stream.
    pub sequence: u64,
    /// End of the tick in which it was chosen.
    pub at: Timestamp,
    pub inclusion: Inclusion,
}

impl JudgeRequest {
    /// The same for the same call and judge, whenever it is made.
    pub fn id(&self) -> String {
        let hash = fingerprint(&[&self.judge, &format!("{:016x}", self.fingerprint), &self.environment, &self.sequence.to_string()]);
        format!("{}-{hash:016x}", self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_eighths_of_powers_of_two() {
        for step in 0..=u8::MAX {
            let expected = (-f64::from(step) / 8.0).exp2();
            let got = Inclusion(step).probability();
            assert!((got / expected - 1.0).abs() < 1e-15, "{step}: {got} is not {expected}");
            assert_eq!(Inclusion::at_most(got), Inclusion(step));
        }
        assert_eq!(Inclusion::at_most(7.0), Inclusion::CERTAIN);
        assert_eq!(Inclusion::at_most(0.0), Inclusion(u8::MAX));
        assert!(Inclusion::CERTAIN.takes(u64::MAX) && !Inclusion(8).takes(1 << 63) && Inclusion(8).takes((1 << 63) - 1));
    }

    #[test]
    fn draws_are_even_and_those_of_a_run_are_one() {
        let log = |id: usize, run: Option<usize>| {
            let run = run.map_or(String::new(), |run| format!(",\"event_id\":\"run-{run}\""));
            format!("{{\"id\":\"call-{id}\",\"time\":1700000000000,\"model\":\"m\"{run}}}")
        };
        let of = |log: String| draw(&crate::parse(log.as_bytes()).expect("a good log"));
        assert_eq!(of(log(1, Some(9))), of(log(2, Some(9))));
        let mut tenths = [0u32; 10];
        for id in 0..20_000 {
            tenths[(of(log(id, None)) as f64 / 2f64.powi(64) * 10.0) as usize] += 1;
        }
        // Binomial(20000, 0.1) has a standard deviation of 42.
        assert!(tenths.iter().all(|count| count.abs_diff(2000) < 210), "{tenths:?}");
    }

    #[test]
    fn what_is_about_verdicts_may_name_a_judge() {
        assert_eq!(VerdictSignal::parse("judge:relevance"), Some((VerdictSignal::Failed, Some("relevance".into()))));
        assert_eq!(VerdictSignal::parse("judge"), Some((VerdictSignal::Failed, None)));
        assert_eq!(VerdictSignal::parse("judge:"), None);
        assert_eq!(VerdictSignal::parse("judge_errored"), Some((VerdictSignal::Errored, None)));
        assert_eq!(VerdictMeasure::parse("judge_wait_ms:x"), Some((VerdictMeasure::WaitMs, Some("x".into()))));
    }
}
