//! How long the engine takes for each page over ten million indexed calls, or half a million with `--quick`.
//!
//! The index is written first, as the engine would have, beside an empty stream; then `streamgauge run` opens it, and each page is asked for again and
//! again over HTTP, one request at a time. `deploy/bench-index` runs it. Ends with one line per target: `target NAME FIGURE LIMIT pass|fail`.

#![expect(clippy::print_stdout, reason = "a benchmark's answer")]

#[path = "../tests/it/nats.rs"]
#[expect(dead_code, reason = "tests want more of the same server")]
mod nats;

use fixtures::Traffic;
use index::{Row, Text, Writer};
use model::signal::{Findings, signals};
use nats::Nats;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use streamgauge::config::Config;
use streamgauge::source::nats::{connect, identity, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

const SEED: u64 = 1;
/// A page is to be with its reader before they wonder.
const MS_MAX: f64 = 200.0;
const HOURS: f64 = 26.0;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--test") {
        println!("run deploy/bench-index");
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let (calls, asked) = if quick { (500_000, 20) } else { (10_000_000, 40) };
    println!("seed {SEED}, {calls} calls over {HOURS} hours, each page asked for {asked} times");
    let nats = Nats::start().await;
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let known = write(&nats, folder.path(), calls).await;
    let (engine, address) = start(&nats, folder.path()).await;

    let text = |text: Text| url::form_urlencoded::byte_serialize(known.text(text).as_bytes()).collect::<String>();
    let pages = [
        ("overview", "/".to_owned()),
        ("run", format!("/runs/{}", text(Text::EventId))),
        ("call", format!("/calls/{}", known.sequence)),
        ("search-newest", "/search".to_owned()),
        ("search-day", "/search?since=2026-01-01T00:00:00Z".to_owned()),
        ("search-rare", format!("/search?where=user%3A{}+signal%3Ainvalid_json+latency%3E1s", text(Text::User))),
        ("search-hour", "/search?where=stage%3Aextraction+status%3Aerror&since=2026-01-02T00:00:00Z".to_owned()),
        ("costs-hour", "/costs?by=user_id&window=1h".to_owned()),
        ("costs-day", "/costs?by=user_id&window=24h".to_owned()),
        ("costs-models", "/costs?by=model&window=24h".to_owned()),
        ("rules", "/rules".to_owned()),
        ("status", "/status".to_owned()),
    ];
    println!("\n| page | median ms | p95 ms | slowest ms |\n|---|---|---|---|");
    let mut results = Vec::new();
    for (name, path) in pages {
        let mut took = Vec::new();
        for _ in 0..asked {
            let began = Instant::now();
            let (status, first) = ask(&address, &path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
            took.push(first.duration_since(began).as_secs_f64() * 1e3);
            assert_eq!(status, 200, "{path}");
        }
        took.sort_by(f64::total_cmp);
        let [median, p95, slowest] = [took[took.len() / 2], took[took.len() * 95 / 100], took[took.len() - 1]];
        println!("| {name} | {median:.1} | {p95:.1} | {slowest:.1} |");
        results.push((name, p95));
    }
    drop(engine);
    println!();
    let mut passed = true;
    for (name, p95) in results {
        passed &= p95 <= MS_MAX;
        println!("target page-{name}-p95-ms {p95:.1} {MS_MAX} {}", if p95 <= MS_MAX { "pass" } else { "fail" });
    }
    drop(nats);
    std::process::exit(i32::from(!passed));
}

fn config(nats: &Nats) -> Config {
    Config::load(None, [], &[format!("nats.url={}", nats.url)]).expect("the defaults are a configuration")
}

/// Writes the index of an empty stream in the store, and gives one of its calls.
async fn write(nats: &Nats, store: &Path, calls: u64) -> Row {
    let config = config(nats);
    let client = connect(&config.nats).await.expect("the server answers");
    let mut stream = stream(&client, &config.nats).await.expect("the stream is made");
    let created = identity(&mut stream).await.expect("the stream is there").created;
    let folder = store.join("index");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("stream"), format!("{}@{created}", config.nats.stream)).expect("the stream's name");
    let (mut writer, _) = Writer::open(&folder).expect("a new index opens");
    let traffic = Traffic { seed: SEED, calls_per_second: calls as f64 / (HOURS * 3_600.0), users: 5_000, variants: 2, ..Traffic::default() };
    let began = Instant::now();
    let mut known = None;
    for (generated, sequence) in traffic.calls().zip(1..=calls) {
        let call = model::parse(&generated.json).expect("generated logs are good");
        let row = Row::of(&call, &signals(&call, &Findings::default()), &[], sequence, call.time);
        if sequence == calls / 2 {
            known = Some(row.clone());
        }
        writer.add(row);
        if sequence.is_multiple_of(4_096) {
            writer.commit(sequence).expect("the disk takes it");
        }
    }
    writer.commit(calls).expect("the disk takes it");
    writer.save().expect("the disk takes it");
    println!("written in {:.0} s, {:.2} GB", began.elapsed().as_secs_f64(), writer.reader().bytes() as f64 / 1e9);
    known.expect("there is a call in the middle")
}

async fn start(nats: &Nats, store: &Path) -> (Child, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let address = format!("127.0.0.1:{port}");
    let sets = [format!("nats.url={}", nats.url), format!("store.path={}", store.display()), format!("http.listen={address}")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
    sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let engine = command.arg("run").current_dir(store).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
    let engine = engine.expect("the engine starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !matches!(ask(&address, "/readyz").await, Ok((200, _))) {
        assert!(Instant::now() < deadline, "the engine is not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (engine, address)
}

/// The status, and when the whole page was there.
async fn ask(address: &str, path: &str) -> std::io::Result<(u16, Instant)> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/html\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let at = Instant::now();
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| std::io::Error::other("that was no HTTP"))?;
    Ok((status, at))
}
