//! `/calls/{sequence}`: everything of one call: what the index keeps of it, what judges said, what was said in it, and its payload without what is redacted.
//!
//! Whatever a payload holds is shown as text. Deliberately absent: the calls around it, which are on the page of its run.

use super::super::access::Caller;
use super::super::{App, Named, Problem, calls};
use super::frame::{Frame, Place};
use super::html::{TABLE_END, escaped, table, time};
use super::links::{self, Search};
use super::rows;
use super::run::{pretty, verdict};
use crate::calls::Payload;
use crate::runs::{Opinion, judged};
use axum::Extension;
use axum::extract::State;
use axum::response::Html;
use evaluators::judge::conversation;
use index::{Key, Number, Row, Text};
use model::{Signal, show};
use serde_json::Value;
use std::fmt::Write;

/// Of a payload's JSON, and of what was said: some fifty pages of text. A whole one may have eight megabytes.
const PAYLOAD_MAX_BYTES: usize = 200_000;
const SAID_MAX_BYTES: usize = 200_000;
/// Of one text of what was said.
const TEXT_MAX_BYTES: usize = 40_000;
/// Of one property's value.
const VALUE_MAX_BYTES: usize = 1_000;
/// The texts of a call with a label, in the order in which they are read.
const TEXTS: [(Text, &str); 18] = [
    (Text::Environment, "Environment"),
    (Text::Service, "Service"),
    (Text::Stage, "Stage"),
    (Text::Kind, "Kind"),
    (Text::Provider, "Provider"),
    (Text::Model, "Model"),
    (Text::ServedProvider, "Served by provider"),
    (Text::ServedModel, "Served by model"),
    (Text::Prompt, "Prompt"),
    (Text::PromptVersion, "Prompt version"),
    (Text::User, "User"),
    (Text::Session, "Session"),
    (Text::Thread, "Thread"),
    (Text::FinishReason, "Finish reason"),
    (Text::ErrorType, "Error type"),
    (Text::ErrorCode, "Error code"),
    (Text::Violation, "Violates"),
    (Text::Id, "Id"),
];

pub(in crate::http) async fn page(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(sequence): Named,
) -> Result<Html<String>, Problem> {
    let sequence = calls::sequence_of(&sequence)?;
    let row = app.calls.call(sequence).await?.ok_or_else(|| calls::unknown(sequence))?;
    let said = app.calls.verdicts(row.text(Text::Environment), vec![sequence]).await?.into_iter().next().unwrap_or_default();
    let payload = app.calls.payload(sequence).await;
    let stage = row.text(Text::Stage);
    let name = if stage.is_empty() { row.text(Text::Kind) } else { stage };
    let mut body = format!("<h1>Call of {} <small>{}</small></h1>", escaped(name), escaped(row.text(Text::Id)));
    let (bad, recovered) = judged(&row, &said);
    let class = match (bad.is_empty(), recovered.is_empty()) {
        (false, _) => "critical",
        (true, false) => "warning",
        _ => "ended",
    };
    let _ = write!(body, "<section aria-label='What is known of it'><div class='alert {class}'>");
    kept(&mut body, &row);
    body += "</div></section>";
    if !said.is_empty() {
        body += "<section aria-labelledby=verdicts><h2 id=verdicts>What judges said</h2>";
        for opinion in said.iter().map(Opinion::from) {
            verdict(&mut body, &opinion);
        }
        body += "</section>";
    }
    match payload {
        Payload::Here(value) => here(&mut body, &value, sequence),
        Payload::Expired => {
            body += "<section aria-labelledby=payload><h2 id=payload>Payload</h2><p>Payload expired: the stream keeps it no longer. What is above is what \
                the index keeps.</p></section>";
        }
        Payload::Unreadable(why) => {
            let _ =
                write!(body, "<section aria-labelledby=payload><h2 id=payload>Payload</h2><p class=bad>Not shown: {}</p></section>", escaped(&why));
        }
    }
    properties(&mut body, &row);
    let _ = write!(body, "<p class=dim>As JSON: <a href='/api/v1/calls/{sequence}'>/api/v1/calls/{sequence}</a></p>");
    let title = format!("Call {}", row.text(Text::Id));
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::None, title: &title, every: None }.page(&body))
}

/// What the index keeps, each value with a link to its like in the same environment.
fn kept(body: &mut String, row: &Row) {
    let within = Search::of_environment(row.text(Text::Environment));
    let _ = write!(body, "<p class=tags>{} {}</p>", rows::status(row, &within), rows::signals(row, &within));
    let _ = write!(body, "<dl><dt>Ended<dd>{}<dt>Run<dd>{}", time(row.time), links::run_of(row));
    let parent = row.text(Text::ParentId);
    if !parent.is_empty() {
        let _ = write!(body, "<dt>Made by call<dd>{}", within.value(&Key::Text(Text::Id), parent));
    }
    for (text, label) in TEXTS.into_iter().filter(|(text, _)| !row.text(*text).is_empty()) {
        // Who answered is worth a line where it was not who was asked.
        let same = match text {
            Text::ServedProvider | Text::ServedModel => !row.holds(Signal::Fallback),
            _ => false,
        };
        if !same {
            let _ = write!(body, "<dt>{label}<dd>{}", within.value(&Key::Text(text), row.text(text)));
        }
    }
    let tokens = |number: Number| row.number(number).map(|tokens| show::number(tokens as f64));
    let numbers = [
        ("Latency", rows::latency(row)),
        ("First token after", row.number(Number::TtftMs).map(|millis| show::millis(millis as f64))),
        ("Cost", rows::cost(row)),
        ("Input tokens", tokens(Number::InputTokens)),
        ("of them cached", tokens(Number::CachedTokens)),
        ("Output tokens", tokens(Number::OutputTokens)),
        ("Attempts", tokens(Number::Attempts)),
        ("Sequence in the stream", Some(row.sequence.to_string())),
    ];
    for (label, value) in numbers.into_iter().filter_map(|(label, value)| Some((label, value?))) {
        let _ = write!(body, "<dt>{label}<dd>{}", escaped(&value));
    }
    *body += "</dl>";
}

