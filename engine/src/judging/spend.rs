//! What a judge has spent, and whether it may spend more: the largest cost that a request can have is reserved before it is sent, and settled when
//! its answer says what it cost. So a cap is never exceeded, whatever comes.
//!
//! Hours and days are of UTC; a request counts in the hour in which it was reserved. The sums are in the store: before a request leaves, at least what
//! it may cost is written there, in larger steps than requests, so that few of them wait for the disk. After a crash a judge has spent what was
//! written, which is at most one step too much.
//! Deliberately absent: prices, and writing.

use model::{Span, Timestamp};
use std::collections::BTreeMap;

const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);
/// What is written is ahead of what is reserved by this part of the smallest cap.
const STEPS: u64 = 50;

/// Nano-dollars; `None`: no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub hour: Option<u64>,
    pub day: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Spend {
    caps: Caps,
    /// Reserved and not settled.
    open: u64,
    /// By the start of the hour: what is spent or reserved, and what is written of it. A day's worth.
    hours: BTreeMap<Timestamp, Sum>,
    /// What others spend for the same judge, who keep their own sums: counted against the caps, and never written here.
    beside: BTreeMap<Timestamp, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    spent: u64,
    written: u64,
}

/// What a request may cost, taken from the caps.
#[derive(Debug, PartialEq, Eq)]
pub struct Reserved {
    hour: Timestamp,
    nano_usd: u64,
    /// What is to be in the store before the request leaves: the hour and its sum.
    pub to_write: Option<(Timestamp, u64)>,
}

/// A cap would be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// `hour` or `day`.
    pub of: &'static str,
    /// It may fit when what is reserved now is settled, which is mostly for less.
    pub may_fit: bool,
}

impl Reserved {
    pub fn nano_usd(&self) -> u64 {
        self.nano_usd
    }
}

impl Spend {
    /// `hours`: what the store has, by the start of the hour.
    pub fn new(caps: Caps, hours: impl IntoIterator<Item = (Timestamp, u64)>) -> Self {
        let sum = |(hour, written)| (hour, Sum { spent: written, written });
        Self { caps, open: 0, hours: hours.into_iter().map(sum).collect(), beside: BTreeMap::new() }
    }

    /// What others have spent since the day began, by the start of the hour, as far as is known.
    pub fn beside(&mut self, hours: impl IntoIterator<Item = (Timestamp, u64)>) {
        self.beside = hours.into_iter().collect();
    }

    /// Takes `nano_usd` from what may still be spent.
    pub fn reserve(&mut self, now: Timestamp, nano_usd: u64) -> Result<Reserved, Exceeded> {
        let (hour, day) = (now.floor(HOUR), now.floor(DAY));
        self.hours.retain(|at, _| *at >= day);
        for (of, cap, spent) in [("hour", self.caps.hour, self.of_hour(now)), ("day", self.caps.day, self.of_day(now))] {
            if let Some(cap) = cap.filter(|cap| spent.saturating_add(nano_usd) > *cap) {
                return Err(Exceeded { of, may_fit: (spent - self.open.min(spent)).saturating_add(nano_usd) <= cap });
            }
        }
        let step = [self.caps.hour, self.caps.day].into_iter().flatten().min().map_or(0, |cap| cap / STEPS);
        let sum = self.hours.entry(hour).or_default();
        sum.spent += nano_usd;
        self.open += nano_usd;
        // Without a cap nobody looks at the store: it is told now and then.
        let capped = self.caps != Caps::default();
        let to_write = (capped && sum.spent > sum.written).then(|| (hour, sum.spent.saturating_add(step).min(self.caps.hour.unwrap_or(u64::MAX))));
        Ok(Reserved { hour, nano_usd, to_write })
    }

    /// A request is over, and this is what it cost; more than was reserved only where an endpoint does not keep to what it was asked for.
    pub fn settle(&mut self, reserved: &Reserved, nano_usd: u64) {
        self.open -= reserved.nano_usd.min(self.open);
        let sum = self.hours.entry(reserved.hour).or_default();
        sum.spent = (sum.spent - reserved.nano_usd.min(sum.spent)).saturating_add(nano_usd);
    }

    /// Nobody will say any more what a request cost: it stays spent.
    pub fn lost(&mut self, nano_usd: u64) {
        self.open -= nano_usd.min(self.open);
    }

    /// The store has it.
    pub fn written(&mut self, (hour, nano_usd): (Timestamp, u64)) {
        if let Some(sum) = self.hours.get_mut(&hour) {
            sum.written = sum.written.max(nano_usd);
        }
    }

    /// What the store has otherwise than it is: to be written when nothing is under way.
    pub fn differs(&mut self) -> Vec<(Timestamp, u64)> {
        let differs: Vec<_> = self.hours.iter_mut().filter(|(_, sum)| sum.spent != sum.written).collect();
        differs
            .into_iter()
            .map(|(hour, sum)| {
                sum.written = sum.spent;
                (*hour, sum.spent)
            })
            .collect()
    }

