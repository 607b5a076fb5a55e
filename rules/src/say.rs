//! Numbers as a person reads them, in a rule's own messages: `percent`, `ms`, `usd`, `number`; and lengths of time as a person writes them: `duration`.
//! What has no value is `n/a`.

use crate::problem::Refusal;
use model::{Span, show};
use rhai::{Dynamic, Engine, EvalAltResult};

type Said = Result<String, Box<EvalAltResult>>;

pub(crate) fn register(engine: &mut Engine) {
    engine
        .register_fn("percent", |value: Dynamic| -> Said { Ok(said("percent", show::percent, &value)?) })
        .register_fn("ms", |value: Dynamic| -> Said { Ok(said("ms", show::millis, &value)?) })
        .register_fn("usd", |value: Dynamic| -> Said { Ok(said("usd", show::dollars, &value)?) })
        .register_fn("number", |value: Dynamic| -> Said { Ok(said("number", show::number, &value)?) })
        .register_fn("duration", |text: &str| -> Result<i64, Box<EvalAltResult>> {
            let span = Span::parse(text).and_then(|span| i64::try_from(span.millis()).ok());
            Ok(span.ok_or_else(|| Refusal::new(format!("`{text}` is no length of time")).hint("as in duration(\"2s\") or duration(\"1h30m\")"))?)
        });
}

/// A difference may be negative, which no share, time or price is.
fn said(function: &str, say: fn(f64) -> String, value: &Dynamic) -> Result<String, Refusal> {
    if value.is_unit() {
        return Ok("n/a".to_owned());
    }
    let number = value.as_float().or_else(|_| value.as_int().map(|whole| whole as f64));
    let number = number.map_err(|kind| {
        let hint = if kind == "map" { "a watch's number is its value, as in w.value.value" } else { "of () it is n/a" };
        Refusal::new(format!("{function} takes a number, and this is {}", said_type(kind))).hint(hint)
    })?;
    Ok(match number {
        number if !number.is_finite() => "n/a".to_owned(),
        number if number < 0.0 => format!("-{}", say(-number)),
        number => say(number),
    })
}

/// What a value is, in the words of the reference.
pub(crate) fn said_type(kind: &str) -> &str {
    match kind {
        "string" | "&str | ImmutableString | String" | "&str" => "a text",
        "char" => "a character",
        "bool" => "true or false",
        "i64" | "int" => "a whole number",
        "f64" | "float" => "a number",
        "array" => "an array",
        "map" => "a map",
        "()" => "()",
        other => match other.rsplit("::").next() {
            Some("Json") => "an array or an object of the call",
            Some("Log") => "the whole call",
            Some("Watch") => "a watch",
            _ => other,
        },
    }
}
