//! The calls that wait for one judge, and which of them is next: decisions only, with the time as an argument.
//!
//! A call waits, is asked about, perhaps again after a pause, and ends; every one of them ends in exactly one verdict. Those that would only wait are
//! not kept: when the judge rests, when too many wait, and when one has waited too long, a call is skipped at once.

use super::backoff::{ASKED_MAX, pause};
use super::breaker::{Admission, Breaker};
use super::client::Failure;
use super::pace::Pace;
use super::round::Round;
use super::spend::{Exceeded, Reserved, Spend};
use model::verdict::{JudgeRequest, Skip};
use model::{Span, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// As many as the machine lets wait for a judge in one environment; with more environments, the rest is skipped.
const WAITING_MAX: usize = 10_000;
/// What waited longer says nothing about now.
const EXPIRES_AFTER: Span = Span::from_secs(600);

/// One call on its way to one verdict.
#[derive(Debug)]
pub struct Job {
    pub request: JudgeRequest,
    pub id: String,
    /// When it came here.
    pub came: Timestamp,
    /// Rounds that failed.
    pub failures: u32,
    /// Whether the judge's rest ends with it.
    pub probe: bool,
    /// Why the last round failed.
    pub problem: String,
    /// What the judge's models have said so far.
    pub round: Round,
}

#[derive(Debug)]
pub struct Line {
    /// In the order in which they came.
    waiting: VecDeque<Job>,
    /// Those to be asked about again, by when.
    again: BTreeMap<(Timestamp, String), Job>,
    under_way: usize,
    concurrency: usize,
    retries: u32,
    pace: Pace,
    breaker: Breaker,
    /// The endpoint asked to be left alone until then.
    held_until: Option<Timestamp>,
    pub spend: Spend,
}

/// What is to be done now.
#[derive(Debug)]
pub enum Next {
    Begin(Job),
    Skip(Job, Skip),
    /// It was to be asked about again, and will not be.
    GiveUp(Job),
    /// Nothing, before something ends or this time has come.
    Nothing(Option<Timestamp>),
}

/// How a call that was under way left the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The judge answered, whatever it said.
    Answered,
    /// It did not.
    Failed,
    /// It was not asked.
    Unasked,
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Again(Timestamp),
    GiveUp,
}

impl Job {
    pub fn new(request: JudgeRequest, came: Timestamp) -> Self {
        Self { id: request.id(), request, came, failures: 0, probe: false, problem: String::new(), round: Round::default() }
    }

    fn expires(&self) -> Timestamp {
        self.came + EXPIRES_AFTER
    }
}

impl Line {
    pub fn new(concurrency: usize, retries: u32, pace: Pace, spend: Spend) -> Self {
        Self {
            waiting: VecDeque::new(),
            again: BTreeMap::new(),
            under_way: 0,
            concurrency,
            retries,
            pace,
            breaker: Breaker::default(),
            held_until: None,
            spend,
        }
    }

    /// Takes a call in, or gives it back because too many wait.
    pub fn push(&mut self, job: Job) -> Option<Job> {
        if self.waiting.len() >= WAITING_MAX {
            return Some(job);
        }
        self.pace.heard(&job.request.environment);
        self.waiting.push_back(job);
        None
    }

    /// Asked for until it says that there is nothing.
    pub fn next(&mut self, now: Timestamp) -> Next {
        self.held_until = self.held_until.filter(|until| now < *until);
        let may_begin = self.under_way < self.concurrency && self.held_until.is_none();
        if let Some(first) = self.again.first_entry()
            && (first.key().0 <= now || self.breaker.rests())
        {
            if self.breaker.rests() || first.get().expires() <= now {
                return Next::GiveUp(first.remove());
            }
            if may_begin {
                self.under_way += 1;
                return Next::Begin(first.remove());
            }
        }
        let due = self.again.first_key_value().map(|((due, _), _)| *due).filter(|due| *due > now);
        let due = due.into_iter().chain(self.held_until).min();
        let Some(mut job) = self.waiting.pop_front() else { return Next::Nothing(due) };
        if job.expires() <= now {
            return Next::Skip(job, Skip::Expired);
        }
        let paced = self.pace.wait(now).filter(|_| may_begin);
        let may_begin = may_begin && paced.is_none();
        let admission = if may_begin || self.breaker.rests_at(now) { self.breaker.admit(now) } else { Admission::Wait };
        match admission {
            Admission::Resting => Next::Skip(job, Skip::Resting),
            Admission::Wait => {
                let expires = job.expires();
                self.waiting.push_front(job);
                Next::Nothing([due, paced].into_iter().flatten().chain([expires]).min())
            }
            Admission::Yes | Admission::AsProbe => {
                job.probe = admission == Admission::AsProbe;
                self.pace.begun();
                self.under_way += 1;
                Next::Begin(job)
            }
        }
    }

