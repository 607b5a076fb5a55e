//! The sequential test of one series: it adds up evidence tick by tick, and once it has fired, tests backwards for the end.
//!
//! It is a mixture Shiryaev-Roberts e-detector. For each alternative `R ← (1 + R) · L`; while the truth is expected, `Σ w R` minus the number of
//! ticks is a supermartingale, so the time until it reaches a threshold A is at least A ticks on average. Ticks without trials are not ticks.
//!
//! Sources: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", NEJSDS (2023); Pollak, Tartakovsky,
//! "Optimality properties of the Shiryaev-Roberts procedure", Statistica Sinica 19 (2009).

use super::alternative::Alternative;
use super::evidence::counts;
use super::exponential::exponentials;
use super::{expit, logit};
use model::window::Direction;
use serde::{Deserialize, Serialize};

/// Ticks of a day.
pub const DAY: f64 = 8640.0;
/// Fewest active ticks between false alarms that a threshold stands for, however idle the series is.
const THRESHOLD_MIN: f64 = 50.0;
/// The end of an incident is tested like its beginning: at most one false end in so many ticks.
const RESOLVE_TICKS: f64 = DAY;
/// Standard errors by which the incident's rate is pulled towards what is expected before its end is tested. Chosen on simulated incidents of four
/// hours: with 1.65, ends come twice as soon and four times as often too soon.
const RESOLVE_ERRORS: f64 = 2.5;
/// An incident is at least so far (log-odds, ×1.3) from what is expected.
const INCIDENT_MIN: f64 = 0.262;
/// Ticks over which an incident's rate is refined, a stretch late.
const REFINE: u32 = 60;
/// Above this the incident may be ending, and what comes is not the incident's rate.
const REFINE_BELOW: f64 = 10.0;
/// Alternatives whose evidence is within this (in logs) of the best one's say how uncertain the beginning is.
const ONSET_WITHIN: f64 = 2.0;
/// A beginning so much evidence (in logs) earlier or later, at the pace at which it came, is nearly as likely, and a tick to either side always. Chosen
/// on simulated changes from ×1.25 to ×10, of which more than four in five then began within the bounds; without, one in three.
const ONSET_REACH: f64 = 4.0;

/// Alternatives that are weighed at a time: all of a rate's.
const CHUNK: usize = 12;

/// What a tick leaves of an average with a memory of a day: 0.5^(1/8640).
const KEPT: f64 = 0.999_919_777_849_848_4;

/// How a rate and its distance are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scale {
    /// Events of trials, in log-odds.
    Odds,
    /// Events where so many were expected, in logs.
    Factor,
}

/// One series' evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    alternatives: Box<[Alternative]>,
    /// `Σ w R` after the last tick.
    evidence: f64,
    /// The highest threshold since evidence was last at 0: thresholds only rise, so that a new group voids no promise.
    floor: f64,
    /// Share of ticks with trials: two averages with a memory of a day, and the tick they were last moved at.
    active: f64,
    seen: f64,
    /// Trials per tick, averaged like them.
    flow: f64,
    at: u32,
    firing: Option<Box<Firing>>,
}

/// A series outside its range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// Where the companion CUSUM of the best alternative begins: mostly the first event after the change.
    pub onset: u32,
    /// The tick at which it most likely began, a little before that first event, and the earliest and latest that are nearly as likely.
    pub since: u32,
    pub since_between: (u32, u32),
    pub fired: u32,
    pub direction: Direction,
    /// The alternative that explains it best.
    pub alternative: u8,
    /// ln of the evidence when it fired, and of what was needed.
    pub log_evidence: f64,
    pub log_needed: f64,
    /// The evidence-weighted mean of the alternatives' distances from what is expected: less biased than the rate since the beginning, which was
    /// looked at because it was high.
    pub distance: f64,
    /// Trials and events since it began.
    pub n: f64,
    pub x: f64,
    held: (f64, f64),
    open: (f64, f64),
    open_ticks: u32,
    /// Evidence of its end.
    end: f64,
    /// Distance of the nearest rate that would still be the incident.
    offset: f64,
}

/// What a fired series is tested against at one tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovery {
    pub scale: Scale,
    /// What is expected: log-odds, or ln of the mean count.
    pub base: f64,
    /// Dispersion of this tick.
    pub phi: f64,
    /// Of a negative binomial; infinite otherwise.
    pub shape: f64,
}

impl Detector {
    pub fn new(alternatives: usize) -> Self {
        let alternatives = vec![Alternative::default(); alternatives].into();
        Self { alternatives, evidence: 0.0, floor: 0.0, active: 0.0, seen: 0.0, flow: 0.0, at: 0, firing: None }
    }

    /// `Σ w R`: compare it with [`Self::threshold`].
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    pub fn firing(&self) -> Option<&Firing> {
        self.firing.as_deref()
    }

    /// The share of ticks up to `at` in which it had trials, 0..=1; 1 before the first.
    pub fn activity(&self, at: u32) -> f64 {
        let (kept, seen) = self.idle(at);
        if seen > 0.0 { self.active * kept / seen } else { 1.0 }
    }

