//! A week of short calls with four incidents whose rule, group and time are known: what a back-test reads, and what the other measures fold.
//!
//! Compact and fast rather than rich: a log is at most [`LOG_MAX_BYTES`] and takes less than a microsecond to write. `fixtures::Traffic` is the rich one.

use model::Timestamp;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

pub const LOG_MAX_BYTES: usize = 400;
/// Tenants `t0` to `t99`, evenly: each has one call in a hundred.
pub const TENANTS: u32 = 100;

/// 2026-01-05T00:00:00Z, a Monday.
const START_MS: i64 = 1_767_571_200_000;
const HOUR_MS: i64 = 3_600_000;
/// Of each stage: its name, and whether its answers are to be JSON.
const STAGES: [(&str, bool); 4] = [("extraction", true), ("classification", true), ("synthesis", false), ("summary", false)];
/// Provider, its model, and who answers in its place.
const PROVIDERS: [(&str, &str, usize); 3] = [("openai", "gpt-4o-mini", 1), ("anthropic", "claude-haiku-4-5", 2), ("google", "gemini-2.5-flash", 0)];

/// Chances of a healthy call.
const HEALTHY: Chances = Chances { error: 0.004, retry: 0.012, fallback: 0.006, invalid_json: 0.004, truncated: 0.003 };

#[derive(Clone, Copy)]
struct Chances {
    error: f64,
    retry: f64,
    fallback: f64,
    invalid_json: f64,
    truncated: f64,
}

/// How many calls over how long.
#[derive(Clone, Copy)]
pub struct Week {
    pub seed: u64,
    pub calls: u64,
    hours: i64,
    incidents: [Incident; 4],
}

/// One thing that goes wrong for a while, for one stage or provider or both.
#[derive(Clone, Copy)]
struct Incident {
    rule: &'static str,
    stage: Option<usize>,
    provider: Option<usize>,
    change: fn(&mut Chances),
    /// Hours after the start.
    from: f64,
    hours: f64,
}

impl Week {
    /// 10 million calls of seven days, or 300,000 of twelve hours.
    pub fn new(quick: bool, seed: u64) -> Self {
        let (calls, hours, starts) = if quick { (300_000, 12, [5.0, 7.0, 8.5, 10.5]) } else { (10_000_000, 168, [58.0, 86.0, 105.5, 140.0]) };
        let incident = |at: usize, rule, stage, provider, hours, change| Incident { rule, stage, provider, change, from: starts[at], hours };
        let incidents = [
            incident(0, "fallback-rate", Some(2), None, 0.75, |chances: &mut Chances| chances.fallback = 0.12),
            incident(1, "invalid-json-rate", Some(0), Some(1), 1.0, |chances: &mut Chances| chances.invalid_json = 0.1),
            incident(2, "retry-rate", None, Some(2), 0.75, |chances: &mut Chances| chances.retry = 0.12),
            incident(3, "truncation", Some(3), Some(0), 0.5, |chances: &mut Chances| chances.truncated = 0.15),
        ];
        Self { seed, calls, hours, incidents }
    }

