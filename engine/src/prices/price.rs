//! What one model costs, and what that makes of one call, in whole numbers from end to end.
//!
//! A price is kept in pico-dollars for a token, which are millionths of a dollar for a million tokens: every list price is a whole number of them.
//! The parts of a call are added up in pico-dollars and rounded once, to the nearest nano-dollar, halves up. What a judge may spend is rounded up.
//! Deliberately absent: discounts for batches and commitments, and whatever is not charged by tokens.

use model::Bucket;
use model::call::Usage;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Pico-dollars for a token of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub input: u64,
    pub output: u64,
    /// Input that the provider had in its cache.
    pub cached_input: u64,
    /// Input that it wrote to its cache.
    pub cache_write: u64,
    /// Output that is the model's reasoning.
    pub reasoning: u64,
}

/// Of one model. Requests with more input tokens than a tier's bound are charged by that tier, all their tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    base: Rates,
    /// By their bounds, ascending and different; at most [`Price::TIERS_MAX`].
    tiers: Vec<(u64, Rates)>,
}

/// Why a call with a price has no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCost {
    /// It does not say how many tokens there were.
    NoTokens,
    /// Its parts are more than their whole, such as more cached tokens than input tokens, or it would cost more than a measure can be.
    Unclear,
}

/// Of a million tokens, in dollars, as a whole number of [`Rates`]: 10^6.
const PER_DOLLAR: u64 = 1_000_000;

impl Rates {
    /// The most that any rate may be: a dollar for a token, beyond what anybody asks.
    pub const MAX: u64 = 1_000_000 * PER_DOLLAR;

    /// Cached input and cache writes cost as input where they are not priced apart, reasoning as output.
    pub fn new(input: u64, output: u64, cached_input: Option<u64>, cache_write: Option<u64>, reasoning: Option<u64>) -> Self {
        let (cached_input, cache_write) = (cached_input.unwrap_or(input), cache_write.unwrap_or(input));
        Self { input, output, cached_input, cache_write, reasoning: reasoning.unwrap_or(output) }
    }
}

impl Price {
    pub const TIERS_MAX: usize = 4;

    /// `None` when there are too many tiers, or two with one bound.
    pub fn new(base: Rates, mut tiers: Vec<(u64, Rates)>) -> Option<Self> {
        tiers.sort_by_key(|(above, _)| *above);
        let twice = tiers.windows(2).any(|pair| pair[0].0 == pair[1].0);
        (tiers.len() <= Self::TIERS_MAX && !twice).then_some(Self { base, tiers })
    }

    /// Those of a request with so many input tokens.
    fn rates(&self, input_tokens: u64) -> &Rates {
        self.tiers.iter().rev().find(|(above, _)| input_tokens > *above).map_or(&self.base, |(_, rates)| rates)
    }

    /// Nano-dollars, to the nearest; at most [`Bucket::VALUE_MAX`].
    ///
    /// # Errors
    /// When the tokens are not said, or contradict each other: nothing is guessed.
    pub fn cost(&self, usage: &Usage) -> Result<u64, NoCost> {
        let input = usage.input_tokens.ok_or(NoCost::NoTokens)?;
        let rates = self.rates(input);
        // Embeddings have no output, and nobody says so.
        let free = (rates.output == 0).then_some(0);
        let output = usage.output_tokens.or(free).ok_or(NoCost::NoTokens)?;
        let (cached, written, reasoning) =
            (usage.cached_tokens.unwrap_or(0), usage.cache_write_tokens.unwrap_or(0), usage.reasoning_tokens.unwrap_or(0));
        let plain = input.checked_sub(cached).and_then(|rest| rest.checked_sub(written)).ok_or(NoCost::Unclear)?;
        let said = output.checked_sub(reasoning).ok_or(NoCost::Unclear)?;
        let parts =
            [(plain, rates.input), (cached, rates.cached_input), (written, rates.cache_write), (said, rates.output), (reasoning, rates.reasoning)];
        let nano = nano(parts, 500);
        if nano > u128::from(Bucket::VALUE_MAX) { Err(NoCost::Unclear) } else { Ok(nano as u64) }
    }

    /// Nano-dollars of a request of our own, which asks for no caching, rounded up. Its reply does not say how much of it was reasoning: the dearer is
    /// taken.
    pub fn uncached(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        Self::at(self.rates(input_tokens), input_tokens, output_tokens)
    }

    /// The most that [`Price::uncached`] is for at most so many tokens, whatever the tiers are.
    pub fn most(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let reached = self.tiers.iter().filter(|(above, _)| input_tokens > *above).map(|(_, rates)| rates);
        reached.chain([&self.base]).map(|rates| Self::at(rates, input_tokens, output_tokens)).max().unwrap_or(0)
    }

