//! `/rules`: how each rule stands; `/rules/{name}`: what one watches, how well it is, and its text. And having the files read again.

use super::super::access::Caller;
use super::super::{App, Named, Problem, alerts, reload, rules};
use super::alert::KEY;
use super::frame::{Frame, Place, token};
use super::html::{TABLE_END, command, escaped, link, table, time};
use crate::chart::Chart;
use crate::config::May;
use crate::curve::{self, Of};
use crate::listing::Listed;
use crate::standing;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use model::plan::Statistic;
use model::{Labels, Span, show};
use std::fmt::Write;
use std::time::Duration;

const LIST_EVERY: Duration = Duration::from_secs(10);
/// The charts read hours of slices.
const ONE_EVERY: Duration = Duration::from_secs(30);
/// Rules × environments.
const ROWS_MAX: usize = 500;
/// What a rule's charts show of all its calls, and of how many environments.
const CHARTED: Span = Span::from_secs(3 * 3600);
const CHARTS_MAX: usize = 4;

pub(in crate::http) async fn list(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Html<String>, Problem> {
    let listed = rules::read(&app).await?;
    let budget = app.reader.ask(|machine| machine.plan().false_alarms).await?;
    let mut body =
        format!("<h1>Rules <small>false alarms by drift: at most {budget}</small></h1><section id=rules data-live aria-label='All rules'>");
    problems(&mut body, &app);
    let rows = listed.iter().flat_map(|rule| {
        let environments = rule.health.iter().flat_map(|health| &health.environments).map(Some).collect::<Vec<_>>();
        let none = environments.is_empty().then_some(None);
        environments.into_iter().chain(none).map(move |looked| (rule, looked))
    });
    body += &table("Rules", &["Rule", "Environment", "State", "Watches", "Gauges#", "Learning#", "Outside#", "What it can prove"]);
    for (rule, looked) in rows.take(ROWS_MAX) {
        let health = rule.health.as_ref();
        let failures = health.map_or(0, |health| health.script_failures + health.check_failures);
        let ill = health.is_some_and(|health| health.problem.is_some() || !health.suspended.is_empty());
        let ill = match (ill, failures) {
            (true, _) => " <span class=bad>✗ unwell</span>".to_owned(),
            (false, 0) => String::new(),
            (false, failures) => format!(" <span class=dim>{} failures</span>", show::number(failures as f64)),
        };
        let watches = escaped(&rule.says.watches.join(", "));
        let _ = write!(body, "<tr><th scope=row>{}", link("/rules", &rule.says.name));
        let _ = match looked {
            Some(looked) => write!(
                body,
                "<td>{}<td>{}{ill}<td>{watches}<td class=n>{}<td class=n>{}<td class=n>{}<td class=long>{}",
                escaped(&looked.standing.environment),
                state(&looked.standing),
                show::number(looked.standing.gauged as f64),
                show::number(looked.standing.learning as f64),
                show::number(looked.standing.firing as f64),
                escaped(&standing::cost(&looked.standing)),
            ),
            None => write!(body, "<td>–<td><span class=dim>no calls yet</span>{ill}<td>{watches}<td class=n>–<td class=n>–<td class=n>–<td>–"),
        };
    }
    let _ = write!(body, "{TABLE_END}</section><section aria-labelledby=change><h2 id=change>Changing rules</h2>");
    body += "<p>The files in <code>rules.path</code> are looked at every two seconds; a file with a mistake changes nothing.</p>";
    if caller.may >= May::Operate {
        let _ = write!(body, "<form method=post action='/rules/reload'>{}<button>Read the files now</button></form>", token(&caller));
    }
    body += &command("streamgauge rules reload");
    body += "</section>";
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::Rules, title: "Rules", every: Some(LIST_EVERY) }.page(&body))
}

/// With a mark, so that no colour has to be seen.
fn state(standing: &machine::RuleStanding) -> String {
    let word = standing::state(standing);
    let (class, mark) = match word {
        "alerting" => ("bad", "▲"),
        "in range" => ("well", "✓"),
        "learning" => ("dim", "…"),
        _ => ("dim", "·"),
    };
    let below = standing::below(standing).map_or_else(String::new, |below| format!(" <span class=dim>▽ {below}</span>"));
    format!("<span class='state {class}'>{mark} {word}</span>{below}")
}

