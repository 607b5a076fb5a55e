//! Hearing over Socket Mode: the engine opens two connections to Slack, so nothing needs to reach it.
//!
//! slack-morphism does the protocol: tickets, connections, pings, and another connection for one that ends. It tells nobody when it gets none, and asks
//! for them for ever; so here is who listens to what its connections say, how many there are, and who asks Slack why when there are none. A token that is
//! refused is tried again at growing pauses, without slack-morphism, and said once.
//!
//! An envelope is acknowledged before anything is done about it: a connection reads one at a time, and Slack waits for three seconds.

use super::Hearing;
use super::payload::of_envelope;
use crate::config::Sensitive;
use crate::error::Fault;
use crate::message::count;
use crate::outbox::now;
use crate::slack::connector;
use futures_util::future::BoxFuture;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use model::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use slack_morphism::clients_manager::{SlackSocketModeClientsManager, SlackSocketModeClientsManagerFactory};
use slack_morphism::errors::SlackClientError;
use slack_morphism::listener::SlackClientEventsListenerEnvironment;
use slack_morphism::prelude::*;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// Slack ends each every few hours; the other one hears meanwhile.
const CONNECTIONS: u32 = 2;
/// slack-morphism's pause between tries to open one.
const RECONNECT: Duration = Duration::from_secs(20);
/// Without a connection for so long, Slack is asked why. `apps.connections.open` may be asked about once a minute.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between questions while there is none: from the first to the last, doubled each time.
const ASKED_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(15 * 60);
/// For an answer about connections.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How Socket Mode stands, for people and programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// An app token is set. Without one nothing here ever changes.
    pub on: bool,
    pub connections: usize,
    /// Since when there is at least one.
    pub since: Option<Timestamp>,
    /// Why there is none; `None` while there is one, or is about to be.
    pub problem: Option<String>,
}

impl Standing {
    pub fn connected(&self) -> bool {
        self.connections > 0
    }

    /// In words.
    pub fn said(&self) -> String {
        match (self.on, self.connections, &self.problem) {
            (false, ..) => "off: no app token is set".to_owned(),
            (true, 0, None) => "connecting".to_owned(),
            (true, 0, Some(problem)) => format!("not connected: {problem}"),
            (true, connections, _) => {
                let since = self.since.map(|since| format!(" since {since}")).unwrap_or_default();
                format!("connected{since} ({})", count(connections as u64, "connection"))
            }
        }
    }
}

type Connector = SlackClientHyperConnector<HttpsConnector<HttpConnector>>;
type Manager = dyn SlackSocketModeClientsManager + Send + Sync;

/// Where the standing is kept: written here alone.
#[derive(Clone, Debug)]
struct Board(Arc<watch::Sender<Standing>>);

impl Board {
    fn connections(&self, connections: usize) {
        self.0.send_if_modified(|standing| {
            let before = std::mem::replace(&mut standing.connections, connections);
            match (before, connections) {
                (0, 1..) => {
                    standing.since = Some(now());
                    info!(again = standing.problem.take().is_some(), "hearing what people say in Slack");
                }
                (1.., 0) => standing.since = None,
                _ => {}
            }
            before != connections
        });
    }

    /// Said once, until it is another one.
    fn problem(&self, problem: String) {
        self.0.send_if_modified(|standing| {
            let new = standing.connections == 0 && standing.problem.as_ref() != Some(&problem);
            if new {
                warn!(%problem, "Slack's Socket Mode is not connected: buttons and commands are not heard");
                standing.problem = Some(problem);
            }
            new
        });
    }
}

pub struct Socket {
    connector: Connector,
    client: Arc<SlackClient<Connector>>,
    token: SlackApiToken,
    board: Board,
    hearing: Hearing,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("standing", &*self.board.0.borrow()).finish_non_exhaustive()
    }
}

/// How connections without an end come to theirs.
enum Ended {
    Stopped,
    /// Slack refuses us, and will until a person does something.
    Refused,
    /// There should be connections, and are none.
    Stuck,
}

