//! Slow changes: from 2 % to 6 %, straight in log-odds, over an hour, six hours and a day. A reference that slides follows a ramp and sees nothing.

use crate::generator::{DAY, Draws, HOUR, WEEK};
use crate::iid::Contender;
use crate::paths::{each, mean, quantile};
use crate::product::{BUDGET, Moved, PRODUCT, Product};
use crate::report::{Report, Table};
use crate::watch::{Past, Watch};
use streamgauge_machine::drift::{expit, logit};

const HOURS: [u32; 3] = [1, 6, 24];
const CALLS: f64 = 10.0;
const FROM: f64 = 0.02;
const TO: f64 = 0.06;

/// With the thresholds of scenario A; the product after two weeks of history.
pub fn run(seed: u64, runs: u64, others: &[Contender], report: &mut Report) {
    let all = each(runs, |path| one(seed, path, others));
    let mut table = Table::new("ramps 2 % -> 6 %: minutes from its start to the alarm, mean (95th percentile), and the rate by then");
    table.head(HOURS.map(|hours| format!("over {hours} h")));
    for row in 0..=others.len() {
        let cells = (0..HOURS.len()).map(|ramp| {
            let seen: Vec<(f64, f64)> = all.iter().filter_map(|run| run[ramp][row]).collect();
            let minutes: Vec<f64> = seen.iter().map(|seen| seen.0).collect();
            let rates: Vec<f64> = seen.iter().map(|seen| seen.1 * 100.0).collect();
            format!("{:.0} ({:.0}) {:.2} %", mean(&minutes), quantile(&minutes, 0.95), mean(&rates))
        });
        table.row(if row == 0 { PRODUCT } else { others[row - 1].name }, cells.collect());
    }
    report.table(&table);
}

/// By ramp and row: minutes, and the rate by then. `None` if it alarmed before. What is never seen counts as seen at the end.
fn one(seed: u64, path: u64, others: &[Contender]) -> Vec<Vec<Option<(f64, f64)>>> {
    let mut draws = Draws::new(seed, "ramps", path);
    let mut product = Product::new(BUDGET);
    for _ in 0..2 * WEEK - DAY {
        product.tick(draws.tick(CALLS, FROM));
    }
    let begins = DAY + draws.between(DAY / 2, DAY * 3 / 2);
    let mut watches: Vec<Box<dyn Watch>> = others.iter().map(|other| (other.make)(path + 3_000_000)).collect();
    let mut past = Past::default();
    let mut early = vec![false; 1 + others.len()];
    for at in 0..begins {
        let tick = draws.tick(CALLS, FROM);
        past.push(tick);
        product.tick(tick);
        for (row, watch) in watches.iter_mut().enumerate() {
            early[row + 1] |= watch.tick(&past) >= others[row].threshold && at >= DAY;
        }
    }
    early[0] = product.fires();
    let ramp = |hours: &u32| {
        let (mut draws, mut product, mut past) = (draws.clone(), product.clone(), past.clone());
        let mut watches: Vec<_> = watches.iter().map(|watch| watch.fork()).collect();
        let mut seen: Vec<Option<(f64, f64)>> = vec![None; early.len()];
        let end = hours * HOUR + 2 * DAY;
        for at in 0..end {
            let share = (f64::from(at) / f64::from(hours * HOUR)).min(1.0);
            let p = expit(logit(FROM) + share * (logit(TO) - logit(FROM)));
            let tick = draws.tick(CALLS, p);
            past.push(tick);
            let now = Some((f64::from(at + 1) / 6.0, p));
            if seen[0].is_none() && product.tick(tick) == Moved::Fired {
                seen[0] = now;
            }
            for (row, watch) in watches.iter_mut().enumerate() {
                if seen[row + 1].is_none() && watch.tick(&past) >= others[row].threshold {
                    seen[row + 1] = now;
                }
            }
            if seen.iter().all(Option::is_some) {
                break;
            }
        }
        let end = (f64::from(end) / 6.0, TO);
        seen.iter().zip(&early).map(|(seen, early)| (!early).then_some(seen.unwrap_or(end))).collect()
    };
    HOURS.iter().map(ramp).collect()
}
