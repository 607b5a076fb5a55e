//! Under which names a call's model may stand in a price table, the most exact first.
//!
//! Senders write one model in many ways: with the route in front (`openai/gpt-4o`), with its date (`gpt-4o-2024-11-20`), as a cloud calls it
//! (`us.anthropic.claude-3-haiku-20240307-v1:0`). What is exact in the model goes before what is exact in the provider: an older version that costs more
//! is a row of its own wherever it is served. A dated name is looked up without its date; an undated one never with some date.

use model::same_model::parts;
use std::borrow::Cow;

/// How providers are called in the table, and what else they are called.
const PROVIDERS: [(&str, &[&str]); 17] = [
    ("openai", &[]),
    ("anthropic", &[]),
    ("azure", &["azure.ai.openai", "az.ai.openai", "azure_openai", "azure-openai", "azureopenai"]),
    ("bedrock", &["aws.bedrock", "aws_bedrock", "aws-bedrock", "amazon_bedrock", "amazon-bedrock", "bedrock_converse", "aws", "amazon"]),
    ("gemini", &["gcp.gemini", "google", "google_ai_studio", "google_genai", "google-genai", "google-gemini"]),
    ("vertex_ai", &["gcp.vertex_ai", "vertex", "vertexai", "vertex-ai", "google_vertex", "google-vertex", "google_vertexai"]),
    ("mistral", &["mistral_ai", "mistralai", "mistral-ai"]),
    ("xai", &["x_ai", "x.ai", "x-ai"]),
    ("together_ai", &["together", "togetherai", "together-ai"]),
    ("cohere", &["cohere_chat"]),
    ("deepseek", &["deep_seek"]),
    ("moonshot", &["moonshotai", "moonshot_ai", "moonshot-ai"]),
    ("cerebras", &[]),
    ("voyage", &["voyageai", "voyage_ai"]),
    ("groq", &[]),
    ("fireworks_ai", &["fireworks", "fireworksai", "fireworks-ai"]),
    ("openrouter", &["open_router", "open-router"]),
];

/// A provider as tables call it: small letters, and one of its names.
fn provider(name: &str) -> Cow<'_, str> {
    let name: Cow<'_, str> = if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { Cow::Borrowed(name) };
    match known(&name) {
        Some(own) => Cow::Borrowed(own),
        None => name,
    }
}

fn known(name: &str) -> Option<&'static str> {
    PROVIDERS.iter().find(|(own, others)| *own == name || others.contains(&name)).map(|(own, _)| *own)
}

/// A key as tables have it: small letters, and the provider in front, if that is one, by its name there.
pub(super) fn key(written: &str) -> String {
    let lower = written.to_ascii_lowercase();
    match lower.split_once('/') {
        Some((route, rest)) => match known(route) {
            Some(own) if own != route => format!("{own}/{rest}"),
            _ => lower,
        },
        None => lower,
    }
}

/// Every key that may name the price of `model` at `provider`, the most exact first; at most nine.
pub(super) fn keys(served_by: Option<&str>, model: &str) -> Vec<String> {
    let whole = key(model);
    let route = whole.split_once('/').and_then(|(route, _)| known(route));
    let provider = served_by.filter(|name| !name.is_empty()).map(provider).or(route.map(Cow::Borrowed));
    let bare = whole.rsplit('/').next().unwrap_or(&whole);
    let (base, version) = parts(&whole);
    let dated = if version.is_empty() { base.to_owned() } else { format!("{base}-{version}") };
    let mut keys: Vec<String> = Vec::with_capacity(9);
    for form in [whole.as_str(), bare, &dated, base] {
        let at_provider = provider.as_ref().map(|provider| format!("{provider}/{form}"));
        for key in at_provider.into_iter().chain([form.to_owned()]) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_comes_first_and_the_undated_one_last() {
        for (provider, model, expected) in [
            (None, "gpt-4o", "gpt-4o"),
            (Some("OpenAI"), "gpt-4o-2024-11-20", "openai/gpt-4o-2024-11-20 gpt-4o-2024-11-20 openai/gpt-4o gpt-4o"),
            (None, "Azure/gpt-4o", "azure/azure/gpt-4o azure/gpt-4o gpt-4o"),
            (Some("azure.ai.openai"), "gpt-4o", "azure/gpt-4o gpt-4o"),
            (Some("ours"), "openai/gpt-4o", "ours/openai/gpt-4o openai/gpt-4o ours/gpt-4o gpt-4o"),
            (
                Some("together"),
                "meta-llama/Llama-3.3-70B-Instruct-Turbo",
                "together_ai/meta-llama/llama-3.3-70b-instruct-turbo meta-llama/llama-3.3-70b-instruct-turbo \
                 together_ai/llama-3.3-70b-instruct-turbo llama-3.3-70b-instruct-turbo",
            ),
            (None, "us.anthropic.claude-3-haiku-20240307-v1:0", "us.anthropic.claude-3-haiku-20240307-v1:0 claude-3-haiku-20240307 claude-3-haiku"),
            (None, "claude-3-5-sonnet@20240620", "claude-3-5-sonnet@20240620 claude-3-5-sonnet-20240620 claude-3-5-sonnet"),
            (Some(""), "m", "m"),
        ] {
            assert_eq!(keys(provider, model).join(" "), expected, "{provider:?} {model}");
        }
    }

    #[test]
    fn no_name_of_a_provider_means_two() {
        let all: Vec<_> = PROVIDERS.iter().flat_map(|(own, others)| std::iter::once(own).chain(*others)).collect();
        for (at, name) in all.iter().enumerate() {
            assert!(!all[..at].contains(name), "{name}");
            assert_eq!(**name, name.to_ascii_lowercase());
        }
    }
}
