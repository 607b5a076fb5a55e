//! What people say back from Slack: buttons under messages, and `/streamgauge` commands.
//!
//! It is heard over sockets that the engine opens (`hearing/socket.rs`) or over HTTP (`signed.rs`), and is the same from there on: `payload.rs` reads it,
//! `command.rs` reads what was typed, `buttons.rs` and `commands.rs` do it, `words.rs` and `answer.rs` say what came of it.
//!
//! Slack waits three seconds for an acknowledgement, and may tell the same act several times: so hearing takes no time, does the rest beside it, and does
//! each act once. An act that comes again after a restart finds that it was done already, or does the same again.
//! Deliberately absent: what incidents become of it (`incidents.rs`), and messages (`outbox.rs`).

mod answer;
mod buttons;
mod command;
mod commands;
mod operators;
mod payload;
mod signed;
mod socket;
mod words;

pub use socket::{Standing, way_in};

use crate::auditing;
use crate::config::SlackConfig;
use crate::error::Fault;
use crate::http::{App, Problem};
use crate::incidents::Incidents;
use crate::routes::Routes;
use crate::slack::text::escape;
use crate::store::Way;
use crate::subscriptions::Subscriptions;
use answer::{Answer, Api};
use buttons::Button;
use command::Command;
use operators::Operators;
use payload::{Heard, Person, What};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tracing::warn;

/// Acts that are done at once; more are turned away with a word. A team clicks a few times a minute, and what is slow of them reads the index.
const WORKING_MAX: usize = 64;
/// The longest that one takes, far below the half hour in which it can be answered.
const WORK_MAX: Duration = Duration::from_secs(120);
/// What takes no longer needs no word before it: a person waits as long without wondering.
const QUICK: Duration = Duration::from_secs(1);
/// Acts that are known again: Slack tells one again within an hour, and people do not do so many in one.
const KNOWN_MAX: usize = 2_000;

/// A handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct Hearing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    app: App,
    incidents: Incidents,
    subscriptions: Subscriptions,
    /// Where alerts go without a subscription.
    routes: Routes,
    public_url: String,
    api: Api,
    operators: Operators,
    known: Known,
    working: Arc<Semaphore>,
    standing: watch::Receiver<Standing>,
}

/// What it needs of the rest of the engine.
#[derive(Debug)]
pub struct Around {
    pub app: App,
    pub incidents: Incidents,
    pub subscriptions: Subscriptions,
    pub routes: Routes,
    pub public_url: String,
}

/// Begins to hear on the ways that the configuration has, until `stop` says so. Without a bot token there is nobody to answer as, and nothing is heard.
/// `board` is told how Socket Mode stands. What comes back are routes to be served beside the listener's own; none without a signing secret.
///
/// # Errors
/// When a secret cannot be read, or the system has no certificates to trust Slack by.
pub fn hear(
    config: &SlackConfig,
    around: Around,
    board: Arc<watch::Sender<Standing>>,
    stop: watch::Receiver<bool>,
) -> Result<Option<axum::Router>, Fault> {
    let secret = |secret: &crate::config::Secret| secret.resolve().map_err(|error| Fault::plain(error.to_string()));
    let (app_token, signing_secret) = (secret(&config.app_token)?, secret(&config.signing_secret)?);
    let Around { app, incidents, subscriptions, routes, public_url } = around;
    let Some(token) = app.slack_token.clone() else {
        if app_token.is_some() || signing_secret.is_some() {
            warn!("nothing is heard from Slack, because no bot token is set");
        }
        return Ok(None);
    };
    let api = Api::new(config, token)?;
    let hearing = Hearing(Arc::new(Inner {
        app,
        incidents,
        subscriptions,
        routes,
        public_url,
        api,
        operators: Operators::new(&config.operators),
        known: Known::default(),
        working: Arc::new(Semaphore::new(WORKING_MAX)),
        standing: board.subscribe(),
    }));
    let signed = signing_secret.map(|secret| signed::router(hearing.clone(), &secret));
    if let Some(token) = app_token {
        tokio::spawn(socket::Socket::new(&config.api_url, &token, board, hearing)?.run(stop));
    }
    Ok(signed)
}

