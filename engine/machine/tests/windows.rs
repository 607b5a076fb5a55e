//! What windows hold at every tick, and what becomes of alerts: calls in, what the rules saw and what people are told out.

#[path = "simulation/rules.rs"]
#[allow(dead_code, reason = "shared with the simulation, which uses all of it")]
mod rules;

use model::plan::{Decides, Filter, NoData, Objective, Plan, RuleSpec, SignalRef, Statistic, Watch, WatchSpec, Windows};
use model::run::{RunMeasure, RunSignal};
use model::window::{Checked, Fire, Observation};
use model::{Buckets, FalseAlarms, Key, Measure, MeasureRef, Quantiles, Signal, Span, Timestamp};
use rules::{Suspensions, checked, expect, fold, held, no_data, rate, rule, watch};
use std::collections::{BTreeMap, BTreeSet};
use streamgauge_machine::{CheckRequest, Effect, Input, Machine, Notification, OTHER, SliceBlock, Start};

/// A script of calls, pauses and restarts, and the lines that come of it. Times are counted from [`ZERO`].
///
/// ```text
/// 12s stage=a error x3        three calls that ended then
/// 2m elapse                   nothing comes, and it is 2m by the server's clock
/// restart                     from a snapshot and the sealed slices
/// answer                      the oldest check that is held back
/// ```
struct Play {
    machine: Machine,
    sequence: u64,
    sealed: BTreeMap<(String, Timestamp), SliceBlock>,
    /// Whether checks wait for an `answer` line.
    hold_checks: bool,
    asked: Vec<CheckRequest>,
    lines: Vec<String>,
}

/// A full hour, so that ticks, slices and rounds of forgetting start there.
const ZERO: i64 = 1_800_000_000_000;

fn zero() -> Timestamp {
    Timestamp::from_millis(ZERO).expect("in range")
}

/// So many false alarms may come that a handful of calls proves what they show: windows and alerts are what is tested here.
fn often() -> FalseAlarms {
    FalseAlarms::parse("1000 per hour").expect("it is written as it should be")
}

fn plan(specs: Vec<RuleSpec>) -> Plan {
    Plan::new(Windows::default(), often(), specs)
}

/// Plays `script` under `plan` and compares the lines.
fn check(plan: Plan, script: &str, expected: &[&str]) {
    let mut play = Play::new(plan);
    play.play(script);
    assert_eq!(play.lines, expected);
}

impl Play {
    fn new(plan: Plan) -> Self {
        let machine = Machine::new(plan, 0);
        Self { machine, sequence: 0, sealed: BTreeMap::new(), hold_checks: false, asked: Vec::new(), lines: Vec::new() }
    }

    fn play(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            match words.next().expect("the line is not empty") {
                "restart" => self.restart(self.machine.plan().clone()),
                "answer" => {
                    let asked = self.asked.remove(0);
                    self.answer(asked);
                }
                at => {
                    let at = zero() + Span::parse(at).expect("a line starts with a time or a command");
                    let words: Vec<_> = words.collect();
                    if words == ["elapse"] { self.apply(Input::Elapsed { now: at }) } else { self.calls(at, &words) }
                }
            }
        }
    }

    fn calls(&mut self, at: Timestamp, words: &[&str]) {
        let mut fields = format!(r#""id":"c","time":{},"model":"m""#, at.millis());
        let mut times = 1;
        for word in words {
            match word.split_once('=') {
                Some(("latency_ms", number)) => fields += &format!(r#","latency_ms":{number}"#),
                Some((key, value)) => fields += &format!(r#","{key}":"{value}""#),
                None if *word == "error" => fields += r#","status_code":500"#,
                None => times = word.strip_prefix('x').and_then(|n| n.parse().ok()).expect("error, xN or key=value"),
            }
        }
        let payload = format!("{{{fields}}}");
        let first = self.sequence + 1;
        self.sequence += times;
        // The server's stamp: far enough on that no time counts as future, and moving as the calls do.
        let batch = (first..=self.sequence).map(|sequence| (sequence, at, payload.as_bytes()));
        let folded = fold(self.machine.plan(), batch, &Suspensions::default());
        self.apply(Input::Folded(folded));
    }

    fn apply(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.machine.apply(input, &mut effects);
        self.carry_out(effects);
        assert!(self.machine.ledger().balances());
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Seal(block) => {
                    self.sealed.insert((block.environment.clone(), block.start), block);
                }
                Effect::Notify(told) => self.lines.push(render(&told)),
                Effect::DeadLetter { sequence, reason } => self.lines.push(format!("dead letter {sequence}: {}", reason.name())),
                Effect::Judge(request) => self.lines.push(format!("judge {} of {}", request.judge, request.sequence)),
                Effect::Check(asked) if self.hold_checks => self.asked.push(asked),
                Effect::Check(asked) => self.answer(asked),
                Effect::Suspend(_) => {}
            }
        }
    }

    /// A check that fires when half of the calls failed, and fails itself when all did.
    fn answer(&mut self, asked: CheckRequest) {
        let results = asked.groups.iter().map(|group| {
            let seen = &group.observations[0];
            match seen.holds * 2 {
                failed if seen.calls > 0 && failed == seen.calls * 2 => Checked::Failed("all failed".to_owned()),
                failed if seen.calls > 0 && failed >= seen.calls => {
                    Checked::Fire(Fire { summary: format!("{} of {}", seen.holds, seen.calls), severity: None, labels: Vec::new() })
                }
                _ => Checked::Quiet,
            }
        });
        let results = results.collect();
        self.apply(Input::Checked { environment: asked.environment, at: asked.at, rule: asked.rule, results });
    }

    fn needed(&self, needs: &[(String, Timestamp, Timestamp)]) -> Vec<SliceBlock> {
        let needed = |block: &&SliceBlock| needs.iter().any(|(name, from, to)| block.environment == *name && (*from..*to).contains(&block.start));
        self.sealed.values().filter(needed).cloned().collect()
    }

    /// Goes on under another plan without a restart.
    fn adopt(&mut self, plan: Plan) {
        let blocks = self.needed(&self.machine.needs(&plan));
        let mut effects = Vec::new();
        self.machine.adopt(plan, blocks, &mut effects);
        self.carry_out(effects);
    }

    fn restart(&mut self, plan: Plan) {
        let start = Start::decode(&self.machine.snapshot()).expect("it was just written");
        let blocks = self.needed(&start.needs(&plan));
        self.asked.clear();
        let mut effects = Vec::new();
        self.machine = start.finish(plan, blocks, &mut effects);
        self.carry_out(effects);
    }
}

