//! Distributions: log-normal values like latencies, seven ways in which they change, and what divergences on windows make of them.
//!
//! Values are counted in bins cut at the usual quantiles, which all detectors were told from a day of calls.

use crate::calibration::{Records, run_length, threshold};
use crate::generator::{Draws, WEEK};
use crate::paths::{each, mean, quantile};
use crate::product::BUDGET;
use crate::report::{Report, Table};
use std::collections::VecDeque;
use streamgauge_machine::drift::alternative::uniform;
use streamgauge_machine::drift::detector::Detector;
use streamgauge_machine::drift::shape::{BINS, LEVELS, TILTS, Tilts, normal_score};

/// Calls per tick, and calls of the day that the usual shares are known from.
const MEAN: f64 = 10.0;
const KNOWN: f64 = 86_400.0;
/// Of the logs of values.
const SIGMA: f64 = 0.8;
const HORIZON: u32 = 4 * WEEK;

type Counts = [f64; BINS];

/// What happens to values.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// This share of them is multiplied.
    Factor { share: f64, factor: f64 },
    /// Their logs spread further.
    Spread(f64),
}

const CHANGES: [(&str, Change); 7] = [
    ("all x1.1", Change::Factor { share: 1.0, factor: 1.1 }),
    ("all x1.3", Change::Factor { share: 1.0, factor: 1.3 }),
    ("all x2", Change::Factor { share: 1.0, factor: 2.0 }),
    ("2 % x10", Change::Factor { share: 0.02, factor: 10.0 }),
    ("20 % x2", Change::Factor { share: 0.2, factor: 2.0 }),
    ("spread x1.3", Change::Spread(1.3)),
    ("10 % x0.1", Change::Factor { share: 0.1, factor: 0.1 }),
];

impl Change {
    /// The shares of the bins after it.
    fn shares(self) -> Counts {
        let below = |score: f64| 0.5 * libm::erfc(-score / std::f64::consts::SQRT_2);
        let at = |level: f64| match self {
            Self::Factor { share, factor } => (1.0 - share) * level + share * below(normal_score(level) - factor.ln() / SIGMA),
            Self::Spread(factor) => below(normal_score(level) / factor),
        };
        differences(LEVELS.map(at))
    }
}

fn differences(levels: [f64; LEVELS.len()]) -> Counts {
    std::array::from_fn(|bin| levels.get(bin).unwrap_or(&1.0) - bin.checked_sub(1).map_or(0.0, |bin| levels[bin]))
}

trait Watch: Send {
    fn tick(&mut self, counts: &Counts) -> f64;
}

/// The core on tilts. It says ln of its evidence.
struct Core {
    detector: Detector,
    tilts: Tilts,
    at: u32,
}

impl Watch for Core {
    fn tick(&mut self, counts: &Counts) -> f64 {
        let n: f64 = counts.iter().sum();
        self.at += 1;
        if n == 0.0 {
            return f64::NEG_INFINITY;
        }
        let above = |k: usize| counts[self.tilts.edge(k).0..].iter().sum();
        self.detector.weigh(self.at, &uniform::<TILTS>(), n, above, |k| Some(self.tilts.evidence(k, counts)));
        self.detector.evidence().ln()
    }
}

/// CUSUM that is told the shape after the change.
struct Oracle {
    ratios: Counts,
    sum: f64,
}

impl Watch for Oracle {
    fn tick(&mut self, counts: &Counts) -> f64 {
        self.sum = self.sum.max(0.0) + counts.iter().zip(self.ratios).map(|(count, ratio)| count * ratio).sum::<f64>();
        self.sum
    }
}

/// A window's shares against the usual ones.
struct Window {
    ticks: usize,
    ring: VecDeque<Counts>,
    sum: Counts,
    usual: Counts,
    compare: fn(&Counts, &Counts, f64) -> f64,
}

impl Window {
    fn of(minutes: usize, usual: Counts, compare: fn(&Counts, &Counts, f64) -> f64) -> Self {
        Self { ticks: minutes * 6, ring: VecDeque::new(), sum: [0.0; BINS], usual, compare }
    }
}

