//! `streamgauge slack test`: a made-up incident, posted to a channel with the configured token and brought through its whole life, each step with what
//! Slack answered. It stays there, and says in every headline that it is a test: so people see what an incident leaves behind.
//!
//! Deliberately absent: the outbox. What waits here waits for a person, so a step is tried a few times and not for hours.

use crate::cli::{Outcome, say};
use crate::config::Config;
use crate::error::Fault;
use crate::message;
use crate::outbox::now;
use crate::posted::Posted;
use crate::sample;
use crate::slack::token::{Standing, way_out};
use crate::slack::{Slack, blocks, hint, is_loud};
use machine::incident::Telling;
use std::time::Duration;
use tokio::time::sleep;

/// Slack takes about one message a second in a channel, and somebody is to see each step.
const BETWEEN: Duration = Duration::from_millis(1500);
/// Of a step.
const TRIES_MAX: u32 = 3;
/// The longest that is waited where Slack says to.
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Test {
    /// Where: a name such as llm-alerts, or a channel's id. With its # it must stand in quotes, for shells take that for a comment.
    channel: String,
}

pub(super) async fn test(args: Test, config: &Config) -> Result<Outcome, Fault> {
    let place = &config.slack.bot_token;
    let Some(slack) = Slack::new(&config.slack)? else {
        return Err(Fault::new(
            format!("{place} is not set"),
            "set it to the bot token (xoxb-…) of an app that is made from deploy/slack/manifest.yaml",
        ));
    };
    let channel = named(&args.channel);
    let state = slack.test_token().await;
    match (state.state, state.problem) {
        (Standing::Ok, _) => say(format!("{:<14}Slack takes the token of {place}", "signed in")),
        (_, Some(problem)) => return Ok(failed("signing in", &problem, &way_out(&problem, place))),
        _ => {
            let unreachable = format!("{} does not answer", config.slack.api_url);
            return Ok(failed("signing in", &unreachable, "is slack.api_url right, and does a firewall let this machine through?"));
        }
    }
    // Each run is an incident of its own.
    let mark = format!("{:x}", now().millis());
    let mut message: Option<(String, String)> = None;
    for telling in sample::life(&mark, now()) {
        let step = telling.occasion.name();
        let posted = shown(&slack, &channel, &telling, message.as_ref(), &config.http.public_url).await;
        let receipt = match posted {
            Posted::Sent(receipt) => receipt,
            other => return Ok(refused(step, &other)),
        };
        let Some((id, ts)) = receipt.split_once('/') else {
            return Err(Fault::plain(format!("Slack's answer names no message: {receipt}")));
        };
        let did =
            if message.is_none() { format!("posted to {channel} ({id}, message {ts})") } else { "the message was brought up to date".to_owned() };
        message = Some((id.to_owned(), ts.to_owned()));
        if !telling.aloud {
            say(format!("{step:<14}{did}"));
        } else {
            sleep(BETWEEN).await;
            let loud = is_loud(&telling.occasion);
            let line = again(async || slack.post(id, blocks::line(&telling.id, &telling, false), Some(ts), loud).await).await;
            if !matches!(line, Posted::Sent(_)) {
                return Ok(refused(step, &line));
            }
            say(format!("{step:<14}{did}; its thread says so{}", if loud { ", and so does the channel" } else { "" }));
        }
        sleep(BETWEEN).await;
    }
    say(format!("\nSlack took all of it. It stays in {channel}, marked as a test; its buttons belong to no incident."));
    Ok(Outcome::Well)
}

/// Posts the message, or brings it up to date.
async fn shown(slack: &Slack, channel: &str, telling: &Telling, message: Option<&(String, String)>, public_url: &str) -> Posted {
    let words = message::incident(&telling.incident, public_url, false);
    let mut posted = Posted::Refused("invalid_blocks".to_owned());
    for chart in [blocks::Chart::Native, blocks::Chart::Sparkline] {
        posted = again(async || {
            let content = blocks::incident(&telling.id, &words, chart);
            match message {
                Some((channel, ts)) => slack.update(channel, ts, content).await,
                None => slack.post(channel, content, None, false).await,
            }
        })
        .await;
        // A workspace that knows no charts refuses them.
        if !matches!(&posted, Posted::Refused(problem) if problem == "invalid_blocks") {
            break;
        }
    }
    posted
}

/// Tries what may pass a few times. What nobody knows the end of is not tried again: it would stand there twice.
async fn again(step: impl AsyncFn() -> Posted) -> Posted {
    let mut posted = step().await;
    for _ in 1..TRIES_MAX {
        let pause = match &posted {
            Posted::Later(pause) if *pause <= PAUSE_MAX => *pause,
            Posted::Again(_) => BETWEEN,
            _ => break,
        };
        sleep(pause).await;
        posted = step().await;
    }
    posted
}

/// What came instead of a yes.
fn refused(step: &str, posted: &Posted) -> Outcome {
    match posted {
        Posted::Refused(problem) => failed(step, problem, hint(problem)),
        Posted::Later(pause) => {
            failed(step, &format!("rate limited, for {} s", pause.as_secs()), "other programs post there as well; try again later")
        }
        Posted::Again(problem) => failed(step, problem, "it may pass: try again in a minute, and see https://status.slack.com"),
        Posted::Unknown(problem) => failed(step, problem, "whether it was taken nobody can say: look into the channel, and try again"),
        Posted::Sent(_) => Outcome::Well,
    }
}

fn failed(step: &str, problem: &str, hint: &str) -> Outcome {
    say(format!("{step:<14}failed: {problem}\nhint: {hint}"));
    Outcome::Unwell
}

/// A channel as Slack takes it: a name without its `#` gets it, an id is left alone.
fn named(channel: &str) -> String {
    let id = channel.len() > 8 && channel.starts_with(['C', 'D', 'G', 'U']) && channel.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    if id || channel.starts_with('#') { channel.to_owned() } else { format!("#{channel}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_may_be_named_without_its_sign_and_an_id_stays_one() {
        for (typed, meant) in [("llm-alerts", "#llm-alerts"), ("#llm-alerts", "#llm-alerts"), ("C0123ABCDEF", "C0123ABCDEF"), ("CI", "#CI")] {
            assert_eq!(named(typed), meant);
        }
    }
}
