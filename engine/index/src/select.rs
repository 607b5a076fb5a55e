//! Which rows of a group a query matches: [`Query::matches`] again, over columns. `tests/oracle.rs` holds that the two agree.
//!
//! Cost: a term reads its own column, and only where the terms before it left any row; a text is looked at once for a group, not once a row.

use crate::error::IndexError;
use crate::group::{Column, Group};
use crate::keys::{Key, Number, Text};
use crate::pack::Bits;
use crate::query::{IDS, Pattern, PropertyIs, Query, Status, Test, between};
use crate::row::together;
use model::Signal;

impl Query {
    /// The rows of `group` that match.
    pub(crate) fn select(&self, group: &Group<'_>) -> Result<Bits, IndexError> {
        let none = || Bits::none(group.rows());
        for term in self.terms.iter().filter(|term| !term.negated) {
            if let Some(marks) = marks(&term.test)
                && !group.may_hold(&marks)?
            {
                return Ok(none());
            }
        }
        let mut selected = Bits::all(group.rows());
        // Whole values first: they mostly leave few rows, and the other terms are then asked of those alone.
        let (first, then): (Vec<_>, Vec<_>) = self.terms.iter().partition(|term| !term.negated && marks(&term.test).is_some());
        for term in first.into_iter().chain(then) {
            let found = find(&term.test, group, &selected)?;
            if term.negated {
                selected.and_not(&found);
            } else {
                selected.and(&found);
            }
            if selected.is_empty() {
                break;
            }
        }
        Ok(selected)
    }
}

/// What the filter can be asked for a test: one of these must be there.
fn marks(test: &Test) -> Option<Vec<u64>> {
    fn exact<'p>(columns: &[Column], any: impl Iterator<Item = Option<&'p Pattern>>) -> Option<Vec<u64>> {
        let texts = any.map(|pattern| pattern.and_then(Pattern::exact)).collect::<Option<Vec<_>>>()?;
        Some(texts.iter().flat_map(|text| columns.iter().map(|column| column.mark(text))).collect())
    }
    match test {
        Test::Text(text, any) => exact(&[(*text).into()], any.iter().map(Some)),
        Test::Property(name, any) => exact(&[Column::Property(name.clone())], any.iter().map(PropertyIs::text)),
        Test::Id(any) => exact(&IDS.map(Column::from), any.iter().map(Some)),
        _ => None,
    }
}

