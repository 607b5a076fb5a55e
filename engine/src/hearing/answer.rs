//! Answering the person who acted: by the link that came with the act, or by a message that they alone see.
//!
//! Deliberately absent: what incidents are told (`outbox.rs`); an answer that cannot be given is logged and not kept, because whoever waits for it
//! asks again.

use super::payload::{Person, Place};
use crate::config::SlackConfig;
use crate::error::Fault;
use crate::slack::hint;
use crate::slack::text::cut_lines;
use crate::slack::token::{Token, is_of_token};
use crate::web;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use slack_morphism::prelude::SlackApiToken;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// Characters of one answer; more is a page's business.
pub const TEXT_MAX: usize = 3_900;
/// Of what Slack answers: the ids of the members of a large group.
const ANSWER_MAX: usize = 1 << 20;
/// Tries of one answer: a person waits.
const TRIES: u32 = 3;
/// Between them, unless Slack says for how long.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause that Slack may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is said, in Slack's markup, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    pub to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Person,
    /// Everybody in the channel: it changes what they hear of.
    Channel,
}

impl Answer {
    pub fn person(text: impl Into<String>) -> Self {
        Self { text: text.into(), to: To::Person }
    }

    pub fn channel(text: impl Into<String>) -> Self {
        Self { text: text.into(), to: To::Channel }
    }

    /// As an acknowledgement or a link takes it.
    pub fn body(&self) -> Value {
        let kind = match self.to {
            To::Person => "ephemeral",
            To::Channel => "in_channel",
        };
        json!({ "response_type": kind, "replace_original": false, "text": cut_lines(&self.text, TEXT_MAX), "unfurl_links": false, "unfurl_media": false })
    }
}

/// Why Slack did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It says no, by its own word, such as `not_in_channel`.
    Refused(String),
    /// It asks to wait.
    Later(Duration),
    /// Whether it was done is not known.
    Unknown(String),
}

impl Trouble {
    /// In a few words, with the way out where there is one.
    pub fn said(&self) -> String {
        match self {
            Self::Refused(error) => format!("{error}: {}", hint(error)),
            Self::Later(pause) => format!("rate limited for {} s", pause.as_secs()),
            Self::Unknown(why) => why.clone(),
        }
    }
}

