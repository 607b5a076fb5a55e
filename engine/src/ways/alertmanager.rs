//! Prometheus' Alertmanager (API v2): each alert of an incident as one of its alerts, with what is known of the incident as annotations.
//!
//! An alert there is what its labels are: one whose labels change is another one, and the old one fires until its `endsAt`. So what was sent is
//! remembered, and what no longer is so is ended. The memory is lost with a restart; `endsAt` then does it some hours later. Deliberately absent:
//! sending again and again, as Prometheus does: an incident that fires is told at least every half hour, and `endsAt` lies hours ahead.

use super::{post, severity};
use crate::config::{AlertmanagerAuth, AlertmanagerConfig, Concern, Secret, Sensitive};
use crate::error::Fault;
use crate::message::compose;
use crate::outbox::now;
use crate::posted::Posted;
use crate::standing::place as place_in_words;
use machine::incident::{PLACES_MAX, Place, Seen, Telling};
use model::{Span, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Incidents of which it is remembered what was sent: more than fire at one time in a bad week. Of the one that is forgotten, what changes its labels
/// ends some hours later.
const INCIDENTS_MAX: usize = 1000;
/// Labels that say what an alert is; a group's key of such a name gets another one.
const OURS: [&str; 4] = ["alertname", "severity", "environment", "incident"];

type Labels = BTreeMap<String, String>;

/// One Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    url: String,
    auth: Auth,
    timeout: Duration,
    concern: Concern,
    resolve_after: Span,
    client: reqwest::Client,
    public_url: String,
    sent: Mutex<Sent>,
}

#[derive(Debug)]
enum Auth {
    Anonymous,
    Bearer(Sensitive),
    Basic(Sensitive, Sensitive),
}

impl Alertmanager {
    /// # Errors
    /// When a secret is configured and not there.
    pub(super) fn new(url: &str, config: &AlertmanagerConfig, client: &reqwest::Client, public_url: &str) -> Result<Self, Fault> {
        let read = |key: &str, secret: &Secret| match secret.resolve().map_err(|error| Fault::plain(format!("alertmanager.{key}: cannot {error}")))? {
            Some(secret) => Ok(secret),
            None => Err(Fault::new(format!("alertmanager.{key}: {secret} is not set"), "set it, or remove the key")),
        };
        let auth = match &config.auth {
            AlertmanagerAuth::Anonymous => Auth::Anonymous,
            AlertmanagerAuth::Bearer(token) => Auth::Bearer(read("token", token)?),
            AlertmanagerAuth::Basic { user, password } => Auth::Basic(read("user", user)?, read("password", password)?),
        };
        Ok(Self {
            url: format!("{url}/api/v2/alerts"),
            auth,
            timeout: config.timeout,
            concern: config.concern.clone(),
            resolve_after: Span::from_millis(u64::try_from(config.resolve_after.as_millis()).unwrap_or(u64::MAX)),
            client: client.clone(),
            public_url: public_url.to_owned(),
            sent: Mutex::default(),
        })
    }

    pub(super) fn concern(&self) -> &Concern {
        &self.concern
    }

