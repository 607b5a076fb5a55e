//! Asking one judge by hand about calls that are all there: the same client, rounds, redaction, retries and money as beside the stream, and no desk.
//!
//! A person waits for it, so there is no resting: after some calls in a row without an answer nobody is asked any more, and it says so. The judge's
//! caps hold for what is asked by hand and online together: each looks in the store for what the other has spent. An engine at work looks every few
//! seconds, so both together can exceed a cap by what is asked by hand meanwhile. A limit for one command is never exceeded.
//! Deliberately absent: which calls, and what their verdicts mean.

use super::backoff;
use super::cache::{self, Cache, Known};
use super::client::Client;
use super::ready::{Ready, cost_max};
use super::replies;
use super::round::{Came, Round};
use super::secret::Secret;
use super::spend::{Reserved, Spend};
use crate::error::Fault;
use crate::outbox::now;
use crate::store::ByHand;
use evaluators::judge::{Nonce, Request};
use futures_util::{StreamExt, stream};
use model::CallLog;
use model::verdict::{Outcome, Skip};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Calls in a row without an answer, each after its own retries, before nobody is asked any more: as online, where the judge then rests.
const FAILURES_MAX: u32 = 5;

/// One judge and the money there is for it.
#[derive(Debug)]
pub struct Batch<'r> {
    ready: &'r Ready,
    client: Client,
    secret: Secret,
    state: Mutex<State>,
    /// Money that was reserved is settled.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    cache: Cache,
    spend: Spend,
    store: ByHand,
    /// Nano-dollars that this command may spend; `None`: as much as the caps leave.
    limit: Option<u64>,
    spent: u64,
    /// Reserved and not settled.
    open: u64,
    /// Calls in a row without an answer, and why the last had none.
    failures: u32,
    problem: String,
}

/// What was said of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub outcome: Outcome,
    /// 0..=1.
    pub score: Option<f64>,
    pub why: String,
    pub cost_nano_usd: u64,
}

/// What asking would cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    pub requests: u64,
    /// Calls that cannot be asked about.
    pub unsuitable: u64,
    /// In nano-dollars: reckoned with four bytes a token and half of the longest replies, and the most there can be.
    pub about: u64,
    pub most: u64,
}

/// What asking `ready` about these calls would cost; nothing where prices are not known. Cost: each prompt is filled in once, 10 µs for a short call.
pub fn costs<T>(ready: &Ready, items: &[T], call: fn(&T) -> CallLog<'_>) -> Costs {
    let (secret, mut costs) = (Secret::default(), Costs::default());
    for (number, item) in items.iter().enumerate() {
        let call = call(item);
        let Ok((request, _)) = asked(ready, &secret, number, &call) else {
            costs.unsuitable += 1;
            continue;
        };
        let bytes = (request.system.len() + request.user.len() + request.schema.len()) as u64;
        for model in ready.round() {
            costs.requests += 1;
            costs.most = costs.most.saturating_add(cost_max(model, &request));
            let about = model.price.as_ref().map_or(0, |price| price.uncached(bytes / 4, u64::from(request.max_output_tokens) / 2));
            costs.about = costs.about.saturating_add(about);
        }
    }
    costs
}

/// The request about one call, as it is sent.
fn asked(ready: &Ready, secret: &Secret, number: usize, call: &CallLog<'_>) -> Result<(Request, Nonce), String> {
    let nonce = secret.nonce(&format!("{number} {}", call.id));
    let request = ready.judge.ask(call, &nonce).map_err(|unaskable| unaskable.to_string())?;
    Ok((ready.sent(request, &nonce), nonce))
}

impl<'r> Batch<'r> {
    /// `store`: the folder where the engine's store is, or will be. `limit`: in nano-dollars.
    ///
    /// # Errors
    /// When the key is missing, the store cannot be read, or there is a limit and no price to hold it with.
    pub fn new(ready: &'r Ready, store: &Path, limit: Option<u64>) -> Result<Self, Fault> {
        if let (Some(_), Some(model)) = (limit, ready.models.iter().find(|model| model.price.is_none())) {
            let hint = format!("say it: [prices.\"{}\"] with input and output, in US dollars for a million tokens", model.name);
            return Err(Fault::new(format!("what `{}` costs is not known, so no limit could be held", model.name), hint));
        }
        let client = Client::new(ready.config.api, ready.config.endpoint.clone(), ready.key()?)?;
        let store = ByHand::open(store)?;
        let [online, by_hand] = store.spent(ready.name(), now())?;
        let mut spend = Spend::new(ready.caps, by_hand);
        spend.beside(online);
        let state = State { cache: Cache::default(), spend, store, limit, spent: 0, open: 0, failures: 0, problem: String::new() };
        Ok(Self { ready, client, secret: Secret::default(), state: Mutex::new(state), settled: Notify::new() })
    }

