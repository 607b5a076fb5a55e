//! The findings as one HTML file without scripts: for each rule, what was watched over time, the range that was expected of it, when it would have
//! fired, and what really happened. One looks at it, and sees whether the alarms are where the trouble is.
//!
//! Drawn are the groups that fired, all calls together, and the groups with the most calls; the curves are [`super::curves`]'s.

use super::alerts::Row;
use super::curves::{Curves, Node, Point};
use super::findings::{Findings, Tested};
use super::incidents::Incident;
use super::run::Ran;
use super::text::{facts, lines};
use crate::standing;
use model::plan::{Rule, Statistic};
use model::{Span, Timestamp, Unit};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Charts of one rule: those that fired come first.
const CHARTS_MAX: usize = 12;
/// Alerts in the table; a rule that fires more often than that is wrong.
const ROWS_MAX: usize = 500;

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

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1c2530; --soft: #66727f; --line: #dde2e8; --page: #f6f8fa; --card: #fff; --value: #1f6feb;
  --band: #1f6feb30; --alarm: #d1242f2e; --edge: #d1242f; --real: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --text: #e2e8ee; --soft: #8d98a4; --line: #2d353e; --page: #0f1419; --card: #171d24; --value: #6cb2ff;
  --band: #6cb2ff2e; --alarm: #ff6b6b40; --edge: #ff6b6b; --real: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 24px; background: var(--page); color: var(--text); font: 14px/1.45 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 2px; } p { margin: 2px 0; } .soft { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 12px 0; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; } th { font-weight: 500; color: var(--soft); text-align: left; }
th, td { padding: 6px 9px; font-size: 13px; white-space: nowrap; border-bottom: 1px solid var(--line); } tr:last-child td { border-bottom: 0; } td.n, th.n { text-align: right; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); gap: 14px; margin-top: 10px; }
figure { margin: 0; padding: 10px 12px 6px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; column-gap: 12px; font-weight: 500; } figcaption span { font-weight: 400; }
figure.fired { border-color: var(--edge); }
svg { display: block; width: 100%; height: auto; margin-top: 4px; } svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); stroke-width: 1; } .band { fill: var(--band); stroke: var(--value); stroke-opacity: .35; stroke-width: .6; } .alarm { fill: var(--alarm); } .edge { stroke: var(--edge); stroke-width: 1.5; }
.value { fill: none; stroke: var(--value); stroke-width: 1.2; stroke-linejoin: round; } .dot { fill: var(--value); } .real { fill: var(--real); }
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 16px; } .key i { width: 18px; height: 10px; border-radius: 2px; display: inline-block; }
.bad { color: var(--edge); font-weight: 600; }
";

/// The whole file. Curves are those of the first set of rules.
pub fn html(findings: &Findings, ran: &Ran) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>streamgauge back-test</title><style>{STYLE}</style></head>\n<body><main>\n<h1>Back-test</h1>\n<dl>"
    );
    for (label, line) in facts(findings) {
        let _ = write!(page, "<dt>{label}</dt><dd>{}</dd>", escaped(&line));
    }
    let labelled = |page: &mut String, label: &str, tested: &Tested| {
        for (at, line) in lines(tested, findings).iter().enumerate() {
            let class = if line.starts_with("FALSE ALARM") || line.ends_with(": MISSED") { " class=\"bad\"" } else { "" };
            let _ = write!(page, "<dt>{}</dt><dd{class}>{}</dd>", if at == 0 { label } else { "" }, escaped(line));
        }
    };
    labelled(&mut page, if findings.second.is_some() { "the first" } else { "found" }, &findings.tested);
    if let Some(second) = &findings.second {
        labelled(&mut page, "the second", second);
    }
    page += "</dl>\n";
    page += &tables(findings);
    page += "<p class=\"soft\" style=\"margin-top:20px\"><span class=\"key\"><i style=\"background:var(--value);height:2px\"></i>what was watched</span>\
        <span class=\"key\"><i style=\"background:var(--band)\"></i>expected range</span><span class=\"key\"><i style=\"background:var(--alarm)\"></i>alert fires</span>";
    if findings.tested.incidents.is_some() {
        page += "<span class=\"key\"><i style=\"background:var(--real)\"></i>incident, as it was</span>";
    }
    page += "times are UTC</p>\n";
    // What fired is what one came to see.
    let mut rules: Vec<_> = ran.machine.plan().rules.iter().enumerate().collect();
    rules.sort_by_key(|(_, rule)| !findings.tested.alerts.iter().any(|row| row.rule == rule.name));
    for (index, rule) in rules {
        page += &of_rule(findings, &ran.curves, index, rule);
    }
    page += "</main></body></html>\n";
    page
}

