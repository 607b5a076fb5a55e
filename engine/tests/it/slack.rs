//! The counterpart of Slack, as these tests speak to it: what the engine posted, with what its metadata say, and what became of each post.
//!
//! The counterpart itself is `fixtures/slack`, with more than is told here.

use fixtures_slack::{Channel, Moment, Settings, Workspace};
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

/// What the bot signs in with.
pub const TOKEN: &str = "xoxb-test";

/// What the engine needs to post and to look at channels.
const SCOPES: &str = "chat:write,chat:write.public,channels:read,groups:read";

pub struct Slack {
    /// The base of the API, for `slack.api_url`.
    pub url: String,
    workspace: Workspace,
}

/// What becomes of one request instead of the usual.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// HTTP 429 with `Retry-After` in seconds.
    RateLimited(u64),
    Status(u16),
    /// The message is taken, and the connection cut without an answer.
    DropAfterAccept,
    /// The message is taken, and the answer comes this much later.
    Hang(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// HTTP 429: on purpose, or because the channel's pace was broken.
    RateLimited,
    Status(u16),
    /// No answer that can be read came; whether the message was taken.
    Dropped(bool),
    /// `"ok": false` with this error.
    Refused(&'static str),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub at: Moment,
    /// As the request names it.
    pub channel: String,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub struct Message {
    posted: fixtures_slack::Message,
    /// With its `#`.
    pub channel: String,
    pub text: String,
    /// What it says last, by the id in its metadata.
    pub id: String,
    pub incident: String,
    /// The metadata says that it may have been posted before.
    pub possible_repeat: bool,
}

impl Deref for Message {
    type Target = fixtures_slack::Message;

    fn deref(&self) -> &fixtures_slack::Message {
        &self.posted
    }
}

impl Message {
    /// Every text in which Slack looks for mentions and links.
    pub fn marked_up(&self) -> Vec<&str> {
        self.posted.marked_up()
    }
}

impl Slack {
    /// With these channels, in which the bot may write.
    pub async fn start(channels: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0".parse().expect("it is an address"), channels).await
    }

    pub async fn start_on(listen: SocketAddr, channels: &[&str]) -> Self {
        let channels = channels.iter().map(ToString::to_string).collect();
        let workspace = Workspace::start(Settings { listen, channels, bot_token: TOKEN.to_owned(), scopes: split(SCOPES), ..Settings::default() })
            .await
            .expect("the port is free");
        Self { url: workspace.api_url(), workspace }
    }

    /// What becomes of the next requests, one each, before all is well again.
    pub fn script(&self, faults: &[Fault]) {
        let faults: Vec<_> = faults
            .iter()
            .map(|fault| match *fault {
                Fault::RateLimited(seconds) => fixtures_slack::Fault::RateLimited(seconds),
                Fault::Status(code) => fixtures_slack::Fault::Status(code),
                Fault::DropAfterAccept => fixtures_slack::Fault::DropAfter,
                Fault::Hang(longer) => fixtures_slack::Fault::Slow(longer),
            })
            .collect();
        self.workspace.script(&faults);
    }

    /// The same, from when the engine has shown its token.
    pub async fn script_posts(&self, faults: &[Fault]) {
        self.workspace.until("a look at the token", Duration::from_secs(30), |workspace| !workspace.requests().is_empty()).await;
        self.script(faults);
    }

    /// Each request has a fault with this probability.
    pub fn fail_at_random(&self, probability: f64, seed: u64) {
        self.workspace.fail_at_random(probability, seed);
    }

    /// A channel in which every post is refused with `error`, and for the reason that it names.
    pub fn refusing(&self, channel: &str, error: &'static str) {
        let room = self.workspace.open_channel(channel, true);
        match error {
            "is_archived" => room.archive(),
            "not_in_channel" => room.remove_app(),
            _ => {}
        }
        room.refuse(Some(error));
    }

    /// What the app may do, as Slack writes it.
    pub fn scopes(&self, scopes: &str) {
        self.workspace.set(|settings| settings.scopes = split(scopes));
    }

    /// Every answer comes this much later.
    pub fn latency(&self, latency: Duration) {
        self.workspace.latency(latency);
    }

    pub fn requests(&self) -> Vec<Request> {
        /// Those that the tests name.
        const ERRORS: [&str; 5] = ["channel_not_found", "not_in_channel", "is_archived", "invalid_auth", "invalid_blocks"];
        let outcome = |outcome| match outcome {
            fixtures_slack::Outcome::Answered => Outcome::Answered,
            fixtures_slack::Outcome::RateLimited => Outcome::RateLimited,
            fixtures_slack::Outcome::Failed(fixtures_slack::Fault::Status(code), _) => Outcome::Status(code),
            fixtures_slack::Outcome::Failed(_, taken) => Outcome::Dropped(taken),
            fixtures_slack::Outcome::Refused(error) => Outcome::Refused(ERRORS.into_iter().find(|known| *known == error).unwrap_or("another error")),
        };
        let requests = self.workspace.requests().into_iter();
        // Whether the token is good is asked beside all this.
        let requests = requests.filter(|request| request.method != "auth.test");
        requests.map(|request| Request { at: request.at, channel: request.channel.unwrap_or_default(), outcome: outcome(request.outcome) }).collect()
    }

    /// In the order in which they were taken.
    pub fn messages(&self) -> Vec<Message> {
        let named = |posted: fixtures_slack::Message| {
            let value = |key: &str| posted.metadata(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            let channel: Channel = self.workspace.channel(&posted.channel);
            Message {
                channel: channel.name(),
                text: posted.text().to_owned(),
                id: value("id"),
                incident: value("incident"),
                possible_repeat: value("possible_repeat") == "true",
                posted,
            }
        };
        self.workspace.messages().into_iter().map(named).collect()
    }

    /// The messages of incidents themselves, without what is said in their threads.
    pub fn heads(&self) -> Vec<Message> {
        self.messages().into_iter().filter(|message| message.thread_ts.is_none()).collect()
    }

    /// The messages, as soon as `enough` says so.
    pub async fn until(&self, what: &str, patience: Duration, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        self.workspace.until(what, patience, |_| enough(&self.messages())).await;
        self.messages()
    }
}

fn split(scopes: &str) -> Vec<String> {
    scopes.split(',').map(str::to_owned).collect()
}
