//! Independent calls and one change: how many calls each detector needs to see it, all at one false alarm a week.

use crate::calibration::{Records, run_length, threshold};
use crate::generator::{DAY, Draws};
use crate::oracle::Oracle;
use crate::paths::{each, mean, quantile};
use crate::per_call::{Adwin, PageHinkley};
use crate::product::{BUDGET, Core, Moved, PRODUCT, Product};
use crate::report::{Report, Table};
use crate::watch::{Past, Watch};
use crate::windows::{Average, BurnRate, Fixed, Level, TwoWindows};
use streamgauge_machine::drift::alternative::{BAD_WHEN_UP, uniform};
use streamgauge_machine::drift::detector::Scale;
use streamgauge_machine::drift::logit;

/// The rows that goals are about.
pub const CALIBRATED: &str = "core, calibrated";
pub const NOMINAL: &str = "core, nominal knob";

/// So many contenders, the first, are the core.
pub const CORES: usize = 2;

/// One traffic and one usual rate.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    ticks_per_hour: u32,
    /// Calls per tick.
    mean: f64,
    before: f64,
    after: &'static [f64],
    warm_days: u32,
    /// Streams without a change, and streams with one.
    calm: u64,
    changed: u64,
    /// Calls per tick are few enough for detectors that look at each, and for ADWIN, which is the slowest.
    per_call: bool,
    adwin: bool,
    product: bool,
    pub goals: &'static [Goal],
}

/// The mean delay of a row for one change, over the oracle's, is at most `limit`.
pub struct Goal {
    pub name: &'static str,
    pub row: &'static str,
    pub after: f64,
    pub limit: f64,
}

const fn calibrated(after: f64, limit: f64) -> Goal {
    Goal { name: "G2_calibrated", row: CALIBRATED, after, limit }
}

const fn nominal(after: f64, limit: f64) -> Goal {
    Goal { name: "G3_nominal", row: NOMINAL, after, limit }
}

pub const A: Scenario = Scenario {
    name: "A",
    about: "1 call/s, 2 %, ticks of 10 s",
    ticks_per_hour: 360,
    mean: 10.0,
    before: 0.02,
    after: &[0.025, 0.03, 0.04, 0.06, 0.10, 0.20, 0.01, 0.004],
    warm_days: 1,
    calm: 240,
    changed: 900,
    per_call: true,
    adwin: true,
    product: true,
    goals: &[
        calibrated(0.03, 1.2),
        calibrated(0.04, 1.2),
        calibrated(0.06, 1.2),
        calibrated(0.1, 1.2),
        calibrated(0.2, 1.2),
        nominal(0.04, 1.25),
        nominal(0.06, 1.25),
        nominal(0.1, 1.25),
        nominal(0.2, 1.25),
    ],
};
pub const C: Scenario = Scenario {
    name: "C",
    about: "1 call/min, 5 %, ticks of 60 s",
    ticks_per_hour: 60,
    mean: 1.0,
    before: 0.05,
    after: &[0.075, 0.10, 0.15, 0.25, 0.50, 0.02],
    warm_days: 7,
    calm: 400,
    changed: 1200,
    per_call: true,
    adwin: false,
    product: false,
    goals: &[calibrated(0.1, 1.15), calibrated(0.15, 1.15), nominal(0.1, 1.4), nominal(0.15, 1.4), nominal(0.25, 1.4), nominal(0.5, 1.4)],
};
pub const D: Scenario = Scenario {
    name: "D",
    about: "100 calls/s, 1 %, ticks of 10 s",
    ticks_per_hour: 360,
    mean: 1000.0,
    before: 0.01,
    after: &[0.011, 0.0125, 0.015, 0.02, 0.05, 0.005],
    warm_days: 1,
    calm: 200,
    changed: 400,
    per_call: false,
    adwin: false,
    product: false,
    goals: &[
        calibrated(0.0125, 1.15),
        calibrated(0.015, 1.15),
        calibrated(0.02, 1.15),
        calibrated(0.05, 1.15),
        nominal(0.02, 1.25),
        nominal(0.05, 1.25),
    ],
};
pub const E: Scenario = Scenario {
    name: "E",
    about: "1 call/s, 0.2 %, ticks of 10 s",
    ticks_per_hour: 360,
    mean: 10.0,
    before: 0.002,
    after: &[0.004, 0.01, 0.02, 0.05],
    warm_days: 1,
    calm: 300,
    changed: 900,
    per_call: true,
    adwin: false,
    product: false,
    goals: &[nominal(0.004, 1.4), nominal(0.01, 1.4), nominal(0.02, 1.4), nominal(0.05, 1.4)],
};

