//! The bot token, from the wire: what Slack says of it, and a newer one on disk.

use fixtures_slack::{Settings, Workspace};
use slack_morphism::prelude::SlackMessageContent;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use streamgauge::config::{Config, Secret, SlackConfig};
use streamgauge::posted::Posted;
use streamgauge::slack::Slack;
use streamgauge::slack::token::{Standing, Token};

const CHANNEL: &str = "#llm-alerts";

fn client(workspace: &Workspace, token: Secret) -> Slack {
    let config = SlackConfig { bot_token: token, api_url: workspace.api_url(), ..Config::default().slack };
    Slack::new(&config).expect("there are certificates").expect("there is a token")
}

fn written(folder: &Path, token: &str) -> PathBuf {
    let file = folder.join("token");
    std::fs::write(&file, format!("{token}\n")).expect("it is written");
    file
}

async fn says(slack: &Slack, text: &str) -> Posted {
    slack.post(CHANNEL, SlackMessageContent::new().with_text(text.to_owned()), None, false).await
}

fn again(problem: &str) -> Posted {
    Posted::Again(problem.to_owned())
}

#[tokio::test]
async fn a_token_that_is_rotated_on_disk_is_taken_up_at_the_next_attempt() {
    let workspace = Workspace::start(Settings { bot_token: "xoxb-new".to_owned(), ..Settings::default() }).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let slack = client(&workspace, Secret::File(written(folder.path(), "xoxb-old")));
    assert_eq!(slack.token().state().state, Standing::Unknown);
    assert_eq!(says(&slack, "one").await, again("invalid_auth"), "it waits for another token");
    assert_eq!(slack.token().state().state, Standing::Refused);
    written(folder.path(), "xoxb-new");
    assert_eq!(says(&slack, "one").await, again("invalid_auth"), "the attempt that finds the new one");
    assert!(matches!(says(&slack, "one").await, Posted::Sent(_)));
    assert_eq!((slack.token().state().state, slack.token().state().problem), (Standing::Ok, None));
    assert_eq!(workspace.messages().len(), 1);
}

#[tokio::test]
async fn each_word_of_slacks_about_a_token_is_a_state_with_a_way_out_and_others_are_not() {
    let workspace = Workspace::start(Settings::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let slack = client(&workspace, Secret::File(written(folder.path(), "xoxb-test")));
    assert_eq!(slack.test_token().await.state, Standing::Ok);
    // What is wrong with a channel or a scope is not the token's fault.
    workspace.channel(CHANNEL).archive();
    assert_eq!(says(&slack, "one").await, Posted::Refused("is_archived".to_owned()));
    workspace.set(|settings| settings.scopes.retain(|scope| scope != "chat:write"));
    assert_eq!(says(&slack, "one").await, Posted::Refused("missing_scope".to_owned()));
    assert_eq!(slack.token().state().state, Standing::Ok);
    workspace.expire_token("xoxb-test");
    assert_eq!(says(&slack, "one").await, again("token_expired"));
    let state = slack.token().state();
    assert_eq!((state.state, state.problem.as_deref()), (Standing::Refused, Some("token_expired")));
    assert!(state.hint.is_some_and(|hint| hint.contains("token rotation")));
    workspace.revoke_token("xoxb-test");
    assert_eq!(says(&slack, "one").await, again("token_revoked"));
    assert!(slack.token().state().hint.is_some_and(|hint| hint.contains("install the app again")));
    let app = client(&workspace, Secret::File(written(folder.path(), "xapp-test")));
    let state = app.test_token().await;
    assert_eq!(state.problem.as_deref(), Some("not_allowed_token_type"));
    assert!(state.hint.is_some_and(|hint| hint.contains("xapp- token belongs to slack.app_token")));
}

/// Until the token stands like that. Each change of it is told.
async fn until(token: &Arc<Token>, standing: Standing) {
    let mut states = token.watch();
    let waiting = states.wait_for(|state| state.state == standing);
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it comes in time").expect("the token lives on");
}

#[tokio::test]
async fn a_token_is_looked_at_from_the_start_on_though_nothing_is_posted() {
    let workspace = Workspace::start(Settings::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let watched = |token: &str| {
        let slack = client(&workspace, Secret::File(written(folder.path(), token)));
        let (token, stopped) = (slack.token().clone(), stopped.clone());
        (token, tokio::spawn(async move { slack.watch_token(stopped).await }))
    };
    let (good, watching) = watched("xoxb-test");
    until(&good, Standing::Ok).await;
    let (wrong, _) = watched("xoxb-wrong");
    until(&wrong, Standing::Refused).await;
    let asked = workspace.requests();
    assert!(asked.iter().all(|request| request.method == "auth.test") && asked.len() == 2, "{asked:#?}");
    stop.send(true).expect("somebody listens");
    tokio::time::timeout(Duration::from_secs(5), watching).await.expect("it stops").expect("it does not panic");
}