    /// Brings it up to date. Sending the same again changes nothing there, so a possible repeat is none.
    pub async fn post(&self, telling: &Telling) -> Posted {
        let now = now();
        let states = self.sent().states(&telling.incident);
        let alerts = alerts(telling, &states, &self.public_url, now, self.resolve_after);
        if alerts.is_empty() {
            return Posted::Sent("nothing changed".to_owned());
        }
        // Before the answer: what may have been taken is to be ended as well.
        self.sent().remember(&telling.incident.id, states, telling.at);
        let request = self.client.post(&self.url);
        let request = match &self.auth {
            Auth::Anonymous => request,
            Auth::Bearer(token) => request.bearer_auth(token.expose()),
            Auth::Basic(user, password) => request.basic_auth(user.expose(), Some(password.expose())),
        };
        let posted = post(request, Value::Array(alerts).to_string().into_bytes(), self.timeout).await;
        if matches!(posted, Posted::Sent(_)) {
            self.sent().taken(&telling.incident);
        }
        posted
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an alert is to be over there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Firing,
    /// To be ended.
    Ends,
    /// It was ended, and is not sent again.
    Ended,
}

/// What was sent of incidents that are not over.
#[derive(Debug, Default)]
struct Sent {
    of: BTreeMap<String, (Timestamp, BTreeMap<Labels, State>)>,
}

impl Sent {
    /// What each alert of an incident is to be: those that it has, and those that were sent under labels that none of it has any more.
    fn states(&self, seen: &Seen) -> BTreeMap<Labels, State> {
        let mut states: BTreeMap<Labels, State> = BTreeMap::new();
        let known = self.of.get(&seen.id).map(|(_, states)| states);
        for place in &seen.places {
            let labels = labels(seen, place);
            let ended = known.and_then(|known| known.get(&labels)) == Some(&State::Ended);
            let state = if place.firing {
                State::Firing
            } else if ended {
                State::Ended
            } else {
                State::Ends
            };
            // Of two that cannot be told apart the one that fires counts.
            let both = states.entry(labels).or_insert(state);
            if state == State::Firing {
                *both = state;
            }
        }
        // Those that fire are named first: where not all of them are, one that is missing may fire all the same.
        let whole = seen.places.len() >= seen.firing_alerts as usize;
        for (labels, state) in known.into_iter().flatten() {
            let gone = if *state == State::Ended || !whole { *state } else { State::Ends };
            states.entry(labels.clone()).or_insert(gone);
        }
        states
    }

    fn remember(&mut self, incident: &str, states: BTreeMap<Labels, State>, at: Timestamp) {
        self.of.insert(incident.to_owned(), (at, states));
        if self.of.len() > INCIDENTS_MAX
            && let Some(oldest) = self.of.iter().min_by_key(|(_, (at, _))| *at).map(|(id, _)| id.clone())
        {
            self.of.remove(&oldest);
        }
    }

