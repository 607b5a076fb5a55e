//! Verdicts of real judges beside people's labels, from the recordings: LLMBar's (24,000 of them, of six models and fifteen prompts) and PandaLM's.
//!
//! Both are of pairs. *Pass* means that the first answer is the better, so *fail* is everything else, and a judge that prefers a place has a
//! sensitivity and a specificity that differ.

use flate2::read::GzDecoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use streamgauge_evaluators::calibration::{Item, Length};

/// One judge and prompt.
pub struct Set {
    pub name: String,
    pub items: Vec<Item>,
}

/// `path` in the recordings; `None`, and said, where no recordings are given. Recordings that are given and incomplete are a failure.
fn recording(path: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("STREAMGAUGE_RECORDINGS") else {
        eprintln!("skipped: STREAMGAUGE_RECORDINGS is not set");
        return None;
    };
    let path = PathBuf::from(folder).join(path);
    assert!(path.exists(), "STREAMGAUGE_RECORDINGS is set, and {} is missing", path.display());
    Some(path)
}

/// Every judge and prompt of LLMBar, over all its subsets, in the order of their names. The authors' or the annotators' majority is the label.
pub fn llmbar() -> Option<Vec<Set>> {
    let file = File::open(recording("llmbar/judge_triples.ndjson.gz")?).expect("the recording opens");
    let mut sets: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let row: Value = serde_json::from_str(&line.expect("the recording reads")).expect("a line is JSON");
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        let verdict = |name: &str| match text(name) {
            "1" => Some(true),
            "2" => Some(false),
            _ => None,
        };
        let item = Item { swapped: Some(verdict("verdict_swapped")), ..Item::new(text("gold") == "1", verdict("verdict")) };
        sets.entry(format!("{} {}", text("judge"), text("prompt"))).or_default().push(item);
    }
    Some(sets.into_iter().map(|(name, items)| Set { name, items }).collect())
}

/// Both judges of PandaLM. The label is what at least two of three annotators say; items on which all three differ have none and are left out.
pub fn pandalm() -> Option<Vec<Set>> {
    let rows = |file: &str| -> Option<Vec<Value>> {
        let text = std::fs::read_to_string(recording(&format!("pandalm/data/{file}"))?).expect("the recording reads");
        Some(serde_json::from_str(&text).expect("the recording is JSON"))
    };
    let items = rows("testset-v1.json")?;
    let judge = |name: &str, file: &str, field: &str| -> Option<Set> {
        let verdicts: BTreeMap<u64, Value> =
            rows(file)?.into_iter().map(|row| (row["idx"].as_u64().expect("an index"), row[field].clone())).collect();
        let item = |row: &Value| {
            let votes = ["annotator1", "annotator2", "annotator3"].map(|annotator| row[annotator].as_u64());
            let label = votes.into_iter().find(|vote| votes.iter().filter(|other| *other == vote).count() >= 2)?;
            let spelled = match &verdicts[&row["idx"].as_u64().expect("an index")] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // A tie is not "the first is better".
            let verdict = match spelled.as_str() {
                "1" => Some(true),
                "0" | "2" | "Tie" => Some(false),
                _ => None,
            };
            let chars = |field: &str| row[field].as_str().unwrap_or_default().chars().count();
            let length = Some(Length::between(chars("response1"), chars("response2")));
            Some(Item { length, ..Item::new(label == Some(1), verdict) })
        };
        Some(Set { name: name.to_owned(), items: items.iter().filter_map(item).collect() })
    };
    Some(vec![
        judge("gpt-3.5-turbo", "gpt-3.5-turbo-testset-v1.json", "gpt_result")?,
        judge("pandalm-7b", "pandalm-7b-testset-v1.json", "pandalm_result")?,
    ])
}