    /// Asks about all of them, as many at a time as the judge's `concurrency`; answers are in the calls' order. `said` hears of each with what was
    /// spent so far.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn all<T>(&self, items: &[T], call: fn(&T) -> CallLog<'_>, said: impl Fn(u64)) -> Result<Vec<Answer>, Fault> {
        let one = async |(number, item): (usize, &T)| {
            let answer = self.ask(number, &call(item)).await;
            said(self.spent());
            answer
        };
        let answers: Vec<_> = stream::iter(items.iter().enumerate()).map(one).buffered(self.ready.config.concurrency).collect().await;
        self.keep()?;
        answers.into_iter().collect()
    }

    /// Nano-dollars that this command has spent.
    pub fn spent(&self) -> u64 {
        self.state().spent
    }

    async fn ask(&self, number: usize, call: &CallLog<'_>) -> Result<Answer, Fault> {
        let none = |outcome, why: String| Ok(Answer { outcome, score: None, why, cost_nano_usd: 0 });
        let (request, nonce) = match asked(self.ready, &self.secret, number, call) {
            Ok(asked) => asked,
            Err(why) => return none(Outcome::Skipped(Skip::Unsuitable), why),
        };
        let key = cache::key(&self.secret, self.ready.sampled.fingerprint, &request, &nonce);
        if let Some(Known { outcome, score, why }) = self.state().cache.get(key).cloned() {
            return Ok(Answer { outcome, score, why, cost_nano_usd: 0 });
        }
        let asked = self.ready.round().count();
        let (mut round, mut failures) = (Round::default(), 0);
        loop {
            let most = self.ready.round().skip(round.replies).map(|model| cost_max(model, &request)).fold(0, u64::saturating_add);
            let reserved = match self.reserve(most).await? {
                Ok(reserved) => reserved,
                Err((_, why)) if failures > 0 => return Ok(answer(&round, asked, Some(&why))),
                Err((outcome, why)) => return none(outcome, why),
            };
            let (spent, failure) = replies::ask(self.ready, &self.client, &mut round, &request, &nonce).await;
            self.settle(&reserved, spent);
            let answer = answer(&round, asked, failure.as_ref().map(|failure| failure.why.as_str()));
            if answer.outcome != Outcome::Errored {
                let mut state = self.state();
                state.failures = 0;
                if answer.outcome.failed().is_some() {
                    state.cache.insert(key, Known { outcome: answer.outcome, score: answer.score, why: answer.why.clone() });
                }
                return Ok(answer);
            }
            failures += 1;
            let again = failure.filter(|failure| failure.may_pass && failures <= self.ready.config.retries);
            let chance = self.secret.chance(&number.to_string(), failures);
            match again.and_then(|failure| backoff::pause(failures, failure.after, chance)) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    let mut state = self.state();
                    state.failures += 1;
                    state.problem.clone_from(&answer.why);
                    return Ok(answer);
                }
            }
        }
    }

    /// Takes from the money what a request may cost at most; waits while it may fit once what others do not need is settled. Or says why not.
    async fn reserve(&self, most: u64) -> Result<Result<Reserved, (Outcome, String)>, Fault> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Heard from here on: what is settled before the wait is not missed.
            settled.as_mut().enable();
            {
                let mut guard = self.state();
                let state = &mut *guard;
                if state.failures >= FAILURES_MAX {
                    let why = format!("not asked: {FAILURES_MAX} calls in a row had no answer; the last: {}", state.problem);
                    return Ok(Err((Outcome::Errored, why)));
                }
                let within = state.limit.is_none_or(|limit| state.spent.saturating_add(state.open).saturating_add(most) <= limit);
                // An engine at work writes what it may spend before it does.
                let [online, _] = state.store.spent(self.ready.name(), now())?;
                state.spend.beside(online);
                let refused = if within {
                    match state.spend.reserve(now(), most) {
                        Ok(reserved) => {
                            state.open += most;
                            if let Some(written) = reserved.to_write {
                                state.store.spend_is(self.ready.name(), written.0, written.1)?;
                                state.spend.written(written);
                            }
                            return Ok(Ok(reserved));
                        }
                        Err(exceeded) => (exceeded.may_fit, format!("it could exceed what the judge may spend in the {}", exceeded.of)),
                    }
                } else {
                    let may_fit = state.limit.is_some_and(|limit| state.spent.saturating_add(most) <= limit);
                    (may_fit, "it could exceed the limit of this command".to_owned())
                };
                if let (false, why) = refused {
                    return Ok(Err((Outcome::Skipped(Skip::Budget), why)));
                }
            }
            settled.await;
        }
    }

    fn settle(&self, reserved: &Reserved, spent: u64) {
        {
            let mut state = self.state();
            state.spend.settle(reserved, spent);
            state.open = state.open.saturating_sub(reserved.nano_usd());
            state.spent = state.spent.saturating_add(spent);
        }
        self.settled.notify_waiters();
    }

    /// The store's sums are those that are; nothing is under way.
    fn keep(&self) -> Result<(), Fault> {
        let mut guard = self.state();
        let state = &mut *guard;
        for (hour, nano_usd) in state.spend.differs() {
            state.store.spend_is(self.ready.name(), hour, nano_usd)?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(round: &Round, asked: usize, failure: Option<&str>) -> Answer {
    let Came { outcome, score, why } = round.came(asked, failure);
    Answer { outcome, score, why, cost_nano_usd: round.cost_nano_usd }
}
