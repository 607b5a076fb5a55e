//! The machine in a hostile world: random streams, random crashes, and checkers that know the truth.
//!
//! `STREAMGAUGE_SIMULATION_SEEDS=N` runs N seeds; `STREAMGAUGE_SIMULATION_SEED=S` runs one, as a failure names it.

mod checkers;
mod harness;
mod rules;
mod world;

use checkers::Seen;
use harness::{Bug, Happened, Harness, straight};
use rules::every_kind_of_rule;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Size, World};

/// A minute or two of one core. A soak is `STREAMGAUGE_SIMULATION_SEEDS=3000`.
const SEEDS: u64 = 80;
/// In so many worlds a planted bug is looked for: most show in the first ones, one in few alone.
const PLANTED_SEEDS: u64 = 320;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")))
}

fn seeds() -> std::ops::Range<u64> {
    match number("STREAMGAUGE_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STREAMGAUGE_SIMULATION_SEEDS").unwrap_or(SEEDS),
    }
}

/// One world, run with crashes and without.
fn run(seed: u64, bug: Option<Bug>) -> Result<(Seen, Happened), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let logs = rng.usize(200..4_000);
    let strange_environments = if rng.u32(0..8) == 0 { 100 } else { 0 };
    let world = World::new(&mut rng, Size { logs, strange_environments, long_pauses: seed % 5 == 4 });
    let plan = every_kind_of_rule();
    let mut harness = Harness::new(&world, plan.clone(), rng, bug);
    let machine = harness.run()?;
    let seen = checkers::check(&world, &plan, &machine, &harness.disk)?;
    let (other, disk) = straight(&world, &plan, &harness.disk.journal)?;
    checkers::same(&machine, &harness.disk, (&other, &disk))?;
    Ok((seen, harness.happened))
}

/// What is wrong with a seed, also when it shows as a panic.
fn fault(seed: u64, bug: Option<Bug>) -> Result<(Seen, Happened), String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, bug))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

#[test]
fn nothing_is_lost_counted_twice_or_told_otherwise_whenever_the_edge_dies() {
    let (mut sum, mut happened) = (Seen::default(), Happened::default());
    for seed in seeds() {
        let (seen, more) = match fault(seed, None) {
            Ok(run) => run,
            Err(fault) => panic!("seed {seed} (run it with STREAMGAUGE_SIMULATION_SEED={seed}): {fault}"),
        };
        sum = Seen {
            calls: sum.calls + seen.calls,
            fired: sum.fired + seen.fired,
            ended: sum.ended + seen.ended,
            late: sum.late + seen.late,
            future: sum.future + seen.future,
            missed: sum.missed + seen.missed,
            malformed: sum.malformed + seen.malformed,
            overflowed: sum.overflowed + seen.overflowed,
            check_failures: sum.check_failures + seen.check_failures,
            elapsed: sum.elapsed + seen.elapsed,
        };
        happened = Happened {
            crashes: happened.crashes + more.crashes,
            told_again: happened.told_again + more.told_again,
            sealed_again: happened.sealed_again + more.sealed_again,
            answered_late: happened.answered_late + more.answered_late,
            verdicts: happened.verdicts + more.verdicts,
        };
    }
    eprintln!("{sum:?}\n{happened:?}");
    if seeds().count() >= SEEDS as usize {
        let Seen { calls, fired, ended, late, future, missed, malformed, overflowed, check_failures, elapsed } = sum;
        let Happened { crashes, told_again, sealed_again, answered_late, verdicts } = happened;
        let all = [calls, fired, ended, late, future, missed, malformed, overflowed, check_failures, elapsed];
        assert!(
            all.iter().chain(&[crashes, told_again, sealed_again, answered_late, verdicts]).all(|n| *n >= 100),
            "the worlds are too tame: {sum:?} {happened:?}"
        );
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in [Bug::ReadsOnWhereItDied, Bug::ForgetsSealedSlices, Bug::ForgetsTheJournal, Bug::TakesRedeliveries, Bug::ElapsesWhileCatchingUp] {
        let found = (0..PLANTED_SEEDS).find_map(|seed| fault(seed, Some(bug)).err().map(|fault| (seed, fault)));
        let (seed, fault) = found.unwrap_or_else(|| panic!("{bug:?} is not found within {PLANTED_SEEDS} seeds"));
        eprintln!("{bug:?}: seed {seed}: {}", fault.lines().next().unwrap_or_default());
    }
}
