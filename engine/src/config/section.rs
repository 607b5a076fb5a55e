//! Hands the tree's values out key by key, and collects every problem instead of stopping at the first.
//!
//! The known keys are those that a reader asks for: a key that nobody reads is unknown, without a list to maintain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::errors::{ConfigError, ConfigErrors, Fault, Place};
use super::tree::Node;
use super::values::Secret;

/// One table being read. Each key is asked for once; what is left when the reader is done was unknown.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    /// Where relative paths written in the file start.
    pub(crate) folder: &'a Path,
    errors: &'a mut Vec<ConfigError>,
    path: String,
    at: Place,
    nodes: BTreeMap<String, Node>,
    known: Vec<&'static str>,
    places: BTreeMap<&'static str, Place>,
    /// A key of this section was refused, so conclusions from several keys would mislead.
    failed: bool,
}

impl<'a> Section<'a> {
    /// Reads a whole tree with `read`; an `Err` holds every problem met on the way.
    pub(crate) fn root<T>(tree: Node, folder: &'a Path, read: impl FnOnce(&mut Section<'_>) -> T) -> Result<T, ConfigErrors> {
        let mut errors = Vec::new();
        let value = Self::enter(tree, folder, &mut errors, String::new(), read);
        if errors.is_empty() { Ok(value) } else { Err(ConfigErrors::new(errors)) }
    }

    fn enter<T>(node: Node, folder: &Path, errors: &mut Vec<ConfigError>, path: String, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let (at, key_at) = (node.at.clone(), node.key_at.clone());
        let nodes = node.into_keys().unwrap_or_else(|fault| {
            let hint = format!("write [{path}], and its keys on the lines below");
            let what = format!("`{path}` {}", fault.what);
            errors.push(ConfigError { place: at, what, hint });
            BTreeMap::new()
        });
        let (known, places) = (Vec::new(), BTreeMap::new());
        let mut section = Section { folder, errors, path, at: key_at, nodes, known, places, failed: false };
        let value = read(&mut section);
        section.refuse_unknown();
        value
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A key's value, or `None` where it is absent or was refused; the caller then says the default.
    pub(crate) fn read<T>(&mut self, key: &'static str, parse: impl FnOnce(&Node) -> Result<T, Fault>) -> Option<T> {
        self.known.push(key);
        let node = self.nodes.remove(key)?;
        match parse(&node) {
            Ok(value) => {
                self.places.insert(key, node.at);
                Some(value)
            }
            Err(Fault { what, hint, at }) => {
                self.failed = true;
                self.errors.push(ConfigError { place: at.unwrap_or(node.at), what: format!("`{}` {what}", self.name(key)), hint });
                None
            }
        }
    }

    pub(crate) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let folder = self.folder;
        self.read(key, |node| node.path(folder))
    }

    pub(crate) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let folder = self.folder;
        self.read(key, |node| node.secret(folder))
    }

    /// A section below this one; when it is absent, `read` meets no keys and gives the defaults.
    pub(crate) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        self.known.push(key);
        let (path, node) = (self.name(key), self.nodes.remove(key));
        let node = node.unwrap_or_else(|| Node::empty(self.at.clone()));
        Section::enter(node, self.folder, self.errors, path, read)
    }

    /// The sections `[key.NAME]`, by name; an entry that `read` gives up on is left out.
    pub(crate) fn named<T>(&mut self, key: &'static str, read: impl Fn(&mut Section<'_>) -> Option<T>) -> BTreeMap<String, T> {
        self.each_named(key, |_, section| read(section))
    }

    /// The same, where the name has a meaning.
    pub(crate) fn each_named<T>(&mut self, key: &'static str, read: impl Fn(&str, &mut Section<'_>) -> Option<T>) -> BTreeMap<String, T> {
        self.section(key, |section| {
            let nodes = std::mem::take(&mut section.nodes);
            let entries = nodes.into_iter().filter_map(|(name, node)| {
                let path = section.name(&name);
                let value = Section::enter(node, section.folder, section.errors, path, |section| read(&name, section))?;
                Some((name, value))
            });
            entries.collect()
        })
    }

    /// The tables `[[key]]`, in order, and texts between them where `text` reads them; nothing when the key is absent.
    pub(crate) fn each<T>(
        &mut self,
        key: &'static str,
        text: impl Fn(&str) -> Result<T, Fault>,
        read: impl Fn(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.known.push(key);
        let name = self.name(key);
        let Some(node) = self.nodes.remove(key) else { return Vec::new() };
        let mut each = Vec::new();
        for (at, node) in node.into_list().into_iter().enumerate() {
            let path = format!("{name}[{at}]");
            if node.is_table() {
                each.extend(Section::enter(node, self.folder, self.errors, path, &read));
                continue;
            }
            match node.text().and_then(&text) {
                Ok(value) => each.push(value),
                Err(Fault { what, hint, .. }) => {
                    self.failed = true;
                    self.errors.push(ConfigError { place: node.at, what: format!("`{path}` {what}"), hint });
                }
            }
        }
        each
    }

    /// Whether the key is there and has not been read yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.nodes.contains_key(key)
    }

    /// Whether anything was refused so far, here or elsewhere.
    pub(crate) fn has_problems(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Refuses a combination of `keys`, at the one that was laid on last; does nothing when a key was refused by itself.
    pub(crate) fn refuse(&mut self, keys: &[&str], fault: Fault) {
        if !self.failed {
            let place = keys.iter().filter_map(|key| self.places.get(key)).max().unwrap_or(&self.at).clone();
            self.errors.push(ConfigError { place, what: format!("`{}` {}", self.path, fault.what), hint: fault.hint });
        }
    }

    /// Keys that a later version will read; accepting one today would promise what nothing does.
    pub(crate) fn not_yet(&mut self, keys: &[&str]) {
        for key in keys {
            if let Some(node) = self.nodes.remove(*key) {
                let what = format!("`{}` is not available in this version", self.name(key));
                self.errors.push(ConfigError { place: node.key_at, what, hint: format!("remove it; known: {}", self.known.join(", ")) });
            }
        }
    }

    fn refuse_unknown(&mut self) {
        for (key, node) in std::mem::take(&mut self.nodes) {
            let meant = model::nearest::nearest(&key, self.known.iter().copied()).map(|known| format!("did you mean `{known}`? "));
            let hint = format!("{}known: {}", meant.unwrap_or_default(), self.known.join(", "));
            self.errors.push(ConfigError { place: node.key_at, what: format!("unknown key `{}`", self.name(&key)), hint });
        }
    }
}