impl Socket {
    /// # Errors
    /// When the system has no certificates to trust Slack by.
    pub fn new(api_url: &str, token: &Sensitive, board: Arc<watch::Sender<Standing>>, hearing: Hearing) -> Result<Self, Fault> {
        let connector = connector(api_url)?;
        board.send_modify(|standing| standing.on = true);
        let client = Arc::new(SlackClient::new(connector.clone()));
        Ok(Self { connector, client, token: SlackApiToken::new(token.expose().into()), board: Board(board), hearing })
    }

    /// Listens until `stop` says so.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            match self.listen(&mut stop).await {
                Ended::Stopped => return,
                Ended::Stuck => {}
                Ended::Refused => {
                    let mut pause = *ASKED_EVERY.start();
                    loop {
                        tokio::select! {
                            _ = stop.changed() => return,
                            () = tokio::time::sleep(pause) => {}
                        }
                        match self.why_not().await {
                            Ok(()) => break,
                            Err((problem, _)) => self.board.problem(problem),
                        }
                        pause = (pause * 2).min(*ASKED_EVERY.end());
                    }
                }
            }
        }
    }

    /// Has slack-morphism keep connections for as long as that makes sense.
    async fn listen(&self, stop: &mut watch::Receiver<bool>) -> Ended {
        let environment = Arc::new(SlackClientEventsListenerEnvironment::new(self.client.clone()));
        let manager: Arc<Manager> = self.connector.new_clients_manager(environment);
        let ear =
            Arc::new(Ear { manager: Arc::downgrade(&manager), open: Mutex::default(), board: self.board.clone(), hearing: self.hearing.clone() });
        let config = SlackClientSocketModeConfig::new()
            .with_max_connections_count(CONNECTIONS)
            .with_initial_backoff_in_seconds(0)
            .with_reconnect_timeout_in_seconds(RECONNECT.as_secs());
        if let Err(error) = manager.register_new_token(&config, self.token.clone(), ear).await {
            self.board.problem(error.to_string());
            return Ended::Stuck;
        }
        manager.start().await;
        let ended = self.watch(stop).await;
        manager.shutdown().await;
        self.board.connections(0);
        ended
    }

    /// Waits while there are connections, and asks why where there are none.
    async fn watch(&self, stop: &mut watch::Receiver<bool>) -> Ended {
        let mut standing = self.board.0.subscribe();
        let mut pause = PATIENCE;
        let mut asked = 0;
        let mut stopped = pin!(stop.changed());
        loop {
            let connected = standing.borrow_and_update().connected();
            tokio::select! {
                _ = &mut stopped => return Ended::Stopped,
                _ = standing.changed() => {
                    if standing.borrow().connected() {
                        (pause, asked) = (PATIENCE, 0);
                    }
                }
                () = tokio::time::sleep(pause), if !connected => {
                    match self.why_not().await {
                        Ok(()) if asked > 1 => return Ended::Stuck,
                        Ok(()) => self.board.problem("Slack lets us in, but its sockets cannot be reached; does a firewall or proxy stop wss://?".to_owned()),
                        Err((problem, for_good)) => {
                            self.board.problem(problem);
                            if for_good {
                                return Ended::Refused;
                            }
                        }
                    }
                    asked += 1;
                    pause = (pause * 2).clamp(*ASKED_EVERY.start(), *ASKED_EVERY.end());
                }
            }
        }
    }

    /// Asks for a connection that nobody opens: why there is none, and whether that stays so until a person does something.
    async fn why_not(&self) -> Result<(), (String, bool)> {
        let session = self.client.open_session(&self.token);
        let request = SlackApiAppsConnectionOpenRequest::new();
        let asking = session.apps_connections_open(&request);
        match tokio::time::timeout(ANSWER_WITHIN, asking).await {
            Err(_) => Err((format!("no answer within {} s", ANSWER_WITHIN.as_secs()), false)),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(SlackClientError::ApiError(error))) => {
                let passing = matches!(
                    error.code.as_str(),
                    "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" | "ratelimited" | "team_added_to_org"
                );
                Err((if passing { error.code } else { format!("{}: {}", error.code, way_in(&error.code)) }, !passing))
            }
            Ok(Err(SlackClientError::RateLimitError(_))) => Err(("rate limited".to_owned(), false)),
            Ok(Err(SlackClientError::HttpError(error))) => Err((format!("HTTP {}", error.status_code.as_u16()), false)),
            Ok(Err(_)) => Err(("Slack cannot be reached".to_owned(), false)),
        }
    }
}

