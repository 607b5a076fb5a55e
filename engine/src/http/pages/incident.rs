//! `/incidents/{id}`: an incident whole: what is wrong and since when, its most likely cause and whom it hits, what was said and done and what was not
//! said, who was told where; and acknowledging it, silencing it and doing what its rule proposes.
//!
//! Deliberately absent: each alert's own figures and calls, which are on its page, and adopting, which is about one alert.

use super::super::access::{Caller, Form};
use super::super::incidents::{self, Found, unknown};
use super::super::silences::{self, about};
use super::super::{App, Named, Problem, actions, alerts};
use super::frame::{Frame, Place, token};
use super::html::{TABLE_END, command, escaped, link_as, table, time};
use super::silences::end_form;
use super::thread::{self, until_when};
use super::{alert, links};
use crate::config::May;
use crate::message::{self, compose};
use crate::outbox::now;
use crate::standing;
use crate::why::UNEXPLAINED;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use machine::incident::{Findings, Seen, Silence, Silenced};
use machine::{Notification, Reason, State as Phase};
use model::plan::Action;
use model::{Span, show};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The chart reads hours of slices.
const EVERY: Duration = Duration::from_secs(20);
/// What is over for longer does not come back.
const CHANGES: Span = Span::from_secs(3600);
/// Alerts that are listed; what they have in common is above them.
const ALERTS_MAX: usize = 60;
/// What the buttons silence it for.
const LENGTHS: [(&str, &str); 3] = [("30m", "30 minutes"), ("1h", "1 hour"), ("4h", "4 hours")];
/// What the last of them sends.
const RESOLVED: &str = "resolved";

pub(in crate::http) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>, Named(name): Named) -> Result<Html<String>, Problem> {
    let Found { seen, mut alerts } = incidents::find(&app, &name).await?.ok_or_else(|| unknown(&name))?;
    let mut active = active(&app).await?;
    for alert in &mut alerts {
        if let Some(current) = active.remove(&alert.alert_id) {
            *alert = current;
        }
    }
    // The alert that stands for it, as it is now. Without it there is still all that was told.
    let lead = alert::find(&app, &seen.lead.alert_id).await.ok();
    let told = lead.as_ref().map_or(&seen.lead, |lead| &lead.told);
    let mut body = String::from("<section id=incident data-live aria-label='What is wrong'>");
    head(&mut body, &seen, told);
    body += "</section>";
    to_do(&mut body, &seen, told, &caller);
    if let Some(lead) = &lead {
        body += &alert::charts(&app, lead).await?;
    }
    behind(&mut body, &seen);
    body += "<section id=thread data-live aria-labelledby=thread-title><h2 id=thread-title>What was said and done</h2>";
    body += &if seen.history.is_empty() { "<p class=dim>Nothing yet.</p>".to_owned() } else { thread::list(&seen.history) };
    body += "</section>";
    alert::notifications(&mut body, &app, &seen.id).await?;
    // Forty of them would hide all else.
    of_alerts(&mut body, &seen, &alerts);
    let path = format!("/api/v1/incidents/{}", seen.id);
    let _ = write!(body, "<p class=dim>As JSON: <a href='{0}'>{0}</a></p>", escaped(&path));
    let title = format!("{} · {}", seen.lead.rule, place(&seen));
    let every = seen.ended.is_none_or(|ended| now().since(ended) < CHANGES).then_some(EVERY);
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::None, title: &title, every }.page(&body))
}

/// What fires, by its id, as it is now.
async fn active(app: &App) -> Result<BTreeMap<String, Notification>, Problem> {
    let active = alerts::active(app).await?.into_iter().filter(|alert| alert.phase != Phase::Pending);
    Ok(active.map(|alert| (alert.told.alert_id.clone(), alert.told)).collect())
}

/// Its environment, and what the groups of all its alerts have in common.
pub(super) fn place(seen: &Seen) -> String {
    let common = |pair: &&(String, String)| seen.places.iter().all(|place| place.group.contains(pair));
    let common: Vec<_> = seen.lead.group.iter().filter(common).cloned().collect();
    if common.is_empty() && seen.alerts > 1 {
        return seen.environment.clone();
    }
    format!("{} · {}", seen.environment, standing::place(&common))
}

/// Whose figures are shown, where there are several.
fn stands_for_all(seen: &Seen) -> String {
    if seen.alerts < 2 {
        return String::new();
    }
    format!("<p class=dim>Of {}, which stands for all:</p>", escaped(&standing::place(&seen.lead.group)))
}

/// `● firing`, and how it ended where it did.
fn state(seen: &Seen) -> (&'static str, String) {
    if seen.firing {
        return ("●", "firing".to_owned());
    }
    (if seen.end() == Some(Reason::Resolved) { "✔" } else { "○" }, thread::how_it_ended(seen))
}

