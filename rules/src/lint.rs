//! What is allowed in a rule file and is probably not meant: warnings, each with its place and a way out.
//!
//! A lint says something only when it is sure of what it sees. It looks at the rule as compiled, and at a few shapes of its text; a rule that computes
//! what others write down is passed over. What depends on the configuration comes in as [`Bounds`].

use crate::problem::Problem;
use crate::ruleset::RuleSet;
use crate::source::Source;
use crate::tokens::{Kind, Place, Token, tokens};
use model::Unit;
use model::label::Key;
use model::plan::{RuleSpec, SignalRef, Statistic, WatchSpec};
use model::show;
use model::time::Span;
use std::collections::BTreeSet;

/// What the configuration says that a rule may be at odds with.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// `store.retention`.
    pub retention: Span,
    /// `windows.series_max`.
    pub series_max: u64,
    /// Environments with `notify = false`.
    pub silent: Vec<String>,
}

/// A rule that is allowed, and probably not what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub rule: String,
    pub problem: Problem,
}

/// The warnings about `rules`, which were loaded from `sources`, in the order of the rules and in each from its top.
pub fn lint(sources: &[Source], rules: &RuleSet, bounds: &Bounds) -> Vec<Warning> {
    let of = |(spec, path): (&RuleSpec, &std::path::Path)| {
        let Some(source) = sources.iter().find(|source| source.path == path) else { return Vec::new() };
        let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
        // What stands in a template string is said, and seldom compared.
        let tokens = tokens(text).into_iter().filter(|token| token.templates == 0).collect();
        let mut looking = Looking { source, text, tokens, spec, found: Vec::new() };
        looking.windows(bounds);
        looking.groups(bounds);
        looking.people(bounds);
        looking.hold();
        looking.expectations();
        looking.signals();
        looking.comparisons();
        looking.found.sort_by_key(|warning| (warning.problem.line, warning.problem.column));
        looking.found
    };
    rules.files().flat_map(of).collect()
}

/// One file that gave a rule.
struct Looking<'s> {
    source: &'s Source,
    text: &'s str,
    tokens: Vec<Token<'s>>,
    spec: &'s RuleSpec,
    found: Vec<Warning>,
}

/// Properties that end in `id` and have few values.
const FEW: [&str; 17] = [
    "tenant",
    "org",
    "organization",
    "organisation",
    "project",
    "team",
    "workspace",
    "model",
    "prompt",
    "app",
    "application",
    "region",
    "deployment",
    "experiment",
    "template",
    "provider",
    "service",
];

/// Below this, a number that is compared with milliseconds was probably meant as seconds.
const SECONDS_MAX: f64 = 20.0;

