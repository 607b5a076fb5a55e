//! The index beside the counting: it takes the rows that folding made anyway, and reads the stream itself where it has fallen behind.
//!
//! ```text
//! fold ─ rows ─▶ daemon ─ as far as there is room ─▶ indexer ─▶ files        what was not taken:  stream ─▶ indexer
//! ```
//!
//! Counting never waits for it. While counting is behind the stream, no rows are made at all, and what is missing is read again when there is time; so
//! the index may lag, its position says how far, and in the end it has every call once, because rows are told apart by their sequence. What it has is
//! its own business: position, repair and retention are here, and the machine's snapshot knows nothing of them.
//!
//! Deliberately absent: searching (that is `calls.rs`), and any decision.

use crate::daemon::Pulse;
use crate::error::Fault;
use crate::inspect::Inspector;
use crate::source::local::Ring;
use crate::source::{BATCH_MAX, Envelope, nats};
use async_nats::jetstream::stream::Stream;
use index::{Damage, Heavy, IndexError, Key, Reader, Row, SumsError, Text, Writer};
use model::{Span, Timestamp};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Batches of rows that wait to be taken: some 20 MB of short calls. Those that find no room are read from the stream again.
const WAITING_MAX: usize = 8;
/// With more messages than this before it, counting has the machine to itself.
const BEHIND: u64 = 2 * BATCH_MAX as u64;
/// The share of its time that filling up takes meanwhile, one part in so many, so that a stream that is always behind is indexed in the end.
const SHARE: u32 = 10;
/// Rows are found after this, and the time that a batch takes.
const COMMIT_EVERY: Duration = Duration::from_millis(250);
/// How often the old are dropped.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// Between attempts to write to a disk or to read a stream that refuses.
const AGAIN: Duration = Duration::from_secs(2);
/// How often a rebuild says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Whoever has more than one part in so many of an environment's cost is known to have: 0.4 %.
const HEAVY: usize = 256;
/// How far back that is known: of two days.
const SPENDERS: Span = Span::from_secs(2 * 86_400);
/// What tables of costs of all calls are made by before anybody asks: the keys that their page offers, but for sessions, of which there are too many.
const SUMMED_AHEAD: [Text; 6] = [Text::User, Text::Service, Text::Model, Text::Environment, Text::Stage, Text::PromptVersion];
/// The share of its time that this takes while counting is not behind, one part in so many: a day of ten million calls is summed within half a minute.
const SUM_SHARE: u32 = 4;
/// How often it is looked whether there is a file that was not summed.
const SUM_EVERY: Duration = Duration::from_secs(1);
/// Damaged files that are discarded in one start. Each is a file less, so this is reached only where discarding does not help.
const REPAIRS_MAX: usize = 64;

/// The rows of a batch, and where they belong.
#[derive(Debug)]
pub struct Brought {
    /// Everything up to here came before.
    pub after: u64,
    /// Everything up to here is in these rows, or was malformed.
    pub position: u64,
    /// The server's stamp of the last call.
    pub stamp: Timestamp,
    pub rows: Vec<Row>,
}

/// The daemon's end.
#[derive(Debug)]
pub struct Tee {
    rows: mpsc::Sender<Brought>,
    under: watch::Sender<Arc<Inspector>>,
}

impl Tee {
    /// Whether the next batch is to be made rows of; `pending` messages are in the stream behind what was read.
    pub fn wants(&self, pending: u64) -> bool {
        pending <= BEHIND && self.rows.capacity() > 0
    }

    pub fn bring(&self, brought: Brought) {
        // What finds no room is read from the stream again.
        let _ = self.rows.try_send(brought);
    }

    /// Under which rules rows are made from now on.
    pub fn follow(&self, inspector: &Arc<Inspector>) {
        self.under.send_replace(inspector.clone());
    }
}

/// Where calls are read again.
#[derive(Debug)]
pub enum Refill {
    Stream {
        client: async_nats::Client,
        stream: Arc<Stream>,
        /// Empty where the stream holds nothing but our subjects.
        filter: Vec<String>,
    },
    /// The latest payloads of this process; what is older is gone.
    Ring(Ring),
}

/// What everyone may know of the index.
#[derive(Debug)]
pub struct Indexed {
    reader: RwLock<Reader>,
    /// Calls that were gone before they could be indexed.
    pub missed: AtomicU64,
    /// Times that the disk refused.
    pub refused: AtomicU64,
    /// It reads the stream again rather than taking rows.
    pub filling: AtomicBool,
    /// Milliseconds since the epoch of the server's stamp of the last call that can be found.
    pub stamp: AtomicU64,
    damaged: Mutex<Option<Damage>>,
    /// Who spends most.
    heavy: Mutex<Heavy>,
}