/// `12 alerts, 9 of them fire`; nothing of one alert alone.
fn how_many(seen: &Seen) -> Option<String> {
    let fire = match (seen.firing_alerts, seen.alerts) {
        (_, ..=1) => return None,
        (0, all) => return Some(format!("{all} alerts")),
        (firing, all) if firing == all => "all of them fire".to_owned(),
        (1, _) => "one of them fires".to_owned(),
        (firing, _) => format!("{firing} of them fire"),
    };
    Some(format!("{} alerts, {fire}", seen.alerts))
}

/// Who has it in hand, and who does not want to hear of it: marks and words, so that no colour has to be seen.
fn standings(seen: &Seen) -> String {
    let mut text = String::new();
    if let Some(acknowledged) = &seen.acknowledged {
        let _ = write!(text, "<p class=standing>✓ Acknowledged by <strong>{}</strong> at {}</p>", escaped(&acknowledged.by), time(acknowledged.at));
    }
    if let Some(silence) = seen.silenced.as_ref().filter(|_| seen.firing) {
        let of = match &silence.of {
            Silenced::Incident(_) => String::new(),
            Silenced::Alerts(_) => format!(", with all alerts of <code>{}</code>", escaped(&about(&silence.of))),
        };
        let _ = write!(text, "<p class=standing>⊘ Silenced by <strong>{}</strong> {}{of}</p>", escaped(&silence.by), until_when(silence.until));
    }
    text
}

fn head(body: &mut String, seen: &Seen, told: &Notification) {
    let shown = compose(told, "", false);
    let summary = if seen.firing { shown.summary } else { message::incident(seen, "", false).summary.to_string() };
    let (mark, state) = state(seen);
    let class = if seen.firing { seen.severity.name() } else { "ended" };
    let many = how_many(seen).map_or_else(String::new, |many| format!(" · {many}"));
    let _ = write!(
        body,
        "<h1>{mark} {}: {} <small>{state} · {}{many}</small></h1>{}<div class='alert {class}'>{}<p><strong>{}</strong></p><dl>",
        escaped(&seen.lead.rule),
        escaped(&place(seen)),
        seen.severity.name(),
        standings(seen),
        stands_for_all(seen),
        escaped(&summary),
    );
    // When it began is said of all of it, below.
    for (label, value) in shown.fields.iter().filter(|(label, _)| !matches!(label.as_str(), "Environment" | "Since" | "Began")) {
        let _ = write!(body, "<dt>{}<dd>{}", escaped(label), escaped(value));
    }
    if seen.rules.len() > 1 {
        let _ = write!(body, "<dt>Rules<dd>{}", escaped(&seen.rules.join(", ")));
    }
    let _ = write!(body, "<dt>Began<dd>{}", time(seen.began));
    if let (Some(ended), Some(lasted)) = (seen.ended, seen.lasted()) {
        let _ = write!(body, "<dt>Ended<dd>{}, after {}", time(ended), standing::about(lasted));
    }
    match seen.returned {
        0 => {}
        1 => *body += "<dt>Came back<dd>once",
        times => {
            let _ = write!(body, "<dt>Came back<dd>{times} times");
        }
    }
    if let Some(runbook) = told.runbook.as_deref() {
        let _ = write!(body, "<dt>Runbook<dd>{}", alert::runbook(runbook));
    }
    *body += "</dl></div>";
}

/// What one can do about it; nothing once it is over.
fn to_do(body: &mut String, seen: &Seen, told: &Notification, caller: &Caller) {
    *body += "<section id=do data-live aria-label='What to do'>";
    if !seen.firing {
        *body += "</section>";
        return;
    }
    if caller.may < May::Operate {
        for action in &told.actions {
            let _ = write!(body, "<p>{}: {}.</p>", escaped(&action.label), escaped(&action.target.to_string()));
        }
        *body += "<p class=dim>You may read; somebody who may operate can acknowledge and silence it, and do what its rule proposes.</p></section>";
        return;
    }
    let (id, token) = (escaped(&seen.id), token(caller));
    *body += "<div class=actions>";
    if seen.acknowledged.is_none() {
        let _ = write!(body, "<form method=post action='/incidents/{id}/ack'>{token}<button class=first>Acknowledge</button></form>");
    }
    match &seen.silenced {
        Some(silence) => *body += &end_form(caller, silence, Some(&seen.id), ended_by(silence)),
        None => {
            let _ = write!(
                body,
                "<form method=post action='/incidents/{id}/silence' role=group aria-labelledby=silence-for>{token}<span id=silence-for>Silence for</span>"
            );
            for (length, words) in LENGTHS {
                let _ = write!(body, "<button name=for value={length}>{words}</button>");
            }
            let _ = write!(body, "<button name=for value={RESOLVED}>until resolved</button></form>");
        }
    }
    *body += "</div>";
    for action in &told.actions {
        proposal(body, seen, told, action, &token);
    }
    *body += "<details><summary>In a terminal</summary>";
    *body += &command(&format!("streamgauge ack {}", seen.id));
    *body += &command(&format!("streamgauge silence {} --for 1h", seen.id));
    *body += "</details></section>";
}

