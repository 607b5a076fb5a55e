//! Judges made up, so that everything about them is known: weak and strong, few labels and many, rare fails, and calls judged with unequal chances.

use crate::resample::Outcome;
use fastrand::Rng;
use streamgauge_evaluators::calibration::{Calibration, Observed, Sums};

/// Sensitivity and specificity: a strict judge, a lenient one, a weak one, one that is hardly better than a coin.
const JUDGES: [(f64, f64); 5] = [(0.95, 0.80), (0.70, 0.98), (0.75, 0.70), (0.90, 0.35), (0.60, 0.55)];
/// Labels of each kind.
const LABELS: [u64; 3] = [30, 100, 400];
const RATES: [f64; 5] = [0.02, 0.05, 0.2, 0.5, 0.9];
const JUDGED: [u64; 2] = [200, 5_000];

/// One made-up situation.
pub struct Cell {
    pub name: String,
    pub outcome: Outcome,
}

fn hits(of: u64, share: f64, rng: &mut Rng) -> u64 {
    (0..of).filter(|_| rng.f64() < share).count() as u64
}

fn calibration((se, sp): (f64, f64), labels: u64, rng: &mut Rng) -> Calibration {
    let (caught, cleared) = (hits(labels, se, rng), hits(labels, sp, rng));
    Calibration { caught, missed: labels - caught, cleared, accused: labels - cleared, ..Calibration::default() }
}

/// Calls judged with equal chances.
pub fn equal(resamples: u32, rng: &mut Rng) -> Vec<Cell> {
    let mut cells = Vec::new();
    for judge in JUDGES {
        for labels in LABELS {
            for rate in RATES {
                for judged in JUDGED {
                    let mut outcome = Outcome::default();
                    for _ in 0..resamples {
                        let calibration = calibration(judge, labels, rng);
                        let reported = rate * judge.0 + (1.0 - rate) * (1.0 - judge.1);
                        let observed = Observed::counted(hits(judged, reported, rng), judged).expect("some calls");
                        outcome.score(&calibration, &observed, rate);
                    }
                    let name = format!("Se {:.2} Sp {:.2}, {labels} labels of each kind, rate {rate}, {judged} judged", judge.0, judge.1);
                    cells.push(Cell { name, outcome });
                }
            }
        }
    }
    cells
}

/// Share of calls, rate of fails and chance to be judged of a stratum.
type Stratum = (f64, f64, f64);

/// Risky calls are judged more often, less often, and much more often; in the last, calls that fail are judged least.
const STRATA: [[Stratum; 2]; 4] = [
    [(0.15, 0.20, 0.50), (0.85, 0.02, 0.10)],
    [(0.05, 0.60, 0.90), (0.95, 0.02, 0.05)],
    [(0.50, 0.30, 0.10), (0.50, 0.10, 0.10)],
    [(0.30, 0.40, 0.05), (0.70, 0.05, 0.30)],
];
const CALLS: usize = 4_000;

/// Calls judged with unequal chances, weighted by the inverse.
pub fn weighted(resamples: u32, rng: &mut Rng) -> Vec<Cell> {
    let mut cells = Vec::new();
    for judge in [JUDGES[0], JUDGES[2]] {
        for strata in STRATA {
            let truth = strata.iter().map(|(share, rate, _)| share * rate).sum();
            let mut outcome = Outcome::default();
            for _ in 0..resamples {
                let calibration = calibration(judge, 200, rng);
                let mut sums = Sums::default();
                for _ in 0..CALLS {
                    let (_, rate, chance) = if rng.f64() < strata[0].0 { strata[0] } else { strata[1] };
                    let fails = if rng.f64() < rate { rng.f64() < judge.0 } else { rng.f64() >= judge.1 };
                    if rng.f64() < chance {
                        sums.add(1.0 / chance, fails);
                    }
                }
                outcome.score(&calibration, &Observed::weighted(&sums).expect("some calls"), truth);
            }
            cells.push(Cell { name: format!("Se {:.2} Sp {:.2}, strata {strata:?}", judge.0, judge.1), outcome });
        }
    }
    cells
}
