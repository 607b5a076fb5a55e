//! JSON as scripts see it: whatever is missing or of another type is `()`, never an error.
//!
//! Scalars become plain values of the language; arrays and objects stay shared and unchangeable, so handing one on costs nothing. To make a
//! path through nothing come out as nothing, `()` and plain scalars answer any property and any index with `()` too, and have length 0.

use crate::sandbox::cut;
use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Map, Module, NativeCallContext};
use serde_json::Value;
use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An array or an object.
#[derive(Clone, Debug)]
pub(crate) struct Json(Arc<Container>);

#[derive(Debug)]
enum Container {
    Array(Vec<Dynamic>),
    Object(BTreeMap<Box<str>, Dynamic>),
}

/// Longer texts are `()`: parsed, they could take a hundred times their length, and answers of this size are rare.
const TEXT_MAX_BYTES: usize = 1 << 20;

/// `()` when `text` is no JSON, is longer than [`TEXT_MAX_BYTES`], is nested deeper than 128, or holds a number or a surrogate that has no value.
pub(crate) fn parse(text: &str) -> Dynamic {
    if text.len() > TEXT_MAX_BYTES {
        return Dynamic::UNIT;
    }
    serde_json::from_str(text).map_or(Dynamic::UNIT, from_value)
}

/// An object of what is present.
pub(crate) fn object<'n>(entries: impl IntoIterator<Item = (&'n str, Dynamic)>) -> Dynamic {
    let entries = entries.into_iter().filter(|(_, value)| !value.is_unit()).map(|(name, value)| (name.into(), value)).collect();
    Dynamic::from(Json(Arc::new(Container::Object(entries))))
}

fn from_value(value: Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Number(number) => number.as_i64().map_or_else(|| number.as_f64().map_or(Dynamic::UNIT, Dynamic::from), Dynamic::from),
        Value::String(text) => cut(&text).into(),
        Value::Array(values) => Dynamic::from(Json(Arc::new(Container::Array(values.into_iter().map(from_value).collect())))),
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(name, value)| (name.into(), from_value(value))).collect();
            Dynamic::from(Json(Arc::new(Container::Object(entries))))
        }
    }
}

/// Whether `object` has such a text.
pub(crate) fn field_is(object: &Dynamic, name: &str, text: &str) -> bool {
    let object = object.read_lock::<Json>();
    object.is_some_and(|object| object.field(name).as_immutable_string_ref().is_ok_and(|value| value.as_str() == text))
}

/// A value of the language as JSON text.
///
/// # Errors
/// What it holds that JSON cannot say.
pub(crate) fn written(value: &Dynamic) -> Result<String, String> {
    fn tree(value: &Dynamic) -> Result<Value, String> {
        if value.is_unit() {
            return Ok(Value::Null);
        }
        if let Ok(value) = value.as_bool() {
            return Ok(value.into());
        }
        if let Ok(value) = value.as_int() {
            return Ok(value.into());
        }
        if let Ok(value) = value.as_float() {
            return serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| format!("the number {value}"));
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            return Ok(text.as_str().into());
        }
        if let Some(values) = value.read_lock::<Array>() {
            return values.iter().map(tree).collect();
        }
        if let Some(entries) = value.read_lock::<Map>() {
            return entries.iter().map(|(name, value)| Ok((name.to_string(), tree(value)?))).collect::<Result<_, String>>().map(Value::Object);
        }
        Err(format!("a {}", value.type_name()))
    }
    tree(value).map(|value| value.to_string())
}

/// A value as a text that is the same for the same value, whatever the order of its fields.
pub(crate) fn shown(value: &Dynamic) -> String {
    let list = |values: Vec<String>| values.join(",");
    match value.read_lock::<Json>() {
        None => format!("{}:{value}", value.type_name()),
        Some(json) => match &*json.0 {
            Container::Array(values) => format!("[{}]", list(values.iter().map(shown).collect())),
            Container::Object(entries) => format!("{{{}}}", list(entries.iter().map(|(name, value)| format!("{name:?}:{}", shown(value))).collect())),
        },
    }
}

impl Json {
    fn at(&self, index: i64) -> Dynamic {
        let Container::Array(values) = &*self.0 else { return Dynamic::UNIT };
        let from_end = || usize::try_from(index.unsigned_abs()).ok().and_then(|back| values.len().checked_sub(back));
        let at = if index < 0 { from_end() } else { usize::try_from(index).ok() };
        at.and_then(|at| values.get(at)).cloned().unwrap_or(Dynamic::UNIT)
    }

    fn field(&self, name: &str) -> Dynamic {
        match &*self.0 {
            Container::Object(entries) => entries.get(name).cloned().unwrap_or(Dynamic::UNIT),
            Container::Array(_) => Dynamic::UNIT,
        }
    }

    fn len(&self) -> usize {
        match &*self.0 {
            Container::Array(values) => values.len(),
            Container::Object(entries) => entries.len(),
        }
    }

    /// Elements of an array, values of an object.
    pub(crate) fn values(&self) -> Array {
        match &*self.0 {
            Container::Array(values) => values.clone(),
            Container::Object(entries) => entries.values().cloned().collect(),
        }
    }

    fn keys(&self) -> Array {
        match &*self.0 {
            Container::Object(entries) => entries.keys().map(|name| Dynamic::from(ImmutableString::from(name.as_ref()))).collect(),
            Container::Array(_) => Array::new(),
        }
    }

