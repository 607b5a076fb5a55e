//! Offline evaluation: pass rates of judges, schemas and code evaluators over the calls of a file, side by side for each model, prompt or release.
//!
//! In `evaluation/`: `sample.rs` (the calls), `code.rs` (code evaluators, run as in production) and `table.rs` (what it comes to). Judges are asked by
//! `judging/batch.rs`.
//! Deliberately absent: which difference is enough to decide. The intervals are there; the cost of being wrong is the reader's.

pub mod code;
pub mod sample;
pub mod table;
