//! JSON Schemas, compiled. References lead inside the schema, to the meta-schemas, or, for a configured one, to files beside it; nothing is fetched.
//!
//! The dialect is that of `$schema`, and 2020-12 without one. Deliberately absent: reading files, which is done by whoever knows the folder.

use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A configured schema that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluatorError {
    #[error("read schema `{name}`: it is not JSON: {reason}")]
    NotJson { name: String, reason: String },
    #[error("compile schema `{name}` at {pointer}: {reason}")]
    Schema {
        name: String,
        /// JSON pointer into the schema; `/` is all of it.
        pointer: String,
        reason: String,
    },
    #[error("compile schema `{name}`: its $schema is `{dialect}`, which is not known\nhint: known are {DIALECTS}; without $schema it is the last")]
    Dialect { name: String, dialect: String },
    #[error(
        "compile schema `{name}`: {reason}\nhint: put what is referred to under `$defs` of the schema itself, or into a file beside it; nothing is fetched"
    )]
    Remote { name: String, reason: String },
    #[error(
        "compile schema `{name}`: it refers to `{reference}`, {reason}\nhint: refer to files in the folder of the schema or below it, as in \"common.json#/$defs/fact\""
    )]
    Beside { name: String, reference: String, reason: String },
    #[error("read schemas: two are named `{name}`")]
    Twice { name: String },
}

const DIALECTS: &str = "http://json-schema.org/draft-04/schema, draft-06, draft-07, https://json-schema.org/draft/2019-09/schema and 2020-12";

/// Bytes of a compiled pattern: the regex crate's own default is 10 MiB, and 256 schemas are kept.
const PATTERN_MAX_BYTES: usize = 1 << 20;

/// Files that one schema may lead to, and what they may hold: shared definitions are some files of some KiB, and all of them are compiled at load.
const FILES_MAX: usize = 64;
const FILES_MAX_BYTES: usize = 4 << 20;

/// The folder of a schema, which its relative references lead into.
#[derive(Clone)]
pub struct Folder {
    /// The schema's own file name, so that files beside it may refer back.
    pub file: String,
    /// The text of a file in the folder or below it, by its path with `/`; or why there is none. No part of the path is `.` or `..`.
    pub read: Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>,
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Compiles a configured schema.
pub(crate) fn compile(name: &str, text: &str, folder: Option<&Folder>) -> Result<Validator, EvaluatorError> {
    let name = || name.to_owned();
    let schema: Value = serde_json::from_str(text).map_err(|error| EvaluatorError::NotJson { name: name(), reason: error.to_string() })?;
    build(&schema, folder).map_err(|refused| match refused {
        Refused::Dialect(dialect) => EvaluatorError::Dialect { name: name(), dialect },
        Refused::Remote(reason) => EvaluatorError::Remote { name: name(), reason },
        Refused::Beside(reference, reason) => EvaluatorError::Beside { name: name(), reference, reason },
        Refused::Schema { pointer, reason } => EvaluatorError::Schema { name: name(), pointer, reason },
    })
}

/// Compiles a schema that a call brought along; `None` when it cannot be.
pub(crate) fn compile_of_call(text: &str) -> Option<Validator> {
    build(&serde_json::from_str(text).ok()?, None).ok()
}

enum Refused {
    Dialect(String),
    Remote(String),
    Beside(String, String),
    Schema { pointer: String, reason: String },
}

fn build(schema: &Value, folder: Option<&Folder>) -> Result<Validator, Refused> {
    if let Some(dialect) = schema.get("$schema").and_then(Value::as_str)
        && Draft::from_schema_uri(dialect) == Draft::Unknown
    {
        return Err(Refused::Dialect(dialect.to_owned()));
    }
    // The plain regex engine takes time in proportion to the text; the other one can be made to take forever by an answer.
    let options = jsonschema::options().offline().with_pattern_options(PatternOptions::regex().size_limit(PATTERN_MAX_BYTES));
    let Some(folder) = folder else { return options.build(schema).map_err(|error| refused(&error)) };
    let reading = Arc::new(Reading { folder: folder.clone(), progress: Mutex::new(Progress::of(schema)) });
    let base = format!("{FOLDER}{}", encoded(&folder.file));
    let built = options.with_base_uri(base).with_retriever(Neighbours(reading.clone())).build(schema);
    built.map_err(|error| {
        let failure = reading.progress.lock().unwrap_or_else(PoisonError::into_inner).failure.take();
        failure.map_or_else(|| refused(&error), |(reference, reason)| Refused::Beside(reference, reason))
    })
}

fn refused(error: &jsonschema::ValidationError<'_>) -> Refused {
    let reason = error.to_string();
    if matches!(error.kind(), jsonschema::error::ValidationErrorKind::Referencing(_)) {
        return Refused::Remote(reason);
    }
    let pointer = error.instance_path().to_string();
    Refused::Schema { pointer: if pointer.is_empty() { "/".to_owned() } else { pointer }, reason }
}

/// Where a schema of a folder stands while it is compiled: an address that no file has, so that a reference out of the folder is seen as one.
const FOLDER: &str = "beside:///folder/";
const OUTSIDE: &str = "beside:";

/// Reads the files that a schema leads to.
struct Neighbours(Arc<Reading>);

struct Reading {
    folder: Folder,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Addresses that stand for the folder or one below it, by what they begin with. A file with an `$id` of its own is referred to by that.
    prefixes: Vec<(String, String)>,
    files: usize,
    bytes: usize,
    /// The first reference that led nowhere, and why.
    failure: Option<(String, String)>,
}

impl Progress {
    fn of(schema: &Value) -> Self {
        let mut progress = Self { prefixes: vec![(FOLDER.to_owned(), String::new())], files: 0, bytes: 0, failure: None };
        progress.stands_for(schema, "");
        progress
    }

