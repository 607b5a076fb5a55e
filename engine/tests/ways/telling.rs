//! What there is to tell, and who is configured to hear it.

use machine::incident::Telling;
use model::Timestamp;
use model::plan::Severity;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use streamgauge::config::{AlertmanagerAuth, AlertmanagerConfig, Concern, Config, Secret, WebhookConfig};
use streamgauge::sample;
use streamgauge::ways::OtherWays;

pub const PUBLIC_URL: &str = "https://streamgauge.example";

/// Opened, grown, acknowledged, eased, resolved, the last just now.
pub fn life(mark: &str) -> Vec<Telling> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    sample::life(mark, Timestamp::from_millis(since.as_millis() as i64).expect("it is a time"))
}

fn all() -> Concern {
    Concern { severity: Severity::Info, environments: Vec::new() }
}

pub fn webhook(url: &str, secret: Option<Secret>) -> OtherWays {
    let mut config = Config::default();
    let webhook = WebhookConfig { url: url.to_owned(), secret, timeout: Duration::from_secs(1), concern: Some(all()) };
    config.webhooks.insert("pager".to_owned(), webhook);
    OtherWays::new(&config, PUBLIC_URL).expect("it is configured")
}

pub fn alertmanager(url: &str) -> OtherWays {
    let mut config = Config::default();
    let (timeout, resolve_after) = (Duration::from_secs(5), Duration::from_secs(4 * 3600));
    config.alertmanager =
        AlertmanagerConfig { urls: vec![url.to_owned()], auth: AlertmanagerAuth::Anonymous, timeout, concern: all(), resolve_after };
    OtherWays::new(&config, PUBLIC_URL).expect("it is configured")
}
