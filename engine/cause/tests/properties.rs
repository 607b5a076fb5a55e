//! What must hold of any calls and runs: their order, the order of dimensions, how they are cut into cells and the unit of weights change no answer.

use cause::{Across, Along, Calls, Cell, Period, Run, Runs, Step, across, along};
use fastrand::Rng;

struct World {
    names: Vec<&'static str>,
    rows: Vec<(Period, Vec<String>, Cell)>,
}

fn world(seed: u64) -> World {
    let mut rng = Rng::with_seed(seed);
    let names = vec!["provider", "model", "user_id", "stage", "arm"];
    let sizes = [3, 6, 40, 4, 2];
    let count = rng.usize(..3);
    let planted: Vec<(usize, usize)> = std::iter::repeat_with(|| {
        let dimension = rng.usize(..5);
        (dimension, rng.usize(..sizes[dimension]))
    })
    .take(count)
    .collect();
    let times = rng.f64() * 15.0;
    let rows = (0..6_000)
        .map(|_| {
            let period = if rng.bool() { Period::Now } else { Period::Reference };
            let mut codes: Vec<usize> = sizes.iter().map(|&size| rng.usize(..size).min(rng.usize(..size))).collect();
            codes[0] = codes[1] / 2;
            let hit = period == Period::Now && planted.iter().all(|&(dimension, value)| codes[dimension] == value);
            let bad = rng.f64() < 0.02 * (1.0 + codes[3] as f64) * if hit { times } else { 1.0 };
            let labels = codes.iter().enumerate().map(|(at, code)| if at == 4 && *code == 0 { String::new() } else { format!("v{code}") }).collect();
            let weight = if rng.bool() { 1.0 } else { 2.5 };
            (period, labels, Cell { weight, ..Cell::call(bad) })
        })
        .collect();
    World { names, rows }
}

fn said(world: &World) -> Across {
    let mut calls = Calls::new(world.names.iter().copied()).expect("few dimensions");
    for (period, labels, cell) in &world.rows {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        calls.add(*period, &labels, *cell).expect("good cells");
    }
    across(&calls)
}

#[test]
fn no_order_of_calls_or_dimensions_and_no_cutting_into_cells_changes_a_bit() {
    let mut named = 0;
    for seed in 0..40 {
        let mut world = world(seed);
        let before = said(&world);
        named += u32::from(before.cause.is_some());
        let mut rng = Rng::with_seed(seed ^ 0xabcd);
        rng.shuffle(&mut world.rows);
        let mut order: Vec<usize> = (0..world.names.len()).collect();
        rng.shuffle(&mut order);
        world.names = order.iter().map(|&at| world.names[at]).collect();
        world.rows.iter_mut().for_each(|row| row.1 = order.iter().map(|&at| row.1[at].clone()).collect());
        assert_eq!(said(&world), before, "seed {seed}");
        // Equal calls as one cell, and every dimension with a value of its own for "none".
        world.rows.sort_by(|a, b| (a.0 == Period::Now, &a.1, a.2.weight.to_bits()).cmp(&(b.0 == Period::Now, &b.1, b.2.weight.to_bits())));
        world.rows.dedup_by(|b, a| {
            let equal = (a.0, &a.1, a.2.weight) == (b.0, &b.1, b.2.weight);
            if equal {
                a.2.calls += b.2.calls;
                a.2.bad += b.2.bad;
            }
            equal
        });
        assert_eq!(said(&world), before, "seed {seed}");
    }
    assert!((5..40).contains(&named), "{named} of 40 have a cause: both kinds are to be looked at");
}

#[test]
fn the_unit_of_weights_changes_counts_alone() {
    for seed in 0..40 {
        let mut world = world(seed);
        let before = said(&world);
        world.rows.iter_mut().for_each(|row| row.2.weight *= 4.0);
        let after = said(&world);
        assert_eq!((before.calls * 4.0, before.bad * 4.0, before.silence), (after.calls, after.bad, after.silence), "seed {seed}");
        let told =
            |across: &Across| across.cause.clone().map(|cause| (cause.labels, cause.same, cause.rivals, cause.share, cause.rate, cause.evidence));
        assert_eq!(told(&before), told(&after), "seed {seed}");
        // Not a power of two: but for rounding.
        world.rows.iter_mut().for_each(|row| row.2.weight /= 12.0);
        let labels = |across: &Across| across.cause.clone().map(|cause| cause.labels);
        assert_eq!(labels(&before), labels(&said(&world)), "seed {seed}");
    }
}

#[test]
fn shares_and_rates_are_shares_and_rates() {
    for seed in 0..40 {
        let said = said(&world(seed));
        assert_eq!(said.cause.is_none(), said.silence.is_some(), "seed {seed}");
        assert!((said.excess.mix + said.excess.rate - said.excess.total).abs() < 1e-6 * said.bad, "seed {seed}");
        if let Some(cause) = said.cause {
            assert!(cause.share >= 0.5 && cause.share <= 1.0 && cause.evidence > 0.0, "seed {seed}: {cause:?}");
            assert!([cause.rate, cause.rate_elsewhere, cause.rate_expected].iter().all(|rate| (0.0..=1.0).contains(rate)), "seed {seed}: {cause:?}");
            assert!(cause.calls <= said.calls && cause.bad <= said.bad && (1..=2).contains(&cause.labels.len()), "seed {seed}: {cause:?}");
        }
    }
}

#[test]
fn no_order_of_runs_changes_a_bit() {
    let mut named = 0;
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let (more, harm) = (rng.f64() * 0.3, rng.f64());
        let mut rows: Vec<(Period, bool, f64, bool, bool)> = (0..3_000)
            .map(|_| {
                let period = if rng.bool() { Period::Now } else { Period::Reference };
                let first = rng.f64() < if period == Period::Now { 0.02 + more } else { 0.02 };
                let second = rng.f64() < 0.1 || (first && rng.f64() < 0.5);
                let affected = rng.f64() < 0.02 || (first && rng.f64() < harm);
                (period, affected, if rng.bool() { 1.0 } else { 0.3 }, first, second)
            })
            .collect();
        let said = |rows: &[(Period, bool, f64, bool, bool)]| -> Along {
            let mut runs = Runs::new();
            for &(period, affected, weight, first, second) in rows {
                let bad = |is: bool| if is { &["invalid_json"][..] } else { &[] };
                let steps = [
                    Step { name: "extraction", by: if second { "acme/x" } else { "" }, bad: bad(first) },
                    Step { name: "retrieval", by: "", bad: bad(second) },
                    Step { name: "synthesis", by: "", bad: &[] },
                ];
                runs.add(period, &Run { affected, weight, stratum: 0, steps: &steps, alerted: 2 }).expect("good runs");
            }
            along(&runs, None)
        };
        let before = said(&rows);
        named += u32::from(before.cause.is_some());
        rng.shuffle(&mut rows);
        assert_eq!(said(&rows), before, "seed {seed}");
    }
    assert!((5..40).contains(&named), "{named} of 40 have a cause: both kinds are to be looked at");
}
