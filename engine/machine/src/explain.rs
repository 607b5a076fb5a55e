//! What the machine knows about one node of a rule, and what the alarm budget costs: readings for people, which change nothing.

use crate::drift::budget::environment_share;
use crate::drift::detector::DAY;
use crate::environment::Environment;
use crate::machine::Machine;
use crate::observe::{observations, usual};
use crate::tree::{kind, number, start};
use crate::window::watches_environment;
use model::plan::{Decides, Plan, Range, Rule, TICK, Watch};
use model::window::{Direction, Observation};
use model::{Labels, Quantiles, Span, Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// One node: a group of a rule, or the first labels of some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub rule: String,
    pub environment: String,
    /// Key and label; fewer than the rule's `group_by` for a parent.
    pub group: Vec<(String, String)>,
    /// The environment's clock.
    pub at: Timestamp,
    /// It is decided by its gauges; otherwise by its `check`.
    pub by_drift: bool,
    /// People are told of it.
    pub told: bool,
    pub watches: Vec<WatchExplanation>,
    pub budget: Budget,
    /// Nodes one level below, the most suspicious first.
    pub below: Vec<Below>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchExplanation {
    pub name: String,
    /// `fallback rate`
    pub what: String,
    /// Of what the value is taken: `calls`, `runs`.
    pub of_what: String,
    pub window: String,
    pub unit: Unit,
    pub observation: Observation,
    pub expected: Option<Range>,
    pub gauge: Option<GaugeExplanation>,
}

/// How a gauge stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeExplanation {
    pub learning: bool,
    pub firing: bool,
    /// It fires in a direction that its rule does not tell of: below what is usual.
    pub ignored: bool,
    /// ln of the evidence, and of what is needed to fire.
    pub log_evidence: f64,
    pub log_needed: f64,
    /// What speaks most against the expected range: its direction, since when, and the calls and events since then.
    pub leaning: Option<Leaning>,
    pub calls_per_minute: f64,
    /// Of calls of one tick, and how many times more sums over minutes and hours vary than those of independent calls.
    pub correlation: f64,
    pub dispersion: f64,
    /// What a change needs to be proven, at this traffic.
    pub delay: Option<Delay>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaning {
    pub direction: Direction,
    pub since: Timestamp,
    pub log_evidence: f64,
    pub calls: f64,
    pub events: f64,
}

/// Mean times; one time in twenty it takes about twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    /// Until a doubling of the odds is proven, when that is within a year.
    #[serde(rename = "doubling_ms")]
    pub doubling: Option<Span>,
    /// The smallest of ×1.5, ×2, ×3, ×5, ×10, ×30 that is proven within a day.
    pub within_a_day: Option<f64>,
    /// A doubling lies within what may be usual: more calls would not prove it, more days will.
    pub unsure: bool,
}

/// What a gauge may be wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// `1 per day`
    pub false_alarms: String,
    /// The rule has it for itself.
    pub own: bool,
    /// Gauges that share it, in this environment.
    pub gauges: usize,
    /// The part of it that this environment has.
    pub share: f64,
    /// Days between false alarms of one gauge of this rule.
    pub days: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Below {
    pub group: Vec<(String, String)>,
    pub firing: bool,
    /// It is out of its range only in a direction that its rule does not tell of.
    pub ignored: bool,
    pub learning: bool,
    pub log_evidence: f64,
}

/// One rule of one environment, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleStanding {
    pub rule: String,
    pub environment: String,
    /// It is decided by its gauges; otherwise by its `check`, its objective or its values.
    pub by_drift: bool,
    pub nodes: usize,
    /// Nodes with a gauge: those that had a call of what is watched.
    pub gauged: usize,
    pub learning: usize,
    pub firing: usize,
    /// Nodes that are out of their range only in a direction that it does not tell of.
    pub ignored: usize,
    pub told: usize,
    pub budget: Budget,
    /// Of the whole environment, and the median of its groups.
    pub delay: Option<Delay>,
    pub median_delay: Option<Delay>,
}

/// Nodes named below one that is explained.
const BELOW_MAX: usize = 20;
/// Longer delays are not worth a number.
const DELAY_MAX_TICKS: f64 = 365.0 * DAY;

impl Machine {
    /// One node of a rule: a group by its labels, a parent by fewer. `None`: there is no such rule or node, or it has no gauge yet.
    pub fn explain(&self, rule: &str, environment: &str, labels: &Labels) -> Option<Explanation> {
        let index = self.plan.rules.iter().position(|known| known.name == rule)?;
        self.environments.get(environment)?.explain(&self.plan, index, labels)
    }

