//! The fields of `rule(#{…})`: from a map of the language to a rule as meant.

use crate::api::RULE;
use crate::json;
use crate::nearest;
use crate::problem::Refusal;
use crate::watch::Watch;
use model::FalseAlarms;
use model::label::Key;
use model::plan::{Action, Filter, NoData, Objective, Severity, TICK, Target};
use model::time::Span;
use rhai::{Dynamic, Map};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Each key multiplies the groups that are kept; more than this has never been a rule that a person can read.
pub(crate) const GROUP_BY_MAX: usize = 8;
/// Each watch is evaluated for every group of the rule at every tick.
pub(crate) const WATCHES_MAX: usize = 16;
const NAME_MAX_BYTES: usize = 100;

/// The fields as meant. What is missing or wrong has its default, and a refusal beside it.
#[derive(Debug)]
pub(crate) struct Fields {
    pub name: String,
    pub severity: Severity,
    pub watches: Vec<(String, Watch)>,
    pub group_by: Vec<Key>,
    pub environments: Vec<String>,
    pub applies: Filter,
    pub measures: Vec<Declared>,
    pub every: Option<Span>,
    pub hold: Span,
    pub keep_firing: Span,
    pub repeat: Option<Span>,
    pub inhibit_by: Vec<String>,
    pub actions: Vec<Action>,
    pub no_data: NoData,
    pub false_alarms: Option<FalseAlarms>,
    pub objective: Option<Objective>,
    pub channel: Option<String>,
    pub runbook: Option<String>,
    pub owner: Option<String>,
    pub keep: Option<String>,
}

const DATASET_MAX_BYTES: usize = 64;

/// What a rule says of a measure of its own.
#[derive(Debug)]
pub(crate) struct Declared {
    pub name: String,
    pub unit: String,
    pub step: f64,
}

