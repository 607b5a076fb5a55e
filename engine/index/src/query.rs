//! What a search means: terms that must all hold of a call. [`Query::matches`] is the definition; `select` finds the same rows in columns.
//!
//! Deliberately absent: how it is written (that is `parse`), and any order or limit of what is found.

use crate::keys::{Key, Number, Text};
use crate::row::Row;
use crate::state::Names;
use model::Signal;
use model::nearest::nearest;
use model::time::Timestamp;
use std::collections::BTreeSet;
use std::ops::{Bound, RangeBounds};

/// Terms that must all hold; none at all hold of every call. Made by [`Query::parse`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub(crate) terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// Where it was written: bytes from the start.
    pub at: usize,
    pub negated: bool,
    pub test: Test,
}

/// Of alternatives, any one is enough. What a call does not have satisfies nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Text(Text, Vec<Pattern>),
    Property(String, Vec<PropertyIs>),
    Number(Number, Vec<Between>),
    Tokens(Vec<Between>),
    Time(Vec<(Timestamp, Timestamp)>),
    Status(Vec<Status>),
    Signal(Vec<String>),
    Has(Vec<Key>),
    /// A bare word: the call itself, its run, or its user.
    Id(Vec<Pattern>),
    Verdict(Vec<VerdictTerm>),
}

/// What a property may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PropertyIs {
    Text(Pattern),
    /// Of properties whose text is a number.
    Number((Bound<f64>, Bound<f64>)),
}

/// Both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Between(pub u64, pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The signal `error` holds, or does not: what a person means, whatever the code says.
    Error,
    Ok,
    Code(Between),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Exact(String),
    /// The stretches between stars, at least two; empty ones at an end are a star there.
    Wild(Vec<String>),
}

/// What a search asks of an evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerdictIs {
    Pass,
    Fail,
    /// Asked, and no opinion came: it did not answer, or what it said was none.
    Error,
}

/// One `verdict:NAME=…`; verdicts live elsewhere and arrive later, so the caller says of which calls it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerdictTerm {
    pub evaluator: String,
    pub is: VerdictIs,
    /// Ascending; empty until [`Query::with_verdicts`].
    pub sequences: Vec<u64>,
}

/// A property or a signal that no call has, with the one that was perhaps meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Where its term begins: bytes from the start.
    pub at: usize,
    pub name: String,
    pub meant: Option<String>,
}

impl Query {
    /// Fills in which calls each `verdict:` is true of. Without it, none has a verdict.
    #[must_use]
    pub fn with_verdicts(mut self, mut sequences: impl FnMut(&str, VerdictIs) -> Vec<u64>) -> Self {
        for term in &mut self.terms {
            if let Test::Verdict(any) = &mut term.test {
                for verdict in any {
                    verdict.sequences = sequences(&verdict.evaluator, verdict.is);
                    verdict.sequences.sort_unstable();
                }
            }
        }
        self
    }

    /// Whether every term holds of this call.
    pub fn matches(&self, row: &Row) -> bool {
        self.terms.iter().all(|term| term.test.holds(row) != term.negated)
    }

    /// Every call that has all of these.
    pub fn having(keys: &[Key]) -> Self {
        Self { terms: keys.iter().map(|key| Term { at: 0, negated: false, test: Test::Has(vec![key.clone()]) }).collect() }
    }

    fn properties(&self) -> impl Iterator<Item = (usize, &str)> {
        self.terms.iter().flat_map(|term| {
            let names: Vec<&str> = match &term.test {
                Test::Property(name, _) => vec![name],
                Test::Has(keys) => keys.iter().filter_map(|key| if let Key::Property(name) = key { Some(name.as_str()) } else { None }).collect(),
                _ => Vec::new(),
            };
            names.into_iter().map(|name| (term.at, name))
        })
    }

    /// Properties that are asked for and are none of `known`, the names that calls have: mostly typing mistakes.
    pub fn unknown_properties(&self, known: &BTreeSet<String>) -> Vec<Unknown> {
        unknown(self.properties(), known, Key::known().collect())
    }

    /// The same of signals.
    pub fn unknown_signals(&self, known: &BTreeSet<String>) -> Vec<Unknown> {
        unknown(self.further_signals(), known, Signal::ALL.iter().map(|signal| signal.name()).collect())
    }

    /// Whether calls have every property and signal that it names.
    pub fn is_of(&self, names: &Names) -> bool {
        self.properties().all(|(_, name)| names.properties.contains(name)) && self.further_signals().all(|(_, name)| names.signals.contains(name))
    }

    /// What was perhaps meant otherwise, for whoever has found nothing: where its term begins, and what the term means.
    pub fn readings(&self) -> Vec<(usize, String)> {
        let mut readings = Vec::new();
        for term in &self.terms {
            let (is_id, texts): (bool, Vec<&str>) = match &term.test {
                Test::Id(any) => (true, any.iter().filter_map(Pattern::exact).collect()),
                Test::Text(_, any) => (false, any.iter().filter_map(Pattern::exact).collect()),
                Test::Property(_, any) => (false, any.iter().filter_map(PropertyIs::text).filter_map(Pattern::exact).collect()),
                _ => continue,
            };
            for text in texts {
                if is_id {
                    readings.push((term.at, format!("`{text}` is looked for as a whole id: a call's, a run's or a user's")));
                } else if text.contains(',') && !text.contains(char::is_whitespace) {
                    // A text with blanks stood in quotes, so its commas are meant.
                    readings.push((term.at, format!("`{text}` is one value; alternatives are written {}", text.replace(',', "|"))));
                }
            }
        }
        readings
    }

