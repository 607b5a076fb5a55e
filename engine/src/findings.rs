//! What is found out about an incident beside the stream: its most likely cause, whom it hits, runs that show it, and its value over time.
//!
//! It is looked up when an incident is told, and decides only what belongs together. What takes long or cannot be known is left out.
//! Deliberately absent: the method, which is the crate `cause`, and what is made of it in words.

use crate::calls::Calls;
use crate::curve::{self, Of};
use crate::daemon::Reader;
use crate::error::Fault;
use crate::store::Store;
use crate::why::About;
use index::{Order, Text, Times};
use machine::Notification;
use machine::incident::{Curve, Example, Findings, Seen};
use model::plan::{Plan, Statistic};
use model::{Labels, Span, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;
use tracing::debug;

/// Nobody waits longer for a message.
const TOOK_MAX: Duration = Duration::from_secs(10);
/// Runs that a message names.
const EXAMPLES_MAX: usize = 3;
/// Bad calls that are looked at for them: the latest runs that show it.
const LOOKED_AT: usize = 50;
/// Points of a curve: what a chart of Slack's may have.
const POINTS_MAX: usize = 20;
/// What the curve shows before it began.
const BEFORE: Span = Span::from_secs(15 * 60);

/// A handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct Finder {
    pub reader: Reader,
    pub store: Store,
    pub calls: Calls,
}

impl Finder {
    /// What can be known of `seen` by now; `None` where that is nothing.
    pub async fn find(&self, seen: &Seen) -> Option<Findings> {
        match tokio::time::timeout(TOOK_MAX, self.look(seen)).await {
            Ok(Ok(findings)) => Some(findings),
            Ok(Err(problem)) => {
                debug!(incident = %seen.id, %problem, "nothing more is known of it");
                None
            }
            Err(_) => {
                debug!(incident = %seen.id, "looking into it takes too long");
                None
            }
        }
    }

    async fn look(&self, seen: &Seen) -> Result<Findings, String> {
        let lead = seen.lead.clone();
        let environment = seen.environment.clone();
        let (plan, clock) = self
            .reader
            .ask(move |machine| {
                let clock = machine.clocks().find(|(name, _)| *name == environment).map(|(_, clock)| clock);
                (machine.plan().clone(), clock)
            })
            .await
            .map_err(|fault| fault.to_string())?;
        let until = seen.ended.or(clock).unwrap_or(lead.at);
        let curve = self.curve(&plan, &lead, until).await.map_err(|fault| fault.to_string())?;
        let mut findings = Findings { curve, ..Findings::default() };
        // All groups of the rule that are part of it: what they have in common says which calls it is about.
        let mut of_rule = seen.places.iter().filter(|place| place.rule == lead.rule).map(|place| &place.group);
        let mut scope = of_rule.next().cloned().unwrap_or_else(|| lead.group.clone());
        of_rule.for_each(|group| scope.retain(|pair| group.contains(pair)));
        let whole = scope.is_empty();
        let Some(about) = About::of(&Notification { group: scope.clone(), ..lead.clone() }, &plan, until) else { return Ok(findings) };
        let (bad, times) = (about.bad.clone(), Times { from: Some(about.since), until: Some(about.until) });
        let mut why = self.calls.why(about).await.map_err(|error| error.to_string())?;
        // Within one group there may be nothing to compare with: all of a model's calls fail where its provider is down. Beside all others it shows. Steps
        // of runs are compared within it alone: beside calls of other stages, what comes before one is not what comes before the other.
        if why.lines.is_empty()
            && !whole
            && let Some(about) = About::of(&Notification { group: Vec::new(), ..lead.clone() }, &plan, until)
        {
            let wide = self.calls.why(about).await.map_err(|error| error.to_string())?;
            why.lines = wide.across.as_ref().map(|across| beyond(across, &scope)).unwrap_or_default();
            why.across = wide.across;
        }
        findings.common = why
            .across
            .as_ref()
            .and_then(|across| across.cause.as_ref())
            .map(|cause| cause.labels.iter().map(|label| (label.dimension.clone(), label.value.clone())).collect())
            .unwrap_or_default();
        findings.cause = why.lines;
        // An alert is about bad calls: where there are none yet, the index is behind, and whom it hits is not known rather than nobody.
        if why.bad == 0 {
            return Ok(findings);
        }
        (findings.calls, findings.runs, findings.users) = (Some(why.bad), why.runs, why.users);
        findings.cost_usd = Some(why.cost_usd);
        let query = self.calls.query(&bad).await.map_err(|error| error.to_string())?;
        let found = self.calls.search(query, times, Order::Newest, LOOKED_AT, None).await.map_err(|error| error.to_string())?;
        let mut named = BTreeSet::new();
        for row in found.rows {
            let event_id = row.text(Text::EventId).to_owned();
            if !event_id.is_empty() && named.len() < EXAMPLES_MAX && named.insert(event_id.clone()) {
                findings.examples.push(Example { event_id, sequence: row.sequence });
            }
        }
        Ok(findings)
    }

    /// What the alert is about, over time; of its watches the one that left its range.
    async fn curve(&self, plan: &Plan, lead: &Notification, until: Timestamp) -> Result<Option<Curve>, Fault> {
        let Some(rule) = plan.rules.iter().find(|rule| rule.name == lead.rule) else { return Ok(None) };
        let Some(observed) = lead.foremost() else { return Ok(None) };
        let Some(watch) = rule.watches.iter().find(|watch| watch.name == observed.watch) else { return Ok(None) };
        let drawn = !matches!(watch.statistic, Statistic::Ratio { .. } | Statistic::Distinct(_) | Statistic::Top(..));
        if !drawn || watch.offset != Span::ZERO || rule.group_by.len() < lead.group.len() {
            return Ok(None);
        }
        let labels: Labels = lead.group.iter().map(|(_, label)| label.clone()).collect();
        let of = Of { plan, watch, environment: &lead.environment, labels: &labels, expected: observed.observation.expected };
        let curve = curve::read(&self.reader, &self.store, of, lead.since() - BEFORE, until).await?;
        let every = curve.points.len().div_ceil(POINTS_MAX).max(1);
        // The last one is now.
        let skip = (curve.points.len().max(1) - 1) % every;
        let points: Vec<_> = curve.points.iter().skip(skip).step_by(every).map(|(at, point)| (*at, point.value)).collect();
        Ok((points.len() > 1).then(|| Curve {
            what: observed.what.clone(),
            unit: observed.unit.clone(),
            points,
            expected: observed.observation.expected,
        }))
    }
}

/// What the calls beyond a group say, where that is more than that it is the group.
fn beyond(across: &cause::Across, group: &[(String, String)]) -> Vec<String> {
    let known = |label: &cause::Label| group.iter().any(|(key, value)| *key == label.dimension && *value == label.value);
    across.cause.as_ref().filter(|cause| !cause.labels.iter().all(known)).map(cause::Cause::lines).unwrap_or_default()
}
