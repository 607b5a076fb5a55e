//! How long to wait before a judge is asked again about the same call, and when not to.
//!
//! Doubling pauses with a random part, so that calls that failed together do not come back together; an endpoint that names a time is given it.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(60);
/// An endpoint that asks for more than this is not waited for: the call would say nothing about now any more.
pub const ASKED_MAX: Duration = Duration::from_secs(300);

/// The pause after failure number `failures` (from 1). `asked`: what the endpoint asked for. `chance`: 0..1. `None`: it is not worth the wait.
pub fn pause(failures: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX);
    let own = full.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0);
    match asked {
        Some(asked) if asked > ASKED_MAX => None,
        // A little later than asked, and not all at once.
        Some(asked) => Some(asked.max(own) + FIRST.mul_f64(chance.clamp(0.0, 1.0) / 4.0)),
        None => Some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(failures: u32, asked: Option<u64>, chance: f64) -> Option<f64> {
        pause(failures, asked.map(Duration::from_secs), chance).map(|pause| pause.as_secs_f64())
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_chance_takes_up_to_half() {
        assert_eq!([1, 2, 3, 7, 40].map(|failures| seconds(failures, None, 0.0)), [Some(1.0), Some(2.0), Some(4.0), Some(60.0), Some(60.0)]);
        assert_eq!(seconds(3, None, 1.0), Some(2.0));
    }

    #[test]
    fn what_the_endpoint_asks_for_is_the_least_and_too_much_is_refused() {
        assert_eq!(seconds(1, Some(20), 0.0), Some(20.0));
        assert_eq!(seconds(1, Some(20), 1.0), Some(20.25));
        assert_eq!(seconds(5, Some(3), 0.0), Some(16.0));
        assert_eq!(seconds(1, Some(301), 0.0), None);
    }
}
