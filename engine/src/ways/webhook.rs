//! A webhook: each telling of an incident as one signed POST of JSON. Its shape is the promise that `deploy/README.md` makes to receivers: keys may be
//! added under a version, and none goes or means something else.
//!
//! Never a prompt or an answer: what is said of calls are numbers, names and addresses of pages.

use super::{post, severity};
use crate::config::{Concern, Sensitive, WebhookConfig};
use crate::error::Fault;
use crate::outbox::now;
use crate::posted::Posted;
use hmac::{Hmac, KeyInit, Mac};
use machine::incident::{Findings, Occasion, Place, Seen, Silence, Silenced, Telling};
use machine::{Notification, Observed};
use model::plan::Action;
use model::{Timestamp, Unit};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::fmt::Write;
use std::time::Duration;

/// Of the shape of the body.
const VERSION: u32 = 1;
/// A secret that is shorter could be guessed.
const SECRET_MIN: usize = 16;

const ID: HeaderName = HeaderName::from_static("x-streamgauge-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-streamgauge-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-streamgauge-signature");

/// One `[webhooks.NAME]`.
#[derive(Debug)]
pub struct Webhook {
    url: String,
    secret: Option<Sensitive>,
    timeout: Duration,
    concern: Option<Concern>,
    client: reqwest::Client,
    public_url: String,
}

impl Webhook {
    /// # Errors
    /// When its secret is configured and not there, or could be guessed.
    pub(super) fn new(name: &str, config: &WebhookConfig, client: &reqwest::Client, public_url: &str) -> Result<Self, Fault> {
        let made = "make one with `openssl rand -hex 32`";
        let secret = match &config.secret {
            None => None,
            Some(place) => match place.resolve().map_err(|error| Fault::plain(format!("webhooks.{name}: cannot {error}")))? {
                None => return Err(Fault::new(format!("webhooks.{name}: {place} is not set"), format!("set it, or remove `secret`; {made}"))),
                Some(secret) if secret.expose().len() < SECRET_MIN => {
                    return Err(Fault::new(format!("webhooks.{name}: a secret of fewer than {SECRET_MIN} characters could be guessed"), made));
                }
                secret => secret,
            },
        };
        Ok(Self {
            url: config.url.clone(),
            secret,
            timeout: config.timeout,
            concern: config.concern.clone(),
            client: client.clone(),
            public_url: public_url.to_owned(),
        })
    }

    /// Which incidents it is told of; `None`: of none.
    pub(super) fn concern(&self) -> Option<&Concern> {
        self.concern.as_ref()
    }

    /// Posts what is told; `maybe_repeat`: it may have come through before. Each attempt is signed anew, for the moment it is made.
    pub async fn post(&self, telling: &Telling, maybe_repeat: bool) -> Posted {
        self.send(&telling.id, body(telling, &self.public_url, maybe_repeat).to_string()).await
    }

    /// Posts that somebody chose an action.
    pub(super) async fn call(&self, call: &Call<'_>) -> Posted {
        self.send(&call.id, call.body(&self.public_url).to_string()).await
    }

    async fn send(&self, id: &str, body: String) -> Posted {
        let timestamp = now().millis().div_euclid(1000);
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: String| HeaderValue::from_str(&value).map(|value| headers.insert(name, value));
        let added = add(TIMESTAMP, timestamp.to_string()).and(add(ID, id.to_owned()));
        let added = added.and(self.secret.as_ref().map_or(Ok(None), |secret| add(SIGNATURE, sign(secret.expose(), timestamp, &body))));
        match added {
            Ok(_) => post(self.client.post(&self.url).headers(headers), body.into_bytes(), self.timeout).await,
            // Ids are hexadecimal digits, so only a store of another program's making comes here.
            Err(_) => Posted::Refused("its id cannot stand in a header".to_owned()),
        }
    }
}

/// An action of a rule that somebody chose.
#[derive(Clone, Debug)]
pub struct Call<'c> {
    /// The same at every attempt.
    pub id: String,
    pub action: &'c Action,
    pub by: &'c str,
    pub at: Timestamp,
    pub incident: &'c Seen,
    /// An attempt before this one may have come through.
    pub maybe_repeat: bool,
}

