//! What needs more than the call itself to be judged: was the answer to be JSON, does it satisfy its schema, do the arguments of tool calls, is there a
//! latency objective. And `library/`: the code evaluators that we ship, which the rules' scripts run.
//!
//! [`Evaluators`] are made once from the configuration and asked for every call by every worker thread; what they find becomes signals in
//! `model::signal`. Deliberately absent: I/O of any kind, so a schema is complete in itself or handed the files
//! beside it, and any opinion about what a finding means.
//!
//! [`judge`] is the same for what only a model can tell: what to ask it, and what its reply says. [`calibration`] is how far to believe it.

mod cache;
pub mod calibration;
mod evaluators;
pub mod judge;
mod library;
mod schema;
mod tools;
mod violation;

pub use evaluators::{Evaluators, Objective, SchemaSource};
pub use library::{UnknownEvaluator, library, shipped};
pub use schema::{EvaluatorError, Folder};
