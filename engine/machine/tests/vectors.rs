//! The detector against vectors that an independent implementation wrote (`vectors/`): the same numbers within a relative 1e-9.

use machine::drift::alternative::BAD_WHEN_UP;
use machine::drift::detector::{Detector, Recovery, Scale};
use machine::drift::evidence::{LN_ODDS, RateNull, RateTest};
use model::window::Direction;
use serde_json::Value;
use streamgauge_machine as machine;

fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect("the vectors are JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-300), "{what}: {got} is not {expected}");
}

#[test]
fn rates_fire_and_resolve_as_in_the_reference() {
    let golden = vectors("rates");
    let ticks: Vec<(u64, u64)> = serde_json::from_value(golden["ticks"].clone()).expect("pairs of counts");
    let base = number(&golden["base_logit"]);
    let test = RateTest::new(RateNull { up: Some(base), down: Some(base), guard: number(&golden["se"]) });
    let recovery = Recovery { scale: Scale::Odds, base, phi: 1.0, shape: f64::INFINITY };
    let mut detector = Detector::new(LN_ODDS.len());
    let (mut events, mut trace) = (Vec::new(), golden["trace"].as_array().expect("a trace").iter().peekable());
    for (at, (calls, failed)) in ticks.into_iter().enumerate() {
        let at = at as u32;
        let (n, x) = (calls as f64, failed as f64);
        if calls > 0 {
            detector.moved_to(at, n);
            if detector.firing().is_some() {
                if detector.recover(n, x, &recovery) {
                    events.push(("resolve", at));
                }
            } else {
                detector.weigh(at, &BAD_WHEN_UP, n, |_| x, |k| test.binomial(k, n, x));
                if detector.evidence() >= detector.threshold(at, 8640.0) {
                    detector.fire(at, &BAD_WHEN_UP, &LN_ODDS, &recovery);
                    let (firing, expected) = (detector.firing().expect("it has just fired"), &golden["events"][0][1]);
                    assert_eq!((firing.since, firing.direction), (number(&expected["onset"]) as u32, Direction::Up));
                    close(firing.n, number(&expected["n"]), "calls since it began");
                    close(firing.x / firing.n, number(&expected["p_now"]), "the rate since it began");
                    close(firing.log_evidence, number(&expected["log_evidence"]), "the log evidence");
                    events.push(("fire", at));
                }
            }
        }
        if let Some(line) = trace.next_if(|line| number(&line[0]) as u32 == at) {
            // The reference keeps what it had when it fired, until it weighs again.
            if detector.firing().is_none() && detector.evidence() > 0.0 {
                close(detector.evidence(), number(&line[1]), "the evidence");
            }
            assert_eq!(detector.firing().is_some(), line[2].as_bool().expect("firing"), "at {at}");
            close(detector.threshold(at, 8640.0), number(&line[3]), "the threshold");
        }
    }
    let expected: Vec<_> =
        golden["events"].as_array().expect("events").iter().map(|e| (e[0].as_str().expect("a name"), number(&e[1]["t"]) as u32)).collect();
    assert_eq!(events, expected);
    assert!(trace.next().is_none());
}

#[test]
fn correlated_calls_weigh_as_in_the_reference() {
    let golden = vectors("rates");
    let ticks: Vec<(u64, u64)> = serde_json::from_value(golden["ticks"].clone()).expect("pairs of counts");
    let (base, bb) = (number(&golden["base_logit"]), &golden["bb"]);
    let (rho, phi, cap) = (number(&bb["rho"]), number(&bb["phi"]), number(&bb["cap"]));
    let test = RateTest::new(RateNull { up: Some(base), down: Some(base), guard: number(&bb["se"]) });
    let mut detector = Detector::new(LN_ODDS.len());
    let mut trace = bb["trace"].as_array().expect("a trace").iter().peekable();
    for (at, (calls, failed)) in ticks.into_iter().enumerate().take(600) {
        if calls > 0 {
            let llr = |k| test.beta_binomial(k, calls, failed, rho).map(|llr| (llr / phi).min(cap));
            detector.weigh(at as u32, &BAD_WHEN_UP, calls as f64, |_| failed as f64, llr);
        }
        if let Some(line) = trace.next_if(|line| number(&line[0]) as usize == at) {
            close(detector.evidence(), number(&line[1]), "the evidence");
        }
    }
}
