//! From keys to meaning: each key's default and range, the shape of names and addresses, and what must fit together.
//!
//! This is the one place where a default stands; `deploy/streamgauge.toml` tells users the same, and a test compares them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use model::FalseAlarms;

use super::errors::Fault;
use super::section::Section;
use super::tree::Node;
use super::values::{Secret, Size, ValueError, duration, render_duration};
use super::*;

/// The meaning of a whole tree: each key with its default and its range.
pub(super) fn read(root: &mut Section<'_>) -> Config {
    let mut config = Config {
        false_alarms: root.read("false_alarms", false_alarms).unwrap_or_default(),
        nats: root.section("nats", nats),
        store: root.section("store", |store| StoreConfig {
            path: store.path("path").unwrap_or_else(|| store.folder.join("streamgauge-data")),
            retention: store.read("retention", |node| time(node, HOUR..=3650 * DAY)).unwrap_or(7 * DAY),
            max_size: store.read("max_size", |node| size(node, Size::mib(64))).unwrap_or(Size::gib(20)),
        }),
        index: IndexConfig { retention: 7 * DAY, max_size: Size::gib(20) },
        rules: root.section("rules", |rules| {
            let usual = rules.folder.join("rules");
            let named = rules.path("path").filter(|named| *named != usual);
            RulesConfig {
                path_is_named: named.is_some(),
                path: named.unwrap_or(usual),
                library: rules.read("library", |node| node.list(word)).unwrap_or_else(|| vec!["basics".to_owned()]),
                constants: rules.read("constants", Node::tables).unwrap_or_default(),
            }
        }),
        slack: root.section("slack", slack),
        webhooks: root.named("webhooks", ways::webhook),
        alertmanager: root.section("alertmanager", ways::alertmanager),
        incidents: root.section("incidents", |incidents| IncidentsConfig {
            interval: incidents.read("interval", |node| time(node, SECOND..=HOUR)).unwrap_or(20 * SECOND),
            reopen: incidents.read("reopen", |node| time(node, SECOND..=DAY)).unwrap_or(15 * MINUTE),
            settle: incidents.read("settle", |node| time(node, SECOND..=DAY)).unwrap_or(5 * MINUTE),
        }),
        http: root.section("http", http),
        windows: root.section("windows", windows),
        environments: root.named("environments", |environment| {
            Some(EnvironmentConfig { channel: environment.read("channel", channel), notify: environment.read("notify", Node::bool).unwrap_or(true) })
        }),
        schemas: root.named("schemas", |schema| {
            let (folder, file) = (schema.folder.to_owned(), schema.path("file"));
            let json = schema.read("schema", inline);
            if file.is_some() && json.is_some() {
                schema.refuse(&["file", "schema"], Fault::new("has two schemas, `file` and `schema`", "keep one of them"));
            }
            let text = file.map(SchemaText::File).or(json.map(|json| SchemaText::Inline { json, folder }));
            let applies = schema.read("applies", Node::texts).unwrap_or_default();
            let accept_fenced = schema.read("accept_fenced", Node::bool).unwrap_or(false);
            if text.is_none() && applies.is_empty() && !accept_fenced {
                schema.refuse(
                    &[],
                    Fault::new("asks for nothing", "give it a `file` or a `schema`, or say which calls must answer JSON with `applies`"),
                );
            }
            Some(SchemaConfig { schema: text, applies, accept_fenced })
        }),
        objectives: root.named("objectives", |objective| {
            let applies = objective.read("applies", Node::texts).unwrap_or_default();
            let latency = objective.read("latency", |node| time(node, Duration::from_millis(1)..=HOUR));
            if latency.is_none() {
                objective.refuse(&[], Fault::new("needs `latency`", "say when an operation is slow, such as latency = \"2s\""));
            }
            Some(ObjectiveConfig { latency: latency?, applies })
        }),
        evaluators: root.section("evaluators", |evaluators| EvaluatorsConfig {
            path: evaluators.path("path").unwrap_or_else(|| evaluators.folder.join("evaluators")),
            library: evaluators.read("library", |node| node.list(word)).unwrap_or_default(),
        }),
        judges: judges::judges(root),
        prices: prices::prices(root),
        redact: root
            .section("redact", |redact| RedactConfig { patterns: redact.read("patterns", |node| node.list(judges::pattern)).unwrap_or_default() }),
        access: AccessConfig::default(),
    };
    let kept = config.store.retention;
    config.index = root.section("index", |index| IndexConfig {
        retention: index.read("retention", |node| time(node, HOUR..=3650 * DAY)).unwrap_or(kept),
        max_size: index.read("max_size", |node| size(node, Size::mib(64))).unwrap_or(Size::gib(20)),
    });
    config.access = root.section("access", |section| access::access(section, config.http.listen));
    root.not_yet(&["keep", "sampling"]);
    config
}

