//! From a running sum and a gauge to what a rule sees, and from that to words.

use crate::alert::Condition;
use crate::burn::Burning;
use crate::drift::detector::{Firing, Scale};
use crate::drift::gauge::Gauge;
use crate::drift::{expit, logit};
use crate::machine::OTHER;
use crate::opinion::estimate;
use crate::tree::{kind, start};
use crate::window::Sum;
use model::plan::{Decides, Objective, Range, Rule, Statistic, TICK, Watch};
use model::window::{Direction, Drift, Observation, Ranked, wilson};
use model::{MeasureRef, Quantiles};
use std::collections::BTreeMap;

/// A rule's watches over their windows, as of tick `at`; `sums` and `gauges` by watch.
pub(crate) fn observations(rule: &Rule, sums: &[Sum], gauges: Option<&[Option<Gauge>]>, at: u32, scratch: &mut Quantiles) -> Vec<Observation> {
    let gauge = |watch: usize| gauges.and_then(|gauges| gauges[watch].as_ref());
    let mut seen: Vec<_> =
        rule.watches.iter().zip(sums).enumerate().map(|(watch, (of, sum))| observation(rule, of, sum, gauge(watch), at, scratch)).collect();
    for (watch, of) in rule.watches.iter().enumerate() {
        if let Statistic::Ratio { above, below, .. } = of.statistic {
            let (over, under) = (&seen[above], &seen[below]);
            let value = over.value.zip(under.value).filter(|(_, under)| *under > 0.0).map(|(over, under)| over / under);
            let value = value.filter(|_| under.calls >= of.at_least);
            let limits = value.unwrap_or_default();
            let drifted = value.zip(of.expect).and_then(|(value, range)| outside(value, range));
            let (holds, calls) = (over.calls, under.calls);
            seen[watch] = Observation { value, holds, calls, low: limits, high: limits, expected: of.expect, drifted, ..Observation::default() };
        }
    }
    seen
}

/// One watch over its window, as of tick `at`.
fn observation(rule: &Rule, watch: &Watch, sum: &Sum, gauge: Option<&Gauge>, at: u32, scratch: &mut Quantiles) -> Observation {
    let mut seen = Observation { expected: watch.expect, ..Observation::default() };
    let mut estimated = None;
    let value = match (&watch.statistic, sum) {
        (Statistic::Count(_), Sum::Ratio(ratio)) => {
            (seen.holds, seen.calls) = (ratio.holds, ratio.applies);
            Some(ratio.holds as f64)
        }
        (_, Sum::Ratio(ratio)) => {
            (seen.holds, seen.calls) = (ratio.holds, ratio.applies);
            (ratio.applies > 0).then(|| ratio.holds as f64 / ratio.applies as f64)
        }
        (_, Sum::Opinions(opinions)) => {
            for (_, ratio) in opinions {
                seen.holds += ratio.holds;
                seen.calls += ratio.applies;
            }
            estimated = estimate(opinions);
            seen.effective = estimated.map(|estimated| estimated.effective);
            estimated.map(|estimated| estimated.rate)
        }
        (Statistic::Quantile(measure, q), Sum::Spread { count, buckets, .. }) => {
            (seen.holds, seen.calls) = (*count, *count);
            scratch.of(buckets, [*q]).map(|[value]| value as f64 * measure.step())
        }
        (Statistic::Mean(measure), Sum::Spread { count, sum, .. }) => {
            (seen.holds, seen.calls) = (*count, *count);
            (*count > 0).then(|| *sum as f64 / *count as f64 * measure.step())
        }
        (Statistic::Sum(measure), Sum::Spread { count, sum, .. }) => {
            (seen.holds, seen.calls) = (*count, *count);
            Some(*sum as f64 * measure.step())
        }
        (_, Sum::Spread { count, .. }) | (_, Sum::Calls(count)) => {
            (seen.holds, seen.calls) = (*count, *count);
            Some(*count as f64)
        }
        (statistic, Sum::Each(labels)) => {
            let calls = labels.values().map(|(calls, _)| calls).sum();
            (seen.holds, seen.calls) = (calls, calls);
            match statistic {
                Statistic::Top(_, measure, n) => {
                    seen.top = ranking(labels, measure.as_ref(), *n);
                    seen.top.first().map(|first| first.value)
                }
                _ => Some(labels.len() as f64),
            }
        }
        (_, Sum::None) => None,
    };
    seen.value = value.filter(|_| seen.calls >= watch.at_least);
    (seen.low, seen.high) = match (&watch.statistic, sum) {
        (Statistic::Rate(_), Sum::Ratio(ratio)) => wilson(ratio.holds, ratio.applies),
        (_, Sum::Opinions(_)) => estimated.map_or((0.0, 1.0), |estimated| (estimated.low, estimated.high)),
        _ => (value.unwrap_or_default(), value.unwrap_or_default()),
    };
    match gauge {
        Some(gauge) => gauged(watch, gauge, at, &mut seen),
        None if kind(rule, watch).is_some() => seen.learning = watch.expect.is_none(),
        None if matches!(rule.decides, Decides::Burn(_)) => {}
        None => seen.drifted = seen.value.zip(watch.expect).and_then(|(value, range)| outside(value, range)),
    }
    seen
}

