//! What a judge's request costs at list prices: a small table of common models, and whatever `[prices]` says instead.
//!
//! Deliberately absent: what the watched calls cost, and discounts. A cap that reckons with list prices is held with discounts, too.

use crate::config::PriceConfig;
use model::same_model::same_model;
use std::collections::BTreeMap;

/// Model, input and output, in the file's order.
const TABLE: &str = include_str!("prices.csv");

/// Of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Nano-dollars for a token.
    input: f64,
    output: f64,
}

impl From<PriceConfig> for Price {
    fn from(price: PriceConfig) -> Self {
        // Dollars for a million tokens are thousands of nano-dollars for one.
        Self { input: price.input * 1000.0, output: price.output * 1000.0 }
    }
}

impl Price {
    /// Rounded up: a cap is never exceeded by roundings.
    pub fn nano_usd(self, input_tokens: u64, output_tokens: u64) -> u64 {
        (input_tokens as f64 * self.input + output_tokens as f64 * self.output).ceil() as u64
    }
}

/// The price of `model`: the user's own, then the table's for that very name, then that of the same model with or without its date.
pub fn price(own: &BTreeMap<String, PriceConfig>, model: &str) -> Option<Price> {
    let found = own.get(model).copied().or_else(|| shipped().find(|(name, _)| *name == model).map(|(_, price)| price));
    let found = found.or_else(|| shipped().find(|(name, _)| same_model(model, name)).map(|(_, price)| price));
    found.map(Price::from)
}

fn shipped() -> impl Iterator<Item = (&'static str, PriceConfig)> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.filter_map(|line| {
        let mut columns = line.split(',');
        let (name, input, output) = (columns.next()?, columns.next()?.parse().ok()?, columns.next()?.parse().ok()?);
        Some((name, PriceConfig { input, output }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_row_can_be_read_and_no_model_is_twice() {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#')).count() - 1;
        let names: std::collections::BTreeSet<_> = shipped().map(|(name, _)| name).collect();
        assert_eq!((shipped().count(), names.len()), (rows, rows));
    }

    #[test]
    fn a_price_of_the_users_own_comes_first_and_a_dated_name_has_that_of_the_undated_one() {
        let own = BTreeMap::from([("gpt-4o".to_owned(), PriceConfig { input: 1.0, output: 2.0 })]);
        let of = |model: &str| price(&own, model).map(|price| price.nano_usd(1_000_000, 1_000_000));
        assert_eq!(of("gpt-4o"), Some(3_000_000_000));
        assert_eq!(of("gpt-4o-mini-2024-07-18"), Some(750_000_000));
        assert_eq!(of("gpt-4o-2024-05-13"), Some(20_000_000_000), "an older version that costs more is a row of its own");
        assert_eq!(of("a-model-of-ours"), None);
        assert_eq!(price(&own, "gpt-4o-mini").map(|price| price.nano_usd(1, 0)), Some(150));
    }

    #[test]
    fn the_table_says_what_the_recorded_price_list_says() {
        let Some(recordings) = std::env::var_os("STREAMGAUGE_RECORDINGS") else { return };
        let file = std::path::Path::new(&recordings).join("litellm_prices/model_prices_and_context_window_backup.json");
        let list: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("the list is there")).expect("the list is JSON");
        for (name, price) in shipped() {
            let entry = ["", "mistral/", "xai/"].iter().map(|route| &list[format!("{route}{name}")]).find(|entry| entry.is_object());
            let listed = |field: &str| entry.and_then(|entry| entry[field].as_f64()).unwrap_or_else(|| panic!("{name} is not listed")) * 1e6;
            let same = |ours: f64, theirs: f64| (ours - theirs).abs() < 1e-3;
            assert!(same(price.input, listed("input_cost_per_token")) && same(price.output, listed("output_cost_per_token")), "{name}");
        }
    }
}
