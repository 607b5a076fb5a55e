//! Reference detectors that monitoring products use: thresholds on windows, moving averages, windows against windows, burn rates.

use crate::watch::{Past, Watch};

const NOTHING: f64 = f64::NEG_INFINITY;

/// The rate of the last ticks; its threshold is a fixed one.
#[derive(Clone)]
pub struct Fixed {
    pub window: usize,
    pub calls_min: f64,
}

impl Watch for Fixed {
    fn tick(&mut self, past: &Past) -> f64 {
        let (n, x) = past.between(self.window, 0);
        if n >= self.calls_min { x / n } else { NOTHING }
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}

/// The rate of the last ticks against that of `reference` ticks before them, in standard errors, both directions.
#[derive(Clone)]
pub struct TwoWindows {
    pub window: usize,
    pub reference: usize,
    pub calls_min: f64,
}

impl Watch for TwoWindows {
    fn tick(&mut self, past: &Past) -> f64 {
        let (n, x) = past.between(self.window, 0);
        let (m, y) = past.between(self.window + self.reference, self.window);
        let p = (x + y) / (n + m);
        if n < self.calls_min || m < self.calls_min || p <= 0.0 || p >= 1.0 {
            return NOTHING;
        }
        (x / n - y / m).abs() / (p * (1.0 - p) * (1.0 / n + 1.0 / m)).sqrt()
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}

/// Several windows' burn rates of an error budget, each long window together with a short one. Its threshold is the budget: the textbook's fixed one
/// for an objective, here scaled to the common false-alarm rate.
///
/// Source: Beyer et al., "The Site Reliability Workbook", O'Reilly (2018), chapter 5: 14.4 over 1 h and 5 min, 6 over 6 h and 30 min, 1 over 3 days
/// and 6 h.
#[derive(Clone)]
pub struct BurnRate {
    pub ticks_per_hour: usize,
}

impl Watch for BurnRate {
    fn tick(&mut self, past: &Past) -> f64 {
        let hour = self.ticks_per_hour;
        let pairs = [(hour, hour / 12, 14.4), (6 * hour, hour / 2, 6.0), (72 * hour, 6 * hour, 1.0)];
        let rate = |window: usize| {
            let (n, x) = past.between(window, 0);
            if n > 0.0 { x / n } else { 0.0 }
        };
        pairs.iter().map(|(long, short, burn)| rate(*long).min(rate(*short)) / burn).fold(0.0, f64::max)
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}

/// An exponentially weighted average of residuals against a learned rate, in its standard deviations, both directions.
///
/// Source: Roberts, "Control chart tests based on geometric moving averages", Technometrics 1 (1959).
#[derive(Clone)]
pub struct Average {
    level: Level,
    share: f64,
    mean: f64,
    variance: f64,
}

impl Average {
    /// With as much memory as a window of so many ticks.
    pub fn new(window: usize, level: Level) -> Self {
        Self { level, share: 2.0 / (window as f64 + 1.0), mean: 0.0, variance: 0.0 }
    }
}

impl Watch for Average {
    fn tick(&mut self, past: &Past) -> f64 {
        let tick = past.last();
        let (n, x) = (tick.calls as f64, tick.events as f64);
        let warm = self.level.is_warm();
        let p = self.level.rate();
        self.level.tick(n, x);
        if !warm {
            return NOTHING;
        }
        let kept = 1.0 - self.share;
        self.mean = kept * self.mean + self.share * (x - n * p);
        self.variance = kept * kept * self.variance + self.share * self.share * n * p * (1.0 - p);
        if self.variance > 0.0 { self.mean.abs() / self.variance.sqrt() } else { NOTHING }
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}

/// A learned rate without season: all of the warm-up, then hour by hour, each an hour late, half forgotten after a week.
#[derive(Clone)]
pub struct Level {
    warm_up: u32,
    ticks_per_hour: u32,
    ticks: u32,
    all: (f64, f64),
    open: (f64, f64),
    held: (f64, f64),
}

impl Level {
    pub fn new(warm_up: u32, ticks_per_hour: u32) -> Self {
        Self { warm_up, ticks_per_hour, ticks: 0, all: (0.0, 0.0), open: (0.0, 0.0), held: (0.0, 0.0) }
    }

    pub fn is_warm(&self) -> bool {
        self.ticks >= self.warm_up
    }

    /// True when the rate has changed.
    pub fn tick(&mut self, n: f64, x: f64) -> bool {
        let warm = self.is_warm();
        self.ticks += 1;
        if !warm {
            self.all = (self.all.0 + n, self.all.1 + x);
            return self.is_warm();
        }
        self.open = (self.open.0 + n, self.open.1 + x);
        let over = (self.ticks - self.warm_up).is_multiple_of(self.ticks_per_hour);
        if over {
            let kept = 0.5f64.powf(1.0 / 168.0);
            self.all = (self.all.0 * kept + self.held.0, self.all.1 * kept + self.held.1);
            self.held = std::mem::take(&mut self.open);
        }
        over
    }

    pub fn rate(&self) -> f64 {
        (self.all.1 + 0.5) / (self.all.0 + 1.0)
    }

    /// The standard error of its log-odds.
    pub fn error(&self) -> f64 {
        let (n, x) = self.all;
        (1.0 / (x + 0.5) + 1.0 / (n - x + 0.5)).sqrt()
    }
}
