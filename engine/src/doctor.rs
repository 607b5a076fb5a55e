//! Is all that an engine needs reachable, permitted and healthy? Each look at one thing ends in findings: what was seen, and the way out.
//!
//! Looks run beside each other, each bounded in time by itself, so the whole takes some seconds even where nothing answers. It works beside a running
//! engine and without one, and leaves nothing behind: a consumer that is made is removed, nothing is published, nothing is posted, and no judge is asked.
//! Deliberately absent: what `check` reads (the command brings it), and the words' layout.

mod engine;
mod judges;
mod nats;
mod slack;
mod store;

use crate::config::Config;
use crate::error::Fault;
use serde::Serialize;
use std::time::Duration;

/// For one question to one place: long beside a round trip round the world, and the whole is still done within some seconds.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// The engine runs, and something will not be as expected; or whether it will could not be told.
    Warning,
    /// The engine does not start, or people are not told.
    Failed,
}

/// What came of one look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: String,
    pub state: State,
    pub seen: String,
    /// The way out; `None` when all is well.
    pub hint: Option<String>,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl Finding {
    pub fn ok(check: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, seen: seen.into(), hint: None }
    }

    pub fn warning(check: impl Into<String>, seen: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Warning, seen: seen.into(), hint: Some(hint.into()) }
    }

    pub fn failed(check: impl Into<String>, seen: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Failed, seen: seen.into(), hint: Some(hint.into()) }
    }

    pub fn fault(check: impl Into<String>, fault: &Fault) -> Self {
        Self { check: check.into(), state: State::Failed, seen: fault.what().to_owned(), hint: fault.hint().map(ToOwned::to_owned) }
    }
}

/// Looks at everything that `config` names.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let (store, known) = store::look(&config.store).await;
    let (nats, engine, slack, judges) =
        tokio::join!(nats::look(config, &known), engine::look(config, known.held), slack::look(config), judges::look(config));
    [nats, store, engine, slack, judges].concat()
}

/// `answer`, or a failure when it does not come in time.
async fn within<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = |_| Fault::new(format!("no answer within {} s", PATIENCE.as_secs()), "is it up, and does a firewall let this machine through?");
    tokio::time::timeout(PATIENCE, answer).await.map_err(late)?
}
