//! Recorded series with labelled incidents, fed to a gauge and to three things people use instead, in one run.
//!
//! `STREAMGAUGE_RECORDINGS=… cargo bench -p streamgauge-machine --bench labelled [-- --each]`. The folder holds `ms_cloud_monitoring` and `nab`.
//! What the tables can say and what they cannot is printed below them.
//!
//! No constant, here or in the detector, was chosen by looking at these series. One change was made because of them: a first run gave 204 alarms
//! outside of windows, since dispersion was not known when a gauge began to watch (`Dispersion::begin`; `tests/waves.rs` is its test, on series of
//! its own).

#![expect(clippy::print_stdout, reason = "a benchmark's answer")]

use machine::drift::gauge::{Counts, Ended, Gauge, Kind};
use model::Buckets;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use streamgauge_machine as machine;

/// Ticks between false alarms, of the gauge and of the chart: a day's of the product. In a series of five-minute samples they are a month.
const NOMINAL: f64 = 8640.0;
/// Factors on the fixed threshold: the smallest is taken with which it gives no more alarms outside of windows than the gauge in the same set.
const FACTORS: [f64; 12] = [1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
/// Series with fewer values left after learning are left out.
const SCORED_MIN: usize = 100;
/// An alarm of the methods that know no end is over after so many quiet samples.
const QUIET: usize = 12;

/// Rates and latencies of each set, by folder and beginning of the file's name; requests, bytes and speeds are neither.
const MICROSOFT: [&str; 3] = ["application-crash-rate-1/", "data-ingress-rate/", "middle-tier-api-dependency-latency/"];
const NUMENTA: [&str; 5] =
    ["realAdExchange/", "realTraffic/TravelTime", "realTraffic/occupancy", "realAWSCloudwatch/ec2_cpu", "realAWSCloudwatch/rds_cpu"];

struct Series {
    name: String,
    /// `None`: a sample without a value.
    values: Vec<Option<f64>>,
    /// Labelled incidents, by sample.
    windows: Vec<Range<usize>>,
}

/// One method on one series: after the learning part, whether its alarm stands at each sample.
type Standing = Vec<bool>;

#[derive(Clone, Default)]
struct Score {
    windows: usize,
    /// Windows in which an alarm began, and windows at whose beginning one stood already.
    found: usize,
    stood: usize,
    delays: Vec<usize>,
    /// Alarms that began outside of all windows.
    outside: usize,
    samples_outside: usize,
    standing_outside: usize,
}

fn main() {
    let Some(folder) = std::env::var_os("STREAMGAUGE_RECORDINGS").map(PathBuf::from) else {
        println!("labelled: skipped, STREAMGAUGE_RECORDINGS names no folder of recordings");
        return;
    };
    let each = std::env::args().any(|arg| arg == "--each");
    let sets = [("ms_cloud_monitoring", microsoft(&folder.join("ms_cloud_monitoring/data"))), ("nab", numenta(&folder.join("nab")))];
    println!("labelled: one value a tick, nominally one false alarm in {NOMINAL} ticks (gauge, EWMA)");
    let (mut all, mut all_shuffled) = (Table::new(), Table::new());
    for (set, series) in sets {
        assert!(!series.is_empty(), "{set} has no series");
        let (mut table, mut shuffled) = (Table::new(), Table::new());
        for series in &series {
            table.add(series, each);
            shuffled.add(&series.shuffled(), false);
        }
        table.look_back();
        shuffled.look_back();
        table.print(set);
        shuffled.print(&format!("{set}, values outside of windows in random order"));
        all.merge(&table);
        all_shuffled.merge(&shuffled);
    }
    all.print("both sets");
    all_shuffled.print("both sets, values outside of windows in random order");
    println!("{NOTE}");
}

const NOTE: &str = "
What this can say: whether labelled incidents of production series that none of us chose are noticed, how soon, and how often an alarm begins
elsewhere, for all methods from the same values. In random order the same values hold no incident and no wave: there the gauge's promise can be
checked as it is meant, and there one sees which methods owe their alarms to the shape of the values alone. `fixed, hindsight` knows the labels: it
is what a person could have reached at the gauge's number of alarms by choosing one factor for a whole set afterwards, and it is a bar, not a
method.

What it cannot say: anything about rates with denominators, which is what the product mostly watches. These are sums and means, one value a sample,
and nobody kept of how many calls. One value a tick is the hardest case for a gauge of values, for two reasons that METHOD.md gives: such series
come in waves (φ of 10 to 100: a change must outlast the waves to be proven), and of a value above the usual 99 % it counts that it is, not how far;
so spikes of a few samples (half of the first set's labels last at most seven) are found by a limit and not by
it. Samples of minutes to an hour stand for
ticks of ten seconds. The series are days to weeks long, with shapes of a day and a week that a gauge of values does not learn, and levels that move
for good: an alarm about those stands until a person adopts the level, and nobody does here (`standing there`). Windows at whose beginning it stood
are no finds. Labels are the labellers': what they left out counts as false, and NAB's windows are about a tenth of each series whatever happened in
them. Nominal rates differ: the fixed threshold is the 99.9 % quantile of what was learned from, which of 500 values is the largest, and one in 501
exceeds that; the burn rate has none. Medians of few delays are anecdotes.";

struct Table {
    rows: BTreeMap<usize, Score>,
    series: usize,
    short: usize,
    scored: usize,
    phis: Vec<f64>,
    /// Scores of the fixed threshold with each of [`FACTORS`].
    fixed: [Score; FACTORS.len()],
}

const METHODS: [&str; 5] = ["gauge", "fixed threshold", "EWMA chart", "burn rate", "fixed, hindsight"];
const HINDSIGHT: usize = 4;

impl Table {
    fn new() -> Self {
        Self { rows: BTreeMap::new(), series: 0, short: 0, scored: 0, phis: Vec::new(), fixed: Default::default() }
    }

    fn add(&mut self, series: &Series, each: bool) {
        let Some((learned, gauge, phi)) = gauge(series) else {
            self.short += 1;
            return;
        };
        let first: Vec<f64> = series.values[..learned].iter().flatten().copied().collect();
        let standing = [gauge, fixed(series, learned, &first, 1.0), ewma(series, learned, &first), burn_rate(series, learned, &first)];
        self.series += 1;
        self.scored += series.values.len() - learned;
        self.phis.push(phi);
        for (method, standing) in standing.iter().enumerate() {
            let score = score(series, learned, standing);
            if each {
                let Score { windows, found, stood, outside, .. } = score;
                println!("{:<60} {:<16} found {found}+{stood} of {windows}, outside {outside}, φ {phi:.1}", series.name, METHODS[method]);
            }
            self.rows.entry(method).or_default().merge(&score);
        }
        for (sum, factor) in self.fixed.iter_mut().zip(FACTORS) {
            sum.merge(&score(series, learned, &fixed(series, learned, &first, factor)));
        }
    }

    /// Adds the threshold that one would have chosen had one known the labels.
    fn look_back(&mut self) {
        let accepted = self.rows.get(&0).map_or(0, |gauge| gauge.outside);
        if let Some(score) = self.fixed.iter().find(|score| score.outside <= accepted) {
            self.rows.insert(HINDSIGHT, score.clone());
        }
    }

    fn merge(&mut self, other: &Self) {
        self.series += other.series;
        self.short += other.short;
        self.scored += other.scored;
        self.phis.extend(&other.phis);
        for (method, score) in &other.rows {
            self.rows.entry(*method).or_default().merge(score);
        }
    }

    fn print(&self, name: &str) {
        println!(
            "\n{name}: {} series ({} too short), {} samples after learning; φ at the end: {}",
            self.series,
            self.short,
            self.scored,
            quartiles(&self.phis)
        );
        println!(
            "{:<16} {:>8} {:>6} {:>6} {:>14} {:>10} {:>10} {:>10} {:>15}",
            "", "windows", "found", "stood", "delay p50, p90", "outside", "per 8,640", "promised", "standing there"
        );
        for (method, score) in &self.rows {
            let mut delays = score.delays.clone();
            delays.sort_unstable();
            let delay = |q: f64| {
                delays.get(((delays.len() as f64 * q) as usize).min(delays.len().saturating_sub(1))).map_or("-".to_owned(), usize::to_string)
            };
            let outside = score.samples_outside.max(1) as f64;
            let promised = [Some(1.0), Some(NOMINAL / 501.0), Some(1.0), None, None][*method].map_or("-".to_owned(), |p: f64| format!("{p:.1}"));
            println!(
                "{:<16} {:>8} {:>6} {:>6} {:>14} {:>10} {:>10.2} {:>10} {:>13.1} %",
                METHODS[*method],
                score.windows,
                score.found,
                score.stood,
                format!("{}, {}", delay(0.5), delay(0.9)),
                score.outside,
                score.outside as f64 * NOMINAL / outside,
                promised,
                100.0 * score.standing_outside as f64 / outside
            );
        }
    }
}

fn quartiles(values: &[f64]) -> String {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| values.get((values.len() as f64 * q) as usize).copied().unwrap_or(f64::NAN);
    format!("quartiles {:.1} {:.1} {:.1}", at(0.25), at(0.5), at(0.75))
}

impl Score {
    fn merge(&mut self, other: &Self) {
        self.windows += other.windows;
        self.found += other.found;
        self.stood += other.stood;
        self.delays.extend(&other.delays);
        self.outside += other.outside;
        self.samples_outside += other.samples_outside;
        self.standing_outside += other.standing_outside;
    }
}

/// `standing` begins at sample `learned`. Windows that begin before count as neither.
fn score(series: &Series, learned: usize, standing: &[bool]) -> Score {
    let mut score = Score::default();
    let stands = |at: usize| at >= learned && standing[at - learned];
    let begins = |at: usize| stands(at) && !(at > 0 && stands(at - 1));
    for window in series.windows.iter().filter(|window| window.start >= learned) {
        score.windows += 1;
        if window.start > 0 && stands(window.start - 1) && stands(window.start) {
            score.stood += 1;
        } else if let Some(at) = window.clone().find(|at| begins(*at)) {
            score.found += 1;
            score.delays.push(at - window.start);
        }
    }
    for at in (learned..series.values.len()).filter(|at| !series.windows.iter().any(|window| window.contains(at))) {
        score.samples_outside += 1;
        score.outside += usize::from(begins(at));
        score.standing_outside += usize::from(stands(at));
    }
    score
}

/// Where learning ended, what came after, and the dispersion at the end. `None`: too little came after.
fn gauge(series: &Series) -> Option<(usize, Standing, f64)> {
    let mut gauge = Gauge::new(Kind::Values, 0, None, false);
    let unit = unit(series);
    let (mut learned, mut standing) = (None, Vec::new());
    for (at, value) in series.values.iter().enumerate() {
        let tick = at as u32;
        if let Some(value) = value {
            let mut buckets = Buckets::default();
            buckets.record((value.max(0.0) * unit).round() as u64);
            let ended = gauge.tick(tick, Counts::Values(&buckets), None);
            let detector = gauge.detector();
            if ended != Some(Ended::Resolved) && detector.firing().is_none() && detector.evidence() >= detector.threshold(tick, NOMINAL) {
                gauge.fire(tick);
            }
        }
        if learned.is_some() {
            standing.push(gauge.detector().firing().is_some());
        } else if !gauge.standing(tick).learning {
            learned = Some(at + 1);
        }
    }
    let learned = learned.filter(|learned| series.values.len() - learned >= SCORED_MIN)?;
    Some((learned, standing, gauge.standing(series.values.len() as u32).excess.phi))
}

/// Values are whole: a power of ten that gives the usual one six digits.
fn unit(series: &Series) -> f64 {
    let mut first: Vec<f64> = series.values.iter().take(500).flatten().copied().collect();
    first.sort_unstable_by(f64::total_cmp);
    let median = first.get(first.len() / 2).copied().unwrap_or(1.0);
    if median > 0.0 { 10f64.powf(5.0 - median.log10().floor()) } else { 1000.0 }
}

/// `factor` times the value that one in 1,000 of the learned ones exceeds.
fn fixed(series: &Series, learned: usize, first: &[f64], factor: f64) -> Standing {
    let limit = quantile(first, 0.999) * factor;
    held(series.values[learned..].iter().map(|value| value.is_some_and(|value| value > limit)))
}

/// The textbook's chart on both sides: weight 0.2, and limits 3.8 errors away, which for independent normal values is one false alarm in 8,700.
fn ewma(series: &Series, learned: usize, first: &[f64]) -> Standing {
    const WEIGHT: f64 = 0.2;
    const ERRORS: f64 = 3.8;
    let mean = first.iter().sum::<f64>() / first.len() as f64;
    let deviation = (first.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / first.len() as f64).sqrt();
    let limit = ERRORS * deviation * (WEIGHT / (2.0 - WEIGHT)).sqrt();
    let mut average = mean;
    held(series.values[learned..].iter().map(|value| {
        average += value.map_or(0.0, |value| WEIGHT * (value - average));
        (average - mean).abs() > limit
    }))
}

/// Burn rates of an objective that 99 % of values lie below the learned 99 %: 14.4 times the budget over an hour and its twelfth, or 6 times over six
/// hours and their twelfth, where an hour is twelve samples.
fn burn_rate(series: &Series, learned: usize, first: &[f64]) -> Standing {
    let limit = quantile(first, 0.99);
    let bad: Vec<bool> = series.values.iter().map(|value| value.is_some_and(|value| value > limit)).collect();
    let burns = |at: usize, samples: usize, times: f64| {
        let window = &bad[(at + 1).saturating_sub(samples)..=at];
        window.iter().filter(|bad| **bad).count() as f64 >= times * 0.01 * window.len() as f64
    };
    let fires = |at: usize| (burns(at, 12, 14.4) && burns(at, 1, 14.4)) || (burns(at, 72, 6.0) && burns(at, 6, 6.0));
    held((learned..series.values.len()).map(fires))
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() as f64 * q).ceil() as usize).clamp(1, values.len()) - 1]
}

