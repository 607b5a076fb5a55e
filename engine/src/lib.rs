//! streamgauge's edges: everything that may wait, fail or look at a clock. ARCHITECTURE.md beside this file's folder is the map.
//!
//! Calls come in through [`source`], are folded by [`inspect`] and applied by [`daemon`], which alone owns the machine; what the machine decides goes
//! to the [`store`] and, through the [`outbox`], to [`slack`] and NATS. [`http`] reads, and hands over what people decide.

pub mod actions;
pub mod auditing;
pub mod backtest;
pub mod calls;
pub mod chart;
pub mod cli;
pub mod config;
pub mod costs;
pub mod curve;
pub mod daemon;
pub mod deadletter;
pub mod doctor;
pub mod durations;
pub mod error;
pub mod evaluation;
pub mod exporting;
pub mod fallback;
pub mod findings;
pub mod foreign;
pub mod hearing;
pub mod http;
pub mod incidents;
pub mod indexing;
pub mod inspect;
pub mod journal;
pub mod judging;
pub mod keeping;
pub mod listing;
pub mod message;
pub mod outbox;
pub mod posted;
pub mod prices;
pub mod redact;
pub mod reload;
pub mod replay;
pub mod republish;
pub mod routes;
pub mod rulebook;
pub mod ruletest;
pub mod runs;
pub mod sample;
pub mod schemas;
pub mod slack;
pub mod source;
pub mod standing;
pub mod start;
pub mod store;
pub mod subscriptions;
pub mod suspensions;
pub mod timing;
pub mod ways;
pub mod web;
pub mod why;
