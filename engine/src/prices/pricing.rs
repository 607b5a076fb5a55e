//! A batch of calls gets its costs, before anything else sees them; and which models had no price is kept for people to see.
//!
//! The rules. A cost that the log states stays, even 0. Otherwise the tokens that the log states are charged at the price of who served the call: as
//! stated, else the last attempt, else as asked for. Attempts before that are not charged, because a log has no tokens of them; where a sender adds up
//! the tokens of all attempts, all are charged as the last. A call without tokens, which most failed ones are, has no cost, and neither has one whose
//! model has no price: nothing is guessed.

use super::{NoCost, Price, Prices};
use model::CallLog;
use model::label::LABEL_MAX_BYTES;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;

/// Models without a price that are told apart: more than a person mends, and 40 KB.
const UNPRICED_MAX: usize = 100;

/// What became of the costs of calls: each call is in one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The log says it.
    pub stated: u64,
    pub computed: u64,
    /// It names no model, or not how many tokens there were.
    pub no_tokens: u64,
    /// Its tokens contradict each other, or would cost more than a thousand dollars.
    pub unclear: u64,
    /// Its model has no price.
    pub no_price: u64,
    /// Of these, by provider and model as the calls name them; the first hundred that were heard of.
    unpriced: BTreeMap<(String, String), u64>,
}

/// A model without a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unpriced {
    /// Empty when the calls name none.
    pub provider: String,
    pub model: String,
    pub calls: u64,
}

impl Tally {
    /// The outcomes by name; they add up to the calls.
    pub fn outcomes(&self) -> [(&'static str, u64); 5] {
        [("stated", self.stated), ("computed", self.computed), ("no_tokens", self.no_tokens), ("unclear", self.unclear), ("no_price", self.no_price)]
    }

    /// Models without a price, the most calls first. Calls of further ones are in `no_price` alone.
    pub fn unpriced(&self) -> Vec<Unpriced> {
        let one =
            |((provider, model), calls): (&(String, String), &u64)| Unpriced { provider: provider.clone(), model: model.clone(), calls: *calls };
        let mut all: Vec<_> = self.unpriced.iter().map(one).collect();
        all.sort_by_key(|unpriced| std::cmp::Reverse(unpriced.calls));
        all
    }

    fn no_price(&mut self, provider: &str, model: &str) {
        self.no_price += 1;
        let cut = |text: &str| text[..text.floor_char_boundary(LABEL_MAX_BYTES)].to_owned();
        self.hear((cut(provider), cut(model)), 1);
    }

    fn hear(&mut self, name: (String, String), calls: u64) {
        let room = self.unpriced.len() < UNPRICED_MAX;
        if let Some(known) = self.unpriced.get_mut(&name) {
            *known += calls;
        } else if room {
            self.unpriced.insert(name, calls);
        }
    }

    fn add(&mut self, other: Self) {
        let Self { stated, computed, no_tokens, unclear, no_price, unpriced } = other;
        self.stated += stated;
        self.computed += computed;
        self.no_tokens += no_tokens;
        self.unclear += unclear;
        self.no_price += no_price;
        unpriced.into_iter().for_each(|(name, calls)| self.hear(name, calls));
    }
}

/// For one batch, which bounds what it remembers.
#[derive(Debug)]
pub struct Pricing<'p> {
    prices: &'p Prices,
    /// By model, then provider, as calls name them.
    known: HashMap<String, Vec<(String, Option<&'p Price>)>>,
    tally: Tally,
}

impl<'p> Pricing<'p> {
    pub(super) fn new(prices: &'p Prices) -> Self {
        Self { prices, known: HashMap::new(), tally: Tally::default() }
    }

    /// Gives the call its cost, where it states none and it can be known. Cost: a look-up by the model's name.
    pub fn price(&mut self, call: &mut CallLog<'_>) {
        if call.cost_nano_usd.is_some() {
            self.tally.stated += 1;
            return;
        }
        let (provider, Some(model)) = call.served() else {
            self.tally.no_tokens += 1;
            return;
        };
        if call.usage.input_tokens.is_none() && call.usage.output_tokens.is_none() {
            self.tally.no_tokens += 1;
            return;
        }
        let provider = provider.unwrap_or("");
        match self.find(provider, model).map(|price| price.cost(&call.usage)) {
            None => self.tally.no_price(provider, model),
            Some(Err(NoCost::NoTokens)) => self.tally.no_tokens += 1,
            Some(Err(NoCost::Unclear)) => self.tally.unclear += 1,
            Some(Ok(nano)) => {
                call.cost_nano_usd = Some(nano);
                self.tally.computed += 1;
            }
        }
    }

