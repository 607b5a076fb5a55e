//! One transactional file for everything that must survive: the checkpoint with its journal, sealed slices, the outbox, and the history of alerts.
//!
//! SQLite in WAL mode with full synchronisation, so that what was committed outlives a kill and a power cut. One thread owns the connection and runs
//! requests in the order they come, so whoever asks after a write sees it; the daemon never waits for the disk unless it says so.
//! Deliberately absent: decisions. What is written and when is the daemon's business.

mod audit;
mod by_hand;
mod incidents;
mod outbox;
mod seen;
mod subscriptions;

pub use audit::{Audited, Way};
pub use by_hand::{ByHand, by_hand};
pub use incidents::{Change, Post};
pub use outbox::{Delivery, HEARD, Load, Row, Step};
pub use seen::Seen;

use crate::error::Fault;
use crate::journal::Entry;
use crate::judging::Said;
use crate::judging::calibrated::Calibrated;
use crate::rulebook::Live;
use crate::subscriptions::{Filter, Subscription};
use index::VerdictIs;
use machine::{HOURS_AFTER, MINUTES_AFTER, Notification, SliceBlock};
use model::{Span, Timestamp, Verdict};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot};

/// Raised whenever a table changes.
const SCHEMA_VERSION: i64 = 6;

/// From the version before; `adopted` names the alert that a person adopted.
const FROM_1_TO_2: &str = "ALTER TABLE journal ADD COLUMN adopted TEXT";

/// `judged` holds what judges said.
const FROM_3_TO_4: &str = "ALTER TABLE journal ADD COLUMN judged TEXT";

/// What is said of one incident goes in order. What waited to be told of an alert is heard by incidents, and so is what fires.
const FROM_5_TO_6: &str = "
ALTER TABLE outbox ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN step TEXT NOT NULL DEFAULT 'alert';
ALTER TABLE outbox ADD COLUMN note TEXT;
UPDATE OR IGNORE outbox SET route = 'incidents' WHERE state IN ('planned', 'sending') AND route NOT LIKE 'nats:%';
INSERT OR IGNORE INTO outbox (id, route, body, planned_at) SELECT body ->> 'id', 'incidents', body, changed FROM alerts WHERE state = 'firing';
";

/// Requests waiting for the disk. Each is a batch's worth at most; beyond this the daemon waits, which slows reading and loses nothing.
const QUEUE_MAX: usize = 64;

