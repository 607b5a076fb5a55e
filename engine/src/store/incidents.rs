//! Incidents with what is said of them: heard of, kept and planned in one transaction, so that a kill neither loses nor doubles anything.

use super::outbox::{EDIT, HEARD, Step};
use super::{Db, notification};
use crate::error::Fault;
use crate::routes::Route;
use machine::Notification;
use machine::incident::{Incident, Silence, Telling};
use model::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
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
    /// Messages in channels that are none of these ways any more are brought up to date as well, so that none says for ever that something fires.
    pub follow: bool,
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
                plan(&transaction, telling, route, Step::Message.name(), &body, now)?;
            }
            if change.follow {
                for route in elsewhere(&transaction, &telling.incident.id, routes)? {
                    plan(&transaction, telling, &route, EDIT, &body, now)?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Incidents that are open, changed since `since` or are still to be told of, and the silences.
    pub fn incidents(&self, since: Timestamp) -> Result<(Vec<Incident>, Vec<Silence>), Fault> {
        let mut statement = self
            .connection
            .prepare("SELECT body FROM incidents WHERE open = 1 OR changed >= ?1 OR body ->> 'due' IS NOT NULL ORDER BY opened, id")?;
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
        let mut statement = self.connection.prepare_cached("SELECT body FROM members WHERE incident = ?1 AND ordinal >= 0 ORDER BY ordinal")?;
        let bodies = statement.query_map([&incident.id], |row| row.get::<_, String>(0))?;
        incident.alerts = bodies.map(|body| body.map_err(Fault::from).and_then(|body| notification(&body))).collect::<Result<_, _>>()?;
        Ok(incident)
    }

    /// Alerts of an incident in whose place others fired later, the first first.
    pub fn earlier_alerts(&self, incident: &str) -> Result<Vec<Notification>, Fault> {
        let mut statement =
            self.connection.prepare_cached("SELECT body FROM members WHERE incident = ?1 AND ordinal < 0 ORDER BY body ->> 'fired', alert")?;
        let bodies = statement.query_map([incident], |row| row.get::<_, String>(0))?;
        bodies.map(|body| body.map_err(Fault::from).and_then(|body| notification(&body))).collect()
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

    /// What an incident's message on a route said last, with what was said beside it.
    pub fn shown(&self, incident: &str, route: &str) -> Result<Option<(Telling, Option<String>)>, Fault> {
        let sql = "SELECT body, note FROM outbox WHERE state = 'sent' AND route = ?2 AND lane = ?1 AND step <> 'line' ORDER BY seq DESC LIMIT 1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
        let shown = self.connection.query_row(sql, [incident, route], row).optional()?;
        shown.map(|(body, note)| Ok((read(&body)?, note))).transpose()
    }
}

pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<(), Fault> {
    // What is still to be said of one needs to know where its message is.
    let sql = "DELETE FROM incidents WHERE open = 0 AND changed < ?1 AND body ->> 'due' IS NULL
        AND id NOT IN (SELECT lane FROM outbox WHERE state IN ('planned', 'sending'))";
    connection.execute(sql, [before.millis()])?;
    connection.execute("DELETE FROM members WHERE incident NOT IN (SELECT id FROM incidents)", [])?;
    connection.execute("DELETE FROM posts WHERE incident NOT IN (SELECT id FROM incidents)", [])?;
    Ok(())
}

fn put(connection: &Connection, incident: &Incident, now: Timestamp) -> Result<(), Fault> {
    let open = incident.quiet.is_none();
    let sql = "INSERT OR REPLACE INTO incidents VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.execute(sql, params![incident.id, open, incident.opened.millis(), now.millis(), written(incident)?])?;
    let mut known = connection.prepare_cached("SELECT body ->> 'id', ordinal FROM members WHERE incident = ?1 AND alert = ?2")?;
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO members VALUES (?1, ?2, ?3, ?4)")?;
    for (ordinal, alert) in incident.alerts.iter().enumerate() {
        // A notification's id changes with what it says, and its place when its incident becomes part of another.
        let last: Option<(String, i64)> = known.query_row([&incident.id, &alert.alert_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if last.is_none_or(|(id, place)| id != alert.id || place != ordinal as i64) {
            insert.execute(params![incident.id, alert.alert_id, ordinal, written(alert)?])?;
        }
    }
    // Those in whose place others fired stay for its page.
    let listed: Vec<&str> = incident.alerts.iter().map(|alert| alert.alert_id.as_str()).collect();
    let mut replaced = connection
        .prepare_cached("UPDATE members SET ordinal = -1 WHERE incident = ?1 AND ordinal >= 0 AND alert NOT IN (SELECT value FROM json_each(?2))")?;
    replaced.execute(params![incident.id, written(&listed)?])?;
    Ok(())
}

/// Where an incident has a message though it is told there no more: the channel unsubscribed, or the configuration is another one.
fn elsewhere(connection: &Connection, incident: &str, routes: &[Route]) -> Result<Vec<Route>, Fault> {
    let mut statement = connection.prepare_cached("SELECT route FROM posts WHERE incident = ?1 ORDER BY route")?;
    let posts = statement.query_map([incident], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let left = posts.into_iter().filter(|to| routes.iter().all(|route| route.to != *to));
    Ok(left.map(|to| Route { to, superseding: true, threaded: false }).collect())
}

fn plan(connection: &Connection, telling: &Telling, route: &Route, step: &str, body: &str, now: Timestamp) -> Result<(), Fault> {
    let lane = &telling.incident.id;
    let superseded = if route.superseding {
        // One that was on its way when the next was planned, and came back, waits before it. The first stays: of it alone something may be not known.
        let sql = "DELETE FROM outbox WHERE route = ?1 AND lane = ?2 AND step <> 'line' AND state = 'planned' AND seq >
            (SELECT MIN(seq) FROM outbox WHERE route = ?1 AND lane = ?2 AND step <> 'line' AND state = 'planned')";
        connection.execute(sql, params![route.to, lane])?;
        // It shows all that the one before would have, in its place: before the lines that answer it, as late as its way out wants, and with what is not
        // known of it.
        let sql = "UPDATE outbox SET id = ?3, body = ?4, step = ?5 WHERE route = ?1 AND lane = ?2 AND step <> 'line' AND state = 'planned'";
        connection.execute(sql, params![route.to, lane, telling.id, body, step])?
    } else {
        0
    };
    // Why it is told there, where it came there instead of elsewhere, stands in each version of a message.
    let sql = "INSERT INTO outbox (id, route, body, planned_at, lane, step, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6,
        (SELECT note FROM outbox WHERE route = ?2 AND lane = ?5 AND step <> 'line' AND note IS NOT NULL ORDER BY seq DESC LIMIT 1)) ON CONFLICT DO NOTHING";
    if superseded == 0 {
        connection.execute(sql, params![telling.id, route.to, body, now.millis(), lane, step])?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use crate::store::{Load, Row};
    use machine::Reason;
    use machine::incident::{Consequence, Happening, Incidents, Settings};
    use model::Span;

    const ROUTE: &str = "slack:#a";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("it is a time")
    }

    fn now() -> Timestamp {
        at("2026-11-23T02:14:00Z")
    }

    fn store() -> (tempfile::TempDir, Db) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let db = Db::open(folder.path()).expect("it opens");
        (folder, db)
    }

    /// Opened, grew, acknowledged, eased, resolved.
    fn told() -> Vec<Telling> {
        sample::life("a", now())
    }

    fn to(route: &str) -> Route {
        Route { to: route.to_owned(), superseding: true, threaded: true }
    }

    fn tell(db: &mut Db, telling: &Telling, routes: &[Route]) {
        db.change(&Change { tellings: vec![(telling.clone(), routes.to_vec())], ..Change::default() }, telling.at).expect("it is planned");
    }

    fn due(db: &Db) -> Vec<Row> {
        db.due(now() + Span::from_secs(86_400)).expect("it reads")
    }

    /// What waits, as `route step number`, in order.
    fn waiting(db: &Db) -> Vec<String> {
        let sql = "SELECT route || ' ' || step || ' ' || SUBSTR(id, LENGTH(lane) + 2, 1) FROM outbox WHERE state = 'planned' ORDER BY seq";
        let mut statement = db.connection.prepare(sql).expect("it is SQL");
        statement.query_map([], |row| row.get(0)).expect("it reads").collect::<Result<_, _>>().expect("texts")
    }

    /// An incident that came and went before anybody was told, and what is told of it.
    fn fleeting() -> (Incident, Incident) {
        let (mut core, mut out) = (Incidents::new(Settings::default(), Vec::new(), Vec::new()), Vec::new());
        let fired = told()[0].incident.lead.clone();
        core.apply(Happening::Alert(Box::new(fired.clone())), now(), &mut out);
        core.apply(Happening::Alert(Box::new(fired.ended(Reason::Resolved, now()))), now(), &mut out);
        let before = core.all().next().expect("there is one").clone();
        core.apply(Happening::Passed, now() + Span::from_secs(60), &mut out);
        assert!(out.iter().any(|consequence| matches!(consequence, Consequence::Tell(_))), "its end is told");
        (before, core.all().next().expect("there is one").clone())
    }

    fn kept(db: &mut Db, incident: &Incident) {
        db.change(&Change { incidents: vec![incident.clone()], ..Change::default() }, now()).expect("it is kept");
    }

    fn loaded(db: &Db, since: Timestamp) -> usize {
        db.incidents(since).expect("it reads").0.len()
    }

    #[test]
    fn a_message_that_comes_back_while_a_newer_one_waits_is_superseded_together_with_it() {
        let ((_folder, mut db), told) = (store(), told());
        tell(&mut db, &told[0], &[to(ROUTE)]);
        let first = due(&db).remove(0).seq;
        db.sending(first).expect("it is written");
        tell(&mut db, &told[1], &[to(ROUTE)]);
        db.again(first, now(), true, "HTTP 503").expect("it is written");
        assert_eq!(waiting(&db), ["slack:#a message 1", "slack:#a message 2", "slack:#a line 2"]);
        tell(&mut db, &told[2], &[to(ROUTE)]);
        assert_eq!(waiting(&db), ["slack:#a message 3", "slack:#a line 2", "slack:#a line 3"]);
        let head = due(&db).remove(0);
        assert_eq!((head.seq, head.maybe_sent), (first, true), "what is not known of it stays so");
        assert!(matches!(head.load, Load::Message(telling, None) if *telling == told[2]));
    }

    #[test]
    fn an_end_that_takes_the_place_of_what_waits_for_long_is_as_young_as_it_is() {
        let ((_folder, mut db), told) = (store(), told());
        let ages = |db: &Db| {
            let row = due(db).remove(0);
            (row.planned_at, row.decided_at())
        };
        tell(&mut db, &told[0], &[to(ROUTE)]);
        tell(&mut db, &told[3], &[to(ROUTE)]);
        assert_eq!(ages(&db), (told[0].at, told[0].at), "what still fires is tried for a day in all");
        tell(&mut db, &told[4], &[to(ROUTE)]);
        assert_eq!(ages(&db), (told[0].at, told[4].at));
    }

    #[test]
    fn a_channel_that_is_told_no_more_has_its_message_brought_up_to_date_and_nothing_said() {
        let ((_folder, mut db), told) = (store(), told());
        let post = Post { channel: "C1".to_owned(), ts: "1.1".to_owned(), maybe_repeated: false };
        db.posted(&told[0].incident.id, "slack:C1", &post).expect("it is written");
        let change = |follow| Change { tellings: vec![(told[4].clone(), vec![to(ROUTE)])], follow, ..Change::default() };
        db.change(&change(true), now()).expect("it is planned");
        assert_eq!(waiting(&db), ["slack:#a message 5", "slack:#a line 5", "slack:C1 edit 5"]);
        assert_eq!(due(&db).iter().map(|row| (row.route.as_str(), row.follows)).collect::<Vec<_>>(), [(ROUTE, false), ("slack:C1", true)]);
        // It is told again.
        tell(&mut db, &told[4], &[to("slack:C1")]);
        assert_eq!(waiting(&db)[2..], ["slack:C1 message 5", "slack:C1 line 5"]);
        // Without Slack there is no way to it.
        let (_folder, mut db) = store();
        db.posted(&told[0].incident.id, "slack:C1", &post).expect("it is written");
        db.change(&change(false), now()).expect("it is planned");
        assert_eq!(waiting(&db), ["slack:#a message 5", "slack:#a line 5"]);
    }

    #[test]
    fn what_is_refused_in_its_channel_brings_nothing_back_where_the_end_is_told_already() {
        let ((_folder, mut db), told) = (store(), told());
        let post = Post { channel: "C1".to_owned(), ts: "1.1".to_owned(), maybe_repeated: false };
        db.posted(&told[0].incident.id, "slack:#last", &post).expect("it is written");
        tell(&mut db, &told[3], &[to(ROUTE)]);
        let refused = due(&db).remove(0).seq;
        db.sending(refused).expect("it is written");
        tell(&mut db, &told[4], &[to(ROUTE), Route { threaded: false, ..to("slack:#last") }]);
        db.reroute(refused, "is_archived", "slack:#last", "why", now()).expect("it is written");
        let there = |db: &Db| waiting(db).into_iter().filter(|row| row.starts_with("slack:#last")).collect::<Vec<_>>();
        assert_eq!(there(&db), ["slack:#last message 5"]);
        // Its line is nobody else's.
        let line = due(&db).into_iter().find(|row| row.route == ROUTE).expect("its line waits").seq;
        db.reroute(line, "is_archived", "slack:#last", "why", now()).expect("it is written");
        assert_eq!(there(&db), ["slack:#last message 5", "slack:#last line 4"]);
    }

    #[test]
    fn why_a_message_is_told_there_stands_in_each_version_of_it() {
        let ((_folder, mut db), told) = (store(), told());
        tell(&mut db, &told[0], &[to(ROUTE)]);
        db.reroute(due(&db)[0].seq, "is_archived", "slack:#last", "why", now()).expect("it is written");
        db.sent(due(&db)[0].seq, "C1/1.1").expect("it is written");
        assert_eq!(db.shown(&told[0].incident.id, "slack:#last").expect("it reads"), Some((told[0].clone(), Some("why".to_owned()))));
        tell(&mut db, &told[1], &[to("slack:#last")]);
        assert_eq!(due(&db)[0].note.as_deref(), Some("why"));
    }

    #[test]
    fn an_incident_whose_end_is_still_to_be_told_is_loaded_and_kept_however_old_it_is() {
        let (_folder, mut db) = store();
        let (before, after) = fleeting();
        let day = now() + Span::from_secs(86_400);
        kept(&mut db, &before);
        forget(&db.connection, day).expect("it is written");
        assert_eq!(loaded(&db, day), 1);
        kept(&mut db, &after);
        assert_eq!((loaded(&db, day), loaded(&db, now())), (0, 1));
        forget(&db.connection, day).expect("it is written");
        assert_eq!(loaded(&db, now()), 0);
    }

    #[test]
    fn where_a_message_is_stays_known_until_nothing_more_is_to_be_said_there() {
        let ((_folder, mut db), told) = (store(), told());
        let (_, mut over) = fleeting();
        over.id = told[4].incident.id.clone();
        kept(&mut db, &over);
        let post = Post { channel: "C1".to_owned(), ts: "1.1".to_owned(), maybe_repeated: false };
        db.posted(&over.id, ROUTE, &post).expect("it is written");
        tell(&mut db, &told[4], &[Route { threaded: false, ..to(ROUTE) }]);
        let day = now() + Span::from_secs(86_400);
        forget(&db.connection, day).expect("it is written");
        assert_eq!(db.post(&over.id, ROUTE).expect("it reads"), Some(post));
        db.sent(due(&db)[0].seq, "C1/1.1").expect("it is written");
        forget(&db.connection, day).expect("it is written");
        assert_eq!(db.post(&over.id, ROUTE).expect("it reads"), None);
    }

    #[test]
    fn an_alert_in_whose_place_another_fired_is_kept_for_the_page_alone() {
        let (_folder, mut db) = store();
        let (mut incident, _) = fleeting();
        kept(&mut db, &incident);
        let before = incident.alerts[0].alert_id.clone();
        incident.alerts[0] = machine::Notification { id: "b-fired".to_owned(), alert_id: "b".to_owned(), ..incident.alerts[0].clone() };
        for _ in 0..2 {
            kept(&mut db, &incident);
            let found = db.incident(&before).expect("it reads").expect("it is found by either");
            assert_eq!((found.id.as_str(), found.alerts.len(), found.alerts[0].alert_id.as_str()), (incident.id.as_str(), 1, "b"));
            let earlier: Vec<_> = db.earlier_alerts(&incident.id).expect("it reads").into_iter().map(|alert| alert.alert_id).collect();
            assert_eq!(earlier, [before.as_str()]);
        }
    }

    #[test]
    fn alerts_stay_in_their_order_when_an_incident_becomes_part_of_another() {
        let (_folder, mut db) = store();
        let (mut whole, _) = fleeting();
        let alert = |id: &str| machine::Notification { id: format!("{id}-fired"), alert_id: id.to_owned(), ..whole.alerts[0].clone() };
        let [first, second, third] = ["1", "2", "3"].map(alert);
        let mut part = whole.clone();
        (part.id, part.alerts) = ("part".to_owned(), vec![third.clone()]);
        whole.alerts = vec![first, second];
        kept(&mut db, &whole);
        kept(&mut db, &part);
        whole.alerts.push(third);
        let merged = vec![(part.id, whole.id.clone())];
        db.change(&Change { merged, incidents: vec![whole.clone()], ..Change::default() }, now()).expect("it is written");
        let (incidents, _) = db.incidents(now()).expect("it reads");
        let ids: Vec<_> = incidents[0].alerts.iter().map(|alert| alert.alert_id.as_str()).collect();
        assert_eq!((incidents.len(), ids), (1, vec!["1", "2", "3"]));
    }
}