    /// References from `document` are relative to its `$id`, and mean files relative to its own place.
    fn stands_for(&mut self, document: &Value, place: &str) {
        let id = document.get("$id").or_else(|| document.get("id")).and_then(Value::as_str);
        if let Some((prefix, _)) = id.filter(|id| id.contains("://")).and_then(|id| id.rsplit_once('/')) {
            self.prefixes.push((format!("{prefix}/"), place.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))));
        }
    }
}

impl Retrieve for Neighbours {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let Reading { folder, progress } = &*self.0;
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let address = uri.as_str();
        let inside = progress.prefixes.iter().find_map(|(prefix, place)| Some((place, address.strip_prefix(prefix.as_str())?)));
        let (reference, read) = match inside {
            None if address.starts_with(OUTSIDE) => {
                (address.trim_start_matches(OUTSIDE).trim_start_matches('/').to_owned(), Err("which is outside its folder".to_owned()))
            }
            // Somewhere else altogether, which the caller knows how to say.
            None => return Err("nothing is fetched".into()),
            Some((place, rest)) => {
                let path = format!("{place}{}", decoded(rest));
                let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
                let read = if !path.split('/').all(plain) {
                    Err("which is outside its folder".to_owned())
                } else if progress.files == FILES_MAX {
                    Err(format!("and is the {}th file; a schema leads to at most {FILES_MAX}", FILES_MAX + 1))
                } else {
                    (folder.read)(&path).map_err(|why| format!("which cannot be read: {why}"))
                };
                (path, read)
            }
        };
        let parsed = read.and_then(|text| {
            progress.files += 1;
            progress.bytes += text.len();
            if progress.bytes > FILES_MAX_BYTES {
                return Err(format!("and with it the files are larger than {} MiB", FILES_MAX_BYTES >> 20));
            }
            let value: Value = serde_json::from_str(&text).map_err(|error| format!("which is not JSON: {error}"))?;
            match value.get("$schema").and_then(Value::as_str).filter(|dialect| Draft::from_schema_uri(dialect) == Draft::Unknown) {
                Some(dialect) => Err(format!("whose $schema is `{dialect}`, which is not known")),
                None => Ok(value),
            }
        });
        match parsed {
            Ok(value) => {
                progress.stands_for(&value, &reference);
                Ok(value)
            }
            Err(reason) => {
                progress.failure.get_or_insert((reference, reason.clone()));
                Err(reason.into())
            }
        }
    }
}

/// A file's name as a part of an address (RFC 3986).
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The other way; what is no escape stays as it is.
fn decoded(address: &str) -> String {
    let mut bytes = Vec::with_capacity(address.len());
    let mut rest = address.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
