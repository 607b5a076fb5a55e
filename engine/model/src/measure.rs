//! The built-in measures: named numbers of a call, as whole units that sum without rounding.

use crate::call::CallLog;
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

    /// What one kept unit is worth in the unit of the name: 1e-9 for dollars, otherwise 1.
    pub fn unit(self) -> f64 {
        if self == Self::CostUsd { 1e-9 } else { 1.0 }
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
