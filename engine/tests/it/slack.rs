//! A counterpart of Slack's Web API on loopback: `chat.postMessage` with Slack's documented limits, its pace per channel, and faults on demand.
//!
//! It speaks HTTP itself, so that it can cut a connection between reading a request and answering it. It keeps every request with its time and what
//! became of it, and every message it took. `auth.test` and `conversations.list` say whose token it is and what the bot sees. Deliberately absent: the
//! other methods, and Slack's rendering.

use super::serving::{header, request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The one token it knows.
pub const TOKEN: &str = "xoxb-test";
/// Slack speaks of "short bursts" beyond one message a second and channel.
const BURST: f64 = 3.0;
/// Slack's limits; the total over all blocks is not documented, but enforced.
const BLOCKS_MAX: usize = 50;
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const FIELDS_MAX: usize = 10;
const FIELD_MAX: usize = 2000;
const CONTEXT_ELEMENTS_MAX: usize = 10;
const BUTTONS_MAX: usize = 25;
const BUTTON_TEXT_MAX: usize = 75;
const URL_MAX: usize = 3000;
const BLOCK_CHARACTERS_MAX: usize = 13_200;
const TEXT_MAX: usize = 40_000;

pub struct Slack {
    /// The base of the API, for `slack.api_url`.
    pub url: String,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<()>,
}

/// What becomes of one request instead of the usual.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// HTTP 429 with `Retry-After` in seconds.
    RateLimited(u64),
    Status(u16),
    /// The message is taken, and the connection cut without an answer.
    DropAfterAccept,
    DropBeforeAccept,
    /// The message is taken, and the answer comes this much later.
    Hang(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// HTTP 429: scripted, or because the channel's pace was broken.
    RateLimited,
    Status(u16),
    /// The connection was cut; whether the message was taken.
    Dropped(bool),
    /// `"ok": false` with this error.
    Refused(&'static str),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub channel: String,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub channel: String,
    pub ts: String,
    pub thread_ts: Option<String>,
    /// A reply that is shown in the channel as well.
    pub broadcast: bool,
    pub text: String,
    pub blocks: Vec<Value>,
    /// The notification's id in the metadata.
    pub id: String,
    /// The metadata says that it may have been posted before.
    pub possible_repeat: bool,
}

struct State {
    /// Channels by name, with what a post there is refused with.
    channels: BTreeMap<String, Option<&'static str>>,
    /// Of the token.
    scopes: &'static str,
    script: VecDeque<Fault>,
    random: Option<(f64, fastrand::Rng)>,
    latency: Duration,
    /// Messages that a channel may still take, and when that was counted.
    allowance: BTreeMap<String, (f64, Instant)>,
    requests: Vec<Request>,
    messages: Vec<Message>,
    /// Says that a request came.
    heard: watch::Sender<()>,
}

impl Slack {
    /// With these channels, in which the bot may write.
    pub async fn start(channels: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0".parse().expect("it is an address"), channels).await
    }

    pub async fn start_on(address: SocketAddr, channels: &[&str]) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let url = format!("http://{}/api", listener.local_addr().expect("it is bound"));
        let state = Arc::new(Mutex::new(State {
            channels: channels.iter().map(|name| ((*name).to_owned(), None)).collect(),
            scopes: "chat:write,chat:write.public,channels:read,groups:read",
            script: VecDeque::new(),
            random: None,
            latency: Duration::ZERO,
            allowance: BTreeMap::new(),
            requests: Vec::new(),
            messages: Vec::new(),
            heard: watch::Sender::default(),
        }));
        let shared = state.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // A client that goes away is no fault of ours.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Self { url, state, listening }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What becomes of the next requests, one each, before all is well again.
    pub fn script(&self, faults: &[Fault]) {
        self.state().script.extend(faults);
    }

    /// Each request has a fault with this probability.
    pub fn fail_at_random(&self, probability: f64, seed: u64) {
        self.state().random = Some((probability, fastrand::Rng::with_seed(seed)));
    }

    /// A channel in which every post is refused with `error`.
    pub fn refusing(&self, channel: &str, error: &'static str) {
        self.state().channels.insert(channel.to_owned(), Some(error));
    }

    /// What the app may do, as Slack writes it.
    pub fn scopes(&self, scopes: &'static str) {
        self.state().scopes = scopes;
    }

    /// Every answer comes this much later.
    pub fn latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    pub fn messages(&self) -> Vec<Message> {
        self.state().messages.clone()
    }

    /// The messages, as soon as `enough` says so.
    pub async fn until(&self, what: &str, patience: Duration, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let mut heard = self.state().heard.subscribe();
        let waiting = async {
            loop {
                let messages = self.messages();
                if enough(&messages) {
                    return messages;
                }
                heard.changed().await.expect("the state is kept as long as this");
            }
        };
        let Ok(messages) = tokio::time::timeout(patience, waiting).await else {
            panic!("waited {patience:?} for {what}; Slack has\n{:#?}\nof the requests\n{:#?}", self.messages(), self.requests());
        };
        messages
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Message {
    /// Every text in which Slack looks for mentions and links.
    pub fn marked_up(&self) -> Vec<&str> {
        fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(object) if object.get("type").is_some_and(|kind| kind == "mrkdwn") => found.extend(object["text"].as_str()),
                Value::Object(object) => object.values().for_each(|value| collect(value, found)),
                Value::Array(array) => array.iter().for_each(|value| collect(value, found)),
                _ => {}
            }
        }
        let mut found = vec![self.text.as_str()];
        self.blocks.iter().for_each(|block| collect(block, &mut found));
        found
    }

    /// The text of the header, which is plain.
    pub fn headline(&self) -> &str {
        self.blocks.iter().find(|block| block["type"] == "header").and_then(|block| block["text"]["text"].as_str()).unwrap_or_default()
    }

    /// The text of the context block at the end.
    pub fn context(&self) -> String {
        let elements = self.blocks.iter().filter(|block| block["type"] == "context").flat_map(|block| block["elements"].as_array()).flatten();
        elements.filter_map(|element| element["text"].as_str()).collect::<Vec<_>>().join("\n")
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers requests until the client goes, or a fault cuts the connection.
async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await? {
        let Some((pause, answer)) = answer(&head, &body, state) else { return Ok(()) };
        tokio::time::sleep(pause).await;
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// The answer and how long it is held back; `None` cuts the connection.
fn answer(head: &str, body: &[u8], state: &Mutex<State>) -> Option<(Duration, String)> {
    if let Some(asked) = head.strip_prefix("GET /api/") {
        return Some((Duration::ZERO, lock(state).tell(asked, head)));
    }
    if !head.starts_with("POST /api/chat.postMessage ") {
        return Some((Duration::ZERO, ok(&json!({ "ok": false, "error": "unknown_method" }))));
    }
    let state = &mut *lock(state);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let channel = body["channel"].as_str().unwrap_or_default().to_owned();
    let random = state.random.as_mut().and_then(|(probability, rng)| {
        let faults = [Fault::RateLimited(1), Fault::Status(500), Fault::Status(503), Fault::DropAfterAccept, Fault::DropBeforeAccept];
        (rng.f64() < *probability).then(|| faults[rng.usize(..faults.len())])
    });
    let fault = state.script.pop_front().or(random);
    let mut pause = state.latency;
    let (outcome, answer) = match fault {
        Some(Fault::RateLimited(seconds)) => (Outcome::RateLimited, Some(rate_limited(seconds))),
        Some(Fault::Status(code)) => (Outcome::Status(code), Some(status(code))),
        Some(Fault::DropBeforeAccept) => (Outcome::Dropped(false), None),
        Some(Fault::DropAfterAccept) => match state.take(head, &body) {
            Ok(_) => (Outcome::Dropped(true), None),
            Err(error) => (Outcome::Refused(error), None),
        },
        Some(Fault::Hang(_)) | None => {
            if let Some(Fault::Hang(longer)) = fault {
                pause += longer;
            }
            if !state.allowed(&channel) {
                (Outcome::RateLimited, Some(rate_limited(1)))
            } else {
                match state.take(head, &body) {
                    Ok(taken) => (Outcome::Answered, Some(ok(&taken))),
                    Err(error) => (Outcome::Refused(error), Some(ok(&json!({ "ok": false, "error": error })))),
                }
            }
        }
    };
    state.requests.push(Request { at: Instant::now(), channel, outcome });
    state.heard.send_replace(());
    answer.map(|answer| (pause, answer))
}

impl State {
    /// One message a second and channel, and a burst.
    fn allowed(&mut self, channel: &str) -> bool {
        let now = Instant::now();
        let (left, counted) = self.allowance.entry(channel.to_owned()).or_insert((BURST, now));
        *left = (*left + counted.elapsed().as_secs_f64()).min(BURST);
        *counted = now;
        let allowed = *left >= 1.0;
        if allowed {
            *left -= 1.0;
        }
        allowed
    }

    /// What is asked without changing anything. A channel that refuses because the bot is not in it is a private one.
    fn tell(&self, asked: &str, head: &str) -> String {
        let refused = |error: &str| ok(&json!({ "ok": false, "error": error }));
        if header(head, "authorization") != Some(&format!("Bearer {TOKEN}")) {
            return refused("invalid_auth");
        }
        let answer = match asked.split([' ', '?']).next() {
            Some("auth.test") => json!({ "ok": true, "team": "Ours", "user": "streamgauge", "bot_id": "B0BOT" }),
            Some("conversations.list") if !self.scopes.contains("channels:read") => return refused("missing_scope"),
            Some("conversations.list") => {
                let channel = |(place, (name, refusal)): (usize, (&String, &Option<&str>))| {
                    json!({ "id": format!("C{place:010}"), "name": name.trim_start_matches('#'), "is_private": *refusal == Some("not_in_channel"),
                        "is_member": refusal.is_none(), "is_archived": *refusal == Some("is_archived") })
                };
                let channels: Vec<_> = self.channels.iter().enumerate().map(channel).collect();
                json!({ "ok": true, "channels": channels, "response_metadata": { "next_cursor": "" } })
            }
            _ => return refused("unknown_method"),
        };
        ok(&answer).replacen("\r\n", &format!("\r\nx-oauth-scopes: {}\r\n", self.scopes), 1)
    }

    /// Takes a message as Slack would, and says what Slack would answer.
    fn take(&mut self, head: &str, body: &Value) -> Result<Value, &'static str> {
        match header(head, "authorization") {
            None => return Err("not_authed"),
            Some(sent) if sent != format!("Bearer {TOKEN}") => return Err("invalid_auth"),
            Some(_) => {}
        }
        if !header(head, "content-type").is_some_and(|kind| kind.starts_with("application/json")) {
            return Err("invalid_post_type");
        }
        let channel = body["channel"].as_str().ok_or("channel_not_found")?.to_owned();
        let place = self.channels.keys().position(|name| *name == channel).ok_or("channel_not_found")?;
        if let Some(error) = self.channels[&channel] {
            return Err(error);
        }
        let thread_ts = match &body["thread_ts"] {
            Value::Null => None,
            ts => {
                let parent = self.messages.iter().find(|message| message.channel == channel && Some(message.ts.as_str()) == ts.as_str());
                Some(parent.filter(|parent| parent.thread_ts.is_none()).ok_or("thread_not_found")?.ts.clone())
            }
        };
        check(body)?;
        let ts = format!("{}.{:06}", 1_700_000_000 + self.messages.len(), 100);
        let text = body["text"].as_str().unwrap_or_default().to_owned();
        let payload = &body["metadata"]["event_payload"];
        self.messages.push(Message {
            channel,
            ts: ts.clone(),
            broadcast: body["reply_broadcast"].as_bool().unwrap_or(false),
            text: text.clone(),
            blocks: body["blocks"].as_array().cloned().unwrap_or_default(),
            id: payload["id"].as_str().unwrap_or_default().to_owned(),
            possible_repeat: payload["possible_repeat"] == "true",
            thread_ts: thread_ts.clone(),
        });
        let mut message = json!({ "type": "message", "text": text, "ts": ts, "user": "U0BOT", "bot_id": "B0BOT" });
        if let Some(thread) = thread_ts {
            message["thread_ts"] = json!(thread);
        }
        Ok(json!({ "ok": true, "channel": format!("C{place:010}"), "ts": ts, "message": message }))
    }
}

/// What Slack refuses a message for, apart from where it goes.
fn check(body: &Value) -> Result<(), &'static str> {
    let text = body["text"].as_str().unwrap_or_default();
    if text.trim().is_empty() {
        return Err("no_text");
    }
    if text.chars().count() > TEXT_MAX {
        return Err("msg_too_long");
    }
    let metadata = &body["metadata"];
    let named = metadata["event_type"].as_str().is_some_and(|kind| !kind.is_empty());
    let complete = named && metadata["event_payload"].is_object();
    if !metadata.is_null() && !complete {
        return Err("invalid_metadata_format");
    }
    let blocks = match &body["blocks"] {
        Value::Null => return Ok(()),
        blocks => blocks.as_array().ok_or("invalid_blocks_format")?,
    };
    let mut characters = 0;
    let well = blocks.len() <= BLOCKS_MAX && blocks.iter().all(|block| block_is_well(block, &mut characters));
    match well {
        false => Err("invalid_blocks"),
        true if characters > BLOCK_CHARACTERS_MAX => Err("msg_blocks_too_long"),
        true => Ok(()),
    }
}

/// Whether a block has a known type, what that type needs, and keeps its limits; adds its characters.
fn block_is_well(block: &Value, characters: &mut usize) -> bool {
    let list = |key: &str, most: usize| block[key].as_array().filter(|items| (1..=most).contains(&items.len()));
    match block["type"].as_str() {
        Some("divider") => true,
        Some("header") => block["text"]["type"] == "plain_text" && text_is_well(&block["text"], HEADER_MAX, characters),
        Some("section") => {
            let text = block["text"].is_null() || text_is_well(&block["text"], SECTION_MAX, characters);
            let fields = block["fields"].is_null()
                || list("fields", FIELDS_MAX).is_some_and(|fields| fields.iter().all(|field| text_is_well(field, FIELD_MAX, characters)));
            text && fields && !(block["text"].is_null() && block["fields"].is_null())
        }
        Some("context") => list("elements", CONTEXT_ELEMENTS_MAX)
            .is_some_and(|elements| elements.iter().all(|element| text_is_well(element, SECTION_MAX, characters))),
        Some("actions") => list("elements", BUTTONS_MAX).is_some_and(|elements| {
            elements.iter().all(|button| {
                let url = button["url"].is_null() || button["url"].as_str().is_some_and(|url| url.chars().count() <= URL_MAX);
                button["type"] == "button"
                    && button["text"]["type"] == "plain_text"
                    && text_is_well(&button["text"], BUTTON_TEXT_MAX, characters)
                    && url
            })
        }),
        _ => false,
    }
}

fn text_is_well(text: &Value, most: usize, characters: &mut usize) -> bool {
    let length = text["text"].as_str().map_or(0, |text| text.chars().count());
    *characters += length;
    matches!(text["type"].as_str(), Some("plain_text" | "mrkdwn")) && (1..=most).contains(&length)
}

fn ok(body: &Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn rate_limited(seconds: u64) -> String {
    let body = json!({ "ok": false, "error": "ratelimited" }).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: {seconds}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// As from a server in front of Slack: no JSON.
fn status(code: u16) -> String {
    let body = "<html>something went wrong</html>";
    format!("HTTP/1.1 {code} Something\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn the_counterpart_refuses_what_slack_refuses() {
    let text = |text: &str| json!({ "type": "mrkdwn", "text": text });
    let post = |blocks: Value| json!({ "text": "t", "blocks": blocks });
    let header = |length: usize| json!([{ "type": "header", "text": { "type": "plain_text", "text": "x".repeat(length) } }]);
    let section = |length: usize| json!([{ "type": "section", "text": text(&"x".repeat(length)) }]);
    let fields = |count: usize, length: usize| json!([{ "type": "section", "fields": vec![text(&"x".repeat(length)); count] }]);
    let cases = [
        (json!({ "text": "t" }), Ok(())),
        (json!({ "text": "" }), Err("no_text")),
        (json!({ "blocks": section(1) }), Err("no_text")),
        (json!({ "text": "t", "metadata": { "event_type": "e", "event_payload": {} } }), Ok(())),
        (json!({ "text": "t", "metadata": { "event_type": "e", "event_payload": "p" } }), Err("invalid_metadata_format")),
        (post(header(150)), Ok(())),
        (post(header(151)), Err("invalid_blocks")),
        (post(header(0)), Err("invalid_blocks")),
        (post(section(3000)), Ok(())),
        (post(section(3001)), Err("invalid_blocks")),
        (post(fields(10, 1000)), Ok(())),
        (post(fields(11, 10)), Err("invalid_blocks")),
        (post(fields(1, 2001)), Err("invalid_blocks")),
        (post(fields(7, 2000)), Err("msg_blocks_too_long")),
        (post(json!([{ "type": "section" }])), Err("invalid_blocks")),
        (post(json!([{ "type": "context", "elements": vec![text("x"); 10] }])), Ok(())),
        (post(json!([{ "type": "context", "elements": vec![text("x"); 11] }])), Err("invalid_blocks")),
        (post(json!(vec![json!({ "type": "divider" }); 51])), Err("invalid_blocks")),
        (post(json!([{ "type": "unheard_of" }])), Err("invalid_blocks")),
    ];
    for (body, expected) in cases {
        assert_eq!(check(&body), expected, "{body}");
    }
}
