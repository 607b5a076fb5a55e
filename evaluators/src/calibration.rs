//! How far a judge can be trusted, measured against people's labels; and the rate that is behind the rate it reports.
//!
//! [`Calibration::of`] counts; everything else is arithmetic on the counts. What each figure means, and where it comes from, is in METHOD.md beside
//! this crate. Throughout, the event is *fail*, as in the signal `judge:<name>`: sensitivity is the share of bad answers that the judge catches,
//! specificity the share of good ones that it lets pass.
//!
//! Deliberately absent: asking anyone, choosing what to label, and alarms. Drift is looked for in the judge's own rate, which needs no correction to
//! be seen to change.

mod correct;
mod proportion;
mod verbosity;

pub use correct::{Corrected, Observed, Sums, Uncorrectable};
pub use proportion::{Estimate, Proportion};
pub use verbosity::{Length, Verbosity};

use std::fmt;
use verbosity::Sample;

/// One labelled item, and what the judge said of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// The person's label: it passes. Of a pair: the first is the better.
    pub label: bool,
    /// The judge's verdict; `None` where its reply was unreadable.
    pub verdict: Option<bool>,
    /// Of a pair, the verdict of the other order, mapped back; the outer `None` where it was not asked.
    pub swapped: Option<Option<bool>>,
    pub length: Option<Length>,
    /// What asking cost, in nano-dollars.
    pub cost_nano_usd: u64,
}

impl Item {
    /// An item of which only label and verdict are known.
    pub fn new(label: bool, verdict: Option<bool>) -> Self {
        Self { label, verdict, swapped: None, length: None, cost_nano_usd: 0 }
    }
}

/// A judge's verdicts beside people's labels, counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// Fails that the judge fails.
    pub caught: u64,
    /// Fails that the judge passes.
    pub missed: u64,
    /// Passes that the judge passes.
    pub cleared: u64,
    /// Passes that the judge fails.
    pub accused: u64,
    /// Items labelled fail whose reply was unreadable.
    pub unreadable_fails: u64,
    /// Items labelled pass whose reply was unreadable.
    pub unreadable_passes: u64,
    /// Items asked in both orders, with both replies readable; and those of them with the same verdict.
    pub swapped: u64,
    pub swapped_same: u64,
    pub cost_nano_usd: u64,
    /// `None` where too few lengths are known, or they or the verdicts are all the same.
    pub verbosity: Option<Verbosity>,
}

/// Something a person should know before using the judge. `Display` is a sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warning {
    /// Labels of one kind: intervals will be wide.
    FewLabels { passes: u64, fails: u64 },
    /// Replies are unreadable more often on one side, so the readable ones are a biased part.
    UnreadableDiffers { fails: Estimate, passes: Estimate },
    /// Longer answers pass more often than people let them.
    PrefersLonger(Verbosity),
    /// Places change verdicts.
    PrefersAPlace(Estimate),
}

/// Fewer labels than this of one kind leave an interval of at least a third for its share.
const LABELS_FEW: u64 = 30;

/// Where fewer verdicts than this share survive a swap, a single order says little (Zheng et al. 2023 found 24 % to 65 % among the judges of its time).
const SWAP_CONSISTENCY_LOW: f64 = 0.8;

impl Calibration {
    /// Counts items. Order does not matter.
    pub fn of(items: &[Item]) -> Self {
        let mut counted = Self::default();
        let mut samples = Vec::new();
        for item in items {
            let count = match (item.label, item.verdict) {
                (false, Some(false)) => &mut counted.caught,
                (false, Some(true)) => &mut counted.missed,
                (true, Some(true)) => &mut counted.cleared,
                (true, Some(false)) => &mut counted.accused,
                (false, None) => &mut counted.unreadable_fails,
                (true, None) => &mut counted.unreadable_passes,
            };
            *count += 1;
            counted.cost_nano_usd += item.cost_nano_usd;
            if let (Some(verdict), Some(Some(swapped))) = (item.verdict, item.swapped) {
                counted.swapped += 1;
                counted.swapped_same += u64::from(verdict == swapped);
            }
            if let (Some(verdict), Some(length)) = (item.verdict, item.length) {
                samples.push(Sample { length: length.value(), label: item.label, verdict });
            }
        }
        counted.verbosity = Verbosity::of(&samples);
        counted
    }

