//! `streamgauge slack preview`: what people would see there, without a workspace.

use super::super::{Outcome, say};
use super::sample::{self, Sampled};
use crate::config::Config;
use crate::error::Fault;
use crate::message::{incident, incident_for_terminal, line};
use crate::slack::blocks::{self, Chart};
use crate::start::{load_rules, plan};
use machine::incident::Telling;
use model::nearest::nearest;
use model::plan::Plan;
use model::{Span, Timestamp};
use serde_json::Value;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Preview {
    /// Its name, as `streamgauge rules` lists it.
    rule: String,
    /// Write a page that looks like Slack, to open in a browser.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
    /// As it stands once the incident is over.
    #[arg(long)]
    resolved: bool,
    /// In how many groups the rule fires.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    groups: u16,
    /// The message as Slack's JSON, such as for its Block Kit Builder.
    #[arg(long)]
    json: bool,
}

pub(super) fn preview(args: &Preview, config: &Config) -> Result<Outcome, Fault> {
    let loaded = load_rules(config)?;
    let plan = plan(config, &loaded.rules)?;
    let rule = position(&plan, &args.rule, loaded.problems.len())?;
    let watched = &plan.rules[rule];
    let environment = watched.environments.first().or_else(|| config.environments.keys().next()).map_or("production", String::as_str);
    let own = config.environments.get(environment).and_then(|own| own.channel.as_ref());
    let channel = watched.channel.as_ref().or(own).unwrap_or(&config.slack.channel);
    // A rule without further groups has one in each environment, whatever is asked for.
    let groups = if watched.group_by.is_empty() { 1 } else { usize::from(args.groups) };
    // What is over has happened already.
    let now = if args.resolved { now() - sample::LASTED } else { now() };
    let sampled = Sampled { plan: &plan, rules: &loaded.rules, rule, environment, groups, resolved: args.resolved, now };
    let tellings = sampled.tellings();
    let public_url = config.http.public_url.as_str();
    let Some(latest) = tellings.last() else {
        return Err(Fault::plain(format!("nothing would be told of {}", watched.name)));
    };
    let message = incident(&latest.incident, public_url, false);
    if args.json {
        say(json_of(&blocks::incident(&latest.id, &message, Chart::Native))?);
        return Ok(Outcome::Well);
    }
    let note = format!("A sample for the rule {}: nothing of this happened. Its values are made up around what it expects.", watched.name);
    let groups_note =
        (usize::from(args.groups) > groups).then(|| "The rule groups by nothing further, so it has one group in each environment.".to_owned());
    match &args.html {
        Some(file) => {
            write(file, &page(&note, channel, &tellings, public_url)?)?;
            say(note);
            groups_note.into_iter().for_each(say);
            say(format!("written to {}: open it in a browser", file.display()));
        }
        None => {
            say(format!("{note}\n"));
            groups_note.into_iter().for_each(say);
            say(incident_for_terminal(&message, channel, std::io::stdout().is_terminal()).trim_end());
            tellings.iter().filter(|telling| telling.aloud).for_each(|telling| say(format!("    ↳ {}", line(telling))));
        }
    }
    Ok(Outcome::Well)
}

