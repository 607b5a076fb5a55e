//! What really happened, from a file, against the alerts: hits with their delay, misses, and false alarms.
//!
//! An alert fits an incident when it fires while the incident lasts or in the quarter of an hour after, is of the rule that the incident names (if
//! any), and is for a group that the incident's does not contradict: an alert for a roll-up covers the groups below it.

use super::alerts::Row;
use crate::error::Fault;
use model::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// An incident is told of for so long after its end: windows empty, and alerts keep firing for a while.
pub const TAIL: Span = Span::from_secs(15 * 60);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    incident: Vec<Written>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    from: toml::Value,
    to: toml::Value,
    rule: Option<String>,
    #[serde(default)]
    group: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    pub name: String,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Of any rule where there is none.
    pub rule: Option<String>,
    /// Key → label, `environment` included.
    pub group: BTreeMap<String, String>,
}

/// What became of an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    #[serde(flatten)]
    pub incident: Incident,
    /// `hit`, `missed`, or `no_calls`: the calls do not reach there.
    pub outcome: &'static str,
    /// From its beginning to the first alert.
    pub delay_ms: Option<u64>,
    pub alerts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub hits: usize,
    pub misses: usize,
    pub no_calls: usize,
    /// Ids of alerts that fit no incident.
    pub false_alarms: Vec<String>,
    /// Of the alerts, those that fit an incident; `None` without alerts.
    pub precision: Option<f64>,
    /// Of the incidents with calls, those that were hit; `None` without any.
    pub recall: Option<f64>,
    pub incidents: Vec<Judged>,
}

/// # Errors
/// When the file cannot be read, or something in it is not what it should be.
pub fn read(path: &Path) -> Result<Vec<Incident>, Fault> {
    const SHAPE: &str = "write [[incident]] with name, from, to (RFC 3339), and where you like rule and group = { stage = \"extraction\" }";
    let text = std::fs::read_to_string(path).map_err(|error| Fault::new(format!("cannot read {}: {error}", path.display()), SHAPE))?;
    let file: File = toml::from_str(&text).map_err(|error| Fault::new(format!("{}: {}", path.display(), error.to_string().trim_end()), SHAPE))?;
    file.incident.into_iter().map(|written| written.meant().map_err(|what| Fault::new(format!("{}: {what}", path.display()), SHAPE))).collect()
}

impl Written {
    fn meant(self) -> Result<Incident, String> {
        let time = |value: &toml::Value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Timestamp::parse(&text).ok_or_else(|| format!("incident `{}`: cannot read the time `{text}`", self.name))
        };
        let (from, to) = (time(&self.from)?, time(&self.to)?);
        if to < from {
            return Err(format!("incident `{}` ends before it begins", self.name));
        }
        Ok(Incident { name: self.name, from, to, rule: self.rule, group: self.group })
    }
}

impl Incident {
    fn fits(&self, row: &Row, last: Timestamp) -> bool {
        let overlaps = row.fired <= self.to + TAIL && row.until(last) >= self.from;
        let label = |key: &str| match key {
            "environment" => Some(row.environment.as_str()),
            key => row.group.iter().find(|(known, _)| known == key.strip_prefix("properties.").unwrap_or(key)).map(|(_, label)| label.as_str()),
        };
        let agrees = self.group.iter().all(|(key, wanted)| label(key).is_none_or(|label| label == wanted));
        overlaps && agrees && self.rule.as_ref().is_none_or(|rule| *rule == row.rule)
    }
}

/// Judges the alerts of calls that span `span`.
pub fn judge(incidents: &[Incident], rows: &[Row], span: Option<(Timestamp, Timestamp)>) -> Verdict {
    let last = span.map_or(Timestamp::EPOCH, |(_, last)| last);
    let judged: Vec<_> = incidents
        .iter()
        .map(|incident| {
            let fitting: Vec<_> = rows.iter().filter(|row| incident.fits(row, last)).collect();
            let covered = span.is_some_and(|(first, last)| incident.from <= last && incident.to >= first);
            let outcome = match (fitting.is_empty(), covered) {
                (false, _) => "hit",
                (true, true) => "missed",
                (true, false) => "no_calls",
            };
            // What fired already when it began has told of something else first, so a later one counts before it.
            let after = fitting.iter().filter(|row| row.fired >= incident.from).map(|row| row.fired.since(incident.from).millis()).min();
            let delay_ms = after.or((!fitting.is_empty()).then_some(0));
            Judged { incident: incident.clone(), outcome, delay_ms, alerts: fitting.iter().map(|row| row.alert_id.clone()).collect() }
        })
        .collect();
    let of = |outcome: &str| judged.iter().filter(|judged| judged.outcome == outcome).count();
    let (hits, misses, no_calls) = (of("hit"), of("missed"), of("no_calls"));
    let wrong = rows.iter().filter(|row| !incidents.iter().any(|incident| incident.fits(row, last)));
    let false_alarms: Vec<_> = wrong.map(|row| row.alert_id.clone()).collect();
    let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
    Verdict {
        hits,
        misses,
        no_calls,
        precision: share(rows.len() - false_alarms.len(), rows.len()),
        recall: share(hits, hits + misses),
        false_alarms,
        incidents: judged,
    }
}

