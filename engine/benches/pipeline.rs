//! Calls per second and core, from bytes to closed windows: parse, signals, rules' filters, fold, merge, ticks. No network, no disk.
//!
//! `cargo bench -p streamgauge --bench pipeline [-- --quick]`. Each figure is also given as a ratio to scanning the same bytes with serde_json
//! (`IgnoredAny`), measured in the same run, so that runs on different machines compare.

use bytes::Bytes;
use fixtures::Traffic;
use machine::{Input, Machine};
use model::plan::{Plan, Windows};
use model::{FalseAlarms, Timestamp};
use std::time::Instant;
use streamgauge::inspect::Inspector;
use streamgauge::source::Envelope;
use streamgauge::suspensions::Suspensions;

const BATCH: usize = 4096;

#[expect(clippy::print_stdout, reason = "a benchmark's answer")]
fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let (calls, rounds) = if quick { (20_000, 3) } else { (200_000, 7) };
    println!("pipeline: {calls} calls a round, medians of {rounds} rounds, one thread, seed 1");
    println!("{:<44} {:>9} {:>12} {:>10} {:>14}", "log", "bytes", "calls/s", "µs/call", "ratio to scan");
    for (name, padding) in [("as generated", None), ("padded to 1,800 bytes", Some(1800))] {
        let traffic = Traffic { padding, variants: 5, calls_per_second: 5000.0, ..Traffic::default() };
        let envelopes: Vec<_> = traffic
            .calls()
            .take(calls)
            .zip(1u64..)
            .map(|(call, sequence)| {
                let stamp = Timestamp::from_millis(call.time_ms).expect("generated times are in range");
                Envelope { sequence, stamp, payload: Bytes::from(call.json) }
            })
            .collect();
        let bytes = envelopes.iter().map(|e| e.payload.len()).sum::<usize>() / calls;
        let rules = rules::load(&rules::library(&["basics".to_owned()]).expect("the pack is shipped"), &rules::Configured::default()).rules;
        let plan = Plan::new(Windows::default(), FalseAlarms::default(), rules.specs());
        let evaluators = evaluators::Evaluators::new(Vec::new(), Vec::new()).expect("nothing to refuse");
        let inspector = Inspector::new(plan.clone(), rules, evaluators);
        let scan = median(rounds, || {
            for envelope in &envelopes {
                let scanned: serde::de::IgnoredAny = serde_json::from_slice(&envelope.payload).expect("generated logs are JSON");
                std::hint::black_box(scanned);
            }
        });
        let parse = median(rounds, || {
            for envelope in &envelopes {
                std::hint::black_box(model::parse(&envelope.payload).expect("generated logs are calls"));
            }
        });
        // As if no call stated its cost; a look-up table for each batch, as when batches are folded.
        let price = median(rounds, || {
            for batch in envelopes.chunks(BATCH) {
                let mut pricing = inspector.prices.pricing();
                for envelope in batch {
                    let mut call = model::parse(&envelope.payload).expect("generated logs are calls");
                    call.cost_nano_usd = None;
                    pricing.price(&mut call);
                    std::hint::black_box(call);
                }
                pricing.finish();
            }
        });
        let fold = median(rounds, || {
            for batch in envelopes.chunks(BATCH) {
                std::hint::black_box(inspector.fold(batch, &Suspensions::default()));
            }
        });
        let all = median(rounds, || {
            let (mut machine, mut effects) = (Machine::new(plan.clone(), 0), Vec::new());
            for batch in envelopes.chunks(BATCH) {
                machine.apply(Input::Folded(inspector.fold(batch, &Suspensions::default()).fold), &mut effects);
                effects.clear();
            }
            std::hint::black_box(machine.position());
        });
        for (step, seconds) in [
            ("scan", scan),
            ("parse into a call", parse),
            ("parse and price", price),
            ("parse, signals, fold", fold),
            ("parse, signals, fold, merge, decide", all),
        ] {
            let each = seconds / calls as f64;
            println!("{:<44} {bytes:>9} {:>12.0} {:>10.3} {:>14.2}", format!("{name}: {step}"), 1.0 / each, each * 1e6, each / (scan / calls as f64));
        }
    }
}

/// Seconds of the median round, after one to warm up.
fn median(rounds: usize, mut round: impl FnMut()) -> f64 {
    round();
    let mut seconds: Vec<_> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[rounds / 2]
}