fn tables(findings: &Findings) -> String {
    let (Some(second), Some(compared)) = (&findings.second, &findings.compared) else { return table(&findings.tested, "all alerts", |_| true) };
    let both = |row: &Row| compared.both.iter().any(|(first, _)| *first == row.alert_id);
    [
        table(&findings.tested, "alerts in both", both),
        table(&findings.tested, "only in the first", |row| compared.only_first.contains(&row.alert_id)),
        table(second, "only in the second", |row| compared.only_second.contains(&row.alert_id)),
    ]
    .concat()
}

fn table(tested: &Tested, title: &str, wanted: impl Fn(&Row) -> bool) -> String {
    let rows: Vec<_> = tested.alerts.iter().filter(|row| wanted(row)).collect();
    let mut text = format!("<h2>{title}: {}</h2>\n", rows.len());
    if rows.is_empty() {
        return text;
    }
    text += "<div class=\"scroll\"><table><tr><th>rule</th><th>start</th><th>end</th><th>group</th><th class=\"n\">peak</th><th class=\"n\">bad calls</th>\
        <th class=\"n\">runs</th><th class=\"n\">users</th></tr>\n";
    for row in rows.iter().take(ROWS_MAX) {
        let wrong = tested.incidents.as_ref().is_some_and(|verdict| verdict.false_alarms.contains(&row.alert_id));
        let wrong = if wrong { " <span class=\"bad\">false</span>" } else { "" };
        let ended = row.ended.map_or("still firing".to_owned(), |ended| ended.to_string());
        let number = |text: &str| format!("<td class=\"n\">{}</td>", escaped(text));
        let numbers: String =
            [row.peak_text(), row.calls_text(), row.distinct_text(row.runs), row.distinct_text(row.users)].iter().map(|text| number(text)).collect();
        let (rule, place) = (escaped(&row.rule), escaped(&row.place()));
        let _ = writeln!(text, "<tr><td>{rule}{wrong}</td><td>{}</td><td>{ended}</td><td>{place}</td>{numbers}</tr>", row.fired);
    }
    text += "</table></div>\n";
    if rows.len() > ROWS_MAX {
        let _ = writeln!(text, "<p class=\"soft\">and {} more</p>", rows.len() - ROWS_MAX);
    }
    text
}

/// A rule's charts.
fn of_rule(findings: &Findings, curves: &Curves, index: usize, rule: &Rule) -> String {
    let mut text =
        format!("<h2>{}</h2>\n<p class=\"soft\">{}</p>\n", escaped(&rule.name), escaped(rule.summary.split("\n\n").next().unwrap_or_default()));
    let nodes = drawn(findings, curves, index, rule);
    if nodes.is_empty() {
        text += "<p>no calls that it watches</p>\n";
        return text;
    }
    text += "<div class=\"charts\">\n";
    for node in nodes {
        let mine: Vec<_> = findings.tested.alerts.iter().filter(|row| is_of(row, rule, node)).collect();
        let watch = mine.first().and_then(|row| rule.watches.iter().position(|watch| watch.name == row.watch)).unwrap_or(0);
        text += &chart(findings, curves, node, rule, watch, &mine);
    }
    text += "</div>\n";
    text
}

fn is_of(row: &Row, rule: &Rule, node: &Node) -> bool {
    row.rule == rule.name && row.environment == node.1 && row.group.iter().map(|(_, label)| label).eq(node.2.iter())
}

/// The nodes that fired, all calls of each environment, and then those with the most calls.
fn drawn<'c>(findings: &Findings, curves: &'c Curves, index: usize, rule: &Rule) -> Vec<&'c Node> {
    let mine = || curves.nodes.iter().filter(|((known, ..), _)| *known == index);
    let calls = |points: &[(usize, Vec<Point>)]| points.iter().filter_map(|(_, points)| points.first()).map(|point| point.calls).sum::<u64>();
    let mut ranked: Vec<_> = mine().map(|(node, points)| (node, calls(points))).collect();
    ranked.sort_by(|(a, calls), (b, more)| more.cmp(calls).then_with(|| a.cmp(b)));
    let fired: BTreeSet<&Node> =
        mine().map(|(node, _)| node).filter(|node| findings.tested.alerts.iter().any(|row| is_of(row, rule, node))).collect();
    let rank = |node: &&Node| if fired.contains(*node) { 0 } else { 1 + usize::from(!node.2.is_empty()) };
    let mut nodes: Vec<_> = ranked.into_iter().filter(|(_, calls)| *calls > 0).map(|(node, _)| node).collect();
    nodes.sort_by_key(rank);
    nodes.truncate(CHARTS_MAX);
    nodes
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

