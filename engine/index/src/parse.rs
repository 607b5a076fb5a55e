//! The query language as it is written: text → [`Query`], or what is wrong, where, and the way out. `QUERY.md` is its reference.

use crate::keys::{Key, Number};
use crate::query::{Between, Pattern, Query, Status, Term, Test, VerdictIs, VerdictTerm};
use model::Signal;
use model::time::{Span, Timestamp};
use std::fmt;
use std::ops::Bound;

/// A query is a line that someone typed or a program put together, and each byte of it is looked at for every text of a group.
pub const QUERY_MAX_BYTES: usize = 4_096;
/// Each costs a column of every group that the others leave.
pub const TERMS_MAX: usize = 32;
/// Stars of one value: each is a search through every text.
const STARS_MAX: usize = 8;

/// What is wrong with a query, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Where: bytes from the start of the query, always at a character.
    pub at: usize,
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query:{}: {}", self.at + 1, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for QueryError {}

fn wrong(at: usize, message: impl Into<String>, hint: impl Into<String>) -> QueryError {
    QueryError { at, message: message.into(), hint: Some(hint.into()) }
}

impl Query {
    /// Reads a query; `now` is what `since:` counts back from. An empty one matches every call.
    ///
    /// # Errors
    /// [`QueryError`] with the first mistake.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, QueryError> {
        if text.len() > QUERY_MAX_BYTES {
            let at = text.floor_char_boundary(QUERY_MAX_BYTES);
            return Err(wrong(
                at,
                format!("a query of {} bytes; at most {QUERY_MAX_BYTES} are read", text.len()),
                "ask for less, or in several queries",
            ));
        }
        let mut scanner = Scanner { text, at: 0 };
        let mut terms = Vec::new();
        while let Some(written) = scanner.term()? {
            if terms.len() == TERMS_MAX {
                return Err(wrong(written.at, format!("more than {TERMS_MAX} terms"), "alternatives of one key are one term: stage:a|b|c"));
            }
            let (at, negated) = (written.at, written.negated);
            terms.push(Term { at, negated, test: test(written, now)? });
        }
        Ok(Self { terms })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    Over,
    AtLeast,
    Under,
    AtMost,
}

/// A term as it is written.
struct Written {
    at: usize,
    negated: bool,
    /// `None` for a bare word; quoted keys are properties.
    key: Option<(String, bool)>,
    operator: Operator,
    values: Vec<Value>,
}

/// One alternative.
struct Value {
    at: usize,
    /// The stretches between stars, so one where there is no star.
    stretches: Vec<String>,
    quoted: bool,
}

impl Value {
    fn plain(&self) -> Option<&str> {
        if let [only] = self.stretches.as_slice() { Some(only.as_str()) } else { None }
    }

    fn shown(&self) -> String {
        self.stretches.join("*")
    }

