//! `streamgauge judge`: the judges of the configuration, and one of them tried on one call. Trying counts nowhere; it costs what it says. Calibrating is
//! `calibrate.rs`.

use super::calibrate::{self, Calibrate};
use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::foreign::printable;
use crate::http::judges::Listed;
use crate::judging::calibrated::{Calibrated, trust};
use crate::judging::client::Client;
use crate::judging::ready::{Ready, cost_max, ready, together};
use crate::judging::round::Round;
use crate::judging::secret::Secret;
use crate::source::nats;
use crate::source::payload::Payloads;
use crate::store::ByHand;
use model::show;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Judge {
    /// List the judges: whom each asks about which calls, and how the running engine's are doing.
    List {
        /// The answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask a judge about one call, and show what it says. Nothing is counted.
    Try(Try),
    /// Ask a judge about calls that people labelled, and say how far it is to be believed. From then on its rates are shown corrected, too.
    Calibrate(Calibrate),
}

#[derive(Debug, clap::Args)]
pub(super) struct Try {
    /// The judge's name in the configuration.
    name: String,
    /// A file with one log.
    #[arg(long, value_name = "FILE", required_unless_present = "sequence", conflicts_with = "sequence")]
    file: Option<PathBuf>,
    /// A call's sequence in the stream.
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    /// Show the request, and ask nobody.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn judge(judge: Judge, config: &Config) -> Result<Outcome, Fault> {
    match judge {
        Judge::List { json } => list(json, config).await,
        Judge::Try(args) => attempt(args, config).await,
        Judge::Calibrate(args) => calibrate::calibrate(args, config).await,
    }
}

async fn list(as_json: bool, config: &Config) -> Result<Outcome, Fault> {
    let judges = ready(config).map_err(together)?;
    // What the files say is worth showing when no engine runs.
    let running: Vec<Listed> = asking::get(config, "/api/v1/judges").await.unwrap_or_default();
    let calibrations = calibrations(config)?;
    let trusted = |ready: &Ready| {
        let listed = running.iter().find(|listed| listed.shown.judge == ready.name());
        listed.map_or_else(|| trust(&calibrations, ready.name(), ready.sampled.fingerprint), |listed| listed.calibration.clone())
    };
    if as_json {
        let one = |ready: &Ready| {
            let models: Vec<_> = ready.models.iter().map(|model| &model.name).collect();
            let running = running.iter().find(|listed| listed.shown.judge == ready.name());
            json!({ "judge": ready.name(), "description": ready.judge.description(), "models": models, "endpoint": ready.config.endpoint,
                "applies": ready.sampled.applies.to_string(), "fingerprint": format!("{:016x}", ready.sampled.fingerprint),
                "calibration": trusted(ready), "running": running })
        };
        say(serde_json::Value::from(judges.iter().map(one).collect::<Vec<_>>()));
        return Ok(Outcome::Well);
    }
    if judges.is_empty() {
        let shipped: Vec<_> = evaluators::judge::shipped().collect();
        say(format!("no judges; [judges.NAME] in the configuration makes one, such as those that come with streamgauge: {}", shipped.join(", ")));
    }
    for ready in &judges {
        let models: Vec<_> = ready.models.iter().map(|model| model.name.as_str()).collect();
        let applies = ready.sampled.applies.to_string();
        let whom = if applies.is_empty() { "all answered calls".to_owned() } else { applies };
        say(format!("{}  {} at {}, {whom}", ready.name(), models.join(", "), ready.config.endpoint));
        say(format!("  {}", ready.judge.description()));
        say(format!("  {}", trusted(ready)));
        match running.iter().find(|listed| listed.shown.judge == ready.name()) {
            None => say("  no engine runs it"),
            Some(Listed { shown, judged, open, .. }) => {
                let skipped: u64 = judged.skipped.values().sum();
                let count = |count: u64| show::number(count as f64);
                say(format!(
                    "  {}: {} chosen = {} pass + {} fail + {} unreadable + {} errored + {} skipped + {} open",
                    shown.state,
                    count(judged.chosen),
                    count(judged.passed),
                    count(judged.failed),
                    count(judged.unreadable),
                    count(judged.errored),
                    count(skipped),
                    count(*open as u64)
                ));
                let left = shown.left_usd.map_or(String::new(), |left| format!(", {left:.4} left"));
                say(format!("  spent {:.4} US dollars this hour, {:.4} today{left}", shown.spent_hour_usd, shown.spent_day_usd));
            }
        }
    }
    Ok(Outcome::Well)
}

/// The judge of this name.
pub(super) fn named<'r>(judges: &'r [Ready], name: &str) -> Result<&'r Ready, Fault> {
    judges.iter().find(|ready| ready.name() == name).ok_or_else(|| {
        let known: Vec<_> = judges.iter().map(Ready::name).collect();
        Fault::new(format!("there is no judge `{name}`"), format!("known: {}", known.join(", ")))
    })
}

