//! From closed ticks to alerts: rules look at their groups, answers come in, and alerts change in (tick, rule, group) order, those of
//! rules that are a consequence of others after the others.
//!
//! Rules that fire by their range are decided at once; a rule's own `check` is asked for and answered later. No alert of a tick changes before all
//! rules of that tick have answered, so the order of answers does not matter, and folding goes on meanwhile. Ticks that close meanwhile cannot know
//! which alerts there will be, so they list every group that has calls in its windows. A group that has none is not listed: of it, a tick says that
//! nothing is known.

use crate::alert::{Alert, Condition, Next, State, next};
use crate::effect::{CheckRequest, Effect, Hit, Notification, Observed, Reason};
use crate::environment::Environment;
use crate::ledger::Ledger;
use crate::observe::{burning, condition, observations, worse};
use crate::tree::{kind, number};
use crate::window::{Sum, watches_environment};
use model::plan::{Decides, NoData, Plan, Rule, Statistic, TICK, fingerprint};
use model::window::{Checked, Fire, GroupView, Observation};
use model::{Labels, Quantiles, Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Example calls an alert names.
const EXAMPLES_MAX: usize = 3;

/// A closed tick, or a stretch of them in which no window held a call: what its rules saw, and what they say about it as far as they have answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClosedTick {
    /// Its end.
    pub at: Timestamp,
    /// The end of the last tick of the stretch; mostly the same.
    pub last: Timestamp,
    pub rules: Vec<RuleTick>,
    /// Rules that say nothing, because their script did not see all of the tick.
    pub suspended: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleTick {
    pub rule: usize,
    /// In the order of their labels. Alerts of other groups hear that nothing is known.
    pub groups: Vec<GroupTick>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupTick {
    pub labels: Labels,
    pub observations: Vec<Observation>,
    pub examples: Vec<u64>,
    /// Where below it it is worst.
    pub hit: Vec<Hit>,
    /// `None` while the rule's `check` has not answered.
    pub condition: Option<Condition>,
}

impl GroupTick {
    /// Nothing is known of it.
    fn without_data(labels: Labels, condition: Condition) -> Self {
        Self { labels, observations: Vec::new(), examples: Vec::new(), hit: Vec::new(), condition: Some(condition) }
    }
}

impl Environment {
    /// Lets every rule look at the windows that end at `at`.
    pub(crate) fn decide(&mut self, plan: &Plan, at: Timestamp, scratch: &mut Quantiles, effects: &mut Vec<Effect>) {
        let certain = self.waiting.is_empty();
        let (mut rules, mut suspended) = (Vec::new(), Vec::new());
        for (index, rule) in plan.rules.iter().enumerate().filter(|(_, rule)| watches_environment(rule, &self.name) && looks(rule, at)) {
            if self.breakers.script_suspended(plan, rule, at) {
                suspended.push(index);
                continue;
            }
            if self.breakers.check_suspended(index, at) {
                continue;
            }
            let mut groups: Vec<GroupTick> = Vec::new();
            for labels in self.listed(rule, index) {
                let Some(sums) = self.sums(rule, index, &labels) else { continue };
                let empty = silent(rule, &sums);
                // `no_data` speaks of groups, not of their parents.
                let parent = labels.len() < rule.group_by.len();
                if empty && (parent || rule.no_data != NoData::Alert) {
                    continue;
                }
                let tree = &self.trees.rules[index];
                let gauges = tree.nodes.get(&labels).map(|node| &node.gauges);
                let observations = observations(rule, &sums, gauges.map(Vec::as_slice), number(at), scratch);
                let known = rule.watches.iter().zip(&observations).any(|(watch, seen)| !watch.part && seen.value.is_some());
                let unknown = empty || !known;
                if parent && unknown {
                    continue;
                }
                let told = tree.told.contains(&labels);
                let condition = match rule.decides {
                    _ if unknown => Some(Condition::Unknown),
                    Decides::Check(_) => None,
                    Decides::Drift => Some(condition(rule, &observations, told)),
                    Decides::Burn(objective) => Some(burning(rule, &objective, tree.burns(rule, &labels))),
                };
                // Nothing begins, goes on or ends here: most groups, most of the time.
                let alert = self.alerts[index].get(&labels);
                if certain && alert.is_none() && matches!(condition, Some(Condition::Clear)) {
                    continue;
                }
                let wanted = !certain || alert.is_none_or(|alert| alert.state == State::Pending);
                let wanted = wanted && !matches!(condition, Some(Condition::Clear | Condition::Unknown));
                let examples = if wanted { self.examples(plan, rule, index, &labels, at) } else { Vec::new() };
                let hit = if wanted && parent { self.trees.rules[index].hit(rule, &labels) } else { Vec::new() };
                groups.push(GroupTick { labels, observations, examples, hit, condition });
            }
            if !groups.is_empty() {
                rules.push(RuleTick { rule: index, groups });
            }
        }
        if rules.is_empty() && certain && self.alerts.iter().all(BTreeMap::is_empty) {
            return;
        }
        let closed = ClosedTick { at, last: at, rules, suspended };
        self.ask(&closed, effects);
        self.waiting.push_back(closed);
    }

    /// The nodes that a rule looks at: every group, or only those that are told where its gauges say which.
    fn listed(&self, rule: &Rule, index: usize) -> BTreeSet<Labels> {
        let tree = &self.trees.rules[index];
        let groups = || self.windows.rules[index].iter().map(|(labels, _)| labels.clone());
        if matches!(rule.decides, Decides::Check(_)) {
            return groups().collect();
        }
        let mut listed: BTreeSet<Labels> = tree.told.iter().chain(self.alerts[index].keys()).cloned().collect();
        // Alerts that there may be by then, when the ticks before have their answers.
        let waiting = self.waiting.iter().flat_map(|closed| &closed.rules).filter(|tick| tick.rule == index);
        listed.extend(waiting.flat_map(|tick| &tick.groups).map(|group| group.labels.clone()));
        if rule.no_data == NoData::Alert
            || rule.watches.iter().any(|watch| kind(rule, watch).is_none() && !watch.tells_only() && !matches!(rule.decides, Decides::Burn(_)))
        {
            listed.extend(groups());
        }
        listed
    }

    /// What the windows of a node hold; `None` when it has no groups any more.
    pub(crate) fn sums(&self, rule: &Rule, index: usize, labels: &Labels) -> Option<Vec<Sum>> {
        let mut groups = self.windows.rules[index].under(labels).map(|(_, group)| group);
        let mut sums = groups.next()?.sums.clone();
        for group in groups {
            sums.iter_mut().zip(&group.sums).for_each(|(mine, theirs)| mine.merge(theirs));
        }
        debug_assert_eq!(sums.len(), rule.watches.len());
        Some(sums)
    }

    /// Closes the open tick and those after it up to `last`, of which no rule has anything to say.
    pub(crate) fn decide_nothing(&mut self, last: Timestamp) {
        if !self.waiting.is_empty() || !self.alerts.iter().all(BTreeMap::is_empty) {
            self.waiting.push_back(ClosedTick { at: self.tick + TICK, last, rules: Vec::new(), suspended: Vec::new() });
        }
    }

    /// Asks for the checks of a closed tick that have no answer yet.
    pub(crate) fn ask(&self, closed: &ClosedTick, effects: &mut Vec<Effect>) {
        for tick in &closed.rules {
            let view = |group: &GroupTick| GroupView {
                environment: self.name.clone(),
                at: closed.at,
                labels: group.labels.clone(),
                observations: group.observations.clone(),
            };
            let groups: Vec<_> = tick.groups.iter().filter(|group| group.condition.is_none()).map(view).collect();
            if !groups.is_empty() {
                effects.push(Effect::Check(CheckRequest { environment: self.name.clone(), at: closed.at, rule: tick.rule, groups }));
            }
        }
    }

    /// The answer to a [`CheckRequest`]: one result per group asked for, in order.
    pub(crate) fn answer(&mut self, plan: &Plan, at: Timestamp, rule: usize, results: Vec<Checked>) {
        let Some(tick) = self.waiting.iter_mut().find(|closed| closed.at == at).and_then(|closed| closed.rules.iter_mut().find(|t| t.rule == rule))
        else {
            return;
        };
        let asked = tick.groups.iter_mut().filter(|group| group.condition.is_none());
        for (group, result) in asked.zip(results) {
            group.condition = Some(match result {
                Checked::Quiet => Condition::Clear,
                Checked::Fire(Fire { summary, severity, labels }) => {
                    Condition::Breach { summary, severity: severity.unwrap_or(plan.rules[rule].severity), labels }
                }
                Checked::Failed(_) => Condition::Failed,
                Checked::Exhausted(_) => Condition::Exhausted,
            });
        }
    }

    /// Applies every closed tick at the front whose rules have all answered. Rules that have been suspended since they were asked need not answer: what
    /// they say is ignored.
    pub(crate) fn settle(&mut self, plan: &Plan, ledger: &mut Ledger, effects: &mut Vec<Effect>) {
        let answered = |tick: &RuleTick| tick.groups.iter().all(|group| group.condition.is_some());
        while self
            .waiting
            .front()
            .is_some_and(|closed| closed.rules.iter().all(|tick| answered(tick) || self.breakers.check_suspended(tick.rule, closed.at)))
        {
            let ClosedTick { at, last, mut rules, mut suspended } = self.waiting.pop_front().expect("the front was just looked at");
            suspended.extend((0..plan.rules.len()).filter(|rule| self.breakers.check_suspended(*rule, at)));
            rules.retain(|tick| !suspended.contains(&tick.rule));
            for tick in rules.iter().filter(|tick| matches!(plan.rules[tick.rule].decides, Decides::Check(_))) {
                self.count_failures(plan, tick, at, ledger, effects);
            }
            self.settle_one(plan, at, rules, &suspended, effects);
            let mut at = at;
            // Bounded by the day after which an alert goes quiet, because alerts that last in silence are left alone.
            while at < last && !self.unmoved_by_silence(plan) {
                at = at + TICK;
                let suspended: Vec<_> = (0..plan.rules.len()).filter(|rule| self.breakers.check_suspended(*rule, at)).collect();
                self.settle_one(plan, at, Vec::new(), &suspended, effects);
            }
        }
    }

    /// Counts the checks of a rule that failed; too many that used up their budget suspend it.
    fn count_failures(&mut self, plan: &Plan, tick: &RuleTick, at: Timestamp, ledger: &mut Ledger, effects: &mut Vec<Effect>) {
        let answers = || tick.groups.iter().filter_map(|group| group.condition.as_ref()).filter(|answer| **answer != Condition::Unknown);
        let failed = answers().filter(|answer| **answer == Condition::Failed).count() as u64;
        let exhausted = answers().filter(|answer| **answer == Condition::Exhausted).count() as u64;
        if failed + exhausted > 0 {
            *ledger.check_failures.entry(plan.rules[tick.rule].name.clone()).or_default() += failed + exhausted;
        }
        if answers().next().is_some() {
            self.looked(plan, tick.rule, at, exhausted, effects);
        }
    }

    fn unmoved_by_silence(&self, plan: &Plan) -> bool {
        let lasts = |alert: &Alert| matches!(alert.state, State::Firing { clear: None, .. });
        let mut rules = self.alerts.iter().zip(&plan.rules);
        rules.all(|(alerts, rule)| alerts.is_empty() || rule.no_data == NoData::Alert && rule.repeat.is_none() && alerts.values().all(lasts))
    }

    fn settle_one(&mut self, plan: &Plan, at: Timestamp, rules: Vec<RuleTick>, suspended: &[usize], effects: &mut Vec<Effect>) {
        let mut listed = rules.into_iter().peekable();
        let mut ticks: Vec<_> = (0..plan.rules.len()).map(|index| listed.next_if(|tick| tick.rule == index).map(|tick| tick.groups)).collect();
        // What others are a consequence of comes first, so that both can begin at one tick and one is told.
        let (causes, consequences): (Vec<_>, Vec<_>) = (0..plan.rules.len()).partition(|index| plan.rules[*index].inhibit_by.is_empty());
        for index in causes.into_iter().chain(consequences) {
            let rule = &plan.rules[index];
            // Between its looks a rule says nothing, not even that nothing is known.
            if !looks(rule, at) {
                continue;
            }
            let mut groups = ticks[index].take().unwrap_or_default();
            let unlisted = self.alerts[index].keys().filter(|labels| groups.binary_search_by(|group| group.labels.cmp(labels)).is_err());
            let says = if suspended.contains(&index) { Condition::Failed } else { Condition::Unknown };
            let unlisted: Vec<_> = unlisted.cloned().map(|labels| GroupTick::without_data(labels, says.clone())).collect();
            if !unlisted.is_empty() {
                groups.extend(unlisted);
                groups.sort_by(|a, b| a.labels.cmp(&b.labels));
            }
            for group in groups {
                self.change(plan, index, at, group, effects);
            }
        }
    }

    /// Whether an alert of a rule that this one is a consequence of fires for the same labels, as far as both have the same keys.
    fn inhibited(&self, plan: &Plan, rule: &Rule, labels: &Labels) -> bool {
        let causes = plan.rules.iter().zip(&self.alerts).filter(|(cause, _)| rule.inhibit_by.contains(&cause.name));
        causes.into_iter().any(|(cause, alerts)| {
            let mut firing = alerts.iter().filter(|(_, alert)| matches!(alert.state, State::Firing { .. }));
            firing.any(|(theirs, _)| {
                let mut shared = cause.group_by.iter().zip(theirs);
                shared.all(|(key, label)| rule.group_by.iter().zip(labels).all(|(mine, own)| mine != key || own == label))
            })
        })
    }

    fn change(&mut self, plan: &Plan, index: usize, at: Timestamp, group: GroupTick, effects: &mut Vec<Effect>) {
        let rule = &plan.rules[index];
        let condition = group.condition.expect("settled ticks are answered");
        let labels = group.labels;
        let mut step = next(self.alerts[index].get(&labels), &condition, rule, at);
        if matches!(step, Next::BeginAndFire | Next::Fire) && self.inhibited(plan, rule, &labels) {
            step = if step == Next::Fire { Next::Stay } else { Next::Begin };
        }
        if matches!(step, Next::Begin | Next::BeginAndFire) {
            let id = alert_id(rule, &self.name, &labels, at);
            self.alerts[index].insert(labels.clone(), Alert::begun(id, at, rule.severity));
        }
        let Some(alert) = self.alerts[index].get_mut(&labels) else { return };
        if !matches!(condition, Condition::Unknown | Condition::Failed | Condition::Exhausted) {
            alert.heard = at;
            alert.observations = group.observations;
            if alert.state == State::Pending {
                alert.examples = group.examples;
                alert.hit = group.hit;
            }
        }
        match condition {
            Condition::Breach { summary, severity, labels } => {
                (alert.summary, alert.severity, alert.labels) = (summary, severity, labels);
                let drifts = rule.decides == Decides::Drift;
                let deciding = alert.observations.iter().zip(&rule.watches).filter(|(_, watch)| !(drifts && watch.tells_only()));
                if let Some(seen) = deciding.map(|(seen, _)| seen.clone()).reduce(|a, b| worse(Some(a), b)) {
                    alert.worst = Some(worse(alert.worst.take(), seen));
                }
            }
            Condition::Unknown if alert.summary.is_empty() => alert.summary = "no data".to_owned(),
            _ => {}
        }
        let tell = |alert: &Alert, reason| Effect::Notify(notification(rule, &self.name, &labels, alert, reason, at));
        match step {
            Next::Nothing | Next::Begin | Next::Stay => {}
            Next::Repeat => {
                if let State::Firing { told, .. } = &mut alert.state {
                    *told = at;
                }
                alert.repeats += 1;
                alert.told_severity = alert.told_severity.max(alert.severity);
                effects.push(tell(alert, Reason::Repeated));
            }
            Next::BeginAndFire | Next::Fire => {
                alert.state = State::Firing { since: at, clear: None, told: at };
                alert.told_severity = alert.severity;
                effects.push(tell(alert, Reason::Fired));
            }
            Next::Clearing | Next::Again => {
                if let State::Firing { clear, .. } = &mut alert.state {
                    *clear = (step == Next::Clearing).then_some(at);
                }
            }
            Next::Drop => {
                self.alerts[index].remove(&labels);
            }
            Next::End(reason) => {
                effects.push(tell(alert, reason));
                self.alerts[index].remove(&labels);
            }
        }
    }

    /// Ends an alert because what it shows is normal from now on.
    pub(crate) fn adopt_alert(&mut self, plan: &Plan, alert_id: &str, effects: &mut Vec<Effect>) {
        let Some((index, labels)) = self.adoptable(plan, alert_id) else { return };
        self.trees.rules[index].adopt_node(number(self.tick), &labels);
        // What closed ticks saw of it is out of date.
        for tick in self.waiting.iter_mut().flat_map(|closed| &mut closed.rules).filter(|tick| tick.rule == index) {
            tick.groups.retain(|group| group.labels != labels);
        }
        if let Some(alert) = self.alerts[index].remove(&labels)
            && alert.state != State::Pending
        {
            effects.push(Effect::Notify(notification(&plan.rules[index], &self.name, &labels, &alert, Reason::Adopted, self.tick)));
        }
    }

    /// The rule and node of an alert, when a learned range was left there.
    pub(crate) fn adoptable(&self, plan: &Plan, alert_id: &str) -> Option<(usize, Labels)> {
        let of = |index: usize| self.alerts[index].iter().find(|(_, alert)| alert.id == alert_id).map(|(labels, _)| (index, labels.clone()));
        let (index, labels) = (0..plan.rules.len()).find_map(of)?;
        let node = self.trees.rules[index].nodes.get(&labels)?;
        let mut gauges = plan.rules[index].watches.iter().zip(&node.gauges).filter(|(watch, _)| watch.expect.is_none());
        gauges.any(|(_, gauge)| gauge.as_ref().is_some_and(|gauge| gauge.detector().firing().is_some())).then_some((index, labels))
    }

    /// Calls in the window that show the trouble, newest slices first.
    fn examples(&self, plan: &Plan, rule: &Rule, index: usize, labels: &Labels, at: Timestamp) -> Vec<u64> {
        let mut found = Vec::new();
        let members: Vec<_> = self.windows.rules[index].under(labels).flat_map(|(_, group)| &group.members).collect();
        for (start, slice) in self.slices.iter().rev() {
            for (watch_at, number) in &members {
                let watch = &rule.watches[usize::from(*watch_at)];
                let Some(signal) = watch.statistic.signal() else { continue };
                if watch.offset > Span::ZERO || *start < at - watch.window {
                    continue;
                }
                let Some(cell) = slice.cells.get(&(watch.grouping as u16, *number)) else { continue };
                let position = plan.groupings[watch.grouping].signals.iter().position(|known| known == signal);
                found.extend(cell.examples.iter().filter(|(at, _)| Some(usize::from(*at)) == position).map(|(_, sequence)| *sequence));
            }
            // Looked at per slice, so that the order of the members does not matter.
            if found.len() >= EXAMPLES_MAX {
                break;
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        found.truncate(EXAMPLES_MAX);
        found
    }
}

/// Whether no watch of the rule has calls in its window. Those of the past alone are no reason to look.
fn silent(rule: &Rule, sums: &[Sum]) -> bool {
    rule.watches.iter().zip(sums).filter(|(watch, _)| !watch.part).all(|(watch, sum)| match watch.statistic {
        Statistic::Ratio { above, below, .. } => sums[above].is_empty() && sums[below].is_empty(),
        _ => sum.is_empty(),
    })
}

/// Whether a rule looks at windows that end at `at`.
fn looks(rule: &Rule, at: Timestamp) -> bool {
    at.floor(rule.every) == at
}

/// Rule, group and the tick it began, in 16 hexadecimal digits.
fn alert_id(rule: &Rule, environment: &str, labels: &Labels, began: Timestamp) -> String {
    let (text, began) = (format!("{:016x}", rule.fingerprint), began.to_string());
    let mut parts = vec![rule.name.as_str(), &text, environment, &began];
    parts.extend(labels.iter().map(String::as_str));
    format!("{:016x}", fingerprint(&parts))
}

/// What is told about an alert. Its id is the alert's and the reason.
pub(crate) fn notification(rule: &Rule, environment: &str, labels: &Labels, alert: &Alert, reason: Reason, at: Timestamp) -> Notification {
    let fired = match alert.state {
        State::Firing { since, .. } => since,
        State::Pending => at,
    };
    let shown = rule.watches.iter().zip(&alert.observations).filter(|(watch, _)| !watch.part);
    let observed = shown.map(|(watch, observation)| Observed {
        watch: watch.name.clone(),
        what: watch.statistic.describe(),
        unit: watch.statistic.unit(),
        window: watch.window.to_string(),
        of_what: watch.statistic.of_what().to_owned(),
        observation: observation.clone(),
    });
    // Each reason is given once in an alert's life, but for repeats.
    let ordinal = if reason == Reason::Repeated { format!("-{}", alert.repeats) } else { String::new() };
    Notification {
        id: format!("{}-{}{ordinal}", alert.id, reason.name()),
        reason,
        at,
        alert_id: alert.id.clone(),
        rule: rule.name.clone(),
        severity: alert.severity,
        environment: environment.to_owned(),
        group: rule.group_by.iter().map(ToString::to_string).zip(labels.iter().cloned()).collect(),
        summary: alert.summary.clone(),
        observed: observed.collect(),
        began: alert.began,
        fired,
        worst: alert.worst.clone(),
        labels: alert.labels.clone(),
        actions: rule.actions.clone(),
        owner: rule.owner.clone(),
        examples: alert.examples.clone(),
        hit: alert.hit.clone(),
        channel: rule.channel.clone(),
        runbook: rule.runbook.clone(),
    }
}