impl Indexed {
    /// Held for as long as it is looked at; the indexer waits meanwhile.
    pub fn heavy(&self) -> MutexGuard<'_, Heavy> {
        self.heavy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reader(&self) -> Reader {
        self.reader.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody found a damaged file: it is discarded, and its calls are read from the stream again.
    pub fn repair(&self, damage: Damage) {
        *self.damaged.lock().unwrap_or_else(PoisonError::into_inner) = Some(damage);
    }

    fn damage(&self) -> Option<Damage> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How long and how much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub age: Span,
    pub bytes: u64,
}

/// Takes rows and writes them; a thread of its own runs it.
pub struct Indexer {
    folder: PathBuf,
    /// `None` only while it is opened again.
    writer: Option<Writer>,
    brought: mpsc::Receiver<Brought>,
    under: watch::Receiver<Arc<Inspector>>,
    refill: Refill,
    reading: Option<nats::Reader>,
    indexed: Arc<Indexed>,
    pulse: Arc<Pulse>,
    keep: Keep,
    /// Taken from the queue, and not yet by the index; at most as many as the queue holds.
    ahead: VecDeque<Brought>,
    /// Everything up to here was added.
    position: u64,
    stamp: Timestamp,
    committed: Instant,
    dirty: bool,
    retained: Option<Instant>,
    /// When the next file is summed.
    sum: Instant,
    said: Instant,
    stopping: bool,
}

impl std::fmt::Debug for Indexer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Indexer").field("folder", &self.folder).field("position", &self.position).finish_non_exhaustive()
    }
}

