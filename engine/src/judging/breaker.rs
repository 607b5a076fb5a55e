//! Leaving a judge alone that does not answer: after some failures in a row it rests, then one call is tried, and the rests grow until one is answered.
//!
//! Time is an argument. Deliberately absent: which failure is worth another try of the same call (`backoff.rs`).

use model::{Span, Timestamp};

/// Calls in a row that were given up, each after its own retries. An endpoint that fails one call in ten fails five in a row once in 10^5.
const FAILURES_MAX: u32 = 5;
const REST_FIRST: Span = Span::from_secs(30);
const REST_MAX: Span = Span::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker(State);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Calls that failed in a row.
    Asking {
        failures: u32,
    },
    Resting {
        until: Timestamp,
        rest: Span,
    },
    /// One call is under way to see whether the judge answers again.
    Probing {
        rest: Span,
    },
}

/// Whether a call may be asked about now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Yes,
    /// Yes, and what becomes of it decides whether others follow.
    AsProbe,
    /// Not before the probe has ended.
    Wait,
    Resting,
}

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Asking { failures: 0 })
    }
}

impl Breaker {
    pub fn admit(&mut self, now: Timestamp) -> Admission {
        match self.0 {
            State::Asking { .. } => Admission::Yes,
            State::Probing { .. } => Admission::Wait,
            State::Resting { until, .. } if now < until => Admission::Resting,
            State::Resting { rest, .. } => {
                self.0 = State::Probing { rest };
                Admission::AsProbe
            }
        }
    }

    /// Whether nothing is to be asked: not even again about a call that is under way.
    pub fn rests(&self) -> bool {
        matches!(self.0, State::Resting { .. })
    }

    /// Whether it rests now, and not yet so long that a call may be tried.
    pub fn rests_at(&self, now: Timestamp) -> bool {
        matches!(self.0, State::Resting { until, .. } if now < until)
    }

    /// The judge answered, whatever it said.
    pub fn answered(&mut self) {
        self.0 = State::Asking { failures: 0 };
    }

    /// A call was given up. Those that were under way when the rest began change nothing.
    pub fn failed(&mut self, now: Timestamp, probe: bool) {
        self.0 = match self.0 {
            State::Asking { failures } if failures + 1 >= FAILURES_MAX => State::Resting { until: now + REST_FIRST, rest: REST_FIRST },
            State::Asking { failures } => State::Asking { failures: failures + 1 },
            State::Probing { rest } if probe => {
                let rest = Span::from_millis((2 * rest.millis()).min(REST_MAX.millis()));
                State::Resting { until: now + rest, rest }
            }
            ref other => other.clone(),
        };
    }

    /// The probe ended before the judge was asked; the next call is the probe.
    pub fn untried(&mut self, now: Timestamp) {
        if let State::Probing { rest } = self.0 {
            self.0 = State::Resting { until: now, rest };
        }
    }

    pub fn name(&self) -> &'static str {
        match self.0 {
            State::Asking { .. } => "asking",
            State::Resting { .. } => "resting",
            State::Probing { .. } => "probing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000).expect("it is a time")
    }

    fn failing(times: u32) -> Breaker {
        let mut breaker = Breaker::default();
        (0..times).for_each(|_| breaker.failed(at(0), false));
        breaker
    }

    #[test]
    fn it_rests_after_failures_in_a_row_and_not_after_scattered_ones() {
        let mut breaker = failing(FAILURES_MAX - 1);
        breaker.answered();
        (0..FAILURES_MAX - 1).for_each(|_| breaker.failed(at(0), false));
        assert_eq!(breaker.admit(at(0)), Admission::Yes);
        breaker.failed(at(0), false);
        assert_eq!((breaker.admit(at(0)), breaker.admit(at(29)), breaker.rests()), (Admission::Resting, Admission::Resting, true));
    }

    #[test]
    fn after_a_rest_one_call_is_tried_and_an_answer_ends_it() {
        let mut breaker = failing(FAILURES_MAX);
        assert_eq!((breaker.admit(at(30)), breaker.admit(at(31))), (Admission::AsProbe, Admission::Wait));
        // One that had been under way all along.
        breaker.failed(at(32), false);
        assert_eq!(breaker.admit(at(33)), Admission::Wait);
        breaker.answered();
        assert_eq!(breaker.admit(at(34)), Admission::Yes);
    }

    #[test]
    fn rests_double_up_to_ten_minutes() {
        let (mut breaker, mut now) = (failing(FAILURES_MAX), 30);
        for rest in [60, 120, 240, 480, 600, 600] {
            assert_eq!(breaker.admit(at(now)), Admission::AsProbe);
            breaker.failed(at(now), true);
            assert_eq!(breaker.admit(at(now + rest - 1)), Admission::Resting, "{rest}");
            now += rest;
        }
    }

    #[test]
    fn a_probe_that_was_not_asked_is_taken_over_by_the_next_call() {
        let mut breaker = failing(FAILURES_MAX);
        assert_eq!(breaker.admit(at(30)), Admission::AsProbe);
        breaker.untried(at(30));
        assert_eq!(breaker.admit(at(30)), Admission::AsProbe);
    }
}
