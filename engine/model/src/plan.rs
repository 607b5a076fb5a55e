//! The watch plan: what is counted, by which keys, and which rules decide over it.
//!
//! It is the union of all rules' watches and of what is always kept: every built-in signal and measure by environment × stage × provider ×
//! model, from which any subset of these keys comes by merging. A rule that needs no more than that costs nothing per call.
//! Deliberately absent: scripts. A plan knows only that a script exists, by its slot.

use crate::call::CallLog;
use crate::false_alarms::FalseAlarms;
use crate::label::Key;
use crate::measure::{Measure, MeasureRef};
use crate::run::RunSignal;
use crate::show::Unit;
use crate::signal::Signal;
use crate::time::Span;
use crate::verdict::{Judge, VerdictSignal};
use crate::window::Direction;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    /// In the order of their names.
    pub judges: Vec<Judge>,
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
    pub counts: Counts,
    pub signals: Vec<SignalRef>,
    pub measures: Vec<MeasureRef>,
}

/// What a grouping counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counts {
    Calls,
    /// Of judges; a fingerprint of those whose they are.
    Verdicts(u64),
    /// Whole runs, when they close.
    Runs,
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
    /// Of verdicts, with its name as written, which may name a judge.
    Verdict(VerdictSignal, String),
    Run(RunSignal),
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
    /// How often its `check` looks; a multiple of [`TICK`].
    pub every: Span,
    /// A firing alert is told again so often; `None`: once.
    pub repeat: Option<Span>,
    /// Rules of whose alerts this one's are a consequence: while one of them fires for the same labels, none of this rule begins to.
    pub inhibit_by: Vec<String>,
    /// What a person may do about it.
    pub actions: Vec<Action>,
    /// Its own budget; `None`: it shares the installation's.
    pub false_alarms: Option<FalseAlarms>,
    /// Who looks after it.
    pub owner: Option<String>,
    pub channel: Option<String>,
    pub runbook: Option<String>,
    /// The leading comment of the rule file.
    pub summary: String,
}

impl Rule {
    /// A warning over all calls of every environment, whose text is its name: it fires by its ranges, at once, ends at once, stays as it is without
    /// data, and shares the installation's budget. It watches nothing yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            fingerprint: fingerprint(&[name]),
            severity: Severity::Warning,
            group_by: Vec::new(),
            environments: Vec::new(),
            watches: Vec::new(),
            decides: Decides::Drift,
            hold: Span::ZERO,
            keep_firing: Span::ZERO,
            no_data: NoData::Keep,
            every: TICK,
            repeat: None,
            inhibit_by: Vec::new(),
            actions: Vec::new(),
            false_alarms: None,
            owner: None,
            channel: None,
            runbook: None,
            summary: String::new(),
        }
    }

    /// Whether it never tells that a watch of it has left its range in this direction. What its own `check` makes of that is not known.
    pub fn ignores(&self, watch: &Watch, direction: Direction) -> bool {
        self.decides == Decides::Drift && !watch.hurts(direction)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

/// Something a person may do about an alert: a message to somebody's system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenAction", into = "WrittenAction")]
pub struct Action {
    pub label: String,
    pub target: Target,
    /// JSON.
    pub payload: String,
    /// What is asked before it is done.
    pub confirm: Option<String>,
}

/// Where the message of an action goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A NATS subject without wildcards.
    Subject(String),
    /// The name of a webhook of the configuration.
    Webhook(String),
}

impl Target {
    /// What was done to it, for people.
    pub fn done(&self) -> String {
        match self {
            Self::Subject(subject) => format!("published to {subject}"),
            Self::Webhook(name) => format!("called the webhook {name}"),
        }
    }
}

/// What is to be done to it: `publish to gateway.control`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(f, "publish to {subject}"),
            Self::Webhook(name) => write!(f, "call the webhook {name}"),
        }
    }
}

