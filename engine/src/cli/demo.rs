//! `streamgauge demo`: a memory layer's day in a minute. The same engine as `run`, over a nats-server of its own where one is installed and over a
//! channel otherwise; the traffic is generated, with a time of its own, and one model's JSON breaks for half an hour of it. People are told on the
//! terminal and in a Slack of the demo's own.

mod slack;

use super::{Outcome, run::asked_to_stop, say};
use crate::config::Config;
use crate::error::Fault;
use crate::source::local::{self, Publisher};
use crate::start::{Feed, Options, Running, start};
use async_nats::jetstream;
use bytes::Bytes;
use fixtures::{Calls, Effect, Incident, Rates, Scope, Traffic};
use fixtures_slack::Workspace;
use indicatif::{ProgressBar, ProgressStyle};
use machine::Reason;
use model::{Span, Timestamp};
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// Of event time, before now: the incident begins and ends, and the traffic goes on until it has resolved.
const BREAKS_BEFORE_MS: i64 = 50 * MINUTE_MS;
const FIXED_BEFORE_MS: i64 = 25 * MINUTE_MS;
/// Who breaks.
const STAGE: &str = "extraction";
const PROVIDER: &str = "anthropic";
const MODEL: &str = "claude-haiku-4-5";
/// The share of its answers that are cut or malformed JSON.
const BROKEN: f64 = 0.25;
const CALLS_PER_SECOND: f64 = 8.0;
/// Event time that passes in a second of the slow part: the fifty minutes around the incident in about twenty-five seconds.
const SLOW_MS_PER_SECOND: i64 = 2 * MINUTE_MS;
/// The demo says when it failed rather than wait for ever.
const PATIENCE: Duration = Duration::from_secs(120);
/// From the decision to its last word on the terminal and in the channel; the engine takes up to four seconds to look what is behind it.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Stop after the resolution instead of staying up to look around.
    #[arg(long)]
    once: bool,
    /// Of the generated traffic.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Do not use nats-server, even where it is installed.
    #[arg(long)]
    no_nats: bool,
}

/// Where the demo's calls go.
enum Out {
    Local(Publisher),
    Nats { context: jetstream::Context, in_flight: VecDeque<jetstream::context::PublishAckFuture> },
}

/// A nats-server of the demo's own; it ends with it.
struct Server {
    _process: Child,
    url: String,
    version: String,
}

pub(super) async fn demo(args: Demo, mut config: Config) -> Result<Outcome, Fault> {
    let folder = tempfile::tempdir().map_err(|error| Fault::plain(format!("cannot make a temporary folder: {error}")))?;
    config.store.path = folder.path().join("store");
    // The shipped rules alone: the demo is the same in every folder.
    config.rules.path = folder.path().join("rules");
    config.rules.path_is_named = false;
    config.nats.stream = "LLM_CALLS".to_owned();
    if crate::http::bind(config.http.listen).await.is_err() {
        config.http.listen.set_port(0);
        config.http.public_url = format!("http://{}", config.http.listen);
    }
    let server = match find_nats_server().filter(|_| !args.no_nats) {
        Some(binary) => Some(Server::start(&binary, folder.path()).await?),
        None => None,
    };
    say("streamgauge demo: a memory layer's day in a minute\n");
    let (feed, mut out) = match &server {
        Some(server) => {
            config.nats.url.clone_from(&server.url);
            let client = crate::source::nats::connect(&config.nats).await?;
            crate::source::nats::stream(&client, &config.nats).await?;
            say(format!("  source   nats-server {} of the demo's own, at {} in {}", server.version, server.url, folder.path().display()));
            (Feed::Nats, Out::Nats { context: jetstream::new(client), in_flight: VecDeque::new() })
        }
        None => {
            let why = if args.no_nats { "as told" } else { "no nats-server on PATH" };
            say(format!("  source   calls made in this process ({why}); the engine is the same"));
            let (publisher, local, _) = local::channel();
            (Feed::Local(local), Out::Local(publisher))
        }
    };
    let slack = slack::instead(&mut config).await?;
    let running = start(&config, feed, Options { terminal: true, ..Options::default() }).await?;
    say(format!("  page     http://{}", running.address));
    say(format!("  slack    {}  the channel as people see it; its buttons and commands work", slack.page_url()));
    let traffic = traffic(args.seed, crate::outbox::now().millis());
    let mut day = traffic.calls();
    let seen = tokio::select! {
        seen = story(traffic.start_ms, &mut day, &running, &slack, &mut out) => seen?,
        () = asked_to_stop() => return running.until(async {}).await.map(|()| Outcome::Unwell),
    };
    if !args.once && seen {
        say("  Traffic goes on in real time; look around on both pages, and stop with Ctrl-C.");
        tokio::select! {
            // Ctrl-C reaches the demo's nats-server as well: what that takes no more is no failure.
            _ = go_on(&mut day, &mut out) => {}
            () = asked_to_stop() => {}
        }
    }
    running.until(async {}).await?;
    Ok(if seen { Outcome::Well } else { Outcome::Unwell })
}

