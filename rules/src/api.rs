//! The language as a table: what a rule may write, where, and what it gives.
//!
//! REFERENCE.md and the messages that say how something is written are made of it. Tests run every example, and complain of what is registered and
//! not told here. Deliberately absent: how anything works, which stands where it is registered, and Rhai's own functions.

use crate::{check, evaluator, fields, load, pattern, sandbox, watch};
use model::run::{RunMeasure, RunSignal};
use model::verdict::{VerdictMeasure, VerdictSignal};
use model::{Signal, show};

/// Where a function may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top level of the file, where the rule is said.
    TopLevel,
    /// In `applies`, `signals` and `measures`, which see one call.
    Call,
    /// In `check`, which sees the windows.
    Check,
    /// In an evaluator.
    Evaluate,
    Everywhere,
}

/// An example that a test runs.
#[derive(Clone, Copy, Debug)]
pub enum Example {
    /// A statement that stands alone.
    Rule(&'static str),
    /// A watch.
    Watch(&'static str),
    /// An expression and what it gives: in `applies` for [`CALL`], in `check` for the view of [`VIEW`], and at the top level where neither is named.
    Gives(&'static str, &'static str),
    /// A statement of `check`, and the summary that it fires with.
    Fires(&'static str, &'static str),
    /// What `evaluate` returns for [`CALL`], and whether that passes.
    Judges(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    pub place: Place,
    /// With its arguments, by what they are.
    pub written: &'static str,
    pub gives: &'static str,
    pub example: Example,
}

/// A field of `rule(#{…})`.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub takes: &'static str,
    /// As written in the language, or in words.
    pub default: &'static str,
    pub meaning: &'static str,
}

/// A field of `log` or of `w`, by the path that reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub path: &'static str,
    pub meaning: &'static str,
    /// What it is in [`CALL`] or the view of [`VIEW`], as the language writes it.
    pub example: &'static str,
}

/// A number that nothing goes over.
#[derive(Clone, Debug)]
pub struct Limit {
    pub what: &'static str,
    pub most: String,
}

const fn function(name: &'static str, place: Place, written: &'static str, gives: &'static str, example: Example) -> Function {
    Function { name, place, written, gives, example }
}

const fn part(path: &'static str, meaning: &'static str, example: &'static str) -> Part {
    Part { path, meaning, example }
}

const fn field(name: &'static str, takes: &'static str, default: &'static str, meaning: &'static str) -> Field {
    Field { name, takes, default, meaning }
}

use Example::{Fires, Gives, Judges, Rule, Watch};
use Place::{Call, Check, Evaluate, Everywhere, TopLevel};

/// What `rule(#{…})` takes.
pub const RULE: [Field; 21] = [
    field("name", "text", "required", "letters, digits, `-` and `_`, at most 100; no two rules share one"),
    field(
        "watch",
        "a watch, or a map of name → watch",
        "required",
        "what is counted; a single watch is named `value`, and none `group` or `now`; at most 16",
    ),
    field("severity", "`\"info\"`, `\"warning\"`, `\"critical\"`", "`\"warning\"`", "how bad it is"),
    field("group_by", "key, or array of keys", "none", "each group is decided on its own; `environment` always comes first, named or not; at most 8"),
    field("environments", "text, or array of texts", "all", "the environments that the rule is for"),
    field(
        "applies",
        "map of key → text, or array of texts",
        "everything",
        "the calls that the rule is about: every key has one of its values; `environment` is allowed",
    ),
    field("measures", "map of name → `#{ unit, step }`", "none", "more about [measures of the rule's own](#measures-of-your-own)"),
    field("every", "length of time", "`\"10s\"`", "how often `check` looks: whole tens of seconds, up to `\"1h\"`; only with a `check`"),
    field("hold", "length of time", "`\"0s\"`", "how long the condition must last before the alert fires"),
    field("keep_firing", "length of time", "`\"1m\"`", "how long the alert keeps firing after the condition ended"),
    field("repeat", "length of time", "once", "a firing alert is told again so often, as `repeated`; at least `\"10m\"`"),
    field("inhibit_by", "name, or array of names", "none", "rules of whose alerts this one's are a [consequence](#consequences)"),
    field("actions", "array of maps", "none", "what a person may [do about it](#actions); at most 4"),
    field("no_data", "`\"ok\"`, `\"keep\"`, `\"alert\"`", "`\"keep\"`", "what too few calls mean: the condition is over, stays as it was, or holds"),
    field(
        "false_alarms",
        "text",
        "shares the configured budget",
        "a budget of its own: at most so many false alarms, such as `\"1 per week\"` (`hour`, `day`, `week`, `month`)",
    ),
    field(
        "slo",
        "number",
        "none",
        "the share of calls to be good, between 0 and 1: the rule then fires by the [budget](#objectives) that this leaves",
    ),
    field("over", "length of time", "`\"30d\"`", "the period of the objective, `\"7d\"` to `\"90d\"`; only with `slo`"),
    field("channel", "text", "the configured one", "where it is told"),
    field("runbook", "text", "none", "a link that is shown with the alert"),
    field("owner", "text", "none", "who looks after the rule"),
    field("keep", "text", "none", "the [dataset](#datasets) that calls with a signal of the rule's watches are published to"),
];

/// What makes a watch.
pub const WATCHES: [Function; 9] = [
    function("rate", TopLevel, "rate(signal, window)", "share of calls that show the signal, 0.0 to 1.0", Watch("rate(\"fallback\", \"5m\")")),
    function("count", TopLevel, "count(signal, window)", "number of calls that show the signal", Watch("count(\"error\", \"5m\")")),
    function("volume", TopLevel, "volume(window)", "number of calls", Watch("volume(\"5m\")")),
    function(
        "quantile",
        TopLevel,
        "quantile(measure, q, window)",
        "value that the share `q` of calls stays at or below, in the unit of the measure; `q` between 0 and 1, both excluded",
        Watch("quantile(\"latency_ms\", 0.95, \"10m\")"),
    ),
    function("mean", TopLevel, "mean(measure, window)", "average, in the unit of the measure", Watch("mean(\"cost_usd\", \"1h\")")),
    function("sum", TopLevel, "sum(measure, window)", "sum, in the unit of the measure", Watch("sum(\"cost_usd\", \"1d\")")),
    function(
        "ratio",
        TopLevel,
        "ratio(watch, watch)",
        "value of the first by that of the second, such as dollars per good answer",
        Watch("ratio(sum(\"cost_usd\", \"1h\"), volume(\"1h\"))"),
    ),
    function("distinct", TopLevel, "distinct(key, window)", "number of labels that the key has", Watch("distinct(\"user_id\", \"1h\")")),
    function(
        "top",
        TopLevel,
        "top(key, measure, n, window)",
        "the `n` labels (1 to 20) with the largest sum of the measure, or the most calls for `\"calls\"`; its value is the largest",
        Watch("top(\"user_id\", \"cost_usd\", 5, \"1h\")"),
    ),
];

/// What refines a watch; each gives a new one.
pub const REFINEMENTS: [Function; 3] = [
    function(
        "expect",
        TopLevel,
        ".expect(low, high)",
        "the expected range, both ends included; at least 0, and of a rate at most 1; without it the range is learned",
        Watch("rate(\"retry\", \"5m\").expect(0.0, 0.1)"),
    ),
    function(
        "only",
        TopLevel,
        ".only(#{ key: value })",
        "only these calls, beside the rule's own `applies`; a value is a text or an array of texts; of a ratio, its parts take it",
        Watch("rate(\"retry\", \"5m\").only(#{ stage: \"extraction\" })"),
    ),
    function(
        "at_least",
        TopLevel,
        ".at_least(calls)",
        "with fewer calls in the window it says nothing; without it 0 for `volume`, `count` and `sum`; 30 for `rate`, `quantile` and `mean` in a \
         rule with a `check`; else 1",
        Watch("rate(\"retry\", \"5m\").at_least(50)"),
    ),
];

/// What an evaluator says of itself, and of a call.
pub const EVALUATOR: [Function; 4] = [
    function(
        "evaluator",
        TopLevel,
        "evaluator(#{ name, applies })",
        "says the evaluator; once in its file; `applies` is as in `rule`",
        Rule("evaluator(#{ name: \"short\", applies: #{ stage: \"extraction\" } })"),
    ),
    function("pass", Evaluate, "pass()", "the call is as it should be", Judges("pass()", "pass")),
    function("fail", Evaluate, "fail(text)", "it is not, and why", Judges("fail(\"too long\")", "fail")),
    function(
        "score",
        Evaluate,
        "score(number)",
        "how good it is, from 0 to 1; at or above `const PASS_MARK`, or 0.5, it passes",
        Judges("score(log.json.facts.len() / 4.0)", "pass"),
    ),
];

/// Every other function.
pub const FUNCTIONS: [Function; 23] = [
    function(
        "rule",
        TopLevel,
        "rule(#{ … })",
        "says the rule; once in each file",
        Rule("rule(#{ name: \"retries\", watch: rate(\"retry\", \"5m\") })"),
    ),
    function(
        "fire",
        Check,
        "fire(text) or fire(#{ summary, severity, labels })",
        "the group's condition holds; of several, the first of the highest severity counts",
        Fires("fire(`${percent(w.bad.value)} are bad`)", "3.1 % are bad"),
    ),
    function(
        "since",
        Check,
        "since(time)",
        "how long ago a time in milliseconds is, as text: whole seconds below a minute, else whole minutes; of `()`, `\"n/a\"`",
        Gives("since(w.bad.since)", "\"14m\""),
    ),
    function("percent", Everywhere, "percent(number)", "a share as text; of `()`, `\"n/a\"`", Gives("percent(0.031)", "\"3.1 %\"")),
    function("ms", Everywhere, "ms(number)", "milliseconds as text; of `()`, `\"n/a\"`", Gives("ms(2300)", "\"2.3 s\"")),
    function("usd", Everywhere, "usd(number)", "dollars as text; of `()`, `\"n/a\"`", Gives("usd(0.0123)", "\"$0.012\"")),
    function("number", Everywhere, "number(number)", "a count or a measure as text; of `()`, `\"n/a\"`", Gives("number(1234567.0)", "\"1,234,567\"")),
    function("duration", Everywhere, "duration(text)", "a length of time in milliseconds", Gives("duration(\"1m30s\")", "90000")),
    function(
        "matches",
        Everywhere,
        "matches(text, pattern) or text.matches(pattern)",
        "whether the regular expression matches anywhere in the text; `()` never does",
        Gives("log.output.matches(`\\d{4}`)", "true"),
    ),
    function("has_tool_call", Call, "log.has_tool_call(name)", "whether the answer calls this tool", Gives("log.has_tool_call(\"book\")", "true")),
    function("len", Everywhere, "x.len()", "entries, elements or characters; 0 of all else", Gives("log.json.facts.len()", "2")),
    function("is_empty", Everywhere, "x.is_empty()", "whether its `len()` is 0", Gives("log.json.missing.is_empty()", "true")),
    function(
        "keys",
        Everywhere,
        "x.keys()",
        "the names of an object, sorted; else `[]`",
        Gives("log.json.facts[0].keys()", "[\"name\", \"source\"]"),
    ),
    function("values", Everywhere, "x.values()", "elements, or values of an object; else `[]`", Gives("log.json.facts[1].values()", "[\"age\"]")),
    function("to_array", Everywhere, "x.to_array()", "as `values()`, an array as any other", Gives("log.json.missing.to_array()", "[]")),
    function(
        "contains",
        Everywhere,
        "x.contains(y) or y in x",
        "an array has such a text, number or boolean; an object has such a field; a text has such a part",
        Gives("log.json.contains(\"facts\")", "true"),
    ),
    function("some", Everywhere, "x.some(|y| …)", "whether it is true of any", Gives("log.json.facts.some(|fact| fact.source == ())", "true")),
    function(
        "all",
        Everywhere,
        "x.all(|y| …)",
        "whether it is true of all; so of none, too",
        Gives("log.json.facts.all(|fact| fact.name != ())", "true"),
    ),
    function("filter", Everywhere, "x.filter(|y| …)", "those that it is true of", Gives("log.attempts.filter(|a| a.status_code == 429).len()", "1")),
    function("map", Everywhere, "x.map(|y| …)", "what it gives of each", Gives("log.json.facts.map(|fact| fact.name)", "[\"name\", \"age\"]")),
    function(
        "repetition",
        Everywhere,
        "repetition(text)",
        "the share of the text in its longest loop, three times the same or more in a row; words or, in long ones, characters; the last 4,096 of them",
        Gives("repetition(\"so so so\")", "1.0"),
    ),
    function(
        "duplicates",
        Everywhere,
        "duplicates(x)",
        "how many elements were there before; of texts without regard to case, spaces and what ends a sentence",
        Gives("duplicates([\"Bakes.\", \"bakes\"])", "1"),
    ),
    function(
        "replace",
        Everywhere,
        "text.replace(part, by)",
        "puts another text for each such part, in place, and gives `()`",
        Gives("{ let t = \"a-b\"; t.replace(\"-\", \"+\"); t }", "\"a+b\""),
    ),
];

/// The call of the examples.
pub const CALL: &str = r#"{
    "id": "a1", "time": "2026-11-20T09:14:02.114Z", "kind": "llm", "event_id": "run-7", "parent_id": "a0", "thread_id": "t1", "session_id": "s1",
    "environment": "production", "service": "chat", "stage": "extraction", "prompt": { "name": "facts", "version": "3" }, "user_id": "u_1",
    "provider": "openai", "model": "gpt-4o", "served_by": { "provider": "azure" }, "status_code": 200, "latency_ms": 812, "ttft_ms": 95,
    "attempts": [{ "provider": "openai", "status_code": 429, "error_type": "rate_limit" }, { "provider": "azure" }],
    "usage": { "input_tokens": 1200, "output_tokens": 80 }, "cost_usd": 0.25, "response_format": "json", "finish_reason": "stop",
    "input": [{ "role": "user", "content": "I am Ada, born 1815." }],
    "output": [
        { "type": "text", "text": "{\"facts\": [{\"name\": \"name\", \"source\": \"user\"}, {\"name\": \"age\"}], \"born\": 1815}" },
        { "type": "tool_call", "name": "book", "arguments": "{\"seats\": 2}" }
    ],
    "properties": { "tenant": "acme" }
}"#;

