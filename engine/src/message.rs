//! What a notification says to a person, before it has a shape: the same words go to Slack, to the terminal and to the page.

use machine::{Notification, Reason};
use model::plan::Severity;
use model::show;
use model::window::Observation;

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub colour: Colour,
    /// One line: state, severity, rule and where.
    pub headline: String,
    /// One sentence: what.
    pub summary: String,
    /// Label and value: where, value, expected, since, how long.
    pub fields: Vec<(String, String)>,
    pub runbook: Option<String>,
    /// Where to look further.
    pub link: String,
    /// The alert's id, so that people and machines can name it.
    pub alert_id: String,
    /// It may have been posted before.
    pub possible_repeat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Red,
    Orange,
    Blue,
    Green,
    Grey,
}

/// The words for `notification`; links start with `public_url`.
pub fn compose(notification: &Notification, public_url: &str, possible_repeat: bool) -> Message {
    let place: Vec<_> = notification.group.iter().map(|(_, label)| if label.is_empty() { "(none)" } else { label.as_str() }).collect();
    let place = if place.is_empty() { "all calls".to_owned() } else { place.join(" · ") };
    let (colour, state) = match (notification.reason, notification.severity) {
        (Reason::Fired, Severity::Critical) => (Colour::Red, "CRITICAL"),
        (Reason::Fired, Severity::Warning) => (Colour::Orange, "WARNING"),
        (Reason::Fired, Severity::Info) => (Colour::Blue, "INFO"),
        (Reason::Resolved, _) => (Colour::Green, "RESOLVED"),
        (Reason::WentQuiet, _) => (Colour::Grey, "NO DATA"),
        (Reason::RuleChanged, _) => (Colour::Grey, "RULE CHANGED"),
    };
    let summary = match notification.reason {
        Reason::Fired => notification.summary.clone(),
        Reason::Resolved => format!("Back in range after {}.", notification.at.since(notification.fired)),
        Reason::WentQuiet => "No calls for a day: nothing can be said about this group any more.".to_owned(),
        Reason::RuleChanged => "The rule was changed or removed while this alert was firing; it starts anew.".to_owned(),
    };
    let mut fields = vec![("Environment".to_owned(), notification.environment.clone())];
    fields.extend(notification.group.iter().map(|(key, label)| (title(key), if label.is_empty() { "(none)".to_owned() } else { label.clone() })));
    for observed in &notification.observed {
        let name = if notification.observed.len() == 1 { "Now".to_owned() } else { observed.watch.clone() };
        fields.push((name, value(&observed.what, &observed.observation, &observed.of_what, &observed.window)));
        if let Some(range) = observed.observation.expected {
            fields.push(("Expected".to_owned(), format!("{} to {}", unit(&observed.what, range.low), unit(&observed.what, range.high))));
        }
    }
    if notification.reason == Reason::Fired {
        fields.push(("Since".to_owned(), notification.began.to_string()));
    } else {
        fields.push(("Began".to_owned(), notification.began.to_string()));
        if let (Some(worst), Some(observed)) = (notification.worst.and_then(|seen| seen.value), notification.observed.first()) {
            fields.push(("At worst".to_owned(), unit(&observed.what, worst)));
        }
    }
    Message {
        colour,
        headline: format!("{state}: {} — {place}", notification.rule),
        summary,
        fields,
        runbook: notification.runbook.clone(),
        link: format!("{public_url}/#alert-{}", notification.alert_id),
        alert_id: notification.alert_id.clone(),
        possible_repeat,
    }
}

fn title(key: &str) -> String {
    let mut characters = key.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect::<String>().replace('_', " ")).unwrap_or_default()
}

/// `8.2 % (41 of 500 calls in 5m)`
fn value(what: &str, seen: &Observation, of_what: &str, window: &str) -> String {
    let Some(value) = seen.value else { return format!("too few calls in {window}") };
    if what.ends_with(" rate") {
        format!("{} ({} of {} {of_what} in {window})", show::percent(value), show::number(seen.holds as f64), show::number(seen.calls as f64))
    } else {
        format!("{} ({} {of_what} in {window})", unit(what, value), show::number(seen.calls as f64))
    }
}

fn unit(what: &str, value: f64) -> String {
    let measure = what.rsplit(' ').next().and_then(model::Measure::parse);
    match measure {
        Some(measure) => show::measure(measure, value),
        None if what.ends_with(" rate") => show::percent(value),
        None => show::number(value),
    }
}

/// The message as a terminal shows it: like Slack's, in at most 100 columns.
pub fn for_terminal(message: &Message, channel: &str, colours: bool) -> String {
    let (code, mark) = match message.colour {
        Colour::Red => ("31", "●"),
        Colour::Orange => ("33", "●"),
        Colour::Blue => ("34", "●"),
        Colour::Green => ("32", "✔"),
        Colour::Grey => ("90", "○"),
    };
    let paint = |text: &str, code: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let bar = paint("▌", code);
    let width = message.fields.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = format!("  {}\n", paint(&format!("{channel}  streamgauge"), "90"));
    text += &format!("  {bar} {}\n", paint(&format!("{mark} {}", message.headline), &format!("1;{code}")));
    text += &format!("  {bar} {}\n", message.summary);
    for (label, value) in &message.fields {
        text += &format!("  {bar} {}{}  {value}\n", paint(label, "90"), " ".repeat(width - label.chars().count()));
    }
    if let Some(runbook) = &message.runbook {
        text += &format!("  {bar} {}  {runbook}\n", paint("Runbook", "90"));
    }
    text += &format!("  {bar} {}\n", paint(&message.link, "4"));
    if message.possible_repeat {
        text += &format!("  {bar} {}\n", paint("This may be a repeat: the connection broke before Slack confirmed it.", "3"));
    }
    text
}