    fn at(rates: &Rates, input_tokens: u64, output_tokens: u64) -> u64 {
        let nano = nano([(input_tokens, rates.input), (output_tokens, rates.output.max(rates.reasoning))], 999);
        u64::try_from(nano).unwrap_or(u64::MAX)
    }

    /// Every rate that is not the plain one, for people: `$2.5 in, $10 out, $1.25 cached`.
    pub fn described(&self) -> String {
        let tier = |(above, rates): &(u64, Rates)| format!("; above {} input tokens {}", model::show::number(*above as f64), described(rates));
        std::iter::once(described(&self.base)).chain(self.tiers.iter().map(tier)).collect()
    }
}

/// 2^40 tokens at the highest rates are below 2^100 pico-dollars.
fn nano<const N: usize>(parts: [(u64, u64); N], add_pico: u128) -> u128 {
    (parts.iter().map(|(tokens, rate)| u128::from(*tokens) * u128::from(*rate)).sum::<u128>() + add_pico) / 1000
}

fn described(rates: &Rates) -> String {
    let apart = |rate: u64, plain: u64, name: &str| if rate == plain { String::new() } else { format!(", ${} {name}", dollars(rate)) };
    format!(
        "${} in, ${} out{}{}{}",
        dollars(rates.input),
        dollars(rates.output),
        apart(rates.cached_input, rates.input, "cached in"),
        apart(rates.cache_write, rates.input, "written to the cache"),
        apart(rates.reasoning, rates.output, "reasoning"),
    )
}

