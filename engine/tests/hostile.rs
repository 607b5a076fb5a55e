//! Hostile rules beside a good one, in the engine without its edges: every call is counted, the good rule's sums and alerts are to the byte those of an
//! engine without the others, and each of the others is reported as failing, suspended, and back once it is well.

use bytes::Bytes;
use fixtures::Traffic;
use machine::{Input, Ledger, Notification};
use model::plan::{Plan, Windows};
use model::{Cell, FalseAlarms, Fold, Labels, Span, Timestamp};
use rules::{Configured, Source};
use std::collections::BTreeMap;
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
    /// What every other rule counted, by batch, grouping, tick, slice and group.
    sums: BTreeMap<(usize, String, Timestamp, Timestamp, Labels), Cell>,
    ledger: Ledger,
    /// Rules that are suspended at the end, with what of them is.
    suspended: Vec<(String, &'static str)>,
    took: Duration,
}

fn inspector(texts: &[String]) -> Arc<Inspector> {
    let source = |(at, text): (usize, &String)| Source { path: format!("{at}.rhai").into(), text: text.clone() };
    let loaded = rules::load(&texts.iter().enumerate().map(source).collect::<Vec<_>>(), &Configured::default());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let plan = Plan::new(Windows::default(), FalseAlarms::default(), loaded.rules.specs());
    let evaluators = evaluators::Evaluators::new(Vec::new(), Vec::new()).expect("nothing to refuse");
    Arc::new(Inspector::new(plan, loaded.rules, evaluators))
}

fn run(texts: &[String]) -> Ran {
    let inspector = inspector(texts);
    let traffic = Traffic { seed: SEED, calls_per_second: 20.0, ..Traffic::default() };
    let envelope = |(call, sequence): (fixtures::Generated, u64)| {
        let stamp = Timestamp::from_millis(call.time_ms).expect("generated times are in range");
        Envelope { sequence, stamp, payload: Bytes::from(call.json) }
    };
    let envelopes: Vec<_> = traffic.calls().take(CALLS).zip(1u64..).map(envelope).collect();
    let (mut replay, mut told, mut sums) = (Replay::new(inspector.clone()), Vec::new(), BTreeMap::new());
    let began = Instant::now();
    for (at, batch) in envelopes.chunks(BATCH).enumerate() {
        let fold = replay.fold(batch).fold;
        add(&mut sums, at, &inspector.plan, &fold);
        replay.apply(Input::Folded(fold), &mut told);
    }
    let took = began.elapsed();
    let machine = replay.machine();
    let suspended = machine.suspended().map(|it| (machine.plan().rules[it.rule].name.clone(), it.of.name())).collect();
    let told: Vec<&Notification> = told.iter().filter(|told| told.rule == "good").collect();
    assert!(!told.is_empty(), "seed {SEED}: the good rule fires");
    Ran { told: serde_json::to_string_pretty(&told).expect("notifications can be written"), sums, ledger: machine.ledger().clone(), suspended, took }
}

fn add(sums: &mut BTreeMap<(usize, String, Timestamp, Timestamp, Labels), Cell>, at: usize, plan: &Plan, fold: &Fold) {
    for tick in fold.environments.iter().flat_map(|environment| &environment.ticks) {
        for cell in &tick.cells {
            let identity = plan.groupings[usize::from(cell.grouping)].identity();
            sums.insert((at, identity, tick.tick, cell.slice, cell.labels.clone()), cell.cell.clone());
        }
    }
}

