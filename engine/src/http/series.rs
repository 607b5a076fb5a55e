//! `GET /api/v1/series`: counts, rates and distributions over a window, for any grouping that is kept.
//!
//! What is not sealed yet comes from the machine, everything older from the store; both are sums of the same cells, so the answer is exact.

use super::{App, Problem};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use machine::SliceBlock;
use model::plan::{Grouping, Plan};
use model::window::wilson;
use model::{Cell, Key, Labels, Measure, MeasureRef, Quantiles, Span};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Query {
    pub wanted: Wanted,
    pub window: Span,
    /// Without `environment`, which every group has.
    pub group_by: Vec<Key>,
    pub only: Vec<(Key, String)>,
    pub environment: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Signal(String),
    Measure(Measure),
}

/// One group's sums.
pub(super) struct Group {
    pub environment: String,
    pub labels: Labels,
    pub cell: Cell,
}

pub(super) struct Answer {
    pub groups: Vec<Group>,
    /// Of the wanted signal or measure in the cells.
    pub position: usize,
    /// Environment, its clock, and where the window begins.
    pub environments: Vec<(String, String, String)>,
}

pub(super) async fn series(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let query = parse(query.as_deref().unwrap_or_default())?;
    let answer = read(&app, &query).await?;
    let mut scratch = Quantiles::new();
    let groups: Vec<_> = answer.groups.iter().map(|group| show(&query, group, answer.position, &mut scratch)).collect();
    let environments: Map<String, Value> =
        answer.environments.into_iter().map(|(name, clock, from)| (name, json!({ "clock": clock, "from": from }))).collect();
    Ok(Json(json!({ "window": query.window.to_string(), "environments": environments, "groups": groups })))
}

pub(super) async fn read(app: &App, query: &Query) -> Result<Answer, Problem> {
    let (window, environment) = (query.window, query.environment.clone());
    let (plan, open) = app
        .reader
        .ask(move |machine| {
            let names: Vec<_> =
                machine.clocks().map(|(name, _)| name.to_owned()).filter(|name| environment.as_ref().is_none_or(|only| only == name)).collect();
            let slice = machine.plan().windows.slice;
            let look = |name: String| {
                let clock = machine.clocks().find(|(n, _)| *n == name)?.1;
                let from = (clock - window).floor(slice);
                Some((machine.open(&name, from)?, from, name))
            };
            (machine.plan().clone(), names.into_iter().filter_map(look).collect::<Vec<_>>())
        })
        .await?;
    let (grouping, position) = find(&plan, query)?;
    let identity = grouping.identity();
    let place = |key: &Key| grouping.keys.iter().position(|known| known == key).expect("the grouping was found by its keys");
    let project: Vec<_> = query.group_by.iter().map(place).collect();
    let only: Vec<_> = query.only.iter().map(|(key, value)| (place(key), value.clone())).collect();
    let mut answer = Answer { groups: Vec::new(), position, environments: Vec::new() };
    for (open, from, name) in open {
        let (asked, to) = (name.clone(), open.sealed_to);
        let sealed = app.store.ask(move |db| db.blocks(&asked, from, to)).await?;
        let mut sums: BTreeMap<Labels, Cell> = BTreeMap::new();
        sealed.iter().chain(&open.blocks).for_each(|block| add(&mut sums, block, &identity, &project, &only));
        answer.groups.extend(sums.into_iter().map(|(labels, cell)| Group { environment: name.clone(), labels, cell }));
        answer.environments.push((name, open.clock.to_string(), from.to_string()));
    }
    Ok(answer)
}

fn add(sums: &mut BTreeMap<Labels, Cell>, block: &SliceBlock, identity: &str, project: &[usize], only: &[(usize, String)]) {
    for (labels, cell) in block.groupings.iter().filter(|grouping| grouping.identity == identity).flat_map(|grouping| &grouping.cells) {
        if only.iter().all(|(at, value)| labels[*at] == *value) {
            let projected: Labels = project.iter().map(|at| labels[*at].clone()).collect();
            match sums.get_mut(&projected) {
                Some(sum) => sum.merge(cell),
                None => {
                    sums.insert(projected, cell.clone());
                }
            }
        }
    }
}

