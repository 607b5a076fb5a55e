//! The stateless half: a batch of envelopes into one fold, and into rows of the index where somebody takes them. Any thread, any order; results are
//! merged in stream order by whoever owns the state.

use crate::prices::Prices;
use crate::source::Envelope;
use crate::suspensions::Suspensions;
use crate::timing::{TIMED_EVERY, Timings};
use evaluators::Evaluators;
use index::Row;
use model::fold::{Fold, Folder, Inspected, ScriptView, event_time};
use model::measure::Measure;
use model::plan::Plan;
use model::signal::{Signals, signals};
use model::suspension::EXHAUSTED_MAX;
use model::{CallLog, Timestamp};
use rules::RuleSet;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Everything that looking at a call needs; shared by the threads that fold.
#[derive(Debug)]
pub struct Inspector {
    pub plan: Plan,
    pub rules: RuleSet,
    pub evaluators: Evaluators,
    pub prices: Prices,
    pub timings: Arc<Timings>,
}

/// A folded batch, and what is wrong with its malformed logs in words.
#[derive(Debug)]
pub struct Folded {
    pub fold: Fold,
    /// By sequence, ascending.
    pub details: Vec<(u64, String)>,
    /// What the index keeps of its calls; `None` where nobody takes them.
    pub rows: Option<Vec<Row>>,
    /// Calls that rules keep: sequence, environment and dataset.
    pub kept: Vec<(u64, String, String)>,
}

impl Inspector {
    /// With the prices that we ship.
    pub fn new(plan: Plan, rules: RuleSet, evaluators: Evaluators) -> Self {
        let timings = Arc::new(Timings::of(&plan));
        Self { plan, rules, evaluators, prices: Prices::default(), timings }
    }

    /// With the configuration's prices beside those that we ship.
    pub fn priced_by(self, prices: Prices) -> Self {
        Self { prices, ..self }
    }

    /// Reads, judges and sums the batch. Scripts that are suspended for a call are not run on it.
    pub fn fold(&self, envelopes: &[Envelope], suspensions: &Suspensions) -> Folded {
        self.fold_with(envelopes, suspensions, false)
    }

    /// The same, with rows for the index where `indexed`.
    pub fn fold_with(&self, envelopes: &[Envelope], suspensions: &Suspensions, indexed: bool) -> Folded {
        let mut folder = Folder::new(&self.plan);
        let mut pricing = self.prices.pricing();
        let (mut details, mut kept) = (Vec::new(), Vec::new());
        let mut rows = indexed.then(|| Vec::with_capacity(envelopes.len()));
        let mut scripts = Vec::new();
        for envelope in envelopes {
            match model::parse(&envelope.payload) {
                Ok(mut call) => {
                    pricing.price(&mut call);
                    let (signals, measures) = self.judge(&mut call);
                    self.see(&call, envelope.sequence, envelope.stamp, suspensions, &folder, &mut scripts);
                    for dataset in self.rules.kept(&call, &signals, &scripts) {
                        kept.push((envelope.sequence, call.environment.to_string(), dataset.to_owned()));
                    }
                    if let Some(rows) = &mut rows {
                        rows.push(self.row(&call, &signals, &scripts, envelope));
                    }
                    folder.add(envelope.sequence, envelope.stamp, &Inspected { call: &call, signals, measures, scripts: &scripts });
                }
                Err(malformed) => {
                    folder.malformed(envelope.sequence, malformed.reason);
                    details.push((envelope.sequence, malformed.detail));
                }
            }
        }
        pricing.finish();
        Folded { fold: folder.finish(), details, rows, kept }
    }

    /// The rows alone, for an index that makes up for what it did not take. A script that uses up its budget too often is not run on what is left of
    /// the batch; its signals are then not found there.
    pub fn rows(&self, envelopes: &[Envelope]) -> Vec<Row> {
        let mut exhausted = BTreeMap::<usize, u64>::new();
        let (mut pricing, mut scripts) = (self.prices.pricing(), Vec::new());
        let row = |envelope: &Envelope| {
            let mut call = model::parse(&envelope.payload).ok()?;
            // Not counted: it was when it was folded.
            pricing.price(&mut call);
            let (signals, _) = self.judge(&mut call);
            self.rules.see_where(&call, &mut scripts, |slot| exhausted.get(&slot).is_none_or(|times| *times < EXHAUSTED_MAX), |_| {});
            scripts.iter().filter(|view| view.exhausted).for_each(|view| *exhausted.entry(view.slot).or_default() += 1);
            Some(self.row(&call, &signals, &scripts, envelope))
        };
        envelopes.iter().filter_map(row).collect()
    }

    fn row(&self, call: &CallLog<'_>, signals: &Signals, scripts: &[ScriptView], envelope: &Envelope) -> Row {
        let further: Vec<String> = self.rules.holding(scripts).map(str::to_owned).collect();
        Row::of(call, signals, &further, envelope.sequence, event_time(call, envelope.stamp))
    }

    /// What scripts see in a call that is about to be added to `folder`, as far as that will count.
    pub fn see(
        &self,
        call: &CallLog<'_>,
        sequence: u64,
        stamp: Timestamp,
        suspensions: &Suspensions,
        folder: &Folder<'_>,
        views: &mut Vec<ScriptView>,
    ) {
        let (environment, time) = (call.environment.as_ref(), event_time(call, stamp));
        let runs = |slot| suspensions.run(slot, environment, sequence, time) && folder.runs(slot, environment, sequence, time);
        if sequence.is_multiple_of(TIMED_EVERY) {
            let began = Cell::new(Instant::now());
            let timed = |slot| {
                began.set(Instant::now());
                runs(slot)
            };
            self.rules.see_where(call, views, timed, |slot| self.timings.saw(slot, began.get().elapsed()));
        } else {
            self.rules.see_where(call, views, runs, |_| {});
        }
    }

    /// What is known of a call whatever the rules are. What it violates becomes a label of the call, which scripts and groups then see.
    pub fn judge(&self, call: &mut CallLog<'_>) -> (Signals, [Option<u64>; Measure::ALL.len()]) {
        let mut findings = self.evaluators.find(call);
        call.violation = findings.violation.take().map(Cow::Owned);
        (signals(call, &findings), Measure::ALL.map(|measure| measure.of(call)))
    }
}
