//! Schemas that calls bring along, compiled once each and found again by their text.
//!
//! Worker threads only read-lock on a hit; the age of an entry is an atomic beside it. What is in the cache never changes a finding.

use crate::schema::compile_of_call;
use jsonschema::Validator;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// At most 256 schemas: an application has some tens, and a compiled one takes about 100 KB. When full, the one that was used longest ago goes
/// and is compiled again when it comes back.
pub(crate) const SCHEMAS_MAX: usize = 256;

/// Longer schemas are refused: they take longer to compile than the call took, and providers refuse them themselves.
const SCHEMA_MAX_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
pub(crate) struct Cache {
    schemas: RwLock<HashMap<Box<str>, Entry>>,
    clock: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    /// `None`: it does not compile.
    schema: Option<Arc<Validator>>,
    used: AtomicU64,
}

impl Cache {
    /// The compiled schema; `None` when `text` is none. Cost: a hash of the text on a hit, a compilation otherwise.
    pub fn get(&self, text: &str) -> Option<Arc<Validator>> {
        if text.len() > SCHEMA_MAX_BYTES {
            return None;
        }
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(entry) = self.schemas.read().unwrap_or_else(PoisonError::into_inner).get(text) {
            entry.used.store(now, Ordering::Relaxed);
            return entry.schema.clone();
        }
        // Compiled outside the lock: two threads may both do it, and the second result is dropped.
        let schema = compile_of_call(text).map(Arc::new);
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        if schemas.len() >= SCHEMAS_MAX && !schemas.contains_key(text) {
            let oldest = schemas.iter().min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed)).map(|(text, _)| text.clone());
            oldest.and_then(|oldest| schemas.remove(&oldest));
        }
        schemas.entry(text.into()).or_insert(Entry { schema, used: AtomicU64::new(now) }).schema.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(number: usize) -> String {
        format!("{{\"const\":{number}}}")
    }

    #[test]
    fn the_least_recently_used_goes_when_it_is_full() {
        let cache = Cache::default();
        for number in 0..SCHEMAS_MAX {
            assert!(cache.get(&schema(number)).is_some());
        }
        let kept = cache.get(&schema(0)).expect("it compiles");
        cache.get(&schema(SCHEMAS_MAX));
        let schemas = cache.schemas.read().expect("no one panicked");
        assert_eq!(schemas.len(), SCHEMAS_MAX);
        assert!(schemas.contains_key(schema(0).as_str()) && !schemas.contains_key(schema(1).as_str()));
        drop(schemas);
        assert!(Arc::ptr_eq(&kept, &cache.get(&schema(0)).expect("it compiles")));
    }

    #[test]
    fn a_schema_that_does_not_compile_is_remembered_too() {
        let cache = Cache::default();
        for _ in 0..2 {
            assert!(cache.get("{\"type\":5}").is_none());
        }
        assert_eq!(cache.schemas.read().expect("no one panicked").len(), 1);
        assert!(cache.get(&" ".repeat(SCHEMA_MAX_BYTES + 1)).is_none());
        assert_eq!(cache.schemas.read().expect("no one panicked").len(), 1);
    }
}
