//! What the app may do in the workspace, and what each permission is for. `deploy/slack/` asks for these and no others, and a test compares them.

use crate::config::SlackConfig;
use std::collections::BTreeSet;

/// A scope of the bot token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: &'static str,
    /// What it is for; completes "needed for …".
    pub purpose: &'static str,
    pub need: Need,
}

/// When an installation is not well without a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nobody is told anything.
    Always,
    /// Where people answer from Slack.
    ToAnswer,
    /// Where they do, and `slack.operators` names a group: without it none of its members may.
    ToKnowGroups,
    /// Where `slack.look_back` is on.
    ToLookBack,
    /// It works without, and can tell or do less.
    Comfort,
}

pub const SCOPES: [Scope; 8] = [
    Scope {
        name: "chat:write",
        purpose: "posting incidents, bringing them up to date, and saying in their threads what happened",
        need: Need::Always,
    },
    Scope { name: "chat:write.public", purpose: "posting to public channels to which nobody invited the bot", need: Need::Comfort },
    Scope { name: "commands", purpose: "the command /streamgauge", need: Need::ToAnswer },
    Scope { name: "channels:read", purpose: "telling whether a public channel exists and the bot may write there", need: Need::Comfort },
    Scope { name: "groups:read", purpose: "telling the same of private channels", need: Need::Comfort },
    Scope { name: "usergroups:read", purpose: "letting user groups act, where slack.operators names some", need: Need::ToKnowGroups },
    Scope {
        name: "channels:history",
        purpose: "finding out after a crash whether a message came through, with slack.look_back",
        need: Need::ToLookBack,
    },
    Scope { name: "groups:history", purpose: "the same in private channels, with slack.look_back", need: Need::Comfort },
];

/// Whether `slack.operators` names one as a group (`S…`), and not as a person.
pub fn is_group(operator: &str) -> bool {
    operator.starts_with('S')
}

/// Those that this configuration needs and the token has not. `answers`: people answer from Slack.
pub fn missing(config: &SlackConfig, answers: bool, has: &BTreeSet<String>) -> Vec<Scope> {
    let needed = |need: Need| match need {
        Need::Always => true,
        Need::ToAnswer => answers,
        Need::ToKnowGroups => answers && config.operators.iter().any(|operator| is_group(operator)),
        Need::ToLookBack => config.look_back,
        Need::Comfort => false,
    };
    SCOPES.into_iter().filter(|scope| needed(scope.need) && !has.contains(scope.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scopes under `bot:` of a manifest, each with the comment beside it.
    fn asked_for(manifest: &str) -> Vec<(String, String)> {
        let bot = manifest.lines().skip_while(|line| line.trim() != "bot:").skip(1);
        let items = bot.map_while(|line| line.trim().trim_start_matches('#').trim().strip_prefix("- "));
        items
            .map(|item| {
                item.split_once('#').map_or((item.trim().to_owned(), String::new()), |(name, why)| (name.trim().to_owned(), why.trim().to_owned()))
            })
            .collect()
    }

    #[test]
    fn the_manifests_ask_for_these_scopes_and_say_what_each_is_for() {
        for manifest in [include_str!("../../../deploy/slack/manifest.yaml"), include_str!("../../../deploy/slack/manifest-http.yaml")] {
            let asked = asked_for(manifest);
            assert_eq!(asked.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), SCOPES.map(|scope| scope.name));
            assert!(asked.iter().all(|(_, why)| why.len() > 20), "{asked:#?}");
        }
        let read_me = include_str!("../../../deploy/README.md");
        for scope in SCOPES {
            assert!(read_me.contains(&format!("| `{}` |", scope.name)), "{} is not explained", scope.name);
        }
    }

    #[test]
    fn what_is_missing_depends_on_what_is_configured() {
        let mut config = crate::config::Config::default().slack;
        let has = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let names =
            |config: &SlackConfig, answers, has: BTreeSet<String>| missing(config, answers, &has).iter().map(|scope| scope.name).collect::<Vec<_>>();
        assert_eq!(names(&config, false, has(&[])), ["chat:write"]);
        assert_eq!(names(&config, true, has(&["chat:write"])), ["commands"]);
        config.operators = vec!["U0ANA".to_owned()];
        assert_eq!(names(&config, true, has(&["chat:write"])), ["commands"], "people are known by their ids");
        config.operators.push("S0ONCALL".to_owned());
        assert_eq!(names(&config, true, has(&["chat:write", "commands"])), ["usergroups:read"], "members of a group would be refused");
        assert_eq!(names(&config, false, has(&["chat:write"])), [""; 0], "where nobody answers, nobody operates");
        config.operators.clear();
        config.look_back = true;
        assert_eq!(names(&config, true, has(&["chat:write", "commands"])), ["channels:history"]);
    }
}
