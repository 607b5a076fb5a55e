//! What people are told of incidents, and what not: stories by the clock, and a thousand random lives that keep their promises.

use model::plan::Severity;
use model::{Span, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use streamgauge_machine::incident::{Consequence, Ends, Findings, Happening, Incidents, Occasion, Settings, Silence, Silenced, Telling, Untold};
use streamgauge_machine::{Notification, Reason};

fn at(secs: u64) -> Timestamp {
    Timestamp::EPOCH + Span::from_secs(1_000_000 + secs)
}

fn alert(id: &str, rule: &str, group: &[(&str, &str)], began: u64) -> Notification {
    Notification {
        id: format!("{id}-fired"),
        reason: Reason::Fired,
        at: at(began + 10),
        alert_id: id.to_owned(),
        rule: rule.to_owned(),
        severity: Severity::Warning,
        environment: "production".to_owned(),
        group: group.iter().map(|(key, label)| ((*key).to_owned(), (*label).to_owned())).collect(),
        summary: "It is more than usual.".to_owned(),
        observed: Vec::new(),
        began: at(began),
        fired: at(began + 10),
        worst: None,
        examples: Vec::new(),
        labels: Vec::new(),
        actions: Vec::new(),
        owner: None,
        hit: Vec::new(),
        channel: None,
        runbook: None,
    }
}

/// Incidents with what they said.
#[derive(Default)]
struct Stage {
    incidents: Incidents,
    told: Vec<Telling>,
    merged: Vec<(String, String)>,
    asked: Vec<String>,
}

impl Stage {
    fn happen(&mut self, happening: Happening, now: u64) {
        let (mut out, mut changed) = (Vec::new(), Vec::new());
        self.incidents.apply(happening, at(now), &mut out);
        for consequence in out {
            match consequence {
                Consequence::Tell(telling) => self.told.push(*telling),
                Consequence::Merged { from, into } => self.merged.push((from, into)),
                Consequence::Explain(id) => self.asked.push(id),
                Consequence::Changed(id) => changed.push(id),
                Consequence::Silences => {}
            }
        }
        let kept = |id: &String| self.incidents.get(id).is_some() || self.merged.iter().any(|(from, _)| from == id);
        assert!(changed.iter().all(kept), "what changed can be kept: {changed:?}");
        assert!(self.incidents.next_due().is_none_or(|due| due > at(now)), "what is due at {now} is done: {:?}", self.incidents.next_due());
    }

    fn fires(&mut self, id: &str, rule: &str, group: &[(&str, &str)], now: u64) {
        self.happen(Happening::Alert(Box::new(alert(id, rule, group, now))), now);
    }

    fn ends(&mut self, id: &str, now: u64) {
        let ended = self
            .incidents
            .with_alert(id)
            .and_then(|incident| incident.alerts.iter().find(|alert| alert.alert_id == id))
            .map(|known| known.ended(Reason::Resolved, at(now)));
        self.happen(Happening::Alert(Box::new(ended.expect("it fired"))), now);
    }

    /// Answers every question, with the labels of a cause.
    fn explain(&mut self, common: &[(&str, &str)], now: u64) {
        for incident in std::mem::take(&mut self.asked) {
            let cause = common.iter().map(|(key, label)| format!("{key} {label}")).collect();
            let common = common.iter().map(|(key, label)| ((*key).to_owned(), (*label).to_owned())).collect();
            self.happen(Happening::Explained { incident, findings: Some(Box::new(Findings { cause, common, ..Findings::default() })) }, now);
        }
    }

    /// Lets time pass second by second, answering at once.
    fn pass(&mut self, from: u64, to: u64) {
        for now in from..=to {
            self.happen(Happening::Passed, now);
            self.explain(&[], now);
        }
    }

    fn said(&self) -> Vec<&str> {
        self.told.iter().map(|telling| telling.occasion.name()).collect()
    }
}

const OPENAI: [(&str, &str); 2] = [("stage", "extraction"), ("provider", "openai")];

#[test]
fn an_incident_is_told_once_grows_is_answered_and_ends_in_the_same_message() {
    let mut stage = Stage::default();
    stage.fires("a", "errors", &OPENAI, 0);
    assert!(stage.told.is_empty(), "what fires with the same tick comes with it");
    stage.explain(&[], 0);
    stage.pass(1, 2);
    assert_eq!(stage.said(), ["opened"]);
    stage.fires("b", "errors", &[("stage", "synthesis"), ("provider", "openai")], 5);
    stage.fires("c", "errors", &[("stage", "synthesis"), ("provider", "google")], 6);
    stage.pass(6, 60);
    assert_eq!(stage.said(), ["opened", "grew"]);
    assert!(matches!(&stage.told[1].occasion, Occasion::Grew { more: 2, places } if places.len() == 2), "{:?}", stage.told[1].occasion);
    let incident = stage.told[0].incident.id.clone();
    stage.happen(Happening::Acknowledged { incident: incident.clone(), by: "ana".to_owned() }, 61);
    stage.happen(Happening::Acknowledged { incident: incident.clone(), by: "bo".to_owned() }, 62);
    for id in ["a", "b", "c"] {
        stage.ends(id, 70);
    }
    stage.pass(70, 80);
    assert_eq!(stage.said().into_iter().filter(|said| *said != "updated").collect::<Vec<_>>(), ["opened", "grew", "acknowledged", "resolved"]);
    let ids: BTreeSet<_> = stage.told.iter().map(|telling| &telling.incident.id).collect();
    assert_eq!(ids.len(), 1);
    let end = stage.told.last().expect("it ended");
    assert_eq!(
        (end.incident.firing, end.incident.alerts, end.incident.acknowledged.as_ref().map(|known| known.by.as_str())),
        (false, 3, Some("ana"))
    );
    assert_eq!(end.incident.lasted(), Some(Span::from_secs(70)));
}

#[test]
fn what_one_cause_explains_is_one_incident_whatever_its_rules_are_grouped_by() {
    let mut stage = Stage::default();
    stage.fires("a", "errors", &[("provider", "openai")], 0);
    stage.fires("b", "latency", &[("stage", "synthesis")], 0);
    stage.fires("c", "fallbacks", &[("provider", "openai"), ("model", "gpt-4o")], 1);
    stage.fires("far", "volume", &[("provider", "openai")], 400);
    assert!(stage.incidents.with_alert("c").is_some_and(|incident| incident.alerts.len() == 2), "began together and share a provider");
    assert!(stage.incidents.with_alert("far").is_some_and(|incident| incident.alerts.len() == 1), "a shared provider alone is chance");
    let mut stage = Stage::default();
    stage.fires("a", "errors", &[("provider", "openai")], 0);
    stage.fires("b", "latency", &[("stage", "synthesis")], 0);
    assert_eq!(stage.incidents.all().count(), 2, "nothing in common yet");
    stage.explain(&[("provider", "openai")], 2);
    assert_eq!(stage.merged, [("ib".to_owned(), "ia".to_owned())]);
    stage.pass(2, 60);
    let opened = stage.told.iter().filter(|telling| telling.occasion == Occasion::Opened).count();
    assert_eq!(opened, 1, "{:?}", stage.said());
    assert_eq!(stage.told.last().map(|telling| telling.incident.rules.join(" ")).as_deref(), Some("errors latency"));
}

/// A few bad calls shortly before draw the beginning of one of them back: what fired together by one cause is one incident all the same, and what only
/// fired together is not.
#[test]
fn what_one_cause_makes_fire_together_is_one_incident_whenever_each_began() {
    for (cause, incidents) in [(&OPENAI[..], 1), (&[("provider", "google")], 2)] {
        let mut stage = Stage::default();
        stage.fires("a", "errors", &[("stage", "synthesis")], 1000);
        stage.explain(cause, 1001);
        let mut early = alert("b", "slow", &OPENAI, 1003);
        early.began = at(600);
        stage.happen(Happening::Alert(Box::new(early)), 1003);
        stage.explain(&[], 1004);
        stage.pass(1004, 1040);
        assert_eq!(stage.incidents.all().count(), incidents, "{cause:?}");
    }
}

#[test]
fn one_beginning_far_before_those_of_many_alerts_does_not_date_the_incident() {
    let mut stage = Stage::default();
    for number in 0..20 {
        let mut alert = alert(&format!("a{number}"), "errors", &[("model", &format!("m{number}"))], 1000);
        if number == 7 {
            alert.began = at(400);
        }
        stage.happen(Happening::Alert(Box::new(alert)), 1010);
    }
    stage.pass(1010, 1040);
    assert_eq!(stage.told.last().map(|telling| telling.incident.began), Some(at(1000)));
}

#[test]
fn a_silence_keeps_people_in_peace_and_nothing_is_lost_by_it() {
    let mut stage = Stage::default();
    let silence =
        |id: &str, of: Silenced, until: Option<u64>| Silence { id: id.to_owned(), of, by: "ana".to_owned(), at: at(0), until: until.map(at) };
    let rule = vec![("rule".to_owned(), "errors".to_owned()), ("stage".to_owned(), "extraction".to_owned())];
    stage.happen(Happening::Silenced { silence: silence("s", Silenced::Alerts(rule), Some(600)) }, 0);
    stage.fires("a", "errors", &OPENAI, 10);
    stage.pass(11, 599);
    assert!(stage.told.is_empty(), "{:?}", stage.said());
    let incident = stage.incidents.with_alert("a").expect("it is kept");
    assert_eq!(incident.history[0].untold, Some(Untold::Silenced));
    stage.pass(600, 620);
    assert_eq!(stage.said(), ["opened"], "told when the silence ends, while it fires still");
    let id = stage.told[0].incident.id.clone();
    stage.happen(Happening::Silenced { silence: silence("t", Silenced::Incident(id.clone()), Some(1000)) }, 621);
    stage.fires("b", "errors", &[("stage", "synthesis")], 630);
    stage.pass(630, 999);
    assert!(stage.told.iter().skip(2).all(|telling| !telling.aloud), "{:?}", stage.said());
    assert!(stage.told.iter().any(|telling| telling.incident.alerts == 2), "its message is brought up to date all the same");
    stage.pass(1000, 1010);
    assert_eq!(stage.said().last(), Some(&"silence_ended"));
    stage.ends("a", 1020);
    stage.ends("b", 1020);
    stage.pass(1020, 1030);
    assert!(matches!(stage.told.last().map(|telling| (&telling.occasion, telling.aloud)), Some((Occasion::Resolved { .. }, true))));
}

#[test]
fn how_an_incident_ended_is_said_only_where_all_of_it_ended_so() {
    let mut stage = Stage::default();
    stage.fires("a", "errors", &OPENAI, 0);
    stage.fires("b", "errors", &OPENAI, 1);
    stage.pass(1, 30);
    let known = stage.incidents.with_alert("a").and_then(|incident| incident.alerts.first()).cloned().expect("it fired");
    stage.happen(Happening::Alert(Box::new(known.ended(Reason::Adopted, at(40)))), 40);
    let seen = |stage: &Stage| stage.incidents.with_alert("a").and_then(|incident| incident.seen(None)).expect("it is known");
    assert_eq!((seen(&stage).end(), seen(&stage).ends), (None, vec![Ends { reason: Reason::Adopted, alerts: 1 }]), "one alert fires still");
    stage.ends("b", 50);
    let ends = [Reason::Adopted, Reason::Resolved].map(|reason| Ends { reason, alerts: 1 });
    assert_eq!((seen(&stage).end(), seen(&stage).ends), (None, ends.to_vec()));

    let mut alone = Stage::default();
    alone.fires("a", "errors", &OPENAI, 0);
    alone.ends("a", 40);
    assert_eq!(seen(&alone).end(), Some(Reason::Resolved));
}

#[test]
fn reminders_stop_when_somebody_has_it_in_hand() {
    let mut stage = Stage::default();
    stage.fires("a", "errors", &OPENAI, 0);
    stage.pass(0, 5);
    let again = |now: u64| {
        Happening::Alert(Box::new(Notification {
            id: format!("a-repeated-{now}"),
            reason: Reason::Repeated,
            at: at(now),
            ..alert("a", "errors", &OPENAI, 0)
        }))
    };
    stage.happen(again(100), 100);
    stage.pass(100, 105);
    assert_eq!(stage.said().last(), Some(&"reminded"));
    stage.happen(Happening::Acknowledged { incident: "ia".to_owned(), by: "ana".to_owned() }, 110);
    stage.happen(again(200), 200);
    stage.pass(200, 210);
    assert_eq!(stage.said().iter().filter(|said| **said == "reminded").count(), 1);
    let untold = stage.incidents.get("ia").map(|incident| incident.history.iter().filter_map(|entry| entry.untold).collect::<Vec<_>>());
    assert_eq!(untold, Some(vec![Untold::Acknowledged]), "why it was not said is kept");
}

#[test]
fn what_comes_and_goes_is_one_incident_whose_end_is_told_when_it_holds() {
    let mut stage = Stage::default();
    for round in 0..6 {
        let now = round * 100;
        stage.fires(&format!("a{round}"), "errors", &OPENAI, now);
        stage.pass(now, now + 30);
        stage.ends(&format!("a{round}"), now + 40);
        stage.pass(now + 40, now + 99);
    }
    stage.pass(600, 2000);
    assert_eq!(stage.incidents.all().count(), 0, "it is forgotten when it cannot come back");
    let ids: BTreeSet<_> = stage.told.iter().map(|telling| &telling.incident.id).collect();
    assert_eq!(ids.len(), 1, "one message");
    let aloud: Vec<_> = stage.told.iter().filter(|telling| telling.aloud).map(|telling| telling.occasion.name()).collect();
    assert_eq!(aloud, ["resolved", "returned", "resolved", "returned", "resolved"], "six ends and five returns are five lines");
}

fn silence(id: &str, of: &[(&str, &str)], until: u64) -> Silence {
    let of = Silenced::Alerts(of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    Silence { id: id.to_owned(), of, by: "ana".to_owned(), at: at(0), until: Some(at(until)) }
}

/// What was told as firing, by alert's rule and stage.
fn named(telling: &Telling) -> Vec<String> {
    telling.incident.places.iter().filter(|place| place.firing).map(|place| format!("{} {}", place.rule, place.group[0].1)).collect()
}

#[test]
fn a_silence_holds_back_what_it_is_about_and_nothing_that_joins_it() {
    let extraction = [("rule", "errors"), ("stage", "extraction")];
    // Nobody heard of the first; the second is heard of at once, whatever silences the first.
    let mut stage = Stage::default();
    stage.happen(Happening::Silenced { silence: silence("s", &extraction, 14_400) }, 0);
    stage.fires("a", "errors", &OPENAI, 10);
    stage.pass(10, 30);
    assert!(stage.told.is_empty());
    stage.fires("b", "errors", &[("stage", "synthesis")], 100);
    stage.pass(100, 130);
    assert_eq!(stage.said(), ["opened"]);
    assert!(named(&stage.told[0]).contains(&"errors synthesis".to_owned()), "{:?}", stage.told[0].incident.places);
    // Also when it ends before the message is due.
    let mut stage = Stage::default();
    stage.happen(Happening::Silenced { silence: silence("s", &extraction, 14_400) }, 0);
    stage.fires("a", "errors", &OPENAI, 10);
    stage.pass(10, 30);
    stage.fires("b", "errors", &[("stage", "synthesis")], 100);
    stage.ends("b", 100);
    stage.ends("a", 101);
    stage.pass(101, 200);
    assert_eq!(stage.said().first(), Some(&"opened"), "{:?}", stage.said());
    // It was heard of, then silenced; what joins is told as growth, and nobody says that the silence ended, for it holds.
    let mut stage = Stage::default();
    stage.fires("a", "errors", &OPENAI, 10);
    stage.pass(10, 30);
    stage.happen(Happening::Silenced { silence: silence("s", &extraction, 14_400) }, 40);
    stage.fires("b", "errors", &[("stage", "synthesis")], 100);
    stage.pass(100, 140);
    assert_eq!(stage.said(), ["opened", "silenced", "grew"]);
    assert!(stage.told[2].aloud && stage.told[2].incident.silenced.is_none());
}

#[test]
fn what_was_silenced_and_ends_before_anybody_could_be_told_is_told_to_nobody() {
    let mut stage = Stage::default();
    stage.happen(Happening::Silenced { silence: silence("s", &[("rule", "errors")], 600) }, 0);
    stage.fires("a", "errors", &OPENAI, 10);
    stage.ends("a", 10);
    stage.pass(10, 700);
    assert!(stage.told.is_empty(), "{:?}", stage.said());
}

#[test]
fn what_ends_while_something_else_begins_is_told_as_both() {
    let mut stage = Stage::default();
    stage.fires("a", "errors", &OPENAI, 0);
    stage.pass(0, 10);
    stage.ends("a", 20);
    stage.fires("b", "errors", &[("stage", "synthesis")], 20);
    stage.pass(20, 60);
    assert_eq!(stage.said(), ["opened", "grew"]);
    assert_eq!(named(&stage.told[1]), ["errors synthesis"]);
    assert!(matches!(&stage.told[1].occasion, Occasion::Grew { more: 1, places } if places[0].group[0].1 == "synthesis"));
    // What came back and ended before that was told: its second end is told.
    let mut stage = Stage::default();
    stage.fires("a", "errors", &OPENAI, 0);
    stage.pass(0, 10);
    stage.ends("a", 20);
    stage.pass(20, 30);
    stage.fires("b", "errors", &[("stage", "synthesis")], 40);
    stage.ends("b", 41);
    stage.pass(41, 60);
    let aloud: Vec<_> = stage.told.iter().filter(|telling| telling.aloud).map(|telling| telling.occasion.name()).collect();
    assert_eq!(aloud, ["resolved", "resolved"]);
    assert_eq!(stage.told.last().map(|telling| telling.incident.alerts), Some(2));
}

#[test]
fn who_comes_and_goes_in_one_place_is_one_of_its_alerts_and_it_began_when_the_first_did() {
    let mut stage = Stage::default();
    stage.fires("long", "errors", &[("stage", "synthesis")], 0);
    for round in 0..50 {
        let now = 100 + round * 100;
        stage.fires(&format!("a{round}"), "errors", &OPENAI, now);
        stage.pass(now, now + 50);
        stage.ends(&format!("a{round}"), now + 60);
        stage.pass(now + 60, now + 99);
    }
    let incident = stage.incidents.with_alert("long").expect("it fires");
    assert_eq!((incident.alerts.len(), incident.began()), (2, at(0)));
    let said = stage.told.iter().filter(|telling| matches!(telling.occasion, Occasion::Grew { .. })).count();
    assert!(said >= 40, "each time it came it was told: {said}");
    stage.ends("long", 5_200);
    stage.pass(5_200, 5_600);
    let end = stage.told.last().expect("it is told");
    assert_eq!((end.incident.alerts, end.incident.began, end.incident.firing), (2, at(0), false));
}

/// Of one the end was told, of the other not yet: only what people saw end is said to begin again.
#[test]
fn what_comes_again_is_told_where_its_end_was_told() {
    let other = [("stage", "synthesis")];
    for again in ["a", "b"] {
        let mut stage = Stage::default();
        stage.fires("a", "errors", &OPENAI, 0);
        stage.fires("b", "errors", &other, 0);
        stage.fires("long", "errors", &[("stage", "extraction")], 0);
        stage.pass(0, 10);
        stage.ends("a", 20);
        stage.pass(20, 60);
        assert_eq!(stage.said(), ["opened", "eased"]);
        stage.ends("b", 100);
        let group: &[(&str, &str)] = if again == "a" { &OPENAI } else { &other };
        stage.fires("new", "errors", group, 100);
        stage.pass(100, 140);
        let expected: &[&str] = if again == "a" { &["opened", "eased", "grew"] } else { &["opened", "eased", "updated"] };
        assert_eq!(stage.said(), expected, "{again} came again");
    }
}

/// The engine was away while the last of it ended, and for longer than it could come back: the end is still told, and kept.
#[test]
fn an_end_that_nobody_could_tell_in_time_is_told_late() {
    let mut stage = Stage::default();
    stage.fires("a", "errors", &OPENAI, 0);
    stage.pass(0, 10);
    stage.ends("a", 20);
    stage.happen(Happening::Passed, 20 + 3600);
    stage.explain(&[], 20 + 3600);
    stage.happen(Happening::Passed, 20 + 3605);
    assert_eq!(stage.said().last(), Some(&"resolved"), "{:?}", stage.said());
    stage.pass(20 + 3606, 20 + 3700);
    assert_eq!(stage.incidents.all().count(), 0, "and then it is forgotten");
}

/// Whatever happens in whatever order: every alert is part of one incident, what fires is told or silenced, ends are told, and no two tellings are one.
#[test]
fn a_thousand_random_lives_keep_their_promises() {
    let seed = 20_261_123;
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for life in 0..1000 {
        let mut stage = Stage { incidents: Incidents::new(Settings::default(), Vec::new(), Vec::new()), ..Stage::default() };
        let (mut firing, mut all) = (BTreeMap::new(), Vec::new());
        let mut now = 0;
        for step in 0..rng.usize(5..60) {
            now += rng.u64(0..40);
            let known: Vec<String> = stage.incidents.all().map(|incident| incident.id.clone()).collect();
            let one = || known.first().cloned().unwrap_or_else(|| "none".to_owned());
            match rng.u8(0..12) {
                0..=4 => {
                    let id = format!("{life}x{step}");
                    let group = [("stage", ["a", "b"][rng.usize(..2)]), ("provider", ["p", "q"][rng.usize(..2)])];
                    stage.fires(&id, ["r1", "r2", "r3"][rng.usize(..3)], &group[..rng.usize(..3)], now);
                    firing.insert(id.clone(), ());
                    all.push(id);
                }
                5..=6 => {
                    if let Some((id, ())) = firing.pop_first() {
                        stage.ends(&id, now);
                    }
                }
                7 => stage.happen(Happening::Acknowledged { incident: one(), by: "ana".to_owned() }, now),
                8 => {
                    let of = if rng.bool() { Silenced::Incident(one()) } else { Silenced::Alerts(vec![("stage".to_owned(), "a".to_owned())]) };
                    let silence = Silence { id: format!("s{step}"), of, by: "ana".to_owned(), at: at(now), until: Some(at(now + rng.u64(1..300))) };
                    stage.happen(Happening::Silenced { silence }, now);
                }
                9 => stage.happen(Happening::Unsilenced { id: one(), by: "ana".to_owned() }, now),
                10 => stage.explain(if rng.bool() { &[("provider", "p")] } else { &[] }, now),
                _ => stage.pass(now, now + 3),
            }
        }
        let homes: Vec<usize> =
            all.iter().map(|id| stage.incidents.all().filter(|incident| incident.alerts.iter().any(|alert| alert.alert_id == *id)).count()).collect();
        assert!(homes.iter().all(|homes| *homes <= 1), "an alert is part of two incidents in life {life}");
        for id in firing.keys() {
            assert!(
                stage.incidents.with_alert(id).is_some_and(|incident| incident.quiet.is_none()),
                "{id} fires and is in no open incident in life {life}"
            );
        }
        // Long enough for every silence to end.
        stage.pass(now, now + 700);
        // What fires now has been told of by itself: no silence holds any more.
        let shown: BTreeSet<(String, Vec<(String, String)>)> = stage
            .told
            .iter()
            .flat_map(|telling| &telling.incident.places)
            .filter(|place| place.firing)
            .map(|place| (place.rule.clone(), place.group.clone()))
            .collect();
        for id in firing.keys() {
            let incident = stage.incidents.with_alert(id).expect("it fires");
            let alert = incident.alerts.iter().find(|alert| alert.alert_id == *id).expect("it is part of it");
            let key = (alert.rule.clone(), alert.group.clone());
            let held = incident.history.iter().any(|entry| entry.untold == Some(Untold::Silenced));
            assert!(
                shown.contains(&key) || incident.alerts.len() > 40,
                "{id} of {key:?} fires, and nobody was told (held back: {held}) in life {life}"
            );
        }
        let told = |stage: &Stage, id: &str| stage.told.iter().any(|telling| telling.incident.id == id);
        for incident in stage.incidents.all() {
            let silenced =
                incident.history.iter().any(|entry| entry.untold == Some(Untold::Silenced) && matches!(entry.occasion, Occasion::Resolved { .. }));
            assert!(told(&stage, &incident.id) || silenced, "{} was never told in life {life}", incident.id);
        }
        for id in std::mem::take(&mut firing).into_keys() {
            stage.ends(&id, now + 701);
        }
        stage.pass(now + 701, now + 2400);
        let mut last: BTreeMap<&str, &Telling> = BTreeMap::new();
        for telling in &stage.told {
            last.insert(&telling.incident.id, telling);
        }
        for (id, telling) in last {
            assert!(!telling.incident.firing, "{id} ended, and the last that was said is {:?} in life {life}", telling.occasion);
        }
        let ids: BTreeSet<_> = stage.told.iter().map(|telling| &telling.id).collect();
        assert_eq!(ids.len(), stage.told.len(), "two tellings have one id in life {life}");
    }
}
