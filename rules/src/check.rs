//! `check(w)`: the view of one group that a rule decides over, and `fire`.
//!
//! A firing is written to the tag of the one call it belongs to, so that `check` stays a function of its view and two threads never meet.

use crate::nearest;
use crate::problem::Refusal;
use model::label::Key;
use model::plan::Severity;
use model::window::{Fire, GroupView, Observation};
use rhai::{Dynamic, Engine, EvalAltResult, Map, NativeCallContext};
use std::sync::{Arc, Mutex, PoisonError};

/// Longer summaries are cut: they are one line on a phone.
const SUMMARY_MAX_BYTES: usize = 500;

/// What one run of `check` fired, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Firings(Arc<Mutex<Vec<Fire>>>);

impl Firings {
    /// The first of the highest severity; one without its own has the rule's.
    pub fn loudest(&self, rule: Severity) -> Option<Fire> {
        let fired = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        fired.into_iter().rev().max_by_key(|fire| fire.severity.unwrap_or(rule))
    }

    fn push(&self, fire: Fire) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fire);
    }
}

pub(crate) fn register(engine: &mut Engine) {
    engine.register_fn("fire", |context: NativeCallContext<'_>, what: Dynamic| -> Result<(), Box<EvalAltResult>> {
        let Some(firings) = context.tag().and_then(|tag| tag.clone().try_cast::<Firings>()) else {
            return Err(Refusal::new("fire(…) belongs in fn check(w)").hint("applies and signals see one call; check sees the windows").into());
        };
        firings.push(fire(what)?);
        Ok(())
    });
}

fn fire(what: Dynamic) -> Result<Fire, Refusal> {
    const EXAMPLE: &str = "it is fire(text) or fire(#{ summary: text, severity: \"critical\" })";
    if what.is_string() {
        return Ok(Fire { summary: summary(what)?, severity: None });
    }
    let Ok(mut map) = what.try_cast_result::<Map>() else { return Err(Refusal::new("fire takes a text or a map").hint(EXAMPLE)) };
    let summary = summary(map.remove("summary").unwrap_or(Dynamic::UNIT))?;
    let severity = match map.remove("severity").filter(|value| !value.is_unit()) {
        None => None,
        Some(value) => {
            let name = value.to_string();
            let known = Severity::ALL.map(Severity::name);
            let found = Severity::ALL.into_iter().find(|severity| severity.name() == name);
            Some(found.ok_or_else(|| Refusal::new(format!("unknown severity `{name}`")).hint(nearest::hint(&name, known.iter().copied())))?)
        }
    };
    match map.keys().next() {
        Some(unknown) => Err(Refusal::new(format!("unknown field `{unknown}` of fire(#{{ … }})")).hint(EXAMPLE)),
        None => Ok(Fire { summary, severity }),
    }
}

fn summary(value: Dynamic) -> Result<String, Refusal> {
    let mut text =
        value.into_string().map_err(|_| Refusal::new("a firing's summary is a text").hint("as in fire(`${percent(w.value.value)} fail`)"))?;
    text.truncate(text.floor_char_boundary(SUMMARY_MAX_BYTES));
    Ok(text)
}

/// `w` for a rule with these watches and keys.
pub(crate) fn view<'n>(watches: impl Iterator<Item = &'n str>, group_by: &[Key], group: &GroupView) -> Dynamic {
    let mut w: Map = watches.zip(&group.observations).map(|(name, observation)| (name.into(), observed(observation))).collect();
    let mut labels: Map = group_by.iter().zip(&group.labels).map(|(key, label)| (key.to_string().into(), label.into())).collect();
    labels.insert("environment".into(), group.environment.as_str().into());
    w.insert("group".into(), labels.into());
    w.into()
}

fn observed(observation: &Observation) -> Dynamic {
    let expected =
        observation.expected.map_or(Dynamic::UNIT, |range| Map::from([("low".into(), range.low.into()), ("high".into(), range.high.into())]).into());
    let count = |count: u64| Dynamic::from(i64::try_from(count).unwrap_or(i64::MAX));
    Map::from([
        ("value".into(), observation.value.map_or(Dynamic::UNIT, Dynamic::from)),
        ("calls".into(), count(observation.calls)),
        ("bad".into(), count(observation.holds)),
        ("low".into(), observation.low.into()),
        ("high".into(), observation.high.into()),
        ("expected".into(), expected),
        ("learning".into(), observation.learning.into()),
        ("drifted".into(), observation.drifted.map_or("", |direction| direction.name()).into()),
    ])
    .into()
}
