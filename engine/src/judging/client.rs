//! One request to one endpoint, and what came of it: a reply with its tokens, or a failure with what it means for the next try and for the bill.
//!
//! Deliberately absent: trying again, spending and reading what the judge says.

use crate::config::{Api, Sensitive};
use crate::error::Fault;
use evaluators::judge::Request;
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest, JsonSpec};
use genai::resolver::{AuthData, Endpoint};
use genai::{Headers, ModelIden, ServiceTarget, webc};
use reqwest::header::HeaderMap;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::warn;

/// A judge's endpoint.
#[derive(Clone, Debug)]
pub struct Client {
    client: genai::Client,
    api: Api,
    /// Without a slash at the end.
    endpoint: String,
    key: Option<Sensitive>,
    /// What models of this endpoint do not take; learned from their refusals.
    refused: Arc<Mutex<BTreeSet<(String, Extra)>>>,
}

/// What a request has that not every model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Extra {
    Schema,
    Temperature,
}

/// What a model replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub text: String,
    /// Input and output; `None` when the endpoint does not say.
    pub tokens: Option<(u64, u64)>,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For people; never a secret.
    pub why: String,
    /// Whether the same request may go well later.
    pub may_pass: bool,
    /// When the endpoint wants to be asked again.
    pub after: Option<Duration>,
    /// Whether the request may have been worked on, and so be on the bill.
    pub may_cost: bool,
}

/// Endpoints' own words are cut to this many characters.
const WORDS_MAX: usize = 300;

impl Client {
    /// # Errors
    /// When the system has no certificates to trust.
    pub fn new(api: Api, endpoint: String, key: Option<Sensitive>) -> Result<Self, Fault> {
        let http = crate::web::client("judges' endpoints")?;
        let client = genai::Client::builder().with_reqwest(http).build().map_err(|error| Fault::plain(format!("cannot make a client: {error}")))?;
        Ok(Self { client, api, endpoint, key, refused: Arc::default() })
    }

    /// Asks `model` once; what a model does not take is left out and asked without, which costs nothing.
    pub async fn ask(&self, model: &str, request: &Request, temperature: f64, timeout: Duration) -> Result<Reply, Failure> {
        let began = tokio::time::Instant::now();
        loop {
            let extras: Vec<_> = [Extra::Schema, Extra::Temperature].into_iter().filter(|extra| self.takes(model, *extra)).collect();
            let asked = self.once(model, request, temperature, &extras);
            let Ok(answer) = tokio::time::timeout_at(began + timeout, asked).await else {
                let why = format!("no answer within {}", crate::config::render_duration(timeout));
                return Err(Failure { why, may_pass: true, after: None, may_cost: true });
            };
            match answer {
                Err((failure, Some(extra))) if extras.contains(&extra) => {
                    warn!(endpoint = %self.endpoint, model, ?extra, problem = %failure.why, "the model does not take it; asking without");
                    self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert((model.to_owned(), extra));
                }
                Err((failure, _)) => return Err(failure),
                Ok(reply) => return Ok(reply),
            }
        }
    }

    fn takes(&self, model: &str, extra: Extra) -> bool {
        !self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(&(model.to_owned(), extra))
    }

    /// The failure may name what the model does not take.
    async fn once(&self, model: &str, request: &Request, temperature: f64, extras: &[Extra]) -> Result<Reply, (Failure, Option<Extra>)> {
        let mut options = ChatOptions::default().with_max_tokens(request.max_output_tokens);
        if extras.contains(&Extra::Temperature) {
            options = options.with_temperature(temperature);
        }
        if extras.contains(&Extra::Schema)
            && let Ok(schema) = serde_json::from_str::<serde_json::Value>(&request.schema)
        {
            options = options.with_response_format(JsonSpec::new("verdict", schema));
        }
        let chat = ChatRequest::new(vec![ChatMessage::user(request.user.as_str())]).with_system(request.system.as_str());
        let response = self.client.exec_chat(self.target(model), chat, Some(&options)).await.map_err(failure)?;
        let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok());
        // An endpoint that says nothing is read as zeros by some adapters; no request has none.
        let (input, output) = (count(response.usage.prompt_tokens), count(response.usage.completion_tokens));
        let tokens = input.zip(output).filter(|(input, _)| *input > 0);
        Ok(Reply { text: response.content.into_joined_texts().unwrap_or_default(), tokens })
    }

    fn target(&self, model: &str) -> ServiceTarget {
        let kind = match self.api {
            Api::OpenAi => AdapterKind::OpenAI,
            Api::Anthropic => AdapterKind::Anthropic,
        };
        let auth = match (&self.key, self.api) {
            (Some(key), _) => AuthData::from_single(key.expose()),
            // An endpoint without a key gets no header for one.
            (None, Api::OpenAi) => AuthData::RequestOverride { url: format!("{}/chat/completions", self.endpoint), headers: Headers::default() },
            (None, Api::Anthropic) => AuthData::RequestOverride {
                url: format!("{}/messages", self.endpoint),
                headers: Headers::from(("anthropic-version".to_owned(), "2023-06-01".to_owned())),
            },
        };
        ServiceTarget { endpoint: Endpoint::from_owned(format!("{}/", self.endpoint)), auth, model: ModelIden::new(kind, model) }
    }
}

