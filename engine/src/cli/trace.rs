//! `streamgauge trace`: a run as it was, call by call, for a person who looks for where it broke. Everything comes from `/api/v1/runs/{event_id}`;
//! here it is drawn.

use super::terminal::{Paint, width};
use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::foreign::{columns, cut, left, printable, wrapped};
use model::{Timestamp, show};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
pub(super) struct Trace {
    /// The run's event_id, as in the logs.
    event_id: String,
    /// Where several environments have a run of this name; without it, the one with the latest call.
    #[arg(short, long)]
    environment: Option<String>,
    /// Each call's payload under it, without what [redact] takes out.
    #[arg(long)]
    payloads: bool,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Payloads that are asked for, those of the first steps: each is a request and may be megabytes.
const PAYLOADS_MAX: usize = 100;
/// Lines of one payload or error that are shown; a longer one is whole in --json.
const LINES_MAX: usize = 200;
/// Levels of the tree that are drawn, the deepest ones: so many calls inside each other are a chain.
const LEVELS_MAX: usize = 8;
const LABEL_MAX: usize = 30;
const MODEL_MAX: usize = 22;
/// Columns of the times, at most and at least.
const BAR_MAX: usize = 60;
const BAR_MIN: usize = 10;

#[derive(Debug, Deserialize)]
struct Run {
    event_id: String,
    environment: String,
    began: Timestamp,
    latency_ms: u64,
    calls: usize,
    errors: usize,
    fallbacks: usize,
    retries: usize,
    cost_usd: f64,
    input_tokens: u64,
    output_tokens: u64,
    user_id: String,
    session_id: String,
    thread_id: String,
    cut: bool,
    first_bad: Option<usize>,
    elsewhere: Vec<String>,
    steps: Vec<Step>,
}

/// What is drawn of a call; what it does not have is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    sequence: u64,
    id: String,
    kind: String,
    service: String,
    stage: String,
    provider: String,
    model: String,
    served_provider: String,
    served_model: String,
    status_code: Option<u64>,
    latency_ms: Option<u64>,
    cost_usd: Option<f64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    signals: Vec<String>,
    began: Timestamp,
    depth: usize,
    bad: Vec<String>,
    recovered: Vec<String>,
    verdicts: Vec<Verdict>,
    payload: String,
    error: Option<Value>,
    attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    judge: String,
    outcome: String,
    score: Option<f64>,
    why: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attempt {
    provider: String,
    model: String,
    status_code: Option<u64>,
    error_type: String,
    latency_ms: Option<u64>,
}

pub(super) async fn trace(args: Trace, config: &Config) -> Result<Outcome, Fault> {
    let name: String = url::form_urlencoded::byte_serialize(args.event_id.as_bytes()).collect();
    // A blank is `+` in a form, and `%20` in a path.
    let mut path = format!("/api/v1/runs/{}", name.replace('+', "%20"));
    if let Some(environment) = &args.environment {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("environment", environment).finish();
        path = format!("{path}?{query}");
    }
    let mut answer: Value = asking::get(config, &path).await?;
    let sequences: Vec<u64> = answer["steps"].as_array().into_iter().flatten().filter_map(|step| step["sequence"].as_u64()).collect();
    let mut payloads = Vec::new();
    if args.payloads {
        for sequence in sequences.iter().take(PAYLOADS_MAX) {
            let call: Value = asking::get(config, &format!("/api/v1/calls/{sequence}")).await?;
            payloads.push(json!({ "sequence": sequence, "payload": call["payload"], "payload_is": call["payload_is"] }));
        }
    }
    if args.json {
        if args.payloads {
            answer["payloads"] = Value::from(payloads);
        }
        say(answer);
        return Ok(Outcome::Well);
    }
    let run: Run = serde_json::from_value(answer)
        .map_err(|_| Fault::new("the engine speaks of runs in a way that this version does not know", "use the engine's own version"))?;
    say(text(&run, &payloads, width(), Paint::stdout()).trim_end());
    if args.payloads && sequences.len() > PAYLOADS_MAX {
        say(format!("\npayloads are shown of the first {PAYLOADS_MAX} calls"));
    }
    Ok(Outcome::Well)
}

fn text(run: &Run, payloads: &[Value], width: usize, paint: Paint) -> String {
    let mut text = head(run, width, paint);
    text.push('\n');
    let tree = tree(&run.steps);
    let labels: Vec<String> = run.steps.iter().zip(&tree).map(|(step, branch)| cut(&format!("{}{}", branch.to, label(step)), LABEL_MAX)).collect();
    let models: Vec<String> = run.steps.iter().map(|step| cut(&step.model, MODEL_MAX)).collect();
    let figures: Vec<String> = run.steps.iter().map(figures).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| columns(text)).max().unwrap_or(0);
    let (label_width, model_width, figures_width) = (widest(&labels), widest(&models), widest(&figures));
    // The mark, and two blanks between columns.
    let bar_width = width.saturating_sub(2 + label_width + 2 + model_width + 2 + 2 + figures_width).clamp(BAR_MIN, BAR_MAX);
    for (at, step) in run.steps.iter().enumerate() {
        let mark = match step {
            Step { bad, .. } if !bad.is_empty() => paint.bad("✗"),
            Step { recovered, .. } if !recovered.is_empty() => paint.saved("~"),
            _ => " ".to_owned(),
        };
        let bar = bar(step.began.since(run.began).millis(), step.latency_ms.unwrap_or(0), run.latency_ms, bar_width);
        let bar = if step.bad.is_empty() { bar } else { paint.bad(&bar) };
        let (label, model, figures) = (left(&labels[at], label_width), left(&models[at], model_width), &figures[at]);
        let line = format!("{mark} {label}  {model}  {bar}  {figures:>figures_width$}");
        text += line.trim_end();
        text.push('\n');
        let indent = format!("  {}  ", tree[at].below);
        let room = width.saturating_sub(indent.chars().count()).max(BAR_MIN);
        for (line, bad) in notes(run, at, step) {
            for line in wrapped(&line, room) {
                let line = if bad { paint.bad(&line) } else { line };
                let _ = writeln!(text, "{}{line}", paint.faint(&indent));
            }
        }
        if let Some(found) = payloads.iter().find(|found| found["sequence"].as_u64() == Some(step.sequence)) {
            let shown = match &found["payload"] {
                Value::Null => vec![format!("payload {}", found["payload_is"].as_str().unwrap_or_default())],
                payload => pretty(payload, room),
            };
            for line in shown {
                let _ = writeln!(text, "{}{}", paint.faint(&indent), paint.faint(&line));
            }
        }
    }
    let gone = run.steps.iter().filter(|step| step.payload != "here").count();
    if gone > 0 {
        let calls = count(gone, "call");
        let _ = writeln!(text, "\nnot all is known of {calls}: the payload has expired, cannot be read, or is of a later step than are looked at");
    }
    if run.cut {
        let _ = writeln!(text, "\nthere are more calls; these are the first {}", show::number(run.calls as f64));
    }
    text
}

