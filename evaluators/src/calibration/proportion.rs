//! Shares with their intervals. All intervals are of 95 %.

/// The standard normal quantile of 0.975.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proportion {
    /// At most `of`.
    pub hits: u64,
    pub of: u64,
}

/// A value and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// Whether the interval holds this value, ends included.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Normal around a value, within `low ..= high`.
    pub(crate) fn around(value: f64, variance: f64, low: f64, high: f64) -> Self {
        // Rounding can leave a variance of nothing just below it.
        let half = Z * variance.max(0.0).sqrt();
        Self { value, low: (value - half).clamp(low, high), high: (value + half).clamp(low, high) }
    }
}

impl Proportion {
    /// The share with Wilson's interval (1927); `None` of nothing.
    pub fn estimate(self) -> Option<Estimate> {
        (self.of > 0).then(|| wilson(self.hits as f64 / self.of as f64, self.of as f64))
    }

    /// This share less an independent one, with Newcombe's interval (1998, method 10); `None` where one is of nothing.
    pub fn minus(self, other: Self) -> Option<Estimate> {
        let (a, b) = (self.estimate()?, other.estimate()?);
        let value = a.value - b.value;
        let below = ((a.value - a.low).powi(2) + (b.high - b.value).powi(2)).sqrt();
        let above = ((a.high - a.value).powi(2) + (b.value - b.low).powi(2)).sqrt();
        Some(Estimate { value, low: value - below, high: value + above })
    }
}

/// Wilson's interval of a share of `n`, which need not be whole: of weighted samples it is the effective size. Needs `n` above 0.
pub(crate) fn wilson(share: f64, n: f64) -> Estimate {
    let z2 = Z * Z;
    let centre = (n * share + z2 / 2.0) / (n + z2);
    let half = Z * (n * share * (1.0 - share) + z2 / 4.0).sqrt() / (n + z2);
    // The ends are exact at 0 and 1; rounding is not.
    Estimate { value: share, low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_that_of_the_tables() {
        // Newcombe 1998 (two-sided intervals for the single proportion), table I, method 3.
        for (hits, of, low, high) in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)] {
            let estimate = Proportion { hits, of }.estimate().expect("of something");
            assert!((estimate.low - low).abs() < 5e-5 && (estimate.high - high).abs() < 5e-5, "{hits}/{of}: {estimate:?}");
        }
        assert_eq!(Proportion { hits: 0, of: 0 }.estimate(), None);
    }

    #[test]
    fn an_interval_stays_within_0_and_1_and_holds_its_share() {
        for of in 1..60 {
            for hits in 0..=of {
                let estimate = Proportion { hits, of }.estimate().expect("of something");
                assert!(0.0 <= estimate.low && estimate.high <= 1.0 && estimate.holds(estimate.value), "{hits}/{of}: {estimate:?}");
            }
        }
    }
}
