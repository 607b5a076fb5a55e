//! The keeper of incidents: hears of each alert once, of what people do and of what is found out, and plans what is to be said.
//!
//! The machine's [`incident::Incidents`](machine::incident::Incidents) decides; here it is fed and written down. What it decides is in the store
//! together with what it heard, so a kill between two steps repeats the step and nothing else. Its time is the wall clock.
//! Deliberately absent: alerts (the daemon plans them for here), and how a message gets to its channel (`outbox.rs`).

use crate::error::Fault;
use crate::findings::Finder;
use crate::outbox::now;
use crate::routes::{Route, Routes};
use crate::store::{Change, Store};
use crate::ways::OtherWays;
use futures_util::FutureExt;
use machine::incident::{Consequence, Findings, Happening, Incidents as Core, Seen, Settings, Silence, Silenced};
use model::{Span, Timestamp};
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, info};

/// Notifications that are heard together: some hundred kilobytes in one transaction.
const HEARD_MAX: usize = 256;
/// Incidents that are looked into at once: each reads the index.
const LOOKING_MAX: usize = 2;
/// People's wishes that wait.
const WISHES_MAX: usize = 64;
/// Incidents that were quiet for longer than this before a restart are not shown among those of now, and cannot come back; unless `incidents.reopen` is
/// longer.
const KEPT: Span = Span::from_secs(3600);

/// A handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct Incidents {
    wishes: mpsc::Sender<Wish>,
}

/// What came of a person's wish.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done and written down; how the incident is now.
    Done(Box<Seen>),
    /// A silence of alerts is taken back.
    Lifted,
    /// There is none of this name.
    Unknown,
    /// Nothing of it fires any more.
    Over(Box<Seen>),
    /// It was so already.
    Already(Box<Seen>),
    /// As many silences of alerts hold as are kept; this one is not.
    Full,
}

enum Wish {
    Do { name: String, happening: Doing, reply: oneshot::Sender<Answer> },
    SilenceAlerts { silence: Silence, reply: oneshot::Sender<Result<Silence, Answer>> },
    Read(Box<dyn FnOnce(&Core) + Send>),
}

/// What is done to one incident, by whom.
#[derive(Clone, Debug)]
enum Doing {
    Acknowledge { by: String },
    Silence { until: Option<Timestamp>, by: String },
    Unsilence { by: String },
    Act { label: String, outcome: String, by: String },
}

fn gone() -> Fault {
    Fault::plain("the engine is stopping")
}

impl Incidents {
    /// Somebody has it in hand. `name`: an incident's or an alert's id, or the beginning that only one has.
    ///
    /// # Errors
    /// When the engine is stopping; of the others as well.
    pub async fn acknowledge(&self, name: &str, by: &str) -> Result<Answer, Fault> {
        self.wish(name, Doing::Acknowledge { by: by.to_owned() }).await
    }

    /// Nobody wants to hear of it until then. `Err` in the answer: there is no such incident, it is over, or too much is silenced.
    pub async fn silence(&self, of: Silenced, until: Option<Timestamp>, by: &str) -> Result<Result<Silence, Answer>, Fault> {
        let by = by.to_owned();
        match of {
            Silenced::Incident(name) => {
                let answer = self.wish(&name, Doing::Silence { until, by }).await?;
                Ok(match answer {
                    Answer::Done(seen) => seen.silenced.clone().ok_or(Answer::Over(seen)),
                    other => Err(other),
                })
            }
            Silenced::Alerts(_) => {
                let at = now();
                let silence = Silence { id: format!("s{:x}", model::plan::fingerprint(&[&format!("{of:?}"), &at.to_string()])), of, by, at, until };
                let (reply, answer) = oneshot::channel();
                self.wishes.send(Wish::SilenceAlerts { silence, reply }).await.map_err(|_| gone())?;
                answer.await.map_err(|_| gone())
            }
        }
    }

    /// Takes back a silence: by its id, or an incident's.
    pub async fn unsilence(&self, id: &str, by: &str) -> Result<Answer, Fault> {
        self.wish(id, Doing::Unsilence { by: by.to_owned() }).await
    }

    /// A person did what a rule proposes, and what came of it.
    pub async fn acted(&self, incident: &str, label: &str, outcome: &str, by: &str) -> Result<Answer, Fault> {
        self.wish(incident, Doing::Act { label: label.to_owned(), outcome: outcome.to_owned(), by: by.to_owned() }).await
    }

    /// The incident of this name, of those that are open or were a while ago; older ones are in the store alone.
    pub async fn one(&self, name: &str) -> Result<Option<Seen>, Fault> {
        let name = name.to_owned();
        self.read(move |core| core.named(&name).and_then(|incident| incident.seen(core.silence_of(incident, now())))).await
    }

    /// Those of which something fires.
    pub async fn open(&self) -> Result<Vec<Seen>, Fault> {
        self.read(|core| {
            let open = core.all().filter(|incident| incident.quiet.is_none());
            open.filter_map(|incident| incident.seen(core.silence_of(incident, now()))).collect()
        })
        .await
    }

