//! What judges take from counting, whatever they do: the same stream is counted by `streamgauge run` without judges and with two, over nats-server.
//!
//! Each run has a stream and a store of its own. The engine is started on the empty stream and halted while all logs are published, because it asks
//! no judge before it has come to where the stream ended at its start; then the time to the last log is taken. Event time passes some twenty times as
//! fast as in life, so calls are chosen twenty times as often. Each round has every fault of the judges' endpoint, with runs
//! without judges between them; ratios are of medians. Both judges, the server and the endpoint share the machine with the engine, and what
//! they take counts against it.
//!
//! After the last log, each chosen call must have one outcome or wait for it, by the ledger and by the table of verdicts, and nothing may be spent
//! beyond the cap. `deploy/bench-evaluators` runs it. Ends with one line per target: `target NAME FIGURE LIMIT pass|fail`. `--quick`: a short run.

#![expect(clippy::print_stdout, reason = "a benchmark's answer")]

#[path = "../tests/it/judge.rs"]
#[expect(dead_code, reason = "tests want more of the same counterpart")]
mod judge;
#[path = "../tests/it/nats.rs"]
#[expect(dead_code, reason = "tests want more of the same server")]
mod nats;
#[path = "../tests/it/serving.rs"]
mod serving;

use async_nats::jetstream;
use bytes::Bytes;
use fixtures::Traffic;
use judge::{Fault, Judge};
use nats::Nats;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

const SEED: u64 = 1;
const STREAM: &str = "LLM_CALLS";
const SUBJECT: &str = "llm.calls.bench";
const LOG_BYTES: usize = 1800;
/// Of event time, as in `nats.rs`.
const CALLS_PER_SECOND: f64 = 5000.0;
/// Of the stages that make up half of the traffic.
const JUDGES: [&str; 2] = ["extraction-precision", "synthesis-quality"];
/// Counting with judges, as a share of counting without: the median of all pairs of runs, and what the median of each case may be. A run of a second and
/// a half varies by a twentieth or two, so the least of eight medians of a few pairs says more of the machine than of judging. So a case fails where its
/// pairs show that it is slower: where all but the best of nine are below, which is the upper end of a 96 % interval for their median (sign test).
const THROUGHPUT_MIN: f64 = 0.95;
const ROUNDS: usize = 9;
/// The same of a short run, whose runs of half a second vary by more than what they are to show: only what is plainly wrong fails it.
const QUICK_THROUGHPUT_MIN: f64 = 0.8;
const QUICK_ROUNDS: usize = 3;
/// Dollars for a million tokens: an answer of a thousand tokens and two hundred costs 3 cents.
const PRICE: [(&str, f64); 2] = [("input", 10.0), ("output", 100.0)];
const TOKENS: (u64, u64) = (1_000, 200);
/// In dollars, of an hour and of a day, for each judge.
const CAP: f64 = 1.0;
/// How long anything may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the endpoint does to every request.
struct Case {
    name: &'static str,
    fault: Option<Fault>,
    timeout: &'static str,
    capped: bool,
}

const fn case(name: &'static str, fault: Fault) -> Case {
    Case { name, fault: Some(fault), timeout: "200ms", capped: false }
}

const CASES: [Case; 8] = [
    case("silent", Fault::Silent),
    Case { timeout: "60s", ..case("slow by 30 s", Fault::Slow(Duration::from_secs(30))) },
    case("429", Fault::RateLimited(1)),
    case("500", Fault::Status(500)),
    case("not JSON", Fault::Garbage),
    case("half an answer", Fault::Half),
    Case { fault: None, capped: true, ..case("expensive", Fault::Silent) },
    Case { fault: None, ..case("well", Fault::Silent) },
];

