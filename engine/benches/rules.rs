//! What rules cost: per call, by how many there are and whether they apply; per `check`; and what hostile scripts take from everyone else.
//!
//! `deploy/bench-rules` runs it. Everything is on one thread and in its CPU time, through the same `Inspector` and `Replay` as in production; the
//! configurations of a table take turns within each round, so that all of them meet the same machine. Figures are medians of the rounds, with the
//! smallest and the greatest. `-- --write FOLDER` measures nothing and writes the calls and incidents of a back-test, with `--seed N` of another week.

#![expect(clippy::print_stdout, reason = "a benchmark's answer")]

#[path = "rules/week.rs"]
mod week;

use bytes::Bytes;
use fixtures::Traffic;
use machine::{Input, Notification};
use model::fold::Fold;
use model::plan::{Plan, Range, Windows};
use model::window::{Checked, GroupView, Observation};
use model::{FalseAlarms, Timestamp};
use rules::{Configured, RuleSet, Source};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use streamgauge::inspect::Inspector;
use streamgauge::replay::Replay;
use streamgauge::source::{BATCH_MAX, Envelope};
use streamgauge::suspensions::Suspensions;
use week::{TENANTS, Week};

const SEED: u64 = 1;
/// Of the hostile scripts, those of the short run: one that only counts, and those that do the most in one operation.
const WORST: [&str; 3] = ["counting without end", "regex bomb", "long texts made over and over"];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--test") {
        println!("run deploy/bench-rules");
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let after = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    if let Some(folder) = after("--write") {
        let seed = after("--seed").and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
        let week = Week::new(quick, seed);
        let bytes = week.write(Path::new(folder)).expect("the folder can be written to");
        println!("{} calls, {:.1} MB, seed {seed}, in {folder}", week.calls, bytes as f64 / 1e6);
        return;
    }
    let (calls, rounds) = if quick { (20_000, 5) } else { (100_000, 9) };
    println!("seed {SEED}, {TENANTS} tenants, {rounds} rounds, CPU time of one thread");
    let short = short(calls);
    let mut passed = true;
    for (name, envelopes) in [("short", &short), ("long", &long(calls))] {
        passed &= per_call(name, envelopes, rounds, name == "short");
    }
    per_check(if quick { 5_000 } else { 50_000 }, rounds);
    passed &= hostile(quick);
    std::process::exit(i32::from(!passed));
}

/// Short calls, with their tenants.
fn short(calls: usize) -> Vec<Envelope> {
    let logs = Week::new(true, SEED).logs().take(calls);
    logs.zip(1u64..).map(|((time, log), sequence)| envelope(sequence, time, log.into_bytes())).collect()
}

/// Calls of about 1.8 KB, as services log them, each given a tenant.
fn long(calls: usize) -> Vec<Envelope> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let traffic = Traffic { seed: SEED, padding: Some(1785), variants: 5, calls_per_second: 5000.0, ..Traffic::default() };
    let with_tenant = |json: Vec<u8>, tenant: u32| [format!("{{\"tenant\":\"t{tenant}\",").as_bytes(), &json[1..]].concat();
    traffic.calls().take(calls).zip(1u64..).map(|(call, at)| envelope(at, call.time_ms, with_tenant(call.json, rng.u32(..TENANTS)))).collect()
}

fn envelope(sequence: u64, time_ms: i64, log: Vec<u8>) -> Envelope {
    Envelope { sequence, stamp: Timestamp::from_millis(time_ms).expect("generated times are in range"), payload: Bytes::from(log) }
}

fn loaded(texts: &[String]) -> RuleSet {
    let source = |(at, text): (usize, &String)| Source { path: format!("{at}.rhai").into(), text: text.clone() };
    let sources: Vec<_> = texts.iter().enumerate().map(source).collect();
    let loaded = rules::load(&sources, &Configured::default());
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.rules
}

fn inspector(rules: RuleSet) -> Inspector {
    let plan = Plan::new(Windows::default(), FalseAlarms::default(), rules.specs());
    let evaluators = evaluators::Evaluators::new(Vec::new(), Vec::new()).expect("nothing to refuse");
    Inspector::new(plan, rules, evaluators)
}

/// So many rules, each made from its number.
fn rules_of(count: usize, text: impl Fn(usize) -> String) -> Inspector {
    inspector(loaded(&(0..count).map(text).collect::<Vec<_>>()))
}

