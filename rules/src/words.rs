//! The words of a rule file with their places: names and strings, comments left out.
//!
//! Rhai tells where a call stands and not where its arguments do; this finds them, so that an error points at the word it is about.
//! It also tells which fields of a call a file mentions at all.

use std::ops::Range;

/// Line and column, both from 1; columns count characters.
pub(crate) type Place = (usize, usize);

#[derive(Debug, PartialEq)]
struct Word<'t> {
    text: &'t str,
    place: Place,
    /// Followed by a colon: the name of a map's entry.
    entry: bool,
    /// A name after a dot.
    property: bool,
    /// What a text stands in; `None` for a name.
    quote: Option<char>,
    /// A name right behind the word before and a dot: `b` of `a.b` or `a?.b`, and not of `a[0].b`.
    joined: bool,
    /// Followed by a parenthesis.
    called: bool,
    /// Beside a single bar: a parameter of a closure, perhaps.
    barred: bool,
    /// Braces that are open here.
    depth: usize,
    /// In the body of this function.
    inside: Option<&'t str>,
}

#[derive(Debug)]
pub(crate) struct Words<'t>(Vec<Word<'t>>);

impl<'t> Words<'t> {
    pub fn of(text: &'t str) -> Self {
        let mut words = Vec::new();
        let mut scan = Scan { text, at: 0, place: (1, 1) };
        // Where the word before ends, and how many braces are open.
        let (mut end, mut depth) = (0, 0usize);
        // The function whose name has been said and its body not yet, and the one that we are in.
        let (mut defining, mut inside) = (None, None);
        let mut before = "";
        while let Some(next) = scan.peek() {
            let (from, place) = (scan.at, scan.place);
            let property = text[..from].ends_with('.') && !text[..from].ends_with("..");
            if next.is_alphabetic() || next == '_' {
                scan.skip_while(|c| c.is_alphanumeric() || c == '_');
                words.push(Word {
                    text: &text[from..scan.at],
                    place,
                    entry: scan.colon_follows(),
                    property,
                    quote: None,
                    joined: end > 0 && matches!(&text[end..from], "." | "?."),
                    called: scan.rest().trim_start().starts_with('('),
                    barred: is_barred(&text[..from], scan.rest()),
                    depth,
                    inside,
                });
                end = scan.at;
                if before == "fn" && depth == 0 {
                    defining = Some(&text[from..end]);
                }
                before = &text[from..end];
            } else if next == '"' || next == '`' {
                scan.skip();
                let opened = scan.at;
                scan.skip_string(next);
                let inner = &text[opened..scan.at];
                scan.skip();
                let entry = scan.colon_follows();
                let quote = Some(next);
                words.push(Word { text: inner, place, entry, property: false, quote, joined: false, called: false, barred: false, depth, inside });
                end = 0;
                if next == '`' {
                    // What a template string names counts as named; its places are near enough.
                    let said = Self::of(inner).0.into_iter();
                    words.extend(said.map(|word| Word {
                        place,
                        entry: false,
                        joined: word.joined && word.depth > 0,
                        called: word.called && word.depth > 0,
                        depth: depth + word.depth,
                        inside,
                        ..word
                    }));
                }
            } else if scan.skip_comment() {
            } else if next == '\'' {
                scan.skip();
                scan.skip_string(next);
                scan.skip();
            } else if next.is_ascii_digit() {
                scan.skip_while(|c| c.is_alphanumeric() || c == '_');
            } else {
                if next == '{' && defining.is_some() {
                    inside = defining.take();
                }
                depth = if next == '{' { depth + 1 } else { depth.saturating_sub(usize::from(next == '}')) };
                inside = inside.filter(|_| depth > 0);
                scan.skip();
            }
        }
        Self(words)
    }

    /// How often the file says `text`.
    pub fn count(&self, text: &str) -> usize {
        self.0.iter().filter(|word| word.text == text).count()
    }

    /// The first `text` at or after `from`.
    pub fn find(&self, from: Place, text: &str) -> Option<Place> {
        self.0.iter().find(|word| word.place >= from && word.text == text).map(|word| word.place)
    }

    /// The first map entry named `text` at or after `from`.
    pub fn entry(&self, from: Place, text: &str) -> Option<Place> {
        self.0.iter().find(|word| word.place >= from && word.entry && word.text == text).map(|word| word.place)
    }

