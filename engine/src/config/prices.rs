//! `[prices."model"]` and `[prices."provider/model"]`: what models cost, in US dollars for a million tokens, instead of or beside the list that we ship.
//!
//! Not here: which price a call has (`crate::prices`).

use super::errors::Fault;
use super::read::whole;
use super::section::Section;
use super::tree::Node;
use crate::prices::{Price, Rates, key};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Millionths of a dollar: finer prices are nobody's.
const STEPS: f64 = 1e6;
/// The largest tier that is sold begins at half a million tokens.
const TIER_TOKENS_MAX: usize = 1_000_000_000;

pub(super) fn prices(root: &mut Section<'_>) -> BTreeMap<String, Price> {
    let seen: RefCell<BTreeMap<String, String>> = RefCell::default();
    root.each_named("prices", |name, price| {
        if let Some(other) = seen.borrow_mut().insert(key(name), name.to_owned()) {
            price.refuse(
                &[],
                Fault::new(format!("is the same model as `prices.{other}`"), "keep one of them; capitals and other names of a provider do not count"),
            );
        }
        let base = rates(price);
        let tiers = price.each("tiers", |_| Err(Fault::new("must be a table", TIER_HINT)), tier);
        let priced = Price::new(base?, tiers);
        if priced.is_none() {
            let what = format!("has two tiers above the same number of tokens, or more than {}", Price::TIERS_MAX);
            price.refuse(&[], Fault::new(what, TIER_HINT));
        }
        priced
    })
}

const TIER_HINT: &str = "such as tiers = [{ above_input_tokens = 200_000, input = 2.5, output = 15 }]";

fn tier(tier: &mut Section<'_>) -> Option<(u64, Rates)> {
    let above = tier.read("above_input_tokens", |node| whole(node, 1..=TIER_TOKENS_MAX).map(|tokens| tokens as u64));
    let rates = rates(tier);
    if above.is_none() {
        tier.refuse(&["above_input_tokens"], Fault::new("needs `above_input_tokens`", TIER_HINT));
    }
    Some((above?, rates?))
}

fn rates(price: &mut Section<'_>) -> Option<Rates> {
    let (input, output) = (price.read("input", rate), price.read("output", rate));
    let (cached_input, cache_write, reasoning) = (price.read("cached_input", rate), price.read("cache_write", rate), price.read("reasoning", rate));
    if input.is_none() || output.is_none() {
        let hint = "US dollars for a million tokens, such as input = 0.15 and output = 0.6; an embedding model has output = 0";
        price.refuse(&["input", "output"], Fault::new("needs `input` and `output`", hint));
    }
    Some(Rates::new(input?, output?, cached_input, cache_write, reasoning))
}

/// Exact: what is finer than a step, or no amount, is refused rather than rounded.
fn rate(node: &Node) -> Result<u64, Fault> {
    let dollars = node.number()?;
    let steps = (dollars * STEPS).round();
    if !(0.0..=Rates::MAX as f64).contains(&steps) {
        return Err(Fault::new(format!("is out of range: {dollars}"), "US dollars for a million tokens, from 0 to 1000000"));
    }
    // Both sides are the doubles nearest to one decimal, when the decimal has at most six digits behind the point.
    if steps / STEPS != dollars {
        return Err(Fault::new(format!("is too fine: {dollars}"), "US dollars for a million tokens, with at most six digits behind the point"));
    }
    Ok(steps as u64)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("streamgauge.toml");
        std::fs::write(&file, text).expect("the file is written");
        Config::load(Some(&file), [], &[]).map_err(|errors| errors.to_string().replace(&file.display().to_string(), "at"))
    }

    #[test]
    fn a_price_has_what_is_written_and_nothing_is_rounded() {
        let config = load(
            "[prices.\"ours\"]\ninput = 0.000001\noutput = 1000000\ncached_input = 0.1\ncache_write = 0.3\nreasoning = 7\n\
             tiers = [{ above_input_tokens = 1_000, input = 1.1, output = 2.2, cached_input = 0.7 }]\n[prices.\"vllm/ours\"]\ninput = 1\noutput = 0",
        )
        .expect("good prices");
        let described: Vec<_> = config.prices.values().map(crate::prices::Price::described).collect();
        assert_eq!(
            described,
            [
                "$0.000001 in, $1000000 out, $0.1 cached in, $0.3 written to the cache, $7 reasoning; \
                 above 1,000 input tokens $1.1 in, $2.2 out, $0.7 cached in",
                "$1 in, $0 out"
            ]
        );
    }

    #[test]
    fn what_is_no_price_is_said_with_the_way_out() {
        for (text, expected) in [
            ("[prices.m]\ninput = 1", "at:2:9: `prices.m` needs `input` and `output`\nhint: US dollars"),
            ("[prices.m]\ninput = -1\noutput = 1", "at:2:9: `prices.m.input` is out of range: -1"),
            ("[prices.m]\ninput = 0.0000001\noutput = 1", "at:2:9: `prices.m.input` is too fine"),
            ("[prices.m]\ninput = 1\noutput = 1e7", "at:3:10: `prices.m.output` is out of range"),
            ("[prices.m]\ninput = 1\noutput = 1\ncached = 1", "at:4:1: unknown key `prices.m.cached`\nhint: did you mean `cached_input`?"),
            (
                "[prices.m]\ninput = 1\noutput = 1\ntiers = [{ input = 1, output = 1 }]",
                "at:4:10: `prices.m.tiers[0]` needs `above_input_tokens`\nhint: such as",
            ),
            (
                "[prices.m]\ninput = 1\noutput = 1\ntiers = [{ above_input_tokens = 5, input = 1, output = 1 }, { above_input_tokens = 5, input = 1, output = 1 }]",
                "at:1:9: `prices.m` has two tiers above the same number of tokens",
            ),
            (
                "[prices.\"azure/M\"]\ninput = 1\noutput = 1\n[prices.\"azure_openai/m\"]\ninput = 2\noutput = 2",
                "at:4:9: `prices.azure_openai/m` is the same model as `prices.azure/M`",
            ),
        ] {
            let said = load(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
            assert!(said.starts_with(expected), "{text}\n{said}");
        }
    }
}
