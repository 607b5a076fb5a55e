//! The engine against the fastest bare consumer of the same stream, on one nats-server, in one run. `deploy/bench-nats` sets it up.
//!
//! A stream is filled before anything is timed. Each round reads all of it with each of three bare consumers that discard messages (ordered push,
//! ordered pull, ack-none pull), and with `streamgauge run`: shipped rules, durable snapshots, over 100 groups, until everything is counted and
//! committed. Throughput is a ratio to the fastest bare consumer of the run; CPU time is of the reading process alone.

use async_nats::jetstream::{self, consumer};
use fixtures::Traffic;
use futures_util::StreamExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STREAM: &str = "LLM_CALLS";
const SUBJECT: &str = "llm.calls.bench";
const LOG_BYTES: usize = 1800;

/// Wall-clock and CPU seconds of one reading.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
}

#[expect(clippy::print_stdout, reason = "a benchmark's answer")]
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--test") {
        println!("run deploy/bench-nats");
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let Ok(url) = std::env::var("STREAMGAUGE_BENCH_NATS") else {
        println!("run deploy/bench-nats: it starts the server that this needs");
        return;
    };
    let (messages, rounds) = if quick { (200_000u64, 3) } else { (1_000_000, 5) };
    let client = async_nats::ConnectOptions::new().subscription_capacity(1 << 18).connect(&url).await.expect("the server answers");
    let jetstream = jetstream::new(client.clone());
    let bytes = fill(&jetstream, messages).await;
    println!("{messages} logs of {bytes} bytes on average, seed 1, {rounds} rounds; server {}", client.server_info().version);

    let mut results: Vec<(&str, Vec<Took>)> =
        vec![("bare: ordered push", vec![]), ("bare: ordered pull", vec![]), ("bare: ack-none pull", vec![]), ("streamgauge run", vec![])];
    for round in 0..rounds {
        // The order changes from round to round, so that none always profits from what the one before left behind.
        for turn in 0..results.len() {
            let which = (turn + round) % results.len();
            let took = match which {
                0 => bare_push(&client, &jetstream, messages).await,
                1 => bare_pull(&jetstream, messages, true).await,
                2 => bare_pull(&jetstream, messages, false).await,
                _ => engine(&url, messages).await,
            };
            results[which].1.push(took);
        }
    }
    println!("\n{:<22} {:>12} {:>23} {:>22}", "reader", "logs/s", "(slowest … fastest)", "CPU s / million logs");
    let rate = |took: &Took| messages as f64 / took.wall;
    for (name, all) in &results {
        let rates = spread(all, rate);
        let cpu = spread(all, |took| took.cpu / messages as f64 * 1e6);
        println!(
            "{name:<22} {:>12.0} {:>23} {:>22}",
            rates[1],
            format!("({:.0} … {:.0})", rates[0], rates[2]),
            format!("{:.2} ({:.2} … {:.2})", cpu[1], cpu[0], cpu[2])
        );
    }
    let fastest = results[..3].iter().map(|(_, all)| spread(all, rate)[1]).fold(0.0, f64::max);
    let ratio = spread(&results[3].1, rate)[1] / fastest;
    let cpu = spread(&results[3].1, |took| took.cpu / messages as f64 * 1e6)[1];
    println!();
    let mut passed = target("engine_share_of_bare_throughput", ratio, 0.5, ratio >= 0.5);
    passed &= target("engine_cpu_seconds_per_million", cpu, 8.0, cpu < 8.0);
    std::process::exit(i32::from(!passed));
}

#[expect(clippy::print_stdout, reason = "a benchmark's answer")]
fn target(name: &str, figure: f64, limit: f64, passed: bool) -> bool {
    println!("target {name} {figure:.2} {limit:.2} {}", if passed { "pass" } else { "fail" });
    passed
}

/// Least, median and greatest.
fn spread(all: &[Took], figure: impl Fn(&Took) -> f64) -> [f64; 3] {
    let mut figures: Vec<_> = all.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]]
}

