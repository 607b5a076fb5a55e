//! Core NATS from outside, with a real nats-server that has no JetStream: what reaches the engine is counted, and what does not is said to be lost.

use crate::engine::{Engine, Setup};
use crate::nats::Nats;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const LOSES: &str = "core NATS, at most once: what is published while the engine is down or slow is lost";

async fn start() -> (Nats, Setup) {
    let nats = Nats::start_with(&[]).await;
    let setup = Setup::new(&nats).set("nats.delivery", "core");
    (nats, setup)
}

async fn publish(client: &async_nats::Client, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let log = json!({ "id": format!("c{number}"), "time": 1_767_225_600_000 + number, "model": "m", "stage": "s" });
        client.publish("llm.calls.test", log.to_string().into()).await.expect("it is sent");
    }
    client.flush().await.expect("the server has it");
}

async fn received(engine: &Engine, count: u64) -> Value {
    engine.until(&format!("{count} logs"), PATIENCE, |status| status["received"].as_u64() >= Some(count)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_outlive_a_kill_and_what_came_while_the_engine_was_down_is_lost_as_it_says() {
    let (nats, setup) = start().await;
    let client = nats.client().await;
    let mut dead = client.subscribe("streamgauge.dead").await.expect("a subscription");
    let engine = setup.start().await;
    publish(&client, 0..1000).await;
    client.publish("llm.calls.test", "{}".into()).await.expect("it is sent");
    let status = received(&engine, 1001).await;
    assert_eq!(
        (&status["counted"], &status["malformed"], &status["missed"], &status["position"]),
        (&1000.into(), &1.into(), &0.into(), &1001.into())
    );
    assert_eq!((&status["delivery"], &status["balances"]), (&"core".into(), &true.into()));
    assert!(status["source"].as_str().is_some_and(|source| source.contains(LOSES)), "{status:#}");
    assert!(engine.get("/status").await.1.contains(LOSES) && setup.log().contains(LOSES), "{}", setup.log());
    let letter = tokio::time::timeout(PATIENCE, dead.next()).await.expect("a letter in time").expect("the subscription goes on");
    assert_eq!(letter.payload, "{}");
    engine.until("a snapshot of all", PATIENCE, |status| status["committed"] == 1001).await;
    engine.kill().await;

    publish(&client, 1000..1050).await;
    let engine = setup.start().await;
    assert_eq!(engine.status().await["received"], 1001, "nothing is counted twice, and nothing comes again");
    publish(&client, 1050..1060).await;
    let status = received(&engine, 1011).await;
    assert_eq!(
        (&status["counted"], &status["missed"], &status["position"], &status["balances"]),
        (&1010.into(), &0.into(), &1011.into(), &true.into())
    );

    let doctor = setup.run(&["doctor"]).await;
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success() && said.contains(LOSES) && !said.contains("jetstream"), "{said}");
    let refused = setup.run(&["publish", "-"]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(engine.terminate().await.success());
}

/// A script makes the engine slow, so that most of what comes at once does not fit.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_that_is_too_slow_does_not_take_counts_as_missed_and_is_all_there_is_missing() {
    let (nats, setup) = start().await;
    let slow = r#"rule(#{ name: "slow", watch: rate("odd", "5m") });
fn signals(log) { let n = 0; while n < 3000 { n += 1; } #{ odd: n == 0 } }"#;
    let setup = setup.set("rules.library", "[]").rule("slow.rhai", slow);
    let engine = setup.start().await;
    let client = nats.client().await;
    let mut sent = 80_000;
    publish(&client, 0..sent).await;
    // What is left out is seen when the next log comes.
    let deadline = std::time::Instant::now() + PATIENCE;
    let status = loop {
        publish(&client, sent..sent + 1).await;
        sent += 1;
        let status = engine.until("the queue to be empty", PATIENCE, |status| status["lag"] == 0).await;
        if status["received"].as_u64().zip(status["missed"].as_u64()).is_some_and(|(received, missed)| received + missed >= sent) {
            break status;
        }
        assert!(std::time::Instant::now() < deadline, "{sent} sent: {status:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let count = |name: &str| status[name].as_u64().expect("a number");
    eprintln!("{sent} sent, {} received, {} missed", count("received"), count("missed"));
    assert_eq!(count("received") + count("missed"), sent);
    assert!(count("missed") > 0 && count("received") > 8192 && status["balances"] == true, "{status:#}");
    assert_eq!(count("position"), sent, "each log has its number, and those of lost ones are left out");
    assert!(engine.get("/status").await.1.contains("Logs came faster than they are counted"));
    assert!(engine.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_when_its_server_was_away() {
    let (mut nats, setup) = start().await;
    let engine = setup.start().await;
    publish(&nats.client().await, 0..10).await;
    received(&engine, 10).await;
    nats.restart().await;
    let client = nats.client().await;
    crate::engine::until("the connection made anew", PATIENCE, async || setup.log(), |log| log.contains("the connection was lost and made anew"))
        .await;
    publish(&client, 10..20).await;
    let status = received(&engine, 20).await;
    assert_eq!((&status["received"], &status["missed"], &status["balances"]), (&20.into(), &0.into(), &true.into()));
    assert_eq!(engine.get("/readyz").await.0, 200);
    assert!(engine.terminate().await.success());
}
