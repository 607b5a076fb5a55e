//! What the models of a judge say of one call, and what that comes to. With one model and one sample, that is its opinion; with more, the majority's.

use super::client::Reply;
use evaluators::judge::{Judge, Nonce, Opinion, vote};
use model::verdict::Outcome;

/// So far. A round that failed goes on where it failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    opinions: Vec<Opinion>,
    /// Why a reply was none; the last one.
    unreadable: Option<String>,
    /// Replies so far, readable or not.
    pub replies: usize,
    pub cost_nano_usd: u64,
    /// Of all requests together; `None` before the first.
    pub latency_ms: Option<u64>,
}

/// What a round comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Came {
    pub outcome: Outcome,
    pub score: Option<f64>,
    pub why: String,
}

impl Round {
    pub fn replied(&mut self, judge: &Judge, reply: &Reply, nonce: &Nonce) {
        self.replies += 1;
        match judge.read(&reply.text, nonce) {
            Ok(opinion) => self.opinions.push(opinion),
            Err(unreadable) => self.unreadable = Some(unreadable.to_string()),
        }
    }

    pub fn took(&mut self, millis: u64, cost_nano_usd: u64) {
        self.latency_ms = Some(self.latency_ms.unwrap_or(0) + millis);
        self.cost_nano_usd += cost_nano_usd;
    }

    /// `asked`: how many replies there were to be; `failure`: why there are no more.
    ///
    /// Fewer opinions than a majority of all are none: those that answer may not be like those that do not.
    pub fn came(&self, asked: usize, failure: Option<&str>) -> Came {
        let enough = 2 * self.opinions.len() > asked;
        if let Some(voted) = vote(&self.opinions).filter(|_| enough) {
            let reason = self.opinions.iter().find(|opinion| opinion.pass == voted.pass).map_or("", |opinion| opinion.reason.as_str());
            let sides = if voted.pass { (voted.passes, "pass") } else { (voted.fails, "fail") };
            let why = if asked == 1 { reason.to_owned() } else { format!("{} of {asked} say {}: {reason}", sides.0, sides.1) };
            let outcome = if voted.pass { Outcome::Pass } else { Outcome::Fail };
            return Came { outcome, score: voted.score, why };
        }
        let (outcome, why) = match (failure, &self.unreadable) {
            (Some(failure), _) => (Outcome::Errored, failure.to_owned()),
            (None, unreadable) => (Outcome::Unreadable, unreadable.clone().unwrap_or_default()),
        };
        Came { outcome, score: None, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(opinions: &[bool], unreadable: bool) -> Round {
        let opinion = |pass: &bool| Opinion { pass: *pass, score: Some(f64::from(u8::from(*pass))), reason: format!("because {pass}") };
        Round { opinions: opinions.iter().map(opinion).collect(), unreadable: unreadable.then(|| "no JSON".to_owned()), ..Round::default() }
    }

    fn check(round: &Round, asked: usize, failure: Option<&str>, expected: (Outcome, Option<f64>, &str)) {
        let Came { outcome, score, why } = round.came(asked, failure);
        assert_eq!((outcome, score, why.as_str()), expected);
    }

    #[test]
    fn one_opinion_is_the_verdict_and_of_several_the_majority() {
        check(&round(&[true], false), 1, None, (Outcome::Pass, Some(1.0), "because true"));
        check(&round(&[true, false, false, true, false], false), 5, None, (Outcome::Fail, Some(0.4), "3 of 5 say fail: because false"));
    }

    #[test]
    fn too_few_opinions_are_none_and_it_says_why() {
        check(&round(&[true, true], true), 3, None, (Outcome::Pass, Some(1.0), "2 of 3 say pass: because true"));
        check(&round(&[true], true), 3, None, (Outcome::Unreadable, None, "no JSON"));
        check(&round(&[true], true), 3, Some("HTTP 500"), (Outcome::Errored, None, "HTTP 500"));
        check(&round(&[], false), 1, Some("no answer within 5s"), (Outcome::Errored, None, "no answer within 5s"));
        check(&round(&[], true), 1, None, (Outcome::Unreadable, None, "no JSON"));
    }
}
