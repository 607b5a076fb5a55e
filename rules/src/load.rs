//! Reading rule files: compile, run the top level once, and turn `rule(#{…})` and the functions beside it into a rule.
//!
//! Every mistake that can be known without a call is found here. A file with a mistake gives problems and no rule; the others are not touched.

use crate::fields::{self, Fields};
use crate::json;
use crate::log::Mentioned;
use crate::nearest;
use crate::problem::{Problem, Refusal, explain_syntax};
use crate::ruleset::{Compiled, PerCall, RuleSet};
use crate::sandbox::{self, Failure, OPERATIONS_MAX, OPERATIONS_PER_CALL_MAX};
use crate::source::Source;
use crate::watch::{self, Of, Watch};
use crate::words::{Place, Words};
use model::Signal;
use model::plan::{Decides, Rule, RuleSpec, SignalRef, Statistic, WatchSpec, fingerprint};
use rhai::{AST, Dynamic, Engine, EvalAltResult, Map, NativeCallContext, Position, Scope};
use std::sync::{Arc, Mutex, PoisonError};

/// What a set of files gave.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub rules: RuleSet,
    /// In the order of the files, and in each from its top.
    pub problems: Vec<Problem>,
}

/// Larger files are refused: a rule is a page, and something else was probably put into the folder.
const FILE_MAX_BYTES: usize = 256 << 10;

/// Signals of the user's own in one rule: they are kept as bits of one word.
const SIGNALS_MAX: usize = 32;

/// The functions a rule may have.
const ENTRIES: [&str; 3] = ["applies", "signals", "check"];

/// Reads rule files; one file is one rule, and one bad file never stops the others.
///
/// Of two rules with one name the later file is refused. Cost: some milliseconds a file at most, by the budget of its top level.
pub fn load(sources: &[Source]) -> Loaded {
    let mut rules: Vec<Compiled> = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        let mut file = File::new(source);
        let read = file.read();
        if let Some(rule) = read
            && file.problems.is_empty()
        {
            match rules.iter().find(|known| known.spec.rule.name == rule.spec.rule.name) {
                Some(known) => {
                    let message = format!("there is a rule `{}` already, in {}", rule.spec.rule.name, known.path.display());
                    let place = file.words.entry((1, 1), "name").unwrap_or((1, 1));
                    file.problem(place, Refusal::new(message).hint("give one of them another name"));
                }
                None => rules.push(rule),
            }
        }
        file.problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.append(&mut file.problems);
    }
    rules.sort_by(|a, b| a.spec.rule.name.cmp(&b.spec.rule.name));
    Loaded { rules: RuleSet::new(rules), problems }
}

/// One file while it is read.
struct File<'s> {
    source: &'s Source,
    text: &'s str,
    words: Words<'s>,
    problems: Vec<Problem>,
}

/// The calls of `rule(…)` in one file, with their places.
type Calls = Arc<Mutex<Vec<(Map, Position)>>>;

/// A file whose top level has run.
struct Evaluated {
    /// The functions alone.
    ast: AST,
    constants: Scope<'static>,
    calls: Vec<(Map, Position)>,
}

impl<'s> File<'s> {
    fn new(source: &'s Source) -> Self {
        let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
        Self { source, text, words: Words::of(text), problems: Vec::new() }
    }

    fn problem(&mut self, (line, column): Place, refusal: Refusal) {
        let Refusal { message, hint, .. } = refusal;
        self.problems.push(Problem { path: self.source.path.clone(), line, column, message, hint });
    }

    /// At the word that the refusal is about, when it stands at or after `from`, and else at `from`.
    fn refuse(&mut self, from: Position, refusal: Refusal) {
        let from = (from.line().unwrap_or(1), from.position().unwrap_or(1).max(1));
        let about = refusal.about.as_deref().and_then(|word| self.words.entry(from, word).or_else(|| self.words.find(from, word)));
        self.problem(about.unwrap_or(from), refusal);
    }

    fn read(&mut self) -> Option<Compiled> {
        if self.text.len() > FILE_MAX_BYTES {
            let message = format!("the file has {} bytes; a rule file has at most {FILE_MAX_BYTES}", self.text.len());
            self.problem((1, 1), Refusal::new(message));
            return None;
        }
        let Evaluated { ast, constants, calls } = match self.evaluate() {
            Ok(read) => read,
            Err(failure) => {
                self.refuse(failure.at, failure.refusal);
                return None;
            }
        };
        let functions = self.functions(&ast);
        let Some((map, at)) = calls.into_iter().next() else {
            let refusal = Refusal::new("the file says no rule").hint("begin with rule(#{ name: \"…\", watch: … });");
            self.problem((1, 1), refusal);
            return None;
        };
        let (fields, refusals) = fields::read(map);
        for refusal in refusals {
            self.refuse(at, refusal);
        }
        self.assemble(fields, functions, ast, &constants)
    }

