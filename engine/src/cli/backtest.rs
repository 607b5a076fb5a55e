//! `streamgauge backtest`: would these rules have fired, for whom, and how often wrongly? Everything is done by [`crate::backtest`]; here are the
//! questions that it can be asked.

use super::{Outcome, say};
use crate::backtest::calls::{Calls, Past};
use crate::backtest::findings::Findings;
use crate::backtest::learned::{self, Beginning};
use crate::backtest::run::{How, run};
use crate::backtest::{incidents, report, text};
use crate::config::Config;
use crate::error::Fault;
use crate::inspect::Inspector;
use crate::outbox::now;
use crate::prices::Prices;
use crate::replay::Replay;
use crate::start::{evaluator_files, load_evaluators, load_rules, plan};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Span, Timestamp, Verdict, show};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("calls").required(true).multiple(false).args(["file", "since", "from"])))]
pub(super) struct Backtest {
    /// A rule file, or a folder of them; by default what the configuration loads.
    rules: Option<PathBuf>,
    /// Calls from a file of JSON lines: plain, .gz or .zst. Each counts at its own `time`.
    #[arg(long, value_name = "CALLS")]
    file: Option<PathBuf>,
    /// Calls that the stream has taken in this time up to now, such as 7d or 12h.
    #[arg(long, value_name = "SPAN")]
    since: Option<String>,
    /// Calls that the stream has taken from this time on, RFC 3339.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time; by default up to now.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    /// A second file or folder of rules, back-tested over the same calls and set beside the first.
    #[arg(long, value_name = "RULES")]
    compare: Option<PathBuf>,
    /// What really happened, to tell hits, misses and false alarms: a TOML file of [[incident]] with name, from, to, and optionally rule and group.
    #[arg(long, value_name = "FILE")]
    incidents: Option<PathBuf>,
    /// Exit with 1 when an incident is missed or an alarm is false.
    #[arg(long, requires = "incidents")]
    fail: bool,
    /// Begin with nothing known, instead of with what the engine had learned by then.
    #[arg(long)]
    cold: bool,
    /// The answer as JSON, notifications included.
    #[arg(long)]
    json: bool,
    /// Draw what was watched, what was expected and what fired into this file: HTML without scripts.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) async fn backtest(args: Backtest, config: &Config) -> Result<Outcome, Fault> {
    let mut inspectors = vec![inspector(config, args.rules.as_deref())?];
    if let Some(other) = &args.compare {
        inspectors.push(inspector(config, Some(other))?);
    }
    let happened = args.incidents.as_deref().map(incidents::read).transpose()?;
    let (calls, first, beginning, sides, recorded, length, source) = match &args.file {
        Some(file) => {
            let (calls, length) = Calls::file(file)?;
            let sides = inspectors.iter().map(|inspector| learned::from_nothing(inspector, 1)).collect();
            (calls, 1, Beginning::Cold("a file has no engine"), sides, Vec::new(), length, file.display().to_string())
        }
        None => stream(&args, config, &inspectors).await?,
    };
    let how = How { own_time: calls.by_their_own_time(), first, curves: args.report.is_some() };
    let bar = progress(length);
    let (runtime, shown) = (tokio::runtime::Handle::current(), bar.clone());
    let running = tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        let progress = |done: u64, calls: u64| {
            shown.set_position(done);
            let rate = calls as f64 / began.elapsed().as_secs_f64().max(0.001);
            shown.set_message(format!("{} calls, {} a second", show::number(calls as f64), show::number(rate.round())));
        };
        run(calls, sides, &recorded, how, &runtime, progress)
    });
    let outcome = running.await.map_err(|error| Fault::plain(format!("the back-test ended unexpectedly: {error}")))?;
    bar.finish_and_clear();
    let (read, mut ran) = outcome?;
    if read.calls == 0 {
        return Err(Fault::new(format!("{source} holds no call"), "name a file of JSON lines, one call log each"));
    }
    let (firsts, seconds) = ran.split_at_mut(1);
    let findings = Findings::new(source, beginning, read, &mut firsts[0], seconds.first_mut(), happened.as_deref());
    if let Some(path) = &args.report {
        let html = report::html(&findings, &ran[0]);
        std::fs::write(path, html).map_err(|error| {
            Fault::new(format!("cannot write {}: {error}", path.display()), "name a file in a folder that is there and that you may write")
        })?;
    }
    if args.json {
        say(serde_json::to_string(&findings).map_err(|error| Fault::plain(format!("cannot write the findings: {error}")))?);
    } else {
        say(text::text(&findings).trim_end());
        if let Some(path) = &args.report {
            say(format!("drawn in {}", path.display()));
        }
    }
    let flawed = findings.tested.incidents.as_ref().is_some_and(|verdict| !verdict.flawless());
    Ok(if args.fail && flawed { Outcome::Unwell } else { Outcome::Well })
}

