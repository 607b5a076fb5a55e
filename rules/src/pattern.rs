//! Regular expressions: `matches(text, pattern)`, in time that grows with the text alone, whatever the pattern.
//!
//! Patterns are compiled once per engine and kept, because the same function runs for every call.

use crate::problem::Refusal;
use regex::{Regex, RegexBuilder};
use rhai::{Engine, EvalAltResult, ImmutableString};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Patterns that one rule may use; they are written in its file, so more are made up while it runs.
pub(crate) const PATTERNS_MAX: usize = 100;
/// Of one compiled pattern: what the crate takes for any that a person writes, a hundred times over.
const SIZE_MAX_BYTES: usize = 1 << 20;
/// Text that one run of a function may have matched: operations do not count what a pattern does.
pub(crate) const MATCHED_MAX_BYTES: usize = 8 << 20;

thread_local! {
    /// What the running function has had matched so far.
    static MATCHED: Cell<usize> = const { Cell::new(0) };
}

/// Before a function of a script runs.
pub(crate) fn begin() {
    MATCHED.set(0);
}

pub(crate) fn register(engine: &mut Engine) {
    let known: RwLock<HashMap<ImmutableString, Regex>> = RwLock::default();
    engine.register_fn("matches", move |text: ImmutableString, pattern: ImmutableString| -> Result<bool, Box<EvalAltResult>> {
        MATCHED.set(MATCHED.get().saturating_add(text.len()));
        if MATCHED.get() > MATCHED_MAX_BYTES {
            return Err(Refusal::new(format!("more than {} MiB of text are matched in one run", MATCHED_MAX_BYTES >> 20)).into());
        }
        if let Some(regex) = known.read().unwrap_or_else(PoisonError::into_inner).get(&pattern) {
            return Ok(regex.is_match(&text));
        }
        let regex = compile(&pattern)?;
        let matches = regex.is_match(&text);
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= PATTERNS_MAX && !known.contains_key(&pattern) {
            let refusal = Refusal::new(format!("more than {PATTERNS_MAX} patterns in one rule"));
            return Err(refusal.hint("write patterns out instead of making them up from calls").into());
        }
        known.insert(pattern, regex);
        Ok(matches)
    });
    engine.register_fn("matches", |_: (), _: ImmutableString| false);
}

/// # Errors
/// What is wrong with the pattern, in one line.
pub(crate) fn compile(pattern: &str) -> Result<Regex, Refusal> {
    RegexBuilder::new(pattern).size_limit(SIZE_MAX_BYTES).build().map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        Refusal::new(format!("`{pattern}` is no regular expression: {why}"))
            .hint("the syntax is that of the regex crate; write \\\\d for \\d, or use `\\d`")
            .about("matches")
    })
}