/// `1m10s fired errors[extraction]: error rate 60 % is above the expected 0 % to 20 % (#7 #6)`
fn render(told: &Notification) -> String {
    let group: Vec<_> = told.group.iter().map(|(_, label)| label.as_str()).collect();
    let examples: Vec<_> = told.examples.iter().map(|sequence| format!("#{sequence}")).collect();
    let at = told.at.since(zero());
    format!("{at} {} {}[{}]: {} ({})", told.reason.name(), told.rule, group.join(" "), told.summary, examples.join(" "))
}

fn errors() -> RuleSpec {
    rule("errors", &[Key::Stage], vec![expect(0.0, 0.2, watch("w", rate(Signal::Error), 60))])
}

fn any_check() -> RuleSpec {
    checked(0, rule("check", &[Key::Stage], vec![watch("w", rate(Signal::Error), 60)]))
}

#[test]
fn when_checks_are_answered_changes_nothing() {
    // Ticks end at 10s (breach) and 20s (clear, because so many good calls came); then nothing.
    let script = "
        1s stage=a error x9
        1s stage=a
        11s stage=a x60
        21s stage=a
        31s stage=a";
    let specs = || plan(vec![errors(), any_check()]);
    let expected = [
        "10s fired errors[a]: error rate is about 79 %, above the expected 0 % to 20 % (#2 #1)",
        "10s fired check[a]: 9 of 10 (#2 #1)",
        "20s resolved errors[a]: error rate is about 79 %, above the expected 0 % to 20 % (#2 #1)",
        "20s resolved check[a]: 9 of 10 (#2 #1)",
    ];
    check(specs(), script, &expected);
    let mut late = Play::new(specs());
    late.hold_checks = true;
    late.play(script);
    late.play("answer\nanswer\nanswer");
    assert_eq!(late.lines, expected);
    let mut restarted = Play::new(specs());
    restarted.hold_checks = true;
    restarted.play(script);
    restarted.play("restart\nanswer\nanswer\nanswer");
    assert_eq!(restarted.lines, expected);
}

#[test]
fn a_consequence_is_not_told_while_its_cause_fires_for_the_same_labels() {
    // Both rules see errors; the second names the first as its cause. Stage a breaks, and stage b only by the second rule's lower limit.
    let mut consequence = rule("also", &[Key::Stage, Key::Model], vec![expect(0.0, 0.1, watch("w", rate(Signal::Error), 60))]);
    consequence.rule.inhibit_by = vec!["errors".to_owned(), "of another set".to_owned()];
    let script = "
        1s stage=a error x20
        1s stage=b error x5
        1s stage=b x25
        11s stage=a
        12s stage=b error x9";
    let mut play = Play::new(plan(vec![consequence.clone(), errors()]));
    play.play(script);
    let fired = |play: &Play| -> Vec<String> {
        let fired = play.lines.iter().filter_map(|line| line.split(": ").next()?.split_once(" fired ").map(|(_, whom)| whom.to_owned()));
        fired.collect()
    };
    assert_eq!(fired(&play), ["errors[a]"], "{:?}", play.lines);
    // Without its cause it tells of itself.
    consequence.rule.inhibit_by.clear();
    let mut alone = Play::new(plan(vec![consequence, errors()]));
    alone.play(script);
    assert!(fired(&alone).iter().any(|whom| whom.starts_with("also")), "{:?}", alone.lines);
}

#[test]
fn a_rule_looks_as_often_as_it_says_and_tells_again_as_often_as_it_says() {
    let mut seldom = any_check();
    (seldom.rule.every, seldom.rule.repeat) = (Span::from_secs(30), Some(Span::from_secs(600)));
    let mut play = Play::new(plan(vec![seldom]));
    // One call in two fails for a quarter of an hour, then none.
    let mut script = String::new();
    for tick in 0..90 {
        script += &format!("{}s stage=a error x2\n{}s stage=a x2\n", tick * 10 + 1, tick * 10 + 2);
    }
    play.play(&script);
    play.play("15m5s stage=a x200\n17m stage=a");
    let told: Vec<_> = play.lines.iter().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(told, ["30s fired", "10m30s repeated", "15m30s resolved"], "{:?}", play.lines);
}

#[test]
fn an_alert_that_begins_late_still_hears_that_its_window_has_emptied() {
    let script = "
        1s stage=a error
        1s stage=a
        4m stage=b
        5m stage=b";
    let specs = || plan(vec![no_data(NoData::Ok, any_check())]);
    let expected = ["10s fired check[a]: 1 of 2 (#1)", "1m10s resolved check[a]: 1 of 2 (#1)"];
    check(specs(), script, &expected);
    let mut late = Play::new(specs());
    late.hold_checks = true;
    late.play(script);
    (0..late.asked.len()).for_each(|_| late.play("answer"));
    assert_eq!(late.lines, expected);
}

