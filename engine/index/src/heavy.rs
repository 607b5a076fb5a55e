//! Who spends most: the labels (users, unless told otherwise) with a large part of an environment's cost, hour by hour of event time, in bounded memory.
//!
//! A cell (one environment, one hour) keeps counters after Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data
//! streams" (2005), with weights, and merges as Agarwal and others, "Mergeable summaries" (2012), show: `METHOD.md` has the bound and its proof. Whoever
//! spends more than one part in `k + 1` of a window is in its list, no cost is over-stated by more than that part, and every figure comes with what it
//! is at least and at most.
//!
//! Deliberately absent: exact sums (`sums.rs`), disk ([`Heavy::of`] makes it again from the index), clocks, and what is done about a label that is hot.

use crate::error::IndexError;
use crate::group::{Group, Texts};
use crate::keys::{Number, Text};
use crate::pack::FastMap;
use crate::row::{Row, cut};
use crate::state::{Reader, View};
use model::time::{Span, Timestamp};
use std::collections::BTreeMap;

const HOUR: Span = Span::from_secs(3600);

/// Hours that are kept of an environment, up to its newest: a day, the day before it, and the hour that has begun.
pub const HOURS_MAX: usize = 49;
/// As many as the engine reads at all; what others cost is in [`Heavy::untracked`].
const ENVIRONMENTS_MAX: usize = 64;
/// Counters of a cell, for each `k`: between `k` and this many, so that making room costs no more than filling it did.
const ROOM: usize = 2;

/// What each label costs in each hour of each environment, as far as it matters.
///
/// Memory: at most 64 environments × 49 hours × 2 `k` counters of some 150 bytes. With `k` = 256 that is 4 MB for an environment, and 240 MB for 64 that
/// all have more than 512 users in every hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heavy {
    label: Text,
    k: usize,
    environments: BTreeMap<String, BTreeMap<Timestamp, Cell>>,
    untracked: u64,
}

/// What a label cost in a window, in nano-dollars: the truth is between the two, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hitter {
    pub label: String,
    pub at_least: u128,
    pub at_most: u128,
}

/// The labels that may have more than one part in `k + 1` of a window's cost: all that have, and perhaps others, which `at_least` tells apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hitters {
    /// The largest `at_most` first, then by label.
    pub hitters: Vec<Hitter>,
    /// What the whole window cost, calls without a label included. Exact.
    pub total: u128,
    /// What any `at_most` may be too high by: at most one part in `k + 1`, and 0 while there are few labels.
    pub error: u128,
}

/// A label whose share of the cost has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hot {
    pub now: Hitter,
    /// In the window before.
    pub before: Hitter,
    /// It has surely grown past the factor; else it may have.
    pub certain: bool,
}

/// One environment in one hour. No label costs more than its counter says, and none without a counter more than `floor`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cell {
    total: u128,
    floor: u128,
    counters: FastMap<String, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counter {
    most: u128,
    /// What `most` may be too high by: the floor when the counter began.
    error: u128,
}

/// Empty when the row has none.
fn text(texts: &Option<Texts>, row: usize) -> &str {
    texts.as_ref().and_then(|texts| texts.get(row)).unwrap_or("")
}

impl Cell {
    fn add(&mut self, k: usize, label: &str, cost: u64) {
        let cost = u128::from(cost);
        self.total += cost;
        if label.is_empty() || cost == 0 {
            return;
        }
        if let Some(counter) = self.counters.get_mut(label) {
            counter.most += cost;
            return;
        }
        self.counters.insert(label.to_owned(), Counter { most: self.floor + cost, error: self.floor });
        if self.counters.len() > ROOM * k {
            self.shrink(k);
        }
    }

    /// Both cells' calls in one. Commutative, and the bounds hold in whatever order cells are merged.
    fn merge(&mut self, k: usize, other: &Self) {
        self.total += other.total;
        // A label that only one of them knows may have cost up to the floor in the other.
        for (label, counter) in &mut self.counters {
            let Counter { most, error } = other.counters.get(label).copied().unwrap_or(Counter { most: other.floor, error: other.floor });
            *counter = Counter { most: counter.most + most, error: counter.error + error };
        }
        for (label, counter) in &other.counters {
            let (most, error) = (counter.most + self.floor, counter.error + self.floor);
            self.counters.entry(label.clone()).or_insert(Counter { most, error });
        }
        self.floor += other.floor;
        if self.counters.len() > ROOM * k {
            self.shrink(k);
        }
    }

