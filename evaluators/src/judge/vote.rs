//! Several opinions of one call: samples of one judge, or a panel.

use super::reply::Opinion;

/// What several judges say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// More than half pass. A tie fails: judges are there to find faults, half of them found one, and a person's look costs less than a miss.
    pub pass: bool,
    /// The mean of those scores that were given; `None` when none was.
    pub score: Option<f64>,
    pub passes: usize,
    pub fails: usize,
    /// The larger side as a share of all, above or at 0.5; 1 when they agree.
    pub agreement: f64,
}

/// Counts opinions; `None` of none, which is no verdict.
///
/// Unreadable replies are not among them. Whether a vote is better than one judge is for `calibration` to say: judges of one family err together.
pub fn vote(opinions: &[Opinion]) -> Option<Vote> {
    let passes = opinions.iter().filter(|opinion| opinion.pass).count();
    let fails = opinions.len() - passes;
    let scores: Vec<_> = opinions.iter().filter_map(|opinion| opinion.score).collect();
    (!opinions.is_empty()).then(|| Vote {
        pass: passes > fails,
        score: (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
        passes,
        fails,
        agreement: passes.max(fails) as f64 / opinions.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_decides_and_a_tie_fails() {
        let opinion = |pass: bool, score: Option<f64>| Opinion { pass, score, reason: String::new() };
        assert_eq!(vote(&[]), None);
        let tie = vote(&[opinion(true, Some(1.0)), opinion(false, Some(0.5))]).expect("two opinions");
        assert_eq!((tie.pass, tie.score, tie.agreement), (false, Some(0.75), 0.5));
        let two_of_three = vote(&[opinion(true, None), opinion(false, None), opinion(true, Some(0.25))]).expect("three opinions");
        assert_eq!((two_of_three.pass, two_of_three.passes, two_of_three.fails, two_of_three.score), (true, 2, 1, Some(0.25)));
        assert_eq!(vote(&[opinion(true, None)]).expect("one opinion").agreement, 1.0);
    }
}
