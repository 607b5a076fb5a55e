//! Some thousands of rows, column by column: the unit that is encoded once, checked, searched and copied whole.
//!
//! A group is complete in itself: its chunks (one a column, with a dictionary of its texts), a filter that tells which texts are not in it, and a
//! directory. A search first asks the filter, then reads only the columns that it needs. Chunks, blocks of the filter and the directory carry a check
//! each, so that a disk's mistake is said and never shown. Which file a group is in is [`crate::segment`]'s business.

use crate::error::{Damage, IndexError, io_at};
use crate::keys::{Number, Text};
use crate::pack::{Bits, Bytes, FastMap, Packed, check, hash, pack, push_count};
use crate::row::Row;
use model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Of one chunk's texts: far above what a group may weigh, so whatever says more is not as it was written.
const TEXTS_MAX_BYTES: usize = 1 << 28;
/// Texts below are not worth compressing.
const COMPRESSED_MIN_BYTES: usize = 128;
/// A column that fewer than one row in so many has lists its rows.
const SPARSE: usize = 8;
const BLOCK_BYTES: usize = 64;
const BLOCK_BITS: u64 = 480;
/// Of the filter, for each text: with six probes in one block, one in about a hundred texts that are not there seems to be.
const BITS_PER_TEXT: usize = 10;

/// What is known of a group without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Where it begins in its file, and how long it is.
    pub start: u64,
    pub bytes: u32,
    /// Where filter and directory begin in the group; the directory ends it.
    filter: u32,
    directory: u32,
    directory_check: u32,
    pub rows: u32,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub earliest: Timestamp,
    pub latest: Timestamp,
    /// The greatest latency and cost.
    pub slowest: Option<u64>,
    pub costliest: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Column {
    Sequence,
    Time,
    /// The bits of the built-in signals.
    Signals,
    Text(u8),
    Number(u8),
    /// A signal that is not built in: a column of empty texts.
    Further(String),
    Property(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    column: Column,
    start: u32,
    bytes: u32,
    check: u32,
}

impl Meta {
    /// The same group, beginning elsewhere.
    pub fn at(&self, start: u64) -> Self {
        Self { start, ..self.clone() }
    }
}

impl Column {
    /// Of the filter's hashes, so that the same text under two keys is two.
    fn seed(&self) -> u64 {
        match self {
            Self::Text(at) => u64::from(*at) + 1,
            Self::Property(name) => hash(1_000, name.as_bytes()),
            Self::Sequence | Self::Time | Self::Signals | Self::Number(_) | Self::Further(_) => 0,
        }
    }

    /// What the filter is asked with, for one text of this column.
    pub fn mark(&self, text: &str) -> u64 {
        hash(self.seed(), text.as_bytes())
    }
}

impl From<Text> for Column {
    fn from(text: Text) -> Self {
        Self::Text(text as u8)
    }
}

impl From<Number> for Column {
    fn from(number: Number) -> Self {
        Self::Number(number as u8)
    }
}

/// The column of a key's texts while it is built.
#[derive(Default)]
struct Building<'r> {
    /// Of the rows that have one, ascending. A hostile sender can make more columns than rows, so a column costs what is in it.
    codes: Vec<(u32, u32)>,
    /// Each text once, in the order in which they came.
    texts: Vec<&'r str>,
    by_text: FastMap<&'r str, u32>,
}

impl<'r> Building<'r> {
    fn add(&mut self, row: usize, text: &'r str) {
        let next = self.texts.len() as u32 + 1;
        // Neighbours often agree, and comparing is cheaper than looking up.
        let code = match self.codes.last() {
            Some(&(_, before)) if self.texts[before as usize - 1] == text => before,
            _ => *self.by_text.entry(text).or_insert(next),
        };
        if code == next {
            self.texts.push(text);
        }
        self.codes.push((row as u32, code));
    }

