//! The code evaluators that we ship, by name. They are read by the same `load` as a user's own, with no privilege, and tuned by their constants.

use model::nearest::nearest;
use rules::Source;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../library/", $name, ".rhai")))),*]
    };
}

const SHIPPED: [(&str, &str); 7] =
    shipped!["answer-length", "citation-present", "duplicate-facts", "latency-objective", "must-match", "must-not-match", "repetition"];

/// A name that no shipped evaluator has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("find the evaluator `{name}`\nhint: {hint}")]
pub struct UnknownEvaluator {
    pub name: String,
    pub hint: String,
}

/// The names of all shipped evaluators, sorted.
pub fn shipped() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The files of these evaluators, each once.
///
/// # Errors
/// [`UnknownEvaluator`] names the nearest and the known names.
pub fn library(names: &[String]) -> Result<Vec<Source>, UnknownEvaluator> {
    if let Some(name) = names.iter().find(|name| !shipped().any(|known| known == *name)) {
        let known = format!("known: {}", shipped().collect::<Vec<_>>().join(", "));
        let hint = nearest(name, shipped()).map_or(known.clone(), |near| format!("did you mean `{near}`? {known}"));
        return Err(UnknownEvaluator { name: name.clone(), hint });
    }
    let asked = SHIPPED.iter().filter(|(shipped, _)| names.iter().any(|name| name == shipped));
    Ok(asked.map(|(name, text)| Source { path: format!("evaluators/library/{name}.rhai").into(), text: (*text).to_owned() }).collect())
}
