//! What people write first, and what they are told: each file of `mistakes/` beside the whole text that it gives.
//!
//! A new case is a file `NN-name.rhai`; `STREAMGAUGE_RENEW=1 cargo test -p streamgauge-rules --test mistakes` writes what it gives beside it, to be read
//! before it is kept.

use model::time::Span;
use std::path::{Path, PathBuf};
use streamgauge_rules::{Bounds, Configured, Source, lint, load};

/// Each case with its file and the text that is expected; empty when there is none yet.
fn cases() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let files = std::fs::read_dir(folder).expect("the cases are there").map(|file| file.expect("it can be read").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "rhai")).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default())).collect()
}

/// All that people are told of a file: its problems, or the warnings about its rule. Whatever else is said is added here, and its cases to the folder.
fn told(path: &Path) -> String {
    let name = path.file_name().expect("a case is a file");
    let text = std::fs::read_to_string(path).expect("a case is text");
    let sources = [Source { path: name.into(), text }];
    let loaded = load(&sources, &Configured::default());
    let bounds = Bounds { retention: Span::from_secs(7 * 24 * 60 * 60), series_max: 20_000, silent: Vec::new() };
    let warnings = lint(&sources, &loaded.rules, &bounds).into_iter().map(|warning| warning.problem);
    loaded.problems.iter().cloned().chain(warnings).map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn each_mistake_is_told_as_it_was_read_and_found_good() {
    let renew = std::env::var_os("STREAMGAUGE_RENEW").is_some();
    let mut other = Vec::new();
    for (path, expected) in cases() {
        let got = told(&path);
        if renew {
            std::fs::write(path.with_extension("txt"), &got).expect("the case can be written");
        } else if got != expected {
            other.push(format!("{}:\n{got}instead of\n{expected}", path.display()));
        }
    }
    assert!(
        other.is_empty(),
        "{}\nread them, and keep them with\n    STREAMGAUGE_RENEW=1 cargo test -p streamgauge-rules --test mistakes",
        other.join("\n")
    );
}

#[test]
fn each_mistake_has_a_line_and_a_way_out() {
    if std::env::var_os("STREAMGAUGE_RENEW").is_some() {
        return;
    }
    let cases = cases();
    assert!(cases.len() >= 20, "{}", cases.len());
    for (path, text) in cases {
        let file = path.file_name().and_then(|name| name.to_str()).expect("names are text").to_owned();
        assert!(!text.is_empty(), "{file} is no mistake");
        for problem in text.split(&format!("{file}:")).skip(1) {
            let line = problem.split(':').next().and_then(|line| line.parse::<usize>().ok());
            assert!(line.is_some_and(|line| line > 0) && problem.contains("\nhint: "), "{file}:{problem}");
        }
    }
}
