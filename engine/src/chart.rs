//! A curve over time with the range that is expected of it, as inline SVG: for the back-test's report and for the pages.
//!
//! Deliberately absent: where points come from, colours (whoever shows it sets the variables that [`STYLE`] names), and scripts.

mod bars;

pub use bars::Bars;

use model::plan::Range;
use model::{Span, Timestamp, Unit};
use std::fmt::Write;

/// The drawing's own units; the page scales it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;
/// Of the strip that shows incidents.
const STRIP: f64 = 9.0;
/// Between it and the lowest label.
const STRIP_GAP: f64 = 9.0;

/// Of the classes below. Colours: `--soft` and `--line` of the page, `--value`, `--band`, `--alarm`, `--edge` and `--real` of the chart.
pub const STYLE: &str = "
svg { display: block; width: 100%; height: auto; margin-top: 4px; } svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); stroke-width: 1; } .band { fill: var(--band); stroke: var(--value); stroke-opacity: .35; stroke-width: .6; } .alarm { fill: var(--alarm); } .edge { stroke: var(--edge); stroke-width: 1.5; }
.value { fill: none; stroke: var(--value); stroke-width: 1.2; stroke-linejoin: round; } .dot { fill: var(--value); } .real { fill: var(--real); }
";

/// One sample of a curve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// `None`: too few calls to have one.
    pub value: Option<f64>,
    pub expected: Option<Range>,
    pub calls: u64,
}

/// A stretch of time that is marked.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Shown by the pointer, and read aloud.
    pub title: String,
}

/// What is drawn. Cost: a corner for each sample; callers keep to about one per two of the 600 units of its width.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// For those who do not see it.
    pub label: String,
    pub from: Timestamp,
    pub to: Timestamp,
    /// In order of time.
    pub samples: Vec<(Timestamp, Point)>,
    /// Of the values; a share is drawn to 100 % at most.
    pub unit: Unit,
    /// While an alert fired.
    pub alarms: Vec<Mark>,
    /// What really was wrong, where that is known: a strip below.
    pub really: Vec<Mark>,
}

impl Chart {
    pub fn svg(&self) -> String {
        let strip = if self.really.is_empty() { 0.0 } else { STRIP + STRIP_GAP };
        let bottom = HEIGHT - BOTTOM - strip;
        let high = highest(&self.samples, &self.unit);
        let scale = Scale { from: self.from, span: self.to.since(self.from).millis().max(1) as f64, high, bottom };
        let mut text = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(&self.label));
        text += &axes(&scale, self.to, &self.unit);
        for mark in &self.alarms {
            let (start, end) = (scale.x(mark.from), scale.x(mark.to));
            let _ = write!(
                text,
                "<rect class=\"alarm\" x=\"{start:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>\
                 <line class=\"edge\" x1=\"{start:.1}\" x2=\"{start:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>",
                (end - start).max(1.5),
                bottom - TOP,
                escaped(&mark.title)
            );
        }
        for run in runs(&self.samples, |point| point.expected.is_some()) {
            let edge = |high: bool| {
                let y = move |point: &Point| point.expected.map_or(0.0, |range| if high { range.high } else { range.low });
                run.iter().map(move |(at, point)| (*at, y(point))).collect::<Vec<_>>()
            };
            let corners: Vec<_> = edge(true).into_iter().chain(edge(false).into_iter().rev()).collect();
            let _ = write!(text, "<polygon class=\"band\" points=\"{}\"/>", path(&scale, &corners));
        }
        for run in runs(&self.samples, |point| point.value.is_some()) {
            let line: Vec<_> = run.iter().filter_map(|(at, point)| Some((*at, point.value?))).collect();
            match line[..] {
                [(at, value)] => {
                    let _ = write!(text, "<circle class=\"dot\" r=\"1.5\" cx=\"{:.1}\" cy=\"{:.1}\"/>", scale.x(at), scale.y(value));
                }
                _ => {
                    let _ = write!(text, "<polyline class=\"value\" points=\"{}\"/>", path(&scale, &line));
                }
            }
        }
        if !self.really.is_empty() {
            text += &strip_of(&scale, &self.really, bottom);
        }
        text += "</svg>";
        text
    }
}

/// Where times and values lie on a chart.
struct Scale {
    from: Timestamp,
    span: f64,
    high: f64,
    bottom: f64,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        let share = (at.millis() - self.from.millis()) as f64 / self.span;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value / self.high).clamp(0.0, 1.0) * (self.bottom - TOP)
    }
}

