//! `streamgauge rules`: which rules there are, shipped and the user's own, what each says, and how well it is. The health is the running engine's;
//! where none answers, the files speak for themselves, and that is said.

use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::listing::{Health, Listed, Looked, Says};
use crate::rulebook::FileStanding;
use crate::start::{load_rules, plan};
use crate::{message, standing};
use model::show;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, clap::Args)]
pub(super) struct Rules {
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Have the running engine read the rules' files now, and say what came of it; exit 1 when a file has a mistake.
    Reload,
}

/// The rules, and who was asked.
struct Known {
    /// `None`: the engine was asked. Else why it could not be.
    unasked: Option<String>,
    rules: Vec<Listed>,
    files: Vec<FileStanding>,
}

pub(super) async fn rules(args: Rules, config: &Config) -> Result<Outcome, Fault> {
    if let Some(Action::Reload) = args.action {
        return reload(args.json, config).await;
    }
    let known = match asking::get::<Vec<Listed>>(config, "/api/v1/rules").await {
        Ok(rules) => {
            let status: Value = asking::get(config, "/api/v1/status").await?;
            let files = serde_json::from_value(status["rule_files"].clone()).unwrap_or_default();
            Known { unasked: None, rules, files }
        }
        Err(fault) => from_files(config, fault.what().to_owned())?,
    };
    let packs = rules::shipped();
    if args.json {
        say(as_json(&known, &packs));
    } else {
        as_text(&known, &packs);
    }
    Ok(Outcome::Well)
}

/// What a start would load.
fn from_files(config: &Config, unasked: String) -> Result<Known, Fault> {
    let loaded = load_rules(config)?;
    let files: BTreeMap<_, _> = loaded.rules.files().map(|(spec, path)| (spec.rule.name.clone(), path.display().to_string())).collect();
    let says = |rule: &model::plan::Rule| Says::of(rule, config.false_alarms, files.get(&rule.name).cloned());
    let rules = plan(config, &loaded.rules)?.rules.iter().map(|rule| Listed { says: says(rule), health: None }).collect();
    let problems = loaded.problems.iter().map(|problem| FileStanding {
        file: problem.path.display().to_string(),
        rule: None,
        loaded_at: None,
        problem: Some(problem.to_string()),
    });
    Ok(Known { unasked: Some(unasked), rules, files: problems.collect() })
}

fn as_json(known: &Known, packs: &[(&str, Vec<&str>)]) -> Value {
    let on = |rule: &&str| known.rules.iter().any(|listed| listed.says.name == **rule);
    let packs: Vec<_> = packs
        .iter()
        .map(|(pack, rules)| json!({ "name": pack, "rules": rules, "on": rules.iter().filter(|rule| on(rule)).collect::<Vec<_>>() }))
        .collect();
    let problems: Vec<_> = known.files.iter().filter(|file| file.problem.is_some()).collect();
    json!({ "engine": { "asked": known.unasked.is_none(), "problem": known.unasked }, "packs": packs, "rules": known.rules, "problems": problems })
}

fn as_text(known: &Known, packs: &[(&str, Vec<&str>)]) {
    if let Some(why) = &known.unasked {
        say(format!("as the files say; the engine could not be asked: {why}\n"));
    }
    let shipped = |name: &str| packs.iter().any(|(_, rules)| rules.contains(&name));
    let named = |name: &str| known.rules.iter().find(|listed| listed.says.name == name);
    for (at, (pack, rules)) in packs.iter().enumerate() {
        let (on, off): (Vec<&str>, Vec<&str>) = rules.iter().copied().partition(|name| named(name).is_some());
        let all_off = if on.is_empty() { ": off; rules.library can name it, or rules of it" } else { "" };
        say(format!("{}{pack}, shipped{all_off}", if at > 0 { "\n" } else { "" }));
        on.into_iter().filter_map(named).for_each(|listed| show_rule(listed, known.unasked.is_none()));
        if !off.is_empty() {
            say(format!("  off: {}", off.join(", ")));
        }
    }
    let own: Vec<_> = known.rules.iter().filter(|listed| !shipped(&listed.says.name)).collect();
    say(if own.is_empty() { "\nno rules of your own" } else { "\nyour own" });
    own.into_iter().for_each(|listed| show_rule(listed, known.unasked.is_none()));
    let broken: Vec<_> = known.files.iter().filter(|file| file.rule.is_none()).filter_map(|file| file.problem.as_ref()).collect();
    if !broken.is_empty() {
        say("\nfiles that give no rule");
        broken.into_iter().for_each(|problem| say(indented(problem, "  ")));
    }
}

