//! Judges made ready from the configuration: what each asks is read from its folder, whom it asks and for how much is looked up, and what the machine
//! needs to know of it is made, all before the engine starts. Whatever cannot be is said with the way out.
//!
//! Deliberately absent: asking. Nothing here connects to anything.

use super::spend::Caps;
use crate::config::judges::filter;
use crate::config::{Config, JudgeConfig, JudgeFrom, Sensitive};
use crate::error::Fault;
use crate::prices::{Price, Prices};
use crate::redact::Redaction;
use evaluators::judge::{Folder, Judge, Kind, Request, library, load};
use model::verdict;
use std::collections::BTreeMap;
use std::path::Path;

/// One judge of the configuration.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What the machine knows of it; its name is the configuration's.
    pub sampled: verdict::Judge,
    pub judge: Judge,
    pub models: Vec<Model>,
    pub config: JudgeConfig,
    pub redaction: Redaction,
    pub caps: Caps,
}

/// A model that is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub name: String,
    /// `None`: not known, and no cap depends on it.
    pub price: Option<Price>,
}

/// Tokens of what an endpoint puts around the texts of a request.
const AROUND_TOKENS: u64 = 256;

impl Ready {
    pub fn name(&self) -> &str {
        &self.sampled.name
    }

    /// The models to ask about one call, in order: each as often as there are samples.
    pub fn round(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().flat_map(|model| std::iter::repeat_n(model, self.config.samples as usize))
    }

    /// The request as it is sent: with the configuration's bound of the output, and without what is redacted.
    pub fn sent(&self, request: Request, nonce: &evaluators::judge::Nonce) -> Request {
        let mut request = self.redaction.of(request, nonce);
        request.max_output_tokens = self.config.max_output_tokens.unwrap_or(request.max_output_tokens);
        request
    }

    /// The key of the endpoint; `None`: it needs none.
    ///
    /// # Errors
    /// When one is configured and not there.
    pub fn key(&self) -> Result<Option<Sensitive>, Fault> {
        let Some(secret) = &self.config.api_key else { return Ok(None) };
        let name = self.name();
        match secret.resolve() {
            Ok(Some(key)) => Ok(Some(key)),
            Ok(None) => Err(Fault::new(
                format!("judges.{name}: {secret} is not set"),
                format!("set it, or name where the key is with judges.{name}.api_key; with an `endpoint` of your own it may be left out"),
            )),
            Err(error) => Err(Fault::plain(format!("judges.{name}: cannot {error}"))),
        }
    }
}

/// The most that `request` can cost with `model`, in nano-dollars; 0 where the price is not known.
///
/// A token of every common tokenizer stands for at least a byte, so there are no more of them than bytes.
pub fn cost_max(model: &Model, request: &Request) -> u64 {
    let bytes = request.system.len() + request.user.len() + request.schema.len();
    model.price.as_ref().map_or(0, |price| price.most(bytes as u64 + AROUND_TOKENS, u64::from(request.max_output_tokens)))
}

/// All judges, by name, or everything that is wrong with them.
///
/// Cost: each folder is read, and its cases put into its prompt once: milliseconds.
///
/// # Errors
/// One fault for each thing that is wrong, as far as it can be known without a key.
pub fn ready(config: &Config) -> Result<Vec<Ready>, Vec<Fault>> {
    let (mut judges, mut faults) = (Vec::new(), Vec::new());
    for (name, judge) in &config.judges {
        match one(config, name, judge) {
            Ok(ready) => judges.push(ready),
            Err(wrong) => faults.extend(wrong),
        }
    }
    if faults.is_empty() { Ok(judges) } else { Err(faults) }
}

/// What the machine needs to know of all judges.
///
/// # Errors
/// Everything that is wrong with them, as one.
pub fn sampled(config: &Config) -> Result<Vec<verdict::Judge>, Fault> {
    ready(config).map(|judges| judges.into_iter().map(|ready| ready.sampled).collect()).map_err(together)
}

