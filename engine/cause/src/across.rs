//! Which value of a dimension, or which two together, explain the excess of bad calls.
//!
//! The question is not where bad calls are, nor where they became more, but where they became more *than where everything became worse alike*. So
//! each candidate is held against shifts of the whole fleet, and named only if none of them could have given what it shows. `METHOD.md` has the formulas.
//! Deliberately absent: more than two values together, more than one cause, and why a value became bad.

use crate::base::{Base, chance};
use crate::calls::{Calls, Cells, Table};
use crate::evidence::{concentration, tail, times_log, uncertain};
use serde::Serialize;

/// A cause is named with less than this chance of being named in a shift of the whole fleet.
const FALSE_NAMES: f64 = 0.03;
/// The least share of the excess that a cause explains.
const SHARE_MIN: f64 = 0.5;
/// The least by which bad calls multiplied within a cause more than elsewhere, beside what the fleet's shift gives.
const RATIO_MIN: f64 = 1.35;
/// Of the excess over the reference's rate, the least part that is not explained by which calls came.
const RATE_PART_MIN: f64 = 0.5;
/// Values of each dimension that pairs are made of, those with most evidence: 5 of each of 12 dimensions are 1,650 pairs.
const PAIRED_VALUES: usize = 5;
/// Belief, in bad calls, that two values together do what their factors say.
const PAIR_PRIOR: f64 = 4.0;
/// A value with less than this part of its calls in the reference, both periods being equally long, is new: that there are such calls at all is then
/// what changed, and it is not asked how well their rate of before is known.
const NEW_MAX: f64 = 0.02;
/// Candidates that are looked at closely, the best by their sums.
const CLOSE: usize = 64;
/// Two candidates whose calls agree to this share are one candidate with two names.
const SAME_MIN: f64 = 0.95;
/// Candidates behind the first by less than this evidence, in nats, could as well be meant.
const RIVAL: f64 = 2.0;
/// At most three rivals, and eight names for the same calls, are told.
const RIVALS_MAX: usize = 3;
const SAME_NAMES_MAX: usize = 8;

/// One value of one dimension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Label {
    pub dimension: String,
    pub value: String,
}

/// What the calls of two periods say. Counts are sums of weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Across {
    pub calls: f64,
    pub bad: f64,
    pub excess: Excess,
    /// What explains the excess; without one, `silence` says why.
    pub cause: Option<Cause>,
    pub silence: Option<Silence>,
}

/// Bad calls above what the reference's rate gives, and what they are made of: `total = mix + rate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Excess {
    pub total: f64,
    /// From which calls came: more of those that were bad before.
    pub mix: f64,
    /// From calls that became bad more often than the same calls were.
    pub rate: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// One value, or two that only together are it.
    pub labels: Vec<Label>,
    /// Other names for the same calls, which these calls cannot tell from it.
    pub same: Vec<Vec<Label>>,
    /// Other calls that are almost as good an explanation, best first.
    pub rivals: Vec<Vec<Label>>,
    /// Of the excess by rate, what would not be there if these calls had moved as the others did: above 0, at most 1.
    pub share: f64,
    /// Its own calls now, and their rates of bad ones: now, now elsewhere, and what the reference makes one expect of them. 0 to 1.
    pub calls: f64,
    pub bad: f64,
    pub rate: f64,
    pub rate_elsewhere: f64,
    pub rate_expected: f64,
    /// Whether there were next to no such calls before.
    pub new: bool,
    /// Log likelihood ratio against a shift of the whole fleet, in nats, beyond what looking at so many candidates asks for. Above 0.
    pub evidence: f64,
}

/// Why no cause is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// There are no calls to compare with.
    NoReference,
    /// Nothing is bad more often than before.
    NoExcess,
    /// Other calls came: of a kind that was bad as often before.
    Mix,
    /// No value differs from the others beyond what chance gives.
    Fleet,
    /// Some value differs, and explains too little of the excess to be its cause.
    Partial,
}