fn show_rule(listed: &Listed, asked: bool) {
    let says = &listed.says;
    say(format!("  {}  {}{}", says.name, says.severity.name(), says.channel.as_ref().map_or_else(String::new, |channel| format!("  {channel}"))));
    if !says.summary.is_empty() {
        say(format!("    {}", first_sentence(&says.summary)));
    }
    say(format!("    {}", says.sentence()));
    if let Some(file) = says.file.as_ref().filter(|file| !file.starts_with("library/")) {
        let since = listed.health.as_ref().and_then(|health| health.loaded_at);
        say(format!("    {file}{}", since.map_or_else(String::new, |since| format!(", runs since {}", message::moment(since, None)))));
    }
    let Some(health) = &listed.health else { return };
    if asked && health.environments.is_empty() {
        say("    no calls yet");
    }
    health.environments.iter().for_each(|looked| say(format!("    {}", health_of(looked))));
    if let Some(timing) = timing(health) {
        say(format!("    {timing}"));
    }
    if let Some(failures) = failures(health) {
        say(format!("    {failures}"));
    }
    for suspended in &health.suspended {
        let until = message::moment(suspended.until, None);
        let what = if suspended.on == "check" { "its check" } else { "its script" };
        say(format!("    {}: {what} used up its budget too often and is suspended until {until}, then tried again", suspended.environment));
        say(format!("    hint: {}", suspended.hint));
    }
    if let Some(problem) = &health.problem {
        say("    its file has a mistake; the last good version runs");
        say(indented(problem, "      "));
    }
}

/// `production: in range: 12 gauges, 3 learning, 0 outside, 0 told; looked at 2026-11-22 14:22 UTC`
fn health_of(looked: &Looked) -> String {
    let environment = &looked.standing.environment;
    format!("{environment}: {}; looked at {}", standing::counts(&looked.standing), message::moment(looked.looked_at, None))
}

/// `its functions take 1.2 µs a call, its check takes 6.1 µs a group and tick`
fn timing(health: &Health) -> Option<String> {
    let said = |nanos: Option<f64>, what: &str, each: &str| nanos.map(|nanos| format!("{what} {:.1} µs a {each}", nanos / 1e3));
    let both = [said(health.timing.call_ns, "its functions take", "call"), said(health.timing.check_ns, "its check takes", "group and tick")];
    let both: Vec<_> = both.into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(", "))
}

fn failures(health: &Health) -> Option<String> {
    let said =
        |count: u64, what: &str| (count > 0).then(|| format!("failed on {} {what}{}", show::number(count as f64), if count == 1 { "" } else { "s" }));
    let both: Vec<_> = [said(health.script_failures, "call"), said(health.check_failures, "check")].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(", "))
}

fn first_sentence(summary: &str) -> &str {
    summary.find(". ").map_or(summary, |end| &summary[..=end])
}

fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}")).collect::<Vec<_>>().join("\n")
}

async fn reload(as_json: bool, config: &Config) -> Result<Outcome, Fault> {
    let report: Value = asking::post(config, "/api/v1/rules/reload").await?;
    let list = |name: &str| -> Vec<String> {
        report[name].as_array().into_iter().flatten().filter_map(|text| text.as_str()).map(ToOwned::to_owned).collect()
    };
    let problems = list("problems");
    if as_json {
        say(&report);
    } else {
        for what in ["added", "changed", "removed"] {
            let rules = list(what);
            if !rules.is_empty() {
                say(format!("{what:<8} {}", rules.join(", ")));
            }
        }
        problems.iter().for_each(say);
        say(match report["outcome"].as_str().unwrap_or_default() {
            "adopted" => "every file runs as it is",
            "partly" => "files with mistakes go on as they were; the others run as they are",
            "refused" => "files with mistakes go on as they were; nothing else has changed",
            _ => "nothing has changed",
        });
    }
    Ok(if problems.is_empty() { Outcome::Well } else { Outcome::Unwell })
}
