//! What a click means, and doing it.
//!
//! What a click changes is shown by the message itself and its thread, so whoever clicked is told only what these do not say: why nothing changed, what
//! was asked, that somebody was first.

use super::Hearing;
use super::answer::Answer;
use super::operators::Wants;
use super::payload::{Act, Person};
use super::words;
use crate::actions::{Came, Chosen, Refused};
use crate::error::Fault;
use crate::http;
use crate::incidents;
use crate::outbox::now;
use crate::slack::text::{code, escape};
use machine::incident::{Seen, Silence, Silenced};
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

    /// `Err`: what was wanted is not so, and why. The same of those below.
    pub(super) async fn acknowledge(&self, by: &Person, name: &str) -> Result<Result<Seen, Answer>, Fault> {
        let shown = by.shown();
        let act = self.0.incidents.acknowledge(name, &shown);
        let answer = self.noted(by, "ack", name, act, outcome).await?;
        let already = |seen: &Seen| {
            let by = seen.acknowledged.as_ref().map_or_else(String::new, |known| format!(" by {} {}", escape(&known.by), words::when(known.at)));
            format!("{} was acknowledged already{by}; nothing was changed.", code(&seen.id))
        };
        self.settled(answer, already, words::unknown(name), name).await
    }

    pub(super) async fn silence(&self, by: &Person, of: Silenced, length: Option<Span>) -> Result<Result<machine::incident::Silence, Answer>, Fault> {
        if let Silenced::Alerts(terms) = &of
            && let Err(problem) = http::silences::known(&self.0.app, &terms.iter().cloned().collect()).await
        {
            return Ok(Err(Answer::person(super::refused(&problem))));
        }
        let subject = http::silences::about(&of);
        let until = length.map(|length| now() + length);
        let shown = by.shown();
        let act = self.0.incidents.silence(of, until, &shown);
        let said = |came: &Result<machine::incident::Silence, incidents::Answer>| match came {
            Ok(silence) => silence.until.map_or_else(|| "silenced until resolved".to_owned(), |until| format!("silenced until {until}")),
            Err(answer) => outcome(answer),
        };
        let came = self.noted(by, "silence", &subject, act, said).await?;
        let already = |seen: &Seen| format!("{} is silenced already; nothing was changed.", code(&seen.id));
        Ok(match came {
            Ok(silence) => Ok(silence),
            Err(answer) => {
                let settled = self.settled(answer, already, words::unknown(&subject), &subject).await?;
                Err(settled.err().unwrap_or_else(|| Answer::person(words::unknown(&subject))))
            }
        })
    }

    pub(super) async fn unsilence(&self, by: &Person, id: &str) -> Result<Result<Option<Seen>, Answer>, Fault> {
        let shown = by.shown();
        let act = async {
            let known = self.0.incidents.one(id).await?;
            // A silence of several alerts is ended by its own id, by somebody who knows that it is one.
            match known.and_then(|seen| Some((covering(&seen)?, seen))) {
                Some((silence, seen)) => Ok(Err((silence, seen))),
                None => self.0.incidents.unsilence(id, &shown).await.map(Ok),
            }
        };
        let said = |came: &Result<incidents::Answer, (Silence, Seen)>| match came {
            Ok(answer) => outcome(answer),
            Err((silence, _)) => format!("refused: silence {} is about other alerts as well", silence.id),
        };
        let answer = match self.noted(by, "unsilence", id, act, said).await? {
            Ok(incidents::Answer::Lifted) => return Ok(Ok(None)),
            Ok(answer) => answer,
            Err((silence, seen)) => return Ok(Err(Answer::person(words::still_silenced(&seen, &silence, false)))),
        };
        let already = |seen: &Seen| format!("{} is not silenced; nothing was changed.", code(&seen.id));
        Ok(match self.settled(answer, already, words::no_silence(id), id).await? {
            Ok(seen) => match covering(&seen) {
                Some(silence) => Err(Answer::person(words::still_silenced(&seen, &silence, true))),
                None => Ok(Some(seen)),
            },
            Err(answer) => Err(answer),
        })
    }

    /// An answer of the incidents' keeper about `name` as one for the person; `unknown`: what to say where nobody ever heard of it.
    async fn settled(
        &self,
        answer: incidents::Answer,
        already: impl FnOnce(&Seen) -> String,
        unknown: String,
        name: &str,
    ) -> Result<Result<Seen, Answer>, Fault> {
        Ok(Err(match answer {
            incidents::Answer::Done(seen) => return Ok(Ok(*seen)),
            incidents::Answer::Already(seen) => Answer::person(already(&seen)),
            incidents::Answer::Over(seen) => Answer::person(words::over(&seen, &self.0.public_url)),
            incidents::Answer::Unknown | incidents::Answer::Lifted => self.forgotten(name, unknown).await,
            incidents::Answer::Full => Answer::person(
                "As many silences hold as are kept; nothing was silenced. `/streamgauge list` names them: end those that nobody needs.",
            ),
        }))
    }

    /// What its keeper does not know any more is over, where the store still has it.
    async fn forgotten(&self, name: &str, unknown: String) -> Answer {
        Answer::person(match http::incidents::find(&self.0.app, name).await {
            Ok(Some(found)) => words::over(&found.seen, &self.0.public_url),
            Ok(None) => unknown,
            Err(problem) => super::refused(&problem),
        })
    }

    /// What the calls of its leading alert tell, also of one that is long over.
    pub(super) async fn why(&self, name: &str) -> Result<Answer, Fault> {
        let seen = match http::incidents::find(&self.0.app, name).await {
            Ok(Some(found)) => found.seen,
            Ok(None) => return Ok(Answer::person(words::nothing_to_explain(name))),
            Err(problem) => return Ok(Answer::person(super::refused(&problem))),
        };
        let told = match seen.firing {
            true => http::why::read(&self.0.app, &seen.lead.alert_id).await,
            // How it ended is known; what alerts would tell now is of those that go on.
            false => http::why::of(&self.0.app, seen.lead.clone()).await,
        };
        let found = match told {
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
                    Refused::Unknown(name) => return Ok(self.forgotten(&name, words::unknown(&name)).await),
                    Refused::Over(seen) => words::over(&seen, &self.0.public_url),
                    Refused::AlertOver { rule } => format!("What {} told of is over, so nothing was done.", escape(&rule)),
                    Refused::NotProposed { rule, .. } => format!("Rule {} does not propose that any more; nothing was done.", escape(&rule)),
                }));
            }
        };
        let (action, shown) = (&proposed.action, by.shown());
        let doing = async { Ok(self.0.app.actions.perform(&proposed, &shown).await) };
        let came = self.noted(by, "action", &proposed.subject(), doing, |came| came.outcome(action)).await?;
        let label = escape(&action.label);
        Ok(Answer::person(match came {
            Came::Done => format!("*{label}* is done: {}.", escape(&action.target.done())),
            Came::Already { at, by } => format!("*{label}* is done already, by {} {}; it was not done again.", escape(&by), words::when(at)),
            Came::Unsure(why) => {
                format!("*{label}* may be done or not: {}. Look before you try again; its id would be the same.", escape(&why))
            }
            Came::Failed(why) => format!("*{label}* could not be done: {}. You may try again.", escape(&why)),
        }))
    }
}

/// What silences an incident and other alerts as well.
fn covering(seen: &Seen) -> Option<Silence> {
    seen.silenced.clone().filter(|silence| matches!(silence.of, Silenced::Alerts(_)))
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
