//! The table of what calls cost that people see: each label's calls, tokens, cost and share, and what has changed against the window before.
//!
//! It is arithmetic on two [`Sums`], exact to the nano-dollar: the rows and `(other)` add up to the total, in either window. Only the text is rounded, and
//! so that its parts still add up. Deliberately absent: asking the index, and choosing the windows.

use crate::foreign::{columns, cut, left, right};
use index::{Sum, Sums, Totals};
use model::show;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::collections::{HashMap, HashSet};

/// Labels that cost something before and have no call now, which are shown; the others are counted.
const GONE_MAX: usize = 10;
/// Of a label's columns, so that the numbers stay on the screen; JSON has all of it.
const LABEL_WIDTH_MAX: usize = 40;
const OTHER: &str = "(other)";
const TOTAL: &str = "total";
const NONE: &str = "(none)";

/// Two windows side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// What the labels are of, such as `user_id`.
    pub by: Vec<String>,
    /// As the sums have them, the largest cost first; then those that are gone, the largest cost before first.
    pub rows: Vec<Row>,
    /// All calls of labels that are not in a row.
    pub other: Line,
    pub total: Line,
    /// Labels that are gone and have no row: their cost before is in `other`.
    pub further_gone: usize,
    /// There were more labels than are summed one by one, so the rows need not be the largest.
    pub overflowed: bool,
}

/// One label, or one of each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub labels: Vec<String>,
    #[serde(flatten)]
    pub line: Line,
}

/// The figures of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub now: Totals,
    /// `None`: among the others in the window before, so not known by itself.
    pub before: Option<Totals>,
    /// What all calls of this window cost, in nano-dollars.
    of: u128,
}

/// A row's cost against the window before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// No call before.
    New,
    /// No call now.
    Gone,
    /// So many times what it was.
    Times(f64),
    /// It costs something and there were calls before, which cost nothing.
    FromNothing,
    /// Neither costs anything.
    Nothing,
    /// What it was is not known.
    Unknown,
}

impl Line {
    /// Of the window's cost, 0 ..= 1; `None` where nothing costs anything.
    pub fn share(&self) -> Option<f64> {
        (self.of > 0).then(|| self.now.cost_nanos as f64 / self.of as f64)
    }

    pub fn change(&self) -> Change {
        let Some(before) = self.before else { return Change::Unknown };
        match (before.cost_nanos, self.now.cost_nanos) {
            _ if before.calls == 0 && self.now.calls > 0 => Change::New,
            _ if self.now.calls == 0 && before.calls > 0 => Change::Gone,
            (0, 0) => Change::Nothing,
            (0, _) => Change::FromNothing,
            (before, now) => Change::Times(now as f64 / before as f64),
        }
    }

    /// Input and output together.
    pub fn tokens(&self) -> u128 {
        self.now.input_tokens + self.now.output_tokens
    }
}

impl Change {
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Gone => "gone",
            Self::Times(_) => "times",
            Self::FromNothing => "from_nothing",
            Self::Nothing => "nothing",
            Self::Unknown => "unknown",
        }
    }

    fn text(self) -> String {
        match self {
            Self::New => "new".to_owned(),
            Self::Gone => "gone".to_owned(),
            Self::Times(times) if times >= 9.95 => format!("×{}", show::number(times.round())),
            Self::Times(times) if times >= 0.095 => format!("×{times:.1}"),
            Self::Times(_) => "<×0.1".to_owned(),
            Self::FromNothing => "from $0".to_owned(),
            Self::Nothing => "=".to_owned(),
            Self::Unknown => "?".to_owned(),
        }
    }
}

