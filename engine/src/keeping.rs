//! Datasets that rules keep calls for: each call that shows a signal of such a rule's watches is published to `streamgauge.datasets.<name>`.
//!
//! Which calls is decided where they are inspected, and they go out beside the counting, which waits for nothing here. After a kill what came since the
//! last snapshot is kept again under the same message ids, so a stream with a duplicate window has each once. What leaves has gone through `[redact]`.
//!
//! Deliberately absent: which calls are kept (that is the rules'), and storing them: whoever wants them subscribes, or lets a stream take the subject.

use crate::redact::Redaction;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::warn;

/// Calls on their way out; further ones are counted as missed. Payloads are shared with the batch that they came in.
const WAITING_MAX: usize = 4_096;
/// Calls of one dataset in a minute: more than people read or label, and a rule that holds of every call must not double the traffic.
const PER_MINUTE: u64 = 600;
const MINUTE: Duration = Duration::from_secs(60);
/// Published before the server is asked whether it has them.
const TOGETHER: usize = 256;
/// Between attempts while the server cannot be reached.
const AGAIN: Duration = Duration::from_secs(1);

/// A call that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    pub dataset: String,
    pub environment: String,
    pub sequence: u64,
    pub payload: Bytes,
}

/// What became of the calls of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub published: u64,
    /// Over the bound of a minute.
    pub over: u64,
    /// There was no room on the way out, because the server could not be reached.
    pub missed: u64,
}

/// By dataset, since the start.
#[derive(Debug, Default)]
pub struct Datasets(Mutex<BTreeMap<String, Tally>>);

impl Datasets {
    pub fn tallies(&self) -> BTreeMap<String, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, dataset: &str, note: impl FnOnce(&mut Tally)) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match tallies.get_mut(dataset) {
            Some(tally) => note(tally),
            // As many as there were rules with one.
            None => note(tallies.entry(dataset.to_owned()).or_default()),
        }
    }
}

/// The daemon's end.
#[derive(Debug)]
pub struct Keep {
    queue: mpsc::Sender<Kept>,
    datasets: Arc<Datasets>,
}

impl Keep {
    pub fn take(&self, kept: Kept) {
        if let Err(refused) = self.queue.try_send(kept) {
            self.datasets.note(&refused.into_inner().dataset, |tally| tally.missed += 1);
        }
    }
}

/// Publishes what is kept.
#[derive(Debug)]
pub struct Keeper {
    queue: mpsc::Receiver<Kept>,
    client: Client,
    /// Of the stream that the calls are in.
    source: String,
    redaction: Arc<Redaction>,
    datasets: Arc<Datasets>,
    /// Since when the minute of each dataset runs, and its calls.
    minutes: BTreeMap<String, (Instant, u64)>,
}

/// Both ends; `source` names the stream, so that sequences of another one are other calls.
pub fn keeper(client: Client, source: String, redaction: Arc<Redaction>, datasets: Arc<Datasets>) -> (Keep, Keeper) {
    let (send, queue) = mpsc::channel(WAITING_MAX);
    (Keep { queue: send, datasets: datasets.clone() }, Keeper { queue, client, source, redaction, datasets, minutes: BTreeMap::new() })
}

impl Keeper {
    /// Runs until the daemon has ended and all that was kept is out.
    pub async fn run(mut self) {
        let mut together = Vec::new();
        while self.queue.recv_many(&mut together, TOGETHER).await > 0 {
            let mut due: Vec<Kept> = Vec::with_capacity(together.len());
            for kept in together.drain(..) {
                if fits(&mut self.minutes, &kept.dataset, Instant::now()) {
                    due.push(kept);
                } else {
                    self.datasets.note(&kept.dataset, |tally| tally.over += 1);
                }
            }
            while let Err(problem) = self.publish(&due).await {
                warn!(%problem, "calls that rules keep cannot be published; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            due.iter().for_each(|kept| self.datasets.note(&kept.dataset, |tally| tally.published += 1));
        }
    }

    async fn publish(&self, due: &[Kept]) -> Result<(), String> {
        for kept in due {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("{} {} {}", kept.dataset, self.source, kept.sequence).as_str());
            headers.insert("Streamgauge-Environment", one_line(&kept.environment).as_str());
            headers.insert("Streamgauge-Sequence", kept.sequence.to_string().as_str());
            let subject = format!("streamgauge.datasets.{}", kept.dataset);
            let sent = self.client.publish_with_headers(subject, headers, self.redaction.bytes(&kept.payload)).await;
            sent.map_err(|error| error.to_string())?;
        }
        self.client.flush().await.map_err(|error| error.to_string())
    }
}

/// A header ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// Whether one more call of the dataset fits into its minute.
fn fits(minutes: &mut BTreeMap<String, (Instant, u64)>, dataset: &str, now: Instant) -> bool {
    if !minutes.contains_key(dataset) {
        minutes.insert(dataset.to_owned(), (now, 0));
    }
    let Some((since, calls)) = minutes.get_mut(dataset) else { return false };
    if now.duration_since(*since) >= MINUTE {
        (*since, *calls) = (now, 0);
    }
    *calls += 1;
    *calls <= PER_MINUTE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_takes_so_many_calls_a_minute_and_others_are_not_held_up_by_it() {
        let (mut minutes, now) = (BTreeMap::new(), Instant::now());
        let taken = |minutes: &mut BTreeMap<_, _>, dataset: &str, at: Instant| (0..1_000).filter(|_| fits(minutes, dataset, at)).count();
        assert_eq!(taken(&mut minutes, "a", now), 600);
        assert_eq!(taken(&mut minutes, "b", now), 600);
        assert_eq!(taken(&mut minutes, "a", now + MINUTE / 2), 0);
        assert_eq!(taken(&mut minutes, "a", now + MINUTE), 600);
    }
}
