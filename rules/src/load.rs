//! Reading rule files: compile, run the top level once, and turn `rule(#{…})` and the functions beside it into a rule.
//!
//! Every mistake that can be known without a call is found here. A file with a mistake gives problems and no rule; the others are not touched.
//! Constants that the configuration sets are put into the text before it is read, so that a shipped rule is tuned without being copied.

use crate::evaluator::{self, Evaluator, SCORE, SIGNAL, WATCHED_MAX};
use crate::fields::{self, Declared, Fields};
use crate::json;
use crate::log::Mentioned;
use crate::names;
use crate::nearest;
use crate::pattern;
use crate::problem::{Problem, Refusal};
use crate::ruleset::{Compiled, PerCall, RuleSet};
use crate::sandbox::{self, Failure, OPERATIONS_MAX, OPERATIONS_PER_CALL_MAX};
use crate::source::Source;
use crate::syntax;
use crate::tokens::Place;
use crate::watch::{self, Of, Watch};
use crate::words::{self, Words};
use model::nearest::nearest;
use model::plan::{Decides, Filter, Range, Rule, RuleSpec, SignalRef, Statistic, TICK, WatchSpec, fingerprint};
use model::run::{self, RunMeasure, RunSignal};
use model::time::Span;
use model::verdict::{VerdictMeasure, VerdictSignal};
use model::{Key, Measure, MeasureRef, OwnMeasure, Signal};
use rhai::{AST, Dynamic, Engine, EvalAltResult, Map, NativeCallContext, Position, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What a set of files gave.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub rules: RuleSet,
    /// In the order of the files, and in each from its top.
    pub problems: Vec<Problem>,
}

/// Larger files are refused: a rule is a page, and something else was probably put into the folder.
pub(crate) const FILE_MAX_BYTES: usize = 256 << 10;

/// Signals of the user's own in one rule: they are kept as bits of one word.
pub(crate) const SIGNALS_MAX: usize = SCRIPT_SIGNALS_MAX;
/// Bits of that word.
pub(crate) const SCRIPT_SIGNALS_MAX: usize = 32;

/// Measures of the user's own in one rule: each is a histogram in every group and slice.
pub(crate) const MEASURES_MAX: usize = 16;

/// The functions a rule may have.
pub(crate) const ENTRIES: [&str; 4] = ["applies", "signals", "measures", "check"];

/// The longest windows of which the one before, or that of the day before, can be kept.
pub(crate) const PREVIOUS_MAX: Span = Span::from_secs(24 * 3600);
pub(crate) const YESTERDAY_MAX: Span = Span::from_secs(6 * 3600);
const DAY: Span = Span::from_secs(24 * 3600);

/// Constants of rule files that are set from outside: by rule, and by name the value as the language writes it (`0.05`, `"x"`, `[1, 2]`).
pub type Constants = BTreeMap<String, BTreeMap<String, String>>;

/// What the configuration gives to rules.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    pub constants: Constants,
    /// Those that actions may call, by name.
    pub webhooks: BTreeSet<String>,
}

/// Reads rule files; one file is one rule, and one bad file never stops the others.
///
/// Of two rules with one name the later file is refused. Constants of rules that no file gives are no problem: a pack may come and go. Cost: some
/// milliseconds a file at most, by the budget of its top level.
pub fn load(sources: &[Source], configured: &Configured) -> Loaded {
    let mut rules: Vec<Compiled> = Vec::new();
    let mut problems = Vec::new();
    let Configured { constants, webhooks } = configured;
    let (evaluators, mut of_evaluators) = evaluator::load(sources, constants);
    for (at, source) in sources.iter().enumerate() {
        if let Some(mut of_evaluator) = of_evaluators.remove(&at) {
            problems.append(&mut of_evaluator);
            continue;
        }
        let mut file = File::new(source, &source.text, &evaluators);
        let mut read = file.read(webhooks);
        let tuned;
        if let Some(set) = read.as_ref().and_then(|rule| constants.get(&rule.spec.rule.name)) {
            match with_constants(file.text, set) {
                Ok(text) => {
                    tuned = text;
                    file = File::new(source, &tuned, &evaluators);
                    read = file.read(webhooks);
                }
                Err(refusal) => {
                    file.problem((1, 1), refusal);
                    read = None;
                }
            }
        }
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
    Loaded { rules: RuleSet::new(rules, evaluators), problems }
}

/// One file while it is read.
pub(crate) struct File<'s> {
    pub source: &'s Source,
    pub text: &'s str,
    pub words: Words<'s>,
    pub problems: Vec<Problem>,
    /// Those that a rule may watch, by name.
    evaluators: &'s [Evaluator],
}