    /// Nano-dollars spent or reserved in the hour of `now`, by whomever.
    pub fn of_hour(&self, now: Timestamp) -> u64 {
        let hour = now.floor(HOUR);
        self.hours.get(&hour).map_or(0, |sum| sum.spent) + self.beside.get(&hour).copied().unwrap_or(0)
    }

    pub fn of_day(&self, now: Timestamp) -> u64 {
        let day = now.floor(DAY);
        let own: u64 = self.hours.range(day..).map(|(_, sum)| sum.spent).sum();
        own + self.beside.range(day..).map(|(_, spent)| spent).sum::<u64>()
    }

    /// Nano-dollars that may still be spent in the hour of `now`; `None`: as much as it takes.
    pub fn left(&self, now: Timestamp) -> Option<u64> {
        let hour = self.caps.hour.map(|cap| cap.saturating_sub(self.of_hour(now)));
        let day = self.caps.day.map(|cap| cap.saturating_sub(self.of_day(now)));
        [hour, day].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("it is a time")
    }

    fn caps(hour: u64, day: u64) -> Caps {
        Caps { hour: Some(hour), day: Some(day) }
    }

    #[test]
    fn what_is_reserved_counts_as_spent_until_it_is_settled() {
        let (mut spend, now) = (Spend::new(caps(100, 1000), []), at("2026-11-22T10:59:59Z"));
        let first = spend.reserve(now, 60).expect("it fits");
        assert_eq!(spend.reserve(now, 41), Err(Exceeded { of: "hour", may_fit: true }));
        assert_eq!(spend.reserve(now, 101), Err(Exceeded { of: "hour", may_fit: false }));
        spend.settle(&first, 10);
        assert_eq!((spend.left(now), spend.of_hour(now)), (Some(90), 10));
        let second = spend.reserve(now, 90).expect("it fits");
        assert_eq!(spend.left(now), Some(0));
        spend.settle(&second, 0);
        assert_eq!(spend.left(at("2026-11-22T11:00:00Z")), Some(100), "another hour");
    }

    #[test]
    fn a_day_is_a_cap_of_its_own_and_ends_at_midnight() {
        let mut spend = Spend::new(caps(100, 150), [(at("2026-11-22T09:00:00Z"), 100)]);
        let now = at("2026-11-22T10:00:00Z");
        let reserved = spend.reserve(now, 50).expect("it fits");
        spend.settle(&reserved, 50);
        assert_eq!(spend.reserve(now, 1), Err(Exceeded { of: "day", may_fit: false }));
        assert_eq!(spend.left(now), Some(0));
        spend.reserve(at("2026-11-23T00:00:00Z"), 100).expect("another day");
    }

    #[test]
    fn what_others_spend_counts_against_the_caps_and_is_theirs_to_write() {
        let now = at("2026-11-22T10:59:59Z");
        let mut spend = Spend::new(caps(100, 1000), [(now.floor(HOUR), 30)]);
        spend.beside([(now.floor(HOUR), 40)]);
        assert_eq!(spend.reserve(now, 31), Err(Exceeded { of: "hour", may_fit: false }));
        let reserved = spend.reserve(now, 30).expect("it fits");
        assert_eq!((spend.left(now), reserved.to_write), (Some(0), Some((now.floor(HOUR), 62))));
        spend.beside([]);
        assert_eq!(spend.left(now), Some(40));
    }

    #[test]
    fn the_store_is_ahead_of_every_request_and_few_requests_wait_for_it() {
        let (mut spend, now) = (Spend::new(caps(100_000, 1_000_000), []), at("2026-11-22T10:00:00Z"));
        let (mut stored, mut writes) = (0, 0);
        for _ in 0..1000 {
            let reserved = spend.reserve(now, 100).expect("it fits");
            if let Some((hour, sum)) = reserved.to_write {
                (stored, writes) = (sum, writes + 1);
                spend.written((hour, sum));
            }
            assert!(stored >= spend.of_hour(now), "{stored} is written of {}", spend.of_hour(now));
            spend.settle(&reserved, 100);
        }
        assert!(writes <= 51, "{writes} writes");
        assert!(spend.reserve(now, 1).is_err());
        let again = Spend::new(caps(100_000, 1_000_000), [(at("2026-11-22T10:00:00Z"), stored)]);
        assert_eq!(again.left(now), Some(0), "a restart forgets nothing");
    }

    #[test]
    fn chance_never_takes_it_beyond_its_cap() {
        let seed = 20_261_122;
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut spend, mut open, now) = (Spend::new(caps(5_000, 100_000), []), Vec::new(), at("2026-11-22T10:00:00Z"));
        for _ in 0..20_000 {
            if rng.bool() {
                open.extend(spend.reserve(now, rng.u64(0..700)).ok());
            } else if !open.is_empty() {
                let reserved: Reserved = open.swap_remove(rng.usize(..open.len()));
                spend.settle(&reserved, rng.u64(0..=reserved.nano_usd));
            }
            assert!(spend.of_hour(now) <= 5_000, "seed {seed}");
        }
    }
}
