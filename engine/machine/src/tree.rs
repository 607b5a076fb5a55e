//! The groups of each rule and their roll-ups as a tree of gauges: which of them left its expected range, and for which a person is told.
//!
//! The nodes of a rule grouped by stage, provider, model are the environment, each stage, each stage and provider, and each group. A parent has more
//! calls, so it proves small changes sooner and knows the shape of day and week; a child says where. Told is the coarsest node that fired, unless one
//! child alone explains it: then that child.
//!
//! State: it is in the snapshot. The open tick's sums are here, too, because late calls count in the tick in which they come.

use crate::burn::{Burn, Burning};
use crate::drift::baseline::{HOUR, Reference};
use crate::drift::budget::{enough, environment_share};
use crate::drift::detector::DAY;
use crate::drift::gauge::{Counts, Gauge, Kind};
use crate::drift::season::spread;
use crate::effect::Hit;
use crate::window::{Part, watches_environment};
use model::fold::{Cell, Ratio, add_opinions};
use model::plan::{Decides, Objective, Plan, Rule, Severity, Statistic, TICK, Watch};
use model::verdict::Inclusion;
use model::window::Direction;
use model::{Buckets, Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A node without calls for two weeks is forgotten with what it learned.
const FORGET_AFTER: u32 = 14 * DAY as u32;
/// An incident of which nothing was heard for a day is given up, like its alert.
const GIVE_UP_AFTER: u32 = DAY as u32;
/// How far siblings lie apart (standard deviation, in logs) before anything is known of it, and bounds of what a parent's range is worth in events.
const SIBLINGS_PRIOR: f64 = 0.5;
const STRENGTH: std::ops::RangeInclusive<f64> = 1.0..=20.0;
/// A child with fewer expected events says nothing about how far siblings lie apart.
const SIBLING_EVENTS: f64 = 5.0;
/// A child takes part in its parent's incident from this log evidence on, and from this share of the parent's.
const PART_EVIDENCE: f64 = 3.0;
const PART_SHARE: f64 = 0.25;
/// A child that alone has this share of its parent's evidence explains it.
const WHOLE_SHARE: f64 = 0.8;
/// Groups that an alert of their parent names.
const HIT_MAX: usize = 8;
/// Shares of needed evidence below this cannot make a tick's detectors fire together.
const TOGETHER_MIN: f64 = 1e-4;

/// The trees of one environment, by rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trees {
    pub rules: Vec<Tree>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// By labels; a parent's are the first of its children's.
    pub nodes: BTreeMap<Labels, Node>,
    /// Of groups that had calls in the open tick, by watch.
    open: BTreeMap<Labels, Vec<Sum>>,
    /// Nodes of which people are told.
    pub told: BTreeSet<Labels>,
    /// Nodes that fired because of one that is told below them.
    explained: BTreeMap<Labels, Labels>,
    /// What fires is to be told anew: the rule's text changed.
    anew: bool,
    /// How many gauges its nodes have.
    gauges: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// The last tick with calls.
    pub heard: u32,
    /// By watch; `None` where the watch is compared by its value.
    pub gauges: Vec<Option<Gauge>>,
    /// By watch: what its range is worth to its children, in events.
    strengths: Vec<f32>,
    /// By watch: parts of events that its ancestors are still to be told of.
    carried: Vec<f32>,
    /// Of a group whose rule has an objective.
    burn: Option<Box<Burn>>,
}

/// What a tick adds to one watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Sum {
    None,
    Events {
        calls: u64,
        events: u64,
    },
    /// Of verdicts: fails among opinions, by probability.
    Opinions(Vec<(Inclusion, Ratio)>),
    Calls(u64),
    Values(Buckets),
}

/// A gauge that has some of the evidence it needs.
struct Near {
    labels: Labels,
    watch: usize,
    share: f64,
}

impl Trees {
    pub fn new(plan: &Plan) -> Self {
        Self { rules: vec![Tree::default(); plan.rules.len()] }
    }

