//! What commands keep in the store beside an engine that may hold it: how judges did on people's labels, and what asking by hand has spent.
//!
//! Both are tables that the engine reads and never writes, or rows that are no judge's of its own; each write is one short transaction, for which
//! SQLite has the engine wait. So the store's lock, which is about its state, is not needed.

use crate::error::Fault;
use crate::judging::calibrated::Calibrated;
use model::{Span, Timestamp};
use rusqlite::{Connection, params};
use std::path::Path;

/// Texts of one judge whose calibration is kept: a judge that was changed and changed back is known again.
const TEXTS_MAX: usize = 16;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS calibrations (
    judge TEXT NOT NULL, fingerprint INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (judge, fingerprint)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spend (judge TEXT NOT NULL, hour INTEGER NOT NULL, nano_usd INTEGER NOT NULL, PRIMARY KEY (judge, hour)) WITHOUT ROWID;
";

/// A second connection to the store.
#[derive(Debug)]
pub struct ByHand(Connection);

/// The row of what is asked of a judge by hand, beside the judge's own; no judge has such a name.
pub fn by_hand(judge: &str) -> String {
    format!("{judge} (by hand)")
}

impl ByHand {
    /// Opens the store in `folder`, or begins one.
    ///
    /// # Errors
    /// When the folder cannot be made, or the file cannot be written.
    pub fn open(folder: &Path) -> Result<Self, Fault> {
        let cannot = |error: &dyn std::fmt::Display| {
            Fault::new(format!("cannot write the store in {}: {error}", folder.display()), "set store.path to a folder that this user can write")
        };
        std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
        let connection = Connection::open(folder.join("streamgauge.db"))?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(TABLES).map_err(|error| cannot(&error))?;
        Ok(Self(connection))
    }

    /// Keeps how a judge did; what is kept of its older texts is bounded.
    pub fn keep(&self, calibrated: &Calibrated) -> Result<(), Fault> {
        let body = serde_json::to_string(calibrated).map_err(|error| Fault::plain(format!("cannot write a calibration: {error}")))?;
        let (judge, fingerprint) = (&calibrated.judge, calibrated.fingerprint.cast_signed());
        let sql = "INSERT OR REPLACE INTO calibrations VALUES (?1, ?2, ?3, ?4)";
        self.0.execute(sql, params![judge, fingerprint, calibrated.at.millis(), body])?;
        let sql = "DELETE FROM calibrations WHERE judge = ?1 AND fingerprint NOT IN
            (SELECT fingerprint FROM calibrations WHERE judge = ?1 ORDER BY at DESC LIMIT ?2)";
        self.0.execute(sql, params![judge, TEXTS_MAX])?;
        Ok(())
    }

    /// The latest of each text of a judge, newest first.
    pub fn calibrations(&self) -> Result<Vec<Calibrated>, Fault> {
        calibrations(&self.0)
    }

    /// What a judge has spent since the UTC day of `now` began, in nano-dollars by the start of the hour: online, and by hand.
    pub fn spent(&self, judge: &str, now: Timestamp) -> Result<[Vec<(Timestamp, u64)>; 2], Fault> {
        let day = now.floor(Span::from_secs(86_400));
        let mut statement = self.0.prepare("SELECT hour, nano_usd FROM spend WHERE judge = ?1 AND hour >= ?2 ORDER BY hour")?;
        let mut of = |row: &str| -> Result<Vec<(Timestamp, u64)>, Fault> {
            let rows =
                statement.query_map(params![row, day.millis()], |row| Ok((Timestamp::from_millis(row.get(0)?).unwrap_or_default(), row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        Ok([of(judge)?, of(&by_hand(judge))?])
    }

    /// Asking a judge by hand has come, or may come, to have cost so much in an hour.
    pub fn spend_is(&self, judge: &str, hour: Timestamp, nano_usd: u64) -> Result<(), Fault> {
        self.0.execute("INSERT OR REPLACE INTO spend VALUES (?1, ?2, ?3)", params![by_hand(judge), hour.millis(), nano_usd])?;
        Ok(())
    }
}

pub(super) fn calibrations(connection: &Connection) -> Result<Vec<Calibrated>, Fault> {
    let mut statement = connection.prepare_cached("SELECT body FROM calibrations ORDER BY at DESC, judge")?;
    let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
    let read = |body: String| serde_json::from_str(&body).map_err(|error| Fault::plain(format!("a calibration in the store is damaged: {error}")));
    bodies.map(|body| read(body?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Db;

    fn calibrated(fingerprint: u64, at: i64) -> Calibrated {
        let at = Timestamp::from_millis(at).expect("it is a time");
        Calibrated { judge: "j".to_owned(), fingerprint, at, ..Calibrated::default() }
    }

    #[test]
    fn an_engine_that_holds_the_store_sees_what_is_kept_beside_it_and_older_texts_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = Db::open(folder.path()).expect("it opens");
        let by_hand = ByHand::open(folder.path()).expect("it opens beside");
        for text in 0..=TEXTS_MAX as u64 {
            by_hand.keep(&calibrated(u64::MAX - text, 1_000 + text as i64)).expect("it is kept");
        }
        let seen = engine.calibrations().expect("it reads");
        assert_eq!(seen.len(), TEXTS_MAX);
        assert_eq!(seen[0], calibrated(u64::MAX - TEXTS_MAX as u64, 1_000 + TEXTS_MAX as i64), "the newest first");
    }

    #[test]
    fn a_store_that_was_begun_by_hand_is_one_an_engine_opens() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        ByHand::open(folder.path()).expect("it opens").keep(&calibrated(7, 1)).expect("it is kept");
        assert_eq!(Db::open(folder.path()).expect("it opens").calibrations().expect("it reads"), [calibrated(7, 1)]);
    }

    #[test]
    fn what_is_spent_by_hand_is_told_from_what_is_spent_online() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = Db::open(folder.path()).expect("it opens");
        let now = Timestamp::parse("2026-11-22T10:00:00Z").expect("it is a time");
        let by_hand = ByHand::open(folder.path()).expect("it opens beside");
        engine.spend_is("j", now, 5).expect("it is noted");
        by_hand.spend_is("j", now, 7).expect("it is noted");
        assert_eq!(by_hand.spent("j", now).expect("it reads"), [vec![(now, 5)], vec![(now, 7)]]);
    }
}
