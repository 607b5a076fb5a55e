//! `GET /api/v1/explain`: what a rule knows about one of its groups or of the groups above them, why it fires or does not, and what it saw lately.

use super::{App, Problem};
use crate::judging::calibrated::{self, Believed, Calibrated};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use machine::{Explanation, SliceBlock};
use model::fold::Cell;
use model::nearest::nearest;
use model::plan::{Plan, Rule, Statistic, Watch};
use model::{Key, Labels, Quantiles, Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Windows of a watch that its history goes back: enough to see what was before a change, and two hours of the usual five minutes.
const HISTORY_WINDOWS: u64 = 24;
/// Labels that an error names; a group may have thousands of siblings.
const KNOWN_MAX: usize = 20;

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The groups that hold this one, the nearest first.
    pub above: Vec<Above>,
    /// By watch, oldest first.
    pub history: BTreeMap<String, Vec<Point>>,
    /// By watch of a judge's fails: what its opinions in the window up to now say of all calls.
    #[serde(default)]
    pub believed: BTreeMap<String, Believed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Above {
    pub group: Vec<(String, String)>,
    /// By watch.
    pub delays: BTreeMap<String, machine::Delay>,
}

/// One window of the past.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its start.
    pub time: Timestamp,
    pub calls: u64,
    /// Of a rate: the calls in its numerator.
    pub bad: Option<u64>,
    /// In the unit of the watch; `None` when there were no calls.
    pub value: Option<f64>,
}

pub(super) async fn explain(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Json<Explained>, Problem> {
    let asked = Asked::parse(query.as_deref().unwrap_or_default())?;
    let (plan, rule, explanation, above, labels) = app.reader.ask(move |machine| asked.find(machine)).await??;
    let rule = &plan.rules[rule];
    let judged = rule.watches.iter().any(|watch| watch.statistic.estimates());
    let calibrations = if judged { app.store.ask(|db| db.calibrations()).await? } else { Vec::new() };
    let (history, believed) = history(&app, &plan, rule, &explanation, &labels, &calibrations).await?;
    Ok(Json(Explained { explanation, above, history, believed }))
}

/// What is asked for, as typed.
struct Asked {
    rule: String,
    environment: Option<String>,
    group: Vec<(String, String)>,
}

type Found = (Plan, usize, Explanation, Vec<Above>, Labels);

impl Asked {
    fn parse(query: &str) -> Result<Self, Problem> {
        let bad = |detail: String, hint: &str| Problem::new(StatusCode::BAD_REQUEST, detail, hint);
        let (mut rule, mut environment, mut group) = (None, None, Vec::<(String, String)>::new());
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "rule" => rule = Some(value.into_owned()),
                "environment" => environment = Some(value.into_owned()),
                "group" => {
                    for part in value.split(',').filter(|part| !part.is_empty()) {
                        match (part.split_once('='), group.last_mut()) {
                            (Some(("environment", label)), _) => environment = Some(label.to_owned()),
                            (Some((key, label)), _) => group.push((key.trim().to_owned(), label.to_owned())),
                            // A label may hold a comma.
                            (None, Some((_, label))) => *label = format!("{label},{part}"),
                            (None, None) => return Err(bad(format!("cannot read `{part}`"), "write group=stage=extraction,provider=openai")),
                        }
                    }
                }
                other => return Err(bad(format!("unknown parameter `{other}`"), "known: rule, environment, group")),
            }
        }
        let rule = rule.ok_or_else(|| bad("name a rule".to_owned(), "for example /api/v1/explain?rule=fallback-rate&group=stage=extraction"))?;
        Ok(Self { rule, environment, group })
    }

    /// The node that is meant, or what there is instead.
    fn find(&self, machine: &machine::Machine) -> Result<Found, Problem> {
        let rules = || machine.plan().rules.iter().map(|rule| rule.name.as_str());
        let unknown = |what: &str, name: &str, known: Vec<&str>| {
            Problem::new(StatusCode::NOT_FOUND, format!("there is no {what} `{name}`"), did_you_mean(name, known))
        };
        let index = rules().position(|name| name == self.rule).ok_or_else(|| unknown("rule", &self.rule, rules().collect()))?;
        let rule = &machine.plan().rules[index];
        let environments: Vec<&str> = machine.clocks().map(|(name, _)| name).collect();
        let environment = match (&self.environment, &environments[..]) {
            (Some(name), known) if known.contains(&name.as_str()) => name.as_str(),
            (Some(name), known) => return Err(unknown("environment", name, known.to_vec())),
            (None, [only]) => only,
            (None, []) => return Err(Problem::new(StatusCode::NOT_FOUND, "no call has come yet", "publish one: streamgauge publish calls.jsonl")),
            (None, known) => {
                let hint = format!("name one with environment=…; known: {}", known.join(", "));
                return Err(Problem::new(StatusCode::BAD_REQUEST, "there is more than one environment", hint));
            }
        };
        let keys: Vec<String> = rule.group_by.iter().map(ToString::to_string).collect();
        if let Some((key, _)) = self.group.iter().find(|(key, _)| !keys.contains(key)) {
            let known = keys.iter().map(String::as_str).collect();
            return Err(unknown(&format!("key of rule {}", rule.name), key, known));
        }
        let given = |key: &String| self.group.iter().find(|(name, _)| name == key).map(|(_, label)| label);
        let labels: Labels = keys.iter().map_while(given).map(|label| if label == "(none)" { String::new() } else { label.clone() }).collect();
        if labels.len() < self.group.len() {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!("rule {} has no such group", rule.name),
                format!("its groups are named from the front of {}: give `{}` as well", keys.join(", "), keys[labels.len()]),
            ));
        }
        // Down to the first label that is not there.
        for depth in 1..=labels.len() {
            let there = |node: &&Labels| node.len() == depth && node[..depth - 1] == labels[..depth - 1];
            let known: Vec<&str> = machine.nodes(&rule.name, environment).filter(there).map(|node| node[depth - 1].as_str()).collect();
            if !known.contains(&labels[depth - 1].as_str()) {
                return Err(unknown(&keys[depth - 1], &labels[depth - 1], known));
            }
        }
        let explanation = machine.explain(&rule.name, environment, &labels).ok_or_else(|| {
            let detail = format!("rule {} has not seen a call of {environment} yet", rule.name);
            Problem::new(StatusCode::NOT_FOUND, detail, "see its `environments` and `applies`, or wait for a call")
        })?;
        let parents = (0..labels.len()).rev().filter_map(|depth| machine.explain(&rule.name, environment, &labels[..depth].to_vec()));
        let above = parents.map(|parent| Above {
            delays: parent.watches.iter().filter_map(|watch| Some((watch.name.clone(), watch.gauge.as_ref()?.delay?))).collect(),
            group: parent.group,
        });
        Ok((machine.plan().clone(), index, explanation, above.collect(), labels))
    }
}