fn chart(findings: &Findings, curves: &Curves, node: &Node, rule: &Rule, watch: usize, alerts: &[&Row]) -> String {
    let Some((from, to)) = findings.span() else { return String::new() };
    let (points, statistic) = (&curves.nodes[node], &rule.watches[watch].statistic);
    let what = statistic.describe();
    let incidents: Vec<_> = findings.tested.incidents.iter().flat_map(|verdict| &verdict.incidents).map(|judged| &judged.incident).collect();
    let strip = if incidents.is_empty() { 0.0 } else { STRIP + STRIP_GAP };
    let at = |(at, points): &(usize, Vec<Point>)| (curves.times[*at], points[watch]);
    let samples: Vec<_> = points.iter().map(at).collect();
    let bottom = HEIGHT - BOTTOM - strip;
    let scale = Scale { from, span: to.since(from).millis().max(1) as f64, high: highest(&samples, statistic), bottom };
    let group: Vec<_> = rule.group_by.iter().map(ToString::to_string).zip(node.2.iter().cloned()).collect();
    let place = format!("{} · {}", node.1, standing::place(&group));
    let class = if alerts.is_empty() { "" } else { " class=\"fired\"" };
    let about = format!("{what} over {}", rule.watches[watch].window);
    let mut text = format!("<figure{class}><figcaption>{}<span class=\"soft\">{}</span></figcaption>\n", escaped(&place), escaped(&about));
    let _ = write!(text, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: {}\">", escaped(&place), escaped(&about));
    text += &axes(&scale, to, &statistic.unit());
    for row in alerts {
        let (start, end) = (scale.x(row.fired), scale.x(row.until(to)));
        let title = format!("{} to {}, peak {}", row.fired, row.ended.map_or("the end".to_owned(), |ended| ended.to_string()), row.peak_text());
        let _ = write!(
            text,
            "<rect class=\"alarm\" x=\"{start:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>\
             <line class=\"edge\" x1=\"{start:.1}\" x2=\"{start:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>",
            (end - start).max(1.5),
            bottom - TOP,
            escaped(&title)
        );
    }
    for run in runs(&samples, |point| point.expected.is_some()) {
        let edge = |high: bool| {
            let y = move |point: &Point| point.expected.map_or(0.0, |range| if high { range.high } else { range.low });
            run.iter().map(move |(at, point)| (*at, y(point))).collect::<Vec<_>>()
        };
        let corners: Vec<_> = edge(true).into_iter().chain(edge(false).into_iter().rev()).collect();
        let _ = write!(text, "<polygon class=\"band\" points=\"{}\"/>", path(&scale, &corners));
    }
    for run in runs(&samples, |point| point.value.is_some()) {
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
    if !incidents.is_empty() {
        text += &strip_of(&scale, &incidents, bottom);
    }
    text += "</svg></figure>\n";
    text
}

/// The incidents that touch the chart's time, below it.
fn strip_of(scale: &Scale, incidents: &[&Incident], bottom: f64) -> String {
    let mut text = String::new();
    let y = bottom + STRIP_GAP;
    for incident in incidents {
        let (start, end) = (scale.x(incident.from), scale.x(incident.to));
        if end > LEFT && start < WIDTH - RIGHT {
            let title = format!("{}: {} to {}", incident.name, incident.from, incident.to);
            let _ = write!(
                text,
                "<rect class=\"real\" x=\"{start:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{STRIP}\" rx=\"2\"><title>{}</title></rect>",
                (end - start).max(2.0),
                escaped(&title)
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
fn highest(samples: &[(Timestamp, Point)], statistic: &Statistic) -> f64 {
    let of = |point: &Point| point.value.unwrap_or(0.0).max(point.expected.map_or(0.0, |range| range.high));
    let most = samples.iter().map(|(_, point)| of(point)).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let round = rounded_up(most);
    match statistic {
        Statistic::Rate(_) if most <= 0.0 => 0.01,
        Statistic::Rate(_) => round.min(1.0),
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_logs_say_cannot_become_markup() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }

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
