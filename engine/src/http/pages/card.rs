//! A stage on the overview: what its calls did in the last minutes, beside what rules expect of it.

use super::html::{escaped, link_as, range, standing};
use crate::http::series::Group;
use machine::Machine;
use model::plan::Range;
use model::window::Observation;
use model::{Key, Measure, Quantiles, Signal, Unit, show};
use std::collections::BTreeMap;
use std::fmt::Write;

/// In the order of a card.
const SIGNALS: [Signal; 7] =
    [Signal::Error, Signal::Fallback, Signal::Retry, Signal::InvalidJson, Signal::SchemaInvalid, Signal::Truncated, Signal::Refused];

/// What rules see of a stage: by environment, stage, and what is watched in words.
pub(super) type Seen = BTreeMap<(String, String), BTreeMap<String, Watched>>;

pub(super) struct Watched {
    rule: String,
    observation: Observation,
    /// It has left its range in a direction that its rule does not tell of.
    ignored: bool,
}

/// Of all rules that are grouped by stage first and leave no calls out; of several that watch the same, the first.
pub(super) fn seen(machine: &Machine) -> Seen {
    let mut seen = Seen::new();
    let plan = machine.plan();
    for (index, rule) in plan.rules.iter().enumerate().filter(|(_, rule)| rule.group_by.first() == Some(&Key::Stage)) {
        for (environment, _) in machine.clocks() {
            for labels in machine.nodes(&rule.name, environment).filter(|labels| labels.len() == 1) {
                for (watch, observation) in rule.watches.iter().zip(machine.seen(index, environment, labels).unwrap_or_default()) {
                    let whole = watch.only.is_empty() && watch.offset == model::Span::ZERO && plan.groupings[watch.grouping].filter.0.is_empty();
                    if whole && !watch.part {
                        let known = seen.entry((environment.to_owned(), labels[0].clone())).or_default();
                        known.entry(watch.statistic.describe()).or_insert_with(|| Watched {
                            rule: rule.name.clone(),
                            ignored: observation.drifted.is_some_and(|direction| rule.ignores(watch, direction)),
                            observation,
                        });
                    }
                }
            }
        }
    }
    seen
}

/// One card; `measures` gives the places of latency and cost in the group's cell. Its environment is named where there are several.
pub(super) fn card(group: &Group, seen: &Seen, measures: &BTreeMap<Measure, usize>, minutes: f64, several: bool, firing: bool) -> String {
    let stage = group.labels.first().cloned().unwrap_or_default();
    let known = seen.get(&(group.environment.clone(), stage.clone()));
    let of = |what: &str| known.and_then(|known| known.get(what));
    let name = if stage.is_empty() { "(no stage)" } else { &stage };
    let place = if several { format!(" <small>{}</small>", escaped(&group.environment)) } else { String::new() };
    let per_minute = show::number((group.cell.calls as f64 / minutes * 10.0).round() / 10.0);
    let class = if firing { "card firing" } else { "card" };
    let mut text = format!(
        "<article class='{class}'><h3>{}{place}</h3><p class=dim>{} calls, {per_minute} a minute</p>\
         <table><thead class=hidden><tr><th scope=col>What<th scope=col>Now<th scope=col>Expected<th scope=col>State</thead><tbody>",
        escaped(name),
        show::number(group.cell.calls as f64),
    );
    let mut row = |what: &str, describes: &str, value: String, unit: &Unit| {
        let (what, expected, state) = match of(describes) {
            Some(Watched { rule, observation, ignored }) => (
                link_as("/rules", rule, what),
                range(unit, observation.expected.filter(|range: &Range| range.high.is_finite())),
                if *ignored { "<span class='state dim'>▽ below, no alert</span>" } else { standing(observation) },
            ),
            None => (what.to_owned(), "–".to_owned(), ""),
        };
        let _ = write!(text, "<tr><th scope=row>{what}<td class=n>{}<td class=dim>{expected}<td>{state}", escaped(&value));
    };
    for signal in SIGNALS {
        let ratio = group.cell.ratios[signal.index()];
        if ratio.applies > 0 {
            let value = show::percent(ratio.holds as f64 / ratio.applies as f64);
            row(&signal.name().replace('_', " "), &format!("{} rate", signal.name()), value, &Unit::Share);
        }
    }
    let mut scratch = Quantiles::new();
    let spread = |measure: Measure| measures.get(&measure).map(|at| &group.cell.distributions[*at]).filter(|spread| spread.count > 0);
    if let Some(spread) = spread(Measure::LatencyMs)
        && let Some([p95]) = scratch.of(&spread.buckets, [0.95])
    {
        row("latency, p95", "p95 of latency_ms", show::millis(p95.min(spread.max) as f64), &Unit::Millis);
    }
    if let Some(spread) = spread(Measure::CostUsd)
        && let Some(mean) = spread.mean()
    {
        let step = Measure::CostUsd.step();
        row("cost of a call", "mean of cost_usd", show::dollars(mean * step), &Unit::Dollars);
        row("cost of all", "sum of cost_usd", show::dollars(spread.sum as f64 * step), &Unit::Dollars);
    }
    text += "</tbody></table></article>";
    text
}
