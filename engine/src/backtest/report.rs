//! The findings as one HTML file without scripts: for each rule, what was watched over time, the range that was expected of it, when it would have
//! fired, and what really happened. One looks at it, and sees whether the alarms are where the trouble is.
//!
//! Drawn are the groups that fired, all calls together, and the groups with the most calls; the curves are [`super::curves`]'s.

use super::alerts::Row;
use super::curves::{Curves, Node};
use super::findings::{Findings, Tested};
use super::incidents::Incident;
use super::run::Ran;
use super::text::{facts, lines};
use crate::chart::{self, Chart, Mark, Point, escaped};
use crate::standing;
use model::plan::Rule;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Charts of one rule: those that fired come first.
const CHARTS_MAX: usize = 12;
/// Alerts in the table; a rule that fires more often than that is wrong.
const ROWS_MAX: usize = 500;

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
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 16px; } .key i { width: 18px; height: 10px; border-radius: 2px; display: inline-block; }
.bad { color: var(--edge); font-weight: 600; }
";

/// The whole file. Curves are those of the first set of rules.
pub fn html(findings: &Findings, ran: &Ran) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>streamgauge back-test</title><style>{STYLE}{}</style></head>\n<body><main>\n<h1>Back-test</h1>\n<dl>",
        chart::STYLE
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

fn chart(findings: &Findings, curves: &Curves, node: &Node, rule: &Rule, watch: usize, alerts: &[&Row]) -> String {
    let Some((from, to)) = findings.span() else { return String::new() };
    let (points, statistic) = (&curves.nodes[node], &rule.watches[watch].statistic);
    let incidents = findings.tested.incidents.iter().flat_map(|verdict| &verdict.incidents).map(|judged| &judged.incident);
    let at = |(at, points): &(usize, Vec<Point>)| (curves.times[*at], points[watch]);
    let group: Vec<_> = rule.group_by.iter().map(ToString::to_string).zip(node.2.iter().cloned()).collect();
    let place = format!("{} · {}", node.1, standing::place(&group));
    let class = if alerts.is_empty() { "" } else { " class=\"fired\"" };
    let about = format!("{} over {}", statistic.describe(), rule.watches[watch].window);
    let fired = |row: &&Row| Mark {
        from: row.fired,
        to: row.until(to),
        title: format!("{} to {}, peak {}", row.fired, row.ended.map_or("the end".to_owned(), |ended| ended.to_string()), row.peak_text()),
    };
    let real = |incident: &Incident| Mark {
        from: incident.from,
        to: incident.to,
        title: format!("{}: {} to {}", incident.name, incident.from, incident.to),
    };
    let chart = Chart {
        label: format!("{place}: {about}"),
        from,
        to,
        samples: points.iter().map(at).collect(),
        unit: statistic.unit(),
        alarms: alerts.iter().map(fired).collect(),
        really: incidents.map(real).collect(),
    };
    let caption = format!("<figcaption>{}<span class=\"soft\">{}</span></figcaption>", escaped(&place), escaped(&about));
    format!("<figure{class}>{caption}\n{}</figure>\n", chart.svg())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_logs_say_cannot_become_markup() {
        assert_eq!(escaped("<b a=\"1\">&'"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
    }
}