    /// Calls that came in the open tick for one watch of one group.
    pub fn count(&mut self, plan: &Plan, rule: usize, watch: usize, labels: &Labels, part: Part, cell: &Cell) {
        let (tree, rule) = (&mut self.rules[rule], &plan.rules[rule]);
        if let Some(sums) = tree.open.get_mut(labels) {
            sums[watch].add(&rule.watches[watch], part, cell);
            return;
        }
        let mut sums: Vec<_> = rule.watches.iter().map(|watch| Sum::new(rule, watch)).collect();
        sums[watch].add(&rule.watches[watch], part, cell);
        tree.open.insert(labels.clone(), sums);
        // A node is there from its first call on, so that it has its part of the budget before it can fire.
        if !tree.nodes.contains_key(labels) {
            for depth in 0..=labels.len() {
                if !tree.nodes.contains_key(&labels[..depth]) && tree.nodes.len() < plan.windows.series_max as usize {
                    tree.nodes.insert(labels[..depth].to_vec(), Node::new(rule));
                }
            }
        }
    }

    /// Whether the tick that starts at `tick` must be looked at without calls: a volume misses them for a day.
    pub fn hears_silence(&self, plan: &Plan, tick: Timestamp) -> bool {
        let missed = |tree: &Tree| tree.nodes.first_key_value().is_some_and(|(_, root)| number(tick).saturating_sub(root.heard) < GIVE_UP_AFTER);
        plan.rules.iter().zip(&self.rules).any(|(rule, tree)| missed(tree) && rule.watches.iter().any(|w| kind(rule, w) == Some(Kind::Volume)))
    }

    /// Closes the tick that starts at `tick`: every gauge with calls weighs them, and those with enough evidence fire. `ordinal`: the environment's.
    pub fn close(&mut self, plan: &Plan, environment: &str, ordinal: usize, tick: Timestamp) {
        let at = number(tick);
        let mine = || plan.rules.iter().enumerate().filter(|(_, rule)| watches_environment(rule, environment));
        let mut near = Vec::new();
        for (index, rule) in mine() {
            let ticks = self.ticks(plan, environment, ordinal, index);
            self.rules[index].weigh(rule, at, ticks, |near_it| near.push((index, near_it)));
        }
        let mut shares: Vec<_> = near.iter().map(|(_, near)| near.share).collect();
        let enough = enough(&mut shares);
        let mut fired = BTreeSet::new();
        for (index, near) in near.into_iter().filter(|(_, near)| near.share >= enough) {
            let node = self.rules[index].nodes.get_mut(&near.labels).expect("it was weighed above");
            node.gauges[near.watch].as_mut().expect("it has evidence").fire(at);
            fired.insert(index);
        }
        for (index, rule) in mine() {
            let tree = &mut self.rules[index];
            if let Decides::Burn(objective) = rule.decides {
                tree.told = tree.burning(&objective, rule, at);
                continue;
            }
            let news = fired.contains(&index) || std::mem::take(&mut tree.anew);
            if news || !tree.told.is_empty() || !tree.explained.is_empty() {
                tree.tell(rule, at, news);
            }
        }
    }

    /// Ticks between false alarms that one gauge of rule `index` may have.
    pub fn ticks(&self, plan: &Plan, environment: &str, ordinal: usize, index: usize) -> f64 {
        let rule = &plan.rules[index];
        let share = environment_share(ordinal);
        if let Some(own) = rule.false_alarms {
            return own.ticks() * self.gauges(index).max(1) as f64 / share;
        }
        let sharing = plan.rules.iter().enumerate().filter(|(_, rule)| rule.false_alarms.is_none() && watches_environment(rule, environment));
        let weights: f64 = sharing.map(|(index, rule)| self.gauges(index) as f64 * weight(rule.severity)).sum();
        plan.false_alarms.ticks() * (weights / weight(rule.severity)).max(1.0) / share
    }

    /// Gauges of one rule.
    pub fn gauges(&self, index: usize) -> usize {
        self.rules[index].gauges
    }

