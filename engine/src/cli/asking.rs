//! Asking a running engine over HTTP, at the address that the configuration has it listen on.

use crate::config::{Config, Sensitive};
use crate::error::Fault;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// An engine that reads hours of slices for an answer takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Until the first line of an answer of many, and between them: the engine may look through all that it knows before it begins.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Status line and headers are some hundred bytes.
const HEAD_MAX: u64 = 64 * 1024;
/// A payload is at most 8 MiB, and a byte of it at most six of JSON.
const LINE_MAX: u64 = 64 << 20;

/// A GET; the answer must be 200.
pub(super) async fn get<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T, Fault> {
    ask(config, "GET", path, None).await
}

/// A POST without a body; the answer must be 200.
pub(super) async fn post<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T, Fault> {
    ask(config, "POST", path, None).await
}

/// A POST of JSON; the answer must be 200.
pub(super) async fn post_json<T: DeserializeOwned>(config: &Config, path: &str, body: &Value) -> Result<T, Fault> {
    ask(config, "POST", path, Some(body)).await
}

/// A DELETE; the answer must be 200.
pub(super) async fn delete<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T, Fault> {
    ask(config, "DELETE", path, None).await
}

/// Status and body of a GET, whatever the status is.
pub(crate) async fn answer(config: &Config, path: &str) -> Result<(u16, String), Fault> {
    let address = reachable(config.http.listen);
    let answer = exchange(address, "GET", path, token(config).as_ref(), None).await;
    answer.map_err(|error| Fault::plain(format!("no engine answers at {address}: {error}")))
}

/// Lines of an answer that come as somebody takes them.
pub(super) struct Lines {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// A GET whose answer is lines; it must be 200.
pub(super) async fn lines(config: &Config, path: &str) -> Result<Lines, Fault> {
    let address = reachable(config.http.listen);
    let token = token(config);
    let open = async {
        let mut stream = BufReader::new(request(address, "GET", path, token.as_ref(), None).await?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = (&mut stream).take(HEAD_MAX).read_line(&mut head).await?;
            if read == 0 || head.len() as u64 > HEAD_MAX {
                return Err(std::io::Error::other("that was no HTTP"));
            }
        }
        let mut body = String::new();
        if status_of(&head)? != 200 {
            stream.read_to_string(&mut body).await?;
        }
        Ok((status_of(&head)?, body, stream))
    };
    let opened = tokio::time::timeout(LONG_PATIENCE, open).await.map_err(|_| silent(address, LONG_PATIENCE))?;
    let (status, body, stream) = opened.map_err(|error| absent(address, &error))?;
    if status != 200 {
        return Err(refusal(address, status, &body));
    }
    Ok(Lines { stream, address })
}

impl Lines {
    /// Without its end; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let mut line = Vec::new();
        let read = async { (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line).await };
        let read = tokio::time::timeout(LONG_PATIENCE, read).await.map_err(|_| silent(self.address, LONG_PATIENCE))?;
        read.map_err(|error| Fault::plain(format!("the connection to the engine at {} broke: {error}", self.address)))?;
        // A line without an end is one that was cut off.
        Ok((line.pop() == Some(b'\n')).then_some(line))
    }
}

async fn ask<T: DeserializeOwned>(config: &Config, method: &str, path: &str, body: Option<&Value>) -> Result<T, Fault> {
    let address = reachable(config.http.listen);
    let token = token(config);
    let (status, body) = tokio::time::timeout(PATIENCE, exchange(address, method, path, token.as_ref(), body))
        .await
        .map_err(|_| silent(address, PATIENCE))?
        .map_err(|error| absent(address, &error))?;
    if status == 200 {
        return serde_json::from_str(&body).map_err(|_| strange(address, status));
    }
    Err(refusal(address, status, &body))
}

fn silent(address: SocketAddr, patience: Duration) -> Fault {
    Fault::new(format!("the engine at {address} gave no answer within {} s", patience.as_secs()), "is it busy? see its log")
}

fn absent(address: SocketAddr, error: &std::io::Error) -> Fault {
    Fault::new(
        format!("no engine answers at {address}: {error}"),
        "start one with `streamgauge run`, or name its address with --set http.listen=HOST:PORT",
    )
}

fn strange(address: SocketAddr, status: u16) -> Fault {
    Fault::new(format!("what answers at {address} is no streamgauge of this version (HTTP {status})"), "see http.listen")
}

/// What the engine says instead of an answer.
fn refusal(address: SocketAddr, status: u16, body: &str) -> Fault {
    let Ok(problem) = serde_json::from_str::<Value>(body) else { return strange(address, status) };
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    Fault::new(text("detail"), by_command(&text("hint")))
}

/// What a hint says to ask by its path, by the command that asks it.
fn by_command(hint: &str) -> String {
    const COMMANDS: [(&str, &str); 5] = [
        ("GET /api/v1/incidents/{id} has the labels in incident.lead.actions", "`streamgauge act INCIDENT` lists the labels"),
        ("GET /api/v1/incidents", "`streamgauge incidents`"),
        ("GET /api/v1/silences", "`streamgauge incidents`"),
        ("GET /api/v1/alerts", "`streamgauge status`"),
        ("GET /api/v1/calls?where=…", "`streamgauge search QUERY`"),
    ];
    COMMANDS.iter().fold(hint.to_owned(), |hint, (path, command)| hint.replace(path, command))
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
async fn exchange(address: SocketAddr, method: &str, path: &str, token: Option<&Sensitive>, body: Option<&Value>) -> std::io::Result<(u16, String)> {
    let mut stream = request(address, method, path, token, body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("that was no HTTP"))?;
    Ok((status_of(head)?, body.to_owned()))
}

async fn request(address: SocketAddr, method: &str, path: &str, token: Option<&Sensitive>, body: Option<&Value>) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let signed = token.map_or_else(String::new, |token| format!("Authorization: Bearer {}\r\n", token.expose()));
    let body = body.map_or_else(String::new, Value::to_string);
    let typed = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{signed}{typed}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body.as_str()).as_bytes()).await?;
    Ok(stream)
}

fn status_of(head: &str) -> std::io::Result<u16> {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| std::io::Error::other("that was no HTTP"))
}
