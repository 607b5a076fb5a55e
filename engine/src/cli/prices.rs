//! `streamgauge prices`: the price table, or what one model costs and where that price comes from. It asks no engine; which models of the running one have
//! no price is in `streamgauge status`.

use super::{Outcome, say};
use crate::config::Config;
use crate::error::Fault;
use crate::prices::{self, Found};
use model::nearest::nearest;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub(super) struct Prices {
    /// A model as calls name it, such as gpt-4o-2024-11-20 or azure/gpt-4o.
    model: Option<String>,
    /// Who serves it, as calls name it.
    #[arg(long, requires = "model")]
    provider: Option<String>,
    /// The answer as JSON, in US dollars for a million tokens.
    #[arg(long)]
    json: bool,
}

pub(super) fn prices(args: &Prices, config: &Config) -> Result<Outcome, Fault> {
    let table = prices::Prices::new(&config.prices);
    let Some(model) = &args.model else {
        if args.json {
            say(json!({ "date": prices::date(), "source": prices::source(), "prices": table.all().map(row).collect::<Vec<_>>() }));
            return Ok(Outcome::Well);
        }
        say(format!("US dollars for a million tokens; {}, and {} of the configuration\n", list(), table.own()));
        // Names that are longer than those that we ship take their own width.
        for found in table.all() {
            say(format!("{:<50}  {}{}", found.key, found.price.described(), if found.own { "  (configuration)" } else { "" }));
        }
        return Ok(Outcome::Well);
    };
    let found = table.find(args.provider.as_deref(), model);
    if args.json {
        say(json!({ "date": prices::date(), "source": prices::source(), "model": model, "provider": args.provider, "price": found.map(row) }));
    } else {
        match found {
            Some(found) => say(format!("{model}: {}\nfor a million tokens, {}", found.price.described(), origin(&found))),
            None => say(unknown(model, &table)),
        }
    }
    Ok(if found.is_some() { Outcome::Well } else { Outcome::Unwell })
}

fn list() -> String {
    format!("list prices of {}, after {}", prices::date(), prices::source())
}

fn origin(found: &Found<'_>) -> String {
    if found.own { format!("from [prices.\"{}\"] of the configuration", found.key) } else { format!("from the row {} of the {}", found.key, list()) }
}

fn unknown(model: &str, table: &prices::Prices) -> String {
    let keys: Vec<_> = table.all().map(|found| found.key).collect();
    let meant = nearest(model, keys.iter().copied()).map(|known| format!("did you mean {known}? ")).unwrap_or_default();
    format!(
        "{model}: no price is known, so calls to it have no cost unless they state one\nhint: {meant}set [prices.\"{model}\"] with input and output, in US dollars for a million tokens"
    )
}

fn row(found: Found<'_>) -> Value {
    let mut row = json!(found.price);
    row["name"] = json!(found.key);
    row["from"] = json!(if found.own { "configuration" } else { "shipped" });
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_told_with_its_origin_and_an_unknown_model_with_the_way_out() {
        let table = prices::Prices::default();
        let found = table.find(None, "openai/gpt-4o-2024-11-20").expect("it is in the list");
        assert!(origin(&found).starts_with("from the row gpt-4o of the list prices of 20"), "{}", origin(&found));
        assert_eq!(row(found)["from"], "shipped");
        assert_eq!(row(found)["cached_input"], 1.25);
        let said = unknown("gpt-4oo", &table);
        assert!(said.contains("hint: did you mean gpt-4o? set [prices.\"gpt-4oo\"]"), "{said}");
    }
}
