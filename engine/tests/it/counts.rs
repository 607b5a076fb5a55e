//! What the engine says it counted, in a shape that can be compared with someone else's counts.

use crate::engine::Engine;
use fixtures::{Counts, Field, Signal, Sum, Tally};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a group, `environment` first, the others as asked for; a missing one is empty.
pub type Group = Vec<String>;

/// Long enough for all calls of any test.
const ALL_TIME: &str = "365d";

/// Numerator and denominator of a signal by group.
pub async fn signal(engine: &Engine, name: &str, group_by: &[&str]) -> BTreeMap<Group, (u64, u64)> {
    let answer = engine.json(&format!("/api/v1/series?signal={name}&window={ALL_TIME}&group_by={}", group_by.join(","))).await;
    groups(&answer, group_by, |group| (whole(&group["numerator"]), whole(&group["denominator"])))
}

/// Count and sum of a measure by group, in the unit of its name times `scale`.
pub async fn measure(engine: &Engine, name: &str, group_by: &[&str], scale: f64) -> BTreeMap<Group, Sum> {
    let answer = engine.json(&format!("/api/v1/series?measure={name}&window={ALL_TIME}&group_by={}", group_by.join(","))).await;
    let sum = |sum: &Value| if scale == 1.0 { whole(sum) } else { (sum.as_f64().expect("a number") * scale).round() as u64 };
    groups(&answer, group_by, |group| Sum { count: whole(&group["count"]), sum: sum(&group["sum"]) })
}

fn groups<T>(answer: &Value, group_by: &[&str], read: impl Fn(&Value) -> T) -> BTreeMap<Group, T> {
    let label = |group: &Value, key: &str| group["group"][key].as_str().unwrap_or_default().to_owned();
    let labels = |group: &Value| std::iter::once("environment").chain(group_by.iter().copied()).map(|key| label(group, key)).collect();
    answer["groups"].as_array().expect("groups").iter().map(|group| (labels(group), read(group))).collect()
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// Asserts that every count of every group is that of `tally`, both ways.
pub async fn assert_counts(engine: &Engine, tally: &Tally) {
    let group_by = ["stage", "provider", "model"];
    let theirs = tally.by(&[Field::Environment, Field::Stage, Field::Provider, Field::Model]);
    let nothing = Counts::default();
    let mut differing = Vec::new();
    let mut compare = |what: &str, ours: BTreeMap<Group, (u64, u64)>, of: &dyn Fn(&Counts) -> (u64, u64)| {
        for group in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let (ours, theirs) = (ours.get(group).copied().unwrap_or_default(), of(theirs.get(group).unwrap_or(&nothing)));
            if ours != theirs {
                differing.push(format!("{what} of {}: {ours:?} counted, {theirs:?} published", group.join(" ")));
            }
        }
    };
    for name in Signal::ALL {
        compare(name.name(), signal(engine, name.name(), &group_by).await, &|counts| (counts.numerator(name), counts.denominator(name)));
    }
    type Read = fn(&Counts) -> Sum;
    let measures: [(&str, f64, Read); 4] = [
        ("latency_ms", 1.0, |counts| counts.latency_ms),
        ("input_tokens", 1.0, |counts| counts.input_tokens),
        ("output_tokens", 1.0, |counts| counts.output_tokens),
        // Shown in dollars and counted in nano-dollars.
        ("cost_usd", 1e9, |counts| counts.cost_nanos),
    ];
    for (name, scale, of) in measures {
        let ours = measure(engine, name, &group_by, scale).await.into_iter().map(|(group, sum)| (group, (sum.sum, sum.count))).collect();
        compare(name, ours, &|counts| (of(counts).sum, of(counts).count));
    }
    assert!(differing.is_empty(), "{} counts differ: {:#?}", differing.len(), &differing[..differing.len().min(20)]);
}
