//! A browser as a person uses it: headless Chromium, driven by its DevTools protocol over a websocket.
//!
//! It goes to pages, clicks where a link is, types, and reads what is shown; it keeps every problem that the console would show and every address that was
//! asked for. Deliberately absent: what should be there, which tests say, and other browsers.

use base64::Engine as _;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Browser {
    socket: WebSocketStream<TcpStream>,
    session: String,
    asked: u64,
    /// Pages that were loaded to their end.
    loaded: u64,
    /// Errors of scripts, and whatever else the console shows as one.
    pub problems: Vec<String>,
    /// Every address that was asked for.
    pub requests: Vec<String>,
    _process: Child,
    _profile: TempDir,
}

/// `STREAMGAUGE_CHROMIUM`, else a Chromium on PATH; `None` where there is none.
fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("STREAMGAUGE_CHROMIUM") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "STREAMGAUGE_CHROMIUM names no file: {}", path.display());
        return Some(path);
    }
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

impl Browser {
    /// With one empty page, `width` × `height`; `None` where no browser is installed.
    pub async fn start(width: u32, height: u32) -> Option<Self> {
        let binary = binary()?;
        let profile = tempfile::tempdir().expect("a temporary folder");
        let process = Command::new(&binary)
            // Without a sandbox of its own, because tests run in containers, as root too; it is shown our own pages alone.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
        let (port, path) = listening(profile.path()).await;
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the browser listens there");
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://127.0.0.1:{port}{path}"), stream).await.expect("a websocket");
        let mut browser = Self {
            socket,
            session: String::new(),
            asked: 0,
            loaded: 0,
            problems: Vec::new(),
            requests: Vec::new(),
            _process: process,
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" })).await["targetId"].clone();
        let attached = browser.ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for part in ["Page.enable", "Runtime.enable", "Network.enable", "Log.enable"] {
            browser.ask(part, json!({})).await;
        }
        browser.resize(width, height).await;
        Some(browser)
    }

    pub async fn resize(&mut self, width: u32, height: u32) {
        self.ask("Emulation.setDeviceMetricsOverride", json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false })).await;
    }

    /// Asks the browser something, and takes note of what it tells meanwhile.
    async fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).await.expect("the browser is there");
        loop {
            let told = self.next(method).await;
            if told["id"] == id {
                assert!(told["error"].is_null(), "{method}: {}", told["error"]);
                return told["result"].clone();
            }
        }
    }

    /// The next thing that the browser says; events are noted.
    async fn next(&mut self, waiting_for: &str) -> Value {
        let said = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        let said = said.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {waiting_for}")).expect("the browser goes on").expect("a message");
        let told: Value = serde_json::from_str(said.to_text().unwrap_or("null")).expect("the protocol is JSON");
        let about = &told["params"];
        match told["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => self.loaded += 1,
            "Network.requestWillBeSent" => self.requests.push(about["request"]["url"].as_str().unwrap_or_default().to_owned()),
            "Runtime.exceptionThrown" => self.problems.push(about["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if about["type"] == "error" => self.problems.push(about["args"].to_string()),
            "Log.entryAdded" if about["entry"]["level"] == "error" => {
                self.problems.push(format!("{} {}", about["entry"]["text"].as_str().unwrap_or_default(), about["entry"]["url"]));
            }
            _ => {}
        }
        told
    }

    async fn until_loaded(&mut self, before: u64) {
        while self.loaded == before {
            self.next("a page to load").await;
        }
    }

    pub async fn go(&mut self, address: &str) {
        let before = self.loaded;
        let went = self.ask("Page.navigate", json!({ "url": address })).await;
        assert!(went["errorText"].is_null(), "{address}: {}", went["errorText"]);
        self.until_loaded(before).await;
    }

    /// What `expression` is on the page.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let answer = self.ask("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true, "awaitPromise": true })).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The text that is shown of the first element of `selector`.
    pub async fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.innerText", json!(selector))).await;
        match text.as_str() {
            Some(text) => text.to_owned(),
            None => panic!("there is no {selector} at {}:\n{}", self.address().await, self.eval("document.body.innerText").await),
        }
    }

    /// Of all elements of `selector`.
    pub async fn texts(&mut self, selector: &str) -> Vec<String> {
        let texts = self.eval(&format!("[...document.querySelectorAll({})].map(each => each.innerText)", json!(selector))).await;
        texts.as_array().expect("a list").iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
    }

    pub async fn address(&mut self) -> String {
        self.eval("location.href").await.as_str().expect("an address").to_owned()
    }

    /// A click with the mouse in the middle of the first element of `selector`.
    pub async fn click(&mut self, selector: &str) {
        let place = format!(
            "(() => {{ const it = document.querySelector({}); if (!it) return null; it.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
             const box = it.getClientRects()[0]; return {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }}; }})()",
            json!(selector)
        );
        let place = self.eval(&place).await;
        assert!(place.is_object(), "there is no {selector} to click at {}", self.address().await);
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            self.ask("Input.dispatchMouseEvent", json!({ "type": kind, "x": place["x"], "y": place["y"], "button": button, "clickCount": 1 })).await;
        }
    }

    /// The same of a link to another page, which is waited for.
    pub async fn follow(&mut self, selector: &str) {
        let before = self.loaded;
        self.click(selector).await;
        self.until_loaded(before).await;
    }

    /// Types `text` into a field, in place of what is there, and sends its form.
    pub async fn enter(&mut self, selector: &str, text: &str) {
        self.eval(&format!("document.querySelector({}).select()", json!(selector))).await;
        self.ask("Input.insertText", json!({ "text": text })).await;
        let before = self.loaded;
        for kind in ["keyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" });
            self.ask("Input.dispatchKeyEvent", key).await;
        }
        self.until_loaded(before).await;
    }

    /// To the page before, which must be `address`.
    pub async fn back(&mut self, address: &str) {
        self.eval("history.back()").await;
        let deadline = Instant::now() + PATIENCE;
        // A page that the browser kept is not loaded again, so there is no event to wait for.
        while self.eval("document.readyState + ' ' + location.href").await != format!("complete {address}") {
            assert!(Instant::now() < deadline, "going back leads to {} and not to {address}", self.address().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is seen of the page, as a PNG.
    pub async fn screenshot(&mut self, file: &Path) {
        let shot = self.ask("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap_or_default()).expect("base64");
        std::fs::write(file, bytes).expect("the screenshot is written");
    }
}

/// Port and path of a browser that has just been started, as it writes them into its profile.
async fn listening(profile: &Path) -> (u16, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
        if let Some((port, path)) = text.split_once('\n')
            && let (Ok(port), path @ [_, ..]) = (port.parse(), path.trim().as_bytes())
        {
            return (port, String::from_utf8_lossy(path).into_owned());
        }
        assert!(Instant::now() < deadline, "the browser says no port in {}", profile.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
