//! `streamgauge publish`: JSON lines from a file or standard input to the subject, each acknowledged by the server.
//!
//! Lines go out with their log's id as `Nats-Msg-Id`, so publishing a file again within the stream's duplicate window adds nothing. Lines that are
//! no call are refused here, where someone can see it, unless `--as-is` sends them on.

use super::{Outcome, say};
use crate::config::Config;
use crate::error::Fault;
use crate::source::nats;
use async_nats::jetstream::{self, context::PublishAckFuture};
use bytes::Bytes;
use fixtures::{Arrival, Converted, convert, recorded_lines};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

/// Publishes in flight before the oldest acknowledgement is awaited: a round trip for many, and little to send again when the connection breaks.
const IN_FLIGHT_MAX: usize = 512;
/// Refused lines that are shown; the rest is counted.
const SHOWN_MAX: u64 = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// A file of JSON lines, gzipped or not; `-` reads standard input.
    file: PathBuf,
    /// The subject; by default the configured one, with `cli` in place of its wildcard.
    #[arg(long)]
    subject: Option<String>,
    /// What the lines are: call logs, or recorded provider exchanges that are turned into call logs.
    #[arg(long, value_enum, default_value_t = From::Logs)]
    from: From,
    /// Publish lines that are no call as well, for trying what becomes of them.
    #[arg(long)]
    as_is: bool,
    /// For exchanges, which have no time of their own: the time of the first, RFC 3339; one second each. Default: so that the last is now.
    #[arg(long)]
    since: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    Logs,
    Exchanges,
}

#[derive(Default)]
struct Tally {
    published: u64,
    duplicates: u64,
    refused: u64,
    passed_over: BTreeMap<&'static str, u64>,
}

pub(super) async fn publish(args: Publish, config: &Config) -> Result<Outcome, Fault> {
    let subject = args.subject.clone().unwrap_or_else(|| config.nats.subjects[0].replace(['>', '*'], "cli"));
    let client = nats::connect(&config.nats).await?;
    nats::stream(&client, &config.nats).await?;
    let jetstream = jetstream::new(client);
    let lines = Lines::open(&args)?;
    let bar = progress(lines.total);
    let mut tally = Tally::default();
    let mut in_flight: VecDeque<PublishAckFuture> = VecDeque::with_capacity(IN_FLIGHT_MAX);
    for line in lines.lines {
        let (number, line) = line?;
        bar.inc(1);
        let Some((id, payload)) = prepare(&args, lines.first_ms, number, line, &mut tally, &bar) else { continue };
        let mut headers = async_nats::HeaderMap::new();
        if let Some(id) = id {
            headers.insert("Nats-Msg-Id", id.as_str());
        }
        let sent = jetstream.publish_with_headers(subject.clone(), headers, payload).await;
        in_flight.push_back(sent.map_err(|error| Fault::plain(format!("line {number} was not sent: {error}")))?);
        if in_flight.len() == IN_FLIGHT_MAX {
            acknowledged(in_flight.pop_front(), &mut tally).await?;
        }
    }
    while !in_flight.is_empty() {
        acknowledged(in_flight.pop_front(), &mut tally).await?;
    }
    bar.finish_and_clear();
    for (reason, count) in &tally.passed_over {
        say(format!("passed over {count}: {reason}"));
    }
    let duplicates = if tally.duplicates > 0 { format!(" ({} of them were there already)", tally.duplicates) } else { String::new() };
    say(format!("published {} to {subject}{duplicates}, refused {}", tally.published, tally.refused));
    Ok(if tally.refused == 0 { Outcome::Well } else { Outcome::Unwell })
}

async fn acknowledged(ack: Option<PublishAckFuture>, tally: &mut Tally) -> Result<(), Fault> {
    let Some(ack) = ack else { return Ok(()) };
    let ack = ack.await.map_err(|error| {
        Fault::new(
            format!("the server did not take a log: {error}; {} are published", tally.published),
            "publish again: what is there already is not added twice within the stream's duplicate window",
        )
    })?;
    tally.published += 1;
    tally.duplicates += u64::from(ack.duplicate);
    Ok(())
}

/// The payload and the id to publish, or nothing for a line that is refused or passed over.
fn prepare(args: &Publish, first_ms: i64, number: u64, line: Vec<u8>, tally: &mut Tally, bar: &ProgressBar) -> Option<(Option<String>, Bytes)> {
    let mut refuse = |why: String| {
        tally.refused += 1;
        if tally.refused <= SHOWN_MAX {
            bar.suspend(|| say(format!("{}:{number}: refused: {why}", args.file.display())));
        }
    };
    let payload = match args.from {
        From::Logs => line,
        From::Exchanges => match std::str::from_utf8(&line)
            .map_err(|error| error.to_string())
            .and_then(|line| convert(line, Arrival { line: number, base_ms: first_ms, step_ms: 1000 }).map_err(|error| error.to_string()))
        {
            Ok(Converted::Call(log)) => log,
            Ok(Converted::NotAModelCall(what)) => {
                *tally.passed_over.entry(what.reason()).or_default() += 1;
                return None;
            }
            Err(why) => {
                refuse(why);
                return None;
            }
        },
    };
    let id = match model::parse(&payload) {
        Ok(call) => Some(call.id.into_owned()).filter(|id| !id.chars().any(char::is_control)),
        Err(_) if args.as_is => None,
        Err(malformed) => {
            refuse(malformed.detail);
            return None;
        }
    };
    Some((id, payload.into()))
}

struct Lines {
    lines: Box<dyn Iterator<Item = Result<(u64, Vec<u8>), Fault>>>,
    total: Option<u64>,
    first_ms: i64,
}

impl Lines {
    fn open(args: &Publish) -> Result<Self, Fault> {
        let path = args.file.clone();
        let cannot = move |error: std::io::Error| {
            Fault::new(format!("cannot read {}: {error}", path.display()), "name a file of JSON lines, or - for standard input")
        };
        let now_ms = crate::outbox::now().millis();
        if args.file.as_os_str() == "-" {
            let lines = std::io::stdin().lock().split(b'\n').zip(1u64..).map(move |(line, number)| Ok((number, line.map_err(&cannot)?)));
            return Ok(Self { lines: Box::new(lines.filter(not_blank)), total: None, first_ms: now_ms });
        }
        // Counted first, for the bar and so that exchanges end now.
        let total = recorded_lines(&args.file).map_err(&cannot)?.count() as u64;
        let first_ms = match &args.since {
            Some(since) => model::Timestamp::parse(since)
                .ok_or_else(|| Fault::new(format!("cannot read the time `{since}`"), "write it like 2026-11-20T09:00:00Z"))?
                .millis(),
            None => now_ms - total as i64 * 1000,
        };
        let lines = recorded_lines(&args.file).map_err(&cannot)?.zip(1u64..).map(move |(line, number)| Ok((number, line.map_err(&cannot)?)));
        Ok(Self { lines: Box::new(lines.filter(not_blank)), total: Some(total), first_ms })
    }
}

fn not_blank(line: &Result<(u64, Vec<u8>), Fault>) -> bool {
    !matches!(line, Ok((_, line)) if line.iter().all(u8::is_ascii_whitespace))
}

fn progress(total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if total.is_some() { "{bar:30} {human_pos}/{human_len}  {per_sec}  {eta} left" } else { "{spinner} {human_pos}  {per_sec}" };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