/// The calls of `rule(…)` or `evaluator(…)` in one file, with their places.
pub(crate) type Calls = Arc<Mutex<Vec<(Map, Position)>>>;

/// A file whose top level has run.
pub(crate) struct Evaluated {
    /// The functions alone.
    pub ast: AST,
    pub constants: Scope<'static>,
    pub calls: Vec<(Map, Position)>,
}

impl<'s> File<'s> {
    pub fn new(source: &'s Source, text: &'s str, evaluators: &'s [Evaluator]) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { source, text, words: Words::of(text), problems: Vec::new(), evaluators }
    }

    pub fn problem(&mut self, (line, column): Place, refusal: Refusal) {
        let Refusal { message, hint, .. } = refusal;
        self.problems.push(Problem { path: self.source.path.clone(), line, column, message, hint });
    }

    /// At the word that the refusal is about, when it stands at or after `from`, and else at `from`.
    pub fn refuse(&mut self, from: Position, refusal: Refusal) {
        let from = (from.line().unwrap_or(1), from.position().unwrap_or(1).max(1));
        let about = refusal.about.as_deref().and_then(|word| self.words.entry(from, word).or_else(|| self.words.find(from, word)));
        self.problem(about.unwrap_or(from), refusal);
    }

    /// Complains when the file is too large to be read.
    pub fn fits(&mut self) -> bool {
        let fits = self.text.len() <= FILE_MAX_BYTES;
        if !fits {
            let message = format!("the file has {} bytes; a rule file has at most {FILE_MAX_BYTES}", self.text.len());
            self.problem((1, 1), Refusal::new(message));
        }
        fits
    }

    fn read(&mut self, webhooks: &BTreeSet<String>) -> Option<Compiled> {
        if !self.fits() {
            return None;
        }
        let calls = Calls::default();
        let Evaluated { ast, constants, calls } = match self.evaluate(language(calls.clone()), &calls) {
            Ok(read) => read,
            Err(failure) => {
                self.refuse(failure.at, failure.refusal);
                return None;
            }
        };
        let functions = self.functions(&ast);
        self.patterns();
        let Some((map, at)) = calls.into_iter().next() else {
            let refusal = Refusal::new("the file says no rule").hint("begin with rule(#{ name: \"…\", watch: … });");
            self.problem((1, 1), refusal);
            return None;
        };
        let (fields, refusals) = fields::read(map, webhooks);
        for refusal in refusals {
            self.refuse(at, refusal);
        }
        self.assemble(fields, functions, ast, &constants)
    }