/// What the rule proposes, as a button; where it wants to be asked first, behind its question.
fn proposal(body: &mut String, seen: &Seen, told: &Notification, action: &Action, token: &str) {
    let (label, target) = (escaped(&action.label), escaped(&action.target.to_string()));
    let form = |button: &str| {
        format!(
            "<form method=post action='/incidents/{}/act'>{token}<input type=hidden name=alert value='{}'>\
             <input type=hidden name=action value='{label}'><button>{button}</button> <span class=dim>{target}</span></form>",
            escaped(&seen.id),
            escaped(&told.alert_id),
        )
    };
    *body += &match &action.confirm {
        None => format!("<div class=actions>{}</div>", form(&label)),
        Some(confirm) => format!(
            "<details class=proposal><summary>{label} …</summary><p>{}</p><div class=actions>{}</div></details>",
            escaped(confirm),
            form(&format!("Yes: {label}")),
        ),
    };
}

fn ended_by(silence: &Silence) -> &'static str {
    match silence.of {
        Silenced::Incident(_) => "Unsilence",
        Silenced::Alerts(_) => "End the silence, also for its other alerts",
    }
}

/// The most likely cause, whom it hits, and runs that show it.
fn behind(body: &mut String, seen: &Seen) {
    *body += "<section id=why data-live aria-labelledby=why-title><h2 id=why-title>Why, and whom it hits</h2>";
    match &seen.findings {
        None => *body += "<p class=dim>Nothing is known of its calls.</p>",
        Some(findings) => {
            found(body, seen, findings);
        }
    }
    let _ = write!(body, "<p>{}</p></section>", link_as("/alerts", &seen.lead.alert_id, "Its calls, users and range as they are now"));
}

fn found(body: &mut String, seen: &Seen, findings: &Findings) {
    for line in &findings.cause {
        let _ = write!(body, "<p>{}</p>", escaped(line));
    }
    if findings.cause.is_empty() {
        let _ = match findings.calls {
            Some(_) => write!(body, "<p>{UNEXPLAINED}</p>"),
            None => write!(body, "<p class=dim>What its calls have in common cannot be told, or not yet.</p>"),
        };
    }
    if let Some(calls) = findings.calls {
        let counted = |count: Option<u64>| count.map_or_else(|| "a great many".to_owned(), |count| show::number(count as f64));
        let cost = findings.cost_usd.map_or_else(|| "–".to_owned(), show::dollars);
        let numbers =
            [("bad calls", counted(Some(calls))), ("users", counted(findings.users)), ("runs", counted(findings.runs)), ("they cost", cost)];
        *body += "<dl class=numbers>";
        for (name, number) in numbers {
            let _ = write!(body, "<div><dt>{name}</dt><dd class=count>{}</dd></div>", escaped(&number));
        }
        *body += "</dl><p class=dim>As of when it was last told.</p>";
    }
    if !findings.examples.is_empty() {
        let runs = findings.examples.iter().map(|example| {
            let run = links::run(&seen.environment, &example.event_id, &example.event_id);
            format!("{run} ({})", links::call(example.sequence, "its call"))
        });
        let _ = write!(body, "<p>Runs that show it: {}</p>", runs.collect::<Vec<_>>().join(", "));
    }
}

/// Its alerts, those that fire first.
fn of_alerts(body: &mut String, seen: &Seen, alerts: &[Notification]) {
    *body += "<section id=alerts data-live aria-labelledby=alerts-title><h2 id=alerts-title>Its alerts</h2>";
    *body += &table("Alerts", &["State", "Where", "Rule", "Severity", "At worst#", "Began", "Ended"]);
    for told in alerts.iter().take(ALERTS_MAX) {
        let ended = told.reason.ends();
        let worst = told.worst.as_ref().or(told.observed.first().map(|observed| &observed.observation)).and_then(|seen| seen.value);
        let worst = worst.zip(told.observed.first()).map_or_else(|| "–".to_owned(), |(worst, observed)| observed.unit.show(worst));
        let _ = write!(
            body,
            "<tr><td class=state>{}<th scope=row class=long>{}<td>{}<td>{}<td class=n>{}<td>{}<td>{}",
            if ended { format!("○ {}", told.reason.name().replace('_', " ")) } else { "● firing".to_owned() },
            link_as("/alerts", &told.alert_id, &standing::place(&told.group)),
            escaped(&told.rule),
            told.severity.name(),
            escaped(&worst),
            time(told.since()),
            if ended { time(told.at) } else { "–".to_owned() },
        );
    }
    *body += TABLE_END;
    if alerts.len() > ALERTS_MAX {
        let _ = write!(body, "<p>and {} more: <a href='/api/v1/incidents/{}'>as JSON</a></p>", alerts.len() - ALERTS_MAX, escaped(&seen.id));
    }
    *body += "</section>";
}

