//! Which known name was perhaps meant by an unknown one.

/// The known name with the fewest edits, where that is at most one in three letters.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    // Names are short; a long one is no mistyped name.
    if name.len() > 64 {
        return None;
    }
    let near = known.filter(|known| known.len() <= 128).map(|known| (edits(&name, &known.to_lowercase().chars().collect::<Vec<_>>()), known));
    near.filter(|(edits, _)| *edits <= name.len().div_ceil(3)).min_by_key(|(edits, _)| *edits).map(|(_, known)| known)
}

/// Optimal string alignment distance.
fn edits(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let mut fewest = (above[j] + usize::from(l != r)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *l == right[j - 1] && left[i - 1] == *r {
                fewest = fewest.min(before[j - 1] + 1);
            }
            row.push(fewest);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_seen_through() {
        let known = ["model", "stage", "latency_ms", "tenant"];
        for (typed, meant) in [("modle", Some("model")), ("stge", Some("stage")), ("tennant", Some("tenant")), ("colour", None), ("x", None)] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }
}