    /// Every rule in every environment that it watches.
    pub fn rules(&self) -> Vec<RuleStanding> {
        let of = |environment: &Environment| {
            let mine = self.plan.rules.iter().enumerate().filter(|(_, rule)| watches_environment(rule, &environment.name));
            mine.map(|(index, rule)| environment.standing(&self.plan, index, rule)).collect::<Vec<_>>()
        };
        self.environments.values().flat_map(of).collect()
    }

    /// What each watch of a node shows and is expected to show, by the rule's place in the plan: [`Self::explain`] without the costs of its words.
    pub fn seen(&self, rule: usize, environment: &str, labels: &Labels) -> Option<Vec<Observation>> {
        let environment = self.environments.get(environment)?;
        let (rule, index, at) = (self.plan.rules.get(rule)?, rule, number(environment.tick));
        let node = environment.trees.rules[index].nodes.get(labels);
        let sums = environment.sums(rule, index, labels)?;
        Some(observations(rule, &sums, node.map(|node| node.gauges.as_slice()), at, &mut Quantiles::new()))
    }

    /// Whether a rule has ranges to learn and knows none of them yet, in no environment and for no group.
    pub fn knows_nothing(&self, rule: usize) -> bool {
        let Some(known) = self.plan.rules.get(rule) else { return false };
        let learned = |watch: &Watch| watch.expect.is_none() && kind(known, watch).is_some();
        if !known.watches.iter().any(learned) {
            return false;
        }
        self.environments.values().all(|environment| {
            let at = number(environment.tick);
            let gauges = environment.trees.rules[rule].nodes.values().flat_map(|node| known.watches.iter().zip(&node.gauges));
            gauges.filter(|(watch, _)| learned(watch)).all(|(_, gauge)| gauge.as_ref().is_none_or(|gauge| gauge.standing(at).learning))
        })
    }

    /// The nodes of a rule in an environment, by labels: for lists and completions.
    pub fn nodes<'m>(&'m self, rule: &str, environment: &str) -> impl Iterator<Item = &'m Labels> + use<'m> {
        let index = self.plan.rules.iter().position(|known| known.name == rule);
        let tree = index.zip(self.environments.get(environment)).map(|(index, environment)| &environment.trees.rules[index]);
        tree.into_iter().flat_map(|tree| tree.nodes.keys())
    }
}

impl Environment {
    fn explain(&self, plan: &Plan, index: usize, labels: &Labels) -> Option<Explanation> {
        let (rule, tree, at) = (&plan.rules[index], &self.trees.rules[index], number(self.tick));
        let node = tree.nodes.get(labels)?;
        let ticks = self.trees.ticks(plan, &self.name, self.ordinal, index);
        let sums = self.sums(rule, index, labels);
        let seen = sums.as_ref().map(|sums| observations(rule, sums, Some(&node.gauges), at, &mut Quantiles::new()));
        let watches = rule.watches.iter().enumerate().filter(|(_, watch)| !watch.part).map(|(w, watch)| {
            let gauge = node.gauges[w].as_ref();
            WatchExplanation {
                name: watch.name.clone(),
                what: watch.statistic.describe(),
                of_what: watch.statistic.of_what().to_owned(),
                unit: watch.statistic.unit(),
                window: watch.window.to_string(),
                observation: seen.as_ref().map(|seen| seen[w].clone()).unwrap_or_default(),
                expected: watch.expect.or_else(|| usual(watch, gauge?, at)),
                gauge: gauge.map(|gauge| {
                    let standing = gauge.standing(at);
                    let needed = gauge.detector().threshold(at, ticks);
                    GaugeExplanation {
                        learning: standing.learning,
                        firing: standing.firing.is_some(),
                        ignored: standing.firing.is_some_and(|firing| rule.ignores(watch, firing.direction)),
                        log_evidence: standing.firing.map_or(libm::log(standing.evidence.max(1.0)), |firing| firing.log_evidence),
                        log_needed: standing.firing.map_or(libm::log(needed), |firing| firing.log_needed),
                        leaning: standing.best.map(|best| Leaning {
                            direction: best.direction,
                            since: start(best.since),
                            log_evidence: best.log_evidence,
                            calls: best.calls,
                            events: best.events,
                        }),
                        calls_per_minute: standing.calls_per_tick * per_minute(),
                        correlation: standing.excess.correlation,
                        dispersion: standing.excess.phi,
                        delay: delay(gauge, at, needed),
                    }
                }),
            }
        });
        let watches = watches.collect();
        let mut below: Vec<_> = tree
            .children(labels)
            .map(|(child, node)| Below {
                group: named(rule, child),
                firing: node.fires(rule),
                ignored: node.ignored(rule),
                learning: node.gauges.iter().flatten().any(|gauge| gauge.standing(at).learning),
                log_evidence: suspicion(rule, node),
            })
            .collect();
        below.sort_by(|a, b| b.log_evidence.total_cmp(&a.log_evidence));
        below.truncate(BELOW_MAX);
        Some(Explanation {
            rule: rule.name.clone(),
            environment: self.name.clone(),
            group: named(rule, labels),
            at: self.clock,
            by_drift: matches!(rule.decides, Decides::Drift),
            told: tree.told.contains(labels),
            watches,
            budget: self.budget(plan, index),
            below,
        })
    }

