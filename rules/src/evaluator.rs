//! Code evaluators: scripts that judge one call, whose verdicts every rule may watch as `rate("code:NAME", …)` and `mean("code_score:NAME", …)`.
//!
//! A file is an evaluator when it says `evaluator(#{ … })` where a rule says `rule(#{ … })`; it is read by the same `load`, in the same sandbox. One that
//! nothing watches costs nothing, and one that several rules watch runs once a call. Deliberately absent: what a verdict is counted for, which is the
//! rules' business, and anything beyond the call, such as what another model thinks of it.

use crate::fields;
use crate::json;
use crate::load::{Constants, Evaluated, File, SCRIPT_SIGNALS_MAX, with_constants};
use crate::log::{Log, Mentioned};
use crate::names;
use crate::nearest;
use crate::problem::{Problem, Refusal};
use crate::sandbox::{self, Failure, OPERATIONS_MAX, OPERATIONS_PER_CALL_MAX};
use crate::say::said_type;
use crate::source::Source;
use crate::words::Words;
use model::CallLog;
use model::plan::{Filter, fingerprint};
use rhai::{AST, Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::PoisonError;

/// What a signal of an evaluator begins with, and a measure.
pub(crate) const SIGNAL: &str = "code:";
pub(crate) const SCORE: &str = "code_score:";

/// Evaluators that one rule watches; they share the bits of its own signals.
pub(crate) const WATCHED_MAX: usize = 8;
const _: () = assert!(WATCHED_MAX < SCRIPT_SIGNALS_MAX);

/// A score at or above it passes, where the file has no `const PASS_MARK`.
const PASS_MARK: f64 = 0.5;

const ENTRY: &str = "evaluate";
const FIELDS: [&str; 2] = ["name", "applies"];

/// What an evaluator says of a call that it applies to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Pass,
    /// With why, for people.
    Fail(String),
    /// From 0 to 1, and whether that is enough.
    Score {
        score: f64,
        pass: bool,
    },
}

/// A compiled evaluator.
#[derive(Debug)]
pub(crate) struct Evaluator {
    pub name: String,
    pub path: PathBuf,
    /// Of its text: verdicts of another text are other signals.
    pub fingerprint: u64,
    pub mentioned: Mentioned,
    ast: AST,
    engine: Engine,
    applies: Filter,
    environments: Vec<String>,
    pass_mark: f64,
}

impl Verdict {
    pub fn passes(&self) -> bool {
        matches!(self, Self::Pass | Self::Score { pass: true, .. })
    }

    pub fn score(&self) -> Option<f64> {
        match self {
            Self::Score { score, .. } => Some(*score),
            Self::Pass | Self::Fail(_) => None,
        }
    }
}

/// What `evaluate` hands back, before the pass mark is known.
#[derive(Clone)]
enum Said {
    Pass,
    Fail(ImmutableString),
    Score(f64),
}

impl Evaluator {
    /// `None` when it does not apply to the call.
    ///
    /// # Errors
    /// A script that fails, or returns what is no verdict.
    pub fn judge(&self, call: &CallLog<'_>, log: &Log) -> Result<Option<Verdict>, Failure> {
        let here = self.environments.is_empty() || self.environments.iter().any(|name| *name == call.environment);
        if !here || !self.applies.lets_through(call) {
            return Ok(None);
        }
        let answer = sandbox::run(&self.engine, &self.ast, ENTRY, Dynamic::from(log.clone()), Dynamic::UNIT)?;
        if answer.is_unit() {
            return Ok(None);
        }
        let kind = answer.type_name();
        match answer.try_cast::<Said>() {
            Some(Said::Pass) => Ok(Some(Verdict::Pass)),
            Some(Said::Fail(why)) => Ok(Some(Verdict::Fail(why.to_string()))),
            Some(Said::Score(score)) => Ok(Some(Verdict::Score { score, pass: score >= self.pass_mark })),
            None => {
                let refusal = Refusal::new(format!("fn {ENTRY} returned {}", said_type(kind)));
                let refusal = refusal.hint("it returns pass(), fail(\"why\"), score(0.8), or () for a call that it does not apply to");
                Err(Failure { refusal, at: rhai::Position::NONE })
            }
        }
    }