impl Looking<'_> {
    fn warn(&mut self, (line, column): Place, message: String, hint: String) {
        let problem = Problem { path: self.source.path.clone(), line, column, message, hint: Some(hint) };
        self.found.push(Warning { rule: self.spec.rule.name.clone(), problem });
    }

    /// The name of a map's entry.
    fn entry(&self, name: &str) -> Option<usize> {
        self.tokens.windows(2).position(|pair| pair[0].text == name && pair[0].kind != Kind::Number && pair[1].text == ":")
    }

    fn field(&self, name: &str) -> Place {
        self.entry(name).map_or((1, 1), |at| self.tokens[at].place)
    }

    /// The first text from a watch's name on that `is` so, else the watch's name.
    fn in_watch(&self, watch: &WatchSpec, is: impl Fn(&Token<'_>) -> bool) -> Place {
        let Some(from) = self.entry(&watch.name).or_else(|| self.entry("watch")) else { return (1, 1) };
        self.tokens[from..].iter().find(|token| is(token)).unwrap_or(&self.tokens[from]).place
    }

    fn windows(&mut self, bounds: &Bounds) {
        let too_long = self.spec.watches.iter().filter(|watch| watch.window > bounds.retention);
        for watch in too_long.cloned().collect::<Vec<_>>() {
            let place = self.in_watch(&watch, |token| token.kind == Kind::Text && Span::parse(token.text) == Some(watch.window));
            let message = format!("the window of {} is longer than store.retention, {}", watch.window, bounds.retention);
            self.warn(
                place,
                message,
                "what its windows hold is kept for as long as they reach: raise store.retention to say so, or take a shorter window".to_owned(),
            );
        }
    }

    fn groups(&mut self, bounds: &Bounds) {
        for key in self.spec.rule.group_by.clone().iter().filter(|key| explodes(key)) {
            let name = key.to_string();
            let from = self.entry("group_by").unwrap_or(0);
            let named = |token: &&Token<'_>| token.kind == Kind::Text && Key::parse(token.text).as_ref() == Some(key);
            let place = self.tokens[from..].iter().find(named).map_or_else(|| self.field("group_by"), |token| token.place);
            let most = show::number(bounds.series_max as f64);
            self.warn(
                place,
                format!("group_by `{name}`: each value is a group, and an id has a new one for every user, thread or call"),
                format!(
                    "the limit is windows.series_max, {most} series an environment; calls of further groups count under (other). \
                     Group by what has few values, such as stage or model"
                ),
            );
        }
    }

    fn people(&mut self, bounds: &Bounds) {
        let rule = &self.spec.rule;
        let Some(channel) = rule.channel.clone() else { return };
        let told = rule.environments.is_empty() || rule.environments.iter().any(|environment| !bounds.silent.contains(environment));
        let environments = rule.environments.join(", ");
        let at = self.entry("channel").map_or((1, 1), |at| self.tokens.get(at + 2).unwrap_or(&self.tokens[at]).place);
        if !is_channel(&channel) {
            self.warn(
                at,
                format!("channel `{channel}` is neither a #name nor an id"),
                format!(
                    "Slack's channels are written \"#{}\", or by their id, such as \"C024BE91L\"",
                    channel.trim_start_matches('#').to_lowercase().replace(' ', "-")
                ),
            );
        }
        if !told {
            self.warn(
                at,
                format!("nothing of this rule is told in `{channel}`: it is only for {environments}, where people are not notified"),
                format!("set environments.{}.notify = true, or widen `environments`", rule.environments.first().map_or("NAME", String::as_str)),
            );
        }
    }

    fn hold(&mut self) {
        let (hold, longest) = (self.spec.rule.hold, self.spec.watches.iter().map(|watch| watch.window).max().unwrap_or(Span::ZERO));
        if hold > longest {
            self.warn(
                self.field("hold"),
                format!("hold of {hold} is longer than the longest window, {longest}"),
                "a window forgets what hold waits for: a longer window shows a lasting condition, and tells of it sooner".to_owned(),
            );
        }
    }

    /// Ranges of latencies that look like seconds.
    fn expectations(&mut self) {
        for watch in self.spec.watches.clone() {
            let (Some(measure), Some(range)) = (milliseconds(&watch.statistic), watch.expect) else { continue };
            if range.high > 0.0 && range.high < SECONDS_MAX {
                let place = self.in_watch(&watch, |token| token.text == "expect");
                self.warn(place, format!("{} is expected up to {} ms", watch.statistic.describe(), range.high), in_milliseconds(measure, range.high));
            }
        }
    }

    /// Entries of the map that `signals` returns which nothing watches.
    fn signals(&mut self) {
        let watched: BTreeSet<&str> = self
            .spec
            .watches
            .iter()
            .filter_map(|watch| match &watch.statistic {
                Statistic::Rate(SignalRef::User(name, _)) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let Some((_, body)) = self.function("signals") else { return };
        let mut seen = BTreeSet::new();
        let unused: Vec<_> =
            returned_keys(&self.tokens[body]).into_iter().filter(|key| !watched.contains(key.text) && seen.insert(key.text)).collect();
        for key in unused {
            let (name, place) = (key.text.to_owned(), key.place);
            let hint = if model::Signal::parse(&name).is_some() || model::run::RunSignal::parse(&name).is_some() {
                format!("`{name}` is a built-in signal, and that is what rate(\"{name}\", …) counts: give this one another name")
            } else {
                format!("watch it, as in rate(\"{name}\", \"5m\"), or take it out: it is computed for every call")
            };
            self.warn(place, format!("nothing watches the signal `{name}`"), hint);
        }
    }

    /// Comparisons in `check` of a watch with a number that its value cannot be meant to pass.
    fn comparisons(&mut self) {
        let Some((parameter, body)) = self.function("check") else { return };
        let tokens = &self.tokens[body];
        // Another meaning of the same name, and nothing is sure.
        let w = parameter.as_str();
        if tokens.windows(2).any(|pair| matches!(pair[0].text, "let" | "|" | ",") && pair[1].text == w && pair[1].kind == Kind::Name) {
            return;
        }
        let mut said = Vec::new();
        for compared in compared(tokens, w) {
            let Some(watch) = self.spec.watches.iter().find(|watch| watch.name == compared.watch) else { continue };
            let (first, last) = (compared.from, compared.to);
            let written = &self.text[first.from..last];
            if matches!(watch.statistic, Statistic::Rate(_)) && never(compared.sign, compared.number) {
                let hint = if compared.number > 1.0 && compared.number <= 100.0 {
                    format!("a rate lies between 0 and 1: {} % is {}", compared.number, compared.number / 100.0)
                } else {
                    "a rate lies between 0 and 1".to_owned()
                };
                said.push((first.place, format!("`{written}` is never true"), hint));
            } else if let Some(measure) = milliseconds(&watch.statistic).filter(|_| compared.number > 0.0 && compared.number < SECONDS_MAX) {
                said.push((
                    first.place,
                    format!("`{written}` compares milliseconds with {}", compared.number),
                    in_milliseconds(measure, compared.number),
                ));
            }
        }
        said.into_iter().for_each(|(place, message, hint)| self.warn(place, message, hint));
    }

    /// The parameter of a function, and the tokens of its body.
    fn function(&self, name: &str) -> Option<(String, std::ops::Range<usize>)> {
        let at = self
            .tokens
            .windows(6)
            .position(|t| t[0].text == "fn" && t[1].text == name && t[2].text == "(" && t[4].text == ")" && t[5].text == "{")?;
        let mut depth = 0;
        let end = self.tokens[at + 5..].iter().position(|token| {
            depth += depth_of(token);
            depth == 0
        })?;
        Some((self.tokens[at + 3].text.to_owned(), at + 6..at + 5 + end))
    }
}

fn depth_of(token: &Token<'_>) -> i32 {
    match token.text {
        _ if token.kind != Kind::Symbol => 0,
        "{" | "#{" => 1,
        "}" => -1,
        _ => 0,
    }
}

/// Whether each call or person has a value of its own.
fn explodes(key: &Key) -> bool {
    match key {
        Key::User | Key::Thread | Key::Session => true,
        Key::Property(name) => {
            let last = name.rsplit('.').next().unwrap_or(name);
            let stem = last.strip_suffix("_id").or_else(|| last.strip_suffix("Id")).or_else(|| last.strip_suffix("ID"));
            let few = stem.is_some_and(|stem| FEW.iter().any(|few| stem.to_lowercase().ends_with(few)));
            (stem.is_some() || ["id", "uuid", "guid"].contains(&last.to_lowercase().as_str())) && !few
        }
        _ => false,
    }
}

/// `#name`, or an id.
fn is_channel(channel: &str) -> bool {
    let name = |name: &str| !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_uppercase() || ".,#".contains(c));
    let id = channel.len() >= 9 && channel.starts_with(['C', 'G', 'D', 'U']) && channel.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    id || channel.strip_prefix('#').is_some_and(name)
}

fn milliseconds(statistic: &Statistic) -> Option<&str> {
    match statistic {
        Statistic::Quantile(measure, _) | Statistic::Mean(measure) if measure.unit() == Unit::Millis => Some(measure.name()),
        _ => None,
    }
}

fn in_milliseconds(measure: &str, seconds: f64) -> String {
    format!("{measure} is in milliseconds: {seconds} s is {}", seconds * 1000.0)
}

/// Of a rate.
fn never(sign: &str, number: f64) -> bool {
    match sign {
        ">" => number >= 1.0,
        ">=" => number > 1.0,
        "<" => number <= 0.0,
        "<=" => number < 0.0,
        "==" => !(0.0..=1.0).contains(&number),
        _ => false,
    }
}

/// The keys of the map literals that a function's body surely returns: the one it ends with, and those after `return`.
fn returned_keys<'t>(body: &[Token<'t>]) -> Vec<Token<'t>> {
    let mut keys = Vec::new();
    let mut depth = 0;
    for (at, token) in body.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| body[before]);
        let ends = |from: usize| {
            let mut inside = 0;
            body[from..].iter().position(|token| {
                inside += depth_of(token);
                inside == 0
            })
        };
        if token.kind == Kind::Symbol && token.text == "#{" {
            let statement = depth == 0 && before.is_none_or(|before| before.kind == Kind::Symbol && matches!(before.text, ";" | "}"));
            let returned = before.is_some_and(|before| before.kind == Kind::Name && before.text == "return");
            if let Some(length) = ends(at) {
                let after = body.get(at + length + 1);
                let alone = after.is_none_or(|after| after.kind == Kind::Symbol && matches!(after.text, ";" | "}"));
                if returned && alone || statement && after.is_none() {
                    keys.extend(keys_of(&body[at + 1..at + length]));
                }
            }
        }
        depth += depth_of(token);
    }
    keys
}

