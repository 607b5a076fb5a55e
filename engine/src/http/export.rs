//! `GET /api/v1/export`: every call that a query finds, or a sample of them, with payloads and verdicts, as JSON lines.
//!
//! Whoever may read may export: it is what they can read call by call, without what `[redact]` takes out. Because it is much of it at once, each is in
//! the audit log with what was asked and how many calls were handed out. The first line says what follows and the last that it is whole, for an answer
//! that has begun can no longer be refused.

use super::access::Caller;
use super::calls::{in_order, moment, notes};
use super::{App, Problem, audit};
use crate::auditing;
use crate::calls::Unanswered;
use crate::exporting::{self, DRAWN_MAX, Handed, Sample, Selected, Wanted, is_stratum};
use crate::outbox::now;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use index::{Key, Times};
use model::Timestamp;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};

/// Lines that wait for whoever reads them.
const WAITING_MAX: usize = 16;
/// How long a line waits to be taken: who does not read on must not keep others from exporting.
const READING_WAIT: Duration = Duration::from_secs(60);

/// What is asked for, as it was written.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    query: String,
    since: Option<Timestamp>,
    until: Timestamp,
    sample: Option<usize>,
    seed: u64,
    per: Option<String>,
    verdicts: bool,
}

impl Asked {
    fn read(raw: Option<&str>) -> Result<Self, Problem> {
        let refused = |what: String, hint: &str| Problem::new(StatusCode::BAD_REQUEST, what, hint);
        let mut asked = Self { query: String::new(), since: None, until: now(), sample: None, seed: 0, per: None, verdicts: false };
        for (key, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "where" => asked.query = value.into_owned(),
                _ if value.is_empty() => {}
                "since" => asked.since = Some(moment("since", &value)?),
                // What comes while it is handed out belongs to another export.
                "until" => asked.until = moment("until", &value)?.min(asked.until),
                "sample" => {
                    let sample = value.parse().ok().filter(|sample| (1..=DRAWN_MAX).contains(sample));
                    let hint = || refused(format!("`sample` cannot be {value}"), &format!("a whole number from 1 to {DRAWN_MAX}"));
                    asked.sample = Some(sample.ok_or_else(hint)?);
                }
                "seed" => {
                    asked.seed = value.parse().map_err(|_| refused(format!("`seed` cannot be {value}"), "a whole number from 0 to 2^64 - 1"))?
                }
                "per" => asked.per = Some(value.into_owned()),
                "verdicts" => {
                    asked.verdicts = value.parse().map_err(|_| refused(format!("`verdicts` cannot be {value}"), "true or false"))?;
                }
                other => {
                    let hint = "known: where, since, until, sample, seed, per, verdicts";
                    return Err(refused(format!("there is no parameter `{other}`"), hint));
                }
            }
        }
        in_order(asked.times())?;
        Ok(asked)
    }

    fn times(&self) -> Times {
        Times { from: self.since, until: Some(self.until) }
    }

    fn sample(&self) -> Result<Option<Sample>, Problem> {
        let refused = |what: String, hint: &str| Problem::new(StatusCode::BAD_REQUEST, what, hint);
        let per = match &self.per {
            None => None,
            Some(_) if self.sample.is_none() => return Err(refused("`per` without `sample`".to_owned(), "say how many of each: sample=100")),
            Some(name) => {
                let key = Key::parse(name).filter(is_stratum);
                let hint = "stage, model, prompt_version, user_id, status_code, a property such as properties.tenant, …";
                Some(key.ok_or_else(|| refused(format!("calls cannot be drawn by `{name}`"), hint))?)
            }
        };
        Ok(self.sample.map(|most| Sample { most, seed: self.seed, per }))
    }

    /// For the audit log.
    fn subject(&self) -> String {
        let query = if self.query.trim().is_empty() { "every call" } else { &self.query };
        let since = self.since.map_or_else(String::new, |since| format!(" since {since}"));
        let per = self.per.as_ref().map_or_else(String::new, |per| format!(" per {per}"));
        let sample = self.sample.map_or_else(String::new, |sample| format!(", a sample of {sample}{per}"));
        format!("{query}{since} until {}{sample}", self.until)
    }

    /// What was perhaps meant otherwise, for whoever would take little or nothing for an answer.
    async fn notes(&self, app: &App, wanted: &Wanted, selected: &Selected) -> Result<Vec<String>, Problem> {
        let mut said = notes(app, &self.query, wanted.query.clone(), selected.matched > 0).await?;
        let per = wanted.sample.as_ref().and_then(|sample| sample.per.as_ref());
        let alike = selected.matched > 0 && selected.strata.iter().all(|stratum| stratum.label.is_empty());
        if let Some(per) = per.filter(|_| alike) {
            let unknown = app.calls.unknown(index::Query::having(std::slice::from_ref(per))).await?;
            let meant =
                unknown.into_iter().find_map(|(_, unknown)| unknown.meant).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
            said.push(format!("no call that matches has `{per}`, so all of them are drawn from together{meant}"));
        }
        Ok(said)
    }

    fn head(&self, app: &App, selected: &Selected, notes: &[String]) -> Value {
        // The labels are what the lines show of their calls.
        let mut strata = json!(selected.strata);
        app.calls.redact(&mut strata);
        json!({ "export": {
            "query": self.query,
            "since": self.since,
            "until": self.until,
            "made": now(),
            "version": env!("CARGO_PKG_VERSION"),
            "source": app.source,
            "matched": selected.matched,
            "calls": selected.calls,
            "sample": self.sample.map(|size| json!({ "size": size, "seed": self.seed, "per": self.per })),
            "strata": strata,
            "redacted": app.calls.redacted(),
            "notes": notes,
        } })
    }
}