/// One run.
#[derive(Clone, Copy, Default)]
struct Took {
    seconds: f64,
    /// CPU seconds of the engine.
    cpu: f64,
    requests: u64,
    verdicts: u64,
    /// Chosen calls that have neither one outcome nor wait.
    unaccounted: u64,
    /// Dollars beyond the cap, of the judge that spent most.
    over: f64,
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--test") {
        println!("run deploy/bench-evaluators");
        return;
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let (logs, rounds, least) = if quick { (100_000, QUICK_ROUNDS, QUICK_THROUGHPUT_MIN) } else { (300_000, ROUNDS, THROUGHPUT_MIN) };
    let payloads = payloads(logs);
    println!("{logs} logs of about {LOG_BYTES} bytes, seed {SEED}, {rounds} rounds, {} judges at 600 calls a minute each", JUDGES.len());
    if quick {
        println!("--quick: the limit of the throughput is {least}, in a full run {THROUGHPUT_MIN}");
    }
    let nats = Nats::start().await;
    // Nobody's figure: caches and frequencies settle.
    run(&nats, &payloads, None).await;
    let (mut without, mut with): (Vec<Took>, Vec<Vec<Took>>) = (Vec::new(), CASES.map(|_| Vec::new()).into());
    let mut ratios: Vec<Vec<f64>> = CASES.map(|_| Vec::new()).into();
    for round in 0..rounds {
        // The order changes from round to round, so that none always profits from what the one before left behind.
        for turn in 0..CASES.len() {
            let which = (turn + round) % CASES.len();
            // A pair, close in time: how fast the machine is changes within minutes.
            let (bare, judged) = (run(&nats, &payloads, None).await, run(&nats, &payloads, Some(&CASES[which])).await);
            ratios[which].push(bare.seconds / judged.seconds);
            without.push(bare);
            with[which].push(judged);
        }
    }
    let rate = |took: &Took| logs as f64 / took.seconds;
    let cpu = |took: &Took| took.cpu / logs as f64 * 1e6;
    println!(
        "\n{:<16}{:>10} {:>21}{:>22}{:>15}{:>10}{:>10}",
        "judges", "logs/s", "(slowest … fastest)", "ratio (interval)", "CPU s/million", "requests", "verdicts"
    );
    let row = |name: &str, all: &[Took], ratio: &str| {
        let ([slowest, median, fastest], all_of) = (spread(all, rate), |figure: fn(&Took) -> u64| spread(all, |took| figure(took) as f64)[1]);
        println!(
            "{name:<16}{median:>10.0} {:>21}{ratio:>22}{:>15.2}{:>10.0}{:>10.0}",
            format!("({slowest:.0} … {fastest:.0})"),
            spread(all, cpu)[1],
            all_of(|took| took.requests),
            all_of(|took| took.verdicts)
        );
    };
    row("none", &without, "1");
    let mut worst = f64::INFINITY;
    for ((case, all), ratios) in CASES.iter().zip(&with).zip(&ratios) {
        let ([_, median, _], (low, high)) = (spread(ratios, |ratio| *ratio), interval(ratios));
        row(case.name, all, &format!("{median:.3} ({low:.3}–{high:.3})"));
        worst = worst.min(high);
    }
    let pooled: Vec<_> = ratios.into_iter().flatten().collect();
    let [lowest, throughput, highest] = spread(&pooled, |ratio| *ratio);
    println!("{} pairs: {throughput:.3} ({lowest:.3} … {highest:.3})", pooled.len());
    let runs = || with.iter().flatten();
    let unaccounted: u64 = runs().map(|took| took.unaccounted).sum();
    let over = runs().map(|took| took.over).fold(0.0, f64::max);
    println!();
    let mut passed = target("judging_throughput", throughput, least, throughput >= least);
    passed &= target("judging_throughput_worst_case_upper", worst, least, worst >= least);
    passed &= target("judging_calls_unaccounted", unaccounted as f64, 0.0, unaccounted == 0);
    passed &= target("judging_spend_over_cap", over, 0.0, over == 0.0);
    // Leaving ends no process that was started here.
    drop(nats);
    std::process::exit(i32::from(!passed));
}

fn target(name: &str, figure: f64, limit: f64, passed: bool) -> bool {
    println!("target {name} {figure:.3} {limit} {}", if passed { "pass" } else { "fail" });
    passed
}

/// Least, median and greatest.
fn spread<T>(all: &[T], figure: impl Fn(&T) -> f64) -> [f64; 3] {
    let mut figures: Vec<_> = all.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]]
}

