//! Measures: named numbers of a call, as whole units that sum without rounding. Some are built in, others are a rule's own.

use crate::call::CallLog;
use crate::run::RunMeasure;
use crate::show::Unit;
use crate::verdict::VerdictMeasure;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Measure {
    LatencyMs,
    TtftMs,
    InputTokens,
    OutputTokens,
    /// Kept in nano-dollars, shown in dollars.
    CostUsd,
    Attempts,
}

impl Measure {
    pub const ALL: [Self; 6] = [Self::LatencyMs, Self::TtftMs, Self::InputTokens, Self::OutputTokens, Self::CostUsd, Self::Attempts];

    pub fn name(self) -> &'static str {
        match self {
            Self::LatencyMs => "latency_ms",
            Self::TtftMs => "ttft_ms",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::CostUsd => "cost_usd",
            Self::Attempts => "attempts",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// What one kept step is worth in the unit of the name: 1e-9 for dollars, otherwise 1.
    pub fn step(self) -> f64 {
        if self == Self::CostUsd { 1e-9 } else { 1.0 }
    }

    pub fn unit(self) -> Unit {
        match self {
            Self::LatencyMs | Self::TtftMs => Unit::Millis,
            Self::CostUsd => Unit::Dollars,
            Self::InputTokens | Self::OutputTokens | Self::Attempts => Unit::default(),
        }
    }

    /// At most [`crate::Bucket::VALUE_MAX`]: the parser refuses larger ones.
    pub fn of(self, call: &CallLog<'_>) -> Option<u64> {
        match self {
            Self::LatencyMs => call.latency_ms,
            Self::TtftMs => call.ttft_ms,
            Self::InputTokens => call.usage.input_tokens,
            Self::OutputTokens => call.usage.output_tokens,
            Self::CostUsd => call.cost_nano_usd,
            Self::Attempts => call.attempt_count(),
        }
    }
}

/// A measure of a grouping: built in, what a rule's `measures(log)` gives, or one of verdicts or runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MeasureRef {
    BuiltIn(Measure),
    User(OwnMeasure),
    /// Of verdicts, with its name as written, which may name a judge.
    Verdict(VerdictMeasure, String),
    Run(RunMeasure),
}

/// A measure of a rule's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnMeasure {
    pub name: String,
    /// Among those of its script.
    pub position: u8,
    /// For people, such as `facts`; may be empty.
    pub unit: String,
    /// The smallest difference that is kept: values are counted in whole steps.
    pub step: f64,
}

impl MeasureRef {
    pub fn name(&self) -> &str {
        match self {
            Self::BuiltIn(measure) => measure.name(),
            Self::User(own) => &own.name,
            Self::Verdict(_, name) => name,
            Self::Run(measure) => measure.name(),
        }
    }

    /// What one kept step is worth in the unit of the measure.
    pub fn step(&self) -> f64 {
        match self {
            Self::BuiltIn(measure) => measure.step(),
            Self::User(own) => own.step,
            Self::Verdict(measure, _) => measure.step(),
            Self::Run(measure) => measure.step(),
        }
    }

    pub fn unit(&self) -> Unit {
        match self {
            Self::BuiltIn(measure) => measure.unit(),
            Self::User(own) => Unit::Number(own.unit.clone()),
            Self::Verdict(measure, _) => measure.unit(),
            Self::Run(measure) => measure.unit(),
        }
    }
}

impl From<Measure> for MeasureRef {
    fn from(measure: Measure) -> Self {
        Self::BuiltIn(measure)
    }
}

impl From<OwnMeasure> for MeasureRef {
    fn from(own: OwnMeasure) -> Self {
        Self::User(own)
    }
}