/// The fields of `log`.
pub const LOG: [Part; 31] = [
    part("id", "text", "\"a1\""),
    part("time", "end of the call, milliseconds since 1970", "1795166042114"),
    part("kind", "`\"llm\"`, `\"embedding\"`, `\"retrieval\"`, `\"memory_write\"` or `\"tool\"`", "\"llm\""),
    part("event_id", "text: the run that it belongs to", "\"run-7\""),
    part("run", "the same: the run's id, and nothing of its other calls", "\"run-7\""),
    part("parent_id", "text", "\"a0\""),
    part("thread_id", "text", "\"t1\""),
    part("session_id", "text", "\"s1\""),
    part("environment", "text", "\"production\""),
    part("service", "text", "\"chat\""),
    part("stage", "text", "\"extraction\""),
    part("prompt.name", "and `prompt.version`: texts", "\"facts\""),
    part("user_id", "text", "\"u_1\""),
    part("provider", "text: asked for", "\"openai\""),
    part("model", "text: asked for", "\"gpt-4o\""),
    part("served_by.provider", "and `served_by.model`: who answered", "\"azure\""),
    part("status_code", "whole number", "200"),
    part("error.type", "and `error.code`, `error.message`: texts; `error.body`: parsed", "()"),
    part("attempts[0].status_code", "array, empty when none are listed, of `provider`, `model`, `status_code`, `error_type`, `latency_ms`", "429"),
    part("latency_ms", "whole number", "812"),
    part("ttft_ms", "whole number: the time to the first token", "95"),
    part("usage.output_tokens", "and `usage.input_tokens`, `.cached_tokens`, `.cache_write_tokens`, `.reasoning_tokens`: whole numbers", "80"),
    part("cost_usd", "dollars, as the call states them or its tokens cost", "0.25"),
    part("response_format", "`\"json\"`, the name of a schema, or `\"schema\"`; `()` for text", "\"json\""),
    part("finish_reason", "text, as the provider spelled it", "\"stop\""),
    part("input[0].role", "the messages, parsed", "\"user\""),
    part("output", "the text of the answer", "`{\"facts\": [{\"name\": \"name\", \"source\": \"user\"}, {\"name\": \"age\"}], \"born\": 1815}`"),
    part("tool_calls[0].arguments.seats", "array of `name` and `arguments` (parsed): the tools that the answer calls", "2"),
    part("refusal", "text: the model's words", "()"),
    part("properties.tenant", "the sender's own fields, by name", "\"acme\""),
    part("json.facts[1].name", "the answer parsed", "\"age\""),
];