impl Hearing {
    /// Hears of one act, and has it done; what is to be said at once, as the acknowledgement takes it.
    fn hear(&self, heard: Heard) -> Option<Value> {
        let Heard::Act(act) = heard else { return None };
        match &act.what {
            What::Command { text } => match command::parse(text) {
                // Saying it again does nothing twice.
                Err(mistake) => Some(Answer::person(words::mistake(&mistake)).body()),
                Ok(Command::Help) => Some(Answer::person(words::HELP).body()),
                Ok(command) => {
                    let begun = self.begin(&act.trigger.clone(), |hearing| async move {
                        let work = hearing.in_time(hearing.command(&act, command));
                        let came = hearing.with_a_word(&act, work).await;
                        hearing.0.api.answer(&act.by, &act.place, &came.unwrap_or_else(|fault| Answer::person(words::fault(&fault)))).await;
                    });
                    match begun {
                        Begun::Now | Begun::Before => None,
                        Begun::Full => Some(Answer::person("Too much is asked of me at once; try again in a minute.").body()),
                    }
                }
            },
            What::Click { action, value } => {
                let button = Button::of(action, value)?;
                let begun = self.begin(&act.trigger.clone(), |hearing| async move {
                    let came = hearing.in_time(hearing.click(&act, button)).await;
                    if let Some(answer) = came.unwrap_or_else(|fault| Some(Answer::person(words::fault(&fault)))) {
                        hearing.0.api.answer(&act.by, &act.place, &answer).await;
                    }
                });
                if begun == Begun::Full {
                    warn!("a click in Slack was turned away: {WORKING_MAX} are being answered");
                }
                None
            }
        }
    }

    /// Begins to work beside whoever asks.
    fn begin<F: Future<Output = ()> + Send + 'static>(&self, trigger: &str, work: impl FnOnce(Self) -> F) -> Begun {
        let Ok(permit) = self.0.working.clone().try_acquire_owned() else { return Begun::Full };
        if !self.0.known.is_new(trigger) {
            return Begun::Before;
        }
        let work = work(self.clone());
        tokio::spawn(async move {
            let _permit = permit;
            work.await;
        });
        Begun::Now
    }

    /// Says that it looks where that takes a while; so what comes of it always comes after that.
    async fn with_a_word<T>(&self, act: &payload::Act, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        match tokio::time::timeout(QUICK, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                let looking = Answer::person("Looking…");
                let ((), done) = tokio::join!(self.0.api.answer(&act.by, &act.place, &looking), work);
                done
            }
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let late = |_| Fault::new(format!("it took longer than {} s", WORK_MAX.as_secs()), "ask on the page, or for less");
        tokio::time::timeout(WORK_MAX, work).await.map_err(late)?
    }

    /// Notes in the audit log that somebody does something, before and after; `subject` is what they do it to.
    async fn noted<T>(
        &self,
        by: &Person,
        action: &'static str,
        subject: &str,
        act: impl Future<Output = Result<T, Fault>>,
        outcome: impl FnOnce(&T) -> String,
    ) -> Result<T, Fault> {
        let id = auditing::begun(&self.0.app.store, by.audited(), Way::Slack, action, subject).await?;
        let came = act.await;
        let said = match &came {
            Ok(done) => outcome(done),
            Err(fault) => format!("failed: {}", fault.what()),
        };
        auditing::ended(&self.0.app.store, id, said).await?;
        came
    }
}

/// A refusal of the API's as an answer.
fn refused(problem: &Problem) -> String {
    let (what, hint) = problem.said();
    format!("{}\nhint: {}", escape(what), escape(hint))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    Now,
    /// The same act was heard already.
    Before,
    Full,
}

/// Acts that were heard, the latest.
#[derive(Debug, Default)]
struct Known(Mutex<(BTreeSet<String>, VecDeque<String>)>);

impl Known {
    /// Whether it is heard for the first time. One without a name always is.
    fn is_new(&self, trigger: &str) -> bool {
        if trigger.is_empty() {
            return true;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (names, order) = &mut *known;
        if !names.insert(trigger.to_owned()) {
            return false;
        }
        order.push_back(trigger.to_owned());
        if order.len() > KNOWN_MAX
            && let Some(oldest) = order.pop_front()
        {
            names.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_new_once_and_the_oldest_of_too_many_are_forgotten() {
        let known = Known::default();
        assert!(known.is_new("a") && !known.is_new("a") && known.is_new("") && known.is_new(""));
        for at in 0..KNOWN_MAX {
            assert!(known.is_new(&at.to_string()));
        }
        assert!(known.is_new("a"), "forgotten");
        assert!(!known.is_new("1999"), "still known");
    }
}
