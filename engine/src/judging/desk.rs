//! The desk: one task that owns all that is going on between the calls chosen for judges and their verdicts.
//!
//! ```text
//! requests ─▶ line ─▶ read the call back, fill in the prompt ─▶ known? money? ─▶ ask ─▶ publish ─▶ verdicts
//!               ▲                                                          │ failed, may pass
//!               └───────────────────── after a pause ──────────────────────┘
//! ```
//!
//! Every step that waits is a future of its own, so many for each judge as its `concurrency` says; what it found comes back here, and here alone is
//! decided what follows. Every request ends in exactly one verdict: an opinion, or why there is none. A request that is known already (after a reload
//! the machine asks again for all that waits) is dropped while it is under way, and answered with the same verdict when that has just been said.
//!
//! What this shape costs: a slow judge holds up nobody but itself, and a desk that is not heard (the daemon catches up after a restart) holds verdicts
//! back, takes no further requests, and keeps at most [`OUT_MAX`] and what is under way in memory. Nothing of it is kept over a restart but the money:
//! what waited is asked for again by the machine, and what was asked and not counted is paid twice.
//! Deliberately absent: who is chosen, and how verdicts count.

use super::board::{Board, Numbers, Shown};
use super::cache::{self, Cache, Known};
use super::client::{Client, Failure};
use super::event;
use super::line::{End, Job, Line, Next, Refused, Then};
use super::pace::Pace;
use super::ready::{Ready, cost_max, together};
use super::replies;
use super::round::Came;
use super::secret::Secret;
use super::spend::{Reserved, Spend};
use super::{Asked, Said};
use crate::error::Fault;
use crate::outbox::now;
use crate::source::payload::Payloads;
use crate::store::{Store, by_hand};
use evaluators::judge::{Nonce, Request};
use model::verdict::{JudgeRequest, Outcome, Skip};
use model::{Timestamp, Verdict};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinSet};
use tracing::{error, info, warn};

/// Verdicts that the daemon has not taken yet; beyond this, no request is taken in.
const OUT_MAX: usize = 256;
/// Verdicts that are remembered after the daemon took them: more than are under way to it, so that it is never asked anew for what it is about to count.
const SAID_MAX: usize = 1024;
/// How often a call is read back before it is given up, and the pause between.
const READS_MAX: u32 = 5;
const READ_AGAIN: Duration = Duration::from_secs(2);
/// How often sums of money are brought up to date in the store, where nothing is under way.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// Why a call is skipped while the judge rests.
const RESTS: &str = "the judge has failed too often and is left alone for a while";
/// A verdict's reason is at most this long.
const WHY_BYTES_MAX: usize = 2048;

/// Everything about one judge that does not change.
#[derive(Debug)]
struct Seat {
    ready: Ready,
    client: Client,
}

#[derive(Debug)]
pub struct Desk {
    seats: Vec<Arc<Seat>>,
    lines: Vec<Line>,
    store: Store,
    payloads: Payloads,
    /// `None`: opinions are not published; the calls are made in this process.
    nats: Option<async_nats::Client>,
    asked: Asked,
    secret: Secret,
    cache: Cache,
    board: Arc<Board>,
    /// By seat: calls that begin when money that is reserved for others is settled. They are under way, and so no more than `concurrency`.
    parked: Vec<VecDeque<(Job, Box<Prepared>)>>,
    steps: JoinSet<Step>,
    /// The calls whose step is under way, should it end unexpectedly.
    running: HashMap<Id, Running>,
    /// Ids of requests from when they come until their verdict is taken.
    known: BTreeSet<String>,
    out: VecDeque<(String, Said)>,
    /// The latest that were taken, oldest first.
    said: VecDeque<(String, Said)>,
}

/// A call, ready to be asked about.
#[derive(Debug)]
struct Prepared {
    call: String,
    request: Request,
    nonce: Nonce,
    key: u128,
}

/// What is known of a step while it is under way.
#[derive(Debug)]
struct Running {
    seat: usize,
    request: JudgeRequest,
    probe: bool,
    /// Nano-dollars.
    reserved: u64,
}

/// What a future found.
#[derive(Debug)]
enum Step {
    Prepared { seat: usize, job: Job, found: Result<Box<Prepared>, (Outcome, String)> },
    Asked { seat: usize, job: Job, prepared: Box<Prepared>, reserved: Reserved, spent: u64, failure: Option<Failure> },
    Published { seat: usize, id: String, said: Said, probe: bool, end: End },
}

