//! What stands beside an exported file: where its lines come from, how they were chosen, and what is among them.

use super::Written;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Different models, prompts and reasons that are counted apart; further ones are counted together.
const NAMES_MAX: usize = 1_000;
const OTHER: &str = "(other)";

/// Sums over what was written.
#[derive(Debug, Default)]
pub(super) struct Summed {
    pub lines: u64,
    pub without_payload: u64,
    /// By why not.
    pub not_converted: BTreeMap<String, u64>,
    models: BTreeMap<String, u64>,
    /// By name and version.
    prompts: BTreeMap<(String, String), u64>,
}

impl Summed {
    pub fn wrote(&mut self, call: &Value, payload_is: &str) {
        let text = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
        self.lines += 1;
        self.without_payload += u64::from(payload_is != "here");
        count(&mut self.models, text("model"), || OTHER.to_owned());
        if !text("prompt").is_empty() || !text("prompt_version").is_empty() {
            count(&mut self.prompts, (text("prompt"), text("prompt_version")), || (OTHER.to_owned(), OTHER.to_owned()));
        }
    }

    pub fn not_converted(&mut self, why: String) {
        count(&mut self.not_converted, why, || OTHER.to_owned());
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, other: impl FnOnce() -> K) {
    let key = if counts.len() < NAMES_MAX || counts.contains_key(&key) { key } else { other() };
    *counts.entry(key).or_default() += 1;
}

/// `head` and `end` are the engine's words.
pub(super) fn manifest(file: &Written<'_>, format: &str, head: &Value, end: &Value, summed: &Summed) -> Value {
    let selection = if head["sample"].is_null() {
        "every call that matches, oldest first".to_owned()
    } else {
        let per = head["sample"]["per"].as_str().map_or_else(String::new, |per| format!(" for each value of {per}"));
        format!("a sample of {}{per}: in each stratum, every call had the probability that stands there; oldest first", head["sample"]["size"])
    };
    let prompts = summed.prompts.iter().map(|((prompt, version), calls)| json!({ "prompt": prompt, "version": version, "calls": calls }));
    json!({
        "file": file.name.file_name().map(|name| name.to_string_lossy()),
        "format": format,
        "bytes": file.bytes,
        "lines": summed.lines,
        "sha256": file.sha256,
        "made": head["made"],
        "engine": { "version": head["version"], "source": head["source"] },
        "query": head["query"],
        "since": head["since"],
        "until": head["until"],
        "selection": selection,
        "sample": head["sample"],
        "strata": head["strata"],
        "redacted": head["redacted"],
        "calls": {
            "matched": head["matched"],
            "selected": head["calls"],
            "handed_out": end["calls"],
            "expired": end["expired"],
            "unreadable": end["unreadable"],
        },
        "not_converted": summed.not_converted,
        "models": summed.models,
        "prompts": prompts.collect::<Vec<_>>(),
    })
}