/// A rate as dollars for a million tokens, exactly: `0.075`.
pub fn dollars(rate: u64) -> String {
    let text = format!("{}.{:06}", rate / PER_DOLLAR, rate % PER_DOLLAR);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The inverse: digits with at most six behind the point, up to [`Rates::MAX`].
pub fn rate(dollars: &str) -> Option<u64> {
    let (whole, fraction) = dollars.split_once('.').unwrap_or((dollars, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 7 || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let rate = whole.parse::<u64>().ok()? * PER_DOLLAR + format!("{fraction:0<6}").parse::<u64>().ok()?;
    (rate <= Rates::MAX).then_some(rate)
}

/// As the configuration has it: dollars for a million tokens, what is not priced apart left out.
impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Shown<'r>(Option<u64>, &'r Rates, &'r [(u64, Rates)]);
        impl Serialize for Shown<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Self(above, rates, tiers) = self;
                let mut map = serializer.serialize_map(None)?;
                if let Some(above) = above {
                    map.serialize_entry("above_input_tokens", above)?;
                }
                // The nearest double of a decimal of at most thirteen digits is written back as that decimal.
                let usd = |rate: u64| rate as f64 / PER_DOLLAR as f64;
                map.serialize_entry("input", &usd(rates.input))?;
                map.serialize_entry("output", &usd(rates.output))?;
                let apart = [
                    ("cached_input", rates.cached_input, rates.input),
                    ("cache_write", rates.cache_write, rates.input),
                    ("reasoning", rates.reasoning, rates.output),
                ];
                for (name, rate, _) in apart.into_iter().filter(|(_, rate, plain)| rate != plain) {
                    map.serialize_entry(name, &usd(rate))?;
                }
                if !tiers.is_empty() {
                    let tiers: Vec<_> = tiers.iter().map(|(above, rates)| Shown(Some(*above), rates, &[])).collect();
                    map.serialize_entry("tiers", &tiers)?;
                }
                map.end()
            }
        }
        Shown(None, &self.base, &self.tiers).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(cells: [&str; 5]) -> Rates {
        let [input, output, cached, written, reasoning] = cells.map(rate);
        Rates::new(input.expect("a price"), output.expect("a price"), cached, written, reasoning)
    }

    fn usage(input: u64, output: u64, cached: u64, written: u64, reasoning: u64) -> Usage {
        Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            cached_tokens: Some(cached),
            cache_write_tokens: Some(written),
            reasoning_tokens: Some(reasoning),
        }
    }

    #[test]
    fn each_kind_of_token_costs_its_own_and_the_parts_are_rounded_once() {
        let price = Price::new(rates(["3", "15", "0.3", "3.75", "20"]), Vec::new()).expect("a price");
        // 100 × 3,000 + 200 × 300 + 300 × 3,750 + 40 × 15,000 + 60 × 20,000 nano-dollars.
        assert_eq!(price.cost(&usage(600, 100, 200, 300, 60)), Ok(300_000 + 60_000 + 1_125_000 + 600_000 + 1_200_000));
        let small = Price::new(rates(["0.0001", "0.0003", "0.0005", "", ""]), Vec::new()).expect("a price");
        // Tenths of a nano-dollar: one token rounds down, five round up, and 2 + 1 halves are not rounded apart.
        assert_eq!(small.cost(&usage(1, 0, 0, 0, 0)), Ok(0));
        assert_eq!(small.cost(&usage(5, 0, 0, 0, 0)), Ok(1));
        assert_eq!(small.cost(&usage(1, 0, 1, 0, 0)), Ok(1), "half a nano-dollar is one");
        assert_eq!(small.cost(&usage(2, 1, 0, 0, 0)), Ok(1), "0.2 and 0.3 are a half");
    }

    #[test]
    fn above_its_bound_a_tier_charges_the_whole_request() {
        let tiers = vec![(400, rates(["4", "8", "", "", ""])), (200, rates(["2", "4", "0.5", "", ""]))];
        let price = Price::new(rates(["1", "2", "", "", ""]), tiers).expect("a price");
        for (input, expected) in [(200, 200_000 + 20_000), (201, 402_000 + 40_000), (400, 800_000 + 40_000), (401, 1_604_000 + 80_000)] {
            assert_eq!(price.cost(&usage(input, 10, 0, 0, 0)), Ok(expected), "{input}");
        }
        assert_eq!(price.cost(&usage(300, 0, 100, 0, 0)), Ok(400_000 + 50_000));
        assert_eq!(Price::new(rates(["1", "2", "", "", ""]), vec![(5, rates(["1", "1", "", "", ""])); 2]), None);
    }

    #[test]
    fn what_is_not_said_or_cannot_be_has_no_cost() {
        let price = Price::new(rates(["1", "2", "", "", ""]), Vec::new()).expect("a price");
        assert_eq!(price.cost(&Usage::default()), Err(NoCost::NoTokens));
        assert_eq!(price.cost(&Usage { input_tokens: Some(5), ..Usage::default() }), Err(NoCost::NoTokens), "an answer may be long");
        assert_eq!(price.cost(&usage(10, 10, 11, 0, 0)), Err(NoCost::Unclear));
        assert_eq!(price.cost(&usage(10, 10, 6, 5, 0)), Err(NoCost::Unclear));
        assert_eq!(price.cost(&usage(10, 10, 0, 0, 11)), Err(NoCost::Unclear));
        assert_eq!(price.cost(&usage(1 << 40, 0, 0, 0, 0)), Err(NoCost::Unclear), "a million dollars");
        let embedding = Price::new(rates(["0.02", "0", "", "", ""]), Vec::new()).expect("a price");
        assert_eq!(embedding.cost(&Usage { input_tokens: Some(1000), ..Usage::default() }), Ok(20_000));
    }

    #[test]
    fn what_may_be_spent_is_never_less_than_what_is() {
        let seed = 20_261_123;
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut some = |_| Rates::new(rng.u64(0..5_000_000), rng.u64(0..5_000_000), None, None, Some(rng.u64(0..5_000_000)));
            let (base, first, second) = (some(0), some(1), some(2));
            let price = Price::new(base, vec![(rng.u64(0..500), first), (rng.u64(500..1000), second)]).expect("two bounds");
            let (input_max, output_max) = (rng.u64(0..1500), rng.u64(0..500));
            let (input, output) = (rng.u64(0..=input_max), rng.u64(0..=output_max));
            let (most, spent) = (price.most(input_max, output_max), price.uncached(input, output));
            assert!(spent <= most, "seed {seed}: {spent} of {most}");
            let said = price.cost(&usage(input, output, 0, 0, rng.u64(0..=output))).expect("a cost");
            assert!(said <= spent, "seed {seed}: {said} of {spent}");
        }
    }

    #[test]
    fn a_price_is_read_and_shown_exactly() {
        for text in ["0", "2.5", "0.075", "0.000001", "1000000", "12"] {
            assert_eq!(rate(text).map(dollars).as_deref(), Some(text));
        }
        for text in ["", ".5", "0.0000001", "1000000.1", "-1", "1e3", "99999999", "1 "] {
            assert_eq!(rate(text), None, "{text}");
        }
        let tiers = vec![(200_000, rates(["2.5", "15", "0.25", "", ""]))];
        let price = Price::new(rates(["1.25", "10", "0.125", "", "3.5"]), tiers).expect("a price");
        assert_eq!(
            price.described(),
            "$1.25 in, $10 out, $0.125 cached in, $3.5 reasoning; above 200,000 input tokens $2.5 in, $15 out, $0.25 cached in"
        );
        assert_eq!(
            serde_json::to_value(&price).expect("it is JSON"),
            serde_json::json!({"input": 1.25, "output": 10.0, "cached_input": 0.125, "reasoning": 3.5,
                "tiers": [{"above_input_tokens": 200_000, "input": 2.5, "output": 15.0, "cached_input": 0.25}]})
        );
    }
}
