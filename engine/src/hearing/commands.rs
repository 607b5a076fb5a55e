//! Doing what a person types after `/streamgauge`.
//!
//! What changes for everybody in a channel (what it hears of, which kinds of alerts are silent) is said to everybody there; all else to whoever asked.
//! What changes with one incident is said by its message and thread.

use super::Hearing;
use super::answer::{Answer, Trouble};
use super::command::{Command, Which};
use super::operators::Wants;
use super::payload::{Act, Place};
use super::words;
use crate::error::Fault;
use crate::http;
use crate::outbox::now;
use crate::slack::text::{code, escape};
use crate::subscriptions::{Filter, SUBSCRIPTIONS_MAX, Subscribed, Subscription};
use index::{Key, Text};
use machine::incident::Silenced;
use model::{Span, show};

/// Users of a table in a message.
const TOP: usize = 10;

impl Hearing {
    /// Does it, and says what came of it. Some take seconds.
    pub(super) async fn command(&self, act: &Act, command: Command) -> Result<Answer, Fault> {
        let changes = matches!(command, Command::Acknowledge(_) | Command::Silence { .. } | Command::Unsilence(_));
        if changes && let Err(why) = self.0.operators.permits(&self.0.api, &act.by, Wants::Answer).await {
            return Ok(Answer::person(why));
        }
        match command {
            Command::Help => Ok(Answer::person(words::HELP)),
            Command::Status => self.status().await,
            Command::List => self.list(&act.place).await,
            Command::Subscribe(filter) => self.subscribe(act, filter).await,
            Command::Unsubscribe(which) => self.unsubscribe(act, which).await,
            Command::Silence { of, length } => self.silenced(act, of, length).await,
            Command::Unsilence(id) => Ok(match self.unsilence(&act.by, &id).await? {
                Ok(_) => Answer::person(format!("{} is heard of again.", code(&id))),
                Err(answer) => answer,
            }),
            Command::Acknowledge(name) => Ok(match self.acknowledge(&act.by, &name).await? {
                Ok(seen) => Answer::person(format!("You have it in hand: {}", words::incident(&seen, &self.0.public_url))),
                Err(answer) => answer,
            }),
            Command::Why(name) => self.why(&name).await,
            Command::Trace { event_id, environment } => self.trace(&event_id, environment).await,
            Command::TopUsers { window } => self.top_users(window).await,
        }
    }

    async fn status(&self) -> Result<Answer, Fault> {
        let open = self.0.incidents.open().await?.len();
        let socket = if self.0.standing.borrow().on { self.0.standing.borrow().said() } else { "heard over HTTP".to_owned() };
        Ok(Answer::person(match http::status::read(&self.0.app).await {
            Ok(status) => words::status(&status, open, &socket, &self.0.public_url),
            Err(problem) => super::refused(&problem),
        }))
    }

    async fn list(&self, place: &Place) -> Result<Answer, Fault> {
        let (open, silences) = (self.0.incidents.open().await?, self.0.incidents.silences().await?);
        let mut here: Vec<String> = self.configured(place).into_iter().map(|why| format!("📌 {why}")).collect();
        here.extend(self.of_channel(place).iter().map(words::subscription));
        Ok(Answer::person(words::list(&open, &silences, &here, &self.0.public_url)))
    }

    fn of_channel(&self, place: &Place) -> Vec<Subscription> {
        self.0.subscriptions.all().iter().filter(|known| known.channel == place.channel).cloned().collect()
    }

    /// Why alerts come to a channel without a subscription, in words.
    fn configured(&self, place: &Place) -> Vec<String> {
        let routes = &self.0.routes;
        let is_here = |configured: &str| configured == place.channel || configured.strip_prefix('#').is_some_and(|name| name == place.channel_name);
        let default = is_here(&routes.channel)
            .then(|| "what no rule and no environment sends elsewhere: it is `slack.channel` of the configuration".to_owned());
        let environments = routes.environments.iter().filter(|(_, (channel, notify))| *notify && channel.as_deref().is_some_and(is_here));
        let environments = environments.map(|(name, _)| format!("environment {}: the configuration says so", code(name)));
        default.into_iter().chain(environments).collect()
    }

    async fn subscribe(&self, act: &Act, filter: Filter) -> Result<Answer, Fault> {
        let Act { by, place, .. } = act;
        let wanted = code(&filter.to_string());
        let at = now();
        let name = place.channel_name.clone();
        let subscription = Subscription { channel: place.channel.clone(), name, filter: filter.clone(), by: by.shown(), at };
        let adding = self.0.subscriptions.add(subscription);
        let said = |came: &Subscribed| match came {
            Subscribed::New => "subscribed".to_owned(),
            Subscribed::Already => "refused: it was so already".to_owned(),
            Subscribed::Full => "refused: there are too many".to_owned(),
        };
        let subject = format!("#{} ({}) {filter}", place.channel_name, place.channel);
        match self.noted(by, "subscribe", &subject, adding, said).await? {
            Subscribed::New => {}
            Subscribed::Already => return Ok(Answer::person(format!("This channel hears of {wanted} already; nothing was changed."))),
            Subscribed::Full => {
                let many = format!("There are {SUBSCRIPTIONS_MAX} subscriptions, and no more are kept. End some with `/streamgauge unsubscribe`.");
                return Ok(Answer::person(many));
            }
        }
        let mut told = format!(
            "📣 {} subscribed this channel to {wanted}. `/streamgauge unsubscribe {}` ends it.",
            escape(&by.shown()),
            escape(&written(&filter))
        );
        if let Some(environment) = filter.term("environment")
            && self.0.routes.environments.get(environment).is_some_and(|(_, notify)| !notify)
        {
            told += &format!(
                "\nThe configuration says that nobody is told of {} (`notify = false`), so nothing will come until that changes.",
                code(environment)
            );
        }
        // Whether the app may write here is known best by writing: it takes no further scope, and is what the people here are to see anyway.
        match self.0.api.post(&place.channel, &told).await {
            Ok(_) => Ok(Answer::person(format!("Done: this channel hears of {wanted}."))),
            Err(Trouble::Refused(error)) => {
                self.0.subscriptions.remove(&place.channel, Some(filter)).await?;
                Ok(Answer::person(cannot_write(&error)))
            }
            Err(_) => Ok(Answer::channel(told)),
        }
    }

