//! The messages of a rule's tests, kept in `NAME.test.snap` beside them, so that a change of what people read is seen and accepted.

use super::Messages;
use super::diff::diff;
use std::path::{Path, PathBuf};

/// What a test's part begins with.
const MARK: &str = "== ";
const NONE: &str = "(nobody is told anything)";

/// The kept messages of one test file.
#[derive(Debug)]
pub(super) struct Snapshots {
    path: PathBuf,
    /// `None` when there is no such file.
    text: Option<String>,
    /// Name and messages, in the order of the file.
    kept: Vec<(String, String)>,
}

impl Snapshots {
    /// What is kept for `tests`, a `NAME.test.toml`.
    ///
    /// # Errors
    /// When there is such a file and it cannot be read.
    pub fn read(tests: &Path) -> Result<Self, String> {
        let path = tests.with_extension("snap");
        let text = match std::fs::read_to_string(&path) {
            // Git may have written the line ends of another system.
            Ok(text) => Some(text.replace("\r\n", "\n")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(format!("cannot read {}: {error}\nhint: remove it and let --update write it again", path.display()));
            }
        };
        let mut kept: Vec<(String, String)> = Vec::new();
        for line in text.as_deref().unwrap_or_default().lines() {
            match (line.strip_prefix(MARK), kept.last_mut()) {
                (Some(name), _) => kept.push((name.to_owned(), String::new())),
                (None, Some((_, messages))) => *messages += &format!("{line}\n"),
                // What stands before the first test is for readers.
                (None, None) => {}
            }
        }
        for (_, messages) in &mut kept {
            *messages = messages.trim_matches('\n').to_owned();
        }
        Ok(Self { path, text, kept })
    }

    /// Compares what the test `name` says now with what is kept, or keeps it.
    pub fn compare(&mut self, name: &str, messages: String, update: bool) -> Messages {
        // A summary of several lines must not look like the next test.
        let messages = messages.replace(&format!("\n{MARK}"), &format!("\n {MARK}"));
        let now = if messages.is_empty() { NONE } else { messages.trim_matches('\n') };
        let kept = self.kept.iter_mut().find(|(known, _)| known == name);
        match kept {
            Some((_, kept)) if kept == now => Messages::AsKept,
            Some((_, kept)) if update => {
                now.clone_into(kept);
                Messages::Updated
            }
            None if update => {
                self.kept.push((name.to_owned(), now.to_owned()));
                Messages::Updated
            }
            None if self.text.is_none() => Messages::NotKept,
            kept => Messages::Differ(diff(kept.map_or("", |(_, kept)| kept), now)),
        }
    }

    /// Writes what is kept of the tests `names`, in their order; what is kept of others goes.
    pub fn write(&self, names: &[String]) -> Result<(), String> {
        let tests = self.path.with_extension("toml");
        let mut text = format!(
            "What people read in the tests of {}. `streamgauge test --update` writes this file.\n",
            tests.file_name().unwrap_or_default().to_string_lossy()
        );
        for (name, messages) in names.iter().filter_map(|name| self.kept.iter().find(|(known, _)| known == name)) {
            text += &format!("\n{MARK}{name}\n\n{messages}\n");
        }
        if self.text.as_ref() == Some(&text) {
            return Ok(());
        }
        std::fs::write(&self.path, text).map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}