    /// Items with a readable verdict.
    pub fn readable(&self) -> u64 {
        self.caught + self.missed + self.cleared + self.accused
    }

    /// Verdicts that are the person's, of readable ones.
    pub fn agreement(&self) -> Proportion {
        Proportion { hits: self.caught + self.cleared, of: self.readable() }
    }

    /// Caught, of readable fails.
    pub fn sensitivity(&self) -> Proportion {
        Proportion { hits: self.caught, of: self.caught + self.missed }
    }

    /// Cleared, of readable passes.
    pub fn specificity(&self) -> Proportion {
        Proportion { hits: self.cleared, of: self.cleared + self.accused }
    }

    /// Replies that say nothing, of all.
    pub fn unreadable(&self) -> Proportion {
        let hits = self.unreadable_fails + self.unreadable_passes;
        Proportion { hits, of: hits + self.readable() }
    }

    /// Verdicts that stay when the answers change places, of those asked in both orders.
    pub fn swap_consistency(&self) -> Proportion {
        Proportion { hits: self.swapped_same, of: self.swapped }
    }

    /// Sensitivity + specificity − 1 (Youden 1950): 1 of a perfect judge, 0 of a coin. `None` without readable labels of both kinds.
    ///
    /// The interval is that of a difference of two independent proportions, by squares of Wilson's (Newcombe 1998, method 10).
    pub fn youden(&self) -> Option<Estimate> {
        let accused = Proportion { hits: self.accused, of: self.cleared + self.accused };
        self.sensitivity().minus(accused)
    }

    /// Agreement beyond chance (Cohen 1960), −1 to 1; `None` where chance alone agrees always. The interval is the large-sample one (Fleiss, Cohen,
    /// Everitt 1969), which is too short for a few dozen items.
    pub fn kappa(&self) -> Option<Estimate> {
        let n = self.readable() as f64;
        // Rows are the judge's, columns the person's: fail, pass.
        let cells = [[self.caught, self.accused], [self.missed, self.cleared]].map(|row| row.map(|count| count as f64 / n));
        let row = [cells[0][0] + cells[0][1], cells[1][0] + cells[1][1]];
        let column = [cells[0][0] + cells[1][0], cells[0][1] + cells[1][1]];
        let agreed = cells[0][0] + cells[1][1];
        let chance = row[0] * column[0] + row[1] * column[1];
        if self.readable() == 0 || chance >= 1.0 {
            return None;
        }
        let kappa = (agreed - chance) / (1.0 - chance);
        let on: f64 = (0..2).map(|i| cells[i][i] * (1.0 - (row[i] + column[i]) * (1.0 - kappa)).powi(2)).sum();
        let off = cells[0][1] * (column[0] + row[1]).powi(2) + cells[1][0] * (column[1] + row[0]).powi(2);
        let variance = (on + (1.0 - kappa).powi(2) * off - (kappa - chance * (1.0 - kappa)).powi(2)) / ((1.0 - chance).powi(2) * n);
        Some(Estimate::around(kappa, variance, -1.0, 1.0))
    }

