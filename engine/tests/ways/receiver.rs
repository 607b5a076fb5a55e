//! Somebody who takes webhooks: remembers what came, and answers as it is told to.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use futures_util::stream;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How one request is answered; without an answer that is planned, 200.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16, &'static [(&'static str, &'static str)], String),
    /// Never.
    Silence,
    /// 400, and a body without an end.
    Endless,
}

#[derive(Clone, Debug)]
pub struct Came {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Clone, Default)]
pub struct Receiver {
    pub url: String,
    shared: Arc<Mutex<(VecDeque<Answer>, Vec<Came>)>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let receiver = Self { url, shared: Arc::default() };
        let service = Router::new().fallback(take).with_state(receiver.clone());
        // It ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, service).await });
        receiver
    }

    pub fn answers(&self, answer: Answer) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).0.push_back(answer);
    }

    pub fn came(&self) -> Vec<Came> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

async fn take(State(receiver): State<Receiver>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let answer = {
        let mut shared = receiver.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.1.push(Came { path: uri.path().to_owned(), headers, body });
        shared.0.pop_front().unwrap_or(Answer::Status(200, &[], String::new()))
    };
    match answer {
        Answer::Status(code, headers, body) => {
            let response = headers.iter().fold(Response::builder().status(code), |response, (name, value)| response.header(*name, *value));
            response.body(Body::from(body)).expect("the answer is one")
        }
        Answer::Silence => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Response::default()
        }
        Answer::Endless => {
            let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 1024])));
            Response::builder().status(StatusCode::BAD_REQUEST).body(Body::from_stream(chunks)).expect("the answer is one")
        }
    }
}