/// An alarm stands until [`QUIET`] samples were quiet.
fn held(fires: impl Iterator<Item = bool>) -> Standing {
    let mut quiet = QUIET;
    fires
        .map(|fires| {
            quiet = if fires { 0 } else { quiet + 1 };
            quiet < QUIET
        })
        .collect()
}

impl Series {
    /// The values outside of windows in an order that means nothing, from the name as seed.
    fn shuffled(&self) -> Self {
        let outside = |at: &usize| !self.windows.iter().any(|window| window.contains(at));
        let mut values: Vec<_> = (0..self.values.len()).filter(outside).map(|at| self.values[at]).collect();
        let seed = self.name.bytes().fold(1u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        fastrand::Rng::with_seed(seed).shuffle(&mut values);
        Self { name: self.name.clone(), values, windows: Vec::new() }
    }
}

/// Samples with their times, and whether each is labelled where the file says so.
fn read(path: &Path) -> Vec<(String, Option<f64>, bool)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    rows.map(|line| {
        let mut cells = line.split(',').map(|cell| cell.trim().trim_matches('"'));
        let time = cells.next().expect("a line has a cell").to_owned();
        let value = cells.next().unwrap_or_else(|| panic!("{}: no value in `{line}`", path.display()));
        let value = (!value.is_empty()).then(|| value.parse().unwrap_or_else(|_| panic!("{}: `{value}` is no number", path.display())));
        let label = cells.next().is_some_and(|label| label.parse::<f64>().is_ok_and(|label| label > 0.0));
        (time, value, label)
    })
    .collect()
}