type Source = (Calls, u64, Beginning, Vec<Replay>, Vec<(u64, Verdict)>, u64, String);

/// The stream's history, and what was known when it began.
async fn stream(args: &Backtest, config: &Config, inspectors: &[Arc<Inspector>]) -> Result<Source, Fault> {
    let (from, to) = range(args, now())?;
    let or_file = |fault: Fault| {
        let hint = fault.hint().map_or_else(String::new, |hint| format!("{hint}; or "));
        Fault::new(fault.what(), format!("{hint}read calls from a file: --file calls.jsonl"))
    };
    let mut found = Past::find(config, from, to).await.map_err(or_file)?;
    let began = found.past.start().unwrap_or(from);
    let (beginning, sides) = if args.cold {
        (Beginning::Cold("--cold"), inspectors.iter().map(|inspector| learned::from_nothing(inspector, found.first)).collect())
    } else {
        learned::start(&config.store.path, found.created, found.first, inspectors)?
    };
    let mut length = found.past.end().since(began);
    if let Beginning::Learned { position, clock } = beginning {
        found.past.earlier(position).await?;
        length = found.past.end().since(clock.min(began));
    }
    let from = if let Beginning::Learned { position, .. } = beginning { position } else { found.first.saturating_sub(1) };
    let recorded = learned::recorded(&config.store.path, found.created, from)?;
    let source = format!("stream {}", config.nats.stream);
    Ok((Calls::Stream(Box::new(found.past)), found.first, beginning, sides, recorded, length.millis(), source))
}

/// The time asked for, of the server's stamps.
fn range(args: &Backtest, now: Timestamp) -> Result<(Timestamp, Timestamp), Fault> {
    let time = |text: &String| {
        Timestamp::parse(text).ok_or_else(|| Fault::new(format!("cannot read the time `{text}`"), "write it like 2026-11-20T09:00:00Z"))
    };
    let to = args.to.as_ref().map_or(Ok(now), time)?;
    let from = match (&args.since, &args.from) {
        (Some(since), _) => {
            let span = Span::parse(since).filter(|span| *span > Span::ZERO);
            now - span.ok_or_else(|| Fault::new(format!("cannot read the length of time `{since}`"), "write it like 7d, 12h or 1h30m"))?
        }
        (None, Some(from)) => time(from)?,
        (None, None) => return Err(Fault::new("no calls are named", "name them with --file, --since or --from")),
    };
    if from >= to {
        return Err(Fault::new(format!("the time from {from} to {to} is empty"), "give an earlier --from or a later --to"));
    }
    Ok((from, to))
}

/// The rules to test, all of which must be sound: a rule that is left out would look as if it had said nothing.
fn inspector(config: &Config, path: Option<&Path>) -> Result<Arc<Inspector>, Fault> {
    let loaded = match path {
        None => load_rules(config)?,
        Some(path) => {
            let missing = std::fs::metadata(path).err();
            let cannot =
                |why: String| Fault::new(format!("cannot read the rules {}: {why}", path.display()), "name a .rhai file, or a folder of them");
            if let Some(error) = missing {
                return Err(cannot(error.to_string()));
            }
            let own = rules::read_folder(path).map_err(|error| Fault::plain(format!("cannot {error}")))?;
            rules::load(&[evaluator_files(config)?, own].concat(), &config.for_rules())
        }
    };
    if !loaded.problems.is_empty() {
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        return Err(Fault::new(problems.join("\n"), "mend what is wrong, or name only the rules to be tested"));
    }
    if loaded.rules.specs().is_empty() {
        let place = path.map_or_else(|| config.rules.path.display().to_string(), |path| path.display().to_string());
        return Err(Fault::new(format!("there is no rule in {place}"), "name a .rhai file, or a folder of them"));
    }
    let plan = plan(config, &loaded.rules)?;
    Ok(Arc::new(Inspector::new(plan, loaded.rules, load_evaluators(config)?).priced_by(Prices::new(&config.prices))))
}

fn progress(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {percent}%  {msg}  {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length.max(1)).with_style(style)
}
