//! All state, and every decision over time: clocks, windows, expected ranges, alerts and the reasons to notify.
//!
//! One owner, one entry: [`Machine::apply`] takes one [`Input`] and appends [`Effect`]s. It cannot fail, wait, log or look at a clock; time is an
//! argument or comes from the calls. The daemon is a loop that gathers inputs and carries out effects; tests, back-tests and the demo are others,
//! and given the same inputs they alert alike, byte for byte.
//!
//! Deliberately absent: I/O, clocks, randomness, async, logging, and iteration in hash order. A test reads the sources for them.

mod alert;
mod block;
mod breaker;
mod burn;
mod checkpoint;
pub mod drift;
mod effect;
mod environment;
mod explain;
mod group;
pub mod incident;
mod ledger;
mod machine;
mod observe;
mod opinion;
mod runs;
mod sampling;
mod settle;
mod tree;
mod window;

pub use alert::{Alert, AlertView, State};
pub use block::{BlockError, GroupBlock, SliceBlock};
pub use checkpoint::{CheckpointError, Start};
pub use effect::{CheckRequest, Effect, Hit, Notification, Observed, Reason, Suspended, Suspends};
pub use environment::Open;
pub use explain::{Below, Budget, Delay, Explanation, GaugeExplanation, Leaning, RuleStanding, WatchExplanation};
pub use ledger::{Judged, Ledger};
pub use machine::{ENVIRONMENTS_MAX, Input, Machine, OTHER};
pub use sampling::Sampled;
pub use window::{HOURS_AFTER, MINUTES_AFTER};
