//! Code evaluators over calls of a file, each in the sandbox and with the budget that it has beside the stream.

use super::table::Said;
use crate::config::Config;
use crate::error::Fault;
use crate::start::evaluator_files;
use model::CallLog;
use model::nearest::nearest;
use rules::RuleSet;

/// What a code evaluator's signal begins with.
const CODE: &str = "code:";

#[derive(Debug)]
pub struct Code {
    rules: RuleSet,
    /// Without `code:`, in order.
    names: Vec<String>,
}

impl Code {
    /// `wanted`: as `code:NAME`; empty: all that the configuration has.
    ///
    /// # Errors
    /// When one is not there, or a file has a mistake.
    pub fn load(config: &Config, wanted: &[String]) -> Result<Self, Fault> {
        let loaded = rules::load(&evaluator_files(config)?, &config.for_rules());
        if !loaded.problems.is_empty() {
            let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
            return Err(Fault::new(problems.join("\n"), "mend it, or take it out of the folder of evaluators"));
        }
        let known: Vec<String> = loaded.rules.evaluators().map(ToOwned::to_owned).collect();
        let mut names: Vec<String> = wanted.iter().map(|name| name.strip_prefix(CODE).unwrap_or(name).to_owned()).collect();
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            let near = nearest(name, known.iter().map(String::as_str)).map_or_else(String::new, |near| format!("did you mean `{CODE}{near}`? "));
            let hint = format!("{near}known: {}; evaluators.library and evaluators.path say which there are", known.join(", "));
            return Err(Fault::new(format!("there is no code evaluator `{name}`"), hint));
        }
        if names.is_empty() {
            names = known;
        }
        names.sort();
        names.dedup();
        Ok(Self { rules: loaded.rules, names })
    }

    /// Without `code:`, in the order of [`Self::of`].
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What each says of a call. Cost: every evaluator that the configuration has runs.
    pub fn of(&self, call: &CallLog<'_>) -> Vec<Said> {
        if self.names.is_empty() {
            return Vec::new();
        }
        let verdicts = self.rules.verdicts(call);
        let said = |name: &String| match verdicts.iter().find(|(known, _)| known == name) {
            Some((_, Ok(Some(verdict)))) => Said::of(verdict.passes()),
            Some((_, Err(_))) => Said::Errored,
            Some((_, Ok(None))) | None => Said::NotFor,
        };
        self.names.iter().map(said).collect()
    }
}
