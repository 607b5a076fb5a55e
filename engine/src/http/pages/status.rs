//! `/status`: whether the engine keeps up, where every log went, what waits to be told, what is silenced and suspended, and who changed what.

use super::super::access::Caller;
use super::super::{App, Problem, audit, silences, status};
use super::frame::{Frame, Place};
use super::html::{TABLE_END, escaped, link, table, time, time_of};
use crate::config::Delivery;
use crate::source::core::LOSES;
use crate::suspensions::way_out;
use axum::Extension;
use axum::extract::State;
use axum::response::Html;
use model::show;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(5);
/// Entries of the audit log; `/api/v1/audit` has more.
const AUDITED_MAX: usize = 50;

pub(in crate::http) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Html<String>, Problem> {
    let status = status::read(&app).await?;
    let audited = audit::read(&app, AUDITED_MAX).await?;
    let suspended = app
        .reader
        .ask(|machine| {
            let of = |it: machine::Suspended| (machine.plan().rules[it.rule].name.clone(), it);
            machine.suspended().map(of).collect::<Vec<_>>()
        })
        .await?;
    let mut body =
        String::from("<h1>Status</h1><section id=ledger data-live aria-labelledby=ledger-title><h2 id=ledger-title>Where every log went</h2>");
    ledger(&mut body, &status);
    body += "</section><section id=environments data-live aria-labelledby=environments-title><h2 id=environments-title>Environments</h2>";
    environments(&mut body, &status);
    body += "</section><section id=outbox data-live aria-labelledby=outbox-title><h2 id=outbox-title>Messages</h2>";
    numbers(&mut body, &status["outbox"], &[("waiting", "on their way"), ("sent", "delivered"), ("failed", "given up; see the log")]);
    body += "</section>";
    super::silences::section(&mut body, &caller, &silences::read(&app).await?);
    body += "<section id=suspended data-live aria-labelledby=suspended-title><h2 id=suspended-title>Suspended scripts</h2>";
    if suspended.is_empty() {
        body += "<p class=well>✓ No script is suspended.</p>";
    } else {
        body += &table("Suspended scripts", &["Rule", "Environment", "On", "Until", "Way out"]);
        for (rule, suspended) in suspended {
            let (environment, on) = (escaped(&suspended.environment), suspended.of.name());
            let _ = write!(
                body,
                "<tr><th scope=row>{}<td>{environment}<td>{on}<td>{}<td class=long>{}",
                link("/rules", &rule),
                time(suspended.until),
                escaped(way_out(suspended.of))
            );
        }
        body += TABLE_END;
    }
    body += "</section><section id=audit data-live aria-labelledby=audit-title><h2 id=audit-title>Who changed what</h2>";
    if audited.is_empty() {
        body += "<p class=dim>Nobody has changed anything over HTTP within the store's retention.</p>";
    } else {
        body += &table("Audit log", &["When", "Who", "Known by", "Did", "To", "Came of it"]);
        for entry in audited {
            let to = match entry.action.as_str() {
                "adopt" => link("/alerts", &entry.subject),
                "ack" => link("/incidents", &entry.subject),
                _ => escaped(&entry.subject),
            };
            let _ = write!(
                body,
                "<tr><td>{}<th scope=row>{}<td>{}<td>{}<td>{to}<td class=long>{}",
                time(entry.at),
                escaped(&entry.who),
                entry.way.name(),
                escaped(&entry.action.replace('_', " ")),
                escaped(&entry.outcome)
            );
        }
        body += TABLE_END;
    }
    body += "</section><section aria-labelledby=more><h2 id=more>For programs</h2><p><a href='/api/v1/openapi.json'>/api/v1/openapi.json</a> · \
        <a href='/api/v1/status'>/api/v1/status</a> · <a href='/api/v1/alerts'>/api/v1/alerts</a> · \
        <a href='/api/v1/incidents'>/api/v1/incidents</a> · <a href='/api/v1/silences'>/api/v1/silences</a> · <a href='/api/v1/audit'>/api/v1/audit</a> · \
        <a href='/metrics'>/metrics</a></p></section>";
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::Status, title: "Status", every: Some(EVERY) }.page(&body))
}

fn ledger(body: &mut String, status: &Value) {
    let lag = status["lag"].as_u64().unwrap_or_default();
    let lost = status["missed"].as_u64().unwrap_or_default();
    let loses = status["delivery"] == Delivery::Core.name();
    if loses {
        let _ = write!(body, "<p class=dim>{}.</p>", escaped(LOSES));
    }
    *body += match (status["balances"] == false, lost, lag) {
        (true, ..) => "<p class=bad>✗ The sums disagree: please report this.</p>",
        (_, 1.., _) if loses => "<p class=bad>✗ Logs came faster than they are counted, and are lost.</p>",
        (_, 1.., _) => "<p class=bad>✗ Logs were gone from the stream before they were read: it is too small, or was emptied.</p>",
        (_, 0, 0) if loses => "<p class=well>✓ Every log that reached the engine is counted.</p>",
        (_, 0, 0) => "<p class=well>✓ Every log that the stream has is counted.</p>",
        (_, 0, _) => "<p>The engine is behind the stream; what is shown is older by so many logs.</p>",
    };
    numbers(
        body,
        status,
        &[
            ("lag", "still to be read"),
            ("position", "last sequence counted"),
            ("committed", "last sequence saved"),
            ("received", "read from the stream"),
            ("counted", "counted as calls"),
            ("in_window", "of them in their slice"),
            ("late", "of them after it was sealed"),
            ("malformed", "no calls; on streamgauge.dead"),
            ("missed", "gone before they were read"),
            ("future", "ahead of the server's time"),
            ("overflowed", "counted as (other)"),
        ],
    );
    let by: Vec<_> = status["malformed_by"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, count)| format!("{} {reason}", show::number(count.as_f64().unwrap_or_default())))
        .collect();
    if !by.is_empty() {
        let _ = write!(body, "<p class=dim>Malformed: {}.</p>", escaped(&by.join(", ")));
    }
}

fn numbers(body: &mut String, from: &Value, of: &[(&str, &str)]) {
    *body += "<dl class=numbers>";
    for (name, meaning) in of {
        let count = show::number(from[*name].as_f64().unwrap_or_default());
        let _ = write!(body, "<div><dt>{}</dt><dd class=count>{count}</dd><dd class=dim>{meaning}</dd></div>", name.replace('_', " "));
    }
    *body += "</dl>";
}

fn environments(body: &mut String, status: &Value) {
    let environments: Vec<_> = status["environments"].as_object().into_iter().flatten().collect();
    if environments.is_empty() {
        *body += "<p class=dim>No calls yet.</p>";
        return;
    }
    *body += &table("Environments", &["Environment", "Its clock", "Groups#", "Series#"]);
    for (name, environment) in environments {
        let number = |name: &str| show::number(environment[name].as_f64().unwrap_or_default());
        let clock = time_of(environment["clock"].as_str().unwrap_or_default());
        let _ = write!(body, "<tr><th scope=row>{}<td>{clock}<td class=n>{}<td class=n>{}", escaped(name), number("groups"), number("series"));
    }
    *body += TABLE_END;
}