/// Snapshots of days are kept for no longer than this: a back-test from further back can learn on its way.
const HISTORY_MAX: Span = Span::from_secs(31 * 86_400);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY AUTOINCREMENT, position INTEGER NOT NULL, now INTEGER NOT NULL, adopted TEXT, judged TEXT);
CREATE TABLE IF NOT EXISTS verdicts (
    judge TEXT NOT NULL, fingerprint INTEGER NOT NULL, environment TEXT NOT NULL, sequence INTEGER NOT NULL, position INTEGER NOT NULL,
    at INTEGER NOT NULL, body TEXT NOT NULL, why TEXT NOT NULL, PRIMARY KEY (judge, fingerprint, environment, sequence)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdicts_at ON verdicts (at);
CREATE TABLE IF NOT EXISTS spend (judge TEXT NOT NULL, hour INTEGER NOT NULL, nano_usd INTEGER NOT NULL, PRIMARY KEY (judge, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calibrations (
    judge TEXT NOT NULL, fingerprint INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (judge, fingerprint)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (day TEXT PRIMARY KEY, position INTEGER NOT NULL, clock INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slices (
  environment TEXT NOT NULL, start INTEGER NOT NULL, width INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (environment, start, width)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, route TEXT NOT NULL, body TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'sending', 'sent', 'failed')),
  maybe_sent INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, next_at INTEGER NOT NULL DEFAULT 0, planned_at INTEGER NOT NULL,
  receipt TEXT, problem TEXT, lane TEXT NOT NULL DEFAULT '', step TEXT NOT NULL DEFAULT 'alert', note TEXT, UNIQUE (id, route));
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (state, route, seq);
CREATE TABLE IF NOT EXISTS alerts (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, stage INTEGER NOT NULL, began INTEGER NOT NULL, changed INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alerts_changed ON alerts (changed);
CREATE TABLE IF NOT EXISTS audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, who TEXT NOT NULL, way TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
  outcome TEXT NOT NULL);
";

/// The connection and its tables; everything here is synchronous.
#[derive(Debug)]
pub struct Db {
    connection: Connection,
    /// Held for as long as this process uses the folder.
    _lock: File,
}

/// A handle on the thread that owns the [`Db`].
#[derive(Clone, Debug)]
pub struct Store {
    requests: mpsc::Sender<Request>,
}

type Request = Box<dyn FnOnce(&mut Db) + Send>;

/// What a restart begins with.
#[derive(Debug)]
pub struct Saved {
    pub position: u64,
    pub body: Vec<u8>,
    /// Journaled after the snapshot, with the position each was applied at.
    pub journal: Vec<(u64, Entry)>,
}

impl Db {
    /// Opens or makes the file `streamgauge.db` in `folder`, and takes the folder for this process.
    ///
    /// # Errors
    /// When the folder cannot be made, another engine holds it, or the file is of another version.
    pub fn open(folder: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(folder).map_err(|error| {
            Fault::new(format!("cannot make the store's folder {}: {error}", folder.display()), "set store.path to a folder that this user can write")
        })?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(|error| {
            Fault::new(format!("cannot write {}: {error}", lock_path.display()), "set store.path to a folder that this user can write")
        })?;
        if lock.try_lock().is_err() {
            return Err(Fault::new(
                format!("another streamgauge runs on the store {}", folder.display()),
                "stop it first, or give this one a store of its own with --set store.path=…",
            ));
        }
        let connection = Connection::open(folder.join("streamgauge.db"))?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(TABLES)?;
        connection.execute_batch(incidents::TABLES)?;
        connection.execute_batch(subscriptions::TABLE)?;
        let db = Self { connection, _lock: lock };
        match db.meta("schema")?.and_then(|version| version.parse::<i64>().ok()) {
            None => db.set_meta("schema", &SCHEMA_VERSION.to_string())?,
            Some(SCHEMA_VERSION) => {}
            // `history` came with 3 and `audit` with 5; they are made above where they are missing.
            Some(version @ 1..SCHEMA_VERSION) => {
                // All or nothing: a column is not added twice.
                let transaction = db.connection.unchecked_transaction()?;
                if version == 1 {
                    transaction.execute_batch(FROM_1_TO_2)?;
                }
                if version <= 3 {
                    transaction.execute_batch(FROM_3_TO_4)?;
                }
                transaction.execute_batch(FROM_5_TO_6)?;
                db.set_meta("schema", &SCHEMA_VERSION.to_string())?;
                transaction.commit()?;
            }
            Some(other) => {
                return Err(Fault::new(
                    format!("the store {} has layout {other}, this version reads layout {SCHEMA_VERSION}", folder.display()),
                    "use the version that wrote it, or another store.path",
                ));
            }
        }
        // What was being sent when the process died may have arrived.
        db.connection.execute("UPDATE outbox SET state = 'planned', maybe_sent = 1 WHERE state = 'sending'", [])?;
        Ok(db)
    }

    pub fn meta(&self, key: &str) -> Result<Option<String>, Fault> {
        Ok(self.connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    }

    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), Fault> {
        self.connection.execute("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value", [key, value])?;
        Ok(())
    }

    pub fn saved(&self) -> Result<Option<Saved>, Fault> {
        let snapshot = self.connection.query_row("SELECT position, body FROM snapshot", [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let mut statement = self.connection.prepare("SELECT position, now, adopted, judged FROM journal ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            let now = Timestamp::from_millis(row.get(1)?).unwrap_or_default();
            let (adopted, judged): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
            Ok((row.get(0)?, now, adopted, judged))
        })?;
        let entry = |row: rusqlite::Result<(u64, Timestamp, Option<String>, Option<String>)>| -> Result<_, Fault> {
            let (position, now, adopted, judged) = row?;
            let entry = match (adopted, judged) {
                (Some(alert_id), _) => Entry::Adopted { now, alert_id },
                (None, Some(verdicts)) => {
                    let verdicts = serde_json::from_str(&verdicts).map_err(|error| Fault::plain(format!("the journal is damaged: {error}")))?;
                    Entry::Judged { now, verdicts }
                }
                (None, None) => Entry::Elapsed { now },
            };
            Ok((position, entry))
        };
        let journal = rows.map(entry).collect::<Result<_, Fault>>()?;
        Ok(snapshot.map(|(position, body)| Saved { position, body, journal }))
    }

    /// Replaces the snapshot, and drops the journal up to and with entry `journaled`. The texts of the rules that it is under go with it when they are
    /// others than before.
    pub fn save(&mut self, position: u64, body: &[u8], journaled: i64, rules: Option<&Live>) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        if let Some(rules) = rules {
            let text = serde_json::to_string(rules).map_err(|error| Fault::plain(format!("cannot write the rules' texts: {error}")))?;
            let sql = "INSERT INTO meta VALUES ('rules', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            transaction.execute(sql, [text])?;
        }
        transaction.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?1, ?2)", params![position, body])?;
        transaction.execute("DELETE FROM journal WHERE id <= ?1", [journaled])?;
        transaction.commit()?;
        Ok(())
    }

    /// The texts of the user's rules as of the last snapshot that changed them. What cannot be read is as if nothing had run.
    pub fn rules(&self) -> Result<Live, Fault> {
        Ok(self.meta("rules")?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Goes on with a stream that the store does not know: which one, and the state to go on from, together. What was journaled on another is void.
    pub fn take_up(&mut self, created: Timestamp, position: u64, body: &[u8]) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        let sql = "INSERT INTO meta VALUES ('stream_created', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        transaction.execute(sql, [created.to_string()])?;
        transaction.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?1, ?2)", params![position, body])?;
        transaction.execute("DELETE FROM journal", [])?;
        transaction.execute("DELETE FROM history", [])?;
        transaction.commit()?;
        Ok(())
    }

    /// Keeps a snapshot as that of the UTC day of `clock`, unless the day has one; those of more than `retention` before are dropped, and of more than
    /// 31 days in any case.
    pub fn keep_day(&self, position: u64, clock: Timestamp, body: &[u8], retention: Span) -> Result<(), Fault> {
        let sql = "INSERT INTO history VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        self.connection.execute(sql, params![day(clock), position, clock.millis(), lz4_flex::compress_prepend_size(body)])?;
        let oldest = clock - retention.min(HISTORY_MAX);
        self.connection.execute("DELETE FROM history WHERE clock < ?1", [oldest.millis()])?;
        Ok(())
    }

    /// Of the snapshot.
    pub fn position(&self) -> Result<Option<u64>, Fault> {
        Ok(self.connection.query_row("SELECT position FROM snapshot", [], |row| row.get(0)).optional()?)
    }

    /// Notes that `entry` is about to be applied at `position`; returns the entry's number.
    pub fn journal(&self, position: u64, entry: &Entry) -> Result<i64, Fault> {
        put_entry(&self.connection, position, entry)
    }

    /// Notes verdicts, as [`Self::journal`] does, and keeps each with why it is as it is.
    pub fn judge(&mut self, position: u64, now: Timestamp, said: Vec<Said>) -> Result<i64, Fault> {
        let verdicts: Vec<_> = said.iter().map(|said| said.verdict.clone()).collect();
        let transaction = self.connection.transaction()?;
        // What is said of one call twice is what was said first: it is what counted.
        let sql = "INSERT INTO verdicts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
        for Said { verdict, why } in &said {
            let Verdict { judge, fingerprint, environment, sequence, .. } = verdict;
            // SQLite's integers are signed; only equality is asked of this one.
            let (body, fingerprint) = (written(verdict)?, fingerprint.cast_signed());
            transaction.execute(sql, params![judge, fingerprint, environment, sequence, position, now.millis(), body, why])?;
        }
        let number = put_entry(&transaction, position, &Entry::Judged { now, verdicts })?;
        transaction.commit()?;
        Ok(number)
    }

    /// What judges have spent since the UTC day of `now` began: judge, start of the hour, nano-dollars.
    pub fn spent(&self, now: Timestamp) -> Result<Vec<(String, Timestamp, u64)>, Fault> {
        let mut statement = self.connection.prepare("SELECT judge, hour, nano_usd FROM spend WHERE hour >= ?1 ORDER BY judge, hour")?;
        let day = now.floor(Span::from_secs(86_400));
        let rows =
            statement.query_map([day.millis()], |row| Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?).unwrap_or_default(), row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A judge may come to have spent so much in an hour: noted before it does.
    pub fn spend_at_least(&self, judge: &str, hour: Timestamp, nano_usd: u64) -> Result<(), Fault> {
        let sql = "INSERT INTO spend VALUES (?1, ?2, ?3) ON CONFLICT (judge, hour) DO UPDATE SET nano_usd = MAX(nano_usd, excluded.nano_usd)";
        self.connection.execute(sql, params![judge, hour.millis(), nano_usd])?;
        Ok(())
    }

    /// What a judge has spent in an hour.
    pub fn spend_is(&self, judge: &str, hour: Timestamp, nano_usd: u64) -> Result<(), Fault> {
        self.connection.execute("INSERT OR REPLACE INTO spend VALUES (?1, ?2, ?3)", params![judge, hour.millis(), nano_usd])?;
        Ok(())
    }

    /// How judges did on people's labels, the latest of each text of a judge, newest first.
    pub fn calibrations(&self) -> Result<Vec<Calibrated>, Fault> {
        by_hand::calibrations(&self.connection)
    }

    /// What judges said of one call, oldest first.
    pub fn verdicts_on(&self, environment: &str, sequence: u64) -> Result<Vec<Said>, Fault> {
        let sql = "SELECT body, why FROM verdicts WHERE environment = ?1 AND sequence = ?2 ORDER BY at, judge";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![environment, sequence], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.map(|row| said(row?)).collect()
    }

    /// The calls of which a judge says this, newest first, at most `most`: by their sequence.
    pub fn judged(&self, judge: &str, is: VerdictIs, most: usize) -> Result<Vec<u64>, Fault> {
        let outcomes = match is {
            VerdictIs::Pass => r#"["pass"]"#,
            VerdictIs::Fail => r#"["fail"]"#,
            VerdictIs::Error => r#"["unreadable","errored"]"#,
        };
        let sql = "SELECT sequence FROM verdicts WHERE judge = ?1 AND body ->> 'outcome' IN (SELECT value FROM json_each(?2)) \
            ORDER BY sequence DESC LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![judge, outcomes, most], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The number of the last journal entry, 0 when there was none.
    pub fn journaled(&self) -> Result<i64, Fault> {
        Ok(self.connection.query_row("SELECT COALESCE(MAX(id), 0) FROM journal", [], |row| row.get(0))?)
    }

    /// Writes sealed slices; writing one again changes nothing.
    pub fn seal(&mut self, blocks: &[SliceBlock]) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        for block in blocks {
            put_block(&transaction, block)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Blocks of an environment that start in `from..to`.
    pub fn blocks(&self, environment: &str, from: Timestamp, to: Timestamp) -> Result<Vec<SliceBlock>, Fault> {
        blocks(&self.connection, environment, from, to)
    }

    /// Rolls old slices up into minutes and hours, as the machine does in memory, and drops what is older than `retention`; `clock` is the environment's.
    pub fn roll_up(&mut self, environment: &str, clock: Timestamp, retention: Span) -> Result<(), Fault> {
        for (width, after) in [(Span::from_secs(60), MINUTES_AFTER), (Span::from_secs(3600), HOURS_AFTER)] {
            let before = (clock - after).floor(width);
            let narrower: Vec<(i64, Vec<u8>)> = {
                // A bound on one pass: an hour of slices. The rest waits for the next pass.
                let sql = "SELECT start, body FROM slices WHERE environment = ?1 AND start < ?2 AND width < ?3 ORDER BY start LIMIT 720";
                let mut statement = self.connection.prepare_cached(sql)?;
                let rows = statement.query_map(params![environment, before.millis(), width.millis()], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<Result<_, _>>()?
            };
            let Some((last, _)) = narrower.last() else { continue };
            // The last period may go on beyond the bound, so it waits too, unless it is the only one.
            let whole_to = Timestamp::from_millis(*last).unwrap_or_default().floor(width);
            let complete = narrower.len() < 720;
            let transaction = self.connection.transaction()?;
            let mut periods: std::collections::BTreeMap<Timestamp, Vec<SliceBlock>> = std::collections::BTreeMap::new();
            for (start, body) in &narrower {
                let period = Timestamp::from_millis(*start).unwrap_or_default().floor(width);
                if complete || period < whole_to {
                    periods.entry(period).or_default().push(unpack(body)?);
                }
            }
            for (period, mut blocks) in periods {
                let sql = "DELETE FROM slices WHERE environment = ?1 AND start >= ?2 AND start < ?3 AND width < ?4";
                transaction.execute(sql, params![environment, period.millis(), (period + width).millis(), width.millis()])?;
                let sql = "SELECT body FROM slices WHERE environment = ?1 AND start = ?2 AND width = ?3";
                let there: Option<Vec<u8>> =
                    transaction.query_row(sql, params![environment, period.millis(), width.millis()], |row| row.get(0)).optional()?;
                blocks.extend(there.map(|body| unpack(&body)).transpose()?);
                put_block(&transaction, &SliceBlock::roll_up(&blocks, period, width))?;
            }
            transaction.commit()?;
        }
        self.connection.execute("DELETE FROM slices WHERE environment = ?1 AND start < ?2", params![environment, (clock - retention).millis()])?;
        Ok(())
    }

    /// Drops the oldest slices until the file's content is at most `most` bytes; returns how many went.
    pub fn limit(&self, most: u64) -> Result<u64, Fault> {
        let pragma = |name: &str| -> Result<u64, Fault> { Ok(self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?) };
        let mut dropped = 0;
        while (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")? > most {
            let sql =
                "DELETE FROM slices WHERE (environment, start, width) IN (SELECT environment, start, width FROM slices ORDER BY start LIMIT 500)";
            let gone = self.connection.execute(sql, [])?;
            if gone == 0 {
                break;
            }
            dropped += gone as u64;
        }
        Ok(dropped)
    }

    /// Plans a notification for each route and for incidents to hear of, and notes the alert's new state; what is there already stays as it is.
    pub fn plan(&mut self, notification: &Notification, routes: &[String], now: Timestamp) -> Result<(), Fault> {
        let body =
            serde_json::to_string(notification).map_err(|error| Fault::plain(format!("cannot write notification {}: {error}", notification.id)))?;
        let transaction = self.connection.transaction()?;
        for route in routes.iter().map(String::as_str).chain([HEARD]) {
            let sql = "INSERT INTO outbox (id, route, body, planned_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            transaction.execute(sql, params![notification.id, route, body, now.millis()])?;
        }
        let (state, stage) = if notification.reason.ends() { ("resolved", 1) } else { ("firing", 0) };
        let sql = "INSERT INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET
            state = excluded.state, stage = excluded.stage, changed = excluded.changed, body = excluded.body WHERE excluded.stage > stage";
        transaction.execute(sql, params![notification.alert_id, state, stage, notification.began.millis(), notification.at.millis(), body])?;
        transaction.commit()?;
        Ok(())
    }

    /// The alerts that changed last, newest first: state, and the last notification of each.
    pub fn alerts(&self, most: usize) -> Result<Vec<(String, Notification)>, Fault> {
        let mut statement = self.connection.prepare_cached("SELECT state, body FROM alerts ORDER BY changed DESC, id LIMIT ?1")?;
        let rows = statement.query_map([most], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| row.map_err(Fault::from).and_then(|(state, body)| Ok((state, notification(&body)?)))).collect()
    }

    /// Who did what, the newest first.
    pub fn audited(&self, most: usize) -> Result<Vec<Audited>, Fault> {
        audit::read(&self.connection, most)
    }

    /// Notes that somebody does something; returns the entry's number.
    pub fn audit(&self, entry: &Audited) -> Result<i64, Fault> {
        audit::note(&self.connection, entry)
    }

    /// What came of it.
    pub fn audit_outcome(&self, id: i64, outcome: &str) -> Result<(), Fault> {
        audit::outcome(&self.connection, id, outcome)
    }

    /// Which channels want to hear of what.
    pub fn subscriptions(&self) -> Result<Vec<Subscription>, Fault> {
        subscriptions::read(&self.connection)
    }

    pub fn subscribe(&self, subscription: &Subscription) -> Result<(), Fault> {
        subscriptions::put(&self.connection, subscription)
    }

    /// Ends those of a channel: the one with this filter, or all. How many there were.
    pub fn unsubscribe(&self, channel: &str, filter: Option<&Filter>) -> Result<usize, Fault> {
        subscriptions::remove(&self.connection, channel, filter)
    }

    /// Alerts that people were told of and not of their end.
    pub fn firing(&self) -> Result<Vec<Notification>, Fault> {
        let mut statement = self.connection.prepare("SELECT body FROM alerts WHERE state = 'firing' ORDER BY began, id")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| row.map_err(Fault::from).and_then(|body| notification(&body))).collect()
    }

    /// The last notification of an alert that was told.
    pub fn alert(&self, id: &str) -> Result<Option<Notification>, Fault> {
        let body: Option<String> = self.connection.query_row("SELECT body FROM alerts WHERE id = ?1", [id], |row| row.get(0)).optional()?;
        body.map(|body| notification(&body)).transpose()
    }

    /// Forgets what was sent, failed or resolved before `before`.
    pub fn forget(&self, before: Timestamp) -> Result<(), Fault> {
        self.connection.execute("DELETE FROM outbox WHERE state IN ('sent', 'failed') AND planned_at < ?1", [before.millis()])?;
        self.connection.execute("DELETE FROM alerts WHERE state = 'resolved' AND changed < ?1", [before.millis()])?;
        self.connection.execute("DELETE FROM verdicts WHERE at < ?1", [before.millis()])?;
        audit::forget(&self.connection, before)?;
        incidents::forget(&self.connection, before)?;
        // The day that runs is always kept: retention is an hour at least, and a cap may be a day's.
        self.connection.execute("DELETE FROM spend WHERE hour < ?1", [(before - Span::from_secs(86_400)).millis()])?;
        Ok(())
    }
}

fn put_entry(connection: &Connection, position: u64, entry: &Entry) -> Result<i64, Fault> {
    let (now, adopted, judged) = match entry {
        Entry::Elapsed { now } => (now, None, None),
        Entry::Adopted { now, alert_id } => (now, Some(alert_id), None),
        Entry::Judged { now, verdicts } => (now, None, Some(written(verdicts)?)),
    };
    let sql = "INSERT INTO journal (position, now, adopted, judged) VALUES (?1, ?2, ?3, ?4)";
    connection.execute(sql, params![position, now.millis(), adopted, judged])?;
    Ok(connection.last_insert_rowid())
}

fn written(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::plain(format!("cannot write a verdict: {error}")))
}

fn said((body, why): (String, String)) -> Result<Said, Fault> {
    let verdict = serde_json::from_str(&body).map_err(|error| Fault::plain(format!("a verdict in the store is damaged: {error}")))?;
    Ok(Said { verdict, why })
}

/// The UTC day of a time, such as `2026-11-22`.
pub fn day(at: Timestamp) -> String {
    at.to_string().get(..10).unwrap_or_default().to_owned()
}

/// What the store remembers of earlier days, for reading beside the engine that holds it.
#[derive(Debug)]
pub struct History {
    connection: Connection,
}

/// The state of the machine on an earlier day.
#[derive(Debug)]
pub struct Day {
    pub position: u64,
    /// Of the environment that was furthest.
    pub clock: Timestamp,
    pub body: Vec<u8>,
}

impl History {
    /// Opens the store in `folder` for reading alone, without its lock. `None`: there is no store of this layout.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(folder: &Path) -> Result<Option<Self>, Fault> {
        let file = folder.join("streamgauge.db");
        if !file.exists() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let sql = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'history'";
        let known: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok((known > 0).then_some(Self { connection }))
    }

    /// Which stream the store has read, by the time it was made.
    pub fn stream(&self) -> Result<Option<String>, Fault> {
        Ok(self.connection.query_row("SELECT value FROM meta WHERE key = 'stream_created'", [], |row| row.get(0)).optional()?)
    }

    /// The latest day whose position comes before stream sequence `first`.
    pub fn before(&self, first: u64) -> Result<Option<Day>, Fault> {
        let sql = "SELECT position, clock, body FROM history WHERE position < ?1 ORDER BY position DESC LIMIT 1";
        let found: Option<(u64, i64, Vec<u8>)> =
            self.connection.query_row(sql, [first], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        let Some((position, clock, packed)) = found else { return Ok(None) };
        let body = lz4_flex::decompress_size_prepended(&packed)
            .map_err(|error| Fault::new(format!("a day's snapshot in the store is damaged: {error}"), "start without it: --cold"))?;
        Ok(Some(Day { position, clock: Timestamp::from_millis(clock).unwrap_or_default(), body }))
    }

    /// What judges said behind stream position `after`, with the positions at which it came, in order; of more than `most` verdicts the first.
    pub fn verdicts(&self, after: u64, most: usize) -> Result<Vec<(u64, Verdict)>, Fault> {
        let known = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'verdicts'";
        if self.connection.query_row::<i64, _, _>(known, [], |row| row.get(0))? == 0 {
            return Ok(Vec::new());
        }
        let sql = "SELECT position, body, why FROM verdicts WHERE position > ?1 ORDER BY position, at, judge, environment, sequence LIMIT ?2";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map(params![after, most], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        rows.map(|row| row.map_err(Fault::from).and_then(|(position, body)| Ok((position, said(body)?.verdict)))).collect()
    }

    /// Blocks of an environment that start in `from..to`, as far as they are not rolled up.
    pub fn blocks(&self, environment: &str, from: Timestamp, to: Timestamp) -> Result<Vec<SliceBlock>, Fault> {
        blocks(&self.connection, environment, from, to)
    }
}

fn blocks(connection: &Connection, environment: &str, from: Timestamp, to: Timestamp) -> Result<Vec<SliceBlock>, Fault> {
    let mut statement = connection.prepare_cached("SELECT body FROM slices WHERE environment = ?1 AND start >= ?2 AND start < ?3 ORDER BY start")?;
    let bodies = statement.query_map(params![environment, from.millis(), to.millis()], |row| row.get::<_, Vec<u8>>(0))?;
    bodies.map(|body| unpack(&body?)).collect()
}

fn notification(body: &str) -> Result<Notification, Fault> {
    serde_json::from_str(body).map_err(|error| Fault::plain(format!("a notification in the store is damaged: {error}")))
}

fn put_block(connection: &Connection, block: &SliceBlock) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO slices VALUES (?1, ?2, ?3, ?4)")?;
    let body = lz4_flex::compress_prepend_size(&block.encode());
    statement.execute(params![block.environment, block.start.millis(), block.width.millis(), body])?;
    Ok(())
}

fn unpack(body: &[u8]) -> Result<SliceBlock, Fault> {
    let bytes = lz4_flex::decompress_size_prepended(body).map_err(|error| Fault::plain(format!("a slice in the store is damaged: {error}")))?;
    SliceBlock::decode(&bytes).map_err(|error| Fault::plain(format!("a slice in the store cannot be read: {error}")))
}

impl Store {
    /// Opens the store and starts its thread, which ends when the last handle is gone.
    pub fn open(folder: PathBuf) -> Result<Self, Fault> {
        let mut db = Db::open(&folder)?;
        let (requests, mut queue) = mpsc::channel::<Request>(QUEUE_MAX);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                while let Some(request) = queue.blocking_recv() {
                    request(&mut db);
                }
            })
            .map_err(|error| Fault::plain(format!("cannot start the store's thread: {error}")))?;
        Ok(Self { requests })
    }

    /// Runs `work` after everything asked for before, and waits for its result.
    pub async fn ask<T: Send + 'static>(&self, work: impl FnOnce(&mut Db) -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
        let answer = self.send(work).await?;
        answer.await.map_err(|_| Fault::plain("the store's thread has ended"))?
    }

    /// Hands `work` over without waiting for it; the answer comes through the receiver.
    pub async fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Db) -> Result<T, Fault> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, Fault>>, Fault> {
        let (reply, answer) = oneshot::channel();
        let request: Request = Box::new(move |db| {
            // Nobody waiting any more is fine: the work is done all the same.
            let _ = reply.send(work(db));
        });
        self.requests.send(request).await.map_err(|_| Fault::plain("the store's thread has ended"))?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("it is a time")
    }

    #[test]
    fn a_store_of_the_layout_before_gets_room_for_days_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        {
            let mut db = Db::open(folder.path()).expect("it opens");
            db.save(7, b"state", 0, None).expect("it saves");
            let before = "DROP TABLE history; ALTER TABLE journal DROP COLUMN judged; ALTER TABLE outbox DROP COLUMN lane; ALTER TABLE outbox DROP COLUMN step; ALTER TABLE outbox DROP COLUMN note";
            db.connection.execute_batch(before).expect("the layout before had none of them");
            db.set_meta("schema", "2").expect("it is noted");
        }
        let db = Db::open(folder.path()).expect("it opens again");
        assert_eq!(db.meta("schema").expect("it reads").as_deref(), Some("6"));
        assert_eq!(db.saved().expect("it reads").map(|saved| saved.position), Some(7));
        db.journal(7, &Entry::Judged { now: at("2026-11-22T10:00:00Z"), verdicts: Vec::new() }).expect("there is room for verdicts");
        db.keep_day(7, at("2026-11-22T10:00:00Z"), b"state", Span::from_secs(86_400)).expect("there is room for a day");
    }

    #[test]
    fn a_layout_that_cannot_be_brought_up_to_date_is_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let columns = |connection: &Connection| -> i64 {
            let sql = "SELECT COUNT(*) FROM pragma_table_info('journal') WHERE name = 'judged'";
            connection.query_row(sql, [], |row| row.get(0)).expect("it reads")
        };
        {
            let db = Db::open(folder.path()).expect("it opens");
            // The outbox has its new columns already, which cannot be added again.
            db.connection.execute_batch("ALTER TABLE journal DROP COLUMN judged").expect("the layout before had none");
            db.set_meta("schema", "3").expect("it is noted");
        }
        for _ in 0..2 {
            let fault = Db::open(folder.path()).expect_err("its second step fails");
            assert!(fault.to_string().contains("duplicate column name: lane"), "{fault}");
            assert_eq!(columns(&Connection::open(folder.path().join("streamgauge.db")).expect("it opens")), 0, "the first step is taken back");
        }
    }

    #[test]
    fn an_alert_that_is_told_again_still_fires_and_ends_once() {
        let told = |reason: &str, at: &str| -> Notification {
            let body = serde_json::json!({ "id": format!("1-{reason}"), "reason": reason, "at": at, "alert_id": "1", "rule": "r", "severity": "warning",
                "environment": "e", "group": [], "summary": "x", "observed": [], "began": at, "fired": at, "worst": null, "examples": [], "labels": [],
                "actions": [], "owner": null, "hit": [], "channel": null, "runbook": null });
            serde_json::from_value(body).expect("it is a notification")
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut db = Db::open(folder.path()).expect("it opens");
        for (reason, at_text, state) in [
            ("fired", "2026-11-22T10:00:00Z", "firing"),
            ("repeated", "2026-11-22T14:00:00Z", "firing"),
            ("resolved", "2026-11-22T15:00:00Z", "resolved"),
        ] {
            db.plan(&told(reason, at_text), &[], at(at_text)).expect("it is planned");
            let alerts = db.alerts(10).expect("it reads");
            assert_eq!(alerts.iter().map(|(state, _)| state.as_str()).collect::<Vec<_>>(), [state], "{reason}");
        }
        assert!(db.firing().expect("it reads").is_empty());
    }

    #[test]
    fn a_day_keeps_its_first_snapshot_and_is_found_by_the_position_before_a_sequence() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut db = Db::open(folder.path()).expect("it opens");
        let week = Span::from_secs(7 * 86_400);
        for (position, clock, body) in [
            (10, "2026-11-01T10:00:00Z", "gone"),
            (20, "2026-11-20T00:00:01Z", "first"),
            (30, "2026-11-20T23:00:00Z", "later"),
            (40, "2026-11-21T00:00:03Z", "next"),
        ] {
            db.keep_day(position, at(clock), body.as_bytes(), week).expect("it is kept");
        }
        // Beside the engine that holds the lock.
        let history = History::open(folder.path()).expect("it opens").expect("it is there");
        let found = |first| history.before(first).expect("it reads").map(|day| (day.position, String::from_utf8(day.body).expect("text")));
        assert_eq!(found(20), None);
        assert_eq!(found(21), Some((20, "first".to_owned())));
        assert_eq!(found(40), Some((20, "first".to_owned())));
        assert_eq!(found(1000), Some((40, "next".to_owned())));
        db.take_up(at("2026-11-22T00:00:00Z"), 0, b"new").expect("another stream");
        assert_eq!(found(1000), None, "positions of another stream mean nothing");
    }
}
