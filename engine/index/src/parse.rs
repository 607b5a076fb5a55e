//! The query language as it is written: text → [`Query`], or what is wrong, where, and the way out. `QUERY.md` is its reference.

use crate::keys::{Key, Number};
use crate::query::{Between, Pattern, PropertyIs, Query, Status, Term, Test, VerdictIs, VerdictTerm};
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

fn parentheses(at: usize) -> QueryError {
    wrong(at, "there are no parentheses", "every term must hold, alternatives are a|b, and a text with parentheses stands in quotes")
}

fn reversed(at: usize) -> QueryError {
    wrong(at, "a range that ends before it begins", "the smaller end comes first")
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
                    Some('n') => to.push('\n'),
                    Some('r') => to.push('\r'),
                    Some('t') => to.push('\t'),
                    _ => {
                        return Err(wrong(
                            at,
                            "a `\\` before something else than `\"`, `\\`, `n`, `r` or `t`",
                            "a backslash is written `\\\\` in quotes",
                        ));
                    }
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
        if self.peek().is_none() {
            return Ok(None);
        }
        let negated = self.take('-');
        let key_at = self.at;
        match self.peek() {
            Some('-') if negated => return Err(wrong(at, "there is no `--`", "what is excluded has one `-` before it: -stage:retrieval")),
            Some('(' | ')') => return Err(parentheses(key_at)),
            Some(letter) if !letter.is_whitespace() => {}
            _ => return Err(wrong(at, "a `-` before nothing", "it stands right before what is excluded: -stage:retrieval")),
        }
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
        let operator_at = self.at;
        let Some(operator) = self.operator() else {
            if !quoted {
                no_id(key_at, &name, self.peek().is_none_or(char::is_whitespace))?;
            }
            // A bare word: it is a value after all.
            self.at = key_at;
            return Ok(Some(Written { at, negated, key: None, operator: Operator::Is, values: self.values()? }));
        };
        if name.is_empty() {
            return Err(wrong(key_at, "a value without a key", "it is written KEY:VALUE, such as stage:extraction"));
        }
        if !quoted && name.ends_with('!') {
            let name = name.trim_end_matches('!');
            return Err(wrong(key_at, "there is no `!=`", format!("write -{name}:VALUE")));
        }
        // Other languages' signs, of which the end would else begin the value.
        for (sign, instead) in [("==", "VALUE"), (":=", "VALUE"), ("=~", "*PART*")] {
            if self.text[operator_at..].starts_with(sign) {
                return Err(wrong(
                    operator_at,
                    format!("there is no `{sign}`"),
                    format!("write {name}:{instead}; a text that begins so stands in quotes"),
                ));
            }
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
                    // None of these begins a value outside quotes: it would end at the first blank, and no call would have it.
                    '(' if at == value.at => return Err(parentheses(at)),
                    '\'' | '‘' | '’' | '“' | '”' | '„' if at == value.at => {
                        return Err(wrong(
                            at,
                            format!("`{letter}` is no quote"),
                            "a text with blanks or quotes stands in double quotes: user:\"a b\"",
                        ));
                    }
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

/// Refuses a bare word that begins so and that nobody means as an id: a word of other languages where it is `whole`, or a key with a sign of theirs.
fn no_id(at: usize, word: &str, whole: bool) -> Result<(), QueryError> {
    for (known, instead) in [
        ("and", "terms are written one after the other: all of them must hold"),
        ("or", "alternatives are written stage:a|b"),
        ("not", "write -stage:a"),
    ] {
        if whole && word.eq_ignore_ascii_case(known) {
            return Err(wrong(at, format!("there is no `{word}`"), instead));
        }
    }
    let Some((key, _)) = word.split_once('~') else { return Ok(()) };
    let (not, key) = key.strip_suffix('!').map_or(("", key), |key| ("-", key));
    if Key::known().any(|known| known == key) {
        return Err(wrong(at, "there is no `~`", format!("a text that has a part is written {not}{key}:*PART*")));
    }
    Ok(())
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
        Key::Property(name) if is => {
            let is = |value: Value| match property_range(&value, &name)? {
                Some(range) => Ok(PropertyIs::Number(range)),
                None => value.pattern().map(PropertyIs::Text),
            };
            let any = values.into_iter().map(is).collect::<Result<_, _>>()?;
            Ok(Test::Property(name, any))
        }
        Key::Property(name) => {
            let value = one(&values)?;
            let number = value.plain().and_then(plain_number).ok_or_else(|| {
                wrong(value.at, format!("`{}` is not a number", value.shown()), format!("properties are compared as plain numbers: {name}>0.5"))
            })?;
            let range = match operator {
                Operator::Over => (Bound::Excluded(number), Bound::Unbounded),
                Operator::AtLeast => (Bound::Included(number), Bound::Unbounded),
                Operator::Under => (Bound::Unbounded, Bound::Excluded(number)),
                Operator::AtMost | Operator::Is => (Bound::Unbounded, Bound::Included(number)),
            };
            Ok(Test::Property(name, vec![PropertyIs::Number(range)]))
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
            let (least, greatest) = (end(from, 0)?, end(until, u64::MAX)?);
            if least > greatest { Err(reversed(value.at)) } else { Ok(Status::Code(Between(least, greatest))) }
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
                    return Err(reversed(value.at));
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

fn plain_number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `1..5`, where an end is a number; `None` for a text.
fn property_range(value: &Value, name: &str) -> Result<Option<(Bound<f64>, Bound<f64>)>, QueryError> {
    let Some((from, until)) = value.plain().filter(|_| !value.quoted).and_then(|text| text.split_once("..")) else { return Ok(None) };
    let (least, greatest) = (plain_number(from), plain_number(until));
    if least.is_none() && greatest.is_none() {
        return Ok(None);
    }
    let end = |text: &str, number: Option<f64>| match number {
        Some(number) => Ok(Bound::Included(number)),
        None if text.is_empty() => Ok(Bound::Unbounded),
        None => {
            let hint = format!("a range of a property is of plain numbers, {name}:1..5; a text with `..` stands in quotes");
            Err(wrong(value.at, format!("`{text}` is not a number"), hint))
        }
    };
    if least.zip(greatest).is_some_and(|(least, greatest)| least > greatest) {
        return Err(reversed(value.at));
    }
    Ok(Some((end(from, least)?, end(until, greatest)?)))
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
