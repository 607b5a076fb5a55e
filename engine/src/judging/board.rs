//! What the desk shows of itself: numbers for the metrics and the API, written by the desk alone.

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

/// One judge at this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub judge: String,
    pub description: String,
    pub api: String,
    pub endpoint: String,
    pub models: Vec<String>,
    pub fingerprint: String,
    /// `asking`, `resting` or `probing`.
    pub state: String,
    /// Calls that wait to be asked about, or to be asked about again.
    pub waiting: usize,
    /// Calls that are being asked about.
    pub under_way: usize,
    pub spent_hour_usd: f64,
    pub spent_day_usd: f64,
    /// Until the hour or the day ends, whichever leaves less; `None` without a cap.
    pub left_usd: Option<f64>,
}

#[derive(Debug, Default)]
pub struct Board(Mutex<Vec<Shown>>);

impl Board {
    pub(super) fn show(&self, judges: Vec<Shown>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = judges;
    }

    /// By name.
    pub fn judges(&self) -> Vec<Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
