//! Messages as Slack's blocks. Every limit of Slack's that our messages could reach is kept here, whatever a log, a rule or a person wrote.
//!
//! An incident's message is read on a phone: header, a few lines, what one can press, then the picture and the rest. Nothing in it can ping anyone:
//! `&`, `<` and `>` are escaped, and Slack is told not to look for links and channels of its own in texts (`verbatim`). Deliberately absent: the words,
//! which are `message.rs`'s, and what pressing a button does.

use super::chart;
use super::text::{cut, escape, link, mrkdwn, unbroken};
use crate::message::words::{cut as shortened, name};
use crate::message::{IncidentMessage, Offer, Runbook, Silencing, State, said, sparkline};
use machine::incident::Telling;
use model::plan::Severity;
use slack_morphism::prelude::*;
use url::Url;

/// Slack's limits on the parts that we use.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const BUTTON_MAX: usize = 75;
const URL_MAX: usize = 3000;
const OPTION_VALUE_MAX: usize = 150;
const CONFIRM_TITLE_MAX: usize = 100;
const CONFIRM_TEXT_MAX: usize = 300;
/// Over all blocks: Slack refuses more than about 13,200 characters, which it does not document.
const BLOCKS_CHARACTERS_MAX: usize = 12_000;

/// Shares of an incident's message. Its facts, groups and links are a few lines each; these are what they may be at the very most.
const FACTS_MAX: usize = SECTION_MAX;
const CAUSE_MAX: usize = 1000;
const CURVE_MAX: usize = 500;
const GROUPS_MAX: usize = 1500;
const CONTEXT_MAX: usize = 2800;
/// Of a button with a question before it counts, and how many buttons and choices there are.
const ASKED_MAX: usize = BUTTON_MAX + CONFIRM_TITLE_MAX + CONFIRM_TEXT_MAX + 2 * 30;
const PRESSED_MAX: usize = 5 * ASKED_MAX + 8 * 30;
const _: () = assert!(
    HEADER_MAX + FACTS_MAX + CAUSE_MAX + CURVE_MAX + GROUPS_MAX + CONTEXT_MAX + PRESSED_MAX <= BLOCKS_CHARACTERS_MAX,
    "together they fit a message"
);
/// Of one fact, so that the last is there as well.
const FACT_MAX: usize = 450;
/// Of what a notification shows; phones show less.
const SHORT_MAX: usize = 1500;
/// An incident's and an alert's id within a value, which says more than one. Ours have some twenty characters.
const ID_MAX: usize = 64;

/// What people can silence an incident for: what is shown, and what the value says behind the incident's id.
const SILENCES: [(&str, &str); 4] = [("30 minutes", "30m"), ("1 hour", "1h"), ("4 hours", "4h"), ("until it is resolved", "resolved")];

/// How an incident's curve is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// Slack's own. Workspaces that have none refuse the message with `invalid_blocks`.
    Native,
    /// A line of text.
    Sparkline,
}