    /// Runs the top level once, then compiles again with its constants known, so that functions see them and nothing else from outside.
    fn evaluate(&self) -> Result<Evaluated, Failure> {
        let calls = Calls::default();
        let mut engine = language(calls.clone());
        let syntax = |error: rhai::ParseError| {
            let (refusal, at) = explain_syntax(&error);
            Failure { refusal, at }
        };
        let ast = engine.compile(self.text).map_err(syntax)?;
        let mut scope = Scope::new();
        sandbox::guarded(|| engine.run_ast_with_scope(&mut scope, &ast))?;
        let mut constants = Scope::new();
        for (name, constant, value) in scope.iter() {
            if constant {
                constants.push_constant_dynamic(name, value.flatten());
            }
        }
        engine.set_strict_variables(true);
        let ast = engine.compile_with_scope(&constants, self.text).map_err(syntax)?.clone_functions_only();
        let calls = std::mem::take(&mut *calls.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Evaluated { ast, constants, calls })
    }

    /// Which of the rule's functions the file defines; complains of a wrong number of parameters and of names that are nearly right.
    fn functions(&mut self, ast: &AST) -> [bool; ENTRIES.len()] {
        let mut defined = [false; ENTRIES.len()];
        let mut found: Vec<_> = ast.iter_functions().map(|function| (function.name.to_owned(), function.params.len())).collect();
        found.sort();
        for (name, parameters) in found {
            let place = self.words.function(&name).unwrap_or((1, 1));
            match ENTRIES.iter().position(|entry| *entry == name) {
                Some(entry) if parameters == 1 => defined[entry] = true,
                Some(entry) => {
                    let parameter = if ENTRIES[entry] == "check" { "w" } else { "log" };
                    let refusal = Refusal::new(format!("fn {name} has {parameters} parameters and must have one"));
                    self.problem(place, refusal.hint(format!("write fn {name}({parameter}) {{ … }}")));
                }
                None if self.words.count(&name) == 1 => {
                    if let Some(near) = nearest(&name, ENTRIES) {
                        let refusal = Refusal::new(format!("nothing calls fn {name}"));
                        self.problem(place, refusal.hint(format!("did you mean `{near}`? the functions of a rule are: applies, signals, check")));
                    }
                }
                None => {}
            }
        }
        defined
    }

    fn assemble(&mut self, fields: Fields, [applies, signals, check]: [bool; ENTRIES.len()], ast: AST, constants: &Scope<'_>) -> Option<Compiled> {
        let mut own = Vec::new();
        let mut watches = Vec::new();
        for (name, watch) in fields.watches {
            let Some(statistic) = self.statistic(&watch, signals, &mut own) else { continue };
            let at_least = watch.at_least(check);
            watches.push(WatchSpec { name, statistic, window: watch.window, expect: watch.expect, at_least, only: watch.only });
        }
        if fields.objective.is_some() {
            self.objective(check, &watches);
        }
        if !self.problems.is_empty() {
            return None;
        }
        let fingerprint = fingerprint(&[&self.text.replace("\r\n", "\n")]);
        let rule = Rule {
            name: fields.name,
            fingerprint,
            severity: fields.severity,
            group_by: fields.group_by,
            environments: fields.environments,
            watches: Vec::new(),
            // The slot is given when all rules are known.
            decides: match fields.objective {
                _ if check => Decides::Check(0),
                Some(objective) => Decides::Burn(objective),
                None => Decides::Drift,
            },
            hold: fields.hold,
            keep_firing: fields.keep_firing,
            no_data: fields.no_data,
            false_alarms: fields.false_alarms,
            channel: fields.channel,
            runbook: fields.runbook,
            summary: summary(self.text),
        };
        let spec = RuleSpec { rule, watches, applies: fields.applies, script: None };
        let engine = |operations_max: u64| {
            let mut engine = sandbox::engine(operations_max);
            sandbox::share_constants(&mut engine, constants);
            engine
        };
        let per_call = (applies || signals).then(|| {
            let mut engine = engine(OPERATIONS_PER_CALL_MAX);
            json::let_through(&mut engine, self.words.properties());
            PerCall { engine, applies, signals: signals.then_some(own), mentioned: Mentioned::of(&self.words) }
        });
        let per_check = check.then(|| {
            let mut engine = engine(OPERATIONS_MAX);
            // A misspelt watch would otherwise be nothing, and nothing never fires.
            engine.set_fail_on_invalid_map_property(true);
            engine
        });
        Some(Compiled { spec, path: self.source.path.clone(), ast, per_call, per_check })
    }

