//! Causes in one short line each, for Slack and for `why`. Numbers for machines are the serialized types themselves.

use crate::across::{Cause, Label};
use crate::along::StepCause;

impl Cause {
    /// One line, or two where other names or rivals are told. Values stand as they were given: whoever may not see a user's id is the caller's to know.
    pub fn lines(&self) -> Vec<String> {
        let mut first = format!(
            "Most likely cause: {} ({} of the excess; {} bad there, {} elsewhere)",
            named(&self.labels),
            percent(self.share),
            percent(self.rate),
            percent(self.rate_elsewhere)
        );
        if self.rate_expected > 0.005 && self.rate_expected > 2.0 * self.rate_elsewhere {
            first.insert_str(first.len() - 1, &format!(", usually {} there", percent(self.rate_expected)));
        }
        if self.new {
            first.insert_str(first.len() - 1, ", new");
        }
        let mut lines = vec![first];
        let list = |parts: &[Vec<Label>]| parts.iter().map(|part| named(part)).collect::<Vec<_>>().join(", or ");
        match (self.same.is_empty(), self.rivals.is_empty()) {
            (true, true) => {}
            (false, true) => lines.push(format!("The same calls: {}", list(&self.same))),
            (true, false) => lines.push(format!("Almost as likely: {}", list(&self.rivals))),
            (false, false) => lines.push(format!("The same calls: {}; almost as likely: {}", list(&self.same), list(&self.rivals))),
        }
        lines
    }
}

impl StepCause {
    /// One line.
    pub fn line(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let also = if self.also.is_empty() { String::new() } else { format!(" (also {})", self.also.join(", ")) };
        format!(
            "Most likely cause: the step {}{by} before it: {}{also} in {} of affected runs, {} of others",
            self.step,
            self.signal,
            percent(self.in_affected.rate),
            percent(self.in_others.rate)
        )
    }
}

/// `provider acme`, `model x with prompt version 7`.
fn named(labels: &[Label]) -> String {
    let words: Vec<String> = labels.iter().map(|label| format!("{} {}", label.dimension.replace('_', " "), label.value)).collect();
    words.join(" with ")
}

/// Two digits where there are no more: `83 %`, `4.2 %`, `0.04 %`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent <= 0.0 {
        "0 %".to_owned()
    } else if percent < 0.01 {
        "under 0.01 %".to_owned()
    } else if percent < 0.095 {
        format!("{percent:.2} %")
    } else if percent < 19.95 {
        format!("{percent:.1} %").replace(".0 %", " %")
    } else {
        format!("{percent:.0} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::along::Rate;

    fn label(dimension: &str, value: &str) -> Label {
        Label { dimension: dimension.to_owned(), value: value.to_owned() }
    }

    fn cause() -> Cause {
        Cause {
            labels: vec![label("provider", "acme")],
            same: Vec::new(),
            rivals: Vec::new(),
            share: 0.831,
            calls: 500.0,
            bad: 71.0,
            rate: 0.142,
            rate_elsewhere: 0.004,
            rate_expected: 0.004,
            new: false,
            evidence: 40.0,
        }
    }

    #[test]
    fn a_cause_is_one_line_that_says_how_much_it_explains() {
        assert_eq!(cause().lines(), ["Most likely cause: provider acme (83 % of the excess; 14.2 % bad there, 0.4 % elsewhere)"]);
        let pair = Cause { labels: vec![label("model", "x"), label("prompt_version", "7")], ..cause() };
        assert!(pair.lines()[0].starts_with("Most likely cause: model x with prompt version 7 (83 %"), "{:?}", pair.lines());
    }

    #[test]
    fn a_value_that_was_bad_before_says_so() {
        let usual = Cause { rate_expected: 0.05, ..cause() };
        assert!(usual.lines()[0].ends_with("(83 % of the excess; 14.2 % bad there, 0.4 % elsewhere, usually 5 % there)"), "{:?}", usual.lines());
    }

    #[test]
    fn a_value_that_was_not_there_before_says_so() {
        let new = Cause { new: true, ..cause() };
        assert!(new.lines()[0].ends_with("0.4 % elsewhere, new)"), "{:?}", new.lines());
    }

    #[test]
    fn other_names_and_rivals_are_a_second_line() {
        let tied = Cause { same: vec![vec![label("model", "x")]], rivals: vec![vec![label("tenant", "t"), label("stage", "s")]], ..cause() };
        assert_eq!(tied.lines()[1], "The same calls: model x; almost as likely: tenant t with stage s");
    }

    #[test]
    fn a_step_is_one_line() {
        let rate = |rate| Rate { rate, low: 0.0, high: 1.0 };
        let step = StepCause {
            step: "extraction".to_owned(),
            signal: "invalid_json".to_owned(),
            by: Some("acme/x".to_owned()),
            share: 0.8,
            in_affected: rate(0.78),
            in_others: rate(0.02),
            evidence: 30.0,
            also: Vec::new(),
        };
        assert_eq!(step.line(), "Most likely cause: the step extraction by acme/x before it: invalid_json in 78 % of affected runs, 2 % of others");
    }

    #[test]
    fn percentages_are_short() {
        let shown: Vec<String> = [0.0, 0.00001, 0.0004, 0.004, 0.02, 0.1999, 0.83, 1.0].into_iter().map(percent).collect();
        assert_eq!(shown, ["0 %", "under 0.01 %", "0.04 %", "0.4 %", "2 %", "20 %", "83 %", "100 %"]);
    }
}
