//! Rows of the outbox: what waits for whom, in which order, and how far it has come.
//!
//! A row is one notification, message or line on its way to one place; a lane is what is said there of one incident, in order. Deliberately absent:
//! planning them, which is in one transaction with what they are about (`plan`, `incidents.rs`), and sending.

use super::incidents::{self, Post};
use super::{Db, notification};
use crate::error::Fault;
use machine::Notification;
use machine::incident::{Occasion, Telling};
use model::Timestamp;
use rusqlite::params;
use serde::{Deserialize, Serialize};

/// The name under which the outbox keeps what incidents are still to hear of.
pub const HEARD: &str = "incidents";

/// The step of a message that is brought up to date where it is and not posted anew: in a channel that is told no more.
pub(super) const EDIT: &str = "edit";

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

/// One notification on its way to one place.
#[derive(Clone, Debug)]
pub struct Row {
    pub seq: i64,
    pub id: String,
    /// `slack:#channel` or `nats:subject`.
    pub route: String,
    pub load: Load,
    /// What is to be said beside it, such as why it comes here.
    pub note: Option<String>,
    /// Its channel is told no more: the message is brought up to date where it is, or left as it is.
    pub follows: bool,
    /// It was being sent when the process died, or the connection broke before an answer came.
    pub maybe_sent: bool,
    pub tries: u32,
    pub planned_at: Timestamp,
}

impl Row {
    /// From when on what it says grows old: an end may have come into a row that waits since the incident began.
    pub fn decided_at(&self) -> Timestamp {
        match &self.load {
            Load::Message(telling, _) if matches!(telling.occasion, Occasion::Resolved { .. }) => self.planned_at.max(telling.at),
            _ => self.planned_at,
        }
    }
}

/// What a row brings.
#[derive(Clone, Debug)]
pub enum Load {
    Alert(Box<Notification>),
    /// An incident's message, and where it stands already.
    Message(Box<Telling>, Option<Post>),
    /// A line in its thread.
    Line(Box<Telling>, Option<Post>),
}

impl Load {
    /// What it must not overtake: what else is said of its incident.
    pub fn lane(&self) -> &str {
        match self {
            Self::Alert(_) => "",
            Self::Message(telling, _) | Self::Line(telling, _) => &telling.incident.id,
        }
    }

    pub fn step(&self) -> Step {
        match self {
            Self::Alert(_) => Step::Alert,
            Self::Message(..) => Step::Message,
            Self::Line(..) => Step::Line,
        }
    }
}

/// How far a notification has come on one way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub route: String,
    /// Why: of an alert `fired`, of an incident `grew`.
    pub reason: String,
    pub step: Step,
    /// `planned`, `sending`, `sent` or `failed`.
    pub state: String,
    pub tries: u32,
    pub planned_at: Timestamp,
    /// Why it is not there yet, or never will be.
    pub problem: Option<String>,
    pub maybe_repeated: bool,
}

