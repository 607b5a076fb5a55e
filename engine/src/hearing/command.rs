//! What a person types after `/streamgauge`, read into what they want.
//!
//! Pure: whatever is typed gives a wish, or a mistake that says what, where and the nearest known word. Deliberately absent: whether what is named
//! exists, and doing it (`commands.rs`).

use crate::http::silences::LENGTHS;
use crate::subscriptions::Filter;
use machine::incident::Silenced;
use model::nearest::nearest;
use model::plan::Severity;
use model::{Key, Span};
use std::fmt;
use std::ops::RangeInclusive;

/// Of a line: Slack cuts messages far above it, and nobody types so much.
const TEXT_MAX: usize = 2_000;
/// Terms of one filter: more than alerts have labels.
const TERMS_MAX: usize = 12;
/// What `top` may look back, as the costs' page.
const WINDOW: RangeInclusive<Span> = Span::from_secs(60)..=Span::from_secs(31 * 86_400);
const DAY: Span = Span::from_secs(86_400);

/// Every first word.
pub const VERBS: [&str; 11] = ["help", "status", "list", "subscribe", "unsubscribe", "silence", "unsilence", "ack", "why", "trace", "top"];

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Help,
    Status,
    List,
    Subscribe(Filter),
    Unsubscribe(Which),
    /// Without a length: until it is resolved, which an incident alone can be.
    Silence {
        of: Silenced,
        length: Option<Span>,
    },
    Unsilence(String),
    Acknowledge(String),
    Why(String),
    Trace {
        event_id: String,
        environment: Option<String>,
    },
    TopUsers {
        window: Span,
    },
}

/// Which subscriptions of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that there is.
    Only,
    All,
    This(Filter),
}

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub what: String,
    /// Where, as people count: the first character after `/streamgauge ` is 1.
    pub character: usize,
    pub hint: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (character {})\nhint: {}", self.what, self.character, self.hint)
    }
}

/// A word with the place where it begins.
#[derive(Clone, Debug)]
struct Word {
    text: String,
    at: usize,
}

impl Word {
    fn refuse(&self, what: impl Into<String>, hint: impl Into<String>) -> Mistake {
        Mistake { what: what.into(), character: self.at, hint: hint.into() }
    }
}

/// # Errors
/// What is wrong, where, and how it is written.
pub fn parse(text: &str) -> Result<Command, Mistake> {
    let words = words(text)?;
    let Some((verb, rest)) = words.split_first() else { return Ok(Command::Help) };
    let end = Word { text: String::new(), at: text.chars().count() + 1 };
    match verb.text.to_lowercase().as_str() {
        "help" | "?" => Ok(Command::Help),
        "status" => nothing_more(rest, Command::Status),
        "list" => nothing_more(rest, Command::List),
        "subscribe" => Ok(Command::Subscribe(filter(rest)?)),
        "unsubscribe" => Ok(Command::Unsubscribe(match rest {
            [] => Which::Only,
            [all] if all.text.eq_ignore_ascii_case("all") => Which::All,
            terms => Which::This(filter(terms)?),
        })),
        "silence" => silence(rest, &end),
        "unsilence" => named(rest, &end, "unsilence ID: an incident's id, or that of a silence of `list`", Command::Unsilence),
        "ack" | "acknowledge" => named(rest, &end, "ack INCIDENT: an id that `list` and messages show, or its beginning", Command::Acknowledge),
        "why" => named(rest, &end, "why INCIDENT: an id that `list` and messages show, or its beginning", Command::Why),
        "trace" => trace(rest, &end),
        "top" => top(rest, &end),
        other => {
            let meant = nearest(other, VERBS).map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
            Err(verb.refuse(format!("unknown command `{}`", verb.text), format!("{meant}known: {}", VERBS.join(", "))))
        }
    }
}

