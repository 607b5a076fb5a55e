//! What needs more than the call itself to be judged: was the answer to be JSON, does it satisfy its schema, is there a latency objective.
//!
//! [`Evaluators`] are made once from the configuration and asked for every call by every worker thread; what they find becomes signals in
//! `model::signal`. Deliberately absent: I/O of any kind, so a schema is complete in itself, and any opinion about what a finding means.

mod cache;
mod evaluators;
mod schema;

pub use evaluators::{Evaluators, Objective, SchemaSource};
pub use schema::EvaluatorError;
