//! Whether answers are judged as the JSON Schema Test Suite says, and what judging one costs beside parsing it.
//!
//! `cargo bench -p streamgauge-evaluators --bench schemas`, with the suite below the folder that `STREAMGAUGE_RECORDINGS` names. Each test is one call
//! through the same evaluator as in production: its own limits, and nothing fetched. So schemas that lead to other addresses are refused when they are
//! read, which the table tells apart. Ends with one line per target: `target NAME FIGURE LIMIT pass|fail`. `--quick` measures for a shorter time.

#![expect(clippy::print_stdout, reason = "a benchmark's answer")]

use model::CallLog;
use model::wire::json;
use serde_json::Value;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;
use streamgauge_evaluators::{EvaluatorError, Evaluators, SchemaSource};

/// Drafts by the folders of the suite, with what their schemas would say. The first and the last are in no dialect that is read.
const DRAFTS: [(&str, &str); 7] = [
    ("draft3", "http://json-schema.org/draft-03/schema#"),
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
    ("v1", "https://json-schema.org/v1"),
];

/// Of the required tests whose schema is complete in itself and in a dialect that is read, the share that must pass: all of them.
const CONFORMANCE_MIN: f64 = 1.0;
/// Judging a valid answer may take so many times as long as parsing it: it is decoded from the log, scanned as JSON, parsed and validated.
const TIMES_PARSING_MAX: f64 = 4.0;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--test") {
        println!("run cargo bench -p streamgauge-evaluators --bench schemas");
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let mut passed = true;
    match std::env::var_os("STREAMGAUGE_RECORDINGS") {
        Some(folder) => passed &= conformance(&Path::new(&folder).join("json_schema_test_suite/tests")),
        None => println!("conformance skipped: STREAMGAUGE_RECORDINGS is not set"),
    }
    passed &= rate(if quick { 7 } else { 31 });
    std::process::exit(i32::from(!passed));
}

fn target(name: &str, figure: f64, limit: f64, pass: bool) -> bool {
    println!("target {name} {figure:.4} {limit} {}", if pass { "pass" } else { "fail" });
    pass
}

/// What became of the tests of one draft.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    /// The answer is no value that a program holds, such as 1e999.
    unjudged: u64,
    /// Schemas refused when they were read, by why: tests of them.
    refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Tests that can be passed without fetching anything.
    fn possible(&self) -> u64 {
        let within: u64 = self.refused.iter().filter(|(why, _)| !matches!(**why, REMOTE | DIALECT)).map(|(_, tests)| tests).sum();
        self.passed + self.failed + self.unjudged + within
    }

    fn all(&self) -> u64 {
        self.passed + self.failed + self.unjudged + self.refused.values().sum::<u64>()
    }
}

const REMOTE: &str = "leads elsewhere";
const DIALECT: &str = "unknown dialect";
const PATTERN: &str = "pattern that takes unbounded time";

fn conformance(suite: &Path) -> bool {
    let (mut required, mut optional) = (Vec::new(), Vec::new());
    let mut failures = Vec::new();
    for (draft, dialect) in DRAFTS {
        let mut tallies = [Tally::default(), Tally::default()];
        for file in files(&suite.join(draft)).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
            let name = file.strip_prefix(suite).unwrap_or(&file).display().to_string();
            let apart = name.contains("/optional/") || name.contains("/proposals/");
            let text = std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{name}: {why}"));
            for group in json::elements(&text).unwrap_or_else(|why| panic!("{name}: {why}")) {
                run(group, dialect, &mut tallies[usize::from(apart)], |test| {
                    if !apart {
                        failures.push(format!("{name}: {test}"));
                    }
                });
            }
        }
        let [first, second] = tallies;
        required.push((draft, first));
        optional.push((draft, second));
    }
    for (what, tallies) in [("required", &required), ("optional", &optional)] {
        println!("{what:<14}{:>8}{:>8}{:>10}  refused when read", "passed", "failed", "unjudged");
        for (draft, Tally { passed, failed, unjudged, refused }) in tallies {
            let refused: Vec<_> = refused.iter().map(|(why, tests)| format!("{tests} {why}")).collect();
            println!("{draft:<14}{passed:>8}{failed:>8}{unjudged:>10}  {}", refused.join(", "));
        }
    }
    failures.iter().for_each(|failure| println!("failed: {failure}"));
    let sum = |of: fn(&Tally) -> u64| required.iter().map(|(_, tally)| of(tally)).sum::<u64>();
    let (passed, possible, all) = (sum(|tally| tally.passed), sum(Tally::possible), sum(Tally::all));
    println!("{passed} of the {possible} required tests pass that need nothing fetched and are in a dialect that is read; there are {all}");
    let share = passed as f64 / possible as f64;
    target("schema_conformance", share, CONFORMANCE_MIN, share >= CONFORMANCE_MIN)
}

