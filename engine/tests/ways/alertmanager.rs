//! Alertmanager: a counterpart that takes and refuses what its API v2 does, held to Alertmanager itself where `STREAMGAUGE_ALERTMANAGER` names its
//! binary, and what it makes of the life of an incident.

use crate::telling::{PUBLIC_URL, alertmanager, life};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use model::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use streamgauge::posted::Posted;

type Labels = BTreeMap<String, String>;

/// What it knows of an alert, as `GET /api/v2/alerts` shows it.
#[derive(Clone, Debug)]
struct Known {
    starts: Timestamp,
    ends: Timestamp,
    annotations: Labels,
    generator: String,
}

#[derive(Clone, Default)]
struct Counterpart {
    url: String,
    alerts: Arc<Mutex<BTreeMap<Labels, Known>>>,
}

/// What it does not take: a status, and a word of what it says of it.
type Refusal = (StatusCode, Value);

impl Counterpart {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let counterpart = Self { url: format!("http://{}", listener.local_addr().expect("it is bound")), alerts: Arc::default() };
        let service = Router::new().route("/api/v2/alerts", post(take)).with_state(counterpart.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        counterpart
    }

    /// Labels of what fires now.
    fn firing(&self) -> Vec<Labels> {
        let now = now();
        self.known().into_iter().filter(|(_, known)| known.ends > now).map(|(labels, _)| labels).collect()
    }

    fn known(&self) -> BTreeMap<Labels, Known> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, alerts: Vec<(Labels, Known)>) {
        let (now, mut known) = (now(), self.alerts.lock().unwrap_or_else(PoisonError::into_inner));
        for (labels, mut alert) in alerts {
            // One that overlaps with what is known goes on from its beginning; the later end counts where both are over or neither is.
            if let Some(old) = known.get(&labels) {
                let overlaps = alert.ends > old.starts && alert.ends < old.ends || alert.starts > old.starts && alert.starts < old.ends;
                if overlaps {
                    alert.starts = alert.starts.min(old.starts);
                    if (alert.ends <= now) == (old.ends <= now) || alert.ends > now {
                        alert.ends = alert.ends.max(old.ends);
                    }
                }
            }
            known.insert(labels, alert);
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    Timestamp::from_millis(since.as_millis() as i64).expect("it is a time")
}

async fn take(State(counterpart): State<Counterpart>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let json = headers.get("content-type").and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.starts_with("application/json"));
    if !json {
        return (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Json(json!({ "code": 415, "message": "unsupported media type, only [application/json] are allowed" })),
        );
    }
    match read(&body) {
        Err((status, said)) => (status, Json(said)),
        // Those that are valid are taken though others are not.
        Ok((taken, problems)) => {
            counterpart.take(taken);
            if problems.is_empty() { (StatusCode::OK, Json(Value::Null)) } else { (StatusCode::BAD_REQUEST, Json(Value::from(problems.join("; ")))) }
        }
    }
}

