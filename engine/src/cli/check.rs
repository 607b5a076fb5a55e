//! `streamgauge check`: reads everything that a start would read, and says all that is wrong with it, and what is probably not meant. Connects to
//! nothing.

use super::span::pointed;
use super::{Outcome, say};
use crate::config::{Config, ConfigErrors};
use crate::error::Fault;
use crate::judging;
use crate::listing::Says;
use crate::start::{load_evaluators, plan, rule_files};
use model::Span;
use rules::{Bounds, Problem, Source, lint};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// A folder or a file of rules to check instead of the configured folder.
    path: Option<PathBuf>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
    /// Exit 3 when there are warnings and no problems.
    #[arg(long)]
    lint_fatal: bool,
}

/// All that is to be said.
#[derive(Default)]
pub(super) struct Findings {
    /// Of the configuration and what it points at.
    general: Vec<String>,
    errors: Vec<Problem>,
    pub(super) warnings: Vec<rules::Warning>,
    rules: Vec<Says>,
    sources: Vec<Source>,
    judges: usize,
}

pub(super) fn check(config: Result<Config, ConfigErrors>, args: Check) -> Result<Outcome, Fault> {
    if let Some(path) = args.path.as_ref().filter(|path| !path.exists()) {
        return Err(Fault::new(format!("there are no rules at {}", path.display()), "name a folder of *.rhai files, or one of them"));
    }
    let findings = find(config, args.path);
    if args.json {
        say(findings.as_json());
    } else {
        findings.as_text();
    }
    Ok(match (findings.problems(), findings.warnings.len()) {
        (0, 1..) if args.lint_fatal => Outcome::Warned,
        (0, _) => Outcome::Well,
        _ => Outcome::Unwell,
    })
}

pub(super) fn find(config: Result<Config, ConfigErrors>, path: Option<PathBuf>) -> Findings {
    let mut findings = Findings::default();
    let mut config = match config {
        Ok(config) => config,
        Err(errors) => {
            findings.general.extend(errors.as_slice().iter().map(ToString::to_string));
            return findings;
        }
    };
    let named = path.is_some();
    config.rules.path = path.unwrap_or(config.rules.path);
    match rule_files(&config) {
        Err(fault) => findings.general.push(fault.to_string()),
        Ok((library, own)) => findings.rules(&config, library, own, named),
    }
    if let Err(fault) = load_evaluators(&config) {
        findings.general.push(fault.to_string());
    }
    match judging::ready::ready(&config) {
        Err(faults) => findings.general.extend(faults.iter().map(ToString::to_string)),
        Ok(judges) => {
            findings.judges = judges.len();
            findings.general.extend(judges.iter().filter_map(|ready| ready.key().err()).map(|fault| fault.to_string()));
        }
    }
    findings
}

impl Findings {
    /// Of files that are `named`, only those are told about; the shipped rules are there because a name may be taken.
    fn rules(&mut self, config: &Config, mut library: Vec<Source>, mut own: Vec<Source>, named: bool) {
        // An unchanged copy of a shipped rule is that rule, not a second one of its name.
        if named {
            library.retain(|shipped| !own.iter().any(|source| source.text == shipped.text));
        } else {
            own.retain(|source| !library.iter().any(|shipped| shipped.text == source.text));
        }
        let asked: BTreeSet<_> = own.iter().chain(library.iter().filter(|_| !named)).map(|source| source.path.clone()).collect();
        self.sources = library.into_iter().chain(own).collect();
        let loaded = rules::load(&self.sources, &config.for_rules());
        let names: BTreeSet<_> = loaded.rules.files().filter(|(_, path)| asked.contains(*path)).map(|(spec, _)| spec.rule.name.clone()).collect();
        let bounds = Bounds {
            retention: Span::from_millis(u64::try_from(config.store.retention.as_millis()).unwrap_or(u64::MAX)),
            series_max: config.windows.series_max as u64,
            silent: config.environments.iter().filter(|(_, own)| !own.notify).map(|(name, _)| name.clone()).collect(),
        };
        self.warnings = lint(&self.sources, &loaded.rules, &bounds);
        self.warnings.retain(|warning| names.contains(&warning.rule));
        // What is wrong with the judges is said on its own, and a rule reads the same without them.
        let without = Config { judges: Default::default(), ..config.clone() };
        let plan = plan(config, &loaded.rules).or_else(|_| plan(&without, &loaded.rules));
        let rules = plan.map(|plan| plan.rules).unwrap_or_default();
        let says = rules.iter().filter(|rule| names.contains(&rule.name)).map(|rule| Says::of(rule, config.false_alarms, None));
        self.rules = says.collect();
        self.errors = loaded.problems;
    }

    pub(super) fn problems(&self) -> usize {
        self.general.len() + self.errors.len()
    }

    /// The first problem, in one line.
    pub(super) fn first(&self) -> Option<String> {
        let text = self.general.first().cloned().or_else(|| self.errors.first().map(ToString::to_string))?;
        text.lines().next().map(ToOwned::to_owned)
    }

    /// What loads.
    pub(super) fn loaded(&self) -> String {
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let judges = if self.judges == 0 { String::new() } else { format!(", {}", count(self.judges, "judge")) };
        format!("{}{judges}", count(self.rules.len(), "rule"))
    }

    fn as_json(&self) -> Value {
        let general = self.general.iter().map(|text| {
            let (message, hint) = text.split_once("\nhint: ").map_or((text.as_str(), None), |(message, hint)| (message, Some(hint)));
            json!({ "severity": "error", "file": null, "line": null, "column": null, "message": message, "hint": hint, "rule": null })
        });
        let placed = |problem: &Problem, severity: &str, rule: Option<&str>| {
            json!({ "severity": severity, "file": problem.path, "line": problem.line, "column": problem.column,
                "message": problem.message, "hint": problem.hint, "rule": rule })
        };
        let errors = self.errors.iter().map(|problem| placed(problem, "error", None));
        let warnings = self.warnings.iter().map(|warning| placed(&warning.problem, "warning", Some(&warning.rule)));
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|rule| json!({ "name": rule.name, "severity": rule.severity, "summary": rule.summary, "decided": rule.decided }))
            .collect();
        json!({ "ok": self.problems() == 0, "problems": general.chain(errors).chain(warnings).collect::<Vec<_>>(), "rules": rules })
    }

    fn as_text(&self) {
        let colour = std::io::stdout().is_terminal();
        let text_of = |problem: &Problem| self.sources.iter().find(|source| source.path == problem.path).map_or("", |source| source.text.as_str());
        self.general.iter().for_each(say);
        self.errors.iter().for_each(|problem| say(pointed(problem, text_of(problem), false, colour)));
        self.warnings.iter().for_each(|warning| say(pointed(&warning.problem, text_of(&warning.problem), true, colour)));
        for rule in &self.rules {
            say(format!("{:<28} {:<8}  {}", rule.name, rule.severity.name(), rule.sentence()));
        }
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let warnings = if self.warnings.is_empty() { String::new() } else { format!(", {}", count(self.warnings.len(), "warning")) };
        say(match self.problems() {
            0 => format!("all well: {}{warnings}", self.loaded()),
            problems => format!("{}{warnings}", count(problems, "problem")),
        });
    }
}
