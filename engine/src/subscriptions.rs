//! Subscriptions: channels whose people asked to hear of more than rules and the configuration send them.
//!
//! They are in the store, and here as a list that is read without waiting, because every incident that changes asks for it.
//! Deliberately absent: how people ask (`hearing/`), and the channels of rules and of the configuration (`routes.rs`).

use crate::error::Fault;
use crate::store::Store;
use machine::Notification;
use model::Timestamp;
use model::plan::Severity;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Of all channels together. Each is compared with every alert of an incident that changes, and each may be one more message of it at Slack's pace
/// of one a second.
pub const SUBSCRIPTIONS_MAX: usize = 500;

/// One channel's wish.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Slack's id of the channel.
    pub channel: String,
    /// Its name when it was asked for, without `#`; empty where Slack gave none.
    pub name: String,
    pub filter: Filter,
    pub by: String,
    pub at: Timestamp,
}

/// Which alerts: all that is said must hold. Nothing said: every alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// This severe, or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// `environment`, `rule` or a key of the alert's group, and its value; in order, each key once.
    pub terms: Vec<(String, String)>,
}

impl Filter {
    /// Whether an alert is one of those.
    pub fn takes(&self, alert: &Notification) -> bool {
        let holds = |(key, value): &(String, String)| match key.as_str() {
            "environment" => alert.environment == *value,
            "rule" => alert.rule == *value,
            _ => alert.group.iter().any(|(known, label)| known == key && label == value),
        };
        self.severity.is_none_or(|least| alert.severity >= least) && self.terms.iter().all(holds)
    }

    /// The value that a term asks for.
    pub fn term(&self, key: &str) -> Option<&str> {
        self.terms.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

/// As a person writes it after `subscribe`; `everything` where it asks for nothing.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity.map(|severity| format!("severity>={}", severity.name()));
        let term = |(key, value): &(String, String)| {
            let quoted = value.is_empty() || value.contains(char::is_whitespace);
            if quoted { format!("{key}=\"{value}\"") } else { format!("{key}={value}") }
        };
        let parts: Vec<String> = severity.into_iter().chain(self.terms.iter().map(term)).collect();
        if parts.is_empty() { f.write_str("everything") } else { f.write_str(&parts.join(" ")) }
    }
}

/// What came of a wish to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    New,
    Already,
    /// There are [`SUBSCRIPTIONS_MAX`].
    Full,
}

