//! Why an alert fires, as far as its calls can tell: what they have in common, which earlier step of their runs broke, whom it hits, and what it cost.
//!
//! The machine decided from sums; here the calls themselves are looked at, those since it began beside those of the time before. It is read from the
//! index when somebody asks, and decides nothing. Where the index cannot tell which calls are bad (a judge's estimate, a volume, a whole run) there is
//! no answer, rather than a guess. Deliberately absent: the method, which is the crate `cause`.

use crate::runs::step_name;
use cause::{Across, Along, Cell, Period, Step};
use index::{IndexError, Key, Query, Reader, Row, Text, Times, term};
use machine::{Notification, OTHER, incident};
use model::label::LABEL_MAX_BYTES;
use model::plan::{Counts, Plan, SignalRef, Statistic, TICK, Watch};
use model::{Measure, MeasureRef, Signal, Span, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Calls that are looked at of each period; of more, a sample in which runs stay whole. Some 25 MB while it is computed.
const CALLS_MAX: usize = 40_000;
/// The time before that says what is usual: at least an hour, and at most a day.
const BEFORE: std::ops::RangeInclusive<Span> = Span::from_secs(3600)..=Span::from_secs(86_400);
/// Properties whose values may be causes, those that most calls have.
const PROPERTIES_MAX: usize = 16;
/// A property with more values than this share of the calls names single calls, and no cause.
const DISTINCT_SHARE_MAX: f64 = 0.3;
/// Users that are named.
const USERS_MAX: usize = 10;

/// What is said where no cause is.
pub const UNEXPLAINED: &str = "No cause stands out: the bad calls have nothing in common that other calls do not have as well.";
/// The same of a group: its own labels are no cause within it, and may be one beside the calls of others.
const ALIKE: &str = "All of this group is hit alike: within it, the bad calls have nothing in common that the other calls do not have as well.";

/// Texts of calls whose values may be causes.
const DIMENSIONS: [Text; 9] =
    [Text::Provider, Text::Model, Text::ServedProvider, Text::ServedModel, Text::Stage, Text::Service, Text::Prompt, Text::PromptVersion, Text::User];

/// Which calls of the index an alert is about.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    pub environment: String,
    /// Those of its group that its rule sees, good and bad.
    pub calls: String,
    /// Those of them that are bad.
    pub bad: String,
    /// A bad call's own part of that.
    is_bad: String,
    /// They are some of all calls of their environment.
    grouped: bool,
    /// When it began is known to about a tick, so this is one before.
    pub since: Timestamp,
    pub until: Timestamp,
}

/// What its calls tell of an alert. Counts are exact; what `across` and `along` say may be from a sample.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The queries that find its calls, and the bad ones of them.
    pub calls_query: String,
    pub bad_query: String,
    pub since: Timestamp,
    pub until: Timestamp,
    pub calls: u64,
    pub bad: u64,
    /// Runs and users with a bad call; `None` where there are too many to count.
    pub runs: Option<u64>,
    pub users: Option<u64>,
    /// What the bad calls cost.
    pub cost_usd: f64,
    /// The users with the most bad calls, with how many.
    pub top_users: Vec<(String, u64)>,
    /// In words, the most likely cause first; none where the evidence is weak.
    pub lines: Vec<String>,
    /// What is said instead where there are none.
    pub unexplained: Option<&'static str>,
    pub across: Option<Across>,
    pub along: Option<Along>,
}

/// The calls of an alert's group that its rule sees, good and bad, in the language of searches. `None` where that cannot be said: a judge's verdicts or whole
/// runs are watched, or a label was cut or stands for others.
pub fn of_group(told: &Notification, plan: &Plan, watch: &Watch) -> Option<String> {
    let grouping = &plan.groupings[watch.grouping];
    if grouping.counts != Counts::Calls {
        return None;
    }
    let mut terms = vec![in_environment(&told.environment)?];
    for (key, label) in &told.group {
        terms.push(only(&model::Key::parse(key)?, std::slice::from_ref(label))?);
    }
    for (key, labels) in &grouping.filter.0 {
        terms.push(only(key, labels)?);
    }
    for (at, labels) in &watch.only {
        terms.push(only(grouping.keys.get(*at)?, labels)?);
    }
    Some(terms.join(" "))
}