/// The way out of a refusal of connections.
pub fn way_in(error: &str) -> &'static str {
    match error {
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            "slack.app_token is not valid; make an app-level token (xapp-…) with the scope connections:write, and restart"
        }
        "not_allowed_token_type" => "slack.app_token must be an app-level token (xapp-…), not a bot's",
        "missing_scope" | "no_permission" => "give the app-level token the scope connections:write",
        _ => "is Socket Mode switched on for the app?",
    }
}

/// Hears what the connections of one manager say.
struct Ear {
    manager: Weak<Manager>,
    /// Those that Slack greeted, by slack-morphism's names: as many as are configured, and more while one takes over from another.
    open: Mutex<BTreeSet<String>>,
    board: Board,
    hearing: Hearing,
}

impl Ear {
    fn opened(&self, id: &SlackSocketModeWssClientId, open: bool) {
        let mut known = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open {
            known.insert(id.to_string())
        } else {
            known.remove(&id.to_string())
        };
        // One that was shut down says nothing any more.
        if self.manager.strong_count() > 0 {
            self.board.connections(known.len());
        }
    }

    async fn again(&self, id: &SlackSocketModeWssClientId) {
        self.opened(id, false);
        if let Some(manager) = self.manager.upgrade() {
            manager.restart_client(id).await;
        }
    }

    async fn message(&self, id: &SlackSocketModeWssClientId, body: &str) -> Option<String> {
        let envelope: Value = serde_json::from_str(body).ok()?;
        match envelope["type"].as_str()? {
            "hello" => {
                self.opened(id, true);
                None
            }
            // Whatever the reason, another connection is the answer; where Socket Mode was switched off, opening it says so.
            "disconnect" => {
                self.again(id).await;
                None
            }
            kind => {
                let envelope_id = envelope["envelope_id"].as_str()?;
                let mut acknowledgement = json!({ "envelope_id": envelope_id });
                if let Some(answer) = self.hearing.hear(of_envelope(kind, &envelope["payload"]))
                    && envelope["accepts_response_payload"] == true
                {
                    acknowledgement["payload"] = answer;
                }
                Some(acknowledgement.to_string())
            }
        }
    }
}

// As `async_trait` writes it, which the library's trait is declared with.
impl SlackSocketModeClientListener for Ear {
    fn on_message<'s, 'i, 'f>(&'s self, id: &'i SlackSocketModeWssClientId, body: String) -> BoxFuture<'f, Option<String>>
    where
        's: 'f,
        'i: 'f,
        Self: 'f,
    {
        Box::pin(async move { self.message(id, &body).await })
    }

    fn on_error<'s, 'f>(&'s self, _: Box<dyn std::error::Error + Send + Sync + 'static>) -> BoxFuture<'f, ()>
    where
        's: 'f,
        Self: 'f,
    {
        // The end of the connection follows.
        Box::pin(async {})
    }

    fn on_disconnect<'s, 'i, 'f>(&'s self, id: &'i SlackSocketModeWssClientId) -> BoxFuture<'f, ()>
    where
        's: 'f,
        'i: 'f,
        Self: 'f,
    {
        Box::pin(self.again(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standing_counts_its_connections() {
        let of = |connections| Standing { on: true, connections, since: None, problem: None }.said();
        assert_eq!([of(1), of(2)], ["connected (1 connection)", "connected (2 connections)"]);
    }
}
