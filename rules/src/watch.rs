//! A watch as a value of the language: `rate("fallback", "5m").expect(0.0, 0.05).only(#{ stage: "extraction" }).at_least(50)`.
//!
//! What can be judged from the arguments alone is judged here; whether a signal or a measure exists depends on the whole file, so its name stays a
//! name.

use crate::fields::filter;
use crate::problem::Refusal;
use model::Key;
use model::plan::{Filter, Range, TICK};
use model::time::Span;
use rhai::{Dynamic, Engine, EvalAltResult, Map, NativeCallContext, Position};

/// Longer windows are refused: what they hold is kept in memory, as hours, minutes and slices.
pub(crate) const WINDOW_MAX: Span = Span::from_secs(7 * 86_400);

/// Fewer calls than this give a `check` no value of a rate or a measure, unless the rule says otherwise. Counts and sums speak from none.
const AT_LEAST: u64 = 30;

/// More labels of a ranking are more than a person reads.
const TOP_MAX: i64 = 20;

#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub of: Of,
    pub window: Span,
    pub expect: Option<Range>,
    pub only: Filter,
    at_least: Option<u64>,
    /// Of the call that made it.
    pub at: Position,
}

#[derive(Clone, Debug)]
pub(crate) enum Of {
    Rate(String),
    Count(String),
    Quantile(String, f64),
    Mean(String),
    Sum(String),
    Volume,
    Ratio(Box<Watch>, Box<Watch>),
    Distinct(Key),
    /// By a measure, or by calls.
    Top(Key, Option<String>, usize),
}

type Made<T> = Result<T, Box<EvalAltResult>>;

pub(crate) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<Watch>("watch")
        .register_fn("rate", |context: NativeCallContext<'_>, signal: Dynamic, window: Dynamic| -> Made<Watch> {
            let signal = text(&signal, "a rate's signal", "rate(\"fallback\", \"5m\")")?;
            Ok(Watch::new(&context, Of::Rate(signal), &window)?)
        })
        .register_fn("count", |context: NativeCallContext<'_>, signal: Dynamic, window: Dynamic| -> Made<Watch> {
            let signal = text(&signal, "a count's signal", "count(\"error\", \"5m\")")?;
            Ok(Watch::new(&context, Of::Count(signal), &window)?)
        })
        .register_fn("quantile", |context: NativeCallContext<'_>, measure: Dynamic, q: Dynamic, window: Dynamic| -> Made<Watch> {
            Ok(Watch::new(&context, Of::Quantile(measure_named(&measure)?, share(&q)?), &window)?)
        })
        .register_fn("mean", |context: NativeCallContext<'_>, measure: Dynamic, window: Dynamic| -> Made<Watch> {
            Ok(Watch::new(&context, Of::Mean(measure_named(&measure)?), &window)?)
        })
        .register_fn("sum", |context: NativeCallContext<'_>, measure: Dynamic, window: Dynamic| -> Made<Watch> {
            Ok(Watch::new(&context, Of::Sum(measure_named(&measure)?), &window)?)
        })
        .register_fn("volume", |context: NativeCallContext<'_>, window: Dynamic| -> Made<Watch> { Ok(Watch::new(&context, Of::Volume, &window)?) })
        .register_fn("ratio", |context: NativeCallContext<'_>, above: Dynamic, below: Dynamic| -> Made<Watch> { Ok(ratio(&context, above, below)?) })
        .register_fn("distinct", |context: NativeCallContext<'_>, key: Dynamic, window: Dynamic| -> Made<Watch> {
            Ok(Watch::new(&context, Of::Distinct(key_named(&key, "distinct(\"user_id\", \"1h\")")?), &window)?)
        })
        .register_fn("top", |context: NativeCallContext<'_>, key: Dynamic, measure: Dynamic, n: Dynamic, window: Dynamic| -> Made<Watch> {
            const EXAMPLE: &str = "top(\"user_id\", \"cost_usd\", 5, \"1h\")";
            let key = key_named(&key, EXAMPLE)?;
            let measure = Some(text(&measure, "what top ranks by", EXAMPLE)?).filter(|measure| measure != "calls");
            let n = n.as_int().ok().filter(|n| (1..=TOP_MAX).contains(n));
            let n = n.ok_or_else(|| Refusal::new(format!("top takes how many to name, 1 to {TOP_MAX}")).hint(format!("as in {EXAMPLE}")))?;
            Ok(Watch::new(&context, Of::Top(key, measure, n as usize), &window)?)
        })
        .register_fn("expect", |watch: Watch, low: Dynamic, high: Dynamic| -> Made<Watch> { Ok(watch.expecting(&low, &high)?) })
        .register_fn("at_least", |watch: Watch, calls: Dynamic| -> Made<Watch> {
            let calls = calls.as_int().ok().and_then(|calls| u64::try_from(calls).ok());
            let calls = calls.ok_or_else(|| Refusal::new("at_least takes a number of calls").hint("as in .at_least(50)").about("at_least"))?;
            Ok(Watch { at_least: Some(calls), ..watch })
        })
        .register_fn("only", |watch: Watch, entries: Map| -> Made<Watch> {
            if matches!(watch.of, Of::Ratio(..)) {
                let refusal = Refusal::new("a ratio is not filtered, its parts are").about("only");
                return Err(refusal.hint("as in ratio(sum(\"cost_usd\", \"1h\").only(#{ … }), volume(\"1h\"))").into());
            }
            if entries.contains_key("environment") {
                let refusal = Refusal::new("a watch is not filtered by environment");
                return Err(refusal.hint("say it for the whole rule: environments: [\"production\"]").about("environment").into());
            }
            Ok(Watch { only: filter(entries)?, ..watch })
        });
}

