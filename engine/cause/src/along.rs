//! Which earlier step of the affected runs went wrong, so that the alerted one did.
//!
//! A step explains the excess of affected runs as far as it went wrong more often than before, times how much more often runs are affected where it did.
//! Of those that explain about as much the earliest is named, because what it broke is bad too. Later steps never get here ([`crate::runs`]).
//! Deliberately absent: what a step hands to the next one, and steps that broke without any signal holding.

use crate::across::{Across, Silence};
use crate::calls::Period;
use crate::evidence::{association, difference, wilson};
use crate::runs::{Kept, Runs, STRATA_MAX, Way};
use serde::Serialize;

/// A step is named with less than this chance of being named where it has nothing to do with it.
const FALSE_NAMES: f64 = 0.01;
/// The least share of the excess that a step explains.
const SHARE_MIN: f64 = 0.5;
/// An earlier step is named before a later one if it explains at least this part of what the best one explains.
const EARLIER: f64 = 0.6;
/// The least by which a step's rates in affected and other runs differ, at the lower end of the interval.
const DIFFERENCE_MIN: f64 = 0.05;
/// Who served a step is named with it if it explains this part of what the step explains, and serves less than that part of its runs.
const BY_EXPLAINS: f64 = 0.85;
const BY_SERVES_MAX: f64 = 0.7;
/// At most three rivals are told.
const RIVALS_MAX: usize = 3;

/// What the runs of two periods say. Counts are sums of weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Along {
    pub runs: f64,
    pub affected: f64,
    /// Affected runs above what the reference's rate gives; without a reference, all of them.
    pub excess: f64,
    pub cause: Option<StepCause>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepCause {
    pub step: String,
    pub signal: String,
    /// Who served it wherever it matters; absent where that makes no difference.
    pub by: Option<String>,
    /// Of the excess of affected runs, what would not be there if this step had gone wrong as often as before. At most 1.
    pub share: f64,
    /// How often it was bad in affected runs and in the others, 0 to 1, each with its 95 % interval (Wilson).
    pub in_affected: Rate,
    pub in_others: Rate,
    /// Log likelihood ratio of the association, in nats, beyond what looking at so many ways asks for. Above 0.
    pub evidence: f64,
    /// Other ways of being bad of the same step that explain about as much, best first.
    pub also: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    pub rate: f64,
    pub low: f64,
    pub high: f64,
}

/// The earlier step that most likely made the alerted one bad.
///
/// `across` is what calls with the alerted step's labels say, where that is known. Where other calls came, of a kind that is bad in many steps at once,
/// no step broke another, and none is named. The same for any order of runs. Cost: each run's signals a few times.
pub fn along(runs: &Runs, across: Option<&Across>) -> Along {
    let mut kept: Vec<&Kept> = runs.runs.iter().collect();
    kept.sort_by(|a, b| a.weight.total_cmp(&b.weight));
    let counts = Counts::of(&kept, runs.names.places.len());
    let (all, affected) = (counts.total(Period::Now, false) + counts.total(Period::Now, true), counts.total(Period::Now, true));
    let (reference_all, reference_affected) =
        (counts.total(Period::Reference, false) + counts.total(Period::Reference, true), counts.total(Period::Reference, true));
    let usual = if reference_all > 0.0 { reference_affected / reference_all } else { 0.0 };
    let excess = affected - all * usual;
    let mut said = Along { runs: all, affected, excess, cause: None };
    let mixed = across.is_some_and(|across| across.silence == Some(Silence::Mix));
    if affected <= 0.0 || excess <= 0.0 || affected >= all || mixed {
        return said;
    }
    let stands_for = stands_for(&kept);
    let measure = |code: u32| Measured::of(&counts, code, excess, stands_for);
    let names: Vec<(&Way, u32)> = runs.names.ordered().collect();
    let steps: Vec<Candidate<'_>> = names
        .iter()
        .filter(|(way, code)| way.by.is_empty() && !way.signal.is_empty() && counts.seen(*code))
        .map(|&(way, code)| Candidate { way, place: place(&names, runs, &way.step), measured: measure(code) })
        .collect();
    let cost = libm::log(steps.len().max(1) as f64) - libm::log(FALSE_NAMES);
    let mut good: Vec<&Candidate<'_>> = steps.iter().filter(|candidate| candidate.measured.may_be_named(cost)).collect();
    let Some(most) = good.iter().map(|candidate| candidate.measured.share).max_by(f64::total_cmp) else {
        return said;
    };
    good.retain(|candidate| candidate.measured.share >= EARLIER * most);
    good.sort_by(|a, b| {
        let by_place = a.place.total_cmp(&b.place).then_with(|| a.way.step.cmp(&b.way.step));
        by_place.then_with(|| b.measured.evidence.total_cmp(&a.measured.evidence)).then_with(|| a.way.cmp(b.way))
    });
    let Some(first) = good.first() else {
        return said;
    };
    let also = good.iter().skip(1).filter(|other| other.way.step == first.way.step).take(RIVALS_MAX);
    let measured = &first.measured;
    let by = names.iter().filter(|(way, _)| way.step == first.way.step && way.signal == first.way.signal && !way.by.is_empty());
    let by = by.filter(|(way, code)| {
        let there = |by: &str| names.iter().find(|(other, _)| other.step == way.step && other.by == by && other.signal.is_empty());
        let served = |by: &str| there(by).map_or(0.0, |(_, code)| counts.with(Period::Now, *code));
        measure(*code).share >= BY_EXPLAINS * measured.share && served(&way.by) <= BY_SERVES_MAX * served("")
    });
    said.cause = Some(StepCause {
        step: first.way.step.clone(),
        signal: first.way.signal.clone(),
        by: by
            .max_by(|(a, a_code), (b, b_code)| measure(*a_code).share.total_cmp(&measure(*b_code).share).then_with(|| b.cmp(a)))
            .map(|(way, _)| way.by.clone()),
        share: measured.share,
        in_affected: measured.in_affected,
        in_others: measured.in_others,
        evidence: measured.evidence - cost,
        also: also.map(|other| other.way.signal.clone()).collect(),
    });
    said
}