/// The labels with the largest sum of a measure, or the most calls; those for which no series were left take part in the whole alone.
fn ranking(labels: &BTreeMap<Box<str>, (u64, u128)>, measure: Option<&MeasureRef>, n: usize) -> Vec<Ranked> {
    let amount = |(calls, sum): &(u64, u128)| measure.map_or(u128::from(*calls), |_| *sum);
    let whole: u128 = labels.values().map(amount).sum();
    let mut ranked: Vec<_> = labels.iter().map(|(label, sums)| (label.as_ref(), sums)).filter(|(label, _)| *label != OTHER).collect();
    // By label where they are equal, which is the order they come in.
    ranked.sort_by_key(|(_, sums)| std::cmp::Reverse(amount(sums)));
    let one = |(label, sums): (&str, &(u64, u128))| Ranked {
        label: label.to_owned(),
        value: amount(sums) as f64 * measure.map_or(1.0, MeasureRef::step),
        share: if whole > 0 { amount(sums) as f64 / whole as f64 } else { 0.0 },
        calls: sums.0,
    };
    ranked.into_iter().take(n).map(one).collect()
}

/// What a gauge adds: the learned range, and the drift it found.
fn gauged(watch: &Watch, gauge: &Gauge, at: u32, seen: &mut Observation) {
    let standing = gauge.standing(at);
    seen.learning = standing.learning && watch.expect.is_none();
    if watch.expect.is_none() {
        seen.expected = usual(watch, gauge, at);
    }
    if let Some(firing) = standing.firing {
        seen.drifted = Some(firing.direction);
        seen.drift = Some(drift(watch, gauge, firing, standing.scale, standing.base));
    }
}

/// The learned range in the unit of the watch. `None` while learning, and of means, whose distribution is what is learned.
pub(crate) fn usual(watch: &Watch, gauge: &Gauge, at: u32) -> Option<Range> {
    /// A quantile is usual while the odds of lying above it are within this factor (ln 1.3) of what they were.
    const QUANTILE_GUARD: f64 = 0.262;
    match &watch.statistic {
        Statistic::Quantile(measure, q) => {
            let around = |away: f64| gauge.usual(expit(logit(*q) + away)).map(|value| value * measure.step());
            Some(Range { low: around(-QUANTILE_GUARD)?, high: around(QUANTILE_GUARD)? })
        }
        Statistic::Mean(_) | Statistic::Sum(_) | Statistic::Ratio { .. } | Statistic::Distinct(_) | Statistic::Top(..) => None,
        Statistic::Rate(_) => gauge.standing(at).expected,
        Statistic::Volume | Statistic::Count(_) => {
            let ticks = watch.window.millis() as f64 / TICK.millis() as f64;
            gauge.standing(at).expected.map(|range| Range { low: range.low * ticks, high: range.high * ticks })
        }
    }
}

fn drift(watch: &Watch, gauge: &Gauge, firing: &Firing, scale: Scale, base: f64) -> Drift {
    let size = match scale {
        Scale::Odds if base > 0.0 && base < 1.0 => expit(logit(base) + firing.distance),
        Scale::Odds => firing.observed(scale),
        Scale::Factor => libm::exp(firing.distance),
    };
    let beyond = match &watch.statistic {
        Statistic::Quantile(measure, _) | Statistic::Mean(measure) => gauge.edge_value().map(|value| value as f64 * measure.step()),
        _ => None,
    };
    Drift {
        since: start(firing.since),
        since_between: (start(firing.since_between.0), start(firing.since_between.1)),
        size,
        usual: base,
        beyond,
        calls: if scale == Scale::Odds { firing.n as u64 } else { firing.x as u64 },
        holds: firing.x as u64,
        log_evidence: firing.log_evidence,
        log_needed: firing.log_needed,
    }
}

