//! What must be true of a run, worked out from the world's truth and not from the code under test.

use crate::harness::{Beside, Disk};
use crate::world::World;
use model::plan::{TICK, Windows};
use model::{Labels, Plan, Span, Timestamp};
use std::collections::BTreeMap;
use streamgauge_machine::{Machine, Notification, OTHER, Reason, State};

type Counts = BTreeMap<(String, Labels), u64>;

/// What the truth says.
#[derive(Debug, Default)]
struct Tally {
    counts: Counts,
    received: u64,
    malformed: u64,
    missed: u64,
    future: u64,
    late: u64,
    in_window: u64,
}

/// The lateness rule, told once more: a call is late when its slice had been sealed before its tick opened.
#[derive(Debug)]
struct Clock {
    events: i64,
    clock: i64,
    stamp: i64,
}

/// What a run had in it, for the tests that want worlds to be worth their time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub calls: u64,
    pub fired: u64,
    pub ended: u64,
    pub late: u64,
    pub future: u64,
    pub missed: u64,
    pub malformed: u64,
    pub overflowed: u64,
    pub check_failures: u64,
    pub elapsed: u64,
}

pub fn check(world: &World, plan: &Plan, machine: &Machine, disk: &Disk) -> Result<Seen, String> {
    let truth = tally(world, plan.windows, &disk.journal);
    let ledger = machine.ledger();
    let ours = [ledger.received, ledger.malformed(), ledger.missed, ledger.future, ledger.late, ledger.in_window, ledger.joined];
    let theirs = [truth.received, truth.malformed, truth.missed, truth.future, truth.late, truth.in_window, 0];
    if ours != theirs || !ledger.balances() {
        return Err(format!("received, malformed, missed, future, late, in_window, joined are {ours:?}, in truth {theirs:?}"));
    }
    if disk.dead.len() as u64 != truth.malformed {
        return Err(format!("{} dead letters of {} malformed logs", disk.dead.len(), truth.malformed));
    }
    counts(&truth.counts, &counted(plan, machine, disk), ledger.overflowed)?;
    edges(machine, disk)?;
    Ok(Seen {
        calls: ledger.counted,
        fired: disk.outbox.values().filter(|told| told.reason == Reason::Fired).count() as u64,
        ended: disk.outbox.values().filter(|told| told.reason.ends()).count() as u64,
        late: ledger.late,
        future: ledger.future,
        missed: ledger.missed,
        malformed: ledger.malformed(),
        overflowed: ledger.overflowed,
        check_failures: ledger.check_failures.values().sum(),
        elapsed: disk.journal.len() as u64,
    })
}

/// A run and the one without crashes over the same stream and journal end the same.
pub fn same(machine: &Machine, disk: &Disk, straight: (&Machine, &Disk)) -> Result<(), String> {
    let (other, expected) = straight;
    for (id, told) in &expected.outbox {
        match disk.outbox.get(id) {
            None => return Err(format!("lost: {told:#?}")),
            Some(other) if other != told => return Err(format!("told otherwise:\n{other:#?}\nwithout crashes:\n{told:#?}")),
            Some(_) => {}
        }
    }
    if let Some(told) = disk.outbox.values().find(|told| !expected.outbox.contains_key(&told.id)) {
        return Err(format!("told only with crashes: {told:#?}"));
    }
    if machine.ledger() != other.ledger() {
        return Err(format!("ledger {:?}\nwithout crashes {:?}", machine.ledger(), other.ledger()));
    }
    if disk.blocks != expected.blocks {
        return Err("the sealed slices differ from those without crashes".to_owned());
    }
    if disk.dead != expected.dead {
        return Err("the dead letters differ from those without crashes".to_owned());
    }
    if machine.snapshot() != other.snapshot() {
        return Err("the state differs from that without crashes".to_owned());
    }
    Ok(())
}

fn tally(world: &World, windows: Windows, journal: &[(u64, Beside)]) -> Tally {
    let mut tally = Tally::default();
    let mut clocks: BTreeMap<&str, Clock> = BTreeMap::new();
    let mut journal = journal.iter().peekable();
    let mut position = 0;
    for entry in &world.entries {
        while let Some((_, beside)) = journal.next_if(|(at, _)| *at < entry.sequence) {
            let Beside::Elapsed(now) = beside else { continue };
            clocks.values_mut().for_each(|clock| clock.elapse(*now));
        }
        tally.received += 1;
        tally.missed += entry.sequence - position - 1;
        position = entry.sequence;
        let Some(truth) = &entry.truth else {
            tally.malformed += 1;
            continue;
        };
        let (said, stamp) = (truth.time.millis(), entry.stamp.millis());
        let time = said.min(stamp + 5_000);
        tally.future += u64::from(time < said);
        if !clocks.contains_key(truth.environment.as_str()) && clocks.len() == 64 {
            tally.malformed += 1;
            continue;
        }
        let tick = |time: i64| time.div_euclid(TICK.millis() as i64) * TICK.millis() as i64;
        let clock = clocks.entry(&truth.environment).or_insert(Clock { events: time, clock: time, stamp: tick(time).max(stamp) });
        clock.events = clock.events.max(time);
        clock.clock = clock.clock.max(time);
        clock.stamp = clock.stamp.max(stamp);
        let slice = |time: i64| time.div_euclid(windows.slice.millis() as i64) * windows.slice.millis() as i64;
        if slice(time) < slice(tick(clock.clock) - windows.lateness.millis() as i64) {
            tally.late += 1;
        } else {
            tally.in_window += 1;
            *tally.counts.entry((truth.environment.clone(), truth.labels.clone())).or_default() += 1;
        }
    }
    tally
}

