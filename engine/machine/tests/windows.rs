//! What windows hold at every tick, and what becomes of alerts: calls in, what the rules saw and what people are told out.

#[path = "simulation/rules.rs"]
mod rules;

use model::plan::{NoData, Plan, RuleSpec, Statistic, Windows};
use model::window::{Checked, Fire, Observation};
use model::{Buckets, Key, Measure, Quantiles, Signal, Span, Timestamp};
use rules::{checked, expect, fold, held, no_data, rate, rule, watch};
use std::collections::BTreeMap;
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

fn plan(specs: Vec<RuleSpec>) -> Plan {
    Plan::new(Windows::default(), specs)
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
        let folded = fold(self.machine.plan(), batch);
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
                Effect::Check(asked) if self.hold_checks => self.asked.push(asked),
                Effect::Check(asked) => self.answer(asked),
            }
        }
    }

    /// A check that fires when half of the calls failed, and fails itself when all did.
    fn answer(&mut self, asked: CheckRequest) {
        let results = asked.groups.iter().map(|group| {
            let seen = group.observations[0];
            match seen.holds * 2 {
                failed if seen.calls > 0 && failed == seen.calls * 2 => Checked::Failed("all failed".to_owned()),
                failed if seen.calls > 0 && failed >= seen.calls => {
                    Checked::Fire(Fire { summary: format!("{} of {}", seen.holds, seen.calls), severity: None })
                }
                _ => Checked::Quiet,
            }
        });
        let results = results.collect();
        self.apply(Input::Checked { environment: asked.environment, at: asked.at, rule: asked.rule, results });
    }

    fn restart(&mut self, plan: Plan) {
        let start = Start::decode(&self.machine.snapshot()).expect("it was just written");
        let needs = start.needs(&plan);
        let needed = |block: &&SliceBlock| needs.iter().any(|(name, from, to)| block.environment == *name && (*from..*to).contains(&block.start));
        let blocks = self.sealed.values().filter(needed).cloned().collect();
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
    // Ticks end at 10s (breach) and 20s (clear, because the window is then 20 times as full); then nothing.
    let script = "
        1s stage=a error x2
        1s stage=a
        11s stage=a x40
        21s stage=a
        31s stage=a";
    let specs = || plan(vec![errors(), any_check()]);
    let expected = [
        "10s fired errors[a]: error rate 67 % is above the expected 0 % to 20 % (#2 #1)",
        "10s fired check[a]: 2 of 3 (#2 #1)",
        "20s resolved errors[a]: error rate 67 % is above the expected 0 % to 20 % (#2 #1)",
        "20s resolved check[a]: 2 of 3 (#2 #1)",
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
    let expected = ["10s fired errors[a]: error rate 100 % is above the expected 0 % to 20 % (#6 #5 #4)"];
    check(plan(vec![errors()]), &format!("{script}\n11s stage=a"), &expected);
    check(plan(vec![errors()]), &format!("{script}\nrestart\n11s stage=a"), &expected);
}

#[test]
fn examples_lie_in_the_window() {
    // The error at 1s left the window of the tick that ends at 1m10s.
    check(
        plan(vec![held(60, 0, errors())]),
        "
        1s stage=a error
        1m1s stage=a error
        1m11s stage=a",
        &["1m10s fired errors[a]: error rate 100 % is above the expected 0 % to 20 % (#2)"],
    );
}

#[test]
fn a_plan_with_a_longer_window_takes_back_groups_that_were_forgotten() {
    let quick = || plan(vec![errors()]);
    let slow = || plan(vec![rule("slow", &[Key::Stage], vec![watch("w", rate(Signal::Error), 7200)])]);
    let mut play = Play::new(quick());
    // `a` is forgotten at 1h10m, and comes back from its sealed slice.
    play.play("1s stage=a\n10m stage=b\n20m stage=b\n1h20m stage=b");
    assert_eq!(play.machine.series().collect::<Vec<_>>(), [("default", 1, 20)]);
    play.restart(slow());
    assert_eq!(play.machine.series().collect::<Vec<_>>(), [("default", 2, 40)]);
    // It leaves the window and is forgotten again.
    play.play("3h stage=b\n5h stage=b");
    assert_eq!(play.machine.series().collect::<Vec<_>>(), [("default", 1, 20)]);
}