    /// An array holds such a scalar; an object has such a field.
    fn contains(&self, wanted: &Dynamic) -> bool {
        match &*self.0 {
            Container::Array(values) => values.iter().any(|value| same_scalar(value, wanted)),
            Container::Object(entries) => wanted.as_immutable_string_ref().is_ok_and(|name| entries.contains_key(name.as_str())),
        }
    }
}

fn same_scalar(left: &Dynamic, right: &Dynamic) -> bool {
    let number = |value: &Dynamic| value.as_float().ok().or_else(|| value.as_int().ok().map(|whole| whole as f64));
    if let (Ok(left), Ok(right)) = (left.as_immutable_string_ref(), right.as_immutable_string_ref()) {
        return *left == *right;
    }
    if let (Ok(left), Ok(right)) = (left.as_int(), right.as_int()) {
        return left == right;
    }
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return left == right;
    }
    matches!((left.as_bool(), right.as_bool()), (Ok(left), Ok(right)) if left == right)
}

pub(crate) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<Json>("json")
        .register_indexer_get(|json: &mut Json, name: &str| json.field(name))
        .register_indexer_get(|json: &mut Json, index: i64| json.at(index))
        .register_fn("len", |json: &mut Json| json.len() as i64)
        .register_get("len", |json: &mut Json| json.len() as i64)
        .register_fn("is_empty", |json: &mut Json| json.len() == 0)
        .register_fn("keys", |json: &mut Json| json.keys())
        .register_fn("values", |json: &mut Json| json.values())
        .register_fn("to_array", |json: &mut Json| json.values())
        .register_fn("contains", |json: &mut Json, wanted: Dynamic| json.contains(&wanted));
    partless::<()>(engine);
    partless::<bool>(engine);
    partless::<i64>(engine);
    partless::<f64>(engine);
    unindexed::<()>(engine);
    unindexed::<bool>(engine);
    unindexed::<f64>(engine);
    walked(engine, |json: &mut Json| json.values());
    walked(engine, |_: &mut ()| Array::new());
    let mut walks = Module::new();
    walks.set_iter(TypeId::of::<Json>(), |json| Box::new(json.cast::<Json>().values().into_iter()));
    walks.set_iter(TypeId::of::<()>(), |_| Box::new(std::iter::empty()));
    engine.register_global_module(walks.into());
}

/// What has no parts has length 0.
fn partless<T: Clone + Send + Sync + 'static>(engine: &mut Engine) {
    engine
        .register_fn("len", |_: &mut T| 0_i64)
        .register_fn("is_empty", |_: &mut T| true)
        .register_fn("keys", |_: &mut T| Array::new())
        .register_fn("values", |_: &mut T| Array::new())
        .register_fn("to_array", |_: &mut T| Array::new())
        .register_fn("contains", |_: &mut T, _: Dynamic| false);
}

/// Lets a path go on through a value that has no parts.
fn unindexed<T: Clone + Send + Sync + 'static>(engine: &mut Engine) {
    engine.register_indexer_get(|_: &mut T, _: &str| ()).register_indexer_get(|_: &mut T, _: i64| ());
}

/// Gives the properties that a rule file asks for to every type that a path can lead through.
///
/// Rhai takes no indexer for texts and whole numbers, so this is what makes a path through them come out as `()`, where the language has no
/// meaning of its own for the property. Objects and `()` would find it by their indexer, three times as slowly.
pub(crate) fn let_through(engine: &mut Engine, properties: Vec<&str>) {
    let unknown = |engine: &Engine, path: String| {
        engine.eval_expression::<Dynamic>(&path).is_err_and(|error| matches!(*error, EvalAltResult::ErrorDotExpr(..)))
    };
    for property in properties {
        if unknown(engine, format!("\"\".{property}")) {
            engine.register_get(property, |_: &mut ImmutableString| ());
        }
        if unknown(engine, format!("0.{property}")) {
            engine.register_get(property, |_: &mut i64| ());
        }
        if property != "len" {
            let name: Box<str> = property.into();
            engine.register_get(property, move |json: &mut Json| json.field(&name)).register_get(property, |_: &mut ()| ());
        }
    }
}

/// `some`, `all`, `filter` and `map` with a closure over the values.
fn walked<T: Clone + Send + Sync + 'static>(engine: &mut Engine, values: fn(&mut T) -> Array) {
    type Answer<T> = Result<T, Box<EvalAltResult>>;
    fn holds(context: &NativeCallContext<'_>, closure: &FnPtr, value: &Dynamic) -> Answer<bool> {
        let answer = closure.call_within_context::<Dynamic>(context, (value.clone(),))?;
        Ok(answer.as_bool().unwrap_or(false))
    }
    engine
        .register_fn("some", move |context: NativeCallContext<'_>, of: &mut T, closure: FnPtr| -> Answer<bool> {
            for value in values(of) {
                if holds(&context, &closure, &value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .register_fn("all", move |context: NativeCallContext<'_>, of: &mut T, closure: FnPtr| -> Answer<bool> {
            for value in values(of) {
                if !holds(&context, &closure, &value)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .register_fn("filter", move |context: NativeCallContext<'_>, of: &mut T, closure: FnPtr| -> Answer<Array> {
            let mut kept = Array::new();
            for value in values(of) {
                if holds(&context, &closure, &value)? {
                    kept.push(value);
                }
            }
            Ok(kept)
        })
        .register_fn("map", move |context: NativeCallContext<'_>, of: &mut T, closure: FnPtr| -> Answer<Array> {
            values(of).into_iter().map(|value| closure.call_within_context(&context, (value,))).collect()
        });
}