    /// Forgets nodes, gives up incidents of which nothing is heard, and learns how far siblings lie apart. Once an hour.
    pub fn sweep(&mut self, plan: &Plan, tick: Timestamp) {
        let at = number(tick);
        for (tree, rule) in self.rules.iter_mut().zip(&plan.rules) {
            tree.nodes.retain(|_, node| at.saturating_sub(node.heard) < FORGET_AFTER);
            for node in tree.nodes.values_mut().filter(|node| at.saturating_sub(node.heard) >= GIVE_UP_AFTER) {
                for (gauge, watch) in node.gauges.iter_mut().zip(&rule.watches) {
                    // Traffic that has stopped for a day is not missed any more; when it comes back it is learned anew.
                    *gauge = gauge.take().filter(|_| kind(rule, watch) != Some(Kind::Volume));
                    gauge.iter_mut().filter(|gauge| gauge.detector().firing().is_some()).for_each(Gauge::give_up);
                }
            }
            tree.compare_siblings(rule);
            tree.recount();
        }
    }

    /// What is learned goes on under another plan where what is measured stayed the same.
    pub fn adopt(&mut self, old: &Plan, plan: &Plan) {
        let mut was = std::mem::take(&mut self.rules);
        self.rules = plan
            .rules
            .iter()
            .map(|rule| {
                let Some(from) = old.rules.iter().position(|known| known.name == rule.name && known.group_by == rule.group_by) else {
                    return Tree::default();
                };
                let before = &old.rules[from];
                let rulers: Vec<_> = before.watches.iter().map(|watch| watch.ruler(old, before)).collect();
                let came: Vec<_> = rule.watches.iter().map(|w| rulers.iter().position(|ruler| *ruler == w.ruler(plan, rule))).collect();
                let mut tree = std::mem::take(&mut was[from]);
                if came.iter().all(Option::is_none) {
                    return Tree::default();
                }
                if before.fingerprint != rule.fingerprint {
                    // Its alerts have ended with the old text; what still fires is told again.
                    tree.told.clear();
                    tree.explained.clear();
                    tree.anew = true;
                }
                for node in tree.nodes.values_mut() {
                    node.gauges = came.iter().map(|from| from.and_then(|from| node.gauges[from].take())).collect();
                    node.carried = vec![0.0; came.len()];
                    node.strengths = came.iter().map(|from| from.map_or(0.0, |from| node.strengths[from])).collect();
                }
                for sums in tree.open.values_mut() {
                    *sums = came
                        .iter()
                        .zip(&rule.watches)
                        .map(|(from, watch)| from.map_or_else(|| Sum::new(rule, watch), |from| sums[from].clone()))
                        .collect();
                }
                tree.recount();
                tree
            })
            .collect();
    }
}

