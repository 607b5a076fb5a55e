//! The loop: gather inputs, apply them to the machine, carry out its effects. One task owns the machine; everything else is asked or told.
//!
//! ```text
//! source ─ batches ─▶ fold (any thread) ─ in order ─▶ machine ─▶ seal, notify ▶ store      checks ▶ any thread ▶ machine
//! ```
//!
//! What is not in the stream (elapsed time, a person's word) is journaled with its position before it is applied; a snapshot is taken every so often,
//! by its measured cost, and a restart goes on from there: snapshot, journal, stream. So nothing is counted twice or missed, whenever the process dies.
//!
//! Other rules are taken up by **two snapshots at one position**. The loop reads no further; what is being folded under the old plan is merged, what
//! its rules are asked is answered, what a restart has yet to repeat is repeated. Then a snapshot under the old plan is made durable, the machine
//! adopts the new plan and what that decides is carried out, and a snapshot under the new plan, with the texts of its rules, is made durable; only
//! then does it read on. So nothing that was told under the old rules is decided twice, whenever the process dies: between the two snapshots, the
//! next start finds the new files, adopts them from the same position, and decides the same under the same ids, which the outbox takes once; after
//! the second, it goes on under the new plan. Before the first, and where files change while no engine runs, the next start repeats what came since
//! its last snapshot under the files it finds; ids of unchanged rules are the same, and alerts that a changed rule's old text had told are ended
//! (`start.rs`).
//! Deliberately absent: decisions about calls, rules or alerts. They are the machine's.

use crate::deadletter::{DeadLetters, Letter};
use crate::durations::Durations;
use crate::error::Fault;
use crate::indexing::{Brought, Tee};
use crate::inspect::{Folded, Inspector};
use crate::journal::{Entry, Journal};
use crate::judging::{Judging, Said};
use crate::keeping::{Keep, Kept};
use crate::outbox::{Deliveries, now};
use crate::routes::Routes;
use crate::rulebook::Live;
use crate::source::{Batch, Envelope};
use crate::store::{Db, Store, day};
use crate::suspensions::{self, Suspensions};
use crate::timing::Timings;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use machine::{CheckRequest, Effect, Input, Machine, SliceBlock};
use model::plan::Decides;
use model::verdict::JudgeRequest;
use model::window::Checked;
use model::{Span, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tracing::{debug, info, warn};

/// Batches being folded: enough to keep every core busy, few enough that a restart re-reads little and memory stays small.
const FOLDING_MAX: usize = 4;
/// Ticks waiting for their rules' answers before reading pauses.
const WAITING_MAX: usize = 64;
/// A snapshot may cost this share of the time: one part in fifty.
const SNAPSHOT_SHARE: u32 = 50;
const SNAPSHOT_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);
/// Verdicts journaled together, so that a hundred cost the disk no more than one.
const SAID_MAX: usize = 256;
/// Between journalings of fewer verdicts than that: each waits for the disk, and counting with it. What judges say is evidence for an hour, not for a second.
const SAID_EVERY: Duration = Duration::from_secs(1);
/// How often elapsed time, snapshots and rolling up are looked at.
const BEAT: Duration = Duration::from_millis(500);
/// How often slices are rolled up and the old forgotten.
const ROLL_UP_EVERY: Duration = Duration::from_secs(60);

/// Something another task wants to know of the machine; it runs between inputs.
pub type Reading = Box<dyn FnOnce(&Machine) + Send>;

/// What other tasks ask of the daemon.
pub enum Question {
    Read(Reading),
    /// A person says that what an alert shows is normal from now on.
    Adopt {
        alert_id: String,
        reply: oneshot::Sender<Adoption>,
    },
    /// Go on with other rules, as soon as what is under way is finished.
    Reload(Reload),
}

/// Rules to go on with.
#[derive(Debug)]
pub struct Rules {
    pub inspector: Arc<Inspector>,
    /// The texts they are made of.
    pub live: Live,
}

