//! The words of a rule file with their places: names and strings, comments left out.
//!
//! Rhai tells where a call stands and not where its arguments do; this finds them among the file's tokens, so that an error points at the word it is
//! about. It also tells which fields of a call a file mentions at all.

use crate::tokens::{Kind, Place, Token, tokens};
use std::ops::Range;

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
        let tokens = tokens(text);
        let symbol = |at: usize| tokens.get(at).filter(|token| token.kind == Kind::Symbol).map_or("", |token| token.text);
        let mut words = Vec::new();
        let mut depth = 0usize;
        // The function whose name has been said and its body not yet, and the one that we are in.
        let (mut defining, mut inside) = (None, None);
        let mut before = "";
        let mut place = (1, 1);
        for (at, token) in tokens.iter().enumerate() {
            if token.templates == 0 {
                // What a template string's code names has the string's place, which is near enough.
                place = token.place;
            }
            let quote = text[token.from..].chars().next().filter(|_| token.kind == Kind::Text);
            if token.kind == Kind::Symbol {
                if opens(token) {
                    inside = defining.take().or(inside);
                    depth += 1;
                } else if token.text == "}" {
                    depth = depth.saturating_sub(1);
                }
                inside = inside.filter(|_| depth > 0);
            } else if token.kind != Kind::Number && quote != Some('\'') {
                let (previous, next) = (symbol(at.wrapping_sub(1)), symbol(at + 1));
                let behind = |at: usize| tokens[at - 1].to == tokens[at].from;
                let property = matches!(previous, "." | "?.") && behind(at);
                words.push(Word {
                    text: token.text,
                    place,
                    entry: next == ":",
                    property,
                    quote,
                    joined: property && at > 1 && tokens[at - 2].kind == Kind::Name && behind(at - 1),
                    called: next == "(",
                    barred: previous == "|" || next == "|",
                    depth,
                    inside,
                });
            }
            if token.kind == Kind::Name {
                if before == "fn" && depth == 0 {
                    defining = Some(token.text);
                }
                before = token.text;
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

    /// Whether the top level calls `function`.
    pub fn says(&self, function: &str) -> bool {
        self.0.iter().any(|word| word.called && word.quote.is_none() && word.text == function && word.inside.is_none())
    }

    /// Where the function `name` is defined.
    pub fn function(&self, name: &str) -> Option<Place> {
        self.0.windows(2).find(|pair| pair[0].text == "fn" && pair[1].text == name).map(|pair| pair[1].place)
    }
}

/// Whether a symbol opens a brace: of a body, a map or the code in a template string.
fn opens(symbol: &Token<'_>) -> bool {
    matches!(symbol.text, "{" | "#{" | "${")
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
    // The word before, the name that is being declared, and where its value begins.
    let (mut depth, mut before, mut name, mut value) = (0usize, "", None, None);
    for token in tokens(text) {
        match (token.kind, token.text) {
            (Kind::Name, word) => {
                if before == "const" && depth == 0 {
                    (name, value) = (Some(word), None);
                }
                before = word;
            }
            (Kind::Symbol, "(" | "[") => depth += 1,
            (Kind::Symbol, _) if opens(&token) => depth += 1,
            (Kind::Symbol, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            (Kind::Symbol, "=") if depth == 0 && name.is_some() && value.is_none() => value = Some(token.to),
            (Kind::Symbol, ";") if depth == 0 => {
                if let (Some(name), Some(from)) = (name.take(), value.take()) {
                    found.push((name, from..token.from));
                }
            }
            _ => {}
        }
    }
    found
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
    fn a_template_string_names_what_its_code_names() {
        let words = Words::of("fn check(w) { fire(`it's a.no ${if w.a.b { `x ${w.c.d}` }} \n ${f(w)}`) }");
        let paths: Vec<_> = words.paths("check").into_iter().flatten().collect();
        assert_eq!(paths, ["a", "b", "c", "d"].map(|name| (name, (1, 20))));
        assert_eq!(words.properties(), ["a", "b", "c", "d"]);
        assert_eq!(words.calls().iter().map(|(_, name, _)| *name).collect::<Vec<_>>(), ["fire", "f"]);
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