/// Slack's Web API with the bot's token, which is the outbox's: one that was changed on disk is taken up wherever it is first missed. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    url: String,
    token: Arc<Token>,
    timeout: Duration,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Api {
    /// # Errors
    /// When the system has no certificates to trust.
    pub fn new(config: &SlackConfig, token: Arc<Token>) -> Result<Self, Fault> {
        Ok(Self { client: web::client_for(&config.api_url, "Slack")?, url: config.api_url.clone(), token, timeout: config.timeout })
    }

    /// Calls a method. Arguments go as a form, which every method takes.
    pub async fn call(&self, method: &str, args: &[(&str, &str)]) -> Result<Value, Trouble> {
        let used = self.token.current();
        let came = self.call_with(&used, method, args).await;
        let newer = self.token.current();
        // Nothing was done with a token that Slack does not take.
        let again = matches!(&came, Err(Trouble::Refused(problem)) if is_of_token(problem)) && newer != used;
        if again { self.call_with(&newer, method, args).await } else { came }
    }

    async fn call_with(&self, token: &SlackApiToken, method: &str, args: &[(&str, &str)]) -> Result<Value, Trouble> {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(args).finish();
        let request = self
            .client
            .post(format!("{}/{method}", self.url))
            .header(AUTHORIZATION, format!("Bearer {}", token.token_value.0))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let body = self.ask(request).await?;
        let answer: Value = serde_json::from_slice(&body).map_err(|_| Trouble::Unknown("the answer cannot be read".to_owned()))?;
        if answer["ok"] == true {
            self.token.answered(token, None);
            return Ok(answer);
        }
        match answer["error"].as_str() {
            Some("ratelimited" | "rate_limited") => Err(Trouble::Later(AGAIN)),
            Some(error) => {
                self.token.answered(token, Some(error));
                Err(Trouble::Refused(error.to_owned()))
            }
            None => Err(Trouble::Unknown("the answer cannot be read".to_owned())),
        }
    }

    /// What Slack answers where the status says that it was done.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Trouble> {
        let broken = |error: reqwest::Error| Trouble::Unknown(if error.is_connect() { "cannot connect" } else { "the connection broke" }.to_owned());
        let asking = async {
            let mut response = request.send().await.map_err(broken)?;
            let status = response.status().as_u16();
            let pause = response.headers().get(RETRY_AFTER).and_then(|pause| pause.to_str().ok()?.parse().ok()).map_or(AGAIN, Duration::from_secs);
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                if body.len() + chunk.len() > ANSWER_MAX {
                    return Err(Trouble::Unknown(format!("the answer has more than {ANSWER_MAX} bytes")));
                }
                body.extend_from_slice(&chunk);
            }
            match status {
                200..300 => Ok(body),
                429 => Err(Trouble::Later(pause)),
                500.. => Err(Trouble::Unknown(format!("HTTP {status}"))),
                _ => Err(Trouble::Refused(format!("HTTP {status}"))),
            }
        };
        let late = |_| Trouble::Unknown(format!("no answer within {} s", self.timeout.as_secs()));
        tokio::time::timeout(self.timeout, asking).await.map_err(late)?
    }

    /// Posts `text` as the app, which tells whether it may write there. The message's timestamp.
    pub async fn post(&self, channel: &str, text: &str) -> Result<String, Trouble> {
        let text = cut_lines(text, TEXT_MAX);
        let args = [("channel", channel), ("text", text.as_str()), ("unfurl_links", "false"), ("unfurl_media", "false")];
        let answer = tried(|| self.call("chat.postMessage", &args), |_| false).await?;
        Ok(answer["ts"].as_str().unwrap_or_default().to_owned())
    }

    /// Answers; what cannot be said is logged.
    pub async fn answer(&self, by: &Person, place: &Place, answer: &Answer) {
        // An answer for one person that comes twice does no harm; one for everybody comes once or not at all.
        let harmless = answer.to == To::Person;
        let by_link = match place.response_url.as_str() {
            "" => Err(Trouble::Refused("no link came with it".to_owned())),
            url => {
                let body = answer.body().to_string();
                let ask = || async {
                    let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body.clone());
                    self.ask(request).await.map(|_| ())
                };
                tried(ask, |_| harmless).await
            }
        };
        let Err(trouble) = by_link else { return };
        let said = match (answer.to, &trouble) {
            (To::Channel, Trouble::Unknown(_)) => Err(trouble),
            (To::Channel, _) => self.post(&place.channel, &answer.text).await.map(|_| ()),
            (To::Person, _) => {
                let text = cut_lines(&answer.text, TEXT_MAX);
                let args = [("channel", place.channel.as_str()), ("user", by.id.as_str()), ("text", text.as_str())];
                tried(|| self.call("chat.postEphemeral", &args), |_| true).await.map(|_| ())
            }
        };
        if let Err(trouble) = said {
            warn!(who = %by.id, problem = %trouble.said(), "an answer in Slack could not be given");
        }
    }
}

/// Tries a few times: where nothing was done for sure, and where `again` says so of what is not known.
async fn tried<T, F: Future<Output = Result<T, Trouble>>>(ask: impl Fn() -> F, again: impl Fn(&str) -> bool) -> Result<T, Trouble> {
    let mut tries = 1;
    loop {
        let pause = match ask().await {
            Err(Trouble::Later(pause)) if tries < TRIES && pause <= PAUSE_MAX => pause,
            Err(Trouble::Unknown(why)) if tries < TRIES && (why == "cannot connect" || again(&why)) => AGAIN,
            came => return came,
        };
        tries += 1;
        tokio::time::sleep(pause).await;
    }
}
