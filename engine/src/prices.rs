//! The one price table: what models cost by the list that we ship, and by `[prices]` of the configuration, which goes before it. What calls cost is
//! reckoned with it, and what judges spend.
//!
//! In `prices/`: `price.rs` (one price and the arithmetic), `names.rs` (under which names a model is looked up), `shipped.rs` (the list, with its date),
//! `pricing.rs` (a batch of calls, and which models had no price).
//! Deliberately absent: fetching lists. A list that changed by itself would change what is normal.

mod names;
mod price;
mod pricing;
mod shipped;

pub use price::{NoCost, Price, Rates, dollars, rate};
pub use pricing::{Pricing, Tally, Unpriced};
pub use shipped::{date, source};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Cheap to clone; clones share what they have heard.
#[derive(Clone, Debug, Default)]
pub struct Prices(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The configuration's, by key.
    own: BTreeMap<String, Price>,
    heard: Mutex<Tally>,
}

/// A price, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'p> {
    pub price: &'p Price,
    /// The row's name: in small letters, with the provider in front where the price is its alone.
    pub key: &'p str,
    /// In the configuration; else in the list that we ship.
    pub own: bool,
}

impl Prices {
    /// Instead of, or beside, what we ship: by model, or by `provider/model` for that provider alone. Capitals do not count.
    pub fn new(own: &BTreeMap<String, Price>) -> Self {
        let own = own.iter().map(|(name, price)| (names::key(name), price.clone())).collect();
        Self(Arc::new(Shared { own, heard: Mutex::default() }))
    }

    /// What `model` costs at the provider that serves it, as far as that is known.
    ///
    /// Cost: up to nine names are made and looked up twice each; [`Pricing`] remembers what it found.
    pub fn find(&self, provider: Option<&str>, model: &str) -> Option<Found<'_>> {
        names::keys(provider, model).iter().find_map(|key| {
            let own = self.0.own.get_key_value(key).map(|(key, price)| Found { price, key, own: true });
            own.or_else(|| shipped::find(key).map(|(key, price)| Found { price, key, own: false }))
        })
    }

    /// Every price: the configuration's, then those of the list that it does not replace, by name.
    pub fn all(&self) -> impl Iterator<Item = Found<'_>> {
        let own = self.0.own.iter().map(|(key, price)| Found { price, key, own: true });
        let shipped = shipped::all().filter(|(key, _)| !self.0.own.contains_key(*key));
        own.chain(shipped.map(|(key, price)| Found { price, key, own: false }))
    }

    /// How many prices the configuration has.
    pub fn own(&self) -> usize {
        self.0.own.len()
    }

    /// For one batch of calls.
    pub fn pricing(&self) -> Pricing<'_> {
        Pricing::new(self)
    }

    /// Of all calls that were looked at since the start. A restart looks at some again; these are counts of work, not of calls.
    pub fn heard(&self) -> Tally {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The name under which `written` in `[prices]` is looked up: two that agree in it would be one price twice.
pub fn key(written: &str) -> String {
    names::key(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(input: &str, output: &str) -> Price {
        let rate = |text| rate(text).expect("a price");
        Price::new(Rates::new(rate(input), rate(output), None, None, None), Vec::new()).expect("no tiers")
    }

    fn of<'p>(prices: &'p Prices, provider: &str, model: &str) -> Option<(&'p str, bool)> {
        prices.find(Some(provider), model).map(|found| (found.key, found.own))
    }

    #[test]
    fn the_more_exact_name_decides_and_then_the_configuration() {
        let own = BTreeMap::from([
            ("gpt-4o".to_owned(), one("1", "2")),
            ("Azure.ai.openai/GPT-4o".to_owned(), one("3", "4")),
            ("ours".to_owned(), one("5", "6")),
        ]);
        let prices = Prices::new(&own);
        assert_eq!(of(&prices, "openai", "gpt-4o"), Some(("gpt-4o", true)));
        assert_eq!(of(&prices, "azure", "gpt-4o"), Some(("azure/gpt-4o", true)));
        assert_eq!(of(&prices, "azure", "gpt-4o-2024-11-20"), Some(("azure/gpt-4o", true)), "a dated name is its undated one");
        assert_eq!(of(&prices, "openai", "gpt-4o-2024-05-13"), Some(("gpt-4o-2024-05-13", false)), "an older version has a row of its own");
        assert_eq!(of(&prices, "openai", "gpt-4o-mini-2024-07-18"), Some(("gpt-4o-mini", false)));
        assert_eq!(of(&prices, "", "openai/gpt-4o"), Some(("gpt-4o", true)));
        assert_eq!(of(&prices, "vllm", "ours"), Some(("ours", true)));
        assert_eq!(prices.all().filter(|found| found.key == "gpt-4o").map(|found| found.own).collect::<Vec<_>>(), [true]);
    }

    #[test]
    fn a_model_that_nobody_prices_has_no_price() {
        let prices = Prices::default();
        for (provider, model) in [
            ("openai", "gpt-4o-our-finetune"),
            ("", "gpt"),
            ("", ""),
            // Whoever has the weights asks what they like.
            ("ollama", "mistral-small"),
            ("vllm", "deepseek-ai/DeepSeek-V3"),
            ("ours", "gpt-oss-120b"),
        ] {
            assert_eq!(of(&prices, provider, model), None, "{provider} {model}");
        }
    }
}
