//! Who was hit: which runs and users had calls that show what a rule watches, and how many calls there were, by minute.
//!
//! The folding threads note it beside each batch ([`Scribe`]); [`Hits`] keeps it, within bounds, until it is known which alerts there are. Only rates
//! have calls that show something; of quantiles, means and volumes the drift alone says what it counted.

use crate::inspect::Inspector;
use model::fold::{Fold, ScriptView};
use model::plan::{Filter, SignalRef, fingerprint};
use model::signal::Signals;
use model::{CallLog, Key, Labels, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Bad calls that are kept with their run and user: 100 MB. Beyond it, runs and users are at least so many.
const HITS_MAX: usize = 4_000_000;
/// Minutes of groups that are kept with their calls: 100 MB at most. Beyond it, calls are at least so many.
const MINUTES_MAX: usize = 4_000_000;

/// The rates that a set of rules watches, and how to see them in a call.
#[derive(Debug)]
pub struct Watched {
    rates: Vec<Rate>,
}

#[derive(Debug)]
struct Rate {
    rule: u16,
    watch: u16,
    grouping: u16,
    /// Of the signal, among those of the grouping.
    position: usize,
    bit: Bit,
    /// The script that must take the call.
    script: Option<usize>,
    filter: Filter,
    only: Vec<(Key, Vec<String>)>,
    /// The same as positions of the grouping's labels.
    only_at: Vec<(usize, Vec<String>)>,
    keys: Vec<Key>,
    projection: Vec<usize>,
    environments: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Bit {
    BuiltIn(u32),
    User(u32),
}

/// One watch of one group of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    rule: u16,
    watch: u16,
    environment: String,
    labels: Labels,
}

/// A call that shows a watched signal. Hashes of 0 stand for none.
#[derive(Clone, Copy, Debug)]
struct Hit {
    minute: u32,
    run: u64,
    user: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    minute: u32,
    calls: u32,
    bad: u32,
}

/// What a batch says.
#[derive(Debug, Default)]
pub struct Notes {
    groups: Vec<Group>,
    hits: Vec<(u32, Hit)>,
    minutes: Vec<(u32, Minute)>,
}

/// Notes a batch, call by call, on the thread that folds it.
#[derive(Debug)]
pub struct Scribe<'w> {
    watched: &'w Watched,
    notes: Notes,
    known: HashMap<Group, u32>,
}

impl Watched {
    pub fn new(inspector: &Inspector) -> Self {
        let plan = &inspector.plan;
        let mut rates = Vec::new();
        for (rule_at, rule) in plan.rules.iter().enumerate() {
            for (watch_at, watch) in rule.watches.iter().enumerate() {
                let Some(signal) = watch.statistic.signal().filter(|_| !watch.part) else { continue };
                let grouping = &plan.groupings[watch.grouping];
                let Some(position) = grouping.signals.iter().position(|known| known == signal) else { continue };
                rates.push(Rate {
                    rule: rule_at as u16,
                    watch: watch_at as u16,
                    grouping: watch.grouping as u16,
                    position,
                    bit: match signal {
                        SignalRef::BuiltIn(signal) => Bit::BuiltIn(1 << signal.index()),
                        SignalRef::User(_, at) => Bit::User(1 << at),
                        // A verdict is no property of the call, and a run has many: the scribe sees calls alone.
                        SignalRef::Verdict(..) | SignalRef::Run(_) => continue,
                    },
                    script: grouping.script.map(|script| script.slot),
                    filter: grouping.filter.clone(),
                    only: watch.only.iter().map(|(at, values)| (grouping.keys[*at].clone(), values.clone())).collect(),
                    only_at: watch.only.clone(),
                    keys: rule.group_by.clone(),
                    projection: watch.projection.clone(),
                    environments: rule.environments.clone(),
                });
            }
        }
        Self { rates }
    }
}

impl Rate {
    fn is_for(&self, environment: &str) -> bool {
        self.environments.is_empty() || self.environments.iter().any(|known| known == environment)
    }

