//! Tests that people write beside their rules: traffic in, alerts and messages out. The same inspection and the same machine as in production, in event
//! time, hours in milliseconds.
//!
//! `NAME.test.toml` tests `NAME.rhai`, which is loaded alone: its plan, and the whole budget of false alarms, so that no other rule changes what it
//! does. In `ruletest/`: `files.rs` finds the files, `format.rs` reads what is written in one, `traffic.rs` makes one stream of all its calls,
//! `running.rs` plays them, `comparing.rs` says what came otherwise than expected, `snapshot.rs` keeps messages, and `diff.rs` shows where two differ.
//!
//! Deliberately absent: how results are shown, which is the command's.

mod comparing;
mod diff;
mod files;
mod format;
mod running;
mod snapshot;
mod traffic;

pub use comparing::place;
pub use diff::Line;
pub use files::{RuleFile, find};
pub use running::Alert;

use crate::config::Config;
use crate::error::Fault;
use crate::inspect::Inspector;
use crate::prices::Prices;
use crate::start;
use format::Test;
use model::plan::{Filter, Plan};
use model::verdict::{Judge, Sampling};
use regex::Regex;
use snapshot::Snapshots;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What to run, and what becomes of messages that differ.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Tests whose name, or whose rule's name, it matches; all without it.
    pub run: Option<Regex>,
    /// Messages that differ are the new ones.
    pub update: bool,
}

/// What became of one rule and its tests.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub path: PathBuf,
    /// The file's, where the rule could not be read.
    pub rule: String,
    /// What keeps its tests from running, each with place and way out.
    pub problems: Vec<String>,
    /// There is a test file.
    pub tested: bool,
    /// Those that ran, in the order of the file.
    pub tests: Vec<TestReport>,
}

#[derive(Clone, Debug)]
pub struct TestReport {
    pub name: String,
    pub seed: u64,
    pub took: Duration,
    pub calls: u64,
    /// What was expected and did not come, or came otherwise; empty when all is well.
    pub failures: Vec<String>,
    /// All that fired, in order.
    pub alerts: Vec<Alert>,
    pub messages: Messages,
}

/// How a test's messages compare with those that were kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Nobody keeps them.
    NotKept,
    AsKept,
    Differ(Vec<Line>),
    Updated,
}

impl TestReport {
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && !matches!(self.messages, Messages::Differ(_))
    }
}

impl FileReport {
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.tests.iter().all(TestReport::passed)
    }
}

/// Runs the tests of each file and hands over the reports in the files' order, each as soon as it and those before it are there.
///
/// Files run in parallel on all cores, the tests of one file after each other. A file of which no test is asked for gives no report.
///
/// # Errors
/// Only what lies outside the rules and tests: schemas of the configuration that cannot be read.
pub fn run(files: &[RuleFile], config: &Config, options: &Options, mut report: impl FnMut(FileReport)) -> Result<(), Fault> {
    start::load_evaluators(config)?;
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(files.len());
    let (done, reports) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(at) else { return };
                    if done.send((at, test_file(file, config, options))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (at, result) in reports {
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                due += 1;
                if let Some(one) = result? {
                    report(one);
                }
            }
        }
        Ok(())
    })
}

/// The report of one file; `None` when nothing of it is asked for.
fn test_file(file: &RuleFile, config: &Config, options: &Options) -> Result<Option<FileReport>, Fault> {
    let stem = file.source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut sources = start::evaluator_files(config)?;
    sources.retain(|source| source.text != file.source.text);
    sources.push(file.source.clone());
    let loaded = rules::load(&sources, &config.for_rules());
    let rule = loaded.rules.specs().first().map_or(stem, |spec| spec.rule.name.clone());
    let mut problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let tests = match file.tests.as_deref().map(read) {
        None => Vec::new(),
        Some(Ok(tests)) => tests,
        Some(Err(problem)) => {
            problems.push(problem);
            Vec::new()
        }
    };
    let asked = |test: &Test| options.run.as_ref().is_none_or(|run| run.is_match(&rule) || run.is_match(&test.name));
    let (names, tests): (Vec<_>, Vec<_>) = (tests.iter().map(|test| test.name.clone()).collect(), tests.into_iter().filter(asked).collect());
    if tests.is_empty() && problems.is_empty() && options.run.as_ref().is_some_and(|run| !run.is_match(&rule)) {
        return Ok(None);
    }
    let mut report = FileReport { path: file.source.path.clone(), rule, problems, tested: file.tests.is_some(), tests: Vec::new() };
    let Some(path) = file.tests.as_deref().filter(|_| report.problems.is_empty() && !tests.is_empty()) else { return Ok(Some(report)) };
    let plan = start::plan(config, &loaded.rules)?;
    let judges = judges(&plan);
    let plan = plan.judged_by(judges);
    let inspector = Arc::new(Inspector::new(plan, loaded.rules, start::load_evaluators(config)?).priced_by(Prices::new(&config.prices)));
    let mut kept = match Snapshots::read(path) {
        Ok(kept) => kept,
        Err(problem) => {
            report.problems.push(problem);
            return Ok(Some(report));
        }
    };
    for test in tests {
        report.tests.push(one(&test, inspector.clone(), &mut kept, options.update));
    }
    if options.update
        && let Err(problem) = kept.write(&names)
    {
        report.problems.push(problem);
    }
    Ok(Some(report))
}

fn one(test: &Test, inspector: Arc<Inspector>, kept: &mut Snapshots, update: bool) -> TestReport {
    let began = Instant::now();
    let result = running::run(test, inspector);
    let took = began.elapsed();
    let mut report = TestReport {
        name: test.name.clone(),
        seed: test.seed,
        took,
        calls: 0,
        failures: Vec::new(),
        alerts: Vec::new(),
        messages: Messages::NotKept,
    };
    match result {
        Err(problem) => report.failures.push(problem),
        Ok(came) => {
            report.failures = came.failures;
            report.failures.extend(comparing::compare(&test.expected, &came.alerts));
            (report.calls, report.alerts) = (came.calls, came.alerts);
            report.messages = kept.compare(&test.name, came.messages, update);
        }
    }
    report
}

fn read(path: &Path) -> Result<Vec<Test>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: cannot read it: {error}", path.display()))?;
    let tests = format::read(path, &text).map_err(|errors| errors.to_string())?;
    if tests.is_empty() { Err(format!("{}: there is no test in it\nhint: begin with [[test]]", path.display())) } else { Ok(tests) }
}

/// The judges of tests: those that the rule names, or one where it is about all. Each sees as many calls as it may, of every kind.
fn judges(plan: &Plan) -> Vec<Judge> {
    let sampling = Sampling { rate: 1.0, ..Sampling::default() };
    let mut names: Vec<_> = plan.judges_named().into_iter().map(str::to_owned).collect();
    let about_verdicts = plan.rules.iter().flat_map(|rule| &rule.watches).any(|watch| watch.statistic.of_verdicts());
    if names.is_empty() && about_verdicts {
        names.push("judge".to_owned());
    }
    let judge = |name| Judge { name, fingerprint: 0, applies: Filter::default(), environments: Vec::new(), sampling: sampling.clone() };
    names.into_iter().map(judge).collect()
}
