//! The rules that are loaded, ready to be asked: what their scripts see in a call, and whether a group fires.
//!
//! Shared by all worker threads; asking changes nothing. A rule without functions costs nothing per call: it is data in the watch plan.

use crate::check::{self, Firings};
use crate::evaluator::{Evaluator, Verdict, Verdicts};
use crate::load::{MEASURES_MAX, SCRIPT_SIGNALS_MAX};
use crate::log::{Log, Mentioned};
use crate::problem::{Problem, Refusal};
use crate::sandbox::{self, Failure};
use crate::say::said_type;
use model::fold::ScriptView;
use model::plan::{Decides, Filter, RuleSpec, Script, SignalRef, fingerprint};
use model::signal::Signals;
use model::suspension::CHECKS_EXHAUSTED_MAX;
use model::window::{Checked, GroupView};
use model::{Bucket, CallLog, OwnMeasure, Takers};
use rhai::{AST, Dynamic, Engine, Map};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rules of one load, in the order of their names. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct RuleSet(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    rules: Vec<Compiled>,
    /// By name.
    evaluators: Vec<Evaluator>,
    /// Those that see calls, with their slots, in the order of the slots.
    seeing: Vec<(usize, usize)>,
    /// Which of `seeing` take a call, as far as that is data.
    takers: Takers,
    mentioned: Mentioned,
    keepers: Vec<Keeper>,
}

/// One rule: its data, and its functions.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub spec: RuleSpec,
    pub path: PathBuf,
    pub ast: AST,
    /// `None` when no function of the rule sees calls.
    pub per_call: Option<PerCall>,
    /// Where `fn check(w)` runs, when there is one.
    pub per_check: Option<Engine>,
    /// The dataset that its calls are kept for.
    pub keep: Option<String>,
}

/// A rule that keeps calls for a dataset.
#[derive(Debug)]
struct Keeper {
    dataset: String,
    environments: Vec<String>,
    /// Of its script, where it has one.
    slot: Option<usize>,
    /// A call with any of these is kept, where it is one of those that its watch is about.
    signals: Vec<(Filter, SignalRef)>,
}

#[derive(Debug)]
pub(crate) struct PerCall {
    pub engine: Engine,
    /// There is `fn applies(log)`.
    pub applies: bool,
    /// The watched signals of the user's own, by position; `None` without `fn signals(log)`.
    pub signals: Option<Vec<String>>,
    /// The watched measures of the user's own, by position; `None` without `fn measures(log)`.
    pub measures: Option<Vec<OwnMeasure>>,
    /// Of the evaluators whose verdicts it watches, and whose scores: their positions.
    pub verdicts: Vec<usize>,
    pub scores: Vec<usize>,
    /// The fields of a call that the file names.
    pub mentioned: Mentioned,
}

impl Default for RuleSet {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new())
    }
}

impl RuleSet {
    /// Gives script slots to the rules that have functions, in order.
    pub(crate) fn new(mut rules: Vec<Compiled>, evaluators: Vec<Evaluator>) -> Self {
        let mut scripts = 0;
        let mut seeing: Vec<(usize, usize)> = Vec::new();
        let mut mentioned = Mentioned::default();
        for (at, rule) in rules.iter_mut().enumerate() {
            if rule.per_call.is_none() && rule.per_check.is_none() {
                continue;
            }
            if rule.per_check.is_some() {
                rule.spec.rule.decides = Decides::Check(scripts);
            }
            if let Some(per_call) = &rule.per_call {
                let watched = || per_call.verdicts.iter().chain(&per_call.scores).map(|at| &evaluators[*at]);
                // Verdicts of another text are other signals.
                let texts: Vec<_> = watched().map(|evaluator| format!("{:016x}", evaluator.fingerprint)).collect();
                let own = rule.spec.rule.fingerprint;
                let fingerprint = if texts.is_empty() { own } else { fingerprint(&[&format!("{own:016x}"), &texts.join(" ")]) };
                rule.spec.script = Some(Script { slot: scripts, fingerprint });
                mentioned = watched().fold(mentioned.and(per_call.mentioned), |mentioned, evaluator| mentioned.and(evaluator.mentioned));
                seeing.push((at, scripts));
            }
            scripts += 1;
        }
        let takers = Takers::new(seeing.iter().map(|(at, _)| &rules[*at].spec.applies));
        let keepers = rules.iter().filter_map(Keeper::of).collect();
        Self(Arc::new(Rules { rules, evaluators, seeing, takers, mentioned, keepers }))
    }

