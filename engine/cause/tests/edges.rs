//! What is said of calls and runs at the edges: none, one value, all bad, nothing bad before, weights, names for the same calls.

use cause::{Across, Calls, CallsError, Cell, Label, Period, Run, Runs, RunsError, Silence, Step, across, along};

const DIMENSIONS: [&str; 4] = ["provider", "model", "stage", "user_id"];

/// `calls` of which `bad`, spread over two stages and ten users.
fn add(of: &mut Calls, period: Period, provider: &str, model: &str, calls: u64, bad: u64) {
    add_weighted(of, period, provider, model, calls, bad, 1.0);
}

fn add_weighted(of: &mut Calls, period: Period, provider: &str, model: &str, calls: u64, bad: u64, weight: f64) {
    for part in 0..20 {
        let share = |all: u64| all / 20 + u64::from(part < all % 20);
        let user = format!("user-{}", part % 10);
        let labels = [provider, model, ["extraction", "synthesis"][(part / 10) as usize], &user];
        of.add(period, &labels, Cell { calls: share(calls), bad: share(bad), weight }).expect("good cells");
    }
}

fn calls(rows: &[(Period, &str, &str, u64, u64)]) -> Calls {
    let mut calls = Calls::new(DIMENSIONS).expect("four dimensions");
    rows.iter().for_each(|&(period, provider, model, all, bad)| add(&mut calls, period, provider, model, all, bad));
    calls
}

fn names(said: &Across) -> String {
    let name = |labels: &Vec<Label>| labels.iter().map(|label| format!("{}={}", label.dimension, label.value)).collect::<Vec<_>>().join("&");
    match &said.cause {
        Some(cause) if cause.same.is_empty() => name(&cause.labels),
        Some(cause) => format!("{} is {}", name(&cause.labels), cause.same.iter().map(name).collect::<Vec<_>>().join(" is ")),
        None => format!("{:?}", said.silence.expect("without a cause it says why")),
    }
}

use Period::{Now, Reference};

#[test]
fn without_calls_nothing_is_named() {
    assert_eq!(names(&across(&calls(&[]))), "NoReference");
    assert_eq!(names(&across(&calls(&[(Now, "acme", "x", 1_000, 100)]))), "NoReference");
    assert_eq!(names(&across(&calls(&[(Reference, "acme", "x", 1_000, 100)]))), "NoExcess");
    let none = Calls::new([]).expect("no dimensions are few enough");
    assert_eq!(names(&across(&none)), "NoReference");
}

#[test]
fn calls_without_any_dimension_have_no_cause() {
    let mut calls = Calls::new([]).expect("no dimensions are few enough");
    for (period, bad) in [(Now, 500), (Reference, 10)] {
        calls.add(period, &[], Cell { calls: 1_000, bad, weight: 1.0 }).expect("a good cell");
    }
    assert_eq!(names(&across(&calls)), "Fleet");
}

#[test]
fn the_only_value_there_is_explains_nothing() {
    assert_eq!(names(&across(&calls(&[(Now, "acme", "x", 10_000, 1_000), (Reference, "acme", "x", 10_000, 100)]))), "Fleet");
}

#[test]
fn a_value_where_bad_calls_rose_is_named_with_what_it_explains() {
    let said = across(&calls(&[
        (Reference, "acme", "x", 5_000, 20),
        (Reference, "acme", "y", 5_000, 20),
        (Reference, "bond", "z", 10_000, 40),
        (Now, "acme", "x", 5_000, 700),
        (Now, "acme", "y", 5_000, 720),
        (Now, "bond", "z", 10_000, 40),
    ]));
    assert_eq!(names(&said), "provider=acme");
    let cause = said.cause.expect("it is named");
    assert!(cause.share > 0.97 && cause.share <= 1.0, "{}", cause.share);
    assert_eq!((cause.calls, cause.bad, cause.rate, cause.rate_elsewhere), (10_000.0, 1_420.0, 0.142, 0.004));
    assert_eq!(cause.lines(), ["Most likely cause: provider acme (100 % of the excess; 14.2 % bad there, 0.4 % elsewhere)"]);
}

