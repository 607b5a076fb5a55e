//! The watch plan: what is counted, by which keys, and which rules decide over it.
//!
//! It is the union of all rules' watches and of what is always kept: every built-in signal and measure by environment × stage × provider ×
//! model, from which any subset of these keys comes by merging. A rule that needs no more than that costs nothing per call.
//! Deliberately absent: scripts. A plan knows only that a script exists, by its slot.

use crate::call::CallLog;
use crate::false_alarms::FalseAlarms;
use crate::label::Key;
use crate::measure::Measure;
use crate::signal::Signal;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The detection tick: rules decide once every ten seconds of event time.
pub const TICK: Span = Span::from_secs(10);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub windows: Windows,
    /// For everything that drifts and has no budget of its own.
    pub false_alarms: FalseAlarms,
    /// The first is [`Grouping::base`].
    pub groupings: Vec<Grouping>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Divides [`TICK`].
    pub slice: Span,
    /// How long after its end a slice still takes calls; a multiple of `slice`.
    pub lateness: Span,
    /// Series (signal or measure × group) kept per environment; calls of further groups are counted under `(other)`.
    pub series_max: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self { slice: Span::from_secs(5), lateness: Span::from_secs(30), series_max: 20_000 }
    }
}

/// A set of series that share keys and a filter. `environment` is the first key of all and is not listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grouping {
    pub keys: Vec<Key>,
    pub filter: Filter,
    /// The script whose `applies` and `signals` decide, with the fingerprint of its text: another text is another grouping.
    pub script: Option<Script>,
    pub signals: Vec<SignalRef>,
    pub measures: Vec<Measure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    pub slot: usize,
    pub fingerprint: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalRef {
    BuiltIn(Signal),
    /// A signal of the user's own: its name, and its position among those of the grouping's script.
    User(String, u8),
}

/// Equality filters: every key has one of its values. Empty lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter(pub Vec<(Key, Vec<String>)>);

/// One rule, as far as the machine decides over it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    /// Of the rule's text: alerts of another text are other alerts.
    pub fingerprint: u64,
    pub severity: Severity,
    /// Without `environment`, which is always first.
    pub group_by: Vec<Key>,
    /// Empty: all.
    pub environments: Vec<String>,
    pub watches: Vec<Watch>,
    pub decides: Decides,
    /// How long a condition must hold before the alert fires.
    pub hold: Span,
    /// How long an alert keeps firing after its condition ended.
    pub keep_firing: Span,
    pub no_data: NoData,
    /// Its own budget; `None`: it shares the installation's.
    pub false_alarms: Option<FalseAlarms>,
    pub channel: Option<String>,
    pub runbook: Option<String>,
    /// The leading comment of the rule file.
    pub summary: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

/// A share of good calls to be kept over a period: the rest is a budget that may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Between 0 and 1, such as 0.99.
    pub target: f64,
    pub over: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decides {
    /// The watched statistics leave their expected range.
    Drift,
    /// The only watch, a rate, burns the budget of an objective too fast.
    Burn(Objective),
    /// The rule's own `check`, by script slot.
    Check(usize),
}

/// What a window with too few calls means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoData {
    Ok,
    #[default]
    Keep,
    Alert,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Its name in `check(w)`.
    pub name: String,
    pub statistic: Statistic,
    /// A multiple of [`TICK`].
    pub window: Span,
    pub expect: Option<Range>,
    /// Fewer calls than this in the window say nothing.
    pub at_least: u64,
    /// Index into [`Plan::groupings`].
    pub grouping: usize,
    /// For each key of the rule's `group_by`, its position in the grouping's keys.
    pub projection: Vec<usize>,
    /// What is left to filter when reading: position in the grouping's keys, and the values let through.
    pub only: Vec<(usize, Vec<String>)>,
}

impl Watch {
    /// What is measured, as a text: where it differs, what was learned before says nothing about it. Its window, name and limits do not count.
    pub fn ruler(&self, plan: &Plan, rule: &Rule) -> String {
        let keys = rule.group_by.iter().map(Key::to_string).collect::<Vec<_>>().join(",");
        let grouping = &plan.groupings[self.grouping];
        let only = self.only.iter().map(|(at, values)| format!("{}={}", grouping.keys[*at], values.join("|"))).collect::<Vec<_>>().join(" ");
        let script = grouping.script.map_or(String::new(), |script| format!("{:016x}", script.fingerprint));
        format!("{:?}|{:?}|{keys}|{only}|{}|{script}", self.statistic, self.expect, grouping.filter)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Statistic {
    Rate(SignalRef),
    Quantile(Measure, f64),
    Mean(Measure),
    /// Calls in the window.
    Volume,
}

/// An expected range, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub low: f64,
    pub high: f64,
}

/// A watch as its rule wrote it, before a grouping is found for it.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchSpec {
    pub name: String,
    pub statistic: Statistic,
    pub window: Span,
    pub expect: Option<Range>,
    pub at_least: u64,
    pub only: Filter,
}

