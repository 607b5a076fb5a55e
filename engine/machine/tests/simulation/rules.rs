//! Rules as specs, written short, and payloads folded as the edge folds them.

use model::call::ResponseFormat;
use model::fold::{ScriptView, event_time};
use model::plan::{Decides, Filter, NoData, Range, Rule, RuleSpec, Script, Severity, SignalRef, Statistic, WatchSpec, Windows, fingerprint};
use model::run::{RunMeasure, RunSignal};
use model::signal::{Findings, Signals, has_text_answer, json_answer, signals};
use model::verdict::{Judge, JudgeRequest, Outcome, Sampling, Skip, Verdict, VerdictSignal};
use model::window::{Checked, Fire};
use model::{CallLog, FalseAlarms, Folder, Inspected, Key, Measure, MeasureRef, Plan, Signal, Span, Suspension, Timestamp};
use std::collections::BTreeMap;
use streamgauge_machine::{CheckRequest, Input, Suspended, Suspends};

pub fn watch(name: &str, statistic: Statistic, window: u64) -> WatchSpec {
    let at_least = u64::from(statistic != Statistic::Volume);
    WatchSpec { at_least, ..WatchSpec::new(name, statistic, Span::from_secs(window)) }
}

pub fn rate(signal: Signal) -> Statistic {
    Statistic::Rate(SignalRef::BuiltIn(signal))
}

pub fn expect(low: f64, high: f64, watch: WatchSpec) -> WatchSpec {
    WatchSpec { expect: Some(Range { low, high }), ..watch }
}

/// A rule that fires by its ranges, at once, and ends at once.
pub fn rule(name: &str, group_by: &[Key], watches: Vec<WatchSpec>) -> RuleSpec {
    let rule = Rule { group_by: group_by.to_vec(), ..Rule::new(name) };
    RuleSpec { rule, watches, applies: Filter::default(), script: None }
}

/// The same rule, but decided by its own `check`.
pub fn checked(slot: usize, mut spec: RuleSpec) -> RuleSpec {
    spec.rule.decides = Decides::Check(slot);
    spec
}

pub fn held(hold: u64, keep_firing: u64, mut spec: RuleSpec) -> RuleSpec {
    (spec.rule.hold, spec.rule.keep_firing) = (Span::from_secs(hold), Span::from_secs(keep_firing));
    spec
}

pub fn no_data(no_data: NoData, mut spec: RuleSpec) -> RuleSpec {
    spec.rule.no_data = no_data;
    spec
}

/// What an edge has heard of suspended scripts, by environment and slot.
#[derive(Clone, Debug, Default)]
pub struct Suspensions(BTreeMap<(String, usize), Suspension>);

impl Suspensions {
    pub fn hear(&mut self, suspended: &Suspended) {
        if let Suspends::Calls { slot } = suspended.of {
            self.0.insert((suspended.environment.clone(), slot), Suspension { until: suspended.until });
        }
    }

    fn run(&self, slot: usize, environment: &str, sequence: u64, time: Timestamp) -> bool {
        self.0.get(&(environment.to_owned(), slot)).is_none_or(|suspension| suspension.runs_on(sequence, time))
    }
}

/// The slots of scripts that see calls: one that has bad minutes, and one that fails now and then.
const SCRIPTS: [usize; 2] = [3, 4];

/// What they say: functions of the call alone.
fn view(slot: usize, call: &CallLog<'_>) -> ScriptView {
    let number = |what: &str| fingerprint(&[what, &slot.to_string()]) >> 20;
    let minute = number(&call.time.floor(Span::from_secs(120)).to_string());
    let id = number(&call.id);
    let exhausted = slot == SCRIPTS[0] && minute.is_multiple_of(3) && id.is_multiple_of(2);
    if exhausted || id % 31 == 7 {
        return ScriptView { slot, failed: true, exhausted, ..ScriptView::default() };
    }
    let signals = Signals { applies: 1, holds: u32::from(id % 5 == 1) };
    ScriptView { slot, applies: call.stage.as_deref() != Some("retrieval"), signals, ..ScriptView::default() }
}

/// Parses, inspects and adds one payload.
pub fn add(folder: &mut Folder<'_>, sequence: u64, stamp: Timestamp, payload: &[u8], suspensions: &Suspensions, plan: &Plan) {
    match model::parse(payload) {
        Err(malformed) => folder.malformed(sequence, malformed.reason),
        Ok(call) => {
            let judged = call.response_format != ResponseFormat::Text && has_text_answer(&call);
            let json = judged.then(|| json_answer(&call.output.text().unwrap_or_default(), false).0);
            let signals = signals(&call, &Findings { json, ..Findings::default() });
            let measures = Measure::ALL.map(|measure| measure.of(&call));
            let (environment, time) = (call.environment.as_ref(), event_time(&call, stamp));
            let slots = SCRIPTS.into_iter().filter(|slot| plan.groupings.iter().any(|grouping| grouping.script.is_some_and(|it| it.slot == *slot)));
            let run = |slot: &usize| suspensions.run(*slot, environment, sequence, time) && folder.runs(*slot, environment, sequence, time);
            let scripts: Vec<_> = slots.filter(run).map(|slot| view(slot, &call)).collect();
            folder.add(sequence, stamp, &Inspected { call: &call, signals, measures, scripts: &scripts });
        }
    }
}

