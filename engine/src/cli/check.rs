//! `streamgauge check`: reads everything that a start would read, and says all that is wrong with it. Connects to nothing.

use super::{Outcome, say};
use crate::config::{Config, ConfigErrors};
use crate::error::Fault;
use crate::start::{load_evaluators, load_rules, plan};
use model::FalseAlarms;
use model::plan::{Decides, Rule, Statistic, Watch};
use serde_json::json;

pub(super) fn check(config: Result<Config, ConfigErrors>, as_json: bool) -> Result<Outcome, Fault> {
    let mut problems = Vec::new();
    let mut rules = Vec::new();
    let mut budget = FalseAlarms::default();
    match config {
        Err(errors) => problems.extend(errors.as_slice().iter().map(ToString::to_string)),
        Ok(config) => {
            budget = config.false_alarms;
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
        let rules: Vec<_> = rules
            .iter()
            .map(|rule| json!({ "name": rule.name, "severity": rule.severity, "summary": rule.summary, "decided": decided(rule, budget) }))
            .collect();
        say(json!({ "ok": problems.is_empty(), "problems": problems, "rules": rules }));
    } else {
        for problem in &problems {
            say(problem);
        }
        for rule in &rules {
            let by = std::iter::once("environment".to_owned()).chain(rule.group_by.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", ");
            let watches: Vec<_> = rule
                .watches
                .iter()
                .filter(|watch| !watch.part)
                .map(|watch| format!("{} over {}", watch.statistic.describe(), watch.window))
                .collect();
            say(format!("{:<28} {:<8}  {} by {by}; {}", rule.name, rule.severity.name(), watches.join(", "), decided(rule, budget)));
        }
        say(match problems.len() {
            0 => format!("all well: {} rules", rules.len()),
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        });
    }
    Ok(if problems.is_empty() { Outcome::Well } else { Outcome::Unwell })
}

/// By what a rule decides, and under whose budget of false alarms.
fn decided(rule: &Rule, budget: FalseAlarms) -> String {
    match rule.decides {
        Decides::Check(_) => return "fires by its own check, outside the alarm budget".to_owned(),
        Decides::Burn(objective) => {
            let target = model::show::percent(objective.target);
            return format!("fires when the budget of {target} over {} burns too fast, outside the alarm budget", objective.over);
        }
        Decides::Drift => {}
    }
    let watches = || rule.watches.iter().filter(|watch| !watch.part);
    let by_drift: Vec<_> = watches().filter(|watch| !by_value(watch)).collect();
    let learned = by_drift.iter().any(|watch| watch.expect.is_none());
    let budget = match rule.false_alarms {
        Some(own) => format!("within its own {own}"),
        None => format!("within the shared {budget}"),
    };
    let values = watches().count() - by_drift.len();
    match (by_drift.is_empty(), values, learned) {
        (true, ..) => "fires when its value leaves its range, outside the alarm budget".to_owned(),
        (false, 0, true) => format!("fires by drift from what it learns, {budget}"),
        (false, 0, false) => format!("fires by drift from its range, {budget}"),
        (false, ..) => format!("fires by drift, {budget}, and when a value leaves its range, outside it"),
    }
}

/// What is known of these statistics is no share of calls, so that a range set by hand is compared with the value as it is.
fn by_value(watch: &Watch) -> bool {
    match (&watch.statistic, watch.expect) {
        (Statistic::Rate(_), _) => false,
        (Statistic::Quantile(..), Some(range)) => range.low > 0.0,
        (Statistic::Quantile(..) | Statistic::Mean(_) | Statistic::Volume | Statistic::Count(_), expect) => expect.is_some(),
        (Statistic::Sum(_) | Statistic::Ratio { .. } | Statistic::Distinct(_) | Statistic::Top(..), _) => true,
    }
}
