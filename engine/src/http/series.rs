//! `GET /api/v1/series`: counts, rates and distributions over a window, for any grouping that is kept.
//!
//! What is not sealed yet comes from the machine, everything older from the store; both are sums of the same cells, so the answer is exact. A judge's rate
//! of fails is an estimate from a sample, and where the judge is calibrated it is given corrected as well. Verdicts and runs are kept only where a rule
//! watches them.

use super::{App, Problem};
use crate::judging::calibrated::{self, Believed, Calibrated};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use machine::SliceBlock;
use model::plan::{Counts, Grouping, Plan, SignalRef};
use model::run::RunMeasure;
use model::verdict::VerdictSignal;
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
    Measure(MeasureRef),
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
    /// In the order of the cells' distributions.
    pub measures: Vec<MeasureRef>,
    /// Of a judge's fails: the judges, with their fingerprints.
    judges: Option<Vec<(String, u64)>>,
    /// Environment, its clock, and where the window begins.
    pub environments: Vec<(String, String, String)>,
}

pub(super) async fn series(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let query = parse(query.as_deref().unwrap_or_default())?;
    let answer = read(&app, &query).await?;
    let calibrations = calibrations(&app, &answer).await?;
    let mut scratch = Quantiles::new();
    let groups = answer.groups.iter().map(|group| match answer.believed(&query, group, &calibrations) {
        Some(believed) => estimated(&query, group, answer.position, believed.as_ref()),
        None => show(&query, group, answer.position, &mut scratch),
    });
    let groups: Vec<_> = groups.collect();
    let environments: Map<String, Value> =
        answer.environments.into_iter().map(|(name, clock, from)| (name, json!({ "clock": clock, "from": from }))).collect();
    Ok(Json(json!({ "window": query.window.to_string(), "environments": environments, "groups": groups })))
}

/// What is known of judges, where the answer is about one.
pub(super) async fn calibrations(app: &App, answer: &Answer) -> Result<Vec<Calibrated>, Problem> {
    Ok(if answer.judges.is_some() { app.store.ask(|db| db.calibrations()).await? } else { Vec::new() })
}

