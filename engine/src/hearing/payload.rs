//! What Slack sends when a person clicks or types, read into what it means; the same over Socket Mode and over HTTP.
//!
//! Only what is used is looked for, and what is not there is empty: Slack adds fields whenever it likes. Deliberately absent: whether it came from Slack
//! at all, which the socket or the signature says.

use serde_json::Value;

/// Somebody of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// `U…`.
    pub id: String,
    /// Their handle, without `@`; the id where Slack gives none.
    pub name: String,
    /// They are of another team than the one that the app is in: a guest of a channel that two companies share.
    pub foreign: bool,
}

impl Person {
    /// As people see them.
    pub fn shown(&self) -> String {
        format!("@{}", self.name)
    }

    /// As the audit log names them: names change, ids do not.
    pub fn audited(&self) -> String {
        format!("@{} ({})", self.name, self.id)
    }
}

/// Where an answer goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its id, and its name without `#`, where Slack gives one.
    pub channel: String,
    pub channel_name: String,
    /// Answers so to whoever acted, five times within half an hour; empty where Slack gives none.
    pub response_url: String,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub by: Person,
    pub place: Place,
    /// The same for every delivery of the same act.
    pub trigger: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A button, or an option of a menu, with its value.
    Click { action: String, value: String },
    /// What stands behind the command.
    Command { text: String },
}

/// What is to be done with a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Act(Box<Act>),
    /// Slack asks whether an address is ours; to be repeated.
    Challenge(String),
    /// Nothing that we know: it is acknowledged.
    Nothing,
}

/// An envelope of Socket Mode: its `type` and `payload`.
pub fn of_envelope(kind: &str, payload: &Value) -> Heard {
    match kind {
        "interactive" => click(payload),
        "slash_commands" => command(|name| text(&payload[name])),
        _ => Heard::Nothing,
    }
}

/// A body that came over HTTP: JSON of the Events API, or a form with a click or a command.
pub fn of_body(content_type: &str, body: &str) -> Heard {
    if content_type.starts_with("application/json") {
        let Ok(event) = serde_json::from_str::<Value>(body) else { return Heard::Nothing };
        return match event["type"].as_str() {
            Some("url_verification") => Heard::Challenge(text(&event["challenge"])),
            _ => Heard::Nothing,
        };
    }
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default();
    let payload = field("payload");
    if payload.is_empty() {
        return command(field);
    }
    serde_json::from_str(&payload).map_or(Heard::Nothing, |payload| click(&payload))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn named(name: String, id: &str) -> String {
    if name.is_empty() { id.to_owned() } else { name }
}

fn click(payload: &Value) -> Heard {
    let action = &payload["actions"][0];
    // A link's button has an id as well, and nothing is to be done but to acknowledge it.
    if payload["type"] != "block_actions" || !action["action_id"].is_string() {
        return Heard::Nothing;
    }
    let user = &payload["user"];
    let id = text(&user["id"]);
    let name = if user["username"].is_string() { text(&user["username"]) } else { text(&user["name"]) };
    let (own, theirs) = (text(&payload["team"]["id"]), text(&user["team_id"]));
    let by = Person { name: named(name, &id), foreign: !own.is_empty() && !theirs.is_empty() && own != theirs, id };
    let value = if action["selected_option"].is_object() { &action["selected_option"]["value"] } else { &action["value"] };
    let channel = if payload["channel"]["id"].is_string() { text(&payload["channel"]["id"]) } else { text(&payload["container"]["channel_id"]) };
    let place = Place { channel, channel_name: text(&payload["channel"]["name"]), response_url: text(&payload["response_url"]) };
    let what = What::Click { action: text(&action["action_id"]), value: text(value) };
    Heard::Act(Box::new(Act { by, place, trigger: text(&payload["trigger_id"]), what }))
}

fn command(field: impl Fn(&str) -> String) -> Heard {
    if field("command").is_empty() {
        return Heard::Nothing;
    }
    let id = field("user_id");
    // Commands are offered to the members of the app's own workspace alone.
    let by = Person { name: named(field("user_name"), &id), id, foreign: false };
    let place = Place { channel: field("channel_id"), channel_name: field("channel_name"), response_url: field("response_url") };
    Heard::Act(Box::new(Act { by, place, trigger: field("trigger_id"), what: What::Command { text: unescaped(&field("text")) } }))
}

/// As it was typed: Slack escapes its three control characters.
fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn clicked(payload: &Value) -> Act {
        match of_envelope("interactive", payload) {
            Heard::Act(act) => *act,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_click_says_who_where_and_what_of_a_button_or_a_menu() {
        let mut payload = json!({ "type": "block_actions", "user": { "id": "U1", "username": "ana", "team_id": "T1" }, "team": { "id": "T1" },
            "channel": { "id": "C1", "name": "oncall" }, "response_url": "https://hooks.example/1", "trigger_id": "t1",
            "actions": [{ "action_id": "ack", "value": "i1", "type": "button" }] });
        let act = clicked(&payload);
        assert_eq!((act.by.shown(), act.by.audited(), act.by.foreign), ("@ana".into(), "@ana (U1)".into(), false));
        assert_eq!(act.what, What::Click { action: "ack".into(), value: "i1".into() });
        assert_eq!((act.place.channel.as_str(), act.place.response_url.as_str(), act.trigger.as_str()), ("C1", "https://hooks.example/1", "t1"));
        payload["actions"] = json!([{ "action_id": "silence", "type": "overflow", "selected_option": { "value": "i1|1h" } }]);
        payload["user"] = json!({ "id": "U2", "team_id": "T2" });
        let act = clicked(&payload);
        assert_eq!((act.what, act.by.name.as_str(), act.by.foreign), (What::Click { action: "silence".into(), value: "i1|1h".into() }, "U2", true));
    }

    #[test]
    fn what_is_not_known_is_nothing() {
        for (kind, payload) in [
            ("interactive", json!({})),
            ("interactive", json!({ "type": "view_submission" })),
            ("interactive", json!({ "type": "block_actions", "actions": [] })),
            ("interactive", json!([1])),
            ("slash_commands", json!({ "text": "status" })),
            ("events_api", json!({ "event": {} })),
            ("", Value::Null),
        ] {
            assert_eq!(of_envelope(kind, &payload), Heard::Nothing, "{kind} {payload}");
        }
        for (content_type, body) in
            [("application/json", "{"), ("application/json", "{}"), ("", ""), ("text/plain", "payload={"), ("", "ssl_check=1")]
        {
            assert_eq!(of_body(content_type, body), Heard::Nothing, "{content_type} {body}");
        }
    }

    #[test]
    fn a_command_is_the_same_over_either_way_and_as_it_was_typed() {
        let payload = json!({ "command": "/streamgauge", "text": "subscribe severity&gt;=warning", "user_id": "U1", "user_name": "ana", "channel_id": "C1",
            "channel_name": "oncall", "response_url": "https://hooks.example/1", "trigger_id": "t1" });
        let Heard::Act(act) = of_envelope("slash_commands", &payload) else { panic!("it is a command") };
        assert_eq!(act.what, What::Command { text: "subscribe severity>=warning".into() });
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in payload.as_object().expect("an object") {
            form.append_pair(key, value.as_str().expect("a text"));
        }
        assert_eq!(of_body("application/x-www-form-urlencoded", &form.finish()), Heard::Act(act));
        assert_eq!(of_body("application/json", r#"{"type":"url_verification","challenge":"c"}"#), Heard::Challenge("c".into()));
    }
}
