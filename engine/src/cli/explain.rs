//! `streamgauge explain`: why a rule fires for a group or does not, for a person at night. Everything comes from `/api/v1/explain`; here are the words.

use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::http::explain::{Explained, Point};
use crate::{message, standing};
use machine::{Below, GaugeExplanation, WatchExplanation};
use model::window::Direction;
use model::{Span, Unit, show};
use serde_json::Value;
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// A rule's name.
    rule: String,
    /// A group by its first labels, such as stage=extraction provider=openai; without any, all calls of the environment.
    #[arg(value_name = "KEY=LABEL")]
    group: Vec<String>,
    /// Needed where there is more than one.
    #[arg(short, long)]
    environment: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Columns of the bar that shows evidence on its way to what is needed.
const BAR: usize = 24;
/// Groups that are listed, of those the answer holds.
const BELOW_SHOWN: usize = 8;

pub(super) async fn explain(args: Explain, config: &Config) -> Result<Outcome, Fault> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("rule", &args.rule);
    if let Some(environment) = &args.environment {
        query.append_pair("environment", environment);
    }
    for pair in &args.group {
        if !pair.contains('=') {
            return Err(Fault::new(format!("cannot read the group `{pair}`"), "write it as key=label, such as stage=extraction"));
        }
        query.append_pair("group", pair);
    }
    let path = format!("/api/v1/explain?{}", query.finish());
    if args.json {
        say(asking::get::<Value>(config, &path).await?);
    } else {
        say(text(&asking::get(config, &path).await?).trim_end());
    }
    Ok(Outcome::Well)
}

fn text(explained: &Explained) -> String {
    let explanation = &explained.explanation;
    let gauges = || explanation.watches.iter().filter_map(|watch| watch.gauge.as_ref());
    let outside = gauges().any(|gauge| gauge.firing && !gauge.ignored);
    let state = if explanation.told {
        "ALERTING"
    } else if outside && explanation.by_drift {
        "outside its range; told for another group"
    } else if outside {
        "outside what is usual; its own check says whether that is told"
    } else if gauges().any(|gauge| gauge.ignored) {
        "below what is usual; this rule does not tell of that"
    } else if gauges().any(|gauge| gauge.learning) {
        "learning"
    } else {
        "in range"
    };
    let runs = !explanation.watches.is_empty() && explanation.watches.iter().all(|watch| watch.of_what == "runs");
    let place = standing::place_among(&explanation.group, runs);
    let mut text = format!("{} · {} · {place}: {state}  ({})\n", explanation.rule, explanation.environment, message::moment(explanation.at, None));
    for watch in &explanation.watches {
        let _ = write!(text, "\n{} over {}\n", watch.what, watch.window);
        for (label, line) in lines(watch, explained) {
            let _ = writeln!(text, "  {label:<9} {line}");
        }
    }
    let _ = write!(text, "\nbudget      {}\n", standing::budget(&explanation.budget));
    if !explanation.below.is_empty() {
        text += "\nbelow it, the most suspicious first\n";
        let shown = &explanation.below[..explanation.below.len().min(BELOW_SHOWN)];
        let width = shown.iter().map(|below| last(below).chars().count()).max().unwrap_or(0);
        for below in shown {
            let state = match below {
                Below { firing: true, .. } => "outside its range",
                Below { ignored: true, .. } => "below what is usual",
                Below { learning: true, .. } => "learning",
                Below { log_evidence, .. } if *log_evidence >= 3.0 => "suspicious",
                _ => "in range",
            };
            let _ = writeln!(text, "  {:<width$}  {state}, evidence {}", last(below), message::evidence(below.log_evidence));
        }
        if explanation.below.len() > BELOW_SHOWN {
            let _ = writeln!(text, "  … {} more in --json", explanation.below.len() - BELOW_SHOWN);
        }
    }
    text
}

/// Label and words, from what is seen to what it would take to be sure.
fn lines(watch: &WatchExplanation, explained: &Explained) -> Vec<(&'static str, String)> {
    let seen = &watch.observation;
    let written = |value: f64| watch.unit.show(value);
    // Whatever calls are left out, people speak of calls; runs are something else.
    let what = if watch.of_what == "runs" { "runs" } else { "calls" };
    let mut lines = Vec::new();
    let now = match seen.value {
        Some(value) if watch.unit == Unit::Share => {
            let counts = format!("{} of {}", show::number(seen.holds as f64), show::number(seen.calls as f64));
            format!("{} ({counts} {what}; 95 % limits {} to {})", written(value), written(seen.low), written(seen.high))
        }
        Some(value) if watch.what == "calls" => written(value),
        Some(value) => format!("{} (of {} {what})", written(value), show::number(seen.calls as f64)),
        None => format!("too few {what} to say ({})", show::number(seen.calls as f64)),
    };
    lines.push(("now", now));
    lines.extend(explained.believed.get(&watch.name).map(|believed| ("judged", believed.to_string())));
    match (watch.expected, &watch.gauge) {
        (Some(range), _) => lines.push(("expected", format!("{} to {}", written(range.low), written(range.high)))),
        (None, Some(gauge)) if gauge.learning => lines.push(("expected", format!("learning: {}", missing(&watch.what, what, gauge)))),
        (None, _) => {}
    }
    if let Some(gauge) = &watch.gauge {
        lines.push(("evidence", evidence(gauge)));
        if let Some(drift) = &seen.drift {
            lines.push(("since", message::since(drift, explained.explanation.at)));
        }
        if let Some(leaning) = gauge.leaning.filter(|leaning| leaning.log_evidence > 0.0) {
            let side = if leaning.direction == Direction::Up { "up" } else { "down" };
            let (calls, events) = (show::number(leaning.calls.round()), show::number(leaning.events.round()));
            let counts = if watch.what == "calls" { format!("{events} calls") } else { format!("{events} of {calls} {what}") };
            lines.push(("leans", format!("{side} since {}, {counts} since then", message::moment(leaning.since, Some(explained.explanation.at)))));
        }
        lines.push(("traffic", format!("{} {what} a minute", show::number((gauge.calls_per_minute * 10.0).round() / 10.0))));
        if let Some(delay) = gauge.delay {
            let above = explained.above.iter().filter_map(|above| Some((&above.group, *above.delays.get(&watch.name)?)));
            let day = Span::from_secs(86_400);
            let better = above.filter_map(|(group, delay)| Some((group, delay.doubling.filter(|doubling| *doubling <= day)?))).next();
            let mine = delay.doubling.is_some_and(|doubling| doubling <= day);
            let parent = match better {
                Some((group, doubling)) if !mine => {
                    format!("; above it, {} proves {} in about {}", standing::place(group), standing::times(2.0), standing::about(doubling))
                }
                _ => String::new(),
            };
            lines.push(("delay", format!("{}{parent}", standing::delay(delay))));
        }
    }
    if let Some(points) = explained.history.get(&watch.name).filter(|points| points.iter().any(|point| point.calls > 0)) {
        lines.push(("history", history(points, &watch.window, written)));
    }
    lines
}

