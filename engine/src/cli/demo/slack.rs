//! The Slack that the demo talks to: a counterpart on loopback, whose page shows the channel as people would see it, with buttons that work.
//!
//! Whatever tokens this machine has, a demo is never told to a real team. Deliberately absent: what is told there, which is the engine's.

use crate::config::{Config, Secret, Sensitive};
use crate::error::Fault;
use fixtures_slack::{Settings, Workspace};
use std::net::{Ipv4Addr, SocketAddr};

/// Starts it on the port after the listener's, or on any where that is taken, and has `config` name it in place of the configured Slack.
///
/// # Errors
/// When this machine gives no port on loopback.
pub(super) async fn instead(config: &mut Config) -> Result<Workspace, Fault> {
    let slack = &config.slack;
    let own = config.environments.values().filter_map(|environment| environment.channel.as_ref());
    let channels: Vec<_> = [&slack.channel].into_iter().chain(&slack.fallback_channel).chain(own).cloned().collect();
    // The engine keeps Slack's pace by itself, and a demo does not wait for more.
    let settings =
        |port| Settings { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), channels: channels.clone(), paced: false, ..Settings::default() };
    // Port 0 has no next one: the system chose, and chooses again.
    let beside = config.http.listen.port().checked_add(1).filter(|port| *port > 1).unwrap_or(0);
    let started = match Workspace::start(settings(beside)).await {
        Ok(started) => Ok(started),
        Err(_) => Workspace::start(settings(0)).await,
    };
    let workspace = started.map_err(|error| Fault::plain(format!("cannot listen on loopback for the demo's Slack: {error}")))?;
    let Settings { bot_token, app_token, .. } = Settings::default();
    config.slack.api_url = workspace.api_url();
    config.slack.bot_token = Secret::Given(Sensitive::new(&bot_token));
    config.slack.app_token = Secret::Given(Sensitive::new(&app_token));
    config.slack.signing_secret = Secret::Given(None);
    // Whoever looks at the page acts as its first person, and may press everything.
    config.slack.operators = vec![workspace.person("ana").id().to_owned()];
    Ok(workspace)
}