pub(super) fn did_you_mean(name: &str, mut known: Vec<&str>) -> String {
    known.sort_unstable();
    known.dedup();
    let near = nearest(name, known.iter().copied()).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    let more = if known.len() > KNOWN_MAX { format!(" and {} more", known.len() - KNOWN_MAX) } else { String::new() };
    let shown: Vec<_> = known.iter().take(KNOWN_MAX).map(|name| if name.is_empty() { "(none)" } else { name }).collect();
    format!("{near}known: {}{more}", shown.join(", "))
}

type Past = (BTreeMap<String, Vec<Point>>, BTreeMap<String, Believed>);

/// The windows before now of each watch, and what judges are believed of the last. They are read one after another, so that no more than one is in
/// memory.
async fn history(
    app: &App,
    plan: &Plan,
    rule: &Rule,
    explanation: &Explanation,
    labels: &Labels,
    calibrations: &[Calibrated],
) -> Result<Past, Problem> {
    let mut believed = BTreeMap::new();
    let mut scratch = Quantiles::new();
    let mut histories: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    let mut windows: Vec<Span> = rule.watches.iter().map(|watch| watch.window).collect();
    windows.sort_unstable();
    windows.dedup();
    for window in windows {
        let to = explanation.at.floor(plan.windows.slice) + plan.windows.slice;
        let from = to - Span::from_millis(window.millis() * HISTORY_WINDOWS);
        let environment = explanation.environment.clone();
        let Some(open) = app.reader.ask(move |machine| machine.open(&environment, from)).await? else { continue };
        let watches: Vec<&Watch> = rule.watches.iter().filter(|watch| watch.window == window).collect();
        let identities: Vec<String> = watches.iter().map(|watch| plan.groupings[watch.grouping].identity()).collect();
        for number in 0..HISTORY_WINDOWS {
            let begin = from + Span::from_millis(window.millis() * number);
            let (end, sealed, environment) = (begin + window, (begin + window).min(open.sealed_to), explanation.environment.clone());
            let blocks = if begin < sealed { app.store.ask(move |db| db.blocks(&environment, begin, sealed)).await? } else { Vec::new() };
            let unsealed = open.blocks.iter().filter(|block| (begin..end).contains(&block.start));
            let mut cells: Vec<Cell> = watches.iter().map(|watch| Cell::new(&plan.groupings[watch.grouping])).collect();
            for block in blocks.iter().chain(unsealed) {
                for ((watch, identity), cell) in watches.iter().zip(&identities).zip(&mut cells) {
                    add(cell, block, watch, identity, labels);
                }
            }
            for (watch, cell) in watches.iter().zip(&cells) {
                histories.entry(watch.name.clone()).or_default().push(point(plan, watch, cell, begin, &mut scratch));
                if watch.statistic.estimates() && number + 1 == HISTORY_WINDOWS {
                    let known = judge_of(plan, rule, watch, labels, calibrations);
                    believed.extend(calibrated::believed(&cell.opinions, known).map(|rate| (watch.name.clone(), rate)));
                }
            }
        }
    }
    Ok((histories, believed))
}