impl Clock {
    fn elapse(&mut self, now: Timestamp) {
        let pause = now.millis() - self.stamp - 5_000;
        self.clock = self.clock.max(self.events + pause.max(0));
    }
}

/// Calls in sealed and open slices, by environment and group.
fn counted(plan: &Plan, machine: &Machine, disk: &Disk) -> Counts {
    let mut counts = Counts::new();
    let names: Vec<_> = machine.clocks().map(|(name, _)| name.to_owned()).collect();
    let open = names.iter().filter_map(|name| machine.open(name, Timestamp::EPOCH)).flat_map(|open| open.blocks);
    for block in disk.blocks.values().cloned().chain(open) {
        for grouping in block.groupings.into_iter().filter(|grouping| grouping.identity == plan.groupings[0].identity()) {
            for (labels, cell) in grouping.cells {
                *counts.entry((block.environment.clone(), labels)).or_default() += cell.calls;
            }
        }
    }
    counts
}

/// Every in-window call is counted once: under its own group, or under `(other)` and as overflowed.
fn counts(truth: &Counts, counted: &Counts, overflowed: u64) -> Result<(), String> {
    let mut elsewhere: BTreeMap<&str, u64> = BTreeMap::new();
    for ((environment, labels), calls) in truth {
        let ours = counted.get(&(environment.clone(), labels.clone())).copied().unwrap_or_default();
        if ours > *calls {
            return Err(format!("{environment} {labels:?}: counted {ours} of {calls} calls"));
        }
        *elsewhere.entry(environment).or_default() += calls - ours;
    }
    let other = |environment: &str| counted.get(&(environment.to_owned(), vec![OTHER.to_owned(); 3])).copied().unwrap_or_default();
    for (environment, missing) in &elsewhere {
        if other(environment) != *missing {
            return Err(format!("{environment}: {missing} calls are not in their groups, {} in {OTHER}", other(environment)));
        }
    }
    let sum: u64 = elsewhere.values().sum();
    if sum != overflowed || counted.values().sum::<u64>() != truth.values().sum::<u64>() {
        return Err(format!("{sum} calls in {OTHER}, {overflowed} overflowed"));
    }
    Ok(())
}

/// Each alert fires once, is told again only when it is more severe than anybody was told, ends at most once and only after it fired, and one group of a rule has one alert at a time; what has not ended is firing.
fn edges(machine: &Machine, disk: &Disk) -> Result<(), String> {
    let mut alerts: BTreeMap<&str, Vec<&Notification>> = BTreeMap::new();
    for id in &disk.told {
        let told = &disk.outbox[id];
        alerts.entry(&told.alert_id).or_default().push(told);
    }
    let firing: BTreeMap<_, _> =
        machine.alerts().filter(|view| view.alert.state != State::Pending).map(|view| (view.alert.id.as_str(), view)).collect();
    let mut lives: BTreeMap<_, Vec<(Timestamp, Timestamp)>> = BTreeMap::new();
    for (id, told) in &alerts {
        let reasons: Vec<_> = told.iter().map(|told| (told.reason, told.severity)).collect();
        let (firing_so_long, ended) = match told.last().filter(|last| matches!(last.reason, Reason::Resolved | Reason::WentQuiet)) {
            Some(last) => (&told[..told.len() - 1], Some(last.at)),
            None => (&told[..], None),
        };
        let rises = firing_so_long.windows(2).all(|two| two[1].reason == Reason::Repeated && two[0].severity < two[1].severity);
        if firing_so_long.first().is_none_or(|first| first.reason != Reason::Fired) || !rises {
            return Err(format!("alert {id} was told as {reasons:?}"));
        }
        if ended.is_none() != firing.contains_key(id) {
            return Err(format!("alert {id} ended: {ended:?}, firing: {}", firing.contains_key(id)));
        }
        let first = told[0];
        if first.began > first.fired || ended.is_some_and(|ended| ended <= first.fired) || told.iter().any(|told| told.fired != first.fired) {
            return Err(format!("alert {id} began {}, fired {}, ended {ended:?}", first.began, first.fired));
        }
        let ended = ended.unwrap_or(first.fired + Span::from_secs(1 << 32));
        lives.entry((&first.environment, &first.rule, &first.group)).or_default().push((first.began, ended));
    }
    if let Some(id) = firing.keys().find(|id| !alerts.contains_key(*id)) {
        return Err(format!("alert {id} fires and nobody was told"));
    }
    for (group, mut lives) in lives {
        lives.sort_unstable();
        if let Some(two) = lives.windows(2).find(|two| two[0].1 > two[1].0) {
            return Err(format!("{group:?} has two alerts at a time: {two:?}"));
        }
    }
    Ok(())
}
