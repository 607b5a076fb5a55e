//! The judges we ship, by name. They are read by the same `load` as a user's own, with no privilege.

use super::load::Folder;
use super::manifest::hint;

/// A judge, and the texts of its files in the order of [`Folder::FILES`].
struct Shipped {
    name: &'static str,
    files: [&'static str; 4],
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(Shipped { name: $name, files: shipped!(@ $name: "judge.toml", "prompt.md", "reply.schema.json", "cases.jsonl") }),*]
    };
    (@ $name:literal: $($file:literal),*) => {
        [$(include_str!(concat!("../../library/", $name, "/", $file))),*]
    };
}

const SHIPPED: [Shipped; 5] =
    shipped!["retrieval-relevance", "synthesis-groundedness", "synthesis-quality", "synthesis-consistency", "extraction-precision"];

/// A name that is no shipped judge's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("find `{name}` in the judge library\nhint: {hint}")]
pub struct UnknownJudge {
    pub name: String,
    pub hint: String,
}

/// The names of all shipped judges, in the library's order.
pub fn shipped() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|shipped| shipped.name)
}

/// The folders of shipped judges, each once, in the library's order.
///
/// # Errors
/// [`UnknownJudge`] names the nearest and the known names.
pub fn library(names: &[String]) -> Result<Vec<Folder>, UnknownJudge> {
    if let Some(name) = names.iter().find(|name| !shipped().any(|known| known == *name)) {
        let known: Vec<_> = shipped().collect();
        return Err(UnknownJudge { name: name.clone(), hint: hint(name, &known) });
    }
    let folder = |shipped: &Shipped| Folder {
        path: format!("library/{}", shipped.name).into(),
        files: Folder::FILES.into_iter().zip(shipped.files).map(|(file, text)| (file.to_owned(), text.to_owned())).collect(),
    };
    Ok(SHIPPED.iter().filter(|shipped| names.iter().any(|name| name == shipped.name)).map(folder).collect())
}