    /// The silences that hold, of incidents and of alerts.
    pub async fn silences(&self) -> Result<Vec<Silence>, Fault> {
        self.read(|core| core.silences(now()).cloned().collect()).await
    }

    async fn wish(&self, name: &str, happening: Doing) -> Result<Answer, Fault> {
        let (reply, answer) = oneshot::channel();
        self.wishes.send(Wish::Do { name: name.to_owned(), happening, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    async fn read<T: Send + 'static>(&self, look: impl FnOnce(&Core) -> T + Send + 'static) -> Result<T, Fault> {
        let (reply, answer) = oneshot::channel();
        let read = Box::new(move |core: &Core| {
            // Whoever asked may have gone.
            let _ = reply.send(look(core));
        });
        self.wishes.send(Wish::Read(read)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// The one task that owns them.
#[derive(Debug)]
pub struct Keeper {
    core: Core,
    store: Store,
    routes: Routes,
    others: Arc<OtherWays>,
    finder: Finder,
    wishes: mpsc::Receiver<Wish>,
    /// The daemon planned a notification.
    heard: Arc<Notify>,
    /// The outbox has something to do.
    wake: Arc<Notify>,
    /// Incidents that are to be looked into.
    curious: BTreeSet<String>,
    looking: JoinSet<(String, Option<Findings>)>,
}

/// What it needs beside the store.
#[derive(Debug)]
pub struct Around {
    pub settings: Settings,
    pub routes: Routes,
    pub others: Arc<OtherWays>,
    pub finder: Finder,
    pub heard: Arc<Notify>,
    pub wake: Arc<Notify>,
}

/// A keeper that goes on with what the store has.
///
/// # Errors
/// When the store cannot be read.
pub async fn keeper(store: Store, around: Around) -> Result<(Incidents, Keeper), Fault> {
    let Around { settings, routes, others, finder, heard, wake } = around;
    let since = now() - kept(&settings);
    let (kept, silences) = store.ask(move |db| db.incidents(since)).await?;
    let (sender, wishes) = mpsc::channel(WISHES_MAX);
    let core = Core::new(settings, kept, silences);
    let keeper = Keeper { core, store, routes, others, finder, wishes, heard, wake, curious: BTreeSet::new(), looking: JoinSet::new() };
    Ok((Incidents { wishes: sender }, keeper))
}

/// How long one that is quiet is of interest.
fn kept(settings: &Settings) -> Span {
    KEPT.max(Span::from_millis(settings.reopen.millis() + settings.settle.millis()))
}

/// What was found out, as far as looking did not fail: it is a comfort, and people are told without it.
async fn found(incident: &str, finding: impl Future<Output = Option<Findings>>) -> Option<Findings> {
    AssertUnwindSafe(finding).catch_unwind().await.unwrap_or_else(|_| {
        error!(incident, "looking into an incident panicked; it is told without what is behind it");
        None
    })
}

impl Keeper {
    /// Keeps them until `stop` says so, and has then heard of all that was planned.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Fault> {
        let mut stopping = false;
        loop {
            let batch = self.store.ask(|db| db.unheard(HEARD_MAX)).await?;
            if !batch.is_empty() {
                let (heard, alerts): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                let happenings = alerts.into_iter().map(|alert| Happening::Alert(Box::new(alert)));
                self.happen(happenings, heard).await?;
                continue;
            }
            if stopping {
                return Ok(());
            }
            self.look();
            let due = self.core.next_due();
            let pause = due.map_or(Duration::from_secs(3600), |at| Duration::from_millis(at.since(now()).millis().max(10)));
            tokio::select! {
                () = self.heard.notified() => {}
                Some(wish) = self.wishes.recv() => self.grant(wish).await?,
                Some(found) = self.looking.join_next(), if !self.looking.is_empty() => {
                    let (incident, findings) = found.map_err(|error| Fault::plain(format!("looking into an incident failed: {error}")))?;
                    self.happen([Happening::Explained { incident, findings: findings.map(Box::new) }], Vec::new()).await?;
                }
                () = tokio::time::sleep(pause) => self.happen([Happening::Passed], Vec::new()).await?,
                _ = stop.changed() => stopping = true,
            }
        }
    }

    /// Looks into as many as may be at once; each of those that wait once.
    fn look(&mut self) {
        while self.looking.len() < LOOKING_MAX
            && let Some(id) = self.curious.pop_first()
        {
            let Some(seen) = self.core.get(&id).and_then(|incident| incident.seen(None)) else { continue };
            let finder = self.finder.clone();
            self.looking.spawn(async move {
                let findings = found(&id, finder.find(&seen)).await;
                (id, findings)
            });
        }
    }

    async fn grant(&mut self, wish: Wish) -> Result<(), Fault> {
        match wish {
            Wish::Read(look) => look(&self.core),
            Wish::SilenceAlerts { silence, reply } => {
                self.happen([Happening::Silenced { silence: silence.clone() }], Vec::new()).await?;
                let kept = self.core.kept_silences().iter().any(|known| known.id == silence.id);
                // Whoever asked may have gone; it is done all the same.
                let _ = reply.send(if kept { Ok(silence) } else { Err(Answer::Full) });
            }
            Wish::Do { name, happening, reply } => {
                let answer = self.do_it(&name, happening).await?;
                let _ = reply.send(answer);
            }
        }
        Ok(())
    }

    async fn do_it(&mut self, name: &str, doing: Doing) -> Result<Answer, Fault> {
        let at = now();
        if let Doing::Unsilence { by } = &doing
            && self.core.kept_silences().iter().any(|silence| silence.id == name)
        {
            let id = name.to_owned();
            self.happen([Happening::Unsilenced { id, by: by.clone() }], Vec::new()).await?;
            return Ok(Answer::Lifted);
        }
        let Some(incident) = self.core.named(name) else { return Ok(Answer::Unknown) };
        let Some(seen) = incident.seen(self.core.silence_of(incident, at)).map(Box::new) else { return Ok(Answer::Unknown) };
        let incident = incident.id.clone();
        let happening = match doing {
            Doing::Unsilence { .. } if seen.silenced.is_none() => return Ok(if seen.firing { Answer::Already(seen) } else { Answer::Over(seen) }),
            Doing::Acknowledge { .. } | Doing::Silence { .. } | Doing::Act { .. } if !seen.firing => return Ok(Answer::Over(seen)),
            Doing::Acknowledge { .. } if seen.acknowledged.is_some() => return Ok(Answer::Already(seen)),
            Doing::Acknowledge { by } => Happening::Acknowledged { incident: incident.clone(), by },
            Doing::Silence { until, by } => {
                let silence = Silence { id: format!("s-{incident}"), of: Silenced::Incident(incident.clone()), by, at, until };
                Happening::Silenced { silence }
            }
            Doing::Unsilence { by } => Happening::Unsilenced { id: incident.clone(), by },
            Doing::Act { label, outcome, by } => Happening::Acted { incident: incident.clone(), label, by, outcome },
        };
        self.happen([happening], Vec::new()).await?;
        let now_seen = self.core.get(&incident).and_then(|incident| incident.seen(self.core.silence_of(incident, now()))).map_or(seen, Box::new);
        Ok(Answer::Done(now_seen))
    }

    /// Lets these happen, and writes what came of them together with what was `heard`.
    async fn happen(&mut self, happenings: impl IntoIterator<Item = Happening>, heard: Vec<i64>) -> Result<(), Fault> {
        let at = now();
        let mut consequences = Vec::new();
        for happening in happenings {
            self.core.apply(happening, at, &mut consequences);
        }
        let mut change = Change { heard, follow: self.routes.people.contains(&"slack"), ..Change::default() };
        let mut changed = BTreeSet::new();
        for consequence in consequences {
            match consequence {
                Consequence::Changed(id) => {
                    changed.insert(id);
                }
                Consequence::Merged { from, into } => change.merged.push((from, into)),
                Consequence::Silences => change.silences = Some(self.core.kept_silences().to_vec()),
                Consequence::Explain(id) => {
                    self.curious.insert(id);
                }
                Consequence::Tell(telling) => {
                    info!(incident = %telling.incident.id, environment = %telling.incident.environment, occasion = telling.occasion.name(), aloud = telling.aloud, "incident");
                    let alerts = self.core.get(&telling.incident.id).map_or(&[][..], |incident| &incident.alerts);
                    let mut routes = self.routes.of_incident(&telling, alerts);
                    // Alertmanager is told how things stand, webhooks what happened.
                    let other = |to: String| Route { superseding: to.starts_with("alertmanager:"), to, threaded: false };
                    routes.extend(self.others.routes(&telling.incident).into_iter().map(other));
                    change.tellings.push((*telling, routes));
                }
            }
        }
        change.incidents = changed.iter().filter_map(|id| self.core.get(id)).cloned().collect();
        let told = !change.tellings.is_empty();
        if change.heard.is_empty() && change.incidents.is_empty() && change.merged.is_empty() && change.silences.is_none() {
            return Ok(());
        }
        self.store.ask(move |db| db.change(&change, at)).await?;
        if told {
            self.wake.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_loaded_for_as_long_as_it_can_come_back() {
        let seconds = Span::from_secs;
        assert_eq!(kept(&Settings::default()), seconds(3600));
        assert_eq!(kept(&Settings { reopen: seconds(86_400), settle: seconds(300), ..Settings::default() }), seconds(86_700));
    }

    #[tokio::test]
    async fn what_cannot_be_found_out_because_of_a_panic_is_not_known_and_nothing_more() {
        assert_eq!(found("i1", async { panic!("on purpose") }).await, None);
        assert_eq!(found("i1", async { Some(Findings::default()) }).await, Some(Findings::default()));
    }
}
