//! The detector against vectors that an independent implementation wrote (`vectors/make.py`, of the standard library alone; rates.json is the
//! prototype's): the same numbers within a relative 1e-9, and where Rust keeps sums in 32 bits, within 1e-5.

use machine::drift::alternative::{BAD_WHEN_UP, FACTORS, uniform};
use machine::drift::baseline::{Baseline, Expected, Reference, rate_learned};
use machine::drift::detector::{Detector, Recovery, Scale};
use machine::drift::dispersion::Dispersion;
use machine::drift::evidence::{Bets, Correlated, LN_ODDS, RateNull, RateTest, volume};
use machine::drift::logit;
use machine::drift::season::{Priors, Season};
use machine::drift::shape::{BINS, TILTS, Tilts};
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

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn close(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-300), "{what}: {got} is not {expected}");
}

/// A log that was summed up in 32 bits: an error of 1e-5 in it is a relative one of 1e-5 in the rate or the factor that it stands for.
fn close_log(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-5, "{what}: {got} is not {expected}");
}

/// A number that was summed up in 32 bits.
fn close_f32(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-5 * expected.abs(), "{what}: {got} is not {expected}");
}

/// Alarms and their ends, as a path goes: the next one that is expected is compared as it comes.
struct Events<'v>(std::slice::Iter<'v, Value>);

impl<'v> Events<'v> {
    fn next(&mut self, name: &str, at: u32) -> &'v Value {
        let event = self.0.next().unwrap_or_else(|| panic!("{name} at {at} is not expected"));
        assert_eq!((event[0].as_str(), event[1].as_u64()), (Some(name), Some(u64::from(at))), "{name}");
        &event[2]
    }

    fn fired(&mut self, at: u32, detector: &Detector) {
        let expected = self.next("fire", at);
        let firing = detector.firing().expect("it has just fired");
        assert_eq!(u64::from(firing.alternative), expected["alternative"].as_u64().expect("an alternative"));
        assert_eq!(firing.direction == Direction::Up, expected["up"].as_bool().expect("a direction"));
        assert_eq!((f64::from(firing.onset), f64::from(firing.since)), (number(&expected["onset"]), number(&expected["since"])));
        assert_eq!(
            (f64::from(firing.since_between.0), f64::from(firing.since_between.1)),
            (number(&expected["between"][0]), number(&expected["between"][1]))
        );
        close(firing.log_evidence, number(&expected["log_evidence"]), "the log evidence");
        close(firing.log_needed, number(&expected["log_needed"]), "the log of what was needed");
        close(firing.distance, number(&expected["distance"]), "the distance");
        close_f32(firing.n, number(&expected["n"]), "trials since it began");
        close_f32(firing.x, number(&expected["x"]), "events since it began");
    }

    fn over(mut self) {
        assert!(self.0.next().is_none(), "more was expected");
    }
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
                    assert_eq!((firing.onset, firing.direction), (number(&expected["onset"]) as u32, Direction::Up));
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
    let correlated = Correlated::new(RateNull { up: Some(base), down: Some(base), guard: number(&bb["se"]) }, rho);
    let mut detector = Detector::new(LN_ODDS.len());
    let mut trace = bb["trace"].as_array().expect("a trace").iter().peekable();
    for (at, (calls, failed)) in ticks.into_iter().enumerate().take(600) {
        if calls > 0 {
            let together = correlated.evidence(calls, failed);
            let llr = |k: usize| Some(together[k]).filter(|llr| !llr.is_nan()).map(|llr| (llr / phi).min(cap));
            detector.weigh(at as u32, &BAD_WHEN_UP, calls as f64, |_| failed as f64, llr);
        }
        if let Some(line) = trace.next_if(|line| number(&line[0]) as usize == at) {
            close(detector.evidence(), number(&line[1]), "the evidence");
        }
    }
}

