//! Posting to Slack through slack-morphism: a message into blocks, and Slack's answers into what the outbox must know.
//!
//! Retries, pacing and order are the outbox's. Every limit of Slack's that our messages could reach is kept here, and nothing a log says can ping
//! anyone: `&`, `<` and `>` are escaped.

use crate::config::SlackConfig;
use crate::error::Fault;
use crate::message::{Colour, Message};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::*;
use std::time::Duration;

/// Slack's limits on the parts that we use.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const FIELD_MAX: usize = 2000;
const FIELDS_PER_SECTION: usize = 10;
const TEXT_MAX: usize = 4000;
/// Over all blocks: Slack refuses more than about 13,200 characters, which it does not document.
const BLOCKS_CHARACTERS_MAX: usize = 12_000;

pub struct Slack {
    client: SlackClient<SlackClientHyperConnector<HttpsConnector<HttpConnector>>>,
    token: SlackApiToken,
    timeout: Duration,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slack").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What came of a post.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// Slack's timestamp of the message, which names it.
    Sent(String),
    /// Slack did not take it, and says when to try again.
    Later(Duration),
    /// It did not take it, for a reason that may pass.
    Again(String),
    /// Nobody can say whether it was taken: the connection broke, or no answer came in time.
    Unknown(String),
    /// It will never take it like this.
    Refused(String),
}

impl Slack {
    /// `None` when no bot token is configured or set.
    ///
    /// # Errors
    /// When the token's file cannot be read, or the system has no certificates to trust.
    pub fn new(config: &SlackConfig) -> Result<Option<Self>, Fault> {
        let token = config.bot_token.resolve().map_err(|error| Fault::plain(error.to_string()))?;
        let Some(token) = token else { return Ok(None) };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Fault::new(format!("no certificates to trust Slack by: {error}"), "install the package ca-certificates"))?
            .https_or_http()
            .enable_http1()
            .build();
        let connector = SlackClientHyperConnector::with_connector(connector).with_slack_api_url(&config.api_url);
        Ok(Some(Self { client: SlackClient::new(connector), token: SlackApiToken::new(token.expose().into()), timeout: config.timeout }))
    }

    /// Posts `message`, in the thread of `thread` and shown in the channel as well when that is given.
    pub async fn post(&self, channel: &str, id: &str, message: &Message, thread: Option<&str>) -> Posted {
        let mut request = SlackApiChatPostMessageRequest::new(channel.into(), content(id, message)).with_unfurl_links(false).with_unfurl_media(false);
        if let Some(thread) = thread {
            request = request.with_thread_ts(thread.into()).with_reply_broadcast(true);
        }
        let session = self.client.open_session(&self.token);
        match tokio::time::timeout(self.timeout, session.chat_post_message(&request)).await {
            Err(_) => Posted::Unknown(format!("no answer within {} s", self.timeout.as_secs())),
            Ok(Ok(response)) => Posted::Sent(response.ts.to_string()),
            Ok(Err(error)) => classify(error),
        }
    }
}

fn classify(error: SlackClientError) -> Posted {
    match error {
        SlackClientError::RateLimitError(limit) => Posted::Later(limit.retry_after.unwrap_or(Duration::from_secs(30))),
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
            _ => Posted::Refused(error.code),
        },
        SlackClientError::HttpProtocolError(error) => match error.cause {
            Some(cause) if refused_connection(cause.as_ref()) => Posted::Again("cannot connect".to_owned()),
            _ => Posted::Unknown("the connection broke".to_owned()),
        },
        other => Posted::Unknown(other.to_string().lines().next().unwrap_or_default().to_owned()),
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
            "the bot token is not valid any more; set a new one and restart"
        }
        "missing_scope" => "give the app the scope chat:write and reinstall it",
        "is_archived" => "the channel is archived; route the alerts to another one",
        _ => "see https://docs.slack.dev/reference/methods/chat.postMessage",
    }
}

fn content(id: &str, message: &Message) -> SlackMessageContent {
    let mark = match message.colour {
        Colour::Red => "🔴",
        Colour::Orange => "🟠",
        Colour::Blue => "🔵",
        Colour::Green => "✅",
        Colour::Grey => "⚪",
    };
    let mut blocks: Vec<SlackBlock> = vec![SlackHeaderBlock::new(pt!(cut(&format!("{mark} {}", message.headline), HEADER_MAX))).into()];
    let summary = cut(&escape(&message.summary), SECTION_MAX);
    // Slack refuses a text of nothing.
    if !summary.trim().is_empty() {
        blocks.push(SlackSectionBlock::new().with_text(md!(summary.clone())).into());
    }
    let mut links = format!("<{}|Open>", message.link);
    let examples: Vec<_> = message.examples.iter().zip(1..).map(|(link, number)| format!("<{link}|{number}>")).collect();
    if !examples.is_empty() {
        links += &format!("  ·  Calls {}", examples.join(" "));
    }
    if let Some(runbook) = message.runbook.as_deref().filter(|url| url.starts_with("http")) {
        links += &format!("  ·  <{}|Runbook>", runbook.replace(['<', '>', '|', ' '], ""));
    }
    links += &format!("  ·  alert {}", message.alert_id);
    let links = cut(&links, SECTION_MAX);
    // However much the logs and the rule say, each field keeps its share of the message.
    let room = BLOCKS_CHARACTERS_MAX - HEADER_MAX - summary.chars().count() - links.chars().count();
    let field_max = FIELD_MAX.min(room / message.fields.len().max(1));
    for fields in message.fields.chunks(FIELDS_PER_SECTION) {
        let fields = fields.iter().map(|(label, value)| md!(cut(&format!("*{}*\n{}", escape(label), escape(value)), field_max))).collect();
        blocks.push(SlackSectionBlock::new().with_fields(fields).into());
    }
    let mut context = vec![SlackContextBlockElement::MarkDown(md!(links))];
    if message.possible_repeat {
        context.push(SlackContextBlockElement::MarkDown(md!(":repeat: Possibly a repeat: an earlier attempt was not confirmed.")));
    }
    blocks.push(SlackContextBlock::new(context).into());
    let fields: Vec<_> = message.fields.iter().map(|(label, value)| format!("{label}: {value}")).collect();
    let text = cut(&escape(&format!("{}\n{}\n{}", message.headline, message.summary, fields.join("\n"))), TEXT_MAX);
    let metadata = SlackMessageMetadata::new("streamgauge_notification".into()).with_event_payload(
        [("id".to_owned(), id.to_owned()), ("possible_repeat".to_owned(), message.possible_repeat.to_string())].into_iter().collect(),
    );
    SlackMessageContent::new().with_text(text).with_blocks(blocks).with_metadata(metadata)
}

/// Slack's three control characters, so that no log can make a mention or a link.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// At most `most` characters, the last one an ellipsis where something is missing; never inside an escape.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most - 1).collect();
    if let Some(at) = kept.rfind('&').filter(|at| !kept[*at..].contains(';')) {
        kept.truncate(at);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_can_ping() {
        assert_eq!(escape("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    }

    #[test]
    fn texts_are_cut_to_slacks_limits_and_never_inside_an_escape() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("ab&amp;cd", 5), "ab…");
    }
}
