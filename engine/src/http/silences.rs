//! What nobody wants to hear of: `GET` and `POST /api/v1/silences`, `DELETE /api/v1/silences/{id}`.
//!
//! A silence of one incident may last until it is resolved; one of alerts that match has an end, because nobody remembers it otherwise. Deliberately
//! absent: what is not said because of one, which is the machine's decision, and incidents themselves (`incidents.rs`).

use super::access::Caller;
use super::explain::did_you_mean;
use super::incidents::{gone, over};
use super::{App, Named, Problem, audit};
use crate::incidents::Answer;
use crate::outbox::now;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use machine::incident::{Silence, Silenced};
use model::label::LABEL_MAX_BYTES;
use model::plan::{Rule, Severity};
use model::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How long one may last. What is shorter is over before anybody reads of it; what is longer belongs into the configuration.
pub(crate) const LENGTHS: std::ops::RangeInclusive<Span> = Span::from_secs(60)..=Span::from_secs(30 * 86_400);
/// What every alert has beside the keys of its group.
const KEYS: [&str; 3] = ["environment", "rule", "severity"];

/// What is asked for, as it was written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    incident: Option<String>,
    r#match: Option<BTreeMap<String, String>>,
    r#for: Option<String>,
    until: Option<String>,
}

/// What a silence is about when it is made.
#[derive(Debug, Serialize)]
pub(crate) struct Reach {
    /// Alerts that fire now and are silenced by it.
    firing_alerts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Made {
    #[serde(flatten)]
    silence: Silence,
    #[serde(flatten)]
    reach: Reach,
}

impl Reach {
    pub(crate) async fn of(app: &App, of: &Silenced) -> Result<Self, Problem> {
        let terms = match of {
            Silenced::Incident(id) => {
                let seen = app.incidents.one(id).await?;
                return Ok(Self { firing_alerts: seen.map_or(0, |seen| u64::from(seen.firing_alerts)), warning: None });
            }
            Silenced::Alerts(terms) => terms,
        };
        let firing = app.store.ask(|db| db.firing()).await?;
        let environments: Vec<String> = app.reader.ask(|machine| machine.clocks().map(|(name, _)| name.to_owned()).collect()).await?;
        let unseen = terms.iter().find(|(key, value)| key == "environment" && !environments.contains(value));
        let warning = unseen.map(|(_, name)| {
            let known = did_you_mean(name, environments.iter().map(String::as_str).collect());
            format!("no call of environment `{name}` has come yet{}", if environments.is_empty() { String::new() } else { format!("; {known}") })
        });
        Ok(Self { firing_alerts: firing.iter().filter(|alert| of.covers(alert)).count() as u64, warning })
    }

    /// In a sentence, and one more where something is probably not meant.
    pub(crate) fn said(&self) -> String {
        let warning = self.warning.as_ref().map_or_else(String::new, |warning| format!(" Warning: {warning}."));
        format!("{}{warning}", covering(self.firing_alerts))
    }
}

/// How many alerts that fire now a silence covers.
pub(crate) fn covering(firing: u64) -> String {
    match firing {
        0 => "No alert that fires now is covered.".to_owned(),
        1 => "1 alert that fires now is covered.".to_owned(),
        firing => format!("{firing} alerts that fire now are covered."),
    }
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Silence>>, Problem> {
    read(&app).await.map(Json)
}

/// Those that hold, the latest first.
pub(super) async fn read(app: &App) -> Result<Vec<Silence>, Problem> {
    let mut silences = app.incidents.silences().await?;
    let open: BTreeSet<String> = app.incidents.open().await?.into_iter().map(|seen| seen.id).collect();
    // What lasts until an incident is resolved has ended with it, also while the incident could still come back.
    silences.retain(|silence| match &silence.of {
        Silenced::Incident(id) => silence.until.is_some() || open.contains(id),
        Silenced::Alerts(_) => true,
    });
    silences.sort_by_cached_key(|silence| (std::cmp::Reverse(silence.at), silence.id.clone()));
    Ok(silences)
}

pub(super) async fn silence(State(app): State<App>, Extension(caller): Extension<Caller>, body: Bytes) -> Result<Json<Made>, Problem> {
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        let hint = r#"for example {"incident": "i12ab…", "for": "1h"}, or {"match": {"rule": "fallback-rate", "stage": "extraction"}, "for": "4h"}"#;
        refused(format!("cannot read what is to be silenced: {error}"), hint)
    })?;
    let (of, until) = meant(&app, asked).await?;
    let reach = Reach::of(&app, &of).await?;
    let silence = make(&app, &caller, of, until).await?;
    Ok(Json(Made { silence, reach }))
}

