//! Looks at the rules' folder every two seconds, and has the engine take up what has changed; at once when somebody asks (SIGHUP, the API).
//!
//! Every look reads the texts and compares them: no event of a file system tells of an editor that writes beside and renames, of a ConfigMap whose
//! link is swapped, and of a share on another machine alike, and times of files are coarse or wrong on some of them. Rules are kilobytes.
//! Only rules are read again. The configuration, schemas included, is read at start.

use crate::daemon::{Reader, Rules};
use crate::error::Fault;
use crate::inspect::Inspector;
use crate::outbox::now;
use crate::prices::Prices;
use crate::rulebook::{Choice, Live, Outcome, Settling, Standing, choose};
use evaluators::Evaluators;
use model::plan::{Plan, Windows};
use model::{FalseAlarms, Timestamp};
use rules::{Problem, Source};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// Between looks.
const EVERY: Duration = Duration::from_secs(2);
/// Between looks while somebody waits, and how many of them: whoever asks has finished editing, or a copy is still on its way.
const EVERY_ASKED: Duration = Duration::from_millis(100);
const LOOKS_ASKED_MAX: usize = 50;
/// People who wait at one time; more are turned away.
const ASKED_MAX: usize = 16;

/// What a reload came to, for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub outcome: Outcome,
    /// Rules by name.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// All that is wrong now, whatever changed.
    pub problems: Vec<String>,
}

/// Asks for a look, now.
#[derive(Clone, Debug)]
pub struct Asking(mpsc::Sender<oneshot::Sender<Result<Report, Fault>>>);

pub type Asked = mpsc::Receiver<oneshot::Sender<Result<Report, Fault>>>;

pub fn asking() -> (Asking, Asked) {
    let (ask, asked) = mpsc::channel(ASKED_MAX);
    (Asking(ask), asked)
}

impl Asking {
    /// Looks until the files have settled, and returns when what they say runs and is durable.
    ///
    /// # Errors
    /// When the files cannot be read or do not settle, or the engine is stopping.
    pub async fn reload(&self) -> Result<Report, Fault> {
        let stopping = || Fault::plain("the engine is stopping");
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// The looking, with what a look needs.
#[derive(Debug)]
pub struct Watching {
    pub path: PathBuf,
    pub library: Vec<Source>,
    /// What the configuration gives to rules.
    pub configured: rules::Configured,
    pub windows: Windows,
    pub false_alarms: FalseAlarms,
    pub evaluators: Evaluators,
    /// One table for all rules that come, so that what it heard is not lost with a reload.
    pub prices: Prices,
    /// Those of the configuration, which is read at start.
    pub judges: Vec<model::verdict::Judge>,
    pub reader: Reader,
    pub standing: Arc<Standing>,
    pub started: Timestamp,
    /// What runs.
    pub live: Live,
    /// Rules that run, by name, with their fingerprints.
    pub running: BTreeMap<String, u64>,
    pub problems: Vec<Problem>,
    pub settling: Settling,
}

impl Watching {
    /// Until `stop` says so or the engine has ended.
    pub async fn run(mut self, mut asked: Asked, mut stop: watch::Receiver<bool>) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            let came = tokio::select! {
                _ = stop.changed() => return,
                _ = every.tick() => self.look().await.map(|_| ()),
                _ = hung_up => {
                    info!("asked to look at the rules");
                    self.settled().await.map(|_| ())
                }
                Some(reply) = asked.recv() => {
                    // Whoever asked may have gone; it is done all the same.
                    let _ = reply.send(self.settled().await);
                    Ok(())
                }
            };
            match came {
                Ok(()) if self.standing.unreadable(None) => info!(path = %self.path.display(), "the rules can be read again"),
                Ok(()) => {}
                Err(fault) => {
                    if self.standing.unreadable(Some((self.path.display().to_string(), fault.to_string()))) {
                        error!("{fault}");
                    }
                }
            }
        }
    }

    /// Looks until two looks in a row see the same.
    async fn settled(&mut self) -> Result<Report, Fault> {
        for _ in 0..LOOKS_ASKED_MAX {
            if let Some(report) = self.look().await? {
                return Ok(report);
            }
            if self.settling.is_settled() {
                let problems = self.problems.iter().map(ToString::to_string).collect();
                return Ok(Report { outcome: Outcome::Unchanged, added: Vec::new(), changed: Vec::new(), removed: Vec::new(), problems });
            }
            tokio::time::sleep(EVERY_ASKED).await;
        }
        Err(Fault::new(format!("the rules in {} change faster than they can be read", self.path.display()), "ask again when the edit is over"))
    }

    /// One look; a report when it was the one that settled a change.
    async fn look(&mut self) -> Result<Option<Report>, Fault> {
        let own = self.read().await?;
        match self.settling.look(own) {
            Some(own) => self.reload(&own).await.map(Some),
            None => Ok(None),
        }
    }

    async fn read(&self) -> Result<Vec<Source>, Fault> {
        let (path, running) = (self.path.clone(), !self.live.is_empty());
        let read = tokio::task::spawn_blocking(move || {
            // A file that is taken away takes its rule with it; a whole folder that is gone is a share that is not mounted.
            if running && !path.exists() {
                return Err(Fault::new(
                    format!("rules.path: {} is gone; its rules go on as they were", path.display()),
                    "mount it again; to end all rules, empty the folder",
                ));
            }
            rules::read_folder(&path).map_err(|error| Fault::plain(format!("rules.path: cannot {error}; the rules go on as they were")))
        });
        read.await.map_err(|error| Fault::plain(format!("reading rules ended unexpectedly: {error}")))?
    }

    async fn reload(&mut self, own: &[Source]) -> Result<Report, Fault> {
        let choice = choose(&self.library, own, &self.configured, &self.live, now());
        let plan = Plan::new(self.windows, self.false_alarms, choice.rules.specs()).judged_by(self.judges.clone());
        let running: BTreeMap<_, _> = plan.rules.iter().map(|rule| (rule.name.clone(), rule.fingerprint)).collect();
        let names = |keep: &dyn Fn(&String, &u64) -> bool, of: &BTreeMap<String, u64>| -> Vec<String> {
            of.iter().filter(|(name, text)| keep(name, text)).map(|(name, _)| name.clone()).collect()
        };
        let added = names(&|name, _| !self.running.contains_key(name), &running);
        let removed = names(&|name, _| !running.contains_key(name), &self.running);
        let changed = names(&|name, text| self.running.get(name).is_some_and(|was| was != text), &running);
        let differs = choice.live != self.live;
        if differs {
            let inspector = Arc::new(Inspector::new(plan, choice.rules.clone(), self.evaluators.clone()).priced_by(self.prices.clone()));
            self.reader.reload(Rules { inspector, live: choice.live.clone() }).await?;
        }
        let outcome = Outcome::of(differs, !choice.problems.is_empty());
        self.standing.set(&choice, &self.library, self.started);
        self.standing.count(outcome);
        info!(outcome = outcome.name(), ?added, ?changed, ?removed, "rules read again");
        for problem in choice.problems.iter().filter(|problem| !self.problems.contains(problem)) {
            error!("{problem}");
            if choice.live.contains_key(&problem.path.display().to_string()) {
                warn!(file = %problem.path.display(), "its last good version goes on");
            }
        }
        let Choice { live, problems, .. } = choice;
        let said = problems.iter().map(ToString::to_string).collect();
        (self.live, self.problems, self.running) = (live, problems, running);
        Ok(Report { outcome, added, changed, removed, problems: said })
    }
}