    fn pattern(self) -> Result<Pattern, QueryError> {
        if self.stretches.iter().all(String::is_empty) {
            return Err(if self.stretches.len() == 1 {
                wrong(self.at, "an empty value", "calls that have none are -has:KEY")
            } else {
                wrong(self.at, "a `*` alone is any value", "write has:KEY")
            });
        }
        if self.stretches.len() > STARS_MAX + 1 {
            return Err(wrong(self.at, format!("more than {STARS_MAX} stars in a value"), "a `*` that is meant as such stands in quotes"));
        }
        Ok(match self.plain() {
            Some(_) => Pattern::Exact(self.stretches.into_iter().next().unwrap_or_default()),
            None => Pattern::Wild(self.stretches),
        })
    }
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    /// After its opening quote.
    fn quoted(&mut self, opened: usize, to: &mut String) -> Result<(), QueryError> {
        loop {
            let at = self.at;
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some(escaped @ ('"' | '\\')) => to.push(escaped),
                    _ => return Err(wrong(at, "a `\\` before something else than `\"` or `\\`", "a backslash is written `\\\\` in quotes")),
                },
                Some(letter) => to.push(letter),
                None => return Err(wrong(opened, "a quote that does not end", "close it with `\"`; a quote inside is written `\\\"`")),
            }
        }
    }

    fn term(&mut self) -> Result<Option<Written>, QueryError> {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
        let at = self.at;
        let Some(first) = self.peek() else { return Ok(None) };
        let negated = self.take('-');
        if negated && self.peek().is_none_or(char::is_whitespace) {
            return Err(wrong(at, "a `-` before nothing", "it stands right before what is excluded: -stage:retrieval"));
        }
        if matches!(first, '(' | ')') {
            return Err(wrong(
                at,
                "there are no parentheses",
                "every term must hold, alternatives are a|b, and a text with parentheses stands in quotes",
            ));
        }
        let key_at = self.at;
        let mut name = String::new();
        let quoted = self.take('"');
        if quoted {
            self.quoted(key_at, &mut name)?;
        } else {
            while let Some(letter) =
                self.peek().filter(|letter| !letter.is_whitespace() && !matches!(letter, ':' | '=' | '<' | '>' | '"' | '|' | '*'))
            {
                name.push(letter);
                self.next();
            }
        }
        let Some(operator) = self.operator() else {
            // A bare word: it is a value after all.
            self.at = key_at;
            let written = &self.text[key_at..];
            for (word, instead) in [
                ("AND", "terms are written one after the other: all of them must hold"),
                ("OR", "alternatives are written stage:a|b"),
                ("NOT", "write -stage:a"),
            ] {
                if written.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
                    return Err(wrong(key_at, format!("there is no `{word}`"), instead));
                }
            }
            return Ok(Some(Written { at, negated, key: None, operator: Operator::Is, values: self.values()? }));
        };
        if name.is_empty() {
            return Err(wrong(key_at, "a value without a key", "it is written KEY:VALUE, such as stage:extraction"));
        }
        if !quoted && name.ends_with('!') {
            let name = name.trim_end_matches('!');
            return Err(wrong(key_at, "there is no `!=`", format!("write -{name}:VALUE")));
        }
        if self.peek().is_none_or(char::is_whitespace) {
            return Err(wrong(
                self.at,
                format!("`{name}` without a value"),
                format!("write {name}:VALUE without blanks, has:{name} for any, or -has:{name} for none"),
            ));
        }
        Ok(Some(Written { at, negated, key: Some((name, quoted)), operator, values: self.values()? }))
    }

    fn operator(&mut self) -> Option<Operator> {
        let is = self.take(':');
        if self.take('>') {
            return Some(if self.take('=') { Operator::AtLeast } else { Operator::Over });
        }
        if self.take('<') {
            return Some(if self.take('=') { Operator::AtMost } else { Operator::Under });
        }
        (is || self.take('=')).then_some(Operator::Is)
    }

    fn values(&mut self) -> Result<Vec<Value>, QueryError> {
        let mut values = Vec::new();
        loop {
            let mut value = Value { at: self.at, stretches: vec![String::new()], quoted: false };
            while let Some(letter) = self.peek().filter(|letter| !letter.is_whitespace() && *letter != '|') {
                let at = self.at;
                self.next();
                let last = value.stretches.last_mut().expect("there is at least one stretch");
                match letter {
                    '*' => value.stretches.push(String::new()),
                    '"' => {
                        self.quoted(at, last)?;
                        value.quoted = true;
                    }
                    letter => last.push(letter),
                }
            }
            if value.stretches.len() == 1 && value.stretches[0].is_empty() {
                return Err(wrong(value.at, "an empty value", "calls that have none are -has:KEY; alternatives are written a|b without blanks"));
            }
            values.push(value);
            if !self.take('|') {
                return Ok(values);
            }
        }
    }
}

