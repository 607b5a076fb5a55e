//! Which part of a schema an answer violates first, as a label: `facts: /facts/*/text type`.
//!
//! It is made of what the schema says and never of what the answer holds, so that there are only so many labels, and no answer stands in one: array
//! indices and names that the schema does not spell out are `*`. Deliberately absent: values, and the words of the validator.

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// Violations of one answer that are looked at for the first: an answer of thousands of wrong elements violates the same few parts again and again.
const LOOKED_AT_MAX: usize = 1_000;
/// Bytes of a schema's or a tool's name, and of a path; with a keyword they stay below what a label may have.
const NAME_MAX_BYTES: usize = 60;
const PATH_MAX_BYTES: usize = 100;

/// The first violation of `answer`, in the order of depth, path and keyword, which is the same for every answer that violates the same parts. `None`
/// when there is none. Cost: a validation that goes on at the first violation; only for answers that are known to violate something.
pub(crate) fn first(schema: &Validator, answer: &Value) -> Option<String> {
    let violations = schema.iter_errors(answer).take(LOOKED_AT_MAX).map(|error| {
        let path = path(&error);
        (path.len(), path, error.kind().keyword().to_owned())
    });
    let (_, path, keyword) = violations.min()?;
    let path = format!("/{}", path.join("/"));
    Some(format!("{} {keyword}", cut(&path, PATH_MAX_BYTES)))
}

/// The name of a schema or a tool, as far as a label holds it.
pub(crate) fn name(name: &str) -> &str {
    cut(name, NAME_MAX_BYTES)
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The place in the answer, by the names that the schema gives its parts. What is missing has a place, too.
fn path(error: &ValidationError<'_>) -> Vec<String> {
    let depth = error.instance_path().segments().count();
    let mut path = spelt(error.evaluation_path());
    if path.len() != depth {
        // A keyword that descends in a way of its own: only how deep is known.
        path = vec!["*".to_owned(); depth];
    }
    if let ValidationErrorKind::Required { property } = error.kind()
        && let Some(missing) = property.as_str()
    {
        path.push(escaped(missing));
    }
    path
}

/// The steps into the answer that lie on the way through a schema.
fn spelt(way: &Location) -> Vec<String> {
    let mut path = Vec::new();
    let mut steps = way.segments().peekable();
    while let Some(step) = steps.next() {
        let LocationSegment::Property(keyword) = step else { continue };
        let indexed = matches!(steps.peek(), Some(LocationSegment::Index(_)));
        match keyword.as_ref() {
            "properties" => path.extend(steps.next().map(|name| match name {
                LocationSegment::Property(name) => escaped(&name),
                LocationSegment::Index(number) => number.to_string(),
            })),
            "patternProperties" => path.extend(steps.next().map(|_| "*".to_owned())),
            "items" | "prefixItems" => {
                if indexed {
                    steps.next();
                }
                if indexed || steps.peek().is_some() {
                    path.push("*".to_owned());
                }
            }
            // At the end of the way they are what is violated.
            "additionalProperties" | "unevaluatedProperties" | "additionalItems" | "unevaluatedItems" | "contains" if steps.peek().is_some() => {
                path.push("*".to_owned());
            }
            // Their names are names of parts of the schema.
            "dependentSchemas" | "dependencies" | "$defs" | "definitions" => {
                steps.next();
            }
            _ => {}
        }
    }
    path
}

/// A name as JSON Pointer (RFC 6901) writes it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: &Value, answer: &Value, violation: Option<&str>) {
        let schema = jsonschema::options().build(schema).expect("the schema compiles");
        assert_eq!(first(&schema, answer).as_deref(), violation, "{answer}");
        assert_eq!(schema.is_valid(answer), violation.is_none(), "{answer}");
    }

    #[test]
    fn the_first_violation_is_the_same_wherever_in_an_array_it_is() {
        let schema = json!({ "type": "object", "required": ["facts"], "properties": { "facts": { "type": "array", "items": { "$ref": "#/$defs/fact" } } },
            "$defs": { "fact": { "type": "object", "required": ["text"], "properties": { "text": { "type": "string" }, "a/b": { "const": 1 } },
            "additionalProperties": false } } });
        for (answer, violation) in [
            (json!({ "facts": [{ "text": "a" }] }), None),
            (json!({}), Some("/facts required")),
            (json!([]), Some("/ type")),
            (json!({ "facts": {} }), Some("/facts type")),
            (json!({ "facts": [{ "text": "a" }, { "text": 5 }] }), Some("/facts/*/text type")),
            (json!({ "facts": [{ "text": 5 }, { "text": "a" }, { "text": 7 }] }), Some("/facts/*/text type")),
            (json!({ "facts": [{}] }), Some("/facts/*/text required")),
            (json!({ "facts": [{ "text": "a", "a/b": 2 }] }), Some("/facts/*/a~1b const")),
            (json!({ "facts": [{ "text": "a", "secret of a user": 2 }] }), Some("/facts/* additionalProperties")),
            // The shallower one, though the other comes first in the answer.
            (json!({ "facts": [{ "text": 5 }, 5] }), Some("/facts/* type")),
        ] {
            check(&schema, &answer, violation);
        }
    }

    #[test]
    fn names_that_the_schema_does_not_spell_out_are_not_told() {
        let number = || json!({ "type": "number" });
        for (schema, answer, violation) in [
            (json!({ "additionalProperties": number() }), json!({ "a user's words": "x" }), "/* type"),
            (json!({ "patternProperties": { "^a": number() } }), json!({ "a user's words": "x" }), "/* type"),
            (json!({ "unevaluatedProperties": false }), json!({ "a user's words": "x" }), "/ unevaluatedProperties"),
            (json!({ "propertyNames": { "maxLength": 2 } }), json!({ "a user's words": "x" }), "/ propertyNames"),
            (json!({ "prefixItems": [number(), number()] }), json!([1, "x"]), "/* type"),
            (json!({ "properties": { "a": false } }), json!({ "a": 1 }), "/a falseSchema"),
            (json!({ "properties": { "items": number() } }), json!({ "items": "x" }), "/items type"),
            (json!({ "properties": { "7": number() } }), json!({ "7": "x" }), "/7 type"),
            (json!({ "allOf": [{ "properties": { "a": number() } }] }), json!({ "a": "x" }), "/a type"),
            (json!({ "properties": { "a": { "anyOf": [number(), { "type": "null" }] } } }), json!({ "a": "x" }), "/a anyOf"),
            (json!({ "$schema": "http://json-schema.org/draft-07/schema#", "items": [number()] }), json!(["x"]), "/* type"),
            (json!({ "dependentSchemas": { "a": { "properties": { "b": number() } } } }), json!({ "a": 1, "b": "x" }), "/b type"),
        ] {
            check(&schema, &answer, Some(violation));
        }
    }

    #[test]
    fn a_long_way_is_cut_before_its_keyword() {
        let name = "é".repeat(90);
        let schema = json!({ "properties": { &name: { "type": "string" } } });
        check(&schema, &json!({ &name: 1 }), Some(&format!("/{} type", "é".repeat(49))));
    }
}