/// On which side of its range a value lies.
fn outside(value: f64, range: Range) -> Option<Direction> {
    if value > range.high {
        Some(Direction::Up)
    } else if value < range.low {
        Some(Direction::Down)
    } else {
        None
    }
}

/// The condition of a rule that fires by its expected ranges: a node is told, or a value lies outside.
pub(crate) fn condition(rule: &Rule, observations: &[Observation], told: bool) -> Condition {
    let by_value = rule.watches.iter().zip(observations).any(|(watch, seen)| kind(rule, watch).is_none() && seen.drifted.is_some());
    if !told && !by_value {
        return Condition::Clear;
    }
    let mut summary = sentence(&rule.watches, observations).unwrap_or_else(|| "outside its expected range".to_owned());
    for first in rule.watches.iter().zip(observations).filter(|(watch, _)| watch.tells_only()).filter_map(|(_, seen)| seen.top.first()) {
        let often = if first.share > 0.5 { "mostly" } else { "most often" };
        summary += &format!("; {often} `{}` ({})", first.label, model::show::percent(first.share));
    }
    Condition::Breach { summary, severity: rule.severity, labels: Vec::new() }
}

/// The condition of a rule with an objective.
pub(crate) fn burning(rule: &Rule, objective: &Objective, burning: Option<Burning>) -> Condition {
    let Some(burning) = burning else { return Condition::Clear };
    let percent = model::show::percent;
    let summary = format!(
        "{} is {} over {} and {} over {}: {} times what an objective of {} over {} allows",
        rule.watches[0].statistic.describe(),
        percent(burning.long_share),
        burning.long,
        percent(burning.short_share),
        burning.short,
        model::show::number(burning.times),
        percent(objective.target),
        objective.over,
    );
    Condition::Breach { summary, severity: rule.severity, labels: Vec::new() }
}

/// Says of a node that is told, or a group whose value is outside its range, what is wrong with it.
fn sentence(watches: &[Watch], observations: &[Observation]) -> Option<String> {
    let (watch, seen) = watches.iter().zip(observations).find(|(watch, seen)| seen.drifted.is_some_and(|direction| watch.hurts(direction)))?;
    let what = watch.statistic.describe();
    let side = if seen.drifted == Some(Direction::Down) { "below" } else { "above" };
    let range = seen.expected.map(|range| {
        let word = if watch.expect.is_some() { "expected" } else { "usual" };
        format!("{side} the {word} {} to {}", written(watch, range.low), written(watch, range.high))
    });
    Some(match (seen.drift, &watch.statistic) {
        (Some(drift), Statistic::Count(_)) => format!("{what} is {} times the usual", model::show::number(drift.size)),
        (Some(drift), Statistic::Rate(_)) => {
            let range = range.unwrap_or_else(|| format!("{side} what is usual"));
            format!("{what} is about {}, {range}", model::show::percent(drift.size))
        }
        (Some(drift), Statistic::Quantile(measure, _) | Statistic::Mean(measure)) => {
            let beyond = drift.beyond.or(watch.expect.map(|range| range.high)).unwrap_or_default();
            let shares = (model::show::percent(drift.size), model::show::percent(drift.usual));
            let usually = if watch.expect.is_some() { "at most" } else { "usually" };
            format!(
                "{what} has moved: {} of {} are above {}, {usually} {}",
                shares.0,
                watch.statistic.of_what(),
                measure.unit().show(beyond),
                shares.1
            )
        }
        (Some(drift), Statistic::Volume) => format!("{what} come at {} times the usual rate", model::show::number(drift.size)),
        (_, Statistic::Top(..)) if !seen.top.is_empty() => {
            let first = &seen.top[0];
            let (value, share) = (written(watch, first.value), model::show::percent(first.share));
            format!("{what}: {} has {value}, {share} of all, {}", first.label, range.unwrap_or_else(|| format!("{side} what is expected")))
        }
        (_, _) => {
            let value = seen.value.map_or("n/a".to_owned(), |value| written(watch, value));
            format!("{what} {value} is {}", range.unwrap_or_else(|| format!("{side} what is expected")))
        }
    })
}

/// A value of this watch for people: `3.1 %`, `230 ms`, `$0.0031`, `412`.
pub(crate) fn written(watch: &Watch, value: f64) -> String {
    watch.statistic.unit().show(value)
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
