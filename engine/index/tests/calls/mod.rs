//! Calls for tests: written as logs and read like any other.

#![allow(dead_code, reason = "each test file uses its own part")]

use index::{Row, Sizes};
use model::signal::{Findings, signals};

/// Small enough that some hundred calls make groups, saves and files.
pub const SMALL: Sizes = Sizes { group_rows: 16, saved_rows: 50, segment_rows: 100 };

pub fn log(id: &str, time: i64, more: &str) -> String {
    format!(r#"{{"id":"{id}","time":{time},"model":"gpt-4o"{more}}}"#)
}

pub fn row(log: &str, sequence: u64) -> Row {
    let call = model::parse(log.as_bytes()).unwrap_or_else(|error| panic!("{}: {log}", error.detail));
    let further: Vec<String> = if sequence.is_multiple_of(9) { vec!["no_facts".into()] } else { Vec::new() };
    Row::of(&call, &signals(&call, &Findings::default()), &further, sequence, call.time)
}

/// A call of a small world, so that questions have answers; within a minute from the start of 2026.
pub fn random_calls(rng: &mut fastrand::Rng, sequence: u64) -> Row {
    let pick = |rng: &mut fastrand::Rng, of: &[&str]| of[rng.usize(..of.len())].to_owned();
    let mut more = String::new();
    let mut add = |text: String| more.push_str(&text);
    add(format!(r#","model":"{}""#, pick(rng, &["gpt-4o", "gpt-4o-mini", "claude", "日本語モデル"])));
    if rng.u8(..8) > 0 {
        add(format!(r#","event_id":"evt_{}""#, rng.u16(..300)));
    }
    if rng.u8(..8) > 0 {
        add(format!(r#","user_id":"{}""#, if rng.u8(..20) == 0 { r#"\"quoted\" \\ user"#.to_owned() } else { format!("u_{}", rng.u8(..12)) }));
    }
    if rng.bool() {
        add(format!(r#","stage":"{}""#, pick(rng, &["extraction", "retrieval", "synthesis"])));
    }
    add(format!(r#","environment":"{}""#, pick(rng, &["production", "production", "test"])));
    if rng.bool() {
        add(format!(r#","latency_ms":{}"#, rng.u32(..2_000)));
    }
    if rng.bool() {
        add(format!(r#","cost_usd":{:.10},"usage":{{"input_tokens":{}}}"#, rng.f64() / 400_000.0, rng.u32(..1_200)));
    } else if rng.bool() {
        add(r#","usage":{"output_tokens":500},"cost_usd":0"#.to_owned());
    }
    if rng.bool() {
        add(format!(r#","status_code":{}"#, pick(rng, &["200", "200", "429", "500", "503", "404"])));
    }
    if rng.u8(..5) == 0 {
        add(r#","finish_reason":"length""#.to_owned());
    }
    if rng.u8(..5) == 0 {
        add(r#","output":"""#.to_owned());
    }
    let mut properties = Vec::new();
    if rng.bool() {
        properties.push(format!(r#""tenant":"{}""#, pick(rng, &["acme", "apex", "ünïcode", "two words", "", "1"])));
    }
    if rng.bool() {
        properties.push(format!(r#""memory":{{"hits":{}}}"#, rng.u8(..14)));
    }
    if rng.u8(..10) == 0 {
        properties.push(format!(r#""deep":{{"er":{{"yet":{}}}}},"stage":"own""#, pick(rng, &["1", "true", "null", "\"t\""])));
    }
    add(format!(r#","properties":{{{}}}"#, properties.join(",")));
    let log = format!(r#"{{"id":"call_{}","time":{}{more}}}"#, rng.u16(..400), 1_767_225_600_000 + rng.i64(0..60_000));
    row(&log, sequence)
}
