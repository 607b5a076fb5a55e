//! The correction, held against verdicts of real judges. `benches/calibration` does the same at length, with tables.

#[path = "../benches/calibration/resample.rs"]
mod resample;
#[path = "../benches/calibration/verdicts.rs"]
mod verdicts;

use fastrand::Rng;
use resample::Outcome;
use streamgauge_evaluators::calibration::{Calibration, Warning};

const SEED: u64 = 11;

fn all(sets: &[verdicts::Set]) -> Outcome {
    eprintln!("seed {SEED}");
    let mut rng = Rng::with_seed(SEED);
    let mut all = Outcome::default();
    for set in sets {
        let outcome = resample::run(&set.items, 200, &mut rng);
        if outcome.refusals() <= 0.5 {
            eprintln!("{}: {:.3} raw {:.3}", set.name, outcome.coverage(), outcome.raw_coverage());
            all.add(&outcome);
        }
    }
    all
}

#[test]
fn corrected_intervals_hold_the_true_rate_and_raw_ones_do_not() {
    for sets in [verdicts::llmbar(), verdicts::pandalm()].into_iter().flatten() {
        let all = all(&sets);
        assert!(all.coverage() >= 0.93, "{all:?}");
        assert!(all.raw_coverage() < 0.85, "{all:?}");
        assert!(all.errors / f64::from(all.corrected()) < all.raw_errors / f64::from(all.resamples), "{all:?}");
    }
}

#[test]
fn judges_at_chance_are_refused_on_all_their_items_and_good_ones_are_not() {
    let Some(sets) = verdicts::llmbar() else { return };
    for set in sets {
        let calibration = Calibration::of(&set.items);
        let corrected = calibration.correct(&streamgauge_evaluators::calibration::Observed::counted(50, 100).expect("some calls"));
        let youden = calibration.youden().expect("labels of both kinds");
        assert!(corrected.is_err() || youden.low > 0.0, "{}: {youden:?}", set.name);
        assert!(corrected.is_ok() || !set.name.starts_with("GPT-4 "), "{}: {youden:?}", set.name);
    }
}

#[test]
fn preferences_for_a_place_and_lost_replies_are_seen_in_real_judges() {
    let Some(sets) = verdicts::llmbar() else { return };
    let of = |name: &str| Calibration::of(&sets.iter().find(|set| set.name == name).expect("a set of that name").items);
    let place = |calibration: &Calibration| calibration.warnings().iter().any(|warning| matches!(warning, Warning::PrefersAPlace(_)));
    let (weak, strong) = (of("Falcon CoT"), of("GPT-4 Rating_Metrics_Reference"));
    eprintln!("{:?} {:?}", weak.swap_consistency(), strong.swap_consistency());
    assert!(place(&weak) && !place(&strong));
    // Falcon takes the first of two nearly always, so it catches hardly any fail.
    assert!(weak.sensitivity().estimate().expect("fails").value < 0.2 && weak.specificity().estimate().expect("passes").value > 0.9);
}

#[test]
fn pandalms_judges_are_counted_as_recorded() {
    let Some(sets) = verdicts::pandalm() else { return };
    let gpt = Calibration::of(&sets[0].items);
    assert_eq!((gpt.readable(), gpt.unreadable_passes, gpt.unreadable_fails), (974, 6, 19));
    assert_eq!((gpt.cleared, gpt.missed), (332, 128));
    for set in &sets {
        let verbosity = Calibration::of(&set.items).verbosity.expect("lengths are known");
        eprintln!("{}: {verbosity:?}, beyond labels {}", set.name, verbosity.beyond_labels());
        assert!(verbosity.items > 900 && verbosity.label_ratio > 1.0);
        // People prefer longer answers here, and both judges do so a little beyond that.
        assert!(verbosity.beyond_labels() && verbosity.given_label.value < verbosity.label);
    }
}
