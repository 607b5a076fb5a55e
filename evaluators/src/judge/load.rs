//! Reading judges: a folder of files becomes a [`Judge`], and every mistake that can be known without a model is found here.
//!
//! A folder with a mistake gives problems and no judge; the others are not touched. Whoever calls this has read the files: nothing is opened here.

use super::cases;
use super::manifest::{self, Wrong, hint};
use super::prompt::{Prompt, VARIABLES};
use super::reply::Form;
use super::seen::Seen;
use super::{Judge, Kind, Nonce, Order, Unaskable};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A judge's files, as read: text by name. Other names than [`Folder::FILES`] are passed over (a README, say).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// As it is shown to people; its last part is the judge's name.
    pub path: PathBuf,
    pub files: BTreeMap<String, String>,
}

impl Folder {
    /// The files of a judge: what it is for, the template, the form of replies, the labelled cases. The last may be missing.
    pub const FILES: [&str; 4] = ["judge.toml", "prompt.md", "reply.schema.json", "cases.jsonl"];
}

/// What a set of folders gave.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// By name.
    pub judges: Vec<Judge>,
    /// In the order of the folders, and in each of its files.
    pub problems: Vec<Problem>,
}

/// One mistake in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    pub place: Place,
    pub message: String,
    /// The way out.
    pub hint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is about all of it.
    File,
    /// From 1.
    Line(usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Place::Line(line) = self.place {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\nhint: {}", self.message, self.hint)
    }
}

/// Larger files are refused: a prompt is a page or two, and something else was probably put into the folder. Cases hold whole calls.
const FILE_MAX_BYTES: usize = 64 << 10;
const CASES_MAX_BYTES: usize = 8 << 20;

/// A name is a label of signals (`judge:name`) and a file name.
const NAME_MAX_BYTES: usize = 64;

/// Reads judges; of two with one name the later folder is refused.
///
/// Cost: about a millisecond each; every case is put into the prompt once.
pub fn load(folders: &[Folder]) -> Loaded {
    let mut loaded = Loaded { judges: Vec::new(), problems: Vec::new() };
    for folder in folders {
        match read(folder) {
            Ok(judge) => match loaded.judges.iter().any(|known| known.name() == judge.name()) {
                true => loaded.problems.push(Problem {
                    path: folder.path.clone(),
                    place: Place::File,
                    message: format!("there is a judge `{}` already", judge.name()),
                    hint: "give one of the folders another name".to_owned(),
                }),
                false => loaded.judges.push(judge),
            },
            Err(mut problems) => loaded.problems.append(&mut problems),
        }
    }
    loaded.judges.sort_by(|a, b| a.name().cmp(b.name()));
    loaded
}