    /// The evidence at which it fires at tick `at`, if a false alarm may come once in `ticks`.
    pub fn threshold(&self, at: u32, ticks: f64) -> f64 {
        (ticks * self.activity(at)).max(THRESHOLD_MIN).max(self.floor)
    }

    /// The threshold, which does not fall from now on until evidence starts anew.
    pub fn hold_threshold(&mut self, at: u32, ticks: f64) -> f64 {
        self.floor = self.threshold(at, ticks);
        self.floor
    }

    /// Trials per tick up to `at`, idle ticks included.
    pub fn calls_per_tick(&self, at: u32) -> f64 {
        let (kept, seen) = self.idle(at);
        if seen > 0.0 { self.flow * kept / seen } else { 0.0 }
    }

    /// The last tick with trials.
    pub fn last(&self) -> u32 {
        self.at
    }

    /// Says that tick `at` had `n` trials. Ticks in between had none; they cost nothing.
    pub fn moved_to(&mut self, at: u32, n: f64) {
        let (kept, seen) = self.idle(at.saturating_sub(1));
        self.seen = seen + (1.0 - KEPT) * (1.0 - seen);
        self.active = self.active * kept + (1.0 - KEPT) * (1.0 - self.active * kept);
        self.flow = self.flow * kept + (1.0 - KEPT) * (n - self.flow * kept);
        self.at = at;
    }

    /// What idle ticks after the last one, up to `at`, leave of the averages, and the weight of all ticks by then.
    fn idle(&self, at: u32) -> (f64, f64) {
        let idle = if self.seen == 0.0 { 0 } else { at.saturating_sub(self.at) };
        if idle == 0 {
            return (1.0, self.seen);
        }
        let kept = libm::pow(KEPT, f64::from(idle));
        (kept, 1.0 - (1.0 - self.seen) * kept)
    }

    /// One tick while it does not fire: trials and events for each alternative's date and size, and its evidence. `evidence` gives `None` for
    /// alternatives that are not looked for.
    pub fn weigh(&mut self, at: u32, weights: &[f64], n: f64, x: impl Fn(usize) -> f64, evidence: impl Fn(usize) -> Option<f64>) {
        debug_assert_eq!(weights.len(), self.alternatives.len());
        let (mut first, mut sum) = (0, 0.0);
        for (alternatives, weights) in self.alternatives.chunks_mut(CHUNK).zip(weights.chunks(CHUNK)) {
            let (mut llrs, mut ratios) = ([f64::NAN; CHUNK], [0.0; CHUNK]);
            for (k, llr) in llrs.iter_mut().enumerate().take(alternatives.len()) {
                *llr = evidence(first + k).unwrap_or(f64::NAN);
            }
            ratios.copy_from_slice(&llrs);
            exponentials(&mut ratios);
            for (k, (alternative, weight)) in alternatives.iter_mut().zip(weights).enumerate() {
                if llrs[k].is_nan() {
                    *alternative = Alternative::default();
                } else {
                    alternative.add(at, n, x(first + k), llrs[k], ratios[k]);
                    sum += weight * alternative.r;
                }
            }
            first += CHUNK;
        }
        self.evidence = sum;
    }

    /// The best explanation so far: the alternative with the most evidence since it began.
    pub fn best(&self) -> Option<(usize, &Alternative)> {
        let mut best: Option<(usize, &Alternative)> = None;
        for (k, alternative) in self.alternatives.iter().enumerate() {
            if alternative.s > best.map_or(0.0, |(_, best)| best.s) {
                best = Some((k, alternative));
            }
        }
        best
    }

