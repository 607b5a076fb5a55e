//! Recordings of real senders, which are not part of the project: a folder named by `STREAMGAUGE_RECORDINGS`.

use std::path::{Path, PathBuf};

/// `path` in the recordings; `None`, and said, where no recordings are given. Recordings that are given and incomplete are a failure.
pub fn recording(path: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("STREAMGAUGE_RECORDINGS") else {
        eprintln!("skipped: STREAMGAUGE_RECORDINGS is not set");
        return None;
    };
    let path = Path::new(&folder).join(path);
    assert!(path.exists(), "STREAMGAUGE_RECORDINGS is set, and {} is missing", path.display());
    Some(path)
}
