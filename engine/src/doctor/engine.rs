//! The listener's port, free or an engine's; and how that engine says it is.

use super::{Finding, within};
use crate::cli::asking;
use crate::config::Config;
use crate::error::Fault;
use crate::http::Access;
use model::show;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::TcpListener;

/// `held`: an engine holds the store.
pub(super) async fn look(config: &Config, held: bool) -> Vec<Finding> {
    let listen = config.http.listen;
    if let Err(fault) = Access::new(&config.access, listen, &config.http.public_url) {
        return vec![Finding::fault("listener", &fault)];
    }
    let another = "choose another port with --set http.listen=127.0.0.1:8471";
    // Dropped at once: an engine that starts in this instant would say so and be started again.
    match TcpListener::bind(listen) {
        Ok(_) if held && listen.port() != 0 => {
            let hint = "has it another http.listen? ask with the configuration that it runs with";
            vec![Finding::warning("listener", format!("an engine holds the store, and none listens on {listen}"), hint)]
        }
        Ok(_) if listen.port() == 0 => vec![Finding::ok("listener", "the system will choose a port; commands that ask the engine need a fixed one")],
        Ok(_) => vec![Finding::ok("listener", format!("{listen} is free: no engine runs here"))],
        Err(error) if error.kind() == ErrorKind::AddrInUse => running(config, held).await,
        Err(error) => vec![Finding::failed("listener", format!("cannot listen on {listen}: {error}"), another)],
    }
}

async fn running(config: &Config, held: bool) -> Vec<Finding> {
    let listen = config.http.listen;
    let (ready, status) = tokio::join!(within(asking::answer(config, "/readyz")), within(asking::answer(config, "/api/v1/status")));
    let parsed = |answer: &(u16, String)| serde_json::from_str::<Value>(&answer.1).ok();
    let Some(ready) = ready.as_ref().ok().and_then(parsed).filter(|ready| ready["ready"].is_boolean()) else {
        let hint = "stop what listens there, or choose another port with --set http.listen=127.0.0.1:8471";
        return vec![Finding::failed("listener", format!("something that is no streamgauge listens on {listen}"), hint)];
    };
    let listener = if held {
        Finding::ok("listener", format!("{listen} is the running engine's"))
    } else {
        let hint = "set store.path and http.listen to those of one engine";
        Finding::warning("listener", format!("the engine on {listen} does not hold this store"), hint)
    };
    let waits: Vec<_> = ["source", "store", "engine"].into_iter().filter(|part| ready[*part] == false).collect();
    if ready["ready"] == false {
        let hint = "see its log: the source is not ready while NATS cannot be read";
        return vec![listener, Finding::failed("engine", format!("not ready: {}", waits.join(", ")), hint)];
    }
    let mut listener = vec![listener];
    if ready["degraded"] == true {
        let (problem, hint) = (ready["slack"]["problem"].as_str().unwrap_or("?"), ready["slack"]["hint"].as_str().unwrap_or("see its log"));
        let since = ready["slack"]["since"].as_str().unwrap_or("?");
        listener.push(Finding::failed("engine's slack", format!("people are not told since {since}: {problem}; what is to be told waits"), hint));
    }
    let status: Result<Value, Fault> = status.and_then(|(code, body)| match (code, serde_json::from_str(&body)) {
        (200, Ok(status)) => Ok(status),
        (401 | 403, _) => Err(Fault::new("ready; it tells nobody more without a token", "set STREAMGAUGE_TOKEN to one of its tokens")),
        _ => Err(Fault::new(format!("ready; its status could not be read (HTTP {code})"), "use the engine's own version")),
    });
    match status {
        Err(fault) => [listener, vec![Finding::warning("engine", fault.what(), fault.hint().unwrap_or("see its log"))]].concat(),
        Ok(status) => [listener, engine(&status)].concat(),
    }
}

/// What its status says, and what of it somebody should look at.
fn engine(status: &Value) -> Vec<Finding> {
    let count = |value: &Value| show::number(value.as_f64().unwrap_or_default());
    let version = status["version"].as_str().unwrap_or("?");
    let (position, lag) = (count(&status["position"]), count(&status["lag"]));
    let mut findings = vec![Finding::ok("engine", format!("ready, version {version}; at sequence {position}, {lag} behind"))];
    let mut warn = |seen: String, hint: &str| findings.push(Finding::warning("engine", seen, hint));
    if version != env!("CARGO_PKG_VERSION") {
        warn(format!("it is version {version}, and this command {}", env!("CARGO_PKG_VERSION")), "restart it to take up this one");
    }
    if status["missed"].as_u64() > Some(0) {
        warn(
            format!("{} logs were gone before they were read", count(&status["missed"])),
            "it is too slow for what comes, or the stream is too small: see nats.max_age and nats.max_bytes",
        );
    }
    if status["outbox"]["failed"].as_u64() > Some(0) {
        warn(format!("{} messages were given up", count(&status["outbox"]["failed"])), "its log says why each could not be delivered");
    }
    let files = status["rule_files"].as_array().into_iter().flatten();
    let broken: Vec<_> = files.filter(|file| !file["problem"].is_null()).filter_map(|file| file["file"].as_str()).collect();
    if !broken.is_empty() {
        warn(format!("rule files with mistakes: {}", broken.join(", ")), "streamgauge check says what is wrong with each");
    }
    if status["balances"] == false {
        findings.push(Finding::failed("engine", "its sums disagree: logs are counted twice or not at all", "please report this with its log"));
    }
    findings
}
