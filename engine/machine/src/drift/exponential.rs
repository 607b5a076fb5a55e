//! The exponential of many numbers at once: most of what a tick costs.
//!
//! Only multiplications and additions in a fixed order, without branches: the compiler takes several numbers at a time, and the bits are the same on
//! every machine. Within 1e-15 of the truth, relatively.

use std::f64::consts::{LN_2, LOG2_E};

/// Beyond, nothing changes for evidence: it is none, or more than it is cut off at.
const LIMIT: f64 = 700.0;
/// Adding it to a number below 2^51 leaves the nearest whole number in the lowest bits.
const WHOLE: f64 = 6_755_399_441_055_744.0;
/// The upper bits of ln 2, whose multiples by whole numbers up to 2^20 are exact, and the rest.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// 1/13! down to 1/2!.
const TAYLOR: [f64; 12] = {
    let mut terms = [0.0; 12];
    let (mut at, mut factorial) = (0, 1.0);
    while at < 12 {
        factorial *= (at + 2) as f64;
        terms[11 - at] = 1.0 / factorial;
        at += 1;
    }
    terms
};

/// Each of `values` becomes its exponential. `NAN` stays.
pub fn exponentials(values: &mut [f64]) {
    for value in values {
        let limited = if *value > LIMIT { LIMIT } else { *value };
        let limited = if limited < -LIMIT { -LIMIT } else { limited };
        let shifted = limited * LOG2_E + WHOLE;
        let whole = shifted - WHOLE;
        // |rest| ≤ ln 2 / 2.
        let rest = limited - whole * LN_2_HIGH - whole * LN_2_LOW;
        let mut sum = 0.0;
        for term in TAYLOR {
            sum = sum * rest + term;
        }
        let mantissa = 1.0 + (rest + rest * rest * sum);
        *value = mantissa * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    }
}

const _: () = assert!(LN_2 - LN_2_HIGH < 2e-10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_libm() {
        let mut values: Vec<f64> =
            (-69_999..=69_999).map(|value| f64::from(value) * 0.01).chain([0.0, -0.0, 1e-300, 0.346_573, -0.346_574]).collect();
        let expected: Vec<f64> = values.iter().map(|value| libm::exp(*value)).collect();
        exponentials(&mut values);
        for (got, expected) in values.iter().zip(expected) {
            assert!((got / expected - 1.0).abs() < 1e-15, "{got:e} is not {expected:e}");
        }
    }

    #[test]
    fn what_lies_beyond_is_cut_off_and_what_is_no_number_stays_none() {
        let mut values = [1e9, f64::INFINITY, -1e9, f64::NEG_INFINITY, f64::NAN];
        exponentials(&mut values);
        assert!(values[0] > 1e300 && values[1] == values[0] && values[2] < 1e-300 && values[3] == values[2] && values[4].is_nan(), "{values:?}");
    }
}
