//! What nobody outside this process can compute: the nonces of requests, the keys of cached texts, and chance. All the randomness of the judges is
//! drawn here, once, when the process starts.

use evaluators::judge::Nonce;
use std::hash::{BuildHasher, RandomState};

/// Two keyed hashes (SipHash, with keys from the system): together 128 bits.
#[derive(Clone, Debug, Default)]
pub struct Secret([RandomState; 2]);

impl Secret {
    /// The same for the same parts, in this process.
    pub fn of(&self, parts: &[&str]) -> u128 {
        let [high, low] = &self.0;
        u128::from(high.hash_one(parts)) << 64 | u128::from(low.hash_one(parts))
    }

    /// Of one request to a judge.
    pub fn nonce(&self, request_id: &str) -> Nonce {
        Nonce::new(format!("{:032x}", self.of(&["nonce", request_id]))).expect("thirty-two hexadecimal digits are a nonce")
    }

    /// 0..1, as good as random.
    pub fn chance(&self, request_id: &str, failures: u32) -> f64 {
        (self.of(&["chance", request_id, &failures.to_string()]) >> 75) as f64 / 2f64.powi(53)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_one_requests_and_one_processs() {
        let (secret, other) = (Secret::default(), Secret::default());
        assert_eq!(secret.nonce("7-a"), secret.nonce("7-a"));
        assert_ne!(secret.nonce("7-a"), secret.nonce("7-b"));
        assert_ne!(secret.nonce("7-a"), other.nonce("7-a"));
        assert!((0..100).all(|failures| (0.0..1.0).contains(&secret.chance("7-a", failures))));
    }
}