/// Publishes the day, fast, and the incident, slowly enough to watch; true when its alert and its end were seen.
async fn story(start_ms: i64, day: &mut Calls, running: &Running, slack: &Workspace, out: &mut Out) -> Result<bool, Fault> {
    let began = Instant::now();
    let now = start_ms + DAY_MS;
    let (breaks, fixed) = (now - BREAKS_BEFORE_MS, now - FIXED_BEFORE_MS);
    let slow_from = breaks - 2 * MINUTE_MS;
    let bar = history_bar((slow_from - start_ms) / MINUTE_MS);
    let (mut calls, mut told_break, mut told_fix, mut told_history) = (0u64, false, false, false);
    let mut pace: Option<Instant> = None;
    for call in day {
        let at = call.time_ms;
        if at < slow_from {
            if calls % 4096 == 0 {
                bar.set_position(((at - start_ms) / MINUTE_MS) as u64);
            }
        } else {
            if !told_history {
                told_history = true;
                out.flush().await?;
                counted(running, calls).await?;
                bar.finish_and_clear();
                let alerts = alerts(running).await?;
                let quiet = if alerts.is_empty() { "no alert".to_owned() } else { format!("{} alerts", alerts.len()) };
                let took = began.elapsed().as_secs_f64();
                say(format!("  history  a healthy day: {} calls counted in {took:.1} s, {quiet}\n", model::show::number(calls as f64)));
            }
            let start = *pace.get_or_insert_with(Instant::now);
            let due = start + Duration::from_millis(((at - slow_from) * 1000 / SLOW_MS_PER_SECOND) as u64);
            if due > Instant::now() + Duration::from_millis(5) {
                out.flush().await?;
                tokio::time::sleep_until(due).await;
            }
        }
        if at >= breaks && !told_break {
            told_break = true;
            say(format!(
                "  {}  {PROVIDER}'s {MODEL} begins to break its JSON in {STAGE}: {} of its answers\n",
                clock(at),
                model::show::percent(BROKEN)
            ));
        }
        if at >= fixed && !told_fix {
            told_fix = true;
            say(format!("  {}  the fix is deployed\n", clock(at)));
        }
        out.publish(at, call.json).await?;
        calls += 1;
        if told_fix && calls % 256 == 0 {
            let ended: Vec<_> = alerts(running).await?.into_iter().filter(|alert| alert.reason == Reason::Resolved).collect();
            if let Some(alert) = ended.first() {
                let first_bad = Timestamp::from_millis(breaks).unwrap_or_default();
                let fix = Timestamp::from_millis(fixed).unwrap_or_default();
                told(running, slack).await?;
                say(format!(
                    "  Alerted {} after the first bad answer, resolved {} after the fix (event time); {:.0} s in all.",
                    whole_seconds(alert.fired.since(first_bad)),
                    whole_seconds(alert.at.since(fix)),
                    began.elapsed().as_secs_f64()
                ));
                return Ok(true);
            }
        }
        if began.elapsed() > PATIENCE || at > now {
            say("  The alert and its end were not seen in time; something is wrong with this build.");
            return Ok(false);
        }
    }
    Ok(false)
}

/// The rest of the day: what is past at once, so that the demo leaves no gap that rules would tell of, and then in real time.
async fn go_on(day: &mut Calls, out: &mut Out) -> Result<(), Fault> {
    for call in day {
        let ahead = call.time_ms - crate::outbox::now().millis();
        if ahead > 0 {
            out.flush().await?;
            tokio::time::sleep(Duration::from_millis(ahead as u64)).await;
        }
        out.publish(call.time_ms, call.json).await?;
    }
    Ok(())
}

