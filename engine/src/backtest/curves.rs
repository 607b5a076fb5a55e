//! What the report draws: each watch of each node with its expected range over time, sampled often enough for a picture and no more.
//!
//! How long the calls span is not known before they are read, so it begins fine and halves its samples whenever there are twice as many as wanted.
//! While something fires, samples are finer and stay, so that a short alarm over a long time shows what it was for.

use crate::chart::Point;
use machine::{Machine, State};
use model::plan::TICK;
use model::{Labels, Span, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Samples of a curve at most: about one per two pixels.
pub const SAMPLES_MAX: usize = 600;
/// Nodes of a rule that are followed: far more than are drawn, because which will fire is not known.
const NODES_MAX: usize = 200;
/// Samples that stay: of what fires for longer than these last, the others show enough. Fewer than half of [`SAMPLES_MAX`], so that halving comes to
/// an end.
const KEPT_MAX: usize = 200;
const KEPT_EVERY: Span = Span::from_secs(60);

/// One node of a rule: index of the rule, environment, labels.
pub type Node = (usize, String, Labels);

#[derive(Debug)]
pub struct Curves {
    step: Span,
    next: Timestamp,
    /// Times of samples that stay, and when the next may be taken.
    kept: BTreeSet<Timestamp>,
    next_kept: Timestamp,
    /// When samples were taken.
    pub times: Vec<Timestamp>,
    /// By node: number of the sample, and a point for each watch.
    pub nodes: BTreeMap<Node, Vec<(usize, Vec<Point>)>>,
}

impl Default for Curves {
    fn default() -> Self {
        Self { step: TICK, next: Timestamp::EPOCH, kept: BTreeSet::new(), next_kept: Timestamp::EPOCH, times: Vec::new(), nodes: BTreeMap::new() }
    }
}

impl Curves {
    /// Takes a sample where one is due.
    pub fn sample(&mut self, machine: &Machine) {
        let Some(now) = machine.clocks().map(|(_, clock)| clock.floor(TICK)).max() else { return };
        let fires = now >= self.next_kept && self.kept.len() < KEPT_MAX && machine.alerts().any(|view| view.alert.state != State::Pending);
        if now < self.next && !fires || self.times.last().is_some_and(|last| *last >= now) {
            return;
        }
        let at = self.times.len();
        self.times.push(now);
        if fires {
            self.kept.insert(now);
            self.next_kept = now + KEPT_EVERY;
        }
        if now >= self.next {
            self.next = now.floor(self.step) + self.step;
        }
        let environments: Vec<_> = machine.clocks().map(|(name, _)| name.to_owned()).collect();
        for (index, rule) in machine.plan().rules.iter().enumerate() {
            let mut followed = self.nodes.range((index, String::new(), Labels::new())..(index + 1, String::new(), Labels::new())).count();
            for environment in &environments {
                for labels in machine.nodes(&rule.name, environment) {
                    let node = (index, environment.clone(), labels.clone());
                    if !self.nodes.contains_key(&node) {
                        if followed >= NODES_MAX {
                            continue;
                        }
                        followed += 1;
                    }
                    let Some(seen) = machine.seen(index, environment, labels) else { continue };
                    let points = seen.iter().map(|seen| Point { value: seen.value, expected: seen.expected, calls: seen.calls }).collect();
                    self.nodes.entry(node).or_default().push((at, points));
                }
            }
        }
        if self.times.len() >= 2 * SAMPLES_MAX {
            self.halve();
        }
    }

    /// To be called when all calls are read: at most [`SAMPLES_MAX`] samples are left.
    pub fn finish(&mut self) {
        while self.times.len() > SAMPLES_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.step = Span::from_millis(self.step.millis() * 2);
        // By sample: its new number.
        let mut left = Vec::new();
        let stays: Vec<_> = self
            .times
            .iter()
            .enumerate()
            .map(|(at, time)| {
                let stays = at % 2 == 0 || self.kept.contains(time);
                left.extend(stays.then_some(*time));
                stays.then(|| left.len() - 1)
            })
            .collect();
        self.times = left;
        for points in self.nodes.values_mut() {
            points.retain_mut(|(at, _)| {
                let new = stays[*at];
                *at = new.unwrap_or(*at);
                new.is_some()
            });
        }
        self.nodes.retain(|_, points| !points.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_keeps_every_second_sample_at_its_time_and_those_of_alarms() {
        let times: Vec<_> = (0..2 * SAMPLES_MAX as i64 + 1).map(|minute| Timestamp::from_millis(minute * 60_000).expect("a time")).collect();
        let point = |at: usize| (at, vec![Point { value: Some(times[at].millis() as f64), ..Point::default() }]);
        // A node that is there from the middle on.
        let points = (SAMPLES_MAX..times.len()).map(point).collect();
        let nodes = [((0, "p".to_owned(), Labels::new()), points)].into();
        let kept = BTreeSet::from([times[601], times[603]]);
        let mut curves = Curves { times: times.clone(), nodes, kept: kept.clone(), ..Curves::default() };
        curves.finish();
        assert!(kept.iter().all(|time| curves.times.contains(time)), "what fired is still there");
        assert!(curves.times.len() <= SAMPLES_MAX && curves.times.len() > SAMPLES_MAX / 4, "{}", curves.times.len());
        for (at, points) in curves.nodes.values().flatten() {
            assert_eq!(points[0].value, Some(curves.times[*at].millis() as f64));
        }
    }
}
