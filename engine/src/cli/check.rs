//! `streamgauge check`: reads everything that a start would read, and says all that is wrong with it. Connects to nothing.

use super::{Outcome, say};
use crate::config::{Config, ConfigErrors};
use crate::error::Fault;
use crate::start::{load_evaluators, load_rules, plan};
use model::plan::Decides;
use serde_json::json;

pub(super) fn check(config: Result<Config, ConfigErrors>, as_json: bool) -> Result<Outcome, Fault> {
    let mut problems = Vec::new();
    let mut rules = Vec::new();
    match config {
        Err(errors) => problems.extend(errors.as_slice().iter().map(ToString::to_string)),
        Ok(config) => {
            match load_rules(&config) {
                Err(fault) => problems.push(fault.to_string()),
                Ok(loaded) => {
                    problems.extend(loaded.problems.iter().map(ToString::to_string));
                    rules = plan(&config, &loaded.rules).rules;
                }
            }
            if let Err(fault) = load_evaluators(&config) {
                problems.push(fault.to_string());
            }
        }
    }
    if as_json {
        let rules: Vec<_> = rules.iter().map(|rule| json!({ "name": rule.name, "severity": rule.severity, "summary": rule.summary })).collect();
        say(json!({ "ok": problems.is_empty(), "problems": problems, "rules": rules }));
    } else {
        for problem in &problems {
            say(problem);
        }
        for rule in &rules {
            let by = std::iter::once("environment".to_owned()).chain(rule.group_by.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", ");
            let watches: Vec<_> = rule.watches.iter().map(|watch| format!("{} over {}", watch.statistic.describe(), watch.window)).collect();
            let decides = if rule.decides == Decides::Drift { "fires outside its expected range" } else { "fires by its own check" };
            say(format!("{:<28} {:<8}  {} by {by}; {decides}", rule.name, rule.severity.name(), watches.join(", ")));
        }
        say(match problems.len() {
            0 => format!("all well: {} rules", rules.len()),
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        });
    }
    Ok(if problems.is_empty() { Outcome::Well } else { Outcome::Unwell })
}