/// The term of calls that have one of these labels.
fn only(key: &model::Key, labels: &[String]) -> Option<String> {
    let key = match key {
        model::Key::Judge => return None,
        model::Key::Property(name) => Key::property(name),
        key => Key::parse(&key.to_string())?,
    };
    let known = |label: &String| label.len() < LABEL_MAX_BYTES && label != OTHER;
    if labels.iter().all(known) { term(&key, labels) } else { None }
}

impl Why {
    /// The cause of the incident that it is part of, where that says more: there, calls of other groups are looked at as well.
    pub fn beyond<'i>(&self, part_of: &'i incident::Seen) -> Option<&'i [String]> {
        let cause = &part_of.findings.as_ref()?.cause;
        (self.lines.is_empty() && !cause.is_empty()).then_some(cause)
    }
}

impl About {
    /// `None` where calls of the index cannot tell: the rule is gone, or what it watches is no property of single calls.
    pub fn of(told: &Notification, plan: &Plan, until: Timestamp) -> Option<Self> {
        let rule = plan.rules.iter().find(|rule| rule.name == told.rule)?;
        let observed = told.foremost()?;
        let watch = rule.watches.iter().find(|watch| watch.name == observed.watch)?;
        let is_bad = match &watch.statistic {
            Statistic::Rate(SignalRef::BuiltIn(signal)) | Statistic::Count(SignalRef::BuiltIn(signal)) => format!("signal:{}", signal.name()),
            Statistic::Rate(SignalRef::User(name, _)) | Statistic::Count(SignalRef::User(name, _)) => format!("signal:{name}"),
            Statistic::Quantile(MeasureRef::BuiltIn(measure), _) => {
                // Of several watches the worst does not say which one's it was.
                let drift = observed.observation.drift.or_else(|| told.drift().filter(|_| told.observed.len() == 1));
                let by_hand = watch.expect.filter(|range| range.low <= 0.0 && range.high.is_finite()).map(|range| range.high);
                beyond_limit(*measure, drift.and_then(|drift| drift.beyond).or(by_hand)?)
            }
            _ => return None,
        };
        let calls = of_group(told, plan, watch)?;
        let (bad, grouped) = (format!("{calls} {is_bad}"), !told.group.is_empty());
        Some(Self { environment: told.environment.clone(), bad, calls, is_bad, grouped, since: told.since() - TICK, until })
    }

    fn times(&self) -> Times {
        Times { from: Some(self.since), until: Some(self.until) }
    }

    /// The time before.
    fn before(&self) -> Times {
        let long = self.until.since(self.since).clamp(*BEFORE.start(), *BEFORE.end());
        Times { from: Some(self.since - long), until: Some(self.since) }
    }
}

fn in_environment(environment: &str) -> Option<String> {
    term(&Key::Text(Text::Environment), &[environment])
}

/// A value above what is usual, in the unit of the measure.
fn beyond_limit(measure: Measure, beyond: f64) -> String {
    let whole = beyond.max(0.0).floor();
    match measure {
        Measure::LatencyMs => format!("latency_ms>{whole}"),
        Measure::TtftMs => format!("ttft_ms>{whole}"),
        Measure::InputTokens => format!("input_tokens>{whole}"),
        Measure::OutputTokens => format!("output_tokens>{whole}"),
        Measure::Attempts => format!("attempts>{whole}"),
        Measure::CostUsd => format!("cost_usd>{beyond:.9}"),
    }
}

