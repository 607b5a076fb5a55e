//! The calls of a file, or an even draw of them that the same seed makes again.

use crate::backtest::lines::Lines;
use crate::error::Fault;
use bytes::Bytes;
use model::CallLog;
use model::plan::fingerprint;
use std::collections::BTreeMap;
use std::path::Path;

/// Calls that are looked at together; all are in memory.
const CALLS_MAX: usize = 100_000;
/// Their texts.
const BYTES_MAX: usize = 1 << 30;

/// One call, which was parsed when it was read.
#[derive(Clone, Debug)]
pub struct Sampled(Bytes);

#[derive(Debug, Default)]
pub struct Read {
    /// In the file's order.
    pub calls: Vec<Sampled>,
    /// Of the file: those with something on them, and those of them that are no calls.
    pub lines: u64,
    pub malformed: u64,
    /// Calls of which `calls` is a draw, and the seed; `None`: all are there.
    pub drawn: Option<(u64, u64)>,
}

impl Sampled {
    pub fn call(&self) -> CallLog<'_> {
        model::parse(&self.0).expect("calls were parsed when they were read")
    }
}

/// Reads a file of calls: plain, gzipped or compressed with zstd. Of a `sample`, each call has the same chance.
///
/// # Errors
/// When it cannot be read, holds no call, or more than are looked at together.
pub fn read(path: &Path, sample: Option<usize>, seed: u64) -> Result<Read, Fault> {
    let (mut lines, _) = Lines::open(path)?;
    let most = sample.unwrap_or(CALLS_MAX);
    if !(1..=CALLS_MAX).contains(&most) {
        return Err(Fault::new(format!("cannot look at {most} calls"), format!("--sample is from 1 to {CALLS_MAX}")));
    }
    let mut read = Read::default();
    // The calls with the smallest draws so far, by draw and line: whatever comes later, that is an even sample of what was read.
    let mut kept: BTreeMap<(u64, u64), Bytes> = BTreeMap::new();
    let (mut bytes, mut calls) = (0, 0u64);
    while let Some(batch) = lines.next()? {
        for envelope in batch {
            read.lines += 1;
            if model::parse(&envelope.payload).is_err() {
                read.malformed += 1;
                continue;
            }
            calls += 1;
            let draw = (sample.map_or(envelope.sequence, |_| draw(seed, envelope.sequence)), envelope.sequence);
            if kept.len() == most {
                let Some(largest) = kept.last_entry().filter(|largest| sample.is_some() && *largest.key() > draw) else {
                    if sample.is_some() {
                        continue;
                    }
                    return Err(too_many(path));
                };
                bytes -= largest.remove().len();
            }
            bytes += envelope.payload.len();
            // A batch's lines share one buffer, which a few of them must not keep.
            kept.insert(draw, Bytes::copy_from_slice(&envelope.payload));
            if bytes > BYTES_MAX {
                return Err(too_many(path));
            }
        }
    }
    if kept.is_empty() {
        return Err(Fault::new(format!("{} holds no call", path.display()), "name a file of JSON lines, one call log each"));
    }
    read.drawn = (calls > kept.len() as u64).then_some((calls, seed));
    let mut kept: Vec<_> = kept.into_iter().map(|((_, line), call)| (line, call)).collect();
    kept.sort_unstable_by_key(|(line, _)| *line);
    read.calls = kept.into_iter().map(|(_, call)| Sampled(call)).collect();
    Ok(read)
}

fn too_many(path: &Path) -> Fault {
    let what = format!("{} holds more than {CALLS_MAX} calls, or {} MiB of them", path.display(), BYTES_MAX >> 20);
    Fault::new(what, "draw some of them: --sample 2000")
}

/// As good as random, by the seed and the line alone.
pub(crate) fn draw(seed: u64, line: u64) -> u64 {
    model::verdict::draw_of_run(&format!("{:016x}", fingerprint(&[&seed.to_string(), &line.to_string()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize, sample: Option<usize>, seed: u64) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let line = |number: usize| format!("{{\"id\":\"{number}\",\"time\":1700000000000,\"model\":\"m\"}}\n");
        std::fs::write(file.path(), (0..count).map(line).collect::<String>() + "not a call\n").expect("it is written");
        let read = read(file.path(), sample, seed).expect("it reads");
        assert_eq!((read.lines, read.malformed), (count as u64 + 1, 1));
        assert_eq!(read.drawn, sample.filter(|most| *most < count).map(|_| (count as u64, seed)));
        read.calls.iter().map(|item| item.call().id.into_owned()).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_calls_in_their_order_and_another_draws_others() {
        let first = ids(500, Some(50), 7);
        assert_eq!(first.len(), 50);
        assert_eq!(first, ids(500, Some(50), 7));
        assert_ne!(first, ids(500, Some(50), 8));
        let numbers: Vec<usize> = first.iter().map(|id| id.parse().expect("a number")).collect();
        assert!(numbers.is_sorted());
        assert_eq!(ids(30, None, 1).len(), 30);
        assert_eq!(ids(30, Some(50), 1).len(), 30);
    }

    #[test]
    fn every_call_has_the_same_chance() {
        let mut drawn = [0u32; 40];
        for seed in 0..400 {
            ids(40, Some(10), seed).iter().for_each(|id| drawn[id.parse::<usize>().expect("a number")] += 1);
        }
        // Binomial(400, 0.25) has a standard deviation of 8.7.
        assert!(drawn.iter().all(|count| count.abs_diff(100) < 45), "{drawn:?}");
    }
}
