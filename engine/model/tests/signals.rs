//! The signals of hand-written logs, case by case: each line of the fixture names the case and says what every signal must be.

use streamgauge_model::call::ResponseFormat;
use streamgauge_model::signal::{Findings, Signal, has_text_answer, json_answer, signals};

const CASES: &str = include_str!("../../../fixtures/logs/signals.jsonl");

#[test]
fn every_awkward_case_has_the_signals_that_its_fixture_says() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for line in CASES.lines().filter(|line| !line.is_empty()) {
        let fixture: serde_json::Value = serde_json::from_str(line).expect("a fixture is JSON");
        let case = fixture["case"].as_str().expect("a fixture names its case");
        // From the line itself: a detour over a parsed value would lose lone surrogates and huge numbers.
        let log = streamgauge_model::wire::json::field(line, "log").expect("a fixture holds a log");
        let call = match streamgauge_model::parse(log.as_bytes()) {
            Ok(call) => call,
            Err(malformed) => {
                wrong.push(format!("{case}: malformed: {}", malformed.detail));
                continue;
            }
        };
        let judged = call.response_format != ResponseFormat::Text && has_text_answer(&call);
        let json = judged.then(|| json_answer(&call.output.text().unwrap_or_default(), false).0);
        let found = signals(&call, &Findings { json, ..Findings::default() });
        for (name, expected) in fixture["expect"].as_object().expect("a fixture says what to expect") {
            let signal = Signal::parse(name).expect("a fixture names known signals");
            // What needs a schema is found by the evaluators, whose own tests read the same cases.
            if signal == Signal::ToolArgumentsInvalid {
                continue;
            }
            let (applies, holds) = found.get(signal);
            let got = [u64::from(holds), u64::from(applies)];
            let want = [expected[0].as_u64(), expected[1].as_u64()];
            if want != got.map(Some) {
                wrong.push(format!("{case}: {name} is {got:?}, expected {expected}"));
            }
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= 40, "only {cases} cases");
}
