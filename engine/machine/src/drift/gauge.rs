//! One series under watch: what it is expected to show, how much speaks against that, and what a tick changes.
//!
//! A gauge is O(1) in memory and costs work per tick with calls. Its inputs are counts and its parent's range; what fires is decided outside, because
//! that takes all gauges of a tick together ([`super::budget::enough`]).

use super::alternative::{BAD_WHEN_UP, FACTORS, ODDS, uniform};
use super::baseline::{Baseline, Expected, HOUR, KEPT_PER_HOUR, Reference, rate_learned};
use super::delay::Conditions;
use super::detector::{DAY, Detector, Firing, Recovery, Scale};
use super::dispersion::{BLOCK, Dispersion, Excess};
use super::evidence::{Correlated, LN_ODDS, RateNull, RateTest, bets, volume};
use super::season::Priors;
use super::shape::{BINS, LEVELS, TILTS, Tilts};
use super::{expit, logit};
use crate::opinion::weighted;
use model::Buckets;
use model::fold::Ratio;
use model::plan::Range;
use model::verdict::Inclusion;
use model::window::Direction;
use serde::{Deserialize, Serialize};

/// Ticks after which coefficients are made anew: what is expected moves slowly.
const REFRESH: u32 = 6;
/// A range's log-odds and its guard are multiples of this: coefficients are made anew only when it has moved by more than anybody could see.
const GRAIN: f64 = 0.004;
/// Standard errors by which what is expected may be wrong. With 1, baselines of six events kept the promise in simulation; with 0 they did not.
const GUARD: f64 = 1.0;
/// Rates are kept this far from 0 and 1, where log-odds end.
const RATE_MIN: f64 = 1e-7;
/// A change for the better that lasts a day is the new normal. A change for the worse never is, unless the user says so.
const BETTER_FOR: u32 = DAY as u32;
/// A volume is learned from at least this many calls and hours: a day's shape matters more to it than to a rate.
const VOLUME_CALLS: f64 = 20.0;
const VOLUME_HOURS: u32 = 24;
/// A distribution is learned from at least this many values and hours.
const VALUES: u64 = 500;
const VALUES_HOURS: u32 = 1;
/// First bins above the usual median and above the usual 90th percentile.
const MIDDLE: usize = 7;
const UPPER: usize = 11;

/// What a gauge watches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// A share of calls; a rise is what hurts.
    Rate,
    /// A share of calls that a person expects at `low..=high`.
    Limited { low: f64, high: f64 },
    /// Calls per tick; silence counts.
    Volume,
    /// The values of a measure; a rise is what hurts.
    Values,
}

