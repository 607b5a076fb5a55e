//! An opinion for other systems: the event `gen_ai.evaluation.result` of OpenTelemetry's conventions for generative AI, as JSON on NATS.
//!
//! It is published before the daemon hears of the verdict, under the request's id: at least once, and once where a stream takes it and drops repeats.
//! Deliberately absent: skipped and failed requests. They are no results; the metrics count them.

use super::Said;
use async_nats::{Client, HeaderMap};
use model::Timestamp;
use model::verdict::{JudgeRequest, Outcome};
use serde_json::{Value, json};
use std::time::Duration;
use tracing::warn;

/// Between attempts while the server cannot be reached.
const AGAIN: Duration = Duration::from_secs(1);

/// The subject of a judge's opinions.
pub fn subject(judge: &str) -> String {
    format!("streamgauge.verdicts.{judge}")
}

/// `None` where there is no opinion. `call`: the judged call's id; `models`: who was asked.
pub fn event(request: &JudgeRequest, said: &Said, call: &str, models: &[String], now: Timestamp) -> Option<Value> {
    let verdict = &said.verdict;
    let label = match verdict.outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        _ => return None,
    };
    let mut attributes = json!({
        "gen_ai.evaluation.name": verdict.judge,
        "gen_ai.evaluation.score.label": label,
        "gen_ai.evaluation.explanation": said.why,
        "gen_ai.response.id": call,
        "streamgauge.request.id": request.id(),
        "streamgauge.environment": request.environment,
        "streamgauge.sequence": request.sequence,
        "streamgauge.inclusion": request.inclusion.probability(),
        "streamgauge.judge.fingerprint": format!("{:016x}", request.fingerprint),
        "streamgauge.judge.models": models,
        "streamgauge.judge.cost_usd": verdict.cost_nano_usd as f64 / 1e9,
    });
    if let Some(score) = verdict.score {
        attributes["gen_ai.evaluation.score.value"] = json!(score);
    }
    if let Some(latency_ms) = verdict.latency_ms {
        attributes["streamgauge.judge.latency_ms"] = json!(latency_ms);
    }
    Some(json!({ "event_name": "gen_ai.evaluation.result", "timestamp": now.to_string(), "attributes": attributes }))
}

/// Returns when the server has it; tries until then.
pub async fn publish(client: &Client, judge: &str, id: &str, event: &Value) {
    loop {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let sent = client.publish_with_headers(subject(judge), headers, event.to_string().into()).await.map_err(|error| error.to_string());
        let sent = match sent {
            Ok(()) => client.flush().await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => return,
            Err(problem) => warn!(%judge, request = %id, %problem, "an opinion is not published yet; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Verdict;
    use model::verdict::Inclusion;

    fn said(outcome: Outcome, score: Option<f64>) -> (JudgeRequest, Said) {
        let (judge, environment) = ("relevance".to_owned(), "production".to_owned());
        let at = Timestamp::parse("2026-11-22T10:00:00Z").expect("a time");
        let request = JudgeRequest {
            judge: judge.clone(),
            fingerprint: 7,
            environment: environment.clone(),
            sequence: 12,
            at,
            inclusion: Inclusion::at_most(0.5),
        };
        let verdict =
            Verdict { judge, fingerprint: 7, environment, sequence: 12, outcome, score, latency_ms: Some(900), cost_nano_usd: 1_500_000, wait_ms: 0 };
        (request, Said { verdict, why: "the address is there".to_owned() })
    }

    #[test]
    fn an_opinion_has_the_attributes_of_the_convention_and_ours() {
        let (request, said) = said(Outcome::Fail, Some(0.33));
        let event = event(&request, &said, "call-1", &["m".to_owned()], request.at).expect("an opinion");
        let expected = json!({
            "event_name": "gen_ai.evaluation.result",
            "timestamp": "2026-11-22T10:00:00Z",
            "attributes": {
                "gen_ai.evaluation.name": "relevance",
                "gen_ai.evaluation.score.label": "fail",
                "gen_ai.evaluation.score.value": 0.33,
                "gen_ai.evaluation.explanation": "the address is there",
                "gen_ai.response.id": "call-1",
                "streamgauge.request.id": request.id(),
                "streamgauge.environment": "production",
                "streamgauge.sequence": 12,
                "streamgauge.inclusion": 0.5,
                "streamgauge.judge.fingerprint": "0000000000000007",
                "streamgauge.judge.models": ["m"],
                "streamgauge.judge.cost_usd": 0.0015,
                "streamgauge.judge.latency_ms": 900,
            },
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn what_is_no_opinion_is_no_event() {
        for outcome in [Outcome::Unreadable, Outcome::Errored, Outcome::Skipped(model::verdict::Skip::Budget)] {
            let (request, said) = said(outcome, None);
            assert_eq!(event(&request, &said, "call-1", &[], request.at), None, "{}", outcome.name());
        }
    }
}
