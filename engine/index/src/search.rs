//! Which calls, in which order, page by page; the calls of a run; counts over time; values to suggest.
//!
//! A search goes through groups in the order in which they may hold the best rows, and ends when no group can hold a better one and the total is
//! large enough to be said as "at least".

use crate::error::IndexError;
use crate::group::{Column, Group, Meta};
use crate::keys::{Key, Number, Text};
use crate::pack::{Bits, FastMap};
use crate::query::{Pattern, Query, Term, Test};
use crate::row::Row;
use crate::select::holding;
use crate::state::{Reader, Spot, View};
use model::Signal;
use model::time::Timestamp;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::str::FromStr;

/// Rows of a page: what a person scrolls through, and a megabyte of JSON.
pub const LIMIT_MAX: usize = 1_000;
/// Calls of one run that are shown: a run is some to some hundred calls, and one that loops has shown it by then.
pub const RUN_MAX: usize = 10_000;
/// Up to here a total is exact; counting on would read every group for a figure that nobody needs exactly.
const TOTAL_MAX: u64 = 10_000;
/// Bars of a histogram: more than a chart has pixels to show.
const BARS_MAX: usize = 1_000;
/// Suggestions come from the newest groups, a million calls: they follow what is being typed.
const SUGGESTING_GROUPS: usize = 256;
/// Distinct values that are counted for suggestions.
const SUGGESTIONS_MAX: usize = 10_000;

/// Calls that ended from `from` on and before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Times {
    pub const ALL: Self = Self { from: None, until: None };

    pub fn contains(self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.until.is_none_or(|until| time < until)
    }

    pub(crate) fn overlaps(self, query: &Query, meta: &Meta) -> bool {
        let asked = query.times().is_none_or(|(from, until)| from <= meta.latest && meta.earliest <= until);
        asked && self.from.is_none_or(|from| from <= meta.latest) && self.until.is_none_or(|until| meta.earliest < until)
    }

    /// The rows of `group` that match and are of these times.
    pub(crate) fn select(self, query: &Query, group: &Group<'_>) -> Result<Bits, IndexError> {
        let mut selected = query.select(group)?;
        let inside = self.contains(group.meta.earliest) && self.contains(group.meta.latest);
        if !inside && !selected.is_empty() {
            let times = group.times()?;
            selected = selected.among(|row| self.contains(times.get(row)));
        }
        Ok(selected)
    }
}

/// Ties are in the order of the stream; by latency and cost, calls without one come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Newest,
    Oldest,
    Slowest,
    Costliest,
}

/// Smaller comes first. Unique for each call, so that pages neither repeat nor skip.
type Rank = (u64, u64);

/// Where a page ended, as a text for links. It stays right while calls come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    order: Order,
    rank: Rank,
}

/// It is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place in a list of calls\nhint: take `next` of the page before, as it is")]
pub struct CursorError(String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{:x}", self.order.letter(), self.rank.0, self.rank.1)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let read = || {
            let mut parts = text.split('-');
            let letter = parts.next()?;
            let order = Order::ALL.into_iter().find(|order| order.letter() == letter)?;
            let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
            let rank = (number()?, number()?);
            parts.next().is_none().then_some(Self { order, rank })
        };
        read().ok_or_else(|| CursorError(text.chars().take(60).collect()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    Exactly(u64),
    AtLeast(u64),
}

/// A page of calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub rows: Vec<Row>,
    /// From this page on: of the first page, of all that was found.
    pub total: Total,
    /// `None` when this is the last page.
    pub next: Option<Cursor>,
}

/// The calls of a run, in the order in which they ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub rows: Vec<Row>,
    /// There are more than [`RUN_MAX`]; these are the first.
    pub cut: bool,
}

/// Calls of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub from: Timestamp,
    pub calls: u64,
    pub errors: u64,
}

impl Order {
    const ALL: [Self; 4] = [Self::Newest, Self::Oldest, Self::Slowest, Self::Costliest];