/// A detector under comparison.
pub struct Contender {
    pub name: &'static str,
    /// Of one path.
    pub make: Box<dyn Fn(u64) -> Box<dyn Watch> + Sync>,
    /// Paths that its threshold is taken from: fewer for the slow.
    calm: u64,
    /// Its threshold, once known.
    pub threshold: f64,
}

/// What a scenario found out.
pub struct Found {
    pub contenders: Vec<Contender>,
    /// By row: a name, and by change the mean calls to detection over the oracle's. `None`: some were never detected.
    ratios: Vec<(&'static str, Vec<Option<f64>>)>,
    after: &'static [f64],
}

impl Found {
    /// A row's mean delay over the oracle's, for the change to `after`. Infinite where it was missed.
    pub fn ratio(&self, row: &str, after: f64) -> f64 {
        let row = self.ratios.iter().find(|(name, _)| *name == row);
        let change = self.after.iter().position(|other| *other == after);
        row.zip(change).and_then(|((_, ratios), change)| ratios[change]).unwrap_or(f64::INFINITY)
    }
}

/// What became of one detector on one stream.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// It had alarmed before: the run says nothing about its delay.
    TooEarly,
    Never,
    /// After so many calls.
    After(f64),
}

/// What the product said when it fired.
#[derive(Clone, Copy, Debug)]
struct Said {
    /// Ticks between the beginning and what it took for it.
    since_error: f64,
    covered: bool,
    /// Its size and the rate since it began, over the truth, in log-odds.
    distance: f64,
    raw: f64,
}

fn contenders(scenario: &Scenario, seed: u64, calm: u64) -> Vec<Contender> {
    let hour = scenario.ticks_per_hour;
    let warm = scenario.warm_days * 24 * hour;
    let (five, sixty) = ((hour / 12) as usize, hour as usize);
    let calls_min = if scenario.mean * five as f64 >= 40.0 { 20.0 } else { 3.0 };
    let level = move || Level::new(warm, hour);
    let mut all: Vec<Contender> = Vec::new();
    let mut add = |name: &'static str, make: Box<dyn Fn(u64) -> Box<dyn Watch> + Sync>| all.push(Contender { name, make, calm, threshold: 0.0 });
    add(CALIBRATED, Box::new(move |_| Box::new(Core::new(&BAD_WHEN_UP, level()))));
    add("core, neutral weights", Box::new(move |_| Box::new(Core::new(const { &uniform::<12>() }, level()))));
    add("fixed threshold 5 min", Box::new(move |_| Box::new(Fixed { window: five, calls_min })));
    add("fixed threshold 60 min", Box::new(move |_| Box::new(Fixed { window: sixty, calls_min })));
    add("EWMA 5 min", Box::new(move |_| Box::new(Average::new(five, level()))));
    add("EWMA 60 min", Box::new(move |_| Box::new(Average::new(sixty, level()))));
    add("z 60 min / 60 min", Box::new(move |_| Box::new(TwoWindows { window: sixty, reference: sixty, calls_min })));
    add("z 5 min / 24 h", Box::new(move |_| Box::new(TwoWindows { window: five, reference: 24 * sixty, calls_min })));
    add("burn rate, scaled", Box::new(move |_| Box::new(BurnRate { ticks_per_hour: sixty })));
    if scenario.per_call {
        let (name, delta) = (scenario.name, scenario.before / 2.0);
        let draws = move |path| Draws::new(seed, name, path + 1_000_000);
        add("Page-Hinkley p/2", Box::new(move |path| Box::new(PageHinkley::new(delta, 1.0, draws(path)))));
        add("Page-Hinkley .005 .9999", Box::new(move |path| Box::new(PageHinkley::new(0.005, 0.9999, draws(path)))));
    }
    if scenario.adwin {
        add("ADWIN", Box::new(move |path| Box::new(Adwin::new(Draws::new(seed, "adwin", path)))));
        if let Some(adwin) = all.last_mut() {
            adwin.calm = calm.min(80);
        }
    }
    all
}

