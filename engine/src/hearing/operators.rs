//! Who may change something from Slack: those whom `slack.operators` names, by themselves or by a group.
//!
//! With nobody named, every member of the workspace may acknowledge and silence, as they could tell each other not to look; and nobody may do what a
//! rule proposes, because that reaches systems whose owners never said who may. People of another company, in a channel that both share, are no
//! members.

use super::answer::Api;
use super::payload::Person;
use crate::slack::scopes::is_group;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long the members of a group are believed: whoever leaves it loses the right within this.
const BELIEVED: Duration = Duration::from_secs(60);

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Acknowledge, silence, and take a silence back.
    Answer,
    /// Do what a rule proposes.
    Act,
}

#[derive(Debug)]
pub struct Operators {
    people: Vec<String>,
    groups: Vec<String>,
    /// Members by group, and since when that is known.
    members: Mutex<BTreeMap<String, (Instant, Vec<String>)>>,
}

impl Operators {
    /// `named` are ids of people (`U…`, `W…`) and of groups (`S…`), which the configuration has checked.
    pub fn new(named: &[String]) -> Self {
        let (groups, people) = named.iter().cloned().partition(|id| is_group(id));
        Self { people, groups, members: Mutex::default() }
    }

    /// # Errors
    /// Why not, in words for them.
    pub async fn permits(&self, api: &Api, who: &Person, wants: Wants) -> Result<(), String> {
        if who.foreign {
            return Err("Only members of this workspace may do that.".to_owned());
        }
        if self.people.is_empty() && self.groups.is_empty() {
            return match wants {
                Wants::Answer => Ok(()),
                Wants::Act => Err("Nobody may do that from Slack yet: whoever runs streamgauge names who may in `slack.operators`.".to_owned()),
            };
        }
        if self.people.contains(&who.id) {
            return Ok(());
        }
        let mut unknown = None;
        for group in &self.groups {
            match self.members(api, group).await {
                Ok(members) if members.contains(&who.id) => return Ok(()),
                Ok(_) => {}
                Err(why) => unknown = Some(format!("Whether you may do that could not be told: the members of {group} cannot be read ({why}).")),
            }
        }
        Err(unknown.unwrap_or_else(|| "Only those whom `slack.operators` names may do that; ask one of them.".to_owned()))
    }

    async fn members(&self, api: &Api, group: &str) -> Result<Vec<String>, String> {
        // One question at a time: whoever waits for the same answer finds it here.
        let mut known = self.members.lock().await;
        if let Some((since, members)) = known.get(group)
            && since.elapsed() < BELIEVED
        {
            return Ok(members.clone());
        }
        let answer = api.call("usergroups.users.list", &[("usergroup", group)]).await.map_err(|trouble| match trouble {
            super::answer::Trouble::Refused(error) if error == "missing_scope" => "the app needs the scope usergroups:read".to_owned(),
            trouble => trouble.said(),
        })?;
        let members: Vec<String> = answer["users"].as_array().into_iter().flatten().filter_map(|id| id.as_str()).map(str::to_owned).collect();
        known.insert(group.to_owned(), (Instant::now(), members.clone()));
        Ok(members)
    }
}
