//! Runs as an edge fills them in: whether the step that the alert is about was bad, and how each step before it went.
//!
//! A step that came after the alerted one is dropped here, so that nothing later can name it. Deliberately absent: what a run is, and when it is over.

use crate::calls::Period;
use std::collections::BTreeMap;

/// At most 200,000 runs of both periods; more are to be sampled, and their weight says so.
pub const RUNS_MAX: usize = 200_000;
/// At most 64 steps of a run before the alerted one, the first ones: what broke first is looked for.
pub const STEPS_MAX: usize = 64;
/// At most 4,096 ways in which steps are bad (step × signal, and those × who served it); further ones are not looked at.
pub const WAYS_MAX: usize = 4_096;
/// At most 16 strata.
pub const STRATA_MAX: u8 = 16;

/// One step of a run, in the order in which they ended.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What it is in every run, such as its stage.
    pub name: &'a str,
    /// Who served it, such as provider and model; "" where nobody would ask.
    pub by: &'a str,
    /// The signals that held: how it was bad. Empty where it went well.
    pub bad: &'a [&'a str],
}

#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Whether the alerted step was bad.
    pub affected: bool,
    /// How many runs it stands for; above 0, finite.
    pub weight: f64,
    /// Which runs it is compared with, below 16. Runs whose alerted step had the cause across calls belong in a stratum of their own: what made both
    /// steps bad must not look as if one had broken the other. 0 where nothing is known.
    pub stratum: u8,
    /// All steps in order, and which of them the alert is about; that one and later ones are not looked at.
    pub steps: &'a [Step<'a>],
    pub alerted: usize,
}

/// Why a run cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunsError {
    #[error("more than {RUNS_MAX} runs\nhint: sample runs, and give each the inverse of its probability as weight")]
    TooManyRuns,
    #[error("weight {0} is not above 0 and finite\nhint: it is how many runs one stands for, 1 where all are given")]
    Weight(f64),
    #[error("stratum {0} is not below {STRATA_MAX}\nhint: merge strata that matter least")]
    Stratum(u8),
}

/// The runs of both periods.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    pub(crate) names: Names,
    pub(crate) runs: Vec<Kept>,
}

/// A way of being bad, or a step's having been there; `by` is empty for all of a step's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub step: String,
    pub by: String,
    /// Empty: the step was there.
    pub signal: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    codes: BTreeMap<Way, u32>,
    /// By code: sums over runs of where the step first was, and how many runs have it. Integers, so that no order matters.
    pub places: Vec<(u64, u64)>,
}

impl Names {
    pub fn ordered(&self) -> impl Iterator<Item = (&Way, u32)> {
        self.codes.iter().map(|(way, &code)| (way, code))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub period: Period,
    pub affected: bool,
    pub weight: f64,
    pub stratum: u8,
    /// Codes of ways, ascending, each once.
    pub ways: Vec<u32>,
}

impl Runs {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, period: Period, run: &Run<'_>) -> Result<(), RunsError> {
        if !(run.weight > 0.0 && run.weight.is_finite()) {
            return Err(RunsError::Weight(run.weight));
        }
        if run.stratum >= STRATA_MAX {
            return Err(RunsError::Stratum(run.stratum));
        }
        if self.runs.len() == RUNS_MAX {
            return Err(RunsError::TooManyRuns);
        }
        let mut ways = Vec::new();
        for (place, step) in run.steps.iter().take(run.alerted.min(STEPS_MAX)).enumerate() {
            let both = ["", step.by];
            for by in &both[..1 + usize::from(!step.by.is_empty())] {
                for signal in [""].iter().chain(step.bad.iter().filter(|signal| !signal.is_empty())) {
                    let Some(code) = self.names.code(Way { step: step.name.to_owned(), by: (*by).to_owned(), signal: (*signal).to_owned() }) else {
                        continue;
                    };
                    if !ways.contains(&code) {
                        ways.push(code);
                        let (sum, runs) = &mut self.names.places[code as usize];
                        *sum += place as u64;
                        *runs += 1;
                    }
                }
            }
        }
        ways.sort_unstable();
        self.runs.push(Kept { period, affected: run.affected, weight: run.weight, stratum: run.stratum, ways });
        Ok(())
    }
}

impl Names {
    fn code(&mut self, way: Way) -> Option<u32> {
        if let Some(&code) = self.codes.get(&way) {
            return Some(code);
        }
        let code = self.places.len();
        if code >= WAYS_MAX {
            return None;
        }
        self.places.push((0, 0));
        self.codes.insert(way, code as u32);
        Some(code as u32)
    }
}
