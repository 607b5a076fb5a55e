//! The ways out that are not Slack's: webhooks, Alertmanager and subjects of NATS. Here is what the first two share: which incidents concern whom, under
//! which routes, and how one request ends. `ways/webhook.rs` and `ways/alertmanager.rs` know what is sent.
//!
//! Deliberately absent: order, retries and persistence, which are the outbox's; a request is one attempt, and says what the outbox must know of it.

mod alertmanager;
mod nats;
mod webhook;

pub use alertmanager::Alertmanager;
pub use nats::{Publisher, Refusals};
pub use webhook::{Call, Webhook, sign};

use crate::config::{Concern, Config};
use crate::error::Fault;
use crate::posted::Posted;
use crate::web::{self, broken};
use machine::incident::{Seen, Telling};
use model::plan::Severity;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of an answer: enough for the reason of a refusal. The rest is not read.
const ANSWER_MAX: usize = 4096;
/// Of that reason in the log and in the store, in characters.
const REASON_MAX: usize = 300;
/// Where an answer says to wait and not for how long.
const PAUSE: Duration = Duration::from_secs(30);
/// The longest that is waited for one answer's sake; a receiver that means more will say so again.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Webhooks and Alertmanagers of the configuration.
#[derive(Debug, Default)]
pub struct OtherWays {
    webhooks: BTreeMap<String, Webhook>,
    /// By their address.
    alertmanagers: BTreeMap<String, Alertmanager>,
    /// Environments of which nobody is told.
    quiet: BTreeSet<String>,
}

impl OtherWays {
    /// `public_url` is what links begin with, without a slash at the end.
    ///
    /// # Errors
    /// When a secret is configured and not there, or could be guessed, or the system has no certificates to trust.
    pub fn new(config: &Config, public_url: &str) -> Result<Self, Fault> {
        let mut ways = Self::default();
        if config.webhooks.is_empty() && config.alertmanager.urls.is_empty() {
            return Ok(ways);
        }
        let client = web::client("webhooks")?;
        for (name, webhook) in &config.webhooks {
            ways.webhooks.insert(name.clone(), Webhook::new(name, webhook, &client, public_url)?);
        }
        for url in &config.alertmanager.urls {
            ways.alertmanagers.insert(url.clone(), Alertmanager::new(url, &config.alertmanager, &client, public_url)?);
        }
        ways.quiet = config.environments.iter().filter(|(_, own)| !own.notify).map(|(name, _)| name.clone()).collect();
        Ok(ways)
    }

    /// The routes of what is told of an incident: `webhook:NAME`, `alertmanager:ADDRESS`.
    pub fn routes(&self, seen: &Seen) -> Vec<String> {
        if self.quiet.contains(&seen.environment) {
            return Vec::new();
        }
        let told = |webhook: &Webhook| webhook.concern().is_some_and(|concern| concerns(concern, seen));
        let webhooks = self.webhooks.iter().filter(|(_, webhook)| told(webhook)).map(|(name, _)| format!("webhook:{name}"));
        let alertmanagers = self.alertmanagers.iter().filter(|(_, one)| concerns(one.concern(), seen)).map(|(url, _)| format!("alertmanager:{url}"));
        webhooks.chain(alertmanagers).collect()
    }

    /// Tells what is told by one of these routes; `None`: it is none of ours. One that the configuration has no more is refused.
    pub async fn post(&self, route: &str, telling: &Telling, maybe_repeat: bool) -> Option<Posted> {
        match route.split_once(':')? {
            ("webhook", name) => Some(match self.webhooks.get(name) {
                Some(webhook) => webhook.post(telling, maybe_repeat).await,
                None => gone(&format!("webhooks.{name}")),
            }),
            ("alertmanager", url) => Some(match self.alertmanagers.get(url) {
                Some(alertmanager) => alertmanager.post(telling).await,
                None => gone("this address"),
            }),
            _ => None,
        }
    }

    /// Calls a webhook for somebody who chose an action: one attempt.
    pub async fn call(&self, name: &str, call: &Call<'_>) -> Posted {
        match self.webhooks.get(name) {
            Some(webhook) => webhook.call(call).await,
            None => gone(&format!("webhooks.{name}")),
        }
    }
}

/// What an alert or a message still names, and the configuration does not.
fn gone(what: &str) -> Posted {
    Posted::Refused(format!("{what} is not in the configuration any more"))
}

/// A hint for what people can mend of these routes.
pub fn hint(problem: &str) -> &'static str {
    match problem.get(..8).unwrap_or(problem) {
        "HTTP 401" | "HTTP 403" => "is the secret or the sign-in the one that the receiver knows?",
        "HTTP 404" | "HTTP 405" | "HTTP 410" => "is the address right? nothing there takes a POST",
        "HTTP 301" | "HTTP 302" | "HTTP 303" | "HTTP 307" | "HTTP 308" => {
            "redirects are not followed, for they could lead anywhere: configure the address that it leads to"
        }
        "HTTP 413" => "the receiver takes smaller requests alone; ours are at most some 100 KiB",
        _ => "the receiver's own log says what it does not like",
    }
}

/// Whether somebody is to be told of this incident. What it had at worst counts, so that an incident that eases is told to its end.
fn concerns(concern: &Concern, seen: &Seen) -> bool {
    let worst = seen.places.iter().map(|place| place.severity).chain([seen.severity, seen.lead.severity]).max();
    worst >= Some(concern.severity) && (concern.environments.is_empty() || concern.environments.contains(&seen.environment))
}