impl Tree {
    /// Gives every node that had calls its tick, parents before children. `ticks`: how seldom one gauge may be wrong. Says which gauges have some of
    /// the evidence they need.
    fn weigh(&mut self, rule: &Rule, at: u32, ticks: f64, mut say: impl FnMut(Near)) {
        let kinds: Vec<_> = rule.watches.iter().map(|watch| kind(rule, watch)).collect();
        let mut sums = self.roll_up(rule);
        if kinds.contains(&Some(Kind::Volume)) {
            let silent = self.nodes.keys().filter(|labels| sums.binary_search_by(|(heard, _)| heard.cmp(labels)).is_err());
            let nothing = |labels: &Labels| (labels.clone(), rule.watches.iter().map(|watch| Sum::new(rule, watch)).collect());
            let silent: Vec<_> = silent.map(nothing).collect();
            sums.extend(silent);
            sums.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        let paused = |labels: &Labels, told: &BTreeSet<Labels>| told.iter().any(|told| told.len() > labels.len() && told.starts_with(labels));
        // What each ancestor of the current node expects, and what that is worth to its children, by watch.
        let mut above: Vec<Vec<(Option<Reference>, f64)>> = Vec::new();
        for (labels, sums) in sums {
            // Where the tree is full, calls still count for the parent.
            let Some(node) = self.nodes.get_mut(&labels) else { continue };
            above.truncate(labels.len());
            if sums.iter().any(Sum::has_calls) {
                node.heard = at;
            }
            if let (Decides::Burn(_), [Sum::Events { calls, events }]) = (rule.decides, sums.as_slice())
                && labels.len() == rule.group_by.len()
            {
                let burn = node.burn.get_or_insert_with(|| Box::new(Burn::new(at)));
                burn.pass(at);
                burn.add(*calls, *events);
            }
            let mut here = Vec::with_capacity(kinds.len());
            for (watch, kind) in kinds.iter().enumerate() {
                let Some(kind) = kind else {
                    here.push((None, 0.0));
                    continue;
                };
                // Volumes and values learn by themselves: a group's traffic says nothing about another's.
                let parent = above.last().map(|parent| parent[watch]).filter(|_| matches!(kind, Kind::Rate | Kind::Limited { .. }));
                let seasonal = labels.len() < rule.group_by.len() || parent.is_none();
                let reference = parent.and_then(|(reference, _)| reference);
                let heard = match &sums[watch] {
                    Sum::Events { calls, events } if *calls > 0 => Some(Counts::Events { calls: *calls, events: *events }),
                    Sum::Opinions(opinions) if !opinions.is_empty() => Some(Counts::Opinions(opinions)),
                    Sum::Values(_) | Sum::Calls(_) if paused(&labels, &self.told) => None,
                    Sum::Values(buckets) if !buckets.is_empty() => Some(Counts::Values(buckets)),
                    Sum::Calls(calls) => Some(Counts::Calls(*calls)),
                    _ => None,
                };
                if let Some(counts) = heard {
                    let gauge = node.gauges[watch].get_or_insert_with(|| {
                        self.gauges += 1;
                        Gauge::new(*kind, at, parent.map(|(_, strength)| strength), seasonal)
                    });
                    gauge.tick(at, counts, reference);
                    if gauge.detector().firing().is_none() && gauge.detector().evidence() > 0.0 {
                        let share = gauge.detector().evidence() / gauge.hold_threshold(at, ticks);
                        if share >= TOGETHER_MIN {
                            say(Near { labels: labels.clone(), watch, share });
                        }
                    }
                }
                here.push((node.gauges[watch].as_ref().and_then(Gauge::reference), f64::from(node.strengths[watch])));
            }
            above.push(here);
        }
    }

    /// The groups that burn the budget of an objective too fast.
    fn burning(&mut self, objective: &Objective, rule: &Rule, at: u32) -> BTreeSet<Labels> {
        let burning = |(labels, node): (&Labels, &mut Node)| {
            let burn = node.burn.as_mut()?;
            burn.pass(at);
            burn.burning(objective, rule.watches[0].at_least).map(|_| labels.clone())
        };
        self.nodes.iter_mut().filter_map(burning).collect()
    }

    /// How a group burns the budget of its rule's objective.
    pub fn burns(&self, rule: &Rule, labels: &Labels) -> Option<Burning> {
        let Decides::Burn(objective) = rule.decides else { return None };
        self.nodes.get(labels)?.burn.as_ref()?.burning(&objective, rule.watches[0].at_least)
    }

    /// The open tick's sums of its groups and of their ancestors, in the order of their labels; so parents come before children.
    fn roll_up(&mut self, rule: &Rule) -> Vec<(Labels, Vec<Sum>)> {
        let open = std::mem::take(&mut self.open);
        let mut sums: Vec<(Labels, Vec<Sum>)> = Vec::with_capacity(open.len() * 2);
        // Where the ancestors of the current group are, by depth.
        let mut above: Vec<usize> = Vec::new();
        for (labels, open) in open {
            let shared = |at: &usize| labels.starts_with(&sums[*at].0);
            above.truncate(above.iter().take_while(|at| shared(at)).count().min(labels.len()));
            for depth in above.len()..labels.len() {
                above.push(sums.len());
                sums.push((labels[..depth].to_vec(), rule.watches.iter().map(|watch| Sum::new(rule, watch)).collect()));
            }
            let told = (0..=labels.len()).rev().find(|depth| self.told.contains(&labels[..*depth])).unwrap_or(0);
            for at in &above[told.min(above.len())..] {
                sums[*at].1.iter_mut().zip(&open).for_each(|(parent, sum)| parent.merge(sum));
            }
            if told > 0
                && let Some(node) = self.nodes.get_mut(&labels[..told])
            {
                let usual = node.as_usual(&open);
                for at in &above[..told.min(above.len())] {
                    sums[*at].1.iter_mut().zip(&usual).for_each(|(parent, sum)| parent.merge(sum));
                }
            }
            sums.push((labels, open));
        }
        sums
    }

    /// Decides of which nodes people are told.
    fn tell(&mut self, rule: &Rule, at: u32, news: bool) {
        let over: Vec<_> = self.told.iter().filter(|labels| !self.nodes.get(*labels).is_some_and(|node| node.fires(rule))).cloned().collect();
        for labels in over {
            self.told.remove(&labels);
            // What fired below it, or above because of it, is over with it; what is not will prove it anew. What is told below goes on by itself.
            let (explained, told) = (&self.explained, &self.told);
            let told_itself = |known: &Labels| (0..=known.len()).any(|depth| told.contains(&known[..depth]));
            let with_it = |known: &Labels| known.starts_with(&labels) && !told_itself(known) || explained.get(known) == Some(&labels);
            for node in self.nodes.iter_mut().filter(|(known, _)| with_it(known)).map(|(_, node)| node) {
                node.gauges.iter_mut().flatten().for_each(Gauge::give_up);
            }
            self.explained.retain(|_, by| *by != labels);
        }
        if !matches!(rule.decides, Decides::Drift) {
            return;
        }
        let firing: Vec<_> = self.nodes.iter().filter(|(_, node)| node.fires(rule)).map(|(labels, _)| labels.clone()).collect();
        self.explained.retain(|labels, _| firing.contains(labels));
        for labels in firing {
            let known = self.told.contains(&labels) || self.explained.contains_key(&labels) && !news;
            if known || (0..labels.len()).any(|depth| self.told.contains(&labels[..depth])) {
                continue;
            }
            let (target, watch) = self.narrow(rule, &labels);
            if target == labels {
                self.explained.remove(&labels);
                self.told.insert(labels);
                continue;
            }
            for depth in labels.len()..target.len() {
                if self.nodes.get(&target[..depth]).is_some_and(|node| node.fires(rule)) {
                    self.explained.insert(target[..depth].to_vec(), target.clone());
                }
            }
            let node = self.nodes.get_mut(&target).expect("narrowing finds nodes that are there");
            if let Some(gauge) = node.gauges[watch].as_mut().filter(|gauge| gauge.detector().firing().is_none()) {
                gauge.fire(at);
            }
            self.told.insert(target);
        }
    }

    /// What a node shows is normal from now on, and what fires below it and because of it; what does not fire below it follows: the
    /// person's word is about all of it, and a group alone has mostly not proven by then that it takes part.
    pub fn adopt_node(&mut self, at: u32, labels: &Labels) {
        let mine = |known: &Labels, explained: &BTreeMap<Labels, Labels>| known.starts_with(labels) || explained.get(known) == Some(labels);
        let parents: BTreeMap<Labels, Vec<Option<Reference>>> = self
            .nodes
            .iter()
            .map(|(known, node)| (known.clone(), node.gauges.iter().map(|gauge| gauge.as_ref().and_then(Gauge::reference)).collect()))
            .collect();
        // Of the node itself, by watch: how far its level moved. It comes before those below it.
        let mut moved: Vec<Option<f64>> = Vec::new();
        for (known, node) in self.nodes.iter_mut().filter(|(known, _)| mine(known, &self.explained)) {
            let parent = known.len().checked_sub(1).and_then(|depth| parents.get(&known[..depth]));
            for (watch, gauge) in node.gauges.iter_mut().enumerate() {
                let by = match gauge.as_mut() {
                    Some(gauge) if gauge.detector().firing().is_some() => gauge.adopt(at, parent.and_then(|parent| parent[watch])),
                    Some(gauge) if known.len() > labels.len() => {
                        moved.get(watch).copied().flatten().iter().for_each(|by| gauge.follow(*by));
                        None
                    }
                    _ => None,
                };
                if known == labels {
                    moved.push(by);
                }
            }
        }
        self.told.retain(|known| !known.starts_with(labels));
        self.explained.retain(|_, by| !by.starts_with(labels));
    }

    /// The node that explains a firing one: itself, or a descendant that alone has its evidence.
    fn narrow(&self, rule: &Rule, labels: &Labels) -> (Labels, usize) {
        let mut labels = labels.clone();
        let Some((watch, direction, mut evidence)) = self.nodes.get(&labels).and_then(|node| node.strongest(rule)) else { return (labels, 0) };
        loop {
            let children = self.children(&labels).filter_map(|(child, node)| {
                let (towards, evidence) = node.gauges[watch].as_ref()?.leaning()?;
                (towards == direction && evidence >= PART_EVIDENCE).then_some((child, evidence))
            });
            let parts: Vec<_> = children.filter(|(_, mine)| *mine >= PART_SHARE * evidence).collect();
            match parts[..] {
                [(child, mine)] if mine >= WHOLE_SHARE * evidence => {
                    evidence = mine;
                    labels = child.clone();
                }
                _ => return (labels, watch),
            }
        }
    }

    /// The nodes one level below.
    pub fn children<'t>(&'t self, labels: &'t Labels) -> impl Iterator<Item = (&'t Labels, &'t Node)> {
        self.below(labels).filter(|(child, _)| child.len() == labels.len() + 1)
    }