/// What one tick showed.
#[derive(Clone, Copy, Debug)]
pub enum Counts<'a> {
    Events {
        calls: u64,
        events: u64,
    },
    /// Of verdicts: fails among opinions, by the probability with which their calls were chosen; not empty.
    Opinions(&'a [(Inclusion, Ratio)]),
    Calls(u64),
    Values(&'a Buckets),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gauge {
    detector: Detector,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    Rate(Rate),
    Volume(Volume),
    Values(Box<Values>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rate {
    limits: Option<(f64, f64)>,
    baseline: Baseline,
    dispersion: Dispersion,
    /// Made from the above every [`REFRESH`] ticks.
    now: Option<RateNow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RateNow {
    at: u32,
    parent: Option<Reference>,
    /// What it was made from has changed; what has not may be taken over.
    stale: bool,
    expected: Option<Expected>,
    /// Of the learned range, for the residuals, and the standard error of its log.
    p: f64,
    error: f64,
    excess: Excess,
    null: Option<RateNull>,
    /// Made from `null`, and where calls of one tick agree, from `null` and `excess`.
    #[serde(skip)]
    test: Option<RateTest>,
    #[serde(skip)]
    correlated: Option<Box<Correlated>>,
}

/// What is made from the rest says nothing more.
impl PartialEq for RateNow {
    fn eq(&self, other: &Self) -> bool {
        let state = |now: &Self| (now.at, now.parent, now.stale, now.expected, now.p, now.error, now.excess, now.null);
        state(self) == state(other)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Volume {
    baseline: Baseline,
    dispersion: Dispersion,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Values {
    born: u32,
    /// While it learns: all values, and those of each block of ticks that had some. At most some hundred blocks, as [`VALUES`] end it.
    first: Buckets,
    blocks: Vec<(u32, Buckets)>,
    /// The smallest value above each cut.
    cuts: Vec<u64>,
    kept: [f64; BINS],
    open: [f32; BINS],
    held: [f32; BINS],
    hour: u32,
    tainted: bool,
    /// Of the calls above the usual median, and above the usual 90th percentile.
    middle: Dispersion,
    upper: Dispersion,
    /// Of the shares as they were at the last full hour.
    tilts: Option<Tilts>,
}

/// How a gauge stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing<'g> {
    pub learning: bool,
    /// A rate, or calls per tick; `None` for values and while learning.
    pub expected: Option<Range>,
    pub evidence: f64,
    pub best: Option<Best>,
    pub firing: Option<&'g Firing>,
    pub scale: Scale,
    pub excess: Excess,
    /// Of the calls that tell, per tick.
    pub calls_per_tick: f64,
    /// What is expected where evidence is counted: a rate, or 1.
    pub base: f64,
}

/// What speaks most against what is expected, before it fires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    pub since: u32,
    pub log_evidence: f64,
    pub calls: f64,
    pub events: f64,
    pub direction: Direction,
}

/// What a tick ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Resolved,
    /// It was better for so long that it is normal now.
    Adopted,
}

impl Gauge {
    /// Of a series first heard at tick `at`. `strength`: what its parent's range is worth in events; `None` without a parent. `seasonal`: it learns
    /// the shape of day and week itself, because it has children or no parent.
    pub fn new(kind: Kind, at: u32, strength: Option<f64>, seasonal: bool) -> Self {
        let priors = match (kind, strength) {
            (Kind::Volume, _) => Priors::TRAFFIC,
            (_, Some(_)) => Priors::CHILD,
            (_, None) => Priors::RATE,
        };
        let baseline = Baseline::new(at, strength, seasonal.then_some(priors));
        let dispersion = Dispersion::default();
        let (alternatives, state) = match kind {
            Kind::Rate => (ODDS.len(), State::Rate(Rate { limits: None, baseline, dispersion, now: None })),
            Kind::Limited { low, high } => (ODDS.len(), State::Rate(Rate { limits: Some((low, high)), baseline, dispersion, now: None })),
            Kind::Volume => (FACTORS.len(), State::Volume(Volume { baseline, dispersion })),
            Kind::Values => (TILTS, State::Values(Box::new(Values::new(at)))),
        };
        Self { detector: Detector::new(alternatives), state }
    }

    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The threshold, which does not fall from now on until evidence starts anew.
    pub fn hold_threshold(&mut self, at: u32, ticks: f64) -> f64 {
        self.detector.hold_threshold(at, ticks)
    }

    /// One tick with calls (for a volume, any tick). `parent` is what its parent expects at that tick. Cost: a few multiplications and one
    /// exponential per alternative.
    pub fn tick(&mut self, at: u32, counts: Counts<'_>, parent: Option<Reference>) -> Option<Ended> {
        let better = self.is_better_for_long(at);
        if better {
            self.adopt(at, parent);
        }
        let fires = self.detector.firing().is_some();
        let detector = &mut self.detector;
        let ended = match (&mut self.state, counts) {
            (State::Rate(rate), Counts::Events { calls, events }) => rate.tick(detector, at, calls, events, parent, fires),
            (State::Rate(rate), Counts::Opinions(opinions)) => rate.tick_of_opinions(detector, at, opinions, parent, fires),
            (State::Volume(volume), Counts::Calls(calls)) => volume.tick(detector, at, calls, parent, fires),
            (State::Values(values), Counts::Values(buckets)) => values.tick(detector, at, buckets, fires),
            _ => unreachable!("a gauge is given the counts of its kind"),
        };
        if better { Some(Ended::Adopted) } else { ended }
    }

    /// Whether a range that nobody wrote was left for the better a day ago. Of a volume neither direction is better.
    fn is_better_for_long(&self, at: u32) -> bool {
        let learned = matches!(self.state, State::Rate(Rate { limits: None, .. }) | State::Values(_));
        learned && self.detector.firing().is_some_and(|firing| firing.direction == Direction::Down && at - firing.fired >= BETTER_FOR)
    }

    /// Fires now. To be called right after [`Self::tick`] of the same tick. Nothing happens when nothing speaks against what is expected.
    pub fn fire(&mut self, at: u32) {
        let Some((k, _)) = self.detector.best() else { return };
        match &mut self.state {
            State::Rate(rate) => {
                let Some(recovery) = rate.recovery(LN_ODDS[k] > 0.0, 1) else { return };
                let weights = rate.weights();
                self.detector.fire(at, weights, &LN_ODDS, &recovery);
                rate.baseline.taint();
            }
            State::Volume(volume) => {
                self.detector.fire(at, &uniform::<{ FACTORS.len() }>(), &FACTORS.map(libm::log), &volume.recovery());
                volume.baseline.taint();
            }
            State::Values(values) => {
                let Some(tilts) = &values.tilts else { return };
                let recovery = values.recovery(k, 1.0);
                self.detector.fire(at, &uniform::<TILTS>(), &tilts.distances(), &recovery);
                values.tainted = true;
            }
        }
    }

    /// What it expects at tick `at`, for its children. As of the last refresh.
    pub fn reference(&self) -> Option<Reference> {
        match &self.state {
            State::Rate(rate) => rate.now.as_ref().and_then(|now| now.expected).map(|expected| expected.reference()),
            _ => None,
        }
    }

    /// The rate it has learned, as of its last refresh; of rates alone.
    pub fn usual_rate(&self) -> Option<f64> {
        match &self.state {
            State::Rate(rate) => rate.now.as_ref().and_then(|now| now.expected.map(|_| now.p)),
            _ => None,
        }
    }

    /// Events its level rests on and events that its parent's range expected: how far siblings lie apart is learned from these.
    pub fn level(&self) -> Option<(f64, f64)> {
        match &self.state {
            State::Rate(rate) => Some(rate.baseline.counts()),
            _ => None,
        }
    }

    pub fn set_strength(&mut self, strength: f64) {
        if let State::Rate(rate) = &mut self.state {
            rate.baseline.set_strength(strength);
            rate.stale();
        }
    }

    /// What it shows is the new normal: a person said so, or it is better and has been for long. Of a rate, ln of the factor on its level is returned,
    /// for those below it ([`Self::follow`]).
    pub fn adopt(&mut self, at: u32, parent: Option<Reference>) -> Option<f64> {
        let firing = self.detector.firing().cloned();
        let mut moved = None;
        match (&mut self.state, firing) {
            (State::Rate(rate), Some(firing)) => {
                if let Some(expected) = rate.baseline.expected(at, parent) {
                    rate.baseline.adopt(firing.x.max(0.5), firing.n * libm::exp(expected.log), &expected);
                    moved = rate.baseline.expected(at, parent).map(|now| now.log_level() - expected.log_level());
                }
                rate.stale();
            }
            (State::Volume(volume), Some(firing)) => {
                if let Some(expected) = volume.baseline.expected(at, parent) {
                    volume.baseline.adopt(firing.x.max(0.5), firing.n, &expected);
                }
            }
            (State::Values(values), Some(_)) => **values = Values::new(at),
            (_, None) => return None,
        }
        self.detector.reset();
        moved
    }

    /// What its parent shows is the new normal, and this rate does not fire itself: it is expected to have moved as its parent has, by the factor `exp(by)`.
    pub fn follow(&mut self, by: f64) {
        if let State::Rate(rate) = &mut self.state {
            rate.baseline.follow(by);
            rate.stale();
            self.detector.reset();
        }
    }

    /// The direction that its evidence speaks for, and how much (ln) there is since it would have begun.
    pub fn leaning(&self) -> Option<(Direction, f64)> {
        let (k, best) = self.detector.best()?;
        let up = match &self.state {
            State::Rate(_) => LN_ODDS[k] > 0.0,
            State::Volume(_) => FACTORS[k] > 1.0,
            State::Values(values) => values.tilts.as_ref().is_some_and(|tilts| tilts.edge(k).2 > 0.0),
        };
        Some((if up { Direction::Up } else { Direction::Down }, f64::from(best.s)))
    }

    /// Nothing more is said of what fires: it was silent for too long.
    pub fn give_up(&mut self) {
        self.detector.reset();
    }

    /// How it stands at tick `at`, for people. A gauge just restored knows its range again at its next tick.
    pub fn standing(&self, at: u32) -> Standing<'_> {
        let (learning, expected, scale, excess, base) = match &self.state {
            State::Rate(rate) => rate.standing(),
            State::Volume(volume) => volume.standing(self.detector.last()),
            State::Values(values) => (values.tilts.is_none(), None, Scale::Odds, values.excess(), values.base(&self.detector)),
        };
        let best = self.leaning().zip(self.detector.best()).map(|((direction, log_evidence), (_, best))| Best {
            since: best.onset,
            log_evidence,
            calls: f64::from(best.n),
            events: f64::from(best.x),
            direction,
        });
        Standing {
            learning,
            expected,
            evidence: self.detector.evidence(),
            best,
            firing: self.detector.firing(),
            scale,
            excess,
            calls_per_tick: self.detector.calls_per_tick(at),
            base,
        }
    }

    /// The value above which the calls lie that tell a firing distribution from the usual one.
    pub fn edge_value(&self) -> Option<u64> {
        let State::Values(values) = &self.state else { return None };
        let firing = self.detector.firing()?;
        let (from, ..) = values.tilts.as_ref()?.edge(usize::from(firing.alternative));
        values.cuts.get(from - 1).copied()
    }

    /// The usual value at quantile `q`, between the cuts it lies between.
    pub fn usual(&self, q: f64) -> Option<f64> {
        let State::Values(values) = &self.state else { return None };
        values.quantile(q)
    }

    /// What a delay is computed from at tick `at`, if evidence `threshold` is needed. `None` while learning and for volumes.
    pub fn conditions(&self, at: u32, threshold: f64) -> Option<Conditions> {
        let standing = self.standing(at);
        let (base, guard) = match &self.state {
            State::Rate(rate) => {
                let null = rate.now.as_ref()?.null?;
                (null.up?, null.guard)
            }
            State::Values(values) => (logit(values.shares()?[UPPER..].iter().sum::<f64>()), 0.0),
            State::Volume(_) => return None,
        };
        Some(Conditions { base, guard, calls_per_tick: standing.calls_per_tick, excess: standing.excess, threshold })
    }
}

impl Rate {
    fn weights(&self) -> &'static [f64; ODDS.len()] {
        const fn only(up: bool) -> [f64; ODDS.len()] {
            let mut weights = BAD_WHEN_UP;
            let mut k = 0;
            while k < weights.len() {
                let mine = (k < 8) == up;
                weights[k] = if !mine {
                    0.0
                } else if up {
                    weights[k] / 0.9
                } else {
                    weights[k] / 0.1
                };
                k += 1;
            }
            weights
        }
        const UP: [f64; ODDS.len()] = only(true);
        const DOWN: [f64; ODDS.len()] = only(false);
        match self.limits {
            Some((low, high)) if high >= 1.0 && low > 0.0 => &DOWN,
            Some((low, _)) if low <= 0.0 => &UP,
            _ => &BAD_WHEN_UP,
        }
    }

    /// What it expects is made anew at its next tick.
    fn stale(&mut self) {
        self.now.iter_mut().for_each(|now| now.stale = true);
    }

    fn refresh(&mut self, at: u32, parent: Option<Reference>) -> &RateNow {
        if self.now.as_ref().is_none_or(|now| now.stale || now.at != at / REFRESH || now.parent != parent) {
            let expected = self.baseline.expected(at, parent);
            let p = expected.map_or(0.0, |expected| libm::exp(expected.log).clamp(RATE_MIN, 1.0 - 1e-3));
            let learned = expected.map(|expected| {
                let l = libm::round(logit(p) / GRAIN) * GRAIN;
                RateNull { up: Some(l), down: Some(l), guard: libm::ceil(GUARD * libm::sqrt(expected.variance / (1.0 - p)) / GRAIN) * GRAIN }
            });
            let limited = self.limits.map(|(low, high)| RateNull {
                up: (high < 1.0).then(|| logit(high.max(RATE_MIN))),
                down: (low > 0.0).then(|| logit(low.min(1.0 - RATE_MIN))),
                guard: 0.0,
            });
            let (null, excess) = (limited.or(learned), self.dispersion.excess());
            let (test, correlated) = self.now.take().map_or((None, None), |now| (now.test, now.correlated));
            let test = test.filter(|test| Some(*test.null()) == null);
            let correlated = correlated.filter(|correlated| null.is_some_and(|null| correlated.is_of(&null, excess.correlation)));
            let error = expected.map_or(0.0, |expected| libm::sqrt(expected.variance));
            self.now = Some(RateNow { at: at / REFRESH, parent, stale: false, expected, p, error, excess, null, test, correlated });
        }
        let now = self.now.as_mut().expect("it was just made");
        if let Some(null) = now.null {
            if now.test.is_none() {
                now.test = Some(RateTest::new(null));
            }
            if now.correlated.is_none() && now.excess.correlation > 0.0 {
                now.correlated = Some(Box::new(Correlated::new(null, now.excess.correlation)));
            }
        }
        now
    }

    fn tick(&mut self, detector: &mut Detector, at: u32, calls: u64, events: u64, parent: Option<Reference>, fires: bool) -> Option<Ended> {
        if calls == 0 {
            return None;
        }
        if let Some(hours) = self.baseline.pass(at, fires) {
            self.dispersion.close_hour(hours);
            self.stale();
        }
        let weights = self.weights();
        let now = self.refresh(at, parent);
        let (n, x) = (calls as f64, events as f64);
        detector.moved_to(at, n);
        let mut ended = None;
        let phi = now.excess.phi;
        if let Some(test) = &now.test {
            if fires {
                let up = detector.firing().is_some_and(|firing| firing.direction == Direction::Up);
                if let Some(recovery) = self.recovery(up, calls)
                    && detector.recover(n, x, &recovery)
                {
                    ended = Some(Ended::Resolved);
                }
            } else if let Some(correlated) = now.correlated.as_ref().filter(|_| calls > 1) {
                let evidence = correlated.evidence(calls, events);
                detector.weigh(at, weights, n, |_| x, |k| Some(evidence[k] / phi).filter(|llr| !llr.is_nan()));
            } else {
                detector.weigh(at, weights, n, |_| x, |k| test.binomial(k, n, x).map(|llr| llr / phi));
            }
        }
        self.take_in(at, n, x, fires);
        // Its children start from what it expects now.
        self.refresh(at, parent);
        ended
    }

    /// One tick's opinions. Of equal weights it is a tick like any other; of different ones each is a bet against what is expected, staked by its weight.
    fn tick_of_opinions(
        &mut self,
        detector: &mut Detector,
        at: u32,
        opinions: &[(Inclusion, Ratio)],
        parent: Option<Reference>,
        fires: bool,
    ) -> Option<Ended> {
        if let [(_, ratio)] = opinions {
            return self.tick(detector, at, ratio.applies, ratio.holds, parent, fires);
        }
        if let Some(hours) = self.baseline.pass(at, fires) {
            self.dispersion.close_hour(hours);
            self.stale();
        }
        let weights = self.weights();
        let now = self.refresh(at, parent);
        // As many calls of equal weight as would say as much, and their fails.
        let opinions = weighted(opinions);
        let sums =
            opinions.iter().fold((0.0, 0.0, 0.0), |(n, x, squares), (w, calls, fails)| (n + w * calls, x + w * fails, squares + w * w * calls));
        let spread = sums.2 / sums.0;
        let (n, x) = (sums.0 / spread, sums.1 / spread);
        detector.moved_to(at, n);
        let (phi, null) = (now.excess.phi, now.null);
        let mut ended = None;
        if let Some(null) = null {
            if fires {
                let up = detector.firing().is_some_and(|firing| firing.direction == Direction::Up);
                if let Some(recovery) = self.recovery(up, n.max(1.0) as u64)
                    && detector.recover(n, x, &recovery)
                {
                    ended = Some(Ended::Resolved);
                }
            } else {
                detector.weigh(at, weights, n, |_| x, |k| bets(&null, k, &opinions, spread).map(|llr| llr / phi));
            }
        }
        self.take_in(at, n, x, fires);
        self.refresh(at, parent);
        ended
    }

    /// Learns from a tick's calls, or from opinions worth so many, of which `x` are bad; while it fires, how far ticks scatter is not learned.
    fn take_in(&mut self, at: u32, n: f64, x: f64, fires: bool) {
        let now = self.now.as_ref().expect("it was refreshed before it was tested");
        let Some(expected) = now.expected else {
            if self.baseline.learn(at, x, n, rate_learned) {
                self.now = None;
            }
            return;
        };
        let (p, error) = (now.p, now.error);
        let variance = n * p * (1.0 - p);
        if !fires {
            self.dispersion.add(at, x - n * p, variance, variance * (n - 1.0).max(0.0), n * p * error);
        }
        self.baseline.add(x, n * p, &expected);
    }

    fn recovery(&self, up: bool, calls: u64) -> Option<Recovery> {
        let now = self.now.as_ref()?;
        let null = now.null.as_ref()?;
        let base = if up { null.up } else { null.down }?;
        Some(Recovery { scale: Scale::Odds, base, phi: now.excess.inflation(calls as f64 - 1.0), shape: f64::INFINITY })
    }

    fn standing(&self) -> (bool, Option<Range>, Scale, Excess, f64) {
        let Some(now) = &self.now else {
            return (true, self.limits.map(|(low, high)| Range { low, high }), Scale::Odds, self.dispersion.excess(), 0.0);
        };
        let null = now.null.as_ref();
        let range = self.limits.map(|(low, high)| Range { low, high }).or_else(|| {
            let null = null?;
            Some(Range { low: expit(null.down? - null.guard), high: expit(null.up? + null.guard) })
        });
        let base = null.and_then(|null| null.up.or(null.down)).map_or(0.0, expit);
        (now.null.is_none(), range, Scale::Odds, now.excess, base)
    }
}

impl Volume {
    fn tick(&mut self, detector: &mut Detector, at: u32, calls: u64, parent: Option<Reference>, fires: bool) -> Option<Ended> {
        if let Some(hours) = self.baseline.pass(at, fires) {
            self.dispersion.close_hour(hours);
        }
        let x = calls as f64;
        let Some(expected) = self.baseline.expected(at, parent) else {
            let age = self.baseline.age(at);
            self.baseline.learn(at, x, 1.0, |calls, _| calls >= VOLUME_CALLS && age >= VOLUME_HOURS);
            return None;
        };
        let mean = libm::exp(expected.log).max(RATE_MIN);
        detector.moved_to(at, mean);
        let mut ended = None;
        if fires {
            ended = detector.recover(mean, x, &self.recovery()).then_some(Ended::Resolved);
        } else {
            let (guard, excess) = (GUARD * libm::sqrt(expected.variance), self.dispersion.excess());
            detector.weigh(
                at,
                &uniform::<{ FACTORS.len() }>(),
                mean,
                |_| x,
                |k| volume(k, x, mean, excess.shape(), guard).map(|llr| llr / excess.phi),
            );
        }
        if !fires {
            self.dispersion.add(at, x - mean, mean, mean * mean, mean * libm::sqrt(expected.variance));
        }
        self.baseline.add(x, mean, &expected);
        ended
    }

    fn recovery(&self) -> Recovery {
        let excess = self.dispersion.excess();
        Recovery { scale: Scale::Factor, base: 0.0, phi: excess.phi, shape: excess.shape() }
    }

    fn standing(&self, at: u32) -> (bool, Option<Range>, Scale, Excess, f64) {
        let expected = self.baseline.expected(at, None);
        let range = expected.map(|expected| {
            let guard = GUARD * libm::sqrt(expected.variance);
            Range { low: libm::exp(expected.log - guard), high: libm::exp(expected.log + guard) }
        });
        (expected.is_none(), range, Scale::Factor, self.dispersion.excess(), 1.0)
    }
}

impl Values {
    fn new(at: u32) -> Self {
        Self {
            born: at,
            first: Buckets::default(),
            blocks: Vec::new(),
            cuts: Vec::new(),
            kept: [0.0; BINS],
            open: [0.0; BINS],
            held: [0.0; BINS],
            hour: at / HOUR,
            tainted: false,
            middle: Dispersion::default(),
            upper: Dispersion::default(),
            tilts: None,
        }
    }

    fn tick(&mut self, detector: &mut Detector, at: u32, buckets: &Buckets, fires: bool) -> Option<Ended> {
        if buckets.is_empty() {
            return None;
        }
        if self.tilts.is_none() {
            self.first.add(buckets);
            match self.blocks.last_mut().filter(|(block, _)| *block == at / BLOCK) {
                Some((_, block)) => block.add(buckets),
                None => self.blocks.push((at / BLOCK, buckets.clone())),
            }
            let hours = (at - self.born) / HOUR;
            if self.first.count() >= VALUES && hours >= VALUES_HOURS {
                self.cut(at);
            }
            return None;
        }
        self.pass(at, fires);
        let counts = self.bin(buckets);
        let n: f64 = counts.iter().sum();
        detector.moved_to(at, n);
        let phi = self.excess().inflation(n - 1.0);
        let above = |from: usize| counts[from..].iter().sum::<f64>();
        let mut ended = None;
        let tilts = self.tilts.as_ref().expect("it was looked at above");
        if fires {
            let k = detector.firing().map_or(0, |firing| usize::from(firing.alternative));
            let recovery = self.recovery(k, n);
            ended = detector.recover(n, above(tilts.edge(k).0), &recovery).then_some(Ended::Resolved);
        } else {
            detector.weigh(at, &uniform::<TILTS>(), n, |k| above(tilts.edge(k).0), |k| Some(tilts.evidence(k, &counts) / phi));
        }
        if let Some(shares) = self.shares().filter(|_| !fires) {
            for (dispersion, from) in [(&mut self.middle, MIDDLE), (&mut self.upper, UPPER)] {
                let p: f64 = shares[from..].iter().sum();
                let x: f64 = counts[from..].iter().sum();
                dispersion.add(at, x - n * p, n * p * (1.0 - p), n * p * (1.0 - p) * (n - 1.0), 0.0);
            }
        }
        self.open.iter_mut().zip(counts).for_each(|(open, count)| *open += count as f32);
        ended
    }

    /// Cuts the bins at the quantiles of what was learned.
    fn cut(&mut self, at: u32) {
        let first = std::mem::take(&mut self.first);
        let total = first.count() as f64;
        let mut below = 0.0;
        let mut levels = LEVELS.iter().peekable();
        for (bucket, count) in first.iter() {
            below += count as f64;
            while levels.next_if(|level| below >= **level * total).is_some() {
                self.cuts.push(bucket.next().lowest());
            }
        }
        let counts = self.bin(&first);
        self.kept = counts;
        // A series of long waves would otherwise fire at once, before its waves are measured.
        let (blocks, shares) = (std::mem::take(&mut self.blocks), self.shares_now());
        let binned: Vec<_> = blocks.iter().map(|(block, values)| (*block, self.bin(values))).collect();
        for (dispersion, from) in [(&mut self.middle, MIDDLE), (&mut self.upper, UPPER)] {
            let p: f64 = shares[from..].iter().sum();
            let residual = |(block, counts): &(u32, [f64; BINS])| {
                let n: f64 = counts.iter().sum();
                (*block, counts[from..].iter().sum::<f64>() - n * p, n * p * (1.0 - p))
            };
            dispersion.begin(&binned.iter().map(residual).collect::<Vec<_>>());
        }
        self.hour = at / HOUR;
        self.tilts = self.make_tilts();
    }

    fn bin(&self, buckets: &Buckets) -> [f64; BINS] {
        let mut counts = [0.0; BINS];
        for (bucket, count) in buckets.iter() {
            counts[self.cuts.partition_point(|cut| *cut <= bucket.lowest())] += count as f64;
        }
        counts
    }

    fn pass(&mut self, at: u32, firing: bool) {
        let hour = at / HOUR;
        let Some(hours) = hour.checked_sub(self.hour).filter(|hours| *hours > 0) else { return };
        let good = !self.tainted;
        self.middle.close_hour(hours);
        self.upper.close_hour(hours);
        let kept = libm::pow(KEPT_PER_HOUR, f64::from(hours));
        self.kept.iter_mut().for_each(|count| *count *= kept);
        let open = std::mem::take(&mut self.open);
        if good {
            let take = |kept: &mut [f64; BINS], hour: [f32; BINS]| kept.iter_mut().zip(hour).for_each(|(kept, count)| *kept += f64::from(count));
            take(&mut self.kept, self.held);
            self.held = open;
            if hours > 1 {
                take(&mut self.kept, std::mem::take(&mut self.held));
            }
        } else {
            self.held = [0.0; BINS];
            self.tainted = firing;
        }
        self.hour = hour;
        // While it fires, what it is measured against must not move.
        if !firing {
            self.tilts = self.make_tilts();
        }
    }

    fn shares(&self) -> Option<[f64; BINS]> {
        self.tilts.is_some().then(|| self.shares_now())
    }

    /// Half a call in every bin keeps a share from being 0.
    fn shares_now(&self) -> [f64; BINS] {
        let total: f64 = self.kept.iter().sum::<f64>() + 0.5 * BINS as f64;
        self.kept.map(|count| (count + 0.5) / total)
    }

    fn make_tilts(&self) -> Option<Tilts> {
        // Values that come in waves say less about the shares than independent ones.
        let known = self.kept.iter().sum::<f64>() / self.middle.inflation().max(self.upper.inflation());
        Some(Tilts::new(&self.shares_now(), known, GUARD))
    }

    fn excess(&self) -> Excess {
        let (middle, upper) = (self.middle.excess(), self.upper.excess());
        Excess { correlation: middle.correlation.max(upper.correlation), phi: middle.phi.max(upper.phi) }
    }

    fn recovery(&self, k: usize, calls: f64) -> Recovery {
        let usual = self.tilts.as_ref().map_or(0.5, |tilts| tilts.edge(k).1);
        Recovery { scale: Scale::Odds, base: logit(usual), phi: self.excess().inflation(calls - 1.0), shape: f64::INFINITY }
    }

    /// The usual share of the calls that tell, while it fires or leans.
    fn base(&self, detector: &Detector) -> f64 {
        let k = detector.firing().map(|firing| usize::from(firing.alternative)).or(detector.best().map(|(k, _)| k));
        k.zip(self.tilts.as_ref()).map_or(0.0, |(k, tilts)| tilts.edge(k).1)
    }

    fn quantile(&self, q: f64) -> Option<f64> {
        let shares = self.shares()?;
        let mut below = 0.0;
        for (b, share) in shares.iter().enumerate() {
            if below + share >= q {
                let low = b.checked_sub(1).map_or(0.0, |b| self.cuts[b] as f64);
                let high = self.cuts.get(b).map_or(low, |cut| *cut as f64);
                return Some(low + (high - low) * ((q - below) / share).clamp(0.0, 1.0));
            }
            below += share;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred calls a tick, of which `share` fail; or that share of a hundred calls; or values of that share of the usual size.
    fn tick(gauge: &mut Gauge, kind: Kind, at: u32, share: f64) -> Option<Ended> {
        let events = (100.0 * share) as u64;
        let mut buckets = Buckets::default();
        (1..=100).for_each(|value| buckets.record((1000.0 * share) as u64 * value));
        let counts = match kind {
            Kind::Rate | Kind::Limited { .. } => Counts::Events { calls: 100, events },
            Kind::Volume => Counts::Calls(events),
            Kind::Values => Counts::Values(&buckets),
        };
        let ended = gauge.tick(at, counts, None);
        let detector = gauge.detector();
        if detector.firing().is_none() && detector.evidence() >= detector.threshold(at, DAY) {
            gauge.fire(at);
        }
        ended
    }

    #[test]
    fn what_is_better_for_a_day_is_the_new_normal_unless_a_person_said_what_is() {
        let limited = Kind::Limited { low: 0.1, high: 0.5 };
        for (kind, before, after, adopted) in [
            (Kind::Rate, 0.2, 0.02, true),
            (Kind::Values, 0.2, 0.02, true),
            (Kind::Rate, 0.02, 0.2, false),
            (Kind::Values, 0.02, 0.2, false),
            (limited, 0.2, 0.02, false),
            (Kind::Volume, 0.2, 0.02, false),
        ] {
            // A volume learns for a day.
            let changed = BETTER_FOR + 3 * HOUR;
            let mut gauge = Gauge::new(kind, 0, None, true);
            for at in 0..changed {
                assert_eq!(tick(&mut gauge, kind, at, before), None);
                assert!(gauge.detector().firing().is_none(), "{kind:?} fires before anything changed");
            }
            let mut ended = Vec::new();
            for at in changed..changed + BETTER_FOR + 2 * HOUR {
                ended.extend(tick(&mut gauge, kind, at, after));
            }
            let standing = gauge.standing(changed + BETTER_FOR + 2 * HOUR);
            assert_eq!(ended, if adopted { vec![Ended::Adopted] } else { vec![] }, "{kind:?} from {before} to {after}");
            assert_eq!((standing.learning, standing.firing.is_some()), (false, !adopted), "{kind:?} from {before} to {after}");
        }
    }
}