fn find<'p>(plan: &'p Plan, query: &Query) -> Result<(&'p Grouping, usize), Problem> {
    let keys = || query.group_by.iter().chain(query.only.iter().map(|(key, _)| key));
    let position = |grouping: &Grouping| match &query.wanted {
        Wanted::Signal(name) => grouping.signals.iter().position(|signal| signal.name() == name),
        Wanted::Measure(measure) => grouping.measures.iter().position(|known| *known == MeasureRef::BuiltIn(*measure)),
    };
    let fits = |grouping: &&Grouping| grouping.filter.0.is_empty() && keys().all(|key| grouping.keys.contains(key)) && position(grouping).is_some();
    let Some(grouping) = plan.groupings.iter().find(fits) else {
        let kept: Vec<_> = plan
            .groupings
            .iter()
            .filter(|grouping| grouping.filter.0.is_empty())
            .map(|grouping| {
                let names = grouping.signals.iter().map(|signal| signal.name()).chain(grouping.measures.iter().map(|measure| measure.name()));
                let keys = grouping.keys.iter().map(Key::to_string).collect::<Vec<_>>().join(", ");
                format!("{} by environment, {keys}", names.collect::<Vec<_>>().join(", "))
            })
            .collect();
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "this combination of series and keys is not kept",
            format!("kept: {}; a rule that watches it makes it kept", kept.join("; ")),
        ));
    };
    Ok((grouping, position(grouping).expect("the grouping fits")))
}

fn show(query: &Query, group: &Group, position: usize, scratch: &mut Quantiles) -> Value {
    let label = |label: &String| if label.is_empty() { Value::Null } else { json!(label) };
    let labels: Map<String, Value> = std::iter::once(("environment".to_owned(), json!(group.environment)))
        .chain(query.group_by.iter().zip(&group.labels).map(|(key, text)| (key.to_string(), label(text))))
        .collect();
    match &query.wanted {
        Wanted::Signal(_) => {
            let ratio = group.cell.ratios[position];
            let (low, high) = wilson(ratio.holds, ratio.applies);
            let value = (ratio.applies > 0).then(|| ratio.holds as f64 / ratio.applies as f64);
            json!({ "group": labels, "numerator": ratio.holds, "denominator": ratio.applies, "value": value, "low": low, "high": high, "expected": null })
        }
        Wanted::Measure(measure) => {
            let distribution = &group.cell.distributions[position];
            let unit = |kept: f64| if measure.step() == 1.0 { json!(kept) } else { json!(kept * measure.step()) };
            let quantiles = scratch.of(&distribution.buckets, [0.5, 0.9, 0.95, 0.99]);
            let at = |i: usize| quantiles.map(|q| unit(q[i].min(distribution.max) as f64));
            let sum = u64::try_from(distribution.sum).map_or_else(|_| json!(distribution.sum as f64), |sum| json!(sum));
            json!({
                "group": labels, "count": distribution.count, "mean": distribution.mean().map(&unit), "sum": if measure.step() == 1.0 { sum } else { unit(distribution.sum as f64) },
                "p50": at(0), "p90": at(1), "p95": at(2), "p99": at(3), "max": (distribution.count > 0).then(|| unit(distribution.max as f64)),
            })
        }
    }
}

fn parse(query: &str) -> Result<Query, Problem> {
    let bad = |detail: String, hint: &str| Problem::new(StatusCode::BAD_REQUEST, detail, hint);
    let (mut wanted, mut window, mut group_by, mut only, mut environment) = (None, Span::from_secs(300), Vec::new(), Vec::new(), None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "signal" | "measure" if wanted.is_some() => {
                return Err(bad("more than one signal or measure is asked for".into(), "ask for each by itself"));
            }
            "signal" => wanted = Some(Wanted::Signal(value.into_owned())),
            "measure" => {
                let names = Measure::ALL.map(Measure::name).join(", ");
                wanted = Some(Wanted::Measure(
                    Measure::parse(&value).ok_or_else(|| bad(format!("unknown measure `{value}`"), &format!("known: {names}")))?,
                ));
            }
            "window" => {
                window = Span::parse(&value)
                    .filter(|span| *span > Span::ZERO)
                    .ok_or_else(|| bad(format!("cannot read the window `{value}`"), "write it like 30s, 5m, 1h30m or 7d"))?;
            }
            "group_by" => {
                for key in value.split(',').map(str::trim).filter(|key| !key.is_empty() && *key != "environment") {
                    let key = Key::parse(key).ok_or_else(|| bad(format!("cannot group by `{key}`"), "name a key of the call log, or a property"))?;
                    if !group_by.contains(&key) {
                        group_by.push(key);
                    }
                }
            }
            "where" => {
                for pair in value.split(',').filter(|pair| !pair.is_empty()) {
                    let (key, value) = pair.split_once('=').ok_or_else(|| bad(format!("cannot read `{pair}`"), "write where=key=value"))?;
                    match key.trim() {
                        "environment" => environment = Some(value.to_owned()),
                        key => only.push((
                            Key::parse(key).ok_or_else(|| bad(format!("cannot filter by `{key}`"), "name a key of the call log"))?,
                            value.to_owned(),
                        )),
                    }
                }
            }
            other => return Err(bad(format!("unknown parameter `{other}`"), "known: signal, measure, window, group_by, where")),
        }
    }
    let wanted =
        wanted.ok_or_else(|| bad("name a signal or a measure".into(), "for example /api/v1/series?signal=fallback&window=5m&group_by=stage"))?;
    Ok(Query { wanted, window, group_by, only, environment })
}