impl Desk {
    /// # Errors
    /// When a key is missing, the system trusts no certificates, or the store cannot be read.
    pub async fn new(
        judges: Vec<Ready>,
        store: Store,
        payloads: Payloads,
        nats: Option<async_nats::Client>,
        asked: Asked,
    ) -> Result<(Self, Arc<Board>), Fault> {
        let today = now();
        let spent = store.ask(move |db| db.spent(today)).await?;
        let (mut seats, mut lines, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for ready in judges {
            let client = ready.key().and_then(|key| Client::new(ready.config.api, ready.config.endpoint.clone(), key));
            match client {
                Err(fault) => faults.push(fault),
                Ok(client) => {
                    let mut spend = Spend::new(ready.caps, of(&spent, ready.name()));
                    spend.beside(of(&spent, &by_hand(ready.name())));
                    let pace = Pace::new(ready.config.sampling.per_minute);
                    lines.push(Line::new(ready.config.concurrency, ready.config.retries, pace, spend));
                    seats.push(Arc::new(Seat { ready, client }));
                }
            }
        }
        if !faults.is_empty() {
            return Err(together(faults));
        }
        let board = Arc::new(Board::default());
        let desk = Self {
            parked: seats.iter().map(|_| VecDeque::new()).collect(),
            seats,
            lines,
            store,
            payloads,
            nats,
            asked,
            secret: Secret::default(),
            cache: Cache::default(),
            board: board.clone(),
            steps: JoinSet::new(),
            running: HashMap::new(),
            known: BTreeSet::new(),
            out: VecDeque::new(),
            said: VecDeque::new(),
        };
        let shown = desk.seats.iter().map(|seat| Shown {
            judge: seat.ready.name().to_owned(),
            description: seat.ready.judge.description().to_owned(),
            api: seat.ready.config.api.name().to_owned(),
            endpoint: seat.ready.config.endpoint.clone(),
            models: seat.ready.models.iter().map(|model| model.name.clone()).collect(),
            fingerprint: format!("{:016x}", seat.ready.sampled.fingerprint),
            ..Shown::default()
        });
        desk.board.open(shown.collect());
        desk.show();
        Ok((desk, board))
    }

    /// Runs until the daemon has gone; what is under way then is given up, and asked for again after the next start.
    pub async fn run(mut self) {
        let mut keep = tokio::time::interval(KEEP_EVERY);
        keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let says = self.asked.says.clone();
        loop {
            let wake = self.begin();
            self.show();
            let pause = wake.map_or(Duration::from_secs(60), |at| Duration::from_millis(at.since(now()).millis().max(10)));
            tokio::select! {
                permit = says.reserve(), if !self.out.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some((id, said)) = self.out.pop_front() {
                        permit.send(said.clone());
                        self.known.remove(&id);
                        if self.said.len() == SAID_MAX {
                            self.said.pop_front();
                        }
                        self.said.push_back((id, said));
                    }
                }
                Some(done) = self.steps.join_next_with_id(), if !self.steps.is_empty() => match done {
                    Ok((id, step)) => {
                        self.running.remove(&id);
                        self.follow(step);
                    }
                    Err(error) => {
                        // Our mistake, and not the call's: it is counted like any other failure.
                        error!(problem = %error, "asking a judge ended unexpectedly");
                        if let Some(Running { seat, request, probe, reserved }) = self.running.remove(&error.id()) {
                            self.lines[seat].spend.lost(reserved);
                            let job = Job { probe, ..Job::new(request, now()) };
                            self.ended(seat, probe, End::Failed);
                            self.over(&job, Outcome::Errored, "asking ended unexpectedly".to_owned());
                            self.unpark(seat);
                        }
                    }
                },
                request = self.asked.requests.recv(), if self.out.len() < OUT_MAX => match request {
                    Some(request) => self.take(request),
                    None => break,
                },
                _ = keep.tick() => self.keep().await,
                () = tokio::time::sleep(pause), if wake.is_some() => {}
            }
        }
        self.steps.shutdown().await;
        self.keep().await;
        info!("the judges' desk is closed");
    }

    fn take(&mut self, request: JudgeRequest) {
        let id = request.id();
        if let Some((_, said)) = self.said.iter().find(|(known, _)| *known == id) {
            self.out.push_back((id, said.clone()));
            return;
        }
        if !self.known.insert(id) {
            return;
        }
        let of = |seat: &Arc<Seat>| seat.ready.sampled.name == request.judge && seat.ready.sampled.fingerprint == request.fingerprint;
        let seat = self.seats.iter().position(of);
        let job = Job::new(request, now());
        let Some(seat) = seat else { return self.skipped(&job, Skip::Changed, "there is no such judge any more") };
        if let Some(job) = self.lines[seat].push(job) {
            self.skipped(&job, Skip::Backlog, "too many calls wait for this judge");
        }
    }