impl Answer {
    /// Of a judge's fails: what the opinions on a group say of all its calls, as far as there are any.
    pub fn believed(&self, query: &Query, group: &Group, calibrations: &[Calibrated]) -> Option<Option<Believed>> {
        let judges = self.judges.as_ref()?;
        let named = match &query.wanted {
            Wanted::Signal(name) => name.split_once(':').map(|(_, judge)| judge),
            Wanted::Measure(_) => None,
        };
        let label = || query.group_by.iter().position(|key| *key == Key::Judge).map(|at| group.labels[at].as_str());
        let judge = named.or_else(label).and_then(|judge| judges.iter().find(|(name, _)| name == judge));
        let calibrated = judge.and_then(|(name, fingerprint)| calibrated::of(calibrations, name, *fingerprint));
        Some(calibrated::believed(&group.cell.opinions, calibrated))
    }
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
    let open_keys = query.only.iter().filter(|only| !is_set(grouping, only));
    let only: Vec<_> = open_keys.map(|(key, value)| (place(key), value.clone())).collect();
    let fails = matches!(grouping.signals.get(position), Some(SignalRef::Verdict(VerdictSignal::Failed, _)));
    let judges = (fails && matches!(query.wanted, Wanted::Signal(_)))
        .then(|| plan.judges.iter().map(|judge| (judge.name.clone(), judge.fingerprint)).collect());
    let mut answer = Answer { groups: Vec::new(), position, measures: grouping.measures.clone(), judges, environments: Vec::new() };
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

/// Whether all that a grouping counts has this label.
fn is_set(grouping: &Grouping, (key, value): &(Key, String)) -> bool {
    grouping.filter.0.iter().any(|(set, values)| set == key && values.as_slice() == std::slice::from_ref(value))
}

fn find<'p>(plan: &'p Plan, query: &Query) -> Result<(&'p Grouping, usize), Problem> {
    let position = |grouping: &Grouping| match &query.wanted {
        Wanted::Signal(name) => grouping.signals.iter().position(|signal| signal.name() == name),
        Wanted::Measure(measure) => grouping.measures.iter().position(|known| known == measure),
    };
    // Of verdicts and runs only what rules watch is kept; what such a rule leaves out must be left out of the question, too.
    let judge = match &query.wanted {
        Wanted::Signal(name) => name.split_once(':').map(|(_, judge)| (Key::Judge, judge.to_owned())),
        Wanted::Measure(_) => None,
    };
    let asked = |grouping: &Grouping| {
        let says =
            |key: &Key, values: &[String]| query.only.iter().chain(&judge).any(|(only, value)| only == key && values == std::slice::from_ref(value));
        grouping.filter.0.iter().all(|(key, values)| says(key, values))
    };
    let open = |grouping: &Grouping| grouping.filter.0.is_empty() || grouping.counts != Counts::Calls && asked(grouping);
    let keys = |grouping: &Grouping| {
        let only = query.only.iter().filter(|only| !is_set(grouping, only)).map(|(key, _)| key);
        query.group_by.iter().chain(only).all(|key| grouping.keys.contains(key))
    };
    let fits = |grouping: &&Grouping| open(grouping) && keys(grouping) && position(grouping).is_some();
    // Opinions of different judges do not add up.
    let of_one = |grouping: &&Grouping| match &query.wanted {
        Wanted::Signal(name) => {
            name != VerdictSignal::Failed.name()
                || query.group_by.contains(&Key::Judge)
                || grouping.filter.0.iter().any(|(key, _)| *key == Key::Judge)
        }
        Wanted::Measure(_) => true,
    };
    let Some(grouping) = plan.groupings.iter().filter(fits).find(of_one) else {
        let kept: Vec<_> = plan
            .groupings
            .iter()
            .filter(|grouping| grouping.filter.0.is_empty() || grouping.counts != Counts::Calls)
            .map(|grouping| {
                let names = grouping.signals.iter().map(|signal| signal.name()).chain(grouping.measures.iter().map(|measure| measure.name()));
                let keys = std::iter::once("environment".to_owned()).chain(grouping.keys.iter().map(Key::to_string)).collect::<Vec<_>>().join(", ");
                let only = if grouping.filter.0.is_empty() { String::new() } else { format!(" where {}", grouping.filter) };
                format!("{} by {keys}{only}", names.collect::<Vec<_>>().join(", "))
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

fn named(query: &Query, group: &Group) -> Map<String, Value> {
    let label = |label: &String| if label.is_empty() { Value::Null } else { json!(label) };
    let labels = query.group_by.iter().zip(&group.labels).map(|(key, text)| (key.to_string(), label(text)));
    std::iter::once(("environment".to_owned(), json!(group.environment))).chain(labels).collect()
}

/// A judge's rate of fails, as an estimate for all calls.
fn estimated(query: &Query, group: &Group, position: usize, believed: Option<&Believed>) -> Value {
    let ratio = group.cell.ratios[position];
    let raw = believed.map(|believed| believed.raw);
    json!({
        "group": named(query, group), "numerator": ratio.holds, "denominator": ratio.applies, "value": raw.map(|raw| raw.value),
        "low": raw.map(|raw| raw.low), "high": raw.map(|raw| raw.high), "effective": believed.map(|believed| believed.effective),
        "corrected": believed.and_then(|believed| believed.corrected), "uncorrected": believed.and_then(|believed| believed.uncorrected.as_ref()),
        "expected": null,
    })
}

fn show(query: &Query, group: &Group, position: usize, scratch: &mut Quantiles) -> Value {
    let labels = named(query, group);
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
                let names = Measure::ALL.map(Measure::name).into_iter().chain(RunMeasure::ALL.map(RunMeasure::name)).collect::<Vec<_>>().join(", ");
                let measure = Measure::parse(&value).map(MeasureRef::from).or_else(|| RunMeasure::parse(&value).map(MeasureRef::Run));
                wanted = Some(Wanted::Measure(measure.ok_or_else(|| bad(format!("unknown measure `{value}`"), &format!("known: {names}")))?));
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