fn failure(error: genai::Error) -> (Failure, Option<Extra>) {
    use webc::Error as Web;
    let plain = |why: String, may_pass, may_cost| (Failure { why, may_pass, after: None, may_cost }, None);
    match error {
        genai::Error::WebModelCall { webc_error, .. } | genai::Error::WebAdapterCall { webc_error, .. } => match webc_error {
            Web::ResponseFailedStatus { status, body, headers } => refused(status.as_u16(), &body, &headers),
            // Something answered, and it was no endpoint: a proxy's page, or half an answer.
            Web::ResponseFailedNotJson { content_type, .. } => plain(format!("the answer is `{}`, not JSON", cut(&content_type)), true, true),
            Web::ResponseFailedInvalidJson { cause, .. } => plain(format!("the answer is no JSON: {}", cut(&cause)), true, true),
            Web::Reqwest(error) if error.is_connect() => plain("cannot connect".to_owned(), true, false),
            Web::Reqwest(error) if error.is_builder() => plain("the request cannot be made: is the endpoint an address?".to_owned(), false, false),
            Web::Reqwest(_) => plain("the connection broke".to_owned(), true, true),
            other => plain(cut(&other.to_string()), false, true),
        },
        genai::Error::ChatResponseGeneration { cause, .. } => plain(format!("the answer has no reply in it: {}", cut(&cause)), true, true),
        other => plain(cut(&other.to_string()), false, false),
    }
}

/// What an HTTP status other than success means.
fn refused(status: u16, body: &str, headers: &HeaderMap) -> (Failure, Option<Extra>) {
    let said = serde_json::from_str::<serde_json::Value>(body).ok();
    let said =
        said.as_ref().and_then(|body| body["error"]["message"].as_str().or_else(|| body["error"].as_str()).or_else(|| body["message"].as_str()));
    let why = said.map_or_else(|| format!("HTTP {status}"), |said| format!("HTTP {status}: {}", cut(said)));
    let extra = match status {
        400 | 422 if body.contains("temperature") => Some(Extra::Temperature),
        400 | 422 if ["response_format", "json_schema", "output_config", "output_format"].iter().any(|name| body.contains(name)) => {
            Some(Extra::Schema)
        }
        _ => None,
    };
    // 408 and 409 ask for another try; 529 is Anthropic's word for overloaded.
    let may_pass = matches!(status, 408 | 409 | 425 | 429 | 500..);
    // A gateway that gave up waiting says nothing about the model behind it.
    let may_cost = matches!(status, 502 | 504);
    (Failure { why, may_pass, after: retry_after(headers), may_cost }, extra)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse::<f64>().ok());
    let seconds = number("retry-after-ms").map(|millis| millis / 1000.0).or_else(|| number("retry-after"));
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// One line of at most [`WORDS_MAX`] characters.
fn cut(text: &str) -> String {
    let line: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(WORDS_MAX).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str, after: Option<&str>) -> (Failure, Option<Extra>) {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert("retry-after", after.parse().expect("a header's value"));
        }
        refused(status, body, &headers)
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_our_mistake_is_not() {
        for (status, may_pass) in
            [(400, false), (401, false), (404, false), (408, true), (422, false), (429, true), (500, true), (503, true), (529, true)]
        {
            assert_eq!(of(status, "", None).0.may_pass, may_pass, "{status}");
        }
    }

    #[test]
    fn the_endpoints_own_words_and_its_time_are_kept() {
        let (failure, _) = of(429, r#"{"error":{"message":"slow\ndown"}}"#, Some("7"));
        assert_eq!((failure.why.as_str(), failure.after), ("HTTP 429: slow down", Some(Duration::from_secs(7))));
        assert_eq!(
            of(429, "<html>", Some("Wed, 21 Oct 2026 07:28:00 GMT")).0,
            Failure { why: "HTTP 429".into(), may_pass: true, after: None, may_cost: false }
        );
    }

    #[test]
    fn a_refusal_names_what_the_model_does_not_take() {
        let body = r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model."}}"#;
        assert_eq!(of(400, body, None).1, Some(Extra::Temperature));
        assert_eq!(of(400, r#"{"error":"response_format json_schema is not supported"}"#, None).1, Some(Extra::Schema));
        assert_eq!(of(400, r#"{"error":{"message":"no such model"}}"#, None).1, None);
    }
}