impl Verdict {
    /// Everything was told of, and nothing else was.
    pub fn flawless(&self) -> bool {
        self.misses == 0 && self.no_calls == 0 && self.false_alarms.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::alerts::tests::{at, row};
    use super::*;

    fn incident(rule: Option<&str>, group: &[(&str, &str)], from: i64, to: i64) -> Incident {
        let group = group.iter().map(|(key, label)| ((*key).to_owned(), (*label).to_owned())).collect();
        Incident { name: format!("from {from}"), from: at(from), to: at(to), rule: rule.map(str::to_owned), group }
    }

    #[test]
    fn alerts_fit_incidents_by_time_rule_and_group() {
        let alert = row("errors", "extraction", 105, 140);
        for (fits, rule, group, from, to) in [
            (true, None, &[][..], 100, 120),
            (true, Some("errors"), &[("stage", "extraction"), ("environment", "production")], 100, 120),
            (true, None, &[("model", "m")], 100, 120),
            (false, Some("other"), &[], 100, 120),
            (false, None, &[("stage", "synthesis")], 100, 120),
            (false, None, &[("environment", "test")], 100, 120),
            (true, None, &[], 80, 90),
            (false, None, &[], 80, 89),
            (true, None, &[], 140, 150),
            (false, None, &[], 141, 150),
        ] {
            assert_eq!(incident(rule, group, from, to).fits(&alert, at(1000)), fits, "{rule:?} {group:?} {from} to {to}");
        }
    }

    #[test]
    fn hits_misses_and_false_alarms_make_precision_and_recall() {
        let rows = [row("errors", "a", 105, 140), row("errors", "b", 500, 510), row("errors", "a", 112, 113)];
        let incidents = [incident(None, &[("stage", "a")], 100, 120), incident(None, &[], 300, 310), incident(None, &[], 2000, 2010)];
        let verdict = judge(&incidents, &rows, Some((at(0), at(1000))));
        let outcomes: Vec<_> = verdict.incidents.iter().map(|judged| (judged.outcome, judged.delay_ms)).collect();
        assert_eq!(outcomes, [("hit", Some(5 * 60_000)), ("missed", None), ("no_calls", None)]);
        assert_eq!((verdict.hits, verdict.misses, verdict.no_calls), (1, 1, 1));
        assert_eq!(verdict.false_alarms, ["errors-b-500"]);
        assert_eq!((verdict.precision, verdict.recall), (Some(2.0 / 3.0), Some(0.5)));
        assert!(!verdict.flawless());
        assert!(judge(&incidents[..1], &rows[..1], Some((at(0), at(1000)))).flawless());
        assert_eq!(judge(&[], &[], None).precision, None);
    }

    #[test]
    fn times_are_toml_dates_or_texts_and_mistakes_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("incidents.toml");
        let said = |text: &str| {
            std::fs::write(&path, text).expect("it is written");
            read(&path).map_err(|fault| fault.to_string())
        };
        let good = "[[incident]]\nname = \"n\"\nfrom = 2026-01-01T10:00:00Z\nto = \"2026-01-01T11:00:00+00:00\"\ngroup = { stage = \"a\" }\n";
        let read = said(good).expect("it is read");
        assert_eq!((read[0].to.since(read[0].from), read[0].group["stage"].as_str()), (Span::from_secs(3600), "a"));
        for (from, to, part) in [
            ("from = 2026-01-01T10:00:00Z", "from = \"soon\"", "incident `n`: cannot read the time `soon`"),
            ("from = 2026-01-01T10:00:00Z", "from = 2026-01-02T10:00:00Z", "incident `n` ends before it begins"),
            ("name = \"n\"", "nam = \"n\"", "unknown field `nam`"),
        ] {
            let said = said(&good.replace(from, to)).expect_err("it is a mistake");
            assert!(said.contains(part) && said.contains("\nhint: write [[incident]]"), "{said}");
        }
    }
}
