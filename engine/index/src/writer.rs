//! The one who writes: takes rows, shows them at each commit, and puts them on disk in whole files.
//!
//! A commit shows rows at once and is durable only when enough rows have come together, because losing what is in memory loses nothing: the position
//! on disk is that of the rows on disk, and the caller reads the stream again from there. That is what makes a commit every second cheap at any rate.
//!
//! It owns the folder (by a lock that ends with the process), the rows since the last group, and the groups since the last sealed file: at most
//! [`Sizes::segment_rows`] rows, some 25 MB, or 64 MiB of them where they are long.

use crate::error::{IndexError, io_at};
use crate::group::{Group, Meta, Source, encode};
use crate::row::Row;
use crate::segment::{Footer, Segment, list};
use crate::state::{Grown, Reader, State};
use model::time::{Span, Timestamp};
use std::fs::{File, TryLockError};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A group is cut sooner where its rows weigh this much: properties may be of any length.
const GROUP_MAX_BYTES: usize = 8 << 20;
/// A file is sealed sooner where it is this large, because until then it is in memory.
const SEGMENT_MAX_BYTES: usize = 64 << 20;
/// A file is sealed sooner where its calls span this much time, so that age drops about a day at once where little happens.
const SEGMENT_MAX_SPAN: Span = Span::from_secs(86_400);

/// After how many rows what happens. The defaults were measured; tests use small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A group: large enough that a dictionary pays, small enough that a result's row is found in a millisecond.
    pub group_rows: usize,
    /// The growing file is written again after as many: what a kill leaves to be read from the stream again, about half a second's work.
    pub saved_rows: usize,
    /// A file is sealed and another one begins.
    pub segment_rows: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { group_rows: 4_096, saved_rows: 65_536, segment_rows: 262_144 }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: the stream is to be indexed from its beginning, or from wherever the caller wants calls to be found.
    Fresh,
    /// Every call up to this sequence; the next to be added is the one after it.
    Resumed(u64),
}

/// What [`Writer::retain`] dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    pub files_dropped: usize,
    pub calls_dropped: u64,
    pub bytes_left: u64,
}

#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    sizes: Sizes,
    reader: Reader,
    lock: File,
    /// Where the growing file begins.
    after: u64,
    /// The sequence of the last row that was added, or the position, whichever is greater.
    last: u64,
    pending: Vec<Row>,
    /// Of the fresh rows of the state.
    fresh_rows: usize,
    fresh_bytes: usize,
    /// Committed and not on disk.
    unsaved: usize,
}

impl Drop for Writer {
    /// Closing the file is not enough: a process that is just being started elsewhere in this one has it open for a moment, too.
    fn drop(&mut self) {
        // Where it cannot be unlocked, it is when the last who has it open closes it.
        let _ = self.lock.unlock();
    }
}

impl Writer {
    /// Opens the index in `folder`, which is made when it is not there.
    ///
    /// # Errors [`IndexError::Locked`] while another process has it; [`IndexError::Damaged`] when a file is not as it was written or is gone: then
    /// [`crate::discard`] it, open again, and index the stream from there on. Footers and the growing file are checked; [`Reader::verify`] checks
    /// all.
    pub fn open(folder: &Path) -> Result<(Self, Opened), IndexError> {
        Self::open_sized(folder, Sizes::default())
    }

