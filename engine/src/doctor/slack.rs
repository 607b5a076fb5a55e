//! Slack without posting: whose token it is, which scopes it has and misses, whether the bot may write where people are to be told, and whether people
//! can answer.
//!
//! What it may not read (channels, without the scope `channels:read`) is said to be unknown.

use super::{Finding, PATIENCE};
use crate::config::{Config, Sensitive};
use crate::slack::hint;
use crate::slack::scopes::{self, Need, SCOPES, Scope};
use crate::slack::token::{is_of_token, way_out};
use crate::start::load_rules;
use crate::web;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// Pages of a thousand channels: the largest workspaces that lists are still read of within seconds.
const PAGES_MAX: usize = 10;
/// Gives out an address for Socket Mode.
const OPEN: &str = "apps.connections.open";
/// Of all questions together.
const ALL: Duration = Duration::from_secs(8);

/// A channel as Slack knows it.
struct Channel {
    member: bool,
    archived: bool,
    private: bool,
}

struct Asked<'a> {
    client: &'a reqwest::Client,
    api_url: &'a str,
    token: &'a Sensitive,
    until: Instant,
}

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let slack = &config.slack;
    let token = match slack.bot_token.resolve() {
        Err(error) => return vec![Finding::failed("slack", format!("cannot {error}").replace("\nhint: ", "; "), "see slack.bot_token")],
        Ok(None) => {
            let seen = format!("off: {} is not set, so nobody but programs is told", slack.bot_token);
            return vec![Finding::warning("slack", seen, "set the bot token (xoxb-…) of an app that is made from deploy/slack/manifest.yaml")];
        }
        Ok(Some(token)) => token,
    };
    let client = match web::client("Slack") {
        Ok(client) => client,
        Err(fault) => return vec![Finding::fault("slack", &fault)],
    };
    let asked = Asked { client: &client, api_url: &slack.api_url, token: &token, until: Instant::now() + ALL };
    let (who, scopes) = match asked.ask("auth.test", &[]).await {
        Err(why) if is_of_token(&why) => {
            return vec![Finding::failed("slack", format!("{} refuses the bot token: {why}", slack.api_url), way_out(&why, &slack.bot_token))];
        }
        Err(why) => {
            let hint = "is slack.api_url right, and does a firewall let this machine through?";
            return vec![Finding::failed("slack", format!("{} refuses: {why}", slack.api_url), hint)];
        }
        Ok(answer) => answer,
    };
    let text = |name: &str| who[name].as_str().unwrap_or("?");
    let mut findings = vec![Finding::ok("slack", format!("signed in as {} in {}", text("user"), text("team")))];
    findings.push(permissions(config, scopes.as_ref()));
    findings.extend(channels(config, &asked, &scopes.unwrap_or_default()).await);
    findings.extend(sockets(config, &asked).await);
    findings
}

/// What the token may do, and what of the configuration it may not do.
fn permissions(config: &Config, has: Option<&BTreeSet<String>>) -> Finding {
    let check = "slack scopes";
    let Some(has) = has else {
        return Finding::warning(check, "could not be told: the answer names none", "give the app chat:write and chat:write.public");
    };
    // Over connections that the engine opens, or over HTTP.
    let answers = [&config.slack.app_token, &config.slack.signing_secret].into_iter().any(|secret| matches!(secret.resolve(), Ok(Some(_))));
    let missing = scopes::missing(&config.slack, answers, has);
    if missing.is_empty() {
        let without: Vec<_> = SCOPES.iter().filter(|scope| scope.need == Need::Comfort && !has.contains(scope.name)).map(purpose).collect();
        let rest = if without.is_empty() { String::new() } else { format!("; without {}", without.join(", ")) };
        return Finding::ok(check, format!("{}{rest}", listed(has)));
    }
    let names: Vec<_> = missing.iter().map(|scope| scope.name).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    let seen = format!("{} {verb} missing; the token has {}", names.join(", "), listed(has));
    let needed = missing.iter().map(purpose).collect::<Vec<_>>().join("; ");
    let hint =
        format!("needed: {needed}; add {} on the app's page OAuth & Permissions and reinstall it", if names.len() == 1 { "it" } else { "them" });
    if missing.iter().any(|scope| scope.need == Need::Always) { Finding::failed(check, seen, hint) } else { Finding::warning(check, seen, hint) }
}

fn purpose(scope: &Scope) -> String {
    format!("{} ({})", scope.name, scope.purpose)
}

/// Whether Slack would let us hear what people say back; nothing where that is not asked for.
async fn sockets(config: &Config, asked: &Asked<'_>) -> Option<Finding> {
    let check = "slack socket mode";
    let token = match config.slack.app_token.resolve() {
        Err(error) => return Some(Finding::failed(check, format!("cannot {error}").replace("\nhint: ", "; "), "see slack.app_token")),
        Ok(token) => token?,
    };
    let asked = Asked { token: &token, ..*asked };
    Some(match asked.ask("apps.connections.open", &[]).await {
        Ok(_) => Finding::ok(check, "Slack lets us hear buttons and commands"),
        Err(why) => Finding::failed(check, format!("Slack refuses: {why}"), crate::hearing::way_in(&why)),
    })
}