/// The rule whose view the examples of `check` see.
pub const VIEW: &str = r#"rule(#{
    name: "broken-answers",
    watch: #{ bad: rate("invalid_json", "5m"), users: top("user_id", "cost_usd", 2, "1h") },
    group_by: ["stage", "properties.tenant"],
});"#;

/// The parts of `w`. Those of `w.bad` are those of every watch.
pub const W: [Part; 19] = [
    part("w.now", "the end of the tick that is looked at, in milliseconds since 1970", "1795166040000"),
    part("w.group.stage", "the labels of the group by key, `environment` included; for `properties.tenant`, `w.group.tenant`", "\"extraction\""),
    part("w.bad.value", "in the unit of the watch; `()` when there is nothing to take it of, or too few calls", "0.031"),
    part("w.bad.calls", "how many calls it is taken of", "1000"),
    part("w.bad.bad", "of a rate or a count: how many of them show the signal; else as `calls`", "31"),
    part("w.bad.low", "lower 95 % confidence limit of a rate; else the value itself", "0.022"),
    part("w.bad.high", "upper 95 % confidence limit of a rate; else the value itself", "0.044"),
    part("w.bad.effective", "of a `judge:` rate: as many calls of equal weight would say as much; else `()`", "()"),
    part("w.bad.expected.low", "lower end of the expected range, yours or the learned one; `()` while it learns, and for a learned mean", "0.0"),
    part("w.bad.expected.high", "upper end of the expected range", "0.02"),
    part("w.bad.learning", "whether it still learns what to expect", "false"),
    part(
        "w.bad.drifted",
        "`\"up\"` or `\"down\"` while there is [proof](#what-is-expected-and-when-a-rule-fires) that it left its range; else `\"\"`",
        "\"up\"",
    ),
    part("w.bad.since", "while drifted: when that most likely began, in milliseconds since 1970; else `()`", "1795165200000"),
    part("w.bad.previous.value", "the window before this one, with `value`, `calls`, `bad`, `low` and `high`; windows up to `\"1d\"`", "0.004"),
    part("w.bad.same_time_yesterday.value", "the same, a day ago; windows up to `\"6h\"`", "0.005"),
    part("w.users.top[0].label", "of a `top`: its labels, the largest first; of any other watch `top` is empty", "\"u_1\""),
    part("w.users.top[0].value", "in the unit of the watch", "6.0"),
    part("w.users.top[0].share", "its part of the whole, 0.0 to 1.0", "0.6"),
    part("w.users.top[0].calls", "number of calls", "40"),
];

