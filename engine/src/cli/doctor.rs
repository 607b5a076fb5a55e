//! `streamgauge doctor`: is everything reachable, permitted and healthy? The looks are [`crate::doctor`]'s; here is what `check` says beside them, and
//! how it is printed.

use super::check::find;
use super::{Outcome, say};
use crate::config::{Config, ConfigErrors};
use crate::doctor::{Finding, State, examine};
use crate::error::Fault;
use serde_json::json;
use std::io::IsTerminal;

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn doctor(config: Result<Config, ConfigErrors>, args: Doctor) -> Result<Outcome, Fault> {
    let mut findings = vec![checked(&config)];
    match &config {
        Ok(config) => findings.extend(examine(config).await),
        Err(_) => findings.push(Finding::warning("everything else", "not looked at: the configuration does not say where", "correct it first")),
    }
    let failed = findings.iter().any(|finding| finding.state == State::Failed);
    if args.json {
        say(json!({ "ok": !failed, "checks": findings }));
    } else {
        printed(&findings, std::io::stdout().is_terminal()).iter().for_each(say);
    }
    Ok(if failed { Outcome::Unwell } else { Outcome::Well })
}

/// What `streamgauge check` finds, in a line.
fn checked(config: &Result<Config, ConfigErrors>) -> Finding {
    let findings = find(config.clone(), None);
    let (problems, warnings) = (findings.problems(), findings.warnings.len());
    let hint = "streamgauge check says where, and what to do";
    match (problems, warnings) {
        (0, 0) => Finding::ok("configuration", findings.loaded()),
        (0, _) => Finding::warning("configuration", format!("{}, {}", findings.loaded(), counted(warnings, "warning")), hint),
        _ => {
            let first = findings.first().unwrap_or_default();
            Finding::failed("configuration", format!("{}: {first}", counted(problems, "problem")), hint)
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn printed(findings: &[Finding], colour: bool) -> Vec<String> {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Finding { check, state, seen, hint } in findings {
        let code = match state {
            State::Ok => "32",
            State::Warning => "33",
            State::Failed => "1;31",
        };
        let name = format!("{:<7}", state.name());
        let name = if colour { format!("\x1b[{code}m{name}\x1b[0m") } else { name };
        lines.push(format!("{name}  {check:<width$}  {seen}"));
        lines.extend(hint.as_ref().map(|hint| format!("         {:width$}  hint: {hint}", "")));
    }
    let count = |state: State| findings.iter().filter(|finding| finding.state == state).count();
    let said = match (count(State::Failed), count(State::Warning)) {
        (0, 0) => "all well".to_owned(),
        (0, warnings) => format!("nothing failed, {}", counted(warnings, "warning")),
        (failed, warnings) => format!("{failed} failed, {}", counted(warnings, "warning")),
    };
    lines.push(said);
    lines
}
