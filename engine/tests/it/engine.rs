//! The binary under test as a process, and what can be asked of it over HTTP.

use crate::nats::Nats;
use serde_json::Value;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How an engine is to be started; it can be started again and again on the same store.
pub struct Setup {
    pub store: PathBuf,
    pub folder: TempDir,
    pub http: String,
    sets: Vec<String>,
    envs: Vec<(String, String)>,
    args: Vec<String>,
}

pub struct Engine {
    pub http: String,
    process: Child,
}

impl Setup {
    /// An engine on `nats`, with a store and a free port of its own, no user rules, and Slack off.
    pub fn new(nats: &Nats) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let store = folder.path().join("store");
        let rules = folder.path().join("rules");
        std::fs::create_dir_all(&rules).expect("the rules' folder");
        let mut setup =
            Self { store: store.clone(), http: format!("127.0.0.1:{port}"), folder, sets: Vec::new(), envs: Vec::new(), args: Vec::new() };
        setup = setup.set("nats.url", &nats.url).set("http.listen", &format!("127.0.0.1:{port}"));
        let (store, rules) = (store.display().to_string(), rules.display().to_string());
        // Three rules that say nothing of healthy calls, slow ones and silence; a test of others names them.
        let setup = setup.set("rules.library", r#"["fallback-rate", "invalid-json-rate", "retry-rate"]"#);
        setup.set("store.path", &store).set("rules.path", &rules)
    }

    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.sets.push(format!("{key}={value}"));
        self
    }

    /// Posts to the Slack counterpart at `api_url`, with a token it knows.
    pub fn slack(mut self, api_url: &str) -> Self {
        self.envs.push(("SLACK_BOT_TOKEN".into(), "xoxb-test".into()));
        self.set("slack.api_url", api_url)
    }

    /// A variable of the engine's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// A further argument of `run`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Without what [`Self::arg`] added.
    pub fn without_args(mut self) -> Self {
        self.args.clear();
        self
    }

    /// A rule file of the user's.
    pub fn rule(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join("rules").join(name), text).expect("the rule is written");
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
        for secret in ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"] {
            command.env_remove(secret);
        }
        command.current_dir(self.folder.path()).envs(self.envs.iter().cloned()).kill_on_drop(true);
        for set in &self.sets {
            command.arg("--set").arg(set);
        }
        command
    }

    /// Starts `run` without waiting for anything; its log goes to the folder's `log` (appended).
    pub fn spawn(&self) -> Engine {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the log opens");
        let process =
            self.command().arg("run").args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the engine starts");
        Engine { http: self.http.clone(), process }
    }

    /// Starts `run` and waits until it is ready.
    pub async fn start(&self) -> Engine {
        let mut engine = self.spawn();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok((200, _)) = get(&engine.http, "/readyz").await {
                return engine;
            }
            if let Some(status) = engine.process.try_wait().expect("the process can be asked") {
                panic!("the engine ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the engine is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs another command of the binary to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().await.expect("the command runs")
    }

    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

impl Engine {
    /// SIGKILL, as a crash would.
    pub async fn kill(mut self) {
        self.process.kill().await.expect("the engine can be killed");
    }

    /// Sends a signal by its name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.process.id().expect("the engine runs").to_string();
        std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill runs");
        // A thread that is at work stops a moment later.
        let begun = Instant::now();
        while name == "STOP" && !all_stopped(&id) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not stop");
            std::thread::yield_now();
        }
    }

    /// SIGTERM, and the exit status of the drained engine.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        tokio::time::timeout(Duration::from_secs(60), self.process.wait())
            .await
            .expect("the engine stops within a minute")
            .expect("it can be waited for")
    }

    /// Waits until the process ends by itself.
    pub async fn ended(mut self) -> ExitStatus {
        tokio::time::timeout(Duration::from_secs(120), self.process.wait())
            .await
            .expect("the engine ends within two minutes")
            .expect("it can be waited for")
    }

    /// The JSON at `path`; the status must be 200.
    pub async fn json(&self, path: &str) -> Value {
        let (status, body) = get(&self.http, path).await.expect("the engine answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("the answer is JSON")
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        get(&self.http, path).await.expect("the engine answers")
    }

    pub async fn status(&self) -> Value {
        self.json("/api/v1/status").await
    }

    /// Asks for the status until `enough` says so.
    pub async fn until(&self, what: &str, patience: Duration, enough: impl Fn(&Value) -> bool) -> Value {
        until(what, patience, || self.status(), enough).await
    }
}

/// Whether every thread of a process stands still; true where the system does not say.
fn all_stopped(process: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    // The state follows the name, which is in parentheses.
    let stands = |stat: String| stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'));
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok()).all(stands)
}

/// Asks again and again until `enough` says so of the answer.
pub async fn until<T: Display>(what: &str, patience: Duration, ask: impl AsyncFn() -> T, enough: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + patience;
    loop {
        let answer = ask().await;
        if enough(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}; the last answer: {answer:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers, as they came.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        let named = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    }
}

/// Status and body of [`answer`].
pub async fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    answer(address, path).await.map(|answer| (answer.status, answer.body))
}

/// A GET over a connection of its own.
pub async fn answer(address: &str, path: &str) -> std::io::Result<Answer> {
    ask(address, "GET", path, "").await
}

/// A request without a body over a connection of its own; `headers` end with a line break.
pub async fn ask(address: &str, method: &str, path: &str, headers: &str) -> std::io::Result<Answer> {
    let answer = send(address, method, path, &format!("Host: {address}\r\n{headers}"), "").await?;
    as_documented(method, path, &answer);
    Ok(answer)
}

/// Whatever is JSON is as the document says; what is not there at all is refused as every route refuses.
pub fn as_documented(method: &str, path: &str, answer: &Answer) {
    static DOCUMENT: std::sync::LazyLock<Value> = std::sync::LazyLock::new(streamgauge::http::openapi::document);
    let media = answer.header("content-type").split(';').next().unwrap_or_default();
    if !media.ends_with("json") {
        return;
    }
    let known = streamgauge::http::openapi::schema_of(&DOCUMENT, method, path, answer.status, media);
    let schema = match known {
        Some(schema) => schema,
        None if matches!(answer.status, 401 | 404 | 405) => {
            serde_json::json!({ "$ref": "#/components/schemas/Problem", "components": DOCUMENT["components"] })
        }
        None => panic!("{method} {path}: the document knows no {} with {media}: {}", answer.status, answer.body),
    };
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", answer.body));
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema of the document");
    let errors: Vec<_> = schema.iter_errors(&body).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(errors.is_empty(), "{method} {path} is not as the document says: {errors:#?}\n{body:#}");
}

/// A request over a connection of its own, as it is; `headers` end with a line break.
pub async fn send(address: &str, method: &str, path: &str, headers: &str, sent: &str) -> std::io::Result<Answer> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let length = sent.len();
    let request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{sent}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let broken = || std::io::Error::other("not an HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(Answer { status, head: head.to_owned(), body: if chunked { unchunk(body) } else { body.to_owned() } })
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        text.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    text
}
