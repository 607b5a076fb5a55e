//! `/alerts/{id}`: what is known of one alert, while it fires and as long as the store keeps it; and adopting it.

use super::super::access::Caller;
use super::super::{App, Named, Problem, adopt, alerts, incidents};
use super::frame::{Frame, Place, token};
use super::html::{TABLE_END, command, escaped, link, table, time};
use super::links::Search;
use super::{affected, incident};
use crate::chart::{Chart, Mark};
use crate::config::May;
use crate::curve::{self, Of};
use crate::message::{Colour, compose};
use crate::standing;
use crate::store::Step;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use machine::{Notification, State as Phase};
use model::plan::{Plan, Statistic};
use model::{Labels, Span, Timestamp, show};
use std::fmt::Write;
use std::time::Duration;

/// The chart reads hours of slices.
const EVERY: Duration = Duration::from_secs(20);
/// What the chart shows before and after, at least and at most: enough to see what was usual.
const AROUND: std::ops::RangeInclusive<Span> = Span::from_secs(1800)..=Span::from_secs(4 * 3600);

/// An alert at this moment.
pub(super) struct Shown {
    pub told: Notification,
    /// `None`: it has ended.
    phase: Option<Phase>,
    adoptable: bool,
    clock: Option<Timestamp>,
    plan: Plan,
    /// Its rule's place, where the rule is still there.
    rule: Option<usize>,
    labels: Labels,
}

pub(in crate::http) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named) -> Result<Html<String>, Problem> {
    let shown = find(&app, &id).await?;
    let told = &shown.told;
    let message = compose(told, "", false);
    let state = match (shown.phase, told.reason) {
        (Some(Phase::Pending), _) => "pending".to_owned(),
        (Some(Phase::Firing { .. }), _) => "firing".to_owned(),
        (None, reason) if reason.ends() => reason.name().replace('_', " "),
        (None, _) => "not known: the engine has not come past it since its restart".to_owned(),
    };
    let place = format!("{} · {}", told.environment, standing::place(&told.group));
    let class = if shown.phase.is_some() { told.severity.name() } else { "ended" };
    let mark = if shown.phase.is_some() {
        "●"
    } else if message.colour == Colour::Green {
        "✔"
    } else {
        "○"
    };
    let mut body = format!(
        "<h1>{mark} {}: {} <small>{state} · {}</small></h1><section id=alert data-live aria-label='What is wrong'><div class='alert {class}'>\
         <p><strong>{}</strong></p><dl>",
        escaped(&told.rule),
        escaped(&place),
        told.severity.name(),
        escaped(&message.summary),
    );
    for (label, value) in &message.fields {
        let _ = write!(body, "<dt>{}<dd>{}", escaped(label), escaped(value));
    }
    let _ = write!(body, "<dt>Rule<dd>{}<dt>Condition since<dd>{}", link("/rules", &told.rule), time(told.began));
    if shown.phase != Some(Phase::Pending) {
        let _ = write!(body, "<dt>Told at<dd>{}", time(told.fired));
    }
    if shown.phase.is_none() && told.reason.ends() {
        let _ = write!(body, "<dt>Ended at<dd>{}", time(told.at));
    }
    if let Some(address) = told.runbook.as_deref() {
        let _ = write!(body, "<dt>Runbook<dd>{}", runbook(address));
    }
    body += "</dl></div></section>";
    let part_of = incidents::find(&app, &told.alert_id).await?.map(|found| found.seen);
    if let Some(seen) = &part_of {
        incident::of_alert(&mut body, seen);
    }
    body += &charts(&app, &shown).await?;
    let rule = shown.rule.map(|rule| &shown.plan.rules[rule]);
    let ended = if shown.phase.is_none() { Some(told.at) } else { None };
    hits(&mut body, told, |labels| affected::of_group_below(told, &shown.plan, rule?, labels, (told.since(), ended)));
    affected::section(&mut body, &app, told, &shown.plan, rule, (told.since(), ended), part_of.as_ref()).await?;
    notifications(&mut body, &app, &told.alert_id).await?;
    further(&mut body, &shown, &caller);
    let title = format!("{} · {place}", told.rule);
    let every = shown.phase.map(|_| EVERY);
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::None, title: &title, every }.page(&body))
}

