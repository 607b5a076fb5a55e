//! Calls in great numbers, for datasets: which of those that match, with which probability each, and their payloads one after the other.
//!
//! What matches is gone through page by page, oldest first, up to the moment of asking, so that what comes meanwhile changes nothing. A sample is drawn
//! by the smallest of draws that follow from a seed and the call's sequence: the same seed draws the same calls for as long as they are there, and
//! each call of a stratum has the same probability. Memory holds a page, the payloads that are being read, and sixteen bytes a drawn call.
//!
//! Deliberately absent: HTTP and the audit log (`http/export.rs`), files and formats (the command `export`).

use crate::calls::{Calls, Payload, Unanswered};
use crate::error::Fault;
use crate::evaluation::sample::draw;
use crate::runs::Opinion;
use futures_util::{Stream, StreamExt, stream};
use index::{Cursor, Key, LIMIT_MAX, Number, Order, Query, Row, Text, Times};
use model::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BinaryHeap, HashMap};

/// Calls of all samples of one export: some megabytes of draws, and more than anybody labels.
pub const DRAWN_MAX: usize = 500_000;
/// Strata of one export; calls of further ones are drawn from together, as [`OTHER`].
const STRATA_MAX: usize = 1_000;
const OTHER: &str = "(other)";
/// Payloads that are read at once.
const READING_MAX: usize = 16;

/// A draw of `most` calls, or of so many for each value of `per`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub most: usize,
    pub seed: u64,
    pub per: Option<Key>,
}

/// Calls that are drawn from together: each has the probability `drawn / calls` of being there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stratum {
    /// The value of the key by which is drawn; empty where calls have none, and where all are drawn from together.
    pub label: String,
    pub calls: u64,
    pub drawn: u64,
    pub probability: f64,
    /// How many calls each drawn one stands for.
    pub weight: f64,
}

/// Which calls, before the first of them is read.
#[derive(Debug)]
pub struct Selected {
    /// Calls that match.
    pub matched: u64,
    /// Those of them that are handed out.
    pub calls: u64,
    /// One for all where nothing is drawn.
    pub strata: Vec<Stratum>,
    /// Which of the strata each drawn call is of; `None`: every call that matches is handed out.
    drawn: Option<HashMap<u64, u32>>,
}

/// A call as it is handed out.
#[derive(Debug)]
pub struct Handed {
    pub line: Value,
    pub expired: bool,
    pub unreadable: bool,
}

/// What is looked for; `times` ends where nothing new can come.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub query: Query,
    pub times: Times,
    pub sample: Option<Sample>,
    pub verdicts: bool,
}

/// The pages of a search, each of which begins where the one before it ended.
struct Pages {
    query: Query,
    times: Times,
    after: Option<Cursor>,
    ended: bool,
}

impl Pages {
    fn of(wanted: &Wanted) -> Self {
        Self { query: wanted.query.clone(), times: wanted.times, after: None, ended: false }
    }

    async fn next(&mut self, calls: &Calls) -> Result<Option<Vec<Row>>, Unanswered> {
        if self.ended {
            return Ok(None);
        }
        let found = calls.search(self.query.clone(), self.times, Order::Oldest, LIMIT_MAX, self.after).await?;
        self.after = found.next;
        self.ended = found.next.is_none();
        // What is older was looked at; a search without this would begin at the first group each time.
        self.times.from = found.rows.last().map(|last| last.time).or(self.times.from);
        Ok(Some(found.rows))
    }
}

/// The value of `key` that a call is drawn by. `None`: the key is none that calls are told apart by.
fn label<'r>(row: &'r Row, key: &Key) -> Option<std::borrow::Cow<'r, str>> {
    match key {
        Key::Text(text) => Some(row.text(*text).into()),
        Key::Property(name) => Some(row.property(name).unwrap_or_default().into()),
        Key::Number(Number::StatusCode) => Some(row.number(Number::StatusCode).map_or_else(String::new, |code| code.to_string()).into()),
        Key::Number(_) | Key::Tokens | Key::Time | Key::Signal => None,
    }
}

/// Whether calls can be drawn by this key.
pub fn is_stratum(key: &Key) -> bool {
    matches!(key, Key::Text(_) | Key::Property(_) | Key::Number(Number::StatusCode))
}

/// The calls with the smallest draws of each stratum, of those that were offered so far.
#[derive(Debug)]
struct Drawing<'s> {
    sample: &'s Sample,
    /// By label: how many there are, and the draws kept, the largest on top.
    strata: BTreeMap<String, (u64, BinaryHeap<(u64, u64)>)>,
    kept: usize,
}

impl<'s> Drawing<'s> {
    fn new(sample: &'s Sample) -> Self {
        Self { sample, strata: BTreeMap::new(), kept: 0 }
    }