    /// The logs in order of time, each with its time in milliseconds since the epoch.
    pub fn logs(self) -> impl Iterator<Item = (i64, String)> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mean_gap_ms = (self.hours * HOUR_MS) as f64 / self.calls as f64;
        let mut elapsed_ms = 0.0;
        (0..self.calls).map(move |number| {
            // Nights are quiet, afternoons are busy; over a day it comes out even.
            let of_day = elapsed_ms / (24 * HOUR_MS) as f64;
            let shape = 1.0 - 0.6 * (of_day * std::f64::consts::TAU).cos();
            elapsed_ms += -(1.0 - rng.f64()).ln() * mean_gap_ms / shape;
            let time = START_MS + elapsed_ms as i64;
            (time, self.log(number, time, elapsed_ms / HOUR_MS as f64, &mut rng))
        })
    }

    fn log(&self, number: u64, time: i64, hour: f64, rng: &mut fastrand::Rng) -> String {
        let (stage, provider) = (rng.usize(..STAGES.len()), rng.usize(..PROVIDERS.len()));
        let mut chances = HEALTHY;
        for incident in &self.incidents {
            let here = incident.stage.is_none_or(|at| at == stage) && incident.provider.is_none_or(|at| at == provider);
            if here && (incident.from..incident.from + incident.hours).contains(&hour) {
                (incident.change)(&mut chances);
            }
        }
        let ((stage, json), (name, model, other)) = (STAGES[stage], PROVIDERS[provider]);
        // The sum of uniforms is close enough to a bell.
        let bell = rng.f64() + rng.f64() + rng.f64() - 1.5;
        let latency_ms = (600.0 * (1.2 * bell).exp()) as u64;
        let (tokens_in, tokens_out) = (rng.u32(200..900), rng.u32(5..60));
        let mut log = String::with_capacity(LOG_MAX_BYTES);
        let mut write = |part: std::fmt::Arguments<'_>| log.write_fmt(part).expect("a string takes everything");
        write(format_args!(
            r#"{{"id":"c{number}","time":{time},"environment":"production","stage":"{stage}","provider":"{name}","model":"{model}","tenant":"t{}","#,
            rng.u32(..TENANTS)
        ));
        if rng.f64() < chances.error {
            write(format_args!(r#""status_code":500,"latency_ms":{latency_ms},"error":{{"type":"api_error"}}}}"#));
            return log;
        }
        if rng.f64() < chances.fallback {
            let (provider, model, _) = PROVIDERS[other];
            write(format_args!(r#""served_by":{{"provider":"{provider}","model":"{model}"}},"#));
        } else if rng.f64() < chances.retry {
            write(format_args!(r#""attempts":[{{"status_code":500}},{{"status_code":200}}],"#));
        }
        let finish = if rng.f64() < chances.truncated { "length" } else { "stop" };
        let cost = tokens_in * 150 + tokens_out * 600;
        write(format_args!(
            r#""status_code":200,"latency_ms":{latency_ms},"usage":{{"input_tokens":{tokens_in},"output_tokens":{tokens_out}}},"cost_usd":0.{cost:09},"finish_reason":"{finish}","#
        ));
        let answer = match (json, json && rng.f64() < chances.invalid_json) {
            (true, false) => r#""response_format":"json","output":"{\"facts\":[7]}"}"#,
            (true, true) => r#""response_format":"json","output":"{\"facts\":[7"}"#,
            (false, _) => r#""output":"You moved to Lyon in May."}"#,
        };
        write(format_args!("{answer}"));
        log
    }

    /// Writes `calls.jsonl`, `incidents.toml` and `rules/` into `folder`; returns the bytes of the calls.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(self, folder: &Path) -> io::Result<u64> {
        let mut calls = io::BufWriter::with_capacity(1 << 20, std::fs::File::create(folder.join("calls.jsonl"))?);
        let mut bytes = 0;
        for (_, log) in self.logs() {
            assert!(log.len() <= LOG_MAX_BYTES, "{} bytes: {log}", log.len());
            calls.write_all(log.as_bytes())?;
            calls.write_all(b"\n")?;
            bytes += log.len() as u64 + 1;
        }
        calls.flush()?;
        let moment = |hours: f64| Timestamp::from_millis(START_MS + (hours * HOUR_MS as f64) as i64).expect("in range");
        let mut incidents = String::new();
        for Incident { rule, stage, provider, from, hours, .. } in self.incidents {
            let (stage, provider) = (stage.map(|at| STAGES[at].0), provider.map(|at| PROVIDERS[at].0));
            let labels = [("stage", stage), ("provider", provider)];
            let group: Vec<_> = labels.iter().filter_map(|(key, label)| Some(format!("{key} = \"{}\"", (*label)?))).collect();
            let (from, to, name) = (moment(from), moment(from + hours), rule.trim_end_matches("-rate"));
            let _ = write!(
                incidents,
                "[[incident]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\nrule = \"{rule}\"\ngroup = {{ {} }}\n\n",
                group.join(", ")
            );
        }
        std::fs::write(folder.join("incidents.toml"), incidents)?;
        Ok(bytes)
    }
}
