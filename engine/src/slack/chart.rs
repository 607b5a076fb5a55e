//! A curve as Slack's own line chart: the value, and beside it the two ends of what is expected.
//!
//! Slack has lines and no bands, wants a value for every category, and shows times as they are written: so points without calls are left out, and the
//! axis says that it is in UTC. Deliberately absent: the line of text that takes its place where a workspace has no charts.

use crate::message::words::{cut, name};
use machine::incident::Curve;
use model::{Span, Timestamp, Unit};
use slack_morphism::prelude::*;
use std::collections::BTreeSet;

/// Slack's limits.
const TITLE_MAX: usize = 50;
const AXIS_MAX: usize = 50;
const POINTS_MAX: usize = 20;
/// Beyond, a picture says nothing, and a client may read the number as something else.
const VALUE_MAX: f64 = 1e12;

/// The chart, or `None` where fewer than two points have a value.
pub(super) fn chart(curve: &Curve) -> Option<SlackBlock> {
    let (unit, factor) = scale(curve);
    let points: Vec<(Timestamp, f64)> =
        curve.points.iter().filter_map(|(at, value)| Some((*at, (*value)? * factor))).filter(|(_, value)| fits(*value)).collect();
    let points = thinned(&one_a_minute(points));
    let labels = labels(&points.iter().map(|(at, _)| *at).collect::<Vec<_>>())?;
    if points.len() < 2 {
        return None;
    }
    let series = |name: &str, values: &mut dyn Iterator<Item = f64>| {
        let data = labels.iter().zip(values).filter_map(|(label, value)| Some(SlackChartDataPoint::new(label.clone(), number(value)?)));
        SlackChartDataSeries::new(name.to_owned(), data.collect())
    };
    let mut all = vec![series("Seen", &mut points.iter().map(|(_, value)| *value))];
    // An end that no value can pass is no news.
    let ends = curve.expected.map(|range| {
        let most = if curve.unit == Unit::Share { 1.0 } else { f64::INFINITY };
        [("Expected at most", Some(range.high).filter(|high| *high < most)), ("Expected at least", Some(range.low).filter(|low| *low > 0.0))]
    });
    for (name, end) in ends.into_iter().flatten() {
        if let Some(end) = end.map(|end| end * factor).filter(|end| fits(*end)) {
            all.push(series(name, &mut std::iter::repeat_n(end, points.len())));
        }
    }
    let axes = SlackChartAxisConfig::new(labels.clone()).with_x_label("UTC".to_owned());
    let axes = if unit.is_empty() { axes } else { axes.with_y_label(cut(&unit, AXIS_MAX)) };
    let title = name(&curve.what, TITLE_MAX - 2);
    Some(SlackDataVisualizationBlock::new(title, SlackChart::Line(SlackSeriesChart::new(all, axes))).into())
}

fn fits(value: f64) -> bool {
    value.is_finite() && value.abs() < VALUE_MAX
}

/// What the axis says, and by what values are multiplied for it.
fn scale(curve: &Curve) -> (String, f64) {
    let high = curve.points.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max);
    match &curve.unit {
        Unit::Share => ("%".to_owned(), 100.0),
        Unit::Millis if high >= 10_000.0 => ("s".to_owned(), 0.001),
        Unit::Millis => ("ms".to_owned(), 1.0),
        Unit::Dollars => ("$".to_owned(), 1.0),
        Unit::Number(unit) if unit.trim().is_empty() => (String::new(), 1.0),
        Unit::Number(unit) => (name(unit, AXIS_MAX - 2), 1.0),
    }
}

/// Of points within one minute the last. A curve's steps are longer, but it ends now, which may be moments after the last step; the axis names minutes.
fn one_a_minute(points: Vec<(Timestamp, f64)>) -> Vec<(Timestamp, f64)> {
    let minute = |point: &(Timestamp, f64)| point.0.floor(Span::from_secs(60));
    let mut kept: Vec<(Timestamp, f64)> = Vec::with_capacity(points.len());
    for point in points {
        kept.pop_if(|before| minute(before) == minute(&point));
        kept.push(point);
    }
    kept
}

/// At most as many points as there is room for: each the mean of its neighbours, at the last one's time.
fn thinned(points: &[(Timestamp, f64)]) -> Vec<(Timestamp, f64)> {
    let each = points.len().div_ceil(POINTS_MAX).max(1);
    let mean = |chunk: &[(Timestamp, f64)]| Some((chunk.last()?.0, chunk.iter().map(|(_, value)| value).sum::<f64>() / chunk.len() as f64));
    points.chunks(each).filter_map(mean).collect()
}

/// A name for each time, as short as tells them apart; `None` where nothing does.
fn labels(times: &[Timestamp]) -> Option<Vec<String>> {
    // Parts of `2026-11-22T14:02:30Z`.
    [11..16, 11..19, 5..16, 0..16, 0..19].into_iter().find_map(|part| {
        let labels: Vec<_> = times.iter().map(|at| at.to_string().get(part.clone()).unwrap_or_default().replace('T', " ")).collect();
        let distinct: BTreeSet<_> = labels.iter().collect();
        (distinct.len() == labels.len()).then_some(labels)
    })
}

/// With four digits, which are as exact as a picture.
fn number(value: f64) -> Option<serde_json::Number> {
    let digits = if value == 0.0 { 0 } else { 3 - value.abs().log10().floor() as i32 };
    let scale = 10f64.powi(digits.clamp(-9, 12));
    serde_json::Number::from_f64((value * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_labels_that_tell_them_apart() {
        let from = Timestamp::parse("2026-11-22T23:58:00Z").expect("it is a time");
        let every = |seconds: u64| labels(&(0..4).map(|number| from + Span::from_secs(seconds * number)).collect::<Vec<_>>());
        assert_eq!(every(60).expect("they differ"), ["23:58", "23:59", "00:00", "00:01"]);
        assert_eq!(every(20).expect("they differ")[1], "23:58:20");
        assert_eq!(every(86_400).expect("they differ")[1], "11-23 23:58");
        assert_eq!(every(0), None);
    }

    #[test]
    fn a_curve_that_ends_moments_after_a_step_is_drawn_with_its_end_at_that_minute() {
        let from = Timestamp::parse("2026-11-22T10:00:00Z").expect("it is a time");
        for moments in [200, 40_000] {
            let times = [Span::ZERO, Span::from_secs(60), Span::from_millis(60_000 + moments)];
            let points = times.into_iter().zip([0.0, 0.1, 0.2]).map(|(after, value)| (from + after, Some(value))).collect();
            let curve = Curve { what: "error rate".to_owned(), unit: Unit::Share, points, expected: None };
            let drawn = serde_json::to_value(chart(&curve).expect("two points")).expect("a block is JSON");
            assert_eq!(drawn["chart"]["axis_config"]["categories"], serde_json::json!(["10:00", "10:01"]), "{drawn:#}");
            assert_eq!(drawn["chart"]["series"][0]["data"][1]["value"], 20.0, "{drawn:#}");
        }
    }

    #[test]
    fn numbers_have_the_digits_that_a_picture_shows() {
        let written = |value| number(value).map(|number| number.to_string());
        assert_eq!([written(8.234_56), written(0.0), written(123_456.7)].map(Option::unwrap_or_default), ["8.235", "0.0", "123500.0"]);
        assert_eq!(written(f64::NAN), None);
    }
}