    fn write(&self, rows: usize, to: &mut Vec<u8>) {
        push_count(self.texts.len(), to);
        let mut dictionary = Vec::with_capacity(self.texts.iter().map(|text| text.len() + 2).sum());
        for text in &self.texts {
            push_count(text.len(), &mut dictionary);
        }
        for text in &self.texts {
            dictionary.extend_from_slice(text.as_bytes());
        }
        push_count(dictionary.len(), to);
        let compressed = if dictionary.len() < COMPRESSED_MIN_BYTES { Vec::new() } else { lz4_flex::block::compress(&dictionary) };
        // Expanding a dictionary costs more than all else of a look at it, so it has to save half.
        let small = !compressed.is_empty() && compressed.len() < dictionary.len() / 2;
        let stored = if small { &compressed } else { &dictionary };
        push_count(stored.len(), to);
        to.extend_from_slice(stored);
        let sparse = self.codes.len() * SPARSE < rows;
        to.push(u8::from(sparse));
        if sparse {
            let (rows, codes): (Vec<u64>, Vec<u64>) = self.codes.iter().map(|&(row, code)| (u64::from(row), u64::from(code))).unzip();
            push_count(rows.len(), to);
            pack(&rows, to);
            pack(&codes, to);
        } else {
            let mut codes = vec![0; rows];
            self.codes.iter().for_each(|&(row, code)| codes[row as usize] = u64::from(code));
            pack(&codes, to);
        }
    }
}

/// Encodes `rows`, in ascending order of their sequences and at least one; `start` of what is returned is 0.
pub(crate) fn encode(rows: &[&Row]) -> (Vec<u8>, Meta) {
    let count = rows.len();
    let mut to = Vec::with_capacity(count * 128);
    let mut entries = Vec::new();
    let mut marks = Vec::new();
    let mut end = |to: &Vec<u8>, column: Column, start: usize| {
        entries.push(Entry { column, start: start as u32, bytes: (to.len() - start) as u32, check: check(&to[start..]) });
    };
    let first = rows[0].sequence;
    to.extend_from_slice(&first.to_le_bytes());
    // Mostly nothing is missing between two calls, and then this takes no bits.
    let gaps: Vec<u64> = rows.iter().zip(0..).map(|(row, i)| row.sequence - first - i).collect();
    pack(&gaps, &mut to);
    end(&to, Column::Sequence, 0);

    let mut numbers = |to: &mut Vec<u8>, column: Column, of: &dyn Fn(&Row) -> Option<u64>| {
        let least = rows.iter().filter_map(|row| of(row)).min()?;
        let start = to.len();
        to.extend_from_slice(&least.to_le_bytes());
        let codes: Vec<u64> = rows.iter().map(|row| of(row).map_or(0, |number| number - least + 1)).collect();
        pack(&codes, to);
        end(to, column, start);
        rows.iter().filter_map(|row| of(row)).max()
    };
    let time = |row: &Row| ascending(row.time);
    numbers(&mut to, Column::Time, &|row| Some(time(row)));
    numbers(&mut to, Column::Signals, &|row| Some(u64::from(row.mask())));
    let (mut slowest, mut costliest) = (None, None);
    for number in Number::all() {
        let greatest = numbers(&mut to, number.into(), &|row| row.number(number));
        match number {
            Number::LatencyMs => slowest = greatest,
            Number::CostUsd => costliest = greatest,
            _ => {}
        }
    }

    let mut texts = |to: &mut Vec<u8>, column: Column, building: &Building<'_>| {
        if building.codes.is_empty() {
            return;
        }
        let start = to.len();
        building.write(count, to);
        let seed = column.seed();
        if seed != 0 {
            marks.extend(building.texts.iter().map(|text| hash(seed, text.as_bytes())));
        }
        end(to, column, start);
    };
    for text in Text::all() {
        let mut building = Building::default();
        for (at, row) in rows.iter().enumerate() {
            let text = row.text(text);
            if !text.is_empty() {
                building.add(at, text);
            }
        }
        texts(&mut to, text.into(), &building);
    }
    let mut named: BTreeMap<(bool, &str), Building<'_>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        let further = row.further().iter().map(|name| (false, name.as_str(), ""));
        for (property, name, text) in further.chain(row.properties().map(|(name, text)| (true, name, text))) {
            named.entry((property, name)).or_default().add(at, text);
        }
    }
    for ((property, name), building) in &named {
        let column = if *property { Column::Property((*name).to_owned()) } else { Column::Further((*name).to_owned()) };
        texts(&mut to, column, building);
    }

    let filter = to.len() as u32;
    write_filter(&marks, &mut to);
    let directory = to.len() as u32;
    entries.sort_by(|a, b| a.column.cmp(&b.column));
    let written = postcard::to_allocvec(&entries).expect("a directory is numbers and texts, which postcard writes");
    to.extend_from_slice(&written);
    let meta = Meta {
        start: 0,
        bytes: to.len() as u32,
        filter,
        directory,
        directory_check: check(&written),
        rows: count as u32,
        first_sequence: first,
        last_sequence: rows[count - 1].sequence,
        earliest: rows.iter().map(|row| row.time).min().unwrap_or_default(),
        latest: rows.iter().map(|row| row.time).max().unwrap_or_default(),
        slowest,
        costliest,
    };
    (to, meta)
}

