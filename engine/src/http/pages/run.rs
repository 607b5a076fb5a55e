//! `/runs/{event_id}`: all calls of a run on one page: when each worked, what went wrong in it and was made good, what judges said, and where it began.
//!
//! Deliberately absent: what makes a step bad (that is `runs.rs`), and whole payloads, which are on the pages of their calls.

use super::super::access::Caller;
use super::super::{App, Named, Problem, runs};
use super::frame::{Frame, Place};
use super::html::{escaped, time};
use super::links::{self, Search};
use super::rows;
use crate::runs::{Often, Opinion, RunView, Step};
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Html;
use index::{Key, Text};
use model::show;
use serde_json::Value;
use std::fmt::Write;

/// Steps that are drawn: a page of a megabyte. Of a longer run the others are found by searching.
const STEPS_MAX: usize = 1_000;
/// Steps are moved in by what they are under up to here; deeper ones say how deep they are.
const DEPTH_MAX: usize = 8;
/// Of one provider's error, and of all on a page; what is longer is whole at the call's own address.
const ERROR_MAX_BYTES: usize = 64 << 10;
const ERRORS_MAX_BYTES: usize = 2 << 20;
/// Of an error's own words beside a step; all of them are in its payload.
const MESSAGE_MAX_CHARS: usize = 500;

pub(in crate::http) async fn page(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(event_id): Named,
    RawQuery(raw): RawQuery,
) -> Result<Html<String>, Problem> {
    let found = runs::read(&app, &event_id, runs::environment(raw.as_deref())?).await?;
    let view = &found.view;
    let mut body = format!("<h1>Run {} <small>{}</small></h1>", escaped(&view.event_id), escaped(&view.environment));
    head(&mut body, view, found.often.as_ref(), &found.elsewhere);
    steps(&mut body, view);
    let path = format!("/api/v1{}", links::run_path(&view.environment, &view.event_id));
    let _ = write!(body, "<p class=dim>As JSON: <a href='{0}'>{0}</a></p>", escaped(&path));
    let title = format!("Run {}", view.event_id);
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::None, title: &title, every: None }.page(&body))
}

/// What it came to, and the way to where it went wrong.
fn head(body: &mut String, view: &RunView, often: Option<&Often>, elsewhere: &[String]) {
    let within = Search::of_environment(&view.environment);
    let class = if view.errors > 0 {
        "critical"
    } else if view.first_bad.is_some() {
        "warning"
    } else {
        "ended"
    };
    let _ = write!(body, "<section aria-label='What it came to'><div class='alert {class}'>");
    match view.first_bad.map(|at| (at, &view.steps[at])) {
        Some((at, step)) => {
            let wrong = if step.bad.is_empty() { &step.recovered } else { &step.bad };
            let made_good = if step.bad.is_empty() { ", and it was made good" } else { "" };
            let to = if at < STEPS_MAX { format!("#step-{}", at + 1) } else { format!("/calls/{}", step.row.sequence) };
            let wrong: Vec<_> = wrong.iter().map(|name| name.replace('_', " ")).collect();
            let _ = write!(
                body,
                "<p><strong>It began in <a href='{to}'>{}</a></strong>: {}{made_good}.</p>",
                escaped(name(step)),
                escaped(&wrong.join(", "))
            );
            if let Some(often) = often.filter(|often| often.affected > 0 && often.others > 0) {
                let share = |bad: u64, of: u64| show::percent(bad as f64 / of as f64);
                let _ = write!(
                    body,
                    "<p>Within half an hour around, this step was bad in {} of the runs in which a later step was bad, and in {} of the others.</p>",
                    share(often.affected_bad, often.affected),
                    share(often.others_bad, often.others)
                );
            }
        }
        None => *body += "<p class=well>✓ Nothing went wrong in it that a signal or a judge knows of.</p>",
    }
    *body += "<dl>";
    let _ = write!(body, "<dt>Began<dd>{}<dt>Took<dd>{}", time(view.began), show::millis(view.latency_ms as f64));
    let count = |count: usize| show::number(count as f64);
    let more = if view.cut { "at least " } else { "" };
    let _ = write!(
        body,
        "<dt>Calls<dd>{more}{}: {} failed, {} retried, {} answered by a fallback",
        count(view.calls),
        count(view.errors),
        count(view.retries),
        count(view.fallbacks)
    );
    let tokens = |tokens: u64| show::number(tokens as f64);
    let _ = write!(
        body,
        "<dt>Tokens<dd>{}<dt>Cost<dd>{more}{}",
        // Nobody knows what calls took that do not say.
        if view.input_tokens + view.output_tokens > 0 {
            format!("{} in, {} out", tokens(view.input_tokens), tokens(view.output_tokens))
        } else {
            "–".to_owned()
        },
        if view.cost_usd > 0.0 { show::dollars(view.cost_usd) } else { "–".to_owned() }
    );
    for (label, text, value) in
        [("User", Text::User, &view.user_id), ("Session", Text::Session, &view.session_id), ("Thread", Text::Thread, &view.thread_id)]
    {
        if !value.is_empty() {
            let _ = write!(body, "<dt>{label}<dd>{}", within.value(&Key::Text(text), value));
        }
    }
    if !elsewhere.is_empty() {
        let others: Vec<_> = elsewhere.iter().map(|environment| links::run(environment, &view.event_id, environment)).collect();
        let _ = write!(body, "<dt>Of the same name<dd>in {}", others.join(", "));
    }
    *body += "</dl>";
    if view.cut {
        let _ = write!(
            body,
            "<p>It has more calls than are looked at; these are the first {}. {}</p>",
            count(view.calls),
            within.value_as(&Key::Text(Text::EventId), &view.event_id, "All its calls")
        );
    }
    *body += "</div></section>";
}

