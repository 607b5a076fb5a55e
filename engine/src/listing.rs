//! What a rule says, in words: what it watches, by what it is decided, and how well it is. For `check`, `rules` and the API.
//!
//! Deliberately absent: how far each group is from an alarm, which is [`crate::standing`]'s, and the rules' own language.

use crate::timing::Timing;
use machine::RuleStanding;
use model::plan::{Decides, Rule, Severity, Statistic, Watch};
use model::{FalseAlarms, Timestamp};
use serde::{Deserialize, Serialize};

/// A rule as its file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Says {
    pub name: String,
    pub severity: Severity,
    /// The comment that its file begins with.
    pub summary: String,
    /// `fallback rate over 5m`
    pub watches: Vec<String>,
    /// The keys of its groups, `environment` first.
    pub by: Vec<String>,
    /// Empty: all.
    pub environments: Vec<String>,
    pub decided: String,
    pub channel: Option<String>,
    pub runbook: Option<String>,
    /// As shown to people; `None` where that is not known.
    pub file: Option<String>,
}

/// A rule, and its health where an engine runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    #[serde(flatten)]
    pub says: Says,
    pub health: Option<Health>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Since when its text runs.
    pub loaded_at: Option<Timestamp>,
    /// What is wrong with its file as it is now: its last good text runs.
    pub problem: Option<String>,
    /// Calls on which its functions failed.
    pub script_failures: u64,
    /// Checks that failed.
    pub check_failures: u64,
    /// Scripts of it that are not run at the moment.
    #[serde(default)]
    pub suspended: Vec<SuspendedScript>,
    #[serde(default)]
    pub timing: Timing,
    pub environments: Vec<Looked>,
}

/// A script that used up its budget too often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspendedScript {
    pub environment: String,
    /// `call`: the functions that see calls; `check`.
    pub on: String,
    /// Event time, after which it is tried again.
    pub until: Timestamp,
    pub hint: String,
}

/// A rule of one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// End of the last tick it was decided at.
    pub looked_at: Timestamp,
    #[serde(flatten)]
    pub standing: RuleStanding,
}

impl Says {
    /// `budget` is the one that rules without their own share.
    pub fn of(rule: &Rule, budget: FalseAlarms, file: Option<String>) -> Self {
        Self {
            name: rule.name.clone(),
            severity: rule.severity,
            summary: rule.summary.clone(),
            watches: rule
                .watches
                .iter()
                .filter(|watch| !watch.part)
                .map(|watch| format!("{} over {}", watch.statistic.describe(), watch.window))
                .collect(),
            by: std::iter::once("environment".to_owned()).chain(rule.group_by.iter().map(ToString::to_string)).collect(),
            environments: rule.environments.clone(),
            decided: decided(rule, budget),
            channel: rule.channel.clone(),
            runbook: rule.runbook.clone(),
            file,
        }
    }

    /// `fallback rate over 5m by environment, stage; fires by drift from what it learns, within the shared 1 per day`
    pub fn sentence(&self) -> String {
        format!("{} by {}; {}", self.watches.join(", "), self.by.join(", "), self.decided)
    }
}

/// By what a rule decides, and under whose budget of false alarms.
pub fn decided(rule: &Rule, budget: FalseAlarms) -> String {
    match rule.decides {
        Decides::Check(_) => return "fires by its own check, outside the alarm budget".to_owned(),
        Decides::Burn(objective) => {
            let target = model::show::percent(objective.target);
            return format!("fires when the budget of {target} over {} burns too fast, outside the alarm budget", objective.over);
        }
        Decides::Drift => {}
    }
    let watches = || rule.watches.iter().filter(|watch| !watch.part && !watch.tells_only());
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
