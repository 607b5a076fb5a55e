//! Burn rates: how fast a group uses up the failures that its objective allows, over a long and a short window at once.
//!
//! It controls the spending of a budget, not false alarms, and it is not for low traffic. For teams that have objectives; everyone else is better
//! served by learned ranges. Source: "Alerting on SLOs", The Site Reliability Workbook (2018), chapter 5.

use model::Span;
use model::plan::{Objective, TICK};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Ticks of a bucket: five minutes, the shortest window.
const BUCKET: u32 = 30;
/// Windows in buckets: 5 min, 30 min, 1 h, 6 h, 3 d.
const WINDOWS: [u32; 5] = [1, 6, 12, 72, 864];
/// A long window, the short one that says it is still so, and how much of the budget is gone when the long one has burned like this throughout.
const ALERTS: [(usize, usize, f64); 3] = [(2, 0, 0.02), (3, 1, 0.05), (4, 3, 0.10)];

/// Counts of the last three days: 7 KB. A window holds the open bucket beside its full ones, so up to five minutes more than it says: a bucket that has
/// just been opened would otherwise be all that a short window knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Burn {
    /// Calls and bad calls by bucket, the open one last.
    buckets: VecDeque<(u32, u32)>,
    /// Number of the open bucket.
    open: u32,
    /// Over each of [`WINDOWS`].
    sums: [(u64, u64); WINDOWS.len()],
}

/// A budget that burns too fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Burning {
    /// Times as fast as the objective allows, over the long window.
    pub times: f64,
    pub long: Span,
    pub short: Span,
    /// Shares of bad calls over them.
    pub long_share: f64,
    pub short_share: f64,
}

impl Burn {
    pub fn new(at: u32) -> Self {
        Self { buckets: VecDeque::from([(0, 0)]), open: at / BUCKET, sums: [(0, 0); WINDOWS.len()] }
    }

    /// Time moves on to tick `at`.
    pub fn pass(&mut self, at: u32) {
        let to = at / BUCKET;
        if to.saturating_sub(self.open) > WINDOWS[WINDOWS.len() - 1] {
            *self = Self::new(at);
        }
        while self.open < to {
            self.open += 1;
            self.buckets.push_back((0, 0));
            for (sum, window) in self.sums.iter_mut().zip(WINDOWS) {
                if let Some(gone) = self.buckets.len().checked_sub(window as usize + 2) {
                    let (calls, bad) = self.buckets[gone];
                    *sum = (sum.0 - u64::from(calls), sum.1 - u64::from(bad));
                }
            }
            if self.buckets.len() > WINDOWS[WINDOWS.len() - 1] as usize + 1 {
                self.buckets.pop_front();
            }
        }
    }

    /// Calls of the open bucket.
    pub fn add(&mut self, calls: u64, bad: u64) {
        let open = self.buckets.back_mut().expect("there is always an open bucket");
        // A bucket is full after 4 billion calls in five minutes; what comes then is not counted.
        let calls = calls.min(u64::from(u32::MAX - open.0));
        let bad = bad.min(calls);
        *open = (open.0 + calls as u32, open.1 + bad as u32);
        self.sums.iter_mut().for_each(|sum| *sum = (sum.0 + calls, sum.1 + bad));
    }

    /// The first of the three alerts that holds: both windows have at least `at_least` calls, and burn at least so fast.
    pub fn burning(&self, objective: &Objective, at_least: u64) -> Option<Burning> {
        let allowed = 1.0 - objective.target;
        let share = |(calls, bad): (u64, u64)| bad as f64 / calls as f64;
        let span = |window: usize| Span::from_millis(u64::from(WINDOWS[window]) * u64::from(BUCKET) * TICK.millis());
        ALERTS.into_iter().find_map(|(long, short, spent)| {
            let (of_long, of_short) = (self.sums[long], self.sums[short]);
            if of_long.0 < at_least.max(1) || of_short.0 == 0 {
                return None;
            }
            // Slower than the objective allows is no alarm, however short the period.
            let limit = (spent * objective.over.millis() as f64 / span(long).millis() as f64).max(1.0);
            // What lies before the first call is taken for good: a week's budget is not gone after a bad first minute.
            let known = (self.buckets.len() as f64 / f64::from(WINDOWS[long])).min(1.0);
            let (long_share, short_share) = (share(of_long) * known, share(of_short));
            let holds = long_share >= limit * allowed && short_share >= limit * allowed;
            holds.then(|| Burning { times: long_share / allowed, long: span(long), short: span(short), long_share, short_share })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Objective = Objective { target: 0.99, over: Span::from_secs(30 * 86_400) };

    /// Plays (minutes, calls a tick, share of bad ones) and says when which window burned.
    fn check(play: &[(u32, u64, f64)], expected: &[(u32, Option<&str>)]) {
        let (mut burn, mut at, mut last, mut told) = (Burn::new(0), 0, None, Vec::new());
        for (minutes, calls, share) in play {
            for _ in 0..minutes * 6 {
                burn.pass(at);
                burn.add(*calls, (*calls as f64 * share).round() as u64);
                let now = burn.burning(&MONTH, 1).map(|burning| burning.long);
                if now != last {
                    told.push((at / 6, now.map(|long| long.to_string())));
                    last = now;
                }
                at += 1;
            }
        }
        assert_eq!(told, expected.iter().map(|(at, long)| (*at, long.map(str::to_owned))).collect::<Vec<_>>());
    }

    #[test]
    fn it_fires_by_how_much_of_the_budget_is_gone() {
        // An objective of 99 % held by all but 20 %: the hour burns 14.4-fold after 45 minutes, six hours six-fold would take 108.
        check(&[(400, 100, 0.0), (60, 100, 0.2)], &[(445, Some("1h"))]);
        // Twice too fast is found by the three days alone, once they hold so much.
        check(&[(4320, 100, 0.0), (2300, 100, 0.02)], &[(6480, Some("3d"))]);
    }

    #[test]
    fn it_ends_when_the_short_window_has_recovered() {
        check(&[(60, 100, 0.0), (60, 100, 0.5), (60, 100, 0.0)], &[(78, Some("1h")), (125, Some("6h")), (150, None)]);
    }

    #[test]
    fn silence_and_few_calls_say_nothing() {
        let mut burn = Burn::new(0);
        assert_eq!(burn.burning(&MONTH, 1), None);
        for bucket in 0..12 {
            burn.pass(bucket * BUCKET);
            burn.add(5, 5);
        }
        assert_eq!(burn.burning(&MONTH, 61), None);
        assert!(burn.burning(&MONTH, 60).is_some());
        burn.pass(84 * BUCKET);
        assert_eq!(burn.burning(&MONTH, 1), None, "nothing is known of the last six hours");
        burn.pass(1_000_000);
        assert_eq!(burn, Burn::new(1_000_000));
    }
}