impl Watch for Window {
    fn tick(&mut self, counts: &Counts) -> f64 {
        self.sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        self.ring.push_back(*counts);
        if self.ring.len() > self.ticks
            && let Some(old) = self.ring.pop_front()
        {
            self.sum.iter_mut().zip(old).for_each(|(sum, count)| *sum -= count);
        }
        let n: f64 = self.sum.iter().sum();
        if self.ring.len() < self.ticks || n < 50.0 { f64::NEG_INFINITY } else { (self.compare)(&self.sum.map(|count| count / n), &self.usual, n) }
    }
}

/// Kolmogorov and Smirnov's distance on the cuts, times √n.
///
/// Source: Massey, "The Kolmogorov-Smirnov test for goodness of fit", Journal of the American Statistical Association 46 (1951).
fn kolmogorov_smirnov(shares: &Counts, usual: &Counts, n: f64) -> f64 {
    let (mut apart, mut most) = (0.0f64, 0.0f64);
    for (share, usual) in shares.iter().zip(usual) {
        apart += share - usual;
        most = most.max(apart.abs());
    }
    n.sqrt() * most
}

/// The population stability index of deciles.
///
/// Source: Yurdakul, "Statistical properties of population stability index", Western Michigan University (2018).
fn stability_index(shares: &Counts, usual: &Counts, _: f64) -> f64 {
    let decile = |shares: &Counts, decile: usize| match decile {
        0 => shares[..3].iter().sum::<f64>(),
        9 => shares[11..].iter().sum::<f64>(),
        _ => shares[decile + 2],
    };
    let one = |at| {
        let (share, usual) = (decile(shares, at).max(1e-4), decile(usual, at).max(1e-4));
        (share - usual) * (share / usual).ln()
    };
    (0..10).map(one).sum()
}

/// The share of values above the usual 95th percentile: what an alert on that percentile looks at.
fn above_p95(shares: &Counts, _: &Counts, _: f64) -> f64 {
    shares[12..].iter().sum()
}

const ROWS: [&str; 5] = ["core, calibrated", "KS 5 min", "PSI 5 min", "PSI 60 min", "share above p95 5 min"];

fn watches(usual: &Counts) -> Vec<Box<dyn Watch>> {
    vec![
        Box::new(Core { detector: Detector::new(TILTS), tilts: Tilts::new(usual, KNOWN, 1.0), at: 0 }),
        Box::new(Window::of(5, *usual, kolmogorov_smirnov)),
        Box::new(Window::of(5, *usual, stability_index)),
        Box::new(Window::of(60, *usual, stability_index)),
        Box::new(Window::of(5, *usual, above_p95)),
    ]
}

/// The true shares, of which the usual ones are what a day of calls showed.
fn truth(draws: &mut Draws, usual: &Counts) -> Counts {
    normalized(usual.map(|share| draws.gamma(KNOWN * share)))
}

fn normalized(shares: Counts) -> Counts {
    let sum: f64 = shares.iter().sum();
    shares.map(|share| share / sum)
}

fn tick(draws: &mut Draws, shares: &Counts) -> Counts {
    shares.map(|share| draws.poisson(MEAN * share) as f64)
}

