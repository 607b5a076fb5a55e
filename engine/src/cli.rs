//! The command line: one subcommand, one file in `cli/`.

mod adopt;
pub(crate) mod asking;
mod backtest;
mod calibrate;
mod check;
mod costs;
mod demo;
mod doctor;
mod evaluate;
mod explain;
mod export;
mod incidents;
mod judge;
mod prices;
mod pricing;
mod publish;
mod replay;
mod rules;
mod run;
mod sampling;
mod search;
mod slack;
mod span;
mod status;
mod terminal;
mod test;
mod trace;
mod why;

use crate::config::Config;
use crate::daemon::Crash;
use crate::error::Fault;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Watches LLM calls on a NATS subject and tells Slack when a rate leaves its expected range.
#[derive(Debug, Parser)]
#[command(name = "streamgauge", version, max_term_width = 100)]
struct Cli {
    /// The configuration file; without it ./streamgauge.toml where there is one, else the defaults.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides one key, such as --set nats.url=nats://host:4222; repeatable.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Log lines: error, warn, info or debug.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log: tracing::Level,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the stream until stopped.
    Run {
        /// Go on with a stream that is not the one the store has read (deleted and made again).
        #[arg(long)]
        accept_new_stream: bool,
        /// For crash tests: abort at a planted point.
        #[arg(long, hide = true)]
        crash: Option<Crash>,
    },
    /// Watch an incident from its first bad call to its end, within a minute; needs nothing installed.
    Demo(demo::Demo),
    /// Check configuration, rules and schemas; exit 0 when all is well, 1 when not.
    Check(check::Check),
    /// Run the tests that stand beside rules (NAME.test.toml); exit 0 when all pass, 1 when not.
    Test(test::Test),
    /// Ask the running engine where it is, where every log went, and how each rule stands.
    Status(status::Status),
    /// Find calls: ask the running engine's index by what they are, how they ended and what they cost.
    Search(search::Search),
    /// Show a run call by call, with times, errors and verdicts, and where it began to go wrong.
    Trace(trace::Trace),
    /// Calls that a query finds as a dataset: payloads and verdicts, or lines for fine-tuning, with a manifest.
    Export(Box<export::Export>),
    /// Ask the running engine why a rule fires for a group, or does not.
    Explain(explain::Explain),
    /// List the rules, shipped and your own: what each says, and how well it is in the running engine.
    Rules(rules::Rules),
    /// Tell the running engine that what an alert shows is normal from now on.
    Adopt(adopt::Adopt),
    /// Incidents that are open, and the latest of the others: since when, who has them in hand, and what is silenced.
    Incidents(incidents::Incidents),
    /// Say that you have an incident in hand: it is not told again until it changes.
    Ack(incidents::Ack),
    /// Do what the rule of an incident proposes, or list it.
    Act(incidents::Act),
    /// Hear nothing of an incident, or of the alerts that match, for a while; both stay on their pages.
    Silence(incidents::Silence),
    /// End a silence.
    Unsilence(incidents::Unsilence),
    /// Run rules over calls of the past: what would have fired, for whom, and how often wrongly; exit 1 only with --fail.
    Backtest(Box<backtest::Backtest>),
    /// Which calls the running engine's judges get to see, and how many calls each stands for.
    Sampling(sampling::Sampling),
    /// Compare models, prompts or releases over calls of a file: pass rates of judges and code evaluators, side by side.
    Evaluate(Box<evaluate::Evaluate>),
    /// The judges of the configuration: listed, tried on one call, or calibrated against people's labels.
    #[command(subcommand)]
    Judge(judge::Judge),
    /// Is everything reachable, permitted and healthy: NATS, Slack, judges, the store, the listener? Exit 0 when nothing failed, 1 otherwise.
    Doctor(doctor::Doctor),
    /// Publish the calls of one environment again into another, as if they happened now: what would its rules say of them?
    Replay(replay::Replay),
    /// What calls cost by user, model or anything else, beside the window before, and who runs hot.
    Costs(costs::CostsOf),
    /// Why an alert fires, as far as its calls can tell: what they have in common, which step broke first, whom it hits, what it cost.
    Why(why::Why),
    /// What a model costs, and where that price comes from; without a model, the price table. Exit 1 when a model has no price.
    Prices(prices::Prices),
    /// What has to do with Slack and needs no engine that runs.
    #[command(subcommand)]
    Slack(slack::Slack),
    /// Publish JSON lines to the subject, each acknowledged by the server.
    Publish(publish::Publish),
}

