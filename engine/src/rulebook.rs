//! The user's rule files: which text of each runs, what is wrong with those that do not, and when an edit is over.
//!
//! Each file stands for itself, all or nothing: a text that gives a rule replaces the one before, a text with a mistake does not, and the last good one
//! goes on. Texts that run are kept in the store beside the snapshot, so that a restart in the middle of somebody's edit ends no alert either.
//! Deliberately absent: reading files and waiting, which is [`crate::reload`]'s, and the configuration, which is read once, at start.

use model::Timestamp;
use rules::{Configured, Problem, RuleSet, Source};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The texts that run, by path as shown to people.
pub type Live = BTreeMap<String, LiveText>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveText {
    pub text: String,
    /// When it began to run; wall-clock.
    pub loaded_at: Timestamp,
}

/// What is to run, and what is wrong with what does not.
#[derive(Clone, Debug)]
pub struct Choice {
    pub rules: RuleSet,
    pub live: Live,
    /// By file and place; of files that run an earlier text, too.
    pub problems: Vec<Problem>,
}

/// Chooses for each of the user's files the newest text that gives a rule: `own`'s where it does, else the one that runs already. A file that is gone
/// gives none. Of two rules with one name the one that runs goes before the one that is new, so that an edit cannot take another file's rule away.
///
/// Cost: one load of all files, and one more each time that some of the new texts turn out to have mistakes; at most as many as there are new texts.
pub fn choose(library: &[Source], own: &[Source], configured: &Configured, live: &Live, now: Timestamp) -> Choice {
    // An unchanged copy of a shipped rule is that rule, not a second one of its name.
    let own: Vec<_> = own.iter().filter(|source| !library.iter().any(|shipped| shipped.text == source.text)).map(|own| (name(own), own)).collect();
    let runs = |name: &String, source: &Source| live.get(name).is_some_and(|live| live.text == source.text);
    let mut tried: BTreeSet<&String> = own.iter().filter(|(name, source)| !runs(name, source)).map(|(name, _)| name).collect();
    let mut problems = Vec::new();
    loop {
        let kept = own.iter().filter(|(name, _)| !tried.contains(name));
        let kept = kept.filter_map(|(name, source)| Some(Source { path: source.path.clone(), text: live.get(name)?.text.clone() }));
        let new = own.iter().filter(|(name, _)| tried.contains(name)).map(|(_, source)| (*source).clone());
        let sources: Vec<_> = library.iter().cloned().chain(kept).chain(new).collect();
        let loaded = rules::load(&sources, configured);
        let failed: BTreeSet<String> = loaded.problems.iter().map(|problem| problem.path.display().to_string()).collect();
        let (of_new, others): (Vec<_>, Vec<_>) = loaded.problems.into_iter().partition(|problem| tried.contains(&problem.path.display().to_string()));
        if !of_new.is_empty() {
            problems.extend(of_new);
            tried.retain(|name| !failed.contains(*name));
            continue;
        }
        problems.extend(others);
        let running = sources[library.len()..].iter().filter(|source| !failed.contains(&name(source)));
        let live = running.map(|source| {
            let since = live.get(&name(source)).filter(|live| live.text == source.text).map_or(now, |live| live.loaded_at);
            (name(source), LiveText { text: source.text.clone(), loaded_at: since })
        });
        problems.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
        return Choice { rules: loaded.rules, live: live.collect(), problems };
    }
}

/// A file's path as it is shown.
pub fn name(source: &Source) -> String {
    source.path.display().to_string()
}

/// Tells the end of an edit from its middle: texts count once two looks in a row have seen the same.
#[derive(Debug)]
pub struct Settling {
    /// What was last acted on.
    settled: Vec<Source>,
    /// What the last look saw, where it was something else.
    seen: Option<Vec<Source>>,
}

impl Settling {
    /// `settled` is what runs now.
    pub fn new(settled: Vec<Source>) -> Self {
        Self { settled, seen: None }
    }

    /// The texts to act on, once for each change.
    pub fn look(&mut self, now: Vec<Source>) -> Option<Vec<Source>> {
        if now == self.settled {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return None;
        }
        self.seen = None;
        self.settled = now;
        Some(self.settled.clone())
    }

