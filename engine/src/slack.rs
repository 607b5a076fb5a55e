//! Speaking to Slack through slack-morphism: posting, updating, looking back, and Slack's answers as what the outbox must know.
//!
//! Retries, pacing and order are the outbox's. How messages become blocks within Slack's limits is `slack/blocks.rs`.

pub mod blocks;
mod chart;
pub mod scopes;
pub mod text;
pub mod token;

use crate::config::SlackConfig;
use crate::error::Fault;
use crate::posted::Posted;
use crate::store::Post;
use crate::web;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use machine::incident::Occasion;
use model::{Span, Timestamp};
use serde::Deserialize;
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use token::{Token, is_of_token};

#[derive(Clone)]
pub struct Slack {
    client: SlackClient<SlackClientHyperConnector<HttpsConnector<HttpConnector>>>,
    token: Arc<Token>,
    timeout: Duration,
    look_back: bool,
    /// Ids of channels by name, as far as looking back has asked: each look would ask for the whole list again. As many as are posted to.
    ids: Arc<Mutex<BTreeMap<String, String>>>,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slack").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The longest that is waited for one answer's sake; a server that means more will say so again.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The way to Slack's Web API. A counterpart on loopback has no certificate, so `http://` is let through where the address says so.
///
/// # Errors
/// When the address asks for TLS and the system has no certificates to trust.
pub fn connector(api_url: &str) -> Result<SlackClientHyperConnector<HttpsConnector<HttpConnector>>, Fault> {
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(web::tls_for(api_url, "Slack")?).https_or_http().enable_http1().build();
    Ok(SlackClientHyperConnector::with_connector(connector).with_slack_api_url(api_url))
}

impl Slack {
    /// `None` when no bot token is configured or set.
    ///
    /// # Errors
    /// When the token's file cannot be read, or the system has no certificates to trust.
    pub fn new(config: &SlackConfig) -> Result<Option<Self>, Fault> {
        let Some(token) = Token::new(&config.bot_token)? else { return Ok(None) };
        let connector = connector(&config.api_url)?;
        Ok(Some(Self {
            client: SlackClient::new(connector),
            token: Arc::new(token),
            timeout: config.timeout,
            look_back: config.look_back,
            ids: Arc::default(),
        }))
    }

    /// Posts, in a thread where that is given; `loud`: shown in the channel as well. The receipt is the channel's id and the message's time stamp, `C…/…`.
    pub async fn post(&self, channel: &str, content: SlackMessageContent, thread: Option<&str>, loud: bool) -> Posted {
        let mut request = SlackApiChatPostMessageRequest::new(channel.into(), content).with_unfurl_links(false).with_unfurl_media(false);
        if let Some(thread) = thread {
            request = request.with_thread_ts(thread.into());
            if loud {
                request = request.with_reply_broadcast(true);
            }
        }
        let token = self.token.current();
        let session = self.client.open_session(&token);
        self.answered(&token, session.chat_post_message(&request), |response| format!("{}/{}", response.channel, response.ts)).await
    }

    /// Replaces what a message of ours says. Doing it twice changes nothing.
    pub async fn update(&self, channel: &str, ts: &str, content: SlackMessageContent) -> Posted {
        let request = SlackApiChatUpdateRequest::new(channel.into(), content, ts.into());
        let token = self.token.current();
        let session = self.client.open_session(&token);
        self.answered(&token, session.chat_update(&request), |response| format!("{}/{}", response.channel, response.ts)).await
    }

