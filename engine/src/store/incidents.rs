//! Incidents with what is said of them: heard of, kept and planned in one transaction, so that a kill neither loses nor doubles anything.

use super::{Db, notification};
use crate::error::Fault;
use crate::routes::Route;
use machine::Notification;
use machine::incident::{Incident, Silence, Telling};
use model::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS incidents (
  id TEXT PRIMARY KEY, open INTEGER NOT NULL, opened INTEGER NOT NULL, changed INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS incidents_changed ON incidents (changed);
CREATE TABLE IF NOT EXISTS members (incident TEXT NOT NULL, alert TEXT NOT NULL, ordinal INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (incident, alert)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS silences (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS posts (
  incident TEXT NOT NULL, route TEXT NOT NULL, channel TEXT NOT NULL, ts TEXT NOT NULL, maybe_repeated INTEGER NOT NULL,
  PRIMARY KEY (incident, route)) WITHOUT ROWID;
";

/// The name under which the outbox keeps what incidents are still to hear of.
pub const HEARD: &str = "incidents";

/// One step on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// An alert's notification.
    Alert,
    /// The one message of an incident: posted, or brought up to date.
    Message,
    /// A line in its thread.
    Line,
}

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Message => "message",
            Self::Line => "line",
        }
    }
}

/// Where an incident's message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub channel: String,
    pub ts: String,
    /// An earlier one may be there, of which nobody knows.
    pub maybe_repeated: bool,
}

/// What is to be written together.
#[derive(Debug, Default)]
pub struct Change {
    /// Rows of the outbox that incidents have heard of now.
    pub heard: Vec<i64>,
    pub incidents: Vec<Incident>,
    /// From, into.
    pub merged: Vec<(String, String)>,
    pub silences: Option<Vec<Silence>>,
    /// Each with its ways out.
    pub tellings: Vec<(Telling, Vec<Route>)>,
}

impl Db {
    /// Notifications that incidents have not heard of, in the order in which they were decided, at most `most`.
    pub fn unheard(&self, most: usize) -> Result<Vec<(i64, Notification)>, Fault> {
        let sql = "SELECT seq, body FROM outbox WHERE route = ?1 AND state = 'planned' ORDER BY seq LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![HEARD, most], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| row.map_err(Fault::from).and_then(|(seq, body)| Ok((seq, notification(&body)?)))).collect()
    }

