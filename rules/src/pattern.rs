//! Regular expressions: `matches(text, pattern)`, in time that grows with the text and the size of the pattern alone, whatever the pattern is.
//!
//! Patterns are compiled once per engine and kept, because the same function runs for every call.

use crate::problem::Refusal;
use regex::{Regex, RegexBuilder};
use rhai::{Engine, EvalAltResult, ImmutableString};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Compiled patterns that are kept for one rule: those of its file. Patterns that it makes up beyond them are compiled each time, and count as if all
/// were: what a rule answers must not depend on which calls came before.
const KEPT_MAX: usize = 100;
/// What using a pattern counts as, for each KiB of it, beside the text: compiling it may be part of it.
const COMPILED_BYTES: usize = 2 << 10;
/// Of one compiled pattern: what the crate takes for any that a person writes, a hundred times over.
const SIZE_MAX_BYTES: usize = 1 << 20;
/// Text that one run of a function may have matched, times the size of its patterns in KiB: operations do not count what a pattern does, and each
/// byte may have to be held against every state of it. In the worst case this is a quarter of a second.
pub(crate) const MATCHED_MAX_BYTES: usize = 2 << 20;
/// What a refused pattern counts as: some milliseconds were spent on it, and a script may catch the error and go on.
const REFUSED_BYTES: usize = 1 << 20;

thread_local! {
    /// What the running function has had matched so far.
    static MATCHED: Cell<usize> = const { Cell::new(0) };
}

/// Before a function of a script runs.
pub(crate) fn begin() {
    MATCHED.set(0);
}

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// At least its size and at most twice that.
    size_kib: usize,
}

impl Pattern {
    fn matches(&self, text: &str) -> Result<bool, Refusal> {
        spend(text.len().saturating_add(COMPILED_BYTES).saturating_mul(self.size_kib))?;
        Ok(self.regex.is_match(text))
    }
}

/// # Errors
/// When the running function has had too much matched.
pub(crate) fn spend(bytes: usize) -> Result<(), Refusal> {
    MATCHED.set(MATCHED.get().saturating_add(bytes));
    if MATCHED.get() > MATCHED_MAX_BYTES {
        let refusal = Refusal::new(format!("more than {} MiB of text are matched in one run", MATCHED_MAX_BYTES >> 20)).exhausted();
        return Err(refusal.hint(
            "text, and 2 KiB for each use, count once for each KiB that the pattern takes: repetitions like {100} and classes like \\w are large",
        ));
    }
    Ok(())
}

pub(crate) fn register(engine: &mut Engine) {
    let known: RwLock<HashMap<ImmutableString, Pattern>> = RwLock::default();
    engine.register_fn("matches", move |text: ImmutableString, pattern: ImmutableString| -> Result<bool, Box<EvalAltResult>> {
        if let Some(pattern) = known.read().unwrap_or_else(PoisonError::into_inner).get(&pattern) {
            return Ok(pattern.matches(&text)?);
        }
        // A script may catch what is said here and go on; then it compiles nothing more.
        spend(0)?;
        let compiled = match compile(&pattern) {
            Ok(compiled) => compiled,
            Err(refusal) => {
                spend(REFUSED_BYTES)?;
                return Err(refusal.into());
            }
        };
        let matches = compiled.matches(&text)?;
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < KEPT_MAX {
            known.insert(pattern, compiled);
        }
        Ok(matches)
    });
    engine.register_fn("matches", |_: (), _: ImmutableString| false);
}

/// # Errors
/// What is wrong with the pattern, in one line.
pub(crate) fn compile(pattern: &str) -> Result<Pattern, Refusal> {
    // The crate does not say how large a pattern is, only whether it is larger than a limit.
    let mut limit = 1 << 10;
    let error = loop {
        match RegexBuilder::new(pattern).size_limit(limit).build() {
            Ok(regex) => return Ok(Pattern { regex, size_kib: limit >> 10 }),
            Err(regex::Error::CompiledTooBig(_)) if limit < SIZE_MAX_BYTES => limit *= 2,
            Err(error) => break error,
        }
    };
    let text = error.to_string();
    let why = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
    Err(Refusal::new(format!("`{pattern}` is no regular expression: {why}"))
        .hint("the syntax is that of the regex crate; write \\\\d for \\d, or use `\\d`")
        .about("matches"))
}
