//! The yardstick: CUSUM that is told both rates. Nobody is told in practice; nothing that learns can be expected to beat it.

use crate::watch::{Past, Watch};

/// Exactly optimal for two known rates (in the sense of Lorden).
///
/// Sources: Page, "Continuous inspection schemes", Biometrika 41 (1954); Moustakides, "Optimal stopping times for detecting changes in distributions",
/// Annals of Statistics 14 (1986).
#[derive(Clone)]
pub struct Oracle {
    event: f64,
    miss: f64,
    sum: f64,
}

impl Oracle {
    pub fn new(before: f64, after: f64) -> Self {
        Self { event: (after / before).ln(), miss: ((1.0 - after) / (1.0 - before)).ln(), sum: 0.0 }
    }
}

impl Watch for Oracle {
    fn tick(&mut self, past: &Past) -> f64 {
        let tick = past.last();
        self.sum = self.sum.max(0.0) + tick.events as f64 * self.event + (tick.calls - tick.events) as f64 * self.miss;
        self.sum
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}
