//! `/evaluators`: the judges: whom they ask, what that costs, how well they are, how far they are believed, what they say, and who is sampled.

use super::super::access::Caller;
use super::super::series::{Query, Wanted};
use super::super::{App, Problem, judges, series};
use super::frame::{Frame, Place};
use super::html::{TABLE_END, escaped, link, table};
use axum::Extension;
use axum::extract::State;
use axum::response::Html;
use model::{Key, show};
use std::fmt::Write;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(15);
/// Groups of the samples; a name per request in a label must not make a page of megabytes.
const ROWS_MAX: usize = 200;
/// Watches of judges' fails; each reads its window.
const WATCHED_MAX: usize = 32;

pub(in crate::http) async fn page(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Html<String>, Problem> {
    let listed = judges::read(&app).await?;
    let mut body = String::from("<h1>Evaluators</h1>");
    if listed.is_empty() {
        body += "<p>No judges are configured. A judge is a model that sees a sample of the answers, within a budget, and says pass or fail: \
            write a section <code>[judges.NAME]</code>, and see <code>streamgauge judge list</code> for those that come with streamgauge.</p>";
        return Ok(Frame { app: &app, caller: Some(&caller), place: Place::Evaluators, title: "Evaluators", every: None }.page(&body));
    }
    body += "<section id=judges data-live aria-labelledby=judges-title><h2 id=judges-title>Judges</h2>";
    body += &table(
        "Judges",
        &["Judge", "State", "Asks", "Spent, hour#", "Spent, day#", "Left#", "Waiting#", "Passed#", "Failed#", "Not said#", "Calibration"],
    );
    for judge in &listed {
        let (shown, judged) = (&judge.shown, &judge.judged);
        let (class, mark) = if shown.state == "asking" { ("well", "✓") } else { ("bad", "✗") };
        let number = |count: u64| show::number(count as f64);
        let skipped: Vec<_> =
            judged.skipped.iter().filter(|(_, count)| **count > 0).map(|(skip, count)| format!("{} {}", number(*count), skip.name())).collect();
        let unsaid = judged.unreadable + judged.errored + judged.skipped.values().sum::<u64>();
        let unsaid_of =
            [format!("{} unreadable", number(judged.unreadable)), format!("{} errored", number(judged.errored))].into_iter().chain(skipped);
        let unsaid_of = unsaid_of.filter(|part| !part.starts_with("0 ")).collect::<Vec<_>>().join(", ");
        let _ = write!(
            body,
            "<tr><th scope=row>{}<td><span class='state {class}'>{mark} {}</span><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<br><small>{}</small><td class=long>{}",
            escaped(&shown.judge),
            escaped(&shown.state),
            escaped(&shown.models.join(", ")),
            show::dollars(shown.spent_hour_usd),
            show::dollars(shown.spent_day_usd),
            shown.left_usd.map_or("no cap".to_owned(), show::dollars),
            number((shown.waiting + shown.under_way) as u64),
            number(judged.passed),
            number(judged.failed),
            number(unsaid),
            escaped(&unsaid_of),
            escaped(&judge.calibration.to_string()),
        );
    }
    let _ = write!(body, "{TABLE_END}</section>");
    said(&mut body, &app).await?;
    sampled(&mut body, &app).await?;
    Ok(Frame { app: &app, caller: Some(&caller), place: Place::Evaluators, title: "Evaluators", every: Some(EVERY) }.page(&body))
}

/// What rules that watch a judge's fails see of it in each environment: as the judge says, and corrected where it is calibrated.
async fn said(body: &mut String, app: &App) -> Result<(), Problem> {
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
            query.take(WATCHED_MAX).collect::<Vec<_>>()
        })
        .await?;
    let mut rows = String::new();
    for (rule, query) in watched {
        // A filter with several labels makes no question for one; `explain` has it.
        let Ok(answer) = series::read(app, &query).await else { continue };
        let calibrations = series::calibrations(app, &answer).await?;
        for group in answer.groups.iter().take(ROWS_MAX) {
            let Some(Some(believed)) = answer.believed(&query, group, &calibrations) else { continue };
            let judge = group.labels.first().map_or(String::new(), |judge| format!(" · {}", escaped(judge)));
            let (environment, window) = (escaped(&group.environment), query.window);
            let _ = write!(
                rows,
                "<tr><th scope=row>{}{judge}<td>{environment}<td>{window}<td class=long>{}",
                link("/rules", &rule),
                escaped(&believed.to_string())
            );
        }
    }
    if !rows.is_empty() {
        *body += "<section id=said data-live aria-labelledby=said-title><h2 id=said-title>What judges say <small>with 95 % intervals for all calls</small></h2>";
        let _ = write!(body, "{}{rows}{TABLE_END}</section>", table("What judges say", &["Rule", "Environment", "Over", "Fails"]));
    }
    Ok(())
}

/// Who is judged, and with which probability.
async fn sampled(body: &mut String, app: &App) -> Result<(), Problem> {
    let sampled = app.reader.ask(|machine| machine.sampled()).await?;
    *body += "<section id=sampled data-live aria-labelledby=sampled-title><h2 id=sampled-title>Who is sampled</h2>";
    if sampled.is_empty() {
        *body += "<p class=dim>No call that a judge could see has come yet.</p></section>";
        return Ok(());
    }
    *body += &table("Sampling", &["Judge", "Environment", "Group", "Calls a minute#", "Calls#", "Chosen#", "Probability now#"]);
    for group in sampled.iter().take(ROWS_MAX) {
        let always = if group.always { " (always)" } else { "" };
        let _ = write!(
            body,
            "<tr><th scope=row>{}<td>{}<td>{}{always}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}",
            escaped(&group.judge),
            escaped(&group.environment),
            escaped(&crate::standing::place(&group.group)),
            show::number((group.calls_per_minute * 10.0).round() / 10.0),
            show::number(group.calls as f64),
            show::number(group.chosen as f64),
            show::percent(group.probability),
        );
    }
    *body += TABLE_END;
    if sampled.len() > ROWS_MAX {
        let _ = write!(body, "<p class=dim>{} more are in <a href='/api/v1/sampling'>/api/v1/sampling</a>.</p>", sampled.len() - ROWS_MAX);
    }
    *body += "</section>";
    Ok(())
}
