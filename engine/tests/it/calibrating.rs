//! How far a judge is believed, from labels to corrected rates, and models side by side: with a counterpart whose errors are known, because it judges by
//! a word and labels are given as if people had seen more.

use crate::engine::{Setup, until};
use crate::judge::{Fault, Judge};
use crate::judging::{BEGIN_MS, JUDGE, setup};
use crate::nats::Nats;
use crate::publishing::Publishing;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A call that the counterpart fails, or lets pass. Each has another text, as calls have.
fn call(number: usize, model: &str, bad: bool) -> Value {
    let text = if bad { format!("BAD {number}") } else { format!("Ana lives in house {number}.") };
    json!({ "id": format!("call-{number}"), "time": BEGIN_MS + number as i64, "model": model, "stage": "retrieval", "input": "Where does Ana live?",
        "output": "done", "retrieved": [text] })
}

/// Labelled calls: fails that the judge fails and passes, passes that it passes and fails. Every other has its label beside the log.
fn labels([caught, missed, cleared, accused]: [usize; 4]) -> String {
    let kinds = [(caught, "fail", true), (missed, "fail", false), (cleared, "pass", false), (accused, "pass", true)];
    let each = kinds.into_iter().flat_map(|(count, label, bad)| std::iter::repeat_n((label, bad), count));
    let line = |(number, (label, bad)): (usize, (&str, bool))| {
        let mut call = call(number, "m", bad);
        if number % 2 == 0 {
            return json!({ "call": call, "label": label }).to_string() + "\n";
        }
        call["label"] = label.into();
        call.to_string() + "\n"
    };
    each.enumerate().map(line).collect()
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {}{}", self.out, self.err))
    }
}