    /// Keeps the at most `k` counters that are above the next one. Equals go together, so what is kept depends on no order.
    fn shrink(&mut self, k: usize) {
        let mut all: Vec<u128> = self.counters.values().map(|counter| counter.most).collect();
        let at = all.len() - 1 - k;
        let (_, next, _) = all.select_nth_unstable(at);
        self.floor = self.floor.max(*next);
        self.counters.retain(|_, counter| counter.most > self.floor);
    }

    fn hitter(&self, label: &str) -> Hitter {
        let counter = self.counters.get(label).copied().unwrap_or(Counter { most: self.floor, error: self.floor });
        Hitter { label: label.to_owned(), at_least: counter.most - counter.error, at_most: counter.most }
    }

    fn hitters(&self, k: usize) -> Hitters {
        let parts = k as u128 + 1;
        // `most > total / parts` in whole numbers: totals are far below 2^100, and there are few parts.
        let heavy = self.counters.iter().filter(|(_, counter)| counter.most * parts > self.total);
        let mut hitters: Vec<_> = heavy.map(|(label, _)| self.hitter(label)).collect();
        hitters.sort_by(|a, b| b.at_most.cmp(&a.at_most).then_with(|| a.label.cmp(&b.label)));
        Hitters { hitters, total: self.total, error: self.floor }
    }
}

impl Heavy {
    /// By user. `k`, at least 1, is how fine it is: whoever has more than one part in `k + 1` of a window is found.
    pub fn new(k: usize) -> Self {
        Self::by(Text::User, k)
    }

    /// By another text of calls, such as [`Text::Session`].
    pub fn by(label: Text, k: usize) -> Self {
        Self { label, k: k.max(1), environments: BTreeMap::new(), untracked: 0 }
    }

