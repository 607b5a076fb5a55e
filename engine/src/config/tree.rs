//! The configuration before it means anything: one tree of values, each knowing the place it came from.
//!
//! The file, the environment and `--set` are laid over each other here. Which keys exist is the business of `section.rs`,
//! and what they mean that of `read.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Timestamp;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigError, ConfigErrors, Fault, Place};
use super::values::{Secret, Sensitive};

/// One value of the tree, with its place and, where it stands under a key, the key's.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) key_at: Place,
    value: Value,
    /// An override's text before it was read as TOML: a token of digits only, or a stream named `2024`, is text all the same.
    raw: Option<String>,
}

#[derive(Debug)]
enum Value {
    Text(String),
    Whole(i64),
    Fraction(f64),
    Bool(bool),
    Date(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    Other(&'static str),
}

impl Node {
    /// A table without keys, which came from `at`.
    pub(crate) fn empty(at: Place) -> Self {
        let value = Value::Table(BTreeMap::new());
        Self { key_at: at.clone(), at, value, raw: None }
    }

    /// The tree of one file, or all its mistakes of syntax.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let name: Arc<str> = name.into();
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let place = |offset: usize| {
            let line = starts.partition_point(|start| *start <= offset);
            let before = text.get(starts[line - 1]..offset).unwrap_or_default();
            Place::File { name: name.clone(), line, column: before.chars().count() + 1 }
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            let value = Value::Table(children(document.get_ref(), &place));
            return Ok(Self { value, ..Self::empty(Place::Defaults) });
        }
        Err(ConfigErrors::new(
            errors
                .into_iter()
                .map(|error| ConfigError {
                    place: error.span().map_or(Place::WholeFile(name.clone()), |span| place(span.start)),
                    what: error.message().to_owned(),
                    hint: "this is TOML: text stands in quotes, lists in [ ], tables in { }, and [section] on a line of its own".to_owned(),
                })
                .collect(),
        ))
    }

    /// Lays one override over the tree; a table replaces what was there. `raw` is read as TOML if it is that, else as text.
    pub(crate) fn set(&mut self, keys: &[String], at: &Place, raw: &str) {
        let Some((key, rest)) = keys.split_first() else {
            let value = DeValue::parse(raw).map_or_else(|_| Value::Text(raw.to_owned()), |value| Value::read(value.get_ref(), &|_| at.clone()));
            *self = Self { at: at.clone(), key_at: at.clone(), value, raw: Some(raw.to_owned()) };
            return;
        };
        if !matches!(self.value, Value::Table(_)) {
            *self = Self::empty(at.clone());
        }
        if let Value::Table(nodes) = &mut self.value {
            // Variables come in capitals only, and must still reach `[environments.Production]`.
            let same = |known: &&String| matches!(at, Place::Variable(_)) && known.eq_ignore_ascii_case(key);
            let key = if nodes.contains_key(key) { key } else { nodes.keys().find(same).unwrap_or(key) }.clone();
            let below = nodes.entry(key).or_insert_with(|| Self::empty(at.clone()));
            below.set(rest, at, raw);
        }
    }

    pub(crate) fn text(&self) -> Result<&str, Fault> {
        match (&self.value, &self.raw) {
            (Value::Text(text), _) => Ok(text),
            (Value::Whole(_) | Value::Fraction(_) | Value::Bool(_) | Value::Date(_) | Value::Other(_), Some(raw)) => Ok(raw),
            _ => Err(self.must_be("text", "write it in quotes")),
        }
    }

    pub(crate) fn whole(&self) -> Result<i64, Fault> {
        match self.value {
            Value::Whole(number) => Ok(number),
            _ => Err(self.must_be("a whole number", "write digits without quotes")),
        }
    }

    pub(crate) fn number(&self) -> Result<f64, Fault> {
        match self.value {
            Value::Whole(number) => Ok(number as f64),
            Value::Fraction(number) => Ok(number),
            _ => Err(self.must_be("a number", "write digits without quotes")),
        }
    }

    pub(crate) fn bool(&self) -> Result<bool, Fault> {
        match self.value {
            Value::Bool(answer) => Ok(answer),
            _ => Err(self.must_be("true or false", "write true or false, without quotes")),
        }
    }

    pub(crate) fn list<T>(&self, parse: impl Fn(&Node) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        match &self.value {
            Value::List(nodes) => nodes.iter().map(|node| node.parsed(&parse)).collect(),
            _ => Err(self.must_be("a list", "write [\"one\", \"two\"]")),
        }
    }

    pub(crate) fn texts(&self) -> Result<BTreeMap<String, String>, Fault> {
        match &self.value {
            Value::Table(nodes) => nodes.iter().map(|(key, node)| Ok((key.clone(), node.parsed(&|node| Ok(node.text()?.to_owned()))?))).collect(),
            _ => Err(self.must_be("a table of text", "write { stage = \"extraction\" }")),
        }
    }

    /// A text, a number, true or false, or a list of such, as the rule language writes it.
    pub(super) fn literal(&self) -> Result<String, Fault> {
        match &self.value {
            Value::Text(text) => {
                let escaped: String = text.chars().flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] }).collect();
                Ok(format!("\"{}\"", escaped.replace('\n', "\\n").replace('\r', "\\r")))
            }
            Value::Whole(number) => Ok(number.to_string()),
            Value::Fraction(number) if number.is_finite() => Ok(format!("{number:?}")),
            Value::Bool(answer) => Ok(answer.to_string()),
            Value::List(_) => Ok(format!("[{}]", self.list(Self::literal)?.join(", "))),
            _ => Err(self.must_be("a text, a number, true or false, or a list of such", "write it as the rule file does")),
        }
    }

    /// Names of tables of literals.
    pub(super) fn tables(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, Fault> {
        match &self.value {
            Value::Table(nodes) => nodes.iter().map(|(key, node)| Ok((key.clone(), node.parsed(&Self::literals)?))).collect(),
            _ => Err(self.must_be("a table of rules", "write [rules.constants.RULE] and its constants below")),
        }
    }

    fn literals(&self) -> Result<BTreeMap<String, String>, Fault> {
        match &self.value {
            Value::Table(nodes) => nodes.iter().map(|(key, node)| Ok((key.clone(), node.parsed(&Self::literal)?))).collect(),
            _ => Err(self.must_be("a table of constants", "write { LIMIT = 0.05 }")),
        }
    }

    /// A time, in quotes or without.
    pub(crate) fn time(&self) -> Result<Timestamp, Fault> {
        const HINT: &str = "write it like 2026-01-05T00:00:00Z";
        let (Value::Text(text) | Value::Date(text)) = &self.value else { return Err(self.must_be("a time", HINT)) };
        Timestamp::parse(text).ok_or_else(|| Fault::new(format!("`{text}` is no time"), HINT))
    }

    /// The value as JSON has it; dates are texts.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Fault> {
        use serde_json::Value as Json;
        Ok(match &self.value {
            Value::Text(text) | Value::Date(text) => text.as_str().into(),
            Value::Whole(number) => (*number).into(),
            Value::Fraction(number) => {
                let number = serde_json::Number::from_f64(*number);
                Json::Number(number.ok_or_else(|| Fault::new("is a number that JSON does not have", "leave it out"))?)
            }
            Value::Bool(answer) => (*answer).into(),
            Value::List(nodes) => Json::Array(nodes.iter().map(|node| node.parsed(&Node::json)).collect::<Result<_, _>>()?),
            Value::Table(nodes) => {
                let fields = nodes.iter().map(|(name, node)| Ok((name.clone(), node.parsed(&Node::json)?)));
                Json::Object(fields.collect::<Result<_, Fault>>()?)
            }
            Value::Other(_) => return Err(self.must_be("text, a number, true or false, a list or a table", "leave it out")),
        })
    }

    /// The values of a list, or of one value that stands alone.
    pub(crate) fn into_list(self) -> Vec<Node> {
        match self.value {
            Value::List(nodes) => nodes,
            _ => vec![self],
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, Value::Table(_))
    }

    /// What stands below a section.
    pub(crate) fn into_keys(self) -> Result<BTreeMap<String, Node>, Fault> {
        match self.value {
            Value::Table(nodes) => Ok(nodes),
            _ => Err(self.must_be("a section", "write its keys below [its name]")),
        }
    }

    fn parsed<T>(&self, parse: &impl Fn(&Node) -> Result<T, Fault>) -> Result<T, Fault> {
        parse(self).map_err(|fault| Fault { at: fault.at.or_else(|| Some(self.at.clone())), ..fault })
    }

    fn must_be(&self, wanted: &str, hint: &str) -> Fault {
        let found = match &self.value {
            Value::Text(_) => "text",
            Value::Whole(_) => "a whole number",
            Value::Fraction(_) => "a fraction",
            Value::Bool(_) => "true or false",
            Value::Date(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(found) => found,
        };
        Fault::new(format!("must be {wanted}, not {found}"), hint)
    }

    /// A secret in a file or on a command line ends in a repository or in a process list, so only the environment may hold
    /// one as text. No message here repeats what was found: people paste the secret itself where its name belongs.
    pub(crate) fn secret(&self, folder: &Path) -> Result<Secret, Fault> {
        let hint = "write { env = \"NAME\" } or { file = \"path\" }";
        if let (Place::Variable(_), Ok(text)) = (&self.at, self.text()) {
            return Ok(Secret::Given(Sensitive::new(text)));
        }
        let Value::Table(nodes) = &self.value else {
            return Err(Fault::new("is a secret, which does not belong in the file or on the command line", hint));
        };
        match (nodes.len(), nodes.get("env"), nodes.get("file")) {
            (1, Some(env), None) => env.parsed(&|node| {
                let name = node.text()?;
                let shaped = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if name.is_empty() || !shaped || name.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(Fault::new("must name an environment variable: letters, digits and _", hint));
                }
                Ok(Secret::Env(name.to_owned()))
            }),
            (1, None, Some(file)) => file.parsed(&|node| node.path(folder)).map(Secret::File),
            _ => {
                let at = nodes.values().map(|node| node.at.clone()).max();
                Err(Fault { at, ..Fault::new("must have one key, `env` or `file`", hint) })
            }
        }
    }

    /// Written in the file, a path starts at the file's folder; given by an override, at the working directory.
    pub(crate) fn path(&self, folder: &Path) -> Result<PathBuf, Fault> {
        match self.text()? {
            "" => Err(Fault::new("must not be empty", "write a path, or remove the key")),
            text if matches!(self.at, Place::File { .. }) => Ok(folder.join(text)),
            text => Ok(PathBuf::from(text)),
        }
    }
}

impl Value {
    /// Recursion is bounded by the TOML reader, which refuses deep nesting.
    fn read(value: &DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(digits) => {
                i64::from_str_radix(digits.as_str(), digits.radix()).map_or(Self::Other("a number beyond 64 bits"), Self::Whole)
            }
            DeValue::Boolean(answer) => Self::Bool(*answer),
            DeValue::Float(digits) => digits.as_str().replace('_', "").parse().map_or(Self::Other("a number that no fraction holds"), Self::Fraction),
            DeValue::Datetime(date) => Self::Date(date.to_string()),
            DeValue::Array(values) => Self::List(
                values
                    .iter()
                    .map(|value| {
                        let at = place(value.span().start);
                        Node { key_at: at.clone(), at, value: Self::read(value.get_ref(), place), raw: None }
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Self::Table(children(table, place)),
        }
    }
}

fn children(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> BTreeMap<String, Node> {
    table
        .iter()
        .map(|(key, value)| {
            let (at, key_at) = (place(value.span().start), place(key.span().start));
            (key.get_ref().to_string(), Node { at, key_at, value: Value::read(value.get_ref(), place), raw: None })
        })
        .collect()
}