    /// A failure as a person is told it.
    pub fn failed(&self, failure: &Failure) -> String {
        let (line, column) = (failure.at.line().unwrap_or(1), failure.at.position().unwrap_or(1).max(1));
        let Refusal { message, hint, .. } = failure.refusal.clone();
        Problem { path: self.path.clone(), line, column, message, hint }.to_string()
    }
}

/// Verdicts about one call, each asked for at most once.
pub(crate) struct Verdicts<'e> {
    evaluators: &'e [Evaluator],
    known: HashMap<usize, Result<Option<Verdict>, Failure>>,
}

impl<'e> Verdicts<'e> {
    pub fn new(evaluators: &'e [Evaluator]) -> Self {
        Self { evaluators, known: HashMap::new() }
    }

    /// Of the evaluator at this position.
    ///
    /// # Errors
    /// The evaluator's failure, as one of whoever asks.
    pub fn get(&mut self, at: usize, call: &CallLog<'_>, log: &Log) -> Result<Option<&Verdict>, Failure> {
        let evaluator = &self.evaluators[at];
        match self.known.entry(at).or_insert_with(|| evaluator.judge(call, log)) {
            Ok(verdict) => Ok(verdict.as_ref()),
            Err(failure) => {
                let refusal = Refusal::new(format!("the evaluator `{}` fails: {}", evaluator.name, evaluator.failed(failure)));
                Err(Failure { refusal, at: rhai::Position::NONE })
            }
        }
    }
}

/// Whether a file says that it is an evaluator.
fn is_evaluator(source: &Source) -> bool {
    Words::of(&source.text).says("evaluator")
}

/// The evaluators among the files, by name; and of each file that is one, by its position, what is wrong with it.
pub(crate) fn load(sources: &[Source], constants: &Constants) -> (Vec<Evaluator>, BTreeMap<usize, Vec<Problem>>) {
    let mut evaluators: Vec<Evaluator> = Vec::new();
    let mut problems = BTreeMap::new();
    for (at, source) in sources.iter().enumerate().filter(|(_, source)| is_evaluator(source)) {
        let mut file = File::new(source, &source.text, &[]);
        let mut read = file.read_evaluator();
        let tuned;
        if let Some(set) = read.as_ref().and_then(|evaluator| constants.get(&evaluator.name)) {
            match with_constants(file.text, set) {
                Ok(text) => {
                    tuned = text;
                    file = File::new(source, &tuned, &[]);
                    read = file.read_evaluator();
                }
                Err(refusal) => file.problem((1, 1), refusal),
            }
        }
        if let Some(evaluator) = read.filter(|_| file.problems.is_empty()) {
            match evaluators.iter().find(|known| known.name == evaluator.name) {
                Some(known) => {
                    let message = format!("there is an evaluator `{}` already, in {}", evaluator.name, known.path.display());
                    let place = file.words.entry((1, 1), "name").unwrap_or((1, 1));
                    file.problem(place, Refusal::new(message).hint("give one of them another name"));
                }
                None => evaluators.push(evaluator),
            }
        }
        file.problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.insert(at, file.problems);
    }
    evaluators.sort_by(|a, b| a.name.cmp(&b.name));
    (evaluators, problems)
}