    /// Begins whatever can begin, and says when to look again.
    fn begin(&mut self) -> Option<Timestamp> {
        let mut wake: Option<Timestamp> = None;
        for seat in 0..self.seats.len() {
            loop {
                match self.lines[seat].next(now()) {
                    Next::Begin(job) => self.prepare(seat, job),
                    Next::Skip(job, skip) => {
                        let why = match skip {
                            Skip::Resting => RESTS,
                            _ => "it waited too long",
                        };
                        self.skipped(&job, skip, why);
                    }
                    Next::GiveUp(job) => {
                        self.lines[seat].gave_up(now());
                        let asked = self.seats[seat].ready.round().count();
                        let why = format!("{}; there was no further try: the judge rests, or it would have been too late", job.problem);
                        let Came { outcome, why, .. } = job.round.came(asked, Some(&why));
                        self.over(&job, outcome, why);
                    }
                    Next::Nothing(at) => {
                        wake = wake.into_iter().chain(at).min();
                        break;
                    }
                }
            }
        }
        wake
    }

    /// Reads the call back and fills in the prompt.
    fn prepare(&mut self, seat: usize, job: Job) {
        let (at, payloads, secret) = (self.seats[seat].clone(), self.payloads.clone(), self.secret.clone());
        let running = Running { seat, request: job.request.clone(), probe: job.probe, reserved: 0 };
        self.spawn(running, async move {
            let found = prepare(&at.ready, &payloads, &secret, &job).await;
            Step::Prepared { seat, job, found }
        });
    }

    /// Decides what follows from what a future found.
    fn follow(&mut self, step: Step) {
        let now = now();
        match step {
            Step::Prepared { seat, job, found: Err((outcome, why)) } => {
                self.ended(seat, job.probe, End::Unasked);
                self.over(&job, outcome, why);
            }
            Step::Prepared { seat, job, found: Ok(prepared) } => {
                if let Some(Known { outcome, score, why }) = self.cache.get(prepared.key).cloned() {
                    let said = said(&job, outcome, score, why, now);
                    return self.publish(seat, job, &prepared.call, said, End::Unasked);
                }
                self.pay(seat, job, prepared);
            }
            Step::Asked { seat, mut job, prepared, reserved, spent, failure } => {
                let ready = &self.seats[seat].ready;
                let asked = ready.round().count();
                if let Some(written) = reserved.to_write {
                    self.lines[seat].spend.written(written);
                }
                self.lines[seat].spend.settle(&reserved, spent);
                let Came { outcome, score, why } = job.round.came(asked, failure.as_ref().map(|failure| failure.why.as_str()));
                if let Some(failure) = failure.as_ref().filter(|_| outcome.failed().is_none()) {
                    let chance = self.secret.chance(&job.id, job.failures);
                    let then = self.lines[seat].failed(now, &job, failure, chance);
                    warn!(judge = %job.request.judge, call = job.request.sequence, problem = %failure.why, again = ?then, "the judge did not answer");
                    if let Then::Again(due) = then {
                        job.failures += 1;
                        job.problem.clone_from(&failure.why);
                        self.lines[seat].put_off(due, job);
                        return self.unpark(seat);
                    }
                }
                if outcome.failed().is_some() {
                    self.cache.insert(prepared.key, Known { outcome, score, why: why.clone() });
                }
                let end = if failure.is_some() { End::Failed } else { End::Answered };
                let said = said(&job, outcome, score, why, now);
                self.publish(seat, job, &prepared.call, said, end);
                self.unpark(seat);
            }
            Step::Published { seat, id, said, probe, end } => {
                self.ended(seat, probe, end);
                self.out.push_back((id, said));
            }
        }
    }

    /// Reserves the money for a call and asks; or says why not; or waits for what others do not need.
    fn pay(&mut self, seat: usize, job: Job, prepared: Box<Prepared>) {
        let remaining = self.seats[seat].ready.round().skip(job.round.replies);
        let most = remaining.map(|model| cost_max(model, &prepared.request)).fold(0, u64::saturating_add);
        let (skip, why) = match self.lines[seat].reserve(now(), &job, most) {
            Ok(reserved) => return self.ask(seat, job, prepared, reserved),
            Err(Refused::Budget(exceeded)) if exceeded.may_fit => return self.parked[seat].push_back((job, prepared)),
            Err(Refused::Budget(exceeded)) => (Skip::Budget, format!("it could exceed what the judge may spend in the {}", exceeded.of)),
            Err(Refused::Resting) => (Skip::Resting, RESTS.to_owned()),
        };
        self.ended(seat, job.probe, End::Unasked);
        // What was asked before is no skip: some of it may be paid for.
        let outcome = if job.failures == 0 { Outcome::Skipped(skip) } else { Outcome::Errored };
        self.over(&job, outcome, why);
    }

