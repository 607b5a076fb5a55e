//! Judges' endpoints: reachable, and the key accepted, as far as a list of models tells. No judge is asked, so nothing is spent.

use super::{Finding, PATIENCE};
use crate::config::{Api, Config, Sensitive};
use crate::judging::ready::{Ready, ready};
use crate::web;
use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Nothing where the judges cannot be made ready: what `check` says of them is said already.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let Ok(judges) = ready(config) else { return Vec::new() };
    if judges.is_empty() {
        return Vec::new();
    }
    match web::client("judges' endpoints") {
        Err(fault) => vec![Finding::fault("judges", &fault)],
        Ok(client) => join_all(judges.iter().map(|judge| one(&client, judge))).await,
    }
}

async fn one(client: &reqwest::Client, judge: &Ready) -> Finding {
    let check = format!("judge {}", judge.name());
    let key = match judge.key() {
        Ok(key) => key,
        Err(fault) => return Finding::fault(check, &fault),
    };
    let (api, endpoint) = (judge.config.api, &judge.config.endpoint);
    let url = format!("{endpoint}/models");
    let asked = async {
        let answer = web::get(client, &url, signed(api, key.as_ref())).await?;
        // Some endpoints tell everyone; their yes says nothing of the key.
        let open = match &key {
            Some(_) if answer.status == 200 => web::get(client, &url, signed(api, None)).await.is_ok_and(|answer| answer.status == 200),
            _ => false,
        };
        Ok::<_, String>((answer, open))
    };
    let (answer, open) = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => {
            return Finding::failed(check, format!("{endpoint}: {why}"), format!("is judges.{}.endpoint right, and is it up?", judge.name()));
        }
        Err(_) => {
            let seen = format!("{endpoint}: no answer within {} s", PATIENCE.as_secs());
            return Finding::failed(check, seen, "is it up, and does a firewall let this machine through?");
        }
    };
    let hint = "nothing was asked of a model; `streamgauge judge try` asks once, and costs what that costs";
    match answer.status {
        200 => {
            let listed = models(&answer.body);
            let missing: Vec<_> =
                judge.models.iter().map(|model| model.name.as_str()).filter(|name| !listed.iter().any(|known| known == name)).collect();
            if !listed.is_empty() && !missing.is_empty() {
                let seen = format!("{endpoint}: reachable, and it does not list {}", missing.join(", "));
                return Finding::warning(check, seen, format!("is the model's name right? {hint}"));
            }
            match (&key, open) {
                (None, _) => Finding::ok(check, format!("{endpoint}: reachable; it needs no key")),
                (Some(_), false) => Finding::ok(check, format!("{endpoint}: reachable, key accepted")),
                (Some(_), true) => Finding::warning(
                    check,
                    format!("{endpoint}: reachable; whether it accepts the key could not be told, for it tells everyone"),
                    hint,
                ),
            }
        }
        401 | 403 => {
            let from = judge
                .config
                .api_key
                .as_ref()
                .map_or_else(|| "a key, and none is configured".to_owned(), |secret| format!("another key than that of {secret}"));
            Finding::failed(
                check,
                format!("{endpoint}: reachable; it wants {from} (HTTP {})", answer.status),
                format!("see judges.{}.api_key", judge.name()),
            )
        }
        429 => Finding::warning(
            check,
            format!("{endpoint}: reachable; it limits our rate at the moment (HTTP 429)"),
            "does somebody else use the key up?",
        ),
        status @ 500.. => Finding::failed(
            check,
            format!("{endpoint}: reachable, and not well (HTTP {status})"),
            "see its own status; judging goes on by itself once it is well",
        ),
        status => {
            let seen =
                format!("{endpoint}: reachable; whether it accepts the key could not be told without spending (HTTP {status} to a list of models)");
            Finding::warning(check, seen, hint)
        }
    }
}

fn signed(api: Api, key: Option<&Sensitive>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if api == Api::Anthropic {
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    }
    let value = key.map(|key| match api {
        Api::OpenAi => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        Api::Anthropic => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
    });
    // A key that cannot be a header is one that no endpoint accepts: it then says so.
    if let Some((name, value)) = value.and_then(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))) {
        headers.insert(name, value);
    }
    headers
}

/// The ids of a list of models, which both interfaces write alike.
fn models(body: &[u8]) -> Vec<String> {
    let list: Value = serde_json::from_slice(body).unwrap_or_default();
    list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str().map(ToOwned::to_owned)).collect()
}