    /// It was taken: what was to end has ended. Nothing more is to be known of an incident that is over.
    fn taken(&mut self, seen: &Seen) {
        if !seen.firing {
            self.of.remove(&seen.id);
        } else if let Some((_, states)) = self.of.get_mut(&seen.id) {
            states.values_mut().filter(|state| **state == State::Ends).for_each(|state| *state = State::Ended);
        }
    }
}

/// The body's alerts. Alertmanager takes what is not sent again for over once `endsAt` has passed.
fn alerts(telling: &Telling, states: &BTreeMap<Labels, State>, public_url: &str, now: Timestamp, resolve_after: Span) -> Vec<Value> {
    let seen = &telling.incident;
    let places: BTreeMap<Labels, &Place> = seen.places.iter().rev().map(|place| (labels(seen, place), place)).collect();
    // A time ahead of its clock would mean that it fires until then; one before the beginning is refused.
    let ended = seen.ended.unwrap_or(telling.at).min(now).max(seen.began);
    let one = |(labels, state): (&Labels, &State)| {
        let ends = match state {
            State::Firing => (now + resolve_after).max(seen.began),
            State::Ends => ended,
            State::Ended => return None,
        };
        let place = places.get(labels).copied();
        let is_lead = place.is_some_and(|place| place.rule == seen.lead.rule && place.group == seen.lead.group);
        let page = if is_lead { format!("alerts/{}", seen.lead.alert_id) } else { format!("incidents/{}", seen.id) };
        Some(json!({
            "labels": labels,
            "annotations": annotations(seen, place, is_lead, public_url),
            "startsAt": seen.began,
            "endsAt": ends,
            "generatorURL": format!("{public_url}/{page}"),
        }))
    };
    states.iter().filter_map(one).collect()
}

/// What an alert is: its rule under `alertname`, its severity and environment, its group, and the incident that it is part of.
fn labels(seen: &Seen, place: &Place) -> Labels {
    let ours = [place.rule.as_str(), severity(place.severity), &seen.environment, &seen.id];
    let mut labels: Labels = OURS.into_iter().zip(ours).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (key, value) in &place.group {
        let mut name = label_name(key);
        if labels.contains_key(&name) {
            name = format!("group_{name}");
        }
        // Two keys that differ in what no label may have.
        while labels.contains_key(&name) {
            name.push('_');
        }
        // There, a label without a value is none; and a group without it is the roll-up over all of them.
        labels.insert(name, if value.is_empty() { "(none)".to_owned() } else { value.clone() });
    }
    labels
}

/// A key as Prometheus lets labels be called: ASCII letters, digits and `_`, no digit first; two of `_` first are for its own.
fn label_name(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match name.as_str() {
        "" => "_".to_owned(),
        name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("_{name}"),
        name if name.starts_with("__") => format!("group{name}"),
        _ => name,
    }
}

fn annotations(seen: &Seen, place: Option<&Place>, is_lead: bool, public_url: &str) -> Value {
    let mut annotations: Map<String, Value> = Map::new();
    let mut note = |name: &str, text: String| {
        if !text.trim().is_empty() {
            annotations.insert(name.to_owned(), Value::String(text));
        }
    };
    let lead = &seen.lead;
    let others = match place {
        Some(place) => {
            format!("{} — {}; part of an incident with {} — {}", place.rule, place_in_words(&place.group), lead.rule, place_in_words(&lead.group))
        }
        None => format!("part of an incident with {} — {}", lead.rule, place_in_words(&lead.group)),
    };
    note("summary", if is_lead && !lead.summary.trim().is_empty() { lead.summary.clone() } else { others });
    if is_lead {
        let fields = compose(lead, public_url, false).fields;
        note("description", fields.iter().map(|(label, value)| format!("{label}: {value}")).collect::<Vec<_>>().join("\n"));
    }
    let findings = seen.findings.as_ref();
    note("cause", findings.map(|findings| findings.cause.join("\n")).unwrap_or_default());
    note("runbook_url", lead.runbook.clone().filter(|_| place.is_some_and(|place| place.rule == lead.rule)).unwrap_or_default());
    note("acknowledged_by", seen.acknowledged.as_ref().map(|acknowledged| acknowledged.by.clone()).unwrap_or_default());
    let unnamed = (seen.alerts as usize).saturating_sub(PLACES_MAX);
    note(
        "more",
        if unnamed > 0 { format!("the incident has {unnamed} alerts more than are sent: {public_url}/incidents/{}", seen.id) } else { String::new() },
    );
    Value::Object(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use model::plan::Severity;

    const LASTS: Span = Span::from_secs(4 * 3600);

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("it is a time")
    }

    fn told() -> Vec<Telling> {
        sample::life("a", at("2026-11-23T02:14:00Z"))
    }

    /// What is sent of each, when all is taken: `model severity ends`, in order.
    fn sent(told: &[Telling]) -> Vec<Vec<String>> {
        let mut sent = Sent::default();
        let each = |telling: &Telling| {
            let states = sent.states(&telling.incident);
            let alerts = alerts(telling, &states, "http://here", telling.at, LASTS);
            sent.remember(&telling.incident.id, states, telling.at);
            sent.taken(&telling.incident);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let ends = |alert: &Value| if at(&text(&alert["endsAt"])) > telling.at { "fires" } else { "ends" };
            let one = |alert: &Value| {
                format!(
                    "{}/{} {} {}",
                    text(&alert["labels"]["provider"]),
                    text(&alert["labels"]["model"]),
                    text(&alert["labels"]["severity"]),
                    ends(alert)
                )
            };
            alerts.iter().map(one).collect()
        };
        told.iter().map(each).collect()
    }

    #[test]
    fn every_alert_of_an_incident_is_sent_while_it_fires_and_once_when_it_is_over() {
        let (one, two) = ("openai/gpt-4o warning", "openai/gpt-4o-mini warning");
        let both = vec![format!("{one} fires"), format!("{two} fires")];
        let over = vec![format!("{one} fires"), format!("{two} ends")];
        assert_eq!(sent(&told()), [vec![format!("{one} fires")], both.clone(), both, over, vec![format!("{one} ends")]]);
    }

    #[test]
    fn an_alert_that_gets_worse_is_ended_under_its_former_severity() {
        let mut told = told();
        for telling in &mut told[2..] {
            telling.incident.places.iter_mut().for_each(|place| place.severity = Severity::Critical);
        }
        let sent = sent(&told);
        assert_eq!(sent[2].iter().filter(|alert| alert.ends_with("critical fires")).count(), 2);
        assert_eq!(sent[2].iter().filter(|alert| alert.ends_with("warning ends")).count(), 2);
        assert_eq!(sent[3].len(), 2, "what has ended is not ended again");
    }

    #[test]
    fn what_is_not_named_any_more_because_there_are_too_many_is_not_ended() {
        let mut told = told();
        (told[2].incident.alerts, told[2].incident.firing_alerts) = (60, 60);
        told[2].incident.places.truncate(1);
        assert_eq!(sent(&told[..3])[2].iter().filter(|alert| alert.ends_with("fires")).count(), 2);
    }

    #[test]
    fn what_has_ended_is_ended_though_too_many_others_have_for_it_to_be_named() {
        let mut told = told();
        (told[3].incident.alerts, told[3].incident.firing_alerts) = (60, 1);
        told[3].incident.places.retain(|place| place.firing);
        let sent = sent(&told[..4]);
        assert_eq!(sent[3], ["openai/gpt-4o warning fires", "openai/gpt-4o-mini warning ends"]);
    }

    #[test]
    fn it_says_what_broke_where_to_look_and_when_it_is_over() {
        let told = told();
        let now = at("2026-11-23T02:20:00Z");
        let of = |telling: &Telling| alerts(telling, &Sent::default().states(&telling.incident), "http://here", now, LASTS);
        let (grew, over) = (of(&told[1]), of(&told[4]));
        let lead = grew.iter().find(|alert| alert["generatorURL"].as_str().is_some_and(|url| url.contains("/alerts/"))).expect("one stands for all");
        assert_eq!(lead["generatorURL"], format!("http://here/alerts/{}", told[1].incident.lead.alert_id));
        assert_eq!(
            lead["labels"],
            json!({ "alertname": sample::RULE, "severity": "warning", "environment": "production", "incident": "itest-a-openai-gpt-4o",
                "stage": "extraction", "provider": "openai", "model": "gpt-4o" })
        );
        assert_eq!(lead["annotations"]["summary"], told[1].incident.lead.summary.as_str());
        assert!(lead["annotations"]["description"].as_str().is_some_and(|text| text.contains("Expected: 0.2 % to 1.1 %")), "{lead:#}");
        assert!(grew.iter().all(|alert| alert["annotations"]["cause"].as_str().is_some_and(|cause| cause.contains("rate limited"))));
        assert_eq!((&lead["startsAt"], &lead["endsAt"]), (&json!("2026-11-23T02:00:00Z"), &json!("2026-11-23T06:20:00Z")));
        assert_eq!(over[0]["endsAt"], "2026-11-23T02:13:55Z");
        // An end that the calls' clock puts ahead of ours, or before the beginning.
        let mut odd = told[4].clone();
        odd.incident.ended = Some(at("2026-11-23T02:20:03Z"));
        assert_eq!(of(&odd)[0]["endsAt"], "2026-11-23T02:20:00Z");
        odd.incident.ended = Some(at("2026-11-22T00:00:00Z"));
        assert_eq!((&of(&odd)[0]["endsAt"], &of(&odd)[0]["startsAt"]), (&json!("2026-11-23T02:00:00Z"), &json!("2026-11-23T02:00:00Z")));
    }

    #[test]
    fn labels_are_called_as_prometheus_wants_and_none_hides_another() {
        for (key, name) in
            [("stage", "stage"), ("prompt.version", "prompt_version"), ("1st", "_1st"), ("__name__", "group__name__"), ("größe", "gr__e"), ("", "_")]
        {
            assert_eq!(label_name(key), name);
        }
        let mut told = told();
        let seen = &mut told[0].incident;
        let group = [("severity", "high"), ("a.b", "1"), ("a-b", "2"), ("a_b", "3"), ("incident", ""), ("group_incident", "x")];
        seen.places[0].group = group.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let labels = labels(seen, &seen.places[0]);
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            labels,
            [
                "a_b=1",
                "alertname=TEST of fallback-rate",
                "environment=production",
                "group_a_b=2",
                "group_a_b_=3",
                "group_group_incident=x",
                "group_incident=(none)",
                "group_severity=high",
                "incident=itest-a-openai-gpt-4o",
                "severity=warning"
            ]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let mut sent = Sent::default();
        for number in 0..INCIDENTS_MAX as u64 + 10 {
            sent.remember(&format!("i{number}"), BTreeMap::new(), Timestamp::EPOCH + Span::from_secs(number));
        }
        assert_eq!(sent.of.len(), INCIDENTS_MAX);
        assert!(!sent.of.contains_key("i9") && sent.of.contains_key("i10"));
    }
}