    /// All nodes below.
    pub fn below<'t>(&'t self, labels: &'t Labels) -> impl Iterator<Item = (&'t Labels, &'t Node)> {
        self.nodes.range(labels.clone()..).skip(1).take_while(|(child, _)| child.starts_with(labels))
    }

    /// The groups below a node that take part in its incident, worst first.
    pub fn hit(&self, rule: &Rule, labels: &Labels) -> Vec<Hit> {
        let Some((watch, direction, _)) = self.nodes.get(labels).and_then(|node| node.strongest(rule)) else { return Vec::new() };
        let leaves = self.below(labels).filter(|(child, _)| child.len() == rule.group_by.len());
        let mut parts: Vec<_> = leaves
            .filter_map(|(child, node)| {
                let gauge = node.gauges[watch].as_ref()?;
                let (towards, evidence) = gauge.leaning()?;
                let (_, best) = gauge.detector().best()?;
                let part = Hit { labels: child.clone(), calls: best.n as u64, holds: best.x as u64 };
                (towards == direction && evidence >= PART_EVIDENCE).then_some((evidence, part))
            })
            .collect();
        parts.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        parts.into_iter().take(HIT_MAX).map(|(_, part)| part).collect()
    }

    fn recount(&mut self) {
        self.gauges = self.nodes.values().map(|node| node.gauges.iter().flatten().count()).sum();
    }

    /// Learns from each parent's children how much its range is worth to them.
    fn compare_siblings(&mut self, rule: &Rule) {
        let parents: Vec<_> = self.nodes.keys().filter(|labels| labels.len() < rule.group_by.len()).cloned().collect();
        for labels in parents {
            for watch in 0..rule.watches.len() {
                let counts: Vec<_> = self.children(&labels).filter_map(|(_, node)| node.gauges[watch].as_ref()?.level()).collect();
                let known: Vec<_> = counts.into_iter().filter(|(_, e)| *e >= SIBLING_EVENTS).collect();
                let (x, e) = known.iter().fold((0.0, 0.0), |(x, e), (mx, me)| (x + mx, e + me));
                let level = if x > 0.0 { x / e } else { 1.0 };
                let spread = spread(known.iter().map(|(x, e)| (*x, e * level)), known.len() as f64 - 1.0, SIBLINGS_PRIOR);
                let strength = (1.0 / spread).clamp(*STRENGTH.start(), *STRENGTH.end());
                let children: Vec<_> = self.children(&labels).map(|(child, _)| child.clone()).collect();
                for child in children {
                    let gauge = self.nodes.get_mut(&child).and_then(|node| node.gauges[watch].as_mut());
                    if let Some(gauge) = gauge {
                        gauge.set_strength(strength);
                    }
                }
                self.nodes.get_mut(&labels).expect("it was listed above").strengths[watch] = strength as f32;
            }
        }
    }
}

