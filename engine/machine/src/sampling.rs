//! Which calls a judge sees: a sample whose probabilities are known, spread over groups, within a number of calls a minute.
//!
//! When a tick closes, each group of calls that are alike has a wanted number, from what earlier ticks had of it: its share of the traffic at the
//! judge's rate, at least its minimum and at most its maximum, all scaled to what fits in a minute. That makes a probability for the group, and the
//! calls of the group whose draw lies below it are chosen. Should chance choose more than fits, the probabilities of all groups shrink by one factor
//! until they fit, which is how the cap holds; this is priority sampling, and the shrunk probability is the one that counts (Duffield, Lund, Thorup, "Priority sampling for
//! estimation of arbitrary subset sums", JACM 54, 2007).
//!
//! So who is judged depends on calls and past ticks alone: not on how long an answer takes, nor on where batches are cut.
//! Deliberately absent: asking, and what it costs. Those are the engine's.

use crate::machine::OTHER;
use model::fold::{Candidate, Counted, Offer};
use model::plan::TICK;
use model::verdict::{Inclusion, Judge, Sampling};
use model::{Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Groups that one judge tells apart in one environment; calls of further groups are one group, `(other)`.
const GROUPS_MAX: usize = 256;
/// A group without calls for a day is forgotten.
const FORGET_AFTER: u32 = 8_640;
/// What a group's traffic is expected to be follows what it was, with this weight on the newest tick: half of it is five minutes old.
const NEWEST: f64 = 0.022_8;
const TICKS_PER_MINUTE: f64 = 6.0;
/// More is wanted than fits, by this factor: chance chooses fewer in one tick than in another, and the cap takes what is too much.
const WANTED: f64 = 1.3;
/// Chosen calls that wait for their verdict: ten minutes' worth, and at most this many. The rest is skipped, and counted so.
const WAITING_MAX: usize = 10_000;

/// One judge in one environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sampler {
    /// Sixths of calls that may still be chosen: a minute has six ticks.
    tokens: u32,
    /// The last tick that was closed, by number.
    closed: u32,
    groups: BTreeMap<Group, Traffic>,
    /// Of the open tick.
    open: BTreeMap<Group, Offer>,
    /// Chosen, and not judged yet, by sequence.
    pub waiting: BTreeMap<u64, Waiting>,
}

/// Whether the judge is to see all of them, and their labels.
type Group = (bool, Labels);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Traffic {
    /// Calls a tick that are expected.
    expected: f64,
    /// Ticks that this rests on, up to where newer ones push older ones out.
    ticks: u32,
    heard: u32,
    /// The probability in the last tick with calls.
    probability: f64,
    calls: u64,
    chosen: u64,
}

/// A chosen call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub inclusion: Inclusion,
    /// End of the tick in which it was chosen.
    pub at: Timestamp,
    pub groups: Counted,
}

/// How a judge's sample is spread, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sampled {
    pub judge: String,
    pub environment: String,
    /// Key and label.
    pub group: Vec<(String, String)>,
    pub always: bool,
    /// That the judge could have seen, and that were chosen for it, since the group is known.
    pub calls: u64,
    pub chosen: u64,
    pub calls_per_minute: f64,
    /// In the last tick with calls.
    pub probability: f64,
}

impl Sampler {
    /// A batch's calls of the open tick.
    pub fn offer(&mut self, judge: &Judge, mut offer: Offer) {
        let most = judge.sampling.most_per_tick();
        if !self.groups.contains_key(&(offer.always, offer.labels.clone())) && self.groups.len() + self.open.len() >= GROUPS_MAX {
            offer.labels.iter_mut().for_each(|label| OTHER.clone_into(label));
        }
        let group = (offer.always, offer.labels.clone());
        match self.open.get_mut(&group) {
            Some(known) => known.merge(offer, most),
            None => {
                self.open.insert(group, offer);
            }
        }
    }

