//! An incident that never was, told as a real one is from its beginning to its end: for `streamgauge slack test`, and for tests of the ways out.
//!
//! The alerts are made up; what is told of them when, and in which words' shape, is decided by the same code as always (`machine::incident`).

use machine::incident::{Consequence, Example, Findings, Happening, Incidents, Settings, Telling};
use machine::{Hit, Notification, Observed, Reason};
use model::plan::{Range, Severity};
use model::window::{Direction, Drift, Observation};
use model::{Span, Timestamp, Unit};

/// The rule that it is said to be of; it stands in every headline.
pub const RULE: &str = "TEST of fallback-rate";
/// Who is said to have acknowledged it.
const WHO: &str = "streamgauge slack test";

/// What is told of it: opened, grew, acknowledged, eased, resolved; the last at `now`, the first 12 minutes before. `mark` makes its ids its own.
pub fn life(mark: &str, now: Timestamp) -> Vec<Telling> {
    let minutes = |minutes: u64| now - Span::from_secs(60 * minutes);
    let mut incidents = Incidents::new(Settings::default(), Vec::new(), Vec::new());
    let mut told = Vec::new();
    let first = alert(mark, "openai", "gpt-4o", minutes(12));
    let second = alert(mark, "openai", "gpt-4o-mini", minutes(8));
    let mut asked: Vec<String> = Vec::new();
    let mut happen = |happening: Happening, at: Timestamp| {
        let mut consequences = Vec::new();
        // What is behind it is known a few seconds after it was asked for, by when all that happens together has happened.
        if matches!(happening, Happening::Passed) {
            for incident in asked.drain(..) {
                incidents.apply(Happening::Explained { incident, findings: Some(Box::new(findings(at))) }, at, &mut consequences);
            }
        }
        incidents.apply(happening, at, &mut consequences);
        for consequence in consequences {
            match consequence {
                Consequence::Explain(incident) => asked.push(incident),
                Consequence::Tell(telling) => told.push(*telling),
                _ => {}
            }
        }
    };
    let (incident, soon) = (format!("i{}", first.alert_id), Span::from_secs(5));
    happen(Happening::Alert(Box::new(first.clone())), minutes(12));
    happen(Happening::Passed, minutes(12) + soon);
    happen(Happening::Alert(Box::new(second.clone())), minutes(8));
    happen(Happening::Passed, minutes(8) + soon);
    happen(Happening::Acknowledged { incident, by: WHO.to_owned() }, minutes(6));
    happen(Happening::Alert(Box::new(second.ended(Reason::Resolved, minutes(3)))), minutes(3));
    happen(Happening::Passed, minutes(3) + soon);
    happen(Happening::Alert(Box::new(first.ended(Reason::Resolved, now - soon))), now - soon);
    happen(Happening::Passed, now);
    told
}

fn alert(mark: &str, provider: &str, model: &str, fired: Timestamp) -> Notification {
    let alert_id = format!("test-{mark}-{provider}-{model}");
    let since = fired - Span::from_secs(120);
    let drift = Drift {
        since,
        since_between: (since - Span::from_secs(60), since + Span::from_secs(60)),
        size: 0.079,
        usual: 0.004,
        beyond: None,
        calls: 500,
        holds: 41,
        log_evidence: 21.0,
        log_needed: 13.0,
    };
    let seen = Observation {
        value: Some(0.082),
        holds: 41,
        calls: 500,
        low: 0.061,
        high: 0.109,
        expected: Some(Range { low: 0.002, high: 0.011 }),
        drifted: Some(Direction::Up),
        drift: Some(drift),
        ..Observation::default()
    };
    Notification {
        id: format!("{alert_id}-fired"),
        reason: Reason::Fired,
        at: fired,
        rule: RULE.to_owned(),
        severity: Severity::Warning,
        environment: "production".to_owned(),
        group: [("stage", "extraction"), ("provider", provider), ("model", model)].map(|(key, label)| (key.to_owned(), label.to_owned())).to_vec(),
        summary: "This is a test, and nothing is wrong: 8.2 % of calls fell back, where at most 1.1 % are expected.".to_owned(),
        observed: vec![Observed {
            watch: "value".to_owned(),
            what: "fallback rate".to_owned(),
            unit: Unit::Share,
            window: "5m".to_owned(),
            of_what: "calls".to_owned(),
            observation: seen.clone(),
        }],
        began: fired,
        fired,
        worst: Some(seen),
        examples: Vec::new(),
        labels: Vec::new(),
        actions: Vec::new(),
        owner: None,
        hit: Vec::<Hit>::new(),
        channel: None,
        runbook: None,
        alert_id,
    }
}

fn findings(at: Timestamp) -> Findings {
    Findings {
        cause: vec!["94 % of the calls that fell back had been rate limited by the provider first, against 2 % of the others.".to_owned()],
        common: vec![("stage".to_owned(), "extraction".to_owned())],
        calls: Some(123),
        runs: Some(98),
        users: Some(41),
        cost_usd: Some(0.57),
        examples: (1..=2)
            .map(|number| Example { event_id: format!("test-run-{number}"), sequence: at.millis().unsigned_abs() % 1000 + number })
            .collect(),
        curve: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_from_its_beginning_to_its_end_as_a_test_each_time() {
        let now = Timestamp::parse("2026-11-23T02:14:00Z").expect("it is a time");
        let told = life("a", now);
        assert_eq!(told.iter().map(|telling| telling.occasion.name()).collect::<Vec<_>>(), ["opened", "grew", "acknowledged", "eased", "resolved"]);
        assert!(told.iter().all(|telling| telling.incident.lead.rule == RULE && telling.incident.lead.summary.contains("This is a test")));
        assert!(told.iter().all(|telling| telling.incident.id == "itest-a-openai-gpt-4o"));
        assert_eq!(told.iter().map(|telling| telling.incident.firing_alerts).collect::<Vec<_>>(), [1, 2, 2, 1, 0]);
        assert_eq!((told[0].at, told[4].at, told[4].incident.ended), (now - Span::from_secs(715), now, Some(now - Span::from_secs(5))));
        assert_eq!(told[2].by.as_deref(), Some(WHO));
    }
}