impl Node {
    fn new(rule: &Rule) -> Self {
        let strength = 1.0 / (SIBLINGS_PRIOR * SIBLINGS_PRIOR);
        Self {
            heard: 0,
            gauges: rule.watches.iter().map(|_| None).collect(),
            strengths: vec![strength as f32; rule.watches.len()],
            carried: vec![0.0; rule.watches.len()],
            burn: None,
        }
    }

    /// What a tick's calls would look like had nothing happened: what people are told of explains itself, and its ancestors go on as if it were well.
    /// Their mix stays the same, so that they neither fire because of it nor because it is missing. Events come whole; what is left over is carried.
    fn as_usual(&mut self, sums: &[Sum]) -> Vec<Sum> {
        let usual = |(watch, sum): (usize, &Sum)| match (sum, self.gauges[watch].as_ref().and_then(Gauge::usual_rate)) {
            (Sum::Events { calls, .. }, Some(rate)) => {
                let due = f64::from(self.carried[watch]) + *calls as f64 * rate;
                let events = libm::floor(due);
                self.carried[watch] = (due - events) as f32;
                Sum::Events { calls: *calls, events: (events as u64).min(*calls) }
            }
            (Sum::Opinions(opinions), Some(rate)) => {
                // The strata keep their weights; fails are dealt out among them in order.
                let mut due = f64::from(self.carried[watch]);
                let usual = |(inclusion, ratio): &(Inclusion, Ratio)| {
                    due += ratio.applies as f64 * rate;
                    let holds = (libm::floor(due) as u64).min(ratio.applies);
                    due -= holds as f64;
                    (*inclusion, Ratio { holds, applies: ratio.applies })
                };
                let usual = opinions.iter().map(usual).collect();
                self.carried[watch] = due as f32;
                Sum::Opinions(usual)
            }
            // Volumes and values of an ancestor pause.
            (_, _) => Sum::None,
        };
        sums.iter().enumerate().map(usual).collect()
    }

