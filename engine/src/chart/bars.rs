//! How many calls there were over time, and how many of them failed: bars on the axes of a curve, in a flatter drawing. Colours are the page's, by the
//! classes `count` and `failed`.

use super::{LEFT, RIGHT, TOP, WIDTH, escaped, rounded_up, tick_label, ticks};
use model::{Timestamp, show};
use std::fmt::Write;

const HEIGHT: f64 = 120.0;
const BOTTOM: f64 = 24.0;

/// What is drawn; callers keep to some hundred bars.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// For those who do not see it.
    pub label: String,
    pub from: Timestamp,
    pub until: Timestamp,
    /// Of equal length: when each begins, its calls, and those of them that failed.
    pub bars: Vec<(Timestamp, u64, u64)>,
}

impl Bars {
    pub fn svg(&self) -> String {
        let most = self.bars.iter().map(|(_, calls, _)| *calls).max().unwrap_or_default();
        let high = rounded_up(most as f64).ceil().max(1.0);
        let span = self.until.since(self.from).millis().max(1) as f64;
        let low = HEIGHT - BOTTOM;
        let x = |at: Timestamp| LEFT + (at.since(self.from).millis() as f64 / span).min(1.0) * (WIDTH - LEFT - RIGHT);
        let y = |count: f64| low - count / high * (low - TOP);
        let mut text = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(&self.label));
        for count in [0.0, high] {
            let _ = write!(
                text,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y(count) + 4.0,
                show::number(count),
                y = y(count),
            );
        }
        for at in ticks(self.from, self.until) {
            // A label at the very end would be cut.
            if x(at) <= WIDTH - RIGHT - 14.0 {
                let _ = write!(
                    text,
                    "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{low}\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    HEIGHT - 8.0,
                    tick_label(at),
                    x = x(at),
                );
            }
        }
        let width = ((WIDTH - LEFT - RIGHT) / self.bars.len().max(1) as f64 - 0.5).max(0.5);
        for (from, calls, errors) in self.bars.iter().filter(|(_, calls, _)| *calls > 0) {
            let title = format!("from {from}: {} calls, {} failed", show::number(*calls as f64), show::number(*errors as f64));
            let _ = write!(text, "<g><title>{title}</title>");
            for (class, count) in [("count", *calls), ("failed", *errors)] {
                if count > 0 {
                    // One call among thousands is seen too.
                    let height = (low - y(count as f64)).max(1.0);
                    let _ = write!(
                        text,
                        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
                        x(*from),
                        low - height
                    );
                }
            }
            text += "</g>";
        }
        text += "</svg>";
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Span;

    #[test]
    fn one_failure_among_thousands_is_seen_and_an_empty_stretch_draws_nothing() {
        let from = Timestamp::parse("2026-01-05T10:00:00Z").expect("it is a time");
        let minute = Span::from_secs(60);
        let bars = Bars { label: "<calls>".into(), from, until: from + minute + minute, bars: vec![(from, 9_000, 1), (from + minute, 0, 0)] };
        let svg = bars.svg();
        assert!(svg.contains("9,000 calls, 1 failed") && svg.contains("10,000"), "{svg}");
        assert_eq!((svg.matches("<rect").count(), svg.contains("height=\"1.0\"")), (2, true), "{svg}");
        assert!(svg.contains("&lt;calls&gt;") && svg.contains(">10:01<"), "{svg}");
    }
}
