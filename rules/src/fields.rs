//! The fields of `rule(#{…})`: from a map of the language to a rule as meant.

use crate::nearest;
use crate::problem::Refusal;
use crate::watch::Watch;
use model::FalseAlarms;
use model::label::Key;
use model::plan::{Filter, NoData, Objective, Severity};
use model::time::Span;
use rhai::{Dynamic, Map};
use std::ops::RangeInclusive;

const FIELDS: [&str; 16] = [
    "name",
    "severity",
    "watch",
    "group_by",
    "environments",
    "applies",
    "hold",
    "keep_firing",
    "no_data",
    "false_alarms",
    "slo",
    "over",
    "channel",
    "runbook",
    "owner",
    "environment",
];

/// What `FIELDS` says to people: the last is only there to be explained.
const KNOWN: usize = FIELDS.len() - 1;

/// Each key multiplies the groups that are kept; more than this has never been a rule that a person can read.
const GROUP_BY_MAX: usize = 8;
/// Each watch is evaluated for every group of the rule at every tick.
const WATCHES_MAX: usize = 16;
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
    pub hold: Span,
    pub keep_firing: Span,
    pub no_data: NoData,
    pub false_alarms: Option<FalseAlarms>,
    pub objective: Option<Objective>,
    pub channel: Option<String>,
    pub runbook: Option<String>,
}

/// Reads every field, and says of each that cannot be read why; a refusal with a word is about that word.
pub(crate) fn read(mut map: Map) -> (Fields, Vec<Refusal>) {
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
    let (applies, applied) = match take("applies").map(|value| value.try_cast_result::<Map>()) {
        Some(Ok(mut entries)) => {
            let environments = entries.remove("environment").map(|value| texts(value, "environment"));
            (filter(entries), environments)
        }
        Some(Err(_)) => {
            (Err(Refusal::new("applies is a map of keys to values").hint("as in applies: #{ stage: \"extraction\" }").about("applies")), None)
        }
        None => (Ok(Filter::default()), None),
    };
    let environments = match (environments, applied) {
        (Some(_), Some(_)) => Some(Err(Refusal::new("the environments are given twice")
            .hint("keep environments: […] and take `environment` out of applies")
            .about("environments"))),
        (one, other) => one.or(other),
    };
    let hold = take("hold").map(|value| span(value, "hold"));
    let keep_firing = take("keep_firing").map(|value| span(value, "keep_firing"));
    let false_alarms = take("false_alarms").map(false_alarms);
    let slo = take("slo").map(slo);
    let over = take("over").map(|value| span(value, "over"));
    let channel = take("channel").map(|value| text(value, "channel"));
    let runbook = take("runbook").map(|value| text(value, "runbook"));
    if let Some(Err(refusal)) = take("owner").map(|value| text(value, "owner")) {
        keep(refusal);
    }
    for unknown in map.keys() {
        let refusal = Refusal::new(format!("unknown field `{unknown}` of rule(#{{ … }})")).about(unknown.as_str());
        keep(match unknown.as_str() {
            "environment" => refusal.hint("environments: [\"production\"] says which environments the rule is for"),
            _ => refusal.hint(nearest::hint(unknown, FIELDS[..KNOWN].iter().copied())),
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
        hold: settle(hold, &mut refusals).unwrap_or(Span::ZERO),
        keep_firing: settle(keep_firing, &mut refusals).unwrap_or(Span::from_secs(60)),
        no_data: settle(no_data, &mut refusals).unwrap_or_default(),
        false_alarms: settle(false_alarms, &mut refusals),
        objective,
        channel: settle(channel, &mut refusals),
        runbook: settle(runbook, &mut refusals),
    };
    (fields, refusals)
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
fn name(value: Dynamic) -> Result<String, Refusal> {
    let name = text(value, "name")?;
    if name.len() > NAME_MAX_BYTES || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        let refusal = Refusal::new(format!("`{}` cannot be a rule's name", &name[..name.floor_char_boundary(NAME_MAX_BYTES)]));
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
            if name == "group" {
                return Err(Refusal::new("a watch cannot be named `group`: w.group is the group").hint("give it another name").about("group"));
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