impl Costs {
    /// `now` and `before` are of the same query and the same keys, `by` their names.
    pub fn new(by: Vec<String>, now: Sums, before: &Sums) -> Self {
        let of = now.total.cost_nanos;
        // A label that is not in a table with nothing else in it had no call.
        let complete = |sums: &Sums| sums.other.calls == 0 && !sums.overflowed;
        let absent = complete(before).then(Totals::default);
        let known: HashMap<&[String], Totals> = before.groups.iter().map(|sum| (sum.labels.as_slice(), sum.totals)).collect();
        let row = |sum: &Sum| {
            let before = known.get(sum.labels.as_slice()).copied().or(absent);
            Row { labels: sum.labels.clone(), line: Line { now: sum.totals, before, of } }
        };
        let mut rows: Vec<Row> = now.groups.iter().map(row).collect();
        let shown: HashSet<&[String]> = now.groups.iter().map(|sum| sum.labels.as_slice()).collect();
        let gone = before.groups.iter().filter(|sum| complete(&now) && !shown.contains(sum.labels.as_slice()));
        let gone: Vec<Row> =
            gone.map(|sum| Row { labels: sum.labels.clone(), line: Line { now: Totals::default(), before: Some(sum.totals), of } }).collect();
        let further_gone = gone.len().saturating_sub(GONE_MAX);
        rows.extend(gone.into_iter().take(GONE_MAX));
        // What no row has; where a row's own is not known it is in there as well.
        let rest = rows.iter().filter_map(|row| row.line.before).fold(before.total, less);
        let all_known = rows.iter().all(|row| row.line.before.is_some());
        let other = Line { now: now.other, before: all_known.then_some(rest), of };
        Self { by, rows, other, total: Line { now: now.total, before: Some(before.total), of }, further_gone, overflowed: now.overflowed }
    }

    /// Aligned, a line for each row, the total last. Dollars have as many digits as the total needs, and add up as they are shown.
    pub fn text(&self) -> Vec<String> {
        let has_other = self.other != Line { now: Totals::default(), before: Some(Totals::default()), of: self.total.of };
        let other = has_other.then_some((OTHER.to_owned(), self.other));
        let lines: Vec<(String, Line)> = self.rows.iter().map(|row| (named(&row.labels), row.line)).chain(other).collect();
        let dollars = Dollars::of(self.total.now.cost_nanos);
        let costs = dollars.parts(&lines.iter().map(|(_, line)| line.now.cost_nanos).collect::<Vec<_>>(), self.total.now.cost_nanos);
        let cells = |(label, line): &(String, Line), cost: String| {
            let count = |number: u128| show::number(number as f64);
            let share = line.share().map_or("–".to_owned(), show::percent);
            [label.clone(), count(line.now.calls.into()), count(line.tokens()), cost, share, line.change().text()]
        };
        let head = [named(&self.by), "calls".into(), "tokens".into(), "cost".into(), "share".into(), "before".into()];
        let total = cells(&(TOTAL.to_owned(), self.total), dollars.whole(self.total.now.cost_nanos));
        let mut table = vec![head];
        table.extend(lines.iter().zip(costs).map(|(line, cost)| cells(line, cost)));
        table.push(total);
        let mut text = aligned(&table);
        if self.further_gone > 0 {
            text.push(format!("and {} more are gone", show::number(self.further_gone as f64)));
        }
        if self.overflowed {
            text.push("there are more labels than can be summed one by one: these need not be the largest".to_owned());
        }
        text
    }
}

/// Saturating: two windows of one index cannot disagree, and people's tables must not make the engine fall.
fn less(whole: Totals, part: Totals) -> Totals {
    Totals {
        calls: whole.calls.saturating_sub(part.calls),
        errors: whole.errors.saturating_sub(part.errors),
        cost_nanos: whole.cost_nanos.saturating_sub(part.cost_nanos),
        input_tokens: whole.input_tokens.saturating_sub(part.input_tokens),
        output_tokens: whole.output_tokens.saturating_sub(part.output_tokens),
    }
}

/// As people read it: one name for no label, no longer than the table bears, and nothing that steers a terminal.
fn named(labels: &[String]) -> String {
    let one = |label: &String| if label.is_empty() { NONE } else { label }.to_owned();
    cut(&labels.iter().map(one).collect::<Vec<_>>().join(" · "), LABEL_WIDTH_MAX)
}