fn test(written: Written, now: Timestamp) -> Result<Test, QueryError> {
    let Written { at, key, operator, values, .. } = written;
    let patterns = |values: Vec<Value>| values.into_iter().map(Value::pattern).collect::<Result<Vec<_>, _>>();
    let Some((name, quoted)) = key else {
        if let Some(starred) = values.iter().find(|value| value.plain().is_none()) {
            return Err(wrong(starred.at, "a bare word is a whole id", "with a `*` it needs its key: user:u_*, run:evt_*"));
        }
        return Ok(Test::Id(patterns(values)?));
    };
    let is = operator == Operator::Is;
    let only_is = |what: &str| wrong(at, format!("{what} is not compared with < or >"), format!("write {name}:VALUE, or {name}:a|b"));
    let key = if quoted {
        Key::property(&name)
    } else {
        match name.as_str() {
            "has" if is => return has(values).map(Test::Has),
            "since" if is => return since(&values, now).map(Test::Time),
            "verdict" if is => return values.iter().map(verdict).collect::<Result<_, _>>().map(Test::Verdict),
            "has" | "since" | "verdict" => return Err(only_is(&format!("`{name}`"))),
            _ => Key::parse(&name).ok_or_else(|| wrong(at, format!("`{name}` names no property"), "write properties.NAME:VALUE"))?,
        }
    };
    match key {
        Key::Text(text) if is => Ok(Test::Text(text, patterns(values)?)),
        Key::Text(_) => Err(only_is(&format!("`{name}` is a text and"))),
        Key::Signal if is => values.iter().map(signal).collect::<Result<_, _>>().map(Test::Signal),
        Key::Signal => Err(only_is("a signal")),
        Key::Number(Number::StatusCode) if is => values.iter().map(status).collect::<Result<_, _>>().map(Test::Status),
        Key::Number(number) => numbers(&values, operator, Unit::of(number), &name).map(|any| Test::Number(number, any)),
        Key::Tokens => numbers(&values, operator, Unit::Count, &name).map(Test::Tokens),
        Key::Time => values.iter().map(|value| times(value, operator)).collect::<Result<_, _>>().map(Test::Time),
        Key::Property(name) if is => match values.iter().map(property_range).collect::<Option<Vec<_>>>() {
            Some(ranges) => Ok(Test::PropertyNumber(name, ranges)),
            None => Ok(Test::Property(name, patterns(values)?)),
        },
        Key::Property(name) => {
            let compared = |value: &Value| {
                let number = value.plain().and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite());
                let number = number.ok_or_else(|| {
                    wrong(value.at, format!("`{}` is not a number", value.shown()), format!("properties are compared as plain numbers: {name}>0.5"))
                })?;
                Ok(match operator {
                    Operator::Over => (Bound::Excluded(number), Bound::Unbounded),
                    Operator::AtLeast => (Bound::Included(number), Bound::Unbounded),
                    Operator::Under => (Bound::Unbounded, Bound::Excluded(number)),
                    Operator::AtMost | Operator::Is => (Bound::Unbounded, Bound::Included(number)),
                })
            };
            one(&values)?;
            values.iter().map(compared).collect::<Result<_, _>>().map(|any| Test::PropertyNumber(name.clone(), any))
        }
    }
}

/// A comparison has one value.
fn one(values: &[Value]) -> Result<&Value, QueryError> {
    match values {
        [only] => Ok(only),
        [_, more, ..] => Err(wrong(more.at, "a comparison with alternatives", "a range is written a..b, as in latency:1s..2s|5s..")),
        [] => unreachable!("a term has at least one value"),
    }
}

fn has(values: Vec<Value>) -> Result<Vec<Key>, QueryError> {
    let key = |value: &Value| {
        let name = value.plain().ok_or_else(|| wrong(value.at, "a `*` in the name of a key", "write the whole name: has:user"))?;
        let key = if value.quoted { Some(Key::property(name)) } else { Key::parse(name) };
        key.ok_or_else(|| wrong(value.at, "no key", "write has:user, or has:properties.NAME"))
    };
    values.iter().map(key).collect()
}

fn since(values: &[Value], now: Timestamp) -> Result<Vec<(Timestamp, Timestamp)>, QueryError> {
    let value = one(values)?;
    let span = value.plain().and_then(Span::parse);
    let span =
        span.ok_or_else(|| wrong(value.at, format!("`{}` is no length of time", value.shown()), "write since:15m, since:1h30m or since:7d"))?;
    Ok(vec![(now - span, latest())])
}

fn latest() -> Timestamp {
    Timestamp::EPOCH + Span::from_millis(u64::MAX)
}

fn earliest() -> Timestamp {
    Timestamp::EPOCH - Span::from_millis(u64::MAX)
}

