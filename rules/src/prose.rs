//! What a text or a list does that it should not: going round in a loop, saying the same thing twice. In any language, for nothing is known of words.
//!
//! Deliberately absent: meaning. Two sentences that say the same in other words are two.

use crate::json::{self, Json};
use crate::pattern::spend;
use rhai::{Array, Dynamic, Engine, EvalAltResult};
use std::collections::{HashMap, HashSet};

/// Pieces of a text, from its end, that are looked at: models that run into a loop stay in it.
const PIECES_MAX: usize = 4_096;
/// Pieces of one round: about a paragraph.
const ROUND_MAX: usize = 128;
/// What is longer than this without a space is looked at character by character: other scripts have none.
const WORD_MAX: usize = 16;
/// Saying something twice may be meant.
const ROUNDS_MIN: usize = 3;

pub(crate) fn register(engine: &mut Engine) {
    type Answer<T> = Result<T, Box<EvalAltResult>>;
    engine
        .register_fn("repetition", |text: &str| -> Answer<f64> {
            // Counted with the patterns, because operations do not tell.
            spend(text.len().min(PIECES_MAX * WORD_MAX) * 4)?;
            Ok(repetition(text))
        })
        .register_fn("repetition", |_: ()| 0.0)
        .register_fn("duplicates", |values: Array| -> Answer<i64> { duplicates(&values) })
        .register_fn("duplicates", |json: Json| -> Answer<i64> { duplicates(&json.values()) })
        .register_fn("duplicates", |_: ()| 0_i64);
}

/// The share of the text, by characters, in the longest stretch that is one piece of text at least [`ROUNDS_MIN`] times in a row.
fn repetition(text: &str) -> f64 {
    let pieces = pieces(text);
    let pieces = &pieces[pieces.len().saturating_sub(PIECES_MAX)..];
    let mut numbers = HashMap::new();
    let ids: Vec<usize> = pieces
        .iter()
        .map(|piece| {
            let next = numbers.len();
            *numbers.entry(*piece).or_insert(next)
        })
        .collect();
    let mut before = vec![0];
    before.extend(pieces.iter().scan(0, |sum, piece| {
        *sum += piece.chars().count();
        Some(*sum)
    }));
    let mut longest = 0;
    for round in 1..=ROUND_MAX.min(ids.len() / ROUNDS_MIN) {
        let mut same = 0;
        for at in round..=ids.len() {
            if at < ids.len() && ids[at] == ids[at - round] {
                same += 1;
                continue;
            }
            if same >= round * (ROUNDS_MIN - 1) {
                longest = longest.max(before[at] - before[at - same - round]);
            }
            same = 0;
        }
    }
    let whole = before[pieces.len()];
    if whole == 0 { 0.0 } else { longest as f64 / whole as f64 }
}

/// Words, and the characters of what is too long to be one.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    for word in text.split_whitespace() {
        if word.chars().nth(WORD_MAX).is_none() {
            pieces.push(word);
        } else {
            pieces.extend(word.char_indices().map(|(at, c)| &word[at..at + c.len_utf8()]));
        }
    }
    pieces
}

/// How many elements were there before: texts without regard to case, white space and what ends a sentence.
fn duplicates(values: &[Dynamic]) -> Result<i64, Box<EvalAltResult>> {
    let mut seen = HashSet::new();
    let mut twice = 0;
    for value in values.iter().filter(|value| !value.is_unit()) {
        let said = match value.as_immutable_string_ref() {
            Ok(text) => {
                spend(text.len())?;
                plain(&text)
            }
            Err(_) => json::shown(value),
        };
        twice += i64::from(!seen.insert(said));
    }
    Ok(twice)
}

fn plain(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ").trim_end_matches(['.', '!', '?', '。', '！', '？']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_found_in_any_language_and_its_share_is_told() {
        let share = |text: &str| (repetition(text) * 100.0).round() as i64;
        for (text, expected) in [
            ("", 0),
            ("The user moved to Lyon in May and works as a baker.", 0),
            // Twice may be meant.
            ("very very good, very very good", 0),
            ("no no no", 100),
            ("I am sorry. I am sorry. I am sorry. I am sorry.", 100),
            ("Er zog nach Lyon. Er zog nach Lyon. Er zog nach Lyon.", 100),
            ("他搬到了里昂。他搬到了里昂。他搬到了里昂。他搬到了里昂。", 100),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 100),
            ("The answer is: and then and then and then and then", 70),
            ("| a | b | c |", 0),
        ] {
            assert_eq!(share(text), expected, "{text}");
        }
        let long = "word ".repeat(50_000);
        assert_eq!(share(&long), 100);
        // Counting is no loop.
        let numbers: Vec<_> = (0..5_000).map(|number| number.to_string()).collect();
        assert_eq!(share(&numbers.join(" ")), 0);
    }

    #[test]
    fn what_is_said_twice_is_counted_once_less() {
        let count = |values: &str| duplicates(&json::parse(values).cast::<Json>().values()).expect("it is short");
        for (values, expected) in [
            (r#"[]"#, 0),
            (r#"["Lives in Lyon.", "lives  in lyon", "Bakes"]"#, 1),
            (r#"["a", "a", "a"]"#, 2),
            (r#"[{"text": "a", "n": 1}, {"n": 1, "text": "a"}, {"text": "b"}]"#, 1),
            (r#"[1, 1.0, "1", true]"#, 0),
            (r#"[null, null]"#, 0),
        ] {
            assert_eq!(count(values), expected, "{values}");
        }
    }
}
