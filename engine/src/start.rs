//! Putting an engine together: rules and schemas into a plan, the store's snapshot into a machine, the source, the ways out, the listener; and
//! taking it apart again in order. `run` and `demo` differ only in what they hand in.
//! Rules are read here for the first time; when their files change later is [`crate::reload`]'s to see.

use crate::actions::Actions;
use crate::calls::Calls;
use crate::config::{Config, Delivery};
use crate::daemon::{Crash, Daemon, Pulse, reader};
use crate::deadletter::DeadLetters;
use crate::error::Fault;
use crate::fallback::Fallback;
use crate::findings::Finder;
use crate::hearing;
use crate::http::{self, App, Readiness};
use crate::incidents::{self, Around};
use crate::indexing::{self, Keep, Refill};
use crate::inspect::Inspector;
use crate::journal::Journal;
use crate::judging::ready::Ready;
use crate::judging::{self, Board, Desk, Judging};
use crate::keeping::{self, Datasets};
use crate::outbox::{Deliveries, Outbox, Ways, now};
use crate::prices::Prices;
use crate::reload::{self, Watching};
use crate::routes::Routes;
use crate::rulebook::{Settling, Standing, choose};
use crate::schemas;
use crate::slack::Slack;
use crate::source::local::Local;
use crate::source::payload::Payloads;
use crate::source::{Batch, core, nats};
use crate::store::Store;
use crate::subscriptions::Subscriptions;
use crate::suspensions::Suspensions;
use crate::ways::{OtherWays, Publisher, Refusals};
use evaluators::{Evaluators, Objective, SchemaSource};
use machine::incident::Settings;
use machine::{Effect, Machine, Start};
use model::plan::{Filter, Plan, Rule, Windows};
use model::{Key, Span, Timestamp};
use rules::Source;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// Batches read and not yet folded.
const READ_AHEAD: usize = 2;
/// What a stop waits for notifications that are due.
const DELIVERY_GRACE: Duration = Duration::from_secs(10);
/// Between attempts to read the stream again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What is decided on the command line rather than in the configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// Go on with a stream that is not the one the store knows.
    pub accept_new_stream: bool,
    pub crash: Option<Crash>,
    /// The demo: messages are shown on the terminal.
    pub terminal: bool,
}

/// Where calls come from.
#[derive(Debug)]
pub enum Feed {
    Nats,
    /// In this process, with a time of its own.
    Local(Local),
}

/// An engine at work.
#[derive(Debug)]
pub struct Running {
    pub address: std::net::SocketAddr,
    pub reader: crate::daemon::Reader,
    pub store: Store,
    pub pulse: Arc<Pulse>,
    daemon: JoinHandle<Result<Machine, Fault>>,
    outbox: JoinHandle<Result<(), Fault>>,
    incidents: JoinHandle<Result<(), Fault>>,
    listener: JoinHandle<Result<(), Fault>>,
    reading: JoinHandle<Result<(), Fault>>,
    indexing: JoinHandle<()>,
    /// `None` without a server.
    keeping: Option<JoinHandle<()>>,
    /// `None` without judges.
    desk: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    stop_edges: watch::Sender<bool>,
    stop_outbox: watch::Sender<bool>,
}

/// The files of code evaluators: shipped ones that are asked for, and the user's own.
pub fn evaluator_files(config: &Config) -> Result<Vec<Source>, Fault> {
    let shipped = evaluators::library(&config.evaluators.library).map_err(|error| Fault::plain(format!("evaluators.library: cannot {error}")))?;
    let own = rules::read_folder(&config.evaluators.path).map_err(|error| Fault::plain(format!("evaluators.path: cannot {error}")))?;
    // An unchanged copy of a shipped one is that one, not a second one of its name.
    let own = own.into_iter().filter(|source| !shipped.iter().any(|shipped| shipped.text == source.text)).collect();
    Ok([shipped, own].concat())
}

