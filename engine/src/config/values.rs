//! Values as people write them: durations (`"1h30m"`), sizes (`"20 GiB"`) and secrets (`{ env = "NAME" }`).
//!
//! Pure, except for [`Secret::resolve`], which is called at the edge that needs the secret and nowhere else.
//! Where a value came from, and whether it is in its range, is the business of `tree.rs` and `config.rs`.

use std::{env, fmt, fs, io, path::PathBuf, str::FromStr, time::Duration};

/// Text that is no duration or no size. Carries the text as given; [`ValueError::hint`] says what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("`{0}` is not a duration")]
    Duration(String),
    #[error("`{0}` is not a size")]
    Size(String),
}

impl ValueError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Duration(_) => "whole numbers with d, h, m, s or ms, largest first, such as \"7d\", \"1h30m\" or \"250ms\"",
            Self::Size(_) => "a whole number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as \"20 GiB\"",
        }
    }
}

/// Milliseconds of each unit, largest first.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads `"5s"`, `"1h30m"`, `"250ms"`: each unit at most once, largest first, so that a slip such as `"5m3h"` is refused.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let read = || {
        let (mut rest, mut total, mut below) = (text, 0u64, u64::MAX);
        loop {
            let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
            let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len()));
            let (_, millis) = DURATIONS.into_iter().find(|(name, millis)| *name == unit && *millis < below)?;
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
            if tail.is_empty() {
                return Some(Duration::from_millis(total));
            }
            (rest, below) = (tail, millis);
        }
    };
    read().ok_or_else(|| ValueError::Duration(text.to_owned()))
}

/// The inverse of [`duration`], to the millisecond: 5400 s is `1h30m`.
pub fn render_duration(duration: Duration) -> String {
    let (mut rest, mut text) = (duration.as_millis(), String::new());
    for (unit, millis) in DURATIONS {
        let count = rest / u128::from(millis);
        if count > 0 {
            text += &format!("{count}{unit}");
            rest %= u128::from(millis);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// Bytes of each unit, largest first among those that `Display` uses.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl Size {
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let read = || {
            let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            let (_, bytes) = SIZES.into_iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
            number.parse::<u64>().ok()?.checked_mul(bytes).map(Size)
        };
        read().ok_or_else(|| ValueError::Size(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = SIZES.into_iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)).unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / bytes)
    }
}

/// A secret's value. Prints as `…`; the one way to see it is [`Sensitive::expose`], which is easy to search for.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    /// `None` for an empty value, which counts as unset. Line ends at the end are cut: editors and `echo` add them.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\r', '\n']);
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where a secret is to be found. `Display` names the place, for messages such as "{secret} is not set".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    Env(String),
    File(PathBuf),
    /// Handed over by an override from the environment; `None` when that was empty.
    Given(Option<Sensitive>),
}

impl Secret {
    /// Reads the secret now, from this process's environment or from disk.
    ///
    /// `Ok(None)`: it is configured, and the variable is unset or the value is empty. A file that cannot be read is an
    /// error, for somebody meant it to be there. Cost: one read of a small file; callers keep what they get.
    pub fn resolve(&self) -> Result<Option<Sensitive>, SecretError> {
        self.resolve_in(|name| env::var(name))
    }

    /// [`Secret::resolve`] in a world of the caller's choice.
    pub fn resolve_in(&self, variable: impl Fn(&str) -> Result<String, env::VarError>) -> Result<Option<Sensitive>, SecretError> {
        match self {
            Self::Env(name) => match variable(name) {
                Ok(text) => Ok(Sensitive::new(&text)),
                Err(env::VarError::NotPresent) => Ok(None),
                Err(env::VarError::NotUnicode(_)) => Err(SecretError::NotText { name: name.clone() }),
            },
            Self::File(path) => match fs::read_to_string(path) {
                Ok(text) => Ok(Sensitive::new(&text)),
                Err(why) => Err(SecretError::Unreadable { path: path.clone(), why }),
            },
            Self::Given(value) => Ok(value.clone()),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable `{name}`"),
            Self::File(path) => write!(f, "file `{}`", path.display()),
            Self::Given(_) => f.write_str("override from the environment"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("read the secret in file `{}`: {why}\nhint: make the file readable for this user, or use {{ env = \"NAME\" }}", .path.display())]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("read the secret in environment variable `{name}`: it is not UTF-8 text\nhint: set it again, as text")]
    NotText { name: String },
}
