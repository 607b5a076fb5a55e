//! A sample of matching calls in which runs stay whole: for questions that need the calls themselves, such as which of a run's steps broke first.
//!
//! A run is in it or not by a hash of its `event_id` and environment, so another query's sample of the same share has the same runs.

use crate::error::IndexError;
use crate::group::Group;
use crate::keys::Text;
use crate::pack::hash;
use crate::query::Query;
use crate::row::Row;
use crate::search::Times;
use crate::state::{Reader, View};

/// Calls of a sample, in the order of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub rows: Vec<Row>,
    /// How many calls each stands for: a power of two, 1 where all are here.
    pub weight: u64,
}

/// A run's place among all of them, the same whichever query asks; a call without a run is one of its own.
fn place(environment: &str, event_id: &str, id: &str) -> u64 {
    let of = if event_id.is_empty() { id } else { event_id };
    hash(hash(0, environment.as_bytes()), of.as_bytes())
}

impl Reader {
    /// At most about `most` calls that match, runs whole.
    ///
    /// Cost: every group of these times is looked at; some 2 µs for each call that is taken.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn sample(&self, query: &Query, times: Times, most: usize) -> Result<Sample, IndexError> {
        let view = View::of(self.state());
        let mut selected = Vec::new();
        let mut total = view.fresh().filter(|row| times.contains(row.time) && query.matches(row)).count();
        for spot in view.spots().filter(|spot| times.overlaps(query, view.meta(*spot))) {
            let Some(group) = view.group(spot)? else { continue };
            let rows = times.select(query, &group)?;
            total += rows.count();
            if !rows.is_empty() {
                selected.push((spot, rows));
            }
        }
        let weight = (total.div_ceil(most.max(1)) as u64).next_power_of_two();
        let takes = |place: u64| place.is_multiple_of(weight);
        let mut rows = Vec::new();
        for (spot, found) in selected {
            let Some(group) = view.group(spot)? else { continue };
            let places = Places::of(&group)?;
            let taken: Vec<usize> = found.rows().filter(|row| takes(places.of_row(*row))).collect();
            rows.extend(group.take(&taken)?);
        }
        let fresh = view.fresh().filter(|row| times.contains(row.time) && query.matches(row));
        let of = |row: &Row| place(row.text(Text::Environment), row.text(Text::EventId), row.text(Text::Id));
        rows.extend(fresh.filter(|row| takes(of(row))).cloned());
        Ok(Sample { rows, weight })
    }
}

/// The places of a group's rows.
struct Places {
    environments: Option<crate::group::Texts>,
    events: Option<crate::group::Texts>,
    ids: Option<crate::group::Texts>,
}

impl Places {
    fn of(group: &Group<'_>) -> Result<Self, IndexError> {
        let texts = |text: Text| group.texts(&text.into());
        Ok(Self { environments: texts(Text::Environment)?, events: texts(Text::EventId)?, ids: texts(Text::Id)? })
    }

    fn of_row(&self, row: usize) -> u64 {
        fn text(texts: &Option<crate::group::Texts>, row: usize) -> &str {
            texts.as_ref().and_then(|texts| texts.get(row)).unwrap_or("")
        }
        place(text(&self.environments, row), text(&self.events, row), text(&self.ids, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Sizes, Writer};
    use model::time::Timestamp;
    use std::collections::BTreeMap;

    #[test]
    fn runs_are_whole_or_not_there_whether_they_are_on_disk_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut writer, _) = Writer::open_sized(folder.path(), Sizes { group_rows: 64, saved_rows: 256, segment_rows: 512 }).expect("it opens");
        for sequence in 1..=4_000_u64 {
            let (id, event) = (format!("c{sequence}"), format!("e{}", sequence % 1000));
            let text = |text: Text| match text {
                Text::Id => id.as_str(),
                Text::EventId => event.as_str(),
                Text::Environment => "x",
                _ => "",
            };
            writer.add(Row::new(sequence, Timestamp::EPOCH, 0, |_| None, text, []));
            if sequence.is_multiple_of(100) {
                writer.commit(sequence).expect("the disk takes it");
            }
        }
        let reader = writer.reader();
        let sampled = reader.sample(&Query::default(), Times::ALL, 500).expect("no damage");
        assert_eq!(sampled.weight, 8);
        assert!((300..=700).contains(&sampled.rows.len()), "{}", sampled.rows.len());
        let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
        sampled.rows.iter().for_each(|row| *runs.entry(row.text(Text::EventId)).or_default() += 1);
        assert!(runs.values().all(|calls| *calls == 4), "{runs:?}");
        assert!(sampled.rows.is_sorted_by_key(|row| row.sequence));
        let all = reader.sample(&Query::default(), Times::ALL, 4_000).expect("no damage");
        assert_eq!((all.weight, all.rows.len()), (1, 4_000));
    }
}