/// Words between blanks; a text in quotes, straight or as phones write them, is or belongs to one word.
fn words(text: &str) -> Result<Vec<Word>, Mistake> {
    if text.chars().count() > TEXT_MAX {
        return Err(Mistake {
            what: format!("this is longer than {TEXT_MAX} characters"),
            character: TEXT_MAX + 1,
            hint: "ask for less at once".into(),
        });
    }
    let mut words: Vec<Word> = Vec::new();
    let mut word: Option<Word> = None;
    let mut quoted: Option<usize> = None;
    for (character, at) in text.chars().zip(1..) {
        let quote = matches!(character, '"' | '“' | '”' | '„');
        if character.is_whitespace() && quoted.is_none() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| Word { text: String::new(), at });
        match (quote, quoted) {
            (true, Some(_)) => quoted = None,
            (true, None) => quoted = Some(at),
            (false, _) => word.text.push(character),
        }
    }
    if let Some(character) = quoted {
        return Err(Mistake { what: "a quote is not closed".into(), character, hint: "close it, as in stage=\"fact extraction\"".into() });
    }
    words.extend(word);
    Ok(words)
}

fn nothing_more(rest: &[Word], command: Command) -> Result<Command, Mistake> {
    match rest.first() {
        None => Ok(command),
        Some(word) => Err(word.refuse(format!("`{}` is too much here", word.text), "this command stands alone")),
    }
}

/// A command about one thing that has an id.
fn named(rest: &[Word], end: &Word, usage: &str, command: impl FnOnce(String) -> Command) -> Result<Command, Mistake> {
    match rest {
        [] => Err(end.refuse("an id is missing", usage)),
        [name] => Ok(command(id(name)?)),
        [_, word, ..] => Err(word.refuse(format!("`{}` is too much here", word.text), usage)),
    }
}

/// An id as people copy it: with the backticks of a message, too.
fn id(word: &Word) -> Result<String, Mistake> {
    let id = word.text.trim_matches(['`', '#', '*', '_', ',']);
    if !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return Ok(id.to_owned());
    }
    Err(word.refuse(format!("`{}` is no id", word.text), "ids are letters and digits, as `list` and messages show them"))
}

fn filter(words: &[Word]) -> Result<Filter, Mistake> {
    let mut filter = Filter::default();
    for word in words {
        match term(word)? {
            Term::AtLeast(severity) => {
                if filter.severity.replace(severity).is_some() {
                    return Err(word.refuse("`severity` is there twice", "keep one of them"));
                }
            }
            Term::Is(key, value) => add(&mut filter.terms, key, value, word)?,
        }
    }
    filter.terms.sort();
    Ok(filter)
}

fn add(terms: &mut Vec<(String, String)>, key: String, value: String, word: &Word) -> Result<(), Mistake> {
    if key == "severity" {
        return Err(word.refuse("severities are asked for from one upwards", format!("write severity>={value}")));
    }
    if terms.iter().any(|(known, _)| *known == key) {
        return Err(word.refuse(format!("`{key}` is there twice"), "both cannot hold; make two subscriptions, or two silences"));
    }
    if terms.len() >= TERMS_MAX {
        return Err(word.refuse(format!("more than {TERMS_MAX} terms"), "ask for less"));
    }
    terms.push((key, value));
    Ok(())
}

enum Term {
    AtLeast(Severity),
    Is(String, String),
}

/// `severity>=warning`, `environment=production`, `rule=…`, or a key of groups and its label.
fn term(word: &Word) -> Result<Term, Mistake> {
    const USAGE: &str = "such as severity>=warning environment=production rule=fallback-rate stage=extraction";
    let text = word.text.as_str();
    if let Some((key, value)) = text.split_once(">=").or_else(|| text.split_once('≥')) {
        if key != "severity" {
            return Err(word.refuse(format!("`>=` is for severity, not for `{key}`"), format!("{key}={value} asks for one value; {USAGE}")));
        }
        return Ok(Term::AtLeast(severity(value, word)?));
    }
    let Some((key, value)) = text.split_once('=') else {
        let meant = nearest(text, keys()).map(|known| format!("did you mean `{known}=…`? ")).unwrap_or_default();
        return Err(word.refuse(format!("`{text}` is no term"), format!("{meant}{USAGE}")));
    };
    if matches!(key, "environment" | "rule" | "severity") {
        if value.is_empty() {
            return Err(word.refuse(format!("`{key}` has no value"), USAGE));
        }
        if key == "severity" {
            severity(value, word)?;
        }
        return Ok(Term::Is(key.to_owned(), value.to_owned()));
    }
    if key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(word.refuse("a key has no blanks", format!("quote the value alone, as in stage=\"fact extraction\"; {USAGE}")));
    }
    match Key::parse(key) {
        None => Err(word.refuse("a term has no key", USAGE)),
        // Whatever is no key of ours may be a property of calls, unless it looks like a slip.
        Some(Key::Property(_)) if !key.starts_with("properties.") && nearest(key, keys()).is_some() => {
            let meant = nearest(key, keys()).unwrap_or_default();
            Err(word
                .refuse(format!("unknown key `{key}`"), format!("did you mean `{meant}`? a property of calls is written properties.{key}={value}")))
        }
        Some(key) => Ok(Term::Is(key.to_string(), value.to_owned())),
    }
}

