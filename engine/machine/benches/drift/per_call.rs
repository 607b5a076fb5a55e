//! Reference detectors from stream learning, which look at every call: Page-Hinkley and ADWIN, as in the library river.
//!
//! A tick's calls come to them in random order; what they say after a tick is the most that they said during it.

use crate::generator::{Draws, Tick};
use crate::watch::{Past, Watch};

/// Visits a tick's calls in random order.
fn shuffled(draws: &mut Draws, tick: Tick, mut visit: impl FnMut(bool)) {
    let mut events = tick.events;
    for left in (1..=tick.calls).rev() {
        let event = events > 0 && draws.uniform() * (left as f64) < events as f64;
        events -= u64::from(event);
        visit(event);
    }
}

/// CUSUM around the running mean, with an absolute allowance `delta`, both directions.
///
/// Sources: Page, "Continuous inspection schemes", Biometrika 41 (1954); Mouss et al., "Test of Page-Hinkley, an approach for fault detection in an
/// agro-alimentary production system", 5th Asian Control Conference (2004); `PageHinkley` of river 0.26.
#[derive(Clone)]
pub struct PageHinkley {
    draws: Draws,
    delta: f64,
    kept: f64,
    calls: f64,
    mean: f64,
    up: f64,
    up_min: f64,
    down: f64,
    down_max: f64,
}

impl PageHinkley {
    /// `kept`: what a call leaves of the sums (river's alpha).
    pub fn new(delta: f64, kept: f64, draws: Draws) -> Self {
        Self { draws, delta, kept, calls: 0.0, mean: 0.0, up: 0.0, up_min: f64::INFINITY, down: 0.0, down_max: f64::NEG_INFINITY }
    }
}

impl Watch for PageHinkley {
    fn tick(&mut self, past: &Past) -> f64 {
        let mut most = f64::NEG_INFINITY;
        let mut draws = self.draws.clone();
        shuffled(&mut draws, past.last(), |event| {
            let value = f64::from(u8::from(event));
            self.calls += 1.0;
            self.mean += (value - self.mean) / self.calls;
            let deviation = value - self.mean;
            self.up = self.kept * self.up + deviation - self.delta;
            self.down = self.kept * self.down + deviation + self.delta;
            self.up_min = self.up_min.min(self.up);
            self.down_max = self.down_max.max(self.down);
            most = most.max(self.up - self.up_min).max(self.down_max - self.down);
        });
        self.draws = draws;
        most
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}

/// Adaptive windowing: alarms when some split of its window has means further apart than a Bernstein bound at confidence δ allows.
///
/// What it says is -ln of the greatest δ at which it would cut, so that one pass tells its first cut for every δ. Until then its window does not
/// depend on δ.
///
/// Source: Bifet, Gavaldà, "Learning from time-changing data with adaptive windowing", SIAM Data Mining (2007); `ADWIN` of river 0.26 with clock 10,
/// five buckets a row and at least five calls a side.
#[derive(Clone)]
pub struct Adwin {
    draws: Draws,
    /// Sums of calls that are events, by row: buckets of row i hold 2^i calls, the oldest first.
    rows: Vec<Vec<u32>>,
    calls: u64,
    events: u64,
}

impl Adwin {
    const BUCKETS: usize = 5;
    const CLOCK: u64 = 10;
    const SIDE_MIN: f64 = 5.0;

    pub fn new(draws: Draws) -> Self {
        Self { draws, rows: vec![Vec::new()], calls: 0, events: 0 }
    }

    fn insert(&mut self, event: bool) {
        self.calls += 1;
        self.events += u64::from(event);
        self.rows[0].push(u32::from(event));
        let mut row = 0;
        while self.rows[row].len() > Self::BUCKETS {
            let merged: u32 = self.rows[row].drain(..2).sum();
            if row + 1 == self.rows.len() {
                self.rows.push(Vec::new());
            }
            self.rows[row + 1].push(merged);
            row += 1;
        }
    }

    fn most(&self) -> f64 {
        let (n, x) = (self.calls as f64, self.events as f64);
        let variance = x / n * (1.0 - x / n);
        let (mut older, mut older_events, mut most) = (0.0, 0.0, f64::NEG_INFINITY);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            let size = (1u64 << row) as f64;
            for events in buckets {
                older += size;
                older_events += f64::from(*events);
                let newer = n - older;
                if newer < Self::SIDE_MIN {
                    return most - (2.0 * n.ln()).ln();
                }
                if older < Self::SIDE_MIN {
                    continue;
                }
                let apart = (older_events / older - (x - older_events) / newer).abs();
                let m = 1.0 / (older - Self::SIDE_MIN + 1.0) + 1.0 / (newer - Self::SIDE_MIN + 1.0);
                // The bound √(2 m v d) + 2/3 m d, solved for d = ln(2 ln n / δ).
                let (a, b) = (2.0 / 3.0 * m, (2.0 * m * variance).sqrt());
                let root = (-b + (b * b + 4.0 * a * apart).sqrt()) / (2.0 * a);
                most = most.max(root * root);
            }
        }
        most - (2.0 * n.ln()).ln()
    }
}

impl Watch for Adwin {
    fn tick(&mut self, past: &Past) -> f64 {
        let mut most = f64::NEG_INFINITY;
        let mut draws = self.draws.clone();
        shuffled(&mut draws, past.last(), |event| {
            self.insert(event);
            if self.calls.is_multiple_of(Self::CLOCK) {
                most = most.max(self.most());
            }
        });
        self.draws = draws;
        most
    }

    fn fork(&self) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}