/// Runs it; by change, the ratio of the core to the oracle.
pub fn run(seed: u64, calm: u64, changed: u64, report: &mut Report) -> Vec<(&'static str, f64)> {
    let usual = differences(LEVELS);
    let oracles: Vec<Counts> = CHANGES
        .iter()
        .map(|(_, change)| {
            let after = change.shares();
            std::array::from_fn(|bin| (after[bin] / usual[bin]).ln())
        })
        .collect();
    let records = each(calm, |path| {
        let mut draws = Draws::new(seed, "histograms", 2 * path);
        let shares = truth(&mut draws, &usual);
        let mut watches = watches(&usual);
        watches.extend(oracles.iter().map(|ratios| Box::new(Oracle { ratios: *ratios, sum: 0.0 }) as Box<dyn Watch>));
        let mut records = vec![Records::default(); watches.len()];
        for at in 0..HORIZON {
            let counts = tick(&mut draws, &shares);
            watches.iter_mut().zip(&mut records).for_each(|(watch, records)| records.see(at + 1, watch.tick(&counts)));
        }
        records
    });
    let of = |watch: usize| -> Vec<Records> { records.iter().map(|all| all[watch].clone()).collect() };
    let thresholds: Vec<f64> = (0..ROWS.len() + CHANGES.len()).map(|watch| threshold(&of(watch), BUDGET, HORIZON)).collect();

    let mut table = Table::new("histograms: 1 value/s, log-normal, 14 bins; calls to detection, mean (95th percentile) [ratio to the oracle]");
    table.head(CHANGES.iter().map(|(name, _)| (*name).to_owned()));
    let mut columns = Vec::new();
    let mut ratios = Vec::new();
    for (number, (name, change)) in CHANGES.iter().enumerate() {
        let after = change.shares();
        let divergence: f64 = after.iter().zip(oracles[number]).map(|(share, ratio)| share * ratio).sum();
        let horizon = (780.0 / divergence / MEAN + 1000.0).min(f64::from(HORIZON)) as u32;
        let runs = each(changed, |path| {
            let mut draws = Draws::new(seed, "histograms", 2 * path + 1);
            let before = truth(&mut draws, &usual);
            let after = normalized(std::array::from_fn(|bin| before[bin] * after[bin] / usual[bin]));
            let mut watches = watches(&usual);
            watches.push(Box::new(Oracle { ratios: oracles[number], sum: 0.0 }));
            let threshold = |row: usize| if row == ROWS.len() { thresholds[ROWS.len() + number] } else { thresholds[row] };
            // Nothing yet; too early; or after so many calls.
            let mut saw: Vec<Option<Option<f64>>> = vec![None; watches.len()];
            let changes = draws.between(720, 1440);
            let mut calls = 0.0;
            for at in 0..changes + horizon {
                let counts = tick(&mut draws, if at < changes { &before } else { &after });
                if at >= changes {
                    calls += counts.iter().sum::<f64>();
                }
                for (row, watch) in watches.iter_mut().enumerate() {
                    if saw[row].is_none() && watch.tick(&counts) >= threshold(row) {
                        saw[row] = Some((at >= changes).then_some(calls));
                    }
                }
                if saw.iter().all(Option::is_some) {
                    break;
                }
            }
            saw
        });
        let calls = |row: usize| -> Vec<f64> { runs.iter().filter_map(|saw| saw[row].flatten()).collect() };
        let oracle = mean(&calls(ROWS.len()));
        let mut column = Vec::new();
        for row in std::iter::once(ROWS.len()).chain(0..ROWS.len()) {
            let never = runs.iter().filter(|saw| saw[row].is_none()).count();
            let calls = calls(row);
            let ratio = if never > 0 { f64::INFINITY } else { mean(&calls) / oracle };
            column.push(match never {
                0 => format!("{:.0} ({:.0}) [{ratio:.2}]", mean(&calls), quantile(&calls, 0.95)),
                _ if never * 20 > runs.len() * 19 => "blind".to_owned(),
                _ => format!("-{:.0} %", 100.0 * never as f64 / (never + calls.len()) as f64),
            });
            if row == 0 {
                ratios.push((*name, ratio));
            }
        }
        columns.push(column);
    }
    for (row, name) in std::iter::once("oracle CUSUM").chain(ROWS).enumerate() {
        table.row(name, columns.iter().map(|column| column[row].clone()).collect());
    }
    report.table(&table);
    let nominal = run_length(&of(0), BUDGET.ln(), HORIZON).0 / BUDGET;
    report.say(&format!("histograms: the core at its nominal knob goes {nominal:.1} weeks to its first false alarm"));
    ratios
}
