//! What a mistake's hint says of a name that is not known.

use model::nearest::nearest;

/// "did you mean `x`? known: …", or only what is known.
pub(crate) fn hint<'k>(name: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    let all = known.clone().into_iter().collect::<Vec<_>>().join(", ");
    match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`? known: {all}"),
        None => format!("known: {all}"),
    }
}
