//! The map of the rooms, held: who may import whom, what stands at the top level, and that no file knows the machine it was written on.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the engine is a folder of the workspace").to_owned()
}

/// Each crate's imports of crates of this workspace, dev-dependencies included: by name, without `streamgauge-`.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let ran = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let metadata: Value = serde_json::from_slice(&ran.stdout).expect("metadata is JSON");
    let name = |of: &Value| of["name"].as_str().expect("a name").trim_start_matches("streamgauge-").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        dependencies.iter().filter(|dependency| dependency["path"].is_string()).map(name).collect()
    };
    packages.iter().map(|package| (name(package), ours(package))).collect()
}

#[test]
fn imports_go_one_way() {
    let imports = imports();
    let all = ["cause", "evaluators", "fixtures", "fixtures-slack", "index", "machine", "model", "rules"];
    for (room, allowed) in [
        ("model", &[][..]),
        ("rules", &["model"]),
        ("evaluators", &["model", "rules"]),
        ("machine", &["model"]),
        ("cause", &[]),
        // Its benchmark indexes generated calls; nothing else of it may know them.
        ("index", &["fixtures", "model"]),
        ("fixtures", &["model"]),
        // A stand-in for something outside knows nothing of what is tested against it.
        ("fixtures-slack", &[]),
        ("streamgauge", &all),
    ] {
        let imported: BTreeSet<_> = imports.get(room).unwrap_or_else(|| panic!("no room {room}")).iter().map(String::as_str).collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        assert!(imported.is_subset(&allowed), "{room} imports {imported:?} and may import {allowed:?}");
    }
    assert_eq!(imports["streamgauge"], all.map(String::from).into(), "the program brings all rooms together");
    assert_eq!(imports.len(), 9, "a room that the map does not know: {:?}", imports.keys());
}

#[test]
fn the_top_level_is_what_the_map_shows() {
    let names = std::fs::read_dir(root()).expect("the workspace reads").map(|entry| entry.expect("an entry").file_name());
    let visible: BTreeSet<_> =
        names.map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.starts_with('.') && name != "target").collect();
    let expected = ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "deploy", "engine", "evaluators", "fixtures", "rules", "rustfmt.toml"];
    assert_eq!(visible.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Where the project is made, which is nobody else's business. Put together here, so that this file is not found.
fn machine_paths() -> [String; 3] {
    ["work", "root", "farm"].map(|folder| format!("/{folder}/"))
}

#[test]
fn no_file_names_a_path_of_the_machine_it_was_made_on() {
    let mut found = Vec::new();
    let mut read = 0;
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder reads") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink() || matches!(name.as_str(), "target" | ".git") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Bytes that are no text are no paths either.
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("the file reads")).into_owned();
            read += 1;
            for (line, machine) in text.lines().zip(1..).flat_map(|(text, line)| {
                machine_paths().into_iter().filter(|machine| text.contains(machine.as_str())).map(move |machine| (line, machine)).collect::<Vec<_>>()
            }) {
                found.push(format!("{}:{line} names {machine}…", path.strip_prefix(root()).unwrap_or(&path).display()));
            }
        }
    }
    assert!(read > 100, "only {read} files were read");
    assert!(found.is_empty(), "{found:#?}");
}