/// An incident's message. `id` is the telling's, which tells a repeat from a new one.
///
/// What people press has these action ids: `open` and `why` (value: the incident), `ack` (the incident), `silence` (a choice: `INCIDENT|30m`,
/// `|1h`, `|4h`, `|resolved`), `unsilence` (the incident, or the id of a silence that covers more), `act:N` (`INCIDENT|ALERT|N`).
pub fn incident(id: &str, message: &IncidentMessage, shown: Chart) -> SlackMessageContent {
    let mark = match &message.state {
        State::Firing { silenced: Some(_), .. } => "🔕",
        State::Firing { acknowledged: true, .. } => "👀",
        State::Firing { severity: Severity::Critical, .. } => "🔴",
        State::Firing { severity: Severity::Warning, .. } => "🟠",
        State::Firing { severity: Severity::Info, .. } => "🔵",
        State::Over { resolved: true } => "✅",
        State::Over { resolved: false } => "⚪",
    };
    let mut blocks: Vec<SlackBlock> =
        vec![SlackHeaderBlock::new(pt!(shortened(&unbroken(&format!("{mark} {}", message.headline)), HEADER_MAX))).into()];
    blocks.push(section(&facts(message)));
    if !message.cause.is_empty() {
        let lines: Vec<_> = message.cause.iter().map(|line| escape(line)).collect();
        blocks.push(section(&cut(&format!("*Most likely cause*\n{}", lines.join("\n")), CAUSE_MAX)));
    }
    blocks.extend(pressed(message).into_iter().filter(|elements| !elements.is_empty()).map(|elements| SlackActionsBlock::new(elements).into()));
    blocks.extend(message.curve.as_ref().and_then(|curve| match shown {
        Chart::Native => chart::chart(curve),
        Chart::Sparkline => {
            let (line, said) = sparkline(curve)?;
            Some(section(&format!("{line}\n{}", mrkdwn(&said, CURVE_MAX - 2 - line.chars().count()))))
        }
    }));
    if let Some(groups) = &message.groups {
        let mut lines = vec![format!("*{}*", groups.title)];
        lines.extend(groups.shown.iter().map(|group| format!("• {}", escape(group))));
        lines.extend((groups.more > 0).then(|| format!("and {} more", model::show::number(f64::from(groups.more)))));
        blocks.push(section(&cut(&lines.join("\n"), GROUPS_MAX)));
    }
    blocks.push(context(message));
    let content = SlackMessageContent::new().with_text(cut(&escape(&message.short), SHORT_MAX)).with_blocks(blocks);
    content.with_metadata(metadata(id, &message.incident, message.possible_repeat))
}

/// A line of an incident's thread. `id` as above.
pub fn line(id: &str, telling: &Telling, possible_repeat: bool) -> SlackMessageContent {
    let said = said(telling);
    let repeat = if possible_repeat { " (possibly a repeat)" } else { "" };
    let text = format!("{}{repeat}", mrkdwn(&said, SHORT_MAX));
    let spoken = format!("{}{repeat}", cut(&escape(&said.to_string()), SHORT_MAX));
    SlackMessageContent::new().with_text(spoken).with_blocks(vec![section(&text)]).with_metadata(metadata(id, &telling.incident.id, possible_repeat))
}

/// Values are strings, because clients read no others.
fn metadata(id: &str, incident: &str, possible_repeat: bool) -> SlackMessageMetadata {
    let payload = [("id", shortened(id, 200)), ("incident", shortened(incident, 200)), ("possible_repeat", possible_repeat.to_string())];
    SlackMessageMetadata::new("streamgauge_incident".into()).with_event_payload(payload.map(|(key, value)| (key.to_owned(), value)).into())
}

fn section(text: &str) -> SlackBlock {
    SlackSectionBlock::new().with_text(SlackBlockText::MarkDown(literal(text))).into()
}

/// Slack reads our marks and links in it, and makes none of its own; its lines end between words only.
fn literal(text: &str) -> SlackBlockMarkDownText {
    SlackBlockMarkDownText::new(unbroken(text)).with_verbatim(true)
}

/// The summary, and a line for each fact as long as there is room.
fn facts(message: &IncidentMessage) -> String {
    let mut text = mrkdwn(&message.summary, FACTS_MAX / 2);
    for (label, words) in &message.facts {
        let line = format!("*{}*  {}", cut(&escape(label), BUTTON_MAX), mrkdwn(words, FACT_MAX));
        if text.chars().count() + line.chars().count() + 1 > FACTS_MAX {
            break;
        }
        text += if text.is_empty() { "" } else { "\n" };
        text += &line;
    }
    // Slack refuses a text of nothing.
    if text.is_empty() { "Nothing more is known.".to_owned() } else { text }
}

/// Two rows: what we offer, and what the rule does.
fn pressed(message: &IncidentMessage) -> [Vec<SlackActionBlockElement>; 2] {
    let incident = value(&[&message.incident]);
    let mut ours = Vec::new();
    if let Some(url) = Some(&message.link).filter(|link| link.len() <= URL_MAX).and_then(|link| Url::parse(link).ok()) {
        ours.push(button("open", "Open").with_url(url).into());
    }
    let Some(incident) = incident else { return [ours, Vec::new()] };
    if let State::Firing { acknowledged, silenced, .. } = &message.state {
        if !acknowledged {
            ours.push(button("ack", "Acknowledge").with_style(SlackBlockButtonStyle::Primary).with_value(incident.clone()).into());
        }
        match silenced {
            None => ours.push(silence(&incident).into()),
            Some(silencing) => ours.extend(unsilence(silencing).map(SlackActionBlockElement::from)),
        }
    }
    ours.push(button("why", "Why?").with_value(incident).into());
    [ours, message.actions.iter().filter_map(|offer| act(&message.incident, offer)).map(Into::into).collect()]
}

