//! The page at `/`: what is wrong now, the rates of each stage, what judges say, how each rule stands, and where every log went.
//! Server-rendered, no script, light and dark.

use super::series::{Query, Wanted};
use super::{App, Problem, alerts, series, status};
use crate::message::{Colour, compose, moment};
use crate::standing;
use axum::extract::State;
use axum::response::Html;
use model::{Key, Signal, Span, show};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The rates of the overview, over this window.
const WINDOW: Span = Span::from_secs(300);
const SIGNALS: [Signal; 6] = [Signal::Error, Signal::Fallback, Signal::Retry, Signal::InvalidJson, Signal::Truncated, Signal::Refused];
/// Rows of the overview; environments × stages are few, but a name per request in `stage` must not make a page of megabytes.
const ROWS_MAX: usize = 200;
/// Watches of judges' fails on the page; each reads its window.
const JUDGED_MAX: usize = 32;
/// Ended alerts on the page.
const HISTORY_MAX: usize = 20;

pub(super) async fn overview(State(app): State<App>) -> Result<Html<String>, Problem> {
    let status = status::read(&app).await?;
    let (active, history) = alerts::read(&app, HISTORY_MAX).await?;
    let mut page = String::from(HEAD);
    let _ = write!(page, "<header><h1>streamgauge</h1><p>{} · Slack: {}</p></header><main>", escape(&app.source), escape(&app.slack));
    alerts_section(&mut page, &active, &history);
    rates_section(&mut page, &app).await?;
    judges_section(&mut page, &app).await?;
    rules_section(&mut page, &app).await?;
    ledger_section(&mut page, &status);
    page += "</main></body></html>";
    Ok(Html(page))
}

fn alerts_section(page: &mut String, active: &[Value], history: &[(String, machine::Notification)]) {
    *page += "<section aria-labelledby=now><h2 id=now>Now</h2>";
    let firing = active.iter().filter(|alert| alert["state"] == "firing").count();
    if firing == 0 {
        *page += "<p class=well>Nothing is out of its expected range.</p>";
    }
    for alert in active {
        let text = |name: &str| escape(alert[name].as_str().unwrap_or_default());
        let group: Vec<_> = alert["group"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, label)| format!("{} {}", escape(key), escape(label.as_str().unwrap_or_default())))
            .collect();
        let facts = alert["facts"].as_object().into_iter().flatten().map(|(label, text)| {
            let text = escape(text.as_str().unwrap_or_default());
            format!("<div><dt>{}</dt><dd>{text}</dd></div>", escape(label))
        });
        let facts: String = facts.collect();
        let facts = if facts.is_empty() { facts } else { format!("<dl class=facts>{facts}</dl>") };
        let adopt = if alert["adoptable"] == true {
            format!("<p class=dim>Normal from now on? <code>streamgauge adopt {}</code></p>", text("id"))
        } else {
            String::new()
        };
        let _ = write!(
            page,
            "<article class='alert {}' id='alert-{}'><h3>{} <small>{} · {}</small></h3><p>{}</p><p class=dim>{} · since <time>{}</time></p>{facts}{adopt}</article>",
            text("severity"),
            text("id"),
            text("rule"),
            text("state"),
            text("severity"),
            text("summary"),
            group.join(" · "),
            text("began"),
        );
    }
    let ended: Vec<_> = history.iter().filter(|(state, _)| state == "resolved").collect();
    if !ended.is_empty() {
        *page += "<h2>Ended</h2><div class=wide><table><thead><tr><th>Alert<th>At worst<th>Began<th>Ended</thead><tbody>";
        for (_, notification) in ended {
            let message = compose(notification, "", false);
            let field = |name: &str| message.fields.iter().find(|(label, _)| label == name).map_or(String::new(), |(_, value)| escape(value));
            let mark = if message.colour == Colour::Green { "✔" } else { "○" };
            let _ = write!(
                page,
                "<tr id='alert-{}'><td>{mark} {}<td class=n>{}<td><time>{}</time><td><time>{}</time>",
                escape(&notification.alert_id),
                escape(message.headline.split_once(": ").map_or(message.headline.as_str(), |(_, rest)| rest)),
                field("At worst"),
                moment(notification.began, None),
                moment(notification.at, None)
            );
        }
        *page += "</tbody></table></div>";
    }
    *page += "</section>";
}

