//! `streamgauge slack`: what has to do with Slack and needs no engine that runs.

mod preview;
mod sample;
mod test;

use super::Outcome;
use crate::config::Config;
use crate::error::Fault;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Slack {
    /// Show what an incident of a rule would say in Slack, with a sample: nothing is posted, and nothing of it happened.
    Preview(preview::Preview),
    /// Post a made-up incident with the configured token and bring it through its whole life; exit 0 when Slack took all of it, 1 when not.
    Test(test::Test),
}

pub(super) async fn slack(args: Slack, config: &Config) -> Result<Outcome, Fault> {
    match args {
        Slack::Preview(args) => preview::preview(&args, config),
        Slack::Test(args) => test::test(args, config).await,
    }
}