    /// The message of an incident that was posted since `since`, where `slack.look_back` allows to look; of an attempt that nobody knows the end of. It
    /// is none but `lost`.
    ///
    /// # Errors
    /// When Slack does not say. What it refuses, it will not say.
    pub async fn look_back(&self, channel: &str, incident: &str, since: Timestamp, lost: Option<&Post>) -> Result<Option<Post>, Posted> {
        if !self.look_back {
            return Ok(None);
        }
        let known = self.ids().get(channel).cloned();
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.channel_id(channel).await?;
                self.ids().insert(channel.to_owned(), id.clone());
                id
            }
        };
        // Clocks differ.
        let oldest = format!("{}.000000", (since - Span::from_secs(60)).millis() / 1000);
        let found = self.messages("conversations.history", &[("channel", &id), ("oldest", &oldest)]).await;
        if matches!(found, Err(Posted::Refused(_))) {
            // The name may be another channel's by now.
            self.ids().remove(channel);
        }
        let found = found?;
        let is_lost = |message: &Told| lost.is_some_and(|lost| lost.ts == message.ts);
        let ours = found.into_iter().find(|message| message.says("incident", incident) && message.is_first() && !is_lost(message));
        Ok(ours.map(|message| Post { channel: id, ts: message.ts, maybe_repeated: false }))
    }

    /// Whether a line stands in a thread already.
    ///
    /// # Errors
    /// When Slack does not say. What it refuses, it will not say.
    pub async fn look_back_thread(&self, post: &Post, id: &str) -> Result<bool, Posted> {
        if !self.look_back {
            return Ok(false);
        }
        let found = self.messages("conversations.replies", &[("channel", &post.channel), ("ts", &post.ts)]).await?;
        Ok(found.iter().any(|message| message.says("id", id)))
    }

    fn ids(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn channel_id(&self, name: &str) -> Result<String, Posted> {
        /// A workspace of ten thousand channels.
        const PAGES_MAX: usize = 10;
        let Some(plain) = name.strip_prefix('#') else { return Ok(name.to_owned()) };
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let asked = [("limit", "1000"), ("types", "public_channel,private_channel"), ("cursor", &cursor)];
            let page: Channels = self.get("conversations.list", &asked).await?;
            if let Some(channel) = page.channels.into_iter().find(|channel| channel.name == plain) {
                return Ok(channel.id);
            }
            cursor = page.response_metadata.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        Err(Posted::Refused("channel_not_found".to_owned()))
    }

    /// Of a channel or a thread, the latest thousand at most.
    async fn messages(&self, method: &str, asked: &[(&str, &str)]) -> Result<Vec<Told>, Posted> {
        /// Far more than a channel says within an attempt.
        const PAGES_MAX: usize = 5;
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let asked = [asked, &[("include_all_metadata", "true"), ("limit", "200"), ("cursor", &cursor)]].concat();
            let page: Page = self.get(method, &asked).await?;
            found.extend(page.messages);
            cursor = page.response_metadata.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    async fn get<T: for<'de> Deserialize<'de> + Send>(&self, method: &str, asked: &[(&str, &str)]) -> Result<T, Posted> {
        let asked: Vec<(&str, Option<String>)> =
            asked.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, Some((*value).to_owned()))).collect();
        let token = self.token.current();
        let session = self.client.open_session(&token);
        let answer = tokio::time::timeout(self.timeout, session.http_session_api.http_get(method, &asked, None)).await;
        answer.iter().for_each(|answer| self.token.heard(&token, answer));
        match answer {
            Err(_) => Err(Posted::Again(format!("{method}: no answer within {} s", self.timeout.as_secs()))),
            Ok(Ok(answer)) => Ok(answer),
            // Looking changes nothing, so that it can be done again whatever became of it.
            Ok(Err(error)) => Err(match classify(error) {
                Posted::Unknown(problem) => Posted::Again(problem),
                other => other,
            }),
        }
    }

    async fn answered<T>(
        &self,
        token: &SlackApiToken,
        asked: impl Future<Output = Result<T, SlackClientError>>,
        receipt: impl FnOnce(T) -> String,
    ) -> Posted {
        let answer = tokio::time::timeout(self.timeout, asked).await;
        answer.iter().for_each(|answer| self.token.heard(token, answer));
        match answer {
            Err(_) => Posted::Unknown(format!("no answer within {} s", self.timeout.as_secs())),
            Ok(Ok(response)) => Posted::Sent(receipt(response)),
            Ok(Err(error)) => classify(error),
        }
    }
}

/// Messages as far as we look at them: of others' there is nothing that we could rely on.
#[derive(Debug, Deserialize)]
struct Page {
    messages: Vec<Told>,
    #[serde(default)]
    response_metadata: Next,
}

#[derive(Debug, Deserialize)]
struct Channels {
    channels: Vec<Named>,
    #[serde(default)]
    response_metadata: Next,
}

#[derive(Debug, Deserialize)]
struct Named {
    id: String,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Default, Deserialize)]
struct Next {
    #[serde(default)]
    next_cursor: String,
}

#[derive(Debug, Deserialize)]
struct Told {
    ts: String,
    #[serde(default)]
    thread_ts: Option<String>,
    #[serde(default)]
    metadata: serde_json::Value,
}

impl Told {
    fn says(&self, key: &str, value: &str) -> bool {
        self.metadata["event_payload"][key].as_str() == Some(value)
    }

    fn is_first(&self) -> bool {
        self.thread_ts.as_ref().is_none_or(|thread| *thread == self.ts)
    }
}

