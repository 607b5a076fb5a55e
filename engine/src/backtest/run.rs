//! The run: batches are folded on all cores ahead of the one thread that applies them in order.
//!
//! ```text
//! reader ─ batch k ─▶ folder k mod n ─ pieces ─▶ this thread, which takes from the folders in turn
//! ```
//!
//! Queues hold one batch each, so memory stays at some batches per core, and the order is that of the calls without any sorting. A batch is cut into
//! pieces where something is looked at between calls: at the first call of the range asked for, and at every tick when curves are drawn. Where it is cut
//! changes no sum and no alert.

use super::calls::Calls;
use super::curves::Curves;
use super::hits::{Hits, Notes, Scribe, Watched};
use crate::error::Fault;
use crate::inspect::Inspector;
use crate::replay::Replay;
use crate::source::Envelope;
use crate::suspensions::Suspensions;
use machine::{Input, Machine, Notification, State};
use model::fold::{FUTURE_MAX, Fold, Folder, Inspected};
use model::plan::TICK;
use model::{Span, Timestamp, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Malformed calls that are shown; all are counted.
const SHOWN_MAX: usize = 5;
/// How often it is looked which rules still learn.
const LEARNING_EVERY: Span = Span::from_secs(60);

/// How a run is done.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Calls are stamped by their own time.
    pub own_time: bool,
    /// The first sequence of the range asked for; what is before it is only learned from.
    pub first: u64,
    /// Curves are wanted.
    pub curves: bool,
}

/// What one set of rules made of the calls.
#[derive(Debug)]
pub struct Ran {
    pub machine: Machine,
    /// In order, of the range asked for.
    pub told: Vec<Notification>,
    /// Ids of alerts that fired when the range began.
    pub before: BTreeSet<String>,
    pub hits: Hits,
    pub curves: Curves,
    /// By rule: when it had learned something somewhere; `None`: not by the end.
    pub learned: Vec<Option<Timestamp>>,
}

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// Calls of the range, counted or malformed.
    pub calls: u64,
    /// Calls before it, which were only learned from.
    pub learned_from: u64,
    /// By reason.
    pub malformed: BTreeMap<&'static str, u64>,
    /// Number and words of the first malformed calls.
    pub shown: Vec<(u64, String)>,
    /// What calls are numbered by: `line` or `message`.
    pub numbered: &'static str,
    /// Event times of the range.
    pub span: Option<(Timestamp, Timestamp)>,
    pub took: Duration,
}

