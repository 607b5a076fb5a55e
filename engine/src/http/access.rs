//! Who asks, and what they may do: bearer tokens, people that a reverse proxy names, sessions of browsers, and who merely reaches the listener.
//!
//! With nothing configured, whoever reaches a loopback address may do everything. A page somewhere else in the same browser reaches it, too; so names
//! that the address is not known by are refused (a page could have its own name lead here), and a browser's POST must come from our own page and bring
//! the token that only that page has. Deliberately absent: users, passwords and roles of our own. Who needs those has a proxy that knows people.

use super::Problem;
use crate::config::{AccessConfig, May, ProxyConfig, Sensitive};
use crate::error::Fault;
use crate::store::Way;
use axum::http::{HeaderMap, StatusCode, header};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A token that is shorter could be guessed.
const TOKEN_MIN: usize = 16;
/// A working day; then one signs in again.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// Sessions at one time; the oldest goes. Far more than a team has browsers.
const SESSIONS_MAX: usize = 1000;
/// A name that a proxy gives, in characters: it goes into the audit log.
const NAME_MAX: usize = 200;
const COOKIE: &str = "streamgauge_session";
/// Where a browser's request brings what proves that it is from our page: a field of a form, or this header.
pub(super) const FORM_TOKEN: &str = "form_token";
const FORM_TOKEN_HEADER: &str = "streamgauge-form-token";

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub name: String,
    pub way: Way,
    pub may: May,
    /// For the forms of the pages that they are shown.
    pub form_token: String,
}

/// Who may do what at this listener.
#[derive(Debug)]
pub struct Access {
    tokens: Vec<Known>,
    proxy: Option<ProxyConfig>,
    /// What somebody who is not known may do.
    open: Option<May>,
    public_url: String,
    form_token: String,
    sessions: Mutex<BTreeMap<String, Session>>,
}

#[derive(Debug)]
struct Known {
    name: String,
    token: Sensitive,
    may: May,
}

#[derive(Debug)]
struct Session {
    name: String,
    may: May,
    since: Instant,
    form_token: String,
}

impl Access {
    /// Reads the tokens.
    ///
    /// # Errors
    /// When one is not set, is too short, or is another's; or the system has no randomness.
    pub fn new(config: &AccessConfig, listen: SocketAddr, public_url: &str) -> Result<Self, Fault> {
        let mut tokens: Vec<Known> = Vec::new();
        for (name, token) in &config.tokens {
            let secret = token.token.resolve().map_err(|error| Fault::plain(format!("access.tokens.{name}: cannot {error}")))?;
            let made = "make one with `openssl rand -hex 32`";
            let Some(secret) = secret else {
                return Err(Fault::new(
                    format!("access.tokens.{name}: {} is not set", token.token),
                    format!("set it, or remove the section; {made}"),
                ));
            };
            if secret.expose().len() < TOKEN_MIN {
                return Err(Fault::new(format!("access.tokens.{name}: a token of fewer than {TOKEN_MIN} characters could be guessed"), made));
            }
            if let Some(other) = tokens.iter().find(|other| same(other.token.expose(), secret.expose())) {
                return Err(Fault::new(format!("access.tokens.{name}: its token is that of {}, so nobody could say who asked", other.name), made));
            }
            tokens.push(Known { name: name.clone(), token: secret, may: token.may });
        }
        let open = match (config.open_to_read, config.knows_people()) {
            (true, _) => Some(May::Read),
            (false, true) => None,
            // Only loopback comes so far: the configuration refuses other addresses.
            (false, false) if listen.ip().is_loopback() => Some(May::Operate),
            (false, false) => None,
        };
        let sessions = Mutex::default();
        Ok(Self { tokens, proxy: config.proxy.clone(), open, public_url: public_url.to_owned(), form_token: random()?, sessions })
    }