    /// Every name that follows a dot, each once, sorted.
    pub fn properties(&self) -> Vec<&'t str> {
        let mut names: Vec<_> = self.0.iter().filter(|word| word.property).map(|word| word.text).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether the file asks for `property` of what it calls `name`, or of something that has no name here.
    pub fn goes_on(&self, name: &str, property: &str) -> bool {
        self.0.windows(2).any(|pair| pair[1].property && pair[1].text == property && (!pair[0].property || pair[0].text == name))
    }

    /// The text that stands next after each call of `function`, in its quotes, as written.
    pub fn texts_after(&self, function: &str) -> Vec<(String, Place)> {
        let calls = self.0.iter().enumerate().filter(|(_, word)| word.text == function && word.quote.is_none());
        let next = |(at, _): (usize, &Word<'t>)| self.0[at + 1..].iter().find_map(|word| Some((word, word.quote?)));
        calls.filter_map(next).map(|(word, quote)| (format!("{quote}{}{quote}", word.text), word.place)).collect()
    }

    /// The paths in the body of `function` that begin with its only parameter, each without that, as `bad.value` of `w.bad.value`; what is called is
    /// left out. None where something else has the parameter's name.
    pub fn paths(&self, function: &str) -> Vec<Vec<(&'t str, Place)>> {
        let defined = self.0.windows(2).position(|pair| pair[0].text == "fn" && pair[0].depth == 0 && pair[1].text == function);
        let Some((parameter, rest)) = defined.and_then(|at| self.0[at + 2..].split_first()) else { return Vec::new() };
        let body = &rest[..rest.iter().take_while(|word| word.depth > 0).count()];
        let is = |word: &Word<'_>| word.quote.is_none() && !word.property && word.text == parameter.text;
        let again = |pair: &[Word<'_>]| matches!(pair[0].text, "let" | "const" | "for") && is(&pair[1]);
        if body.windows(2).any(again) || body.iter().any(|word| is(word) && word.barred) {
            return Vec::new();
        }
        let path = |at: usize| {
            let joined = body[at + 1..].iter().take_while(|word| word.joined && !word.called);
            joined.map(|word| (word.text, word.place)).collect::<Vec<_>>()
        };
        let begins = |at: &usize| is(&body[*at]) && !body[*at].called && !body[*at].entry;
        (0..body.len()).filter(begins).map(path).filter(|path| !path.is_empty()).collect()
    }

    /// The names of the map entries in the body of `function`, each once, as far as it has one parameter.
    pub fn entries(&self, function: &str) -> Vec<&'t str> {
        let defined = self.0.windows(2).position(|pair| pair[0].text == "fn" && pair[0].depth == 0 && pair[1].text == function);
        let body = defined.map_or(&[][..], |at| self.0.get(at + 3..).unwrap_or_default()).iter().take_while(|word| word.inside == Some(function));
        let mut names: Vec<_> = body.filter(|word| word.entry).map(|word| word.text).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What the file's functions call and do not define or declare themselves: the function, what it calls, and where.
    pub fn calls(&self) -> Vec<(&'t str, &'t str, Place)> {
        let own = |name: &str| self.0.windows(2).any(|pair| matches!(pair[0].text, "fn" | "let" | "const") && pair[1].text == name);
        let called = self.0.iter().filter(|word| word.called && word.quote.is_none() && !own(word.text));
        called.filter_map(|word| Some((word.inside?, word.text, word.place))).collect()
    }

    /// Where the function `name` is defined.
    pub fn function(&self, name: &str) -> Option<Place> {
        self.0.windows(2).find(|pair| pair[0].text == "fn" && pair[1].text == name).map(|pair| pair[1].place)
    }
}

/// Whether a name between these stands beside one bar, and not beside the two of `||`.
fn is_barred(before: &str, after: &str) -> bool {
    let (before, after) = (before.trim_end(), after.trim_start());
    before.ends_with('|') && !before.ends_with("||") || after.starts_with('|') && !after.starts_with("||")
}

/// Where a top-level constant's value stands in `text`: after its `=`, up to its `;`.
pub(crate) fn constant(text: &str, name: &str) -> Option<Range<usize>> {
    declared(text).into_iter().find(|(known, _)| *known == name).map(|(_, range)| range)
}

/// The names of the top-level constants.
pub(crate) fn constants(text: &str) -> Vec<String> {
    declared(text).into_iter().map(|(name, _)| name.to_owned()).collect()
}

fn declared(text: &str) -> Vec<(&str, Range<usize>)> {
    let mut found = Vec::new();
    let mut scan = Scan { text, at: 0, place: (1, 1) };
    // The word before, the name that is being declared, and where its value begins.
    let (mut depth, mut before, mut name, mut value) = (0usize, "", None, None);
    while let Some(next) = scan.peek() {
        if next.is_alphabetic() || next == '_' {
            let from = scan.at;
            scan.skip_while(|c| c.is_alphanumeric() || c == '_');
            let word = &text[from..scan.at];
            if before == "const" && depth == 0 {
                (name, value) = (Some(word), None);
            }
            before = word;
            continue;
        }
        if scan.skip_comment() {
            continue;
        }
        scan.skip();
        match next {
            '"' | '`' | '\'' => {
                scan.skip_string(next);
                scan.skip();
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '=' if depth == 0 && name.is_some() && value.is_none() => value = Some(scan.at),
            ';' if depth == 0 => {
                if let (Some(name), Some(from)) = (name.take(), value.take()) {
                    found.push((name, from..scan.at - 1));
                }
            }
            _ => {}
        }
    }
    found
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
    place: Place,
}

impl<'t> Scan<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self) {
        if let Some(c) = self.peek() {
            self.at += c.len_utf8();
            self.place = if c == '\n' { (self.place.0 + 1, 1) } else { (self.place.0, self.place.1 + 1) };
        }
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.skip();
        }
    }

