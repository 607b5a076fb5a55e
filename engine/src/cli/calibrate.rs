//! `streamgauge judge calibrate`: a judge beside people's labels. What it finds is kept in the store, under the judge's fingerprint; from then on the
//! judge's rates are shown corrected as well, unless its verdicts are not told from chance.

use super::pricing::{Money, progress, tell, usd};
use super::{Outcome, judge, say};
use crate::config::Config;
use crate::error::Fault;
use crate::judging::batch::{Batch, costs};
use crate::judging::calibrated::{Calibrated, Interval, first_line, refused};
use crate::judging::labels::{self, Labelled};
use crate::judging::ready::{Ready, ready, together};
use crate::outbox::now;
use crate::store::ByHand;
use evaluators::calibration::{Calibration, Estimate, Item, Length, Proportion};
use model::verdict::{Outcome as Verdict, Skip};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Calibrate {
    /// The judge's name in the configuration.
    name: String,
    /// JSON lines (plain, .gz or .zst), each a call log with "label": "pass" or "fail"; by default the judge's own cases.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    money: Money,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

const OWN_CASES: &str = "its own cases";
const OWN_CASES_NOTE: &str =
    "note: these are the judge's own cases, few and written with its prompt; it may do worse on your calls. Label some of yours: --labels FILE";

/// What became of all labelled calls.
#[derive(Debug)]
struct Asked {
    counted: Calibration,
    /// Without a verdict: no answer; not asked for want of money; and without what the prompt needs, as such calls are skipped online.
    errored: u64,
    unasked: u64,
    unsuitable: u64,
    problem: Option<String>,
}

impl Asked {
    /// Whether it says how the judge does on the labelled calls, and not on those that happened to be answered.
    fn whole(&self) -> bool {
        let answered = self.counted.unreadable().of;
        (self.errored + self.unasked) * UNANSWERED_MOST <= answered + self.errored + self.unasked
    }
}

/// Of labelled calls, one in so many may be without an answer: if all of those were errors of the judge, its shares would be off by as much.
const UNANSWERED_MOST: u64 = 10;

pub(super) async fn calibrate(args: Calibrate, config: &Config) -> Result<Outcome, Fault> {
    let judges = ready(config).map_err(together)?;
    let ready = judge::named(&judges, &args.name)?;
    let (labelled, source) = match &args.labels {
        Some(file) => (labels::read(file)?, file.display().to_string()),
        None => (Labelled::of_cases(ready.judge.cases()), OWN_CASES.to_owned()),
    };
    if labelled.is_empty() {
        let hint = "label some calls: --labels FILE, each line a call log with \"label\": \"pass\" or \"fail\"";
        return Err(Fault::new(format!("the judge `{}` has no cases of its own", args.name), hint));
    }
    let other = labelled.iter().filter(|labelled| !ready.sampled.applies.lets_through(&labelled.call())).count();
    if other > 0 {
        tell(&format!("note: {other} of {} labelled calls are not of those that the judge is for: {}", labelled.len(), ready.sampled.applies));
    }
    if args.labels.is_none() {
        tell(OWN_CASES_NOTE);
    }
    args.money.consent(&[(ready, costs(ready, &labelled, Labelled::call))])?;
    let asked = ask(ready, config, &labelled, args.money.limit()?).await?;
    if asked.counted.readable() + asked.counted.unreadable().hits == 0 {
        let why = asked.problem.unwrap_or_else(|| "no call could be asked about".to_owned());
        return Err(Fault::new(format!("the judge `{}` answered about none of the calls: {why}", args.name), "try one: streamgauge judge try"));
    }
    let at = now();
    let calibrated = Calibrated::new(ready.name(), ready.sampled.fingerprint, at, source, &asked.counted);
    let whole = asked.whole();
    if whole {
        ByHand::open(&config.store.path)?.keep(&calibrated)?;
    }
    let refused = refused(&asked.counted);
    if args.json {
        say(as_json(&calibrated, &asked, refused.as_ref().map(first_line), whole));
    } else {
        text(ready, &calibrated, &asked).iter().for_each(say);
        match &refused {
            None => say("its rates will be corrected with that"),
            Some(refused) => say(format!("its rates will not be corrected: {}", first_line(refused))),
        }
        if !whole {
            say("not kept: more than a tenth of the labelled calls have no answer, and which they are may say something of the judge");
        }
    }
    Ok(if refused.is_some() || !whole { Outcome::Unwell } else { Outcome::Well })
}

async fn ask(ready: &Ready, config: &Config, labelled: &[Labelled], limit: Option<u64>) -> Result<Asked, Fault> {
    let batch = Batch::new(ready, &config.store.path, limit)?;
    let bar = progress(labelled.len());
    let answers = batch
        .all(labelled, Labelled::call, |spent| {
            bar.inc(1);
            bar.set_message(format!("{:.4} US dollars", usd(spent)));
        })
        .await;
    bar.finish_and_clear();
    let (mut items, mut errored, mut unasked, mut unsuitable, mut problem) = (Vec::new(), 0, 0, 0, None);
    for (labelled, answer) in labelled.iter().zip(answers?) {
        match answer.outcome {
            Verdict::Errored => errored += 1,
            Verdict::Skipped(Skip::Unsuitable) => unsuitable += 1,
            Verdict::Skipped(_) => unasked += 1,
            Verdict::Pass | Verdict::Fail | Verdict::Unreadable => {
                let length = labelled.call().output.text().map(|text| Length::of(text.chars().count()));
                let verdict = answer.outcome.failed().map(|failed| !failed);
                items.push(Item { length, ..Item::new(labelled.pass, verdict) });
                continue;
            }
        }
        problem = problem.or(Some(answer.why));
    }
    let counted = Calibration { cost_nano_usd: batch.spent(), ..Calibration::of(&items) };
    Ok(Asked { counted, errored, unasked, unsuitable, problem })
}

fn text(ready: &Ready, calibrated: &Calibrated, asked: &Asked) -> Vec<String> {
    let counted = &asked.counted;
    let models: Vec<_> = ready.models.iter().map(|model| model.name.as_str()).collect();
    let (fails, passes) = (counted.sensitivity().of, counted.specificity().of);
    let figure = |estimate: Option<Estimate>| estimate.map_or("unknown".to_owned(), |e| format!("{:.2} ({:.2} to {:.2})", e.value, e.low, e.high));
    let share = |share: Proportion| {
        let estimate = share.estimate().map_or("unknown".to_owned(), |estimate| Interval::from(estimate).percent());
        format!("{estimate}, {} of {}", share.hits, share.of)
    };
    let mut lines = vec![
        format!("{} ({}), labels of {}: {fails} fail and {passes} pass with a readable verdict", ready.name(), models.join(", "), calibrated.labels),
        format!("  agreement      {}", share(counted.agreement())),
        format!("  Cohen's kappa  {}", figure(counted.kappa())),
        format!("  sensitivity    {}: fails that it fails", share(counted.sensitivity())),
        format!("  specificity    {}: passes that it passes", share(counted.specificity())),
        format!("  unreadable     {}", share(counted.unreadable())),
    ];
    if let Some(verbosity) = &counted.verbosity {
        let Estimate { value, low, high } = verbosity.given_label;
        let said = if verbosity.beyond_labels() { "it lets longer answers pass" } else { "it does not favour longer answers provably" };
        lines.push(format!(
            "  verbosity      {value:.2} ({low:.2} to {high:.2}), correlation of passing with length among answers of one label: {said}"
        ));
    } else {
        lines.push("  verbosity      unknown: it takes 20 answers of different lengths".to_owned());
    }
    if let Some(why) = &asked.problem {
        let Asked { errored, unasked, unsuitable, .. } = asked;
        lines.push(format!("  no answer      {errored}, not asked {unasked}, unsuitable {unsuitable}; the first: {why}"));
    }
    let unpriced = if ready.models.iter().any(|model| model.price.is_none()) { ", as far as prices are known" } else { "" };
    lines.push(format!("  cost           {:.6} US dollars{unpriced}", usd(counted.cost_nano_usd)));
    lines.extend(counted.warnings().iter().map(|warning| format!("warning: {warning}")));
    lines.push("all intervals are of 95 %".to_owned());
    lines
}

fn as_json(calibrated: &Calibrated, asked: &Asked, refused: Option<String>, kept: bool) -> Value {
    let counted = &asked.counted;
    let interval = |estimate: Option<Estimate>| estimate.map(Interval::from);
    let share = |share: Proportion| json!({ "hits": share.hits, "of": share.of, "estimate": interval(share.estimate()) });
    let warnings: Vec<_> = counted.warnings().iter().map(ToString::to_string).collect();
    let verbosity = counted.verbosity.as_ref().map(|verbosity| {
        json!({ "items": verbosity.items, "label_ratio": verbosity.label_ratio, "verdict_ratio": verbosity.verdict_ratio,
            "given_label": Interval::from(verbosity.given_label), "beyond_labels": verbosity.beyond_labels() })
    });
    json!({
        "judge": calibrated.judge, "fingerprint": format!("{:016x}", calibrated.fingerprint), "at": calibrated.at, "labels": calibrated.labels,
        "caught": counted.caught, "missed": counted.missed, "cleared": counted.cleared, "accused": counted.accused,
        "agreement": share(counted.agreement()), "kappa": interval(counted.kappa()), "sensitivity": share(counted.sensitivity()),
        "specificity": share(counted.specificity()), "unreadable": share(counted.unreadable()), "verbosity": verbosity,
        "errored": asked.errored, "not_asked": asked.unasked, "unsuitable": asked.unsuitable,
        "cost_usd": usd(counted.cost_nano_usd), "warnings": warnings,
        "corrects": refused.is_none(), "refused": refused, "kept": kept,
    })
}
