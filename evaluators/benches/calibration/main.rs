//! Does the corrected rate's interval hold the true rate as often as it says? Asked of real judges with people's labels where a folder of recordings is
//! named (`STREAMGAUGE_RECORDINGS`), and of judges made up in any case.
//!
//! Each line of a table is a judge: its errors on all items, how often it was refused as no better than chance, and, of resamples in which it was
//! corrected, how often the 95 % interval held the true rate; beside it the same of the judge's own rate, uncorrected. [`resample`] says what the
//! true rate is. `--quick` runs fewer resamples, `--seed N` others.

#![allow(clippy::print_stdout, reason = "a benchmark's answer")]

mod resample;
mod synthetic;
mod verdicts;

use fastrand::Rng;
use resample::Outcome;
use std::process::ExitCode;
use streamgauge_evaluators::calibration::Calibration;
use verdicts::Set;

/// What coverage of a 95 % interval must reach.
const COVERAGE: f64 = 0.93;

/// A judge counts as corrected when it was so in at least half of the resamples: of the others, those are its lucky ones.
const REFUSED_MAX: f64 = 0.5;

struct Targets(Vec<(String, f64, f64, bool)>);

impl Targets {
    fn at_least(&mut self, name: impl Into<String>, figure: f64, limit: f64) {
        self.0.push((name.into(), figure, limit, figure >= limit));
    }

    fn at_most(&mut self, name: impl Into<String>, figure: f64, limit: f64) {
        self.0.push((name.into(), figure, limit, figure <= limit));
    }

    fn say(&self) -> ExitCode {
        println!();
        for (name, figure, limit, good) in &self.0 {
            println!("target {name} {figure:.3} {limit:.3} {}", if *good { "pass" } else { "fail" });
        }
        if self.0.iter().all(|(.., good)| *good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--test") {
        println!("run cargo bench -p streamgauge-evaluators --bench calibration");
        return ExitCode::SUCCESS;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let after = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let seed = after("--seed").and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let resamples = if quick { 500 } else { 4_000 };
    // Three standard errors of a coverage of 0.95, when resamples are few: the worst of many judges is the one with the worst luck.
    let luck = if quick { 3.0 * (0.95_f64 * 0.05 / f64::from(resamples)).sqrt() } else { 0.0 };
    println!("seed {seed}; {resamples} resamples of each");
    if quick {
        println!("--quick: limits of single judges are {luck:.3} lower than in a full run");
    }
    let mut rng = Rng::with_seed(seed);
    let mut targets = Targets(Vec::new());
    for (name, sets) in [("llmbar", verdicts::llmbar()), ("pandalm", verdicts::pandalm())] {
        if let Some(sets) = sets {
            real(name, &sets, resamples, luck, &mut rng, &mut targets);
        }
    }
    for (name, cells) in [("made-up", synthetic::equal(resamples, &mut rng)), ("weighted", synthetic::weighted(resamples, &mut rng))] {
        made_up(name, &cells, luck, &mut targets);
    }
    targets.say()
}

fn real(name: &str, sets: &[Set], resamples: u32, luck: f64, rng: &mut Rng, targets: &mut Targets) {
    println!("\n{name}: judge and prompt, items, Se, Sp, J (95 %), kappa, unreadable, swap consistency | refused, coverage, width | raw coverage");
    let (mut all, mut worst, mut refused, mut chance, mut uneven) = (Outcome::default(), 1.0_f64, Vec::new(), 1.0_f64, 0);
    for set in sets {
        let whole = Calibration::of(&set.items);
        let share = |proportion: streamgauge_evaluators::calibration::Proportion| proportion.estimate().map_or(f64::NAN, |share| share.value);
        let (se, sp) = (share(whole.sensitivity()), share(whole.specificity()));
        let youden = whole.youden().expect("labels of both kinds");
        let outcome = resample::run(&set.items, resamples, rng);
        let corrected = if outcome.corrected() == 0 {
            "     -     -".to_owned()
        } else {
            format!("{:6.3} {:5.2}", outcome.coverage(), outcome.widths / f64::from(outcome.corrected()))
        };
        println!(
            "{:<32} {:4} {se:.2} {sp:.2} {:5.2} ({:5.2} {:5.2}) {:5.2} {:.3} {:.2} | {:.3} {corrected} | {:.3}",
            set.name,
            set.items.len(),
            youden.value,
            youden.low,
            youden.high,
            whole.kappa().map_or(f64::NAN, |kappa| kappa.value),
            share(whole.unreadable()),
            share(whole.swap_consistency()),
            outcome.refusals(),
            outcome.raw_coverage(),
        );
        if youden.value <= 0.0 {
            chance = chance.min(outcome.refusals());
        }
        if outcome.refusals() > REFUSED_MAX {
            refused.push(set.name.as_str());
            continue;
        }
        uneven += u32::from((se - sp).abs() > 0.1);
        worst = worst.min(outcome.coverage());
        all.add(&outcome);
    }
    println!(
        "refused as no better than chance in more than half of the resamples: {}",
        if refused.is_empty() { "none".to_owned() } else { refused.join(", ") }
    );
    let n = f64::from(all.resamples);
    let corrected = f64::from(all.corrected());
    println!("mean error of the rate: {:.3} as judged, {:.3} corrected", all.raw_errors / n, all.errors / corrected);
    targets.at_least(format!("{name}-corrected-coverage"), all.coverage(), COVERAGE);
    targets.at_least(format!("{name}-worst-judge-coverage"), worst, COVERAGE - luck);
    // What the correction is for: without it the interval is wrong much more often than it says.
    targets.at_most(format!("{name}-raw-coverage"), all.raw_coverage(), 0.85);
    if sets.len() > 2 {
        targets.at_least(format!("{name}-chance-refused"), chance, 0.95 - luck);
        targets.at_least(format!("{name}-judges-with-se-unlike-sp"), f64::from(uneven), 10.0);
    }
}

fn made_up(name: &str, cells: &[synthetic::Cell], luck: f64, targets: &mut Targets) {
    let mut sorted: Vec<_> = cells.iter().filter(|cell| cell.outcome.refusals() <= REFUSED_MAX).collect();
    sorted.sort_by(|a, b| a.outcome.coverage().total_cmp(&b.outcome.coverage()));
    println!(
        "\n{name}: {} situations, {} of them refused in more than half of the resamples; the lowest coverages:",
        cells.len(),
        cells.len() - sorted.len()
    );
    let mut all = Outcome::default();
    sorted.iter().for_each(|cell| all.add(&cell.outcome));
    for cell in sorted.iter().take(6) {
        let outcome = &cell.outcome;
        let width = outcome.widths / f64::from(outcome.corrected());
        println!("{:.3} (width {width:.3}, refused {:.3}, raw {:.3}) {}", outcome.coverage(), outcome.refusals(), outcome.raw_coverage(), cell.name);
    }
    targets.at_least(format!("{name}-corrected-coverage"), all.coverage(), COVERAGE);
    targets.at_least(format!("{name}-worst-coverage"), sorted.first().map_or(0.0, |cell| cell.outcome.coverage()), COVERAGE - luck);
    targets.at_most(format!("{name}-raw-coverage"), all.raw_coverage(), 0.85);
}