/// What a signal of verdicts says.
pub fn verdict_signal(signal: VerdictSignal) -> &'static str {
    match signal {
        VerdictSignal::Failed => "the judge's opinion is fail; the rate is an estimate for all calls that it could have seen",
        VerdictSignal::Errored => "the judge did not answer, in time or at all",
        VerdictSignal::Unreadable => "what the judge answered is no verdict",
        VerdictSignal::Skipped => "the call was chosen and the judge was not asked: its budget, its backlog, its rest",
    }
}

/// What a measure of verdicts is.
pub fn verdict_measure(measure: VerdictMeasure) -> &'static str {
    match measure {
        VerdictMeasure::Score => "the judge's score, 0.0 to 1.0, of the judged calls as they are",
        VerdictMeasure::LatencyMs => "milliseconds of the judge's own request",
        VerdictMeasure::CostUsd => "dollars of the judge's own request",
        VerdictMeasure::WaitMs => "milliseconds from choosing the call to its verdict",
    }
}

/// What a signal of runs says.
pub fn run_signal(signal: RunSignal) -> &'static str {
    match signal {
        RunSignal::Error => "a call of the run shows `error`",
        RunSignal::Fallback => "a call of the run shows `fallback`",
    }
}

/// What a measure of runs is.
pub fn run_measure(measure: RunMeasure) -> &'static str {
    match measure {
        RunMeasure::LatencyMs => "milliseconds on the wall, from the start of the run's first call to the end of its last",
        RunMeasure::CostUsd => "dollars, of the calls that carry a cost",
        RunMeasure::Calls => "calls",
    }
}