/// Opens the index of the stream `source`; what is damaged, or of another stream, is discarded and will be read again.
///
/// # Errors
/// When the folder cannot be read or written, or another process has it.
pub fn open(folder: &Path, source: &str) -> Result<Writer, Fault> {
    let hint = "check the folder and its permissions; the index may be moved away at any time, and is then made from the stream again";
    let failed = |error: std::io::Error| Fault::new(format!("cannot open the index of calls in {}: {error}", folder.display()), hint);
    let name = folder.join("stream");
    let known = std::fs::read_to_string(&name).unwrap_or_default();
    if known != source && folder.exists() {
        info!(folder = %folder.display(), "the index is of another stream and is made anew");
        std::fs::remove_dir_all(folder).map_err(failed)?;
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    std::fs::write(&name, source).map_err(failed)?;
    for _ in 0..REPAIRS_MAX {
        match Writer::open(folder) {
            Ok((writer, _)) => return Ok(writer),
            Err(IndexError::Damaged(damage)) => {
                warn!(file = %damage.file.display(), damage = %damage.what, from = damage.rebuild_after + 1, "the index is damaged; what is missing is read from the stream again");
                index::discard(folder, &damage).map_err(|error| Fault::new(format!("cannot repair the index of calls: {error}"), hint))?;
            }
            Err(error) => return Err(Fault::new(format!("cannot open the index of calls: {error}"), hint)),
        }
    }
    Err(Fault::new(format!("the index of calls in {} cannot be repaired", folder.display()), "move it away; it is made from the stream again"))
}

/// An index with the daemon's end of it, and what everyone may know.
pub fn indexer(
    folder: PathBuf,
    writer: Writer,
    refill: Refill,
    inspector: Arc<Inspector>,
    pulse: Arc<Pulse>,
    keep: Keep,
) -> (Indexer, Tee, Arc<Indexed>) {
    let (rows, brought) = mpsc::channel(WAITING_MAX);
    let (follow, under) = watch::channel(inspector);
    let indexed = Arc::new(Indexed {
        reader: RwLock::new(writer.reader()),
        missed: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        filling: AtomicBool::new(false),
        stamp: AtomicU64::new(0),
        damaged: Mutex::new(None),
        heavy: Mutex::new(Heavy::new(HEAVY)),
    });
    let position = writer.reader().position();
    let indexer = Indexer {
        folder,
        writer: Some(writer),
        brought,
        under,
        refill,
        reading: None,
        indexed: indexed.clone(),
        pulse,
        keep,
        ahead: VecDeque::new(),
        position,
        stamp: Timestamp::EPOCH,
        committed: Instant::now(),
        dirty: false,
        retained: None,
        sum: Instant::now(),
        said: Instant::now(),
        stopping: false,
    };
    (indexer, Tee { rows, under: follow }, indexed)
}

impl Indexer {
    /// Runs until the daemon has ended; then what was taken is on disk.
    pub fn run(mut self, runtime: &Handle) {
        self.hear_of_spenders();
        loop {
            self.beat();
            // First the goal, then the queue: what was brought before the goal was set is then in the queue, unless it found no room.
            let goal = self.pulse.position.load(Ordering::Acquire);
            self.look();
            while self.ahead.front().is_some_and(|first| first.position <= self.position) {
                self.ahead.pop_front();
            }
            let gap = self.ahead.front().map_or(goal, |first| first.after);
            if self.position < gap {
                if self.stopping {
                    break;
                }
                self.indexed.filling.store(true, Ordering::Relaxed);
                self.fill(gap, runtime);
                continue;
            }
            self.indexed.filling.store(false, Ordering::Relaxed);
            self.reading = None;
            if let Some(brought) = self.ahead.pop_front() {
                self.take(brought.rows, brought.position, brought.stamp);
            } else if self.stopping {
                break;
            } else {
                let idle = COMMIT_EVERY.min(self.sum.saturating_duration_since(Instant::now()));
                match runtime.block_on(async { tokio::time::timeout(idle, self.brought.recv()).await }) {
                    Ok(Some(brought)) => self.ahead.push_back(brought),
                    Ok(None) => self.stopping = true,
                    Err(_) => {}
                }
            }
        }
        let saved = self.commit() && self.writer.as_mut().is_some_and(|writer| writer.save().map_err(|error| self.indexed.refuse(&error)).is_ok());
        info!(position = self.position, saved, "the index is closed; what it lacks is read from the stream at the next start");
    }

    /// Who spent how much, from what is indexed already.
    fn hear_of_spenders(&mut self) {
        let reader = self.indexed.reader();
        let Some(latest) = reader.latest() else { return };
        match Heavy::of(&reader, Text::User, HEAVY, latest - SPENDERS) {
            Ok(heavy) => *self.indexed.heavy() = heavy,
            Err(IndexError::Damaged(damage)) => self.indexed.repair(damage),
            Err(error) => warn!(problem = %error, "who spends most is known from now on only"),
        }
    }

    /// Takes what waits in the queue, as far as there is room; the oldest go first, for they are nearest to what is read again anyway.
    fn look(&mut self) {
        loop {
            match self.brought.try_recv() {
                Ok(brought) => self.ahead.push_back(brought),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.stopping = true;
                    break;
                }
            }
            if self.ahead.len() > WAITING_MAX {
                self.ahead.pop_front();
            }
        }
    }

    fn take(&mut self, rows: Vec<Row>, position: u64, stamp: Timestamp) {
        let Some(writer) = &mut self.writer else { return };
        let mut heavy = self.indexed.heavy();
        for row in rows {
            // What it has already was heard of before.
            if writer.is_new(&row) {
                heavy.add(&row);
                writer.add(row);
            }
        }
        drop(heavy);
        (self.position, self.stamp, self.dirty) = (self.position.max(position), self.stamp.max(stamp), true);
        if self.committed.elapsed() >= COMMIT_EVERY {
            self.commit();
        }
    }

    /// Whether the disk took it. Where it does not, nothing more is taken until it does, so that memory stays bounded.
    fn commit(&mut self) -> bool {
        loop {
            self.committed = Instant::now();
            let Some(writer) = &mut self.writer else { return false };
            let committed = writer.commit(self.position);
            // They are found even where the disk refuses.
            self.dirty = false;
            self.indexed.stamp.store(self.stamp.millis().max(0) as u64, Ordering::Relaxed);
            match committed {
                Ok(()) => return true,
                Err(error) => self.indexed.refuse(&error),
            }
            self.look();
            if self.stopping {
                return false;
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// What is due whatever happens.
    fn beat(&mut self) {
        if self.dirty && self.committed.elapsed() >= COMMIT_EVERY {
            self.commit();
        }
        if let Some(damage) = self.indexed.damage() {
            self.reopen(&damage);
        }
        if self.sum <= Instant::now() {
            self.sum_ahead();
        }
        if self.retained.is_none_or(|at| at.elapsed() >= RETAIN_EVERY)
            && let Some(writer) = &mut self.writer
        {
            self.retained = Some(Instant::now());
            // Age counts back from the latest call, so that old logs that are read in today are found today.
            let oldest = writer.reader().latest().map_or(Timestamp::EPOCH, |latest| latest - self.keep.age);
            match writer.retain(oldest, self.keep.bytes) {
                Ok(retained) if retained.files_dropped > 0 => {
                    info!(
                        files = retained.files_dropped,
                        calls = retained.calls_dropped,
                        bytes_left = retained.bytes_left,
                        "old calls leave the index"
                    );
                }
                Ok(_) => {}
                Err(error) => self.indexed.refuse(&error),
            }
        }
    }

    /// Sums one file, so that whoever asks what calls cost need not wait for all of them to be read. None while counting is behind.
    fn sum_ahead(&mut self) {
        if self.pulse.pending.load(Ordering::Relaxed) > BEHIND {
            self.sum = Instant::now() + SUM_EVERY;
            return;
        }
        let (began, reader) = (Instant::now(), self.indexed.reader());
        let one = SUMMED_AHEAD.into_iter().find_map(|text| match reader.sum_ahead(&[Key::Text(text)]) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        let rest = match one {
            Some(Ok(())) => began.elapsed() * (SUM_SHARE - 1),
            None => SUM_EVERY,
            Some(Err(error)) => {
                match error {
                    SumsError::Index(IndexError::Damaged(damage)) => self.indexed.repair(damage),
                    error => warn!(problem = %error, "what calls cost is summed when it is asked for"),
                }
                RETAIN_EVERY
            }
        };
        self.sum = Instant::now() + rest;
    }

    /// Discards what is damaged, and goes on before it.
    fn reopen(&mut self, damage: &Damage) {
        // It has the folder's lock.
        self.writer = None;
        self.reading = None;
        let source = std::fs::read_to_string(self.folder.join("stream")).unwrap_or_default();
        warn!(file = %damage.file.display(), damage = %damage.what, "a file of the index is damaged; its calls are read from the stream again");
        let discarded = index::discard(&self.folder, damage).map_err(|error| Fault::plain(error.to_string()));
        match discarded.and_then(|()| open(&self.folder, &source)) {
            Ok(writer) => {
                self.position = writer.reader().position();
                *self.indexed.reader.write().unwrap_or_else(PoisonError::into_inner) = writer.reader();
                self.writer = Some(writer);
                // Without those that are read again.
                self.hear_of_spenders();
            }
            // Searches go on with what the old reader has; the next start tries again.
            Err(fault) => {
                self.indexed.refused.fetch_add(1, Ordering::Relaxed);
                warn!(problem = %fault.what(), "the index cannot be repaired and stands still");
                self.position = u64::MAX;
            }
        }
    }

    /// A step towards having everything up to `until`.
    fn fill(&mut self, until: u64, runtime: &Handle) {
        let began = Instant::now();
        match self.read(until, runtime) {
            Ok(Some((envelopes, pending))) => {
                let last = envelopes.last().map(|last| (last.sequence, last.stamp));
                let rows = self.under.borrow_and_update().clone().rows(&envelopes);
                let (position, stamp) = last.unwrap_or((self.position, self.stamp));
                // The source has no more: whatever lies between is gone, or not ours.
                let position = if pending == 0 { position.max(until) } else { position };
                self.take(rows, position, stamp);
            }
            Ok(None) => self.take(Vec::new(), until, self.stamp),
            Err(fault) => {
                self.reading = None;
                warn!(problem = %fault.what(), "the index cannot read the stream; trying again");
                std::thread::sleep(AGAIN);
            }
        }
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            info!(position = self.position, of = self.pulse.position.load(Ordering::Relaxed), "indexing calls of the stream");
        }
        if self.pulse.pending.load(Ordering::Relaxed) > BEHIND {
            std::thread::sleep(began.elapsed() * (SHARE - 1));
        }
    }

    /// The calls after the position, as many as come together, and whether there may be more up to `until`; `None` when there is none any more.
    fn read(&mut self, until: u64, runtime: &Handle) -> Result<Option<(Vec<Envelope>, u64)>, Fault> {
        match &self.refill {
            Refill::Ring(ring) => {
                let envelopes = ring.after(self.position, BATCH_MAX);
                let next = envelopes.first().map_or(until + 1, |first| first.sequence);
                self.indexed.missed.fetch_add(next - self.position - 1, Ordering::Relaxed);
                let pending = u64::from(envelopes.len() == BATCH_MAX);
                Ok((!envelopes.is_empty()).then_some((envelopes, pending)))
            }
            Refill::Stream { client, stream, filter } => {
                // What one that began earlier has last may have been the last of the stream then, and `until` was set since.
                let (mut reading, knows_the_end) = match self.reading.take() {
                    Some(reading) => (reading, false),
                    None => {
                        let starting = nats::Reader::start(client.clone(), stream, filter.clone(), self.position);
                        (runtime.block_on(starting)?, true)
                    }
                };
                if reading.waiting() == 0 {
                    return Ok(None);
                }
                // Dropped with what it has read, where nothing comes for long; another one begins at the same position.
                let batch = runtime.block_on(async { tokio::time::timeout(AGAIN, reading.next()).await });
                match batch {
                    // Another one begins behind it and looks anew.
                    Ok(Ok(Some(batch))) if batch.pending == 0 && !knows_the_end => Ok(Some((batch.envelopes, 1))),
                    Ok(Ok(Some(batch))) => {
                        self.reading = Some(reading);
                        Ok(Some((batch.envelopes, batch.pending)))
                    }
                    Ok(Err(fault)) => Err(fault),
                    Ok(Ok(None)) | Err(_) => Err(Fault::plain("it says nothing")),
                }
            }
        }
    }
}

impl Indexed {
    fn refuse(&self, error: &IndexError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        warn!(problem = %error, "the index cannot be written; counting goes on, and this is tried again");
    }
}