    /// Runs the top level once, then compiles again with its constants known, so that functions see them and nothing else from outside.
    pub fn evaluate(&self, mut engine: Engine, calls: &Calls) -> Result<Evaluated, Failure> {
        let syntax = |error: rhai::ParseError| {
            let (refusal, at) = syntax::explain(&error, self.text);
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

    /// Complains of regular expressions that are none, as far as they are written out behind `matches`.
    pub fn patterns(&mut self) {
        let engine = sandbox::engine(OPERATIONS_MAX);
        for (written, place) in self.words.texts_after("matches") {
            // A text with something put in is known when it runs.
            let pattern = engine.eval_expression::<String>(&written);
            if let Some(refusal) = pattern.ok().filter(|_| !written.contains("${")).and_then(|pattern| pattern::compile(&pattern).err()) {
                self.problem(place, refusal);
            }
        }
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
                        self.problem(place, refusal.hint(format!("did you mean `{near}`? the functions of a rule are: {}", ENTRIES.join(", "))));
                    }
                }
                None => {}
            }
        }
        defined
    }

    fn assemble(
        &mut self,
        fields: Fields,
        [applies, signals, measures, check]: [bool; ENTRIES.len()],
        ast: AST,
        constants: &Scope<'_>,
    ) -> Option<Compiled> {
        let (signals_of, measures_of) = (signals.then(Vec::new), measures.then(Vec::new));
        let mut own = Own { signals: signals_of, measures: measures_of, declared: fields.measures, verdicts: Vec::new(), scores: Vec::new() };
        let named: Vec<_> = fields.watches.iter().map(|(name, _)| name.clone()).collect();
        let watches = self.watches(fields.watches, check, &mut own);
        let mut misspelt = names::of_functions(&self.words);
        for (function, defined) in [("applies", applies), ("signals", signals), ("measures", measures)] {
            misspelt.extend(defined.then(|| names::of_a_call(&self.words, function)).into_iter().flatten());
        }
        // Without watches, each would be misspelt.
        if check && !named.is_empty() {
            misspelt.extend(names::of_a_view(&self.words, &named, &fields.group_by));
        }
        for (place, refusal) in misspelt {
            self.problem(place, refusal);
        }
        if fields.objective.is_some() {
            self.objective(check, &watches);
        }
        self.verdicts(&fields.group_by, &fields.applies, applies, &watches);
        self.runs(&fields.group_by, &fields.applies, applies, &watches);
        if fields.every.is_some() && !check {
            let refusal = Refusal::new("a rule without fn check(w) looks at every tick").hint("take `every` out: evidence is gathered tick by tick");
            self.problem(self.words.entry((1, 1), "every").unwrap_or((1, 1)), refusal);
        }
        let kept_by = |watch: &WatchSpec| !watch.part && matches!(watch.statistic.signal(), Some(SignalRef::BuiltIn(_) | SignalRef::User(..)));
        if fields.keep.is_some() && !watches.iter().any(kept_by) {
            let refusal = Refusal::new("nothing says which calls to keep: no watch is of a signal of single calls");
            let at = self.words.entry((1, 1), "keep").unwrap_or((1, 1));
            self.problem(at, refusal.hint("watch rate(\"invalid_json\", \"5m\"), for example, or take `keep` out"));
        }
        if fields.inhibit_by.contains(&fields.name) {
            self.problem(
                self.words.entry((1, 1), "inhibit_by").unwrap_or((1, 1)),
                Refusal::new("a rule is no consequence of itself").hint("take its own name out of inhibit_by"),
            );
        }
        if own.signals.as_ref().map_or(0, Vec::len) + own.verdicts.len() > SCRIPT_SIGNALS_MAX {
            let message = format!("a rule has at most {SCRIPT_SIGNALS_MAX} signals of its own, those of evaluators included");
            self.problem((1, 1), Refusal::new(message));
        }
        for unused in own.unused() {
            let refusal = Refusal::new(format!("no watch is of the measure `{unused}`"));
            self.problem(self.words.entry((1, 1), "measures").unwrap_or((1, 1)), refusal.hint("take it out of measures, or watch it"));
        }
        if !self.problems.is_empty() {
            return None;
        }
        let fingerprint = fingerprint(&[&self.text.replace("\r\n", "\n")]);
        let decides = match fields.objective {
            // The slot is given when all rules are known.
            _ if check => Decides::Check(0),
            Some(objective) => Decides::Burn(objective),
            None => Decides::Drift,
        };
        let rule = Rule {
            fingerprint,
            severity: fields.severity,
            group_by: fields.group_by,
            environments: fields.environments,
            decides,
            every: fields.every.unwrap_or(TICK),
            hold: fields.hold,
            keep_firing: fields.keep_firing,
            repeat: fields.repeat,
            inhibit_by: fields.inhibit_by,
            actions: fields.actions,
            no_data: fields.no_data,
            false_alarms: fields.false_alarms,
            channel: fields.channel,
            owner: fields.owner,
            runbook: fields.runbook,
            summary: summary(self.text),
            ..Rule::new(&fields.name)
        };
        let spec = RuleSpec { rule, watches, applies: fields.applies, script: None };
        let engine = |operations_max: u64| {
            let mut engine = sandbox::engine(operations_max);
            sandbox::share_constants(&mut engine, constants);
            engine
        };
        let per_call = (applies || signals || measures || !own.verdicts.is_empty() || !own.scores.is_empty()).then(|| {
            let mut engine = engine(OPERATIONS_PER_CALL_MAX);
            json::let_through(&mut engine, self.words.properties());
            let Own { signals, measures, verdicts, scores, .. } = own;
            PerCall { engine, applies, signals, measures, verdicts, scores, mentioned: Mentioned::of(&self.words) }
        });
        let per_check = check.then(|| {
            let mut engine = engine(OPERATIONS_MAX);
            // A misspelt watch would otherwise be nothing, and nothing never fires.
            engine.set_fail_on_invalid_map_property(true);
            engine
        });
        Some(Compiled { spec, path: self.source.path.clone(), ast, per_call, per_check, keep: fields.keep })
    }

    /// The rule's watches in the order of their names, and behind them what ratios are made of and what is kept of earlier windows.
    fn watches(&mut self, written: Vec<(String, Watch)>, check: bool, own: &mut Own) -> Vec<WatchSpec> {
        let mut watches = Vec::new();
        let mut parts: Vec<WatchSpec> = Vec::new();
        let visible = written.len();
        let decided = written.iter().any(|(_, watch)| watch.expect.is_some() || !matches!(watch.of, Of::Top(..)));
        for (name, watch) in written {
            let statistic = match &watch.of {
                Of::Ratio(above, below) => {
                    let mut part = |watch: &Watch| {
                        let statistic = self.statistic(watch, own)?;
                        let what = statistic.describe();
                        let only = watch.only.and(&of_judge(&statistic));
                        parts.push(WatchSpec { part: true, at_least: 0, only, ..WatchSpec::new(name.clone(), statistic, watch.window) });
                        Some((visible + parts.len() - 1, what))
                    };
                    let (Some((above, over)), Some((below, under))) = (part(above), part(below)) else { continue };
                    Statistic::Ratio { above, below, what: format!("{over} per {under}") }
                }
                _ => match self.statistic(&watch, own) {
                    Some(statistic) => statistic,
                    None => continue,
                },
            };
            let learned =
                matches!(statistic, Statistic::Rate(_) | Statistic::Count(_) | Statistic::Quantile(..) | Statistic::Mean(_) | Statistic::Volume);
            // A ranking beside what decides only says who it mostly is.
            let told = matches!(statistic, Statistic::Top(..)) && decided;
            if !check && !learned && !told && watch.expect.is_none() {
                let refusal = Refusal::new(format!("`{name}` cannot learn what is usual: it is no share, count or measure of single calls"));
                self.refuse(watch.at, refusal.hint("give it .expect(low, high), or decide in fn check(w)").about(name.as_str()));
            }
            let at_least = watch.at_least(check);
            let only = watch.only.and(&of_judge(&statistic));
            let spec = WatchSpec { expect: watch.expect, at_least, only, ..WatchSpec::new(name, statistic, watch.window) };
            watches.push((spec, watch.at));
        }
        for (spec, at) in &mut watches {
            let earlier = [("previous", spec.window, PREVIOUS_MAX), ("same_time_yesterday", DAY, YESTERDAY_MAX)];
            let kept = earlier.map(|(neighbour, offset, longest)| {
                if !check || !self.words.goes_on(&spec.name, neighbour) {
                    return None;
                }
                if !spec.statistic.counts() || spec.window > longest {
                    let (why, hint) = if spec.statistic.counts() {
                        (format!("windows over {longest}"), "watch a shorter window")
                    } else {
                        ("a ratio".to_owned(), "watch its parts beside it, and ask for theirs")
                    };
                    let refusal = Refusal::new(format!("`{neighbour}` of `{}` is not kept: there is none of {why}", spec.name)).about(neighbour);
                    self.refuse(*at, refusal.hint(hint));
                    return None;
                }
                parts.push(WatchSpec { part: true, offset, expect: None::<Range>, ..spec.clone() });
                Some(visible + parts.len() - 1)
            });
            [spec.previous, spec.yesterday] = kept;
        }
        watches.into_iter().map(|(spec, _)| spec).chain(parts).collect()
    }

    /// An objective is about the share of one kind of failure, and decides alone.
    fn objective(&mut self, check: bool, watches: &[WatchSpec]) {
        let refusal = match watches {
            _ if check => Refusal::new("a rule is decided by its objective or by fn check(w), not by both").hint("take `slo` or `check` out"),
            [watch] if !matches!(watch.statistic, Statistic::Rate(_)) => {
                Refusal::new("an objective needs a rate of bad calls").hint("as in watch: rate(\"error\", \"5m\"), slo: 0.99")
            }
            [watch] if watch.statistic.of_verdicts() => {
                Refusal::new("an objective counts every call, and a judge sees a sample").hint("give the watch .expect(low, high) instead")
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

    /// Verdicts come when the call is long gone: of it there are labels, and nothing for a function to see. Calls, on the other hand, have no judge.
    fn verdicts(&mut self, group_by: &[Key], filter: &Filter, applies: bool, watches: &[WatchSpec]) {
        if applies && watches.iter().any(|watch| watch.statistic.of_verdicts()) {
            let place = self.words.function("applies").unwrap_or((1, 1));
            let refusal = Refusal::new("fn applies(log) does not see verdicts");
            self.problem(place, refusal.hint("say which calls as data, as in applies: #{ stage: \"synthesis\" }"));
        }
        // Opinions of different judges do not add up.
        let one_judges = |watch: &WatchSpec| {
            let score = matches!(watch.statistic.measure(), Some(MeasureRef::Verdict(VerdictMeasure::Score, _)));
            score || matches!(watch.statistic.signal(), Some(SignalRef::Verdict(VerdictSignal::Failed, _)))
        };
        let of_nobody = |watch: &&WatchSpec| one_judges(watch) && watch.statistic.judge().is_none() && !group_by.contains(&Key::Judge);
        if let Some(watch) = watches.iter().find(of_nobody) {
            let name = watch.statistic.signal().map(SignalRef::name).or(watch.statistic.measure().map(MeasureRef::name)).unwrap_or_default();
            let refusal = Refusal::new(format!("`{name}` does not say which judge: opinions of different judges do not add up"));
            let place = self.words.find((1, 1), name).unwrap_or((1, 1));
            self.problem(place, refusal.hint(format!("name it, as in \"{name}:synthesis-quality\", or group_by: [\"judge\"]")));
        }
        let of_calls = watches.iter().find(|watch| watch.statistic.counts() && !watch.statistic.of_verdicts() && !watch.statistic.of_runs());
        let by_judge = group_by.contains(&Key::Judge) || filter.0.iter().any(|(key, _)| *key == Key::Judge);
        let over_judges = |watch: &WatchSpec| {
            let over = matches!(&watch.statistic, Statistic::Distinct(Key::Judge) | Statistic::Top(Key::Judge, ..));
            !watch.statistic.of_verdicts() && !watch.statistic.of_runs() && (over || watch.only.0.iter().any(|(key, _)| *key == Key::Judge))
        };
        let wrong = of_calls.filter(|_| by_judge).or_else(|| watches.iter().find(|watch| over_judges(watch)));
        if let Some(watch) = wrong {
            let refusal = Refusal::new(format!("`judge` is a key of verdicts, and `{}` is about calls: {}", watch.name, watch.statistic.describe()));
            let place = self.words.find((1, 1), "judge").unwrap_or((1, 1));
            self.problem(place, refusal.hint("watch verdicts, as in rate(\"judge_errored\", \"10m\")"));
        }
    }

    /// A run closes when its calls are long gone, and has only the labels that make sense of all of them.
    fn runs(&mut self, group_by: &[Key], filter: &Filter, applies: bool, watches: &[WatchSpec]) {
        let mut of_runs = watches.iter().filter(|watch| watch.statistic.of_runs()).peekable();
        let Some(first) = of_runs.peek().copied() else { return };
        if applies {
            let place = self.words.function("applies").unwrap_or((1, 1));
            let refusal = Refusal::new("fn applies(log) does not see runs");
            self.problem(place, refusal.hint("say which runs as data, as in applies: #{ service: \"chat\" }"));
        }
        let of_rule = group_by.iter().chain(filter.0.iter().map(|(key, _)| key)).map(|key| (key, first));
        let of_watches = of_runs.flat_map(|watch| {
            let keys = watch.only.0.iter().map(|(key, _)| key).chain(watch.statistic.over());
            keys.map(move |key| (key, watch))
        });
        let mut told = Vec::new();
        for (key, watch) in of_rule.chain(of_watches).filter(|(key, _)| !run::has_label(key)) {
            if told.contains(&key) {
                continue;
            }
            told.push(key);
            let what = watch.statistic.describe();
            let refusal = Refusal::new(format!("a run has no `{key}`, only its calls have one: `{}` is {what}", watch.name));
            let place = self.words.find((1, 1), &key.to_string()).unwrap_or((1, 1));
            let hint = "take service, user_id, thread_id, session_id or a property, or watch calls in a rule of their own";
            self.problem(place, refusal.hint(hint));
        }
    }

    /// The statistic of a watch; a signal or a measure that is not built in takes its place among the rule's `own`.
    fn statistic(&mut self, watch: &Watch, own: &mut Own) -> Option<Statistic> {
        Some(match &watch.of {
            Of::Rate(name) => Statistic::Rate(self.signal(watch, name, own)?),
            Of::Count(name) => Statistic::Count(self.signal(watch, name, own)?),
            Of::Quantile(name, q) => Statistic::Quantile(self.measure(watch, name, own)?, *q),
            Of::Mean(name) => Statistic::Mean(self.measure(watch, name, own)?),
            Of::Sum(name) => Statistic::Sum(self.measure(watch, name, own)?),
            Of::Volume => Statistic::Volume,
            Of::Distinct(key) => Statistic::Distinct(key.clone()),
            Of::Top(key, None, n) => Statistic::Top(key.clone(), None, *n),
            Of::Top(key, Some(name), n) => Statistic::Top(key.clone(), Some(self.measure(watch, name, own)?), *n),
            Of::Ratio(..) => return None,
        })
    }

    fn signal(&mut self, watch: &Watch, name: &str, own: &mut Own) -> Option<SignalRef> {
        if let Some(signal) = Signal::parse(name) {
            return Some(SignalRef::BuiltIn(signal));
        }
        if let Some((signal, _)) = VerdictSignal::parse(name) {
            return Some(SignalRef::Verdict(signal, name.to_owned()));
        }
        if let Some(signal) = RunSignal::parse(name) {
            return Some(SignalRef::Run(signal));
        }
        if let Some(evaluator) = name.strip_prefix(SIGNAL) {
            // From the last bit down, because how many signals of its own the rule has is not known yet.
            let at = self.judged(watch, (name, evaluator), &mut own.verdicts)?;
            return Some(SignalRef::User(name.to_owned(), (SCRIPT_SIGNALS_MAX - 1 - at) as u8));
        }
        let known: Vec<_> = Signal::ALL.map(Signal::name).into_iter().chain(RunSignal::ALL.map(RunSignal::name)).collect();
        let position = self.own(watch, name, ("signal", "signals", SIGNALS_MAX), &known, own.signals.as_mut())?;
        Some(SignalRef::User(name.to_owned(), position))
    }

    fn measure(&mut self, watch: &Watch, name: &str, own: &mut Own) -> Option<MeasureRef> {
        if let Some(measure) = Measure::parse(name) {
            return Some(measure.into());
        }
        if let Some((measure, _)) = VerdictMeasure::parse(name) {
            return Some(MeasureRef::Verdict(measure, name.to_owned()));
        }
        if let Some(measure) = RunMeasure::parse(name) {
            return Some(MeasureRef::Run(measure));
        }
        if let Some(evaluator) = name.strip_prefix(SCORE) {
            // Behind all that the rule itself may have.
            let position = (MEASURES_MAX + self.judged(watch, (name, evaluator), &mut own.scores)?) as u8;
            return Some(OwnMeasure { name: name.to_owned(), position, unit: String::new(), step: fields::STEP }.into());
        }
        let mut names = own.measures.as_ref().map(|own| own.iter().map(|own| own.name.clone()).collect());
        let known: Vec<_> = Measure::ALL.map(Measure::name).into_iter().chain(RunMeasure::ALL.map(RunMeasure::name)).collect();
        let position = self.own(watch, name, ("measure", "measures", MEASURES_MAX), &known, names.as_mut())?;
        let measures = own.measures.as_mut()?;
        if usize::from(position) == measures.len() {
            let declared = own.declared.iter().find(|declared| declared.name == name);
            let (unit, step) = declared.map_or((String::new(), fields::STEP), |declared| (declared.unit.clone(), declared.step));
            measures.push(OwnMeasure { name: name.to_owned(), position, unit, step });
        }
        measures.get(usize::from(position)).cloned().map(MeasureRef::from)
    }

    /// The position of an evaluator among those that the rule watches; a new one is the last. `None` when there is none of that name.
    fn judged(&mut self, watch: &Watch, (name, evaluator): (&str, &str), watched: &mut Vec<usize>) -> Option<usize> {
        let Some(found) = self.evaluators.iter().position(|known| known.name == evaluator) else {
            let known: Vec<_> = self.evaluators.iter().map(|known| known.name.as_str()).collect();
            let hint = match known.as_slice() {
                [] => "there are none; [evaluators] of the configuration says where they are".to_owned(),
                known => nearest::hint(evaluator, known.iter().copied()),
            };
            self.refuse(watch.at, Refusal::new(format!("unknown evaluator `{evaluator}`")).about(name).hint(hint));
            return None;
        };
        let position = watched.iter().position(|known| *known == found).unwrap_or_else(|| {
            watched.push(found);
            watched.len() - 1
        });
        if position >= WATCHED_MAX {
            self.refuse(watch.at, Refusal::new(format!("a rule watches at most {WATCHED_MAX} evaluators")).about(name));
            return None;
        }
        Some(position)
    }

    /// The position of a name among those that a function of the rule gives; a new one is the last. `None` when nothing gives it.
    fn own(
        &mut self,
        watch: &Watch,
        name: &str,
        (what, function, most): (&str, &str, usize),
        known: &[&'static str],
        own: Option<&mut Vec<String>>,
    ) -> Option<u8> {
        let Some(own) = own else {
            let hint = nearest::hint(name, known.iter().copied());
            let refusal = Refusal::new(format!("unknown {what} `{name}`")).about(name);
            self.refuse(watch.at, refusal.hint(format!("{hint}; a {what} of your own is an entry of what fn {function}(log) returns")));
            return None;
        };
        if self.words.count(name) == 1 {
            let refusal = Refusal::new(format!("`{name}` is no built-in {what}, and fn {function}(log) does not mention it")).about(name);
            let given = self.words.entries(function);
            let hint = nearest::hint(name, given.iter().chain(known).copied());
            self.refuse(watch.at, refusal.hint(hint));
            return None;
        }
        let position = own.iter().position(|known| known == name).unwrap_or_else(|| {
            own.push(name.to_owned());
            own.len() - 1
        });
        if position >= most {
            self.refuse(watch.at, Refusal::new(format!("a rule has at most {most} {what}s of its own")).about(name));
            return None;
        }
        Some(position as u8)
    }
}

/// What lets only the verdicts through that a statistic is about.
fn of_judge(statistic: &Statistic) -> Filter {
    Filter(statistic.judge().map(|judge| (Key::Judge, vec![judge.to_owned()])).into_iter().collect())
}

/// What the functions of a rule give by name; `None` without the function.
struct Own {
    signals: Option<Vec<String>>,
    measures: Option<Vec<OwnMeasure>>,
    declared: Vec<Declared>,
    /// Evaluators whose verdicts are watched, and whose scores are, by position.
    verdicts: Vec<usize>,
    scores: Vec<usize>,
}

impl Own {
    /// Measures that are described and not watched.
    fn unused(&self) -> Vec<String> {
        let watched = |name: &str| self.measures.iter().flatten().any(|own| own.name == name);
        self.declared.iter().filter(|declared| !watched(&declared.name)).map(|declared| declared.name.clone()).collect()
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

/// The text with other values of its constants. Its lines stay where they are.
pub(crate) fn with_constants(text: &str, set: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let mut text = text.to_owned();
    for (name, value) in set {
        let Some(range) = words::constant(&text, name) else {
            let known = words::constants(&text);
            let refusal = Refusal::new(format!("the configuration sets `{name}`, and the file has no such constant"));
            return Err(refusal.hint(if known.is_empty() {
                "it has none".to_owned()
            } else {
                nearest::hint(name, known.iter().map(String::as_str))
            }));
        };
        let lines = "\n".repeat(text[range.clone()].matches('\n').count());
        text.replace_range(range, &format!(" {value}{lines}"));
    }
    Ok(text)
}

/// The comment that a file begins with, as one line.
fn summary(text: &str) -> String {
    let lines = text.lines().map(str::trim).skip_while(|line| line.is_empty()).map_while(|line| line.strip_prefix("//"));
    lines.map(|line| line.trim_start_matches(['/', '!']).trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