fn head(run: &Run, width: usize, paint: Paint) -> String {
    let began = run.began.to_string().replacen('T', " ", 1).trim_end_matches('Z').to_owned();
    let mut text =
        format!("{} · {} · {began} UTC · {}\n", paint.strong(&printable(&run.event_id)), printable(&run.environment), span(run.latency_ms));
    let mut facts = vec![count(run.calls, "call")];
    let counted = [(run.errors, "error"), (run.fallbacks, "fallback"), (run.retries, "retry")];
    facts.extend(counted.into_iter().filter(|(times, _)| *times > 0).map(|(times, what)| count(times, what)));
    if run.cost_usd > 0.0 {
        facts.push(show::dollars(run.cost_usd));
    }
    if run.input_tokens + run.output_tokens > 0 {
        facts.push(format!("{} + {} tokens", show::number(run.input_tokens as f64), show::number(run.output_tokens as f64)));
    }
    let ids = [("user", &run.user_id), ("session", &run.session_id), ("thread", &run.thread_id)];
    facts.extend(ids.into_iter().filter(|(_, id)| !id.is_empty()).map(|(what, id)| format!("{what} {id}")));
    for line in wrapped(&facts.join(" · "), width) {
        let _ = writeln!(text, "{line}");
    }
    if !run.elsewhere.is_empty() {
        let _ = writeln!(text, "also in {}: --environment NAME", printable(&run.elsewhere.join(", ")));
    }
    text
}