    /// # Errors
    /// When more would be drawn than are kept in mind.
    fn offer(&mut self, row: &Row) -> Result<(), Fault> {
        let label = self.sample.per.as_ref().and_then(|key| label(row, key)).unwrap_or_default();
        let label = if self.strata.len() < STRATA_MAX || self.strata.contains_key(label.as_ref()) { label.as_ref() } else { OTHER };
        if !self.strata.contains_key(label) {
            self.strata.insert(label.to_owned(), (0, BinaryHeap::new()));
        }
        let (calls, draws) = self.strata.get_mut(label).expect("it was put there above");
        *calls += 1;
        let drawn = (draw(self.sample.seed, row.sequence), row.sequence);
        if draws.len() < self.sample.most {
            draws.push(drawn);
            self.kept += 1;
        } else if let Some(mut largest) = draws.peek_mut()
            && drawn < *largest
        {
            *largest = drawn;
        }
        if self.kept > DRAWN_MAX {
            let what = format!("a sample of {} for each value would be more than {DRAWN_MAX} calls", self.sample.most);
            return Err(Fault::new(what, "draw fewer of each, or by a key with fewer values"));
        }
        Ok(())
    }

    fn end(self) -> Selected {
        let mut drawn = HashMap::with_capacity(self.kept);
        let mut strata = Vec::with_capacity(self.strata.len());
        for (label, (calls, draws)) in self.strata {
            strata.push(Stratum::of(label, calls, draws.len() as u64));
            drawn.extend(draws.into_iter().map(|(_, sequence)| (sequence, strata.len() as u32 - 1)));
        }
        let matched = strata.iter().map(|stratum| stratum.calls).sum();
        Selected { matched, calls: drawn.len() as u64, strata, drawn: Some(drawn) }
    }
}

impl Stratum {
    fn of(label: String, calls: u64, drawn: u64) -> Self {
        let probability = if calls == 0 { 1.0 } else { drawn as f64 / calls as f64 };
        Self { label, calls, drawn, probability, weight: 1.0 / probability }
    }
}

/// Looks through all that matches, once.
///
/// # Errors
/// When the index cannot be read, or more would be drawn than [`DRAWN_MAX`].
pub async fn select(calls: &Calls, wanted: &Wanted) -> Result<Selected, Unanswered> {
    let Some(sample) = &wanted.sample else {
        let (from, until) = (wanted.times.from.unwrap_or(Timestamp::EPOCH), wanted.times.until.unwrap_or(Timestamp::EPOCH));
        let bars = calls.histogram(wanted.query.clone(), from, until, 1).await?;
        let matched = bars.iter().map(|bar| bar.calls).sum();
        return Ok(Selected { matched, calls: matched, strata: vec![Stratum::of(String::new(), matched, matched)], drawn: None });
    };
    let mut drawing = Drawing::new(sample);
    let mut pages = Pages::of(wanted);
    while let Some(rows) = pages.next(calls).await? {
        rows.iter().try_for_each(|row| drawing.offer(row))?;
    }
    Ok(drawing.end())
}