/// `████░░░░ 40 of 360,000 needed`, now or when it fired.
fn evidence(gauge: &GaugeExplanation) -> String {
    let share = (gauge.log_evidence / gauge.log_needed.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    let full = (share * BAR as f64).round() as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    let fired = match gauge.firing {
        true if gauge.log_evidence < gauge.log_needed => format!(" alone when it fired; enough {}", message::TOGETHER),
        true => " when it fired".to_owned(),
        false => String::new(),
    };
    format!("{bar} {} of {} needed{fired}", message::evidence(gauge.log_evidence), message::evidence(gauge.log_needed))
}

/// What a gauge still needs before it expects anything; its constants are the machine's.
fn missing(what: &str, of_what: &str, gauge: &GaugeExplanation) -> String {
    if gauge.calls_per_minute <= 0.0 {
        return format!("no {} that this counts comes at the moment", of_what.trim_end_matches('s'));
    }
    let takes = |calls: f64| {
        let span = Span::from_millis((calls / gauge.calls_per_minute * 60_000.0).min(1e12) as u64);
        format!("; {} {of_what} take about {}", show::number(calls), standing::about(span))
    };
    if what == "calls" {
        "a volume learns from a day of calls".to_owned()
    } else if what.ends_with(" rate") {
        format!("a rate learns from 5 bad {of_what} or 1,000 {of_what}, or in a week{}", takes(1000.0))
    } else {
        format!("a distribution learns from 500 values over an hour{}", takes(500.0))
    }
}

/// Eight heights between nothing (or the least, where nothing is far away) and the most.
fn history(points: &[Point], window: &str, written: impl Fn(f64) -> String) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = || points.iter().filter_map(|point| point.value);
    let (least, most) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    let floor = if least < most / 2.0 { 0.0 } else { least };
    let height = |value: f64| if most > floor { ((value - floor) / (most - floor) * 7.0).round() as usize } else { 0 };
    let line: String = points.iter().map(|point| point.value.map_or(' ', |value| HEIGHTS[height(value).min(7)])).collect();
    format!("{line} {} to {}, {} windows of {window} up to now", written(least), written(most), points.len())
}

/// The label that tells a group from its siblings.
fn last(below: &Below) -> &str {
    below.group.last().map_or("(none)", |(_, label)| if label.is_empty() { "(none)" } else { label.as_str() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    #[test]
    fn evidence_is_a_bar_and_says_why_a_gauge_fired_with_too_little() {
        let gauge = |firing, log_evidence| GaugeExplanation {
            learning: false,
            firing,
            ignored: false,
            log_evidence,
            log_needed: 12.8,
            leaning: None,
            calls_per_minute: 60.0,
            correlation: 0.0,
            dispersion: 1.0,
            delay: None,
        };
        for (firing, log_evidence, text) in [
            (false, 3.7, "███████░░░░░░░░░░░░░░░░░ 40 of 360,000 needed"),
            (true, 3.7, "███████░░░░░░░░░░░░░░░░░ 40 of 360,000 needed alone when it fired; enough together with the others"),
            (true, 13.0, "████████████████████████ 440,000 of 360,000 needed when it fired"),
        ] {
            assert_eq!(evidence(&gauge(firing, log_evidence)), text);
        }
    }

    #[test]
    fn a_history_is_drawn_from_nothing_to_its_highest() {
        let point = |value| Point { time: Timestamp::EPOCH, calls: 1, bad: None, value };
        let draw = |values: &[Option<f64>]| history(&values.iter().copied().map(point).collect::<Vec<_>>(), "5m", show::percent);
        assert_eq!(draw(&[Some(0.0), None, Some(0.01), Some(0.07)]), "▁ ▂█ 0 % to 7 %, 4 windows of 5m up to now");
        assert_eq!(draw(&[Some(0.5), Some(0.5)]), "▁▁ 50 % to 50 %, 2 windows of 5m up to now");
    }
}
