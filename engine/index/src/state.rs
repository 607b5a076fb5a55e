//! What readers see: the sealed files, the groups that grow towards the next one, and the rows that are not yet a group.
//!
//! A state never changes. A commit puts another one in its place, so a search sees one commit from its beginning to its end.

use crate::error::IndexError;
use crate::group::{Group, Meta, Source};
use crate::row::Row;
use crate::segment::Segment;
use crate::sums::Memo;
use model::time::Timestamp;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Distinct names that are listed; more are no vocabulary of people.
const NAMES_MAX: usize = 10_000;

#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Where the growing file is, or will be, for what is to be said of damage.
    pub folder: PathBuf,
    pub segments: Arc<Vec<Arc<Segment>>>,
    pub tail: Vec<Arc<Grown>>,
    /// As they were committed.
    pub fresh: Vec<Arc<Vec<Row>>>,
    pub position: u64,
}

/// A group in memory.
#[derive(Debug)]
pub(crate) struct Grown {
    pub meta: Meta,
    pub bytes: Vec<u8>,
}

/// Searches the index. Cheap to clone; each call sees the last commit.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<RwLock<Arc<State>>>,
    /// Sums of whole files, which do not change.
    memo: Arc<Mutex<Memo>>,
}

/// Names of properties, and of signals that are not built in, which some calls have; of each the first 10,000 found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub properties: BTreeSet<String>,
    pub signals: BTreeSet<String>,
}

fn keep(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < NAMES_MAX && !names.contains(name) {
        names.insert(name.to_owned());
    }
}

impl Reader {
    pub(crate) fn new(state: State) -> Self {
        Self { shared: Arc::new(RwLock::new(Arc::new(state))), memo: Arc::default() }
    }

    pub(crate) fn memo(&self) -> MutexGuard<'_, Memo> {
        self.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> Arc<State> {
        // A state is put in its place whole, so one who panicked elsewhere has left nothing half done.
        self.shared.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn put(&self, state: State) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    /// Every call up to this sequence has been indexed, or was dropped by age or size.
    pub fn position(&self) -> u64 {
        self.state().position
    }

    /// How many calls there are.
    pub fn calls(&self) -> u64 {
        let view = View::of(self.state());
        let groups: u64 = view.spots().map(|spot| u64::from(view.meta(spot).rows)).sum();
        groups + view.state.fresh.iter().map(|rows| rows.len() as u64).sum::<u64>()
    }

    /// The end of the latest call.
    pub fn latest(&self) -> Option<Timestamp> {
        let view = View::of(self.state());
        let grouped = view.spots().map(|spot| view.meta(spot).latest).max();
        grouped.max(view.fresh().map(|row| row.time).max())
    }

    /// Bytes of sealed files and of groups in memory.
    pub fn bytes(&self) -> u64 {
        let state = self.state();
        let sealed: u64 = state.segments.iter().map(|segment| segment.bytes).sum();
        sealed + state.tail.iter().map(|group| group.bytes.len() as u64).sum::<u64>()
    }

    /// The names that calls have, from the newest call on, until they are `enough`: what [`crate::Query::unknown_properties`] compares with.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn names(&self, enough: impl Fn(&Names) -> bool) -> Result<Names, IndexError> {
        let view = View::of(self.state());
        let mut names = Names::default();
        for rows in view.state.fresh.iter().rev() {
            if enough(&names) {
                break;
            }
            for row in rows.iter() {
                row.properties().for_each(|(name, _)| keep(&mut names.properties, name));
                row.further().iter().for_each(|name| keep(&mut names.signals, name));
            }
        }
        for spot in view.spots().collect::<Vec<_>>().into_iter().rev() {
            if enough(&names) {
                break;
            }
            let Some(group) = view.group(spot)? else { continue };
            group.property_names()?.for_each(|name| keep(&mut names.properties, name));
            group.further_names()?.for_each(|name| keep(&mut names.signals, name));
        }
        Ok(names)
    }

    /// Reads and checks every byte of the sealed files.
    ///
    /// # Errors
    /// The first damage found, oldest file first.
    pub fn verify(&self) -> Result<(), IndexError> {
        self.state().segments.iter().try_for_each(|segment| segment.verify())
    }
}

impl Spot {
    pub fn same_file(self, other: Self) -> bool {
        self.segment == other.segment
    }
}

/// One state while it is searched, with the file that was opened last: groups of a file are mostly asked for one after the other, and keeping all
/// files open would take thousands of descriptors.
#[derive(Debug)]
pub(crate) struct View {
    pub state: Arc<State>,
    open: RefCell<Option<(usize, Option<Arc<File>>)>>,
}

/// One group of a state; the growing ones come after all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Spot {
    segment: usize,
    group: usize,
}

impl View {
    pub fn of(state: Arc<State>) -> Self {
        Self { state, open: RefCell::new(None) }
    }

    /// In the order of their sequences.
    pub fn spots(&self) -> impl Iterator<Item = Spot> {
        let sealed = self.state.segments.iter().enumerate();
        let sealed = sealed.flat_map(|(segment, file)| (0..file.footer.groups.len()).map(move |group| Spot { segment, group }));
        sealed.chain((0..self.state.tail.len()).map(|group| Spot { segment: self.state.segments.len(), group }))
    }

    /// The sealed file that it is in; `None` for the growing ones.
    pub fn file_of(&self, spot: Spot) -> Option<&Segment> {
        self.state.segments.get(spot.segment).map(Arc::as_ref)
    }

    pub fn meta(&self, spot: Spot) -> &Meta {
        match self.state.segments.get(spot.segment) {
            Some(segment) => &segment.footer.groups[spot.group],
            None => &self.state.tail[spot.group].meta,
        }
    }

    /// `None` when its file was dropped by age or size since the search began.
    pub fn group(&self, spot: Spot) -> Result<Option<Group<'_>>, IndexError> {
        let Some(segment) = self.state.segments.get(spot.segment) else {
            let grown = &self.state.tail[spot.group];
            let after = self.state.segments.last().map_or(0, |segment| segment.footer.position);
            return Ok(Some(Group::new(&grown.meta, Source::Memory(&grown.bytes), &self.state.folder, after)));
        };
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_none_or(|(at, _)| *at != spot.segment) {
            *open = Some((spot.segment, segment.file()?.map(Arc::new)));
        }
        let file = open.as_ref().and_then(|(_, file)| file.clone());
        Ok(file.map(|file| segment.group(spot.group, file)))
    }

    /// Every row that is not yet in a group.
    pub fn fresh(&self) -> impl Iterator<Item = &Row> {
        self.state.fresh.iter().flat_map(|rows| rows.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Sizes, Writer};

    #[test]
    fn a_file_that_was_dropped_while_it_is_searched_is_no_damage() {
        let folder = tempfile::tempdir().expect("a folder");
        let sizes = Sizes { group_rows: 2, saved_rows: 4, segment_rows: 4 };
        let (mut writer, _) = Writer::open_sized(folder.path(), sizes).expect("it opens");
        for sequence in 1..=20 {
            writer.add(Row::new(sequence, Timestamp::EPOCH, 0, |_| None, |_| "x", []));
            writer.commit(sequence).expect("the disk takes it");
        }
        let view = View::of(writer.reader().state());
        assert_eq!(writer.retain(Timestamp::EPOCH, 0).expect("files go").files_dropped, 5);
        for spot in view.spots() {
            assert!(view.group(spot).expect("no damage").is_none());
        }
    }
}