/// Runs a scenario; `share` of its streams.
pub fn run(scenario: &Scenario, seed: u64, share: f64, report: &mut Report) -> Found {
    let paths = |all: u64| ((all as f64 * share) as u64).max(20);
    let day = 24 * scenario.ticks_per_hour;
    let week = f64::from(7 * day);
    let (warm, horizon) = (scenario.warm_days * day, 28 * day);
    let mut contenders = contenders(scenario, seed, paths(scenario.calm));
    let oracle = |after: f64| Oracle::new(scenario.before, after);

    let calm = each(paths(scenario.calm), |path| {
        let mut draws = Draws::new(seed, scenario.name, 2 * path);
        let mut watches: Vec<_> = contenders.iter().map(|contender| (path < contender.calm).then(|| (contender.make)(path))).collect();
        watches.extend(scenario.after.iter().map(|after| Some(Box::new(oracle(*after)) as Box<dyn Watch>)));
        let mut records = vec![Records::default(); watches.len()];
        let mut past = Past::default();
        for at in 0..warm + horizon {
            past.push(draws.tick(scenario.mean, scenario.before));
            for (watch, records) in watches.iter_mut().zip(&mut records) {
                let Some(watch) = watch else { continue };
                let said = watch.tick(&past);
                if at >= warm {
                    records.see(at - warm + 1, said);
                }
            }
        }
        records
    });
    let records = |watch: usize, paths: u64| -> Vec<Records> { calm.iter().take(paths as usize).map(|all| all[watch].clone()).collect() };
    let mut notes = Vec::new();
    for (watch, contender) in contenders.iter_mut().enumerate() {
        let records = records(watch, contender.calm);
        contender.threshold = threshold(&records, week, horizon);
        let (ticks, alarms) = run_length(&records, contender.threshold, horizon);
        notes.push((contender.name, contender.threshold, ticks / week, alarms));
    }
    let oracles: Vec<f64> = (0..scenario.after.len()).map(|at| threshold(&records(contenders.len() + at, u64::MAX), week, horizon)).collect();
    let nominal = (week * (1.0 - (-scenario.mean).exp())).ln();
    notes.push((NOMINAL, nominal, run_length(&records(0, u64::MAX), nominal, horizon).0 / week, 0));

    // Rows: the oracle, which is another one for each change; the core at its nominal knob; all others; the product.
    let mut rows: Vec<(&'static str, usize, f64)> = vec![("oracle CUSUM", contenders.len(), f64::NAN)];
    rows.extend(contenders.iter().enumerate().map(|(watch, contender)| (contender.name, watch, contender.threshold)));
    rows.insert(2, (NOMINAL, 0, nominal));
    let runs = each(paths(scenario.changed), |path| change(scenario, seed, path, &contenders, &rows, &oracles));

    let mut names: Vec<&'static str> = rows.iter().map(|row| row.0).collect();
    if scenario.product {
        names.push(PRODUCT);
    }
    let (mut ratios, mut table) =
        (Vec::new(), Table::new(&format!("{}: {}; calls to detection, mean (95th percentile) [ratio to the oracle]", scenario.name, scenario.about)));
    table.head(scenario.after.iter().map(|after| percent(*after)));
    let mut yardstick = Vec::new();
    for (row, name) in names.iter().enumerate() {
        let (mut cells, mut of_row) = (Vec::new(), Vec::new());
        for change in 0..scenario.after.len() {
            let saw: Vec<Saw> = runs.iter().map(|run| run.saw[change][row]).collect();
            let calls: Vec<f64> = saw.iter().filter_map(|saw| if let Saw::After(calls) = saw { Some(*calls) } else { None }).collect();
            let never = saw.iter().filter(|saw| matches!(saw, Saw::Never)).count();
            if row == 0 {
                yardstick.push(mean(&calls));
            }
            if never > 0 {
                let share = 100.0 * never as f64 / (never + calls.len()) as f64;
                cells.push(if share > 95.0 { "blind".to_owned() } else { format!("-{share:.1} %") });
                of_row.push(None);
            } else {
                let ratio = mean(&calls) / yardstick[change];
                cells.push(format!("{:.0} ({:.0}) [{ratio:.2}]", mean(&calls), quantile(&calls, 0.95)));
                of_row.push(Some(ratio));
            }
        }
        table.row(name, cells);
        ratios.push((*name, of_row));
    }
    report.table(&table);
    let early = |row: usize| runs.iter().filter(|run| matches!(run.saw[0][row], Saw::TooEarly)).count();
    let mut table = Table::new("thresholds, weeks to the first false alarm (and how many there were to tell it), runs dropped for an earlier alarm");
    table.head(["threshold", "weeks", "alarms", "dropped"].map(str::to_owned));
    for (name, threshold, weeks, alarms) in notes {
        let row = names.iter().position(|other| *other == name).expect("every contender has a row");
        table.row(name, vec![format!("{threshold:.4}"), format!("{weeks:.2}"), alarms.to_string(), format!("{} of {}", early(row), runs.len())]);
    }
    report.table(&table);
    if scenario.product {
        said(scenario, &runs, report);
    }
    Found { contenders, ratios, after: scenario.after }
}

/// What the product says about a change when it fires.
fn said(scenario: &Scenario, runs: &[Run], report: &mut Report) {
    let mut table = Table::new("what the product says when it fires: beginning, and size over the truth as an odds ratio (geometric mean)");
    table.head(["median error, ticks", "its interval holds it", "size / truth", "rate since then / truth"].map(str::to_owned));
    for (change, after) in scenario.after.iter().enumerate() {
        let said: Vec<Said> = runs.iter().filter_map(|run| run.said[change]).collect();
        let of = |what: fn(&Said) -> f64| said.iter().map(what).collect::<Vec<f64>>();
        let covered = mean(&of(|said| f64::from(u8::from(said.covered))));
        let (distance, raw) = (mean(&of(|said| said.distance)).exp(), mean(&of(|said| said.raw)).exp());
        let cells = vec![
            format!("{:.0}", quantile(&of(|said| said.since_error), 0.5)),
            format!("{:.0} %", covered * 100.0),
            format!("{distance:.2}"),
            format!("{raw:.2}"),
        ];
        table.row(&format!("{} -> {}", percent(scenario.before), percent(*after)), cells);
    }
    report.table(&table);
}

struct Run {
    /// By change and row.
    saw: Vec<Vec<Saw>>,
    said: Vec<Option<Said>>,
}

/// One history, and how it goes on after each change.
fn change(scenario: &Scenario, seed: u64, path: u64, contenders: &[Contender], rows: &[(&'static str, usize, f64)], oracles: &[f64]) -> Run {
    let mut draws = Draws::new(seed, scenario.name, 2 * path + 1);
    let day = 24 * scenario.ticks_per_hour;
    let warm = scenario.warm_days * day;
    let mut product = Product::new(BUDGET);
    if scenario.product {
        for _ in 0..2 * 7 * DAY - warm {
            product.tick(draws.tick(scenario.mean, scenario.before));
        }
    }
    let changed = warm + draws.between(day / 2, day * 3 / 2);
    let mut watches: Vec<Box<dyn Watch>> = contenders.iter().map(|contender| (contender.make)(path + 2_000_000)).collect();
    watches.extend(scenario.after.iter().map(|after| Box::new(Oracle::new(scenario.before, *after)) as Box<dyn Watch>));
    let mut past = Past::default();
    let mut early = vec![false; rows.len()];
    let mut oracle_early = vec![false; oracles.len()];
    for at in 0..changed {
        let tick = draws.tick(scenario.mean, scenario.before);
        past.push(tick);
        if scenario.product {
            product.tick(tick);
        }
        let said: Vec<f64> = watches.iter_mut().map(|watch| watch.tick(&past)).collect();
        if at >= warm {
            early.iter_mut().zip(rows).skip(1).for_each(|(early, (_, watch, threshold))| *early |= said[*watch] >= *threshold);
            oracle_early.iter_mut().zip(&said[contenders.len()..]).zip(oracles).for_each(|((early, said), threshold)| *early |= said >= threshold);
        }
    }
    let mut run = Run { saw: Vec::new(), said: Vec::new() };
    for (number, after) in scenario.after.iter().enumerate() {
        let mut rows: Vec<(usize, f64)> = rows.iter().map(|(_, watch, threshold)| (*watch, *threshold)).collect();
        rows[0] = (contenders.len() + number, oracles[number]);
        early[0] = oracle_early[number];
        let mut saw: Vec<Saw> = early.iter().map(|early| if *early { Saw::TooEarly } else { Saw::Never }).collect();
        let mut waits: Vec<bool> = early.iter().map(|early| !early).collect();
        let mut forks: Vec<Box<dyn Watch>> = watches.iter().map(|watch| watch.fork()).collect();
        let mut ours = product.clone();
        let mut ours_waits = scenario.product && !product.fires();
        let mut ours_saw = if ours_waits { Saw::Never } else { Saw::TooEarly };
        let mut said = None;
        past.rewind(changed as usize);
        let mut draws = Draws::new(seed, scenario.name, (path << 8) + number as u64 + (1 << 40));
        let bound = f64::from(7 * day).ln() / divergence(*after, scenario.before) / scenario.mean;
        let least = f64::from(if *after < scenario.before { 3 * day } else { day });
        let horizon = (60.0 * bound).max(least).min(f64::from(14 * day)) as u32 + 300;
        let mut calls = 0;
        for at in 0..horizon {
            let tick = if at == 0 {
                let (tick, late) = draws.changing_tick(scenario.mean, scenario.before, *after);
                calls += late;
                tick
            } else {
                let tick = draws.tick(scenario.mean, *after);
                calls += tick.calls;
                tick
            };
            past.push(tick);
            for (watch, fork) in forks.iter_mut().enumerate() {
                let mut mine = rows.iter().enumerate().filter(|(row, (of, _))| *of == watch && waits[*row]).map(|(row, _)| row).peekable();
                if mine.peek().is_none() {
                    continue;
                }
                let said = fork.tick(&past);
                let reached: Vec<usize> = mine.filter(|row| said >= rows[*row].1).collect();
                for row in reached {
                    saw[row] = Saw::After(calls as f64);
                    waits[row] = false;
                }
            }
            if ours_waits && ours.tick(tick) == Moved::Fired {
                ours_saw = Saw::After(calls as f64);
                ours_waits = false;
                let beginning = ours.at() - 1 - at;
                let truth = logit(*after) - logit(scenario.before);
                said = ours.gauge.detector().firing().map(|firing| Said {
                    since_error: (f64::from(firing.since) - f64::from(beginning)).abs(),
                    covered: (firing.since_between.0..=firing.since_between.1).contains(&beginning),
                    distance: firing.distance - truth,
                    raw: logit(firing.observed(Scale::Odds)) - logit(scenario.before) - truth,
                });
            }
            if !ours_waits && waits.iter().all(|waits| !waits) {
                break;
            }
        }
        saw.push(ours_saw);
        run.saw.push(saw);
        run.said.push(said);
    }
    run
}

/// A rate for people, without the digits that binary fractions add.
pub fn percent(rate: f64) -> String {
    format!("{} %", (rate * 1e6).round() / 1e4)
}

/// Kullback-Leibler divergence of one call's outcome.
fn divergence(q: f64, p: f64) -> f64 {
    q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln()
}