    /// For the watch plan, in the order of the rules' names.
    pub fn specs(&self) -> Vec<RuleSpec> {
        self.0.rules.iter().map(|rule| rule.spec.clone()).collect()
    }

    /// Each rule with the file that it is in, in the order of [`RuleSet::specs`].
    pub fn files(&self) -> impl Iterator<Item = (&RuleSpec, &Path)> {
        self.0.rules.iter().map(|rule| (&rule.spec, rule.path.as_path()))
    }

    /// What the scripts see in `call`: clears `views` and fills one for each rule whose filter takes it, in the order of their slots.
    ///
    /// Cost: nothing when no function sees calls, and nothing for the rules whose filter does not take the call but a lookup for all of them; the
    /// call is shown to scripts once for all of them.
    pub fn see(&self, call: &CallLog<'_>, views: &mut Vec<ScriptView>) {
        self.see_where(call, views, |_| true, |_| {});
    }

    /// The same, for the scripts in the slots that `runs` says; each is told to `ran` when it has run, straight after.
    pub fn see_where(&self, call: &CallLog<'_>, views: &mut Vec<ScriptView>, runs: impl Fn(usize) -> bool, ran: impl Fn(usize)) {
        views.clear();
        if self.0.seeing.is_empty() {
            return;
        }
        let mut taken = Vec::new();
        self.0.takers.of(call, &mut taken);
        let mut log = None;
        let mut verdicts = Verdicts::new(&self.0.evaluators);
        for (at, slot) in taken.into_iter().map(|taker| self.0.seeing[taker]) {
            let rule = &self.0.rules[at];
            if rule.watches_environment(call) && runs(slot) {
                let log = log.get_or_insert_with(|| Log::of(call, self.0.mentioned));
                let failed = |failure: Failure| ScriptView { failed: true, exhausted: failure.refusal.exhausted, ..ScriptView::default() };
                let view = rule.view(call, log, &mut verdicts).unwrap_or_else(failed);
                ran(slot);
                views.push(ScriptView { slot, ..view });
            }
        }
    }

    /// The datasets that this call is kept for, each once. `signals` are its built-in ones, `views` of [`RuleSet::see`]; a script that failed on it or was
    /// not run keeps nothing.
    pub fn kept<'r>(&'r self, call: &CallLog<'_>, signals: &Signals, views: &[ScriptView]) -> Vec<&'r str> {
        let mut kept: Vec<&str> = Vec::new();
        for keeper in &self.0.keepers {
            if !kept.contains(&keeper.dataset.as_str()) && keeper.keeps(call, signals, views) {
                kept.push(&keeper.dataset);
            }
        }
        kept
    }

    /// The datasets that rules keep calls for, each once, in order.
    pub fn datasets(&self) -> BTreeSet<&str> {
        self.0.keepers.iter().map(|keeper| keeper.dataset.as_str()).collect()
    }

    /// The names of the users' own signals that hold, as far as rules watch them: those of `fn signals`, and of a code evaluator that says fail its name.
    /// A name may come more than once. `views` are of [`RuleSet::see`].
    pub fn holding<'r>(&'r self, views: &'r [ScriptView]) -> impl Iterator<Item = &'r str> {
        views.iter().filter(|view| view.signals.holds != 0).flat_map(|view| {
            let at = self.0.seeing.iter().find(|(_, slot)| *slot == view.slot);
            let per_call = at.and_then(|(rule, _)| self.0.rules[*rule].per_call.as_ref());
            let holds = move |bit: usize| view.signals.holds & 1 << bit != 0;
            let own = per_call.and_then(|per_call| per_call.signals.as_deref()).unwrap_or_default().iter().enumerate();
            let verdicts = per_call.map_or(&[][..], |per_call| per_call.verdicts.as_slice()).iter().enumerate();
            let own = own.filter(move |(bit, _)| holds(*bit)).map(|(_, name)| name.as_str());
            own.chain(verdicts.filter(move |(at, _)| holds(SCRIPT_SIGNALS_MAX - 1 - at)).map(|(_, at)| self.0.evaluators[*at].name.as_str()))
        })
    }

    /// The names that [`RuleSet::holding`] can give: those that are not watched hold of no call.
    pub fn signals(&self) -> BTreeSet<&str> {
        let per_call = || self.0.rules.iter().filter_map(|rule| rule.per_call.as_ref());
        let own = per_call().filter_map(|per_call| per_call.signals.as_deref()).flatten();
        let verdicts = per_call().flat_map(|per_call| &per_call.verdicts).map(|at| &self.0.evaluators[*at].name);
        own.chain(verdicts).map(String::as_str).collect()
    }

