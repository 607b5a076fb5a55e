//! Where scripts run: a raw engine with its packages chosen one by one and every limit set.
//!
//! Nothing here can read a clock, sleep, do I/O, load a module or evaluate text. Rhai's core package is left out, because it is the one that
//! holds `sleep`. Budgets are counted in operations, so that a rule that runs too long does so on every machine alike.

use crate::problem::{Refusal, explain};
use crate::{check, growth, json, log, pattern, prose, say};
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage, BasicStringPackage, LogicPackage,
    MoreStringPackage, Package,
};
use rhai::{AST, CallFnOptions, Dynamic, Engine, ImmutableString, Module, NativeCallContext, Position, Scope};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Operations of a file's top level, and of one `check`: a hundred times what the largest rule so far needs.
pub(crate) const OPERATIONS_MAX: u64 = 200_000;
/// Operations of one `applies`, `signals` or `measures`, which run for every call: enough to walk an answer of a thousand values, which takes a
/// millisecond. No shipped rule loops at all.
pub(crate) const OPERATIONS_PER_CALL_MAX: u64 = 20_000;
/// Functions calling functions: deep enough for any rule, shallow enough for the 2 MiB stack of a worker thread in a debug build.
pub(crate) const CALL_LEVELS_MAX: usize = 12;
/// Nesting of one expression; the same reason.
pub(crate) const EXPRESSION_DEPTH_MAX: usize = 32;
/// Length of a string in bytes. With 20,000 operations on such strings a call can cost a second and no more than some megabytes.
pub(crate) const STRING_MAX_BYTES: usize = 256 << 10;
/// Elements of an array, nested ones included. Rhai walks an array whenever a function was given it.
pub(crate) const ARRAY_MAX: usize = 2_000;
/// Entries of a map, nested ones included; the same reason.
pub(crate) const MAP_MAX: usize = 500;
/// Variables at one time.
pub(crate) const VARIABLES_MAX: usize = 100;
/// Functions in a file, closures included.
pub(crate) const FUNCTIONS_MAX: usize = 100;

/// An engine whose scripts may take so many operations. The functions of the language that need no context are there.
pub(crate) fn engine(operations_max: u64) -> Engine {
    let mut engine = Engine::new_raw();
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    for symbol in ["eval", "import", "export", "sleep"] {
        engine.disable_symbol(symbol);
    }
    engine.on_print(|_| {}).on_debug(|_, _, _| {});
    engine
        .set_max_operations(operations_max)
        .set_max_call_levels(CALL_LEVELS_MAX)
        .set_max_expr_depths(EXPRESSION_DEPTH_MAX, EXPRESSION_DEPTH_MAX)
        .set_max_string_size(STRING_MAX_BYTES)
        .set_max_array_size(ARRAY_MAX)
        .set_max_map_size(MAP_MAX)
        .set_max_variables(VARIABLES_MAX)
        .set_max_functions(FUNCTIONS_MAX)
        // Interned strings are shared under a lock, and every worker thread runs this engine.
        .set_max_strings_interned(0);
    register_bounded_replace(&mut engine);
    growth::bound(&mut engine);
    json::register(&mut engine);
    log::register(&mut engine);
    say::register(&mut engine);
    pattern::register(&mut engine);
    prose::register(&mut engine);
    check::register(&mut engine);
    engine
}

/// Lets functions of one file see its constants; they see nothing else from outside.
pub(crate) fn share_constants(engine: &mut Engine, constants: &Scope<'_>) {
    let mut module = Module::new();
    for (name, _, value) in constants.iter() {
        module.set_var(name, value);
    }
    engine.register_global_module(module.into());
}

/// Why a script gave no answer, and where in its file.
#[derive(Debug)]
pub(crate) struct Failure {
    pub refusal: Refusal,
    pub at: Position,
}

/// Calls a function of a script, without running its top level again.
pub(crate) fn run(engine: &Engine, ast: &AST, function: &str, argument: Dynamic, tag: Dynamic) -> Result<Dynamic, Failure> {
    guarded(|| {
        let options = CallFnOptions::new().eval_ast(false).with_tag(tag);
        engine.call_fn_with_options::<Dynamic>(options, &mut Scope::new(), ast, function, (argument,))
    })
}

/// Runs a script; whatever goes wrong in it, a panic of the interpreter included, stays its own.
pub(crate) fn guarded<T>(script: impl FnOnce() -> Result<T, Box<rhai::EvalAltResult>>) -> Result<T, Failure> {
    pattern::begin();
    growth::begin();
    match catch_unwind(AssertUnwindSafe(script)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let (refusal, at) = explain(&error);
            Err(Failure { refusal, at })
        }
        Err(_) => Err(Failure { refusal: Refusal::new("the interpreter failed on this script"), at: Position::NONE }),
    }
}

/// Cuts `text` to what a script may hold.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(STRING_MAX_BYTES)]
}

/// `replace` of the string package builds its result before its size is looked at; this one looks first.
fn register_bounded_replace(engine: &mut Engine) {
    fn replaced(context: &NativeCallContext<'_>, text: &mut ImmutableString, find: &str, by: &str) -> Result<(), Box<rhai::EvalAltResult>> {
        let growth = text.matches(find).count().saturating_mul(by.len());
        if growth.saturating_add(text.len()) > STRING_MAX_BYTES {
            return Err(rhai::EvalAltResult::ErrorDataTooLarge("Length of string".to_owned(), context.call_position()).into());
        }
        *text = text.replace(find, by).into();
        Ok(())
    }
    engine.register_fn("replace", |context: NativeCallContext<'_>, text: &mut ImmutableString, find: &str, by: &str| {
        replaced(&context, text, find, by)
    });
    engine.register_fn("replace", |context: NativeCallContext<'_>, text: &mut ImmutableString, find: char, by: &str| {
        replaced(&context, text, find.encode_utf8(&mut [0; 4]), by)
    });
}