/// Reads every field, and says of each that cannot be read why; a refusal with a word is about that word. `webhooks` are those
/// of the configuration, by name.
pub(crate) fn read(mut map: Map, webhooks: &BTreeSet<String>) -> (Fields, Vec<Refusal>) {
    let mut refusals = Vec::new();
    let mut take = |name: &str| map.remove(name).filter(|value| !value.is_unit());
    let mut keep = |refusal: Refusal| refusals.push(refusal);

    let name = match take("name").map(name) {
        Some(Ok(name)) => name,
        Some(Err(refusal)) => (keep(refusal), String::new()).1,
        None => (keep(Refusal::new("a rule needs a name").hint("add name: \"…\" to rule(#{ … })")), String::new()).1,
    };
    let severity = take("severity").map(|value| one_of(value, "severity", &Severity::ALL.map(|severity| (severity.name(), severity))));
    let no_data = take("no_data").map(|value| one_of(value, "no_data", &[("ok", NoData::Ok), ("keep", NoData::Keep), ("alert", NoData::Alert)]));
    let watches = match take("watch") {
        Some(value) => watches(value),
        None => Err(Refusal::new("a rule needs something to watch").hint("add watch: rate(\"fallback\", \"5m\"), for example")),
    };
    let group_by = take("group_by").map(group_by);
    let environments = take("environments").map(|value| texts(value, "environments"));
    let (applies, applied) = match take("applies").map(entries) {
        Some(Ok((entries, environments))) => (filter(entries), environments.map(|value| texts(value, "environment"))),
        Some(Err(refusal)) => (Err(refusal), None),
        None => (Ok(Filter::default()), None),
    };
    let environments = match (environments, applied) {
        (Some(_), Some(_)) => Some(Err(Refusal::new("the environments are given twice")
            .hint("keep environments: […] and take `environment` out of applies")
            .about("environments"))),
        (one, other) => one.or(other),
    };
    let measures = take("measures").map(measures);
    let every = take("every").map(|value| span(value, "every").and_then(every));
    let repeat = take("repeat").map(|value| span(value, "repeat").and_then(repeat));
    let inhibit_by = take("inhibit_by").map(|value| texts(value, "inhibit_by"));
    let actions = take("actions").map(|value| actions(value, webhooks));
    let hold = take("hold").map(|value| span(value, "hold"));
    let keep_firing = take("keep_firing").map(|value| span(value, "keep_firing"));
    let false_alarms = take("false_alarms").map(false_alarms);
    let slo = take("slo").map(slo);
    let over = take("over").map(|value| span(value, "over"));
    let channel = take("channel").map(|value| text(value, "channel"));
    let runbook = take("runbook").map(|value| text(value, "runbook"));
    let owner = take("owner").map(|value| text(value, "owner"));
    let dataset = take("keep").map(dataset);
    for unknown in map.keys() {
        let refusal = Refusal::new(format!("unknown field `{unknown}` of rule(#{{ … }})")).about(unknown.as_str());
        keep(match unknown.as_str() {
            "environment" => refusal.hint("environments: [\"production\"] says which environments the rule is for"),
            _ => refusal.hint(nearest::hint(unknown, RULE.iter().map(|field| field.name))),
        });
    }
    let (slo, over) = (settle(slo, &mut refusals), settle(over, &mut refusals));
    if over.is_some() && slo.is_none() {
        refusals.push(Refusal::new("over is the period of an objective, and there is none").hint("add slo: 0.99, for example").about("over"));
    }
    if let Some(over) = over.filter(|over| !PERIODS.contains(over)) {
        let refusal = Refusal::new(format!("an objective over {over} cannot be watched")).about("over");
        refusals.push(refusal.hint(format!("its burn rates are taken over up to three days: use {} to {}", PERIODS.start(), PERIODS.end())));
    }
    let objective = slo.map(|target| Objective { target, over: over.unwrap_or(PERIOD) });
    let fields = Fields {
        name,
        severity: settle(severity, &mut refusals).unwrap_or_default(),
        watches: settle(Some(watches), &mut refusals).unwrap_or_default(),
        group_by: settle(group_by, &mut refusals).unwrap_or_default(),
        environments: settle(environments, &mut refusals).unwrap_or_default(),
        applies: settle(Some(applies), &mut refusals).unwrap_or_default(),
        measures: settle(measures, &mut refusals).unwrap_or_default(),
        every: settle(every, &mut refusals),
        repeat: settle(repeat, &mut refusals),
        inhibit_by: settle(inhibit_by, &mut refusals).unwrap_or_default(),
        actions: settle(actions, &mut refusals).unwrap_or_default(),
        hold: settle(hold, &mut refusals).unwrap_or(Span::ZERO),
        keep_firing: settle(keep_firing, &mut refusals).unwrap_or(Span::from_secs(60)),
        no_data: settle(no_data, &mut refusals).unwrap_or_default(),
        false_alarms: settle(false_alarms, &mut refusals),
        objective,
        channel: settle(channel, &mut refusals),
        runbook: settle(runbook, &mut refusals),
        owner: settle(owner, &mut refusals),
        keep: settle(dataset, &mut refusals),
    };
    (fields, refusals)
}

/// The name of a dataset: one word of a NATS subject.
fn dataset(value: Dynamic) -> Result<String, Refusal> {
    let name = text(value, "keep")?;
    let word =
        !name.is_empty() && name.len() <= DATASET_MAX_BYTES && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_'));
    if word {
        return Ok(name);
    }
    let refusal = Refusal::new("keep is the name of a dataset: letters, digits, - and _, at most 64").about("keep");
    Err(refusal.hint("calls are published to streamgauge.datasets.NAME, as in keep: \"hard-cases\""))
}

/// The entries of `applies`, and of them `environment` apart.
fn entries(value: Dynamic) -> Result<(Map, Option<Dynamic>), Refusal> {
    let refuse = |_| Refusal::new("applies is a map of keys to values").hint("as in applies: #{ stage: \"extraction\" }").about("applies");
    let mut entries = value.try_cast_result::<Map>().map_err(refuse)?;
    let environments = entries.remove("environment");
    Ok((entries, environments))
}

/// Which calls something is for, and in which environments; none are all.
pub(crate) fn applies(value: Dynamic) -> Result<(Filter, Vec<String>), Refusal> {
    let (entries, environments) = entries(value)?;
    let environments = environments.map(|value| texts(value, "environment")).transpose()?;
    Ok((filter(entries)?, environments.unwrap_or_default()))
}