/// What the calls that `about` is about tell. Some tenths of a second.
///
/// # Errors
/// When a file of the index is damaged or cannot be read.
pub fn why(reader: &Reader, about: &About) -> Result<Why, IndexError> {
    let read = |text: &str| Query::parse(text, about.until).unwrap_or_default();
    let (calls, bad) = (read(&about.calls), read(&about.bad));
    let sums = |query: &Query, by: Text| match reader.sums(query, about.times(), &[Key::Text(by)], USERS_MAX + 1) {
        Ok(sums) => Ok(sums),
        Err(index::SumsError::Index(error)) => Err(error),
        Err(index::SumsError::Key(_) | index::SumsError::Keys(_)) => unreachable!("one text is a key"),
    };
    let all = sums(&calls, Text::Environment)?;
    let hit = sums(&bad, Text::User)?;
    let mut top_users: Vec<(String, u64)> = hit.groups.iter().map(|sum| (sum.labels[0].clone(), sum.totals.calls)).collect();
    top_users.retain(|(user, _)| !user.is_empty());
    top_users.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    top_users.truncate(USERS_MAX);
    // Whole runs, so that other steps of them can be looked at; the alert's own calls are among them.
    let whole = read(&in_environment(&about.environment).unwrap_or_default());
    let is_bad = read(&about.is_bad);
    let periods = [(Period::Now, about.times()), (Period::Reference, about.before())];
    let mut samples = Vec::new();
    for (period, times) in periods {
        samples.push((period, reader.sample(&whole, times, CALLS_MAX)?));
    }
    let seen = Seen { calls: &calls, is_bad: &is_bad };
    let across = seen.across(&samples);
    let along = seen.along(&samples, across.as_ref());
    let step = along.as_ref().and_then(|along| along.cause.as_ref()).map(|cause| cause.line());
    let mut lines: Vec<String> = across.as_ref().and_then(|across| across.cause.as_ref()).map(cause::Cause::lines).unwrap_or_default();
    lines.extend(step);
    let alike = about.grouped && across.as_ref().is_some_and(|across| across.silence == Some(cause::Silence::Fleet));
    let unexplained = lines.is_empty().then_some(if alike { ALIKE } else { UNEXPLAINED });
    Ok(Why {
        calls_query: about.calls.clone(),
        bad_query: about.bad.clone(),
        since: about.since,
        until: about.until,
        calls: all.total.calls,
        bad: hit.total.calls,
        runs: hit.runs,
        users: hit.users,
        cost_usd: hit.total.cost_nanos as f64 / 1e9,
        top_users,
        lines,
        unexplained,
        across,
        along,
    })
}

/// Which calls the alert is about, and which of them are bad.
struct Seen<'q> {
    calls: &'q Query,
    is_bad: &'q Query,
}

type Samples = [(Period, index::Sample)];

