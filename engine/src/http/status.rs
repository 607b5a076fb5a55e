//! `GET /api/v1/status`: position, lag, the conservation ledger, and how each rule and each file of rules stands.

use super::{App, Problem};
use crate::config::Delivery;
use crate::prices;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

pub(super) async fn status(State(app): State<App>) -> Result<Json<Value>, Problem> {
    Ok(Json(read(&app).await?))
}

pub(crate) async fn read(app: &App) -> Result<Value, Problem> {
    let outbox = app.store.ask(|db| db.outbox()).await?;
    let machine = app
        .reader
        .ask(|machine| {
            let ledger = machine.ledger();
            let environments: serde_json::Map<String, Value> = machine
                .clocks()
                .zip(machine.series())
                .map(|((name, clock), (_, groups, series))| {
                    (name.to_owned(), json!({ "clock": clock.to_string(), "groups": groups, "series": series }))
                })
                .collect();
            let malformed_by: serde_json::Map<String, Value> =
                ledger.malformed_by.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect();
            json!({
                "position": machine.position(),
                "received": ledger.received,
                "counted": ledger.counted,
                "malformed": ledger.malformed(),
                "malformed_by": malformed_by,
                "joined": ledger.joined,
                "in_window": ledger.in_window,
                "late": ledger.late,
                "future": ledger.future,
                "missed": ledger.missed,
                "overflowed": ledger.overflowed,
                "run_calls_unmeasured": ledger.run_calls_unmeasured,
                "script_failures": ledger.script_failures,
                "check_failures": ledger.check_failures,
                "balances": ledger.balances(),
                "environments": environments,
                "false_alarms": machine.plan().false_alarms.to_string(),
                "drift": machine.rules(),
                "rules": machine.plan().rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>(),
            })
        })
        .await?;
    let Value::Object(mut status) = machine else { unreachable!("an object was made above") };
    status.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    status.insert("source".into(), json!(app.source));
    status.insert("delivery".into(), json!(app.delivery.map_or("local", Delivery::name)));
    status.insert("slack".into(), json!(app.slack));
    status.insert("slack_socket".into(), json!(*app.hearing.borrow()));
    status.insert("committed".into(), json!(app.pulse.committed.load(Ordering::Relaxed)));
    status.insert("lag".into(), json!(app.pulse.pending.load(Ordering::Relaxed)));
    status.insert("rule_files".into(), json!(app.rules.files()));
    status.insert("index".into(), super::calls::standing(app));
    status.insert("datasets".into(), json!(app.datasets.tallies()));
    status.insert("outbox".into(), json!({ "waiting": outbox[0], "sent": outbox[1], "failed": outbox[2] }));
    let heard = app.prices.heard();
    let calls: serde_json::Map<String, Value> = heard.outcomes().into_iter().map(|(outcome, calls)| (outcome.to_owned(), json!(calls))).collect();
    status.insert(
        "prices".into(),
        json!({ "date": prices::date(), "source": prices::source(), "own": app.prices.own(), "calls": calls, "without_price": heard.unpriced() }),
    );
    Ok(Value::Object(status))
}