/// What a signal says, and of which calls it is a share.
pub fn signal(signal: Signal) -> (&'static str, &'static str) {
    match signal {
        Signal::Error => ("the final attempt failed: status 400 or more, a provider's error, a timeout", "all"),
        Signal::Retry => ("more than one attempt on the same provider and model", "all"),
        Signal::Fallback => ("answered by another provider or model than the one asked for", "all"),
        Signal::RateLimited => ("any attempt was refused for too many requests", "all"),
        Signal::Timeout => ("any attempt took too long", "all"),
        Signal::Overloaded => ("any attempt found the provider overloaded", "all"),
        Signal::ContentFiltered => ("any attempt ended at a content filter", "all"),
        Signal::Truncated => ("stopped at the token limit", "answered"),
        Signal::Refused => ("the model refused", "answered"),
        Signal::InvalidJson => ("the answer is not JSON (RFC 8259)", "answered, was to be JSON, and the answer is logged and not only tool calls"),
        Signal::FencedJson => ("JSON inside a Markdown fence, where that is accepted", "as `invalid_json`"),
        Signal::SchemaInvalid => ("violates its JSON Schema", "answers that parse and have a schema"),
        Signal::Empty => ("no text and no tool call", "answered, and the answer is logged"),
        Signal::Slow => ("slower than its objective", "calls with an objective and a latency"),
        Signal::ToolArgumentsInvalid => (
            "the arguments of a tool call are not JSON or violate the tool's schema, or no such tool was offered",
            "answered, the log carries the `tools`, and a call is of a tool with a schema or of none of them",
        ),
    }
}