/// An action as alerts and rules write it: its target is the one of two keys that is there.
#[derive(Serialize, Deserialize)]
struct WrittenAction {
    label: String,
    publish: Option<String>,
    webhook: Option<String>,
    payload: String,
    confirm: Option<String>,
}

impl From<Action> for WrittenAction {
    fn from(Action { label, target, payload, confirm }: Action) -> Self {
        let (publish, webhook) = match target {
            Target::Subject(subject) => (Some(subject), None),
            Target::Webhook(name) => (None, Some(name)),
        };
        Self { label, publish, webhook, payload, confirm }
    }
}

impl TryFrom<WrittenAction> for Action {
    type Error = &'static str;

    fn try_from(WrittenAction { label, publish, webhook, payload, confirm }: WrittenAction) -> Result<Self, Self::Error> {
        let target = match (publish, webhook) {
            (Some(subject), None) => Target::Subject(subject),
            (None, Some(name)) => Target::Webhook(name),
            _ => return Err("an action has one of `publish` and `webhook`"),
        };
        Ok(Self { label, target, payload, confirm })
    }
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
    /// It ends so long before now.
    pub offset: Span,
    /// It is part of another watch of its rule, and is seen through that alone.
    pub part: bool,
    pub expect: Option<Range>,
    /// Fewer calls than this in the window say nothing.
    pub at_least: u64,
    /// The same watch a window earlier, and a day earlier: positions among the rule's watches.
    pub previous: Option<usize>,
    pub yesterday: Option<usize>,
    /// Index into [`Plan::groupings`].
    pub grouping: usize,
    /// For each key of the rule's `group_by`, its position in the grouping's keys.
    pub projection: Vec<usize>,
    /// Of a statistic over the labels of a key: that key's position in the grouping's keys.
    pub each: Option<usize>,
    /// What is left to filter when reading: position in the grouping's keys, and the values let through.
    pub only: Vec<(usize, Vec<String>)>,
}

impl Watch {
    /// How far back it reaches.
    pub fn reach(&self) -> Span {
        Span::from_millis(self.window.millis() + self.offset.millis())
    }

    /// A ranking without a range decides nothing: it says of what the other watches find who or what it mostly is.
    pub fn tells_only(&self) -> bool {
        self.expect.is_none() && matches!(self.statistic, Statistic::Top(..))
    }

    /// Whether people are told when it leaves its range in this direction. Fewer failures and faster answers are no alert.
    pub fn hurts(&self, direction: Direction) -> bool {
        direction == Direction::Up || self.expect.is_some() || self.statistic == Statistic::Volume
    }