impl Db {
    /// What was planned of an alert and of its incident, on each way out, the latest 200.
    pub fn deliveries(&self, alert_id: &str) -> Result<Vec<Delivery>, Fault> {
        let sql = "SELECT route, COALESCE(body ->> '$.occasion.is', body ->> 'reason', ''), step, state, tries, planned_at, problem, maybe_sent
            FROM outbox WHERE route <> ?2 AND (id >= ?1 || '-' AND id < ?1 || '.' OR lane IN (SELECT incident FROM members WHERE alert = ?1) OR lane = ?1)
            ORDER BY seq DESC LIMIT 200";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([alert_id, HEARD], |row| {
            let planned_at = Timestamp::from_millis(row.get(5)?).unwrap_or_default();
            let step = match row.get::<_, String>(2)?.as_str() {
                "message" | EDIT => Step::Message,
                "line" => Step::Line,
                _ => Step::Alert,
            };
            Ok(Delivery {
                route: row.get(0)?,
                reason: row.get(1)?,
                step,
                state: row.get(3)?,
                tries: row.get(4)?,
                planned_at,
                problem: row.get(6)?,
                maybe_repeated: row.get(7)?,
            })
        })?;
        let mut rows: Vec<Delivery> = rows.collect::<Result<_, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The first unsent row of every lane of every route that is due at `now`: what is said of one incident goes in order, and waits for no other.
    pub fn due(&self, now: Timestamp) -> Result<Vec<Row>, Fault> {
        let sql = "SELECT seq, id, o.route, body, maybe_sent, tries, planned_at, step, channel, ts, maybe_repeated, note FROM outbox o
            LEFT JOIN posts p ON p.incident = o.lane AND p.route = o.route WHERE seq IN
            (SELECT MIN(seq) FROM outbox WHERE state IN ('planned', 'sending') AND route <> ?2 GROUP BY route, lane)
            AND state = 'planned' AND next_at <= ?1 ORDER BY seq";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![now.millis(), HEARD], |row| {
            let (channel, ts, maybe_repeated): (Option<String>, Option<String>, Option<bool>) = (row.get(8)?, row.get(9)?, row.get(10)?);
            let post = channel.zip(ts).map(|(channel, ts)| Post { channel, ts, maybe_repeated: maybe_repeated.unwrap_or_default() });
            let (body, step): (String, String) = (row.get(3)?, row.get(7)?);
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, body, row.get(4)?, row.get(5)?, row.get(6)?, step, post, row.get(11)?))
        })?;
        rows.map(|row| {
            let (seq, id, route, body, maybe_sent, tries, planned_at, step, post, note) = row?;
            let planned_at = Timestamp::from_millis(planned_at).unwrap_or_default();
            let load = match step.as_str() {
                "message" | EDIT => Load::Message(Box::new(incidents::read(&body)?), post),
                "line" => Load::Line(Box::new(incidents::read(&body)?), post),
                _ => Load::Alert(Box::new(notification(&body)?)),
            };
            Ok(Row { seq, id, route, load, note, follows: step == EDIT, maybe_sent, tries, planned_at })
        })
        .collect()
    }

    /// When, after `now`, the first row of a lane becomes due next.
    pub fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let sql = "SELECT MIN(next_at) FROM outbox WHERE seq IN
            (SELECT MIN(seq) FROM outbox WHERE state IN ('planned', 'sending') AND route <> ?2 GROUP BY route, lane) AND state = 'planned' AND next_at > ?1";
        let next: Option<i64> = self.connection.query_row(sql, params![now.millis(), HEARD], |row| row.get(0))?;
        Ok(next.and_then(Timestamp::from_millis))
    }

    /// Durable before the request goes out.
    pub fn sending(&self, seq: i64) -> Result<(), Fault> {
        self.connection.execute("UPDATE outbox SET state = 'sending', tries = tries + 1 WHERE seq = ?1", [seq])?;
        Ok(())
    }

    pub fn sent(&self, seq: i64, receipt: &str) -> Result<(), Fault> {
        self.connection.execute("UPDATE outbox SET state = 'sent', receipt = ?2, problem = NULL WHERE seq = ?1", params![seq, receipt])?;
        Ok(())
    }

    /// To be tried again at `next_at`; `maybe_sent` when nobody can say whether it arrived.
    pub fn again(&self, seq: i64, next_at: Timestamp, maybe_sent: bool, problem: &str) -> Result<(), Fault> {
        let sql = "UPDATE outbox SET state = 'planned', next_at = ?2, maybe_sent = maybe_sent OR ?3, problem = ?4 WHERE seq = ?1";
        self.connection.execute(sql, params![seq, next_at.millis(), maybe_sent, problem])?;
        Ok(())
    }

    pub fn failed(&self, seq: i64, problem: &str) -> Result<(), Fault> {
        self.connection.execute("UPDATE outbox SET state = 'failed', problem = ?2 WHERE seq = ?1", params![seq, problem])?;
        Ok(())
    }

    /// Rows by state: planned (and sending), sent, failed.
    pub fn outbox(&self) -> Result<[u64; 3], Fault> {
        let sql = "SELECT COALESCE(SUM(state IN ('planned', 'sending')), 0), COALESCE(SUM(state = 'sent'), 0), COALESCE(SUM(state = 'failed'), 0) FROM outbox
            WHERE route <> ?1";
        Ok(self.connection.query_row(sql, [HEARD], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?)
    }

    /// Sends a row another way, with a word why; on this one it is given up for `problem`. A message that is older than what is said or planned there
    /// stays away: it would bring back what is over.
    pub fn reroute(&mut self, seq: i64, problem: &str, to: &str, why: &str, now: Timestamp) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        // A telling's number is the end of its id.
        let sql = "INSERT INTO outbox (id, route, body, planned_at, lane, step, note)
            SELECT id, ?2, body, ?4, lane, step, ?3 FROM outbox o WHERE seq = ?1 AND NOT (step = 'message' AND EXISTS (
                SELECT 1 FROM outbox t WHERE t.route = ?2 AND t.lane = o.lane AND t.step <> 'line' AND t.state <> 'failed'
                AND CAST(SUBSTR(t.id, LENGTH(t.lane) + 2) AS INTEGER) > CAST(SUBSTR(o.id, LENGTH(o.lane) + 2) AS INTEGER)))
            ON CONFLICT DO NOTHING";
        transaction.execute(sql, params![seq, to, why, now.millis()])?;
        transaction.execute("UPDATE outbox SET state = 'failed', problem = ?2 WHERE seq = ?1", params![seq, problem])?;
        transaction.commit()?;
        Ok(())
    }
}
