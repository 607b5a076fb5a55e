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

/// What changes of it.
pub(super) struct Numbers {
    pub state: &'static str,
    pub waiting: usize,
    pub under_way: usize,
    pub spent_hour_usd: f64,
    pub spent_day_usd: f64,
    pub left_usd: Option<f64>,
}

#[derive(Debug, Default)]
pub struct Board(Mutex<Vec<Shown>>);

impl Board {
    pub(super) fn open(&self, judges: Vec<Shown>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = judges;
    }

    /// Brings the numbers of all judges up to date, in their order. Costs no allocation, as the desk does it at every step.
    pub(super) fn update(&self, numbers: impl Iterator<Item = Numbers>) {
        for (shown, numbers) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().zip(numbers) {
            if shown.state != numbers.state {
                numbers.state.clone_into(&mut shown.state);
            }
            (shown.waiting, shown.under_way) = (numbers.waiting, numbers.under_way);
            (shown.spent_hour_usd, shown.spent_day_usd, shown.left_usd) = (numbers.spent_hour_usd, numbers.spent_day_usd, numbers.left_usd);
        }
    }

    /// By name.
    pub fn judges(&self) -> Vec<Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