    /// What is measured, as a text: where it differs, what was learned before says nothing about it. Its window, name and limits do not count.
    pub fn ruler(&self, plan: &Plan, rule: &Rule) -> String {
        let keys = rule.group_by.iter().map(Key::to_string).collect::<Vec<_>>().join(",");
        let grouping = &plan.groupings[self.grouping];
        let only = self.only.iter().map(|(at, values)| format!("{}={}", grouping.keys[*at], values.join("|"))).collect::<Vec<_>>().join(" ");
        let script = grouping.script.map_or(String::new(), |script| format!("{:016x}", script.fingerprint));
        let verdicts = if let Counts::Verdicts(judges) = grouping.counts { format!("{judges:016x}") } else { String::new() };
        format!("{:?}|{:?}|{keys}|{only}|{}|{script}|{verdicts}", self.statistic, self.expect, grouping.filter)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Statistic {
    Rate(SignalRef),
    /// Calls that show the signal.
    Count(SignalRef),
    Quantile(MeasureRef, f64),
    Mean(MeasureRef),
    Sum(MeasureRef),
    /// Calls in the window.
    Volume,
    /// The value of one watch of the rule by that of another: their positions, and what it is in words.
    Ratio {
        above: usize,
        below: usize,
        what: String,
    },
    /// How many labels a key has.
    Distinct(Key),
    /// The `n` labels of a key with the largest sum of a measure, or the most calls; its value is the largest.
    Top(Key, Option<MeasureRef>, usize),
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
    pub offset: Span,
    pub part: bool,
    pub expect: Option<Range>,
    pub at_least: u64,
    pub previous: Option<usize>,
    pub yesterday: Option<usize>,
    pub only: Filter,
}

impl WatchSpec {
    /// A watch of all calls, without a range of its own.
    pub fn new(name: impl Into<String>, statistic: Statistic, window: Span) -> Self {
        Self {
            name: name.into(),
            statistic,
            window,
            offset: Span::ZERO,
            part: false,
            expect: None,
            at_least: 1,
            previous: None,
            yesterday: None,
            only: Filter::default(),
        }
    }
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
        Self { windows, false_alarms, groupings, rules, judges: Vec::new() }
    }

    /// The same, with judges that see a sample of the calls.
    pub fn judged_by(mut self, mut judges: Vec<Judge>) -> Self {
        judges.sort_by(|a, b| a.name.cmp(&b.name));
        for grouping in self.groupings.iter_mut().filter(|grouping| matches!(grouping.counts, Counts::Verdicts(_))) {
            let theirs = judges.iter().filter(|judge| grouping.filter.lets_judge_through(&judge.name));
            let theirs: Vec<_> = theirs.map(|judge| format!("{}={:016x}", judge.name, judge.fingerprint)).collect();
            grouping.counts = Counts::Verdicts(fingerprint(&theirs.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        self.judges = judges;
        self
    }

    /// The judges that rules name, each once, in order.
    pub fn judges_named(&self) -> BTreeSet<&str> {
        self.rules.iter().flat_map(|rule| &rule.watches).filter_map(|watch| watch.statistic.judge()).collect()
    }

    /// The keys of runs' labels, by which they are grouped or filtered, in order; `None`: no rule watches runs, and none are put together.
    pub fn run_keys(&self) -> Option<Vec<Key>> {
        let of_runs = || self.groupings.iter().filter(|grouping| grouping.counts == Counts::Runs);
        let keys = of_runs().flat_map(|grouping| grouping.keys.iter().chain(grouping.filter.0.iter().map(|(key, _)| key)));
        of_runs().next().map(|_| keys.cloned().collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// The script slot of a rule: that of its `check`, or of what looks at calls.
    pub fn slot_of(&self, rule: &Rule) -> Option<usize> {
        let seen = || rule.watches.iter().find_map(|watch| self.groupings[watch.grouping].script.map(|script| script.slot));
        match rule.decides {
            Decides::Check(slot) => Some(slot),
            Decides::Drift | Decides::Burn(_) => seen(),
        }
    }

    /// Of a grouping made for watches over the labels of a key: that key's position.
    pub fn each(&self, grouping: usize) -> Option<usize> {
        if grouping == 0 {
            return None;
        }
        self.rules.iter().flat_map(|rule| &rule.watches).filter(|watch| watch.grouping == grouping).find_map(|watch| watch.each)
    }

    /// Whether a grouping is there for rankings of violations alone: calls that violate nothing are in none of them.
    pub fn ranks_violations(&self, grouping: usize) -> bool {
        let ranks = |rule: &Rule, watch: &Watch| {
            matches!(watch.statistic, Statistic::Top(Key::Violation, ..) | Statistic::Distinct(Key::Violation))
                && !rule.group_by.contains(&Key::Violation)
        };
        let watching = |rule: &&Rule| rule.watches.iter().any(|watch| watch.grouping == grouping);
        let all = |rule: &Rule| rule.watches.iter().filter(|watch| watch.grouping == grouping).all(|watch| ranks(rule, watch));
        grouping > 0 && self.rules.iter().any(|rule| watching(&rule)) && self.rules.iter().filter(watching).all(all)
    }

    /// How far back the watches reach, and at least a minute.
    pub fn reach(&self) -> Span {
        self.reach_where(|_| true)
    }

    /// How far back the watches on one grouping reach, and at least a minute.
    pub fn reach_of(&self, grouping: usize) -> Span {
        self.reach_where(|watch| watch.grouping == grouping)
    }

    fn reach_where(&self, wanted: impl Fn(&Watch) -> bool) -> Span {
        let watches = self.rules.iter().flat_map(|rule| &rule.watches).filter(|watch| watch.statistic.counts() && wanted(watch));
        watches.map(Watch::reach).max().unwrap_or(Span::ZERO).max(Span::from_secs(60))
    }
}

fn place(groupings: &mut Vec<Grouping>, group_by: &[Key], script: Option<Script>, filter: Filter, watch: WatchSpec) -> Watch {
    let mut keys = group_by.to_vec();
    let each = watch.statistic.over().cloned();
    keys.extend(each.iter().filter(|key| !group_by.contains(key)).cloned());
    let (signal, measure) = (watch.statistic.signal().cloned(), watch.statistic.measure().cloned());
    let own = matches!(signal, Some(SignalRef::User(..))) || matches!(measure, Some(MeasureRef::User(_)));
    let base = &groupings[0];
    let known = |key: &Key| base.keys.contains(key);
    let counts = if watch.statistic.of_verdicts() {
        Counts::Verdicts(0)
    } else if watch.statistic.of_runs() {
        Counts::Runs
    } else {
        Counts::Calls
    };
    // What is known when a verdict comes or a run closes are the labels that its calls had; no script sees it.
    let script = script.filter(|_| counts == Counts::Calls);
    let in_base = !own && script.is_none() && counts == Counts::Calls && keys.iter().all(known) && filter.0.iter().all(|(key, _)| known(key));
    let index = if in_base || !watch.statistic.counts() {
        0
    } else {
        let found = groupings.iter().skip(1).position(|g| g.keys == keys && g.filter == filter && g.script == script && g.counts == counts);
        found.map_or_else(
            || {
                let (keys, filter) = (keys.clone(), filter.clone());
                groupings.push(Grouping { keys, filter, script, counts, signals: Vec::new(), measures: Vec::new() });
                groupings.len() - 1
            },
            |at| at + 1,
        )
    };
    let grouping = &mut groupings[index];
    grouping.signals.extend(signal.filter(|signal| !grouping.signals.contains(signal)));
    grouping.measures.extend(measure.filter(|measure| !grouping.measures.contains(measure)));
    let position = |key: &Key| grouping.keys.iter().position(|k| k == key);
    Watch {
        name: watch.name,
        projection: group_by.iter().filter_map(position).collect(),
        each: each.and_then(|key| position(&key)),
        only: if in_base { filter.0.iter().filter_map(|(key, values)| Some((position(key)?, values.clone()))).collect() } else { Vec::new() },
        statistic: watch.statistic,
        window: watch.window,
        offset: watch.offset,
        part: watch.part,
        expect: watch.expect,
        at_least: watch.at_least,
        previous: watch.previous,
        yesterday: watch.yesterday,
        grouping: index,
    }
}

impl Grouping {
    /// What is always kept.
    pub fn base() -> Self {
        Self {
            keys: vec![Key::Stage, Key::Provider, Key::Model],
            filter: Filter::default(),
            script: None,
            counts: Counts::Calls,
            signals: Signal::ALL.into_iter().map(SignalRef::BuiltIn).collect(),
            measures: Measure::ALL.map(MeasureRef::from).to_vec(),
        }
    }

    /// The same text for the same content, whatever else the plan holds: slices on disk are found by it.
    pub fn identity(&self) -> String {
        let keys = self.keys.iter().map(Key::to_string).collect::<Vec<_>>().join(",");
        let signals = self.signals.iter().map(SignalRef::name).collect::<Vec<_>>().join(",");
        let measure = |measure: &MeasureRef| match measure {
            MeasureRef::BuiltIn(_) | MeasureRef::Verdict(..) | MeasureRef::Run(_) => measure.name().to_owned(),
            // Steps of another size do not add up.
            MeasureRef::User(own) => format!("{}/{}", own.name, own.step),
        };
        let measures = self.measures.iter().map(measure).collect::<Vec<_>>().join(",");
        let script = self.script.map_or(String::new(), |script| format!("{:016x}", script.fingerprint));
        let counts = match self.counts {
            Counts::Calls => String::new(),
            Counts::Verdicts(judges) => format!("|{judges:016x}"),
            Counts::Runs => "|runs".to_owned(),
        };
        format!("{keys}|{}|{script}|{signals}|{measures}{counts}", self.filter)
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
            Self::User(name, _) | Self::Verdict(_, name) => name,
            Self::Run(signal) => signal.name(),
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

    /// Whether it lets through the verdict of a judge on `call`.
    pub fn lets_verdict_through(&self, call: &CallLog<'_>, judge: &str) -> bool {
        self.lets_judge_through(judge)
            && self.0.iter().all(|(key, values)| *key == Key::Judge || values.iter().any(|value| *value == key.label(call)))
    }

    /// Whether it lets through verdicts of a judge on some call.
    pub fn lets_judge_through(&self, judge: &str) -> bool {
        self.0.iter().filter(|(key, _)| *key == Key::Judge).all(|(_, values)| values.iter().any(|value| value == judge))
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
    /// Whether verdicts are counted for it, and not calls.
    pub fn of_verdicts(&self) -> bool {
        matches!(self.signal(), Some(SignalRef::Verdict(..))) || matches!(self.measure(), Some(MeasureRef::Verdict(..)))
    }

    /// Whether whole runs are counted for it, and not calls.
    pub fn of_runs(&self) -> bool {
        matches!(self.signal(), Some(SignalRef::Run(_))) || matches!(self.measure(), Some(MeasureRef::Run(_)))
    }

    /// The key over whose labels it is taken.
    pub fn over(&self) -> Option<&Key> {
        if let Self::Distinct(key) | Self::Top(key, ..) = self { Some(key) } else { None }
    }

    /// Of verdicts, the judge whose they are; `None`: those of all.
    pub fn judge(&self) -> Option<&str> {
        let name = match (self.signal(), self.measure()) {
            (Some(SignalRef::Verdict(_, name)), _) | (_, Some(MeasureRef::Verdict(_, name))) => name,
            _ => return None,
        };
        name.split_once(':').map(|(_, judge)| judge)
    }

    /// Whether its rate is an estimate for all calls, from those that were judged.
    pub fn estimates(&self) -> bool {
        matches!(self, Self::Rate(SignalRef::Verdict(VerdictSignal::Failed, _)))
    }

    /// Whether calls are counted for it; a ratio is made of other watches.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Ratio { .. })
    }

    /// The signal that is counted.
    pub fn signal(&self) -> Option<&SignalRef> {
        match self {
            Self::Rate(signal) | Self::Count(signal) => Some(signal),
            _ => None,
        }
    }

    /// The measure that is summed.
    pub fn measure(&self) -> Option<&MeasureRef> {
        match self {
            Self::Quantile(measure, _) | Self::Mean(measure) | Self::Sum(measure) | Self::Top(_, Some(measure), _) => Some(measure),
            _ => None,
        }
    }

    /// Of what the value is taken, for people.
    pub fn of_what(&self) -> &str {
        match self {
            Self::Rate(SignalRef::BuiltIn(signal)) => signal.of_what(),
            Self::Rate(SignalRef::Verdict(signal, _)) => signal.of_what(),
            _ if self.of_runs() => "runs",
            _ => "calls",
        }
    }

    /// In what its value is counted.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Rate(_) => Unit::Share,
            Self::Quantile(measure, _) | Self::Mean(measure) | Self::Sum(measure) | Self::Top(_, Some(measure), _) => measure.unit(),
            Self::Count(_) | Self::Volume | Self::Ratio { .. } | Self::Distinct(_) | Self::Top(_, None, _) => Unit::default(),
        }
    }

    /// For people: `fallback rate`, `p95 of latency_ms`, `sum of cost_usd`, `top user_id by cost_usd`, `calls`.
    pub fn describe(&self) -> String {
        match self {
            Self::Rate(signal) => format!("{} rate", signal.name()),
            Self::Count(signal) => format!("{} count", signal.name()),
            Self::Quantile(measure, q) => format!("p{} of {}", (q * 1000.0).round() / 10.0, measure.name()),
            Self::Mean(measure) => format!("mean of {}", measure.name()),
            Self::Sum(measure) => format!("sum of {}", measure.name()),
            Self::Volume => "calls".to_owned(),
            Self::Ratio { what, .. } => what.clone(),
            Self::Distinct(key) => format!("distinct {key}"),
            Self::Top(key, measure, _) => format!("top {key} by {}", measure.as_ref().map_or("calls", MeasureRef::name)),
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
        let rule = Rule { group_by: group_by.to_vec(), ..Rule::new("r") };
        let watch = WatchSpec { only, ..WatchSpec::new("w", statistic, Span::from_secs(300)) };
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
    fn a_grouping_ranks_violations_when_nothing_else_is_watched_by_it() {
        let top = || Statistic::Top(Key::Violation, None, 3);
        let ranks = |specs: Vec<RuleSpec>| Plan::new(Windows::default(), FalseAlarms::default(), specs).ranks_violations(1);
        let by = |keys: &[Key], statistic| spec(keys, Filter::default(), None, statistic);
        assert!(ranks(vec![by(&[Key::Stage], top()), by(&[Key::Stage], Statistic::Distinct(Key::Violation))]));
        assert!(!ranks(vec![by(&[Key::Stage], top()), by(&[Key::Stage, Key::Violation], Statistic::Volume)]));
        assert!(!ranks(vec![by(&[Key::Stage, Key::Violation], top())]));
        assert!(!ranks(vec![by(&[], Statistic::Top(Key::User, None, 3))]));
    }

    #[test]
    fn runs_have_groupings_of_their_own_and_the_labels_that_these_need() {
        let latency = || Statistic::Quantile(MeasureRef::Run(crate::run::RunMeasure::LatencyMs), 0.95);
        let by_tenant = Filter(vec![(Key::Property("tenant".into()), vec!["acme".into()])]);
        let script = Some(Script { slot: 0, fingerprint: 7 });
        let failed = spec(&[Key::User], Filter::default(), script, Statistic::Rate(SignalRef::Run(RunSignal::Error)));
        let plan = Plan::new(
            Windows::default(),
            FalseAlarms::default(),
            vec![spec(&[], by_tenant, None, latency()), failed, spec(&[Key::User], Filter::default(), None, latency())],
        );
        assert_eq!(plan.run_keys(), Some(vec![Key::User, Key::Property("tenant".into())]));
        let identities: Vec<_> = plan.groupings.iter().skip(1).map(Grouping::identity).collect();
        assert_eq!(identities, ["|tenant=acme|||run_latency_ms|runs", "user_id|||run_error|run_latency_ms|runs"], "no script sees a run");
        assert_eq!(latency().of_what(), "runs");
        assert_eq!(Plan::new(Windows::default(), FalseAlarms::default(), Vec::new()).run_keys(), None);
    }

    #[test]
    fn other_keys_filters_and_scripts_add_one_and_share_it() {
        let user = || spec(&[Key::User], Filter::default(), None, Statistic::Mean(Measure::CostUsd.into()));
        let script = Some(Script { slot: 0, fingerprint: 7 });
        let own = spec(&[Key::Stage], Filter::default(), script, Statistic::Rate(SignalRef::User("no_facts".into(), 0)));
        let plan = Plan::new(Windows::default(), FalseAlarms::default(), vec![user(), user(), own]);
        assert_eq!(plan.groupings.len(), 3);
        assert_eq!(plan.groupings[1].measures, [Measure::CostUsd.into()]);
        assert_eq!(plan.groupings[2].identity(), "stage||0000000000000007|no_facts|");
    }
}
