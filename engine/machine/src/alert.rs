//! The life of one alert: pending → firing → resolved. Pure transitions; whoever calls decides what to do with them.

use crate::effect::{Hit, Notification, Reason};
use model::plan::{NoData, Rule, Severity};
use model::window::Observation;
use model::{Labels, Span, Timestamp};
use serde::{Deserialize, Serialize};

/// An alert that has heard nothing of its group for so long says so and ends: long enough to outlast a night without traffic.
pub(crate) const QUIET_MAX: Span = Span::from_secs(24 * 3600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Derived from rule, group and the tick it began.
    pub id: String,
    /// End of the first tick at which the condition held.
    pub began: Timestamp,
    pub state: State,
    /// The rule's, unless its `check` said otherwise.
    pub severity: Severity,
    /// The highest that people were told.
    pub told_severity: Severity,
    pub summary: String,
    /// At the last tick that had data.
    pub observations: Vec<Observation>,
    /// The value furthest out while it lasted.
    pub worst: Option<Observation>,
    /// End of the last tick that had data.
    pub heard: Timestamp,
    pub examples: Vec<u64>,
    pub hit: Vec<Hit>,
    /// What its rule's `fire` said beside the summary.
    pub labels: Vec<(String, String)>,
    /// How often it was told again.
    pub repeats: u32,
}

impl Alert {
    /// One whose condition held for the first time at the tick that ended at `at`.
    pub(crate) fn begun(id: String, at: Timestamp, severity: Severity) -> Self {
        Self {
            id,
            began: at,
            state: State::Pending,
            severity,
            told_severity: severity,
            summary: String::new(),
            observations: Vec::new(),
            worst: None,
            heard: at,
            examples: Vec::new(),
            hit: Vec::new(),
            labels: Vec::new(),
            repeats: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Firing {
        since: Timestamp,
        /// Since when the condition is gone, while `keep_firing` runs.
        clear: Option<Timestamp>,
        /// When people were told of it last.
        told: Timestamp,
    },
}

/// An alert as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertView<'m> {
    pub rule: &'m Rule,
    pub environment: &'m str,
    pub labels: &'m Labels,
    pub alert: &'m Alert,
}

impl AlertView<'_> {
    /// As it would be told now: for pages that show an alert as its message does.
    pub fn told(&self) -> Notification {
        crate::settle::notification(self.rule, self.environment, self.labels, self.alert, Reason::Fired, self.alert.heard)
    }
}

/// What a tick says about one group of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Condition {
    Clear,
    Breach {
        summary: String,
        severity: Severity,
        labels: Vec<(String, String)>,
    },
    /// Too few calls to say.
    Unknown,
    /// The rule's `check` failed or is suspended: it says nothing, and `no_data` does not speak for it.
    Failed,
    /// It failed because a budget was used up.
    Exhausted,
}

/// What becomes of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// No alert, and none begins.
    Nothing,
    Begin,
    BeginAndFire,
    Stay,
    /// It still holds, and is told again.
    Repeat,
    Fire,
    /// The condition is gone; it still counts as firing for a while.
    Clearing,
    /// It came back while clearing.
    Again,
    /// Pending, and gone before it fired.
    Drop,
    End(Reason),
}

