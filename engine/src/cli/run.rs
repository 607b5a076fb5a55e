//! `streamgauge run`: the monitor, until SIGTERM or Ctrl-C.

use super::Outcome;
use crate::config::Config;
use crate::daemon::Crash;
use crate::error::Fault;
use crate::start::{Feed, Options, start};
use tracing::info;

pub(super) async fn run(config: &Config, accept_new_stream: bool, crash: Option<Crash>) -> Result<Outcome, Fault> {
    let running = start(config, Feed::Nats, Options { accept_new_stream, crash, terminal: false }).await?;
    info!("listening on http://{}", running.address);
    running.until(asked_to_stop()).await?;
    Ok(Outcome::Well)
}

/// Resolves at the first SIGTERM or Ctrl-C.
pub(super) async fn asked_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = interrupt.await;
        }
    }
}
