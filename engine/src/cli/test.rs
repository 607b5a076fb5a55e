//! `streamgauge test`: runs the tests that stand beside rules, and says what came otherwise than expected. Connects to nothing.

use super::{Outcome, say};
use crate::config::Config;
use crate::error::Fault;
use crate::ruletest::{self, Alert, FileReport, Line, Messages, Options, TestReport};
use model::show;
use regex::Regex;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
NAME.test.toml tests the rule NAME.rhai beside it. Hours of calls pass in milliseconds, through the same
inspection and the same decisions as in production. A test file:

  [[test]]
  name = \"fires when a stage falls back too often, and ends after it\"
  traffic = [\"60 calls/min for 3h, 1% fallback; then for 30m 40% fallback; then for 2h 1% fallback\"]
  [[test.alert]]
  fires = \"3h..3h10m\"
  ends = \"3h30m..4h\"

  [[test]]
  name = \"silent on the healthy day\"
  traffic = [{ calls = \"60 calls/min for 24h, 1% fallback\", log = { stage = \"extraction\" } }]
  alerts = \"none\"

A phrase of traffic is phases separated by `; then`. A phase says any of: 60 calls/min (calls/s, calls/h),
for 3h, 1% fallback (a signal) or 1% {\"properties\":{\"hits\":0}} (a share of calls merged with an object),
latency 2s, ttft 300ms, cost $0.01, 400 input_tokens, 60 output_tokens, silence. What it does not say is
as in the phase before. Instead of traffic, or beside it: calls = \"incident.jsonl\", recorded logs.

After the last phase time goes on for ten minutes, so that alerts can end. More in rules/REFERENCE.md,
Testing rules.")]
pub(super) struct Test {
    /// A folder of rules, a rule, or its tests; by default the configured rules.path.
    path: Option<PathBuf>,
    /// Only tests whose name, or whose rule's name, this regular expression matches.
    #[arg(long, value_name = "REGEX")]
    run: Option<Regex>,
    /// Keep the messages of the tests that run, in NAME.test.snap: those that are there are compared from then on.
    #[arg(long)]
    update: bool,
    /// Show where messages differ from those that are kept.
    #[arg(long)]
    diff: bool,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn test(args: &Test, config: &Config) -> Result<Outcome, Fault> {
    let began = Instant::now();
    let path = args.path.as_ref().unwrap_or(&config.rules.path);
    let files = ruletest::find(path)?;
    let options = Options { run: args.run.clone(), update: args.update };
    let mut reports = Vec::new();
    ruletest::run(&files, config, &options, |report| {
        if !args.json {
            show_file(&report, args.diff);
        }
        reports.push(report);
    })?;
    let took = began.elapsed();
    let tests = || reports.iter().flat_map(|report| &report.tests);
    // A name that matches nothing is a slip, and would pass for ever.
    let none = tests().next().is_none();
    let ok = reports.iter().all(FileReport::passed) && !(none && args.run.is_some());
    if args.json {
        let failed = tests().filter(|test| !test.passed()).count();
        let (passed, calls) = (tests().count() - failed, tests().map(|test| test.calls).sum::<u64>());
        let files: Vec<_> = reports.iter().map(file_json).collect();
        say(json!({ "ok": ok, "passed": passed, "failed": failed, "calls": calls, "seconds": took.as_secs_f64(), "files": files }));
    } else {
        say(total(&reports, took));
        if let Some(run) = args.run.as_ref().filter(|_| none) {
            say(format!("hint: --run {run} matches no test and no rule with tests; leave it out to see all names"));
        }
    }
    Ok(if ok { Outcome::Well } else { Outcome::Unwell })
}

fn show_file(report: &FileReport, diff: bool) {
    say(report.path.display());
    for problem in &report.problems {
        say(indented(problem, 2));
    }
    if !report.tested {
        say("  no tests");
    }
    let width = report.tests.iter().map(|test| test.name.chars().count()).max().unwrap_or(0);
    for test in &report.tests {
        let mark = if test.passed() { "✔" } else { "✗" };
        let space = " ".repeat(width - test.name.chars().count());
        say(format!("  {mark} {}{space}  {}", test.name, pace(test.calls, test.took)));
        if !test.passed() {
            show_failure(test, diff);
        }
        if test.messages == Messages::Updated {
            say("      its messages are kept from now on");
        }
    }
}

/// Time, calls and calls a second.
fn pace(calls: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let pace = if seconds > 0.0 { calls as f64 / seconds } else { 0.0 };
    // Three digits are as much as two runs have in common.
    let digits = 10f64.powf((pace.max(1.0).log10().floor() - 2.0).max(0.0));
    let pace = (pace / digits).round() * digits;
    format!("{}, {} calls, {} calls/s", show::millis(seconds * 1000.0), show::number(calls as f64), show::number(pace.round()))
}

fn show_failure(test: &TestReport, diff: bool) {
    for failure in &test.failures {
        say(indented(failure, 6));
    }
    // Without calls nothing could fire, and the failure says why there are none.
    if !test.failures.is_empty() && test.calls > 0 {
        say(format!("      with seed {}, these fired:{}", test.seed, if test.alerts.is_empty() { " none" } else { "" }));
        show_alerts(&test.alerts);
    }
    if let Messages::Differ(lines) = &test.messages {
        if !diff {
            say(format!(
                "      with seed {}, its messages differ from those that are kept: --diff shows where, --update keeps the new ones",
                test.seed
            ));
            return;
        }
        say(format!("      with seed {}, its messages differ: - kept, + new; --update keeps the new ones", test.seed));
        for line in lines {
            let (mark, text) = match line {
                Line::Same(text) => (' ', text),
                Line::Removed(text) => ('-', text),
                Line::Added(text) => ('+', text),
            };
            say(format!("      {mark} {text}").trim_end());
        }
    }
}

fn show_alerts(alerts: &[Alert]) {
    if alerts.is_empty() {
        return;
    }
    let head = ["", "fires", "ends", "environment", "group", "severity", "summary"].map(str::to_owned);
    let row = |(at, alert): (usize, &Alert)| {
        let ends = alert.ends.map_or("never".to_owned(), |ends| ends.to_string());
        let group = ruletest::place(&alert.group);
        let summary = alert.summary.replace('\n', " ");
        [(at + 1).to_string(), alert.fires.to_string(), ends, alert.environment.clone(), group, alert.severity.to_owned(), summary]
    };
    let rows: Vec<_> = std::iter::once(head).chain(alerts.iter().enumerate().map(row)).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
        say(format!("        {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
    }
}

fn total(reports: &[FileReport], took: Duration) -> String {
    let tests = || reports.iter().flat_map(|report| &report.tests);
    let (ran, failed) = (tests().count(), tests().filter(|test| !test.passed()).count());
    let count = |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let mut text = format!("{}: {} passed", count(ran, "test", "tests"), ran - failed);
    if failed > 0 {
        text += &format!(", {failed} failed");
    }
    let untested = reports.iter().filter(|report| !report.tested).count();
    if untested > 0 {
        text += &format!("; {} without tests", count(untested, "rule", "rules"));
    }
    let mistaken = reports.iter().filter(|report| !report.problems.is_empty()).count();
    if mistaken > 0 {
        text += &format!("; {} with mistakes", count(mistaken, "file", "files"));
    }
    format!("{text}; {}", pace(tests().map(|test| test.calls).sum(), took))
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}", " ".repeat(by))).collect::<Vec<_>>().join("\n")
}

fn file_json(report: &FileReport) -> Value {
    let tests: Vec<_> = report.tests.iter().map(test_json).collect();
    json!({ "path": report.path, "rule": report.rule, "ok": report.passed(), "tested": report.tested, "problems": report.problems, "tests": tests })
}

fn test_json(test: &TestReport) -> Value {
    let alert = |alert: &Alert| {
        let group: serde_json::Map<_, _> = alert.group.iter().map(|(key, label)| (key.clone(), Value::from(label.as_str()))).collect();
        json!({ "fires": alert.fires.to_string(), "ends": alert.ends.map(|ends| ends.to_string()), "rule": alert.rule,
            "environment": alert.environment, "group": group, "severity": alert.severity, "summary": alert.summary })
    };
    let messages = match test.messages {
        Messages::NotKept => "not_kept",
        Messages::AsKept => "as_kept",
        Messages::Differ(_) => "differ",
        Messages::Updated => "updated",
    };
    json!({ "name": test.name, "ok": test.passed(), "seed": test.seed, "seconds": test.took.as_secs_f64(), "calls": test.calls,
        "failures": test.failures, "alerts": test.alerts.iter().map(alert).collect::<Vec<_>>(), "messages": messages })
}