    /// Writes what came of it.
    pub fn change(&mut self, change: &Change, now: Timestamp) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        for seq in &change.heard {
            transaction.execute("UPDATE outbox SET state = 'sent' WHERE seq = ?1", [seq])?;
        }
        for (from, into) in &change.merged {
            transaction.execute("DELETE FROM incidents WHERE id = ?1", [from])?;
            transaction.execute("UPDATE OR REPLACE members SET incident = ?2 WHERE incident = ?1", [from, into])?;
        }
        for incident in &change.incidents {
            put(&transaction, incident, now)?;
        }
        if let Some(silences) = &change.silences {
            transaction.execute("DELETE FROM silences", [])?;
            for silence in silences {
                transaction.execute("INSERT INTO silences VALUES (?1, ?2)", params![silence.id, written(silence)?])?;
            }
        }
        for (telling, routes) in &change.tellings {
            let body = written(telling)?;
            for route in routes {
                plan(&transaction, telling, route, &body, now)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Incidents that are open or changed since `since`, and the silences.
    pub fn incidents(&self, since: Timestamp) -> Result<(Vec<Incident>, Vec<Silence>), Fault> {
        let mut statement = self.connection.prepare("SELECT body FROM incidents WHERE open = 1 OR changed >= ?1 ORDER BY opened, id")?;
        let bodies = statement.query_map([since.millis()], |row| row.get::<_, String>(0))?;
        let incidents = bodies.map(|body| body.map_err(Fault::from).and_then(|body| self.whole(&body))).collect::<Result<_, _>>()?;
        let mut statement = self.connection.prepare("SELECT body FROM silences ORDER BY id")?;
        let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
        let silences = bodies.map(|body| body.map_err(Fault::from).and_then(|body| read(&body))).collect::<Result<_, _>>()?;
        Ok((incidents, silences))
    }

    /// The incidents that are over and changed last, newest first.
    pub fn ended_incidents(&self, most: usize) -> Result<Vec<Incident>, Fault> {
        let mut statement = self.connection.prepare_cached("SELECT body FROM incidents WHERE open = 0 ORDER BY changed DESC, id LIMIT ?1")?;
        let bodies = statement.query_map([most], |row| row.get::<_, String>(0))?;
        bodies.map(|body| body.map_err(Fault::from).and_then(|body| self.whole(&body))).collect()
    }

    /// The alerts that open incidents have.
    pub fn alerts_in_incidents(&self) -> Result<BTreeSet<String>, Fault> {
        let sql = "SELECT alert FROM members WHERE incident IN (SELECT id FROM incidents WHERE open = 1)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let alerts = statement.query_map([], |row| row.get(0))?;
        Ok(alerts.collect::<Result<_, _>>()?)
    }

    /// An incident by its id, or by an alert's.
    pub fn incident(&self, id: &str) -> Result<Option<Incident>, Fault> {
        let sql = "SELECT body FROM incidents WHERE id = ?1 OR id IN (SELECT incident FROM members WHERE alert = ?1) ORDER BY id = ?1 DESC LIMIT 1";
        let body: Option<String> = self.connection.query_row(sql, [id], |row| row.get(0)).optional()?;
        body.map(|body| self.whole(&body)).transpose()
    }

    fn whole(&self, body: &str) -> Result<Incident, Fault> {
        let mut incident: Incident = read(body)?;
        let mut statement = self.connection.prepare_cached("SELECT body FROM members WHERE incident = ?1 ORDER BY ordinal")?;
        let bodies = statement.query_map([&incident.id], |row| row.get::<_, String>(0))?;
        incident.alerts = bodies.map(|body| body.map_err(Fault::from).and_then(|body| notification(&body))).collect::<Result<_, _>>()?;
        Ok(incident)
    }

    /// Where an incident's message is on a route.
    pub fn post(&self, incident: &str, route: &str) -> Result<Option<Post>, Fault> {
        let sql = "SELECT channel, ts, maybe_repeated FROM posts WHERE incident = ?1 AND route = ?2";
        let post = |row: &rusqlite::Row<'_>| Ok(Post { channel: row.get(0)?, ts: row.get(1)?, maybe_repeated: row.get(2)? });
        Ok(self.connection.query_row(sql, [incident, route], post).optional()?)
    }

    /// Notes where it is.
    pub fn posted(&self, incident: &str, route: &str, post: &Post) -> Result<(), Fault> {
        let sql = "INSERT OR REPLACE INTO posts VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.execute(sql, params![incident, route, post.channel, post.ts, post.maybe_repeated])?;
        Ok(())
    }

    /// Sends a row another way, with a word why; on this one it is given up for `problem`.
    pub fn reroute(&mut self, seq: i64, problem: &str, to: &str, why: &str, now: Timestamp) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        let sql = "INSERT INTO outbox (id, route, body, planned_at, lane, step, note)
            SELECT id, ?2, body, ?4, lane, step, ?3 FROM outbox WHERE seq = ?1 ON CONFLICT DO NOTHING";
        transaction.execute(sql, params![seq, to, why, now.millis()])?;
        transaction.execute("UPDATE outbox SET state = 'failed', problem = ?2 WHERE seq = ?1", params![seq, problem])?;
        transaction.commit()?;
        Ok(())
    }
}

pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<(), Fault> {
    connection.execute("DELETE FROM incidents WHERE open = 0 AND changed < ?1", [before.millis()])?;
    connection.execute("DELETE FROM members WHERE incident NOT IN (SELECT id FROM incidents)", [])?;
    connection.execute("DELETE FROM posts WHERE incident NOT IN (SELECT id FROM incidents)", [])?;
    Ok(())
}

fn put(connection: &Connection, incident: &Incident, now: Timestamp) -> Result<(), Fault> {
    let open = incident.quiet.is_none();
    let sql = "INSERT OR REPLACE INTO incidents VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.execute(sql, params![incident.id, open, incident.opened.millis(), now.millis(), written(incident)?])?;
    let mut known = connection.prepare_cached("SELECT body ->> 'id' FROM members WHERE incident = ?1 AND alert = ?2")?;
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO members VALUES (?1, ?2, ?3, ?4)")?;
    for (ordinal, alert) in incident.alerts.iter().enumerate() {
        // A notification's id changes with what it says.
        let last: Option<String> = known.query_row([&incident.id, &alert.alert_id], |row| row.get(0)).optional()?;
        if last.as_ref() != Some(&alert.id) {
            insert.execute(params![incident.id, alert.alert_id, ordinal, written(alert)?])?;
        }
    }
    Ok(())
}

fn plan(connection: &Connection, telling: &Telling, route: &Route, body: &str, now: Timestamp) -> Result<(), Fault> {
    let lane = &telling.incident.id;
    let superseded = if route.superseding {
        // It shows all that the one before would have, in its place: before the lines that answer it, as late as its way out wants, and with what is not
        // known of it.
        let sql = "UPDATE outbox SET id = ?3, body = ?4 WHERE route = ?1 AND lane = ?2 AND step = 'message' AND state = 'planned'";
        connection.execute(sql, params![route.to, lane, telling.id, body])?
    } else {
        0
    };
    let sql = "INSERT INTO outbox (id, route, body, planned_at, lane, step) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
    if superseded == 0 {
        connection.execute(sql, params![telling.id, route.to, body, now.millis(), lane, Step::Message.name()])?;
    }
    if route.threaded && telling.aloud {
        let id = format!("{}-line", telling.id);
        connection.execute(sql, params![id, route.to, body, now.millis(), lane, Step::Line.name()])?;
    }
    Ok(())
}

fn written(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::plain(format!("cannot write an incident: {error}")))
}

pub(super) fn read<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, Fault> {
    serde_json::from_str(body).map_err(|error| Fault::plain(format!("an incident in the store is damaged: {error}")))
}