/// Fills a fresh stream and returns the mean size of a log.
async fn fill(jetstream: &jetstream::Context, messages: u64) -> u64 {
    let config = jetstream::stream::Config {
        name: STREAM.into(),
        subjects: vec!["llm.calls.>".into()],
        duplicate_window: Duration::from_millis(100),
        ..Default::default()
    };
    let stream = jetstream.get_or_create_stream(config).await.expect("the stream is made");
    stream.purge().await.expect("the stream is emptied");
    let traffic = Traffic { padding: Some(LOG_BYTES), variants: 5, calls_per_second: 5000.0, ..Traffic::default() };
    let mut in_flight = std::collections::VecDeque::new();
    let mut bytes = 0;
    for call in traffic.calls().take(messages as usize) {
        bytes += call.json.len() as u64;
        in_flight.push_back(jetstream.publish(SUBJECT, call.json.into()).await.expect("the server takes a log"));
        if in_flight.len() == 2000 {
            in_flight.pop_front().expect("it is full").await.expect("the server acknowledges");
        }
    }
    for ack in in_flight {
        ack.await.expect("the server acknowledges");
    }
    bytes / messages
}

async fn bare_push(client: &async_nats::Client, jetstream: &jetstream::Context, messages: u64) -> Took {
    let stream = jetstream.get_stream(STREAM).await.expect("it was filled");
    let config = consumer::push::OrderedConfig { deliver_subject: client.new_inbox(), ..Default::default() };
    timed(async {
        let consumer = stream.create_consumer(config).await.expect("a consumer is made");
        discard(consumer.messages().await.expect("it delivers"), messages).await;
    })
    .await
}

async fn bare_pull(jetstream: &jetstream::Context, messages: u64, ordered: bool) -> Took {
    let stream = jetstream.get_stream(STREAM).await.expect("it was filled");
    timed(async {
        if ordered {
            let consumer = stream.create_consumer(consumer::pull::OrderedConfig::default()).await.expect("a consumer is made");
            discard(consumer.messages().await.expect("it delivers"), messages).await;
        } else {
            let config = consumer::pull::Config { ack_policy: consumer::AckPolicy::None, ..Default::default() };
            let consumer = stream.create_consumer(config).await.expect("a consumer is made");
            let delivery = consumer.stream().max_messages_per_batch(4096).messages().await.expect("it delivers");
            discard(delivery, messages).await;
        }
    })
    .await
}

async fn discard<E: std::fmt::Debug>(mut delivery: impl StreamExt<Item = Result<jetstream::Message, E>> + Unpin, messages: u64) {
    for _ in 0..messages {
        delivery.next().await.expect("the stream goes on").expect("a message comes");
    }
}

async fn timed(reading: impl Future<Output = ()>) -> Took {
    let (began, cpu) = (Instant::now(), cpu_seconds("self"));
    reading.await;
    Took { wall: began.elapsed().as_secs_f64(), cpu: cpu_seconds("self") - cpu }
}

/// The real binary on a fresh store, until everything is counted and committed.
async fn engine(url: &str, messages: u64) -> Took {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listen = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string();
    let store = folder.path().join("store").display().to_string();
    let rules = folder.path().join("rules").display().to_string();
    let began = Instant::now();
    let mut process = Command::new(env!("CARGO_BIN_EXE_streamgauge"))
        .args(["--log", "error", "--set", &format!("nats.url={url}"), "--set", &format!("http.listen={listen}")])
        .args(["--set", &format!("store.path={store}"), "--set", &format!("rules.path={rules}"), "run"])
        .env_remove("SLACK_BOT_TOKEN")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("the engine starts");
    let counted = loop {
        // Asked rarely: a question costs the reader under test some of its time.
        tokio::time::sleep(Duration::from_millis(25)).await;
        if position(&listen, "streamgauge_stream_position").await == Some(messages) {
            break began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(300), "the engine does not get to the end of the stream");
    };
    let cpu_counted = cpu_seconds(&process.id().to_string());
    let groups = position(&listen, "streamgauge_groups{environment=\"production\"}").await.unwrap_or(0);
    assert!(groups >= 100, "only {groups} groups");
    // Committed as well: asking it to stop takes the last snapshot.
    Command::new("kill").args(["-TERM", &process.id().to_string()]).status().expect("kill runs");
    let status = process.wait().expect("the engine can be waited for");
    assert!(status.success(), "the engine ended with {status}");
    let db = std::fs::metadata(folder.path().join("store/streamgauge.db")).expect("the store is there").len();
    assert!(db > 0, "nothing was written");
    Took { wall: counted.as_secs_f64(), cpu: cpu_counted }
}

async fn position(listen: &str, metric: &str) -> Option<u64> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(listen).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await.ok()?;
    page.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok())
}

/// User and system time of a process, in seconds: fields 14 and 15 of /proc/PID/stat, in hundredths.
fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process is there");
    let after_name = stat.rsplit_once(')').expect("the name is in brackets").1;
    let fields: Vec<f64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) / 100.0
}