    /// Money has been settled: those that wait for it try again, in order. What does not fit goes to the end, and nobody waits without money open.
    fn unpark(&mut self, seat: usize) {
        for (job, prepared) in std::mem::take(&mut self.parked[seat]) {
            self.pay(seat, job, prepared);
        }
    }

    fn ask(&mut self, seat: usize, mut job: Job, prepared: Box<Prepared>, reserved: Reserved) {
        let (at, store) = (self.seats[seat].clone(), self.store.clone());
        let running = Running { seat, request: job.request.clone(), probe: job.probe, reserved: reserved.nano_usd() };
        self.spawn(running, async move {
            let name = at.ready.name().to_owned();
            if let Some((hour, nano_usd)) = reserved.to_write
                && let Err(fault) = store.ask(move |db| db.spend_at_least(&name, hour, nano_usd)).await
            {
                let failure = Failure { why: fault.what().to_owned(), may_pass: false, after: None, may_cost: false };
                return Step::Asked { seat, job, prepared, reserved, spent: 0, failure: Some(failure) };
            }
            let (spent, failure) = replies::ask(&at.ready, &at.client, &mut job.round, &prepared.request, &prepared.nonce).await;
            Step::Asked { seat, job, prepared, reserved, spent, failure }
        });
    }

    /// Tells other systems of an opinion, and then the daemon.
    fn publish(&mut self, seat: usize, job: Job, call: &str, said: Said, end: End) {
        let models: Vec<_> = self.seats[seat].ready.models.iter().map(|model| model.name.clone()).collect();
        let event = event::event(&job.request, &said, call, &models, now());
        let (Job { request, id, probe, .. }, nats) = (job, self.nats.clone());
        self.spawn(Running { seat, request: request.clone(), probe, reserved: 0 }, async move {
            if let (Some(nats), Some(event)) = (nats, event) {
                event::publish(&nats, &request.judge, &id, &event).await;
            }
            Step::Published { seat, id, said, probe, end }
        });
    }

    fn spawn(&mut self, running: Running, step: impl Future<Output = Step> + Send + 'static) {
        let handle = self.steps.spawn(step);
        self.running.insert(handle.id(), running);
    }

    /// A call leaves the line; people hear when that begins or ends a judge's rest.
    fn ended(&mut self, seat: usize, probe: bool, end: End) {
        let before = self.lines[seat].breaker();
        self.lines[seat].ended(now(), probe, end);
        let state = self.lines[seat].breaker();
        if state != before {
            warn!(judge = %self.seats[seat].ready.name(), before, state, "whether the judge is asked has changed");
        }
    }

    fn skipped(&mut self, job: &Job, skip: Skip, why: &str) {
        let said = said(job, Outcome::Skipped(skip), None, why.to_owned(), now());
        self.out.push_back((job.id.clone(), said));
    }

    /// There is no opinion of this call.
    fn over(&mut self, job: &Job, outcome: Outcome, why: String) {
        let said = said(job, outcome, None, why, now());
        self.out.push_back((job.id.clone(), said));
    }

    /// Brings the store's sums up to date where nothing is under way that could raise them, and hears what was spent by hand.
    async fn keep(&mut self) {
        let today = now();
        match self.store.ask(move |db| db.spent(today)).await {
            Ok(spent) => {
                let lines = self.seats.iter().zip(&mut self.lines);
                lines.for_each(|(seat, line)| line.spend.beside(of(&spent, &by_hand(seat.ready.name()))));
            }
            Err(fault) => error!(problem = %fault.what(), "what was spent by hand cannot be read"),
        }
        for (seat, line) in self.seats.iter().zip(&mut self.lines) {
            if line.under_way() > 0 {
                continue;
            }
            for (hour, nano_usd) in line.spend.differs() {
                let name = seat.ready.name().to_owned();
                if let Err(fault) = self.store.ask(move |db| db.spend_is(&name, hour, nano_usd)).await {
                    error!(problem = %fault.what(), "what a judge spent cannot be kept");
                }
            }
        }
    }