    fn letter(self) -> &'static str {
        match self {
            Self::Newest => "n",
            Self::Oldest => "o",
            Self::Slowest => "s",
            Self::Costliest => "c",
        }
    }

    /// The number that calls are ordered by beside their time.
    fn number(self) -> Option<Number> {
        match self {
            Self::Newest | Self::Oldest => None,
            Self::Slowest => Some(Number::LatencyMs),
            Self::Costliest => Some(Number::CostUsd),
        }
    }

    fn rank(self, time: Timestamp, number: Option<u64>, sequence: u64) -> Rank {
        let time = (time.millis() as u64) ^ (1 << 63);
        match self {
            Self::Newest => (!time, !sequence),
            Self::Oldest => (time, sequence),
            Self::Slowest | Self::Costliest => (!number.map_or(0, |number| number + 1), !sequence),
        }
    }

    /// No row of the group comes before this.
    fn best(self, meta: &Meta) -> Rank {
        match self {
            Self::Newest => (self.rank(meta.latest, None, 0).0, 0),
            Self::Oldest => (self.rank(meta.earliest, None, 0).0, 0),
            Self::Slowest => (self.rank(meta.latest, meta.slowest, 0).0, 0),
            Self::Costliest => (self.rank(meta.latest, meta.costliest, 0).0, 0),
        }
    }
}

/// Where a row is that is among the best so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Group(Spot, usize),
    /// Among the rows that are no group yet.
    Fresh(usize),
}