/// What a step is called: its stage, or else what kind of call it is.
fn name(step: &Step) -> &str {
    let stage = step.row.text(Text::Stage);
    if stage.is_empty() { step.row.text(Text::Kind) } else { stage }
}

fn steps(body: &mut String, view: &RunView) {
    *body += "<section aria-labelledby=steps><h2 id=steps>Steps <small>by what they are under, in the order in which they began</small></h2>";
    let quarter = |at: u64| format!("<span>{}</span>", escaped(&show::millis(view.latency_ms as f64 * at as f64 / 4.0)));
    let _ = write!(body, "<div class=scale aria-hidden=true>{}</div><ol class=steps>", (0..=4).map(quarter).collect::<String>());
    let mut left = ERRORS_MAX_BYTES;
    for (at, step) in view.steps.iter().enumerate().take(STEPS_MAX) {
        one(body, view, at, step, &mut left);
    }
    *body += "</ol>";
    if view.steps.len() > STEPS_MAX {
        let within = Search::of_environment(&view.environment);
        let more = format!("and {} more", show::number((view.steps.len() - STEPS_MAX) as f64));
        let _ = write!(body, "<p>{}</p>", within.value_as(&Key::Text(Text::EventId), &view.event_id, &more));
    }
    *body += "</section>";
}