#[test]
fn a_check_that_fails_changes_no_alert() {
    let failing = |mode| {
        check(
            plan(vec![no_data(mode, any_check())]),
            "
            1s stage=a error
            1s stage=a
            1m6s stage=a error
            1m15s stage=a x5
            1m25s stage=a
            ",
            &["10s fired check[a]: 1 of 2 (#1)", "1m20s resolved check[a]: 1 of 2 (#1)"],
        );
    };
    [NoData::Ok, NoData::Keep, NoData::Alert].into_iter().for_each(failing);
}

#[test]
fn the_examples_of_an_alert_are_the_same_after_a_restart() {
    // Three groups of calls in one group of the rule, heard in an order that is not that of their labels.
    let script = "
        1s stage=a provider=z error x2
        1s stage=a provider=y error x2
        1s stage=a provider=x error x2";
    let expected = ["10s fired errors[a]: error rate is about 79 %, above the expected 0 % to 20 % (#6 #5 #4)"];
    check(plan(vec![errors()]), &format!("{script}\n11s stage=a"), &expected);
    check(plan(vec![errors()]), &format!("{script}\nrestart\n11s stage=a"), &expected);
}

#[test]
fn examples_lie_in_the_window() {
    // The errors at 1s left the window of the tick that ends at 1m10s.
    check(
        plan(vec![held(60, 0, errors())]),
        "
        1s stage=a error x9
        1m1s stage=a error
        1m11s stage=a",
        &["1m10s fired errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#10)"],
    );
}

#[test]
fn a_plan_with_a_longer_window_takes_back_groups_that_were_forgotten() {
    let quick = || plan(vec![errors()]);
    let slow = || plan(vec![rule("slow", &[Key::Stage], vec![watch("w", rate(Signal::Error), 7200)])]);
    let mut play = Play::new(quick());
    // `a` is forgotten at 1h10m, and comes back from its sealed slice.
    play.play("1s stage=a\n10m stage=b\n20m stage=b\n1h20m stage=b");
    assert_eq!(play.machine.series().collect::<Vec<_>>(), [("default", 1, 21)]);
    play.restart(slow());
    assert_eq!(play.machine.series().collect::<Vec<_>>(), [("default", 2, 42)]);
    // It leaves the window and is forgotten again.
    play.play("3h stage=b\n5h stage=b");
    assert_eq!(play.machine.series().collect::<Vec<_>>(), [("default", 1, 21)]);
}

#[test]
fn the_clock_follows_elapsed_time_so_that_an_alert_ends_when_calls_stop() {
    let ends = |mode| plan(vec![no_data(mode, errors())]);
    let script = "1s stage=a error x9";
    // 5 s of grace, and the tick closes at 10 s.
    check(ends(NoData::Ok), &format!("{script}\n14999ms elapse"), &[]);
    let fired = "10s fired errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)";
    check(ends(NoData::Ok), &format!("{script}\n15s elapse"), &[fired]);
    let resolved = "1m10s resolved errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)";
    check(ends(NoData::Ok), &format!("{script}\n15s elapse\n1m14s elapse\n1m15s elapse\n2h elapse"), &[fired, resolved]);
    // At one go it is the same.
    check(ends(NoData::Ok), &format!("{script}\n2h elapse"), &[fired, resolved]);
}

#[test]
fn an_alert_ends_when_good_calls_go_on() {
    check(
        plan(vec![held(0, 20, errors())]),
        "
        1s stage=a error x9
        12s stage=a
        1m1s stage=a x60
        1m11s stage=a
        1m21s stage=a
        1m31s stage=a
        1m41s stage=a",
        &[
            "10s fired errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)",
            "1m30s resolved errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)",
        ],
    );
}

#[test]
fn an_empty_window_means_what_no_data_says() {
    let script = "
        1s stage=a error x9
        1s stage=b x9
        26h elapse";
    let fired = "10s fired errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)";
    let of = |mode, lines: &[&str]| check(plan(vec![no_data(mode, errors())]), script, lines);
    of(NoData::Ok, &[fired, "1m10s resolved errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)"]);
    // A day after the last tick that had data, at 1m.
    of(NoData::Keep, &[fired, "1d1m10s went_quiet errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)"]);
    of(NoData::Alert, &[fired, "1m10s fired errors[b]: no data ()"]);
}

#[test]
fn too_few_calls_are_no_data_too() {
    let spec = |mode| {
        let mut spec = no_data(mode, errors());
        spec.watches[0].at_least = 5;
        plan(vec![spec])
    };
    let script = "
        1s stage=a error x9
        1m1s stage=a error
        1m11s stage=a error";
    let fired = "10s fired errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)";
    check(spec(NoData::Keep), script, &[fired]);
    check(spec(NoData::Ok), script, &[fired, "1m10s resolved errors[a]: error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)"]);
}

#[test]
fn a_rule_with_an_objective_fires_by_the_budget_that_its_group_burns_and_ends_with_the_short_window() {
    let mut spec = rule("slo", &[Key::Stage], vec![watch("w", rate(Signal::Error), 60)]);
    spec.rule.decides = Decides::Burn(Objective { target: 0.99, over: Span::from_secs(30 * 86_400) });
    // Two hours of good calls, and ten minutes in which everything fails at one stage of two.
    let good = |minutes: std::ops::Range<u32>, stage: &str| minutes.map(|minute| format!("{minute}m1s stage={stage} x10\n")).collect::<String>();
    let (before, after) = (good(0..120, "a"), good(130..160, "a"));
    let during: String = (120..130).map(|minute| format!("{minute}m1s stage=a error x10\n{minute}m1s stage=b x10\n")).collect();
    let expected = [
        "2h9m10s fired slo[a]: error rate is 15 % over 1h and 100 % over 5m: 15.4 times what an objective of 99 % over 30d allows (#1382 #1381)",
        "2h15m10s resolved slo[a]: error rate is 15 % over 1h and 50 % over 5m: 15.4 times what an objective of 99 % over 30d allows (#1382 #1381)",
    ];
    check(plan(vec![spec.clone()]), &format!("{before}{during}{after}"), &expected);
    check(plan(vec![spec]), &format!("{before}{during}restart\n{after}"), &expected);
}