impl Seen<'_> {
    fn is_bad(&self, row: &Row) -> bool {
        self.is_bad.matches(row)
    }

    /// What bad calls have in common. `None` where there is nothing to compare.
    fn across(&self, samples: &Samples) -> Option<Across> {
        let own = |sample: &index::Sample| sample.rows.iter().filter(|row| self.calls.matches(row)).count();
        if samples.iter().any(|(_, sample)| own(sample) == 0) {
            return None;
        }
        let properties = self.properties(samples);
        let names = DIMENSIONS.iter().map(|text| text.name()).chain(properties.iter().map(String::as_str));
        let mut calls = cause::Calls::new(names).ok()?;
        for (period, sample) in samples {
            for row in sample.rows.iter().filter(|row| self.calls.matches(row)) {
                let labels: Vec<&str> = labels(row, &properties).collect();
                let cell = Cell { weight: sample.weight as f64, ..Cell::call(self.is_bad(row)) };
                calls.add(*period, &labels, cell).ok()?;
            }
        }
        Some(cause::across(&calls))
    }

    /// Names of the properties that may be causes.
    fn properties(&self, samples: &Samples) -> Vec<String> {
        let mut values: BTreeMap<&str, (u64, BTreeSet<&str>)> = BTreeMap::new();
        for row in samples.iter().flat_map(|(_, sample)| &sample.rows).filter(|row| self.calls.matches(row)) {
            for (name, value) in row.properties() {
                let (calls, seen) = values.entry(name).or_default();
                *calls += 1;
                seen.insert(value);
            }
        }
        // What takes the name of a text is that text's business.
        values.retain(|name, (calls, seen)| {
            seen.len() > 1 && (seen.len() as f64) < DISTINCT_SHARE_MAX * *calls as f64 && matches!(Key::parse(name), Some(Key::Property(_)))
        });
        let mut names: Vec<(u64, &str)> = values.into_iter().map(|(name, (calls, _))| (calls, name)).collect();
        names.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        names.into_iter().take(PROPERTIES_MAX).map(|(_, name)| name.to_owned()).collect()
    }

    /// Which earlier step of the affected runs broke. `None` where calls are in no runs.
    fn along(&self, samples: &Samples, across: Option<&Across>) -> Option<Along> {
        let mut runs = cause::Runs::new();
        let common: &[cause::Label] = across.and_then(|across| across.cause.as_ref()).map_or(&[], |cause| &cause.labels);
        let mut any = false;
        for (period, sample) in samples {
            let mut of_run: HashMap<&str, Vec<&Row>> = HashMap::new();
            for row in sample.rows.iter().filter(|row| !row.text(Text::EventId).is_empty()) {
                of_run.entry(row.text(Text::EventId)).or_default().push(row);
            }
            let mut ordered: Vec<(&str, Vec<&Row>)> = of_run.into_iter().filter(|(_, rows)| rows.len() > 1).collect();
            ordered.sort_by_key(|(event_id, _)| *event_id);
            for (_, mut rows) in ordered {
                rows.sort_by_key(|row| (row.time, row.sequence));
                let mut own = rows.iter().enumerate().filter(|(_, row)| self.calls.matches(row)).map(|(at, row)| (at, self.is_bad(row)));
                let first = own.clone().next();
                // The alert's own step is the bad one, else the first.
                let Some((alerted, affected)) = own.find(|(_, bad)| *bad).or(first) else { continue };
                let shares = !common.is_empty() && common.iter().all(|label| value(rows[alerted], &label.dimension) == label.value);
                let bad: Vec<Vec<&str>> = rows.iter().map(|row| wrong(row)).collect();
                let by: Vec<String> = rows.iter().map(|row| by(row)).collect();
                let step = |at: usize| Step { name: step_name(rows[at]), by: &by[at], bad: &bad[at] };
                let steps: Vec<Step<'_>> = (0..rows.len()).map(step).collect();
                let run = cause::Run { affected, weight: sample.weight as f64, stratum: u8::from(shares), steps: &steps, alerted };
                runs.add(*period, &run).ok()?;
                any = true;
            }
        }
        any.then(|| cause::along(&runs, across))
    }
}

fn labels<'r>(row: &'r Row, properties: &'r [String]) -> impl Iterator<Item = &'r str> {
    DIMENSIONS.iter().map(|text| row.text(*text)).chain(properties.iter().map(|name| row.property(name).unwrap_or("")))
}

fn value<'r>(row: &'r Row, dimension: &str) -> &'r str {
    DIMENSIONS.iter().find(|text| text.name() == dimension).map_or_else(|| row.property(dimension).unwrap_or(""), |text| row.text(*text))
}

