//! `GET /api/v1/rules`: every rule that runs: what it says, where it is written, and its health.

use super::{App, Problem};
use crate::listing::{Health, Listed, Looked, Says, SuspendedScript};
use crate::suspensions::way_out;
use axum::Json;
use axum::extract::State;
use std::collections::BTreeMap;

pub(super) async fn rules(State(app): State<App>) -> Result<Json<Vec<Listed>>, Problem> {
    Ok(Json(read(&app).await?))
}

pub(super) async fn read(app: &App) -> Result<Vec<Listed>, Problem> {
    let files: BTreeMap<_, _> = app.rules.files().into_iter().filter_map(|standing| Some((standing.rule.clone()?, standing))).collect();
    let timings = app.pulse.timings();
    let listed = app
        .reader
        .ask(move |machine| {
            let (plan, ledger) = (machine.plan(), machine.ledger());
            let looked: BTreeMap<_, _> = machine.looked().collect();
            let standings = machine.rules();
            let suspended: Vec<_> = machine.suspended().collect();
            let list = |rule: &model::plan::Rule| {
                let file = files.get(&rule.name);
                let mine = standings.iter().filter(|standing| standing.rule == rule.name);
                let health = Health {
                    loaded_at: file.and_then(|file| file.loaded_at),
                    problem: file.and_then(|file| file.problem.clone()),
                    script_failures: ledger.script_failures.get(&rule.name).copied().unwrap_or(0),
                    check_failures: ledger.check_failures.get(&rule.name).copied().unwrap_or(0),
                    suspended: suspended
                        .iter()
                        .filter(|suspended| plan.rules[suspended.rule].name == rule.name)
                        .map(|suspended| SuspendedScript {
                            environment: suspended.environment.clone(),
                            on: suspended.of.name().to_owned(),
                            until: suspended.until,
                            hint: way_out(suspended.of).to_owned(),
                        })
                        .collect(),
                    timing: timings.of_slot(plan.slot_of(rule)),
                    environments: mine
                        .filter_map(|standing| Some(Looked { looked_at: *looked.get(standing.environment.as_str())?, standing: standing.clone() }))
                        .collect(),
                };
                Listed { says: Says::of(rule, plan.false_alarms, file.map(|file| file.file.clone())), health: Some(health) }
            };
            plan.rules.iter().map(list).collect::<Vec<_>>()
        })
        .await?;
    Ok(listed)
}