#[test]
fn calls_beyond_the_series_are_counted_under_other() {
    let windows = Windows { series_max: 42, ..Windows::default() };
    let mut play = Play::new(Plan::new(windows, often(), vec![errors()]));
    play.play("1s stage=a\n2s stage=b\n3s stage=c error x6\n4s stage=d\n5s stage=a\n11s stage=c");
    assert_eq!(play.machine.ledger().overflowed, 8);
    let groups = |play: &Play| -> Vec<(String, u64)> {
        let open = play.machine.open("default", zero()).expect("it has calls");
        let mut sums = BTreeMap::new();
        for (labels, cell) in open.blocks.into_iter().flat_map(|block| block.groupings).flat_map(|grouping| grouping.cells) {
            *sums.entry(labels[0].clone()).or_default() += cell.calls;
        }
        sums.into_iter().collect()
    };
    assert_eq!(groups(&play), [(OTHER.to_owned(), 8), ("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(play.lines, ["10s fired errors[(other)]: error rate is about 71 %, above the expected 0 % to 20 % (#4 #3)"]);
    // Once the others are forgotten, there are series for new groups.
    play.play("30m stage=a\n3h stage=c x2");
    assert_eq!((play.machine.ledger().overflowed, groups(&play)), (8, vec![("c".to_owned(), 2)]));
}

#[test]
fn an_environment_beyond_the_bound_is_malformed() {
    let mut play = Play::new(plan(vec![]));
    let script: String = (0..66).map(|at| format!("1s environment=e{at:02}\n")).collect();
    play.play(&script);
    assert_eq!(play.lines, ["dead letter 65: too_many_environments", "dead letter 66: too_many_environments"]);
    assert_eq!((play.machine.ledger().malformed(), play.machine.ledger().counted), (2, 64));
}

#[test]
fn a_changed_plan_keeps_what_did_not_change() {
    let other = || rule("rate", &[Key::Stage], vec![expect(0.0, 0.1, watch("w", rate(Signal::Error), 60))]);
    let changed = || {
        let mut spec = other();
        spec.rule.fingerprint += 1;
        spec
    };
    let users = || rule("users", &[Key::User], vec![watch("w", rate(Signal::Error), 60)]);
    let mut play = Play::new(plan(vec![other(), errors(), users()]));
    play.play("1s stage=a user_id=u error x9\n11s stage=a user_id=u");
    let (was, now) = ("above the expected 0 % to 10 % (#2 #1)", "above the expected 0 % to 20 % (#2 #1)");
    assert_eq!(
        play.lines,
        [format!("10s fired rate[a]: error rate is about 90 %, {was}"), format!("10s fired errors[a]: error rate is about 90 %, {now}")]
    );
    play.lines.clear();
    // `errors` moves to the front and stays; `rate` has another text; the grouping of `users` goes.
    play.restart(plan(vec![errors(), changed()]));
    assert_eq!(play.lines, [format!("10s rule_changed rate[a]: error rate is about 90 %, {was}")]);
    assert_eq!(play.machine.alerts().map(|view| view.rule.name.as_str()).collect::<Vec<_>>(), ["errors"]);
    assert_eq!(play.machine.series().collect::<Vec<_>>(), [("default", 1, 21)]);
    play.lines.clear();
    // What is measured stayed the same, so what was learned stays, too: the changed rule fires at once, as another alert.
    play.play("21s stage=a\n1m1s stage=a x60\n1m31s stage=a\n1m41s stage=a");
    assert_eq!(
        play.lines,
        [
            format!("20s fired rate[a]: error rate is about 90 %, {was}"),
            format!("1m10s resolved errors[a]: error rate is about 90 %, {now}"),
            format!("1m10s resolved rate[a]: error rate is about 90 %, {was}"),
        ]
    );
}

/// Whatever the change is, a crash in the middle of a reload may not make a difference.
#[test]
fn a_plan_adopted_at_work_and_one_adopted_by_a_restart_go_on_alike() {
    let longer = || rule("long", &[Key::Stage], vec![expect(0.0, 0.2, watch("w", rate(Signal::Error), 600))]);
    let changed = || {
        let mut spec = errors();
        spec.rule.fingerprint += 1;
        spec
    };
    let users = || rule("users", &[Key::User], vec![expect(0.0, 0.2, watch("w", rate(Signal::Error), 60))]);
    let learned = || rule("learned", &[Key::Stage, Key::Model], vec![watch("w", rate(Signal::Retry), 60)]);
    let before = || plan(vec![errors(), users(), learned(), any_check()]);
    for (what, after) in [
        ("the same", before()),
        ("a rule removed", plan(vec![users(), learned(), any_check()])),
        ("a text changed", plan(vec![changed(), users(), learned(), any_check()])),
        ("a longer window", plan(vec![errors(), longer(), users(), learned()])),
        ("another grouping", plan(vec![errors(), learned()])),
        ("nothing", plan(vec![])),
    ] {
        let history = "
            1s stage=a user_id=u error x9
            1s stage=b user_id=v x40
            1m stage=a user_id=u x20
            2m31s stage=a user_id=u error x20
            2m33s stage=b user_id=v x7
            2m41s stage=b user_id=v";
        let (mut at_work, mut restarted) = (Play::new(before()), Play::new(before()));
        at_work.play(history);
        restarted.play(history);
        assert!(at_work.lines.iter().any(|line| line.contains("fired errors[a]")), "{:?}", at_work.lines);
        at_work.adopt(after.clone());
        restarted.restart(after);
        assert_eq!(at_work.lines, restarted.lines, "{what}: told by the change");
        assert!(at_work.machine.snapshot() == restarted.machine.snapshot(), "{what}: the state after it");
        let future = "2m55s stage=a user_id=u error x5\n3m1s stage=b user_id=v x90\n3m20s stage=a user_id=u x200\n5m elapse\n13m stage=a user_id=u";
        at_work.play(future);
        restarted.play(future);
        assert_eq!(at_work.lines, restarted.lines, "{what}: told later");
        assert!(at_work.machine.snapshot() == restarted.machine.snapshot(), "{what}: the state at the end");
        assert_eq!(at_work.sealed, restarted.sealed, "{what}: what was sealed");
    }
}

#[test]
fn what_is_learned_stays_while_the_same_is_measured_and_starts_anew_when_not() {
    let learned = |signal: Signal, window: u64, stage: Option<&str>| {
        let only = stage.map_or_else(Filter::default, |stage| Filter(vec![(Key::Stage, vec![stage.to_owned()])]));
        let mut spec = rule("r", &[Key::Stage], vec![WatchSpec { only, ..watch("w", rate(signal), window) }]);
        spec.rule.fingerprint = window + signal.index() as u64;
        spec
    };
    let mut play = Play::new(plan(vec![learned(Signal::Error, 60, None)]));
    play.play("1s stage=a x2000\n11s stage=a x10\n21s stage=a");
    let learning = |play: &Play| {
        let gauge = play.machine.explain("r", "default", &vec!["a".to_owned()]).and_then(|node| node.watches[0].gauge.clone());
        gauge.is_none_or(|gauge| gauge.learning)
    };
    assert!(!learning(&play));
    // Another text and another window measure the same; another signal or filter does not.
    play.restart(plan(vec![learned(Signal::Error, 120, None)]));
    assert!(!learning(&play));
    play.restart(plan(vec![learned(Signal::Retry, 120, None)]));
    assert!(learning(&play));
    let mut play = Play::new(plan(vec![learned(Signal::Error, 60, None)]));
    play.play("1s stage=a x2000\n11s stage=a x10\n21s stage=a");
    play.restart(plan(vec![learned(Signal::Error, 60, Some("a"))]));
    assert!(learning(&play));
}

#[test]
fn a_new_width_of_slices_seals_the_old_ones_and_counts_no_call_twice() {
    let mut play = Play::new(plan(vec![errors()]));
    play.play("1s stage=a error x9\n11s stage=a");
    play.restart(Plan::new(Windows { slice: Span::from_secs(2), ..Windows::default() }, often(), vec![errors()]));
    assert_eq!(
        play.sealed.values().map(|block| (block.start.since(zero()), block.width)).collect::<Vec<_>>(),
        [(Span::ZERO, Span::from_secs(5)), (Span::from_secs(10), Span::from_secs(5)),]
    );
    // A call into time that is sealed is late; later ones count.
    play.play("12s stage=a\n25s stage=a\n1m30s stage=a");
    let ledger = play.machine.ledger();
    assert_eq!((ledger.counted, ledger.in_window, ledger.late), (13, 12, 1));
    let open = play.machine.open("default", zero()).expect("it has calls").blocks;
    let calls = play.sealed.values().chain(&open).flat_map(|block| &block.groupings).flat_map(|grouping| &grouping.cells).map(|(_, cell)| cell.calls);
    assert_eq!(calls.sum::<u64>(), 12);
}

#[test]
fn how_often_time_elapses_changes_nothing() {
    // Three groups that are forgotten in another order than they were met, and three that take their places.
    let (before, after) = ("1s stage=a\n2s stage=b\n3s stage=c\n20m stage=b\n40m stage=a", "5h stage=d\n5h stage=e error x9\n5h1m stage=f");
    let mut seldom = Play::new(plan(vec![errors()]));
    seldom.play(&format!("{before}\n4h elapse\n{after}"));
    let mut often = Play::new(plan(vec![errors()]));
    let elapses: String = (41..=240).map(|minute| format!("{minute}m elapse\n")).collect();
    often.play(&format!("{before}\n{elapses}\n{after}"));
    assert_eq!((seldom.lines, seldom.machine.snapshot()), (often.lines, often.machine.snapshot()));
}

#[test]
fn a_call_from_the_year_one_does_not_make_the_machine_count_its_way_to_today() {
    // What an unset time looks like in some languages. 640 million ticks lie between it and the next call.
    let all = [NoData::Ok, NoData::Keep, NoData::Alert].map(|mode| no_data(mode, errors()));
    let mut play = Play::new(plan(all.into_iter().chain([any_check()]).collect()));
    play.hold_checks = true;
    for (sequence, stage) in (1..=18).map(|sequence| (sequence, if sequence < 10 { "a" } else { "b" })) {
        let payload = format!(r#"{{"id":"x","time":"0001-01-01T00:00:00Z","model":"m","stage":"{stage}","status_code":500}}"#);
        let folded = fold(play.machine.plan(), [(sequence, zero(), payload.as_bytes())], &Suspensions::default());
        play.apply(Input::Folded(folded));
    }
    play.sequence = 18;
    play.play("1s stage=b\n11s stage=b");
    while !play.asked.is_empty() {
        play.play("answer");
    }
    assert_eq!(play.machine.waiting(), 0);
    let reasons: Vec<_> = play.lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == "fired").count(), 5, "{:?}", play.lines);
    assert_eq!(reasons.iter().filter(|reason| **reason == "went_quiet").count(), 1, "{:?}", play.lines);
}

fn failing_runs() -> RuleSpec {
    rule("runs", &[Key::User], vec![expect(0.0, 0.2, watch("w", Statistic::Rate(SignalRef::Run(RunSignal::Error)), 60))])
}

/// Nine runs, each with one call that fails and one, ten seconds later, that says whose they are.
fn nine_runs() -> (String, String) {
    let each = |line: &str| (0..9).map(|run| format!("{line} event_id=run-{run}\n")).collect::<String>();
    (each("1s error"), each("12s user_id=u"))
}

/// Latency, cost and calls of the runs in what is not sealed: how many there are, and their sums, by the labels of their group.
fn runs_counted(play: &Play) -> Vec<(String, u64, [u128; 3])> {
    let open = play.machine.open("default", zero()).expect("it has calls").blocks;
    let groupings = play.sealed.values().cloned().chain(open).flat_map(|block| block.groupings);
    let cells = groupings.filter(|grouping| grouping.identity.ends_with("|runs")).flat_map(|grouping| grouping.cells);
    cells.map(|(labels, cell)| (labels.join(","), cell.calls, [0, 1, 2].map(|at| cell.distributions[at].sum))).collect()
}

/// Everything that is measured of a run, by user.
fn measured_runs() -> Plan {
    let mean = |name: &str, measure| watch(name, Statistic::Mean(MeasureRef::Run(measure)), 300);
    let watches = vec![mean("latency", RunMeasure::LatencyMs), mean("cost", RunMeasure::CostUsd), mean("calls", RunMeasure::Calls)];
    plan(vec![rule("runs", &[Key::User], watches)])
}

#[test]
fn a_run_counts_once_when_none_of_its_calls_has_come_for_three_ticks_and_is_told_with_the_call_that_failed() {
    let (errors, rest) = nine_runs();
    let fired = "50s fired runs[u]: run_error rate is about 90 %, above the expected 0 % to 20 % (#2 #1)";
    check(plan(vec![failing_runs()]), &format!("{errors}{rest}\n49s stage=a"), &[]);
    check(plan(vec![failing_runs()]), &format!("{errors}{rest}\n51s stage=a"), &[fired]);
    // When calls stop, they close as well: the clock follows elapsed time after 5 s of grace.
    check(plan(vec![failing_runs()]), &format!("{errors}{rest}\n54999ms elapse"), &[]);
    check(plan(vec![failing_runs()]), &format!("{errors}{rest}\n55s elapse"), &[fired]);
    check(plan(vec![failing_runs()]), &format!("{errors}{rest}\n2h elapse"), &[fired]);
}

#[test]
fn a_restart_in_the_middle_of_runs_changes_nothing() {
    let (errors, rest) = nine_runs();
    let end = "51s stage=a\n1m stage=a";
    let played = |script: &str| {
        let mut play = Play::new(plan(vec![failing_runs()]));
        play.play(script);
        (play.lines, play.sealed, play.machine.snapshot())
    };
    let straight = played(&format!("{errors}{rest}{end}"));
    assert_eq!(straight.0.len(), 1);
    assert!(straight == played(&format!("{errors}restart\n{rest}{end}")), "between the calls of the runs");
    assert!(straight == played(&format!("{errors}{rest}restart\n{end}")), "before they close");
    assert!(straight == played(&format!("{errors}{rest}51s stage=a\nrestart\n1m stage=a")), "after they closed");
}

#[test]
fn a_run_has_the_wall_time_of_its_calls_and_the_label_of_the_first_that_has_one() {
    let mut play = Play::new(measured_runs());
    // Side by side, and the first has no user; the second run begins when the first has closed; calls without a run are in none.
    play.play("3s event_id=a latency_ms=2000\n4s event_id=a latency_ms=2500 user_id=u\n9s event_id=a user_id=v\n9s user_id=u x5");
    assert_eq!(play.machine.open_runs().collect::<Vec<_>>(), [("default", 1)]);
    play.play("41s event_id=a latency_ms=100\n1m30s user_id=u\n2m user_id=u");
    assert_eq!(runs_counted(&play), [("u".to_owned(), 1, [8_000, 0, 3]), (String::new(), 1, [100, 0, 1])]);
    assert_eq!(play.machine.open_runs().collect::<Vec<_>>(), [("default", 0)]);
}

#[test]
fn calls_that_are_late_for_windows_are_in_no_run_and_others_come_late_without_tearing_it() {
    let mut play = Play::new(measured_runs());
    // By 41 s, slices before 10 s are sealed. The run hears a call of 11 s then, and would be over had its calls' times counted.
    play.play("1s event_id=a\n11s event_id=a\n41s stage=a\n3s event_id=a\n11s event_id=a\n55s event_id=a\n2m stage=a");
    assert_eq!((play.machine.ledger().late, runs_counted(&play)), (1, vec![(String::new(), 1, [0, 0, 4])]));
}

#[test]
fn an_environment_has_a_bound_of_open_runs_and_counts_the_calls_of_others() {
    // Five for each series.
    let windows = Windows { series_max: 1, ..Windows::default() };
    let mut play = Play::new(Plan::new(windows, often(), vec![failing_runs()]));
    play.play("1s event_id=a\n1s event_id=b\n1s event_id=c\n1s event_id=d\n1s event_id=e\n1s event_id=f x2\n1s event_id=a");
    assert_eq!((play.machine.ledger().run_calls_unmeasured, play.machine.open_runs().next()), (2, Some(("default", 5))));
    play.play("41s event_id=f");
    assert_eq!((play.machine.ledger().run_calls_unmeasured, play.machine.open_runs().next()), (2, Some(("default", 1))));
}

#[test]
fn another_plan_at_work_and_by_a_restart_do_the_same_to_open_runs() {
    let by = |key: Key| {
        let mut spec = failing_runs();
        spec.rule.group_by = vec![key];
        spec
    };
    let (errors, rest) = nine_runs();
    let adopted = |from: Vec<RuleSpec>, to: Vec<RuleSpec>| {
        let mut plays = [Play::new(plan(from.clone())), Play::new(plan(from))];
        plays.iter_mut().for_each(|play| play.play(&errors));
        let [at_work, by_restart] = &mut plays;
        at_work.adopt(plan(to.clone()));
        by_restart.restart(plan(to));
        let open = at_work.machine.open_runs().next().map(|(_, open)| open);
        plays.iter_mut().for_each(|play| play.play(&format!("{rest}51s stage=a")));
        assert!(plays[0].machine.snapshot() == plays[1].machine.snapshot() && plays[0].lines == plays[1].lines);
        (open, plays[0].lines.len())
    };
    // A new label comes from later calls; the calls before stay.
    assert_eq!(adopted(vec![by(Key::Service)], vec![by(Key::User)]), (Some(9), 1));
    // Runs that nobody watched so far begin with their next call, and no call of them has failed since.
    assert_eq!(adopted(vec![errors_of_calls()], vec![failing_runs()]), (Some(0), 0));
    assert_eq!(adopted(vec![failing_runs()], vec![errors_of_calls()]).0, Some(0));
}

/// A rule that watches no runs and says nothing here.
fn errors_of_calls() -> RuleSpec {
    rule("calls", &[], vec![expect(0.0, 1.0, watch("w", rate(Signal::Error), 60))])
}

/// One call of a random stream.
struct Call {
    slice: Timestamp,
    stage: &'static str,
    user: &'static str,
    failed: bool,
    latency: Option<u64>,
}

/// Where a window's edge lies: on a whole minute after two hours, and on a whole hour after thirty-one.
fn edge(end: Timestamp, age: Span) -> Timestamp {
    let width = match age.millis() / 1000 {
        0..=7_200 => 1,
        7_201..=111_600 => 60,
        _ => 3_600,
    };
    (end - age).floor(Span::from_secs(width))
}

/// What a watch says of the calls in its window: numerator, denominator, value.
fn expected(watch: &Watch, held: &[&Call]) -> (u64, u64, Option<f64>) {
    let mut latencies: Vec<u64> = held.iter().filter_map(|call| call.latency).collect();
    latencies.sort_unstable();
    let (calls, failed, timed) = (held.len() as u64, held.iter().filter(|call| call.failed).count() as u64, latencies.len() as u64);
    let by_calls = matches!(watch.statistic, Statistic::Top(_, None, _));
    let mut by_user: BTreeMap<&str, u64> = BTreeMap::new();
    for call in held.iter().filter(|call| !call.user.is_empty()) {
        *by_user.entry(call.user).or_default() += if by_calls { 1 } else { call.latency.unwrap_or(0) };
    }
    let of_users = held.iter().filter(|call| !call.user.is_empty()).count() as u64;
    match &watch.statistic {
        Statistic::Rate(_) => (failed, calls, (calls > 0).then(|| failed as f64 / calls as f64)),
        Statistic::Count(_) => (failed, calls, Some(failed as f64)),
        Statistic::Volume => (calls, calls, Some(calls as f64)),
        Statistic::Mean(_) => (timed, timed, (timed > 0).then(|| latencies.iter().sum::<u64>() as f64 / timed as f64)),
        Statistic::Sum(_) => (timed, timed, Some(latencies.iter().sum::<u64>() as f64)),
        Statistic::Distinct(_) => (of_users, of_users, Some(by_user.len() as f64)),
        Statistic::Top(..) => (of_users, of_users, by_user.values().max().map(|most| *most as f64)),
        Statistic::Quantile(_, q) => {
            let mut buckets = Buckets::default();
            latencies.iter().for_each(|latency| buckets.record(*latency));
            let value = Quantiles::new().of(&buckets, [*q]).map(|[value]| value as f64);
            if let Some(value) = value {
                let exact = latencies[((q * latencies.len() as f64).ceil() as usize).max(1) - 1] as f64;
                assert!((exact..=exact * 1.01 + 1.0).contains(&value), "{value} for {exact}");
            }
            (timed, timed, value)
        }
        Statistic::Ratio { .. } => panic!("it is compared with its parts"),
    }
}

/// What a rule saw is what a sum over the calls themselves says.
fn compare(seed: u64, plan: &Plan, counted: &[Call], asked: &CheckRequest) {
    let rule = &plan.rules[asked.rule];
    let held = |watch: &Watch, stage: &str| -> Vec<&Call> {
        let (from, to) = (edge(asked.at, watch.reach()), edge(asked.at, watch.offset));
        let inside = |call: &&Call| call.stage == stage && call.slice >= from && (watch.offset == Span::ZERO || call.slice < to);
        counted.iter().filter(inside).collect()
    };
    // A group is looked at when any of its windows that end now holds anything.
    let stages: BTreeSet<_> = counted.iter().map(|call| call.stage).collect();
    let says = |watch: &Watch, stage: &str| !watch.part && watch.statistic.counts() && expected(watch, &held(watch, stage)).1 > 0;
    let heard = stages.into_iter().filter(|stage| rule.watches.iter().any(|watch| says(watch, stage)));
    let heard: Vec<_> = heard.map(|stage| vec![stage.to_owned()]).collect();
    assert_eq!(asked.groups.iter().map(|group| group.labels.clone()).collect::<Vec<_>>(), heard, "seed {seed}: groups at {}", asked.at);
    for group in &asked.groups {
        for (watch, seen) in rule.watches.iter().zip(&group.observations) {
            let of = |watch: &Watch| expected(watch, &held(watch, &group.labels[0]));
            let (holds, calls, value) = match watch.statistic {
                Statistic::Ratio { above, below, .. } => {
                    let (above, below) = (of(&rule.watches[above]), of(&rule.watches[below]));
                    let value = above.2.zip(below.2).filter(|(_, below)| *below > 0.0).map(|(above, below)| above / below);
                    (above.1, below.1, value.filter(|_| below.1 >= watch.at_least))
                }
                _ => of(watch),
            };
            // What the gauges say is tested with them.
            let ours = Observation { value: value.filter(|_| calls >= watch.at_least), holds, calls, ..seen.clone() };
            assert_eq!(*seen, ours, "seed {seed}: {} of {:?} at {}", watch.name, group.labels, asked.at);
            if let Some(first) = seen.top.first() {
                assert!(seen.top.len() <= 2 && Some(first.value) == seen.value && first.share <= 1.0, "seed {seed}: {:?}", seen.top);
            }
        }
    }
}

/// Streams with gaps of up to `gap_ms` between their calls.
fn windows_hold_what_their_calls_add_up_to(statistics: Vec<WatchSpec>, seeds: u64, gap_ms: u64) -> usize {
    let plan = plan(vec![checked(0, rule("any", &[Key::Stage], statistics))]);
    let mut ticks = 0;
    for seed in 0..seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut machine = Machine::new(plan.clone(), 0);
        let mut counted: Vec<Call> = Vec::new();
        let (mut stamp, mut clock) = (zero(), zero());
        for sequence in 1..400 {
            stamp = stamp + Span::from_millis(if rng.u32(0..40) == 0 { rng.u64(0..gap_ms) } else { rng.u64(0..3_000) });
            let time = stamp - Span::from_millis(if rng.u32(0..4) == 0 { rng.u64(0..70_000) } else { rng.u64(0..2_000) });
            let call = Call {
                slice: time.floor(plan.windows.slice),
                stage: ["a", "b", "c"][rng.usize(0..3)],
                user: ["", "u", "v", "w"][rng.usize(0..4)],
                failed: rng.bool(),
                latency: rng.bool().then(|| rng.u64(0..100_000)),
            };
            let latency = call.latency.map_or(String::new(), |latency| format!(r#","latency_ms":{latency}"#));
            let (status, user) = (if call.failed { 500 } else { 200 }, call.user);
            let payload = format!(
                r#"{{"id":"c","time":{},"model":"m","stage":"{}","user_id":"{user}","status_code":{status}{latency}}}"#,
                time.millis(),
                call.stage
            );
            let mut effects = Vec::new();
            machine.apply(Input::Folded(fold(&plan, [(sequence, stamp, payload.as_bytes())], &Suspensions::default())), &mut effects);
            // Ticks that this call closed do not hold it yet.
            for effect in effects {
                if let Effect::Check(asked) = effect {
                    compare(seed, &plan, &counted, &asked);
                    ticks += 1;
                    let results = asked.groups.iter().map(|_| Checked::Quiet).collect();
                    machine.apply(Input::Checked { environment: asked.environment, at: asked.at, rule: asked.rule, results }, &mut Vec::new());
                }
            }
            clock = if sequence == 1 { time } else { clock.max(time) };
            let sealed = (clock.floor(model::plan::TICK) - plan.windows.lateness).floor(plan.windows.slice);
            if call.slice >= sealed {
                counted.push(call);
            }
        }
        assert_eq!(machine.ledger().in_window, counted.len() as u64, "seed {seed}");
    }
    ticks
}

fn part(of: WatchSpec) -> WatchSpec {
    WatchSpec { part: true, ..of }
}

fn latency() -> model::MeasureRef {
    Measure::LatencyMs.into()
}

#[test]
fn windows_hold_what_the_calls_in_them_add_up_to() {
    let failed = || Statistic::Count(SignalRef::BuiltIn(Signal::Error));
    let statistics = vec![
        watch("rate", rate(Signal::Error), 60),
        watch("p90", Statistic::Quantile(latency(), 0.9), 120),
        watch("mean", Statistic::Mean(latency()), 30),
        watch("volume", Statistic::Volume, 10),
        watch("count", failed(), 40),
        watch("sum", Statistic::Sum(latency()), 60),
        watch("distinct", Statistic::Distinct(Key::User), 60),
        watch("top", Statistic::Top(Key::User, Some(latency()), 2), 60),
        watch("ratio", Statistic::Ratio { above: 9, below: 10, what: "sum of latency_ms per error count".into() }, 60),
        part(WatchSpec { at_least: 0, ..watch("above", Statistic::Sum(latency()), 60) }),
        part(WatchSpec { at_least: 0, ..watch("below", failed(), 60) }),
        part(WatchSpec { offset: Span::from_secs(60), ..watch("earlier", rate(Signal::Error), 60) }),
        part(WatchSpec { offset: Span::from_secs(10), ..watch("just before", Statistic::Top(Key::User, None, 2), 10) }),
    ];
    let ticks = windows_hold_what_their_calls_add_up_to(statistics, 40, 200_000);
    assert!(ticks > 1_000, "only {ticks} ticks");
}

#[test]
fn windows_of_hours_and_days_hold_what_the_calls_in_them_add_up_to() {
    let hours = |hours: u64| hours * 3_600;
    let statistics = vec![
        watch("three hours", rate(Signal::Error), hours(3)),
        watch("a day", Statistic::Quantile(latency(), 0.5), hours(24)),
        watch("a week", Statistic::Sum(latency()), hours(7 * 24)),
        watch("users of a week", Statistic::Distinct(Key::User), hours(7 * 24)),
        part(WatchSpec { offset: Span::from_secs(hours(24)), ..watch("yesterday", rate(Signal::Error), 300) }),
        part(WatchSpec { offset: Span::from_secs(hours(24)), ..watch("yesterday's hours", Statistic::Volume, hours(6)) }),
        part(WatchSpec { offset: Span::from_secs(hours(3)), ..watch("three hours before", rate(Signal::Error), hours(3)) }),
    ];
    let ticks = windows_hold_what_their_calls_add_up_to(statistics, 2, 20_000_000);
    assert!(ticks > 10_000, "only {ticks} ticks");
}
