//! What an evaluation comes to: a row for each model, prompt or whatever calls are set side by side by, and a pass rate for each way to judge them.
//!
//! Intervals are Wilson's of the calls that were judged, of 95 %: they say how sure a rate is, and not how sure a difference; two that do not overlap
//! differ. Where a judge is calibrated, its rate is given corrected as well.

use super::sample::Read;
use crate::judging::calibrated::{Believed, Calibrated, Interval, Trust};
use evaluators::calibration::{Observed, Proportion};
use model::verdict::Outcome;
use model::{Key, show};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Rows of a table; labels of further calls are one row.
const ROWS_MAX: usize = 200;
const OTHER: &str = "(other)";

/// What was said of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Pass,
    Fail,
    /// An answer that is no verdict.
    Unreadable,
    /// No answer, or a script that failed.
    Errored,
    /// Not asked, for want of money or of what the prompt needs.
    Unasked,
    /// It does not apply to the call.
    NotFor,
}

/// One way to judge calls.
#[derive(Clone, Debug)]
pub struct Column {
    /// As it is named in a rule: `judge:NAME` or `code:NAME`; or `schema`.
    name: String,
    /// Of a judge.
    trust: Option<Trust>,
    calibrated: Option<Calibrated>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    pass: u64,
    fail: u64,
    unreadable: u64,
    errored: u64,
    unasked: u64,
    cost_nano_usd: u64,
}

#[derive(Debug)]
pub struct Table {
    by: String,
    /// About the calls, for people.
    heading: String,
    drawn: Option<(u64, u64)>,
    columns: Vec<Column>,
    /// By label: calls, and a tally for each column.
    rows: BTreeMap<String, (u64, Vec<Tally>)>,
}

impl Said {
    pub fn of(pass: bool) -> Self {
        if pass { Self::Pass } else { Self::Fail }
    }

    pub fn by(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Pass => Self::Pass,
            Outcome::Fail => Self::Fail,
            Outcome::Unreadable => Self::Unreadable,
            Outcome::Errored => Self::Errored,
            Outcome::Skipped(_) => Self::Unasked,
        }
    }
}

impl Column {
    /// A way to judge that costs nothing.
    pub fn free(name: &str) -> Self {
        Self { name: name.to_owned(), trust: None, calibrated: None }
    }

    pub fn judge(name: &str, trust: Trust, calibrated: Option<Calibrated>) -> Self {
        Self { name: format!("judge:{name}"), trust: Some(trust), calibrated }
    }
}

impl Tally {
    fn judged(&self) -> u64 {
        self.pass + self.fail
    }

    fn add(&mut self, said: Said) {
        let count = match said {
            Said::Pass => &mut self.pass,
            Said::Fail => &mut self.fail,
            Said::Unreadable => &mut self.unreadable,
            Said::Errored => &mut self.errored,
            Said::Unasked => &mut self.unasked,
            Said::NotFor => return,
        };
        *count += 1;
    }

    /// The share that passes, with Wilson's interval.
    fn passes(&self) -> Option<Interval> {
        Proportion { hits: self.pass, of: self.judged() }.estimate().map(Interval::from)
    }

    /// The share that people would let pass, or why it is not known.
    fn corrected(&self, column: &Column) -> Option<Result<Interval, String>> {
        column.trust.as_ref()?;
        let observed = Observed::counted(self.fail, self.judged())?;
        let Believed { corrected, uncorrected, .. } = Believed::of(&observed, column.calibrated.as_ref());
        let passes = |fails: Interval| Interval { value: 1.0 - fails.value, low: 1.0 - fails.high, high: 1.0 - fails.low };
        Some(corrected.map(passes).ok_or(uncorrected.unwrap_or_default()))
    }
}

impl Table {
    pub fn new(by: &Key, read: &Read) -> Self {
        let calls = show::number(read.calls.len() as f64);
        let heading = match read.drawn {
            Some((of, seed)) => format!("{calls} of {} calls, drawn with seed {seed}, by {by}", show::number(of as f64)),
            None => format!("{calls} calls, by {by}"),
        };
        Self { by: by.to_string(), heading, drawn: read.drawn, columns: Vec::new(), rows: BTreeMap::new() }
    }

    /// A further way to judge.
    pub fn column(&mut self, column: Column) -> usize {
        self.columns.push(column);
        self.columns.len() - 1
    }

    /// The row of a label, as [`Self::called`] and [`Self::add`] take it.
    pub fn row(&self, label: &str) -> String {
        let label = if label.is_empty() { "(none)" } else { label };
        let known = self.rows.len() < ROWS_MAX || self.rows.contains_key(label);
        if known { label } else { OTHER }.to_owned()
    }

    /// One call is in the file.
    pub fn called(&mut self, row: &str) {
        self.rows.entry(row.to_owned()).or_default().0 += 1;
    }

    /// What was said of one call of a row, and what that cost.
    pub fn add(&mut self, row: &str, column: usize, said: Said, cost_nano_usd: u64) {
        let tallies = &mut self.rows.entry(row.to_owned()).or_default().1;
        if tallies.len() <= column {
            tallies.resize(column + 1, Tally::default());
        }
        tallies[column].add(said);
        tallies[column].cost_nano_usd += cost_nano_usd;
    }

    fn tally(&self, tallies: &[Tally], column: usize) -> Tally {
        tallies.get(column).copied().unwrap_or_default()
    }