fn position(plan: &Plan, name: &str, problems: usize) -> Result<usize, Fault> {
    if let Some(found) = plan.rules.iter().position(|rule| rule.name == name) {
        return Ok(found);
    }
    let known = || plan.rules.iter().map(|rule| rule.name.as_str());
    let hint = match nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`? `streamgauge rules` lists all"),
        None if problems > 0 => "a file of rules has a mistake, and gives none: `streamgauge check` says where".to_owned(),
        None => format!("known: {}", known().collect::<Vec<_>>().join(", ")),
    };
    Err(Fault::new(format!("no rule `{name}`"), hint))
}

fn json_of(content: &slack_morphism::SlackMessageContent) -> Result<Value, Fault> {
    serde_json::to_value(content).map_err(|error| Fault::plain(format!("cannot write the message as JSON: {error}")))
}

/// The message as it stands, where it was first posted, and its thread.
fn page(note: &str, channel: &str, tellings: &[Telling], public_url: &str) -> Result<String, Fault> {
    let still = |content: &Value, at: Timestamp, reply: bool| fixtures_slack::Still {
        text: content["text"].as_str().unwrap_or_default().to_owned(),
        blocks: content["blocks"].as_array().cloned().unwrap_or_default(),
        at: fixtures_slack::Moment::from_micros(u64::try_from(at.millis()).unwrap_or_default().saturating_mul(1000)),
        reply,
    };
    let (Some(first), Some(latest)) = (tellings.first(), tellings.last()) else { return Ok(String::new()) };
    let content = json_of(&blocks::incident(&latest.id, &incident(&latest.incident, public_url, false), Chart::Native))?;
    let mut stills = vec![still(&content, first.at, false)];
    for telling in tellings.iter().filter(|telling| telling.aloud) {
        stills.push(still(&json_of(&blocks::line(&telling.id, telling, false))?, telling.at, true));
    }
    Ok(fixtures_slack::still(note, channel, &stills))
}

fn write(file: &Path, text: &str) -> Result<(), Fault> {
    std::fs::write(file, text).map_err(|error| {
        Fault::new(format!("cannot write {}: {error}", file.display()), "name a file in a folder that exists and that you may write to")
    })
}

/// To the second, as an alert's tick is.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(since.as_millis()).unwrap_or_default();
    Timestamp::from_millis(millis).unwrap_or(Timestamp::EPOCH).floor(Span::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> (Config, rules::Loaded) {
        let mut config = Config::default();
        config.rules.path = PathBuf::from("no rules of our own");
        config.rules.library = rules::shipped().iter().map(|(pack, _)| (*pack).to_owned()).collect();
        let loaded = load_rules(&config).expect("the library reads");
        (config, loaded)
    }

    #[test]
    fn every_shipped_rule_has_a_sample_that_slack_takes() {
        let (config, loaded) = shipped();
        let plan = plan(&config, &loaded.rules).expect("the library gives a plan");
        assert!(plan.rules.len() > 20, "{} rules", plan.rules.len());
        for (rule, groups, resolved) in (0..plan.rules.len()).flat_map(|rule| [(rule, 1, false), (rule, 12, false), (rule, 3, true)]) {
            let name = &plan.rules[rule].name;
            let now = Timestamp::parse("2026-11-22T14:05:00Z").expect("it is a time");
            let tellings = Sampled { plan: &plan, rules: &loaded.rules, rule, environment: "production", groups, resolved, now }.tellings();
            let latest = &tellings.last().unwrap_or_else(|| panic!("nothing is told of {name}")).incident;
            assert_eq!((latest.firing, latest.alerts as usize), (!resolved, groups), "{name}");
            let message = incident(latest, "http://127.0.0.1:8470", false);
            assert!(!message.summary.to_string().is_empty(), "{name}");
            for chart in [Chart::Native, Chart::Sparkline] {
                let content = json_of(&blocks::incident("i1-1", &message, chart)).expect("it is JSON");
                let blocks = content["blocks"].as_array().expect("it has blocks");
                assert_eq!(fixtures_slack::validate(blocks), [], "{name}");
                assert!(chart == Chart::Sparkline || blocks.iter().any(|block| block["type"] == "data_visualization"), "{name} has a curve");
            }
            let page = page("A sample", "#llm-alerts", &tellings, "http://127.0.0.1:8470").expect("it has a page");
            let lines = tellings.iter().filter(|telling| telling.aloud).count();
            assert_eq!(page.matches("<article").count(), 1 + lines, "{name}: the message and its thread");
        }
    }

    #[test]
    fn a_rule_that_is_not_there_is_answered_with_the_nearest() {
        let (config, loaded) = shipped();
        let plan = plan(&config, &loaded.rules).expect("the library gives a plan");
        let said = |name: &str| position(&plan, name, 0).expect_err("there is none").to_string();
        assert_eq!(said("falback-rate"), "no rule `falback-rate`\nhint: did you mean `fallback-rate`? `streamgauge rules` lists all");
        assert!(said("zzzzzzzzzzzz").contains("hint: known: "), "{}", said("zzzzzzzzzzzz"));
    }
}
