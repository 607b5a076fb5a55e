//! Asking a running engine over HTTP, at the address that the configuration has it listen on.

use crate::config::{Config, Sensitive};
use crate::error::Fault;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An engine that reads hours of slices for an answer takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A GET; the answer must be 200.
pub(super) async fn get<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T, Fault> {
    ask(config, "GET", path).await
}

/// A POST without a body; the answer must be 200.
pub(super) async fn post<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T, Fault> {
    ask(config, "POST", path).await
}

/// Status and body of a GET, whatever the status is.
pub(crate) async fn answer(config: &Config, path: &str) -> Result<(u16, String), Fault> {
    let address = reachable(config.http.listen);
    let answer = exchange(address, "GET", path, token(config).as_ref()).await;
    answer.map_err(|error| Fault::plain(format!("no engine answers at {address}: {error}")))
}

async fn ask<T: DeserializeOwned>(config: &Config, method: &str, path: &str) -> Result<T, Fault> {
    let address = reachable(config.http.listen);
    let token = token(config);
    let (status, body) = tokio::time::timeout(PATIENCE, exchange(address, method, path, token.as_ref()))
        .await
        .map_err(|_| Fault::new(format!("the engine at {address} gave no answer within {} s", PATIENCE.as_secs()), "is it busy? see its log"))?
        .map_err(|error| {
            Fault::new(
                format!("no engine answers at {address}: {error}"),
                "start one with `streamgauge run`, or name its address with --set http.listen=HOST:PORT",
            )
        })?;
    let strange = || Fault::new(format!("what answers at {address} is no streamgauge of this version (HTTP {status})"), "see http.listen");
    if status == 200 {
        return serde_json::from_str(&body).map_err(|_| strange());
    }
    let problem: Value = serde_json::from_str(&body).map_err(|_| strange())?;
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    Err(Fault::new(text("detail"), text("hint")))
}

/// Who to ask as: STREAMGAUGE_TOKEN, or the token of the configuration that may most, of those that can be read here.
fn token(config: &Config) -> Option<Sensitive> {
    let given = std::env::var("STREAMGAUGE_TOKEN").ok().and_then(|text| Sensitive::new(&text));
    let mut known: Vec<_> = config.access.tokens.values().collect();
    known.sort_by_key(|token| std::cmp::Reverse(token.may));
    given.or_else(|| known.into_iter().find_map(|token| token.token.resolve().ok().flatten()))
}

/// Where to reach what listens there: an engine that listens everywhere is here, too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let here = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(here, listen.port())
}

/// One exchange in HTTP/1.0, whose answers end with their connection and come in one piece.
async fn exchange(address: SocketAddr, method: &str, path: &str, token: Option<&Sensitive>) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let signed = token.map_or_else(String::new, |token| format!("Authorization: Bearer {}\r\n", token.expose()));
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{signed}Content-Length: 0\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let broken = || std::io::Error::other("that was no HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    Ok((status, body.to_owned()))
}