    /// Whether a browser can sign in.
    pub(super) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Who asks; `None`: nobody who is known, and nobody unknown may ask anything.
    ///
    /// # Errors
    /// When somebody shows a token that is none of ours.
    pub(super) fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
        if let Some(shown) = headers.get(header::AUTHORIZATION) {
            let shown = shown.to_str().ok().and_then(|text| text.split_once(' '));
            let token = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
            return match token.and_then(|token| self.known(token)) {
                Some(known) => Ok(Some(self.caller_of(known.name.clone(), Way::Token, known.may))),
                None => Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "the token is not one that this engine knows",
                    "send `Authorization: Bearer …` with a token of [access.tokens], or no such header",
                )),
            };
        }
        if let Some(caller) = cookie(headers).and_then(|id| self.session(id)) {
            return Ok(Some(caller));
        }
        if let Some(caller) = self.proxy.as_ref().and_then(|proxy| self.of_proxy(proxy, peer, headers)) {
            return Ok(Some(caller));
        }
        Ok(self.open.map(|may| self.caller_of("anyone".to_owned(), Way::Open, may)))
    }

    fn caller_of(&self, name: String, way: Way, may: May) -> Caller {
        Caller { name, way, may, form_token: self.form_token.clone() }
    }

    /// Compared with all of them, whichever it is.
    fn known(&self, token: &str) -> Option<&Known> {
        self.tokens.iter().fold(None, |found, known| if same(known.token.expose(), token) { Some(known) } else { found })
    }

    fn of_proxy(&self, proxy: &ProxyConfig, peer: IpAddr, headers: &HeaderMap) -> Option<Caller> {
        if !proxy.from.contains(&peer.to_canonical()) {
            return None;
        }
        // Of a header given twice the proxy's may be either, so it counts as none.
        let mut users = headers.get_all(proxy.user_header.as_str()).iter();
        let user = users.next().filter(|_| users.next().is_none())?.to_str().ok()?.trim();
        if user.is_empty() {
            return None;
        }
        let groups = headers.get_all(proxy.groups_header.as_str()).iter().filter_map(|groups| groups.to_str().ok());
        let operates = groups.flat_map(|groups| groups.split(',')).any(|group| proxy.operate_groups.iter().any(|known| known == group.trim()));
        let name = user.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        Some(self.caller_of(name, Way::Proxy, if operates { May::Operate } else { May::Read }))
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids are 256 random bits: how long it takes to look one up says nothing of another.
    fn session(&self, id: &str) -> Option<Caller> {
        let sessions = self.sessions();
        let session = sessions.get(id).filter(|session| session.since.elapsed() < SESSION)?;
        Some(Caller { name: session.name.clone(), way: Way::Session, may: session.may, form_token: session.form_token.clone() })
    }

    /// Signs a browser in: who it is, and the cookie that says so.
    ///
    /// # Errors
    /// When the token is none of ours, or the system has no randomness.
    pub(super) fn sign_in(&self, token: &str) -> Result<(Caller, String), Problem> {
        let known = self.known(token.trim()).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "this is not a token that this engine knows", "ask whoever set up [access.tokens] for yours")
        })?;
        let (id, form_token) = (random()?, random()?);
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.since.elapsed() < SESSION);
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.since).map(|(id, _)| id.clone())
        {
            sessions.remove(&oldest);
        }
        let caller = Caller { name: known.name.clone(), way: Way::Session, may: known.may, form_token: form_token.clone() };
        sessions.insert(id.clone(), Session { name: known.name.clone(), may: known.may, since: Instant::now(), form_token });
        Ok((caller, self.set_cookie(&id, SESSION)))
    }

    /// Ends the session of a browser: the cookie that takes its own away.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> String {
        if let Some(id) = cookie(headers) {
            self.sessions().remove(id);
        }
        self.set_cookie("", Duration::ZERO)
    }

    fn set_cookie(&self, id: &str, age: Duration) -> String {
        let secure = if self.public_url.starts_with("https://") { "; Secure" } else { "" };
        format!("{COOKIE}={id}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}", age.as_secs())
    }

    /// Refuses names that this listener is not known by, where whoever reaches it may do everything: a page could have its own name lead here, and
    /// be of one origin with us. Addresses in digits and `localhost` lead nowhere else.
    pub(super) fn answers_to(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.open != Some(May::Operate) {
            return Ok(());
        }
        let Some(host) = headers.get(header::HOST) else { return Ok(()) };
        let host = host.to_str().unwrap_or_default();
        let name = host_of(host);
        let ours = authority(&self.public_url).is_some_and(|ours| host_of(ours) == name);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        if ours || address || name == "localhost" || name.ends_with(".localhost") {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("this engine is not known as `{}`", name.chars().take(NAME_MAX).collect::<String>()),
            "ask by its address or as localhost, or set http.public_url to the name it is reached by",
        ))
    }

    /// Refuses what a page of another site has a browser send. Programs say nothing of where they come from.
    pub(super) fn is_from_here(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
        let by_site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
        let by_origin = text("origin")
            .is_none_or(|origin| origin == self.public_url || authority(origin).is_some_and(|authority| text("host") == Some(authority)));
        if by_site && by_origin {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pages of other sites may not change anything here",
            "use the page at this address, or the command `streamgauge`",
        ))
    }

    /// Refuses what is not from here, and what a browser sends without the token of our pages.
    pub(super) fn is_ours(&self, caller: &Caller, headers: &HeaderMap, form: &Form) -> Result<(), Problem> {
        self.is_from_here(headers)?;
        let of_browser = headers.contains_key("origin") || headers.contains_key("sec-fetch-site") || caller.way == Way::Session;
        let shown = headers.get(FORM_TOKEN_HEADER).and_then(|shown| shown.to_str().ok()).or(form.get(FORM_TOKEN)).unwrap_or_default();
        if of_browser && caller.way != Way::Token && !same(&caller.form_token, shown) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "the form was not from a page of this engine as it runs now",
                "load the page anew, and try again",
            ));
        }
        Ok(())
    }
}