/// What is to be said of a step under its line, and whether it is bad.
fn notes(run: &Run, at: usize, step: &Step) -> Vec<(String, bool)> {
    let mut notes = Vec::new();
    let here = if run.first_bad == Some(at) { "  ◀ it began here" } else { "" };
    if !step.bad.is_empty() {
        notes.push((format!("{}{here}", step.bad.join(", ")), true));
    }
    if !step.recovered.is_empty() {
        let here = if step.bad.is_empty() { here } else { "" };
        notes.push((format!("{}, made good{here}", step.recovered.join(", ")), false));
    }
    let asked = both(&step.provider, &step.model);
    let served = both(&step.served_provider, &step.served_model);
    if step.signals.iter().any(|signal| signal == "fallback") && asked != served {
        notes.push((format!("asked {asked} → served {served}"), false));
    }
    if step.attempts.len() > 1 {
        notes.push((format!("attempts: {}", step.attempts.iter().map(attempt).collect::<Vec<_>>().join(" → ")), false));
    }
    for Verdict { judge, outcome, score, why } in &step.verdicts {
        let score = score.map_or_else(String::new, |score| format!(" {score:.2}"));
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        notes.push((format!("judge {judge}: {outcome}{score}{why}"), outcome == "fail"));
    }
    if let Some(error) = &step.error {
        let field = |name: &str| error[name].as_str();
        let kind = [field("type"), field("code")].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let status = step.status_code.map_or_else(String::new, |status| format!("{status} "));
        let message = field("message").map_or_else(String::new, |message| format!(": {message}"));
        notes.push((format!("error {status}{kind}{message}"), true));
        if let Some(body) = error.get("body").filter(|body| !body.is_null()) {
            notes.extend(pretty(body, usize::MAX).into_iter().map(|line| (line, false)));
        }
    }
    notes
}