fn classify(error: SlackClientError) -> Posted {
    match error {
        SlackClientError::RateLimitError(limit) => {
            Posted::Later(limit.retry_after.unwrap_or(Duration::from_secs(30)).clamp(Duration::from_secs(1), PAUSE_MAX))
        }
        SlackClientError::HttpError(error) => match error.status_code.as_u16() {
            429 => Posted::Later(Duration::from_secs(30)),
            // A gateway that gave up waiting says nothing about the server behind it.
            status @ (502 | 504) => Posted::Unknown(format!("HTTP {status}")),
            status @ 500.. => Posted::Again(format!("HTTP {status}")),
            status => Posted::Refused(format!("HTTP {status}")),
        },
        SlackClientError::ApiError(error) => match error.code.as_str() {
            "ratelimited" | "rate_limited" | "message_limit_exceeded" => Posted::Later(Duration::from_secs(30)),
            "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" | "team_added_to_org" => Posted::Again(error.code),
            // Another token mends it, and what waits is sent then.
            problem if is_of_token(problem) => Posted::Again(error.code),
            _ => Posted::Refused(error.code),
        },
        SlackClientError::HttpProtocolError(error) => match error.cause {
            Some(cause) if refused_connection(cause.as_ref()) => Posted::Again("cannot connect".to_owned()),
            _ => Posted::Unknown("the connection broke".to_owned()),
        },
        other => Posted::Unknown(other.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// Whether what happened is shown in the channel as well as in the thread: it calls for somebody, and neither an edit nor a line in a thread notifies
/// anyone who does not follow it.
pub fn is_loud(occasion: &Occasion) -> bool {
    matches!(occasion, Occasion::Reminded | Occasion::Returned { .. } | Occasion::Worse { .. })
}

/// Whether a message that Slack does not change, for `problem`, is posted anew to say this.
pub fn is_posted_anew(problem: &str, occasion: &Occasion) -> bool {
    match problem {
        // Somebody deleted it, it is another app's whose token was here before, or its channel is gone and another one has the name.
        "message_not_found" | "cant_update_message" | "channel_not_found" => true,
        // It stands there as it was, so a second one is for what nobody may miss.
        "edit_window_closed" => matches!(occasion, Occasion::Resolved { .. } | Occasion::Returned { .. } | Occasion::Worse { .. }),
        _ => false,
    }
}

/// Nothing was sent: the connection never came about.
fn refused_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(hyper_util::client::legacy::Error::is_connect)
}

/// A hint for the refusals that people can mend.
pub fn hint(problem: &str) -> &'static str {
    match problem {
        "channel_not_found" => "create the channel, or invite the bot to the private one: /invite @streamgauge",
        "not_in_channel" => "invite the bot: /invite @streamgauge, or give it the scope chat:write.public",
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            "the bot token is not valid any more; put a new one in its place, `streamgauge doctor` says how"
        }
        "missing_scope" => "give the app the scope chat:write and reinstall it",
        "is_archived" => "the channel is archived; route the alerts to another one",
        "edit_window_closed" => {
            "the workspace lets nobody change messages of that age: allow apps to, or see what is new in the thread; the end is posted anew"
        }
        _ => "see https://docs.slack.dev/reference/methods/chat.postMessage",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::plan::Severity;
    use slack_morphism::errors::SlackRateLimitError;

    #[test]
    fn the_longest_that_slack_can_make_us_wait_is_an_hour() {
        for (said, waits) in [(Some(7), 7), (Some(0), 1), (Some(1_000_000), 3600), (None, 30)] {
            let limit = SlackRateLimitError::new().opt_retry_after(said.map(Duration::from_secs));
            assert_eq!(classify(SlackClientError::RateLimitError(limit)), Posted::Later(Duration::from_secs(waits)), "{said:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_old_to_be_changed_is_posted_anew_for_what_nobody_may_miss() {
        let worse = Occasion::Worse { severity: Severity::Critical };
        for (problem, occasion, anew) in [
            ("message_not_found", &Occasion::Updated, true),
            ("cant_update_message", &Occasion::Updated, true),
            ("edit_window_closed", &Occasion::Updated, false),
            ("edit_window_closed", &worse, true),
            ("edit_window_closed", &Occasion::Returned { times: 1 }, true),
            ("is_inactive", &worse, false),
        ] {
            assert_eq!(is_posted_anew(problem, occasion), anew, "{problem} {occasion:?}");
        }
    }
}