/// A rule as written.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// With no watches; they are given beside it.
    pub rule: Rule,
    pub watches: Vec<WatchSpec>,
    pub applies: Filter,
    /// Present when the rule's script must see calls.
    pub script: Option<Script>,
}

impl Plan {
    /// Finds a grouping for every watch; groupings are shared where keys, filter and script agree.
    pub fn new(windows: Windows, false_alarms: FalseAlarms, specs: Vec<RuleSpec>) -> Self {
        let mut groupings = vec![Grouping::base()];
        let rules = specs
            .into_iter()
            .map(|spec| {
                let mut rule = spec.rule;
                rule.watches = spec
                    .watches
                    .into_iter()
                    .map(|watch| {
                        let filter = spec.applies.and(&watch.only);
                        place(&mut groupings, &rule.group_by, spec.script, filter, watch)
                    })
                    .collect();
                rule
            })
            .collect();
        Self { windows, false_alarms, groupings, rules }
    }

    /// The script slot of a rule: that of its `check`, or of what looks at calls.
    pub fn slot_of(&self, rule: &Rule) -> Option<usize> {
        let seen = || rule.watches.iter().find_map(|watch| self.groupings[watch.grouping].script.map(|script| script.slot));
        match rule.decides {
            Decides::Check(slot) => Some(slot),
            Decides::Drift | Decides::Burn(_) => seen(),
        }
    }

    /// The longest window of any watch, and at least a minute.
    pub fn longest_window(&self) -> Span {
        self.rules.iter().flat_map(|rule| &rule.watches).map(|watch| watch.window).max().unwrap_or(Span::ZERO).max(Span::from_secs(60))
    }
}

fn place(groupings: &mut Vec<Grouping>, group_by: &[Key], script: Option<Script>, filter: Filter, watch: WatchSpec) -> Watch {
    let base = &groupings[0];
    let built_in = !matches!(watch.statistic, Statistic::Rate(SignalRef::User(..)));
    let known = |key: &Key| base.keys.contains(key);
    let in_base = built_in && script.is_none() && group_by.iter().all(known) && filter.0.iter().all(|(key, _)| known(key));
    let index = if in_base {
        0
    } else {
        let found = groupings.iter().skip(1).position(|g| g.keys == group_by && g.filter == filter && g.script == script);
        found.map_or_else(
            || {
                groupings.push(Grouping { keys: group_by.to_vec(), filter: filter.clone(), script, signals: Vec::new(), measures: Vec::new() });
                groupings.len() - 1
            },
            |at| at + 1,
        )
    };
    let grouping = &mut groupings[index];
    match &watch.statistic {
        Statistic::Rate(signal) if !grouping.signals.contains(signal) => grouping.signals.push(signal.clone()),
        Statistic::Quantile(measure, _) | Statistic::Mean(measure) if !grouping.measures.contains(measure) => grouping.measures.push(*measure),
        _ => {}
    }
    let position = |key: &Key| grouping.keys.iter().position(|k| k == key).expect("the grouping was chosen or made for these keys");
    Watch {
        name: watch.name,
        statistic: watch.statistic,
        window: watch.window,
        expect: watch.expect,
        at_least: watch.at_least,
        grouping: index,
        projection: group_by.iter().map(position).collect(),
        only: if in_base { filter.0.iter().map(|(key, values)| (position(key), values.clone())).collect() } else { Vec::new() },
    }
}

impl Grouping {
    /// What is always kept.
    pub fn base() -> Self {
        Self {
            keys: vec![Key::Stage, Key::Provider, Key::Model],
            filter: Filter::default(),
            script: None,
            signals: Signal::ALL.into_iter().map(SignalRef::BuiltIn).collect(),
            measures: Measure::ALL.to_vec(),
        }
    }