/// One batch by an edge that has heard of `suspensions`: sequence, server's stamp and payload of each log.
pub fn fold<'b>(plan: &Plan, batch: impl IntoIterator<Item = (u64, Timestamp, &'b [u8])>, suspensions: &Suspensions) -> model::Fold {
    let mut folder = Folder::new(plan);
    batch.into_iter().for_each(|(sequence, stamp, payload)| add(&mut folder, sequence, stamp, payload, suspensions, plan));
    folder.finish()
}

/// Every kind of rule, and few series, so that worlds overflow them.
pub fn every_kind_of_rule() -> Plan {
    let provider_json = WatchSpec { only: only(Key::Stage, "extraction"), ..watch("bad", rate(Signal::InvalidJson), 60) };
    let at_least = |at_least, watch| WatchSpec { at_least, ..watch };
    let synthesis = WatchSpec { only: only(Key::Stage, "synthesis"), ..watch("calls", rate(Signal::Error), 120) };
    let mut silence = no_data(NoData::Alert, rule("silence", &[Key::Provider], vec![synthesis]));
    silence.rule.environments = vec!["production".to_owned()];
    let part = |offset, watch| WatchSpec { part: true, at_least: 0, offset: Span::from_secs(offset), ..watch };
    let mut seldom = checked(
        2,
        rule(
            "seldom",
            &[Key::Stage],
            vec![
                watch("tokens", Statistic::Sum(Measure::OutputTokens.into()), 120),
                watch("users", Statistic::Distinct(Key::User), 120),
                watch("heaviest", Statistic::Top(Key::User, Some(Measure::InputTokens.into()), 3), 120),
                watch("tokens per error", Statistic::Ratio { above: 4, below: 5, what: "tokens per error".to_owned() }, 60),
                part(0, watch("above", Statistic::Sum(Measure::OutputTokens.into()), 60)),
                part(0, watch("below", Statistic::Count(SignalRef::BuiltIn(Signal::Error)), 60)),
                part(120, watch("users before", Statistic::Distinct(Key::User), 120)),
            ],
        ),
    );
    seldom.rule.every = Span::from_secs(30);
    seldom.rule.repeat = Some(Span::from_secs(60));
    seldom.rule.inhibit_by = vec!["busy".to_owned()];
    let mut heavy_runs = checked(
        2,
        rule(
            "heavy runs",
            &[],
            vec![
                watch("users", Statistic::Top(Key::User, Some(MeasureRef::Run(RunMeasure::Calls)), 3), 120),
                WatchSpec { only: only(Key::Service, "service-1"), ..watch("fallbacks", Statistic::Count(SignalRef::Run(RunSignal::Fallback)), 120) },
            ],
        ),
    );
    heavy_runs.rule.every = Span::from_secs(60);
    let specs = vec![
        rule("errors", &[Key::Stage], vec![at_least(5, expect(0.0, 0.2, watch("errors", rate(Signal::Error), 60)))]),
        held(30, 60, rule("fallbacks", &[Key::Provider, Key::Model], vec![expect(0.0, 0.1, watch("fallbacks", rate(Signal::Fallback), 120))])),
        no_data(NoData::Ok, rule("json", &[Key::Provider], vec![expect(0.0, 0.3, provider_json)])),
        held(10, 0, rule("users", &[Key::User], vec![at_least(3, expect(0.0, 0.4, watch("errors", rate(Signal::Error), 120)))])),
        held(0, 20, rule("slow", &[Key::Model], vec![expect(0.0, 4_000.0, watch("p95", Statistic::Quantile(Measure::LatencyMs.into(), 0.95), 60))])),
        no_data(NoData::Ok, held(20, 0, rule("volume", &[], vec![expect(8.0, 1e9, watch("calls", Statistic::Volume, 60))]))),
        no_data(
            NoData::Ok,
            held(
                10,
                30,
                checked(
                    0,
                    rule(
                        "judged",
                        &[Key::Stage],
                        vec![watch("errors", rate(Signal::Error), 60), watch("mean", Statistic::Mean(Measure::InputTokens.into()), 120)],
                    ),
                ),
            ),
        ),
        checked(
            1,
            rule(
                "busy",
                &[Key::Provider],
                vec![watch("calls", Statistic::Volume, 30), watch("slow", Statistic::Mean(Measure::LatencyMs.into()), 30)],
            ),
        ),
        rule("opinions", &[Key::Stage, Key::Model], vec![watch("bad", opinion("quality"), 300)]),
        checked(
            1,
            rule(
                "judges",
                &[Key::Judge],
                vec![watch("errors", Statistic::Rate(SignalRef::Verdict(VerdictSignal::Errored, "judge_errored".into())), 60)],
            ),
        ),
        seldom,
        heavy_runs,
        silence,
        rule(
            "runs",
            &[Key::Service],
            vec![
                at_least(5, expect(0.0, 0.5, watch("failed", Statistic::Rate(SignalRef::Run(RunSignal::Error)), 60))),
                expect(0.0, 3_000.0, watch("slow", Statistic::Quantile(MeasureRef::Run(RunMeasure::LatencyMs), 0.9), 120)),
            ],
        ),
        scripted(3, rule("bad minutes", &[Key::Stage], vec![at_least(5, expect(0.0, 0.25, watch("own", rate_of_own(), 60)))])),
        scripted(4, rule("own", &[Key::Provider], vec![expect(0.0, 0.3, watch("own", rate_of_own(), 30)), watch("calls", Statistic::Volume, 60)])),
    ];
    let often = FalseAlarms::parse("1000 per hour").expect("it is written as it should be");
    let judge =
        |name: &str, fingerprint, sampling| Judge { name: name.into(), fingerprint, applies: Filter::default(), environments: Vec::new(), sampling };
    let few = Sampling { rate: 0.5, per_minute: 6, by: vec![Key::Stage], always: vec![Signal::InvalidJson], ..Sampling::default() };
    let many = Sampling { rate: 1.0, per_minute: 60, ..Sampling::default() };
    Plan::new(Windows { series_max: 900, ..Windows::default() }, often, specs).judged_by(vec![judge("quality", 1, many), judge("relevance", 2, few)])
}