    /// Whether `view` fires the rule at `rule` in the order of [`RuleSet::specs`]. A function of the view alone.
    pub fn check(&self, rule: usize, view: &GroupView) -> Checked {
        let Some(rule) = self.0.rules.get(rule) else {
            return Checked::Failed(format!("there is no rule {rule} in this set"));
        };
        let Some(engine) = &rule.per_check else { return Checked::Quiet };
        let w = check::view(&rule.spec.watches, &rule.spec.rule.group_by, view);
        let firings = Firings::at(view.at);
        match sandbox::run(engine, &rule.ast, "check", w, Dynamic::from(firings.clone())) {
            Ok(_) => firings.loudest(rule.spec.rule.severity).map_or(Checked::Quiet, Checked::Fire),
            Err(failure) if failure.refusal.exhausted => Checked::Exhausted(rule.failed(failure)),
            Err(failure) => Checked::Failed(rule.failed(failure)),
        }
    }

    /// Whether each of `views` fires the rule, in order. Once [`CHECKS_EXHAUSTED_MAX`] of them have used up their budget, those left are not asked and
    /// count as if they had; so the cost of one look is bounded, however many groups there are.
    pub fn check_all(&self, rule: usize, views: &[GroupView]) -> Vec<Checked> {
        let mut exhausted = 0;
        let check = |view: &GroupView| {
            if exhausted >= CHECKS_EXHAUSTED_MAX {
                return Checked::Exhausted("it used up its budget for other groups and was not run".to_owned());
            }
            let checked = self.check(rule, view);
            exhausted += u64::from(matches!(checked, Checked::Exhausted(_)));
            checked
        };
        views.iter().map(check).collect()
    }

    /// Why the script of the rule at `rule` fails on `call`, for a person; `None` when it does not.
    ///
    /// `see` only tells that it failed, because it runs for every call.
    pub fn failure(&self, rule: usize, call: &CallLog<'_>) -> Option<String> {
        let rule = self.0.rules.get(rule)?;
        if rule.per_call.is_none() || !rule.watches_environment(call) || !rule.spec.applies.lets_through(call) {
            return None;
        }
        let mut verdicts = Verdicts::new(&self.0.evaluators);
        rule.view(call, &Log::of(call, self.0.mentioned), &mut verdicts).err().map(|failure| rule.failed(failure))
    }

    /// The evaluators' names, in the order of their files.
    pub fn evaluators(&self) -> impl Iterator<Item = &str> {
        self.0.evaluators.iter().map(|evaluator| evaluator.name.as_str())
    }

    /// What each evaluator says of `call`, watched or not, by name: `None` where it does not apply, or why it fails.
    pub fn verdicts(&self, call: &CallLog<'_>) -> Vec<(&str, Result<Option<Verdict>, String>)> {
        let judge = |evaluator: &Evaluator| evaluator.judge(call, &Log::of(call, evaluator.mentioned)).map_err(|failure| evaluator.failed(&failure));
        self.0.evaluators.iter().map(|evaluator| (evaluator.name.as_str(), judge(evaluator))).collect()
    }
}

impl Keeper {
    fn of(rule: &Compiled) -> Option<Self> {
        let dataset = rule.keep.clone()?;
        let spec = &rule.spec;
        let watches = spec.watches.iter().filter(|watch| !watch.part);
        let signals = watches.filter_map(|watch| Some((spec.applies.and(&watch.only), watch.statistic.signal()?.clone()))).collect();
        Some(Self { dataset, environments: spec.rule.environments.clone(), slot: spec.script.map(|script| script.slot), signals })
    }

    fn keeps(&self, call: &CallLog<'_>, signals: &Signals, views: &[ScriptView]) -> bool {
        if !self.environments.is_empty() && !self.environments.iter().any(|name| *name == call.environment) {
            return false;
        }
        let view = self.slot.map(|slot| views.iter().find(|view| view.slot == slot && view.applies && !view.failed));
        if matches!(view, Some(None)) {
            return false;
        }
        let shows = |signal: &SignalRef| match signal {
            SignalRef::BuiltIn(signal) => signals.holds & 1 << signal.index() != 0,
            SignalRef::User(_, bit) => view.flatten().is_some_and(|view| view.signals.holds & 1 << bit != 0),
            SignalRef::Verdict(..) | SignalRef::Run(_) => false,
        };
        self.signals.iter().any(|(filter, signal)| shows(signal) && filter.lets_through(call))
    }
}

