//! The detector under test, in two dresses: its bare core on a level without season, as the references learn it, and the gauge that the engine runs.

use crate::generator::{Tick, WEEK};
use crate::watch::{Past, Watch};
use crate::windows::Level;
use streamgauge_machine::drift::detector::Detector;
use streamgauge_machine::drift::evidence::{RateNull, RateTest};
use streamgauge_machine::drift::gauge::{Counts, Ended, Gauge, Kind};
use streamgauge_machine::drift::logit;

/// Ticks between false alarms that all are held to.
pub const BUDGET: f64 = WEEK as f64;
/// The name of its row.
pub const PRODUCT: &str = "product, nominal knob";

/// The detector with a learned level, guarded by one standard error. It says ln of its evidence.
#[derive(Clone)]
pub struct Core {
    detector: Detector,
    weights: &'static [f64],
    level: Level,
    test: Option<RateTest>,
}

impl Core {
    pub fn new(weights: &'static [f64], level: Level) -> Self {
        Self { detector: Detector::new(weights.len()), weights, level, test: None }
    }
}

impl Watch for Core {
    fn tick(&mut self, past: &Past) -> f64 {
        let Tick { calls, events } = past.last();
        let (n, x) = (calls as f64, events as f64);
        let mut said = f64::NEG_INFINITY;
        if let Some(test) = &self.test
            && calls > 0
        {
            self.detector.weigh(past.ticks() as u32, self.weights, n, |_| x, |k| test.binomial(k, n, x));
            said = self.detector.evidence().ln();
        }
        if self.level.tick(n, x) {
            let l = logit(self.level.rate());
            self.test = Some(RateTest::new(RateNull { up: Some(l), down: Some(l), guard: self.level.error() }));
        }
        said
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}

/// A root gauge as the engine has it: it learns level, season and dispersion online, fires by its own threshold, and resolves.
#[derive(Clone)]
pub struct Product {
    pub gauge: Gauge,
    at: u32,
    budget: f64,
}

/// What a tick did to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    No,
    Fired,
    Ended(Ended),
}

impl Product {
    /// That may fire falsely once in `budget` ticks.
    pub fn new(budget: f64) -> Self {
        Self { gauge: Gauge::new(Kind::Rate, 0, None, true), at: 0, budget }
    }

    /// The number of the next tick.
    pub fn at(&self) -> u32 {
        self.at
    }

    pub fn fires(&self) -> bool {
        self.gauge.detector().firing().is_some()
    }

    pub fn tick(&mut self, tick: Tick) -> Moved {
        let at = self.at;
        self.at += 1;
        if tick.calls == 0 {
            return Moved::No;
        }
        if let Some(ended) = self.gauge.tick(at, Counts::Events { calls: tick.calls, events: tick.events }, None) {
            return Moved::Ended(ended);
        }
        let detector = self.gauge.detector();
        if detector.firing().is_none() && detector.evidence() >= detector.threshold(at, self.budget) {
            self.gauge.fire(at);
            return if self.fires() { Moved::Fired } else { Moved::No };
        }
        Moved::No
    }
}
