//! What calls cost, by one or two keys: exact whole numbers that add up.
//!
//! A group's rows are summed by the codes of their labels, and labels are compared once a group; so ten million calls take about a second. Files do not change, so what was summed
//! of a whole one is kept.

use crate::error::IndexError;
use crate::group::{Column, Group, Texts};
use crate::keys::{Key, Number, Text};
use crate::pack::{FastMap, FastSet, hash};
use crate::query::Query;
use crate::row::{Row, cut};
use crate::search::Times;
use crate::state::{Reader, Spot, View};
use model::Signal;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Distinct groups that are summed one by one; calls of further ones are in `(other)`. Twenty bytes of label each and as much for its sums: some 40
/// MB.
pub const LABELS_MAX: usize = 200_000;
/// Distinct runs, or users, that are counted, over all groups of a table together: 16 MB. With more, none is said.
const DISTINCT_MAX: usize = 1 << 20;
/// Groups of whole files that are kept for the next question: some 60 MB.
const REMEMBERED_MAX: usize = 500_000;
/// The same of those that are summed before anybody asks, and one file's more.
const AHEAD_MAX: usize = 300_000;
/// Keys of one table.
const KEYS_MAX: usize = 2;

/// Sums over calls. Costs in nano-dollars; of calls that say none, nothing is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub calls: u64,
    /// Calls of which the signal `error` holds.
    pub errors: u64,
    /// 2^64 nano-dollars are eighteen billion dollars, and a call may say a thousand: 128 bits cannot run over.
    pub cost_nanos: u128,
    pub input_tokens: u128,
    pub output_tokens: u128,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.cost_nanos += other.cost_nanos;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
    }
}

/// One group of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// One for each key, cut at [`model::label::LABEL_MAX_BYTES`]; empty for calls that have none.
    pub labels: Vec<String>,
    #[serde(flatten)]
    pub totals: Totals,
    /// Distinct ones, of calls that name one; `None` where there were too many to count.
    pub runs: Option<u64>,
    pub users: Option<u64>,
}

/// A table of sums, the largest cost first, then by calls and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sums {
    pub groups: Vec<Sum>,
    /// All other groups together, so that the table adds up; nothing but zeros when every group is shown.
    pub other: Totals,
    pub total: Totals,
    pub runs: Option<u64>,
    pub users: Option<u64>,
    /// There were more than [`LABELS_MAX`] groups: what is shown need not be the largest.
    pub overflowed: bool,
}

/// A key that calls cannot be summed by.
#[derive(Debug, thiserror::Error)]
pub enum SumsError {
    #[error("calls are not summed by `{0}`\nhint: sum by a text such as user_id, by status_code, or by a property")]
    Key(Key),
    #[error("{0} keys\nhint: a table has one or two")]
    Keys(usize),
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Distinct values by their 64-bit hashes: among a million, that two agree by chance has a probability of 1 in 30 million.
#[derive(Default)]
struct Distinct {
    seen: FastSet<(u64, u64)>,
    full: bool,
}

impl Distinct {
    fn add(&mut self, group: usize, value: u64) {
        if self.full {
            return;
        }
        self.seen.insert((group as u64, value));
        if self.seen.len() > DISTINCT_MAX {
            (self.full, self.seen) = (true, FastSet::default());
        }
    }

    fn by_group(&self, groups: usize) -> Vec<Option<u64>> {
        let mut counts = vec![(!self.full).then_some(0); groups];
        for (group, _) in &self.seen {
            counts[*group as usize] = counts[*group as usize].map(|count| count + 1);
        }
        counts
    }
}

/// Sums while they are made; group 0 is that of labels beyond the bound.
struct Summing {
    groups: HashMap<Vec<String>, usize>,
    totals: Vec<Totals>,
    overflowed: bool,
    runs: Distinct,
    users: Distinct,
    all_runs: Distinct,
    all_users: Distinct,
}

impl Summing {
    fn group(&mut self, labels: Vec<String>) -> usize {
        if let Some(group) = self.groups.get(&labels) {
            return *group;
        }
        if self.groups.len() == LABELS_MAX {
            self.overflowed = true;
            return 0;
        }
        self.totals.push(Totals::default());
        self.groups.insert(labels, self.totals.len() - 1);
        self.totals.len() - 1
    }

    fn distinct(&mut self, group: usize, run: Option<u64>, user: Option<u64>) {
        if let Some(run) = run {
            self.runs.add(group, run);
            self.all_runs.add(0, run);
        }
        if let Some(user) = user {
            self.users.add(group, user);
            self.all_users.add(0, user);
        }
    }