/// What there is at most, from the constants that hold it.
pub fn limits() -> Vec<Limit> {
    let limit = |what, most| Limit { what, most };
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let count = |count: usize| show::number(count as f64);
    vec![
        limit("operations of the top level, and of one `check`", show::number(sandbox::OPERATIONS_MAX as f64)),
        limit("operations of one `applies`, `signals`, `measures` or `evaluate`", show::number(sandbox::OPERATIONS_PER_CALL_MAX as f64)),
        limit("functions calling functions", format!("{} deep", sandbox::CALL_LEVELS_MAX)),
        limit("nesting of an expression", count(sandbox::EXPRESSION_DEPTH_MAX)),
        limit("a text", kib(sandbox::STRING_MAX_BYTES)),
        limit("an array, nested elements included", count(sandbox::ARRAY_MAX)),
        limit("a map, nested entries included", count(sandbox::MAP_MAX)),
        limit("variables at one time", count(sandbox::VARIABLES_MAX)),
        limit("functions in a file, closures included", count(sandbox::FUNCTIONS_MAX)),
        limit("a file", kib(load::FILE_MAX_BYTES)),
        limit("text that one run of a function has matched", format!("{} MiB", pattern::MATCHED_MAX_BYTES >> 20)),
        limit("a window", watch::WINDOW_MAX.to_string()),
        limit("a window that has a `previous`", load::PREVIOUS_MAX.to_string()),
        limit("a window that has a `same_time_yesterday`", load::YESTERDAY_MAX.to_string()),
        limit("watches of one rule", count(fields::WATCHES_MAX)),
        limit("keys of `group_by`", count(fields::GROUP_BY_MAX)),
        limit("signals of a rule's own", count(load::SIGNALS_MAX)),
        limit("measures of a rule's own", count(load::MEASURES_MAX)),
        limit("actions of one rule", count(fields::ACTIONS_MAX)),
        limit("evaluators that one rule watches", count(evaluator::WATCHED_MAX)),
        limit("the summary of a firing, cut beyond", format!("{} bytes", check::SUMMARY_MAX_BYTES)),
        limit("labels of a firing", count(check::LABELS_MAX)),
        limit("the name or value of such a label, cut beyond", format!("{} bytes", check::LABEL_MAX_BYTES)),
    ]
}

/// The parts of every watch in `w`, each once.
pub(crate) fn parts_of_a_watch() -> Vec<&'static str> {
    let mut parts: Vec<_> = W.iter().filter(|part| !part.path.starts_with("w.group")).filter_map(|part| part.path.split(['.', '[']).nth(2)).collect();
    parts.dedup();
    parts
}

/// How the function `name` is written, with an example; `None` when the language has no such function of its own.
pub(crate) fn usage(name: &str) -> Option<String> {
    let function = functions().find(|function| function.name == name)?;
    let written = function.written;
    let of = if written.starts_with('.') { "a watch's " } else { "" };
    let place = match function.place {
        TopLevel => " at the top level of the file",
        Check => " in fn check(w)",
        Evaluate => " in fn evaluate(log)",
        Call | Everywhere => "",
    };
    let (Rule(example) | Watch(example) | Gives(example, _) | Fires(example, _) | Judges(example, _)) = function.example;
    Some(format!("{of}{written}{place}, as in {example}"))
}

/// Every function of the language's own.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    WATCHES.iter().chain(&REFINEMENTS).chain(&FUNCTIONS)
}
