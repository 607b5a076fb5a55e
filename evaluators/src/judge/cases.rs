//! `cases.jsonl`: calls with the label that a person gave them. `judge calibrate` asks about them, and they show what the judge is meant to see.
//!
//! One JSON object a line: `id`, `label`, `log` (the native format; `id`, `time` and `model` are filled in where they are missing), and if you like
//! `score` and `why`. Of a judge of pairs `first` and `second` take the place of `log`.

use super::load::Place;
use super::manifest::{Kind, Wrong, hint};
use super::reply::Preference;
use model::CallLog;
use model::wire::json;
use std::collections::BTreeSet;

/// One labelled call, or pair of calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Unique within its judge.
    pub id: String,
    /// From 1.
    pub line: usize,
    pub label: Label,
    /// From 0 to 1, where the person gave one.
    pub score: Option<f64>,
    /// Why the label is what it is.
    pub why: String,
    logs: Vec<String>,
}

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Pass,
    Fail,
    Prefers(Preference),
}

impl Case {
    /// The call; of a pair the first.
    pub fn call(&self) -> CallLog<'_> {
        parsed(&self.logs[0])
    }

    /// The second call of a pair.
    pub fn second(&self) -> Option<CallLog<'_>> {
        self.logs.get(1).map(|log| parsed(log))
    }
}

fn parsed(log: &str) -> CallLog<'_> {
    model::parse(log.as_bytes()).expect("logs of cases were parsed when they were read")
}

/// More cases than anyone labels by hand for one judge.
const CASES_MAX: usize = 10_000;

const FIELDS: [&str; 7] = ["id", "label", "log", "first", "second", "score", "why"];

/// A time for calls that have none: what is judged does not depend on it.
const SOME_TIME: &str = "1700000000000";

/// Reads the file, and says everything that is wrong with it.
pub(crate) fn read(text: &str, kind: Kind) -> Result<Vec<Case>, Vec<Wrong>> {
    let (mut cases, mut wrong) = (Vec::new(), Vec::new());
    let mut ids = BTreeSet::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::Line(index + 1);
        if cases.len() == CASES_MAX {
            wrong.push(Wrong {
                place,
                what: format!("there are more than {CASES_MAX} cases"),
                hint: "a few hundred say all there is to say".to_owned(),
            });
            break;
        }
        match case(line, index + 1, kind) {
            Ok(case) if !ids.insert(case.id.clone()) => {
                let what = format!("there is a case `{}` already", case.id);
                wrong.push(Wrong { place, what, hint: "give one of them another id".to_owned() });
            }
            Ok(case) => cases.push(case),
            Err((what, hint)) => wrong.push(Wrong { place, what, hint }),
        }
    }
    if wrong.is_empty() { Ok(cases) } else { Err(wrong) }
}

fn case(line: &str, number: usize, kind: Kind) -> Result<Case, (String, String)> {
    let fields = json::fields(line).map_err(|error| (format!("it is no JSON object: {error}"), "each line is one object".to_owned()))?;
    if let Some((name, _)) = fields.iter().find(|(name, _)| !FIELDS.contains(&name.as_ref())) {
        return Err((format!("unknown field `{name}`"), hint(name, &FIELDS)));
    }
    let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw);
    let text = |name: &str| get(name).map(json::decode).unwrap_or_default().into_owned();
    let id = text("id");
    if id.is_empty() {
        return Err(("it has no `id`".to_owned(), "give each case a name of its own".to_owned()));
    }
    let pair = kind == Kind::Pair;
    let labels: &[&str] = if pair { &["first", "second", "tie"] } else { &["pass", "fail"] };
    let label = match (text("label").as_str(), pair) {
        ("pass", false) => Label::Pass,
        ("fail", false) => Label::Fail,
        ("first", true) => Label::Prefers(Preference::First),
        ("second", true) => Label::Prefers(Preference::Second),
        ("tie", true) => Label::Prefers(Preference::Tie),
        (other, _) => return Err((format!("`{other}` is no label here"), hint(other, labels))),
    };
    let score = match get("score").filter(|raw| *raw != "null") {
        None => None,
        Some(raw) => match raw.parse().ok().filter(|score| (0.0..=1.0).contains(score)) {
            Some(score) => Some(score),
            None => return Err((format!("`score` is {raw}"), "a score is a number from 0 (worst) to 1, whatever the judge's own scale".to_owned())),
        },
    };
    let names: &[&str] = if pair { &["first", "second"] } else { &["log"] };
    let mut logs = Vec::new();
    for name in names {
        let raw =
            get(name).ok_or_else(|| (format!("it has no `{name}`"), "give it the call, or the parts of it that the prompt shows".to_owned()))?;
        logs.push(complete(raw, &id).map_err(|what| (format!("`{name}`: {what}"), "a log is in the native format".to_owned()))?);
    }
    Ok(Case { id, line: number, label, score, why: text("why"), logs })
}