fn button(action_id: &str, text: &str) -> SlackBlockButtonElement {
    SlackBlockButtonElement::new(pt!(text)).with_action_id(action_id.into())
}

fn silence(incident: &str) -> SlackBlockStaticSelectElement {
    let option = |(shown, said): (&str, &str)| SlackBlockChoiceItem::new(pt!(shown), format!("{incident}|{said}"));
    SlackBlockStaticSelectElement::new()
        .with_action_id("silence".into())
        .with_placeholder(pt!("Silence"))
        .with_options(SILENCES.into_iter().map(option).collect())
}

/// `None` where the silence's id does not fit a value.
fn unsilence(silencing: &Silencing) -> Option<SlackBlockButtonElement> {
    let button = button("unsilence", "Unsilence").with_value(value(&[&silencing.id])?);
    Some(match silencing.covers_more {
        true => {
            let text = "It silences more than this incident: all of that will be told again.";
            button.with_confirm(question("Take the silence back?", text, "Unsilence"))
        }
        false => button,
    })
}

/// What the rule offers, asking first where it says so. `None` where the alert's id does not fit a value.
fn act(incident: &str, offer: &Offer) -> Option<SlackBlockButtonElement> {
    let label = name(&offer.action.label, BUTTON_MAX - 2);
    let value = value(&[incident, &offer.alert_id, &offer.number.to_string()])?;
    let button = button(&format!("act:{}", offer.number), &label).with_value(value);
    Some(match &offer.action.confirm {
        Some(confirm) => {
            let text = cut(&escape(&name(confirm, CONFIRM_TEXT_MAX - 2)), CONFIRM_TEXT_MAX);
            let title = name(&offer.action.label, CONFIRM_TITLE_MAX - 2);
            button.with_style(SlackBlockButtonStyle::Danger).with_confirm(question(&title, &text, "Do it").with_style("danger".to_owned()))
        }
        None => button,
    })
}

fn question(title: &str, text: &str, yes: &str) -> SlackBlockConfirmItem {
    SlackBlockConfirmItem::new(pt!(title), SlackBlockText::MarkDown(literal(text)), pt!(yes), pt!("Cancel"))
}

/// Ids side by side as a button carries them; `None` of what is none of ours: those are short, and letters and digits.
fn value(ids: &[&str]) -> Option<String> {
    const { assert!(2 * ID_MAX + 16 <= OPTION_VALUE_MAX, "what a choice adds fits too") };
    let fit = |id: &&str| !id.is_empty() && id.len() <= ID_MAX && id.chars().all(|char| char.is_ascii_graphic() && char != '|');
    ids.iter().all(fit).then(|| ids.join("|"))
}

/// Runs, runbook and the incident's name, each whole or not at all.
fn context(message: &IncidentMessage) -> SlackBlock {
    let mut parts = Vec::new();
    if !message.runs.is_empty() {
        let runs: Vec<_> = message.runs.iter().map(|run| link(&run.url, &run.label)).collect();
        parts.push(format!("Runs {}", runs.join(" · ")));
    }
    match &message.runbook {
        Some(Runbook::Url(url)) => parts.push(link(url, "Runbook")),
        Some(Runbook::Words(words)) => parts.push(format!("Runbook: {}", cut(&escape(words), FACT_MAX))),
        None => {}
    }
    parts.push(format!("incident {}", cut(&escape(&name(&message.incident, ID_MAX)), 2 * ID_MAX)));
    if message.possible_repeat {
        parts.push("🔁 possibly a repeat: an earlier attempt was not confirmed".to_owned());
    }
    let mut room = CONTEXT_MAX;
    parts.retain(|part| {
        let long = part.chars().count();
        let fits = long <= room;
        room -= if fits { long } else { 0 };
        fits
    });
    SlackContextBlock::new(parts.iter().map(|part| SlackContextBlockElement::MarkDown(literal(part))).collect()).into()
}

#[cfg(test)]
mod tests;
