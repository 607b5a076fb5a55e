//! The rule language: reads rule files, checks them, and runs what they say. REFERENCE.md beside this crate is the language as users see it.
//!
//! A file that says `evaluator(#{…})` judges calls, and rules watch its verdicts. Any other is a rule. It is read once, by [`load`]: its `rule(#{…})` becomes data (a `RuleSpec` for the watch plan), its functions stay scripts. After that a
//! [`RuleSet`] answers two questions, both pure: what a rule's script sees in one call ([`RuleSet::see`]) and whether one group fires
//! ([`RuleSet::check`]). Budgets are counted in operations, so the same call or view gives the same answer on every machine.
//! Deliberately absent: clocks, state over time and alerts (that is `machine`), and any I/O but [`read_folder`].

pub mod api;
mod check;
mod evaluator;
mod fields;
mod growth;
mod json;
mod library;
mod lint;
mod load;
mod log;
mod names;
mod nearest;
mod pattern;
mod problem;
mod prose;
mod ruleset;
mod sandbox;
mod say;
mod source;
mod syntax;
mod tokens;
mod watch;
mod words;

pub use evaluator::Verdict;
pub use library::{UnknownPack, library, shipped};
pub use lint::{Bounds, Warning, lint};
pub use load::{Configured, Constants, Loaded, load};
pub use problem::Problem;
pub use ruleset::RuleSet;
pub use source::{ReadError, Source, read_folder};
