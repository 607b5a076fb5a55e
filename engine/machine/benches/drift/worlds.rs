//! Streams as production has them: seasons, bursts, gaps. How often each detector cries wolf in them, and how it does in incidents of four hours.
//!
//! The product runs as the engine runs it, with its nominal knob, learning online from its first tick; two weeks of history, then it counts. The
//! others keep the thresholds that gave them one false alarm a week on independent calls.

use crate::generator::{DAY, Draws, HOUR, Stream, WEEK, World};
use crate::iid::Contender;
use crate::paths::{each, mean, quantile};
use crate::product::{BUDGET, Moved, PRODUCT, Product};
use crate::report::{Report, Table};
use crate::watch::{Past, Watch};

const HISTORY: u32 = 2 * WEEK;
const SCORED: u32 = 4 * WEEK;
const INCIDENT: u32 = 4 * HOUR;
/// Ticks after an incident in which its end should be noticed.
const AFTER: u32 = 12 * HOUR;
/// Odds of an event during an incident, against the usual.
const ODDS: [f64; 2] = [2.0, 4.0];
/// An alarm of a detector that cannot resolve is a new one after an hour without.
const REARM: u32 = HOUR;

/// What the product did.
pub struct Found {
    /// Per series and week.
    pub false_alarms: f64,
    /// By size.
    pub incidents: Vec<Incidents>,
}

/// How the product did in incidents of one size.
pub struct Incidents {
    /// Median ticks between the beginning and what it took for it.
    pub since_error: f64,
    /// Mean minutes to the end.
    pub resolve: f64,
    /// Alarms too many per incident.
    pub flaps: f64,
}

/// How one detector did in one incident; minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Incident {
    /// It was in alarm already: the rest says nothing.
    early: bool,
    fired: Option<f64>,
    ended: Option<f64>,
    /// It was said to be over before it was, and nothing fired again: its end cannot be noticed.
    over_early: bool,
    flaps: f64,
    since_error: f64,
}

/// Of one world; `series` without a change, `incidents` of each size.
pub fn run(world: World, seed: u64, series: u64, incidents: u64, others: &[Contender], report: &mut Report) -> Found {
    let part = |what: &str| format!("{} {what}", world.name());
    let calm = each(series, |path| calm(Stream::new(world, seed, &part("calm"), path), others, path));
    let weeks = (series * u64::from(SCORED / WEEK)) as f64;
    let broken = each(incidents, |path| broken(world, seed, path, others));

    let mut table = Table::new(&format!(
        "{}: false alarms per series and week ± error; incidents of 4 h: share noticed, minutes to the alarm mean (95th percentile), to its end, alarms too many",
        world.name()
    ));
    let mut found = Found { false_alarms: 0.0, incidents: Vec::new() };
    let mut head = vec!["false alarms".to_owned()];
    head.extend(ODDS.map(|odds| format!("odds ×{odds}")));
    table.head(head);
    for row in 0..=others.len() {
        let alarms: Vec<f64> = calm.iter().map(|calm| calm.0[row]).collect();
        let rate = alarms.iter().sum::<f64>() / weeks;
        let spread = mean(&alarms.iter().map(|alarms| (alarms - mean(&alarms_of(&calm, row))).powi(2)).collect::<Vec<_>>()).sqrt();
        let mut cells = vec![format!("{rate:.2} ± {:.2}", spread / f64::from(SCORED / WEEK) / (series as f64).sqrt())];
        for size in 0..ODDS.len() {
            let all: Vec<Incident> = broken.iter().map(|runs| runs[size][row]).filter(|incident| !incident.early).collect();
            let noticed: Vec<Incident> = all.iter().copied().filter(|incident| incident.fired.is_some()).collect();
            let minutes: Vec<f64> = all.iter().map(|incident| incident.fired.unwrap_or(f64::from(INCIDENT / 6))).collect();
            let ended: Vec<f64> = noticed.iter().filter_map(|incident| incident.ended).collect();
            // One that ends too early is one alarm too many, too: somebody will look again.
            let flaps = mean(&noticed.iter().map(|incident| incident.flaps + f64::from(u8::from(incident.over_early))).collect::<Vec<_>>());
            cells.push(if all.is_empty() {
                "always in alarm".to_owned()
            } else {
                let share = 100.0 * noticed.len() as f64 / all.len() as f64;
                format!("{share:.0} %  {:.1} ({:.0})  {:.1}  {flaps:.2}", mean(&minutes), quantile(&minutes, 0.95), mean(&ended))
            });
            if row == 0 {
                let errors: Vec<f64> = noticed.iter().map(|incident| incident.since_error).collect();
                found.incidents.push(Incidents { since_error: quantile(&errors, 0.5), resolve: mean(&ended), flaps });
            }
        }
        if row == 0 {
            found.false_alarms = rate;
        }
        table.row(if row == 0 { PRODUCT } else { others[row - 1].name }, cells);
    }
    report.table(&table);
    let firing: f64 = calm.iter().map(|calm| calm.1).sum::<f64>() / weeks;
    report.say(&format!("{}: the product spends {firing:.0} minutes a week in false alarms; {}", world.name(), calm[0].2));
    found
}