/// The files of the library, code evaluators included, and of the user's folder of rules.
pub fn rule_files(config: &Config) -> Result<(Vec<Source>, Vec<Source>), Fault> {
    if config.rules.path_is_named && !config.rules.path.exists() {
        return Err(Fault::new(
            format!("rules.path: there is no {}, so none of your own rules would run", config.rules.path.display()),
            "set it to the folder of your rules, or make that folder",
        ));
    }
    let mut library = rules::library(&config.rules.library).map_err(|error| Fault::plain(format!("rules.library: cannot {error}")))?;
    library.append(&mut evaluator_files(config)?);
    let own = rules::read_folder(&config.rules.path).map_err(|error| Fault::plain(format!("rules.path: cannot {error}")))?;
    Ok((library, own))
}

/// Rules of the library and of the user's folder. Files with mistakes are reported and left out; the others run.
pub fn load_rules(config: &Config) -> Result<rules::Loaded, Fault> {
    let (library, mut own) = rule_files(config)?;
    // An unchanged copy of a shipped rule is that rule, not a second one of its name.
    own.retain(|source| !library.iter().any(|shipped| shipped.text == source.text));
    let sources: Vec<_> = library.into_iter().chain(own).collect();
    Ok(rules::load(&sources, &config.for_rules()))
}

/// Schemas and objectives of the configuration.
pub fn load_evaluators(config: &Config) -> Result<Evaluators, Fault> {
    let mut sources = Vec::new();
    for (name, schema) in &config.schemas {
        let (text, folder) = schema.schema.as_ref().map(|text| schemas::read(name, text)).transpose()?.unzip();
        let (applies, environments) = filter(&schema.applies)?;
        sources.push(SchemaSource { name: name.clone(), text, folder, applies, environments, accept_fenced: schema.accept_fenced });
    }
    let mut objectives = Vec::new();
    for objective in config.objectives.values() {
        let (applies, environments) = filter(&objective.applies)?;
        objectives.push(Objective { applies, environments, latency_ms: objective.latency.as_millis() as u64 });
    }
    Evaluators::new(sources, objectives).map_err(|error| Fault::plain(format!("cannot {error}")))
}

/// The watch plan of these rules and of the judges under this configuration.
pub fn plan(config: &Config, rules: &rules::RuleSet) -> Result<Plan, Fault> {
    Ok(Plan::new(windows(config), config.false_alarms, rules.specs()).judged_by(judging::ready::sampled(config)?))
}

fn windows(config: &Config) -> Windows {
    Windows {
        slice: span(config.windows.slice),
        lateness: span(config.windows.lateness),
        series_max: u32::try_from(config.windows.series_max).unwrap_or(u32::MAX),
    }
}