/// The selected calls, oldest first; ends with the first error. Payloads that are not there any more are said to be so in their place.
pub fn hand_out(calls: Calls, wanted: Wanted, selected: Selected) -> impl Stream<Item = Result<Handed, Unanswered>> {
    let pages = Pages::of(&wanted);
    let state = (calls, wanted, selected, pages);
    let pages = stream::unfold(Some(state), |state| async {
        let (calls, wanted, selected, mut pages) = state?;
        match page(&calls, &wanted, &selected, &mut pages).await {
            Ok(None) => None,
            Ok(Some(lines)) => {
                let handed = calls.clone();
                Some((Ok((handed, lines)), Some((calls, wanted, selected, pages))))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    pages.flat_map(|page| match page {
        Err(error) => stream::once(async { Err(error) }).left_stream(),
        Ok((calls, lines)) => {
            let read = move |line: Line| {
                let calls = calls.clone();
                async move { Ok(line.with_payload(&calls).await) }
            };
            stream::iter(lines).map(read).buffered(READING_MAX).right_stream()
        }
    })
}

/// A call before its payload is read.
struct Line {
    row: Row,
    weight: f64,
    verdicts: Option<Vec<Opinion>>,
}

/// The selected ones of the next page.
async fn page(calls: &Calls, wanted: &Wanted, selected: &Selected, pages: &mut Pages) -> Result<Option<Vec<Line>>, Unanswered> {
    let Some(rows) = pages.next(calls).await? else { return Ok(None) };
    let weight = |row: &Row| match &selected.drawn {
        None => Some(1.0),
        Some(drawn) => Some(selected.strata[*drawn.get(&row.sequence)? as usize].weight),
    };
    let mut lines: Vec<Line> = rows.into_iter().filter_map(|row| Some(Line { weight: weight(&row)?, row, verdicts: None })).collect();
    if wanted.verdicts {
        let mut by_environment: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, line) in lines.iter().enumerate() {
            by_environment.entry(line.row.text(Text::Environment).to_owned()).or_default().push(at);
        }
        for (environment, places) in by_environment {
            let said = calls.verdicts(&environment, places.iter().map(|at| lines[*at].row.sequence).collect()).await?;
            for (at, said) in places.into_iter().zip(said) {
                lines[at].verdicts = Some(said.iter().map(Opinion::from).collect());
            }
        }
    }
    Ok(Some(lines))
}

impl Line {
    async fn with_payload(self, calls: &Calls) -> Handed {
        let payload = calls.payload(self.row.sequence).await;
        let (expired, unreadable) = (payload == Payload::Expired, matches!(payload, Payload::Unreadable(_)));
        let payload_is = payload.name();
        // What the index and the judges' reasons repeat of the payload is redacted like it.
        let mut call = json!(self.row);
        calls.redact(&mut call);
        let mut line = json!({ "call": call, "weight": self.weight, "payload_is": payload_is });
        line["payload"] = if let Payload::Here(payload) = payload { payload } else { Value::Null };
        if let Some(verdicts) = self.verdicts {
            let mut verdicts = json!(verdicts);
            calls.redact(&mut verdicts);
            line["verdicts"] = verdicts;
        }
        Handed { line, expired, unreadable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::signal::{Findings, signals};

    fn row(sequence: u64, stage: &str) -> Row {
        let log = format!(r#"{{"id":"c{sequence}","time":1767225600000,"model":"m","stage":"{stage}"}}"#);
        let call = model::parse(log.as_bytes()).expect("a good log");
        Row::of(&call, &signals(&call, &Findings::default()), &[], sequence, call.time)
    }

    fn selected(most: usize, seed: u64, per: Option<&str>, calls: u64) -> Selected {
        let sample = Sample { most, seed, per: per.and_then(Key::parse) };
        let mut drawing = Drawing::new(&sample);
        // One of ten is of a rare stage.
        (1..=calls).for_each(|sequence| drawing.offer(&row(sequence, if sequence % 10 == 0 { "rare" } else { "usual" })).expect("there is room"));
        drawing.end()
    }

    fn sequences(selected: &Selected) -> Vec<u64> {
        let mut sequences: Vec<u64> = selected.drawn.iter().flatten().map(|(sequence, _)| *sequence).collect();
        sequences.sort_unstable();
        sequences
    }

    #[test]
    fn each_stratum_has_its_own_draw_and_weights_add_up_to_all_calls() {
        let selected = selected(20, 7, Some("stage"), 1000);
        let shown: Vec<_> = selected.strata.iter().map(|stratum| (stratum.label.as_str(), stratum.calls, stratum.drawn)).collect();
        assert_eq!((shown, selected.matched, selected.calls), (vec![("rare", 100, 20), ("usual", 900, 20)], 1000, 40));
        let sum: f64 = selected.strata.iter().map(|stratum| stratum.drawn as f64 * stratum.weight).sum();
        assert!((sum - 1000.0).abs() < 1e-9 && (selected.strata[0].probability - 0.2).abs() < 1e-12);
        let few = super::tests::selected(200, 7, Some("stage"), 1000);
        assert_eq!((few.strata[0].drawn, few.strata[0].probability), (100, 1.0), "all of what is rare");
    }

    #[test]
    fn the_same_seed_draws_the_same_calls_and_each_has_the_same_chance() {
        assert_eq!(sequences(&selected(30, 1, None, 300)), sequences(&selected(30, 1, None, 300)));
        assert_ne!(sequences(&selected(30, 1, None, 300)), sequences(&selected(30, 2, None, 300)));
        let mut times = [0u32; 40];
        for seed in 0..400 {
            sequences(&selected(10, seed, None, 40)).into_iter().for_each(|sequence| times[sequence as usize - 1] += 1);
        }
        // Binomial(400, 0.25) has a standard deviation of 8.7.
        assert!(times.iter().all(|count| count.abs_diff(100) < 45), "{times:?}");
    }

    #[test]
    fn values_beyond_the_bound_are_drawn_from_together() {
        let sample = Sample { most: 1, seed: 0, per: Key::parse("stage") };
        let mut drawing = Drawing::new(&sample);
        (1..=STRATA_MAX as u64 + 50).for_each(|sequence| drawing.offer(&row(sequence, &format!("s{sequence}"))).expect("there is room"));
        let selected = drawing.end();
        let other = selected.strata.iter().find(|stratum| stratum.label == OTHER).expect("the others");
        assert_eq!((selected.strata.len(), other.calls, other.drawn), (STRATA_MAX + 1, 50, 1));
        let sample = Sample { most: DRAWN_MAX, seed: 0, per: None };
        let mut drawing = Drawing { kept: DRAWN_MAX, ..Drawing::new(&sample) };
        assert!(drawing.offer(&row(1, "x")).is_err());
    }
}
