//! Judging pairs: the same question is asked in both orders, because judges prefer a place (Zheng et al. 2023).

use super::reply::Preference;

/// In which order two answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    AsGiven,
    Swapped,
}

/// What both orders say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Both orders say so.
    Agreed(Preference),
    /// They differ: the place decided, or the judge cannot tell. Count it; it is no verdict.
    Inconsistent,
}

impl Preference {
    /// The same preference where the answers had changed places.
    pub fn swapped(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            Self::Tie => Self::Tie,
        }
    }
}

/// Joins the preferences of both orders, each of the answers as given ([`super::Judge::read_pair`] maps them back).
pub fn settle(as_given: Preference, swapped: Preference) -> Settled {
    if as_given == swapped { Settled::Agreed(as_given) } else { Settled::Inconsistent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_orders_say_is_a_verdict() {
        use Preference::{First, Second, Tie};
        assert_eq!(settle(First, First), Settled::Agreed(First));
        assert_eq!(settle(Tie, Tie), Settled::Agreed(Tie));
        for (a, b) in [(First, Second), (Second, First), (First, Tie), (Tie, Second)] {
            assert_eq!(settle(a, b), Settled::Inconsistent);
        }
        assert_eq!(First.swapped().swapped(), First);
    }
}