    /// The signals that it names and that are not built in, each with where its term begins: bytes from the start.
    pub fn further_signals(&self) -> impl Iterator<Item = (usize, &str)> {
        self.terms.iter().flat_map(|term| {
            let names = if let Test::Signal(any) = &term.test { any.as_slice() } else { &[] };
            names.iter().filter(|name| Signal::parse(name).is_none()).map(|name| (term.at, name.as_str()))
        })
    }

    /// Whether it matches the same calls tomorrow: neither times nor verdicts, which come later, are asked for.
    pub(crate) fn lasts(&self) -> bool {
        !self.terms.iter().any(|term| matches!(term.test, Test::Time(_) | Test::Verdict(_)))
    }

    /// No call outside these times can match, both ends included.
    pub(crate) fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let hulls = self.terms.iter().filter(|term| !term.negated).filter_map(|term| match &term.test {
            Test::Time(any) => Some((any.iter().map(|(from, _)| *from).min()?, any.iter().map(|(_, until)| *until).max()?)),
            _ => None,
        });
        hulls.reduce(|(from, until), (other_from, other_until)| (from.max(other_from), until.min(other_until)))
    }
}

/// What of `asked` is not `known`, with what was perhaps meant: one of these or of `ours`.
fn unknown<'q>(asked: impl Iterator<Item = (usize, &'q str)>, known: &'q BTreeSet<String>, mut ours: Vec<&'q str>) -> Vec<Unknown> {
    ours.extend(known.iter().map(String::as_str));
    let unknown = asked.filter(|(_, name)| !known.contains(*name));
    unknown.map(|(at, name)| Unknown { at, name: name.to_owned(), meant: nearest(name, ours.iter().copied()).map(str::to_owned) }).collect()
}

impl Test {
    fn holds(&self, row: &Row) -> bool {
        let among = |any: &[Pattern], text: &str| !text.is_empty() && any.iter().any(|pattern| pattern.matches(text));
        match self {
            Self::Text(text, any) => among(any, row.text(*text)),
            Self::Property(name, any) => row.property(name).is_some_and(|text| any.iter().any(|is| is.matches(text))),
            Self::Number(number, any) => row.number(*number).is_some_and(|value| between(any, value)),
            Self::Tokens(any) => row.tokens().is_some_and(|value| between(any, value)),
            Self::Time(any) => any.iter().any(|(from, until)| (*from..=*until).contains(&row.time)),
            Self::Status(any) => any.iter().any(|status| match status {
                Status::Error => row.holds(Signal::Error),
                Status::Ok => !row.holds(Signal::Error),
                Status::Code(codes) => row.number(Number::StatusCode).is_some_and(|code| between(&[*codes], code)),
            }),
            Self::Signal(any) => any.iter().any(|name| row.holds_named(name)),
            Self::Has(any) => any.iter().any(|key| match key {
                Key::Text(text) => !row.text(*text).is_empty(),
                Key::Number(number) => row.number(*number).is_some(),
                Key::Tokens => row.tokens().is_some(),
                Key::Time => true,
                Key::Signal => row.signals().next().is_some(),
                Key::Property(name) => row.property(name).is_some(),
            }),
            Self::Id(any) => IDS.into_iter().any(|text| among(any, row.text(text))),
            Self::Verdict(any) => any.iter().any(|verdict| verdict.sequences.binary_search(&row.sequence).is_ok()),
        }
    }
}

/// What a bare word is looked for in.
pub(crate) const IDS: [Text; 3] = [Text::Id, Text::EventId, Text::User];

pub(crate) fn between(any: &[Between], value: u64) -> bool {
    any.iter().any(|Between(least, greatest)| (*least..=*greatest).contains(&value))
}

impl PropertyIs {
    pub fn text(&self) -> Option<&Pattern> {
        if let Self::Text(pattern) = self { Some(pattern) } else { None }
    }

    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Text(pattern) => pattern.matches(text),
            Self::Number(range) => text.parse::<f64>().is_ok_and(|value| value.is_finite() && range.contains(&value)),
        }
    }
}

impl Pattern {
    pub fn exact(&self) -> Option<&str> {
        if let Self::Exact(text) = self { Some(text) } else { None }
    }

    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Wild(stretches) => {
                let [first, middle @ .., last] = stretches.as_slice() else { return false };
                let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else { return false };
                middle.iter().all(|stretch| match rest.find(stretch.as_str()) {
                    Some(at) => {
                        rest = &rest[at + stretch.len()..];
                        true
                    }
                    None => false,
                })
            }
        }
    }
}
