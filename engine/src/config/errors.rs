//! What is wrong with a configuration, where, and the way out.
//!
//! Words only: finding the problems is for `tree.rs`, `section.rs` and `read.rs`, showing them for whoever called `load`.

use std::fmt;
use std::sync::Arc;

/// Everything that is wrong with a configuration. `Display` gives one problem after another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(crate) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        Self(errors)
    }

    /// At least one, ordered by place.
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

/// One problem: where, what and why, and the way out. Never holds the text of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}\nhint: {hint}")]
pub struct ConfigError {
    pub place: Place,
    pub what: String,
    pub hint: String,
}

/// Where a value came from; later places override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Defaults,
    WholeFile(Arc<str>),
    /// Both numbers from 1; the column counts characters.
    File {
        name: Arc<str>,
        line: usize,
        column: usize,
    },
    /// An environment variable, by its full name.
    Variable(String),
    /// `--set`, by its key alone: the value may be something that belongs in no log.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("defaults"),
            Self::WholeFile(name) => f.write_str(name),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(key) => write!(f, "--set {key}"),
        }
    }
}

/// What is wrong with one value, in words that follow its key: "must be text, not a list". The place is added by [`Section`].
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) hint: String,
    /// Of the element at fault, inside a list or a table.
    pub(crate) at: Option<Place>,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), at: None }
    }

    pub(crate) fn with_hint(self, hint: &str) -> Self {
        Self { hint: hint.to_owned(), ..self }
    }
}