/// What is known of the judge whose fails a watch counts, of a group.
fn judge_of<'c>(plan: &Plan, rule: &Rule, watch: &Watch, labels: &Labels, calibrations: &'c [Calibrated]) -> Option<&'c Calibrated> {
    let label = || rule.group_by.iter().position(|key| *key == Key::Judge).and_then(|at| labels.get(at)).map(String::as_str);
    let name = watch.statistic.judge().or_else(label)?;
    let judge = plan.judges.iter().find(|judge| judge.name == name)?;
    calibrated::of(calibrations, name, judge.fingerprint)
}

/// Adds what a block holds of the group of a watch.
pub(crate) fn add(sum: &mut Cell, block: &SliceBlock, watch: &Watch, identity: &str, labels: &Labels) {
    for (kept, cell) in block.groupings.iter().filter(|grouping| grouping.identity == identity).flat_map(|grouping| &grouping.cells) {
        let mine = watch.projection.iter().zip(labels).all(|(at, label)| kept[*at] == *label);
        if mine && watch.only.iter().all(|(at, values)| values.contains(&kept[*at])) {
            sum.merge(cell);
        }
    }
}

pub(crate) fn point(plan: &Plan, watch: &Watch, cell: &Cell, time: Timestamp, scratch: &mut Quantiles) -> Point {
    let grouping = &plan.groupings[watch.grouping];
    let spread = |measure| grouping.measures.iter().position(|known| known == measure).map(|at| &cell.distributions[at]);
    let ratio = |signal| grouping.signals.iter().position(|known| known == signal).map_or_else(Default::default, |at| cell.ratios[at]);
    let (calls, bad, value) = match &watch.statistic {
        Statistic::Rate(signal) => {
            let ratio = ratio(signal);
            (ratio.applies, Some(ratio.holds), (ratio.applies > 0).then(|| ratio.holds as f64 / ratio.applies as f64))
        }
        Statistic::Count(signal) => (ratio(signal).applies, Some(ratio(signal).holds), Some(ratio(signal).holds as f64)),
        Statistic::Quantile(measure, q) => {
            let value = spread(measure).and_then(|spread| scratch.of(&spread.buckets, [*q]));
            (spread(measure).map_or(0, |spread| spread.count), None, value.map(|[value]| value as f64 * measure.step()))
        }
        Statistic::Mean(measure) => {
            let value = spread(measure).and_then(|spread| spread.mean());
            (spread(measure).map_or(0, |spread| spread.count), None, value.map(|value| value * measure.step()))
        }
        Statistic::Sum(measure) => {
            let spread = spread(measure);
            (spread.map_or(0, |spread| spread.count), None, spread.map(|spread| spread.sum as f64 * measure.step()))
        }
        Statistic::Volume => (cell.calls, None, Some(cell.calls as f64)),
        // What they are made of is not in one cell.
        Statistic::Ratio { .. } | Statistic::Distinct(_) | Statistic::Top(..) => (cell.calls, None, None),
    };
    Point { time, calls, bad, value }
}