/// The names of the entries of one map literal, those of maps inside it left out.
fn keys_of<'t>(entries: &[Token<'t>]) -> Vec<Token<'t>> {
    let mut keys = Vec::new();
    let mut depth = 0;
    for (at, token) in entries.iter().enumerate() {
        let begins = at == 0 || depth == 0 && entries[at - 1].kind == Kind::Symbol && entries[at - 1].text == ",";
        let named = matches!(token.kind, Kind::Name | Kind::Text) && entries.get(at + 1).is_some_and(|next| next.text == ":");
        if depth == 0 && begins && named {
            keys.push(*token);
        }
        depth += match token.text {
            "(" | "[" if token.kind == Kind::Symbol => 1,
            ")" | "]" if token.kind == Kind::Symbol => -1,
            _ => depth_of(token),
        };
    }
    keys
}

/// A watch's number beside a literal one.
struct Compared<'t> {
    watch: &'t str,
    /// As with the watch on the left.
    sign: &'static str,
    number: f64,
    from: Token<'t>,
    /// The byte after the last.
    to: usize,
}

const SIGNS: [(&str, &str); 5] = [(">", "<"), (">=", "<="), ("<", ">"), ("<=", ">="), ("==", "==")];

/// `w.NAME.value > 5` and `5 < w.NAME.value`, where nothing else is computed on either side.
fn compared<'t>(tokens: &[Token<'t>], w: &str) -> Vec<Compared<'t>> {
    let begins = |at: usize| {
        at == 0
            || matches!(tokens[at - 1].text, "if" | "while" | "return" | "(" | "{" | "}" | ";" | "&&" | "||" | "!" | "=" | ",")
                && tokens[at - 1].kind != Kind::Text
    };
    let ends =
        |at: usize| tokens.get(at).is_none_or(|next| matches!(next.text, ")" | "{" | "}" | ";" | "&&" | "||" | ",") && next.kind == Kind::Symbol);
    let number = |at: usize| -> Option<(f64, usize)> {
        let minus = tokens.get(at)?.text == "-" && tokens[at].kind == Kind::Symbol;
        let token = tokens.get(at + usize::from(minus)).filter(|token| token.kind == Kind::Number)?;
        let value: f64 = token.text.replace('_', "").parse().ok()?;
        Some((if minus { -value } else { value }, at + usize::from(minus) + 1))
    };
    let watched = |at: usize| -> Option<(&'t str, usize)> {
        let [of, dot, name, dot_too, part] = tokens.get(at..at + 5)? else { return None };
        let is = of.text == w && dot.text == "." && dot_too.text == "." && matches!(part.text, "value" | "low" | "high");
        (is && of.kind == Kind::Name && name.kind == Kind::Name && part.kind == Kind::Name).then_some((name.text, at + 5))
    };
    let sign = |at: usize| SIGNS.iter().find(|(sign, _)| tokens.get(at).is_some_and(|token| token.text == *sign && token.kind == Kind::Symbol));
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if !begins(at) {
            continue;
        }
        let left = || {
            let (watch, then) = watched(at)?;
            let (sign, _) = sign(then)?;
            let (number, end) = number(then + 1)?;
            Some((watch, *sign, number, end))
        };
        let right = || {
            let (number, then) = number(at)?;
            let (_, turned) = sign(then)?;
            let (watch, end) = watched(then + 1)?;
            Some((watch, *turned, number, end))
        };
        if let Some((watch, sign, number, end)) = left().or_else(right)
            && ends(end)
        {
            found.push(Compared { watch, sign, number, from: tokens[at], to: tokens[end - 1].to });
        }
    }
    found
}
