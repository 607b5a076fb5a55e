//! Sparse HDR histograms: what a slice keeps of a measure.
//!
//! The buckets are those of `hdrhistogram` with two significant digits, so any value stands for itself within 1 %.
//! Dense histograms exist only as scratch, to read quantiles; kept and merged are the few buckets that have counts.
//! Count, sum and maximum are exact, beside the buckets.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Index of an HDR bucket at two significant digits. 0 ..= 4479 for values up to [`Bucket::VALUE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket(u16);

impl Bucket {
    /// 2^40 - 1: 34 years in milliseconds, 1,099 dollars in nano-dollars. Larger values are refused where calls are parsed.
    pub const VALUE_MAX: u64 = (1 << 40) - 1;

    /// The bucket that holds `value`; values over [`Self::VALUE_MAX`] share the last one.
    pub fn of(value: u64) -> Self {
        let value = value.min(Self::VALUE_MAX);
        let shift = (64 - value.leading_zeros()).saturating_sub(8);
        Self(((u64::from(shift) << 7) + (value >> shift)) as u16)
    }

    /// The bucket above.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The smallest value in this bucket.
    pub fn lowest(self) -> u64 {
        let index = u64::from(self.0);
        if index < 256 {
            return index;
        }
        let shift = (index >> 7) - 1;
        (index - (shift << 7)) << shift
    }
}

/// Counts of some buckets, sorted by bucket, none zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Buckets(Vec<(Bucket, u64)>);

/// Numbers of one measure: exact count, sum and maximum, and a sparse histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    pub count: u64,
    pub sum: u128,
    pub max: u64,
    pub buckets: Buckets,
}

/// A dense histogram as scratch, to read quantiles from sparse ones: 36 KB, so keep it where many are read.
#[derive(Debug)]
pub struct Quantiles(Histogram<u64>);

impl Buckets {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Ascending, none with count 0.
    pub fn iter(&self) -> impl Iterator<Item = (Bucket, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Cost: a binary search, and a shift of the later buckets when the bucket is new.
    pub fn record(&mut self, value: u64) {
        let bucket = Bucket::of(value);
        match self.0.binary_search_by_key(&bucket, |(b, _)| *b) {
            Ok(i) => self.0[i].1 += 1,
            Err(i) => self.0.insert(i, (bucket, 1)),
        }
    }

    /// Addition: commutative and associative.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        // Few new buckets go into many old ones: from the back, each is moved at most once.
        let new = other.0.iter().filter(|(b, _)| self.0.binary_search_by_key(b, |(mine, _)| *mine).is_err()).count();
        let mut from = self.0.len();
        self.0.resize(from + new, (Bucket(0), 0));
        let mut to = self.0.len();
        for (bucket, count) in other.0.iter().rev() {
            while from > 0 && self.0[from - 1].0 > *bucket {
                from -= 1;
                to -= 1;
                self.0[to] = self.0[from];
            }
            if from > 0 && self.0[from - 1].0 == *bucket {
                from -= 1;
                to -= 1;
                self.0[to] = (*bucket, self.0[from].1 + count);
            } else {
                to -= 1;
                self.0[to] = (*bucket, *count);
            }
        }
    }

    /// Takes away what was added before.
    pub fn subtract(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let at = self.0.binary_search_by_key(bucket, |(b, _)| *b).expect("only what was added is taken away");
            self.0[at].1 -= count;
        }
        self.0.retain(|(_, count)| *count > 0);
    }
}

impl Distribution {
    pub fn record(&mut self, value: u64) {
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
        self.buckets.record(value);
    }

    /// Addition: commutative and associative.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            self.count += other.count;
            self.sum += other.sum;
            self.max = self.max.max(other.max);
            self.buckets.add(&other.buckets);
        }
    }

    /// `None` when nothing was recorded.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }
}

impl Quantiles {
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, Bucket::VALUE_MAX, 2).expect("1..2^40 at two digits are legal bounds"))
    }

    /// The value at each of `quantiles` (0..=1): the upper end of its bucket, so within 1 % above the exact one. `None` when `buckets` is empty.
    pub fn of<const N: usize>(&mut self, buckets: &Buckets, quantiles: [f64; N]) -> Option<[u64; N]> {
        if buckets.is_empty() {
            return None;
        }
        self.0.reset();
        for (bucket, count) in &buckets.0 {
            self.0.record_n(bucket.lowest(), *count).expect("a bucket's lowest value is within the histogram's range");
        }
        Some(quantiles.map(|q| self.0.value_at_quantile(q)))
    }
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_hdrhistogram() {
        let dense = Quantiles::new().0;
        let mut value = 0u64;
        while value <= Bucket::VALUE_MAX {
            for v in [value.saturating_sub(1), value, (value + 1).min(Bucket::VALUE_MAX)] {
                assert_eq!(Bucket::of(v).lowest(), dense.lowest_equivalent(v), "{v}");
            }
            value = value * 21 / 20 + 1;
        }
        assert_eq!(Bucket::of(u64::MAX), Bucket::of(Bucket::VALUE_MAX));
    }

    #[test]
    fn merging_is_addition_whatever_the_order_and_can_be_taken_back() {
        let values = [0u64, 1, 3, 255, 256, 257, 1_000, 1_001, 70_000, 5, 5, 5, 1 << 39];
        let mut whole = Distribution::default();
        values.iter().for_each(|v| whole.record(*v));
        for cut in 0..values.len() {
            let (mut left, mut right) = (Distribution::default(), Distribution::default());
            values[..cut].iter().for_each(|v| left.record(*v));
            values[cut..].iter().for_each(|v| right.record(*v));
            let mut other = right.clone();
            other.merge(&left);
            let before = left.buckets.clone();
            left.merge(&right);
            assert_eq!(left, whole);
            assert_eq!(other, whole);
            left.buckets.subtract(&right.buckets);
            assert_eq!(left.buckets, before);
        }
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut buckets = Buckets::default();
        (1..=1000u64).for_each(|v| buckets.record(v * 7));
        let [p50, p99, p100] = Quantiles::new().of(&buckets, [0.5, 0.99, 1.0]).expect("1000 values");
        assert!((3500..=3535).contains(&p50) && (6930..=6999).contains(&p99) && (7000..=7070).contains(&p100), "{p50} {p99} {p100}");
        assert_eq!(Quantiles::new().of(&Buckets::default(), [0.5]), None);
    }
}