impl File<'_> {
    fn read_evaluator(&mut self) -> Option<Evaluator> {
        if !self.fits() {
            return None;
        }
        let calls = crate::load::Calls::default();
        let Evaluated { ast, constants, calls } = match self.evaluate(language(calls.clone()), &calls) {
            Ok(read) => read,
            Err(failure) => {
                self.refuse(failure.at, failure.refusal);
                return None;
            }
        };
        self.patterns();
        let parameters = ast.iter_functions().find(|function| function.name == ENTRY).map(|function| function.params.len());
        if parameters != Some(1) {
            let place = self.words.function(ENTRY).unwrap_or((1, 1));
            let refusal = Refusal::new(format!("an evaluator needs fn {ENTRY}(log)"));
            self.problem(place, refusal.hint("it returns pass(), fail(\"why\"), score(0.8), or () for a call that it does not apply to"));
        }
        for (place, refusal) in names::of_functions(&self.words).into_iter().chain(names::of_a_call(&self.words, ENTRY)) {
            self.problem(place, refusal);
        }
        let (mut map, at) = calls.into_iter().next()?;
        let keep = |file: &mut Self, refusal: Refusal| file.refuse(at, refusal);
        let name = match map.remove("name").map(fields::name) {
            Some(Ok(name)) => name,
            Some(Err(refusal)) => (keep(self, refusal), String::new()).1,
            None => (keep(self, Refusal::new("an evaluator needs a name").hint("add name: \"…\" to evaluator(#{ … })")), String::new()).1,
        };
        let (applies, environments) = match map.remove("applies").map(fields::applies) {
            None => Default::default(),
            Some(Ok(applies)) => applies,
            Some(Err(refusal)) => (keep(self, refusal), Default::default()).1,
        };
        for unknown in map.keys() {
            let refusal = Refusal::new(format!("unknown field `{unknown}` of evaluator(#{{ … }})")).about(unknown.as_str());
            keep(self, refusal.hint(nearest::hint(unknown, FIELDS)));
        }
        let pass_mark = match constants.get("PASS_MARK") {
            None => PASS_MARK,
            Some(value) => match value.as_float().or_else(|_| value.as_int().map(|whole| whole as f64)) {
                Ok(mark) if (0.0..=1.0).contains(&mark) => mark,
                _ => (keep(self, Refusal::new("PASS_MARK is a number from 0 to 1").hint("as in const PASS_MARK = 0.8;").about("PASS_MARK")), 0.0).1,
            },
        };
        let mut engine = sandbox::engine(OPERATIONS_PER_CALL_MAX);
        verdicts(&mut engine);
        sandbox::share_constants(&mut engine, &constants);
        json::let_through(&mut engine, self.words.properties());
        let fingerprint = fingerprint(&[&self.text.replace("\r\n", "\n")]);
        let mentioned = Mentioned::of(&self.words);
        Some(Evaluator { name, path: self.source.path.clone(), fingerprint, mentioned, ast, engine, applies, environments, pass_mark })
    }
}

/// The engine of an evaluator's top level.
fn language(calls: crate::load::Calls) -> Engine {
    let mut engine = sandbox::engine(OPERATIONS_MAX);
    engine.register_fn("evaluator", move |context: NativeCallContext<'_>, fields: Dynamic| -> Result<(), Box<EvalAltResult>> {
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        if !calls.is_empty() {
            return Err(Refusal::new("a second evaluator(…) in one file").hint("put the other in a file of its own").into());
        }
        let example = "as in evaluator(#{ name: \"…\" })";
        let fields = fields.try_cast_result::<Map>().map_err(|_| Refusal::new("evaluator takes a map of fields").hint(example))?;
        calls.push((fields, context.call_position()));
        Ok(())
    });
    engine
}

/// What `evaluate` returns.
fn verdicts(engine: &mut Engine) {
    fn score(score: f64) -> Result<Said, Box<EvalAltResult>> {
        if (0.0..=1.0).contains(&score) {
            return Ok(Said::Score(score));
        }
        Err(Refusal::new(format!("a score lies between 0 and 1, and {score} does not")).hint("divide by the largest that it can be").into())
    }
    engine
        .register_type_with_name::<Said>("verdict")
        .register_fn("pass", || Said::Pass)
        .register_fn("fail", Said::Fail)
        .register_fn("score", score)
        .register_fn("score", |whole: i64| score(whole as f64));
}
