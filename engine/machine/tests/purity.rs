//! What the machine must not do, looked for in its sources: clocks, chance, threads, files, sockets, logging, and iteration in hash order.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that have no business in the machine.
const FORBIDDEN: [&str; 23] = [
    "SystemTime",
    "Instant",
    "std::time",
    "rand",
    "fastrand",
    "HashMap",
    "HashSet",
    "RandomState",
    "async",
    "await",
    "tokio",
    "tracing",
    "log::",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "unsafe",
];

/// Ways to walk through a hash map.
const WALKS: [&str; 10] =
    [".iter()", ".iter_mut()", ".into_iter()", ".values()", ".values_mut()", ".keys()", ".into_values()", ".into_keys()", ".drain(", ".retain("];

fn sources(crate_folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(crate_folder).join("src");
    let mut folders = vec![root];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are there") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                files.push((path, text));
            }
        }
    }
    files.sort();
    assert!(files.len() > 5, "found only {} sources", files.len());
    files
}

/// Lines with their numbers, without comments; no string in these sources holds `//`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

/// Whether `line` has `word` as a word of its own.
fn has(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let whole_before = !line[..at].ends_with(part) || !word.starts_with(part);
        let whole_after = !line[at + word.len()..].starts_with(part) || !word.ends_with(part);
        whole_before && whole_after
    })
}

fn place(path: &Path, line: usize) -> String {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let from = parts.iter().rposition(|part| part == "src").unwrap_or_default();
    format!("{}/{}:{line}", parts[from.saturating_sub(1)], parts[from..].join("/"))
}

#[test]
fn the_machine_has_no_clock_no_chance_and_no_way_out() {
    let mut found = Vec::new();
    for (path, text) in sources(".") {
        for (line, code) in code(&text) {
            found.extend(FORBIDDEN.iter().filter(|word| has(code, word)).map(|word| format!("{}: {word}", place(&path, line))));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_model_keeps_one_hash_map_and_never_walks_it() {
    let mut found = Vec::new();
    let mut kept = false;
    for (path, text) in sources("../model") {
        let in_fold = path.ends_with("fold.rs");
        // A walk may be broken over lines; without white space it is one again.
        let (mut squeezed, mut starts) = (String::new(), Vec::new());
        for (line, code) in code(&text) {
            starts.push(squeezed.len());
            squeezed.extend(code.split_whitespace());
            let words = ["HashMap", "HashSet", "RandomState"].into_iter().filter(|word| has(code, word) && !(in_fold && *word == "HashMap"));
            found.extend(words.map(|word| format!("{}: {word}", place(&path, line))));
        }
        if in_fold {
            kept = squeezed.contains("index:Vec<HashMap<");
            for (at, _) in squeezed.match_indices("index") {
                let (before, after) = (&squeezed[..at], squeezed[at + "index".len()..].trim_start_matches("[at]"));
                let walk = WALKS.into_iter().find(|walk| after.starts_with(walk));
                let looped = ["inself.", "in&self.", "in&mutself."].into_iter().find(|start| before.ends_with(start));
                let line = starts.partition_point(|start| *start <= at);
                found.extend(walk.or(looped).map(|how| format!("{}: index, {how}", place(&path, line))));
            }
        }
    }
    assert!(kept, "the fold's index is not what this test was written for");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn words_are_found_in_code_and_not_in_comments() {
    let text = "let now = Instant::now(); // SystemTime\n/// tokio\nlet random = operand;\nlog::info!(1)";
    let found: Vec<_> =
        code(text).flat_map(|(line, code)| FORBIDDEN.iter().filter(move |word| has(code, word)).map(move |word| (line, *word))).collect();
    assert_eq!(found, [(1, "Instant"), (4, "log::")]);
}
