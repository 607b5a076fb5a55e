//! `check(w)`: the view of one group that a rule decides over, and `fire`.
//!
//! A firing is written to the tag of the one call it belongs to, so that `check` stays a function of its view and two threads never meet.

use crate::nearest;
use crate::problem::Refusal;
use model::label::Key;
use model::plan::{Severity, WatchSpec};
use model::window::{Fire, GroupView, Observation, Ranked};
use model::{Span, Timestamp};
use rhai::{Array, Dynamic, Engine, EvalAltResult, Map, NativeCallContext};
use std::sync::{Arc, Mutex, PoisonError};

/// Longer summaries are cut: they are one line on a phone.
pub(crate) const SUMMARY_MAX_BYTES: usize = 500;

/// Labels of one firing; more are more than a message shows.
pub(crate) const LABELS_MAX: usize = 16;
/// Bytes of a label's name or value.
pub(crate) const LABEL_MAX_BYTES: usize = 200;

/// What one run of `check` fired, in order, and the end of the tick that it looks at.
#[derive(Clone, Debug)]
pub(crate) struct Firings {
    fired: Arc<Mutex<Vec<Fire>>>,
    at: Timestamp,
}

impl Firings {
    pub fn at(at: Timestamp) -> Self {
        Self { fired: Arc::default(), at }
    }

    /// The first of the highest severity; one without its own has the rule's.
    pub fn loudest(&self, rule: Severity) -> Option<Fire> {
        let fired = std::mem::take(&mut *self.fired.lock().unwrap_or_else(PoisonError::into_inner));
        fired.into_iter().rev().max_by_key(|fire| fire.severity.unwrap_or(rule))
    }

    fn push(&self, fire: Fire) {
        self.fired.lock().unwrap_or_else(PoisonError::into_inner).push(fire);
    }
}

pub(crate) fn register(engine: &mut Engine) {
    let here = |context: &NativeCallContext<'_>| context.tag().and_then(|tag| tag.clone().try_cast::<Firings>());
    engine.register_fn("fire", move |context: NativeCallContext<'_>, what: Dynamic| -> Result<(), Box<EvalAltResult>> {
        let Some(firings) = here(&context) else {
            return Err(Refusal::new("fire(…) belongs in fn check(w)")
                .hint("applies, signals and measures see one call; check sees the windows")
                .into());
        };
        firings.push(fire(what)?);
        Ok(())
    });
    engine.register_fn("since", |_: ()| "n/a".to_owned());
    engine.register_fn("since", move |context: NativeCallContext<'_>, time: i64| -> Result<String, Box<EvalAltResult>> {
        let Some(firings) = here(&context) else {
            return Err(Refusal::new("since(…) belongs in fn check(w)").hint("a call alone knows no now").into());
        };
        let time = Timestamp::from_millis(time).ok_or_else(|| Refusal::new("since takes a time in milliseconds since 1970"))?;
        let seconds = firings.at.since(time).millis() / 1000;
        // From a minute on, seconds are noise.
        Ok(Span::from_secs(if seconds < 60 { seconds } else { seconds / 60 * 60 }).to_string())
    });
}

fn fire(what: Dynamic) -> Result<Fire, Refusal> {
    const EXAMPLE: &str = "it is fire(text) or fire(#{ summary: text, severity: \"critical\", labels: #{ … } })";
    if what.is_string() {
        return Ok(Fire { summary: summary(what)?, ..Fire::default() });
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
    let labels = match map.remove("labels").filter(|value| !value.is_unit()).map(|value| value.try_cast_result::<Map>()) {
        None => Vec::new(),
        Some(Ok(labels)) if labels.len() <= LABELS_MAX => {
            let text = |text: String| text[..text.floor_char_boundary(LABEL_MAX_BYTES)].to_owned();
            labels.into_iter().map(|(name, value)| (text(name.to_string()), text(value.to_string()))).collect()
        }
        Some(_) => return Err(Refusal::new(format!("a firing's labels are a map of at most {LABELS_MAX}")).hint(EXAMPLE)),
    };
    match map.keys().next() {
        Some(unknown) => Err(Refusal::new(format!("unknown field `{unknown}` of fire(#{{ … }})")).hint(EXAMPLE)),
        None => Ok(Fire { summary, severity, labels }),
    }
}

fn summary(value: Dynamic) -> Result<String, Refusal> {
    let mut text =
        value.into_string().map_err(|_| Refusal::new("a firing's summary is a text").hint("as in fire(`${percent(w.value.value)} fail`)"))?;
    text.truncate(text.floor_char_boundary(SUMMARY_MAX_BYTES));
    Ok(text)
}

/// `w` for a rule with these watches and keys.
pub(crate) fn view(watches: &[WatchSpec], group_by: &[Key], group: &GroupView) -> Dynamic {
    let seen = |at: usize| group.observations.get(at).map_or_else(Map::new, observed);
    let mut w = Map::new();
    for (at, watch) in watches.iter().enumerate().filter(|(_, watch)| !watch.part) {
        let mut map = seen(at);
        for (name, earlier) in [("previous", watch.previous), ("same_time_yesterday", watch.yesterday)] {
            if let Some(at) = earlier {
                map.insert(name.into(), seen(at).into());
            }
        }
        w.insert(watch.name.as_str().into(), map.into());
    }
    let mut labels: Map = group_by.iter().zip(&group.labels).map(|(key, label)| (key.to_string().into(), label.into())).collect();
    labels.insert("environment".into(), group.environment.as_str().into());
    w.insert("group".into(), labels.into());
    w.insert("now".into(), group.at.millis().into());
    w.into()
}

fn observed(observation: &Observation) -> Map {
    let expected =
        observation.expected.map_or(Dynamic::UNIT, |range| Map::from([("low".into(), range.low.into()), ("high".into(), range.high.into())]).into());
    let count = |count: u64| Dynamic::from(i64::try_from(count).unwrap_or(i64::MAX));
    let ranked = |ranked: &Ranked| -> Dynamic {
        Map::from([
            ("label".into(), ranked.label.as_str().into()),
            ("value".into(), ranked.value.into()),
            ("share".into(), ranked.share.into()),
            ("calls".into(), count(ranked.calls)),
        ])
        .into()
    };
    Map::from([
        ("value".into(), observation.value.map_or(Dynamic::UNIT, Dynamic::from)),
        ("calls".into(), count(observation.calls)),
        ("bad".into(), count(observation.holds)),
        ("low".into(), observation.low.into()),
        ("high".into(), observation.high.into()),
        ("effective".into(), observation.effective.map_or(Dynamic::UNIT, Dynamic::from)),
        ("expected".into(), expected),
        ("learning".into(), observation.learning.into()),
        ("drifted".into(), observation.drifted.map_or("", |direction| direction.name()).into()),
        ("since".into(), observation.drift.map_or(Dynamic::UNIT, |drift| drift.since.millis().into())),
        ("top".into(), observation.top.iter().map(ranked).collect::<Array>().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use std::collections::BTreeSet;

    #[test]
    fn the_reference_names_every_part_of_w() {
        let told: BTreeSet<_> = api::parts_of_a_watch().into_iter().collect();
        let seen = observed(&Observation::default());
        let seen: BTreeSet<_> = seen.keys().map(|name| name.as_str()).chain(["previous", "same_time_yesterday"]).collect();
        assert_eq!(told, seen);
    }
}
