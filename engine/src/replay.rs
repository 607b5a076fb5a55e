//! The engine without its edges: the same inspection and the same machine as in production, over calls that are at hand. Rule tests and back-tests run
//! this, hours in milliseconds; time is the calls' own, so it tells what the engine would have told, byte for byte.
//!
//! Deliberately absent: stores, deliveries and dead letters. Slices are dropped when they seal, and what is malformed is only counted.

use crate::inspect::{Folded, Inspector};
use crate::source::Envelope;
use crate::suspensions::Suspensions;
use machine::{Effect, Input, Machine, Notification};
use model::verdict::JudgeRequest;
use std::sync::Arc;

/// One machine and what it needs to look at calls.
#[derive(Debug)]
pub struct Replay {
    inspector: Arc<Inspector>,
    machine: Machine,
    effects: Vec<Effect>,
    /// Calls that judges are still to look at.
    chosen: Vec<JudgeRequest>,
    suspensions: Suspensions,
}

impl Replay {
    /// A machine that has seen nothing; sequences start at 1.
    pub fn new(inspector: Arc<Inspector>) -> Self {
        let (effects, chosen, suspensions) = (Vec::new(), Vec::new(), Suspensions::default());
        Self { machine: Machine::new(inspector.plan.clone(), 0), inspector, effects, chosen, suspensions }
    }

    /// Goes on from a machine that has seen something, such as a snapshot's. Its plan is that of `inspector`.
    pub fn resume(inspector: Arc<Inspector>, machine: Machine) -> Self {
        Self { inspector, machine, effects: Vec::new(), chosen: Vec::new(), suspensions: Suspensions::default() }
    }

    /// Reads, judges and sums a batch that follows what was applied so far.
    pub fn fold(&self, envelopes: &[Envelope]) -> Folded {
        self.inspector.fold(envelopes, &self.suspensions)
    }

    /// Applies one input and answers the checks it asks for; what people would be told goes to `told`, in order.
    pub fn apply(&mut self, input: Input, told: &mut Vec<Notification>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.machine.apply(input, &mut self.effects);
            self.carry_out(&mut inputs, told);
        }
    }

    /// Answers what a restored machine still asks, and says what restoring it ended.
    pub fn settle(&mut self, effects: Vec<Effect>, told: &mut Vec<Notification>) {
        self.effects.extend(effects);
        let mut inputs = Vec::new();
        self.carry_out(&mut inputs, told);
        inputs.into_iter().for_each(|input| self.apply(input, told));
    }

    fn carry_out(&mut self, inputs: &mut Vec<Input>, told: &mut Vec<Notification>) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Check(request) => {
                    let results = self.inspector.rules.check_all(request.rule, &request.groups);
                    inputs.push(Input::Checked { environment: request.environment, at: request.at, rule: request.rule, results });
                }
                Effect::Notify(notification) => told.push(notification),
                Effect::Judge(request) => self.chosen.push(request),
                Effect::Suspend(suspended) => self.suspensions.hear(&suspended),
                Effect::Seal(_) | Effect::DeadLetter { .. } => {}
            }
        }
    }

    /// The calls that were chosen for judges since this was asked last.
    pub fn chosen(&mut self) -> Vec<JudgeRequest> {
        std::mem::take(&mut self.chosen)
    }

    pub fn inspector(&self) -> &Arc<Inspector> {
        &self.inspector
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn into_machine(self) -> Machine {
        self.machine
    }
}
