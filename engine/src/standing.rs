//! How a rule stands, in words: what its alarm budget costs in delay, and what that buys. The same sentences go to the terminal and to the page.
//!
//! Deliberately absent: alerts, which are [`crate::message`]'s, and the numbers themselves, which are the machine's.

use machine::{Budget, Delay, RuleStanding};
use model::{Span, show};

/// What is promised within this time is worth promising.
const DAY: Span = Span::from_secs(86_400);

/// The labels of a group as one reads them aloud; of none, everything.
pub fn place(group: &[(String, String)]) -> String {
    place_among(group, false)
}

/// The same, of calls or of runs.
pub fn place_among(group: &[(String, String)], runs: bool) -> String {
    let labels: Vec<_> = group.iter().map(|(_, label)| if label.is_empty() { "(none)" } else { label.as_str() }).collect();
    match labels.is_empty() {
        true if runs => "all runs".to_owned(),
        true => "all calls".to_owned(),
        false => labels.join(" · "),
    }
}

/// A length of time as people say it: `10s`, `17m`, `3h`, `12 days`.
pub fn about(span: Span) -> String {
    let minutes = span.millis() as f64 / 60_000.0;
    match minutes {
        m if m < 1.5 => format!("{}s", (m * 6.0).round().max(1.0) * 10.0),
        m if m < 120.0 => format!("{m:.0}m"),
        m if m < 48.0 * 60.0 => format!("{:.0}h", m / 60.0),
        m => days(m / 1440.0),
    }
}

/// `12 days`, `1.5 days`, `8 hours`.
pub fn days(days: f64) -> String {
    match days {
        d if d < 1.0 => format!("{:.0} hours", (d * 24.0).max(1.0)),
        d if d < 10.0 && d.fract() >= 0.05 => format!("{d:.1} days"),
        d if d < 1.5 => "day".to_owned(),
        d => format!("{} days", show::number(d.round())),
    }
}

/// A factor: `×2`, `×1.5`.
pub fn times(factor: f64) -> String {
    format!("×{factor}")
}

/// When a change is proven: `a doubling is provable after about 17m`.
pub fn delay(delay: Delay) -> String {
    match (delay.doubling, delay.within_a_day) {
        (Some(doubling), _) if doubling <= DAY => format!("a doubling is provable after about {}", about(doubling)),
        (_, Some(factor)) if delay.unsure => format!("its usual range is too uncertain yet to prove less than {} within a day", times(factor)),
        (_, None) if delay.unsure => "its usual range is too uncertain yet to prove anything within a day".to_owned(),
        (_, Some(factor)) => format!("too quiet to prove less than {} within a day", times(factor)),
        (_, None) => "too quiet to prove anything within a day".to_owned(),
    }
}

/// `1 false alarm per day, shared by 84 gauges: this one may be wrong once in 84 days`
pub fn budget(budget: &Budget) -> String {
    let (count, period) = budget.false_alarms.split_once(" per ").unwrap_or((&budget.false_alarms, "day"));
    let alarms = if count == "1" { "false alarm" } else { "false alarms" };
    let gauges = if budget.gauges == 1 { "by 1 gauge".to_owned() } else { format!("by {} gauges", show::number(budget.gauges as f64)) };
    let shared = if budget.own { format!("this rule's own, shared {gauges}") } else { format!("shared {gauges}") };
    let part = if budget.share < 1.0 { format!(" (this environment has {} of it)", show::percent(budget.share)) } else { String::new() };
    let once = days(budget.days);
    let once = if once == "day" { "once a day".to_owned() } else { format!("once in {once}") };
    format!("{count} {alarms} per {period}{part}, {shared}: this one may be wrong {once}")
}

/// A rule of an environment in one word.
pub fn state(standing: &RuleStanding) -> &'static str {
    match standing {
        _ if standing.told > 0 => "alerting",
        RuleStanding { nodes: 0, .. } => "no calls yet",
        // Calls came, and none of those that it watches: no schema, no tool, no judge.
        RuleStanding { by_drift: true, gauged: 0, .. } => "nothing to watch yet",
        _ if standing.gauged > 0 && standing.learning == standing.gauged => "learning",
        _ if standing.firing > 0 => "off, not told",
        _ => "in range",
    }
}

/// `in range: 12 gauges, 3 learning, 0 outside, 0 told`, and what is no alert.
pub fn counts(standing: &RuleStanding) -> String {
    let RuleStanding { gauged, learning, firing, told, .. } = standing;
    let below = below(standing).map_or_else(String::new, |below| format!("; {below}"));
    format!("{}: {gauged} gauges, {learning} learning, {firing} outside, {told} told{below}", state(standing))
}

/// `2 below what is usual`: of what a rule watches, that of which it does not tell.
pub fn below(standing: &RuleStanding) -> Option<String> {
    (standing.ignored > 0).then(|| format!("{} below what is usual", show::number(standing.ignored as f64)))
}

/// What its budget costs a rule in delay, over all calls and in the middle group.
pub fn cost(standing: &RuleStanding) -> String {
    match (standing.delay, standing.median_delay) {
        (Some(Delay { doubling: Some(whole), .. }), Some(Delay { doubling: Some(group), .. })) if standing.nodes > 2 && whole.max(group) <= DAY => {
            format!("a doubling is provable after about {}, in the median group after about {}", about(whole), about(group))
        }
        (Some(whole), Some(group)) if standing.nodes > 2 => format!("{}; in the median group: {}", delay(whole), delay(group)),
        (Some(whole), _) => delay(whole),
        (None, Some(group)) => format!("in the median group: {}", delay(group)),
        (None, None) if !standing.by_drift => "not decided by drift".to_owned(),
        (None, None) if standing.gauged == 0 => "not known before it has something to watch".to_owned(),
        (None, None) => "not known while it learns".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_and_budgets_are_said_in_words() {
        let minutes = |minutes: u64| Some(Span::from_secs(minutes * 60));
        for (doubling, within_a_day, unsure, text) in [
            (minutes(17), Some(1.5), false, "a doubling is provable after about 17m"),
            (minutes(1), Some(1.5), false, "a doubling is provable after about 60s"),
            (minutes(600), Some(2.0), false, "a doubling is provable after about 10h"),
            (minutes(3000), Some(5.0), false, "too quiet to prove less than ×5 within a day"),
            (None, None, false, "too quiet to prove anything within a day"),
            (None, Some(3.0), true, "its usual range is too uncertain yet to prove less than ×3 within a day"),
        ] {
            assert_eq!(delay(Delay { doubling, within_a_day, unsure }), text);
        }
        let mut shared = Budget { false_alarms: "1 per day".into(), own: false, gauges: 84, share: 1.0, days: 84.0 };
        assert_eq!(budget(&shared), "1 false alarm per day, shared by 84 gauges: this one may be wrong once in 84 days");
        shared = Budget { false_alarms: "2 per week".into(), own: true, gauges: 1, share: 0.5, days: 3.5 };
        assert_eq!(
            budget(&shared),
            "2 false alarms per week (this environment has 50 % of it), this rule's own, shared by 1 gauge: this one may be wrong once in 3.5 days"
        );
    }
}