fn traffic(seed: u64, now_ms: i64) -> Traffic {
    Traffic {
        seed,
        start_ms: now_ms - DAY_MS,
        calls_per_second: CALLS_PER_SECOND,
        // A layer in good health: what goes wrong stays well inside the shipped rules' ranges.
        base: Rates { truncated: 0.0005, refused: 0.0005, empty: 0.0002, invalid_json: 0.001, ..Rates::default() },
        incidents: vec![Incident {
            from_ms: now_ms - BREAKS_BEFORE_MS,
            to_ms: now_ms - FIXED_BEFORE_MS,
            scope: Scope { stage: Some(STAGE.into()), provider: Some(PROVIDER.into()), model: Some(MODEL.into()) },
            effect: Effect::InvalidJson(BROKEN),
        }],
        ..Traffic::default()
    }
}

async fn counted(running: &Running, calls: u64) -> Result<(), Fault> {
    while running.reader.ask(|machine| machine.ledger().counted).await? < calls {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until people were told of the end: on the terminal, and in the channel. The figures are said after [`TOLD_WITHIN`] all the same.
async fn told(running: &Running, slack: &Workspace) -> Result<(), Fault> {
    let deadline = Instant::now() + TOLD_WITHIN;
    let over = || slack.messages().iter().any(|message| message.headline().contains("RESOLVED"));
    while (!over() || running.store.ask(|db| db.outbox()).await?[0] > 0) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn alerts(running: &Running) -> Result<Vec<machine::Notification>, Fault> {
    Ok(running.store.ask(|db| db.alerts(50)).await?.into_iter().map(|(_, notification)| notification).collect())
}

fn whole_seconds(span: Span) -> Span {
    Span::from_secs(span.millis() / 1000)
}

fn clock(at_ms: i64) -> String {
    let text = Timestamp::from_millis(at_ms).unwrap_or_default().floor(Span::from_secs(1)).to_string();
    text.get(11..16).map(|minute| format!("{minute}Z")).unwrap_or(text)
}

fn history_bar(minutes: i64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("  history  {bar:30} {percent}% of a day, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(minutes.max(1) as u64).with_style(style)
}

impl Out {
    async fn publish(&mut self, at_ms: i64, json: Vec<u8>) -> Result<(), Fault> {
        let payload = Bytes::from(json);
        match self {
            Self::Local(publisher) => publisher.publish(Timestamp::from_millis(at_ms).unwrap_or_default(), payload).await,
            Self::Nats { context, in_flight } => {
                let sent =
                    context.publish("llm.calls.demo", payload).await.map_err(|error| Fault::plain(format!("the demo cannot publish: {error}")))?;
                in_flight.push_back(sent);
                if in_flight.len() >= 1024
                    && let Some(oldest) = in_flight.pop_front()
                {
                    oldest.await.map_err(|error| Fault::plain(format!("the demo cannot publish: {error}")))?;
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        if let Self::Nats { in_flight, .. } = self {
            for ack in in_flight.drain(..) {
                ack.await.map_err(|error| Fault::plain(format!("the demo cannot publish: {error}")))?;
            }
        }
        Ok(())
    }
}

/// The first `nats-server` on PATH.
fn find_nats_server() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("nats-server")).find(|path| path.is_file())
}

impl Server {
    /// Starts one on a free port, with JetStream in `folder`.
    async fn start(binary: &Path, folder: &Path) -> Result<Self, Fault> {
        let cannot = |error: std::io::Error| Fault::new(format!("cannot start {}: {error}", binary.display()), "try --no-nats");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(cannot)?.port();
        let mut process = Command::new(binary)
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(folder.join("nats"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let url = format!("nats://127.0.0.1:{port}");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Ok(client) = async_nats::connect(&url).await {
                let version = client.server_info().version;
                return Ok(Self { _process: process, url, version });
            }
            if let Ok(Some(status)) = process.try_wait() {
                return Err(Fault::new(format!("{} ended at once: {status}", binary.display()), "try --no-nats"));
            }
            if Instant::now() > deadline {
                return Err(Fault::new(format!("{} does not answer on {url}", binary.display()), "try --no-nats"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