/// Of the rows of `within`, those of which `test` holds.
fn find(test: &Test, group: &Group<'_>, within: &Bits) -> Result<Bits, IndexError> {
    let rows = group.rows();
    let texts = |column: &Column, holds: &dyn Fn(&str) -> bool| {
        Ok(group.texts(column)?.map_or_else(|| Bits::none(rows), |texts| texts.rows_where(within, holds)))
    };
    let numbers = |number: Number, holds: &dyn Fn(u64) -> bool| {
        let numbers = group.numbers(&number.into())?;
        Ok(numbers.map_or_else(|| Bits::none(rows), |numbers| within.among(|row| numbers.get(row).is_some_and(holds))))
    };
    let any_of = |found: Vec<Bits>| {
        found.into_iter().fold(Bits::none(rows), |mut all, one| {
            all.or(&one);
            all
        })
    };
    let errors = || Ok::<_, IndexError>(holding(&group.signals()?, 1 << Signal::Error.index()));
    match test {
        Test::Text(text, any) => texts(&Column::from(*text), &|text| any.iter().any(|pattern| pattern.matches(text))),
        Test::Property(name, any) => texts(&Column::Property(name.clone()), &|text| any.iter().any(|is| is.matches(text))),
        Test::Id(any) => {
            let found = IDS.map(|text: Text| texts(&Column::from(text), &|text| any.iter().any(|pattern| pattern.matches(text))));
            Ok(any_of(found.into_iter().collect::<Result<_, _>>()?))
        }
        Test::Number(number, any) => numbers(*number, &|value| between(any, value)),
        Test::Tokens(any) => {
            let (input, output) = (group.numbers(&Number::InputTokens.into())?, group.numbers(&Number::OutputTokens.into())?);
            let of = |row| together(input.as_ref().and_then(|input| input.get(row)), output.as_ref().and_then(|output| output.get(row)));
            Ok(within.among(|row| of(row).is_some_and(|tokens| between(any, tokens))))
        }
        Test::Time(any) => {
            let inside = any.iter().any(|(from, until)| *from <= group.meta.earliest && group.meta.latest <= *until);
            if inside {
                return Ok(within.clone());
            }
            let times = group.times()?;
            Ok(within.among(|row| any.iter().any(|(from, until)| (*from..=*until).contains(&times.get(row)))))
        }
        Test::Status(any) => {
            let each = any.iter().map(|status| match status {
                Status::Error => errors(),
                Status::Ok => {
                    let mut ok = Bits::all(rows);
                    ok.and_not(&errors()?);
                    Ok(ok)
                }
                Status::Code(codes) => numbers(Number::StatusCode, &|code| between(&[*codes], code)),
            });
            Ok(any_of(each.collect::<Result<_, IndexError>>()?))
        }
        Test::Signal(any) => {
            let mut found = Vec::new();
            for name in any {
                if let Some(signal) = Signal::parse(name) {
                    found.push(holding(&group.signals()?, 1 << signal.index()));
                }
                found.push(texts(&Column::Further(name.clone()), &|_| true)?);
            }
            Ok(any_of(found))
        }
        Test::Has(any) => Ok(any_of(any.iter().map(|key| has(key, group, within)).collect::<Result<_, _>>()?)),
        Test::Verdict(any) => {
            let within = |sequences: &'_ [u64]| {
                let from = sequences.partition_point(|sequence| *sequence < group.meta.first_sequence);
                let until = sequences.partition_point(|sequence| *sequence <= group.meta.last_sequence);
                from..until
            };
            let mut found = Bits::none(rows);
            let of_group: Vec<&[u64]> = any.iter().map(|verdict| &verdict.sequences[within(&verdict.sequences)]).collect();
            if of_group.iter().any(|sequences| !sequences.is_empty()) {
                let sequences = group.sequences()?;
                let own: Vec<u64> = (0..rows).map(|row| sequences.get(row)).collect();
                let places = of_group.iter().flat_map(|sequences| sequences.iter()).filter_map(|sequence| own.binary_search(sequence).ok());
                places.for_each(|row| found.set(row));
            }
            Ok(found)
        }
    }
}

pub(crate) fn holding(signals: &[u32], mask: u32) -> Bits {
    Bits::where_(signals.len(), |row| signals[row] & mask != 0)
}

fn has(key: &Key, group: &Group<'_>, within: &Bits) -> Result<Bits, IndexError> {
    let rows = group.rows();
    let texts = |column: &Column| Ok(group.texts(column)?.map_or_else(|| Bits::none(rows), |texts| texts.present(within)));
    let numbers = |number: Number| {
        let numbers = group.numbers(&number.into())?;
        Ok::<_, IndexError>(numbers.map_or_else(|| Bits::none(rows), |numbers| Bits::where_(rows, |row| numbers.get(row).is_some())))
    };
    match key {
        Key::Text(text) => texts(&Column::from(*text)),
        Key::Property(name) => texts(&Column::Property(name.clone())),
        Key::Number(number) => numbers(*number),
        Key::Tokens => {
            let mut either = numbers(Number::InputTokens)?;
            either.or(&numbers(Number::OutputTokens)?);
            Ok(either)
        }
        Key::Time => Ok(Bits::all(rows)),
        Key::Signal => {
            let mut any = holding(&group.signals()?, u32::MAX);
            for name in group.further_names()? {
                any.or(&texts(&Column::Further(name.to_owned()))?);
            }
            Ok(any)
        }
    }
}