    /// Past a comment that begins here; false when none does.
    fn skip_comment(&mut self) -> bool {
        if self.rest().starts_with("//") {
            self.skip_while(|c| c != '\n');
        } else if self.rest().starts_with("/*") {
            let end = self.rest().find("*/").map_or(self.rest().len(), |end| end + 2);
            let to = self.at + end;
            while self.at < to {
                self.skip();
            }
        } else {
            return false;
        }
        true
    }

    /// To the closing quote, which stays.
    fn skip_string(&mut self, quote: char) {
        while let Some(c) = self.peek() {
            if c == quote {
                return;
            }
            self.skip();
            if c == '\\' && quote != '`' {
                self.skip();
            }
        }
    }

    fn colon_follows(&self) -> bool {
        let rest = self.rest().trim_start();
        rest.starts_with(':') && !rest.starts_with("::")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strings_have_places_and_comments_are_passed_over() {
        let words = Words::of("// name: no\nrule(#{\n  name: \"é\", /* watch: */ watch : x(\"na\\\"me\"), t: `a ${log.stage}` });\nfn check(w) {}");
        assert_eq!(words.entry((1, 1), "name"), Some((3, 3)));
        assert_eq!(words.find((3, 4), "é"), Some((3, 9)));
        assert_eq!(words.entry((1, 1), "watch"), Some((3, 27)));
        assert_eq!(words.count("stage"), 1);
        assert_eq!(words.function("check"), Some((4, 4)));
        assert_eq!(words.count("no"), 0);
        assert_eq!(Words::of("log?.a.b(c) + d[0].e 1..f").properties(), ["a", "b", "e"]);
    }

    #[test]
    fn a_constant_s_value_is_found_at_the_top_level_alone() {
        let text = "// const A = 0;\nfn f(x) { const A = 1; }\nconst LONG_A = 2; const B = A == 3; const A = [\"; 4\", 5];";
        assert_eq!(constant(text, "A").map(|range| &text[range]), Some(" [\"; 4\", 5]"));
        assert_eq!(constant(text, "B").map(|range| &text[range]), Some(" A == 3"));
        assert_eq!(constant(text, "C"), None);
    }

    #[test]
    fn paths_begin_with_the_parameter_and_end_where_they_are_uncertain() {
        fn paths(text: &str) -> Vec<Vec<&str>> {
            let paths = Words::of(text).paths("check");
            paths.into_iter().map(|path| path.into_iter().map(|(name, _)| name).collect()).collect()
        }
        let text = "fn check(w) { if w.a.value > w?.b[0].c { fire(`see w.no ${w.d.e} w.no`) } w.f.len(); x.w.no; #{ w: 1 } } fn other(w) { w.no }";
        assert_eq!(paths(text), [vec!["a", "value"], vec!["b"], vec!["d", "e"], vec!["f"]]);
        assert_eq!(paths("fn check(w) { let c = '{'; w.a } const X = \"w.no\"; // w.no"), [["a"]]);
        for shadowed in ["let w = 1; w.no", "for w in [] { w.no }", "[].some(|w| w.no)", "[].some(|a, w| w.no)"] {
            assert!(paths(&format!("fn check(w) {{ {shadowed} }}")).is_empty(), "{shadowed}");
        }
        assert_eq!(paths("fn check(w) { a || w.b }"), [["b"]]);
    }

    #[test]
    fn broken_files_end_too() {
        for text in ["\"open", "'", "/* open", "`open ${", "\"\\", "`"] {
            Words::of(text);
        }
    }
}
