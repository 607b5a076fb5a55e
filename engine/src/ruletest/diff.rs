//! Where two texts differ, line by line.

/// One line of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Same(String),
    Removed(String),
    Added(String),
}

/// Larger texts are shown whole: the table of the comparison has a cell for each pair of lines.
const CELLS_MAX: usize = 4_000_000;

/// The lines of `old` and `new`, as few of them as possible removed and added.
pub(super) fn diff(old: &str, new: &str) -> Vec<Line> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let width = new.len() + 1;
    let small = (old.len() + 1).saturating_mul(width) <= CELLS_MAX;
    // The longest common subsequence of what is left, by position in each.
    let mut common = vec![0u32; if small { (old.len() + 1) * width } else { 0 }];
    if small {
        for i in (0..old.len()).rev() {
            for j in (0..new.len()).rev() {
                let (down, right) = (common[(i + 1) * width + j], common[i * width + j + 1]);
                common[i * width + j] = if old[i] == new[j] { common[(i + 1) * width + j + 1] + 1 } else { down.max(right) };
            }
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if small && i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i].to_owned()));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (!small || j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(Line::Removed(old[i].to_owned()));
            i += 1;
        } else {
            lines.push(Line::Added(new[j].to_owned()));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_removed_and_added_between_those_that_stay() {
        let shown = |old, new| {
            let line = |line: &Line| match line {
                Line::Same(text) => format!(" {text}"),
                Line::Removed(text) => format!("-{text}"),
                Line::Added(text) => format!("+{text}"),
            };
            diff(old, new).iter().map(line).collect::<Vec<_>>().join("|")
        };
        assert_eq!(shown("a\nb\nc", "a\nx\nc"), " a|-b|+x| c");
        assert_eq!(shown("", "a\nb"), "+a|+b");
        assert_eq!(shown("a\nb", ""), "-a|-b");
        assert_eq!(shown("a\nb\nc\nd", "b\nd\ne"), "-a| b|-c| d|+e");
    }
}
