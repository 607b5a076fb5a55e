//! The configuration, as meant: parsed once, at start, from `streamgauge.toml`, the environment and `--set`.
//!
//! Inside the engine these types hold the truth and nobody checks again. In `config/`: `read.rs` (defaults, ranges and
//! meaning of every key; those of judges in `judges.rs`, of prices in `prices.rs`, of access in `access.rs`, of webhooks and Alertmanager in `ways.rs`), `section.rs` (key by key, all problems at once), `tree.rs` (file and overrides in layers),
//! `errors.rs` (places and problems) and `values.rs` (durations, sizes, secrets).
//! Not here: opening what the configuration points at (schemas, rules, NATS), and reading secrets before they are needed.

mod access;
pub(crate) mod errors;
pub(crate) mod judges;
mod prices;
mod read;
pub(crate) mod section;
pub(crate) mod tree;
mod values;
mod ways;

use crate::prices::Price;
use model::FalseAlarms;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use access::{AccessConfig, May, ProxyConfig, TokenConfig};
pub use errors::{ConfigError, ConfigErrors, Place};
pub use judges::{Api, JudgeConfig, JudgeFrom, SpendConfig};
pub(crate) use read::overlap;
use section::Section;
use tree::Node;
pub use values::{Secret, SecretError, Sensitive, Size, ValueError, duration, render_duration};
pub use ways::{AlertmanagerAuth, AlertmanagerConfig, Concern, WebhookConfig};

/// Everything a user may set. `Default` is an empty file in the working directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// For everything that drifts, over all rules and groups.
    pub false_alarms: FalseAlarms,
    pub nats: NatsConfig,
    pub store: StoreConfig,
    pub index: IndexConfig,
    pub rules: RulesConfig,
    pub slack: SlackConfig,
    /// By the name that the log shows.
    pub webhooks: BTreeMap<String, WebhookConfig>,
    pub alertmanager: AlertmanagerConfig,
    pub incidents: IncidentsConfig,
    pub http: HttpConfig,
    pub windows: WindowsConfig,
    /// By the calls' `environment`; one that is not here has the defaults.
    pub environments: BTreeMap<String, EnvironmentConfig>,
    pub schemas: BTreeMap<String, SchemaConfig>,
    pub objectives: BTreeMap<String, ObjectiveConfig>,
    pub evaluators: EvaluatorsConfig,
    pub judges: BTreeMap<String, JudgeConfig>,
    /// By model or `provider/model`, instead of or beside the list that we ship.
    pub prices: BTreeMap<String, Price>,
    pub redact: RedactConfig,
    pub access: AccessConfig,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NatsConfig {
    /// `nats://` or `tls://`, without a user: that is in `auth`.
    pub url: String,
    /// Whether the server keeps the calls.
    pub delivery: Delivery,
    pub stream: String,
    /// At least one; they neither overlap each other nor what we publish ourselves.
    pub subjects: Vec<String>,
    pub auth: NatsAuth,
    pub tls: NatsTls,
    /// `max_age`, `max_bytes` and `replicas` are for the stream when we make it; one that exists stays as it is.
    pub max_age: Duration,
    pub max_bytes: Size,
    pub replicas: usize,
}

/// What the server does with calls before we read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It keeps them in a stream: each is counted once.
    JetStream,
    /// It hands them on to whoever listens at the moment: each is counted at most once.
    Core,
}

impl Delivery {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::JetStream => "jetstream",
            Self::Core => "core",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum NatsAuth {
    Anonymous,
    /// A `.creds` file.
    Credentials(PathBuf),
    Password {
        user: Secret,
        password: Secret,
    },
    Token(Secret),
}

#[derive(Debug, Clone, PartialEq)]
pub struct NatsTls {
    /// PEM roots beside the system's.
    pub ca: Option<PathBuf>,
    pub identity: Option<TlsIdentity>,
    /// Refuse a server without TLS; a `tls://` url implies it.
    pub required: bool,
}

/// A client certificate with its private key, both PEM.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsIdentity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StoreConfig {
    pub path: PathBuf,
    pub retention: Duration,
    pub max_size: Size,
}

/// The index of calls, in the folder `index` of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexConfig {
    /// Back from the latest call, by the calls' own time. Follows `store.retention` unless it is set.
    pub retention: Duration,
    pub max_size: Size,
}