fn settle<T>(value: Option<Result<T, Refusal>>, refusals: &mut Vec<Refusal>) -> Option<T> {
    match value? {
        Ok(value) => Some(value),
        Err(refusal) => {
            refusals.push(refusal);
            None
        }
    }
}

/// Names stand in subjects and links, so they are kept to what needs no quoting there.
pub(crate) fn name(value: Dynamic) -> Result<String, Refusal> {
    let name = text(value, "name")?;
    if name.len() > NAME_MAX_BYTES || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        let refusal = Refusal::new(format!("`{}` cannot be a name", &name[..name.floor_char_boundary(NAME_MAX_BYTES)]));
        return Err(refusal.hint(format!("letters, digits, `-` and `_`, at most {NAME_MAX_BYTES}")).about("name"));
    }
    Ok(name)
}

fn text(value: Dynamic, field: &str) -> Result<String, Refusal> {
    match value.into_string() {
        Ok(text) if !text.trim().is_empty() => Ok(text),
        Ok(_) => Err(Refusal::new(format!("{field} is empty")).hint("leave the field out instead").about(field)),
        Err(_) => Err(Refusal::new(format!("{field} is a text in quotes")).hint(format!("as in {field}: \"…\"")).about(field)),
    }
}

fn texts(value: Dynamic, field: &str) -> Result<Vec<String>, Refusal> {
    let refuse = || Refusal::new(format!("{field} takes a text or an array of texts")).hint(format!("as in {field}: [\"…\"]")).about(field);
    let values = if value.is_array() { value.into_array().map_err(|_| refuse())? } else { vec![value] };
    let texts = values.into_iter().map(|value| value.into_string().map_err(|_| refuse())).collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() { Err(refuse()) } else { Ok(texts) }
}

fn span(value: Dynamic, field: &str) -> Result<Span, Refusal> {
    let refuse = |message: String| Refusal::new(message).hint(format!("as in {field}: \"30s\" or \"2m\"")).about(field);
    let text = value.into_string().map_err(|_| refuse(format!("{field} is a length of time in quotes")))?;
    Span::parse(&text).ok_or_else(|| refuse(format!("`{text}` is no length of time")))
}

/// A check looks at whole ticks, and an alert that nobody looked at for an hour is no alert.
fn every(every: Span) -> Result<Span, Refusal> {
    if every < TICK || every > Span::from_secs(3600) || !every.millis().is_multiple_of(TICK.millis()) {
        let refusal = Refusal::new(format!("a rule cannot look every {every}")).about("every");
        return Err(refusal.hint(format!("whole ticks of {TICK}, up to an hour: \"30s\" or \"5m\"")));
    }
    Ok(every)
}

/// More often than this is the noise that one message per incident is to spare people.
const REPEAT_MIN: Span = Span::from_secs(600);

fn repeat(repeat: Span) -> Result<Span, Refusal> {
    if repeat < REPEAT_MIN {
        let refusal = Refusal::new(format!("an alert is not told again every {repeat}")).about("repeat");
        return Err(refusal.hint(format!("every {REPEAT_MIN} at most: \"4h\" is usual")));
    }
    Ok(repeat)
}

/// Measures of a rule's own: each with its unit and the smallest difference that is kept.
fn measures(value: Dynamic) -> Result<Vec<Declared>, Refusal> {
    const EXAMPLE: &str = "as in measures: #{ relevance: #{ unit: \"score\", step: 0.01 } }";
    let refuse = |message: String| Refusal::new(message).hint(EXAMPLE).about("measures");
    let map = value.try_cast_result::<Map>().map_err(|_| refuse("measures takes a map of names".to_owned()))?;
    let one = |name: String, value: Dynamic| {
        let mut map = value.try_cast_result::<Map>().map_err(|_| refuse(format!("measure `{name}` is described by a map")))?;
        let unit = match map.remove("unit").filter(|unit| !unit.is_unit()).map(Dynamic::into_string) {
            None => String::new(),
            Some(Ok(unit)) => unit,
            Some(Err(_)) => return Err(refuse(format!("the unit of measure `{name}` is a text in quotes"))),
        };
        let step = match map.remove("step").filter(|step| !step.is_unit()) {
            None => STEP,
            Some(step) => step.as_float().or_else(|_| step.as_int().map(|whole| whole as f64)).unwrap_or(f64::NAN),
        };
        if !(1e-9..=1e9).contains(&step) {
            return Err(refuse(format!("the step of measure `{name}` is a number above 0: the smallest difference that is kept")));
        }
        match map.keys().next() {
            Some(unknown) => Err(refuse(format!("unknown field `{unknown}` of measure `{name}`; known: unit, step"))),
            None => Ok(Declared { name, unit, step }),
        }
    };
    map.into_iter().map(|(name, value)| one(name.to_string(), value)).collect()
}