/// An open incident in short, with the alert that stands for it as it is now; its page has the rest.
pub(super) fn brief(seen: &Seen, told: &Notification) -> String {
    /// Groups that are named; forty would hide the next incident.
    const NAMED_MAX: usize = 6;
    let message = compose(told, "", false);
    let facts = message.fields.iter().filter(|(label, _)| matches!(label.as_str(), "Now" | "Expected" | "Since"));
    let mut facts: String = facts.map(|(label, value)| format!("<dt>{}<dd>{}", escaped(label), escaped(value))).collect();
    if let Some(cause) = seen.findings.as_ref().and_then(|findings| findings.cause.first()) {
        let _ = write!(facts, "<dt>Why<dd>{}", escaped(cause));
    }
    let many = how_many(seen).map_or_else(String::new, |many| format!(" · {many}"));
    if seen.alerts > 1 {
        let several = seen.rules.len() > 1;
        let named: Vec<_> = seen.places.iter().filter(|place| place.firing).take(NAMED_MAX).collect();
        let more = (seen.firing_alerts as usize).saturating_sub(named.len());
        let named: Vec<_> = named
            .into_iter()
            .map(|place| match several {
                true => format!("{} in {}", place.rule, standing::place(&place.group)),
                false => standing::place(&place.group),
            })
            .collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = write!(facts, "<dt>Fires in<dd>{}{more}", escaped(&named.join(", ")));
    }
    let quiet = if seen.silenced.is_some() || seen.acknowledged.is_some() { " quiet" } else { "" };
    format!(
        "<article class='alert {severity}{quiet}' id='incident-{id}'><h3><a href='/incidents/{id}'>{}</a> <small>firing · {severity}{many}</small></h3>\
         <p>{}</p>{}{}<p><strong>{}</strong></p><dl>{facts}</dl></article>",
        escaped(&seen.lead.rule),
        escaped(&place(seen)),
        standings(seen),
        stands_for_all(seen),
        escaped(&message.summary),
        severity = seen.severity.name(),
        id = escaped(&seen.id),
    )
}

/// On an alert's page: what it is part of.
pub(super) fn of_alert(body: &mut String, seen: &Seen) {
    let (mark, state) = state(seen);
    let with = match seen.alerts {
        ..=1 => String::new(),
        2 => ", with one other alert".to_owned(),
        alerts => format!(", with {} other alerts", alerts - 1),
    };
    let link = link_as("/incidents", &seen.id, &format!("incident of {}", seen.lead.rule));
    let _ = write!(
        body,
        "<section id=part data-live aria-label='Its incident'><p>{mark} Part of the {link}: {state} · {}{with}</p>{}</section>",
        seen.severity.name(),
        standings(seen),
    );
}

fn path(id: &str) -> String {
    format!("/incidents/{}", url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>())
}

/// From the button of the page; so are the next three.
pub(in crate::http) async fn ack(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named) -> Result<Redirect, Problem> {
    let (seen, _) = incidents::acknowledge(&app, &caller, &id).await?;
    Ok(Redirect::to(&path(&seen.id)))
}

pub(in crate::http) async fn silence(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(form): Extension<Form>,
    Named(id): Named,
) -> Result<Redirect, Problem> {
    let until = match form.get("for") {
        Some(RESOLVED) => None,
        Some(length) => silences::end(Some(length), None, now())?,
        None => return Err(Problem::new(StatusCode::BAD_REQUEST, "for how long is not said", "send for=1h, or for=resolved")),
    };
    silences::make(&app, &caller, Silenced::Incident(id.clone()), until).await?;
    Ok(Redirect::to(&path(&id)))
}

pub(in crate::http) async fn act(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(form): Extension<Form>,
    Named(id): Named,
) -> Result<Redirect, Problem> {
    let Some(label) = form.get("action") else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "what to do is not said", "send action=, the label of one of its rule's actions"));
    };
    let done = actions::perform(&app, &caller, &id, form.get("alert"), label).await?;
    Ok(Redirect::to(&path(&done.seen.id)))
}

pub(in crate::http) async fn end_silence(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(form): Extension<Form>,
    Named(id): Named,
) -> Result<Redirect, Problem> {
    silences::lift(&app, &caller, &id).await?;
    Ok(Redirect::to(&form.get("incident").map_or_else(|| "/status#silences".to_owned(), path)))
}
