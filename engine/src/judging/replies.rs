//! All that is asked about one call: a reply of each model, as often as there are samples, and what that cost.
//!
//! Deliberately absent: whether there is money for it, and trying again.

use super::client::{Client, Failure};
use super::ready::{Ready, cost_max};
use super::round::Round;
use evaluators::judge::{Nonce, Request};
use std::time::Instant;
use tracing::warn;

/// Asks for the replies that are missing, one after the other, until one does not come. Returns what that cost in nano-dollars, and why no more came.
pub(super) async fn ask(ready: &Ready, client: &Client, round: &mut Round, request: &Request, nonce: &Nonce) -> (u64, Option<Failure>) {
    let (mut spent, before) = (0u64, round.replies);
    for model in ready.round().skip(before) {
        let began = Instant::now();
        let reply = client.ask(&model.name, request, ready.config.temperature, ready.config.timeout).await;
        // An answer that does not say what it cost may have cost the most.
        let most = cost_max(model, request);
        let cost = match &reply {
            Ok(reply) => reply.tokens.map_or(most, |(input, output)| model.price.as_ref().map_or(0, |price| price.uncached(input, output))),
            Err(failure) if failure.may_cost => most,
            Err(_) => 0,
        };
        if cost > most && model.price.is_some() {
            warn!(judge = %ready.name(), model = %model.name, "a reply cost more than was asked for: the endpoint does not keep to max_output_tokens");
        }
        spent = spent.saturating_add(cost);
        round.took(began.elapsed().as_millis() as u64, cost);
        match reply {
            Ok(reply) => round.replied(&ready.judge, &reply, nonce),
            Err(failure) => return (spent, Some(failure)),
        }
    }
    (spent, None)
}