    /// Closes tick number `tick` and says which of its calls are chosen, by sequence.
    pub fn close(&mut self, judge: &Judge, tick: u32) -> Vec<(u64, Inclusion, Counted)> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let sampling = &judge.sampling;
        let passed = tick.saturating_sub(self.closed);
        // The most that may be chosen in a tick, and never more than that is saved up.
        let most = 6 * sampling.most_per_tick() as u32;
        self.tokens = if self.closed == 0 { most } else { self.tokens.saturating_add(sampling.per_minute.saturating_mul(passed)).min(most) };
        self.closed = tick;
        let wanted = self.wanted(sampling, tick);
        let open = std::mem::take(&mut self.open);
        let room = (self.tokens / 6) as usize;
        let mut ranked: Vec<(f64, u64, f64, Group, Candidate)> = Vec::new();
        for (group, offer) in open {
            // A group not seen before has no past, and is taken whole.
            let traffic = self.groups.get(&group).map(|traffic| traffic.wants(sampling, group.0, tick));
            let probability = traffic.map_or(1.0, |(expected, low, want)| wanted.probability(expected, low, want));
            self.hear(&group, offer.calls, probability, tick);
            let rank = |candidate: &Candidate| candidate.draw as f64 / 2f64.powi(64) / probability;
            let within = offer.candidates.into_iter().map(|candidate| (rank(&candidate), candidate)).filter(|(rank, _)| *rank < 1.0);
            ranked.extend(within.map(|(rank, candidate)| (rank, candidate.sequence, probability, group.clone(), candidate)));
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let shrunk = ranked.get(room).map_or(1.0, |(rank, ..)| *rank);
        let mut chosen = Vec::new();
        for (_, sequence, probability, group, candidate) in ranked {
            let inclusion = Inclusion::at_most(probability * shrunk);
            if inclusion.takes(candidate.draw) && chosen.len() < room {
                self.groups.entry(group).or_default().chosen += 1;
                chosen.push((sequence, inclusion, candidate.groups));
            }
        }
        self.tokens -= 6 * chosen.len() as u32;
        chosen.sort_by_key(|(sequence, ..)| *sequence);
        chosen
    }

    /// What groups want together of a tick, from what earlier ticks had of each: at least, and at their rates.
    fn wanted(&self, sampling: &Sampling, tick: u32) -> Wanted {
        // Of every group that may have calls in a tick, those without any now included.
        let each = self.groups.iter().map(|((always, _), traffic)| traffic.wants(sampling, *always, tick));
        let (floor, whole) = each.fold((0.0, 0.0), |(floor, whole), (_, low, want)| (floor + low, whole + want));
        Wanted { floor, whole, budget: WANTED * f64::from(sampling.per_minute) / TICKS_PER_MINUTE }
    }

    fn hear(&mut self, group: &Group, calls: u64, probability: f64, tick: u32) {
        if !self.groups.contains_key(group) && self.groups.len() >= GROUPS_MAX / 2 {
            self.groups.retain(|_, traffic| tick.saturating_sub(traffic.heard) < FORGET_AFTER);
        }
        let traffic = self.groups.entry(group.clone()).or_default();
        let before = traffic.at(tick);
        traffic.ticks = (traffic.ticks + 1).min((1.0 / NEWEST) as u32);
        let newest = 1.0 / f64::from(traffic.ticks);
        traffic.expected = before + newest * (calls as f64 - before);
        (traffic.heard, traffic.probability) = (tick, probability);
        traffic.calls += calls;
    }

    /// Whether one more may wait. `per_minute`: of the judge.
    pub fn has_room(&self, per_minute: u32) -> bool {
        self.waiting.len() < (per_minute as usize * 10).min(WAITING_MAX)
    }

    /// How its sample is spread.
    pub fn sampled(&self, judge: &Judge, environment: &str) -> Vec<Sampled> {
        let keys = || judge.sampling.by.iter().map(ToString::to_string);
        let one = |((always, labels), traffic): (&Group, &Traffic)| Sampled {
            judge: judge.name.clone(),
            environment: environment.to_owned(),
            group: keys().zip(labels.iter().cloned()).collect(),
            always: *always,
            calls: traffic.calls,
            chosen: traffic.chosen,
            calls_per_minute: traffic.at(self.closed) * TICKS_PER_MINUTE,
            probability: traffic.probability,
        };
        self.groups.iter().map(one).collect()
    }

