//! Running sums of the watches: one per rule, group and watch, kept by adding what comes and taking away what leaves the window.
//!
//! Everything here is derived from the slices and the plan, so it is rebuilt after a restart rather than written. Sums are integers; what is taken
//! away is exactly what was added. A window of the past (the same watch a day earlier) gets its calls when its end passes them.

use crate::environment::Slice;
use model::fold::{Cell, Ratio, add_opinions};
use model::plan::{Plan, Rule, Statistic, Watch};
use model::verdict::Inclusion;
use model::{Buckets, Labels, Span, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug)]
pub(crate) struct Windows {
    /// By grouping and group number: what a cell of that group adds to.
    targets: Vec<Vec<Vec<Target>>>,
    pub rules: Vec<RuleGroups>,
    /// Distinct windows.
    reaches: Vec<Reach>,
}

/// Where a window lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    span: Span,
    /// It ends so long before now.
    offset: Span,
    /// It holds the slices that start in `low..high`. A window that ends now takes whatever comes.
    low: Timestamp,
    high: Option<Timestamp>,
}

/// The groups of one rule, by their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleGroups {
    slots: BTreeMap<Labels, usize>,
    groups: Vec<Option<RuleGroup>>,
    free: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleGroup {
    labels: Labels,
    /// Watch and group number of everything that adds to it.
    pub members: Vec<(u16, u32)>,
    /// By watch.
    pub sums: Vec<Sum>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sum {
    Ratio(Ratio),
    /// Opinions by the probability with which their calls were chosen.
    Opinions(Vec<(Inclusion, Ratio)>),
    Spread {
        count: u64,
        sum: u128,
        buckets: Buckets,
    },
    Calls(u64),
    /// By label: calls, and the sum of the measure.
    Each(BTreeMap<Box<str>, (u64, u128)>),
    /// A ratio has no sum of its own.
    None,
}

#[derive(Clone, Debug)]
struct Target {
    rule: u16,
    watch: u16,
    slot: usize,
    /// Index into `reaches`.
    window: usize,
    part: Part,
    /// Of a watch over the labels of a key: the label of this group.
    label: Box<str>,
    /// Whether gauges hear of it, too.
    gauged: bool,
}

/// What of a cell is summed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Ratio(usize),
    Opinions,
    Spread(usize),
    Calls,
    /// Calls by label, and the sum of a measure where there is one.
    Each(Option<usize>),
}

impl Sum {
    pub fn empty(watch: &Watch) -> Self {
        match watch.statistic {
            _ if watch.statistic.estimates() => Self::Opinions(Vec::new()),
            Statistic::Rate(_) | Statistic::Count(_) => Self::Ratio(Ratio::default()),
            Statistic::Quantile(..) | Statistic::Mean(_) | Statistic::Sum(_) => Self::Spread { count: 0, sum: 0, buckets: Buckets::default() },
            Statistic::Volume => Self::Calls(0),
            Statistic::Distinct(_) | Statistic::Top(..) => Self::Each(BTreeMap::new()),
            Statistic::Ratio { .. } => Self::None,
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Ratio(ratio) => ratio.applies == 0,
            Self::Opinions(opinions) => opinions.is_empty(),
            Self::Spread { count, .. } => *count == 0,
            Self::Calls(calls) => *calls == 0,
            Self::Each(labels) => labels.is_empty(),
            Self::None => true,
        }
    }

    /// Adds another group's sum of the same watch.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Ratio(mine), Self::Ratio(theirs)) => {
                mine.holds += theirs.holds;
                mine.applies += theirs.applies;
            }
            (Self::Spread { count, sum, buckets }, Self::Spread { count: more, sum: theirs, buckets: others }) => {
                *count += more;
                *sum += theirs;
                buckets.add(others);
            }
            (Self::Opinions(mine), Self::Opinions(theirs)) => add_opinions(mine, theirs),
            (Self::Calls(mine), Self::Calls(theirs)) => *mine += theirs,
            (Self::Each(mine), Self::Each(theirs)) => {
                for (label, (calls, amount)) in theirs {
                    let sum = mine.entry(label.clone()).or_default();
                    *sum = (sum.0 + calls, sum.1 + amount);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, target: &Target, cell: &Cell) {
        match (self, target.part) {
            (Self::Ratio(mine), Part::Ratio(at)) => {
                mine.holds += cell.ratios[at].holds;
                mine.applies += cell.ratios[at].applies;
            }
            (Self::Spread { count, sum, buckets }, Part::Spread(at)) if cell.distributions[at].count > 0 => {
                *count += cell.distributions[at].count;
                *sum += cell.distributions[at].sum;
                buckets.add(&cell.distributions[at].buckets);
            }
            (Self::Opinions(mine), Part::Opinions) => add_opinions(mine, &cell.opinions),
            (Self::Calls(mine), Part::Calls) => *mine += cell.calls,
            // Calls without the key are nobody's.
            (Self::Each(labels), Part::Each(measure)) if !target.label.is_empty() => {
                let sum = labels.entry(target.label.clone()).or_default();
                *sum = (sum.0 + cell.calls, sum.1 + measure.map_or(0, |at| cell.distributions[at].sum));
            }
            _ => {}
        }
    }

    fn subtract(&mut self, target: &Target, cell: &Cell) {
        match (self, target.part) {
            (Self::Ratio(mine), Part::Ratio(at)) => {
                mine.holds -= cell.ratios[at].holds;
                mine.applies -= cell.ratios[at].applies;
            }
            (Self::Spread { count, sum, buckets }, Part::Spread(at)) if cell.distributions[at].count > 0 => {
                *count -= cell.distributions[at].count;
                *sum -= cell.distributions[at].sum;
                buckets.subtract(&cell.distributions[at].buckets);
            }
            (Self::Opinions(mine), Part::Opinions) => {
                for (inclusion, ratio) in &cell.opinions {
                    let at = mine.binary_search_by_key(inclusion, |(known, _)| *known).expect("only what was added is taken away");
                    mine[at].1.holds -= ratio.holds;
                    mine[at].1.applies -= ratio.applies;
                    if mine[at].1.applies == 0 {
                        mine.remove(at);
                    }
                }
            }
            (Self::Calls(mine), Part::Calls) => *mine -= cell.calls,
            (Self::Each(labels), Part::Each(measure)) if !target.label.is_empty() => {
                let sum = labels.get_mut(&target.label).expect("only what was added is taken away");
                *sum = (sum.0 - cell.calls, sum.1 - measure.map_or(0, |at| cell.distributions[at].sum));
                if sum.0 == 0 {
                    labels.remove(&target.label);
                }
            }
            _ => {}
        }
    }
}

