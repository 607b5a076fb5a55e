//! Which notification goes where: Slack channels by rule, environment and default, and NATS subjects for machines.

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

    /// The ways of an incident: every channel that any of its alerts is for.
    pub fn of_incident(&self, telling: &Telling, alerts: &[Notification]) -> Vec<Route> {
        let mut routes = BTreeSet::new();
        for alert in alerts {
            let (own, notify) = self.environments.get(&alert.environment).map_or((None, true), |(channel, notify)| (channel.as_ref(), *notify));
            if notify {
                let channel = alert.channel.as_ref().or(own).unwrap_or(&self.channel);
                routes.extend(self.people.iter().map(|way| Route { to: format!("{way}:{channel}"), superseding: *way == "slack", threaded: true }));
            }
        }
        if self.nats {
            let to = format!("nats:streamgauge.incidents.{}", token(&telling.incident.environment));
            routes.insert(Route { to, superseding: false, threaded: false });
        }
        routes.into_iter().collect()
    }
}

/// A name as one token of a subject.
fn token(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || matches!(c, '.' | '*' | '>') || c.is_control() { '_' } else { c }).collect()
}