    /// A block for each way to judge, with its rows below each other, so that they are compared.
    pub fn text(&self) -> Vec<String> {
        let mut lines = vec![self.heading.clone()];
        for (at, column) in self.columns.iter().enumerate() {
            let trust = column.trust.as_ref().map_or(String::new(), |trust| format!("  {trust}"));
            lines.push(format!("\n{}{trust}", column.name));
            let corrects = self.rows.values().any(|(_, tallies)| matches!(self.tally(tallies, at).corrected(column), Some(Ok(_))));
            let mut cells = vec![self.head(column, corrects)];
            cells.extend(self.rows.iter().map(|(label, (calls, tallies))| row(label, *calls, &self.tally(tallies, at), column, corrects)));
            lines.extend(aligned(&cells));
        }
        lines.push("\npass rates with 95 % intervals (Wilson), of the calls that were judged".to_owned());
        lines
    }

    fn head(&self, column: &Column, corrects: bool) -> Vec<String> {
        let corrected: &[&str] = if corrects { &["corrected"] } else { &[] };
        let costs: &[&str] = if column.trust.is_some() { &["unreadable", "errors", "not asked", "US dollars"] } else { &["errors"] };
        let names = ["calls", "judged", "passes"].iter().chain(corrected).chain(costs);
        std::iter::once(self.by.clone()).chain(names.map(ToString::to_string)).collect()
    }

    pub fn json(&self) -> Value {
        let one = |label: &String, (calls, tallies): &(u64, Vec<Tally>)| {
            let judged = self.columns.iter().enumerate().map(|(at, column)| {
                let tally = self.tally(tallies, at);
                let corrected = tally.corrected(column);
                let cost = tally.cost_nano_usd as f64 / 1e9;
                let value = json!({
                    "pass": tally.pass, "fail": tally.fail, "unreadable": tally.unreadable, "errored": tally.errored, "not_asked": tally.unasked,
                    "pass_rate": tally.passes(), "corrected": corrected.as_ref().and_then(|rate| rate.as_ref().ok()),
                    "uncorrected": corrected.as_ref().and_then(|rate| rate.as_ref().err()), "cost_usd": cost,
                });
                (column.name.clone(), value)
            });
            json!({ "label": label, "calls": calls, "judged": judged.collect::<serde_json::Map<_, _>>() })
        };
        let drawn = self.drawn.map(|(of, seed)| json!({ "of": of, "seed": seed }));
        let trust: serde_json::Map<_, _> =
            self.columns.iter().filter_map(|column| Some((column.name.clone(), json!(column.trust.as_ref()?)))).collect();
        json!({ "by": self.by, "drawn": drawn, "judges": trust, "groups": self.rows.iter().map(|(label, row)| one(label, row)).collect::<Vec<_>>() })
    }
}

fn row(label: &str, calls: u64, tally: &Tally, column: &Column, corrects: bool) -> Vec<String> {
    let count = |count: u64| show::number(count as f64);
    let rate = tally.passes().map_or("–".to_owned(), |rate| rate.percent());
    // What a label holds must not steer the terminal.
    let label = label.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    let mut cells = vec![label, count(calls), count(tally.judged()), rate];
    if corrects {
        cells.push(tally.corrected(column).and_then(Result::ok).map_or("–".to_owned(), |rate| rate.percent()));
    }
    if column.trust.is_some() {
        cells.extend([count(tally.unreadable), count(tally.errored), count(tally.unasked), format!("{:.4}", tally.cost_nano_usd as f64 / 1e9)]);
    } else {
        cells.push(count(tally.errored));
    }
    cells
}

/// Columns as wide as their widest cell.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_stand_below_each_other_and_what_does_not_apply_counts_nowhere() {
        let mut table = Table::new(&Key::Model, &Read::default());
        let column = table.column(Column::free("code:x"));
        for (label, said) in [("a", Said::Pass), ("a", Said::Fail), ("a", Said::NotFor), ("b", Said::Errored), ("", Said::Pass)] {
            let row = table.row(label);
            table.called(&row);
            table.add(&row, column, said, 0);
        }
        let text = table.text();
        assert_eq!(
            text[2..6],
            [
                "  model   calls  judged  passes                 errors",
                "  (none)  1      1       100 % (21 % to 100 %)  0",
                "  a       3      2       50 % (9.5 % to 91 %)   0",
                "  b       1      0       –                      1"
            ]
        );
    }

    #[test]
    fn a_corrected_rate_is_of_passes() {
        let calibrated = Calibrated { caught: 90, missed: 10, cleared: 80, accused: 20, ..Calibrated::default() };
        let column = Column::judge("j", Trust::default(), Some(calibrated));
        let tally = Tally { pass: 660, fail: 340, ..Tally::default() };
        let rate = tally.corrected(&column).expect("of a judge").expect("better than chance");
        assert!((rate.value - 0.8).abs() < 1e-12 && rate.low < 0.8 && rate.high > 0.8, "{rate:?}");
        assert_eq!(tally.corrected(&Column::free("schema")), None);
    }

    #[test]
    fn further_labels_are_one_row() {
        let mut table = Table::new(&Key::Model, &Read::default());
        for label in 0..ROWS_MAX + 5 {
            let row = table.row(&label.to_string());
            table.called(&row);
        }
        assert_eq!((table.rows.len(), table.rows[OTHER].0), (ROWS_MAX + 1, 5));
    }
}
