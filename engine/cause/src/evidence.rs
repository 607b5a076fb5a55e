//! Likelihood ratios and intervals of counts. Natural logarithms; counts are numbers of calls that were really seen, and may be broken.

/// `x · ln(x / y)`, 0 at x = 0.
pub(crate) fn times_log(x: f64, y: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x * libm::log(x / y.max(f64::MIN_POSITIVE)) }
}

/// Log likelihood ratio of so many bad calls in a part, given how many there are in all, against the share expected there: the binomial's relative
/// entropy times its trials. Chance gives more than this with a probability of at most e^−it (Chernoff 1952).
pub(crate) fn concentration(bad: f64, expected: f64, all: f64) -> f64 {
    times_log(bad, expected) + times_log(all - bad, all - expected)
}

/// The same where what is expected is itself only known as well as from `shape` bad calls: the gamma–Poisson's deviance. Grows to Poisson's with the shape.
pub(crate) fn uncertain(bad: f64, expected: f64, shape: f64) -> f64 {
    if shape.is_infinite() {
        return (times_log(bad, expected) - bad + expected).max(0.0);
    }
    (times_log(bad, expected) - (bad + shape) * libm::log((bad + shape) / (expected + shape))).max(0.0)
}

/// From a log likelihood ratio to minus the logarithm of the chance of as much or more: Chernoff's bound is loose by about `√(4π · evidence)`, the next term
/// of its expansion (Bahadur and Ranga Rao 1960).
pub(crate) fn tail(evidence: f64) -> f64 {
    evidence + 0.5 * libm::log((4.0 * core::f64::consts::PI * evidence).max(1.0))
}

/// Half the G statistic of a two by two table: `a` of `m` here, `c` of `n` there. 0 where one of them is empty.
pub(crate) fn association(a: f64, m: f64, c: f64, n: f64) -> f64 {
    let (all, hits) = (m + n, a + c);
    if m <= 0.0 || n <= 0.0 || hits <= 0.0 || hits >= all {
        return 0.0;
    }
    let (m_share, n_share) = (m / all, n / all);
    times_log(a, hits * m_share) + times_log(c, hits * n_share) + times_log(m - a, (all - hits) * m_share) + times_log(n - c, (all - hits) * n_share)
}

/// Wilson's 95 % interval of a share, `of` > 0.
pub(crate) fn wilson(hits: f64, of: f64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    let (p, z2) = (hits / of, Z * Z);
    let centre = (p + z2 / (2.0 * of)) / (1.0 + z2 / of);
    let half = Z * (p * (1.0 - p) / of + z2 / (4.0 * of * of)).max(0.0).sqrt() / (1.0 + z2 / of);
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Newcombe's 95 % interval of the difference of two shares (1998, method 10).
pub(crate) fn difference(a: f64, m: f64, c: f64, n: f64) -> (f64, f64) {
    let (p, q) = (a / m, c / n);
    let ((p_low, p_high), (q_low, q_high)) = (wilson(a, m), wilson(c, n));
    let square = |x: f64| x * x;
    let low = p - q - (square(p - p_low) + square(q_high - q)).sqrt();
    let high = p - q + (square(p_high - p) + square(q - q_low)).sqrt();
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_expected_and_nothing_seen_is_no_evidence() {
        assert_eq!(concentration(0.0, 0.0, 0.0), 0.0);
        assert_eq!(association(0.0, 0.0, 3.0, 9.0), 0.0);
        assert_eq!(uncertain(0.0, 0.0, 1.0), 0.0);
    }

    #[test]
    fn chance_reaches_the_evidence_no_more_often_than_it_says() {
        // Binomial(40, 0.1): every tail against its bound, summed exactly.
        let (n, q) = (40u64, 0.1f64);
        let term = |k: u64| (0..k).fold(0.9f64.powi((n - k) as i32), |product, i| product * q * (n - i) as f64 / (k - i) as f64);
        for bad in 5..=n {
            let tail: f64 = (bad..=n).map(term).sum();
            let bound = (-concentration(bad as f64, 4.0, 40.0)).exp();
            assert!(tail <= bound * (1.0 + 1e-9), "{bad}: {tail} > {bound}");
        }
    }

    #[test]
    fn the_tail_is_close_to_the_normal_one() {
        // At 3.7 standard deviations: 1.08e-4.
        let chance = (-tail(0.5 * 3.7 * 3.7)).exp();
        assert!((1.08e-4..1.25e-4).contains(&chance), "{chance}");
        assert_eq!(tail(0.0), 0.0);
    }

    #[test]
    fn what_is_hardly_known_is_hardly_evidence() {
        let known = uncertain(300.0, 30.0, 1e9);
        assert!((known - (300.0 * 10f64.ln() - 270.0)).abs() < 1e-3);
        assert!(uncertain(300.0, 30.0, 1.0) < 7.0);
    }

    #[test]
    fn wilson_and_newcombe_give_the_published_intervals() {
        // Newcombe (1998), example (a): 56/70 and 48/80.
        let (low, high) = difference(56.0, 70.0, 48.0, 80.0);
        assert!((low - 0.0524).abs() < 5e-4 && (high - 0.3339).abs() < 5e-4, "{low} {high}");
        let (low, high) = wilson(81.0, 263.0);
        assert!((low - 0.2553).abs() < 5e-4 && (high - 0.3662).abs() < 5e-4, "{low} {high}");
    }
}