async fn run(setup: &Setup, args: &[&str]) -> Ran {
    let output = setup.run(args).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Calibrates with labels of these kinds.
async fn calibrate(setup: &Setup, kinds: [usize; 4], more: &[&str]) -> Ran {
    let file = setup.path("labels.jsonl");
    std::fs::write(&file, labels(kinds)).expect("the labels are written");
    let file = file.display().to_string();
    run(setup, &[&["judge", "calibrate", JUDGE, "--labels", &file], more].concat()).await
}

fn close(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-9)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_errors_of_a_judge_are_found_and_its_rates_corrected_by_them() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let rule = format!("rule(#{{ name: \"relevance\", watch: rate(\"judge:{JUDGE}\", \"5m\"), group_by: [\"model\"] }});");
    let setup = setup(&nats, &judge.url, &[]).rule("relevance.rhai", &rule);
    let listed = run(&setup, &["judge", "list"]).await.out;
    assert!(listed.contains("\n  not calibrated\n"), "{listed}");
    let mut publishing = Publishing::new(&nats).await;
    // Beside an engine, which holds the store.
    let engine = setup.start().await;
    assert_eq!(engine.json("/api/v1/judges").await[0]["calibration"]["state"], "not_calibrated");
    let ran = calibrate(&setup, [36, 4, 54, 6], &["--json"]).await;
    let found = ran.json();
    assert_eq!(ran.code, Some(0), "{found}");
    assert!(ran.err.contains("100 requests, about 0.0") && ran.err.contains(" US dollars and at most 0."), "{}", ran.err);
    assert_eq!(["caught", "missed", "cleared", "accused"].map(|kind| found[kind].as_u64()), [Some(36), Some(4), Some(54), Some(6)]);
    for (share, expected) in [("sensitivity", 0.9), ("specificity", 0.9), ("agreement", 0.9)] {
        assert!(close(&found[share]["estimate"]["value"], expected), "{share}: {found}");
    }
    // Agreement by chance is 0.42·0.4 + 0.58·0.6.
    assert!(close(&found["kappa"]["value"], (0.9 - 0.516) / (1.0 - 0.516)), "{found}");
    // A hundred answers of 100 and 20 tokens, at ten times 0.04 and 0.16 US dollars for a million.
    assert!(close(&found["cost_usd"], 100.0 * (100.0 * 0.4 + 20.0 * 1.6) / 1e6), "{found}");
    assert_eq!((judge.requests().len(), &found["corrects"], &found["kept"]), (100, &json!(true), &json!(true)));

    let shown = &engine.json("/api/v1/judges").await[0]["calibration"];
    assert_eq!((&shown["state"], &shown["fails"], &shown["passes"]), (&json!("calibrated"), &json!(40), &json!(60)));
    assert!(close(&shown["sensitivity"]["value"], 0.9) && close(&shown["specificity"]["value"], 0.9), "{shown}");
    for number in 0..100 {
        publishing.send(call(1_000 + number, "m", number % 10 < 3).to_string()).await;
    }
    publishing.send(json!({ "id": "after", "time": BEGIN_MS + 20_000, "model": "m", "stage": "other" }).to_string()).await;
    publishing.flush().await;
    let path = format!("/api/v1/series?signal=judge:{JUDGE}&group_by=model");
    let series = until("a hundred opinions", PATIENCE, || engine.json(&path), |series| series["groups"][0]["denominator"] == 100).await;
    let group = &series["groups"][0];
    assert!(close(&group["value"], 0.3) && close(&group["effective"], 100.0) && group["numerator"] == 30, "{group}");
    assert!(close(&group["corrected"]["value"], (0.3 - 0.1) / 0.8), "{group}");
    let width = |interval: &Value| interval["high"].as_f64().zip(interval["low"].as_f64()).map_or(0.0, |(high, low)| high - low);
    assert!(width(&group["corrected"]) > width(group), "what is not known of the judge widens it: {group}");
    let explained = run(&setup, &["explain", "relevance"]).await.out;
    assert!(explained.contains("judged    30 % (") && explained.contains("; 25 % ("), "{explained}");
    let (_, page) = engine.get("/evaluators").await;
    assert!(page.contains("What judges say") && page.contains("30 % (") && page.contains("; 25 % ("), "{page}");
    let (status, problem) = engine.get(&format!("/api/v1/series?signal=judge:{JUDGE}&group_by=provider")).await;
    assert!(status == 404 && problem.contains(&format!("judge:{JUDGE} by environment, model where judge={JUDGE}")), "{status} {problem}");
    assert!(engine.terminate().await.success());
    let listed = run(&setup, &["judge", "list"]).await.out;
    assert!(listed.contains("  calibrated 20") && listed.contains("it catches 90 % ("), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judge_that_is_not_told_from_chance_is_not_corrected_and_says_so() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    for (kinds, expected) in [([20, 20, 20, 20], "its verdicts are not told from chance"), ([5, 35, 5, 35], "its verdicts are worse than chance")] {
        let setup = setup(&nats, &judge.url, &[]);
        let ran = calibrate(&setup, kinds, &[]).await;
        assert!(ran.code == Some(1) && ran.out.contains(&format!("its rates will not be corrected: {expected}")), "{}{}", ran.out, ran.err);
        let listed = run(&setup, &["judge", "list"]).await.out;
        assert!(listed.contains(&format!("; its rates are not corrected: {expected}")), "{listed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calibration_is_of_one_judge_and_a_changed_one_is_another() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = setup(&nats, &judge.url, &[]);
    // Its own cases, of which the counterpart finds none bad.
    let own = run(&setup, &["judge", "calibrate", JUDGE]).await;
    assert!(own.code == Some(1) && own.err.contains("note: these are the judge's own cases"), "{}{}", own.out, own.err);
    assert!(run(&setup, &["judge", "list"]).await.out.contains(" labels of its own cases: "));
    let changed = setup.set(&format!("judges.{JUDGE}.model"), "gpt-4.1");
    let listed = run(&changed, &["judge", "list"]).await.out;
    assert!(listed.contains("  calibrated as another judge ") && listed.contains("(it was changed since; it was "), "{listed}");
    let listed = run(&changed, &["judge", "list", "--json"]).await.json();
    assert_eq!(listed[0]["calibration"]["state"], "of_another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_that_got_no_answer_are_no_calibration() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let setup = setup(&nats, &judge.url, &[("concurrency", "1"), ("retries", "0")]);
    judge.always(Some(Fault::Status(401)));
    let ran = calibrate(&setup, [10, 10, 10, 10], &[]).await;
    assert!(ran.code == Some(2) && ran.err.contains("answered about none of the calls: HTTP 401: scripted"), "{}{}", ran.out, ran.err);
    assert_eq!(judge.requests().len(), 5, "nobody is asked any more after five calls in a row without an answer");
    judge.always(None);
    let fails = [Fault::Status(401); 4];
    judge.script(&[&fails[..], &[Fault::Prose], &fails].concat());
    let found = calibrate(&setup, [30, 0, 30, 0], &["--json"]).await.json();
    assert_eq!((&found["unreadable"]["hits"], &found["errored"], &found["kept"]), (&json!(1), &json!(8), &json!(false)), "{found}");
    assert!(run(&setup, &["judge", "list"]).await.out.contains("\n  not calibrated\n"));
    // A few do not matter.
    judge.script(&fails);
    let found = calibrate(&setup, [30, 0, 30, 0], &["--json"]).await.json();
    assert_eq!((&found["errored"], &found["kept"]), (&json!(4), &json!(true)), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_dollar_is_asked_for_first_and_a_limit_and_the_judges_cap_are_kept() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    // An answer costs 3 cents; the most that a request can cost is some 10.
    judge.usage(1_000, 200);
    let dear = |more: &[(&str, &str)]| {
        let more: Vec<_> = [("model", "dear"), ("concurrency", "8")].iter().chain(more).copied().collect();
        setup(&nats, &judge.url, &more).set("prices.dear.input", "10").set("prices.dear.output", "100")
    };
    let uncapped = dear(&[]);
    let ran = calibrate(&uncapped, [20, 0, 20, 0], &[]).await;
    assert!(ran.code == Some(2) && ran.err.contains("and nothing was asked\nhint: go on with --yes"), "{}", ran.err);
    assert!(judge.requests().is_empty());
    let limited = calibrate(&uncapped, [20, 0, 20, 0], &["--limit", "0.5", "--json"]).await.json();
    let requests = judge.requests().len();
    assert!((8..=16).contains(&requests) && close(&limited["cost_usd"], requests as f64 * 0.03), "{requests} requests: {limited}");
    assert_eq!(limited["not_asked"], 40 - requests);
    let capped = dear(&[("spend.day", "0.6")]);
    for _ in 0..2 {
        calibrate(&capped, [20, 0, 20, 0], &["--yes"]).await;
    }
    let more = judge.requests().len() - requests;
    assert!((10..=20).contains(&more), "{more} requests at 3 cents under a cap of 60 for both together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_set_side_by_side_as_the_judge_sees_them() {
    let (nats, judge) = (Nats::start().await, Judge::start().await);
    let evaluator = "evaluator(#{ name: \"even\" });\nfn evaluate(log) { if log.id.ends_with(\"0\") { fail(\"ends with 0\") } else { pass() } }";
    let setup = setup(&nats, &judge.url, &[]);
    std::fs::create_dir_all(setup.path("evaluators")).expect("the folder is made");
    std::fs::write(setup.path("evaluators/even.rhai"), evaluator).expect("the evaluator is written");
    let setup_path = setup.path("evaluators").display().to_string();
    let setup = setup.set("evaluators.path", &setup_path);
    calibrate(&setup, [36, 4, 54, 6], &[]).await;
    let asked = judge.requests().len();
    // Of model a every tenth is bad, of model b every second; and calls that the judge is not for.
    let calls = (0..100).map(|number| call(number, "a", number % 10 == 0)).chain((100..140).map(|number| call(number, "b", number % 2 == 0)));
    let others =
        (140..150).map(|number| json!({ "id": format!("call-{number}"), "time": BEGIN_MS, "model": "c", "stage": "other", "output": "BAD" }));
    let text: String = calls.chain(others).map(|call| call.to_string() + "\n").collect::<String>() + "no call\n";
    let file = setup.path("calls.jsonl");
    std::fs::write(&file, text).expect("the calls are written");
    let file = file.display().to_string();
    let ran = run(&setup, &["evaluate", &file, "--judge", JUDGE, "--by", "model", "--json"]).await;
    let found = ran.json();
    assert_eq!((ran.code, judge.requests().len() - asked), (Some(0), 140), "{found}");
    assert!(ran.err.contains("note: 1 of 151 lines are no calls"), "{}", ran.err);
    for (at, (model, calls, fails, judged)) in [("a", 100, 10, 100), ("b", 40, 20, 40), ("c", 10, 0, 0)].into_iter().enumerate() {
        let group = &found["groups"][at];
        let column = &group["judged"][format!("judge:{JUDGE}")];
        assert_eq!((&group["label"], &group["calls"]), (&json!(model), &json!(calls)), "{found}");
        assert_eq!((&column["fail"], &column["pass"]), (&json!(fails), &json!(judged - fails)), "{found}");
        let even = &group["judged"]["code:even"];
        assert_eq!(even["fail"], calls / 10, "{found}");
    }
    let b = &found["groups"][1]["judged"][format!("judge:{JUDGE}")];
    // Half of the answers fail by the judge, and the same by people: (0.5 − 0.1) / 0.8.
    assert!(close(&b["pass_rate"]["value"], 0.5) && close(&b["corrected"]["value"], 0.5), "{b}");
    let a = &found["groups"][0]["judged"][format!("judge:{JUDGE}")];
    assert!(close(&a["corrected"]["value"], 1.0), "all of its fails are as many as the judge accuses: {a}");

    let drawn = async |seed: &str| run(&setup, &["evaluate", &file, "--sample", "50", "--seed", seed]).await.out;
    let first = drawn("7").await;
    assert!(first.starts_with("50 of 150 calls, drawn with seed 7, by model\n") && first.contains("\ncode:even"), "{first}");
    assert_eq!(first, drawn("7").await);
    assert_ne!(first, drawn("8").await);
    let unknown = run(&setup, &["evaluate", &file, "--by", "modle"]).await;
    assert!(unknown.code == Some(2) && unknown.err.contains("no call has `modle` to compare by\nhint: did you mean `model`?"), "{}", unknown.err);
    let unknown = run(&setup, &["evaluate", &file, "--evaluator", "code:evn"]).await;
    assert!(unknown.err.contains("there is no code evaluator `evn`\nhint: did you mean `code:even`?"), "{}", unknown.err);
}
