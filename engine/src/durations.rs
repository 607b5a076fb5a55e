//! How long one kind of work takes, as a histogram that others read while it is written: for `/metrics`.
//!
//! Deliberately absent: means and quantiles, which whoever reads the histogram takes over the time they choose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in microseconds: a batch folds in milliseconds, a message to Slack takes seconds, and a minute is trouble.
const BOUNDS: [u64; 15] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 15_000_000, 60_000_000];

#[derive(Debug, Default)]
pub struct Durations {
    /// By bucket; the last has no end.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// A histogram as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Upper end in seconds, and how many took no longer. What took longer than the last of them is in `count` alone.
    pub buckets: Vec<(f64, u64)>,
    pub seconds: f64,
    pub count: u64,
}

impl Durations {
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn seen(&self) -> Seen {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let mut sum = 0;
        let upto = |(bound, count): (&u64, &u64)| {
            sum += count;
            (*bound as f64 / 1e6, sum)
        };
        let buckets = BOUNDS.iter().zip(&counts).map(upto).collect();
        Seen { buckets, seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6, count: counts.iter().sum() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_its_bucket_and_all_above_it() {
        let durations = Durations::default();
        for millis in [1, 1, 30, 90_000] {
            durations.note(Duration::from_millis(millis));
        }
        let seen = durations.seen();
        let upto = |seconds: f64| seen.buckets.iter().find(|(bound, _)| (bound - seconds).abs() < 1e-9).map(|(_, count)| *count);
        assert_eq!((upto(0.0005), upto(0.001), upto(0.025), upto(0.05), upto(60.0), seen.count), (Some(0), Some(2), Some(2), Some(3), Some(3), 4));
        assert!((seen.seconds - 90.032).abs() < 1e-6, "{}", seen.seconds);
    }
}
