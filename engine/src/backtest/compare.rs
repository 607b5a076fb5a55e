//! Two sets of rules over the same calls: which alerts both would have raised, and which only one.
//!
//! Two alerts are the same when they are of rules of one name, of one environment, of the same group or one above the other, and fire at the same
//! time for a moment at least. Each is paired once, the earliest first.

use super::alerts::Row;
use model::Timestamp;
use serde::Serialize;

/// Ids of alerts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compared {
    pub both: Vec<(String, String)>,
    pub only_first: Vec<String>,
    pub only_second: Vec<String>,
}

pub fn compare(first: &[Row], second: &[Row], last: Timestamp) -> Compared {
    let mut compared = Compared::default();
    let mut free: Vec<_> = second.iter().collect();
    for row in first {
        match free.iter().position(|other| same(row, other, last)) {
            Some(at) => compared.both.push((row.alert_id.clone(), free.remove(at).alert_id.clone())),
            None => compared.only_first.push(row.alert_id.clone()),
        }
    }
    compared.only_second = free.into_iter().map(|row| row.alert_id.clone()).collect();
    compared
}

fn same(a: &Row, b: &Row, last: Timestamp) -> bool {
    let related = a.group.starts_with(&b.group) || b.group.starts_with(&a.group);
    a.rule == b.rule && a.environment == b.environment && related && a.fired <= b.until(last) && b.fired <= a.until(last)
}

#[cfg(test)]
mod tests {
    use super::super::alerts::tests::{at, row};
    use super::*;

    #[test]
    fn alerts_of_one_rule_group_and_time_are_the_same_and_paired_once() {
        let mut rollup = row("a", "x", 104, 120);
        rollup.group.clear();
        let first = [row("a", "x", 10, 20), row("a", "x", 100, 110), row("b", "x", 100, 110), row("a", "y", 100, 110)];
        let second = [row("a", "x", 15, 25), rollup, row("b", "y", 100, 110)];
        let compared = compare(&first, &second, at(1000));
        assert_eq!(compared.both, [("a-x-10".into(), "a-x-15".into()), ("a-x-100".into(), "a-x-104".into())]);
        assert_eq!(compared.only_first, ["b-x-100", "a-y-100"]);
        assert_eq!(compared.only_second, ["b-y-100"]);
    }
}
