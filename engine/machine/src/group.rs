//! Groups by number: label sets are interned once per grouping, within a bound, and forgotten when they fall silent.
//!
//! Numbers are given in stream order, the lowest free one first, so they are the same however the stream is cut.

use model::{Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The groups of one grouping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    by_labels: BTreeMap<Labels, u32>,
    entries: Vec<Option<Group>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub labels: Labels,
    /// Start of the last tick in which it had a call.
    pub heard: Timestamp,
}

impl Groups {
    pub fn number(&self, labels: &Labels) -> Option<u32> {
        self.by_labels.get(labels).copied()
    }

    pub fn insert(&mut self, labels: Labels, heard: Timestamp) -> u32 {
        let number = self.free.pop().unwrap_or(self.entries.len() as u32);
        if number as usize == self.entries.len() {
            self.entries.push(None);
        }
        self.by_labels.insert(labels.clone(), number);
        self.entries[number as usize] = Some(Group { labels, heard });
        number
    }

    pub fn get(&self, number: u32) -> &Group {
        self.entries[number as usize].as_ref().expect("cells are dropped before their group is forgotten")
    }

    pub fn hear(&mut self, number: u32, tick: Timestamp) {
        let group = self.entries[number as usize].as_mut().expect("the number was just looked up");
        group.heard = group.heard.max(tick);
    }

    pub fn len(&self) -> usize {
        self.by_labels.len()
    }

    /// By label order.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, u32)> {
        self.by_labels.iter().map(|(labels, number)| (labels, *number))
    }

    /// Forgets groups last heard before `before`, by number, and returns their numbers.
    pub fn forget(&mut self, before: Timestamp) -> Vec<u32> {
        let mut gone = Vec::new();
        for (number, entry) in self.entries.iter_mut().enumerate() {
            if entry.as_ref().is_some_and(|group| group.heard < before) {
                let group = entry.take().expect("it was just looked at");
                self.by_labels.remove(&group.labels);
                gone.push(number as u32);
            }
        }
        // The lowest free number is taken next: then it does not matter in how many rounds they became free.
        self.free.extend(&gone);
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        gone
    }
}