/// Of one tenant's calls, by keys that nothing else counts by.
fn data(at: usize) -> String {
    format!(r#"rule(#{{ name: "data-{at}", watch: rate("error", "5m"), applies: #{{ tenant: "t{at}" }}, group_by: ["stage", "tenant"] }});"#)
}

/// Of whole runs: every call goes to its run.
fn runs(at: usize) -> String {
    format!(r#"rule(#{{ name: "runs-{at}", watch: quantile("run_latency_ms", 0.95, "5m"), group_by: ["service"] }});"#)
}

fn script(name: &str, filter: &str) -> String {
    format!(
        r#"rule(#{{ name: "{name}", watch: rate("short", "5m"), {filter} group_by: ["stage"] }});
        fn signals(log) {{ if log.output == () {{ return #{{}}; }} #{{ short: log.output.len() < 20 }} }}"#
    )
}

fn per_call(name: &str, envelopes: &[Envelope], rounds: usize, judged: bool) -> bool {
    let of = |tenant: &str| format!("applies: #{{ tenant: \"{tenant}\" }},");
    let filtered = |at: usize| script(&format!("filtered-{at}"), &of(&format!("t{at}")));
    let elsewhere = |at: usize| script(&format!("elsewhere-{at}"), &of(&format!("nobody-{at}")));
    let every = |at: usize| script(&format!("every-{at}"), "");
    let loads = [
        ("no rules", 0, inspector(RuleSet::default())),
        ("data, for one tenant each", 1, rules_of(1, data)),
        ("data, for one tenant each", 10, rules_of(10, data)),
        ("data, for one tenant each", 100, rules_of(100, data)),
        ("scripts, for one tenant each", 1, rules_of(1, filtered)),
        ("scripts, for one tenant each", 10, rules_of(10, filtered)),
        ("scripts, for one tenant each", 100, rules_of(100, filtered)),
        ("scripts, for tenants without calls", 100, rules_of(100, elsewhere)),
        ("scripts, for every call", 1, rules_of(1, every)),
        ("scripts, for every call", 10, rules_of(10, every)),
        ("data, for every run", 1, rules_of(1, runs)),
    ];
    let rounds = turns(rounds, loads.len(), |which| {
        for batch in envelopes.chunks(BATCH_MAX) {
            std::hint::black_box(loads[which].2.fold(batch, &Suspensions::default()));
        }
    });
    let bytes = envelopes.iter().map(|envelope| envelope.payload.len()).sum::<usize>() / envelopes.len();
    let each = |which: usize| spread(rounds.iter().map(|round| round[which] / envelopes.len() as f64 * 1e9));
    let ratio = |which: usize, to: usize| spread(rounds.iter().map(|round| round[which] / round[to]));
    println!("\n{name} calls: {} of {bytes} bytes on average, read, judged and folded in batches of {BATCH_MAX}", envelopes.len());
    println!("{:<36} {:>6} {:>9} {:>17} {:>14} {:>24}", "rules", "number", "ns/call", "", "over no rules", "ratio to no rules");
    for (which, (what, number, _)) in loads.iter().enumerate() {
        let ([least, median, most], [low, middle, high]) = (each(which), ratio(which, 0));
        let over = median - each(0)[1];
        println!(
            "{what:<36} {number:>6} {median:>9.0} {:>17} {over:>14.0} {:>24}",
            format!("({least:.0} … {most:.0})"),
            format!("{middle:.2} ({low:.2} … {high:.2})")
        );
    }
    println!("one script on one call: {:.0} ns", (each(9)[1] - each(8)[1]) / 9.0);
    if !judged {
        return true;
    }
    // One rule has one call in a hundred and a hundred rules have all of them, each to be counted in a group of its own besides the base group.
    let hundred = ratio(3, 1)[1];
    let passed = target("100-rules-with-filters", hundred, 3.0, hundred < 3.0);
    let idle = ratio(7, 0)[1];
    target("100-scripts-that-do-not-apply", idle, 1.25, idle < 1.25) && passed
}

/// One check of a typical rule: three watches, two conditions, and a message where it fires.
fn per_check(checks: usize, rounds: usize) {
    let text = r#"
        rule(#{ name: "quality", watch: #{ bad: rate("invalid_json", "5m").expect(0.0, 0.02), errors: rate("error", "5m"),
            slow: quantile("latency_ms", 0.95, "10m") }, group_by: ["stage", "model"] });
        const SLOW_MS = 8000;
        fn check(w) {
            if w.bad.drifted == "up" && w.errors.value < 0.2 {
                fire(`${percent(w.bad.value)} of answers are not JSON; expected at most ${percent(w.bad.expected.high)}`)
            } else if w.slow.value > SLOW_MS {
                fire(#{ summary: `p95 is ${ms(w.slow.value)} on ${w.group.model}`, severity: "warning" })
            }
        }"#;
    let rules = loaded(&[text.to_owned()]);
    let seen = |value: f64| Observation {
        value: Some(value),
        holds: 7,
        calls: 420,
        low: value * 0.8,
        high: value * 1.2,
        expected: Some(Range { low: 0.0, high: 0.02 }),
        ..Observation::default()
    };
    let view = |slow: f64| GroupView {
        environment: "production".into(),
        at: Timestamp::EPOCH,
        labels: vec!["extraction".into(), "gpt-4o-mini".into()],
        observations: vec![seen(0.01), seen(0.004), seen(slow)],
    };
    let views = [("quiet", view(900.0)), ("fires", view(9000.0))];
    assert!(rules.check(0, &views[0].1) == Checked::Quiet && matches!(rules.check(0, &views[1].1), Checked::Fire(_)));
    let rounds = turns(rounds, views.len(), |which| {
        for _ in 0..checks {
            std::hint::black_box(rules.check(0, &views[which].1));
        }
    });
    println!("\n{checks} checks of one group and tick by a typical function, µs each");
    for (which, (what, _)) in views.iter().enumerate() {
        let [least, median, most] = spread(rounds.iter().map(|round| round[which] / checks as f64 * 1e6));
        println!("{what:<36} {median:>16.2} {:>17}", format!("({least:.2} … {most:.2})"));
    }
}

/// Scripts that try to take more than their share: what each is, and its statements.
const HOSTILE: [(&str, &str); 13] = [
    ("empty loop without end", "loop { }"),
    ("counting without end", "let i = 0; loop { i += 1; }"),
    ("deep recursion", "deeper(0);"),
    ("text that doubles", "let s = \"ab\"; loop { s += s; }"),
    ("array that doubles", "let a = [0]; loop { a += a; }"),
    ("map that grows", "let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = i; }"),
    ("map of long texts", "let s = \"\"; s.pad(200000, 'x'); let m = #{}; let i = 0; loop { i += 1; m[`k${i}`] = s + i; }"),
    ("print flood", "loop { print(\"x\"); }"),
    ("regex bomb", "let s = \"\"; s.pad(100000, 'a'); s += \"!\"; loop { s.matches(\"(a+)+$\"); }"),
    ("long texts made over and over", "let s = \"\"; s.pad(260000, 'x'); loop { let t = s + \"y\"; }"),
    ("eval", "eval(\"1\");"),
    ("sleep", "sleep(1);"),
    ("import", "import \"x\" as y;"),
];

/// What everyone else's rules do: the shipped ones, and some that fire.
fn others() -> Vec<String> {
    let mut texts: Vec<_> = rules::library(&["basics".to_owned()]).expect("the pack is shipped").into_iter().map(|source| source.text).collect();
    texts.push("rule(#{ name: \"busy\", watch: volume(\"1m\").expect(0, 10), group_by: [\"stage\"] });".to_owned());
    texts.push(script("every", ""));
    texts.push("rule(#{ name: \"said\", watch: rate(\"error\", \"1m\"), group_by: [\"provider\"] }); fn check(w) { if w.value.bad > 0 { fire(`${w.value.bad}`) } }".to_owned());
    texts
}

/// The other rules and, where it gives a rule, a hostile one; its name comes last, so that the others keep their places.
fn beside(head: &str, functions: &str) -> Option<Arc<Inspector>> {
    let text = format!("rule(#{{ name: \"zz-hostile\", watch: volume(\"1m\").expect(0, 1), {head} }}); fn deeper(n) {{ deeper(n + 1) }} {functions}");
    let hostile = Source { path: "zz.rhai".into(), text };
    if !rules::load(std::slice::from_ref(&hostile), &Configured::default()).problems.is_empty() {
        return None;
    }
    let sources: Vec<_> = others().into_iter().map(|text| Source { path: "other.rhai".into(), text }).chain([hostile]).collect();
    Some(Arc::new(inspector(rules::load(&sources, &Configured::default()).rules)))
}

/// Calls per second of event time; at such a rate a script that is bad on 1 % of the calls is bad a hundred times a second.
const PER_SECOND: usize = 10_000;
/// Batches that are folded before the first of them is applied, as in the daemon.
const AHEAD: usize = 4;

/// One engine in a run that several share: what it cost, and what everyone but the hostile rule was told.
struct Beside {
    name: &'static str,
    on: &'static str,
    replay: Replay,
    seconds: f64,
    /// Of the tenth of the run that cost the most.
    worst: f64,
    told: Vec<Notification>,
    unchanged: bool,
}

/// Short calls at an even rate: a few logs over and over, with their times written anew.
struct Stream {
    logs: Vec<String>,
    start_ms: i64,
    sequence: u64,
}

impl Stream {
    fn new() -> Self {
        let week: Vec<_> = Week::new(true, SEED).logs().take(10 * BATCH_MAX).collect();
        let start_ms = week[0].0 / 10_000 * 10_000;
        let untimed = |(time, log): (i64, String)| log.replacen(&time.to_string(), "{time}", 1);
        Self { logs: week.into_iter().map(untimed).collect(), start_ms, sequence: 0 }
    }

    fn batch(&mut self) -> Vec<Envelope> {
        let mut one = || {
            self.sequence += 1;
            let at = self.start_ms + (self.sequence as usize * 1_000 / PER_SECOND) as i64;
            let log = self.logs[self.sequence as usize % self.logs.len()].replacen("{time}", &at.to_string(), 1);
            envelope(self.sequence, at, log.into_bytes())
        };
        (0..BATCH_MAX).map(|_| one()).collect()
    }
}

/// A fold as everyone but the hostile rule sees it.
fn without_failures(mut fold: Fold) -> Fold {
    fold.environments.iter_mut().flat_map(|environment| &mut environment.ticks).for_each(|tick| tick.failures.clear());
    fold
}

fn hostile(quick: bool) -> bool {
    let minutes = if quick { 5 } else { 10 };
    let batches = minutes * 60 * PER_SECOND / BATCH_MAX;
    let engine = |name, on, inspector: Arc<Inspector>| Beside {
        name,
        on,
        replay: Replay::new(inspector),
        seconds: 0.0,
        worst: 0.0,
        told: Vec::new(),
        unchanged: true,
    };
    let mut engines = vec![engine("", "", Arc::new(inspector(loaded(&others()))))];
    let rules = engines[0].replay.machine().plan().rules.len();
    println!("\nhostile scripts beside {rules} other rules: {minutes} minutes of {PER_SECOND} calls/s of event time, {AHEAD} batches ahead");
    println!("on a call: `fn applies(log)` behind a filter that takes 1 % of the calls; in a check: `fn check(w)` of one group");
    for (name, statements) in HOSTILE {
        let on_call = beside("applies: #{ tenant: \"t0\" },", &format!("fn applies(log) {{ {statements} true }}"));
        let in_check = beside("", &format!("fn check(w) {{ {statements} }}"));
        match (on_call, in_check) {
            (Some(on_call), Some(in_check)) if !quick || WORST.contains(&name) => {
                engines.push(engine(name, "call", on_call));
                engines.push(engine(name, "check", in_check));
            }
            (Some(_), Some(_)) => {}
            _ => println!("{name:<32} refused when it is read"),
        }
    }
    let mut stream = Stream::new();
    for from in (0..batches).step_by(AHEAD) {
        let batches: Vec<_> = (from..batches.min(from + AHEAD)).map(|_| stream.batch()).collect();
        let mut expected: Vec<Fold> = Vec::new();
        for (at, engine) in engines.iter_mut().enumerate() {
            let began = cpu_seconds();
            let folds: Vec<_> = batches.iter().map(|batch| engine.replay.fold(batch).fold).collect();
            let folded = cpu_seconds() - began;
            let seen: Vec<_> = folds.iter().cloned().map(without_failures).collect();
            if at == 0 {
                expected = seen;
            } else {
                engine.unchanged &= seen == expected;
            }
            let began = cpu_seconds();
            folds.into_iter().for_each(|fold| engine.replay.apply(Input::Folded(fold), &mut engine.told));
            let took = folded + cpu_seconds() - began;
            engine.seconds += took;
            engine.worst = engine.worst.max(took);
        }
    }
    let bytes = |engine: &Beside| {
        let told: Vec<_> = engine.told.iter().filter(|told| told.rule != "zz-hostile").collect();
        serde_json::to_vec(&told).expect("notifications can be written")
    };
    let (alone, beside) = engines.split_first().expect("the first is there whatever is hostile");
    let (expected, ledger) = (bytes(alone), alone.replay.machine().ledger());
    assert!(alone.told.len() > 2 && ledger.counted == stream.sequence, "the other rules fire, and every call is counted");
    println!("alone: {:.2} µs a call", alone.seconds / stream.sequence as f64 * 1e6);
    println!(
        "{:<32} {:>6} {:>13} {:>20} {:>10} {:>9} {:>9}",
        "script", "on", "calls/s ratio", "worst 4 batches, ms", "failures", "ms each", "others"
    );
    let (mut unchanged, mut least) = (true, f64::INFINITY);
    for engine in beside {
        let ledger = engine.replay.machine().ledger();
        let failures: u64 = [&ledger.script_failures, &ledger.check_failures].into_iter().filter_map(|by_rule| by_rule.get("zz-hostile")).sum();
        let same = engine.unchanged && bytes(engine) == expected && failures > 0 && engine.replay.machine().suspended().count() == 1;
        let ratio = alone.seconds / engine.seconds;
        println!(
            "{:<32} {:>6} {ratio:>13.3} {:>20.0} {failures:>10} {:>9.2} {:>9}",
            engine.name,
            engine.on,
            engine.worst * 1e3,
            each_ms(engine),
            if same { "unchanged" } else { "CHANGED" }
        );
        unchanged &= same;
        least = least.min(ratio);
    }
    let passed = target("hostile-others-unchanged", f64::from(u8::from(unchanged)), 1.0, unchanged);
    target("hostile-throughput", least, 0.9, least >= 0.9) && passed
}

/// What one run of the hostile function costs.
fn each_ms(engine: &Beside) -> f64 {
    let inspector = engine.replay.inspector();
    if engine.on == "check" {
        return check_ms(inspector, 3);
    }
    let mine = r#"{"id":"a","time":1700000000000,"model":"m","tenant":"t0"}"#;
    let call = model::parse(mine.as_bytes()).expect("a good log");
    let last = |slot| slot + 1 == inspector.plan.rules.iter().filter_map(|rule| inspector.plan.slot_of(rule)).count();
    let mut views = Vec::new();
    let seconds = turns(3, 1, |_| {
        inspector.rules.see_where(&call, &mut views, last, |_| {});
        assert!(views.iter().any(|view| view.exhausted), "{}", engine.name);
    });
    spread(seconds.iter().map(|round| round[0] * 1e3))[1]
}

/// Of the last rule, over an empty view.
fn check_ms(inspector: &Inspector, rounds: usize) -> f64 {
    let view = GroupView { environment: "production".into(), at: Timestamp::EPOCH, labels: Vec::new(), observations: vec![Observation::default()] };
    let rule = inspector.plan.rules.len() - 1;
    let seconds = turns(rounds, 1, |_| {
        for _ in 0..3 {
            assert!(matches!(inspector.rules.check(rule, &view), Checked::Exhausted(_)));
        }
    });
    spread(seconds.iter().map(|round| round[0] * 1e3 / 3.0))[1]
}

/// CPU seconds by round and configuration; the first round, which warms up, is left out.
fn turns(rounds: usize, configurations: usize, mut run: impl FnMut(usize)) -> Vec<Vec<f64>> {
    let mut seconds = Vec::new();
    for round in 0..=rounds {
        let mut took = vec![0.0; configurations];
        for turn in 0..configurations {
            // The order changes from round to round, so that none always profits from what the one before left behind.
            let which = (turn + round) % configurations;
            let began = cpu_seconds();
            run(which);
            took[which] = cpu_seconds() - began;
        }
        seconds.push(took);
    }
    seconds.split_off(1)
}

/// CPU time of this thread where the system says it, so that other work on the machine counts little; else time on the wall.
fn cpu_seconds() -> f64 {
    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    // Brings the account up to now; otherwise it is that of the last tick of the scheduler.
    std::thread::yield_now();
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match account.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()) {
        Some(nanos) if nanos > 0 => nanos as f64 / 1e9,
        _ => BEGAN.elapsed().as_secs_f64(),
    }
}

/// Least, median and greatest.
fn spread(figures: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]]
}

fn target(name: &str, figure: f64, limit: f64, passed: bool) -> bool {
    println!("target {name} {figure:.3} {limit:.3} {}", if passed { "pass" } else { "fail" });
    passed
}
