//! One test file: from keys to meaning, with every mistake at its place.

use crate::config::ConfigErrors;
use crate::config::errors::Fault;
use crate::config::section::Section;
use crate::config::tree::Node;
use fixtures::{Phrase, PhraseError};
use model::plan::Severity;
use model::{Span, Timestamp};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// 2026-01-05T00:00:00Z, a Monday: days of the week are what a rule may learn.
const DEFAULT_START_MS: i64 = 1_767_571_200_000;
/// Some minutes of work: more is a back-test.
const CALLS_MAX: f64 = 5_000_000.0;

/// All that a season can show, once.
const LASTS_MAX: Span = Span::from_secs(366 * 86_400);

/// One test, as meant.
#[derive(Debug)]
pub(super) struct Test {
    /// One line, and no other test of the file has it.
    pub name: String,
    /// `None`: with the first of its own calls.
    pub start: Option<Timestamp>,
    pub seed: u64,
    pub streams: Vec<Stream>,
    pub own: Option<Own>,
    /// In the order of firing.
    pub expected: Vec<Expected>,
}

/// Generated calls.
#[derive(Debug)]
pub(super) struct Stream {
    pub phrase: Phrase,
    /// Fields of each.
    pub log: Map<String, Value>,
}

/// Calls of the author's own: JSON lines.
#[derive(Debug)]
pub(super) enum Own {
    File(PathBuf),
    Inline(String),
}

/// An alert that is to come. What is not said may be anything.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub fires: Between,
    pub ends: Option<Ends>,
    pub rule: Option<String>,
    pub environment: Option<String>,
    pub group: BTreeMap<String, String>,
    pub severity: Option<Severity>,
    pub summary: Option<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ends {
    /// Still firing when the test is over.
    Never,
    At(Between),
}

/// Since the start, both ends included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Between {
    pub from: Span,
    pub to: Span,
}

/// The tests of a file.
///
/// # Errors
/// Every mistake, with its place.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<Test>, ConfigErrors> {
    let tree = Node::parse(&path.display().to_string(), text)?;
    let names = RefCell::new(BTreeSet::new());
    Section::root(tree, path.parent().unwrap_or(Path::new("")), |root| {
        root.each("test", |_| Err(Fault::new("must be a table, not text", "begin it with [[test]]")), |section| test(section, &names))
    })
}

fn test(section: &mut Section<'_>, names: &RefCell<BTreeSet<String>>) -> Option<Test> {
    let named = section.has("name");
    let name = section.read("name", name);
    if !named {
        section.refuse(&[], Fault::new("needs `name`", "say what it shows, such as name = \"silent on the healthy day\""));
    }
    if let Some(name) = &name
        && !names.borrow_mut().insert(name.clone())
    {
        section.refuse(&["name"], Fault::new("has the name of an earlier test", "results and kept messages go by the name: give each its own"));
    }
    let start = section.read("start", start);
    let seed =
        section.read("seed", |node| u64::try_from(node.whole()?).map_err(|_| Fault::new("must not be negative", "any whole number from 0 on")));
    let has_calls = section.has("traffic") || section.has("calls");
    let streams = section.each("traffic", |text| Ok(Stream { phrase: phrase(text)?, log: Map::new() }), stream);
    let folder = section.folder;
    let own = section.read("calls", |node| own(node, folder));
    if !has_calls {
        let hint = "write traffic = [\"60 calls/min for 3h, 1% fallback\"], or calls = \"incident.jsonl\"";
        section.refuse(&[], Fault::new("has no calls", hint));
    }
    let calls: f64 = streams.iter().map(|stream| stream.phrase.calls_expected()).sum();
    if calls > CALLS_MAX {
        let what = format!("has some {} calls", model::show::number(calls.round()));
        section.refuse(&[], Fault::new(what, format!("a test has at most {}", model::show::number(CALLS_MAX))));
    }
    let (says_none, listed) = (section.has("alerts"), section.has("alert"));
    section.read("alerts", |node| match node.text()? {
        "none" => Ok(()),
        _ => Err(Fault::new("must be \"none\"", "list the alerts that are to come under [[test.alert]]")),
    });
    let expected = section.each("alert", |_| Err(Fault::new("must be a table, not text", "begin it with [[test.alert]]")), expected);
    match (says_none, listed) {
        (false, false) => section.refuse(
            &[],
            Fault::new("does not say what is to come", "list each alert under [[test.alert]] with fires = \"3h..3h10m\", or write alerts = \"none\""),
        ),
        (true, true) => section.refuse(&["alerts"], Fault::new("says that no alert comes, and lists some", "remove one of the two")),
        _ => {}
    }
    let start = match start {
        None if streams.is_empty() => None,
        start => start.or(Timestamp::from_millis(DEFAULT_START_MS)),
    };
    Some(Test { name: name?, start, seed: seed.unwrap_or(1), streams, own, expected })
}