/// Calls between two looks.
struct Piece {
    last: u64,
    calls: u64,
    malformed: Vec<(u64, &'static str, String)>,
    span: Option<(Timestamp, Timestamp)>,
    /// By side.
    folds: Vec<(Fold, Notes)>,
}

/// Applies all of `calls` to each of `sides`, and behind the calls that they came behind, the verdicts that are `recorded`; `progress` hears how far reading is and how many calls are applied.
///
/// # Errors
/// When the calls cannot be read on.
pub fn run(
    mut calls: Calls,
    sides: Vec<Replay>,
    recorded: &[(u64, Verdict)],
    how: How,
    runtime: &Handle,
    mut progress: impl FnMut(u64, u64),
) -> Result<(Read, Vec<Ran>), Fault> {
    let began = Instant::now();
    let inspectors: Vec<_> = sides.iter().map(|side| side.inspector().clone()).collect();
    let watched: Vec<_> = inspectors.iter().map(|inspector| Watched::new(inspector)).collect();
    let mut read = Read {
        calls: 0,
        learned_from: 0,
        malformed: BTreeMap::new(),
        shown: Vec::new(),
        numbered: if how.own_time { "line" } else { "message" },
        span: None,
        took: Duration::ZERO,
    };
    let mut sides: Vec<_> = sides.into_iter().map(Side::new).collect();
    let folders = std::thread::available_parallelism().map_or(2, usize::from);
    let outcome = std::thread::scope(|scope| {
        let (mut to_fold, mut folded) = (Vec::new(), Vec::new());
        for _ in 0..folders {
            let (send, batches) = sync_channel::<(Vec<Envelope>, u64)>(1);
            let (pieces, receive) = sync_channel(1);
            let (inspectors, watched) = (&inspectors, &watched);
            scope.spawn(move || fold_all(inspectors, watched, recorded, how, &batches, &pieces));
            to_fold.push(send);
            folded.push(receive);
        }
        let reader = scope.spawn(move || {
            for send in to_fold.iter().cycle() {
                let Some(batch) = calls.next(runtime)? else { break };
                // The other end is gone when a folder has failed, which its thread tells.
                if send.send((batch, calls.done())).is_err() {
                    break;
                }
            }
            Ok::<_, Fault>(())
        });
        let mut heard = 0;
        for receive in folded.iter().cycle() {
            let Ok((pieces, done)) = receive.recv() else { break };
            for piece in pieces {
                read.take(&piece, how);
                let within = piece.last >= how.first;
                let come = recorded.partition_point(|(position, _)| *position <= piece.last);
                let verdicts: Vec<_> = recorded[heard..come].iter().map(|(_, verdict)| verdict.clone()).collect();
                heard = heard.max(come);
                for (side, (fold, notes)) in sides.iter_mut().zip(piece.folds) {
                    side.apply(fold, notes, within, how.curves);
                    side.judged(&verdicts, within);
                }
            }
            progress(done, read.calls + read.learned_from);
        }
        drop(folded);
        reader.join().unwrap_or_else(|_| Err(Fault::plain("reading the calls ended unexpectedly")))
    });
    outcome?;
    read.took = began.elapsed();
    Ok((read, sides.into_iter().map(Side::finish).collect()))
}

fn fold_all(
    inspectors: &[Arc<Inspector>],
    watched: &[Watched],
    recorded: &[(u64, Verdict)],
    how: How,
    batches: &Receiver<(Vec<Envelope>, u64)>,
    pieces: &SyncSender<(Vec<Piece>, u64)>,
) {
    while let Ok((batch, done)) = batches.recv() {
        if pieces.send((fold(inspectors, watched, recorded, how, &batch), done)).is_err() {
            return;
        }
    }
}

/// A piece that is being folded.
struct Open<'i> {
    inspectors: &'i [Arc<Inspector>],
    watched: &'i [Watched],
    folders: Vec<(Folder<'i>, Scribe<'i>)>,
    last: u64,
    calls: u64,
    malformed: Vec<(u64, &'static str, String)>,
    span: Option<(Timestamp, Timestamp)>,
}

impl<'i> Open<'i> {
    fn new(inspectors: &'i [Arc<Inspector>], watched: &'i [Watched]) -> Self {
        let folders = inspectors.iter().zip(watched).map(|(inspector, watched)| (Folder::new(&inspector.plan), Scribe::new(watched))).collect();
        Self { inspectors, watched, folders, last: 0, calls: 0, malformed: Vec::new(), span: None }
    }

