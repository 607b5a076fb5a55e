//! How far a judge is believed: what `judge calibrate` found of it, as the store keeps it, and the rate behind the rate that it reports.
//!
//! A calibration is of one text of a judge with its models: the fingerprint says which. After a change the old one says nothing of the new judge.
//! Deliberately absent: the arithmetic, which is `evaluators::calibration`, and asking.

use evaluators::calibration::{Calibration, Estimate, Observed, Sums, Uncorrectable};
use model::fold::Ratio;
use model::verdict::Inclusion;
use model::{Timestamp, show};
use serde::{Deserialize, Serialize};

/// A judge beside people's labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    pub judge: String,
    pub fingerprint: u64,
    pub at: Timestamp,
    /// Where the labels are from, for people.
    pub labels: String,
    /// The event is fail: fails that it fails and passes, passes that it passes and fails.
    pub caught: u64,
    pub missed: u64,
    pub cleared: u64,
    pub accused: u64,
    pub unreadable_fails: u64,
    pub unreadable_passes: u64,
    /// In nano-dollars.
    pub cost_nano_usd: u64,
}

/// A value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl From<Estimate> for Interval {
    fn from(Estimate { value, low, high }: Estimate) -> Self {
        Self { value, low, high }
    }
}

impl Interval {
    /// `12 % (9 % to 15 %)`.
    pub fn percent(&self) -> String {
        format!("{} ({} to {})", show::percent(self.value), show::percent(self.low), show::percent(self.high))
    }
}

/// Whether a judge is calibrated, as people and programs are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Trust {
    #[default]
    NotCalibrated,
    /// It was, with another text or another model.
    OfAnother { at: Timestamp, fingerprint: String },
    Calibrated {
        at: Timestamp,
        labels: String,
        fails: u64,
        passes: u64,
        /// Of readable fails the share that it fails, and of readable passes the share that it passes.
        sensitivity: Option<Interval>,
        specificity: Option<Interval>,
        /// Why its rates are not corrected.
        refused: Option<String>,
    },
}

/// A judge's rate of fails in some calls: as it says, and what that means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Believed {
    /// The judge's own, with the interval of what it would say of all calls.
    pub raw: Interval,
    /// Calls of equal weight that would say as much.
    pub effective: f64,
    /// What people would say, as far as the calibration tells.
    pub corrected: Option<Interval>,
    /// Why there is nothing corrected.
    pub uncorrected: Option<String>,
}

impl Calibrated {
    pub fn new(judge: &str, fingerprint: u64, at: Timestamp, labels: String, counted: &Calibration) -> Self {
        let Calibration { caught, missed, cleared, accused, unreadable_fails, unreadable_passes, cost_nano_usd, .. } = *counted;
        let judge = judge.to_owned();
        Self { judge, fingerprint, at, labels, caught, missed, cleared, accused, unreadable_fails, unreadable_passes, cost_nano_usd }
    }

    pub fn counted(&self) -> Calibration {
        let Self { caught, missed, cleared, accused, unreadable_fails, unreadable_passes, cost_nano_usd, .. } = *self;
        Calibration { caught, missed, cleared, accused, unreadable_fails, unreadable_passes, cost_nano_usd, ..Calibration::default() }
    }
}

/// Why rates of this judge cannot be corrected, whatever they are; `None`: they can.
pub fn refused(counted: &Calibration) -> Option<Uncorrectable> {
    Observed::counted(0, 1).and_then(|observed| counted.correct(&observed).err())
}

/// The calibration of a judge as it is now, of all there are, newest first.
pub fn of<'c>(all: &'c [Calibrated], judge: &str, fingerprint: u64) -> Option<&'c Calibrated> {
    all.iter().find(|known| known.judge == judge && known.fingerprint == fingerprint)
}

/// The same for people.
pub fn trust(all: &[Calibrated], judge: &str, fingerprint: u64) -> Trust {
    if let Some(known) = of(all, judge, fingerprint) {
        let counted = known.counted();
        let (sensitivity, specificity) = (counted.sensitivity(), counted.specificity());
        return Trust::Calibrated {
            at: known.at,
            labels: known.labels.clone(),
            fails: sensitivity.of,
            passes: specificity.of,
            sensitivity: sensitivity.estimate().map(Interval::from),
            specificity: specificity.estimate().map(Interval::from),
            refused: refused(&counted).map(|refused| first_line(&refused)),
        };
    }
    let another = all.iter().find(|known| known.judge == judge);
    another.map_or(Trust::NotCalibrated, |known| Trust::OfAnother { at: known.at, fingerprint: format!("{:016x}", known.fingerprint) })
}