    /// Whether one of its gauges fires in a direction that people are told of.
    pub fn fires(&self, rule: &Rule) -> bool {
        self.strongest(rule).is_some()
    }

    /// Whether its gauges fire in no other direction than those that its rule does not tell of.
    pub fn ignored(&self, rule: &Rule) -> bool {
        let ignored = self.gauges.iter().zip(&rule.watches).any(|(gauge, watch)| {
            let firing = gauge.as_ref().and_then(|gauge| gauge.detector().firing());
            firing.is_some_and(|firing| rule.ignores(watch, firing.direction))
        });
        ignored && !self.fires(rule)
    }

    /// Of its gauges that fire so: the watch, its direction, and its log evidence.
    fn strongest(&self, rule: &Rule) -> Option<(usize, Direction, f64)> {
        let firing = self.gauges.iter().enumerate().filter_map(|(watch, gauge)| {
            let gauge = gauge.as_ref()?;
            let direction = gauge.detector().firing()?.direction;
            let (_, evidence) = gauge.leaning()?;
            rule.watches[watch].hurts(direction).then_some((watch, direction, evidence))
        });
        firing.reduce(|a, b| if b.2 > a.2 { b } else { a })
    }
}

impl Sum {
    fn new(rule: &Rule, watch: &Watch) -> Self {
        match kind(rule, watch) {
            None if matches!(rule.decides, Decides::Burn(_)) => Self::Events { calls: 0, events: 0 },
            None => Self::None,
            Some(Kind::Rate | Kind::Limited { .. }) if watch.statistic.estimates() => Self::Opinions(Vec::new()),
            Some(Kind::Rate | Kind::Limited { .. }) => Self::Events { calls: 0, events: 0 },
            Some(Kind::Volume) => Self::Calls(0),
            Some(Kind::Values) => Self::Values(Buckets::default()),
        }
    }

