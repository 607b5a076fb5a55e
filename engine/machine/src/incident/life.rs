//! The incidents that are open or were just now, their silences, and the one entry that changes them.

use super::{Acknowledged, Consequence, Entry, Findings, HISTORY_MAX, Happening, Incident, Occasion, Place, Shown, Silence, Silenced};
use super::{Telling, Untold, kin};
use crate::effect::{Notification, Reason};
use model::{Span, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Silences that are kept: more than people make in a month.
const SILENCES_MAX: usize = 500;
/// Of those that joined since it was told last, how many are named.
const NAMED_MAX: usize = 5;

/// How long people are left in peace, and for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Before the first message, and before what grows or ends is told: what happens with the same tick is told together.
    pub wait: Span,
    /// The longest that a first message waits for what is behind it.
    pub patience: Span,
    /// The same while another incident of its environment is new: it may be part of that.
    pub patience_beside: Span,
    /// Between two updates of one message for nothing but growth.
    pub interval: Span,
    /// Alerts whose beginnings are this close began together.
    pub together: Span,
    /// What comes back within this is the same incident.
    pub reopen: Span,
    /// How long one that came back more than once must be quiet before its end is told.
    pub settle: Span,
    /// The shortest and the longest time between two updates of a message of which nothing but its numbers changed: an eighth of its age.
    pub refresh: (Span, Span),
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Span::from_secs;
        Self {
            wait: seconds(1),
            patience: seconds(4),
            patience_beside: seconds(20),
            interval: seconds(20),
            together: seconds(180),
            reopen: seconds(900),
            settle: seconds(300),
            refresh: (seconds(60), seconds(1800)),
        }
    }
}

/// All incidents that may still change.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    settings: Settings,
    of: BTreeMap<String, Incident>,
    silences: Vec<Silence>,
}

impl Incidents {
    /// Goes on with what was kept; each incident comes with its alerts.
    pub fn new(settings: Settings, kept: Vec<Incident>, silences: Vec<Silence>) -> Self {
        Self { settings, of: kept.into_iter().map(|incident| (incident.id.clone(), incident)).collect(), silences }
    }

