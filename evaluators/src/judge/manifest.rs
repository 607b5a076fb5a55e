//! `judge.toml`: what a judge is for, and what its scores mean. Data only; the prompt and the schema are files of their own.

use super::load::Place;
use model::Key;
use model::nearest::nearest;
use model::plan::Filter;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How a judge replies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// With a score for one answer; the threshold makes it pass or fail.
    Score(Scale),
    /// With pass or fail for one answer.
    Verdict,
    /// With the better of two answers.
    Pair,
}

/// The scores that a judge may give, and from where on one passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The worst score.
    pub low: f64,
    /// The best; above `low`.
    pub high: f64,
    /// As a share of the scale, 0 to 1: the lowest that passes.
    pub threshold: f64,
}

impl Scale {
    /// A score as a share of the scale, 0 to 1.
    pub fn share(self, score: f64) -> f64 {
        ((score - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Whether a share of the scale passes. One that is written as 0.7 passes a threshold of 0.7, whatever the division made of it.
    pub fn passes(self, share: f64) -> bool {
        share >= self.threshold - 1e-9
    }
}

/// As meant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub description: String,
    pub kind: Kind,
    pub applies: Filter,
    pub needs: Vec<&'static str>,
    pub max_output_tokens: u32,
    pub model: Option<String>,
}

/// A mistake, and where it stands.
pub(crate) struct Wrong {
    pub place: Place,
    pub what: String,
    pub hint: String,
}

pub(super) const KEYS: [&str; 8] = ["description", "kind", "applies", "needs", "scale", "threshold", "max_output_tokens", "model"];

/// What a judge may need: calls that have not logged it are not asked about. Of pairs, both answers are always needed.
pub(crate) const NEEDS: [&str; 7] = ["question", "context", "retrieved", "messages", "answer", "earlier_answers", "json"];

/// A few sentences of reasoning and a verdict.
const OUTPUT_TOKENS: u32 = 600;
/// More would be an essay per call; it is also what the reply may be long.
const OUTPUT_TOKENS_MAX: i64 = 8_192;

/// Names are labels of calls: more values than this in one filter is a mistake.
const FILTER_VALUES_MAX: usize = 64;

/// Reads `judge.toml`, and says everything that is wrong with it.
pub(crate) fn read(text: &str) -> Result<Manifest, Vec<Wrong>> {
    let line_at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let hint = "this is TOML: text stands in quotes, lists in [ ], tables in { }";
        let wrong = errors.into_iter().map(|error| Wrong {
            place: error.span().map_or(Place::File, |span| Place::Line(line_at(span.start))),
            what: error.message().to_owned(),
            hint: hint.to_owned(),
        });
        return Err(wrong.collect());
    }
    let mut reading = Reading { table: document.get_ref(), line_at: &line_at, wrong: Vec::new() };
    let manifest = reading.manifest();
    match manifest {
        Some(manifest) if reading.wrong.is_empty() => Ok(manifest),
        _ => Err(reading.wrong),
    }
}

struct Reading<'t> {
    table: &'t DeTable<'t>,
    line_at: &'t dyn Fn(usize) -> usize,
    wrong: Vec<Wrong>,
}

impl<'t> Reading<'t> {
    fn refuse(&mut self, place: Place, what: impl Into<String>, hint: impl Into<String>) {
        self.wrong.push(Wrong { place, what: what.into(), hint: hint.into() });
    }

    fn place(&self, at: &Spanned<DeValue<'_>>) -> Place {
        Place::Line((self.line_at)(at.span().start))
    }

    fn manifest(&mut self) -> Option<Manifest> {
        for (key, _) in self.table {
            let name = key.get_ref();
            if !KEYS.contains(&name.as_ref()) {
                self.refuse(Place::Line((self.line_at)(key.span().start)), format!("unknown key `{name}`"), hint(name, &KEYS));
            }
        }
        let description = self.text("description").unwrap_or_default();
        if description.trim().is_empty() && self.wrong.is_empty() {
            self.refuse(Place::File, "there is no `description`", "say in a sentence what a failing answer is: description = \"…\"");
        }
        let kind = self.kind();
        let pair = kind == Some(Kind::Pair);
        let needs = self.needs(pair);
        Some(Manifest {
            description: description.trim().to_owned(),
            kind: kind?,
            applies: self.applies(),
            needs,
            max_output_tokens: self.tokens(),
            model: self.text("model").filter(|model| !model.is_empty()),
        })
    }

