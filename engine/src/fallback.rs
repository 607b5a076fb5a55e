//! Where people are told what their own channel does not take: one other channel, with a line that says why.
//!
//! Pure: the outbox asks it what to do with a row that is refused for good, or not taken for long. Deliberately absent: problems of the token, of
//! Slack itself or of the message, which another channel would have as well; what they hold up waits.

use crate::config::SlackConfig;
use model::Span;

/// The last channel that is left is tried for a day: a day-old page helps nobody, and the page and the log still show it.
const LAST_RESORT: Span = Span::from_secs(24 * 3600);

/// `slack.fallback_channel` and `slack.give_up_after`.
#[derive(Clone, Debug)]
pub struct Fallback {
    channel: Option<String>,
    give_up_after: Span,
}

/// How a row ended at its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// Slack will never take it there, with its word for why.
    Refused(&'a str),
    /// [`Fallback::is_spent`], with the problem of the last attempt.
    GivenUp(&'a str),
    /// A line whose message is not there.
    Headless,
}

/// Of a channel that was sent too much for long. What passes otherwise, such as a server that fails or a token that is no good, is not the channel's.
pub const RATE_LIMITED: &str = "rate limited";

impl Fallback {
    pub fn new(config: &SlackConfig) -> Self {
        Self {
            channel: config.fallback_channel.clone(),
            give_up_after: Span::from_millis(u64::try_from(config.give_up_after.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The route by which people are told instead; `None`: nowhere, and the row is given up. The fallback has none of its own, so it ends there.
    pub fn next_route(&self, route: &str, end: End<'_>) -> Option<String> {
        let elsewhere = self.of(route)?;
        match end {
            End::Refused(problem) | End::GivenUp(problem) if !is_of_channel(problem) => None,
            // A line goes where its message went.
            End::Refused(_) | End::GivenUp(_) | End::Headless => Some(elsewhere),
        }
    }

    /// Whether a row is tried no longer at this route: it is `tried` for so long now, the last time with `problem`, and what it says is of this `age`.
    /// What is wrong with more than this channel is waited for, because the message that is there can be brought up to date afterwards.
    pub fn is_spent(&self, route: &str, problem: &str, tried: Span, age: Span) -> bool {
        let goes_elsewhere = self.of(route).is_some() && is_of_channel(problem);
        age > LAST_RESORT || goes_elsewhere && tried > self.give_up_after
    }

    /// The fallback's route, for a channel that is not the fallback itself.
    fn of(&self, route: &str) -> Option<String> {
        let channel = route.strip_prefix("slack:")?;
        self.channel.as_ref().filter(|fallback| *fallback != channel).map(|fallback| format!("slack:{fallback}"))
    }
}

/// Why people are told here and not where they should be; for the message, as plain text.
pub fn line(route: &str, end: End<'_>) -> String {
    let channel = route.strip_prefix("slack:").unwrap_or(route);
    match end {
        End::Refused(problem) => {
            let why = match problem {
                "is_archived" | "is_inactive" => "it is archived",
                "channel_not_found" => "there is no such channel, or it is private and the bot is not in it",
                "not_in_channel" => "the bot is not in it",
                _ => "Slack does not let the bot post there",
            };
            format!("Told here because {channel} does not take it: {why} ({problem}).")
        }
        End::GivenUp(problem) => format!("Told here because {channel} has not taken it for too long ({problem})."),
        End::Headless => format!("Told here because its message is not in {channel}."),
    }
}

/// Words for what is wrong with this channel and not with others: Slack's, and ours for its pace.
fn is_of_channel(problem: &str) -> bool {
    matches!(
        problem,
        RATE_LIMITED
            | "channel_not_found"
            | "not_in_channel"
            | "is_archived"
            | "is_inactive"
            | "restricted_action"
            | "restricted_action_read_only_channel"
            | "restricted_action_thread_locked"
            | "posting_to_general_channel_denied"
            | "channel_is_limited_access"
            | "team_access_not_granted"
            | "user_not_in_channel"
            | "cannot_dm_bot"
            | "messages_tab_disabled"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(channel: Option<&str>) -> Fallback {
        Fallback { channel: channel.map(str::to_owned), give_up_after: Span::from_secs(3600) }
    }

    #[test]
    fn what_a_channel_refuses_for_good_or_does_not_take_for_long_is_told_in_the_fallback() {
        let fallback = with(Some("#last"));
        for (route, end, next) in [
            ("slack:#old", End::Refused("is_archived"), Some("slack:#last")),
            ("slack:#typo", End::Refused("channel_not_found"), Some("slack:#last")),
            ("slack:C012345", End::Refused("not_in_channel"), Some("slack:#last")),
            ("slack:#busy", End::GivenUp("rate limited"), Some("slack:#last")),
            // Another channel would have the same.
            ("slack:#any", End::Refused("invalid_blocks"), None),
            ("slack:#any", End::Refused("missing_scope"), None),
            ("slack:#any", End::GivenUp("HTTP 503"), None),
            ("slack:#any", End::GivenUp("token_revoked"), None),
            // Where its message went.
            ("slack:#old", End::Headless, Some("slack:#last")),
            ("slack:#last", End::Headless, None),
            // It ends there.
            ("slack:#last", End::Refused("is_archived"), None),
            ("slack:#last", End::GivenUp("HTTP 503"), None),
            // No channel at all.
            ("nats:streamgauge.alerts.a.b", End::GivenUp("no connection to NATS"), None),
            ("webhook:pager", End::GivenUp("HTTP 503"), None),
        ] {
            assert_eq!(fallback.next_route(route, end).as_deref(), next, "{route} {end:?}");
        }
        assert_eq!(with(None).next_route("slack:#old", End::Refused("is_archived")), None);
    }

    #[test]
    fn a_channels_own_trouble_is_waited_out_for_an_hour_and_everything_else_for_a_day() {
        let hour = Span::from_secs(3600);
        for (fallback, route, problem, patience) in [
            (with(Some("#last")), "slack:#busy", "rate limited", hour),
            // The last that is left.
            (with(Some("#last")), "slack:#last", "rate limited", LAST_RESORT),
            (with(None), "slack:#busy", "rate limited", LAST_RESORT),
            // Slack itself, or the token.
            (with(Some("#last")), "slack:#any", "HTTP 503", LAST_RESORT),
            (with(Some("#last")), "slack:#any", "no answer within 10 s", LAST_RESORT),
            (with(Some("#last")), "slack:#any", "cannot connect", LAST_RESORT),
            (with(Some("#last")), "slack:#any", "token_revoked", LAST_RESORT),
            (with(Some("#last")), "nats:x", "no connection to NATS", LAST_RESORT),
        ] {
            let spent = |tried| fallback.is_spent(route, problem, tried, tried);
            assert_eq!((spent(patience), spent(Span::from_millis(patience.millis() + 1))), (false, true), "{route} {problem}");
        }
        assert!(!with(None).is_spent("slack:#any", "HTTP 503", Span::from_secs(25 * 3600), hour), "what it says came late");
    }

    #[test]
    fn people_are_told_why_they_are_told_there() {
        assert_eq!(line("slack:#old", End::Refused("is_archived")), "Told here because #old does not take it: it is archived (is_archived).");
        assert_eq!(line("slack:#busy", End::GivenUp("rate limited")), "Told here because #busy has not taken it for too long (rate limited).");
    }
}