    /// Made again from the index: for hours from `from` on it knows what one knows that has seen every call of the index in the stream's order.
    ///
    /// Cost: as a table of sums over these hours, a second or so for ten million calls.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn of(reader: &Reader, label: Text, k: usize, from: Timestamp) -> Result<Self, IndexError> {
        let (mut heavy, from) = (Self::by(label, k), from.floor(HOUR));
        let view = View::of(reader.state());
        for spot in view.spots().filter(|spot| view.meta(*spot).latest >= from) {
            if let Some(group) = view.group(spot)? {
                heavy.add_group(&group, from)?;
            }
        }
        view.fresh().filter(|row| row.time >= from).for_each(|row| heavy.add(row));
        Ok(heavy)
    }

    /// Counts a call. Cost: two look-ups, and now and then room is made.
    pub fn add(&mut self, row: &Row) {
        self.count(row.text(Text::Environment), row.text(self.label), row.time, row.number(Number::CostUsd).unwrap_or(0));
    }

    fn add_group(&mut self, group: &Group<'_>, from: Timestamp) -> Result<(), IndexError> {
        let Some(costs) = group.numbers(&Number::CostUsd.into())? else { return Ok(()) };
        let (environments, labels, times) = (group.texts(&Text::Environment.into())?, group.texts(&self.label.into())?, group.times()?);
        for row in (0..group.rows()).filter(|row| times.get(*row) >= from) {
            self.count(text(&environments, row), text(&labels, row), times.get(row), costs.get(row).unwrap_or(0));
        }
        Ok(())
    }

    fn count(&mut self, environment: &str, label: &str, time: Timestamp, cost: u64) {
        if cost == 0 {
            return;
        }
        let hour = time.floor(HOUR);
        let room = self.environments.len() < ENVIRONMENTS_MAX;
        let hours = match self.environments.get_mut(environment) {
            Some(hours) => hours,
            None if room => self.environments.entry(environment.to_owned()).or_default(),
            None => {
                self.untracked += 1;
                return;
            }
        };
        let newest = hours.last_key_value().map_or(hour, |(newest, _)| hour.max(*newest));
        let oldest = newest - Span::from_millis(HOUR.millis() * (HOURS_MAX as u64 - 1));
        if hour < oldest {
            self.untracked += 1;
            return;
        }
        while hours.first_key_value().is_some_and(|(first, _)| *first < oldest) {
            hours.pop_first();
        }
        hours.entry(hour).or_default().add(self.k, cut(label), cost);
    }

    /// Those that calls with a cost came from.
    pub fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.keys().map(String::as_str)
    }

    /// Calls with a cost that are in no cell: their hour was over when they came, or there are too many environments.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// Who costs much in the hours from `from` on and before `until`, both taken down to whole hours.
    ///
    /// Cost: the hours' counters are merged, some 50 µs an hour with `k` = 256.
    pub fn over(&self, environment: &str, from: Timestamp, until: Timestamp) -> Hitters {
        self.window(environment, from, until).hitters(self.k)
    }

    /// Whose share of the cost of these hours is more than `factor` times what it was in as many hours before: all of those who now have more than one
    /// part in `k + 1`, and perhaps others, who are not `certain`; those that cost most now come first. None where nothing cost anything before: there is
    /// no share to compare with. A label that had none before has grown past any factor.
    pub fn hot(&self, environment: &str, from: Timestamp, until: Timestamp, factor: f64) -> Vec<Hot> {
        let (from, until) = (from.floor(HOUR), until.floor(HOUR));
        let (now, before) = (self.window(environment, from, until), self.window(environment, from - until.since(from), from));
        if before.total == 0 {
            return Vec::new();
        }
        let share = |cost: u128, of: u128| cost as f64 / of as f64;
        let hot = |hitter: Hitter| {
            let was = before.hitter(&hitter.label);
            let grown = |now_cost, before_cost| share(now_cost, now.total) > factor * share(before_cost, before.total);
            let (certain, may) = (grown(hitter.at_least, was.at_most), grown(hitter.at_most, was.at_least));
            may.then_some(Hot { now: hitter, before: was, certain })
        };
        now.hitters(self.k).hitters.into_iter().filter_map(hot).collect()
    }

    fn window(&self, environment: &str, from: Timestamp, until: Timestamp) -> Cell {
        let mut window = Cell::default();
        let (from, until) = (from.floor(HOUR), until.floor(HOUR));
        if let Some(hours) = self.environments.get(environment).filter(|_| from < until) {
            hours.range(from..until).for_each(|(_, cell)| window.merge(self.k, cell));
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Sizes, Writer};
    use std::collections::HashMap;

    fn seed() -> u64 {
        let seed = std::env::var("INDEX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        eprintln!("INDEX_SEED={seed}");
        seed
    }

    fn hour(at: i64) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + at * 3_600_000).expect("a year in range")
    }

    fn row(sequence: u64, at: i64, user: &str, cost: u64) -> Row {
        let text = |text: Text| match text {
            Text::User => user,
            Text::Environment => "production",
            _ => "",
        };
        Row::new(sequence, hour(at), 0, |number| (number == Number::CostUsd).then_some(cost), text, [])
    }

    /// Labels and costs in an order that is hard on counters: a few large ones among many, drawn after Zipf, ascending so that each newcomer drives
    /// another out, all large ones last, or every label in turn.
    fn stream(rng: &mut fastrand::Rng, calls: usize) -> Vec<(String, u64)> {
        let labels = 1 + rng.usize(..400);
        let mut all: Vec<(String, u64)> = (0..calls)
            .map(|_| {
                let rank = ((labels as f64).powf(rng.f64()) as usize).min(labels);
                (format!("u{rank}"), if rng.u8(..10) == 0 { rng.u64(..1_000_000) } else { rng.u64(..100) })
            })
            .collect();
        match rng.u8(..4) {
            0 => all.sort_by_key(|(_, cost)| *cost),
            1 => all.sort_by_key(|(label, _)| std::cmp::Reverse(label.len() * 1000 + label.bytes().map(usize::from).sum::<usize>())),
            2 => all.iter_mut().enumerate().for_each(|(at, call)| *call = (format!("u{}", at % labels), 1)),
            _ => {}
        }
        all
    }

    fn exact<'c>(calls: impl IntoIterator<Item = &'c (String, u64)>) -> HashMap<&'c str, u128> {
        let mut sums: HashMap<&str, u128> = HashMap::new();
        calls.into_iter().for_each(|(label, cost)| *sums.entry(label.as_str()).or_default() += u128::from(*cost));
        sums
    }

    /// The promise, in whole: the total is exact, every heavy label is in the list, every bound holds, and no error is over one part in `k + 1`.
    fn holds(found: &Hitters, truth: &HashMap<&str, u128>, k: usize) -> Result<(), String> {
        let total: u128 = truth.values().sum();
        let parts = k as u128 + 1;
        if found.total != total || found.error * parts > total {
            return Err(format!("total {} of {total}, error {}", found.total, found.error));
        }
        for (label, cost) in truth {
            match found.hitters.iter().find(|hitter| hitter.label == **label) {
                None if cost * parts > total => return Err(format!("{label} cost {cost} of {total} and is not in the list")),
                None => {}
                Some(hitter) if hitter.at_least > *cost || *cost > hitter.at_most || hitter.at_most > cost + found.error => {
                    return Err(format!("{hitter:?} cost {cost}, error {}", found.error));
                }
                Some(_) => {}
            }
        }
        if found.hitters.iter().any(|hitter| !truth.contains_key(hitter.label.as_str()) || hitter.at_most * parts <= total) {
            return Err("a label that is not heavy, or that nobody has".to_owned());
        }
        Ok(())
    }

    #[test]
    fn whoever_spends_more_than_a_part_is_found_and_every_bound_holds() {
        let seed = seed();
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..300 {
            let k = 1 + rng.usize(..40);
            let calls = stream(&mut rng, 2_000);
            let mut cell = Cell::default();
            calls.iter().for_each(|(label, cost)| cell.add(k, label, *cost));
            assert!(cell.counters.len() <= ROOM * k);
            holds(&cell.hitters(k), &exact(&calls), k).unwrap_or_else(|wrong| panic!("seed {seed} round {round}: {wrong}"));
        }
    }

    #[test]
    fn merging_keeps_the_bounds_in_whatever_order_and_goes_on_counting() {
        let seed = seed();
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..300 {
            let (k, calls) = (1 + rng.usize(..40), stream(&mut rng, 3_000));
            let mut cells = vec![Cell::default(); 1 + rng.usize(..12)];
            // Calls of one hour are neighbours, or scattered.
            let scattered = rng.bool();
            let (before, after) = calls.split_at(2_500);
            for (at, (label, cost)) in before.iter().enumerate() {
                let to = if scattered { rng.usize(..cells.len()) } else { at * cells.len() / before.len() };
                cells[to].add(k, label, *cost);
            }
            while cells.len() > 1 {
                let other = cells.swap_remove(rng.usize(..cells.len()));
                let at = rng.usize(..cells.len());
                let mut turned = other.clone();
                turned.merge(k, &cells[at]);
                cells[at].merge(k, &other);
                assert!(turned == cells[at], "seed {seed} round {round}: merging is not commutative");
                assert!(cells[at].counters.len() <= ROOM * k);
            }
            holds(&cells[0].hitters(k), &exact(before), k).unwrap_or_else(|wrong| panic!("seed {seed} round {round}: {wrong}"));
            after.iter().for_each(|(label, cost)| cells[0].add(k, label, *cost));
            holds(&cells[0].hitters(k), &exact(&calls), k).unwrap_or_else(|wrong| panic!("seed {seed} round {round}, later: {wrong}"));
        }
    }

    #[test]
    fn a_window_is_its_hours_and_old_hours_go() {
        let mut heavy = Heavy::new(10);
        for at in 0..60 {
            heavy.add(&row(1, at, "a", 10));
            heavy.add(&row(2, at, "b", 1));
            heavy.add(&row(3, at, "", 5));
        }
        assert_eq!(heavy.environments["production"].len(), HOURS_MAX);
        let found = heavy.over("production", hour(50), hour(52));
        assert_eq!((found.total, found.error), (32, 0));
        assert_eq!(
            found.hitters,
            [Hitter { label: "a".into(), at_least: 20, at_most: 20 }],
            "b has less than one part in eleven, and nobody is no label"
        );
        assert_eq!(heavy.over("production", hour(0), hour(11)), Hitters::default());
        assert_eq!(heavy.over("test", hour(0), hour(60)), Hitters::default());
        assert_eq!(heavy.over("production", hour(52), hour(50)), Hitters::default());
        heavy.add(&row(4, 10, "a", 1));
        assert_eq!(heavy.untracked(), 1, "its hour is gone");
    }

    #[test]
    fn whose_share_has_grown_is_hot_and_a_window_with_nothing_before_has_none() {
        let mut heavy = Heavy::new(20);
        for (at, user, cost) in [
            (0, "steady", 100),
            (0, "grows", 100),
            (0, "shrinks", 200),
            (1, "steady", 1000),
            (1, "grows", 3000),
            (1, "shrinks", 100),
            (1, "new", 500),
        ] {
            heavy.add(&row(1, at, user, cost));
        }
        let hot: Vec<_> =
            heavy.hot("production", hour(1), hour(2), 2.0).into_iter().map(|hot| (hot.now.label, hot.before.at_most, hot.certain)).collect();
        assert_eq!(hot, [("grows".to_owned(), 100, true), ("new".to_owned(), 0, true)]);
        assert_eq!(heavy.hot("production", hour(1), hour(2), 2.7).len(), 1, "3000 of 4600 is 2.6 times 100 of 400");
        assert_eq!(heavy.hot("production", hour(0), hour(1), 2.0), []);
    }

    #[test]
    fn who_has_surely_grown_is_never_left_out_whatever_was_forgotten() {
        let seed = seed();
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..100 {
            let (k, before, now) = (1 + rng.usize(..20), stream(&mut rng, 1_000), stream(&mut rng, 1_000));
            let mut heavy = Heavy::new(k);
            for (at, calls) in [(0, &before), (1, &now)] {
                calls.iter().for_each(|(label, cost)| heavy.add(&row(1, at, label, *cost)));
            }
            let hot = heavy.hot("production", hour(1), hour(2), 1.5);
            let (was, is) = (exact(&before), exact(&now));
            let (was_all, is_all) = (was.values().sum::<u128>(), is.values().sum::<u128>());
            for (label, cost) in &is {
                let share = |cost: u128, all: u128| cost as f64 / all as f64;
                let grown = share(*cost, is_all) > 1.5 * share(was.get(label).copied().unwrap_or(0), was_all);
                let said = hot.iter().find(|hot| hot.now.label == **label);
                let heavy = cost * (k as u128 + 1) > is_all;
                assert!(!(grown && heavy && was_all > 0) || said.is_some(), "seed {seed} round {round}: {label} is left out");
                assert!(grown || said.is_none_or(|said| !said.certain), "seed {seed} round {round}: {label} has not grown");
            }
        }
    }

    #[test]
    fn what_is_made_again_from_the_index_is_the_same() {
        let seed = seed();
        let mut rng = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let sizes = Sizes { group_rows: 16, saved_rows: 50, segment_rows: 100 };
        let (mut writer, _) = Writer::open_sized(folder.path(), sizes).expect("it opens");
        let mut live = Heavy::new(5);
        for (sequence, (label, cost)) in (1..).zip(stream(&mut rng, 2_000)) {
            let row = row(sequence, sequence as i64 / 30 - i64::from(rng.u8(..3)), &label, cost);
            live.add(&row);
            writer.add(row);
            if sequence % 37 == 0 {
                writer.commit(sequence).expect("the disk takes it");
            }
        }
        writer.commit(2_000).expect("the disk takes it");
        let again = Heavy::of(&writer.reader(), Text::User, 5, hour(0)).expect("no damage");
        assert!(again.environments == live.environments, "seed {seed}");
        let part = Heavy::of(&writer.reader(), Text::User, 5, hour(40)).expect("no damage");
        for (from, until) in [(40, 70), (45, 50), (60, 61)] {
            assert_eq!(part.over("production", hour(from), hour(until)), live.over("production", hour(from), hour(until)), "seed {seed}");
        }
    }
}