    fn shown_by(&self, call: &CallLog<'_>, signals: Signals, scripts: &[ScriptView]) -> bool {
        let of_slot = |slot: usize| scripts.binary_search_by_key(&slot, |script| script.slot).ok().map(|at| &scripts[at]);
        let script = self.script.and_then(of_slot);
        let holds = match self.bit {
            Bit::BuiltIn(bit) => signals.holds & bit != 0,
            Bit::User(bit) => script.is_some_and(|script| script.signals.holds & bit != 0),
        };
        holds
            && (self.script.is_none() || script.is_some_and(|script| script.applies))
            && self.is_for(&call.environment)
            && self.filter.lets_through(call)
            && self.only.iter().all(|(key, values)| values.iter().any(|value| *value == key.label(call)))
    }

    fn group(&self, environment: &str, labels: Labels) -> Group {
        Group { rule: self.rule, watch: self.watch, environment: environment.to_owned(), labels }
    }
}

impl<'w> Scribe<'w> {
    pub fn new(watched: &'w Watched) -> Self {
        Self { watched, notes: Notes::default(), known: HashMap::new() }
    }

    /// A call that counts at `time`.
    pub fn see(&mut self, call: &CallLog<'_>, time: Timestamp, signals: Signals, scripts: &[ScriptView]) {
        let watched = self.watched;
        for rate in watched.rates.iter().filter(|rate| rate.shown_by(call, signals, scripts)) {
            let labels = rate.keys.iter().map(|key| key.label(call).into_owned()).collect();
            let group = self.number(rate.group(&call.environment, labels));
            let hash = |text: &Option<model::call::Text<'_>>| text.as_deref().map_or(0, |text| fingerprint(&[text]).max(1));
            self.notes.hits.push((group, Hit { minute: minute(time), run: hash(&call.event_id), user: hash(&call.user_id) }));
        }
    }

    /// Adds how many calls there were, which the fold of the same calls knows.
    pub fn finish(mut self, fold: &Fold) -> Notes {
        let watched = self.watched;
        for environment in &fold.environments {
            let mut takers: HashMap<(u16, &Labels), Vec<(u32, usize)>> = HashMap::new();
            let mut sums: BTreeMap<(u32, u32), Minute> = BTreeMap::new();
            for cell in environment.ticks.iter().flat_map(|tick| &tick.cells) {
                let takers = takers.entry((cell.grouping, &cell.labels)).or_insert_with(|| {
                    let takes = |rate: &&Rate| {
                        rate.grouping == cell.grouping
                            && rate.is_for(&environment.name)
                            && rate.only_at.iter().all(|(at, values)| values.contains(&cell.labels[*at]))
                    };
                    let taking = watched.rates.iter().filter(takes);
                    let labels = |rate: &Rate| rate.projection.iter().map(|at| cell.labels[*at].clone()).collect();
                    taking.map(|rate| (self.number(rate.group(&environment.name, labels(rate))), rate.position)).collect()
                });
                let at = minute(cell.slice);
                for (group, position) in takers.iter() {
                    let ratio = cell.cell.ratios[*position];
                    if ratio.applies > 0 {
                        let sum = sums.entry((*group, at)).or_insert(Minute { minute: at, ..Minute::default() });
                        sum.calls = sum.calls.saturating_add(u32::try_from(ratio.applies).unwrap_or(u32::MAX));
                        sum.bad = sum.bad.saturating_add(u32::try_from(ratio.holds).unwrap_or(u32::MAX));
                    }
                }
            }
            self.notes.minutes.extend(sums.into_iter().map(|((group, _), sum)| (group, sum)));
        }
        self.notes
    }

    fn number(&mut self, group: Group) -> u32 {
        let groups = &mut self.notes.groups;
        *self.known.entry(group).or_insert_with_key(|group| {
            groups.push(group.clone());
            groups.len() as u32 - 1
        })
    }
}

/// Everything that was noted, by group.
#[derive(Debug, Default)]
pub struct Hits {
    known: HashMap<Group, usize>,
    kept: Vec<Kept>,
    hits: usize,
    minutes: usize,
    /// Something did not fit.
    cut: bool,
}

#[derive(Debug, Default)]
struct Kept {
    hits: Vec<Hit>,
    /// Ascending.
    minutes: Vec<Minute>,
}

/// What a watch saw of a group and those below it, in whole minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub calls: u64,
    pub bad: u64,
    /// `None` where no bad call names one.
    pub runs: Option<u64>,
    pub users: Option<u64>,
    /// There may be more.
    pub at_least: bool,
}

