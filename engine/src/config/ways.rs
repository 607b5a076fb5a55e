//! `[webhooks.NAME]` and `[alertmanager]`: who else hears of incidents, of which, and how we sign what they hear.
//!
//! Not here: reading the secrets, and what is sent (`ways.rs`).

use super::errors::Fault;
use super::read::time;
use super::section::Section;
use super::tree::Node;
use super::values::Secret;
use model::plan::Severity;
use std::time::Duration;
use url::Url;

/// Which incidents somebody is told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Concern {
    /// At least; the highest that any of its alerts had counts, so that whoever heard of the beginning hears of the end.
    pub severity: Severity,
    /// Empty: all that notify.
    pub environments: Vec<String>,
}

/// One `[webhooks.NAME]`: what is told of incidents is posted there, and rules' actions may call it.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookConfig {
    /// Written as it is to be asked, a slash at the end included. It may hold a secret in its path, so it is never printed.
    pub url: String,
    /// What requests are signed with; `None`: they are not.
    pub secret: Option<Secret>,
    /// Of one request.
    pub timeout: Duration,
    /// Which incidents it is told of; `None`: of none, it is there for actions alone.
    pub concern: Option<Concern>,
}

/// `[alertmanager]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertmanagerConfig {
    /// Every member of a cluster, for they do not tell each other of alerts; without a slash at the end. Empty: none is told.
    pub urls: Vec<String>,
    pub auth: AlertmanagerAuth,
    /// Of one request.
    pub timeout: Duration,
    pub concern: Concern,
    /// After this without a word from us it takes an alert to be over.
    pub resolve_after: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AlertmanagerAuth {
    Anonymous,
    Bearer(Secret),
    Basic { user: Secret, password: Secret },
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn webhook(webhook: &mut Section<'_>) -> Option<WebhookConfig> {
    let url = webhook.read("url", |node| address(node.text()?));
    if url.is_none() {
        webhook.refuse(&[], Fault::new("needs `url`", "say where to post, such as url = \"https://hooks.example/streamgauge\""));
    }
    let secret = webhook.secret("secret");
    let timeout = webhook.read("timeout", |node| time(node, SECOND..=MINUTE)).unwrap_or(10 * SECOND);
    let told = webhook.read("incidents", Node::bool).unwrap_or(true);
    let concern = concern(webhook);
    Some(WebhookConfig { url: url?, secret, timeout, concern: told.then_some(concern) })
}

pub(super) fn alertmanager(section: &mut Section<'_>) -> AlertmanagerConfig {
    let base = |node: &Node| -> Result<String, Fault> {
        let url = address(node.text()?)?;
        if url.contains("/api/v") {
            return Err(Fault::new("must be the address of Alertmanager itself", "leave /api/v2/alerts out, such as \"http://127.0.0.1:9093\""));
        }
        Ok(url.trim_end_matches('/').to_owned())
    };
    let urls = section.read("url", |node| if node.text().is_ok() { Ok(vec![base(node)?]) } else { node.list(base) }).unwrap_or_default();
    let auth = match (section.secret("token"), section.secret("user"), section.secret("password")) {
        (None, None, None) => AlertmanagerAuth::Anonymous,
        (Some(token), None, None) => AlertmanagerAuth::Bearer(token),
        (None, Some(user), Some(password)) => AlertmanagerAuth::Basic { user, password },
        _ => {
            let fault = Fault::new("must sign in one way: `token`, or `user` with `password`", "keep the keys of one way, and remove the others");
            section.refuse(&["token", "user", "password"], fault);
            AlertmanagerAuth::Anonymous
        }
    };
    AlertmanagerConfig {
        urls,
        auth,
        timeout: section.read("timeout", |node| time(node, SECOND..=MINUTE)).unwrap_or(10 * SECOND),
        concern: concern(section),
        // An incident that fires is told at least every half hour; what is less than two of those would end and begin without a reason.
        resolve_after: section.read("resolve_after", |node| time(node, HOUR..=24 * HOUR)).unwrap_or(4 * HOUR),
    }
}

fn concern(section: &mut Section<'_>) -> Concern {
    Concern {
        severity: section.read("severity", severity).unwrap_or(Severity::Info),
        environments: section.read("environments", |node| node.list(|node| Ok(node.text()?.to_owned()))).unwrap_or_default(),
    }
}

fn severity(node: &Node) -> Result<Severity, Fault> {
    match node.text()? {
        "info" => Ok(Severity::Info),
        "warning" => Ok(Severity::Warning),
        "critical" => Ok(Severity::Critical),
        other => Err(Fault::new(
            format!("must be \"info\", \"warning\" or \"critical\", not \"{other}\""),
            "incidents of this severity and above are told",
        )),
    }
}

/// An address over HTTP. Nothing of it is repeated: many hold a secret in their path.
fn address(text: &str) -> Result<String, Fault> {
    let wrong = || Fault::new("must be an address that starts with https:// or http://", "such as \"https://hooks.example/streamgauge\"");
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none_or(str::is_empty) || text.contains(char::is_whitespace) {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "remove the part before @; what signs a request is read from { env = \"NAME\" } or { file = \"path\" }";
        return Err(Fault::new("holds a user or a password", hint));
    }
    Ok(text.to_owned())
}