/// What verdicts on a sample of calls say of all calls; `None` without an opinion. `calibrated`: of the judge whose they are.
pub fn believed(opinions: &[(Inclusion, Ratio)], calibrated: Option<&Calibrated>) -> Option<Believed> {
    let mut sums = Sums::default();
    for (inclusion, ratio) in opinions {
        let (weight, all, failed) = (inclusion.weight(), ratio.applies as f64, ratio.holds as f64);
        sums.weight += weight * all;
        sums.weight_failed += weight * failed;
        sums.square += weight * weight * all;
        sums.square_failed += weight * weight * failed;
    }
    Observed::weighted(&sums).map(|observed| Believed::of(&observed, calibrated))
}

impl Believed {
    pub fn of(observed: &Observed, calibrated: Option<&Calibrated>) -> Self {
        let corrected = calibrated.map(|known| known.counted().correct(observed));
        let (corrected, uncorrected) = match corrected {
            None => (None, Some("the judge is not calibrated".to_owned())),
            Some(Ok(corrected)) => (Some(corrected.rate.into()), None),
            Some(Err(refused)) => (None, Some(first_line(&refused))),
        };
        Self { raw: observed.raw().into(), effective: observed.effective(), corrected, uncorrected }
    }
}

impl std::fmt::Display for Believed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by the judge; ", self.raw.percent())?;
        match (&self.corrected, &self.uncorrected) {
            (Some(corrected), _) => write!(f, "{} corrected for what it misses and accuses", corrected.percent()),
            (None, why) => write!(f, "not corrected: {}", why.as_deref().unwrap_or("the judge is not calibrated")),
        }
    }
}

impl std::fmt::Display for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotCalibrated => f.write_str("not calibrated"),
            Self::OfAnother { at, fingerprint } => {
                write!(f, "calibrated as another judge {at} (it was changed since; it was {fingerprint})")
            }
            Self::Calibrated { at, labels, fails, passes, sensitivity, specificity, refused } => {
                let shown = |share: &Option<Interval>| share.map_or("unknown".to_owned(), |share| share.percent());
                write!(
                    f,
                    "calibrated {at} with {} labels of {labels}: it catches {} of {fails} fails and clears {} of {passes} passes",
                    fails + passes,
                    shown(sensitivity),
                    shown(specificity)
                )?;
                refused.as_ref().map_or(Ok(()), |why| write!(f, "; its rates are not corrected: {why}"))
            }
        }
    }
}

/// A refusal without its first words and its hint: where it is shown, what it is about has been said.
pub fn first_line(refused: &Uncorrectable) -> String {
    let text = refused.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("correct the judge's rate: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibrated(fingerprint: u64, caught: u64, missed: u64, cleared: u64, accused: u64) -> Calibrated {
        Calibrated { judge: "j".to_owned(), fingerprint, labels: "x".to_owned(), caught, missed, cleared, accused, ..Calibrated::default() }
    }

    #[test]
    fn a_judge_is_known_by_its_fingerprint_and_a_changed_one_is_another() {
        let all = [calibrated(1, 9, 1, 9, 1)];
        assert!(matches!(trust(&all, "j", 1), Trust::Calibrated { fails: 10, passes: 10, refused: None, .. }));
        assert!(matches!(trust(&all, "j", 2), Trust::OfAnother { .. }));
        assert_eq!(trust(&all, "k", 1), Trust::NotCalibrated);
        let said = trust(&[calibrated(1, 5, 5, 5, 5)], "j", 1).to_string();
        assert!(said.contains("its rates are not corrected: its verdicts are not told from chance"), "{said}");
    }

    #[test]
    fn a_weighted_rate_is_corrected_with_its_effective_size() {
        let (tenth, all) = (Inclusion::at_most(0.1), Inclusion::CERTAIN);
        let opinions = [(all, Ratio { holds: 0, applies: 1000 }), (tenth, Ratio { holds: 50, applies: 100 })];
        let plain = believed(&opinions, None).expect("there are opinions");
        assert!(plain.effective < 400.0 && plain.corrected.is_none(), "{plain:?}");
        let known = calibrated(1, 90, 10, 80, 20);
        let corrected = believed(&opinions, Some(&known)).expect("there are opinions");
        let rate = corrected.corrected.expect("it is better than chance");
        // (rate + 0.8 − 1) / 0.7.
        assert!((rate.value - (corrected.raw.value - 0.2) / 0.7).abs() < 1e-9, "{corrected}");
        assert!(believed(&[], Some(&known)).is_none());
    }
}
