//! Which of many filters take a call, without asking each: a rule that does not apply costs nothing.
//!
//! Each filter is filed under the values of one of its keys; a call's label for that key leads to the few filters that may take it.

use crate::call::CallLog;
use crate::label::Key;
use crate::plan::Filter;
use std::collections::BTreeMap;

/// An index over filters, by their positions.
#[derive(Clone, Debug, Default)]
pub struct Takers {
    /// Those that take everything.
    all: Vec<usize>,
    by_key: Vec<(Key, BTreeMap<String, Vec<usize>>)>,
    filters: Vec<Filter>,
}

impl Takers {
    pub fn new<'f>(filters: impl IntoIterator<Item = &'f Filter>) -> Self {
        let mut takers = Self::default();
        for (at, filter) in filters.into_iter().enumerate() {
            takers.filters.push(filter.clone());
            // Under the key with the fewest values, because it leads astray the least.
            let Some((key, values)) = filter.0.iter().min_by_key(|(_, values)| values.len()) else {
                takers.all.push(at);
                continue;
            };
            let place = takers.by_key.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
                takers.by_key.push((key.clone(), BTreeMap::new()));
                takers.by_key.len() - 1
            });
            for value in values {
                takers.by_key[place].1.entry(value.clone()).or_default().push(at);
            }
        }
        takers
    }

    /// Puts the positions of the filters that take `call` into `found`, ascending. Cost: a lookup for each key that any filter is filed under, and
    /// a look at each filter that is found.
    pub fn of(&self, call: &CallLog<'_>, found: &mut Vec<usize>) {
        found.clear();
        found.extend_from_slice(&self.all);
        for (key, by_value) in &self.by_key {
            if let Some(filed) = by_value.get(key.label(call).as_ref()) {
                // Of a filter with one key, being filed under this label says all.
                found.extend(filed.iter().filter(|at| self.filters[**at].0.len() == 1 || self.filters[**at].lets_through(call)));
            }
        }
        found.sort_unstable();
        found.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_whose_filter_lets_the_call_through() {
        let filter = |entries: &[(&str, &[&str])]| {
            let entry = |(key, values): &(&str, &[&str])| (Key::parse(key).expect("a key"), values.iter().map(ToString::to_string).collect());
            Filter(entries.iter().map(entry).collect())
        };
        let filters = [
            filter(&[]),
            filter(&[("stage", &["a", "b"])]),
            filter(&[("stage", &["a"]), ("tenant", &["x"])]),
            filter(&[("tenant", &["x", "x"])]),
            filter(&[("tenant", &[""])]),
        ];
        let takers = Takers::new(&filters);
        let mut found = Vec::new();
        for (log, expected) in [
            (r#"{"id":"1","time":1700000000000,"model":"m","stage":"a","tenant":"x"}"#, vec![0, 1, 2, 3]),
            (r#"{"id":"1","time":1700000000000,"model":"m","stage":"b"}"#, vec![0, 1, 4]),
            (r#"{"id":"1","time":1700000000000,"model":"m"}"#, vec![0, 4]),
        ] {
            let call = crate::parse(log.as_bytes()).expect("a good log");
            takers.of(&call, &mut found);
            assert_eq!(found, expected, "{log}");
            let slow: Vec<_> = (0..filters.len()).filter(|at| filters[*at].lets_through(&call)).collect();
            assert_eq!(found, slow, "{log}");
        }
    }
}