/// Times as numbers in the same order.
fn ascending(time: Timestamp) -> u64 {
    (time.millis() as u64) ^ (1 << 63)
}

fn write_filter(marks: &[u64], to: &mut Vec<u8>) {
    let blocks = marks.len() * BITS_PER_TEXT / BLOCK_BITS as usize + 1;
    let start = to.len();
    to.resize(start + blocks * BLOCK_BYTES, 0);
    let filter = &mut to[start..];
    for mark in marks {
        let block = block_of(*mark, blocks) * BLOCK_BYTES;
        for bit in probes(*mark) {
            filter[block + bit / 8] |= 1 << (bit % 8);
        }
    }
    for block in filter.chunks_exact_mut(BLOCK_BYTES) {
        let (bits, sum) = block.split_at_mut(BLOCK_BYTES - 4);
        sum.copy_from_slice(&check(bits).to_le_bytes());
    }
}

fn block_of(mark: u64, blocks: usize) -> usize {
    (((mark >> 32) * blocks as u64) >> 32) as usize
}

fn probes(mark: u64) -> [usize; 6] {
    let bits = mark.wrapping_mul(0x9fb2_1c65_1e98_df25);
    let bits = bits ^ (bits >> 32);
    std::array::from_fn(|probe| ((((bits >> (probe * 10)) & 1_023) * BLOCK_BITS) >> 10) as usize)
}

/// Where the bytes of groups are.
#[derive(Clone, Debug)]
pub(crate) enum Source<'s> {
    Memory(&'s [u8]),
    File(Arc<File>),
}

/// A group that is being read; the directory is read when the first column is.
#[derive(Debug)]
pub(crate) struct Group<'s> {
    pub meta: &'s Meta,
    source: Source<'s>,
    file: &'s Path,
    /// Where its file begins, for what is to be said of damage.
    after: u64,
    directory: OnceCell<Vec<Entry>>,
}

/// A column of texts.
#[derive(Debug)]
pub(crate) struct Texts {
    dictionary: String,
    ends: Vec<u32>,
    codes: Codes,
}

/// Which text of the dictionary a row has, from 1; 0 is none.
#[derive(Debug)]
enum Codes {
    Dense(Packed),
    /// Row and code, ascending.
    Sparse(Vec<(u32, u32)>),
}