    async fn unsubscribe(&self, act: &Act, which: Which) -> Result<Answer, Fault> {
        let Act { by, place, .. } = act;
        let known = self.of_channel(place);
        let listed = || known.iter().map(words::subscription).collect::<Vec<_>>().join("\n");
        let filter = match (which, known.as_slice()) {
            (_, []) => {
                let why = self.configured(place);
                if why.is_empty() {
                    return Ok(Answer::person("This channel has no subscription; nothing was changed."));
                }
                let why = why.join("; ");
                return Ok(Answer::person(format!(
                    "This channel has no subscription that could end. It hears of {why}. To change that, change the configuration, or the `channel` of rules."
                )));
            }
            (Which::All, _) => None,
            (Which::Only, [only]) => Some(only.filter.clone()),
            (Which::Only, _) => {
                return Ok(Answer::person(format!("Which one? Write the same words after `unsubscribe`, or `all`.\n{}", listed())));
            }
            (Which::This(filter), known) if known.iter().any(|known| known.filter == filter) => Some(filter),
            (Which::This(filter), _) => {
                let wanted = code(&filter.to_string());
                return Ok(Answer::person(format!("This channel has no subscription to {wanted}; nothing was changed. It has:\n{}", listed())));
            }
        };
        let what = filter.as_ref().map_or_else(|| "all that it was subscribed to".to_owned(), |filter| code(&filter.to_string()));
        let subject = format!("#{} ({}) {}", place.channel_name, place.channel, filter.as_ref().map_or_else(|| "all".to_owned(), Filter::to_string));
        let ending = self.0.subscriptions.remove(&place.channel, filter);
        self.noted(by, "unsubscribe", &subject, ending, |ended| format!("{ended} ended")).await?;
        let still: Vec<String> = self.configured(place).into_iter().map(|why| format!("\nIt still hears of {why}.")).collect();
        Ok(Answer::channel(format!("{} ended this channel's subscription to {what}.{}", escape(&by.shown()), still.concat())))
    }

    async fn silenced(&self, act: &Act, of: Silenced, length: Option<Span>) -> Result<Answer, Fault> {
        let what = words::silenced(&of);
        let reach = match http::silences::Reach::of(&self.0.app, &of).await {
            Ok(reach) => escape(&reach.said()),
            Err(problem) => return Ok(Answer::person(super::refused(&problem))),
        };
        Ok(match self.silence(&act.by, of, length).await? {
            Ok(silence) => {
                let (by, until) = (escape(&act.by.shown()), words::until(silence.until, "it is resolved"));
                let back = |id: &str| format!("`/streamgauge unsilence {}` takes it back.", escape(id));
                match &silence.of {
                    Silenced::Incident(incident) => Answer::person(format!("🔕 You silenced {what} {until}. {reach} {}", back(incident))),
                    Silenced::Alerts(_) => Answer::channel(format!("🔕 {by} silenced {what} {until}. {reach} {}", back(&silence.id))),
                }
            }
            Err(answer) => answer,
        })
    }

    async fn trace(&self, event_id: &str, environment: Option<String>) -> Result<Answer, Fault> {
        Ok(Answer::person(match http::runs::read(&self.0.app, event_id, environment).await {
            Ok(found) => words::run(&found.view, &found.elsewhere, &self.0.public_url),
            Err(problem) => super::refused(&problem),
        }))
    }

    async fn top_users(&self, window: Span) -> Result<Answer, Fault> {
        let asked = http::costs::Asked { by: vec![Key::Text(Text::User)], window, query: String::new(), limit: TOP };
        Ok(Answer::person(match http::costs::read(&self.0.app, &asked).await {
            Ok(costs) => {
                let hot = costs.hot.iter().map(|hot| {
                    let share = show::percent(hot.share);
                    format!("{} runs hot in {}: {share} of its cost, {} before", hot.user_id, hot.environment, show::percent(hot.share_before))
                });
                words::top(&costs.window, &costs.costs.text(), &hot.take(TOP).collect::<Vec<_>>(), &self.0.public_url)
            }
            Err(problem) => super::refused(&problem),
        }))
    }
}

/// As it is typed after `unsubscribe`; nothing where it asks for everything.
fn written(filter: &Filter) -> String {
    if *filter == Filter::default() { String::new() } else { filter.to_string() }
}

/// Why the app may not write in a channel, with the way in.
fn cannot_write(error: &str) -> String {
    let way = match error {
        "not_in_channel" | "channel_not_found" => {
            "I am not in this channel. Invite me with `/invite @streamgauge`, and subscribe again. (In a conversation between two people there is no \
            inviting me: use a channel.)"
        }
        "is_archived" => "It is archived: subscribe another channel.",
        "missing_scope" => "The app lacks the scope chat:write; whoever installed it can add it and install it again.",
        "restricted_action" | "restricted_action_read_only_channel" => "The workspace lets only some people write here; subscribe another channel.",
        other => return format!("I cannot write here ({}): {}. Nothing was changed.", escape(other), escape(crate::slack::hint(other))),
    };
    format!("I cannot write here. {way} Nothing was changed.")
}
