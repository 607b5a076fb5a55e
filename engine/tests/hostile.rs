//! Five hostile rules beside a good one, in the engine without its edges: every call is counted, the good rule's alerts are to the byte those of an
//! engine without the others, and each of the others is reported as failing.

use bytes::Bytes;
use fixtures::Traffic;
use machine::{Input, Ledger, Notification};
use model::plan::{Plan, Windows};
use model::{FalseAlarms, Timestamp};
use rules::{Constants, Source};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge::inspect::Inspector;
use streamgauge::replay::Replay;
use streamgauge::source::Envelope;

const SEED: u64 = 5;
const CALLS: usize = 4_000;
const BATCH: usize = 512;

const GOOD: &str = r#"
    rule(#{ name: "good", watch: #{ calls: volume("1m"), slow: quantile("latency_ms", 0.9, "1m"), short: rate("short", "1m") }, group_by: ["stage"] });
    fn signals(log) { #{ short: log.output != () && log.output.len() < 100 } }
    fn check(w) { if w.slow.value != () && w.slow.value > 1000 && w.calls.value > 50 { fire(`${ms(w.slow.value)} and ${percent(w.short.value)} short`) } }
"#;

/// Name, which function is hostile, and its statements.
const HOSTILE: [(&str, &str, &str); 5] = [
    ("bad-loop", "check", "loop { }"),
    ("bad-recursion", "applies", "deeper(0);"),
    ("bad-map", "applies", "let s = \"\"; s.pad(200000, 'x'); let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = s + i; }"),
    ("bad-pattern", "check", "let s = \"\"; s.pad(100000, 'a'); s += \"!\"; loop { s.matches(\"(a+)+$\"); }"),
    ("bad-text", "applies", "loop { print(\"x\"); }"),
];

fn hostile((name, function, statements): (&str, &str, &str)) -> String {
    // One model of some forty: what a hostile rule costs follows from how many calls are its own.
    let argument = if function == "check" { "w" } else { "log" };
    format!(
        r#"rule(#{{ name: "{name}", watch: volume("1m").expect(0, 1), applies: #{{ model: "gpt-4o-mini" }} }});
        fn deeper(n) {{ deeper(n + 1) }}
        fn {function}({argument}) {{ {statements} true }}"#
    )
}

struct Ran {
    /// Of the good rule, as JSON.
    told: String,
    ledger: Ledger,
    took: Duration,
}

fn run(texts: &[String]) -> Ran {
    let source = |(at, text): (usize, &String)| Source { path: format!("{at}.rhai").into(), text: text.clone() };
    let loaded = rules::load(&texts.iter().enumerate().map(source).collect::<Vec<_>>(), &Constants::new());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let plan = Plan::new(Windows::default(), FalseAlarms::default(), loaded.rules.specs());
    let evaluators = evaluators::Evaluators::new(Vec::new(), Vec::new()).expect("nothing to refuse");
    let inspector = Arc::new(Inspector { plan, rules: loaded.rules, evaluators });
    let traffic = Traffic { seed: SEED, calls_per_second: 20.0, ..Traffic::default() };
    let envelope = |(call, sequence): (fixtures::Generated, u64)| {
        let stamp = Timestamp::from_millis(call.time_ms).expect("generated times are in range");
        Envelope { sequence, stamp, payload: Bytes::from(call.json) }
    };
    let envelopes: Vec<_> = traffic.calls().take(CALLS).zip(1u64..).map(envelope).collect();
    let (mut replay, mut told) = (Replay::new(inspector.clone()), Vec::new());
    let began = Instant::now();
    for batch in envelopes.chunks(BATCH) {
        replay.apply(Input::Folded(inspector.fold(batch).fold), &mut told);
    }
    let took = began.elapsed();
    let told: Vec<&Notification> = told.iter().filter(|told| told.rule == "good").collect();
    assert!(!told.is_empty(), "seed {SEED}: the good rule fires");
    Ran { told: serde_json::to_string_pretty(&told).expect("notifications can be written"), ledger: replay.machine().ledger().clone(), took }
}

#[test]
fn five_hostile_rules_change_nothing_for_a_good_one() {
    let alone = run(&[GOOD.to_owned()]);
    let texts: Vec<_> = HOSTILE.into_iter().map(hostile).chain([GOOD.to_owned()]).collect();
    let beside = run(&texts);

    assert_eq!(beside.told, alone.told, "seed {SEED}");
    let ledger = &beside.ledger;
    assert_eq!((ledger.received, ledger.counted, ledger.malformed(), ledger.balances()), (CALLS as u64, CALLS as u64, 0, true));
    assert_eq!((ledger.in_window, ledger.late, ledger.overflowed), (alone.ledger.in_window, alone.ledger.late, alone.ledger.overflowed));
    for (name, function, _) in HOSTILE {
        let (failing, other) =
            if function == "check" { (&ledger.check_failures, &ledger.script_failures) } else { (&ledger.script_failures, &ledger.check_failures) };
        assert!(failing.get(name).is_some_and(|failures| *failures > 0) && !other.contains_key(name), "{name}: {ledger:?}");
    }
    assert!(!ledger.script_failures.contains_key("good") && !ledger.check_failures.contains_key("good"), "{ledger:?}");
    let failed: u64 = ledger.script_failures.values().chain(ledger.check_failures.values()).sum();
    eprintln!("seed {SEED}: {CALLS} calls in {:?} alone, {:?} beside {failed} failures", alone.took, beside.took);
    // Within their budgets the worst of these takes some tens of milliseconds a time; a second means that a budget no longer holds.
    assert!(beside.took < alone.took + Duration::from_millis(200) * u32::try_from(failed).expect("few"), "{:?}", beside.took);
}
