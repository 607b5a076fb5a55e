//! What a series costs: nanoseconds per tick with calls, bytes, and nothing at all while it is idle.

use crate::generator::{DAY, Draws, Stream, Tick, WEEK, World};
use crate::product::{BUDGET, Product};
use crate::report::{Report, Table};
use model::Buckets;
use std::hint::black_box;
use std::mem::size_of;
use std::time::Instant;
use streamgauge_machine::drift::alternative::{Alternative, BAD_WHEN_UP};
use streamgauge_machine::drift::baseline::Reference;
use streamgauge_machine::drift::detector::Detector;
use streamgauge_machine::drift::evidence::{RateNull, RateTest};
use streamgauge_machine::drift::gauge::{Counts, Gauge, Kind};
use streamgauge_machine::drift::logit;

/// The best of so many rounds counts: other rounds measure what else the machine did.
const ROUNDS: usize = 15;
const TICKS: usize = 20_000;

/// What was measured.
pub struct Cost {
    /// Nanoseconds per tick with calls.
    pub binomial: f64,
    pub beta_binomial: f64,
    pub histogram: f64,
    /// Bytes of a rate's detector.
    pub bytes: f64,
    /// Idle ticks that changed something.
    pub idle: f64,
}

pub fn run(seed: u64, report: &mut Report) -> Cost {
    let mut table = Table::new("cost per tick with calls, ns; best of some rounds");
    let core = core(seed);
    table.row("core, binomial, 10 calls", vec![format!("{core:.0}")]);
    let leaf = leaf(seed);
    table.row("gauge of a rate with a parent, 10 calls", vec![format!("{leaf:.0}")]);
    let root = root(World::Iid, seed);
    table.row("gauge of a root with its own season, 10 calls", vec![format!("{root:.0}")]);
    let few = root_named(World::BetaBinomial10, seed, &mut table, "the same, beta-binomial, 10 calls");
    let many = root_named(World::BetaBinomial100, seed, &mut table, "the same, beta-binomial, 100 calls");
    let histogram = histogram(seed);
    table.row("gauge of values, 14 bins, 10 values", vec![format!("{histogram:.0}")]);
    report.table(&table);

    let alternatives = BAD_WHEN_UP.len() * size_of::<Alternative>();
    let bytes = size_of::<Detector>() + alternatives;
    let mut table = Table::new("bytes per series, with what it owns on the heap");
    table.row("detector of a rate", vec![bytes.to_string()]);
    table.row(
        "gauge of a rate with a parent: the same, its level and dispersion, and its coefficients",
        vec![(size_of::<Gauge>() + alternatives).to_string()],
    );
    report.table(&table);
    Cost { binomial: leaf.max(root), beta_binomial: few.max(many), histogram, bytes: bytes as f64, idle: idle(seed) }
}

/// Nanoseconds per item of the fastest round.
fn best(mut round: impl FnMut() -> usize) -> f64 {
    let one = |_| {
        let begun = Instant::now();
        let items = round();
        begun.elapsed().as_nanos() as f64 / items as f64
    };
    (0..ROUNDS).map(one).fold(f64::INFINITY, f64::min)
}

fn ticks(seed: u64) -> Vec<Tick> {
    let mut draws = Draws::new(seed, "cost", 0);
    (0..TICKS).map(|_| draws.tick(10.0, 0.02)).filter(|tick| tick.calls > 0).collect()
}

fn core(seed: u64) -> f64 {
    let ticks = ticks(seed);
    let l = logit(0.02);
    let test = RateTest::new(RateNull { up: Some(l), down: Some(l), guard: 0.05 });
    best(|| {
        let mut detector = Detector::new(BAD_WHEN_UP.len());
        for (at, tick) in ticks.iter().enumerate() {
            let (n, x) = (tick.calls as f64, tick.events as f64);
            detector.moved_to(at as u32, n);
            detector.weigh(at as u32, &BAD_WHEN_UP, n, |_| x, |k| test.binomial(k, n, x));
            black_box(detector.evidence() >= detector.threshold(at as u32, BUDGET));
        }
        ticks.len()
    })
}

fn leaf(seed: u64) -> f64 {
    let ticks = ticks(seed);
    let parent = Some(Reference { log: 0.02f64.ln(), variance: 1e-4, level: 0.0, season: 0.0, unseen: 0.0 });
    best(|| {
        let mut gauge = Gauge::new(Kind::Rate, 0, Some(20.0), false);
        for (at, tick) in ticks.iter().enumerate() {
            gauge.tick(at as u32, Counts::Events { calls: tick.calls, events: tick.events }, parent);
            let detector = gauge.detector();
            black_box(detector.evidence() >= detector.threshold(at as u32, BUDGET));
        }
        ticks.len()
    })
}

/// After two weeks, so that what it learned is in use.
fn root(world: World, seed: u64) -> f64 {
    let mut stream = Stream::new(world, seed, "cost", 0);
    let mut product = Product::new(BUDGET);
    for _ in 0..2 * WEEK {
        product.tick(stream.tick(1.0));
    }
    let ticks: Vec<Tick> = (0..TICKS).map(|_| stream.tick(1.0)).collect();
    best(|| {
        let mut product = product.clone();
        ticks.iter().for_each(|tick| {
            black_box(product.tick(*tick));
        });
        ticks.len()
    })
}

fn root_named(world: World, seed: u64, table: &mut Table, name: &str) -> f64 {
    let cost = root(world, seed);
    table.row(name, vec![format!("{cost:.0}")]);
    cost
}

fn histogram(seed: u64) -> f64 {
    let mut draws = Draws::new(seed, "cost", 1);
    let mut tick = || {
        let mut buckets = Buckets::default();
        (0..draws.poisson(10.0)).for_each(|_| buckets.record((1000.0 * (0.8 * draws.normal()).exp()) as u64));
        buckets
    };
    let mut gauge = Gauge::new(Kind::Values, 0, None, true);
    for at in 0..DAY {
        gauge.tick(at, Counts::Values(&tick()), None);
    }
    let ticks: Vec<Buckets> = (0..TICKS / 4).map(|_| tick()).collect();
    best(|| {
        let mut gauge = gauge.clone();
        ticks.iter().enumerate().for_each(|(at, buckets)| {
            black_box(gauge.tick(DAY + at as u32, Counts::Values(buckets), None));
        });
        ticks.len()
    })
}

/// Ticks without calls, told to a gauge, that changed it; the engine does not even tell it.
fn idle(seed: u64) -> f64 {
    let mut draws = Draws::new(seed, "cost", 2);
    let mut gauge = Gauge::new(Kind::Rate, 0, None, true);
    for at in 0..DAY {
        let tick = draws.tick(10.0, 0.02);
        gauge.tick(at, Counts::Events { calls: tick.calls, events: tick.events }, None);
    }
    let before = gauge.clone();
    let mut changed = 0;
    for at in DAY..2 * DAY {
        gauge.tick(at, Counts::Events { calls: 0, events: 0 }, None);
        changed += u32::from(gauge != before);
    }
    f64::from(changed)
}
