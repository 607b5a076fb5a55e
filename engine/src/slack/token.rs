//! The bot token: which one it is now, whether Slack takes it, and where a newer one comes from.
//!
//! A token that Slack does not take any more is nobody's message's fault: what waits goes on waiting, people see the state at `/readyz`, and a secret
//! that was rotated on disk is taken up without a restart. Deliberately absent: refreshing tokens at Slack (`oauth.v2.access`), for which the engine
//! would have to keep secrets of its own; and whether Slack can be reached, which is no matter of a token.

use super::Slack;
use crate::config::{Secret, Sensitive};
use crate::error::Fault;
use crate::outbox::now;
use model::Timestamp;
use serde::Serialize;
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::SlackApiToken;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info};

/// Between two looks at a token that is not known to be good: a person who has just put another one there watches.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Slack was not reached yet.
    Unknown,
    Ok,
    /// Slack does not take it: nobody is told anything there.
    Refused,
}

/// How the token stands, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenState {
    pub state: Standing,
    pub since: Timestamp,
    /// Slack's word for what is wrong with it.
    pub problem: Option<String>,
    /// The way out.
    pub hint: Option<String>,
}

pub struct Token {
    place: Secret,
    held: Mutex<Sensitive>,
    state: watch::Sender<TokenState>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Token {
    /// `None`: there is none at its place.
    ///
    /// # Errors
    /// When its place cannot be read.
    pub fn new(place: &Secret) -> Result<Option<Self>, Fault> {
        let held = place.resolve().map_err(|error| Fault::plain(error.to_string()))?;
        let state = TokenState { state: Standing::Unknown, since: now(), problem: None, hint: None };
        Ok(held.map(|held| Self { place: place.clone(), held: Mutex::new(held), state: watch::Sender::new(state) }))
    }

    pub fn state(&self) -> TokenState {
        self.state.borrow().clone()
    }

    /// Each change of it.
    pub fn watch(&self) -> watch::Receiver<TokenState> {
        self.state.subscribe()
    }

    /// As it is now.
    pub fn current(&self) -> SlackApiToken {
        SlackApiToken::new(self.held().expose().into())
    }

    /// Takes notice of what Slack answered to a request that was signed with `used`. Where it did not take the token and there is another one by now,
    /// the next request is signed with that.
    pub(super) fn heard<T>(&self, used: &SlackApiToken, answer: &Result<T, SlackClientError>) {
        match answer {
            Ok(_) => self.answered(used, None),
            Err(SlackClientError::ApiError(error)) => self.answered(used, Some(&error.code)),
            Err(_) => {}
        }
    }

    /// The same of a request that was not made through slack-morphism; `problem` is Slack's own word, where it refused.
    pub fn answered(&self, used: &SlackApiToken, problem: Option<&str>) {
        match problem {
            Some(problem) if is_of_token(problem) => self.refused(used, problem),
            // Whatever else it says, it knows who asks.
            _ => self.accepted(),
        }
    }

    fn accepted(&self) {
        if self.set(Standing::Ok, None) {
            info!("Slack takes the bot token");
        }
    }

    /// Slack did not take `used`, for what is wrong with it.
    fn refused(&self, used: &SlackApiToken, problem: &str) {
        let mut held = self.held();
        if held.expose() != used.token_value.0 {
            return;
        }
        // A secret that cannot be read just now is as good as unchanged: it is looked at again.
        if let Ok(Some(newer)) = self.place.resolve()
            && newer != *held
        {
            *held = newer;
            info!(place = %self.place, "the bot token was changed; trying the new one");
            return;
        }
        drop(held);
        if self.set(Standing::Refused, Some(problem)) {
            error!(%problem, hint = %way_out(problem, &self.place), "Slack does not take the bot token; messages wait");
        }
    }

    fn held(&self) -> MutexGuard<'_, Sensitive> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is news.
    fn set(&self, state: Standing, problem: Option<&str>) -> bool {
        self.state.send_if_modified(|known| {
            if known.state == state && known.problem.as_deref() == problem {
                return false;
            }
            // Everybody may ask for it, so it does not say where secrets are kept.
            let hint = problem.map(|problem| format!("{} into the place that slack.bot_token names", way(problem)));
            *known = TokenState { state, since: now(), problem: problem.map(str::to_owned), hint };
            true
        })
    }
}

/// Whether Slack's word says that something is wrong with the token, and not with the message, the channel or a scope.
pub fn is_of_token(problem: &str) -> bool {
    matches!(problem, "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" | "not_allowed_token_type")
}

fn way(problem: &str) -> &'static str {
    match problem {
        "token_revoked" => "it was revoked, or the app uninstalled: install the app again (https://api.slack.com/apps), and put its new bot token",
        "account_inactive" => "the app was removed from the workspace, or its bot deactivated: install the app again, and put its new bot token",
        "token_expired" => "it lived for twelve hours, because the app has token rotation on: put a fresh one, or that of an app without rotation,",
        "not_allowed_token_type" => "it is no bot token: put the one that begins with xoxb- (an xapp- token belongs to slack.app_token)",
        _ => "Slack does not know it: put the Bot User OAuth Token (xoxb-…) of the app's page OAuth & Permissions",
    }
}