/// Files with mistakes.
fn problems(body: &mut String, app: &App) {
    for file in app.rules.files().into_iter().filter(|file| file.problem.is_some()) {
        let runs = if file.rule.is_some() { "its last good version runs" } else { "it gives no rule" };
        let problem = escaped(file.problem.as_deref().unwrap_or_default());
        let _ = write!(body, "<h2 class=bad>✗ {}: {runs}</h2><pre class=problem tabindex=0>{problem}</pre>", escaped(&file.file));
    }
}

pub(in crate::http) async fn one(State(app): State<App>, Extension(caller): Extension<Caller>, Named(name): Named) -> Result<Html<String>, Problem> {
    let listed = rules::read(&app).await?;
    let Some(rule) = listed.iter().find(|rule| rule.says.name == name) else {
        let near = ::model::nearest::nearest(&name, listed.iter().map(|rule| rule.says.name.as_str()));
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no rule `{name}`"), format!("{near}all of them are at /rules")));
    };
    let (head, rest) = rule.says.summary.split_once("\n\n").unwrap_or((&rule.says.summary, ""));
    let mut body = format!("<h1>{} <small>{}</small></h1><p>{}</p>", escaped(&name), rule.says.severity.name(), escaped(head));
    if !rest.is_empty() {
        let _ = write!(body, "<p class=dim>{}</p>", escaped(rest));
    }
    let _ = write!(body, "<dl><dt>Watches<dd>{}<dt>Grouped by<dd>{}", escaped(&rule.says.watches.join(", ")), escaped(&rule.says.by.join(", ")));
    let _ = write!(body, "<dt>Decides<dd>{}", escaped(&rule.says.decided));
    let environments = if rule.says.environments.is_empty() { "all".to_owned() } else { rule.says.environments.join(", ") };
    let _ = write!(body, "<dt>Environments<dd>{}", escaped(&environments));
    for (label, text) in [("Channel", &rule.says.channel), ("Runbook", &rule.says.runbook), ("File", &rule.says.file)] {
        if let Some(text) = text {
            let _ = write!(body, "<dt>{label}<dd>{}", escaped(text));
        }
    }
    body += "</dl>";
    health(&mut body, &app, rule).await?;
    charts(&mut body, &app, &name).await?;
    body += "<section aria-labelledby=test><h2 id=test>Would it have fired?</h2><p>Over what the stream still has, with what was known by then:</p>";
    body += &command(&match &rule.says.file {
        // Shipped rules have no file; without one, all that the configuration loads are tested.
        Some(file) if !file.starts_with("library/") => {
            format!("streamgauge backtest '{}' --since 24h --report report.html", file.replace('\'', "'\\''"))
        }
        _ => "streamgauge backtest --since 24h --report report.html".to_owned(),
    });
    body += "</section>";
    if let Some(text) = rule.says.file.as_deref().and_then(|file| app.rules.text(file)) {
        let _ = write!(
            body,
            "<section aria-labelledby=source><h2 id=source>Its text</h2><pre tabindex=0><code>{}</code></pre></section>",
            escaped(&text)
        );
    }
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::Rules, title: &name, every: Some(ONE_EVERY) }.page(&body))
}

