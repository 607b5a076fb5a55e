//! What a click means, and doing it.
//!
//! What a click changes is shown by the message itself and its thread, so whoever clicked is told only what these do not say: why nothing changed, what
//! was asked, that somebody was first.

use super::Hearing;
use super::answer::{Answer, code, escaped};
use super::operators::Wants;
use super::payload::{Act, Person};
use super::words;
use crate::actions::{Came, Chosen, Refused};
use crate::error::Fault;
use crate::incidents;
use crate::outbox::now;
use machine::incident::{Seen, Silenced};
use model::Span;

/// A button or an option of a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Button {
    Acknowledge(String),
    /// Without a length: until it is resolved.
    Silence(String, Option<Span>),
    Unsilence(String),
    Why(String),
    /// What an alert of an incident proposes at this place.
    Act {
        incident: String,
        alert: String,
        index: usize,
    },
}

impl Button {
    /// `None`: a link, or of a message that another version posted; nothing is done.
    pub fn of(action: &str, value: &str) -> Option<Self> {
        let mut parts = value.split('|');
        let first = parts.next().filter(|id| !id.is_empty())?.to_owned();
        let rest: Vec<&str> = parts.collect();
        match (action.split_once(':').map_or(action, |(kind, _)| kind), rest.as_slice()) {
            ("ack", []) => Some(Self::Acknowledge(first)),
            ("unsilence", []) => Some(Self::Unsilence(first)),
            ("why", []) => Some(Self::Why(first)),
            ("silence", ["resolved"]) => Some(Self::Silence(first, None)),
            ("silence", [length]) => Some(Self::Silence(first, Some(Span::parse(length)?))),
            ("act", [alert, index]) => Some(Self::Act { incident: first, alert: (*alert).to_owned(), index: index.parse().ok()? }),
            _ => None,
        }
    }
}

impl Hearing {
    /// Does it; what is to be said to whoever clicked.
    pub(super) async fn click(&self, act: &Act, button: Button) -> Result<Option<Answer>, Fault> {
        let wants = match &button {
            Button::Why(_) => None,
            Button::Act { .. } => Some(Wants::Act),
            _ => Some(Wants::Answer),
        };
        if let Some(wants) = wants
            && let Err(why) = self.0.operators.permits(&self.0.api, &act.by, wants).await
        {
            return Ok(Some(Answer::person(why)));
        }
        match button {
            Button::Acknowledge(incident) => self.acknowledge(&act.by, &incident).await.map(Result::err),
            Button::Silence(incident, length) => self.silence(&act.by, Silenced::Incident(incident), length).await.map(Result::err),
            Button::Unsilence(incident) => self.unsilence(&act.by, &incident).await.map(Result::err),
            Button::Why(incident) => self.why(&incident).await.map(Some),
            Button::Act { incident, alert, index } => self.act(&act.by, &incident, &alert, index).await.map(Some),
        }
    }

    /// `Err`: nothing was changed, and why. The same of those below.
    pub(super) async fn acknowledge(&self, by: &Person, name: &str) -> Result<Result<Seen, Answer>, Fault> {
        let shown = by.shown();
        let act = self.0.incidents.acknowledge(name, &shown);
        let answer = self.noted(by, "ack", name, act, outcome).await?;
        Ok(self.settled(name, answer, |seen| {
            let by = seen.acknowledged.as_ref().map_or_else(String::new, |known| format!(" by {} {}", escaped(&known.by), words::when(known.at)));
            format!("{} was acknowledged already{by}; nothing was changed.", code(&seen.id))
        }))
    }

    pub(super) async fn silence(&self, by: &Person, of: Silenced, length: Option<Span>) -> Result<Result<machine::incident::Silence, Answer>, Fault> {
        let subject = match &of {
            Silenced::Incident(name) => name.clone(),
            Silenced::Alerts(terms) => terms.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "),
        };
        let until = length.map(|length| now() + length);
        let shown = by.shown();
        let act = self.0.incidents.silence(of, until, &shown);
        let said = |came: &Result<machine::incident::Silence, incidents::Answer>| match came {
            Ok(silence) => silence.until.map_or_else(|| "silenced until resolved".to_owned(), |until| format!("silenced until {until}")),
            Err(answer) => outcome(answer),
        };
        let came = self.noted(by, "silence", &subject, act, said).await?;
        Ok(match came {
            Ok(silence) => Ok(silence),
            Err(answer) => Err(self
                .settled(&subject, answer, |seen| format!("{} is silenced already; nothing was changed.", code(&seen.id)))
                .err()
                .unwrap_or_else(|| Answer::person(words::unknown(&subject)))),
        })
    }