/// The log with what every log has, where it was left out.
fn complete(raw: &str, id: &str) -> Result<String, String> {
    let fields = json::fields(raw).map_err(|error| format!("it is no JSON object: {error}"))?;
    let mut log = String::from("{");
    let required = [("id", serde_json::Value::from(id).to_string()), ("time", SOME_TIME.to_owned()), ("model", "\"unknown\"".to_owned())];
    for (name, value) in required.iter().filter(|(name, _)| !fields.iter().any(|(key, _)| key == name)) {
        log.push_str(&format!("\"{name}\":{value},"));
    }
    log.push_str(raw.trim().trim_start_matches('{'));
    // An empty object leaves a comma before its end.
    let log = if fields.is_empty() { format!("{}}}", log.trim_end_matches('}').trim_end().trim_end_matches(',')) } else { log };
    model::parse(log.as_bytes()).map_err(|malformed| malformed.detail.clone())?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, kind: Kind) -> String {
        match read(text, kind) {
            Ok(cases) => cases.iter().map(|case| format!("{} {:?}", case.id, case.label)).collect::<Vec<_>>().join("; "),
            Err(wrong) => wrong.iter().map(|wrong| format!("{:?} {}", wrong.place, wrong.what)).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn a_case_needs_a_label_and_the_parts_of_a_call_that_matter() {
        let good = "{\"id\":\"a\",\"label\":\"pass\",\"log\":{\"output\":\"x\"}}\n\n{\"id\":\"b\",\"label\":\"fail\",\"log\":{}}";
        assert_eq!(said(good, Kind::Verdict), "a Pass; b Fail");
        let cases = read(good, Kind::Verdict).ok().expect("good cases");
        assert_eq!((cases[0].call().output.text().as_deref(), cases[1].line), (Some("x"), 3));
        let pair = "{\"id\":\"a\",\"label\":\"tie\",\"first\":{\"output\":\"x\"},\"second\":{\"output\":\"y\"}}";
        assert_eq!(said(pair, Kind::Pair), "a Prefers(Tie)");
        assert!(read(pair, Kind::Pair).ok().expect("a good case")[0].second().is_some());
    }

    #[test]
    fn every_bad_line_is_named() {
        for (line, expected) in [
            ("x", "Line(1) it is no JSON object: expected value at line 1 column 1"),
            ("{\"id\":\"a\",\"lable\":\"pass\"}", "Line(1) unknown field `lable`"),
            ("{\"label\":\"pass\"}", "Line(1) it has no `id`"),
            ("{\"id\":\"a\",\"label\":\"good\"}", "Line(1) `good` is no label here"),
            ("{\"id\":\"a\",\"label\":\"pass\"}", "Line(1) it has no `log`"),
            (
                "{\"id\":\"a\",\"label\":\"pass\",\"log\":{\"time\":1}}",
                "Line(1) `log`: field `time`: expected epoch milliseconds (this looks like seconds), found 1",
            ),
            ("{\"id\":\"a\",\"label\":\"pass\",\"score\":4,\"log\":{}}", "Line(1) `score` is 4"),
            ("{\"id\":\"a\",\"label\":\"pass\",\"log\":{}}\n{\"id\":\"a\",\"label\":\"pass\",\"log\":{}}", "Line(2) there is a case `a` already"),
        ] {
            assert_eq!(said(line, Kind::Verdict), expected, "{line}");
        }
        assert_eq!(said("{\"id\":\"a\",\"label\":\"pass\",\"log\":{}}", Kind::Pair), "Line(1) `pass` is no label here");
    }
}