fn ratio(context: &NativeCallContext<'_>, above: Dynamic, below: Dynamic) -> Result<Watch, Refusal> {
    const EXAMPLE: &str = "as in ratio(sum(\"cost_usd\", \"1h\"), count(\"error\", \"1h\"))";
    let part = |value: Dynamic| match value.try_cast::<Watch>() {
        Some(Watch { of: Of::Ratio(..) | Of::Top(..), .. }) => Err(Refusal::new("a ratio is made of two plain watches").hint(EXAMPLE).about("ratio")),
        Some(Watch { expect: Some(_), .. }) => {
            Err(Refusal::new("the parts of a ratio have no expected range").hint("put .expect(low, high) behind the ratio").about("expect"))
        }
        Some(watch) => Ok(Box::new(watch)),
        None => Err(Refusal::new("ratio takes two watches").hint(EXAMPLE).about("ratio")),
    };
    let (above, below) = (part(above)?, part(below)?);
    let (window, at) = (below.window, context.call_position());
    Ok(Watch { of: Of::Ratio(above, below), window, expect: None, only: Filter::default(), at_least: None, at })
}

impl Watch {
    fn new(context: &NativeCallContext<'_>, of: Of, window: &Dynamic) -> Result<Self, Refusal> {
        Ok(Self { of, window: window_of(window)?, expect: None, only: Filter::default(), at_least: None, at: context.call_position() })
    }

    /// Where the rule does not say: evidence speaks for itself, but a `check` would compare the value of any two calls.
    pub fn at_least(&self, check: bool) -> u64 {
        let fewest = match self.of {
            Of::Volume | Of::Count(_) | Of::Sum(_) => 0,
            Of::Rate(_) | Of::Quantile(..) | Of::Mean(_) if check => AT_LEAST,
            _ => 1,
        };
        self.at_least.unwrap_or(fewest)
    }

    fn expecting(self, low: &Dynamic, high: &Dynamic) -> Result<Self, Refusal> {
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            return Err(Refusal::new("expect takes two numbers").hint("as in .expect(0.0, 0.05)").about("expect"));
        };
        if low > high {
            return Err(Refusal::new(format!("the expected range {low} to {high} is empty")).hint("the lower end comes first").about("expect"));
        }
        if low < 0.0 {
            return Err(Refusal::new(format!("expected at least {low}, and nothing here is ever below 0")).hint("begin at 0.0").about("expect"));
        }
        if matches!(self.of, Of::Rate(_)) && high > 1.0 {
            return Err(Refusal::new(format!("a rate is never {high}")).hint("a rate lies in 0.0 to 1.0: 5 % is 0.05").about("expect"));
        }
        Ok(Self { expect: Some(Range { low, high }), ..self })
    }
}

fn text(value: &Dynamic, what: &str, example: &str) -> Result<String, Refusal> {
    value.clone().into_string().map_err(|_| Refusal::new(format!("{what} is a text in quotes")).hint(format!("as in {example}")))
}

fn number(value: &Dynamic) -> Option<f64> {
    let number = value.as_float().ok().or_else(|| value.as_int().ok().map(|whole| whole as f64))?;
    number.is_finite().then_some(number)
}

/// Whether there is such a measure is known when the whole file is.
fn measure_named(value: &Dynamic) -> Result<String, Refusal> {
    text(value, "a measure", "mean(\"latency_ms\", \"5m\")")
}

fn key_named(value: &Dynamic, example: &str) -> Result<Key, Refusal> {
    let name = text(value, "a key", example)?;
    let hint = || format!("as in {example}");
    if name == "environment" {
        return Err(Refusal::new("every group has one environment").hint(hint()).about("environment"));
    }
    Key::parse(&name).ok_or_else(|| Refusal::new("a key's name is empty").hint(hint()))
}

fn share(value: &Dynamic) -> Result<f64, Refusal> {
    match number(value) {
        Some(q) if q > 0.0 && q < 1.0 => Ok(q),
        Some(q) if q > 1.0 && q < 100.0 => {
            Err(Refusal::new(format!("{q} is no quantile")).hint(format!("quantiles lie between 0 and 1: did you mean {}?", q / 100.0)))
        }
        _ => Err(Refusal::new("a quantile is a number between 0 and 1").hint("as in quantile(\"latency_ms\", 0.95, \"5m\")")),
    }
}

fn window_of(value: &Dynamic) -> Result<Span, Refusal> {
    const EXAMPLE: &str = "windows are written like \"30s\", \"5m\" or \"1h\": whole tens of seconds, at most \"7d\"";
    let Ok(written) = value.clone().into_string() else {
        return Err(Refusal::new("a window is a text in quotes").hint(EXAMPLE));
    };
    let refuse = |why: String| Err(Refusal::new(why).hint(EXAMPLE).about(written.as_str()));
    match Span::parse(&written) {
        None => refuse(format!("`{written}` is no window")),
        Some(span) if span > WINDOW_MAX => refuse(format!("a window of {span} is longer than this version keeps")),
        Some(span) if span < TICK || !span.millis().is_multiple_of(TICK.millis()) => {
            refuse(format!("a window of {span} is not made of whole ticks of {TICK}"))
        }
        Some(span) => Ok(span),
    }
}