async fn rates_section(page: &mut String, app: &App) -> Result<(), Problem> {
    let mut rows: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let ask = |wanted| Query { wanted, window: WINDOW, group_by: vec![Key::Stage], only: Vec::new(), environment: None };
    // One read serves all columns: a cell holds every signal.
    let answer = series::read(app, &ask(Wanted::Signal(Signal::Error.name().to_owned()))).await?;
    for group in answer.groups.iter().take(ROWS_MAX) {
        let cells = SIGNALS.map(|signal| {
            let ratio = group.cell.ratios[signal.index()];
            if ratio.applies == 0 { "–".to_owned() } else { show::percent(ratio.holds as f64 / ratio.applies as f64) }
        });
        let stage = group.labels.first().filter(|stage| !stage.is_empty()).map_or("(none)".to_owned(), Clone::clone);
        let calls = show::number(group.cell.calls as f64);
        rows.insert((group.environment.clone(), stage), std::iter::once(calls).chain(cells).collect());
    }
    let _ = write!(page, "<section aria-labelledby=rates><h2 id=rates>The last {WINDOW} <small>of each environment's clock</small></h2>");
    if rows.is_empty() {
        *page += "<p>No calls yet. Publish one: <code>streamgauge publish calls.jsonl</code></p></section>";
        return Ok(());
    }
    *page += "<div class=wide><table><thead><tr><th>Environment<th>Stage<th class=n>Calls";
    SIGNALS.iter().for_each(|signal| *page += &format!("<th class=n>{}", signal.name().replace('_', " ")));
    *page += "</thead><tbody>";
    for ((environment, stage), cells) in rows {
        let _ = write!(page, "<tr><td>{}<td>{}", escape(&environment), escape(&stage));
        cells.iter().for_each(|cell| *page += &format!("<td class=n>{}", escape(cell)));
    }
    *page += "</tbody></table></div><p class=dim>More: <a href='/api/v1/series?measure=latency_ms&amp;group_by=provider,model'>/api/v1/series</a> by stage, provider and model.</p></section>";
    Ok(())
}

/// What rules that watch a judge's fails see of it in each environment: as the judge says, and corrected where it is calibrated.
async fn judges_section(page: &mut String, app: &App) -> Result<(), Problem> {
    let watched = app
        .reader
        .ask(|machine| {
            let plan = machine.plan();
            let watches = plan.rules.iter().flat_map(|rule| rule.watches.iter().map(move |watch| (rule, watch)));
            let estimating = watches.filter(|(_, watch)| watch.statistic.estimates() && !watch.part);
            let query = estimating.filter_map(|(rule, watch)| {
                let filter = &plan.groupings[watch.grouping].filter.0;
                let only = filter.iter().filter(|(key, _)| *key != Key::Judge).map(|(key, values)| Some((key.clone(), values.first()?.clone())));
                let group_by = if watch.statistic.judge().is_none() { vec![Key::Judge] } else { Vec::new() };
                let wanted = Wanted::Signal(watch.statistic.signal()?.name().to_owned());
                let only = only.collect::<Option<_>>()?;
                Some((rule.name.clone(), Query { wanted, window: watch.window, group_by, only, environment: None }))
            });
            query.take(JUDGED_MAX).collect::<Vec<_>>()
        })
        .await?;
    let mut rows = String::new();
    for (rule, query) in watched {
        // A filter with several labels makes no question for one; the rule's own page, `explain`, has it.
        let Ok(answer) = series::read(app, &query).await else { continue };
        let calibrations = series::calibrations(app, &answer).await?;
        for group in answer.groups.iter().take(ROWS_MAX) {
            let Some(Some(believed)) = answer.believed(&query, group, &calibrations) else { continue };
            let judge = group.labels.first().map_or(String::new(), |judge| format!(" · {judge}"));
            let (environment, what) = (escape(&group.environment), escape(&format!("{rule}{judge}, {}", query.window)));
            let _ = write!(rows, "<tr><td>{environment}<td>{what}<td class=long>{}", escape(&believed.to_string()));
        }
    }
    if !rows.is_empty() {
        *page += "<section aria-labelledby=judged><h2 id=judged>What judges say <small>with 95 % intervals for all calls</small></h2>";
        let _ =
            write!(page, "<div class=wide><table><thead><tr><th>Environment<th>Rule<th>Fails</thead><tbody>{rows}</tbody></table></div></section>");
    }
    Ok(())
}

