//! The nearest known name to one that is not known: what every "did you mean" rests on.

/// Longer than every name that we give; people's texts may be any length, and comparing costs the product of two.
const NAME_MAX: usize = 64;

/// The known name with the fewest edits from `name` (insert, delete, replace or swap two neighbours), when that is few for its length:
/// one edit for each three letters begun. A beginning of three letters or more, such as `cost` for `cost_usd`, is near, too. Case does not count. Of
/// equals the first. A name of more than [`NAME_MAX`] characters is no slip.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let letters = name.chars().count();
    if letters > NAME_MAX {
        return None;
    }
    let edits_max = letters.div_ceil(3);
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= 4 * NAME_MAX)
        .map(|candidate| {
            let (name, known) = (name.to_lowercase(), candidate.to_lowercase());
            let beginning = name.chars().count() >= 3 && known.starts_with(&name);
            (if beginning { edits(&name, &known).min(edits_max) } else { edits(&name, &known) }, candidate)
        })
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance. Cost: the product of the lengths; names are short.
fn edits(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        for (name, expected) in [
            ("fallbak", Some("fallback")),
            ("aplies", Some("applies")),
            ("RETRY", Some("retry")),
            ("rtery", Some("retry")),
            ("", None),
            ("completely different", None),
            ("rate", None),
            ("app", Some("applies")),
            ("re", None),
            (&"fallback".repeat(9), None),
        ] {
            assert_eq!(nearest(name, ["fallback", "applies", "retry"]), expected, "{name}");
        }
    }
}