#[test]
fn incidents_are_refined_and_end_as_in_the_reference() {
    for path in list(&vectors("resolve")["paths"]) {
        let (base, guard, rho, phi) = (number(&path["base"]), number(&path["guard"]), number(&path["rho"]), number(&path["phi"]));
        let null = RateNull { up: Some(base), down: Some(base), guard };
        let (test, correlated) = (RateTest::new(null), Correlated::new(null, rho));
        let mut detector = Detector::new(LN_ODDS.len());
        let (mut events, mut trace) = (Events(list(&path["events"]).iter()), list(&path["trace"]).iter().peekable());
        let ticks: Vec<(u64, u64)> = serde_json::from_value(path["ticks"].clone()).expect("pairs of counts");
        for (at, (calls, failed)) in ticks.into_iter().enumerate() {
            let (at, n, x) = (at as u32, calls as f64, failed as f64);
            detector.moved_to(at, n);
            let recovery = Recovery { scale: Scale::Odds, base, phi: phi * (1.0 + (n - 1.0) * rho), shape: f64::INFINITY };
            if detector.firing().is_some() {
                if detector.recover(n, x, &recovery) {
                    events.next("resolve", at);
                }
            } else {
                let together = correlated.evidence(calls, failed);
                let llr = |k: usize| if calls > 1 { Some(together[k]).filter(|llr| !llr.is_nan()) } else { test.binomial(k, n, x) };
                detector.weigh(at, &BAD_WHEN_UP, n, |_| x, |k| llr(k).map(|llr| llr / phi));
                detector.hold_threshold(at, if (300..400).contains(&at) { 25_920.0 } else { 8640.0 });
                if detector.evidence() >= detector.threshold(at, 8640.0) {
                    // What fires is measured with the dispersion between ticks: its calls are those of many.
                    detector.fire(at, &BAD_WHEN_UP, &LN_ODDS, &Recovery { phi, ..recovery });
                    events.fired(at, &detector);
                }
            }
            if let Some(line) = trace.next_if(|line| number(&line[0]) == f64::from(at)) {
                match detector.firing() {
                    // Whole calls, which 32 bits hold.
                    Some(firing) => assert_eq!((firing.n, firing.x), (number(&line[2][0]), number(&line[2][1])), "at {at}"),
                    None => close(detector.evidence(), number(&line[1]), "the evidence"),
                }
            }
        }
        events.over();
    }
}

#[test]
fn distributions_weigh_fire_and_resolve_as_in_the_reference() {
    let golden = vectors("histograms");
    let sets: Vec<_> = list(&golden["sets"])
        .iter()
        .map(|set| {
            let shares: [f64; BINS] = serde_json::from_value(set["shares"].clone()).expect("a share of each bin");
            let tilts = Tilts::new(&shares, number(&set["known"]), number(&set["errors"]));
            let expected = list(&set["tilts"]);
            assert_eq!(expected.len(), TILTS);
            for (k, expected) in expected.iter().enumerate() {
                let cost = number(&expected["cost"]);
                for b in 0..BINS {
                    let mut one = [0.0; BINS];
                    one[b] = 1.0;
                    let log = number(&expected["logs"][b]);
                    // A tilt may leave a bin as it is, up to rounding: then its own scale is that of the tilt.
                    let got = tilts.evidence(k, &one);
                    assert!((got - (log - cost)).abs() <= 1e-9 * log.abs().max(1e-3), "tilt {k}, bin {b}: {got} is not {log} - {cost}");
                }
                let (from, usual, distance) = tilts.edge(k);
                assert_eq!(from as f64, number(&expected["edge"][0]), "the edge of tilt {k}");
                close(usual, number(&expected["edge"][1]), "the usual share above the edge");
                close(distance, number(&expected["edge"][2]), "the distance of a tilt");
            }
            tilts
        })
        .collect();
    let path = &golden["path"];
    let (tilts, phi) = (&sets[number(&path["set"]) as usize], number(&path["phi"]));
    let mut detector = Detector::new(TILTS);
    let (mut events, mut trace) = (Events(list(&path["events"]).iter()), list(&path["trace"]).iter().peekable());
    let ticks: Vec<[f64; BINS]> = serde_json::from_value(path["ticks"].clone()).expect("counts of bins");
    for (at, counts) in ticks.iter().enumerate() {
        let (at, n) = (at as u32, counts.iter().sum());
        let above = |k: usize| counts[tilts.edge(k).0..].iter().sum::<f64>();
        let recovery = |k: usize| Recovery { scale: Scale::Odds, base: logit(tilts.edge(k).1), phi, shape: f64::INFINITY };
        detector.moved_to(at, n);
        if let Some(k) = detector.firing().map(|firing| usize::from(firing.alternative)) {
            if detector.recover(n, above(k), &recovery(k)) {
                events.next("resolve", at);
            }
        } else {
            let weights = uniform::<TILTS>();
            detector.weigh(at, &weights, n, above, |k| Some(tilts.evidence(k, counts) / phi));
            detector.hold_threshold(at, 8640.0);
            if detector.evidence() >= detector.threshold(at, 8640.0) {
                let (k, _) = detector.best().expect("something explains it");
                detector.fire(at, &weights, &tilts.distances(), &recovery(k));
                events.fired(at, &detector);
            }
        }
        if let Some(line) = trace.next_if(|line| number(&line[0]) == f64::from(at)) {
            assert_eq!(detector.firing().is_some(), line[2].as_bool().expect("whether it fires"), "at {at}");
            if detector.firing().is_none() {
                close(detector.evidence(), number(&line[1]), "the evidence");
            }
        }
    }
    events.over();
}