fn by(row: &Row) -> String {
    [row.text(Text::ServedProvider), row.text(Text::ServedModel)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// How a step was bad. What was made good on the way is no cause of what came after.
fn wrong(row: &Row) -> Vec<&str> {
    let made_good = [Signal::Retry, Signal::FencedJson];
    row.signals().filter(|name| Signal::parse(name).is_none_or(|signal| !made_good.contains(&signal))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::FalseAlarms;
    use model::plan::{Range, Rule, RuleSpec, WatchSpec, Windows};
    use serde_json::json;

    /// An alert of one watch, out of its range since before its condition held; when it has ended, only its worst still says so.
    fn told(ended: bool, beyond: Option<f64>) -> Notification {
        let drift = json!({ "since": "2026-11-22T11:30:50Z", "since_between": ["2026-11-22T11:30:50Z", "2026-11-22T11:30:50Z"], "size": 0.1, "usual": 0.003,
            "beyond": beyond, "calls": 500, "holds": 50, "log_evidence": 14.1, "log_needed": 11.4 });
        let seen = |drift: serde_json::Value| {
            json!({ "value": 0.1, "holds": 50, "calls": 500, "low": 0.06, "high": 0.12, "expected": null, "learning": false,
            "drifted": if drift.is_null() { json!(null) } else { json!("up") }, "drift": drift, "top": [] })
        };
        let now = if ended { seen(json!(null)) } else { seen(drift.clone()) };
        let body = json!({ "id": "1", "reason": if ended { "resolved" } else { "fired" }, "at": "2026-11-22T12:00:00Z", "alert_id": "1", "rule": "watched",
            "severity": "warning", "environment": "production", "group": [["stage", "extraction"]], "summary": "",
            "observed": [{ "watch": "value", "what": "", "unit": "share", "window": "5m", "of_what": "calls", "observation": now }],
            "began": "2026-11-22T11:32:50Z", "fired": "2026-11-22T11:32:50Z", "worst": seen(drift), "examples": [], "labels": [], "actions": [],
            "owner": null, "hit": [], "channel": null, "runbook": null });
        serde_json::from_value(body).expect("it is a notification")
    }

    fn about(told: &Notification, statistic: Statistic, expect: Option<Range>) -> Option<About> {
        let rule = Rule { group_by: vec![model::Key::Stage], ..Rule::new("watched") };
        let watches = vec![WatchSpec { expect, ..WatchSpec::new("value", statistic, Span::from_secs(300)) }];
        let spec = RuleSpec { rule, watches, applies: Default::default(), script: None };
        About::of(told, &Plan::new(Windows::default(), FalseAlarms::default(), vec![spec]), told.at)
    }

    #[test]
    fn what_has_ended_is_looked_at_from_where_it_began_and_beyond_what_was_usual_like_what_fires() {
        let rate = || Statistic::Rate(SignalRef::BuiltIn(Signal::Error));
        let slow = || Statistic::Quantile(MeasureRef::BuiltIn(Measure::LatencyMs), 0.95);
        for (statistic, beyond, bad) in [(rate(), None, "signal:error"), (slow(), Some(4000.5), "latency_ms>4000")] {
            let [firing, over] = [false, true].map(|ended| about(&told(ended, beyond), statistic.clone(), None).expect("single calls tell"));
            assert_eq!((firing.since.to_string(), firing.bad.as_str()), ("2026-11-22T11:30:40Z".to_owned(), over.bad.as_str()));
            assert_eq!((over.since, over.is_bad.as_str()), (firing.since, bad));
        }
        let by_hand = Some(Range { low: 0.0, high: 3000.0 });
        let over = about(&told(true, None), slow(), by_hand).expect("its range says which calls are too slow");
        assert_eq!(over.is_bad, "latency_ms>3000");
        assert_eq!(about(&told(true, None), slow(), None), None, "nobody knows what too slow is");
        let mut two = told(true, Some(4000.5));
        two.observed.push(two.observed[0].clone());
        assert_eq!(about(&two, slow(), None), None, "whose worst it was is not known");
    }

    #[test]
    fn a_label_that_was_cut_or_stands_for_others_leads_nowhere() {
        let stage = model::Key::Stage;
        let only = |key: &model::Key, labels: &[&str]| only(key, &labels.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(only(&stage, &["a", "b c"]).as_deref(), Some("stage:a|\"b c\""));
        assert_eq!(only(&stage, &[""]).as_deref(), Some("-has:stage"));
        assert_eq!(only(&stage, &[OTHER]), None);
        assert_eq!(only(&stage, &["a", &"x".repeat(LABEL_MAX_BYTES)]), None);
        assert_eq!(only(&model::Key::Judge, &["tone"]), None);
        assert_eq!(
            only(&model::Key::Property("latency".into()), &["low"]).as_deref(),
            Some("properties.latency:low"),
            "a property that is named like a key"
        );
        for name in model::Key::known().filter(|name| *name != "judge") {
            let key = model::Key::parse(name).expect("a known key");
            assert_eq!(only(&key, &["1"]), Some(format!("{name}:1")), "the index knows every key of rules under the same name");
        }
    }
}
