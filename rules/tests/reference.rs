//! REFERENCE.md tells the truth: its examples load, and its tables name what there is.

use model::label::Key;
use model::{Measure, Signal};
use streamgauge_rules::{Constants, Source, load};

const REFERENCE: &str = include_str!("../REFERENCE.md");

#[test]
fn every_example_loads() {
    let examples: Vec<_> = REFERENCE.split("```rhai\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(text, _)| text).collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    let sources: Vec<_> =
        examples.iter().enumerate().map(|(i, text)| Source { path: format!("example-{i}.rhai").into(), text: (*text).to_owned() }).collect();
    let loaded = load(&sources, &Constants::new());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(loaded.rules.specs().len(), examples.len());
}

#[test]
fn every_signal_measure_and_key_is_named() {
    let named = |name: &str| assert!(REFERENCE.contains(&format!("`{name}`")), "{name}");
    Signal::ALL.map(Signal::name).into_iter().for_each(named);
    Measure::ALL.map(Measure::name).into_iter().for_each(named);
    Key::known().for_each(named);
}