impl Call<'_> {
    /// As a telling's, so that one receiver can read both.
    fn body(&self, public_url: &str) -> Value {
        // It was written by the rules as JSON.
        let payload: Value = serde_json::from_str(&self.action.payload).unwrap_or_default();
        json!({
            "version": VERSION,
            "id": self.id,
            "occasion": "action",
            "detail": { "action": self.action.label, "payload": payload },
            "at": self.at,
            "by": self.by,
            "aloud": false,
            "possible_repeat": self.maybe_repeat,
            "incident": incident(self.incident, public_url),
        })
    }
}

/// The signature of a body that is sent at `timestamp`, seconds since 1970: `v1=` and, in hexadecimal, HMAC-SHA256 over the time, a dot and the body.
pub fn sign(secret: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(format!("{timestamp}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().fold("v1=".to_owned(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string does not fail");
        hex
    })
}

/// What is sent. What is told first is always worth hearing: for Slack it is the message itself, and needs no line beside it. Its size is bounded by that of a telling: at most 40 alerts, and some examples.
fn body(telling: &Telling, public_url: &str, possible_repeat: bool) -> Value {
    json!({
        "version": VERSION,
        "id": telling.id,
        "occasion": telling.occasion.name(),
        "detail": detail(&telling.occasion),
        "at": telling.at,
        "by": telling.by,
        "aloud": telling.aloud || telling.id.strip_prefix(&telling.incident.id) == Some("-1"),
        "possible_repeat": possible_repeat,
        "incident": incident(&telling.incident, public_url),
    })
}

/// What belongs to this occasion alone; null where there is nothing.
fn detail(occasion: &Occasion) -> Value {
    match occasion {
        Occasion::Grew { more, places } => json!({ "more": more, "alerts": places.iter().map(place).collect::<Vec<_>>() }),
        Occasion::Worse { severity: of } => json!({ "severity": severity(*of) }),
        Occasion::Eased { firing } => json!({ "firing_alerts": firing }),
        Occasion::Silenced { until } => json!({ "until": until }),
        Occasion::Acted { label, outcome } => json!({ "action": label, "outcome": outcome }),
        Occasion::Resolved { reason } => json!({ "reason": reason.name() }),
        Occasion::Returned { times } => json!({ "times": times }),
        Occasion::Merged { rule } => json!({ "rule": rule }),
        Occasion::Opened
        | Occasion::Updated
        | Occasion::Explained
        | Occasion::Acknowledged
        | Occasion::Unsilenced
        | Occasion::SilenceEnded
        | Occasion::Reminded => Value::Null,
    }
}

fn incident(seen: &Seen, public_url: &str) -> Value {
    json!({
        "id": seen.id,
        "url": format!("{public_url}/incidents/{}", seen.id),
        "environment": seen.environment,
        "state": if seen.firing { "firing" } else { "resolved" },
        "severity": severity(seen.severity),
        "began": seen.began,
        "ended": seen.ended,
        "returned": seen.returned,
        "acknowledged": seen.acknowledged.as_ref().map(|acknowledged| json!({ "by": acknowledged.by, "at": acknowledged.at })),
        "silenced": seen.silenced.as_ref().map(silence),
        "rules": seen.rules,
        "alerts": seen.alerts,
        "firing_alerts": seen.firing_alerts,
        "places": seen.places.iter().map(place).collect::<Vec<_>>(),
        "lead": lead(&seen.lead, public_url),
        "findings": seen.findings.as_ref().map(|findings| self::findings(findings, &seen.environment, public_url)),
    })
}

fn silence(silence: &Silence) -> Value {
    let of = match &silence.of {
        Silenced::Incident(id) => json!({ "incident": id }),
        Silenced::Alerts(terms) => object(terms),
    };
    json!({ "id": silence.id, "of": of, "by": silence.by, "at": silence.at, "until": silence.until })
}

fn place(place: &Place) -> Value {
    json!({ "rule": place.rule, "group": object(&place.group), "severity": severity(place.severity), "firing": place.firing })
}

fn object(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect::<Map<_, _>>())
}

/// The alert that stands for the incident, with what it showed.
fn lead(alert: &Notification, public_url: &str) -> Value {
    json!({
        "id": alert.alert_id,
        "url": format!("{public_url}/alerts/{}", alert.alert_id),
        "rule": alert.rule,
        "severity": severity(alert.severity),
        "group": object(&alert.group),
        "summary": alert.summary,
        "labels": object(&alert.labels),
        "observed": alert.observed.iter().map(observed).collect::<Vec<_>>(),
        "owner": alert.owner,
        "runbook": alert.runbook,
        "calls": alert.examples.iter().map(|sequence| format!("{public_url}/calls/{sequence}")).collect::<Vec<_>>(),
    })
}