/// How each rule stands, and what its alarm budget costs it in delay.
async fn rules_section(page: &mut String, app: &App) -> Result<(), Problem> {
    let (standings, budget) = app.reader.ask(|machine| (machine.rules(), machine.plan().false_alarms)).await?;
    if standings.is_empty() {
        return Ok(());
    }
    let _ = write!(page, "<section aria-labelledby=rules><h2 id=rules>Rules <small>false alarms by drift: at most {budget}</small></h2>");
    *page += "<div class=wide><table><thead><tr><th>Environment<th>Rule<th>State<th class=n>Gauges<th class=n>Learning<th>What it can prove</thead><tbody>";
    for standing in standings.iter().take(ROWS_MAX) {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td class=long>{}",
            escape(&standing.environment),
            escape(&standing.rule),
            standing::state(standing),
            show::number(standing.gauged as f64),
            show::number(standing.learning as f64),
            escape(&standing::cost(standing)),
        );
    }
    *page += "</tbody></table></div><p class=dim>Why a rule fires, or does not: <code>streamgauge explain RULE KEY=LABEL</code></p></section>";
    Ok(())
}

fn ledger_section(page: &mut String, status: &Value) {
    *page += "<section aria-labelledby=ledger><h2 id=ledger>Where every log went</h2><dl>";
    for (name, meaning) in [
        ("received", "read from the stream"),
        ("counted", "counted as calls"),
        ("malformed", "not calls; kept on streamgauge.dead"),
        ("late", "came after their slice was sealed"),
        ("missed", "gone from the stream before they were read"),
        ("lag", "still to be read"),
    ] {
        let count = status[name].as_u64().unwrap_or_default();
        let _ = write!(page, "<div><dt>{name}</dt><dd>{}</dd><dd class=dim>{meaning}</dd></div>", show::number(count as f64));
    }
    *page += "</dl>";
    for (name, environment) in status["environments"].as_object().into_iter().flatten() {
        let _ = write!(
            page,
            "<p class=dim>{}: clock <time>{}</time>, {} series</p>",
            escape(name),
            escape(environment["clock"].as_str().unwrap_or_default()),
            environment["series"]
        );
    }
    *page += "<p class=dim><a href='/api/v1/status'>/api/v1/status</a> · <a href='/api/v1/alerts'>/api/v1/alerts</a> · <a href='/metrics'>/metrics</a></p></section>";
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>
<meta http-equiv=refresh content=10><title>streamgauge</title><style>
:root{color-scheme:light dark;--fg:#1c2024;--bg:#fff;--dim:#60646c;--line:#e0e1e6;--card:#f7f8fa}
@media(prefers-color-scheme:dark){:root{--fg:#edeef0;--bg:#111315;--dim:#9da1a8;--line:#2e3135;--card:#191b1f}}
*{box-sizing:border-box}body{margin:0;font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg)}
header,main{max-width:64rem;margin:auto;padding:0 1rem}header{display:flex;gap:1rem;align-items:baseline;flex-wrap:wrap;border-bottom:1px solid var(--line)}
header p,.dim,small{color:var(--dim)}header p{margin:.5rem 0}h1{margin:.6rem 0}h1{font-size:1.25rem}h2{font-size:1.05rem;margin:1.5rem 0 .5rem}h3{font-size:1rem;margin:0}small{font-weight:400}
.well{color:#2a7e3b}@media(prefers-color-scheme:dark){.well{color:#71d083}}
.alert{background:var(--card);border-left:4px solid #e5484d;border-radius:4px;padding:.6rem .9rem;margin:.5rem 0}.alert.warning{border-color:#f76b15}.alert.info{border-color:#0090ff}
.alert p{margin:.2rem 0}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
td.long{white-space:normal;min-width:20rem}.facts{grid-template-columns:max-content 1fr;gap:.1rem .8rem;margin:.4rem 0}.facts div{display:contents}code{font-size:.9em}
th{font-weight:600;color:var(--dim)}.n{text-align:right;font-variant-numeric:tabular-nums}dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr));gap:.5rem;margin:0}
dl div{background:var(--card);border-radius:4px;padding:.5rem .8rem}dt{color:var(--dim)}dd{margin:0;font-variant-numeric:tabular-nums}a{color:inherit}:target{outline:2px solid #0090ff}
</style></head><body>";