    fn row(&mut self, by: &[Key], row: &Row) {
        let group = self.group(by.iter().map(|key| label(key, row)).collect());
        self.totals[group].add(&Totals {
            calls: 1,
            errors: u64::from(row.holds(Signal::Error)),
            cost_nanos: row.number(Number::CostUsd).unwrap_or(0).into(),
            input_tokens: row.number(Number::InputTokens).unwrap_or(0).into(),
            output_tokens: row.number(Number::OutputTokens).unwrap_or(0).into(),
        });
        let id = |text: Text| Some(row.text(text)).filter(|id| !id.is_empty());
        let environment = hash(0, row.text(Text::Environment).as_bytes());
        self.distinct(group, id(Text::EventId).map(|run| hash(environment, run.as_bytes())), id(Text::User).map(|user| hash(0, user.as_bytes())));
    }

    fn rows(&mut self, by: &[Key], group: &Group<'_>, selected: impl Iterator<Item = usize>) -> Result<(), IndexError> {
        let keys = by.iter().map(|key| Labels::of(key, group)).collect::<Result<Vec<_>, _>>()?;
        let number = |number: Number| group.numbers(&number.into());
        let (costs, input, output) = (number(Number::CostUsd)?, number(Number::InputTokens)?, number(Number::OutputTokens)?);
        let signals = group.signals()?;
        let ids = |counted: bool, text: Text| if counted { group.texts(&text.into()) } else { Ok(None) };
        let runs = ids(!(self.runs.full && self.all_runs.full), Text::EventId)?;
        let users = ids(!(self.users.full && self.all_users.full), Text::User)?;
        let environments = ids(runs.is_some(), Text::Environment)?;
        let hashes = |texts: &Option<Texts>| texts.as_ref().map(|texts| texts.entries().map(|text| hash(0, text.as_bytes())).collect::<Vec<_>>());
        let (user_hashes, environment_hashes) = (hashes(&users), hashes(&environments));
        let run_texts: Option<Vec<&str>> = runs.as_ref().map(|runs| runs.entries().collect());
        let mut found: FastMap<u64, usize> = FastMap::default();
        let mut seen: FastSet<(usize, u32, u32, u32)> = FastSet::default();
        for row in selected {
            let codes = keys.iter().fold(0, |codes, key| codes << 32 | key.code(row));
            let at = match found.get(&codes) {
                Some(at) => *at,
                None => {
                    let at = self.group(keys.iter().map(|key| key.label(row)).collect());
                    found.insert(codes, at);
                    at
                }
            };
            let of = |numbers: &Option<crate::group::Numbers>| numbers.as_ref().and_then(|numbers| numbers.get(row)).unwrap_or(0);
            let totals = &mut self.totals[at];
            totals.calls += 1;
            totals.errors += u64::from(signals[row] & (1 << Signal::Error.index()) != 0);
            totals.cost_nanos += u128::from(of(&costs));
            totals.input_tokens += u128::from(of(&input));
            totals.output_tokens += u128::from(of(&output));
            let code = |texts: &Option<Texts>| texts.as_ref().map_or(0, |texts| texts.code(row));
            let (run, user, environment) = (code(&runs), code(&users), code(&environments));
            if (run > 0 || user > 0) && seen.insert((at, run, user, environment)) {
                let hashed =
                    |hashes: &Option<Vec<u64>>, code: u32| hashes.as_ref().zip((code as usize).checked_sub(1)).map(|(hashes, at)| hashes[at]);
                let environment = hashed(&environment_hashes, environment).unwrap_or_else(|| hash(0, b""));
                let run = run_texts.as_ref().zip((run as usize).checked_sub(1)).map(|(texts, at)| hash(environment, texts[at].as_bytes()));
                self.distinct(at, run, hashed(&user_hashes, user));
            }
        }
        Ok(())
    }
}

fn label(key: &Key, row: &Row) -> String {
    match key {
        Key::Text(text) => cut(row.text(*text)).to_owned(),
        Key::Property(name) => cut(row.property(name).unwrap_or("")).to_owned(),
        Key::Number(number) => row.number(*number).map_or(String::new(), |number| number.to_string()),
        Key::Tokens | Key::Time | Key::Signal => String::new(),
    }
}

/// The labels of one key in one group.
enum Labels {
    Texts(Option<Texts>),
    Numbers(Option<crate::group::Numbers>),
}

impl Labels {
    fn of(key: &Key, group: &Group<'_>) -> Result<Self, IndexError> {
        Ok(match key {
            Key::Text(text) => Self::Texts(group.texts(&(*text).into())?),
            Key::Property(name) => Self::Texts(group.texts(&Column::Property(name.clone()))?),
            Key::Number(number) => Self::Numbers(group.numbers(&(*number).into())?),
            Key::Tokens | Key::Time | Key::Signal => Self::Texts(None),
        })
    }