/// The most likely cause of an excess of bad calls now over the reference.
///
/// The same for any order of calls and dimensions, and for weights multiplied by any power of two; by anything else, but for rounding.
/// Cost: some 40 passes over the calls for each dimension; 100,000 calls with 12 dimensions take a fraction of a second.
pub fn across(calls: &Calls) -> Across {
    let mut table = calls.table();
    let stands_for = table.now.stands_for();
    let (calls, bad): (f64, f64) = (table.now.calls.iter().sum(), table.now.bad.iter().sum());
    let mut said = Across { calls, bad, excess: Excess::default(), cause: None, silence: None };
    let (reference_calls, reference_bad): (f64, f64) = (table.reference.calls.iter().sum(), table.reference.bad.iter().sum());
    if reference_calls <= 0.0 {
        said.silence = Some(Silence::NoReference);
        return said;
    }
    if bad <= 0.0 {
        said.silence = Some(Silence::NoExcess);
        return said;
    }
    table.now.scale(1.0 / stands_for);
    let reference_stands_for = table.reference.stands_for();
    table.reference.scale(1.0 / reference_stands_for);

    let base = Base::learn(&table);
    let expected: f64 = table.now.calls.iter().zip(&base.now).map(|(calls, odds)| calls * chance(*odds)).sum();
    let total = bad - calls * (reference_bad / reference_calls);
    let rate = bad - expected * stands_for;
    said.excess = Excess { total, mix: total - rate, rate };
    if rate <= 0.0 || total <= 0.0 {
        said.silence = Some(if total > 0.0 { Silence::Mix } else { Silence::NoExcess });
        return said;
    }
    if rate < RATE_PART_MIN * total {
        said.silence = Some(Silence::Mix);
        return said;
    }
    match Search::new(&table, &base).named() {
        Ok(mut cause) => {
            cause.calls *= stands_for;
            cause.bad *= stands_for;
            said.cause = Some(cause);
        }
        Err(silence) => said.silence = Some(silence),
    }
    said
}

/// A value by dimension and code.
type Value = (usize, u32);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    One(Value),
    Two(Value, Value),
}

impl Part {
    fn values(&self) -> Vec<Value> {
        match *self {
            Self::One(value) => vec![value],
            Self::Two(a, b) => vec![a, b],
        }
    }
}

/// Sums over a candidate's calls.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    calls: f64,
    bad: f64,
    squares: f64,
    /// Bad calls expected if nothing had changed, and if all odds had risen alike.
    expected: f64,
    risen: f64,
    reference_calls: f64,
    reference_bad: f64,
    reference_expected: f64,
}

/// A candidate and how it fares.
#[derive(Clone, Debug)]
struct Rated {
    part: Part,
    seen: Seen,
    share: f64,
    /// Evidence by this window alone less what the candidate costs; what candidates are compared by.
    rank: f64,
    /// Evidence that also knows how little the reference may know, less cost and threshold; above 0 where it may be named.
    beyond: f64,
    large: bool,
    new: bool,
}

struct Search<'a> {
    table: &'a Table,
    base: &'a Base,
    /// By cell of now: bad calls expected if nothing had changed, and if all odds had risen alike.
    expected: Vec<f64>,
    risen: Vec<f64>,
    reference_expected: Vec<f64>,
    all: Seen,
    /// Values of each dimension among the calls of now.
    values: Vec<f64>,
}

impl<'a> Search<'a> {
    fn new(table: &'a Table, base: &'a Base) -> Self {
        let of = |cells: &Cells, odds: &[f64]| -> Vec<f64> { cells.calls.iter().zip(odds).map(|(calls, odds)| calls * chance(*odds)).collect() };
        let expected = of(&table.now, &base.now);
        let reference_expected = of(&table.reference, &base.reference);
        let bad: f64 = table.now.bad.iter().sum();
        let factor = risen_by(&table.now, &base.now, bad);
        let risen: Vec<f64> = table.now.calls.iter().zip(&base.now).map(|(calls, odds)| calls * chance(odds * factor)).collect();
        let all = Seen {
            calls: table.now.calls.iter().sum(),
            bad,
            squares: table.now.squares.iter().sum(),
            expected: expected.iter().sum(),
            risen: risen.iter().sum(),
            reference_calls: table.reference.calls.iter().sum(),
            reference_bad: table.reference.bad.iter().sum(),
            reference_expected: reference_expected.iter().sum(),
        };
        Self { table, base, expected, risen, reference_expected, all, values: Vec::new() }
    }