impl Reach {
    fn new(watch: &Watch, end: Timestamp, slice: Span) -> Self {
        let mut reach = Self { span: watch.window, offset: watch.offset, low: end, high: (watch.offset > Span::ZERO).then_some(end) };
        reach.move_to(end, slice);
        reach
    }

    fn move_to(&mut self, end: Timestamp, slice: Span) {
        let edge = |age: Span| (end - age).floor(width_at(age, slice));
        self.low = edge(Span::from_millis(self.span.millis() + self.offset.millis()));
        self.high = self.high.map(|_| edge(self.offset));
    }

    fn holds(&self, slice: Timestamp) -> bool {
        slice >= self.low && self.high.is_none_or(|high| slice < high)
    }
}

impl Windows {
    /// Empty sums; `tick` is the start of the open tick.
    pub fn new(plan: &Plan, tick: Timestamp) -> Self {
        let watches = plan.rules.iter().flat_map(|rule| &rule.watches).filter(|watch| watch.statistic.counts());
        let mut reaches: Vec<_> = watches.map(|watch| Reach::new(watch, tick, plan.windows.slice)).collect();
        reaches.sort_unstable();
        reaches.dedup();
        Self { targets: vec![Vec::new(); plan.groupings.len()], rules: vec![RuleGroups::default(); plan.rules.len()], reaches }
    }

    /// A group that will get cells from now on.
    pub fn enroll(&mut self, plan: &Plan, environment: &str, grouping: u16, number: u32, labels: &Labels) {
        let mut targets = Vec::new();
        for (rule_at, rule) in plan.rules.iter().enumerate().filter(|(_, rule)| watches_environment(rule, environment)) {
            let mine = |watch: &Watch| watch.statistic.counts() && watch.grouping == usize::from(grouping);
            for (watch_at, watch) in rule.watches.iter().enumerate().filter(|(_, watch)| mine(watch)) {
                if !watch.only.iter().all(|(at, values)| values.contains(&labels[*at])) {
                    continue;
                }
                let projected: Labels = watch.projection.iter().map(|at| labels[*at].clone()).collect();
                let slot = self.rules[rule_at].slot(rule, projected);
                self.rules[rule_at].groups[slot].as_mut().expect("the slot was just found or made").members.push((watch_at as u16, number));
                let window = self.reaches.iter().position(|reach| (reach.span, reach.offset) == (watch.window, watch.offset));
                targets.push(Target {
                    rule: rule_at as u16,
                    watch: watch_at as u16,
                    slot,
                    window: window.expect("every watch's window is in the list"),
                    part: part(plan, watch),
                    label: watch.each.map_or("", |at| labels[at].as_str()).into(),
                    gauged: !watch.part,
                });
            }
        }
        let by_number = &mut self.targets[usize::from(grouping)];
        if by_number.len() <= number as usize {
            by_number.resize(number as usize + 1, Vec::new());
        }
        by_number[number as usize] = targets;
    }

    /// A group that is forgotten: its cells have all left.
    pub fn retire(&mut self, grouping: u16, number: u32) {
        for target in std::mem::take(&mut self.targets[usize::from(grouping)][number as usize]) {
            let rule = &mut self.rules[usize::from(target.rule)];
            let group = rule.groups[target.slot].as_mut().expect("a target keeps its slot");
            group.members.retain(|member| *member != (target.watch, number));
            if group.members.is_empty() {
                rule.groups[target.slot] = None;
                rule.slots.retain(|_, slot| *slot != target.slot);
                rule.free.push(target.slot);
            }
        }
    }

