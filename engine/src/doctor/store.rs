//! The store's folder: writable, of this version, taken by an engine or free, and with room on its disk. Nothing of it is changed.

use super::{Finding, within};
use crate::config::{Size, StoreConfig};
use crate::error::Fault;
use crate::store;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// What the other looks want to know of the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// An engine holds the folder.
    pub held: bool,
    /// The stream that it has read: when that was made, and how far.
    pub stream: Option<(String, u64)>,
}

/// Less room than the smallest `store.max_size`: the next write may fail.
const ROOM_MIN: Size = Size::mib(64);

pub(super) async fn look(config: &StoreConfig) -> (Vec<Finding>, Known) {
    let own = config.clone();
    // A disk that hangs, such as a share whose server is gone, must not hold the rest.
    let looking = tokio::task::spawn_blocking(move || at(&own));
    let looked = within(async { looking.await.map_err(|error| Fault::plain(format!("looking at it ended unexpectedly: {error}"))) }).await;
    looked.unwrap_or_else(|fault| (vec![Finding::failed("store", fault.what(), "does the disk that store.path is on answer?")], Known::default()))
}

fn at(config: &StoreConfig) -> (Vec<Finding>, Known) {
    let folder = &config.path;
    let (place, made) = nearest(folder);
    if let Err(error) = tempfile::tempfile_in(&place) {
        let seen = format!("cannot write in {}: {error}", place.display());
        return (vec![Finding::failed("store", seen, "set store.path to a folder that this user can write")], Known::default());
    }
    let mut known = Known { held: held(folder), stream: None };
    let looked = if made { store::Seen::look(folder) } else { Ok(None) };
    let finding = match looked {
        Err(fault) => Finding::fault("store", &fault),
        Ok(seen) => {
            let taken = if known.held { "; an engine holds it" } else { "; no engine holds it" };
            let what = match &seen {
                None if made => "no store yet; it will be made".to_owned(),
                None => "no folder yet; it will be made".to_owned(),
                Some(seen) => format!("layout {}, read up to sequence {}", seen.layout, seen.position.unwrap_or(0)),
            };
            known.stream = seen.and_then(|seen| seen.stream.zip(seen.position));
            Finding::ok("store", format!("{}: writable, {what}{taken}", folder.display()))
        }
    };
    (vec![finding, disk(config, &place)], known)
}

/// The folder, or what is there of the way to it, and whether that is all of it.
fn nearest(folder: &Path) -> (PathBuf, bool) {
    let whole = if folder.is_absolute() { folder.to_owned() } else { Path::new(".").join(folder) };
    let there = whole.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_owned();
    let made = there == whole;
    (there, made)
}

/// Whether an engine holds the folder. Asked with a shared lock on the file that is there, for the instant of asking.
fn held(folder: &Path) -> bool {
    File::open(folder.join("lock")).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Room for what the store may still grow by.
fn disk(config: &StoreConfig, place: &Path) -> Finding {
    let room = match rustix::fs::statvfs(place) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => return Finding::warning("disk", format!("how much room is left could not be told: {error}"), "look with df"),
    };
    let holds: u64 = ["streamgauge.db", "streamgauge.db-wal"]
        .iter()
        .filter_map(|name| std::fs::metadata(config.path.join(name)).ok())
        .map(|file| file.len())
        .sum();
    let may_grow = config.max_size.bytes().saturating_sub(holds);
    let seen = format!("{} free; the store holds {} of at most {}", rounded(room), rounded(holds), config.max_size);
    if room < ROOM_MIN.bytes() {
        return Finding::failed("disk", seen, "make room: an engine that cannot write its snapshots stops");
    }
    if room < may_grow {
        return Finding::warning(
            "disk",
            seen,
            format!("make room, or lower store.max_size to what there is: --set store.max_size=\"{} MiB\"", (room + holds) >> 21),
        );
    }
    Finding::ok("disk", seen)
}

/// Bytes for people, to three digits.
pub(super) fn rounded(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let (unit, shift) = UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0).unwrap_or(("B", 0));
    let value = bytes as f64 / (1u64 << shift) as f64;
    let digits = if shift == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_looked_at_where_it_would_be_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(nearest(folder.path()), (folder.path().to_owned(), true));
        assert_eq!(nearest(&folder.path().join("a/b")), (folder.path().to_owned(), false));
    }

    #[test]
    fn bytes_are_rounded_to_what_people_read() {
        let said = [0, 1023, 1024, 1_500_000, 214_748_364_800, 1 << 41].map(rounded);
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "1.4 MiB", "200 GiB", "2.0 TiB"]);
    }
}