    fn named(mut self) -> Result<Cause, Silence> {
        let singles: Vec<Vec<Seen>> = (0..self.table.dimensions.len()).map(|dimension| self.singles(dimension)).collect();
        self.values = singles.iter().map(|seen| seen.iter().skip(1).filter(|seen| seen.calls > 0.0).count() as f64).collect();
        let mut rated = Vec::new();
        let mut paired = Vec::new();
        for (dimension, seen) in singles.iter().enumerate() {
            let mut of: Vec<Rated> = (1..seen.len() as u32)
                .filter(|&code| seen[code as usize].bad > 0.0)
                .map(|code| self.rate(Part::One((dimension, code)), seen[code as usize]))
                .collect();
            of.sort_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| a.part.cmp(&b.part)));
            paired.extend(of.iter().filter(|rated| rated.share > 0.0).take(PAIRED_VALUES).flat_map(|rated| rated.part.values()));
            rated.extend(of);
        }
        let pairs = self.pairs(&paired);
        let alone = |(dimension, code): Value| singles[dimension][code as usize].calls;
        for (a, b, seen) in pairs {
            // One that is all of a value is that value.
            if seen.bad > 0.0 && seen.calls < SAME_MIN * alone(a).min(alone(b)) {
                rated.push(self.rate(Part::Two(a, b), seen));
            }
        }
        rated.sort_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| a.part.cmp(&b.part)));
        self.look_closely(&mut rated);
        if !rated.iter().any(|rated| rated.beyond > 0.0) {
            return Err(Silence::Fleet);
        }
        let best = rated.iter().find(|rated| rated.beyond > 0.0 && rated.large).ok_or(Silence::Partial)?;
        Ok(self.told(best, &rated, &paired))
    }

    /// Sums by value of one dimension.
    fn singles(&self, dimension: usize) -> Vec<Seen> {
        let mut seen = vec![Seen::default(); self.table.dimensions[dimension].values.len()];
        let now = &self.table.now;
        for (at, &code) in now.codes[dimension].iter().enumerate() {
            self.add_now(&mut seen[code as usize], at);
        }
        for (at, &code) in self.table.reference.codes[dimension].iter().enumerate() {
            self.add_reference(&mut seen[code as usize], at);
        }
        seen
    }

    fn add_now(&self, seen: &mut Seen, at: usize) {
        let now = &self.table.now;
        seen.calls += now.calls[at];
        seen.bad += now.bad[at];
        seen.squares += now.squares[at];
        seen.expected += self.expected[at];
        seen.risen += self.risen[at];
    }

    fn add_reference(&self, seen: &mut Seen, at: usize) {
        seen.reference_calls += self.table.reference.calls[at];
        seen.reference_bad += self.table.reference.bad[at];
        seen.reference_expected += self.reference_expected[at];
    }

    /// Sums of all pairs of these values that are of different dimensions and occur together.
    fn pairs(&self, values: &[Value]) -> Vec<(Value, Value, Seen)> {
        let slots = Slots::new(values, self.table);
        let mut seen = vec![Seen::default(); values.len() * values.len()];
        slots.each(&self.table.now, |pair, at| self.add_now(&mut seen[pair], at));
        slots.each(&self.table.reference, |pair, at| self.add_reference(&mut seen[pair], at));
        let mut pairs = Vec::new();
        for (a, &first) in values.iter().enumerate() {
            for (b, &second) in values.iter().enumerate().skip(a + 1) {
                let seen = seen[a * values.len() + b];
                if first.0 != second.0 && seen.calls > 0.0 {
                    pairs.push((first, second, seen));
                }
            }
        }
        pairs
    }

    /// How many nats it costs to say which candidate: dimensions alike, then values alike; a pair as two, and half as likely as one.
    fn cost(&self, part: &Part) -> f64 {
        let dimensions = self.values.iter().filter(|&&values| values > 0.0).count() as f64;
        match *part {
            Part::One((dimension, _)) => libm::log(2.0 * dimensions * self.values[dimension]),
            Part::Two((a, _), (b, _)) => libm::log(dimensions * (dimensions - 1.0) * self.values[a] * self.values[b]),
        }
    }

    fn rate(&self, part: Part, mut seen: Seen) -> Rated {
        let all = &self.all;
        let mut shape = seen.reference_bad;
        match part {
            Part::One((dimension, _)) => shape += self.base.alike[dimension],
            Part::Two(..) => {
                // What the two did together beyond their factors, before.
                let together = (seen.reference_bad + PAIR_PRIOR) / (seen.reference_expected + PAIR_PRIOR);
                seen.expected = (seen.expected * together).min(seen.calls);
                seen.risen = (seen.risen * together).min(seen.calls);
                shape += PAIR_PRIOR;
            }
        }
        let new = seen.reference_calls * all.calls < NEW_MAX * seen.calls * all.reference_calls;
        if new {
            shape = f64::INFINITY;
        }
        let cost = self.cost(&part);
        // All odds risen alike, all chances risen by the same: what lies between them expects something between.
        let added = seen.expected + (all.bad - all.expected) * seen.calls / all.calls;
        let fleet = seen.risen.max(added).min(all.bad);
        let rest = all.bad - seen.bad;
        if seen.bad <= fleet {
            return Rated { part, seen, share: 0.0, rank: -cost, beyond: -cost, large: false, new };
        }
        let spread = (seen.squares / seen.bad).max(1.0);
        let rank = concentration(seen.bad, seen.expected * all.bad / all.expected, all.bad) / spread - cost;
        let by_window = concentration(seen.bad, fleet, all.bad) / spread;
        let rest_shape = (all.reference_bad - seen.reference_bad).max(0.0) + PAIR_PRIOR;
        let evidence = (uncertain(seen.bad, fleet, shape) + uncertain(rest, all.bad - fleet, rest_shape)) / spread;
        let beyond = tail(evidence.min(by_window)) - cost + libm::log(FALSE_NAMES);
        // How it would be had it moved as the others did, by factor or by difference, whichever leaves less to explain.
        let others_expected = (all.expected - seen.expected).max(0.0);
        let others_calls = (all.calls - seen.calls).max(0.0);
        let factor = if others_expected > 0.0 { (rest / others_expected).max(1.0) } else { 1.0 };
        let difference = if others_calls > 0.0 { ((rest - others_expected) / others_calls).max(0.0) } else { 0.0 };
        let as_others = (seen.expected * factor).max(seen.expected + difference * seen.calls);
        let share = ((seen.bad - as_others) / (all.bad - all.expected)).min(1.0);
        let ratio = (seen.bad / fleet) / (rest.max(0.5) / (all.bad - fleet).max(0.5));
        Rated { part, seen, share, rank, beyond, large: share >= SHARE_MIN && ratio >= RATIO_MIN, new }
    }

    /// Ranks the best by each call's own chance. Within a candidate chances rose by a factor or by a difference, whichever fits better; elsewhere by a
    /// factor. A candidate that leaves out some of the calls that became worse is then behind one that has all of them, however rarely those were bad
    /// before.
    fn look_closely(&self, rated: &mut [Rated]) {
        let now = &self.table.now;
        let bad: Vec<usize> = (0..now.len()).filter(|&at| now.bad[at] > 0.0).collect();
        for rated in rated.iter_mut().take(CLOSE).filter(|rated| rated.share > 0.0) {
            let (seen, all) = (rated.seen, &self.all);
            let values = rated.part.values();
            let added = (seen.bad - seen.expected).max(0.0) / seen.calls;
            let inside = bad.iter().filter(|&&at| values.iter().all(|&(dimension, code)| now.codes[dimension][at] == code));
            let by_difference: f64 = inside.map(|&at| now.bad[at] * libm::log(1.0 + added * now.calls[at] / self.expected[at])).sum();
            let by_factor = times_log(seen.bad, seen.expected);
            let rest = times_log(all.bad - seen.bad, all.expected - seen.expected);
            let spread = (seen.squares / seen.bad).max(1.0);
            rated.rank = (by_difference.max(by_factor) + rest - times_log(all.bad, all.expected)) / spread - self.cost(&rated.part);
        }
        rated.sort_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| a.part.cmp(&b.part)));
    }

    fn told(&self, best: &Rated, rated: &[Rated], paired: &[Value]) -> Cause {
        let calls = self.calls_within(&best.part, paired);
        let mut same: Vec<&Rated> = rated
            .iter()
            .filter(|other| {
                let both = calls.of(&other.part);
                both >= SAME_MIN * (best.seen.calls + other.seen.calls - both)
            })
            .collect();
        // The coarsest first: fewer values, then a dimension of fewer values, then by name.
        let coarse = |part: &Part| (part.values().len(), part.values().iter().map(|value| self.values[value.0] as u64).product::<u64>());
        same.sort_by(|a, b| coarse(&a.part).cmp(&coarse(&b.part)).then_with(|| a.part.cmp(&b.part)));
        let rivals = rated
            .iter()
            .filter(|other| other.large && other.beyond > 0.0 && other.rank > best.rank - RIVAL && same.iter().all(|same| same.part != other.part));
        let rivals = rivals.take(RIVALS_MAX).map(|other| self.labels(&other.part)).collect();
        let first = same.first().copied().unwrap_or(best);
        // A pair that only adds a value to another name for the same calls says nothing more.
        let fewest = first.part.values().len();
        let same = same.iter().skip(1).filter(|other| other.part.values().len() == fewest).take(SAME_NAMES_MAX);
        let (seen, all) = (&first.seen, &self.all);
        let elsewhere = all.calls - seen.calls;
        Cause {
            labels: self.labels(&first.part),
            same: same.map(|other| self.labels(&other.part)).collect(),
            rivals,
            share: first.share,
            calls: seen.calls,
            bad: seen.bad,
            rate: seen.bad / seen.calls,
            rate_elsewhere: if elsewhere > 0.0 { ((all.bad - seen.bad) / elsewhere).clamp(0.0, 1.0) } else { 0.0 },
            rate_expected: seen.expected / seen.calls,
            new: first.new,
            evidence: first.beyond.max(best.beyond),
        }
    }

    /// How many of a part's calls now are also in others.
    fn calls_within(&self, part: &Part, paired: &[Value]) -> Within {
        let now = &self.table.now;
        let values = part.values();
        let inside = |at: usize| values.iter().all(|&(dimension, code)| now.codes[dimension][at] == code);
        let singles = now.codes.iter().zip(&self.table.dimensions).map(|(codes, dimension)| {
            let mut calls = vec![0.0; dimension.values.len()];
            codes.iter().enumerate().filter(|(at, _)| inside(*at)).for_each(|(at, &code)| calls[code as usize] += now.calls[at]);
            calls
        });
        let singles = singles.collect();
        let slots = Slots::new(paired, self.table);
        let mut pairs = vec![0.0; paired.len() * paired.len()];
        slots.each(now, |pair, at| {
            if inside(at) {
                pairs[pair] += now.calls[at];
            }
        });
        Within { singles, pairs, paired: paired.to_vec() }
    }

    fn labels(&self, part: &Part) -> Vec<Label> {
        let label = |(dimension, code): Value| {
            let dimension = &self.table.dimensions[dimension];
            Label { dimension: dimension.name.clone(), value: dimension.values[code as usize].clone() }
        };
        part.values().into_iter().map(label).collect()
    }
}