async fn health(body: &mut String, app: &App, rule: &Listed) -> Result<(), Problem> {
    *body += "<section id=health data-live aria-labelledby=health-title><h2 id=health-title>How it is</h2>";
    let Some(health) = &rule.health else { return Ok(()) };
    if let Some(problem) = &health.problem {
        let _ = write!(
            body,
            "<p class=bad>✗ Its file has a mistake now; its last good version runs.</p><pre class=problem tabindex=0>{}</pre>",
            escaped(problem)
        );
    }
    for suspended in &health.suspended {
        let _ = write!(
            body,
            "<p class=bad>✗ {}: its script on {} is suspended until {}. {}</p>",
            escaped(&suspended.environment),
            escaped(&suspended.on),
            time(suspended.until),
            escaped(&suspended.hint)
        );
    }
    let loaded = health.loaded_at.map_or_else(|| "–".to_owned(), time);
    let failed = show::number((health.script_failures + health.check_failures) as f64);
    let _ = write!(body, "<dl><dt>Runs since<dd>{loaded}<dt>Failures of its functions<dd>{failed}</dl>");
    if health.environments.is_empty() {
        *body += "<p class=dim>No calls yet.</p>";
    } else {
        *body += &table(
            "By environment",
            &["Environment", "State", "Gauges#", "Learning#", "Outside#", "Told#", "Looked last", "What it can prove", "Budget"],
        );
        for looked in &health.environments {
            let standing = &looked.standing;
            let number = |count: usize| show::number(count as f64);
            let budget = if standing.by_drift { standing::budget(&standing.budget) } else { "none: not decided by drift".to_owned() };
            let _ = write!(
                body,
                "<tr><th scope=row>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td>{}<td class=long>{}<td class=long>{}",
                escaped(&standing.environment),
                state(standing),
                number(standing.gauged),
                number(standing.learning),
                number(standing.firing),
                number(standing.told),
                time(looked.looked_at),
                escaped(&standing::cost(standing)),
                escaped(&budget),
            );
        }
        *body += TABLE_END;
    }
    for alert in alerts::active(app).await?.iter().filter(|alert| alert.told.rule == rule.says.name) {
        let told = &alert.told;
        let place = format!("{} · {}", told.environment, standing::place(&told.group));
        let _ = write!(
            body,
            "<p><span class=bad>▲</span> <a href='/alerts/{}'>{}</a> since {}</p>",
            escaped(&told.alert_id),
            escaped(&place),
            time(told.began)
        );
    }
    *body += "</section>";
    Ok(())
}

/// What it watches over all calls of each environment, in the last hours.
async fn charts(body: &mut String, app: &App, name: &str) -> Result<(), Problem> {
    let name = name.to_owned();
    let known = app
        .reader
        .ask(move |machine| {
            let index = machine.plan().rules.iter().position(|rule| rule.name == name)?;
            let seen = |(environment, clock): (&str, _)| Some((environment.to_owned(), clock, machine.seen(index, environment, &Labels::new())?));
            Some((machine.plan().clone(), index, machine.clocks().filter_map(seen).take(CHARTS_MAX).collect::<Vec<_>>()))
        })
        .await?;
    let Some((plan, index, environments)) = known else { return Ok(()) };
    let drawn = |statistic: &Statistic| !matches!(statistic, Statistic::Ratio { .. } | Statistic::Distinct(_) | Statistic::Top(..));
    let first = plan.rules[index].watches.iter().enumerate().find(|(_, watch)| !watch.part && watch.offset == Span::ZERO && drawn(&watch.statistic));
    let Some((at, watch)) = first else { return Ok(()) };
    let mut text = String::new();
    for (environment, clock, seen) in &environments {
        let expected = seen[at].expected;
        let of = Of { plan: &plan, watch, environment, labels: &Labels::new(), expected };
        let (from, to) = (*clock - CHARTED, *clock);
        let curve = curve::read(&app.reader, &app.store, of, from, to).await?;
        let about = format!("{} over {}", watch.statistic.describe(), curve.window);
        let label = format!("{about} of all calls of {environment} from {from} to {to}");
        let chart = Chart { label, from, to, samples: curve.points, unit: watch.statistic.unit(), alarms: Vec::new(), really: Vec::new() };
        let _ = write!(
            text,
            "<figure><figcaption><strong>{}</strong><span class=dim>{}</span></figcaption>{}</figure>",
            escaped(environment),
            escaped(&about),
            chart.svg()
        );
    }
    if !text.is_empty() {
        let _ = write!(
            body,
            "<section id=charts data-live aria-labelledby=charts-title><h2 id=charts-title>All its calls <small>the last {CHARTED}</small></h2><p>{KEY}</p><div class=cards>{text}</div></section>"
        );
    }
    Ok(())
}

/// From the button of the page.
pub(in crate::http) async fn reload(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Redirect, Problem> {
    reload::ask(&app, &caller).await?;
    Ok(Redirect::to("/rules"))
}