/// Buttons under a message are few.
pub(crate) const ACTIONS_MAX: usize = 4;

fn actions(value: Dynamic, webhooks: &BTreeSet<String>) -> Result<Vec<Action>, Refusal> {
    const EXAMPLE: &str =
        "as in actions: [#{ label: \"Fail over\", publish: \"gateway.control\", payload: #{ to: \"gpt-4o\" }, confirm: \"Sure?\" }]";
    let refuse = |message: String| Refusal::new(message).hint(EXAMPLE).about("actions");
    let list = value.into_array().map_err(|_| refuse("actions takes an array of maps".to_owned()))?;
    if list.len() > ACTIONS_MAX {
        return Err(refuse(format!("{} actions; a rule has at most {ACTIONS_MAX}", list.len())));
    }
    let one = |value: Dynamic| {
        let mut map = value.try_cast_result::<Map>().map_err(|_| refuse("an action is a map".to_owned()))?;
        let mut text = |name: &str| map.remove(name).filter(|value| !value.is_unit()).map(|value| value.into_string().map_err(|_| name.to_owned()));
        let wrong = |name: String| refuse(format!("{name} of an action is a text in quotes"));
        let [label, publish, webhook, confirm] = ["label", "publish", "webhook", "confirm"].map(|name| text(name).transpose().map_err(wrong));
        let label = label?.ok_or_else(|| refuse("an action needs label".to_owned()))?;
        let target = match (publish?, webhook?) {
            (Some(subject), None) => Target::Subject(subject),
            (None, Some(name)) => Target::Webhook(name),
            (None, None) => return Err(refuse("an action needs publish, a NATS subject, or webhook, a name of the configuration".to_owned())),
            (Some(_), Some(_)) => return Err(refuse(format!("the action `{label}` has publish and webhook: one button does one thing"))),
        };
        match &target {
            Target::Subject(subject)
                if subject.split('.').any(str::is_empty) || subject.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '>')) =>
            {
                return Err(refuse(format!("`{subject}` is no subject to publish to: words joined by dots, no wildcards")));
            }
            Target::Webhook(name) if !webhooks.contains(name) => {
                let refusal = Refusal::new(format!("there is no webhook `{name}` in the configuration")).about("actions");
                let known = nearest::hint(name, webhooks.iter().map(String::as_str));
                return Err(refusal.hint(if webhooks.is_empty() { format!("add [webhooks.{name}] with its url") } else { known }));
            }
            Target::Subject(_) | Target::Webhook(_) => {}
        }
        let payload = json::written(&map.remove("payload").unwrap_or(Dynamic::UNIT)).map_err(|what| refuse(format!("a payload holds {what}")))?;
        match map.keys().next() {
            Some(unknown) => Err(refuse(format!("unknown field `{unknown}` of an action; known: label, publish, webhook, payload, confirm"))),
            None => Ok(Action { label, target, payload, confirm: confirm? }),
        }
    };
    let mut actions: Vec<Action> = Vec::new();
    for value in list {
        let action = one(value)?;
        if actions.iter().any(|known| known.label == action.label) {
            return Err(refuse(format!("two actions are labelled `{}`: nobody could tell their buttons apart", action.label)));
        }
        actions.push(action);
    }
    Ok(actions)
}

/// What is kept of a measure where the rule does not say.
pub(crate) const STEP: f64 = 0.001;