struct Within {
    singles: Vec<Vec<f64>>,
    pairs: Vec<f64>,
    paired: Vec<Value>,
}

impl Within {
    fn of(&self, part: &Part) -> f64 {
        let slot = |value: Value| self.paired.iter().position(|&other| other == value).expect("pairs are made of these values");
        match *part {
            Part::One((dimension, code)) => self.singles[dimension][code as usize],
            Part::Two(a, b) => self.pairs[slot(a) * self.paired.len() + slot(b)],
        }
    }
}

/// The values that pairs are made of, found by dimension and code.
struct Slots {
    /// By dimension and code: the slot and one, 0 for none.
    by_value: Vec<Vec<u32>>,
    slots: usize,
}

impl Slots {
    fn new(values: &[Value], table: &Table) -> Self {
        let mut by_value: Vec<Vec<u32>> = table.dimensions.iter().map(|dimension| vec![0; dimension.values.len()]).collect();
        values.iter().zip(1..).for_each(|(&(dimension, code), slot)| by_value[dimension][code as usize] = slot);
        Self { by_value, slots: values.len() }
    }

    /// Each cell once for each pair of slots it is in; the first of the two is the smaller one, because slots go up by dimension.
    fn each(&self, cells: &Cells, mut take: impl FnMut(usize, usize)) {
        let mut found = Vec::with_capacity(self.by_value.len());
        for at in 0..cells.len() {
            found.clear();
            found.extend(self.by_value.iter().zip(&cells.codes).map(|(slots, codes)| slots[codes[at] as usize]).filter(|&slot| slot > 0));
            for (first, &a) in found.iter().enumerate() {
                found[first + 1..].iter().for_each(|&b| take((a as usize - 1) * self.slots + b as usize - 1, at));
            }
        }
    }
}

/// The factor on all odds at which so many bad calls are expected, at least 1; by halving, to a part in a million.
fn risen_by(cells: &Cells, odds: &[f64], bad: f64) -> f64 {
    let expected = |log: f64| -> f64 {
        let factor = libm::exp(log);
        cells.calls.iter().zip(odds).map(|(calls, odds)| calls * chance(odds * factor)).sum()
    };
    // Up to e^40, where even a chance of one in a billion is all.
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..26 {
        let middle = 0.5 * (low + high);
        if expected(middle) < bad { low = middle } else { high = middle }
    }
    libm::exp(0.5 * (low + high))
}
