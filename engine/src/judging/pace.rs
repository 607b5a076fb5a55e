//! How fast calls begin to be asked about: as many a minute as the judge may see, by the clock on the wall.
//!
//! Calls are chosen by event time, of which hours pass in a minute while a stream is caught up on; without a pace, all that was chosen would be asked
//! at once, at the expense of counting and of the endpoint's own limits. At the usual speed a call waits here for twenty seconds at most, because
//! that is how much of a minute can be chosen in one tick.
//! Deliberately absent: tries after a failure, which have pauses of their own, and how many are under way at a time.

use model::{Span, Timestamp};
use std::collections::BTreeSet;

/// One call, in what a millisecond adds for each call a minute.
const CALL: u64 = 60_000;

#[derive(Clone, Debug)]
pub struct Pace {
    per_minute: u64,
    /// Each has as many calls chosen. There are no more than the machine takes in, 64.
    environments: BTreeSet<String>,
    /// At most a second's worth, and one call: who was quiet may not ask for a minute's at once.
    credit: u64,
    /// Up to when time was turned into credit.
    at: Option<Timestamp>,
}

impl Pace {
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: u64::from(per_minute), environments: BTreeSet::new(), credit: 0, at: None }
    }

    /// A call of this environment was chosen.
    pub fn heard(&mut self, environment: &str) {
        if !self.environments.contains(environment) {
            self.environments.insert(environment.to_owned());
        }
    }

    /// When the next call may begin; `None`: now.
    pub fn wait(&mut self, now: Timestamp) -> Option<Timestamp> {
        let each_ms = self.per_minute * self.environments.len().max(1) as u64;
        let most = (each_ms * 1000).max(CALL);
        let earned = self.at.map_or(most, |at| now.since(at).millis().saturating_mul(each_ms));
        self.credit = self.credit.saturating_add(earned).min(most);
        self.at = Some(now);
        let missing = CALL.saturating_sub(self.credit);
        (missing > 0).then(|| now + Span::from_millis(missing.div_ceil(each_ms)))
    }

    /// A call has begun.
    pub fn begun(&mut self) {
        self.credit = self.credit.saturating_sub(CALL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis).expect("it is a time")
    }

    /// Calls that begin in so many milliseconds, when there are always more.
    fn begun(pace: &mut Pace, from: i64, millis: i64) -> u64 {
        let (mut now, mut begun) = (at(from), 0);
        while now < at(from + millis) {
            match pace.wait(now) {
                Some(until) => {
                    assert!(until > now, "time goes on");
                    now = until;
                }
                None => {
                    pace.begun();
                    begun += 1;
                }
            }
        }
        begun
    }

    #[test]
    fn a_minute_has_as_many_as_it_may_and_a_second_more_after_a_pause() {
        for per_minute in [1, 7, 60, 600, 6_000] {
            let mut pace = Pace::new(per_minute);
            pace.heard("production");
            let second = u64::from(per_minute).div_ceil(60);
            let minutes = [begun(&mut pace, 0, 60_000), begun(&mut pace, 60_000, 60_000), begun(&mut pace, 9_000_000, 60_000)];
            let most = u64::from(per_minute) + second;
            assert!(minutes.iter().all(|begun| (u64::from(per_minute)..=most).contains(begun)), "{minutes:?} of {per_minute}");
        }
    }

    #[test]
    fn each_environment_has_its_own() {
        let mut pace = Pace::new(60);
        (0..3).for_each(|_| pace.heard("production"));
        pace.heard("staging");
        let begun = begun(&mut pace, 0, 60_000);
        assert!((120..=122).contains(&begun), "{begun}");
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_and_takes_nothing() {
        let mut pace = Pace::new(60);
        assert_eq!(pace.wait(at(10_000)), None);
        pace.begun();
        assert_eq!(pace.wait(at(5_000)), Some(at(6_000)));
        assert_eq!(pace.wait(at(6_000)), None);
    }
}
