//! Whom an alert hits: the calls that show it, all of them as a search, and how many users and runs they are of and what they cost.
//!
//! Which calls they are is put together from what the alert's rule watches. Where that cannot be said in the index's words (a judge's verdicts, whole runs,
//! a rule whose own function chooses its calls, labels that were cut) it stays silent, because a number about other calls would mislead.

use super::super::{App, Problem};
use super::html::{TABLE_END, command, escaped, link_as, table};
use super::links::{Search, linked};
use super::rows;
use crate::outbox::now;
use crate::why::of_group;
use index::{Key, QUERY_MAX_BYTES, Row, Sum, Text, Times, term};
use machine::Notification;
use machine::incident::Seen;
use model::label::LABEL_MAX_BYTES;
use model::plan::{Plan, Rule, SignalRef, Statistic, TICK};
use model::{Labels, Measure, MeasureRef, Span, Timestamp, show};
use std::fmt::Write;

/// Of an incident, the newest part that is summed: at ten million calls a day, some tens of milliseconds.
const REACH: Span = Span::from_secs(24 * 3600);
/// Users that are looked at, those whose calls cost most, and of them shown.
const USERS_LOOKED_AT: usize = 1_000;
const USERS_MAX: usize = 10;
/// Runs whose whole cost is summed: their names are alternatives of one query.
const RUNS_MAX: usize = 150;
/// Other calls of a run are looked for so long before and after the ones that show it.
const RUN_REACH: Span = Span::from_secs(3600);

/// An alert's calls, as far as the index can tell them from others.
struct Bad {
    /// Its group's, which show its signal where it has one.
    search: Search,
    /// Whether these are exactly the bad ones.
    exact: bool,
}

/// `began` is when it most likely began, which is known to about a tick; `ended` is when it was over.
pub(super) async fn section(
    body: &mut String,
    app: &App,
    told: &Notification,
    plan: &Plan,
    rule: Option<&Rule>,
    (began, ended): (Timestamp, Option<Timestamp>),
    part_of: Option<&Seen>,
) -> Result<(), Problem> {
    let began = began - TICK;
    let bad = rule.and_then(|rule| bad(told, plan, rule, began, ended));
    let mut found: Vec<Row> = Vec::new();
    let mut gone: Vec<u64> = Vec::new();
    for sequence in &told.examples {
        match app.calls.call(*sequence).await? {
            Some(row) => found.push(row),
            None => gone.push(*sequence),
        }
    }
    if bad.is_none() && found.is_empty() && gone.is_empty() {
        return Ok(());
    }
    *body += "<section id=calls data-live aria-labelledby=examples><h2 id=examples>Calls that show it</h2>";
    if !found.is_empty() {
        *body += &rows::table("Calls that show it", &found, &Search::of_environment(&told.environment));
    }
    if let Some(first) = gone.first() {
        let all: Vec<_> = gone.iter().map(ToString::to_string).collect();
        let _ = write!(body, "<p>By their sequence in the stream, and not in the index: {}.</p>", all.join(", "));
        if let Some(stream) = app.source.strip_prefix("stream ").and_then(|rest| rest.split(' ').next()) {
            *body += &command(&format!("nats stream get {stream} {first}"));
        }
    }
    if let Some(bad) = &bad {
        let words = if bad.exact { "All calls of this group that show it since it began" } else { "Calls of this group since it began" };
        let _ = write!(body, "<p><a href='{}'>{words}</a></p>", escaped(&bad.search.path(&[])));
    }
    *body += "</section>";
    match bad.filter(|bad| bad.exact) {
        Some(bad) => {
            cause(body, app, &told.alert_id, part_of).await?;
            hit(body, app, &told.environment, &bad.search, (began, ended)).await
        }
        None => Ok(()),
    }
}

/// The calls of a group below the alert's that show it, whose labels are in the order of the rule's keys; `None` where they cannot be told.
pub(super) fn of_group_below(
    told: &Notification,
    plan: &Plan,
    rule: &Rule,
    labels: &Labels,
    (began, ended): (Timestamp, Option<Timestamp>),
) -> Option<Search> {
    let group = rule.group_by.iter().map(ToString::to_string).zip(labels.iter().cloned()).collect();
    Some(bad(&Notification { group, ..told.clone() }, plan, rule, began - TICK, ended)?.search)
}

/// What is watched, in the language of searches.
fn bad(told: &Notification, plan: &Plan, rule: &Rule, began: Timestamp, ended: Option<Timestamp>) -> Option<Bad> {
    let seen = told.observed.iter().find(|seen| seen.observation.drifted.is_some()).or(told.observed.first())?;
    let watch = rule.watches.iter().find(|watch| watch.name == seen.watch)?;
    let grouping = &plan.groupings[watch.grouping];
    let (order, signal) = match &watch.statistic {
        Statistic::Rate(signal) | Statistic::Count(signal) => ("newest", Some(signal)),
        Statistic::Quantile(MeasureRef::BuiltIn(measure), _)
        | Statistic::Mean(MeasureRef::BuiltIn(measure))
        | Statistic::Sum(MeasureRef::BuiltIn(measure)) => match measure {
            Measure::LatencyMs | Measure::TtftMs => ("slowest", None),
            Measure::CostUsd => ("costliest", None),
            _ => ("newest", None),
        },
        Statistic::Volume => ("newest", None),
        _ => return None,
    };
    let mut terms = vec![of_group(told, plan, watch)?];
    let exact = match signal {
        // A script may choose the calls that it looks at; its own signals hold of no others.
        Some(SignalRef::BuiltIn(signal)) => {
            terms.push(term(&Key::Signal, &[signal.name()])?);
            grouping.script.is_none()
        }
        Some(SignalRef::User(name, _)) => {
            terms.push(term(&Key::Signal, &[name])?);
            true
        }
        Some(SignalRef::Verdict(..) | SignalRef::Run(_)) => return None,
        None => false,
    };
    let query = terms.join(" ");
    let until = ended.map_or_else(String::new, |ended| ended.to_string());
    let order = if order == "newest" { String::new() } else { order.to_owned() };
    (query.len() <= QUERY_MAX_BYTES).then_some(Bad { search: Search { query, since: began.to_string(), until, order }, exact })
}