fn span(duration: Duration) -> Span {
    Span::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn filter(applies: &BTreeMap<String, String>) -> Result<(Filter, Vec<String>), Fault> {
    let (mut filter, mut environments) = (Vec::new(), Vec::new());
    for (name, value) in applies {
        if name == "environment" {
            environments.push(value.clone());
        } else if name == "violation" {
            let hint = "take it out of `applies`: which schema a call violates is known when its schema is";
            return Err(Fault::new("cannot choose schemas and objectives by `violation`", hint));
        } else {
            let key = Key::parse(name).ok_or_else(|| Fault::plain(format!("cannot filter by `{name}`")))?;
            filter.push((key, vec![value.clone()]));
        }
    }
    filter.sort();
    Ok((Filter(filter), environments))
}

/// Starts an engine.
///
/// # Errors
/// Whatever keeps it from starting, with the way out. Mistakes in single rule files do not.
pub async fn start(config: &Config, feed: Feed, options: Options) -> Result<Running, Fault> {
    let (library, own) = rule_files(config)?;
    let evaluators = load_evaluators(config)?;
    let judges = judging::ready::ready(config).map_err(judging::ready::together)?;
    let listener = http::bind(config.http.listen).await?;
    let address = listener.local_addr().map_err(|error| Fault::plain(format!("the listener has no address: {error}")))?;
    let public_url = config.http.public_url.replace(":0", &format!(":{}", address.port()));
    let access = Arc::new(http::Access::new(&config.access, address, &public_url)?);
    let store = Store::open(config.store.path.clone())?;
    let started = now();
    let known_rules = store.ask(|db| db.rules()).await?;
    let chosen = choose(&library, &own, &config.for_rules(), &known_rules, started);
    for problem in &chosen.problems {
        error!("{problem}");
        if chosen.live.contains_key(&problem.path.display().to_string()) {
            warn!(file = %problem.path.display(), "its last good version goes on");
        }
    }
    let plan =
        Plan::new(windows(config), config.false_alarms, chosen.rules.specs()).judged_by(judges.iter().map(|ready| ready.sampled.clone()).collect());
    info!(rules = plan.rules.len(), problems = chosen.problems.len(), "rules loaded");
    let standing = Arc::new(Standing::default());
    standing.set(&chosen, &library, started);

    let refusals = Refusals::default();
    let connection = match feed {
        Feed::Nats => Some(nats::connect_with(&config.nats, |options| refusals.heard(options)).await?),
        Feed::Local(_) => None,
    };
    let delivery = connection.as_ref().map(|_| config.nats.delivery);
    let known = store.ask(|db| db.meta("stream_created")).await?;
    let saved = store.ask(|db| db.saved()).await?;
    let mut first_effects = Vec::new();
    let (mut machine, mut journal, adopted) = restore(&store, saved, plan.clone(), &mut first_effects).await?;
    let known_made = known.as_deref().unwrap_or("earlier");
    let mut stream = match &connection {
        Some(client) if delivery == Some(Delivery::JetStream) => Some(match nats::open(client, &config.nats).await? {
            Some(stream) => stream,
            None if machine.position() > 0 && !options.accept_new_stream => {
                return Err(nats::lost(&config.nats.stream, known_made, machine.position()));
            }
            None => nats::make(client, &config.nats).await?,
        }),
        _ => None,
    };
    let identity = match &mut stream {
        Some(stream) => Some(nats::identity(stream).await?),
        None => None,
    };
    let mut new_stream = None;
    if let Some(identity) = &identity {
        let position = machine.position();
        let is_other = !identity.may_be(known.as_deref(), position);
        if is_other {
            if !options.accept_new_stream {
                return Err(nats::another(&config.nats.stream, identity, known_made, position));
            }
            warn!(stream = %config.nats.stream, from = identity.first_sequence, "going on with another stream, as told");
        }
        if is_other || known.as_ref() != Some(&identity.created.to_string()) {
            if is_other || position == 0 {
                machine.rebase(identity.first_sequence.saturating_sub(1));
                journal.clear();
            }
            new_stream = Some(identity.created);
        }
    }
    // Without a stream numbers are ours: one set of calls after another.
    let source_id = match (&identity, delivery) {
        (Some(identity), _) => format!("{}@{}", config.nats.stream, identity.created),
        (None, Some(_)) => format!("core {}", config.nats.subjects.join(" ")),
        (None, None) => String::new(),
    };
    let folder = config.store.path.join("index");
    let writer = indexing::open(&folder, &source_id)?;
    if delivery == Some(Delivery::Core) {
        // What came after the snapshot cannot be read again; what is journaled of it or can be found has happened all the same, behind these numbers.
        let journaled = journal.iter().map(|(position, _)| *position).max().unwrap_or(0);
        machine.rebase(machine.position().max(journaled).max(writer.reader().position()));
        warn!(subjects = %config.nats.subjects.join(", "), "{}", core::LOSES);
    }
    let position = machine.position();
    let slack = Slack::new(&config.slack)?;
    let slack_said = match (&slack, options.terminal) {
        (Some(_), _) => format!("posting to {}", config.slack.channel),
        (None, true) => "shown on the terminal".to_owned(),
        (None, false) => format!("off ({} is not set)", config.slack.bot_token),
    };
    let people = [slack.is_some().then_some("slack"), options.terminal.then_some("terminal")].into_iter().flatten().collect();
    let environments = config.environments.iter().map(|(name, own)| (name.clone(), (own.channel.clone(), own.notify))).collect();
    let subscriptions = Subscriptions::open(store.clone()).await?;
    let routes =
        Routes { people, channel: config.slack.channel.clone(), environments, nats: connection.is_some(), subscriptions: subscriptions.clone() };
    let heard = Arc::new(Notify::new());
    let source_said = match &identity {
        Some(_) => format!("stream {} at {}", config.nats.stream, config.nats.url),
        None if delivery.is_some() => format!("{} at {} ({})", config.nats.subjects.join(", "), config.nats.url, core::LOSES),
        None => "calls made in this process".to_owned(),
    };
    info!(source = %source_said, position, slack = %slack_said, "starting");

    let (stop, stopped) = watch::channel(false);
    let (stop_edges, edges_stopped) = watch::channel(false);
    let (stop_outbox, outbox_stopped) = watch::channel(false);
    let (send_batches, batches) = mpsc::channel(READ_AHEAD);
    let (reader, questions) = reader();
    let (pulse, deliveries, wake, readiness) =
        (Arc::new(Pulse::default()), Arc::new(Deliveries::default()), Arc::new(Notify::new()), Arc::new(Readiness::default()));
    pulse.committed.store(position, Ordering::Relaxed);
    pulse.position.store(position, Ordering::Relaxed);
    let (asking, asked) = reload::asking();
    let prices = Prices::new(&config.prices);
    let watching = Watching {
        path: config.rules.path.clone(),
        library,
        configured: config.for_rules(),
        windows: windows(config),
        false_alarms: config.false_alarms,
        evaluators: evaluators.clone(),
        prices: prices.clone(),
        judges: plan.judges.clone(),
        reader: reader.clone(),
        standing: standing.clone(),
        started,
        live: chosen.live.clone(),
        running: plan.rules.iter().map(|rule| (rule.name.clone(), rule.fingerprint)).collect(),
        problems: chosen.problems,
        settling: Settling::new(own),
    };
    let mut subscribed = match delivery {
        Some(Delivery::Core) => Some(core::subscribe(&config.nats, position).await?),
        _ => None,
    };
    let payloads = match (&feed, &stream) {
        (Feed::Local(local), _) => Payloads::Local(local.ring()),
        (Feed::Nats, None) => Payloads::Local(subscribed.as_ref().expect("subscribed above").2.clone()),
        (Feed::Nats, stream) => Payloads::Stream(Arc::new(stream.clone().expect("opened above"))),
    };
    let filter = match &stream {
        Some(stream) => {
            let carried = &stream.cached_info().config.subjects;
            let all_ours = carried.iter().all(|subject| config.nats.subjects.iter().any(|ours| nats::covers(ours, subject)));
            if all_ours { Vec::new() } else { config.nats.subjects.clone() }
        }
        None => Vec::new(),
    };
    let inspector = Arc::new(Inspector::new(plan, chosen.rules, evaluators).priced_by(prices.clone()));
    let refill = match (&payloads, &connection) {
        (Payloads::Stream(stream), Some(client)) => Refill::Stream { client: client.clone(), stream: stream.clone(), filter: filter.clone() },
        (Payloads::Local(ring), _) => Refill::Ring(ring.clone()),
        (Payloads::Stream(_), None) => unreachable!("a stream is read over a connection"),
    };
    let keep = Keep { age: span(config.index.retention), bytes: config.index.max_size.bytes() };
    let (indexer, tee, indexed) = indexing::indexer(folder, writer, refill, inspector.clone(), pulse.clone(), keep);
    let calls = Calls::new(indexed, payloads.clone(), store.clone(), &config.redact)?;
    let runtime = tokio::runtime::Handle::current();
    let indexing = tokio::task::spawn_blocking(move || indexer.run(&runtime));
    let datasets = Arc::new(Datasets::default());
    let (keep, keeper) = connection.clone().map(|client| keeping::keeper(client, source_id.clone(), calls.redaction(), datasets.clone())).unzip();
    let (judging, desk, board) = open_desk(judges, &store, payloads, connection.clone()).await?;
    let daemon = Daemon {
        machine,
        inspector,
        store: store.clone(),
        routes: routes.clone(),
        journal,
        new_stream,
        journaled: store.ask(|db| db.journaled()).await?,
        dead: connection.clone().map(|client| match delivery {
            Some(Delivery::Core) => DeadLetters::passing(client),
            _ => DeadLetters::new(client, source_id),
        }),
        retention: span(config.store.retention),
        store_max: config.store.max_size.bytes(),
        wake: wake.clone(),
        heard: heard.clone(),
        pulse: pulse.clone(),
        follows_time: connection.is_some(),
        crash: options.crash,
        deliveries: deliveries.clone(),
        first_effects,
        unsaved_rules: (chosen.live != known_rules).then_some(chosen.live),
        adopted,
        catching_up_to: identity.as_ref().map_or(0, |identity| identity.last_sequence),
        tee: Some(tee),
        keep,
        judging,
        to_ask: VecDeque::new(),
        said_from: Instant::now(),
        suspensions: Suspensions::default(),
    };
    let reading = match feed {
        Feed::Local(local) => {
            readiness.source.store(true, Ordering::Relaxed);
            tokio::spawn(read_local(local, send_batches))
        }
        Feed::Nats if subscribed.is_some() => {
            let (taking, taken, _) = subscribed.take().expect("looked at above");
            readiness.source.store(true, Ordering::Relaxed);
            tokio::spawn(taking.run(readiness.clone()));
            tokio::spawn(read_core(taken, send_batches))
        }
        Feed::Nats => {
            let stream = stream.expect("opened above");
            let identity = identity.expect("asked for above");
            let (client, created) = (connection.clone().expect("connected above"), identity.created);
            let reading = Reading { client, stream, name: config.nats.stream.clone(), created, filter, position };
            tokio::spawn(reading.run(identity.last_sequence <= position, send_batches, readiness.clone()))
        }
    };
    let slack_token = slack.as_ref().map(|slack| slack.token().clone());
    if let Some(slack) = slack.clone() {
        let stopped = edges_stopped.clone();
        tokio::spawn(async move { slack.watch_token(stopped).await });
    }
    let finder = Finder { reader: reader.clone(), store: store.clone(), calls: calls.clone() };
    let settings = Settings {
        interval: span(config.incidents.interval),
        reopen: span(config.incidents.reopen),
        settle: span(config.incidents.settle),
        ..Settings::default()
    };
    let others = Arc::new(OtherWays::new(config, &public_url)?);
    let around = Around { settings, routes: routes.clone(), others: others.clone(), finder, heard, wake: wake.clone() };
    let (incidents, incident_keeper) = incidents::keeper(store.clone(), around).await?;
    let publisher = connection.map(|client| Publisher::new(client, refusals));
    let actions = Actions::new(incidents.clone(), store.clone(), publisher.clone(), others.clone());
    let links = public_url.clone();
    let ways = Ways {
        slack,
        nats: publisher,
        terminal: options.terminal,
        public_url,
        others,
        fallback: Fallback::new(&config.slack),
        crash_after_post: options.crash == Some(Crash::AfterPost),
    };
    let outbox = Outbox::new(store.clone(), ways, wake, deliveries.clone());
    let socket = Arc::new(watch::Sender::new(hearing::Standing::default()));
    let app = App {
        reader: reader.clone(),
        store: store.clone(),
        pulse: pulse.clone(),
        deliveries,
        readiness,
        rules: standing,
        reload: asking,
        source: source_said,
        delivery,
        slack: slack_said,
        slack_token,
        judges: board,
        prices,
        datasets,
        calls,
        incidents: incidents.clone(),
        actions,
        access,
        hearing: socket.subscribe(),
    };
    let around = hearing::Around { app: app.clone(), incidents, subscriptions, routes, public_url: links };
    let slacks_own = hearing::hear(&config.slack, around, socket, edges_stopped.clone())?;
    tokio::spawn(watching.run(asked, edges_stopped.clone()));
    Ok(Running {
        address,
        reader,
        store,
        pulse,
        daemon: tokio::spawn(daemon.run(batches, questions, stopped)),
        outbox: tokio::spawn(outbox.run(outbox_stopped, DELIVERY_GRACE)),
        incidents: tokio::spawn(incident_keeper.run(edges_stopped.clone())),
        listener: tokio::spawn(http::serve(listener, app, slacks_own, edges_stopped)),
        indexing,
        keeping: keeper.map(|keeper| tokio::spawn(keeper.run())),
        desk: desk.map(|desk| tokio::spawn(desk.run())),
        reading,
        stop,
        stop_edges,
        stop_outbox,
    })
}

/// The judges' desk with the daemon's end of it, and what it shows; nothing of it without judges.
async fn open_desk(
    judges: Vec<Ready>,
    store: &Store,
    payloads: Payloads,
    connection: Option<async_nats::Client>,
) -> Result<(Option<Judging>, Option<Desk>, Arc<Board>), Fault> {
    if judges.is_empty() {
        return Ok((None, None, Arc::default()));
    }
    info!(judges = judges.len(), "judges read");
    let (judging, asked) = judging::ends();
    let (desk, board) = Desk::new(judges, store.clone(), payloads, connection, asked).await?;
    Ok((Some(judging), Some(desk), board))
}

/// The machine to go on with, what it has to repeat, and whether its snapshot was under another plan.
async fn restore(
    store: &Store,
    saved: Option<crate::store::Saved>,
    plan: Plan,
    effects: &mut Vec<Effect>,
) -> Result<(Machine, Journal, bool), Fault> {
    let Some(saved) = saved else { return Ok((Machine::new(plan, 0), Journal::new(), false)) };
    let start = Start::decode(&saved.body).map_err(|error| {
        Fault::new(format!("the snapshot in the store cannot be used: {error}"), "move the store's folder away to start anew from the stream")
    })?;
    let mut blocks = Vec::new();
    for (environment, from, to) in start.needs(&plan) {
        blocks.extend(store.ask(move |db| db.blocks(&environment, from, to)).await?);
    }
    debug_assert_eq!(start.position(), saved.position);
    let adopted = *start.plan() != plan;
    let is_in = |plan: &Plan, rule: &Rule| plan.rules.iter().any(|known| known.name == rule.name && known.fingerprint == rule.fingerprint);
    let gone: BTreeSet<String> = start.plan().rules.iter().filter(|rule| !is_in(&plan, rule)).map(|rule| rule.name.clone()).collect();
    let machine = start.finish(plan, blocks, effects);
    if !gone.is_empty() {
        end_what_is_gone(store, &machine, &gone, effects).await?;
    }
    Ok((machine, saved.journal.into(), adopted))
}

/// Ends the alerts of rules that have changed while the engine was down. A kill may have come after people were told and before a snapshot; repeating
/// the stream under the new rules would never come past such an alert again, and nobody would hear of its end.
async fn end_what_is_gone(store: &Store, machine: &Machine, gone: &BTreeSet<String>, effects: &mut Vec<Effect>) -> Result<(), Fault> {
    let told: BTreeSet<String> =
        effects.iter().filter_map(|effect| if let Effect::Notify(told) = effect { Some(told.id.clone()) } else { None }).collect();
    let ticks: BTreeMap<_, _> = machine.looked().collect();
    for last in store.ask(|db| db.firing()).await?.into_iter().filter(|last| gone.contains(&last.rule)) {
        let at = ticks.get(last.environment.as_str()).map_or(last.at, |tick| last.at.max(*tick));
        let ended = last.ended(machine::Reason::RuleChanged, at);
        if !told.contains(&ended.id) {
            effects.push(Effect::Notify(ended));
        }
    }
    Ok(())
}

async fn read_local(mut local: Local, batches: mpsc::Sender<Batch>) -> Result<(), Fault> {
    while let Some(batch) = local.next().await {
        if batches.send(batch).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn read_core(mut taken: core::Taken, batches: mpsc::Sender<Batch>) -> Result<(), Fault> {
    // Whatever there is to read again is none: elapsed time may move the clocks at once.
    let mut next = Some(Batch { envelopes: Vec::new(), pending: 0, took: Duration::ZERO });
    while let Some(batch) = next {
        if batches.send(batch).await.is_err() {
            break;
        }
        next = taken.next().await;
    }
    Ok(())
}

/// The stream being read, and how to recognise it.
struct Reading {
    client: async_nats::Client,
    stream: async_nats::jetstream::stream::Stream,
    name: String,
    created: Timestamp,
    filter: Vec<String>,
    /// The last sequence read.
    position: u64,
}

impl Reading {
    /// # Errors
    /// When the stream is another one than the one that was started with: whatever it holds, nothing of it may be skipped in silence.
    async fn run(mut self, caught_up: bool, batches: mpsc::Sender<Batch>, readiness: Arc<Readiness>) -> Result<(), Fault> {
        if caught_up && batches.send(Batch { envelopes: Vec::new(), pending: 0, took: Duration::ZERO }).await.is_err() {
            return Ok(());
        }
        loop {
            let fault = match nats::Reader::start(self.client.clone(), &self.stream, self.filter.clone(), self.position).await {
                Err(fault) => fault,
                Ok(mut reader) => {
                    readiness.source.store(true, Ordering::Relaxed);
                    loop {
                        match reader.next().await {
                            Err(fault) => break fault,
                            Ok(None) => {
                                if let Err(fault) = self.look().await? {
                                    break fault;
                                }
                            }
                            Ok(Some(batch)) => {
                                self.position = batch.envelopes.last().map_or(self.position, |last| last.sequence);
                                if batches.send(batch).await.is_err() {
                                    return Ok(());
                                }
                            }
                        }
                    }
                }
            };
            readiness.source.store(false, Ordering::Relaxed);
            warn!(problem = %fault.what(), "reading the stream again from sequence {}", self.position + 1);
            tokio::time::sleep(READ_AGAIN).await;
            while let Err(fault) = self.look().await? {
                warn!(problem = %fault.what(), "the stream cannot be read; trying again");
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
    }

    /// Whether the stream can be reached, which may pass; the outer error is that it is another one, which does not.
    async fn look(&mut self) -> Result<Result<(), Fault>, Fault> {
        match nats::identity(&mut self.stream).await {
            Err(fault) => Ok(Err(fault)),
            Ok(now) if now.created == self.created && now.last_sequence >= self.position => Ok(Ok(())),
            Ok(now) => Err(nats::another(&self.name, &now, &self.created.to_string(), self.position)),
        }
    }
}

impl Running {
    /// Delivers what is due, and closes the edges.
    async fn close(self) -> Result<(), Fault> {
        let _ = self.stop_edges.send(true);
        // It ends with the daemon; what it still asks then is asked again after the next start.
        if let Some(desk) = self.desk {
            desk.await.map_err(|error| Fault::plain(format!("the judges' desk ended unexpectedly: {error}")))?;
        }
        // It hears of the last alerts before the outbox is told that nothing more comes.
        self.incidents.await.map_err(|error| Fault::plain(format!("the keeper of incidents ended unexpectedly: {error}")))??;
        let _ = self.stop_outbox.send(true);
        self.outbox.await.map_err(|error| Fault::plain(format!("the outbox ended unexpectedly: {error}")))??;
        // It ends with the daemon, too.
        self.indexing.await.map_err(|error| Fault::plain(format!("the indexer ended unexpectedly: {error}")))?;
        // What a server that is away does not take now is kept again after the next start, as far as no snapshot has passed it.
        if let Some(keeping) = self.keeping {
            let _ = tokio::time::timeout(DELIVERY_GRACE, keeping).await;
        }
        // A client that keeps its connection open must not keep the process.
        match tokio::time::timeout(Duration::from_secs(2), self.listener).await {
            Ok(ended) => ended.map_err(|error| Fault::plain(format!("the listener ended unexpectedly: {error}")))?,
            Err(_) => Ok(()),
        }
    }

    /// Runs until `signal`, the end of the source or a fault, then drains and closes.
    pub async fn until(mut self, signal: impl Future<Output = ()>) -> Result<(), Fault> {
        let ended = tokio::select! {
            ended = &mut self.daemon => ended,
            // Without it the engine would go on counting and tell nobody.
            ended = &mut self.outbox => {
                let ended = ended.map_err(|error| Fault::plain(format!("the outbox ended unexpectedly: {error}")))?;
                return ended.and_then(|()| Err(Fault::plain("the outbox ended before the engine")));
            }
            ended = &mut self.incidents => {
                let ended = ended.map_err(|error| Fault::plain(format!("the keeper of incidents ended unexpectedly: {error}")))?;
                return ended.and_then(|()| Err(Fault::plain("the keeper of incidents ended before the engine")));
            }
            () = signal => {
                info!("stopping");
                let _ = self.stop.send(true);
                (&mut self.daemon).await
            }
        };
        // A source that ended may have a reason; one that goes on is not needed any more.
        let read = if self.reading.is_finished() { (&mut self.reading).await } else { Ok(Ok(())) };
        self.reading.abort();
        let ended = ended.map_err(|error| Fault::plain(format!("the engine ended unexpectedly: {error}")))?;
        let closed = self.close().await;
        ended?;
        read.map_err(|error| Fault::plain(format!("reading ended unexpectedly: {error}")))??;
        closed
    }
}
