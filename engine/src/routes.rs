//! Which notification goes where: Slack channels by rule, environment and default, and NATS subjects for machines.

use machine::Notification;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Routes {
    /// `slack` and, in the demo, `terminal`; empty when nobody is to be told but machines.
    pub people: Vec<&'static str>,
    pub channel: String,
    /// By environment: a channel of its own, and whether it notifies at all.
    pub environments: BTreeMap<String, (Option<String>, bool)>,
    pub nats: bool,
}

impl Routes {
    /// The routes of a notification, such as `slack:#llm-alerts` and `nats:streamgauge.alerts.production.fallback-rate`.
    pub fn of(&self, notification: &Notification) -> Vec<String> {
        let (own, notify) = self.environments.get(&notification.environment).map_or((None, true), |(channel, notify)| (channel.as_ref(), *notify));
        let mut routes = Vec::new();
        if notify {
            let channel = notification.channel.as_ref().or(own).unwrap_or(&self.channel);
            routes.extend(self.people.iter().map(|way| format!("{way}:{channel}")));
        }
        if self.nats {
            routes.push(format!("nats:streamgauge.alerts.{}.{}", token(&notification.environment), token(&notification.rule)));
        }
        routes
    }
}

/// A name as one token of a subject.
fn token(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || matches!(c, '.' | '*' | '>') || c.is_control() { '_' } else { c }).collect()
}