/// What to do about a token, which is to be found at `place`, that Slack does not take.
pub fn way_out(problem: &str, place: &Secret) -> String {
    match place {
        Secret::File(path) => format!("{} into file `{}`, which is read again by itself", way(problem), path.display()),
        other => format!("{} into {other}, and restart; what waits is sent then", way(problem)),
    }
}

impl Slack {
    /// Looks whether Slack takes the token: at once, and, while it is not known to, again and again until it does. So a token that is mended is seen
    /// though nothing is to be posted.
    pub async fn watch_token(&self, mut stop: watch::Receiver<bool>) {
        let mut state = self.token.watch();
        loop {
            let known = state.borrow().state == Standing::Ok;
            if !known {
                self.test_token().await;
            }
            let good = state.borrow_and_update().state == Standing::Ok;
            tokio::select! {
                _ = stop.changed() => return,
                _ = state.changed(), if good => {}
                () = tokio::time::sleep(LOOK_AGAIN), if !good => {}
            }
        }
    }

    /// Asks Slack whose token it is; what it says is in the token's state. Whoever cannot be reached says nothing about it.
    pub async fn test_token(&self) -> TokenState {
        let asked = async {
            // Once more where there is another one by now.
            for _ in 0..2 {
                let token = self.token.current();
                self.token.heard(&token, &self.client.open_session(&token).auth_test().await);
                if self.token.current() == token {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(self.timeout, asked).await;
        self.token.state()
    }

    pub fn token(&self) -> &std::sync::Arc<Token> {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(place: &Secret) -> Token {
        Token::new(place).expect("it can be read").expect("it is there")
    }

    #[test]
    fn a_token_that_was_changed_on_disk_is_taken_up_and_the_former_one_is_not_blamed_twice() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "xoxb-old\n").expect("it is written");
        let token = token(&Secret::File(file.clone()));
        let old = token.current();
        assert_eq!(token.state().state, Standing::Unknown);
        token.refused(&old, "token_revoked");
        let state = token.state();
        assert_eq!((state.state, state.problem.as_deref()), (Standing::Refused, Some("token_revoked")));
        assert!(state.hint.is_some_and(|hint| hint.contains("install the app again") && !hint.contains(&*file.to_string_lossy())));
        std::fs::write(&file, "xoxb-new\n").expect("it is written");
        token.refused(&old, "token_revoked");
        assert_eq!(token.current().token_value.0, "xoxb-new");
        token.accepted();
        // A request that was under way with the old one.
        std::fs::remove_file(&file).expect("it is there");
        token.refused(&old, "token_revoked");
        assert_eq!((token.state().state, token.state().problem, token.state().hint), (Standing::Ok, None, None));
        // A file that is gone leaves the token that is known.
        token.refused(&token.current(), "invalid_auth");
        assert_eq!((token.state().state, token.current().token_value.0.as_str()), (Standing::Refused, "xoxb-new"));
    }

    #[test]
    fn the_way_out_names_the_place_and_never_the_token() {
        let place = Secret::Env("SLACK_BOT_TOKEN".to_owned());
        for problem in ["token_revoked", "account_inactive", "token_expired", "not_allowed_token_type", "invalid_auth"] {
            assert!(is_of_token(problem));
            let hint = way_out(problem, &place);
            assert!(hint.contains("into environment variable `SLACK_BOT_TOKEN`, and restart"), "{hint}");
        }
        assert!(!is_of_token("missing_scope") && !is_of_token("channel_not_found"));
        let given = token(&Secret::Given(Sensitive::new("xoxb-secret")));
        assert!(!format!("{given:?}").contains("secret"));
    }
}