fn keys() -> impl Iterator<Item = &'static str> {
    ["severity", "environment", "rule"].into_iter().chain(Key::known())
}

fn severity(value: &str, word: &Word) -> Result<Severity, Mistake> {
    const KNOWN: [(&str, Severity); 3] = [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];
    let found = KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.map(|(_, severity)| *severity).ok_or_else(|| {
        let meant = nearest(value, KNOWN.iter().map(|(name, _)| *name)).map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
        word.refuse(format!("unknown severity `{value}`"), format!("{meant}known: info, warning, critical"))
    })
}

/// `silence INCIDENT 1h`, `silence INCIDENT until resolved`, `silence rule=… stage=… 1h`.
fn silence(rest: &[Word], end: &Word) -> Result<Command, Mistake> {
    const USAGE: &str = "silence INCIDENT 1h, silence INCIDENT until resolved, or silence rule=fallback-rate stage=extraction 4h";
    let mut terms = Vec::new();
    let (mut incident, mut length): (Option<String>, Option<Option<Span>>) = (None, None);
    let mut words = rest.iter().peekable();
    while let Some(word) = words.next() {
        let text = word.text.as_str();
        if text.contains('=') || text.contains('≥') {
            match term(word)? {
                Term::AtLeast(_) => return Err(word.refuse("a silence is of one severity", "write severity=warning, or leave it out")),
                // Of a silence it is one value like any other.
                Term::Is(key, value) if key == "severity" && !terms.iter().any(|(known, _)| *known == key) => terms.push((key, value.to_lowercase())),
                Term::Is(key, value) => add(&mut terms, key, value, word)?,
            }
            continue;
        }
        if text.eq_ignore_ascii_case("for") && words.peek().is_some_and(|next| Span::parse(&next.text).is_some()) {
            continue;
        }
        let said = if text.eq_ignore_ascii_case("until") {
            match words.next() {
                Some(next) if next.text.eq_ignore_ascii_case("resolved") => None,
                Some(next) => {
                    return Err(next.refuse(format!("until what? `{}` is not known", next.text), "until resolved, or a length of time such as 4h"));
                }
                None => return Err(end.refuse("until what?", "until resolved, or a length of time such as 4h")),
            }
        } else if let Some(span) = Span::parse(text) {
            if !LENGTHS.contains(&span) {
                let hint = format!("from {} to {}", LENGTHS.start(), LENGTHS.end());
                return Err(word.refuse(format!("{span} is no length for a silence"), hint));
            }
            Some(span)
        } else if incident.is_none() {
            incident = Some(id(word)?);
            continue;
        } else {
            return Err(word.refuse(format!("`{text}` is no length of time"), "such as 30m, 1h, 4h or 2d, or until resolved"));
        };
        if length.replace(said).is_some() {
            return Err(word.refuse("the length is there twice", USAGE));
        }
    }
    let Some(length) = length else { return Err(end.refuse("for how long?", USAGE)) };
    terms.sort();
    match (incident, terms.is_empty(), length) {
        (Some(_), false, _) => Err(end.refuse("this is both an incident and terms", USAGE)),
        (None, true, _) => Err(end.refuse("silence what?", USAGE)),
        (None, false, None) => Err(end.refuse("only an incident can be resolved", "say how long alerts are to be silent, such as 4h, up to 30d")),
        (None, false, length) => Ok(Command::Silence { of: Silenced::Alerts(terms), length }),
        (Some(incident), true, length) => Ok(Command::Silence { of: Silenced::Incident(incident), length }),
    }
}

