//! From a running sum to what a rule sees, and from that to a condition.

use crate::alert::Condition;
use crate::limit::drifted;
use crate::window::Sum;
use model::Quantiles;
use model::plan::{Rule, Statistic, Watch};
use model::window::{Direction, Observation, wilson};

/// One watch over its window.
pub(crate) fn observation(watch: &Watch, sum: &Sum, scratch: &mut Quantiles) -> Observation {
    let mut seen = Observation { expected: watch.expect, ..Observation::default() };
    let value = match (&watch.statistic, sum) {
        (_, Sum::Ratio(ratio)) => {
            (seen.holds, seen.calls) = (ratio.holds, ratio.applies);
            (ratio.applies > 0).then(|| ratio.holds as f64 / ratio.applies as f64)
        }
        (Statistic::Quantile(measure, q), Sum::Spread { count, buckets, .. }) => {
            (seen.holds, seen.calls) = (*count, *count);
            scratch.of(buckets, [*q]).map(|[value]| value as f64 * measure.unit())
        }
        (Statistic::Mean(measure), Sum::Spread { count, sum, .. }) => {
            (seen.holds, seen.calls) = (*count, *count);
            (*count > 0).then(|| *sum as f64 / *count as f64 * measure.unit())
        }
        (_, Sum::Spread { count, .. }) | (_, Sum::Calls(count)) => {
            (seen.holds, seen.calls) = (*count, *count);
            Some(*count as f64)
        }
    };
    seen.value = value.filter(|_| seen.calls >= watch.at_least);
    (seen.low, seen.high) = match sum {
        Sum::Ratio(ratio) => wilson(ratio.holds, ratio.applies),
        _ => (value.unwrap_or_default(), value.unwrap_or_default()),
    };
    seen.drifted = seen.value.and_then(|_| drifted(seen.low, seen.high, seen.calls, watch.at_least, watch.expect));
    seen
}

/// The condition of a rule that fires by its expected ranges.
pub(crate) fn condition(rule: &Rule, observations: &[Observation]) -> Condition {
    let out = rule.watches.iter().zip(observations).find(|(_, seen)| seen.drifted.is_some());
    match out {
        Some((watch, seen)) => Condition::Breach { summary: sentence(watch, seen), severity: rule.severity },
        None if observations.iter().any(|seen| seen.value.is_some()) => Condition::Clear,
        None => Condition::Unknown,
    }
}

/// `fallback rate 8.2 % is above the expected 0 % to 5 %`
fn sentence(watch: &Watch, seen: &Observation) -> String {
    let side = if seen.drifted == Some(Direction::Down) { "below" } else { "above" };
    let expected =
        seen.expected.map_or(String::new(), |range| format!(" the expected {} to {}", written(watch, range.low), written(watch, range.high)));
    format!("{} {} is {side}{expected}", watch.statistic.describe(), seen.value.map_or("n/a".to_owned(), |value| written(watch, value)))
}

/// A value of this watch for people: `3.1 %`, `230 ms`, `$0.0031`, `412`.
pub(crate) fn written(watch: &Watch, value: f64) -> String {
    match &watch.statistic {
        Statistic::Rate(_) => model::show::percent(value),
        Statistic::Quantile(measure, _) | Statistic::Mean(measure) => model::show::measure(*measure, value),
        Statistic::Volume => model::show::number(value),
    }
}

/// Whichever of two observations lies further outside its expected range, or has the larger value where there is none.
pub(crate) fn worse(a: Option<Observation>, b: Observation) -> Observation {
    let outside = |seen: &Observation| match (seen.value, seen.expected) {
        (Some(value), Some(range)) => (value - range.high).max(range.low - value),
        (value, _) => value.unwrap_or(f64::NEG_INFINITY),
    };
    match a {
        Some(a) if outside(&a) >= outside(&b) => a,
        _ => b,
    }
}
