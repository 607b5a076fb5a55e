//! What every detector under comparison is: something that looks at a stream's past after each tick and says a number.

use crate::generator::Tick;

/// Says more, the more it believes in a change. It alarms where that reaches its threshold, which is chosen outside.
pub trait Watch: Send {
    /// After the last tick of `past`. Negative infinity: nothing to say. It is asked from the first tick on, and may use its warm-up only to learn.
    fn tick(&mut self, past: &Past) -> f64;

    /// A copy, so that one history can go on in several ways.
    fn fork(&self) -> Box<dyn Watch>;
}

/// A stream up to now, as running sums, so that every window is two subtractions.
#[derive(Clone, Debug)]
pub struct Past {
    last: Tick,
    calls: Vec<u32>,
    events: Vec<u32>,
}

impl Default for Past {
    fn default() -> Self {
        Self { last: Tick::default(), calls: vec![0], events: vec![0] }
    }
}

impl Past {
    pub fn push(&mut self, tick: Tick) {
        let (calls, events) = self.sums(self.ticks());
        self.calls.push(calls + tick.calls as u32);
        self.events.push(events + tick.events as u32);
        self.last = tick;
    }

    pub fn last(&self) -> Tick {
        self.last
    }

    pub fn ticks(&self) -> usize {
        self.calls.len() - 1
    }

    /// Forgets what came after the first `ticks`.
    pub fn rewind(&mut self, ticks: usize) {
        self.calls.truncate(ticks + 1);
        self.events.truncate(ticks + 1);
    }

    /// Calls and events of the ticks from `from` to `to` ticks ago, as far as there were any.
    pub fn between(&self, from: usize, to: usize) -> (f64, f64) {
        let now = self.ticks();
        let (first, last) = (self.sums(now.saturating_sub(from)), self.sums(now.saturating_sub(to)));
        (f64::from(last.0 - first.0), f64::from(last.1 - first.1))
    }

    fn sums(&self, ticks: usize) -> (u32, u32) {
        (self.calls[ticks], self.events[ticks])
    }
}
