//! `GET /api/v1/judges`: each judge, whom it asks, how it is doing, what it has cost, what became of the calls chosen for it, and how far it is
//! believed.
//! `GET /api/v1/sampling`: how the judges' samples are spread over environments and groups, and with which probability.

use super::{App, Problem};
use crate::judging::Shown;
use crate::judging::calibrated::{Trust, trust};
use axum::Json;
use axum::extract::State;
use machine::{Judged, Sampled};
use serde::{Deserialize, Serialize};

/// One judge of a running engine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub shown: Shown,
    /// Since the store began: chosen calls, and what became of them.
    pub judged: Judged,
    /// Chosen calls without a verdict, in the engine's state.
    pub open: usize,
    /// By people's labels.
    #[serde(default)]
    pub calibration: Trust,
}

pub(super) async fn judges(State(app): State<App>) -> Result<Json<Vec<Listed>>, Problem> {
    Ok(Json(read(&app).await?))
}

pub(super) async fn read(app: &App) -> Result<Vec<Listed>, Problem> {
    let (ledger, open) = app
        .reader
        .ask(|machine| {
            let open: Vec<_> = machine.judging().map(|(judge, open)| (judge.to_owned(), open)).collect();
            (machine.ledger().judged.clone(), open)
        })
        .await?;
    let calibrations = app.store.ask(|db| db.calibrations()).await?;
    let listed = app.judges.judges().into_iter().map(|shown| {
        let open = open.iter().find(|(judge, _)| *judge == shown.judge).map_or(0, |(_, open)| *open);
        // The desk writes it so.
        let fingerprint = u64::from_str_radix(&shown.fingerprint, 16).unwrap_or_default();
        let calibration = trust(&calibrations, &shown.judge, fingerprint);
        Listed { judged: ledger.get(&shown.judge).cloned().unwrap_or_default(), open, calibration, shown }
    });
    Ok(listed.collect())
}

pub(super) async fn sampling(State(app): State<App>) -> Result<Json<Vec<Sampled>>, Problem> {
    Ok(Json(app.reader.ask(|machine| machine.sampled()).await?))
}