#[test]
fn volumes_weigh_fire_and_resolve_as_in_the_reference() {
    let golden = vectors("volumes");
    let shape_of = |value: &Value| value.as_f64().unwrap_or(f64::INFINITY);
    for line in list(&golden["grid"]) {
        let (shape, guard, expected, x) = (shape_of(&line[0]), number(&line[1]), number(&line[2]), number(&line[3]));
        for (k, llr) in list(&line[4]).iter().enumerate() {
            match (volume(k, x, expected, shape, guard), llr.as_f64()) {
                // Evidence is a difference: what is left of large terms has their rounding.
                (Some(got), Some(llr)) => {
                    let scale = llr.abs().max(1e-3 * (x + expected));
                    assert!((got - llr).abs() <= 1e-9 * scale, "{got} is not {llr}: {k}, {line}");
                }
                (got, llr) => assert_eq!(got, llr, "{k}, {line}"),
            }
        }
    }
    for path in list(&golden["paths"]) {
        let (shape, guard, phi) = (shape_of(&path["shape"]), number(&path["guard"]), number(&path["phi"]));
        let recovery = Recovery { scale: Scale::Factor, base: 0.0, phi, shape };
        let mut detector = Detector::new(FACTORS.len());
        let (mut events, mut trace) = (Events(list(&path["events"]).iter()), list(&path["trace"]).iter().peekable());
        let weights = uniform::<{ FACTORS.len() }>();
        for (at, tick) in list(&path["ticks"]).iter().enumerate() {
            let (at, expected, x) = (at as u32, number(&tick[0]), number(&tick[1]));
            detector.moved_to(at, expected);
            if detector.firing().is_some() {
                if detector.recover(expected, x, &recovery) {
                    events.next("resolve", at);
                }
            } else {
                detector.weigh(at, &weights, expected, |_| x, |k| volume(k, x, expected, shape, guard).map(|llr| llr / phi));
                detector.hold_threshold(at, 8640.0);
                if detector.evidence() >= detector.threshold(at, 8640.0) {
                    detector.fire(at, &weights, &FACTORS.map(f64::ln), &recovery);
                    events.fired(at, &detector);
                }
            }
            if let Some(line) = trace.next_if(|line| number(&line[0]) == f64::from(at)) {
                match detector.firing() {
                    // Expected counts are not whole, and are summed in 32 bits until it fires.
                    Some(firing) => {
                        close_f32(firing.n, number(&line[2][0]), "calls expected since it began");
                        assert_eq!(firing.x, number(&line[2][1]), "calls since it began");
                    }
                    None => close(detector.evidence(), number(&line[1]), "the evidence"),
                }
            }
        }
        events.over();
    }
}

#[test]
fn bets_on_weighted_scores_weigh_as_in_the_reference() {
    for set in list(&vectors("bets")["sets"]) {
        let mean = number(&set["mean"]);
        let bets = Bets::new(mean, number(&set["weight_max"]), number(&set["variance"]));
        for (k, stake) in list(&set["stakes"]).iter().enumerate() {
            // One score of 1 with weight 1 shows the stake.
            close(bets.evidence(k, &[(1.0, 1.0)]).exp_m1() / (1.0 - mean), number(stake), "a stake");
        }
        for tick in list(&set["ticks"]) {
            let scores: Vec<(f64, f64)> = serde_json::from_value(tick["scores"].clone()).expect("weights and scores");
            for (k, evidence) in list(&tick["evidence"]).iter().enumerate() {
                close(bets.evidence(k, &scores), number(evidence), "the evidence of scores");
            }
        }
    }
}