fn alarms_of(calm: &[(Vec<f64>, f64, String)], row: usize) -> Vec<f64> {
    calm.iter().map(|calm| calm.0[row]).collect()
}

/// False alarms of the product and then of the others, the product's minutes in alarm, and what it has learned.
fn calm(mut stream: Stream, others: &[Contender], path: u64) -> (Vec<f64>, f64, String) {
    let mut product = Product::new(BUDGET);
    let mut watches: Vec<Box<dyn Watch>> = others.iter().map(|other| (other.make)(path)).collect();
    let mut alarms = vec![0.0; 1 + others.len()];
    let mut last = vec![None; others.len()];
    let mut firing = 0.0;
    let mut past = Past::default();
    for at in 0..HISTORY + SCORED {
        let tick = stream.tick(1.0);
        past.push(tick);
        let fired = product.tick(tick) == Moved::Fired;
        if at >= HISTORY {
            alarms[0] += f64::from(u8::from(fired));
            firing += f64::from(u8::from(product.fires())) / 6.0;
        }
        // Their warm-up is a day; the one before they count will do.
        if at < HISTORY - DAY {
            continue;
        }
        for (row, watch) in watches.iter_mut().enumerate() {
            if watch.tick(&past) >= others[row].threshold && at >= HISTORY {
                if last[row].is_none_or(|last| at - last > REARM) {
                    alarms[row + 1] += 1.0;
                }
                last[row] = Some(at);
            }
        }
    }
    let excess = product.gauge.standing(product.at()).excess;
    (alarms, firing, format!("the first series ends with correlation {:.4}, phi {:.2}", excess.correlation, excess.phi))
}

/// By size, the product and then the others in an incident.
fn broken(world: World, seed: u64, path: u64, others: &[Contender]) -> Vec<Vec<Incident>> {
    let begins = HISTORY + Draws::new(seed, "incident", path).between(DAY / 2, 5 * DAY);
    let mut stream = Stream::new(world, seed, world.name(), path);
    let mut product = Product::new(BUDGET);
    let mut watches: Vec<Box<dyn Watch>> = others.iter().map(|other| (other.make)(path)).collect();
    let mut past = Past::default();
    let mut early = vec![false; 1 + others.len()];
    for at in 0..begins {
        let tick = stream.tick(1.0);
        past.push(tick);
        product.tick(tick);
        if at + 2 * DAY < begins {
            continue;
        }
        for (row, watch) in watches.iter_mut().enumerate() {
            early[row + 1] |= watch.tick(&past) >= others[row].threshold && at + 30 >= begins;
        }
    }
    early[0] = product.fires();
    let one = |odds: &f64| {
        let (mut stream, mut product) = (stream.clone(), product.clone());
        let mut watches: Vec<_> = watches.iter().map(|watch| watch.fork()).collect();
        let mut past = past.clone();
        let mut runs: Vec<Incident> = early.iter().map(|early| Incident { early: *early, ..Incident::default() }).collect();
        for at in 0..INCIDENT + AFTER {
            let during = at < INCIDENT;
            let minutes = f64::from(at + 1) / 6.0;
            let after = minutes - f64::from(INCIDENT) / 6.0;
            let tick = stream.tick(if during { *odds } else { 1.0 });
            past.push(tick);
            let ours = &mut runs[0];
            match product.tick(tick) {
                Moved::Fired if during => {
                    if ours.fired.is_some() {
                        ours.flaps += 1.0;
                    } else {
                        ours.fired = Some(minutes);
                        let since = product.gauge.detector().firing().map_or(f64::NAN, |firing| f64::from(firing.since));
                        ours.since_error = (since - f64::from(begins)).abs();
                    }
                }
                Moved::Ended(_) if !during && ours.ended.is_none() => ours.ended = Some(after),
                _ => {}
            }
            if at + 1 == INCIDENT {
                ours.over_early = ours.fired.is_some() && !product.fires();
            }
            for ((watch, run), other) in watches.iter_mut().zip(&mut runs[1..]).zip(others) {
                let alarms = watch.tick(&past) >= other.threshold;
                if alarms && during && run.fired.is_none() {
                    run.fired = Some(minutes);
                }
                if !alarms && !during && run.ended.is_none() {
                    run.ended = Some(after);
                }
            }
        }
        // What is not noticed to have ended counts as if it were at the end.
        runs.iter_mut()
            .filter(|run| run.fired.is_some() && run.ended.is_none() && !run.over_early)
            .for_each(|run| run.ended = Some(f64::from(AFTER) / 6.0));
        runs
    };
    ODDS.iter().map(one).collect()
}
