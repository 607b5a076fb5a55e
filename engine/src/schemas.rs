//! The texts of configured schemas: from a file or from the configuration, with the folder that their references lead into.
//!
//! Files are read at start, once, and never from outside the folder. Deliberately absent: what a schema means, which the evaluators know.

use crate::config::SchemaText;
use crate::error::Fault;
use evaluators::Folder;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Larger files are refused: schemas are kilobytes, and something else was probably named.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The text of the schema `name`, and where its relative references lead.
///
/// # Errors
/// When its file cannot be read or is too large.
pub fn read(name: &str, text: &SchemaText) -> Result<(String, Folder), Fault> {
    let (json, folder, file) = match text {
        SchemaText::Inline { json, folder } => (json.clone(), folder.as_path(), String::new()),
        SchemaText::File(path) => {
            let json = bounded(path).map_err(|why| {
                let hint = "check schemas.*.file";
                Fault::new(format!("cannot read the schema `{name}` from {}: {why}", path.display()), hint)
            })?;
            let file = path.file_name().map_or(String::new(), |file| file.to_string_lossy().into_owned());
            (json, path.parent().unwrap_or(Path::new("")), file)
        }
    };
    // The folder of a bare file name is where we are.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.to_owned();
    let read = move |path: &str| {
        let full = folder.join(path);
        // A link may lead anywhere, so what counts is where it ends. Within the folder it may: volumes of Kubernetes are made of links.
        let (end, root) = (full.canonicalize(), folder.canonicalize());
        match (end, root) {
            (Ok(end), Ok(root)) if !end.starts_with(&root) => Err("it is a link that leads out of the folder".to_owned()),
            (Ok(end), Ok(_)) => bounded(&end),
            (Err(why), _) | (_, Err(why)) => Err(why.to_string()),
        }
    };
    Ok((json, Folder { file, read: Arc::new(read) }))
}

fn bounded(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|why| why.to_string())?;
    file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(|why| why.to_string())?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("it is larger than {} MiB", FILE_MAX_BYTES >> 20));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evaluators::{Evaluators, SchemaSource};

    /// A folder with `schemas/` and files in it and beside it.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(folder.path().join("schemas/shared")).expect("a folder");
        for (path, text) in files {
            std::fs::write(folder.path().join(path), text).expect("it is written");
        }
        folder
    }

    /// Whether an answer satisfies `schemas/facts.json`, or why that cannot be compiled.
    fn judge(folder: &tempfile::TempDir, answer: &str) -> Result<Option<bool>, String> {
        let path = folder.path().join("schemas/facts.json");
        let (text, folder) = read("facts", &SchemaText::File(path)).map_err(|fault| fault.to_string())?;
        let source = SchemaSource { name: "facts".to_owned(), text: Some(text), folder: Some(folder), ..SchemaSource::default() };
        let evaluators = Evaluators::new(vec![source], Vec::new()).map_err(|error| error.to_string())?;
        let log =
            serde_json::json!({ "id": "a", "time": 1_700_000_000_000_u64, "model": "m", "response_format": "facts", "output": answer }).to_string();
        Ok(evaluators.find(&model::parse(log.as_bytes()).expect("a good log")).schema_valid)
    }

    #[test]
    fn references_lead_to_files_in_the_folder_of_the_schema_and_back() {
        for (name, files) in [
            (
                "beside it, below it, and back to it",
                vec![
                    ("schemas/facts.json", r##"{"type":"object","properties":{"facts":{"items":{"$ref":"shared/fact.json#/$defs/fact"}}}}"##),
                    (
                        "schemas/shared/fact.json",
                        r##"{"$defs":{"fact":{"properties":{"text":{"$ref":"text%20only.json"},"of":{"$ref":"../facts.json"}}}}}"##,
                    ),
                    ("schemas/shared/text only.json", r#"{"type":"string"}"#),
                ],
            ),
            (
                "by what they call themselves",
                vec![
                    (
                        "schemas/facts.json",
                        r#"{"$id":"https://example.com/s/facts.json","properties":{"facts":{"items":{"$ref":"shared/fact.json"}}}}"#,
                    ),
                    (
                        "schemas/shared/fact.json",
                        r#"{"$id":"https://example.com/s/shared/fact.json","properties":{"text":{"$ref":"text.json"},"of":{"$ref":"../facts.json"}}}"#,
                    ),
                    ("schemas/shared/text.json", r#"{"type":"string"}"#),
                ],
            ),
        ] {
            let folder = folder(&files);
            for (answer, valid) in [
                (r#"{"facts":[{"text":"a"}]}"#, true),
                (r#"{"facts":[{"text":5}]}"#, false),
                (r#"{"facts":[{"text":"a","of":{"facts":[{"text":"b"}]}}]}"#, true),
                (r#"{"facts":[{"text":"a","of":{"facts":[{"text":5}]}}]}"#, false),
            ] {
                assert_eq!(judge(&folder, answer), Ok(Some(valid)), "{name}: {answer}");
            }
        }
    }

    #[test]
    fn a_reference_out_of_the_folder_is_refused() {
        for (reference, why) in [
            ("../secret.json", "it refers to `secret.json`, which is outside its folder\nhint: refer to files in the folder"),
            ("shared/../../secret.json", "it refers to `secret.json`, which is outside its folder"),
            ("..%2fsecret.json", "it refers to `../secret.json`, which is outside its folder"),
            ("/etc/hostname", "it refers to `etc/hostname`, which is outside its folder"),
            ("link.json", "it refers to `link.json`, which cannot be read: it is a link that leads out of the folder"),
            ("missing.json", "it refers to `missing.json`, which cannot be read: No such file"),
            ("shared/broken.json", "it refers to `shared/broken.json`, which is not JSON: "),
            ("shared/odd.json", "it refers to `shared/odd.json`, whose $schema is `http://odd`, which is not known"),
            ("shared/large.json", "it refers to `shared/large.json`, which cannot be read: it is larger than 1 MiB"),
            ("file:///etc/hostname", "nothing is fetched"),
            ("https://example.com/secret.json", "nothing is fetched"),
        ] {
            let schema = format!("{{\"$ref\":\"{reference}\"}}");
            let large = " ".repeat(1 << 20) + "{}";
            let folder = folder(&[
                ("schemas/facts.json", schema.as_str()),
                ("schemas/shared/broken.json", "{"),
                ("schemas/shared/odd.json", r#"{"$schema":"http://odd"}"#),
                ("schemas/shared/large.json", large.as_str()),
                ("secret.json", "{}"),
            ]);
            std::os::unix::fs::symlink(folder.path().join("secret.json"), folder.path().join("schemas/link.json")).expect("a link");
            let said = judge(&folder, "{}").expect_err("it is refused");
            assert!(said.starts_with("compile schema `facts`: ") && said.contains(why), "{reference}: {said}");
        }
    }

    #[test]
    fn a_schema_leads_to_so_many_files_and_no_more() {
        let texts: Vec<_> = (0..70).map(|n| (format!("schemas/{n}.json"), format!("{{\"$ref\":\"{}.json\"}}", n + 1))).collect();
        let mut files: Vec<_> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        files.push(("schemas/facts.json", r#"{"$ref":"0.json"}"#));
        let said = judge(&folder(&files), "{}").expect_err("there are too many");
        assert!(said.contains("it refers to `64.json`, and is the 65th file; a schema leads to at most 64"), "{said}");
    }
}