fn verdict(value: &Value) -> Result<VerdictTerm, QueryError> {
    let hint = "it is written verdict:NAME=fail, =pass or =error";
    let (evaluator, is) = value.plain().and_then(|text| text.rsplit_once('=')).ok_or_else(|| wrong(value.at, "a verdict without `=`", hint))?;
    let is = match is {
        "pass" => VerdictIs::Pass,
        "fail" => VerdictIs::Fail,
        "error" => VerdictIs::Error,
        other => return Err(wrong(value.at, format!("`{other}` is no verdict"), hint)),
    };
    if evaluator.is_empty() {
        return Err(wrong(value.at, "a verdict of no evaluator", hint));
    }
    Ok(VerdictTerm { evaluator: evaluator.to_owned(), is, sequences: Vec::new() })
}

fn signal(value: &Value) -> Result<String, QueryError> {
    match value.plain() {
        Some(name) if Signal::parse(name).is_none() && Signal::parse(&name.to_lowercase().replace('-', "_")).is_some() => {
            let meant = name.to_lowercase().replace('-', "_");
            Err(wrong(value.at, format!("there is no signal `{name}`"), format!("did you mean `{meant}`?")))
        }
        Some(name) => Ok(name.to_owned()),
        None => {
            Err(wrong(value.at, "a `*` in the name of a signal", "write it whole, or several: signal:invalid_json|schema_invalid; any is has:signal"))
        }
    }
}

fn status(value: &Value) -> Result<Status, QueryError> {
    let hint = "write status:error, status:ok, a code such as 429, a class such as 5xx, or a range such as 500..504";
    let unknown = || wrong(value.at, format!("`{}` is no status", value.shown()), hint);
    let text = value.plain().ok_or_else(unknown)?;
    match text {
        "error" | "failed" => return Ok(Status::Error),
        "ok" => return Ok(Status::Ok),
        _ => {}
    }
    if let [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] = text.as_bytes() {
        let first = u64::from(class - b'0') * 100;
        return Ok(Status::Code(Between(first, first + 99)));
    }
    match text.split_once("..") {
        Some(("", "")) => Err(unknown()),
        Some((from, until)) => {
            let end = |text: &str, open| if text.is_empty() { Ok(open) } else { text.parse().map_err(|_| unknown()) };
            Ok(Status::Code(Between(end(from, 0)?, end(until, u64::MAX)?)))
        }
        None => text.parse().map(|code| Status::Code(Between(code, code))).map_err(|_| unknown()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Millis,
    Nanodollars,
    Count,
}

impl Unit {
    fn of(number: Number) -> Self {
        match number {
            Number::LatencyMs | Number::TtftMs => Self::Millis,
            Number::CostUsd => Self::Nanodollars,
            _ => Self::Count,
        }
    }

    /// Endings with what they multiply; the first is what a bare number has.
    fn endings(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Millis => &[("", 1), ("ms", 1), ("s", 1_000), ("m", 60_000), ("min", 60_000)],
            Self::Nanodollars => &[("", 1_000_000_000), ("$", 1_000_000_000), ("usd", 1_000_000_000)],
            Self::Count => &[("", 1), ("k", 1_000), ("M", 1_000_000)],
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Millis => "write 250ms, 2s, 1.5s or 1m; a bare number is milliseconds",
            Self::Nanodollars => "write 0.01, $0.01 or 0.01usd; a bare number is dollars",
            Self::Count => "write 500, 10k or 1.5k",
        }
    }

    /// The largest whole number of steps at or below, and whether it is exactly that.
    fn read(self, text: &str) -> Option<(u64, bool)> {
        let text = if self == Self::Nanodollars { text.strip_prefix('$').unwrap_or(text) } else { text };
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, ending) = text.split_at(digits);
        let scale = self.endings().iter().find(|(known, _)| *known == ending)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let fraction = fraction.trim_end_matches('0');
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 || fraction.contains('.') {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
        let tens = 10u128.pow(fraction.len() as u32);
        let steps = (whole * tens + if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? }).checked_mul(scale.into())?;
        Some((u64::try_from(steps / tens).ok()?, steps % tens == 0))
    }
}