/// A handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    /// `None` where nothing can be subscribed: a back-test, a test.
    store: Option<Store>,
    list: Arc<watch::Sender<Arc<Vec<Subscription>>>>,
    /// One change at a time, so that the list is what the store has.
    changing: Arc<Mutex<()>>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Subscriptions {
    /// Those that the store has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(store: Store) -> Result<Self, Fault> {
        let known = store.ask(|db| db.subscriptions()).await?;
        Ok(Self { store: Some(store), ..Self::of(known) })
    }

    /// These, which nothing changes.
    pub fn of(known: Vec<Subscription>) -> Self {
        Self { store: None, list: Arc::new(watch::Sender::new(Arc::new(known))), changing: Arc::default() }
    }

    /// All of them, as they are now. Costs no more than a look at a lock.
    pub fn all(&self) -> Arc<Vec<Subscription>> {
        self.list.borrow().clone()
    }

    /// # Errors
    /// When the store cannot be written.
    pub async fn add(&self, subscription: Subscription) -> Result<Subscribed, Fault> {
        let _changing = self.changing.lock().await;
        let known = self.all();
        let same = |known: &Subscription| known.channel == subscription.channel && known.filter == subscription.filter;
        let came = match known.iter().any(same) {
            true => Subscribed::Already,
            false if known.len() >= SUBSCRIPTIONS_MAX => return Ok(Subscribed::Full),
            false => Subscribed::New,
        };
        self.change(move |db| db.subscribe(&subscription)).await?;
        Ok(came)
    }

    /// Ends those of a channel: the one with this filter, or all. How many there were.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove(&self, channel: &str, filter: Option<Filter>) -> Result<usize, Fault> {
        let _changing = self.changing.lock().await;
        let channel = channel.to_owned();
        self.change(move |db| db.unsubscribe(&channel, filter.as_ref())).await
    }

    async fn change<T: Send + 'static>(&self, change: impl FnOnce(&mut crate::store::Db) -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
        let store = self.store.as_ref().ok_or_else(|| Fault::plain("nothing can be subscribed here"))?;
        let (came, known) = store.ask(move |db| Ok((change(db)?, db.subscriptions()?))).await?;
        self.list.send_replace(Arc::new(known));
        Ok(came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn alert(severity: &str) -> Notification {
        serde_json::from_value(json!({ "id": "1-fired", "reason": "fired", "at": "2026-11-22T10:00:00Z", "alert_id": "1", "rule": "errors",
            "severity": severity, "environment": "production", "group": [["stage", "extraction"], ["model", "two words"]], "summary": "x",
            "observed": [], "began": "2026-11-22T10:00:00Z", "fired": "2026-11-22T10:00:00Z", "worst": null, "examples": [], "labels": [],
            "actions": [], "owner": null, "hit": [], "channel": null, "runbook": null }))
        .expect("it is a notification")
    }

    fn filter(severity: Option<Severity>, terms: &[(&str, &str)]) -> Filter {
        Filter { severity, terms: terms.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect() }
    }

    #[test]
    fn a_filter_takes_the_alerts_of_which_all_that_it_says_holds() {
        let takes = |severity, terms: &[(&str, &str)]| filter(severity, terms).takes(&alert("warning"));
        assert!(takes(None, &[]));
        assert!(takes(Some(Severity::Info), &[("environment", "production"), ("rule", "errors"), ("stage", "extraction")]));
        assert!(!takes(Some(Severity::Critical), &[]), "less severe");
        assert!(!takes(None, &[("environment", "test")]));
        assert!(!takes(None, &[("rule", "errors"), ("stage", "synthesis")]), "one of two does not hold");
        assert!(!takes(None, &[("provider", "openai")]), "the group has no such key");
    }

    #[test]
    fn a_filter_is_shown_as_it_is_written() {
        assert_eq!(filter(None, &[]).to_string(), "everything");
        let shown = filter(Some(Severity::Warning), &[("model", "two words"), ("stage", "")]).to_string();
        assert_eq!(shown, "severity>=warning model=\"two words\" stage=\"\"");
    }

    fn subscription(channel: &str, terms: &[(&str, &str)]) -> Subscription {
        let at = Timestamp::parse("2026-11-22T10:00:00Z").expect("a time");
        Subscription { channel: channel.to_owned(), name: "oncall".to_owned(), filter: filter(None, terms), by: "@ana".to_owned(), at }
    }

    #[tokio::test]
    async fn subscriptions_outlive_a_restart_and_the_same_one_is_there_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path().to_owned()).expect("it opens");
        let subscriptions = Subscriptions::open(store.clone()).await.expect("it opens");
        let stage = [("stage", "extraction")];
        assert_eq!(subscriptions.add(subscription("C1", &stage)).await.expect("it is kept"), Subscribed::New);
        assert_eq!(subscriptions.add(subscription("C1", &stage)).await.expect("it is kept"), Subscribed::Already);
        assert_eq!(subscriptions.add(subscription("C1", &[])).await.expect("it is kept"), Subscribed::New);
        assert_eq!(subscriptions.add(subscription("C2", &[])).await.expect("it is kept"), Subscribed::New);
        let reopened = Subscriptions::open(store.clone()).await.expect("it opens");
        assert_eq!((reopened.all(), reopened.all().len()), (subscriptions.all(), 3));
        assert_eq!(reopened.remove("C1", Some(filter(None, &[("stage", "other")]))).await.expect("it looks"), 0);
        assert_eq!(reopened.remove("C1", Some(filter(None, &stage))).await.expect("it ends"), 1);
        assert_eq!(reopened.remove("C1", None).await.expect("it ends"), 1);
        assert_eq!(reopened.all().iter().map(|known| known.channel.as_str()).collect::<Vec<_>>(), ["C2"]);
    }

    #[tokio::test]
    async fn there_are_no_more_subscriptions_than_the_bound() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path().to_owned()).expect("it opens");
        let put = |db: &mut crate::store::Db| (0..SUBSCRIPTIONS_MAX).try_for_each(|at| db.subscribe(&subscription(&format!("C{at}"), &[])));
        store.ask(put).await.expect("they are kept");
        let subscriptions = Subscriptions::open(store).await.expect("it opens");
        assert_eq!(subscriptions.add(subscription("C1", &[])).await.expect("it looks"), Subscribed::Already);
        assert_eq!(subscriptions.add(subscription("D", &[])).await.expect("it looks"), Subscribed::Full);
        assert_eq!(subscriptions.all().len(), SUBSCRIPTIONS_MAX);
    }
}
