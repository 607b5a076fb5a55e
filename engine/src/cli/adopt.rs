//! `streamgauge adopt`: what an alert shows is normal from now on.

use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(super) struct Adopt {
    /// As in its message, or in /api/v1/alerts.
    alert_id: String,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn adopt(args: Adopt, config: &Config) -> Result<Outcome, Fault> {
    let id: String = url::form_urlencoded::byte_serialize(args.alert_id.as_bytes()).collect();
    let came: Value = asking::post(config, &format!("/api/v1/alerts/{id}/adopt")).await?;
    if args.json {
        say(came);
    } else {
        let labels: Vec<_> = came["group"].as_object().into_iter().flatten().filter_map(|(_, label)| label.as_str()).collect();
        say(format!("{} — {}", came["rule"].as_str().unwrap_or_default(), labels.join(" · ")));
        say(came["what"].as_str().unwrap_or_default());
    }
    Ok(Outcome::Well)
}
