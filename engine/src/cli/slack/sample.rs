//! An incident of a rule as it might be: values around its expected range, labels that sound like some, and what people would be told of it.
//!
//! It goes through the same incidents as a real one, and a rule's own `check` speaks for itself where it fires on such values. Deliberately absent: any
//! call, and any claim that this happened.

use machine::incident::{Consequence, Curve, Example, Findings, Happening, Incidents, Settings, Telling};
use machine::{Notification, Observed, Reason};
use model::plan::{Decides, Plan, Range, Rule, Statistic, Watch};
use model::window::{Checked, Direction, Drift, GroupView, Observation, Ranked, wilson};
use model::{Key, Span, Timestamp, Unit};
use rules::RuleSet;

/// Points of its curve, a minute each.
const POINTS: u64 = 20;
/// How long it goes unseen.
const UNSEEN: Span = Span::from_secs(3 * 60);
/// Where it ends, how long after it fired.
pub(super) const LASTED: Span = Span::from_secs(42 * 60);
/// Calls in a window.
const CALLS: u64 = 500;

/// What a sample is made of.
pub(super) struct Sampled<'a> {
    pub plan: &'a Plan,
    pub rules: &'a RuleSet,
    /// Index into the plan's rules.
    pub rule: usize,
    pub environment: &'a str,
    pub groups: usize,
    pub resolved: bool,
    /// When it fires.
    pub now: Timestamp,
}