    /// The same text for the same content, whatever else the plan holds: slices on disk are found by it.
    pub fn identity(&self) -> String {
        let keys = self.keys.iter().map(Key::to_string).collect::<Vec<_>>().join(",");
        let signals = self.signals.iter().map(SignalRef::name).collect::<Vec<_>>().join(",");
        let measures = self.measures.iter().map(|m| m.name()).collect::<Vec<_>>().join(",");
        let script = self.script.map_or(String::new(), |script| format!("{:016x}", script.fingerprint));
        format!("{keys}|{}|{script}|{signals}|{measures}", self.filter)
    }

    /// Series that one group of this grouping stands for.
    pub fn series_per_group(&self) -> u32 {
        (self.signals.len() + self.measures.len()).max(1) as u32
    }
}

impl SignalRef {
    pub fn name(&self) -> &str {
        match self {
            Self::BuiltIn(signal) => signal.name(),
            Self::User(name, _) => name,
        }
    }
}

impl Filter {
    pub fn lets_through(&self, call: &CallLog<'_>) -> bool {
        self.0.iter().all(|(key, values)| {
            let label = key.label(call);
            values.iter().any(|value| *value == label)
        })
    }

    /// Both filters: a key in both keeps the values they share.
    pub fn and(&self, other: &Self) -> Self {
        let mut both = self.0.clone();
        for (key, values) in &other.0 {
            match both.iter_mut().find(|(k, _)| k == key) {
                Some((_, mine)) => mine.retain(|value| values.contains(value)),
                None => both.push((key.clone(), values.clone())),
            }
        }
        both.sort();
        Self(both)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, values)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={}", if i > 0 { " " } else { "" }, values.join("|"))?;
        }
        Ok(())
    }
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Statistic {
    /// Of what the value is taken, for people.
    pub fn of_what(&self) -> &str {
        match self {
            Self::Rate(SignalRef::BuiltIn(signal)) => signal.of_what(),
            _ => "calls",
        }
    }

    /// For people: `fallback rate`, `p95 of latency_ms`, `mean of cost_usd`, `calls`.
    pub fn describe(&self) -> String {
        match self {
            Self::Rate(signal) => format!("{} rate", signal.name()),
            Self::Quantile(measure, q) => format!("p{} of {}", (q * 1000.0).round() / 10.0, measure.name()),
            Self::Mean(measure) => format!("mean of {}", measure.name()),
            Self::Volume => "calls".to_owned(),
        }
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): a fingerprint that is the same on every machine and build. Not for hostile input.
pub fn fingerprint(parts: &[&str]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.bytes().chain([0xff]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(group_by: &[Key], only: Filter, script: Option<Script>, statistic: Statistic) -> RuleSpec {
        let rule = Rule {
            name: "r".into(),
            fingerprint: 1,
            severity: Severity::Warning,
            group_by: group_by.to_vec(),
            environments: vec![],
            watches: vec![],
            decides: Decides::Drift,
            hold: Span::ZERO,
            keep_firing: Span::ZERO,
            no_data: NoData::Keep,
            false_alarms: None,
            channel: None,
            runbook: None,
            summary: String::new(),
        };
        let watch = WatchSpec { name: "w".into(), statistic, window: Span::from_secs(300), expect: None, at_least: 1, only };
        RuleSpec { rule, watches: vec![watch], applies: Filter::default(), script }
    }

    #[test]
    fn a_watch_on_the_base_keys_adds_no_grouping() {
        let only = Filter(vec![(Key::Provider, vec!["openai".into()])]);
        let plan = Plan::new(
            Windows::default(),
            FalseAlarms::default(),
            vec![spec(&[Key::Model, Key::Stage], only, None, Statistic::Rate(SignalRef::BuiltIn(Signal::Error)))],
        );
        assert_eq!(plan.groupings.len(), 1);
        let watch = &plan.rules[0].watches[0];
        assert_eq!((watch.grouping, &watch.projection[..], &watch.only[..]), (0, &[2, 0][..], &[(1, vec!["openai".to_owned()])][..]));
    }

    #[test]
    fn other_keys_filters_and_scripts_add_one_and_share_it() {
        let user = || spec(&[Key::User], Filter::default(), None, Statistic::Mean(Measure::CostUsd));
        let script = Some(Script { slot: 0, fingerprint: 7 });
        let own = spec(&[Key::Stage], Filter::default(), script, Statistic::Rate(SignalRef::User("no_facts".into(), 0)));
        let plan = Plan::new(Windows::default(), FalseAlarms::default(), vec![user(), user(), own]);
        assert_eq!(plan.groupings.len(), 3);
        assert_eq!(plan.groupings[1].measures, [Measure::CostUsd]);
        assert_eq!(plan.groupings[2].identity(), "stage||0000000000000007|no_facts|");
    }
}
