//! Opinions by what was asked, so that the same text is not paid for twice: retried jobs and stock answers are common in sampled traffic.
//!
//! In memory and bounded; a restart forgets it. Deliberately absent: what could not be read or was not answered. That may go well the next time.

use super::secret::Secret;
use evaluators::judge::{Nonce, Request};
use model::verdict::Outcome;
use std::collections::{HashMap, VecDeque};

/// At most 8 MiB, with reasons of 1,000 characters at most.
const ENTRIES_MAX: usize = 4096;

/// A judge's opinion, as it became a verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub outcome: Outcome,
    pub score: Option<f64>,
    pub why: String,
}

#[derive(Debug, Default)]
pub struct Cache {
    known: HashMap<u128, Known>,
    /// Oldest first.
    order: VecDeque<u128>,
}

/// The key of a request: what is asked of whom, without the nonce, which is another every time.
pub fn key(secret: &Secret, fingerprint: u64, request: &Request, nonce: &Nonce) -> u128 {
    let without = |text: &str| text.replace(nonce.as_str(), "");
    secret.of(&["cache", &format!("{fingerprint:016x}"), &without(&request.system), &without(&request.user)])
}

impl Cache {
    pub fn get(&self, key: u128) -> Option<&Known> {
        self.known.get(&key)
    }

    pub fn insert(&mut self, key: u128, known: Known) {
        if self.known.insert(key, known).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > ENTRIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_one_key_whatever_its_nonce_and_another_judge_has_another() {
        let secret = Secret::default();
        let key_of = |id: &str, fingerprint: u64, text: &str| {
            let nonce = secret.nonce(id);
            let fenced = format!("<<data {n}\n{text}\ndata {n}>>", n = nonce.as_str());
            key(&secret, fingerprint, &Request { system: "s".to_owned(), user: fenced, schema: String::new(), max_output_tokens: 1 }, &nonce)
        };
        assert_eq!(key_of("1-a", 7, "text"), key_of("2-b", 7, "text"));
        assert_ne!(key_of("1-a", 7, "text"), key_of("1-a", 8, "text"));
        assert_ne!(key_of("1-a", 7, "text"), key_of("1-a", 7, "another"));
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut cache = Cache::default();
        let known = || Known { outcome: Outcome::Pass, score: None, why: String::new() };
        (0..=ENTRIES_MAX as u128).for_each(|key| cache.insert(key, known()));
        cache.insert(ENTRIES_MAX as u128, known());
        assert_eq!((cache.known.len(), cache.get(0), cache.get(1).is_some()), (ENTRIES_MAX, None, true));
    }
}
