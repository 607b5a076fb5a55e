//! A nats-server of a test's own: free port, own folder, ended with the test.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub struct Nats {
    pub url: String,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
    process: Option<Child>,
}

impl Nats {
    pub async fn start() -> Self {
        Self::start_with(&["-js"]).await
    }

    /// A server with these options of nats-server.
    pub async fn start_with(options: &[&str]) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut nats = Self { url: format!("nats://127.0.0.1:{port}"), port, options, folder, process: None };
        nats.spawn().await;
        nats
    }

    async fn spawn(&mut self) {
        let child = Command::new(binary())
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nats-server starts");
        self.process = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        // A refused sign-in is an answer too.
        while async_nats::connect(&self.url).await.is_err_and(|error| error.kind() != async_nats::ConnectErrorKind::AuthorizationViolation) {
            assert!(Instant::now() < deadline, "nats-server does not answer on {}", self.url);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the server and starts it again on the same port and folder.
    pub async fn restart(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().await.expect("the server can be killed");
        }
        self.spawn().await;
    }

    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(&self.url).await.expect("the server was just reached")
    }
}

/// `STREAMGAUGE_NATS_SERVER`, else the one on PATH.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("STREAMGAUGE_NATS_SERVER") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file())
        .expect("these tests need nats-server: run deploy/test, or put one on PATH, or name one in STREAMGAUGE_NATS_SERVER")
}