    /// Fires, by its best explanation. `distances` are the alternatives' own, signed, in the unit of `recovery.base`.
    pub fn fire(&mut self, at: u32, weights: &[f64], distances: &[f64], recovery: &Recovery) {
        let Some((k, best)) = self.best() else { return };
        let direction = if distances[k] > 0.0 { Direction::Up } else { Direction::Down };
        let same_side = |k: usize| (distances[k] > 0.0) == (direction == Direction::Up);
        let near =
            self.alternatives.iter().enumerate().filter(|(i, other)| same_side(*i) && other.s > 0.0 && other.s >= best.s - ONSET_WITHIN as f32);
        let (first, last) = near.fold((best.onset, best.onset), |(first, last), (_, other)| (first.min(other.onset), last.max(other.onset)));
        let pace = f64::from(best.s) / f64::from(at - best.onset + 1);
        let reach = libm::ceil(ONSET_REACH / pace).min(f64::from(u32::MAX)) as u32;
        let (first, last) = (first.saturating_sub(reach), last.saturating_add(reach).min(at));
        let calls = f64::from(best.n) / f64::from(at - best.onset + 1);
        let before = unseen(calls, distances[k], recovery);
        let (mut mass, mut distance) = (0.0, 0.0);
        for (i, other) in self.alternatives.iter().enumerate().filter(|(i, _)| same_side(*i)) {
            mass += weights[i] * other.r;
            distance += weights[i] * other.r * distances[i];
        }
        let mut firing = Firing {
            onset: best.onset,
            // What fails at once does so sooner than the nearest alternative would: then the pace of evidence is the better bound.
            since: best.onset.saturating_sub(before).max(first),
            since_between: (first, last),
            fired: at,
            direction,
            alternative: k as u8,
            log_evidence: libm::log(self.evidence),
            log_needed: libm::log(self.floor.max(THRESHOLD_MIN)),
            distance: if mass > 0.0 { distance / mass } else { distances[k] },
            n: f64::from(best.n),
            x: f64::from(best.x),
            held: (0.0, 0.0),
            open: (0.0, 0.0),
            open_ticks: 0,
            end: 0.0,
            offset: 0.0,
        };
        // Beyond the farthest alternative the mixture cannot lean; the rate itself can, held back by half its error.
        let farthest = distances.iter().fold(0.0, |far: f64, distance| far.max(firing.sign() * distance));
        let (observed, error) = firing.distance_and_error(recovery);
        let observed = observed - firing.sign() * 0.5 * error;
        if firing.sign() * observed > farthest {
            firing.distance = observed;
        }
        firing.set_offset(recovery);
        self.firing = Some(Box::new(firing));
    }

    /// One tick while it fires. True when it is over: the evidence starts anew.
    pub fn recover(&mut self, n: f64, x: f64, recovery: &Recovery) -> bool {
        let Some(firing) = &mut self.firing else { return false };
        let over = firing.recover(n, x, recovery);
        if over {
            self.reset();
        }
        over
    }

    /// Evidence starts anew; how active the series is stays known.
    pub fn reset(&mut self) {
        self.alternatives.fill(Alternative::default());
        (self.evidence, self.floor, self.firing) = (0.0, 0.0, None);
    }
}

/// The median number of ticks between a rise of a rate and the first event after it, given that none was seen: each tick of `calls` calls without an
/// event is less likely by the same factor.
fn unseen(calls: f64, distance: f64, recovery: &Recovery) -> u32 {
    if recovery.scale != Scale::Odds || distance <= 0.0 {
        return 0;
    }
    let (q, h) = (expit(recovery.base + distance), expit(recovery.base));
    let quiet = calls * libm::log((1.0 - h) / (1.0 - q)) / recovery.phi;
    libm::floor(std::f64::consts::LN_2 / quiet).min(DAY) as u32
}

impl Firing {
    /// The rate, or the factor on what was expected, since it began.
    pub fn observed(&self, scale: Scale) -> f64 {
        match scale {
            Scale::Odds => (self.x + 0.5) / (self.n + 1.0),
            Scale::Factor => (self.x + 0.5) / (self.n + 0.5),
        }
    }

    fn sign(&self) -> f64 {
        if self.direction == Direction::Up { 1.0 } else { -1.0 }
    }

    fn recover(&mut self, n: f64, x: f64, recovery: &Recovery) -> bool {
        self.open = (self.open.0 + n, self.open.1 + x);
        self.open_ticks += 1;
        if self.open_ticks >= REFINE {
            if self.end <= REFINE_BELOW {
                self.n += self.held.0;
                self.x += self.held.1;
                self.held = self.open;
                self.set_offset(recovery);
            } else {
                self.held = (0.0, 0.0);
            }
            self.open = (0.0, 0.0);
            self.open_ticks = 0;
        }
        let llr = match recovery.scale {
            Scale::Odds => {
                let (q, p) = (expit(recovery.base + self.offset), expit(recovery.base));
                x * libm::log(p / q) + (n - x) * libm::log((1.0 - p) / (1.0 - q))
            }
            Scale::Factor => counts(x, n, n * libm::exp(self.offset), recovery.shape),
        };
        self.end = ((1.0 + self.end) * libm::exp(llr / recovery.phi)).min(1e200);
        self.end >= RESOLVE_TICKS
    }

    /// How far the rate since it began lies from what is expected, and the standard error of that.
    fn distance_and_error(&self, recovery: &Recovery) -> (f64, f64) {
        match recovery.scale {
            Scale::Odds => {
                let rate = (self.x + 0.5) / (self.n + 1.0);
                let error = libm::sqrt(recovery.phi / (self.x + 0.5) + recovery.phi / (self.n - self.x + 0.5));
                (logit(rate) - recovery.base, error)
            }
            Scale::Factor => (libm::log(self.observed(Scale::Factor)), libm::sqrt(recovery.phi / (self.x + 0.5))),
        }
    }

    fn set_offset(&mut self, recovery: &Recovery) {
        let sign = self.sign();
        let (distance, error) = self.distance_and_error(recovery);
        self.offset = distance - sign * RESOLVE_ERRORS * error;
        if sign * self.offset < INCIDENT_MIN {
            self.offset = sign * INCIDENT_MIN;
        }
    }
}