fn listed(scopes: &BTreeSet<String>) -> String {
    scopes.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Where people are told, and what of the configuration says so.
fn named(config: &Config) -> BTreeMap<String, Vec<String>> {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    named.entry(config.slack.channel.clone()).or_default().push("slack.channel".to_owned());
    if let Some(channel) = &config.slack.fallback_channel {
        named.entry(channel.clone()).or_default().push("slack.fallback_channel".to_owned());
    }
    for (name, own) in config.environments.iter().filter(|(_, own)| own.notify) {
        if let Some(channel) = &own.channel {
            named.entry(channel.clone()).or_default().push(format!("environments.{name}"));
        }
    }
    // Rules with mistakes are `check`'s to tell.
    for spec in load_rules(config).map(|loaded| loaded.rules.specs()).unwrap_or_default() {
        if let Some(channel) = spec.rule.channel {
            named.entry(channel).or_default().push(format!("rule {}", spec.rule.name));
        }
    }
    named
}

async fn channels(config: &Config, asked: &Asked<'_>, scopes: &BTreeSet<String>) -> Vec<Finding> {
    let named = named(config);
    let may_read = |scope: &str| scopes.contains(scope);
    if !may_read("channels:read") {
        let names: Vec<_> = named.keys().map(String::as_str).collect();
        let seen = format!("whether the bot may write to {} could not be told without posting", names.join(", "));
        let hint = "give the app the scope channels:read (and groups:read for private channels), or watch for the first alert";
        return vec![Finding::warning("slack channels", seen, hint)];
    }
    let found = asked.find(named.keys(), may_read("groups:read")).await;
    let one = |(name, of): (&String, &Vec<String>)| {
        let (check, of) = (format!("slack {name}"), of.join(", "));
        let found = match &found {
            Ok(found) => found,
            Err(why) => return Finding::warning(check, format!("could not be told: {why} ({of})"), hint(why)),
        };
        match found.get(name) {
            None if name.starts_with('D') => {
                Finding::warning(check, format!("a direct message; whether it arrives could not be told ({of})"), "use a channel")
            }
            None if !may_read("groups:read") => {
                let hint = "create it or correct the name; to look at private channels the app needs the scope groups:read";
                Finding::warning(check, format!("no public channel; whether there is a private one could not be told ({of})"), hint)
            }
            None => Finding::failed(check, format!("there is no such channel that the bot can see ({of})"), hint("channel_not_found")),
            Some(channel) if channel.archived => Finding::failed(check, format!("archived ({of})"), hint("is_archived")),
            Some(channel) if channel.member => Finding::ok(check, format!("the bot is a member ({of})")),
            Some(channel) if !channel.private && may_read("chat:write.public") => {
                Finding::ok(check, format!("public, open to the bot without joining ({of})"))
            }
            Some(_) => Finding::failed(check, format!("the bot is not a member ({of})"), hint("not_in_channel")),
        }
    };
    named.iter().map(one).collect()
}

impl Asked<'_> {
    /// What a method answers, and the scopes of the token where the answer names them.
    async fn ask(&self, method: &str, with: &[(&str, &str)]) -> Result<(Value, Option<BTreeSet<String>>), String> {
        let url = Url::parse_with_params(&format!("{}/{method}", self.api_url), with).map_err(|error| format!("slack.api_url: {error}"))?;
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", self.token.expose());
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer).map_err(|_| "invalid_auth".to_owned())?);
        let until = self.until.min(Instant::now() + PATIENCE);
        // What gives something out is no GET.
        let request = if method == OPEN { self.client.post(url).body("") } else { self.client.get(url) };
        let answer = web::answer(request.headers(headers));
        let answer = tokio::time::timeout_at(until, answer).await.map_err(|_| "no answer in time".to_owned())??;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| format!("HTTP {}, and no answer of Slack's", answer.status))?;
        if body["ok"] != true {
            return Err(body["error"].as_str().map_or_else(|| format!("HTTP {}", answer.status), ToOwned::to_owned));
        }
        let scopes = answer.headers.get("x-oauth-scopes").and_then(|value| value.to_str().ok());
        let scopes = scopes.map(|all| all.split(',').map(|scope| scope.trim().to_owned()).filter(|scope| !scope.is_empty()).collect());
        Ok((body, scopes))
    }

    /// The channels of these names or ids, as far as the bot can see them.
    async fn find(&self, names: impl Iterator<Item = &String>, private: bool) -> Result<BTreeMap<String, Channel>, String> {
        let wanted: BTreeSet<&str> = names.map(String::as_str).collect();
        let types = if private { "public_channel,private_channel" } else { "public_channel" };
        let mut found = BTreeMap::new();
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let (page, _) = self.ask("conversations.list", &[("types", types), ("limit", "1000"), ("cursor", &cursor)]).await?;
            for channel in page["channels"].as_array().into_iter().flatten() {
                let is = |name: &str| channel[name] == true;
                let name = format!("#{}", channel["name"].as_str().unwrap_or_default());
                for key in [name.as_str(), channel["id"].as_str().unwrap_or_default()].into_iter().filter(|key| wanted.contains(key)) {
                    found.insert(key.to_owned(), Channel { member: is("is_member"), archived: is("is_archived"), private: is("is_private") });
                }
            }
            cursor = page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() || found.len() == wanted.len() {
                return Ok(found);
            }
        }
        Err(format!("the workspace has more than {PAGES_MAX},000 channels"))
    }
}