fn properties(body: &mut String, row: &Row) {
    let within = Search::of_environment(row.text(Text::Environment));
    let mut properties = row.properties().peekable();
    if properties.peek().is_none() {
        return;
    }
    *body += "<section aria-labelledby=properties><h2 id=properties>Properties</h2>";
    *body += &table("Properties", &["Name", "Value"]);
    for (name, value) in properties {
        // Where a value is longer than a query may be, there is nothing to lead to.
        let shown =
            if value.len() > VALUE_MAX_BYTES { escaped(clipped(value, VALUE_MAX_BYTES)) + "…" } else { within.value(&Key::property(name), value) };
        let _ = write!(body, "<tr><th scope=row>{}<td class=long>{shown}", escaped(name));
    }
    let _ = write!(body, "{TABLE_END}</section>");
}

/// What was said, the provider's error, and all of it as JSON.
fn here(body: &mut String, payload: &Value, sequence: u64) {
    let bytes = serde_json::to_vec(payload).expect("what was JSON is written as JSON");
    let call = model::parse(&bytes).ok();
    let texts = call.as_ref().map(conversation).unwrap_or_default();
    let mut left = SAID_MAX_BYTES;
    if !texts.is_empty() {
        *body += "<section aria-labelledby=said><h2 id=said>What was said</h2>";
        for (role, text) in &texts {
            let shown = clipped(text, TEXT_MAX_BYTES.min(left));
            left -= shown.len();
            let cut = text.len() - shown.len();
            let cut = if cut > 0 { format!("<p class=dim>{} bytes more are in the payload.</p>", show::number(cut as f64)) } else { String::new() };
            let _ = write!(body, "<figure class=said><figcaption><strong>{role}</strong></figcaption><pre>{}</pre>{cut}</figure>", escaped(shown));
            // A character has four bytes at most.
            if left < 4 {
                *body += "<p class=dim>What follows is in the payload alone.</p>";
                break;
            }
        }
        *body += "</section>";
    }
    if let Some(error) = payload.get("error").filter(|error| !error.is_null()) {
        let whole = pretty(error);
        let _ = write!(
            body,
            "<section aria-labelledby=error><h2 id=error>The provider's error</h2><pre class=problem>{}</pre></section>",
            escaped(clipped(&whole, PAYLOAD_MAX_BYTES))
        );
    }
    let whole = pretty(payload);
    let shown = clipped(&whole, PAYLOAD_MAX_BYTES);
    let all = format!("<a href='/api/v1/calls/{sequence}'>/api/v1/calls/{sequence}</a>");
    let cut = match whole.len() - shown.len() {
        0 => String::new(),
        cut => format!("<p>{} bytes are left out here; all of it is at {all}.</p>", show::number(cut as f64)),
    };
    // Where nothing of it can be read as words, the payload itself is what there is to read.
    let open = if texts.is_empty() { " open" } else { "" };
    let _ = write!(
        body,
        "<section aria-labelledby=payload><h2 id=payload>Payload</h2><p class=dim>As it was published, without what is redacted.</p>\
         <details{open}><summary>JSON, {} bytes</summary><pre>{}</pre>{cut}</details></section>",
        show::number(whole.len() as f64),
        escaped(shown)
    );
}

/// At most so many bytes, whole characters.
fn clipped(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_payload_of_megabytes_is_shown_in_part_with_the_way_to_the_whole() {
        let message = |number: usize| json!({ "role": "user", "content": format!("<{number}>{}", "ü".repeat(50_000)) });
        let payload =
            json!({ "id": "c", "time": 1_767_225_600_000u64, "model": "m", "input": (0..30).map(message).collect::<Vec<_>>(), "output": "42" });
        let mut body = String::new();
        here(&mut body, &payload, 7);
        assert!(body.len() < 2 * (SAID_MAX_BYTES + PAYLOAD_MAX_BYTES), "{} bytes", body.len());
        for part in [
            "&lt;0&gt;ü",
            "60,004 bytes more are in the payload",
            "What follows is in the payload alone",
            "all of it is at <a href='/api/v1/calls/7'>",
        ] {
            assert!(body.contains(part), "{part}");
        }
    }

    #[test]
    fn a_payload_without_words_is_shown_as_json_at_once() {
        let mut body = String::new();
        here(&mut body, &json!({ "id": "c", "time": 1_767_225_600_000u64, "kind": "embedding", "model": "m" }), 7);
        assert!(body.contains("<details open>") && !body.contains("What was said") && body.contains("&quot;embedding&quot;"), "{body}");
    }
}
