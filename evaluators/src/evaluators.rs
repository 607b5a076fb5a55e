//! The evaluators of one configuration, and what they find in a call.

use crate::cache::Cache;
use crate::schema::{EvaluatorError, Folder, compile};
use crate::{tools, violation};
use jsonschema::Validator;
use model::CallLog;
use model::call::ResponseFormat;
use model::plan::Filter;
use model::signal::{Findings, JsonAnswer, has_text_answer, json_answer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A configured schema: answers of the calls it takes are to be JSON.
#[derive(Clone, Debug, Default)]
pub struct SchemaSource {
    pub name: String,
    /// The JSON Schema; `None` when any JSON will do.
    pub text: Option<String>,
    /// Where its relative references lead; `None`: nowhere.
    pub folder: Option<Folder>,
    /// With no key and no environment it takes only calls that ask for it by name.
    pub applies: Filter,
    /// Empty: all.
    pub environments: Vec<String>,
    /// JSON inside a Markdown fence is accepted, and counted as such.
    pub accept_fenced: bool,
}

/// How fast the calls it takes should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objective {
    /// With no key it takes every call.
    pub applies: Filter,
    /// Empty: all.
    pub environments: Vec<String>,
    pub latency_ms: u64,
}

/// Shared by all worker threads. A clone is a handle on the same: its compiled schemas and its count go on when the rules beside it change.
#[derive(Clone, Debug)]
pub struct Evaluators {
    /// By name.
    schemas: Arc<[Configured]>,
    objectives: Arc<[Objective]>,
    of_calls: Arc<Cache>,
    refused: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Configured {
    source: SchemaSource,
    schema: Option<Arc<Validator>>,
}

/// What an answer that is to be JSON is held to.
struct Demand<'e> {
    schema: Option<Arc<Validator>>,
    /// The schema's name, in a violation.
    name: &'e str,
    accept_fenced: bool,
}

/// What a schema that the call brought along is called in a violation.
const OWN: &str = "response_format";

impl Evaluators {
    /// Compiles every configured schema.
    ///
    /// # Errors
    /// [`EvaluatorError`] names the schema, the place in it and what is wrong.
    pub fn new(schemas: Vec<SchemaSource>, objectives: Vec<Objective>) -> Result<Self, EvaluatorError> {
        let mut configured = schemas
            .into_iter()
            .map(|source| {
                let schema = source.text.as_deref().map(|text| compile(&source.name, text, source.folder.as_ref())).transpose()?.map(Arc::new);
                Ok(Configured { source, schema })
            })
            .collect::<Result<Vec<_>, EvaluatorError>>()?;
        configured.sort_by(|a, b| a.source.name.cmp(&b.source.name));
        if let Some(pair) = configured.windows(2).find(|pair| pair[0].source.name == pair[1].source.name) {
            return Err(EvaluatorError::Twice { name: pair[0].source.name.clone() });
        }
        Ok(Self { schemas: configured.into(), objectives: objectives.into(), of_calls: Arc::default(), refused: Arc::default() })
    }

    /// What they find in `call`. Cost: nothing but the filters when the answer is not to be JSON; else a scan of the answer, and with a schema
    /// a parse of it; where it violates the schema, once more to find out what.
    pub fn find(&self, call: &CallLog<'_>) -> Findings {
        let taking = self.objectives.iter().filter(|objective| takes(&objective.environments, &objective.applies, call));
        let mut findings = Findings { objective_ms: taking.map(|objective| objective.latency_ms).min(), ..Findings::default() };
        if let Some(judged) = tools::judge(call, &self.of_calls, &self.refused) {
            findings.tools_valid = Some(judged.is_ok());
            findings.violation = judged.err();
        }
        let Some(demand) = self.demand(call).filter(|_| has_text_answer(call)) else { return findings };
        let Some(text) = call.output.text() else { return findings };
        let (answer, inside) = json_answer(&text, demand.accept_fenced);
        findings.json = Some(answer);
        if answer != JsonAnswer::Invalid
            && let Some(schema) = demand.schema
        {
            // RFC 8259 allows numbers, halves of surrogate pairs and depths that no value holds: of those nothing is said.
            if let Ok(value) = serde_json::from_str(&inside) {
                let valid = schema.is_valid(&value);
                findings.schema_valid = Some(valid);
                // Of a call that violates both, the answer's goes before the tools'.
                if !valid && let Some(first) = violation::first(&schema, &value) {
                    findings.violation = Some(format!("{}: {first}", violation::name(demand.name)));
                }
            }
        }
        findings
    }

    /// Schemas of calls, for their answer or a tool, that do not compile: the answer counts as to be JSON, without a schema; the tool's calls as
    /// not to be judged.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// `None` when the answer is not to be JSON. The first configured schema that takes the call goes before the call's own format; where it
    /// has no text, the call's own schema still holds.
    fn demand(&self, call: &CallLog<'_>) -> Option<Demand<'_>> {
        let taking = self.schemas.iter().find(|configured| configured.takes(call));
        if let Some(configured) = taking.filter(|configured| configured.schema.is_some()) {
            return Some(configured.demand());
        }
        let own = match &call.response_format {
            ResponseFormat::Text => None,
            ResponseFormat::Json => Some(Demand { schema: None, name: OWN, accept_fenced: false }),
            ResponseFormat::Named(name) => {
                let named = self.schemas.iter().find(|configured| configured.source.name == *name);
                Some(named.map_or(Demand { schema: None, name: OWN, accept_fenced: false }, Configured::demand))
            }
            ResponseFormat::Schema(text) => {
                let schema = self.of_calls.get(text);
                self.refused.fetch_add(u64::from(schema.is_none()), Ordering::Relaxed);
                Some(Demand { schema, name: OWN, accept_fenced: false })
            }
        };
        match taking {
            Some(configured) => {
                let Demand { schema, name, .. } = own.unwrap_or(configured.demand());
                Some(Demand { schema, name, accept_fenced: configured.source.accept_fenced })
            }
            None => own,
        }
    }
}

impl Configured {
    fn takes(&self, call: &CallLog<'_>) -> bool {
        let SchemaSource { applies, environments, .. } = &self.source;
        !(applies.0.is_empty() && environments.is_empty()) && takes(environments, applies, call)
    }

    fn demand(&self) -> Demand<'_> {
        Demand { schema: self.schema.clone(), name: &self.source.name, accept_fenced: self.source.accept_fenced }
    }
}

fn takes(environments: &[String], applies: &Filter, call: &CallLog<'_>) -> bool {
    (environments.is_empty() || environments.iter().any(|name| *name == call.environment)) && applies.lets_through(call)
}
