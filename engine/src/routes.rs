//! Which notification goes where: Slack channels by rule, environment and default, those that people subscribed, and NATS subjects for machines.

use crate::subscriptions::Subscriptions;
use machine::Notification;
use machine::incident::Telling;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub struct Routes {
    /// `slack` and, in the demo, `terminal`; empty when nobody is to be told but machines.
    pub people: Vec<&'static str>,
    pub channel: String,
    /// By environment: a channel of its own, and whether it notifies at all.
    pub environments: BTreeMap<String, (Option<String>, bool)>,
    pub nats: bool,
    /// Channels of Slack that hear of more than that.
    pub subscriptions: Subscriptions,
}

/// One way out of an incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// `slack:#llm-alerts`, `nats:…`.
    pub to: String,
    /// There is one message, so that a later one makes earlier ones needless that are not sent yet.
    pub superseding: bool,
    /// What happened is said in a thread as well.
    pub threaded: bool,
}

impl Routes {
    /// The ways of an alert's notification: machines that follow alerts.
    pub fn of(&self, notification: &Notification) -> Vec<String> {
        let subject = || format!("nats:streamgauge.alerts.{}.{}", token(&notification.environment), token(&notification.rule));
        self.nats.then(subject).into_iter().collect()
    }

    /// The ways of an incident: every channel that any of its alerts is for, or that subscribed to any of them.
    pub fn of_incident(&self, telling: &Telling, alerts: &[Notification]) -> Vec<Route> {
        let mut routes = BTreeSet::new();
        let mut channels: BTreeSet<&str> = BTreeSet::new();
        for alert in alerts {
            let (own, notify) = self.environments.get(&alert.environment).map_or((None, true), |(channel, notify)| (channel.as_ref(), *notify));
            if notify {
                let channel = alert.channel.as_ref().or(own).unwrap_or(&self.channel);
                channels.insert(channel);
                routes.extend(self.people.iter().map(|way| Route { to: format!("{way}:{channel}"), superseding: *way == "slack", threaded: true }));
            }
        }
        if self.people.contains(&"slack") {
            routes.extend(self.subscribed(alerts, &channels).into_iter().map(|id| Route {
                to: format!("slack:{id}"),
                superseding: true,
                threaded: true,
            }));
        }
        if self.nats {
            let to = format!("nats:streamgauge.incidents.{}", token(&telling.incident.environment));
            routes.insert(Route { to, superseding: false, threaded: false });
        }
        routes.into_iter().collect()
    }

    /// The ids of the channels that subscribed to any of the alerts and are not told anyway. A channel that the configuration names is known by its name
    /// there, and by its id and name here.
    fn subscribed(&self, alerts: &[Notification], told: &BTreeSet<&str>) -> BTreeSet<String> {
        let notifies = |alert: &&Notification| self.environments.get(&alert.environment).is_none_or(|(_, notify)| *notify);
        let is_told = |id: &str, name: &str| told.iter().any(|known| *known == id || known.strip_prefix('#').is_some_and(|known| known == name));
        let all = self.subscriptions.all();
        let wanted =
            all.iter().filter(|wish| !is_told(&wish.channel, &wish.name) && alerts.iter().filter(notifies).any(|alert| wish.filter.takes(alert)));
        wanted.map(|wish| wish.channel.clone()).collect()
    }
}

/// A name as one token of a subject.
fn token(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || matches!(c, '.' | '*' | '>') || c.is_control() { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriptions::{Filter, Subscription};
    use model::Timestamp;
    use serde_json::json;

    fn alert(environment: &str, stage: &str, channel: Option<&str>) -> Notification {
        serde_json::from_value(json!({ "id": "1-fired", "reason": "fired", "at": "2026-11-22T10:00:00Z", "alert_id": "1", "rule": "errors",
            "severity": "warning", "environment": environment, "group": [["stage", stage]], "summary": "x", "observed": [],
            "began": "2026-11-22T10:00:00Z", "fired": "2026-11-22T10:00:00Z", "worst": null, "examples": [], "labels": [], "actions": [],
            "owner": null, "hit": [], "channel": channel, "runbook": null }))
        .expect("it is a notification")
    }

    fn telling(alert: &Notification) -> Telling {
        let seen = json!({ "id": "i1", "environment": alert.environment, "firing": true, "severity": "warning", "began": "2026-11-22T10:00:00Z",
            "ended": null, "acknowledged": null, "silenced": null, "returned": 0, "lead": alert, "places": [], "alerts": 1, "firing_alerts": 1,
            "rules": ["errors"], "findings": null, "history": [] });
        let telling =
            json!({ "id": "i1-1", "at": "2026-11-22T10:00:00Z", "occasion": { "is": "opened" }, "by": null, "aloud": true, "incident": seen });
        serde_json::from_value(telling).expect("it is a telling")
    }

    fn check(subscriptions: &[(&str, &str, &[(&str, &str)])], alerts: &[Notification]) -> Vec<String> {
        let at = Timestamp::parse("2026-11-22T10:00:00Z").expect("a time");
        let wish = |(channel, name, terms): &(&str, &str, &[(&str, &str)])| Subscription {
            channel: (*channel).to_owned(),
            name: (*name).to_owned(),
            filter: Filter { severity: None, terms: terms.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect() },
            by: "@ana".to_owned(),
            at,
        };
        let routes = Routes {
            people: vec!["slack"],
            channel: "#llm-alerts".to_owned(),
            environments: [("test".to_owned(), (None, false)), ("staging".to_owned(), (Some("C0STAGING".to_owned()), true))].into(),
            nats: false,
            subscriptions: Subscriptions::of(subscriptions.iter().map(wish).collect()),
        };
        routes.of_incident(&telling(&alerts[0]), alerts).into_iter().map(|route| route.to).collect()
    }

    #[test]
    fn a_channel_that_subscribed_is_told_beside_the_configured_one() {
        let extraction = alert("production", "extraction", None);
        let subscriptions: [(&str, &str, &[(&str, &str)]); 3] =
            [("C1", "oncall", &[("stage", "extraction")]), ("C1", "oncall", &[]), ("C2", "other", &[("stage", "synthesis")])];
        assert_eq!(check(&subscriptions, std::slice::from_ref(&extraction)), ["slack:#llm-alerts", "slack:C1"]);
        let both = [extraction, alert("production", "synthesis", None)];
        assert_eq!(check(&subscriptions, &both), ["slack:#llm-alerts", "slack:C1", "slack:C2"], "any alert of the incident is enough");
    }

    #[test]
    fn a_channel_is_told_once_whether_it_is_known_by_name_or_by_id() {
        let subscriptions: [(&str, &str, &[(&str, &str)]); 2] = [("C9", "llm-alerts", &[]), ("C0STAGING", "staging", &[])];
        assert_eq!(check(&subscriptions, &[alert("production", "a", None)]), ["slack:#llm-alerts", "slack:C0STAGING"]);
        assert_eq!(check(&subscriptions, &[alert("staging", "a", None)]), ["slack:C0STAGING", "slack:C9"]);
        assert_eq!(check(&subscriptions, &[alert("production", "a", Some("#staging"))]), ["slack:#staging", "slack:C9"]);
    }

    #[test]
    fn nobody_is_told_of_an_environment_that_notifies_nobody() {
        assert_eq!(check(&[("C1", "oncall", &[("environment", "test")])], &[alert("test", "a", None)]), Vec::<String>::new());
    }
}
