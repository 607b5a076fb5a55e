//! `streamgauge status`: where the running engine is in the stream, where every log went, and how each rule stands.

use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::rulebook::FileStanding;
use crate::standing;
use machine::RuleStanding;
use model::show;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn status(args: Status, config: &Config) -> Result<Outcome, Fault> {
    let status: Value = asking::get(config, "/api/v1/status").await?;
    if args.json {
        say(status);
        return Ok(Outcome::Well);
    }
    let number = |name: &str| show::number(status[name].as_f64().unwrap_or_default());
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    say(format!("streamgauge {} · {} · Slack: {}", text("version"), text("source"), text("slack")));
    say(format!("position  {}, {} behind, {} saved", number("position"), number("lag"), number("committed")));
    say(format!(
        "logs      {} received = {} counted + {} malformed + {} joined; {} in their window, {} late; {} missed{}",
        number("received"),
        number("counted"),
        number("malformed"),
        number("joined"),
        number("in_window"),
        number("late"),
        number("missed"),
        if status["balances"] == false { "  THE SUMS DISAGREE: please report this" } else { "" }
    ));
    let outbox = |name: &str| show::number(status["outbox"][name].as_f64().unwrap_or_default());
    say(format!("messages  {} sent, {} waiting, {} given up", outbox("sent"), outbox("waiting"), outbox("failed")));
    say(format!("budget    {}", text("false_alarms").replacen(" per ", " false alarms per ", 1).replacen("1 false alarms", "1 false alarm", 1)));
    if let Some(unpriced) = unpriced(&status["prices"]) {
        say(unpriced);
    }
    let standings: Vec<RuleStanding> = serde_json::from_value(status["drift"].clone())
        .map_err(|_| Fault::new("the engine speaks of its rules in a way that this version does not know", "use the engine's own version"))?;
    for (name, environment) in status["environments"].as_object().into_iter().flatten() {
        let clock = environment["clock"].as_str().unwrap_or_default();
        let groups = show::number(environment["groups"].as_f64().unwrap_or_default());
        say(format!("\n{name}  clock {clock}, {groups} groups, {} series", show::number(environment["series"].as_f64().unwrap_or_default())));
        let mine: Vec<_> = standings.iter().filter(|standing| standing.environment == *name).collect();
        let width = mine.iter().map(|standing| standing.rule.chars().count()).max().unwrap_or(0);
        for standing in mine {
            let space = " ".repeat(width);
            say(format!("  {:<width$}  {}", standing.rule, standing::counts(standing)));
            say(format!("  {space}  {}", standing::cost(standing)));
            if standing.by_drift {
                say(format!("  {space}  {}", standing::budget(&standing.budget)));
            }
        }
    }
    let files: Vec<FileStanding> = serde_json::from_value(status["rule_files"].clone()).unwrap_or_default();
    for file in files.iter().filter(|file| file.problem.is_some()) {
        let runs = if file.rule.is_some() { "its last good version runs" } else { "it gives no rule" };
        say(format!("\n{}: {runs}\n{}", file.file, file.problem.as_deref().unwrap_or_default()));
    }
    Ok(Outcome::Well)
}

/// Models that are named in one line; all of them are in the JSON.
const UNPRICED_SHOWN: usize = 5;

/// `prices    no price for 12 calls: ours 7, vllm/theirs 5`, where there are such.
fn unpriced(prices: &Value) -> Option<String> {
    let calls = prices["calls"]["no_price"].as_u64().filter(|calls| *calls > 0)?;
    let models = prices["without_price"].as_array()?;
    let one = |model: &Value| {
        let text = |name: &str| model[name].as_str().unwrap_or_default().replace(char::is_control, "\u{fffd}");
        let provider = Some(text("provider")).filter(|provider| !provider.is_empty()).map_or(String::new(), |provider| provider + "/");
        format!("{provider}{} {}", text("model"), show::number(model["calls"].as_f64().unwrap_or_default()))
    };
    let named: Vec<_> = models.iter().take(UNPRICED_SHOWN).map(one).collect();
    let more = if models.len() > UNPRICED_SHOWN { ", …" } else { "" };
    let calls = if calls == 1 { "1 call".to_owned() } else { format!("{} calls", show::number(calls as f64)) };
    Some(format!("prices    no price for {calls}: {}{more}; set [prices.\"MODEL\"]", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::unpriced;
    use serde_json::json;

    #[test]
    fn models_without_a_price_are_named_and_nothing_is_said_without_them() {
        assert_eq!(unpriced(&json!({"calls": {"no_price": 0}, "without_price": []})), None);
        let said = unpriced(&json!({"calls": {"no_price": 1200}, "without_price": [
            {"provider": "vllm", "model": "ours", "calls": 1000}, {"provider": "", "model": "a\u{1b}b", "calls": 200}]}));
        let expected = "prices    no price for 1,200 calls: vllm/ours 1,000, a\u{fffd}b 200; set [prices.\"MODEL\"]";
        assert_eq!(said.as_deref(), Some(expected));
    }
}