/// What nobody is to read in payloads that are shown or exported.
#[derive(Debug, Clone, PartialEq)]
pub struct RedactConfig {
    /// Names of patterns that we ship, or regular expressions; whether one compiles is known where they are used.
    pub patterns: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RulesConfig {
    /// The user's own rules.
    pub path: PathBuf,
    /// Whether the folder must be there: it is another than where rules are looked for by default.
    pub path_is_named: bool,
    /// Packs or single rules that we ship, by name; whether a name exists is known to the rules, not here.
    pub library: Vec<String>,
    /// By rule: its constants with other values, as the rule language writes them.
    pub constants: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SlackConfig {
    /// When it resolves to nothing, the engine runs without Slack and says so.
    pub bot_token: Secret,
    /// For Socket Mode; when it resolves to nothing, there is none.
    pub app_token: Secret,
    /// Of requests that Slack makes to the listener; when it resolves to nothing, none are taken.
    pub signing_secret: Secret,
    /// Ids of people and of user groups who may change something from Slack. Empty: every member may acknowledge and silence, and nobody may do what a
    /// rule proposes.
    pub operators: Vec<String>,
    /// Without a slash at the end.
    pub api_url: String,
    /// `#name` or an id, as everywhere.
    pub channel: String,
    /// Where people are told what their own channel does not take.
    pub fallback_channel: Option<String>,
    /// How long a channel is tried before the fallback is told.
    pub give_up_after: Duration,
    pub timeout: Duration,
    /// Whether to read a channel where it is not known whether a message arrived; needs the scope `channels:history`.
    pub look_back: bool,
}

/// How people are told of what belongs together.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentsConfig {
    /// Between two updates for nothing but growth.
    pub interval: Duration,
    /// What comes back within this is the same incident.
    pub reopen: Duration,
    /// How long one that came back more than once must be quiet before its end is told.
    pub settle: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What links in Slack begin with, without a slash at the end. Follows `listen` unless it is set.
    pub public_url: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WindowsConfig {
    /// Divides the 10 s tick.
    pub slice: Duration,
    /// A multiple of `slice`.
    pub lateness: Duration,
    pub series_max: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentConfig {
    /// Instead of `slack.channel`.
    pub channel: Option<String>,
    pub notify: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SchemaConfig {
    /// Without one, answers need only be JSON.
    pub schema: Option<SchemaText>,
    /// Field to value, all of them equal; empty: only the calls that name this schema.
    pub applies: BTreeMap<String, String>,
    pub accept_fenced: bool,
}

/// Where the text of a schema is.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaText {
    File(PathBuf),
    /// JSON, written in the configuration; its references lead into the folder.
    Inline {
        json: String,
        folder: PathBuf,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveConfig {
    /// An operation that takes longer is `slow`.
    pub latency: Duration,
    /// Field to value, all of them equal; empty: every operation.
    pub applies: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatorsConfig {
    /// The user's own code evaluators; the folder need not exist.
    pub path: PathBuf,
    /// Those that we ship, by name; whether a name exists is known to the evaluators, not here.
    pub library: Vec<String>,
}

impl Config {
    /// Reads `path`, or `./streamgauge.toml` when there is no `path` but that file, and lays `environment` and then `sets` over it.
    ///
    /// Of `environment` only `STREAMGAUGE__SECTION__KEY` counts; `sets` are `section.key=value`, the last of a key wins.
    /// Relative paths in the file start at its folder, those in overrides at the working directory.
    /// Errors: every problem found, or, where the file is not TOML, its mistakes of syntax. Secrets are not read.
    pub fn load(path: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>, sets: &[String]) -> Result<Self, ConfigErrors> {
        let beside = Path::new("streamgauge.toml");
        let Some(path) = path.or_else(|| beside.exists().then_some(beside)) else {
            return Self::assemble(Node::empty(Place::Defaults), Path::new(""), environment, sets);
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|why| {
            let hint = "check the path after --config; every key has a default, so the file may be left out".to_owned();
            ConfigErrors::new(vec![ConfigError { place: Place::WholeFile(name.as_str().into()), what: format!("cannot read it: {why}"), hint }])
        })?;
        Self::assemble(Node::parse(&name, &text)?, path.parent().unwrap_or(Path::new("")), environment, sets)
    }

    /// What rules are told of the configuration.
    pub fn for_rules(&self) -> rules::Configured {
        rules::Configured { constants: self.rules.constants.clone(), webhooks: self.webhooks.keys().cloned().collect() }
    }

    fn assemble(
        mut tree: Node,
        folder: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut set = |place: Place, path: &str, separator: &str, value: Option<&str>| {
            let keys: Vec<String> = path.split(separator).map(ToOwned::to_owned).collect();
            match value {
                // The deepest key that exists has four parts.
                Some(value) if keys.len() <= 8 && keys.iter().all(|key| !key.is_empty()) => tree.set(&keys, &place, value),
                _ => errors.push(ConfigError {
                    place,
                    what: "is not an override".to_owned(),
                    hint: "write --set section.key=value or STREAMGAUGE__SECTION__KEY=value".to_owned(),
                }),
            }
        };
        // In order of names, so that a whole section comes before its keys whatever the order of the environment.
        for (name, value) in environment.into_iter().collect::<BTreeMap<_, _>>() {
            if let Some(path) = name.strip_prefix("STREAMGAUGE__") {
                set(Place::Variable(name.clone()), &path.to_ascii_lowercase(), "__", Some(&value));
            }
        }
        for text in sets {
            let (key, value) = text.split_once('=').map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
            // Without `=` there may be a secret in it, after a space or a colon; we show what can be a key, no more.
            let shown = key.split(|c: char| !c.is_alphanumeric() && !"._-".contains(c)).next().unwrap_or_default();
            set(Place::Flag(shown.to_owned()), key, ".", value);
        }
        match Section::root(tree, folder, read::read) {
            Ok(config) if errors.is_empty() => Ok(config),
            Ok(_) => Err(ConfigErrors::new(errors)),
            Err(more) => Err(ConfigErrors::new([errors.as_slice(), more.as_slice()].concat())),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::assemble(Node::empty(Place::Defaults), Path::new(""), [], &[]).expect("the defaults are within their own ranges; a test reads them")
    }
}

#[cfg(test)]
mod tests;