    /// Those that fire or were quiet a short while ago.
    pub fn all(&self) -> impl Iterator<Item = &Incident> {
        self.of.values()
    }

    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.of.get(id)
    }

    /// That an alert is part of.
    pub fn with_alert(&self, alert_id: &str) -> Option<&Incident> {
        self.of.values().find(|incident| incident.alerts.iter().any(|alert| alert.alert_id == alert_id))
    }

    /// By its id, an alert's, or the beginning of either that only one has.
    pub fn named(&self, name: &str) -> Option<&Incident> {
        let exact = self.get(name).or_else(|| self.with_alert(name));
        let begins = |incident: &&Incident| incident.id.starts_with(name) || incident.alerts.iter().any(|alert| alert.alert_id.starts_with(name));
        exact.or_else(|| {
            let mut found = self.of.values().filter(begins);
            found.next().filter(|_| found.next().is_none() && !name.is_empty())
        })
    }

    /// Those that hold at `now`.
    pub fn silences(&self, now: Timestamp) -> impl Iterator<Item = &Silence> {
        self.silences
            .iter()
            .filter(move |silence| holds(silence, now))
            .chain(self.of.values().filter_map(move |incident| incident.silenced.as_ref().filter(|silence| holds(silence, now))))
    }

    /// Silences of alerts, to be kept.
    pub fn kept_silences(&self) -> &[Silence] {
        &self.silences
    }

    /// What silences an incident at `now`: its own silence, or others that together cover all that fires of it.
    pub fn silence_of(&self, incident: &Incident, now: Timestamp) -> Option<Silence> {
        if let Some(own) = incident.silenced.as_ref().filter(|silence| holds(silence, now)) {
            return Some(own.clone());
        }
        let mut firing = incident.firing().peekable();
        let first = firing.peek().and_then(|alert| self.covering(alert, now))?.clone();
        firing.all(|alert| self.covering(alert, now).is_some()).then_some(first)
    }

    fn covering(&self, alert: &Notification, now: Timestamp) -> Option<&Silence> {
        self.silences.iter().find(|silence| holds(silence, now) && silence.of.covers(alert))
    }

    /// When [`Happening::Passed`] would do something next.
    pub fn next_due(&self) -> Option<Timestamp> {
        let of = |incident: &Incident| {
            let silence = incident.silenced.as_ref().and_then(|silence| silence.until);
            [incident.due, silence, self.forgotten(incident).filter(|_| incident.due.is_none())].into_iter().flatten().min()
        };
        self.of.values().filter_map(of).chain(self.silences.iter().filter_map(|silence| silence.until)).min()
    }

    /// From when on it cannot come back; not before what was said of it last is kept.
    fn forgotten(&self, incident: &Incident) -> Option<Timestamp> {
        let Settings { reopen, settle, wait, .. } = self.settings;
        let said = incident.history.last().map(|entry| entry.at + wait);
        incident.quiet.map(|quiet| said.into_iter().fold(quiet + reopen + settle, Timestamp::max))
    }

    /// The one way in. What it does not know, or knows already, changes nothing.
    pub fn apply(&mut self, happening: Happening, now: Timestamp, out: &mut Vec<Consequence>) {
        match happening {
            Happening::Alert(alert) => self.alert(*alert, now, out),
            Happening::Explained { incident, findings } => self.explained(&incident, findings.map(|findings| *findings), now, out),
            Happening::Acknowledged { incident, by } => {
                if let Some(open) = self.of.get_mut(&incident).filter(|open| open.quiet.is_none() && open.acknowledged.is_none()) {
                    open.acknowledged = Some(Acknowledged { by: by.clone(), at: now });
                    self.tell(&incident, Occasion::Acknowledged, Some(by), now, out);
                }
            }
            Happening::Silenced { silence } => self.silence(silence, now, out),
            Happening::Unsilenced { id, by } => self.unsilence(&id, &by, now, out),
            Happening::Acted { incident, label, by, outcome } => {
                if self.of.contains_key(&incident) {
                    self.tell(&incident, Occasion::Acted { label, outcome }, Some(by), now, out);
                }
            }
            Happening::Passed => {}
        }
        self.pass(now, out);
    }

    fn alert(&mut self, alert: Notification, now: Timestamp, out: &mut Vec<Consequence>) {
        let known = self.of.values_mut().find_map(|incident| {
            let at = incident.alerts.iter().position(|known| known.alert_id == alert.alert_id)?;
            Some((incident, at))
        });
        match (alert.reason, known) {
            (Reason::Fired, None) => self.fired(alert, now, out),
            // Told before it was heard of here, by an earlier version: it fires.
            (Reason::Repeated, None) => self.fired(Notification { reason: Reason::Fired, ..alert }, now, out),
            (Reason::Fired, Some(_)) | (_, None) => {}
            (Reason::Repeated, Some((incident, at))) => {
                if incident.alerts[at].reason.ends() {
                    return;
                }
                incident.alerts[at] = alert;
                incident.remind = true;
                sooner(incident, now);
                out.push(Consequence::Changed(incident.id.clone()));
            }
            (_, Some((incident, at))) => {
                if incident.alerts[at].reason.ends() {
                    return;
                }
                incident.alerts[at] = alert;
                if incident.firing().next().is_none() {
                    incident.quiet = Some(now);
                    let settle = if incident.returned > 1 { self.settings.settle } else { Span::ZERO };
                    // A first message still waits for what is behind it; one that a silence held back does not wait for the silence's end.
                    let first = incident.due.filter(|_| incident.shown.is_none() && !incident.is_hidden());
                    incident.due = Some(first.unwrap_or(now + settle));
                    incident.asked = incident.asked.filter(|_| incident.shown.is_none());
                    if settle > Span::ZERO {
                        note(incident, Entry { at: now, occasion: Occasion::Eased { firing: 0 }, by: None, untold: Some(Untold::Flapping) });
                    }
                } else {
                    later(incident, &self.settings, now);
                }
                out.push(Consequence::Changed(incident.id.clone()));
            }
        }
    }

    fn fired(&mut self, alert: Notification, now: Timestamp, out: &mut Vec<Consequence>) {
        let settings = self.settings;
        let here = |incident: &&mut Incident| incident.environment == alert.environment;
        let of_rule = |incident: &Incident| incident.alerts.iter().any(|known| known.rule == alert.rule);
        // The one that fires before the one that was quiet; of several the latest.
        let home = self
            .of
            .values_mut()
            .filter(here)
            .filter(|incident| of_rule(incident) || incident.quiet.is_none() && kin::belongs(&alert, incident, settings.together))
            .max_by_key(|incident| (incident.quiet.is_none(), of_rule(incident), incident.opened));
        if let Some(incident) = home {
            if incident.quiet.take().is_some() && incident.shown.is_some() {
                incident.returned += 1;
                // It is another matter to have it in hand again.
                incident.acknowledged = None;
                incident.due = Some(now);
            } else {
                let worse = incident.shown.is_some_and(|shown| alert.severity > shown.severity);
                if worse { incident.due = Some(now) } else { later(incident, &settings, now) }
            }
            let id = incident.id.clone();
            incident.join(alert);
            out.push(Consequence::Changed(id));
            return;
        }
        let beside = self
            .of
            .values()
            .any(|other| other.environment == alert.environment && other.quiet.is_none() && now.since(other.opened) < settings.together);
        let patience = if beside { settings.patience_beside } else { settings.patience };
        let id = format!("i{}", alert.alert_id);
        let incident = Incident {
            id: id.clone(),
            environment: alert.environment.clone(),
            opened: now,
            quiet: None,
            alerts: vec![alert],
            acknowledged: None,
            silenced: None,
            findings: None,
            returned: 0,
            history: Vec::new(),
            told: 0,
            shown: None,
            due: Some(now + patience),
            asked: Some(now + patience),
            remind: false,
            before: None,
            told_ended: BTreeSet::new(),
        };
        self.of.insert(id.clone(), incident);
        out.push(Consequence::Changed(id.clone()));
        out.push(Consequence::Explain(id));
    }

    fn explained(&mut self, id: &str, findings: Option<Findings>, now: Timestamp, out: &mut Vec<Consequence>) {
        let (together, wait) = (self.settings.together, self.settings.wait);
        let Some(incident) = self.of.get_mut(id) else { return };
        let new = findings.is_some() && findings != incident.findings;
        if new {
            incident.findings = findings;
            out.push(Consequence::Changed(id.to_owned()));
        }
        if let Some(shown) = incident.shown {
            // What waited for it is said now; what came late is worth an update when it names a cause.
            let names = incident.findings.as_ref().is_some_and(|findings| !findings.cause.is_empty());
            if incident.asked.is_some() || names && !shown.explained && incident.quiet.is_none() {
                incident.asked = Some(now);
                sooner(incident, now);
            }
            return;
        }
        let later = &self.of[id];
        let earlier = self.of.values().filter(|other| other.id != id && other.environment == later.environment && other.quiet.is_none());
        let into = earlier
            .filter(|other| (other.opened, &other.id) < (later.opened, &later.id) && kin::same(later, other, together))
            .map(|other| other.id.clone())
            .next();
        if let Some(into) = into {
            return self.merge(id, &into, now, out);
        }
        if let Some(incident) = self.of.get_mut(id) {
            sooner(incident, (incident.opened + wait).max(now));
        }
        // Those that wait may be part of this one.
        let waiting: Vec<String> =
            self.of.values().filter(|other| other.shown.is_none() && other.id != id && other.quiet.is_none()).map(|other| other.id.clone()).collect();
        for other in waiting {
            let (this, that) = (&self.of[id], &self.of[&other]);
            if this.environment == that.environment && (this.opened, &this.id) < (that.opened, &that.id) && kin::same(that, this, together) {
                self.merge(&other, id, now, out);
            }
        }
    }

    /// `from`, of which nobody was told, becomes part of `into`.
    fn merge(&mut self, from: &str, into: &str, now: Timestamp, out: &mut Vec<Consequence>) {
        let Some(part) = self.of.remove(from) else { return };
        let Some(whole) = self.of.get_mut(into) else { return };
        let rule = part.alerts.first().map(|alert| alert.rule.clone()).unwrap_or_default();
        let untold = None;
        note(whole, Entry { at: now, occasion: Occasion::Merged { rule }, by: None, untold });
        whole.alerts.extend(part.alerts);
        later(whole, &self.settings, now);
        out.push(Consequence::Merged { from: from.to_owned(), into: into.to_owned() });
        out.push(Consequence::Changed(into.to_owned()));
    }

    fn silence(&mut self, silence: Silence, now: Timestamp, out: &mut Vec<Consequence>) {
        let (by, until) = (silence.by.clone(), silence.until);
        match &silence.of {
            Silenced::Incident(id) => {
                let id = id.clone();
                if let Some(incident) = self.of.get_mut(&id) {
                    incident.silenced = Some(silence);
                    self.tell(&id, Occasion::Silenced { until }, Some(by), now, out);
                }
            }
            Silenced::Alerts(_) => {
                self.silences.retain(|known| known.id != silence.id && holds(known, now));
                if self.silences.len() < SILENCES_MAX {
                    self.silences.push(silence);
                }
                out.push(Consequence::Silences);
                let silenced =
                    |this: &Self, incident: &Incident| this.silence_of(incident, now).is_some() && !incident.shown.is_none_or(|shown| shown.silenced);
                let hit: Vec<String> = self.of.values().filter(|incident| silenced(self, incident)).map(|incident| incident.id.clone()).collect();
                for id in hit {
                    self.tell(&id, Occasion::Silenced { until }, Some(by.clone()), now, out);
                }
            }
        }
    }

    fn unsilence(&mut self, id: &str, by: &str, now: Timestamp, out: &mut Vec<Consequence>) {
        let before = self.silences.len();
        self.silences.retain(|silence| silence.id != id);
        if self.silences.len() != before {
            out.push(Consequence::Silences);
        }
        let own = |incident: &Incident| incident.id == id || incident.silenced.as_ref().is_some_and(|silence| silence.id == id);
        for incident in self.of.values_mut().filter(|incident| own(incident)) {
            incident.silenced = None;
        }
        // Nobody was told of it so far, and it would wait for the end that the silence had.
        let hidden = |incident: &Incident| incident.quiet.is_none() && incident.is_hidden();
        let spoken: Vec<String> = self
            .of
            .values()
            .filter(|incident| incident.shown.map_or_else(|| hidden(incident), |shown| shown.silenced) || own(incident))
            .map(|incident| incident.id.clone())
            .collect();
        for id in spoken {
            if self.silence_of(&self.of[&id], now).is_none() {
                self.tell(&id, Occasion::Unsilenced, Some(by.to_owned()), now, out);
            }
        }
    }

    /// Says what is due, ends silences, and forgets what was quiet for long.
    fn pass(&mut self, now: Timestamp, out: &mut Vec<Consequence>) {
        if self.silences.iter().any(|silence| !holds(silence, now)) {
            self.silences.retain(|silence| holds(silence, now));
            out.push(Consequence::Silences);
        }
        let ids: Vec<String> = self.of.keys().cloned().collect();
        for id in ids {
            self.say(&id, now, out);
        }
        let over: Vec<String> = self
            .of
            .values()
            .filter(|incident| incident.due.is_none() && self.forgotten(incident).is_some_and(|at| at <= now))
            .map(|incident| incident.id.clone())
            .collect();
        for id in over {
            self.of.remove(&id);
        }
    }

    /// Says of one incident what is due.
    fn say(&mut self, id: &str, now: Timestamp, out: &mut Vec<Consequence>) {
        let settings = self.settings;
        let silence = self.silence_of(&self.of[id], now);
        let partly = self.of[id].firing().any(|alert| self.covering(alert, now).is_some());
        let all = self.of[id].alerts.iter().all(|alert| self.covering(alert, now).is_some());
        let Some(incident) = self.of.get_mut(id) else { return };
        if incident.silenced.as_ref().is_some_and(|silence| !holds(silence, now)) {
            incident.silenced = None;
            out.push(Consequence::Changed(id.to_owned()));
        }
        let over = incident.quiet.is_some();
        let loud = silence.is_none() && !over;
        if loud && incident.shown.is_some_and(|shown| shown.silenced) && !partly {
            return self.tell(id, Occasion::SilenceEnded, None, now, out);
        }
        // What a silence held back may have come to hold what it is not about.
        if loud && (incident.is_hidden() || incident.shown.is_some_and(|shown| shown.silenced)) {
            sooner(incident, incident.asked.filter(|_| incident.shown.is_some()).unwrap_or(now).max(now));
        }
        let Some(due) = incident.due.filter(|due| *due <= now) else { return };
        let refresh = incident.refresh(&settings, now);
        let firing = incident.firing().count() as u32;
        let explained = incident.findings.as_ref().is_some_and(|findings| !findings.cause.is_empty());
        if incident.remind && incident.acknowledged.is_some() && incident.shown.is_none_or(|shown| incident.severity() <= shown.severity) {
            incident.remind = false;
            note(incident, Entry { at: now, occasion: Occasion::Reminded, by: None, untold: Some(Untold::Acknowledged) });
        }
        let last =
            incident.alerts.iter().filter(|alert| alert.reason.ends()).max_by_key(|alert| alert.at).map_or(Reason::Resolved, |alert| alert.reason);
        let Some(shown) = incident.shown else {
            if silence.is_some() && !over {
                // Kept and shown on its page, and told when the silence ends.
                let new = !incident.is_hidden();
                if new {
                    note(incident, Entry { at: now, occasion: Occasion::Opened, by: None, untold: Some(Untold::Silenced) });
                }
                incident.due = silence.and_then(|silence| silence.until);
                if new || incident.due != Some(due) {
                    out.push(Consequence::Changed(id.to_owned()));
                }
                return;
            }
            if over && (all || silence.is_some()) {
                // Nobody heard of it, and nobody needs to hear of its end.
                let occasion = Occasion::Resolved { reason: last };
                note(incident, Entry { at: now, occasion, by: None, untold: Some(Untold::Silenced) });
                incident.due = None;
                return out.push(Consequence::Changed(id.to_owned()));
            }
            return match over {
                // It came and went before anybody was told: one message, which says so.
                true => self.tell(id, Occasion::Resolved { reason: last }, None, now, out),
                false => self.tell(id, Occasion::Opened, None, now, out),
            };
        };
        let occasion = match () {
            () if over && (shown.firing > 0 || !incident.untold().is_empty()) => Some(Occasion::Resolved { reason: last }),
            () if over => None,
            () if shown.firing == 0 => Some(Occasion::Returned { times: incident.returned }),
            () if incident.severity() > shown.severity => Some(Occasion::Worse { severity: incident.severity() }),
            () if incident.untold().iter().any(|alert| !alert.reason.ends()) => {
                let new = || incident.untold().iter().filter(|alert| !alert.reason.ends());
                Some(Occasion::Grew { more: new().count() as u32, places: new().take(NAMED_MAX).map(Place::of).collect() })
            }
            () if incident.remind => Some(Occasion::Reminded),
            () if explained && !shown.explained => Some(Occasion::Explained),
            () if firing < shown.firing => Some(Occasion::Eased { firing }),
            () if refresh <= now || shown.silenced && loud => Some(Occasion::Updated),
            () => None,
        };
        let Some(occasion) = occasion else {
            incident.due = (!over).then_some(refresh);
            return out.push(Consequence::Changed(id.to_owned()));
        };
        // Whatever is said is said with what is known by now.
        let until = *incident.asked.get_or_insert_with(|| {
            out.push(Consequence::Explain(id.to_owned()));
            now + settings.patience
        });
        if now < until {
            incident.due = Some(until);
            return out.push(Consequence::Changed(id.to_owned()));
        }
        self.tell(id, occasion, None, now, out);
    }

    /// Brings the message up to date and, where it is worth it, adds a line to its thread.
    fn tell(&mut self, id: &str, occasion: Occasion, by: Option<String>, now: Timestamp, out: &mut Vec<Consequence>) {
        let settings = self.settings;
        let silence = self.silence_of(&self.of[id], now);
        let Some(incident) = self.of.get_mut(id) else { return };
        let said_by_machine = by.is_none();
        let first = incident.shown.is_none();
        let end = matches!(occasion, Occasion::Resolved { .. });
        // What a person did is always said; what they asked not to hear of is not, but for the end of what they heard of.
        let untold = (silence.is_some() && !end && (said_by_machine || first)).then_some(Untold::Silenced);
        if occasion != Occasion::Updated {
            note(incident, Entry { at: now, occasion: occasion.clone(), by: by.clone(), untold });
        }
        if first && untold.is_some() {
            incident.due = silence.and_then(|silence| silence.until);
            return out.push(Consequence::Changed(id.to_owned()));
        }
        incident.told_ended = incident.alerts.iter().filter(|alert| alert.reason.ends()).map(|alert| alert.alert_id.clone()).collect();
        let aloud = !first && untold.is_none() && occasion != Occasion::Updated;
        let firing = incident.firing().count() as u32;
        incident.shown = Some(Shown {
            at: now,
            severity: incident.severity(),
            firing,
            alerts: incident.alerts.len() as u32,
            explained: incident.findings.as_ref().is_some_and(|findings| !findings.cause.is_empty()),
            silenced: silence.is_some(),
        });
        // What a person does early shows all there is, and nothing waits any more; but for an end that must hold first.
        if firing > 0 || end {
            incident.due = (firing > 0).then(|| incident.refresh(&settings, now));
            incident.asked = None;
            incident.remind = false;
            if end {
                // What was silenced until it is resolved is heard of again when it comes back.
                incident.silenced = incident.silenced.take().filter(|silence| silence.until.is_some());
            }
        }
        incident.told += 1;
        let telling_id = format!("{id}-{}", incident.told);
        let Some(seen) = incident.seen(silence) else { return };
        out.push(Consequence::Changed(id.to_owned()));
        out.push(Consequence::Tell(Box::new(Telling { id: telling_id, at: now, occasion, by, aloud, incident: seen })));
    }
}