pub(super) async fn export(State(app): State<App>, Extension(caller): Extension<Caller>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let asked = Asked::read(raw.as_deref())?;
    let sample = asked.sample()?;
    let query = app.calls.query(&asked.query).await?;
    let busy = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "other exports are under way", "try again when they have ended");
    let permit = app.calls.exporting().ok_or_else(busy)?;
    let entry = audit::begun(&app, &caller, "export", &asked.subject()).await?;
    let wanted = Wanted { query, times: asked.times(), sample, verdicts: asked.verdicts };
    let found = async {
        let selected = exporting::select(&app.calls, &wanted).await?;
        let notes = asked.notes(&app, &wanted, &selected).await?;
        Ok::<_, Problem>((asked.head(&app, &selected, &notes), selected))
    };
    let (head, selected) = match found.await {
        Ok(found) => found,
        Err(problem) => {
            auditing::ended(&app.store, entry, format!("refused: {}", problem.detail)).await?;
            return Err(problem);
        }
    };
    let (send, receive) = mpsc::channel(WAITING_MAX);
    // The last line waits for nobody: whoever comes back to read learns how it ended.
    let (end, ended) = oneshot::channel();
    // A task of its own, so that what was handed out is noted even when whoever asked goes away in the middle.
    tokio::spawn(async move {
        let _permit = permit;
        let handed = exporting::hand_out(app.calls.clone(), wanted, selected);
        let (came, last) = hand_out(&head, handed, &send, READING_WAIT).await;
        // Noted before the last line: whoever has it can read of it.
        if let Err(fault) = auditing::ended(&app.store, entry, came).await {
            tracing::warn!(problem = %fault.what(), "what an export came to could not be noted");
        }
        let _ = end.send(line(&last));
    });
    let lines = stream::unfold(receive, |mut receive| async { receive.recv().await.map(|line| (line, receive)) });
    let lines = lines.chain(stream::once(ended).filter_map(async |last| last.ok())).map(Ok::<_, Infallible>);
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(lines)).into_response())
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

