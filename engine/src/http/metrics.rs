//! `GET /metrics`: streamgauge's own numbers in Prometheus' text format (version 0.0.4). Base units, `_total` on counters, no user's name in a label.

use super::{App, Problem};
use crate::durations::Seen;
use crate::judging::Shown;
use crate::slack::token::Standing as TokenStanding;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use machine::{Ledger, RuleStanding};
use model::verdict::Skip;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let outbox = app.store.ask(|db| db.outbox()).await?;
    let judges = app.judges.judges();
    let (ledger, position, waiting, series, firing, standings, suspended, judging, runs) = app
        .reader
        .ask(|machine| {
            let series: Vec<_> = machine.series().map(|(name, groups, series)| (name.to_owned(), groups, series)).collect();
            let mut firing = std::collections::BTreeMap::<String, u64>::new();
            machine.plan().rules.iter().for_each(|rule| {
                firing.insert(rule.name.clone(), 0);
            });
            for view in machine.alerts().filter(|view| view.alert.state != machine::State::Pending) {
                *firing.entry(view.rule.name.clone()).or_default() += 1;
            }
            let name = |at: usize| machine.plan().rules[at].name.clone();
            let suspended: Vec<_> = machine.suspended().map(|it| (it.environment.clone(), name(it.rule), it.of.name())).collect();
            let judging: Vec<_> = machine.judging().map(|(judge, waiting)| (judge.to_owned(), waiting)).collect();
            let runs: Vec<_> = machine.open_runs().map(|(name, open)| (name.to_owned(), open)).collect();
            (machine.ledger().clone(), machine.position(), machine.waiting(), series, firing, machine.rules(), suspended, judging, runs)
        })
        .await?;
    let mut page = Page(String::with_capacity(4096));
    page.one("received_total", "counter", "Logs read from the stream.", ledger.received);
    page.one("counted_total", "counter", "Logs counted as calls.", ledger.counted);
    page.head("malformed_total", "counter", "Logs that are no calls, by reason.");
    for reason in model::wire::Reason::ALL {
        page.line("malformed_total", &[("reason", reason.name())], ledger.malformed_by.get(&reason).copied().unwrap_or(0) as f64);
    }
    page.one("joined_total", "counter", "Attempts folded into their operation.", ledger.joined);
    page.one("in_window_total", "counter", "Calls counted in their slice.", ledger.in_window);
    page.one("late_total", "counter", "Calls that came after their slice was sealed.", ledger.late);
    page.one("future_total", "counter", "Event times pulled back to the server's stamp.", ledger.future);
    page.one("missed_total", "counter", "Sequences gone from the stream before they were read.", ledger.missed);
    page.one("series_overflow_total", "counter", "Calls counted under (other) for lack of series.", ledger.overflowed);
    page.one(
        "run_calls_unmeasured_total",
        "counter",
        "Calls whose run is not measured, or not whole, because too many runs were open.",
        ledger.run_calls_unmeasured,
    );
    page.head("open_runs", "gauge", "Runs that are open, by environment; none where no rule watches runs.");
    for (environment, open) in &runs {
        page.line("open_runs", &[("environment", environment)], *open as f64);
    }
    page.head("rule_failures_total", "counter", "Times a rule's script failed, by rule and function.");
    for (rule, count) in &ledger.script_failures {
        page.line("rule_failures_total", &[("rule", rule), ("on", "call")], *count as f64);
    }
    for (rule, count) in &ledger.check_failures {
        page.line("rule_failures_total", &[("rule", rule), ("on", "check")], *count as f64);
    }
    page.head("script_suspended", "gauge", "Scripts that used up their budget too often and are not run at the moment.");
    for (environment, rule, on) in &suspended {
        page.line("script_suspended", &[("environment", environment), ("rule", rule), ("on", on)], 1.0);
    }
    page.head("rules_failed", "gauge", "Whether a file of rules has a mistake or cannot be read, by file; its last good version goes on.");
    for standing in app.rules.files() {
        page.line("rules_failed", &[("file", &standing.file)], f64::from(u8::from(standing.problem.is_some())));
    }
    page.head("rules_reloads_total", "counter", "Changes of the rules' files that settled, by what came of them.");
    for (outcome, count) in app.rules.reloads() {
        page.line("rules_reloads_total", &[("outcome", outcome.name())], count as f64);
    }
    page.one("stream_position", "gauge", "Stream sequence of the last log counted.", position);
    page.atomic("committed_position", "gauge", "Stream sequence of the last snapshot.", &app.pulse.committed);
    page.atomic("stream_lag_messages", "gauge", "Messages in the stream behind the last one read.", &app.pulse.pending);
    page.one("waiting_ticks", "gauge", "Closed ticks that wait for a rule's answer.", waiting as u64);
    page.head("series", "gauge", "Series kept, by environment.");
    for (environment, _, series) in &series {
        page.line("series", &[("environment", environment)], f64::from(*series));
    }
    page.head("groups", "gauge", "Groups kept, by environment.");
    for (environment, groups, _) in &series {
        page.line("groups", &[("environment", environment)], *groups as f64);
    }
    page.head("alerts_firing", "gauge", "Alerts firing, by rule.");
    for (rule, count) in &firing {
        page.line("alerts_firing", &[("rule", rule)], *count as f64);
    }
    for (name, help, count) in [
        ("gauges", "Groups and roll-ups that are gauged, by environment and rule.", (|standing| standing.gauged) as fn(&RuleStanding) -> usize),
        ("gauges_learning", "Of them, those whose range is still learned.", |standing| standing.learning),
        ("gauges_firing", "Of them, those outside their range; people are told of the coarsest.", |standing| standing.firing),
    ] {
        page.head(name, "gauge", help);
        for standing in &standings {
            page.line(name, &[("environment", &standing.environment), ("rule", &standing.rule)], count(standing) as f64);
        }
    }
    page.judges(&ledger, &judging, &judges);
    page.head("outbox_rows", "gauge", "Notifications in the outbox, by state.");
    for (state, count) in ["waiting", "sent", "failed"].iter().zip(outbox) {
        page.line("outbox_rows", &[("state", state)], count as f64);
    }
    page.atomic("notifications_sent_total", "counter", "Notifications delivered.", &app.deliveries.sent);
    page.atomic("notifications_retried_total", "counter", "Deliveries that were put off.", &app.deliveries.retried);
    page.atomic("notifications_rate_limited_total", "counter", "Deliveries that Slack rate-limited.", &app.deliveries.rate_limited);
    page.atomic("notifications_failed_total", "counter", "Notifications given up.", &app.deliveries.failed);
    page.atomic(
        "notifications_rerouted_total",
        "counter",
        "Notifications that their channel did not take and that went to the fallback channel.",
        &app.deliveries.rerouted,
    );
    let refused = app.slack_token.as_ref().is_some_and(|token| token.state().state == TokenStanding::Refused);
    page.one("slack_token_refused", "gauge", "1 while Slack does not take the bot token: nobody is told anything there.", u64::from(refused));
    page.atomic(
        "notifications_possible_repeats_total",
        "counter",
        "Notifications delivered that may have been delivered before.",
        &app.deliveries.possible_repeats,
    );
    page.head("call_costs_total", "counter", "Calls looked at since the start, by where their cost is from, or why they have none.");
    for (outcome, calls) in app.prices.heard().outcomes() {
        page.line("call_costs_total", &[("cost", outcome)], calls as f64);
    }
    page.head("kept_calls_total", "counter", "Calls that rules keep, by dataset and what became of them.");
    for (dataset, tally) in app.datasets.tallies() {
        for (outcome, calls) in [("published", tally.published), ("over", tally.over), ("missed", tally.missed)] {
            page.line("kept_calls_total", &[("dataset", &dataset), ("outcome", outcome)], calls as f64);
        }
    }
    page.index(&app);
    page.atomic("batches_total", "counter", "Batches folded.", &app.pulse.batches);
    let pulse = &app.pulse;
    let stages = [("read", &pulse.read), ("fold", &pulse.fold), ("apply", &pulse.apply), ("check", &pulse.check), ("snapshot", &pulse.snapshot)];
    page.head("stage_seconds", "histogram", "How long each stage of the work takes: batches read, folded and applied, rules checked, snapshots.");
    for (stage, durations) in stages {
        page.histogram("stage_seconds", &[("stage", stage)], &durations.seen());
    }
    page.head("notification_latency_seconds", "histogram", "From the decision to tell something to its receipt.");
    page.histogram("notification_latency_seconds", &[], &app.deliveries.latency.seen());
    page.atomic("snapshots_total", "counter", "Snapshots written.", &app.pulse.snapshots);
    page.atomic("snapshot_bytes", "gauge", "Size of the last snapshot.", &app.pulse.snapshot_bytes);
    page.head("last_call_timestamp_seconds", "gauge", "Server's stamp of the last call.");
    page.line("last_call_timestamp_seconds", &[], app.pulse.last_stamp.load(Ordering::Relaxed) as f64 / 1000.0);
    if let Some(bytes) = resident() {
        page.one("resident_memory_bytes", "gauge", "Memory that the process has at the moment.", bytes);
    }
    page.head("build_info", "gauge", "1, with the version.");
    page.line("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0).into_response())
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP streamgauge_{name} {help}\n# TYPE streamgauge_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(key, label)| format!("{key}=\"{}\"", escaped(label))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "streamgauge_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(name, &[], value as f64);
    }

    /// Chosen calls partition into the outcomes and those that wait.
    fn judges(&mut self, ledger: &Ledger, waiting: &[(String, usize)], shown: &[Shown]) {
        self.head("judge_chosen_total", "counter", "Calls chosen for a judge.");
        for (judge, judged) in &ledger.judged {
            self.line("judge_chosen_total", &[("judge", judge)], judged.chosen as f64);
        }
        self.head("judge_calls_total", "counter", "Chosen calls by what became of them.");
        for (judge, judged) in &ledger.judged {
            let skipped = judged.skipped.values().sum();
            let outcomes = [
                ("pass", judged.passed),
                ("fail", judged.failed),
                ("unreadable", judged.unreadable),
                ("errored", judged.errored),
                ("skipped", skipped),
            ];
            for (outcome, count) in outcomes {
                self.line("judge_calls_total", &[("judge", judge), ("outcome", outcome)], count as f64);
            }
        }
        self.head("judge_skipped_total", "counter", "Chosen calls that were not judged, by reason.");
        for (judge, judged) in &ledger.judged {
            for skip in Skip::ALL {
                let count = judged.skipped.get(&skip).copied().unwrap_or(0);
                self.line("judge_skipped_total", &[("judge", judge), ("reason", skip.name())], count as f64);
            }
        }
        self.head("judge_cost_usd_total", "counter", "What the verdicts that were counted cost, at list prices.");
        for (judge, judged) in &ledger.judged {
            self.line("judge_cost_usd_total", &[("judge", judge)], judged.cost_nano_usd as f64 / 1e9);
        }
        self.head("judge_waiting", "gauge", "Chosen calls without a verdict.");
        for (judge, waiting) in waiting {
            self.line("judge_waiting", &[("judge", judge)], *waiting as f64);
        }
        self.head("judge_spent_hour_usd", "gauge", "What a judge has spent or reserved in this hour (UTC).");
        for judge in shown {
            self.line("judge_spent_hour_usd", &[("judge", &judge.judge)], judge.spent_hour_usd);
        }
        self.head("judge_spend_left_usd", "gauge", "What a judge may still spend in this hour and day; none without a cap.");
        for judge in shown {
            if let Some(left) = judge.left_usd {
                self.line("judge_spend_left_usd", &[("judge", &judge.judge)], left);
            }
        }
        self.head("judge_state", "gauge", "Whether a judge is asked, rests after failures, or is tried with one call.");
        for judge in shown {
            for state in ["asking", "resting", "probing"] {
                self.line("judge_state", &[("judge", &judge.judge), ("state", state)], f64::from(u8::from(judge.state == state)));
            }
        }
    }

    fn index(&mut self, app: &App) {
        let indexed = &app.calls.indexed;
        let reader = indexed.reader();
        let position = reader.position();
        let behind = app.pulse.position.load(Ordering::Relaxed).saturating_sub(position);
        self.one("index_position", "gauge", "Stream sequence up to which calls can be found.", position);
        self.one("index_behind_messages", "gauge", "Messages that are counted and cannot be found yet.", behind);
        self.head("index_freshness_seconds", "gauge", "How much older the last call that can be found is than the last one counted.");
        self.line("index_freshness_seconds", &[], super::calls::freshness(app, behind));
        self.one("index_filling", "gauge", "Whether the index reads the stream again.", u64::from(indexed.filling.load(Ordering::Relaxed)));
        self.one("index_calls", "gauge", "Calls that can be found.", reader.calls());
        self.one("index_bytes", "gauge", "Bytes of the index.", reader.bytes());
        self.atomic("index_missed_total", "counter", "Calls that were gone before they could be indexed.", &indexed.missed);
        self.atomic("index_refused_total", "counter", "Times that the index could not be written.", &indexed.refused);
    }

    fn atomic(&mut self, name: &str, kind: &str, help: &str, value: &AtomicU64) {
        self.one(name, kind, help, value.load(Ordering::Relaxed));
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], seen: &Seen) {
        let bucket = format!("{name}_bucket");
        for (upto, count) in &seen.buckets {
            let upto = upto.to_string();
            self.line(&bucket, &[labels, &[("le", upto.as_str())]].concat(), *count as f64);
        }
        self.line(&bucket, &[labels, &[("le", "+Inf")]].concat(), seen.count as f64);
        self.line(&format!("{name}_sum"), labels, seen.seconds);
        self.line(&format!("{name}_count"), labels, seen.count as f64);
    }
}

/// Where the system says it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