struct Candidate<'a> {
    way: &'a Way,
    /// Mean place of the step in its runs.
    place: f64,
    measured: Measured,
}

fn place(names: &[(&Way, u32)], runs: &Runs, step: &str) -> f64 {
    let there = names.iter().find(|(way, _)| way.step == step && way.by.is_empty() && way.signal.is_empty());
    there.map_or(f64::MAX, |(_, code)| {
        let (sum, of) = runs.names.places[*code as usize];
        sum as f64 / of.max(1) as f64
    })
}

/// How many runs one affected run stands for, by squares of weights (Kish 1965).
fn stands_for(kept: &[&Kept]) -> f64 {
    let affected = kept.iter().filter(|run| run.affected && run.period == Period::Now);
    let (sum, squares) = affected.fold((0.0, 0.0), |(sum, squares), run| (sum + run.weight, squares + run.weight * run.weight));
    if sum > 0.0 { squares / sum } else { 1.0 }
}

/// Sums of weights by period, stratum and affected or not: of all runs, and of those with each way.
struct Counts {
    totals: Vec<f64>,
    with: Vec<f64>,
    ways: usize,
}

const STRATA: usize = STRATA_MAX as usize;

impl Counts {
    fn of(kept: &[&Kept], ways: usize) -> Self {
        let mut counts = Self { totals: vec![0.0; STRATA * 4], with: vec![0.0; STRATA * 4 * ways], ways };
        for run in kept {
            let cell = Self::cell(run.period, run.affected, usize::from(run.stratum));
            counts.totals[cell] += run.weight;
            run.ways.iter().for_each(|&way| counts.with[cell * ways + way as usize] += run.weight);
        }
        counts
    }

    fn cell(period: Period, affected: bool, stratum: usize) -> usize {
        stratum * 4 + if period == Period::Now { 0 } else { 2 } + usize::from(affected)
    }

    fn total(&self, period: Period, affected: bool) -> f64 {
        (0..STRATA).map(|stratum| self.totals[Self::cell(period, affected, stratum)]).sum()
    }

    fn within(&self, period: Period, affected: bool, stratum: usize, way: u32) -> (f64, f64) {
        let cell = Self::cell(period, affected, stratum);
        (self.with[cell * self.ways + way as usize], self.totals[cell])
    }

    /// Runs of a period with a way.
    fn with(&self, period: Period, way: u32) -> f64 {
        self.of_affected(period, false, way) + self.of_affected(period, true, way)
    }

    fn of_affected(&self, period: Period, affected: bool, way: u32) -> f64 {
        (0..STRATA).map(|stratum| self.within(period, affected, stratum, way).0).sum()
    }

    fn seen(&self, way: u32) -> bool {
        self.of_affected(Period::Now, true, way) > 0.0
    }
}

#[derive(Debug)]
struct Measured {
    share: f64,
    evidence: f64,
    in_affected: Rate,
    in_others: Rate,
    /// Lower end of the 95 % interval of the difference of the two.
    difference_low: f64,
}

impl Measured {
    fn of(counts: &Counts, way: u32, excess: f64, stands_for: f64) -> Self {
        let (mut above, mut of, mut evidence) = (0.0, 0.0, 0.0);
        for stratum in 0..STRATA {
            let (a, affected) = counts.within(Period::Now, true, stratum, way);
            let (b, others) = counts.within(Period::Now, false, stratum, way);
            let (with, without) = (a + b, affected + others - a - b);
            let all = with + without;
            if with > 0.0 && without > 0.0 {
                above += (a * without - (affected - a) * with) / all;
                of += with * without / all;
                let half_g = association(a, with, affected - a, without) / stands_for;
                // Strata that point the other way are evidence against it.
                evidence += if a * without >= (affected - a) * with { half_g } else { -half_g };
            }
        }
        // Mantel and Haenszel's risk difference: how much more often runs are affected where the step was bad, among comparable runs.
        let risk = if of > 0.0 { above / of } else { 0.0 };
        let runs = |period| counts.total(period, false) + counts.total(period, true);
        let usual = if runs(Period::Reference) > 0.0 { counts.with(Period::Reference, way) / runs(Period::Reference) } else { 0.0 };
        let more = counts.with(Period::Now, way) - usual * runs(Period::Now);
        let rate = |affected| {
            let (hits, of) = (counts.of_affected(Period::Now, affected, way) / stands_for, counts.total(Period::Now, affected) / stands_for);
            let (low, high) = wilson(hits, of);
            (hits, of, Rate { rate: hits / of, low, high })
        };
        let ((a, m, in_affected), (c, n, in_others)) = (rate(true), rate(false));
        Self { share: (more * risk / excess).min(1.0), evidence, in_affected, in_others, difference_low: difference(a, m, c, n).0 }
    }

    fn may_be_named(&self, cost: f64) -> bool {
        self.evidence > cost && self.share >= SHARE_MIN && self.difference_low >= DIFFERENCE_MIN
    }
}
