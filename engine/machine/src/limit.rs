//! When a watched statistic has left its expected range.
//!
//! Today the range is the user's own, with a fewest number of calls below which nothing is said. Learned ranges and the sequential detector get
//! their files beside this one; the rest of the machine asks only [`drifted`].

use model::plan::Range;
use model::window::Direction;

/// Whether the interval `low..=high`, taken of `calls` calls, lies wholly outside `expected`: a rate of few calls has a wide interval, so that a
/// single bad call among forty is no drift.
pub(crate) fn drifted(low: f64, high: f64, calls: u64, at_least: u64, expected: Option<Range>) -> Option<Direction> {
    let expected = expected?;
    if calls < at_least {
        None
    } else if low > expected.high {
        Some(Direction::Up)
    } else if high < expected.low {
        Some(Direction::Down)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_drifts_when_all_of_it_is_outside_and_of_enough_calls() {
        let range = Some(Range { low: 0.01, high: 0.02 });
        for (low, high, calls, expected) in [
            (0.03, 0.05, 50, Some(Direction::Up)),
            (0.03, 0.05, 49, None),
            (0.015, 0.05, 50, None),
            (0.02, 0.02, 50, None),
            (0.001, 0.009, 50, Some(Direction::Down)),
            (0.001, 0.012, 50, None),
        ] {
            assert_eq!(drifted(low, high, calls, 50, range), expected, "{low} {high} {calls}");
        }
        assert_eq!(drifted(0.5, 0.5, 50, 1, None), None);
    }
}
