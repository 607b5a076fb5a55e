//! Running sums of the watches: one per rule, group and watch, kept by adding what comes and taking away what leaves the window.
//!
//! Everything here is derived from the slices and the plan, so it is rebuilt after a restart rather than written. Sums are integers; what is taken
//! away is exactly what was added.

use crate::environment::Slice;
use model::fold::{Cell, Ratio};
use model::plan::{Plan, Rule, Statistic, Watch};
use model::{Buckets, Labels, Span, Timestamp};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) struct Windows {
    /// By grouping and group number: what a cell of that group adds to.
    targets: Vec<Vec<Vec<Target>>>,
    pub rules: Vec<RuleGroups>,
    /// Distinct windows, and the start of the first slice that each still holds.
    lows: Vec<(Span, Timestamp)>,
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
    Spread { count: u64, sum: u128, buckets: Buckets },
    Calls(u64),
}

#[derive(Clone, Debug)]
struct Target {
    rule: u16,
    watch: u16,
    slot: usize,
    /// Index into `lows`.
    window: usize,
    part: Part,
}

/// What of a cell is summed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Ratio(usize),
    Spread(usize),
    Calls,
}

impl Sum {
    pub fn empty(watch: &Watch) -> Self {
        match watch.statistic {
            Statistic::Rate(_) => Self::Ratio(Ratio::default()),
            Statistic::Quantile(..) | Statistic::Mean(_) => Self::Spread { count: 0, sum: 0, buckets: Buckets::default() },
            Statistic::Volume => Self::Calls(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Ratio(ratio) => ratio.applies == 0,
            Self::Spread { count, .. } => *count == 0,
            Self::Calls(calls) => *calls == 0,
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
            (Self::Calls(mine), Self::Calls(theirs)) => *mine += theirs,
            _ => {}
        }
    }

    fn add(&mut self, part: Part, cell: &Cell) {
        match (self, part) {
            (Self::Ratio(mine), Part::Ratio(at)) => {
                mine.holds += cell.ratios[at].holds;
                mine.applies += cell.ratios[at].applies;
            }
            (Self::Spread { count, sum, buckets }, Part::Spread(at)) if cell.distributions[at].count > 0 => {
                *count += cell.distributions[at].count;
                *sum += cell.distributions[at].sum;
                buckets.add(&cell.distributions[at].buckets);
            }
            (Self::Calls(mine), Part::Calls) => *mine += cell.calls,
            _ => {}
        }
    }

    fn subtract(&mut self, part: Part, cell: &Cell) {
        match (self, part) {
            (Self::Ratio(mine), Part::Ratio(at)) => {
                mine.holds -= cell.ratios[at].holds;
                mine.applies -= cell.ratios[at].applies;
            }
            (Self::Spread { count, sum, buckets }, Part::Spread(at)) if cell.distributions[at].count > 0 => {
                *count -= cell.distributions[at].count;
                *sum -= cell.distributions[at].sum;
                buckets.subtract(&cell.distributions[at].buckets);
            }
            (Self::Calls(mine), Part::Calls) => *mine -= cell.calls,
            _ => {}
        }
    }
}

impl Windows {
    /// Empty sums; `tick` is the start of the open tick.
    pub fn new(plan: &Plan, tick: Timestamp) -> Self {
        let mut spans: Vec<Span> = plan.rules.iter().flat_map(|rule| &rule.watches).map(|watch| watch.window).collect();
        spans.sort_unstable();
        spans.dedup();
        Self {
            targets: vec![Vec::new(); plan.groupings.len()],
            rules: vec![RuleGroups::default(); plan.rules.len()],
            lows: spans.into_iter().map(|span| (span, tick - span)).collect(),
        }
    }

    /// A group that will get cells from now on.
    pub fn enroll(&mut self, plan: &Plan, environment: &str, grouping: u16, number: u32, labels: &Labels) {
        let mut targets = Vec::new();
        for (rule_at, rule) in plan.rules.iter().enumerate().filter(|(_, rule)| watches_environment(rule, environment)) {
            for (watch_at, watch) in rule.watches.iter().enumerate().filter(|(_, watch)| watch.grouping == usize::from(grouping)) {
                if !watch.only.iter().all(|(at, values)| values.contains(&labels[*at])) {
                    continue;
                }
                let projected: Labels = watch.projection.iter().map(|at| labels[*at].clone()).collect();
                let slot = self.rules[rule_at].slot(rule, projected);
                self.rules[rule_at].groups[slot].as_mut().expect("the slot was just found or made").members.push((watch_at as u16, number));
                let window = self.lows.iter().position(|(span, _)| *span == watch.window).expect("every watch's window is in the list");
                targets.push(Target { rule: rule_at as u16, watch: watch_at as u16, slot, window, part: part(plan, watch) });
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
            if slice >= self.lows[target.window].1 {
                group.sums[usize::from(target.watch)].add(target.part, cell);
            }
            heard(usize::from(target.rule), usize::from(target.watch), &group.labels, target.part);
        }
    }

    /// Moves every window so that it ends at `end`.
    pub fn expire(&mut self, slices: &BTreeMap<Timestamp, Slice>, end: Timestamp) {
        for window in 0..self.lows.len() {
            let (span, low) = self.lows[window];
            let new_low = end - span;
            if new_low <= low {
                continue;
            }
            for ((grouping, number), cell) in slices.range(low..new_low).flat_map(|(_, slice)| &slice.cells) {
                for target in self.targets[usize::from(*grouping)][*number as usize].iter().filter(|target| target.window == window) {
                    self.rules[usize::from(target.rule)].sum(target).subtract(target.part, cell);
                }
            }
            self.lows[window].1 = new_low;
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
    match &watch.statistic {
        Statistic::Rate(signal) => Part::Ratio(grouping.signals.iter().position(|s| s == signal).expect("the plan put the signal there")),
        Statistic::Quantile(measure, _) | Statistic::Mean(measure) => {
            Part::Spread(grouping.measures.iter().position(|m| m == measure).expect("the plan put the measure there"))
        }
        Statistic::Volume => Part::Calls,
    }
}