/// What came of it, for the audit log, and the line that is still to be sent.
async fn hand_out(
    head: &Value,
    handed: impl Stream<Item = Result<Handed, Unanswered>>,
    send: &mpsc::Sender<Bytes>,
    wait: Duration,
) -> (String, Value) {
    let (mut calls, mut expired, mut unreadable) = (0u64, 0u64, 0u64);
    let mut handed = pin!(handed);
    let mut taken = send.send_timeout(line(head), wait).await;
    while taken.is_ok()
        && let Some(next) = handed.next().await
    {
        match next {
            Ok(Handed { line: call, expired: gone, unreadable: broken }) => {
                taken = send.send_timeout(line(&call), wait).await;
                calls += u64::from(taken.is_ok());
                expired += u64::from(taken.is_ok() && gone);
                unreadable += u64::from(taken.is_ok() && broken);
            }
            Err(error) => {
                let problem = Problem::from(error);
                let said = json!({ "problem": { "detail": problem.detail, "hint": problem.hint } });
                return (format!("failed after {calls} calls: {}", problem.detail), said);
            }
        }
    }
    let end = json!({ "end": { "calls": calls, "expired": expired, "unreadable": unreadable } });
    match taken {
        Ok(()) => (format!("{calls} calls, {} of them with their payload", calls - expired - unreadable), end),
        Err(SendTimeoutError::Closed(_)) => (format!("{calls} calls, then whoever asked went away"), end),
        Err(SendTimeoutError::Timeout(_)) => {
            let detail = format!("the export ended after {calls} calls because nothing of it was read for {} s", wait.as_secs());
            let said = json!({ "problem": { "detail": detail, "hint": "write it to a file as it comes; streamgauge export --out does" } });
            (format!("{calls} calls, then whoever asked stopped reading"), said)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_way_out() {
        for (raw, detail) in [
            ("sample=0", "`sample` cannot be 0"),
            ("sample=1000000", "`sample` cannot be 1000000"),
            ("seed=x", "`seed` cannot be x"),
            ("verdicts=1", "`verdicts` cannot be 1"),
            ("per=stage", "`per` without `sample`"),
            ("sample=2&per=latency", "calls cannot be drawn by `latency`"),
            ("limit=2", "there is no parameter `limit`"),
            (
                "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
                "`since` is 2026-01-02T00:00:00Z, which is not before `until`, 2026-01-01T00:00:00Z",
            ),
        ] {
            let problem = Asked::read(Some(raw)).and_then(|asked| asked.sample().map(drop)).expect_err(raw);
            assert!(problem.status == StatusCode::BAD_REQUEST && problem.detail == detail && !problem.hint.is_empty(), "{problem:?}");
        }
    }

    #[tokio::test]
    async fn whoever_stops_reading_does_not_hold_an_export() {
        let handed = || stream::iter((0..100).map(|_| Ok(Handed { line: json!({}), expired: false, unreadable: false })));
        let (send, receive) = mpsc::channel(WAITING_MAX);
        let (came, last) = hand_out(&json!({}), handed(), &send, Duration::from_millis(20)).await;
        assert_eq!(came, "15 calls, then whoever asked stopped reading");
        assert!(last["problem"]["detail"].as_str().is_some_and(|detail| detail.contains("after 15 calls because nothing of it was read")), "{last}");
        drop(receive);
        assert_eq!(hand_out(&json!({}), handed(), &send, READING_WAIT).await.0, "0 calls, then whoever asked went away");
    }

    #[test]
    fn the_audit_log_says_which_calls() {
        let asked =
            Asked::read(Some("where=stage%3Ax&since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z&sample=5&per=model")).expect("it is well");
        assert_eq!(asked.subject(), "stage:x since 2026-01-01T00:00:00Z until 2026-01-02T00:00:00Z, a sample of 5 per model");
        let all = Asked::read(Some("until=2100-01-01T00:00:00Z")).expect("it is well");
        assert!(all.until <= now(), "an export ends");
    }
}