/// Of an objective's period: the default, and what its windows of an hour to three days make sense for.
const PERIOD: Span = Span::from_secs(30 * 86_400);
const PERIODS: RangeInclusive<Span> = Span::from_secs(7 * 86_400)..=Span::from_secs(90 * 86_400);

fn slo(value: Dynamic) -> Result<f64, Refusal> {
    let target = value.as_float().map_err(|_| ());
    match target {
        Ok(target) if target > 0.0 && target < 1.0 => Ok(target),
        _ => Err(Refusal::new("slo is the share of calls to be good, between 0 and 1").hint("99 % is slo: 0.99").about("slo")),
    }
}

fn false_alarms(value: Dynamic) -> Result<FalseAlarms, Refusal> {
    let text = text(value, "false_alarms")?;
    FalseAlarms::parse(&text).map_err(|error| Refusal::new(error.to_string()).hint(FalseAlarms::HINT).about("false_alarms"))
}

fn one_of<T: Copy>(value: Dynamic, field: &str, known: &[(&str, T)]) -> Result<T, Refusal> {
    let text = text(value, field)?;
    known
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| Refusal::new(format!("unknown {field} `{text}`")).hint(nearest::hint(&text, known.iter().map(|(name, _)| *name))).about(field))
}

/// One watch, which is then named `value`, or a map of name → watch, in the order of the names.
fn watches(value: Dynamic) -> Result<Vec<(String, Watch)>, Refusal> {
    const EXAMPLE: &str = "as in watch: rate(\"fallback\", \"5m\"), or watch: #{ slow: quantile(\"latency_ms\", 0.95, \"5m\") }";
    let refuse = |message: String| Refusal::new(message).hint(EXAMPLE).about("watch");
    let value = match value.try_cast_result::<Watch>() {
        Ok(watch) => return Ok(vec![("value".to_owned(), watch)]),
        Err(value) => value,
    };
    let Ok(map) = value.try_cast_result::<Map>() else { return Err(refuse("watch takes a watch, or a map of them".to_owned())) };
    if map.is_empty() || map.len() > WATCHES_MAX {
        return Err(refuse(format!("watch holds {} watches; a rule has 1 to {WATCHES_MAX}", map.len())));
    }
    map.into_iter()
        .map(|(name, value)| {
            if name == "group" || name == "now" {
                let what = if name == "now" { "time" } else { "group" };
                let refusal = Refusal::new(format!("a watch cannot be named `{name}`: w.{name} is the {what}"));
                return Err(refusal.hint("give it another name").about(name.as_str()));
            }
            let watch = value.try_cast::<Watch>().ok_or_else(|| refuse(format!("`{name}` is not a watch")).about(name.as_str()))?;
            Ok((name.to_string(), watch))
        })
        .collect()
}

fn group_by(value: Dynamic) -> Result<Vec<Key>, Refusal> {
    let mut keys = Vec::new();
    for name in texts(value, "group_by")? {
        if name == "environment" {
            continue;
        }
        let key = Key::parse(&name).ok_or_else(|| Refusal::new("group_by holds an empty name").about("group_by"))?;
        if keys.contains(&key) {
            return Err(Refusal::new(format!("group_by names `{key}` twice")).about("group_by"));
        }
        keys.push(key);
    }
    if keys.len() > GROUP_BY_MAX {
        return Err(Refusal::new(format!("group_by names {} keys; at most {GROUP_BY_MAX} are kept", keys.len())).about("group_by"));
    }
    Ok(keys)
}

/// Equality filters from a map of key → text or array of texts; sorted, so that equal filters are found equal.
pub(crate) fn filter(entries: Map) -> Result<Filter, Refusal> {
    let mut filter = Vec::new();
    for (name, value) in entries {
        let key = Key::parse(&name).ok_or_else(|| Refusal::new("a filter's key is empty"))?;
        if filter.iter().any(|(known, _)| *known == key) {
            return Err(Refusal::new(format!("`{key}` is filtered twice")).about(name.as_str()));
        }
        let mut values = texts(value, &name)?;
        values.sort();
        values.dedup();
        filter.push((key, values));
    }
    filter.sort();
    Ok(Filter(filter))
}