impl Sampled<'_> {
    fn rule(&self) -> &Rule {
        &self.plan.rules[self.rule]
    }

    /// What people are told of it, in order.
    pub fn tellings(&self) -> Vec<Telling> {
        let settings = Settings::default();
        let mut incidents = Incidents::new(settings, Vec::new(), Vec::new());
        let mut done = Vec::new();
        let alerts: Vec<Notification> = (0..self.groups).map(|number| self.alert(number)).collect();
        let mut at = self.now;
        // Enough for anything that waits, and what came after it.
        let step = Span::from_secs(30);
        let (first, rest) = alerts.split_at(1.min(alerts.len()));
        for alert in first {
            incidents.apply(Happening::Alert(Box::new(alert.clone())), at, &mut done);
        }
        self.go_on(&mut incidents, at, &mut done);
        for alert in rest {
            incidents.apply(Happening::Alert(Box::new(alert.clone())), at + Span::from_secs(5), &mut done);
        }
        at = at + step;
        self.go_on(&mut incidents, at, &mut done);
        if self.resolved {
            let incident = incidents.all().next().map(|incident| incident.id.clone()).unwrap_or_default();
            incidents.apply(Happening::Acknowledged { incident, by: "@ana".to_owned() }, at + step, &mut done);
            at = self.now + LASTED;
            for alert in &alerts {
                incidents.apply(Happening::Alert(Box::new(alert.ended(Reason::Resolved, at))), at, &mut done);
            }
            self.go_on(&mut incidents, at, &mut done);
        }
        done.into_iter().filter_map(|done| if let Consequence::Tell(telling) = done { Some(*telling) } else { None }).collect()
    }

    /// Answers what is to be looked into, and lets the time pass that things wait for.
    fn go_on(&self, incidents: &mut Incidents, at: Timestamp, done: &mut Vec<Consequence>) {
        for seconds in [1, 20] {
            let ids: Vec<String> = incidents.all().map(|incident| incident.id.clone()).collect();
            for incident in ids {
                let findings = Some(Box::new(self.findings(at)));
                incidents.apply(Happening::Explained { incident, findings }, at + Span::from_secs(seconds), done);
            }
        }
    }

    fn alert(&self, number: usize) -> Notification {
        let rule = self.rule();
        let group: Vec<(String, String)> = rule
            .group_by
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let last = at + 1 == rule.group_by.len();
                (key.to_string(), self.label(key, if last { number } else { 0 }))
            })
            .collect();
        let observations: Vec<Observation> = rule.watches.iter().map(|watch| self.observation(watch)).collect();
        let labels = group.iter().map(|(_, label)| label.clone()).collect();
        let view = GroupView { environment: self.environment.to_owned(), at: self.now, labels, observations: observations.clone() };
        let fired = match (rule.decides, self.rules.check(self.rule, &view)) {
            (Decides::Check(_), Checked::Fire(fire)) => Some(fire),
            _ => None,
        };
        let told = rule.watches.iter().zip(observations).filter(|(watch, _)| !watch.part);
        let observed: Vec<Observed> = told
            .map(|(watch, observation)| Observed {
                watch: watch.name.clone(),
                what: watch.statistic.describe(),
                unit: watch.statistic.unit(),
                window: watch.window.to_string(),
                of_what: watch.statistic.of_what().to_owned(),
                observation,
            })
            .collect();
        let summary = fired.as_ref().map(|fire| fire.summary.clone()).filter(|summary| !summary.is_empty());
        // As many digits as a real one has.
        let alert_id = format!("{:016x}", model::plan::fingerprint(&["sample", &rule.name, &number.to_string()]));
        Notification {
            id: format!("{alert_id}-fired"),
            reason: Reason::Fired,
            at: self.now,
            alert_id,
            rule: rule.name.clone(),
            severity: fired.as_ref().and_then(|fire| fire.severity).unwrap_or(rule.severity),
            environment: self.environment.to_owned(),
            group,
            summary: summary.unwrap_or_else(|| observed.first().map(sentence).unwrap_or_default()),
            worst: observed.first().map(|observed| observed.observation.clone()),
            observed,
            began: self.now - Span::from_secs(10),
            fired: self.now,
            examples: Vec::new(),
            labels: fired.map(|fire| fire.labels).unwrap_or_default(),
            actions: rule.actions.clone(),
            owner: rule.owner.clone(),
            hit: Vec::new(),
            channel: rule.channel.clone(),
            runbook: rule.runbook.clone(),
        }
    }

    /// A label that the rule would see: one that it filters by, else one that sounds like it.
    fn label(&self, key: &Key, number: usize) -> String {
        for watch in &self.rule().watches {
            let grouping = &self.plan.groupings[watch.grouping];
            let narrowed = watch.only.iter().filter_map(|(at, labels)| Some((grouping.keys.get(*at)?, labels)));
            let filtered = grouping.filter.0.iter().map(|(key, labels)| (key, labels)).chain(narrowed).find(|(known, _)| *known == key);
            if let Some(label) = filtered.and_then(|(_, labels)| labels.get(number % labels.len().max(1))) {
                return label.clone();
            }
        }
        let known: &[&str] = match key {
            Key::Stage => &["extraction", "retrieval", "synthesis", "ranking"],
            Key::Provider | Key::ServedProvider => &["openai", "anthropic", "google", "mistral"],
            Key::Model | Key::ServedModel => &["gpt-4o", "gpt-4o-mini", "claude-sonnet", "gemini-flash"],
            Key::Service => &["memory-api", "ingest", "assistant"],
            _ => &[],
        };
        known.get(number).map_or_else(|| format!("{key}-{}", number + 1), ToString::to_string)
    }

    fn observation(&self, watch: &Watch) -> Observation {
        let unit = watch.statistic.unit();
        let expected = watch.expect.unwrap_or_else(|| usual(&unit, &watch.statistic));
        let (value, direction) = outside(&unit, expected);
        let share = unit == Unit::Share;
        let holds = if share { (value * CALLS as f64).round() as u64 } else { CALLS };
        let value = if share { holds as f64 / CALLS as f64 } else { value };
        let (low, high) = if share { wilson(holds, CALLS) } else { (value, value) };
        let top = if let Statistic::Top(key, ..) = &watch.statistic {
            let label = self.label(key, 0);
            vec![Ranked { label, value, share: 0.62, calls: CALLS }]
        } else {
            Vec::new()
        };
        let since = self.now - UNSEEN;
        let either_way = Span::from_secs(90);
        let by_values = matches!(watch.statistic, Statistic::Quantile(..) | Statistic::Mean(_));
        let drift = matches!(self.rule().decides, Decides::Drift).then(|| Drift {
            since,
            since_between: (since - either_way, since + either_way),
            size: if share { value } else { 0.4 },
            usual: if share { f64::midpoint(expected.low.max(0.0), expected.high.min(1.0)) } else { 0.05 },
            beyond: by_values.then_some(expected.high),
            calls: CALLS,
            holds,
            log_evidence: 14.1,
            log_needed: 11.4,
        });
        let expected = Some(expected);
        Observation {
            value: Some(value),
            holds,
            calls: CALLS,
            low,
            high,
            effective: None,
            expected,
            learning: false,
            drifted: Some(direction),
            drift,
            top,
        }
    }

    fn findings(&self, at: Timestamp) -> Findings {
        let watch = self.rule().watches.iter().find(|watch| !watch.part);
        let over = at >= self.now + LASTED;
        let curve = watch.map(|watch| {
            let unit = watch.statistic.unit();
            let expected = watch.expect.unwrap_or_else(|| usual(&unit, &watch.statistic));
            let (value, _) = outside(&unit, expected);
            let inside = within(expected);
            let point = |number: u64| {
                let time = at - Span::from_secs(60 * (POINTS - 1 - number));
                // It wavers a little, the same each time.
                let wave = 1.0 + 0.12 * (number as f64 * 2.3).sin();
                let began = time.since(self.now - UNSEEN).millis() as f64 / UNSEEN.millis() as f64;
                let off = if over { 1.0 - (number as f64 / 8.0).min(1.0) } else { began.min(1.0) };
                (time, Some((inside + (value - inside) * off) * wave))
            };
            let most = if unit == Unit::Share { 1.0 } else { f64::INFINITY };
            let points = (0..POINTS).map(point).map(|(time, value)| (time, value.map(|value| value.clamp(0.0, most)))).collect();
            Curve { what: watch.statistic.describe(), unit, points, expected: Some(expected) }
        });
        let example = |event_id: &str, sequence| Example { event_id: event_id.to_owned(), sequence };
        Findings {
            cause: vec!["Most likely cause: provider openai with model gpt-4o (83 % of the excess; 9.1 % bad there, 0.3 % elsewhere)".to_owned()],
            common: Vec::new(),
            calls: Some(if over { 1234 } else { 41 }),
            runs: Some(if over { 310 } else { 23 }),
            users: Some(if over { 57 } else { 12 }),
            cost_usd: Some(if over { 1.23 } else { 0.09 }),
            examples: vec![example("sample-run-1", 1), example("sample-run-2", 2), example("sample-run-3", 3)],
            curve,
        }
    }
}