    fn has_calls(&self) -> bool {
        match self {
            Self::None => false,
            Self::Events { calls, .. } | Self::Calls(calls) => *calls > 0,
            Self::Opinions(opinions) => !opinions.is_empty(),
            Self::Values(buckets) => !buckets.is_empty(),
        }
    }

    fn add(&mut self, watch: &Watch, part: Part, cell: &Cell) {
        match (self, part) {
            (Self::Events { calls, events }, Part::Ratio(at)) => {
                *calls += cell.ratios[at].applies;
                *events += cell.ratios[at].holds;
            }
            (Self::Events { calls, events }, Part::Spread(at)) => {
                let (Statistic::Quantile(measure, _), Some(range)) = (&watch.statistic, watch.expect) else { return };
                let high = range.high / measure.step();
                let spread = &cell.distributions[at];
                *calls += spread.count;
                *events += spread.buckets.iter().filter(|(bucket, _)| bucket.lowest() as f64 > high).map(|(_, count)| count).sum::<u64>();
            }
            (Self::Opinions(mine), Part::Opinions) => add_opinions(mine, &cell.opinions),
            (Self::Values(buckets), Part::Spread(at)) => buckets.add(&cell.distributions[at].buckets),
            (Self::Calls(calls), Part::Calls) => *calls += cell.calls,
            // Of a count, the calls that show the signal.
            (Self::Calls(calls), Part::Ratio(at)) => *calls += cell.ratios[at].holds,
            _ => {}
        }
    }

    fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Events { calls, events }, Self::Events { calls: more, events: hits }) => {
                *calls += more;
                *events += hits;
            }
            (Self::Opinions(mine), Self::Opinions(more)) => add_opinions(mine, more),
            (Self::Values(buckets), Self::Values(more)) => buckets.add(more),
            (Self::Calls(calls), Self::Calls(more)) => *calls += more,
            _ => {}
        }
    }
}

/// How a watch is gauged; `None`: it is compared by its value, or an objective's budget.
pub(crate) fn kind(rule: &Rule, watch: &Watch) -> Option<Kind> {
    if matches!(rule.decides, Decides::Burn(_)) || watch.part {
        return None;
    }
    match (&watch.statistic, watch.expect) {
        (Statistic::Rate(_), None) => Some(Kind::Rate),
        (Statistic::Rate(_), Some(range)) => Some(Kind::Limited { low: range.low, high: range.high }),
        // At most 1 - q of the calls may lie above what the q-quantile is expected to be at most.
        (Statistic::Quantile(_, q), Some(range)) if range.low <= 0.0 => Some(Kind::Limited { low: 0.0, high: 1.0 - q }),
        (Statistic::Quantile(..) | Statistic::Mean(_), None) => Some(Kind::Values),
        (Statistic::Volume | Statistic::Count(_), None) => Some(Kind::Volume),
        (Statistic::Sum(_) | Statistic::Ratio { .. } | Statistic::Distinct(_) | Statistic::Top(..), _) => None,
        (Statistic::Quantile(..) | Statistic::Mean(_) | Statistic::Volume | Statistic::Count(_), Some(_)) => None,
    }
}

/// How much of the budget a rule's gauges get, relative to others.
fn weight(severity: Severity) -> f64 {
    match severity {
        Severity::Info => 1.0,
        Severity::Warning => 2.0,
        Severity::Critical => 4.0,
    }
}

/// The number of a tick, from the epoch.
pub(crate) fn number(tick: Timestamp) -> u32 {
    (tick.millis() / TICK.millis() as i64).clamp(0, i64::from(u32::MAX)) as u32
}

/// The start of a tick.
pub(crate) fn start(number: u32) -> Timestamp {
    Timestamp::from_millis(i64::from(number) * TICK.millis() as i64).expect("ticks of u32 are within the range of times")
}

/// Whether a tick begins an hour.
pub(crate) fn on_the_hour(tick: Timestamp) -> bool {
    number(tick).is_multiple_of(HOUR)
}
