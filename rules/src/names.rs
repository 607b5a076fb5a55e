//! Misspelt parts of `log` and `w`, found when the file is read instead of at the first call at night.
//!
//! Only what is certain is told: a path that begins with the parameter of a rule's own function, in that function, where nothing else has that name.
//! What goes through another name, a helper function or an index is found when it runs, or is `()`.

use crate::api;
use crate::load::ENTRIES;
use crate::log;
use crate::nearest;
use crate::problem::{Refusal, not_here};
use crate::tokens::Place;
use crate::words::Words;
use model::label::Key;

/// Complains of what a call does not have in the paths of `function`, which sees one.
pub(crate) fn of_a_call(words: &Words<'_>, function: &str) -> Vec<(Place, Refusal)> {
    let wrong = |path: Vec<(&str, Place)>| {
        let (field, place) = *path.first()?;
        if !log::is_field(field) {
            return Some((place, log::unknown_field(field)));
        }
        let known = log::parts_of(field)?;
        let (part, place) = *path.get(1)?;
        let refusal = Refusal::new(format!("`{field}` of a call has no `{part}`"));
        (!known.contains(&part)).then(|| (place, refusal.hint(nearest::hint(part, known.iter().copied()))))
    };
    words.paths(function).into_iter().filter_map(wrong).collect()
}

/// Complains of what no function can call.
pub(crate) fn of_functions(words: &Words<'_>) -> Vec<(Place, Refusal)> {
    let wrong = |(function, name, place): (&str, &str, Place)| {
        // Another function may be there to write watches with.
        if ENTRIES.contains(&function) && api::functions().any(|known| known.name == name && known.place == api::Place::TopLevel) {
            let refusal = Refusal::new(format!("`{name}` belongs at the top level of the file, and not in a function"));
            return Some((place, refusal.hint("watch it there, as in watch: #{ x: … }, and ask for w.x.value in fn check(w)")));
        }
        Some((place, not_here(name)?))
    };
    words.calls().into_iter().filter_map(wrong).collect()
}

/// Complains of what is not in `w`, for a rule with these watches and keys.
pub(crate) fn of_a_view(words: &Words<'_>, watches: &[String], group_by: &[Key]) -> Vec<(Place, Refusal)> {
    let watches: Vec<_> = watches.iter().map(String::as_str).collect();
    let known: Vec<_> = watches.iter().copied().chain(["group", "now"]).collect();
    let labels: Vec<_> = ["environment".to_owned()].into_iter().chain(group_by.iter().map(Key::to_string)).collect();
    let parts = api::parts_of_a_watch();
    let unknown = |(name, place): (&str, Place), of: &str, known: &[&str]| {
        let refusal = Refusal::new(format!("there is no `{name}` in {of}"));
        (!known.contains(&name)).then(|| (place, refusal.hint(nearest::hint(name, known.iter().copied()))))
    };
    let wrong = |path: Vec<(&str, Place)>| {
        let first = *path.first()?;
        if let Some(refusal) = unknown(first, "w", &known) {
            return Some(refusal);
        }
        let second = *path.get(1)?;
        if first.0 == "group" {
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            let (place, refusal) = unknown(second, "w.group", &labels)?;
            // A key inside a property has a dot of its own.
            let inside = labels.iter().find(|label| label.split('.').next() == Some(second.0));
            return Some((place, inside.map_or(refusal.clone(), |label| refusal.hint(format!("write w.group[\"{label}\"]")))));
        }
        if !watches.contains(&first.0) {
            return None;
        }
        let of = format!("w.{}", first.0);
        if let Some(refusal) = unknown(second, &of, &parts) {
            return Some(refusal);
        }
        let third = *path.get(2)?;
        match second.0 {
            "previous" | "same_time_yesterday" => unknown(third, &format!("{of}.{}", second.0), &parts),
            "expected" => unknown(third, &format!("{of}.expected"), &["low", "high"]),
            _ => None,
        }
    };
    words.paths("check").into_iter().filter_map(wrong).collect()
}
