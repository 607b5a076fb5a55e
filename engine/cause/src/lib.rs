//! The most likely cause of a rate that drifted: whose calls became bad, and which earlier step of their runs made them so.
//!
//! [`across`] looks at calls of two periods and names the value of a dimension, or the two, that explain the excess of bad ones; [`along`] looks at
//! runs and names the earlier step that went wrong in affected ones. Both are silent where the evidence is weak: a shift of the whole fleet has no
//! cause of this kind. `METHOD.md` has formulas, sources, and what this cannot tell.
//!
//! Deliberately absent: I/O, clocks, threads, when to look, and which calls belong to an alert. Floats are summed in a fixed order.

mod across;
mod along;
mod base;
mod calls;
mod evidence;
mod runs;
mod words;

pub use across::{Across, Cause, Excess, Label, Silence, across};
pub use along::{Along, Rate, StepCause, along};
pub use calls::{CELLS_MAX, Calls, CallsError, Cell, DIMENSIONS_MAX, Period, VALUES_MAX};
pub use runs::{RUNS_MAX, Run, Runs, RunsError, STEPS_MAX, STRATA_MAX, Step, WAYS_MAX};