impl Hits {
    pub fn add(&mut self, notes: Notes) {
        let numbers: Vec<usize> = notes
            .groups
            .into_iter()
            .map(|group| {
                *self.known.entry(group).or_insert_with(|| {
                    self.kept.push(Kept::default());
                    self.kept.len() - 1
                })
            })
            .collect();
        for (group, hit) in notes.hits {
            if self.hits == HITS_MAX {
                self.cut = true;
                break;
            }
            self.hits += 1;
            self.kept[numbers[group as usize]].hits.push(hit);
        }
        for (group, sum) in notes.minutes {
            let minutes = &mut self.kept[numbers[group as usize]].minutes;
            // Late calls come after later ones, by little.
            let at = minutes.iter().rposition(|known| known.minute <= sum.minute);
            match at.filter(|at| minutes[*at].minute == sum.minute) {
                Some(at) => {
                    minutes[at].calls = minutes[at].calls.saturating_add(sum.calls);
                    minutes[at].bad = minutes[at].bad.saturating_add(sum.bad);
                }
                None if self.minutes == MINUTES_MAX => self.cut = true,
                None => {
                    self.minutes += 1;
                    minutes.insert(at.map_or(0, |at| at + 1), sum);
                }
            }
        }
    }

    /// What watch `watch` of rule `rule` saw of the groups that begin with `labels`, from the minute of `since` to that of `end`.
    pub fn tally(&self, rule: usize, watch: usize, environment: &str, labels: &[String], since: Timestamp, end: Timestamp) -> Tally {
        let within = minute(since)..=minute(end);
        let mine = |group: &Group| {
            usize::from(group.rule) == rule
                && usize::from(group.watch) == watch
                && group.environment == environment
                && group.labels.starts_with(labels)
        };
        let (mut calls, mut bad) = (0, 0);
        let (mut runs, mut users) = (HashSet::new(), HashSet::new());
        for kept in self.known.iter().filter(|(group, _)| mine(group)).map(|(_, at)| &self.kept[*at]) {
            let from = kept.minutes.partition_point(|known| known.minute < *within.start());
            for known in kept.minutes[from..].iter().take_while(|known| known.minute <= *within.end()) {
                calls += u64::from(known.calls);
                bad += u64::from(known.bad);
            }
            for hit in kept.hits.iter().filter(|hit| within.contains(&hit.minute)) {
                runs.insert(hit.run);
                users.insert(hit.user);
            }
        }
        let named = |mut hashes: HashSet<u64>| {
            hashes.remove(&0);
            (!hashes.is_empty()).then_some(hashes.len() as u64)
        };
        Tally { calls, bad, runs: named(runs), users: named(users), at_least: self.cut }
    }
}

fn minute(at: Timestamp) -> u32 {
    u32::try_from(at.millis().max(0) / 60_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(labels: &[&str], at: u32, runs: &[u64]) -> Notes {
        let labels = labels.iter().map(ToString::to_string).collect();
        Notes {
            groups: vec![Group { rule: 0, watch: 0, environment: "p".into(), labels }],
            hits: runs.iter().map(|run| (0, Hit { minute: at, run: *run, user: 0 })).collect(),
            minutes: vec![(0, Minute { minute: at, calls: 10, bad: runs.len() as u32 })],
        }
    }

    #[test]
    fn runs_are_counted_once_over_all_groups_below_and_within_the_time_alone() {
        let mut hits = Hits::default();
        for (labels, at, runs) in
            [(["a", "x"], 5, &[1, 2][..]), (["a", "y"], 6, &[2, 3]), (["b", "x"], 6, &[9]), (["a", "x"], 4, &[8]), (["a", "x"], 9, &[7])]
        {
            hits.add(notes(&labels, at, runs));
        }
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000 + 1).expect("it is a time");
        let a = hits.tally(0, 0, "p", &["a".into()], at(5), at(6));
        assert_eq!(a, Tally { calls: 20, bad: 4, runs: Some(3), users: None, at_least: false });
        assert_eq!(hits.tally(0, 0, "p", &[], at(4), at(9)).bad, 7);
        assert_eq!(hits.tally(0, 1, "p", &[], at(4), at(9)).calls, 0, "of another watch nothing was noted");
    }
}
