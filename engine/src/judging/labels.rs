//! Calls with people's labels, for `judge calibrate`: JSON lines, each a native log with a `label`, or the log under `call` or `log` beside it.
//!
//! Deliberately absent: judges' own cases, which are read with the judge, and labels other than `pass` and `fail`.

use crate::backtest::lines::Lines;
use crate::error::Fault;
use bytes::Bytes;
use evaluators::judge::{Case, Label};
use model::CallLog;
use model::wire::json;
use std::path::Path;

/// A few hundred say all there is to say; more than this nobody labels by hand, and all are in memory.
const LABELS_MAX: usize = 10_000;
/// Of all labelled calls together.
const BYTES_MAX: usize = 512 << 20;
/// Bad lines that an error names.
const SHOWN_MAX: usize = 10;

/// One labelled call.
#[derive(Clone, Debug)]
pub struct Labelled {
    call: Source,
    /// It passes.
    pub pass: bool,
}

#[derive(Clone, Debug)]
enum Source {
    /// Was parsed when it was read.
    Log(Bytes),
    Case(Box<Case>),
}

impl Labelled {
    pub fn call(&self) -> CallLog<'_> {
        match &self.call {
            Source::Log(log) => model::parse(log).expect("labelled calls were parsed when they were read"),
            Source::Case(case) => case.call(),
        }
    }

    /// A judge's own cases; those of pairs have no place here.
    pub fn of_cases(cases: &[Case]) -> Vec<Self> {
        let labelled = |case: &Case| match case.label {
            Label::Prefers(_) => None,
            label => Some(Self { call: Source::Case(Box::new(case.clone())), pass: label == Label::Pass }),
        };
        cases.iter().filter_map(labelled).collect()
    }
}

/// Reads a file of labelled calls: plain, gzipped or compressed with zstd.
///
/// # Errors
/// When it cannot be read, holds nothing, or any line of it is not a call with a label: a label that is left out would be a figure that is wrong.
pub fn read(path: &Path) -> Result<Vec<Labelled>, Fault> {
    let (mut lines, _) = Lines::open(path)?;
    let (mut labelled, mut wrong, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let Some(batch) = lines.next()? {
        for envelope in batch {
            match one(&envelope.payload) {
                Ok((call, pass)) => {
                    bytes += call.len();
                    labelled.push(Labelled { call: Source::Log(call), pass });
                }
                Err(what) => wrong.push(format!("line {}: {what}", envelope.sequence)),
            }
            if labelled.len() > LABELS_MAX || bytes > BYTES_MAX {
                let what = format!("{} holds more than {LABELS_MAX} labelled calls, or more than {} MiB of them", path.display(), BYTES_MAX >> 20);
                return Err(Fault::new(what, "a few hundred of each label say all there is to say: give it fewer"));
            }
        }
    }
    if !wrong.is_empty() {
        let more = if wrong.len() > SHOWN_MAX { format!("\nand {} more", wrong.len() - SHOWN_MAX) } else { String::new() };
        wrong.truncate(SHOWN_MAX);
        let what = format!("cannot read the labels in {}:\n{}{more}", path.display(), wrong.join("\n"));
        return Err(Fault::new(what, "each line is a call log with \"label\": \"pass\" or \"fail\", or {\"call\": {…}, \"label\": …}"));
    }
    if labelled.is_empty() {
        return Err(Fault::new(format!("{} holds no labelled call", path.display()), "each line is a call log with \"label\": \"pass\" or \"fail\""));
    }
    Ok(labelled)
}

/// The log, as its own bytes, and whether it passes.
fn one(line: &Bytes) -> Result<(Bytes, bool), String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let fields = json::fields(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw);
    let pass = match get("label").map(json::decode).as_deref() {
        Some("pass") => true,
        Some("fail") => false,
        Some(other) => return Err(format!("`{other}` is no label; a label is pass or fail")),
        None => return Err("it has no `label`".to_owned()),
    };
    let log = get("call").or_else(|| get("log")).unwrap_or(text);
    model::parse(log.as_bytes()).map_err(|malformed| malformed.detail.clone())?;
    Ok((line.slice_ref(log.as_bytes()), pass))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#""id":"c","time":1700000000000,"model":"m","output":"x""#;

    fn of(text: &str) -> Result<Vec<(String, bool)>, String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it is written");
        let read = read(file.path()).map_err(|fault| fault.to_string().replace(&file.path().display().to_string(), "FILE"))?;
        Ok(read.iter().map(|labelled| (labelled.call().id.into_owned(), labelled.pass)).collect())
    }

    #[test]
    fn a_label_stands_in_the_log_or_beside_it() {
        let text = format!(
            "{{{LOG},\"label\":\"pass\"}}\n{{\"call\":{{{LOG}}},\"label\":\"fail\"}}\n{{\"log\":{{{LOG}}},\"label\":\"fail\",\"why\":\"w\"}}"
        );
        assert_eq!(of(&text), Ok([("c", true), ("c", false), ("c", false)].map(|(id, pass)| (id.to_owned(), pass)).into()));
    }

    #[test]
    fn every_line_that_is_no_labelled_call_is_named() {
        let text = format!("{{{LOG}}}\n{{{LOG},\"label\":\"good\"}}\nx\n{{\"call\":{{}},\"label\":\"pass\"}}");
        let said = of(&text).expect_err("none of them is");
        let expected = "cannot read the labels in FILE:\nline 1: it has no `label`\nline 2: `good` is no label; a label is pass or fail\nline 3: it is no JSON object";
        assert!(said.starts_with(expected) && said.contains("line 4: ") && said.contains("hint: each line"), "{said}");
        assert!(of("\n").expect_err("nothing").contains("holds no labelled call"));
    }
}