    fn show(&self) {
        let now = now();
        let usd = |nano: u64| nano as f64 / 1e9;
        self.board.update(self.lines.iter().map(|line| Numbers {
            state: line.breaker(),
            waiting: line.waiting(),
            under_way: line.under_way(),
            spent_hour_usd: usd(line.spend.of_hour(now)),
            spent_day_usd: usd(line.spend.of_day(now)),
            left_usd: line.spend.left(now).map(usd),
        }));
    }
}

/// A row's hours and nano-dollars, of all that the store has of a day.
fn of(spent: &[(String, Timestamp, u64)], row: &str) -> Vec<(Timestamp, u64)> {
    spent.iter().filter(|(judge, ..)| judge == row).map(|(_, hour, nano)| (*hour, *nano)).collect()
}

/// The call, read back and put into the judge's prompt; or why it cannot be.
async fn prepare(ready: &Ready, payloads: &Payloads, secret: &Secret, job: &Job) -> Result<Box<Prepared>, (Outcome, String)> {
    let skip = |skip, why: &str| (Outcome::Skipped(skip), why.to_owned());
    let mut reads = 1;
    let payload = loop {
        match payloads.read(job.request.sequence).await {
            Ok(Some(payload)) => break payload,
            Ok(None) => return Err(skip(Skip::Gone, "the stream does not hold the call any more")),
            Err(problem) if reads == READS_MAX => return Err((Outcome::Errored, format!("the call cannot be read back: {problem}"))),
            Err(_) => tokio::time::sleep(READ_AGAIN).await,
        }
        reads += 1;
    };
    // It was read once; but another version may have chosen it.
    let call = model::parse(&payload).map_err(|malformed| skip(Skip::Unsuitable, &malformed.detail))?;
    let nonce = secret.nonce(&job.id);
    let request = ready.judge.ask(&call, &nonce).map_err(|unaskable| skip(Skip::Unsuitable, &unaskable.to_string()))?;
    let request = ready.sent(request, &nonce);
    let key = cache::key(secret, ready.sampled.fingerprint, &request, &nonce);
    Ok(Box::new(Prepared { call: call.id.into_owned(), request, nonce, key }))
}

fn said(job: &Job, outcome: Outcome, score: Option<f64>, mut why: String, now: Timestamp) -> Said {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    let JudgeRequest { judge, fingerprint, environment, sequence, .. } = job.request.clone();
    let verdict = Verdict {
        judge,
        fingerprint,
        environment,
        sequence,
        outcome,
        score,
        latency_ms: job.round.latency_ms,
        cost_nano_usd: job.round.cost_nano_usd,
        wait_ms: now.since(job.came).millis(),
    };
    Said { verdict, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::judging::ends;
    use crate::judging::ready::ready;
    use crate::source::local::Ring;
    use model::verdict::Inclusion;

    #[tokio::test]
    async fn a_request_that_comes_again_is_dropped_while_it_waits_and_answered_the_same_when_it_was_just_said() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("streamgauge.toml");
        std::fs::write(&file, "[judges.retrieval-relevance]\nmodel = \"m\"\nendpoint = \"http://127.0.0.1:9\"").expect("the file is written");
        let judges = ready(&Config::load(Some(&file), [], &[]).expect("a good file")).expect("a good judge");
        let (judge, fingerprint) = (judges[0].name().to_owned(), judges[0].sampled.fingerprint);
        let store = Store::open(folder.path().join("store")).expect("a store");
        let (mut judging, asked) = ends();
        // No call can be read back: each is gone.
        let (mut desk, board) = Desk::new(judges, store, Payloads::Local(Ring::default()), None, asked).await.expect("a desk");
        let request = JudgeRequest { judge, fingerprint, environment: "e".to_owned(), sequence: 7, at: now(), inclusion: Inclusion::CERTAIN };
        desk.take(request.clone());
        desk.take(request.clone());
        desk.take(JudgeRequest { fingerprint: fingerprint + 1, ..request.clone() });
        assert_eq!((desk.lines[0].waiting(), desk.out.len(), board.judges().len()), (1, 1, 1));
        let desk = tokio::spawn(desk.run());
        let changed = judging.said.recv().await.expect("a verdict");
        assert_eq!(changed.verdict.outcome, Outcome::Skipped(Skip::Changed));
        let gone = judging.said.recv().await.expect("a verdict");
        assert_eq!((gone.verdict.outcome, gone.verdict.latency_ms), (Outcome::Skipped(Skip::Gone), None));
        judging.asks.send(request).await.expect("the desk is open");
        assert_eq!(judging.said.recv().await.expect("a verdict"), gone);
        drop(judging);
        desk.await.expect("it closes");
    }
}