#[test]
fn seasons_are_learned_as_in_the_reference() {
    for set in list(&vectors("season")["sets"]) {
        let mut season = Season::new([Priors::RATE, Priors::CHILD, Priors::TRAFFIC][number(&set["kind"]) as usize]);
        let mut checks = list(&set["checks"]).iter().peekable();
        for (i, hour) in list(&set["added"]).iter().enumerate() {
            season.add(number(&hour[0]) as u32, number(&hour[1]), number(&hour[2]));
            while let Some(check) = checks.next_if(|check| number(&check[0]) == (i + 1) as f64) {
                let at = season.at(number(&check[1]));
                close_log(at.curve, number(&check[2]), "the curve");
                close_f32(at.variance, number(&check[3]), "its variance");
                close_f32(at.unseen, number(&check[4]), "what of it was not seen");
            }
        }
        assert!(checks.next().is_none());
    }
}

#[test]
fn baselines_learn_what_was_normal_as_in_the_reference() {
    for path in list(&vectors("baseline")["paths"]) {
        let flag = |value: &Value| number(value) != 0.0;
        let ticks = list(&path["ticks"]);
        let strength = flag(&path["parent"]).then(|| number(&path["strength"]));
        let priors = if strength.is_some() { Priors::CHILD } else { Priors::RATE };
        let mut baseline = Baseline::new(number(&ticks[0][0]) as u32, strength, flag(&path["seasonal"]).then_some(priors));
        let mut checks = list(&path["checks"]).iter().peekable();
        for (i, tick) in ticks.iter().enumerate() {
            let (at, n, x) = (number(&tick[0]) as u32, number(&tick[1]), number(&tick[2]));
            let of_reference = |what: &str| number(&path[&format!("reference_{what}")]);
            let above = |log| Reference {
                log,
                variance: of_reference("variance"),
                level: 0.0,
                season: of_reference("season"),
                unseen: of_reference("unseen"),
            };
            let parent = tick[5].as_f64().map(above);
            baseline.pass(at, flag(&tick[3]));
            let expected: Option<Expected> = baseline.expected(at, parent);
            if let Some(check) = checks.next_if(|check| number(&check[0]) == i as f64) {
                assert_eq!(expected.is_some(), check[1].is_array(), "whether it has learned, at {i}");
                if let Some(expected) = &expected {
                    close_log(expected.log, number(&check[1][0]), "the level");
                    close_f32(expected.variance, number(&check[1][1]), "its variance");
                }
            }
            match expected {
                Some(expected) => baseline.add(x, n * expected.log.exp(), &expected),
                None => {
                    let age = baseline.age(at);
                    let enough = |x, n| if flag(&path["whole_day"]) { x >= 20.0 && age >= 24 } else { rate_learned(x, n) };
                    baseline.learn(at, x, n, enough);
                }
            }
            if flag(&tick[4]) {
                baseline.taint();
            }
            if let Some(adopted) = list(&path["adopts"]).iter().find(|adopted| number(&adopted[0]) == i as f64) {
                baseline.adopt(number(&adopted[1]), number(&adopted[2]), &expected.expect("it has learned by then"));
            }
        }
        assert!(checks.next().is_none());
    }
}

#[test]
fn dispersion_is_measured_as_in_the_reference() {
    let is = |dispersion: &Dispersion, [correlation, phi, inflation]: [&Value; 3]| {
        let got = dispersion.excess();
        close_f32(got.correlation, number(correlation), "the correlation");
        close_f32(got.phi, number(phi), "the dispersion");
        close_f32(dispersion.inflation(), number(inflation), "the inflation");
    };
    for path in list(&vectors("dispersion")["paths"]) {
        let mut dispersion = Dispersion::default();
        if path["begun"].is_array() {
            let blocks: Vec<(u32, f64, f64)> = serde_json::from_value(path["begun"].clone()).expect("blocks");
            dispersion.begin(&blocks);
        }
        for hour in list(&path["hours"]) {
            let rows: Vec<(u32, f64, f64, f64, f64)> = serde_json::from_value(hour["rows"].clone()).expect("residuals");
            let mut checks = list(&hour["checks"]).iter().peekable();
            for (i, (at, residual, variance, pairs, uncertain)) in rows.into_iter().enumerate() {
                dispersion.add(at, residual, variance, pairs, uncertain);
                if let Some(check) = checks.next_if(|check| number(&check[0]) == (i + 1) as f64) {
                    is(&dispersion, [&check[1], &check[2], &check[3]]);
                }
            }
            assert!(checks.next().is_none());
            dispersion.close_hour(number(&hour["passed"]) as u32);
            is(&dispersion, [&hour["excess"][0], &hour["excess"][1], &hour["excess"][2]]);
        }
    }
}
