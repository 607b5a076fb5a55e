//! `[judges.NAME]`: who is asked about which calls, where, and for how much at most.
//!
//! Not here: reading a judge's folder and its key (`judging/ready.rs`), and what models cost (`prices.rs`).

use super::errors::Fault;
use super::read::{time, url, whole};
use super::section::Section;
use super::tree::Node;
use super::values::Secret;
use model::nearest::nearest;
use model::plan::Filter;
use model::verdict::Sampling;
use model::{Key, Signal};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One `[judges.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeConfig {
    pub from: JudgeFrom,
    pub api: Api,
    /// Without a slash at the end.
    pub endpoint: String,
    /// `None`: the endpoint asks for none.
    pub api_key: Option<Secret>,
    /// All of them are asked about each call; empty: the one that the judge's folder names.
    pub models: Vec<String>,
    /// 0..=2.
    pub temperature: f64,
    /// `None`: as the judge's folder says.
    pub max_output_tokens: Option<u32>,
    /// Field to value, all of them equal, instead of what the judge's folder says.
    pub applies: Option<BTreeMap<String, String>>,
    /// Empty: all.
    pub environments: Vec<String>,
    pub sampling: Sampling,
    /// Of one request.
    pub timeout: Duration,
    /// Further requests after one that failed for a reason that may pass.
    pub retries: u32,
    /// Calls that are being asked about at one time.
    pub concurrency: usize,
    pub spend: SpendConfig,
    /// How often each model is asked about a call; odd.
    pub samples: u32,
    /// What is taken out of a call's texts before they leave: names of patterns, or regular expressions.
    pub redact: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum JudgeFrom {
    /// One that we ship, by name.
    Shipped(String),
    Folder(PathBuf),
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Chat completions, as OpenAI and most others have them.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

/// What a judge may spend, in US dollars; `None`: as much as it takes. An hour and a day are of UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SpendConfig {
    pub hour: Option<f64>,
    pub day: Option<f64>,
}

impl SpendConfig {
    pub fn is_capped(self) -> bool {
        self.hour.is_some() || self.day.is_some()
    }
}

impl Api {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// Where the provider itself is.
    pub fn home(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
        }
    }

    /// Where people who use the provider have its key.
    fn key(self) -> &'static str {
        match self {
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Anthropic => "ANTHROPIC_API_KEY",
        }
    }
}

/// The built-in patterns of `redact`.
pub(crate) const REDACTED: [&str; 3] = ["email", "phone", "card"];

/// Judges of one installation: each has a task's worth of state, and people read their verdicts.
const JUDGES_MAX: usize = 32;
/// More opinions of one call than this say nothing that fewer do not.
const SAMPLES_MAX: usize = 9;
const PANEL_MAX: usize = 9;
const NAME_MAX_BYTES: usize = 64;

/// All judges, by name.
pub(super) fn judges(root: &mut Section<'_>) -> BTreeMap<String, JudgeConfig> {
    let judges = root.each_named("judges", judge);
    if judges.len() > JUDGES_MAX {
        let what = format!("has {} judges; there may be {JUDGES_MAX}", judges.len());
        root.refuse(&[], Fault::new(what, "remove those whose verdicts nobody reads"));
    }
    judges
}

fn judge(name: &str, judge: &mut Section<'_>) -> Option<JudgeConfig> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(good) {
        let hint = format!("small letters, digits, - and _, at most {NAME_MAX_BYTES}: it becomes the signal `judge:NAME` and a NATS subject");
        judge.refuse(&[], Fault::new("is no name for a judge", hint));
    }
    let (shipped, folder) = (judge.read("use", super::read::word), judge.path("folder"));
    let from = match (shipped, folder) {
        (Some(_), Some(_)) => {
            judge.refuse(&["use", "folder"], Fault::new("says twice what it is", "keep `use` for a judge that we ship, or `folder` for your own"));
            None
        }
        (_, Some(folder)) => Some(JudgeFrom::Folder(folder)),
        (shipped, None) => Some(JudgeFrom::Shipped(shipped.unwrap_or_else(|| name.to_owned()))),
    };
    let api = judge.read("api", api).unwrap_or(Api::OpenAi);
    let endpoint = judge.read("endpoint", |node| url(node, &["https", "http"])).unwrap_or_else(|| api.home().to_owned());
    let api_key = judge.secret("api_key").or_else(|| (endpoint == api.home()).then(|| Secret::Env(api.key().to_owned())));
    let (model, panel) = (judge.read("model", text), judge.read("panel", |node| node.list(text)));
    let models = match (model, panel) {
        (Some(_), Some(_)) => {
            let hint = "keep `model` for one model, or `panel` for several that vote";
            judge.refuse(&["model", "panel"], Fault::new("says twice which models it asks", hint));
            Vec::new()
        }
        (model, None) => model.into_iter().collect(),
        (None, Some(panel)) => {
            let twice = panel.iter().enumerate().any(|(at, model)| panel[..at].contains(model));
            if panel.is_empty() || panel.len() > PANEL_MAX || twice {
                let hint = format!("1 to {PANEL_MAX} different models, such as [\"gpt-4.1-mini\", \"gpt-4o-mini\"]");
                judge.refuse(&["panel"], Fault::new("has a `panel` that cannot be", hint));
            }
            panel
        }
    };
    let defaults = Sampling::default();
    let most = Sampling::PER_MINUTE_MAX as usize;
    let small = |node: &Node| whole(node, 0..=most).map(|number| number as u32);
    let sampling = Sampling {
        rate: judge.read("rate", |node| number(node, 0.0, 1.0)).unwrap_or(defaults.rate),
        per_minute: judge.read("per_minute", |node| whole(node, 1..=most).map(|number| number as u32)).unwrap_or(defaults.per_minute),
        by: judge.read("by", |node| node.list(key)).unwrap_or(defaults.by),
        group_min: judge.read("group_min", small).unwrap_or(defaults.group_min),
        group_max: judge.read("group_max", small).unwrap_or(defaults.group_max),
        always: judge.read("always", |node| node.list(signal)).unwrap_or_default(),
        always_where: judge.read("always_where", always_where).unwrap_or_default(),
    };
    if sampling.group_min > sampling.group_max {
        let what = format!("has a `group_min` of {} above its `group_max` of {}", sampling.group_min, sampling.group_max);
        judge.refuse(&["group_min", "group_max"], Fault::new(what, "lower the one, or raise the other"));
    }
    let applies = judge.read("applies", applies);
    let environments = judge.read("environments", |node| node.list(text)).unwrap_or_default();
    let temperature = judge.read("temperature", |node| number(node, 0.0, 2.0)).unwrap_or(0.0);
    let max_output_tokens = judge.read("max_output_tokens", |node| whole(node, 16..=8192).map(|number| number as u32));
    let timeout = judge.read("timeout", |node| time(node, Duration::from_millis(100)..=Duration::from_secs(600))).unwrap_or(Duration::from_secs(30));
    let retries = judge.read("retries", |node| whole(node, 0..=10)).unwrap_or(2) as u32;
    let concurrency = judge.read("concurrency", |node| whole(node, 1..=64)).unwrap_or(4);
    let spend = judge.section("spend", |spend| SpendConfig { hour: spend.read("hour", dollars), day: spend.read("day", dollars) });
    let samples = judge.read("samples", samples).unwrap_or(1);
    let redact = judge.read("redact", |node| node.list(pattern)).unwrap_or_default();
    Some(JudgeConfig {
        from: from?,
        api,
        endpoint,
        api_key,
        models,
        temperature,
        max_output_tokens,
        applies,
        environments,
        sampling,
        timeout,
        retries,
        concurrency,
        spend,
        samples,
        redact,
    })
}

fn api(node: &Node) -> Result<Api, Fault> {
    let text = node.text()?;
    [Api::OpenAi, Api::Anthropic].into_iter().find(|api| api.name() == text).ok_or_else(|| {
        Fault::new(format!("must be `openai` or `anthropic`, not `{text}`"), "\"openai\" is right for most endpoints; set `endpoint` beside it")
    })
}

fn text(node: &Node) -> Result<String, Fault> {
    match node.text()? {
        "" => Err(Fault::new("must not be empty", "write a name, or remove the key")),
        text => Ok(text.to_owned()),
    }
}

fn number(node: &Node, least: f64, most: f64) -> Result<f64, Fault> {
    let number = node.number()?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(Fault::new(format!("is out of range: {number}"), format!("from {least} to {most}")))
    }
}

/// Up to what nobody would spend by mistake.
fn dollars(node: &Node) -> Result<f64, Fault> {
    number(node, 0.0, 1_000_000.0)
}

fn samples(node: &Node) -> Result<u32, Fault> {
    let samples = whole(node, 1..=SAMPLES_MAX)?;
    if samples % 2 == 1 { Ok(samples as u32) } else { Err(Fault::new(format!("must be odd, so that a majority decides, not {samples}"), "try 3")) }
}

fn key(node: &Node) -> Result<Key, Fault> {
    let name = node.text()?;
    not_misspelt(name)?;
    Key::parse(name).filter(|key| *key != Key::Judge).ok_or_else(|| {
        let known: Vec<_> = Key::known().filter(|known| *known != "judge").collect();
        Fault::new(format!("cannot tell calls apart by `{name}`"), format!("known: {}, and the names of properties", known.join(", ")))
    })
}

/// A name that is almost that of a field would be taken for a property that no call has, and the judge would see nothing.
fn not_misspelt(name: &str) -> Result<(), Fault> {
    if Key::known().any(|known| known == name) || name.starts_with("properties.") || name == "environment" {
        return Ok(());
    }
    nearest(name, Key::known()).map_or(Ok(()), |meant| {
        Err(Fault::new(format!("names no field: `{name}`"), format!("did you mean `{meant}`? a property of that name is `properties.{name}`")))
    })
}

fn signal(node: &Node) -> Result<Signal, Fault> {
    let name = node.text()?;
    Signal::parse(name).ok_or_else(|| {
        let known: Vec<_> = Signal::ALL.into_iter().map(Signal::name).collect();
        let meant = nearest(name, known.iter().copied()).map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
        Fault::new(format!("names a signal that is not built in: `{name}`"), format!("{meant}known: {}", known.join(", ")))
    })
}

fn applies(node: &Node) -> Result<BTreeMap<String, String>, Fault> {
    let applies = node.texts()?;
    applies.keys().try_for_each(|name| not_misspelt(name))?;
    match applies.keys().find(|name| *name == "environment" || *name == "judge") {
        Some(name) => Err(Fault::new(format!("cannot filter by `{name}`"), "name environments with environments = [\"production\"]")),
        None => Ok(applies),
    }
}

fn always_where(node: &Node) -> Result<Filter, Fault> {
    filter(&applies(node)?)
}

/// As the model has it.
pub(crate) fn filter(applies: &BTreeMap<String, String>) -> Result<Filter, Fault> {
    let one = |(name, value): (&String, &String)| {
        let key = Key::parse(name).ok_or_else(|| Fault::new(format!("cannot filter by `{name}`"), "such as { stage = \"extraction\" }"))?;
        Ok((key, vec![value.clone()]))
    };
    let mut filter = applies.iter().map(one).collect::<Result<Vec<_>, Fault>>()?;
    filter.sort();
    Ok(Filter(filter))
}

pub(super) fn pattern(node: &Node) -> Result<String, Fault> {
    let text = text(node)?;
    let word = text.bytes().all(|byte| byte.is_ascii_alphabetic());
    // A misspelt name would be a pattern that matches nothing, and the texts would leave as they are.
    if word && !REDACTED.contains(&text.as_str()) && nearest(&text, REDACTED).is_some() {
        let meant = nearest(&text, REDACTED).unwrap_or_default();
        return Err(Fault::new(
            format!("has no pattern `{text}`"),
            format!("did you mean `{meant}`? known: {}, or a regular expression", REDACTED.join(", ")),
        ));
    }
    if !REDACTED.contains(&text.as_str())
        && let Err(error) = crate::redact::compile(&text)
    {
        let what = format!("has a regular expression that cannot be read: `{text}`: {}", error.to_string().lines().last().unwrap_or_default());
        return Err(Fault::new(what, format!("known: {}, or a regular expression in single quotes", REDACTED.join(", "))));
    }
    Ok(text)
}
