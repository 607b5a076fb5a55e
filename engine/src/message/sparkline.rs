//! A curve as one line of text: for Slack where it takes no charts, and for terminals.

use super::incident::{range as range_of, shown};
use super::words::{Words, name};
use machine::incident::Curve;

/// From the least to the most.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where there were no calls.
const GAP: char = '·';
/// Characters of a line: a phone shows them without breaking it.
const WIDTH_MAX: usize = 30;
/// Of a curve's name.
const NAME_MAX: usize = 60;

/// The line, and what it says in words: when, between what, and what is expected. `None` where fewer than two points have a value.
pub fn sparkline(curve: &Curve) -> Option<(String, Words)> {
    let points: Vec<_> = curve.points.iter().map(|(at, value)| (*at, value.filter(|value| value.is_finite()))).collect();
    let values = || points.iter().filter_map(|(_, value)| *value);
    let (first, last) = (points.first()?.0, points.last()?.0);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    if values().count() < 2 {
        return None;
    }
    // A curve of shares or times that never moves is low, not high.
    let level = |value: f64| if high > low { ((value - low) / (high - low) * (LEVELS.len() - 1) as f64).round() as usize } else { 0 };
    let each = points.len().div_ceil(WIDTH_MAX);
    let mean = |chunk: &[(model::Timestamp, Option<f64>)]| {
        let values: Vec<f64> = chunk.iter().filter_map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let line = points.chunks(each).map(|chunk| mean(chunk).map_or(GAP, |value| LEVELS[level(value).min(LEVELS.len() - 1)])).collect();
    let mut said = Words::from(format!("{} from ", name(&curve.what, NAME_MAX)));
    said = said.moment(first, last).text(" to ").moment(last, last);
    said = said.text(&format!(": at least {}, at most {}", shown(&curve.unit, low), shown(&curve.unit, high)));
    if let Some(latest) = points.last().and_then(|(_, value)| *value) {
        said = said.text(&format!(", {} at the end", shown(&curve.unit, latest)));
    }
    if let Some(range) = curve.expected {
        said = said.text(&format!("; expected {}", range_of(&curve.unit, range)));
    }
    Some((line, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::plan::Range;
    use model::{Span, Timestamp, Unit};

    #[test]
    fn a_curve_is_a_line_with_its_gaps_and_its_ends_in_words() {
        let from = Timestamp::parse("2026-11-22T14:00:00Z").expect("it is a time");
        let at = |number: usize| from + Span::from_secs(60 * number as u64);
        let values = [Some(0.002), Some(0.003), None, Some(0.05), Some(0.084), Some(f64::NAN), Some(0.082)];
        let points = values.into_iter().enumerate().map(|(number, value)| (at(number), value)).collect();
        let mut curve = Curve { what: "fallback rate".to_owned(), unit: Unit::Share, points, expected: Some(Range { low: 0.002, high: 0.011 }) };
        let (line, said) = sparkline(&curve).expect("it has values");
        assert_eq!(line, "▁▁·▅█·█");
        assert_eq!(
            said.to_string(),
            "fallback rate from 14:00 UTC to 14:06 UTC: at least 0.2 %, at most 8.4 %, 8.2 % at the end; expected 0.2 % to 1.1 %"
        );
        curve.points = (0..1000).map(|number| (at(number), Some(1.0))).collect();
        assert!(sparkline(&curve).is_some_and(|(line, _)| line.chars().count() <= WIDTH_MAX && line.chars().all(|level| level == '▁')));
        curve.points.truncate(1);
        assert_eq!(sparkline(&curve), None);
    }
}