/// What this store knows of judges; nothing where there is none yet.
pub(super) fn calibrations(config: &Config) -> Result<Vec<Calibrated>, Fault> {
    if !config.store.path.join("streamgauge.db").exists() {
        return Ok(Vec::new());
    }
    ByHand::open(&config.store.path)?.calibrations()
}

async fn attempt(args: Try, config: &Config) -> Result<Outcome, Fault> {
    let judges = ready(config).map_err(together)?;
    let ready = named(&judges, &args.name)?;
    let payload = match (&args.file, args.sequence) {
        (Some(file), _) => {
            std::fs::read(file).map_err(|error| Fault::new(format!("cannot read {}: {error}", file.display()), "name a file with one log"))?.into()
        }
        (None, sequence) => from_stream(config, sequence.unwrap_or_default()).await?,
    };
    let call = model::parse(&payload)
        .map_err(|malformed| Fault::new(format!("that is no call: {}", malformed.detail), "a file holds one log, as it is published"))?;
    let nonce = Secret::default().nonce(&call.id);
    let request = ready
        .judge
        .ask(&call, &nonce)
        .map_err(|error| Fault::new(format!("cannot ask about this call: {error}"), "it would be skipped as unsuitable"))?;
    let request = ready.sent(request, &nonce);
    if !ready.sampled.applies.lets_through(&call) {
        say(format!("note: the judge is for calls with {}, which this one has not", ready.sampled.applies));
    }
    if args.dry_run {
        say(format!("--- system\n{}\n--- user\n{}\n---", request.system, printable(&request.user)));
        let most: u64 = ready.round().map(|model| cost_max(model, &request)).sum();
        say(format!("{} requests, at most {} US dollars", ready.round().count(), dollars(most, ready)));
        return Ok(Outcome::Well);
    }
    let client = Client::new(ready.config.api, ready.config.endpoint.clone(), ready.key()?)?;
    let mut round = Round::default();
    for model in ready.round() {
        let began = Instant::now();
        let reply = client.ask(&model.name, &request, ready.config.temperature, ready.config.timeout).await;
        let reply = reply
            .map_err(|failure| Fault::new(format!("{} did not answer: {}", model.name, failure.why), "check the endpoint, the key and the model"))?;
        let cost = model.price.as_ref().zip(reply.tokens).map_or(0, |(price, (input, output))| price.uncached(input, output));
        let tokens = reply.tokens.map_or("tokens not said".to_owned(), |(input, output)| format!("{input} + {output} tokens"));
        say(format!("{} in {:.1} s, {tokens}:\n{}\n", model.name, began.elapsed().as_secs_f64(), printable(&reply.text)));
        round.took(began.elapsed().as_millis() as u64, cost);
        round.replied(&ready.judge, &reply, &nonce);
    }
    let came = round.came(ready.round().count(), None);
    let score = came.score.map_or(String::new(), |score| format!(", score {score:.2}"));
    say(format!("{}{score}: {}", came.outcome.name(), printable(&came.why)));
    say(format!("cost {} US dollars", dollars(round.cost_nano_usd, ready)));
    Ok(Outcome::Well)
}

async fn from_stream(config: &Config, sequence: u64) -> Result<bytes::Bytes, Fault> {
    let client = nats::connect(&config.nats).await?;
    let stream = async_nats::jetstream::new(client).get_stream(&config.nats.stream).await;
    let stream = stream.map_err(|error| Fault::new(format!("cannot read stream {}: {error}", config.nats.stream), "see nats.stream"))?;
    let read = Payloads::Stream(Arc::new(stream)).read(sequence).await;
    let payload = read.map_err(|problem| Fault::plain(format!("cannot read sequence {sequence} of the stream: {problem}")))?;
    payload.ok_or_else(|| {
        Fault::new(format!("the stream holds no sequence {sequence}"), "it may be gone; `streamgauge status` says where the stream is")
    })
}

/// An amount, as far as it is known.
fn dollars(nano_usd: u64, ready: &Ready) -> String {
    match ready.models.iter().find(|model| model.price.is_none()) {
        Some(model) => format!("{:.6} (the price of {} is not known)", nano_usd as f64 / 1e9, model.name),
        None => format!("{:.6}", nano_usd as f64 / 1e9),
    }
}
