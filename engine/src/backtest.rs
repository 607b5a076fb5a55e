//! Back-testing: which alerts would these rules have raised over calls of the past, and how often wrongly? Neither metric stores nor dashboards can say,
//! because they keep what was counted and not what would have been decided; here the same inspection and the same machine as in production run over the
//! calls again, with time being the calls' own.
//!
//! Calls come from [`calls`], are folded on all cores and applied in order by [`run`], which notes beside it [`hits`] (who was hit), [`curves`] (what the
//! report draws) and what people would have been told. [`alerts`] makes rows of that, [`incidents`] judges them, [`compare`] sets two sets of rules side
//! by side; [`text`], [`report`] and [`findings`] are three ways to show it.
//!
//! Deliberately absent: stores, deliveries, elapsed time. A pause at the end of the calls closes no tick, so an alert that nothing ended still fires.

pub mod alerts;
pub mod calls;
pub mod compare;
pub mod curves;
pub mod findings;
pub mod hits;
pub mod incidents;
pub mod learned;
pub(crate) mod lines;
pub mod report;
pub mod run;
pub mod text;