/// Files below `folder` whose path there begins with one of `beginnings`, sorted.
fn files(folder: &Path, beginnings: &[&str]) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let entries = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.map(|entry| entry.expect("a folder is read to its end").path()).collect()
    };
    for set in entries(folder).iter().filter(|path| path.is_dir()) {
        for file in entries(set) {
            let name = file.strip_prefix(folder).expect("it was found there").to_string_lossy().into_owned();
            if name.ends_with(".csv") && beginnings.iter().any(|beginning| name.starts_with(beginning)) {
                files.push((name, file));
            }
        }
    }
    files.sort();
    for beginning in beginnings {
        assert!(files.iter().any(|(name, _)| name.starts_with(beginning)), "{}: nothing begins with {beginning}", folder.display());
    }
    files
}

/// Windows are runs of labelled samples.
fn microsoft(folder: &Path) -> Vec<Series> {
    let read = |(name, path): (String, PathBuf)| {
        let rows = read(&path);
        let mut windows: Vec<Range<usize>> = Vec::new();
        for at in (0..rows.len()).filter(|at| rows[*at].2) {
            match windows.last_mut().filter(|window| window.end == at) {
                Some(window) => window.end = at + 1,
                None => windows.push(at..at + 1),
            }
        }
        Series { name, values: rows.into_iter().map(|row| row.1).collect(), windows }
    };
    files(folder, &MICROSOFT).into_iter().map(read).collect()
}

/// Windows are times in a file of their own.
fn numenta(folder: &Path) -> Vec<Series> {
    let path = folder.join("labels/combined_windows.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let labels: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let read = |(name, path): (String, PathBuf)| {
        let rows = read(&path);
        let windows = labels[&name].as_array().unwrap_or_else(|| panic!("{name} has no labels")).iter().map(|window| {
            // Times are written alike, so they compare as text; a label's fraction of a second is left out.
            let time = |i: usize| window[i].as_str().and_then(|time| time.get(..19)).unwrap_or_else(|| panic!("{name}: {window} is no window"));
            let before = |limit: &dyn Fn(&str) -> bool| rows.iter().filter(|row| limit(&row.0)).count();
            before(&|at| at < time(0))..before(&|at| at <= time(1))
        });
        let windows = windows.collect();
        Series { values: rows.into_iter().map(|row| row.1).collect(), windows, name }
    };
    files(&folder.join("data"), &NUMENTA).into_iter().map(read).collect()
}
