//! The page at `/`: the incidents that are open, how each stage does beside what is expected of it, and what ended last.

use super::super::access::Caller;
use super::super::series::{Query, Wanted};
use super::super::{App, Problem, alerts, incidents, series};
use super::card::{self, card};
use super::frame::{Frame, Place};
use super::html::{TABLE_END, escaped, link, link_as, table, time};
use super::{incident, thread};
use crate::message::compose;
use crate::standing;
use axum::Extension;
use axum::extract::State;
use axum::response::Html;
use machine::incident::Seen;
use machine::{Notification, State as Phase};
use model::{Key, Measure, MeasureRef, Signal, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// What the cards count.
const WINDOW: Span = Span::from_secs(300);
/// Environments × stages are few, but a name per request in `stage` must not make a page of megabytes.
const CARDS_MAX: usize = 60;
/// Incidents that are shown in short; a hundred at once are one trouble.
const OPEN_MAX: usize = 20;
/// The same of alerts that are pending.
const ALONE_MAX: usize = 20;
const ENDED_MAX: usize = 10;
/// It reads five minutes of slices.
const EVERY: Duration = Duration::from_secs(5);

pub(in crate::http) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Html<String>, Problem> {
    let active = alerts::active(&app).await?;
    let open = incidents::open(&app).await?;
    let known = app.store.ask(|db| db.alerts_in_incidents()).await?;
    let over = incidents::ended(&app, ENDED_MAX).await?;
    let mut body = String::from("<h1 class=hidden>Overview</h1><section id=now data-live aria-labelledby=now-title><h2 id=now-title>Now</h2>");
    // What is pending, and what fires since a moment ago.
    let alone: Vec<_> = active.iter().filter(|alert| !known.contains(&alert.told.alert_id)).collect();
    if open.is_empty() && alone.iter().all(|alert| alert.phase == Phase::Pending) {
        body += "<p class=well>✓ Nothing is worse than expected.</p>";
    }
    for seen in open.iter().take(OPEN_MAX) {
        let lead = active.iter().find(|alert| alert.told.alert_id == seen.lead.alert_id);
        body += &incident::brief(seen, lead.map_or(&seen.lead, |alert| &alert.told));
    }
    if open.len() > OPEN_MAX {
        let _ = write!(body, "<p>and {} more: <a href='/api/v1/incidents'>/api/v1/incidents</a></p>", open.len() - OPEN_MAX);
    }
    for alert in alone.iter().take(ALONE_MAX) {
        body += &brief(&alert.told, alert.phase == Phase::Pending);
    }
    if alone.len() > ALONE_MAX {
        let _ = write!(body, "<p>and {} more: <a href='/api/v1/alerts'>/api/v1/alerts</a></p>", alone.len() - ALONE_MAX);
    }
    body += "</section>";
    let firing_at = |alert: &alerts::Active| {
        (alert.told.environment.clone(), alert.told.group.iter().find(|(key, _)| key == "stage").map(|(_, stage)| stage.clone()))
    };
    let firing: BTreeSet<_> = active.iter().filter(|alert| alert.phase != Phase::Pending).map(firing_at).collect();
    stages(&mut body, &app, &firing).await?;
    ended(&mut body, &over);
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::Overview, title: "Overview", every: Some(EVERY) }.page(&body))
}

/// An alert in short; its page has the rest.
fn brief(told: &Notification, pending: bool) -> String {
    let message = compose(told, "", false);
    let facts = message.fields.iter().filter(|(label, _)| matches!(label.as_str(), "Now" | "Expected" | "Since" | "Worst hit"));
    let facts: String = facts.map(|(label, value)| format!("<dt>{}<dd>{}", escaped(label), escaped(value))).collect();
    let state = if pending { "pending" } else { "firing" };
    format!(
        "<article class='alert {severity}' id='alert-{id}'><h3>{} <small>{state} · {severity}</small></h3>\
         <p>{} · {}</p><p><strong>{}</strong></p><dl>{facts}</dl>\
         <p>condition since {} · <a href='/alerts/{id}'>what is known of it<span class=hidden>: {}</span></a></p></article>",
        link("/rules", &told.rule),
        escaped(&told.environment),
        escaped(&standing::place(&told.group)),
        escaped(&message.summary),
        time(told.began),
        escaped(&told.rule),
        severity = told.severity.name(),
        id = escaped(&told.alert_id),
    )
}

/// A card for each stage.
async fn stages(body: &mut String, app: &App, firing: &BTreeSet<(String, Option<String>)>) -> Result<(), Problem> {
    let signal = Wanted::Signal(Signal::Error.name().to_owned());
    // One read serves all: a cell holds every signal and measure.
    let query = Query { wanted: signal, window: WINDOW, group_by: vec![Key::Stage], only: Vec::new(), environment: None };
    let answer = series::read(app, &query).await?;
    let seen = app.reader.ask(card::seen).await?;
    let measures: BTreeMap<Measure, usize> = answer
        .measures
        .iter()
        .enumerate()
        .filter_map(|(at, measure)| if let MeasureRef::BuiltIn(measure) = measure { Some((*measure, at)) } else { None })
        .collect();
    let _ = write!(
        body,
        "<section id=stages data-live aria-labelledby=stages-title><h2 id=stages-title>Stages <small>the last {WINDOW}, and what is expected of them</small></h2>"
    );
    if answer.groups.is_empty() {
        *body += "<p>No calls yet. Publish one: <code>streamgauge publish calls.jsonl</code></p></section>";
        return Ok(());
    }
    *body += "<div class=cards>";
    let several = answer.environments.len() > 1;
    let fires = |group: &series::Group| firing.contains(&(group.environment.clone(), group.labels.first().cloned()));
    // What fires is what one came to see.
    let mut groups: Vec<_> = answer.groups.iter().collect();
    groups.sort_by_key(|group| !fires(group));
    for group in groups.iter().take(CARDS_MAX) {
        *body += &card(group, &seen, &measures, WINDOW.millis() as f64 / 60_000.0, several, fires(group));
    }
    *body += "</div>";
    if answer.groups.len() > CARDS_MAX {
        let _ = write!(
            body,
            "<p class=dim>{} more are in <a href='/api/v1/series?signal=error&amp;group_by=stage'>/api/v1/series</a>.</p>",
            answer.groups.len() - CARDS_MAX
        );
    }
    *body += "</section>";
    Ok(())
}

fn ended(body: &mut String, ended: &[Seen]) {
    *body += "<section id=ended data-live aria-labelledby=ended-title><h2 id=ended-title>Ended</h2>";
    if ended.is_empty() {
        *body += "<p class=dim>No incident has ended within the store's retention.</p></section>";
        return;
    }
    *body += &table("Ended incidents", &["Rule", "Where", "How", "At worst#", "Alerts#", "Began", "Ended"]);
    for seen in ended {
        let message = compose(&seen.lead, "", false);
        let worst = message.fields.iter().find(|(label, _)| label == "At worst").map_or("", |(_, value)| value);
        let place = incident::place(seen);
        let _ = write!(
            body,
            "<tr><th scope=row>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td>{}<td>{}",
            link_as("/incidents", &seen.id, &seen.lead.rule),
            escaped(&place),
            escaped(&thread::how_it_ended(seen)),
            escaped(worst),
            seen.alerts,
            time(seen.began),
            seen.ended.map_or_else(|| "–".to_owned(), time),
        );
    }
    let _ = write!(body, "{TABLE_END}</section>");
}
