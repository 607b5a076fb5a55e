//! What all pages share: the head, the navigation, who one is, and the files beside them.

use super::super::App;
use super::super::access::{Caller, FORM_TOKEN};
use super::html::escaped;
use crate::config::May;
use crate::store::Way;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use std::time::Duration;

/// The pages that stand by themselves, in the order of the navigation.
const PAGES: [(Place, &str, &str); 6] = [
    (Place::Overview, "/", "Overview"),
    (Place::Search, "/search", "Search"),
    (Place::Costs, "/costs", "Users and costs"),
    (Place::Rules, "/rules", "Rules"),
    (Place::Evaluators, "/evaluators", "Evaluators"),
    (Place::Status, "/status", "Status"),
];

/// Where in the navigation a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Place {
    Overview,
    Search,
    Costs,
    Rules,
    Evaluators,
    Status,
    /// In none of them.
    None,
}

/// What stands around a page.
pub(in crate::http) struct Frame<'a> {
    pub app: &'a App,
    /// `None` where nobody has signed in yet.
    pub caller: Option<&'a Caller>,
    pub place: Place,
    pub title: &'a str,
    /// How often the script brings the page up to date; by what that costs the store.
    pub every: Option<Duration>,
}

impl Frame<'_> {
    pub fn page(&self, body: &str) -> Html<String> {
        let title = if self.place == Place::Overview { "streamgauge".to_owned() } else { format!("{} · streamgauge", escaped(self.title)) };
        let every = self.every.map_or_else(String::new, |every| format!(" data-every={}", every.as_secs()));
        let links = PAGES.iter().map(|(place, path, name)| {
            let current = if *place == self.place { " aria-current=page" } else { "" };
            format!("<li><a href='{path}'{current}>{name}</a>")
        });
        let links: String = if self.caller.is_some() { links.collect() } else { String::new() };
        Html(format!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\
             <title>{title}</title><link rel=icon href='/icon.svg'><link rel=stylesheet href='/style.css'><script src='/script.js' defer></script></head>\
             <body{every}><a class=skip href='#main'>Skip to the content</a>\
             <header><a class=brand href='/'>streamgauge</a><nav aria-label=Pages><ul>{links}</ul></nav>{}{}</header>\
             <main id=main tabindex=-1>{body}</main>\
             <footer><p>{}</p><p><span id=zone>Times are UTC.</span> <span id=live role=status></span></p></footer></body></html>",
            self.find(),
            self.who(),
            self.about(),
        ))
    }

    /// The way to a call from anywhere; the page of searches has a wider one of its own.
    fn find(&self) -> &'static str {
        if self.caller.is_none() || self.place == Place::Search {
            return "";
        }
        "<form class=find role=search action='/search'><label class=hidden for=find>Search calls</label>\
         <input type=search id=find name=where placeholder='run, call, user or key:value' autocomplete=off spellcheck=false autocapitalize=none></form>"
    }

    /// What runs, for those who may know.
    fn about(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match self.caller {
            Some(_) => format!("streamgauge {version} · {} · Slack: {}", escaped(&self.app.source), escaped(&self.app.slack)),
            None => "streamgauge".to_owned(),
        }
    }

    /// Who one is, where somebody is asked.
    fn who(&self) -> String {
        let Some(caller) = self.caller.filter(|caller| caller.way != Way::Open) else {
            let can = self.app.access.has_tokens() && self.caller.is_some();
            return if can { "<p class=who><a href='/sign-in'>Sign in</a></p>".to_owned() } else { String::new() };
        };
        let may = if caller.may == May::Operate { "may operate" } else { "may read" };
        let name = escaped(&caller.name);
        if caller.way != Way::Session {
            return format!("<p class=who>{name} · {may}</p>");
        }
        format!("<form class=who method=post action='/sign-out'>{name} · {may} {} <button class=quiet>Sign out</button></form>", token(caller))
    }
}

/// What a form of ours must bring.
pub(super) fn token(caller: &Caller) -> String {
    format!("<input type=hidden name={FORM_TOKEN} value='{}'>", escaped(&caller.form_token))
}

pub(in crate::http) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], [include_str!("style.css"), crate::chart::STYLE].concat())
}

pub(in crate::http) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("script.js"))
}

pub(in crate::http) async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("icon.svg"))
}