fn false_alarms(node: &Node) -> Result<FalseAlarms, Fault> {
    let text = node.text()?;
    FalseAlarms::parse(text).map_err(|error| Fault::new(error.to_string(), FalseAlarms::HINT))
}

/// A schema that stands in the configuration: a table, or a text that holds JSON.
fn inline(node: &Node) -> Result<String, Fault> {
    if node.is_table() {
        return Ok(node.json()?.to_string());
    }
    let text = node.text().map_err(|fault| fault.with_hint("write a table such as { type = \"object\" }, or JSON in quotes"))?;
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Fault::new(format!("must be a JSON Schema: {error}"), "a schema in a file of its own is given as `file`")),
    }
}

fn nats(nats: &mut Section<'_>) -> NatsConfig {
    let url = nats.read("url", |node| url(node, &["nats", "tls"])).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let delivery = nats.read("delivery", delivery).unwrap_or(Delivery::JetStream);
    let stream = nats.read("stream", stream_name).unwrap_or_else(|| "LLM_CALLS".to_owned());
    let subjects = nats.read("subjects", subjects).unwrap_or_else(|| vec!["llm.calls.>".to_owned()]);
    let credentials = nats.path("credentials");
    let (user, password, token) = (nats.secret("user"), nats.secret("password"), nats.secret("token"));
    let auth = match (credentials, user, password, token) {
        (None, None, None, None) => NatsAuth::Anonymous,
        (Some(file), None, None, None) => NatsAuth::Credentials(file),
        (None, Some(user), Some(password), None) => NatsAuth::Password { user, password },
        (None, None, None, Some(token)) => NatsAuth::Token(token),
        _ => {
            let what = "must sign in one way: `credentials`, `user` with `password`, or `token`";
            nats.refuse(&["credentials", "user", "password", "token"], Fault::new(what, "keep the keys of one way, and remove the others"));
            NatsAuth::Anonymous
        }
    };
    let tls = nats.section("tls", |tls| {
        let ca = tls.path("ca");
        let identity = match (tls.path("cert"), tls.path("key")) {
            (Some(cert), Some(key)) => Some(TlsIdentity { cert, key }),
            (None, None) => None,
            _ => {
                tls.refuse(&["cert", "key"], Fault::new("must have `cert` and `key` together", "add the other one, or remove both"));
                None
            }
        };
        NatsTls { ca, identity, required: tls.read("required", Node::bool).unwrap_or(false) }
    });
    NatsConfig {
        url,
        delivery,
        stream,
        subjects,
        auth,
        tls,
        max_age: nats.read("max_age", |node| time(node, MINUTE..=3650 * DAY)).unwrap_or(7 * DAY),
        max_bytes: nats.read("max_bytes", |node| size(node, Size::mib(1))).unwrap_or(Size::gib(20)),
        // Five is the server's own limit.
        replicas: nats.read("replicas", |node| whole(node, 1..=5)).unwrap_or(1),
    }
}

fn delivery(node: &Node) -> Result<Delivery, Fault> {
    let text = node.text()?;
    [Delivery::JetStream, Delivery::Core].into_iter().find(|delivery| delivery.name() == text).ok_or_else(|| {
        let hint = "`jetstream` counts every call once; `core` needs no stream, and loses what is published while the engine is down or slow";
        Fault::new(format!("must be `jetstream` or `core`, not `{text}`"), hint)
    })
}