/// The first column to the left, numbers to the right; columns as wide as their widest cell.
fn aligned(rows: &[[String; 6]]) -> Vec<String> {
    let widths: Vec<usize> = (0..6).map(|at| rows.iter().map(|row| columns(&row[at])).max().unwrap_or(0)).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| if at == 0 { left(cell, *width) } else { right(cell, *width) });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Dollars in steps of 10^-digits.
struct Dollars {
    digits: u32,
}

impl Dollars {
    /// Cents from a dollar on; below it, three digits of the total, down to nano-dollars.
    fn of(total: u128) -> Self {
        let digits = match total {
            0 | 1_000_000_000.. => 2,
            below => 9u32.saturating_sub(below.ilog10()).saturating_add(2).min(9),
        };
        Self { digits }
    }

    fn step(&self) -> u128 {
        10u128.pow(9 - self.digits)
    }

    fn steps(&self, nano: u128) -> u128 {
        (nano + self.step() / 2) / self.step()
    }

    fn whole(&self, nano: u128) -> String {
        self.shown(self.steps(nano))
    }

    /// The parts of `total`, each within a step of what it is, which add up to it as [`Dollars::whole`] shows it: the steps that are missing when all are
    /// rounded down go to the largest remainders. A part that is something is not shown as nothing.
    fn parts(&self, parts: &[u128], total: u128) -> Vec<String> {
        let mut steps: Vec<u128> = parts.iter().map(|part| part / self.step()).collect();
        let missing = self.steps(total).saturating_sub(steps.iter().sum());
        let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
        by_remainder.sort_by_key(|at| std::cmp::Reverse(parts[*at] % self.step()));
        by_remainder.into_iter().take(usize::try_from(missing).unwrap_or(usize::MAX)).for_each(|at| steps[at] += 1);
        let shown = |(steps, part): (u128, &u128)| if steps == 0 && *part > 0 { format!("<{}", self.shown(1)) } else { self.shown(steps) };
        steps.into_iter().zip(parts).map(shown).collect()
    }

    fn shown(&self, steps: u128) -> String {
        let (one, width) = (10u128.pow(self.digits), self.digits as usize);
        let whole = (steps / one).to_string();
        let mut grouped = String::new();
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        format!("${grouped}.{:0width$}", steps % one)
    }
}