    /// Whether a call that was begun may be asked about, and the money for it.
    pub fn reserve(&mut self, now: Timestamp, job: &Job, nano_usd: u64) -> Result<Reserved, Refused> {
        // The rest may have begun while its text was read.
        if self.breaker.rests() && !job.probe {
            return Err(Refused::Resting);
        }
        self.spend.reserve(now, nano_usd).map_err(Refused::Budget)
    }

    /// What the failure of a job's round leads to, for it and, where the endpoint names a time, for all others. `chance`: 0..1.
    pub fn failed(&mut self, now: Timestamp, job: &Job, failure: &Failure, chance: f64) -> Then {
        if let Some(after) = failure.after.filter(|after| *after <= ASKED_MAX) {
            let until = now + Span::from_millis(after.as_millis() as u64);
            self.held_until = self.held_until.max(Some(until));
        }
        let worth_it = failure.may_pass && !job.probe && job.failures < self.retries && !self.breaker.rests();
        let due = worth_it.then(|| pause(job.failures + 1, failure.after, chance)).flatten();
        let due = due.map(|pause| now + Span::from_millis(pause.as_millis() as u64));
        due.filter(|due| *due < job.expires()).map_or(Then::GiveUp, Then::Again)
    }

    /// Keeps a job that was under way until it is asked about again.
    pub fn put_off(&mut self, due: Timestamp, job: Job) {
        self.under_way -= 1;
        self.again.insert((due, job.id.clone()), job);
    }

    /// A job that was under way is over.
    pub fn ended(&mut self, now: Timestamp, probe: bool, end: End) {
        self.under_way -= 1;
        match end {
            End::Answered => self.breaker.answered(),
            End::Failed => self.breaker.failed(now, probe),
            End::Unasked if probe => self.breaker.untried(now),
            End::Unasked => {}
        }
    }

    /// A job that had been put off is given up.
    pub fn gave_up(&mut self, now: Timestamp) {
        self.breaker.failed(now, false);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.again.len()
    }

    pub fn under_way(&self) -> usize {
        self.under_way
    }

    pub fn breaker(&self) -> &'static str {
        self.breaker.name()
    }
}

