//! `streamgauge publish`: JSON lines from a file or standard input to the subject, each acknowledged by the server.
//!
//! Lines go out with their log's id as `Nats-Msg-Id`, so publishing a file again within the stream's duplicate window adds nothing. Lines that are
//! no call are refused here, where someone can see it, unless `--as-is` sends them on.

use super::{Outcome, say};
use crate::config::{Config, Delivery};
use crate::error::Fault;
use crate::source::nats;
use async_nats::jetstream::{self, context::PublishAckFuture, context::PublishErrorKind};
use bytes::Bytes;
use fixtures::{Arrival, Converted, convert, recorded_lines};
use indicatif::{ProgressBar, ProgressStyle};
use model::wire::Reason;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};

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
    /// For exchanges, which have no time of their own: the time of the first, RFC 3339; one second each. Default: so that the last is now;
    /// from standard input, when each is read.
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
    if subject.split('.').any(str::is_empty) || subject.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>')) {
        return Err(Fault::new(
            format!("cannot publish to `{subject}`"),
            "a log goes to one subject: words joined by dots, no wildcards, such as llm.calls.cli",
        ));
    }
    let lines = Lines::open(&args)?;
    if config.nats.delivery == Delivery::Core {
        let hint = "publish with a client of your own, such as `nats pub`; or keep the calls in a stream: nats.delivery = \"jetstream\"";
        return Err(Fault::new("nats.delivery is `core`: no server would acknowledge what is published", hint));
    }
    let client = nats::connect(&config.nats).await?;
    let stream = nats::stream(&client, &config.nats).await?;
    let carried = &stream.cached_info().config.subjects;
    if !carried.iter().any(|carried| nats::covers(carried, &subject)) {
        let what = format!("stream {} does not take `{subject}`; it takes {}", config.nats.stream, carried.join(", "));
        return Err(Fault::new(what, "choose a --subject that it takes, or leave the option out"));
    }
    let max_payload = client.server_info().max_payload;
    let jetstream = jetstream::new(client);
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
        let bytes = payload.len();
        match jetstream.publish_with_headers(subject.clone(), headers, payload).await {
            Ok(ack) => in_flight.push_back(ack),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let why = format!("{bytes} bytes and its headers; the server takes at most {max_payload} (max_payload in its configuration)");
                tally.refuse(&args.file, number, &why, &bar);
            }
            Err(error) => {
                return Err(Fault::new(
                    format!("{}:{number}: not sent: {error}; {} are published", shown(&args.file), tally.published),
                    "publish again: what is there already is not added twice within the stream's duplicate window",
                ));
            }
        }
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
fn prepare(
    args: &Publish,
    first_ms: Option<i64>,
    number: u64,
    line: Vec<u8>,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Option<(Option<String>, Bytes)> {
    let payload = match args.from {
        From::Logs => line,
        From::Exchanges => {
            let at = first_ms.map_or_else(|| (crate::outbox::now().millis(), 0), |first_ms| (first_ms, 1000));
            let read = |line: &str| convert(line, Arrival { line: number, base_ms: at.0, step_ms: at.1 }).map_err(|error| format!("cannot {error}"));
            match std::str::from_utf8(&line).map_err(|error| error.to_string()).and_then(read) {
                Ok(Converted::Call(log)) => log,
                Ok(Converted::NotAModelCall(what)) => {
                    *tally.passed_over.entry(what.reason()).or_default() += 1;
                    return None;
                }
                Err(why) => {
                    tally.refuse(&args.file, number, &why, bar);
                    return None;
                }
            }
        }
    };
    let id = match model::parse(&payload) {
        Ok(call) => Some(call.id.into_owned()).filter(|id| !id.chars().any(char::is_control)),
        Err(_) if args.as_is => None,
        Err(malformed) => {
            let why = if malformed.reason == Reason::NotJson { format!("not JSON: {}", malformed.detail) } else { malformed.detail };
            tally.refuse(&args.file, number, &why, bar);
            return None;
        }
    };
    Some((id, payload.into()))
}

impl Tally {
    fn refuse(&mut self, file: &Path, number: u64, why: &str, bar: &ProgressBar) {
        self.refused += 1;
        if self.refused <= SHOWN_MAX {
            // Each line was read by itself: its number stands in front already.
            let why = why.replace(" at line 1 column ", " at column ");
            bar.suspend(|| say(format!("{}:{number}: refused: {why}", shown(file))));
        }
    }
}

fn shown(file: &Path) -> std::path::Display<'_> {
    if file.as_os_str() == "-" { Path::new("standard input").display() } else { file.display() }
}

struct Lines {
    lines: Box<dyn Iterator<Item = Result<(u64, Vec<u8>), Fault>>>,
    total: Option<u64>,
    /// Time of the first exchange, where it is known before reading.
    first_ms: Option<i64>,
}

impl Lines {
    fn open(args: &Publish) -> Result<Self, Fault> {
        let path = args.file.clone();
        let cannot = move |error: std::io::Error| {
            let cut = matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput);
            let hint = if cut {
                "is the file whole? a gzipped one that was cut cannot be read"
            } else {
                "name a file of JSON lines, or - for standard input"
            };
            Fault::new(format!("cannot read {}: {error}", shown(&path)), hint)
        };
        let since = |since: &String| {
            let time = model::Timestamp::parse(since)
                .ok_or_else(|| Fault::new(format!("cannot read the time `{since}`"), "write it like 2026-11-20T09:00:00Z"));
            time.map(model::Timestamp::millis)
        };
        let since_ms = args.since.as_ref().map(since).transpose()?;
        if args.file.as_os_str() == "-" {
            let lines = std::io::stdin().lock().split(b'\n').zip(1u64..).map(move |(line, number)| Ok((number, line.map_err(&cannot)?)));
            return Ok(Self { lines: Box::new(lines.filter(not_blank)), total: None, first_ms: since_ms });
        }
        // Counted first, for the bar and so that exchanges end now. The lines of a file that cannot be read on have no end.
        let mut total = 0;
        for line in recorded_lines(&args.file).map_err(&cannot)? {
            line.map_err(&cannot)?;
            total += 1;
        }
        let first_ms = since_ms.or_else(|| Some(crate::outbox::now().millis() - total as i64 * 1000));
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
