//! Open runs: calls of one `event_id` add up here until none has come for [`QUIET`]; then the run counts once, like a call, in the tick that closes.
//!
//! Quiet is measured by the ticks in which calls came, and not by their times: senders that are late by less than slices stay open do not tear their
//! runs apart.
//! Deliberately absent: what a run's calls add up to, and under which labels it counts. That is `model::run`.

use crate::environment::Environment;
use crate::ledger::Ledger;
use model::fold::{Cell, RunFold};
use model::plan::{Counts, Plan, TICK};
use model::run::{QUIET, RunSum};
use model::{Key, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Open runs of an environment, for each series that it may have: 100,000 where nothing else is said, which are 2,000 new runs a second that take ten
/// seconds each. Most are some 300 bytes in memory and a third of that in a snapshot. When full, further runs are not measured, and their calls counted.
const PER_SERIES: u32 = 5;

/// Those of one environment, by id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Runs(BTreeMap<String, Open>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    /// Start of the last tick in which a call of it came.
    heard: Timestamp,
    sum: RunSum,
}

impl Runs {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds calls that came in the tick that starts at `tick`; `false` when they would begin a run and there are `most` already.
    fn add(&mut self, run: String, sum: RunSum, tick: Timestamp, most: usize) -> bool {
        let full = self.0.len() >= most;
        match self.0.entry(run) {
            Entry::Occupied(entry) => {
                let open = entry.into_mut();
                open.heard = tick;
                open.sum.merge(sum);
            }
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(entry) => _ = entry.insert(Open { heard: tick, sum }),
        }
        true
    }

    /// Takes out what is over when the tick that starts at `tick` ends, in the order of the ids.
    fn close(&mut self, tick: Timestamp) -> Vec<RunSum> {
        let mut closed = Vec::new();
        // The last call may have come at the end of its tick, so quiet is counted from there, to the end of this one.
        self.0.retain(|_, open| {
            let over = tick >= open.heard + QUIET;
            if over {
                let empty = RunSum::new(&[], open.sum.end);
                closed.push(std::mem::replace(&mut open.sum, empty));
            }
            !over
        });
        closed
    }

    /// Goes on under a plan that wants other labels. Those that nobody wanted so far come from later calls; with no rule about runs, they all end.
    pub fn adopt(&mut self, old: Option<&[Key]>, new: Option<&[Key]>) {
        let (Some(old), Some(new)) = (old, new) else { return self.0.clear() };
        if old == new {
            return;
        }
        let came_from: Vec<_> = new.iter().map(|key| old.iter().position(|known| known == key)).collect();
        for open in self.0.values_mut() {
            let mut was = std::mem::take(&mut open.sum.labels);
            open.sum.labels = came_from.iter().map(|from| from.and_then(|at| was[at].take())).collect();
        }
    }
}

impl Environment {
    /// Calls of one run that came in the open tick.
    pub(crate) fn gather(&mut self, plan: &Plan, fold: RunFold, ledger: &mut Ledger) {
        // What is late for windows is late for runs: a log of yesterday would make a run of a day.
        if fold.slice < self.sealed_to {
            return;
        }
        let calls = fold.sum.calls;
        if !self.runs.add(fold.run, fold.sum, self.tick, plan.windows.series_max.saturating_mul(PER_SERIES) as usize) {
            ledger.run_calls_unmeasured += calls;
        }
    }

    /// Counts the runs that are over when the open tick ends.
    pub(crate) fn close_runs(&mut self, plan: &Plan, ledger: &mut Ledger) {
        if self.runs.is_empty() {
            return;
        }
        let closed = self.runs.close(self.tick);
        let Some(keys) = plan.run_keys().filter(|_| !closed.is_empty()) else { return };
        let slice = (self.tick + TICK) - plan.windows.slice;
        for run in &closed {
            for (at, grouping) in plan.groupings.iter().enumerate().filter(|(_, grouping)| grouping.counts == Counts::Runs) {
                if let Some(labels) = run.labels_in(grouping, &keys) {
                    self.count(plan, at as u16, slice, labels, Cell::of_run(grouping, run), ledger);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Span;

    const KEYS: [Key; 2] = [Key::User, Key::Service];

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH + Span::from_secs(seconds)
    }

    fn calls(calls: u64) -> RunSum {
        RunSum { calls, ..RunSum::new(&KEYS, at(0)) }
    }

    fn closed(runs: &mut Runs, tick: u64) -> Vec<u64> {
        runs.close(at(tick)).iter().map(|run| run.calls).collect()
    }

    #[test]
    fn a_run_closes_with_the_third_tick_without_a_call_and_begins_anew_after_that() {
        let mut runs = Runs::default();
        assert!(runs.add("a".into(), calls(1), at(0), 9));
        assert_eq!(closed(&mut runs, 20), [0; 0]);
        // Whatever its time, a call that comes now is heard now.
        assert!(runs.add("a".into(), calls(2), at(20), 9));
        assert_eq!(closed(&mut runs, 40), [0; 0]);
        assert_eq!(closed(&mut runs, 50), [3]);
        assert!(runs.is_empty() && runs.add("a".into(), calls(4), at(60), 9));
        assert_eq!(closed(&mut runs, 90), [4]);
    }

    #[test]
    fn when_full_runs_that_are_open_go_on_and_no_other_begins() {
        let mut runs = Runs::default();
        assert!(runs.add("a".into(), calls(1), at(0), 2) && runs.add("b".into(), calls(1), at(0), 2));
        assert!(!runs.add("c".into(), calls(1), at(0), 2));
        assert!(runs.add("b".into(), calls(7), at(10), 2));
        assert_eq!((closed(&mut runs, 30), runs.len()), (vec![1], 1));
        assert!(runs.add("c".into(), calls(1), at(40), 2));
        assert_eq!(closed(&mut runs, 40), [8]);
    }

    #[test]
    fn labels_move_with_their_keys_and_without_a_watch_nothing_stays_open() {
        let mut runs = Runs::default();
        let user = RunSum { labels: vec![Some((3, "u".to_owned())), None], ..calls(1) };
        assert!(runs.add("a".into(), user, at(0), 9));
        runs.adopt(Some(&KEYS), Some(&[Key::Session, Key::User]));
        assert_eq!(runs.0["a"].sum.labels, [None, Some((3, "u".to_owned()))]);
        runs.adopt(Some(&KEYS), None);
        assert!(runs.is_empty());
    }
}