    /// Below 2^32: a status code is.
    fn code(&self, row: usize) -> u64 {
        match self {
            Self::Texts(texts) => texts.as_ref().map_or(0, |texts| texts.code(row).into()),
            Self::Numbers(numbers) => numbers.as_ref().and_then(|numbers| numbers.get(row)).map_or(0, |number| number + 1),
        }
    }

    fn label(&self, row: usize) -> String {
        match self {
            Self::Texts(texts) => cut(texts.as_ref().and_then(|texts| texts.get(row)).unwrap_or("")).to_owned(),
            Self::Numbers(numbers) => numbers.as_ref().and_then(|numbers| numbers.get(row)).map_or(String::new(), |number| number.to_string()),
        }
    }
}

impl Reader {
    /// Sums of the calls that match, by one or two keys (texts, properties, `status_code`), the `limit` largest by cost; at most 1,000.
    ///
    /// # Errors
    /// [`SumsError::Key`] and [`SumsError::Keys`] for keys that calls are not summed by; else when a file is damaged or cannot be read.
    pub fn sums(&self, query: &Query, times: Times, by: &[Key], limit: usize) -> Result<Sums, SumsError> {
        check(by)?;
        let mut summing = Summing::new(true);
        let view = View::of(self.state());
        summing.fresh(&view, query, times, by);
        for spot in view.spots().filter(|spot| times.overlaps(query, view.meta(*spot))) {
            summing.spot(&view, spot, query, times, by)?;
        }
        Ok(summing.table(limit.min(crate::search::LIMIT_MAX)))
    }

    /// The same without distinct runs and users. Sums of a whole file are kept for the next time, so a table that is asked for again and again costs only
    /// what has come since, and the files at the ends of its times.
    ///
    /// # Errors
    /// Those of [`Reader::sums`].
    pub fn totals(&self, query: &Query, times: Times, by: &[Key], limit: usize) -> Result<Sums, SumsError> {
        check(by)?;
        let mut summing = Summing::new(false);
        let view = View::of(self.state());
        summing.fresh(&view, query, times, by);
        let spots: Vec<Spot> = view.spots().filter(|spot| times.overlaps(query, view.meta(*spot))).collect();
        for file in spots.chunk_by(|a, b| a.same_file(*b)) {
            let sealed = view.file_of(file[0]).filter(|_| query.lasts());
            let whole = |meta: &crate::group::Meta| times.contains(meta.earliest) && times.contains(meta.latest);
            let Some(sealed) = sealed.filter(|sealed| sealed.footer.groups.iter().all(whole)) else {
                file.iter().try_for_each(|spot| summing.spot(&view, *spot, query, times, by))?;
                continue;
            };
            let asked = asked(sealed.footer.after, query, by);
            let known = self.memo().known(&asked);
            let part = match known {
                Some(part) => part,
                None => {
                    let part = whole_file(&view, file, query, by)?;
                    self.memo().keep(asked, part.clone());
                    part
                }
            };
            summing.add(&part);
        }
        Ok(summing.table(limit.min(crate::search::LIMIT_MAX)))
    }

    /// Sums one file before anybody asks, for [`Reader::totals`] of all calls by these keys: the newest whose sums are not kept. False where there is
    /// nothing to do, because those of every file are, or those of newer files take all the room.
    ///
    /// Cost: some 20 ms a file.
    ///
    /// # Errors
    /// Those of [`Reader::sums`].
    pub fn sum_ahead(&self, by: &[Key]) -> Result<bool, SumsError> {
        check(by)?;
        let (view, query) = (View::of(self.state()), Query::default());
        let spots: Vec<Spot> = view.spots().collect();
        let files = spots.chunk_by(|a, b| a.same_file(*b)).filter_map(|file| Some((file, view.file_of(file[0])?.footer.after)));
        let files: Vec<(&[Spot], u64)> = files.collect();
        let next = {
            let mut memo = self.memo();
            memo.forget_gone(&files.iter().map(|(_, after)| *after).collect());
            let next = files.iter().rev().find(|(_, after)| memo.known(&asked(*after, &query, by)).is_none());
            next.filter(|(_, after)| memo.make_room(*after))
        };
        let Some((file, after)) = next else { return Ok(false) };
        let part = whole_file(&view, file, &query, by)?;
        self.memo().keep_ahead(asked(*after, &query, by), part);
        Ok(true)
    }
}

/// Where the file begins, and what is asked of it.
fn asked(after: u64, query: &Query, by: &[Key]) -> (u64, String) {
    (after, format!("{query:?}{by:?}"))
}

fn whole_file(view: &View, file: &[Spot], query: &Query, by: &[Key]) -> Result<Arc<Part>, IndexError> {
    let mut own = Summing::new(false);
    file.iter().try_for_each(|spot| own.spot(view, *spot, query, Times::ALL, by))?;
    Ok(Arc::new(own.part()))
}

/// Sums of whole files.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// That somebody asked for: by where the file begins, and what was asked.
    of: HashMap<(u64, String), Arc<Part>>,
    groups: usize,
    /// The same of what was summed before; ordered, so that the oldest file is the first.
    ahead: BTreeMap<(u64, String), Arc<Part>>,
    groups_ahead: usize,
}