/// The next step of an alert, given the condition at a tick that ended at `at`.
pub(crate) fn next(alert: Option<&Alert>, condition: &Condition, rule: &Rule, at: Timestamp) -> Next {
    let breach = match (condition, rule.no_data) {
        (Condition::Breach { .. }, _) | (Condition::Unknown, NoData::Alert) => Some(true),
        (Condition::Clear, _) | (Condition::Unknown, NoData::Ok) => Some(false),
        (Condition::Unknown, NoData::Keep) | (Condition::Failed | Condition::Exhausted, _) => None,
    };
    let Some(alert) = alert else {
        return match breach {
            Some(true) if rule.hold == Span::ZERO => Next::BeginAndFire,
            Some(true) => Next::Begin,
            _ => Next::Nothing,
        };
    };
    match (alert.state, breach) {
        (State::Pending, Some(true)) if at.since(alert.began) >= rule.hold => Next::Fire,
        (State::Pending, Some(false)) => Next::Drop,
        (State::Pending, None) if at.since(alert.heard) > QUIET_MAX => Next::Drop,
        (State::Pending, _) => Next::Stay,
        (State::Firing { clear: None, .. }, Some(false)) if rule.keep_firing == Span::ZERO => Next::End(Reason::Resolved),
        (State::Firing { clear: None, .. }, Some(false)) => Next::Clearing,
        (State::Firing { clear: Some(since), .. }, Some(false)) if at.since(since) >= rule.keep_firing => Next::End(Reason::Resolved),
        (State::Firing { clear: Some(_), .. }, Some(true)) => Next::Again,
        (State::Firing { clear: None, .. }, Some(true)) if matches!(condition, Condition::Breach { severity, .. } if *severity > alert.told_severity) => {
            Next::Repeat
        }
        (State::Firing { clear: None, told, .. }, Some(true)) if rule.repeat.is_some_and(|repeat| at.since(told) >= repeat) => Next::Repeat,
        (State::Firing { .. }, None) if at.since(alert.heard) > QUIET_MAX => Next::End(Reason::WentQuiet),
        (State::Firing { .. }, _) => Next::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::EPOCH + Span::from_secs(secs)
    }

    fn rule(hold: u64, keep_firing: u64, no_data: NoData) -> Rule {
        Rule { hold: Span::from_secs(hold), keep_firing: Span::from_secs(keep_firing), no_data, ..Rule::new("r") }
    }

    fn alert(state: State, heard: u64) -> Alert {
        Alert { state, heard: at(heard), ..Alert::begun(String::new(), at(100), Severity::Warning) }
    }

    fn breach() -> Condition {
        Condition::Breach { summary: String::new(), severity: Severity::Warning, labels: vec![] }
    }

    #[test]
    fn what_becomes_more_severe_is_told_again_once() {
        let rule = rule(0, 0, NoData::Keep);
        let firing = State::Firing { since: at(110), clear: None, told: at(110) };
        let critical = Condition::Breach { summary: String::new(), severity: Severity::Critical, labels: vec![] };
        let told = |severity| Alert { told_severity: severity, ..alert(firing, 120) };
        assert_eq!(next(Some(&told(Severity::Warning)), &critical, &rule, at(130)), Next::Repeat);
        assert_eq!(next(Some(&told(Severity::Critical)), &critical, &rule, at(130)), Next::Stay, "it was told already");
        assert_eq!(next(Some(&told(Severity::Critical)), &breach(), &rule, at(130)), Next::Stay, "what eases wakes nobody");
    }

    #[test]
    fn an_alert_goes_from_pending_over_firing_to_its_end() {
        let (pending, firing) = (State::Pending, State::Firing { since: at(130), clear: None, told: at(130) });
        let clearing = State::Firing { since: at(130), clear: Some(at(200)), told: at(130) };
        let held = rule(30, 60, NoData::Keep);
        for (state, condition, when, expected) in [
            (None, Condition::Clear, 100, Next::Nothing),
            (None, Condition::Unknown, 100, Next::Nothing),
            (None, breach(), 100, Next::Begin),
            (Some(pending), breach(), 120, Next::Stay),
            (Some(pending), breach(), 130, Next::Fire),
            (Some(pending), Condition::Clear, 120, Next::Drop),
            (Some(pending), Condition::Unknown, 120, Next::Stay),
            (Some(firing), breach(), 150, Next::Stay),
            (Some(firing), Condition::Clear, 200, Next::Clearing),
            (Some(firing), Condition::Unknown, 200, Next::Stay),
            (Some(clearing), Condition::Clear, 250, Next::Stay),
            (Some(clearing), breach(), 250, Next::Again),
            (Some(clearing), Condition::Clear, 260, Next::End(Reason::Resolved)),
            (Some(firing), Condition::Unknown, 100 + 86_401, Next::End(Reason::WentQuiet)),
        ] {
            let alert = state.map(|state| alert(state, 100));
            assert_eq!(next(alert.as_ref(), &condition, &held, at(when)), expected, "{state:?} {condition:?} at {when}");
        }
    }

    #[test]
    fn an_alert_is_told_again_while_its_condition_holds_and_not_while_it_ends() {
        let repeated = Rule { repeat: Some(Span::from_secs(600)), ..rule(0, 60, NoData::Keep) };
        let told = |clear| Some(alert(State::Firing { since: at(100), clear, told: at(200) }, 700));
        for (alert, condition, when, expected) in [
            (told(None), breach(), 790, Next::Stay),
            (told(None), breach(), 800, Next::Repeat),
            (told(None), Condition::Unknown, 800, Next::Stay),
            (told(None), Condition::Clear, 800, Next::Clearing),
            (told(Some(at(780))), breach(), 800, Next::Again),
            (told(Some(at(780))), Condition::Clear, 800, Next::Stay),
        ] {
            assert_eq!(next(alert.as_ref(), &condition, &repeated, at(when)), expected, "{condition:?} at {when}");
        }
    }

    #[test]
    fn without_hold_and_keep_firing_it_follows_its_condition() {
        let plain = rule(0, 0, NoData::Keep);
        assert_eq!(next(None, &breach(), &plain, at(100)), Next::BeginAndFire);
        let firing = alert(State::Firing { since: at(100), clear: None, told: at(100) }, 100);
        assert_eq!(next(Some(&firing), &Condition::Clear, &plain, at(110)), Next::End(Reason::Resolved));
    }

    #[test]
    fn no_data_means_what_the_rule_says() {
        let firing = alert(State::Firing { since: at(100), clear: None, told: at(100) }, 100);
        assert_eq!(next(Some(&firing), &Condition::Unknown, &rule(0, 0, NoData::Ok), at(110)), Next::End(Reason::Resolved));
        assert_eq!(next(None, &Condition::Unknown, &rule(0, 0, NoData::Alert), at(110)), Next::BeginAndFire);
    }
}
