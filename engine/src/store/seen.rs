//! What a look from outside sees of a store, beside an engine that may hold it: nothing is made, changed or brought to another layout.

use super::SCHEMA_VERSION;
use crate::error::Fault;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::Path;

/// A store as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub layout: i64,
    /// When the stream was made that it has read.
    pub stream: Option<String>,
    /// Of its snapshot; `None` before the first.
    pub position: Option<u64>,
}

impl Seen {
    /// `None`: there is no store in `folder` yet.
    ///
    /// # Errors
    /// When the file cannot be read, or its layout is none that this version reads.
    pub fn look(folder: &Path) -> Result<Option<Self>, Fault> {
        let file = folder.join("streamgauge.db");
        if !file.exists() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(std::time::Duration::from_secs(2))?;
        let cannot = |error: rusqlite::Error| {
            Fault::new(format!("cannot read {}: {error}", file.display()), "is it a store of streamgauge? another store.path begins a new one")
        };
        let tables: i64 =
            connection.query_row("SELECT COUNT(*) FROM sqlite_schema WHERE name IN ('meta', 'snapshot')", [], |row| row.get(0)).map_err(cannot)?;
        if tables < 2 {
            // A command that asks judges by hand may have begun it.
            return Ok(None);
        }
        let meta = |key: &str| -> Result<Option<String>, Fault> {
            connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional().map_err(cannot)
        };
        let Some(layout) = meta("schema")?.and_then(|version| version.parse().ok()) else { return Ok(None) };
        if !(1..=SCHEMA_VERSION).contains(&layout) {
            return Err(Fault::new(
                format!("the store {} has layout {layout}, this version reads layouts 1 to {SCHEMA_VERSION}", folder.display()),
                "use the version that wrote it, or another store.path",
            ));
        }
        let position = connection.query_row("SELECT position FROM snapshot", [], |row| row.get(0)).optional().map_err(cannot)?;
        Ok(Some(Self { layout, stream: meta("stream_created")?, position }))
    }
}
