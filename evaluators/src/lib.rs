//! What needs more than the call itself to be judged: was the answer to be JSON, does it satisfy its schema, is there a latency objective.
//!
//! [`Evaluators`] are made once from the configuration and asked for every call by every worker thread; what they find becomes signals in
//! `model::signal`. Deliberately absent: I/O of any kind, so a schema is complete in itself, and any opinion about what a finding means.
//!
//! [`judge`] is the same for what only a model can tell: what to ask it, and what its reply says. [`calibration`] is how far to believe it.

mod cache;
pub mod calibration;
mod evaluators;
pub mod judge;
mod schema;

pub use evaluators::{Evaluators, Objective, SchemaSource};
pub use schema::EvaluatorError;