/// The alerts of a body that are valid, and what is wrong with the others.
fn read(body: &[u8]) -> Result<(Vec<(Labels, Known)>, Vec<String>), Refusal> {
    let cannot =
        |why: &str| (StatusCode::BAD_REQUEST, json!({ "code": 400, "message": format!("parsing alerts body from \"\" failed, because {why}") }));
    let missing = |what: String| (StatusCode::UNPROCESSABLE_ENTITY, json!({ "code": 602, "message": format!("{what} in body is required") }));
    let body: Value = serde_json::from_slice(body).map_err(|error| cannot(&error.to_string()))?;
    let body = body.as_array().ok_or_else(|| cannot("it is no array"))?;
    let (mut taken, mut problems) = (Vec::new(), Vec::new());
    for (at, alert) in body.iter().enumerate() {
        let labels = |key: &str| match &alert[key] {
            Value::Null => Ok(None),
            Value::Object(pairs) => {
                let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
                pairs.iter().map(text).collect::<Option<Labels>>().map(Some).ok_or_else(|| cannot("a label is no text"))
            }
            _ => Err(cannot("labels are no object")),
        };
        let time = |key: &str| match alert[key].as_str() {
            None if alert[key].is_null() => Ok(None),
            Some(text) => Timestamp::parse(text).map(Some).ok_or_else(|| cannot("a time is none")),
            None => Err(cannot("a time is no text")),
        };
        let mut named = labels("labels")?.ok_or_else(|| missing(format!("{at}.labels")))?;
        let (annotations, starts, ends) = (labels("annotations")?.unwrap_or_default(), time("startsAt")?, time("endsAt")?);
        let generator = alert["generatorURL"].as_str().unwrap_or_default().to_owned();
        if !generator.is_empty() && url::Url::parse(&generator).is_err() {
            return Err((
                StatusCode::UNPROCESSABLE_ENTITY,
                json!({ "code": 601, "message": format!("{at}.generatorURL in body must be of type uri") }),
            ));
        }
        // A label without a value is none.
        named.retain(|_, value| !value.is_empty());
        let starts = starts.or(ends).unwrap_or_else(now);
        let ends = ends.unwrap_or_else(|| now() + model::Span::from_secs(300));
        let valid = |name: &String| {
            let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if let Some(name) = named.keys().chain(annotations.keys()).find(|name| !valid(name)) {
            problems.push(format!("invalid label set: invalid name {name:?}"));
        } else if named.is_empty() {
            problems.push("at least one label pair required".to_owned());
        } else if ends < starts {
            problems.push("start time must be before end time".to_owned());
        } else {
            taken.push((named, Known { starts, ends, annotations, generator }));
        }
    }
    Ok((taken, problems))
}

fn sent() -> Option<Posted> {
    Some(Posted::Sent("HTTP 200".to_owned()))
}

#[tokio::test]
async fn an_incident_is_an_alert_for_each_of_its_places_until_it_is_over() {
    let counterpart = Counterpart::start().await;
    let ways = alertmanager(&counterpart.url);
    let told = life("a");
    let route = format!("alertmanager:{}", counterpart.url);
    assert_eq!(ways.routes(&told[0].incident), [route.as_str()]);
    let mut firing = Vec::new();
    for telling in &told {
        assert_eq!(ways.post(&route, telling, false).await, sent());
        firing.push(counterpart.firing().len());
    }
    assert_eq!(firing, [1, 2, 2, 1, 0]);
    let known = counterpart.known();
    assert_eq!(known.len(), 2);
    let incident = &told[4].incident;
    for (labels, alert) in &known {
        assert_eq!((labels["alertname"].as_str(), labels["incident"].as_str()), ("TEST of fallback-rate", incident.id.as_str()));
        assert_eq!(alert.starts, incident.began);
        let of_lead = labels["model"] == "gpt-4o";
        assert_eq!(Some(alert.ends), if of_lead { incident.ended } else { Some(told[3].at) });
        assert!(alert.annotations["cause"].contains("rate limited") && alert.annotations.contains_key("summary"), "{alert:#?}");
        assert!(alert.generator.starts_with(&format!("{PUBLIC_URL}/")), "{alert:#?}");
        assert_eq!(alert.annotations["acknowledged_by"], "streamgauge slack test");
    }
    // What is told again after a restart changes nothing.
    assert_eq!(alertmanager(&counterpart.url).post(&route, &told[4], true).await, sent());
    assert!(counterpart.firing().is_empty() && counterpart.known().len() == 2);
}

#[tokio::test]
async fn what_logs_and_rules_may_say_is_taken() {
    let counterpart = Counterpart::start().await;
    let ways = alertmanager(&counterpart.url);
    let mut telling = life("a").remove(1);
    let hostile = ["", "{{ .Labels }}", "\u{202e}\u{0}\n", "a\"b\\c", &"é".repeat(5000)];
    let keys = ["a.b", "a-b", "severity", "1", "größe", "__name__", "", "alertname"];
    for (place, value) in telling.incident.places.iter_mut().zip(hostile.iter().cycle()) {
        place.group = keys.map(|key| (key.to_owned(), (*value).to_owned())).to_vec();
    }
    telling.incident.lead.summary = hostile.join(" ");
    let route = format!("alertmanager:{}", counterpart.url);
    assert_eq!(ways.post(&route, &telling, false).await, sent());
    assert_eq!(counterpart.firing().len(), 2);
}

#[tokio::test]
async fn an_address_under_which_it_is_not_is_refused_for_good() {
    let counterpart = Counterpart::start().await;
    let elsewhere = format!("{}/prefix", counterpart.url);
    let posted = alertmanager(&elsewhere).post(&format!("alertmanager:{elsewhere}"), &life("a")[0], false).await;
    assert_eq!(posted, Some(Posted::Refused("HTTP 404".to_owned())));
    assert!(counterpart.known().is_empty());
}

/// Bodies that are wrong, each in one way, and some that are right.
fn bodies() -> Vec<(&'static str, String)> {
    let alert = |change: Value| {
        let mut alert = json!({ "labels": { "alertname": "a" }, "startsAt": "2026-11-23T02:00:00Z", "endsAt": "2026-11-23T03:00:00Z" });
        for (key, value) in change.as_object().expect("an object") {
            alert[key] = value.clone();
        }
        json!([alert]).to_string()
    };
    vec![
        ("right", alert(json!({}))),
        ("without times", json!([{ "labels": { "alertname": "b" } }]).to_string()),
        ("an empty label beside another", alert(json!({ "labels": { "alertname": "c", "stage": "" } }))),
        ("nothing", "[]".to_owned()),
        ("no JSON", "{".to_owned()),
        ("an object", "{}".to_owned()),
        ("no labels", json!([{ "annotations": {} }]).to_string()),
        ("labels of nothing", alert(json!({ "labels": {} }))),
        ("empty labels alone", alert(json!({ "labels": { "stage": "" } }))),
        ("a number for a label", alert(json!({ "labels": { "alertname": 1 } }))),
        ("a name with a dot", alert(json!({ "labels": { "a.b": "c" } }))),
        ("a name of digits", alert(json!({ "labels": { "1": "c" } }))),
        ("an end before its beginning", alert(json!({ "endsAt": "2026-11-23T01:00:00Z" }))),
        ("an end at its beginning", alert(json!({ "endsAt": "2026-11-23T02:00:00Z" }))),
        ("no time", alert(json!({ "startsAt": "yesterday" }))),
        ("no address", alert(json!({ "generatorURL": "http://[" }))),
        ("an annotation with a dot", alert(json!({ "annotations": { "a.b": "c" } }))),
    ]
}

/// The status for each body, from whoever listens there.
async fn statuses(url: &str) -> Vec<(&'static str, u16)> {
    let client = streamgauge::web::client("a counterpart").expect("there are certificates");
    let mut statuses = Vec::new();
    for (what, body) in bodies() {
        let request = client.post(format!("{url}/api/v2/alerts")).header("content-type", "application/json").body(body);
        statuses.push((what, request.send().await.expect("it answers").status().as_u16()));
    }
    let form = client.post(format!("{url}/api/v2/alerts")).header("content-type", "text/plain").body("[]");
    statuses.push(("another type", form.send().await.expect("it answers").status().as_u16()));
    statuses
}

#[tokio::test]
async fn the_counterpart_takes_and_refuses_what_alertmanager_does() {
    let counterpart = Counterpart::start().await;
    let refused: Vec<_> = statuses(&counterpart.url).await.into_iter().filter(|(_, status)| *status != 200).collect();
    assert_eq!(refused.len(), 13, "{refused:#?}");
    let Ok(binary) = std::env::var("STREAMGAUGE_ALERTMANAGER") else {
        eprintln!("Alertmanager itself was not asked: STREAMGAUGE_ALERTMANAGER does not name its binary");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("alertmanager.yml");
    std::fs::write(&config, "route: { receiver: none }\nreceivers: [{ name: none }]\n").expect("it is written");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let (url, storage) = (format!("http://127.0.0.1:{port}"), folder.path().join("data"));
    let _alertmanager = tokio::process::Command::new(binary)
        .args([format!("--config.file={}", config.display()), format!("--storage.path={}", storage.display())])
        .args([format!("--web.listen-address=127.0.0.1:{port}"), "--cluster.listen-address=".to_owned()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let client = streamgauge::web::client("Alertmanager").expect("there are certificates");
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get(format!("{url}/-/ready")).send().await.is_err() {
        assert!(Instant::now() < deadline, "Alertmanager does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(statuses(&url).await, statuses(&counterpart.url).await);

    let ways = alertmanager(&url);
    let firing = async || {
        let request = client.get(format!("{url}/api/v2/alerts?filter=incident%3D~%22i.*%22"));
        let answer = streamgauge::web::answer(request).await.expect("it answers");
        serde_json::from_slice::<Value>(&answer.body).expect("it is JSON").as_array().map_or(0, Vec::len)
    };
    let mut seen = Vec::new();
    for telling in &life("a") {
        assert_eq!(ways.post(&format!("alertmanager:{url}"), telling, false).await, sent());
        seen.push(firing().await);
    }
    assert_eq!(seen, [1, 2, 2, 1, 0], "what Alertmanager itself shows as firing");
}