#[test]
fn five_hostile_rules_change_nothing_for_a_good_one() {
    let alone = run(&[GOOD.to_owned()]);
    let texts: Vec<_> = HOSTILE.into_iter().map(hostile).chain([GOOD.to_owned()]).collect();
    let beside = run(&texts);

    assert_eq!(beside.told, alone.told, "seed {SEED}");
    assert!(beside.sums == alone.sums, "seed {SEED}: the others count otherwise");
    let ledger = &beside.ledger;
    assert_eq!((ledger.received, ledger.counted, ledger.malformed(), ledger.balances()), (CALLS as u64, CALLS as u64, 0, true));
    assert_eq!((ledger.in_window, ledger.late, ledger.overflowed), (alone.ledger.in_window, alone.ledger.late, alone.ledger.overflowed));
    for (name, function, _) in HOSTILE {
        let (failing, other) =
            if function == "check" { (&ledger.check_failures, &ledger.script_failures) } else { (&ledger.script_failures, &ledger.check_failures) };
        assert!(failing.get(name).is_some_and(|failures| *failures > 0) && !other.contains_key(name), "{name}: {ledger:?}");
    }
    let suspended: Vec<_> = HOSTILE.iter().map(|(name, function, _)| (*name, if *function == "check" { "check" } else { "call" })).collect();
    let mut found: Vec<_> = beside.suspended.iter().map(|(name, on)| (name.as_str(), *on)).collect();
    found.sort_by_key(|(name, _)| suspended.iter().position(|(known, _)| known == name));
    assert_eq!(found, suspended);
    assert!(!ledger.script_failures.contains_key("good") && !ledger.check_failures.contains_key("good"), "{ledger:?}");
    let failed: u64 = ledger.script_failures.values().chain(ledger.check_failures.values()).sum();
    eprintln!("seed {SEED}: {CALLS} calls in {:?} alone, {:?} beside {failed} failures", alone.took, beside.took);
    // Within their budgets the worst of these takes some tens of milliseconds a time; a second means that a budget no longer holds.
    assert!(beside.took < alone.took + Duration::from_millis(200) * u32::try_from(failed).expect("few"), "{:?}", beside.took);
}

/// A script that loops until a time of the calls: it is suspended, found bad by a probe, and back after the next.
#[test]
fn a_script_that_heals_is_tried_again_and_then_counts_every_call() {
    const START_MS: i64 = 1_700_000_000_000;
    let text = format!(
        r#"rule(#{{ name: "heals", watch: rate("own", "1m").expect(0.0, 0.1) }});
        fn signals(log) {{ if log.time < {bad_until} {{ loop {{ }} }} #{{ own: true }} }}"#,
        bad_until = START_MS + 100_000
    );
    let inspector = inspector(&[text, GOOD.to_owned()]);
    let (mut replay, mut told, mut suspended) = (Replay::new(inspector.clone()), Vec::new(), Vec::new());
    for batch in 0..3_000_u64 {
        // Ten batches a second, of ten calls each.
        let at = |call: u64| START_MS + i64::try_from(batch * 100 + call * 10).expect("small");
        let log = |call| format!(r#"{{"id":"{batch}-{call}","time":{},"model":"m"}}"#, at(call));
        let stamp = |call| Timestamp::from_millis(at(call)).expect("in range");
        let envelope = |call| Envelope { sequence: batch * 10 + call + 1, stamp: stamp(call), payload: Bytes::from(log(call)) };
        let envelopes: Vec<_> = (0..10).map(envelope).collect();
        replay.apply(Input::Folded(replay.fold(&envelopes).fold), &mut told);
        suspended.extend(replay.machine().suspended());
        suspended.dedup();
    }
    let start = Timestamp::from_millis(START_MS).expect("in range");
    let until: Vec<_> = suspended.iter().map(|it| (it.until.since(start), it.length)).collect();
    let seconds = Span::from_secs;
    assert_eq!(until, [(seconds(70), seconds(60)), (seconds(200), seconds(120))], "bad at once, and at 70 s; well at 200 s");
    let fired: Vec<_> = told.iter().filter(|told| told.rule == "heals").map(|told| told.at.since(start)).collect();
    assert_eq!(fired, [seconds(220)], "from 210 s on it sees every call");
    assert_eq!(replay.machine().ledger().script_failures["heals"], 9, "eight, and one probe");
}