    /// Goes on under another plan. `to`: where a grouping is now, if it is. Returns what waited in vain.
    pub fn adopt(&mut self, same_judge: bool, same_keys: bool, to: impl Fn(u16) -> Option<u16>) -> usize {
        if !same_keys {
            self.groups.clear();
        }
        // A tick's offers name groupings by number, too. They are few, and the tick's other calls make up for them.
        self.open.clear();
        let waited = self.waiting.len();
        self.waiting.retain(|_, waiting| {
            // A verdict counts wherever it was to count, or not at all. One that no rule asks about counts in the ledger alone.
            let moved: Option<Counted> = waiting.groups.iter().map(|(at, labels)| Some((to(*at)?, labels.clone()))).collect();
            let kept = same_judge && moved.is_some();
            waiting.groups = moved.unwrap_or_default();
            kept
        });
        waited - self.waiting.len()
    }
}

/// Calls of a tick that all groups want.
struct Wanted {
    floor: f64,
    whole: f64,
    budget: f64,
}

impl Wanted {
    /// Of a group that expects so many calls, and wants so many of them at least and at its rate.
    fn probability(&self, expected: f64, low: f64, want: f64) -> f64 {
        let fitting = if self.whole <= self.budget {
            want
        } else if self.floor >= self.budget {
            low * self.budget / self.floor
        } else {
            low + (want - low) * (self.budget - self.floor) / (self.whole - self.floor)
        };
        if expected > 0.0 { (fitting / expected).min(1.0) } else { 1.0 }
    }
}

impl Traffic {
    /// Calls of a tick that are expected, and how many of them the judge is to see at least, and at its rate.
    fn wants(&self, sampling: &Sampling, always: bool, tick: u32) -> (f64, f64, f64) {
        let expected = self.at(tick);
        let (least, most) = (f64::from(sampling.group_min) / TICKS_PER_MINUTE, f64::from(sampling.group_max) / TICKS_PER_MINUTE);
        let share = if always { expected } else { (expected * sampling.rate).max(least) };
        (expected, least.min(expected), share.min(most).min(expected))
    }

    /// What is expected of it at `tick`: less with every tick without calls.
    fn at(&self, tick: u32) -> f64 {
        let silent = tick.saturating_sub(self.heard).saturating_sub(1).min(FORGET_AFTER);
        self.expected * libm::pow(1.0 - NEWEST, f64::from(silent))
    }
}