fn slack(slack: &mut Section<'_>) -> SlackConfig {
    SlackConfig {
        bot_token: slack.secret("bot_token").unwrap_or_else(|| Secret::Env("SLACK_BOT_TOKEN".to_owned())),
        app_token: slack.secret("app_token").unwrap_or_else(|| Secret::Env("SLACK_APP_TOKEN".to_owned())),
        signing_secret: slack.secret("signing_secret").unwrap_or_else(|| Secret::Env("SLACK_SIGNING_SECRET".to_owned())),
        operators: slack.read("operators", |node| node.list(operator)).unwrap_or_default(),
        api_url: slack.read("api_url", |node| url(node, &["https", "http"])).unwrap_or_else(|| "https://slack.com/api".to_owned()),
        channel: slack.read("channel", channel).unwrap_or_else(|| "#llm-alerts".to_owned()),
        fallback_channel: slack.read("fallback_channel", channel),
        // What a channel has not taken for an hour is not a burst; whoever is on call for it should know by then.
        give_up_after: slack.read("give_up_after", |node| time(node, MINUTE..=DAY)).unwrap_or(HOUR),
        timeout: slack.read("timeout", |node| time(node, SECOND..=MINUTE)).unwrap_or(10 * SECOND),
        look_back: slack.read("look_back", Node::bool).unwrap_or(false),
    }
}

/// Names change hands, ids do not.
fn operator(node: &Node) -> Result<String, Fault> {
    let id = node.text()?;
    if id.starts_with(['U', 'W', 'S']) && id.len() > 2 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Ok(id.to_owned());
    }
    let hint = "ids such as \"U0123ABCD\" (a profile's menu copies the member's) or \"S0123ABCD\" (of a user group)";
    Err(Fault::new(format!("must hold ids of people or user groups, not `{id}`"), hint))
}

fn http(http: &mut Section<'_>) -> HttpConfig {
    let listen = http.read("listen", listen).unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8470)));
    // "Every interface" is nowhere a browser can go.
    let host = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let public_url = http.read("public_url", |node| url(node, &["https", "http"]));
    HttpConfig { listen, public_url: public_url.unwrap_or_else(|| format!("http://{}", SocketAddr::new(host, listen.port()))) }
}

fn windows(windows: &mut Section<'_>) -> WindowsConfig {
    let slice = windows.read("slice", slice).unwrap_or(5 * SECOND);
    let lateness = windows.read("lateness", |node| time(node, Duration::ZERO..=10 * MINUTE)).unwrap_or(30 * SECOND);
    if !lateness.as_millis().is_multiple_of(slice.as_millis()) {
        let what = format!("must have a `lateness` in whole slices of {}, not {}", render_duration(slice), render_duration(lateness));
        windows.refuse(&["slice", "lateness"], Fault::new(what, format!("try lateness = \"{}\"", render_duration(slice * 6))));
    }
    let series_max = windows.read("series_max", |node| whole(node, 100..=1_000_000)).unwrap_or(20_000);
    WindowsConfig { slice, lateness, series_max }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn misread(error: &ValueError) -> Fault {
    Fault::new(format!("cannot be read: {error}"), error.hint())
}

pub(super) fn time(node: &Node, range: RangeInclusive<Duration>) -> Result<Duration, Fault> {
    let span = duration(node.text().map_err(|fault| fault.with_hint("durations are text with a unit, such as \"30s\""))?)
        .map_err(|error| misread(&error))?;
    if range.contains(&span) {
        return Ok(span);
    }
    let (least, most) = (render_duration(*range.start()), render_duration(*range.end()));
    Err(Fault::new(format!("is out of range: {}", render_duration(span)), format!("from {least} to {most}")))
}

fn slice(node: &Node) -> Result<Duration, Fault> {
    let slice = time(node, Duration::ZERO..=Duration::MAX)?;
    if [1, 2, 5, 10].contains(&slice.as_secs()) && slice.subsec_nanos() == 0 {
        return Ok(slice);
    }
    Err(Fault::new(format!("must divide the 10s tick of drift detection, which {} does not", render_duration(slice)), "one of 1s, 2s, 5s, 10s"))
}

fn size(node: &Node, least: Size) -> Result<Size, Fault> {
    let size: Size =
        node.text().map_err(|fault| fault.with_hint("sizes are text with a unit, such as \"20 GiB\""))?.parse().map_err(|error| misread(&error))?;
    // JetStream, and SQLite after it, count bytes in i64.
    let most = Size::gib(1 << 30);
    if (least..=most).contains(&size) { Ok(size) } else { Err(Fault::new(format!("is out of range: {size}"), format!("from {least} to {most}"))) }
}

pub(super) fn whole(node: &Node, range: RangeInclusive<usize>) -> Result<usize, Fault> {
    let number = node.whole()?;
    match usize::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Fault::new(format!("is out of range: {number}"), format!("from {} to {}", range.start(), range.end()))),
    }
}