/// Why a call is not asked about after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Resting,
    Budget(Exceeded),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judging::spend::Caps;
    use model::verdict::Inclusion;
    use std::time::Duration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000).expect("it is a time")
    }

    fn job(sequence: u64, came: i64) -> Job {
        let (judge, environment) = ("j".to_owned(), "e".to_owned());
        Job::new(JudgeRequest { judge, fingerprint: 1, environment, sequence, at: at(0), inclusion: Inclusion::CERTAIN }, at(came))
    }

    fn line(concurrency: usize, retries: u32) -> Line {
        Line::new(concurrency, retries, Pace::new(6_000), Spend::new(Caps::default(), []))
    }

    /// What is next in a word.
    fn said(next: Next) -> String {
        match next {
            Next::Begin(job) => format!("begin {}{}", job.request.sequence, if job.probe { " as probe" } else { "" }),
            Next::Skip(job, skip) => format!("skip {} {}", job.request.sequence, skip.name()),
            Next::GiveUp(job) => format!("give up {}", job.request.sequence),
            Next::Nothing(_) => "nothing".to_owned(),
        }
    }

    fn passing(after: Option<u64>) -> Failure {
        Failure { why: "HTTP 500".to_owned(), may_pass: true, after: after.map(Duration::from_secs), may_cost: false }
    }

    #[test]
    fn no_more_are_under_way_than_may_be_and_they_begin_in_order() {
        let mut line = line(2, 0);
        for sequence in 1..=3 {
            assert!(line.push(job(sequence, 0)).is_none());
        }
        assert_eq!([0, 0, 0].map(|now| said(line.next(at(now)))), ["begin 1", "begin 2", "nothing"]);
        line.ended(at(1), false, End::Answered);
        assert_eq!(said(line.next(at(1))), "begin 3");
    }

    #[test]
    fn calls_that_come_at_once_begin_one_after_the_other_at_the_judges_pace() {
        let mut line = Line::new(4, 0, Pace::new(30), Spend::new(Caps::default(), []));
        for sequence in 1..=3 {
            assert!(line.push(job(sequence, 0)).is_none());
        }
        assert_eq!(said(line.next(at(0))), "begin 1");
        assert!(matches!(line.next(at(0)), Next::Nothing(Some(until)) if until == at(2)));
        assert_eq!([1, 2, 3, 4].map(|now| said(line.next(at(now)))), ["nothing", "begin 2", "nothing", "begin 3"]);
    }

    #[test]
    fn what_waited_too_long_and_what_is_too_much_is_skipped() {
        let mut line = line(1, 0);
        assert!(line.push(job(1, 0)).is_none());
        assert!(line.push(job(2, 500)).is_none());
        assert_eq!([600, 600, 600].map(|now| said(line.next(at(now)))), ["skip 1 expired", "begin 2", "nothing"]);
        for sequence in 0..WAITING_MAX as u64 {
            assert!(line.push(job(sequence, 600)).is_none());
        }
        assert!(line.push(job(9, 600)).is_some());
    }

    #[test]
    fn a_failure_that_may_pass_is_tried_again_so_often_and_not_when_it_cannot_pass() {
        let (mut line, mut job) = (line(1, 2), job(1, 0));
        assert_eq!(line.failed(at(0), &job, &passing(None), 0.0), Then::Again(at(1)));
        assert_eq!(line.failed(at(0), &job, &passing(Some(20)), 0.0), Then::Again(at(20)));
        assert_eq!(line.failed(at(590), &job, &passing(Some(20)), 0.0), Then::GiveUp, "it would have expired by then");
        assert_eq!(line.failed(at(0), &job, &Failure { may_pass: false, ..passing(None) }, 0.0), Then::GiveUp);
        job.failures = 2;
        assert_eq!(line.failed(at(0), &job, &passing(None), 0.0), Then::GiveUp);
    }

    #[test]
    fn a_time_that_the_endpoint_names_holds_for_all_calls() {
        let mut line = line(4, 2);
        for sequence in 1..=2 {
            assert!(line.push(job(sequence, 0)).is_none());
        }
        let Next::Begin(first) = line.next(at(0)) else { panic!("the first begins") };
        assert_eq!(line.failed(at(0), &first, &passing(Some(20)), 0.0), Then::Again(at(20)));
        line.put_off(at(20), first);
        assert!(matches!(line.next(at(0)), Next::Nothing(Some(until)) if until == at(20)));
        assert_eq!([19, 20, 20].map(|now| said(line.next(at(now)))), ["nothing", "begin 1", "begin 2"]);
    }

    #[test]
    fn a_judge_that_fails_rests_and_what_waits_for_another_try_is_given_up() {
        let mut line = line(10, 2);
        for sequence in 1..=7 {
            assert!(line.push(job(sequence, 0)).is_none());
        }
        let Next::Begin(put_off) = line.next(at(0)) else { panic!("the first begins") };
        line.put_off(at(60), put_off);
        for sequence in 2..=6 {
            assert_eq!(said(line.next(at(0))), format!("begin {sequence}"));
        }
        (0..5).for_each(|_| line.ended(at(1), false, End::Failed));
        assert_eq!([1, 1, 1].map(|now| said(line.next(at(now)))), ["give up 1", "skip 7 resting", "nothing"]);
        assert!(line.push(job(8, 2)).is_none());
        assert!(line.push(job(9, 2)).is_none());
        assert_eq!([31, 31].map(|now| said(line.next(at(now)))), ["begin 8 as probe", "nothing"]);
        assert_eq!(line.failed(at(31), &Job { probe: true, ..job(8, 2) }, &passing(None), 0.0), Then::GiveUp, "a probe is tried once");
        line.ended(at(32), true, End::Answered);
        assert_eq!(said(line.next(at(32))), "begin 9");
    }

    #[test]
    fn every_call_ends_once_whatever_happens() {
        let seed = 11;
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut line, mut now, mut begun, mut ended) = (line(3, 2), 0, Vec::new(), std::collections::BTreeMap::<u64, u32>::new());
        for sequence in 0..2_000u64 {
            assert!(line.push(job(sequence, now)).is_none());
            now += rng.i64(0..40);
            loop {
                match line.next(at(now)) {
                    Next::Begin(job) => begun.push(job),
                    Next::Skip(job, _) => *ended.entry(job.request.sequence).or_default() += 1,
                    Next::GiveUp(job) => {
                        line.gave_up(at(now));
                        *ended.entry(job.request.sequence).or_default() += 1;
                    }
                    Next::Nothing(_) => break,
                }
            }
            while !begun.is_empty() && rng.u8(..) < 200 {
                let mut job = begun.swap_remove(rng.usize(..begun.len()));
                match rng.u8(..10) {
                    0..3 => {
                        line.ended(at(now), job.probe, End::Answered);
                        *ended.entry(job.request.sequence).or_default() += 1;
                    }
                    3 => {
                        line.ended(at(now), job.probe, End::Unasked);
                        *ended.entry(job.request.sequence).or_default() += 1;
                    }
                    _ => match line.failed(at(now), &job, &passing(None), rng.f64()) {
                        Then::Again(due) => {
                            job.failures += 1;
                            line.put_off(due, job);
                        }
                        Then::GiveUp => {
                            line.ended(at(now), job.probe, End::Failed);
                            *ended.entry(job.request.sequence).or_default() += 1;
                        }
                    },
                }
            }
        }
        assert_eq!(ended.len() + begun.len() + line.waiting(), 2_000, "seed {seed}");
        assert!(ended.values().all(|times| *times == 1), "seed {seed}");
        assert_eq!(line.under_way(), begun.len(), "seed {seed}");
    }
}
