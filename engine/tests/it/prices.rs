//! Calls that do not say what they cost, from the stream to what people read: a cost that adds up with stated ones, and no guess where there is no price.

use crate::engine::Setup;
use crate::nats::Nats;
use crate::publishing::Publishing;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_cost_is_charged_by_its_tokens_and_a_model_without_a_price_is_named() {
    let nats = Nats::start().await;
    let setup = Setup::new(&nats).set("prices.ours.input", "1").set("prices.ours.output", "2");
    let engine = setup.start().await;
    let mut publishing = Publishing::new(&nats).await;
    let tokens = r#""usage":{"input_tokens":1000,"output_tokens":100}"#;
    let calls = [
        format!(r#""model":"gpt-4o-2024-11-20","provider":"openai",{tokens}"#),
        format!(r#""model":"gpt-4o","served_by":{{"provider":"openai","model":"gpt-4o-mini"}},{tokens}"#),
        format!(r#""model":"ours",{tokens}"#),
        format!(r#""model":"ours","cost_usd":0.5,{tokens}"#),
        format!(r#""model":"theirs","provider":"vllm",{tokens}"#),
        r#""model":"theirs","status_code":429"#.to_owned(),
    ];
    for (at, call) in calls.iter().enumerate() {
        publishing.send(format!(r#"{{"id":"c{at}","time":{},{call}}}"#, 1_767_225_600_000u64 + at as u64)).await;
    }
    publishing.flush().await;
    let status = engine.until("all to be counted", Duration::from_secs(20), |status| status["counted"] == 6).await;
    let prices = &status["prices"];
    assert_eq!(prices["calls"], serde_json::json!({"stated": 1, "computed": 3, "no_tokens": 1, "unclear": 0, "no_price": 1}));
    assert_eq!(prices["without_price"], serde_json::json!([{"provider": "vllm", "model": "theirs", "calls": 1}]));
    assert_eq!(prices["own"], 1);

    // 3.5 thousandths of a dollar, 0.21, 1.2, and the half dollar that one said itself.
    let costs = crate::counts::measure(&engine, "cost_usd", &["model"], 1e9).await;
    let costs: Vec<_> = costs.iter().filter(|(_, sum)| sum.count > 0).map(|(group, sum)| (group[1].as_str(), sum.count, sum.sum)).collect();
    assert_eq!(costs, [("gpt-4o", 1, 210_000), ("gpt-4o-2024-11-20", 1, 3_500_000), ("ours", 2, 501_200_000)]);
    let (_, metrics) = engine.get("/metrics").await;
    assert!(metrics.contains("streamgauge_call_costs_total{cost=\"no_price\"} 1\n") && !metrics.contains("theirs"), "{metrics}");
    let said = setup.run(&["status"]).await;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("\nprices    no price for 1 call: vllm/theirs 1; set [prices.\"MODEL\"]\n"), "{said}");
}