pub(super) fn word(node: &Node) -> Result<String, Fault> {
    let word = node.text()?;
    if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        return Ok(word.to_owned());
    }
    Err(Fault::new(format!("has a name that cannot be: `{word}`"), "names are letters, digits, - and _, such as \"basics\""))
}

/// The scheme and a host; the rest is the client's business. One that signs in is not repeated, for it holds a password.
pub(super) fn url(node: &Node, schemes: &[&str]) -> Result<String, Fault> {
    let text = node.text()?.trim_end_matches('/');
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.split('/').next().unwrap_or_default();
    if text.contains('@') {
        return Err(Fault::new(
            "holds a user or a password, which would be printed in logs",
            "remove the part before @; NATS has nats.user, nats.password and nats.token",
        ));
    }
    let starts: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
    if schemes.contains(&scheme) && !host.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == ',') {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("must be one address that starts with {}, not `{text}`", starts.join(" or ")), format!("such as {}host:port", starts[0])))
}

fn listen(node: &Node) -> Result<SocketAddr, Fault> {
    let text = node.text()?;
    let hint = "an IP address and a port, such as \"127.0.0.1:8470\", \"0.0.0.0:8470\" or \"[::1]:8470\"";
    text.parse().map_err(|_| Fault::new(format!("must be an address to listen on, not `{text}`"), hint))
}

fn channel(node: &Node) -> Result<String, Fault> {
    let text = node.text()?;
    let name =
        |name: &str| (1..=80).contains(&name.chars().count()) && name.chars().all(|c| c.is_alphanumeric() && !c.is_uppercase() || "-_".contains(c));
    let id = |id: &str| id.len() > 2 && id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    if text.strip_prefix('#').is_some_and(name) || text.starts_with(['C', 'D', 'G']) && id(text) {
        return Ok(text.to_owned());
    }
    let hint = "\"#name\" in lower case without spaces, or a channel's id such as \"C0123ABCD\"";
    Err(Fault::new(format!("must be a Slack channel, not `{text}`"), hint))
}

fn stream_name(node: &Node) -> Result<String, Fault> {
    let text = node.text()?;
    if (1..=255).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c)) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("must be the name of a JetStream stream, not `{text}`"), "no spaces, dots, slashes, * or >, such as \"LLM_CALLS\""))
}

fn subjects(node: &Node) -> Result<Vec<String>, Fault> {
    // A stream that took these would feed our own output back to us.
    const OURS: [&str; 5] =
        ["streamgauge.alerts.>", "streamgauge.incidents.>", "streamgauge.dead", "streamgauge.datasets.>", "streamgauge.verdicts.>"];
    let subjects = node.list(|node| {
        let subject = node.text()?;
        let token = |(at, token): (usize, &str)| match token {
            "" => false,
            "*" => true,
            ">" => at == subject.split('.').count() - 1,
            token => !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c)),
        };
        if !subject.split('.').enumerate().all(token) {
            return Err(Fault::new(
                format!("has no NATS subject in `{subject}`"),
                "words joined by dots, * for one word, > for the rest, such as \"llm.calls.>\"",
            ));
        }
        match OURS.iter().find(|ours| overlap(subject, ours)) {
            Some(ours) => Err(Fault::new(
                format!("would take in our own output: `{subject}` overlaps `{ours}`"),
                "use a narrower subject, such as \"llm.calls.>\"",
            )),
            None => Ok(subject.to_owned()),
        }
    })?;
    if subjects.is_empty() {
        return Err(Fault::new("must not be empty", "say where calls are published, such as [\"llm.calls.>\"]"));
    }
    let mut pairs = subjects.iter().enumerate().flat_map(|(at, a)| subjects[..at].iter().map(move |b| (b, a)));
    match pairs.find(|(a, b)| overlap(a, b)) {
        Some((a, b)) => Err(Fault::new(format!("must not overlap, for NATS refuses such a stream: `{a}` and `{b}`"), "keep the wider one")),
        None => Ok(subjects),
    }
}

/// Whether one subject could match both patterns.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(x), Some(y)) if x == y || x == "*" || y == "*" => {}
            _ => return false,
        }
    }
}
