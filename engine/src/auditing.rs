//! Noting who changes what or takes out how much, over HTTP or from Slack. A change is noted before it is made, as `asked`, and again with what came of
//! it: there is none without a trace, even when the engine is killed in the middle.
//!
//! Deliberately absent: who may (`http/access.rs`, `hearing/operators.rs`), and how long it is kept (`store/audit.rs`).

use crate::error::Fault;
use crate::outbox::now;
use crate::store::{Audited, Store, Way};

/// What is asked for may be anything; ids are shorter.
const SUBJECT_MAX: usize = 200;

/// Notes that `who` begins to do something; `subject` is what they do it to. What comes of it is for [`ended`].
pub async fn begun(store: &Store, who: String, way: Way, action: &str, subject: &str) -> Result<i64, Fault> {
    let subject = subject.chars().take(SUBJECT_MAX).collect();
    let entry = Audited { at: now(), who, way, action: action.to_owned(), subject, outcome: "asked".to_owned() };
    tracing::info!(who = %entry.who, way = entry.way.name(), action, subject = %entry.subject, "asked");
    store.ask(move |db| db.audit(&entry)).await
}

pub async fn ended(store: &Store, id: i64, said: String) -> Result<(), Fault> {
    store.ask(move |db| db.audit_outcome(id, &said)).await
}