fn numbers(values: &[Value], operator: Operator, unit: Unit, name: &str) -> Result<Vec<Between>, QueryError> {
    let read = |value: &Value, text: &str| {
        unit.read(text).ok_or_else(|| wrong(value.at, format!("`{}` is no value of `{name}`", value.shown()), unit.hint()))
    };
    let plain = |value: &Value| match value.plain() {
        Some(text) => Ok(text.to_owned()),
        None => {
            Err(wrong(value.at, format!("`{name}` is a number, and a `*` is for texts"), format!("write a range, as in {name}:1..5, or has:{name}")))
        }
    };
    // Between whole steps there is nothing: over 1.5 is 2 and more, under 1.5 is 1 and less.
    let up = |(steps, exact): (u64, bool)| if exact { steps } else { steps.saturating_add(1) };
    if operator != Operator::Is {
        let value = one(values)?;
        let (steps, exact) = read(value, &plain(value)?)?;
        return Ok(match operator {
            Operator::Over => steps.checked_add(1).map(|least| Between(least, u64::MAX)).into_iter().collect(),
            Operator::AtLeast => vec![Between(up((steps, exact)), u64::MAX)],
            Operator::Under => up((steps, exact)).checked_sub(1).map(|greatest| Between(0, greatest)).into_iter().collect(),
            Operator::AtMost | Operator::Is => vec![Between(0, steps)],
        });
    }
    let range = |value: &Value| {
        let text = plain(value)?;
        match text.split_once("..") {
            Some(("", "")) => Err(wrong(value.at, "a range without ends", format!("write has:{name}"))),
            Some((from, until)) => {
                let least = if from.is_empty() { 0 } else { up(read(value, from)?) };
                let greatest = if until.is_empty() { u64::MAX } else { read(value, until)?.0 };
                if least > greatest {
                    return Err(wrong(value.at, "a range that ends before it begins", "the smaller end comes first"));
                }
                Ok(Between(least, greatest))
            }
            None => match read(value, &text)? {
                (steps, true) => Ok(Between(steps, steps)),
                _ => Err(wrong(value.at, format!("`{text}` is finer than `{name}` is kept"), "compare with < or >, or write a range")),
            },
        }
    };
    values.iter().map(range).collect()
}

/// `1..5` where both ends are numbers or open.
fn property_range(value: &Value) -> Option<(Bound<f64>, Bound<f64>)> {
    let (from, until) = value.plain().filter(|_| !value.quoted)?.split_once("..")?;
    let end = |text: &str| match text {
        "" => Some(Bound::Unbounded),
        text => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Bound::Included),
    };
    let range = (end(from)?, end(until)?);
    (range != (Bound::Unbounded, Bound::Unbounded)).then_some(range)
}

/// A point of time, and the last millisecond that is meant by it: a day's, where only a day is written.
fn moment(text: &str) -> Option<(Timestamp, Timestamp)> {
    let from = Timestamp::parse(text)?;
    let day = !text.contains(['T', 't', ' ']);
    Some((from, if day { from + Span::from_millis(86_399_999) } else { from }))
}

fn times(value: &Value, operator: Operator) -> Result<(Timestamp, Timestamp), QueryError> {
    let unknown = || {
        wrong(value.at, format!("`{}` is no time", value.shown()), "write 2026-01-05T10:00Z, a day such as 2026-01-05, a range of two, or since:1h")
    };
    let text = value.plain().ok_or_else(unknown)?;
    let (from, until) = match text.split_once("..") {
        Some((from, until)) if operator == Operator::Is && text != ".." => {
            let from = if from.is_empty() { earliest() } else { moment(from).ok_or_else(unknown)?.0 };
            (from, if until.is_empty() { latest() } else { moment(until).ok_or_else(unknown)?.1 })
        }
        _ => moment(text).ok_or_else(unknown)?,
    };
    let step = Span::from_millis(1);
    let (from, until) = match operator {
        Operator::Is => (from, until),
        Operator::Over => (until + step, latest()),
        Operator::AtLeast => (from, latest()),
        Operator::Under => (earliest(), from - step),
        Operator::AtMost => (earliest(), until),
    };
    if from > until {
        return Err(wrong(value.at, "a range that ends before it begins", "the earlier end comes first"));
    }
    Ok((from, until))
}