#[test]
fn a_value_that_is_all_bad_is_named_and_a_fleet_that_is_all_bad_is_not() {
    let usual = [(Reference, "acme", "x", 5_000, 20), (Reference, "bond", "z", 5_000, 20), (Reference, "bond", "y", 5_000, 20)];
    let one = [&usual[..], &[(Now, "acme", "x", 5_000, 5_000), (Now, "bond", "z", 5_000, 20), (Now, "bond", "y", 5_000, 20)]].concat();
    assert_eq!(names(&across(&calls(&one))), "provider=acme is model=x");
    let all = [&usual[..], &[(Now, "acme", "x", 5_000, 5_000), (Now, "bond", "z", 5_000, 5_000), (Now, "bond", "y", 5_000, 5_000)]].concat();
    assert_eq!(names(&across(&calls(&all))), "Fleet");
}

#[test]
fn a_value_is_named_where_nothing_was_bad_before() {
    let rows = [
        (Reference, "acme", "x", 5_000, 0),
        (Reference, "bond", "z", 5_000, 0),
        (Reference, "bond", "y", 5_000, 0),
        (Now, "acme", "x", 5_000, 300),
        (Now, "bond", "z", 5_000, 0),
        (Now, "bond", "y", 5_000, 0),
    ];
    assert_eq!(names(&across(&calls(&rows))), "provider=acme is model=x");
}

#[test]
fn a_value_that_was_always_bad_explains_nothing() {
    // Most bad calls are acme's, and bond is where they rose.
    let rows = [
        (Reference, "acme", "x", 5_000, 4_000),
        (Reference, "bond", "z", 5_000, 20),
        (Reference, "bond", "y", 5_000, 20),
        (Reference, "core", "w", 5_000, 20),
        (Now, "acme", "x", 5_000, 4_000),
        (Now, "bond", "z", 5_000, 400),
        (Now, "bond", "y", 5_000, 20),
        (Now, "core", "w", 5_000, 20),
    ];
    assert_eq!(names(&across(&calls(&rows))), "model=z");
}

#[test]
fn more_calls_of_a_bad_value_are_a_mix_and_no_cause() {
    let rows =
        [(Reference, "acme", "x", 2_000, 200), (Reference, "bond", "z", 8_000, 40), (Now, "acme", "x", 6_000, 600), (Now, "bond", "z", 4_000, 20)];
    let said = across(&calls(&rows));
    assert_eq!(names(&said), "Mix");
    assert!((said.excess.total - 380.0).abs() < 1.0 && said.excess.rate.abs() < 30.0, "{:?}", said.excess);
    assert!((said.excess.mix + said.excess.rate - said.excess.total).abs() < 1e-9);
}

#[test]
fn a_shift_of_the_fleet_by_factor_or_by_difference_has_no_cause() {
    let usual = [(Reference, "acme", "x", 20_000, 1_000), (Reference, "bond", "z", 20_000, 100), (Reference, "core", "w", 20_000, 20)];
    let times = [&usual[..], &[(Now, "acme", "x", 20_000, 3_000), (Now, "bond", "z", 20_000, 300), (Now, "core", "w", 20_000, 60)]].concat();
    assert_eq!(names(&across(&calls(&times))), "Fleet");
    let plus = [&usual[..], &[(Now, "acme", "x", 20_000, 2_000), (Now, "bond", "z", 20_000, 1_100), (Now, "core", "w", 20_000, 1_020)]].concat();
    assert_eq!(names(&across(&calls(&plus))), "Fleet");
}

