//! Which channels want to hear of what, beside those of rules and of the configuration.

use crate::error::Fault;
use crate::subscriptions::{Filter, Subscription};
use model::Timestamp;
use rusqlite::{Connection, params};

/// A channel may have several; the same filter once.
pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS subscriptions (
  channel TEXT NOT NULL, filter TEXT NOT NULL, name TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (channel, filter)) WITHOUT ROWID;
";

/// In the order in which they were made.
pub(super) fn read(connection: &Connection) -> Result<Vec<Subscription>, Fault> {
    let mut statement = connection.prepare_cached("SELECT channel, filter, name, who, at FROM subscriptions ORDER BY at, channel, filter")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    rows.map(|row| {
        let (channel, filter, name, by, at) = row?;
        Ok(Subscription { channel, name, filter: filter_of(&filter)?, by, at: Timestamp::from_millis(at).unwrap_or_default() })
    })
    .collect()
}

/// Keeps it; one of the same channel and filter gets the channel's name of today and stays otherwise as it is.
pub(super) fn put(connection: &Connection, subscription: &Subscription) -> Result<(), Fault> {
    let Subscription { channel, name, filter, by, at } = subscription;
    let sql = "INSERT INTO subscriptions VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (channel, filter) DO UPDATE SET name = excluded.name";
    connection.execute(sql, params![channel, written(filter)?, name, by, at.millis()])?;
    Ok(())
}

/// Ends those of a channel: the one with this filter, or all. How many there were.
pub(super) fn remove(connection: &Connection, channel: &str, filter: Option<&Filter>) -> Result<usize, Fault> {
    let Some(filter) = filter else { return Ok(connection.execute("DELETE FROM subscriptions WHERE channel = ?1", [channel])?) };
    Ok(connection.execute("DELETE FROM subscriptions WHERE channel = ?1 AND filter = ?2", params![channel, written(filter)?])?)
}

/// Equal filters are equal texts: their terms are in order.
fn written(filter: &Filter) -> Result<String, Fault> {
    serde_json::to_string(filter).map_err(|error| Fault::plain(format!("cannot write a subscription: {error}")))
}

fn filter_of(text: &str) -> Result<Filter, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::plain(format!("a subscription in the store is damaged: {error}")))
}