/// An interval for the median of what these were drawn from: all but the outermost. Of nine, it holds the median in 96 of 100 cases.
fn interval(all: &[f64]) -> (f64, f64) {
    let mut figures = all.to_vec();
    figures.sort_by(f64::total_cmp);
    let outermost = usize::from(figures.len() > 4);
    (figures[outermost], figures[figures.len() - 1 - outermost])
}

/// Logs whose texts all differ, so that no call is answered by what was said of another.
fn payloads(logs: usize) -> Vec<Bytes> {
    let traffic = Traffic { seed: SEED, padding: Some(LOG_BYTES), variants: 5, calls_per_second: CALLS_PER_SECOND, ..Traffic::default() };
    let said = "\"role\":\"user\",\"content\":\"";
    let distinct = |(number, call): (usize, fixtures::Generated)| {
        let text = String::from_utf8(call.json).expect("JSON is UTF-8");
        Bytes::from(text.replacen(said, &format!("{said}Message {number}: "), 1))
    };
    traffic.calls().take(logs).enumerate().map(distinct).collect()
}

/// Counts all logs once, with judges whose endpoint does as `case` says, or without judges.
async fn run(nats: &Nats, payloads: &[Bytes], case: Option<&Case>) -> Took {
    let client = nats.client().await;
    let jetstream = jetstream::new(client.clone());
    // An answer that this is the first stream of that name is as good.
    let _ = jetstream.delete_stream(STREAM).await;
    let config = jetstream::stream::Config { name: STREAM.into(), subjects: vec!["llm.calls.>".into()], ..Default::default() };
    let mut stream = jetstream.create_stream(config).await.expect("the stream is made");
    let judge = Judge::start().await;
    judge.usage(TOKENS.0, TOKENS.1);
    judge.always(case.and_then(|case| case.fault));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut engine = Engine::start(&nats.url, folder.path(), case.map(|case| (case, judge.url.as_str()))).await;

    engine.signal("-STOP").await;
    // Acknowledged, with so many under way: a server that is offered more at once than it can take drops what nobody waits for.
    let mut in_flight = VecDeque::new();
    for payload in payloads {
        in_flight.push_back(jetstream.publish(SUBJECT, payload.clone()).await.expect("the server takes a log"));
        if in_flight.len() == 2000 {
            in_flight.pop_front().expect("it is full").await.expect("the server acknowledges");
        }
    }
    for ack in in_flight {
        ack.await.expect("the server acknowledges");
    }
    let all = payloads.len() as u64;
    assert_eq!(stream.info().await.expect("the server answers").state.last_sequence, all, "the stream holds every log");
    let before = engine.cpu_seconds();
    let began = Instant::now();
    engine.signal("-CONT").await;
    loop {
        let position = engine.metric("streamgauge_stream_position").await.unwrap_or(0.0);
        if position == all as f64 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the engine does not get to the end of the stream");
        // A question costs the engine some of its time, the more the more there is to tell: it is asked often near the end alone.
        let pause = if position < 0.85 * all as f64 { 100 } else { 5 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    let mut took = Took { seconds: began.elapsed().as_secs_f64(), cpu: engine.cpu_seconds() - before, ..Took::default() };
    assert_eq!(engine.metric("streamgauge_counted_total").await, Some(all as f64), "every log counts");
    let Some(case) = case else { return took };
    took.requests = judge.requests().len() as u64;
    let listed = engine.get("/api/v1/judges").await.and_then(|body| serde_json::from_str::<Value>(&body).ok()).expect("judges are listed");
    let mut counted = 0;
    for listed in listed.as_array().into_iter().flatten() {
        let judged = &listed["judged"];
        let number = |of: &Value| of.as_u64().expect("a number");
        let skipped: u64 = judged["skipped"].as_object().into_iter().flat_map(|skips| skips.values()).map(number).sum();
        // Those that found no room to wait are skipped without being asked for, and are in no table.
        let backlog = judged["skipped"]["backlog"].as_u64().unwrap_or(0);
        let outcomes = skipped + ["passed", "failed", "unreadable", "errored"].map(|name| number(&judged[name])).iter().sum::<u64>();
        let chosen = number(&judged["chosen"]);
        assert!(chosen > 100, "only {chosen} calls were chosen: {listed}");
        took.unaccounted += chosen.abs_diff(outcomes + number(&listed["open"]));
        took.verdicts += outcomes;
        counted += outcomes - backlog;
        if case.capped {
            let spent = listed["spent_hour_usd"].as_f64().expect("a number");
            took.over = took.over.max(spent - CAP);
        }
    }
    assert!(took.requests > 0, "nobody was asked while the engine counted");
    engine.process.kill().await.expect("the engine can be ended");
    took.unaccounted += counted.saturating_sub(in_table(&folder.path().join("store/streamgauge.db")));
    // What all judges were charged, by the other side's reckoning.
    let charged: f64 =
        judge.requests().len() as f64 * PRICE.iter().zip([TOKENS.0, TOKENS.1]).map(|((_, price), tokens)| price * tokens as f64 / 1e6).sum::<f64>();
    if case.capped {
        took.over = took.over.max(charged - CAP * JUDGES.len() as f64);
    }
    took.over = took.over.max(0.0);
    took
}

/// Calls with a verdict, each once for each judge.
fn in_table(db: &Path) -> u64 {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the store opens");
    let sql = "SELECT COUNT(*) FROM (SELECT DISTINCT judge, sequence FROM verdicts)";
    connection.query_row(sql, [], |row| row.get(0)).expect("a table of verdicts")
}

/// The real binary.
struct Engine {
    process: Child,
    listen: String,
}

impl Engine {
    /// Returns when it reads the stream.
    async fn start(nats: &str, folder: &Path, judged: Option<(&Case, &str)>) -> Self {
        let listen = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").to_string();
        let rules = folder.join("rules");
        std::fs::create_dir_all(&rules).expect("the rules' folder");
        // With and without judges: a rule in whose windows verdicts count.
        let rule = r#"rule(#{ name: "judged", group_by: ["model"], watch: rate("judge:synthesis-quality", "5m").expect(0.0, 0.9) });"#;
        std::fs::write(rules.join("judged.rhai"), rule).expect("the rule is written");
        let mut sets = vec![format!("nats.url={nats}"), format!("http.listen={listen}")];
        sets.push(format!("store.path={}", folder.join("store").display()));
        sets.push(format!("rules.path={}", rules.display()));
        for (judge, (case, endpoint)) in JUDGES.iter().zip(std::iter::repeat_n(judged, JUDGES.len()).flatten()) {
            let mut set = |key: &str, value: &str| sets.push(format!("judges.{judge}.{key}={value}"));
            let all = [("model", "dear"), ("endpoint", endpoint), ("rate", "1.0"), ("per_minute", "600"), ("timeout", case.timeout)];
            all.iter().for_each(|(key, value)| set(key, value));
            if case.capped {
                ["spend.hour", "spend.day"].iter().for_each(|key| set(key, &CAP.to_string()));
            }
        }
        sets.extend(PRICE.iter().map(|(of, price)| format!("prices.dear.{of}={price}")));
        let process = Command::new(env!("CARGO_BIN_EXE_streamgauge"))
            .args(["--log", "error"])
            .args(sets.iter().flat_map(|set| ["--set", set.as_str()]))
            .arg("run")
            .env_remove("SLACK_BOT_TOKEN")
            .current_dir(folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the engine starts");
        let engine = Self { process, listen };
        let began = Instant::now();
        while engine.get("/readyz").await.is_none() {
            assert!(began.elapsed() < PATIENCE, "the engine does not get ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        engine
    }

    async fn signal(&self, signal: &str) {
        let id = self.process.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await.expect("kill runs");
        assert!(sent.success(), "the engine has ended");
    }

    /// The body of an answer that says 200.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = tokio::net::TcpStream::connect(&self.listen).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.ok()?;
        let (head, body) = page.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        self.get("/metrics").await?.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// User and system time, in seconds: fields 14 and 15 of /proc/PID/stat, in hundredths.
    fn cpu_seconds(&self) -> f64 {
        let id = self.process.id().expect("it runs");
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process is there");
        let after_name = stat.rsplit_once(')').expect("the name is in brackets").1;
        let fields: Vec<f64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
        (fields[11] + fields[12]) / 100.0
    }
}