pub(super) async fn find(app: &App, id: &str) -> Result<Shown, Problem> {
    let (plan, clocks) = app
        .reader
        .ask(|machine| (machine.plan().clone(), machine.clocks().map(|(name, clock)| (name.to_owned(), clock)).collect::<Vec<_>>()))
        .await?;
    let clock = |told: &Notification| clocks.iter().find(|(name, _)| *name == told.environment).map(|(_, clock)| *clock);
    if let Some(active) = alerts::active(app).await?.into_iter().find(|alert| alert.told.alert_id == id) {
        let clock = clock(&active.told);
        return Ok(Shown {
            told: active.told,
            phase: Some(active.phase),
            adoptable: active.adoptable,
            clock,
            plan,
            rule: Some(active.rule),
            labels: active.labels,
        });
    }
    let asked = id.to_owned();
    let Some(told) = app.store.ask(move |db| db.alert(&asked)).await? else {
        let hint = "it may be older than store.retention; what fires now is on the overview";
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no alert {id}"), hint));
    };
    let labels: Labels = told.group.iter().map(|(_, label)| label.clone()).collect();
    let keys = told.group.iter().map(|(key, _)| key.clone());
    let fits =
        |rule: &&model::plan::Rule| rule.name == told.rule && keys.clone().eq(rule.group_by.iter().take(told.group.len()).map(ToString::to_string));
    let rule = plan.rules.iter().find(fits).and_then(|rule| plan.rules.iter().position(|known| known.name == rule.name));
    let clock = clock(&told);
    Ok(Shown { told, phase: None, adoptable: false, clock, plan, rule, labels })
}

/// Each watch around the time of the alert, the one that left its range first.
pub(super) async fn charts(app: &App, shown: &Shown) -> Result<String, Problem> {
    /// A rule has sixteen watches at most; who looks at an alert looks at what it is about.
    const CHARTS_MAX: usize = 3;
    let (Some(rule), Some(clock)) = (shown.rule.map(|rule| &shown.plan.rules[rule]), shown.clock) else { return Ok(String::new()) };
    let told = &shown.told;
    let drawn = |statistic: &Statistic| !matches!(statistic, Statistic::Ratio { .. } | Statistic::Distinct(_) | Statistic::Top(..));
    let mut watches: Vec<_> = rule.watches.iter().filter(|watch| !watch.part && drawn(&watch.statistic) && watch.offset == Span::ZERO).collect();
    let seen = |name: &str| told.observed.iter().find(|observed| observed.watch == name).map(|observed| &observed.observation);
    watches.sort_by_key(|watch| seen(&watch.name).is_none_or(|seen| seen.drifted.is_none()));
    let end = if shown.phase.is_some() { clock } else { told.at };
    let began = told.since();
    let mut text = String::new();
    for watch in watches.into_iter().take(CHARTS_MAX) {
        let around = Span::from_millis(watch.window.millis() * 6).clamp(*AROUND.start(), *AROUND.end());
        let from = (began - around).max(if shown.phase.is_some() { end - curve::REACH_MAX } else { Timestamp::EPOCH });
        let to = (end + around).min(clock).min(from + curve::REACH_MAX);
        let expected = seen(&watch.name).and_then(|seen| seen.expected);
        let of = Of { plan: &shown.plan, watch, environment: &told.environment, labels: &shown.labels, expected };
        let curve = curve::read(&app.reader, &app.store, of, from, to).await?;
        let unit = watch.statistic.unit();
        let about = format!("{} over {}", watch.statistic.describe(), curve.window);
        let most = curve.points.iter().filter_map(|(_, point)| point.value).fold(f64::NEG_INFINITY, f64::max);
        let most = if most.is_finite() { format!(", at most {}", unit.show(most)) } else { String::new() };
        let band = expected.map_or_else(String::new, |range| format!("; expected {} to {}", unit.show(range.low), unit.show(range.high)));
        let mark =
            Mark { from: began.max(from), to: if shown.phase.is_some() { to } else { told.at.min(to) }, title: format!("from {began} to {end}") };
        let label = format!(
            "{about} from {from} to {to}{most}{band}; the alert from {began}{}",
            if shown.phase.is_some() { " on".to_owned() } else { format!(" to {end}") }
        );
        let points = curve.points.len();
        let chart = Chart { label, from, to, samples: curve.points, unit, alarms: vec![mark], really: Vec::new() };
        let _ = write!(
            text,
            "<figure><figcaption><strong>{}</strong><span class=dim>{} to {}</span></figcaption>{}</figure>",
            escaped(&about),
            time(from),
            time(to),
            if points > 0 { chart.svg() } else { "<p class=dim>Nothing of that time is kept any more.</p>".to_owned() },
        );
    }
    if text.is_empty() {
        return Ok(text);
    }
    Ok(format!(
        "<section id=charts data-live aria-labelledby=charts-title><h2 id=charts-title>Over time</h2><p>{KEY}</p><div class=cards>{text}</div></section>"
    ))
}