/// As configuration, payloads and labels have it.
pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// One POST of JSON within `timeout`, and what the outbox must know of how it ended. It follows no redirect.
async fn post(request: reqwest::RequestBuilder, body: Vec<u8>, timeout: Duration) -> Posted {
    let asked = async {
        let mut response = match request.header(CONTENT_TYPE, "application/json").body(body).send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Posted::Again(broken(&error)),
            // It cannot even be asked.
            Err(error) if error.is_builder() => return Posted::Refused("the address is none that can be asked".to_owned()),
            Err(error) => return Posted::Unknown(broken(&error)),
        };
        let (status, pause) = (response.status().as_u16(), pause(response.headers()));
        if response.status().is_success() {
            return Posted::Sent(format!("HTTP {status}"));
        }
        let mut answer = Vec::new();
        // What cannot be read of a reason is left out.
        while let Ok(Some(chunk)) = response.chunk().await {
            answer.extend_from_slice(&chunk[..chunk.len().min(ANSWER_MAX - answer.len())]);
            if answer.len() == ANSWER_MAX {
                break;
            }
        }
        ended(status, pause, &String::from_utf8_lossy(&answer))
    };
    let late = |_| Posted::Unknown(format!("no answer within {} s", timeout.as_secs()));
    tokio::time::timeout(timeout, asked).await.unwrap_or_else(late)
}

/// What an answer other than yes means.
fn ended(status: u16, pause: Option<Duration>, answer: &str) -> Posted {
    let said = reason(answer);
    let problem = if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
    match status {
        429 => Posted::Later(pause.unwrap_or(PAUSE)),
        503 if pause.is_some() => Posted::Later(pause.unwrap_or(PAUSE)),
        // It did not get all of the request, or does not want it yet.
        408 | 425 => Posted::Again(problem),
        // A gateway that gave up waiting says nothing about the server behind it.
        502 | 504 => Posted::Unknown(problem),
        500.. => Posted::Again(problem),
        _ => Posted::Refused(problem),
    }
}

/// A text of somebody else's for one line of a log.
fn reason(answer: &str) -> String {
    let words = answer.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    words.chars().take(REASON_MAX).collect()
}

/// `Retry-After` in seconds; a date is taken for no number.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(Duration::from_secs(1), PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Span, Timestamp};
    use reqwest::header::HeaderValue;

    #[test]
    fn an_answer_says_whether_it_was_taken_may_be_tried_again_or_never_will_be() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (status, pause, expected) in [
            (429, seconds(7), Posted::Later(Duration::from_secs(7))),
            (429, None, Posted::Later(PAUSE)),
            (503, seconds(9), Posted::Later(Duration::from_secs(9))),
            (503, None, Posted::Again("HTTP 503: no".to_owned())),
            (500, seconds(9), Posted::Again("HTTP 500: no".to_owned())),
            (408, None, Posted::Again("HTTP 408: no".to_owned())),
            (504, None, Posted::Unknown("HTTP 504: no".to_owned())),
            (302, None, Posted::Refused("HTTP 302: no".to_owned())),
            (400, None, Posted::Refused("HTTP 400: no".to_owned())),
            (410, None, Posted::Refused("HTTP 410: no".to_owned())),
        ] {
            assert_eq!(ended(status, pause, "no"), expected, "{status} {pause:?}");
        }
    }

    #[test]
    fn a_reason_of_somebody_elses_is_one_short_line() {
        assert_eq!(reason("\u{1b}[31mno\r\nsuch\tthing\n"), "[31mno such thing");
        assert_eq!(reason(&"x".repeat(10_000)).len(), REASON_MAX);
        assert!(hint("HTTP 302: moved").contains("redirects are not followed"));
    }

    #[test]
    fn a_pause_is_bounded_and_a_date_is_none() {
        let of = |text: &'static str| pause(&[(RETRY_AFTER, HeaderValue::from_static(text))].into_iter().collect());
        assert_eq!(of("0"), Some(Duration::from_secs(1)));
        assert_eq!(of("100000"), Some(PAUSE_MAX));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }

    #[test]
    fn who_heard_of_the_worst_of_an_incident_hears_of_its_end() {
        let concern = |severity, environments: &[&str]| Concern { severity, environments: environments.iter().map(ToString::to_string).collect() };
        let mut seen = crate::sample::life("a", Timestamp::EPOCH + Span::from_secs(86_400))[1].incident.clone();
        seen.places[0].severity = Severity::Critical;
        seen.severity = Severity::Critical;
        seen.lead.severity = Severity::Critical;
        assert_eq!(seen.environment, "production");
        assert!(concerns(&concern(Severity::Critical, &[]), &seen) && concerns(&concern(Severity::Info, &["production"]), &seen));
        assert!(!concerns(&concern(Severity::Info, &["test"]), &seen));
        // What was critical is over, and a warning is left.
        for place in &mut seen.places {
            place.firing = place.severity == Severity::Warning;
        }
        seen.severity = Severity::Warning;
        assert!(concerns(&concern(Severity::Critical, &[]), &seen));
        seen.places.retain(|place| place.severity == Severity::Warning);
        seen.lead.severity = Severity::Warning;
        assert!(!concerns(&concern(Severity::Critical, &[]), &seen));
    }
}