    fn kind(&mut self) -> Option<Kind> {
        let pair = match self.text("kind").as_deref() {
            None | Some("answer") => false,
            Some("pair") => true,
            Some(other) => {
                let place = self.place(&self.table["kind"]);
                self.refuse(place, format!("`kind` cannot be `{other}`"), hint(other, &["answer", "pair"]));
                return None;
            }
        };
        let threshold = self.number("threshold");
        match (pair, self.table.get("scale")) {
            (true, Some(at)) => {
                let place = self.place(at);
                self.refuse(place, "a judge of pairs has no `scale`", "it says which answer is better: take `scale` and `threshold` out");
                None
            }
            (pair, None) => {
                if let Some(at) = self.table.get("threshold") {
                    let place = self.place(at);
                    self.refuse(place, "there is a `threshold` and no `scale`", "write scale = [1, 5], or take `threshold` out");
                }
                Some(if pair { Kind::Pair } else { Kind::Verdict })
            }
            (false, Some(at)) => {
                let ends: Option<Vec<f64>> = at.get_ref().as_array().map(|list| list.iter().filter_map(|end| number(end.get_ref())).collect());
                let place = self.place(at);
                let Some([low, high]) = ends.as_deref().and_then(|ends| <[f64; 2]>::try_from(ends).ok()).filter(|[low, high]| low < high) else {
                    self.refuse(place, "`scale` must be the worst and the best score", "as in scale = [1, 5]");
                    return None;
                };
                match threshold {
                    Some(threshold) if (0.0..=1.0).contains(&threshold) && threshold > 0.0 => Some(Kind::Score(Scale { low, high, threshold })),
                    Some(_) => {
                        let place = self.place(&self.table["threshold"]);
                        self.refuse(place, "`threshold` must be above 0 and at most 1", "it is a share of the scale: of 1 to 5, 0.75 is 4");
                        None
                    }
                    None => {
                        self.refuse(
                            place,
                            "there is a `scale` and no `threshold`",
                            "say from where on an answer passes: threshold = 0.75 of 1 to 5 is 4",
                        );
                        None
                    }
                }
            }
        }
    }

    fn applies(&mut self) -> Filter {
        let Some(at) = self.table.get("applies") else { return Filter::default() };
        let place = self.place(at);
        let Some(table) = at.get_ref().as_table() else {
            self.refuse(place, "`applies` must be a table", "as in applies = { stage = \"synthesis\" }");
            return Filter::default();
        };
        let mut filter = Vec::new();
        for (key, value) in table {
            let name = key.get_ref();
            let values: Option<Vec<String>> = match value.get_ref() {
                DeValue::String(text) => Some(vec![text.to_string()]),
                DeValue::Array(list) => list.iter().map(|value| value.get_ref().as_str().map(str::to_owned)).collect(),
                _ => None,
            };
            let place = Place::Line((self.line_at)(key.span().start));
            match (Key::parse(name), values) {
                (None, _) => self.refuse(
                    place,
                    format!("`applies` cannot ask for `{name}`"),
                    "environments are chosen in the configuration; keys are stage, model and so on, or properties.…",
                ),
                (Some(key), Some(values)) if !values.is_empty() && values.len() <= FILTER_VALUES_MAX => filter.push((key, values)),
                (Some(_), _) => {
                    self.refuse(place, format!("`applies.{name}` must be a text or a list of texts"), "as in { stage = [\"synthesis\", \"answer\"] }")
                }
            }
        }
        Filter(filter)
    }

    fn needs(&mut self, pair: bool) -> Vec<&'static str> {
        let usual = if pair { vec!["question"] } else { vec!["answer"] };
        let Some(at) = self.table.get("needs") else { return usual };
        let place = self.place(at);
        let Some(list) = at.get_ref().as_array() else {
            self.refuse(place, "`needs` must be a list", "as in needs = [\"question\", \"answer\"]");
            return usual;
        };
        let mut needs = Vec::new();
        for value in list {
            let name = value.get_ref().as_str().unwrap_or_default();
            match NEEDS.iter().find(|known| **known == name) {
                Some(known) => needs.push(*known),
                None => {
                    let place = self.place(value);
                    self.refuse(place, format!("`needs` cannot hold `{name}`"), hint(name, &NEEDS));
                }
            }
        }
        needs
    }

    fn tokens(&mut self) -> u32 {
        let Some(at) = self.table.get("max_output_tokens") else { return OUTPUT_TOKENS };
        match number(at.get_ref()) {
            Some(tokens) if tokens.fract() == 0.0 && (1.0..=OUTPUT_TOKENS_MAX as f64).contains(&tokens) => tokens as u32,
            _ => {
                let place = self.place(at);
                self.refuse(
                    place,
                    format!("`max_output_tokens` must be a whole number from 1 to {OUTPUT_TOKENS_MAX}"),
                    format!("the default is {OUTPUT_TOKENS}: a few sentences and a verdict"),
                );
                OUTPUT_TOKENS
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let at = self.table.get(key)?;
        let text = at.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            let place = self.place(at);
            self.refuse(place, format!("`{key}` must be text"), "write it in quotes");
        }
        text
    }

    fn number(&mut self, key: &str) -> Option<f64> {
        let at = self.table.get(key)?;
        let number = number(at.get_ref());
        if number.is_none() {
            let place = self.place(at);
            self.refuse(place, format!("`{key}` must be a number"), "write it without quotes");
        }
        number
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(whole) => i64::from_str_radix(whole.as_str(), whole.radix()).ok().map(|whole| whole as f64),
        DeValue::Float(fraction) => fraction.as_str().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// "did you mean `x`? known: …", or only what is known.
pub(crate) fn hint(name: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? known: {all}"),
        None => format!("known: {all}"),
    }
}