fn read(folder: &Folder) -> Result<Judge, Vec<Problem>> {
    let problem = |file: &str| {
        let path = if file.is_empty() { folder.path.clone() } else { folder.path.join(file) };
        move |wrong: Wrong| Problem { path: path.clone(), place: wrong.place, message: wrong.what, hint: wrong.hint }
    };
    let name = name(&folder.path).map_err(|wrong| vec![problem("")(wrong)])?;
    let [toml, prompt_md, schema_json, cases_jsonl] = Folder::FILES;
    let mut problems = Vec::new();
    for file in [toml, prompt_md, schema_json] {
        problems.extend(file_missing(folder, file).map(problem(file)));
    }
    for file in Folder::FILES {
        problems.extend(folder.files.get(file).and_then(|text| too_large(file, text)).map(problem(file)));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let text = |file: &str| folder.files.get(file).map_or("", |text| text.strip_prefix('\u{feff}').unwrap_or(text));
    let manifest = match manifest::read(text(toml)) {
        Ok(manifest) => Some(manifest),
        Err(wrong) => {
            problems.extend(wrong.into_iter().map(problem(toml)));
            None
        }
    };
    let prompt = match Prompt::new(text(prompt_md)) {
        Ok(prompt) => Some(prompt),
        Err(mistake) => {
            let hint = mistake.unknown.map_or_else(
                || "the template language is a small part of Jinja: {{ … }}, {% if %}, {% for %}, {% set %}".to_owned(),
                |(name, known)| hint(name.rsplit('.').next().unwrap_or(&name), &known),
            );
            let place = mistake.line.map_or(Place::File, Place::Line);
            problems.push(problem(prompt_md)(Wrong { place, what: mistake.reason, hint }));
            None
        }
    };
    // The kind decides what the other files must be; without it, nothing more can be said of them.
    let (Some(manifest), Some(prompt)) = (manifest, prompt) else { return Err(problems) };
    problems.extend(misused(&prompt, manifest.kind).map(problem(prompt_md)));
    let form = match Form::new(text(schema_json), manifest.kind) {
        Ok(form) => Some(form),
        Err((what, hint)) => {
            problems.push(problem(schema_json)(Wrong { place: Place::File, what, hint }));
            None
        }
    };
    let cases = match cases::read(text(cases_jsonl), manifest.kind) {
        Ok(cases) => cases,
        Err(wrong) => {
            problems.extend(wrong.into_iter().map(problem(cases_jsonl)));
            Vec::new()
        }
    };
    let Some(form) = form.filter(|_| problems.is_empty()) else { return Err(problems) };
    let texts = [text(prompt_md), text(schema_json)].map(|text| text.replace("\r\n", "\n"));
    problems.extend(broken(&prompt, manifest.kind).map(problem(prompt_md)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let judge = Judge::new(name, manifest, prompt, form, cases, texts);
    problems.extend(unaskable(&judge).map(problem(cases_jsonl)));
    if problems.is_empty() { Ok(judge) } else { Err(problems) }
}

fn name(path: &Path) -> Result<String, Wrong> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let good = !name.is_empty() && name.len() <= NAME_MAX_BYTES && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if good {
        return Ok(name);
    }
    let what = format!("`{name}` cannot be a judge's name");
    let hint = format!("a name has small letters, digits, - and _, and at most {NAME_MAX_BYTES} of them: it becomes the signal `judge:{name}`");
    Err(Wrong { place: Place::File, what, hint })
}

fn file_missing(folder: &Folder, file: &str) -> Option<Wrong> {
    if folder.files.contains_key(file) {
        return None;
    }
    let others: Vec<_> = folder.files.keys().map(String::as_str).filter(|name| !Folder::FILES.contains(name)).collect();
    let hint = match model::nearest::nearest(file, others) {
        Some(near) => format!("rename `{near}`? a judge's files are: {}", Folder::FILES.join(", ")),
        None => format!("a judge's files are: {}", Folder::FILES.join(", ")),
    };
    Some(Wrong { place: Place::File, what: "there is no such file".to_owned(), hint })
}

fn too_large(file: &str, text: &str) -> Option<Wrong> {
    let max = if file == Folder::FILES[3] { CASES_MAX_BYTES } else { FILE_MAX_BYTES };
    let what = format!("the file has {} bytes; it may have {max}", text.len());
    (text.len() > max).then(|| Wrong { place: Place::File, what, hint: "was something else put into the folder?".to_owned() })
}

/// A prompt that does not show what is judged, or shows what its kind does not have.
fn misused(prompt: &Prompt, kind: Kind) -> Option<Wrong> {
    let used: Vec<_> = VARIABLES.into_iter().filter(|name| prompt.uses(name)).collect();
    let says = |what: &str, hint: &str| Some(Wrong { place: Place::File, what: what.to_owned(), hint: hint.to_owned() });
    let uses = |name: &str| used.contains(&name);
    match kind {
        Kind::Pair if !(uses("first") && uses("second")) => says("it does not show both answers", "print {{ first }} and {{ second }}"),
        Kind::Pair if uses("answer") || uses("json") => says("a pair has two answers", "print {{ first }} and {{ second }} instead"),
        Kind::Pair => None,
        _ if uses("first") || uses("second") => says("`first` and `second` are for judges of pairs", "print {{ answer }}, or write kind = \"pair\""),
        _ if !["answer", "json", "retrieved", "messages", "context"].into_iter().any(uses) => {
            says("it shows nothing of what is judged", "print {{ answer }} or {{ retrieved }}")
        }
        _ => None,
    }
}

/// What goes wrong whatever the call: it is filled in for one that has nothing.
fn broken(prompt: &Prompt, kind: Kind) -> Option<Wrong> {
    let call = model::parse(b"{\"id\":\"-\",\"time\":1700000000000,\"model\":\"-\"}").expect("a log with all that is required");
    let blank = || super::seen::Text { role: "assistant", text: String::new() };
    let pair = (kind == Kind::Pair).then(|| [blank(), blank()]);
    match prompt.fill(Seen::of(&call), pair, &nonce()) {
        Err(Unaskable::Template { line, reason }) => {
            let hint = "there are no filters, tests, functions, macros or includes: {{ … }}, {% if %}, {% for %} and {% set %} are all".to_owned();
            Some(Wrong { place: Place::Line(line), what: reason, hint })
        }
        _ => None,
    }
}

/// For prompts that nobody is asked.
fn nonce() -> Nonce {
    Nonce::new("0".repeat(32)).expect("thirty-two digits")
}

/// Cases that the judge could not be asked about.
fn unaskable(judge: &Judge) -> impl Iterator<Item = Wrong> {
    judge.cases().iter().filter_map(|case| {
        let asked = match case.second() {
            Some(second) => judge.ask_pair(&case.call(), &second, Order::AsGiven, &nonce()).err(),
            None => judge.ask(&case.call(), &nonce()).err(),
        }?;
        let hint = "a case has everything that the prompt prints and judge.toml needs".to_owned();
        Some(Wrong { place: Place::Line(case.line), what: format!("case `{}`: {asked}", case.id), hint })
    })
}
