//! `streamgauge evaluate`: which model, prompt or release does better on the calls of a file, by the same judges, schemas and code evaluators as beside
//! the stream. Nothing is counted in the engine, and no engine is needed.
//!
//! In [`crate::evaluation`] is what it comes to; here are the questions that it can be asked, and asking.

use super::pricing::{Money, progress, tell, usd};
use super::{Outcome, judge, say};
use crate::config::Config;
use crate::error::Fault;
use crate::evaluation::code::Code;
use crate::evaluation::sample::{self, Sampled};
use crate::evaluation::table::{Column, Said, Table};
use crate::judging::batch::{Batch, costs};
use crate::judging::calibrated;
use crate::judging::ready::{Ready, ready, together};
use crate::start::load_evaluators;
use model::nearest::nearest;
use model::signal::{Signal, signals};
use model::{Key, show};
use std::borrow::Cow;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Evaluate {
    /// Calls: JSON lines, plain, .gz or .zst, each a call log.
    file: PathBuf,
    /// A judge of the configuration to ask about the calls that it is for; repeatable.
    #[arg(long = "judge", value_name = "NAME")]
    judges: Vec<String>,
    /// A code evaluator, as code:NAME; repeatable. By default all that the configuration has.
    #[arg(long = "evaluator", value_name = "code:NAME")]
    evaluators: Vec<String>,
    /// What to set side by side: model, prompt, prompt_version, or any key of the call log.
    #[arg(long, value_name = "KEY", default_value = "model")]
    by: String,
    /// Look at this many calls, drawn evenly from the file.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// What decides which calls are drawn; the same seed draws the same calls.
    #[arg(long, value_name = "S", default_value_t = 1, requires = "sample")]
    seed: u64,
    #[command(flatten)]
    money: Money,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn evaluate(args: Evaluate, config: &Config) -> Result<Outcome, Fault> {
    let by = key(&args.by)?;
    let all = ready(config).map_err(together)?;
    let mut judges: Vec<&Ready> = Vec::new();
    for name in &args.judges {
        let found = judge::named(&all, name)?;
        if !judges.iter().any(|known| known.name() == name) {
            judges.push(found);
        }
    }
    let code = Code::load(config, &args.evaluators)?;
    let evaluators = load_evaluators(config)?;
    if judges.is_empty() && code.names().is_empty() && config.schemas.is_empty() {
        let known: Vec<_> = all.iter().map(Ready::name).collect();
        let hint = format!("name a judge with --judge, or a code evaluator with --evaluator; judges: {}", known.join(", "));
        return Err(Fault::new("there is nothing to evaluate with", hint));
    }
    let limit = args.money.limit()?;
    let read = sample::read(&args.file, args.sample, args.seed)?;
    if read.malformed > 0 {
        tell(&format!("note: {} of {} lines are no calls and are left out", show::number(read.malformed as f64), show::number(read.lines as f64)));
    }
    if matches!(by, Key::Property(_)) && read.calls.iter().all(|item| by.label(&item.call()).is_empty()) {
        let near = nearest(&args.by, Key::known())
            .map_or_else(|| "name a key of the call log, or a property".to_owned(), |near| format!("did you mean `{near}`?"));
        return Err(Fault::new(format!("no call has `{}` to compare by", args.by), near));
    }
    let mut table = Table::new(&by, &read);
    let schemas = (!config.schemas.is_empty()).then(|| table.column(Column::free("schema")));
    let columns: Vec<_> = code.names().iter().map(|name| table.column(Column::free(&format!("code:{name}")))).collect();
    for item in &read.calls {
        let mut call = item.call();
        let mut findings = evaluators.find(&call);
        call.violation = findings.violation.take().map(Cow::Owned);
        let row = table.row(&by.label(&call));
        table.called(&row);
        if let Some(column) = schemas {
            let (applies, violated) = signals(&call, &findings).get(Signal::SchemaInvalid);
            table.add(&row, column, if applies { Said::of(!violated) } else { Said::NotFor }, 0);
        }
        for (column, said) in columns.iter().zip(code.of(&call)) {
            table.add(&row, *column, said, 0);
        }
    }
    ask(&args, config, &judges, &by, &read.calls, limit, &mut table).await?;
    if args.json {
        say(table.json());
    } else {
        table.text().iter().for_each(say);
    }
    Ok(Outcome::Well)
}

/// Asks the judges one after the other, so that one limit holds for all of them.
async fn ask(
    args: &Evaluate,
    config: &Config,
    judges: &[&Ready],
    by: &Key,
    calls: &[Sampled],
    limit: Option<u64>,
    table: &mut Table,
) -> Result<(), Fault> {
    let for_each = |ready: &Ready| -> Vec<Sampled> {
        let mine = |item: &&Sampled| {
            let call = item.call();
            ready.sampled.applies.lets_through(&call) && ready.sampled.can_judge(&call)
        };
        calls.iter().filter(mine).cloned().collect()
    };
    let asked: Vec<(&Ready, Vec<Sampled>)> = judges.iter().map(|ready| (*ready, for_each(ready))).collect();
    let priced: Vec<_> = asked.iter().map(|(ready, items)| (*ready, costs(ready, items, Sampled::call))).collect();
    if !priced.is_empty() {
        args.money.consent(&priced)?;
    }
    let calibrations = if asked.is_empty() { Vec::new() } else { judge::calibrations(config)? };
    let mut spent = 0;
    for (ready, items) in &asked {
        let known = calibrated::of(&calibrations, ready.name(), ready.sampled.fingerprint).cloned();
        let column = table.column(Column::judge(ready.name(), calibrated::trust(&calibrations, ready.name(), ready.sampled.fingerprint), known));
        let batch = Batch::new(ready, &config.store.path, limit.map(|limit| limit.saturating_sub(spent)))?;
        let bar = progress(items.len());
        let answers = batch
            .all(items, Sampled::call, |money| {
                bar.inc(1);
                bar.set_message(format!("{}, {:.4} US dollars", ready.name(), usd(money)));
            })
            .await;
        bar.finish_and_clear();
        for (item, answer) in items.iter().zip(answers?) {
            let row = table.row(&by.label(&item.call()));
            table.add(&row, column, Said::by(answer.outcome), answer.cost_nano_usd);
        }
        spent += batch.spent();
    }
    Ok(())
}

fn key(by: &str) -> Result<Key, Fault> {
    Key::parse(by)
        .filter(|key| *key != Key::Judge)
        .ok_or_else(|| Fault::new(format!("cannot compare by `{by}`"), "name a key of the call log, or a property, such as model or release"))
}