#[test]
fn two_values_are_named_where_neither_alone_is_it() {
    let cells = |bad| {
        let mut rows = Vec::new();
        for (provider, model) in [("acme", "x"), ("acme", "y"), ("bond", "x"), ("bond", "y")] {
            rows.push((Reference, provider, model, 5_000, 20));
            rows.push((Now, provider, model, 5_000, if (provider, model) == ("acme", "x") { bad } else { 20 }));
        }
        rows
    };
    assert_eq!(names(&across(&calls(&cells(600)))), "model=x&provider=acme");
    assert_eq!(names(&across(&calls(&cells(30)))), "Fleet");
}

#[test]
fn a_value_that_was_not_there_before_is_new() {
    let rows = [
        (Reference, "bond", "z", 10_000, 40),
        (Reference, "bond", "y", 10_000, 40),
        (Now, "bond", "z", 10_000, 40),
        (Now, "bond", "y", 5_000, 20),
        (Now, "bond", "new", 5_000, 500),
    ];
    let said = across(&calls(&rows));
    assert_eq!(names(&said), "model=new");
    assert!(said.cause.is_some_and(|cause| cause.new));
}

#[test]
fn sampled_calls_speak_for_those_they_stand_for_and_are_no_more_evidence() {
    let sampled = |weight: f64, bad: u64| {
        let mut calls = Calls::new(DIMENSIONS).expect("four dimensions");
        for (period, provider, bad) in [(Reference, "acme", 20), (Reference, "bond", 20), (Now, "acme", bad), (Now, "bond", 20)] {
            add_weighted(&mut calls, period, provider, "x", 5_000, bad, weight);
        }
        across(&calls)
    };
    let (one, ten) = (sampled(1.0, 500).cause.expect("it is named"), sampled(8.0, 500).cause.expect("it is named"));
    assert_eq!((one.labels, one.evidence, one.rate), (ten.labels, ten.evidence, ten.rate));
    assert_eq!((one.bad * 8.0, one.calls * 8.0), (ten.bad, ten.calls));
    // 32 bad calls beside 20 are weak, and stay so when each stands for a thousand.
    assert_eq!((sampled(1.0, 32).cause, sampled(1_000.0, 32).cause), (None, None));
}

#[test]
fn calls_that_cannot_be_are_refused_with_the_way_out() {
    assert_eq!(Calls::new(["a", "a"]).expect_err("twice"), CallsError::Twice { name: "a".to_owned() });
    let names: Vec<String> = (0..33).map(|at| at.to_string()).collect();
    assert_eq!(Calls::new(names.iter().map(String::as_str)).expect_err("too many"), CallsError::TooManyDimensions { given: 33 });
    let mut calls = Calls::new(["a"]).expect("one dimension");
    assert_eq!(calls.add(Now, &[], Cell::call(true)), Err(CallsError::Labels { given: 0, expected: 1 }));
    assert_eq!(calls.add(Now, &["x"], Cell { calls: 1, bad: 2, weight: 1.0 }), Err(CallsError::Bad { bad: 2, calls: 1 }));
    for weight in [0.0, -1.0, f64::INFINITY] {
        let refused = calls.add(Now, &["x"], Cell { weight, ..Cell::call(true) }).expect_err("no weight");
        assert!(refused.to_string().contains("\nhint: "), "{refused}");
    }
}

/// Runs of extraction, retrieval, synthesis, of which the last is alerted, and a step after it.
fn runs(rows: &[(Period, u64, bool, [&[&str]; 4])]) -> Runs {
    let mut runs = Runs::new();
    for &(period, count, affected, bad) in rows {
        let steps: Vec<Step<'_>> =
            ["extraction", "retrieval", "synthesis", "orchestration"].iter().zip(bad).map(|(name, bad)| Step { name, by: "acme/x", bad }).collect();
        for _ in 0..count {
            runs.add(period, &Run { affected, weight: 1.0, stratum: 0, steps: &steps, alerted: 2 }).expect("good runs");
        }
    }
    runs
}

const WELL: [&[&str]; 4] = [&[], &[], &[], &[]];