/// What the lines and areas of a chart mean.
pub(super) const KEY: &str = "<span class=key><svg viewBox='0 0 20 10' aria-hidden=true><line class=value x1=0 x2=20 y1=5 y2=5 /></svg>what was seen</span>\
    <span class=key><svg viewBox='0 0 20 10' aria-hidden=true><rect class=band width=20 height=10 /></svg>expected range, as of now or when it was last told</span>\
    <span class=key><svg viewBox='0 0 20 10' aria-hidden=true><rect class=alarm width=20 height=10 /></svg>alert</span>\
    <span class=dim>the axis is UTC</span>";

/// Where to read what to do: a link, where it is an address of the web.
pub(super) fn runbook(address: &str) -> String {
    let shown = escaped(address);
    let web = address.starts_with("https://") || address.starts_with("http://");
    if web { format!("<a href='{shown}' rel='noreferrer'>{shown}</a>") } else { shown }
}

/// Each group below leads to its calls, where `calls` can tell which they are.
fn hits(body: &mut String, told: &Notification, calls: impl Fn(&Labels) -> Option<Search>) {
    if told.hit.is_empty() {
        return;
    }
    *body += "<section aria-labelledby=hit><h2 id=hit>Where it is worst</h2>";
    *body += &table("Where it is worst", &["Group", "Calls that show it#", "Of calls#", "Share#"]);
    for hit in &told.hit {
        let labels: Vec<_> = hit.labels.iter().map(|label| if label.is_empty() { "(none)" } else { label }).collect();
        let found = calls(&hit.labels);
        let share = if hit.calls > 0 { show::percent(hit.holds as f64 / hit.calls as f64) } else { "–".to_owned() };
        let (holds, of) = (show::number(hit.holds as f64), show::number(hit.calls as f64));
        let name = escaped(&labels.join(" · "));
        let name = found.map(|search| format!("<a href='{}'>{name}</a>", escaped(&search.path(&[])))).unwrap_or(name);
        let _ = write!(body, "<tr><th scope=row>{name}<td class=n>{holds}<td class=n>{of}<td class=n>{share}");
    }
    let _ = write!(body, "{TABLE_END}</section>");
}

