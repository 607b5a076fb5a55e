//! How fast each way out takes what: Slack about one message a second in each channel with a few at once, and some fifty edits a minute in all.
//! Slack's answer to too much is obeyed besides. Sources: docs.slack.dev/apis/web-api/rate-limits.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What is to be done on a way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Post,
    Update,
    /// Nobody counts.
    Free,
}

/// One token each `every`, at most `burst` at once.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    every: Duration,
    burst: u32,
    /// When the next token would be there if it had just been emptied that often: the generic cell rate algorithm (ITU-T I.371).
    next: Option<Instant>,
}

const POSTS: Bucket = Bucket { every: Duration::from_millis(1100), burst: 3, next: None };
/// Tier 3 is 50 and more a minute.
const UPDATES: Bucket = Bucket { every: Duration::from_millis(1250), burst: 10, next: None };

/// Channels that are remembered: more than routes lead to.
const CHANNELS_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Paces {
    posts: BTreeMap<String, Bucket>,
    updates: Option<Bucket>,
    /// Not before this, said a server.
    held: BTreeMap<String, Instant>,
}

impl Paces {
    /// Takes leave to do it now; else when to ask again.
    pub fn take(&mut self, route: &str, kind: Kind, now: Instant) -> Result<(), Instant> {
        if let Some(at) = self.held.get(route) {
            if *at > now {
                return Err(*at);
            }
            self.held.remove(route);
        }
        match kind {
            Kind::Free => Ok(()),
            Kind::Update => self.updates.get_or_insert(UPDATES).take(now),
            Kind::Post => {
                if self.posts.len() >= CHANNELS_MAX {
                    self.posts.retain(|_, bucket| bucket.next.is_some_and(|next| next > now));
                }
                self.posts.entry(route.to_owned()).or_insert(POSTS).take(now)
            }
        }
    }

    /// Nothing more on this route before `at`.
    pub fn hold(&mut self, route: &str, at: Instant) {
        self.held.insert(route.to_owned(), at);
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let next = self.next.unwrap_or(now).max(now);
        let allowed = next.checked_sub(self.every * (self.burst - 1)).unwrap_or(now);
        if allowed > now {
            return Err(allowed);
        }
        self.next = Some(next + self.every);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_takes_three_at_once_and_then_one_a_second_and_others_do_not_wait_for_it() {
        let (mut paces, start) = (Paces::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(paces.take("a", Kind::Post, start), Ok(()));
        }
        let again = paces.take("a", Kind::Post, start).expect_err("the fourth waits");
        assert_eq!(again - start, POSTS.every);
        assert_eq!(paces.take("b", Kind::Post, start), Ok(()));
        assert_eq!(paces.take("a", Kind::Post, again), Ok(()));
        let mut taken = 0;
        for second in 0..600 {
            taken += u32::from(paces.take("c", Kind::Post, start + Duration::from_millis(second * 100)).is_ok());
        }
        assert!((54..=58).contains(&taken), "{taken} in a minute");
    }

    #[test]
    fn what_a_server_asks_for_is_kept() {
        let (mut paces, start) = (Paces::default(), Instant::now());
        paces.hold("a", start + Duration::from_secs(30));
        assert_eq!(paces.take("a", Kind::Free, start), Err(start + Duration::from_secs(30)));
        assert_eq!(paces.take("a", Kind::Free, start + Duration::from_secs(30)), Ok(()));
    }
}