/// What a rule of this kind might have learned.
fn usual(unit: &Unit, statistic: &Statistic) -> Range {
    let (low, high) = match (unit, statistic) {
        (Unit::Share, _) => (0.002, 0.011),
        (Unit::Millis, _) => (900.0, 2400.0),
        (Unit::Dollars, Statistic::Sum(_) | Statistic::Top(..)) => (1.2, 3.1),
        (Unit::Dollars, _) => (0.004, 0.011),
        (Unit::Number(_), Statistic::Ratio { .. }) => (0.8, 1.3),
        (Unit::Number(_), _) => (180.0, 420.0),
    };
    Range { low, high }
}

/// In the middle of a range, which may have one end alone.
fn within(range: Range) -> f64 {
    match (range.low.is_finite(), range.high.is_finite()) {
        (true, true) => f64::midpoint(range.low, range.high),
        (true, false) => range.low * 1.2,
        (false, true) => range.high * 0.8,
        (false, false) => 1.0,
    }
}

/// A value that an alert would be about: above what is expected where there is room, else below.
fn outside(unit: &Unit, range: Range) -> (f64, Direction) {
    let most = if *unit == Unit::Share { 1.0 } else { f64::INFINITY };
    let above = match range.high {
        high if high <= 0.0 => 0.082,
        high if *unit == Unit::Share => (high * 7.0).min(f64::midpoint(high, 1.0)),
        high => high * 2.6,
    };
    if range.high < most { (above, Direction::Up) } else { (range.low * 0.4, Direction::Down) }
}

fn sentence(observed: &Observed) -> String {
    let seen = &observed.observation;
    let (Some(value), Some(range)) = (seen.value, seen.expected) else { return String::new() };
    let (side, end) = if seen.drifted == Some(Direction::Down) { ("below", range.low) } else { ("above", range.high) };
    format!("{} is about {}, {side} the {} that is expected", observed.what, observed.unit.show(value), observed.unit.show(end))
}
