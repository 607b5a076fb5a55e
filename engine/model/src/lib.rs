//! The nouns that every room shares: a call, its signals and measures, the watch plan, and the fold of many calls into one small sum.
//!
//! Bytes become a [`CallLog`] in [`wire`], once, at the edge; from there on types hold the truth and nobody checks again.
//! Deliberately absent: I/O, clocks, state over time (that is `machine`), scripts (`rules`) and schemas (`evaluators`).

pub mod bucket;
pub mod call;
pub mod false_alarms;
pub mod fold;
pub mod label;
pub mod measure;
pub mod nearest;
pub mod plan;
pub mod run;
pub mod same_model;
pub mod show;
pub mod signal;
pub mod suspension;
pub mod takers;
pub mod time;
pub mod verdict;
pub mod window;
pub mod wire;

pub use bucket::{Bucket, Buckets, Distribution, Quantiles};
pub use call::CallLog;
pub use false_alarms::{FalseAlarms, FalseAlarmsError};
pub use fold::{Cell, Fold, Folder, Inspected};
pub use label::{Key, Labels};
pub use measure::{Measure, MeasureRef, OwnMeasure};
pub use plan::Plan;
pub use show::Unit;
pub use signal::Signal;
pub use suspension::Suspension;
pub use takers::Takers;
pub use time::{Span, Timestamp};
pub use verdict::Verdict;
pub use wire::{Malformed, parse};
