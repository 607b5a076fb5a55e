//! The same false-alarm rate for every detector: thresholds from the running maxima of their statistics on the same streams without a change.
//!
//! A detector first reaches a threshold when its running maximum does, so the records of one pass give the time to the first false alarm for all
//! thresholds at once, exactly.

/// The records of one stream's running maximum: ticks since it was watched (from 1), and values.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<(u32, f64)>);

impl Records {
    pub fn see(&mut self, ticks: u32, statistic: f64) {
        if self.0.last().is_none_or(|(_, highest)| statistic > *highest) && statistic > f64::NEG_INFINITY {
            self.0.push((ticks, statistic));
        }
    }
}

/// Mean ticks to the first alarm at `threshold`, and the number of alarms: watched time by alarms, the estimate of greatest likelihood where some
/// streams end before they alarm.
pub fn run_length(records: &[Records], threshold: f64, horizon: u32) -> (f64, usize) {
    let (mut watched, mut alarms) = (0.0, 0);
    for Records(records) in records {
        let first = records.partition_point(|(_, value)| *value < threshold);
        match records.get(first) {
            Some((ticks, _)) => {
                watched += f64::from(*ticks);
                alarms += 1;
            }
            None => watched += f64::from(horizon),
        }
    }
    (if alarms == 0 { f64::INFINITY } else { watched / alarms as f64 }, alarms)
}

/// The lowest threshold with at least `ticks` to the first alarm on average.
pub fn threshold(records: &[Records], ticks: f64, horizon: u32) -> f64 {
    let mut values: Vec<f64> = records.iter().flat_map(|Records(records)| records.iter().map(|(_, value)| *value)).collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = values.partition_point(|value| run_length(records, *value, horizon).0 < ticks);
    values.get(at).copied().unwrap_or(f64::INFINITY)
}