/// Sums of a file.
#[derive(Debug)]
struct Part {
    groups: Vec<(Vec<String>, Totals)>,
    other: Totals,
    overflowed: bool,
}

impl Memo {
    fn known(&self, asked: &(u64, String)) -> Option<Arc<Part>> {
        self.ahead.get(asked).or_else(|| self.of.get(asked)).cloned()
    }

    fn keep(&mut self, asked: (u64, String), part: Arc<Part>) {
        // What is asked again is soon here again.
        if self.groups + part.groups.len() > REMEMBERED_MAX {
            (self.of, self.groups) = (HashMap::new(), 0);
        }
        self.groups += part.groups.len();
        self.of.insert(asked, part);
    }

    fn keep_ahead(&mut self, asked: (u64, String), part: Arc<Part>) {
        self.groups_ahead += part.groups.len();
        if let Some(before) = self.ahead.insert(asked, part) {
            self.groups_ahead -= before.groups.len();
        }
    }

    /// Whether there is room for the file that begins here; older ones give way to it.
    fn make_room(&mut self, after: u64) -> bool {
        while self.groups_ahead >= AHEAD_MAX {
            let Some(oldest) = self.ahead.first_entry().filter(|oldest| oldest.key().0 < after) else { return false };
            self.groups_ahead -= oldest.remove().groups.len();
        }
        true
    }

    /// Of files that are not there any more.
    fn forget_gone(&mut self, there: &BTreeSet<u64>) {
        let groups = &mut self.groups_ahead;
        self.ahead.retain(|(after, _), part| {
            let kept = there.contains(after);
            *groups -= if kept { 0 } else { part.groups.len() };
            kept
        });
    }
}

fn check(by: &[Key]) -> Result<(), SumsError> {
    if by.is_empty() || by.len() > KEYS_MAX {
        return Err(SumsError::Keys(by.len()));
    }
    match by.iter().find(|key| !matches!(key, Key::Text(_) | Key::Property(_) | Key::Number(Number::StatusCode))) {
        Some(key) => Err(SumsError::Key(key.clone())),
        None => Ok(()),
    }
}

impl Summing {
    fn new(distinct: bool) -> Self {
        let counted = || Distinct { full: !distinct, ..Distinct::default() };
        Self {
            groups: HashMap::new(),
            totals: vec![Totals::default()],
            overflowed: false,
            runs: counted(),
            users: counted(),
            all_runs: counted(),
            all_users: counted(),
        }
    }

    fn fresh(&mut self, view: &View, query: &Query, times: Times, by: &[Key]) {
        view.fresh().filter(|row| times.contains(row.time) && query.matches(row)).for_each(|row| self.row(by, row));
    }

    fn spot(&mut self, view: &View, spot: Spot, query: &Query, times: Times, by: &[Key]) -> Result<(), IndexError> {
        let Some(group) = view.group(spot)? else { return Ok(()) };
        let selected = times.select(query, &group)?;
        if selected.is_empty() { Ok(()) } else { self.rows(by, &group, selected.rows()) }
    }

    fn part(self) -> Part {
        let (totals, other) = (&self.totals, self.totals[0]);
        Part { groups: self.groups.into_iter().map(|(labels, at)| (labels, totals[at])).collect(), other, overflowed: self.overflowed }
    }

    fn add(&mut self, part: &Part) {
        for (labels, totals) in &part.groups {
            let at = self.group(labels.clone());
            self.totals[at].add(totals);
        }
        self.totals[0].add(&part.other);
        self.overflowed |= part.overflowed;
    }

    fn table(self, limit: usize) -> Sums {
        let mut total = Totals::default();
        self.totals.iter().for_each(|totals| total.add(totals));
        let (runs, users) = (self.runs.by_group(self.totals.len()), self.users.by_group(self.totals.len()));
        let sum = |(labels, at): (Vec<String>, usize)| Sum { labels, totals: self.totals[at], runs: runs[at], users: users[at] };
        let mut groups: Vec<Sum> = self.groups.into_iter().map(sum).collect();
        let order = |sum: &Sum| (std::cmp::Reverse((sum.totals.cost_nanos, sum.totals.calls)), sum.labels.clone());
        groups.sort_by_cached_key(order);
        let mut other = self.totals[0];
        groups.drain(limit.min(groups.len())..).for_each(|sum| other.add(&sum.totals));
        let only = |distinct: &Distinct| distinct.by_group(1)[0];
        Sums { groups, other, total, runs: only(&self.all_runs), users: only(&self.all_users), overflowed: self.overflowed }
    }
}
