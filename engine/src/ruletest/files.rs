//! Rule files with the test files beside them, and test files that stand alone by mistake.

use crate::error::Fault;
use rules::Source;
use std::path::{Path, PathBuf};

/// What a test file's name ends with.
const ENDING: &str = ".test.toml";
/// As deep as rules are looked for.
const DEPTH_MAX: usize = 16;

/// One rule file, with its test file where there is one.
#[derive(Clone, Debug)]
pub struct RuleFile {
    pub source: Source,
    pub tests: Option<PathBuf>,
}

/// The rule files in `path` and below, or the one that `path` is or tests, in the order of their paths.
///
/// # Errors
/// When there is no such folder or file, when it cannot be read, or when a test file has no rule beside it.
pub fn find(path: &Path) -> Result<Vec<RuleFile>, Fault> {
    if !path.exists() {
        return Err(Fault::new(
            format!("there is no {}", path.display()),
            "name a folder of rules, a rule (NAME.rhai) or its tests (NAME.test.toml)",
        ));
    }
    let rule = rule_of(path).unwrap_or_else(|| path.to_owned());
    if !rule.exists() {
        return Err(no_rule(path));
    }
    let sources = rules::read_folder(&rule).map_err(|error| Fault::plain(format!("cannot {error}")))?;
    if path.is_dir() {
        let mut alone = Vec::new();
        without_rule(path, 0, &mut alone).map_err(|error| Fault::plain(format!("cannot read {}: {error}", path.display())))?;
        if let Some(alone) = alone.first() {
            return Err(no_rule(alone));
        }
    }
    if sources.is_empty() {
        return Err(Fault::new(
            format!("there are no rules in {}", path.display()),
            "a rule is a file NAME.rhai, and its tests are NAME.test.toml beside it",
        ));
    }
    let with_tests = |source: Source| {
        let tests = source.path.with_extension(&ENDING[1..]);
        RuleFile { tests: tests.is_file().then_some(tests), source }
    };
    Ok(sources.into_iter().map(with_tests).collect())
}

/// Test files in `folder` and below that have no rule beside them, sorted.
fn without_rule(folder: &Path, depth: usize, alone: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if depth == DEPTH_MAX {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            without_rule(&path, depth + 1, alone)?;
        } else if rule_of(&path).is_some_and(|rule| !rule.exists()) {
            alone.push(path);
        }
    }
    alone.sort();
    Ok(())
}

/// The rule that a test file is for; `None` where `path` is no test file.
fn rule_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    Some(path.with_file_name(format!("{name}.rhai")))
}

fn no_rule(tests: &Path) -> Fault {
    let rule = rule_of(tests).unwrap_or_default();
    let rule = rule.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Fault::new(format!("{} tests a rule that is not there", tests.display()), format!("the rule of a test file stands beside it: {rule}"))
}