fn observed(observed: &Observed) -> Value {
    let seen = &observed.observation;
    json!({
        "what": observed.what,
        "unit": match &observed.unit {
            Unit::Share => "share",
            Unit::Millis => "millis",
            Unit::Dollars => "dollars",
            Unit::Number(of) => of,
        },
        "window": observed.window,
        "value": seen.value,
        "numerator": seen.holds,
        "denominator": seen.calls,
        "expected": seen.expected.map(|range| json!({ "low": range.low, "high": range.high })),
        "since": seen.drift.map(|drift| drift.since),
    })
}

fn findings(findings: &Findings, environment: &str, public_url: &str) -> Value {
    let run = |event_id: &str| {
        let mut url = url::Url::parse(public_url).ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(["runs", event_id]);
        url.query_pairs_mut().append_pair("environment", environment);
        Some(url.to_string())
    };
    json!({
        "cause": findings.cause,
        "common": object(&findings.common),
        "calls": findings.calls,
        "runs": findings.runs,
        "users": findings.users,
        "cost_usd": findings.cost_usd,
        "examples": findings.examples.iter().map(|example| json!({ "event_id": example.event_id, "url": run(&example.event_id) })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn told() -> Vec<Telling> {
        sample::life("a", Timestamp::parse("2026-11-23T02:14:00Z").expect("it is a time"))
    }

    /// The example of the documentation, which receivers are written against.
    #[test]
    fn the_body_is_the_one_that_is_documented() {
        let documented = include_str!("../../../deploy/README.md");
        let (_, documented) = documented.split_once("<!-- the body of a webhook -->\n```json\n").expect("it is documented");
        let (documented, _) = documented.split_once("\n```").expect("its end is marked");
        let documented: Value = serde_json::from_str(documented).expect("it is JSON");
        let sent = body(&told()[1], "https://streamgauge.example", false);
        assert_eq!(sent, documented, "what is sent is\n{sent:#}");
    }

    #[test]
    fn each_occasion_says_what_belongs_to_it_and_the_end_when_it_was() {
        let told = told();
        let bodies: Vec<_> = told.iter().map(|telling| body(telling, "http://here", false)).collect();
        let of = |key: &str| bodies.iter().map(|body| body[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("occasion"), ["opened", "grew", "acknowledged", "eased", "resolved"]);
        assert_eq!(of("aloud"), [true, true, true, true, true]);
        assert_eq!(of("detail")[3..], [json!({ "firing_alerts": 1 }), json!({ "reason": "resolved" })]);
        assert_eq!(bodies[0]["detail"], Value::Null);
        assert_eq!(bodies[2]["incident"]["acknowledged"]["by"], bodies[2]["by"]);
        assert_eq!((&bodies[3]["incident"]["ended"], &bodies[4]["incident"]["ended"]), (&Value::Null, &json!("2026-11-23T02:13:55Z")));
        assert_eq!((&bodies[3]["incident"]["state"], &bodies[4]["incident"]["state"]), (&json!("firing"), &json!("resolved")));
        assert_eq!(body(&told[0], "", true)["possible_repeat"], true);
    }

    #[test]
    fn a_run_is_linked_whatever_it_is_called() {
        let mut telling = told().remove(0);
        let findings = telling.incident.findings.as_mut().expect("it was looked into");
        findings.examples[0].event_id = "a/b ?&#é".to_owned();
        telling.incident.environment = "eu & us".to_owned();
        let body = body(&telling, "https://here.example/gauge", false);
        assert_eq!(body["incident"]["findings"]["examples"][0]["url"], "https://here.example/gauge/runs/a%2Fb%20%3F&%23%C3%A9?environment=eu+%26+us");
    }

    #[test]
    fn the_signature_is_the_one_that_other_programs_make() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'a-secret-of-yours'
        assert_eq!(sign("a-secret-of-yours", 1_700_000_000, "{\"a\":1}"), "v1=3291a5d9576a859ac34fd70926ee85e343dd1edb433c5060a48c27e72b7f1cf7");
    }
}
