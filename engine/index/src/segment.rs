//! A file of groups: what is written, renamed into place, and dropped whole.
//!
//! Files follow each other without a gap: each says after which sequence it begins and up to which it has everything, and the next begins there. So
//! no list of files is needed beside them, a file that is gone is noticed, and the position is in the same file as the rows that it speaks of. A file
//! is never changed: it is replaced by one of the same name, or removed.

use crate::error::{Damage, IndexError, io_at};
use crate::group::{Group, Meta, Source};
use crate::pack::check;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends every file; another version of the format ends otherwise.
const MAGIC: &[u8; 8] = b"sgcalls1";
/// Length and check of the footer, and the magic.
const TAIL_BYTES: u64 = 16;
const ENDING: &str = "calls";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Footer {
    /// Everything up to here is in earlier files, or was dropped by age or size.
    pub after: u64,
    /// Everything up to here is in this file.
    pub position: u64,
    /// Nothing will be added; one that is not is read back into memory and replaced as it grows.
    pub sealed: bool,
    pub groups: Vec<Meta>,
}

/// A sealed file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub path: PathBuf,
    pub footer: Footer,
    pub bytes: u64,
    /// Dropped by age or size: who still looks at an older list of files does not find it, and that is no damage.
    retired: AtomicBool,
}

impl Segment {
    /// Reads the footer.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let file = File::open(path).map_err(io_at(path))?;
        let bytes = file.metadata().map_err(io_at(path))?.len();
        let footer = footer(path, &file, bytes)?;
        Ok(Self { path: path.to_owned(), footer, bytes, retired: AtomicBool::new(false) })
    }

    /// Writes a file in place of the one of the same name, if any; when this returns it is on disk whatever happens.
    pub fn write(folder: &Path, footer: Footer, groups: &[&[u8]]) -> Result<Self, IndexError> {
        let path = path_of(folder, footer.after);
        let unfinished = folder.join("unfinished");
        let mut end = postcard::to_allocvec(&footer).expect("a footer is numbers, which postcard writes");
        let (length, sum) = (end.len() as u32, check(&end));
        end.extend_from_slice(&length.to_le_bytes());
        end.extend_from_slice(&sum.to_le_bytes());
        end.extend_from_slice(MAGIC);
        let write = || {
            let mut file = File::create(&unfinished)?;
            groups.iter().try_for_each(|group| file.write_all(group))?;
            file.write_all(&end)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            // The name, too, is to outlive a crash of the machine.
            File::open(folder)?.sync_all()
        };
        write().map_err(io_at(&path))?;
        let bytes = groups.iter().map(|group| group.len() as u64).sum::<u64>() + end.len() as u64;
        Ok(Self { path, footer, bytes, retired: AtomicBool::new(false) })
    }

    /// The file, for one search; `None` when it was dropped meanwhile.
    pub fn file(&self) -> Result<Option<File>, IndexError> {
        match File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.retired.load(Ordering::Acquire) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.damage("the file is gone").into()),
            Err(error) => Err(io_at(&self.path)(error)),
        }
    }

    pub fn damage(&self, what: &str) -> Damage {
        Damage { file: self.path.clone(), what: what.to_owned(), rebuild_after: self.footer.after }
    }

    pub fn group(&self, at: usize, file: Arc<File>) -> Group<'_> {
        Group::new(&self.footer.groups[at], Source::File(file), &self.path, self.footer.after)
    }

    /// The bytes of its groups, each read whole and checked.
    pub fn load(&self) -> Result<Vec<Vec<u8>>, IndexError> {
        let file = Arc::new(File::open(&self.path).map_err(io_at(&self.path))?);
        let load = |at: usize| {
            let group = self.group(at, file.clone());
            group.verify()?;
            let mut bytes = vec![0; group.meta.bytes as usize];
            file.read_exact_at(&mut bytes, group.meta.start).map_err(io_at(&self.path))?;
            Ok(bytes)
        };
        (0..self.footer.groups.len()).map(load).collect()
    }

    /// Reads and checks every byte; nothing when it was dropped meanwhile.
    pub fn verify(&self) -> Result<(), IndexError> {
        let Some(file) = self.file()?.map(Arc::new) else { return Ok(()) };
        (0..self.footer.groups.len()).try_for_each(|at| self.group(at, file.clone()).verify())
    }

    pub fn remove(&self) -> Result<(), IndexError> {
        self.retired.store(true, Ordering::Release);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(&self.path)(error)),
            _ => Ok(()),
        }
    }
}

