//! An incident as Slack shows it: words into blocks. Every limit of Slack's that our messages could reach is kept here, and nothing a log says can
//! ping anyone: `&`, `<` and `>` are escaped.

use crate::message::{self, Colour, IncidentMessage, Message};
use machine::incident::Telling;
use slack_morphism::prelude::*;

/// Slack's limits on the parts that we use.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const FIELD_MAX: usize = 2000;
const FIELDS_PER_SECTION: usize = 10;
const TEXT_MAX: usize = 4000;
/// Over all blocks: Slack refuses more than about 13,200 characters, which it does not document.
const BLOCKS_CHARACTERS_MAX: usize = 12_000;

/// How the value over time is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// As Slack draws it.
    Native,
    /// In characters, for workspaces that draw none.
    Sparkline,
}

/// The one message of an incident; `id` is the telling's.
pub fn incident(words: &IncidentMessage, id: &str, _chart: Chart) -> SlackMessageContent {
    let mut content = content(id, &words.message);
    if let Some(metadata) = &mut content.metadata
        && let Some(payload) = &mut metadata.event_payload
    {
        metadata.event_type = "streamgauge_incident".to_owned();
        payload.insert("incident".to_owned(), words.incident.clone());
    }
    content
}

/// A line in its thread.
pub fn line(telling: &Telling, id: &str, possible_repeat: bool) -> SlackMessageContent {
    let payload = [
        ("id".to_owned(), id.to_owned()),
        ("incident".to_owned(), telling.incident.id.clone()),
        ("possible_repeat".to_owned(), possible_repeat.to_string()),
    ];
    let metadata = SlackMessageMetadata::new("streamgauge_line".into()).with_event_payload(payload.into_iter().collect());
    let words = cut(&escape(&message::line(telling)), SECTION_MAX);
    SlackMessageContent::new()
        .with_text(words.clone())
        .with_blocks(vec![SlackSectionBlock::new().with_text(md!(words)).into()])
        .with_metadata(metadata)
}

fn content(id: &str, message: &Message) -> SlackMessageContent {
    let mark = match message.colour {
        Colour::Red => "🔴",
        Colour::Orange => "🟠",
        Colour::Blue => "🔵",
        Colour::Green => "✅",
        Colour::Grey => "⚪",
    };
    let mut blocks: Vec<SlackBlock> = vec![SlackHeaderBlock::new(pt!(cut(&format!("{mark} {}", message.headline), HEADER_MAX))).into()];
    let summary = cut(&escape(&message.summary), SECTION_MAX);
    // Slack refuses a text of nothing.
    if !summary.trim().is_empty() {
        blocks.push(SlackSectionBlock::new().with_text(md!(summary.clone())).into());
    }
    let mut links = format!("<{}|Open>", message.link);
    let examples: Vec<_> = message.examples.iter().zip(1..).map(|(link, number)| format!("<{link}|{number}>")).collect();
    if !examples.is_empty() {
        links += &format!("  ·  Calls {}", examples.join(" "));
    }
    if let Some(runbook) = message.runbook.as_deref().filter(|url| url.starts_with("http")) {
        links += &format!("  ·  <{}|Runbook>", runbook.replace(['<', '>', '|', ' '], ""));
    }
    links += &format!("  ·  alert {}", message.alert_id);
    let links = cut(&links, SECTION_MAX);
    // However much the logs and the rule say, each field keeps its share of the message.
    let room = BLOCKS_CHARACTERS_MAX - HEADER_MAX - summary.chars().count() - links.chars().count();
    let field_max = FIELD_MAX.min(room / message.fields.len().max(1));
    for fields in message.fields.chunks(FIELDS_PER_SECTION) {
        let fields = fields.iter().map(|(label, value)| md!(cut(&format!("*{}*\n{}", escape(label), escape(value)), field_max))).collect();
        blocks.push(SlackSectionBlock::new().with_fields(fields).into());
    }
    let mut context = vec![SlackContextBlockElement::MarkDown(md!(links))];
    if message.possible_repeat {
        context.push(SlackContextBlockElement::MarkDown(md!(":repeat: Possibly a repeat: an earlier attempt was not confirmed.")));
    }
    blocks.push(SlackContextBlock::new(context).into());
    let fields: Vec<_> = message.fields.iter().map(|(label, value)| format!("{label}: {value}")).collect();
    let text = cut(&escape(&format!("{}\n{}\n{}", message.headline, message.summary, fields.join("\n"))), TEXT_MAX);
    let metadata = SlackMessageMetadata::new("streamgauge_notification".into()).with_event_payload(
        [("id".to_owned(), id.to_owned()), ("possible_repeat".to_owned(), message.possible_repeat.to_string())].into_iter().collect(),
    );
    SlackMessageContent::new().with_text(text).with_blocks(blocks).with_metadata(metadata)
}

/// Slack's three control characters, so that no log can make a mention or a link.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// At most `most` characters, the last one an ellipsis where something is missing; never inside an escape.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most - 1).collect();
    if let Some(at) = kept.rfind('&').filter(|at| !kept[*at..].contains(';')) {
        kept.truncate(at);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_can_ping() {
        assert_eq!(escape("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    }

    #[test]
    fn texts_are_cut_to_slacks_limits_and_never_inside_an_escape() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("ab&amp;cd", 5), "ab…");
    }
}