/// The share of a judge's opinions that are fail.
pub fn opinion(judge: &str) -> Statistic {
    Statistic::Rate(SignalRef::Verdict(VerdictSignal::Failed, format!("judge:{judge}")))
}

/// What becomes of a chosen call: a function of the request alone.
pub fn judge(request: &JudgeRequest) -> Verdict {
    let outcome = match request.sequence % 7 {
        0 | 1 => Outcome::Fail,
        2 => Outcome::Errored,
        3 => Outcome::Skipped(Skip::Expired),
        _ => Outcome::Pass,
    };
    let latency_ms = (!matches!(outcome, Outcome::Skipped(_))).then_some(request.sequence % 1000);
    let (judge, environment) = (request.judge.clone(), request.environment.clone());
    let (fingerprint, sequence) = (request.fingerprint, request.sequence);
    Verdict { judge, fingerprint, environment, sequence, outcome, score: None, latency_ms, cost_nano_usd: 7, wait_ms: 1 }
}

fn scripted(slot: usize, spec: RuleSpec) -> RuleSpec {
    RuleSpec { script: Some(Script { slot, fingerprint: spec.rule.fingerprint }), ..spec }
}

fn rate_of_own() -> Statistic {
    Statistic::Rate(SignalRef::User("own".to_owned(), 0))
}

fn only(key: Key, value: &str) -> Filter {
    Filter(vec![(key, vec![value.to_owned()])])
}

/// What the rules of [`every_kind_of_rule`] answer: functions of the view alone, and sometimes failing.
pub fn answer(plan: &Plan, asked: &CheckRequest) -> Input {
    let results = asked.groups.iter().map(|group| {
        let first = &group.observations[0];
        let fire = |severity| Checked::Fire(Fire { summary: format!("{} of {}", first.holds, first.calls), severity, labels: Vec::new() });
        match plan.rules[asked.rule].decides {
            _ if first.calls % 13 == 7 => Checked::Failed("thirteen".to_owned()),
            Decides::Check(2) if first.calls % 4 == 1 => Checked::Exhausted("four".to_owned()),
            Decides::Check(0) if first.value.is_some_and(|value| value > 0.6) => fire(Some(Severity::Critical)),
            Decides::Check(0) if first.value.is_some_and(|value| value > 0.2) => fire(None),
            Decides::Check(1) if first.calls > 60 => fire(Some(Severity::Info)),
            // Whatever it sees that differs shows in what it says.
            Decides::Check(2) if first.calls % 3 != 0 => Checked::Fire(Fire { summary: format!("{:?}", group.observations), ..Fire::default() }),
            _ => Checked::Quiet,
        }
    });
    let results = results.collect();
    Input::Checked { environment: asked.environment.clone(), at: asked.at, rule: asked.rule, results }
}