    pub(super) async fn unsilence(&self, by: &Person, id: &str) -> Result<Result<Option<Seen>, Answer>, Fault> {
        let shown = by.shown();
        let act = self.0.incidents.unsilence(id, &shown);
        let answer = self.noted(by, "unsilence", id, act, outcome).await?;
        if matches!(answer, incidents::Answer::Lifted) {
            return Ok(Ok(None));
        }
        Ok(self.settled(id, answer, |seen| format!("{} is not silenced; nothing was changed.", code(&seen.id))).map(Some))
    }

    /// An answer of the incidents' keeper as one for the person.
    fn settled(&self, name: &str, answer: incidents::Answer, already: impl FnOnce(&Seen) -> String) -> Result<Seen, Answer> {
        match answer {
            incidents::Answer::Done(seen) => Ok(*seen),
            incidents::Answer::Already(seen) => Err(Answer::person(already(&seen))),
            incidents::Answer::Over(seen) => Err(Answer::person(words::over(&seen, &self.0.public_url))),
            incidents::Answer::Unknown | incidents::Answer::Lifted => Err(Answer::person(words::unknown(name))),
            incidents::Answer::Full => Err(Answer::person(
                "As many silences hold as are kept; nothing was silenced. `/streamgauge list` names them: end those that nobody needs.",
            )),
        }
    }

    /// What the calls of its leading alert tell.
    pub(super) async fn why(&self, name: &str) -> Result<Answer, Fault> {
        let Some(seen) = self.0.incidents.one(name).await? else { return Ok(Answer::person(words::unknown(name))) };
        let found = match crate::http::why::read(&self.0.app, &seen.lead.alert_id).await {
            Ok(found) => found,
            Err(problem) => return Ok(Answer::person(super::refused(&problem))),
        };
        Ok(Answer::person(words::why(&seen, found.as_ref(), &self.0.public_url)))
    }

    /// Does what a rule proposes.
    async fn act(&self, by: &Person, incident: &str, alert: &str, index: usize) -> Result<Answer, Fault> {
        let proposed = match self.0.app.actions.find(incident, Some(alert), Chosen::Place(index)).await? {
            Ok(proposed) => proposed,
            Err(refused) => {
                return Ok(Answer::person(match refused {
                    Refused::Unknown(name) => words::unknown(&name),
                    Refused::Over(seen) => words::over(&seen, &self.0.public_url),
                    Refused::AlertOver { rule } => format!("What {} told of is over, so nothing was done.", escaped(&rule)),
                    Refused::NotProposed { rule, .. } => format!("Rule {} does not propose that any more; nothing was done.", escaped(&rule)),
                }));
            }
        };
        let (action, shown) = (&proposed.action, by.shown());
        let doing = async { Ok(self.0.app.actions.perform(&proposed, &shown).await) };
        let came = self.noted(by, "action", &proposed.subject(), doing, |came| came.outcome(action)).await?;
        let label = escaped(&action.label);
        Ok(Answer::person(match came {
            Came::Done => format!("*{label}* is done: {}.", escaped(&action.target.done())),
            Came::Already { at, by } => format!("*{label}* is done already, by {} {}; it was not done again.", escaped(&by), words::when(at)),
            Came::Unsure(why) => {
                format!("*{label}* may be done or not: {}. Look before you try again; its id would be the same.", escaped(&why))
            }
            Came::Failed(why) => format!("*{label}* could not be done: {}. You may try again.", escaped(&why)),
        }))
    }
}

/// What came of a wish, for the audit log.
fn outcome(answer: &incidents::Answer) -> String {
    match answer {
        incidents::Answer::Done(_) | incidents::Answer::Lifted => "done",
        incidents::Answer::Already(_) => "refused: it was so already",
        incidents::Answer::Over(_) => "refused: it is over",
        incidents::Answer::Unknown => "refused: there is none of this name",
        incidents::Answer::Full => "refused: as many silences hold as are kept",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_says_what_is_wanted_of_which_incident_and_what_is_not_known_is_nothing() {
        for (action, value, expected) in [
            ("ack", "i1", Some(Button::Acknowledge("i1".into()))),
            ("silence", "i1|30m", Some(Button::Silence("i1".into(), Some(Span::from_secs(1800))))),
            ("silence", "i1|resolved", Some(Button::Silence("i1".into(), None))),
            ("silence:2", "i1|4h", Some(Button::Silence("i1".into(), Some(Span::from_secs(4 * 3600))))),
            ("unsilence", "i1", Some(Button::Unsilence("i1".into()))),
            ("why", "i1", Some(Button::Why("i1".into()))),
            ("act:3", "i1|a2|3", Some(Button::Act { incident: "i1".into(), alert: "a2".into(), index: 3 })),
            ("open", "", None),
            ("ack", "", None),
            ("ack", "i1|x", None),
            ("silence", "i1|soon", None),
            ("act:0", "i1|a2|-1", None),
            ("act:0", "i1|a2", None),
            ("other", "i1", None),
        ] {
            assert_eq!(Button::of(action, value), expected, "{action} {value}");
        }
    }
}
