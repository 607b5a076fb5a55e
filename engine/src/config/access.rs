//! `[access]`: who may look and who may change something over HTTP.
//!
//! Not here: reading the tokens and deciding about a request (`http/access.rs`).

use super::errors::Fault;
use super::section::Section;
use super::tree::Node;
use super::values::Secret;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// With nothing set, whoever can reach a loopback address may do everything; beyond loopback something must be set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AccessConfig {
    /// Whoever reaches the listener may read without being known.
    pub open_to_read: bool,
    /// By the name that the audit log shows.
    pub tokens: BTreeMap<String, TokenConfig>,
    pub proxy: Option<ProxyConfig>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TokenConfig {
    pub token: Secret,
    pub may: May,
}

/// What somebody may do; the second includes the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// See numbers, alerts and rules.
    Read,
    /// Change something as well: adopt, reload.
    Operate,
}

/// A reverse proxy that says who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// In lower case, as all headers are compared.
    pub user_header: String,
    pub groups_header: String,
    /// Members of one of them may operate; everyone else that it names may read.
    pub operate_groups: Vec<String>,
    /// Where it may ask from.
    pub from: Vec<IpAddr>,
}

impl AccessConfig {
    /// Whether anybody is known at all.
    pub fn knows_people(&self) -> bool {
        !self.tokens.is_empty() || self.proxy.is_some()
    }
}

pub(super) fn access(access: &mut Section<'_>, listen: SocketAddr) -> AccessConfig {
    let (open_to_read, tried) = (access.read("open", open).is_some(), access.has("tokens") || access.has("proxy"));
    let tokens = access.named("tokens", |token| {
        let secret = token.secret("token");
        let may = token.read("may", may);
        if secret.is_none() || may.is_none() {
            token.refuse(&[], Fault::new("needs `token` and `may`", "such as token = { env = \"STREAMGAUGE_TOKEN\" } and may = \"read\""));
        }
        Some(TokenConfig { token: secret?, may: may? })
    });
    let proxy = access.section("proxy", |proxy| {
        let trust = proxy.read("trust", Node::bool).unwrap_or(false);
        let config = ProxyConfig {
            user_header: proxy.read("user_header", header).unwrap_or_else(|| "x-forwarded-user".to_owned()),
            groups_header: proxy.read("groups_header", header).unwrap_or_else(|| "x-forwarded-groups".to_owned()),
            operate_groups: proxy.read("operate_groups", |node| node.list(|node| Ok(node.text()?.to_owned()))).unwrap_or_default(),
            from: proxy.read("from", |node| node.list(address)).unwrap_or_else(|| vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()]),
        };
        trust.then_some(config)
    });
    let config = AccessConfig { open_to_read, tokens, proxy };
    // Where a token or a proxy has a mistake of its own, that is what is said.
    let known = config.knows_people() || config.open_to_read || tried && access.has_problems();
    if !listen.ip().is_loopback() && !known {
        access.refuse(
            &[],
            Fault::new(
                format!("must say who may look and operate: `http.listen` is {listen}, which others than this machine can reach"),
                "set [access.tokens.NAME] or [access.proxy], let everyone read with access.open = \"read\", or listen on 127.0.0.1",
            ),
        );
    }
    config
}

fn open(node: &Node) -> Result<(), Fault> {
    match node.text()? {
        "read" => Ok(()),
        other => {
            Err(Fault::new(format!("must be \"read\", not \"{other}\""), "what changes something is open to nobody: give who may do that a token"))
        }
    }
}

fn may(node: &Node) -> Result<May, Fault> {
    match node.text()? {
        "read" => Ok(May::Read),
        "operate" => Ok(May::Operate),
        other => Err(Fault::new(format!("must be \"read\" or \"operate\", not \"{other}\""), "who may operate may read as well")),
    }
}

fn header(node: &Node) -> Result<String, Fault> {
    let text = node.text()?;
    if (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Fault::new(format!("must be the name of a header, not `{text}`"), "such as \"X-Forwarded-User\""))
}

fn address(node: &Node) -> Result<IpAddr, Fault> {
    let text = node.text()?;
    text.parse().map_err(|_| Fault::new(format!("has no IP address in `{text}`"), "such as \"127.0.0.1\" or \"10.0.0.7\""))
}