/// The files of a draft, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder reads").path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A schema and its tests; `failed` is told which fail.
fn run(group: &str, dialect: &str, tally: &mut Tally, mut failed: impl FnMut(String)) {
    let get = |of: &'_ str, name: &str| json::field(of, name).map(str::to_owned).unwrap_or_else(|| panic!("no `{name}` in {of}"));
    let raw = get(group, "schema");
    let schema = match raw.strip_prefix('{') {
        // Before everything else, and only where the schema does not say it itself.
        Some(rest) if json::field(&raw, "$schema").is_none() => {
            format!("{{\"$schema\":\"{dialect}\"{}{rest}", if rest.trim_start().starts_with('}') { "" } else { "," })
        }
        _ => raw,
    };
    let tests = get(group, "tests");
    let tests = json::elements(&tests).expect("tests are an array");
    let source = SchemaSource { name: "s".into(), text: Some(schema), ..SchemaSource::default() };
    let evaluators = match Evaluators::new(vec![source], Vec::new()) {
        Ok(evaluators) => evaluators,
        Err(error) => {
            let why = match &error {
                EvaluatorError::Remote { .. } => REMOTE,
                EvaluatorError::Dialect { .. } => DIALECT,
                EvaluatorError::Schema { reason, .. } if reason.contains("regex") => PATTERN,
                _ => "other",
            };
            *tally.refused.entry(why).or_default() += tests.len() as u64;
            if why == "other" || why == PATTERN {
                failed(format!("{error}"));
            }
            return;
        }
    };
    for test in tests {
        let answer = serde_json::to_string(&get(test, "data")).expect("a text");
        let log = format!("{{\"id\":\"a\",\"time\":1700000000000,\"model\":\"m\",\"response_format\":\"s\",\"output\":{answer}}}");
        let found = evaluators.find(&model::parse(log.as_bytes()).expect("a good log"));
        match found.schema_valid {
            None => tally.unjudged += 1,
            Some(valid) if valid.to_string() == get(test, "valid") => tally.passed += 1,
            Some(valid) => {
                tally.failed += 1;
                failed(format!("{} {} (found {valid})", get(group, "description"), get(test, "description")));
            }
        }
    }
}

/// What an extraction answers, and what is asked of it.
const SCHEMA: &str = r##"{"type":"object","required":["facts","language"],"additionalProperties":false,"properties":{
    "language":{"type":"string","pattern":"^[a-z]{2}$"},"facts":{"type":"array","maxItems":50,"items":{"$ref":"#/$defs/fact"}}},
    "$defs":{"fact":{"type":"object","required":["text","kind","confidence"],"additionalProperties":false,"properties":{
    "text":{"type":"string","minLength":1,"maxLength":500},"kind":{"enum":["person","place","event","preference"]},
    "confidence":{"type":"number","minimum":0,"maximum":1},"source":{"anyOf":[{"type":"integer"},{"type":"null"}]}}}}}"##;

fn rate(rounds: usize) -> bool {
    let kinds = ["person", "place", "event", "preference"];
    let answer = |number: usize, broken: bool| {
        let fact = |at: usize| {
            let text = format!("In May of year {} they moved to a house by the river, number {at}, and stayed.", 1900 + number % 100);
            let confidence = if broken && at == 7 { 1.5 } else { 0.5 + at as f64 / 40.0 };
            serde_json::json!({ "text": text, "kind": kinds[(at + number) % 4], "confidence": confidence, "source": at })
        };
        serde_json::json!({ "language": "en", "facts": (0..10).map(fact).collect::<Vec<Value>>() }).to_string()
    };
    const ANSWERS: usize = 500;
    let answers: Vec<_> = (0..ANSWERS).map(|number| answer(number, false)).collect();
    let log = |answer: &String| {
        let text = serde_json::to_string(answer).expect("a text");
        format!("{{\"id\":\"a\",\"time\":1700000000000,\"model\":\"m\",\"response_format\":\"facts\",\"output\":{text}}}")
    };
    let logs = |broken: bool| (0..ANSWERS).map(|number| log(&answer(number, broken))).collect::<Vec<_>>();
    let (good, bad) = (logs(false), logs(true));
    let source = SchemaSource { name: "facts".into(), text: Some(SCHEMA.into()), ..SchemaSource::default() };
    let evaluators = Evaluators::new(vec![source], Vec::new()).expect("the schema compiles");
    fn read(logs: &[String]) -> Vec<CallLog<'_>> {
        logs.iter().map(|log| model::parse(log.as_bytes()).expect("a good log")).collect()
    }
    let (good, bad) = (read(&good), read(&bad));
    let judge = |calls: &[CallLog<'_>], valid: bool| {
        for call in calls {
            assert_eq!(black_box(evaluators.find(call)).schema_valid, Some(valid));
        }
    };
    // The three take turns, so that they meet the same machine.
    let mut seconds = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let mut turn = |at: usize, work: &dyn Fn()| {
            let began = Instant::now();
            (0..4).for_each(|_| work());
            seconds[at].push(began.elapsed().as_secs_f64() / (4 * ANSWERS) as f64);
        };
        turn(0, &|| answers.iter().for_each(|answer| drop(black_box(serde_json::from_str::<Value>(answer).expect("JSON")))));
        turn(1, &|| judge(&good, true));
        turn(2, &|| judge(&bad, false));
    }
    let [parse, valid, broken] = seconds.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    let bytes = answers.iter().map(String::len).sum::<usize>() as f64 / ANSWERS as f64;
    println!("answers of {bytes:.0} bytes, one thread, median of {rounds} rounds");
    for (what, seconds) in [("parsed alone", parse), ("judged, valid", valid), ("judged, with what they violate", broken)] {
        println!("{what:<32}{:>12.0} answers/s {:>8.0} MB/s {:>7.2} × parsing", 1.0 / seconds, bytes / seconds / 1e6, seconds / parse);
    }
    target("schema_validation_times_parsing", valid / parse, TIMES_PARSING_MAX, valid / parse <= TIMES_PARSING_MAX)
}