#[test]
fn without_runs_or_without_an_unaffected_one_no_step_is_named() {
    assert_eq!(along(&Runs::new(), None).cause, None);
    assert_eq!(along(&runs(&[(Now, 500, true, [&["invalid_json"], &[], &[], &[]])]), None).cause, None);
}

#[test]
fn the_earliest_step_that_explains_is_named_and_not_what_it_broke() {
    let said = along(
        &runs(&[
            (Reference, 2_000, false, WELL),
            (Now, 800, false, WELL),
            (Now, 20, false, [&["invalid_json"], &[], &[], &[]]),
            (Now, 22, true, WELL),
            (Now, 8, true, [&["invalid_json"], &[], &[], &[]]),
            (Now, 70, true, [&["invalid_json"], &["empty"], &[], &["error"]]),
        ]),
        None,
    );
    let cause = said.cause.expect("it is named");
    assert_eq!((cause.step.as_str(), cause.signal.as_str(), cause.by.as_deref()), ("extraction", "invalid_json", None));
    assert_eq!(cause.line(), "Most likely cause: the step extraction before it: invalid_json in 78 % of affected runs, 2.4 % of others");
    assert!(cause.in_affected.low > 0.65 && cause.in_affected.high < 0.87);
}

#[test]
fn a_step_that_comes_after_is_never_a_cause() {
    let said = along(&runs(&[(Reference, 2_000, false, WELL), (Now, 900, false, WELL), (Now, 100, true, [&[], &[], &["error"], &["error"]])]), None);
    assert_eq!(said.cause, None);
    assert_eq!((said.runs, said.affected, said.excess), (1_000.0, 100.0, 100.0));
}

#[test]
fn a_step_that_is_bad_as_often_as_before_is_no_cause() {
    let slow: [&[&str]; 4] = [&[], &["slow"], &[], &[]];
    let said = along(
        &runs(&[
            (Reference, 500, false, WELL),
            (Reference, 500, false, slow),
            (Now, 450, false, WELL),
            (Now, 450, false, slow),
            (Now, 100, true, slow),
        ]),
        None,
    );
    assert_eq!(said.cause, None, "it is slow in all affected runs, and was in half of all before");
}

#[test]
fn runs_of_a_common_cause_are_compared_with_each_other() {
    // All of a stratum's steps are bad half the time, whatever the others did.
    let at = |stratum| {
        let mut runs = Runs::new();
        let mut add = |period, count: u64, affected, bad: &[&str], stratum| {
            let steps = [Step { name: "extraction", by: "", bad }, Step { name: "synthesis", by: "", bad: &[] }];
            (0..count).for_each(|_| runs.add(period, &Run { affected, weight: 1.0, stratum, steps: &steps, alerted: 1 }).expect("good runs"));
        };
        add(Reference, 2_000, false, &[], 0);
        add(Now, 2_000, false, &[], 0);
        for (affected, bad) in [(true, &["error"][..]), (true, &[]), (false, &["error"]), (false, &[])] {
            add(Now, 100, affected, bad, stratum);
        }
        along(&runs, None).cause.map(|cause| cause.step)
    };
    assert_eq!(at(1), None);
    assert_eq!(at(0).as_deref(), None, "half of the excess would remain if extraction had gone well, so even unstratified it is too little");
}

#[test]
fn runs_that_cannot_be_are_refused_with_the_way_out() {
    let run = Run { affected: true, weight: 1.0, stratum: 0, steps: &[], alerted: 0 };
    assert_eq!(Runs::new().add(Now, &Run { stratum: 16, ..run }), Err(RunsError::Stratum(16)));
    assert_eq!(Runs::new().add(Now, &Run { weight: 0.0, ..run }), Err(RunsError::Weight(0.0)));
}

#[test]
fn an_answer_is_json_with_its_reason() {
    let said = serde_json::to_value(across(&calls(&[(Now, "acme", "x", 10, 1)]))).expect("it serializes");
    assert_eq!(said["silence"], serde_json::json!("no_reference"));
    assert_eq!(across(&calls(&[])).silence, Some(Silence::NoReference));
}
