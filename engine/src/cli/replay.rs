//! `streamgauge replay`: calls of one environment again, in another. Everything is done by [`crate::republish`]; here are the questions it can be asked.

use super::{Outcome, say};
use crate::config::Config;
use crate::error::Fault;
use crate::outbox::now;
use crate::republish::{Republished, Republishing, Speed, Wanted};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Span, Timestamp, show};
use std::io::IsTerminal;

/// A speed above this is a typing mistake; `max` has no bound.
const SPEED_MAX: f64 = 100_000.0;

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// The environment whose calls are published again; nothing of it changes.
    #[arg(long, value_name = "ENVIRONMENT")]
    from: String,
    /// The environment that gets them.
    #[arg(long, value_name = "ENVIRONMENT")]
    to: String,
    /// Calls that the stream has taken since: a time (RFC 3339), or a span up to now such as 2h.
    #[arg(long, value_name = "TIME|SPAN")]
    since: String,
    /// Up to this time; by default up to now.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How fast, beside their own time, such as 10x; `max` does not wait. Either way the copies' times are as far apart as the originals', and
    /// end at the moment at which publishing ends (`max`: at most an hour before).
    #[arg(long, default_value = "max", value_parser = speed)]
    speed: Speed,
    /// Only calls that match a query, such as "stage:extraction latency>2s" (engine/index/QUERY.md). Signals are the built-in ones and
    /// those that rules of this configuration watch.
    #[arg(long = "match", value_name = "QUERY", allow_hyphen_values = true)]
    matching: Option<String>,
    /// The summary as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn replay(args: Replay, config: &Config) -> Result<Outcome, Fault> {
    let json = args.json;
    let (since, until) = range(&args, now())?;
    let Replay { from, to, speed, matching, .. } = args;
    let notifies = config.environments.get(&to).is_none_or(|own| own.notify);
    let channel = config.environments.get(&to).and_then(|own| own.channel.as_ref()).unwrap_or(&config.slack.channel).clone();
    let replaying = Republishing::prepare(config, Wanted { from, to: to.clone(), since, until, speed, matching }).await?;
    if let Some(unknown) = replaying.unknown() {
        warn(&unknown.to_string());
    }
    if notifies && config.slack.bot_token.resolve().ok().flatten().is_some() {
        warn(&format!("alerts of `{to}` will be posted to {channel}\nhint: environments.{to}.notify = false keeps them from people"));
    }
    let bar = progress(replaying.calls(), replaying.at_least());
    let done = replaying.publish(|count| bar.set_position(count)).await?;
    bar.finish_and_clear();
    if json {
        say(serde_json::to_string(&done).map_err(|error| Fault::plain(format!("cannot write the summary: {error}")))?);
    } else {
        say(summary(&done));
    }
    Ok(if done.refused == 0 && done.duplicates == 0 { Outcome::Well } else { Outcome::Unwell })
}

fn summary(done: &Republished) -> String {
    let number = |count: u64| show::number(count as f64);
    let rate = done.published as f64 / (done.took_ms.max(1) as f64 / 1000.0);
    let moved = Span::from_millis(done.moved_ms.unsigned_abs());
    let moved = match done.moved_ms {
        0 => "not moved".to_owned(),
        1.. => format!("moved on by {moved}"),
        _ => format!("moved back by {moved}"),
    };
    let mut text = format!(
        "published {} calls of {} into {} as {}, in {:.1} s ({} a second)\ntimes {} to {}, {moved}",
        number(done.published),
        done.from,
        done.to,
        done.name,
        done.took_ms as f64 / 1000.0,
        show::number(rate.round()),
        done.first,
        done.last
    );
    for (count, what) in [
        (done.unmatched, "do not match"),
        (done.malformed, "logs of the period are no calls, and so of no environment"),
        (done.refused, "could not be published again: a format that cannot be changed, or too large with what is added"),
        (done.duplicates, "were taken for repeats by the server"),
    ] {
        if count > 0 {
            text += &format!("\n{} {what}", number(count));
        }
    }
    text
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let number = text.strip_suffix('x').and_then(|number| number.parse::<f64>().ok()).filter(|number| (1.0..=SPEED_MAX).contains(number));
    number.map(Speed::Times).ok_or_else(|| "write it like 1x, 10x or 2.5x, at least 1x, or max".to_owned())
}

/// The period asked for, of the server's stamps.
fn range(args: &Replay, now: Timestamp) -> Result<(Timestamp, Timestamp), Fault> {
    let wrong = |text: &str, hint: &str| Fault::new(format!("cannot read the time `{text}`"), hint);
    let until = match &args.until {
        None => now,
        Some(text) => Timestamp::parse(text).ok_or_else(|| wrong(text, "write it like 2026-11-20T09:00:00Z"))?,
    };
    let span = Span::parse(&args.since).filter(|span| *span > Span::ZERO).map(|span| now - span);
    let since = span.or_else(|| Timestamp::parse(&args.since)).ok_or_else(|| wrong(&args.since, "write it like 2026-11-20T09:00:00Z, or 2h"))?;
    if since >= until {
        return Err(Fault::new(format!("the time from {since} to {until} is empty"), "give an earlier --since or a later --until"));
    }
    Ok((since, until))
}

#[expect(clippy::print_stderr, reason = "a warning to the person who typed the command, beside the summary on standard output")]
fn warn(text: &str) {
    eprintln!("warning: {text}");
}

fn progress(calls: u64, at_least: std::time::Duration) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {human_pos}/{human_len}  {per_sec}  {eta} left{msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(calls).with_style(style);
    if !at_least.is_zero() {
        bar.set_message(format!(" of {}", Span::from_secs(at_least.as_secs())));
    }
    bar
}