impl Texts {
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len()).map(|at| self.entry(at))
    }

    fn entry(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.dictionary[start as usize..self.ends[at] as usize]
    }

    /// 0 is none; others are one more than the place of the text in [`Texts::entries`].
    pub fn code(&self, row: usize) -> u32 {
        let code = match &self.codes {
            Codes::Dense(codes) => codes.get(row) as u32,
            Codes::Sparse(codes) => codes.binary_search_by_key(&(row as u32), |(row, _)| *row).map_or(0, |at| codes[at].1),
        };
        // A check has held, so this never happens; and if it does, no other text is shown for it.
        if code as usize <= self.ends.len() { code } else { 0 }
    }

    /// `None` when the row has none.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.code(row).checked_sub(1).map(|at| self.entry(at as usize))
    }

    /// The rows of `within` whose text holds; each distinct text is asked about once.
    pub fn rows_where(&self, within: &Bits, holds: impl Fn(&str) -> bool) -> Bits {
        let table: Vec<bool> = std::iter::once(false).chain(self.entries().map(holds)).collect();
        if !table.contains(&true) {
            return Bits::none(within.len());
        }
        match &self.codes {
            Codes::Dense(codes) => within.among(|row| table.get(codes.get(row) as usize).copied().unwrap_or(false)),
            Codes::Sparse(codes) => {
                let mut bits = Bits::none(within.len());
                let hit = codes.iter().filter(|(_, code)| table.get(*code as usize).copied().unwrap_or(false));
                hit.for_each(|(row, _)| bits.set(*row as usize));
                bits.and(within);
                bits
            }
        }
    }

    pub fn present(&self, within: &Bits) -> Bits {
        self.rows_where(within, |_| true)
    }
}

/// A column of numbers: code 0 is none, and others are one more than what is over the least.
#[derive(Debug)]
pub(crate) struct Numbers {
    least: u64,
    codes: Packed,
}

/// When each call ended.
#[derive(Debug)]
pub(crate) struct Moments(Numbers);

impl Moments {
    pub fn get(&self, row: usize) -> Timestamp {
        let millis = self.0.get(row).map(|number| (number ^ (1 << 63)) as i64);
        // Every row has a time that was one when it was written, and a check has held.
        millis.and_then(Timestamp::from_millis).unwrap_or_default()
    }
}

/// Where in the stream each call is.
#[derive(Debug)]
pub(crate) struct Sequences {
    first: u64,
    gaps: Packed,
}

impl Sequences {
    pub fn get(&self, row: usize) -> u64 {
        self.first.wrapping_add(self.gaps.get(row)).wrapping_add(row as u64)
    }
}

impl Numbers {
    pub fn get(&self, row: usize) -> Option<u64> {
        self.codes.get(row).checked_sub(1).map(|over| self.least.wrapping_add(over))
    }
}

impl<'s> Group<'s> {
    pub fn new(meta: &'s Meta, source: Source<'s>, file: &'s Path, after: u64) -> Self {
        Self { meta, source, file, after, directory: OnceCell::new() }
    }

    pub fn rows(&self) -> usize {
        self.meta.rows as usize
    }

    fn damaged(&self, what: &str) -> IndexError {
        let sequences = format!("calls {} to {}", self.meta.first_sequence, self.meta.last_sequence);
        Damage { file: self.file.to_owned(), what: format!("{what} of {sequences} is not as it was written"), rebuild_after: self.after }.into()
    }

