//! Which alerts belong together: those of one rule, those that began together and have something in common, and those that one cause explains.
//!
//! Beginning together alone is not enough, nor is a shared label alone: most calls of a service share some. Both at once seldom is chance. Where a cause
//! was found, which is what contrasts the bad calls with the good ones, its labels count as well: so what is grouped by stage and what is grouped by
//! provider meet. When something began is an estimate, and a few bad calls by chance shortly before draw it back; so what shares a cause may also have
//! fired together.

use super::Incident;
use crate::effect::Notification;
use model::{Span, Timestamp};

/// What all alerts of an incident have in common; of one, its whole group.
fn common(incident: &Incident) -> Vec<(String, String)> {
    let Some((first, rest)) = incident.alerts.split_first() else { return Vec::new() };
    first.group.iter().filter(|pair| rest.iter().all(|alert| alert.group.contains(pair))).cloned().collect()
}

/// The labels of its cause.
fn cause(incident: &Incident) -> &[(String, String)] {
    incident.findings.as_ref().map_or(&[], |findings| &findings.common)
}

/// What names it: the labels of its cause, and what its alerts have in common.
fn marks(incident: &Incident) -> Vec<(String, String)> {
    common(incident).into_iter().chain(cause(incident).iter().cloned()).collect()
}

/// When the first of its alerts fired.
fn fired(incident: &Incident) -> Timestamp {
    incident.alerts.iter().map(|alert| alert.fired).min().unwrap_or(incident.opened)
}

fn near(a: Timestamp, b: Timestamp, most: Span) -> bool {
    a.since(b).max(b.since(a)) <= most
}

fn shares(a: &[(String, String)], b: &[(String, String)]) -> bool {
    // A label that is empty says that nothing is known.
    a.iter().any(|pair| !pair.1.is_empty() && b.contains(pair))
}

/// Whether an alert of another rule is part of `incident`.
pub(super) fn belongs(alert: &Notification, incident: &Incident, together: Span) -> bool {
    near(alert.since(), incident.began(), together) && shares(&alert.group, &marks(incident))
        || near(alert.fired, fired(incident), together) && shares(&alert.group, cause(incident))
}

/// Whether `later`, of which nobody was told yet, is part of `earlier`.
pub(super) fn same(later: &Incident, earlier: &Incident, together: Span) -> bool {
    let explained = |incident: &Incident| !cause(incident).is_empty();
    near(later.began(), earlier.began(), together) && (explained(later) || explained(earlier)) && shares(&marks(later), &marks(earlier))
        || near(fired(later), fired(earlier), together) && (shares(cause(later), &marks(earlier)) || shares(cause(earlier), &marks(later)))
}
