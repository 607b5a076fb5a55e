//! Asking judges about the calls that the machine chose for them.
//!
//! The daemon hands over requests and gets verdicts back, whenever they come; it waits for neither. What is between the two ends, and how a judge is
//! asked, is nobody else's business. In `judging/`: `ready.rs` (judges from the configuration), `desk.rs` (the task between the ends),
//! its decisions `line.rs`, `breaker.rs`, `backoff.rs`, `spend.rs`, `round.rs` and `cache.rs`, and its edges `client.rs` (to the
//! model, after the crate's `redact.rs`; `replies.rs` asks it for all that a call needs) and `event.rs` (out); `secret.rs` is what nobody can guess, `board.rs` what
//! people may see. What commands ask by hand goes through `batch.rs`, without a desk; `labels.rs` is what people say of calls, and `calibrated.rs` how
//! far a judge is believed since.
//! Deliberately absent: who is chosen, and how verdicts count. That is the machine's.

mod backoff;
pub mod batch;
mod board;
mod breaker;
mod cache;
pub mod calibrated;
pub mod client;
mod desk;
mod event;
pub mod labels;
mod line;
mod pace;
pub mod ready;
mod replies;
pub mod round;
pub mod secret;
mod spend;

pub use board::{Board, Shown};
pub use desk::Desk;

use model::Verdict;
use model::verdict::JudgeRequest;
use tokio::sync::mpsc;

/// A verdict, and why it is what it is: the judge's own reason, or what went wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub verdict: Verdict,
    /// At most 2 KiB.
    pub why: String,
}

/// The daemon's end.
#[derive(Debug)]
pub struct Judging {
    pub asks: mpsc::Sender<JudgeRequest>,
    pub said: mpsc::Receiver<Said>,
}

/// The judges' end.
#[derive(Debug)]
pub struct Asked {
    pub requests: mpsc::Receiver<JudgeRequest>,
    pub says: mpsc::Sender<Said>,
}

/// Requests and verdicts on their way: enough that neither end waits for the other; what does not fit waits in the machine's state.
const UNDER_WAY: usize = 256;

/// Both ends.
pub fn ends() -> (Judging, Asked) {
    let (asks, requests) = mpsc::channel(UNDER_WAY);
    let (says, said) = mpsc::channel(UNDER_WAY);
    (Judging { asks, said }, Asked { requests, says })
}