    fn close(&mut self, pieces: &mut Vec<Piece>) {
        let full = std::mem::replace(self, Self::new(self.inspectors, self.watched));
        if full.calls > 0 {
            let finish = |(folder, scribe): (Folder<'_>, Scribe<'_>)| {
                let fold = folder.finish();
                let notes = scribe.finish(&fold);
                (fold, notes)
            };
            let folds = full.folders.into_iter().map(finish).collect();
            pieces.push(Piece { last: full.last, calls: full.calls, malformed: full.malformed, span: full.span, folds });
        }
    }
}

/// Reads and judges each call once, and sums it for every set of rules.
fn fold(inspectors: &[Arc<Inspector>], watched: &[Watched], recorded: &[(u64, Verdict)], how: How, batch: &[Envelope]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut open = Open::new(inspectors, watched);
    let mut scripts = Vec::new();
    let mut pricing = inspectors[0].prices.pricing();
    for envelope in batch {
        let sequence = envelope.sequence;
        if sequence >= how.first && open.last < how.first || came_between(recorded, open.last, sequence) {
            open.close(&mut pieces);
        }
        let call = model::parse(&envelope.payload);
        let stamped = call.as_ref().ok().map(|call| {
            let stamp = if how.own_time { call.time } else { envelope.stamp };
            (stamp, call.time.min(stamp + FUTURE_MAX))
        });
        if let Some((_, time)) = stamped.filter(|_| how.curves)
            && open.span.is_some_and(|(_, latest)| time.floor(TICK) > latest.floor(TICK))
        {
            open.close(&mut pieces);
        }
        (open.last, open.calls) = (sequence, open.calls + 1);
        match (call, stamped) {
            (Ok(mut call), Some((stamp, time))) => {
                open.span = Some(open.span.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
                pricing.price(&mut call);
                let (signals, measures) = inspectors[0].judge(&mut call);
                for (inspector, (folder, scribe)) in inspectors.iter().zip(&mut open.folders) {
                    // Which calls are noted must not depend on how far folding runs ahead, so it obeys no suspension.
                    inspector.see(&call, sequence, stamp, &Suspensions::default(), folder, &mut scripts);
                    folder.add(sequence, stamp, &Inspected { call: &call, signals, measures, scripts: &scripts });
                    scribe.see(&call, time, signals, &scripts);
                }
            }
            (Ok(_), None) => {}
            (Err(malformed), _) => {
                open.folders.iter_mut().for_each(|(folder, _)| folder.malformed(sequence, malformed.reason));
                open.malformed.push((sequence, malformed.reason.name(), malformed.detail));
            }
        }
    }
    open.close(&mut pieces);
    pieces
}

/// Whether a verdict came behind a call numbered at least `after` and before that numbered `before`.
fn came_between(recorded: &[(u64, Verdict)], after: u64, before: u64) -> bool {
    let at = recorded.partition_point(|(position, _)| *position < after);
    recorded.get(at).is_some_and(|(position, _)| *position < before)
}

impl Read {
    fn take(&mut self, piece: &Piece, how: How) {
        if piece.last < how.first {
            self.learned_from += piece.calls;
            return;
        }
        self.calls += piece.calls;
        for (sequence, reason, detail) in &piece.malformed {
            *self.malformed.entry(reason).or_default() += 1;
            if self.shown.len() < SHOWN_MAX {
                // Each was read by itself, and its number says where it is.
                self.shown.push((*sequence, detail.replace(" at line 1 column ", " at column ")));
            }
        }
        self.span = match (self.span, piece.span) {
            (Some((first, last)), Some((earlier, later))) => Some((first.min(earlier), last.max(later))),
            (known, new) => known.or(new),
        };
    }
}

/// One set of rules at work.
struct Side {
    replay: Replay,
    told: Vec<Notification>,
    before: BTreeSet<String>,
    hits: Hits,
    curves: Curves,
    learned: Vec<Option<Timestamp>>,
    /// When it is looked next who still learns.
    look: Timestamp,
    within: bool,
}

impl Side {
    fn new(replay: Replay) -> Self {
        let knows = |rule| (!replay.machine().knows_nothing(rule)).then_some(Timestamp::EPOCH);
        let learned = (0..replay.machine().plan().rules.len()).map(knows).collect();
        Self {
            replay,
            told: Vec::new(),
            before: BTreeSet::new(),
            hits: Hits::default(),
            curves: Curves::default(),
            learned,
            look: Timestamp::EPOCH,
            within: false,
        }
    }

    fn apply(&mut self, fold: Fold, notes: Notes, within: bool, curves: bool) {
        if within && !self.within {
            self.within = true;
            let firing = self.replay.machine().alerts().filter(|view| view.alert.state != State::Pending);
            self.before = firing.map(|view| view.alert.id.clone()).collect();
        }
        let unheard = &mut Vec::new();
        self.replay.apply(Input::Folded(fold), if within { &mut self.told } else { unheard });
        self.hits.add(notes);
        let machine = self.replay.machine();
        let clock = machine.clocks().map(|(_, clock)| clock).max().unwrap_or(Timestamp::EPOCH);
        if clock >= self.look {
            self.look = clock + LEARNING_EVERY;
            for (rule, learned) in self.learned.iter_mut().enumerate().filter(|(_, learned)| learned.is_none()) {
                *learned = (!machine.knows_nothing(rule)).then_some(clock);
            }
        }
        if within && curves {
            self.curves.sample(machine);
        }
    }

    /// What judges said behind the calls that were applied last.
    fn judged(&mut self, verdicts: &[Verdict], within: bool) {
        // Whom they are to be asked about is known; nobody asks.
        self.replay.chosen();
        if !verdicts.is_empty() {
            let unheard = &mut Vec::new();
            self.replay.apply(Input::Judged { verdicts: verdicts.to_vec() }, if within { &mut self.told } else { unheard });
        }
    }

    fn finish(mut self) -> Ran {
        self.curves.finish();
        let machine = self.replay.into_machine();
        Ran { machine, told: self.told, before: self.before, hits: self.hits, curves: self.curves, learned: self.learned }
    }
}