#[derive(Debug)]
pub struct Reload {
    rules: Rules,
    reply: oneshot::Sender<()>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(_) => f.write_str("Read"),
            Self::Reload(_) => f.write_str("Reload"),
            Self::Adopt { alert_id, .. } => f.debug_struct("Adopt").field("alert_id", alert_id).finish_non_exhaustive(),
        }
    }
}

/// What came of a person's wish to adopt an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Adoption {
    /// It has ended. `told`: people had heard of it, and hear of its end.
    Adopted { rule: String, environment: String, group: Vec<(String, String)>, told: bool },
    /// No such alert is pending or firing.
    Unknown,
    /// Its range is set by hand, or its rule decides by values.
    NotLearned { rule: String },
    /// The engine repeats what it did before its restart.
    CatchingUp,
}

/// A handle for asking the daemon.
#[derive(Clone, Debug)]
pub struct Reader {
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
pub struct Daemon {
    pub machine: Machine,
    pub inspector: Arc<Inspector>,
    pub store: Store,
    pub routes: Routes,
    pub journal: Journal,
    /// The last journal entry that is applied, by number.
    pub journaled: i64,
    /// When the stream was made, where the store does not know it yet.
    pub new_stream: Option<Timestamp>,
    /// `None` where malformed logs are only counted: there is no server to keep them.
    pub dead: Option<DeadLetters>,
    pub retention: Span,
    /// Bytes that the store's file may hold.
    pub store_max: u64,
    /// Wakes the outbox.
    pub wake: Arc<Notify>,
    /// Wakes the keeper of incidents.
    pub heard: Arc<Notify>,
    pub pulse: Arc<Pulse>,
    /// Calls pause and the stream has nothing more: elapsed time may move the clocks. The demo's traffic has a time of its own.
    pub follows_time: bool,
    pub crash: Option<Crash>,
    pub deliveries: Arc<Deliveries>,
    /// Effects of the restart itself.
    pub first_effects: Vec<Effect>,
    /// Texts of rules that the store does not have yet: they go into the next snapshot.
    pub unsaved_rules: Option<Live>,
    /// The restart took up other rules than those of its snapshot.
    pub adopted: bool,
    /// The end of the stream when this process started: up to there an earlier one may have decided already, so nothing new comes in between.
    pub catching_up_to: u64,
    /// Where rows of the index go.
    pub tee: Option<Tee>,
    /// Where calls go that rules keep; `None` where there is no server.
    pub keep: Option<Keep>,
    /// `None` without judges.
    pub judging: Option<Judging>,
    /// Chosen calls that the judges are still to be told of. The machine bounds them.
    pub to_ask: VecDeque<JudgeRequest>,
    /// When verdicts are journaled next.
    pub said_from: Instant,
    /// Of the machine's scripts, as far as it has said.
    pub suspensions: Suspensions,
}

/// Where a crash test kills the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Crash {
    /// Slack has accepted a message; its receipt is not stored yet.
    AfterPost,
    /// The receipt of a message is stored; the next snapshot is not.
    BeforeSnapshot,
    /// Other rules are taken up and what that decided is stored; the snapshot under them is not.
    BetweenSnapshots,
}

/// Numbers about the loop that others may read at any time.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Stream sequence of the last message that was applied.
    pub position: AtomicU64,
    /// Position of the last snapshot.
    pub committed: AtomicU64,
    pub snapshots: AtomicU64,
    pub snapshot_bytes: AtomicU64,
    pub batches: AtomicU64,
    /// How long the stages of the work take: a batch is read, folded (on any thread) and applied; a rule is checked over its groups (on any thread);
    /// a snapshot is made and written.
    pub read: Durations,
    pub fold: Durations,
    pub apply: Durations,
    pub check: Durations,
    pub snapshot: Durations,
    /// Milliseconds since the epoch of the last call's server stamp.
    pub last_stamp: AtomicU64,
    /// Messages in the stream behind the last one read.
    pub pending: AtomicU64,
    /// What the functions of the rules that run now take.
    pub timings: Mutex<Arc<Timings>>,
}