/// The fields that a form brought; the first of a name counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub fn read(body: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(body).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    cookies.flat_map(|cookies| cookies.split(';')).find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// What stands between `//` and the path.
fn authority(url: &str) -> Option<&str> {
    url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default())
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether two texts are the same, in a time that depends on their lengths alone.
fn same(a: &str, b: &str) -> bool {
    let differs = a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    a.len() == b.len() && differs == 0
}

/// 256 bits that nobody can guess, in hexadecimal.
fn random() -> Result<String, Fault> {
    let mut bytes = [0; 32];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Fault::new(format!("the system gives no random bytes: {error}"), "is /dev/urandom there and readable?"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, TokenConfig};

    fn access(config: &AccessConfig) -> Access {
        Access::new(config, ([127, 0, 0, 1], 8470).into(), "https://gauge.example").expect("it is well")
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a header"))).collect()
    }

    fn proxied() -> AccessConfig {
        let proxy = ProxyConfig {
            user_header: "x-forwarded-user".to_owned(),
            groups_header: "x-forwarded-groups".to_owned(),
            operate_groups: vec!["oncall".to_owned()],
            from: vec![[127, 0, 0, 1].into()],
        };
        AccessConfig { proxy: Some(proxy), ..AccessConfig::default() }
    }

    #[test]
    fn a_proxy_is_believed_from_its_addresses_alone() {
        let access = access(&proxied());
        let asked = |peer: [u8; 4], pairs: &[(&'static str, &str)]| {
            access.caller(peer.into(), &headers(pairs)).expect("no token is shown").map(|caller| (caller.name, caller.may))
        };
        let alice = ("x-forwarded-user", "alice");
        assert_eq!(asked([127, 0, 0, 1], &[alice]), Some(("alice".to_owned(), May::Read)));
        assert_eq!(asked([127, 0, 0, 1], &[alice, ("x-forwarded-groups", "dev, oncall")]), Some(("alice".to_owned(), May::Operate)));
        assert_eq!(asked([127, 0, 0, 1], &[alice, ("x-forwarded-groups", "oncallers")]), Some(("alice".to_owned(), May::Read)));
        assert_eq!(asked([10, 0, 0, 9], &[alice, ("x-forwarded-groups", "oncall")]), None);
        assert_eq!(asked([127, 0, 0, 1], &[("x-forwarded-user", " ")]), None);
        let mut twice = headers(&[alice]);
        twice.append("x-forwarded-user", "root".parse().expect("a header"));
        assert_eq!(access.caller([127, 0, 0, 1].into(), &twice).expect("no token"), None, "of two users neither is believed");
    }

    #[test]
    fn a_page_of_another_site_may_not_post_and_ours_brings_its_token() {
        let access = access(&AccessConfig::default());
        let caller = access.caller([127, 0, 0, 1].into(), &HeaderMap::new()).expect("no token").expect("loopback is open");
        let token = Form::read(format!("{FORM_TOKEN}={}", caller.form_token).as_bytes());
        let ours = |pairs: &[(&'static str, &str)], form: &Form| access.is_ours(&caller, &headers(pairs), form).is_ok();
        let host = ("host", "127.0.0.1:8470");
        assert!(ours(&[host], &Form::default()), "a program");
        assert!(ours(&[host, ("origin", "http://127.0.0.1:8470"), ("sec-fetch-site", "same-origin")], &token));
        assert!(ours(&[("host", "inner:1"), ("origin", "https://gauge.example")], &token), "behind a proxy that rewrites the host");
        assert!(!ours(&[host, ("origin", "http://127.0.0.1:8470")], &Form::default()), "without the token");
        for pairs in [
            [host, ("origin", "http://127.0.0.1:9999")],
            [host, ("origin", "http://evil.example")],
            [host, ("origin", "null")],
            [host, ("sec-fetch-site", "cross-site")],
            [host, ("sec-fetch-site", "same-site")],
        ] {
            assert!(!ours(&pairs, &token), "{pairs:?}");
        }
    }

    #[test]
    fn names_that_lead_here_from_elsewhere_are_refused_where_everyone_may_operate() {
        let open = access(&AccessConfig::default());
        let answers = |access: &Access, host: &str| access.answers_to(&headers(&[("host", host)])).is_ok();
        for host in ["127.0.0.1:8470", "[::1]:8470", "localhost:8470", "localhost", "gauge.example"] {
            assert!(answers(&open, host), "{host}");
        }
        for host in ["evil.example:8470", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            assert!(!answers(&open, host), "{host}");
        }
        assert!(answers(&access(&proxied()), "inner:1"), "who is asked who they are comes by any name");
    }

    #[test]
    fn tokens_are_long_different_and_set() {
        let refused = |pairs: &[(&str, Option<&str>)]| {
            let token = |text: &Option<&str>| TokenConfig { token: Secret::Given(text.and_then(Sensitive::new)), may: May::Read };
            let tokens = pairs.iter().map(|(name, text)| ((*name).to_owned(), token(text))).collect();
            let config = AccessConfig { tokens, ..AccessConfig::default() };
            Access::new(&config, ([127, 0, 0, 1], 1).into(), "").err().map(|fault| fault.what().to_owned())
        };
        let long = Some("0123456789abcdef");
        assert_eq!(refused(&[("a", long)]), None);
        assert!(refused(&[("a", Some("short"))]).is_some_and(|what| what.contains("could be guessed") && !what.contains("short")));
        assert!(refused(&[("a", None)]).is_some_and(|what| what.contains("is not set")));
        assert!(refused(&[("a", long), ("b", long)]).is_some_and(|what| what.contains("access.tokens.b: its token is that of a")));
    }
}
