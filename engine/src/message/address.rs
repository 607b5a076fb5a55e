//! Where people find things on our pages: paths that need no further escaping. Deliberately absent: what stands there.

/// The page of an incident.
pub fn incident(id: &str) -> String {
    format!("/incidents/{}", part(id))
}

/// The page of a run.
pub fn run(environment: &str, event_id: &str) -> String {
    format!("/runs/{}?environment={}", part(event_id), encoded(environment))
}

/// A part of a path, where a plus is a plus.
fn part(text: &str) -> String {
    encoded(text).replace('+', "%20")
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
