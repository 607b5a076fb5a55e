//! Which calls a script does not see because it used up its budget too often: what the machine decides, and every edge obeys.
//!
//! All of it is by the time of the call and its place in the stream, which do not depend on where batches are cut or when an edge hears of a suspension:
//! what a script says about a call that it was not to see is ignored, so that an edge that asks it all the same only does needless work.
//! Deliberately absent: when a script is suspended, and for how long, which is `machine/src/breaker.rs`.

use crate::plan::TICK;
use crate::time::Timestamp;

/// Calls that a script may exhaust its budget on in one go: with 10,000 operations each a few milliseconds in all.
pub const EXHAUSTED_MAX: u64 = 8;

/// Checks of one look that may use up their budget; with 200,000 operations each some tens of milliseconds. Those that are left then are not run.
pub const CHECKS_EXHAUSTED_MAX: u64 = 3;

/// A script that is not run, in one environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// It sees no call from before this; a start of a tick.
    pub until: Timestamp,
}

/// Whether a script sees a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    Nothing,
    /// Only one call in 64, and only to find out whether it still exhausts its budget.
    Probes,
    Everything,
}

impl Suspension {
    /// When it sees every call again, if the probe finds nothing.
    pub fn ends(self) -> Timestamp {
        self.until + TICK
    }

    /// What it sees of calls at `time`, or in the slice that starts then.
    pub fn sees(self, time: Timestamp) -> Sees {
        if time < self.until {
            Sees::Nothing
        } else if time < self.ends() {
            Sees::Probes
        } else {
            Sees::Everything
        }
    }

    /// Whether the script is to be run on a call.
    pub fn runs_on(self, sequence: u64, time: Timestamp) -> bool {
        match self.sees(time) {
            Sees::Nothing => false,
            Sees::Probes => is_probe(sequence),
            Sees::Everything => true,
        }
    }
}

/// One call in 64, by its stream sequence, which no sender chooses.
pub fn is_probe(sequence: u64) -> bool {
    // 2^64 by the golden ratio spreads what follows a pattern, such as senders that take turns (Knuth, TAOCP 3, 6.4).
    sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn one_call_in_64_is_a_probe_also_where_senders_take_turns() {
        for (step, first) in [(1, 1), (2, 0), (7, 3), (64, 5), (100, 42), (4096, 0)] {
            let probes = (0..64_000).filter(|at| is_probe(first + at * step)).count();
            assert!((900..1_100).contains(&probes), "{probes} of 64,000 in steps of {step}");
        }
    }

    #[test]
    fn a_suspension_ends_in_a_tick_of_probes() {
        let until = Timestamp::EPOCH + Span::from_secs(600);
        let suspension = Suspension { until };
        let at = |seconds| Timestamp::EPOCH + Span::from_secs(seconds);
        let probe = (0..).find(|sequence| is_probe(*sequence)).expect("one in 64 is");
        let other = (0..).find(|sequence| !is_probe(*sequence)).expect("63 in 64 are");
        for (time, probed, others) in [(0, false, false), (599, false, false), (600, true, false), (609, true, false), (610, true, true)] {
            let runs = |sequence| suspension.runs_on(sequence, at(time));
            assert_eq!((runs(probe), runs(other)), (probed, others), "at {time} s");
        }
    }
}
