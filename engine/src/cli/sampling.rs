//! `streamgauge sampling`: which calls the running engine's judges get to see, group by group, and how many calls each of them stands for.

use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use model::show;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(super) struct Sampling {
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Groups of a judge in an environment that are shown; the rest is in the JSON.
const GROUPS_MAX: usize = 40;

pub(super) async fn sampling(args: Sampling, config: &Config) -> Result<Outcome, Fault> {
    let groups: Vec<Value> = asking::get(config, "/api/v1/sampling").await?;
    if args.json {
        say(Value::from(groups));
        return Ok(Outcome::Well);
    }
    if groups.is_empty() {
        say("no judge has seen a call yet; [judges.NAME] in the configuration makes one");
        return Ok(Outcome::Well);
    }
    for of_one in groups.chunk_by(|a, b| a["judge"] == b["judge"] && a["environment"] == b["environment"]) {
        let text = |name: &str| of_one[0][name].as_str().unwrap_or_default();
        say(format!("{} in {}", text("judge"), text("environment")));
        say(format!("  {:>12} {:>10} {:>10}  {:>12}  group", "calls/minute", "chosen", "of", "one in"));
        let mut by_traffic: Vec<_> = of_one.iter().collect();
        by_traffic.sort_by(|a, b| b["calls_per_minute"].as_f64().unwrap_or_default().total_cmp(&a["calls_per_minute"].as_f64().unwrap_or_default()));
        for group in by_traffic.iter().take(GROUPS_MAX) {
            let number = |name: &str| group[name].as_f64().unwrap_or_default();
            let chance = number("probability");
            let one_in = if chance > 0.0 { show::number((10.0 / chance).round() / 10.0) } else { "-".to_owned() };
            let (rate, chosen, calls) =
                (show::number(number("calls_per_minute").round()), show::number(number("chosen")), show::number(number("calls")));
            say(format!("  {rate:>12} {chosen:>10} {calls:>10}  {one_in:>12}  {}", described(group)));
        }
        if let Some(more) = of_one.len().checked_sub(GROUPS_MAX).filter(|more| *more > 0) {
            say(format!("  … and {more} more: --json"));
        }
    }
    Ok(Outcome::Well)
}

/// Its labels, and whether the judge is to see all of it.
fn described(group: &Value) -> String {
    let label =
        |pair: &Value| format!("{}={}", pair[0].as_str().unwrap_or_default(), pair[1].as_str().filter(|label| !label.is_empty()).unwrap_or("(none)"));
    let labels: Vec<_> = group["group"].as_array().into_iter().flatten().map(label).collect();
    let labels = if labels.is_empty() { "all calls".to_owned() } else { labels.join(" ") };
    if group["always"] == true { format!("{labels}  (always)") } else { labels }
}