/// Dollars as a number, for people's programs, and nano-dollars as a text of digits, because sums beyond nine million dollars are more than a double holds.
impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Figures(Totals);
        impl Serialize for Figures {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                figures(&mut map, &self.0)?;
                map.end()
            }
        }
        fn figures<M: SerializeMap>(map: &mut M, totals: &Totals) -> Result<(), M::Error> {
            map.serialize_entry("calls", &totals.calls)?;
            map.serialize_entry("errors", &totals.errors)?;
            // Tokens of a call are below 2^40 and calls below 2^24 in any index that fits a disk.
            map.serialize_entry("input_tokens", &u64::try_from(totals.input_tokens).unwrap_or(u64::MAX))?;
            map.serialize_entry("output_tokens", &u64::try_from(totals.output_tokens).unwrap_or(u64::MAX))?;
            map.serialize_entry("cost_usd", &(totals.cost_nanos as f64 / 1e9))?;
            map.serialize_entry("cost_nano_usd", &totals.cost_nanos.to_string())
        }
        let mut map = serializer.serialize_map(None)?;
        figures(&mut map, &self.now)?;
        map.serialize_entry("share", &self.share())?;
        map.serialize_entry("before", &self.before.map(Figures))?;
        map.serialize_entry("change", self.change().name())?;
        let times = if let Change::Times(times) = self.change() { Some(times) } else { None };
        map.serialize_entry("times", &times)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn totals(calls: u64, cost: u128) -> Totals {
        Totals { calls, errors: 0, cost_nanos: cost, input_tokens: u128::from(calls) * 100, output_tokens: u128::from(calls) * 10 }
    }

    fn sums(groups: &[(&str, u64, u128)], other: (u64, u128)) -> Sums {
        let groups: Vec<_> = groups
            .iter()
            .map(|(label, calls, cost)| Sum { labels: vec![(*label).to_owned()], totals: totals(*calls, *cost), runs: None, users: None })
            .collect();
        let calls = groups.iter().map(|sum| sum.totals.calls).sum::<u64>() + other.0;
        let cost = groups.iter().map(|sum| sum.totals.cost_nanos).sum::<u128>() + other.1;
        Sums { groups, other: totals(other.0, other.1), total: totals(calls, cost), runs: None, users: None, overflowed: false }
    }

    fn table(now: Sums, before: &Sums) -> Costs {
        let costs = Costs::new(vec!["user_id".to_owned()], now, before);
        let all: Vec<_> = costs.rows.iter().map(|row| row.line).chain([costs.other]).collect();
        let sum = |of: &dyn Fn(&Line) -> u128| all.iter().map(of).sum::<u128>();
        assert_eq!(sum(&|line| line.now.cost_nanos), costs.total.now.cost_nanos, "the parts are the whole");
        assert_eq!(sum(&|line| line.now.calls.into()), u128::from(costs.total.now.calls));
        assert_eq!(sum(&|line| line.tokens()), costs.total.tokens());
        if all.iter().all(|line| line.before.is_some()) {
            assert_eq!(sum(&|line| line.before.unwrap_or_default().cost_nanos), before.total.cost_nanos, "before as well");
        }
        costs
    }

    const DOLLAR: u128 = 1_000_000_000;

    #[test]
    fn a_table_says_who_costs_what_and_what_has_changed() {
        let now = sums(&[("alice", 1200, 30 * DOLLAR), ("new", 3, 10 * DOLLAR), ("", 9, 2 * DOLLAR), ("free", 5, 0)], (0, 0));
        let before = sums(&[("alice", 100, 4 * DOLLAR), ("gone", 7, 3 * DOLLAR), ("", 9, 2 * DOLLAR), ("free", 1, 0)], (0, 0));
        assert_eq!(
            table(now, &before).text(),
            [
                "user_id  calls   tokens    cost  share  before",
                "alice    1,200  132,000  $30.00   71 %    ×7.5",
                "new          3      330  $10.00   24 %     new",
                "(none)       9      990   $2.00  4.8 %    ×1.0",
                "free         5      550   $0.00    0 %       =",
                "gone         0        0   $0.00    0 %    gone",
                "total    1,217  133,870  $42.00  100 %    ×4.7",
            ]
        );
    }

    #[test]
    fn what_is_among_the_others_is_not_said_to_be_new_or_gone() {
        let now = sums(&[("a", 1, 5 * DOLLAR), ("b", 1, 4 * DOLLAR)], (10, DOLLAR));
        let before = sums(&[("c", 1, 8 * DOLLAR), ("a", 1, 7 * DOLLAR)], (4, DOLLAR));
        let costs = table(now, &before);
        let changes: Vec<_> = costs.rows.iter().map(|row| (row.labels[0].as_str(), row.line.change().name())).collect();
        assert_eq!(changes, [("a", "times"), ("b", "unknown")], "b may be among the others before, and c among those now");
        assert_eq!(costs.other.change(), Change::Unknown);
        // With everything shown before, the others now are what is left of it.
        let now = sums(&[("a", 1, 5 * DOLLAR)], (10, DOLLAR));
        let before = sums(&[("c", 1, 8 * DOLLAR), ("a", 1, 7 * DOLLAR)], (0, 0));
        assert_eq!(table(now, &before).other.before.map(|before| before.cost_nanos), Some(8 * DOLLAR));
    }

    #[test]
    fn few_of_many_that_are_gone_are_shown_and_the_others_are_counted() {
        let labels: Vec<String> = (0..25).map(|n| format!("u{n:02}")).collect();
        let groups: Vec<_> = labels.iter().map(|label| (label.as_str(), 1, DOLLAR)).collect();
        let costs = table(sums(&[], (0, 0)), &sums(&groups, (0, 0)));
        assert_eq!((costs.rows.len(), costs.further_gone, costs.other.before.map(|before| before.calls)), (GONE_MAX, 15, Some(15)));
        let text = costs.text();
        assert_eq!(text.last().map(String::as_str), Some("and 15 more are gone"));
        assert_eq!(text[1], "u00          0       0  $0.00      –    gone");
    }

    #[test]
    fn costs_add_up_as_they_are_shown() {
        // Each third rounds down to 33 cents: one gets the cent that is missing.
        let costs = table(sums(&[("a", 1, DOLLAR / 3), ("b", 1, DOLLAR / 3), ("c", 1, DOLLAR - 2 * (DOLLAR / 3))], (0, 0)), &sums(&[], (0, 0)));
        let shown: Vec<_> = costs.text().iter().skip(1).map(|line| line.split_whitespace().nth(3).unwrap_or_default().to_owned()).collect();
        assert_eq!(shown, ["$0.33", "$0.33", "$0.34", "$1.00"]);

        let seed = 20_261_123;
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..2_000 {
            let most = 10u64.pow(rng.u32(1..14));
            let parts: Vec<u128> = (0..rng.usize(1..30)).map(|_| rng.u64(0..most).into()).collect();
            let total: u128 = parts.iter().sum();
            let dollars = Dollars::of(total);
            let read = |text: &str| if text.starts_with('<') { 0 } else { text.replace(['$', ',', '.'], "").parse::<u128>().expect("digits") };
            let shown: u128 = dollars.parts(&parts, total).iter().map(|text| read(text)).sum();
            assert_eq!(shown, read(&dollars.whole(total)), "seed {seed}: {parts:?}");
        }
    }

    #[test]
    fn small_totals_have_more_digits_and_something_is_never_nothing() {
        for (total, expected) in [
            (0, "$0.00"),
            (7, "$0.000000007"),
            (123_456_789, "$0.123"),
            (1_234_567, "$0.00123"),
            (999, "$0.000000999"),
            (DOLLAR, "$1.00"),
            (1_234_567_891_234_567_890, "$1,234,567,891.23"),
        ] {
            assert_eq!(Dollars::of(total).whole(total), expected, "{total}");
        }
        assert_eq!(Dollars::of(5 * DOLLAR).parts(&[5 * DOLLAR - 1000, 1000], 5 * DOLLAR), ["$5.00", "<$0.01"]);
    }

    #[test]
    fn labels_are_cut_and_do_not_steer_the_terminal() {
        assert_eq!(named(&["a\u{1b}[2J".to_owned(), String::new()]), "a\u{fffd}[2J · (none)");
        assert_eq!(named(&["a\u{202e}b\nc".to_owned()]), "a\u{fffd}b c");
        let wide = sums(&[("田中さん", 1, DOLLAR), ("ann", 1, DOLLAR)], (0, 0));
        let text = table(wide.clone(), &wide).text();
        assert!(text.iter().all(|line| columns(line) == columns(&text[0])), "{text:#?}");
        let long = named(&["é".repeat(100)]);
        assert_eq!((long.chars().count(), long.ends_with('…')), (LABEL_WIDTH_MAX, true));
    }

    #[test]
    fn json_has_dollars_and_every_nano_dollar() {
        let costs = table(sums(&[("a", 2, 12_345_678_900_000_000_001)], (0, 0)), &sums(&[("a", 1, 1)], (0, 0)));
        let value = serde_json::to_value(&costs).expect("it is JSON");
        assert_eq!(value["rows"][0]["cost_nano_usd"], "12345678900000000001");
        assert_eq!(
            value["rows"][0],
            json!({"labels": ["a"], "calls": 2, "errors": 0, "input_tokens": 200, "output_tokens": 20, "cost_usd": 12_345_678_900.0,
                "cost_nano_usd": "12345678900000000001", "share": 1.0, "change": "times", "times": 1.234_567_89e19,
                "before": {"calls": 1, "errors": 0, "input_tokens": 100, "output_tokens": 10, "cost_usd": 1e-9, "cost_nano_usd": "1"}})
        );
        assert_eq!(value["other"]["change"], "nothing");
    }
}