/// What only grows is told after the interval.
fn later(incident: &mut Incident, settings: &Settings, now: Timestamp) {
    if let Some(shown) = incident.shown {
        sooner(incident, (shown.at.min(now) + settings.interval).max(now + settings.wait));
    }
}

fn sooner(incident: &mut Incident, at: Timestamp) {
    incident.due = Some(incident.due.map_or(at, |due| due.min(at)));
}

impl Incident {
    /// When its message is brought up to date though nothing happened.
    fn refresh(&self, settings: &Settings, now: Timestamp) -> Timestamp {
        let (least, most) = settings.refresh;
        let eighth = Span::from_millis(now.since(self.opened).millis() / 8);
        self.shown.map_or(now, |shown| shown.at.min(now)) + eighth.clamp(least, most)
    }

    /// Nobody was told of it, because of a silence.
    fn is_hidden(&self) -> bool {
        self.shown.is_none() && self.history.iter().any(|entry| entry.untold == Some(Untold::Silenced))
    }

    /// Takes in an alert that fires. What ended in the same place is in the history, and counts no more: who comes and goes is one of them.
    fn join(&mut self, alert: Notification) {
        let same = |known: &Notification| known.reason.ends() && known.rule == alert.rule && known.group == alert.group;
        if let Some(at) = self.alerts.iter().position(same) {
            self.before = Some(self.began());
            if let Some(shown) = self.shown.as_mut().filter(|shown| at < shown.alerts as usize) {
                if !self.told_ended.contains(&self.alerts[at].alert_id) {
                    // Nobody was told that it ended: to people it goes on.
                    self.alerts[at] = alert;
                    return;
                }
                shown.alerts -= 1;
            }
            self.alerts.remove(at);
        }
        self.alerts.push(alert);
    }
}

fn note(incident: &mut Incident, entry: Entry) {
    if incident.history.len() >= HISTORY_MAX {
        // How it began stays.
        incident.history.remove(HISTORY_MAX / 5);
    }
    incident.history.push(entry);
}

fn holds(silence: &Silence, now: Timestamp) -> bool {
    silence.until.is_none_or(|until| now < until)
}