fn trace(rest: &[Word], end: &Word) -> Result<Command, Mistake> {
    const USAGE: &str = "trace EVENT_ID, with environment=… where several have a run of that name";
    let Some((event_id, more)) = rest.split_first() else { return Err(end.refuse("the event_id of a run is missing", USAGE)) };
    let environment = match more {
        [] => None,
        [word] => match word.text.split_once('=') {
            Some(("environment", name)) if !name.is_empty() => Some(name.to_owned()),
            _ => return Err(word.refuse(format!("`{}` is too much here", word.text), USAGE)),
        },
        [_, word, ..] => return Err(word.refuse(format!("`{}` is too much here", word.text), USAGE)),
    };
    Ok(Command::Trace { event_id: event_id.text.trim_matches('`').to_owned(), environment })
}

fn top(rest: &[Word], end: &Word) -> Result<Command, Mistake> {
    const USAGE: &str = "top users, or top users 24h";
    let Some((what, more)) = rest.split_first() else { return Err(end.refuse("top of what?", USAGE)) };
    if !matches!(what.text.to_lowercase().as_str(), "users" | "user") {
        return Err(what.refuse(format!("there is no top of `{}`", what.text), format!("{USAGE}; the page Costs has tables by everything else")));
    }
    let window = match more {
        [] => DAY,
        [word] => Span::parse(&word.text)
            .filter(|span| WINDOW.contains(span))
            .ok_or_else(|| word.refuse(format!("`{}` is no length of time to look back", word.text), "from 1m to 31d, such as 24h"))?,
        [_, word, ..] => return Err(word.refuse(format!("`{}` is too much here", word.text), USAGE)),
    };
    Ok(Command::TopUsers { window })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(terms: &[(&str, &str)]) -> Vec<(String, String)> {
        terms.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn commands_are_read_as_people_write_them() {
        let of = |severity, own: &[(&str, &str)]| Filter { severity, terms: terms(own) };
        let incident = |name: &str| Silenced::Incident(name.to_owned());
        for (text, expected) in [
            ("", Command::Help),
            ("  HELP me", Command::Help),
            ("status", Command::Status),
            ("subscribe", Command::Subscribe(of(None, &[]))),
            (
                "subscribe stage=\"fact extraction\" severity>=Warning environment=production",
                Command::Subscribe(of(Some(Severity::Warning), &[("environment", "production"), ("stage", "fact extraction")])),
            ),
            ("subscribe properties.stages=a tenant=“two words”", Command::Subscribe(of(None, &[("stages", "a"), ("tenant", "two words")]))),
            ("unsubscribe", Command::Unsubscribe(Which::Only)),
            ("unsubscribe All", Command::Unsubscribe(Which::All)),
            ("unsubscribe rule=errors", Command::Unsubscribe(Which::This(of(None, &[("rule", "errors")])))),
            ("silence `i12ab` 1h", Command::Silence { of: incident("i12ab"), length: Some(Span::from_secs(3600)) }),
            ("silence i12ab for 30m", Command::Silence { of: incident("i12ab"), length: Some(Span::from_secs(1800)) }),
            ("silence i12ab until resolved", Command::Silence { of: incident("i12ab"), length: None }),
            (
                "silence 4h stage=extraction rule=errors severity=critical",
                Command::Silence {
                    of: Silenced::Alerts(terms(&[("rule", "errors"), ("severity", "critical"), ("stage", "extraction")])),
                    length: Some(Span::from_secs(4 * 3600)),
                },
            ),
            ("unsilence s1", Command::Unsilence("s1".into())),
            ("ack i12ab", Command::Acknowledge("i12ab".into())),
            ("why i12ab", Command::Why("i12ab".into())),
            ("trace evt:1/x environment=test", Command::Trace { event_id: "evt:1/x".into(), environment: Some("test".into()) }),
            ("top users", Command::TopUsers { window: DAY }),
            ("top users 1h30m", Command::TopUsers { window: Span::from_secs(5400) }),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_mistake_says_what_where_and_the_nearest_known_word() {
        let said = |text: &str| parse(text).expect_err(text).to_string();
        for (text, expected) in [
            ("subscibe", "unknown command `subscibe` (character 1)\nhint: did you mean `subscribe`? known: "),
            ("list all", "`all` is too much here (character 6)\nhint: this command stands alone"),
            (
                "subscribe enviroment=test",
                "unknown key `enviroment` (character 11)\nhint: did you mean `environment`? a property of calls is written properties.enviroment=test",
            ),
            ("subscribe severity>=waning", "unknown severity `waning` (character 11)\nhint: did you mean `warning`? known: info, warning, critical"),
            ("subscribe severity=critical", "severities are asked for from one upwards (character 11)\nhint: write severity>=critical"),
            ("subscribe stage>=a", "`>=` is for severity, not for `stage` (character 11)"),
            ("subscribe stage=a stage=b", "`stage` is there twice (character 19)"),
            ("subscribe everything", "`everything` is no term (character 11)"),
            ("subscribe stage=\"a", "a quote is not closed (character 17)"),
            ("subscribe =a", "a term has no key (character 11)"),
            ("silence", "silence what"),
            ("silence i1", "for how long? (character 11)"),
            ("silence 1h", "silence what? (character 11)"),
            ("silence i1 1s", "1s is no length for a silence (character 12)\nhint: from 1m to 30d"),
            ("silence i1 31d", "31d is no length for a silence (character 12)"),
            ("silence rule=a until resolved", "only an incident can be resolved (character 30)"),
            ("silence i1 until tomorrow", "until what? `tomorrow` is not known (character 18)"),
            ("silence i1 rule=a 1h", "this is both an incident and terms (character 21)"),
            ("silence i1 soon", "`soon` is no length of time (character 12)"),
            ("ack", "an id is missing (character 4)\nhint: ack INCIDENT"),
            ("ack i1 i2", "`i2` is too much here (character 8)"),
            ("ack <script>", "`<script>` is no id (character 5)"),
            ("trace", "the event_id of a run is missing (character 6)"),
            ("top models", "there is no top of `models` (character 5)"),
            ("top users 1y", "`1y` is no length of time to look back (character 11)"),
        ] {
            // Which of two things is missing first is not worth a rule.
            let expected = if text == "silence" { "for how long? (character 8)" } else { expected };
            assert!(said(text).starts_with(expected), "{text}: {}", said(text));
        }
        assert!(parse(&"x".repeat(TEXT_MAX + 1)).is_err_and(|mistake| mistake.what.contains("longer than")));
    }

    /// Pieces that meet the reader's branches, and characters that meet nothing.
    fn anything(random: &mut fastrand::Rng) -> String {
        const PIECES: [&str; 30] = [
            "subscribe",
            "silence",
            "unsubscribe",
            "ack",
            "trace",
            "top",
            "users",
            "until",
            "resolved",
            "for",
            "all",
            "severity>=",
            "severity=",
            "stage",
            "=",
            ">=",
            "≥",
            "\"",
            "“",
            "”",
            " ",
            "  ",
            "1h",
            "99999999999999999999d",
            "i12ab",
            "`",
            "\u{0}",
            "é́",
            "🦀",
            "properties.",
        ];
        let mut text = String::new();
        for _ in 0..random.usize(..14) {
            match random.u8(..4) {
                0 => text.push(random.char(..)),
                1 => text.push(' '),
                _ => text.push_str(PIECES[random.usize(..PIECES.len())]),
            }
        }
        text
    }

    #[test]
    fn whatever_is_typed_is_read_or_refused_at_a_place_within_it() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50_000 {
            let text = anything(&mut random);
            if let Err(Mistake { character, hint, what }) = parse(&text) {
                assert!((1..=text.chars().count() + 1).contains(&character), "seed {seed}: {text:?}: {character}");
                assert!(!hint.is_empty() && !what.is_empty(), "seed {seed}: {text:?}");
            }
        }
    }

    #[test]
    fn a_filter_that_is_shown_is_read_as_the_same() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut read = 0;
        for _ in 0..50_000 {
            let text = format!("subscribe {}", anything(&mut random));
            if let Ok(Command::Subscribe(filter)) = parse(&text) {
                let shown = if filter == Filter::default() { String::new() } else { filter.to_string() };
                // What is written with `properties.` because it would be taken for a slip, or twice, is shown without it.
                let plain = |(key, _): &(String, String)| Key::known().any(|known| known == key) || nearest(key, keys()).is_none();
                if filter.terms.iter().all(|term| plain(term) && !term.0.starts_with("properties.")) {
                    assert_eq!(parse(&format!("subscribe {shown}")), Ok(Command::Subscribe(filter)), "seed {seed}: {text:?}");
                    read += 1;
                }
            }
        }
        assert!(read > 100, "seed {seed}: only {read} were read");
    }
}
