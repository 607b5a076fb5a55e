//! `streamgauge slack test` against the counterpart of Slack: what is left in the channel, what is said of each step, and the exit code.

use fixtures_slack::{Fault, Settings, Workspace};
use std::process::Stdio;

const CHANNEL: &str = "#llm-alerts";

/// Exit code and output, of a try with these variables and arguments.
async fn tried(workspace: &Workspace, token: &str, channel: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_streamgauge"))
        .current_dir(folder.path())
        .env("SLACK_BOT_TOKEN", token)
        .args(["slack", "test", channel, "--set", &format!("slack.api_url={}", workspace.api_url())])
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the command runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(token.is_empty() || !said.contains(token), "a secret is shown: {said}");
    (output.status.code(), said)
}

#[tokio::test]
async fn a_test_shows_an_incident_from_its_beginning_to_its_end_and_leaves_it_there() {
    let workspace = Workspace::start(Settings::default()).await.expect("a free port");
    let (code, said) = tried(&workspace, "xoxb-test", "llm-alerts").await;
    assert_eq!(code, Some(0), "{said}");
    let steps: Vec<_> = said.lines().map(|line| line.get(..14).unwrap_or(line).trim()).collect();
    assert_eq!(steps[..6], ["signed in", "opened", "grew", "acknowledged", "eased", "resolved"], "{said}");
    assert!(said.contains("posted to #llm-alerts (C") && said.contains("It stays in #llm-alerts, marked as a test"), "{said}");
    let messages = workspace.channel(CHANNEL).messages();
    let (message, shown) = (&messages[0], &messages[1..]);
    assert_eq!(
        (message.edits().len(), message.thread().len(), shown.len()),
        (4, 4, 0),
        "as of an incident, none of these is shown in the channel: {messages:#?}"
    );
    assert!(message.headline().contains("TEST of fallback-rate"), "{message:#?}");
    assert!(message.edits().iter().all(|edit| edit.before.blocks[0].to_string().contains("TEST of fallback-rate")));
    assert!(messages.iter().all(|message| message.problems().is_empty()));
}

#[tokio::test]
async fn what_slack_refuses_is_said_with_the_way_out_and_exit_code_1() {
    let workspace = Workspace::start(Settings::default()).await.expect("a free port");
    let (code, said) = tried(&workspace, "xoxb-test", "#nowhere").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("opened        failed: channel_not_found\nhint: create the channel, or invite the bot"), "{said}");
    workspace.channel(CHANNEL).archive();
    let (code, said) = tried(&workspace, "xoxb-test", CHANNEL).await;
    assert!(code == Some(1) && said.contains("failed: is_archived\nhint: the channel is archived"), "{said}");
    let (code, said) = tried(&workspace, "xoxb-wrong", CHANNEL).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("signing in    failed: invalid_auth\nhint: Slack does not know it: put the Bot User OAuth Token"), "{said}");
    assert!(said.contains("into environment variable `SLACK_BOT_TOKEN`, and restart"), "{said}");
    let (code, said) = tried(&workspace, "", CHANNEL).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("environment variable `SLACK_BOT_TOKEN` is not set\nhint: set it to the bot token"), "{said}");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_nobody_knows_the_end_of_is_not() {
    let workspace = Workspace::start(Settings::default()).await.expect("a free port");
    workspace.script_method("chat.postMessage", &[Fault::RateLimited(1), Fault::Status(500)]);
    let (code, said) = tried(&workspace, "xoxb-test", CHANNEL).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(workspace.channel(CHANNEL).messages().len(), 1);
    workspace.script_method("chat.postMessage", &[Fault::DropAfter]);
    let (code, said) = tried(&workspace, "xoxb-test", CHANNEL).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("hint: whether it was taken nobody can say: look into the channel"), "{said}");
    assert_eq!(workspace.channel(CHANNEL).messages().len(), 2);
}
