//! The silences that hold, with who asked for them and until when, and a button that ends each.

use super::super::access::Caller;
use super::super::silences::about;
use super::frame::token;
use super::html::{TABLE_END, escaped, link, table, time};
use super::thread::until_when;
use crate::config::May;
use machine::incident::{Silence, Silenced};
use std::fmt::Write;

pub(super) fn section(body: &mut String, caller: &Caller, silences: &[Silence]) {
    *body += "<section id=silences data-live aria-labelledby=silences-title><h2 id=silences-title>Silences</h2>";
    if silences.is_empty() {
        *body += "<p class=dim>Nothing is silenced.</p></section>";
        return;
    }
    *body += &table("Silences", &["Of", "By", "Since", "Until", "<span class=hidden>Way out</span>"]);
    for silence in silences {
        let of = match &silence.of {
            Silenced::Incident(id) => format!("incident {}", link("/incidents", id)),
            Silenced::Alerts(_) => format!("alerts of <code>{}</code>", escaped(&about(&silence.of))),
        };
        let until = until_when(silence.until);
        let _ = write!(
            body,
            "<tr><th scope=row>{of}<td>{}<td>{}<td>{}<td>{}",
            escaped(&silence.by),
            time(silence.at),
            until.strip_prefix("until ").unwrap_or(&until),
            end_form(caller, silence, None, "End"),
        );
    }
    *body += TABLE_END;
    *body += "</section>";
}

/// A button that ends it, and leads back to the page of `incident` or to this one; nothing for who may read alone.
pub(super) fn end_form(caller: &Caller, silence: &Silence, incident: Option<&str>, label: &str) -> String {
    if caller.may < May::Operate {
        return String::new();
    }
    let path: String = url::form_urlencoded::byte_serialize(silence.id.as_bytes()).collect();
    let back = incident.map_or_else(String::new, |id| format!("<input type=hidden name=incident value='{}'>", escaped(id)));
    let hidden = format!("<span class=hidden>: the silence of {}</span>", escaped(&about(&silence.of)));
    format!("<form method=post action='/silences/{path}/end'>{}{back}<button>{label}{hidden}</button></form>", token(caller))
}