impl Reader {
    /// The next `limit` calls (at most [`LIMIT_MAX`]) that match, in this order, after the end of an earlier page. A cursor of another order is
    /// ignored.
    ///
    /// Cost: a rare match is looked for in every group of these times, some 20 µs each for each term; a frequent one ends the search early.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn search(&self, query: &Query, times: Times, order: Order, limit: usize, after: Option<Cursor>) -> Result<Found, IndexError> {
        self.best(query, times, order, limit.clamp(1, LIMIT_MAX), after.filter(|cursor| cursor.order == order))
    }

    /// All calls of a run, up to [`RUN_MAX`].
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn run(&self, environment: Option<&str>, event_id: &str) -> Result<Run, IndexError> {
        let exactly = |text: Text, value: &str| Term { at: 0, negated: false, test: Test::Text(text, vec![Pattern::Exact(value.to_owned())]) };
        let terms = std::iter::once(exactly(Text::EventId, event_id)).chain(environment.map(|environment| exactly(Text::Environment, environment)));
        let found = self.best(&Query { terms: terms.collect() }, Times::ALL, Order::Oldest, RUN_MAX, None)?;
        Ok(Run { rows: found.rows, cut: found.next.is_some() })
    }

    /// The call at this sequence of the stream.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn call(&self, sequence: u64) -> Result<Option<Row>, IndexError> {
        let view = View::of(self.state());
        let holding = |spot: &Spot| (view.meta(*spot).first_sequence..=view.meta(*spot).last_sequence).contains(&sequence);
        if let Some(spot) = view.spots().find(holding) {
            let Some(group) = view.group(spot)? else { return Ok(None) };
            let sequences = group.sequences()?;
            let Some(row) = (0..group.rows()).find(|row| sequences.get(*row) == sequence) else { return Ok(None) };
            return Ok(group.take(&[row])?.pop());
        }
        Ok(view.fresh().find(|row| row.sequence == sequence).cloned())
    }

    fn best(&self, query: &Query, times: Times, order: Order, limit: usize, after: Option<Cursor>) -> Result<Found, IndexError> {
        let view = View::of(self.state());
        // The greatest on top: the first to go when a better one comes. One more than a page, to know whether there is another.
        let mut best: BinaryHeap<(Rank, Place)> = BinaryHeap::new();
        let mut total = 0;
        let mut exact = true;
        let offer = |best: &mut BinaryHeap<(Rank, Place)>, total: &mut u64, rank: Rank, place: Place| {
            if after.is_some_and(|cursor| rank <= cursor.rank) {
                return;
            }
            *total += 1;
            if best.len() <= limit {
                best.push((rank, place));
            } else if let Some(mut worst) = best.peek_mut()
                && rank < worst.0
            {
                *worst = (rank, place);
            }
        };
        for (at, row) in view.fresh().enumerate() {
            if times.contains(row.time) && query.matches(row) {
                let number = order.number().and_then(|number| row.number(number));
                offer(&mut best, &mut total, order.rank(row.time, number, row.sequence), Place::Fresh(at));
            }
        }
        let mut spots: Vec<(Rank, Spot)> = view.spots().map(|spot| (order.best(view.meta(spot)), spot)).collect();
        spots.retain(|(_, spot)| times.overlaps(query, view.meta(*spot)));
        spots.sort_unstable();
        for (bound, spot) in spots {
            let full = best.len() > limit && best.peek().is_some_and(|(worst, _)| *worst < bound);
            if full && total >= TOTAL_MAX {
                exact = false;
                break;
            }
            let Some(group) = view.group(spot)? else { continue };
            let selected = times.select(query, &group)?;
            if selected.is_empty() {
                continue;
            }
            if full && after.is_none() {
                total += selected.count() as u64;
                continue;
            }
            let sequences = group.sequences()?;
            let (mut group_times, mut numbers) = (None, None);
            match order.number() {
                Some(number) => numbers = group.numbers(&number.into())?,
                None => group_times = Some(group.times()?),
            }
            for row in selected.rows() {
                let time = group_times.as_ref().map_or(Timestamp::EPOCH, |times| times.get(row));
                let number = numbers.as_ref().and_then(|numbers| numbers.get(row));
                offer(&mut best, &mut total, order.rank(time, number, sequences.get(row)), Place::Group(spot, row));
            }
        }
        let mut places = best.into_sorted_vec();
        let more = places.len() > limit;
        places.truncate(limit);
        let next = places.last().filter(|_| more).map(|(rank, _)| Cursor { order, rank: *rank });
        Ok(Found { rows: rows(&view, &places)?, total: if exact { Total::Exactly(total) } else { Total::AtLeast(total) }, next })
    }

    /// Matching calls by time: `bars` stretches of equal length (at most 1,000) from `from` to before `until`, the last perhaps shorter.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn histogram(&self, query: &Query, from: Timestamp, until: Timestamp, bars: usize) -> Result<Vec<Bar>, IndexError> {
        let span = until.since(from).millis();
        let every = span.div_ceil(bars.clamp(1, BARS_MAX) as u64).max(1);
        let bar = |at: u64| Bar { from: from + model::time::Span::from_millis(at * every), calls: 0, errors: 0 };
        let mut all: Vec<Bar> = (0..span.div_ceil(every)).map(bar).collect();
        let times = Times { from: Some(from), until: Some(until) };
        let mut count = |time: Timestamp, error: bool| {
            if let Some(bar) = all.get_mut((time.since(from).millis() / every) as usize) {
                bar.calls += 1;
                bar.errors += u64::from(error);
            }
        };
        let view = View::of(self.state());
        view.fresh().filter(|row| times.contains(row.time) && query.matches(row)).for_each(|row| count(row.time, row.holds(Signal::Error)));
        for spot in view.spots() {
            if !times.overlaps(query, view.meta(spot)) {
                continue;
            }
            let Some(group) = view.group(spot)? else { continue };
            let selected = times.select(query, &group)?;
            if selected.is_empty() {
                continue;
            }
            let (group_times, signals) = (group.times()?, group.signals()?);
            selected.rows().for_each(|row| count(group_times.get(row), signals[row] & (1 << Signal::Error.index()) != 0));
        }
        Ok(all)
    }

    /// Values of a text, property, signal or status that begin with `prefix`, with how many of the newest calls have them, most frequent first: at
    /// most `limit`, and 1,000. Nothing for other keys, which are numbers. Long values are cut like labels.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn values(&self, key: &Key, prefix: &str, limit: usize) -> Result<Vec<(String, u64)>, IndexError> {
        let view = View::of(self.state());
        let mut found: HashMap<String, u64> = HashMap::new();
        let mut count = |value: &str, calls: u64| {
            let value = crate::row::cut(value);
            if value.is_empty() || calls == 0 || !value.starts_with(prefix) {
                return;
            }
            if let Some(counted) = found.get_mut(value) {
                *counted += calls;
            } else if found.len() < SUGGESTIONS_MAX {
                found.insert(value.to_owned(), calls);
            }
        };
        for row in view.fresh() {
            match key {
                Key::Text(text) => count(row.text(*text), 1),
                Key::Property(name) => count(row.property(name).unwrap_or(""), 1),
                Key::Signal => row.signals().for_each(|name| count(name, 1)),
                Key::Number(Number::StatusCode) => count(&row.number(Number::StatusCode).map_or(String::new(), |code| code.to_string()), 1),
                Key::Number(_) | Key::Tokens | Key::Time => {}
            }
        }
        let spots: Vec<Spot> = view.spots().collect();
        for spot in spots.into_iter().rev().take(SUGGESTING_GROUPS) {
            let Some(group) = view.group(spot)? else { continue };
            match key {
                Key::Text(_) | Key::Property(_) => {
                    let column = match key {
                        Key::Property(name) => Column::Property(name.clone()),
                        Key::Text(text) => (*text).into(),
                        _ => continue,
                    };
                    let Some(texts) = group.texts(&column)? else { continue };
                    let mut calls = vec![0; texts.entries().len() + 1];
                    (0..group.rows()).for_each(|row| calls[texts.code(row) as usize] += 1);
                    texts.entries().zip(&calls[1..]).for_each(|(text, calls)| count(text, *calls));
                }
                Key::Signal => {
                    let signals = group.signals()?;
                    for signal in Signal::ALL {
                        count(signal.name(), holding(&signals, 1 << signal.index()).count() as u64);
                    }
                    for name in group.further_names()? {
                        let calls =
                            group.texts(&Column::Further(name.to_owned()))?.map_or(0, |texts| texts.present(&Bits::all(group.rows())).count());
                        count(name, calls as u64);
                    }
                }
                Key::Number(Number::StatusCode) => {
                    let Some(codes) = group.numbers(&Number::StatusCode.into())? else { continue };
                    let mut calls: FastMap<u64, u64> = FastMap::default();
                    (0..group.rows()).filter_map(|row| codes.get(row)).for_each(|code| *calls.entry(code).or_default() += 1);
                    calls.into_iter().for_each(|(code, calls)| count(&code.to_string(), calls));
                }
                Key::Number(_) | Key::Tokens | Key::Time => return Ok(Vec::new()),
            }
        }
        let mut values: Vec<(String, u64)> = found.into_iter().collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        values.truncate(limit.min(LIMIT_MAX));
        Ok(values)
    }
}