fn attempt(attempt: &Attempt) -> String {
    let ended = attempt.status_code.map_or_else(|| attempt.error_type.clone(), |status| status.to_string());
    let took = attempt.latency_ms.map_or_else(String::new, span);
    [both(&attempt.provider, &attempt.model), ended, took].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn both(provider: &str, model: &str) -> String {
    [provider, model].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// As indented JSON of at most so many lines; texts of one keep theirs.
fn pretty(value: &Value, room: usize) -> Vec<String> {
    let whole = value.as_str().map_or_else(|| serde_json::to_string_pretty(value).unwrap_or_default(), str::to_owned);
    let mut lines: Vec<String> = if room == usize::MAX { printable(&whole).lines().map(str::to_owned).collect() } else { wrapped(&whole, room) };
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    if more > 0 {
        lines.push(format!("… {} more in --json", count(more, "line")));
    }
    lines
}

/// What a step is called: its stage, else what it is.
fn label(step: &Step) -> &str {
    [&step.stage, &step.service, &step.kind, &step.id].into_iter().find(|text| !text.is_empty()).map_or("", String::as_str)
}

/// `250 ms  $0.0010  412+64`.
fn figures(step: &Step) -> String {
    let latency = step.latency_ms.map_or_else(String::new, span);
    let cost = step.cost_usd.map_or_else(String::new, show::dollars);
    let tokens = match (step.input_tokens, step.output_tokens) {
        (None, None) => String::new(),
        (input, output) => format!("{}+{}", input.unwrap_or(0), output.unwrap_or(0)),
    };
    format!("{latency:>7}  {cost:>9}  {tokens:>11}")
}

fn span(millis: u64) -> String {
    show::millis(millis as f64)
}

fn count(count: usize, what: &str) -> String {
    let what = match (count, what.strip_suffix('y')) {
        (1, _) => what.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) => format!("{what}s"),
    };
    format!("{} {what}", show::number(count as f64))
}

/// When a call ran, on a line that is the whole run. It is never invisible, and never outside.
fn bar(offset_ms: u64, latency_ms: u64, whole_ms: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = width as f64 * 8.0;
    let place = |millis: u64| if whole_ms == 0 { 0.0 } else { (millis as f64 / whole_ms as f64).min(1.0) * eighths };
    // It begins with a whole character, for there are none that are empty on their left.
    let begin = ((place(offset_ms) / 8.0).floor() as usize).min(width - 1);
    let end = (place(offset_ms.saturating_add(latency_ms)).round() as usize).clamp(begin * 8 + 1, width * 8);
    let (full, part) = ((end - begin * 8) / 8, (end - begin * 8) % 8);
    let drawn = format!("{}{}{}", " ".repeat(begin), "█".repeat(full), EIGHTHS[part]);
    format!("{drawn:<width$}")
}

/// The lines of a tree before a step, and before what stands under it.
struct Branch {
    to: String,
    below: String,
}

fn tree(steps: &[Step]) -> Vec<Branch> {
    // Whether another of the same parent follows, found from the end: what is deeper belongs to the step before it.
    let mut follows = vec![false; steps.len()];
    let mut seen: Vec<bool> = Vec::new();
    for (at, step) in steps.iter().enumerate().rev() {
        seen.truncate(step.depth + 1);
        seen.resize(step.depth + 1, false);
        follows[at] = std::mem::replace(&mut seen[step.depth], true);
    }
    let mut open: Vec<bool> = Vec::new();
    let branch = |(at, step): (usize, &Step)| {
        open.truncate(step.depth);
        open.resize(step.depth, false);
        // The top has no lines: nothing is above it.
        let above: String = open.iter().skip(1).map(|follows| if *follows { "│ " } else { "  " }).collect();
        let levels = above.chars().count();
        let above: String = above.chars().skip(levels.saturating_sub(2 * LEVELS_MAX)).collect();
        open.push(follows[at]);
        let has_children = steps.get(at + 1).is_some_and(|next| next.depth > step.depth);
        let child = if has_children { "│" } else { " " };
        match (step.depth, follows[at]) {
            (0, _) => Branch { to: String::new(), below: child.to_owned() },
            (_, true) => Branch { to: format!("{above}├ "), below: format!("{above}│ {child}") },
            (_, false) => Branch { to: format!("{above}└ "), below: format!("{above}  {child}") },
        }
    };
    steps.iter().enumerate().map(branch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: Value) -> Run {
        let calls = steps.as_array().map_or(0, Vec::len);
        serde_json::from_value(json!({
            "event_id": "evt-1", "environment": "production", "began": "2026-11-22T14:03:20.400Z", "latency_ms": 1000, "calls": calls, "errors": 1,
            "fallbacks": 0, "retries": 2, "cost_usd": 0.0042, "input_tokens": 1412, "output_tokens": 64, "user_id": "ann", "session_id": "",
            "thread_id": "", "cut": false, "first_bad": 1, "elsewhere": ["staging"], "steps": steps,
        }))
        .expect("a run")
    }

    fn step(stage: &str, depth: usize, offset: u64, latency: u64, more: Value) -> Value {
        let began = Timestamp::parse("2026-11-22T14:03:20.400Z").expect("a time") + model::Span::from_millis(offset);
        let mut step = json!({ "sequence": 1, "stage": stage, "depth": depth, "began": began, "latency_ms": latency, "model": "gpt-4o", "payload": "here",
            "signals": [], "cost_usd": 0.001, "input_tokens": 12, "output_tokens": 3 });
        more.as_object().into_iter().flatten().for_each(|(name, value)| step[name] = value.clone());
        step
    }

    #[test]
    fn a_run_is_a_tree_of_times_that_says_where_it_began_to_go_wrong() {
        let error = json!({ "type": "server_error", "message": "no\u{1b}[2J capacity", "body": { "trace": ["deep"] } });
        let run = run(json!([
            step("orchestration", 0, 0, 1000, json!({})),
            step(
                "extraction",
                1,
                0,
                250,
                json!({ "bad": ["invalid_json", "judge:tone"], "verdicts": [
                { "judge": "tone", "outcome": "fail", "score": 0.25, "why": "rude" }] })
            ),
            step(
                "retrieval",
                1,
                250,
                250,
                json!({ "recovered": ["fallback"], "signals": ["fallback"], "provider": "openai", "served_provider": "azure",
                "served_model": "gpt-4o-mini", "attempts": [{ "provider": "openai", "model": "gpt-4o", "status_code": 503, "latency_ms": 40 },
                { "provider": "azure", "model": "gpt-4o-mini", "status_code": 200 }] })
            ),
            step("embedding", 2, 300, 1, json!({ "model": "", "cost_usd": null, "input_tokens": null, "output_tokens": null })),
            step("synthesis", 1, 500, 500, json!({ "bad": ["error"], "status_code": 500, "error": error, "payload": "here" })),
        ]));
        let expected = "\
evt-1 · production · 2026-11-22 14:03:20.400 UTC · 1.0 s
5 calls · 1 error · 2 retries · $0.0042 · 1,412 + 64 tokens · user ann
also in staging: --environment NAME

  orchestration  gpt-4o  ████████████████████    1.0 s    $0.0010         12+3
✗ ├ extraction   gpt-4o  █████                  250 ms    $0.0010         12+3
  │    invalid_json, judge:tone  ◀ it began here
  │    judge tone: fail 0.25: rude
~ ├ retrieval    gpt-4o       █████             250 ms    $0.0010         12+3
  │ │  fallback, made good
  │ │  asked openai gpt-4o → served azure gpt-4o-mini
  │ │  attempts: openai gpt-4o 503 40 ms → azure gpt-4o-mini 200
  │ └ embedding                ▏                  1 ms
✗ └ synthesis    gpt-4o            ██████████   500 ms    $0.0010         12+3
       error
       error 500 server_error: no\u{fffd}[2J capacity
       {
         \"trace\": [
           \"deep\"
         ]
       }
";
        assert_eq!(text(&run, &[], 78, Paint::PLAIN), expected);
        assert!(text(&run, &[], 78, Paint::COLOURED).contains("\x1b[1;31m✗\x1b[0m"));
        assert!(text(&run, &[], 78, Paint::PLAIN).lines().all(|line| line.chars().count() <= 78));
        let payloads = [json!({ "sequence": 1, "payload": { "output": "hello" }, "payload_is": "here" })];
        assert!(text(&run, &payloads, 100, Paint::PLAIN).contains("\"output\": \"hello\""));
    }

    #[test]
    fn a_bar_is_never_invisible_and_never_outside_the_run() {
        for (offset, latency, whole, drawn) in [
            (0, 1000, 1000, "████"),
            (0, 0, 1000, "▏   "),
            (1000, 0, 1000, "   █"),
            (500, 250, 1000, "  █ "),
            (500, 300, 1000, "  █▎"),
            (900, 900, 1000, "   █"),
            (0, 0, 0, "▏   "),
        ] {
            assert_eq!(bar(offset, latency, whole, 4), drawn, "{offset} {latency} of {whole}");
        }
    }

    #[test]
    fn a_chain_of_calls_keeps_its_lines_short() {
        let steps: Vec<Value> = (0..500).map(|depth| step("deep", depth, 0, 1, json!({}))).collect();
        let text = text(&run(Value::from(steps)), &[], 100, Paint::PLAIN);
        assert!(text.lines().all(|line| line.chars().count() <= 100));
        assert_eq!(text.matches("└ deep").count(), 499);
    }
}
