//! The drift detector against an oracle that is told everything, and against the detectors of monitoring products and of stream learning, at one
//! false alarm a week for all. `deploy/bench-drift` runs it; METHOD.md beside the detector's sources says what the numbers mean.
//!
//! Streams are synthetic, so that their truth is known ([`generator`]). Thresholds come from streams without a change ([`calibration`]). Delays are
//! measured on independent calls with one change ([`iid`]), on slow changes ([`ramps`]), on distributions ([`histograms`]) and in worlds as production
//! has them ([`worlds`]); then what it costs ([`cost`]). The rest are the contenders: [`product`] is ours, [`oracle`] the yardstick, [`windows`] and
//! [`per_call`] are the others. All that is random follows from one seed, and neither generator nor scoring ever sees what a detector has learned.
//!
//! `--quick` runs fewer streams, `--seed N` others, and `--only PART` one part: A, C, D, E, worlds or one of their names, ramps, histograms, cost.

#![allow(clippy::print_stdout, reason = "a benchmark's answer")]

mod calibration;
mod cost;
mod generator;
mod histograms;
mod iid;
mod oracle;
mod paths;
mod per_call;
mod product;
mod ramps;
mod report;
mod watch;
mod whole;
mod windows;
mod worlds;

use generator::World;
use report::{Report, Table};
use std::process::ExitCode;

/// How much is run, and how much chance its figures are allowed for that.
struct Size {
    /// Of the streams of a scenario.
    share: f64,
    series: u64,
    incidents: u64,
    ramps: u64,
    histograms: (u64, u64),
    scenarios: &'static [iid::Scenario],
    /// Limits are multiplied by this; those of what incidents are measured by, of which there are fewest, by that.
    slack: f64,
    incidents_slack: f64,
}

const FULL: Size = Size {
    share: 1.0,
    series: 60,
    incidents: 200,
    ramps: 200,
    histograms: (120, 400),
    scenarios: &[iid::A, iid::C, iid::D, iid::E],
    slack: 1.0,
    incidents_slack: 1.0,
};
/// Fewer streams mean wider limits: four standard errors, so that a pass does not depend on the seed.
const QUICK: Size =
    Size { share: 0.2, series: 16, incidents: 50, ramps: 40, histograms: (30, 80), scenarios: &[iid::A], slack: 1.25, incidents_slack: 2.5 };

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--test") {
        println!("run deploy/bench-drift");
        return ExitCode::SUCCESS;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let after = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let seed = after("--seed").and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let size = if quick { QUICK } else { FULL };
    println!("seed {seed}; all detectors at one false alarm a week; two threads");
    if quick {
        let (all, incidents) = (size.slack, size.incidents_slack);
        println!(
            "--quick: fewer streams, without scenarios C, D and E; limits are {all} times those of a full run, of incidents {incidents} times, of time three times"
        );
    }
    let only = after("--only").cloned();
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let mut report = Report::new();
    let limit = |limit: f64| limit * size.slack;

    let mut a = None;
    for scenario in size.scenarios.iter().filter(|scenario| wanted(scenario.name)) {
        report.say(scenario.name);
        let found = iid::run(scenario, seed, size.share, &mut report);
        for goal in scenario.goals {
            let figure = found.ratio(goal.row, goal.after);
            report.target(
                &format!("{}_delay_over_oracle_{}_{}", goal.name, scenario.name, iid::percent(goal.after).replace(' ', "")),
                figure,
                limit(goal.limit),
            );
        }
        if scenario.name == iid::A.name {
            a = Some(found);
        }
    }
    // The reference detectors, with the thresholds that scenario A gave them; without, the product runs alone.
    let all = a.as_ref().map_or(&[][..], |found| &found.contenders);
    let others = all.get(iid::CORES..all.len().saturating_sub(1)).unwrap_or_default();
    for world in World::EVERY.into_iter().filter(|world| wanted("worlds") || wanted(world.name())) {
        report.say(world.name());
        let found = worlds::run(world, seed, size.series, size.incidents, others, &mut report);
        let most = if matches!(world, World::Bursts | World::All) { 1.2 } else { 1.0 };
        report.target(&format!("G1_false_alarms_per_week_{}", world.name()), found.false_alarms, limit(most));
        if world != World::Iid {
            continue;
        }
        for (name, incident, resolved) in [("x2", &found.incidents[0], 35.0), ("x4", &found.incidents[1], 6.0)] {
            report.target(&format!("G5_beginning_error_ticks_{name}"), incident.since_error, 10.0 * size.incidents_slack);
            report.target(&format!("G5_minutes_to_resolve_{name}"), incident.resolve, resolved * size.incidents_slack);
            report.target(&format!("G5_alarms_too_many_{name}"), incident.flaps, 0.15 * size.incidents_slack);
        }
    }
    if wanted("ramps") {
        report.say("ramps");
        ramps::run(seed, size.ramps, all, &mut report);
    }
    if wanted("histograms") {
        report.say("histograms");
        for (name, ratio) in histograms::run(seed, size.histograms.0, size.histograms.1, &mut report) {
            report.target(&format!("G4_delay_over_oracle_{}", name.replace(' ', "_")), ratio, limit(1.45));
        }
    }
    if wanted("cost") {
        report.say("cost");
        let cost = cost::run(seed, &mut report);
        // A quick run is for machines that do other things, too.
        let slower = if quick { 3.0 } else { 1.0 };
        report.target("G6_ns_per_tick_rate", cost.binomial, 150.0 * slower);
        report.target("G6_ns_per_tick_rate_beta_binomial", cost.beta_binomial, 1000.0 * slower);
        report.target("G6_ns_per_tick_histogram", cost.histogram, 1000.0 * slower);
        report.target("G6_bytes_per_detector", cost.bytes, 400.0);
        report.target("G6_idle_ticks_that_cost", cost.idle, 0.0);
        let whole = whole::whole(seed);
        let mut table = Table::new("20,000 groups with three watched rates through the whole machine, every ten seconds");
        table.row("share of one core", vec![format!("{:.1} %", whole.share * 100.0)]);
        table.row(
            "ns per group, rate and tick; the same calls without rules",
            vec![format!("{:.0}", whole.nanos), format!("{:.0}", whole.nanos_without)],
        );
        table.row("bytes of a snapshot per group and rate", vec![format!("{:.0}", whole.bytes)]);
        report.table(&table);
        report.target("share_of_a_core_for_60000_series", whole.share, 0.1 * slower);
    }
    if report.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