    fn find(&mut self, provider: &str, model: &str) -> Option<&'p Price> {
        // No table has names as long, and keeping them would keep a hostile batch twice.
        if model.len() > LABEL_MAX_BYTES || provider.len() > LABEL_MAX_BYTES {
            return None;
        }
        if let Some(known) = self.known.get(model)
            && let Some((_, price)) = known.iter().find(|(name, _)| name == provider)
        {
            return *price;
        }
        let found = self.prices.find(Some(provider), model).map(|found| found.price);
        self.known.entry(model.to_owned()).or_default().push((provider.to_owned(), found));
        found
    }

    /// Tells the table what it has heard.
    pub fn finish(self) {
        self.prices.0.heard.lock().unwrap_or_else(PoisonError::into_inner).add(self.tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(logs: &[String]) -> (Vec<Option<u64>>, Tally) {
        let prices = Prices::default();
        let mut pricing = prices.pricing();
        let costs = logs.iter().map(|log| {
            let mut call = model::parse(log.as_bytes()).expect("a good log");
            pricing.price(&mut call);
            call.cost_nano_usd
        });
        let costs = costs.collect();
        pricing.finish();
        (costs, prices.heard())
    }

    fn log(rest: &str) -> String {
        format!(r#"{{"id":"a","time":1763630044377,{rest}}}"#)
    }

    #[test]
    fn a_call_costs_what_it_says_or_what_its_tokens_cost_at_who_served_it() {
        let tokens = r#""usage":{"input_tokens":1000,"output_tokens":100}"#;
        let cases = [
            (format!(r#""model":"gpt-4o","cost_usd":0.5,{tokens}"#), Some(500_000_000)),
            (format!(r#""model":"gpt-4o","cost_usd":0,{tokens}"#), Some(0)),
            (format!(r#""model":"gpt-4o","cost_usd":null,{tokens}"#), Some(3_500_000)),
            (format!(r#""model":"gpt-4o","served_by":{{"provider":"openai","model":"gpt-4o-mini"}},{tokens}"#), Some(210_000)),
            (format!(r#""model":"gpt-4o","attempts":[{{"model":"gpt-4o","status_code":429}},{{"model":"gpt-4o-mini"}}],{tokens}"#), Some(210_000)),
            (r#""model":"gpt-4o","usage":{"input_tokens":1000,"output_tokens":100,"cached_tokens":400}"#.to_owned(), Some(3_000_000)),
            (r#""model":"claude-sonnet-4-6","usage":{"input_tokens":1000,"output_tokens":100,"cache_write_tokens":400}"#.to_owned(), Some(4_800_000)),
            (r#""kind":"embedding","model":"text-embedding-3-small","usage":{"input_tokens":1000}"#.to_owned(), Some(20_000)),
            // A failed call that says how many tokens it took is charged for them; one that does not is not.
            (format!(r#""model":"gpt-4o","status_code":500,{tokens}"#), Some(3_500_000)),
            (r#""model":"gpt-4o","status_code":429"#.to_owned(), None),
            (r#""model":"gpt-4o","usage":{"input_tokens":1000}"#.to_owned(), None),
            (r#""kind":"retrieval""#.to_owned(), None),
            (r#""model":"gpt-4o","usage":{"input_tokens":1,"output_tokens":1,"cached_tokens":2}"#.to_owned(), None),
            (format!(r#""model":"ours",{tokens}"#), None),
            (format!(r#""model":"ours","provider":"vllm",{tokens}"#), None),
            (format!(r#""model":"ours",{tokens}"#), None),
        ];
        let (costs, tally) = costs(&cases.iter().map(|(rest, _)| log(rest)).collect::<Vec<_>>());
        for ((rest, expected), cost) in cases.iter().zip(costs) {
            assert_eq!(cost, *expected, "{rest}");
        }
        assert_eq!(tally.outcomes().map(|(_, calls)| calls), [2, 7, 3, 1, 3]);
        let unpriced: Vec<_> = tally.unpriced().into_iter().map(|one| (one.provider, one.model, one.calls)).collect();
        assert_eq!(unpriced, [(String::new(), "ours".to_owned(), 2), ("vllm".to_owned(), "ours".to_owned(), 1)]);
    }

    #[test]
    fn any_number_of_models_without_a_price_is_counted_and_a_hundred_are_named() {
        let logs: Vec<_> =
            (0..3000).map(|n| log(&format!(r#""model":"ours-{n}{}","usage":{{"input_tokens":1,"output_tokens":1}}"#, "x".repeat(n % 400)))).collect();
        let (_, tally) = costs(&logs);
        assert_eq!((tally.no_price, tally.unpriced().len()), (3000, UNPRICED_MAX));
        assert!(tally.unpriced().iter().all(|one| one.model.len() <= LABEL_MAX_BYTES));
    }
}