    fn budget(&self, plan: &Plan, index: usize) -> Budget {
        let rule = &plan.rules[index];
        let sharing = |known: &Rule| known.false_alarms.is_none() && watches_environment(known, &self.name);
        let gauges = match rule.false_alarms {
            Some(_) => self.trees.gauges(index),
            None => (0..plan.rules.len()).filter(|other| sharing(&plan.rules[*other])).map(|other| self.trees.gauges(other)).sum(),
        };
        Budget {
            false_alarms: rule.false_alarms.unwrap_or(plan.false_alarms).to_string(),
            own: rule.false_alarms.is_some(),
            gauges,
            share: environment_share(self.ordinal),
            days: self.trees.ticks(plan, &self.name, self.ordinal, index) / DAY,
        }
    }

    fn standing(&self, plan: &Plan, index: usize, rule: &Rule) -> RuleStanding {
        let (tree, at) = (&self.trees.rules[index], number(self.tick));
        let ticks = self.trees.ticks(plan, &self.name, self.ordinal, index);
        let first = rule.watches.iter().position(|watch| kind(rule, watch).is_some());
        let delays = |labels: &Labels| {
            let gauge = tree.nodes.get(labels)?.gauges[first?].as_ref()?;
            delay(gauge, at, gauge.detector().threshold(at, ticks))
        };
        let leaves = || tree.nodes.keys().filter(|labels| labels.len() == rule.group_by.len());
        let mut of_leaves: Vec<_> = leaves().filter_map(delays).collect();
        of_leaves.sort_by_key(|delay| delay.doubling.unwrap_or(Span::from_millis(u64::MAX)));
        let learning = tree.nodes.values().filter(|node| node.gauges.iter().flatten().any(|gauge| gauge.standing(at).learning)).count();
        RuleStanding {
            rule: rule.name.clone(),
            environment: self.name.clone(),
            by_drift: matches!(rule.decides, Decides::Drift) && first.is_some(),
            nodes: tree.nodes.len(),
            gauged: tree.nodes.values().filter(|node| node.gauges.iter().any(Option::is_some)).count(),
            learning,
            firing: tree.nodes.values().filter(|node| node.fires(rule)).count(),
            ignored: tree.nodes.values().filter(|node| node.ignored(rule)).count(),
            told: tree.told.len(),
            budget: self.budget(plan, index),
            delay: delays(&Labels::new()),
            median_delay: of_leaves.get(of_leaves.len() / 2).copied(),
        }
    }
}

fn delay(gauge: &crate::drift::gauge::Gauge, at: u32, needed: f64) -> Option<Delay> {
    let conditions = gauge.conditions(at, needed)?;
    let span = |ticks: f64| Span::from_millis((ticks * TICK.millis() as f64) as u64);
    Some(Delay {
        doubling: conditions.ticks(2.0).filter(|ticks| *ticks <= DELAY_MAX_TICKS).map(span),
        within_a_day: conditions.provable_within(DAY),
        unsure: conditions.guard >= std::f64::consts::LN_2,
    })
}

fn suspicion(rule: &Rule, node: &crate::tree::Node) -> f64 {
    let leanings = node.gauges.iter().zip(&rule.watches).filter_map(|(gauge, watch)| {
        let (direction, evidence) = gauge.as_ref()?.leaning()?;
        watch.hurts(direction).then_some(evidence)
    });
    leanings.fold(0.0, f64::max)
}

fn named(rule: &Rule, labels: &Labels) -> Vec<(String, String)> {
    rule.group_by.iter().map(ToString::to_string).zip(labels.iter().cloned()).collect()
}

fn per_minute() -> f64 {
    60_000.0 / TICK.millis() as f64
}
