//! When two spellings name the same model, so that a dated or prefixed name is not mistaken for a fallback.
//!
//! Providers answer `gpt-4o-mini` as `gpt-4o-mini-2024-07-18`; gateways prefix the route. Two different dates are two models.

/// Whether `served` is the model that was asked for as `asked`.
pub fn same_model(asked: &str, served: &str) -> bool {
    if asked == served {
        return true;
    }
    let (asked, served) = (split(asked), split(served));
    asked.base.eq_ignore_ascii_case(served.base) && (asked.version.is_empty() || served.version.is_empty() || asked.version == served.version)
}

/// Whether two providers are the same; names differ only in case.
pub fn same_provider(asked: &str, served: &str) -> bool {
    asked.eq_ignore_ascii_case(served)
}

/// The name without route, cloud and date, and the date, which may be empty: `gpt-4o` and `2024-11-20`.
pub fn parts(name: &str) -> (&str, &str) {
    let Name { base, version } = split(name);
    (base, version)
}

struct Name<'a> {
    base: &'a str,
    version: &'a str,
}

fn split(name: &str) -> Name<'_> {
    // `openai/gpt-4o`, `models/gemini-2.5-pro`, `us.anthropic.claude-3-haiku-20240307-v1:0`
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.find("anthropic.").map_or(name, |at| &name[at + "anthropic.".len()..]);
    let name = name.split_once(':').map_or(name, |(head, tail)| if tail.bytes().all(|b| b.is_ascii_digit()) { head } else { name });
    let name = name.strip_suffix("-v1").or_else(|| name.strip_suffix("-v2")).unwrap_or(name);
    let name = name.strip_suffix("-latest").unwrap_or(name);
    if let Some((base, version)) = name.split_once('@') {
        return Name { base, version };
    }
    for length in [10, 8, 4, 3] {
        if let Some(at) = name.len().checked_sub(length + 1)
            && name.is_char_boundary(at)
            && name.as_bytes()[at] == b'-'
            && is_version(&name[at + 1..])
        {
            return Name { base: &name[..at], version: &name[at + 1..] };
        }
    }
    Name { base: name, version: "" }
}

/// `2024-07-18`, `20240718`, `0613` (month and day), `002` (a numbered release).
fn is_version(text: &str) -> bool {
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    match text.len() {
        10 => text.is_ascii() && digits(&text[..4]) && &text[4..5] == "-" && digits(&text[5..7]) && &text[7..8] == "-" && digits(&text[8..]),
        8 => text.starts_with("20") && digits(text),
        4 => digits(text) && (1..=12).contains(&text[..2].parse().unwrap_or(0)) && (1..=31).contains(&text[2..].parse().unwrap_or(0)),
        3 => text.starts_with("00") && digits(text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::same_model;

    #[test]
    fn a_dated_or_prefixed_name_is_the_same_model() {
        for (asked, served) in [
            ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
            ("openai/gpt-4o", "gpt-4o"),
            ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
            ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku-20240307"),
            ("us.anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku"),
            ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet"),
            ("models/gemini-1.5-pro", "gemini-1.5-pro-002"),
            ("GPT-4", "gpt-4-0613"),
        ] {
            assert!(same_model(asked, served), "{asked} {served}");
        }
        for (asked, served) in [
            ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20"),
            ("gpt-4o", "gpt-4o-mini"),
            ("claude-haiku-4-5", "claude-haiku-4"),
            ("llama3:8b", "llama3:70b"),
            ("modèle-é", "modèle-è"),
        ] {
            assert!(!same_model(asked, served), "{asked} {served}");
        }
    }
}