/// What is to be silenced, and until when.
async fn meant(app: &App, asked: Asked) -> Result<(Silenced, Option<Timestamp>), Problem> {
    let until = end(asked.r#for.as_deref(), asked.until.as_deref(), now())?;
    match (asked.incident, asked.r#match) {
        (Some(incident), None) => Ok((Silenced::Incident(incident), until)),
        (None, Some(_)) if until.is_none() => {
            Err(refused("a silence of alerts that match needs an end".to_owned(), r#"add "for": "1h", or "until": a time"#))
        }
        (None, Some(terms)) => {
            known(app, &terms).await?;
            Ok((Silenced::Alerts(terms.into_iter().collect()), until))
        }
        _ => Err(refused("name what is to be silenced, once".to_owned(), r#"either "incident", or "match": {"rule": …, "stage": …}"#)),
    }
}

/// The end that a length or a time gives; `None` where neither is given.
pub(super) fn end(length: Option<&str>, until: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let hint = format!("from {} to {}, such as 30m, 4h or 2d", LENGTHS.start(), LENGTHS.end());
    let until = match (length, until) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(refused("`for` and `until` say two ends".to_owned(), "give one of them")),
        (Some(length), None) => {
            let length = Span::parse(length).ok_or_else(|| refused(format!("`for` is no length of time: `{length}`"), &hint))?;
            now + length
        }
        (None, Some(until)) => Timestamp::parse(until)
            .ok_or_else(|| refused(format!("`until` is no time: `{until}`"), "such as 2026-01-05T10:00:00Z; or say `for`: 4h"))?,
    };
    // A minute was a minute when it was asked for.
    if until < now + *LENGTHS.start() - Span::from_secs(10) || until > now + *LENGTHS.end() {
        return Err(refused(format!("a silence cannot last until {until}"), &hint));
    }
    Ok(Some(until))
}

/// Refuses what no alert can be: a silence of it would silence nothing, and nobody would know.
pub(crate) async fn known(app: &App, terms: &BTreeMap<String, String>) -> Result<(), Problem> {
    if terms.is_empty() {
        return Err(refused(
            "this would silence every alert there is".to_owned(),
            "name at least one of rule, environment, severity or a group's key",
        ));
    }
    let rules = app
        .reader
        .ask(|machine| {
            let keys = |rule: &Rule| rule.group_by.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
            machine.plan().rules.iter().map(|rule| (rule.name.clone(), keys(rule))).collect::<Vec<_>>()
        })
        .await?;
    let no = |what: &str, name: &str, known: Vec<&str>| refused(format!("there is no {what} `{name}`"), &did_you_mean(name, known));
    let named = terms.get("rule");
    if let Some(name) = named.filter(|name| rules.iter().all(|(rule, _)| rule != *name)) {
        return Err(no("rule", name, rules.iter().map(|(rule, _)| rule.as_str()).collect()));
    }
    let meant: Vec<_> = rules.iter().filter(|(rule, _)| named.is_none_or(|name| name == rule)).map(|(_, keys)| keys).collect();
    let what = named.map_or_else(|| "key of an alert's group".to_owned(), |rule| format!("key of an alert of rule {rule}"));
    for (key, value) in terms {
        if key == "severity" && !Severity::ALL.map(Severity::name).contains(&value.as_str()) {
            return Err(no("severity", value, Severity::ALL.map(Severity::name).to_vec()));
        }
        if !KEYS.contains(&key.as_str()) && !meant.iter().any(|keys| keys.contains(key)) {
            return Err(no(&what, key, meant.iter().copied().flatten().map(String::as_str).chain(KEYS).collect()));
        }
        if value.len() > LABEL_MAX_BYTES {
            return Err(refused(format!("the value of `{key}` is longer than any label"), &format!("labels have at most {LABEL_MAX_BYTES} bytes")));
        }
    }
    let of_groups: Vec<&String> = terms.keys().filter(|key| !KEYS.contains(&key.as_str())).collect();
    if !of_groups.is_empty() && !meant.iter().any(|keys| of_groups.iter().all(|key| keys.contains(*key))) {
        let keys = of_groups.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ");
        return Err(refused(format!("no rule has alerts with {keys} together"), "silence them one by one"));
    }
    Ok(())
}

/// Silences, and notes who did.
pub(super) async fn make(app: &App, caller: &Caller, of: Silenced, until: Option<Timestamp>) -> Result<Silence, Problem> {
    let subject = about(&of);
    let act = async {
        match app.incidents.silence(of.clone(), until, &caller.name).await? {
            Ok(silence) => Ok(silence),
            Err(Answer::Over(seen) | Answer::Done(seen) | Answer::Already(seen)) => Err(over(&seen, "silence")),
            Err(Answer::Unknown | Answer::Lifted) => Err(gone(app, &subject, "silence").await?),
            Err(Answer::Full) => Err(full()),
        }
    };
    audit::noted(app, caller, "silence", &subject, act, |silence| match silence.until {
        Some(until) => format!("silenced until {until}"),
        None => "silenced until it is resolved".to_owned(),
    })
    .await
}

/// One more would be forgotten at once.
pub(super) fn full() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "as many silences hold as are kept, and nothing was silenced",
        "GET /api/v1/silences lists them; end those that nobody needs",
    )
}

/// `i12ab…`, or `rule=fallback-rate stage=extraction`.
pub(crate) fn about(of: &Silenced) -> String {
    match of {
        Silenced::Incident(id) => id.clone(),
        Silenced::Alerts(terms) => terms.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "),
    }
}

pub(super) async fn unsilence(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named) -> Result<Json<Value>, Problem> {
    lift(&app, &caller, &id).await.map(|silence| Json(json!({ "ended": silence })))
}

/// Ends a silence, by its own id or by that of an incident that has one of its own.
pub(super) async fn lift(app: &App, caller: &Caller, id: &str) -> Result<Silence, Problem> {
    let act = async {
        let no_such = || {
            Problem::new(
                StatusCode::NOT_FOUND,
                format!("there is no silence {id}"),
                "GET /api/v1/silences lists those that hold; an incident's id is good, too",
            )
        };
        let silence = match app.incidents.silences().await?.into_iter().find(|silence| silence.id == id) {
            Some(silence) => silence,
            None => match app.incidents.one(id).await? {
                Some(seen) => seen
                    .silenced
                    .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("incident {} is not silenced", seen.id), "there is nothing to end"))?,
                None => return Err(no_such()),
            },
        };
        let named = match &silence.of {
            Silenced::Incident(incident) => incident,
            Silenced::Alerts(_) if silence.id == id => &silence.id,
            Silenced::Alerts(_) => {
                let what =
                    format!("incident {id} is silenced by silence {} of {}, which is about other alerts as well", silence.id, about(&silence.of));
                return Err(Problem::new(StatusCode::CONFLICT, what, "end that silence by its own id, if nobody needs it"));
            }
        };
        match app.incidents.unsilence(named, &caller.name).await? {
            Answer::Done(_) | Answer::Lifted => Ok(silence),
            Answer::Over(seen) => Err(over(&seen, "end")),
            // Somebody else was faster.
            Answer::Already(_) | Answer::Unknown | Answer::Full => Err(no_such()),
        }
    };
    audit::noted(app, caller, "unsilence", id, act, |silence| format!("the silence of {} is ended", about(&silence.of))).await
}

fn refused(what: String, hint: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, what, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_ends_when_it_says_and_within_a_month() {
        let now = Timestamp::parse("2026-11-23T10:00:00Z").expect("a time");
        let ends = |length, until| match end(length, until, now) {
            Ok(until) => until.map_or("none".to_owned(), |until| until.to_string()),
            Err(problem) => format!("{} | {}", problem.detail, problem.hint),
        };
        assert_eq!(ends(None, None), "none");
        assert_eq!(ends(Some("1h30m"), None), "2026-11-23T11:30:00Z");
        assert_eq!(ends(None, Some("2026-11-23T12:00:00+01:00")), "2026-11-23T11:00:00Z");
        let lengths = "from 1m to 30d, such as 30m, 4h or 2d";
        assert_eq!(ends(Some("a while"), None), format!("`for` is no length of time: `a while` | {lengths}"));
        for (length, until) in [(Some("5s"), None), (Some("31d"), None), (None, Some("2026-11-23T09:00:00Z"))] {
            assert!(ends(length, until).contains("a silence cannot last until"), "{length:?} {until:?}: {}", ends(length, until));
        }
        assert_eq!(ends(Some("1h"), Some("2026-11-23T12:00:00Z")), "`for` and `until` say two ends | give one of them");
    }
}