/// The end of tick number `tick`.
pub(crate) fn end_of(tick: u32) -> Timestamp {
    crate::tree::start(tick) + TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(sampling: Sampling) -> Judge {
        Judge { name: "j".into(), fingerprint: 1, applies: Default::default(), environments: Vec::new(), sampling }
    }

    /// As good as random, and the same in every run.
    fn draw_of(sequence: u64) -> u64 {
        model::verdict::draw_of_run(&sequence.to_string())
    }

    /// Calls a tick of each group, for so many ticks; what was chosen of each in every tick after the first minute.
    fn run(sampling: Sampling, traffic: &[(&str, u64)], ticks: u32) -> Vec<Vec<(u64, Inclusion)>> {
        let (judge, mut sampler) = (judge(sampling), Sampler::default());
        let most = judge.sampling.most_per_tick();
        let mut chosen = vec![Vec::new(); traffic.len()];
        let mut sequence = 0;
        for tick in 1..=ticks {
            for (group, (label, calls)) in traffic.iter().enumerate() {
                for _ in 0..*calls {
                    sequence += 1;
                    let candidate = Candidate { draw: draw_of(sequence), sequence, groups: [(group as u16, Vec::new())].into() };
                    let labels = vec![(*label).to_owned()];
                    let mut offer = Offer { judge: 0, always: *label == "always", labels, calls: 1, candidates: Vec::new() };
                    offer.merge(Offer { candidates: vec![candidate], calls: 0, ..offer.clone() }, most);
                    sampler.offer(&judge, offer);
                }
            }
            let taken = sampler.close(&judge, tick);
            assert!(taken.len() <= most, "{} were chosen in a tick", taken.len());
            for (_, inclusion, groups) in taken.into_iter().filter(|_| tick > 6) {
                chosen[usize::from(groups[0].0)].push((u64::from(tick), inclusion));
            }
        }
        chosen
    }

    /// Calls that the chosen stand for, as a share of those there were.
    fn stands_for(chosen: &[(u64, Inclusion)], calls: u64, ticks: u32) -> f64 {
        chosen.iter().map(|(_, inclusion)| inclusion.weight()).sum::<f64>() / (calls as f64 * f64::from(ticks - 6))
    }

    #[test]
    fn no_minute_has_more_than_the_cap_and_little_of_it_is_left_unused() {
        let ticks = 606;
        let chosen = run(Sampling { rate: 1.0, per_minute: 60, ..Sampling::default() }, &[("a", 200), ("b", 20)], ticks);
        let all: usize = chosen.iter().map(Vec::len).sum();
        assert!((5_000..=6_000).contains(&all), "{all} of 6000 in a hundred minutes");
        for minute in 1..=100u64 {
            let mine = chosen.iter().flatten().filter(|(tick, _)| (minute * 6 + 1..=minute * 6 + 6).contains(tick)).count();
            assert!(mine <= 60 + 21, "{mine} in minute {minute}");
        }
    }

    #[test]
    fn weights_add_up_to_the_traffic() {
        let ticks = 3_006;
        let traffic = [("frequent", 300), ("rare", 2)];
        for (sampling, what) in [
            (Sampling { rate: 0.01, per_minute: 600, group_min: 0, ..Sampling::default() }, "at a rate"),
            (Sampling { rate: 1.0, per_minute: 30, ..Sampling::default() }, "at a cap"),
            (Sampling { rate: 0.001, per_minute: 60, group_min: 6, ..Sampling::default() }, "at a minimum"),
        ] {
            let chosen = run(sampling, &traffic, ticks);
            for (chosen, (label, calls)) in chosen.iter().zip(traffic) {
                let (share, n) = (stands_for(chosen, calls, ticks), chosen.len() as f64);
                // The weights vary by a quarter of a power of two within a group.
                assert!((share - 1.0).abs() < 5.0 / n.sqrt(), "{what}, {label}: {n} chosen calls stand for {share} of all");
            }
        }
    }

    #[test]
    fn a_rare_group_is_not_drowned_and_always_means_all() {
        let ticks = 606;
        let sampling = Sampling { rate: 0.001, per_minute: 60, group_min: 6, ..Sampling::default() };
        let chosen = run(sampling, &[("frequent", 2_000), ("rare", 1), ("always", 1)], ticks);
        assert!(chosen[1].len() > 450, "{} of 600 calls of the rare group", chosen[1].len());
        assert!(chosen[2].len() > 560, "{} of 600 calls that are always wanted", chosen[2].len());
        assert!(chosen[0].len() > 1_000, "{} of the frequent group", chosen[0].len());
    }

    #[test]
    fn further_groups_are_one() {
        let (judge, mut sampler) = (judge(Sampling::default()), Sampler::default());
        for label in 0..3 * GROUPS_MAX {
            let candidate = Candidate { draw: 5, sequence: label as u64 + 1, groups: [].into() };
            let offer = Offer { judge: 0, always: false, labels: vec![label.to_string()], calls: 1, candidates: vec![candidate] };
            sampler.offer(&judge, offer);
        }
        sampler.close(&judge, 1);
        assert_eq!(sampler.groups.len(), GROUPS_MAX + 1);
        assert_eq!(sampler.groups[&(false, vec![OTHER.to_owned()])].calls, 2 * GROUPS_MAX as u64);
    }
}
