//! Who changed what over HTTP or from Slack, and when. Entries go with the store's retention, and the oldest of more than [`KEPT_MAX`] before.

use crate::error::Fault;
use model::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// Some megabytes. People do this much in years; a script that reloads every second must not fill the disk.
const KEPT_MAX: usize = 20_000;

/// How it is known who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A bearer token in the request.
    Token,
    /// A browser that was signed in with one.
    Session,
    Proxy,
    /// Not at all: they reach the listener.
    Open,
    /// A member of the workspace, as Slack names them.
    Slack,
}

impl Way {
    pub const ALL: [Self; 5] = [Self::Token, Self::Session, Self::Proxy, Self::Open, Self::Slack];

    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::Proxy => "proxy",
            Self::Open => "open",
            Self::Slack => "slack",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Wall-clock.
    pub at: Timestamp,
    /// The name of a token, of a proxy's user, `@name (id)` of Slack, or `anyone` where nobody is asked.
    pub who: String,
    pub way: Way,
    /// `adopt`, `reload`, `sign_in`, `export`; from Slack `ack`, `silence`, `unsilence`, `action`, `subscribe`, `unsubscribe`.
    pub action: String,
    /// What it was done to, such as an alert's id.
    pub subject: String,
    /// `asked` until it is known what came of it.
    pub outcome: String,
}

pub(super) fn note(connection: &Connection, entry: &Audited) -> Result<i64, Fault> {
    let sql = "INSERT INTO audit (at, who, way, action, subject, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.execute(sql, params![entry.at.millis(), entry.who, entry.way.name(), entry.action, entry.subject, entry.outcome])?;
    let id = connection.last_insert_rowid();
    connection.execute("DELETE FROM audit WHERE id <= ?1", [id - KEPT_MAX as i64])?;
    Ok(id)
}

pub(super) fn outcome(connection: &Connection, id: i64, outcome: &str) -> Result<(), Fault> {
    connection.execute("UPDATE audit SET outcome = ?2 WHERE id = ?1", params![id, outcome])?;
    Ok(())
}

pub(super) fn read(connection: &Connection, most: usize) -> Result<Vec<Audited>, Fault> {
    let mut statement = connection.prepare_cached("SELECT at, who, way, action, subject, outcome FROM audit ORDER BY id DESC LIMIT ?1")?;
    let rows = statement.query_map([most], |row| {
        let way: String = row.get(2)?;
        let way = Way::ALL.into_iter().find(|known| known.name() == way).unwrap_or(Way::Open);
        let at = Timestamp::from_millis(row.get(0)?).unwrap_or_default();
        Ok(Audited { at, who: row.get(1)?, way, action: row.get(3)?, subject: row.get(4)?, outcome: row.get(5)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<(), Fault> {
    connection.execute("DELETE FROM audit WHERE at < ?1", [before.millis()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Db;
    use model::Span;

    #[test]
    fn what_somebody_did_is_kept_with_what_came_of_it_until_retention_takes_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = Db::open(folder.path()).expect("it opens");
        let at = Timestamp::parse("2026-11-22T10:00:00Z").expect("a time");
        let entry = |at, subject: &str| Audited {
            at,
            who: "ci".to_owned(),
            way: Way::Token,
            action: "adopt".to_owned(),
            subject: subject.to_owned(),
            outcome: "asked".to_owned(),
        };
        db.audit(&entry(at, "1")).expect("it is noted");
        let second = db.audit(&entry(at + Span::from_secs(60), "2")).expect("it is noted");
        db.audit_outcome(second, "adopted").expect("it is noted");
        let subjects = |db: &Db| db.audited(10).expect("it reads").into_iter().map(|entry| (entry.subject, entry.outcome)).collect::<Vec<_>>();
        let of = |subject: &str, outcome: &str| (subject.to_owned(), outcome.to_owned());
        assert_eq!(subjects(&db), [of("2", "adopted"), of("1", "asked")]);
        db.forget(at + Span::from_secs(1)).expect("it forgets");
        assert_eq!(subjects(&db), [of("2", "adopted")]);
    }
}
