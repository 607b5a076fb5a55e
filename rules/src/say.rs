//! Numbers as a person reads them, in a rule's own messages: `percent`, `ms`, `usd`; and lengths of time as a person writes them: `duration`. What has
//! no value is `n/a`.

use crate::problem::Refusal;
use model::{Span, show};
use rhai::{Engine, EvalAltResult};

pub(crate) fn register(engine: &mut Engine) {
    for (name, say) in [("percent", show::percent as fn(f64) -> String), ("ms", show::millis), ("usd", show::dollars)] {
        engine
            .register_fn(name, move |value: f64| if value.is_finite() { say(value) } else { "n/a".to_owned() })
            .register_fn(name, move |value: i64| say(value as f64))
            .register_fn(name, |_: ()| "n/a".to_owned());
    }
    engine.register_fn("duration", |text: &str| -> Result<i64, Box<EvalAltResult>> {
        let span = Span::parse(text).and_then(|span| i64::try_from(span.millis()).ok());
        Ok(span.ok_or_else(|| Refusal::new(format!("`{text}` is no length of time")).hint("as in duration(\"2s\") or duration(\"1h30m\")"))?)
    });
}
