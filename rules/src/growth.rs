//! What a script holds stays small even where the interpreter does not look: it sizes what a function returns, and not what grows by `m[key] = value`.
//!
//! So from time to time all variables are sized, as they are looked up: no script grows anything without looking up a variable. How often is counted
//! in look-ups and from the start of each run, so that a script fails at the same place on every machine.

use rhai::{Engine, EvalContext};
use std::cell::Cell;

/// Look-ups between two sizings. Each may have added one text, so a function can hold this many texts beyond its limits: 16 MiB.
const EVERY: u32 = 64;

thread_local! {
    /// Look-ups of the running script so far.
    static LOOKED_UP: Cell<u32> = const { Cell::new(0) };
}

/// Before a script runs.
pub(crate) fn begin() {
    LOOKED_UP.set(0);
}

/// Lets a script fail once one of its variables is larger than the engine's limits.
#[expect(deprecated, reason = "not deprecated but marked as volatile; it is what the interpreter has for this")]
pub(crate) fn bound(engine: &mut Engine) {
    engine.on_var(|_, _, context: EvalContext<'_, '_, '_, '_, '_, '_>| {
        let looked_up = LOOKED_UP.get().wrapping_add(1);
        LOOKED_UP.set(looked_up);
        if looked_up.is_multiple_of(EVERY) {
            let variables = context.scope().iter_raw().map(|(_, _, value)| value).chain(context.this_ptr());
            // What a closure shares and is changing just now is sized the next time.
            for value in variables.filter(|value| !value.is_shared() || !value.is_locked()) {
                context.engine().ensure_data_size_within_limits(value)?;
            }
        }
        Ok(None)
    });
}
