//! `streamgauge costs`: what calls cost by user, model or anything else, beside the window before.

use super::{Outcome, asking, say};
use crate::config::Config;
use crate::error::Fault;
use crate::foreign::{cut, printable};
use serde_json::Value;

/// Of a user's columns in a line.
const USER_WIDTH_MAX: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct CostsOf {
    /// One key of calls or two with a comma: user_id, model, service, environment, prompt_version, or a property of yours.
    #[arg(long, default_value = "user_id")]
    by: String,
    /// How far back from the latest call; the same time before that is what it is compared with. From 1m to 31d.
    #[arg(long, default_value = "24h")]
    window: String,
    /// Only calls that match, in the language of `search`.
    #[arg(long = "where", default_value = "", value_name = "QUERY")]
    query: String,
    /// Rows; the rest is one row together.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn costs(args: CostsOf, config: &Config) -> Result<Outcome, Fault> {
    let asked = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("by", &args.by)
        .append_pair("window", &args.window)
        .append_pair("where", &args.query)
        .append_pair("limit", &args.limit.to_string())
        .finish();
    let answer: Value = asking::get(config, &format!("/api/v1/costs?{asked}")).await?;
    if args.json {
        say(answer);
        return Ok(Outcome::Well);
    }
    for line in answer["text"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say(line);
    }
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    say(format!("{} from {} until {}, beside as long before", text(&answer, "window"), text(&answer, "from"), text(&answer, "until")));
    for note in answer["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say(format!("note: {}", printable(note)));
    }
    for hot in answer["hot"].as_array().into_iter().flatten() {
        let number = |name: &str| hot[name].as_f64().unwrap_or_default();
        say(format!(
            "hot: {} in {}: {} of the cost since {}, {} in the hours before (${:.2}, ${:.2} before)",
            cut(&text(hot, "user_id"), USER_WIDTH_MAX),
            printable(&text(hot, "environment")),
            model::show::percent(number("share")),
            text(hot, "from"),
            model::show::percent(number("share_before")),
            number("cost_usd"),
            number("before_usd"),
        ));
    }
    Ok(Outcome::Well)
}
