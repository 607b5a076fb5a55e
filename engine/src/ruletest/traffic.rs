//! All calls of a test as one stream in the order of time: generated ones and those of the author's own.

use super::format::{Own, Stream, Test};
use fixtures::PhraseCalls;
use model::{Span, Timestamp};

type Lines = Box<dyn Iterator<Item = std::io::Result<Vec<u8>>>>;

/// The calls, each with the time at which the server takes it, and the source each comes from: a generated call ends as it comes, and one's own comes
/// in the order of its lines, never before the line above.
pub(super) struct Traffic {
    sources: Vec<(Source, Option<(Timestamp, Vec<u8>)>)>,
    /// When it begins.
    pub start: Timestamp,
    /// When the last phase is over.
    pub end: Timestamp,
}

enum Source {
    Generated(PhraseCalls),
    Own { name: String, lines: Lines, number: u64, latest: Timestamp },
}

impl Traffic {
    pub fn of(test: &Test) -> Result<Self, String> {
        let mut sources = Vec::new();
        if let Some(own) = &test.own {
            let (name, lines) = match own {
                Own::Inline(text) => {
                    let lines: Vec<_> = text.lines().map(|line| Ok(line.as_bytes().to_vec())).collect();
                    ("`calls`".to_owned(), Box::new(lines.into_iter()) as Lines)
                }
                Own::File(path) => {
                    let name = path.display().to_string();
                    let lines = fixtures::recorded_lines(path).map_err(|error| format!("cannot read {name}: {error}"))?;
                    (name, Box::new(lines) as Lines)
                }
            };
            let mut source = Source::Own { name, lines, number: 0, latest: test.start.unwrap_or(Timestamp::EPOCH) };
            let first = source.next()?;
            sources.push((source, first));
        }
        let first = sources.first().and_then(|(_, first)| first.as_ref().map(|(at, _)| *at));
        let start = test.start.or(first).unwrap_or(Timestamp::EPOCH);
        let mut end = start;
        for (at, Stream { phrase, log }) in test.streams.iter().enumerate() {
            // Streams of one test are independent of each other.
            let seed = test.seed.wrapping_add((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut source = Source::Generated(phrase.calls(log.clone(), start.millis(), seed));
            let first = source.next()?;
            sources.push((source, first));
            end = end.max(start + Span::from_millis(phrase.millis()));
        }
        Ok(Self { sources, start, end })
    }

    /// The next call; of calls at one time, those of the source listed first.
    pub fn next(&mut self) -> Result<Option<(Timestamp, Vec<u8>)>, String> {
        let earliest = self.sources.iter_mut().filter(|(_, next)| next.is_some()).min_by_key(|(_, next)| next.as_ref().map(|(at, _)| *at));
        let Some((source, next)) = earliest else { return Ok(None) };
        let after = source.next()?;
        Ok(std::mem::replace(next, after))
    }
}

impl Source {
    fn next(&mut self) -> Result<Option<(Timestamp, Vec<u8>)>, String> {
        match self {
            Self::Generated(calls) => match calls.next() {
                None => Ok(None),
                Some((ms, log)) => {
                    let at = Timestamp::from_millis(ms).ok_or("the traffic goes on beyond the year 9999")?;
                    Ok(Some((at, log)))
                }
            },
            Self::Own { name, lines, number, latest } => {
                for line in lines.by_ref() {
                    *number += 1;
                    let line = line.map_err(|error| format!("cannot read {name} on from line {number}: {error}"))?;
                    if line.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    let call = model::parse(&line).map_err(|malformed| format!("{name}, line {number}: {}", malformed.detail))?;
                    *latest = (*latest).max(call.time);
                    return Ok(Some((*latest, line)));
                }
                Ok(None)
            }
        }
    }
}
