//! Starting with what an engine had learned: its snapshot of a day before the first call asked for, under the rules that are back-tested. What was
//! learned is taken over where it was measured the same way; the store is only read.

use crate::error::Fault;
use crate::inspect::Inspector;
use crate::replay::Replay;
use crate::store::History;
use machine::{Effect, Machine, Start};
use model::{Timestamp, Verdict};
use std::path::Path;
use std::sync::Arc;

/// What a back-test begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing, and why.
    Cold(&'static str),
    /// What was known when the snapshot was taken; calls are read again from `position` + 1.
    Learned { clock: Timestamp, position: u64 },
}

/// A machine of each inspector as of the last day before stream sequence `first` that the store in `folder` has. Of a stream that was not made at
/// `created` the store knows nothing.
///
/// # Errors
/// When the store cannot be read. A snapshot of another version is passed over.
pub fn start(folder: &Path, created: Timestamp, first: u64, inspectors: &[Arc<Inspector>]) -> Result<(Beginning, Vec<Replay>), Fault> {
    let cold = |why| Ok((Beginning::Cold(why), inspectors.iter().map(|inspector| from_nothing(inspector, first)).collect()));
    let Some(history) = History::open(folder)? else { return cold("there is no store to learn from") };
    if history.stream()?.is_none_or(|known| known != created.to_string()) {
        return cold("the store has read another stream");
    }
    let Some(day) = history.before(first)? else { return cold("no snapshot is as old as this") };
    let mut replays = Vec::new();
    for inspector in inspectors {
        let Ok(start) = Start::decode(&day.body) else { return cold("the snapshot is of another version") };
        let mut blocks = Vec::new();
        for (environment, from, to) in start.needs(&inspector.plan) {
            // What is rolled up by now is left out: windows are short of it until it would have left them, learned ranges are not.
            blocks.extend(history.blocks(&environment, from, to)?);
        }
        let mut effects = Vec::new();
        let machine = start.finish(inspector.plan.clone(), blocks, &mut effects);
        // Alerts of rules that are not tested here end unheard.
        effects.retain(|effect| !matches!(effect, Effect::Notify(_) | Effect::Seal(_)));
        let mut replay = Replay::resume(inspector.clone(), machine);
        replay.settle(effects, &mut Vec::new());
        replays.push(replay);
    }
    Ok((Beginning::Learned { clock: day.clock, position: day.position }, replays))
}

/// Verdicts of a back-test: more than a week of a judge with a hundred a minute.
const VERDICTS_MAX: usize = 1_000_000;

/// What judges said of the stream's calls behind `position`, as the store in `folder` has it. Nobody is asked anew: a judge's series is silent where
/// nothing is recorded, and where the judge or its sampling has changed since.
///
/// # Errors
/// When the store cannot be read.
pub fn recorded(folder: &Path, created: Timestamp, position: u64) -> Result<Vec<(u64, Verdict)>, Fault> {
    let Some(history) = History::open(folder)? else { return Ok(Vec::new()) };
    if history.stream()?.is_none_or(|known| known != created.to_string()) {
        return Ok(Vec::new());
    }
    history.verdicts(position, VERDICTS_MAX)
}

/// A machine that has seen nothing and expects sequence `first`.
pub fn from_nothing(inspector: &Arc<Inspector>, first: u64) -> Replay {
    Replay::resume(inspector.clone(), Machine::new(inspector.plan.clone(), first.saturating_sub(1)))
}