fn one(body: &mut String, view: &RunView, at: usize, step: &Step, left: &mut usize) {
    let row = &step.row;
    let within = Search::of_environment(&view.environment);
    let first = view.first_bad == Some(at);
    let state = match (step.bad.is_empty(), step.recovered.is_empty()) {
        (false, _) => "broken",
        (true, false) => "saved",
        _ => "fine",
    };
    let deeper = if step.depth > DEPTH_MAX { format!(" <small>level {}</small>", step.depth + 1) } else { String::new() };
    let _ = write!(
        body,
        "<li id=step-{} class='{state}{} d{}'><div class=what><span class=hidden>level {}: </span>{}{deeper} <small>{}</small>",
        at + 1,
        if first { " first" } else { "" },
        step.depth.min(DEPTH_MAX),
        step.depth + 1,
        links::call(row.sequence, name(step)),
        if row.text(Text::Model).is_empty() { String::new() } else { rows::model(row, &within) },
    );
    if first {
        *body += " <strong class='state began'>◀ it began here</strong>";
    }
    let _ = write!(body, "</div>{}<div class=took>", bar(view, step, state));
    let facts = [rows::latency(row), rows::cost(row), row.tokens().map(|tokens| format!("{} tokens", show::number(tokens as f64)))];
    let facts: Vec<_> = facts.into_iter().flatten().map(|fact| escaped(&fact)).collect();
    let _ = write!(body, "{} {}</div>", rows::status(row, &within), facts.join(" · "));
    *body += "<div class=found>";
    if !step.bad.is_empty() || !step.recovered.is_empty() {
        let tags = |names: &[String]| names.iter().map(|name| said(name, &within)).collect::<Vec<_>>().join(" ");
        let _ = write!(body, "<p class=tags>{}", tags(&step.bad));
        if !step.recovered.is_empty() {
            let _ = write!(body, " {} <small class=dim>made good</small>", tags(&step.recovered));
        }
        *body += "</p>";
    }
    attempts(body, step);
    for opinion in &step.verdicts {
        verdict(body, opinion);
    }
    error(body, step, left);
    match step.detail.payload {
        "expired" => *body += "<p class=dim>Payload expired: the stream keeps it no longer.</p>",
        "unreadable" => *body += "<p class=dim>The payload cannot be read; the call's own page says why.</p>",
        "not_read" => *body += "<p class=dim>Its payload was not read here; it is on the call's own page.</p>",
        _ => {}
    }
    *body += "</div></li>";
}

/// A signal, or `judge:NAME` of a verdict, as a link to its like.
fn said(name: &str, within: &Search) -> String {
    match name.strip_prefix("judge:") {
        Some(judge) if judge.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter)) => {
            let path = within.narrowed(&format!("verdict:{judge}=fail")).path(&[]);
            format!("<a class=tag href='{}'>judge {}</a>", escaped(&path), escaped(judge))
        }
        Some(judge) => format!("<span class=tag>judge {}</span>", escaped(judge)),
        None => rows::tag(name, within),
    }
}

/// When it worked, among the whole run's time.
fn bar(view: &RunView, step: &Step, state: &str) -> String {
    let all = view.latency_ms.max(1) as f64;
    let (from, took) = (step.began.since(view.began).millis(), step.row.time.since(step.began).millis());
    let (x, width) = (from as f64 / all * 100.0, (took as f64 / all * 100.0).max(0.5));
    let lines: String = [25, 50, 75].iter().map(|x| format!("<line class=grid x1={x} x2={x} y1=0 y2=10 />")).collect();
    format!(
        "<svg class=bar viewBox='0 0 100 10' preserveAspectRatio=none role=img aria-label='began after {}, took {}'>{lines}\
         <rect class='{state}' x={:.2} y=2 width={width:.2} height=6 /></svg>",
        show::millis(from as f64),
        show::millis(took as f64),
        x.min(99.5),
    )
}

fn attempts(body: &mut String, step: &Step) {
    // One attempt is the call itself.
    if step.detail.attempts.len() < 2 {
        return;
    }
    *body += "<ol class=attempts aria-label=Attempts>";
    for attempt in &step.detail.attempts {
        let text = |name: &str| attempt[name].as_str().map(escaped);
        let status = attempt["status_code"].as_u64();
        let class = if status.is_some_and(|code| code < 400) && attempt["error_type"].is_null() { "well" } else { "bad" };
        let parts = [
            text("provider"),
            text("model"),
            status.map(|code| format!("<span class={class}>{code}</span>")),
            text("error_type"),
            attempt["latency_ms"].as_u64().map(|millis| show::millis(millis as f64)),
        ];
        let _ = write!(body, "<li>{}", parts.into_iter().flatten().collect::<Vec<_>>().join(" · "));
    }
    *body += "</ol>";
}

/// What a judge said, with why.
pub(super) fn verdict(body: &mut String, opinion: &Opinion) {
    let class = match opinion.outcome {
        "pass" => "well",
        "fail" => "bad",
        _ => "dim",
    };
    let score = opinion.score.map_or_else(String::new, |score| format!(", score {}", show::number(score)));
    let why = if opinion.why.is_empty() { String::new() } else { format!(": {}", escaped(&opinion.why)) };
    let _ = write!(body, "<p class=verdict><span class={class}>{}</span> by judge {}{score}{why}</p>", opinion.outcome, escaped(&opinion.judge));
}