    /// Nothing is on its way.
    pub fn is_settled(&self) -> bool {
        self.seen.is_none()
    }
}

/// What a reload came to. Every change of the files that settled is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every file runs as it is.
    Adopted,
    /// Some files run as they are, others go on as they were.
    Partly,
    /// Every file that changed has a mistake; nothing else runs than before.
    Refused,
    /// Nothing to change.
    Unchanged,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Adopted, Self::Partly, Self::Refused, Self::Unchanged];

    pub fn of(changed: bool, problems: bool) -> Self {
        match (changed, problems) {
            (true, false) => Self::Adopted,
            (true, true) => Self::Partly,
            (false, true) => Self::Refused,
            (false, false) => Self::Unchanged,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Partly => "partly",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How one file stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStanding {
    pub file: String,
    /// The name of the rule that runs.
    pub rule: Option<String>,
    /// Since when its text runs; `None` when none does.
    pub loaded_at: Option<Timestamp>,
    /// What is wrong with the file as it is now. Where there is a rule, its last good text runs.
    pub problem: Option<String>,
}

/// How the files stand, for whoever asks at any time.
#[derive(Debug, Default)]
pub struct Standing(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<FileStanding>,
    /// The texts that run, by file.
    texts: BTreeMap<String, String>,
    unreadable: Option<(String, String)>,
    reloads: BTreeMap<Outcome, u64>,
}

impl Standing {
    /// `library` is shown beside the user's files, as loaded at `started`.
    pub fn set(&self, choice: &Choice, library: &[Source], started: Timestamp) {
        let rules: BTreeMap<String, String> = choice.rules.files().map(|(spec, path)| (path.display().to_string(), spec.rule.name.clone())).collect();
        let mut files: BTreeMap<String, FileStanding> = BTreeMap::new();
        // Code evaluators among them give no rule.
        let shipped = library.iter().map(|source| (name(source), started)).filter(|(file, _)| rules.contains_key(file));
        for (file, loaded_at) in shipped.chain(choice.live.iter().map(|(file, live)| (file.clone(), live.loaded_at))) {
            let rule = rules.get(&file).cloned();
            files.insert(file.clone(), FileStanding { file, rule, loaded_at: Some(loaded_at), problem: None });
        }
        for problem in &choice.problems {
            let file = problem.path.display().to_string();
            let standing = files.entry(file.clone()).or_insert_with(|| FileStanding { file, rule: None, loaded_at: None, problem: None });
            let text = standing.problem.take().map_or_else(String::new, |before| before + "\n");
            standing.problem = Some(format!("{text}{problem}"));
        }
        let shipped = library.iter().map(|source| (name(source), source.text.clone()));
        let texts = shipped.chain(choice.live.iter().map(|(file, live)| (file.clone(), live.text.clone()))).collect();
        let mut state = self.state();
        (state.files, state.texts) = (files.into_values().collect(), texts);
    }

    /// The text of a file that runs.
    pub fn text(&self, file: &str) -> Option<String> {
        self.state().texts.get(file).cloned()
    }

    pub fn count(&self, outcome: Outcome) {
        *self.state().reloads.entry(outcome).or_default() += 1;
    }

    /// The folder, and why it cannot be read at the moment. Says whether that is news.
    pub fn unreadable(&self, problem: Option<(String, String)>) -> bool {
        let mut state = self.state();
        let news = state.unreadable != problem;
        state.unreadable = problem;
        news
    }

    /// The files by path, what cannot be read at all first.
    pub fn files(&self) -> Vec<FileStanding> {
        let state = self.state();
        let unreadable = state.unreadable.iter().map(|(file, problem)| FileStanding {
            file: file.clone(),
            rule: None,
            loaded_at: None,
            problem: Some(problem.clone()),
        });
        unreadable.chain(state.files.iter().cloned()).collect()
    }

    pub fn reloads(&self) -> [(Outcome, u64); 4] {
        let state = self.state();
        Outcome::ALL.map(|outcome| (outcome, state.reloads.get(&outcome).copied().unwrap_or(0)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, high: f64) -> String {
        format!("rule(#{{ name: \"{name}\", watch: rate(\"error\", \"5m\").expect(0.0, {high:?}) }});")
    }

    fn source(path: &str, text: impl Into<String>) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000).expect("in range")
    }

    /// `file rule high-end since`, then the problems' first lines.
    fn shown(choice: &Choice) -> (Vec<String>, Vec<String>) {
        let rules: BTreeMap<_, _> = choice.rules.files().map(|(spec, path)| (path.display().to_string(), spec)).collect();
        let live = choice.live.iter().map(|(file, live)| {
            let spec = rules[file];
            format!("{file} {} {} {}", spec.rule.name, spec.watches[0].expect.map_or(0.0, |range| range.high), live.loaded_at.millis() / 1000)
        });
        let first = |problem: &Problem| problem.to_string().lines().next().unwrap_or_default().to_owned();
        (live.collect(), choice.problems.iter().map(first).collect())
    }

    #[test]
    fn each_file_runs_its_newest_text_that_gives_a_rule() {
        let mut live = Live::new();
        let mut step = |seconds: i64, own: &[Source], runs: &[&str], problems: &[&str]| {
            let choice = choose(&[], own, &Configured::default(), &live, at(seconds));
            let (running, said) = shown(&choice);
            assert_eq!(running, runs, "at {seconds}");
            assert_eq!(said, problems, "at {seconds}");
            live = choice.live;
        };
        let broken = "rule(#{ name: \"a\" });";
        let missing = "a.rhai:1:1: a rule needs something to watch";
        let (a, b) = (|high| source("a.rhai", rule("a", high)), |high| source("b.rhai", rule("b", high)));
        step(1, &[a(0.1), b(0.1)], &["a.rhai a 0.1 1", "b.rhai b 0.1 1"], &[]);
        step(2, &[a(0.2), b(0.1)], &["a.rhai a 0.2 2", "b.rhai b 0.1 1"], &[]);
        // Broken: the text before goes on, and the other file's edit does not wait for it.
        step(3, &[source("a.rhai", broken), b(0.3)], &["a.rhai a 0.2 2", "b.rhai b 0.3 3"], &[missing]);
        step(4, &[source("a.rhai", broken), b(0.3)], &["a.rhai a 0.2 2", "b.rhai b 0.3 3"], &[missing]);
        step(5, &[a(0.2), b(0.3)], &["a.rhai a 0.2 2", "b.rhai b 0.3 3"], &[]);
        // Another file's name is not taken away, wherever its file sorts.
        let taken = "a.rhai:1:9: there is a rule `b` already, in b.rhai";
        step(6, &[source("a.rhai", rule("b", 0.9)), b(0.3)], &["a.rhai a 0.2 2", "b.rhai b 0.3 3"], &[taken]);
        // Unless the other one lets go of it at the same time.
        step(7, &[source("a.rhai", rule("b", 0.9)), source("b.rhai", rule("a", 0.8))], &["a.rhai b 0.9 7", "b.rhai a 0.8 7"], &[]);
        // A new text that relies on a broken one's name stays out with it.
        let still = "a.rhai:1:9: there is a rule `a` already, in b.rhai";
        let broken_b = "b.rhai:1:1: a rule needs something to watch";
        step(8, &[a(0.5), source("b.rhai", broken)], &["a.rhai b 0.9 7", "b.rhai a 0.8 7"], &[still, broken_b]);
        step(9, &[source("b.rhai", rule("a", 0.8))], &["b.rhai a 0.8 7"], &[]);
        step(10, &[], &[], &[]);
    }

    #[test]
    fn an_edit_is_over_when_two_looks_see_the_same() {
        let text = |text: &str| vec![source("a.rhai", text)];
        let mut settling = Settling::new(text("1"));
        assert_eq!(settling.look(text("1")), None);
        assert_eq!(settling.look(text("2")), None);
        assert_eq!(settling.look(text("3")), None, "a burst goes on");
        assert!(!settling.is_settled());
        assert_eq!(settling.look(text("3")), Some(text("3")));
        assert_eq!(settling.look(text("3")), None, "once");
        assert_eq!(settling.look(text("4")), None);
        assert_eq!(settling.look(text("3")), None, "taken back before it settled");
        assert_eq!(settling.look(text("4")), None);
        assert_eq!(settling.look(text("4")), Some(text("4")));
    }
}