    /// # Errors
    /// Those of [`Writer::open`].
    pub fn open_sized(folder: &Path, sizes: Sizes) -> Result<(Self, Opened), IndexError> {
        std::fs::create_dir_all(folder).map_err(io_at(folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(io_at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IndexError::Locked { folder: folder.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io_at(&lock_path)(error)),
        }
        let mut segments = list(folder)?;
        let found = segments.last().map_or(Opened::Fresh, |last| Opened::Resumed(last.footer.position));
        let position = segments.last().map_or(0, |last| last.footer.position);
        let growing = segments.pop_if(|last| !last.footer.sealed);
        let after = growing.as_ref().map_or(position, |growing| growing.footer.after);
        let mut state = State {
            folder: folder.to_owned(),
            segments: Arc::new(segments.into_iter().map(Arc::new).collect()),
            tail: Vec::new(),
            fresh: Vec::new(),
            position,
        };
        let mut fresh = Vec::new();
        if let Some(growing) = growing {
            let groups = growing.load()?.into_iter().zip(&growing.footer.groups);
            state.tail = groups.map(|(bytes, meta)| Arc::new(Grown { meta: meta.at(0), bytes })).collect();
            // The last group may have been saved before it was full; it goes on filling.
            if let Some(last) = state.tail.pop_if(|last| (last.meta.rows as usize) < sizes.group_rows) {
                let group = Group::new(&last.meta, Source::Memory(&last.bytes), &growing.path, growing.footer.after);
                fresh = group.take(&(0..group.rows()).collect::<Vec<_>>())?;
            }
        }
        let (fresh_rows, fresh_bytes) = (fresh.len(), fresh.iter().map(Row::weight).sum());
        if !fresh.is_empty() {
            state.fresh.push(Arc::new(fresh));
        }
        let reader = Reader::new(state);
        let writer =
            Self { folder: folder.to_owned(), sizes, reader, lock, after, last: position, pending: Vec::new(), fresh_rows, fresh_bytes, unsaved: 0 };
        Ok((writer, found))
    }

    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Takes a row; it is seen after the next commit, and until then in memory with no bound but the caller's batches.
    ///
    /// False, and nothing happens, when its sequence is at or below one that was taken before: the stream
    /// may be read again from anywhere.
    pub fn add(&mut self, row: Row) -> bool {
        if !self.is_new(&row) {
            return false;
        }
        self.last = row.sequence;
        self.pending.push(row);
        true
    }

    /// Whether [`Writer::add`] would take it.
    pub fn is_new(&self, row: &Row) -> bool {
        row.sequence > self.last
    }

    /// Shows what was added. Everything up to `position` has now been seen, calls or not; one below the last row added is taken for that row's.
    ///
    /// # Errors
    /// When a file cannot be written. The rows are shown all the same and kept in memory, and the next commit tries again: whoever goes on adding for
    /// long while the disk is full fills the memory instead.
    pub fn commit(&mut self, position: u64) -> Result<(), IndexError> {
        let mut state = (*self.reader.state()).clone();
        self.last = self.last.max(position);
        state.position = self.last;
        if !self.pending.is_empty() {
            self.fresh_rows += self.pending.len();
            self.fresh_bytes += self.pending.iter().map(Row::weight).sum::<usize>();
            self.unsaved += self.pending.len();
            state.fresh.push(Arc::new(mem::take(&mut self.pending)));
        }
        self.group(&mut state, false);
        self.reader.put(state);
        let state = self.reader.state();
        let rows = self.fresh_rows + state.tail.iter().map(|group| group.meta.rows as usize).sum::<usize>();
        let bytes: usize = state.tail.iter().map(|group| group.bytes.len()).sum();
        let span = state.tail.iter().map(|group| group.meta.latest).max().zip(state.tail.iter().map(|group| group.meta.earliest).min());
        let long = span.is_some_and(|(latest, earliest)| latest.since(earliest) >= SEGMENT_MAX_SPAN);
        if rows >= self.sizes.segment_rows || bytes >= SEGMENT_MAX_BYTES || long {
            self.seal()
        } else if self.unsaved >= self.sizes.saved_rows {
            self.save()
        } else {
            Ok(())
        }
    }

    /// Puts everything that was committed on disk: before the process ends, or with a checkpoint. Cost: the growing file is written, at most 64 MiB.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&mut self) -> Result<(), IndexError> {
        let state = self.reader.state();
        self.write(&state, false)?;
        self.unsaved = 0;
        Ok(())
    }

    fn seal(&mut self) -> Result<(), IndexError> {
        let mut state = (*self.reader.state()).clone();
        let (rows, bytes) = (self.fresh_rows, self.fresh_bytes);
        self.group(&mut state, true);
        let sealed = self.write(&state, true);
        // What is not on disk stays as it was, and is tried again.
        (self.fresh_rows, self.fresh_bytes) = (rows, bytes);
        let mut segments = (*state.segments).clone();
        segments.push(Arc::new(sealed?));
        (self.fresh_rows, self.fresh_bytes, self.unsaved, self.after) = (0, 0, 0, state.position);
        state.segments = Arc::new(segments);
        state.tail.clear();
        self.reader.put(state);
        Ok(())
    }

    /// Makes groups of the fresh rows: of all, or of those that are enough for one.
    fn group(&mut self, state: &mut State, all: bool) {
        if !all && self.fresh_rows < self.sizes.group_rows && self.fresh_bytes < GROUP_MAX_BYTES {
            return;
        }
        let chunks = mem::take(&mut state.fresh);
        let mut group: Vec<&Row> = Vec::with_capacity(self.sizes.group_rows);
        let mut weight = 0;
        let mut grown = |group: &mut Vec<&Row>| {
            let (bytes, meta) = encode(group);
            state.tail.push(Arc::new(Grown { meta, bytes }));
            group.clear();
        };
        for row in chunks.iter().flat_map(|chunk| chunk.iter()) {
            group.push(row);
            weight += row.weight();
            if group.len() >= self.sizes.group_rows || weight >= GROUP_MAX_BYTES {
                grown(&mut group);
                weight = 0;
            }
        }
        if all && !group.is_empty() {
            grown(&mut group);
            weight = 0;
        }
        (self.fresh_rows, self.fresh_bytes) = (group.len(), weight);
        if !group.is_empty() {
            state.fresh.push(Arc::new(group.into_iter().cloned().collect()));
        }
    }

    fn write(&self, state: &State, sealed: bool) -> Result<Segment, IndexError> {
        let fresh: Vec<&Row> = state.fresh.iter().flat_map(|rows| rows.iter()).collect();
        let rest = (!fresh.is_empty()).then(|| encode(&fresh));
        let tail = state.tail.iter().map(|group| (group.bytes.as_slice(), &group.meta));
        let mut start = 0;
        let placed = tail.chain(rest.iter().map(|(bytes, meta)| (bytes.as_slice(), meta))).map(|(bytes, meta)| {
            let meta = meta.at(start);
            start += bytes.len() as u64;
            (bytes, meta)
        });
        let (bytes, groups): (Vec<_>, Vec<_>) = placed.unzip();
        Segment::write(&self.folder, Footer { after: self.after, position: state.position, sealed, groups }, &bytes)
    }

    /// Drops whole files, oldest first: those whose calls are all older than `oldest`, and then as many as leave at most `max_bytes`. The growing
    /// file is dropped by age alone. Calls may so be found for as long as a file spans after they are too old; whoever must not show them asks with a
    /// time range.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn retain(&mut self, oldest: Timestamp, max_bytes: u64) -> Result<Retained, IndexError> {
        let mut state = (*self.reader.state()).clone();
        let mut bytes_left = self.reader.bytes();
        let old = |meta: &Meta| meta.latest < oldest;
        let mut dropped = 0;
        for segment in state.segments.iter() {
            if !segment.footer.groups.iter().all(old) && bytes_left <= max_bytes {
                break;
            }
            dropped += 1;
            bytes_left -= segment.bytes;
        }
        let mut segments = (*state.segments).clone();
        let gone: Vec<Arc<Segment>> = segments.drain(..dropped).collect();
        let rows = |meta: &Meta| u64::from(meta.rows);
        let mut retained =
            Retained { files_dropped: dropped, calls_dropped: gone.iter().flat_map(|segment| &segment.footer.groups).map(rows).sum(), bytes_left };
        let fresh_old = state.fresh.iter().flat_map(|rows| rows.iter()).all(|row| row.time < oldest);
        let growing = state.tail.len() + state.fresh.len() > 0;
        let drop_growing = segments.is_empty() && growing && fresh_old && state.tail.iter().all(|group| old(&group.meta));
        state.segments = Arc::new(segments);
        if drop_growing {
            retained.calls_dropped += state.tail.iter().map(|group| rows(&group.meta)).sum::<u64>() + self.fresh_rows as u64;
            retained.bytes_left = 0;
            (state.tail, state.fresh) = (Vec::new(), Vec::new());
            (self.fresh_rows, self.fresh_bytes) = (0, 0);
        }
        self.reader.put(state);
        // The oldest first, so that a crash leaves no hole.
        gone.iter().try_for_each(|segment| segment.remove())?;
        if drop_growing {
            self.save()?;
        }
        Ok(retained)
    }
}
