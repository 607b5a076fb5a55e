//! What went wrong at an edge, for a person: what, where and why in one sentence, and the way out on a line of its own.

use std::fmt;

#[derive(Debug)]
pub struct Fault {
    what: String,
    hint: Option<String>,
}

impl Fault {
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: Some(hint.into()) }
    }

    pub fn plain(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub fn what(&self) -> &str {
        &self.what
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for Fault {}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(format!("the store failed: {error}"), "is the disk full, or the folder gone?")
    }
}
