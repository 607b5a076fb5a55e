//! What one watch of one group showed over time, for a chart: its window as it was at the end of each step.
//!
//! It is put together from the slices that are kept, which are wider the older they are, so that steps are a minute at least and an hour for what is
//! older than a day. The range is not kept over time; what a chart shows of it is what the caller knows of it now.

use crate::chart::Point;
use crate::daemon::Reader;
use crate::error::Fault;
use crate::http::explain::{add, point};
use crate::judging::calibrated::believed;
use crate::store::Store;
use machine::{HOURS_AFTER, SliceBlock};
use model::fold::Cell;
use model::plan::{Plan, Range, Watch};
use model::{Labels, Quantiles, Span, Timestamp};
use std::collections::VecDeque;

/// A chart of a page is some 300 points wide at most; each costs a merge of its window.
const POINTS_MAX: u64 = 180;
/// Slices of a day are some 2,000 to read.
pub const REACH_MAX: Span = Span::from_secs(24 * 3600);
/// Read at one time, so that a day is not in memory at once.
const CHUNK: Span = Span::from_secs(600);

/// Whose curve it is.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    pub plan: &'a Plan,
    pub watch: &'a Watch,
    pub environment: &'a str,
    /// The first labels of a group, or all of them.
    pub labels: &'a Labels,
    /// Drawn for every point.
    pub expected: Option<Range>,
}

#[derive(Clone, Debug)]
pub struct Curve {
    pub points: Vec<(Timestamp, Point)>,
    /// What each point is over.
    pub window: Span,
}

/// From `from` to `to`, of which the last [`REACH_MAX`] at most.
///
/// # Errors
/// When the store cannot be read, or the engine is stopping.
pub async fn read(reader: &Reader, store: &Store, of: Of<'_>, from: Timestamp, to: Timestamp) -> Result<Curve, Fault> {
    let from = from.max(to - REACH_MAX);
    let name = of.environment.to_owned();
    let Some((clock, open)) = reader
        .ask(move |machine| {
            let clock = machine.clocks().find(|(known, _)| *known == name)?.1;
            Some((clock, machine.open(&name, from - REACH_MAX)?))
        })
        .await?
    else {
        return Ok(Curve { points: Vec::new(), window: of.watch.window });
    };
    let step = step(to.since(from), from - of.watch.window.min(REACH_MAX) < clock - HOURS_AFTER);
    let before = of.watch.window.min(REACH_MAX).millis().div_ceil(step.millis()).max(1);
    let window = Span::from_millis(before * step.millis());
    let grouping = &of.plan.groupings[of.watch.grouping];
    let (identity, mut scratch) = (grouping.identity(), Quantiles::new());
    let first = from.floor(step) - window;
    let mut last: VecDeque<Cell> = VecDeque::new();
    let mut points = Vec::new();
    let (mut chunk_end, mut blocks): (Timestamp, Vec<SliceBlock>) = (first, Vec::new());
    let mut begin = first;
    while begin < to {
        if begin >= chunk_end {
            let until = begin + CHUNK.max(step);
            let (environment, sealed) = (of.environment.to_owned(), until.min(open.sealed_to));
            blocks = if begin < sealed { store.ask(move |db| db.blocks(&environment, begin, sealed)).await? } else { Vec::new() };
            // Where chunks do not end with a step, the step begins the next chunk.
            chunk_end = until.floor(step).max(begin + step);
        }
        let end = begin + step;
        let mut cell = Cell::new(grouping);
        let sealed = blocks.iter().filter(|block| block.start < open.sealed_to);
        for block in sealed.chain(&open.blocks).filter(|block| (begin..end).contains(&block.start)) {
            add(&mut cell, block, of.watch, &identity, of.labels);
        }
        last.push_back(cell);
        if last.len() as u64 > before {
            last.pop_front();
        }
        if end > from {
            let mut sum = Cell::new(grouping);
            last.iter().for_each(|cell| sum.merge(cell));
            let seen = point(of.plan, of.watch, &sum, end, &mut scratch);
            // What a judge says of a sample is weighted by how many calls each stands for.
            let value = if of.watch.statistic.estimates() { believed(&sum.opinions, None).map(|believed| believed.raw.value) } else { seen.value };
            let value = value.filter(|_| seen.calls >= of.watch.at_least.max(1));
            points.push((end.min(to), Point { value, expected: of.expected, calls: seen.calls }));
        }
        begin = end;
    }
    Ok(Curve { points, window })
}

/// The finest round step that gives no more than [`POINTS_MAX`] points; of what is kept by the hour, an hour.
fn step(reach: Span, by_the_hour: bool) -> Span {
    const MINUTES: [u64; 7] = [1, 2, 5, 10, 15, 30, 60];
    let fits = |minutes: &u64| reach.millis() / (minutes * 60_000) <= POINTS_MAX && (!by_the_hour || *minutes == 60);
    Span::from_secs(60 * MINUTES.into_iter().find(fits).unwrap_or(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_as_fine_as_a_chart_shows_and_the_store_keeps() {
        let minutes = |reach: u64, by_the_hour| step(Span::from_secs(reach * 60), by_the_hour).millis() / 60_000;
        assert_eq!([minutes(30, false), minutes(180, false), minutes(181, false), minutes(1440, false)], [1, 1, 2, 10]);
        assert_eq!(minutes(30, true), 60);
    }
}