    /// An objective is about the share of one kind of failure, and decides alone.
    fn objective(&mut self, check: bool, watches: &[WatchSpec]) {
        let refusal = match watches {
            _ if check => Refusal::new("a rule is decided by its objective or by fn check(w), not by both").hint("take `slo` or `check` out"),
            [watch] if !matches!(watch.statistic, Statistic::Rate(_)) => {
                Refusal::new("an objective needs a rate of bad calls").hint("as in watch: rate(\"error\", \"5m\"), slo: 0.99")
            }
            [watch] if watch.expect.is_some() => {
                Refusal::new("a watch with an objective has no expected range").hint("the objective says what is allowed: take .expect(…) out")
            }
            [_] => return,
            _ => Refusal::new("an objective is about one watch").hint("write a rule for each"),
        };
        let place = self.words.entry((1, 1), "slo").unwrap_or((1, 1));
        self.problem(place, refusal);
    }

    /// The statistic of a watch; a signal that is not built in takes its place among the rule's `own`.
    fn statistic(&mut self, watch: &Watch, signals: bool, own: &mut Vec<String>) -> Option<Statistic> {
        let name = match &watch.of {
            Of::Quantile(measure, q) => return Some(Statistic::Quantile(*measure, *q)),
            Of::Mean(measure) => return Some(Statistic::Mean(*measure)),
            Of::Volume => return Some(Statistic::Volume),
            Of::Rate(name) => name,
        };
        if let Some(signal) = Signal::parse(name) {
            return Some(Statistic::Rate(SignalRef::BuiltIn(signal)));
        }
        let known = Signal::ALL.map(Signal::name);
        if !signals {
            let refusal = Refusal::new(format!("unknown signal `{name}`")).about(name.as_str());
            let hint = nearest::hint(name, known.iter().copied());
            self.refuse(watch.at, refusal.hint(format!("{hint}; a signal of your own is an entry of what fn signals(log) returns")));
            return None;
        }
        if self.words.count(name) == 1 {
            let refusal = Refusal::new(format!("`{name}` is no built-in signal, and fn signals(log) does not mention it")).about(name.as_str());
            self.refuse(watch.at, refusal.hint(nearest::hint(name, known.iter().copied())));
            return None;
        }
        let position = own.iter().position(|known| known == name).unwrap_or_else(|| {
            own.push(name.clone());
            own.len() - 1
        });
        if position >= SIGNALS_MAX {
            self.refuse(watch.at, Refusal::new(format!("a rule has at most {SIGNALS_MAX} signals of its own")).about(name.as_str()));
            return None;
        }
        Some(Statistic::Rate(SignalRef::User(name.clone(), position as u8)))
    }
}

/// The engine of a file's top level: it alone knows `rule` and the watches.
fn language(calls: Calls) -> Engine {
    let mut engine = sandbox::engine(OPERATIONS_MAX);
    watch::register(&mut engine);
    engine.register_fn("rule", move |context: NativeCallContext<'_>, fields: Dynamic| -> Result<(), Box<EvalAltResult>> {
        const EXAMPLE: &str = "rule(#{ name: \"…\", watch: … })";
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        if !calls.is_empty() {
            return Err(Refusal::new("a second rule(…) in one file").hint("one file is one rule; put the other in a file of its own").into());
        }
        let fields = fields.try_cast_result::<Map>().map_err(|_| Refusal::new("rule takes a map of fields").hint(format!("as in {EXAMPLE}")))?;
        calls.push((fields, context.call_position()));
        Ok(())
    });
    engine
}

/// The comment that a file begins with, as one line.
fn summary(text: &str) -> String {
    let lines = text.lines().map(str::trim).skip_while(|line| line.is_empty()).map_while(|line| line.strip_prefix("//"));
    lines.map(|line| line.trim_start_matches(['/', '!']).trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