/// Several faults as one.
pub fn together(faults: Vec<Fault>) -> Fault {
    Fault::plain(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn one(config: &Config, name: &str, own: &JudgeConfig) -> Result<Ready, Vec<Fault>> {
    let at_fault = |what: String, hint: String| Fault::new(format!("judges.{name}: {what}"), hint);
    let folder = match &own.from {
        JudgeFrom::Folder(path) => read_folder(path).map_err(|fault| vec![at_fault(fault.0, fault.1)])?,
        JudgeFrom::Shipped(shipped) => library(std::slice::from_ref(shipped))
            .map_err(|error| {
                vec![at_fault(
                    format!("cannot find the judge `{}` in the library", error.name),
                    format!("{}; your own is named with `folder`", error.hint),
                )]
            })?
            .pop()
            .unwrap_or_default(),
    };
    let mut loaded = load(&[folder]);
    let Some(judge) = loaded.judges.pop() else {
        return Err(loaded
            .problems
            .into_iter()
            .map(|problem| {
                at_fault(
                    problem.to_string().replace("\nhint: ", "; hint: "),
                    "a judge's folder has judge.toml, prompt.md, reply.schema.json and cases.jsonl".to_owned(),
                )
            })
            .collect());
    };
    let mut faults = Vec::new();
    if judge.kind() == Kind::Pair {
        faults.push(at_fault("it compares two answers, and a call has one".to_owned(), "use a judge of scores or verdicts".to_owned()));
    }
    let names = if own.models.is_empty() { judge.model().map(ToOwned::to_owned).into_iter().collect() } else { own.models.clone() };
    if names.is_empty() {
        faults.push(at_fault("no model is named".to_owned(), format!("say who judges: judges.{name}.model = \"…\"")));
    }
    let prices = Prices::new(&config.prices);
    // Who bills is known where the endpoint is the provider's own.
    let provider = (own.endpoint == own.api.home()).then(|| own.api.name());
    let price = |name: &str| prices.find(provider, name).map(|found| found.price.clone());
    let models: Vec<_> = names.into_iter().map(|name| Model { price: price(&name), name }).collect();
    if own.spend.is_capped()
        && let Some(model) = models.iter().find(|model| model.price.is_none())
    {
        let hint =
            format!("say it: [prices.\"{}\"] with input and output, in US dollars for a million tokens; or remove judges.{name}.spend", model.name);
        faults.push(at_fault(format!("what `{}` costs is not known, so no cap on spending could be held", model.name), hint));
    }
    let redaction =
        Redaction::new(&own.redact).map_err(|error| vec![at_fault(format!("`redact` cannot be read: {error}"), "see the patterns".to_owned())])?;
    let applies = match &own.applies {
        Some(applies) => filter(applies).map_err(|fault| vec![at_fault(fault.what, fault.hint)])?,
        None => judge.applies().clone(),
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut with: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
    with.extend([format!("temperature {}", own.temperature), format!("samples {}", own.samples)]);
    let fingerprint = judge.fingerprint(&with.iter().map(String::as_str).collect::<Vec<_>>());
    let (environments, sampling) = (own.environments.clone(), own.sampling.clone());
    let nano = |dollars: f64| (dollars * 1e9) as u64;
    Ok(Ready {
        sampled: verdict::Judge { name: name.to_owned(), fingerprint, applies, environments, sampling },
        judge,
        models,
        redaction,
        caps: Caps { hour: own.spend.hour.map(nano), day: own.spend.day.map(nano) },
        config: own.clone(),
    })
}

/// What is wrong, and the way out.
type Wrong = (String, String);

fn read_folder(path: &Path) -> Result<Folder, Wrong> {
    let hint = || "a judge's folder has judge.toml, prompt.md, reply.schema.json and, at will, cases.jsonl".to_owned();
    if !path.is_dir() {
        return Err((format!("there is no folder {}", path.display()), hint()));
    }
    let mut files = BTreeMap::new();
    for file in Folder::FILES {
        match std::fs::read_to_string(path.join(file)) {
            Ok(text) => {
                files.insert(file.to_owned(), text);
            }
            // What is missing is the loader's to say.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err((format!("cannot read {}: {error}", path.join(file).display()), hint())),
        }
    }
    Ok(Folder { path: path.to_owned(), files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Ready>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("streamgauge.toml");
        std::fs::write(&file, text).expect("the file is written");
        let config = Config::load(Some(&file), [], &[]).map_err(|errors| errors.to_string().replace(&file.display().to_string(), "at"))?;
        ready(&config).map_err(|faults| together(faults).to_string().replace(&folder.path().display().to_string(), "at"))
    }

    fn fingerprint(more: &str) -> u64 {
        of(&format!("[judges.retrieval-relevance]\n{more}")).expect("a good judge")[0].sampled.fingerprint
    }

    #[test]
    fn a_judge_is_another_ruler_with_another_model_temperature_panel_or_number_of_samples_and_only_then() {
        let plain = fingerprint("model = \"a\"");
        for same in
            ["model = \"a\"\nrate = 0.5\ntimeout = \"5s\"\nconcurrency = 9\napplies = { stage = \"x\" }", "panel = [\"a\"]\nredact = [\"email\"]"]
        {
            assert_eq!(fingerprint(same), plain, "{same}");
        }
        for other in ["model = \"b\"", "model = \"a\"\ntemperature = 0.5", "model = \"a\"\nsamples = 3", "panel = [\"a\", \"b\"]"] {
            assert_ne!(fingerprint(other), plain, "{other}");
        }
    }

    #[test]
    fn a_judge_without_more_words_is_the_shipped_one_of_its_name_with_its_own_filter() {
        let judges = of(
            "[judges.retrieval-relevance]\nmodel = \"m\"\n[judges.mine]\nuse = \"retrieval-relevance\"\nmodel = \"m\"\napplies = { stage = \"s\" }",
        );
        let filters: Vec<_> = judges.expect("good judges").iter().map(|ready| format!("{} {}", ready.name(), ready.sampled.applies)).collect();
        assert_eq!(filters, ["mine stage=s", "retrieval-relevance stage=retrieval"]);
    }

    #[test]
    fn what_cannot_be_is_said_with_the_way_out() {
        for (text, expected) in [
            ("[judges.relevance]\nmodel = \"m\"", "judges.relevance: cannot find the judge `relevance` in the library"),
            ("[judges.retrieval-relevance]", "judges.retrieval-relevance: no model is named\nhint: say who judges"),
            ("[judges.retrieval-relevance]\nmodel = \"ours\"\nspend = { hour = 1 }", "judges.retrieval-relevance: what `ours` costs is not known"),
            ("[judges.x]\nfolder = \"judges/x\"\nmodel = \"m\"", "judges.x: there is no folder at/judges/x\nhint: a judge's folder has judge.toml"),
            ("[judges.x]\nfolder = \"a\"\nuse = \"b\"", "at:3:7: `judges.x` says twice what it is\nhint: keep `use`"),
            ("[judges.x]\nmodle = \"a\"", "at:2:1: unknown key `judges.x.modle`\nhint: did you mean `model`?"),
            ("[judges.X]\nmodel = \"a\"", "at:1:9: `judges.X` is no name for a judge"),
            ("[judges.x]\nsamples = 2", "at:2:11: `judges.x.samples` must be odd"),
            (
                "[judges.x]\nalways = [\"falback\"]",
                "at:2:11: `judges.x.always` names a signal that is not built in: `falback`\nhint: did you mean `fallback`?",
            ),
            ("[judges.x]\napplies = { stge = \"s\" }", "at:2:11: `judges.x.applies` names no field: `stge`\nhint: did you mean `stage`?"),
            ("[judges.x]\nredact = [\"emial\"]", "at:2:11: `judges.x.redact` has no pattern `emial`\nhint: did you mean `email`?"),
            ("[judges.x]\nredact = [\"(\"]", "at:2:11: `judges.x.redact` has a regular expression that cannot be read"),
            ("[judges.x]\napi = \"azure\"", "at:2:7: `judges.x.api` must be `openai` or `anthropic`, not `azure`"),
            ("[prices.\"m\"]\ninput = 1", "at:2:9: `prices.m` needs `input` and `output`"),
        ] {
            let said = of(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
            assert!(said.starts_with(expected), "{text}\n{said}");
        }
    }

    #[test]
    fn the_most_that_a_request_can_cost_is_more_than_any_tokenizer_makes_of_it() {
        let config = PRICED;
        let judges = of(config).expect("a good judge");
        let request = Request { system: "s".repeat(700), user: "ü".repeat(500), schema: "{}".to_owned(), max_output_tokens: 1000 };
        // 700 + 1000 + 2 bytes and what is around them at 1,000 nano-dollars; 1,000 tokens at 2,000.
        assert_eq!(cost_max(&judges[0].models[0], &request), (1702 + AROUND_TOKENS) * 1000 + 2_000_000);
        assert_eq!(judges[0].caps, Caps { hour: Some(1_500_000_000), day: None });
        assert_eq!(judges[0].round().count(), 3);
    }

    const PRICED: &str = "[judges.retrieval-relevance]\nmodel = \"ours\"\nsamples = 3\nspend = { hour = 1.5 }\n[prices.ours]\ninput = 1\noutput = 2";
}