/// What its bad calls have in common, and which earlier step broke.
async fn cause(body: &mut String, app: &App, alert: &str, part_of: Option<&Seen>) -> Result<(), Problem> {
    let Some(why) = super::super::why::read(app, alert).await? else { return Ok(()) };
    *body += "<section id=why data-live aria-labelledby=why-title><h2 id=why-title>Why</h2>";
    for line in why.lines.iter().map(String::as_str).chain(why.unexplained) {
        let _ = write!(body, "<p>{}</p>", escaped(line));
    }
    if let Some((seen, cause)) = part_of.and_then(|seen| Some((seen, why.beyond(seen)?))) {
        let _ = write!(body, "<p>Looked at more widely, {} says:</p>", link_as("/incidents", &seen.id, "its incident"));
        for line in cause {
            let _ = write!(body, "<p>{}</p>", escaped(line));
        }
    }
    *body += "</section>";
    Ok(())
}

/// How many users and runs, and what they cost.
async fn hit(body: &mut String, app: &App, environment: &str, bad: &Search, (began, ended): (Timestamp, Option<Timestamp>)) -> Result<(), Problem> {
    let end = ended.unwrap_or_else(now);
    let from = began.max(end - REACH);
    let times = Times { from: Some(from), until: ended };
    let query = app.calls.query(&bad.query).await?;
    let users = app.calls.sums(query.clone(), times, vec![Key::Text(Text::User)], USERS_LOOKED_AT).await?;
    let total = users.total;
    if total.calls == 0 {
        return Ok(());
    }
    let reach = if from > began { format!(" of its last {REACH}") } else { String::new() };
    let counted = |count: Option<u64>| count.map_or_else(|| "a great many".to_owned(), |count| show::number(count as f64));
    let _ = write!(
        body,
        "<section id=affected data-live aria-labelledby=affected-title><h2 id=affected-title>Whom it hits <small>by the calls{reach} that show it</small></h2>\
         <dl class=numbers><div><dt>calls</dt><dd class=count>{}</dd></div><div><dt>users</dt><dd class=count>{}</dd></div>\
         <div><dt>runs</dt><dd class=count>{}</dd></div><div><dt>these calls cost</dt><dd class=count>{}</dd></div>",
        show::number(total.calls as f64),
        counted(users.users),
        counted(users.runs),
        show::dollars(total.cost_nanos as f64 / 1e9),
    );
    if users.runs.is_some_and(|runs| (1..=RUNS_MAX as u64).contains(&runs))
        && let Some(cost) = runs_cost(app, &query, times, environment).await?
    {
        let _ = write!(body, "<div><dt>their whole runs cost</dt><dd class=count>{}</dd></div>", show::dollars(cost));
    }
    *body += "</dl>";
    let mut named: Vec<&Sum> = users.groups.iter().filter(|sum| sum.labels.iter().all(|label| !label.is_empty())).collect();
    named.sort_by_key(|sum| (std::cmp::Reverse(sum.totals.calls), sum.labels.clone()));
    if !named.is_empty() {
        *body += &table("Users with most such calls", &["User", "Such calls#", "Their cost#"]);
        for sum in named.iter().take(USERS_MAX) {
            let user = sum.labels.first().map_or("", String::as_str);
            let _ = write!(
                body,
                "<tr><th scope=row>{}<td class=n>{}<td class=n>{}",
                linked(&bad.narrowed_to_label(&Key::Text(Text::User), user).path(&[]), user),
                show::number(sum.totals.calls as f64),
                show::dollars(sum.totals.cost_nanos as f64 / 1e9)
            );
        }
        *body += TABLE_END;
        if users.other.calls > 0 {
            let _ = write!(body, "<p class=dim>Of the {} users whose calls cost most.</p>", show::number(USERS_LOOKED_AT as f64));
        }
    }
    *body += "</section>";
    Ok(())
}

/// What the runs of these calls cost as a whole, in dollars; `None` where their names are too long for one query.
async fn runs_cost(app: &App, query: &index::Query, times: Times, environment: &str) -> Result<Option<f64>, Problem> {
    let run = Key::Text(Text::EventId);
    let runs = app.calls.sums(query.clone(), times, vec![run.clone()], RUNS_MAX + 1).await?;
    let names: Vec<&str> = runs.groups.iter().filter_map(|sum| sum.labels.first().map(String::as_str)).filter(|name| !name.is_empty()).collect();
    // A name that was cut is no run's.
    if names.is_empty() || runs.other.calls > 0 || names.iter().any(|name| name.len() >= LABEL_MAX_BYTES) {
        return Ok(None);
    }
    let terms = term(&Key::Text(Text::Environment), &[environment]).zip(term(&run, &names));
    let Some(text) = terms.map(|(environment, runs)| format!("{environment} {runs}")).filter(|text| text.len() <= QUERY_MAX_BYTES) else {
        return Ok(None);
    };
    let around = Times { from: times.from.map(|from| from - RUN_REACH), until: times.until.map(|until| until + RUN_REACH) };
    let whole = app.calls.totals(app.calls.query(&text).await?, around, vec![Key::Text(Text::Environment)], 1).await?;
    Ok(Some(whole.total.cost_nanos as f64 / 1e9))
}
