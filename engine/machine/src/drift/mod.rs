//! Learned expected ranges, and when a series has left its range: a sequential detector that keeps a promise about false alarms.
//!
//! Every ten-second tick of a series becomes evidence for a fixed set of changes ([`alternative`], [`evidence`]); one recursion adds it up, fires,
//! dates, sizes and resolves ([`detector`]). What is normal is learned, with season and burstiness ([`baseline`], [`season`], [`dispersion`]). How
//! much evidence is enough follows from the number of false alarms a person wants to be woken by ([`budget`]), and how long that takes at a given
//! traffic is a formula ([`delay`]). [`gauge`] is all of it for one series. METHOD.md beside this file gives formulas, sources and measurements.
//!
//! Deliberately absent: rules, groups, alerts and their words. A gauge knows ticks and counts.

pub mod alternative;
pub mod baseline;
pub mod budget;
pub mod delay;
pub mod detector;
pub mod dispersion;
pub mod evidence;
mod exponential;
pub mod gauge;
pub mod season;
pub mod shape;

/// ln(p / (1 - p)), for 0 < p < 1.
pub fn logit(p: f64) -> f64 {
    libm::log(p / (1.0 - p))
}

/// The inverse of [`logit`].
pub fn expit(v: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-v))
}