/// What was said of it where, and how far each has come.
pub(super) async fn notifications(body: &mut String, app: &App, id: &str) -> Result<(), Problem> {
    let asked = id.to_owned();
    let deliveries = app.store.ask(move |db| db.deliveries(&asked)).await?;
    // What only brings a message up to date comes by the minute, and is worth a word where it failed.
    let (updates, deliveries): (Vec<_>, Vec<_>) =
        deliveries.into_iter().partition(|delivery| delivery.reason == "updated" && delivery.problem.is_none());
    *body += "<section id=told data-live aria-labelledby=told-title><h2 id=told-title>Who was told</h2>";
    if deliveries.is_empty() {
        *body += "<p class=dim>Nobody yet.</p></section>";
        return Ok(());
    }
    *body += &table("Notifications", &["Reason", "To", "State", "Planned", "Tries#", "Problem"]);
    for delivery in deliveries {
        let (way, to) = delivery.route.split_once(':').unwrap_or(("", &delivery.route));
        let repeated = if delivery.maybe_repeated { ", perhaps twice" } else { "" };
        let reason = match (delivery.step, delivery.reason.as_str()) {
            (_, "fired") => "it fired",
            (_, "repeated") => "it still fires",
            (Step::Alert, "resolved") => "it is back in range",
            (_, "went_quiet") => "no calls for a day",
            (_, "rule_changed") => "its rule was changed",
            (_, "adopted") => "it was adopted",
            (_, "silence_ended") => "silence ended",
            (_, other) => other,
        };
        let step = match delivery.step {
            Step::Alert => "",
            Step::Message => " (message)",
            Step::Line => " (thread)",
        };
        let _ = write!(
            body,
            "<tr><th scope=row>{reason}{step}<td>{} {}<td>{}{repeated}<td>{}<td class=n>{}<td>{}",
            escaped(way),
            escaped(to),
            escaped(&delivery.state),
            time(delivery.planned_at),
            delivery.tries,
            escaped(delivery.problem.as_deref().unwrap_or("–")),
        );
    }
    *body += TABLE_END;
    match updates.len() {
        0 => {}
        1 => *body += "<p class=dim>Beside that, its numbers were brought up to date once.</p>",
        times => {
            let _ = write!(body, "<p class=dim>Beside that, its numbers were brought up to date {times} times.</p>");
        }
    }
    *body += "</section>";
    Ok(())
}

/// What one can do about it.
fn further(body: &mut String, shown: &Shown, caller: &Caller) {
    let told = &shown.told;
    *body += "<section aria-labelledby=do><h2 id=do>What to do</h2>";
    for action in &told.actions {
        let _ = write!(body, "<p>{}: {}.</p>", escaped(&action.label), escaped(&action.target.to_string()));
    }
    if shown.adoptable {
        let id = escaped(&told.alert_id);
        *body += "<p>If what it shows is normal from now on, adopt it: the alert ends, people are told, and the range starts from there.</p>";
        if caller.may >= May::Operate {
            let _ = write!(body, "<form method=post action='/alerts/{id}/adopt'>{}<button>Adopt as the new normal</button></form>", token(caller));
        } else {
            *body += "<p class=dim>You may read; somebody who may operate can adopt it.</p>";
        }
        *body += &command(&format!("streamgauge adopt {}", told.alert_id));
    }
    *body += "<p>Why it fires, and how far each group below is from it:</p>";
    let quoted = |label: &str| {
        if label.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/".contains(c)) && !label.is_empty() {
            label.to_owned()
        } else {
            format!("'{}'", label.replace('\'', "'\\''"))
        }
    };
    let group: String = told.group.iter().map(|(key, label)| format!(" {key}={}", quoted(label))).collect();
    *body += &command(&format!("streamgauge explain {}{group} --environment {}", told.rule, quoted(&told.environment)));
    *body += "</section>";
}

/// From the button of the page.
pub(in crate::http) async fn adopt(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named) -> Result<Redirect, Problem> {
    let path = format!("/alerts/{}", url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>());
    adopt::ask(&app, &caller, id).await?;
    Ok(Redirect::to(&path))
}
