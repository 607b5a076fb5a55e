//! All that a back-test found, in the shape of `--json`; text and report are made of it, too.

use super::alerts::{Row, firing_ms, rows};
use super::compare::{Compared, compare};
use super::incidents::{Incident, Verdict, judge};
use super::learned::Beginning;
use super::run::{Ran, Read};
use machine::Notification;
use model::{Span, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Raised when a name changes its meaning or goes; new ones may come.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize)]
pub struct Findings {
    pub format: u32,
    /// `stream LLM_CALLS`, or the file.
    pub source: String,
    /// Event times of the first and the last call.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub start: Started,
    /// Calls of the range, malformed ones included.
    pub calls: u64,
    /// Calls before the range, which were only learned from.
    pub learned_from: u64,
    /// By reason.
    pub malformed: BTreeMap<&'static str, u64>,
    pub seconds: f64,
    pub calls_per_second: f64,
    #[serde(flatten)]
    pub tested: Tested,
    /// The other set of rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<Tested>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// The first malformed calls, by number and what is wrong with them; and what the numbers count.
    #[serde(skip)]
    pub shown: Vec<(u64, String)>,
    #[serde(skip)]
    pub numbered: &'static str,
}

/// What was known when it began.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Started {
    Cold { why: &'static str },
    Learned { snapshot: Timestamp, position: u64 },
}

/// What one set of rules would have done.
#[derive(Debug, Serialize)]
pub struct Tested {
    pub rules: Vec<RuleFound>,
    pub alerts: Vec<Row>,
    pub alerts_per_week: Option<f64>,
    /// Of the time, with at least one alert.
    pub firing_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incidents: Option<Verdict>,
    /// As they would have been published, in order.
    pub notifications: Vec<Notification>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleFound {
    pub rule: String,
    pub alerts: usize,
    /// From the first call until something was expected somewhere, 0 where nothing is to be learned; `None`: not by the end.
    pub learned_after_ms: Option<u64>,
    /// Groups and roll-ups that are gauged, and those of them that still learn at the end.
    pub gauged: usize,
    pub still_learning: usize,
}

impl Findings {
    /// `first` set of rules, and perhaps a second.
    pub fn new(source: String, beginning: Beginning, read: Read, first: &mut Ran, second: Option<&mut Ran>, incidents: Option<&[Incident]>) -> Self {
        let tested = Tested::new(first, read.span, incidents);
        let second = second.map(|second| Tested::new(second, read.span, incidents));
        let last = read.span.map_or(Timestamp::EPOCH, |(_, last)| last);
        let compared = second.as_ref().map(|second| compare(&tested.alerts, &second.alerts, last));
        let all = (read.calls + read.learned_from) as f64;
        let seconds = read.took.as_secs_f64();
        let start = match beginning {
            Beginning::Cold(why) => Started::Cold { why },
            Beginning::Learned { clock, position } => Started::Learned { snapshot: clock, position },
        };
        Self {
            format: FORMAT,
            source,
            from: read.span.map(|(first, _)| first),
            to: read.span.map(|(_, last)| last),
            start,
            calls: read.calls,
            learned_from: read.learned_from,
            malformed: read.malformed,
            seconds,
            calls_per_second: all / seconds.max(1e-9),
            tested,
            second,
            compared,
            shown: read.shown,
            numbered: read.numbered,
        }
    }

    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        self.from.zip(self.to)
    }
}

impl Tested {
    fn new(ran: &mut Ran, span: Option<(Timestamp, Timestamp)>, incidents: Option<&[Incident]>) -> Self {
        let last = span.map_or(Timestamp::EPOCH, |(_, last)| last);
        let alerts = rows(ran, last);
        let length = span.map(|(first, last)| last.since(first)).filter(|length| *length > Span::ZERO);
        let share = |(first, last)| firing_ms(&alerts, first, last) as f64 / last.since(first).millis().max(1) as f64;
        let standings = ran.machine.rules();
        let found = |(at, rule): (usize, &model::plan::Rule)| {
            let mine = || standings.iter().filter(|standing| standing.rule == rule.name);
            let began = span.map_or(Timestamp::EPOCH, |(first, _)| first);
            RuleFound {
                rule: rule.name.clone(),
                alerts: alerts.iter().filter(|row| row.rule == rule.name).count(),
                learned_after_ms: ran.learned[at].map(|learned| learned.since(began).millis()),
                gauged: mine().map(|standing| standing.gauged).sum(),
                still_learning: mine().map(|standing| standing.learning).sum(),
            }
        };
        Self {
            rules: ran.machine.plan().rules.iter().enumerate().map(found).collect(),
            alerts_per_week: length.map(|length| alerts.len() as f64 * 604_800_000.0 / length.millis() as f64),
            firing_share: span.map(share),
            incidents: incidents.map(|incidents| judge(incidents, &alerts, span)),
            notifications: std::mem::take(&mut ran.told),
            alerts,
        }
    }
}
