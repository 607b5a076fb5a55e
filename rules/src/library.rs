//! The rules we ship, by name. They are read by the same `load` as a user's own, with no privilege.

use crate::nearest;
use crate::source::Source;

/// A pack, a rule of it, and the rule's file.
struct Shipped {
    pack: &'static str,
    rule: &'static str,
    text: &'static str,
}

macro_rules! shipped {
    ($($pack:literal / $rule:literal),* $(,)?) => {
        [$(Shipped { pack: $pack, rule: $rule, text: include_str!(concat!("../library/", $pack, "/", $rule, ".rhai")) }),*]
    };
}

const SHIPPED: [Shipped; 44] = shipped![
    "basics" / "fallback-rate",
    "basics" / "retry-rate",
    "basics" / "invalid-json-rate",
    "basics" / "schema-violations",
    "basics" / "errors",
    "basics" / "truncation",
    "basics" / "refusals",
    "basics" / "empty-answers",
    "basics" / "latency",
    "basics" / "volume",
    "basics" / "cost",
    "memory-layer" / "retrieval-misses",
    "memory-layer" / "retrieval-relevance",
    "memory-layer" / "retrieval-judged",
    "memory-layer" / "retrieval-latency",
    "memory-layer" / "retrieval-cost",
    "memory-layer" / "retrieval-failures",
    "memory-layer" / "synthesis-quality",
    "memory-layer" / "synthesis-groundedness",
    "memory-layer" / "synthesis-consistency",
    "memory-layer" / "synthesis-context",
    "memory-layer" / "synthesis-latency",
    "memory-layer" / "synthesis-cost",
    "memory-layer" / "extraction-precision",
    "memory-layer" / "extraction-schema",
    "memory-layer" / "extraction-duplicates",
    "memory-layer" / "extraction-write-latency",
    "memory-layer" / "extraction-write-failures",
    "memory-layer" / "orchestration-latency",
    "memory-layer" / "orchestration-routing",
    "memory-layer" / "orchestration-fallbacks",
    "memory-layer" / "orchestration-rate-limits",
    "memory-layer" / "orchestration-model-cost",
    "memory-layer" / "orchestration-run-latency",
    "memory-layer" / "orchestration-run-cost",
    "memory-layer" / "orchestration-run-calls",
    "memory-layer" / "orchestration-run-errors",
    "memory-layer" / "user-cost",
    "judges" / "judge-errors",
    "judges" / "judge-unreadable",
    "judges" / "judge-latency",
    "judges" / "judge-skips",
    "judges" / "judge-spend",
    "judges" / "judge-flat-scores",
];

/// A name that is neither a pack nor a rule of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("find `{name}` in the rule library\nhint: {hint}")]
pub struct UnknownPack {
    pub name: String,
    pub hint: String,
}

/// Every pack with its rules, in the library's order.
pub fn shipped() -> Vec<(&'static str, Vec<&'static str>)> {
    SHIPPED.chunk_by(|a, b| a.pack == b.pack).map(|pack| (pack[0].pack, pack.iter().map(|shipped| shipped.rule).collect())).collect()
}

/// The files of shipped packs (`basics`) or single rules (`fallback-rate`), each once, in the library's order.
///
/// # Errors
/// [`UnknownPack`] names the nearest and the known names.
pub fn library(names: &[String]) -> Result<Vec<Source>, UnknownPack> {
    let known = || {
        let mut packs: Vec<_> = SHIPPED.iter().map(|shipped| shipped.pack).collect();
        packs.dedup();
        packs.into_iter().chain(SHIPPED.iter().map(|shipped| shipped.rule))
    };
    if let Some(name) = names.iter().find(|name| !known().any(|known| known == *name)) {
        let known: Vec<_> = known().collect();
        return Err(UnknownPack { name: name.clone(), hint: nearest::hint(name, known.iter().copied()) });
    }
    let asked = |shipped: &&Shipped| names.iter().any(|name| name == shipped.pack || name == shipped.rule);
    let source = |shipped: &Shipped| Source { path: format!("library/{}/{}.rhai", shipped.pack, shipped.rule).into(), text: shipped.text.to_owned() };
    Ok(SHIPPED.iter().filter(asked).map(source).collect())
}