/// Logs write times in milliseconds, and fewer than twelve digits would look like seconds.
fn start(node: &Node) -> Result<Timestamp, Fault> {
    let at = node.time()?;
    let (earliest, latest) = (100_000_000_000, 90_000_000_000_000);
    if !(earliest..latest).contains(&at.millis()) {
        return Err(Fault::new(format!("must not be {at}"), "any time from 1974 to 4821"));
    }
    Ok(at)
}

fn name(node: &Node) -> Result<String, Fault> {
    match node.text()?.trim() {
        "" => Err(Fault::new("must not be empty", "say what it shows")),
        text if text.contains(['\n', '\r']) => Err(Fault::new("must be one line", "say what it shows in a sentence")),
        text => Ok(text.to_owned()),
    }
}

fn stream(section: &mut Section<'_>) -> Option<Stream> {
    let said = section.has("calls");
    let phrase = section.read("calls", |node| phrase(node.text()?));
    if !said {
        section.refuse(&[], Fault::new("needs `calls`", "say what comes, such as calls = \"60 calls/min for 3h, 1% fallback\""));
    }
    let log = section.read("log", |node| {
        let Value::Object(log) = node.json()? else { return Err(Fault::new("must be a table", "write { stage = \"extraction\" }")) };
        match ["id", "time"].into_iter().find(|own| log.contains_key(*own)) {
            Some(own) => Err(Fault::new(format!("has `{own}`, which is each call's own"), "leave it out")),
            None => Ok(log),
        }
    });
    Some(Stream { phrase: phrase?, log: log.unwrap_or_default() })
}

fn phrase(text: &str) -> Result<Phrase, Fault> {
    let phrase = Phrase::parse(text).map_err(|error| {
        let PhraseError { word, known, hint, .. } = &error;
        let near = word.as_deref().and_then(|word| model::nearest::nearest(word, known.iter().copied()));
        Fault::new(error.to_string(), near.map_or(hint.clone(), |near| format!("did you mean `{near}`? {hint}")))
    })?;
    let lasts = Span::from_millis(phrase.millis());
    if lasts > LASTS_MAX {
        return Err(Fault::new(format!("lasts {lasts}"), format!("a phrase lasts at most {LASTS_MAX}")));
    }
    Ok(phrase)
}

fn own(node: &Node, folder: &Path) -> Result<Own, Fault> {
    let text = node.text()?;
    if text.trim_start().starts_with('{') {
        return Ok(Own::Inline(text.to_owned()));
    }
    let path = node.path(folder)?;
    if !path.is_file() {
        let what = format!("is no file: there is no {}", path.display());
        return Err(Fault::new(what, "write the path of a file of JSON lines, from this file's folder, or the lines themselves"));
    }
    Ok(Own::File(path))
}

fn expected(section: &mut Section<'_>) -> Option<Expected> {
    let said = section.has("fires");
    let fires = section.read("fires", |node| between(node.text()?));
    if !said {
        section.refuse(&[], Fault::new("needs `fires`", "say when, counted from the start, such as fires = \"3h..3h10m\""));
    }
    let ends = section.read("ends", |node| match node.text()? {
        "never" => Ok(Ends::Never),
        text => between(text).map(Ends::At),
    });
    let text = |node: &Node| node.text().map(ToOwned::to_owned);
    let (rule, environment, summary) = (section.read("rule", text), section.read("environment", text), section.read("summary", text));
    let group = section.read("group", Node::texts).unwrap_or_default();
    let severity = section.read("severity", |node| {
        let text = node.text()?;
        let all = [Severity::Info, Severity::Warning, Severity::Critical];
        all.into_iter().find(|severity| severity.name() == text).ok_or_else(|| {
            let near = model::nearest::nearest(text, all.map(Severity::name)).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            Fault::new(format!("is none: `{text}`"), format!("{near}known: {}", all.map(Severity::name).join(", ")))
        })
    });
    let labels = section.read("labels", Node::texts).unwrap_or_default();
    Some(Expected { fires: fires?, ends, rule, environment, group, severity, summary, labels })
}

/// `3h..3h10m`, or `3h` for exactly then.
fn between(text: &str) -> Result<Between, Fault> {
    const HINT: &str = "times are counted from the start: \"3h..3h10m\", or \"3h\" for exactly then";
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    match (Span::parse(from), Span::parse(to)) {
        (Some(from), Some(to)) if from <= to => Ok(Between { from, to }),
        (Some(_), Some(_)) => Err(Fault::new(format!("must not end before it begins, as `{text}` does"), HINT)),
        _ => Err(Fault::new(format!("cannot be read: `{text}` is no time, nor two"), HINT)),
    }
}
