//! `streamgauge why`: what the calls of an alert tell of it: its most likely cause, whom it hits, and what it cost.

use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::message::agreeing;
use model::show;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// As in its message, or in /api/v1/alerts.
    alert_id: String,
    /// The answer as JSON, with the figures behind the words.
    #[arg(long)]
    json: bool,
}

pub(super) async fn why(args: Why, config: &Config) -> Result<Outcome, Fault> {
    let id: String = url::form_urlencoded::byte_serialize(args.alert_id.as_bytes()).collect();
    let why: Value = asking::get(config, &format!("/api/v1/alerts/{id}/why")).await?;
    if args.json {
        say(why);
        return Ok(Outcome::Well);
    }
    let count = |name: &str| why[name].as_f64().map_or("too many to count".to_owned(), show::number);
    let texts = |of: &Value| of.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    texts(&why["lines"]).iter().for_each(say);
    why["unexplained"].as_str().iter().for_each(say);
    if let Some(incident) = why["beyond"]["incident"].as_str() {
        say(format!("Looked at more widely, its incident {incident} says:"));
        texts(&why["beyond"]["cause"]).iter().for_each(say);
    }
    let runs = agreeing(why["runs"].as_u64().unwrap_or(2), "run", "runs");
    let users = agreeing(why["users"].as_u64().unwrap_or(2), "user", "users");
    say(format!("Bad calls  {} of {}, in {} {runs} of {} {users}", count("bad"), count("calls"), count("runs"), count("users")));
    say(format!("Their cost ${:.2}", why["cost_usd"].as_f64().unwrap_or_default()));
    let users = why["top_users"].as_array().into_iter().flatten().take(5);
    let users: Vec<_> = users.filter_map(|user| Some(format!("{} ({})", user[0].as_str()?, show::number(user[1].as_f64()?)))).collect();
    if !users.is_empty() {
        say(format!("Most hit   {}", users.join(", ")));
    }
    say(format!("Find them  streamgauge search '{}'", why["bad_query"].as_str().unwrap_or_default().replace('\'', r"'\''")));
    Ok(Outcome::Well)
}