impl Compiled {
    fn watches_environment(&self, call: &CallLog<'_>) -> bool {
        let environments = &self.spec.rule.environments;
        environments.is_empty() || environments.iter().any(|name| *name == call.environment)
    }

    fn view(&self, call: &CallLog<'_>, log: &Log, verdicts: &mut Verdicts<'_>) -> Result<ScriptView, Failure> {
        let mut view = ScriptView { applies: true, ..ScriptView::default() };
        let Some(per_call) = &self.per_call else { return Ok(view) };
        let wrong = |message: String| Failure { refusal: Refusal::new(message), at: rhai::Position::NONE };
        if per_call.applies {
            let answer = sandbox::run(&per_call.engine, &self.ast, "applies", Dynamic::from(log.clone()), Dynamic::UNIT)?;
            view.applies =
                answer.as_bool().map_err(|kind| wrong(format!("fn applies returned {} and must return true or false", said_type(kind))))?;
        }
        if let Some(signals) = per_call.signals.as_ref().filter(|_| view.applies) {
            let answer = sandbox::run(&per_call.engine, &self.ast, "signals", Dynamic::from(log.clone()), Dynamic::UNIT)?;
            let answer = answer.read_lock::<Map>().ok_or_else(|| wrong("fn signals must return a map of name to true or false".to_owned()))?;
            for (bit, name) in signals.iter().enumerate() {
                let Some(value) = answer.get(name.as_str()).filter(|value| !value.is_unit()) else { continue };
                let holds = value.as_bool().map_err(|kind| wrong(format!("signal `{name}` is {} and must be true, false or ()", said_type(kind))))?;
                view.signals.applies |= 1 << bit;
                view.signals.holds |= u32::from(holds) << bit;
            }
        }
        if let Some(measures) = per_call.measures.as_ref().filter(|_| view.applies) {
            let answer = sandbox::run(&per_call.engine, &self.ast, "measures", Dynamic::from(log.clone()), Dynamic::UNIT)?;
            let answer = answer.read_lock::<Map>().ok_or_else(|| wrong("fn measures must return a map of name to number".to_owned()))?;
            view.measures.reserve_exact(measures.len());
            for own in measures {
                let value = answer.get(own.name.as_str()).filter(|value| !value.is_unit());
                view.measures.push(value.map(|value| steps(own, value)).transpose().map_err(wrong)?);
            }
        }
        if view.applies {
            for (at, evaluator) in per_call.verdicts.iter().enumerate() {
                let Some(verdict) = verdicts.get(*evaluator, call, log)? else { continue };
                let bit = SCRIPT_SIGNALS_MAX - 1 - at;
                view.signals.applies |= 1 << bit;
                view.signals.holds |= u32::from(!verdict.passes()) << bit;
            }
            if !per_call.scores.is_empty() {
                view.measures.resize(MEASURES_MAX, None);
            }
            for evaluator in &per_call.scores {
                let score = verdicts.get(*evaluator, call, log)?.and_then(Verdict::score);
                view.measures.push(score.map(|score| (score / crate::fields::STEP).round() as u64));
            }
        }
        Ok(view)
    }

    /// A failure as the problem of the rule's file that it is.
    fn failed(&self, failure: Failure) -> String {
        let Failure { refusal, at } = failure;
        let Some(line) = at.line() else {
            // A budget ends nowhere in particular.
            let hint = refusal.hint.map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            return format!("{}: {}{hint}", self.path.display(), refusal.message);
        };
        let column = at.position().unwrap_or(1).max(1);
        Problem { path: self.path.clone(), line, column, message: refusal.message, hint: refusal.hint }.to_string()
    }
}

/// A value in whole steps of its measure.
fn steps(own: &OwnMeasure, value: &Dynamic) -> Result<u64, String> {
    let name = &own.name;
    let number = value.as_float().or_else(|_| value.as_int().map(|whole| whole as f64));
    let number = number.map_err(|kind| format!("measure `{name}` is {} and must be a number or ()", said_type(kind)))?;
    let steps = (number / own.step).round();
    if !(0.0..=Bucket::VALUE_MAX as f64).contains(&steps) {
        return Err(format!("measure `{name}` is {number}; it is kept from 0 to {}", Bucket::VALUE_MAX as f64 * own.step));
    }
    Ok(steps as u64)
}