/// The rows at these places, in their order. A group is read once, whatever number of its rows is among them.
fn rows(view: &View, places: &[(Rank, Place)]) -> Result<Vec<Row>, IndexError> {
    let mut by_spot: HashMap<Spot, Vec<(usize, usize)>> = HashMap::new();
    let mut rows: Vec<Option<Row>> = vec![None; places.len()];
    let mut fresh: Vec<(usize, usize)> = Vec::new();
    for (to, (_, place)) in places.iter().enumerate() {
        match place {
            Place::Group(spot, row) => by_spot.entry(*spot).or_default().push((*row, to)),
            Place::Fresh(at) => fresh.push((*at, to)),
        }
    }
    let mut spots: Vec<_> = by_spot.into_iter().collect();
    spots.sort_unstable_by_key(|(spot, _)| *spot);
    for (spot, wanted) in spots {
        let Some(group) = view.group(spot)? else { continue };
        let taken = group.take(&wanted.iter().map(|(row, _)| *row).collect::<Vec<_>>())?;
        taken.into_iter().zip(wanted).for_each(|(row, (_, to))| rows[to] = Some(row));
    }
    fresh.sort_unstable();
    let mut all = view.fresh().enumerate();
    for (at, to) in fresh {
        rows[to] = all.find(|(own, _)| *own == at).map(|(_, row)| row.clone());
    }
    Ok(rows.into_iter().flatten().collect())
}
