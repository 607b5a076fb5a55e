//! The list that we ship: `shipped.csv`, which says where it is from and of which day, and what its columns are.

use super::price::{Price, Rates, rate};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const LIST: &str = include_str!("shipped.csv");

static ROWS: LazyLock<BTreeMap<&str, Price>> = LazyLock::new(|| rows().filter_map(read).collect());

/// The day of the list, as `2026-11-22`.
pub fn date() -> &'static str {
    said("# date: ")
}

/// Whose list it is.
pub fn source() -> &'static str {
    said("# source: ")
}

fn said(prefix: &str) -> &'static str {
    LIST.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default()
}

pub(super) fn find(key: &str) -> Option<(&'static str, &'static Price)> {
    ROWS.get_key_value(key).map(|(key, price)| (*key, price))
}

pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static Price)> {
    ROWS.iter().map(|(key, price)| (*key, price))
}

/// Below the comments and the columns' names.
fn rows() -> impl Iterator<Item = &'static str> {
    LIST.lines().filter(|line| !line.starts_with('#')).skip(1)
}

fn read(line: &'static str) -> Option<(&'static str, Price)> {
    let mut columns = line.split(',');
    let name = columns.next()?;
    let base = rates(&mut columns, true)?;
    let tiers = match columns.next() {
        Some(above) => vec![(above.parse().ok()?, rates(&mut columns, false)?)],
        None => Vec::new(),
    };
    Some((name, Price::new(base, tiers)?))
}

/// The next columns; `None` when one is no price. In a tier, reasoning is output.
fn rates<'l>(columns: &mut impl Iterator<Item = &'l str>, reasoned: bool) -> Option<Rates> {
    let mut optional = || match columns.next() {
        None | Some("") => Some(None),
        Some(text) => rate(text).map(Some),
    };
    let (input, output, cached_input, cache_write) = (optional()??, optional()??, optional()?, optional()?);
    let reasoning = if reasoned { optional()? } else { None };
    Some(Rates::new(input, output, cached_input, cache_write, reasoning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prices::Prices;
    use crate::prices::names::key;
    use model::call::Usage;
    use serde_json::Value;

    #[test]
    fn every_row_can_be_read_is_there_once_and_is_found_by_its_name() {
        assert_eq!(rows().count(), ROWS.len());
        for name in ROWS.keys() {
            assert_eq!(key(name), *name);
            assert_eq!(Prices::default().find(None, name).map(|found| found.key), Some(*name));
        }
        assert!(model::Timestamp::parse(&format!("{}T00:00:00Z", date())).is_some() && !source().is_empty());
    }

    /// Every entry of the recorded list that is charged by tokens alone, of providers whose rows we ship: either it has no price here, or the list's.
    #[test]
    fn the_table_says_what_the_recorded_price_list_says() {
        let Some(recordings) = std::env::var_os("STREAMGAUGE_RECORDINGS") else { return };
        let file = std::path::Path::new(&recordings).join("litellm_prices/model_prices_and_context_window_backup.json");
        let list: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("the list is there")).expect("the list is JSON");
        let prices = Prices::default();
        let (mut compared, mut wrong) = (0, Vec::new());
        for (name, entry) in list.as_object().expect("entries by name") {
            let provider = entry["litellm_provider"].as_str().unwrap_or_default();
            let provider = if provider.starts_with("vertex_ai") { "vertex_ai" } else { provider };
            let by_tokens = matches!(entry["mode"].as_str(), Some("chat" | "responses" | "completion" | "embedding"));
            let withdrawn = entry["deprecation_date"].as_str().is_some_and(|date| date < "2026-05-01");
            // Regions, which are no part of a model's name, and fine-tuned models, whose names are their owners'.
            let theirs = name.contains("ft:") || name.starts_with("bedrock/") || (provider == "azure" && name.matches('/').count() > 1);
            let provider = if provider == "bedrock_converse" { "bedrock" } else { provider };
            let shipped = [
                "openai",
                "anthropic",
                "gemini",
                "mistral",
                "xai",
                "deepseek",
                "cohere",
                "voyage",
                "azure",
                "bedrock",
                "vertex_ai",
                "together_ai",
                "groq",
                "cerebras",
                "moonshot",
            ];
            let Some(input) = entry["input_cost_per_token"].as_f64().filter(|_| by_tokens && !theirs && shipped.contains(&provider)) else {
                continue;
            };
            if withdrawn || entry.get("tiered_pricing").is_some() {
                continue;
            }
            let Some(found) = prices.find(Some(provider), name) else { continue };
            let output = entry["output_cost_per_token"].as_f64().unwrap_or(0.0);
            let cached = entry["cache_read_input_token_cost"].as_f64().unwrap_or(input);
            // Ten thousand tokens are below every tier.
            let usage = Usage { input_tokens: Some(10_000), output_tokens: Some(1000), cached_tokens: Some(4000), ..Usage::default() };
            let listed = ((6000.0 * input + 4000.0 * cached + 1000.0 * output) * 1e9).round() as u64;
            compared += 1;
            let ours = found.price.cost(&usage);
            if !ours.is_ok_and(|ours| ours.abs_diff(listed) <= 1) {
                wrong.push(format!("{name}: {ours:?} by {} and {listed} by the list", found.key));
            }
        }
        assert!(wrong.is_empty() && compared > 500, "{compared} compared; {} differ\n{}", wrong.len(), wrong.join("\n"));
    }
}