    /// What should be known before the judge is used; empty when nothing speaks against it.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let (passes, fails) = (self.specificity().of, self.sensitivity().of);
        if passes.min(fails) < LABELS_FEW {
            warnings.push(Warning::FewLabels { passes, fails });
        }
        let of_fails = Proportion { hits: self.unreadable_fails, of: self.unreadable_fails + fails };
        let of_passes = Proportion { hits: self.unreadable_passes, of: self.unreadable_passes + passes };
        if let (Some(difference), Some(fails), Some(passes)) = (of_fails.minus(of_passes), of_fails.estimate(), of_passes.estimate())
            && !difference.holds(0.0)
        {
            warnings.push(Warning::UnreadableDiffers { fails, passes });
        }
        warnings.extend(self.verbosity.filter(Verbosity::beyond_labels).map(Warning::PrefersLonger));
        warnings.extend(self.swap_consistency().estimate().filter(|share| share.value < SWAP_CONSISTENCY_LOW).map(Warning::PrefersAPlace));
        warnings
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewLabels { passes, fails } => {
                write!(f, "{passes} items labelled pass and {fails} labelled fail: label at least {LABELS_FEW} of each, or intervals stay wide")
            }
            Self::UnreadableDiffers { fails, passes } => write!(
                f,
                "replies are unreadable for {:.0} % of fails and {:.0} % of passes: what can be read is a biased part",
                fails.value * 100.0,
                passes.value * 100.0
            ),
            Self::PrefersLonger(Verbosity { label_ratio, verdict_ratio, given_label: Estimate { value, low, high }, .. }) => write!(
                f,
                "longer answers pass more often than people let them: those it passes are {verdict_ratio:.2} times as long as those it fails, by labels \
                 {label_ratio:.2} times (correlation given the label {value:.2}, 95 % {low:.2} to {high:.2})"
            ),
            Self::PrefersAPlace(share) => {
                write!(
                    f,
                    "{:.0} % of verdicts stay when the answers change places: ask in both orders, and take only what both say",
                    share.value * 100.0
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(caught: u64, missed: u64, cleared: u64, accused: u64) -> Calibration {
        Calibration { caught, missed, cleared, accused, ..Calibration::default() }
    }

    fn shown(estimate: Option<Estimate>) -> String {
        estimate.map_or("none".to_owned(), |e| format!("{:.4} {:.4} {:.4}", e.value, e.low, e.high))
    }

    #[test]
    fn counts_go_where_label_and_verdict_say() {
        let item = |label, verdict| Item { cost_nano_usd: 5, ..Item::new(label, verdict) };
        let swapped = Item { swapped: Some(Some(false)), ..item(true, Some(true)) };
        let lost = Item { swapped: Some(None), ..item(true, Some(true)) };
        let counted = Calibration::of(&[
            item(false, Some(false)),
            item(false, Some(true)),
            item(true, Some(true)),
            item(true, Some(false)),
            item(false, None),
            item(true, None),
            swapped,
            lost,
        ]);
        let expected =
            Calibration { unreadable_fails: 1, unreadable_passes: 1, swapped: 1, swapped_same: 0, cost_nano_usd: 40, ..calibration(1, 1, 3, 1) };
        assert_eq!(counted, expected);
        assert_eq!(counted.unreadable(), Proportion { hits: 2, of: 8 });
    }

    #[test]
    fn figures_are_those_of_the_textbook() {
        // Kappa: the 2 by 2 table of Cohen's own kind, 20, 5, 10, 15: agreement 0.7, chance 0.5, kappa 0.4.
        let table = calibration(20, 10, 15, 5);
        assert_eq!(shown(table.kappa()), "0.4000 0.1511 0.6489");
        assert_eq!(shown(table.agreement().estimate()), "0.7000 0.5625 0.8090");
        assert_eq!(shown(table.sensitivity().estimate()), "0.6667 0.4878 0.8077");
        assert_eq!(shown(calibration(10, 0, 0, 0).kappa()), "none");
        assert_eq!(shown(Calibration::default().kappa()), "none");
        assert_eq!(shown(Calibration::default().youden()), "none");
    }

    #[test]
    fn newcombes_example_of_a_difference() {
        // Newcombe 1998, table II, column a: 56/70 and 48/80, method 10.
        let youden = calibration(56, 14, 32, 48).youden();
        assert_eq!(shown(youden), "0.2000 0.0524 0.3339");
    }

    #[test]
    fn warnings_are_given_when_they_hold_and_only_then() {
        let said = |calibration: &Calibration| calibration.warnings().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(said(&calibration(30, 3, 30, 3)), [""; 0]);
        assert_eq!(said(&calibration(10, 3, 30, 3)).len(), 1);
        let lost = Calibration { unreadable_fails: 20, ..calibration(40, 3, 60, 3) };
        assert_eq!(said(&lost), ["replies are unreadable for 32 % of fails and 0 % of passes: what can be read is a biased part"]);
        let places = Calibration { swapped: 100, swapped_same: 60, ..calibration(40, 3, 60, 3) };
        assert_eq!(said(&places), ["60 % of verdicts stay when the answers change places: ask in both orders, and take only what both say"]);
    }
}