    fn read(&self, start: usize, bytes: usize) -> Result<Cow<'s, [u8]>, IndexError> {
        match &self.source {
            Source::Memory(all) => {
                let at = self.meta.start as usize + start;
                all.get(at..at + bytes).map(Cow::Borrowed).ok_or_else(|| self.damaged("the end"))
            }
            Source::File(file) => {
                let mut read = vec![0; bytes];
                match file.read_exact_at(&mut read, self.meta.start + start as u64) {
                    Ok(()) => Ok(Cow::Owned(read)),
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(self.damaged("the end")),
                    Err(error) => Err(io_at(self.file)(error)),
                }
            }
        }
    }

    /// Whether any of these marks may be of a text in this group; certainly not, where it says no.
    pub fn may_hold(&self, marks: &[u64]) -> Result<bool, IndexError> {
        let blocks = (self.meta.directory - self.meta.filter) as usize / BLOCK_BYTES;
        for mark in marks {
            let block = self.read(self.meta.filter as usize + block_of(*mark, blocks) * BLOCK_BYTES, BLOCK_BYTES)?;
            let (bits, sum) = block.split_at(BLOCK_BYTES - 4);
            if check(bits).to_le_bytes() != sum {
                return Err(self.damaged("the filter"));
            }
            if probes(*mark).into_iter().all(|bit| bits[bit / 8] & (1 << (bit % 8)) != 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn directory(&self) -> Result<&[Entry], IndexError> {
        if let Some(entries) = self.directory.get() {
            return Ok(entries);
        }
        let bytes = self.read(self.meta.directory as usize, (self.meta.bytes - self.meta.directory) as usize)?;
        let entries = Some(bytes).filter(|bytes| check(bytes) == self.meta.directory_check);
        let entries: Option<Vec<Entry>> = entries.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        let entries = entries.ok_or_else(|| self.damaged("the directory"))?;
        Ok(self.directory.get_or_init(|| entries))
    }

    /// The names of the properties that calls of this group have.
    pub fn property_names(&self) -> Result<impl Iterator<Item = &str>, IndexError> {
        let properties = self.directory()?.iter();
        Ok(properties.filter_map(|entry| if let Column::Property(name) = &entry.column { Some(name.as_str()) } else { None }))
    }

    /// The names of the signals beside the built-in ones that hold of calls of this group.
    pub fn further_names(&self) -> Result<impl Iterator<Item = &str>, IndexError> {
        let further = self.directory()?.iter();
        Ok(further.filter_map(|entry| if let Column::Further(name) = &entry.column { Some(name.as_str()) } else { None }))
    }

    fn chunk(&self, column: &Column) -> Result<Option<Cow<'s, [u8]>>, IndexError> {
        let entries = self.directory()?;
        let Ok(at) = entries.binary_search_by(|entry| entry.column.cmp(column)) else { return Ok(None) };
        let entry = &entries[at];
        let chunk = self.read(entry.start as usize, entry.bytes as usize)?;
        if check(&chunk) != entry.check { Err(self.damaged(&format!("column {column:?}"))) } else { Ok(Some(chunk)) }
    }

    /// `None` when no row has any.
    pub fn texts(&self, column: &Column) -> Result<Option<Texts>, IndexError> {
        let Some(chunk) = self.chunk(column)? else { return Ok(None) };
        texts(&chunk, self.rows()).map(Some).ok_or_else(|| self.damaged(&format!("column {column:?}")))
    }

    /// `None` when no row has any.
    pub fn numbers(&self, column: &Column) -> Result<Option<Numbers>, IndexError> {
        let Some(chunk) = self.chunk(column)? else { return Ok(None) };
        let mut from = Bytes(&chunk);
        let read = from.number().zip(from.packed(self.rows()));
        let (least, codes) = read.ok_or_else(|| self.damaged(&format!("column {column:?}")))?;
        Ok(Some(Numbers { least, codes }))
    }

    fn every(&self, column: &Column) -> Result<Numbers, IndexError> {
        self.numbers(column)?.ok_or_else(|| self.damaged(&format!("column {column:?}")))
    }

    pub fn times(&self) -> Result<Moments, IndexError> {
        self.every(&Column::Time).map(Moments)
    }

    pub fn signals(&self) -> Result<Vec<u32>, IndexError> {
        let numbers = self.every(&Column::Signals)?;
        Ok((0..self.rows()).map(|row| numbers.get(row).unwrap_or(0) as u32).collect())
    }

    pub fn sequences(&self) -> Result<Sequences, IndexError> {
        let chunk = self.chunk(&Column::Sequence)?.ok_or_else(|| self.damaged("column Sequence"))?;
        let mut from = Bytes(&chunk);
        let read = from.number().zip(from.packed(self.rows()));
        let (first, gaps) = read.ok_or_else(|| self.damaged("column Sequence"))?;
        Ok(Sequences { first, gaps })
    }

    /// These rows, whole. Cost: the group is read whole, some 400 KB.
    pub fn take(&self, rows: &[usize]) -> Result<Vec<Row>, IndexError> {
        let (sequences, times, signals) = (self.sequences()?, self.times()?, self.signals()?);
        let numbers = Number::all().map(|number| self.numbers(&number.into())).collect::<Result<Vec<_>, _>>()?;
        let known = Text::all().map(|text| self.texts(&text.into())).collect::<Result<Vec<_>, _>>()?;
        let mut further = Vec::new();
        let mut properties = Vec::new();
        for entry in self.directory()? {
            match &entry.column {
                Column::Property(name) => properties.extend(self.texts(&entry.column)?.map(|texts| (name.as_str(), texts))),
                Column::Further(name) => further.extend(self.texts(&entry.column)?.map(|texts| (name, texts))),
                _ => {}
            }
        }
        let row = |row: usize| {
            let number = |number: Number| numbers[number as usize].as_ref().and_then(|numbers| numbers.get(row));
            let text = |text: Text| known[text as usize].as_ref().and_then(|texts| texts.get(row)).unwrap_or("");
            let properties = properties.iter().filter_map(|(name, texts)| Some((*name, texts.get(row)?)));
            let further = further.iter().filter(|(_, texts)| texts.code(row) > 0).map(|(name, _)| (*name).clone());
            Row::new(sequences.get(row), times.get(row), signals[row], number, text, properties).with_further(further.collect())
        };
        Ok(rows.iter().map(|at| row(*at)).collect())
    }

    /// Reads everything there is, so that damage is found before someone searches.
    pub fn verify(&self) -> Result<(), IndexError> {
        let blocks = (self.meta.directory - self.meta.filter) as usize / BLOCK_BYTES;
        // One mark for each block: its number is in the upper half.
        let marks: Vec<u64> = (0..blocks as u64).map(|block| ((block << 32).div_ceil(blocks as u64)) << 32).collect();
        for mark in marks {
            self.may_hold(&[mark])?;
        }
        for entry in self.directory()? {
            match &entry.column {
                Column::Sequence => drop(self.sequences()?),
                Column::Time => drop(self.times()?),
                Column::Signals | Column::Number(_) => drop(self.numbers(&entry.column)?),
                Column::Text(_) | Column::Further(_) | Column::Property(_) => drop(self.texts(&entry.column)?),
            }
        }
        Ok(())
    }
}

fn texts(chunk: &[u8], rows: usize) -> Option<Texts> {
    let mut from = Bytes(chunk);
    let count = from.count()?;
    let size = from.count().filter(|size| *size <= TEXTS_MAX_BYTES)?;
    let stored_size = from.count()?;
    let stored = from.take(stored_size)?;
    let dictionary = if stored.len() == size { Cow::Borrowed(stored) } else { Cow::Owned(lz4_flex::block::decompress(stored, size).ok()?) };
    let mut lengths = Bytes(&dictionary);
    let mut ends = Vec::with_capacity(count.min(rows));
    let mut end = 0usize;
    for _ in 0..count {
        end = end.checked_add(lengths.count()?)?;
        ends.push(u32::try_from(end).ok()?);
    }
    let dictionary = std::str::from_utf8(lengths.0).ok().filter(|texts| texts.len() == end)?.to_owned();
    if !ends.iter().all(|end| dictionary.is_char_boundary(*end as usize)) {
        return None;
    }
    let codes = if from.byte()? == 0 {
        Codes::Dense(from.packed(rows)?)
    } else {
        let present = from.count().filter(|present| *present <= rows)?;
        let (at, packed) = (from.packed(present)?, from.packed(present)?);
        let row = |i| u32::try_from(at.get(i)).ok().filter(|row| (*row as usize) < rows);
        Codes::Sparse((0..present).map(|i| Some((row(i)?, packed.get(i) as u32))).collect::<Option<Vec<_>>>()?)
    };
    Some(Texts { dictionary, ends, codes })
}
