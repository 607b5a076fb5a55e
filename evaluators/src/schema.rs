//! JSON Schemas, compiled. References lead inside the schema or to the meta-schemas; nothing is ever fetched.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

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
    #[error("compile schema `{name}`: {reason}\nhint: put what is referred to under `$defs` of the schema itself; nothing is fetched")]
    Remote { name: String, reason: String },
    #[error("read schemas: two are named `{name}`")]
    Twice { name: String },
}

/// Bytes of a compiled pattern: the regex crate's own default is 10 MiB, and 256 schemas are kept.
const PATTERN_MAX_BYTES: usize = 1 << 20;

/// Compiles a configured schema.
pub(crate) fn compile(name: &str, text: &str) -> Result<Validator, EvaluatorError> {
    let name = || name.to_owned();
    let schema: Value = serde_json::from_str(text).map_err(|error| EvaluatorError::NotJson { name: name(), reason: error.to_string() })?;
    build(&schema).map_err(|refused| match refused {
        Refused::Remote(reason) => EvaluatorError::Remote { name: name(), reason },
        Refused::Schema { pointer, reason } => EvaluatorError::Schema { name: name(), pointer, reason },
    })
}

/// Compiles a schema that a call brought along; `None` when it cannot be.
pub(crate) fn compile_of_call(text: &str) -> Option<Validator> {
    build(&serde_json::from_str(text).ok()?).ok()
}

enum Refused {
    Remote(String),
    Schema { pointer: String, reason: String },
}

fn build(schema: &Value) -> Result<Validator, Refused> {
    // The plain regex engine takes time in proportion to the text; the other one can be made to take forever by an answer.
    let patterns = PatternOptions::regex().size_limit(PATTERN_MAX_BYTES);
    jsonschema::options().offline().with_pattern_options(patterns).build(schema).map_err(|error| {
        let reason = error.to_string();
        if matches!(error.kind(), jsonschema::error::ValidationErrorKind::Referencing(_)) {
            return Refused::Remote(reason);
        }
        let pointer = error.instance_path().to_string();
        Refused::Schema { pointer: if pointer.is_empty() { "/".to_owned() } else { pointer }, reason }
    })
}