/// The marks that touch the chart's time, below it.
fn strip_of(scale: &Scale, really: &[Mark], bottom: f64) -> String {
    let mut text = String::new();
    let y = bottom + STRIP_GAP;
    for mark in really {
        let (start, end) = (scale.x(mark.from), scale.x(mark.to));
        if end > LEFT && start < WIDTH - RIGHT {
            let _ = write!(
                text,
                "<rect class=\"real\" x=\"{start:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{STRIP}\" rx=\"2\"><title>{}</title></rect>",
                (end - start).max(2.0),
                escaped(&mark.title)
            );
        }
    }
    let _ = write!(text, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">really</text>", LEFT - 6.0, y + STRIP - 1.0);
    text
}

fn axes(scale: &Scale, to: Timestamp, unit: &Unit) -> String {
    let mut text = String::new();
    for part in [0.0, 0.5, 1.0] {
        let value = scale.high * part;
        let y = scale.y(value);
        let _ = write!(
            text,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            escaped(&unit.show(value))
        );
    }
    for at in ticks(scale.from, to) {
        let x = scale.x(at);
        // A label at the very end would be cut.
        if x > WIDTH - RIGHT - 14.0 {
            continue;
        }
        let _ = write!(
            text,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            scale.bottom,
            HEIGHT - 8.0,
            tick_label(at)
        );
    }
    text
}

/// Round times, at most seven of them.
fn ticks(from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    const MINUTES: [u64; 13] = [1, 2, 5, 10, 15, 30, 60, 180, 360, 720, 1440, 2880, 10_080];
    let minutes = to.since(from).millis() / 60_000;
    let step = MINUTES.into_iter().find(|step| minutes / step < 7).unwrap_or(minutes / 6);
    let step = Span::from_secs(step.max(1) * 60);
    std::iter::successors(Some(from.floor(step)), |at| Some(*at + step)).skip_while(|at| *at < from).take_while(|at| *at <= to).take(8).collect()
}

/// `14:30`, and at midnight the day, `11-22`.
fn tick_label(at: Timestamp) -> String {
    let text = at.to_string();
    let (day, time) = (text.get(5..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    if time == "00:00" { day.to_owned() } else { time.to_owned() }
}

/// A round number that holds all values and ranges.
fn highest(samples: &[(Timestamp, Point)], unit: &Unit) -> f64 {
    let of = |point: &Point| point.value.unwrap_or(0.0).max(point.expected.map_or(0.0, |range| range.high));
    let most = samples.iter().map(|(_, point)| of(point)).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let round = rounded_up(most);
    match unit {
        Unit::Share if most <= 0.0 => 0.01,
        Unit::Share => round.min(1.0),
        _ if most <= 0.0 => 1.0,
        _ => round,
    }
}

fn rounded_up(most: f64) -> f64 {
    if most <= 0.0 {
        return 0.0;
    }
    let ten = 10f64.powf(most.log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0].into_iter().map(|step| step * ten).find(|round| *round >= most).unwrap_or(10.0 * ten)
}

/// Stretches of samples that have something, without a gap longer than a few samples.
fn runs(samples: &[(Timestamp, Point)], has: impl Fn(&Point) -> bool) -> Vec<&[(Timestamp, Point)]> {
    let mut gaps: Vec<_> = samples.windows(2).map(|pair| pair[1].0.since(pair[0].0).millis()).collect();
    gaps.sort_unstable();
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let apart = |a: &(Timestamp, Point), b: &(Timestamp, Point)| b.0.since(a.0).millis() > usual * 8;
    let chunks = samples.chunk_by(|a, b| has(&a.1) == has(&b.1) && !apart(a, b));
    chunks.filter(|chunk| has(&chunk[0].1)).collect()
}

fn path(scale: &Scale, points: &[(Timestamp, f64)]) -> String {
    let corners: Vec<_> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", scale.x(*at), scale.y(*value))).collect();
    corners.join(" ")
}

/// Text that can stand in an element or between quotes of an attribute.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers_and_times() {
        for (most, round) in [(0.0371, 0.04), (0.9, 1.0), (1234.0, 1500.0), (0.0, 0.0)] {
            assert!((rounded_up(most) - round).abs() < 1e-9, "{most}");
        }
        let at = |text| Timestamp::parse(text).expect("it is a time");
        let labels = |from, to| ticks(at(from), at(to)).into_iter().map(tick_label).collect::<Vec<_>>();
        assert_eq!(labels("2026-01-01T10:07:00Z", "2026-01-01T12:00:00Z"), ["10:30", "11:00", "11:30", "12:00"]);
        assert_eq!(labels("2026-01-01T00:00:00Z", "2026-01-03T01:00:00Z"), ["01-01", "12:00", "01-02", "12:00", "01-03"]);
    }
}
