//! Calibrates a judge on one half of its items and corrects its rate on others, again and again, with a true rate that is known.
//!
//! What "true rate" means: of each resample, a rate is chosen, and the evaluated items are drawn so that each is a fail with that probability; the
//! chosen rate is the truth. It is the rate of the population that the evaluated items come from, not of these items: what a monitor wants to know
//! is how often calls fail, of which it happened to judge some. (The rate of the items themselves varies less around the estimate, so an interval
//! that covers the population's covers theirs more often.) Calibration and evaluation are disjoint and drawn without replacement from one shuffled
//! pool, which makes the difference of their error rates vary as that of two independent samples from an endless population.

use fastrand::Rng;
use streamgauge_evaluators::calibration::{Calibration, Item, Observed};

/// True rates of fails, in turn. With as many fails as passes, a judge that errs alike on both reports the right rate by luck: so a half is not in.
const RATES: [f64; 4] = [0.2, 0.4, 0.6, 0.8];

#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub resamples: u32,
    /// No better than chance by the labels of the resample.
    pub refused: u32,
    /// Intervals that hold the true rate, of corrected ones.
    pub covered: u32,
    /// The same of Wilson's interval around the judge's own rate, of all.
    pub raw_covered: u32,
    /// Of the corrected intervals.
    pub widths: f64,
    /// |estimate − truth| of corrected rates and of the judge's own.
    pub errors: f64,
    pub raw_errors: f64,
}

impl Outcome {
    pub fn corrected(&self) -> u32 {
        self.resamples - self.refused
    }

    pub fn coverage(&self) -> f64 {
        f64::from(self.covered) / f64::from(self.corrected())
    }

    pub fn raw_coverage(&self) -> f64 {
        f64::from(self.raw_covered) / f64::from(self.resamples)
    }

    pub fn refusals(&self) -> f64 {
        f64::from(self.refused) / f64::from(self.resamples)
    }

    pub fn add(&mut self, other: &Self) {
        self.resamples += other.resamples;
        self.refused += other.refused;
        self.covered += other.covered;
        self.raw_covered += other.raw_covered;
        self.widths += other.widths;
        self.errors += other.errors;
        self.raw_errors += other.raw_errors;
    }

    /// One resample, judged against the truth.
    pub fn score(&mut self, calibration: &Calibration, observed: &Observed, truth: f64) {
        self.resamples += 1;
        self.raw_covered += u32::from(observed.raw().holds(truth));
        self.raw_errors += (observed.rate() - truth).abs();
        match calibration.correct(observed) {
            Ok(corrected) => {
                self.covered += u32::from(corrected.rate.holds(truth));
                self.widths += corrected.rate.high - corrected.rate.low;
                self.errors += (corrected.rate.value - truth).abs();
            }
            Err(_) => self.refused += 1,
        }
    }
}

pub fn run(items: &[Item], resamples: u32, rng: &mut Rng) -> Outcome {
    let mut outcome = Outcome::default();
    let mut pool = items.to_vec();
    for index in 0..resamples {
        let truth = RATES[index as usize % RATES.len()];
        rng.shuffle(&mut pool);
        let (labelled, rest) = pool.split_at(pool.len() / 2);
        let (passes, fails): (Vec<&Item>, Vec<&Item>) = rest.iter().partition(|item| item.label);
        // As many as there are of the rarer kind: then neither runs out at any of the rates.
        let size = passes.len().min(fails.len());
        let failing = loop {
            let failing = (0..size).filter(|_| rng.f64() < truth).count();
            if failing <= fails.len() && size - failing <= passes.len() {
                break failing;
            }
        };
        let evaluated = fails[..failing].iter().chain(&passes[..size - failing]);
        let verdicts: Vec<bool> = evaluated.filter_map(|item| item.verdict).collect();
        let failed = verdicts.iter().filter(|pass| !**pass).count();
        let Some(observed) = Observed::counted(failed as u64, verdicts.len() as u64) else { continue };
        outcome.score(&Calibration::of(labelled), &observed, truth);
    }
    outcome
}
