//! Whether a judge lets longer answers pass beyond what people do.
//!
//! People, too, may find longer answers better, and often they are. So lengths are compared within each label: among answers of which people say the
//! same, length should tell nothing of the verdict.

use super::proportion::{Estimate, Z};

/// How long an answer is, or by how much the first of a pair is longer, on a logarithmic scale: twice as long counts alike everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length(f64);

impl Length {
    /// Of one answer, in characters.
    pub fn of(chars: usize) -> Self {
        Self(libm::log1p(chars as f64))
    }

    /// Of the first answer of a pair against the second.
    pub fn between(first: usize, second: usize) -> Self {
        Self(libm::log1p(first as f64) - libm::log1p(second as f64))
    }

    pub(super) fn value(self) -> f64 {
        self.0
    }
}

/// How length goes with passing; of pairs, the first answer's length against the second's with the first being the better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verbosity {
    pub items: usize,
    /// How many times as long as failing answers passing ones are, by people's labels; means are geometric. 1 where all have one label.
    pub label_ratio: f64,
    /// The same by the judge's verdicts.
    pub verdict_ratio: f64,
    /// Correlation of length with people's labels, −1 to 1.
    pub label: f64,
    /// Correlation of length with the judge's verdicts.
    pub verdict: f64,
    /// Correlation of length with the judge's verdicts among answers of one label: the partial one, with Fisher's interval.
    pub given_label: Estimate,
}

/// One item with a readable verdict and a known length.
pub(super) struct Sample {
    pub length: f64,
    pub label: bool,
    pub verdict: bool,
}

/// Fewer items say nothing of a correlation: Fisher's interval would span most of −1 to 1.
pub(super) const ITEMS_MIN: usize = 20;

impl Verbosity {
    pub(super) fn of(samples: &[Sample]) -> Option<Self> {
        if samples.len() < ITEMS_MIN {
            return None;
        }
        let number = f64::from;
        let lengths: Vec<f64> = samples.iter().map(|sample| sample.length).collect();
        let labels: Vec<f64> = samples.iter().map(|sample| number(sample.label)).collect();
        let verdicts: Vec<f64> = samples.iter().map(|sample| number(sample.verdict)).collect();
        let within = |values: &[f64]| centred(values, samples);
        let partial = correlation(&within(&lengths), &within(&verdicts))?;
        // Fisher 1924: one variable held fixed costs one more degree of freedom. A correlation of 1 has no finite transform.
        let (z, half) = (libm::atanh(partial.clamp(-0.999_999, 0.999_999)), Z / (samples.len() as f64 - 4.0).sqrt());
        let given_label = Estimate { value: partial, low: libm::tanh(z - half), high: libm::tanh(z + half) };
        let (label, verdict) = (correlation(&lengths, &labels).unwrap_or(0.0), correlation(&lengths, &verdicts)?);
        let (label_ratio, verdict_ratio) = (ratio(samples, |sample| sample.label), ratio(samples, |sample| sample.verdict));
        Some(Self { items: samples.len(), label_ratio, verdict_ratio, label, verdict, given_label })
    }

    /// The judge prefers longer answers beyond what labels do, by more than chance.
    pub fn beyond_labels(&self) -> bool {
        self.given_label.low > 0.0
    }
}

/// Each value less the mean of those with its label.
fn centred(values: &[f64], samples: &[Sample]) -> Vec<f64> {
    let mean = |label: bool| {
        let (sum, count) =
            values.iter().zip(samples).filter(|(_, sample)| sample.label == label).fold((0.0, 0.0), |(s, n), (value, _)| (s + value, n + 1.0));
        sum / f64::max(count, 1.0)
    };
    let means = [mean(false), mean(true)];
    values.iter().zip(samples).map(|(value, sample)| value - means[usize::from(sample.label)]).collect()
}

/// How many times as long those are that pass, by geometric means.
fn ratio(samples: &[Sample], passes: impl Fn(&Sample) -> bool) -> f64 {
    let mean = |pass: bool| {
        let lengths: Vec<_> = samples.iter().filter(|sample| passes(sample) == pass).map(|sample| sample.length).collect();
        (!lengths.is_empty()).then(|| lengths.iter().sum::<f64>() / lengths.len() as f64)
    };
    mean(true).zip(mean(false)).map_or(1.0, |(passing, failing)| libm::exp(passing - failing))
}

/// Pearson's; `None` where one of them does not vary.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(a - mean_a, b - mean_b)).sum::<f64>();
    let (ab, aa, bb) = (sum(&|a, b| a * b), sum(&|a, _| a * a), sum(&|_, b| b * b));
    (aa > 1e-12 && bb > 1e-12).then(|| ab / (aa * bb).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths that follow the label, and verdicts that follow the label or the length.
    fn samples(follows_length: bool) -> Vec<Sample> {
        (0..200)
            .map(|index| {
                let label = index % 2 == 0;
                let long = index % 3 == 0;
                let length = if label { 6.0 } else { 5.0 } + if long { 1.0 } else { 0.0 };
                let verdict = if follows_length { long } else { index % 10 < 8 && label };
                Sample { length, label, verdict }
            })
            .collect()
    }

    #[test]
    fn a_judge_that_goes_by_length_is_told_from_one_that_goes_by_labels() {
        let by_label = Verbosity::of(&samples(false)).expect("enough of them");
        assert!(by_label.label > 0.6 && by_label.verdict > 0.4 && !by_label.beyond_labels(), "{by_label:?}");
        let by_length = Verbosity::of(&samples(true)).expect("enough of them");
        assert!(by_length.beyond_labels() && by_length.given_label.value > 0.9, "{by_length:?}");
        // Lengths differ by 1 on the logarithmic scale.
        assert!(
            (by_length.verdict_ratio - std::f64::consts::E).abs() < 0.1 && (by_length.label_ratio - std::f64::consts::E).abs() < 0.1,
            "{by_length:?}"
        );
    }

    #[test]
    fn nothing_is_said_of_too_few_or_of_what_does_not_vary() {
        assert_eq!(Verbosity::of(&samples(false)[..ITEMS_MIN - 1]), None);
        let same = |_| Sample { length: 5.0, label: true, verdict: true };
        assert_eq!(Verbosity::of(&(0..50).map(same).collect::<Vec<_>>()), None);
    }

    #[test]
    fn twice_as_long_is_the_same_distance_in_both_directions() {
        assert_eq!(Length::between(10, 10).value(), 0.0);
        assert_eq!(Length::between(99, 9).value(), -Length::between(9, 99).value());
        assert!(Length::of(200).value() > Length::of(100).value());
    }
}