impl Pulse {
    /// Of the rules that run now.
    pub fn timings(&self) -> Arc<Timings> {
        self.timings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn follow(&self, inspector: &Inspector) {
        *self.timings.lock().unwrap_or_else(PoisonError::into_inner) = inspector.timings.clone();
    }
}

pub fn reader() -> (Reader, mpsc::Receiver<Question>) {
    let (questions, queue) = mpsc::channel(64);
    (Reader { questions }, queue)
}

fn gone() -> Fault {
    Fault::plain("the engine is stopping")
}

impl Reader {
    /// Runs `look` on the machine between two inputs.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub async fn ask<T: Send + 'static>(&self, look: impl FnOnce(&Machine) -> T + Send + 'static) -> Result<T, Fault> {
        let (reply, answer) = oneshot::channel();
        let reading: Reading = Box::new(move |machine| {
            let _ = reply.send(look(machine));
        });
        self.questions.send(Question::Read(reading)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Ends an alert as the new normal. When this returns, it is durable.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub async fn adopt(&self, alert_id: String) -> Result<Adoption, Fault> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Adopt { alert_id, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Goes on with other rules. When this returns, that is durable. While a restart is still repeating its journal, it waits for the end of that.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub async fn reload(&self, rules: Rules) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Reload(Reload { rules, reply })).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// The next verdict, and none before `from`; never any without judges.
async fn said(judging: &mut Option<Judging>, from: Instant) -> Option<Said> {
    match judging {
        Some(judging) => {
            tokio::time::sleep_until(from.into()).await;
            judging.said.recv().await
        }
        None => None,
    }
}

/// With the rules it was folded under.
type Folding = JoinHandle<(Arc<Inspector>, Folded, Vec<Envelope>, u64, Duration)>;
type Checking = FuturesOrdered<JoinHandle<(CheckRequest, Vec<Checked>)>>;

impl Daemon {
    /// Runs until `stop` says so or the source ends; then finishes what it holds and takes a last snapshot.
    pub async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut questions: mpsc::Receiver<Question>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Machine, Fault> {
        let mut folding: FuturesOrdered<Folding> = FuturesOrdered::new();
        let mut checking = Checking::new();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut saving = Saving::new(self.machine.position());
        let mut draining = false;
        self.pulse.follow(&self.inspector);
        let effects = std::mem::take(&mut self.first_effects);
        self.carry_out(effects, &[], &BTreeMap::new(), &mut checking).await?;
        if self.adopted && self.new_stream.is_none() {
            // As in a reload: nothing is decided under other rules before it is durable that they are.
            self.save_durably(&mut saving).await?;
        }
        self.replay_journal(None, &mut checking).await?;
        if let Some(created) = self.new_stream.take() {
            let (position, body) = (self.machine.position(), self.machine.snapshot());
            self.store.ask(move |db| db.take_up(created, position, &body)).await?;
            self.pulse.committed.store(position, Ordering::Relaxed);
        }
        let mut last_heard = Instant::now();
        let mut caught_up = false;
        let mut reload: Option<Reload> = None;
        loop {
            if folding.is_empty()
                && self.journal.is_empty()
                && let Some(reload) = reload.take()
            {
                self.reload(reload, &mut saving, &mut checking).await?;
                continue;
            }
            if draining && folding.is_empty() && checking.is_empty() && self.machine.waiting() == 0 {
                break;
            }
            // Where a journal is to be repeated, a reload waits until reading on has come past it.
            let pausing = reload.is_some() && self.journal.is_empty();
            if caught_up {
                // Whatever the stream had when this process started that is not ours to read, nothing more of it comes.
                self.catching_up_to = 0;
            }
            self.ask_judges();
            let room = !draining && !pausing && folding.len() < FOLDING_MAX && self.machine.waiting() < WAITING_MAX;
            tokio::select! {
                biased;
                changed = stop.changed(), if !draining => {
                    draining = true;
                    debug!(asked = changed.is_ok(), "draining");
                }
                // Before the work that never ends while the engine catches up.
                _ = beat.tick() => {
                    if self.follows_time && caught_up && folding.is_empty() && last_heard.elapsed() >= BEAT {
                        self.elapse(&mut checking).await?;
                    }
                    saving.finished(&self.pulse)?;
                    if saving.due(self.machine.position(), self.applied(), self.unsaved_rules.is_some()) {
                        self.save(&mut saving).await?;
                    }
                }
                Some(question) = questions.recv() => match question {
                    Question::Read(reading) => reading(&self.machine),
                    Question::Adopt { alert_id, reply } => {
                        let came = self.adopt(alert_id, &mut checking).await?;
                        // Whoever asked may have gone; it is done all the same.
                        let _ = reply.send(came);
                    }
                    // One task asks for them, one after another.
                    Question::Reload(asked) => reload = Some(asked),
                },
                Some(said) = said(&mut self.judging, self.said_from), if !draining && self.is_caught_up() => self.judged(said, &mut checking).await?,
                Some(done) = checking.next(), if !checking.is_empty() => self.checked(done, &mut checking).await?,
                Some(done) = folding.next(), if !folding.is_empty() => {
                    let (under, folded, envelopes, pending, took) =
                        done.map_err(|error| Fault::plain(format!("folding a batch ended unexpectedly: {error}")))?;
                    assert!(Arc::ptr_eq(&under, &self.inspector), "a batch is merged under the rules it was folded under");
                    (caught_up, last_heard) = (pending == 0, Instant::now());
                    self.folded(folded, &envelopes, took, &mut checking).await?;
                    self.pulse.pending.store(pending, Ordering::Relaxed);
                }
                batch = batches.recv(), if room => match batch {
                    Some(batch) if batch.envelopes.is_empty() => caught_up = batch.pending == 0,
                    Some(batch) => {
                        self.pulse.read.note(batch.took);
                        for (envelopes, pending) in self.cut_at_journal(batch) {
                            let (inspector, suspensions) = (self.inspector.clone(), self.suspensions.clone());
                            let indexed = self.tee.as_ref().is_some_and(|tee| tee.wants(pending));
                            folding.push_back(tokio::task::spawn_blocking(move || {
                                let began = Instant::now();
                                let folded = inspector.fold_with(&envelopes, &suspensions, indexed);
                                (inspector, folded, envelopes, pending, began.elapsed())
                            }));
                        }
                    }
                    None => draining = true,
                },
            }
        }
        self.save_durably(&mut saving).await?;
        info!(position = self.machine.position(), "stopped; everything that was read is counted and saved");
        Ok(self.machine)
    }

    async fn folded(&mut self, folded: Folded, envelopes: &[Envelope], took: Duration, checking: &mut Checking) -> Result<(), Fault> {
        self.replay_journal(Some(folded.fold.first), checking).await?;
        let (began, after) = (Instant::now(), self.machine.position());
        let mut effects = Vec::new();
        self.machine.apply(Input::Folded(folded.fold), &mut effects);
        let position = self.machine.position();
        if let (Some(tee), Some(rows), Some(last)) = (&self.tee, folded.rows, envelopes.last()) {
            tee.bring(Brought { after, position, stamp: last.stamp, rows });
        }
        if let Some(keep) = &self.keep {
            for (sequence, environment, dataset) in folded.kept {
                let Ok(at) = envelopes.binary_search_by_key(&sequence, |envelope| envelope.sequence) else { continue };
                keep.take(Kept { dataset, environment, sequence, payload: envelopes[at].payload.clone() });
            }
        }
        self.pulse.position.store(position, Ordering::Release);
        self.pulse.batches.fetch_add(1, Ordering::Relaxed);
        self.pulse.fold.note(took);
        self.pulse.apply.note(began.elapsed());
        if let Some(last) = envelopes.last() {
            self.pulse.last_stamp.store(last.stamp.millis().max(0) as u64, Ordering::Relaxed);
        }
        let details = folded.details.into_iter().collect();
        self.carry_out(effects, envelopes, &details, checking).await?;
        // What was done here before the restart is done again before anyone looks.
        self.replay_journal(None, checking).await
    }

    async fn checked(&mut self, done: Result<(CheckRequest, Vec<Checked>), JoinError>, checking: &mut Checking) -> Result<(), Fault> {
        let (request, results) = done.map_err(|error| Fault::plain(format!("a rule check ended unexpectedly: {error}")))?;
        let mut effects = Vec::new();
        let CheckRequest { environment, at, rule, .. } = request;
        self.machine.apply(Input::Checked { environment, at, rule, results }, &mut effects);
        self.carry_out(effects, &[], &BTreeMap::new(), checking).await
    }

    /// Applies again what was applied before sequence `next` came; `None` when nothing comes for now.
    async fn replay_journal(&mut self, next: Option<u64>, checking: &mut Checking) -> Result<(), Fault> {
        // Sequences up to an entry may be gone from the stream by now; the entry still comes before what follows it.
        let before = |position: u64, reached: u64| next.map_or(position <= reached, |next| position < next);
        while self.journal.front().is_some_and(|(position, _)| before(*position, self.machine.position())) {
            if let Some((position, entry)) = self.journal.pop_front() {
                debug!(position, ?entry, "applying again what was journaled");
                self.happen(entry, checking).await?;
            }
        }
        Ok(())
    }

    /// Applies what is journaled.
    async fn happen(&mut self, entry: Entry, checking: &mut Checking) -> Result<(), Fault> {
        if entry.needs_alerts() {
            self.answered(checking).await?;
        }
        let mut effects = Vec::new();
        self.machine.apply(entry.into(), &mut effects);
        self.carry_out(effects, &[], &BTreeMap::new(), checking).await
    }

    /// Waits for the answers of all checks. They are bounded by their operations, so this takes no longer than a tick does anyway.
    async fn answered(&mut self, checking: &mut Checking) -> Result<(), Fault> {
        while let Some(done) = checking.next().await {
            self.checked(done, checking).await?;
        }
        Ok(())
    }

    /// Whether all that an earlier process may have decided is decided again. What comes from outside must not come before that: it would change what
    /// was told already.
    fn is_caught_up(&self) -> bool {
        self.journal.is_empty() && self.machine.position() >= self.catching_up_to
    }

    /// Hands over as many chosen calls as fit; those that nobody waits for any more are dropped.
    fn ask_judges(&mut self) {
        if self.to_ask.is_empty() || !self.is_caught_up() {
            return;
        }
        let Some(judging) = &self.judging else { return self.to_ask.clear() };
        while let Ok(permit) = judging.asks.try_reserve()
            && let Some(request) = self.to_ask.pop_front()
        {
            if self.machine.waits_for(&request.environment, &request.judge, request.sequence) {
                permit.send(request);
            }
        }
    }

    /// Counts what judges said, as many of them as have come by now.
    async fn judged(&mut self, first: Said, checking: &mut Checking) -> Result<(), Fault> {
        let mut said = vec![first];
        if let Some(judging) = &mut self.judging {
            while said.len() < SAID_MAX
                && let Ok(more) = judging.said.try_recv()
            {
                said.push(more);
            }
        }
        let Some(judging) = &self.judging else { return Ok(()) };
        debug!(verdicts = said.len(), waiting = judging.said.len(), "judged");
        self.said_from = Instant::now() + if said.len() < SAID_MAX { SAID_EVERY } else { Duration::ZERO };
        let (position, now) = (self.machine.position(), now());
        let verdicts = said.iter().map(|said| said.verdict.clone()).collect();
        self.journaled = self.store.ask(move |db| db.judge(position, now, said)).await?;
        self.happen(Entry::Judged { now, verdicts }, checking).await
    }

    /// Does what a person asked for; an alert that cannot be adopted leaves no trace.
    async fn adopt(&mut self, alert_id: String, checking: &mut Checking) -> Result<Adoption, Fault> {
        self.replay_journal(None, checking).await?;
        if !self.is_caught_up() {
            return Ok(Adoption::CatchingUp);
        }
        self.answered(checking).await?;
        let found = self.machine.alerts().find(|view| view.alert.id == alert_id).map(|view| {
            let group = view.rule.group_by.iter().map(ToString::to_string).zip(view.labels.iter().cloned()).collect();
            let told = view.alert.state != machine::State::Pending;
            (view.rule.name.clone(), view.environment.to_owned(), group, told)
        });
        let Some((rule, environment, group, told)) = found else { return Ok(Adoption::Unknown) };
        if !self.machine.adoptable(&alert_id) {
            return Ok(Adoption::NotLearned { rule });
        }
        info!(alert = %alert_id, %rule, %environment, "adopted as the new normal");
        let entry = Entry::Adopted { now: now(), alert_id };
        self.note(&entry).await?;
        self.happen(entry, checking).await?;
        Ok(Adoption::Adopted { rule, environment, group, told })
    }

    /// Goes on with other rules, by two snapshots at one position; above says why. Nothing is being folded, and no journal is to be repeated.
    async fn reload(&mut self, Reload { rules, reply }: Reload, saving: &mut Saving, checking: &mut Checking) -> Result<(), Fault> {
        let began = Instant::now();
        self.answered(checking).await?;
        self.save_durably(saving).await?;
        let mut sealed = Vec::new();
        for (environment, from, to) in self.machine.needs(&rules.inspector.plan) {
            sealed.extend(self.store.ask(move |db| db.blocks(&environment, from, to)).await?);
        }
        if *self.machine.plan() != rules.inspector.plan {
            // Slots are another plan's; what is still suspended is said anew.
            self.suspensions = Suspensions::default();
        }
        let mut effects = Vec::new();
        // What is still to be judged is asked for anew; the judges know what they have already.
        self.to_ask.clear();
        self.machine.adopt(rules.inspector.plan.clone(), sealed, &mut effects);
        self.inspector = rules.inspector;
        self.pulse.follow(&self.inspector);
        if let Some(tee) = &self.tee {
            tee.follow(&self.inspector);
        }
        self.carry_out(effects, &[], &BTreeMap::new(), checking).await?;
        if self.crash == Some(Crash::BetweenSnapshots) {
            warn!("crash test: aborting before the snapshot under the new rules");
            std::process::abort();
        }
        self.unsaved_rules = Some(rules.live);
        self.save_durably(saving).await?;
        info!(position = self.machine.position(), took = ?began.elapsed(), "other rules taken up");
        // Whoever asked may have gone; it is done all the same.
        let _ = reply.send(());
        Ok(())
    }

    /// Journals what is about to be applied.
    async fn note(&mut self, entry: &Entry) -> Result<(), Fault> {
        let (position, entry) = (self.machine.position(), entry.clone());
        self.journaled = self.store.ask(move |db| db.journal(position, &entry)).await?;
        Ok(())
    }

    /// Cuts a batch so that no part spans a journaled position.
    fn cut_at_journal(&self, batch: Batch) -> Vec<(Vec<Envelope>, u64)> {
        let mut parts = Vec::new();
        let mut rest = batch.envelopes;
        for (position, _) in &self.journal {
            let at = rest.partition_point(|envelope| envelope.sequence <= *position);
            if at > 0 && at < rest.len() {
                let tail = rest.split_off(at);
                parts.push((std::mem::replace(&mut rest, tail), batch.pending + 1));
            }
        }
        parts.push((rest, batch.pending));
        parts
    }

    /// Lets time pass, where that closes a tick.
    async fn elapse(&mut self, checking: &mut Checking) -> Result<(), Fault> {
        self.replay_journal(None, checking).await?;
        let now = now();
        if self.journal.is_empty() && self.machine.would_elapse(now) {
            let entry = Entry::Elapsed { now };
            self.note(&entry).await?;
            self.happen(entry, checking).await?;
        }
        Ok(())
    }

    async fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        envelopes: &[Envelope],
        details: &BTreeMap<u64, String>,
        checking: &mut Checking,
    ) -> Result<(), Fault> {
        let mut sealed: Vec<SliceBlock> = Vec::new();
        let mut letters = Vec::new();
        for effect in effects {
            match effect {
                Effect::Check(request) => checking.push_back(self.check(request)),
                Effect::Judge(request) => self.to_ask.push_back(request),
                Effect::Seal(block) => sealed.push(block),
                Effect::Notify(notification) => {
                    let routes = self.routes.of(&notification);
                    info!(alert = %notification.alert_id, rule = %notification.rule, environment = %notification.environment, reason = notification.reason.name(), "alert");
                    let planned = now();
                    self.store.ask(move |db| db.plan(&notification, &routes, planned)).await?;
                    self.wake.notify_one();
                    self.heard.notify_one();
                }
                Effect::Suspend(suspended) => {
                    suspensions::report(&self.inspector.plan, &suspended);
                    self.suspensions.hear(&suspended);
                }
                Effect::DeadLetter { sequence, reason } => {
                    let payload =
                        envelopes.binary_search_by_key(&sequence, |e| e.sequence).map(|at| envelopes[at].payload.clone()).unwrap_or_default();
                    let detail = details.get(&sequence).cloned().unwrap_or_else(|| reason.name().to_owned());
                    letters.push(Letter { sequence, reason, detail, payload });
                }
            }
        }
        if !sealed.is_empty() {
            // Nobody waits: whoever reads asks the same thread later.
            self.store.send(move |db| db.seal(&sealed)).await?;
        }
        if let Some(dead) = self.dead.as_mut().filter(|_| !letters.is_empty()) {
            letters.sort_by_key(|letter| letter.sequence);
            dead.write(letters).await;
        }
        Ok(())
    }

    fn check(&self, request: CheckRequest) -> JoinHandle<(CheckRequest, Vec<Checked>)> {
        let (inspector, pulse) = (self.inspector.clone(), self.pulse.clone());
        tokio::task::spawn_blocking(move || {
            let Decides::Check(slot) = inspector.plan.rules[request.rule].decides else { unreachable!("the machine asks rules with a check alone") };
            let began = Instant::now();
            let results = inspector.rules.check_all(request.rule, &request.groups);
            let took = began.elapsed();
            inspector.timings.checked(slot, request.groups.len(), took);
            pulse.check.note(took);
            (request, results)
        })
    }

    /// The last journal entry that is applied. Those that a restart found and has not reached again are still to come.
    fn applied(&self) -> i64 {
        self.journaled - self.journal.len() as i64
    }

    async fn save(&mut self, saving: &mut Saving) -> Result<(), Fault> {
        if self.crash == Some(Crash::BeforeSnapshot) && self.deliveries.sent.load(Ordering::Relaxed) > 0 {
            warn!("crash test: aborting before the snapshot");
            std::process::abort();
        }
        let began = Instant::now();
        let body = self.machine.snapshot();
        let (position, journaled, bytes) = (self.machine.position(), self.applied(), body.len() as u64);
        let encoded = began.elapsed();
        let rules = self.unsaved_rules.take();
        // A day's first snapshot is kept, so that a back-test can start from what was known then.
        let clock = self.machine.clocks().map(|(_, clock)| clock).max();
        let new_day = clock.filter(|clock| saving.day.as_ref() != Some(&day(*clock)));
        saving.day = clock.map(day);
        let retention = self.retention;
        let save = move |db: &mut Db| {
            db.save(position, &body, journaled, rules.as_ref())?;
            new_day.map_or(Ok(()), |clock| db.keep_day(position, clock, &body, retention))
        };
        let answer = self.store.send(save).await?;
        self.pulse.snapshot_bytes.store(bytes, Ordering::Relaxed);
        saving.started(position, journaled, encoded, answer);
        if saving.rolled_up.is_none_or(|at| at.elapsed() >= ROLL_UP_EVERY) {
            saving.rolled_up = Some(Instant::now());
            self.roll_up(position).await?;
        }
        Ok(())
    }

    /// A snapshot that is on the disk when this returns.
    async fn save_durably(&mut self, saving: &mut Saving) -> Result<(), Fault> {
        saving.wait(&self.pulse).await?;
        self.save(saving).await?;
        saving.wait(&self.pulse).await
    }

    /// Rolls up as of the snapshot at `position`, which has just been handed to the store. Never later: a restart seals again what was sealed after
    /// its snapshot, and would count it a second time beside the minutes that hold it already.
    async fn roll_up(&self, position: u64) -> Result<(), Fault> {
        let clocks: Vec<_> = self.machine.clocks().map(|(name, clock)| (name.to_owned(), clock)).collect();
        // A restart puts windows together from the store, and a long one begins on a whole hour.
        let reach = Span::from_millis(self.machine.plan().reach().millis() + 3_600_000);
        let (retention, before, most) = (self.retention.max(reach), now() - self.retention, self.store_max);
        self.store
            .send(move |db| {
                if db.position()? != Some(position) {
                    return Ok(());
                }
                for (environment, clock) in clocks {
                    db.roll_up(&environment, clock, retention)?;
                }
                db.forget(before)?;
                let dropped = db.limit(most)?;
                if dropped > 0 {
                    warn!(slices = dropped, "the store is at store.max_size; its oldest slices are dropped before store.retention");
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// When snapshots are taken, and what the running one is for.
struct Saving {
    position: u64,
    journaled: i64,
    every: Duration,
    last: Instant,
    encoded: Duration,
    rolled_up: Option<Instant>,
    /// The UTC day of the last snapshot.
    day: Option<String>,
    running: Option<(u64, i64, Instant, oneshot::Receiver<Result<(), Fault>>)>,
}

impl Saving {
    fn new(position: u64) -> Self {
        Self {
            position,
            journaled: 0,
            every: *SNAPSHOT_EVERY.start(),
            last: Instant::now(),
            encoded: Duration::ZERO,
            rolled_up: None,
            day: None,
            running: None,
        }
    }

    fn due(&self, position: u64, journaled: i64, rules: bool) -> bool {
        self.running.is_none() && (rules || position != self.position || journaled != self.journaled) && self.last.elapsed() >= self.every
    }

    fn started(&mut self, position: u64, journaled: i64, encoded: Duration, answer: oneshot::Receiver<Result<(), Fault>>) {
        self.running = Some((position, journaled, Instant::now(), answer));
        self.encoded = encoded;
    }

    /// Takes note of a snapshot that is written.
    fn finished(&mut self, pulse: &Pulse) -> Result<(), Fault> {
        let Some((position, journaled, began, mut answer)) = self.running.take() else { return Ok(()) };
        match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => self.running = Some((position, journaled, began, answer)),
            Err(oneshot::error::TryRecvError::Closed) => return Err(Fault::plain("the store's thread has ended")),
            Ok(result) => {
                result?;
                self.done(position, journaled, began, pulse);
            }
        }
        Ok(())
    }

    async fn wait(&mut self, pulse: &Pulse) -> Result<(), Fault> {
        if let Some((position, journaled, began, answer)) = self.running.take() {
            answer.await.map_err(|_| Fault::plain("the store's thread has ended"))??;
            self.done(position, journaled, began, pulse);
        }
        Ok(())
    }

    fn done(&mut self, position: u64, journaled: i64, began: Instant, pulse: &Pulse) {
        let cost = self.encoded + began.elapsed();
        (self.position, self.journaled, self.last) = (position, journaled, Instant::now());
        self.every = (cost * SNAPSHOT_SHARE).clamp(*SNAPSHOT_EVERY.start(), *SNAPSHOT_EVERY.end());
        pulse.committed.store(position, Ordering::Relaxed);
        pulse.snapshots.fetch_add(1, Ordering::Relaxed);
        pulse.snapshot.note(cost);
    }
}
