//! What can go wrong with the index on disk. What is wrong with a query is in [`crate::parse`].

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The disk is full, a permission is missing, and the like. What was in memory still is: the same call may be made again.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: another process writes this index\nhint: one engine has a folder; stop the other one, or give this one its own", folder.display())]
    Locked { folder: PathBuf },
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Bytes that are not as they were written, or a file that is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: {what}\nhint: discard this file and the later ones; calls after sequence {rebuild_after} are then indexed from the stream again",
    file.display()
)]
pub struct Damage {
    pub file: PathBuf,
    /// Which part, and what is wrong with it.
    pub what: String,
    /// Everything up to this sequence is in earlier files, or was never here.
    pub rebuild_after: u64,
}

pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> IndexError + '_ {
    move |source| IndexError::Io { path: path.to_owned(), source }
}
