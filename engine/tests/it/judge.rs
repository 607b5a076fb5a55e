//! A counterpart of a judge's endpoint on loopback: OpenAI's chat completions and Anthropic's messages, with faults on demand.
//!
//! It judges by a word: a call whose text holds `BAD` fails, every other passes. It speaks HTTP itself, so that it can break off an answer or give none,
//! and keeps every request and what it charged for it. Deliberately absent: everything of the two interfaces that streamgauge does not use.

use super::serving::{header, request};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Judge {
    /// The base address, for `judges.NAME.endpoint`.
    pub url: String,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<()>,
}

/// What becomes of one request instead of the usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The answer comes this much later.
    Slow(Duration),
    /// HTTP 429 with `Retry-After` in seconds.
    RateLimited(u64),
    Status(u16),
    /// A proper answer whose text is prose.
    Prose,
    /// HTTP 200 with something that is not JSON.
    Garbage,
    /// Half of a proper answer, and the connection cut.
    Half,
    /// The connection stays open, and nothing comes.
    Silent,
    /// HTTP 400 to a request that asks for this, such as `temperature`.
    Refuses(&'static str),
}

/// A request, whatever became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub path: String,
    pub head: String,
    pub body: Value,
}

#[derive(Default)]
struct State {
    script: VecDeque<Fault>,
    always: Option<Fault>,
    random: Option<(f64, fastrand::Rng)>,
    /// What a list of models wants to be signed in with; `None`: it is anyone's.
    key: Option<&'static str>,
    /// Tokens of each answer.
    usage: (u64, u64),
    requests: Vec<Request>,
    /// Requests being answered at this moment, and the most there ever were.
    open: usize,
    open_max: usize,
    heard: watch::Sender<()>,
}

impl Judge {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("it is bound"));
        let state = Arc::new(Mutex::new(State { usage: (100, 20), ..State::default() }));
        let shared = state.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // A client that goes away is no fault of ours.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Self { url, state, listening }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What becomes of the next requests, one each.
    pub fn script(&self, faults: &[Fault]) {
        self.state().script.extend(faults);
    }

    /// What becomes of all further requests; `None`: they are answered.
    pub fn always(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    pub fn fail_at_random(&self, probability: f64, seed: u64) {
        self.state().random = Some((probability, fastrand::Rng::with_seed(seed)));
    }

    /// Tokens of input and output that each answer says it took.
    pub fn usage(&self, input: u64, output: u64) {
        self.state().usage = (input, output);
    }

    /// The list of models is for this key alone.
    pub fn keyed(&self, key: &'static str) {
        self.state().key = Some(key);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The most requests that were being answered at one time.
    pub fn open_max(&self) -> usize {
        self.state().open_max
    }

    /// The requests, as soon as there are so many.
    pub async fn until(&self, count: usize, patience: Duration) -> Vec<Request> {
        let mut heard = self.state().heard.subscribe();
        let waiting = async {
            while self.state().requests.len() < count {
                heard.changed().await.expect("the state is kept as long as this");
            }
        };
        let came = tokio::time::timeout(patience, waiting).await;
        assert!(came.is_ok(), "waited {patience:?} for {count} requests; {} came", self.requests().len());
        self.requests()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Request {
    /// All that the model was to read.
    pub fn text(&self) -> String {
        let messages = self.body["messages"].as_array().into_iter().flatten().filter_map(|message| message["content"].as_str());
        self.body["system"].as_str().into_iter().chain(messages).collect::<Vec<_>>().join("\n")
    }

    /// A header's value, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        header(&self.head, name).unwrap_or_default()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await? {
        let (fault, answer) = answer(&head, &body, state);
        let open = Open::new(state);
        match fault {
            Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
            // Until the client has had enough.
            Some(Fault::Silent) => {
                while stream.read_buf(&mut read).await? > 0 {}
                return Ok(());
            }
            Some(Fault::Half) => {
                stream.write_all(&answer.as_bytes()[..answer.len() * 2 / 3]).await?;
                return stream.shutdown().await;
            }
            _ => {}
        }
        drop(open);
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// One request being answered.
struct Open<'s>(&'s Mutex<State>);

impl<'s> Open<'s> {
    fn new(state: &'s Mutex<State>) -> Self {
        let mut held = lock(state);
        held.open += 1;
        held.open_max = held.open_max.max(held.open);
        Self(state)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(self.0).open -= 1;
    }
}

fn answer(head: &str, body: &[u8], state: &Mutex<State>) -> (Option<Fault>, String) {
    let state = &mut *lock(state);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let random = state.random.as_mut().and_then(|(probability, rng)| {
        let faults = [Fault::Status(500), Fault::Status(503), Fault::Prose, Fault::Garbage, Fault::Half, Fault::Silent, Fault::Status(400)];
        (rng.f64() < *probability).then(|| faults[rng.usize(..faults.len())])
    });
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let fault = state.script.pop_front().or(random).or(state.always);
    let fault = fault.filter(|fault| !matches!(fault, Fault::Refuses(field) if body.get(field).is_none()));
    let request = Request { at: Instant::now(), path: path.clone(), head: head.to_owned(), body };
    let text = request.text();
    let (input, output) = state.usage;
    // The nonce stands at the end of what every judge is told.
    let nonce = text.split("Set `nonce` to \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    let bad = text.contains("BAD");
    let said = match fault {
        Some(Fault::Prose) => "The answer looks fine to me.".to_owned(),
        _ => json!({ "nonce": nonce, "reasoning": "what was asked is there, or not", "score": if bad { 0 } else { 3 } }).to_string(),
    };
    let model = request.body["model"].clone();
    let good = match path.as_str() {
        "/v1/chat/completions" => json!({ "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": said } }],
            "usage": { "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output } }),
        "/v1/messages" => json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
            "content": [{ "type": "text", "text": said }], "usage": { "input_tokens": input, "output_tokens": output } }),
        "/v1/models" => json!({ "object": "list", "data": [{ "id": "gpt-4.1-mini", "object": "model" }] }),
        _ => Value::Null,
    };
    let locked_out = path == "/v1/models" && state.key.is_some_and(|key| request.header("authorization") != format!("Bearer {key}"));
    state.requests.push(request);
    state.heard.send_replace(());
    let reply = |status: u16, more: &str, body: &str| {
        format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
    };
    let answer = match fault {
        _ if locked_out => reply(401, "", r#"{"error":{"message":"no such key"}}"#),
        _ if good.is_null() => reply(404, "", r#"{"error":{"message":"no such page"}}"#),
        Some(Fault::RateLimited(seconds)) => reply(429, &format!("Retry-After: {seconds}\r\n"), r#"{"error":{"message":"slow down"}}"#),
        Some(Fault::Status(status)) => reply(status, "", r#"{"error":{"message":"scripted"}}"#),
        Some(Fault::Garbage) => reply(200, "", "<html>"),
        Some(Fault::Refuses(field)) => reply(400, "", &format!(r#"{{"error":{{"message":"unsupported: {field}"}}}}"#)),
        _ => reply(200, "", &good.to_string()),
    };
    (fault, answer)
}