fn path_of(folder: &Path, after: u64) -> PathBuf {
    folder.join(format!("{after:020}.{ENDING}"))
}

fn footer(path: &Path, file: &File, bytes: u64) -> Result<Footer, IndexError> {
    // The name has it too, so that even a file without an end says from where it is to be made again.
    let named = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
    let damaged = |what: &str| IndexError::from(Damage { file: path.to_owned(), what: what.to_owned(), rebuild_after: named.unwrap_or(0) });
    let mut tail = [0; TAIL_BYTES as usize];
    let start = bytes.checked_sub(TAIL_BYTES).ok_or_else(|| damaged("the file is cut short"))?;
    file.read_exact_at(&mut tail, start).map_err(io_at(path))?;
    if tail[8..] != *MAGIC {
        return Err(damaged("the end is not that of a file of calls, or of another version"));
    }
    let word = |at: usize| u32::from_le_bytes(tail[at..at + 4].try_into().expect("four bytes of sixteen"));
    let (length, sum) = (u64::from(word(0)), word(4));
    let at = start.checked_sub(length).ok_or_else(|| damaged("the footer is not as it was written"))?;
    let mut footer = vec![0; length as usize];
    file.read_exact_at(&mut footer, at).map_err(io_at(path))?;
    let footer: Option<Footer> = if check(&footer) == sum { postcard::from_bytes(&footer).ok() } else { None };
    let footer = footer.ok_or_else(|| damaged("the footer is not as it was written"))?;
    let mut end = 0;
    for group in &footer.groups {
        if group.start != end {
            return Err(damaged("the file is cut short"));
        }
        end += u64::from(group.bytes);
    }
    if end != at || named != Some(footer.after) {
        return Err(damaged(if end == at { "the file has another's name" } else { "the file is cut short, or longer than it was" }));
    }
    Ok(footer)
}

/// The files of a folder, in the order of their sequences, each following the one before.
///
/// An unfinished file of a crash is removed: nothing says that it is there.
pub(crate) fn list(folder: &Path) -> Result<Vec<Segment>, IndexError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_at(folder))? {
        let path = entry.map_err(io_at(folder))?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            paths.push(path);
        } else if path.file_name().is_some_and(|name| name == "unfinished") {
            fs::remove_file(&path).map_err(io_at(&path))?;
        }
    }
    // Names have leading zeros, so that their order is that of the sequences.
    paths.sort();
    let mut segments: Vec<Segment> = Vec::with_capacity(paths.len());
    for path in paths {
        let segment = Segment::open(&path)?;
        if let Some(before) = segments.last() {
            if before.footer.position != segment.footer.after {
                let what = format!("the file before it ends at sequence {}, so one between them is gone", before.footer.position);
                return Err(Damage { file: path, what, rebuild_after: before.footer.position }.into());
            }
            if !before.footer.sealed {
                return Err(before.damage("it was to grow and another follows it").into());
            }
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// Removes the damaged file and all later ones, so that the index opens and goes on after what is left. Nothing when the folder is gone.
///
/// # Errors
/// [`IndexError::Io`] when a file cannot be removed.
pub fn discard(folder: &Path, damage: &Damage) -> Result<(), IndexError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_at(folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_at(folder))?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) && path.file_name() >= damage.file.file_name() {
            paths.push(path);
        }
    }
    // The latest first: whatever a crash leaves is then a shorter index, and not one with a hole.
    paths.sort();
    paths.iter().rev().try_for_each(|path| fs::remove_file(path).map_err(io_at(path)))
}