    /// Calls that came into the slice that starts at `slice`; `heard` is told for which rule, watch and group.
    pub fn add(&mut self, grouping: u16, number: u32, slice: Timestamp, cell: &Cell, mut heard: impl FnMut(usize, usize, &Labels, Part)) {
        for target in &self.targets[usize::from(grouping)][number as usize] {
            let group = self.rules[usize::from(target.rule)].groups[target.slot].as_mut().expect("a target keeps its slot");
            if self.reaches[target.window].holds(slice) {
                group.sums[usize::from(target.watch)].add(target, cell);
            }
            if target.gauged {
                heard(usize::from(target.rule), usize::from(target.watch), &group.labels, target.part);
            }
        }
    }

    /// Moves every window so that it ends at `end`, or its offset before it.
    pub fn expire(&mut self, slices: &BTreeMap<Timestamp, Slice>, end: Timestamp, slice: Span) {
        for window in 0..self.reaches.len() {
            let old = self.reaches[window];
            let mut new = old;
            new.move_to(end, slice);
            // Calls come into a window of the past before others leave it, so that a jump takes away nothing that was not added.
            if let (Some(from), Some(to)) = (old.high, new.high)
                && from < to
            {
                self.pass(slices, from..to, window, Sum::add);
            }
            if old.low < new.low {
                self.pass(slices, old.low..new.low, window, Sum::subtract);
            }
            self.reaches[window] = Reach { low: new.low.max(old.low), high: new.high.max(old.high), ..new };
        }
    }

    /// Gives the cells of these slices to the sums of one window.
    fn pass(&mut self, slices: &BTreeMap<Timestamp, Slice>, range: Range<Timestamp>, window: usize, give: fn(&mut Sum, &Target, &Cell)) {
        for ((grouping, number), cell) in slices.range(range).flat_map(|(_, slice)| &slice.cells) {
            for target in self.targets[usize::from(*grouping)][*number as usize].iter().filter(|target| target.window == window) {
                give(self.rules[usize::from(target.rule)].sum(target), target, cell);
            }
        }
    }
}

impl RuleGroups {
    /// The groups whose labels begin with `labels`, in order.
    pub fn under<'g>(&'g self, labels: &'g Labels) -> impl Iterator<Item = (&'g Labels, &'g RuleGroup)> {
        let slots = self.slots.range(labels.clone()..).take_while(|(group, _)| group.starts_with(labels));
        slots.map(|(labels, slot)| (labels, self.groups[*slot].as_ref().expect("labels point to live slots")))
    }

    /// In the order of their labels.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &RuleGroup)> {
        self.slots.iter().map(|(labels, slot)| (labels, self.groups[*slot].as_ref().expect("labels point to live slots")))
    }

    fn slot(&mut self, rule: &Rule, labels: Labels) -> usize {
        if let Some(slot) = self.slots.get(&labels) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or(self.groups.len());
        if slot == self.groups.len() {
            self.groups.push(None);
        }
        let sums = rule.watches.iter().map(Sum::empty).collect();
        self.groups[slot] = Some(RuleGroup { labels: labels.clone(), members: Vec::new(), sums });
        self.slots.insert(labels, slot);
        slot
    }

    fn sum(&mut self, target: &Target) -> &mut Sum {
        &mut self.groups[target.slot].as_mut().expect("a target keeps its slot").sums[usize::from(target.watch)]
    }
}

pub(crate) fn watches_environment(rule: &Rule, environment: &str) -> bool {
    rule.environments.is_empty() || rule.environments.iter().any(|name| name == environment)
}

fn part(plan: &Plan, watch: &Watch) -> Part {
    let grouping = &plan.groupings[watch.grouping];
    let measure = || watch.statistic.measure().and_then(|measure| grouping.measures.iter().position(|m| m == measure));
    match &watch.statistic {
        statistic if statistic.estimates() => Part::Opinions,
        Statistic::Rate(signal) | Statistic::Count(signal) => {
            Part::Ratio(grouping.signals.iter().position(|s| s == signal).expect("the plan put the signal there"))
        }
        Statistic::Quantile(..) | Statistic::Mean(_) | Statistic::Sum(_) => Part::Spread(measure().expect("the plan put the measure there")),
        Statistic::Volume | Statistic::Ratio { .. } => Part::Calls,
        Statistic::Distinct(_) | Statistic::Top(..) => Part::Each(measure()),
    }
}

/// Slices older than this are kept as minutes, and then as hours, in memory as in the store; a window that reaches further back begins on a whole one.
/// A day and the longest window of a day before are in minutes still.
pub const MINUTES_AFTER: Span = Span::from_secs(2 * 3600);
pub const HOURS_AFTER: Span = Span::from_secs(31 * 3600);
pub(crate) const MINUTE: Span = Span::from_secs(60);
pub(crate) const HOUR: Span = Span::from_secs(3600);

/// How wide slices of this age are.
pub(crate) fn width_at(age: Span, slice: Span) -> Span {
    if age > HOURS_AFTER {
        HOUR
    } else if age > MINUTES_AFTER {
        MINUTE
    } else {
        slice
    }
}