/// The provider's error: its message at once, its payload whole where one opens it.
fn error(body: &mut String, step: &Step, left: &mut usize) {
    let Some(error) = &step.detail.error else {
        let kept = [step.row.text(Text::ErrorType), step.row.text(Text::ErrorCode)];
        if kept.iter().any(|text| !text.is_empty()) {
            let _ = write!(body, "<p>{}</p>", escaped(kept.join(" ").trim()));
        }
        return;
    };
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    let said: Vec<_> = [text("type"), text("code"), text("message")].into_iter().filter(|text| !text.is_empty()).collect();
    if !said.is_empty() {
        let cut: String = said.join(" · ").chars().take(MESSAGE_MAX_CHARS).collect();
        let _ = write!(body, "<p>{}</p>", escaped(&cut));
    }
    let whole = pretty(error);
    let shown = &whole[..whole.floor_char_boundary(whole.len().min(ERROR_MAX_BYTES).min(*left))];
    *left -= shown.len();
    let cut = if shown.len() < whole.len() {
        format!("<p>{} bytes are left out: <a href='/api/v1/calls/{}'>all of it</a></p>", whole.len() - shown.len(), step.row.sequence)
    } else {
        String::new()
    };
    let _ = write!(body, "<details><summary>The provider's error, whole</summary><pre>{}</pre>{cut}</details>", escaped(shown));
}

/// JSON for people.
pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("what was JSON is written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Detail;
    use crate::runs::Known;
    use index::Row;
    use model::signal::{Findings, signals};
    use serde_json::json;

    fn known(number: u64, error: &Value) -> Known {
        let parent = if number > 0 { format!("c{}", number - 1) } else { String::new() };
        let log = json!({ "id": format!("c{number}"), "parent_id": parent, "event_id": "e", "time": 1_767_225_600_000 + number, "latency_ms": 1, "model": "m",
            "status_code": 500 });
        let log = log.to_string();
        let call = model::parse(log.as_bytes()).expect("a good log");
        let row = Row::of(&call, &signals(&call, &Findings::default()), &[], number + 1, call.time);
        let detail = Detail { payload: "here", error: Some(error.clone()), attempts: Vec::new() };
        Known { row, detail, said: Vec::new() }
    }

    #[test]
    fn a_run_that_loops_with_huge_errors_is_a_page_of_bounded_size_that_says_what_is_missing() {
        let error = json!({ "message": "x".repeat(100_000) });
        let mut view = RunView::new((0..1_200).map(|number| known(number, &error)).collect(), true).expect("there are calls");
        view.steps[0].verdicts.push(Opinion { judge: "tone".into(), outcome: "fail", score: Some(0.2), why: "<rude>".into(), cost_usd: 0.0 });
        let mut body = String::new();
        let often = Often { step: "m".into(), affected: 4, affected_bad: 3, others: 10, others_bad: 1, weight: 1 };
        head(&mut body, &view, Some(&often), &["staging".to_owned()]);
        steps(&mut body, &view);
        assert!(body.len() < ERRORS_MAX_BYTES + STEPS_MAX * 4_096, "{} bytes", body.len());
        assert_eq!((body.matches("<li id=step-").count(), body.matches("id=step-1 class='broken first d0'").count()), (STEPS_MAX, 1));
        for part in [
            "at least 1,200: 1,200 failed",
            "It has more calls than are looked at",
            "and 200 more</a>",
            "was bad in 75 % of the runs in which a later step was bad, and in 10 % of the others",
            "level 1000",
            "all of it</a>",
            "environment=staging",
        ] {
            assert!(body.contains(part), "{part}");
        }
        assert!(body.contains("<span class=bad>fail</span> by judge tone, score 0.20: &lt;rude&gt;"));
        assert!(!body.contains("d9 "), "no deeper than there is room for");
    }
}