/// What a command came to.
pub(crate) enum Outcome {
    Well,
    /// Done, and the answer is no.
    Unwell,
    /// Done, with warnings that were to count.
    Warned,
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The terminal belongs to the demo's messages, the doctor's findings and what Slack answered; the log of everything else goes to standard error.
    let speaks = matches!(cli.command, Command::Demo(_) | Command::Doctor(_) | Command::Slack(_));
    let level = if speaks && cli.log == tracing::Level::INFO { tracing::Level::ERROR } else { cli.log };
    // Libraries speak up only when something is wrong.
    let targets = Targets::new().with_default(level.min(tracing::Level::WARN)).with_target("streamgauge", level);
    // It reports every try of a connection as an error; `hearing` says once why there is none.
    let targets =
        if level < tracing::Level::DEBUG { targets.with_target("slack_morphism::hyper_tokio::socket_mode", LevelFilter::OFF) } else { targets };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Fault::plain(format!("cannot start threads: {error}"))),
    };
    let outcome = runtime.block_on(dispatch(cli));
    // Blocking work that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Well) => ExitCode::SUCCESS,
        Ok(Outcome::Unwell) => ExitCode::from(1),
        Ok(Outcome::Warned) => ExitCode::from(3),
        Err(fault) => fail(&fault),
    }
}

async fn dispatch(cli: Cli) -> Result<Outcome, Fault> {
    let load = || Config::load(cli.config.as_deref(), std::env::vars(), &cli.sets);
    match cli.command {
        Command::Act(args) => incidents::act(args, &load().map_err(said)?).await,
        Command::Ack(args) => incidents::ack(args, &load().map_err(said)?).await,
        Command::Adopt(adopt) => adopt::adopt(adopt, &load().map_err(said)?).await,
        Command::Backtest(backtest) => backtest::backtest(*backtest, &load().map_err(said)?).await,
        Command::Evaluate(evaluate) => evaluate::evaluate(*evaluate, &load().map_err(said)?).await,
        Command::Export(export) => export::export(*export, &load().map_err(said)?).await,
        Command::Explain(explain) => explain::explain(explain, &load().map_err(said)?).await,
        Command::Incidents(args) => incidents::incidents(args, &load().map_err(said)?).await,
        Command::Judge(judge) => judge::judge(judge, &load().map_err(said)?).await,
        Command::Sampling(sampling) => sampling::sampling(sampling, &load().map_err(said)?).await,
        Command::Search(search) => search::search(search, &load().map_err(said)?).await,
        Command::Silence(args) => incidents::silence(args, &load().map_err(said)?).await,
        Command::Trace(trace) => trace::trace(trace, &load().map_err(said)?).await,
        Command::Status(status) => status::status(status, &load().map_err(said)?).await,
        Command::Check(check) => check::check(load(), check),
        Command::Demo(demo) => demo::demo(demo, load().map_err(said)?).await,
        Command::Doctor(args) => doctor::doctor(load(), args).await,
        Command::Costs(args) => costs::costs(args, &load().map_err(said)?).await,
        Command::Unsilence(args) => incidents::unsilence(args, &load().map_err(said)?).await,
        Command::Why(args) => why::why(args, &load().map_err(said)?).await,
        Command::Prices(prices) => prices::prices(&prices, &load().map_err(said)?),
        Command::Rules(rules) => rules::rules(rules, &load().map_err(said)?).await,
        Command::Publish(publish) => publish::publish(publish, &load().map_err(said)?).await,
        Command::Replay(args) => replay::replay(args, &load().map_err(said)?).await,
        Command::Slack(args) => slack::slack(args, &load().map_err(said)?).await,
        Command::Test(test) => test::test(&test, &load().map_err(said)?),
        Command::Run { accept_new_stream, crash } => run::run(&load().map_err(said)?, accept_new_stream, crash).await,
    }
}

fn said(errors: crate::config::ConfigErrors) -> Fault {
    Fault::plain(errors.to_string())
}

#[expect(clippy::print_stderr, reason = "this is where errors reach the person who typed the command")]
fn fail(fault: &Fault) -> ExitCode {
    eprintln!("streamgauge: {fault}");
    ExitCode::from(2)
}

/// Prints a line for the person who typed the command.
pub(crate) fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    // A reader that went away (`| head`) is no error.
    let _ = writeln!(std::io::stdout(), "{text}");
}
